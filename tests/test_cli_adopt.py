"""A ledger in doubt, at the keyboard: what `send`, `check` and `status` say, and `adopt` with its record."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.command import FEW, dispatcher, new_campaign, use_server
from tests.smtp_server import SmtpServer

WHY = ("--why", "the relay's log ends at noon")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign of which two letters left after the backup was made."""
    folder = new_campaign(tmp_path / "campaign", FEW)
    with SmtpServer() as server:
        use_server(folder, server)
        assert dispatcher("send", "--limit", "1", "--confirm", "1", folder=folder).code == 0
        shutil.copytree(folder / ".dispatcher", tmp_path / "backup")
        assert dispatcher("send", "--limit", "2", "--confirm", "2", folder=folder).code == 0
    shutil.rmtree(folder / ".dispatcher")
    shutil.copytree(tmp_path / "backup", folder / ".dispatcher")
    return folder


def test_a_restored_ledger_sends_nothing_until_a_person_decides(folder: Path) -> None:
    with SmtpServer() as server:
        use_server(folder, server)
        for words in (("send",), ("send", "--confirm", "5"), ("send", "--limit", "1")):
            done = dispatcher(*words, folder=folder)
            assert (done.code, done.out) == (5, ""), done
        refused = dispatcher("send", "--confirm", "5", folder=folder)
        assert "up to 2 letters may have left that it does not know" in refused.err
        assert "dispatcher adopt --as unknown --why …" in refused.err
        assert "In doubt, so nothing is sent: " in dispatcher("status", folder=folder).out
        assert "is older than what was sent" in dispatcher("status", "--json", folder=folder).json["in_doubt"]
        checked = dispatcher("check", folder=folder)
        assert (checked.code, "is older than what was sent" in checked.all) == (2, True)
        assert dispatcher("send", "--json", folder=folder).json["error"] == "LedgerInDoubt"
        letter = folder / "templates" / "upr_submission" / "letter.en.md"
        letter.write_text(letter.read_text(encoding="utf-8") + "\nOne more line.\n", encoding="utf-8")
        amended = dispatcher("amend", "--confirm", "2", "--json", folder=folder)
        assert (amended.code, amended.json["error"]) == (5, "LedgerInDoubt"), amended
        changed = letter.read_text(encoding="utf-8")
        letter.write_text(changed.removesuffix("\nOne more line.\n"), encoding="utf-8")

        adopted = dispatcher("adopt", "--as", "unknown", *WHY, folder=folder)
        assert (adopted.code, "Held as unknown: 5 letters." in adopted.out) == (0, True), adopted
        status = dispatcher("status", "--json", folder=folder).json
        assert (status["in_doubt"], status["counts"]["unknown"], status["counts"]["accepted"]) == ("", 5, 1)
        decision = status["decisions"][-1]
        assert (decision["kind"], decision["who"], decision["why"]) == ("adopted", "keeper", WHY[1])
        assert decision["subject"].startswith("unknown: ")
        assert dispatcher("send", folder=folder).code in (0, 3)
        assert not server.stored
        key = next(key for key in FEW if f"{key}: unknown" in dispatcher("log", key, folder=folder).out)
        assert dispatcher("resolve", key, "--as", "resend", "--why", "not in its log", folder=folder).code == 0
        assert dispatcher("send", "--confirm", "1", folder=folder).code == 3
        assert len(server.stored) == 1


def test_a_persons_word_lets_the_letters_go(folder: Path) -> None:
    with SmtpServer() as server:
        use_server(folder, server)
        done = dispatcher("adopt", "--as", "waiting", *WHY, "--json", folder=folder).json
        assert (done["decision"], done["held"], done["why"]) == ("waiting", 0, WHY[1])
        assert dispatcher("send", "--confirm", "5", folder=folder).code == 0
        assert len(server.stored) == 5


def test_a_ledger_that_is_gone_is_told_of_everywhere(folder: Path) -> None:
    shutil.rmtree(folder / ".dispatcher")
    for words in (("send",), ("status",), ("log",), ("suppress", "add", "x@ngo.example", "--why", "w")):
        done = dispatcher(*words, folder=folder)
        assert (done.code, "is gone; up to 3 letters may have left by that one" in done.err) == (5, True), done
    assert "there is no letter that could be held" in dispatcher("adopt", "--as", "unknown", *WHY, folder=folder).err
    assert dispatcher("adopt", "--as", "waiting", *WHY, folder=folder).code == 0
    assert "6 letters would be sent" in dispatcher("send", folder=folder).out


def test_what_is_in_no_doubt_is_not_adopted(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path / "campaign", FEW)
    done = dispatcher("adopt", "--as", "waiting", *WHY, folder=folder)
    assert (done.code, "there is no doubt about this ledger" in done.err) == (2, True)
    assert not (folder / ".dispatcher").exists()
    assert "--why is empty" in dispatcher("adopt", "--as", "waiting", "--why", " ", folder=folder).err
    long = dispatcher("adopt", "--as", "waiting", "--why", "x" * 2001, folder=folder)
    assert "the reason has 2,001 characters, more than 2,000" in long.err


def test_a_rehearsal_leaves_no_mark(tmp_path: Path) -> None:
    """It may be thrown away, and begun anew, whatever the state folder."""
    folder = new_campaign(tmp_path / "campaign", FEW)
    state = tmp_path / "state"
    for _ in range(2):
        env = {"DISPATCHER_STATE": str(state)}
        assert dispatcher("send", "--sandbox", "--fresh", folder=folder, env=env).code == 0
    assert not state.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a home is something else there")
def test_without_a_home_only_sending_is_refused(tmp_path: Path) -> None:
    """What reads needs no mark; what sends wants one, before anybody is connected to."""
    folder = new_campaign(tmp_path / "campaign", FEW)
    env = {"HOME": "/dev/null", "DISPATCHER_STATE": ""}
    with SmtpServer() as server:
        use_server(folder, server)
        for words in (("check",), ("send",)):
            done = dispatcher(*words, folder=folder, env=env)
            assert done.code == 0, done
        done = dispatcher("send", "--confirm", "6", folder=folder, env=env)
        assert (done.code, "cannot keep the mark" in done.err, "DISPATCHER_STATE" in done.err) == (4, True, True), done
        assert not server.seen
