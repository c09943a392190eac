"""What is measured of us: one `send` of one campaign folder, as the command line does it, in a process of its own.

    python -m benchmarks.ours FOLDER

It reads, proof-renders and seals the folder, sends with the ledger on, and prints one line of JSON: seconds and CPU
seconds (all threads) of each phase, and the peak memory at its end.

    plan      reading the lists, merging and proving every letter
    seal      opening the ledger, merging again, writing the plan
    sending   from just before the first connection to the last outcome that is durable in the ledger
    close     QUIT on all connections, the run's end, the ledger's last checkpoint
"""

import asyncio
import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatcher.desk import Desk
from dispatcher.desk.sending import outlook, send
from dispatcher.dispatch import Dispatch

_LOOK: Final = 0.002
"""Seconds between two looks at the tally: an end is seen late by so much at most, and never early."""


@dataclass(frozen=True)
class Moment:
    """Where the process stands: seconds, CPU seconds, peak memory in octets."""

    at: float
    cpu: float
    peak: int

    @classmethod
    def now(cls) -> "Moment":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.monotonic(), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


class Watch:
    """Notes when the run begins, when its first letter has its outcome, and when its last has."""

    def __init__(self, letters: int) -> None:
        self._letters = letters
        self._dispatch: Dispatch | None = None
        self.began = self.first = self.last = Moment.now()

    def observe(self, dispatch: Dispatch) -> None:
        """Called by the desk inside the run's event loop, before anything is connected."""
        self._dispatch = dispatch
        self.began = Moment.now()
        asyncio.get_running_loop().call_later(_LOOK, self._look)

    def _look(self) -> None:
        assert self._dispatch
        tally = self._dispatch.tally
        finished = tally.accepted + tally.failed + tally.unknown + tally.suppressed
        if finished and self.first.at < self.began.at:
            self.first = Moment.now()
        if finished < self._letters:
            asyncio.get_running_loop().call_later(_LOOK, self._look)
        else:
            self.last = Moment.now()

    def end(self, closed: Moment) -> None:
        """The run is over. One that ended between two looks ended now at the latest."""
        self.first, self.last = (seen if seen.at > self.began.at else closed for seen in (self.first, self.last))


def run(folder: Path) -> dict[str, object]:
    """One `send`; what each phase took. Exits with words if a letter was not accepted."""
    began = Moment.now()
    desk = Desk(folder)
    plan = outlook(desk)
    planned = Moment.now()
    watch = Watch(plan.count)
    result = send(desk, plan, observe=watch.observe)
    closed = Moment.now()
    watch.end(closed)
    if result.exit_code or result.counts.get("accepted") != plan.count:
        sys.exit(f"not every letter was accepted: {dict(result.counts)}; {result.report.why}")
    ends = {"plan": planned, "seal": watch.began, "sending": watch.last, "close": closed}
    phases, before = {}, began
    for name, moment in ends.items():
        phases[name] = {"seconds": moment.at - before.at, "cpu": moment.cpu - before.cpu, "peak": moment.peak}
        before = moment
    return {
        "letters": plan.count,
        "seconds": watch.last.at - watch.began.at,
        "cpu": watch.last.cpu - watch.began.cpu,
        "first_letter": watch.first.at - watch.began.at,
        "phases": phases,
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
