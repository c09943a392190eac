"""The letters a run has leased and nobody works on yet, and when there will be more.

It leases in good time, a batch at a time, hands out the letters whose turn in the pace has come, and tells the lines
that found none. When nothing can be done now it waits for what is in flight, for a time of day, or ends the run.
Letters that are still here when a run ends stay leased: whoever opened the run closes it, and they wait again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Final, Protocol

from dispatcher.core.model import Lease, Leased
from dispatcher.core.ports import Clock, Ledger
from dispatcher.dispatch.terms import Close, Tally

_NAP: Final = 600.0
"""Seconds after which a wait for a time of day looks at the clock again: the machine may have slept meanwhile."""
_LOOK: Final = 5.0
"""Seconds after which a run whose letters wait for their recipients' domains looks for others that are due."""


class Judge(Protocol):
    """Who holds letters back until it is known what their refusal meant."""

    @property
    def holds(self) -> bool: ...

    async def judge(self) -> None: ...


class Stock:
    """See the module.

    It holds up to `size` letters, and leases but a `few` at a time where they have a pace. `end` ends the run,
    `goes_on` says whether anything new may be taken up; `feed` tells the lines that there may be letters; `sleep` does
    not sleep through the end of the run.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        tally: Tally,
        judge: Judge,
        *,
        size: int,
        few: int,
        wait: bool,
        goes_on: Callable[[], bool],
        end: Callable[[Close, str, datetime | None], None],
        feed: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tally = tally
        self._judge = judge
        self._size = size
        self._few = few
        self._paced = True  # until a lease shows otherwise
        self._wait = wait
        self._goes_on = goes_on
        self._end = end
        self._feed = feed
        self._sleep = sleep
        self._letters: deque[Leased] = deque()
        self._event = asyncio.Event()
        self._dry = False  # the ledger had no more, and nothing has changed since
        self.closed_until: datetime | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a letter whose turn has come."""
        return bool(self._letters) and not self._closed and self._letters[0].not_before <= self._clock.now()

    @property
    def _closed(self) -> bool:
        return self.closed_until is not None and self.closed_until > self._clock.now()

    @property
    def _runs_low(self) -> bool:
        """Whether to lease more. With a pace those that are here are enough, however few."""
        if self._dry or not self._letters:
            return not self._dry
        return 2 * len(self._letters) <= self._size and not self._paced

    def take(self) -> Leased | None:
        """The next letter whose turn has come, if there is one now."""
        if not self._goes_on() or not self.ready:
            return None
        letter = self._letters.popleft()
        if self._runs_low or (self._letters and self._letters[0].not_before > letter.not_before):
            self._event.set()  # lease more, or sleep until the next one's turn
        return letter

    def put_back(self, letter: Leased) -> None:
        """Nothing was tried: it is the next one."""
        self._letters.appendleft(letter)
        self._event.set()

    def changed(self) -> None:
        """Something has come to its end; it may have made letters due."""
        self._dry = False
        if not self._letters:
            self._event.set()

    def wake(self) -> None:
        """Look again: the run may be over."""
        self._event.set()

    async def keep(self) -> None:
        """Lease and hand out, for as long as the run goes on. Raises LedgerUnavailable."""
        while self._goes_on():
            self._event.clear()
            seconds = None
            if self._closed and self.closed_until:
                seconds = min(_NAP, self._until(self.closed_until))
            elif self._runs_low:
                seconds = await self._lease()
            fed_at = self._clock.now()
            self._feed()
            if self._goes_on() and not self._event.is_set():
                await self._rest(seconds, fed_at)

    async def _rest(self, seconds: float | None, fed_at: datetime) -> None:
        """Until something happens, or so many seconds, or the turn comes of the first letter that had none when fed."""
        if seconds is None and self._letters and self._letters[0].not_before > fed_at:
            seconds = max(0.0, self._until(self._letters[0].not_before))
        if seconds is None:
            await self._event.wait()
        else:
            await first_of(self._event.wait(), self._sleep(seconds))

    def _until(self, moment: datetime) -> float:
        return (moment - self._clock.now()).total_seconds()

    async def _lease(self) -> float | None:
        """Take up more. If there is nothing at all now: how many seconds to wait, or None for what is in flight."""
        # With a pace only a few: were the clock to leap or the relay to be away, all that are here would leave at once.
        lease = await self._ledger.lease(max(1, (self._few if self._paced else self._size) - len(self._letters)))
        self._letters.extend(lease.letters)
        if len(lease.letters) > 1:
            self._paced = lease.letters[-1].not_before > lease.letters[0].not_before
        if lease.letters or self._event.is_set():
            return None
        self._dry = True
        if self._letters:
            return None
        return await self._nothing_now(lease)

    async def _nothing_now(self, lease: Lease) -> float | None:
        if lease.pace_free_at:  # what is in flight may be there long before that, or after
            self._dry = False
            return min(_LOOK, max(0.05, self._until(lease.pace_free_at)))
        if self._tally.in_flight:
            return None
        if lease.quota_free_at and self._judge.holds:
            await self._judge.judge()  # they count against the quota, and no other letter can tell
            self.changed()
        elif lease.next_due_at is None:
            self._end(Close.FINISHED, "", None)
        else:
            return self._later(max(lease.next_due_at, lease.quota_free_at or lease.next_due_at), lease)
        return None

    def _later(self, until: datetime, lease: Lease) -> float | None:
        if self._wait:
            self._dry = False
            return min(_NAP, max(0.05, self._until(until)))
        if until == lease.quota_free_at:
            self._end(Close.QUOTA, "the quota is used up", until)
        else:
            self._end(Close.WAITING, "letters are due later", until)
        return None


async def first_of(*doings: Awaitable[object]) -> None:
    """Wait for the first of them, and break the others off."""
    tasks = [asyncio.ensure_future(doing) for doing in doings]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
