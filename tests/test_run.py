"""One `dispatcher send` as a process of its own: signals, streams that are closed, a disk that is full, a rival.

The server runs in the test, survives the process, and tells what really left.
"""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatcher.desk.sending import Result
from dispatcher.dispatch import Close, Dispatch
from dispatcher.dispatch.terms import GRACE
from tests.command import dispatcher
from tests.smtp_server import HANG, STORE, Actions, Script, SmtpServer
from tests.torture import ROOT, Rules, by_id, command, judge, message_id, query, run, start, write_campaign

pytestmark = pytest.mark.torture
SECONDS = 120
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def saying(child: "subprocess.Popen[bytes]", words: bytes) -> None:
    """Wait until the process has said something on stderr."""
    assert child.stderr
    said = b""
    while words not in said:
        line = child.stderr.readline()
        assert line, f"it ended without a word of it: {said!r}"
        said += line


def reached(server: SmtpServer, child: "subprocess.Popen[bytes]", step: str, times: int = 1) -> None:
    """Wait until the server has come to a step so many times; fail if the process has ended instead."""
    while server.counts.get(step, 0) < times:
        if child.poll() is not None:
            pytest.fail(f"it ended with {child.returncode}: {child.communicate()}")
        with server.changed:
            server.changed.wait(0.05)


def ended(child: "subprocess.Popen[bytes]") -> int:
    """Its exit code, once it has ended."""
    try:
        child.communicate(timeout=SECONDS)
    finally:
        child.kill()
    return child.returncode


SLOW = Script(on={"DOT": [*([(HANG, STORE, b"250 ok\r\n")] * 2), (STORE, b"250 ok\r\n")]})


# Stopping.


def test_the_next_run_says_what_was_in_flight_when_one_was_killed(tmp_path: Path) -> None:
    with SmtpServer(SLOW) as server:
        write_campaign(tmp_path, server.port, 5, pace="connections = 1")
        child = start(tmp_path, "send", "--confirm", "5")
        reached(server, child, "DOT")
        child.kill()
        ended(child)
        server.release()
        done = dispatcher("send", "--confirm", "4", folder=tmp_path)
    assert "Recovered: 1 letter in flight when the last run broke off; whether accepted is unknown" in done.out
    assert "5 letters: 4 accepted, 1 unknown" in done.out
    assert done.code == 3


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_lets_what_is_in_flight_finish_and_takes_up_nothing_new(tmp_path: Path, number: signal.Signals) -> None:
    """F06: two letters are at the server when the signal comes; both are accepted, none is unknown."""
    with SmtpServer(SLOW) as server:
        write_campaign(tmp_path, server.port, 30, pace="connections = 2")
        child = start(tmp_path, "send", "--confirm", "30")
        reached(server, child, "DOT", 2)
        child.send_signal(number)
        saying(child, b"Stopping")
        server.release()
        assert ended(child) == 130
        assert judge(tmp_path, server, 30) == {"accepted": 2, "ready": 28}
        assert query(tmp_path, "SELECT ending FROM run") == [("interrupted",)]
        assert ended(start(tmp_path, "send", "--confirm", "28")) == 0
    judge(tmp_path, server, 30, complete=True)


def stopped_twice(child: "subprocess.Popen[bytes]", number: signal.Signals) -> bool:
    """Whether the second signal ended it before the time was over that the first one leaves to letters in flight."""
    began = time.monotonic()
    child.send_signal(number)
    saying(child, b"Stopping")
    child.send_signal(number)
    assert ended(child) == 130
    return time.monotonic() - began < GRACE


TRIES = 3
"""A busy machine may be so slow that once it shows nothing; a program that waits never ends in time."""


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_stop_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """The server never answers: what it was given is unknown, all else waits."""

    def stops(folder: Path) -> bool:
        with SmtpServer(SLOW) as server:
            write_campaign(folder, server.port, 30, pace="connections = 2")
            child = start(folder, "send", "--confirm", "30")
            reached(server, child, "DOT", 2)
            in_time = stopped_twice(child, number)
            assert judge(folder, server, 30) == {"unknown": 2, "ready": 28}
            server.release()
            assert ended(start(folder, "send", "--confirm", "28")) == 3
        assert judge(folder, server, 30) == {"accepted": 28, "unknown": 2}
        return in_time

    assert any(stops(tmp_path / str(n)) for n in range(TRIES))


@posix
@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "RCPT", "DATA"])
def test_a_stop_before_any_letter_is_at_risk(tmp_path: Path, step: str) -> None:
    """Wherever the conversation stands when it is broken off, a letter whose dot has not left waits."""

    def stops(folder: Path) -> bool:
        with SmtpServer(Script(on={step: HANG})) as server:
            write_campaign(folder, server.port, 30, pace="connections = 2")
            child = start(folder, "send", "--confirm", "30")
            reached(server, child, step)
            in_time = stopped_twice(child, signal.SIGINT)
            assert judge(folder, server, 30) == {"ready": 30}
            server.script = Script()
            server.release()
            assert ended(start(folder, "send", "--confirm", "30")) == 0
        judge(folder, server, 30, complete=True)
        return in_time

    assert any(stops(tmp_path / str(n)) for n in range(TRIES))


@posix
def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup: the terminal goes, the run goes on."""
    with SmtpServer(SLOW) as server:
        write_campaign(tmp_path, server.port, 10, pace="connections = 2")
        quiet = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
        child = start(tmp_path, "send", "--confirm", "10", **quiet)
        reached(server, child, "DOT", 2)
        child.send_signal(signal.SIGHUP)
        server.release()
        assert ended(child) == 0
    judge(tmp_path, server, 10, complete=True)


@posix
def test_a_stop_in_the_sandbox(tmp_path: Path) -> None:
    """The capture server lives and dies in the same process: it answers to the end, and nothing is unknown."""
    write_campaign(tmp_path, 1, 1500, pace="connections = 4")
    child = start(tmp_path, "send", "--sandbox")
    mail = tmp_path / ".dispatcher/sandbox/mail"
    while child.poll() is None and not next(mail.glob("*.eml"), None):
        threading.Event().wait(0.01)
    child.send_signal(signal.SIGINT)
    assert ended(child) == 130
    (tmp_path / ".dispatcher/ledger.sqlite").symlink_to(tmp_path / ".dispatcher/sandbox/ledger.sqlite")
    rows = dict(query(tmp_path, "SELECT message_id, state FROM letter JOIN sealed ON letter = id"))
    captured = [message_id(path.read_bytes()) for path in mail.glob("*.eml")]
    assert len(rows) == 1500
    assert set(rows.values()) == {"accepted", "ready"}
    assert sorted(captured) == sorted(number for number, state in rows.items() if state == "accepted")


# The same, seen from within: what is broken off is unknown only if it may have left.


def within(folder: Path, server: SmtpServer, until: str, *, twice: bool, **settings: Any) -> Result:
    """One run that is stopped when the server has come to a step: once, or twice."""

    def observe(dispatch: Dispatch) -> None:
        dispatch._settings = replace(dispatch._settings, **settings)
        loop = asyncio.get_running_loop()

        def watch() -> None:
            server.wait(lambda s: s.counts.get(until, 0) > 0, 30)
            for _ in range(1 + twice):
                loop.call_soon_threadsafe(dispatch.stop)

        threading.Thread(target=watch).start()

    return run(folder, observe=observe)


def test_the_grace_ends(tmp_path: Path) -> None:
    """Stopped once, and the server never answers: one letter may have been taken, the other was not yet sent."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "RCPT" and b"k00001@" in line:
            dots.wait(30)
            return HANG
        if step == "DOT":
            dots.set()
            return HANG
        return None

    dots = threading.Event()
    with Rules(rule) as server:
        write_campaign(tmp_path, server.port, 10, pace="connections = 2")
        result = within(tmp_path, server, "DOT", twice=False, grace=0.3)
        assert (result.exit_code, result.report.close) == (130, Close.INTERRUPTED)
        assert judge(tmp_path, server, 10) == {"unknown": 1, "ready": 9}


def test_a_letter_broken_off_while_its_intent_is_made_is_not_unknown(tmp_path: Path) -> None:
    """The ledger is slow: the intent becomes durable after everything was stopped, but the dot has never left."""
    asked, go = threading.Event(), threading.Event()

    def observe(dispatch: Dispatch) -> None:
        ledger: Any = dispatch._ledger
        intend = ledger.intend
        loop = asyncio.get_running_loop()

        def slowly(*given: Any) -> Any:
            ledger._ledger.submit(lambda connection: go.wait(30))
            asked.set()
            return intend(*given)

        def watch() -> None:
            asked.wait(30)
            loop.call_soon_threadsafe(dispatch.stop)
            loop.call_soon_threadsafe(dispatch.stop)
            loop.call_soon_threadsafe(go.set)

        ledger.intend = slowly
        threading.Thread(target=watch).start()

    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 10, pace="connections = 1")
        result = run(tmp_path, observe=observe)
        assert result.exit_code == 130
        assert server.times("dot") == 0
        assert judge(tmp_path, server, 10) == {"ready": 10}
        assert query(tmp_path, "SELECT outcome, phase FROM attempt") == [("deferred", "body")]
        assert run(tmp_path).exit_code == 0
    judge(tmp_path, server, 10, complete=True)


def test_an_answer_that_has_come_is_kept_when_everything_stops(tmp_path: Path) -> None:
    """The stop falls between the relay's 250 and its being written down: it is written down."""

    def observe(dispatch: Dispatch) -> None:
        ledger: Any = dispatch._ledger
        conclude = ledger.conclude

        def stopped(*given: Any) -> Any:
            dispatch.stop()
            dispatch.stop()
            return conclude(*given)

        ledger.conclude = stopped

    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 10, pace="connections = 1")
        assert run(tmp_path, observe=observe).exit_code == 130
        assert judge(tmp_path, server, 10) == {"accepted": 1, "ready": 9}


# Streams.


@posix
@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "| true", "2>&1 | true"])
def test_streams_that_are_closed(tmp_path: Path, streams: str) -> None:
    """Whatever becomes of what it says, every letter goes, once, and the run is closed in order."""
    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 30)
        words = " ".join(f"'{word}'" for word in command(tmp_path, "send", "--confirm", "30"))
        subprocess.run(f"{words} {streams}", shell=True, cwd=ROOT, check=False, timeout=SECONDS, capture_output=True)
    judge(tmp_path, server, 30, complete=True)
    assert query(tmp_path, "SELECT ending FROM run") == [("finished",)]


@posix
def test_a_reader_that_goes_away_in_mid_run(tmp_path: Path) -> None:
    """Both streams break while letters are in flight, and then a stop has nobody left to tell."""
    with SmtpServer(SLOW) as server:
        write_campaign(tmp_path, server.port, 30, pace="connections = 2")
        child = start(tmp_path, "send", "--confirm", "30")
        reached(server, child, "DOT", 2)
        assert child.stdout
        assert child.stderr
        child.stdout.close()
        child.stderr.close()
        child.send_signal(signal.SIGINT)
        server.release()
        child.wait(30)
        assert judge(tmp_path, server, 30).keys() <= {"accepted", "ready"}
        assert query(tmp_path, "SELECT ending FROM run") in ([("interrupted",)], [("finished",)])
        assert run(tmp_path).exit_code == 0
    judge(tmp_path, server, 30, complete=True)


# The ledger.

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv = ["dispatcher", *sys.argv[2:]]
from dispatcher.cli import main
main()
"""


@posix
@pytest.mark.parametrize("kilobytes", [150, 300])
def test_a_ledger_that_cannot_grow_any_more(tmp_path: Path, kilobytes: int) -> None:
    """F15: no dot leaves without its intent on disk; exit 4; when there is room again the rest goes, none twice."""
    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 100, pace="connections = 4")
        run(tmp_path, limit=1)
        words = [str(kilobytes * 1024), "send", "--confirm", "99", "-C", str(tmp_path)]
        child = subprocess.run(
            [sys.executable, "-c", LIMITED, *words], cwd=ROOT, capture_output=True, timeout=SECONDS, check=False
        )
        assert child.returncode == 4, child.stderr
        assert b"the ledger cannot be written" in child.stderr
        intents = query(tmp_path, "SELECT count(*) FROM attempt")[0][0]
        assert server.times("dot") <= intents < 100
        assert run(tmp_path).exit_code in (0, 3)
        found = judge(tmp_path, server, 100)
        assert found.keys() <= {"accepted", "unknown"}
        assert found.get("unknown", 0) <= 4


@posix
def test_a_rival_is_turned_away(tmp_path: Path) -> None:
    """F19: one ledger, one run; the second says so and sends nothing."""
    with SmtpServer(SLOW) as server:
        write_campaign(tmp_path, server.port, 10, pace="connections = 2")
        child = start(tmp_path, "send", "--confirm", "10")
        reached(server, child, "DOT", 2)
        rival = start(tmp_path, "send", "--confirm", "8")
        saying(rival, b"another dispatcher is at work")
        assert ended(rival) == 5
        server.release()
        assert ended(child) == 0
    judge(tmp_path, server, 10, complete=True)
    assert server.times("connected") == 2


@posix
def test_a_relay_that_is_not_there(tmp_path: Path) -> None:
    """F24, as a person sees it: exit 4, and what to do."""
    with SmtpServer() as server:
        pass
    write_campaign(tmp_path, server.port, 10)
    child = start(tmp_path, "send", "--confirm", "10")
    out, err = child.communicate(timeout=SECONDS)
    assert child.returncode == 4
    assert b"10 waiting" in out
    assert b"The run ended: CONNECT" in err
    assert not by_id(server.stored)


@posix
def test_the_loop_is_the_fast_one_where_there_is_one() -> None:
    uvloop = pytest.importorskip("uvloop")
    from dispatcher.desk.sending import _LOOP  # noqa: PLC0415 (after the skip)

    assert _LOOP is uvloop.new_event_loop
