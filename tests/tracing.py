"""What a process asks of the kernel, seen through `strace`; and its death at exactly such a moment.

    calls = trace(folder, ["write", "fdatasync"], argv)      every call of those names, in order
    code = kill_at("fdatasync", 7, argv)                     SIGKILL as a thread begins its 7th fdatasync

A call that is killed does not happen: everything before it did. `needs_strace` is for every test that uses this.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECONDS = 600
Env = Mapping[str, str] | None

_BEGUN = re.compile(r"(\d+) +(\w+)\((.*)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_UNFINISHED = " <unfinished ...>"
_RESULT = re.compile(r"\) += (-?\d+|\?)")
_DESCRIPTOR = re.compile(r"\d+<((?:\\x[0-9a-f]{2})+|\w+:\[[^\]]*\])")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(slots=True)
class Call:
    """One system call. `number` is the how-manieth of its name in its thread, which is what `kill_at` counts.

    `where` is the path, or `TCP:[from->to]`, of its first descriptor; `began` and `ended` are places in the one order
    of all calls, for two threads may be in the kernel at once. `result` is None for a call that never came back.
    """

    thread: int
    name: str
    number: int
    arguments: str
    began: int
    ended: int = sys.maxsize
    result: int | None = None

    @property
    def where(self) -> str:
        found = _DESCRIPTOR.match(self.arguments)
        if not found:
            return ""
        return _octets(found[1]).decode() if found[1].startswith("\\") else found[1]

    @property
    def strings(self) -> list[bytes]:
        """Every string among the arguments: paths, or what is written."""
        return [_octets(text) for text in _STRING.findall(self.arguments)]


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@lru_cache
def _refusal() -> str:
    """Why nothing can be traced here; '' if it can."""
    if not sys.platform.startswith("linux"):
        return "strace is a program of Linux"
    if not shutil.which("strace"):
        return "strace is not here: apt-get install strace"
    tried = subprocess.run(
        ["strace", "-f", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False
    )
    return f"ptrace is not permitted here: {tried.stderr.strip()}" if tried.returncode else ""


def needs_strace() -> pytest.MarkDecorator:
    """The mark of a module whose tests trace: skipped, with the reason, where that cannot be."""
    return pytest.mark.skipif(bool(_refusal()), reason=_refusal() or "strace is here")


def trace(
    folder: Path,
    names: Sequence[str],
    argv: Sequence[str],
    *,
    octets: int = 10_000_000,
    env: Env = None,
    code: int = 0,
) -> list[Call]:
    """Run a command to its end with that exit code; return its calls of those names, in the order in which they began.

    `octets` is how much is kept of each string.
    """
    path = folder / "strace.out"
    options = ["-f", "-qq", "--seccomp-bpf", "-yy", "-xx", "-s", str(octets), "-e", "signal=none"]
    done = subprocess.run(
        ["strace", *options, "-e", f"trace={','.join(names)}", "-o", path, *argv],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stderr
    with path.open() as lines:
        return list(_calls(lines))


def _calls(lines: Iterator[str]) -> Iterator[Call]:
    numbers: Counter[tuple[int, str]] = Counter()
    under_way: dict[int, Call] = {}
    calls = []
    for place, line in enumerate(lines):
        if begun := _BEGUN.match(line):
            thread, name, rest = int(begun[1]), begun[2], begun[3]
            numbers[thread, name] += 1
            call = Call(thread, name, numbers[thread, name], rest, place)
            calls.append(call)
            if rest.endswith(_UNFINISHED):
                under_way[thread] = call
                continue
        elif resumed := _RESUMED.match(line):
            call, rest = under_way.pop(int(resumed[1])), resumed[3]
        else:
            continue
        call.ended = place
        result = _RESULT.search(rest)
        call.result = int(result[1]) if result and result[1] != "?" else None
    return iter(calls)


def kill_at(name: str, number: int, argv: Sequence[str], *, env: Env = None) -> int:
    """Run a command that dies by SIGKILL when one of its threads begins its n-th call of that name.

    Returns its exit code, or minus the signal: a run that makes fewer calls ends as it would.
    """
    inject = f"--inject={name}:signal=SIGKILL:when={number}"
    options = ["-f", "-qq", "-o", os.devnull, "-e", f"trace={name}", inject]  # with --seccomp-bpf no signal comes
    argv = ["strace", *options, *argv]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, timeout=SECONDS, check=False).returncode
