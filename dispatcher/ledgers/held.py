"""A ledger open for writing, and who may have it so. Readers need none of this (`ledgers.reader`).

    hold=True    one process at a time (file lock `ledger.lock`): runs, seals, resolves. It alone makes checkpoints.
    hold=False   besides it, one process at a time (file lock `ledger.guest.lock`), for a moment: a suppression that
                 a person adds while letters leave. It waits its turn and never makes a checkpoint.

SQLite orders the transactions of the two. What it may get wrong (before 3.51.3) is a checkpoint in one process at the
moment in which another begins to write; so the holder makes one only while it has the guests' lock as well.

What the ledger can take no more goes into a reserve (`ledgers.reserve`), which the next holder takes in.

No run begins on a ledger that may not know all that was sent (`ledgers.mark`); the sandbox's has no mark. Raises
RunActive when another process holds the ledger, LedgerInDoubt when a person must say whether it is the right one, and
LedgerUnavailable when it cannot be opened or written.
"""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from filelock import FileLock, Timeout

from dispatcher.core.errors import LedgerUnavailable, RunActive
from dispatcher.core.model import Ending, Leased, Recovered
from dispatcher.core.policy import LONGEST_PAUSE
from dispatcher.ledgers import file, linking
from dispatcher.ledgers.file import PATIENCE, stamp
from dispatcher.ledgers.mark import Facts, Marks, facts
from dispatcher.ledgers.reserve import Reserve, noted_of, take_in
from dispatcher.ledgers.soundness import Soundness
from dispatcher.ledgers.state import HighWater
from dispatcher.ledgers.statements import SQL, TEMPORARY
from dispatcher.ledgers.writer import Writer

T = TypeVar("T")
_GLANCE: Final = 0.1  # seconds: somebody may just be looking whether the ledger is held
_FOLD: Final = 20_000  # rows changed between two checkpoints: some 30 MB of log


class SqliteLedger:
    """A ledger open for writing, made if there is none. `now` is the clock; use as a context manager.

    `hold`: for this process alone (see the module). `patience` is how many seconds to wait for whoever is writing.
    `marks`: where this machine remembers it; None for a ledger that may be lost, such as the sandbox's. `fleeting`:
    a rehearsal's, where a job is done when `submit` returns, so that no thread is at work then, and nothing is synced.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], datetime],
        *,
        hold: bool = True,
        patience: float = PATIENCE,
        marks: Marks | None = None,
        fleeting: bool = False,
    ) -> None:
        self.path = path
        self.now = now
        self._held = hold
        self._marks = marks
        self._fleeting = fleeting
        self._mark: HighWater | None = None
        self._reserve = Reserve(path.with_suffix(".reserve"))
        self._began = ""
        self._patience = patience
        self._folded = 0
        self._soundness: Soundness | None = None
        self._guests = path.with_suffix(".guest.lock")
        file.make_folder(path.parent)
        with ExitStack() as stack:
            if hold:
                self._lock(stack, path.with_suffix(".lock"), _GLANCE)
            with ExitStack() as guests:
                self._lock(guests, self._guests, patience)
                if not path.exists():
                    if marks:
                        marks.require(path, None)
                    file.create(path, now())
                if not hold:
                    stack.callback(guests.pop_all().close)
            self._writer = Writer(self._open, self._tidy, linking.link_recorded)
            there = path.stat()
            self._inode = there.st_dev, there.st_ino
            self._locks = stack.pop_all()

    def _lock(self, stack: ExitStack, lock: Path, patience: float) -> None:
        held = FileLock(lock, timeout=patience, mode=0o600, thread_local=False)
        try:
            held.acquire()
        except Timeout:
            raise RunActive(f"another dispatcher is at work on {self.path}; wait for it, or stop it there") from None
        except OSError as error:
            raise LedgerUnavailable(f"cannot lock {lock}: {error.strerror}. Check the folder's rights") from None
        stack.callback(held.release)

    def _open(self) -> sqlite3.Connection:
        connection = file.connect(self.path, read_only=False, patience=self._patience)
        try:
            file.prepare_for_writing(connection, self.path)
            if self._fleeting:
                connection.execute("PRAGMA synchronous=OFF")  # it need outlive no loss of power
            if self._held:
                self._soundness = Soundness(self.path, connection)
            connection.executescript(TEMPORARY)
            linking.prepare(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise file.unusable(self.path, error) from None
            raise
        return connection

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """Now and then fold the write-ahead log into the file, unless a guest is there: then the next time."""
        if not self._held or connection.total_changes - self._folded < _FOLD:
            return
        guests = FileLock(self._guests, timeout=0, mode=0o600)
        try:
            with guests:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except Timeout:
            return
        self._folded = connection.total_changes
        if self._mark:
            self._mark.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is queued, close the file, let go of the locks. May be called twice.

        Raises LedgerUnavailable, when all that is done, if the file was found damaged beside the work.
        """
        try:
            if self._soundness:
                self._soundness.wait()
        finally:
            self._close()

    def _close(self) -> None:
        self._writer.close()
        if self._mark:
            self._mark.close()
        self._locks.close()

    def do(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run one job and wait until it is durable."""
        return self._writer.submit(job).result()

    def submit(self, job: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """Queue one job."""
        future = self._writer.submit(job)
        if self._fleeting:
            wait((future,))
        return future

    def require_in_place(self) -> None:
        """Raise LedgerUnavailable if the file was deleted or replaced, or found damaged: nothing more may be sent."""
        if self._soundness:
            self._soundness.require()
        try:
            there = self.path.stat()
        except OSError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != self._inode:
            raise LedgerUnavailable(f"{self.path} was deleted or replaced while it was in use: put it back")

    def raise_mark(self, attempt: int) -> None:
        """Remember outside the ledger that it holds this attempt, which is durable. Before the terminator leaves."""
        if self._mark:
            self._mark.raise_to(attempt)

    def remember(self) -> None:
        """Remember outside the ledger what it holds now: letters were printed with it. Raises LedgerUnavailable."""
        if self._marks:
            with self._marks.alone():
                self._marks.begin(self.path, self.do(facts)).close()

    def keep(self, run: int, attempt: int, letter: Leased, ending: Ending) -> bool:
        """Keep in reserve the outcome of an attempt at risk that the ledger could not take. False: it is unknown."""
        return self._reserve.note(noted_of(run, self._began, attempt, letter, ending, self.now()))

    def event(self, connection: sqlite3.Connection, kind: str, **what: Any) -> None:
        """Note a decision inside a job: letter, subject, who, why."""
        given = {"letter": None, "subject": "", "who": "", "why": "", **what}
        connection.execute(SQL["insert_event"], {"now": stamp(self.now()), "kind": kind, **given})

    def begin_run(self, campaign: str, account: str, on_unknown: str, smime: str = "") -> Recovered:
        """Open a run and put in order what an earlier one left (T6): at risk → unknown, leased → ready.

        `smime` is the certificate that its letters are signed with, in words.

        Raises LedgerInDoubt, with nothing changed, if the ledger may not know all that was sent.
        """

        def job(connection: sqlite3.Connection) -> tuple[Recovered, Facts]:
            if self._marks:
                self._marks.require(self.path, facts(connection))
            now = self.now()
            taken_in, unknown, given_back = self.recover_in(connection)
            self.settle_unknown(connection, campaign, on_unknown)
            latest = {"campaign": campaign, "now": stamp(now), "latest": stamp(now + LONGEST_PAUSE)}
            connection.execute(SQL["mend_due"], latest)
            given = {"campaign": campaign, "account": account, "smime": smime, "now": stamp(now)}
            run = connection.execute(SQL["insert_run"], given).lastrowid
            return Recovered(run or 0, unknown, given_back, taken_in), facts(connection)

        self._reserve.prepare()
        with self._marks.alone() if self._marks else nullcontext():
            recovered, found = self.do(job)
            if self._mark:
                self._mark.close()
            if self._marks:
                self._mark = self._marks.begin(self.path, found)
        self._reserve.clear()
        self._began = found.runs[recovered.run]
        return recovered

    def recover(self) -> None:
        """Put in order what a run left that did not end (T6)."""
        self.do(self.recover_in)
        self._reserve.clear()

    def recover_in(self, connection: sqlite3.Connection) -> tuple[int, int, int]:
        """The same, inside a job: what the reserve knows, then at risk → unknown, leased → ready. How many of each."""
        if not self._held:  # letters at risk may be those of a run that is at work
            raise RunActive(f"{self.path} is not held by this process")
        taken_in = sum(take_in(connection, noted) for noted in self._reserve.replay())
        connection.execute(SQL["recover_unknown_attempts"], {"now": stamp(self.now())})
        unknown = connection.execute(SQL["recover_unknown_letters"]).rowcount
        return taken_in, unknown, connection.execute(SQL["recover_leased"]).rowcount

    def settle_unknown(self, connection: sqlite3.Connection, campaign: str, on_unknown: str) -> None:
        """Carry out the campaign's `on_unknown`, inside a job."""
        why = f"on_unknown = {on_unknown}"
        given = {"campaign": campaign, "why": why, "now": stamp(self.now())}
        if on_unknown == "resend":
            connection.execute(SQL["override_unknown_attempts"], given)
            connection.execute(SQL["resend_unknown"], given)
        elif on_unknown == "assume_sent":
            connection.execute(SQL["note_assumed_sent"], given)
            connection.execute(SQL["assume_unknown_sent"], given)


def is_held(path: Path) -> bool:
    """Whether a process holds the ledger, for whoever only looks: it is free again at once."""
    lock = path.with_suffix(".lock")
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0, mode=0o600, thread_local=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False
