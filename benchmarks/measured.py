"""One child process, measured from outside: wall time, CPU of all its threads, peak memory, and its last line of JSON.

Raises BenchmarkFailed, with what the child said, if it fails or outstays its time.
"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LONGEST: Final = 3600.0
"""Seconds after which a child is taken to hang."""
_LOOK: Final = 0.02
ROOT: Final = Path(__file__).resolve().parent.parent


class BenchmarkFailed(Exception):
    """A program that was to be measured did not do its work; a figure would be a lie."""


@dataclass(frozen=True)
class Measured:
    """What a child came to: seconds from start to end, CPU seconds (user and system), peak memory in octets.

    `told` is the JSON object in the last line of its stdout, or empty.
    """

    wall: float
    cpu: float
    peak: int
    told: Mapping[str, Any]
    out: str


class _Memory(threading.Thread):
    """Reads the child's high-water mark while it lives.

    `ru_maxrss` will not do: Linux carries it over from the parent through fork and exec, which would give a small
    program the memory of this one.
    """

    def __init__(self, process: int) -> None:
        super().__init__(name="memory", daemon=True)
        self._status = Path(f"/proc/{process}/status")
        self.over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self.over.wait(_LOOK):
            try:
                status = self._status.read_text()
            except OSError:
                return
            found = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
            self.peak = max([self.peak, *(kilo * 1024 for kilo in found)])


def environment() -> dict[str, str]:
    """What a child's environment holds: nothing that could change how it works, and this repository's package."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "HOME": os.devnull, "LOGNAME": "benchmark"}


def measure(argv: Sequence[str], folder: Path, *, good: tuple[int, ...] = (0,)) -> Measured:
    """Run a program in a folder, and wait for it. Its output goes to files, so that nobody has to read along.

    What a dispatcher notes of its ledger outside the campaign's folder goes beside that folder.
    """
    env = {**environment(), "DISPATCHER_STATE": str(folder.with_name(f"{folder.name}-state"))}
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        began = time.monotonic()
        child = subprocess.Popen(argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        memory = _Memory(child.pid)
        memory.start()
        watchdog = threading.Timer(LONGEST, child.kill)
        watchdog.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - began
        watchdog.cancel()
        memory.over.set()
        memory.join()
        child.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
        said = _text(out)
        if child.returncode not in good:
            words = f"{said[-1000:]}\n{_text(err)[-3000:]}".strip()
            raise BenchmarkFailed(f"{' '.join(argv)}\nended with {child.returncode}:\n{words}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, memory.peak, _last_object(said), said)


def _text(file: Any) -> str:
    file.seek(0)
    return bytes(file.read()).decode(errors="replace")


def _last_object(text: str) -> Mapping[str, Any]:
    line = text.rstrip().rpartition("\n")[2]
    found = json.loads(line) if line.startswith("{") else {}
    return found if isinstance(found, dict) else {}
