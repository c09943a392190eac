"""Who takes the letters: Postfix's smtp-sink, which reads and forgets; and the long way there, if one is wanted."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measured import ROOT, BenchmarkFailed, environment

HOST: Final = "127.0.0.1"
_BACKLOG: Final = "1024"
_NOBODY: Final = ("-u", "nobody") if hasattr(os, "geteuid") and os.geteuid() == 0 else ()


def program(name: str) -> str:
    """Where a program is; /usr/sbin is looked at too. Raises BenchmarkFailed with how to get it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise BenchmarkFailed(f"{name} is not installed. All peers at once: make bench-peers")
    return path


@dataclass
class Sink:
    """One smtp-sink: its port, and once it has ended how many letters it took, and which if they were kept.

    Kept letters are without the lines that the sink puts in itself, and their lines end in LF.
    """

    port: int
    count: int = 0
    kept: tuple[bytes, ...] = ()


def _own(piece: bytes) -> bytes:
    """A dumped letter behind the sink's X- lines and its Received header, and without the empty line it puts last."""
    lines = piece.removesuffix(b"\n").split(b"\n")
    first = next(n for n, line in enumerate(lines) if line.startswith(b"Received: "))
    return b"\n".join(lines[first + 3 :])  # Received is one line and two that continue it


@contextmanager
def sink(*, keep: bool = False) -> Iterator[Sink]:
    """A fresh smtp-sink. With `keep` it writes what it is sent to a file: for a look at single letters only."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)  # the sink writes as nobody
        port = free_port()
        dump = ("-D", str(folder / "dump")) if keep else ()
        argv = [program("smtp-sink"), "-c", *_NOBODY, *dump, f"{HOST}:{port}", _BACKLOG]
        receiver = Sink(port)
        with (folder / "count").open("wb") as count, running(argv, port, stdout=count.fileno()):
            yield receiver
        # It counts on its stdout, each count after the one before.
        words = (folder / "count").read_text(errors="replace").rpartition("mesg=")[2].split()
        receiver.count = int(words[0]) if words else 0
        if keep and (folder / "dump").exists():
            pieces = (folder / "dump").read_bytes().split(b"X-Client-Addr: ")[1:]
            receiver.kept = tuple(_own(piece) for piece in pieces)


@contextmanager
def far_away(port: int, milliseconds: int) -> Iterator[int]:
    """A port behind which `port` is a round trip of so many milliseconds away; 0 gives the port itself."""
    if not milliseconds:
        yield port
        return
    front = free_port()
    argv = [sys.executable, "-m", "benchmarks.proxy", str(front), str(port), str(milliseconds / 2)]
    with running(argv, front, stdout=subprocess.DEVNULL):
        yield front


@contextmanager
def running(argv: list[str], port: int, *, stdout: int) -> Iterator[None]:
    """A server in a process of its own, from the moment on which it listens."""
    with subprocess.Popen(argv, cwd=ROOT, env=environment(), stdout=stdout, stderr=subprocess.PIPE) as process:
        try:
            _wait_for(process, port)
            yield
        finally:
            process.terminate()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    process.terminate()
    said = process.stderr.read().decode(errors="replace") if process.stderr else ""
    raise BenchmarkFailed(f"{process.args!r} does not listen on {HOST}:{port}. {said}")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
