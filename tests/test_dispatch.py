"""The dispatch loop against a real server and a real ledger, by whatever a relay may do.

Every test ends before the judge (`torture.judge`): what the server stored against what the ledger says.
"""

import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from dispatcher.core.errors import LedgerUnavailable, PlanConflict, SecretError
from dispatcher.core.model import Leased
from dispatcher.core.policy import Verdict
from dispatcher.desk import Desk
from dispatcher.desk.deciding import amend, changes
from dispatcher.desk.reading import story
from dispatcher.desk.sending import Result, outlook
from dispatcher.desk.sending import send as send_now
from dispatcher.dispatch import Close, Dispatch, Prepared
from tests.smtp_server import CLOSE, RESET, STORE, Action, Actions, Script, SmtpServer
from tests.test_relay import server_tls
from tests.torture import LETTER, Leap, Rules, judge, query, run, states, write_campaign

TOKEN = re.compile(rb"token-(\d{5})")


def send(folder: Path, server: SmtpServer, letters: int, pace: str = "connections = 4", **how: Any) -> Result:
    """A campaign to this server, and one run of it. Words for `write_campaign` and for `run`."""
    campaign = {name: how.pop(name) for name in ("top", "relay", "to") if name in how}
    write_campaign(folder, server.port, letters, pace=pace, **campaign)
    return run(folder, **how)


def attempts(folder: Path, key: str = "K00000") -> list[tuple[Any, ...]]:
    """(phase, outcome, scope, code) of each attempt for one letter."""
    sql = "SELECT phase, outcome, scope, code FROM attempt JOIN letter ON letter.id = attempt.letter WHERE key = ?"
    return query(folder, f"{sql} ORDER BY attempt.id", key)


def change(folder: Path, sql: str, *given: Any) -> None:
    """Change one row of the ledger behind the program's back."""
    with closing(sqlite3.connect(folder / ".dispatcher/ledger.sqlite")) as connection, connection:
        assert connection.execute(sql, given).rowcount == 1


# Many letters, and each the right one.


def test_2000_letters_at_10_connections(tmp_path: Path) -> None:
    """Each byte at the server is the sealed one, each RCPT the planned one, and each text is for whom it went to."""
    with SmtpServer() as server:
        result = send(tmp_path, server, 2000, "connections = 10")
    assert (result.exit_code, result.report.close, result.counts["accepted"]) == (0, Close.FINISHED, 2000)
    judge(tmp_path, server, 2000, complete=True)
    for one in server.stored:
        number = int(one.rcpt_tos[0][1:6])
        assert one.rcpt_tos == (f"k{number:05}@missions.example.org",)
        assert {int(token) for token in TOKEN.findall(one.octets)} == {number * 7919 % 99991}
    assert 20 <= len({one.connection for one in server.stored}) <= server.times("connected") < 40
    assert max(Counter(one.connection for one in server.stored).values()) == 100
    digests = query(tmp_path, "SELECT count(DISTINCT message_digest), count(*), count(DISTINCT letter) FROM attempt")
    assert digests == [(2000, 2000, 2000)]


def test_a_second_run_sends_nothing_more(tmp_path: Path) -> None:
    with SmtpServer() as server:
        send(tmp_path, server, 20)
    result = run(tmp_path)  # nobody listens there any more, and nobody asks
    assert (result.exit_code, result.report.close, result.report.tally.accepted) == (0, Close.FINISHED, 0)
    judge(tmp_path, server, 20, complete=True)


def test_a_part_is_sent_and_then_the_rest(tmp_path: Path) -> None:
    with SmtpServer() as server:
        result = send(tmp_path, server, 20, limit=7)
        assert (result.exit_code, result.counts["accepted"], result.counts["waiting"]) == (0, 7, 13)
        judge(tmp_path, server, 20)
        assert run(tmp_path).exit_code == 0
        judge(tmp_path, server, 20, complete=True)


# The connection is lost, at each phase.

HONEST: Mapping[str, Action] = {
    "CONNECT": b"220 hello\r\n",
    "EHLO": b"250 relay.example\r\n",
    "MAIL": b"250 ok\r\n",
    "RCPT": b"250 ok\r\n",
    "DATA": b"354 go on\r\n",
    "BODY": b"",
    "DOT": (STORE, b"250 ok\r\n"),
}
BEFORE_THE_DOT: list[tuple[str, Action]] = [
    *((step, drop) for step in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY") for drop in (CLOSE, RESET)),
]


@pytest.mark.parametrize(("step", "drop"), BEFORE_THE_DOT)
def test_a_drop_before_the_dot_harms_no_letter(tmp_path: Path, step: str, drop: Action) -> None:
    """Twice, then all is well: the letter goes on a new connection, nothing is unknown, nothing counted against it."""
    reconnected = step in ("CONNECT", "EHLO")  # that the relay was there before makes the run patient
    on: dict[str, Actions] = {step: [*([HONEST[step]] if reconnected else []), drop, drop, HONEST[step]]}
    if reconnected:
        on["MAIL"] = [RESET, HONEST["MAIL"]]
    script = Script(on=on)
    with SmtpServer(script) as server:
        result = send(tmp_path, server, 6, "connections = 1", clock=Leap())
    assert (result.exit_code, result.report.close) == (0, Close.FINISHED)
    judge(tmp_path, server, 6, complete=True)
    assert query(tmp_path, "SELECT sum(attempts) FROM letter") == [(6,)]


def test_a_letter_whose_every_connection_breaks_is_put_off(tmp_path: Path) -> None:
    """The third time it is the letter: it waits for its turn in the schedule, and the others go on."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        return RESET if step == "RCPT" and b"k00002@" in line else None

    with Rules(rule) as server:
        result = send(tmp_path, server, 6)
    assert (result.exit_code, result.report.close) == (3, Close.WAITING)
    assert judge(tmp_path, server, 6) == {"accepted": 5, "ready": 1}
    assert query(tmp_path, "SELECT key, attempts FROM letter WHERE state = 'ready'") == [("K00002", 1)]
    assert len(attempts(tmp_path, "K00002")) == 3


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("drop", [CLOSE, RESET, b"2", b"banana\r\n", b"354 again\r\n"])
def test_after_the_dot_a_drop_is_unknown_and_never_sent_again(tmp_path: Path, *, taken: bool, drop: Action) -> None:
    """F30, F31, F35, whether the server has the letter or not."""
    drops = drop if isinstance(drop, tuple) else (drop,)
    action: Action = (*([STORE] if taken else []), *drops, CLOSE)
    with SmtpServer(Script(on={"DOT": [action, (STORE, b"250 taken\r\n")]})) as server:
        result = send(tmp_path, server, 6, "connections = 1")
        assert (result.exit_code, result.report.tally.unknown) == (3, 1)
        assert judge(tmp_path, server, 6) == {"accepted": 5, "unknown": 1}
        assert run(tmp_path).exit_code == 3
        assert judge(tmp_path, server, 6) == {"accepted": 5, "unknown": 1}
    assert len(server.stored) == 5 + taken
    assert attempts(tmp_path) == [("final", "unknown", "connection", None)]


# Refusals, at each phase.


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "DOT"])
def test_421_anywhere_harms_no_letter(tmp_path: Path, step: str) -> None:
    """Before the dot the letter goes at once on a new connection; after it, when it is due again."""
    clock = Leap()
    action: Actions = [(b"421 4.3.2 closing\r\n", CLOSE), HONEST[step]]
    with SmtpServer(Script(on={step: action})) as server:
        result = send(tmp_path, server, 6, "connections = 2", clock=clock)
        waits = step == "DOT"
        assert (result.exit_code, result.counts["waiting"]) == ((3, 1) if waits else (0, 0))
        judge(tmp_path, server, 6, complete=not waits)
        if waits:
            clock.moment += timedelta(minutes=6)
            assert run(tmp_path, clock=clock).exit_code == 0
            judge(tmp_path, server, 6, complete=True)


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("code", [b"450 4.2.1", b"451 4.3.0", b"452 4.2.2"])
def test_a_refusal_for_now_is_tried_again_when_it_is_due(tmp_path: Path, step: str, code: bytes) -> None:
    """The others do not wait for it; `wait` sees it through; the attempt and its reply are on record."""
    clock = Leap()
    with SmtpServer(Script(on={step: [code + b" later\r\n", HONEST[step]]})) as server:
        result = send(tmp_path, server, 6, "connections = 1", clock=clock)
        assert (result.exit_code, result.report.close) == (3, Close.WAITING)
        assert result.report.until is not None
        assert timedelta(minutes=3) < result.report.until - clock.now() < timedelta(minutes=7)
        assert judge(tmp_path, server, 6) == {"accepted": 5, "ready": 1}
        began = clock.now()
        assert run(tmp_path, clock=clock, wait=True).exit_code == 0
        assert clock.now() - began > timedelta(minutes=3)
    judge(tmp_path, server, 6, complete=True)
    phase = {"DOT": "final"}.get(step, step.lower())
    assert [(row[0], row[1], row[3]) for row in attempts(tmp_path)] == [
        (phase, "deferred", int(code[:3])),
        ("final", "accepted", 250),
    ]


@pytest.mark.parametrize("step", ["RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("code", [b"550 5.2.1 off", b"552 5.3.4 too large", b"554 5.6.1 not such a message"])
def test_a_refusal_for_good_fails_the_letter_alone(tmp_path: Path, step: str, code: bytes) -> None:
    with SmtpServer(Script(on={step: [code + b"\r\n", HONEST[step]]})) as server:
        result = send(tmp_path, server, 6, "connections = 1")
        assert (result.exit_code, result.report.tally.failed) == (3, 1)
        assert judge(tmp_path, server, 6) == {"accepted": 5, "failed": 1}
        run(tmp_path)
        assert judge(tmp_path, server, 6) == {"accepted": 5, "failed": 1}
    assert server.times("connected") == 1
    assert len(attempts(tmp_path)) == 1


def test_a_refused_sender_stops_the_run_and_fails_no_letter(tmp_path: Path) -> None:
    with SmtpServer(Script(on={"MAIL": b"550 5.7.1 not from you\r\n"})) as server:
        result = send(tmp_path, server, 20, "connections = 1")
        assert (result.exit_code, result.report.close) == (4, Close.PAUSED)
        assert "not from you" in result.report.why
        assert judge(tmp_path, server, 20) == {"ready": 20}
    assert sum(line.startswith(b"MAIL") for line in server.commands) == 1
    assert query(tmp_path, "SELECT sum(attempts) FROM letter") == [(0,)]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def locked(folder: Path, authority: trustme.CA) -> tuple[Script, str]:
    """A server with a login under TLS, and what [relay] has to say of it."""
    folder.mkdir(exist_ok=True)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    script = Script(tls=server_tls(authority.issue_cert("127.0.0.1")), login=("kms", "right"))
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text("right\n")
    return script, 'security = "starttls"\nca_file = "ca.pem"\nuser = "kms"\npassword = { file = "secret" }'


def test_a_login_under_tls(tmp_path: Path, authority: trustme.CA) -> None:
    script, relay = locked(tmp_path, authority)
    with SmtpServer(script) as server:
        assert send(tmp_path, server, 6, relay=relay).exit_code == 0
    judge(tmp_path, server, 6, complete=True)
    assert {row[0] for row in query(tmp_path, "SELECT tls_version FROM session")} == {"TLSv1.3"}


def test_a_refused_login_stops_the_run_and_fails_no_letter(tmp_path: Path, authority: trustme.CA) -> None:
    script, relay = locked(tmp_path, authority)
    with SmtpServer(script) as server:
        (tmp_path / "secret").write_text("wrong\n")
        result = send(tmp_path, server, 6, relay=relay)
        assert (result.exit_code, result.report.close) == (4, Close.PAUSED)
        assert "535" in result.report.why
        assert judge(tmp_path, server, 6) == {"ready": 6}
        (tmp_path / "secret").write_text("right\n")
        assert run(tmp_path).exit_code == 0
    judge(tmp_path, server, 6, complete=True)
    assert b"wrong" not in (tmp_path / ".dispatcher/ledger.sqlite").read_bytes()


def test_without_its_password_nothing_is_sealed(tmp_path: Path, authority: trustme.CA) -> None:
    script, relay = locked(tmp_path, authority)
    with SmtpServer(script) as server:
        (tmp_path / "secret").unlink()
        with pytest.raises(SecretError, match="does not exist"):
            send(tmp_path, server, 6, relay=relay)
    assert not (tmp_path / ".dispatcher").exists()
    assert server.seen == []


def test_a_password_that_goes_away_in_mid_run_is_not_missed(tmp_path: Path, authority: trustme.CA) -> None:
    script, relay = locked(tmp_path, authority)

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "MAIL" and server.counts["MAIL"] == 3:
            (tmp_path / "secret").unlink()
            return RESET
        return None

    with Rules(rule, script) as server:
        assert send(tmp_path, server, 6, "connections = 1", relay=relay).exit_code == 0  # it is read once a command
        judge(tmp_path, server, 6, complete=True)


# Policy refusals, and outcomes that cannot be known.

POLICY = b"550 5.7.1 we do not like this\r\n"


@pytest.mark.parametrize("step", ["RCPT", "DATA", "DOT"])
def test_five_policy_refusals_in_a_row_stop_the_run_and_fail_no_letter(tmp_path: Path, step: str) -> None:
    with SmtpServer(Script(on={step: POLICY})) as server:
        result = send(tmp_path, server, 20, "connections = 1")
        assert (result.exit_code, result.report.close) == (4, Close.PAUSED)
        assert "5 policy refusals in a row" in result.report.why
        assert judge(tmp_path, server, 20) == {"ready": 20}
        assert server.counts[step] == 5
        server.script = Script()
        assert run(tmp_path).exit_code == 0
    judge(tmp_path, server, 20, complete=True)


def test_four_policy_refusals_and_an_acceptance_are_about_those_four(tmp_path: Path) -> None:
    with SmtpServer(Script(on={"DATA": [POLICY, POLICY, POLICY, POLICY, b"354 go on\r\n"]})) as server:
        result = send(tmp_path, server, 20, "connections = 1")
    assert (result.exit_code, result.report.close, result.report.tally.failed) == (3, Close.FINISHED, 4)
    assert judge(tmp_path, server, 20) == {"accepted": 16, "failed": 4}


def test_policy_refusals_that_are_all_there_is_are_failed_at_the_end(tmp_path: Path) -> None:
    with SmtpServer(Script(on={"DATA": POLICY})) as server:
        result = send(tmp_path, server, 3, "connections = 1")
    assert (result.exit_code, result.report.close, result.report.tally.failed) == (3, Close.FINISHED, 3)
    assert judge(tmp_path, server, 3) == {"failed": 3}


def test_policy_refusals_are_not_judged_by_a_run_that_was_broken_off(tmp_path: Path) -> None:
    """Three refusals, then the relay is gone: nobody knows whether it would have taken others."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if connection > 1:
            return RESET if step == "CONNECT" else None
        return POLICY if step == "DATA" and server.counts["DATA"] <= 3 else RESET if step == "DATA" else None

    with Rules(rule) as server:
        result = send(tmp_path, server, 10, "connections = 1", clock=Leap())
        assert (result.exit_code, result.report.close, result.report.tally.failed) == (4, Close.UNAVAILABLE, 0)
        assert judge(tmp_path, server, 10) == {"ready": 10}


def test_five_of_fifty_refused_by_policy_stop_the_run(tmp_path: Path) -> None:
    """One in ten, never two in a row."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        return POLICY if step == "DATA" and server.counts["DATA"] % 10 == 0 else None

    with Rules(rule) as server:
        result = send(tmp_path, server, 100, "connections = 1")
    assert (result.exit_code, result.report.close) == (4, Close.PAUSED)
    assert "5 of the last 50" in result.report.why
    assert judge(tmp_path, server, 100) == {"accepted": 45, "failed": 4, "ready": 51}


def test_an_acceptance_under_way_does_not_judge_what_a_stopped_run_holds(tmp_path: Path) -> None:
    """One letter is in the server's hands while five others are refused; it is accepted after the run has stopped."""
    stopped = threading.Event()

    def watch(dispatch: Dispatch) -> None:
        before = dispatch._recorder._pause

        def pause(verdict: Verdict, why: str) -> bool:
            over = before(verdict, why)
            stopped.set()
            return over

        dispatch._recorder._pause = pause

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "DATA" and connection == 1:
            assert stopped.wait(10)
        return POLICY if step == "DATA" and connection == 2 else None

    with Rules(rule) as server:
        result = send(tmp_path, server, 20, "connections = 2", observe=watch)
        assert (result.exit_code, result.report.close) == (4, Close.PAUSED)
        assert judge(tmp_path, server, 20) == {"accepted": 1, "ready": 19}


def test_five_unknown_in_a_row_stop_the_run(tmp_path: Path) -> None:
    with SmtpServer(Script(on={"DOT": (STORE, RESET)})) as server:
        result = send(tmp_path, server, 20, "connections = 1")
        assert (result.exit_code, result.report.close) == (4, Close.PAUSED)
        assert judge(tmp_path, server, 20) == {"unknown": 5, "ready": 15}


# Several mailboxes.

COUPLE = "a@missions.example.org; b@missions.example.org"


def couple(**replies: Action) -> Rules:
    """A server that answers RCPT for a@ and b@ as told."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        return replies.get(chr(line[9])) if step == "RCPT" else None

    return Rules(rule)


def rcpts(folder: Path) -> list[tuple[Any, ...]]:
    return query(folder, "SELECT attempt, mailbox, outcome, code FROM rcpt ORDER BY attempt, mailbox")


def quoted(couple: str) -> str:
    return f'"{couple}"'


def test_one_mailbox_refused_for_good_does_not_keep_the_letter_from_the_other(tmp_path: Path) -> None:
    """Accepted, with an outcome for each mailbox; the dead address is written to no more."""
    with couple(b=b"550 5.1.1 nobody\r\n") as server:
        result = send(tmp_path, server, 1, to=quoted(COUPLE))
    assert (result.exit_code, result.refused_mailboxes) == (3, 1)
    assert judge(tmp_path, server, 1) == {"accepted": 1}
    assert [one.rcpt_tos for one in server.stored] == [("a@missions.example.org",)]
    assert rcpts(tmp_path) == [
        (1, "a@missions.example.org", "accepted", 250),
        (1, "b@missions.example.org", "failed", 550),
    ]
    assert query(tmp_path, "SELECT address FROM suppression") == [("b@missions.example.org",)]


def test_one_mailbox_refused_for_now_keeps_the_letter_until_the_third_time(tmp_path: Path) -> None:
    """Nobody gets it twice: it goes to both together, or the third time to whoever takes it."""
    clock = Leap()
    with couple(b=b"450 4.2.1 later\r\n") as server:
        result = send(tmp_path, server, 1, to=quoted(COUPLE), clock=clock)
        assert (result.exit_code, server.stored) == (3, [])
        assert judge(tmp_path, server, 1) == {"ready": 1}
        result = run(tmp_path, clock=clock, wait=True)
    assert (result.exit_code, result.refused_mailboxes) == (3, 1)
    assert judge(tmp_path, server, 1) == {"accepted": 1}
    assert [(row[1], row[3]) for row in attempts(tmp_path)] == [("deferred", 450), ("deferred", 450), ("accepted", 250)]
    assert rcpts(tmp_path)[-2:] == [
        (3, "a@missions.example.org", "accepted", 250),
        (3, "b@missions.example.org", "deferred", 450),
    ]


def test_a_dead_mailbox_does_not_lose_the_letter_to_one_that_is_refused_for_now(tmp_path: Path) -> None:
    """The letter waits for the one that is good; the dead one is suppressed when it is over, not while it waits."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step != "RCPT":
            return None
        if b"<a@" in line:
            return b"550 5.1.1 nobody\r\n"
        return b"450 4.2.1 later\r\n" if server.counts["RCPT"] <= 4 else None

    clock = Leap()
    with Rules(rule) as server:
        send(tmp_path, server, 1, to=quoted(COUPLE), clock=clock)
        assert judge(tmp_path, server, 1) == {"ready": 1}
        assert query(tmp_path, "SELECT address FROM suppression") == []
        result = run(tmp_path, clock=clock, wait=True)
    assert (result.exit_code, result.refused_mailboxes) == (3, 1)
    assert judge(tmp_path, server, 1) == {"accepted": 1}
    assert [one.rcpt_tos for one in server.stored] == [("b@missions.example.org",)]
    assert query(tmp_path, "SELECT address FROM suppression") == [("a@missions.example.org",)]


def test_an_unknown_outcome_suppresses_nobody(tmp_path: Path) -> None:
    """If a person has it sent again, it is to go to the good mailbox, past the dead one."""
    with couple(a=b"550 5.1.1 nobody\r\n") as server:
        server.script = Script(on={"DOT": [RESET, (STORE, b"250 ok\r\n")]})
        assert send(tmp_path, server, 1, to=quoted(COUPLE), top='on_unknown = "resend"').exit_code == 3
        assert query(tmp_path, "SELECT address FROM suppression") == []
        run(tmp_path)
    assert judge(tmp_path, server, 1) == {"accepted": 1}
    assert query(tmp_path, "SELECT address FROM suppression") == [("a@missions.example.org",)]


def test_five_dead_addresses_at_the_head_of_a_list_do_not_stop_the_run(tmp_path: Path) -> None:
    """Though the relay says no more than 550."""
    with SmtpServer(Script(on={"RCPT": [*[b"550 User unknown\r\n"] * 5, b"250 ok\r\n"]})) as server:
        result = send(tmp_path, server, 20, "connections = 1")
    assert (result.exit_code, result.report.close) == (3, Close.FINISHED)
    assert judge(tmp_path, server, 20) == {"accepted": 15, "failed": 5}


def test_an_address_that_does_not_exist_fails_and_is_suppressed(tmp_path: Path) -> None:
    with SmtpServer(Script(on={"RCPT": [b"550 5.1.1 nobody\r\n", b"250 ok\r\n"]})) as server:
        assert send(tmp_path, server, 3, "connections = 1").exit_code == 3
    assert judge(tmp_path, server, 3) == {"accepted": 2, "failed": 1}
    assert query(tmp_path, "SELECT identity, source FROM suppression") == [
        ("k00000@missions.example.org", "refused by the relay")
    ]


# Waiting, pace and the relay's own limits.


def test_greylisting(tmp_path: Path) -> None:
    """F43: each recipient is refused for now at first; with `wait` one run sees all of them through."""
    seen: Counter[bytes] = Counter()
    clock = Leap()

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step != "RCPT":
            return None
        seen[line] += 1
        return b"451 4.7.1 greylisted, come back\r\n" if seen[line] == 1 else None

    with Rules(rule) as server:
        began = clock.now()
        result = send(tmp_path, server, 30, clock=clock, wait=True)
    assert (result.exit_code, result.report.close) == (0, Close.FINISHED)
    assert (result.report.tally.deferred, result.report.tally.accepted) == (30, 30)
    assert timedelta(minutes=4) <= clock.now() - began < timedelta(minutes=30)
    judge(tmp_path, server, 30, complete=True)


def test_a_relay_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """F56: all connections break and five knocks find nobody in; then all letters go, on as many connections."""
    away: list[int] = []

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "MAIL" and server.counts["MAIL"] >= 9 and connection <= 4:
            return RESET
        if step == "CONNECT" and connection > 4 and len(away) < 5:
            away.append(connection)
            return RESET
        return None

    with Rules(rule) as server:
        result = send(tmp_path, server, 200, clock=Leap())
    assert (result.exit_code, result.report.close) == (0, Close.FINISHED)
    judge(tmp_path, server, 200, complete=True)
    assert len(away) == 5
    assert len({one.connection for one in server.stored if one.connection > 4}) >= 2


def test_a_relay_that_does_not_come_back(tmp_path: Path) -> None:
    """After about a minute of knocking the run ends; every letter waits."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        return RESET if connection > 1 or (step == "MAIL" and server.counts["MAIL"] > 3) else None

    clock = Leap()
    with Rules(rule) as server:
        began = clock.now()
        result = send(tmp_path, server, 10, "connections = 1", clock=clock)
    assert (result.exit_code, result.report.close) == (4, Close.UNAVAILABLE)
    assert timedelta(seconds=40) < clock.now() - began < timedelta(seconds=120)
    assert judge(tmp_path, server, 10) == {"accepted": 3, "ready": 7}


def test_a_relay_that_was_never_there(tmp_path: Path) -> None:
    """F24: said at once, no attempt counted; the next run begins as if nothing had been."""
    clock = Leap()
    with SmtpServer() as server:
        port = server.port
    write_campaign(tmp_path, port, 6)
    began = clock.now()
    result = run(tmp_path, clock=clock)
    assert (result.exit_code, result.report.close, clock.now()) == (4, Close.UNAVAILABLE, began)
    assert "CONNECT" in result.report.why
    assert judge(tmp_path, server, 6) == {"ready": 6}
    assert query(tmp_path, "SELECT count(*) FROM attempt") == [(0,)]
    with SmtpServer() as server:
        assert send(tmp_path, server, 6).exit_code == 0
    judge(tmp_path, server, 6, complete=True)


def test_421_after_so_many_letters_a_connection(tmp_path: Path) -> None:
    """F41: a new connection, no letter is put off, and the run keeps as many connections as it had."""
    taken: Counter[int] = Counter()

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step != "MAIL":
            return None
        taken[connection] += 1
        return (b"421 4.7.0 too many messages in this connection\r\n", CLOSE) if taken[connection] > 5 else None

    clock = Leap()
    with Rules(rule) as server:
        began = clock.now()
        result = send(tmp_path, server, 100, clock=clock)
        assert (result.exit_code, result.report.tally.deferred) == (0, 0)
    judge(tmp_path, server, 100, complete=True)
    assert clock.now() == began, "no worker had to rest"
    assert 20 <= server.times("connected") <= 26
    late = [one.connection for one in server.stored[60:90]]
    assert len(set(late)) >= 4


def test_a_relay_that_takes_two_connections_gets_two(tmp_path: Path) -> None:
    """F42: those it does not let in stay away; nothing fails, nothing is put off."""
    most: list[int] = []

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "CONNECT" and server.connections > 2:
            return (b"421 4.7.0 too many connections\r\n", CLOSE)
        most.append(server.connections)
        return None

    with Rules(rule) as server:
        result = send(tmp_path, server, 100, "connections = 6")
    assert (result.exit_code, result.report.tally.deferred) == (0, 0)
    judge(tmp_path, server, 100, complete=True)
    assert len({one.connection for one in server.stored}) == 2
    assert query(tmp_path, "SELECT count(*) FROM attempt") == [(100,)]
    assert server.times("connected") < 20, "it did not knock and knock"


def test_a_relay_that_wants_it_slower_is_not_hammered(tmp_path: Path) -> None:
    """Each letter on a fresh connection is refused for the pace: the run slows down, and in the end goes home."""
    with SmtpServer(Script(on={"MAIL": b"450 4.7.0 rate limit, slow down\r\n"})) as server:
        result = send(tmp_path, server, 200, clock=Leap())
        assert (result.exit_code, result.report.close) == (4, Close.UNAVAILABLE)
        assert "slow down" in result.report.why
        assert judge(tmp_path, server, 200) == {"ready": 200}
        assert len([line for line in server.commands if line.startswith(b"MAIL")]) <= 4 * 7
        server.script = Script()
        assert run(tmp_path, clock=Leap(datetime(2026, 5, 5, tzinfo=UTC))).exit_code == 0
    judge(tmp_path, server, 200, complete=True)


def test_the_quota_holds_across_runs(tmp_path: Path) -> None:
    """So many in any 24 hours, whoever asks; the end of the campaign is no end of the quota."""
    clock = Leap()
    pace = "connections = 3\nquota = 10"
    with SmtpServer() as server:
        result = send(tmp_path, server, 20, pace, clock=clock)
        assert (result.exit_code, result.report.close, len(server.stored)) == (3, Close.QUOTA, 10)
        assert result.report.until == clock.now() + timedelta(hours=24)
        clock.moment += timedelta(hours=23)
        assert run(tmp_path, clock=clock).report.close is Close.QUOTA
        assert judge(tmp_path, server, 20) == {"accepted": 10, "ready": 10}
        clock.moment += timedelta(hours=2)
        result = run(tmp_path, clock=clock)
        assert (result.exit_code, result.report.close) == (0, Close.FINISHED)
    judge(tmp_path, server, 20, complete=True)


def test_with_wait_the_quota_is_sat_out(tmp_path: Path) -> None:
    clock = Leap()
    with SmtpServer() as server:
        assert send(tmp_path, server, 5, "connections = 2\nquota = 4", clock=clock, wait=True).exit_code == 0
    judge(tmp_path, server, 5, complete=True)
    times = sorted(datetime.fromisoformat(row[0]) for row in query(tmp_path, "SELECT at FROM attempt"))
    assert times[4] - times[0] >= timedelta(hours=24)


def test_letters_held_after_policy_refusals_do_not_block_the_quota_for_ever(tmp_path: Path) -> None:
    clock = Leap()
    with SmtpServer(Script(on={"DATA": [POLICY, POLICY, b"354 go on\r\n"]})) as server:
        pace = "connections = 1\nquota = 2"
        result = send(tmp_path, server, 4, pace, clock=clock, wait=True)
    assert (result.exit_code, result.report.close) == (3, Close.FINISHED)
    assert judge(tmp_path, server, 4) == {"accepted": 2, "failed": 2}


def test_the_rate_holds_across_runs(tmp_path: Path) -> None:
    """Each letter has its slot, whichever worker and whichever run it is of, and none leaves before it."""
    clock = Leap()
    began = clock.now()
    pace = 'connections = 4\nrate = "30/min"'
    with SmtpServer() as server:
        send(tmp_path, server, 12, pace, clock=clock, limit=5)
        assert run(tmp_path, clock=clock).exit_code == 0
    judge(tmp_path, server, 12, complete=True)
    times = sorted(datetime.fromisoformat(row[0]) for row in query(tmp_path, "SELECT at FROM attempt"))
    for number, at in enumerate(times):
        assert at >= began + timedelta(seconds=2 * number)
    assert times[-1] - times[0] < timedelta(seconds=60)


# The end of the time.


def test_after_not_after_nothing_leaves(tmp_path: Path) -> None:
    clock = Leap()
    with SmtpServer() as server:
        top = f"not_after = {clock.now().isoformat()}"
        result = send(tmp_path, server, 6, top=top, clock=clock)
    assert (result.exit_code, result.report.close) == (3, Close.DEADLINE)
    assert judge(tmp_path, server, 6) == {"ready": 6}
    assert server.seen == []


def test_not_after_passes_during_the_run(tmp_path: Path) -> None:
    """Also for a letter that is already on its way: no intent is made, and it waits."""
    clock = Leap()
    end = clock.now() + timedelta(minutes=1)

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "RCPT" and server.counts["RCPT"] == 4:
            clock.moment = end
        return None

    with Rules(rule) as server:
        result = send(tmp_path, server, 10, "connections = 1", top=f"not_after = {end.isoformat()}", clock=clock)
        assert (result.exit_code, result.report.close) == (3, Close.DEADLINE)
        assert judge(tmp_path, server, 10) == {"accepted": 3, "ready": 7}
    assert query(tmp_path, "SELECT count(*) FROM attempt") == [(3,)]


@pytest.mark.parametrize("gone", [True, False])
def test_not_after_ends_a_wait(tmp_path: Path, *, gone: bool) -> None:
    """Whether the run waits for a relay that is gone or for letters that are due later."""
    clock = Leap()
    end = clock.now() + timedelta(seconds=100)
    script = Script(on={"CONNECT": CLOSE} if gone else {"RCPT": b"450 4.2.1 later\r\n"})
    with SmtpServer(script) as server:
        top = f"not_after = {end.isoformat()}"
        result = send(tmp_path, server, 3, top=top, clock=clock, wait=True)
    assert (result.exit_code, result.report.close) == (3, Close.DEADLINE)
    assert end <= clock.now() < end + timedelta(seconds=2)
    assert judge(tmp_path, server, 3) == {"ready": 3}


# The ledger has the last word.


def test_a_suppression_between_lease_and_intent_holds_the_letter_back(tmp_path: Path) -> None:
    """The letter is leased, its envelope on its way, when the address of K00003 is suppressed: the dot never leaves."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "RCPT" and server.counts["RCPT"] == 4:
            address = "k00003@missions.example.org"
            change(
                tmp_path, "INSERT INTO suppression VALUES (?, ?, 'they asked', '2026', 'a person')", address, address
            )
        return None

    with Rules(rule) as server:
        result = send(tmp_path, server, 10, "connections = 1")
    assert (result.exit_code, result.report.tally.suppressed) == (0, 1)
    assert judge(tmp_path, server, 10) == {"accepted": 9, "suppressed": 1}
    assert query(tmp_path, "SELECT key FROM letter WHERE state = 'suppressed'") == [("K00003",)]


def test_many_that_are_suppressed_meanwhile_are_no_fault_of_the_relay(tmp_path: Path) -> None:
    """Each costs a connection that is broken off by us; the relay is not blamed, and the others go."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "RCPT" and server.counts["RCPT"] == 3:
            for number in range(4, 24):
                address = f"k{number:05}@missions.example.org"
                added = "INSERT INTO suppression VALUES (?, ?, 'they asked', '2026', 'a person')"
                change(tmp_path, added, address, address)
        return None

    with Rules(rule) as server:
        result = send(tmp_path, server, 40, "connections = 1")
    assert (result.exit_code, result.report.close, result.report.tally.suppressed) == (0, Close.FINISHED, 20)
    assert judge(tmp_path, server, 40) == {"accepted": 20, "suppressed": 20}


def test_an_outage_is_no_allowance_for_a_burst(tmp_path: Path) -> None:
    """Slots that pass while the relay is away are gone, but for the few letters that were taken up for them."""
    clock = Leap()
    gone: list[datetime] = []

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "DOT" and server.counts["DOT"] == 5:
            gone.append(clock.now() + timedelta(seconds=80))
        away = bool(gone) and clock.now() < gone[0]
        return RESET if away and step in ("CONNECT", "MAIL") else None

    with Rules(rule) as server:
        pace = 'connections = 10\nrate = "60/min"'
        result = send(tmp_path, server, 60, pace, clock=clock, wait=True)
        judge(tmp_path, server, 60, complete=True)
    assert result.exit_code == 0
    times = sorted(datetime.fromisoformat(row[0]) for row in query(tmp_path, "SELECT at FROM attempt"))
    assert max(sum(abs((a - b).total_seconds()) < 0.9 for b in times) for a in times) <= 8


@pytest.mark.parametrize(
    "wrong",
    [
        "addresses = replace(addresses, 'k00003@', 'k00009@')",
        "own = (SELECT s.own FROM sealed s JOIN letter l ON l.id = s.letter WHERE l.key = 'K00004')",
        "attachments = '[]'",
    ],
)
def test_a_letter_that_is_not_what_was_sealed_never_leaves(tmp_path: Path, wrong: str) -> None:
    """The ledger's own row is changed behind its back: the letters before it went, it and those after it wait."""
    with SmtpServer() as server:
        send(tmp_path, server, 6, "connections = 1", limit=2)
        change(tmp_path, f"UPDATE sealed SET {wrong} WHERE letter = (SELECT id FROM letter WHERE key = 'K00003')")
        with pytest.raises(PlanConflict, match="K00003"):
            run(tmp_path)
        assert states(tmp_path) == {"accepted": 3, "ready": 3}
    assert len(server.stored) == 3
    assert not [one for one in server.stored if one.rcpt_tos == ("k00009@missions.example.org",)]


def test_a_folder_that_changed_between_the_look_and_the_send(tmp_path: Path) -> None:
    """What was counted and confirmed is what is sealed, or nothing is."""
    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 6)
        desk = Desk(tmp_path)
        plan = outlook(desk)
        with (tmp_path / "list.csv").open("a") as file:
            file.write("K00006,k00006@missions.example.org,00006\n")
        with pytest.raises(PlanConflict, match="changed"):
            send_now(desk, plan)
        assert query(tmp_path, "SELECT count(*) FROM letter") == [(0,)]
    assert server.seen == []


def test_a_plan_amended_between_the_look_and_the_send(tmp_path: Path) -> None:
    """Somebody else takes a change over after the letters were counted: this send is of another plan, and refuses."""
    with SmtpServer() as server:
        send(tmp_path, server, 6, limit=1)
        desk = Desk(tmp_path)
        plan = outlook(desk)
        (tmp_path / "templates/letter.md").write_text(LETTER + "And one more thing.\n")
        other = Desk(tmp_path)
        draft, summary, _, _ = changes(other)
        amend(other, draft, summary)
        with pytest.raises(PlanConflict, match="not what was sealed"):
            send_now(desk, plan)
    assert len(server.stored) == 1


def test_a_ledger_that_breaks_lets_no_terminator_leave(tmp_path: Path) -> None:
    """The intent cannot be written any more: the letter on its way is broken off before its end, and all wait."""

    def watch(dispatch: Dispatch) -> None:
        run = dispatch._ledger

        def broken(connection: sqlite3.Connection) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        def prepare(letter: Leased, date: datetime, before: Any = dispatch._shop.prepare) -> Prepared:
            if letter.key == "K00003":
                run._ledger.submit(broken)  # type: ignore[attr-defined]
            prepared: Prepared = before(letter, date)
            return prepared

        dispatch._shop = replace(dispatch._shop, prepare=prepare)

    with SmtpServer() as server:
        with pytest.raises(LedgerUnavailable, match="disk I/O error"):
            send(tmp_path, server, 10, "connections = 1", observe=watch)
        assert server.times("dot") == 3
        assert run(tmp_path).exit_code == 0
    judge(tmp_path, server, 10, complete=True)


def test_on_unknown_resend_sends_the_same_octets_again(tmp_path: Path) -> None:
    """At least once, for whoever chose it: the same Message-ID and Date, so that a receiver can drop the repeat."""
    with SmtpServer(Script(on={"DOT": [(STORE, RESET), (STORE, b"250 ok\r\n")]})) as server:
        assert send(tmp_path, server, 3, "connections = 1", top='on_unknown = "resend"').exit_code == 3
        assert run(tmp_path).exit_code == 0
    counts: Mapping[bytes, int] = Counter(one.octets for one in server.stored)
    assert sorted(counts.values()) == [1, 1, 2]
    assert states(tmp_path) == {"accepted": 3}


def test_word_of_delivery_is_asked_for(tmp_path: Path) -> None:
    """RFC 3461: each letter under its own Message-ID; nothing is asked of a relay that does not offer it."""
    for offers in (("DSN",), ()):
        folder = tmp_path / str(len(offers))
        with SmtpServer(Script(ehlo=offers)) as server:
            write_campaign(folder, server.port, 2, relay='security = "none"\nnotify = ["failure", "delay"]')
            assert run(folder).exit_code == 0
            judge(folder, server, 2, complete=True)
        numbers = [number for (number,) in query(folder, "SELECT message_id FROM sealed")]
        asked = {line.partition(b" RET=")[2].decode() for line in server.commands if line.startswith(b"MAIL")}
        assert asked == ({f"HDRS ENVID={number[1:-1]}" for number in numbers} if offers else {""})
        rcpts = [line for line in server.commands if line.startswith(b"RCPT")]
        assert all((b" NOTIFY=FAILURE,DELAY ORCPT=rfc822;k0000" in line) == bool(offers) for line in rcpts)


@pytest.mark.parametrize("ehlo", [("PIPELINING",), ("PIPELINING", "CHUNKING")])
def test_a_relay_that_loses_commands_that_come_together_is_met_in_lock_step(
    tmp_path: Path, ehlo: tuple[str, ...]
) -> None:
    """It says that it can, and drops whatever comes behind MAIL. That is logged with its sessions."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        return b"503 5.5.1 MAIL first\r\n" if step == "RCPT" and connection == 1 else None

    with Rules(rule, Script(ehlo=ehlo)) as server:
        write_campaign(tmp_path, server.port, 6, pace="connections = 1")
        assert run(tmp_path).exit_code == 0
        judge(tmp_path, server, 6, complete=True)
    modes = [mode for (mode,) in query(tmp_path, "SELECT mode FROM session ORDER BY id")]
    assert modes[0] == ("chunking" if len(ehlo) > 1 else "pipelining")
    assert modes[-1].startswith("lock-step (commands that came together were lost: 503 5.5.1")
    shown = story(Desk(tmp_path), "K00005")["attempts"][-1]["mode"]
    assert shown == modes[-1]
