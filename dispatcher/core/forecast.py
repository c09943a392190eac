"""When a run will be done, from what holds it back: the pace, the quota of any 24 hours, the rates of domains.

Pure arithmetic on the rules that the ledger keeps (`ledgers.pace`): a letter leaves no sooner than one interval after
the one before it, and no sooner than 24 hours after the one that is `quota` places before it, those that left earlier
by the same account included. Letters that have to be tried again are not foreseen, nor is a relay that is slow: it says
when a run is done at the earliest, if somebody sends again whenever the quota has ended one.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

Lane = tuple[str, ...]
"""The domains of a letter that have a rate of their own."""

DAY: Final = timedelta(hours=24)
_ENDLESS: Final = timedelta(days=2_000_000)  # nothing is foreseen further ahead; a calendar has an end
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds letters back. Without any of it they leave as fast as the relay takes them.

    `used` are the moments of the last 24 hours at which letters left; `free` says when the account (under "") and
    recipient domains are free again; `rates` are seconds between two letters of one domain.
    """

    interval: float = 0.0
    quota: int | None = None
    used: tuple[datetime, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    free: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forecast:
    """`first` letters leave before the quota is used up; if that is not all, more may leave from `resumes_at` on.

    `slowest` is the domain that decides when the run is done, or ''.
    """

    letters: int
    first: int
    resumes_at: datetime | None
    done_at: datetime
    slowest: str = ""


def departures(letters: int, now: datetime, terms: Terms) -> Iterator[datetime]:
    """When each of so many letters leaves at the earliest, the rates of domains left aside."""
    step = timedelta(seconds=terms.interval)
    at = max(now, terms.free.get("", now)) - step
    end = now + _ENDLESS
    behind = deque(sorted(terms.used), maxlen=terms.quota or 1)  # the last `quota` that left: each frees one place
    for _ in range(letters):
        at = min(at + step, end)
        if terms.quota and len(behind) == terms.quota:
            at = max(at, behind[0] + DAY)
        behind.append(at)
        yield at


def forecast(lanes: Mapping[Lane, int], now: datetime, terms: Terms) -> Forecast | None:
    """When so many letters are done; `lanes` counts them by the domains that have a rate, under () all others.

    None if nothing holds them back, or there are none.
    """
    letters = sum(lanes.values())
    domains = _by_domain(lanes)
    if not letters or not (terms.interval or terms.quota or domains):
        return None
    first, resumes_at, done_at = letters, None, now
    for number, at in enumerate(departures(letters, now, terms)):
        if resumes_at is None and terms.quota and at - max(now, done_at) > timedelta(seconds=terms.interval):
            first, resumes_at = number, at
        done_at = at
    slowest = ""
    for domain, count in domains.items():
        work = timedelta(seconds=(count - 1) * terms.rates[domain])
        end = _domain_free(domain, now, terms) + min(work, _ENDLESS)
        if end > done_at:
            done_at, slowest = end, domain
    return Forecast(letters, first, resumes_at, done_at, slowest)


def in_time(lanes: Mapping[Lane, int], now: datetime, terms: Terms, deadline: datetime) -> int:
    """How many of the letters can leave before a moment."""
    letters = sum(lanes.values())
    by_account = letters
    if terms.interval or terms.quota:
        by_account = sum(1 for _ in _until(departures(letters, now, terms), deadline))
    by_lane = sum(
        min([count, *(_slots_before(domain, now, terms, deadline) for domain in lane)]) for lane, count in lanes.items()
    )
    late = (count - _slots_before(domain, now, terms, deadline) for domain, count in _by_domain(lanes).items())
    return min(by_account, by_lane, letters - max(0, *late, 0)) if now < deadline else 0


def _until(moments: Iterable[datetime], deadline: datetime) -> Iterator[datetime]:
    for at in moments:
        if at >= deadline:
            return
        yield at


def _slots_before(domain: str, now: datetime, terms: Terms, deadline: datetime) -> int:
    span = (deadline - _domain_free(domain, now, terms)).total_seconds()
    return max(0, -int(-span // terms.rates[domain]))


def _domain_free(domain: str, now: datetime, terms: Terms) -> datetime:
    return max(now, terms.free.get(domain, now))


def _by_domain(lanes: Mapping[Lane, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for lane, count in lanes.items():
        if count:
            counts.update(dict.fromkeys(lane, count))
    return counts


def clock_time(moment: datetime, now: datetime) -> str:
    """A moment as people say it, in the zone of both: to the minute, never too early; the day, if it is another."""
    shown = moment + timedelta(seconds=59, microseconds=999_999)
    days = (shown.date() - now.date()).days
    day = "today" if days == 0 else _WEEKDAYS[shown.weekday()] if 0 < days < 7 else f"{shown:%Y-%m-%d}"
    return f"{day} {shown:%H:%M}"
