"""What people decide, with who and why: amend, resolve, adopt, suppress."""

from collections.abc import Iterable
from pathlib import Path

from dispatcher.core.address import AddressError, parse_mailboxes
from dispatcher.core.changes import Changes, differences
from dispatcher.core.errors import Place, PlanConflict, Problem, TableError, UsageError
from dispatcher.core.model import Mailbox, State
from dispatcher.core.plan import Summary
from dispatcher.core.reading import WORDS
from dispatcher.desk import Desk, person, quoted, require_why
from dispatcher.desk.draft import Draft
from dispatcher.desk.reading import no_such_letter
from dispatcher.desk.sending import seal_revision
from dispatcher.ledgers import adopting, sealing
from dispatcher.ledgers.held import SqliteLedger
from dispatcher.ledgers.suppressions import with_domains
from dispatcher.sources.table import open_table


def changes(desk: Desk) -> tuple[Draft, Summary, Changes, list[str]]:
    """What `amend` would take over, in lines too.

    Raises UsageError if the folder has problems, or no change; PlanConflict if somebody would get a second letter.
    """
    draft = desk.draft()
    desk.require_unpurged(draft.campaign.id)
    summary = draft.summary(whole=True)
    if summary.problems:
        raise UsageError(*summary.problems)
    with desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=draft.campaign.id)
        frozen = reader.frozen(draft.campaign.id, plan["revision"]) if plan else {}
    send = f"dispatcher send{desk.flag}"
    if plan is None:
        raise UsageError(Problem("nothing is sealed yet, so there is nothing to amend", todo=f"run: {send}"))
    changes = draft.unsealed.changes(desk.ledger_path, draft.campaign.id)
    if plan["digest"] == draft.unsealed.digest() and not changes.count:
        raise UsageError(Problem("the folder is what was sealed: there is nothing to amend", todo=f"run: {send}"))
    lines = differences(frozen, draft.frozen.as_data(), changes)
    if changes.twice.count and draft.campaign.on_duplicate != "each":
        raise PlanConflict(
            "a second letter would go to somebody who has one, or may have:\n"
            + "\n".join(f"  {line}" for line in lines)
            + '\nA key stays with its recipient: mend the list, or decide in campaign.toml: on_duplicate = "each"'
        )
    return draft, summary, changes, lines


def amend(desk: Desk, draft: Draft, summary: Summary) -> None:
    """Seal the folder as it was counted as the next revision. Raises PlanConflict, LedgerInDoubt."""
    desk.require_right_ledger()
    with desk.ledger() as ledger:
        ledger.recover()
        with desk.reader() as reader:
            plan = reader.one("latest_plan", campaign=draft.campaign.id)
        seal_revision(desk, ledger, draft, summary, (plan["revision"] if plan else 0) + 1)


def resolve(desk: Desk, key: str, decision: str, *, why: str, who: str = "", seen: int | None = None) -> str:
    """A person's word on a letter; returns what it was before. Raises UsageError.

    `seen` is the attempt whose unknown outcome the person looked at: what was decided since, or is about another
    attempt, is not decided again.
    """
    require_why(why)
    campaign = desk.campaign_id()
    with desk.reader():  # there must be one
        pass
    desk.require_unpurged(campaign)
    with desk.ledger() as ledger:
        ledger.recover()
        with desk.reader() as reader:
            there = reader.one("standing", campaign=campaign, key=key)
            if there is None:
                raise no_such_letter(key, reader, campaign)
            last = reader.one("last_attempt_of", letter=there["id"]) or {"attempt": None}
        old = State(there["state"])
        new = {"accepted": State.ACCEPTED, "failed": State.FAILED, "resend": State.READY}[decision]
        if seen is not None and (old is not State.UNKNOWN or last["attempt"] != seen):
            what = f"letter {key} is no longer as you saw it: it is {WORDS.get(old, old)} now"
            raise UsageError(Problem(f"{what}; nothing was changed", todo=f"look at its story: {_story(desk, key)}"))
        if old is not State.UNKNOWN and not (old is State.FAILED and new is State.READY):
            rule = "only an unknown letter can be resolved, and a failed one resent"
            what = f"letter {key} is {WORDS.get(old, old)}; {rule}"
            todo = f"look at its story: {_story(desk, key)}"
            if old is State.READY:
                todo += f". To hold it back: dispatcher suppress add{desk.flag} ADDRESS --why …"
            raise UsageError(Problem(what, todo=todo))
        sealing.resolve(ledger, there["id"], old, new, who=who or person(), why=why)
    return old


def _story(desk: Desk, key: str) -> str:
    return f"dispatcher log {quoted(key)}{desk.flag}"


def adopt(desk: Desk, decision: str, *, why: str, who: str = "") -> tuple[str, int, int]:
    """Say that the ledger here is the right one from now on; its waiting letters are `unknown`, or go on `waiting`.

    Returns what was in doubt, how many letters are held now as unknown, and how many on paper as printed. Raises
    UsageError.
    """
    require_why(why)
    marks, doubt = desk.marks(), desk.doubt()
    if marks is None or not doubt:
        todo = f"nothing is to be decided; see: dispatcher status{desk.flag}"
        raise UsageError(Problem("there is no doubt about this ledger", todo=todo))
    if decision == "unknown" and not desk.ledger_path.exists():
        todo = "put it back; or begin anew, and have every letter sent again: --as waiting"
        raise UsageError(Problem(f"{doubt}: there is no letter that could be held", todo=todo))
    with SqliteLedger(desk.ledger_path, desk.clock.now) as ledger:
        hold = decision == "unknown"
        return doubt, *adopting.adopt(ledger, marks, hold=hold, doubt=doubt, who=who or person(), why=why)


def strangers(desk: Desk, cells: Iterable[str]) -> list[str]:
    """Those of these addresses (or `@domain`s) to which no letter of the sealed plan goes: mistyped, perhaps."""
    left = {mailbox.identity: cell for cell in cells for mailbox in suppressible(cell)}
    with desk.reader() as reader:
        if not reader.one("latest_plan", campaign=desk.campaign_id()):
            return []
        for row in reader.rows("written_to", campaign=desk.campaign_id()):
            for identity in with_domains(row["mailboxes"].split()):
                left.pop(identity, None)
            if not left:
                break
    return list(left.values())


def suppress(desk: Desk, cells: Iterable[str], *, reason: str, source: str) -> tuple[int, int, list[str]]:
    """Suppress addresses (or `@domain`s). Raises UsageError.

    Returns how many are new, how many letters wait no longer, and the keys of those that are printed: a person must
    take them out of the pile.
    """
    require_why(reason)
    campaign = desk.campaign_id()  # a suppression beside no campaign would hold nobody back
    mailboxes = [m for cell in cells for m in suppressible(cell)]
    with desk.ledger(hold=False) as ledger:
        added, letters = sealing.add_suppressions(ledger, mailboxes, reason=reason, source=source, who=person())
    wanted = {mailbox.identity for mailbox in mailboxes}
    with desk.reader() as reader:
        rows = reader.rows("printed_to", campaign=campaign)
        printed = [row["key"] for row in rows if not wanted.isdisjoint(with_domains(row["mailboxes"].split()))]
    return added, letters, printed


def import_suppressions(desk: Desk, file: Path, *, reason: str) -> tuple[int, int, list[str]]:
    """Suppress every address of a list (column `email` or `address`). All of it, or nothing. Raises UsageError."""
    table, rows = open_table(file, file.name)
    column = next((name for name in table.columns if name.lower() in ("email", "address")), None)
    if column is None:
        todo = f"name the column with the addresses so. Columns are: {', '.join(table.columns)}"
        if any("@" in name for name in table.columns):
            todo = "the first line is to be: email"
        raise TableError(Problem("there is no column 'email'", Place(file.name, 1), todo))
    cells, problems = [], []
    for row in rows:
        try:
            if text := row.values[column]:
                suppressible(text)
                cells.append(text)
        except UsageError as error:
            problems.append(Problem(error.problems[0].what, Place(file.name, row.line, column), "mend it"))
    if problems:
        raise TableError(*problems)
    return suppress(desk, cells, reason=reason, source=file.name)


def unsuppress(desk: Desk, address: str, *, why: str) -> int:
    """Lift a suppression; returns how many letters wait again. Raises UsageError if there is none."""
    require_why(why)
    desk.campaign_id()
    found = suppressible(address)
    todo = f"see: dispatcher suppress list{desk.flag}"
    if len(found) != 1:
        raise UsageError(Problem("one address at a time, each with its reason", todo=todo))
    nothing = UsageError(Problem(f"{address} is not suppressed", todo=todo))
    if not desk.ledger_path.exists():
        raise nothing
    with desk.ledger(hold=False) as ledger:
        there, letters = sealing.remove_suppression(ledger, found[0].identity, who=person(), why=why)
    if not there:
        raise nothing
    return letters


def suppressible(cell: str) -> tuple[Mailbox, ...]:
    """Addresses, or `@domain` for a whole domain. Raises UsageError."""
    whole = cell.startswith("@")
    todo = "write an address, or @domain for all of a domain"
    try:
        found = parse_mailboxes("x" + cell if whole else cell)
    except AddressError as error:
        raise UsageError(Problem(str(error), todo=todo)) from None
    if not whole:
        return found
    if len(found) > 1:
        raise UsageError(Problem(f"{cell} is more than one domain", todo=f"one at a time: {todo}"))
    domain = found[0].identity.removeprefix("x")
    return (Mailbox(domain, "", domain),)
