"""A rehearsal: the whole run and staff's part in it, on virtual time, against a relay that plays faults."""

import asyncio
import hashlib
import inspect
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.cli.rehearsing import Faults, rehearse
from dispatcher.desk.agreement import Agreement
from dispatcher.desk.rehearsing import Moment, Rehearsal, Sent, Wish
from dispatcher.dispatch import Close, Dispatch
from dispatcher.ledgers.state import state_folder
from dispatcher.sandbox.faults import REGIMES, Fault, Regime, Step
from tests.command import (
    FEW,
    Done,
    argv,
    dispatcher,
    edit,
    environment,
    new_campaign,
    read_list,
    use_server,
    write_list,
)
from tests.smtp_server import SmtpServer
from tests.torture import write_campaign

LETTERS = 60
PACE = 'connections = 4\nrate = "30/min"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_campaign(tmp_path / "campaign", 1, LETTERS, pace=PACE)


@dataclass(frozen=True)
class Played:
    """All that a rehearsal told."""

    sent: list[Sent]
    timeline: list[Moment]
    agreement: Agreement
    counts: Mapping[str, int]
    code: int
    played: Mapping[str, int]
    todo: list[str]

    @property
    def ends(self) -> list[Close]:
        return [one.result.report.close for one in self.sent]

    @property
    def story(self) -> list[tuple[timedelta, timedelta, str, int]]:
        """The timeline, from its beginning on."""
        start = self.timeline[0].at
        return [(m.at - start, m.until - start, m.what, m.letters) for m in self.timeline]


def play(
    folder: Path,
    faults: str = "none",
    *,
    regime: Regime | None = None,
    observe: Callable[[Dispatch], None] | None = None,
    **wish: Any,
) -> Played:
    with Rehearsal(folder, Wish(faults, **wish), regime=regime) as rehearsal:
        sent = []
        while turn := rehearsal.next_turn():
            sent.append(rehearsal.send(turn, observe))
        found = rehearsal.agreement()
        told = list(rehearsal.timeline()), found, rehearsal.counts(), rehearsal.exit_code
        return Played(sent, *told, dict(rehearsal.relay.played), list(rehearsal.left_to_do()))


def adds_up(counts: Mapping[str, int]) -> bool:
    return sum(n for name, n in counts.items() if name != "letters") == counts["letters"]


def lines(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


# Each regime.


def test_what_can_be_asked_for_is_what_is_played() -> None:
    """Faults and seed stand in the command too, which loads no relay to print its help."""
    assert list(Faults) == list(REGIMES)
    assert inspect.signature(rehearse).parameters["seed"].default == Wish().seed


@pytest.mark.parametrize("faults", list(Faults))
def test_counts_add_up_to_the_plan_and_ledger_and_relay_agree(folder: Path, faults: Faults) -> None:
    done = dispatcher("rehearse", "--faults", faults, "--json", folder=folder)
    *told, counts = lines(done)
    assert (counts["letters"], adds_up(counts)) == (LETTERS, True)
    (found,) = (one for one in told if one["event"] == "agreement")
    assert found["sound"] is True
    assert found["unknown"] == counts["unknown"]
    assert found["kept"] == counts["accepted"] + found["arrived"]
    assert done.code == (0 if counts["accepted"] == LETTERS else 3)
    assert told[-1]["exit_code"] == done.code
    assert {one["event"] for one in told} == {"send", "timeline", "commands", "agreement", "end"}


def test_without_faults_all_are_accepted_at_their_pace(folder: Path) -> None:
    played = play(folder)
    assert (played.code, played.counts["accepted"], played.played) == (0, LETTERS, {})
    took = timedelta(seconds=2 * (LETTERS - 1))
    assert played.story == [
        (timedelta(), took, f"dispatcher send -C {folder} --confirm {LETTERS}: finished", 0),
        (timedelta(), took, "accepted", LETTERS),
    ]


def test_faults_of_all_kinds_are_met(folder: Path) -> None:
    played = play(folder, "hostile")
    assert played.code == 3
    assert sum(played.played.values()) > LETTERS / 2
    assert len(played.played) > 10
    assert played.counts["waiting"] == 0
    assert played.counts["failed"]
    assert 0 < played.agreement.arrived < played.agreement.unknown  # of both kinds
    assert played.todo == [
        f"dispatcher log --state unknown -C {folder}",
        f"dispatcher resolve KEY -C {folder} --as … --why …",
        f"dispatcher log --state failed -C {folder}",
    ]


def test_a_grey_list_costs_each_letter_a_second_try(folder: Path) -> None:
    played = play(folder, "greylist")
    assert (played.code, played.counts["accepted"]) == (0, LETTERS)
    put_off = "deferred at RCPT: 450 4.7.1 greylisted, come back in five minutes"
    assert [(what, letters) for _, _, what, letters in played.story if letters] == [
        (put_off, LETTERS), ("accepted", LETTERS),
    ]  # fmt: skip
    assert played.timeline[-1].at - played.timeline[0].at >= timedelta(minutes=5)
    assert played.ends == [Close.WAITING, Close.FINISHED]
    assert len(play(folder, "greylist", wait=True).sent) == 1


def test_a_quota_that_the_mail_service_tells_in_its_own_words(folder: Path) -> None:
    """The run ends, no letter is tried in vain but one, and staff come back a day later."""
    edit(folder / "campaign.toml", "[relay]\n", '[relay]\nprofile = "gmail"\n')
    played = play(folder, "quota")
    assert (played.code, played.counts["accepted"]) == (0, LETTERS)
    assert played.ends == [Close.QUOTA, Close.FINISHED]
    first, second = played.sent
    until = first.result.report.until
    assert until is not None
    assert until - first.ended == timedelta(hours=24)
    assert second.turn.at - until == timedelta(minutes=15)
    assert sum(played.played.values()) <= 4  # connections


def test_a_quota_in_words_that_nobody_knows_looks_like_a_refusal(folder: Path) -> None:
    done = dispatcher("rehearse", "--faults", "quota", folder=folder)
    assert done.code == 0
    assert "5 policy refusals in a row, the last: 550 5.4.5 daily sending limit reached" in done.all
    assert "The relay's quota was taken for a refusal by its policy" in done.out
    assert "name your mail service under [relay], profile" in done.out


def test_the_campaigns_own_quota_ends_a_day(folder: Path) -> None:
    edit(folder / "campaign.toml", 'rate = "30/min"', 'rate = "30/min"\nquota = 25')
    played = play(folder)
    assert played.ends == [Close.QUOTA, Close.QUOTA, Close.FINISHED]
    assert [m.letters for m in played.timeline if m.letters] == [25, 25, 10]
    assert played.timeline[-1].until - played.timeline[0].at > timedelta(hours=48)
    assert [one.turn.command.split()[-1] for one in played.sent] == ["60", "35", "10"]


@pytest.mark.parametrize("pace", ['rate = "30/min"', 'rate = "1/s"\nquota = 25', "quota = 7"])
def test_the_forecast_is_what_happens(folder: Path, pace: str) -> None:
    edit(folder / "campaign.toml", 'rate = "30/min"', pace)
    played = play(folder, wait=True)
    (sent,) = played.sent
    assert sent.turn.forecast is not None
    last = max(moment.until for moment in played.timeline if moment.letters)
    foreseen = datetime.fromisoformat(sent.turn.forecast.done_at)
    assert abs(last - foreseen) <= timedelta(seconds=1)
    if sent.turn.forecast.resumes_at:
        assert datetime.fromisoformat(sent.turn.forecast.resumes_at) < foreseen


def test_after_not_after_nothing_leaves(folder: Path) -> None:
    """All are put off by the grey list, and when they are due again it is too late."""
    moment = (datetime.now(UTC) + timedelta(minutes=4)).isoformat(timespec="seconds")
    edit(folder / "campaign.toml", "date = 2009-10-01\n", f"date = 2009-10-01\nnot_after = {moment}\n")
    played = play(folder, "greylist")
    assert (played.code, played.counts["waiting"], played.ends[-1]) == (3, LETTERS, Close.DEADLINE)
    assert all(one.ended <= datetime.fromisoformat(moment) + timedelta(hours=1) for one in played.sent)


def test_a_not_after_that_cannot_be_met_is_told_as_by_send(folder: Path) -> None:
    moment = (datetime.now(UTC) + timedelta(minutes=1)).isoformat(timespec="seconds")
    edit(folder / "campaign.toml", "date = 2009-10-01\n", f"date = 2009-10-01\nnot_after = {moment}\n")
    done = dispatcher("rehearse", folder=folder)
    assert done.code == 2
    assert "not_after cannot be met" in done.err


def test_what_is_unknown_and_sent_again_by_rule_is_told(folder: Path) -> None:
    edit(folder / "campaign.toml", "date = 2009-10-01\n", 'date = 2009-10-01\non_unknown = "resend"\n')
    drops = Regime((Fault(Step.DOT, 0.2, drop=True, taken=True), Fault(Step.DOT, 0.1, drop=True)))
    played = play(folder, regime=drops)
    assert played.code == 0
    assert played.agreement.sound
    assert played.agreement.again > 0
    assert played.agreement.kept == LETTERS + sum(n for words, n in played.played.items() if "kept" in words)


def test_a_relay_that_never_takes_anything_ends_it_all_the_same(folder: Path) -> None:
    """Letters fail at the end of their life; a relay that is away is given up after some time."""
    (folder / "list.csv").write_text("key,email,token\nA,a@one.example,1\nB,b@one.example,2\n", encoding="utf-8")
    refused = play(folder, regime=Regime((Fault(Step.RCPT, 1, b"450 4.2.1 busy\r\n"),)))
    assert (refused.counts["failed"], refused.code) == (2, 3)
    away = play(folder, regime=Regime((Fault(Step.CONNECT, 1, drop=True),)))
    assert (away.counts["waiting"], away.code) == (2, 3)
    assert len(away.sent) == 31


class Workers(set[Any]):
    """Those of a run; too many are none that wait."""

    sent_out = 0

    def add(self, one: Any) -> None:
        self.sent_out += 1
        assert self.sent_out < 500, "workers come and go while one of them knocks"
        super().add(one)


def test_while_one_knocks_no_others_are_sent_out_in_vain(folder: Path) -> None:
    """Who was sent would go home at once, and be sent again: a loop without a rest, as long as the relay is away."""

    def count(dispatch: Dispatch) -> None:
        dispatch._workers = Workers()

    closed = Regime((Fault(Step.CONNECT, 0.8, drop=True), Fault(Step.DOT, 0.3, b"451 4.3.0 later\r\n", drop=True)))
    played = play(folder, regime=closed, wait=True, observe=count)
    assert played.counts["accepted"] == LETTERS


# Repeatable, whatever the machine does beside it.


@contextmanager
def busy() -> Iterator[None]:
    """Threads that now and then take the interpreter for as long as they can."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.004):
            for _ in range(2000):
                hashlib.sha256(b"x" * 1000).digest()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("pace", [PACE, "connections = 4"], ids=["paced", "as fast as it goes"])
def test_the_same_seed_is_the_same_rehearsal_on_a_busy_machine(folder: Path, pace: str) -> None:
    """To the microsecond: no time passes but what is waited for, so slowness makes no fault."""
    edit(folder / "campaign.toml", PACE, pace)
    calm = play(folder, "hostile")
    with busy():
        again = play(folder, "hostile")
    assert again.story == calm.story
    assert (again.counts, again.played, again.agreement) == (calm.counts, calm.played, calm.agreement)
    other = play(folder, "hostile", seed=2)
    assert other.story != calm.story


def test_the_same_in_processes_with_other_hashes(folder: Path) -> None:
    def told(seed: str) -> Any:
        words = ("rehearse", "--faults", "hostile", "--json")
        done = dispatcher(*words, folder=folder, env={"PYTHONHASHSEED": seed}, anew=True)
        return [one for one in lines(done) if one.get("event") not in ("send", "timeline", "commands")]

    assert told("1") == told("2")


# What it leaves alone, and what it leaves behind.


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_folder_ledger_and_marks_stay_as_they_are(tmp_path: Path) -> None:
    """Also beside a real ledger; what the password is read with is never started."""
    folder = new_campaign(tmp_path / "campaign")
    with SmtpServer() as server:
        use_server(folder, server)
        assert dispatcher("send", "--limit", "2", "--confirm", "2", folder=folder).code == 0
        taken = len(server.stored)
        text = (folder / "campaign.toml").read_text(encoding="utf-8")
        witness = tmp_path / "witness"
        secret = f'user = "a@example.org"\npassword = {{ command = ["touch", "{witness}"] }}\nsecurity = "starttls"'
        (folder / "campaign.toml").write_text(text.replace('security = "none"', secret), encoding="utf-8")
        before = contents(folder), contents(state_folder())
        done = dispatcher("rehearse", "--faults", "flaky", folder=folder)
        assert done.code in (0, 3), done
        assert f"Rehearsal of {len(FEW)} letters" in done.out
        assert "(2 letters may have left already; this begins as if none had.)" in done.out
        assert (contents(folder), contents(state_folder())) == before
        assert len(server.stored) == taken
    assert not witness.exists()


def test_it_is_thrown_away(folder: Path) -> None:
    with Rehearsal(folder, Wish()) as rehearsal:
        turn = rehearsal.next_turn()
        assert turn is not None
        rehearsal.send(turn)
        ledger = rehearsal.desk.ledger_path
        assert ledger.exists()
        assert folder not in ledger.parents
        scratch = next(path for path in ledger.parents if path.name.startswith("dispatcher-"))
    assert not scratch.exists()
    assert not (folder / ".dispatcher").exists()


def test_nothing_is_left_where_it_cannot_begin(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (folder / ".dispatcher/ledger.sqlite").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pytest.raises(OSError, match="directory"), Rehearsal(folder, Wish()):
        pass
    assert list(scratch.iterdir()) == []


def test_it_is_kept_by_name_and_can_be_looked_at(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    before = contents(state_folder())
    done = dispatcher("rehearse", "--faults", "hostile", "--keep", str(kept), folder=folder)
    assert done.code == 3
    counts = done.out.splitlines()[-1]
    options = ("-C", str(kept), "--sandbox")
    assert f"dispatcher verify -C {kept} --sandbox" in done.out
    assert dispatcher("status", *options, folder=tmp_path).out.splitlines()[1] == counts
    assert dispatcher("verify", *options, folder=tmp_path).code == 0
    rows = dispatcher("log", *options, "--state", "accepted", "--json", folder=tmp_path).json["rows"]
    assert f"{len(rows)} accepted" in counts
    mails = list((kept / "mail").glob("*.eml"))
    assert f"the relay kept {len(mails)} messages" in done.out
    assert len(mails) > len(rows)
    assert contents(state_folder()) == before
    assert sorted(path.name for path in kept.iterdir()) == [".dispatcher", "campaign.toml", "mail"]
    # It is no campaign that could send, and its ledger is nobody's.
    assert dispatcher("send", "-C", str(kept), folder=tmp_path).code == 2
    assert dispatcher("status", "-C", str(kept), folder=tmp_path).code == 4
    (folder / ".dispatcher").mkdir()
    (kept / ".dispatcher/sandbox/ledger.sqlite").rename(folder / ".dispatcher/ledger.sqlite")
    refused = dispatcher("send", folder=folder)
    assert (refused.code, "this machine does not know the ledger" in refused.err) == (5, True)


def test_nothing_is_kept_where_something_is(folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "notes.txt").write_text("mine", encoding="utf-8")
    for place in (there, there / "notes.txt"):
        done = dispatcher("rehearse", "--keep", str(place), folder=folder)
        assert (done.code, "is there already and not empty" in done.err) == (2, True)
    assert [path.name for path in there.iterdir()] == ["notes.txt"]


def test_what_is_wrong_in_the_folder_is_told_as_by_send(folder: Path, tmp_path: Path) -> None:
    edit(folder / "templates/letter.md", "{{ token }}", "{{ tokne }}")
    kept = tmp_path / "kept"
    done = dispatcher("rehearse", "--keep", str(kept), folder=folder)
    assert (done.code, "tokne" in done.err) == (2, True)
    assert not kept.exists()
    told = dispatcher("rehearse", "--json", folder=folder)
    assert (told.code, told.json["error"]) == (2, "UsageError")


def test_a_list_without_letters(folder: Path) -> None:
    (folder / "list.csv").write_text("key,email,token\n", encoding="utf-8")
    done = dispatcher("rehearse", folder=folder)
    assert (done.code, "there is no letter to send" in done.err) == (2, True)


def test_suppressed_and_on_paper_are_counted_and_not_sent(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path / "campaign")
    columns, rows = read_list(folder, "un_missions.csv")
    write_list(folder, "un_missions.csv", [*columns, "channel"], [{**r, "channel": "paper"} for r in rows])
    address = read_list(folder, "ngos.csv")[1][0]["email"].partition(",")[0]
    assert dispatcher("suppress", "add", address, "--why", "asked", folder=folder).code == 0
    done = dispatcher("rehearse", "--json", folder=folder)
    assert (done.code, "there is no letter to send" in done.out) == (2, True)
    assert dispatcher("suppress", "remove", address, "--why", "asked again", folder=folder).code == 0
    done = dispatcher("rehearse", "--json", folder=folder)
    *told, counts = lines(done)
    assert (counts["accepted"], counts["to_print"], done.code) == (1, len(FEW) - 1, 0)
    assert told[-3]["rows"][-1]["command"] == "dispatcher paper"


# What people see.


def test_what_is_said_at_the_end(folder: Path) -> None:
    done = dispatcher("rehearse", "--faults", "flaky", "--seed", "3", folder=folder)
    parts = ("Rehearsal of 60 letters; faults: flaky, seed 3", "Timeline", "What you would type", "What really arrived")
    places = [done.out.index(part) for part in parts]
    assert places == sorted(places)
    assert "none came twice, and every letter that is accepted is there" in done.out
    assert done.out.count("$ dispatcher send --confirm") == done.out.count("To go on: ") + 1
    assert done.out.splitlines()[-1].startswith("60 letters: ")
    assert f"accepted {LETTERS}" not in done.out
    assert "there it is 2" in done.err


def test_stopped_by_a_person_it_tells_what_was_until_then(folder: Path) -> None:
    """Letters in flight finish, as always; no other `send` follows."""

    def stop_later(dispatch: Dispatch) -> None:
        asyncio.get_running_loop().call_later(19, dispatch.stop)

    played = play(folder, observe=stop_later)
    assert (played.code, played.ends) == (130, [Close.INTERRUPTED])
    assert (played.counts["accepted"], played.counts["waiting"]) == (10, LETTERS - 10)
    assert played.agreement.sound


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "campaign", 1, 3000, pace=PACE)
    env = environment(PYTHONUNBUFFERED="1", TMPDIR=str(tmp_path))
    words = argv("rehearse", "--faults", "hostile")
    with subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        while b"letters at 30/min" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["campaign"]


# That it could fail.


def test_a_disagreement_is_found(folder: Path) -> None:
    with Rehearsal(folder, Wish()) as rehearsal:
        turn = rehearsal.next_turn()
        assert turn is not None
        rehearsal.send(turn)
        kept = rehearsal.relay.kept
        assert rehearsal.agreement().sound
        first, second, third, fourth = kept[:4]
        kept[0] = replace(first, digest="0" * 64)
        kept[1] = replace(second, rcpt_tos=third.rcpt_tos)
        kept[2] = replace(third, message_id="<of.nobody@kms.example.org>")
        kept.append(fourth)
        found = rehearsal.agreement()
    assert len(found.wrong) == 2
    assert (len(found.lost), found.unaccounted, len(found.twice)) == (1, ["<of.nobody@kms.example.org>"], 1)
    assert not found.sound


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (Fault(Step.DOT, 1, b"250 2.0.0 taken\r\n"), "60 are accepted and never arrived"),
        (Fault(Step.DOT, 1, b"550 5.1.1 no\r\n", taken=True), "60 arrived, and the ledger does not know"),
    ],
)
def test_a_disagreement_is_said_loudly(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lie: Fault, words: str
) -> None:
    """By a relay that lies, which no regime does."""
    monkeypatch.setitem(REGIMES, "none", Regime((lie,)))
    with pytest.raises(typer.Exit) as left:
        rehearse(folder, faults=Faults.NONE)
    told = capsys.readouterr().err
    assert left.value.exit_code == 1
    assert f"problem: {words}" in told
    assert "ledger and relay disagree" in told


WHOLE = [b"", b"450 4.2.1 busy\r\n", b"550 5.1.1 no\r\n", b"554 5.7.1 no\r\n"]
CLOSING = b"421 4.3.2 closing\r\n"
SAID = st.sampled_from([*WHOLE, CLOSING, b"25", b"\xff\r\n"])
FAULTS = st.builds(
    Fault,
    st.sampled_from(list(Step)),
    st.floats(0.02, 0.15),
    SAID,
    st.booleans(),
    st.sampled_from([0.0, 0.0, 30.0, 400.0]),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FAULTS, max_size=5), st.integers(0, 3), st.data())
def test_whatever_is_played_ledger_and_relay_agree(
    tmp_path_factory: pytest.TempPathFactory, faults: list[Fault], seed: int, data: st.DataObject
) -> None:
    """Nothing twice, nothing lost; where replies are whole, unknown only what was broken off at the end of a message.

    (A reply that is none is out of step: then nobody can say which letter of that flight the last one was for.)
    """
    folder = write_campaign(tmp_path_factory.mktemp("any"), 1, 5, pace="connections = 3")
    keeps = [f for f in faults if f.step is Step.DOT and f.reply[:1] not in (b"4", b"5")]  # type: ignore[index]
    taken = [replace(f, taken=data.draw(st.booleans())) for f in keeps]
    plan = [f for f in faults if f not in keeps] + taken
    played = play(folder, regime=Regime(tuple(plan)), seed=seed)
    assert played.agreement.sound, played
    assert adds_up(played.counts)
    assert played.counts["letters"] == 5
    whole = all(f.reply in WHOLE or (f.reply == CLOSING and f.drop) for f in plan)
    if whole and not any(fault.step in (Step.DOT, Step.CONTENT) for fault in plan):
        assert played.counts["unknown"] == 0


def test_each_regime_can_be_wished_for() -> None:
    assert list(Faults) == list(REGIMES)


def test_where_approvals_are_wanted_they_come_first(folder: Path) -> None:
    """A rehearsal needs none; whoever sends does."""
    edit(folder / "campaign.toml", "date = 2009-10-01\n", "date = 2009-10-01\napprovals = 2\n")
    done = dispatcher("rehearse", folder=folder)
    assert done.code == 0
    typed = done.out.partition("What you would type")[2].partition("\n\n")[0].split("\n")[1:]
    assert [" ".join(line.split()[1:3]) for line in typed[:3]] == ["dispatcher seal"] + ["dispatcher approve"] * 2
    assert "dispatcher send --confirm 60" in typed[3]


def test_a_wish_for_a_regime_that_is_none(folder: Path) -> None:
    done = dispatcher("rehearse", "--faults", "stormy", folder=folder)
    assert (done.code, "stormy" in done.err) == (2, True)
