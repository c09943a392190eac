"""The ledger in one SQLite file: WAL, synchronous=FULL, one writing thread, group commits.

    SqliteLedger  the file, open for writing (`ledgers.held`)
    Run           the dispatch loop's port: one run on it

What is durable before which byte stands in docs/design.md; the rules that must hold even against a bug in the sender
stand in schema.sql. Every change of a run names the state and the run that the letter must be in, and raises
LedgerUnavailable, with nothing changed, if it is not.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TypeVar

from dispatcher.core.model import Ending, Lease, Leased, SessionInfo, State
from dispatcher.ledgers.batch import Batches, Conclusion, Intent
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.held import SqliteLedger
from dispatcher.ledgers.pace import Leasing
from dispatcher.ledgers.statements import SQL, fenced

T = TypeVar("T")


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
        self._batches = Batches(ledger, run, account)
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
        self._batches.flush()  # calls take effect in the order in which they are made
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
            "size": info.size,
            "mode": info.mode,
        }
        return await self._do(lambda c: c.execute(SQL["insert_session"], given).lastrowid or 0)

    def intend(self, letter: Leased, session: int, date: datetime, message_digest: str) -> "asyncio.Future[int | None]":
        return self._batches.put(Intent(letter, session, date, message_digest))

    def conclude(
        self, letter: Leased, session: int | None, attempt: int | None, ending: Ending
    ) -> "asyncio.Future[None]":
        return self._batches.put(Conclusion(letter, session, attempt, ending))

    async def judge(self, letters: tuple[Leased, ...], state: State, reason: str) -> None:
        def job(connection: sqlite3.Connection) -> None:
            for letter in letters:
                fenced(connection, "judge", {"id": letter.id, "run": self._run, "state": state, "reason": reason})

        await self._do(job)


__all__ = ["Run", "SqliteLedger", "stamp"]
