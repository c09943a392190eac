"""Runs the real command line in a process of its own, on a real campaign folder, as somebody at a keyboard does.

A child gets an environment of its own: no colour, no password, no home of anybody's, the repository's package.
"""

import atexit
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dispatcher.ledgers.state import VARIABLE
from tests.nursery import Nursery
from tests.smtp_server import SmtpServer

REPOSITORY = Path(__file__).resolve().parent.parent
FEW = ("GBR", "FRA", "ESP", "BHR", "KHM", "fidh")
"""A mission for each language, one of the troika, the State under review, an NGO."""
SECONDS = 600


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout, which must be one line of JSON and nothing else."""
        assert self.out.count("\n") == 1, self
        return json.loads(self.out)

    @property
    def all(self) -> str:
        return self.out + self.err


def environment(**more: str) -> dict[str, str]:
    """What a child's environment holds."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", VARIABLE) if name in os.environ}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1", "HOME": os.devnull, "LOGNAME": "keeper", **more}


def argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "dispatcher", *words]


def dispatcher(
    *words: str, folder: Path, env: Mapping[str, str] | None = None, text: str = "", anew: bool = False
) -> Done:
    """Run one command in a folder; `text` is what stands on its stdin. `anew`: from Python's start on, not forked."""
    settings = environment(**(env or {}))
    if anew:
        run = subprocess.run(
            argv(*words),
            cwd=folder,
            env=settings,
            input=text.encode(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        return Done(run.returncode, run.stdout.decode(), run.stderr.decode())
    with tempfile.TemporaryDirectory() as name:
        given, out, err = Path(name, "in"), Path(name, "out"), Path(name, "err")
        given.write_bytes(text.encode())
        out.touch()
        err.touch()
        nursery = _nursery()
        number = nursery.begin(*words, folder=folder, env=settings, streams=(str(given), str(out), str(err)))
        watchdog = threading.Timer(SECONDS, os.kill, (number, signal.SIGKILL))
        watchdog.start()
        code = nursery.end()
        watchdog.cancel()
        return Done(code, out.read_bytes().decode(), err.read_bytes().decode())


@cache
def _nursery() -> Nursery:
    nursery = Nursery()
    atexit.register(nursery.close)
    return nursery


def on_terminal(
    *words: str, folder: Path, typed: str = "", once: str = "", env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run one command on a terminal of its own; what is typed goes in at once, or `once` that is shown.

    Returns code and all that was shown.
    """
    import pty  # noqa: PLC0415 (not on Windows)

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        argv(*words),
        cwd=folder,
        env=environment(**{"TERM": "xterm", "COLUMNS": "120", **(env or {})}),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    shown = bytearray()
    try:
        while once.encode() not in shown and (piece := os.read(leader, 65536)):
            shown += piece
        os.write(leader, typed.encode())
        while piece := os.read(leader, 65536):
            shown += piece
    except OSError:  # the terminal's other side is closed
        pass
    finally:
        code = process.wait()
        watchdog.cancel()
        os.close(leader)
    return code, shown.decode()


def new_campaign(root: Path, keys: Iterable[str] = FEW) -> Path:
    """A campaign folder like the founding one, with a few of its rows, no pace, and nothing to log in with."""
    for part in ("recipients", "templates"):
        shutil.copytree(REPOSITORY / part, root / part)
    text = (REPOSITORY / "campaign.toml").read_text(encoding="utf-8")
    (root / "campaign.toml").write_text(text.replace('rate = "30/min"', 'rate = "36,000/min"'), encoding="utf-8")
    wanted = set(keys)
    for name in ("un_missions.csv", "ngos.csv"):
        columns, rows = read_list(root, name)
        write_list(root, name, columns, [row for row in rows if row["key"] in wanted])
    set_relay(root, 'host = "127.0.0.1"\nport = 1\nsecurity = "none"')
    return root


def read_list(folder: Path, name: str) -> tuple[list[str], list[dict[str, str]]]:
    with (folder / "recipients" / name).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or ()), list(reader)


def write_list(folder: Path, name: str, columns: Iterable[str], rows: Iterable[Mapping[str, str]]) -> None:
    with (folder / "recipients" / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)


def edit(path: Path, old: str, new: str) -> None:
    """Replace text that must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def set_relay(folder: Path, lines: str) -> None:
    """Replace the table [relay]."""
    path = folder / "campaign.toml"
    text = re.sub(r"(?ms)^\[relay\]\n.*?(?=^\[)", lambda _: f"[relay]\n{lines}\n\n", path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")


def use_server(folder: Path, server: SmtpServer) -> None:
    """Point a campaign at a loopback server without TLS or login."""
    set_relay(folder, f'host = "127.0.0.1"\nport = {server.port}\nsecurity = "none"')


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in a folder: mode, time of change, octets."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.stat()
        octets = path.read_bytes() if path.is_file() else b""
        found[path.relative_to(folder).as_posix()] = (stat.st_mode, stat.st_mtime_ns, octets)
    return found


def captured(folder: Path) -> list[bytes]:
    """What the sandbox captured, in order."""
    return [path.read_bytes() for path in sorted((folder / ".dispatcher" / "sandbox" / "mail").glob("*.eml"))]
