"""A new folder that appears whole or not at all, for its owner alone; and the manifest of what was put into it.

It is made beside the place that it is to have, and put there when it is whole. Nothing that is there is written over.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dispatcher.core import dossier as form
from dispatcher.core.dossier import File
from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.ledgers.file import sync_names


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` for as long as it is made. Raises UsageError if there is something at `out`, or no room."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        todo = "name a folder that is not there yet: nothing is ever written over a dossier"
        raise UsageError(Problem(f"{out} is there already", todo=todo))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(".unfinished", f".{out.name}.", out.parent))
    except OSError as error:
        raise _unwritable(error, out) from None
    try:
        yield unfinished
    except OSError as error:
        raise _unwritable(error, out) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unwritable(error: OSError, out: Path) -> UsageError:
    what = f"cannot write the dossier: {error.strerror or error}"
    return UsageError(Problem(what, Place(str(error.filename or out)), "name another folder, or make room there"))


def put_in_place(unfinished: Path, out: Path) -> None:
    for folder in (unfinished, *(path for path in unfinished.iterdir() if path.is_dir())):
        sync_names(folder)
    if out.exists():
        out.rmdir()
    unfinished.rename(out)
    sync_names(out.parent)


class Folder:
    """The files of a dossier, each written once, with what its manifest says of each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = 0
        self.octets = 0
        self._listed = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process, or sooner)

    def add(self, name: str, octets: bytes) -> None:
        with self.open(name) as write:
            write(octets)

    @contextmanager
    def open(self, name: str) -> Iterator[Callable[[bytes], None]]:
        """A new file, to be written piece by piece."""
        path = self.path(name)
        digest, size = hashlib.sha256(), 0
        with path.open("xb") as file:

            def write(octets: bytes) -> None:
                nonlocal size
                size += len(octets)
                digest.update(octets)
                file.write(octets)

            yield write
        self._note(File(name, size, digest.hexdigest()))

    def path(self, name: str) -> Path:
        """Where a file is to be; there, empty, with the right rights, if it is written by somebody else."""
        path = self.root / name
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700)
        return path

    def take_in(self, name: str) -> None:
        """Note a file that something else wrote."""
        path = self.root / name
        path.chmod(0o600)
        with path.open("rb") as file:
            self._note(File(name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()))

    def _note(self, file: File) -> None:
        if os.name == "posix":
            (self.root / file.name).chmod(0o600)
        self._listed.write((b",\n" if self.files else b"") + b"  " + file.line())
        self.files += 1
        self.octets += file.size

    def finish(self, facts: Mapping[str, Any]) -> str:
        """Write the manifest: its SHA-256."""
        digest = hashlib.sha256()
        self._listed.seek(0)
        with (self.root / form.MANIFEST).open("xb") as file:
            for piece in (form.manifest_head(facts), *iter(lambda: self._listed.read(1 << 16), b"")):
                digest.update(piece)
                file.write(piece)
            tail = form.manifest_tail(digest.hexdigest())
            digest.update(tail)
            file.write(tail)
            file.flush()
            os.fsync(file.fileno())
        (self.root / form.MANIFEST).chmod(0o600)
        self._listed.close()
        return digest.hexdigest()
