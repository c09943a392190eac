"""How fast letters may leave: the limits in force and where they come from, what a run is told of them, the forecast.

A profile's values are in the campaign already (`sources.campaign`); here it is said which they are. Nothing of this
holds for the sandbox.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import Place, Problem
from dispatcher.core.forecast import Forecast, Lane, Terms, clock_time, forecast, in_time
from dispatcher.core.model import Mailbox
from dispatcher.core.profile import LIMITS, Profile
from dispatcher.desk import Desk
from dispatcher.dispatch import Settings
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.pace import BELIEVED, QUOTA_SPAN
from dispatcher.relays.profiles import profiles


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit in force, and who says so."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Expected:
    """A forecast in words and as data."""

    words: str
    letters: int
    first: int
    resumes_at: str | None
    done_at: str

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def profile_of(campaign: Campaign) -> Profile | None:
    """The profile that the campaign names."""
    return profiles().get(campaign.relay.profile or "")


def settings_of(desk: Desk, campaign: Campaign, *, wait: bool) -> Settings:
    """How a run is to behave."""
    profile = None if desk.sandbox else profile_of(campaign)
    if profile is None:
        return Settings(campaign.pace.connections, campaign.not_after, wait)
    return Settings(campaign.pace.connections, campaign.not_after, wait, rules=profile.rules, quota_reset=profile.reset)


def limits(campaign: Campaign) -> Iterator[Limit]:
    """What holds a run back, and where it is written."""
    profile = profile_of(campaign)
    shown = {
        "connections": f"{campaign.pace.connections} at once",
        "rate": str(campaign.pace.rate or ""),
        "quota": f"{campaign.pace.quota:,} in any 24 hours" if campaign.pace.quota else "",
    }
    for name in LIMITS:
        if shown[name]:
            yield Limit(name, shown[name], _source(campaign, profile, name))
    for domain, rate in campaign.pace.domains.items():
        yield Limit(f"rate to {'any other domain' if domain == '*' else domain}", str(rate), "campaign.toml")


def _source(campaign: Campaign, profile: Profile | None, name: str) -> str:
    value, of_profile = getattr(campaign.pace, name), getattr(profile, name, None)
    source = profile.source_of(name) if profile else None
    if source and value == of_profile:
        return f"{source.title}, {source.url}"
    default = name == "connections" and value == type(campaign.pace)().connections
    return "the default" if default else "campaign.toml"


class Lanes:
    """Counts letters by those of their domains that have a rate of their own."""

    def __init__(self, campaign: Campaign) -> None:
        self._rates = campaign.pace.domains

    def of(self, mailboxes: Iterable[Mailbox]) -> Lane:
        """A letter's lane; () for nearly all."""
        if not self._rates:
            return ()
        domains = {mailbox.identity.rpartition("@")[2] for mailbox in mailboxes}
        return tuple(sorted(domains if "*" in self._rates else domains & self._rates.keys()))


def expected(desk: Desk, campaign: Campaign, lanes: Mapping[Lane, int]) -> Expected | None:
    """When so many letters are done; None if nothing holds them back but the relay."""
    if desk.sandbox:
        return None
    now = desk.clock.now().astimezone()
    terms = _terms(desk, campaign, lanes, now)
    found = forecast(lanes, now, terms)
    if found is None:
        return None
    resumes = found.resumes_at.isoformat(timespec="seconds") if found.resumes_at else None
    words = " ".join(_words(campaign, found, terms, now))
    return Expected(words, found.letters, found.first, resumes, found.done_at.isoformat(timespec="seconds"))


def too_late(desk: Desk, campaign: Campaign, lanes: Mapping[Lane, int]) -> Problem | None:
    """The problem of a `not_after` before which not all letters can leave."""
    deadline = campaign.not_after
    if desk.sandbox or deadline is None or desk.clock.now() >= deadline:
        return None  # what has passed already is said by others
    now = desk.clock.now().astimezone()
    terms = _terms(desk, campaign, lanes, now)
    letters = sum(lanes.values())
    count = in_time(lanes, now, terms, deadline)
    if count >= letters:
        return None
    what = f"not_after cannot be met: {count:,} of {letters:,} letters can leave before {deadline.isoformat()}"
    todo = "set a later moment or a quicker pace"
    if count:
        todo += f", or send the first alone: --limit {count}"
    return Problem(f"{what} ({_pace(campaign)})", Place("campaign.toml", None, "key not_after"), todo)


def _terms(desk: Desk, campaign: Campaign, lanes: Mapping[Lane, int], now: datetime) -> Terms:
    """The rules in force, and what earlier runs have used up of them."""
    pace, account = campaign.pace, campaign.relay.account
    names = {domain for lane in lanes for domain in lane}
    rates = {name: (pace.domains.get(name) or pace.domains["*"]).interval for name in names}
    used: list[datetime] = []
    free: dict[str, datetime] = {}
    if desk.ledger_path.exists():
        with desk.reader() as reader:
            if pace.quota:
                span = {"since": stamp(now - QUOTA_SPAN), "until": stamp(now + BELIEVED)}
                times = reader.rows("handed_over_at", account=account, limit=pace.quota, **span)
                used = [datetime.fromisoformat(row["at"]) for row in times]
            for row in reader.rows("slots_of", account=account, after=f"{account} ", before=f"{account}!"):
                domain = row["account"].removeprefix(account).strip()
                free[domain] = datetime.fromisoformat(row["next_at"])
    return Terms(pace.rate.interval if pace.rate else 0.0, pace.quota, tuple(used), rates, free)


def _words(campaign: Campaign, found: Forecast, terms: Terms, now: datetime) -> Iterator[str]:
    letters = "1 letter" if found.letters == 1 else f"{found.letters:,} letters"
    pace = _pace(campaign, found.slowest)
    used = f" ({len(terms.used):,} used in the last 24 hours)" if terms.used else ""
    yield f"{letters} at {pace}{used}: done {clock_time(found.done_at, now)}."
    if found.resumes_at:
        then = f"more from {clock_time(found.resumes_at, now)} on, by another send, or with --wait"
        yield f"{found.first:,} can leave before the quota is used up; {then}."


def _pace(campaign: Campaign, slowest: str = "") -> str:
    pace = campaign.pace
    parts = [str(pace.rate)] if pace.rate else []
    if pace.quota:
        parts.append(f"{pace.quota:,} a day")
    if slowest or not parts:
        rates = [f"{rate} to {domain}" for domain, rate in pace.domains.items() if not slowest or domain == slowest]
        parts += rates or [f"{pace.domains['*']} to {slowest}"]
    return " and ".join(parts)
