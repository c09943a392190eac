"""What is measured of us: one `send` of one campaign folder, as the command line does it, in a process of its own.

    python -m benchmarks.ours [--seal | --profile FILE] FOLDER

It reads, proof-renders and seals the folder, sends with the ledger on, and prints one line of JSON: seconds and CPU
seconds (all threads) of each phase, and the peak memory at its end.

    plan      reading the lists, merging and proving every letter
    seal      opening the ledger, merging again, writing the plan
    sending   from just before the first connection to the last outcome that is durable in the ledger
    close     QUIT on all connections, the run's end, the ledger's last checkpoint

`--seal` seals the plan and sends one letter, so that another process finds the rest sealed; `--profile` writes to FILE
where each thread spends its time while sending (which slows it down).
"""

import argparse
import asyncio
import json
import resource
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.profiling import Profiles
from dispatcher.desk import Desk
from dispatcher.desk.sending import outlook, send
from dispatcher.dispatch import Dispatch

_LOOK: Final = 0.002
"""Seconds between two looks at the tally: an end is seen late by so much at most, and never early."""


@dataclass(frozen=True)
class Moment:
    """Where the process stands: seconds, CPU seconds (in all, and of each thread), peak memory in octets."""

    at: float
    cpu: float
    peak: int
    threads: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def now(cls) -> "Moment":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        threads = {
            thread.name: time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            for thread in threading.enumerate()
            if thread.ident is not None
        }
        return cls(time.monotonic(), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, threads)


class Watch:
    """Notes when the run begins, when its first letter has its outcome, and when its last has."""

    def __init__(self, letters: int, profiles: Profiles | None) -> None:
        self._letters = letters
        self._profiles = profiles
        self._dispatch: Dispatch | None = None
        self.began = self.first = self.last = Moment.now()

    def observe(self, dispatch: Dispatch) -> None:
        """Called by the desk inside the run's event loop, before anything is connected."""
        self._dispatch = dispatch
        self.began = Moment.now()
        if self._profiles:
            self._profiles.begin()
        asyncio.get_running_loop().call_later(_LOOK, self._look)

    def _look(self) -> None:
        finished = self.finished
        if finished and self.first.at < self.began.at:
            self.first = Moment.now()
        if finished < self._letters:
            asyncio.get_running_loop().call_later(_LOOK, self._look)
        else:
            self._end(Moment.now())

    def _end(self, moment: Moment) -> None:
        self.last = moment
        if self._profiles:
            self._profiles.end()

    @property
    def finished(self) -> int:
        """How many letters have their outcome, whatever it is."""
        tally = self._dispatch.tally if self._dispatch else None
        return tally.accepted + tally.failed + tally.unknown + tally.suppressed if tally else 0

    @property
    def accepted(self) -> int:
        return self._dispatch.tally.accepted if self._dispatch else 0

    def over(self) -> Moment:
        """The run is over. One that ended between two looks ended now at the latest."""
        closed = Moment.now()
        if self.first.at < self.began.at:
            self.first = closed
        if self.last.at < self.began.at:
            self._end(closed)
        return closed


def run(folder: Path, *, limit: int | None = None, profiles: Profiles | None = None) -> dict[str, object]:
    """One `send`; what each phase took. Exits with words if a letter was not accepted."""
    began = Moment.now()
    desk = Desk(folder)
    plan = outlook(desk, limit=limit)
    planned = Moment.now()
    watch = Watch(plan.count, profiles)
    if profiles:
        profiles.await_threads()
    result = send(desk, plan, observe=watch.observe)
    closed = watch.over()
    if not (watch.accepted == watch.finished == plan.count):
        sys.exit(f"not every letter was accepted: {dict(result.counts)}; {result.report.why}")
    ends = {"plan": planned, "seal": watch.began, "sending": watch.last, "close": closed}
    phases, before = {}, began
    for name, moment in ends.items():
        phases[name] = {"seconds": moment.at - before.at, "cpu": moment.cpu - before.cpu, "peak": moment.peak}
        before = moment
    threads = watch.began.threads
    return {
        "letters": plan.count,
        "seconds": watch.last.at - watch.began.at,
        "cpu": watch.last.cpu - watch.began.cpu,
        "threads": {name: spent - threads.get(name, 0.0) for name, spent in watch.last.threads.items()},
        "first_letter": watch.first.at - watch.began.at,
        "phases": phases,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ours")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seal", action="store_true")
    parser.add_argument("--profile", type=Path)
    given = parser.parse_args()
    profiles = Profiles() if given.profile else None
    told = run(given.folder, limit=1 if given.seal else None, profiles=profiles)
    if profiles:
        given.profile.write_text(profiles.text(int(str(told["letters"]))), encoding="utf-8")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
