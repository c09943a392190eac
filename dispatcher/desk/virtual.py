"""Time that passes only while nobody has anything to do, so that a rehearsal of days takes seconds.

    time = VirtualTime(start)
    with asyncio.Runner(loop_factory=time.loop) as runner:
        runner.run(...)      # sleeps, time-outs, pauses: all by this time, in their order

It is known, not guessed, that there is nothing to do: everything happens in one thread. What a loop is asked to do in
another one it does there and then, and so must whoever has a thread of his own (`SqliteLedger`, `fleeting`); and what
one side of a connection has written to a UNIX socket the other side can read at once. So when the loop is to wait, and
no socket is ready, only time can bring anything, and it is put forward to the next moment that somebody waits for.
However slow machine or disk are, no time passes while they work: nothing comes too late that was not made to.

Octets by TCP may be on their way inside the system, so there `settle` real seconds are waited first. That is a guess,
and only systems without UNIX sockets need it.
"""

import asyncio
import selectors
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

Events = list[tuple[selectors.SelectorKey, int]]


class VirtualTime:
    """As `core.ports.Clock`; `loop` makes loops that go by it, one at a time. `settle`: see the module."""

    def __init__(self, start: datetime, *, settle: float = 0.0) -> None:
        self.seconds = 0.0
        self._start = start
        self.settle = settle

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.seconds)

    def boot(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def put_forward(self, moment: datetime) -> None:
        """Go on to a moment, if that is still to come. Not while a loop runs."""
        self.seconds = max(self.seconds, (moment - self._start).total_seconds())

    def loop(self) -> asyncio.AbstractEventLoop:
        """A new event loop."""
        return _Loop(self, _Selector(self))


class _Selector(selectors.DefaultSelector):
    """Puts the time forward where others wait."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self._time = time

    def select(self, timeout: float | None = None) -> Events:
        if timeout is None:
            return super().select(None)  # for a signal, say: no time is waited for
        events = super().select(0 if timeout <= 0 else self._time.settle)
        if not events and timeout > 0:
            self._time.seconds += timeout
        return events


class _Loop(asyncio.SelectorEventLoop):
    """The standard loop on virtual time. It has no threads."""

    def __init__(self, time: VirtualTime, selector: _Selector) -> None:
        super().__init__(selector)
        self._virtual = time

    def time(self) -> float:
        return self._virtual.seconds

    def run_in_executor(  # type: ignore[override]
        self,
        executor: Any,  # noqa: ARG002 (there is none)
        func: Callable[..., Any],
        *args: Any,
    ) -> "asyncio.Future[Any]":
        """Do it here and now."""
        done: asyncio.Future[Any] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 (told to whoever asked)
            done.set_exception(error)
        return done
