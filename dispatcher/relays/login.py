"""AUTH (RFC 4954): PLAIN, LOGIN and CRAM-MD5 with a password, XOAUTH2 with an access token. Only ever under TLS.

The secret is asked for at each login, and kept nowhere here: not in an exception, its chain, a repr or a log; also
not in a reply of the relay that repeats what it was told. A token that the relay refuses may have ended there before
its time, a password may have been changed: then another one is asked for, and if there is one, tried once. That there
is none (any more), or that an identity provider gives none, is the relay's trouble, as a refusal or for now. Raises
RelayTrouble, and whatever else asking for the secret raises.
"""

import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import aiosmtplib
from aiosmtplib.auth import auth_plain_encode, auth_xoauth2_encode

from dispatcher.core.errors import ProviderUnavailable, SecretError
from dispatcher.core.model import Phase, Reply
from dispatcher.core.ports import RelayTrouble
from dispatcher.relays.trouble import MAPPED, nothing_unasked, trouble_of

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
"""What an access token is made of (RFC 6750 §2.1, generously); above all not the \\x01 that ends its field."""


Secret = Callable[[str], Awaitable[str]]
"""What to log in with; it is called with what was just refused, or with ''."""


@dataclass(frozen=True)
class Credentials:
    """As whom, by what kind of secret, and how to come by it."""

    user: str
    kind: Literal["password", "xoauth2"] = "password"
    secret: Secret | None = field(default=None, repr=False)


async def log_in(client: aiosmtplib.SMTP, features: dict[str, str], who: Credentials, seconds: float) -> None:
    """Log in, or raise. The trouble is raised here, where no frame and no context holds the secret."""
    if "AUTH" not in features:
        raise RelayTrouble(Phase.AUTH, ours("5.7.4", "the relay offers no AUTH"))
    by_token = who.kind == "xoauth2"
    mechanisms = [*{"xoauth2"}.intersection(client.server_auth_methods)] if by_token else client.supported_auth_methods
    if not mechanisms:
        wanted = "no AUTH XOAUTH2" if by_token else "no AUTH mechanism in common"
        hint = '; it takes access tokens: auth = "xoauth2"' if "xoauth2" in client.server_auth_methods else ""
        raise RelayTrouble(Phase.AUTH, ours("5.7.4", f"{wanted}; offered: {features['AUTH']}{hint}"))
    trouble = await _with_secret(client, mechanisms, who, seconds)
    if trouble is not None:
        raise trouble
    nothing_unasked(client, Phase.AUTH)


def ours(status: str, words: str) -> Reply:
    """Our own refusal to log in: a person must change something, unlike after a connection that was lost."""
    return Reply(535, f"{status} (dispatcher) {words}")


async def _with_secret(
    client: aiosmtplib.SMTP, mechanisms: list[str], who: Credentials, seconds: float
) -> RelayTrouble | None:
    """Log in; once more with another secret if the first is refused, and there is another one by now."""
    try:
        secret = await who.secret("") if who.secret else ""
        trouble = await _authenticate(client, mechanisms, who, secret, seconds)
        refused = trouble is not None and trouble.reply is not None and trouble.reply.code // 100 == 5
        if refused and who.secret and (other := await who.secret(secret)) != secret:
            trouble = await _authenticate(client, mechanisms, who, other, seconds)
    except SecretError as error:
        found = error.problems[0]
        trouble = RelayTrouble(Phase.AUTH, ours("5.7.8", f"{found.what}; {found.todo}"))
    except ProviderUnavailable as error:
        trouble = RelayTrouble(Phase.AUTH, Reply(454, f"4.4.3 (dispatcher) {error}"))
    return trouble


async def _authenticate(
    client: aiosmtplib.SMTP, mechanisms: list[str], who: Credentials, secret: str, seconds: float
) -> RelayTrouble | None:
    """Try each mechanism both sides know until one is taken; a refusal for now ends it."""
    if who.kind == "xoauth2" and not _TOKEN.fullmatch(secret):
        return RelayTrouble(Phase.AUTH, ours("5.7.8", "what was given as token has characters that no token has"))
    if not _can_be_sent(who.user + secret):
        return RelayTrouble(Phase.AUTH, ours("5.7.8", "user name or password has characters that cannot be sent"))
    trouble = None
    for mechanism in mechanisms:
        try:
            await _by(client, mechanism, who.user, secret, seconds)
        except MAPPED as error:
            trouble = _redacted(trouble_of(Phase.AUTH, error), who.user, secret)
        else:
            return None
        if trouble.reply is None or trouble.reply.code // 100 != 5:
            break
    return trouble


async def _by(client: aiosmtplib.SMTP, mechanism: str, user: str, secret: str, seconds: float) -> None:
    if mechanism == "xoauth2":
        await _xoauth2(client, user, secret, seconds)
        return
    login = getattr(client, f"auth_{mechanism.replace('-', '')}")
    await login(user, secret, timeout=seconds)


async def _xoauth2(client: aiosmtplib.SMTP, user: str, token: str, seconds: float) -> None:
    """Google's mechanism, which Microsoft took over; in no RFC. The library's own would lose the reason of a refusal.

    A token is refused in two steps: 334 with the reason, as JSON in base64; then, answering an empty line, 535.
    """
    answer = await client.execute_command(b"AUTH", b"XOAUTH2", auth_xoauth2_encode(user, token), timeout=seconds)
    reason = ""
    if answer.code == 334:
        reason = "\n" + _readable(answer.message)
        answer = await client.execute_command(b"", timeout=seconds)
    if answer.code != 235:
        raise aiosmtplib.SMTPAuthenticationError(answer.code, answer.message + reason)


def _readable(challenge: str) -> str:
    """The reason in a challenge, as "status: 401, schemes: bearer"; as it came if it is not what it should be."""
    try:
        text = base64.b64decode(challenge, validate=True).decode()
        found = json.loads(text)
    except (binascii.Error, ValueError, RecursionError):
        return f"the relay's reason: {challenge}"
    if isinstance(found, dict):
        text = ", ".join(f"{name}: {value}" for name, value in found.items())
    return f"the relay's reason: {text}"


def _can_be_sent(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # which holds the text
        return False
    return True


def _redacted(trouble: RelayTrouble, user: str, secret: str) -> RelayTrouble:
    """A relay may send back what it was told: take every form of the secret out of its words."""
    if not secret:
        return trouble
    lines = (auth_plain_encode(user, secret), auth_xoauth2_encode(user, secret), base64.b64encode(secret.encode()))
    forms = [line.decode() for line in lines]

    def clean(text: str) -> str:
        for form in (*forms, secret):
            text = text.replace(form, "[hidden]")
        return text

    reply = trouble.reply and Reply(trouble.reply.code, clean(trouble.reply.text))
    return RelayTrouble(trouble.phase, reply, clean(trouble.fault))
