"""Intents and outcomes of all connections, written together: a handful of statements for as many as wait.

What is asked for while a commit is under way waits for the next one, and shares it. Outcomes are written before
intents, so that the outcome of one letter and the intent of the next of its connection are one commit. A batch is a
few statements whatever its size, for each one makes the loop's thread wait its turn. What is out of the ordinary
(no intent before, a mailbox to suppress) is written by itself, by the same rules.

The loop's thread puts steps in and gets the answers; the writing thread writes them. Every step is answered: by its
result, or by LedgerUnavailable.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, overload

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.model import Ending, Leased, Reply
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.held import SqliteLedger
from dispatcher.ledgers.statements import SQL, fence, fenced, insert_rows
from dispatcher.ledgers.suppressions import suppress_mailbox, suppressed_among
from dispatcher.ledgers.writer import undone_alone

_NO_REPLY: Final[Mapping[str, Any]] = {
    "ended_at": None,
    "scope": "",
    "code": None,
    "enhanced": "",
    "reply": "",
    "queue_id": "",
    "message_digest": "",
}

_INTENT: Final = "intent (attempt, letter, run, session, account, at, date, message_digest)"
_ENDING: Final = (
    "ending (attempt, letter, run, at, outcome, phase, scope, code, enhanced, reply, queue_id, state, reason, due_at,"
    " counted)"
)
_RCPT: Final = "rcpt (attempt, mailbox, outcome, code, enhanced, reply)"


@dataclass(frozen=True, slots=True)
class Intent:
    """Leased → at risk (T3). Its answer is the attempt's number, or None if the letter was suppressed."""

    letter: Leased
    session: int
    date: datetime
    message_digest: str


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How an attempt ended (T3r, T4, T5). `attempt` is None if there was no intent. Its answer is None."""

    letter: Leased
    session: int | None
    attempt: int | None
    ending: Ending

    @property
    def ordinary(self) -> bool:
        """Whether it can be written with others: there was an intent, and no mailbox is to be suppressed."""
        return self.attempt is not None and not self.ending.suppress


Step = Intent | Conclusion
_Asked = tuple[Step, "asyncio.Future[Any]"]


class Batches:
    """What waits for the next commit of one run."""

    def __init__(self, ledger: SqliteLedger, run: int, account: str) -> None:
        self._ledger = ledger
        self._run = run
        self._account = account
        self._waiting: deque[_Asked] = deque()
        self._due = False  # to be queued when no more of them come
        self._gathered = 0
        self._queued = False
        self._last_attempt: int | None = None

    @overload
    def put(self, step: Intent) -> "asyncio.Future[int | None]": ...
    @overload
    def put(self, step: Conclusion) -> "asyncio.Future[None]": ...
    def put(self, step: Step) -> "asyncio.Future[Any]":
        """Write it with the next commit; the answer comes when it is durable."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((step, answer))
        if not self._queued and not self._due:
            self._due = True
            self._gathered = 0
            asyncio.get_running_loop().call_soon(self._gather)
        return answer

    def _gather(self) -> None:
        """Queue them when a turn of the loop has brought no more: one commit for a few costs nearly that for all."""
        if len(self._waiting) == self._gathered:
            self.flush()
        elif self._due:
            self._gathered = len(self._waiting)
            asyncio.get_running_loop().call_soon(self._gather)

    def flush(self) -> None:
        """Queue what was put in, before anything else is queued."""
        if self._due:
            self._due, self._queued = False, True
            self._submit(asyncio.get_running_loop())

    def _submit(self, loop: asyncio.AbstractEventLoop) -> None:
        taken: list[_Asked] = []

        def job(connection: sqlite3.Connection) -> list[Any]:
            self._take(taken)
            return self._write_or_one_by_one(connection, [step for step, _ in taken])

        def written(done: "Future[list[Any]]") -> None:
            self._take(taken) if done.exception() else None  # the job itself may never have run
            results = self._results(taken, done)
            with suppress(RuntimeError):  # the loop is gone, and nobody waits
                loop.call_soon_threadsafe(_answer, taken, results)

        try:
            self._ledger.submit(job).add_done_callback(written)
        except LedgerUnavailable as error:
            self._take(taken)
            _answer(taken, [error] * len(taken))

    def _take(self, taken: list[_Asked]) -> None:
        """All that waits. The flag comes first: who puts something in behind it submits anew."""
        self._queued = False
        while self._waiting:
            taken.append(self._waiting.popleft())

    def _results(self, taken: Sequence[_Asked], done: "Future[list[Any]]") -> list[Any]:
        """On the writing thread, when the commit is durable or has failed; before anybody is told."""
        error = done.exception()
        if error is not None:
            if isinstance(error, LedgerUnavailable):
                self._keep(step for step, _ in taken)
            return [error] * len(taken)
        results = done.result()
        attempts = [
            r for (step, _), r in zip(taken, results, strict=True) if isinstance(step, Intent) and isinstance(r, int)
        ]
        if attempts:
            try:
                self._ledger.require_in_place()
                self._ledger.raise_mark(max(attempts))
            except LedgerUnavailable as gone:
                return [gone] * len(taken)
        return results

    def _keep(self, steps: Iterable[Step]) -> None:
        """Outcomes that the ledger could not take go into its reserve."""
        for step in steps:
            if isinstance(step, Conclusion) and step.attempt is not None:
                self._ledger.keep(self._run, step.attempt, step.letter, step.ending)

    # On the writing thread, inside a transaction.

    def _write_or_one_by_one(self, connection: sqlite3.Connection, steps: Sequence[Step]) -> list[Any]:
        """All together; or if the ledger refuses that, each by itself, so that the one which is wrong fails alone."""
        results, failure = undone_alone(connection, lambda c: self._write(c, steps))
        if failure is None:
            return results or []
        if len(steps) == 1:
            return [failure]
        return [one for step in steps for one in self._write_or_one_by_one(connection, [step])]

    def _write(self, connection: sqlite3.Connection, steps: Sequence[Step]) -> list[Any]:
        now = stamp(self._ledger.now())
        conclusions = [step for step in steps if isinstance(step, Conclusion)]
        self._conclude_all(connection, [step for step in conclusions if step.ordinary], now)
        for step in conclusions:
            if not step.ordinary:
                self._conclude(connection, step, now)
        attempts = self._intend_all(connection, [step for step in steps if isinstance(step, Intent)], now)
        return [attempts.get(step.letter.id) if isinstance(step, Intent) else None for step in steps]

    def _intend_all(self, connection: sqlite3.Connection, intents: Sequence[Intent], now: str) -> dict[int, int]:
        """Attempts by letter; a suppressed letter has none."""
        letters = [intent.letter for intent in intents]
        stopped = suppressed_among(connection, [m.identity for letter in letters for m in letter.mailboxes])
        free = []
        for intent in intents:
            found = next((stopped[m.identity] for m in intent.letter.mailboxes if m.identity in stopped), None)
            if found is None:
                free.append(intent)
            else:
                held = {"id": intent.letter.id, "run": self._run, "reason": found}
                fenced(connection, "suppress_leased", held)
                self._ledger.event(connection, "held back", letter=intent.letter.id, why=found)
        if not free:
            return {}
        attempts = {intent.letter.id: self._new_attempt(connection) for intent in free}
        rows = [
            (attempts[i.letter.id], i.letter.id, self._run, i.session, self._account, now, i.date.isoformat(),
             i.message_digest)
            for i in free
        ]  # fmt: skip
        with fence():
            insert_rows(connection, _INTENT, rows)
        return attempts

    def _new_attempt(self, connection: sqlite3.Connection) -> int:
        """The next attempt's number: only whoever holds the ledger makes any."""
        if self._last_attempt is None:
            self._last_attempt = connection.execute(SQL["last_attempt"]).fetchone()[0]
        self._last_attempt += 1
        return self._last_attempt

    def _conclude_all(self, connection: sqlite3.Connection, conclusions: Sequence[Conclusion], now: str) -> None:
        if not conclusions:
            return
        rows = [(c.attempt, c.letter.id, self._run, now, *_said(c.ending), *_goes(c.ending)) for c in conclusions]
        with fence():
            insert_rows(connection, _ENDING, rows)
        insert_rows(connection, _RCPT, [row for c in conclusions for row in _rcpts(c.attempt, c.ending)])

    def _conclude(self, connection: sqlite3.Connection, step: Conclusion, now: str) -> None:
        """One that is out of the ordinary."""
        letter, ending = step.letter, step.ending
        names = ("outcome", "phase", "scope", "code", "enhanced", "reply", "queue_id")
        what = {**dict(zip(names, _said(ending), strict=True)), "ended_at": now}
        of = {"letter": letter.id, "run": self._run}
        attempt = step.attempt
        if attempt is None:
            given = {**_NO_REPLY, **of, **what, "session": step.session, "account": self._account, "now": now}
            attempt = given["id"] = self._new_attempt(connection)
            connection.execute(SQL["insert_attempt"], given)
        else:
            fenced(connection, "end_attempt", {**of, **what, "attempt": attempt})
        insert_rows(connection, _RCPT, _rcpts(attempt, ending))
        state, reason, due_at, counted = _goes(ending)
        where = {"state": state, "reason": reason, "due_at": due_at, "counted": counted, "now": now}
        fenced(connection, "end_letter", {**of, **where})
        why = {rcpt.mailbox: str(rcpt.reply) for rcpt, _ in ending.rcpts}
        for mailbox in letter.mailboxes:
            if mailbox.address in ending.suppress:
                reason = why.get(mailbox.address, ending.reason)
                suppress_mailbox(connection, mailbox.identity, mailbox.address, reason, "refused by the relay", now)


def _answer(taken: Sequence[_Asked], results: Sequence[Any]) -> None:
    """On the loop's thread."""
    for (_, answer), result in zip(taken, results, strict=True):
        if answer.done():  # whoever asked has been cancelled
            continue
        if isinstance(result, BaseException):
            answer.set_exception(result)
        else:
            answer.set_result(result)


def _said(ending: Ending) -> tuple[Any, ...]:
    """What an attempt came to: outcome, phase, scope, code, enhanced, reply, queue_id."""
    reply = ending.reply or Reply(0, ending.reason)
    return (
        ending.outcome, ending.phase, ending.scope, reply.code or None, reply.enhanced, reply.text, ending.queue_id,
    )  # fmt: skip


def _goes(ending: Ending) -> tuple[Any, ...]:
    """Where its letter goes: state, reason, due_at, counted."""
    return ending.state, ending.reason, ending.due_at and stamp(ending.due_at), int(ending.counted)


def _rcpts(attempt: int | None, ending: Ending) -> list[tuple[Any, ...]]:
    """What the relay said to each mailbox."""
    return [
        (attempt, rcpt.mailbox, outcome, rcpt.reply.code, rcpt.reply.enhanced, rcpt.reply.text)
        for rcpt, outcome in ending.rcpts
    ]
