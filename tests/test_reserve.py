"""The reserve: what it holds comes back as it was noted, and in the ledger it is as if the ledger had taken it."""

import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.model import Ending, Leased, Outcome, Phase, RcptReply, Reply, State
from dispatcher.ledgers.reserve import SIZE, Noted, Reserve
from dispatcher.ledgers.sqlite import Run
from tests.ledger_bench import (
    ACCEPTED,
    ACCOUNT,
    CAMPAIGN,
    FAILED,
    UNKNOWN,
    begin,
    dump,
    ending,
    intend,
    lease,
    letter,
    seal,
    states,
    wait,
)
from tests.test_ledger import SqliteBench

LATER = datetime(2026, 3, 2, 12, tzinfo=UTC)
DEAD = Reply(550, "5.1.1 no such user")
REFUSED = ((RcptReply("dead@missions.example", DEAD), Outcome.FAILED), (RcptReply("a@b", Reply(250)), Outcome.ACCEPTED))
ENDINGS = {
    "accepted": ACCEPTED,
    "accepted by one of two": ending(
        State.ACCEPTED, rcpts=REFUSED, queue_id="4Q7", suppress=("dead@missions.example",)
    ),
    "failed": FAILED,
    "deferred": ending(State.READY, due_at=LATER),
    "not counted": ending(State.READY, due_at=LATER, counted=False),
    "unknown": UNKNOWN,
    "refused by policy": ending(State.LEASED),
}


def noted(of: Ending = ACCEPTED, attempt: int = 1) -> Noted:
    return Noted(1, "2026-03-01T12:00:00.000000+00:00", attempt, 7, "2026-03-01T12:00:01.000000+00:00", of)


@pytest.fixture
def reserve(tmp_path: Path) -> Reserve:
    reserve = Reserve(tmp_path / "ledger.reserve")
    reserve.prepare()
    return reserve


# The file.


@pytest.mark.parametrize("of", ENDINGS.values(), ids=ENDINGS)
def test_what_is_noted_comes_back(reserve: Reserve, of: Ending) -> None:
    what = replace(noted(of), suppress=tuple(("dead@x", address, "why") for address in of.suppress))
    assert reserve.note(what)
    assert Reserve(reserve.path).replay() == [what]


TEXTS = st.text(st.characters(exclude_categories=[]), max_size=300)


@given(st.lists(st.tuples(TEXTS, st.integers(200, 599)), min_size=1, max_size=5))
def test_whatever_a_relay_says(tmp_path_factory: pytest.TempPathFactory, replies: list[tuple[str, int]]) -> None:
    """Line breaks, NUL, lone surrogates: a line is a line."""
    reserve = Reserve(tmp_path_factory.mktemp("reserve") / "r")
    reserve.prepare()
    given = [noted(ending(State.UNKNOWN, reason=text, reply=Reply(code, text))) for text, code in replies]
    assert all(map(reserve.note, given))
    assert reserve.replay() == given


def test_a_long_reply_is_cut_and_not_lost(reserve: Reserve) -> None:
    assert reserve.note(noted(ending(State.ACCEPTED, reply=Reply(250, "x" * 60_000))))
    (found,) = reserve.replay()
    assert found.ending.reply == Reply(250, "x" * 300)


def test_it_takes_its_room_at_once_and_never_grows(reserve: Reserve) -> None:
    """Room for the outcomes of 400 letters in flight; what finds no room is said to find none."""
    count = 0
    while reserve.note(noted(attempt=count)):
        count += 1
        if sys.platform != "win32" and count == 1:
            assert reserve.path.stat().st_mode & 0o777 == 0o600
        assert reserve.path.stat().st_size == SIZE
    assert count >= 400
    assert [one.attempt for one in reserve.replay()] == list(range(count))


def test_what_was_noted_stays_until_it_is_cleared(reserve: Reserve) -> None:
    """Another process prepares it, and goes on behind what is there."""
    reserve.note(noted(attempt=1))
    again = Reserve(reserve.path)
    again.prepare()
    again.note(noted(attempt=2))
    assert [one.attempt for one in reserve.replay()] == [1, 2]
    again.clear()
    assert reserve.replay() == []
    assert again.note(noted(attempt=3))
    assert [one.attempt for one in reserve.replay()] == [3]


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_line_written_by_half_is_passed_over(reserve: Reserve, cut: int) -> None:
    """Those before and behind it are whole."""
    reserve.note(noted(attempt=1))
    start = len(reserve.path.read_bytes().rstrip(b" "))
    reserve.note(noted(attempt=2))
    end = len(reserve.path.read_bytes().rstrip(b" "))
    reserve.note(noted(attempt=3))
    octets = bytearray(reserve.path.read_bytes())
    octets[min(end, start + cut) : end] = b"\0" * (end - min(end, start + cut))
    reserve.path.write_bytes(octets)
    assert [one.attempt for one in reserve.replay() if one.attempt != 3] == [1]
    octets[end - 1 : end] = b"\n"
    reserve.path.write_bytes(octets)
    assert [one.attempt for one in reserve.replay()] == [1, 3]


def test_without_a_file_there_is_nothing_and_nothing_is_kept(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "none")
    assert reserve.replay() == []
    assert not reserve.note(noted())
    reserve.clear()
    assert not reserve.path.exists()


def test_no_room_for_it_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with pytest.raises(LedgerUnavailable, match="cannot keep 512 kB in reserve"):
        Reserve(tmp_path / "r").prepare()


# In the ledger.


def break_down(bench: SqliteBench, of: Ending, *, conclude: Callable[[Run, Leased, int], None] | None = None) -> None:
    """A run whose ledger cannot be written any more between an intent and its outcome; unless it is `conclude`d."""

    def full(_: sqlite3.Connection) -> NoReturn:
        raise sqlite3.OperationalError("database or disk is full")

    seal(bench, [letter("K000", "k000@missions.example", "dead@missions.example"), letter("K001")])
    with bench.open() as ledger:
        run = begin(ledger)
        first, _ = lease(run)
        attempt = intend(run, first)
        assert attempt
        bench.time.forward(5)
        if conclude:
            conclude(run, first, attempt)
            return
        with pytest.raises(LedgerUnavailable, match="disk is full"):
            ledger.do(full)
        with pytest.raises(LedgerUnavailable, match="disk is full"):
            wait(lambda: run.conclude(first, 1, attempt, of))


@pytest.mark.parametrize("of", ENDINGS.values(), ids=ENDINGS)
def test_the_ledger_is_as_if_it_had_taken_it(tmp_path: Path, of: Ending) -> None:
    """Everything in it: attempt, replies, letter, suppressions; also when it is taken in twice."""
    one, other = SqliteBench(tmp_path / "one"), SqliteBench(tmp_path / "other")
    break_down(one, of, conclude=lambda run, leased, attempt: wait(lambda: run.conclude(leased, 1, attempt, of)))
    break_down(other, of)
    assert states(other)["K000"] == "at_risk"
    for bench, taken_in in ((one, 0), (other, 1)):
        octets = (bench.path.with_suffix(".reserve")).read_bytes()
        with bench.open() as ledger:
            found = ledger.begin_run(CAMPAIGN, ACCOUNT, "hold")
            assert (found.taken_in, found.unknown) == (taken_in, 0)
        bench.path.with_suffix(".reserve").write_bytes(octets)
        with bench.open() as ledger:
            assert ledger.begin_run(CAMPAIGN, ACCOUNT, "hold").taken_in == 0
    assert dump(one) == dump(other)
    assert states(other)["K001"] == "ready"


def test_a_decision_takes_it_in_too(tmp_path: Path) -> None:
    """`resolve` and `amend` put in order first what a broken run left."""
    bench = SqliteBench(tmp_path)
    break_down(bench, ACCEPTED)
    with bench.open() as ledger:
        ledger.recover()
    assert states(bench)["K000"] == "accepted"
    assert Reserve(bench.path.with_suffix(".reserve")).replay() == []


@pytest.mark.parametrize(
    "strange",
    [{"run": 2}, {"letter": 2}, {"attempt": 2}, {"began": "2026-03-01T11:00:00.000000+00:00"}],
    ids=["run", "letter", "attempt", "when it began"],
)
def test_what_is_not_this_ledgers_is_left_alone(tmp_path: Path, strange: dict[str, int | str]) -> None:
    """As beside a ledger that was put back: another history, with numbers of its own."""
    bench = SqliteBench(tmp_path)
    break_down(bench, ACCEPTED)
    reserve = Reserve(bench.path.with_suffix(".reserve"))
    (there,) = reserve.replay()
    reserve.clear()
    reserve.note(replace(there, **strange))  # type: ignore[arg-type]
    with bench.open() as ledger:
        found = ledger.begin_run(CAMPAIGN, ACCOUNT, "hold")
    assert (found.taken_in, found.unknown) == (0, 1)
    assert states(bench)["K000"] == "unknown"


def test_an_outcome_that_nobody_waits_for_is_kept_all_the_same(tmp_path: Path) -> None:
    """A second Ctrl-C breaks the worker off; the writer tells the reserve by itself."""
    bench = SqliteBench(tmp_path)

    async def cancelled(run: Run, leased: Leased, attempt: int) -> None:
        run.conclude(leased, 1, attempt, ACCEPTED).cancel()

    def broken(run: Run, leased: Leased, attempt: int) -> None:
        def full(_: sqlite3.Connection) -> NoReturn:
            raise sqlite3.OperationalError("database or disk is full")

        run._ledger.submit(full)
        wait(cancelled(run, leased, attempt))

    break_down(bench, ACCEPTED, conclude=broken)
    with bench.open() as ledger:
        found = ledger.begin_run(CAMPAIGN, ACCOUNT, "hold")
    assert (found.taken_in, found.unknown) == (1, 0)


def test_a_clock_that_stands_still_gives_no_other_times(tmp_path: Path) -> None:
    """When the relay answered is when the attempt ended, not when it was taken in."""
    bench = SqliteBench(tmp_path)
    break_down(bench, ACCEPTED)
    answered = bench.time()
    bench.time.forward(timedelta(days=1).total_seconds())
    with bench.open() as ledger:
        ledger.begin_run(CAMPAIGN, ACCOUNT, "hold")
    assert bench.sql("SELECT ended_at, phase FROM attempt") == [
        (answered.isoformat(timespec="microseconds"), Phase.FINAL)
    ]
