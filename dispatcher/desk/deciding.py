"""What people decide, with who and why: amend, resolve, suppress."""

import json
from collections.abc import Iterable
from pathlib import Path

from dispatcher.core.address import AddressError, parse_mailboxes
from dispatcher.core.changes import Changes, compare, differences
from dispatcher.core.errors import Place, Problem, TableError, UsageError
from dispatcher.core.model import Mailbox, State
from dispatcher.core.plan import Summary
from dispatcher.desk import Desk, Draft, person
from dispatcher.desk.reading import no_such_letter
from dispatcher.desk.sending import seal_revision
from dispatcher.desk.testing import one_mailbox
from dispatcher.ledgers import sealing
from dispatcher.sources.table import open_table


def changes(desk: Desk) -> tuple[Draft, Summary, Changes, list[str]]:
    """What `amend` would take over. Raises UsageError if the folder has problems."""
    draft = desk.draft()
    summary = draft.summary()
    if summary.problems:
        raise UsageError(*summary.problems)
    with desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=draft.campaign.id)
        standing = reader.standing(draft.campaign.id)
    if plan is None:
        raise UsageError(Problem("nothing is sealed yet, so there is nothing to amend", todo="run: dispatcher send"))
    changes = compare(standing, summary.letters)
    return draft, summary, changes, differences(json.loads(plan["frozen"]), draft.frozen.as_data(), changes)


def amend(desk: Desk, draft: Draft, summary: Summary) -> None:
    """Seal the folder as it is now as the next revision."""
    with desk.ledger() as ledger:
        ledger.recover()
        with desk.reader() as reader:
            plan = reader.one("latest_plan", campaign=draft.campaign.id)
            standing = reader.standing(draft.campaign.id)
        seal_revision(ledger, draft, summary, standing, (plan["revision"] if plan else 0) + 1)


def resolve(desk: Desk, key: str, decision: str, *, why: str, who: str = "") -> str:
    """A person's word on a letter; returns what it was before. Raises UsageError."""
    campaign = desk.campaign()
    desk.reader().__exit__()
    with desk.ledger() as ledger:
        ledger.recover()
        with desk.reader() as reader:
            there = reader.standing(campaign.id)
        if key not in there:
            raise no_such_letter(key, there)
        old = there[key].state
        new = {"accepted": State.ACCEPTED, "failed": State.FAILED, "resend": State.READY}[decision]
        if old is not State.UNKNOWN and not (old is State.FAILED and new is State.READY):
            what = f"letter {key} is {old}; only an unknown letter can be resolved, and a failed one resent"
            raise UsageError(Problem(what, todo=f"look at its story: dispatcher log {key}"))
        sealing.resolve(ledger, there[key].id, old, new, who=who or person(), why=why)
    return old


def suppress(desk: Desk, cells: Iterable[str], *, reason: str, source: str) -> tuple[int, int]:
    """Suppress addresses (or `@domain`s). Returns (new ones, letters that wait no longer)."""
    mailboxes = [m for cell in cells for m in suppressible(cell)]
    with desk.ledger() as ledger:
        return sealing.add_suppressions(ledger, mailboxes, reason=reason, source=source, who=person())


def import_suppressions(desk: Desk, file: Path, *, reason: str) -> tuple[int, int]:
    """Suppress every address of a list (column `email` or `address`). All of it, or nothing. Raises UsageError."""
    table, rows = open_table(file, file.name)
    column = next((name for name in table.columns if name.lower() in ("email", "address")), None)
    if column is None:
        raise TableError(
            Problem("there is no column 'email'", Place(file.name, 1), "name the column with the addresses")
        )
    cells = []
    for row in rows:
        if text := row.values[column]:
            try:
                suppressible(text)
            except UsageError as error:
                raise TableError(
                    Problem(error.problems[0].what, Place(file.name, row.line, column), "mend it")
                ) from None
            cells.append(text)
    return suppress(desk, cells, reason=reason, source=file.name)


def unsuppress(desk: Desk, address: str, *, why: str) -> int:
    """Lift a suppression; returns how many letters wait again. Raises UsageError if there is none."""
    identity = suppressible(address)[0].identity
    with desk.ledger() as ledger:
        there, letters = sealing.remove_suppression(ledger, identity, who=person(), why=why)
    if not there:
        raise UsageError(Problem(f"{address} is not suppressed", todo="see: dispatcher suppress list"))
    return letters


def suppressible(cell: str) -> tuple[Mailbox, ...]:
    """An address, or `@domain` for a whole domain. Raises UsageError."""
    if cell.startswith("@"):
        domain = one_mailbox("x" + cell).identity.partition("@")[2]
        return (Mailbox("@" + domain, "", "@" + domain),)
    try:
        return parse_mailboxes(cell)
    except AddressError as error:
        raise UsageError(Problem(str(error), todo="write an address, or @domain for all of a domain")) from None
