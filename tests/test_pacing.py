"""Pace, quota and profiles in whole runs: against a scripted server, on a clock that leaps."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatcher.core.campaign import RelayAccount
from dispatcher.desk import Desk
from dispatcher.desk.clock import SystemClock
from dispatcher.desk.outlook import outlook
from dispatcher.desk.pacing import expected, of_plan
from dispatcher.desk.sending import Result, send
from dispatcher.dispatch import Close, Dispatch
from dispatcher.relays.smtp import Account, SmtpRelay
from tests.smtp_server import STORE, Action, Actions, Script, SmtpServer
from tests.torture import Leap, Rules, judge, query, run, states, write_campaign

SPENT: Action = b"550-5.4.5 Daily user sending limit exceeded. For more information on Gmail\r\n550 5.4.5 go to us\r\n"
TAKEN: Action = (STORE, b"250 2.0.0 ok\r\n")


def profile(name: str) -> str:
    return f'profile = "{name}"\nsecurity = "none"'


def attempts(folder: Path) -> list[tuple[Any, ...]]:
    return query(folder, "SELECT outcome, scope FROM attempt ORDER BY id")


def moments(folder: Path, domain: str = "") -> list[datetime]:
    """When letters to a domain were handed over."""
    sql = "SELECT a.at FROM attempt a JOIN sealed s ON s.letter = a.letter WHERE instr(s.mailboxes, ?) ORDER BY a.at"
    return [datetime.fromisoformat(at) for (at,) in query(folder, sql, domain)]


def none_before_its_slot(found: list[datetime], began: datetime, seconds: float) -> bool:
    """A letter may leave late, never early: the next one's slot does not move."""
    return all(at >= began + timedelta(seconds=number * seconds) for number, at in enumerate(found))


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "DOT"])
def test_a_quota_that_is_used_up_is_no_failure(tmp_path: Path, step: str) -> None:
    """No letter fails, none is held against; the run ends until the quota is there again, and the next goes on."""
    good: dict[str, Action] = {"MAIL": b"250 ok\r\n", "RCPT": b"250 ok\r\n", "DATA": b"354 go on\r\n", "DOT": TAKEN}
    with SmtpServer(Script(on={step: [good[step]] * 3 + [SPENT]})) as server:
        write_campaign(tmp_path, server.port, 10, pace="connections = 1", relay=profile("gmail"))
        clock = Leap()
        result = run(tmp_path, clock=clock)
        judge(tmp_path, server, 10)
    assert (result.exit_code, result.report.close) == (3, Close.QUOTA)
    assert result.report.until == clock.now() + timedelta(hours=24)
    assert "5.4.5" in result.report.why
    assert states(tmp_path) == {"accepted": 3, "ready": 7}
    assert attempts(tmp_path)[:4] == [("accepted", "recipient")] * 3 + [("deferred", "quota")]
    assert set(attempts(tmp_path)[4:]) <= {("deferred", "quota")}  # one more may have been under way
    assert query(tmp_path, "SELECT max(attempts) FROM letter WHERE state = 'ready'") == [(0,)]
    with SmtpServer() as server:
        text = (tmp_path / "campaign.toml").read_text(encoding="utf-8")
        (tmp_path / "campaign.toml").write_text(f"{text}".replace("port = ", f"port = {server.port} # "), "utf-8")
        assert run(tmp_path, clock=clock).exit_code == 0
    assert states(tmp_path) == {"accepted": 10}


def test_the_same_reply_without_the_profile_is_about_the_letter(tmp_path: Path) -> None:
    with SmtpServer(Script(on={"DOT": [TAKEN, SPENT, TAKEN]})) as server:
        write_campaign(tmp_path, server.port, 3, pace="connections = 1")
        result = run(tmp_path, clock=Leap())
        judge(tmp_path, server, 3)
    assert (result.report.close, result.counts["failed"]) == (Close.FINISHED, 1)


def test_whoever_waits_stays_until_the_quota_is_there_again(tmp_path: Path) -> None:
    with SmtpServer(Script(on={"DOT": [TAKEN] * 4 + [SPENT] + [TAKEN] * 99})) as server:
        write_campaign(tmp_path, server.port, 40, pace="connections = 1", relay=profile("gmail"))
        clock = Leap()
        began = clock.now()
        result = run(tmp_path, clock=clock, wait=True)
        judge(tmp_path, server, 40, complete=True)
    assert (result.exit_code, result.report.close) == (0, Close.FINISHED)
    assert clock.now() - began >= timedelta(hours=24)
    ages = [at - began for at in moments(tmp_path)]
    assert sum(age >= timedelta(hours=24) for age in ages) >= 20  # some may have been under way
    assert not [age for age in ages if timedelta(hours=12) < age < timedelta(hours=24)]


def test_a_quota_that_is_used_up_before_a_session_is_there(tmp_path: Path) -> None:
    spent: Actions = b"454 Throttling failure: Daily message quota exceeded.\r\n"
    with SmtpServer(Script(on={"CONNECT": spent})) as server:
        write_campaign(tmp_path, server.port, 5, relay=profile("amazon-ses"))
        result = run(tmp_path, clock=Leap())
        judge(tmp_path, server, 5)
    assert (result.exit_code, result.report.close) == (3, Close.QUOTA)
    assert (states(tmp_path), attempts(tmp_path)) == ({"ready": 5}, [])


def test_a_service_that_wants_fewer_connections_gets_fewer(tmp_path: Path) -> None:
    """432 4.3.2 to each connection but the first three: nothing fails, everything is accepted."""

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        too_many = step == "MAIL" and server.connections > 3
        return b"432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded\r\n" if too_many else None

    with Rules(rule) as server:
        pace = 'connections = 8\nrate = "1,000/s"'
        write_campaign(tmp_path, server.port, 60, pace=pace, relay=profile("microsoft365"))
        result = run(tmp_path, clock=Leap(), wait=True)
        judge(tmp_path, server, 60, complete=True)
    assert (result.exit_code, result.counts["failed"]) == (0, 0)


def test_the_profiles_rate_holds(tmp_path: Path) -> None:
    clock = Leap()
    began = clock.now()
    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 20, pace="", relay=profile("microsoft365"))
        assert run(tmp_path, clock=clock).exit_code == 0
        judge(tmp_path, server, 20, complete=True)
        assert server.times("connected") <= 3
    assert none_before_its_slot(moments(tmp_path), began, 2)


def paced(folder: Path, server: SmtpServer, domains: str, pace: str = "", **how: Any) -> Result:
    """Letters to these domains, in this order."""
    write_campaign(folder, server.port, 1, pace=f"connections = 2\n{pace}")
    rows = (f"K{n:05},k{n:05}@{d}.example.org,{n * 7919 % 99991:05}\n" for n, d in enumerate(domains.split()))
    (folder / "list.csv").write_text("key,email,token\n" + "".join(rows), encoding="utf-8")
    return run(folder, **how)


def test_a_domain_with_a_rate_of_its_own_holds_up_nobody_else_and_the_run_stays_for_it(tmp_path: Path) -> None:
    """Also without --wait, as it does for the account's rate."""
    clock = Leap()
    began = clock.now()
    with SmtpServer() as server:
        rates = '[pace.domains]\n"slow.example.org" = "1/min"\n'
        result = paced(tmp_path, server, "slow " * 5 + "quick " * 20, rates, clock=clock)
        judge(tmp_path, server, 25, complete=True)
    assert (result.exit_code, result.report.close) == (0, Close.FINISHED)
    slow = moments(tmp_path, "slow.example.org")
    assert none_before_its_slot(slow, began, 60)
    assert slow[-1] - began < timedelta(minutes=5)
    assert max(moments(tmp_path, "quick.example.org")) < slow[1]


def test_a_domains_rate_holds_for_the_next_run(tmp_path: Path) -> None:
    clock = Leap()
    rates = '[pace.domains]\n"*" = "1/hr"\n'
    with SmtpServer() as server:
        paced(tmp_path, server, "one one two", rates, clock=clock, limit=1)
        assert run(tmp_path, clock=clock).exit_code == 0
        judge(tmp_path, server, 3, complete=True)
    first, second = moments(tmp_path, "one.example.org")
    assert second - first >= timedelta(hours=1)
    assert moments(tmp_path, "two.example.org")[0] < second


def test_a_stop_does_not_wait_for_a_domain(tmp_path: Path) -> None:
    def stop_soon(dispatch: Dispatch) -> None:
        asyncio.get_running_loop().call_later(0.3, dispatch.stop)

    with SmtpServer() as server:
        rates = '[pace.domains]\n"one.example.org" = "1/hr"\n'
        result = paced(tmp_path, server, "one one", rates, observe=stop_soon)
        judge(tmp_path, server, 2)
    assert (result.exit_code, result.report.close) == (130, Close.INTERRUPTED)
    assert states(tmp_path) == {"accepted": 1, "ready": 1}


def test_a_run_is_done_when_it_was_foreseen(tmp_path: Path) -> None:
    """Through two days of quota, with a first part sent before; whoever waits for the quota loses little."""
    clock = Leap()
    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 16, pace='connections = 2\nrate = "30/min"\nquota = 5')
        run(tmp_path, clock=clock, limit=3)
        clock.moment += timedelta(hours=1)
        desk = Desk(tmp_path, clock=clock)
        found = expected(desk, of_plan(outlook(desk)))
        assert run(tmp_path, clock=clock, wait=True).exit_code == 0
        judge(tmp_path, server, 16, complete=True)
    assert found
    assert (found.letters, found.first) == (13, 2)
    done_at, last = datetime.fromisoformat(found.done_at), moments(tmp_path)[-1]
    assert done_at <= last <= done_at + timedelta(minutes=20)
    for number, at in enumerate(moments(tmp_path)[5:]):
        assert at - moments(tmp_path)[number] >= timedelta(hours=24)


@pytest.mark.parametrize("user", ["", "office@orchard.example.org"])
def test_the_account_has_one_name_in_the_campaign_and_at_the_relay(user: str) -> None:
    login = {"user": user, "password": {"env": "X"}} if user else {}
    campaign = RelayAccount.model_validate({"host": "relay.example.org", "port": 25, **login})
    relay = SmtpRelay(Account("relay.example.org", 25, "starttls", user), SystemClock())
    assert campaign.account == relay.account


def test_the_sandbox_knows_no_pace(tmp_path: Path) -> None:
    """Nor what a service would mean by its replies."""
    write_campaign(tmp_path, 1, 3, pace='quota = 1\nrate = "1/day"\n[pace.domains]\n"*" = "1/day"\n')
    desk = Desk(tmp_path, sandbox=True)
    assert send(desk, outlook(desk)).exit_code == 0
