"""The account at the relay: its secret is put in its place, taken away again, and tried; and the relay as it is set."""

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dispatcher.accounts.grant import Client, Flow, Grant
from dispatcher.accounts.providers import GOOGLE, Provider, discovered, microsoft
from dispatcher.accounts.secret import (
    Kept,
    closed_file,
    forget_secret,
    in_words,
    leave_no_core,
    read_secret,
    require_store,
    store_secret,
)
from dispatcher.accounts.signin import Invite, sign_in
from dispatcher.accounts.tokens import LoginSecret, revoke
from dispatcher.core.campaign import Campaign, Password, RelayAccount, endpoint
from dispatcher.core.errors import Place, Problem, ProviderUnavailable, RelayUnavailable, SecretError, UsageError
from dispatcher.core.policy import classify_trouble
from dispatcher.core.ports import RelayTrouble
from dispatcher.desk import Desk
from dispatcher.desk.pacing import rules_of
from dispatcher.ledgers.state import state_folder
from dispatcher.relays.login import Secret
from dispatcher.relays.probe import HASTY
from dispatcher.relays.smtp import Account, SmtpRelay, SmtpSession, Timeouts
from dispatcher.sandbox import Sandbox

_TOKEN_KEPT: Final = 60.0
"""Seconds for which an access token that a program prints is good for the next login, too: it says not how long."""


def require_secret(desk: Desk, relay: RelayAccount) -> None:
    """Raise SecretError if what the relay is to be told at a login is not there."""
    if relay.password:
        _login(desk, relay, relay.password).read("")
    _key(desk, relay)


def _fitting(text: str, *, token: bool) -> str:
    """What is stored, if it is what `auth` says: a sign-in must not be told to a relay. Raises SecretError."""
    if token:
        Grant.parse(text)
    elif Grant.is_in(text):
        todo = 'write auth = "xoauth2" under [relay], or store a password: dispatcher account add'
        what = "a sign-in is stored, and the relay is to get a password"
        raise SecretError(Problem(what, Place("campaign.toml", None, "key relay.auth"), todo))
    return text


def add_password(desk: Desk, secret: str) -> str:
    """Store a password, or an access token, where campaign.toml says it is. Where that is, in words.

    Raises UsageError for a text that is none, SecretError if it cannot be stored there.
    """
    where, user = _place_and_user(desk)
    if not secret or not secret.isprintable():
        raise SecretError(Problem("a password is one line of text, and not empty", todo="try again"))
    return store_secret(where, desk.root, user, secret)


def place_of_secret(desk: Desk) -> str:
    """Where a secret is to be stored, in words. Raises UsageError if campaign.toml says no such place."""
    where, user = _place_and_user(desk)
    require_store(where)
    leave_no_core()
    return in_words(where, user)


@dataclass(frozen=True, slots=True)
class SignIn:
    """Where and how to sign in. `provider` is google, microsoft or an issuer's URL; `tenant` Microsoft's, `scope` an
    issuer's; `with_secret` says that the application has a secret where it might have none.
    """

    provider: str
    client_id: str
    flow: Flow = "browser"
    tenant: str = ""
    scope: str = ""
    with_secret: bool = False
    port: int = 0


async def add_sign_in(desk: Desk, how: SignIn, ask: Callable[[str], str], invite: Invite) -> str:
    """Sign in, and store what gives tokens from then on. Where that is, in words.

    `ask` asks for the application's secret, `invite` shows where to sign in. Raises UsageError, ProviderUnavailable.
    """
    where, user = _place_and_user(desk)
    place = Place("campaign.toml", None, "[relay]")
    if desk.campaign().relay.auth != "xoauth2":
        todo = 'write auth = "xoauth2" there'
        raise UsageError(Problem("a sign-in gives tokens, and the relay is to get a password", place, todo))
    require_store(where)
    leave_no_core()
    try:
        provider = await _provider(how)
        secret = _client_secret(ask, provider) if _has_secret(how, provider) else ""
        client = Client(how.client_id, secret, provider.method if secret else "none")
        grant = await sign_in(provider, client, how.flow, user, invite, desk.clock, port=how.port)
    except ProviderUnavailable as error:
        raise ProviderUnavailable(f"{error}\n  → Check that this machine is online, and try again") from None
    return store_secret(where, desk.root, user, grant.to_text())


def _client_secret(ask: Callable[[str], str], provider: Provider) -> str:
    """As it was copied from a web page, with blanks about it or not. Raises SecretError for none."""
    secret = ask(f"The application's secret at {provider.name}: ").strip()
    if not secret or not secret.isprintable():
        todo = "copy it from the provider's console: docs/accounts.md"
        raise SecretError(Problem("the application's secret is one line of text, and not empty", todo=todo))
    return secret


async def _provider(how: SignIn) -> Provider:
    if how.tenant and how.provider != "microsoft":
        raise UsageError(Problem("only Microsoft has tenants", todo="leave --tenant out"))
    if how.scope and how.provider in ("google", "microsoft"):
        raise UsageError(Problem(f"what is asked of {how.provider} is known", todo="leave --scope out"))
    if how.provider == "google":
        return GOOGLE
    if how.provider != "microsoft":
        if not how.scope:
            raise UsageError(Problem("what to ask this provider for is not known", todo='add --scope "…"'))
        return await discovered(how.provider, how.scope)
    if how.flow == "app" and not how.tenant:
        todo = "name yours, by its id or domain: --tenant example.org"
        raise UsageError(Problem("an application signs in to one tenant", todo=todo))
    return microsoft(*([how.tenant] if how.tenant else []))


def _has_secret(how: SignIn, provider: Provider) -> bool:
    return how.with_secret or how.flow == "app" or provider.secret_wanted


@dataclass(frozen=True, slots=True)
class Removed:
    """From where; whether there was anything; whether it was a sign-in, at whom, and whether that has ended it."""

    place: str
    there: bool
    provider: str = ""
    ended: bool = False


async def remove_secret(desk: Desk) -> Removed:
    """Take the secret away; a sign-in is ended at the provider, too, where that has a way. Raises UsageError,
    SecretError.
    """
    where, user = _place_and_user(desk)
    grant, ended = None, False
    with suppress(SecretError):
        text = read_secret(where, desk.root, user)
        if Grant.is_in(text):
            grant = Grant.parse(text)
            ended = grant is not None and await revoke(grant)
    there = forget_secret(where, desk.root, user)
    return Removed(in_words(where, user), there, grant.provider if grant else "", ended)


def _place_and_user(desk: Desk) -> tuple[Password, str]:
    relay = desk.campaign().relay
    if relay.password is None or relay.user is None:
        todo = (
            'write user = "you@example.org" and password = { keyring = "dispatcher" } or { file = "secret.txt" } there'
        )
        raise UsageError(Problem("no login is set", Place("campaign.toml", None, "[relay]"), todo))
    return relay.password, relay.user


async def try_login(desk: Desk) -> Mapping[str, Any]:
    """Connect to the relay, log in, and leave; no letter is sent. What was found.

    Raises RelayUnavailable in words, with what to do; UsageError if the secret cannot be had.
    """
    campaign = desk.campaign()
    async with open_relay(desk, campaign, HASTY) as relay:
        began = time.monotonic()
        session = await connected(desk, relay)
        seconds = time.monotonic() - began
        await session.close()
    info = session.info
    return {
        "relay": endpoint(info.host, info.port),
        "peer": info.peer,
        "user": campaign.relay.user,
        "by": campaign.relay.auth if campaign.relay.user else None,
        "secret": in_words(campaign.relay.password, campaign.relay.user or "") if campaign.relay.password else None,
        "tls": info.tls_version,
        "certificate": info.certificate,
        "offers": sorted(info.features),
        "seconds": round(seconds, 3),
    }


async def connected(desk: Desk, relay: SmtpRelay) -> SmtpSession:
    """A session, or RelayUnavailable in words, with what to do. Raises SecretError if there is no secret."""
    if not desk.sandbox:
        require_secret(desk, desk.campaign().relay)
    try:
        return await relay.connect()
    except RelayTrouble as trouble:
        why = classify_trouble(trouble.phase, trouble.reply, trouble.fault, rules_of(desk, desk.campaign())).why
        raise RelayUnavailable(f"{why}\n  → {desk.relay_advice(why)}") from None


@asynccontextmanager
async def open_relay(desk: Desk, campaign: Campaign, timeouts: Timeouts | None = None) -> AsyncIterator[SmtpRelay]:
    """The configured relay, or the sandbox, or a rehearsal's. Raises RelayUnavailable if these cannot begin."""
    if not desk.sandbox:
        yield SmtpRelay(_account(desk, campaign.relay), desk.clock, timeouts)
        return
    sandbox = desk.stage.relay if desk.stage else Sandbox(desk.mail_path)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(sandbox)
        except OSError as error:
            raise RelayUnavailable(f"the sandbox cannot open {desk.mail_path} or a port: {error}") from None
        yield SmtpRelay(Account(sandbox.host, sandbox.port, "none"), desk.clock)


@dataclass(frozen=True, slots=True)
class Login:
    """What the relay is told at a login, and what is stored for it."""

    secret: Secret
    read: Kept


def _login(desk: Desk, relay: RelayAccount, where: Password) -> Login:
    """The same for as long as a command runs: looking first and sending then take one secret, and one token."""
    user = relay.user or ""
    key = (where, user, relay.auth)
    if key not in desk.logins:
        desk.logins[key] = _made(desk, where, user, token=relay.auth == "xoauth2")
    return desk.logins[key]


def _made(desk: Desk, where: Password, user: str, *, token: bool) -> Login:
    def anew() -> str:
        return _fitting(read_secret(where, desk.root, user), token=token)

    def write(text: str) -> str:
        return store_secret(where, desk.root, user, text)

    read = Kept(anew, desk.clock.boot, _TOKEN_KEPT if token else math.inf)
    if token:
        return Login(LoginSecret(read, anew, write, desk.clock.boot, _lock(desk, where, user)), read)
    return Login(lambda refused: asyncio.to_thread(read, refused), read)


def _lock(desk: Desk, where: Password, user: str) -> Path:
    """By what two runs that use one sign-in keep out of each other's way."""
    place = f"keyring {where.keyring} {user}" if where.keyring else str((desk.root / str(where.file)).resolve())
    return state_folder() / "locks" / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.lock"


def _account(desk: Desk, relay: RelayAccount) -> Account:
    return Account(
        relay.host,
        relay.port,
        relay.security,
        relay.user or "",
        _login(desk, relay, relay.password).secret if relay.password else None,
        relay.helo,
        desk.root / relay.ca_file if relay.ca_file else None,
        relay.auth,
        relay.server_name or "",
        desk.root / relay.client_cert if relay.client_cert else None,
        _key(desk, relay),
    )


def _key(desk: Desk, relay: RelayAccount) -> Path | None:
    """The key of our certificate, which nobody else may read. Raises SecretError."""
    name = "client_key" if relay.client_key else "client_cert"
    file = relay.client_key or relay.client_cert
    return closed_file(file, desk.root, Place("campaign.toml", None, f"key relay.{name}")) if file else None
