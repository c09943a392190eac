"""The loop: lease → prepare → hand over → record. It knows no SMTP and no SQL; it takes ports, a clock and a stop flag.

Each worker holds one session and one letter at a time. What happened to a letter is decided by `core.policy` alone; here
the decision is only carried out. A letter is concluded in the ledger before its worker's next intent, so that at most
one letter a connection can ever be unknown. Raises LedgerUnavailable and PlanConflict; everything else is an Ending.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from dispatcher.core import policy
from dispatcher.core.model import (
    Ending,
    Envelope,
    HandOver,
    Leased,
    Message,
    Outcome,
    Phase,
    State,
)
from dispatcher.core.policy import Scope, Verdict
from dispatcher.core.ports import Clock, Ledger, Relay, RelayTrouble, Session

BACK_OFF: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between tries to reach a relay that was there before in this run; then, with `wait`, up to LONGEST."""
LONGEST: Final = 900.0
GRACE: Final = 10.0
"""Seconds that letters in flight get to finish after the first stop."""
_DROPS: Final = 3


class Close(StrEnum):
    """Why a run came to its end."""

    FINISHED = "finished"
    WAITING = "waiting"  # letters are due later
    QUOTA = "quota"
    DEADLINE = "deadline"
    PAUSED = "paused"  # the relay refuses us; a person must look
    UNAVAILABLE = "unavailable"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A letter ready to leave: `message_digest` is over its octets, Date included."""

    envelope: Envelope
    message: Message
    message_digest: str


@dataclass(slots=True)
class Tally:
    """What this run has come to so far. Counts are letters, but `deferred` counts refusals for now."""

    accepted: int = 0
    deferred: int = 0
    failed: int = 0
    unknown: int = 0
    suppressed: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class Report:
    """How a run ended: why, in words, and until when it makes no sense to go on."""

    close: Close = Close.FINISHED
    why: str = ""
    until: datetime | None = None
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run behaves. `wait`: stay until every letter has its end, whatever the relay does meanwhile."""

    connections: int
    not_after: datetime | None = None
    wait: bool = False
    back_off: tuple[float, ...] = BACK_OFF
    grace: float = GRACE


Prepare = Callable[[Leased, datetime], Prepared]


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
        self._stock: deque[Leased] = deque()
        self._door = asyncio.Lock()  # one worker at a time asks for letters
        self._gate = asyncio.Lock()  # one worker at a time knocks at a relay that does not answer
        self._change = asyncio.Event()
        self._stopping = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._sessions = 0
        self._reached = False  # a session was set up at least once in this run
        self._failures = 0
        self._held: list[Leased] = []  # refused by policy; judged when the next letter is accepted, or at the end
        self._recent: deque[bool] = deque(maxlen=policy.BREAKER_WINDOW)
        self._unknown_in_a_row = 0
        self._drops: dict[int, int] = {}

    @property
    def tally(self) -> Tally:
        return self.report.tally

    async def run(self) -> Report:
        """Work until nothing can be done now, or `stop`. Returns why it ended."""
        self._tasks = [asyncio.create_task(self._worker()) for _ in range(self._settings.connections)]
        interrupted = asyncio.create_task(self._interrupt.wait())
        workers = asyncio.gather(*self._tasks, return_exceptions=True)
        first: set[asyncio.Future[Any]] = {workers, interrupted}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({workers}, timeout=self._settings.grace)
        finally:
            interrupted.cancel()
            for task in self._tasks:
                task.cancel()
            results = await workers
        for result in results:
            if isinstance(result, Exception):
                raise result
        await self._settle()
        return self.report

    async def _settle(self) -> None:
        """What this run still holds: letters that were never tried go back, policy refusals are judged."""
        paused = self.report.close is Close.PAUSED
        await self._ledger.judge(tuple(self._held), State.READY if paused else State.FAILED, "")
        self.tally.failed += 0 if paused else len(self._held)
        for letter in self._stock:
            await self._ledger.give_back(letter)

    def stop(self) -> None:
        """Take up nothing new; finish what is in flight. Called again: drop everything at once."""
        if self._interrupt.is_set():
            for task in self._tasks:
                task.cancel()
        self._interrupt.set()
        self._close(Close.INTERRUPTED, "stopped by a person")

    def _close(self, close: Close, why: str, until: datetime | None = None) -> None:
        """End the run; the first reason counts."""
        if not self._stopping.is_set():
            self.report.close, self.report.why, self.report.until = close, why, until
            self._stopping.set()
            self._change.set()

    # One worker.

    async def _worker(self) -> None:
        session: Session | None = None
        used = 0
        try:
            while letter := await self._next():
                self.tally.in_flight += 1
                try:
                    if session is None or not session.usable:
                        await self._let_go(session)
                        session, used = None, 0
                        session = await self._connect(letter)
                        if session is None:
                            return
                        number = await self._ledger.open_session(session.info)
                    verdict = await self._one(letter, session, number)
                    used += 1
                    if verdict and verdict.scope is Scope.RATE and used == 1 and self._sessions > 1:
                        return  # too many of us: one connection fewer
                finally:
                    self.tally.in_flight -= 1
                    self._change.set()
        except Exception:
            self._close(Close.UNAVAILABLE, "an error inside")
            raise
        finally:
            await self._let_go(session)

    async def _let_go(self, session: Session | None) -> None:
        if session is not None:
            self._sessions -= 1
            await session.close()

    async def _next(self) -> Leased | None:
        """The next letter whose turn has come, or None when this worker can go home."""
        async with self._door:
            while not self._stopping.is_set():
                if self._settings.not_after and self._clock.now() >= self._settings.not_after:
                    self._close(Close.DEADLINE, f"not_after {self._settings.not_after.isoformat()} has passed")
                    break
                if self._stock:
                    letter = self._stock.popleft()
                    if await self._slot(letter):
                        return letter
                    self._stock.appendleft(letter)
                    break
                await self._restock()
        return None

    async def _slot(self, letter: Leased) -> bool:
        """Wait for the letter's place in the pace; False if the run was stopped meanwhile."""
        pause = (letter.not_before - self._clock.now()).total_seconds()
        if pause > 0:
            await self._sleep(pause)
        return not self._stopping.is_set()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not through a stop."""
        sleeping = asyncio.create_task(self._clock.sleep(seconds))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()

    async def _restock(self) -> None:
        """Lease more; if there is nothing now, wait for those in flight, or for the time, or end the run."""
        self._change.clear()
        lease = await self._ledger.lease(2 * self._settings.connections)
        self._stock.extend(lease.letters)
        if lease.letters:
            return
        if self.tally.in_flight:
            await self._change.wait()
            return
        until = lease.quota_free_at or lease.next_due_at
        if until is None:
            self._close(Close.FINISHED, "")
        elif not self._settings.wait:
            close = Close.QUOTA if lease.quota_free_at else Close.WAITING
            self._close(close, "the quota is used up" if lease.quota_free_at else "letters are due later", until)
        else:
            await self._sleep(max(0.05, (until - self._clock.now()).total_seconds()))

    # The relay.

    async def _connect(self, letter: Leased) -> Session | None:
        """A session, or None if this worker is to go home; then the letter was given back."""
        while not self._stopping.is_set():
            try:
                if self._reached and not self._failures:
                    return await self._open()
                async with self._gate:
                    if await self._backed_off():
                        return await self._open()
            except RelayTrouble as trouble:
                if self._gives_up(policy.classify_trouble(trouble.phase, trouble.reply, trouble.fault)):
                    break
        await self._ledger.give_back(letter)
        return None

    async def _open(self) -> Session:
        session = await self._relay.connect()
        self._reached, self._failures = True, 0
        self._sessions += 1
        return session

    async def _backed_off(self) -> bool:
        """Pause before knocking again; False if the run was stopped meanwhile."""
        if self._failures:
            steps = self._settings.back_off
            last = min(LONGEST, steps[-1] * 2.0 ** max(0, self._failures - len(steps)))
            await self._sleep(steps[self._failures - 1] if self._failures <= len(steps) else last)
        return not self._stopping.is_set()

    def _gives_up(self, verdict: Verdict) -> bool:
        """Whether the worker goes home after a session could not be set up."""
        if verdict.outcome is Outcome.FAILED:
            self._close(Close.PAUSED, verdict.why)
            return True
        if self._sessions:
            return True  # others are connected: be one fewer
        self._failures += 1
        patient = self._settings.wait or (self._reached and self._failures <= len(self._settings.back_off))
        if not patient:
            self._close(Close.UNAVAILABLE, verdict.why)
        return not patient

    # One letter.

    async def _one(self, letter: Leased, session: Session, number: int) -> Verdict | None:
        """Hand one letter over and record how it ended. Returns None if it was suppressed or taken back."""
        date = letter.date or self._clock.now().replace(microsecond=0)
        prepared = self._prepare(letter, date)
        attempt: int | None = None
        suppressed = False

        async def intent() -> bool:
            nonlocal attempt, suppressed
            if self._settings.not_after and self._clock.now() >= self._settings.not_after:
                return False
            attempt = await self._ledger.intend(letter, number, date, prepared.message_digest)
            suppressed = attempt is None
            return not suppressed

        settle = letter.attempts + 1 >= policy.SETTLE_AFTER
        facts = await session.hand_over(prepared.envelope, prepared.message, intent, settle=settle)
        if suppressed:
            self.tally.suppressed += 1
            return None
        if facts.retracted and attempt is None:
            await self._ledger.give_back(letter)
            return None
        verdict = policy.classify(facts)
        await self._ledger.conclude(letter, number, attempt, self._ending(letter, facts, verdict))
        await self._count(letter, verdict)
        return verdict

    def _ending(self, letter: Leased, facts: HandOver, verdict: Verdict) -> Ending:
        """Where the letter goes now."""
        state, due, counted = self._next_state(letter, facts, verdict)
        outcome = Outcome.FAILED if state is State.FAILED else verdict.outcome
        gone = (r.mailbox for r in facts.rcpts if policy.address_is_gone(r.reply))
        return Ending(
            state=state,
            outcome=outcome,
            phase=facts.phase,
            scope=verdict.scope,
            reason=verdict.why,
            reply=facts.reply,
            rcpts=tuple((r, policy.rcpt_outcome(r.reply, outcome)) for r in facts.rcpts),
            queue_id=policy.queue_id(facts.reply) if facts.terminator else "",
            due_at=due,
            counted=counted,
            suppress=tuple(gone),
        )

    def _next_state(self, letter: Leased, facts: HandOver, verdict: Verdict) -> tuple[State, datetime | None, bool]:
        now = self._clock.now()
        if verdict.outcome is Outcome.ACCEPTED:
            return State.ACCEPTED, None, True
        if verdict.outcome is Outcome.UNKNOWN:
            return State.UNKNOWN, None, True
        if verdict.scope in (Scope.SENDER, Scope.RELAY):
            return State.READY, now, False
        if verdict.outcome is Outcome.FAILED:
            return (State.LEASED if verdict.scope is Scope.POLICY else State.FAILED), None, True
        if verdict.scope in (Scope.CONNECTION, Scope.RATE) and self._dropped(letter, facts):
            return State.READY, now, False
        attempts = letter.attempts + 1
        due = policy.retry_at(attempts, letter.first_attempt_at or now, now, self._spread())
        return (State.READY, due, True) if due else (State.FAILED, None, True)

    def _dropped(self, letter: Leased, facts: HandOver) -> bool:
        """Whether the letter may try again at once: the connection was to blame. A third time it is the letter."""
        count = self._drops[letter.id] = self._drops.get(letter.id, 0) + 1
        return count < _DROPS and facts.phase is not Phase.FINAL

    async def _count(self, letter: Leased, verdict: Verdict) -> None:
        """Add up, and stop the run when its outcomes say that going on would do harm."""
        refused = verdict.outcome is Outcome.FAILED and verdict.scope is Scope.POLICY
        self._recent.append(refused)
        self._unknown_in_a_row = self._unknown_in_a_row + 1 if verdict.outcome is Outcome.UNKNOWN else 0
        if refused:
            self._held.append(letter)
        elif verdict.outcome is Outcome.ACCEPTED:
            self.tally.accepted += 1
            await self._judge_held()
        elif verdict.outcome is Outcome.UNKNOWN:
            self.tally.unknown += 1
        elif verdict.outcome is Outcome.DEFERRED:
            self.tally.deferred += 1
        elif verdict.scope not in (Scope.SENDER, Scope.RELAY):
            self.tally.failed += 1
        self._break_if_needed(verdict)

    async def _judge_held(self) -> None:
        """The relay takes letters, so what it refused by policy before was about those letters."""
        if self._held:
            held, self._held = tuple(self._held), []
            await self._ledger.judge(held, State.FAILED, "")
            self.tally.failed += len(held)

    def _break_if_needed(self, verdict: Verdict) -> None:
        in_window = len(self._recent) == policy.BREAKER_WINDOW and sum(self._recent) >= policy.BREAKER
        if verdict.outcome is Outcome.FAILED and verdict.scope in (Scope.SENDER, Scope.RELAY):
            self._close(Close.PAUSED, verdict.why)
        elif len(self._held) >= policy.BREAKER:
            self._close(Close.PAUSED, f"{len(self._held)} policy refusals in a row, the last: {verdict.why}")
        elif in_window and verdict.scope is Scope.POLICY:
            self._close(
                Close.PAUSED, f"{sum(self._recent)} of the last {len(self._recent)} refused, e.g. {verdict.why}"
            )
        elif self._unknown_in_a_row >= policy.BREAKER:
            self._close(Close.PAUSED, f"{self._unknown_in_a_row} outcomes in a row unknown, the last: {verdict.why}")
