"""The mark of a ledger: what this machine remembers of it outside the campaign's folder.

A ledger that was restored from an hour ago is sound, and wrong: it does not know what was sent since. So is a copy, and
a new one in the place of one that was deleted. What they lack cannot be seen in them; it is seen here. A mark holds
which ledger (its UUID), where it is, its latest run, how many attempts it had made (a high-water mark), and how often
letters were printed with it. It is a small file in a folder of the user's own (`state_folder`), away from where ledgers
are copied, restored and deleted.

The ledger comes first, always: a run is begun, and an attempt made, in the ledger, durably, and only then in the mark.
So no crash and no loss of power leaves a mark above its ledger, and a mark that is above was left by letters that this
ledger does not know. The mark's own writes are overwritten in place and reach the disk when the system likes, but at
the begin of a run, at its end, and now and then between: a letter pays one short write, and no fsync.

Raises LedgerInDoubt where a person must decide, LedgerUnavailable where a mark cannot be kept.
"""

import json
import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from dispatcher.core.errors import LedgerInDoubt, LedgerUnavailable, RunActive
from dispatcher.ledgers.file import PATIENCE, connect, make_folder, sync_names, unusable
from dispatcher.ledgers.state import HEAD, HighWater, counted, counter, unkept
from dispatcher.ledgers.statements import SQL


@dataclass(frozen=True, slots=True)
class Mark:
    """What is remembered of one ledger. `run` and `began` are of its latest run; the rest are its highest numbers.

    `links` and `head` are how long its hash chain was then, and the last hash (hex).
    """

    ledger: str
    path: str
    campaigns: tuple[str, ...]
    run: int
    began: str
    attempts: int
    printings: int = 0
    links: int = 0
    head: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a ledger says of itself: its UUID, when each of its runs began, its highest numbers."""

    ledger: str
    runs: Mapping[int, str]
    attempts: int
    printings: int
    links: int = 0
    head: str = ""


def facts(connection: sqlite3.Connection) -> Facts:
    """Read them. Raises sqlite3.Error."""
    ledger = str(uuid.UUID(connection.execute("SELECT uuid FROM ledger").fetchone()[0]))
    runs = dict(connection.execute("SELECT id, started_at FROM run").fetchall())
    attempts, printings = (
        connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0] or 0  # noqa: S608 (one of two words)
        for table in ("attempt", "printing")
    )
    links, head = connection.execute(SQL["chain_head"]).fetchone() or (0, b"")
    return Facts(ledger, runs, attempts, printings, links, head.hex())


def facts_of(path: Path) -> Facts | None:
    """The same of a ledger that nobody needs to have open; None if there is none. Raises LedgerUnavailable."""
    if not path.exists():
        return None
    with closing(connect(path, read_only=True)) as connection:
        try:
            return facts(connection)
        except (sqlite3.Error, ValueError) as error:
            raise unusable(path, error) from None


class Marks:
    """The marks in one folder, for one campaign. `command` is what a person types who decides (`dispatcher adopt`)."""

    def __init__(self, folder: Path, campaign: str, command: str) -> None:
        self._folder = folder / "marks"
        self._campaign = campaign
        self._command = command

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time asks the marks and changes them: two copies that begin at once must see each other."""
        with ExitStack() as door:
            try:
                make_folder(self._folder)
                door.enter_context(FileLock(self._folder / "door.lock", timeout=PATIENCE, mode=0o600))
            except (OSError, LedgerUnavailable) as error:  # a Timeout is an OSError, too
                raise unkept(str(error)) from None
            yield

    @contextmanager
    def other_at_rest(self, path: Path, found: Facts) -> Iterator[None]:
        """Whoever has this ledger in another place does not send from it meanwhile. Raises RunActive."""
        mark = self._readable(found.ledger)
        with ExitStack() as other:
            if mark and not _same_place(mark.path, path) and Path(mark.path).exists():
                lock = FileLock(Path(mark.path).with_suffix(".lock"), timeout=0, mode=0o600)
                try:
                    other.enter_context(lock)
                except OSError:
                    raise RunActive(f"another dispatcher is at work on {mark.path}; wait for it, or stop it") from None
            yield

    def require(self, path: Path, found: Facts | None) -> None:
        """Raise LedgerInDoubt, with what to do, unless the ledger at `path` (None: there is none) is the right one."""
        if doubt := self.doubt(path, found):
            raise LedgerInDoubt(f"{doubt}\n{self._advice(found)}")

    def _advice(self, found: Facts | None) -> str:
        """What a person can do. A ledger that is gone has no letters that could be held."""
        if found is None:
            begin = f"{self._command} --as waiting --why …"
            return f"Put it back, from a backup if need be. Or begin anew, and send every letter again: {begin}"
        held, free = (f"{self._command} --as {what} --why …" for what in ("unknown", "waiting"))
        return (
            "Nothing is sent until the right ledger is in its place, or you say that this is the one from now on:\n"
            f"  {held}   (holds every letter that waits, for it may have left)\n"
            f"  {free}   (if you know that none of them has left)"
        )

    def doubt(self, path: Path, found: Facts | None) -> str:
        """Why the ledger at `path` may not know all that was sent; '' if it does, as far as this machine knows."""
        mark = self._read(found.ledger) if found else None
        here = mark is not None and _same_place(mark.path, path)
        if not here and (doubt := self._other_ledgers(path, found)):
            return doubt
        if found is None:
            return ""
        if mark is None:
            many = f"made {found.attempts:,} attempts" if found.attempts > 1 else "made 1 attempt"
            many = many if found.attempts else "printed letters"
            strange = f"this machine does not know the ledger {path}, which has {many} already"
            used = found.attempts or found.printings
            return f"{strange}: it was brought here, and may be a copy" if used else ""
        if not here and _is_there(mark):
            since = _left(mark.attempts - found.attempts, "since it was made")
            return f"{path} is a copy; the ledger itself is {mark.path}{since}"
        if _forked(mark, found):
            return f"{path} was sent from in two places: what this machine sent with it is not in it"
        return _older(path, mark, found)

    def _other_ledgers(self, path: Path, found: Facts | None) -> str:
        """Whether another ledger sent this campaign from this very place."""
        lost, printed = 0, 0
        for mark in self._all():
            another = found is None or mark.ledger != found.ledger
            if another and self._campaign in mark.campaigns and _same_place(mark.path, path):
                lost += mark.attempts
                printed += mark.printings
        if not (lost or printed):
            return ""
        what = f"the ledger {path} is gone" if found is None else f"{path} is not the ledger that was here"
        return what + _left(lost, "by that one")

    def begin(self, path: Path, found: Facts) -> "HighWater":
        """Note, durably, what a ledger says now: that a run was begun, the latest of `found.runs`, or letters printed.

        Returns what a run's attempts are noted with.
        """
        run = max(found.runs, default=0)
        old = self._readable(found.ledger)
        campaigns = tuple(sorted({self._campaign, *(old.campaigns if old else ())}))
        began = found.runs.get(run, "")
        numbers = (found.attempts, found.printings, found.links, found.head)
        mark = Mark(found.ledger, str(path.resolve()), campaigns, run, began, *numbers)
        return HighWater(self._write(mark), found.attempts)

    def chain_of(self, ledger: str) -> tuple[int, str]:
        """How long the chain of this ledger was when it was last remembered, and its last hash; (0, '') if never."""
        mark = self._readable(ledger)
        return (mark.links, mark.head) if mark else (0, "")

    def settle(self, path: Path, found: Facts) -> None:
        """A person said that this is the right ledger: so it is, and no other has a claim to its place."""
        self.begin(path, found).close()
        for mark in self._all():
            if mark.ledger != found.ledger and _same_place(mark.path, path):
                self._file(mark.ledger).unlink(missing_ok=True)

    def _file(self, ledger: str) -> Path:
        return self._folder / ledger

    def _all(self) -> Iterator[Mark]:
        """Every mark that can be read."""
        try:
            files = sorted(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise unkept(str(error)) from None
        for file in files:
            if not file.suffix and (mark := self._readable(file.name)):
                yield mark

    def _readable(self, ledger: str) -> Mark | None:
        try:
            return self._read(ledger)
        except LedgerUnavailable:
            return None

    def _read(self, ledger: str) -> Mark | None:
        """A ledger's mark, if there is one. Raises LedgerUnavailable if it cannot be read."""
        file = self._file(ledger)
        try:
            octets = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unkept(str(error)) from None
        try:
            data: dict[str, Any] = json.loads(octets[HEAD:])
            return Mark(**{**data, "campaigns": tuple(data["campaigns"]), "attempts": counted(octets[:HEAD])})
        except (ValueError, TypeError, KeyError) as error:
            todo = f"Compare the ledger with the relay's log, then decide: {self._command} --as unknown --why …"
            raise LedgerUnavailable(f"{file}, the mark of the ledger, is damaged: {error}. {todo}") from None

    def _write(self, mark: Mark) -> Path:
        """Write a mark whole, and durably."""
        file, draft = self._file(mark.ledger), self._folder / f"{mark.ledger}.new"
        octets = counter(mark.attempts) + json.dumps(asdict(replace(mark, attempts=0))).encode()
        try:
            make_folder(self._folder)
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600)
            with draft.open("wb") as out:
                out.write(octets)
                out.flush()
                os.fsync(out.fileno())
            draft.replace(file)
            sync_names(self._folder)
        except (OSError, LedgerUnavailable) as error:
            raise unkept(str(error)) from None
        return file


def _same_place(one: str, other: Path) -> bool:
    """Whether two paths are one, also by a link or a mount."""
    if Path(one) == other.resolve():
        return True
    with suppress(OSError):
        return Path(one).samefile(other)
    return False


def _is_there(mark: Mark) -> bool:
    """Whether the ledger is where the mark says. One that cannot be read may be it."""
    try:
        found = facts_of(Path(mark.path))
    except LedgerUnavailable:
        return True
    return found is not None and found.ledger == mark.ledger


def _forked(mark: Mark, found: Facts) -> bool:
    """Whether the ledger has a history that is not the mark's: another run of that number, or more without that run."""
    began = found.runs.get(mark.run, "")
    return began != mark.began and (bool(began) or found.attempts > mark.attempts)


def _older(path: Path, mark: Mark, found: Facts) -> str:
    """Whether more was sent or printed with it than it knows, in words."""
    if (lost := mark.attempts - found.attempts) > 0:
        return f"{path} is older than what was sent with it{_left(lost, 'that it does not know')}"
    if mark.printings > found.printings:
        return f"{path} is older than what was printed with it; letters may be in the post that it does not know"
    return ""


def _left(letters: int, since: str) -> str:
    if letters <= 0:
        return ""
    return f"; {'1 letter' if letters == 1 else f'up to {letters:,} letters'} may have left {since}"
