"""The SQLite ledger: the contract of all ledgers; and its own: the file, its locks, its failures, its statements."""

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dispatcher.core.errors import LedgerUnavailable, RunActive
from dispatcher.ledgers import sealing
from dispatcher.ledgers.file import APPLICATION, PATIENCE, VERSION
from dispatcher.ledgers.held import _FOLD
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.sqlite import SqliteLedger
from dispatcher.ledgers.statements import SQL
from tests.chained import require_borne_out, require_chained
from tests.ledger_bench import (
    ACCOUNT,
    CAMPAIGN,
    WHY,
    Bench,
    Time,
    begin,
    intend,
    lease,
    letter,
    letters,
    seal,
    states,
)
from tests.ledger_contract import LedgerContract
from tests.pace_contract import PaceContract

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such thing")


class SqliteBench:
    """A ledger in a folder of its own."""

    refused: type[Exception] = sqlite3.IntegrityError

    def __init__(self, folder: Path) -> None:
        self.path = folder / "hidden" / "ledger.sqlite"
        self.time = Time()
        self.forged = False

    def open(self, *, hold: bool = True) -> SqliteLedger:
        return SqliteLedger(self.path, self.time, hold=hold)

    def reader(self) -> Reader:
        return Reader(self.path)

    def end(self) -> None:
        """Whatever was done, the chain holds; unless a test wrote past the ledger."""
        if self.path.exists() and not self.forged:
            require_chained(self.path)
            require_borne_out(self.path)

    def sql(self, *statements: str, keep: bool = True) -> list[tuple[Any, ...]]:
        self.forged |= keep and not all(each.lstrip().startswith("SELECT") for each in statements)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            try:
                rows = [connection.execute(each).fetchall() for each in statements][-1]
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT" if keep else "ROLLBACK")
            return rows


@pytest.fixture
def bench(tmp_path: Path) -> SqliteBench:
    return SqliteBench(tmp_path)


@pytest.fixture
def ledger(bench: SqliteBench) -> Iterator[SqliteLedger]:
    seal(bench, letters(5))
    with bench.open() as ledger:
        yield ledger


class TestSqlite(LedgerContract, PaceContract):
    """The contract, on SQLite."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        bench = SqliteBench(tmp_path)
        yield bench
        bench.end()

    @pytest.fixture
    def fresh(self, tmp_path: Path) -> Iterator[Callable[[], Bench]]:
        benches: list[SqliteBench] = []

        def another() -> Bench:
            benches.append(SqliteBench(tmp_path / str(len(benches))))
            return benches[-1]

        yield another
        for bench in benches:
            bench.end()


# The file.


def test_every_commit_is_durable(ledger: SqliteLedger) -> None:
    asked = {name: ledger.do(lambda c, n=name: c.execute(f"PRAGMA {n}").fetchone()[0]) for name in PRAGMAS}  # type: ignore[misc]
    assert asked == PRAGMAS


PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL
    "foreign_keys": 1,
    "busy_timeout": 30000,
    "wal_autocheckpoint": 0,  # the holder makes checkpoints by itself
    "application_id": APPLICATION,
    "user_version": VERSION,
}


@posix_only
def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    """The file, its log and index, the locks, and every folder that was made for it."""
    umask = os.umask(0)
    try:
        path = tmp_path / "hidden" / "sandbox" / "ledger.sqlite"
        with SqliteLedger(path, Time()) as ledger:
            ledger.recover()
            with Reader(path), SqliteLedger(path, Time(), hold=False):
                modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(umask)
    assert modes == dict.fromkeys(
        ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.lock", "ledger.guest.lock"), 0o600
    )
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]


def test_a_draft_that_was_never_finished_is_of_no_harm(bench: SqliteBench) -> None:
    """A crash while the ledger was made leaves no ledger, and the next one is whole."""
    bench.path.parent.mkdir()
    for ending_ in ("", "-journal", "-wal"):
        bench.path.with_name(f"ledger.sqlite.new{ending_}").write_bytes(b"half")
    bench.open().close()
    assert bench.sql("SELECT count(*) FROM ledger") == [(1,)]
    assert not list(bench.path.parent.glob("*.new*"))


def test_no_ledger_is_made_beside_the_log_of_one_that_is_gone(bench: SqliteBench) -> None:
    bench.path.parent.mkdir()
    bench.path.with_name("ledger.sqlite-wal").write_bytes(b"the only record of what was sent")
    with pytest.raises(LedgerUnavailable, match=r"ledger\.sqlite is gone, but ledger\.sqlite-wal is there"):
        bench.open()
    assert not bench.path.exists()


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE letter (id)")
        connection.execute(f"PRAGMA user_version={VERSION}")


def _version(number: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version={number}")

    return change


def _overwrite(path: Path) -> None:
    """Damage of a kind that only looking through the whole file shows: one page of an index."""
    with closing(sqlite3.connect(path)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'attempt_by_account'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    octets = bytearray(path.read_bytes())
    octets[(page - 1) * size : page * size] = bytes(size)
    path.write_bytes(octets)


@pytest.mark.parametrize(
    ("harm", "words", "made"),
    [
        (lambda p: p.write_bytes(b""), "is not a ledger of dispatcher", False),
        (lambda p: p.write_text("key,email\n" * 1000), "file is not a database", False),
        (_foreign, "is not a ledger of dispatcher", False),
        (lambda p: p.mkdir(), "cannot use the ledger", False),
        (_version(VERSION + 1), "made by a newer dispatcher", True),
        (_version(0), "has the ledger version 0", True),
        (lambda p: os.truncate(p, p.stat().st_size // 8192 * 4096), "malformed|cannot use", True),
        (_overwrite, "cannot use the ledger", True),
    ],
    ids=["empty", "text", "another database", "folder", "newer", "older", "truncated", "overwritten"],
)
def test_a_file_that_is_no_good_is_refused_and_left_alone(
    bench: SqliteBench, harm: Callable[[Path], object], words: str, *, made: bool
) -> None:
    if made:
        seal(bench, letters(50))
    bench.path.parent.mkdir(exist_ok=True)
    harm(bench.path)
    before = bench.path.read_bytes() if bench.path.is_file() else None
    with pytest.raises(LedgerUnavailable, match=words) as caught:
        bench.open()
    assert caught.value.exit_code == 4
    assert (bench.path.read_bytes() if bench.path.is_file() else None) == before
    bench.path.rename(bench.path.with_name("bad"))
    for log in bench.path.parent.glob("*-wal"):
        log.unlink()
    bench.open().close()  # the lock was let go of


@pytest.mark.parametrize("harm", [_foreign, _version(VERSION + 1), lambda p: p.write_text("x" * 5000)])
def test_a_file_that_is_no_good_is_not_read_either(bench: SqliteBench, harm: Callable[[Path], object]) -> None:
    if harm is not _foreign:
        seal(bench, letters(1))
    bench.path.parent.mkdir(exist_ok=True)
    harm(bench.path)
    with pytest.raises(LedgerUnavailable):
        bench.reader()


def test_reading_makes_nothing_and_changes_nothing(bench: SqliteBench) -> None:
    with pytest.raises(LedgerUnavailable, match="cannot use the ledger"):
        bench.reader()
    assert not bench.path.exists()
    seal(bench, letters(1))
    with bench.reader() as reader, pytest.raises(LedgerUnavailable, match="readonly"):
        list(reader.rows("insert_run", campaign="x", account="y", smime="", now="z"))


def test_a_ledger_deleted_while_open_stops_the_run(bench: SqliteBench, ledger: SqliteLedger) -> None:
    """What is written into a file without a name is gone with the process, so nothing may leave on its word."""
    run = begin(ledger)
    first, second, *_ = lease(run)
    assert intend(run, first)
    bench.path.rename(bench.path.with_name("elsewhere"))
    with pytest.raises(LedgerUnavailable, match="deleted or replaced"):
        intend(run, second)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "hidden").write_text("")
    with pytest.raises(LedgerUnavailable, match="cannot"):
        SqliteLedger(tmp_path / "hidden" / "ledger.sqlite", Time())


# Who may write.


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process, with this test's imports."""
    head = "import sys; from pathlib import Path; from tests.test_ledger import *; path = Path(sys.argv[1])\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def output(process: "subprocess.Popen[str]") -> str:
    """What it printed, when it has ended well."""
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return out


def test_a_second_process_cannot_hold_it_but_can_suppress(bench: SqliteBench, ledger: SqliteLedger) -> None:
    """A suppression from another process, between lease and intent, keeps its letter from leaving."""
    run = begin(ledger)
    first, second, *_ = lease(run)
    code = """
try:
    SqliteLedger(path, Time())
except RunActive as error:
    print(error.exit_code)
with SqliteLedger(path, Time(), hold=False) as guest:
    print(sealing.add_suppressions(guest, letter("K000").recipient.to, **WHY))
"""
    assert output(python(code, bench.path)).split("\n")[:2] == ["5", "(1, 0)"]
    assert intend(run, first) is None
    assert intend(run, second)
    assert list(states(bench).values())[:2] == ["suppressed", "at_risk"]


def test_many_processes_that_make_the_same_ledger_make_one(bench: SqliteBench) -> None:
    """None writes into a file that another has replaced."""
    code = """
sys.stdin.readline()
with SqliteLedger(path, Time(), hold=False) as guest:
    box = Mailbox(sys.argv[2], "", sys.argv[2])
    print(sealing.add_suppressions(guest, [box], **WHY))
"""
    code = "from dispatcher.core.model import Mailbox\n" + code
    processes = [python(code, bench.path, f"p{n}@ngo.example") for n in range(4)]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    assert [output(process).strip() for process in processes] == ["(1, 0)"] * 4
    assert bench.sql("SELECT count(*) FROM suppression") == [(4,)]


def test_no_checkpoint_is_made_while_a_guest_is_there(bench: SqliteBench, ledger: SqliteLedger) -> None:
    """SQLite before 3.51.3 may lose data when one process folds the log back as another begins to write."""

    def many(connection: sqlite3.Connection) -> None:
        sql = "INSERT INTO event (at, kind) VALUES ('', 'x')"
        for _ in range(_FOLD + 1000):
            connection.execute(sql)

    def written() -> bytes:
        ledger.do(many)
        ledger.recover()  # what is done between transactions is done by now
        return bench.path.read_bytes()

    first = written()
    with bench.open(hold=False) as guest:
        sealing.add_suppressions(guest, letter("K000").recipient.to, **WHY)
        held = bench.path.read_bytes()
        guest.do(many)
        assert written() == written() == held
    assert written() != held
    assert written() != first
    assert bench.path.with_name("ledger.sqlite-wal").stat().st_size < 8_000_000


def test_another_program_that_locks_the_file_stops_the_run_for_good(bench: SqliteBench, ledger: SqliteLedger) -> None:
    """Nothing is said to be durable, and nothing is tried again on that connection; a new one goes on."""
    ledger.close()
    with SqliteLedger(bench.path, bench.time, patience=0.05) as hasty:
        run = begin(hasty)
        first, second, *_ = lease(run)
        with closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(LedgerUnavailable, match="locked") as caught:
                intend(run, first)
            assert caught.value.exit_code == 4
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="locked"):
                intend(run, second)
        with pytest.raises(LedgerUnavailable):
            run.end("unavailable", "hold")
    with bench.open() as anew:
        assert anew.begin_run(CAMPAIGN, ACCOUNT, "hold").given_back == 5
    assert PATIENCE == 30


def test_a_guest_waits_for_the_guest_before_it(bench: SqliteBench, ledger: SqliteLedger) -> None:
    with bench.open(hold=False), pytest.raises(RunActive, match="another dispatcher is at work"):
        SqliteLedger(bench.path, bench.time, hold=False, patience=0.05)
    with SqliteLedger(bench.path, bench.time, hold=False, patience=0.05) as guest:
        sealing.add_suppressions(guest, letter("K000").recipient.to, **WHY)


# Failures of the disk and of the process.

FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with SqliteLedger(path, Time()) as ledger:
    run = begin(ledger)
    leased = lease(run)
    size = path.with_name("ledger.sqlite-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 150_000, resource.RLIM_INFINITY))
    granted, refused = [], 0
    for each in leased:
        try:
            granted.append(intend(run, each))
        except LedgerUnavailable as error:
            refused += 1
            assert "cannot be written" in str(error), error
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        intend(run, leased[-1])
    except LedgerUnavailable:
        print(len(granted), refused)
"""


@posix_only
def test_a_full_disk_stops_the_run_for_good_and_leaves_nothing_half_written(bench: SqliteBench) -> None:
    """Every intent that was granted is there, none that was refused is, and the rest waits."""
    seal(bench, letters(60))
    granted, refused = map(int, output(python(FULL, bench.path)).split())
    assert granted + refused == 60
    assert granted
    assert refused
    assert bench.sql("PRAGMA integrity_check") == [("ok",)]
    assert bench.sql("SELECT count(*) FROM attempt WHERE outcome = 'at_risk'") == [(granted,)]
    with bench.open() as ledger:
        found = ledger.begin_run(CAMPAIGN, ACCOUNT, "hold")
        assert (found.unknown, found.given_back) == (granted, refused)


@posix_only
def test_a_full_disk_at_sealing_leaves_no_plan(bench: SqliteBench) -> None:
    code = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
try:
    seal(SqliteBench(path), letters(2000))
except LedgerUnavailable as error:
    print(error)
"""
    bench.open().close()
    assert "cannot be written" in output(python(code, bench.path.parent.parent))
    assert states(bench) == {}
    assert bench.sql("SELECT count(*) FROM plan") == [(0,)]


@posix_only
@pytest.mark.parametrize("after", [1, 7, 30])
def test_what_was_granted_is_there_after_a_kill(bench: SqliteBench, after: int) -> None:
    seal(bench, letters(60))
    code = """
with SqliteLedger(path, Time()) as ledger:
    run = begin(ledger)
    for each in lease(run):
        print(intend(run, each), flush=True)
"""
    process = python(code, bench.path)
    assert process.stdout
    for _ in range(after):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    granted = after + len(process.stdout.read().split())  # what was read ahead counts too
    process.communicate()
    with bench.open() as ledger:
        unknown = ledger.begin_run(CAMPAIGN, ACCOUNT, "hold").unknown
    assert granted <= unknown <= granted + 1
    assert bench.sql("PRAGMA integrity_check") == [("ok",)]


@posix_only
def test_a_forked_child_is_refused_and_does_not_wait_for_ever(bench: SqliteBench, ledger: SqliteLedger) -> None:
    """The thread is not in the child; the parent goes on unharmed."""
    code = """
import os, warnings
warnings.simplefilter("ignore")
ledger = SqliteLedger(path, Time())
child = os.fork()
if child == 0:
    try:
        ledger.do(lambda c: None)
    except LedgerUnavailable:
        os._exit(7)
    os._exit(8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), ledger.do(lambda c: "on"))
ledger.close()
"""
    ledger.close()
    assert output(python(code, bench.path)).split() == ["7", "on"]


# Speed is a property of the shape.

RUN_STATEMENTS = (
    "due",
    "due_chosen",
    "next_due",
    "next_due_chosen",
    "held",
    "mend_due",
    "letters_in",
    "counts",
    "end_letter",
    "recover_unknown_attempts",
    "recover_unknown_letters",
    "recover_leased",
    "waiting",
    "count_skips",
    "letters_in_doubt",
    "any_in_doubt",
)


@pytest.mark.parametrize(
    "name",
    RUN_STATEMENTS,
)
def test_no_statement_of_a_run_goes_through_all_letters(ledger: SqliteLedger, name: str) -> None:
    def plan(connection: sqlite3.Connection) -> list[str]:
        given = dict.fromkeys(re.findall(r":(\w+)", SQL[name]), 0)
        return [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + SQL[name], given)]

    steps = ledger.do(plan)
    assert steps
    assert not [step for step in steps if step.startswith("SCAN") and not step.startswith("SCAN plan")]
    assert not [step for step in steps if "TEMP B-TREE" in step]
    assert not [step for step in steps if "letter_1 (campaign=?)" in step], "by the key, and every key"


def loaded_with(module: str) -> set[str]:
    """Every module that a fresh interpreter has after importing this one."""
    code = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


HEAVY = {"jinja2", "pydantic", "aiosmtplib", "aiosmtpd", "email_validator", "typer"}


def test_reading_loads_nothing_heavy() -> None:
    """`status` and `log` stay instant."""
    assert not loaded_with("dispatcher.ledgers.reader") & {*HEAVY, "asyncio", "filelock"}


def test_the_ledger_loads_nothing_of_its_siblings() -> None:
    loaded = loaded_with("dispatcher.ledgers.sealing")
    assert not loaded & HEAVY
    assert {m.split(".")[1] for m in loaded if m.startswith("dispatcher.")} == {"core", "ledgers"}
