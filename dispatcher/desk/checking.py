"""`check`: the whole folder read and proof-rendered, as plain data. Nothing is written."""

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.merge import Merged
from dispatcher.core.plan import Summary
from dispatcher.desk import Desk, Draft
from dispatcher.desk.sending import guard, suppression_of


@dataclass(slots=True)
class Check:
    """What `check` found. `skips` by reason; `notes` are lines worth knowing that are not problems."""

    campaign: str
    title: str
    letters: int
    digest: str
    largest: int
    languages: dict[str, int]
    groups: dict[str, int]
    lists: dict[str, int]
    fallbacks: dict[str, int]
    attachments: list[dict[str, Any]]
    guesses: list[dict[str, Any]]
    skips: dict[str, list[dict[str, str]]]
    problems: list[Problem]
    notes: list[str] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """For JSON: problems with their place as text."""
        problems = [{"what": p.what, "where": str(p.where), "todo": p.todo} for p in self.problems]
        return {**asdict(self), "problems": problems}


def check_folder(desk: Desk) -> Check:
    """Read everything. Raises CampaignError or TemplateError if there is nothing to plan with."""
    draft = desk.draft()
    summary = Summary()
    suppressions = desk.suppressions()
    skips: dict[str, list[dict[str, str]]] = defaultdict(list)
    for item in draft.items():
        summary.add(item)
        if isinstance(item, Merged) and (reason := suppression_of(item.letter.recipient, suppressions)):
            place = str(item.letter.recipient.place)
            skips["suppressed"].append({"key": item.letter.key, "place": place, "detail": reason})
    for skip in summary.skips:
        skips[skip.reason].append({"key": skip.key, "place": str(skip.place), "detail": skip.detail})
    return Check(
        campaign=draft.campaign.id,
        title=draft.campaign.title,
        letters=len(summary.letters),
        digest=summary.digest,
        largest=summary.largest,
        languages=dict(summary.languages),
        groups=dict(summary.groups),
        lists=dict(summary.lists),
        fallbacks=dict(summary.fallbacks),
        attachments=[{"name": n, "path": p, "size": s, "letters": c} for (p, n, s), c in summary.attachments.items()],
        guesses=[{"file": t.file, "encoding": t.encoding, "samples": t.samples} for t in draft.tables if t.guessed],
        skips=dict(skips),
        problems=summary.problems,
        notes=_notes(desk, draft, summary),
    )


def _notes(desk: Desk, draft: Draft, summary: Summary) -> list[str]:
    notes = []
    try:
        guard(desk, draft.campaign, summary)
    except UsageError as error:
        notes += [f"note: {p.what}; {p.todo}" for p in error.problems]
    if summary.reserved and not notes:
        notes.append(f"note: {summary.reserved:,} letters go to example addresses: only this machine takes them")
    deadline = draft.campaign.not_after
    if deadline and desk.clock.now() >= deadline:
        notes.append(f"note: not_after {deadline.isoformat()} has passed: no letter would leave")
    return notes
