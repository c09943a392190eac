"""The loop: lease → prepare → hand over → record. It knows no SMTP and no SQL; it takes ports, a clock and a stop flag.

Each worker holds one connection and one letter at a time. What happened to a letter is decided by `core.policy` alone;
here the decision is carried out. A letter is concluded in the ledger before its worker's next intent, so that at most
one letter a connection can ever be unknown. A worker that the relay does not want any more puts its letter back and
rests, longer each time; the last one that stands knocks for all.

Letters that are still leased when a run ends (never tried, or refused by policy and not judged) stay leased: whoever
opened the run closes it, and they wait again. Never does it retry a letter whose terminator may have left. Raises
LedgerUnavailable, PlanConflict, and what the relay's password raises; everything else is an Ending.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from dispatcher.core import policy
from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.model import HandOver, Leased, Outcome, Phase
from dispatcher.core.policy import Scope, Verdict
from dispatcher.core.ports import Clock, Ledger, Relay, RelayTrouble, Session
from dispatcher.dispatch.record import Recorder
from dispatcher.dispatch.terms import WORKED_THROUGH, Close, Prepare, Report, Settings, Tally

T = TypeVar("T")

_NAP: Final = 600.0
"""Seconds after which a wait for a time of day looks at the clock again: the machine may have slept meanwhile."""
_LOOK: Final = 5.0
"""Seconds after which a run whose letters wait for their recipients' domains looks for others that are due."""
_FAREWELL: Final = 0.5
"""Seconds to close a connection once everything is to stop at once."""


@dataclass(slots=True)
class _Intent:
    """The intent of one hand-over: asked for by the session, made by the ledger.

    `granted`: the session was told that the terminator may leave. Before that it has not left, whatever happens.
    """

    allowed: Callable[[], bool]
    make: Callable[[], Coroutine[None, None, int | None]]
    granted: bool = False
    _made: asyncio.Task[int | None] | None = None

    async def __call__(self) -> bool:
        if not self.allowed():
            return False
        # Shielded: the ledger's answer is wanted even if the hand-over is broken off meanwhile.
        self._made = asyncio.create_task(self.make())
        self.granted = await asyncio.shield(self._made) is not None
        return self.granted

    async def attempt(self) -> tuple[bool, int | None]:
        """Whether the letter was suppressed meanwhile, and the attempt's number if the intent was made."""
        if self._made is None:
            return False, None
        number = await self._made
        return number is None, number


@dataclass(slots=True)
class _Line:
    """One worker's connection: the session, its number in the ledger, and how many letters it was given."""

    session: Session | None = None
    number: int = 0
    used: int = 0


class Dispatch:
    """One run. `run` may be called once; `stop` from any task of the same loop."""

    def __init__(
        self,
        ledger: Ledger,
        relay: Relay,
        prepare: Prepare,
        clock: Clock,
        settings: Settings,
        spread: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._relay = relay
        self._prepare = prepare
        self._clock = clock
        self._settings = settings
        self._spread = spread
        self.report = Report()
        self._stock: deque[Leased] = deque()  # leased, and in no worker's hands
        self._door = asyncio.Lock()  # one worker at a time asks for letters
        self._gate = asyncio.Lock()  # one worker at a time knocks at a relay that does not answer
        self._change = asyncio.Event()  # the stock, or what is in flight
        self._stopping = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._at_once = False
        self._tasks: list[asyncio.Task[None]] = []
        self._sessions = 0
        self._reached = False  # a session was set up at least once in this run
        self._failures = 0  # in a row, to set up a session while there was none
        self._trouble = ""
        self._quota_until: datetime | None = None  # the relay said that its quota is used up
        self._recorder = Recorder(
            ledger, clock, spread, self.tally, lambda why: self._close(Close.PAUSED, why), settings.rules
        )

    @property
    def tally(self) -> Tally:
        return self.report.tally

    async def run(self) -> Report:
        """Work until nothing can be done now, or `stop`. Returns why it ended."""
        self._tasks = [asyncio.create_task(self._worker()) for _ in range(self._settings.connections)]
        workers = asyncio.gather(*self._tasks, return_exceptions=True)
        interrupted = asyncio.create_task(self._interrupt.wait())
        either: set[asyncio.Future[Any]] = {workers, interrupted}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({workers}, timeout=self._settings.grace)
        finally:
            interrupted.cancel()
            self._break_off()
            results = await workers
        for result in results:
            if isinstance(result, Exception):
                raise result
        self._close(Close.UNAVAILABLE, self._trouble)  # no reason so far: every worker went home
        if self.report.close in WORKED_THROUGH:
            await self._recorder.judge()
        return self.report

    def stop(self) -> None:
        """Take up nothing new; finish what is in flight. Called again: break everything off at once."""
        if self._interrupt.is_set():
            self._break_off()
        self._interrupt.set()
        self._close(Close.INTERRUPTED, "stopped by a person")

    def _break_off(self) -> None:
        if not self._at_once:  # once: what a worker does after it must not be broken off again
            self._at_once = True
            for task in self._tasks:
                task.cancel()

    def _close(self, close: Close, why: str, until: datetime | None = None) -> None:
        """End the run; the first reason counts."""
        if not self._stopping.is_set():
            self.report.close, self.report.why, self.report.until = close, why, until
            self._stopping.set()
            self._change.set()

    def _too_late(self) -> bool:
        return self._settings.not_after is not None and self._clock.now() >= self._settings.not_after

    def _goes_on(self) -> bool:
        """Whether anything new may be taken up."""
        if self._settings.not_after and self._too_late():
            self._close(Close.DEADLINE, f"not_after {self._settings.not_after.isoformat()} has passed")
        return not self._stopping.is_set()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not through a stop or the end of the time."""
        if self._settings.not_after:
            seconds = min(seconds, max(0.0, (self._settings.not_after - self._clock.now()).total_seconds()))
        await self._unless_stopped(self._clock.sleep(seconds))

    async def _unless_stopped(self, doing: Coroutine[None, None, T]) -> T | None:
        """Do it, or break it off at a stop and return None."""
        task = asyncio.create_task(doing)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            task.cancel()
        await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    # One worker.

    async def _worker(self) -> None:
        """Letters one after the other, until there are none, or the relay does not want this connection."""
        line = _Line()
        refusals = 0  # in a row, of this very connection
        try:
            while letter := await self._next():
                refusals = 0 if await self._welcome(letter, line) else refusals + 1
                if refusals and not await self._rested(refusals, line):
                    return
        except Exception as error:
            self._close(Close.UNAVAILABLE, "an error inside")
            if isinstance(error, LedgerUnavailable):
                self._interrupt.set()  # no outcome can be recorded any more: no use in waiting long for any
            raise
        finally:
            await self._let_go(line)

    async def _welcome(self, letter: Leased, line: _Line) -> bool:
        """Work on one letter. False if the relay wants fewer connections, or slower ones."""
        self.tally.in_flight += 1
        try:
            if not await self._connected(line):
                self._stock.appendleft(letter)
                return False
            line.used += 1
            verdict = await self._one(letter, line)
            if verdict and verdict.scope is Scope.QUOTA:
                self._quota_used_up(verdict.why)
            if verdict is None or verdict.scope is not Scope.RATE:
                return True
            self._trouble = verdict.why
            await self._let_go(line)
            return line.used > 1  # it had enough of a long connection: a new one will do
        finally:
            self.tally.in_flight -= 1
            self._change.set()

    async def _rested(self, refusals: int, line: _Line) -> bool:
        """Stay away for a while; False if this worker is to go home."""
        await self._let_go(line)
        if not self._goes_on() or (refusals > len(self._settings.back_off) and not self._settings.wait):
            return False
        pause = self._settings.pause(refusals) * (1 + 0.2 * self._spread())
        await self._sleep(max(pause, policy.asked_pause(self._trouble)))
        return True

    async def _let_go(self, line: _Line) -> None:
        if line.session is None:
            return
        session, line.session = line.session, None
        self._sessions -= 1
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL if self._at_once else None):
                await session.close()

    async def _next(self) -> Leased | None:
        """The next letter whose turn has come, or None when this worker can go home."""
        async with self._door:
            while self._goes_on():
                if self._quota_until and self._quota_until > self._clock.now():
                    await self._sleep(min(_NAP, (self._quota_until - self._clock.now()).total_seconds()))
                elif not self._stock:
                    await self._restock()
                elif (pause := (self._stock[0].not_before - self._clock.now()).total_seconds()) > 0:
                    await self._sleep(pause)
                else:
                    return self._stock.popleft()
        return None

    async def _restock(self) -> None:
        """Lease more; if there is nothing now, wait for those in flight, or for the time, or end the run."""
        self._change.clear()
        lease = await self._ledger.lease(2 * self._settings.connections)
        self._stock.extend(lease.letters)
        if self._stock or self._change.is_set():
            return  # what happened meanwhile may have made letters due
        if lease.pace_free_at:  # what is in flight may be there long before that, or after
            await self._sleep(min(_LOOK, max(0.05, (lease.pace_free_at - self._clock.now()).total_seconds())))
        elif self.tally.in_flight:
            await self._change.wait()
        elif lease.quota_free_at and self._recorder.holds:
            await self._recorder.judge()  # they count against the quota, and no other letter can tell
        elif lease.next_due_at is None:
            self._close(Close.FINISHED, "")
        else:
            until = max(lease.next_due_at, lease.quota_free_at or lease.next_due_at)
            if self._settings.wait:
                await self._sleep(min(_NAP, max(0.05, (until - self._clock.now()).total_seconds())))
            elif until == lease.quota_free_at:
                self._close(Close.QUOTA, "the quota is used up", until)
            else:
                self._close(Close.WAITING, "letters are due later", until)

    # The relay.

    async def _connected(self, line: _Line) -> bool:
        """A session for the next letter. False if the run ends, or others are connected and this one was not let in."""
        if line.session and line.session.usable:
            return True
        await self._let_go(line)
        while self._goes_on():
            try:
                session = await self._knock()
            except RelayTrouble as trouble:
                rules = self._settings.rules
                if self._gives_up(policy.classify_trouble(trouble.phase, trouble.reply, trouble.fault, rules)):
                    return False
            else:
                return session is not None and await self._opened(line, session)
        return False

    async def _knock(self) -> Session | None:
        """A session, or None at a stop. Raises RelayTrouble."""
        if self._reached and not self._failures:
            return await self._unless_stopped(self._relay.connect())
        async with self._gate:
            if self._failures:
                await self._sleep(self._settings.pause(self._failures) * (1 + 0.2 * self._spread()))
            return await self._unless_stopped(self._relay.connect()) if self._goes_on() else None

    async def _opened(self, line: _Line, session: Session) -> bool:
        line.session, line.used = session, 0
        self._sessions += 1
        self._reached, self._failures = True, 0
        line.number = await self._ledger.open_session(session.info)
        return not self._stopping.is_set()

    def _gives_up(self, verdict: Verdict) -> bool:
        """Whether this worker stops knocking after a session could not be set up."""
        self._trouble = verdict.why
        if verdict.scope is Scope.QUOTA:
            self._quota_used_up(verdict.why)
            return True
        if verdict.outcome is Outcome.FAILED:
            self._close(Close.PAUSED, verdict.why)
            return True
        if self._sessions:
            return True  # others are connected: one fewer for now
        self._failures += 1
        if self._settings.wait or (self._reached and self._failures <= len(self._settings.back_off)):
            return False
        self._close(Close.UNAVAILABLE, verdict.why)
        return True

    def _quota_used_up(self, why: str) -> None:
        """The relay said so: end the run, or stay and leave it alone until its quota is there again."""
        until = self._clock.now() + self._settings.quota_reset
        if self._settings.wait:
            self._quota_until = until
        else:
            self._close(Close.QUOTA, why, until)

    # One letter.

    async def _one(self, letter: Leased, line: _Line) -> Verdict | None:
        """Hand one letter over and record how it ended. Returns None if nothing was tried, or it was suppressed."""
        session = line.session
        if session is None:
            raise RuntimeError("a letter without a connection")
        date = letter.date or self._clock.now().replace(microsecond=0)
        prepared = self._prepare(letter, date)
        intent = _Intent(
            lambda: not self._too_late(),
            lambda: self._ledger.intend(letter, line.number, date, prepared.message_digest),
        )
        settle = letter.attempts + 1 >= policy.SETTLE_AFTER
        try:
            facts = await session.hand_over(prepared.envelope, prepared.message, intent, settle=settle)
        except asyncio.CancelledError:
            if not intent.granted:
                stopped = HandOver(Phase.BODY, fault="stopped before the end of the message", retracted=True)
                await self._record(letter, line.number, intent, stopped)
            raise
        return await self._record(letter, line.number, intent, facts)

    async def _record(self, letter: Leased, session: int, intent: _Intent, facts: HandOver) -> Verdict | None:
        suppressed, attempt = await intent.attempt()
        if suppressed:
            self.tally.suppressed += 1
            return None
        if facts.retracted and attempt is None:
            self._stock.appendleft(letter)  # the time is over, or the run is: nothing was tried
            return None
        return await self._recorder.conclude(letter, session, attempt, facts)
