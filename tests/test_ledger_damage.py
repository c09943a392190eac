"""A ledger that was damaged while nobody looked: cut off, overwritten, its log lost or another's.

A run is killed in the middle, so that there is a log and letters are at risk; then the files are harmed. The next run
refuses, and says what is wrong, or it is right: whatever it does, nobody gets a second letter, every letter is what was
sealed, and none is accepted that the server does not have.
"""

import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dispatcher.core.merge import Frozen, Merge
from dispatcher.desk import Desk
from dispatcher.ledgers.file import VERSION
from dispatcher.ledgers.state import VARIABLE
from tests.aftermath import SEND
from tests.figures import COUNTS, FULL, SEED
from tests.nursery import Nursery
from tests.smtp_server import Actions, Stored
from tests.torture import CAMPAIGN, Rules, by_id, query, start, states, write_campaign

LETTERS = 40
FLIPS = 2000 if FULL else 16

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does"),
]


class Wreck:
    """A campaign whose run was killed in the middle, put back as often as wanted."""

    def __init__(self, root: Path, server: Rules) -> None:
        self.folder = root / "campaign"
        self.kept = root / "kept"
        self.server = server
        self.state = Path(os.environ[VARIABLE])
        self.folder.mkdir()
        write_campaign(self.folder, server.port, LETTERS, pace="connections = 2")
        self._break_off()
        self.stored: list[Stored] = server.stored[:]
        shutil.copytree(self.folder / ".dispatcher", self.kept / "ledger")
        shutil.copytree(self.state, self.kept / "state")
        there = states(self.folder)
        self.waiting = there.get("ready", 0) + there.get("leased", 0)
        self.attempts = query(self.folder, "SELECT count(*) FROM attempt")[0][0]
        self.numbers = dict(query(self.folder, "SELECT letter, message_id FROM sealed"))
        self.sealed = self._sealed()

    def _break_off(self) -> None:
        start(self.folder, "send", "--limit", "1", "--confirm", "1").communicate()  # so that the plan is in the file
        process = start(self.folder, "send", "--confirm", str(LETTERS - 1))

        def rule(step: str, connection: int, line: bytes) -> Actions | None:
            if step == "DOT" and self.server.counts["DOT"] == LETTERS // 2:
                process.send_signal(signal.SIGKILL)
            return None

        self.server.rule = rule
        process.communicate(timeout=60)
        self.server.wait(lambda s: s.times("connected") == s.times("closed"))
        self.server.rule = lambda *_: None

    def _sealed(self) -> dict[str, bytes]:
        """Every letter's octets but for Date, by Message-ID."""
        with Desk(self.folder).reader() as reader:
            merge = Merge(Frozen.from_data(reader.frozen(CAMPAIGN, 1)), reader.octets)
            columns = "language, message_id, digest, recipient, attachments"
            found = {}
            for row in query(self.folder, f"SELECT {columns} FROM sealed"):
                letter = reader.letter(dict(zip(columns.split(", "), row, strict=True)))
                merged = merge.merge(letter.recipient, letter.attachments)
                found[row[1]] = merge.with_date(merged, Desk(self.folder).clock.now()).octets.partition(b"\r\n")[2]
        return found

    @property
    def ledger(self) -> Path:
        return self.folder / ".dispatcher" / "ledger.sqlite"

    @property
    def log(self) -> Path:
        return self.ledger.with_name("ledger.sqlite-wal")

    def put_back(self) -> None:
        for there, kept in ((self.ledger.parent, "ledger"), (self.state, "state")):
            shutil.rmtree(there)
            shutil.copytree(self.kept / kept, there)
        self.server.stored[:] = self.stored

    def judge(self, code: int) -> None:
        """Nothing twice, nothing but what was sealed; and if the run went through, the states are right.

        What the ledger says besides may be damaged: the numbers are those from before.
        """
        stored = by_id(self.server.stored)
        for number, one in stored.items():
            assert one.octets.partition(b"\r\n")[2] == self.sealed[number], "another letter than was sealed"
        if code not in (0, 3):
            assert code in (2, 4, 5), f"exit code {code}"
            return
        found = dict(query(self.folder, "SELECT id, state FROM letter"))
        assert found.keys() == self.numbers.keys()
        for letter, state in found.items():
            assert state in ("accepted", "unknown")
            assert state == "unknown" or self.numbers[letter] in stored, "accepted, and never stored"

    def sends_in(self, nursery: Nursery) -> int:
        """The next run, judged; its exit code."""
        nursery.begin(*SEND, str(self.waiting), "-C", str(self.folder))
        code = nursery.end()
        self.judge(code)
        return code


@pytest.fixture
def wreck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wreck]:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "state"))
    with Rules(lambda *_: None) as server:
        yield Wreck(tmp_path, server)


def sends(wreck: Wreck) -> tuple[int, str]:
    """The next run, and what it says."""
    process = start(wreck.folder, "send", "--confirm", str(wreck.waiting))
    _, errors = process.communicate(timeout=60)
    wreck.judge(process.returncode)
    return process.returncode, errors.decode()


def cut(path: Path, part: float) -> None:
    os.truncate(path, int(path.stat().st_size * part) // 4096 * 4096)


def another_log(wreck: Wreck) -> None:
    """The log of another ledger, as a careless backup may put it there."""
    other = wreck.folder.parent / "other.sqlite"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE letter (id INTEGER PRIMARY KEY, state TEXT)")
        connection.commit()
        shutil.copy(other.with_name("other.sqlite-wal"), wreck.log)


def set_version(wreck: Wreck, version: int) -> None:
    with closing(sqlite3.connect(wreck.ledger)) as connection:
        connection.execute(f"PRAGMA user_version={version}")


IN_DOUBT = "is older than what was sent with it; up to "
UNUSABLE = "cannot use the ledger"
HARMS: dict[str, tuple[Callable[[Wreck], object], int, str]] = {
    "the file is cut off in the middle": (lambda w: cut(w.ledger, 0.5), 4, UNUSABLE),
    "the file lacks its last pages": (lambda w: cut(w.ledger, 0.9), 4, UNUSABLE),
    "the file is empty": (lambda w: os.truncate(w.ledger, 0), 4, ""),
    "the log is missing": (lambda w: w.log.unlink(), 5, IN_DOUBT),
    "the log is empty": (lambda w: os.truncate(w.log, 0), 5, IN_DOUBT),
    "the log lacks its second half": (lambda w: cut(w.log, 0.5), 5, IN_DOUBT),
    "the log's head is overwritten": (lambda w: overwrite(w.log, 0, bytes(32)), 5, IN_DOUBT),
    "the log of another database": (another_log, 4, "is not a ledger of dispatcher"),
    "a newer version": (lambda w: set_version(w, VERSION + 1), 4, "was made by a newer dispatcher"),
    "an older version": (lambda w: set_version(w, VERSION - 1), 4, "has the ledger version"),
}


def overwrite(path: Path, place: int, octets: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(octets)


def test_each_harm_is_refused_in_words(wreck: Wreck) -> None:
    """With the count, where letters are missing: those that the mark knows and the ledger does not."""
    for name, (harm, expected, words) in HARMS.items():
        wreck.put_back()
        harm(wreck)
        code, errors = sends(wreck)
        assert (code, words in errors) == (expected, True), (name, errors)
        assert wreck.server.stored == wreck.stored, name
        if words == IN_DOUBT:
            lacking = int(errors.partition(IN_DOUBT)[2].partition(" ")[0])
            assert 0 < lacking <= wreck.attempts, name
        COUNTS["damages refused"] += 1


HARMLESS: dict[str, Callable[[Wreck], object]] = {
    "none": lambda w: None,
    "no index": lambda w: w.ledger.with_name("ledger.sqlite-shm").unlink(),
    "a bad index": lambda w: overwrite(w.ledger.with_name("ledger.sqlite-shm"), 0, b"\xff" * 32768),
    "a frame by half": lambda w: overwrite(w.log, w.log.stat().st_size, b"half a frame"),
    "no reserve": lambda w: w.ledger.with_suffix(".reserve").unlink(),
    "a bad reserve": lambda w: w.ledger.with_suffix(".reserve").write_bytes(b"\xff" * 5000),
}


def test_what_does_no_harm(wreck: Wreck) -> None:
    """The run goes on, and all but what was at risk is accepted."""
    with Nursery() as nursery:
        for name, harm in HARMLESS.items():
            wreck.put_back()
            harm(wreck)
            assert wreck.sends_in(nursery) == 3, name
            assert states(wreck.folder)["accepted"] >= LETTERS - 2 * 2, name


@pytest.mark.parametrize("which", ["ledger", "log"])
def test_bits_that_are_flipped(wreck: Wreck, which: str) -> None:
    """Anywhere in the file, or in its log."""
    chance = random.Random(f"{SEED} {which}")
    with Nursery() as nursery:
        for _ in range(FLIPS // 2):
            wreck.put_back()
            path = wreck.ledger if which == "ledger" else wreck.log
            octets = bytearray(path.read_bytes())
            place = chance.randrange(8 * len(octets))
            octets[place // 8] ^= 1 << place % 8
            path.write_bytes(octets)
            try:
                code = wreck.sends_in(nursery)
            except AssertionError as error:
                error.add_note(f"bit {place} of the {which} was flipped")
                raise
            COUNTS["flipped bits"] += 1
            COUNTS["of them refused"] += code not in (0, 3)
