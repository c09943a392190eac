"""How fast letters may leave: the limits in force and where they come from, what a run is told of them, the forecast.

A profile's values are in the campaign already (`sources.campaign`); here it is said which they are. Nothing of this
holds for the sandbox; in a rehearsal (`desk.stage`) all of it does.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.forecast import Forecast, Lane, Terms, clock_time, forecast, in_time
from dispatcher.core.model import State
from dispatcher.core.policy import ReplyRule
from dispatcher.core.profile import LIMITS, Profile
from dispatcher.desk import Desk
from dispatcher.desk.draft import Draft
from dispatcher.desk.outlook import Outlook
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
    """A forecast, in lines for people and as data; moments are local ones."""

    words: tuple[str, ...]
    letters: int
    first: int
    resumes_at: str | None
    done_at: str

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def profile_of(campaign: Campaign) -> Profile | None:
    """The profile that the campaign names."""
    return profiles().get(campaign.relay.profile or "")


def rules_of(desk: Desk, campaign: Campaign) -> tuple[ReplyRule, ...]:
    """What the relay means by replies of its own; the sandbox has none."""
    profile = profile_of(campaign) if desk.paced else None
    return profile.rules if profile else ()


def settings_of(desk: Desk, campaign: Campaign, *, wait: bool) -> Settings:
    """How a run is to behave."""
    settings = Settings(campaign.pace.connections, campaign.not_after, wait, rules=rules_of(desk, campaign))
    profile = profile_of(campaign)
    if profile is None:
        return settings
    most = profile.letters_per_connection or settings.letters_per_connection
    return replace(settings, quota_reset=profile.reset, letters_per_connection=most)


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
    return "campaign.toml" if name in campaign.pace.model_fields_set else "the default"


@dataclass(frozen=True, slots=True)
class Waiting:
    """The letters that a `send` would take up: how many, of a plan that is sealed or not; and of a choice, the keys."""

    draft: Draft
    letters: int
    sealed: bool
    keys: Collection[str] | None = None


def waiting(desk: Desk, draft: Draft, planned: int) -> Waiting:
    """All that wait; `planned` are those of a plan that is not sealed yet and that nobody holds back."""
    if desk.ledger_path.exists():
        with desk.reader() as reader:
            if reader.one("latest_plan", campaign=draft.campaign.id):
                counts = reader.counts(draft.campaign.id)
                return Waiting(draft, counts.get(State.READY, 0) + counts.get(State.LEASED, 0), sealed=True)
    return Waiting(draft, planned, sealed=False)


def of_plan(plan: Outlook) -> Waiting:
    """Those that a `send` has chosen, or all."""
    matters = plan.chosen and plan.draft.campaign.pace.domains
    return Waiting(plan.draft, plan.count, plan.sealed, frozenset(plan.picked()) if matters else None)


def expected(desk: Desk, letters: Waiting) -> Expected | None:
    """When they are done; None if nothing holds them back but the relay. Raises UsageError if `not_after` is sooner."""
    campaign = letters.draft.campaign
    if not desk.paced or not letters.letters:
        return None
    now = desk.clock.now().astimezone()
    lanes = _lanes(campaign, letters.letters, mailboxes_of(desk, letters))
    terms = _terms(desk, campaign, lanes, now)
    if problem := _too_late(campaign, lanes, terms, now):
        raise UsageError(problem)
    found = forecast(lanes, now, terms)
    if found is None:
        return None
    resumes = found.resumes_at.isoformat(timespec="seconds") if found.resumes_at else None
    words = tuple(_words(campaign, found, terms, now))
    return Expected(words, found.letters, found.first, resumes, found.done_at.isoformat(timespec="seconds"))


def foreseen(desk: Desk, campaign: Campaign, letters: int) -> Forecast | None:
    """When all letters that wait in the ledger are done at the earliest; None if nothing holds them back."""
    if not desk.paced or not letters:
        return None
    now = desk.clock.now()
    lanes = _lanes(campaign, letters, _waiting_mailboxes(desk, campaign.id))
    return forecast(lanes, now, _terms(desk, campaign, lanes, now))


def _too_late(campaign: Campaign, lanes: Mapping[Lane, int], terms: Terms, now: datetime) -> Problem | None:
    """The problem of a `not_after` before which not all letters can leave."""
    deadline = campaign.not_after
    if deadline is None or now >= deadline:
        return None  # what has passed already is said by others
    letters, count = sum(lanes.values()), in_time(lanes, now, terms, deadline)
    if count >= letters:
        return None
    what = f"not_after cannot be met: {count:,} of {letters:,} letters can leave before {deadline.isoformat()}"
    todo = "set a later moment or a quicker pace"
    if count:
        todo += f", or send the first of them alone: --limit {count}"
    return Problem(f"{what} ({_pace(campaign)})", Place("campaign.toml", None, "key not_after"), todo)


def _lanes(campaign: Campaign, letters: int, mailboxes: Iterable[Sequence[str]]) -> Counter[Lane]:
    """Letters by those of their domains that have a rate of their own: nearly always none."""
    rates = campaign.pace.domains
    if not rates:
        return Counter({(): letters})
    counted: Counter[Lane] = Counter()
    for identities in mailboxes:
        domains = {identity.rpartition("@")[2] for identity in identities}
        counted[tuple(sorted(domains if "*" in rates else domains & rates.keys()))] += 1
    return counted


def mailboxes_of(desk: Desk, letters: Waiting) -> Iterator[Sequence[str]]:
    """Whom each of the letters goes to."""
    if letters.sealed:
        yield from _waiting_mailboxes(desk, letters.draft.campaign.id, letters.keys)
    else:
        for key, mailboxes in letters.draft.unsealed.mailboxes():
            if letters.keys is None or key in letters.keys:
                yield mailboxes.split()


def _waiting_mailboxes(desk: Desk, campaign: str, keys: Collection[str] | None = None) -> Iterator[Sequence[str]]:
    with desk.reader() as reader:
        for row in reader.rows("mailboxes_waiting", campaign=campaign):
            if keys is None or row["key"] in keys:
                yield row["mailboxes"].split()


def unmet(draft: Draft) -> list[str]:
    """Domains that have a rate and no letter: mistyped, perhaps."""
    left = draft.campaign.pace.domains.keys() - {"*"}
    for _, mailboxes in draft.unsealed.mailboxes() if left else ():
        left -= {identity.rpartition("@")[2] for identity in mailboxes.split()}
    return sorted(left)


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
        then = f"more from {clock_time(found.resumes_at, now)} on, by another send or with --wait"
        yield f"{found.first:,} of them before the quota is used up; {then}."


def _pace(campaign: Campaign, slowest: str = "") -> str:
    pace = campaign.pace
    parts = [str(pace.rate)] if pace.rate else []
    if pace.quota:
        parts.append(f"{pace.quota:,} a day")
    if slowest:
        parts.append(f"{pace.domains.get(slowest) or pace.domains['*']} to {slowest}")
    elif not parts:
        names = {"*": "any other domain"}
        parts = [f"{rate} to {names.get(domain, domain)}" for domain, rate in pace.domains.items()]
    return " and ".join(parts)
