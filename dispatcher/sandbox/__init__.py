"""An SMTP server that captures letters instead of delivering them: for rehearsals, tests and a first try.

    async with Sandbox(folder) as sandbox:
        ... hand over to sandbox.host, sandbox.port ...

Each message is one file, `NNNNN-<first forward path>.eml`, of exactly the octets received (dot-stuffing taken off),
and one line in `envelopes.jsonl`: file, mail_from, rcpt_tos, peer, time (UTC). A message is on file before its 250; it
gets its name only when it is whole. Numbers go on from what is in the folder; one sandbox to a folder.

It listens on the loopback interface alone and sends nothing anywhere. What cannot be written is refused with 451, so
that nothing is ever claimed to be captured that is not. Raises OSError if the folder or the port cannot be had.
"""

import asyncio
import json
import logging
import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aiosmtpd.smtp import SMTP, Envelope, Session

SIZE_LIMIT: Final = 50 * 1024 * 1024
"""Octets a message may have (RFC 1870)."""

ENVELOPES: Final = "envelopes.jsonl"

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9@+_.-]+")
_NUMBER: Final = re.compile(r"([0-9]{5,})-.*\.eml")


class Sandbox:
    """Captures into `folder`, made if it is not there, while it is entered.

    `port` 0 takes a free one; once entered, `port` is the one in use. `count` is how many were captured since then.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = port
        self.count = 0
        self._number = 0
        self._server: asyncio.Server | None = None
        self._connections: set[_Receiver] = set()

    async def __aenter__(self) -> Self:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number = _last_number(self.folder)
        _silence()
        self._server = await asyncio.get_running_loop().create_server(self._receiver, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            connections = tuple(self._connections)
            for connection in connections:
                connection.drop()
            await asyncio.gather(*(connection.gone for connection in connections))
            await self._server.wait_closed()

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
        try:
            number = self._capture(session.peer, envelope)
        except OSError as error:
            return f"451 4.3.0 not captured: {error.strerror or 'the folder cannot be written'}"
        return f"250 2.0.0 captured as {number}"

    def _capture(self, peer: Any, envelope: Envelope) -> str:
        number = f"{self._number + 1:05}"
        path = self.folder / f"{number}-{_safe(envelope.rcpt_tos[0])}.eml"
        _write_whole(path, envelope.original_content or b"")
        entry = {
            "file": path.name,
            "mail_from": envelope.mail_from,
            "rcpt_tos": envelope.rcpt_tos,
            "peer": f"{peer[0]}:{peer[1]}",
            "time": datetime.now(UTC).isoformat(),
        }
        try:
            _append(self.folder / ENVELOPES, json.dumps(entry, ensure_ascii=True) + "\n")
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._number += 1
        self.count += 1
        return number


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


def _last_number(folder: Path) -> int:
    matches = (_NUMBER.fullmatch(path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in matches if match), default=0)


def _safe(address: str) -> str:
    return _UNSAFE.sub("_", address)[:80] or "_"


def _write_whole(path: Path, octets: bytes) -> None:
    """Write a file that is whole from the moment it has its name; mode 0600."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="ascii") as file:
        file.write(line)
