"""Taking personal data out of a ledger for good, when a campaign is long over; what is left still verifies.

What goes: addresses, names, fields, texts, attachments, replies, who and why. What stays: how many, which states, when,
codes and hashes; and the wishes of people not to be written to, each with its address, for without it nobody can heed
them. Of each row in the chain the digest of what was personal takes its place, and its salt goes, so that nobody can
find out by trying what it was. A campaign that was purged is never sealed or sent again: who had a letter of it is not
known any more.

One transaction; then the file is written anew and its log cut off (`clean`), for what is only deleted can be dug up. A
crash between the two leaves a purged ledger that is not clean yet, which says so; the next purge goes on there.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from dispatcher.core.chain import CAMPAIGN, KINDS, NAME, NUMBER, SALT, personal_digest
from dispatcher.core.compose import framed
from dispatcher.core.errors import LedgerUnavailable
from dispatcher.ledgers.file import PATIENCE, connect, stamp, unusable
from dispatcher.ledgers.held import SqliteLedger
from dispatcher.ledgers.linking import documents, table_of
from dispatcher.ledgers.rows import document
from dispatcher.ledgers.sealing import letters_digest
from dispatcher.ledgers.statements import SQL
from dispatcher.ledgers.suppressions import KEPT, REFUSED

_KIND: Final = NUMBER + CAMPAIGN
_NUMBER: Final = (1 << NUMBER) - 1
_ROW: Final = ~(((1 << CAMPAIGN) - 1) << NUMBER)
"""What a name has but for its campaign's number: here a row is known by its kind and its number."""
_BELOW: Final = {
    kind.number: f"SELECT t.id, CAST({documents(name)[1]} AS BLOB) FROM {table_of(name)} t "  # noqa: S608 (our own names)
    "WHERE t.id IN (SELECT value FROM json_each(?))"
    for name, kind in KINDS.items()
}
_KEPT: Final = ("title", "date", "campaign", "version", "organisation")
"""What stays of what a campaign's letters shared."""


def purge(ledger: SqliteLedger, campaigns: Sequence[str], before: str, who: str) -> None:
    """Take the personal data of these campaigns out of a held ledger that was put in order; all of it, or nothing.

    And those of decisions about no letter, or about letters that were purged before: what is as old, and no campaign
    that stays was there when they were made.
    """

    def job(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA secure_delete=ON")
        others = json.dumps(list(campaigns))
        (first,) = connection.execute(SQL["first_seal_of_others"], {"campaigns": others}).fetchone()
        triggers = _without_triggers(connection)
        connection.execute(SQL["temp_purging"])
        head = {"before": before, "now": stamp(ledger.now()), "who": who, "alone": min(before, first or before)}
        for campaign in campaigns:
            _purge_one(connection, {**head, "campaign": campaign}, "choose_rows")
        if connection.execute(SQL["count_decisions"], head).fetchone() != (0,):
            _purge_one(connection, {**head, "campaign": ""}, "choose_decisions")
        _shared_by_all(connection, others, before)
        for trigger in triggers:
            connection.execute(trigger)
        connection.execute(SQL["set_unclean"], {"unclean": 1})

    ledger.do(job)


def _without_triggers(connection: sqlite3.Connection) -> list[str]:
    """Take away, inside this transaction, what keeps rows from being changed; returns what brings it back."""
    found = connection.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' ORDER BY rowid"
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP TRIGGER main.{name}")
    return [sql for _, sql in found]


def _purge_one(connection: sqlite3.Connection, given: Mapping[str, Any], choose: str) -> None:
    """One campaign's rows; of the campaign '' what is about none that is there."""
    connection.execute(SQL["forget_purging"])
    connection.execute(SQL[choose], given)
    _take_digests(connection)
    plans = connection.execute(SQL["plans_of"], given).fetchall()
    for plan, _, frozen in plans:
        connection.execute(SQL["blank_plan"], {"id": plan, "frozen": document(_skeleton(json.loads(frozen)))})
    for name in (
        "blank_attempts", "blank_rcpts_aside", "blank_rcpts_away", "blank_rcpts_back", "blank_rcpts_end",
        "blank_events", "blank_reasons", "blank_approvals", "blank_printings", "blank_runs", "blank_tests",
        "blank_sealed", "blank_letters", "blank_skips",
    ):  # fmt: skip
        connection.execute(SQL[name], given if ":campaign" in SQL[name] else {})
    connection.execute("DELETE FROM recorded WHERE name >> 56 <> ?", (KINDS["purge"].number,))  # that recorded nothing
    rows = connection.execute("SELECT name, personal FROM purging ORDER BY name").fetchall()
    removed = removed_digest((name >> _KIND, name & _NUMBER, personal) for name, personal in rows)
    left = left_digest(connection, given)
    what = {**given, "rows": len(rows), "removed": removed, "letters": left}
    number = connection.execute(SQL["insert_purge"], what).lastrowid
    connection.execute(SQL["insert_purged"], {"purge": number})


def left_digest(connection: sqlite3.Connection, of: Mapping[str, Any]) -> str:
    """SHA-256, hex, over what is left of a purged campaign: letters, skips, what they shared, printings, dates."""
    whole = hashlib.sha256(letters_digest(connection, of).encode())
    for (text,) in connection.execute(SQL["left_beside"], of):
        whole.update(framed(text))
    return whole.hexdigest()


def removed_digest(rows: Iterable[tuple[int, int, bytes]]) -> str:
    """SHA-256, hex, over what stands for what was personal: kind, number and digest of each row, in order."""
    whole = hashlib.sha256()
    for kind, number, personal in rows:
        whole.update(bytes((kind,)) + number.to_bytes(NAME - 1, "big") + personal)
    return whole.hexdigest()


def _take_digests(connection: sqlite3.Connection) -> None:
    """The digest of what is personal in each chosen row, made as long as it is there; its salt is overwritten."""
    chosen = {name for (name,) in connection.execute("SELECT name FROM purging")}
    for number, names, salts in connection.execute("SELECT number, names, salts FROM link ORDER BY number").fetchall():
        here = {
            int.from_bytes(names[place : place + NAME], "big") & _ROW: place // NAME * SALT
            for place in range(0, len(names), NAME)
        }
        mine = here.keys() & chosen
        if not mine:
            continue
        left = bytearray(salts)
        for kind in {name >> _KIND for name in mine}:
            ids = document([name & _NUMBER for name in mine if name >> _KIND == kind])
            for id_, below in connection.execute(_BELOW[kind], (ids,)).fetchall():
                name = (kind << _KIND) + id_
                place = here[name]
                digest = personal_digest(salts[place : place + SALT], below)
                connection.execute("UPDATE purging SET personal = ? WHERE name = ?", (digest, name))
                left[place : place + SALT] = bytes(SALT)
        connection.execute("UPDATE link SET salts = ? WHERE number = ?", (bytes(left), number))


def _skeleton(value: Any, key: str = "") -> Any:
    """What all letters shared, with nothing in it but its shape, and what names the campaign."""
    if isinstance(value, dict):
        return {name: _skeleton(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return []
    return "" if isinstance(value, str) and key not in _KEPT else value


def _shared_by_all(connection: sqlite3.Connection, others: str, before: str) -> None:
    """Attachments that no other campaign has, and what a ledger keeps beside its campaigns."""
    needed = {
        attachment["digest"]
        for (text,) in connection.execute(SQL["attachments_left"], {"campaigns": others})
        for attachment in json.loads(text)
    }
    for (text,) in connection.execute(SQL["frozen_left"], {"campaigns": others}):
        logo = json.loads(text).get("logo")
        needed |= {logo["digest"]} if logo else set()
    connection.execute(SQL["delete_contents"], {"needed": document(sorted(needed))})
    connection.execute(SQL["delete_refusals"], {"before": before, "refused": REFUSED})
    connection.execute(SQL["blank_suppressions"], {"before": before, "refused": REFUSED, "kept": KEPT})
    connection.execute(SQL["delete_paces"], {"before": before})


def clean(path: Path) -> None:
    """Write the file of a ledger that this process holds anew, without what was deleted, and cut off its log.

    Raises LedgerUnavailable if somebody reads it at the same time, or the disk has no room for a second one.
    """
    guests = FileLock(path.with_suffix(".guest.lock"), timeout=PATIENCE, mode=0o600)
    try:
        with guests, closing(connect(path, read_only=False)) as connection:
            for statement in ("PRAGMA synchronous=FULL", "PRAGMA secure_delete=ON", "VACUUM"):
                connection.execute(statement)
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if not busy:
                connection.execute(SQL["set_unclean"], {"unclean": 0})
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    if busy:
        what = f"{path} is purged, and its log still holds what was removed: another program reads it"
        raise LedgerUnavailable(f"{what}. Close `dispatcher review` and whatever else has it open; then purge again")


__all__ = ["clean", "left_digest", "purge", "removed_digest"]
