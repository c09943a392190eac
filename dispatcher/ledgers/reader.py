"""Reading a ledger: plain rows and values, nothing is ever changed. Raises LedgerUnavailable."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.model import Letter, State
from dispatcher.core.text import searchable
from dispatcher.ledgers.file import connect, unusable
from dispatcher.ledgers.rows import inflate, letter_of, unreadable
from dispatcher.ledgers.statements import SQL


class Reader:
    """A ledger opened for reading alone, also while a run holds it. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path, read_only=True)
        self._connection.row_factory = sqlite3.Row
        self._connection.create_function("searchable", 1, searchable, deterministic=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._connection.close()

    def rows(self, name: str, **given: Any) -> Iterator[dict[str, Any]]:
        """The rows of a named statement, as dictionaries."""
        return self.query(SQL[name], **given)

    def query(self, statement: str, **given: Any) -> Iterator[dict[str, Any]]:
        """The same of a statement that is ours and has no name."""
        try:
            with closing(self._connection.execute(statement, given)) as cursor:
                for row in cursor:
                    yield dict(row)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # text that is none: damage that no check shows
            raise unusable(self._path, error) from None

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """All that is read inside is as the ledger is now, whatever is written meanwhile."""
        try:
            self._connection.execute("BEGIN")
        except sqlite3.Error as error:
            raise unusable(self._path, error) from None
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._connection.execute("COMMIT")

    def one(self, name: str, **given: Any) -> dict[str, Any] | None:
        """The first row of a named statement."""
        return next(self.rows(name, **given), None)

    def counts(self, campaign: str) -> Mapping[State, int]:
        """Letters by state."""
        return {State(row["state"]): row["letters"] for row in self.rows("counts", campaign=campaign) if row["letters"]}

    def frozen(self, campaign: str, revision: int) -> Mapping[str, Any]:
        """What all letters of a revision share."""
        row = self.one("frozen", campaign=campaign, revision=revision)
        if row is None:
            raise LedgerUnavailable(f"the ledger has no revision {revision} of {campaign}")
        try:
            data: Mapping[str, Any] = json.loads(row["frozen"])
        except ValueError as error:
            raise unreadable(f"revision {revision} of {campaign}", error) from None
        return data

    def octets(self, digest: str) -> bytes:
        """A sealed attachment."""
        row = self.one("octets", digest=digest)
        if row is None:
            raise LedgerUnavailable(f"the ledger has no attachment {digest}")
        return bytes(row["octets"])

    def letter(self, row: Mapping[str, Any]) -> Letter:
        """The sealed letter in a row that has its columns."""
        return letter_of(*(row[name] for name in ("language", "message_id", "digest", "recipient", "attachments")))

    def own(self, row: Mapping[str, Any]) -> bytes:
        """The letter's own part of the message in a row that has its columns (on paper, what is printed)."""
        plan = self.one("dictionary", campaign=row["campaign"], revision=row["revision"])
        if plan is None:
            raise LedgerUnavailable(f"the ledger has no revision {row['revision']} of {row['campaign']}")
        return inflate(row["own"], plan["dictionary"])
