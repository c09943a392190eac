"""Postfix as the relay: letters too large, mailboxes it does not know, connections it does not serve."""

import smtplib
import socket
import time
from pathlib import Path

import pytest

from tests.command import edit
from tests.servers import RealServer
from tests.servers.postfix import SIZE, Postfix
from tests.servers.tap import Tap
from tests.torture import Leap, judge, query, run, write_campaign

LETTERS = 20
MANY = 300  # enough for more connections than two
LONG = "many words " * 2900
REFUSALS = {"k00003": "450 4.2.0 later", "k00005": "550 5.1.1 unknown", "nobody": "550 5.1.1 unknown"}


def campaign(folder: Path, server: RealServer) -> Path:
    return write_campaign(folder, server.port, LETTERS, relay=server.relay(folder), pace="connections = 4")


def reasons(folder: Path) -> dict[str, str]:
    """Why letters are where they are, those that were accepted aside."""
    return dict(query(folder, "SELECT key, reason FROM letter WHERE state <> 'accepted'"))


MODES = ("silent-discard", "chunking", "chunking, pipelining")
"""What Postfix hides of what it can do: nothing, so that BDAT is used; CHUNKING; PIPELINING too."""


# The relay itself: what the other tests rest on.


def test_it_is_the_relay_it_is_meant_to_be() -> None:
    with Postfix() as server, smtplib.SMTP(server.host, server.port) as client:
        client.ehlo()
        for keyword in ("PIPELINING", "CHUNKING", "STARTTLS", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"):
            assert client.has_extn(keyword)
        assert client.esmtp_features["size"] == str(SIZE)


@pytest.mark.parametrize("text", [b"smuggled\n.\r\nMAIL FROM:<c@one.example>\r\n", b"bare\nnewline\r\n"])
@pytest.mark.parametrize("chunked", [False, True])
def test_it_refuses_a_bare_newline(text: bytes, *, chunked: bool) -> None:
    """S03: a letter that held one would not pass; those of the other tests pass."""
    body = b"Subject: x\r\n\r\n" + text
    with Postfix() as server, socket.create_connection((server.host, server.port)) as sock, sock.makefile("rb") as said:
        said.readline()
        lines = [b"HELO test", b"MAIL FROM:<a@one.example>", b"RCPT TO:<b@two.example>"]
        for line in lines:
            sock.sendall(line + b"\r\n")
            assert said.readline().startswith(b"250")
        if chunked:
            sock.sendall(b"BDAT %d LAST\r\n" % len(body) + body)
        else:
            sock.sendall(b"DATA\r\n")
            assert said.readline().startswith(b"354")
            sock.sendall(body + b".\r\n")
        assert said.readline().startswith((b"550 5.5.2", b"521 5.5.2"))
        assert server.stored == []


# Letters that it does not take.


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_letter_too_large_fails_alone(mode: str, tmp_path: Path, *, announced: bool) -> None:
    """F51: not sent at all where the size is announced, refused once where it is not; the others are not harmed."""
    with Postfix(f"smtpd_discard_ehlo_keywords = {mode}{'' if announced else ', size'}") as server:
        campaign(tmp_path, server)
        edit(tmp_path / "list.csv", "K00007,k00007@missions.example.org,", f"K00007,k00007@missions.example.org,{LONG}")
        edit(tmp_path / "templates/letter.md", "alone: ", "alone: {{ token }} {{ token }} {{ token }} ")
        assert run(tmp_path).exit_code == 3
        server.settled(LETTERS - 1)
        assert judge(tmp_path, server, LETTERS) == {"accepted": LETTERS - 1, "failed": 1}
    reason = reasons(tmp_path)["K00007"]
    assert reason.startswith("552 5.3.4 ")
    assert ("(dispatcher)" in reason) == announced
    assert query(tmp_path, "SELECT count(*) FROM attempt") == [(LETTERS,)]


@pytest.mark.parametrize("hidden", MODES)
def test_some_mailboxes_are_refused(hidden: str, tmp_path: Path) -> None:
    """F44: each letter for itself. One that waits holds up nobody; of two mailboxes the good one gets it."""
    access = ", ".join(f"{{{mailbox}@missions.example.org = {answer}}}" for mailbox, answer in REFUSALS.items())
    rule = f"smtpd_recipient_restrictions = check_recipient_access inline:{{ {access} }}, permit"
    with Postfix(rule, f"smtpd_discard_ehlo_keywords = {hidden}") as server:
        campaign(tmp_path, server)
        both = "k00008@missions.example.org, nobody@missions.example.org"
        edit(tmp_path / "list.csv", "k00008@missions.example.org", f'"{both}"')
        assert run(tmp_path).exit_code == 3
        server.settled(LETTERS - 2)
        assert judge(tmp_path, server, LETTERS) == {"accepted": LETTERS - 2, "ready": 1, "failed": 1}
    assert {key: reason[:9] for key, reason in reasons(tmp_path).items()} == {
        "K00003": "450 4.2.0",
        "K00005": "550 5.1.1",
    }
    assert query(tmp_path, "SELECT mailbox, outcome FROM rcpt WHERE outcome <> 'accepted' ORDER BY mailbox") == [
        ("k00003@missions.example.org", "deferred"),
        ("k00005@missions.example.org", "failed"),
        ("nobody@missions.example.org", "failed"),
    ]


# What it takes.


def test_one_letter_for_two_mailboxes_is_one_message(tmp_path: Path) -> None:
    with Postfix() as server:
        campaign(tmp_path, server)
        both = "k00008@missions.example.org, second@missions.example.org"
        edit(tmp_path / "list.csv", "k00008@missions.example.org", f'"{both}"')
        assert run(tmp_path).exit_code == 0
        server.settled(LETTERS)
        judge(tmp_path, server, LETTERS, complete=True)
        assert set(both.split(", ")) in [set(kept.rcpt_tos) for kept in server.stored]


def test_a_mailbox_beyond_ascii(tmp_path: Path) -> None:
    """RFC 6531: the envelope and the header name it, and the letter is what was sealed."""
    with Postfix() as server:
        campaign(tmp_path, server)
        edit(tmp_path / "list.csv", "k00008@", "jürgen@")
        assert run(tmp_path).exit_code == 0
        server.settled(LETTERS)
        judge(tmp_path, server, LETTERS, complete=True)
        assert ("jürgen@missions.example.org",) in [kept.rcpt_tos for kept in server.stored]


def test_fewer_connections_than_we_would_like(tmp_path: Path) -> None:
    """F42: those too many are turned away with 421; nothing fails, nothing waits for long."""
    with Postfix("smtpd_client_connection_count_limit = 2", "smtpd_client_event_limit_exceptions =") as server:
        write_campaign(tmp_path, server.port, MANY, relay=server.relay(tmp_path), pace="connections = 8")
        assert run(tmp_path, clock=Leap()).exit_code == 0
        server.settled(MANY)
        judge(tmp_path, server, MANY, complete=True)
        assert "Connection concurrency limit exceeded" in server.log


# How it is spoken to.


@pytest.mark.parametrize(
    ("hidden", "verb", "turns"), [(MODES[0], "bdat", 1.1), (MODES[1], "data", 1.1), (MODES[2], "data", 5)]
)
def test_round_trips_a_letter(hidden: str, verb: str, turns: float, tmp_path: Path) -> None:
    """One a letter at most with CHUNKING (RFC 3030) or PIPELINING (RFC 2920), where it offers them."""
    letters = 200
    with Postfix(f"smtpd_discard_ehlo_keywords = {hidden}", tls=False) as server, Tap(server.port) as tap:
        write_campaign(tmp_path, tap.port, letters, pace="connections = 1")
        assert run(tmp_path).exit_code == 0
        server.settled(letters)
        judge(tmp_path, server, letters, complete=True)
        while server.heard("mail") < letters:
            time.sleep(0.05)
        assert [name for name in ("bdat", "data") if server.heard(name)] == [verb]
    assert tap.turns <= turns * letters
