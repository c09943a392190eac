"""status, log, resolve and suppress: what happened is told as it was, and people's decisions hold."""

import csv
import io
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.core.reading import LOG_COLUMNS
from tests.command import argv, dispatcher, edit, environment, new_campaign, use_server
from tests.smtp_server import HANG, RESET, STORE, Action, Script, SmtpServer

KEYS = ("GBR", "FRA", "ESP", "BHR", "KHM", "fidh")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign", KEYS)


@pytest.fixture
def mixed(folder: Path) -> Iterator[Path]:
    """A campaign with every outcome: the first accepted, then refused, refused for now, unknown; the rest accepted."""
    edit(folder / "campaign.toml", "connections = 4", "connections = 1")
    taken = (STORE, b"250 2.0.0 Ok: queued as ABCD1234\r\n")
    rcpt: list[Action] = [b"250 ok\r\n", b"550 5.1.1 =HYPERLINK(1)\r\n", b"450 4.2.0 later\r\n", b"250 ok\r\n"]
    with SmtpServer(Script(on={"RCPT": list(rcpt), "DOT": [taken, (STORE, RESET), taken]})) as server:
        use_server(folder, server)
        done = dispatcher("send", "--confirm", "6", folder=folder)
        assert done.code == 3, done
        yield folder


def key_of(folder: Path, outcome: str) -> str:
    """The one letter that stands there."""
    rows = dispatcher("log", "--state", outcome, "--json", folder=folder).json["rows"]
    assert len(rows) == 1
    return str(rows[0]["key"])


# status


def test_status(mixed: Path) -> None:
    """The counts add up to the plan; what waits, and what is unknown, is said."""
    found = dispatcher("status", "--json", folder=mixed).json
    counts = dict(found["counts"])
    assert counts.pop("letters") == sum(counts.values()) == 6
    assert (counts["accepted"], counts["failed"], counts["unknown"], counts["waiting"]) == (3, 1, 1, 1)
    assert found["deferred"] == 1
    assert found["runs"][0]["ended_at"]
    out = dispatcher("status", folder=mixed).out
    assert "Unknown letters wait for your word: dispatcher log --state unknown\n" in out
    assert "6 letters: 3 accepted, 1 waiting, 1 failed, 1 unknown" in out
    assert "1 of the waiting deferred, that is refused for now; the next is due 20" in out


def test_status_of_a_run_that_broke_off(folder: Path) -> None:
    """While it is at work, a letter in flight is nobody's business; then somebody has to go on."""
    broke_off = "The last run broke off with 1 in flight; whether accepted is unknown.\nTo go on: dispatcher send\n"
    edit(folder / "campaign.toml", "connections = 4", "connections = 1")
    with SmtpServer(Script(on={"DOT": (HANG, STORE, b"250 2.0.0 taken\r\n")})) as server:
        use_server(folder, server)
        words = argv("send", "--confirm", "6")
        with subprocess.Popen(words, cwd=folder, env=environment(), stderr=subprocess.DEVNULL) as run:
            try:
                server.wait(lambda found: found.times("dot") == 1)
                during = dispatcher("status", folder=folder).out
            finally:
                run.kill()
        assert ("1 in flight" in during, broke_off in during) == (True, False)
        assert broke_off in dispatcher("status", folder=folder).out
        dry = dispatcher("send", folder=folder).out
        assert "5 letters would be sent" in dry
        assert "1 more in flight when the last run broke off: unknown, and not sent again." in dry


def test_a_mistake_in_campaign_toml_hides_no_log(mixed: Path) -> None:
    """Reading needs the campaign's id alone."""
    edit(mixed / "campaign.toml", "quota = 300", "qouta = 300")
    assert dispatcher("send", folder=mixed).code == 2
    assert dispatcher("status", folder=mixed).code == 0
    assert dispatcher("log", folder=mixed).code == 0


# log


def test_log_filters(mixed: Path) -> None:
    def keys(*words: str) -> set[str]:
        found = dispatcher("log", *words, "--json", folder=mixed).json
        assert found["letters"] == len(found["rows"])
        return {row["key"] for row in found["rows"]}

    assert keys() == set(KEYS)
    by_state = {o: keys("--state", o) for o in ("accepted", "failed", "unknown", "deferred", "waiting")}
    assert {o: len(k) for o, k in by_state.items()} == {
        "accepted": 3, "failed": 1, "unknown": 1, "deferred": 1, "waiting": 1
    }  # fmt: skip
    assert keys("--state", "suppressed") == set()
    assert keys("--recipient", "FRA") == keys("--recipient", "fra@missions") == {"FRA"}
    assert keys("--recipient", "république française") == {"FRA"}
    assert keys("--recipient", "missions.example.org") == set(KEYS) - {"fidh"}
    assert keys("--recipient", "nobody") == set()
    assert keys("--since", "2000-01-01") == keys("--since", "2000-01-01T12:00+02:00") == set(KEYS)
    assert keys("--since", "2999-01-01 00:00") == set()
    assert keys("--since", "2000-01-01", "--state", "failed", "--recipient", "missions") == by_state["failed"]
    assert dispatcher("log", "--since", "yesterday", folder=mixed).code == 2
    assert dispatcher("log", "--state", "sent", folder=mixed).code == 2


def test_log_formats(mixed: Path) -> None:
    """A table for the eye, CSV for spreadsheets, a JSON document a line for programs: the same letters."""
    table = dispatcher("log", folder=mixed).out.splitlines()
    assert table[0].split() == ["key", "state", "at", "(UTC)", "attempts", "addresses", "reply"]
    assert {line.split()[0] for line in table[1:]} == set(KEYS)
    rows = list(csv.DictReader(io.StringIO(dispatcher("log", "--format", "csv", folder=mixed).out)))
    assert tuple(rows[0]) == LOG_COLUMNS
    lines = [json.loads(line) for line in dispatcher("log", "--format", "jsonl", folder=mixed).out.splitlines()]
    assert [row["key"] for row in rows] == [line["key"] for line in lines]
    assert {row["key"]: row["queue_id"] for row in rows if row["state"] == "accepted"}.popitem()[1] == "ABCD1234"
    assert all(len(row["message_digest"]) == 64 for row in rows if row["state"] in ("accepted", "unknown"))


def test_csv_is_safe_in_a_spreadsheet(tmp_path: Path) -> None:
    """No cell of an export begins as a formula, also not one that a relay wrote."""
    folder = new_campaign(tmp_path, ["GBR", "FRA", "ESP", "BHR", "KHM", "AND"])  # one mailbox, one reply each
    tricks = ("=HYPERLINK(1)", "+1", "-1+1", "@SUM(1)", '"=1', "＝1")
    replies: list[Action] = [f"450 {trick}\r\n".encode() for trick in tricks]
    with SmtpServer(Script(on={"RCPT": list(replies)})) as server:
        use_server(folder, server)
        assert dispatcher("send", "--confirm", "6", "--skip-preflight", folder=folder).code == 3
    rows = list(csv.DictReader(io.StringIO(dispatcher("log", "--format", "csv", folder=folder).out)))
    assert {row["reply"] for row in rows} == {f"'{trick}" for trick in tricks}
    raw = dispatcher("log", "--json", folder=folder).json["rows"]
    assert {row["reply"] for row in raw} == set(tricks), "for programs as it stands"


def test_the_story_of_a_letter(mixed: Path) -> None:
    unknown = key_of(mixed, "unknown")
    out = dispatcher("log", unknown, folder=mixed).out
    assert out.startswith(f"{unknown}: unknown\n")
    assert "attempt 1, " in out
    assert "unknown at FINAL" in out
    failed = dispatcher("log", key_of(mixed, "failed"), folder=mixed).out
    assert "550 5.1.1 =HYPERLINK(1)" in failed, "the relay's words stand as they came"
    done = dispatcher("log", "fr", folder=mixed)
    assert done.code == 2
    assert "there is no letter with key fr" in done.err
    assert "did you mean: FRA?" in done.err


def test_a_skipped_row_says_why_it_has_no_letter(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path, ["FRA", "VAT"])
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    done = dispatcher("log", "VAT", "--sandbox", folder=folder)
    assert done.code == 2
    assert "VAT got no letter" in done.err
    assert "not member_on_2009_10_01" in done.err


# resolve


def test_resolve(mixed: Path) -> None:
    """A person's word, with name and reason; only where there is something to say."""
    key = key_of(mixed, "unknown")
    done = dispatcher("resolve", key, "--as", "accepted", "--why", "they telephoned", folder=mixed)
    assert done.code == 0
    assert done.out == f"{key} was unknown; now accepted. Recorded: they telephoned\n"
    story = dispatcher("log", key, folder=mixed).out
    assert "they telephoned" in story
    assert "by keeper" in story
    assert dispatcher("status", "--json", folder=mixed).json["counts"]["accepted"] == 4
    done = dispatcher("resolve", key, "--as", "resend", "--why", "again", folder=mixed)
    assert done.code == 2
    assert f"letter {key} is accepted; only an unknown letter can be resolved" in done.err
    failed = key_of(mixed, "failed")
    assert dispatcher("resolve", failed, "--as", "accepted", "--why", "x", folder=mixed).code == 2
    assert dispatcher("resolve", "XXX", "--as", "failed", "--why", "x", folder=mixed).code == 2
    assert dispatcher("resolve", failed, "--as", "resend", "--why", "", folder=mixed).code == 2
    assert dispatcher("resolve", failed, "--as", "sent", "--why", "x", folder=mixed).code == 2


def test_resend_sends_the_same_letter_once(mixed: Path) -> None:
    key = key_of(mixed, "unknown")
    story = dispatcher("log", key, "--json", folder=mixed).json
    found = dispatcher("resolve", key, "--as", "resend", "--why", "not in the relay's log", "--json", folder=mixed).json
    assert found == {"key": key, "before": "unknown", "decision": "resend", "why": "not in the relay's log"}
    with SmtpServer() as server:
        use_server(mixed, server)
        words = ["send", "--only", f"key == '{key}'", "--confirm", "1"]
        assert dispatcher(*words, folder=mixed).code == 0
        assert len(server.stored) == 1
        assert f"Message-ID: {story['message_id']}\r\n".encode() in server.stored[0].octets
        assert "Nothing was sent" in dispatcher(*words, folder=mixed).out
        assert len(server.stored) == 1
    now = dispatcher("log", key, "--json", folder=mixed).json
    assert [attempt["outcome"] for attempt in now["attempts"]] == ["unknown", "accepted"]
    assert now["attempts"][0]["message_digest"] == now["attempts"][1]["message_digest"], "the same octets, Date and all"


def test_a_letter_that_is_to_be_resent_can_still_be_held_back(mixed: Path) -> None:
    """A slip with `resolve` is told the way out."""
    (key,) = {row["key"] for row in dispatcher("log", "--state", "unknown", "--json", folder=mixed).json["rows"]}
    assert dispatcher("resolve", key, "--as", "resend", "--why", "a slip", folder=mixed).code == 0
    done = dispatcher("resolve", key, "--as", "accepted", "--why", "it was there", folder=mixed)
    assert done.code == 2
    assert "To hold it back: dispatcher suppress add ADDRESS --why …" in done.err


# suppress


def test_suppress_holds_back(folder: Path) -> None:
    """Before anything is sealed: skipped with the reason; afterwards: held back; lifted: waits again."""
    with SmtpServer() as server:
        use_server(folder, server)
        words = ["suppress", "add", "FRA@missions.example.org", "@ngos.example.org", "--why", "asked"]
        assert dispatcher(*words, folder=folder).out == "2 added; held back: 0 waiting letters.\n"
        done = dispatcher("send", folder=folder)
        assert "4 letters would be sent" in done.out
        assert "2 suppressed, and held back." in done.out
        assert dispatcher("send", "--limit", "1", "--confirm", "1", folder=folder).code == 0
        found = dispatcher(
            "suppress", "add", "khm@missions.example.org", "--why", "asked", "--json", folder=folder
        ).json
        assert found == {"added": 1, "letters": 1, "printed": [], "no_letter_goes_to": []}
        assert dispatcher("send", "--confirm", "2", folder=folder).code == 0
        assert len(server.stored) == 3
        assert not {"fra@missions.example.org", "khm@missions.example.org"} & {
            rcpt for stored in server.stored for rcpt in stored.rcpt_tos
        }
        words = ["suppress", "remove", "fra@MISSIONS.example.org", "--why", "added by mistake"]
        assert "waiting again: 1 letter." in dispatcher(*words, folder=folder).out
        assert dispatcher(*words, folder=folder).code == 2
        assert dispatcher("send", "--confirm", "1", folder=folder).code == 0
        assert server.stored[-1].rcpt_tos == ("fra@missions.example.org",)
    counts = dispatcher("status", "--json", folder=folder).json["counts"]
    assert (counts["accepted"], counts["suppressed"]) == (4, 2)
    assert "is suppressed: asked" in dispatcher("log", "KHM", folder=folder).out


def test_an_address_that_no_letter_goes_to_is_said(folder: Path) -> None:
    words = ["fra@mission.example.org", "@ngos.example.org", "khm@missions.example.org"]
    before = dispatcher("suppress", "add", *words, "--why", "asked", folder=folder)
    assert "No letter" not in before.out  # nothing is sealed: nobody knows yet
    with SmtpServer() as server:
        use_server(folder, server)
        assert dispatcher("seal", folder=folder).code == 0
    after = dispatcher("suppress", "add", *words, "--why", "asked", folder=folder)
    assert "No letter of this campaign goes to fra@mission.example.org: see that" in after.out


def test_suppress_import_of_a_bare_list(folder: Path) -> None:
    (folder / "stop.csv").write_text("fra@missions.example.org\nkhm@missions.example.org\n", encoding="utf-8")
    done = dispatcher("suppress", "import", "stop.csv", "--why", "our list", folder=folder)
    assert (done.code, "the first line is to be: email" in done.err) == (2, True)


def test_suppress_list_and_several_at_once(folder: Path) -> None:
    assert dispatcher("suppress", "list", "--json", folder=folder).json == {"addresses": 0, "rows": []}
    words = ["suppress", "add", "a@x.example, b@x.example", "@y.example", "--why", "asked"]
    assert dispatcher(*words, folder=folder).code == 0
    found = dispatcher("suppress", "list", "--json", folder=folder).json
    assert found["addresses"] == 3
    assert {row["address"] for row in found["rows"]} == {"a@x.example", "b@x.example", "@y.example"}
    assert all(row["reason"] == "asked" and row["since"] and row["source"] == "by hand" for row in found["rows"])
    table = dispatcher("suppress", "list", folder=folder).out.splitlines()
    assert table[0].split() == ["address", "reason", "since", "(UTC)", "source"]
    assert len(table) == 4
    words = ["suppress", "remove", "a@x.example, b@x.example", "--why", "all of them"]
    assert dispatcher(*words, folder=folder).code == 2, "one at a time, so that none is lifted unseen"


@pytest.mark.parametrize("column", ["email", "address", "Email"])
def test_suppress_import(column: str, folder: Path) -> None:
    stop = folder / "stop.csv"
    stop.write_text(f"{column};name\nfra@missions.example.org;x\n;nobody\nFIDH@ngos.example.org;y\n", encoding="utf-8")
    found = dispatcher("suppress", "import", "stop.csv", "--why", "our list", "--json", folder=folder).json
    assert found["added"] == 2
    rows = dispatcher("suppress", "list", "--json", folder=folder).json["rows"]
    assert {row["source"] for row in rows} == {"stop.csv"}
    assert "4 letters would be sent" in dispatcher("send", folder=folder).out


def test_suppress_import_is_all_or_nothing(folder: Path) -> None:
    stop = folder / "stop.csv"
    stop.write_text("email\ngood@x.example\nnobody\nalso bad\n", encoding="utf-8")
    done = dispatcher("suppress", "import", "stop.csv", "--why", "our list", folder=folder)
    assert done.code == 2
    assert "at stop.csv:3, email" in done.err
    assert "at stop.csv:4, email" in done.err
    assert not (folder / ".dispatcher").exists()
    stop.write_text("Adresse\ngood@x.example\n", encoding="utf-8")
    done = dispatcher("suppress", "import", "stop.csv", "--why", "our list", folder=folder)
    assert "there is no column 'email'" in done.err
    assert "Columns are: Adresse" in done.err


def test_what_people_decide_is_kept(mixed: Path) -> None:
    """Each decision with who, when and why."""
    key = key_of(mixed, "unknown")
    assert dispatcher("resolve", key, "--as", "failed", "--why", "they say no", folder=mixed).code == 0
    assert dispatcher("suppress", "add", "a@b.example", "--why", "asked", folder=mixed).code == 0
    assert dispatcher("suppress", "remove", "a@b.example", "--why", "asked again", folder=mixed).code == 0
    connection = sqlite3.connect(mixed / ".dispatcher" / "ledger.sqlite")
    events = connection.execute("SELECT kind, who, why FROM event WHERE who <> '' ORDER BY id").fetchall()
    connection.close()
    assert [e for e in events if e[0] != "sealed"] == [
        ("resolved", "keeper", "they say no"),
        ("suppressed", "keeper", "asked"),
        ("unsuppressed", "keeper", "asked again"),
    ]  # fmt: skip
