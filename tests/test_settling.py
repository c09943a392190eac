"""What waits for a person's word, page by page: together they are what looking through all of it finds."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.errors import Place, UsageError
from dispatcher.core.model import Skip, SkipReason, State
from dispatcher.desk import Desk, deciding
from dispatcher.desk.settling import (
    Some,
    decided_lately,
    printed_letters,
    skips,
    suppressions,
    unknown_letters,
    waiting,
)
from dispatcher.ledgers import sealing
from dispatcher.ledgers.sqlite import SqliteLedger
from dispatcher.ledgers.suppressions import REFUSED
from tests.ledger_bench import CAMPAIGN, Time, letter, on_paper, sealable

UNKNOWN: Final = 23
PRINTED: Final = 17
SKIPS: Final = 31
SUPPRESSED: Final = 29
REASONS: Final = ("asked to be taken off", "Été: bounced", "")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A ledger of two campaigns, with more of each kind than fits on a page."""
    root = tmp_path_factory.mktemp("campaign")
    (root / "campaign.toml").write_text(f'id = "{CAMPAIGN}"\n', encoding="utf-8")
    desk = Desk(root, sandbox=True)
    desk.ledger_path.parent.mkdir(parents=True)
    left_out = [Skip(f"S{n}", list(SkipReason)[n % 3], f"because {n}", Place("list.csv", n)) for n in range(SKIPS)]
    with SqliteLedger(desk.ledger_path, Time()) as ledger:
        by_mail = [letter(f"U{n}") for n in range(UNKNOWN)] + [letter(f"A{n}") for n in range(5)]
        by_paper = [on_paper(f"P{n}", f"p{n}@paper.example") for n in range(PRINTED)]
        sealing.seal(ledger, sealable([*by_mail, *by_paper], skips=left_out), 1)
        others = [letter(f"U{n}", number=f"<{n}@other.example>") for n in range(3)]
        sealing.seal(ledger, sealable(others, campaign="other", contents=()), 1)
    with closing(sqlite3.connect(desk.ledger_path)) as connection, connection:
        _fill(connection)
    return desk


def _fill(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TRIGGER letter_moves")
    connection.execute("DROP TRIGGER letter_waits_in_its_channel")
    connection.execute("INSERT INTO run (id, campaign, account, started_at) VALUES (1, ?, 'me', '2026')", (CAMPAIGN,))
    add = (
        "INSERT INTO attempt (letter, run, account, at, phase, outcome, reply, override)"
        " VALUES (?, 1, '', ?, ?, ?, ?, ?)"
    )
    for number, key in connection.execute("SELECT id, key FROM letter ORDER BY id").fetchall():
        if key.startswith("U"):
            connection.execute(add, (number, "2026-03-01", "final", "unknown", "first", "sent again"))
            connection.execute(add, (number, "2026-03-02", "final", "unknown", f"lost {key}", None))
            connection.execute("UPDATE letter SET state = 'unknown' WHERE id = ?", (number,))
        elif key.startswith("P"):
            connection.execute("UPDATE letter SET state = 'printed', reason = 'printed' WHERE id = ?", (number,))
    for n in range(SUPPRESSED):
        row = (f"s{n}@x.example", f"S{n}@x.example", REASONS[n % 3], "2026", REFUSED if n % 2 else "by hand")
        connection.execute("INSERT INTO suppression VALUES (?, ?, ?, ?, ?)", row)
    for identity, source in (
        ("p3@paper.example", "by hand"),
        ("p4@paper.example", REFUSED),
        ("@paper.example", REFUSED),
    ):
        connection.execute("INSERT INTO suppression VALUES (?, ?, 'why', '2026', ?)", (identity, identity, source))


def looked_at(desk: Desk, sql: str) -> list[Any]:
    with closing(sqlite3.connect(desk.ledger_path)) as connection:
        return [row[0] if len(row) == 1 else row for row in connection.execute(sql)]


def pages(read: Callable[[Any], Some], start: Any, last: str, size: int) -> Iterator[Mapping[str, Any]]:
    """All rows, page by page."""
    after = start
    while True:
        some = read(after)
        assert len(some.rows) <= size
        yield from some.rows
        if not some.more:
            return
        assert some.rows
        after = some.rows[-1][last]


SIZES: Final = st.integers(1, 40)


@given(SIZES)
def test_every_unknown_letter_is_met_once_with_its_last_attempt(desk: Desk, size: int) -> None:
    found = list(pages(lambda after: unknown_letters(desk, after=after, size=size), 0, "id", size))
    sql = "SELECT key FROM letter WHERE campaign = 'harvest' AND state = 'unknown' ORDER BY id"
    assert [row["key"] for row in found] == looked_at(desk, sql)
    assert all(row["reply"] == f"lost {row['key']}" and row["at"] == "2026-03-02" for row in found)
    assert unknown_letters(desk, after=0, size=size).count == UNKNOWN


@given(SIZES)
def test_every_printed_letter_is_met_once(desk: Desk, size: int) -> None:
    """Whom a person suppressed is marked; an address that a relay refused is no reason against paper."""
    found = list(pages(lambda after: printed_letters(desk, after=after, size=size), 0, "id", size))
    assert [row["key"] for row in found] == [f"P{n}" for n in range(PRINTED)]
    assert {row["key"]: row["suppressed"] for row in found if row["suppressed"]} == {"P3": "p3@paper.example"}


@given(SIZES, st.sampled_from(("", *map(str, SkipReason))))
def test_every_row_without_a_letter_is_met_once(desk: Desk, size: int, reason: str) -> None:
    found = list(pages(lambda after: skips(desk, reason=reason, after=after, size=size)[0], 0, "number", size))
    there = looked_at(desk, "SELECT key, reason FROM skip WHERE campaign = 'harvest' ORDER BY rowid")
    assert [row["key"] for row in found] == [key for key, why in there if reason in ("", why)]
    some, reasons = skips(desk, reason=reason, after=0, size=size)
    assert some.count == len(found)
    assert sum(reasons.values()) == SKIPS


@given(SIZES, st.sampled_from(("", "s1", "S1", "ete", "asked", "nobody", "%")))
def test_every_suppressed_address_is_met_once(desk: Desk, size: int, text: str) -> None:
    found = list(pages(lambda after: suppressions(desk, text=text, after=after, size=size), "", "identity", size))
    there = looked_at(desk, "SELECT identity, address, reason FROM suppression ORDER BY identity")
    wanted = text.casefold()
    said = {identity: f"{address}\n{reason}".casefold().replace("é", "e") for identity, address, reason in there}
    assert [row["identity"] for row in found] == [identity for identity, words in said.items() if wanted in words]


def test_how_much_there_is_of_each(desk: Desk) -> None:
    there = waiting(desk)
    assert (there.unknown, there.printed, there.skipped, there.suppressed) == (UNKNOWN, PRINTED, SKIPS, SUPPRESSED + 3)


# What was seen is what is decided about.


@pytest.fixture
def fresh(tmp_path: Path) -> Desk:
    (tmp_path / "campaign.toml").write_text(f'id = "{CAMPAIGN}"\n', encoding="utf-8")
    desk = Desk(tmp_path, sandbox=True)
    desk.ledger_path.parent.mkdir(parents=True)
    with SqliteLedger(desk.ledger_path, Time()) as ledger:
        sealing.seal(ledger, sealable([letter("U0"), letter("U1")]), 1)
    with closing(sqlite3.connect(desk.ledger_path)) as connection, connection:
        connection.execute("INSERT INTO run (id, campaign, account, started_at) VALUES (1, 'harvest', 'me', '2026')")
        for number in (1, 2):
            row = (number, number, "2026-03-01", "lost")
            connection.execute("UPDATE letter SET state = 'leased', lease = 1 WHERE id = ?", (number,))
            connection.execute("UPDATE letter SET state = 'at_risk' WHERE id = ?", (number,))
            connection.execute(
                "INSERT INTO attempt (id, letter, run, account, at, phase, outcome, reply)"
                " VALUES (?, ?, 1, 'me', ?, 'final', 'unknown', ?)",
                row,
            )
            connection.execute("UPDATE letter SET state = 'unknown', lease = NULL WHERE id = ?", (number,))
    return desk


def state_of(desk: Desk, key: str) -> str:
    return str(looked_at(desk, f"SELECT state FROM letter WHERE key = '{key}'")[0])


@pytest.mark.parametrize("decision", ["accepted", "failed", "resend"])
def test_what_was_seen_is_decided(fresh: Desk, decision: str) -> None:
    assert deciding.resolve(fresh, "U0", decision, why="so", who="Ada", seen=1) is State.UNKNOWN
    (event,) = decided_lately(fresh)
    assert (event["kind"], event["key"], event["who"], event["why"]) == ("resolved", "U0", "Ada", "so")
    assert decided_lately(fresh, until=event["id"], most=1) == [event]


@pytest.mark.parametrize("seen", [0, 2, 99])
def test_another_attempt_than_was_seen_is_not_decided_about(fresh: Desk, seen: int) -> None:
    with pytest.raises(UsageError, match="letter U0 is no longer as you saw it: it is unknown now"):
        deciding.resolve(fresh, "U0", "accepted", why="so", seen=seen)
    assert state_of(fresh, "U0") == "unknown"
    assert decided_lately(fresh) == []


def test_what_was_decided_is_not_decided_again_by_what_was_seen_before(fresh: Desk) -> None:
    """Though a failed letter may be resent by who looks at it as it is."""
    deciding.resolve(fresh, "U0", "failed", why="so", seen=1)
    with pytest.raises(UsageError, match="it is failed now"):
        deciding.resolve(fresh, "U0", "resend", why="so", seen=1)
    assert state_of(fresh, "U0") == "failed"
    deciding.resolve(fresh, "U0", "resend", why="so")
    assert state_of(fresh, "U0") == "ready"
