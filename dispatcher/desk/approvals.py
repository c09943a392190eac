"""Four eyes: who has approved the plan that would leave, whether that is enough, and recording one more.

An approval is of the plan that is sealed, and of no other: after `amend` there is a new one, which nobody has approved.
Signatures are checked when an approval is recorded, and again each time it is to count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from dispatcher.core.approval import (
    Approval,
    Judged,
    PlanName,
    PublicKey,
    approver_name,
    judge,
    out_of_time,
    person_of,
)
from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import NotApproved, Place, PlanConflict, Problem, SignatureError, UsageError
from dispatcher.core.ports import Clock
from dispatcher.desk import Desk, person
from dispatcher.ledgers import approvals
from dispatcher.ledgers.approvals import approvals_of
from dispatcher.signing import fingerprint, sign, verify

_LARGEST: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a plan is approved: the plan that is sealed now (None: none is), how many are wanted, and who did."""

    plan: PlanName | None
    wanted: int
    approvals: Sequence[Judged] = ()

    @property
    def counted(self) -> int:
        """How many count."""
        return sum(not judged.why_not for judged in self.approvals)

    @property
    def missing(self) -> int:
        """How many are still wanted."""
        return max(0, self.wanted - self.counted)

    @property
    def unsigned(self) -> int:
        """How many of those that count are a name that somebody typed, and no signature."""
        return sum(not (judged.why_not or judged.approval.key) for judged in self.approvals)

    @property
    def in_words(self) -> str:
        """In one line."""
        names = ", ".join(judged.approval.name for judged in self.approvals if not judged.why_not)
        wanted = f" of {self.wanted}" if self.wanted else ""
        many = "approval" if not wanted and self.counted == 1 else "approvals"
        return f"{self.counted}{wanted} {many}" + (f": {names}" if names else "")

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        rows = [judged.as_data() for judged in self.approvals]
        plan = str(self.plan) if self.plan else None
        counts = {"wanted": self.wanted, "counted": self.counted, "unsigned": self.unsigned, "missing": self.missing}
        return {"plan": plan, **counts, "in_words": self.in_words, "rows": rows}


def standing(desk: Desk, campaign: Campaign) -> Standing:
    """How far what is sealed here is approved. A rehearsal wants no approvals."""
    wanted = 0 if desk.sandbox else campaign.approvals
    if not desk.ledger_path.exists():
        return Standing(None, wanted)
    with desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=campaign.id)
        if plan is None:
            return Standing(None, wanted)
        name = PlanName(campaign.id, plan["revision"], plan["digest"])
        return Standing(name, wanted, tuple(_judge(campaign, name, approvals_of(reader, name))))


def require_approved(desk: Desk, campaign: Campaign) -> None:
    """Raise NotApproved unless what is sealed here is approved by as many people as the campaign wants.

    To be asked before anything leaves: an approval is never taken back, and a plan that is amended later is another.
    """
    found = standing(desk, campaign)
    if not found.missing:
        return
    if found.plan is None:
        wanted = f"the campaign wants {found.wanted} approvals, and nothing is sealed yet that could be approved"
        raise NotApproved(f"{wanted}: nothing was sent. Seal it: dispatcher seal{desk.flag}")
    ignored = (f"  {j.approval.name}'s does not count: {j.why_not}" for j in found.approvals if j.why_not)
    wanted = f"{found.missing} more {'is' if found.missing == 1 else 'are'} wanted"
    here = f"Approve it here: dispatcher approve --by NAME{desk.flag}"
    elsewhere = f"dispatcher approve --plan {found.plan} --by NAME --key FILE --export approval.json"
    lines = (f"{found.in_words}; {wanted}: nothing was sent", *ignored, here, f"or elsewhere: {elsewhere}")
    raise NotApproved("\n".join(lines))


def approve(desk: Desk, *, by: str = "", key: Path | None = None, plan: PlanName | None = None) -> Standing:
    """Record an approval of what would leave now; of `plan`, if that is said, and of nothing else.

    Raises UsageError, SignatureError, PlanConflict (nothing is sealed, or the folder was changed since).
    """
    by = _name(by)
    campaign, sealed = _would_leave(desk)
    if plan and plan != sealed:
        raise PlanConflict(f"what would leave is {sealed}, not {plan}: nothing was recorded. Look at it again")
    _record(desk, campaign, make(sealed, desk.clock, by=by, key=key))
    return standing(desk, campaign)


def make(plan: PlanName, clock: Clock, *, by: str = "", key: Path | None = None) -> Approval:
    """An approval of a plan, signed if there is a key. Neither folder nor ledger is needed. Raises UsageError."""
    approval = Approval(plan, _name(by), clock.now())
    if key is None:
        return approval
    signed = sign(key.expanduser(), approval.text())
    return replace(approval, key=signed.key.key, signature=signed.signature)


def _name(by: str) -> str:
    try:
        return approver_name(by or person())
    except ValueError as error:
        raise UsageError(Problem(str(error), Place("--by"), "write your name as people know you")) from None


def would_leave(desk: Desk) -> PlanName:
    """The sealed plan that would leave now. Raises PlanConflict."""
    return _would_leave(desk)[1]


def take_in(desk: Desk, file: Path) -> tuple[Approval, Standing]:
    """Record an approval that was made elsewhere. Raises UsageError, SignatureError, PlanConflict; then nothing is."""
    approval = _read(file)
    campaign = desk.campaign()
    found = standing(desk, campaign)
    if found.plan is None:
        raise PlanConflict(f"nothing is sealed here that could be approved. Seal it: dispatcher seal{desk.flag}")
    if approval.plan != found.plan:
        raise PlanConflict(
            f"{file} is an approval of {approval.plan}, and what is sealed here is {found.plan}: nothing was recorded. "
            "Have what is sealed now looked at and approved"
        )
    with desk.reader() as reader:
        sealed = reader.one("latest_plan", campaign=campaign.id) or {}
    sealed_at = datetime.fromisoformat(sealed["sealed_at"])
    if why_not := out_of_time(approval, sealed=sealed_at, now=desk.clock.now()):
        todo = "set the clocks right, and have it approved again"
        raise UsageError(Problem(f"{file} was not recorded: {why_not}", todo=todo))
    _record(desk, campaign, approval)
    return approval, standing(desk, campaign)


def _would_leave(desk: Desk) -> tuple[Campaign, PlanName]:
    from dispatcher.desk.outlook import outlook  # noqa: PLC0415 (merges the folder; what only looks needs none of it)

    plan = outlook(desk)
    campaign = plan.draft.campaign
    found = standing(desk, campaign).plan
    if not plan.sealed or found is None or found.revision != plan.revision:
        raise PlanConflict(f"nothing is sealed yet that could be approved. Seal it: dispatcher seal{desk.flag}")
    return campaign, found


def _read(file: Path) -> Approval:
    try:
        with file.open("rb") as opened:
            approval = Approval.from_file(opened.read(_LARGEST))
    except OSError as error:
        raise UsageError(Problem(f"{file} cannot be read: {error.strerror}", todo="check its name")) from None
    except ValueError as error:
        todo = "have the file sent again, as it was written"
        raise UsageError(Problem(f"{file} is no approval: {error}", todo=todo)) from None
    if not approval.signature:
        todo = "have it made with --key; anybody could have written this one"
        raise UsageError(Problem(f"{file} is not signed", todo=todo))
    if wrong := _signature(approval):
        raise SignatureError(Problem(f"{file}: {wrong}", todo="have the file sent again, as it was written"))
    return approval


def _record(desk: Desk, campaign: Campaign, approval: Approval) -> None:
    def objection(there: Sequence[Approval]) -> str:
        why_not = _judge(campaign, approval.plan, [*there, approval])[-1].why_not
        return why_not and f"{why_not}. See: dispatcher approve --list{desk.flag}"

    how = f"signed with {fingerprint(PublicKey.parse(approval.key))}" if approval.key else "not signed"
    with desk.ledger(hold=False) as ledger:
        approvals.record(ledger, approval, objection, person=person_of(approval.name), who=person(), how=how)


def _judge(campaign: Campaign, plan: PlanName, there: Sequence[Approval]) -> list[Judged]:
    def check(approval: Approval) -> str:
        return "it is of another plan" if approval.plan != plan else _signature(approval)

    return list(judge(there, campaign.approvers, check))


def _signature(approval: Approval) -> str:
    """What is wrong with its signature, or ''."""
    if not approval.signature:
        return ""
    try:
        verify(approval.text(), approval.signature, PublicKey.parse(approval.key))
    except SignatureError as error:
        return error.problems[0].what
    return ""


__all__ = ["Standing", "approve", "make", "require_approved", "standing", "take_in", "would_leave"]
