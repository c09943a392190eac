"""A relay for rehearsals: it takes letters as a real one does, and plays the faults that it is told (`sandbox.faults`).

    async with FaultyRelay(fates, clock.now, scratch) as relay:
        ... hand over to relay.host, relay.port ...

It is its own few lines, since no library's server breaks off at a chosen octet, and because whatever it does is done on
one loop and in one thread: a connection is a UNIX socket, where what one side has written the other can read at once.
So whoever finds nothing to read knows that nothing is under way, and a clock may be put forward (`desk.virtual`). Where
there are none of these (Windows; a path too long for one) it listens on the loopback interface, and `exact` is False.

Each message that is kept is noted in `kept`, and is on file in `folder` (`sandbox.store`), if one is given. It may be
entered again, one time after the other, and remembers everything. It asks for no secret; nothing leaves the machine.
"""

import asyncio
import hashlib
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

from dispatcher.sandbox.closing import closed
from dispatcher.sandbox.faults import Fates, Fault, Step
from dispatcher.sandbox.store import Store

SIZE_LIMIT: Final = 50 * 1024 * 1024
"""Octets a message may have (RFC 1870)."""

_LONGEST_PATH: Final = 100
"""Octets of a UNIX socket's path that every system takes."""
_OFFERS: Final = ("sandbox.invalid", f"SIZE {SIZE_LIMIT}", "8BITMIME", "SMTPUTF8", "PIPELINING")
_EHLO: Final = "".join([*(f"250-{offer}\r\n" for offer in _OFFERS[:-1]), f"250 {_OFFERS[-1]}\r\n"]).encode()
_MESSAGE_ID: Final = re.compile(rb"(?mi)^Message-ID:[ \t]*(\S+)[ \t]*\r?$")
_BREAK: Final = b"\r\n"
_END: Final = b"\r\n.\r\n"


@dataclass(frozen=True, slots=True)
class Kept:
    """A message that was kept. `digest` is SHA-256, hex, of its octets, dot-stuffing taken off."""

    message_id: str
    mail_from: str
    rcpt_tos: tuple[str, ...]
    digest: str


class FaultyRelay:
    """See the module. `scratch` is an empty folder of our own, for the socket."""

    def __init__(self, fates: Fates, now: Callable[[], datetime], scratch: Path, folder: Path | None = None) -> None:
        self.kept: list[Kept] = []
        self.played: Counter[str] = Counter()
        self.fates = fates
        self.now = now
        self._folder = folder
        self._store: Store | None = None
        self._path = scratch / "relay"
        self.exact = (
            sys.platform != "win32"
            and hasattr(socket, "AF_UNIX")
            and len(os.fsencode(self._path.resolve())) <= _LONGEST_PATH
        )
        self.host = f"unix:{self._path.resolve()}" if self.exact else "127.0.0.1"
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self._folder and self._store is None:
            self._store = Store(self._folder)
        if self.exact:
            self._server = await loop.create_unix_server(self._connection, str(self._path))
        else:
            self._server = await loop.create_server(self._connection, self.host)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await closed(self._server, self._connections)
        self._path.unlink(missing_ok=True)

    def _connection(self) -> "_Connection":
        return _Connection(self, self._connections)

    def keep(self, octets: bytes, mail_from: str, rcpt_tos: list[str]) -> int:
        """Keep a message; its number. Raises OSError if the store cannot be written."""
        now = self.now()
        if self._store:
            self._store.keep(octets, mail_from, rcpt_tos, self.host, now)
        found = _MESSAGE_ID.search(octets.partition(b"\r\n\r\n")[0])
        number = found[1].decode("utf-8", "replace") if found else ""
        self.kept.append(Kept(number, mail_from, tuple(rcpt_tos), hashlib.sha256(octets).hexdigest()))
        self.fates.taken(now)
        return len(self.kept)


class _Connection(asyncio.Protocol):
    """One connection. What comes while a reply is due later, or after a silence has begun, is left unread."""

    def __init__(self, relay: FaultyRelay, connections: "set[_Connection]") -> None:
        self._relay = relay
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread = bytearray()
        self._searched = 0  # octets of a message in which its end was looked for already
        self._content = False
        self._silent = False
        self._fault: Fault | None = None
        self._drawn = False  # what becomes of this transaction
        self._mail_from: str | None = None
        self._rcpt_tos: list[str] = []
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._fault = self._relay.fates.of_connection()
        self._answer(Step.CONNECT, b"220 sandbox.invalid ESMTP dispatcher rehearsal\r\n")

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._transport = None
        if self._timer:
            self._timer.cancel()
        self._connections.discard(self)
        self.gone.set_result(None)

    def drop(self) -> None:
        if self._transport:
            self._transport.abort()

    # What is read.

    def _go_on(self) -> None:
        """Do what has come, as far as it is whole."""
        while self._transport and not (self._timer or self._silent or self._transport.is_closing()):
            if self._content:
                if not self._read_content():
                    return
            elif b"\n" in self._unread:
                line, _, rest = self._unread.partition(b"\n")
                self._unread = rest
                self._command(bytes(line).removesuffix(b"\r"))
            else:
                return

    def _read_content(self) -> bool:
        """Read on to the dot; a line break of our own stands before the content. False if more of it is wanted."""
        if self._fault and self._fault.step is Step.CONTENT and len(self._unread) > len(_BREAK):
            self._content = False
            self._answer(Step.CONTENT, b"")
            return True
        end = self._unread.find(_END, max(0, self._searched - len(_END)))
        if end < 0:
            self._searched = len(self._unread)
            if self._searched > SIZE_LIMIT:
                self.drop()
            return False
        stuffed = bytes(self._unread[: end + len(_BREAK)])
        del self._unread[: end + len(_END)]
        self._content = False
        self._end(stuffed.replace(b"\r\n..", b"\r\n.").removeprefix(_BREAK))
        return True

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb in (b"EHLO", b"HELO"):
            self._reset()
            self._write(_EHLO if verb == b"EHLO" else b"250 sandbox.invalid\r\n")
        elif verb == b"MAIL":
            self._reset()
            self._mail_from = _path(line)
            self._write(b"250 2.1.0 ok\r\n")
        elif verb == b"RCPT":
            self._rcpt(_path(line))
        elif verb == b"DATA":
            self._data()
        elif verb == b"RSET":
            self._reset()
            self._write(b"250 2.0.0 ok\r\n")
        elif verb == b"NOOP":
            self._write(b"250 2.0.0 ok\r\n")
        elif verb == b"QUIT":
            self._write(b"221 2.0.0 bye\r\n")
            self._close()
        else:
            self._write(b"500 5.5.2 not known\r\n")

    def _reset(self) -> None:
        self._mail_from, self._rcpt_tos, self._fault, self._drawn = None, [], None, False

    def _rcpt(self, path: str) -> None:
        if self._mail_from is None:
            self._write(b"503 5.5.1 MAIL comes first\r\n")
            return
        now = self._relay.now()
        if refusal := self._relay.fates.put_off(self._mail_from, path, now):
            self._note(Fault(Step.RCPT, 0, refusal))
            self._write(refusal)
            return
        if not self._drawn:
            self._drawn = True
            self._fault = self._relay.fates.of_transaction(path, now)
        self._rcpt_tos.append(path)
        if not self._answer(Step.RCPT, b"250 2.1.5 ok\r\n"):
            self._rcpt_tos.pop()

    def _data(self) -> None:
        if not self._rcpt_tos:
            self._write(b"554 5.5.1 nobody to send it to\r\n")
        else:
            self._content = self._answer(Step.DATA, b"354 go ahead\r\n")
            self._searched = 0
            if self._content:
                self._unread[:0] = _BREAK

    def _end(self, octets: bytes) -> None:
        """All of a message is here. It is kept before anything is said."""
        fault, honest = self._fault, b""
        if not (fault and fault.step is Step.DOT) or fault.keeps:
            try:
                number = self._relay.keep(octets, self._mail_from or "", self._rcpt_tos)
                honest = b"250 2.0.0 captured as %05d\r\n" % number
            except OSError:
                honest, self._fault = b"451 4.3.0 not captured: the folder cannot be written\r\n", None
        self._answer(Step.DOT, honest)
        self._reset()

    # What is said.

    def _answer(self, step: Step, honest: bytes) -> bool:
        """The reply to a step, at once or later, or what is played in its place. Whether it is a good one."""
        fault = self._fault
        if fault is None or fault.step is not step:
            self._write(honest)
            return True
        self._fault = None
        self._note(fault)
        reply = honest if fault.reply is None else fault.reply
        if fault.after:
            self._timer = asyncio.get_running_loop().call_later(fault.after, self._later, reply, fault)
        else:
            self._play(reply, fault)
        return reply[:1] in (b"2", b"3")

    def _later(self, reply: bytes, fault: Fault) -> None:
        self._timer = None
        self._play(reply, fault)
        self._go_on()

    def _play(self, reply: bytes, fault: Fault) -> None:
        self._write(reply)
        if fault.drop:
            self._close()
        elif not reply:
            self._silent = True

    def _note(self, fault: Fault) -> None:
        self._relay.played[fault.words] += 1

    def _write(self, octets: bytes) -> None:
        if self._transport and octets:
            self._transport.write(octets)

    def _close(self) -> None:
        if self._transport:
            self._transport.close()


def _path(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "replace")


__all__ = ["SIZE_LIMIT", "FaultyRelay", "Kept"]
