"""What is met in one order and asked for in another, while a dossier is checked: on disk instead of in memory.

Kept in a SQLite database that has no name, and is gone with the process. Raises LedgerUnavailable if the disk is full.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final

from dispatcher.core.errors import LedgerUnavailable

_SCHEMA: Final = """
PRAGMA journal_mode=OFF;
CREATE TABLE kept (kind TEXT, number INTEGER, id INTEGER, text BLOB, PRIMARY KEY (kind, number, id)) WITHOUT ROWID;
BEGIN;
"""


class Scratch:
    """Texts by kind and number; of one number there may be several, told apart by an id, and given in its order."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        self._connection.close()

    def keep(self, kind: str, number: int, text: bytes, *, id_: int = 0) -> bool:
        """Keep a text; False if there was one already. Raises ValueError if what should be a number is none."""
        if not (isinstance(number, int) and isinstance(id_, int) and 0 <= number < 1 << 62 and 0 <= id_ < 1 << 62):
            raise ValueError("this is no number of a row")
        try:
            given = (kind, number, id_, text)
            return self._connection.execute("INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?)", given).rowcount == 1
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the dossier cannot be checked: {error}. Free the disk") from None

    def kept(self, kind: str, number: int) -> Iterator[bytes]:
        """The texts of a number, in the order of their ids."""
        if not isinstance(number, int) or not 0 <= number < 1 << 62:
            raise ValueError("this is no number of a row")
        select = "SELECT text FROM kept WHERE kind = ? AND number = ? ORDER BY id"
        return (text for (text,) in self._connection.execute(select, (kind, number)).fetchall())

    def count(self, kind: str) -> int:
        """How many texts of a kind there are."""
        return int(self._connection.execute("SELECT count(*) FROM kept WHERE kind = ?", (kind,)).fetchone()[0])
