"""Which letters a run may take up now: those that are due, within the account's pace and its quota.

Both are kept in the ledger, by account, so that they hold across runs and campaigns.
"""

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from dispatcher.core.model import Lease, Leased
from dispatcher.ledgers import rows
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.statements import SQL, fenced

_AHEAD: Final = 5.0  # seconds of slots a lease may take in advance
QUOTA_SPAN: Final = timedelta(hours=24)
BELIEVED: Final = timedelta(days=7)  # an attempt noted later than this from now was noted by a clock that was wrong


class Leasing:
    """Takes letters up for one run. Every method is called inside a job of the ledger's writer."""

    def __init__(
        self,
        run: int,
        campaign: str,
        account: str,
        now: Callable[[], datetime],
        *,
        interval: float,
        quota: int | None,
        among_chosen: bool,
    ) -> None:
        self._run = run
        self._campaign = campaign
        self._account = account
        self._now = now
        self._interval = interval
        self._quota = quota
        self._among = "_chosen" if among_chosen else ""
        self._dictionaries: dict[int, bytes] = {}

    def lease(self, connection: sqlite3.Connection, limit: int) -> Lease:
        """Up to `limit` letters (T2), or when there will be some."""
        now = self._now()
        limit, free_at = self._within_quota(connection, limit, now)
        letters = self._take(connection, limit, now)
        if letters:
            return Lease(letters)
        row = connection.execute(SQL["next_due" + self._among], {"campaign": self._campaign}).fetchone()
        if row is None:
            return Lease()  # nothing waits, whatever the quota
        return Lease((), free_at, datetime.fromisoformat(row[0]))

    def _take(self, connection: sqlite3.Connection, limit: int, now: datetime) -> tuple[Leased, ...]:
        """Letters that are due, each with its slot in the pace."""
        slot = self._next_slot(connection, now)
        if self._interval:
            limit = min(limit, max(1, int((_AHEAD - (slot - now).total_seconds()) / self._interval)))
        letters = []
        given = {"campaign": self._campaign, "now": stamp(now), "limit": limit}
        for row in connection.execute(SQL["due" + self._among], given).fetchall():
            fenced(connection, "lease", {"id": row[0], "run": self._run})
            letters.append(rows.leased(row, self._dictionary(connection, row[2]), slot))
            slot += timedelta(seconds=self._interval)
        if letters and self._interval:
            connection.execute(SQL["keep_slot"], {"account": self._account, "next_at": stamp(slot)})
        return tuple(letters)

    def _dictionary(self, connection: sqlite3.Connection, revision: int) -> bytes:
        """What the letters of a revision were deflated with."""
        if revision not in self._dictionaries:
            given = {"campaign": self._campaign, "revision": revision}
            self._dictionaries[revision] = connection.execute(SQL["dictionary"], given).fetchone()[0]
        return self._dictionaries[revision]

    def _within_quota(self, connection: sqlite3.Connection, limit: int, now: datetime) -> tuple[int, datetime | None]:
        """How many of `limit` the account's quota of any 24 hours leaves; if none, from when on it may leave one."""
        if self._quota is None:
            return limit, None
        given = {"account": self._account, "since": stamp(now - QUOTA_SPAN), "until": stamp(now + BELIEVED)}
        used, oldest = connection.execute(SQL["handed_over_since"], given).fetchone()
        held = connection.execute(SQL["held"], {"campaign": self._campaign, "run": self._run}).fetchone()[0]
        left = self._quota - used - held
        if left > 0:
            return min(limit, left), None
        return 0, datetime.fromisoformat(oldest) + QUOTA_SPAN if oldest else now

    def _next_slot(self, connection: sqlite3.Connection, now: datetime) -> datetime:
        """When the account's next letter may leave (generic cell rate algorithm, kept across runs)."""
        if not self._interval:
            return now
        row = connection.execute(SQL["next_slot"], {"account": self._account}).fetchone()
        # As far ahead as an interrupted run may have taken slots; further, the clock was set back meanwhile.
        latest = now + timedelta(seconds=_AHEAD + self._interval)
        return min(max(now, datetime.fromisoformat(row[0])), latest) if row else now
