"""What the figures were taken on: the machine, its disk, and the versions of all programs."""

import json
import os
import platform
import re
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks.measured import ROOT


def machine(work: Path, rounds: int, seconds: float) -> dict[str, object]:
    """Facts for the page and the JSON; no name of a machine, nobody's. `rounds` and `seconds` are the race's."""
    return {
        "rounds": rounds,
        "seconds": seconds,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count() or 0,
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "file_system": _words("findmnt", "-n", "-o", "FSTYPE", "-T", str(work)),
        "fdatasync_ms": round(_sync(work) * 1e3, 3),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of everything that is measured."""
    lock = (ROOT / "benchmarks/peers/lock.txt").read_text(encoding="utf-8")
    node = json.loads((ROOT / "benchmarks/package-lock.json").read_text(encoding="utf-8"))
    return {
        "dispatcher": version("dispatcher"),
        "Python": platform.python_version(),
        "Postfix": _words("postconf", "-dh", "mail_version"),
        "nodemailer": node["packages"]["node_modules/nodemailer"]["version"],
        "Node": _words("node", "--version").removeprefix("v"),
        **dict(re.findall(r"(?m)^(aiosmtplib|mailmerge)==(\S+)", lock)),
    }


def _processor() -> str:
    try:
        found = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def _words(*argv: str) -> str:
    try:
        path = f"{os.environ.get('PATH', '')}:/usr/sbin"
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _sync(work: Path) -> float:
    """The middle of fifty times that a page took to be on the disk: what a durable note costs at least."""
    took = []
    path = work / "sync"
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"\0" * 4096)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(took)
