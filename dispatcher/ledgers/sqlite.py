"""The ledger in one SQLite file: WAL, synchronous=FULL, one writing thread, group commits.

    SqliteLedger  the file, open for writing (`ledgers.held`)
    Run           the dispatch loop's port: one run on it

What is durable before which byte stands in docs/design.md; the rules that must hold even against a bug in the sender
stand in schema.sql. Every change of a run names the state and the run that the letter must be in, and raises
LedgerUnavailable, with nothing changed, if it is not.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, TypeVar

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.model import Ending, Lease, Leased, Phase, Reply, SessionInfo, State
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.held import SqliteLedger
from dispatcher.ledgers.pace import Leasing
from dispatcher.ledgers.statements import SQL, fenced

T = TypeVar("T")
_NO_REPLY: Final[Mapping[str, Any]] = {
    "ended_at": None,
    "scope": "",
    "code": None,
    "enhanced": "",
    "reply": "",
    "queue_id": "",
    "message_digest": "",
}


class Run:
    """The dispatch loop's port: one run of one campaign on a held ledger. See `core.ports.Ledger`."""

    def __init__(
        self,
        ledger: SqliteLedger,
        run: int,
        campaign: str,
        account: str,
        *,
        interval: float = 0.0,
        quota: int | None = None,
        domains: Mapping[str, float] = MappingProxyType({}),
        chosen: Iterable[int] | None = None,
    ) -> None:
        self._ledger = ledger
        self._run = run
        self._campaign = campaign
        self._account = account
        self._leasing = Leasing(
            run,
            campaign,
            account,
            ledger.now,
            interval=interval,
            quota=quota,
            domains=domains,
            among_chosen=chosen is not None,
        )
        if chosen is not None:
            ids = [(n,) for n in chosen]

            def choose(connection: sqlite3.Connection) -> None:
                connection.execute("DELETE FROM chosen")
                connection.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", ids)

            ledger.do(choose)

    async def _do(self, job: Callable[[sqlite3.Connection], T]) -> T:
        # Shielded: a cancelled worker must not turn a commit that is under way into "never happened".
        return await asyncio.shield(asyncio.wrap_future(self._ledger.submit(job)))

    def end(self, ending: str, on_unknown: str) -> None:
        """Close the run in order (T9). Letters it still holds go back; those at risk become unknown."""

        def job(connection: sqlite3.Connection) -> None:
            self._ledger.recover_in(connection)
            if on_unknown == "assume_sent":
                self._ledger.settle_unknown(connection, self._campaign, on_unknown)
            now = stamp(self._ledger.now())
            connection.execute(SQL["end_run"], {"run": self._run, "now": now, "ending": ending})

        self._ledger.do(job)

    async def lease(self, limit: int) -> Lease:
        return await self._do(lambda connection: self._leasing.lease(connection, limit))

    async def open_session(self, info: SessionInfo) -> int:
        given = {
            "run": self._run,
            "now": stamp(self._ledger.now()),
            "host": info.host,
            "port": info.port,
            "peer": info.peer,
            "tls_version": info.tls_version,
            "cipher": info.cipher,
            "certificate": info.certificate,
        }
        return await self._do(lambda c: c.execute(SQL["insert_session"], given).lastrowid or 0)

    async def intend(self, letter: Leased, session: int, date: datetime, message_digest: str) -> int | None:
        def job(connection: sqlite3.Connection) -> int | None:
            held = {"id": letter.id, "run": self._run}
            if found := suppressed(connection, [m.identity for m in letter.mailboxes]):
                fenced(connection, "suppress_leased", {**held, "reason": f"{found[0]} is suppressed: {found[1]}"})
                return None
            now = stamp(self._ledger.now())
            fenced(connection, "put_at_risk", {**held, "date": date.isoformat(), "now": now})
            return self._insert_attempt(
                connection, letter, session, outcome="at_risk", phase=Phase.BODY, message_digest=message_digest
            )

        attempt = await self._do(job)
        self._ledger.require_in_place()
        self._ledger.raise_mark(attempt or 0)
        return attempt

    def _insert_attempt(self, connection: sqlite3.Connection, letter: Leased, session: int | None, **what: Any) -> int:
        given = {
            "letter": letter.id,
            "run": self._run,
            "session": session,
            "account": self._account,
            "now": stamp(self._ledger.now()),
            **_NO_REPLY,
            **what,
        }
        return connection.execute(SQL["insert_attempt"], given).lastrowid or 0

    async def conclude(self, letter: Leased, session: int | None, attempt: int | None, ending: Ending) -> None:
        future = self._ledger.submit(lambda connection: self._conclude(connection, letter, session, attempt, ending))
        if attempt is not None:  # told first, also if nobody waits any more
            future.add_done_callback(lambda done: self._keep(done, letter, attempt, ending))
        await asyncio.shield(asyncio.wrap_future(future))

    def _keep(self, done: "Future[None]", letter: Leased, attempt: int, ending: Ending) -> None:
        """An outcome that the ledger could not take goes into its reserve."""
        if not done.cancelled() and isinstance(done.exception(), LedgerUnavailable):
            self._ledger.keep(self._run, attempt, letter, ending)

    def _conclude(
        self, connection: sqlite3.Connection, letter: Leased, session: int | None, attempt: int | None, ending: Ending
    ) -> None:
        now = stamp(self._ledger.now())
        reply = ending.reply or Reply(0, ending.reason)
        what = {
            "outcome": ending.outcome,
            "phase": ending.phase,
            "scope": ending.scope,
            "code": reply.code or None,
            "enhanced": reply.enhanced,
            "reply": reply.text,
            "queue_id": ending.queue_id,
            "ended_at": now,
        }
        if attempt is None:
            attempt = self._insert_attempt(connection, letter, session, **what)
        else:
            fenced(connection, "end_attempt", {**what, "attempt": attempt, "letter": letter.id, "run": self._run})
        for rcpt, outcome in ending.rcpts:
            said = {"code": rcpt.reply.code, "enhanced": rcpt.reply.enhanced, "reply": rcpt.reply.text}
            given = {"attempt": attempt, "mailbox": rcpt.mailbox, "outcome": outcome, **said}
            connection.execute(SQL["insert_rcpt"], given)
        state = {
            "letter": letter.id,
            "run": self._run,
            "state": ending.state,
            "reason": ending.reason,
            "due_at": ending.due_at and stamp(ending.due_at),
            "counted": int(ending.counted),
            "now": now,
        }
        fenced(connection, "end_letter", state)
        why = {rcpt.mailbox: str(rcpt.reply) for rcpt, _ in ending.rcpts}
        for mailbox in letter.mailboxes:
            if mailbox.address in ending.suppress:
                reason = why.get(mailbox.address, ending.reason)
                suppress(connection, mailbox.identity, mailbox.address, reason, "refused by the relay", now)

    async def give_back(self, letter: Leased) -> None:
        await self._do(lambda c: fenced(c, "give_back", {"id": letter.id, "run": self._run}))

    async def judge(self, letters: tuple[Leased, ...], state: State, reason: str) -> None:
        def job(connection: sqlite3.Connection) -> None:
            for letter in letters:
                fenced(connection, "judge", {"id": letter.id, "run": self._run, "state": state, "reason": reason})

        await self._do(job)


def with_domains(identities: Iterable[str]) -> list[str]:
    """Mailboxes, and the domain of each as `@domain`: what a suppression may name."""
    return [name for identity in identities for name in (identity, "@" + identity.rpartition("@")[2])]


def suppressed(connection: sqlite3.Connection, identities: Iterable[str]) -> tuple[str, str] | None:
    """The first of some mailboxes that must not be written to, itself or its whole domain, and why."""
    given = {"identities": json.dumps(with_domains(identities))}
    row = connection.execute(SQL["suppressed_among"], given).fetchone()
    return (row[0], row[1]) if row else None


def suppress(connection: sqlite3.Connection, identity: str, address: str, reason: str, source: str, now: str) -> bool:
    """Add a suppression; False if it was there already. Letters that wait are held back when their turn comes (T3)."""
    given = {"identity": identity, "address": address, "reason": reason, "source": source, "now": now}
    return connection.execute(SQL["insert_suppression"], given).rowcount == 1


__all__ = ["Run", "SqliteLedger", "stamp", "suppress", "suppressed", "with_domains"]
