"""Whether a ledger's file is damaged: looked through before anything else, or, if it is large, beside the work.

A look through a file of gigabytes takes seconds, in which no letter would leave. What leaves meanwhile is safe without
it: each letter is compared with its own digest, and what SQLite itself finds damaged it refuses to read. A look that
ends badly stops the run at its next intent.
"""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Final

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.ledgers.file import connect, require_sound

LARGE: Final = 100_000_000
"""Octets, from which on a look is taken beside the work."""


class Soundness:
    """One look through a ledger's file. Raises LedgerUnavailable at once if a file that is not large is damaged."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._damage: LedgerUnavailable | None = None
        self._thread: threading.Thread | None = None
        if path.stat().st_size < LARGE:
            require_sound(connection, path)
        else:
            self._thread = threading.Thread(target=self._look, name="look through the ledger", daemon=True)
            self._thread.start()

    def _look(self) -> None:
        try:
            with closing(connect(self._path, read_only=True)) as connection:
                require_sound(connection, self._path)
        except LedgerUnavailable as error:
            self._damage = error
        except sqlite3.Error as error:
            self._damage = LedgerUnavailable(str(error))

    def require(self) -> None:
        """Raise LedgerUnavailable if damage was found by now."""
        if self._damage:
            raise self._damage

    def wait(self) -> None:
        """Wait for the end of the look; raise LedgerUnavailable if it found damage."""
        if self._thread:
            self._thread.join()
        self.require()
