"""Letters to recipient domains that have a pace of their own: one lane a domain, one letter at a time in each.

A letter whose domain is not free yet waits in its lane and holds up nobody else; all letters whose domains have no
rate are on the open road. A letter to several such domains has a lane of its own kind, which is free when all of them
are. Lanes that are free go first, the one with the most work before it foremost, so that the slowest domain is not
left for the end. When a domain is free again stands in the ledger's table `pace`, beside the account's own slot.

What is due is read once, as numbers and domains, and from then on what became due since; all of it anew only when
nothing can leave, and then once a minute. Nothing of this happens unless a campaign gives domains a rate.
"""

import heapq
import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.statements import SQL

Slot = tuple[int, datetime]
"""A letter's number, and the moment from when on it may leave."""
Lane = tuple[str, ...]
"""The domains of a letter that have a rate, in order."""

ANY: Final = "*"
"""In the place of a domain: any one that is not named."""

_ANEW: Final = timedelta(minutes=1)


class Lanes:
    """The letters of one run. `rates` are seconds between two letters by domain, or ANY."""

    def __init__(self, campaign: str, account: str, rates: Mapping[str, float], among: str, ahead: timedelta) -> None:
        self._campaign = campaign
        self._account = account
        self._rates = {domain: timedelta(seconds=seconds) for domain, seconds in rates.items()}
        self._among = among
        self._ahead = ahead
        self._open: deque[int] = deque()
        self._waiting: dict[Lane, list[int]] = {}
        self._order: list[tuple[datetime, float, Lane]] = []  # a heap: when a lane is free, and its work, negative
        self._free: dict[str, datetime] = {}
        self._read_until = ""
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._read_anew_at = self._latest
        self._begun = False

    def slots(
        self, connection: sqlite3.Connection, limit: int, now: datetime, start: datetime, step: timedelta
    ) -> list[Slot]:
        """Up to `limit` letters in the order in which they may leave, from `start` on and `step` apart."""
        if not self._begun:
            self._begun = True
            self._read_pace(connection, now)
            self._read_anew_at = now + _ANEW
        elif now < self._latest:
            self._set_back(now)
        self._latest = now
        self._read(connection, now)
        found = self._found(connection, limit, now, start, step)
        if not found and (not self._order or now >= self._read_anew_at):
            self._read_anew(connection, now)
            found = self._found(connection, limit, now, start, step)
        return found

    def _found(
        self, connection: sqlite3.Connection, limit: int, now: datetime, start: datetime, step: timedelta
    ) -> list[Slot]:
        found: list[Slot] = []
        taken: set[str] = set()
        while len(found) < limit and (chosen := self._next(connection, start, now)):
            number, start, lane = chosen
            found.append((number, start))
            taken.update(lane)
            start += step
        kept = [{"account": self._key(domain), "next_at": stamp(self._free[domain])} for domain in taken]
        connection.executemany(SQL["keep_slot"], kept)
        return found

    def free_at(self) -> datetime | None:
        """When the first lane is free in which a letter waits; None if none waits."""
        while self._order and (free := self._lane_free(self._order[0][2])) > self._order[0][0]:
            _, work, lane = self._order[0]
            heapq.heapreplace(self._order, (free, work, lane))  # a letter to several domains went by meanwhile
        return self._order[0][0] if self._order else None

    def _next(self, connection: sqlite3.Connection, at: datetime, now: datetime) -> tuple[int, datetime, Lane] | None:
        """The next letter, when it may leave, and its lane; None if there is none now."""
        while free := self.free_at():
            if (self._open and free > at) or free > max(at, now + self._ahead):
                break
            lane = heapq.heappop(self._order)[2]
            letters = self._waiting[lane]
            number = letters.pop(0)
            if ready := connection.execute(SQL["still_ready"], {"id": number}).fetchone():
                for domain in lane:
                    self._free[domain] = max(at, free) + self._rate(domain)
            if letters:
                self._line_up(lane)
            else:
                del self._waiting[lane]
            if ready:
                return number, max(at, free), lane
        return (self._open.popleft(), at, ()) if self._open else None

    def _line_up(self, lane: Lane) -> None:
        work = len(self._waiting[lane]) * max(self._rate(domain) for domain in lane).total_seconds()
        heapq.heappush(self._order, (self._lane_free(lane), -work, lane))

    def _lane_free(self, lane: Lane) -> datetime:
        return max(self._free.get(domain, self._latest) for domain in lane)

    def _rate(self, domain: str) -> timedelta:
        return self._rates[domain] if domain in self._rates else self._rates[ANY]

    def _lane_of(self, identities: Iterable[str]) -> Lane:
        domains = {identity.rpartition("@")[2] for identity in identities}
        return tuple(sorted(domains if ANY in self._rates else domains & self._rates.keys()))

    # The ledger.

    def _key(self, domain: str) -> str:
        return f"{self._account} {domain}"

    def _read(self, connection: sqlite3.Connection, now: datetime) -> None:
        """Take in what became due since the last time."""
        given = {"campaign": self._campaign, "since": self._read_until, "now": stamp(now)}
        fresh = set()
        for number, identities in connection.execute(SQL["due_since" + self._among], given):
            if lane := self._lane_of(identities.split()):
                if lane not in self._waiting:
                    self._waiting[lane] = []
                    fresh.add(lane)
                self._waiting[lane].append(number)
            else:
                self._open.append(number)
        for lane in fresh:
            self._line_up(lane)
        self._read_until = given["now"]

    def _read_anew(self, connection: sqlite3.Connection, now: datetime) -> None:
        """Take in everything: a letter that was given back kept its old place, and was not seen since."""
        self._open.clear()
        self._waiting.clear()
        self._order.clear()
        self._read_until = ""
        self._read(connection, now)
        self._read_anew_at = now + _ANEW

    def _read_pace(self, connection: sqlite3.Connection, now: datetime) -> None:
        """When each domain is free, as earlier runs left it; what lies behind is forgotten."""
        given = {"after": f"{self._account} ", "before": f"{self._account}!", "now": stamp(now)}
        connection.execute(SQL["forget_slots"], given)
        for key, next_at in connection.execute(SQL["domain_slots"], given):
            self._free[key.removeprefix(given["after"])] = datetime.fromisoformat(next_at)
        self._not_further(now)

    def _set_back(self, now: datetime) -> None:
        """The clock was set back: no domain is busy further ahead than a run may have taken slots."""
        self._latest = self._read_anew_at = now
        self._not_further(now)
        self._order.clear()
        for lane in self._waiting:
            self._line_up(lane)

    def _not_further(self, now: datetime) -> None:
        for domain, free in self._free.items():
            if domain in self._rates or ANY in self._rates:
                self._free[domain] = min(free, now + self._ahead + self._rate(domain))
