"""What a ledger can show for itself: the chain, held against the rows that are there now. Nothing is ever changed.

Everything is read as it is at one moment, also beside a run. Texts are read as octets, so that one which is no UTF-8
any more is a row that was changed, and no reason to break off. Raises LedgerUnavailable if the file cannot be read.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Self

from dispatcher.core.chain import KINDS, SALT, Fault, Link, Name, Seen, personal_digest, row_digest, start
from dispatcher.ledgers.file import connect, unusable
from dispatcher.ledgers.linking import documents, evidence, table_of, with_digests
from dispatcher.ledgers.rows import document

_LARGEST: Final = 2**56 - 1


class Evidence:
    """A ledger's chain and its rows. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = connect(path, read_only=True)
        self._connection.text_factory = bytes
        with_digests(self._connection)
        self._run("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def _run(self, sql: str, given: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, given)
        except sqlite3.Error as error:
            raise unusable(self.path, error) from None

    def _rows(self, sql: str, given: Sequence[Any] | Mapping[str, Any] = ()) -> Iterator[Any]:
        try:
            for row in self._run(sql, given):  # noqa: UP028 (errors come while it is read)
                yield row
        except sqlite3.Error as error:
            raise unusable(self.path, error) from None

    def damage(self) -> str:
        """What SQLite itself finds wrong with the file, or ''."""
        found = next(self._rows("PRAGMA integrity_check(1)"))[0]
        if found != b"ok":
            return _text(found)
        for table, row, parent, _ in self._rows("PRAGMA foreign_key_check"):
            return f"row {row} of {_text(table)} belongs to a row of {_text(parent)} that is not there"
        return ""

    def start(self) -> bytes:
        """What the first link follows."""
        uuid, created_at = next(self._rows("SELECT uuid, created_at FROM ledger"))
        return start(_text(uuid), _text(created_at))

    def count_links(self) -> int:
        return int(next(self._rows("SELECT count(*) FROM link"))[0])

    def links(self) -> Iterator[Link]:
        """The chain, in order."""
        for number, names, digests, link, salts in self._rows(
            "SELECT number, names, digests, link, salts FROM link ORDER BY number"
        ):
            yield Link(number, names, digests, link, salts)

    def digests(self, link: Link, names: Sequence[Name]) -> list[bytes | None]:
        """The digest of each row that a link names, as it is now; None for one that is not there."""
        salts = [link.salts[place : place + SALT] for place in range(0, len(link.salts), SALT)]
        found: dict[Name, bytes] = {}
        salt_of = dict(zip(names, salts, strict=False))
        for kind, some in groupby(sorted(names, key=lambda name: name.kind), lambda name: name.kind):
            ids = document([name.id for name in some])
            for id_, above, below, purged in self._rows(_DIGESTED[kind], (KINDS[kind].number, ids)):
                name = Name(kind, id_)
                personal = purged or personal_digest(salt_of.get(name, b""), below)
                found[name] = row_digest(above, personal)
        return [found.get(name) for name in names]

    def unlinked(self, seen: Seen) -> Fault | None:
        """The first row that is evidence, and that the chain does not name."""
        for kind in KINDS:
            for (id_,) in self._rows(f"SELECT id FROM {table_of(kind)} t WHERE {evidence(kind)} ORDER BY id"):  # noqa: S608
                if not 0 <= id_ <= _LARGEST or Name(kind, id_) not in seen:
                    name = Name(kind, id_)
                    return Fault("inserted", name, 0, f"{name} was inserted: no link of the chain names it")
        return None

    def key_of(self, name: Name) -> str:
        """The key of the recipient that a row is about, '' if it is about none."""
        sql = _KEYS.get(table_of(name.kind))
        row = next(self._rows(sql, (name.id,)), None) if sql else None
        return _text(row[0]) if row else ""

    def under_way(self) -> int:
        """Attempts at risk, which the chain does not hold yet."""
        return int(next(self._rows("SELECT count(*) FROM attempt WHERE outcome = 'at_risk'"))[0])


def _digested(kind: str) -> str:
    above, below = documents(kind)
    purged = "(SELECT personal FROM purged p WHERE p.kind = ? AND p.id = t.id)"
    where = "t.id IN (SELECT value FROM json_each(?))"
    return f"SELECT t.id, {above}, {below}, {purged} FROM {table_of(kind)} t WHERE {where}"  # noqa: S608 (our own names)


_DIGESTED: Final = {kind: _digested(kind) for kind in KINDS}
_KEYS: Final = {
    "attempt": "SELECT l.key FROM attempt a JOIN letter l ON l.id = a.letter WHERE a.id = ?",
    "event": "SELECT l.key FROM event e JOIN letter l ON l.id = e.letter WHERE e.id = ?",
    "test": "SELECT key FROM test WHERE id = ?",
}


def _text(octets: bytes) -> str:
    return octets.decode(errors="replace")
