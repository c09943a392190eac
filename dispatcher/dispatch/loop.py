"""The loop: lease → prepare → hand over → record. It knows no SMTP and no SQL; it takes ports, a clock and a stop flag.

    Stock     what is leased and waits               Circuit   when to knock at a relay that is down
    Line      one connection at work                 Crowd     how many connections the relay is glad of
    Recorder  what each letter came to

A worker opens a connection, lets it work until it is to be left (so many letters, so long, or the relay has had enough
of it), and opens the next. The run is over when the stock says so; then the workers finish what they have in hand.
What happened to a letter is decided by `core.policy` alone; here the decision is carried out.

Letters that are still leased when a run ends (never tried, or refused by policy and not judged) stay leased: whoever
opened the run closes it, and they wait again. Never does it retry a letter whose terminator may have left. Raises
LedgerUnavailable and PlanConflict; everything else is an Ending.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from dispatcher.core import policy
from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.model import Outcome
from dispatcher.core.policy import Scope, Verdict
from dispatcher.core.ports import Clock, Ledger, Relay, RelayTrouble, Session
from dispatcher.dispatch.circuit import Circuit, pause_after
from dispatcher.dispatch.crowd import Crowd
from dispatcher.dispatch.line import Line, Shop
from dispatcher.dispatch.record import Recorder
from dispatcher.dispatch.stock import Stock, first_of
from dispatcher.dispatch.terms import WORKED_THROUGH, Close, Prepare, Report, Settings, Sign, Tally

T = TypeVar("T")

_FAREWELL: Final = 0.5
"""Seconds to close a connection once everything is to stop at once."""
_IDLE: Final = 20.0
"""Seconds that a connection is kept though there is nothing to send."""
_AGAIN: Final = 0.1
"""Seconds after which what was broken off is broken off again."""
_BARREN: Final = 2
"""Connections in a row that may be lost with no letter through, before the relay gets a rest."""
_STOPPED: Final = "stopped before the end of the message"


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
        sign: Sign | None = None,
    ) -> None:
        self._ledger = ledger
        self._relay = relay
        self._clock = clock
        self._settings = settings
        self._spread = spread
        self.report = Report()
        self._stopping = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._at_once = False
        self._error: Exception | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._lines: dict[Line, None] = {}  # in their order, so that a rehearsal is the same each time
        self._gate = asyncio.Lock()  # one worker at a time knocks at a relay that does not answer
        self._trouble = ""
        self._misses = 0  # connections in a row that were turned away while others stood
        self._knock_at = datetime.min.replace(tzinfo=UTC)  # when the next one may be tried
        self._limits = settings.letters_per_connection, settings.connection_age
        self._crowd = Crowd(settings.connections)
        self._circuit = Circuit(spread, wait=settings.wait, quick=settings.back_off)
        self._recorder = Recorder(ledger, clock, spread, self.tally, self._pause, self._fail, settings.rules)
        self._stock = Stock(
            ledger,
            clock,
            self.tally,
            self._recorder,
            size=min(1000, max(32, 16 * settings.connections)),
            few=2 * settings.connections,
            wait=settings.wait,
            goes_on=self._goes_on,
            end=self._close,
            feed=self._feed,
            sleep=self._sleep,
        )
        self._shop = Shop(
            ledger,
            self._stock,
            self._recorder,
            prepare,
            sign,
            clock,
            self.tally,
            self._too_late,
            self._fail,
            self._heard,
        )

    @property
    def tally(self) -> Tally:
        return self.report.tally

    @property
    def stands_still(self) -> str:
        """Why a run that stays has no connection, in the relay's words or ours; '' if it has one, or is to end."""
        waits = self._settings.wait and self._circuit.failures and not self._lines
        return self._trouble if waits else ""

    async def run(self) -> Report:
        """Work until nothing can be done now, or `stop`. Returns why it ended."""
        try:
            await self._stock.keep()
        except Exception as error:  # noqa: BLE001 (raised below, when nothing is in hand any more)
            self._fail(error)
        finally:
            await self._finish()
        if self._error is not None:
            raise self._error
        if self.report.close in WORKED_THROUGH:
            await self._recorder.judge()
        return self.report

    async def _finish(self) -> None:
        """Let the workers finish what they have in hand; if a person stopped the run, for so long."""
        if self._workers:
            await first_of(asyncio.wait(tuple(self._workers)), self._interrupt.wait())
        if self._workers:
            await asyncio.wait(tuple(self._workers), timeout=self._settings.grace)
        self._break_off()
        if self._workers:
            await asyncio.wait(tuple(self._workers))
        await self._recorder.settled()

    def stop(self) -> None:
        """Take up nothing new; finish what is in flight. Called again: break everything off at once."""
        if self._interrupt.is_set():
            self._break_off()
        self._interrupt.set()
        self._close(Close.INTERRUPTED, "stopped by a person")

    def _break_off(self) -> None:
        self._at_once = True
        for line in tuple(self._lines):
            line.session.abort(_STOPPED)

    def _close(self, close: Close, why: str, until: datetime | None = None) -> None:
        """End the run; the first reason counts."""
        if not self._stopping.is_set():
            self.report.close, self.report.why, self.report.until = close, why, until
            self._stopping.set()
            self._stock.wake()
            for line in self._lines:
                line.leave()

    def _fail(self, error: Exception) -> None:
        """Something that nobody can go on after; the first one is raised in the end."""
        self._error = self._error or error
        self._close(Close.UNAVAILABLE, "an error inside")
        if isinstance(error, LedgerUnavailable):
            self._interrupt.set()  # no outcome can be recorded any more: no use in waiting long for any

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

    async def _unless_stopped(self, doing: Coroutine[Any, Any, T]) -> T | None:
        """Do it, or break it off at a stop and return None."""
        task = asyncio.create_task(doing)
        try:
            await first_of(asyncio.wait((task,)), self._stopping.wait())
        except asyncio.CancelledError:
            task.cancel()
            raise
        while not task.done():  # more than once: CPython's `wait_for` can swallow a cancellation (gh-86296)
            task.cancel()
            await asyncio.wait((task,), timeout=_AGAIN)
        return None if task.cancelled() else task.result()

    # The workers.

    def _feed(self) -> None:
        """There may be letters: to the lines that stand, and as many workers as the relay is glad of."""
        for line in tuple(self._lines):
            line.fill()
        while self._stock.ready and len(self._workers) < self._crowd.allowed and self._may_knock() and self._goes_on():
            task = asyncio.create_task(self._worker())
            self._workers.add(task)
            task.add_done_callback(self._gone_home)

    def _may_knock(self) -> bool:
        """Not while somebody knocks at a relay that is down, nor soon after it turned one away while others stand."""
        if self._circuit.failures and self._gate.locked():
            return False
        return not self._lines or self._clock.now() >= self._knock_at

    def _gone_home(self, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._fail(error if isinstance(error, Exception) else RuntimeError(str(error)))
        self._stock.changed()
        self._stock.wake()

    async def _worker(self) -> None:
        """One connection after the other, while there are letters and the relay is glad of so many connections."""
        barren = 0  # connections in a row that got no letter through
        while self._stock.ready and len(self._workers) <= self._crowd.allowed and self._goes_on():
            session = await self._connected()
            if session is None:
                return
            line = Line(self._shop, session, await self._noted(session), *self._limits)
            await self._work(line)
            barren = 0 if line.through or line.broken_off else barren + 1
            if line.spent:
                self._limits = min(self._limits[0], line.through), self._limits[1]
            elif ((barren and line.refused) or barren > _BARREN) and not await self._rested(barren):
                return

    async def _noted(self, session: Session) -> int:
        """A connection's number in the ledger. One that cannot be noted is dropped: nobody else would."""
        try:
            return await self._ledger.open_session(session.info)
        except BaseException:
            session.abort(_STOPPED)
            raise

    async def _work(self, line: Line) -> None:
        """Let a connection work until it is to be left, and all it has in hand has its end."""
        self._lines[line] = None
        try:
            if not self._goes_on():
                line.leave()  # the run was over before this connection stood
            line.fill()
            while not await self._is_left(line):
                pass
        finally:
            line.leave()
            if self._at_once:
                line.session.abort(_STOPPED)
            await line.freed()
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL if self._at_once else None):
                    await line.session.close()
            del self._lines[line]

    async def _is_left(self, line: Line) -> bool:
        """Wait for the end of a connection; a while without a letter is one too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_IDLE):
                await first_of(line.left(), line.session.over())
            return True
        return not line.busy

    async def _rested(self, times: int) -> bool:
        """Stay away for a while; False if this worker is to go home."""
        if not self._goes_on():
            return False
        if times > len(self._settings.back_off) and not self._settings.wait:
            if not self._lines:
                self._close(Close.UNAVAILABLE, self._trouble or "the relay closes every connection")
            return False
        pause = pause_after(times, self._settings.back_off) * (1 + 0.2 * self._spread())
        await self._sleep(max(pause, policy.asked_pause(self._trouble)))
        return True

    # The relay.

    async def _connected(self) -> Session | None:
        """A session, or None if the run ends, others are connected and this one was not let in, or another knocks."""
        while self._goes_on():
            if self._circuit.failures and self._gate.locked():
                return None
            try:
                session = await self._knock()
            except RelayTrouble as trouble:
                rules = self._settings.rules
                if self._gives_up(policy.classify_trouble(trouble.phase, trouble.reply, trouble.fault, rules)):
                    return None
            else:
                self._circuit.reached = self._circuit.reached or session is not None
                self._misses = 0
                return session
        return None

    async def _knock(self) -> Session | None:
        """A session, or None at a stop. Raises RelayTrouble."""
        if self._circuit.reached and not self._circuit.failures:
            return await self._unless_stopped(self._relay.connect())
        async with self._gate:
            if self._circuit.failures:
                await self._sleep(self._circuit.pause())
            return await self._unless_stopped(self._relay.connect()) if self._goes_on() else None

    def _gives_up(self, verdict: Verdict) -> bool:
        """Whether this worker stops knocking after a session could not be set up."""
        self._trouble = verdict.why
        if verdict.scope is Scope.QUOTA:
            self._quota_used_up(verdict.why)
            return True
        if self._lines and verdict.outcome is not Outcome.FAILED:  # others are connected: one fewer for now
            self._misses += 1
            self._knock_at = self._clock.now() + timedelta(seconds=pause_after(self._misses, self._settings.back_off))
            if verdict.scope is Scope.RATE:
                self._crowd.turned_away(len(self._lines))
            return True
        return not self._bears(verdict)

    def _bears(self, verdict: Verdict) -> bool:
        """Note that the relay is down, or refuses us as a whole. Whether this run stays, to try again later."""
        stands = verdict.outcome is Outcome.FAILED
        if self._circuit.failed(stands=stands):
            return True
        self._close(Close.PAUSED if stands else Close.UNAVAILABLE, verdict.why)
        return False

    def _quota_used_up(self, why: str) -> None:
        """The relay said so: end the run, or stay and leave it alone until its quota is there again."""
        until = self._clock.now() + self._settings.quota_reset
        if self._settings.wait:
            self._stock.closed_until = until
        else:
            self._close(Close.QUOTA, why, until)

    # What the relay's answers mean for the run.

    def _heard(self, verdict: Verdict) -> None:
        """The verdict on a letter."""
        if verdict.scope is Scope.QUOTA:
            self._quota_used_up(verdict.why)
        elif verdict.scope is Scope.RATE:
            self._trouble = verdict.why
            self._crowd.refused()
            if policy.too_many_connections(verdict.why):
                self._crowd.turned_away(len(self._lines) - 1)
        elif verdict.scope not in (Scope.CONNECTION, Scope.SENDER, Scope.RELAY):
            self._circuit.closed()
            self._crowd.welcomed()
            if len(self._workers) < self._crowd.allowed:
                self._feed()

    def _pause(self, verdict: Verdict, why: str) -> bool:
        """The recorder says that going on would do harm. True if the run ends; else it stays, and tries again later."""
        if verdict.scope in (Scope.SENDER, Scope.RELAY) and self._settings.wait:
            self._circuit.failed(stands=True)
            for line in self._lines:
                line.leave()
            return False
        self._close(Close.PAUSED, why)
        return True
