"""What is measured of us: one `send` of one campaign folder, as the command line does it, in a process of its own.

    python -m benchmarks.ours [--seal | --crash-after N | --stop-after N | --profile FILE | --no-ledger] FOLDER

It reads, proof-renders and seals the folder, sends with the ledger on, and prints one line of JSON: seconds and CPU
seconds (all threads) of each phase, and the peak memory at its end.

    start     the interpreter, and loading the program
    plan      reading the lists, merging and proving every letter
    seal      opening the ledger, merging again, writing the plan
    sending   from just before the first connection to the last outcome that is durable in the ledger
    close     QUIT on all connections, the run's end, the ledger's last checkpoint

`--seal` seals the plan and sends one letter, so that another process finds the rest sealed. After N outcomes,
`--crash-after` kills the process as `kill -9` does, and `--stop-after` ends the run as Ctrl-C does. `--profile` writes
to FILE where each thread spends its time while sending (which slows it down). `--no-ledger` seals, and then sends
without a ledger (`benchmarks.forgetful`).
"""

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.forgetful import forget
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
        return cls(time.monotonic(), usage.ru_utime + usage.ru_stime, _peak(), threads)


def _peak() -> int:
    """This program's own high-water mark; see `measured._Memory`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return max(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _process_began() -> float:
    """When this process was started, on the monotonic clock; to a hundredth of a second."""
    words = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    since_boot = int(words[19]) / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


class Watch:
    """Notes when the run begins, when its first letter has its outcome, and when its last has.

    `crash` and `stop` are the numbers of outcomes after which the process dies, or the run is to end.
    """

    def __init__(self, letters: int, *, crash: int = 0, stop: int = 0, profiles: Profiles | None = None) -> None:
        self._letters = letters
        self._crash = crash
        self._stop = stop
        self._profiles = profiles
        self._dispatch: Dispatch | None = None
        self.began = self.first = self.last = Moment.now()

    def observe(self, dispatch: Dispatch) -> None:
        """Called by the desk inside the run's event loop, before anything is connected."""
        self._dispatch = dispatch
        self.begin()
        asyncio.get_running_loop().call_later(_LOOK, self._look)

    def begin(self) -> None:
        """Sending begins now; it may turn out to begin later."""
        self.began = Moment.now()
        if self._profiles:
            self._profiles.begin()

    def _look(self) -> None:
        assert self._dispatch
        finished = self.finished
        if finished and self.first.at < self.began.at:
            self.first = Moment.now()
        if self._crash and finished >= self._crash:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._stop and finished >= self._stop:
            self._dispatch.stop()
        elif finished < self._letters:
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


def run(
    folder: Path,
    *,
    limit: int | None = None,
    crash: int = 0,
    stop: int = 0,
    profiles: Profiles | None = None,
    ledger: bool = True,
) -> dict[str, object]:
    """One `send`; what each phase took. Exits with words if a letter was not accepted."""
    began = Moment.now()
    desk = Desk(folder)
    plan = outlook(desk, limit=limit)
    planned = Moment.now()
    watch = Watch(plan.count, crash=crash, stop=stop, profiles=profiles)
    if profiles:
        profiles.await_threads()
    if not ledger:
        forget(watch.begin)
    result = send(desk, plan, observe=watch.observe)
    closed = watch.over()
    if not (watch.accepted == watch.finished and (stop or watch.accepted == plan.count)):
        sys.exit(f"not every letter was accepted: {dict(result.counts)}; {result.report.why}")
    ends = {"plan": planned, "seal": watch.began, "sending": watch.last, "close": closed}
    phases: dict[str, dict[str, float]] = {
        "start": {"seconds": began.at - _process_began(), "cpu": began.cpu, "peak": began.peak}
    }
    before = began
    for name, moment in ends.items():
        phases[name] = {"seconds": moment.at - before.at, "cpu": moment.cpu - before.cpu, "peak": moment.peak}
        before = moment
    threads = watch.began.threads
    return {
        "letters": watch.accepted,
        "seconds": watch.last.at - watch.began.at,
        "cpu": watch.last.cpu - watch.began.cpu,
        "threads": {name: spent - threads.get(name, 0.0) for name, spent in watch.last.threads.items()},
        "first_letter": {
            "of the process": watch.first.at - _process_began(),
            "of the ledger": watch.first.at - planned.at,
            "of the run": watch.first.at - watch.began.at,
        },
        "phases": phases,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ours")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seal", action="store_true")
    parser.add_argument("--crash-after", type=int, default=0)
    parser.add_argument("--stop-after", type=int, default=0)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--no-ledger", dest="ledger", action="store_false")
    given = parser.parse_args()
    profiles = Profiles() if given.profile else None
    limit = 1 if given.seal else None
    ends = {"crash": given.crash_after, "stop": given.stop_after}
    told = run(given.folder, limit=limit, profiles=profiles, ledger=given.ledger, **ends)
    if profiles:
        given.profile.write_text(profiles.text(int(str(told["letters"]))), encoding="utf-8")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
