"""What happened to each letter, into the ledger; and when going on would do harm.

`core.policy` says what the facts of a hand-over mean; here its verdict becomes an Ending, is recorded, added up, and
watched for the patterns that must stop a run: the relay refuses our sender or our login, refuses by policy several
times in a row, or leaves several outcomes in a row unknown. Letters refused by policy are held, still leased, until
the next acceptance (then it was about those letters: failed) or the end of the run judges them. A dead mailbox is
suppressed when its letter is accepted or failed, never while the letter may still go: a suppressed mailbox holds the
whole letter back, and the good ones beside it are to get it. Raises LedgerUnavailable.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final

from dispatcher.core import policy
from dispatcher.core.model import Ending, HandOver, Leased, Outcome, Phase, State
from dispatcher.core.policy import ReplyRule, Scope, Verdict
from dispatcher.core.ports import Clock, Ledger, Pending
from dispatcher.dispatch.terms import Tally

_DROPS: Final = 3


class Recorder:
    """Records endings for all workers of a run. `pause` is called when going on would do harm; it says whether
    the run ends for it. `fail` takes an error that ends the run.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        spread: Callable[[], float],
        tally: Tally,
        pause: Callable[[Verdict, str], bool],
        fail: Callable[[Exception], None],
        rules: tuple[ReplyRule, ...] = (),
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._spread = spread
        self._tally = tally
        self._pause = pause
        self._fail = fail
        self._under_way = 0  # conclusions that are not durable yet
        self._settled = asyncio.Event()
        self._judging: set[asyncio.Task[None]] = set()
        self._rules = rules
        self._paused = False
        self._held: list[Leased] = []
        self._recent: deque[bool] = deque(maxlen=policy.BREAKER_WINDOW)
        self._unknown_in_a_row = 0
        self._drops: dict[int, int] = {}

    @property
    def holds(self) -> bool:
        """Whether letters refused by policy wait to be judged."""
        return bool(self._held)

    def conclude(self, letter: Leased, session: int, attempt: int | None, facts: HandOver) -> Verdict:
        """Say what an attempt came to, and have it recorded; `attempt` is its number if there was an intent.

        It is counted once it is durable.
        """
        verdict = policy.classify(facts, self._rules)
        ending = self._ending(letter, facts, verdict)
        written = self._ledger.conclude(letter, session, attempt, ending)
        self._under_way += 1
        written.add_done_callback(lambda done: self._written(done, ending))
        self._weigh(letter, ending)
        self._stop_if_needed(verdict)
        return verdict

    def _written(self, done: Pending[None], ending: Ending) -> None:
        self._under_way -= 1
        try:
            done.result()
            self._count(ending)
        except Exception as error:  # noqa: BLE001 (told to whoever started the run)
            self._fail(error)
        if not self._under_way:
            self._settled.set()

    async def settled(self) -> None:
        """Wait until everything that was concluded is durable, or cannot be."""
        while self._under_way or self._judging:
            self._settled.clear()
            await asyncio.gather(*self._judging, return_exceptions=True)
            if self._under_way:
                await self._settled.wait()

    async def judge(self) -> None:
        """Fail the letters that are held: the relay takes others, or no other can be tried."""
        held, self._held = tuple(self._held), []
        await self._fail_all(held)

    async def _fail_all(self, held: tuple[Leased, ...]) -> None:
        if held:
            await self._ledger.judge(held, State.FAILED, "")
            self._tally.failed += len(held)

    def _judged(self, task: asyncio.Task[None]) -> None:
        self._judging.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._fail(error)

    def _ending(self, letter: Leased, facts: HandOver, verdict: Verdict) -> Ending:
        """Where the letter goes now."""
        state, due, counted = self._next_state(letter, facts, verdict)
        outcome = Outcome.FAILED if state is State.FAILED else verdict.outcome
        over = state in (State.ACCEPTED, State.FAILED)  # sooner, it would hold back its own letter
        gone = (r.mailbox for r in facts.rcpts if over and policy.address_is_gone(r.reply))
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
        if verdict.scope in (Scope.SENDER, Scope.RELAY, Scope.QUOTA) or (facts.retracted and not facts.terminator):
            return State.READY, now, False
        if verdict.outcome is Outcome.FAILED:
            return (State.LEASED if verdict.scope is Scope.POLICY else State.FAILED), None, True
        if verdict.scope in (Scope.CONNECTION, Scope.RATE) and self._dropped(letter, facts):
            return State.READY, now, False
        due = policy.retry_at(letter.attempts + 1, letter.first_attempt_at or now, now, self._spread())
        return (State.READY, due, True) if due else (State.FAILED, None, True)

    def _dropped(self, letter: Leased, facts: HandOver) -> bool:
        """Whether the letter may try again at once: the connection was to blame. A third time it is the letter."""
        count = self._drops[letter.id] = self._drops.get(letter.id, 0) + 1
        return count < _DROPS and facts.phase is not Phase.FINAL

    def _weigh(self, letter: Leased, ending: Ending) -> None:
        """What it says of the relay."""
        if ending.state is not State.READY:
            self._drops.pop(letter.id, None)
        self._recent.append(ending.state is State.LEASED)
        self._unknown_in_a_row = self._unknown_in_a_row + 1 if ending.state is State.UNKNOWN else 0
        if ending.state is State.LEASED:
            self._held.append(letter)
        elif ending.state is State.ACCEPTED and self._held and not self._paused:
            # An acceptance that was under way when the run stopped says nothing of them.
            held, self._held = tuple(self._held), []
            task = asyncio.get_running_loop().create_task(self._fail_all(held))
            self._judging.add(task)
            task.add_done_callback(self._judged)

    def _count(self, ending: Ending) -> None:
        if ending.state is State.ACCEPTED:
            self._tally.accepted += 1
        elif ending.state is State.UNKNOWN:
            self._tally.unknown += 1
        elif ending.state is State.FAILED:
            self._tally.failed += 1
        elif ending.state is State.READY:
            self._tally.deferred += ending.counted

    def _stop_if_needed(self, verdict: Verdict) -> None:
        why = ""
        refused, recent = sum(self._recent), len(self._recent)
        if verdict.outcome is Outcome.FAILED and verdict.scope in (Scope.SENDER, Scope.RELAY):
            why = verdict.why
        elif len(self._held) >= policy.BREAKER:
            why = f"{len(self._held)} policy refusals in a row, the last: {verdict.why}"
        elif recent == policy.BREAKER_WINDOW and refused >= policy.BREAKER and verdict.scope is Scope.POLICY:
            why = f"{refused} of the last {recent} refused by policy, the last: {verdict.why}"
        elif self._unknown_in_a_row >= policy.BREAKER:
            why = f"{self._unknown_in_a_row} outcomes in a row unknown, the last: {verdict.why}"
        if why:
            self._paused = self._pause(verdict, why)
