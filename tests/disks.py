"""A disk so small that it can be filled, mounted over a folder for the length of a test."""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Self

import pytest


def _mount(folder: Path, size: int) -> "subprocess.CompletedProcess[str]":
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class SmallDisk:
    """A file system in memory, of so many octets."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._filler = folder / "filler"

    def __enter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        done = _mount(self.folder, self._size)
        assert done.returncode == 0, done.stderr
        return self

    def __exit__(self, *exc: object) -> None:
        _unmount(self.folder)

    def fill(self, leave: int = 0) -> None:
        """Leave no room at all, or about so many octets."""
        filler = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for piece in (1 << 16, 1 << 12, 1):
                try:
                    while os.write(filler, bytes(piece)):
                        pass
                except OSError:  # no room for a piece of that size
                    continue
            os.ftruncate(filler, os.fstat(filler).st_size - leave)
        finally:
            os.close(filler)

    def free(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink()

    def grow(self, size: int) -> None:
        """Make it larger, with all that is on it."""
        self._remount(f"size={size}")

    def freeze(self) -> None:
        """Take no more writes at all."""
        self._remount("ro")

    def thaw(self) -> None:
        """Take writes again."""
        self._remount("rw")

    def _remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.folder)], check=True)


@lru_cache
def _refusal() -> str:
    """Why nothing can be mounted here; '' if it can."""
    if not sys.platform.startswith("linux") or not shutil.which("mount"):
        return "wants Linux and its mount"
    with tempfile.TemporaryDirectory() as name:
        done = _mount(Path(name), 1 << 16)
        if done.returncode == 0:
            _unmount(Path(name))
    return f"mounting is not permitted here, be root: {done.stderr.strip()}" if done.returncode else ""


def needs_mount() -> pytest.MarkDecorator:
    """The mark of a test that mounts: skipped, with the reason, where that cannot be."""
    return pytest.mark.skipif(bool(_refusal()), reason=_refusal() or "mounting is permitted")
