"""Before the first letter: this machine, the letters, the relay, looked at by itself or by `send`. Nothing is sent.

The relay is really met: login, MAIL and RCPT to ourselves, taken back by RSET. Nothing is written. What is wrong with
a letter is `check`'s to say, and `send` has refused it before it comes here.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dispatcher.core.campaign import Campaign
from dispatcher.core.compose import DATE_SIZE
from dispatcher.core.errors import Problem, RelayUnavailable, SecretError, UsageError
from dispatcher.core.look import Look, reach_of_links
from dispatcher.core.machine import machine_lines
from dispatcher.core.model import Channel
from dispatcher.core.policy import classify_trouble
from dispatcher.core.ports import RelayTrouble
from dispatcher.core.preflight import Line, Part, Status, ok, problem, tally, warning
from dispatcher.core.probe import Probe, Trial, at_least, probe_lines, trouble_line
from dispatcher.core.reach import Reach
from dispatcher.desk import Desk
from dispatcher.desk.accounts import open_relay, require_secret
from dispatcher.desk.approvals import require_approved
from dispatcher.desk.checking import Check, check_draft
from dispatcher.desk.dkim import keys_at_hand
from dispatcher.desk.draft import Draft
from dispatcher.desk.machine import machine
from dispatcher.desk.outlook import Outlook
from dispatcher.desk.pacing import expected, of_plan, rules_of
from dispatcher.desk.posture import Consult, Fetch, sender_lines
from dispatcher.desk.reach import reach_of, recipient_lines
from dispatcher.desk.signing import signatures_size, signing_lines, signing_of
from dispatcher.desk.spam import spam_lines
from dispatcher.doctor import opinions, require_doctor
from dispatcher.links import reached
from dispatcher.lookups import Lookups
from dispatcher.relays.probe import HASTY
from dispatcher.wellknown import fetched


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found, line by line, in the order of the parts."""

    lines: Sequence[Line]

    @property
    def problems(self) -> list[Line]:
        return [line for line in self.lines if line.status is Status.PROBLEM]

    @property
    def warnings(self) -> int:
        return tally(self.lines)[Status.WARNING]

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        counts = tally(self.lines)
        return {**{str(status): counts[status] for status in Status}, "lines": [line.as_data() for line in self.lines]}


def preflight(desk: Desk, *, links: bool = False, spam: bool = False, doctor: bool = False) -> Preflight:
    """Look at everything.

    With `links`, try them, and the MTA-STS policy; with `spam`, have spam filters judge a letter of each language; with
    `doctor`, ask for a second opinion on the sender's domain.
    Raises CampaignError or TemplateError if there is nothing to look at, UsageError if there is no such doctor.
    """
    if doctor:
        require_doctor()
    draft, look = desk.draft(), Look()
    campaign = draft.campaign
    check = check_draft(desk, draft, look=look)
    here = machine_lines(machine(desk, campaign, check.letters, _attached(draft)))
    lines = [*here, *_letters(check), *look.lines()]
    lines += reach_of_links(reached(look.targets)) if links else ()
    if spam:
        now = desk.clock.now().replace(microsecond=0)
        lines += spam_lines({code: draft.merge.with_date(each, now).octets for code, each in look.first.items()})
    if desk.sandbox:
        return Preflight([*lines, ok(Part.RELAY, "connection", "the embedded sandbox, which captures everything")])
    if check.letters and not check.channels.get(Channel.MAIL):
        return Preflight([*lines, ok(Part.RELAY, "connection", "not met: every letter goes on paper")])
    met = _meet(desk, campaign, check.largest)
    signed = signing_lines(desk, campaign, _moment(check.forecast["done_at"] if check.forecast else None))
    reach = reach_of(draft)
    ways = _Ways(fetched if links else None, opinions if doctor else None)
    domains = asyncio.run(_domains(desk, campaign, met.features, reach, ways))
    return Preflight([*lines, *met.lines, *_pace(check, met.probe, campaign.pace.connections), *signed, *domains])


def before_sending(desk: Desk, plan: Outlook) -> Preflight:
    """The same for a plan that is about to leave: what concerns all of its letters. The DNS comes last, and is asked
    only if the relay lets letters through at all.
    """
    campaign, letters = plan.draft.campaign, plan.summary.letters
    here = list(machine_lines(machine(desk, campaign, letters, _attached(plan.draft))))
    met = _meet(desk, campaign, plan.summary.largest)
    found = Preflight([*here, *met.lines, *signing_lines(desk, campaign, _done_at(desk, plan))])
    return found if met.refused else Preflight([*found.lines, *asyncio.run(_domains(desk, campaign, met.features))])


def make_ready(desk: Desk, plan: Outlook, *, patient: bool = False) -> Preflight:
    """What is to be looked at before a `send`; raises what stops it, and then nothing was sealed.

    That is NotApproved; LedgerUnavailable; RelayUnavailable, if no session with the relay came about; UsageError for
    any other problem.
    Whoever is patient waits for what may pass by itself.
    """
    require_approved(desk, plan.draft.campaign)
    require_secret(desk, plan.draft.campaign.relay)
    signing_of(desk, plan.draft.campaign)
    desk.require_marks_kept()
    found = before_sending(desk, plan)
    grave = [line for line in found.problems if not (patient and line.passing)]
    for line in grave:
        if line.part is Part.RELAY and line.subject in ("connection", "TLS", "login"):
            raise RelayUnavailable(f"{line.what}\n  → {line.todo}\nNothing was sent. {_SKIP}")
    if grave:
        raise UsageError(*(Problem(f"{line.part}, {line.subject}: {line.what}", todo=_todo(line)) for line in grave))
    return found


_SKIP = "See all: dispatcher preflight; to send without it: --skip-preflight"


def _done_at(desk: Desk, plan: Outlook) -> datetime | None:
    """When the last letter is expected to leave; None if nobody can tell."""
    try:
        found = expected(desk, of_plan(plan))
    except UsageError:  # not all of them in time, which stops `send` elsewhere
        return None
    return _moment(found.done_at if found else None)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _todo(line: Line) -> str:
    return "\n".join([line.todo, *(f"publish: {record}" for record in line.records), _SKIP])


def _attached(draft: Draft) -> int:
    """Octets of all files that are attached, each once."""
    paths = [draft.root / path for path in draft.paths.values()]
    return sum(path.stat().st_size for path in paths if path.is_file())


# The letters: what `check` knows.


def _letters(check: Check) -> Iterator[Line]:
    for found in check.problems:
        where = f"{found.where}: " if str(found.where) else ""
        yield problem(Part.LETTERS, "check", f"{where}{found.what}", found.todo)
    for remark in check.remarks:
        if not remark.grave:
            yield warning(Part.LETTERS, "check", f"{remark.where}: {remark.in_words}", remark.todo)
    if not check.problems:
        count = "1 letter" if check.letters == 1 else f"{check.letters:,} letters"
        size = f"the largest {check.largest / 1000:,.0f} kB"
        yield ok(Part.LETTERS, "check", f"{count}, {size}; dispatcher check says more")


def _pace(check: Check, probe: Probe | None, connections: int) -> Iterator[Line]:
    """When it will be done; that a deadline cannot be met is among the problems of `check`."""
    if not check.channels.get(Channel.MAIL):
        return
    if check.forecast:
        yield ok(Part.RELAY, "pace", " ".join(check.forecast["words"]))
        return
    words = "nothing holds the letters back but the relay"
    letters = check.channels[Channel.MAIL]
    seconds = at_least(letters, probe, connections) if probe else None
    if seconds is not None:
        time = f"{seconds:,.1f} s" if seconds < 100 else f"{seconds / 60:,.0f} min"
        words += f": {letters:,} take {time} at least, over {connections} connections"
    yield ok(Part.RELAY, "pace", words)


@dataclass(frozen=True, slots=True)
class _Ways:
    """What is done beyond our own look-ups, if somebody asks for it."""

    fetch: Fetch | None = None
    consult: Consult | None = None


async def _domains(
    desk: Desk,
    campaign: Campaign,
    features: Mapping[str, str] | None,
    reach: Reach | None = None,
    ways: _Ways = _Ways(),
) -> Sequence[Line]:
    """What the DNS says of the sender's domain, and of the recipients' if they are to be looked at."""
    dns = Lookups(campaign.preflight.resolver or "")
    lines = list(await sender_lines(campaign, dns, keys_at_hand(desk, campaign), ways.fetch, ways.consult))
    return lines + list(await recipient_lines(campaign, reach, features, dns)) if reach else lines


# The relay.


@dataclass(frozen=True, slots=True)
class _Met:
    """What was seen of the relay; `probe` is None if there was no session."""

    lines: Sequence[Line]
    probe: Probe | None = None

    @property
    def features(self) -> Mapping[str, str] | None:
        """What it offers, if it was met."""
        return self.probe.info.features if self.probe else None

    @property
    def refused(self) -> bool:
        return any(line.status is Status.PROBLEM for line in self.lines)


def _meet(desk: Desk, campaign: Campaign, largest: int) -> _Met:
    sender = campaign.sender
    size = largest + DATE_SIZE + signatures_size(desk, campaign) if largest else 0
    trial = Trial(sender.mailbox("return_path").address, sender.mailbox("address").address, size)
    try:
        require_secret(desk, campaign.relay)  # said as what it is, not as a login that was refused
        found = asyncio.run(_probe(desk, campaign, trial))
    except SecretError as error:
        return _Met([problem(Part.RELAY, "login", secret.what, secret.todo) for secret in error.problems])
    except RelayTrouble as trouble:
        rules = rules_of(desk, campaign)
        why = classify_trouble(trouble.phase, trouble.reply, trouble.fault, rules).why
        return _Met([trouble_line(trouble, rules, desk.relay_advice(why))])
    lines = list(probe_lines(campaign.relay, found, trial, desk.clock.now()))
    return _Met(lines, found)


async def _probe(desk: Desk, campaign: Campaign, trial: Trial) -> Probe:
    async with open_relay(desk, campaign, HASTY) as relay:
        return await relay.probe(trial)
