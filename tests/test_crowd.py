"""How many connections, and when to knock again: pure, in tables; then both against a real server."""

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.dispatch import Close, Dispatch
from dispatcher.dispatch.circuit import FIRST, LONGEST, Circuit, pause_after
from dispatcher.dispatch.crowd import Crowd
from dispatcher.dispatch.terms import BACK_OFF
from tests.smtp_server import CLOSE, RESET, Action, Actions, SmtpServer
from tests.torture import Leap, Rules, judge, query, run, write_campaign


def after(crowd: Crowd, word: str) -> int:
    """Connections allowed after so many good (g) and bad (b) answers."""
    for letter in word:
        (crowd.welcomed if letter == "g" else crowd.refused)()
    return crowd.allowed


@pytest.mark.parametrize(
    ("cap", "answers", "allowed"),
    [
        (1, "", 1),
        (10, "", 2),
        (10, "g", 2),
        (10, "gg", 3),
        (10, "gg" + "ggg", 4),
        (10, "g" * 44, 10),
        (4, "g" * 500, 4),
        (10, "gg" + "b", 2),
        (10, "b", 1),
        (10, "b" * 50, 1),
        (10, "b" * 50 + "g", 2),
    ],
)
def test_connections_follow_the_answers(cap: int, answers: str, allowed: int) -> None:
    """+1/N and -1/N, from two, never under one nor over the cap."""
    assert after(Crowd(cap), answers) == allowed


@given(st.integers(1, 200), st.text("gb", max_size=400))
def test_never_under_one_nor_over_the_cap(cap: int, answers: str) -> None:
    assert 1 <= after(Crowd(cap), answers) <= cap


def test_a_connection_that_was_turned_away_sets_the_cap() -> None:
    crowd = Crowd(10)
    assert after(crowd, "g" * 44) == 10
    crowd.turned_away(3)
    assert after(crowd, "g" * 100) == 3
    crowd.turned_away(0)
    assert after(crowd, "g" * 100) == 1


def pauses(circuit: Circuit, count: int) -> list[float]:
    """Seconds before each of so many tries, one failing after the other."""
    found = []
    for _ in range(count):
        assert circuit.failed(stands=False)
        found.append(circuit.pause())
    return found


def test_the_circuit_knocks_after_30_s_doubling_to_15_min() -> None:
    assert pauses(Circuit(lambda: 0.0, wait=True, quick=BACK_OFF), 8) == [30, 60, 120, 240, 480, 900, 900, 900]


def test_a_relay_that_was_there_before_gets_quick_tries_first() -> None:
    circuit = Circuit(lambda: 0.0, wait=True, quick=BACK_OFF)
    circuit.closed()
    assert pauses(circuit, 9) == [*BACK_OFF, FIRST, 2 * FIRST, 4 * FIRST]
    circuit.closed()
    assert circuit.failures == 0


@given(st.floats(-1, 1), st.integers(1, 60))
def test_the_pause_is_spread_by_a_fifth(spread: float, failures: int) -> None:
    circuit = Circuit(lambda: spread, wait=True, quick=())
    circuit.failures = failures
    assert 0.8 * pause_after(failures, ()) <= circuit.pause() <= 1.2 * pause_after(failures, ()) <= 1.2 * LONGEST


@pytest.mark.parametrize(
    ("reached", "stands", "failures", "stays"),
    [
        (False, False, 1, False),
        (True, False, 1, True),
        (True, False, len(BACK_OFF), True),
        (True, False, len(BACK_OFF) + 1, False),
        (True, True, 1, False),
    ],
)
def test_who_does_not_wait_ends(reached: bool, stands: bool, failures: int, *, stays: bool) -> None:
    circuit = Circuit(lambda: 0.0, wait=False, quick=BACK_OFF)
    if reached:
        circuit.closed()
    assert [circuit.failed(stands=stands) for _ in range(failures)][-1] == stays


# Against a real server.


def test_a_run_begins_with_two_connections_and_grows(tmp_path: Path) -> None:
    """By the time the third comes, letters have gone through the first two."""
    first: dict[int, int] = {}

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "EHLO":
            first[connection] = len(server.stored)
        return None

    with Rules(rule) as server:
        write_campaign(tmp_path, server.port, 300, pace="connections = 8")
        assert run(tmp_path).exit_code == 0
        judge(tmp_path, server, 300, complete=True)
    assert len(first) >= 8
    assert first[1] == 0
    assert all(count >= 2 for number, count in first.items() if number > 2)


def test_too_many_connections_are_learnt(tmp_path: Path) -> None:
    """The relay lets three in. It is not knocked at for each letter, and nothing is put off."""
    turned: list[int] = []

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "CONNECT" and server.connections > 3:
            turned.append(connection)
            return (b"421 4.7.0 too many connections from you\r\n", CLOSE)
        return None

    with Rules(rule) as server:
        write_campaign(tmp_path, server.port, 250, pace="connections = 8")
        assert run(tmp_path, clock=Leap()).exit_code == 0
        judge(tmp_path, server, 250, complete=True)
    assert 1 <= len(turned) <= 12, "not once for each of 250 letters"
    assert query(tmp_path, "SELECT max(attempts) FROM letter") == [(1,)]


def test_a_connection_carries_a_hundred_letters(tmp_path: Path) -> None:
    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 250, pace="connections = 1")
        assert run(tmp_path).exit_code == 0
        judge(tmp_path, server, 250, complete=True)
    assert [sum(one.connection == number for one in server.stored) for number in (1, 2, 3)] == [100, 100, 50]


def test_a_connection_is_left_when_it_is_old(tmp_path: Path) -> None:
    """300 s by the clock that runs through sleep; here none at all, so each carries one letter."""

    def observe(dispatch: Dispatch) -> None:
        assert dispatch._limits == (100, 300.0)
        dispatch._limits = (100, 0.0)

    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 5, pace="connections = 1")
        assert run(tmp_path, observe=observe).exit_code == 0
        judge(tmp_path, server, 5, complete=True)
    assert [one.connection for one in server.stored] == [1, 2, 3, 4, 5]


SENDER: Action = b"550 5.1.8 sender not known here\r\n"


@pytest.mark.parametrize("trouble", ["down", "sender"])
def test_who_waits_stays_through_it(tmp_path: Path, trouble: str) -> None:
    """A relay that is down, or does not take our sender: four tries, each after a longer pause; then all letters go."""
    clock = Leap()
    seen: list[datetime] = []

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == ("CONNECT" if trouble == "down" else "MAIL") and len(seen) < 4:
            seen.append(clock.now())
            return RESET if trouble == "down" else SENDER
        return None

    with Rules(rule) as server:
        write_campaign(tmp_path, server.port, 5, pace="connections = 1")
        result = run(tmp_path, clock=clock, wait=True)
        judge(tmp_path, server, 5, complete=True)
    assert (result.exit_code, result.report.close) == (0, Close.FINISHED)
    gaps = [(later - earlier) / timedelta(seconds=1) for earlier, later in pairwise(seen)]
    assert [20 < gaps[0] < 40, 40 < gaps[1] < 80, 90 < gaps[2] < 150] == [True] * 3, gaps
    assert query(tmp_path, "SELECT max(attempts) FROM letter") == [(1,)]


def test_who_does_not_wait_is_told_how_to_go_on(tmp_path: Path) -> None:
    with SmtpServer() as server:
        port = server.port
    write_campaign(tmp_path, port, 3)
    result = run(tmp_path, clock=Leap())
    assert (result.exit_code, result.report.close) == (4, Close.UNAVAILABLE)
