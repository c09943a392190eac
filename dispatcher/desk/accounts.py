"""The account at the relay: its secret is put in its place, taken away again, and tried; and the relay as it is set."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from dispatcher.accounts.secret import forget_secret, in_words, read_secret, store_secret
from dispatcher.core.campaign import Campaign, Password, RelayAccount
from dispatcher.core.errors import Place, Problem, RelayUnavailable, SecretError, UsageError
from dispatcher.core.policy import classify_trouble
from dispatcher.core.ports import RelayTrouble
from dispatcher.desk import Desk
from dispatcher.desk.pacing import rules_of
from dispatcher.relays.smtp import Account, SmtpRelay, SmtpSession, Timeouts
from dispatcher.sandbox import Sandbox


def require_secret(desk: Desk, relay: RelayAccount) -> None:
    """Raise SecretError if what the relay is to be told at a login is not there."""
    if relay.password:
        read_secret(relay.password, desk.root, relay.user or "")


def add_password(desk: Desk, secret: str) -> str:
    """Store a password, or an access token, where campaign.toml says it is. Where that is, in words.

    Raises UsageError for a text that is none, SecretError if it cannot be stored there.
    """
    where, user = _place_and_user(desk)
    if not secret or not secret.isprintable():
        raise SecretError(Problem("a password is one line of text, and not empty", todo="try again"))
    return store_secret(where, desk.root, user, secret)


def place_of_secret(desk: Desk) -> str:
    """Where campaign.toml says the secret is, in words. Raises UsageError if it says nothing."""
    where, user = _place_and_user(desk)
    return in_words(where, user)


def remove_secret(desk: Desk) -> tuple[str, bool]:
    """Take the secret away: from where, and whether there was any. Raises UsageError, SecretError."""
    where, user = _place_and_user(desk)
    return in_words(where, user), forget_secret(where, desk.root, user)


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
    async with open_relay(desk, campaign) as relay:
        began = time.monotonic()
        session = await connected(desk, relay)
        seconds = time.monotonic() - began
        await session.close()
    info = session.info
    return {
        "relay": f"{info.host}:{info.port}",
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
    """A session, or RelayUnavailable in words, with what to do."""
    try:
        return await relay.connect()
    except RelayTrouble as trouble:
        why = classify_trouble(trouble.phase, trouble.reply, trouble.fault, rules_of(desk, desk.campaign())).why
        raise RelayUnavailable(f"{why}\n  → {desk.relay_advice(why)}") from None


@asynccontextmanager
async def open_relay(desk: Desk, campaign: Campaign, timeouts: Timeouts | None = None) -> AsyncIterator[SmtpRelay]:
    """The configured relay, or the embedded sandbox. Raises RelayUnavailable if the sandbox cannot begin."""
    if not desk.sandbox:
        yield SmtpRelay(_account(desk, campaign.relay), desk.clock, timeouts)
        return
    async with AsyncExitStack() as stack:
        try:
            sandbox = await stack.enter_async_context(Sandbox(desk.mail_path))
        except OSError as error:
            raise RelayUnavailable(f"the sandbox cannot open {desk.mail_path} or a port: {error}") from None
        yield SmtpRelay(Account(sandbox.host, sandbox.port, "none"), desk.clock)


def _account(desk: Desk, relay: RelayAccount) -> Account:
    where, user = relay.password, relay.user or ""
    return Account(
        relay.host,
        relay.port,
        relay.security,
        user,
        (lambda: read_secret(where, desk.root, user)) if where else None,
        relay.helo,
        desk.root / relay.ca_file if relay.ca_file else None,
        relay.auth,
    )
