"""The named SQL statements of statements.sql and the schema, as data; and those for plans that are not sealed yet."""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final

from dispatcher.core.errors import LedgerUnavailable

_FILES: Final = files("dispatcher.ledgers")
SCHEMA: Final = (_FILES / "schema.sql").read_text(encoding="utf-8")
TEMPORARY: Final = (_FILES / "temporary.sql").read_text(encoding="utf-8")


def _named(file: str) -> Mapping[str, str]:
    parts = re.split(r"^-- name: (\w+)\n", (_FILES / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip().rstrip(";") for part in parts[2::2]), strict=True))


SQL: Final = _named("statements.sql")
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
