"""What is printed, and its way to Typst and back: letters → data → a PDF, a fault → the recipient it belongs to."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from dispatcher.core.errors import Place, Problem, TemplateError
from dispatcher.core.model import LetterParts
from dispatcher.core.render import SourceFile
from dispatcher.paper.blocks import BREAK, Node, blocks, breakable, is_element, plain
from dispatcher.paper.typesetting import FONTS, NoGlyph, NoRoom, Piece, compiled, ours, pictured

T = TypeVar("T")

_ISOLATE: Final = "\u2068"
_POP: Final = "\u2069"
"""FIRST STRONG ISOLATE, POP DIRECTIONAL ISOLATE (Unicode annex 9)."""
_SHORT: Final = 600
"""Characters of a paragraph that is not divided between two pages for the sake of the close behind it."""
_SHOWN: Final = 10
"""So many recipients are named of those with the same trouble."""


@dataclass(frozen=True, slots=True)
class PaperLetter:
    """A letter that is to be printed: its recipient's key, its parts, and the PDF files to put behind it, as octets."""

    key: str
    parts: LetterParts
    behind: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class House:
    """What all letters of a house share: the source of its page (`letter.typ`), where its pictures are, its own fonts.

    `root` is the folder that paths in the source begin at ("/templates/house/logo.svg"); nothing outside it is read.
    `fonts` is a folder with fonts beside those of the package. `title` stands in the properties of the file. `logo` is
    the path of a picture from `root` on, '' without one.
    """

    source: SourceFile
    root: Path = FONTS
    fonts: Path | None = None
    title: str = ""
    logo: str = ""


def printed(
    letters: Sequence[PaperLetter],
    house: House,
    pieces: Iterable[Piece],
    *,
    timestamp: datetime,
    room: str,
    settings: Mapping[str, Any] | None = None,
) -> bytes:
    """The PDF that the pieces make of the letters. `room` says in words what an address has to fit.

    Raises TemplateError: a glyph that no font has, with recipient and text; an address that does not fit, with
    recipient; what Typst finds wrong with the house's source, with file and line. ValueError without letters.
    """
    make = partial(compiled, timestamp=timestamp, root=house.root, fonts=house.fonts)
    return _set(letters, house, pieces, make, room, settings)


def pictures(
    letters: Sequence[PaperLetter],
    house: House,
    pieces: Iterable[Piece],
    *,
    pixels_an_inch: float,
    room: str,
    settings: Mapping[str, Any] | None = None,
) -> list[bytes]:
    """The same as pictures, a PNG a page. Raises what `printed` does."""
    make = partial(pictured, pixels_an_inch=pixels_an_inch, root=house.root, fonts=house.fonts)
    return _set(letters, house, pieces, make, room, settings)


def _set(
    letters: Sequence[PaperLetter],
    house: House,
    pieces: Iterable[Piece],
    make: Callable[[tuple[Piece, ...], Mapping[str, str]], T],
    room: str,
    settings: Mapping[str, Any] | None,
) -> T:
    if not letters:
        raise ValueError("there is nothing to print")
    data = [_data(letter) for letter in letters]
    inputs = {
        "title": house.title,
        "logo": f"/{house.logo}" if house.logo else "",
        "author": data[0]["organisation"],
        **{name: json.dumps(value) for name, value in (settings or {}).items()},
    }
    every = (ours("common.typ"), *pieces)
    problems: list[Problem] = []
    while data:
        try:
            told = {**inputs, "letters": json.dumps(data, ensure_ascii=False)}
            made = make(every, told)
        except NoRoom as error:  # what is wrong with the others is said as well
            problems += _limited([_no_room(key, data, room) for key in error.keys])
            data = [one for one in data if one["key"] not in error.keys]
            continue
        except NoGlyph as error:
            problems += _limited(_no_glyph(error.texts, data, house))
        break
    if problems:
        raise TemplateError(*problems)
    return made


def _data(letter: PaperLetter) -> dict[str, Any]:
    parts = letter.parts
    code, *subtags = parts.language.split("-")
    region = next((tag.upper() for tag in subtags if len(tag) == 2 and tag.isalpha()), "")
    body = blocks(parts.body)
    end = _end(body)
    texts = {
        field.name: _one_text(getattr(parts, field.name), parts.direction)
        for field in fields(parts)
        if field.name != "body"
    }
    return {
        **texts,
        "key": letter.key,
        "bookmark": ": ".join([letter.key, *parts.address[:1]]),
        "lang": code,
        "region": region,
        "body": body[:-end],
        "end": body[-end:],
    }


def _end(body: list[Node]) -> int:
    """How many blocks stay on one page with the signature: the close, and a short paragraph before it."""
    together = len(body) > 1 and is_element(body[-2], "p") and len(plain(body[-2:-1])) <= _SHORT
    return 2 if together else 1


def _one_text(value: str | tuple[str, ...], direction: str) -> str | list[str]:
    """A part as it is printed; a line runs as its first letter says, so that "1 Example Street" stays in order."""
    if isinstance(value, str):
        return breakable(value)
    return [f"{_ISOLATE}{breakable(line)}{_POP}" if direction == "rtl" else breakable(line) for line in value]


def _no_room(key: str, data: Sequence[dict[str, Any]], room: str) -> Problem:
    lines = next(len(one["address"]) for one in data if one["key"] == key)
    what = f"the address does not fit {room}: {lines} lines, and long ones take two"
    return Problem(what, Place(recipient=key), "shorten it: `address` in the front matter of the letter's file")


def _no_glyph(texts: Sequence[str], data: Sequence[dict[str, Any]], house: House) -> list[Problem]:
    """A problem for each recipient in whose letter one of the texts stands."""
    todo = (
        "put a font that has it (for Chinese, Japanese, Korean: Noto Serif CJK, or Debian's fonts-droid-fallback) "
        'into a folder of the campaign, and name that folder in campaign.toml: [letter] fonts = "fonts"'
    )
    problems = []
    for one in data:
        for part, text in _texts(one):
            if found := [missing for missing in texts if missing in text]:
                shown = ", ".join(f"{missing} ({_name(missing)})" for missing in found[:3])
                more = f" and {len(found) - 3} more" if len(found) > 3 else ""
                what = f"no font has a glyph for {shown}{more} in the {part}: “{_around(text, found[0])}”"
                problems.append(Problem(what, Place(recipient=one["key"]), todo))
                break
    if not problems:
        what = f"no font has a glyph for {', '.join(texts[:3])}"
        problems.append(Problem(what, Place(house.source.file), todo))
    return problems


def _texts(one: dict[str, Any]) -> list[tuple[str, str]]:
    """The parts of a letter that are printed, by what people call them."""
    body: list[Node] = [*one["body"], *one["end"]]
    return [
        ("address", "\n".join(one["address"])),
        ("subject", one["subject"]),
        ("letter's text", plain(body)),
        ("signature", "\n".join(one["signature"])),
        *((name, one[name]) for name in ("enclosures", "date_line", "footer", "organisation", "page")),
        ("sender's address", "\n".join(one["sender_address"])),
    ]


def _name(text: str) -> str:
    return ", ".join(unicodedata.name(char, f"U+{ord(char):04X}") for char in text[:2])


def _around(text: str, found: str) -> str:
    at = text.index(found)
    line = text.rfind("\n", 0, at) + 1
    piece = text[max(line, at - 20) : at + 30].partition("\n")[0]
    return piece.replace(BREAK, "").strip()


def _limited(problems: Sequence[Problem]) -> list[Problem]:
    more = len(problems) - _SHOWN
    return [*problems[:_SHOWN], *([Problem(f"and {more} more recipients with the same trouble")] if more > 0 else [])]
