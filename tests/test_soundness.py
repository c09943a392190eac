"""A ledger's file is looked through: a small one before anything else, a large one beside the work."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.ledgers import soundness
from dispatcher.ledgers.soundness import Soundness
from dispatcher.ledgers.sqlite import SqliteLedger


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with some rows."""
    path = tmp_path / "ledger.sqlite"
    with SqliteLedger(path, lambda: datetime.now(UTC)) as opened:
        rows = [(f"k{n}@example.org",) for n in range(2000)]
        opened.do(lambda c: c.executemany("INSERT INTO suppression VALUES (?, '', 'why', 'now', 'by hand')", rows))
    return path


def damage(path: Path) -> None:
    """Write over the middle of the table, as a disk does that lies."""
    with closing(sqlite3.connect(path)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'suppression'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    octets = bytearray(path.read_bytes())
    octets[(page - 1) * size + 12 : page * size] = b"\x5a" * (size - 12)
    path.write_bytes(octets)


@pytest.fixture
def connection(ledger: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(ledger)) as opened:
        yield opened


@pytest.mark.parametrize("large", [0, 10**9])
def test_a_sound_one_is_found_sound(
    ledger: Path, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(soundness, "LARGE", large)
    look = Soundness(ledger, connection)
    look.wait()
    look.require()


def test_a_small_one_that_is_damaged_is_refused_at_once(ledger: Path, connection: sqlite3.Connection) -> None:
    damage(ledger)
    with pytest.raises(LedgerUnavailable, match="cannot use the ledger"):
        Soundness(ledger, connection)


def test_a_large_one_is_begun_with_and_then_refused(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work begins; once the damage is seen no intent is let through, and closing says it too."""
    damage(ledger)
    monkeypatch.setattr(soundness, "LARGE", 0)
    opened = SqliteLedger(ledger, lambda: datetime.now(UTC))
    with pytest.raises(LedgerUnavailable, match="cannot use the ledger"):
        opened.close()
    with pytest.raises(LedgerUnavailable, match="cannot use the ledger"):
        opened.require_in_place()
    with pytest.raises(LedgerUnavailable, match="closed"):
        opened.do(lambda c: c.execute("SELECT 1"))
