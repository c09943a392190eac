"""The mark outside the ledger: a ledger that was deleted, copied, restored or brought from elsewhere is noticed before
anything is sent, and a plain crash never is. Each story is told with the ledger itself, and files moved as people do.
"""

import os
import shutil
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from dispatcher.core.errors import LedgerInDoubt, LedgerUnavailable, RunActive
from dispatcher.core.model import Recovered
from dispatcher.ledgers import adopting
from dispatcher.ledgers.mark import Marks, facts_of
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.sqlite import SqliteLedger
from dispatcher.ledgers.state import HighWater, counted, counter, state_folder
from tests.ledger_bench import (
    ACCEPTED,
    ACCOUNT,
    CAMPAIGN,
    Time,
    begin,
    intend,
    lease,
    letter,
    letters,
    on_paper,
    printed,
    seal,
    send,
    states,
)

LETTERS = 10


class Machine:
    """A machine with its state folder, and a ledger in a campaign's folder on it. A `tests.ledger_bench.Bench`."""

    refused: type[Exception] = sqlite3.IntegrityError

    def __init__(self, root: Path, name: str = "campaign", state: str = "state") -> None:
        self.root = root
        self.folder = root / name
        self.path = self.folder / ".dispatcher" / "ledger.sqlite"
        self.time = Time()
        self.state = root / state
        self.marks = Marks(self.state, CAMPAIGN, "dispatcher adopt")

    def open(self, *, hold: bool = True) -> SqliteLedger:
        return SqliteLedger(self.path, self.time, hold=hold, marks=self.marks)

    def reader(self) -> Reader:
        return Reader(self.path)

    def sql(self, *statements: str, keep: bool = True) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return [connection.execute(each).fetchall() for each in statements][-1]

    def run(self, count: int, ending: str = "finished") -> None:
        """One run that sends so many letters."""
        self.time.forward(1)
        with self.open() as ledger:
            run = begin(ledger)
            for each in lease(run, count):
                send(run, each, ACCEPTED)
            run.end(ending, "hold")

    def print(self, *keys: str) -> None:
        """Print these letters."""
        with self.open() as ledger:
            assert printed(self, ledger, *keys) == []

    def begins(self) -> Recovered:
        """Begin a run, and nothing else."""
        with self.open() as ledger:
            return ledger.begin_run(CAMPAIGN, ACCOUNT, "hold")

    def adopt(self, *, hold: bool, marks: Marks | None = None) -> int:
        with SqliteLedger(self.path, self.time) as ledger:
            return adopting.adopt(ledger, marks or self.marks, hold=hold, doubt="so", who="Ada", why="I know")[0]

    def backup(self) -> Path:
        """As a backup program makes one, at rest."""
        return shutil.copytree(self.path.parent, self.root / "backup")

    def restore(self) -> None:
        shutil.rmtree(self.path.parent)
        shutil.copytree(self.root / "backup", self.path.parent)


@pytest.fixture
def here(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    seal(machine, letters(LETTERS))
    machine.run(3)
    return machine


def test_an_ordinary_life_is_never_in_doubt(here: Machine) -> None:
    """Runs, amendments, a moved folder, a renamed one."""
    here.run(2)
    seal(here, letters(LETTERS + 1))
    here.run(1)
    for name in ("moved", "renamed"):
        here.folder.rename(here.root / name)
        here = Machine(here.root, name)
        here.run(1)
    assert list(states(here).values()).count("accepted") == 8


def test_a_ledger_that_was_restored_is_held_and_says_how_many_letters_it_lacks(here: Machine) -> None:
    here.backup()
    here.run(4)
    here.restore()
    with pytest.raises(
        LedgerInDoubt, match=r"is older than .*up to 4 letters may have left that it does not"
    ) as caught:
        here.begins()
    assert caught.value.exit_code == 5
    assert "dispatcher adopt --as unknown --why …" in str(caught.value)
    assert states(here)["K003"] == "ready", "what is refused changes nothing"


def test_a_backup_of_the_middle_of_a_run_is_noticed_to_the_letter(here: Machine) -> None:
    """Also if the run never ended: what it noted of each letter was enough."""
    with here.open() as ledger:
        run = begin(ledger)
        first, second, *_ = lease(run)
        assert intend(run, first)
        here.backup()
        assert intend(run, second)
    assert here.marks.doubt(here.path, facts_of(here.path)) == ""
    here.restore()
    assert "; 1 letter may have left that it does not know" in here.marks.doubt(here.path, facts_of(here.path))


def test_a_backup_since_which_nothing_left_is_as_good_as_the_ledger(here: Machine) -> None:
    here.backup()
    here.run(0)
    here.restore()
    here.run(7)
    assert set(states(here).values()) == {"accepted"}


def test_a_log_that_was_deleted_after_a_crash_is_noticed(here: Machine) -> None:
    """SQLite opens the file without its log in silence: sound, and an hour old."""
    with closing(sqlite3.connect(here.path)) as connection:  # keeps the log from being folded in
        connection.execute("SELECT count(*) FROM letter").fetchone()
        with here.open() as ledger:
            run = begin(ledger)
            for each in lease(run, 5):
                intend(run, each)
        shutil.copytree(here.path.parent, here.root / "crashed")
    shutil.rmtree(here.path.parent)
    (here.root / "crashed").rename(here.path.parent)
    here.path.with_name("ledger.sqlite-wal").unlink()
    with pytest.raises(LedgerInDoubt, match="up to 5 letters"):
        here.begins()


def test_a_copy_is_held_and_the_ledger_itself_goes_on(here: Machine) -> None:
    shutil.copytree(here.folder, here.root / "copy")
    copy = Machine(here.root, "copy")
    with pytest.raises(LedgerInDoubt, match=r"copy.* is a copy; the ledger itself is .*campaign"):
        copy.begins()
    here.run(2)
    with pytest.raises(LedgerInDoubt, match="up to 2 letters may have left since it was made"):
        copy.begins()
    assert here.begins().run == 3


def test_a_copy_that_is_adopted_takes_the_place_of_the_ledger(here: Machine) -> None:
    shutil.copytree(here.folder, here.root / "copy")
    copy = Machine(here.root, "copy")
    assert copy.adopt(hold=False) == 0
    copy.run(7)
    with pytest.raises(LedgerInDoubt, match=r"campaign.* is a copy; the ledger itself is .*copy"):
        here.begins()


def test_a_copy_beside_one_that_cannot_be_read_is_held(here: Machine) -> None:
    shutil.copytree(here.folder, here.root / "copy")
    here.path.write_bytes(b"damaged")
    with pytest.raises(LedgerInDoubt, match="is a copy"):
        Machine(here.root, "copy").begins()


@pytest.mark.skipif(sys.platform == "win32", reason="a link needs a right there")
def test_a_folder_by_another_name_is_no_copy(here: Machine) -> None:
    (here.root / "link").symlink_to(here.folder)
    Machine(here.root, "link").run(1)
    here.run(1)


def test_a_ledger_that_is_gone_is_not_made_anew(here: Machine) -> None:
    """Neither by a run nor by a guest, also with its whole folder gone."""
    shutil.rmtree(here.path.parent)
    for hold in (True, False):
        with pytest.raises(LedgerInDoubt, match=r"is gone; up to 3 letters may have left by that one\nPut it back"):
            here.open(hold=hold)
    assert not here.path.exists()


def test_a_new_ledger_in_the_place_of_one_that_is_gone_is_held(here: Machine, tmp_path: Path) -> None:
    """Whoever made it: another program, an older dispatcher, a copied folder."""
    shutil.rmtree(here.path.parent)
    SqliteLedger(here.path, here.time).close()
    with pytest.raises(LedgerInDoubt, match="is not the ledger that was here; up to 3 letters"):
        here.begins()


def test_another_campaign_may_begin_in_the_place_of_one_that_is_gone(here: Machine) -> None:
    shutil.rmtree(here.folder)
    with SqliteLedger(here.path, here.time, marks=Marks(here.state, "another", "adopt")) as ledger:
        assert ledger.begin_run("another", ACCOUNT, "hold").run == 1


def test_a_ledger_that_never_sent_may_be_deleted(tmp_path: Path) -> None:
    here = Machine(tmp_path)
    seal(here, letters(LETTERS))
    here.begins()
    shutil.rmtree(here.path.parent)
    seal(here, letters(LETTERS))
    here.run(1)


def test_a_ledger_from_another_machine_is_held_once_it_has_sent(here: Machine) -> None:
    there = Machine(here.root, "campaign", "another state")
    with pytest.raises(LedgerInDoubt, match=r"does not know the ledger .*, which has made 3 attempts already"):
        there.begins()
    assert there.adopt(hold=False) == 0
    there.run(1)


def test_a_ledger_from_another_machine_that_never_sent_is_welcome(tmp_path: Path) -> None:
    here = Machine(tmp_path)
    seal(here, letters(LETTERS))
    Machine(tmp_path, "campaign", "another state").run(1)


@pytest.mark.parametrize("more", [0, 1, 3])
def test_a_ledger_that_was_sent_from_in_two_places_is_held(here: Machine, more: int) -> None:
    """Restored on another machine, used there, and brought back: the counts may agree, the histories do not."""
    here.backup()
    here.run(2)
    there = Machine(here.root / "far away")
    shutil.copytree(here.root / "backup", there.path.parent)
    there.adopt(hold=False)
    there.time.forward(60)
    there.run(2 + more)
    shutil.rmtree(here.path.parent)
    shutil.copytree(there.path.parent, here.path.parent)
    with pytest.raises(LedgerInDoubt, match="was sent from in two places"):
        here.begins()


# A person decides.


def test_letters_of_an_adopted_ledger_are_held_each_for_a_word_of_its_own(here: Machine) -> None:
    """Unknown like any: told of in the story, never sent by themselves, resolved one by one."""
    here.backup()
    here.run(4)
    here.restore()
    assert here.adopt(hold=True) == 7
    assert sorted(set(states(here).values())) == ["accepted", "unknown"]
    assert here.begins().unknown == 0
    with here.open() as ledger:
        assert not lease(begin(ledger))
    row = here.sql("SELECT subject, who, why FROM event WHERE kind = 'adopted'")
    assert row == [("unknown: so", "Ada", "I know")]
    said = here.sql("SELECT DISTINCT outcome, reply FROM attempt WHERE outcome <> 'accepted'")
    assert said == [("unknown", "may have left already: the ledger was adopted, and does not know")]
    assert here.sql("PRAGMA integrity_check") == [("ok",)]


def test_letters_of_an_adopted_ledger_wait_on_a_persons_word(here: Machine) -> None:
    here.backup()
    here.run(4)
    here.restore()
    assert here.adopt(hold=False) == 0
    here.run(7)
    assert set(states(here).values()) == {"accepted"}


def test_the_ledger_that_an_adopted_one_replaced_has_no_claim_any_more(here: Machine) -> None:
    """And if it comes back, it is a stranger, and held."""
    trash = here.root / "trash"
    here.path.parent.rename(trash)
    with pytest.raises(LedgerInDoubt):
        here.open()
    here.adopt(hold=False)
    seal(here, letters(LETTERS))
    here.run(1)
    here.path.parent.rename(here.root / "other")
    trash.rename(here.path.parent)
    with pytest.raises(LedgerInDoubt):
        here.begins()


# The file.


def files(machine: Machine) -> list[Path]:
    return [file for file in sorted((machine.state / "marks").iterdir()) if not file.suffix]  # but the lock's


def test_a_mark_is_one_small_file_that_nobody_else_can_read(here: Machine) -> None:
    (file,) = files(here)
    assert file.stat().st_size < 1000
    if sys.platform != "win32":
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_run_syncs_its_mark_a_fixed_number_of_times(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many letters: what each of them costs is a write."""
    syncs: list[int] = []
    real = os.fsync

    def counted(descriptor: int) -> None:
        syncs.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    here.run(1)
    one = len(syncs)
    here.run(5)
    assert len(syncs) == 2 * one


@pytest.mark.parametrize("slot", [0, 1])
def test_a_count_that_was_written_by_half_is_passed_over(here: Machine, slot: int) -> None:
    """The other of the two is whole, and one older at most."""
    (file,) = files(here)
    octets = bytearray(file.read_bytes())
    octets[32 * slot + 10 : 32 * slot + 32] = bytes(22)
    file.write_bytes(octets)
    here.run(1)


@pytest.mark.parametrize("octets", [b"", b"x" * 64, b"\0" * 200], ids=["empty", "half", "zeros"])
def test_a_mark_that_is_damaged_stops_what_it_was_to_guard(here: Machine, octets: bytes) -> None:
    (file,) = files(here)
    file.write_bytes(octets)
    with pytest.raises(LedgerUnavailable, match=r"the mark of the ledger, is damaged.*dispatcher adopt"):
        here.begins()
    here.adopt(hold=False)
    here.run(1)


def test_without_a_place_for_the_mark_nothing_begins(tmp_path: Path) -> None:
    here = Machine(tmp_path)
    seal(here, letters(1))
    here.state.write_text("a file")
    with pytest.raises(LedgerUnavailable, match=r"cannot keep the mark.*DISPATCHER_STATE"):
        here.begins()
    assert states(here) == {"K000": "ready"}


def test_a_mark_is_never_lowered(tmp_path: Path) -> None:
    """Outcomes of several connections come in any order."""
    file = tmp_path / "mark"
    file.write_bytes(counter(7))
    with HighWater(file, 7) as water:
        for attempt in (9, 8, 3, 10):
            water.raise_to(attempt)
    assert counted(file.read_bytes()) == 10


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"DISPATCHER_STATE": "/given"}, "/given"),
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/dispatcher"),
        ({"HOME": "/home/ada"}, "/home/ada/.local/state/dispatcher"),
    ],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="each system has its own place")
def test_the_folder_is_where_the_system_keeps_such_things(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPATCHER_STATE", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert state_folder() == Path(folder)


def test_a_copy_is_not_adopted_while_the_ledger_itself_is_at_work(here: Machine) -> None:
    """It would send on, for it has asked already."""
    shutil.copytree(here.folder, here.root / "copy")
    copy = Machine(here.root, "copy")
    with here.open(), pytest.raises(RunActive, match=r"another dispatcher is at work on .*campaign"):
        copy.adopt(hold=False)
    assert here.begins().run == 2
    assert copy.adopt(hold=True) == 7


def test_of_two_copies_that_never_sent_and_begin_at_once_one_is_held(tmp_path: Path) -> None:
    """Neither had a mark when it was opened."""
    here = Machine(tmp_path)
    seal(here, letters(LETTERS))
    shutil.copytree(here.folder, tmp_path / "copy")
    copy = Machine(tmp_path, "copy")
    both, refused, began = threading.Barrier(2), list[LedgerInDoubt](), list[int]()

    def one(machine: Machine) -> None:
        with machine.open() as ledger:
            both.wait(30)
            try:
                began.append(ledger.begin_run(CAMPAIGN, ACCOUNT, "hold").run)
            except LedgerInDoubt as error:
                refused.append(error)

    threads = [threading.Thread(target=one, args=(machine,)) for machine in (here, copy)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (began, len(refused)) == ([1], 1)


# On paper: what was printed may be in the post.


@pytest.fixture
def paper(tmp_path: Path) -> Machine:
    """A ledger that has never sent anything, and a backup of it from before a letter was printed."""
    machine = Machine(tmp_path)
    seal(machine, [letter("A"), on_paper("B"), on_paper("C")])
    machine.print("B")
    machine.backup()
    machine.print("C")
    return machine


def test_a_ledger_from_before_a_printing_is_in_doubt(paper: Machine) -> None:
    assert paper.marks.doubt(paper.path, facts_of(paper.path)) == ""
    paper.restore()
    with pytest.raises(LedgerInDoubt, match="older than what was printed with it; letters may be in the post"):
        paper.begins()
    assert paper.adopt(hold=True) == 1
    assert states(paper) == {"A": "unknown", "B": "printed", "C": "printed"}, "each held for a person's word"
    assert paper.begins().run


def test_a_person_s_word_lets_paper_go_on(paper: Machine) -> None:
    paper.restore()
    assert paper.adopt(hold=False) == 0
    assert states(paper) == {"A": "ready", "B": "printed", "C": "to_print"}
    paper.print("C")
    assert paper.begins().run


def test_a_ledger_that_printed_and_is_gone_or_was_brought_here_is_in_doubt(paper: Machine) -> None:
    there = Machine(paper.root, state="another machine")
    assert "which has printed letters already" in there.marks.doubt(there.path, facts_of(there.path))
    shutil.rmtree(paper.folder)
    assert "is gone" in paper.marks.doubt(paper.path, None)


def test_a_crash_between_the_record_and_the_mark_is_no_doubt(paper: Machine) -> None:
    """The ledger comes first: a mark that is behind is nobody's loss."""
    with SqliteLedger(paper.path, paper.time) as ledger:  # one that keeps no mark
        printed(paper, ledger, "C")
    assert paper.marks.doubt(paper.path, facts_of(paper.path)) == ""
    paper.print("C")
