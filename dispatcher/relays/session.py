"""One SMTP session: mail transactions over a connection that is already set up (RFC 5321 §3.3).

A transaction goes in lock-step: MAIL, RCPT for each forward path, DATA, the content, and the terminator (the final
dot) as a write of its own. The order that keeps the promise:

  - before and after every command no unread octet may wait, so that one reply never answers two commands;
  - the intent is made durable while the last block of the content goes out, not earlier: on a slow line the rest
    of a large message would outlast it;
  - the terminator leaves only if the intent was granted no more than 30 s ago by the clock that runs through sleep,
    nothing unread waits, and the connection stands;
  - after the terminator only a whole 2yz, 4yz or 5yz reply is a reply, everything else is a fault; so is a second
    reply behind the first, for nobody can say which is meant, unless it is a 421: then the relay only closes.

It never retries, never says what a reply means (`core.policy` does), and never raises for what the relay or the
network does. It raises ValueError for an address that could break out of its command, what `intent` raises, and
CancelledError, the last two after the connection was dropped.
"""

import asyncio
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Final

from dispatcher.core.model import Envelope, HandOver, Message, Phase, RcptReply, Reply, SessionInfo
from dispatcher.core.ports import Clock, Intent
from dispatcher.relays.wire import Fault, Wire

BLOCK: Final = 64 * 1024
"""Octets of content given to the transport at a time."""

INTENT_LIFE: Final = 30.0
"""Seconds between the intent and the terminator; later, somebody else may have taken the letter over."""

_MAX_ADDRESS: Final = 254
_CRLF: Final = b"\r\n"


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait at each step; RFC 5321 §4.5.3.2 is the measure. `block` is for each block of content."""

    connect: float = 30
    greeting: float = 300
    ehlo: float = 300
    starttls: float = 60
    auth: float = 120
    mail: float = 300
    rcpt: float = 300
    data: float = 120
    block: float = 180
    final: float = 600
    rset: float = 20
    quit: float = 5

    def scaled(self, factor: float) -> "Timeouts":
        """All of them, longer or shorter."""
        return Timeouts(**{name: seconds * factor for name, seconds in asdict(self).items()})


@dataclass
class _Facts:
    """What is known of a transaction so far."""

    phase: Phase = Phase.MAIL
    rcpts: list[RcptReply] = field(default_factory=list)
    terminator: bool = False

    def hand_over(self, reply: Reply | None = None, fault: str = "", *, retracted: bool = False) -> HandOver:
        return HandOver(self.phase, reply, tuple(self.rcpts), self.terminator, fault, retracted)


class SmtpSession:
    """A `core.ports.Session` over SMTP."""

    def __init__(self, wire: Wire, info: SessionInfo, clock: Clock, timeouts: Timeouts) -> None:
        self._wire = wire
        self._info = info
        self._clock = clock
        self._timeouts = timeouts
        self._spent = False

    @property
    def info(self) -> SessionInfo:
        """Peer, TLS version, what was offered."""
        return self._info

    @property
    def usable(self) -> bool:
        """Whether another transaction may begin."""
        return not self._spent and self._wire.alive and not self._wire.pending

    async def hand_over(
        self, envelope: Envelope, message: Message, intent: Intent, *, settle: bool = False
    ) -> HandOver:
        """One transaction; see `core.ports.Session.hand_over`.

        What the relay is known not to take (too large, SMTPUTF8, 8-bit content) is refused without a byte sent, with
        a reply of our own whose text says `(dispatcher)`; the session stays usable. Raises ValueError for an address
        that must never get here.
        """
        for path in (envelope.return_path, *envelope.forward_paths):
            check_path(path)
        if not envelope.forward_paths or "" in envelope.forward_paths:
            raise ValueError("an envelope needs at least one forward path, and none may be empty")
        facts = _Facts()
        if self._spent:
            return facts.hand_over(fault="the session is over")
        if (refusal := self._unsuitable(envelope, message)) is not None:
            return facts.hand_over(refusal)
        try:
            return await self._transaction(facts, envelope, message, intent, settle=settle)
        except Fault as fault:
            self._drop()
            return facts.hand_over(fault=str(fault))
        except BaseException:
            self._drop()
            raise

    async def close(self) -> None:
        """QUIT if the conversation is in order, then drop the connection. Never raises for what the relay does."""
        try:
            if self.usable:
                self._spent = True
                await self._wire.command(b"QUIT", self._timeouts.quit)
                await self._wire.close(self._timeouts.quit)
        except Fault:
            pass
        finally:
            self._drop()
        await self._wire.close(self._timeouts.quit)

    def _drop(self) -> None:
        self._spent = True
        self._wire.drop()

    # The envelope.

    def _unsuitable(self, envelope: Envelope, message: Message) -> Reply | None:
        """Our own refusal of what the relay has said it does not take."""
        features = self._info.features
        if envelope.smtputf8 and "SMTPUTF8" not in features:
            return Reply(553, "5.6.7 (dispatcher) the relay does not offer SMTPUTF8, which an address needs")
        limit = features.get("SIZE", "")
        if limit.isdecimal() and 0 < int(limit) < message.size:
            return Reply(552, f"5.3.4 (dispatcher) {message.size} octets, and the relay takes {limit}")
        if "8BITMIME" not in features and not _is_ascii(message):
            return Reply(554, "5.6.3 (dispatcher) the relay does not offer 8BITMIME, which the message needs")
        return None

    def _mail_line(self, envelope: Envelope, message: Message) -> bytes:
        line = f"MAIL FROM:<{envelope.return_path}>"
        if "SIZE" in self._info.features:  # RFC 1870 §6
            line += f" SIZE={message.size}"
        if not _is_ascii(message):  # RFC 6152 §3
            line += " BODY=8BITMIME"
        if envelope.smtputf8:  # RFC 6531 §3.4
            line += " SMTPUTF8"
        return line.encode()

    async def _transaction(
        self, facts: _Facts, envelope: Envelope, message: Message, intent: Intent, *, settle: bool
    ) -> HandOver:
        wire, timeouts = self._wire, self._timeouts
        reply = await wire.command(self._mail_line(envelope, message), timeouts.mail)
        if not _positive(reply):
            return await self._refused(facts, reply)
        facts.phase = Phase.RCPT
        for path in envelope.forward_paths:
            reply = await wire.command(f"RCPT TO:<{path}>".encode(), timeouts.rcpt)
            _positive(reply)
            facts.rcpts.append(RcptReply(path, reply))
            if reply.code == 421:
                return await self._refused(facts, reply)
        if (refusal := _stopped_by([rcpt.reply for rcpt in facts.rcpts], settle=settle)) is not None:
            return await self._refused(facts, refusal)
        facts.phase = Phase.DATA
        reply = await wire.command(b"DATA", timeouts.data)
        if reply.code != 354:
            if _positive(reply):
                raise _out_of_place(reply)
            return await self._refused(facts, reply)
        facts.phase = Phase.BODY
        return await self._content(facts, message, intent)

    async def _refused(self, facts: _Facts, reply: Reply) -> HandOver:
        """Begin afresh after a refusal: RSET, or no more of this session."""
        if reply.code == 421:  # the relay closes (RFC 5321 §3.8)
            self._spent = True
        else:
            try:
                answer = await self._wire.command(b"RSET", self._timeouts.rset)
                self._spent = answer.code != 250
            except Fault:
                self._drop()
        return facts.hand_over(reply)

    # The content.

    async def _content(self, facts: _Facts, message: Message, intent: Intent) -> HandOver:
        *blocks, last = _blocks(message)
        for block in blocks:
            await self._write(block)
        granted_at = await self._write_with_intent(last, intent)
        if granted_at is None:
            self._drop()
            return facts.hand_over(fault="the intent was refused", retracted=True)
        self._wire.ready("before the end of the message")
        if self._clock.boot() - granted_at > INTENT_LIFE:
            self._drop()
            return facts.hand_over(fault=f"more than {INTENT_LIFE:g} s went by after the intent", retracted=True)
        facts.terminator = True
        facts.phase = Phase.FINAL
        self._wire.write(_terminator(message))
        reply = await self._final_reply()
        if not _positive(reply) and not self._spent:
            return await self._refused(facts, reply)
        return facts.hand_over(reply)

    async def _final_reply(self) -> Reply:
        """The one reply to the message. A 421 behind it spends the session; anything else there is a Fault."""
        reply = await self._wire.reply(self._timeouts.final)
        if self._wire.pending:
            self._spent = True
            when = f"after its reply to the message ({reply})"
            second = None
            with suppress(Fault):
                second = await self._wire.reply(0)  # what is there now; half a reply stays where it is
            self._wire.quiet(when)
            if second is None or second.code != 421:
                raise Fault(f"the relay spoke out of turn {when}: {second}")
        return reply

    async def _write(self, block: bytes | memoryview) -> None:
        self._wire.ready("during the message")
        self._wire.write(block)
        await self._wire.drained(self._timeouts.block)

    async def _write_with_intent(self, block: bytes | memoryview, intent: Intent) -> float | None:
        """Write the last block while the intent is made; return when it was granted, or None if it was not.

        The intent is never left running: a fault waits for it, a cancellation cancels it.
        """

        async def granted() -> float | None:
            asked_at = self._clock.boot()  # it was made no earlier; a sleep while it is written counts too
            return asked_at if await intent() else None

        task = asyncio.create_task(granted())
        fault = None
        try:
            try:
                await self._write(block)
            except Fault as error:
                self._drop()
                fault = error
            await asyncio.wait((task,))
        except BaseException:
            self._drop()
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled():
                task.exception()  # seen, and less than what is raised now
            raise
        at = task.result()
        if fault is not None:
            raise fault
        return at


def check_path(path: str) -> None:
    """Raise ValueError for a path that could break out of its command line, or is longer than RFC 5321 allows.

    A guard against our own bugs: addresses have been validated long before.
    """
    if len(path.encode()) > _MAX_ADDRESS:
        raise ValueError(f"an address of more than {_MAX_ADDRESS} octets")
    if any(c in "<>" or c.isspace() or unicodedata.category(c) == "Cc" for c in path):
        raise ValueError(f"an address with a control character, a space or an angle bracket: {path!r}")


def _positive(reply: Reply) -> bool:
    """True for 2yz, False for 4yz and 5yz. Raises Fault for 3yz: only DATA gets one."""
    if reply.code // 100 == 3:
        raise _out_of_place(reply)
    return reply.code // 100 == 2


def _out_of_place(reply: Reply) -> Fault:
    return Fault(f"a reply out of place: {reply}")


def _stopped_by(replies: list[Reply], *, settle: bool) -> Reply | None:
    """The reply to RCPT for which no content follows, or None if it shall.

    A refusal for now counts more than one for good: the letter can still go to that mailbox later.
    """
    later = next((reply for reply in replies if reply.code // 100 == 4), None)
    if any(reply.code // 100 == 2 for reply in replies) and (settle or later is None):
        return None
    return later or replies[-1]


def _is_ascii(message: Message) -> bool:
    return all(part.isascii() for part in (message.date, message.own, *message.shared))


def _terminator(message: Message) -> bytes:
    tail = b"".join(part[-2:] for part in (message.date, message.own, *message.shared))[-2:]
    return b".\r\n" if tail in (b"", _CRLF) else b"\r\n.\r\n"


def _stuffed(part: bytes) -> bytes:
    """Dot-stuff what begins at the beginning of a line (RFC 5321 §4.5.2). Dots after a bare CR or LF are left."""
    stuffed = part.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if part.startswith(b".") else stuffed


# Stuffed once a campaign: a shared part is the same object for every letter, and bytes remember their hash.
_stuffed_shared: Callable[[bytes], bytes] = lru_cache(maxsize=8)(_stuffed)


def _blocks(message: Message) -> Iterator[bytes | memoryview]:
    """The content, dot-stuffed, without the terminator; at least one block. What is small goes in one."""
    parts = [part for part in (message.date + message.own, *message.shared) if part] or [b""]
    if all(part.endswith(_CRLF) for part in parts[:-1]):
        stuffed = [_stuffed(parts[0]), *map(_stuffed_shared, parts[1:])]
    else:
        stuffed = [_stuffed(message.octets)]  # a line goes across a seam
    if sum(map(len, stuffed)) <= BLOCK:
        yield b"".join(stuffed)
        return
    for part in stuffed:
        view = memoryview(part)
        for start in range(0, len(part), BLOCK):
            yield view[start : start + BLOCK]
