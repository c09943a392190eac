"""Forks `dispatcher` commands from one process that has everything loaded: a life begins in milliseconds.

Each is a process like any other, with its own folder, environment, streams and end; only what Python does before a
program's first line (start, imports) is not done anew. Whoever tests that begins `python -m dispatcher`.
"""

import gc
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import dispatcher.cli

ROOT = Path(__file__).parent.parent
_NOTHING = (os.devnull, os.devnull, os.devnull)


class Nursery:
    """One child at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.communicate(timeout=30)

    def begin(
        self,
        *words: str,
        folder: Path = ROOT,
        env: Mapping[str, str] | None = None,
        streams: tuple[str, str, str] = _NOTHING,
    ) -> int:
        """Begin one `dispatcher`, after the one before has ended; returns its process number.

        `env` is all of its environment, else it is the nursery's; `streams` are the files of stdin, stdout and stderr.
        """
        return int(self._talk(json.dumps([words, str(folder), dict(env) if env is not None else None, streams])))

    def end(self) -> int:
        """Wait for it; returns its exit code, or minus the signal that killed it."""
        return int(self._talk("wait"))

    def _talk(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        print(line, file=self._process.stdin, flush=True)
        return self._process.stdout.readline()


def _serve() -> None:
    """Orders come over the first two streams, which are then put aside: a child has others there."""
    for module in pkgutil.walk_packages(dispatcher.__path__, "dispatcher."):
        if module.name != "dispatcher.__main__":
            importlib.import_module(module.name)
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    gc.freeze()
    child = 0
    for line in orders:
        if line == "wait\n":
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
        elif child := os.fork():
            print(child, file=answers, flush=True)
        else:
            words, folder, env, streams = json.loads(line)
            os.chdir(folder)
            if env is not None:
                os.environ.clear()
                os.environ.update(env)
            for number, path in enumerate(streams):
                opened = os.open(path, os.O_WRONLY if number else os.O_RDONLY)
                os.dup2(opened, number)
                os.close(opened)
            sys.argv = ["dispatcher", *words]
            dispatcher.cli.main()


if __name__ == "__main__":
    _serve()
