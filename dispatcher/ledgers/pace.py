"""Which letters a run may take up now: those that are due, within the account's pace and its quota.

Both are kept in the ledger, by account, so that they hold across runs and campaigns; recipient domains with a rate of
their own are `ledgers.lanes`'. Nothing is done for a letter on its own: a batch is two statements whatever its size,
and the quota is counted anew only when the last count is used up.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from dispatcher.core.model import Lease, Leased
from dispatcher.ledgers import rows
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.lanes import Lanes
from dispatcher.ledgers.statements import SQL, fenced

Row = Sequence[Any]
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
        domains: Mapping[str, float],
        among_chosen: bool,
    ) -> None:
        self._run = run
        self._campaign = campaign
        self._account = account
        self._now = now
        self._interval = interval
        self._quota = quota
        self._allowed = 0  # letters that may be taken up before the quota has to be counted again
        self._counted_at: datetime | None = None
        self._among = "_chosen" if among_chosen else ""
        ahead = timedelta(seconds=_AHEAD)
        self._lanes = Lanes(campaign, account, domains, self._among, ahead) if domains else None
        self._dictionaries: dict[int, bytes] = {}

    def lease(self, connection: sqlite3.Connection, limit: int) -> Lease:
        """Up to `limit` letters (T2), or when there will be some."""
        now = self._now()
        limit, free_at = self._within_quota(connection, limit, now)
        letters = self._take(connection, self._due(connection, limit, now)) if limit else ()
        self._allowed -= len(letters)
        if letters:
            return Lease(letters)
        row = connection.execute(SQL["next_due" + self._among], {"campaign": self._campaign}).fetchone()
        if row is None:
            return Lease()  # nothing waits, whatever the quota
        pace_free_at = self._lanes.free_at() if self._lanes and limit else None
        return Lease((), free_at, datetime.fromisoformat(row[0]), pace_free_at)

    def _due(self, connection: sqlite3.Connection, limit: int, now: datetime) -> list[tuple[Row, datetime]]:
        """Letters that are due, each with its slot in the pace."""
        start = self._next_slot(connection, now)
        if self._interval:
            limit = min(limit, max(1, int((_AHEAD - (start - now).total_seconds()) / self._interval)))
        step = timedelta(seconds=self._interval)
        if self._lanes:
            due = self._due_by_lanes(connection, self._lanes, limit, now, start)
        else:
            given = {"campaign": self._campaign, "now": stamp(now), "limit": limit}
            found = connection.execute(SQL["due" + self._among], given).fetchall()
            due = [(row, start + place * step) for place, row in enumerate(found)]
        if due and self._interval:
            connection.execute(SQL["keep_slot"], {"account": self._account, "next_at": stamp(due[-1][1] + step)})
        return due

    def _due_by_lanes(
        self, connection: sqlite3.Connection, lanes: Lanes, limit: int, now: datetime, start: datetime
    ) -> list[tuple[Row, datetime]]:
        step = timedelta(seconds=self._interval)
        while slots := lanes.slots(connection, limit, now, start, step):
            ids = {"ids": rows.document([number for number, _ in slots])}
            found = {row[0]: row for row in connection.execute(SQL["ready"], ids)}
            if due := [(found.pop(number), at) for number, at in slots if number in found]:
                return due
        return []  # what was read is gone: suppressed, beside this run

    def _take(self, connection: sqlite3.Connection, due: Sequence[tuple[Row, datetime]]) -> tuple[Leased, ...]:
        """Ready → leased, all in one statement."""
        if not due:
            return ()
        ids = rows.document([row[0] for row, _ in due])
        fenced(connection, "lease", {"ids": ids, "run": self._run}, len(due))
        return tuple(rows.leased(row, self._dictionary(connection, row[2]), slot) for row, slot in due)

    def _dictionary(self, connection: sqlite3.Connection, revision: int) -> bytes:
        """What the letters of a revision were deflated with."""
        if revision not in self._dictionaries:
            given = {"campaign": self._campaign, "revision": revision}
            self._dictionaries[revision] = connection.execute(SQL["dictionary"], given).fetchone()[0]
        return self._dictionaries[revision]

    def _within_quota(self, connection: sqlite3.Connection, limit: int, now: datetime) -> tuple[int, datetime | None]:
        """How many of `limit` the account's quota of any 24 hours leaves; if none, from when on it may leave one.

        What one count leaves holds until that many letters were taken up: time only frees more, unless it runs back.
        """
        if self._quota is None:
            return limit, None
        oldest = None
        if self._allowed <= 0 or self._counted_at is None or now < self._counted_at:
            given = {"account": self._account, "since": stamp(now - QUOTA_SPAN), "until": stamp(now + BELIEVED)}
            used, oldest = connection.execute(SQL["handed_over_since"], given).fetchone()
            held = connection.execute(SQL["held"], {"run": self._run}).fetchone()[0]
            self._allowed, self._counted_at = self._quota - used - held, now
        if self._allowed > 0:
            return min(limit, self._allowed), None
        return 0, datetime.fromisoformat(oldest) + QUOTA_SPAN if oldest else now

    def _next_slot(self, connection: sqlite3.Connection, now: datetime) -> datetime:
        """When the account's next letter may leave (generic cell rate algorithm, kept across runs)."""
        if not self._interval:
            return now
        row = connection.execute(SQL["next_slot"], {"account": self._account}).fetchone()
        # As far ahead as an interrupted run may have taken slots; further, the clock was set back meanwhile.
        latest = now + timedelta(seconds=_AHEAD + self._interval)
        return min(max(now, datetime.fromisoformat(row[0])), latest) if row else now
