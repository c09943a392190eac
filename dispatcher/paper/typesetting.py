"""Typst, and what it says: source and data → PDF/A-2b, the same octets every time; errors in words of ours.

Data goes in as JSON in `sys.inputs` and is never part of a source. One compiler for each root and folder of fonts is
kept: fonts are read once. Never after a fork: Typst's threads do not survive one.
"""

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dispatcher.core.errors import DispatcherError, Place, Problem, TemplateError

if TYPE_CHECKING:
    import typst

FOLDER: Final = Path(__file__).parent
FONTS: Final = FOLDER / "fonts"
_ONE_AT_A_TIME: Final = threading.Lock()
"""A compiler takes one caller; it works with several threads of its own."""
_KEPT: Final = 10
_LARGE: Final = 100_000
"""Characters of data, some thirty letters, from which on forgetting is worth its 50 ms."""
_LINE: Final = re.compile(r"\.typ:(\d+):(\d+)")
_MISSING: Final = re.compile(r'the text `"((?:[^"\\]|\\.)*)"` could not be displayed')
_ESCAPE: Final = re.compile(r"\\(?:u\{([0-9a-f]+)\}|(.))")
_PANIC: Final = re.compile(r"panicked with: no room (\[.*\])")


class NoRoom(Exception):
    """Addresses that do not fit the room they have; `keys` are their letters'."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        super().__init__(", ".join(keys))


class NoGlyph(Exception):
    """Texts that no font has a glyph for."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        super().__init__(" ".join(texts))


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a source: the file it is from, as people know it, and its text."""

    file: str
    text: str


def ours(name: str) -> Piece:
    """A source of this package."""
    return Piece(name, (FOLDER / name).read_text(encoding="utf-8"))


@lru_cache(maxsize=4)
def _compiler(root: Path, fonts: Path | None) -> "typst.Compiler":
    import typst  # noqa: PLC0415 (19 ms, which only who prints waits for)

    folders = [FONTS, fonts] if fonts else [FONTS]
    return typst.Compiler(None, root=root, font_paths=folders, ignore_system_fonts=True)


def compiled(
    pieces: tuple[Piece, ...],
    inputs: Mapping[str, str],
    *,
    timestamp: datetime,
    root: Path = FONTS,
    fonts: Path | None = None,
) -> bytes:
    """The PDF of the pieces, one behind the other. `timestamp` (aware) is printed in its properties.

    Raises NoGlyph, NoRoom, and TemplateError naming file and line of a piece.
    """
    given: dict[str, Any] = {"format": "pdf", "pdf_standards": ["a-2b"], "timestamp": timestamp.astimezone(UTC)}
    pdf = _made(pieces, inputs, root, fonts, given)
    if not isinstance(pdf, bytes):
        raise DispatcherError("Typst gave something else than a PDF")
    return pdf


def pictured(
    pieces: tuple[Piece, ...],
    inputs: Mapping[str, str],
    *,
    pixels_an_inch: float,
    root: Path = FONTS,
    fonts: Path | None = None,
) -> list[bytes]:
    """The same as pictures, a PNG a page."""
    found = _made(pieces, inputs, root, fonts, {"format": "png", "ppi": pixels_an_inch})
    return list(found) if isinstance(found, list) else [found]


def _made(
    pieces: tuple[Piece, ...], inputs: Mapping[str, str], root: Path, fonts: Path | None, given: Mapping[str, Any]
) -> Any:
    import typst  # noqa: PLC0415

    source = "\n".join(piece.text for piece in pieces).encode()
    with _ONE_AT_A_TIME:
        try:
            return _compiler(root, fonts).compile(source, sys_inputs=dict(inputs), **given)
        except typst.TypstError as error:
            raise _in_words(error, pieces) from None
        finally:
            if sum(map(len, inputs.values())) > _LARGE:
                _forget(root, fonts)


def _forget(root: Path, fonts: Path | None) -> None:
    """Let Typst forget a large document. It keeps what it made until that was not wanted in ten compilations, which is
    quick for one letter after another, and 120 MB for every 200 letters in one file.
    """
    for _ in range(_KEPT + 1):
        _compiler(root, fonts).compile(b"", format="svg")


def _in_words(error: Any, pieces: tuple[Piece, ...]) -> Exception:
    if missing := [_unescaped(text) for text in _MISSING.findall(error.diagnostic)]:
        return NoGlyph(list(dict.fromkeys(missing)))
    if panic := _PANIC.match(error.message):
        return NoRoom(json.loads(panic.group(1)))
    where, todo = _place(error.diagnostic, pieces), "; ".join(error.hints) or "mend the template at that line"
    return TemplateError(Problem(f"Typst: {error.message}", where, todo))


def _place(diagnostic: str, pieces: tuple[Piece, ...]) -> Place:
    found = _LINE.search(diagnostic)
    if not found:
        return Place(pieces[-1].file)
    line = int(found.group(1))
    for piece in pieces:
        length = piece.text.count("\n") + 1
        if line <= length:
            return Place(piece.file, line)
        line -= length
    return Place(pieces[-1].file)


def _unescaped(text: str) -> str:
    """What Rust's debug output of a text stands for."""
    simple = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else simple.get(m[2], m[2]), text)
