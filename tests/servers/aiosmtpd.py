"""aiosmtpd, the Python library's server, in a thread of its own, with STARTTLS, at a port or a UNIX socket."""

import ssl
from collections.abc import Sequence
from pathlib import Path

from aiosmtpd.controller import Controller, UnixSocketController
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.servers import HOST, Kept, Login, RealServer


class Aiosmtpd(RealServer):
    """With `socket`, at the path of a UNIX socket; `plain` is without TLS."""

    def __init__(self, login: Login | None = None, socket: str = "", *, plain: bool = False) -> None:
        super().__init__()
        self._login = login
        self.socket = socket
        self._plain = plain
        self._kept: list[Kept] = []

    def _begin(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate())
        where = {"unix_socket": self.socket} if self.socket else {"hostname": HOST, "port": self.port}
        controller = (UnixSocketController if self.socket else Controller)(
            self,
            **where,
            tls_context=None if self._plain else context,
            require_starttls=not self._plain,
            decode_data=False,
            auth_required=self._login is not None,
            auth_exclude_mechanism={"LOGIN", "PLAIN"} - {self._login.mechanism if self._login else ""},
            authenticator=self._authenticate,
        )
        controller.start()
        self._stack.callback(controller.stop)

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
    ) -> AuthResult:
        login = self._login
        good = login is not None and (given.login, given.password) == (login.user.encode(), login.secret.encode())
        return AuthResult(success=good, handled=False)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Called by aiosmtpd after the dot."""
        assert isinstance(envelope.content, bytes)
        number = f"aio-{len(self._kept)}"
        self._kept.append(Kept(0, envelope.mail_from or "", tuple(envelope.rcpt_tos), envelope.content, number))
        return f"250 2.0.0 Ok: queued as {number}"

    def relay(self, folder: Path) -> str:
        return self._trusted(folder) + (self._login.lines(folder) if self._login else "")

    @property
    def stored(self) -> Sequence[Kept]:
        return list(self._kept)
