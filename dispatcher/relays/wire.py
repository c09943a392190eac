"""The bytes-level end of a session: write commands and content, read replies, one at a time.

A Wire takes over a transport that somebody else has opened, secured and logged in. It keeps every octet that comes,
so that an octet nobody asked for cannot be mistaken for the answer to the next command (`quiet`). It never decides
what a reply means.

Everything that goes wrong - connection lost, time-out, what is no reply - raises Fault, which says in words what
happened; then the wire is of no more use and must be dropped.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from dispatcher.core.model import Reply
from dispatcher.relays.replies import ProtocolError, ReplyReader

T = TypeVar("T")


class Fault(Exception):
    """There is no reply, and why, in words."""


class Wire(asyncio.Protocol):
    """One connection, used by one task at a time."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._replies = ReplyReader()
        self._lost = ""
        self._paused = False
        self._change: asyncio.Future[None] | None = None
        self._gone = asyncio.get_running_loop().create_future()
        transport.set_protocol(self)

    # What the transport calls.

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._lost or f"the connection was lost: {exc or 'closed'}"
        if not self._gone.done():
            self._gone.set_result(None)
        self._wake()

    def eof_received(self) -> None:
        self._lost = self._lost or "the relay closed the connection"
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def _wake(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    # What the session calls.

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return not self._lost and not self._transport.is_closing()

    @property
    def pending(self) -> bool:
        """Whether an octet waits that nobody asked for."""
        return self._replies.pending

    def quiet(self, when: str) -> None:
        """Raise Fault if an octet waits that nobody asked for."""
        if not self.pending:
            return
        try:
            said = str(self._replies.next() or "half a reply")
        except ProtocolError as error:
            said = str(error)
        raise Fault(f"the relay spoke out of turn {when}: {said}")

    def ready(self, when: str) -> None:
        """Raise Fault unless the connection stands and is quiet."""
        self.quiet(when)
        if not self.alive:
            raise Fault(self._lost or "the connection is closed")

    def write(self, octets: bytes | memoryview) -> None:
        """Give octets to the transport, in one piece."""
        self._transport.write(octets)

    async def drained(self, seconds: float) -> None:
        """Wait until the transport takes more octets, or the relay speaks. Raises Fault after `seconds`."""
        await self._until(lambda: not self._paused or self.pending or None, seconds, "the relay took no more octets")

    async def reply(self, seconds: float) -> Reply:
        """The next whole reply. Raises Fault if it does not come within `seconds`, or is none."""
        try:
            return await self._until(self._replies.next, seconds, "no reply")
        except ProtocolError as error:
            raise Fault(str(error)) from None

    async def command(self, line: bytes, seconds: float) -> Reply:
        """Send one command line, without its CRLF, and return the one reply to it."""
        name = line[:4].decode("ascii", "replace")
        self.ready(f"before {name}")
        self.write(line + b"\r\n")
        reply = await self.reply(seconds)
        self.quiet(f"after its reply to {name} ({reply.code})")
        return reply

    async def _until(self, have: Callable[[], T | None], seconds: float, what: str) -> T:
        """Wait for something the transport's calls bring about, for as long as the connection stands."""
        try:
            async with asyncio.timeout(seconds):
                while (thing := have()) is None:
                    if self._lost:
                        raise Fault(f"{self._lost} in the middle of a reply" if self.pending else self._lost)
                    self._change = asyncio.get_running_loop().create_future()
                    await self._change
        except TimeoutError:
            raise Fault(f"{what} within {seconds:g} s") from None
        return thing

    def drop(self) -> None:
        """Break the connection off at once; what the transport still holds is thrown away."""
        self._transport.abort()

    async def close(self, seconds: float) -> None:
        """Close in order (with close_notify under TLS), and wait for the end of it, but no longer than `seconds`."""
        self._transport.close()
        await asyncio.wait((self._gone,), timeout=seconds)
