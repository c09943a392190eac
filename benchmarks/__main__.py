"""The command line of the benchmarks: see --help. Figures go to stdout, how it goes to stderr."""

import argparse
import json
import os
import shutil
import sys
import time
from typing import Final

from benchmarks.breakdown import profiled
from benchmarks.measured import ROOT, BenchmarkFailed
from benchmarks.race import REPORT, SMALL, Race
from benchmarks.senders import SENDERS

WORK: Final = ROOT / "build" / "bench"
_BEGAN: Final = time.monotonic()


def say(words: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {words}", file=sys.stderr, flush=True)


def quick(race: Race) -> None:
    """The two ratios that matter most, in under a minute; one line of JSON."""
    senders = [sender for sender in SENDERS if sender.name in ("dispatcher", "smtp-source", "nodemailer")]
    ratios = {}
    for workload in (SMALL, REPORT):
        result = race.run(workload, senders)
        ratios[workload.name] = {lane.sender.name: round(result.ratio(lane).median, 3) for lane in result.lanes[1:]}
    print(json.dumps({"ratios": ratios}))


def profile(race: Race) -> None:
    """Where our time goes: CPU of each thread, functions, system calls. Text on stdout."""
    letters = max(500, int(race.seconds * 3000))
    print(profiled(race.place(), letters))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=("quick", "profile"))
    parser.add_argument("--rounds", type=int, default=5, help="how often each sender takes its turn (5)")
    parser.add_argument("--seconds", type=float, default=0.7, help="how long each sends in a round (0.7)")
    given = parser.parse_args()
    folder = WORK / str(os.getpid())
    folder.mkdir(parents=True)
    try:
        race = Race(folder, given.rounds, given.seconds, say)
        {"quick": quick, "profile": profile}[given.what](race)
    except BenchmarkFailed as failure:
        print(f"benchmark failed: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
