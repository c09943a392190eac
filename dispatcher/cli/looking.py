"""How far a long look is (attachments, a ledger), on stderr: a line on a terminal, one every ten seconds elsewhere.

What is done within a second (elsewhere ten) says nothing.
"""

import sys
import time
from contextlib import suppress
from typing import Final

from dispatcher.cli.output import note

_FIRST: Final = 1.0
_EVERY: Final = 0.2
_PLAIN_EVERY: Final = 10.0
_CLEAR: Final = "\r\x1b[K"


class Looking:
    """Called with how many files have been looked into, and of how many; `at` with what they are."""

    def __init__(self) -> None:
        self._next = 0.0
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        self.at("attachments", done, total)

    def at(self, things: str, done: int, total: int) -> None:
        """So many of these have been looked into."""
        over = done == total
        if sys.stderr is None:
            return
        every = _EVERY if sys.stderr.isatty() else _PLAIN_EVERY
        if not done:
            self._next, self._shown = time.monotonic() + max(every, _FIRST), False
        if time.monotonic() < self._next and not (over and self._shown):
            return
        words = f"looked into {done:,} of {total:,} {things}"
        with suppress(OSError, ValueError):
            if sys.stderr.isatty():
                print(_CLEAR if over else f"{_CLEAR}{words} ", end="", file=sys.stderr, flush=True)
            else:
                note(words)
        self._shown = not over
        self._next = time.monotonic() + every
