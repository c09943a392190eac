"""Lines that are read from right to left, and what in them is read the other way: isolated, so that neither disturbs
the other (Unicode Standard Annex #9, §2.4).

Plain text says nothing of its direction. Some programs find it out by a line's first letter, others show all from left
to right; so each line of a right-to-left paragraph begins with a mark that says it, and stands in an isolate as a
whole, in which numbers and Latin words have isolates of their own.
"""

import re
from typing import Final

_R: Final = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
_RIGHT_TO_LEFT: Final = re.compile(f"[{_R}]")
_FIRST_LETTER: Final = re.compile(f"[{_R}]|[^\\W\\d_]")
_LEFT_RUN: Final = re.compile(f"[^\\W_{_R}](?:[^{_R}]*[^\\W_{_R}])?")
_RIGHT_RUN: Final = re.compile(f"[{_R}](?:[^A-Za-z\u00c0-\u058f\u0900-\u1fff]*[{_R}])?")
_NEEDS_NONE: Final = re.compile(r"\w+|\S*(?:@|://)\S*")  # and a link that a mark touches may not be known as one
_QUOTED: Final = re.compile(r"(?:> ?)*")
_LANGUAGES: Final = frozenset({"ar", "fa", "he", "ur"})
_MARK: Final = "\u200f"
_OPEN: Final = "\u2068"
_SHUT: Final = "\u2069"


def direction(language: str) -> str:
    """`rtl` for a language that is written from right to left, else `ltr`."""
    return "rtl" if language.partition("-")[0] in _LANGUAGES else "ltr"


def is_mixed(text: str) -> bool:
    """Whether there is anything in it that is read from right to left."""
    return not text.isascii() and bool(_RIGHT_TO_LEFT.search(text))


def runs_left(paragraph: str, letter: str) -> bool:
    """Whether a paragraph with right-to-left letters is one; `letter` is the direction of the letter it stands in."""
    first = _FIRST_LETTER.search(paragraph)
    return letter == "rtl" or bool(first and _RIGHT_TO_LEFT.match(first.group()))


def isolated(line: str, *, leftwards: bool) -> str:
    """A line of a paragraph of this direction, with isolates where it needs them."""
    if not leftwards:
        return _with_isolates(line, _RIGHT_RUN)
    quoted = _QUOTED.match(line)
    start = quoted.end() if quoted else 0
    inside = _with_isolates(line[start:], _LEFT_RUN)
    begin = "" if _RIGHT_TO_LEFT.match(inside) else _MARK  # an isolate too goes by its first letter
    return f"{line[:start]}{_MARK}{_OPEN}{begin}{inside}{_SHUT}"


def _with_isolates(line: str, run: re.Pattern[str]) -> str:
    out: list[str] = []
    at = 0
    while found := run.search(line, at):
        start, end = found.span()
        while end < len(line) and line[end] in ")]" and _is_open(line[start:end], line[end]):
            end += 1
        needed = run is _RIGHT_RUN or not _NEEDS_NONE.fullmatch(line[start:end])
        out += (line[at:start], _OPEN * needed, line[start:end], _SHUT * needed)
        at = end
    return "".join((*out, line[at:]))


def _is_open(run: str, bracket: str) -> bool:
    return run.count("(["[")]".index(bracket)]) > run.count(bracket)
