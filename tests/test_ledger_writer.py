"""The ledger's writer: order, groups, failures, the end; whatever happens, nobody waits for ever."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from dispatcher.core.errors import DispatcherError, LedgerUnavailable
from dispatcher.ledgers.writer import Writer


def connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer(connection, lambda _: None)
    writer.submit(lambda c: c.execute("CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT")).result()
    yield writer
    writer.close()


def numbers(writer: Writer) -> list[int]:
    return [n for (n,) in writer.submit(lambda c: c.execute("SELECT n FROM t ORDER BY n").fetchall()).result()]


def fail(error: BaseException) -> Callable[[sqlite3.Connection], None]:
    def job(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (99)")
        raise error

    return job


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), MemoryError(), sqlite3.ProgrammingError("x")])
def test_a_jobs_own_failure_is_its_own(writer: Writer, error: BaseException) -> None:
    with pytest.raises(type(error)):
        writer.submit(fail(error)).result()
    assert numbers(writer) == []


def test_a_rule_that_was_broken_is_told_in_our_words(writer: Writer) -> None:
    writer.submit(lambda c: c.execute("INSERT INTO t VALUES (1)")).result()
    with pytest.raises(DispatcherError, match="refused a change that breaks its rules: UNIQUE") as caught:
        writer.submit(lambda c: c.execute("INSERT INTO t VALUES (1)")).result()
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), sqlite3.DatabaseError("malformed")])
def test_a_failure_of_the_ledger_itself_stops_the_writer(writer: Writer, error: BaseException) -> None:
    """The whole group is undone and told so, and so is everybody after it."""
    gate = threading.Event()
    writer.submit(lambda _: gate.wait(30))
    futures: list[Future[Any]] = [
        writer.submit(lambda c: c.execute("INSERT INTO t VALUES (1)")),
        writer.submit(fail(error)),
        writer.submit(lambda c: c.execute("INSERT INTO t VALUES (2)")),
    ]
    gate.set()
    for future in futures:
        with pytest.raises(LedgerUnavailable, match=str(error)):
            future.result()
    with pytest.raises(LedgerUnavailable, match=str(error)):
        writer.submit(lambda _: None).result()


def test_a_commit_that_fails_stops_the_writer() -> None:
    """Whatever of it may be on the disk: nobody is told that it is durable, and nothing is tried again."""

    def opened() -> sqlite3.Connection:
        made = connection()
        made.executescript("PRAGMA foreign_keys=ON; CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT;")
        made.execute("CREATE TABLE child (n INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)")
        return made

    writer = Writer(opened, lambda _: None)
    gate = threading.Event()
    writer.submit(lambda _: gate.wait(30))
    futures = [writer.submit(lambda c, s=sql: c.execute(s)) for sql in ORPHAN]  # type: ignore[misc]
    gate.set()
    for future in futures:
        with pytest.raises(LedgerUnavailable, match="cannot be written: FOREIGN KEY"):
            future.result()
    with pytest.raises(LedgerUnavailable, match="cannot be written: FOREIGN KEY"):
        writer.submit(lambda _: None).result()
    writer.close()


ORPHAN = ("INSERT INTO t VALUES (1)", "INSERT INTO child VALUES (5)")


def test_tidying_up_that_fails_stops_the_writer_after_everybody_was_told() -> None:
    def tidy(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    writer = Writer(connection, tidy)
    assert writer.submit(lambda _: 5).result() == 5
    with pytest.raises(LedgerUnavailable, match="disk I/O error"):
        writer.submit(lambda _: 6).result()
    writer.close()


def test_a_writer_that_cannot_open_says_why_and_leaves_no_thread() -> None:
    def broken() -> sqlite3.Connection:
        raise LedgerUnavailable("no")

    before = set(threading.enumerate())
    with pytest.raises(LedgerUnavailable, match=r"^no$"):
        Writer(broken, lambda _: None)
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_closing_finishes_what_waits_and_takes_nothing_more(writer: Writer) -> None:
    gate = threading.Event()
    writer.submit(lambda _: gate.wait(30))
    futures = [writer.submit(lambda _, n=n: n) for n in range(700)]  # type: ignore[misc]
    closer = threading.Thread(target=writer.close)
    closer.start()
    gate.set()
    closer.join(30)
    assert [future.result(0) for future in futures] == list(range(700))
    with pytest.raises(LedgerUnavailable, match="closed"):
        writer.submit(lambda _: None)
    writer.close()


def test_a_job_cancelled_before_its_turn_is_not_run(writer: Writer) -> None:
    gate = threading.Event()
    writer.submit(lambda _: gate.wait(30))
    future = writer.submit(lambda c: c.execute("INSERT INTO t VALUES (1)"))
    assert future.cancel()
    gate.set()
    with pytest.raises(CancelledError):
        future.result()
    assert numbers(writer) == []
