"""What this machine keeps outside the campaigns' folders: where it is, and a counter that is cheap to raise.

    state_folder()   the folder of this user's own
    HighWater        a counter at the head of a file, raised in place, and whole after any crash

Raises LedgerUnavailable where it cannot be kept.
"""

import os
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from dispatcher.core.errors import LedgerUnavailable

VARIABLE: Final = "DISPATCHER_STATE"
HEAD: Final = 64
"""Octets of the counter: two slots, written in turn, so that one is always whole."""
_SLOT: Final = HEAD // 2


def state_folder() -> Path:
    """Where this user's marks are: `DISPATCHER_STATE`, or where the system keeps a program's own notes."""
    if given := os.environ.get(VARIABLE):
        return Path(given).absolute()
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Application Support"
        else:
            base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # a user without a home
        raise unkept("there is no home folder") from None
    return base / "dispatcher"


class HighWater:
    """The counter of a mark, open for writing. `raise_to` costs one short write; only `sync` waits for the disk."""

    def __init__(self, file: Path, attempts: int) -> None:
        self._attempts = attempts
        self._turn = 0
        try:
            self._out = file.open("r+b", buffering=0)
        except OSError as error:
            raise unkept(str(error)) from None

    def raise_to(self, attempts: int) -> None:
        """Note that this attempt is in the ledger, durably. Never lowers the mark. Raises LedgerUnavailable."""
        if attempts <= self._attempts:
            return
        self._attempts = attempts
        self._turn = _SLOT - self._turn
        try:
            self._put(_slot(attempts), self._turn)
        except (OSError, ValueError) as error:
            raise unkept(str(error)) from None

    def _put(self, octets: bytes, place: int) -> None:
        if sys.platform != "win32":
            os.pwrite(self._out.fileno(), octets, place)
        else:
            self._out.seek(place)
            self._out.write(octets)

    def sync(self) -> None:
        """Wait until the disk has it; a disk that fails says so to whoever writes next."""
        with suppress(OSError, ValueError):
            os.fsync(self._out.fileno())

    def close(self) -> None:
        """May be called twice."""
        self.sync()
        self._out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def counter(attempts: int) -> bytes:
    """The head of a new file."""
    return _slot(attempts) * 2


def counted(head: bytes) -> int:
    """What the head of a file says. Raises ValueError if it is none."""
    attempts = max(_slot_counted(head[:_SLOT]), _slot_counted(head[_SLOT:HEAD]))
    if attempts < 0:
        raise ValueError("the count is damaged")
    return attempts


def _slot(attempts: int) -> bytes:
    head = b"%20d " % attempts
    return b"%s%08x" % (head, zlib.crc32(head)) + b"  \n"


def _slot_counted(slot: bytes) -> int:
    """What a slot says; -1 if it was not written whole."""
    with suppress(ValueError):
        attempts = int(slot[:20])
        return attempts if slot == _slot(attempts) else -1
    return -1


def unkept(why: str) -> LedgerUnavailable:
    """The error for a state that cannot be kept."""
    what = f"cannot keep the mark by which a restored or copied ledger is noticed: {why}"
    return LedgerUnavailable(f"{what}. Name a folder of yours for it in the environment variable {VARIABLE}")
