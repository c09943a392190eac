"""What would be on the disk if the power failed: a replay of a traced run, in which only what was synced survives.

`Disk` follows every file below a folder. Octets are safe when a sync of their file that began after they were written
has come back; names (new, renamed, removed) when a sync of their folder has. What is not safe is lost, or, if a chance
is given, each write of it by that chance: a disk writes in any order. `terminators` finds, in what was written to the
sockets, the calls with which the end of each message left.
"""

import random
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from tests.torture import message_id
from tests.tracing import Call

FILES = ("openat", "pwrite64", "ftruncate", "fallocate", "fdatasync", "fsync", "rename", "unlink", "mkdir")
SOCKETS = ("write", "writev", "sendto", "sendmsg")


@dataclass(slots=True)
class _File:
    """A file, or a folder. `now` is what a reader would see, `safe` what survives, `unsafe` each write since then."""

    folder: bool = False
    now: bytearray = field(default_factory=bytearray)
    safe: bytes = b""
    unsafe: list[tuple[int, bytes]] = field(default_factory=list)
    place: int = 0
    """Where `write` goes on: of a file that is open once at a time."""


class Disk:
    """The files below a folder that was empty at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[Path, _File] = {}
        self.safe_names: dict[Path, _File] = {}
        self._syncs: dict[int, tuple[bytes, int]] = {}

    def begin(self, call: Call) -> None:
        """A call that has begun: what it changes may be seen from now on."""
        if call.result is None or call.result < 0:
            return
        getattr(self, f"_{call.name}", lambda _: None)(call)

    def end(self, call: Call) -> None:
        """A call that has come back."""
        if call.name not in ("fdatasync", "fsync") or call.result != 0:
            return
        path = Path(call.where)
        if path == self.folder or path in self.names:
            self.safe_names = {name: file for name, file in self.safe_names.items() if name.parent != path}
            self.safe_names |= {name: file for name, file in self.names.items() if name.parent == path}
        if path in self.names:
            file = self.names[path]
            file.safe, written = self._syncs.pop(call.began)
            del file.unsafe[:written]

    def write(self, folder: Path, chance: random.Random | None = None) -> None:
        """Make the files that survive, below another folder."""
        for path, file in self.safe_names.items():
            there = folder / path.relative_to(self.folder)
            if any(above not in self.safe_names for above in path.parents if self.folder in above.parents):
                continue
            if file.folder:
                there.mkdir(exist_ok=True)
            elif not there.name.endswith("-shm"):  # made anew from the log by whoever opens the ledger
                there.parent.mkdir(exist_ok=True)
                octets = bytearray(file.safe)
                for start, written in file.unsafe:
                    if chance and chance.random() < 0.5:
                        _put(octets, start, written)
                there.write_bytes(octets)

    def _here(self, path: Path) -> bool:
        return self.folder in path.parents

    def _openat(self, call: Call) -> None:
        path = Path(call.strings[0].decode())
        if not self._here(path):
            return
        if "O_CREAT" in call.arguments:
            self.names.setdefault(path, _File())
        if file := self.names.get(path):
            if "O_TRUNC" in call.arguments:
                file.now.clear()
            file.place = len(file.now) if "O_APPEND" in call.arguments else 0

    def _mkdir(self, call: Call) -> None:
        path = Path(call.strings[0].decode())
        if self._here(path):
            self.names[path] = _File(folder=True)

    def _unlink(self, call: Call) -> None:
        self.names.pop(Path(call.strings[0].decode()), None)

    def _rename(self, call: Call) -> None:
        old, new = (Path(text.decode()) for text in call.strings)
        if old in self.names:
            self.names[new] = self.names.pop(old)

    def _pwrite64(self, call: Call) -> None:
        if file := self.names.get(Path(call.where)):
            self._store(file, int(_ARGUMENTS.findall(call.arguments)[-1]), call)

    def _write(self, call: Call) -> None:
        if file := self.names.get(Path(call.where)):
            self._store(file, file.place, call)
            file.place += call.result or 0

    def _store(self, file: _File, start: int, call: Call) -> None:
        octets = call.strings[-1][: call.result]
        _put(file.now, start, octets)
        file.unsafe.append((start, octets))

    def _ftruncate(self, call: Call) -> None:
        if file := self.names.get(Path(call.where)):
            size = int(_ARGUMENTS.findall(call.arguments)[-1])
            file.now[:] = file.now[:size].ljust(size, b"\0")

    def _fallocate(self, call: Call) -> None:
        if file := self.names.get(Path(call.where)):
            start, size = (int(number) for number in _ARGUMENTS.findall(call.arguments)[-2:])
            file.now.extend(bytes(max(0, start + size - len(file.now))))

    def _fdatasync(self, call: Call) -> None:
        if file := self.names.get(Path(call.where)):
            self._syncs[call.began] = bytes(file.now), len(file.unsafe)

    _fsync = _fdatasync


_ARGUMENTS = re.compile(r", (\d+)(?=[,) ])")


def _put(there: bytearray, start: int, octets: bytes) -> None:
    there.extend(bytes(max(0, start - len(there))))
    there[start : start + len(octets)] = octets


def moments(calls: Iterable[Call]) -> Iterator[tuple[Call, bool]]:
    """The calls in the order of the world: each as it begins (False), and as it ends (True)."""
    both = [(call.began, False, call) for call in calls] + [(call.ended, True, call) for call in calls]
    for _, ended, call in sorted(both, key=lambda each: each[:2]):
        yield call, ended


def terminators(calls: Iterable[Call]) -> dict[int, list[str]]:
    """By where a call began: the Message-IDs of the letters whose terminator's first octet is in what it wrote.

    Reads what the client says, and takes the server for an honest one that agrees to everything.
    """
    streams: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.name in SOCKETS and call.where.startswith("TCP:") and call.result and call.result > 0:
            streams[call.where].append(call)
    found: dict[int, list[str]] = defaultdict(list)
    for written in streams.values():
        pieces = [b"".join(call.strings)[: call.result] for call in written]
        ends = list(accumulate(map(len, pieces)))
        for place, number in _terminators(b"".join(pieces)):
            found[written[bisect_right(ends, place)].began].append(number)
    return dict(found)


def _terminators(said: bytes) -> Iterator[tuple[int, str]]:
    """In all that a client said on one connection: where each terminator begins, and whose it is."""
    place, content = 0, b""
    while (end := said.find(b"\r\n", place)) >= 0:
        line, start = said[place:end].upper(), place
        place = end + 2
        if line == b"DATA":
            last = said.find(b"\r\n.\r\n", place - 2)
            if last < 0:
                return
            yield last + 2, message_id(said[place : last + 2])
            place = last + 5
        elif line.startswith(b"BDAT "):  # RFC 3030: the chunk follows, and LAST ends the message
            size = int(line.split()[1])
            content += said[place : place + size]
            place += size
            if line.endswith(b" LAST"):
                yield start, message_id(content)
                content = b""
