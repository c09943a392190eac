"""Where our time goes while sending: each thread's functions by the time spent in them, and system calls a letter.

The profiler slows down what is called often more than what runs long; the CPU of each thread, which `ours` tells
without it, is what to believe about their shares.
"""

import cProfile
import pstats
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final

from benchmarks.measured import ROOT

_LINES: Final = 45


class Profiles:
    """A profiler for the thread that sends, and one for each thread that begins after `await_threads`."""

    def __init__(self) -> None:
        self._own = cProfile.Profile()
        self._others: dict[str, cProfile.Profile] = {}
        self._wanted = threading.Event()

    def await_threads(self) -> None:
        """Threads that begin from now on are profiled, from the moment on which `begin` is called."""
        threading.setprofile(self._thread_runs)

    def _thread_runs(self, frame: FrameType, event: str, argument: Any) -> None:  # noqa: ARG002 (setprofile's signature)
        """Called for each event of a new thread; once it is wanted, gives way to a profiler of the thread's own."""
        if self._wanted.is_set():
            profile = self._others.setdefault(threading.current_thread().name, cProfile.Profile())
            profile.enable()

    def begin(self) -> None:
        """Profile this thread and the others."""
        self._wanted.set()
        self._own.enable()

    def end(self) -> None:
        """Profile no more. The other threads' profiles go on until they are read."""
        self._own.disable()
        threading.setprofile(None)

    def text(self, letters: int) -> str:
        """All threads, their costliest functions first; figures are of one letter."""
        pages = [_page("the thread that sends", self._own, letters)]
        pages += [_page(f"thread {name}", profile, letters) for name, profile in self._others.items()]
        return "\n".join(pages)


def _page(title: str, profile: cProfile.Profile, letters: int) -> str:
    profile.create_stats()
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rows = sorted(stats.items(), key=lambda item: -item[1][2])[:_LINES]
    whole = sum(found[2] for found in stats.values())
    lines = [f"{title}: {whole / letters * 1e6:,.0f} µs a letter", "  own µs   with its calls   calls   function"]
    for (file, line, name), (_, calls, own, cumulative, _callers) in rows:
        place = f"{_short(file)}:{line} " if line else ""
        figures = f"{own / letters * 1e6:8.1f} {cumulative / letters * 1e6:12.1f} {calls / letters:10.2f}"
        lines.append(f"{figures}   {place}{name}")
    return "\n".join(lines) + "\n"


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else "/".join(path.parts[-2:])
