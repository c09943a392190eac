"""The rows of one household → one recipient: whom the letter goes to, what it says, and where the rows disagree.

A household is several rows of a list with the same value in the column `group_by`: the people of one mission, who get
one letter. A row is an addressee, or gets a copy where its column `copy` says `cc`; the letter is the addressees', so
the fields of a copy do not count, but for those that say which letter it would be. Nothing here depends on the order
of the rows, except that of several values the first wins, where a campaign says so. Raises UsageError.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.forms import OVERRIDES
from dispatcher.core.model import Channel, Mailbox, Recipient

LARGEST: Final = 100
"""Rows of one household. As many as every relay takes in one letter (RFC 5321 §4.5.3.1.8); more is a wrong column."""
_COPY: Final = "cc"
_OF_ROWS: Final = frozenset({"key", "email", "cc", "copy"})
_OF_ALL: Final = frozenset({"language", "channel"})
"""In which copies too must agree: they say which letter it is."""
_READ: Final = _OF_ALL | OVERRIDES | {"kind", "rank", "gender"}
"""Columns that decide on a letter without being named in it."""


def conflicts(key: str, rows: Sequence[Recipient], used: frozenset[str]) -> Iterator[tuple[str, Problem]]:
    """Columns that the letter reads (`used`, and those with a meaning) and the rows disagree in, each with its problem.

    An empty cell agrees with every other.
    """
    for column in rows[0].fields:
        if column not in _OF_ROWS and column in used | _READ:
            values = list(_values(column, rows))
            if len(values) > 1:
                yield column, _conflict(key, column, values)


def _values(column: str, rows: Iterable[Recipient]) -> Iterator[tuple[str, Place]]:
    """The different values of a column, each with the first row that has it."""
    seen: set[str] = set()
    for row in rows:
        value = _value(column, row)
        if value and value not in seen and (column in _OF_ALL or not _is_copy(row)):
            seen.add(value)
            yield value, row.place


def _value(column: str, row: Recipient) -> str:
    """A cell as it was read: a language as a tag, a channel by its own word, all else as text."""
    if column == "language":
        return row.language
    if column == "channel" and row.fields[column]:
        return str(row.channel)
    return row.fields[column]


def _conflict(key: str, column: str, values: Sequence[tuple[str, Place]]) -> Problem:
    said = ", ".join(f"{_short(value)} at {place}" for value, place in values)
    where = replace(values[1][1], column=f"column {column}", recipient=key)
    todo = (
        "make the rows agree, write cc in the column copy of who gets a copy only, or decide for all in "
        'campaign.toml: on_conflict = "first" (the first row that says something)'
    )
    return Problem(f"the rows of household {key} differ in column {column}: {said}", where, todo)


def _short(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:39] + "…")


def united(key: str, rows: Sequence[Recipient]) -> Recipient:
    """The rows of a household, in the order of the list, as one recipient. Raises UsageError if nobody is addressed.

    Mailboxes stand in the order of their addresses, each once, and in To rather than in Cc: so that a list that was
    sorted anew makes the same letter. Of several values in a column the first is taken.
    """
    there = sorted(rows, key=lambda row: [(m.identity, m.address, m.name) for m in row.mailboxes])
    addressees = [row for row in there if not _is_copy(row)]
    if not addressees:
        todo = "leave the column copy empty in the row of who is written to"
        raise UsageError(Problem(f"everybody of household {key} gets a copy, and nobody the letter", todo=todo))
    to = _each_once(mailbox for row in addressees for mailbox in row.to)
    copies = (mailbox for row in there for mailbox in (row.mailboxes if _is_copy(row) else row.cc))
    cc = {name: mailbox for name, mailbox in _each_once(copies).items() if name not in to}
    fields = {column: next((value for value, _ in _values(column, rows)), "") for column in rows[0].fields}
    own = {"key": key, "email": _shown(to.values()), "cc": _shown(cc.values()), "copy": ""}
    fields.update((name, value) for name, value in own.items() if name in fields)
    channel = next((row.channel for row in rows if row.fields.get("channel")), Channel.MAIL)
    language, place = fields.get("language", ""), rows[0].place
    return Recipient(key, tuple(to.values()), tuple(cc.values()), language, fields, place, len(rows), channel)


def _each_once(mailboxes: Iterable[Mailbox]) -> Mapping[str, Mailbox]:
    found: dict[str, Mailbox] = {}
    for mailbox in mailboxes:
        found.setdefault(mailbox.identity, mailbox)
    return found


def _shown(mailboxes: Iterable[Mailbox]) -> str:
    return ", ".join(mailbox.address for mailbox in mailboxes)


def _is_copy(row: Recipient) -> bool:
    return row.fields.get("copy", "").lower() == _COPY


def require_copy(fields: Mapping[str, str], place: Place) -> None:
    """Raise UsageError if the column `copy` holds something that is neither `cc` nor nothing (or `to`)."""
    if (text := fields.get("copy", "")).lower() not in ("", "to", _COPY):
        where = replace(place, column="column copy")
        raise UsageError(Problem(f"{_short(text)} says neither cc nor to", where, "write cc for a copy, or nothing"))
