"""What a ledger can show for itself: the chain, held against the rows that are there now. Nothing is ever changed.

Everything is read as it is at one moment, also beside a run. Texts are read as octets, so that one which is no UTF-8
any more is a row that was changed, and no reason to break off. Raises LedgerUnavailable if the file cannot be read.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Self

from dispatcher.core.chain import KINDS, NUMBER, SALT, Fault, Link, Name, Seen, personal_digest, row_digest, start
from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.model import Leased
from dispatcher.core.plan import plan_digest
from dispatcher.core.replay import Tried
from dispatcher.ledgers.file import connect, unusable
from dispatcher.ledgers.linking import documents, evidence, table_of, with_digests
from dispatcher.ledgers.purging import left_digest
from dispatcher.ledgers.rows import document, leased
from dispatcher.ledgers.sealing import letters_digest, skips_digest
from dispatcher.ledgers.suppressions import REFUSED

_LARGEST: Final = 2**NUMBER - 1


@dataclass(frozen=True, slots=True)
class SealedLetter:
    """A letter as it stands, with its attempts; `leased` is as a run would take it up, None if it cannot be read.

    `recipient` is the document that was sealed. `left` are (number, message digest) of its attempts; `said`
    (number, kind, subject, None if it is gone) of the events about it; `purged`: nothing is left of its content.
    """

    id: int
    key: str
    campaign: str
    revision: int
    state: str
    channel: str
    language: str
    recipient: str
    leased: Leased | None
    tried: Sequence[Tried]
    left: Sequence[tuple[int, str]]
    said: Sequence[tuple[int, str, str | None]]
    purged: bool


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

    def link_at(self, number: int) -> bytes | None:
        """The hash of the link with this number."""
        row = next(self._rows("SELECT link FROM link WHERE number = ?", (number,)), None)
        return row[0] if row else None

    def link_of(self, hash_: bytes) -> int | None:
        """The number of the link with this hash."""
        row = next(self._rows("SELECT number FROM link WHERE link = ?", (hash_,)), None)
        return row[0] if row else None

    def plans(self) -> Iterator[dict[str, Any]]:
        """Every plan, in order: id, campaign, revision, digest, letters, skips, frozen, dictionary; and purged."""
        columns = ("id", "campaign", "revision", "digest", "letters", "skips", "frozen", "dictionary", "purged")
        purged = "EXISTS (SELECT 1 FROM purge WHERE purge.campaign = plan.campaign)"
        for row in self._rows(f"SELECT {', '.join(columns[:-1])}, {purged} FROM plan ORDER BY campaign, revision"):  # noqa: S608
            found = dict(zip(columns, row, strict=True))
            dictionary = found.pop("dictionary")
            yield {name: _text(v) if isinstance(v, bytes) else v for name, v in found.items()} | {
                "dictionary": dictionary
            }

    def letters_digest(self, campaign: str) -> str:
        """`plan.letters` of the latest revision, made anew from what stands there."""
        return letters_digest(self._connection, {"campaign": campaign})

    def skips_digest(self, campaign: str, revision: int) -> str:
        """`plan.skips`, made anew from what stands there."""
        return skips_digest(self._connection, {"campaign": campaign, "revision": revision})

    def left_digest(self, campaign: str) -> str:
        """`purge.letters`, made anew from what is left there."""
        return left_digest(self._connection, {"campaign": campaign})

    def plan_digest(self, campaign: str) -> str:
        """`plan.digest`, made anew from all letters that stand there."""
        sql = (
            "SELECT l.key, s.digest FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.campaign = ? ORDER BY l.key"
        )
        return plan_digest((_text(key), _text(digest)) for key, digest in self._rows(sql, (campaign,)))

    def count_letters(self) -> int:
        return int(next(self._rows("SELECT count(*) FROM sealed"))[0])

    def unsealed(self) -> tuple[int, str] | None:
        """A letter of which nothing was sealed: its number and key."""
        rows = self._rows("SELECT id, key FROM letter WHERE id NOT IN (SELECT letter FROM sealed) ORDER BY id LIMIT 1")
        return next(((id_, _text(key)) for id_, key in rows), None)

    def letters(self, dictionaries: Mapping[tuple[str, int], bytes]) -> Iterator[SealedLetter]:
        """Every letter, in order. `dictionaries` are those of the plans, by campaign and revision."""
        for row in self._rows(_LETTERS):
            number, campaign, state, channel, language, recipient, *sealed = row
            attempts = list(self._rows(_ATTEMPTS, (number,)))
            place = (_text(campaign), sealed[1])
            yield SealedLetter(
                id=number,
                key=_text(sealed[0]),
                campaign=place[0],
                revision=place[1],
                state=_text(state),
                channel=_text(channel),
                language=_text(language),
                recipient=_text(recipient),
                leased=_leased(number, sealed, dictionaries.get(place)),
                tried=[
                    Tried(id_, _text(outcome), _text(scope), bool(counts))
                    for id_, outcome, scope, counts, _ in attempts
                ],
                left=[(attempt[0], _text(attempt[4])) for attempt in attempts],
                said=[(id_, _text(kind), _text(about) or None) for id_, kind, about in self._rows(_EVENTS, (number,))],
                purged=not sealed[7],
            )

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Every attachment: its digest as it is recorded, and its octets."""
        for digest, octets in self._rows("SELECT digest, octets FROM content"):
            yield _text(digest), octets

    def content(self, digest: str) -> bytes:
        """The octets of one attachment; b"" if it is not there."""
        row = next(self._rows("SELECT octets FROM content WHERE digest = ?", (digest,)), None)
        return bytes(row[0]) if row else b""

    def approvals(self) -> Iterator[dict[str, Any]]:
        """Every approval whose names were not purged."""
        columns = ("id", "campaign", "revision", "digest", "name", "at", "key", "signature")
        for row in self._rows(f"SELECT {', '.join(columns)} FROM approval ORDER BY id"):  # noqa: S608
            yield {name: _text(v) if isinstance(v, bytes) else v for name, v in zip(columns, row, strict=True)}

    def said_of_addresses(self) -> Iterator[tuple[int, bool, str, str]]:
        """Decisions to suppress an address (False: to lift that) that were not purged: number, which, whose, why."""
        for id_, kind, identity, why in self._rows(_SUPPRESSING):
            yield id_, _text(kind) != "unsuppressed", _text(identity), _text(why)

    def suppressed(self) -> Iterator[tuple[str, str, str]]:
        """Every suppression that is in force: identity, reason, and source; '' if it is a relay's that is recorded."""
        for row in self._rows(_SUPPRESSED, {"refused": REFUSED}):
            identity, reason, source = map(_text, row)
            yield identity, reason, source

    def purges(self) -> Iterator[dict[str, Any]]:
        """Every purge, in order."""
        columns = ("id", "at", "campaign", "before", "rows", "removed", "letters")
        for row in self._rows(f"SELECT {', '.join(columns)} FROM purge ORDER BY id"):  # noqa: S608
            found = dict(zip(columns, row, strict=True))
            yield {name: _text(value) if isinstance(value, bytes) else value for name, value in found.items()}

    def removed_by(self, purge: int) -> Iterator[tuple[int, int, bytes]]:
        """What stands for what a purge removed: kind, number and digest of each row, in order."""
        return self._rows("SELECT kind, id, personal FROM purged WHERE purge = ? ORDER BY kind, id", (purge,))

    def not_blank(self) -> Name | None:
        """A row that was purged, and in which something stands again."""
        for kind, blank in _BLANK.items():
            rows = f"FROM purged p JOIN {table_of(kind)} t ON t.id = p.id WHERE p.kind = {KINDS[kind].number}"
            if row := next(self._rows(f"SELECT t.id {rows} AND NOT ({blank}) ORDER BY t.id LIMIT 1"), None):
                return Name(kind, row[0])
        return None

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


_BLANK: Final = {
    "attempt": "t.account = '' AND t.reply = '' AND t.queue_id = '' AND NOT EXISTS (SELECT 1 FROM rcpt r "
    "WHERE r.attempt = t.id AND (r.reply <> '' OR r.mailbox GLOB '*[^0-9]*'))",
    "override": "t.override = ''",
    "event": "t.subject = '' AND t.who = '' AND t.why = ''",
    "approval": "t.name = 'purged' AND t.person = 'purged ' || t.id AND t.key = '' AND t.signature = '' "
    "AND t.recorded_by = ''",
    "printing": "t.who = ''",
    "plan": "t.origin = '' AND length(t.dictionary) = 0",
    "run": "t.account = '' AND t.smime = ''",
    "test": "t.key = '' AND t.address = '' AND t.account = '' AND t.reply = '' AND t.message_id = ''",
}
"""What is true of a row, named t, in which nothing is personal any more (`purging.sql`)."""
_LETTERS: Final = """
SELECT l.id, l.campaign, l.state, s.channel, s.language, s.recipient, l.key, l.revision, s.message_id, s.digest,
    s.mailboxes, s.addresses, s.attachments, s.own, l.date
FROM letter l JOIN sealed s ON s.letter = l.id ORDER BY l.id"""
_SUPPRESSING: Final = """
SELECT id, kind, subject, why FROM event
WHERE kind IN ('suppressed', 'borrowed', 'unsuppressed') AND letter IS NULL AND subject <> '' ORDER BY id"""
_SUPPRESSED: Final = """
SELECT identity, reason, CASE WHEN source = :refused AND address IN (
    SELECT mailbox FROM rcpt WHERE outcome <> 'accepted' AND outcome = 'failed') THEN '' ELSE source END
FROM suppression ORDER BY identity"""
_ATTEMPTS: Final = (
    "SELECT id, outcome, scope, override IS NULL, message_digest FROM attempt WHERE letter = ? ORDER BY id"
)
_EVENTS: Final = "SELECT id, kind, subject FROM event WHERE letter = ? ORDER BY id"


def _leased(number: int, sealed: Sequence[Any], dictionary: bytes | None) -> Leased | None:
    """A letter as a run would take it up; None if it cannot be read."""
    try:
        texts = [each.decode() if isinstance(each, bytes) else each for each in sealed[:7]]
        date = sealed[8].decode() if sealed[8] else None
        row = (number, *texts, sealed[7], date, 0, None)
        return leased(row, dictionary or b"", datetime.min.replace(tzinfo=UTC))
    except (LedgerUnavailable, UnicodeDecodeError):
        return None


def _text(octets: bytes) -> str:
    return octets.decode(errors="replace")
