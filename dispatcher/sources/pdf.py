"""PDF files, opened: how many pages, what text; or why one does not open.

pypdf does it in a child process (`pdf_child.py`): a file that is damaged, or made to harm, may take for ever or all
memory, and there it can be ended. The child is started for the first file and serves all others.
"""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

SECONDS: Final = 20.0
_CHILD: Final = Path(__file__).with_name("pdf_child.py")


@dataclass(frozen=True, slots=True)
class Pdf:
    """What one holds: `pages`, and the `text` of the first ones; or `fault`, why it cannot be opened, in words."""

    pages: int = 0
    text: str = ""
    fault: str = ""


class PdfOpener:
    """Opens PDF files, one after the other; `seconds` is how long one may take. Use as a context manager."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def open(self, path: Path, *, text_of: int = 0) -> Pdf:
        """Open one, and read the text of so many pages. Raises nothing for what the file is."""
        try:
            child = self._child or self._start()
        except OSError as error:
            return Pdf(fault=f"no process to open it in: {error.strerror}")
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self._seconds, end)
        timer.start()
        answer = ""
        with suppress(OSError, ValueError):
            assert child.stdin is not None  # noqa: S101 (both are pipes)
            assert child.stdout is not None  # noqa: S101
            child.stdin.write(json.dumps([str(path), text_of]) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        timer.cancel()
        whole = answer.endswith("\n")
        if late.is_set() or not whole:
            self._end()
        if whole:
            return Pdf(**json.loads(answer))
        return Pdf(fault=f"it takes longer than {self._seconds:g} s to open" if late.is_set() else "it cannot be read")

    def _start(self) -> "subprocess.Popen[str]":
        # -P: what lies beside it here is not taken for a module of the standard library, nor what is in the campaign
        argv = [sys.executable, "-P", str(_CHILD)]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        self._child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=nowhere, encoding="utf-8")
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()
        child.wait()
