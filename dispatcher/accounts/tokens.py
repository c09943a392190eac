"""What the relay is told at a login: a password or token as it is stored, or an access token that a grant gives.

An access token is kept in memory for as long as it is good by the clock that nobody sets, and asked for anew behind
one lock: of this process, so that ten connections make one request, or run a program one after the other; and of this
machine, so that two runs do not use up one refresh token. A refresh token that the provider puts in place of the old
one is stored before the access token that came with it is used, and whoever is interrupted meanwhile does that, too:
whatever happens then, the sign-in is not lost.

Raises SignInEnded where a person must sign in again, ProviderUnavailable for what may pass, SecretError if nothing is
stored.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from dispatcher.accounts.exchange import Refusal, post
from dispatcher.accounts.grant import Grant
from dispatcher.accounts.keychain import PLACE
from dispatcher.accounts.providers import command_for
from dispatcher.accounts.refusals import ENDED, advice
from dispatcher.core.errors import Problem, ProviderUnavailable, SecretError, SignInEnded

_LEEWAY: Final = 60.0
_UNSAID: Final = 300.0
_PATIENCE: Final = 60.0


class LoginSecret:
    """What is good at each login. `read` and `write` reach the store, and may take their time; `boot` is the clock.

    `read` is called with what was refused, or with "", and may keep what it has read; a grant is read `anew`.
    """

    def __init__(
        self,
        read: Callable[[str], str],
        anew: Callable[[], str],
        write: Callable[[str], object],
        boot: Callable[[], float],
        lock: Path,
    ) -> None:
        self._read = read
        self._anew = anew
        self._write = write
        self._boot = boot
        self._file = lock
        self._lock = asyncio.Lock()
        self._token, self._until = "", 0.0
        self._unstored = ""

    async def __call__(self, refused: str = "") -> str:
        """What to log in with; another one than what was `refused`, if there is any."""
        if self._good(refused):
            return self._token
        async with self._lock:
            return self._token if self._good(refused) else await asyncio.to_thread(self._fresh, refused)

    def _good(self, refused: str) -> bool:
        return bool(self._token) and self._token != refused and self._boot() < self._until

    def _fresh(self, refused: str) -> str:
        """In a thread, with a loop of its own: whoever gives up waiting does not break it off half-way, between a
        refresh token that is used up and the new one that is not yet stored.
        """
        text = self._read(refused)
        if Grant.parse(text) is None:
            return text
        with self._alone():
            self._store()
            self._renew()
        return self._token

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of this user asks for the same."""
        lock = FileLock(self._file)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(_PATIENCE)
        except Timeout:
            raise ProviderUnavailable("another dispatcher has been asking for a token for a minute") from None
        except OSError as error:
            raise ProviderUnavailable(f"{self._file} cannot be locked: {error.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    def _renew(self) -> None:
        grant = Grant.parse(self._anew())  # another process may have put a newer one there
        if grant is None:
            raise SecretError(Problem("what is stored was replaced meanwhile", PLACE, "try again"))
        asked = self._boot()
        found = asyncio.run(renewed(grant))
        token, refresh = found.get("access_token"), found.get("refresh_token")
        if not isinstance(token, str) or not token or str(found.get("token_type", "bearer")).lower() != "bearer":
            raise ProviderUnavailable(f"{grant.provider} answered, and gave no bearer token")
        if isinstance(refresh, str) and refresh and refresh != grant.refresh_token and grant.flow != "app":
            self._unstored = replace(grant, refresh_token=refresh).to_text()
        self._store()
        self._token, self._until = token, asked + _life(found.get("expires_in"))

    def _store(self) -> None:
        """What could not be written the last time is kept, for the next: a disk may have been full for a while."""
        if self._unstored:
            self._write(self._unstored)
            self._unstored = ""


async def renewed(grant: Grant) -> Mapping[str, Any]:
    """The provider's answer to the request for a token. Raises SignInEnded, ProviderUnavailable."""
    form = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
    if grant.flow == "app":
        form = {"grant_type": "client_credentials", "scope": grant.scope}
    try:
        return await post(grant.token_endpoint, form, grant.client)
    except Refusal as refusal:
        what = f"{grant.provider} gives no token any more: {refusal.words} ({advice(refusal.words) or ENDED})"
        raise SignInEnded(Problem(what, PLACE, f"sign in again: {command_for(grant)}")) from None


async def revoke(grant: Grant) -> bool:
    """Tell the provider that the sign-in is over (RFC 7009). Whether it has heard."""
    if not grant.revocation_endpoint or not grant.refresh_token:
        return False
    try:
        await post(grant.revocation_endpoint, {"token": grant.refresh_token}, grant.client)
    except (Refusal, ProviderUnavailable, SecretError):
        return False
    return True


def _life(said: object) -> float:
    """Seconds for which a token is used: what is said, as a number or as text, less a minute or half of it."""
    try:
        seconds = float(said) if isinstance(said, int | float | str) else _UNSAID
    except ValueError:
        seconds = _UNSAID
    if not math.isfinite(seconds):
        seconds = _UNSAID
    return max(0.0, seconds - min(_LEEWAY, seconds / 2))
