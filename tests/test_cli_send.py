"""send, amend and sandbox: who is written to, and who is not, by the real command line against real servers."""

import email
import json
import re
import signal
import smtplib
import sqlite3
import subprocess
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.command import (
    argv,
    captured,
    dispatcher,
    edit,
    environment,
    new_campaign,
    on_terminal,
    read_list,
    set_relay,
    tree,
    use_server,
    write_list,
)
from tests.smtp_server import RESET, STORE, Script, SmtpServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


@pytest.fixture
def server(folder: Path) -> Iterator[SmtpServer]:
    """An honest relay on the loopback interface, to which the campaign points."""
    with SmtpServer() as running:
        use_server(folder, running)
        yield running


def receivers(server: SmtpServer) -> list[str]:
    return sorted(rcpt for stored in server.stored for rcpt in stored.rcpt_tos)


def rows_of(folder: Path, table: str, *, sandbox: bool = False) -> list[tuple[object, ...]]:
    hidden = folder / ".dispatcher" / ("sandbox" if sandbox else "")
    connection = sqlite3.connect(hidden / "ledger.sqlite")
    try:
        return connection.execute(f"SELECT * FROM {table}").fetchall()
    finally:
        connection.close()


# Saying that one means it.


def test_dry_run(folder: Path, server: SmtpServer) -> None:
    """Without a count nothing is sent or written, and the exact command is said; it then works as it stands."""
    before = tree(folder)
    done = dispatcher("send", folder=folder)
    assert done.code == 0
    assert "6 letters would be sent: 3 en, 2 fr, 1 es." in done.out
    assert done.out.endswith("Nothing was sent. To send: dispatcher send --confirm 6\n")
    found = dispatcher("send", "--json", folder=folder).json
    assert found["sent"] == 0
    assert found["to_send"] == 6
    assert tree(folder) == before
    assert server.seen == []
    done = dispatcher(*found["command"].split()[1:], folder=folder)
    assert done.code == 0
    assert "6 letters: 6 accepted" in done.out
    done = dispatcher(*found["command"].split()[1:], folder=folder)
    assert "--confirm 6, but 0 letters would be sent\n  → see where they stand: dispatcher status\n" in done.err
    assert len(server.stored) == 6


def test_the_command_of_a_dry_run_keeps_the_choice(folder: Path, server: SmtpServer) -> None:
    """Quotes and all: pasted into a shell it sends what was counted."""
    only = """language == "fr" and name != "O'Brien" """
    done = dispatcher("send", "--only", only, "--limit", "1", folder=folder)
    command = done.out.strip().rpartition("To send: dispatcher ")[2]
    assert command.endswith("--limit 1 --confirm 1")
    line = " ".join(argv()) + " " + command
    subprocess.run(["sh", "-c", line], cwd=folder, env=environment(), check=True, capture_output=True)
    assert len(server.stored) == 1


@pytest.mark.parametrize("count", ["5", "7", "0", "-6", "204"])
def test_wrong_count_is_refused(count: str, folder: Path, server: SmtpServer) -> None:
    for more in ([], ["--sandbox"]):
        done = dispatcher("send", "--confirm", count, *more, folder=folder)
        assert done.code == 2
        assert f"--confirm {count}, but 6 letters would be sent" in done.err
        assert "--confirm 6" in done.err
    assert server.seen == []
    assert not (folder / ".dispatcher").exists()


@pytest.mark.parametrize(("typed", "sent"), [("6\n", 6), ("5\n", 0), ("y\n", 0), ("\n", 0), ("\x04", 0)])
def test_typed_number(typed: str, sent: int, folder: Path, server: SmtpServer) -> None:
    """On a terminal the number is asked for; anything else sends nothing."""
    code, shown = on_terminal("send", folder=folder, typed=typed)
    assert code == 0
    assert "6 letters would be sent" in shown
    assert "Type the number of letters" in shown
    assert len(server.stored) == sent
    assert ("Nothing was sent. To send: dispatcher send --confirm 6" in shown) is (sent == 0)


def test_a_number_on_a_pipe_is_not_typed(folder: Path, server: SmtpServer) -> None:
    assert "Nothing was sent" in dispatcher("send", folder=folder, text="6\n").out
    assert server.stored == []


def test_json_of_a_run_is_one_line_of_counts(folder: Path, server: SmtpServer) -> None:
    done = dispatcher("send", "--confirm", "6", "--json", folder=folder)
    assert done.err == ""
    assert done.json["letters"] == done.json["accepted"] == 6
    counts = {k: done.json[k] for k in ("waiting", "in_flight", "failed", "unknown", "closed_unknown", "suppressed")}
    assert set(counts.values()) == {0}
    assert done.json["ended"] == "finished"
    assert done.json["exit_code"] == 0


# Choice and resuming.


def test_limit_and_only_and_resume(folder: Path, server: SmtpServer) -> None:
    """A part first, then the rest; nobody twice."""
    assert dispatcher("send", "--limit", "2", "--confirm", "2", folder=folder).code == 0
    assert len(server.stored) == 2
    assert dispatcher("send", "--confirm", "6", folder=folder).code == 2, "only four are left"
    done = dispatcher("send", "--only", 'language == "fr"', folder=folder)
    left = int(re.search(r"(\d) letters? would be sent", done.out)[1])  # type: ignore[index]
    assert dispatcher("send", "--only", 'language == "fr"', "--confirm", str(left), folder=folder).code == 0
    assert dispatcher("send", "--confirm", str(4 - left), folder=folder).code == 0
    assert len(server.stored) == 6
    assert len(set(receivers(server))) == len(receivers(server)) == 7  # one letter has two mailboxes
    done = dispatcher("send", folder=folder)
    assert "6 letters: 6 accepted" in done.out
    assert done.code == 0
    assert len(server.stored) == 6


def test_a_choice_that_matches_nothing_seals_nothing(folder: Path, server: SmtpServer) -> None:
    done = dispatcher("send", "--only", 'language == "de"', folder=folder)
    assert done.code == 0
    assert "Nothing was sent" in done.out
    assert dispatcher("send", "--only", 'language == "de"', "--json", folder=folder).json["to_send"] == 0
    assert not (folder / ".dispatcher").exists()


def test_sorting_the_list_anew_changes_nothing(folder: Path, server: SmtpServer) -> None:
    assert dispatcher("send", "--limit", "3", "--confirm", "3", folder=folder).code == 0
    columns, rows = read_list(folder, "un_missions.csv")
    write_list(folder, "un_missions.csv", columns, list(reversed(rows)))
    assert dispatcher("send", "--confirm", "3", folder=folder).code == 0
    assert len(server.stored) == 6
    assert len(set(receivers(server))) == 7


def test_refused_for_now_is_due_later(folder: Path) -> None:
    """A deferred letter is no failure: exit 3, and it says how to go on."""
    with SmtpServer(Script(on={"RCPT": [b"450 4.2.0 greylisted\r\n", b"250 ok\r\n"]})) as server:
        use_server(folder, server)
        words = ["send", "--only", 'key == "FRA"', "--confirm", "1", "--skip-preflight"]
        done = dispatcher(*words, folder=folder)
    assert done.code == 3
    assert "1 waiting" in done.out or "6 waiting" in done.out
    assert "letters are due later" in done.err
    status = dispatcher("status", "--json", folder=folder).json
    assert status["deferred"] == 1
    assert status["next_due_at"]


# Changes and amend.


def change(folder: Path) -> None:
    """One row new, one changed, one removed, one accepted and changed."""
    columns, rows = read_list(folder, "un_missions.csv")
    by_key = {row["key"]: row for row in rows}
    del by_key["KHM"]
    by_key["GBR"]["salutation"] = "Sir,"
    by_key["BHR"]["email"] = "office@bhr.example.org"
    by_key["BHR"]["salutation"] = by_key["FRA"]["salutation"] = by_key["ESP"]["salutation"] = ""
    new = {**by_key["ESP"], "key": "AND", "email": "and@missions.example.org", "name": "Andorra"}
    write_list(folder, "un_missions.csv", [*columns, "salutation"], [*by_key.values(), new])


def test_changed_folder_is_refused_with_the_difference(folder: Path, server: SmtpServer) -> None:
    assert dispatcher("send", "--only", 'key == "GBR"', "--confirm", "1", folder=folder).code == 0
    edit(folder / "templates" / "upr_submission" / "letter.fr.md", "votre pays", "votre beau pays")
    for words in (["send"], ["send", "--confirm", "5"], ["send", "--json", "--confirm", "5"]):
        done = dispatcher(*words, folder=folder)
        assert done.code == 5
        assert "dispatcher amend" in done.all
        assert "votre beau pays" in done.all
        assert "changed letter: " in done.all
    assert len(server.stored) == 1


def test_amend(folder: Path, server: SmtpServer) -> None:
    """New, changed, removed and accepted are counted and confirmed; what was accepted is never sent again."""
    assert dispatcher("send", "--only", 'key == "GBR"', "--confirm", "1", folder=folder).code == 0
    change(folder)
    done = dispatcher("amend", folder=folder)
    assert done.code == 0
    assert "1 new letter: AND" in done.out
    assert "1 removed letter: KHM" in done.out
    assert "1 already accepted or posted: these are never sent again" in done.out
    found = dispatcher("amend", "--json", folder=folder).json
    assert (found["new"], found["removed"], found["accepted"], found["amended"]) == (1, 1, 1, False)
    assert found["changes"] == found["new"] + found["changed"] + found["removed"]
    count = found["changes"]
    assert f"dispatcher amend --confirm {count}" in done.out
    assert dispatcher("send", folder=folder).code == 5, "not taken over yet"
    assert dispatcher("amend", "--confirm", str(count + 1), folder=folder).code == 2
    done = dispatcher("amend", "--confirm", str(count), folder=folder)
    assert done.code == 0
    assert f"Taken over: {count} changes. Nothing was sent." in done.out
    assert len(server.stored) == 1
    assert dispatcher("send", "--confirm", "5", folder=folder).code == 0
    assert receivers(server).count("gbr@missions.example.org") == 1
    assert "khm@missions.example.org" not in receivers(server)
    assert "office@bhr.example.org" in receivers(server)
    status = dispatcher("status", "--json", folder=folder).json
    assert (status["revision"], status["counts"]["accepted"], status["counts"]["cancelled"]) == (2, 6, 1)


def test_amend_by_typed_number(folder: Path, server: SmtpServer) -> None:
    assert dispatcher("send", "--limit", "1", "--confirm", "1", folder=folder).code == 0
    edit(folder / "templates" / "upr_submission" / "letter.es.md", "la tarde", "la hermosa tarde")
    code, shown = on_terminal("amend", folder=folder, typed="2\n")
    assert code == 0
    assert "Nothing was taken over" in shown
    code, shown = on_terminal("amend", folder=folder, typed="1\n")
    assert "Taken over: 1 change." in shown


def test_nothing_to_amend(folder: Path, server: SmtpServer) -> None:
    assert dispatcher("send", "--limit", "1", "--confirm", "1", folder=folder).code == 0
    done = dispatcher("amend", "--confirm", "0", folder=folder)
    assert done.code == 2
    assert "there is nothing to amend" in done.err


# Tests of letters.


def test_test_to(folder: Path, server: SmtpServer) -> None:
    """Real rows to the tester alone: envelope and headers rewritten, subject marked, recorded as tests."""
    columns, rows = read_list(folder, "un_missions.csv")
    copies = [{**row, "cc": f"copy.{row['key']}@missions.example.org"} for row in rows]
    write_list(folder, "un_missions.csv", [*columns, "cc"], copies)
    done = dispatcher("send", "--test-to", "me@tester.example", folder=folder)
    assert done.code == 0
    assert "3 tests, 3 accepted. Nobody else was written to; tests are not letters." in done.out
    assert [stored.rcpt_tos for stored in server.stored] == [("me@tester.example",)] * 3
    languages = set()
    for stored in server.stored:
        message = email.message_from_bytes(stored.octets, policy=policy.default)
        assert isinstance(message, EmailMessage)
        assert [a.addr_spec for a in message["To"].addresses] == ["me@tester.example"]
        assert message["Subject"].startswith("[TEST for ")
        assert message["Cc"] is None
        assert message["List-Unsubscribe"].endswith("?subject=unsubscribe%20test>"), "a click unsubscribes nobody"
        head = stored.octets.partition(b"\r\n\r\n")[0]
        assert b"missions.example.org" not in head
        assert b"copy." not in head
        languages.add(message["Content-Language"])
    assert languages == {"en", "fr", "es"}
    assert len(rows_of(folder, "test")) == 3
    assert rows_of(folder, "letter") == rows_of(folder, "attempt") == rows_of(folder, "plan") == []
    assert dispatcher("send", "--confirm", "6", folder=folder).code == 0, "tests change nothing for the letters"
    assert len(server.stored) == 9
    assert not {s.octets.split(b"Message-ID: ")[1].split(b"\r\n")[0] for s in server.stored[:3]} & {
        s.octets.split(b"Message-ID: ")[1].split(b"\r\n")[0] for s in server.stored[3:]
    }


def test_test_to_with_choice_and_json(folder: Path, server: SmtpServer) -> None:
    words = ["send", "--test-to", "me@tester.example", "--only", 'language == "fr"', "--limit", "1", "--json"]
    found = dispatcher(*words, folder=folder).json
    assert (found["tests"], found["accepted"], found["exit_code"]) == (1, 1, 0)
    assert found["rows"][0]["address"] == "me@tester.example"
    assert dispatcher("send", "--test-to", "me@tester.example", "--only", 'key == "XXX"', folder=folder).code == 2
    for address in ("nobody", "a@b.example, c@d.example", ""):
        assert dispatcher("send", "--test-to", address, folder=folder).code == 2


def test_test_to_goes_on_after_a_broken_connection(folder: Path) -> None:
    """One connection lost costs one test, not the others; and it is said."""
    with SmtpServer(Script(on={"DOT": [RESET, (STORE, b"250 ok\r\n")]})) as server:
        use_server(folder, server)
        done = dispatcher("send", "--test-to", "me@tester.example", "--json", folder=folder)
        assert done.code == 3
        assert [row["outcome"] for row in done.json["rows"]] == ["unknown", "accepted", "accepted"]
        assert len(server.stored) == 2


@pytest.mark.parametrize("suppressed", ["Me@tester.example", "@tester.example"])
def test_test_to_a_suppressed_address_is_refused(suppressed: str, folder: Path, server: SmtpServer) -> None:
    """Whoever asked not to be written to is not written to, not even for a test."""
    assert dispatcher("suppress", "add", suppressed, "--why", "left us", folder=folder).code == 0
    for sandbox in ([], ["--sandbox"]):
        done = dispatcher("send", "--test-to", "me@tester.example", *sandbox, folder=folder)
        assert done.code == 2
        assert f"{suppressed.lower()} is suppressed: left us" in done.err
        assert "test with another address" in done.err
    assert server.stored == []
    assert rows_of(folder, "test") == []
    assert dispatcher("send", "--test-to", "me@other.example", folder=folder).code == 0


def test_test_to_keeps_within_the_quota(folder: Path, server: SmtpServer) -> None:
    """All of the tests, or none: letters and earlier tests of the last 24 hours count."""
    edit(folder / "campaign.toml", "quota = 300", "quota = 5")
    assert dispatcher("send", "--limit", "1", "--confirm", "1", folder=folder).code == 0
    words = ["send", "--test-to", "me@tester.example"]
    assert dispatcher(*words, folder=folder).code == 0
    assert len(server.stored) == 4
    done = dispatcher(*words, folder=folder)
    assert done.code == 2
    assert "3 tests would be sent, but the quota of 5 in 24 hours leaves 1" in done.err
    assert "send fewer (--limit 1)" in done.err
    assert len(server.stored) == 4
    assert dispatcher(*words, "--limit", "1", folder=folder).code == 0
    done = dispatcher(*words, "--limit", "1", folder=folder)
    assert done.code == 2
    assert "1 tests" not in done.err
    assert "leaves 0" in done.err
    assert "it leaves more from 2" in done.err
    assert len(server.stored) == 5
    assert dispatcher(*words, "--sandbox", folder=folder).code == 0, "a rehearsal has no quota"


# The sandbox.


def test_a_rehearsal_holds_back_whom_the_real_run_would(folder: Path) -> None:
    """It sees the real suppressions, before sealing and after, and changes nothing in the real ledger."""
    why = ["--why", "asked"]
    assert dispatcher("suppress", "add", "fra@missions.example.org", *why, folder=folder).code == 0
    assert dispatcher("suppress", "add", "@ngos.example.org", *why, "--sandbox", folder=folder).code == 0
    skips = dispatcher("check", "--sandbox", "--json", folder=folder).json["skips"]["suppressed"]
    assert sorted(row["key"] for row in skips) == ["FRA", "fidh"]
    assert dispatcher("send", "--sandbox", "--only", 'key == "GBR"', folder=folder).code == 0
    assert dispatcher("suppress", "add", "KHM@missions.example.org", *why, folder=folder).code == 0
    words = ["send", "--sandbox", "--only", 'key == "ESP" or key == "KHM"', "--confirm", "1"]
    assert dispatcher(*words, folder=folder).code == 0
    counts = dispatcher("status", "--sandbox", "--json", folder=folder).json["counts"]
    assert (counts["accepted"], counts["suppressed"], counts["waiting"]) == (2, 3, 1)
    held = dispatcher("log", "FRA", "--sandbox", folder=folder).out
    assert "fra@missions.example.org is suppressed: asked" in held
    assert len(captured(folder)) == 2
    real = {row[0] for row in rows_of(folder, "suppression")}
    assert real == {"fra@missions.example.org", "khm@missions.example.org"}


def test_sandbox_is_apart_and_fresh_begins_anew(folder: Path) -> None:
    done = dispatcher("send", "--sandbox", folder=folder)
    assert done.code == 0
    assert "6 letters: 6 accepted" in done.out
    assert "dispatcher status --sandbox" in done.out
    assert len(captured(folder)) == 6
    assert not (folder / ".dispatcher" / "ledger.sqlite").exists()
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    assert len(captured(folder)) == 6, "a rehearsal resumes, too"
    edit(folder / "templates" / "upr_submission" / "letter.en.md", "We thank you", "We are grateful to you")
    done = dispatcher("send", "--sandbox", folder=folder)
    assert done.code == 5
    assert "dispatcher send --sandbox --fresh" in done.err
    assert dispatcher("send", "--sandbox", "--fresh", folder=folder).code == 0
    assert len(captured(folder)) == 6
    assert sum(b"We are grateful to you" in octets for octets in captured(folder)) == 3
    assert dispatcher("status", "--sandbox", "--json", folder=folder).json["counts"]["accepted"] == 6


def test_sandbox_alone(folder: Path, tmp_path: Path) -> None:
    """The capture server takes mail from any program, and ends in order."""
    process = subprocess.Popen(
        argv("sandbox", "--port", "0", "--out", "caught"), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stderr
    with process.stderr as stderr:
        first = stderr.readline()
        port = int(re.search(r"Capturing on 127\.0\.0\.1:(\d+) into caught", first)[1])  # type: ignore[index]
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("a@example.org", ["b@example.org"], b"Subject: hello\r\n\r\nhello\r\n")
        said = re.search(r'host = .*, port = .*, security = "none"', stderr.readline())
        assert said
        set_relay(folder, said[0].replace(", ", "\n"))
        assert dispatcher("send", "--confirm", "6", folder=folder).code == 0
        process.send_signal(signal.SIGINT)
        assert stderr.read() == "Stopped.\n"
    assert process.wait() == 0
    assert len(list((tmp_path / "caught").glob("*.eml"))) == 7
    envelopes = [json.loads(line) for line in (tmp_path / "caught" / "envelopes.jsonl").read_text().splitlines()]
    assert envelopes[0]["rcpt_tos"] == ["b@example.org"]


def test_sandbox_on_a_port_in_use(folder: Path, server: SmtpServer) -> None:
    done = dispatcher("sandbox", "--port", str(server.port), folder=folder)
    assert done.code == 4
    assert "Traceback" not in done.err
    assert str(server.port) in done.err
