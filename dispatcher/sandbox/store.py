"""Where captured messages are kept: a file each, and a line each in `envelopes.jsonl`.

A message's file, `NNNNN-<first forward path>.eml`, holds exactly the octets that were received, and gets its name only
when it is whole; its line says file, mail_from, rcpt_tos, peer and time (UTC). Numbers go on from what is in the
folder; one store to a folder. All of it is for its owner alone.
"""

import json
import os
import re
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

ENVELOPES: Final = "envelopes.jsonl"

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9@+_.-]+")
_NUMBER: Final = re.compile(r"([0-9]{5,})-.*\.eml")


class Store:
    """Keeps in `folder`, made if it is not there. `count` is how many it has kept. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        for each in reversed((folder, *folder.parents)):  # `parents=True` leaves those above it open to others
            each.mkdir(mode=0o700, exist_ok=True)
        self._number = _last_number(folder)

    def keep(self, octets: bytes, mail_from: str | None, rcpt_tos: Sequence[str], peer: str, at: datetime) -> str:
        """Keep one message, and say under which number. Raises OSError, with nothing half done left behind."""
        number = f"{self._number + 1:05}"
        path = self.folder / f"{number}-{_safe(rcpt_tos[0])}.eml"
        _write_whole(path, octets)
        entry = {
            "file": path.name,
            "mail_from": mail_from,
            "rcpt_tos": list(rcpt_tos),
            "peer": peer,
            "time": at.isoformat(),
        }
        try:
            _append(self.folder / ENVELOPES, json.dumps(entry, ensure_ascii=True) + "\n")
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._number += 1
        self.count += 1
        return number


def _last_number(folder: Path) -> int:
    matches = (_NUMBER.fullmatch(path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in matches if match), default=0)


def _safe(address: str) -> str:
    return _UNSAFE.sub("_", address)[:80] or "_"


def _write_whole(path: Path, octets: bytes) -> None:
    """Write a file that is whole from the moment it has its name; mode 0600."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="ascii") as file:
        file.write(line)
