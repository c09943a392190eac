"""What happens to the ledger while letters leave: the disk fills up, fails or goes away, another program locks it.

Real runs of the real command against a real server, with real failures made at a chosen moment of the conversation.
The judge is what the server stored, held against the ledger: nothing twice, nothing accepted that was not stored, and
nothing unknown that could be known. Then the fault is mended, and the next run finishes.
"""

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.desk import Desk
from dispatcher.desk.deciding import adopt, resolve
from dispatcher.desk.sending import outlook, send
from dispatcher.ledgers.reserve import Reserve
from tests.disks import SmallDisk, needs_mount
from tests.figures import COUNTS
from tests.smtp_server import Actions, Script, SmtpServer
from tests.torture import (
    DEPTH,
    ROOT,
    Rule,
    Rules,
    by_id,
    command,
    judge,
    judge_store,
    query,
    start,
    states,
    write_campaign,
)
from tests.tracing import needs_strace

LETTERS = 60
CONNECTIONS = 4
PACE = f"connections = {CONNECTIONS}"
ROOM = 8 << 20
"""Octets of a small disk on which a whole campaign fits."""

pytestmark = pytest.mark.torture
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")


def at(step: str, number: int, harm: Callable[[], object]) -> Rule:
    """A server's rule: when a step comes up for the n-th time, harm is done before anything is answered, honestly."""
    numbers, door = itertools.count(1), threading.Lock()

    def rule(asked: str, connection: int, line: bytes) -> Actions | None:
        with door:  # the other connections wait meanwhile
            if asked == step and next(numbers) == number:
                harm()
        return None

    return rule


def honest(step: str, connection: int, line: bytes) -> Actions | None:
    return None


def ledger(folder: Path) -> Path:
    return folder / ".dispatcher" / "ledger.sqlite"


def waiting(folder: Path) -> int:
    """How many letters the next run sends; before the seal, all."""
    if not ledger(folder).exists():
        return LETTERS
    there = states(folder)
    return sum(there.get(state, 0) for state in ("ready", "leased")) if there else LETTERS


def told(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """Exit code, and what was said on stderr, of a run that has ended."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.decode()


def begin(folder: Path, count: int | None = None, *, under: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    """A run of all that waits, `under` another program."""
    argv = command(folder, "send", "--confirm", str(waiting(folder) if count is None else count))
    return subprocess.Popen([*under, *argv], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def sealed(folder: Path, server: SmtpServer, letters: int = LETTERS) -> Path:
    """A campaign of which the first letter left in an earlier run."""
    folder.mkdir(exist_ok=True)
    write_campaign(folder, server.port, letters, pace=PACE)
    code, errors = told(start(folder, "send", "--limit", "1", "--confirm", "1"))
    assert code == 0, errors
    return folder


def finish(folder: Path, server: SmtpServer, *, complete: bool) -> None:
    """The next run, the fault being mended, sends all that waits; none is unknown if it was to be `complete`."""
    server.wait(lambda s: s.times("connected") == s.times("closed"))
    judge_store(folder, server, LETTERS)
    code, errors = told(begin(folder))
    assert code == (0 if complete else 3), errors
    found = judge(folder, server, LETTERS, complete=complete)
    assert found.get("unknown", 0) <= CONNECTIONS * DEPTH
    assert found.keys() <= {"accepted", "unknown"}
    assert Reserve(ledger(folder).with_suffix(".reserve")).replay() == []
    COUNTS["ledger faults"] += 1


# The disk is full.


@needs_mount()
def test_a_disk_that_is_full_at_sealing(tmp_path: Path) -> None:
    """The whole plan is taken back; nobody was connected to; with more room the same command does it all."""
    with Rules(honest) as server, SmallDisk(tmp_path / ".dispatcher", 250_000) as disk:
        write_campaign(tmp_path, server.port, LETTERS * 5, pace=PACE)
        code, errors = told(start(tmp_path, "send", "--confirm", str(LETTERS * 5)))
        assert (code, "is full. Free the disk" in errors) == (4, True), errors
        assert not server.seen
        assert query(tmp_path, "SELECT count(*) FROM letter UNION ALL SELECT count(*) FROM plan") == [(0,), (0,)]
        disk.grow(4 * ROOM)
        code, errors = told(start(tmp_path, "send", "--confirm", str(LETTERS * 5)))
        assert code == 0, errors
        judge(tmp_path, server, LETTERS * 5, complete=True)


@needs_mount()
@pytest.mark.parametrize(
    ("step", "number", "offered"),
    [
        ("MAIL", 12, ()),
        ("DATA", 17, ()),
        ("DOT", 1, ()),
        ("DOT", 23, ("PIPELINING",)),
        ("DOT", 23, ("PIPELINING", "CHUNKING")),
    ],
)
def test_a_disk_that_fills_up_while_letters_leave(
    tmp_path: Path, step: str, number: int, offered: tuple[str, ...]
) -> None:
    """At an intent: no terminator, and the letter waits. Between an intent and its outcome: kept in reserve.

    So nothing is unknown, and with room again the next run sends what waits.
    """
    script = Script(ehlo=(*Script().ehlo, *offered))
    with Rules(honest, script) as server, SmallDisk(tmp_path / ".dispatcher", ROOM) as disk:
        sealed(tmp_path, server)
        server.rule = at(step, number, disk.fill)
        code, errors = told(begin(tmp_path))
        assert code == 4, errors
        assert "the ledger cannot be written: database or disk is full. Free the disk" in errors
        kept = len(Reserve(ledger(tmp_path).with_suffix(".reserve")).replay())
        assert kept == states(tmp_path).get("at_risk", 0)
        assert kept or step != "DOT"
        disk.free()
        server.rule = honest
        finish(tmp_path, server, complete=True)
        COUNTS["outcomes kept in reserve"] += kept


@needs_mount()
def test_a_disk_without_room_for_the_reserve(tmp_path: Path) -> None:
    """The run does not begin."""
    with Rules(honest) as server, SmallDisk(tmp_path / ".dispatcher", ROOM) as disk:
        sealed(tmp_path, server)
        ledger(tmp_path).with_suffix(".reserve").unlink()
        disk.fill(leave=200_000)
        connected = server.times("connected")
        code, errors = told(begin(tmp_path))
        assert (code, "cannot keep 512 kB in reserve" in errors) == (4, True), errors
        assert server.times("connected") == connected
        disk.free()
        finish(tmp_path, server, complete=True)


@needs_mount()
def test_a_disk_that_takes_no_writes(tmp_path: Path) -> None:
    """The run does not begin, and says so; nor can anything be looked up there, and that is said too."""
    with Rules(honest) as server, SmallDisk(tmp_path / ".dispatcher", ROOM) as disk:
        sealed(tmp_path, server)
        connected = server.times("connected")
        disk.freeze()
        for words in (("send", "--confirm", str(LETTERS - 1)), ("status",)):
            code, errors = told(start(tmp_path, *words))
            assert (code, "Check that its disk has room and takes writes" in errors) == (4, True), errors
        assert server.times("connected") == connected
        disk.thaw()
        finish(tmp_path, server, complete=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prlimit is a program of Linux")
def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """As a full disk (EFBIG), somewhere in the middle of the run."""
    with Rules(honest) as server:
        sealed(tmp_path, server)
        code, errors = told(begin(tmp_path, under=("prlimit", "--fsize=900000")))
        assert (code, "the ledger cannot be written" in errors) == (4, True), errors
        assert 1 < len(server.stored) < LETTERS
        finish(tmp_path, server, complete=True)


# The disk fails.


@needs_strace()
@pytest.mark.parametrize("number", [5, 15])
def test_a_sync_that_fails_once(tmp_path: Path, number: int) -> None:
    """Nobody knows what is on the disk then. The run stops, tries nothing again, and does not believe the next sync.

    Intents of that commit may be found unknown, though their terminators never left; outcomes are in the reserve.
    """
    with Rules(honest) as server:
        sealed(tmp_path, server)
        inject = f"--inject=fdatasync:error=EIO:when={number}"
        options = ["-f", "-qq", "--seccomp-bpf", "-o", os.devnull, "-e", "trace=fdatasync", inject]
        code, errors = told(begin(tmp_path, under=("strace", *options)))
        assert (code, "the ledger cannot be written: disk I/O error" in errors) == (4, True), errors
        assert len(server.stored) < LETTERS
        server.wait(lambda s: s.times("connected") == s.times("closed"))
        told(begin(tmp_path))
        found = judge(tmp_path, server, LETTERS)
        assert found.keys() <= {"accepted", "unknown"}
        assert found.get("unknown", 0) <= CONNECTIONS * DEPTH
        COUNTS["ledger faults"] += 1


# Another program.


def test_a_lock_that_passes(tmp_path: Path) -> None:
    """Letters wait for it; no terminator leaves meanwhile but of intents that were durable before."""
    with Rules(honest) as server:
        sealed(tmp_path, server)
        other = sqlite3.connect(ledger(tmp_path), isolation_level=None, check_same_thread=False, timeout=30)
        server.rule = at("DATA", 5, lambda: other.execute("BEGIN EXCLUSIVE"))
        process = begin(tmp_path)
        with closing(other):
            server.wait(lambda _: other.in_transaction)
            durable = dict(query(tmp_path, "SELECT message_id, 1 FROM attempt JOIN sealed USING (letter)"))
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            assert by_id(server.stored).keys() <= durable.keys()
        code, errors = told(process)
        assert code == 0, errors
        judge(tmp_path, server, LETTERS, complete=True)
        COUNTS["ledger faults"] += 1


@pytest.mark.parametrize(("step", "number"), [("EHLO", 1), ("DOT", 9)])
def test_a_lock_that_does_not_pass(tmp_path: Path, step: str, number: int) -> None:
    """The run gives up after its patience (30 s, less here), and lets go of every connection, also of one that could
    not be noted any more; the outcomes of letters in flight are in the reserve.
    """
    with Rules(honest) as server:
        sealed(tmp_path, server)
        other = sqlite3.connect(ledger(tmp_path), isolation_level=None, check_same_thread=False, timeout=30)
        server.rule = at(step, number, lambda: other.execute("BEGIN EXCLUSIVE"))
        desk = Desk(tmp_path, patience=0.3)
        with closing(other), pytest.raises(LedgerUnavailable, match="locked"):
            send(desk, outlook(desk))
        server.rule = honest
        assert len(server.stored) < LETTERS
        finish(tmp_path, server, complete=True)


def test_two_senders_on_one_ledger(tmp_path: Path) -> None:
    """The second is refused while the first is at work, and disturbs nothing."""
    second: list[tuple[int, str]] = []
    with Rules(honest) as server:
        sealed(tmp_path, server)
        one_more = ("send", "--limit", "1", "--confirm", "1")
        server.rule = at("DOT", 3, lambda: second.append(told(start(tmp_path, *one_more))))
        code, errors = told(begin(tmp_path))
        assert code == 0, errors
        judge(tmp_path, server, LETTERS, complete=True)
    assert (second[0][0], "another dispatcher is at work on" in second[0][1]) == (5, True), second
    COUNTS["ledger faults"] += 1


# It goes away, or is put back.


@posix_only
@pytest.mark.parametrize(
    ("step", "what"), [("DATA", "the file"), ("DOT", "the file and its log"), ("DATA", "the folder")]
)
def test_a_ledger_that_is_deleted_while_letters_leave(tmp_path: Path, step: str, what: str) -> None:
    """The run stops at its next intent. No new ledger is made in silence, and the mark says how many may have left."""

    def delete() -> None:
        path = ledger(tmp_path)
        if what == "the folder":
            shutil.rmtree(path.parent)
            return
        path.unlink()
        if what != "the file":
            path.with_name("ledger.sqlite-wal").unlink()

    with Rules(honest) as server:
        sealed(tmp_path, server)
        server.rule = at(step, 11, delete)
        code, errors = told(begin(tmp_path))
        assert (code, "was deleted or replaced while it was in use" in errors) == (4, True), errors
        stored = len(server.stored)
        assert stored < 11 + 1 + 2 * CONNECTIONS * DEPTH
        server.rule = honest
        code, errors = told(begin(tmp_path, LETTERS))
        assert code in (4, 5), errors
        assert "is gone" in errors
        if code == 5:
            assert stored <= int(errors.partition("up to ")[2].partition(" ")[0]) <= stored + CONNECTIONS * DEPTH
        assert not ledger(tmp_path).exists()
        assert len(server.stored) == stored
        by_id(server.stored)
    COUNTS["ledger faults"] += 1


def test_a_ledger_restored_from_an_hour_ago(tmp_path: Path) -> None:
    """Held; adopted as unknown; and each letter resolved by what the server has: nobody gets two, everybody one."""
    folder, backup = tmp_path / "campaign", tmp_path / "backup"
    with Rules(honest) as server:
        sealed(folder, server)
        told(start(folder, "send", "--limit", "20", "--confirm", "20"))
        shutil.copytree(ledger(folder).parent, backup)
        told(start(folder, "send", "--limit", "15", "--confirm", "15"))
        shutil.rmtree(ledger(folder).parent)
        shutil.copytree(backup, ledger(folder).parent)

        code, errors = told(begin(folder))
        assert (code, "up to 15 letters may have left that it does not know" in errors) == (5, True), errors
        assert len(server.stored) == 36
        desk = Desk(folder)
        assert adopt(desk, "unknown", why="the server's store will tell", who="the test")[1] == LETTERS - 21
        taken = by_id(server.stored)
        sql = "SELECT key, message_id FROM letter JOIN sealed ON letter = id WHERE state = 'unknown'"
        for key, number in query(folder, sql):
            resolve(desk, key, "accepted" if number in taken else "resend", why="the server's store", who="the test")
        code, errors = told(begin(folder))
        assert code == 0, errors
        by_id(server.stored)
        assert len(server.stored) == LETTERS
        assert states(folder) == {"accepted": LETTERS}
    COUNTS["ledger faults"] += 1


def test_a_copy_that_is_sent_from_while_the_ledger_is_at_work(tmp_path: Path) -> None:
    """Refused, whatever the moment; so the store holds what the ledger says."""
    folder, copy = tmp_path / "campaign", tmp_path / "copy"
    second: list[tuple[int, str]] = []

    def copy_and_send() -> None:
        shutil.copytree(folder, copy)
        second.append(told(begin(copy)))

    with Rules(honest) as server:
        sealed(folder, server)
        server.rule = at("DATA", 7, copy_and_send)
        code, errors = told(begin(folder))
        assert code == 0, errors
        assert second[0][0] in (4, 5), second  # 4: what was copied of a file that is written is no ledger
        judge(folder, server, LETTERS, complete=True)
    COUNTS["ledger faults"] += 1
