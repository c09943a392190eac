"""A small campaign to be tortured, a server with rules, a clock that leaps, and the judge of them all.

The judge holds what the server has stored against what the ledger says, and never asks the program under test.
"""

import asyncio
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from dispatcher.core.merge import Frozen, Merge
from dispatcher.desk import Desk
from dispatcher.desk.sending import Result, outlook, send
from dispatcher.dispatch import Dispatch
from dispatcher.relays import conversation
from tests.chained import require_borne_out, require_chained
from tests.smtp_server import Actions, Script, SmtpServer, Stored

CAMPAIGN = "torture-2009"
ROOT = Path(__file__).parent.parent
LETTER = """+++
subject = "To {{ key }}"
+++
This is for {{ key }} alone: token-{{ token }}.

.A line that begins with a dot.
"""

DEPTH = conversation.DEPTH
"""How many letters of one connection may be at risk at a time."""
_OFFER = Script().ehlo
OFFERS = {
    "lock-step": _OFFER,
    "pipelining": (*_OFFER, "PIPELINING"),
    "chunking": (*_OFFER, "PIPELINING", "CHUNKING"),
}
"""What a server offers so that letters travel in each of the ways they can."""

Rule = Callable[[str, int, bytes], Actions | None]
"""(step, connection, command line) → what the server does; None for the honest thing."""


def write_campaign(
    folder: Path,
    port: int,
    letters: int,
    *,
    pace: str = "connections = 4",
    top: str = "",
    relay: str = "",
    to: str = "",
) -> Path:
    """A campaign folder with so many letters to the server at `port`. `to` is a list's cell instead of one address."""
    for name in ("forms", "house"):
        (folder / "templates" / name).mkdir(parents=True, exist_ok=True)
        for path in (ROOT / "templates" / name).iterdir():
            (folder / "templates" / name / path.name).write_bytes(path.read_bytes())
    (folder / "templates/letter.md").write_text(LETTER, encoding="utf-8")
    (folder / "annex.bin").write_bytes(b"annex\r\n.\r\n\x00\xff annex\n." * 100)
    rows = (f"K{n:05},{to or f'k{n:05}@missions.example.org'},{n * 7919 % 99991:05}" for n in range(letters))
    (folder / "list.csv").write_text("key,email,token\n" + "".join(f"{r.replace(';', chr(44))}\n" for r in rows))
    (folder / "campaign.toml").write_text(
        f"""id = "{CAMPAIGN}"
title = "Torture"
date = 2009-10-01
{top}
[sender]
organisation = "KMS"
name = "KMS"
address = "upr@kms.example.org"
return_path = "bounces@kms.example.org"
signatory = "S"
[letter]
template = "templates/letter.md"
attachments = ["annex.bin"]
[[recipients]]
source = "list.csv"
[relay]
host = "127.0.0.1"
port = {port}
{relay or 'security = "none"'}
[pace]
{pace}
""",
        encoding="utf-8",
    )
    return folder


class Rules(SmtpServer):
    """A server whose answers depend on who asks what: a `Rule` before its script."""

    def __init__(self, rule: Rule, script: Script | None = None) -> None:
        super().__init__(script)
        self.rule = rule
        self._here = threading.local()

    def note(self, what: str, octets: bytes = b"", connection: int = 0) -> None:
        if what in ("connected", "command"):
            self._here.connection, self._here.line = connection, octets
        super().note(what, octets, connection)

    def action(self, step: str) -> Actions | None:
        scripted = super().action(step)
        ruled = self.rule(step, self._here.connection, self._here.line)
        return scripted if ruled is None else ruled

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self.times("connected") - self.times("closed")


class Leap:
    """A clock on which nobody waits: when somebody sleeps, time leaps to the earliest end. `boot` is the real one."""

    def __init__(self, start: datetime = datetime(2026, 5, 4, 12, tzinfo=UTC)) -> None:
        self.moment = start
        self._ends: list[datetime] = []

    def now(self) -> datetime:
        return self.moment

    def boot(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        end = self.moment + timedelta(seconds=seconds)
        self._ends.append(end)
        try:
            while self.moment < end:
                await asyncio.sleep(0.01)  # others go first: it is their real work that time waits for
                if end == min(self._ends):
                    self.moment = max(self.moment, end)
        finally:
            self._ends.remove(end)


def run(
    folder: Path,
    *,
    clock: Leap | None = None,
    wait: bool = False,
    limit: int | None = None,
    observe: Callable[[Dispatch], None] | None = None,
) -> Result:
    """One `send`, in this process."""
    desk = Desk(folder, clock=clock)
    return send(desk, outlook(desk, limit=limit), wait=wait, observe=observe)


def command(folder: Path, *words: str) -> list[str]:
    """The command line of a `dispatcher` in a process of its own. Its faults are the run's: nothing comes before it."""
    alone = ("--skip-preflight",) if words[:1] == ("send",) and "--sandbox" not in words else ()
    return [sys.executable, "-m", "dispatcher", *words, *alone, "-C", str(folder)]


def start(folder: Path, *words: str, **how: Any) -> "subprocess.Popen[bytes]":
    """A `dispatcher` in a process of its own."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "cwd": ROOT}
    return subprocess.Popen(command(folder, *words), **{**settings, **how})


def query(folder: Path, sql: str, *given: Any) -> list[tuple[Any, ...]]:
    """Rows of the ledger, as it is on disk."""
    connection = sqlite3.connect(f"{(folder / '.dispatcher/ledger.sqlite').as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(sql, given).fetchall()
    finally:
        connection.close()


def states(folder: Path) -> Mapping[str, int]:
    """Letters by state."""
    return dict(query(folder, "SELECT state, count(*) FROM letter GROUP BY state"))


def numbered(folder: Path) -> Mapping[str, tuple[str, str]]:
    """By Message-ID: each letter's key and state."""
    rows = query(folder, "SELECT message_id, key, state FROM letter JOIN sealed ON letter = id")
    return {number: (key, state) for number, key, state in rows}


def message_id(octets: bytes) -> str:
    found = re.findall(rb"(?mi)^Message-ID:\s*(<[^>\r\n]+>)\r$", octets.partition(b"\r\n\r\n")[0] + b"\r")
    assert len(found) == 1, f"not one Message-ID: {found}"
    return str(found[0].decode())


class Store(Protocol):
    """A server that tells what it has stored."""

    @property
    def stored(self) -> Sequence[Stored]: ...


def by_id(stored: Sequence[Stored]) -> dict[str, Stored]:
    """What was stored, by Message-ID. Fails if one was stored twice."""
    counts = Counter(message_id(one.octets) for one in stored)
    assert not [number for number, n in counts.items() if n > 1], "a letter was taken twice"
    return {message_id(one.octets): one for one in stored}


def judge(folder: Path, server: Store, letters: int, *, complete: bool = False) -> Mapping[str, int]:
    """Hold the server's store against the ledger; return letters by state.

    No letter twice; none accepted that is not stored; none stored that is not accepted or unknown; every stored one,
    octet for octet, what was sealed, to whom it was sealed for; the counts add up; the file is whole.
    """
    found = judge_store(folder, server, letters)
    assert query(folder, "PRAGMA integrity_check") == [("ok",)]
    assert not query(folder, "SELECT id FROM attempt WHERE outcome = 'at_risk'"), "an attempt without an end"
    assert not found.keys() & {"leased", "at_risk"}, "a letter in nobody's hands"
    if complete:
        assert found == {"accepted": letters}
    return found


def judge_store(folder: Path, server: Store, letters: int) -> Mapping[str, int]:
    """The same, at any moment: letters may be leased, and those at risk may be stored or not; the chain holds."""
    require_chained(folder / ".dispatcher/ledger.sqlite")
    require_borne_out(folder / ".dispatcher/ledger.sqlite")
    stored = by_id(server.stored)
    rows = numbered(folder)
    assert len(rows) == letters, "the counts do not add up"
    for number, (_, state) in rows.items():
        if state == "accepted":
            assert number in stored, f"{number} is accepted and was never stored"
        elif state not in ("unknown", "at_risk"):
            assert number not in stored, f"{number} is {state} and was stored"
    _same_octets(folder, stored)
    return states(folder)


def _same_octets(folder: Path, stored: Mapping[str, Stored]) -> None:
    with Desk(folder).reader() as reader:
        merge = Merge(Frozen.from_data(reader.frozen(CAMPAIGN, 1)), reader.octets)
        columns = "language, message_id, digest, recipient, attachments, date"
        for row in query(folder, f"SELECT {columns} FROM letter JOIN sealed ON letter = id"):
            if row[1] not in stored:
                continue
            there = stored[row[1]]
            letter = reader.letter(dict(zip(columns.split(", ")[:5], row[:5], strict=True)))
            merged = merge.merge(letter.recipient, letter.attachments)
            assert (merged.letter.digest, merged.letter.message_id) == (letter.digest, letter.message_id)
            assert there.octets == merge.with_date(merged, datetime.fromisoformat(row[5])).octets
            assert there.mail_from == merged.envelope.return_path
            assert set(there.rcpt_tos) <= set(merged.envelope.forward_paths)
