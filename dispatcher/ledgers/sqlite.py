"""The ledger in one SQLite file: WAL, synchronous=FULL, one writing thread, group commits.

What is durable before which byte stands in docs/design.md; the rules that must hold even against a bug in the sender
stand in schema.sql. Readers open the file read-only. Raises LedgerUnavailable, and RunActive when another process
holds it.
"""

import asyncio
import json
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from filelock import FileLock, Timeout

from dispatcher.core.errors import LedgerUnavailable, RunActive
from dispatcher.core.model import (
    Ending,
    Lease,
    Leased,
    Phase,
    Recovered,
    Reply,
    SessionInfo,
    State,
)
from dispatcher.core.policy import TRANSITIONS
from dispatcher.ledgers import rows
from dispatcher.ledgers.statements import SCHEMA, SQL
from dispatcher.ledgers.writer import Writer

T = TypeVar("T")
VERSION: Final = 1
_AHEAD: Final = 5.0  # seconds of slots a lease may take in advance
_DAY: Final = timedelta(hours=24)


def stamp(moment: datetime) -> str:
    """A moment as the ledger keeps it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open a ledger's file and check that it is one of ours. Raises LedgerUnavailable."""
    mode = "ro" if read_only else "rw"
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=30,
            check_same_thread=False,
        )
        connection.execute("PRAGMA foreign_keys=ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"cannot open the ledger {path.name}: {error}") from None
    if version != VERSION:
        connection.close()
        raise LedgerUnavailable(f"{path.name} is of version {version}; this dispatcher reads version {VERSION}")
    return connection


def create(path: Path, now: datetime) -> None:
    """Make an empty ledger, readable by its owner alone, unless there is one. All of it appears, or nothing."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        draft.touch(mode=0o600)
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
            connection.executemany("INSERT INTO transition VALUES (?, ?)", sorted(TRANSITIONS))
            connection.execute("INSERT INTO ledger VALUES (1, ?, ?)", (str(uuid.uuid4()), stamp(now)))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
        draft.replace(path)
    except (OSError, sqlite3.Error) as error:
        draft.unlink(missing_ok=True)
        raise LedgerUnavailable(
            f"cannot make the ledger {path}: {error}. Check the disk and the folder's rights"
        ) from None


class SqliteLedger:
    """A ledger held for writing by this process alone. `now` is the clock; use as a context manager."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        create(path, now())
        self.path = path
        self.now = now
        self._lock = FileLock(path.with_suffix(".lock"), timeout=0, mode=0o600)
        try:
            self._lock.acquire()
        except Timeout:
            raise RunActive(f"another dispatcher is at work on {path}; wait for it, or stop it there") from None
        try:
            self._writer = Writer(self._open)
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> sqlite3.Connection:
        connection = connect(self.path, read_only=False)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TEMP TABLE chosen (id INTEGER PRIMARY KEY)")
        return connection

    def __enter__(self) -> "SqliteLedger":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is queued, close the file, let go of the lock."""
        self._writer.close()
        self._lock.release()

    def do(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run one job and wait until it is durable."""
        return self._writer.submit(job).result()

    def submit(self, job: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """Queue one job."""
        return self._writer.submit(job)

    def event(self, connection: sqlite3.Connection, kind: str, **what: Any) -> None:
        """Note a decision inside a job: letter, subject, who, why."""
        given = {"letter": None, "subject": "", "who": "", "why": "", **what}
        connection.execute(SQL["insert_event"], {"now": stamp(self.now()), "kind": kind, **given})

    def begin_run(self, campaign: str, account: str, on_unknown: str) -> Recovered:
        """Open a run and put in order what an earlier one left (T6): at risk → unknown, leased → ready."""

        def job(connection: sqlite3.Connection) -> Recovered:
            now = stamp(self.now())
            unknown, given_back = self.recover_in(connection)
            self.settle_unknown(connection, campaign, on_unknown)
            run = connection.execute(
                SQL["insert_run"], {"campaign": campaign, "account": account, "now": now}
            ).lastrowid
            return Recovered(run or 0, unknown, given_back)

        return self.do(job)

    def recover(self) -> None:
        """Put in order what a run left that did not end (T6)."""
        self.do(self.recover_in)

    def recover_in(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """The same, inside a job: at risk → unknown, leased → ready. Returns how many of each."""
        connection.execute(SQL["recover_unknown_attempts"], {"now": stamp(self.now())})
        unknown = connection.execute(SQL["recover_unknown_letters"]).rowcount
        return unknown, connection.execute(SQL["recover_leased"]).rowcount

    def settle_unknown(self, connection: sqlite3.Connection, campaign: str, on_unknown: str) -> None:
        """Carry out the campaign's `on_unknown`, inside a job."""
        why = f"on_unknown = {on_unknown}"
        given = {"campaign": campaign, "why": why, "now": stamp(self.now())}
        if on_unknown == "resend":
            connection.execute(SQL["override_unknown_attempts"], given)
            connection.execute(SQL["resend_unknown"], given)
        elif on_unknown == "assume_sent":
            connection.execute(SQL["assume_unknown_sent"], given)


class Run:
    """The dispatch loop's port: one run of one campaign on a held ledger. See `core.ports.Ledger`."""

    def __init__(
        self,
        ledger: SqliteLedger,
        run: int,
        campaign: str,
        account: str,
        *,
        interval: float = 0.0,
        quota: int | None = None,
        chosen: Iterable[int] | None = None,
    ) -> None:
        self._ledger = ledger
        self._run = run
        self._campaign = campaign
        self._account = account
        self._interval = interval
        self._quota = quota
        self._limited = chosen is not None
        if chosen is not None:
            ids = [(n,) for n in chosen]

            def choose(connection: sqlite3.Connection) -> None:
                connection.execute("DELETE FROM chosen")
                connection.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", ids)

            ledger.do(choose)

    async def _do(self, job: Callable[[sqlite3.Connection], T]) -> T:
        # Shielded: a cancelled worker must not turn a commit that is under way into "never happened".
        return await asyncio.shield(asyncio.wrap_future(self._ledger.submit(job)))

    def end(self, ending: str, on_unknown: str) -> None:
        """Close the run in order (T9). Letters it still holds go back; those at risk become unknown."""

        def job(connection: sqlite3.Connection) -> None:
            self._ledger.recover_in(connection)
            if on_unknown == "assume_sent":
                self._ledger.settle_unknown(connection, self._campaign, on_unknown)
            now = stamp(self._ledger.now())
            connection.execute(SQL["end_run"], {"run": self._run, "now": now, "ending": ending})

        self._ledger.do(job)

    async def lease(self, limit: int) -> Lease:
        return await self._do(lambda connection: self._lease(connection, limit))

    def _lease(self, connection: sqlite3.Connection, limit: int) -> Lease:
        now = self._ledger.now()
        scope = {"campaign": self._campaign, "limited": int(self._limited)}
        limit, free_at = self._within_quota(connection, limit, now)
        slot = self._next_slot(connection, now)
        if self._interval:
            limit = min(limit, max(1, int((_AHEAD - (slot - now).total_seconds()) / self._interval)))
        letters: list[Leased] = []
        for row in connection.execute(SQL["due"], {**scope, "now": stamp(now), "limit": limit}).fetchall():
            self._fenced(connection, "lease", {"id": row[0], "run": self._run})
            letters.append(rows.leased(row, slot))
            slot += timedelta(seconds=self._interval)
        if letters and self._interval:
            connection.execute(SQL["keep_slot"], {"account": self._account, "next_at": stamp(slot)})
        due = None if letters else connection.execute(SQL["next_due"], scope).fetchone()[0]
        return Lease(tuple(letters), free_at if not letters else None, due and datetime.fromisoformat(due))

    def _within_quota(self, connection: sqlite3.Connection, limit: int, now: datetime) -> tuple[int, datetime | None]:
        if self._quota is None:
            return limit, None
        given = {"account": self._account, "since": stamp(now - _DAY)}
        used, oldest = connection.execute(SQL["handed_over_since"], given).fetchone()
        held = connection.execute(
            "SELECT count(*) FROM letter WHERE state = 'leased' AND lease = ?", (self._run,)
        ).fetchone()[0]
        left = self._quota - used - held
        if left > 0:
            return min(limit, left), None
        return 0, datetime.fromisoformat(oldest) + _DAY if oldest else now

    def _next_slot(self, connection: sqlite3.Connection, now: datetime) -> datetime:
        if not self._interval:
            return now
        row = connection.execute(SQL["next_slot"], {"account": self._account}).fetchone()
        # A clock that was set back must not stop the run for as long as it was wrong.
        latest = now + timedelta(seconds=max(_AHEAD, self._interval))
        return min(max(now, datetime.fromisoformat(row[0])), latest) if row else now

    def _fenced(self, connection: sqlite3.Connection, name: str, given: Mapping[str, Any]) -> None:
        """A state change that must meet the letter where this run thinks it is."""
        if connection.execute(SQL[name], given).rowcount != 1:
            raise LedgerUnavailable("a letter is no longer this run's: another process changed the ledger; start again")

    async def open_session(self, info: SessionInfo) -> int:
        given = {
            "run": self._run,
            "now": stamp(self._ledger.now()),
            "host": info.host,
            "port": info.port,
            "peer": info.peer,
            "tls_version": info.tls_version,
            "cipher": info.cipher,
        }
        return await self._do(lambda c: c.execute(SQL["insert_session"], given).lastrowid or 0)

    async def intend(self, letter: Leased, session: int, date: datetime, message_digest: str) -> int | None:
        def job(connection: sqlite3.Connection) -> int | None:
            held = {"id": letter.id, "run": self._run}
            if found := suppressed(connection, [m.identity for m in letter.letter.recipient.mailboxes]):
                self._fenced(connection, "suppress_leased", {**held, "reason": f"{found[0]} is suppressed: {found[1]}"})
                return None
            now = stamp(self._ledger.now())
            self._fenced(connection, "put_at_risk", {**held, "date": date.isoformat(), "now": now})
            return self._insert_attempt(
                connection, letter, session, outcome="at_risk", phase=Phase.BODY, message_digest=message_digest
            )

        return await self._do(job)

    def _insert_attempt(self, connection: sqlite3.Connection, letter: Leased, session: int | None, **what: Any) -> int:
        given = {
            "letter": letter.id,
            "run": self._run,
            "session": session,
            "account": self._account,
            "now": stamp(self._ledger.now()),
            **{
                "ended_at": None,
                "scope": "",
                "code": None,
                "enhanced": "",
                "reply": "",
                "queue_id": "",
                "message_digest": "",
            },
            **what,
        }
        return connection.execute(SQL["insert_attempt"], given).lastrowid or 0

    async def conclude(self, letter: Leased, session: int | None, attempt: int | None, ending: Ending) -> None:
        await self._do(lambda connection: self._conclude(connection, letter, session, attempt, ending))

    def _conclude(
        self, connection: sqlite3.Connection, letter: Leased, session: int | None, attempt: int | None, ending: Ending
    ) -> None:
        now = stamp(self._ledger.now())
        reply = ending.reply or Reply(0, ending.reason)
        what = {
            "outcome": ending.outcome,
            "phase": ending.phase,
            "scope": ending.scope,
            "code": reply.code or None,
            "enhanced": reply.enhanced,
            "reply": reply.text,
            "queue_id": ending.queue_id,
            "ended_at": now,
        }
        if attempt is None:
            attempt = self._insert_attempt(connection, letter, session, **what)
        else:
            self._fenced(connection, "end_attempt", {**what, "attempt": attempt, "letter": letter.id, "run": self._run})
        for rcpt, outcome in ending.rcpts:
            said = {"code": rcpt.reply.code, "enhanced": rcpt.reply.enhanced, "reply": rcpt.reply.text}
            connection.execute(
                SQL["insert_rcpt"], {"attempt": attempt, "mailbox": rcpt.mailbox, "outcome": outcome, **said}
            )
        state = {
            "letter": letter.id,
            "run": self._run,
            "state": ending.state,
            "reason": ending.reason,
            "due_at": ending.due_at and stamp(ending.due_at),
            "counted": int(ending.counted),
            "now": now,
        }
        self._fenced(connection, "end_letter", state)
        for mailbox in letter.letter.recipient.mailboxes:
            if mailbox.address in ending.suppress:
                suppress(connection, mailbox.identity, mailbox.address, ending.reason, "refused by the relay", now)

    async def give_back(self, letter: Leased) -> None:
        await self._do(lambda c: self._fenced(c, "give_back", {"id": letter.id, "run": self._run}))

    async def judge(self, letters: tuple[Leased, ...], state: State, reason: str) -> None:
        def job(connection: sqlite3.Connection) -> None:
            for letter in letters:
                self._fenced(connection, "judge", {"id": letter.id, "run": self._run, "state": state, "reason": reason})

        await self._do(job)


def suppressed(connection: sqlite3.Connection, identities: Iterable[str]) -> tuple[str, str] | None:
    """The first of some mailboxes that must not be written to, itself or its whole domain, and why."""
    wanted = [w for identity in identities for w in (identity, "@" + identity.rpartition("@")[2])]
    row = connection.execute(SQL["suppressed_among"], {"identities": json.dumps(wanted)}).fetchone()
    return (row[0], row[1]) if row else None


def suppress(connection: sqlite3.Connection, identity: str, address: str, reason: str, source: str, now: str) -> bool:
    """Add a suppression; False if it was there already. Letters that wait are held back when their turn comes (T3)."""
    given = {"identity": identity, "address": address, "reason": reason, "source": source, "now": now}
    return connection.execute(SQL["insert_suppression"], given).rowcount == 1
