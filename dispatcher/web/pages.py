"""The pages of a preview: letters in pages of bounded size, each whole in itself, and the first page before them.

A letter stands there as text, which any reader shows. Its HTML is nearly that of the letter before, so that of a few
letters together is deflated (zlib, RFC 1950; base64) into a block behind them, which the page's own script unpacks.
"""

import base64
import hashlib
import json
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, Final

from jinja2 import Environment, StrictUndefined

from dispatcher.core.text import printable
from dispatcher.web.outliers import size

PAGES: Final = "letters-*.html"
"""The names of the pages behind the first one, where there is more than one."""
PER_PAGE: Final = 250
PAGE_SIZE: Final = 4_000_000
"""Octets of letters after which a page is full, however few they are."""
MOST_FOUND: Final = 100_000
"""Letters that can be found from the first page of many: 18 octets each, in one block."""
_PER_BLOCK: Final = 25
_BLOCK_SIZE: Final = 1_000_000
"""Characters of HTML after which a block is full: it is unpacked whole to show one letter."""


@cache
def parts() -> Any:
    """The pages' parts, as functions: see `preview.html`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(shown=printable, size=size)
    text = files("dispatcher.web").joinpath("preview.html").read_text(encoding="utf-8")
    return environment.from_string(text).module


@cache
def script_hash() -> str:
    """The one script's hash, as a policy names it (CSP 3 §2.3.1)."""
    return base64.b64encode(hashlib.sha256(str(parts().script()).encode()).digest()).decode()


def private(path: Path) -> IO[bytes]:
    """A new file, open for writing, readable by its owner alone."""
    path.touch(mode=0o600, exist_ok=False)
    return path.open("wb")


@dataclass(frozen=True, slots=True)
class Extent:
    """Which letters are on a page: number and key of the first and the last."""

    file: str
    first: tuple[int, str]
    last: tuple[int, str]


@dataclass(slots=True)
class _Page:
    """A page's letters as they come."""

    first: tuple[int, str] = (0, "")
    last: tuple[int, str] = (0, "")
    count: int = 0
    size: int = 0
    _pieces: list[bytes] = field(default_factory=list)
    _block: list[str] = field(default_factory=list)
    _waiting: int = 0

    @property
    def full(self) -> bool:
        return self.count >= PER_PAGE or self.size >= PAGE_SIZE

    @property
    def place(self) -> int:
        """Where in its block the next HTML will be."""
        return len(self._block)

    def add(self, number: int, key: str, entry: str, html: str) -> None:
        self.first = self.first if self.count else (number, key)
        self.last = (number, key)
        self.count += 1
        self._put(entry)
        if html:
            self._block.append(html)
            self._waiting += len(html)
        if len(self._block) == _PER_BLOCK or self._waiting >= _BLOCK_SIZE:
            self._put_block()

    def letters(self) -> Sequence[bytes]:
        """All of them, in pieces."""
        if self._block:
            self._put_block()
        return self._pieces

    def _put_block(self) -> None:
        packed = zlib.compress(json.dumps(self._block, ensure_ascii=False).encode(), 9)
        self._put(str(parts().block(base64.b64encode(packed).decode())))
        self._block, self._waiting = [], 0

    def _put(self, text: str) -> None:
        octets = text.encode()
        self._pieces.append(octets)
        self.size += len(octets)


class _Everybody:
    """What letters are found by, of all pages: number, key and the rest in JSON, deflated as it comes."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(9)
        self._pieces = [self._packer.compress(b"[0")]
        self._count = 0

    def add(self, number: int, key: str, rest: str) -> None:
        self._count += 1
        if self._count <= MOST_FOUND:
            line = "," + json.dumps([number, key, rest], ensure_ascii=False)
            self._pieces.append(self._packer.compress(line.encode()))

    def packed(self) -> str:
        """All of it in base64, '' if there are too many."""
        self._pieces += self._packer.compress(b"]"), self._packer.flush()
        return base64.b64encode(b"".join(self._pieces)).decode() if self._count <= MOST_FOUND else ""


class Pages:
    """Writes the pages of a preview into `folder`. Holds the letters of one page, no more.

    `common` is what all pages say: see `first` and `page` in preview.html. If `single`, all letters stand on the
    first page, as many as they are.
    """

    def __init__(self, folder: Path, common: Mapping[str, Any], *, single: bool) -> None:
        self._folder = folder
        self._common = {**common, "script_hash": script_hash()}
        self._single = single
        self._page = _Page()
        self._everybody = _Everybody()
        self.extents: list[Extent] = []

    def place(self) -> int:
        """Where in its block the HTML of the next letter will be. What is full is put away first."""
        if self._page.full and not self._single:
            self._put_away(following=True)
        return self._page.place

    def add(self, number: int, key: str, entry: str, html: str = "", *, found_by: str) -> None:
        """Put a letter behind the last one: `entry` is its part of the page, `html` what mail programs show.

        It is found from the first page by its key and by `found_by`.
        """
        self._everybody.add(number, printable(key), found_by)
        self._page.add(number, key, entry, html)

    def finish(self, first: Mapping[str, Any]) -> Path:
        """Write what is left, and the first page, which says this besides."""
        if self.extents:
            self._put_away(following=False)
        index = self._folder / "index.html"
        with private(index) as file:
            page = {**self._common, **first, "pages": self.extents, "link": self._link}
            page["everybody"] = self._everybody.packed() if self.extents else ""
            file.write(str(parts().first(page)).encode())
            if not self.extents:
                self._write_letters(file)
            file.write(str(parts().bottom()).encode())
        return index

    def _link(self, number: int) -> str:
        """Where a letter is, as seen from the first page."""
        page = bisect_right(self.extents, number, key=lambda extent: extent.first[0])
        return f"{self.extents[page - 1].file if page else ''}#letter-{number}"

    def _put_away(self, *, following: bool) -> None:
        number = len(self.extents) + 1
        extent = Extent(_name(number), self._page.first, self._page.last)
        before, after = _name(number - 1) if number > 1 else "", _name(number + 1) if following else ""
        with private(self._folder / extent.file) as file:
            page = {**self._common, "extent": extent, "before": before, "after": after}
            file.write(str(parts().page(page)).encode())
            self._write_letters(file)
            file.write(str(parts().bottom()).encode())
        self.extents.append(extent)

    def _write_letters(self, file: IO[bytes]) -> None:
        file.write(str(parts().letters(self._common["logo"])).encode())
        file.writelines(self._page.letters())
        file.write(str(parts().end_of_letters()).encode())
        self._page = _Page()


def _name(number: int) -> str:
    return f"letters-{number:04}.html"
