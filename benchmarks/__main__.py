"""The command line of the benchmarks. Figures go to stdout, the last line as JSON; how it goes is told on stderr."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from benchmarks import alone, tables
from benchmarks.breakdown import profiled
from benchmarks.chart import chart
from benchmarks.machine import machine
from benchmarks.measured import ROOT, BenchmarkFailed
from benchmarks.page import facts, write_page
from benchmarks.race import REPORT, SMALL, WORKLOADS, Race, Result, Workload
from benchmarks.senders import OURS, SENDERS, WITHOUT_LEDGER
from benchmarks.workload import Job

WORK: Final = ROOT / "build" / "bench"
PARTS: Final = ("workloads", "ledger", "connections", "growth", "starts", "recovery", "signing", "paper")
_QUICK: Final = (OURS, "smtp-source", "nodemailer")
_POOLS: Final = (OURS, "smtp-source", "nodemailer", "aiosmtplib")
_CONNECTIONS: Final = (1, 2, 5, 10, 20, 50)
_WITH_AND_WITHOUT: Final = (SMALL, replace(SMALL, connections=20), replace(REPORT, connections=20))
_LISTS: Final = (1_000, 10_000, 100_000)
_BEGAN: Final = time.monotonic()


def say(words: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {words}", file=sys.stderr, flush=True)


def raced(race: Race, workloads: Sequence[Workload], names: Sequence[str]) -> list[Result]:
    """Each workload in turn, by the senders of these names."""
    return [race.run(workload, [one for one in SENDERS if one.name in names]) for workload in workloads]


def quick(race: Race, given: argparse.Namespace) -> None:  # noqa: ARG001 (all are called alike)
    """The ratios that matter most, in under a minute; one line of JSON."""
    results = raced(race, (SMALL, REPORT), _QUICK)
    ratios = {
        result.workload.name: {lane.sender.name: round(result.ratio(lane).median, 3) for lane in result.lanes[1:]}
        for result in results
    }
    print(json.dumps({"ratios": ratios}))


@dataclass
class Report:
    """What has been measured so far: each part as Markdown and as data, and the chart."""

    parts: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    picture: str = ""

    def add(self, name: str, data: object, *pages: str) -> None:
        """One part; its text is shown at once."""
        self.data[name] = data
        self.parts[name] = "\n\n".join(pages)
        print(self.parts[name], end="\n\n", flush=True)


def whole(race: Race, given: argparse.Namespace) -> None:
    """All parts that were asked for; text as they come, JSON at the end; with --page into docs/ as well."""
    report = Report()
    found = machine(race.folder, race.rounds, race.seconds)
    report.add("machine", found, facts(found))
    for part in given.only:
        _PARTS[part](race, report, given.recipients)
    if given.page:
        write_page(report.parts, report.picture)
    print(json.dumps(report.data))


def _workloads(race: Race, report: Report, sizes: Sequence[int]) -> None:  # noqa: ARG001 (all parts are called alike)
    results = raced(race, WORKLOADS, [sender.name for sender in SENDERS])
    report.picture = chart(results)
    report.add("workloads", [tables.as_data(one) for one in results], *map(tables.race_table, results))


def _ledger(race: Race, report: Report, sizes: Sequence[int]) -> None:  # noqa: ARG001
    results = [race.run(workload, (SENDERS[0], WITHOUT_LEDGER)) for workload in _WITH_AND_WITHOUT]
    report.add("ledger", [tables.as_data(one) for one in results], tables.ledger_table(results))


def _connections(race: Race, report: Report, sizes: Sequence[int]) -> None:  # noqa: ARG001
    several = [Workload(f"small-{n}", f"small letter, {n} connections", connections=n) for n in _CONNECTIONS]
    results = raced(race, several, _POOLS)
    report.add("connections", [tables.as_data(one) for one in results], tables.connections_table(results))


def _growth(race: Race, report: Report, sizes: Sequence[int]) -> None:
    found = alone.grow(race, sizes)
    report.add("growth", [asdict(one) for one in found], tables.growth_table(found))


def _starts(race: Race, report: Report, sizes: Sequence[int]) -> None:  # noqa: ARG001
    found = alone.starts(race)
    report.add("starts", asdict(found), tables.starts_table(found))


def _recovery(race: Race, report: Report, sizes: Sequence[int]) -> None:
    found = alone.recover(race, sizes)
    report.add("recovery", [asdict(one) for one in found], tables.recovery_table(found))


def _signing(race: Race, report: Report, sizes: Sequence[int]) -> None:  # noqa: ARG001
    found = alone.signs(race)
    report.add("signing", [asdict(one) for one in found], tables.signing_table(found))


def _paper(race: Race, report: Report, sizes: Sequence[int]) -> None:  # noqa: ARG001
    found = alone.prints(race)
    report.add("paper", [asdict(one) for one in found], tables.paper_table(found))


_PARTS: Final = dict(
    zip(PARTS, (_workloads, _ledger, _connections, _growth, _starts, _recovery, _signing, _paper), strict=True)
)


def profile(race: Race, given: argparse.Namespace) -> None:
    """Where our time goes: CPU of each thread, functions, system calls. Text."""
    letters = max(100, int(race.seconds * (600 if given.report else 3000)))
    print(profiled(race.place(), Job(letters, 0, given.connections, given.report)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=("all", "quick", "profile"))
    parser.add_argument("--rounds", type=int, default=5, help="how often each sender takes its turn (5)")
    parser.add_argument("--seconds", type=float, help="how long each sends in a round (2; quick: 0.7)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="of all, only these parts")
    parser.add_argument("--recipients", nargs="+", type=int, default=_LISTS, help="lists of growth and recovery")
    parser.add_argument("--connections", type=int, default=10, help="of profile: over so many connections (10)")
    parser.add_argument("--report", action="store_true", help="of profile: letters with the report")
    parser.add_argument("--page", action="store_true", help="of all, write docs/benchmarks.md and .svg as well")
    given = parser.parse_args()
    folder = WORK / str(os.getpid())
    folder.mkdir(parents=True)
    race = Race(folder, given.rounds, given.seconds or (2.0 if given.what == "all" else 0.7), say)
    try:
        {"all": whole, "quick": quick, "profile": profile}[given.what](race, given)
    except BenchmarkFailed as failure:
        print(f"benchmark failed: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
