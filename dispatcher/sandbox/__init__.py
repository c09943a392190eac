"""An SMTP server that captures letters instead of delivering them: for rehearsals, tests and a first try.

    async with Sandbox(folder) as sandbox:
        ... hand over to sandbox.host, sandbox.port ...

Each message is on file (`sandbox.store`) before its 250: exactly the octets received, dot-stuffing taken off.

It listens on the loopback interface alone and sends nothing anywhere. What cannot be written is refused with 451, so
that nothing is ever claimed to be captured that is not. Raises OSError if the folder or the port cannot be had.

    store     where captured messages are kept
    faults    what goes wrong in a rehearsal, as data; a seed says when
    relay     a relay for rehearsals that plays those faults
"""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aiosmtpd.smtp import SMTP, Envelope, Session

from dispatcher.sandbox.closing import closed
from dispatcher.sandbox.store import ENVELOPES, Store

SIZE_LIMIT: Final = 50 * 1024 * 1024
"""Octets a message may have (RFC 1870)."""


class Sandbox:
    """Captures into `folder`, made if it is not there, while it is entered.

    `port` 0 takes a free one; once entered, `port` is the one in use.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = port
        self._store: Store | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[_Receiver] = set()

    @property
    def count(self) -> int:
        """How many were captured since it was entered."""
        return self._store.count if self._store else 0

    async def __aenter__(self) -> Self:
        self._store = Store(self.folder)
        _silence()
        self._server = await asyncio.get_running_loop().create_server(self._receiver, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await closed(self._server, self._connections)

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        if self._server is None:
            raise RuntimeError("the sandbox has not been entered")
        await self._server.serve_forever()

    def _receiver(self) -> "_Receiver":
        return _Receiver(
            self,
            self._connections,
            data_size_limit=SIZE_LIMIT,
            enable_SMTPUTF8=True,
            decode_data=False,
            hostname="sandbox.invalid",
            ident="dispatcher sandbox",
            loop=asyncio.get_running_loop(),
        )

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802
        """Capture one message; called by aiosmtpd after the dot, answers for it."""
        if self._store is None:
            raise RuntimeError("the sandbox has not been entered")
        peer: Any = session.peer
        try:
            number = self._store.keep(
                envelope.original_content or b"",
                envelope.mail_from,
                envelope.rcpt_tos,
                f"{peer[0]}:{peer[1]}",
                datetime.now(UTC),
            )
        except OSError as error:
            return f"451 4.3.0 not captured: {error.strerror or 'the folder cannot be written'}"
        return f"250 2.0.0 captured as {number}"


class _Receiver(SMTP):
    """One connection; says when it is gone, so that none outlives the sandbox."""

    def __init__(self, handler: Sandbox, connections: "set[_Receiver]", **settings: Any) -> None:
        super().__init__(handler, **settings)
        self._connections = connections
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._connections.discard(self)
        self.gone.set_result(None)

    def drop(self) -> None:
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()


def _silence() -> None:
    """Its server logs every line it reads: slow, and letters do not belong in a log."""
    logging.getLogger("mail.log").disabled = True


__all__ = ["ENVELOPES", "SIZE_LIMIT", "Sandbox"]
