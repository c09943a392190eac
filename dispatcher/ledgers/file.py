"""The ledger's file: made whole, opened, checked to be one of ours and sound.

A ledger is never made over something that is there, and never beside the write-ahead log of one that is gone: SQLite
would take that log for the new file's. The file is for its owner alone (0600), in folders that are (0700); its log and
index files take their mode from it. Raises LedgerUnavailable, with what to do.
"""

import os
import sqlite3
import sys
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.policy import TRANSITIONS
from dispatcher.ledgers.statements import SCHEMA

APPLICATION: Final = 0x44735074
"""Says in the file's header that it is a ledger of this program (SQLite's application_id)."""
VERSION: Final = 5
PATIENCE: Final = 30.0
"""Seconds to wait for another process that is writing."""


def stamp(moment: datetime) -> str:
    """A moment as the ledger keeps it: UTC with microseconds, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each for its owner alone; what is there stays as it is.

    SQLite syncs the names in the ledger's folder; the folder's own name is synced here, or a power loss takes all.
    """
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    try:
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
            sync_names(each.parent)
    except OSError as error:
        raise LedgerUnavailable(f"cannot make the folder {folder}: {error.strerror}. Check its rights") from None


def sync_names(folder: Path) -> None:
    """Make the names in a folder durable. Windows opens no folder, and writes its names through by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create(path: Path, now: datetime) -> None:
    """Make an empty ledger: all of it appears, or nothing. Only one process at a time may call this for a path."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise LedgerUnavailable(
            f"{path.name} is gone, but {log.name} is there: put the ledger back beside it. "
            "Only if nothing was sent from here may that file be deleted"
        )
    draft = path.with_name(f"{path.name}.new")
    try:
        _discard(draft)
        draft.touch(mode=0o600)
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            _fill(connection, now)
        draft.replace(path)
    except (OSError, sqlite3.Error) as error:
        _discard(draft)
        raise LedgerUnavailable(
            f"cannot make the ledger {path}: {error}. Check the disk and the folder's rights"
        ) from None


def _fill(connection: sqlite3.Connection, now: datetime) -> None:
    connection.executescript(f"BEGIN; {SCHEMA}")
    connection.executemany("INSERT INTO transition VALUES (?, ?)", sorted(TRANSITIONS))
    connection.execute("INSERT INTO ledger (id, uuid, created_at) VALUES (1, ?, ?)", (str(uuid.uuid4()), stamp(now)))
    connection.execute(f"PRAGMA application_id={APPLICATION}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")


def _discard(draft: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        draft.with_name(draft.name + ending).unlink(missing_ok=True)


def connect(path: Path, *, read_only: bool, patience: float = PATIENCE) -> sqlite3.Connection:
    """Open a ledger, and see that it is one, of this version. Nothing is ever made."""
    mode = "ro" if read_only else "rw"
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=patience,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    try:
        _require_ours(connection, path)
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise unusable(path, error) from None
        raise
    return connection


def _require_ours(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise LedgerUnavailable(f"{path} is not a ledger of dispatcher. Move it away, or put the ledger back")
    if version > VERSION:
        raise LedgerUnavailable(
            f"{path} was made by a newer dispatcher (ledger version {version}, this one reads {VERSION}): use that one"
        )
    if version != VERSION:
        raise LedgerUnavailable(f"{path} has the ledger version {version}; this dispatcher reads {VERSION}")


def prepare_for_writing(connection: sqlite3.Connection, path: Path) -> None:
    """Make every commit durable, and leave checkpoints to whoever may make them."""
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        raise LedgerUnavailable(f"{path} has no write-ahead log; keep the folder on a disk of this machine")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=0")


def require_sound(connection: sqlite3.Connection, path: Path) -> None:
    """Look through the whole file for damage."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise unusable(path, found)


def unusable(path: Path, why: object) -> LedgerUnavailable:
    """The error for a ledger that cannot be opened or read, with what to do about a cause of that kind."""
    code = getattr(why, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the primary code
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        todo = "Check that its disk has room and takes writes, and the folder's rights"
    elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        todo = "Another program has it open: wait for it, or close it there"
    else:
        todo = "If it is damaged, put back a copy, and compare it with the relay's log before anything is sent"
    return LedgerUnavailable(f"cannot use the ledger {path}: {why}. {todo}")
