"""What the command line says of pace: the limits in force and their source, when a run is done, what comes too late."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.command import Done, dispatcher, edit, new_campaign, set_relay, use_server
from tests.smtp_server import Script, SmtpServer

WHEN = r"(today|[A-Z][a-z]+day|\d{4}-\d\d-\d\d) \d\d:\d\d"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


@pytest.fixture
def server(folder: Path) -> Iterator[SmtpServer]:
    with SmtpServer() as running:
        use_server(folder, running)
        yield running


def pace(folder: Path, text: str) -> None:
    """Another [pace]; nothing stands behind it."""
    path = folder / "campaign.toml"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: whole.index("[pace]")] + f"[pace]\n{text}\n", encoding="utf-8")


def not_after(folder: Path, ahead: timedelta) -> None:
    moment = (datetime.now(UTC) + ahead).isoformat(timespec="seconds")
    edit(folder / "campaign.toml", "# not_after = 2009-11-17T18:00:00+01:00", f"not_after = {moment}")


def check(folder: Path, *words: str) -> Done:
    return dispatcher("check", *words, folder=folder)


def test_check_names_the_limits_of_the_campaign(folder: Path) -> None:
    pace(folder, 'quota = 300\n[pace.domains]\n"Example.org" = "20/min"\n"*" = "1,000/hr"')
    out = check(folder).out
    for line in (
        "  connections: 4 at once (the default)",
        "  quota: 300 in any 24 hours (campaign.toml)",
        "  rate to example.org: 20/min (campaign.toml)",
        "  rate to any other domain: 1,000/hr (campaign.toml)",
    ):
        assert f"{line}\n" in out


def test_check_names_the_profile_and_the_document_behind_each_limit(folder: Path) -> None:
    set_relay(folder, 'profile = "microsoft365"\nhost = "127.0.0.1"\nport = 1\nsecurity = "none"')
    pace(folder, "quota = 12")
    done = check(folder)
    assert "note: relay: Microsoft 365 at 127.0.0.1:1, as the profile microsoft365 has it" in done.out
    assert re.search(
        r"  connections: 3 at once \(Changes in message store.*, https://learn\.microsoft\.com/\S+\)\n", done.out
    )
    assert re.search(r"  rate: 30/min \(Changes in message store.*, https://learn\.microsoft\.com/\S+\)\n", done.out)
    assert "  quota: 12 in any 24 hours (campaign.toml)\n" in done.out
    found = check(folder, "--json").json["limits"]
    assert [(limit["name"], limit["value"]) for limit in found] == [
        ("connections", "3 at once"), ("rate", "30/min"), ("quota", "12 in any 24 hours"),
    ]  # fmt: skip


def test_an_unknown_profile_stops_everything_and_names_the_nearest(folder: Path) -> None:
    set_relay(folder, 'profile = "microsoft-365"')
    done = check(folder)
    assert done.code == 2
    assert "there is no profile 'microsoft-365'" in done.err
    assert "did you mean 'microsoft365'?" in done.err
    assert "key relay.profile" in done.err


def test_a_letter_larger_than_the_service_takes_is_told(folder: Path) -> None:
    set_relay(folder, 'profile = "postfix"\nhost = "127.0.0.1"\nport = 1\nsecurity = "none"')
    edit(folder / "campaign.toml", 'attachments = ["templates/upr_submission/report.pdf"]', 'attachments = ["big.bin"]')
    (folder / "big.bin").write_bytes(b"\x00\x01" * 4_500_000)
    for path in (folder / "templates/upr_submission").glob("letter.*.md"):
        text = re.sub(r"(?s)\[attachments\].*?\+\+\+", "+++", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
    said = r"problem: the largest letter has 12\.\d+ MB on the wire; a Postfix of one's own takes at most 10\.24 MB\n"
    found = dispatcher("check", folder=folder)
    assert re.search(said + r"  at campaign.toml, relay.profile = postfix, recipient \w+", found.err)
    assert found.code == 2
    assert re.search(said, dispatcher("send", folder=folder).err)


def test_the_forecast_stands_in_check_and_in_a_dry_run(folder: Path) -> None:
    pace(folder, 'rate = "2/min"\nquota = 4')
    for done in (check(folder), dispatcher("send", folder=folder)):
        first, second = (line for line in done.out.splitlines() if "letters at" in line or "of them before" in line)
        assert re.fullmatch(rf"6 letters at 2/min and 4 a day: done {WHEN}\.", first)
        wanted = rf"4 of them before the quota is used up; more from {WHEN} on, by another send or with --wait\."
        assert re.fullmatch(wanted, second)
    for data in (check(folder, "--json").json, dispatcher("send", "--json", folder=folder).json):
        found = data["forecast"]
        assert (found["letters"], found["first"]) == (6, 4)
        done_at, resumes = (datetime.fromisoformat(found[name]) for name in ("done_at", "resumes_at"))
        assert done_at - resumes == timedelta(seconds=30)
        assert timedelta(hours=23.9) < resumes - datetime.now(UTC) < timedelta(hours=24.1)


def test_nothing_is_said_where_nothing_holds_back(folder: Path) -> None:
    pace(folder, "connections = 2")
    for done in (check(folder), dispatcher("send", folder=folder)):
        assert "letters at" not in done.all
    assert check(folder, "--json").json["forecast"] is None
    assert dispatcher("send", "--json", folder=folder).json["forecast"] is None


def test_a_rate_for_a_domain_that_nobody_has_is_told(folder: Path) -> None:
    pace(folder, '[pace.domains]\n"missions.example.org" = "20/min"\n"misions.example.org" = "20/min"\n"*" = "5/s"')
    out = check(folder).out
    assert "note: no letter goes to misions.example.org, which has a rate under [pace.domains]\n" in out
    assert "goes to missions" not in out


def test_the_sandbox_has_no_forecast(folder: Path) -> None:
    pace(folder, 'rate = "1/day"')
    not_after(folder, timedelta(hours=1))
    done = check(folder, "--sandbox")
    assert (done.code, "letters at" in done.all) == (0, False)
    assert dispatcher("send", "--sandbox", folder=folder).code == 0


def test_a_real_run_says_it_on_stderr_and_in_its_json(folder: Path, server: SmtpServer) -> None:
    pace(folder, 'rate = "600/min"')
    done = dispatcher("send", "--limit", "2", "--confirm", "2", folder=folder)
    assert re.search(rf"(?m)^2 letters at 600/min: done {WHEN}\.$", done.err)
    assert "letters at" not in done.out
    result = dispatcher("send", "--confirm", "4", "--json", folder=folder)
    assert (result.json["forecast"]["letters"], result.json["accepted"]) == (4, 6)
    assert len(server.stored) == 6


def test_what_is_used_up_is_counted(folder: Path, server: SmtpServer) -> None:
    pace(folder, "quota = 3")
    assert dispatcher("send", "--limit", "2", "--confirm", "2", folder=folder).code == 0
    out = dispatcher("send", folder=folder).out
    assert re.search(r"4 letters at 3 a day \(2 used in the last 24 hours\): done ", out)
    assert "1 of them before the quota is used up" in out
    assert len(server.stored) == 2


def test_a_deadline_that_cannot_be_met_is_a_problem(folder: Path, server: SmtpServer) -> None:
    """Of check, and of send in whatever form; what can leave in time may."""
    pace(folder, 'rate = "2/hr"')
    not_after(folder, timedelta(hours=1))
    done = check(folder)
    assert done.code == 2
    for found in (done, dispatcher("send", folder=folder), dispatcher("send", "--confirm", "6", folder=folder)):
        assert found.code == 2
        assert "not_after cannot be met: 2 of 6 letters can leave before " in found.err
        assert "--limit 2" in found.err
    problems = check(folder, "--json").json["problems"]
    assert [p["where"] for p in problems] == ["campaign.toml, key not_after"]
    assert dispatcher("send", "--limit", "2", "--json", folder=folder).json["to_send"] == 2
    assert server.stored == []


def test_a_deadline_that_can_be_met_is_none(folder: Path) -> None:
    pace(folder, 'rate = "2/hr"\nquota = 6')
    not_after(folder, timedelta(hours=3))
    assert check(folder).code == 0
    assert dispatcher("send", folder=folder).code == 0


@pytest.mark.parametrize("sealed", [False, True])
def test_the_rate_of_a_domain_decides(folder: Path, server: SmtpServer, *, sealed: bool) -> None:
    """Also of a plan that is sealed, and of a choice."""
    if sealed:
        assert dispatcher("send", "--limit", "1", "--confirm", "1", folder=folder).code == 0
    pace(folder, 'rate = "600/min"\n[pace.domains]\n"missions.example.org" = "1/hr"')
    letters = json.loads(dispatcher("send", "--json", folder=folder).out)["to_send"]
    out = dispatcher("send", folder=folder).out
    assert re.search(rf"{letters} letters at 600/min and 1/hr to missions\.example\.org: done {WHEN}\.", out)
    one = dispatcher("send", "--only", 'key == "KHM"', "--json", folder=folder).json["forecast"]
    assert datetime.fromisoformat(one["done_at"]) - datetime.now(UTC) < timedelta(minutes=1)
    not_after(folder, timedelta(minutes=90))
    assert re.search(r"not_after cannot be met: 3 of \d letters can leave before ", check(folder).err)
    assert len(server.stored) == int(sealed)


def test_a_test_that_meets_the_quota_says_so(folder: Path) -> None:
    spent = b"550 5.4.5 Daily user sending limit exceeded\r\n"
    with SmtpServer(Script(on={"DOT": spent})) as server:
        use_server(folder, server)
        edit(folder / "campaign.toml", "[relay]\n", '[relay]\nprofile = "gmail"\n')
        done = dispatcher("send", "--test-to", "me@kms.example.org", "--limit", "1", folder=folder)
    assert done.code == 3
    assert "deferred (550 5.4.5 Daily user sending limit exceeded (the account's quota there is used up))" in done.out
