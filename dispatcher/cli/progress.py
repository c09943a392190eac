"""Watching a run: a progress bar on a terminal, plain lines elsewhere, both on stderr; and stopping it by a signal.

The first Ctrl-C (SIGTERM and a closed terminal alike) takes up nothing new and lets letters in flight finish; the
second stops at once. A signal that whoever started us had ignored (`nohup`) stays ignored. Nothing here ever raises
into the run, whatever becomes of the terminal.
"""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from types import FrameType, TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from dispatcher.cli.output import note
from dispatcher.dispatch import Dispatch

_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
_STOPPING: Final = "Stopping: letters in flight get 10 s to finish. Ctrl-C again stops at once."
_EVERY: Final = 0.2
_PLAIN_EVERY: Final = 10.0


class Watch:
    """Shows a run while it happens. Use as a context manager; give `observe` to the desk.

    `clock` is that of a rehearsal, whose time is shown in place of the pace.
    """

    def __init__(self, total: int, *, quiet: bool, clock: Callable[[], datetime] | None = None) -> None:
        self._total = total
        self._clock = clock
        self._quiet = quiet
        self._dispatch: Dispatch | None = None
        self._done = threading.Event()
        self._began = time.monotonic()
        self._threads: list[threading.Thread] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        return self

    def observe(self, dispatch: Dispatch) -> None:
        """Begin to watch; called inside the run's event loop, on the main thread."""
        self._dispatch = dispatch
        loop = asyncio.get_running_loop()

        def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (signal's signature)
            if not loop.is_closed():  # else the run is over, and its result is about to be shown
                loop.call_soon_threadsafe(self._stop, dispatch)

        for number, before in self._before.items():
            if before is not signal.SIG_IGN:
                signal.signal(number, stop)
        if not self._quiet and sys.stderr is not None:
            self._show(self._bar if sys.stderr.isatty() else self._lines)
            self._show(self._troubles)

    def _stop(self, dispatch: Dispatch) -> None:
        dispatch.stop()
        if sys.stderr is not None:
            self._show(lambda: note(_STOPPING, name="yellow"))

    def _show(self, what: Callable[[], None]) -> None:
        """In a thread of its own: a terminal that is not read, or went away, must not touch the run."""

        def guarded() -> None:
            with suppress(OSError, ValueError):
                what()

        self._threads.append(threading.Thread(target=guarded, name="progress", daemon=True))
        self._threads[-1].start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        for number, before in self._before.items():
            if before is not None:  # a handler that is not Python's cannot be put back
                signal.signal(number, before)

    def _finished(self) -> int:
        tally = self._dispatch.tally if self._dispatch else None
        return tally.accepted + tally.failed + tally.unknown + tally.suppressed if tally else 0

    def words(self) -> str:
        """Where the run stands, in one line."""
        if self._dispatch is None:
            return ""
        tally = self._dispatch.tally
        where = (
            f"accepted {tally.accepted:,}, deferred {tally.deferred:,}, failed {tally.failed:,}, "
            f"unknown {tally.unknown:,}"
        )
        if self._clock:
            return f"{where}; there it is {self._clock().astimezone():%Y-%m-%d %H:%M}"
        seconds = max(0.001, time.monotonic() - self._began)
        rate = self._finished() / seconds
        left = max(0, self._total - self._finished()) / rate if rate else 0.0
        return f"{where}; {_pace(rate)}, {_span(left)} left"

    def _bar(self) -> None:
        console = Console(stderr=True)
        with Progress(BarColumn(None), TextColumn("{task.description}"), console=console, expand=True) as bar:
            task = bar.add_task("", total=self._total)
            while not self._done.wait(_EVERY):
                bar.update(task, completed=self._finished(), description=self.words())
            bar.update(task, completed=self._finished(), description=self.words())

    def _troubles(self) -> None:
        """What a run that stays waits for, once for each: a person may have to do something about it."""
        said = ""
        while not self._done.wait(_EVERY):
            why = self._dispatch.stands_still if self._dispatch else ""
            if why and why != said:
                said = why
                note(f"Waiting, and trying again now and then: {why}", name="yellow")

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
