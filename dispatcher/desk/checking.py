"""`check`: the whole folder read and proof-rendered, as plain data. Nothing is written, nobody is connected to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

from dispatcher.core.campaign import Campaign, endpoint
from dispatcher.core.errors import LedgerInDoubt, Place, PlanConflict, Problem, SecretError, SignatureError, UsageError
from dispatcher.core.lint import Remark
from dispatcher.core.merge import Merged, OnPaper
from dispatcher.core.model import Channel
from dispatcher.core.plan import Summary, named_in_vain
from dispatcher.desk import Desk
from dispatcher.desk.accounts import require_secret
from dispatcher.desk.approvals import standing
from dispatcher.desk.draft import Draft
from dispatcher.desk.outlook import guard, hold_back, sealed_revision
from dispatcher.desk.pacing import expected, limits, profile_of, unmet, waiting

Look = Callable[[Merged], None]
_SET_AT_ONCE: Final = 200
"""Letters on paper that are set together."""
_NAMED: Final = 5
"""So many keys are named in one line."""


@dataclass(frozen=True, slots=True)
class Check:
    """What `check` found. `rows` are those with a letter; `notes` are worth knowing, and no problems;
    `lacking` is what this machine has not, and `send` will want.

    `skipped` counts rows without a letter by reason, `skips` lists them.
    """

    campaign: str
    title: str
    letters: int
    rows: int
    digest: str
    largest: int
    languages: dict[str, int]
    channels: dict[str, int]
    groups: dict[str, int]
    lists: dict[str, int]
    fallbacks: dict[str, int]
    fallback_recipients: dict[str, list[str]]
    attachments: list[dict[str, Any]]
    guesses: list[dict[str, Any]]
    skipped: dict[str, int]
    skips: dict[str, list[dict[str, str]]]
    limits: list[dict[str, str]]
    forecast: dict[str, Any] | None
    approvals: dict[str, Any]
    remarks: list[Remark]
    problems: list[Problem]
    notes: list[str]
    lacking: list[str]

    def as_data(self) -> dict[str, Any]:
        """For JSON, but for the problems."""
        remarks = [{**asdict(remark), "where": str(remark.where), "grave": remark.grave} for remark in self.remarks]
        return {**asdict(self), "remarks": remarks}


def check_folder(desk: Desk, *, listed: int | None = None) -> Check:
    """Read everything; list at most so many skips of each reason.

    Raises CampaignError or TemplateError if there is nothing to plan with.
    """
    return check_draft(desk, desk.draft(), listed=listed)


def check_draft(desk: Desk, draft: Draft, *, listed: int | None = None, look: Look | None = None) -> Check:
    """The same of a folder that is being read; `look` is shown every letter that goes by mail."""
    summary = _summary(draft, look)
    hold_back(desk, draft)
    skipped = {str(reason): count for reason, count in summary.skips.items()}
    if held := draft.unsealed.count_held_back():
        skipped = {"suppressed": held, **skipped}
    forecast, late = _forecast(desk, draft, draft.unsealed.count_in(Channel.MAIL))
    return Check(
        campaign=draft.campaign.id,
        title=draft.campaign.title,
        letters=summary.letters,
        rows=summary.rows,
        digest=draft.unsealed.digest(),
        largest=summary.largest,
        languages=dict(summary.languages),
        channels=dict(summary.channels),
        groups=dict(summary.groups),
        lists=dict(summary.lists),
        fallbacks=dict(summary.fallbacks),
        fallback_recipients=summary.fallback_keys,
        attachments=list(draft.attached.rows(summary)),
        guesses=[{"file": t.file, "encoding": t.encoding, "samples": t.samples} for t in draft.tables if t.guessed],
        skipped=skipped,
        skips={reason: list(islice(_skips(draft, reason), listed)) for reason in skipped},
        limits=[] if desk.sandbox else [asdict(limit) for limit in limits(draft.campaign)],
        forecast=forecast,
        approvals=standing(desk, draft.campaign).as_data(),
        remarks=summary.remarks,
        problems=list(dict.fromkeys([*summary.problems, *_what_send_would_refuse(desk, draft, summary), *late])),
        notes=list(_notes(desk, draft, summary)),
        lacking=list(_lacking(desk, draft.campaign)),
    )


def _summary(draft: Draft, look: Look | None) -> Summary:
    """The whole plan, added up; letters on paper are set as they would be printed, for a glyph may be missing."""
    summary = draft.blank_summary()
    pages: list[OnPaper] = []
    for item in draft.items():
        summary.add(item)
        if look and isinstance(item, Merged):
            look(item)
        if isinstance(item, OnPaper):
            pages.append(item)
        if len(pages) == _SET_AT_ONCE:
            _proof(draft, summary, pages)
    _proof(draft, summary, pages)
    return summary


def _proof(draft: Draft, summary: Summary, pages: list[OnPaper]) -> None:
    """Set these letters, and note what is wrong with them."""
    if not pages:
        return
    from dispatcher.desk.papering import proof  # noqa: PLC0415 (slow to load, and most campaigns need none)

    try:
        proof(draft, pages)
    except UsageError as error:
        for problem in error.problems:
            summary.add(problem)
    pages.clear()


def named(keys: Sequence[str], count: int | None = None) -> str:
    """The first keys, and how many more there are of `count` (of those given, if that is all)."""
    more = (count or len(keys)) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _skips(draft: Draft, reason: str) -> Iterator[dict[str, str]]:
    if reason == "suppressed":
        for key, place, why in draft.unsealed.held_back():
            yield {"key": key, "place": str(place), "detail": why}
    else:
        for skip in draft.unsealed.skips(reason):
            yield {"key": skip.key, "place": str(skip.place), "detail": skip.detail}


def _forecast(desk: Desk, draft: Draft, planned: int) -> tuple[dict[str, Any] | None, Sequence[Problem]]:
    """When the letters that wait are done, or why they cannot be in time."""
    try:
        found = expected(desk, waiting(desk, draft, planned))
    except UsageError as error:
        return None, error.problems
    return (found.as_data() if found else None), ()


def _what_send_would_refuse(desk: Desk, draft: Draft, summary: Summary) -> Iterator[Problem]:
    try:
        guard(desk, draft.campaign, summary)
    except UsageError as error:
        yield from error.problems
    unsigned = _unsigned(desk, draft.campaign)
    if isinstance(unsigned, SignatureError):
        yield from unsigned.problems
    deadline = draft.campaign.not_after
    if deadline and desk.clock.now() >= deadline:
        what = f"not_after {deadline.isoformat()} has passed: no letter would leave"
        yield Problem(what, Place("campaign.toml", None, "key not_after"), "set a later moment, or leave it out")
    if not summary.problems:
        try:
            desk.require_unpurged(draft.campaign.id)
        except PlanConflict as error:
            yield Problem(str(error), Place("campaign.toml", None, "key id"))
            return
        try:
            sealed_revision(desk, draft)
        except LedgerInDoubt as error:
            what, _, todo = str(error).partition("\n")
            yield Problem(what, todo=todo)
        except PlanConflict as error:
            what = str(error).splitlines()[0].rstrip(":")
            yield Problem(what, todo=f"see what changed, and take it over: dispatcher amend{desk.flag}; or undo it")


def _named_in_vain(draft: Draft, summary: Summary) -> Iterator[str]:
    """A slip in the name of a file leaves recipients with the name that it has here."""
    renderer, attachments = draft.merge.renderer, draft.campaign.letter.attachments
    for language in summary.languages:
        for name in named_in_vain(renderer.shown_names(language), attachments):
            files = ", ".join(path.rpartition("/")[2] for path in attachments) or "nothing"
            yield f"{renderer.source.letters[language].file} names {name} under [attachments]; attached is {files}"


def _notes(desk: Desk, draft: Draft, summary: Summary) -> Iterator[str]:
    campaign, relay = draft.campaign, draft.campaign.relay
    sender = campaign.sender
    yield from draft.attached.notes()
    if (approved := standing(desk, campaign)).missing:
        todo = f"dispatcher {'approve' if approved.plan else 'seal'}{desk.flag}"
        yield f"{approved.in_words}: nothing leaves before there are enough; next: {todo}"
    yield f"from {sender.name} <{sender.address}>, signed {sender.signatory}, dated {campaign.date}"
    yield from _named_in_vain(draft, summary)
    for language, letters in summary.languages.items():
        if file := draft.merge.renderer.unreviewed(language):
            todo = "have a native reader look at it and at the letter, then write reviewed = true there"
            yield f"{letters:,} in {language} by {file}, which nobody has reviewed yet: {todo}"
    if summary.decided.count:
        yield f"rows of a household differ, and the first that says something is taken: {summary.decided}"
    for file, dated in draft.dated.items():
        if dated.unmet:
            yield f"{file} has rows for {named(dated.unmet)}, and its list has none: are these the right keys?"
    if summary.clipped:
        octets, key, language = summary.most_clipped
        file = draft.merge.renderer.source.letters[language].file
        yield (
            f"letters with more than 100 kB of HTML: {summary.clipped:,}, the longest {key}, {octets / 1000:,.0f} kB. "
            f"Gmail cuts them off at 102 kB and hides the rest, footer included; shorten {file}, or attach what is long"
        )
    if not desk.sandbox:
        yield from _of_profile(campaign)
        yield from (f"no letter goes to {domain}, which has a rate under [pace.domains]" for domain in unmet(draft))
        yield from _other_campaigns(desk, campaign.id)
    if summary.reserved and (desk.sandbox or relay.loopback):
        go = "goes" if summary.reserved == 1 else "go"
        yield f"{summary.reserved:,} of the letters {go} to example addresses: only this machine takes them"


def _lacking(desk: Desk, campaign: Campaign) -> Iterator[str]:
    """What belongs to the machine that sends, and is not on this one."""
    relay = campaign.relay
    yield from _of_keys(desk, campaign)
    asks = relay.password and (relay.password.command or relay.password.keyring)  # may ask for something in turn
    if not (asks or desk.sandbox or relay.loopback):
        try:
            require_secret(desk, relay)
        except SecretError as error:
            yield f"{error.problems[0].what}: send will want it"


def _of_keys(desk: Desk, campaign: Campaign) -> Iterator[str]:
    """Keys that are not here: they belong to the machine that sends. What is wrong with those that are is a problem."""
    error = _unsigned(desk, campaign)
    if isinstance(error, SecretError):
        yield from (f"{problem.what}; send will refuse: {problem.todo}" for problem in error.problems)


def _unsigned(desk: Desk, campaign: Campaign) -> UsageError | None:
    """Why letters cannot be signed as they should; nobody is asked for a passphrase to know that."""
    if campaign.dkim is None and campaign.smime is None:
        return None
    from dispatcher.desk.signing import signing_of  # noqa: PLC0415 (slow to load, and most campaigns need none)

    where = campaign.smime.passphrase if campaign.smime else None
    if where and (where.command or where.keyring):
        return None
    try:
        signing_of(desk, campaign)
    except UsageError as error:
        return error
    return None


def _of_profile(campaign: Campaign) -> Iterator[str]:
    profile, relay = profile_of(campaign), campaign.relay
    if profile is None:
        return
    where = endpoint(relay.host, relay.port)
    yield f"relay: {profile.title} at {where}, as the profile {relay.profile} has it; {profile.note}"


def _other_campaigns(desk: Desk, campaign: str) -> Iterator[str]:
    """A new id is a new campaign, whose letters know nothing of those sent under the old one."""
    if not desk.ledger_path.exists():
        return
    with desk.reader() as reader:
        for row in reader.rows("accepted_elsewhere", campaign=campaign):
            other = f"{row['letters']:,} letters were accepted as campaign '{row['campaign']}'"
            yield f"{other}; '{campaign}' is another one and begins anew"
