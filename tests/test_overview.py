"""What the overview counts: it adds up to the plan, whatever states letters are in and whoever writes meanwhile."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.model import State
from dispatcher.core.reading import STANDINGS, by_standing, standing_of
from dispatcher.desk import Desk
from dispatcher.desk.overview import Numbers, Overview
from dispatcher.desk.pacing import foreseen
from dispatcher.desk.purging import purge
from dispatcher.ledgers.held import is_held
from dispatcher.web.review.overview import time_left
from dispatcher.web.review.words import Words
from tests.command import dispatcher, edit, new_campaign, read_list, use_server, write_list
from tests.review_campaign import ON_PAPER, POSTED, PRINTED, SUPPRESSED, mixed_campaign
from tests.smtp_server import SmtpServer
from tests.test_purge import later


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed_campaign(tmp_path_factory.mktemp("mixed"))


@pytest.fixture
def rehearsed(tmp_path: Path) -> Path:
    root = new_campaign(tmp_path)
    assert dispatcher("send", "--sandbox", "--confirm", "6", folder=root).code == 0
    return root


@pytest.fixture
def ledger(rehearsed: Path) -> Iterator[sqlite3.Connection]:
    """The rehearsal's, opened to write anything into it, its rules put aside."""
    with closing(sqlite3.connect(rehearsed / ".dispatcher/sandbox/ledger.sqlite", isolation_level=None)) as found:
        for (name,) in found.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            found.execute(f"DROP TRIGGER {name}")
        found.execute("DROP INDEX one_live")
        yield found


def adds_up(numbers: Numbers) -> None:
    """Every view of the letters counts each of them once."""
    assert numbers.standings.keys() == set(STANDINGS)
    assert sum(numbers.standings.values()) == numbers.letters
    there = {outcome: count for outcome, count in numbers.standings.items() if count}
    for view in (numbers.languages, numbers.groups, numbers.countries):
        total: Counter[str] = Counter()
        for counts in view.values():
            total.update(counts)
        assert {outcome: count for outcome, count in total.items() if count} == there
    relays = sum((Counter(counts) for counts in numbers.relays.values()), Counter[str]())
    assert relays == sum((Counter(counts) for counts in numbers.seconds.values()), Counter[str]())


@given(st.dictionaries(st.sampled_from(State), st.integers(0, 10**6)), st.data())
def test_each_state_is_counted_in_one_outcome(counts: dict[State, int], data: st.DataObject) -> None:
    deferred = data.draw(st.integers(0, counts.get(State.READY, 0)))
    found = by_standing(counts, deferred)
    assert list(found) == list(STANDINGS)
    assert sum(found.values()) == sum(counts.values())
    assert min(found.values()) >= 0
    assert found["deferred"] == deferred


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("tried", [False, True])
def test_the_numbers_add_up_with_a_letter_in_any_state(
    rehearsed: Path, ledger: sqlite3.Connection, state: State, tried: bool
) -> None:
    counted = Overview(Desk(rehearsed, sandbox=True))
    assert counted.numbers().standings["accepted"] == 6
    lease = 1 if state in (State.LEASED, State.AT_RISK) else None
    ledger.execute(
        "UPDATE letter SET state = ?, lease = ?, attempts = ? WHERE key = 'FRA'", (str(state), lease, int(tried))
    )
    numbers = counted.numbers()
    adds_up(numbers)
    expected = Counter({"accepted": 5})
    expected[standing_of(state, tried=tried)] += 1
    assert {name: count for name, count in numbers.standings.items() if count} == dict(expected)
    assert numbers.countries["250"] == {standing_of(state, tried=tried): 1}


def test_a_campaign_in_the_middle_is_told_as_it_is(mixed: Path) -> None:
    numbers = Overview(Desk(mixed)).numbers()
    adds_up(numbers)
    assert {name: count for name, count in numbers.standings.items() if count} == {
        "accepted": 187,
        "deferred": 3,
        "failed": 3,
        "unknown": 2,
        "suppressed": len(SUPPRESSED),
        "to_print": len(ON_PAPER) - len(PRINTED),
        "printed": len(PRINTED) - len(POSTED),
        "posted": len(POSTED),
    }
    assert numbers.skipped == 3
    assert numbers.attempts == 195
    assert [sum(counts.values()) for counts in numbers.relays.values()] == [195]
    assert numbers.groups[""] == {"accepted": 12}
    assert numbers.next_due_at
    assert numbers.run
    assert (numbers.run.at_work, numbers.run.ending) == (False, "waiting")


def test_facts_are_those_that_were_sealed(mixed: Path) -> None:
    facts = Overview(Desk(mixed)).facts()
    assert facts.title == "Submission of the KMS report, UPR 6th session, Cambodia"
    assert facts.revision == 1
    assert facts.digest in dispatcher("status", "--json", folder=mixed).out
    assert facts.sender == "Khmer M'Chas Srok (KMS) <upr@kms.example.org>"
    assert list(facts.subjects) == ["en", "es", "fr"]
    assert facts.subjects["fr"] == "Examen périodique universel du Cambodge, sixième session – Rapport de KMS"
    assert facts.skipped == {"filtered": 3}
    assert facts.approvals is None


def test_nothing_is_counted_again_before_the_ledger_has_changed(rehearsed: Path, ledger: sqlite3.Connection) -> None:
    counted = Overview(Desk(rehearsed, sandbox=True))
    first = counted.numbers()
    assert counted.numbers() is first
    ledger.execute("UPDATE letter SET state = 'failed' WHERE key = 'FRA'")
    assert counted.numbers().standings["failed"] == 1


def test_attempts_are_counted_once_in_whatever_order_they_end(rehearsed: Path, ledger: sqlite3.Connection) -> None:
    counted = Overview(Desk(rehearsed, sandbox=True))
    assert counted.numbers().attempts == 6
    insert = (
        "INSERT INTO attempt (letter, run, account, at, ended_at, phase, outcome) "
        "VALUES (?, 1, 'sandbox', '2026-03-01T10:00:00.5+00:00', ?, 'final', ?)"
    )
    ledger.execute("UPDATE letter SET state = 'at_risk', lease = 1 WHERE id IN (1, 2)")
    ledger.execute(insert, (1, None, "at_risk"))
    ledger.execute(insert, (2, "2026-03-01T10:00:02.5+00:00", "deferred"))
    assert counted.numbers().attempts == 7
    ledger.execute("UPDATE attempt SET outcome = 'accepted', ended_at = '2026-03-01T10:00:03+00:00' WHERE id = 7")
    ledger.execute("UPDATE letter SET state = 'ready', lease = NULL WHERE id IN (1, 2)")
    numbers = counted.numbers()
    assert numbers.attempts == 8
    assert numbers.relays[""] == {"accepted": 1, "deferred": 1}
    assert counted.numbers().attempts == 8


def test_a_new_rehearsal_is_another_ledger(rehearsed: Path) -> None:
    counted = Overview(Desk(rehearsed, sandbox=True))
    assert counted.numbers().letters == 6
    columns, rows = read_list(rehearsed, "un_missions.csv")
    write_list(rehearsed, "un_missions.csv", columns, [row for row in rows if row["key"] != "FRA"])
    assert dispatcher("send", "--sandbox", "--fresh", "--confirm", "5", folder=rehearsed).code == 0
    numbers = counted.numbers()
    assert numbers.letters == 5
    assert "250" not in numbers.countries


def test_an_amended_plan_is_counted_by_its_new_fields(rehearsed: Path) -> None:
    counted = Overview(Desk(rehearsed))
    assert dispatcher("seal", folder=rehearsed).code == 0
    assert counted.numbers().groups["WEOG"] == {"waiting": 3}
    columns, rows = read_list(rehearsed, "un_missions.csv")
    changed = {"group": "Another group", "name": "Mission de la France"}  # the group alone would change no letter
    rows = [{**row, **(changed if row["key"] == "FRA" else {})} for row in rows]
    write_list(rehearsed, "un_missions.csv", columns, rows)
    assert dispatcher("amend", "--confirm", "1", folder=rehearsed).code == 0
    numbers = counted.numbers()
    adds_up(numbers)
    assert numbers.groups["Another group"] == {"waiting": 1}
    assert numbers.runs == 0
    assert numbers.run is None


def test_a_column_that_is_another_in_every_row_groups_nothing(rehearsed: Path) -> None:
    columns, rows = read_list(rehearsed, "un_missions.csv")
    more = [
        {**rows[0], "key": f"X{n}", "email": f"x{n}@missions.example.org", "group": f"group {n}"} for n in range(60)
    ]
    write_list(rehearsed, "un_missions.csv", columns, [*rows, *more])
    assert dispatcher("seal", folder=rehearsed).code == 0
    numbers = Overview(Desk(rehearsed)).numbers()
    adds_up(numbers)
    assert list(numbers.groups) == [""]


def test_before_anything_is_sealed_it_says_what_to_do(tmp_path: Path) -> None:
    counted = Overview(Desk(new_campaign(tmp_path)))
    for ask in (counted.numbers, counted.facts):
        with pytest.raises(LedgerUnavailable, match="Begin with: dispatcher send"):
            ask()


def test_a_look_at_who_holds_the_ledger_holds_nobody_up(rehearsed: Path) -> None:
    desk = Desk(rehearsed, sandbox=True)
    assert not is_held(desk.ledger_path)
    with desk.ledger():
        assert is_held(desk.ledger_path)
    assert not is_held(desk.ledger_path)
    with desk.ledger():
        pass


def test_a_run_that_was_killed_is_not_at_work(rehearsed: Path, ledger: sqlite3.Connection) -> None:
    ledger.execute("UPDATE run SET ended_at = NULL, ending = ''")
    counted = Overview(Desk(rehearsed, sandbox=True))
    run = counted.numbers().run
    assert run
    assert (run.at_work, run.ended_at) == (False, "")
    with Desk(rehearsed, sandbox=True).ledger():
        run = counted.numbers().run
        assert run
        assert (run.at_work, run.attempts) == (True, 6)


def test_what_was_purged_is_counted_and_kept_nowhere(tmp_path: Path) -> None:
    folder = mixed_campaign(tmp_path / "campaign")
    desk = Desk(folder)
    counted = Overview(desk)
    before = counted.numbers()
    purge(later(folder), "2y", 204)
    numbers = counted.numbers()
    adds_up(numbers)
    assert numbers.standings["accepted"] == before.standings["accepted"]
    assert (list(numbers.groups), list(numbers.countries)) == ([""], [""])
    assert counted.facts().subjects == {}


def test_who_approved_it_and_what_was_tried_on_oneself_is_told(tmp_path: Path) -> None:
    root = new_campaign(tmp_path)
    edit(root / "campaign.toml", "# approvals = 2", "approvals = 2")
    assert dispatcher("seal", folder=root).code == 0
    assert dispatcher("approve", "--by", "Ada Pomme", folder=root).code == 0
    with SmtpServer() as server:
        use_server(root, server)
        assert dispatcher("send", "--test-to", "me@tester.example", "--limit", "2", folder=root).code == 0
    facts = Overview(Desk(root)).facts()
    assert facts.approvals
    assert (facts.approvals["counted"], facts.approvals["wanted"]) == (1, 2)
    assert [row["name"] for row in facts.approvals["rows"]] == ["Ada Pomme"]
    assert [test["outcome"] for test in facts.tests] == ["accepted", "accepted"]
    assert facts.sealed_by == "keeper"


def test_time_left_is_by_the_pace_and_not_by_hope(tmp_path: Path) -> None:
    """Six letters at one a minute: five minutes, whatever the relay could take."""
    root = new_campaign(tmp_path)
    edit(root / "campaign.toml", "36,000/min", "1/min")
    assert dispatcher("seal", folder=root).code == 0
    desk = Desk(root)
    found = foreseen(desk, desk.campaign(), 6)
    assert found
    left = (found.done_at - desk.clock.now()).total_seconds()
    assert 290 < left <= 300
    assert foreseen(desk, desk.campaign(), 0) is None
    assert foreseen(Desk(root, sandbox=True), desk.campaign(), 6) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "It cannot be told yet how long it takes."),
        (0.0, "Less than a minute left."),
        (61.0, "About 2 minutes left."),
        (3_540.0, "About 59 minutes left."),
        (3_541.0, "About 1 hour left."),
        (7_201.0, "About 3 hours left."),
        (3 * 86_400.0, "About 3 days left."),
    ],
)
def test_time_left_is_rounded_up(seconds: float | None, said: str) -> None:
    assert time_left(Words("en"), seconds) == said
