"""One SMTP session: a `Conversation` on a transport that is already connected, secured and logged in.

Nothing is decided here. What the transport brings goes into the conversation, what the conversation wants to say goes
to the transport as fast as that takes it, and its events go to whoever offered the transaction. Two things only this
side can know: time (each step has its limit, RFC 5321 §4.5.3.2), and whether an octet waits in the system's buffer
that the loop has not brought yet; while one does, nothing is said.

Never raises for what the relay or the network does. `offer` raises ValueError for an address that must never get here.
"""

import asyncio
import select
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final

from dispatcher.core.model import Envelope, HandOver, Message, Phase, SessionInfo
from dispatcher.core.ports import Clock, Transaction
from dispatcher.relays.acknowledge import acknowledging
from dispatcher.relays.conversation import Ask, Conversation, Ended, Mode

_BUFFER: Final = 512 * 1024
"""Octets the transport may hold before it makes us wait."""

_AGAIN: Final = 0.001
"""Seconds until a look whether the loop has brought what waits in the system's buffer."""


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


class SmtpSession(asyncio.Protocol):
    """A `core.ports.Session` over SMTP. It takes the transport over from whoever opened it."""

    def __init__(
        self,
        transport: asyncio.Transport,
        info: SessionInfo,
        clock: Clock,
        timeouts: Timeouts,
        *,
        mode: Mode | None = None,
        at_end: Callable[[Conversation], None] = lambda _: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._info = info
        self._timeouts = timeouts
        self._limits = {
            Phase.MAIL: timeouts.mail,
            Phase.RCPT: timeouts.rcpt,
            Phase.DATA: timeouts.data,
            Phase.BODY: timeouts.block,
            Phase.FINAL: timeouts.final,
        }
        self._conversation = Conversation(info.features, clock.boot, _unheard(transport), mode=mode)
        self._at_end = at_end
        self._paused = False
        self._pumping = False
        self._answered = False
        self._since = self._loop.time()  # of what is waited for now
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._gone = asyncio.Event()
        self._heard = asyncio.Event()  # the conversation has gone on
        self._farewell: asyncio.Future[None] | None = None
        self._shortest = min(*self._limits.values(), timeouts.rset)
        self._acknowledge = acknowledging(transport)
        transport.set_write_buffer_limits(_BUFFER)
        transport.set_protocol(self)

    @property
    def info(self) -> SessionInfo:
        """Peer, TLS version, what was offered."""
        return self._info

    @property
    def usable(self) -> bool:
        """Whether another transaction may begin."""
        return not self._conversation.over and self._farewell is None

    @property
    def room(self) -> int:
        """How many transactions may be offered now."""
        return self._conversation.room if self.usable else 0

    def offer(self, transaction: Transaction) -> None:
        """Take on one transaction; see `core.ports.Session.offer`."""
        self._conversation.offer(transaction)
        self._pump()

    async def over(self) -> None:
        """Wait until the session is not usable any more."""
        await self._over.wait()

    def abort(self, why: str) -> None:
        """Drop the connection at once; every transaction under way ends with what is known of it."""
        self._conversation.lost(why)
        self._pump()

    async def close(self) -> None:
        """QUIT if the conversation is in order, then drop the connection. Never raises for what the relay does."""
        try:
            if self.usable and self._conversation.idle:
                self._farewell = self._loop.create_future()
                self._transport.write(b"QUIT\r\n")
                await asyncio.wait((self._farewell,), timeout=self._timeouts.quit)
                self._transport.close()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._timeouts.quit):
                        await self._gone.wait()
        finally:
            self.abort("the session was closed")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeouts.quit):
                await self._gone.wait()

    async def hand_over(
        self, envelope: Envelope, message: Message, intent: Callable[[], Awaitable[bool]], *, settle: bool = False
    ) -> HandOver:
        """One transaction alone, to its end; for who sends but a few. The session is at rest when it returns.

        Raises what `intent` raises, and CancelledError, both after the connection was dropped.
        """
        ended: asyncio.Future[HandOver] = self._loop.create_future()
        made: list[asyncio.Task[None]] = []

        def intend(answer: Callable[[bool], None]) -> None:
            async def make() -> None:
                granted = False
                try:
                    granted = await intent()
                finally:
                    answer(granted)

            made.append(self._loop.create_task(make()))

        self.offer(Transaction(envelope, message, intend, ended.set_result, settle))
        try:
            await asyncio.wait((ended,))
            if made:
                await made[0]
            await self._at_rest()
        except BaseException:
            self.abort("broken off")
            for task in made:
                task.cancel()
                await asyncio.wait((task,))
            raise
        return ended.result()

    async def _at_rest(self) -> None:
        """Wait until nothing is left to be said: RSET after a refusal, and its answer."""
        while not (self._conversation.idle or self._conversation.over):
            self._heard.clear()
            await self._heard.wait()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        if self._farewell is not None:
            if not self._farewell.done():
                self._farewell.set_result(None)
            return
        taken = self._conversation.replies
        self._conversation.receive(data)
        if self._conversation.awaited is not None:  # else what we say next goes with it
            self._acknowledge()
        if self._conversation.replies != taken:  # a reply that comes octet by octet has no more time than another
            self._since = self._loop.time()
        self._pump()

    def eof_received(self) -> None:
        self._conversation.lost("the relay closed the connection")
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        if self._farewell is not None and not self._farewell.done():
            self._farewell.set_result(None)
        self._conversation.lost(f"the connection was lost: {exc or 'closed'}")
        self._pump()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._transport.set_write_buffer_limits(_BUFFER)
        self._since = self._loop.time()
        self._pump()

    # Between the two.

    def _pump(self) -> None:
        """Events out, octets out, until there is neither. An event may lead back here: once is enough."""
        if self._pumping:
            return
        self._pumping = True
        conversation = self._conversation
        events = conversation.events()
        try:
            while True:
                if events:
                    self._handle(events.popleft())
                elif conversation.over or self._paused or not self._speak():
                    break
        finally:
            self._pumping = False
            self._heard.set()
        if conversation.over:
            self._end()
        elif self._timer is None:
            self._watch()

    def _handle(self, event: Ask | Ended) -> None:
        transaction = event.transaction
        if isinstance(event, Ended):
            transaction.ended(event.facts)
        else:
            transaction.intend(lambda granted: self._answer(transaction, granted))

    def _answer(self, transaction: Transaction, granted: bool) -> None:  # noqa: FBT001 (a callback's one value)
        """Answers of one commit come together: what they allow leaves together."""
        self._conversation.answer(transaction, granted)
        if not self._answered:
            self._answered = True
            self._loop.call_soon(self._act_on_answers)

    def _act_on_answers(self) -> None:
        self._answered = False
        self._pump()

    def _speak(self) -> bool:
        """Give the transport one more piece. False if there is none, or an octet waits that nobody has read."""
        conversation = self._conversation
        if self._transport.is_closing():
            return False
        octets = conversation.octets()
        if octets is None:
            if conversation.waits_to_hear:
                self._loop.call_later(_AGAIN, self._pump)  # the loop brings it first
            return bool(conversation.events())
        self._since = self._loop.time()
        self._transport.write(octets)
        if conversation.upload_ends:
            self._transport.set_write_buffer_limits(1, 0)  # what ends the message waits until all before it has left
        return True

    def _end(self) -> None:
        """Nothing is to be said or heard any more."""
        if not self._over.is_set():
            self._over.set()
            self._at_end(self._conversation)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()

    # Time.

    def _limit(self) -> tuple[float, str]:
        """Seconds that what is waited for now may take, and the words for when it takes longer."""
        if self._conversation.resetting:
            return self._timeouts.rset, "no reply"
        awaited = self._conversation.awaited
        if awaited is not None:
            return self._limits[awaited], "no reply"
        return self._timeouts.block, "the relay took no more octets"

    def _watch(self) -> None:
        """See that something happens in time. One timer serves a whole session: it looks how long nothing happened."""
        self._timer = None
        conversation = self._conversation
        if conversation.over or conversation.idle:
            return
        limit, words = self._limit()
        waits = conversation.awaited is not None or self._paused
        left = self._since + limit - self._loop.time() if waits else limit
        if left <= 0:
            conversation.lost(f"{words} within {limit:g} s")
            self._pump()
        else:
            self._timer = self._loop.call_later(min(left, self._shortest), self._watch)


def _unheard(transport: asyncio.BaseTransport) -> Callable[[], bool]:
    """Whether octets (or the end) wait in the system's buffer of a transport's socket."""
    sock = transport.get_extra_info("socket")
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return lambda: bool(poll.poll(0))
