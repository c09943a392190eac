"""What surrounds a run and goes wrong: it is stopped and woken, the clock leaps by days, descriptors run out.

Signals and closed streams are in `test_run`, faults of the disk and of the ledger's file in `test_ledger_faults`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dispatcher.core.policy import LONGEST_PAUSE
from tests.aftermath import SEND
from tests.figures import COUNTS, FULL
from tests.smtp_server import Actions, SmtpServer
from tests.torture import ROOT, Leap, Rules, command, judge, query, run, write_campaign

LIFE = 0.4
"""Seconds an intent lives in these tests: the real thirty are not waited for."""
HASTY = f"""
import os, signal, sys
from dispatcher.ledgers.batch import Batches, Intent
from dispatcher.relays import conversation
assert conversation.INTENT_LIFE == 30
conversation.INTENT_LIFE = {LIFE}
write, wanted, seen = Batches._write, int(sys.argv.pop(1)), 0

def stopped(batches, connection, steps):
    global seen
    before, results = seen, write(batches, connection, steps)
    seen += sum(isinstance(step, Intent) for step in steps)
    if before < wanted <= seen:
        os.kill(os.getpid(), signal.SIGSTOP)
    return results

Batches._write = stopped
from dispatcher.cli import main
main()
"""
"""The command line, whose intents live but so long, and which stops as a whole while the Nth is being written."""
LETTERS = 20
DAYS = timedelta(days=3)

pytestmark = pytest.mark.torture
posix = pytest.mark.skipif(sys.platform == "win32", reason="limits and signals of POSIX")


# Stopped, and woken.


@posix
@pytest.mark.parametrize("intent", range(1, LETTERS + 1) if FULL else (1, LETTERS // 2, LETTERS))
def test_no_terminator_leaves_on_an_intent_from_before_a_sleep(tmp_path: Path, intent: int) -> None:
    """F07. The run is stopped while an intent is written, and woken when that intent is too old.

    What was at risk when it fell asleep is not ended after it wakes: every letter that comes later has an intent from
    after the sleep. One connection in lock-step, so that no other letter stands between its last look at the clock and
    its terminator at that moment: from there to the kernel are microseconds that no program can guard.
    """
    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, LETTERS, pace="connections = 1")
        words = [sys.executable, "-c", HASTY, str(intent), *SEND, str(LETTERS), "-C", str(tmp_path)]
        sleeper = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found = os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert found is not None
            assert found.si_status == signal.SIGSTOP, "it was never stopped"
            time.sleep(3 * LIFE)  # what passes for it in no time
            before, woken = len(server.stored), datetime.now(UTC).isoformat()
        finally:
            sleeper.send_signal(signal.SIGCONT)
            sleeper.wait(60)
        assert sleeper.returncode == 0
        judge(tmp_path, server, LETTERS, complete=True)
    late = query(tmp_path, "SELECT count(*) FROM attempt WHERE outcome = 'accepted' AND at > ?", woken)
    assert late == [(LETTERS - before,)], "a terminator left on an intent from before the sleep"
    COUNTS["sleeps after an intent"] += 1


# The clock.


@pytest.mark.parametrize("leap", [DAYS, -DAYS], ids=["forward", "back"])
def test_a_clock_that_leaps_by_days_in_mid_run(tmp_path: Path, leap: timedelta) -> None:
    """F60. No letter is given up, none goes twice, and the pace is kept before and after."""
    clock, letters = Leap(), 12
    moments: list[datetime] = []

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "RCPT" and len(moments) % 3 == 2 and line not in refused:
            refused.add(line)
            return b"450 4.2.1 later\r\n"
        if step == "DOT":
            moments.append(clock.moment)
            if len(moments) == 5:
                clock.moment += leap
        return None

    refused = set[bytes]()
    with Rules(rule) as server:
        write_campaign(tmp_path, server.port, letters, pace='connections = 1\nrate = "60/min"')
        first = run(tmp_path, clock=clock, wait=True)
        judge(tmp_path, server, letters, complete=True)
    assert first.exit_code == 0
    assert refused
    # The clock may leap for the next letter while one is under way: so two may come at once, and three never.
    spans = [later - earlier for earlier, later in zip(moments, moments[2:], strict=False)]
    assert all(span >= timedelta(seconds=0.9) for span in spans if abs(span) < DAYS / 2), "faster than its pace"
    assert max(moments) - min(moments) <= DAYS + 2 * LONGEST_PAUSE
    COUNTS["clock leaps"] += 1


@pytest.mark.parametrize("leap", [DAYS, -DAYS], ids=["forward", "back"])
def test_a_clock_that_leaps_by_days_between_two_runs(tmp_path: Path, leap: timedelta) -> None:
    """What was put off in the first run goes in the second, whatever the clock says in between."""
    letters = 8
    with Rules(lambda step, *_: b"450 4.2.1 later\r\n" if step == "RCPT" else None) as server:
        write_campaign(tmp_path, server.port, letters, pace="connections = 2")
        run(tmp_path, clock=Leap())
        assert judge(tmp_path, server, letters) == {"ready": letters}
        server.rule = lambda *_: None
        run(tmp_path, clock=Leap(Leap().moment + leap), wait=True)
        judge(tmp_path, server, letters, complete=True)
    COUNTS["clock leaps"] += 1


# Descriptors.


def limited(descriptors: int) -> Callable[[], None]:
    def limit() -> None:
        import resource  # noqa: PLC0415 (not on Windows)

        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    return limit


@posix
@pytest.mark.parametrize("connections", [4, 100])
def test_few_descriptors(tmp_path: Path, connections: int) -> None:
    """F59. With 64 descriptors there are fewer connections than wanted, and every letter goes all the same."""
    letters = 200
    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, letters, pace=f"connections = {connections}")
        argv = command(tmp_path, *SEND, str(letters))
        done = subprocess.run(argv, cwd=ROOT, preexec_fn=limited(64), capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    judge(tmp_path, server, letters, complete=True)
    assert server.times("connected") <= 64
