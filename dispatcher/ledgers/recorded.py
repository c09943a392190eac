"""A ledger as evidence: one campaign's rows as the chain links them, and its letters, all as of one moment."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dispatcher.core.chain import KINDS, SALT, Name, names_of, start
from dispatcher.core.dossier import Recorded
from dispatcher.ledgers.linking import documents, table_of, with_digests
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, unreadable

_OF_LETTER: Final = "(SELECT campaign FROM letter WHERE id = {})"
_OF_ATTEMPT: Final = "(SELECT campaign FROM letter WHERE id = t.letter)"
_CAMPAIGN: Final[Mapping[str, str]] = {
    "attempt": _OF_ATTEMPT,
    "override": _OF_ATTEMPT,
    "event": "coalesce((SELECT campaign FROM letter WHERE id = t.letter), :campaign)",
    "session": "(SELECT campaign FROM run WHERE id = t.run)",
}
"""Whose a row is, in SQL, where it does not say so itself; an event of no letter is everybody's."""


def _statement(kind: str) -> str:
    above, below = documents(kind)
    whose = _CAMPAIGN.get(kind, "t.campaign")
    gone = f"(SELECT personal FROM purged WHERE kind = {KINDS[kind].number} AND id = t.id)"  # noqa: S608
    return (
        f"SELECT t.id AS id, {above} AS above, {below} AS below, {gone} AS gone FROM {table_of(kind)} t "  # noqa: S608
        f"WHERE t.id IN (SELECT value FROM json_each(:ids)) AND {whose} = :campaign"
    )


_STATEMENTS: Final = {kind: _statement(kind) for kind in KINDS}


class RecordReader(Reader):
    """A ledger that is read as of one moment, from the first look on. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with_digests(self._connection)
        self._connection.execute("BEGIN")

    def start(self) -> bytes:
        """What the first link follows."""
        row = self.one("ledger") or {}
        return start(row["uuid"], row["created_at"])

    def links(self, campaign: str) -> Iterator[tuple[dict[str, Any], list[Recorded]]]:
        """Each link with those of its rows that are this campaign's, in its order."""
        for link in self.rows("links"):
            names = names_of(link["names"])
            found = self._rows_of(names, campaign)
            rows = []
            for at, name in enumerate(names):
                if row := found.get(name):
                    rows.append(_recorded(name, row, link["salts"][at * SALT : (at + 1) * SALT]))
            yield link, rows

    def _rows_of(self, names: list[Name], campaign: str) -> dict[Name, dict[str, Any]]:
        found = {}
        for kind in dict.fromkeys(name.kind for name in names):
            ids = json.dumps([name.id for name in names if name.kind == kind])
            for row in self.query(_STATEMENTS[kind], ids=ids, campaign=campaign):
                found[Name(kind, row["id"])] = row
        return found


def _recorded(name: Name, row: Mapping[str, Any], salt: bytes) -> Recorded:
    try:
        above = json.loads(row["above"])
        if row["gone"] is not None:
            return Recorded.purged(name.kind, name.id, above, row["gone"])
        return Recorded.of(name.kind, name.id, above, json.loads(row["below"]), salt)
    except DAMAGED as error:
        raise unreadable(str(name), error) from None
