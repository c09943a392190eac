"""What lies there after a run was killed, and the run that follows it."""

from pathlib import Path

from dispatcher.desk.verifying import verify_ledger
from tests.figures import at_most
from tests.nursery import Nursery
from tests.smtp_server import SmtpServer
from tests.torture import DEPTH, judge, judge_store, query

SEND = ("send", "--skip-preflight", "--confirm")
"""What is killed is the run; what comes before it hands nothing over."""


def sealed(folder: Path) -> bool:
    """Whether there is a plan in the ledger."""
    path = folder / ".dispatcher/ledger.sqlite"
    return path.exists() and query(folder, "SELECT count(*) FROM letter") != [(0,)]


def letters_in(folder: Path, *states: str) -> int:
    """How many letters are in any of these states; none before the seal."""
    marks = ", ".join("?" * len(states))
    sql = f"SELECT count(*) FROM letter WHERE state IN ({marks})"
    return int(query(folder, sql, *states)[0][0]) if sealed(folder) else 0


def unknown(folder: Path) -> int:
    """Letters that are unknown, or that the next run will find so."""
    return letters_in(folder, "unknown", "at_risk")


def waiting(folder: Path, letters: int) -> int:
    """Letters that the next run will send, of so many in all."""
    return letters_in(folder, "ready", "leased") if sealed(folder) else letters


def look(folder: Path, server: SmtpServer, letters: int, *, before: int = 0, connections: int) -> tuple[int, int]:
    """Judge what lies there right after a kill, before anything has been put in order.

    `before` is how many were `unknown` when the run began. Returns how many are at risk, and how many are unknown more.
    """
    server.wait(lambda s: s.times("connected") == s.times("closed"))
    if not sealed(folder):
        assert not server.stored
        return 0, 0
    at_risk = judge_store(folder, server, letters).get("at_risk", 0)
    more = unknown(folder) - before
    assert more <= connections * DEPTH, "more unknown than may be at risk"
    assert query(folder, "PRAGMA integrity_check") == [("ok",)]
    at_most("unknown after a kill", more, f"(connections {connections} × depth {DEPTH})")
    return at_risk, more


def finish(folder: Path, server: SmtpServer, nursery: Nursery, letters: int) -> None:
    """The next run sends all that waits, holds what may have left, and nobody gets two."""
    nursery.begin(*SEND, str(waiting(folder, letters)), "-C", str(folder))
    code = nursery.end()
    assert code in (0, 3), f"exit code {code}"
    found = judge(folder, server, letters)
    assert not verify_ledger(folder / ".dispatcher/ledger.sqlite", lambda *_: None).faults
    assert found.keys() <= {"accepted", "unknown"}, "the run after the kill did not finish"
