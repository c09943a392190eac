"""Signing in once, so that tokens can be had from then on.

    browser   in a browser on this machine, which comes back to a port of ours (RFC 8252), with PKCE (RFC 7636)
    device    in any browser anywhere, by a code that is typed there (RFC 8628)
    app       nobody: the application has a secret and the right to send as the mailbox (RFC 6749 §4.4)

Raises SecretError if it comes to nothing, ProviderUnavailable if the provider does not answer.
"""

import asyncio
import errno
import hmac
import math
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from dispatcher.accounts.exchange import Refusal, post, require_extra, require_secure
from dispatcher.accounts.grant import Client, Flow, Grant
from dispatcher.accounts.keychain import PLACE
from dispatcher.accounts.providers import Provider
from dispatcher.accounts.refusals import advice
from dispatcher.core.errors import Problem, ProviderUnavailable, SecretError
from dispatcher.core.ports import Clock

DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
PATIENCE: Final = 300.0
"""Seconds for somebody to sign in."""
_INTERVAL: Final = 5.0
_SHORTEST_INTERVAL: Final = 0.5
_LONGEST_INTERVAL: Final = 60.0
_LONGEST_CODE: Final = 3600.0
_SLOWER: Final = 5.0
_HEAD: Final = 64 * 1024
_NO_IPV6: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_PAGE: Final = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>dispatcher</title><p>{words} You may close this window."
)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Invite = Callable[[str, str], None]
"""Shows where somebody is to sign in, and the code to type there; '' if none is wanted."""


async def sign_in(
    provider: Provider, client: Client, flow: Flow, user: str, invite: Invite, clock: Clock, *, port: int = 0
) -> Grant:
    """Sign in one way or another. `port` is where the browser comes back to; 0 is any."""
    require_extra()
    if flow == "app":
        return await _by_app(provider, client)
    if flow == "device":
        found = await _by_device(provider, client, invite, clock)
    else:
        found = await _by_browser(provider, client, user, invite, port)
    return _granted(provider, client, flow, found)


def _granted(provider: Provider, client: Client, flow: Flow, found: Mapping[str, Any]) -> Grant:
    """What was given, if it is enough: a refresh token, and the right to send (people can untick it)."""
    wanted, said, refresh = (
        provider.scope.split()[0] if provider.scope else "",
        found.get("scope"),
        found.get("refresh_token"),
    )
    if wanted and isinstance(said, str) and said and wanted.casefold() not in said.casefold().split():
        todo = "sign in again, and leave the permission ticked"
        raise SecretError(Problem(f"the sign-in does not allow to send: {wanted} is missing", PLACE, todo))
    if not isinstance(refresh, str) or not refresh:
        todo = "ask whoever registered the application to allow it refresh tokens (offline access)"
        raise SecretError(Problem("the provider gave a token for an hour, and none to renew it by", PLACE, todo))
    return Grant(
        provider.name, flow, client, provider.token_endpoint, provider.revocation_endpoint, provider.scope, refresh
    )


async def _by_app(provider: Provider, client: Client) -> Grant:
    """Once for a trial: what the application may not do is known now."""
    if not client.secret:
        raise SecretError(Problem("an application that signs in by itself has a secret", PLACE, "give it"))
    grant = Grant(provider.name, "app", client, provider.token_endpoint, "", provider.app_scope)
    with _in_words(provider):
        await post(grant.token_endpoint, {"grant_type": "client_credentials", "scope": grant.scope}, client)
    return grant


@contextmanager
def _in_words(provider: Provider) -> Iterator[None]:
    """A refusal becomes an error that people can read."""
    try:
        yield
    except Refusal as refusal:
        otherwise = "check the application's id, secret and rights in the provider's console: docs/accounts.md"
        todo = advice(refusal.words) or otherwise
        raise SecretError(Problem(f"{provider.name} refuses: {refusal.words}", PLACE, todo)) from None


# In a browser here.


async def _by_browser(provider: Provider, client: Client, user: str, invite: Invite, port: int) -> Mapping[str, Any]:
    from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # noqa: PLC0415 (an extra, and slow to load)
    from authlib.oauth2.rfc7636 import create_s256_code_challenge  # noqa: PLC0415

    if not provider.authorization_endpoint:
        raise SecretError(Problem(f"{provider.name} has no sign-in by a browser", PLACE, "try --flow device"))
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
    came: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _received(reader, writer, state, came)

    async with AsyncExitStack() as stack:
        redirect = f"http://{provider.host}:{await _listening(stack, serve, provider.host, port)}"
        url = prepare_grant_uri(
            provider.authorization_endpoint, client.id, "code", redirect, provider.scope, state,
            code_challenge=create_s256_code_challenge(verifier), code_challenge_method="S256", login_hint=user,
            **provider.more,
        )  # fmt: skip
        await asyncio.to_thread(invite, url, "")  # a browser may keep its caller waiting until it is closed
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await came
        except TimeoutError:
            what = f"nobody signed in within {PATIENCE:g} s"
            raise SecretError(Problem(what, PLACE, "try again; without a browser here: --flow device")) from None
    if "code" not in answer:
        said = ": ".join(answer[name] for name in ("error", "error_description") if answer.get(name))
        todo = advice(said) or "sign in again, and agree"
        raise SecretError(Problem(f"{provider.name} did not let you in: {said}", PLACE, todo))
    form = {
        "grant_type": "authorization_code", "code": answer["code"], "redirect_uri": redirect,
        "code_verifier": verifier,
    }  # fmt: skip
    with _in_words(provider):
        return await post(provider.token_endpoint, form, client)


async def _listening(stack: AsyncExitStack, serve: Serve, host: str, port: int) -> int:
    """Listen on this machine alone, until the stack unwinds. The port.

    "localhost" is ::1, too, where there is IPv6 (RFC 8252 §7.3): else another program could listen there, and be told.
    """
    try:
        server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", port, limit=_HEAD))
        port = int(server.sockets[0].getsockname()[1])
        if host == "localhost":
            await stack.enter_async_context(await asyncio.start_server(serve, "::1", port, limit=_HEAD))
    except OSError as error:
        if error.errno not in _NO_IPV6:
            what = f"port {port} cannot be used: {error.strerror}"
            raise SecretError(Problem(what, PLACE, "try again; with --port, name another one")) from None
    return port


async def _received(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: str, came: "asyncio.Future[Mapping[str, str]]"
) -> None:
    """One request to our port. Only one that knows our state is the provider's answer; all others change nothing."""
    words, status = "This is not what was waited for.", "400 Bad Request"
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        found = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items() if len(values) == 1}
        ours = hmac.compare_digest(found.get("state", "").encode(), state.encode())
        if method == "GET" and ours and ("code" in found or "error" in found):
            words, status = ("You are signed in." if "code" in found else "You are not signed in."), "200 OK"
            if not came.done():
                came.set_result(found)
    page = _PAGE.format(words=words).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(page)}\r\n"
        "Content-Security-Policy: default-src 'none'\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    with suppress(OSError):
        writer.write(head + page)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


# By a code, in any browser.


async def _by_device(provider: Provider, client: Client, invite: Invite, clock: Clock) -> Mapping[str, Any]:
    if not provider.device_endpoint:
        what = f"{provider.name} has no sign-in by a code"
        raise SecretError(Problem(what, PLACE, "use a browser: --flow browser; from afar: --port, and ssh -L"))
    public = replace(client, secret="", method="none")  # RFC 8628 §3.1: it is named, and not more
    with _in_words(provider):
        told = await post(provider.device_endpoint, {"scope": provider.scope}, public)
    url = told.get("verification_uri") or told.get("verification_url")
    code, device = told.get("user_code"), told.get("device_code")
    if not (isinstance(url, str) and isinstance(code, str) and isinstance(device, str)):
        raise ProviderUnavailable(f"{provider.name} gave no code to sign in by")
    await asyncio.to_thread(invite, require_secure(url), code)
    interval, until = (
        max(_SHORTEST_INTERVAL, _seconds(told.get("interval"), _INTERVAL, _LONGEST_INTERVAL)),
        clock.boot() + _seconds(told.get("expires_in"), PATIENCE, _LONGEST_CODE),
    )
    while clock.boot() < until:
        await clock.sleep(interval)
        try:
            return await post(provider.token_endpoint, {"grant_type": DEVICE, "device_code": device}, client)
        except ProviderUnavailable:  # RFC 8628 §3.5: stay away longer and longer
            interval *= 2
        except Refusal as refusal:
            if refusal.code == "slow_down":
                interval += _SLOWER
            elif refusal.code == "expired_token":
                break
            elif refusal.code != "authorization_pending":
                what = f"{provider.name} did not let you in: {refusal.words}"
                todo = advice(refusal.words) or "sign in again, and agree"
                raise SecretError(Problem(what, PLACE, todo)) from None
    raise SecretError(Problem("nobody typed the code before it expired", PLACE, "try again"))


def _seconds(value: object, otherwise: float, most: float) -> float:
    """A number of seconds, as providers write it: also as text. What is no number, or endless, is none."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else otherwise
    except (ValueError, OverflowError):
        seconds = otherwise
    return min(max(0.0, seconds), most) if math.isfinite(seconds) else otherwise
