"""Approvals of sealed plans in the ledger: recorded once, never changed. Who counts is judged anew each time."""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime

from dispatcher.core.approval import Approval, PlanName
from dispatcher.core.errors import PlanConflict, Problem, UsageError
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, unreadable
from dispatcher.ledgers.sqlite import SqliteLedger
from dispatcher.ledgers.statements import SQL

Objection = Callable[[Sequence[Approval]], str]
"""Why an approval is not to be recorded beside these, or ''."""


def record(ledger: SqliteLedger, approval: Approval, objection: Objection, *, person: str, who: str, how: str) -> None:
    """Record an approval of the plan that is sealed now, in one transaction; the ledger need not be held.

    `person` is the name without what tells nobody apart, `who` is at the keyboard, `how` says what it is signed with.
    Raises PlanConflict if another plan is sealed, UsageError if there is an objection.
    """

    def job(connection: sqlite3.Connection) -> None:
        plan = approval.plan
        sealed = connection.execute(SQL["latest_plan"], {"campaign": plan.campaign}).fetchone()
        if sealed is None or sealed[:2] != (plan.revision, plan.digest):
            there = PlanName(plan.campaign, *sealed[:2]) if sealed else "none"
            raise PlanConflict(f"this is an approval of {plan}, and what is sealed is {there}: nothing was recorded")
        rows = connection.execute(SQL["approvals"], {"campaign": plan.campaign, "revision": plan.revision})
        if why_not := objection([_approval(plan, *row[:5]) for row in rows]):
            raise UsageError(Problem(f"the approval of {approval.name} was not recorded: {why_not}"))
        given = {"revision": plan.revision, "name": approval.name, "person": person, "at": approval.when}
        signed = {"key": approval.key, "signature": approval.signature, "now": stamp(ledger.now()), "who": who}
        where = {"campaign": plan.campaign, "digest": plan.digest}
        connection.execute(SQL["insert_approval"], {**where, **given, **signed})
        subject = f"revision {plan.revision}"
        ledger.event(connection, "approved", subject=subject, who=approval.name, why=f"{plan.digest}, {how}")

    ledger.do(job)


def approvals_of(reader: Reader, plan: PlanName) -> list[Approval]:
    """What is recorded of a revision, in order; each names the plan it is of. Raises LedgerUnavailable if damaged."""
    rows = list(reader.rows("approvals", campaign=plan.campaign, revision=plan.revision))
    return [_approval(plan, *(row[name] for name in ("digest", "name", "at", "key", "signature"))) for row in rows]


def _approval(plan: PlanName, digest: str, name: str, at: str, key: str, signature: str) -> Approval:
    try:
        of = PlanName(plan.campaign, plan.revision, digest)
        return Approval(of, name, datetime.fromisoformat(at), key, signature)
    except DAMAGED as error:
        raise unreadable(f"the approval by {name!r}", error) from None
