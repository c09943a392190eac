"""A file kept in reserve beside the ledger, for outcomes that the ledger cannot take any more.

A disk that fills up between an intent and its outcome leaves letters in flight whose replies come, and cannot be
recorded: they would all be unknown. So room for them is taken before anything is sent: real octets, on the disk. An
outcome is written over them in place, which needs no new room, and synced; the next run takes it into the ledger,
where it says no more than the ledger would: of an attempt that is at risk, by the run that made it.

Each outcome is a line: a checksum, and one JSON document. A line that was written by half is passed over, and its
letter is unknown, as without a reserve. Where a file system writes every change to a new place (copy on write: btrfs,
ZFS, APFS) no room can be taken in advance, and the reserve helps only against what is no lack of room.
"""

import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.model import Ending, Leased, Outcome, Phase, RcptReply, Reply, State
from dispatcher.ledgers.file import stamp, sync_names
from dispatcher.ledgers.rows import document
from dispatcher.ledgers.statements import SQL

SIZE: Final = 512 * 1024
"""Octets: room for the outcomes of all letters that can be in flight at once (200 connections, two each)."""
_LONGEST: Final = 300
"""Characters of a reply that are kept of each that is written here."""


@dataclass(frozen=True, slots=True)
class Noted:
    """An outcome that the ledger does not have. `began` is when the run began, so that no other run is meant."""

    run: int
    began: str
    attempt: int
    letter: int
    ended_at: str
    ending: Ending
    suppress: tuple[tuple[str, str, str], ...] = ()
    """Mailboxes that are no good: identity, address, reason."""


class Reserve:
    """The reserve of one ledger. `note` may be called from any thread; everything else by whoever holds the ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._door = threading.Lock()
        self._used = 0

    def prepare(self) -> None:
        """Take the room, unless it was taken before; what is noted stays. Raises LedgerUnavailable if there is none."""
        try:
            there = self.path.read_bytes() if self.path.exists() else b""
            self._used = len(there.rstrip(b" "))
            if len(there) >= SIZE:
                return
            self.path.touch(mode=0o600)
            self._write(there.ljust(SIZE), 0)
            sync_names(self.path.parent)
        except OSError as error:
            raise LedgerUnavailable(
                f"cannot keep {SIZE // 1024} kB in reserve in {self.path}: {error.strerror}. Free the disk, then go on"
            ) from None

    def note(self, noted: Noted) -> bool:
        """Keep an outcome, durably. False if that failed too, or there is no room left: then it is unknown."""
        line = _line(noted)
        with self._door:
            if self._used + len(line) > SIZE:
                return False
            try:
                self._write(line, self._used)
            except OSError:
                return False
            self._used += len(line)
            return True

    def _write(self, octets: bytes, place: int) -> None:
        with self.path.open("r+b", buffering=0) as out:
            out.seek(place)
            while octets:
                octets = octets[out.write(octets) :]
            os.fsync(out.fileno())

    def replay(self) -> list[Noted]:
        """What was noted, in order; nothing if there is no reserve. Raises LedgerUnavailable if it cannot be read."""
        try:
            octets = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LedgerUnavailable(f"cannot read {self.path}: {error.strerror}. Check its rights") from None
        return list(_whole_lines(octets))

    def clear(self) -> None:
        """Make room again: what was noted is in the ledger, durably. Left undone, it is done the next time."""
        with self._door, suppress(OSError):
            if self.path.exists():
                self._write(b" " * len(self.path.read_bytes().rstrip(b" ")), 0)
                self._used = 0


def take_in(connection: sqlite3.Connection, noted: Noted) -> bool:
    """Record an outcome as its run would have; False if that attempt is not at risk, or not that run's."""
    of = {"attempt": noted.attempt, "letter": noted.letter, "run": noted.run, "began": noted.began}
    if connection.execute(SQL["attempt_at_risk"], of).fetchone() is None:
        return False
    ending, now = noted.ending, noted.ended_at
    reply = ending.reply or Reply(0, ending.reason)
    said = {"code": reply.code or None, "enhanced": reply.enhanced, "reply": reply.text, "queue_id": ending.queue_id}
    how = {"outcome": ending.outcome, "phase": ending.phase, "scope": ending.scope, "ended_at": now}
    connection.execute(SQL["end_attempt"], {**of, **how, **said})
    for rcpt, outcome in ending.rcpts:
        words = {"code": rcpt.reply.code, "enhanced": rcpt.reply.enhanced, "reply": rcpt.reply.text}
        connection.execute(SQL["insert_rcpt"], {**of, "mailbox": rcpt.mailbox, "outcome": outcome, **words})
    due = ending.due_at and stamp(ending.due_at)
    where = {"state": ending.state, "reason": ending.reason, "due_at": due, "counted": int(ending.counted), "now": now}
    connection.execute(SQL["end_letter"], {**of, **where})
    for identity, address, reason in noted.suppress:
        given = {"identity": identity, "address": address, "reason": reason, "source": "refused by the relay"}
        connection.execute(SQL["insert_suppression"], {**given, "now": now})
    return True


def noted_of(run: int, began: str, attempt: int, letter: Leased, ending: Ending, now: datetime) -> Noted:
    """An outcome with all that the next run needs to take it in."""
    why = {rcpt.mailbox: str(rcpt.reply) for rcpt, _ in ending.rcpts}
    gone = [m for m in letter.mailboxes if m.address in ending.suppress]
    suppressed = tuple((m.identity, m.address, why.get(m.address, ending.reason)) for m in gone)
    return Noted(run, began, attempt, letter.id, stamp(now), ending, suppressed)


def _line(noted: Noted) -> bytes:
    ending = noted.ending
    text = document(
        {
            "run": noted.run,
            "began": noted.began,
            "attempt": noted.attempt,
            "letter": noted.letter,
            "ended_at": noted.ended_at,
            "suppress": [(identity, address, reason[:_LONGEST]) for identity, address, reason in noted.suppress],
            "state": ending.state,
            "outcome": ending.outcome,
            "phase": ending.phase,
            "scope": ending.scope,
            "reason": ending.reason[:_LONGEST],
            "reply": _said(ending.reply),
            "rcpts": [(rcpt.mailbox, _said(rcpt.reply), outcome) for rcpt, outcome in ending.rcpts],
            "queue_id": ending.queue_id[:_LONGEST],
            "due_at": ending.due_at and stamp(ending.due_at),
            "counted": ending.counted,
        }
    ).encode(errors="surrogatepass")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _said(reply: Reply | None) -> tuple[int, str] | None:
    return (reply.code, reply.text[:_LONGEST]) if reply else None


def _whole_lines(octets: bytes) -> Iterator[Noted]:
    for line in octets.split(b"\n"):
        head, _, text = line.partition(b" ")
        if head == b"%08x" % zlib.crc32(text):
            with suppress(ValueError, KeyError, TypeError):  # another version's: unknown, as without a reserve
                yield _noted(json.loads(text.decode(errors="surrogatepass")))


def _noted(data: dict[str, Any]) -> Noted:
    rcpts = ((RcptReply(mailbox, Reply(*said)), Outcome(outcome)) for mailbox, said, outcome in data["rcpts"])
    ending = Ending(
        state=State(data["state"]),
        outcome=Outcome(data["outcome"]),
        phase=Phase(data["phase"]),
        scope=data["scope"],
        reason=data["reason"],
        reply=Reply(*data["reply"]) if data["reply"] else None,
        rcpts=tuple(rcpts),
        queue_id=data["queue_id"],
        due_at=datetime.fromisoformat(data["due_at"]) if data["due_at"] else None,
        counted=data["counted"],
        suppress=tuple(address for _, address, _ in data["suppress"]),
    )
    gone = tuple((identity, address, reason) for identity, address, reason in data["suppress"])
    numbers = {name: data[name] for name in ("run", "began", "attempt", "letter", "ended_at")}
    return Noted(**numbers, ending=ending, suppress=gone)
