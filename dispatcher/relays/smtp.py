"""The relay over SMTP: connect, greet, secure, log in (RFC 5321, RFC 3207, RFC 4954), then hand over to a session.

aiosmtplib does these steps, one at a time; the transactions that follow are our own (`session`), because only whoever
owns the bytes can say when the terminator left. Security is never traded for a connection:

  - TLS 1.2 or later, certificate and name verified, whatever the relay offers;
  - "starttls" without STARTTLS on offer, or with octets slipped in before the handshake: nothing more is sent;
  - no login without TLS;
  - the password is asked for at login and kept nowhere: not in an exception, its chain, a repr or a log.

Raises RelayTrouble for whatever the relay and the network do, with the phase it came to; and what `Account.password`
raises.
"""

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

import aiosmtplib

from dispatcher.core.model import Phase, Reply, SessionInfo
from dispatcher.core.ports import Clock, RelayTrouble
from dispatcher.relays.session import SmtpSession, Timeouts
from dispatcher.relays.wire import Wire

__all__ = ["Account", "SmtpRelay", "SmtpSession", "Timeouts"]

MAPPED: Final = (aiosmtplib.SMTPException, OSError, ValueError)
"""Everything aiosmtplib, asyncio and ssl raise for what a relay or network does (time-outs are OSErrors)."""


@dataclass(frozen=True)
class Account:
    """Where and as whom to hand over. `ca_file` replaces the system's certificate authorities.

    `password` is called once per login and may take its time; it runs in a thread of its own.
    """

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    user: str = ""
    password: Callable[[], str] | None = field(default=None, repr=False)
    helo: str = "[127.0.0.1]"
    ca_file: Path | None = None


class SmtpRelay:
    """A `core.ports.Relay` over SMTP."""

    def __init__(self, account: Account, clock: Clock, timeouts: Timeouts | None = None) -> None:
        self._account = account
        self._clock = clock
        self._timeouts = timeouts or Timeouts()
        self._tls: ssl.SSLContext | None = None

    @property
    def account(self) -> str:
        """Whose pace and quota a hand-over counts against."""
        where = f"{self._account.host}:{self._account.port}"
        return f"{self._account.user}@{where}" if self._account.user else where

    async def connect(self) -> SmtpSession:
        """A new session: connected, greeted, secured and logged in as configured. Raises RelayTrouble."""
        if self._account.user and self._account.security == "none":
            raise RelayTrouble(Phase.AUTH, _ours("5.7.11", "a login without TLS would send the password in clear"))
        with _mapped(Phase.CONNECT):
            sock = await self._open()
        try:
            client = await self._greeted(sock)
            _nothing_unasked(client, Phase.GREETING)
            features = await self._introduce(client)
            if self._account.security == "starttls":
                await self._secure(client, features)
                features = await self._introduce(client)
            if self._account.user:
                await self._log_in(client, features)
            return self._session(client, features)
        except BaseException:
            await _abandon(sock)
            raise

    # The steps.

    async def _greeted(self, sock: socket.socket) -> aiosmtplib.SMTP:
        """A client that is connected, under TLS if that comes first, and has been greeted with 220."""
        account = self._account
        implicit = account.security == "tls"
        with _mapped(Phase.CONNECT):
            try:
                client = aiosmtplib.SMTP(
                    hostname=account.host,
                    sock=sock,
                    local_hostname=account.helo,
                    use_tls=implicit,
                    start_tls=False,
                    tls_context=await self._tls_context() if implicit else None,
                )
            except BaseException:
                sock.close()  # as yet no transport has it
                raise
        try:
            await client.connect(timeout=self._timeouts.greeting)
        except MAPPED as error:
            # A failed handshake arrives wrapped, what the greeting does as the library's own.
            handshake = implicit and isinstance(error.__cause__, OSError) and not _of_library(error.__cause__)
            raise _trouble(Phase.STARTTLS if handshake else Phase.GREETING, error) from None
        return client

    async def _open(self) -> socket.socket:
        """A connected socket: each of the host's addresses is tried in turn, each for the whole time-out."""
        loop = asyncio.get_running_loop()
        host, port, seconds = self._account.host, self._account.port, self._timeouts.connect
        async with _limit(seconds, "the host's name was not resolved"):
            places = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure: OSError = OSError("the host has no address")
        for family, kind, protocol, _, address in places:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(0)
                async with _limit(seconds, "no connection"):
                    await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure

    async def _introduce(self, client: aiosmtplib.SMTP) -> dict[str, str]:
        """EHLO, or HELO where that is not known; what is offered, keywords in capitals (RFC 5321 §4.1.4)."""
        features: dict[str, str] = {}
        with _mapped(Phase.EHLO):
            try:
                await client.ehlo(timeout=self._timeouts.ehlo)
                features = {keyword.upper(): value for keyword, value in client.esmtp_extensions.items()}
            except aiosmtplib.SMTPHeloError as error:
                if error.code // 100 != 5:
                    raise
                await client.helo(timeout=self._timeouts.ehlo)
        _nothing_unasked(client, Phase.EHLO)
        return features

    async def _secure(self, client: aiosmtplib.SMTP, features: dict[str, str]) -> None:
        """STARTTLS (RFC 3207). The library would drop octets that come before the handshake; we drop the relay."""
        if "STARTTLS" not in features:
            raise RelayTrouble(Phase.STARTTLS, fault="the relay does not offer STARTTLS; nothing was sent")
        with _mapped(Phase.STARTTLS):
            answer = await client.execute_command(b"STARTTLS", timeout=self._timeouts.starttls)
            if answer.code != 220:
                raise aiosmtplib.SMTPResponseException(answer.code, answer.message)
            context = await self._tls_context()
            _nothing_unasked(client, Phase.STARTTLS)
            protocol = client.protocol
            if protocol is None or protocol.transport is None:
                raise aiosmtplib.SMTPServerDisconnected("the connection was lost")
            protocol.transport = client.transport = await asyncio.get_running_loop().start_tls(
                cast("asyncio.Transport", protocol.transport),
                protocol,
                context,
                server_hostname=self._account.host,
                ssl_handshake_timeout=self._timeouts.starttls,
            )

    async def _log_in(self, client: aiosmtplib.SMTP, features: dict[str, str]) -> None:
        """AUTH. The trouble is raised here, where no frame and no context holds the password."""
        if "AUTH" not in features:
            raise RelayTrouble(Phase.AUTH, _ours("5.7.4", "the relay offers no AUTH"))
        if not client.supported_auth_methods:
            raise RelayTrouble(Phase.AUTH, _ours("5.7.4", f"no AUTH mechanism in common; offered: {features['AUTH']}"))
        trouble = await self._authenticate(client)
        if trouble is not None:
            raise trouble
        _nothing_unasked(client, Phase.AUTH)

    async def _authenticate(self, client: aiosmtplib.SMTP) -> RelayTrouble | None:
        """Try each mechanism both sides know until one is taken; a refusal for now ends it."""
        user = self._account.user
        password = await asyncio.to_thread(self._account.password) if self._account.password else ""
        if not _can_be_sent(user + password):
            return RelayTrouble(Phase.AUTH, _ours("5.7.8", "user name or password has characters that cannot be sent"))
        trouble = None
        for mechanism in client.supported_auth_methods:
            login = getattr(client, f"auth_{mechanism.replace('-', '')}")
            try:
                await login(user, password, timeout=self._timeouts.auth)
            except MAPPED as error:
                trouble = _redacted(_trouble(Phase.AUTH, error), user, password)
            else:
                return None
            if trouble.reply is None or trouble.reply.code // 100 != 5:
                break
        return trouble

    def _session(self, client: aiosmtplib.SMTP, features: dict[str, str]) -> SmtpSession:
        """Take the connection over from the library, which from here on has no part in it."""
        transport = client.protocol.transport if client.protocol is not None else None
        if transport is None or transport.is_closing():
            raise RelayTrouble(Phase.AUTH if self._account.user else Phase.EHLO, fault="the connection was lost")
        tls = transport.get_extra_info("ssl_object")
        info = SessionInfo(
            host=self._account.host,
            port=self._account.port,
            peer=_peer(transport),
            tls_version=(tls.version() or "") if tls else "",
            cipher=(tls.cipher() or ("",))[0] if tls else "",
            features=features,
        )
        return SmtpSession(Wire(cast("asyncio.Transport", transport)), info, self._clock, self._timeouts)

    async def _tls_context(self) -> ssl.SSLContext:
        """Made once, in a thread: reading the authorities takes a while."""
        if self._tls is None:
            try:
                context = await asyncio.to_thread(ssl.create_default_context, cafile=self._account.ca_file)
            except OSError as error:
                raise RelayTrouble(
                    Phase.STARTTLS, fault=f"the authorities in {self._account.ca_file} cannot be used: {error}"
                ) from None
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls = context
        return self._tls


@asynccontextmanager
async def _limit(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise error if str(error) else TimeoutError(f"{what} within {seconds:g} s") from None


@contextmanager
def _mapped(phase: Phase) -> Iterator[None]:
    try:
        yield
    except MAPPED as error:
        raise _trouble(phase, error) from None


def _of_library(error: BaseException) -> bool:
    return isinstance(error, aiosmtplib.SMTPException)


def _trouble(phase: Phase, error: BaseException) -> RelayTrouble:
    """The facts in an exception: the relay's refusal if there is one, or else words."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = error.message.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if error.code // 100 in (4, 5):
            return RelayTrouble(phase, reply=Reply(error.code, text))
        return RelayTrouble(phase, fault=f"not the reply due: {error.code} {text}")
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    if isinstance(root, ssl.SSLCertVerificationError):
        return RelayTrouble(phase, fault=f"the relay's certificate is not good: {root.verify_message}")
    if isinstance(root, ssl.SSLError):
        return RelayTrouble(phase, fault=f"TLS failed: {root.reason or root}")
    return RelayTrouble(phase, fault=str(root) or str(error) or type(error).__name__)


def _ours(status: str, words: str) -> Reply:
    """Our own refusal to log in: a person must change something, unlike after a connection that was lost."""
    return Reply(535, f"{status} (dispatcher) {words}")


def _can_be_sent(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # which holds the text
        return False
    return True


def _redacted(trouble: RelayTrouble, user: str, password: str) -> RelayTrouble:
    """A relay may send back what it was told: take every form of the password out of its words."""
    if not password:
        return trouble
    plain = f"\0{user}\0{password}".encode()
    forms = [base64.b64encode(octets).decode() for octets in (plain, password.encode())]

    def clean(text: str) -> str:
        for form in (*forms, password):
            text = text.replace(form, "[hidden]")
        return text

    reply = trouble.reply and Reply(trouble.reply.code, clean(trouble.reply.text))
    return RelayTrouble(trouble.phase, reply, clean(trouble.fault))


def _nothing_unasked(client: aiosmtplib.SMTP, phase: Phase) -> None:
    """Raise RelayTrouble if more came than the one reply due: the library would take it for the next one.

    It keeps such octets in `_buffer`, and has no public way to say so; a test watches that the name stands.
    """
    if getattr(client.protocol, "_buffer", b""):
        raise RelayTrouble(phase, fault="the relay sent more than the one reply due")


async def _abandon(sock: socket.socket) -> None:
    """Break a connection off, whoever holds its transport by now: it sees the end, and closes.

    Closing the socket under a transport would leave the transport open for ever.
    """
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    await asyncio.sleep(0)


def _peer(transport: asyncio.BaseTransport) -> str:
    host, port, *_ = transport.get_extra_info("peername") or ("", "")
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
