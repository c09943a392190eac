"""`dispatcher preflight`: the table, this machine, the letters, and the relay, which is met and sent nothing."""

import os
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from dispatcher.core.machine import Machine, machine_lines
from dispatcher.core.preflight import Line, Status
from tests import canary
from tests.command import Done, dispatcher, edit, new_campaign, set_relay, tree, use_server
from tests.servers import Login
from tests.servers.aiosmtpd import Aiosmtpd
from tests.servers.postfix import Postfix
from tests.smtp_server import CLOSE, Script, SmtpServer

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


# The letters.


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
        "python": (3, 13, 9), "sqlite": (3, 51, 3), "openssl": (3, 5, 4), "now": NOW, "last": None, "free": 10**12,
        "needed": 10**8, "loose": (),
    }  # fmt: skip
    return {line.subject: line for line in machine_lines(Machine(**{**usual, **facts}))}


def test_a_sound_machine() -> None:
    assert {line.status for line in lines().values()} == {Status.OK}


@pytest.mark.parametrize(
    ("facts", "subject", "status", "words"),
    [
        ({"python": (3, 11, 7)}, "Python", Status.WARNING, "CVE-2024-6923"),
        ({"python": (3, 11, 10)}, "Python", Status.OK, "3.11.10"),
        ({"python": (3, 12, 4)}, "Python", Status.WARNING, "CVE-2024-6923"),
        ({"openssl": (3, 0, 6)}, "OpenSSL", Status.WARNING, "CVE-2022-3602"),
        ({"openssl": (1, 1, 1)}, "OpenSSL", Status.WARNING, "no public mends"),
        ({"sqlite": (3, 40, 1)}, "SQLite", Status.OK, "WAL-reset bug (before 3.51.3) cannot be met here"),
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
    assert (found.todo == "") is (status is Status.OK or facts.get("free", 0) is None)


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


def test_a_certificate_that_ends_soon_is_a_warning(folder: Path) -> None:
    with secured(folder, Script(), until=datetime.now(UTC) + timedelta(days=5, hours=1)):
        done = dispatcher("preflight", "--json", folder=folder, env={"DISPATCHER_PASSWORD": PASSWORD})
    assert done.code == 0
    found = line(done, "relay", "TLS")
    assert (found["status"], "for 5 more days" in found["what"]) == ("warning", True)
    assert "renew it" in found["todo"]


def test_a_certificate_that_has_ended(folder: Path) -> None:
    with secured(folder, Script(), until=datetime.now(UTC) - timedelta(days=1)) as server:
        done = dispatcher("preflight", "--json", folder=folder, env={"DISPATCHER_PASSWORD": PASSWORD})
        assert not any(command.startswith(b"MAIL") for command in server.commands)
    assert done.code == 2
    found = line(done, "relay", "TLS")
    assert "certificate has expired" in found["what"]
    assert found["status"] == "problem"


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
