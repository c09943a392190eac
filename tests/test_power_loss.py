"""The power fails at every terminator and at every sync: only what was synced is on the disk then, or that and some
of the rest, in any order.

A real run of the real command is traced, and replayed. Whenever a terminator leaves, the intent of its letter must be
on the disk, whatever else is lost; and from then on that letter is never ready again. From some of these disks the
run is begun anew, and nobody gets a second letter; the ledger's mark is lost and kept like any file, and never takes
what a power loss left for a ledger that was restored.
"""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.ledgers.state import VARIABLE
from tests.aftermath import SEND, finish
from tests.chained import require_borne_out, require_chained
from tests.figures import COUNTS, FULL, SEED
from tests.nursery import Nursery
from tests.power import FILES, SOCKETS, Disk, moments, terminators
from tests.smtp_server import Script, SmtpServer
from tests.torture import OFFERS, by_id, command, judge, message_id, query, write_campaign
from tests.tracing import Call, needs_strace, trace

LETTERS = 40
CONNECTIONS = 4
RESTARTS = 1000 if FULL else 4
"""From how many of the disks a run is begun anew."""

pytestmark = [pytest.mark.torture, needs_strace()]
STATE = "state"
"""Where the mark is: in the folder whose files are followed."""


def disks(folder: Path, calls: list[Call]) -> Iterator[tuple[Disk, set[str], set[str]]]:
    """The disk at every moment that counts, with the letters whose terminator leaves now, and all that left so far."""
    disk, leaving = Disk(folder), terminators(calls)
    left: set[str] = set()
    for call, ended in moments(calls):
        if ended:
            disk.end(call)
        else:
            disk.begin(call)
        now = set() if ended else set(leaving.get(call.began, ()))
        left |= now
        if left and (now or call.name in ("fdatasync", "fsync")):
            yield disk, now, set(left)


@pytest.mark.parametrize("way", OFFERS)
def test_the_intent_is_on_the_disk_at_every_terminator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    folder = tmp_path / "campaign"
    monkeypatch.setenv(VARIABLE, str(folder / STATE))
    with SmtpServer(Script(ehlo=OFFERS[way])) as server:
        write_campaign(folder, server.port, LETTERS, pace=f"connections = {CONNECTIONS}")
        calls = trace(tmp_path, [*FILES, *SOCKETS], command(folder, *SEND, str(LETTERS)))
        judge(folder, server, LETTERS, complete=True)
        found = [number for numbers in terminators(calls).values() for number in numbers]
        assert sorted(found) == sorted(by_id(server.stored)), "not every terminator was found in the trace"
        (folder / ".dispatcher").rename(folder / "ended")  # beside it, what survives would be a copy
        total = 2 * sum(1 for _ in disks(folder, calls))
        again = set(random.Random(SEED).sample(range(total), min(RESTARTS, total)))
        stored = server.stored[:]
        chance = random.Random(SEED)
        losses = ((disk, now, left, luck) for disk, now, left in disks(folder, calls) for luck in (None, chance))
        for moment, (disk, now, left, luck) in enumerate(losses):
            survivor = tmp_path / f"survivor-{moment}"
            shutil.copytree(folder, survivor, ignore=shutil.ignore_patterns("ended", STATE))
            disk.write(survivor, luck)
            there = dict(query(survivor, "SELECT message_id, state FROM letter JOIN sealed ON letter = id"))
            assert {there.get(number) for number in now} <= {"at_risk"}, "a terminator left before its intent was safe"
            assert {there.get(number) for number in left} <= {"at_risk", "accepted"}, (
                "a letter that left may leave again"
            )
            assert query(survivor, "PRAGMA integrity_check") == [("ok",)]
            require_chained(survivor / ".dispatcher/ledger.sqlite")
            require_borne_out(survivor / ".dispatcher/ledger.sqlite")
            COUNTS["power losses"] += 1
            if moment in again:
                server.stored[:] = [one for one in stored if message_id(one.octets) in left]
                monkeypatch.setenv(VARIABLE, str(survivor / STATE))
                with Nursery() as nursery:
                    finish(survivor, server, nursery, LETTERS)
                COUNTS["restarts after a power loss"] += 1
            shutil.rmtree(survivor)
