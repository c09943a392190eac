"""A dossier that is being checked: its folder, and what is known of it so far."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dispatcher.core.dossier import File
from dispatcher.ledgers.scratch import Scratch

Observe = Callable[[str, int, int], None]
"""Told what is being looked at, how far it is, and of how many."""
_LARGEST_LINE: Final = 1 << 26


class Tampered(Exception):
    """The first thing that is wrong: in which file, at which row or line, about whom, and what."""

    def __init__(self, file: str, what: str, *, row: str = "", key: str = "") -> None:
        self.file, self.what, self.row, self.key = file, what, row, key
        super().__init__(what)


@dataclass(slots=True)
class Held:
    """What is known: the manifest's facts and files, the plans by revision, and whether persons were purged.

    `scratch` keeps what is met in one order and asked for in another.
    """

    folder: Path
    scratch: Scratch
    observe: Observe
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)
    plans: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    purged: bool = False
    attempts_before: dict[int, int] = field(default_factory=dict)
    """By revision, the last attempt before it was sealed: by the chain, for clocks may be set back."""

    def lines(self, name: str) -> Iterator[tuple[str, bytes]]:
        """The lines of a file, each with its place."""
        with (self.folder / name).open("rb") as file:
            number = 0
            while line := file.readline(_LARGEST_LINE):
                number += 1
                yield f"line {number}", line

    def read(self, name: str) -> bytes:
        """A file that must be listed."""
        if name not in self.files:
            raise Tampered(name, NOT_LISTED)
        return (self.folder / name).read_bytes()


NOT_LISTED: Final = "it is missing, and the manifest does not list it"
