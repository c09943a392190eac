"""Plain text as people type it: wrapped by display width, and safe to print on a terminal."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

WIDTH: Final = 72
_REMEMBERED: Final = 2000
_PREFIX: Final = re.compile(r"(?:> ?)*[ ]*(?:- |\d{1,3}\. )?")
# Blocks of which every character takes one column, but for the soft hyphen: most letters hold nothing else.
_UNUSUAL: Final = re.compile("[^\x20-\xac\xae-\u02ff\u0370-\u0482\u048a-\u0590\u2010-\u2027\u202f-\u205f\u20a0-\u20cf]")

_APOSTROPHE: Final = re.compile(r"(?<=\w)'(?=\w)")


class _Widths(dict[str, int]):
    """Columns of a character in a fixed-width font (Unicode Standard Annex #11); marks and joiners take none."""

    def __missing__(self, char: str) -> int:
        none = unicodedata.category(char) in ("Mn", "Me", "Cf")
        self[char] = 0 if none else 1 + (unicodedata.east_asian_width(char) in "WF")
        return self[char]


_WIDTHS: Final = _Widths()


def display_width(text: str) -> int:
    """Columns the text takes in a fixed-width font."""
    return len(text) if _usual(text) else sum(map(_WIDTHS.__getitem__, text))


def _usual(text: str) -> bool:
    """Whether every character is known to take one column."""
    return (text.isascii() and text.isprintable()) or not _UNUSUAL.search(text)


def finish(text: str) -> str:
    """Filled plain text → what is sent: wrapped at 72 columns, never two blank lines in a row."""
    out: list[str] = []
    for line in text.splitlines():
        bare = line.rstrip()
        if len(bare) > WIDTH // 2:  # a character takes two columns at most
            out += _wrapped(bare) if len(bare) <= _REMEMBERED else wrap(bare)
        elif bare or (out and out[-1]):
            out.append(bare)
    return "\n".join(out).rstrip() + "\n"


@lru_cache(maxsize=1000)
def _wrapped(line: str) -> Sequence[str]:
    """Most paragraphs are the same in most letters."""
    return tuple(wrap(line))


def wrap(line: str, width: int = WIDTH) -> list[str]:
    """One line → lines of at most `width` columns, broken at spaces (never at no-break spaces), lists and quotes kept.

    A word that is longer than a line stays whole.
    """
    columns = None if _usual(line) else list(accumulate(map(_WIDTHS.__getitem__, line), initial=0))
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
        cut = line.rfind(" ", start, end + 1)
        if cut <= start:  # not one word fits
            cut = line.find(" ", start + 1)
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


def printable(text: str) -> str:
    """Text from lists, templates and relays as it may go to a terminal: controls and bidi overrides made visible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\u00a0\u202f" else repr(c)[1:-1] for c in text)
