"""The hash chain in the ledger: whatever a commit records is linked in that same commit (`core.chain`).

Nobody who writes a row need think of it: triggers of the writing connection note each row as it becomes evidence, and
at the end of the transaction, before the COMMIT, all that were noted are read back from the ledger, digested and
linked. What is undone is not noted either, for the notes are part of the transaction.

SQLite itself makes the canonical JSON, of many rows in one step: every step makes the loop's thread wait its turn.
"""

import hashlib
import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from dispatcher.core import chain
from dispatcher.core.chain import CAMPAIGN, KINDS, NUMBER, SALT, Kind, next_link, personal_digest, row_digest
from dispatcher.ledgers.statements import SQL

_KIND: Final = NUMBER + CAMPAIGN
"""Bits of a row's name below those of its kind: its campaign's number, and its own."""
_TOGETHER: Final = 256
"""Rows in one link at most, so that a commit over a million letters takes no memory for them."""

_TABLES: Final = {"override": "attempt", "run's end": "run"}
"""The table that a kind of row is in, if it has another name."""

_RCPTS: Final = "FROM rcpt WHERE attempt = t.id"

_BECOMES: Final = {
    "attempt": ("outcome", "outcome <> 'at_risk'"),
    "override": ("override", "override IS NOT NULL"),
    "plan": ("letters", "letters <> ''"),
    "run's end": ("ended_at", "ended_at IS NOT NULL"),
    "test": ("outcome", "outcome <> 'at_risk'"),
}
"""The column, and what is to be true of a row when it becomes evidence, of those that are not at once."""


_OF_LETTER: Final = "(SELECT campaign FROM letter WHERE id = NEW.letter)"
_WHOSE: Final = {
    "attempt": _OF_LETTER,
    "override": _OF_LETTER,
    "event": _OF_LETTER,
    "session": "(SELECT campaign FROM run WHERE id = NEW.run)",
}
"""The campaign of a new row, in SQL, where it does not say so itself."""


def table_of(kind: str) -> str:
    """The table in which rows of a kind are."""
    return _TABLES.get(kind, kind)


def evidence(kind: str) -> str:
    """The condition, in SQL, for a row of its table to be evidence."""
    return _BECOMES[kind][1] if kind in _BECOMES else "1"


def _triggers(kind: Kind) -> Iterator[str]:
    whose = _WHOSE.get(kind.name, "NEW.campaign")
    campaign = f"coalesce((SELECT id FROM main.plan WHERE campaign = {whose} ORDER BY revision LIMIT 1), 0)"  # noqa: S608
    name = f"NEW.id + ({campaign} << {NUMBER}) + {kind.number << _KIND}"
    note = f"BEGIN INSERT INTO recorded VALUES ({name}); END;"  # noqa: S608 (our own names)
    table, (column, condition) = table_of(kind.name), _BECOMES.get(kind.name, ("", ""))
    when = f" WHEN NEW.{condition}" if condition else ""
    yield f"CREATE TEMP TRIGGER recorded_{kind.number} AFTER INSERT ON main.{table}{when} {note}"
    if column:
        yield f"CREATE TEMP TRIGGER recorded_{kind.number}_later AFTER UPDATE OF {column} ON main.{table}{when} {note}"


_NOTES: Final = "\n".join(
    (
        "CREATE TEMP TABLE recorded (name INTEGER PRIMARY KEY);",  # a row's name in a link, as a number
        *(trigger for kind in KINDS.values() for trigger in _triggers(kind)),
    )
)


def documents(kind: str) -> tuple[str, str]:
    """The two storeys of a row of a kind, as canonical JSON: expressions in SQL over its table, named t."""
    found = KINDS[kind]
    above = ", ".join((_quoted(kind), *_values(found, found.public, chain.RCPT_PUBLIC)))
    return f"json_array({above})", f"json_array({', '.join(_values(found, found.personal, chain.RCPT_PERSONAL))})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _values(kind: Kind, columns: Sequence[str], of_rcpt: Sequence[str]) -> Iterator[str]:
    for name in columns:
        if name == "rcpts":  # in the order of the primary key: attempt, mailbox
            yield f"json((SELECT json_group_array(json_array({', '.join(of_rcpt)})) {_RCPTS}))"
        else:
            yield f"sha256(CAST(t.{name} AS BLOB))" if name in kind.hashed else f"t.{name}"


def _read() -> str:
    """The statement that reads what was noted, as one text: name and two documents a row, a line each.

    No line break is in a document, for JSON has none.
    """
    cases = []
    for kind in KINDS.values():
        above, below = documents(kind.name)
        where = f"FROM main.{table_of(kind.name)} t WHERE t.id = (r.name & {(1 << NUMBER) - 1})"
        cases.append(f"WHEN {kind.number} THEN (SELECT {above} || char(10) || {below} {where})")
    row = f"r.name || char(10) || CASE r.name >> {_KIND} {' '.join(cases)} END"
    some = f"(SELECT name FROM recorded ORDER BY name LIMIT {_TOGETHER})"  # noqa: S608
    last = ", ".join(f"(SELECT {name} FROM link ORDER BY number DESC LIMIT 1)" for name in ("number", "link"))  # noqa: S608
    return f"SELECT group_concat({row}, char(10)), {last} FROM {some} r"  # noqa: S608 (our own names)


_READ: Final = _read()
_FORGET: Final = f"""DELETE FROM recorded
WHERE name IN (SELECT name FROM recorded ORDER BY name LIMIT {_TOGETHER})"""  # noqa: S608


def prepare(connection: sqlite3.Connection) -> None:
    """Have a connection that writes note what becomes evidence."""
    with_digests(connection)
    connection.executescript(_NOTES)


def with_digests(connection: sqlite3.Connection) -> None:
    """Teach a connection the function that `documents` need."""
    connection.create_function("sha256", 1, _sha256, deterministic=True)


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def link_recorded(connection: sqlite3.Connection) -> None:
    """Link what this transaction recorded. The last thing in it."""
    while True:
        text, last, head = connection.execute(_READ).fetchone()
        if text is None:
            return
        lines = text.encode().split(b"\n")
        count = len(lines) // 3
        names = struct.pack(f">{count}Q", *map(int, lines[::3]))
        salts = os.urandom(count * SALT)
        salt = (salts[place : place + SALT] for place in range(0, len(salts), SALT))
        below = map(personal_digest, salt, lines[2::3])
        digests = b"".join(map(row_digest, lines[1::3], below))
        if head is None:
            head = chain.start(*connection.execute("SELECT uuid, created_at FROM ledger").fetchone())
        link = next_link(head, names, digests)
        connection.execute(SQL["insert_link"], ((last or 0) + 1, names, digests, salts, link))
        whole = count < _TOGETHER
        connection.execute("DELETE FROM recorded" if whole else _FORGET)
        if whole:
            return
