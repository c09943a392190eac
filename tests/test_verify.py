"""A ledger in which something was changed, removed, inserted or swapped behind the program's back is found out, and the
first such row is named; what only a signature, a dossier or a hash kept elsewhere can show is said as it is.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from dispatcher.core import chain
from dispatcher.core.model import State
from dispatcher.desk import Desk
from dispatcher.desk.approvals import approve
from dispatcher.desk.deciding import amend, changes, resolve, suppress, unsuppress
from dispatcher.desk.dossier import Wish, write_dossier
from dispatcher.desk.proving import verify_dossier
from dispatcher.desk.sending import outlook, seal_now, send
from dispatcher.desk.testing import send_tests
from dispatcher.desk.verifying import Verified, verify_ledger
from dispatcher.ledgers.evidence import Evidence
from dispatcher.ledgers.printing import PrintedFile, record
from dispatcher.ledgers.statements import SCHEMA
from tests.chained import require_chained
from tests.command import dispatcher
from tests.keys import private_key
from tests.smtp_server import CLOSE, STORE, Actions
from tests.test_purge import Later
from tests.torture import Rules, write_campaign

LETTERS: Final = 12
REPLY: Final = "550 5.1.1 nobody <k00001@missions.example.org> here é\r\n"

UNPROVEN: Final = {
    **dict.fromkeys(("due_at", "attempts", "first_attempt_at", "lease", "reason"), "letter"),
}
"""Columns of letters that are notes for the work to come, and no evidence."""
WORKING: Final = {"transition", "suppression", "pace", "sqlite_sequence"}
"""Tables that change, and hold no evidence: who is suppressed is held against events and replies."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with every kind of row: refused, deferred, unknown, settled, sent again, approved, tested, amended."""
    folder = tmp_path_factory.mktemp("verify") / "campaign"
    here: dict[int, bytes] = {}

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "RCPT":
            here[connection] = line
            if b"k00001@" in line:
                return REPLY.encode()
            if b"k00002@" in line:
                return b"450 4.2.0 later\r\n"
        if step == "DOT" and b"k00003@" in here[connection]:
            return STORE, CLOSE
        if step == "DOT" and b"k00004@" in here[connection] and not again:
            return CLOSE
        return None

    again: list[bool] = []
    with Rules(rule) as server:
        write_campaign(folder, server.port, LETTERS, pace="connections = 1", top="approvals = 1")
        desk = Desk(folder)
        seal_now(desk, outlook(desk))
        approve(desk, by="Ada", key=private_key(folder.parent / "ada"))
        send_tests(desk, "me@example.org", limit=1)
        send(desk, outlook(desk))
        resolve(desk, "K00003", "accepted", why="they telephoned")
        resolve(desk, "K00004", "resend", why="the relay has no trace of it")
        again.append(True)
        send(desk, outlook(desk))
        suppress(desk, ["k00005@missions.example.org"], reason="asked by telephone", source="by hand")
    with desk.ledger() as ledger:
        files = [PrintedFile("letters.pdf", "letters", 5, "ab")]
        record(ledger, 1, "torture-2009", [], files, "Ada")
        ledger.do(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall() if not c.in_transaction else None)
    return folder


@pytest.fixture
def forged(folder: Path, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of its ledger for a forger: no trigger, no key is in the way."""
    path = tmp_path / "ledger.sqlite"
    for each in (folder / ".dispatcher").glob("ledger.sqlite*"):
        shutil.copy(each, tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        yield connection


def look(connection: sqlite3.Connection, **how: Any) -> Verified:
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    return verify_ledger(Path(path), lambda *_: None, **how)


def test_a_ledger_as_it_was_written(folder: Path) -> None:
    seen: list[str] = []
    found = verify_ledger(folder / ".dispatcher/ledger.sqlite", lambda what, *_: seen.append(what), desk=Desk(folder))
    assert found.faults == []
    assert found.letters == LETTERS
    assert {"attempts", "overrides", "events", "approvals", "printings", "plans", "sessions", "runs", "runs' ends",
            "tests"} == set(found.by_kind)  # fmt: skip
    assert (found.signed, found.unsigned, found.under_way) == (1, 0, 0)
    assert found.messages == LETTERS - 1  # two never left, and one left twice
    assert set(seen) == {"links of the chain", "letters"}


def columns() -> list[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [
            (table, row[1])
            for table in tables
            if table not in WORKING | {"purge", "purged", "skip"}
            for row in connection.execute(f"PRAGMA table_info({table})")
            if UNPROVEN.get(row[1]) != table and (table, row[1]) not in (("ledger", "id"), ("ledger", "unclean"))
        ]


CHOSEN: Final = {
    "attempt": "override IS NOT NULL",
    "rcpt": "outcome = 'failed'",
    "letter": "state = 'accepted' AND id > 6",
    "sealed": "letter > 6",
    "event": "letter IS NOT NULL",
}
"""Which row of a table: not the first, where there are others."""


def flipped(value: Any, kind: str) -> Any:
    """The value with the least that can be changed in it."""
    if isinstance(value, bytes):
        middle = len(value) // 2
        return value[:middle] + bytes((value[middle] ^ 1,)) + value[middle + 1 :]
    if isinstance(value, str) and value:
        middle = len(value) // 2
        return value[:middle] + chr(ord(value[middle]) ^ 1) + value[middle + 1 :]
    if isinstance(value, int):
        return value + 1000
    return 1 if kind == "INTEGER" else "x"


NAMED: Final = {
    ("attempt", "override"): "override",
    ("run", "ended_at"): "run's end",
    ("run", "ending"): "run's end",
}
"""What kind of row is named when a column was changed, if not that of its table."""
MOVES: Final = {"id", "attempt", "letter", "run", "session", "campaign", "revision"}
"""Columns that make another row of it: which one is named first depends on that."""


@pytest.mark.parametrize(("table", "column"), columns())
def test_one_changed_character_is_found_in_every_column(forged: sqlite3.Connection, table: str, column: str) -> None:
    kinds = {row[1]: row[2] for row in forged.execute(f"PRAGMA table_info({table})")}
    key = "attempt" if table == "rcpt" else "id" if "id" in kinds else next(iter(kinds))
    where = CHOSEN.get(table, "1")
    last = f"SELECT {key}, {column} FROM {table} WHERE {where} ORDER BY {key} DESC LIMIT 1"
    name, value = forged.execute(last).fetchone()
    sql = f"UPDATE {table} SET {column} = ? WHERE {key} IS ? AND {where}"
    assert forged.execute(sql, (flipped(value, kinds[column]), name)).rowcount == 1
    faults = look(forged).faults
    assert faults, f"{table}.{column} was changed, and nobody noticed"
    kind = NAMED.get((table, column), "attempt" if table == "rcpt" else table)
    if kind in chain.KINDS and column not in MOVES:
        assert (faults[0].kind, faults[0].id) == (kind, name)
    if kind == "attempt" and column not in MOVES:
        assert faults[0].key == ("K00001" if table == "rcpt" else "K00004")


@pytest.mark.parametrize(("table", "column"), [("sealed", "recipient"), ("sealed", "message_id"), ("attempt", "reply")])
def test_octets_that_are_no_text_any_more_are_a_change_too(forged: sqlite3.Connection, table: str, column: str) -> None:
    forged.execute(f"UPDATE {table} SET {column} = CAST(x'ff' || letter AS TEXT) WHERE letter = 5")
    named = {fault.kind for fault in look(forged).faults}
    assert ("letter" if table == "sealed" else table) in named


def test_skips_are_part_of_the_plan(forged: sqlite3.Connection) -> None:
    forged.execute("INSERT INTO skip SELECT campaign, revision, 'K', 'filtered', 'd', 'p' FROM plan")
    assert [(fault.check, fault.kind, fault.id) for fault in look(forged).faults] == [("the plan", "plan", 1)]


def test_skips_of_an_amended_plan_stay_proven(tmp_path: Path) -> None:
    with Rules(lambda *_: None) as server:
        folder = write_campaign(tmp_path / "campaign", server.port, 3, pace="connections = 1")
        path = folder / "campaign.toml"
        where = "where = 'key != \"K00001\"'\n"
        path.write_text(path.read_text().replace("[[recipients]]\n", f"[[recipients]]\n{where}"), encoding="utf-8")
        desk = Desk(folder)
        seal_now(desk, outlook(desk))
        rows = folder / "list.csv"
        rows.write_text(rows.read_text().replace("K00002,k00002", "K00002,other"), encoding="utf-8")
        draft, summary, _, _ = changes(desk)
        amend(desk, draft, summary)
    with closing(sqlite3.connect(desk.ledger_path, isolation_level=None)) as connection:
        assert connection.execute("SELECT revision, key FROM skip").fetchall() == [(1, "K00001"), (2, "K00001")]
        assert look(connection).faults == []
        connection.execute("DROP TRIGGER skip_stays")
        for revision in (1, 2):
            connection.execute("UPDATE skip SET reason = 'invalid' WHERE revision = ?", (revision,))
            faults = look(connection).faults
            assert [(fault.check, fault.kind, fault.id) for fault in faults] == [("the plan", "plan", revision)]
            connection.execute("UPDATE skip SET reason = 'filtered' WHERE revision = ?", (revision,))


@pytest.mark.parametrize("table", ["attempt", "event", "approval", "printing", "session", "run", "test", "plan"])
def test_a_removed_row_is_named(forged: sqlite3.Connection, table: str) -> None:
    (last,) = forged.execute(f"SELECT max(id) FROM {table}").fetchone()
    forged.execute(f"DELETE FROM {table} WHERE id = ?", (last,))
    found = look(forged)
    assert (table, last) in {(fault.kind, fault.id) for fault in found.faults}
    assert "was removed" in next(fault.why for fault in found.faults if fault.kind == table)


@pytest.mark.parametrize("table", ["attempt", "event", "approval", "printing", "session", "run", "test"])
def test_an_inserted_row_is_named(forged: sqlite3.Connection, table: str) -> None:
    names = [row[1] for row in forged.execute(f"PRAGMA table_info({table})")]
    taken = "override IS NULL AND outcome = 'deferred'" if table == "attempt" else "1"
    values = ", ".join({"id": "NULL", "person": "'eve'"}.get(name, name) for name in names)
    number = forged.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE {taken} LIMIT 1").lastrowid
    fault = look(forged).faults[0]
    assert (fault.kind, fault.id) == (table, number)
    assert "no link of the chain names it" in fault.why


def test_two_rows_in_each_others_place(forged: sqlite3.Connection) -> None:
    one, other = (n for (n,) in forged.execute("SELECT id FROM attempt WHERE outcome = 'accepted' LIMIT 2"))
    for old, new in ((one, -1), (other, one), (-1, other)):
        forged.execute("UPDATE attempt SET id = ? WHERE id = ?", (new, old))
    fault = look(forged).faults[0]
    assert (fault.kind, fault.id) == ("attempt", one)


def test_letters_and_skips_cannot_be_added_taken_away_or_moved(forged: sqlite3.Connection) -> None:
    for statement in (
        "DELETE FROM sealed WHERE letter = 7",
        "UPDATE sealed SET own = (SELECT own FROM sealed WHERE letter = 8) WHERE letter = 7",
        "UPDATE letter SET state = 'accepted' WHERE key = 'K00001'",
        "UPDATE letter SET state = 'failed' WHERE key = 'K00007'",
        "UPDATE letter SET state = 'ready' WHERE key = 'K00007'",
        "UPDATE letter SET state = 'unknown' WHERE key = 'K00007'",
        "UPDATE letter SET state = 'posted' WHERE key = 'K00001'",
        "UPDATE letter SET state = 'printed' WHERE key = 'K00001'",
    ):
        forged.execute(statement)
        found = look(forged)
        assert found.faults, statement
        if "state" in statement:
            assert "K0000" in found.faults[-1].key, statement
        put_back(forged)


def test_what_left_keeps_its_date(forged: sqlite3.Connection) -> None:
    """Without it nobody could make again what left; so it cannot be taken away to hide that it was something else."""
    forged.execute("UPDATE letter SET date = NULL WHERE key = 'K00007'")
    faults = look(forged).faults
    assert [(fault.check, fault.key) for fault in faults] == [("the letters", "K00007")]
    assert "date" in faults[0].why


def test_no_letter_can_be_moved_to_another_state_unseen(forged: sqlite3.Connection) -> None:
    """Whatever it is, and wherever it is put. What waits may be in hand all the same: a run takes it up at any time."""
    for key, state in forged.execute("SELECT key, state FROM letter ORDER BY id").fetchall():
        for other in State:
            if other in (state, State.LEASED):
                continue
            forged.execute("UPDATE letter SET state = ? WHERE key = ?", (other, key))
            faults = look(forged).faults
            assert [(fault.check, fault.key) for fault in faults] == [("the letters", key)], f"{state} to {other}"
            forged.execute("UPDATE letter SET state = ? WHERE key = ?", (state, key))
    assert look(forged).faults == []


def test_no_suppression_can_be_put_in_or_taken_out_unseen(forged: sqlite3.Connection) -> None:
    """Not a person's, and not one that would be a relay's."""
    (refused,), (asked,) = forged.execute("SELECT identity FROM suppression ORDER BY identity").fetchall()
    assert (refused[:6], asked[:6]) == ("k00001", "k00005")
    another = "k00007@missions.example.org"
    insert = f"INSERT INTO suppression SELECT '{another}', '{another}', reason, since, source FROM suppression"
    for forgery, about in (
        (f"DELETE FROM suppression WHERE identity = '{asked}'", f"{asked} was suppressed"),
        (f"UPDATE suppression SET reason = 'x' WHERE identity = '{asked}'", f"{asked} is suppressed"),
        (f"{insert} WHERE identity = '{asked}'", f"{another} is suppressed"),
        (f"{insert} WHERE identity = '{refused}'", f"{another} is suppressed"),
    ):
        assert forged.execute(forgery).rowcount == 1
        faults = look(forged).faults
        assert [fault.check for fault in faults] == ["the suppressions"], forgery
        assert about in faults[0].why
        forged.execute("DELETE FROM suppression WHERE identity <> ?", (refused,))
        path = Path(forged.execute("PRAGMA database_list").fetchone()[2])
        forged.execute("ATTACH ? AS kept", (str(KEPT[path.parent]),))
        forged.execute("INSERT INTO main.suppression SELECT * FROM kept.suppression WHERE identity = ?", (asked,))
        forged.execute("DETACH kept")
    assert look(forged).faults == []


def test_a_rehearsal_that_borrowed_its_suppressions_verifies(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "campaign", 1, 3)
    suppress(Desk(folder), ["k00001@missions.example.org"], reason="asked", source="by hand")
    rehearsal = Desk(folder, sandbox=True)
    send(rehearsal, outlook(rehearsal))
    with closing(sqlite3.connect(rehearsal.ledger_path)) as connection:
        assert connection.execute("SELECT key FROM letter WHERE state = 'suppressed'").fetchall() == [("K00001",)]
    assert verify_ledger(rehearsal.ledger_path, lambda *_: None).faults == []


def test_a_waiting_letter_is_not_cancelled_unseen(forged: sqlite3.Connection) -> None:
    """Only an amended plan cancels what waits, and there was none."""
    assert forged.execute("UPDATE letter SET state = 'cancelled' WHERE state = 'ready'").rowcount == 1
    assert [(fault.check, fault.key) for fault in look(forged).faults] == [("the letters", "K00002")]


def test_a_letter_that_was_never_sealed_is_named(forged: sqlite3.Connection) -> None:
    """It would be counted, and shown as one that waits."""
    forged.execute("INSERT INTO letter SELECT 99, campaign, 'K9', revision, 'ready', NULL, due_at, 0, NULL, NULL, ''"
                   " FROM letter WHERE id = 7")  # fmt: skip
    assert [(fault.kind, fault.id, fault.key) for fault in look(forged).faults] == [("letter", 99, "K9")]


def put_back(connection: sqlite3.Connection) -> None:
    """The rows of letters as they were."""
    path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
    connection.execute("ATTACH ? AS kept", (str(KEPT[path.parent]),))
    for table in ("sealed", "letter"):
        connection.execute(f"DELETE FROM main.{table}")
    for table in ("letter", "sealed"):
        connection.execute(f"INSERT INTO main.{table} SELECT * FROM kept.{table}")
    connection.execute("DETACH kept")


KEPT: dict[Path, Path] = {}


@pytest.fixture(autouse=True)
def _kept(folder: Path, tmp_path: Path) -> None:
    KEPT[tmp_path] = folder / ".dispatcher/ledger.sqlite"


def test_links_cannot_be_taken_away(forged: sqlite3.Connection) -> None:
    forged.execute("DELETE FROM link WHERE number = 3")
    fault = look(forged).faults[0]
    assert (fault.kind, fault.id) == ("link", 3)
    assert "missing" in fault.why


def test_a_chain_that_was_cut_off_leaves_rows_that_nobody_names(forged: sqlite3.Connection) -> None:
    last = forged.execute("SELECT names FROM link ORDER BY number DESC LIMIT 1").fetchone()[0]
    forged.execute("DELETE FROM link WHERE number = (SELECT max(number) FROM link)")
    name = chain.names_of(last)[0]
    fault = look(forged).faults[0]
    assert (fault.kind, fault.id) == (name.kind, name.id)
    assert "inserted" in fault.why


def write_anew(connection: sqlite3.Connection, path: Path) -> None:
    """What a forger does who knows the program: the whole chain, over the rows as they are now."""
    with Evidence(path) as evidence:
        head, made = evidence.start(), []
        for link in evidence.links():
            digests = b"".join(d or b"" for d in evidence.digests(link, chain.names_of(link.names)))
            head = chain.next_link(head, link.names, digests)
            made.append((digests, head, link.number))
    connection.executemany("UPDATE link SET digests = ?, link = ? WHERE number = ?", made)


def test_a_chain_written_anew_shows_only_against_what_is_kept_elsewhere(
    forged: sqlite3.Connection, folder: Path
) -> None:
    before = look(forged).head
    forged.execute("UPDATE attempt SET reply = '250 2.0.0 whatever' WHERE outcome = 'failed'")
    path = Path(forged.execute("PRAGMA database_list").fetchone()[2])
    write_anew(forged, path)
    require_chained(path)
    assert look(forged).faults == []  # by itself it says nothing
    fault = look(forged, head=before).faults[0]
    assert "written anew" in fault.why
    desk = Desk(folder)
    desk.ledger_path = path
    assert [fault.check for fault in verify_ledger(path, lambda *_: None, desk=desk).faults] == ["the mark"]


def test_a_signature_outlives_a_chain_that_is_written_anew(forged: sqlite3.Connection) -> None:
    forged.execute("UPDATE approval SET name = 'Eve', person = 'eve'")
    write_anew(forged, Path(forged.execute("PRAGMA database_list").fetchone()[2]))
    faults = look(forged).faults
    assert [(fault.check, fault.kind, fault.id) for fault in faults] == [("the approvals", "approval", 1)]
    assert "not good" in faults[0].why


def test_a_ledger_cut_short_with_its_chain_is_known_by_its_mark(forged: sqlite3.Connection, folder: Path) -> None:
    whole = forged.execute("SELECT max(number) FROM link").fetchone()[0]
    for table in ("printing", "event"):
        forged.execute(f"DELETE FROM {table} WHERE id = (SELECT max(id) FROM {table})")
    names = [
        chain.names_of(octets) for (octets,) in forged.execute("SELECT names FROM link ORDER BY number DESC LIMIT 2")
    ]
    assert [each[0].kind for each in names] == ["printing", "event"]
    forged.execute("DELETE FROM link WHERE number > ?", (whole - 2,))
    forged.execute("DELETE FROM suppression WHERE source = 'by hand'")
    assert look(forged).faults == []
    desk = Desk(folder)
    desk.ledger_path = Path(forged.execute("PRAGMA database_list").fetchone()[2])
    assert [fault.check for fault in verify_ledger(desk.ledger_path, lambda *_: None, desk=desk).faults] == ["the mark"]


def test_an_amended_campaign_and_one_that_is_under_way_verify(tmp_path: Path) -> None:
    with Rules(
        lambda step, _c, line: b"450 4.2.0 later\r\n" if step == "RCPT" and b"k00002@" in line else None
    ) as server:
        folder = write_campaign(tmp_path / "campaign", server.port, 6, pace="connections = 1")
        desk = Desk(folder)
        send(desk, outlook(desk))
        path = folder / "list.csv"
        path.write_text(path.read_text().replace("K00002,k00002", "K00002,other"), encoding="utf-8")
        draft, summary, _, _ = changes(desk)
        amend(desk, draft, summary)
        found = verify_ledger(desk.ledger_path, lambda *_: None, desk=desk)
        assert found.faults == []
        assert (found.letters, found.messages) == (6, 5)
        send(desk, outlook(desk))
    found = verify_ledger(desk.ledger_path, lambda *_: None, desk=desk)
    assert (found.faults, found.messages) == ([], 6)


def test_what_an_amended_plan_left_alone_cannot_be_moved_either(tmp_path: Path) -> None:
    """A letter of an earlier revision might have been cancelled by the later one, or held back: then it says so."""
    with Rules(lambda step, *_: b"550 5.1.1 nobody\r\n" if step == "RCPT" else None) as server:
        folder = write_campaign(tmp_path / "campaign", server.port, 6, pace="connections = 1")
        desk = Desk(folder)
        send(desk, outlook(desk, limit=1))
        suppress(desk, ["k00004@missions.example.org"], reason="asked", source="by hand")
        path = folder / "list.csv"
        lines = path.read_text().replace("K00002,k00002", "K00002,other").splitlines(keepends=True)
        path.write_text("".join(lines[:-1]), encoding="utf-8")  # the last one's row is gone
        draft, summary, _, _ = changes(desk)
        amend(desk, draft, summary)
        unsuppress(desk, "k00004@missions.example.org", why="they telephoned")
        suppress(desk, ["other@missions.example.org"], reason="asked", source="by hand")
    ledger = desk.ledger_path
    assert verify_ledger(ledger, lambda *_: None, desk=desk).faults == []
    write_dossier(desk, tmp_path / "out", Wish())
    assert verify_dossier(tmp_path / "out").fault is None
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        there = dict(connection.execute("SELECT key, state FROM letter").fetchall())
        assert sorted(there.values()) == ["cancelled", "failed", "ready", "ready", "ready", "suppressed"]
        connection.execute("DROP TRIGGER letter_moves")
        for key, state in there.items():
            for other in ("ready", "suppressed", "cancelled"):
                connection.execute("UPDATE letter SET state = ? WHERE key = ?", (other, key))
                found = verify_ledger(ledger, lambda *_: None, desk=desk).faults
                assert [fault.key for fault in found] == ([] if other == state else [key]), f"{state} to {other}"
                connection.execute("UPDATE letter SET state = ? WHERE key = ?", (state, key))


def test_a_clock_that_was_set_back_between_is_no_forgery(tmp_path: Path) -> None:
    """What was tried before the amended plan was sealed is known by the chain's order, whatever the clock said."""
    with Rules(lambda step, *_: b"550 5.7.1 no\r\n" if step == "DOT" else None) as server:
        folder = write_campaign(tmp_path / "campaign", server.port, 3, pace="connections = 1")
        desk = Desk(folder, clock=Later(3))
        send(desk, outlook(desk))
        desk = Desk(folder)
        path = folder / "list.csv"
        path.write_text(path.read_text().replace("K00002,k00002", "K00002,other"), encoding="utf-8")
        draft, summary, _, _ = changes(desk)
        amend(desk, draft, summary)
    assert verify_ledger(desk.ledger_path, lambda *_: None, desk=desk).faults == []
    write_dossier(desk, tmp_path / "out", Wish())
    assert verify_dossier(tmp_path / "out").fault is None


def test_the_command(folder: Path, forged: sqlite3.Connection, tmp_path: Path) -> None:
    done = dispatcher("verify", folder=folder)
    assert done.code == 0, done.err
    assert "As it was written" in done.out
    forged.execute("UPDATE rcpt SET reply = 'fine' WHERE outcome = 'failed'")
    done = dispatcher("verify", "ledger.sqlite", folder=tmp_path)
    assert done.code == 3
    assert "NOT as it was written, the chain: attempt" in done.out
    assert "(recipient K00001)" in done.out
    done = dispatcher("verify", "ledger.sqlite", "--json", folder=tmp_path)
    assert done.code == 3
    assert done.json["sound"] is False
    assert done.json["faults"][0]["recipient"] == "K00001"
    for wrong in (("nothing.sqlite",), ("ledger.sqlite", "--head", "abc")):
        assert dispatcher("verify", *wrong, folder=tmp_path).code == 2
    (tmp_path / "text").write_text("no ledger")
    assert dispatcher("verify", "text", folder=tmp_path).code == 4
