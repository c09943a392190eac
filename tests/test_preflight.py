"""`dispatcher preflight`: the table, this machine, the letters, and the relay, which is met and sent nothing."""

import json
import os
import platform
import re
import sqlite3
import ssl
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trustme

from benchmarks.receiver import far_away
from dispatcher.core.machine import LETTER_OF_LEDGER, LIBRARIES, Machine, machine_lines, needed
from dispatcher.core.model import SessionInfo
from dispatcher.core.preflight import Line, Status
from dispatcher.core.probe import Probe, at_least
from dispatcher.desk import Desk
from dispatcher.desk.preflight import preflight
from tests import canary
from tests.campaigns import write_campaign
from tests.command import Done, dispatcher, edit, new_campaign, read_list, set_relay, tree, use_server, write_list
from tests.servers import Login
from tests.servers.aiosmtpd import Aiosmtpd
from tests.servers.names import NameServer
from tests.servers.postfix import Postfix
from tests.smtp_server import CLOSE, RESET, Script, SmtpServer
from tests.test_look import with_text
from tests.test_session import FakeClock

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PASSWORD = canary.PASSWORD
LOGIN = ("upr@kms.example.org", PASSWORD)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


def line(done: Done, part: str, subject: str) -> dict[str, Any]:
    """The one line about this."""
    (found,) = (row for row in done.json["lines"] if (row["part"], row["subject"]) == (part, subject))
    return dict(found)


def secured(folder: Path, server_script: Script, *, until: datetime | None = None) -> SmtpServer:
    """A relay with STARTTLS and AUTH, whose authority the campaign trusts."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_after=until).configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    script = Script(on=server_script.on, ehlo=server_script.ehlo, tls=context, login=LOGIN)
    server = SmtpServer(script)
    set_relay(
        folder,
        f'host = "127.0.0.1"\nport = {server.port}\nsecurity = "starttls"\nuser = "{LOGIN[0]}"\n'
        'password = { env = "DISPATCHER_PASSWORD" }\nca_file = "authority.pem"',
    )
    return server


# The table.


def test_all_is_well_and_no_letter_is_sent(folder: Path) -> None:
    """Exit 0, every part has its lines, nothing is written, and the relay never hears DATA."""
    before = tree(folder)
    with SmtpServer() as server:
        use_server(folder, server)
        before = tree(folder)
        done = dispatcher("preflight", folder=folder)
        assert done.code == 0, done
        verbs = [command.split()[0] for command in server.commands]
        assert verbs == [b"EHLO", b"NOOP", b"NOOP", b"NOOP", b"MAIL", b"RCPT", b"RSET", b"QUIT"]
        assert b"RCPT TO:<upr@kms.example.org>" in server.commands
        assert server.stored == []
    assert tree(folder) == before
    assert re.search(r"(?m)^machine\n", done.out)
    assert re.search(r"(?m)^  ok +connection +127\.0\.0\.1:\d+ answers; a round trip takes [\d.]+ ms$", done.out)
    assert re.search(r"(?m)^  ok +check +6 letters, the largest \d+ kB; dispatcher check says more$", done.out)
    assert re.search(r"(?m)^  ok +pace +6 letters at 36,000/min and 300 a day: done .*\.$", done.out)
    assert re.search(r"No letter was sent\. Next: dispatcher send\n$", done.out)


def test_json_holds_every_line(folder: Path) -> None:
    with SmtpServer() as server:
        use_server(folder, server)
        done = dispatcher("preflight", "--json", folder=folder)
    found = done.json
    assert found["ok"] + found["warning"] + found["problem"] == len(found["lines"])
    assert found["exit_code"] == done.code == 0
    assert {row["part"] for row in found["lines"]} >= {"machine", "letters", "relay"}
    assert all(row["what"] and row["subject"] for row in found["lines"])


def test_a_problem_is_exit_2_with_what_to_do(folder: Path) -> None:
    done = dispatcher("preflight", folder=folder)
    assert done.code == 2
    assert re.search(
        r"(?m)^  problem +connection +CONNECT: .*\n +→ Check host \(127\.0\.0\.1\) and port \(1\)", done.out
    )
    assert "1 problem" in done.err
    assert dispatcher("preflight", "--json", folder=folder).json["exit_code"] == 2


def test_with_the_sandbox_nobody_is_met(folder: Path) -> None:
    done = dispatcher("preflight", "--sandbox", "--json", folder=folder)
    assert done.code == 0
    assert line(done, "relay", "connection")["what"] == "the embedded sandbox, which captures everything"
    assert not (folder / ".dispatcher").exists()


def test_letters_on_paper_need_no_relay(folder: Path) -> None:
    columns, rows = read_list(folder, "un_missions.csv")
    write_list(folder, "un_missions.csv", [*columns, "channel"], [{**row, "channel": "paper"} for row in rows])
    write_list(folder, "ngos.csv", read_list(folder, "ngos.csv")[0], [])
    with SmtpServer() as server:
        use_server(folder, server)
        done = dispatcher("preflight", "--json", folder=folder)
        assert server.seen == []
    assert line(done, "relay", "connection")["what"] == "not met: every letter goes on paper"
    assert done.code == 0


# The letters.


def test_remarks_of_check_are_warnings(tmp_path: Path) -> None:
    """With what to do, as check says it; they stop nothing."""
    folder = with_text(tmp_path, "We send it to , as agreed.")
    (remark,) = dispatcher("check", "--json", folder=folder).json["remarks"]
    done = dispatcher("preflight", "--sandbox", "--json", folder=folder)
    (found,) = (row for row in done.json["lines"] if (row["subject"], row["status"]) == ("check", "warning"))
    assert (found["what"].partition(": ")[0], found["todo"]) == (remark["where"], remark["todo"])
    assert remark["what"] in found["what"]
    assert done.code == 0


def test_what_check_says_is_said(folder: Path) -> None:
    """Problems of the plan, and remarks that are none."""
    edit(folder / "recipients" / "ngos.csv", "@", " at ")
    done = dispatcher("preflight", "--sandbox", "--json", folder=folder)
    assert done.code == 2
    found = line(done, "letters", "check")
    assert found["status"] == "problem"
    assert "recipients/ngos.csv:2" in found["what"]


# The machine.


def lines(**facts: Any) -> dict[str, Line]:
    usual: dict[str, Any] = {
        "python": (3, 13, 12), "sqlite": (3, 51, 3), "openssl": (3, 5, 4), "libraries": {}, "now": NOW, "last": None,
        "free": 10**12, "needed": 10**8, "loose": (),
    }  # fmt: skip
    return {line.subject: line for line in machine_lines(Machine(**{**usual, **facts}))}


def test_a_sound_machine() -> None:
    assert {line.status for line in lines().values()} == {Status.OK}


@pytest.mark.parametrize(
    ("facts", "subject", "status", "words"),
    [
        ({"python": (3, 11, 7)}, "Python", Status.WARNING, "CVE-2024-6923"),
        ({"python": (3, 11, 10)}, "Python", Status.WARNING, "CVE-2026-1299"),
        ({"python": (3, 11, 15)}, "Python", Status.OK, "3.11.15"),
        ({"python": (3, 12, 4)}, "Python", Status.WARNING, "CVE-2024-6923"),
        ({"python": (3, 14, 2)}, "Python", Status.WARNING, "CVE-2026-1299"),
        ({"openssl": (3, 0, 6)}, "OpenSSL", Status.WARNING, "CVE-2022-3602"),
        ({"openssl": (3, 0, 8)}, "OpenSSL", Status.OK, "3.0.8"),
        ({"openssl": (1, 1, 1)}, "OpenSSL", Status.WARNING, "no public mends"),
        ({"openssl": (4, 0, 2)}, "OpenSSL", Status.WARNING, "CVE-2026-84783"),
        (
            {"sqlite": (3, 40, 1)},
            "SQLite",
            Status.OK,
            "CVE-2025-6965 needs others' SQL, and none is run; the WAL-reset",
        ),
        ({"sqlite": (3, 51, 2)}, "SQLite", Status.OK, "3.51.2; the WAL-reset bug needs two programs that write"),
        ({"libraries": {"Jinja2": (3, 1, 5)}}, "Jinja2", Status.WARNING, "CVE-2025-27516"),
        ({"libraries": {"Jinja2": (3, 1, 6)}}, "Jinja2", Status.OK, "3.1.6"),
        (
            {"libraries": {"aiosmtplib": (5, 1, 0)}},
            "aiosmtplib",
            Status.WARNING,
            "an address can give the relay orders",
        ),
        ({"libraries": {"aiosmtplib": (5, 1, 1)}}, "aiosmtplib", Status.WARNING, "GHSA-vxj7-4xrp-5vr4"),
        ({"libraries": {"aiosmtpd": (1, 4, 4)}}, "aiosmtpd", Status.WARNING, "CVE-2024-27305"),
        ({"last": NOW + timedelta(hours=1)}, "clock", Status.PROBLEM, "this clock is slow"),
        ({"last": NOW + timedelta(seconds=30)}, "clock", Status.OK, ""),
        ({"free": 10**7}, "disk", Status.PROBLEM, "0.0 GB free; the run may take 0.1 GB"),
        ({"free": None}, "disk", Status.WARNING, "unknown"),
        ({"loose": (("x", "chmod go-rwx x"),)}, "file rights", Status.WARNING, "others on this machine may get at: x"),
    ],
)
def test_what_is_said_of_a_machine(facts: dict[str, Any], subject: str, status: Status, words: str) -> None:
    found = lines(**facts)[subject]
    assert found.status is status
    assert words in found.what
    assert (found.todo == "") is (status is Status.OK)


def test_a_run_wants_room_for_its_letters_and_their_files() -> None:
    assert needed(1000, 0) - needed(0, 0) == 1000 * LETTER_OF_LEDGER
    assert needed(0, 2_000_000) - needed(0, 0) == 2_000_000
    assert needed(0, 0) > 10_000_000, "the ledger's log and reserve"


def test_a_clock_that_is_behind_the_ledger_is_a_problem(folder: Path) -> None:
    """By the real ledger's newest moment."""
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    found = {line.subject: line for line in preflight(Desk(folder, sandbox=True, clock=FakeClock())).lines}
    assert found["clock"].status is Status.PROBLEM
    assert "2009-10-01" in found["clock"].what
    assert "this clock is slow" in found["clock"].what


@pytest.mark.skipif(os.name != "posix", reason="there are no such rights")
def test_settings_that_others_may_write_are_named_if_they_say_what_is_run(folder: Path) -> None:
    set_relay(folder, 'host = "relay.invalid"\nport = 587\nuser = "o"\npassword = { command = ["true"] }')
    (folder / "campaign.toml").chmod(0o664)
    found = line(dispatcher("preflight", "--sandbox", "--json", folder=folder), "machine", "file rights")
    assert (found["status"], found["todo"]) == ("warning", "run: chmod go-w campaign.toml")


def test_a_library_that_does_not_say_its_version_is_unknown() -> None:
    found = lines(libraries={"Jinja2": ()})["Jinja2"]
    assert (found.status, found.what) == (Status.WARNING, "unknown: it does not say which version it is")


def test_the_versions_are_those_in_use(folder: Path) -> None:
    """OpenSSL's as it says it itself; the libraries' as they are installed."""
    done = dispatcher("preflight", "--sandbox", "--json", folder=folder)
    said = {row["subject"]: row["what"] for row in done.json["lines"] if row["part"] == "machine"}
    number = re.match(r"OpenSSL (\d+\.\d+\.\d+)", ssl.OPENSSL_VERSION)
    assert number
    assert said["OpenSSL"].partition(":")[0] == number[1]
    for name in LIBRARIES:
        assert said[name] == version(name)
    assert said["SQLite"].partition(";")[0] == sqlite3.sqlite_version
    assert said["Python"].partition(":")[0] == platform.python_version()


@pytest.mark.skipif(os.name != "posix", reason="there are no such rights")
def test_a_ledger_that_others_may_read_is_named(folder: Path) -> None:
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    done = dispatcher("preflight", "--sandbox", "--json", folder=folder)
    assert line(done, "machine", "file rights")["status"] == "ok"
    (folder / ".dispatcher" / "sandbox" / "ledger.sqlite").chmod(0o644)
    found = line(dispatcher("preflight", "--sandbox", "--json", folder=folder), "machine", "file rights")
    assert found["status"] == "warning"
    assert found["todo"] == "run: chmod go-rwx .dispatcher/sandbox/ledger.sqlite"


# The relay.


def test_over_tls_with_a_login(folder: Path) -> None:
    with secured(folder, Script(), until=datetime.now(UTC) + timedelta(days=40)) as server:
        done = dispatcher("preflight", "--json", folder=folder, env={"DISPATCHER_PASSWORD": PASSWORD})
        assert done.code == 0, done
        assert server.stored == []
    assert line(done, "relay", "login")["what"] == "upr@kms.example.org was let in with the password"
    said = line(done, "relay", "TLS")["what"]
    assert re.fullmatch(r"TLSv1\.[23], certificate of 127\.0\.0\.1 for 39 more days, until \d{4}-\d\d-\d\d", said)
    assert PASSWORD not in done.all


def test_the_round_trip_is_measured(folder: Path) -> None:
    """Over a way that takes 40 ms there and back."""
    with SmtpServer() as server, far_away(server.port, 40) as port:
        set_relay(folder, f'host = "127.0.0.1"\nport = {port}\nsecurity = "none"')
        said = line(dispatcher("preflight", "--json", folder=folder), "relay", "connection")["what"]
    found = re.search(r"a round trip takes ([\d.]+) ms", said)
    assert found
    assert float(found[1]) >= 40


def test_a_round_trip_that_could_not_be_measured_is_unknown(folder: Path) -> None:
    with SmtpServer(Script(on={"NOOP": (RESET,)})) as server:
        set_relay(folder, f'host = "127.0.0.1"\nport = {server.port}\nsecurity = "none"')
        said = line(dispatcher("preflight", "--json", folder=folder), "relay", "connection")["what"]
    assert said.endswith("a round trip takes an unknown time")


@pytest.mark.parametrize(
    ("offers", "trips"), [((), 4), (("PIPELINING",), 1), (("CHUNKING",), 4), (("PIPELINING", "CHUNKING"), 0.5)]
)
def test_how_long_it_takes_at_least(offers: tuple[str, ...], trips: float) -> None:
    """By the round trip alone: what the conversation takes on the wire (test_conversation.py)."""
    info = SessionInfo("relay.example", 25, features=dict.fromkeys(offers, ""))
    assert at_least(1000, Probe(info, None, None, None, 0.04), 4) == 1000 * trips * 0.04 / 4


def test_without_a_pace_the_relay_alone_is_waited_for(tmp_path: Path) -> None:
    with SmtpServer() as server, far_away(server.port, 40) as port:
        relay = f'host = "127.0.0.1"\nport = {port}\nsecurity = "none"\n'
        done = dispatcher("preflight", "--json", folder=write_campaign(tmp_path, relay=relay))
    said = line(done, "relay", "pace")["what"]
    found = re.fullmatch(
        r"nothing holds the letters back but the relay: 4 take ([\d.]+) s at least, over 4 connections", said
    )
    assert found, said
    assert float(found[1]) >= 4 * 4 * 0.04 / 4 - 0.05


def test_a_name_that_leads_nowhere(folder: Path) -> None:
    set_relay(folder, 'host = "relay.invalid"\nport = 587\nsecurity = "starttls"')
    done = dispatcher("preflight", "--json", folder=folder)
    assert done.code == 2
    found = line(done, "relay", "connection")
    assert (found["status"], found["what"].partition(":")[0]) == ("problem", "CONNECT")
    assert "Check host (relay.invalid)" in found["todo"]


def test_a_certificate_that_ends_soon_is_a_warning(folder: Path) -> None:
    with secured(folder, Script(), until=datetime.now(UTC) + timedelta(days=5, hours=1)):
        done = dispatcher("preflight", "--json", folder=folder, env={"DISPATCHER_PASSWORD": PASSWORD})
    assert done.code == 0
    found = line(done, "relay", "TLS")
    assert (found["status"], "for 5 more days" in found["what"]) == ("warning", True)
    assert "ask whoever runs the relay to renew it" in found["todo"]


def test_a_certificate_that_has_ended(folder: Path) -> None:
    with secured(folder, Script(), until=datetime.now(UTC) - timedelta(days=1)) as server:
        done = dispatcher("preflight", "--json", folder=folder, env={"DISPATCHER_PASSWORD": PASSWORD})
        assert not any(command.startswith(b"MAIL") for command in server.commands)
    assert done.code == 2
    found = line(done, "relay", "TLS")
    assert "the relay's certificate is not good: certificate has expired" in found["what"]
    assert found["status"] == "problem"
    assert "Ask whoever runs the relay to renew it" in found["todo"]


def test_a_wrong_password_is_found(folder: Path) -> None:
    with secured(folder, Script()):
        done = dispatcher("preflight", "--json", folder=folder, env={"DISPATCHER_PASSWORD": "wrong"})
    assert done.code == 2
    found = line(done, "relay", "login")
    assert found["what"] == "AUTH: 535 5.7.8 not you"
    assert "Check user (upr@kms.example.org) under [relay]" in found["todo"]


def test_a_forgotten_password_is_found(folder: Path) -> None:
    with secured(folder, Script()) as server:
        done = dispatcher("preflight", "--json", folder=folder)
        assert not any(command.startswith((b"AUTH", b"MAIL")) for command in server.commands)
    assert done.code == 2
    assert line(done, "relay", "login")["what"] == "the environment variable DISPATCHER_PASSWORD is not set"


@pytest.mark.parametrize(
    ("on", "subject", "status", "words"),
    [
        ({"MAIL": b"550 5.7.1 not your sender\r\n"}, "sender", "problem", "550 5.7.1 not your sender to MAIL"),
        ({"MAIL": b"452 4.3.1 no room\r\n"}, "sender", "warning", "refused for now: 452 4.3.1"),
        ({"MAIL": CLOSE}, "sender", "problem", "the relay broke off"),
        ({"RCPT": b"554 5.7.1 access denied\r\n"}, "recipient", "problem", "554 5.7.1 access denied to RCPT"),
        ({"RCPT": b"450 4.2.0 greylisted\r\n"}, "recipient", "warning", "refused for now: 450 4.2.0 greylisted"),
        ({"RCPT": CLOSE}, "recipient", "problem", "the relay broke off"),
        ({"CONNECT": b"421 4.3.2 not now\r\n"}, "connection", "problem", "GREETING: 421 4.3.2 not now"),
        ({"EHLO": CLOSE}, "connection", "problem", "EHLO: "),
        ({"NOOP": b"502 5.5.1 not known\r\n"}, "connection", "ok", "answers"),
        ({"RSET": CLOSE}, "recipient", "ok", "takes RCPT TO:<upr@kms.example.org>"),
    ],
)  # fmt: skip
def test_a_relay_that_refuses(folder: Path, on: dict[str, Any], subject: str, status: str, words: str) -> None:
    with SmtpServer(Script(on=on)) as server:
        use_server(folder, server)
        done = dispatcher("preflight", "--json", folder=folder)
        assert server.stored == []
    found = line(done, "relay", subject)
    assert (found["status"], words in found["what"]) == (status, True), found
    if status == "warning":
        assert "a grey list does so to whom it does not know" in found["todo"]
    elif words[:1] == "5":
        own = "use a return path (or address) under [sender]"
        assert (own if subject == "sender" else "what refuses you refuses others too") in found["todo"]
    assert done.code == (2 if status == "problem" else 0)


def test_the_largest_letter_against_what_the_relay_takes(folder: Path) -> None:
    """And the size goes with MAIL, so that the relay itself can object."""
    with SmtpServer(Script(ehlo=("SIZE 100000",))) as server:
        use_server(folder, server)
        found = line(dispatcher("preflight", "--json", folder=folder), "relay", "size")
        assert found["status"] == "ok"
        (mail,) = (command for command in server.commands if command.startswith(b"MAIL"))
        size = int(mail.rpartition(b"SIZE=")[2])
        assert f"{size / 1e6:,.2f} MB on the wire; the relay takes 0.10 MB" in found["what"]
    with SmtpServer(Script(ehlo=(f"SIZE {size - 1}",))) as server:
        use_server(folder, server)
        done = dispatcher("preflight", "--json", folder=folder)
        found = line(done, "relay", "size")
        assert (done.code, found["status"]) == (2, "problem")
        assert not any(b"SIZE=" in command for command in server.commands)


def test_a_real_relay(folder: Path) -> None:
    """Postfix: session and transaction are taken, and its log knows of no letter."""
    with Postfix() as server:
        set_relay(folder, f'host = "{server.host}"\nport = {server.port}\n{server.relay(folder)}')
        done = dispatcher("preflight", "--json", folder=folder)
        assert done.code == 0, done
        assert line(done, "relay", "recipient")["what"].startswith("takes RCPT TO:<upr@kms.example.org>")
        assert "PIPELINING, CHUNKING, SIZE, 8BITMIME, SMTPUTF8, DSN" in line(done, "relay", "features")["what"]
        assert server.stored == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_real_login(folder: Path, mechanism: str) -> None:
    login = Login(mechanism)
    with Aiosmtpd(login=login) as server:
        set_relay(folder, f'host = "{server.host}"\nport = {server.port}\n{server.relay(folder)}')
        done = dispatcher("preflight", "--json", folder=folder)
        assert done.code == 0, done
        assert line(done, "relay", "login")["status"] == "ok"
        assert server.stored == []
    assert login.secret not in done.all


def test_tls_that_was_there_before_is_missed(folder: Path) -> None:
    """The same alarm as when sending; and none without a ledger that would know."""
    with SmtpServer() as server:
        set_relay(folder, f'host = "127.0.0.1"\nport = {server.port}')
        done = dispatcher("preflight", "--json", folder=folder)
    found = line(done, "relay", "TLS")
    assert found["what"] == "STARTTLS: the relay does not offer STARTTLS; nothing was sent"
    assert "ALARM" not in found["todo"]


# Before a `send`.


def events(folder: Path) -> list[tuple[str, str, str, str]]:
    status = dispatcher("status", "--json", folder=folder).json
    return [(row["kind"], row["subject"], row["who"], row["why"]) for row in status["decisions"]]


def test_send_looks_first_and_then_sends(folder: Path) -> None:
    """One connection is for looking; what it found is one line."""
    with SmtpServer() as server:
        use_server(folder, server)
        done = dispatcher("send", "--confirm", "6", folder=folder)
        assert done.code == 0, done
        assert len(server.stored) == 6
        first = [seen.octets for seen in server.seen if seen.connection == 1 and seen.what == "command"]
        assert [command[:4] for command in first[-4:]] == [b"MAIL", b"RCPT", b"RSET", b"QUIT"]
        looked = min(n for n, seen in enumerate(server.seen) if seen.octets == b"QUIT")
        assert all(seen.connection == 1 for seen in server.seen[:looked])
    assert not [kind for kind, *_ in events(folder) if kind == "preflight skipped"]


@pytest.mark.parametrize(
    ("on", "code", "words"),
    [
        ({"CONNECT": b"554 5.7.1 go away\r\n"}, 4, "GREETING: 554 5.7.1 go away\n  → Check host"),
        ({"MAIL": b"550 5.7.1 not your sender\r\n"}, 2, "problem: relay, sender: 550 5.7.1 not your sender to MAIL"),
        ({"RCPT": b"554 5.7.1 access denied\r\n"}, 2, "problem: relay, recipient: 554 5.7.1 access denied to RCPT"),
    ],
)
def test_send_stops_on_a_problem_and_nothing_is_sealed(folder: Path, on: dict[str, Any], code: int, words: str) -> None:
    with SmtpServer(Script(on=on)) as server:
        use_server(folder, server)
        done = dispatcher("send", "--confirm", "6", folder=folder)
        as_json = dispatcher("send", "--confirm", "6", "--json", folder=folder)
        assert server.stored == []
    assert (done.code, as_json.code) == (code, code)
    assert words in done.err
    assert "--skip-preflight" in done.err
    assert as_json.json["exit_code"] == code
    assert not (folder / ".dispatcher").exists()


def test_send_stops_where_the_domain_forbids_it(folder: Path) -> None:
    """With the record that would mend it; a dry run asks nobody."""
    zone = '@ MX 10 mail\nmail A 192.0.2.25\n@ TXT "v=spf1 -all"'
    with SmtpServer() as server, NameServer({"kms.example.org": zone}) as names:
        set_relay(
            folder,
            f'host = "127.0.0.1"\nport = {server.port}\nsecurity = "none"\n\n[preflight]\n'
            f'relay_addresses = ["192.0.2.25"]\nresolver = "{names.address}"',
        )
        assert dispatcher("send", folder=folder).code == 0
        assert (server.seen, names.asked) == ([], [])
        done = dispatcher("send", "--confirm", "6", folder=folder)
        assert done.code == 2
        assert "problem: sender, SPF: 192.0.2.25 gets fail: -all of kms.example.org" in done.err
        assert 'publish: kms.example.org. 3600 IN TXT "v=spf1 ip4:192.0.2.25 -all"' in done.err
        assert server.stored == []


def test_a_warning_stops_nothing(folder: Path) -> None:
    with SmtpServer(Script(on={"RCPT": [b"450 4.2.0 greylisted\r\n", b"250 ok\r\n"]})) as server:
        use_server(folder, server)
        done = dispatcher("send", "--confirm", "6", folder=folder)
        assert done.code == 0
        assert len(server.stored) == 6
    assert re.search(r"(?m)^Looked at before: \d warnings?; see: dispatcher preflight$", done.err)


def test_whoever_stays_waits_for_what_may_pass(folder: Path) -> None:
    """A relay that is busy is met again by the run."""
    with SmtpServer(Script(on={"CONNECT": [b"421 4.3.2 not now\r\n", b"220 hello\r\n"]})) as server:
        use_server(folder, server)
        assert dispatcher("send", "--confirm", "6", "--wait", folder=folder).code == 0
        assert len(server.stored) == 6


def test_a_wrong_password_is_not_waited_for(folder: Path) -> None:
    with secured(folder, Script()):
        done = dispatcher("send", "--confirm", "6", "--wait", folder=folder, env={"DISPATCHER_PASSWORD": "wrong"})
    assert done.code == 4
    assert "AUTH: 535 5.7.8 not you" in done.err
    assert "Nothing was sent. See all: dispatcher preflight; to send without it: --skip-preflight" in done.err
    assert not (folder / ".dispatcher").exists()


@pytest.mark.parametrize("words", [(), ("--skip-preflight",)])
def test_a_command_that_prints_the_secret_runs_once(folder: Path, words: tuple[str, ...]) -> None:
    """For looking first, and for every connection of the run: it may ask a person each time."""
    halves = f"{PASSWORD[:5]!r} + {PASSWORD[5:]!r}"  # whole it is in no file
    (folder / "print.py").write_text(f"open('runs', 'a').write('x')\nprint({halves})\n")
    with secured(folder, Script()) as server:
        command = f"command = [{json.dumps(sys.executable)}, 'print.py']"
        edit(folder / "campaign.toml", 'env = "DISPATCHER_PASSWORD"', command)
        done = dispatcher("send", "--confirm", "6", *words, folder=folder)
        assert done.code == 0, done
        assert len(server.stored) == 6
        assert sum(command.startswith(b"AUTH") for command in server.commands) >= (1 if words else 2)
    assert (folder / "runs").read_text() == "x"


def test_a_skipped_preflight_is_recorded(folder: Path) -> None:
    """By name; and only then is the relay not asked beforehand."""
    with SmtpServer() as server:
        use_server(folder, server)
        done = dispatcher("send", "--confirm", "6", "--skip-preflight", folder=folder)
        assert done.code == 0
        assert not any(command == b"NOOP" for command in server.commands)
    skipped = ("preflight skipped", "upr-cambodia-2009", "keeper", "--skip-preflight")
    assert events(folder).count(skipped) == 1


@pytest.mark.parametrize("words", [("--sandbox",), ("--test-to", "me@tester.example")])
def test_there_is_nothing_to_skip_without_letters(folder: Path, words: tuple[str, ...]) -> None:
    done = dispatcher("send", "--skip-preflight", *words, folder=folder)
    assert done.code == 2
    assert "--skip-preflight is for real letters alone" in done.err


def test_the_size_of_a_sealed_letter_is_known(folder: Path) -> None:
    """A plan that is read from the ledger is held against the relay, too."""
    with SmtpServer() as server:
        use_server(folder, server)
        assert dispatcher("send", "--limit", "1", "--confirm", "1", folder=folder).code == 0
        assert dispatcher("send", "--confirm", "5", folder=folder).code == 0
        sizes = [command.rpartition(b"SIZE=")[2] for command in server.commands if command.startswith(b"MAIL")]
        assert sizes[0] == sizes[2]
