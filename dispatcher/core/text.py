"""Plain text as people type it: by each language's rules, wrapped by display width; and safe to print on a terminal."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

from dispatcher.core.direction import is_mixed, isolated, runs_left

WIDTH: Final = 72
_REMEMBERED: Final = 2000
_PREFIX: Final = re.compile(r"(?:> ?)*[ ]*(?:- |\d{1,3}\. )?")
# Blocks of which every character takes one column, but for the soft hyphen: most letters hold nothing else.
_UNUSUAL: Final = re.compile("[^\x20-\xac\xae-\u02ff\u0370-\u0482\u048a-\u0590\u2010-\u2027\u202f-\u205f\u20a0-\u20cf]")
_KHMER_SUBSCRIPT: Final = re.compile("(?<=\u17d2).")
_ZERO_WIDTH_SPACE: Final = "\u200b"
# Chinese and Japanese are broken between any two characters, but not before a mark that closes or after one that opens.
_IDEOGRAPH: Final = re.compile(
    "[\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff60\U00020000-\U0003fffd]"
)
_NOT_FIRST: Final = frozenset(
    "、。，．：；！？）］｝」』】》〉〕〗’”…‥・ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ,.:;!?)]}%\u00a0\u202f\u2060"
)
_NOT_LAST: Final = frozenset("（［｛「『【《〈〔〖‘“([{\u00a0\u202f\u2060")
_APOSTROPHE: Final = re.compile(r"(?<=\w)'(?=\w)")
_FRENCH_BLANK: Final = re.compile(r" (?=[;:!?»])|(?<=«) ")


class _Widths(dict[str, int]):
    """Columns of a character in a fixed-width font (Unicode Standard Annex #11); marks and joiners take none."""

    def __missing__(self, char: str) -> int:
        none = unicodedata.category(char) in ("Mn", "Me", "Cf")
        self[char] = 0 if none else 1 + (unicodedata.east_asian_width(char) in "WF")
        return self[char]


_WIDTHS: Final = _Widths()


def display_width(text: str) -> int:
    """Columns the text takes in a fixed-width font."""
    return len(text) if _usual(text) else sum(_columns(text))


def _columns(text: str) -> Sequence[int]:
    """Of each character. A Khmer consonant below another one takes none."""
    found = [_WIDTHS[char] for char in text]
    for below in _KHMER_SUBSCRIPT.finditer(text):
        found[below.start()] = 0
    return found


def _usual(text: str) -> bool:
    """Whether every character is known to take one column."""
    return (text.isascii() and text.isprintable()) or not _UNUSUAL.search(text)


def typeset(text: str, language: str) -> str:
    """Template text as the language sets it. In French the blanks within « » and before ; : ! ? do not break.

    Keyboards have no such blank (U+202F), so it is put in where a plain one was typed; where none was, none is added.
    """
    return _FRENCH_BLANK.sub("\u202f", text) if language.partition("-")[0] == "fr" else text


def joins(before: str, after: str) -> bool:
    """Whether a line that ends so goes on without a blank in a next line that begins so: Chinese and Japanese do."""
    return bool(before and after and _IDEOGRAPH.match(before[-1]) and _IDEOGRAPH.match(after[0]))


def finish(lines: Iterable[str], direction: str = "ltr") -> str:
    """Lines of filled plain text → what is sent: wrapped at 72 columns, never two blank lines in a row.

    Where a letter of this direction has the other one in it, both are isolated (see `core.direction`).
    """
    out: list[str] = []
    for line in lines:
        bare = line.rstrip()
        if bare.isascii() and len(bare) <= WIDTH // 2:
            if bare or (out and out[-1]):
                out.append(bare)
        else:
            out += _finished(bare, direction) if len(bare) <= _REMEMBERED else _lines(bare, direction)
    return "\n".join(out).rstrip() + "\n"


def _lines(line: str, direction: str) -> Sequence[str]:
    """One paragraph, wrapped and isolated."""
    lines = wrap(line)
    if not is_mixed(line):
        return lines
    leftwards = runs_left(line, direction)
    return [isolated(one, leftwards=leftwards) for one in lines]


@lru_cache(maxsize=1000)
def _finished(line: str, direction: str) -> Sequence[str]:
    """Most paragraphs are the same in most letters."""
    return tuple(_lines(line, direction))


def wrap(line: str, width: int = WIDTH) -> list[str]:
    """One line → lines of at most `width` columns, broken at spaces (never at no-break spaces), lists and quotes kept.

    Chinese and Japanese are broken between characters, Khmer where its writer put a zero width space. A word that is
    longer than a line stays whole.
    """
    columns = None if _usual(line) else list(accumulate(_columns(line), initial=0))
    if (columns[-1] if columns else len(line)) <= width:
        return [line]
    found = _PREFIX.match(line)
    prefix = found.group() if found else ""
    lines: list[str] = []
    start = first = len(prefix)
    room = width - display_width(prefix)
    while True:
        end = bisect_right(columns, columns[start] + room) - 1 if columns else min(start + room, len(line))
        if end == len(line):
            return [*lines, prefix + line[start:]]
        cut = _cut(line, start, end, within=columns is not None)
        if cut < 0:
            return [*lines, prefix + line[start:]]
        lines.append((prefix + line[start:cut]).rstrip(" "))
        if start == first:
            prefix = "".join(c if c == ">" else " " for c in prefix)
            room = width - display_width(prefix)
        start = cut
        while line.startswith(" ", start):
            start += 1


def curly(text: str) -> str:
    """A typewriter's apostrophes inside words → the printer's (U+2019); addresses and links stay what they are."""
    return text if "@" in text or "://" in text else _APOSTROPHE.sub("\u2019", text)


def _cut(line: str, start: int, end: int, *, within: bool) -> int:
    """Where the line that begins at `start` and has room up to `end` is cut; -1 if nowhere.

    `within`: there may be other places than spaces.
    """
    space = line.rfind(" ", start, end + 1)
    places = range(end, max(space, start), -1) if within else ()
    if (cut := next((at for at in places if _may_break(line, at)), space)) > start:
        return cut
    space = line.find(" ", start + 1)  # not one word fits
    places = range(end + 1, len(line) if space < 0 else space) if within else ()
    return next((at for at in places if _may_break(line, at)), space)


def _may_break(line: str, at: int) -> bool:
    before, after = line[at - 1], line[at]
    if before == _ZERO_WIDTH_SPACE:
        return True
    ideograph = _IDEOGRAPH.match(before) or _IDEOGRAPH.match(after)
    return bool(ideograph and _WIDTHS[after]) and after not in _NOT_FIRST and before not in _NOT_LAST


def file_stem(number: int, key: str) -> str:
    """The name of a letter's file, without its ending: its number, and as much of its key as any file system takes."""
    return f"{number:03}-{re.sub(r'[^A-Za-z0-9_-]+', '_', key)[:60]}"


def searchable(text: str) -> str:
    """Text as it is searched: whatever its case, its accents and which apostrophe was typed (Côte d’Ivoire)."""
    if text.isascii():
        return text.casefold()
    apart = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
    return "".join(char for char in apart if not unicodedata.combining(char)).casefold()


def printable(text: str) -> str:
    """Text from lists, templates and relays as it may go to a terminal: controls and bidi overrides made visible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\u00a0\u202f" else repr(c)[1:-1] for c in text)
