"""Watching a run: a progress bar on a terminal, plain lines elsewhere, both on stderr; and stopping it by Ctrl-C.

The first Ctrl-C (or SIGTERM) takes up nothing new and lets letters in flight finish; the second stops at once.
"""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from dispatcher.cli.output import note
from dispatcher.dispatch import Dispatch

_EVERY: Final = 0.2
_PLAIN_EVERY: Final = 10.0


class Watch:
    """Shows a run while it happens. Use as a context manager; give `observe` to the desk."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total = total
        self._quiet = quiet
        self._dispatch: Dispatch | None = None
        self._done = threading.Event()
        self._began = time.monotonic()
        self._thread: threading.Thread | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Watch":
        return self

    def observe(self, dispatch: Dispatch) -> None:
        """Begin to watch; called inside the run's event loop, on the main thread."""
        self._dispatch = dispatch
        loop = asyncio.get_running_loop()

        def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (signal's signature)
            loop.call_soon_threadsafe(dispatch.stop)
            note("Stopping: letters in flight get 10 s to finish. Ctrl-C again stops at once.", name="yellow")

        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, stop)
        if not self._quiet:
            show = self._bar if sys.stderr.isatty() else self._lines
            self._thread = threading.Thread(target=self._guarded, args=(show,), name="progress", daemon=True)
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()
        for number, before in self._before.items():
            signal.signal(number, before)

    def _guarded(self, show: Callable[[], None]) -> None:
        """A terminal that went away must not touch the run."""
        try:
            show()
        except (OSError, ValueError):
            return

    def _finished(self) -> int:
        tally = self._dispatch.tally if self._dispatch else None
        return tally.accepted + tally.failed + tally.unknown + tally.suppressed if tally else 0

    def words(self) -> str:
        """Where the run stands, in one line."""
        if self._dispatch is None:
            return ""
        tally = self._dispatch.tally
        seconds = max(0.001, time.monotonic() - self._began)
        rate = self._finished() / seconds
        left = (self._total - self._finished()) / rate if rate else 0.0
        return (
            f"accepted {tally.accepted:,}, deferred {tally.deferred:,}, failed {tally.failed:,}, "
            f"unknown {tally.unknown:,}; {_pace(rate)}, {_span(left)} left"
        )

    def _bar(self) -> None:
        console = Console(stderr=True)
        with Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), console=console) as bar:
            task = bar.add_task("", total=self._total)
            while not self._done.wait(_EVERY):
                bar.update(task, completed=self._finished(), description=self.words())
            bar.update(task, completed=self._finished(), description=self.words())

    def _lines(self) -> None:
        while not self._done.wait(_PLAIN_EVERY):
            note(f"{self._finished():,}/{self._total:,}: {self.words()}")
        note(f"{self._finished():,}/{self._total:,}: {self.words()}")


def _pace(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 1 else f"{rate * 60:,.1f}/min"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
