"""A breakdown of our sender: letters sealed by one process, then sent by others: plain, profiled, traced."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.measured import Measured, measure
from benchmarks.receiver import sink
from benchmarks.workload import Job, write_campaign

_TRACED: Final = 500
_FEW: Final = 0.02


def profiled(place: Path, job: Job) -> str:
    """Three runs of this job, and what they say."""
    letters = job.letters
    plain = _sent(place / "plain", job, (), ()).told
    lines = [f"{letters} letters in {plain['seconds']:.2f} s: {letters / plain['seconds']:,.0f} letters/s"]
    lines.append(f"CPU while sending: {plain['cpu'] / letters * 1e6:,.0f} µs a letter; by thread:")
    lines += [f"{spent / letters * 1e6:8,.0f} µs   {name}" for name, spent in _by_cost(plain["threads"])]
    found = place / "profile"
    _sent(place / "profiled", job, (), ("--profile", str(found)))
    lines += ["", found.read_text(encoding="utf-8")]
    if strace := shutil.which("strace"):
        calls = place / "calls"
        traced = min(letters, _TRACED)
        _sent(place / "traced", replace(job, letters=traced), (strace, "-f", "-c", "-o", str(calls)), ())
        lines += [f"system calls a letter ({traced} letters; the whole process, its start and reading included):"]
        lines += [
            f"{count / traced:8.2f}   {name}"
            for name, count in _by_cost(_calls(calls.read_text()))
            if count / traced >= _FEW
        ]
    return "\n".join(lines)


def _sent(place: Path, job: Job, before: Sequence[str], options: Sequence[str]) -> Measured:
    with sink() as receiver:
        folder = write_campaign(place, replace(job, letters=job.letters + 1, port=receiver.port))
        ours = (sys.executable, "-m", "benchmarks.ours", str(folder))
        measure((*ours, "--seal"), folder)
        return measure((*before, *ours, *options), folder)


def _by_cost(found: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(found.items(), key=lambda item: -item[1])


def _calls(table: str) -> dict[str, int]:
    """From strace's table: % time, seconds, usecs/call, calls, errors (may be empty), name."""
    rows = [line.split() for line in table.splitlines()]
    return {row[-1]: int(row[3]) for row in rows if len(row) in (5, 6) and row[3].isdigit() and row[-1] != "total"}
