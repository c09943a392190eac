"""Plain text as people type it: wrapped by display width, and safe to print on a terminal."""

import re
import unicodedata
from typing import Final

WIDTH: Final = 72
_PREFIX: Final = re.compile(r"(?:> ?)*[ ]*(?:- |\d{1,3}\. )?")


def display_width(text: str) -> int:
    """Columns the text takes in a fixed-width font (Unicode Standard Annex #11; combining marks take none)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) or unicodedata.category(c) == "Cf" else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def finish(text: str) -> str:
    """Filled plain text → what is sent: wrapped at 72 columns, at most one blank line in a row, one line end at the end."""
    out: list[str] = []
    for line in text.strip().splitlines():
        bare = line.rstrip()
        if bare or (out and out[-1]):
            out += wrap(bare)
    return "\n".join(out).rstrip() + "\n"


def wrap(line: str, width: int = WIDTH) -> list[str]:
    """One line → lines of at most `width` columns, broken at spaces (never at no-break spaces), lists and quotes kept.

    A word that is longer than a line stays whole.
    """
    if display_width(line) <= width:
        return [line]
    found = _PREFIX.match(line)
    first = found.group() if found else ""
    rest = "".join(c if c == ">" else " " for c in first)
    lines: list[str] = []
    current, used = first, display_width(first)
    empty = True
    for word in line[len(first) :].split(" "):
        size = display_width(word)
        if not empty and used + 1 + size > width:
            lines.append(current)
            current, used, empty = rest, len(rest), True
        current += word if empty else " " + word
        used += size if empty else size + 1
        empty = False
    return [*lines, current]


def printable(text: str) -> str:
    """Text from lists, templates and relays as it may go to a terminal: controls and bidi overrides made visible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\u00a0\u202f" else repr(c)[1:-1] for c in text)
