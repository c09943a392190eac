"""What was printed, posted and thrown away: the way of a letter on paper through the ledger.

A file is recorded when it is durable, never before: a crash between the two leaves letters that wait to be printed, and
printing them again is harmless. That a letter was posted is a person's word, said once. Each function is one
transaction on a held ledger: all of it, or nothing.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date

from dispatcher.core.errors import DispatcherError
from dispatcher.core.model import State
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.sealing import hold_back
from dispatcher.ledgers.sqlite import SqliteLedger
from dispatcher.ledgers.statements import SQL
from dispatcher.ledgers.suppressions import suppressed_by_people_among


@dataclass(frozen=True, slots=True)
class PrintedFile:
    """A file as it was written: its name, what it holds, how many octets, their SHA-256 (hex)."""

    name: str
    holds: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Printed:
    """A letter that is in a file: its number and key, where it stood, the digest it is sealed with, and the file."""

    id: int
    key: str
    state: State
    digest: str
    file: str


def record(
    ledger: SqliteLedger, number: int, campaign: str, letters: Sequence[Printed], files: Sequence[PrintedFile], who: str
) -> list[str]:
    """Record the printing of this number; its files must be durable. Letters that are printed already are reprinted.

    Returns the keys of letters that must not be posted from these files, since they were suppressed, or said to be
    posted, while they were printed.
    """

    def job(connection: sqlite3.Connection) -> list[str]:
        now = stamp(ledger.now())
        given = {"printing": number, "campaign": campaign, "now": now, "who": who}
        connection.execute(SQL["insert_printing"], {**given, "files": json.dumps([asdict(f) for f in files])})
        return [letter.key for letter in letters if not _record_one(ledger, connection, letter, number, who)]

    withdrawn = ledger.do(job)
    ledger.remember()
    return withdrawn


def _record_one(ledger: SqliteLedger, connection: sqlite3.Connection, letter: Printed, number: int, who: str) -> bool:
    again = letter.state is State.PRINTED
    if again:
        if not _may_be_posted(connection, letter):
            return False
    else:
        reason = f"printed in {letter.file}, to be posted"
        given = {"id": letter.id, "old": letter.state, "digest": letter.digest, "reason": reason}
        if connection.execute(SQL["print"], given).rowcount != 1:
            return False
    kind = "reprinted" if again else "printed"
    ledger.event(connection, kind, letter=letter.id, subject=letter.file, who=who, why=f"printing {number}")
    return True


def _may_be_posted(connection: sqlite3.Connection, letter: Printed) -> bool:
    """Whether a letter that was printed before is still to be posted."""
    given = {"id": letter.id, "digest": letter.digest}
    row = connection.execute(SQL["still_printed"], given).fetchone()
    return row is not None and not suppressed_by_people_among(connection, row[0].split())


def post(ledger: SqliteLedger, letters: Sequence[int], on: date, *, who: str, why: str) -> None:
    """A person's word that printed letters were posted, on which day. Raises DispatcherError if one is not printed."""

    def job(connection: sqlite3.Connection) -> None:
        for letter in letters:
            given = {"id": letter, "reason": f"posted on {on.isoformat()}, says {who}: {why}"}
            _require_printed(connection, "post", given)
            ledger.event(connection, "posted", letter=letter, subject=f"on {on.isoformat()}", who=who, why=why)

    ledger.do(job)


def throw_away(ledger: SqliteLedger, letters: Sequence[int], *, who: str, why: str) -> None:
    """A person's word that printed letters will not be posted: they stand where they stood before.

    One that was suppressed meanwhile is held back.
    """

    def job(connection: sqlite3.Connection) -> None:
        for letter in letters:
            _require_printed(connection, "throw_away", {"id": letter, "reason": f"thrown away, says {who}: {why}"})
            ledger.event(connection, "thrown away", letter=letter, who=who, why=why)
            (mailboxes,) = connection.execute(SQL["mailboxes_of"], {"id": letter}).fetchone()
            hold_back(ledger, connection, letter, mailboxes.split(), on_paper=True, who=who)

    ledger.do(job)


def _require_printed(connection: sqlite3.Connection, name: str, given: dict[str, object]) -> None:
    if connection.execute(SQL[name], given).rowcount != 1:
        raise DispatcherError("a letter is not printed, or posted already: nothing was recorded")
