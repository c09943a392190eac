"""smtp-sink with its fault flags: a relay that turns away, drops, refuses, dawdles, or knows no extension.

First a run against the fault, then one against the same relay, mended, an hour later: nothing is lost, nothing comes
twice, and what cannot be known is held. The clock leaps, so that nobody waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatcher.dispatch import Close
from tests.command import edit
from tests.servers import Kept
from tests.servers.sink import Sink
from tests.torture import Leap, by_id, judge, query, run, states, write_campaign

LETTERS = 12
CONNECTIONS = 3
READY = {"ready": LETTERS}
DROPPED = (Close.WAITING, Close.UNAVAILABLE)


@dataclass
class Store:
    """What a server kept, after it is gone."""

    stored: Sequence[Kept]


def once(folder: Path, sink: Sink, clock: Leap, *flags: str) -> tuple[Any, Store]:
    """One run against the sink with these flags; how it ended, and what the sink took down, refused or not."""
    sink.flags = flags
    with sink:
        result = run(folder, clock=clock)
        return result.report, Store(sink.stored)


def attempts(folder: Path) -> set[tuple[str, str, int | None]]:
    return set(query(folder, "SELECT outcome, phase, code FROM attempt"))


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def folder(tmp_path: Path, sink: Sink) -> Path:
    return write_campaign(tmp_path, sink.port, LETTERS, pace=f"connections = {CONNECTIONS}")


def mended(folder: Path, sink: Sink, clock: Leap) -> Store:
    """The second run, an hour later, against the sink without a fault."""
    clock.moment += timedelta(hours=1)
    report, store = once(folder, sink, clock)
    assert report.close is Close.FINISHED
    return store


@pytest.mark.parametrize("flags", ["-Q CONNECT", "-q CONNECT", "-q EHLO", "-r CONNECT", "-f CONNECT"])
def test_a_relay_that_lets_nobody_in(folder: Path, sink: Sink, flags: str) -> None:
    """F27, F28: no attempt is counted against any letter; all are sent when it opens."""
    clock = Leap()
    report, store = once(folder, sink, clock, *flags.split())
    assert report.close is Close.UNAVAILABLE
    assert (states(folder), attempts(folder), store.stored) == (READY, set(), [])
    judge(folder, mended(folder, sink, clock), LETTERS, complete=True)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(("flag", "code"), [("-q", None), ("-Q", 421)])
def test_a_relay_that_drops_before_the_content(
    folder: Path, sink: Sink, flag: str, code: int | None, command: str
) -> None:
    """F28: nothing has left, so nothing is unknown."""
    clock = Leap()
    report, store = once(folder, sink, clock, flag, command)
    assert report.close in DROPPED
    assert (states(folder), store.stored) == (READY, [])
    assert {(outcome, known) for outcome, _, known in attempts(folder)} == {("deferred", code)}
    judge(folder, mended(folder, sink, clock), LETTERS, complete=True)


def test_a_drop_after_the_dot_is_unknown_and_never_sent_again(folder: Path, sink: Sink) -> None:
    """F31: the run pauses before many are in doubt; the next one leaves those alone."""
    clock = Leap()
    report, store = once(folder, sink, clock, "-q", ".")
    assert report.close is Close.PAUSED
    found = states(folder)
    assert found["unknown"] + found["ready"] == LETTERS
    assert attempts(folder) == {("unknown", "final", None)}
    after = mended(folder, sink, clock)
    assert states(folder) == {"unknown": found["unknown"], "accepted": found["ready"]}
    judge(folder, Store([*store.stored, *after.stored]), LETTERS)


@pytest.mark.parametrize(("flag", "code"), [("-Q", 421), ("-r", 450)])
def test_a_refusal_for_now_after_the_dot(folder: Path, sink: Sink, flag: str, code: int) -> None:
    """F32, F33: deferred, and sent again once: the same octets, Date and all."""
    clock = Leap()
    report, refused = once(folder, sink, clock, flag, ".")
    assert report.close in DROPPED
    assert states(folder) == READY
    assert attempts(folder) == {("deferred", "final", code)}
    taken = mended(folder, sink, clock)
    judge(folder, taken, LETTERS, complete=True)
    again = by_id(taken.stored)
    assert refused.stored
    assert all(again[number].octets == one.octets for number, one in by_id(refused.stored).items())


@pytest.mark.parametrize("command", [".", "RCPT", "DATA"])
def test_a_refusal_for_good(folder: Path, sink: Sink, command: str) -> None:
    """F33: failed, each for itself, and not tried again."""
    clock = Leap()
    report, _ = once(folder, sink, clock, "-f", command)
    assert report.close is Close.FINISHED
    assert states(folder) == {"failed": LETTERS}
    assert {(outcome, code) for outcome, _, code in attempts(folder)} == {("failed", 500)}
    assert mended(folder, sink, clock).stored == []
    assert states(folder) == {"failed": LETTERS}


def test_a_sender_that_is_refused_fails_no_letter(folder: Path, sink: Sink) -> None:
    clock = Leap()
    report, store = once(folder, sink, clock, "-f", "MAIL")
    assert report.close is Close.PAUSED
    assert (states(folder), store.stored) == (READY, [])
    judge(folder, mended(folder, sink, clock), LETTERS, complete=True)


def test_an_answer_that_takes_its_time_is_an_answer(tmp_path: Path, sink: Sink) -> None:
    """F38, shorter: the relay thinks before it takes the message."""
    write_campaign(tmp_path, sink.port, 2, pace="connections = 2")
    _, store = once(tmp_path, sink, Leap(), "-p", "-W", ".:1")
    judge(tmp_path, store, 2, complete=True)
    assert len(query(tmp_path, "SELECT id FROM attempt")) == 2


def test_a_relay_that_answers_out_of_order(tmp_path: Path, sink: Sink) -> None:
    """While it thinks about one message, smtp-sink answers what was pipelined behind it: that letter is unknown."""
    write_campaign(tmp_path, sink.port, 4, pace="connections = 2")
    report, store = once(tmp_path, sink, Leap(), "-W", ".:1")
    assert report.close is Close.FINISHED
    found = judge(tmp_path, store, 4)
    assert found["accepted"] + found.get("unknown", 0) == 4


@pytest.mark.parametrize("flags", ["-8", "-p", "-e", "-E -N", "-8 -p -e", "-P"])
def test_a_relay_without_extensions(folder: Path, sink: Sink, flags: str) -> None:
    """F52: no 8BITMIME, no PIPELINING, no ESMTP at all, a greeting full of stars: what is sealed goes as it is."""
    _, store = once(folder, sink, Leap(), *flags.split())
    judge(folder, store, LETTERS, complete=True)
    assert all(one.octets.isascii() for one in store.stored)


@pytest.mark.parametrize("flags", ["", "-8", "-e"])
def test_a_mailbox_that_the_relay_cannot_be_told(folder: Path, sink: Sink, flags: str) -> None:
    """F52: smtp-sink has no SMTPUTF8 (RFC 6531); that letter fails and says so, the others go."""
    edit(folder / "list.csv", "k00003@", "jürgen@")
    _, store = once(folder, sink, Leap(), *flags.split())
    assert judge(folder, store, LETTERS) == {"accepted": LETTERS - 1, "failed": 1}
    assert query(folder, "SELECT key FROM letter WHERE state = 'failed' AND reason LIKE '%SMTPUTF8%'") == [("K00003",)]


def test_more_connections_than_the_relay_serves(tmp_path: Path, sink: Sink) -> None:
    """F42: one too many waits in the queue of the relay's system; no letter waits with it, and the run ends."""
    write_campaign(tmp_path, sink.port, 60, pace="connections = 4")
    report, store = once(tmp_path, sink, Leap(), "-m", "2", "-t", "5")
    assert report.close is Close.FINISHED
    judge(tmp_path, store, 60, complete=True)
    assert query(tmp_path, "SELECT count(DISTINCT session) <= 2 FROM attempt") == [(1,)]
