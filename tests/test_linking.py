"""The chain as the ledger writes it: the same digests as core.chain makes, whatever the texts; one commit, one link."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.core import chain
from dispatcher.core.errors import DispatcherError
from dispatcher.core.model import State
from dispatcher.ledgers import sealing
from dispatcher.ledgers.linking import _TOGETHER, evidence, prepare, table_of
from dispatcher.ledgers.sqlite import SqliteLedger
from dispatcher.ledgers.statements import SCHEMA
from tests.chained import require_chained
from tests.ledger_bench import ACCEPTED, Time, begin, ending, lease, letters, sealable, send
from tests.naughty import NAUGHTY

HOSTILE = "\x00\x01\x1f \"'\\/\x7f\x85\u2028\ufeff\ud7ff😀é\n\r\t\b\f"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def rows_of(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def digests(path: Path) -> Mapping[chain.Name, tuple[bytes, bytes]]:
    """What the chain holds of each row: its digest, and its salt."""
    found = {}
    for link in rows_of(path, "link"):
        for n, name in enumerate(chain.names_of(link["names"])):
            digest = link["digests"][n * chain.DIGEST : (n + 1) * chain.DIGEST]
            found[name] = digest, link["salts"][n * chain.SALT : (n + 1) * chain.SALT]
    return found


def same_digests(path: Path) -> int:
    """Make every digest anew from the rows, in Python alone; how many there were."""
    linked = digests(path)
    rcpts: dict[int, list[dict[str, Any]]] = {}
    for rcpt in sorted(rows_of(path, "rcpt"), key=lambda row: str(row["mailbox"])):
        rcpts.setdefault(rcpt["attempt"], []).append(rcpt)
    for name, (digest, salt) in linked.items():
        row = next(row for row in rows_of(path, table_of(name.kind)) if row["id"] == name.id)
        row["rcpts"] = rcpts.get(name.id, []) if name.kind == "attempt" else []
        below = chain.personal_digest(salt, chain.personal(name.kind, row))
        assert chain.row_digest(chain.public(name.kind, row), below) == digest, name
    return len(linked)


@pytest.mark.parametrize("text", [HOSTILE, "", *NAUGHTY])
def test_sqlite_and_we_make_the_same_canonical_json(path: Path, text: str) -> None:
    text = text.encode(errors="replace").decode()
    with SqliteLedger(path, Time()) as ledger:
        ledger.do(lambda c: ledger.event(c, text, subject=text, who=text, why=text))
    assert same_digests(path) == 1
    require_chained(path)


@given(st.text(st.characters(codec="utf-8")))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_has_one_canonical_form(text: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        (found,) = connection.execute("SELECT CAST(json_array(?, 1, NULL) AS BLOB)", (text,)).fetchone()
    assert found == chain.canonical([text, 1, None])


def test_each_kind_of_row_is_digested_as_it_is_stored(path: Path) -> None:
    with SqliteLedger(path, Time()) as ledger:
        sealing.seal(ledger, sealable(letters(3)), 1)
        run = begin(ledger)
        for leased, end in zip(lease(run), (ACCEPTED, ending(State.UNKNOWN), ending(State.FAILED)), strict=True):
            send(run, leased, end)
        run.end("done", "hold")
        sealing.resolve(ledger, 2, State.UNKNOWN, State.READY, who="Ada", why=HOSTILE)
    assert (
        same_digests(path) == 1 + 1 + 1 + 3 + 3 + 1 + 1 + 1
    )  # plan, event, run, sessions, attempts, end, override, event
    require_chained(path)


def test_one_commit_is_one_link_unless_it_is_very_large(path: Path) -> None:
    count = 2 * _TOGETHER + 44

    def many(connection: sqlite3.Connection, events: int) -> None:
        for n in range(events):
            ledger.event(connection, "noted", why=str(n))

    with SqliteLedger(path, Time()) as ledger:
        ledger.do(lambda c: many(c, 40))
        ledger.do(lambda c: many(c, count))
    sizes = [len(link["names"]) // chain.NAME for link in rows_of(path, "link")]
    assert sizes == [40, _TOGETHER, _TOGETHER, 44]
    assert require_chained(path).rows == count + 40


def test_what_is_undone_is_not_linked(path: Path) -> None:
    def undone(connection: sqlite3.Connection) -> None:
        ledger.event(connection, "noted", why="undone")
        raise DispatcherError("no")

    with SqliteLedger(path, Time()) as ledger:
        busy = [ledger.submit(lambda c: ledger.event(c, "noted", why="kept")) for _ in range(3)]
        refused = ledger.submit(undone)
        busy.append(ledger.submit(lambda c: ledger.event(c, "noted", why="kept")))
        for each in busy:
            each.result()
        with pytest.raises(DispatcherError, match="no"):
            refused.result()
        with pytest.raises(DispatcherError, match="no"):
            ledger.do(undone)
    assert require_chained(path).rows == 4


def test_a_guest_and_the_holder_write_one_chain(path: Path) -> None:
    with SqliteLedger(path, Time()) as ledger:
        for n in range(3):
            ledger.do(lambda c: ledger.event(c, "noted", why="by the holder"))
            with SqliteLedger(path, Time(), hold=False) as guest:
                guest.do(lambda c, guest=guest, n=n: guest.event(c, "noted", why=f"by guest {n}"))  # type: ignore[misc]
    found = require_chained(path)
    assert (found.links, found.rows) == (6, 6)


def test_every_kind_is_noted_by_a_trigger() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        prepare(connection)
        noted = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_temp_master WHERE type = 'trigger'")]
    for kind in chain.KINDS:
        mine = [sql for sql in noted if f" ON main.{table_of(kind)}" in sql and evidence(kind).replace("1", "") in sql]
        assert mine, kind


@pytest.mark.parametrize("statement", ["UPDATE link SET salts = zeroblob(16)", "DELETE FROM link"])
def test_the_chain_is_append_only(path: Path, statement: str) -> None:
    another = "INSERT INTO link SELECT number + 2, names, digests, salts, link FROM link"
    with SqliteLedger(path, Time()) as ledger:
        ledger.do(lambda c: ledger.event(c, "noted"))
        with pytest.raises(DispatcherError, match=r"append-only|never deleted"):
            ledger.do(lambda c: c.execute(statement))
        with pytest.raises(DispatcherError, match="follows the last one"):
            ledger.do(lambda c: c.execute(another).rowcount)
