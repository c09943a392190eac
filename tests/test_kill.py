"""kill -9 at random moments of a run's whole life, and restart, until every letter has its end.

The server runs here, takes its time, and survives. After each kill it is judged by what it stored: nothing twice,
nothing lost, no more unknown than may be at risk at a time. Every second run after a kill that left letters at risk is
killed early, while it puts them in order. In the end the unknown are resolved by the evidence of its store, and then
every letter has been taken exactly once.
"""

import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dispatcher.desk import Desk
from dispatcher.desk.deciding import resolve
from tests import aftermath
from tests.aftermath import SEND
from tests.figures import COUNTS, FULL, SEED
from tests.nursery import Nursery
from tests.smtp_server import Actions, Script
from tests.torture import OFFERS, Rules, by_id, judge, numbered, write_campaign

KILLS = 1000 if FULL else 100
LETTERS = 60
CONNECTIONS = 4
SHARE = 17
"""Kills of one campaign, then it comes to its end: so that every way of sending gets its share."""
EARLY = 0.3
"""The part of a run's life in which it reads the folder, opens the ledger and recovers."""

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does"),
]


class Torture:
    """One campaign after the other, killed again and again. `found` counts what the kills came to."""

    def __init__(self, folder: Path, nursery: Nursery, seed: int) -> None:
        self.folder = folder
        self.nursery = nursery
        self.chance = random.Random(seed)
        self.delays = random.Random(seed)  # the server's own: its threads draw in any order
        self.kills = 0
        self.campaigns = 0
        self.found: Counter[str] = Counter()
        self.life = 0.5  # seconds of a whole run, learnt from those that were not killed

    def rule(self, step: str, connection: int, line: bytes) -> Actions | None:
        """Each answer takes a while, so that there are moments to be killed at."""
        time.sleep(self.delays.uniform(0, 0.006))
        return None

    def campaign(self, kills: int) -> None:
        """One campaign to its end; no more kills once there were so many in all."""
        folder = self.folder / f"campaign-{self.campaigns}"
        folder.mkdir()
        offer = list(OFFERS.values())[self.campaigns % len(OFFERS)]
        self.campaigns += 1
        with Rules(self.rule, Script(ehlo=offer)) as server:
            write_campaign(folder, server.port, LETTERS, pace=f"connections = {CONNECTIONS}")
            while self._round(folder, server, kill=self.kills < kills):
                pass
            self._by_evidence(folder, server)

    def _round(self, folder: Path, server: Rules, *, kill: bool) -> bool:
        """One run, killed or not. False when nothing more is to be sent."""
        before = aftermath.unknown(folder)
        began = time.monotonic()
        process = self.nursery.begin(*SEND, str(aftermath.waiting(folder, LETTERS)), "-C", str(folder))
        if kill:
            early = aftermath.letters_in(folder, "at_risk") and self.chance.random() < 0.5
            time.sleep(self.chance.uniform(0, EARLY * self.life if early else self.life))
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        code = self.nursery.end()
        if code == -signal.SIGKILL:
            self.kills += 1
            self._after_a_kill(folder, server, before)
            return True
        self.life = max(0.9 * self.life, time.monotonic() - began)  # the last run of a campaign is a short one
        assert code in (0, 3), f"exit code {code}"
        server.wait(lambda s: s.times("connected") == s.times("closed"))
        found = judge(folder, server, LETTERS)
        assert found.keys() <= {"accepted", "unknown"}, "the run after the kill did not finish"
        return False

    def _after_a_kill(self, folder: Path, server: Rules, before: int) -> None:
        """What lies there right after the kill, before anything has been put in order."""
        at_risk, more = aftermath.look(folder, server, LETTERS, before=before, connections=CONNECTIONS)
        if not aftermath.sealed(folder):
            self.found["before the seal"] += 1
            return
        self.found["with letters at risk" if at_risk else "with nothing at risk"] += 1
        self.found["before it had recovered"] += bool(at_risk and not more)
        self.found["letters at risk"] += at_risk

    def _by_evidence(self, folder: Path, server: Rules) -> None:
        """Settle the unknown by the server's store; then all are accepted, each taken once."""
        taken = by_id(server.stored)
        desk = Desk(folder)
        for number, (key, state) in numbered(folder).items():
            if state != "unknown":
                continue
            resolve(desk, key, "accepted" if number in taken else "resend", why="the server's store", who="the test")
            self.found["unknown: taken" if number in taken else "unknown: not taken"] += 1
        self.nursery.begin(*SEND, str(aftermath.waiting(folder, LETTERS)), "-C", str(folder))
        assert self.nursery.end() == 0
        judge(folder, server, LETTERS, complete=True)
        assert len(server.stored) == LETTERS


def test_kill_and_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def torture(half: int, kills: int) -> Torture:
        (tmp_path / str(half)).mkdir()
        with Nursery() as nursery:
            one = Torture(tmp_path / str(half), nursery, SEED + half)
            while one.kills < kills:
                one.campaign(min(kills, one.kills + SHARE))
        return one

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(torture, (0, 1), (KILLS - KILLS // 2, KILLS // 2)))
    found = both[0].found + both[1].found
    kills, campaigns = (sum(getattr(one, name) for one in both) for name in ("kills", "campaigns"))
    with capsys.disabled():
        told = ", ".join(f"{n} {what}" for what, n in sorted(found.items()))
        print(f"\n{kills} kills in {campaigns} campaigns (seed {SEED}): {told}; 0 lost, 0 double")
    COUNTS["kills at random moments"] += kills
    COUNTS["of them in a recovery"] += found["before it had recovered"]
    assert kills >= KILLS
    assert found["with letters at risk"], "no kill met a letter at risk: the moments are badly chosen"
