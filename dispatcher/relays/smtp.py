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
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import aiosmtplib

from dispatcher.core.campaign import UNIX, endpoint
from dispatcher.core.model import Phase, SessionInfo
from dispatcher.core.ports import Clock, RelayTrouble
from dispatcher.core.probe import Probe, Trial
from dispatcher.relays.conversation import Conversation, Mode, mode_for
from dispatcher.relays.login import Credentials, Secret, log_in, ours
from dispatcher.relays.probe import try_out
from dispatcher.relays.session import SmtpSession, Timeouts
from dispatcher.relays.trouble import MAPPED, mapped, nothing_unasked, trouble_of

__all__ = ["Account", "SmtpRelay", "SmtpSession", "Timeouts"]

T = TypeVar("T")


@dataclass(frozen=True)
class Account:
    """Where and as whom to hand over. `ca_file` replaces the system's certificate authorities.

    `host` may be a UNIX socket, "unix:/path". `server_name` is whom the relay's certificate must name, if not `host`.
    `client_cert` and `client_key` are our own; the key may stand in the same file.

    `password` is called at each login (`relays.login.Secret`). With `auth` "xoauth2" what it gives is an access token.
    """

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    user: str = ""
    password: Secret | None = field(default=None, repr=False)
    helo: str = "[127.0.0.1]"
    ca_file: Path | None = None
    auth: Literal["password", "xoauth2"] = "password"
    server_name: str = ""
    client_cert: Path | None = None
    client_key: Path | None = None

    @property
    def tls_name(self) -> str:
        """Whom the relay's certificate must name."""
        return self.server_name or self.host


class SmtpRelay:
    """A `core.ports.Relay` over SMTP."""

    def __init__(self, account: Account, clock: Clock, timeouts: Timeouts | None = None) -> None:
        self._account = account
        self._clock = clock
        self._timeouts = timeouts or Timeouts()
        self._tls: ssl.SSLContext | None = None
        self._stumbled = ""  # over PIPELINING or CHUNKING, and how

    @property
    def account(self) -> str:
        """Whose pace and quota a hand-over counts against."""
        where = endpoint(self._account.host, self._account.port)
        return f"{self._account.user}@{where}" if self._account.user else where

    async def connect(self) -> SmtpSession:
        """A new session: connected, greeted, secured and logged in as configured. Raises RelayTrouble."""
        return await self._set_up(self._take_over)

    async def probe(self, trial: Trial) -> Probe:
        """The same, then everything but to take a letter (`relays.probe`). Raises RelayTrouble."""

        async def ask(client: aiosmtplib.SMTP, features: dict[str, str]) -> Probe:
            return await try_out(client, self._info(client, features), trial, self._timeouts)

        return await self._set_up(ask)

    async def _set_up(self, then: Callable[[aiosmtplib.SMTP, dict[str, str]], Awaitable[T]]) -> T:
        """Set a session up and go on with `then`; whatever is raised, the connection is broken off."""
        if self._account.user and self._account.security == "none":
            raise RelayTrouble(Phase.AUTH, ours("5.7.11", "a login without TLS would send the password in clear"))
        with mapped(Phase.CONNECT):
            sock = await self._open()
        try:
            client = await self._greeted(sock)
            nothing_unasked(client, Phase.GREETING)
            features = await self._introduce(client)
            if self._account.security == "starttls":
                await self._secure(client, features)
                features = await self._introduce(client)
            if self._account.user:
                who = Credentials(self._account.user, self._account.auth, self._account.password)
                await log_in(client, features, who, self._timeouts.auth)
            return await then(client, features)
        except BaseException:
            await _abandon(sock)
            raise

    # The steps.

    async def _greeted(self, sock: socket.socket) -> aiosmtplib.SMTP:
        """A client that is connected, under TLS if that comes first, and has been greeted with 220."""
        account = self._account
        implicit = account.security == "tls"
        with mapped(Phase.CONNECT):
            try:
                client = aiosmtplib.SMTP(
                    hostname=account.tls_name,
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
            raise trouble_of(Phase.STARTTLS if handshake else Phase.GREETING, error) from None
        return client

    async def _open(self) -> socket.socket:
        """A connected socket: each of the host's addresses is tried in turn, each for the whole time-out."""
        loop = asyncio.get_running_loop()
        host, port, seconds = self._account.host, self._account.port, self._timeouts.connect
        places: Sequence[tuple[int, int, int, str, Any]]
        if host.startswith(UNIX):
            places = _unix(host.removeprefix(UNIX))
        else:
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
        with mapped(Phase.EHLO):
            try:
                await client.ehlo(timeout=self._timeouts.ehlo)
                features = {keyword.upper(): value for keyword, value in client.esmtp_extensions.items()}
            except aiosmtplib.SMTPHeloError as error:
                if error.code // 100 != 5:
                    raise
                await client.helo(timeout=self._timeouts.ehlo)
        nothing_unasked(client, Phase.EHLO)
        return features

    async def _secure(self, client: aiosmtplib.SMTP, features: dict[str, str]) -> None:
        """STARTTLS (RFC 3207). The library would drop octets that come before the handshake; we drop the relay."""
        if "STARTTLS" not in features:
            raise RelayTrouble(Phase.STARTTLS, fault="the relay does not offer STARTTLS; nothing was sent")
        with mapped(Phase.STARTTLS):
            answer = await client.execute_command(b"STARTTLS", timeout=self._timeouts.starttls)
            if answer.code != 220:
                raise aiosmtplib.SMTPResponseException(answer.code, answer.message)
            context = await self._tls_context()
            nothing_unasked(client, Phase.STARTTLS)
            protocol = client.protocol
            if protocol is None or protocol.transport is None:
                raise aiosmtplib.SMTPServerDisconnected("the connection was lost")
            protocol.transport = client.transport = await asyncio.get_running_loop().start_tls(
                cast("asyncio.Transport", protocol.transport),
                protocol,
                context,
                server_hostname=self._account.tls_name,
                ssl_handshake_timeout=self._timeouts.starttls,
            )

    async def _take_over(self, client: aiosmtplib.SMTP, features: dict[str, str]) -> SmtpSession:
        """Take the connection over from the library, which from here on has no part in it."""
        info = self._info(client, features)
        mode = self._mode(features)
        return SmtpSession(self._transport(client), info, self._clock, self._timeouts, mode=mode, at_end=self._learn)

    def _transport(self, client: aiosmtplib.SMTP) -> asyncio.Transport:
        transport = client.protocol.transport if client.protocol is not None else None
        if transport is None or transport.is_closing():
            raise RelayTrouble(Phase.AUTH if self._account.user else Phase.EHLO, fault="the connection was lost")
        return cast("asyncio.Transport", transport)

    def _mode(self, features: dict[str, str]) -> Mode:
        return Mode.LOCK_STEP if self._stumbled else mode_for(features)

    def _info(self, client: aiosmtplib.SMTP, features: dict[str, str]) -> SessionInfo:
        transport, mode = self._transport(client), self._mode(features)
        tls = transport.get_extra_info("ssl_object")
        return SessionInfo(
            host=self._account.host,
            port=self._account.port,
            peer=_peer(transport),
            tls_version=(tls.version() or "") if tls else "",
            cipher=(tls.cipher() or ("",))[0] if tls else "",
            certificate=_names(tls.getpeercert() or {}) if tls else "",
            features=features,
            mode=f"{mode} ({self._stumbled})" if self._stumbled else mode,
        )

    def _learn(self, conversation: Conversation) -> None:
        """A relay that stumbles over commands that come together is met in lock-step from then on."""
        self._stumbled = self._stumbled or conversation.stumbled

    async def _tls_context(self) -> ssl.SSLContext:
        """Made once, in a thread: reading the authorities takes a while."""
        if self._tls is None:
            try:
                context = await asyncio.to_thread(ssl.create_default_context, cafile=self._account.ca_file)
            except OSError as error:
                why = "there is no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
                raise RelayTrouble(
                    Phase.STARTTLS, fault=f"the authorities in {self._account.ca_file} cannot be used: {why}"
                ) from None
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self._account.client_cert:
                _show(context, self._account.client_cert, self._account.client_key)
            self._tls = context
        return self._tls


@asynccontextmanager
async def _limit(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise error if str(error) else TimeoutError(f"{what} within {seconds:g} s") from None


def _unix(path: str) -> Sequence[tuple[int, int, int, str, Any]]:
    """What a name is resolved to, for a socket of this machine."""
    family = getattr(socket, "AF_UNIX", None)
    if family is None or sys.platform == "win32":
        raise OSError("this system has no UNIX sockets: give a host and a port")
    return [(family, socket.SOCK_STREAM, 0, "", path)]


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Show a certificate of our own to a relay that asks for one."""

    def passphrase() -> str:
        raise ValueError("the key is locked with a passphrase; unlock a copy: openssl pkey -in locked.pem -out key.pem")

    try:
        context.load_cert_chain(certificate, key, passphrase)
    except ssl.SSLError as error:
        why = "certificate and key do not belong together" if "MISMATCH" in str(error.reason) else "it is no PEM"
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
    else:
        return
    raise RelayTrouble(Phase.STARTTLS, fault=f"the certificate to show, {certificate.name}, cannot be used: {why}")


def _of_library(error: BaseException) -> bool:
    return isinstance(error, aiosmtplib.SMTPException)


async def _abandon(sock: socket.socket) -> None:
    """Break a connection off, whoever holds its transport by now: it sees the end, and closes.

    Closing the socket under a transport would leave the transport open for ever.
    """
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    await asyncio.sleep(0)


def _names(certificate: dict[str, Any]) -> str:
    """Whom a certificate names (RFC 9525 §2): "relay.example, 192.0.2.1"."""
    return ", ".join(str(name) for kind, name in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))


def _peer(transport: asyncio.BaseTransport) -> str:
    name = transport.get_extra_info("peername")
    if isinstance(name, str):
        return f"{UNIX}{name}"
    host, port, *_ = name or ("", "")
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
