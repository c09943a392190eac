"""A scripted SMTP server that tells the truth or lies, as a test wants, and records all it saw.

    with SmtpServer(Script(on={"RCPT": b"450 4.2.0 later\\r\\n"})) as server:
        ... hand over to server.host, server.port ...
    assert server.stored == []

It runs in threads of its own, so it serves tests of any kind (any event loop, a command in a child process). What it
does at each step is an `Action`:

    bytes        send these octets, whatever they are (also none: b"")
    CLOSE        close the connection (FIN)
    RESET        break the connection off (RST)
    HANG         do nothing until `server.release()`, then go on
    STORE        keep the message (only after the dot)
    Cut(n)       read n octets of the content, then reset (only for "BODY")
    a tuple      one after the other, e.g. (STORE, b"25", RESET)
    a list       one for each time this step comes up; the last one stays

The steps are CONNECT (in place of the greeting), EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, BODY (after 354, before
the content is read), BDAT (a chunk that is not the last), DOT (the end of the message, behind DATA or BDAT), RSET,
QUIT, NOOP; a step not named in `on` is done as an honest server would. Content is read only if the answer to DATA holds
a 354 line. The honest DOT is (STORE, b"250 2.0.0 taken\\r\\n"). Commands may come together (`ehlo` says whether they
may); each is answered when its turn comes.
"""

import base64
import contextlib
import hashlib
import hmac
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self, TypeAlias


class Do(Enum):
    """What is not octets."""

    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"
    STORE = "store"


CLOSE, RESET, HANG, STORE = Do.CLOSE, Do.RESET, Do.HANG, Do.STORE


@dataclass(frozen=True)
class Cut:
    """Break off after so many octets of content."""

    after: int


Single: TypeAlias = bytes | Do | Cut
Action: TypeAlias = Single | tuple[Single, ...]
Actions: TypeAlias = Action | list[Action]


@dataclass(frozen=True)
class Script:
    """What the server offers and how it behaves.

    `ehlo` are the keyword lines on offer; STARTTLS and AUTH are added by themselves when `tls` or `login` is given.
    `tls` is a server-side context, `implicit` says whether TLS comes first. `login` is the one (user, password) taken,
    by the `mechanisms`.
    """

    on: Mapping[str, Actions] = field(default_factory=dict)
    ehlo: tuple[str, ...] = ("SIZE 52428800", "8BITMIME", "SMTPUTF8")
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    login: tuple[str, str] | None = None
    mechanisms: str = "PLAIN LOGIN CRAM-MD5"


@dataclass(frozen=True)
class Stored:
    """A message that was kept: envelope as in the commands, octets after dot-unstuffing."""

    connection: int
    mail_from: str
    rcpt_tos: tuple[str, ...]
    octets: bytes


@dataclass(frozen=True)
class Seen:
    """One thing that happened, in order. `what`: connected, command, content, dot, closed, or a test's own word.

    `octets` is the command line without CRLF, or a piece of content as it came.
    """

    connection: int
    what: str
    octets: bytes = b""


class _Over(Exception):
    """The conversation has ended."""


class SmtpServer:
    """Serves on 127.0.0.1 and a free port while it is entered.

    `patience`: seconds without a word from the client after which a connection is closed; by default there is no end.
    """

    patience: float | None = None

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.host = "127.0.0.1"
        self.stored: list[Stored] = []
        self.seen: list[Seen] = []
        self.counts: dict[str, int] = {}
        self.changed = threading.Condition()
        self._released = threading.Event()
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        with self.changed:
            sockets = [*self._open, self._listener]
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def release(self) -> None:
        """Let everything that hangs go on, now and later."""
        self._released.set()

    def note(self, what: str, octets: bytes = b"", connection: int = 0) -> None:
        """Add to `seen`; a test may add its own words, to see the order."""
        with self.changed:
            self.seen.append(Seen(connection, what, octets))
            self.changed.notify_all()

    def wait(self, until: Callable[["SmtpServer"], bool], seconds: float = 60) -> None:
        """Wait until something has happened on the server's side; fail if it does not."""
        with self.changed:
            assert self.changed.wait_for(lambda: until(self), seconds), f"did not happen; seen: {self.seen}"

    @property
    def commands(self) -> list[bytes]:
        """Every command line, of all connections, in order."""
        return [seen.octets for seen in self.seen if seen.what == "command"]

    @property
    def content(self) -> bytes:
        """All content octets as they came over the wire, without a whole terminator."""
        return b"".join(seen.octets for seen in self.seen if seen.what == "content")

    def times(self, what: str) -> int:
        """How often something is among what was seen."""
        return sum(seen.what == what for seen in self.seen)

    # What the threads do.

    def action(self, step: str) -> Actions | None:
        """The scripted action for this time, counting it; None for the honest one."""
        with self.changed:
            number = self.counts.get(step, 0)
            self.counts[step] = number + 1
        action = self.script.on.get(step)
        return action[min(number, len(action) - 1)] if isinstance(action, list) else action

    def replace(self, old: socket.socket | None, new: socket.socket | None) -> None:
        """Keep account of the sockets that are open."""
        with self.changed:
            self._open -= {old} if old else set()
            self._open |= {new} if new else set()

    def hang(self) -> None:
        self._released.wait(60)

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            sock.settimeout(self.patience)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is said is there at once
            self.replace(None, sock)
            thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        conversation = _Conversation(self, sock, number)
        try:
            self.note("connected", connection=number)
            conversation.run()
        except (_Over, OSError):
            pass
        finally:
            self.replace(conversation.sock, None)
            conversation.sock.close()
            self.note("closed", connection=number)


class _Conversation:
    """One connection."""

    def __init__(self, server: SmtpServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.script = server.script
        self.sock = sock
        self.number = number
        self.unread = b""
        self.secure = False
        self.mail_from = ""
        self.rcpt_tos: list[str] = []
        self.chunks = b""

    def run(self) -> None:
        if self.script.implicit:
            self._handshake()
        self._do("CONNECT", b"220 relay.example ESMTP\r\n")
        while True:
            line = self._line()
            self.server.note("command", line, self.number)
            verb = line.split(b" ")[0].split(b":")[0].upper().decode("ascii", "replace")
            getattr(self, f"_{verb.lower()}", self._unknown)(line)

    def _unknown(self, line: bytes) -> None:
        self.sock.sendall(b"500 5.5.2 not known\r\n")

    def _helo(self, line: bytes) -> None:
        self._do("HELO", b"250 relay.example\r\n")

    def _ehlo(self, line: bytes) -> None:
        offers = ["relay.example", *self.script.ehlo]
        if self.script.tls and not self.secure:
            offers.append("STARTTLS")
        if self.script.login and (self.secure or not self.script.tls):
            offers.append(f"AUTH {self.script.mechanisms}")
        lines = [f"250-{offer}\r\n" for offer in offers[:-1]] + [f"250 {offers[-1]}\r\n"]
        self._do("EHLO", "".join(lines).encode())

    def _starttls(self, line: bytes) -> None:
        said = self._do("STARTTLS", b"220 2.0.0 go ahead\r\n" if self.script.tls else b"502 5.5.1 no\r\n")
        if said.startswith(b"220") and self.script.tls:
            self._handshake()

    def _handshake(self) -> None:
        assert self.script.tls
        self.unread = b""
        plain = self.sock
        try:
            self.sock = self.script.tls.wrap_socket(plain, server_side=True)
        finally:
            self.server.replace(plain, self.sock)
        self.secure = True
        self.server.note("secure", connection=self.number)

    def _auth(self, line: bytes) -> None:
        if "AUTH" in self.script.on:
            self._do("AUTH", b"")
            return
        assert self.script.login
        user, password = (part.encode() for part in self.script.login)
        words = line.split()
        if words[1] == b"PLAIN":
            good = base64.b64decode(words[2]) == b"\0" + user + b"\0" + password
        elif words[1] == b"LOGIN":
            name = base64.b64decode(words[2]) if len(words) > 2 else self._challenge(b"Username:")
            good = (name, self._challenge(b"Password:")) == (user, password)
        elif words[1] == b"XOAUTH2":
            good = base64.b64decode(words[2]) == b"user=" + user + b"\x01auth=Bearer " + password + b"\x01\x01"
            good = good or bool(self._challenge(b'{"status":"401","schemes":"bearer"}'))
        else:
            digest = hmac.new(password, b"<1@relay.example>", hashlib.md5).hexdigest().encode()
            good = self._challenge(b"<1@relay.example>") == user + b" " + digest
        self.sock.sendall(b"235 2.7.0 welcome\r\n" if good else b"535 5.7.8 not you\r\n")

    def _challenge(self, text: bytes) -> bytes:
        self.sock.sendall(b"334 " + base64.b64encode(text) + b"\r\n")
        return base64.b64decode(self._line())

    def _mail(self, line: bytes) -> None:
        self.mail_from, self.rcpt_tos, self.chunks = _path(line), [], b""
        self._do("MAIL", b"250 2.1.0 ok\r\n")

    def _rcpt(self, line: bytes) -> None:
        if self._do("RCPT", b"250 2.1.5 ok\r\n").startswith(b"2"):
            self.rcpt_tos.append(_path(line))

    def _rset(self, line: bytes) -> None:
        self.rcpt_tos, self.chunks = [], b""
        self._do("RSET", b"250 2.0.0 ok\r\n")

    def _noop(self, line: bytes) -> None:
        self._do("NOOP", b"250 2.0.0 ok\r\n")

    def _quit(self, line: bytes) -> None:
        self._do("QUIT", b"221 2.0.0 bye\r\n")
        raise _Over

    def _data(self, line: bytes) -> None:
        honest = b"354 go ahead\r\n" if self.rcpt_tos else b"554 5.5.1 nobody to send it to\r\n"
        if b"354" not in self._do("DATA", honest):
            return
        cut = self.server.action("BODY")
        if isinstance(cut, Cut):
            self._cut(cut.after)
        elif cut is not None:
            self._perform(cut)
        octets = self._content()
        self.server.note("dot", connection=self.number)
        self._do("DOT", (STORE, b"250 2.0.0 taken\r\n"), octets)

    def _bdat(self, line: bytes) -> None:
        """A chunk (RFC 3030). It is read whatever comes of it; without a mailbox to send it to it is refused."""
        size, last = int(line.split()[1]), line.upper().endswith(b" LAST")
        while len(self.unread) < size:
            self.unread += self._receive()
        chunk, self.unread = self.unread[:size], self.unread[size:]
        self._note_content(chunk)
        self.chunks += chunk
        if last:
            self.server.note("dot", connection=self.number)
        taken: Action = (STORE, b"250 2.0.0 taken\r\n") if last else b"250 2.0.0 chunk\r\n"
        refused = b"503 5.5.1 nobody to send it to\r\n"
        self._do("DOT" if last else "BDAT", taken if self.rcpt_tos else refused, self.chunks)

    def _cut(self, after: int) -> None:
        got = len(self.unread)
        while got < after:
            got += len(self._receive(min(65536, after - got)))
        self._perform(RESET)

    def _content(self) -> bytes:
        """Read to the dot, and take the dot-stuffing off."""
        raw, noted = b"\r\n" + self.unread, 2
        start = 0
        while (end := raw.find(b"\r\n.\r\n", start)) < 0:
            self._note_content(raw[noted:])
            start, noted = max(0, len(raw) - 4), len(raw)
            raw += self._receive()
        self._note_content(raw[noted : end + 2])
        self.unread = raw[end + 5 :]
        return raw[: end + 2].replace(b"\r\n..", b"\r\n.")[2:]

    def _note_content(self, octets: bytes) -> None:
        if octets:
            self.server.note("content", octets, self.number)

    # Octets.

    def _do(self, step: str, honest: Action, octets: bytes = b"") -> bytes:
        """Do what the script says, or the honest thing; return what was said."""
        action = self.server.action(step)
        return self._perform(honest if action is None else action, octets)

    def _perform(self, action: Actions, octets: bytes = b"") -> bytes:
        said = b""
        for one in action if isinstance(action, (tuple, list)) else (action,):
            if isinstance(one, bytes):
                self.sock.sendall(one)
                said += one
            elif one is STORE:
                with self.server.changed:
                    stored = Stored(self.number, self.mail_from, tuple(self.rcpt_tos), octets)
                    self.server.stored.append(stored)
                    self.server.changed.notify_all()
            elif one is HANG:
                self.server.hang()
            else:
                if one is RESET:
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise _Over
        return said

    def _receive(self, size: int = 65536) -> bytes:
        octets = self.sock.recv(size)
        if not octets:
            raise _Over
        return octets

    def _line(self) -> bytes:
        while b"\n" not in self.unread:
            self.unread += self._receive()
        line, _, self.unread = self.unread.partition(b"\n")
        return line.removesuffix(b"\r")


def _path(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode()
