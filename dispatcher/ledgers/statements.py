"""The named SQL statements and the schema, as data; and the statements for plans that are not sealed yet.

Those of `dispatcher review` stand apart (`review_*.sql`): they only read, and no run waits for them.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any, Final

from dispatcher.core.errors import LedgerUnavailable

_FILES: Final = files("dispatcher.ledgers")
SCHEMA: Final = (_FILES / "schema.sql").read_text(encoding="utf-8")
TEMPORARY: Final = (_FILES / "temporary.sql").read_text(encoding="utf-8")


def _named(file: str) -> Mapping[str, str]:
    """Statements by name; where one says `{other}` stands what that one is."""
    parts = re.split(r"^-- name: (\w+)\n", (_FILES / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], (part.strip().rstrip(";") for part in parts[2::2]), strict=True))

    def whole(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda part: whole(found[part[1]]), text)

    return {name: whole(text) for name, text in found.items()}


def _together(*files: str) -> Mapping[str, str]:
    """The statements of several files. A name stands in one of them."""
    found = [_named(file) for file in files]
    together = {name: text for each in found for name, text in each.items()}
    if len(together) < sum(map(len, found)):
        raise ValueError("two statements have one name")
    return together


SQL: Final = _together("statements.sql", "purging.sql", "review_overview.sql", "review_letters.sql", "review_log.sql")
UNSEALED: Final = _named("unsealed.sql")


_FENCED: Final = "a letter is no longer this run's: another process changed the ledger; start again"


def fenced(connection: sqlite3.Connection, name: str, given: Mapping[str, Any], letters: int = 1) -> None:
    """A state change that must meet each letter where its run thinks it is. Raises LedgerUnavailable if it does not."""
    if connection.execute(SQL[name], given).rowcount != letters:
        raise LedgerUnavailable(_FENCED)


@contextmanager
def fence() -> Iterator[None]:
    """The same for a statement that looks itself (`temporary.sql`)."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        if str(error) == "fenced":
            raise LedgerUnavailable(_FENCED) from None
        raise


_TOGETHER: Final = 16
"""Rows in one INSERT at most, so that SQLite's compiled statements are few and stay at hand."""


def insert_rows(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows, many in one statement: each statement gives way to the loop's thread, each row need not.

    `into` is a table of ours with its columns, never a text from outside.
    """
    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        connection.execute(_insert(into, len(some)), tuple(chain.from_iterable(some)))


@cache
def _insert(into: str, count: int) -> str:
    row = f"({', '.join('?' * (into.count(',') + 1))})"
    return f"INSERT INTO {into} VALUES {', '.join([row] * count)}"  # noqa: S608 (our own names)
