"""Sealing a plan into the ledger, taking over an amended one, and the decisions people make about letters.

Each function is one transaction on a held ledger: all of it, or nothing.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from dispatcher.core.changes import REWRITABLE, Standing, reached
from dispatcher.core.errors import PlanConflict, Problem, UsageError
from dispatcher.core.model import Letter, Mailbox, Skip, State
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import deflater, letter_row, new_dictionary
from dispatcher.ledgers.sqlite import SqliteLedger, stamp, suppress, suppressed, with_domains
from dispatcher.ledgers.statements import SQL


@dataclass(frozen=True, slots=True)
class Sealable:
    """A plan ready to be sealed. `letters` and `contents` may be iterators; `digest` is what was confirmed.

    `contents` are attachments (digest, octets); `each` says that two keys may share a mailbox; `who` seals it.
    """

    campaign: str
    digest: str
    frozen: str
    letters: Iterable[Letter]
    skips: Iterable[Skip]
    contents: Iterable[tuple[str, bytes]]
    each: bool = False
    who: str = ""


def seal(ledger: SqliteLedger, plan: Sealable, standing: Mapping[str, Standing], revision: int) -> None:
    """Write a plan as the next revision (T0): new letters, rewritten ones, removed ones. Raises PlanConflict.

    Letters that were accepted, are unknown, or stand as they were sealed are left alone.
    """

    def job(connection: sqlite3.Connection) -> None:
        head = {"campaign": plan.campaign, "revision": revision, "now": stamp(ledger.now())}
        waiting = iter(plan.letters)
        first = next(waiting, None)
        dictionary = new_dictionary(first.own if first else b"")
        given = {**head, "digest": plan.digest, "frozen": plan.frozen, "dictionary": dictionary}
        try:
            connection.execute(SQL["insert_plan"], given)
        except sqlite3.IntegrityError:
            raise PlanConflict(f"revision {revision} is sealed already; look at it, then try again") from None
        for digest, octets in plan.contents:
            connection.execute(SQL["insert_content"], {"digest": digest, "octets": octets})
        seen: set[str] = set()
        taken = {} if plan.each else reached(standing)
        deflate = deflater(dictionary)
        for letter in chain((first,) if first else (), waiting):
            seen.add(letter.key)
            _refuse_a_second(letter, standing.get(letter.key), taken)
            _put(connection, letter, standing.get(letter.key), {**head, "own": deflate(letter.own)})
        for key, there in standing.items():
            if key not in seen:
                connection.execute(SQL["cancel_letter"], {"id": there.id})
        for skip in plan.skips:
            given = {"key": skip.key, "reason": skip.reason, "detail": skip.detail, "place": str(skip.place)}
            connection.execute(SQL["insert_skip"], {**head, **given})
        kind = "sealed" if revision == 1 else "amended"
        ledger.event(connection, kind, subject=f"revision {revision}", who=plan.who, why=plan.digest)

    ledger.do(job)


def _refuse_a_second(letter: Letter, there: Standing | None, taken: Mapping[str, str]) -> None:
    """One mailbox, one letter: also when the rows got other keys since."""
    for mailbox in letter.recipient.mailboxes:
        other = taken.get(mailbox.identity, letter.key)
        if other != letter.key and (there is None or there.state in REWRITABLE):
            raise PlanConflict(
                f"letter {letter.key} would go to {mailbox.address}, which letter {other} has reached or may have. "
                'A key stays with its recipient: mend the list, or decide in campaign.toml: on_duplicate = "each"'
            )


def _put(connection: sqlite3.Connection, letter: Letter, there: Standing | None, head: Mapping[str, Any]) -> None:
    """A new letter, or one that is written anew, ready to leave; held back at once if it must be."""
    row = {**letter_row(letter), **head}
    try:
        if there is None:
            number = connection.execute(SQL["insert_letter"], row).lastrowid
            connection.execute(SQL["insert_sealed"], {**row, "id": number})
        elif there.state in REWRITABLE and (there.digest != letter.digest or there.state is State.CANCELLED):
            number = there.id
            if connection.execute(SQL["rewrite_letter"], {**row, "id": number}).rowcount != 1:
                raise PlanConflict(f"letter {letter.key} changed its state meanwhile; nothing was written. Try again")
            connection.execute(SQL["rewrite_sealed"], {**row, "id": number})
        else:
            return
    except sqlite3.IntegrityError as error:
        raise PlanConflict(f"letter {letter.key} cannot be sealed: {error}") from None
    _hold_back(connection, number, [m.identity for m in letter.recipient.mailboxes])


def _hold_back(connection: sqlite3.Connection, letter: int | None, identities: Iterable[str]) -> int:
    """Suppress a letter that is ready, if one of its mailboxes is suppressed; how many that were."""
    if found := suppressed(connection, identities):
        given = {"id": letter, "reason": f"{found[0]} is suppressed: {found[1]}"}
        return connection.execute(SQL["suppress_ready"], given).rowcount
    return 0


def resolve(ledger: SqliteLedger, letter: int, old: State, new: State, *, who: str, why: str) -> None:
    """A person's word on a letter that is unknown or failed (T7). Resent, it begins a new life with the same octets."""

    def job(connection: sqlite3.Connection) -> None:
        reason = f"{new if new is not State.READY else 'resend'}, says {who}: {why}"
        if new is not State.ACCEPTED:
            connection.execute(SQL["override_attempts"], {"id": letter, "why": reason})
        given = {"id": letter, "old": old, "new": new, "reason": reason, "now": stamp(ledger.now())}
        if connection.execute(SQL["resolve"], given).rowcount != 1:
            what = f"the letter is {old} no more, or not to be resolved: only unknown and failed ones are"
            raise UsageError(Problem(what, todo="look at its story: dispatcher log KEY"))
        ledger.event(connection, "resolved", letter=letter, subject=str(new), who=who, why=why)

    ledger.do(job)


def add_suppressions(
    ledger: SqliteLedger, mailboxes: Iterable[Mailbox], *, reason: str, source: str, who: str
) -> tuple[int, int]:
    """Suppress mailboxes (or `@domain`s); letters to them that wait go with them. Returns (new ones, letters).

    The ledger need not be held: letters in work are stopped by their run, before their terminator.
    """

    def job(connection: sqlite3.Connection) -> tuple[int, int]:
        now, added, wanted = stamp(ledger.now()), 0, set()
        for mailbox in mailboxes:
            wanted.add(mailbox.identity)
            if suppress(connection, mailbox.identity, mailbox.address, reason, source, now):
                added += 1
                ledger.event(connection, "suppressed", subject=mailbox.identity, who=who, why=reason)
        return added, _hold_back_waiting(connection, wanted)

    return ledger.do(job)


def _hold_back_waiting(connection: sqlite3.Connection, wanted: set[str]) -> int:
    """Suppress the letters that are ready and go to one of these; how many."""
    waiting = connection.execute(SQL["letters_in"], {"state": State.READY})
    found = [(number, ids.split()) for number, ids in waiting if not wanted.isdisjoint(with_domains(ids.split()))]
    return sum(_hold_back(connection, number, identities) for number, identities in found)


def borrow_suppressions(ledger: SqliteLedger, real: Path) -> None:
    """Copy the real ledger's suppressions, if there is one, into a rehearsal's, so that it holds back the same letters.

    To be called before sealing. The rehearsal keeps them, also those that are lifted in the real ledger later.
    """
    if not real.exists():
        return
    with Reader(real) as reader:
        theirs = list(reader.rows("suppressions"))

    def job(connection: sqlite3.Connection) -> None:
        columns = ("identity", "address", "reason", "source", "since")
        new = {row["identity"] for row in theirs if suppress(connection, *(row[name] for name in columns))}
        _hold_back_waiting(connection, new)

    ledger.do(job)


def remove_suppression(ledger: SqliteLedger, identity: str, *, who: str, why: str) -> tuple[bool, int]:
    """Lift a suppression; letters that only it held back wait again. Returns (was there, letters)."""

    def job(connection: sqlite3.Connection) -> tuple[bool, int]:
        there = connection.execute(SQL["delete_suppression"], {"identity": identity}).rowcount == 1
        reopened = 0
        if there:
            ledger.event(connection, "unsuppressed", subject=identity, who=who, why=why)
            for number, mailboxes in connection.execute(SQL["letters_in"], {"state": State.SUPPRESSED}).fetchall():
                if not suppressed(connection, mailboxes.split()):
                    given = {"id": number, "now": stamp(ledger.now())}
                    reopened += connection.execute(SQL["reopen_suppressed"], given).rowcount
        return there, reopened

    return ledger.do(job)


def begin_test(ledger: SqliteLedger, given: Mapping[str, Any]) -> int:
    """Note a test letter before it leaves; returns its number."""
    row = {**given, "now": stamp(ledger.now())}
    return ledger.do(lambda connection: connection.execute(SQL["insert_test"], row).lastrowid or 0)


def end_test(ledger: SqliteLedger, number: int, outcome: str, reply: str) -> None:
    """Note what a test letter came to."""
    given = {"id": number, "outcome": outcome, "reply": reply}
    ledger.do(lambda connection: connection.execute(SQL["end_test"], given))
