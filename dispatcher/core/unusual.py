"""What is unusual in a name, so that somebody looks at the letter: another script, or what does not show."""

import unicodedata
from collections.abc import Iterator
from typing import Final

from dispatcher.core.text import printable

RIGHT_TO_LEFT: Final = "right-to-left"
NOT_LATIN: Final = "not Latin"
NOT_SHOWN: Final = "characters that do not show"
_LEFTWARDS: Final = frozenset({"R", "AL", "RLE", "RLO", "RLI"})


def unusual_in(name: str) -> Iterator[str]:
    """Each kind once, in words."""
    if name.isascii() and name.isprintable():
        return
    if any(unicodedata.bidirectional(c) in _LEFTWARDS for c in name):
        yield RIGHT_TO_LEFT
    elif any(c > "\u024f" and c.isalpha() and not _latin(c) for c in name):
        yield NOT_LATIN
    if printable(name) != name:
        yield NOT_SHOWN


def _latin(letter: str) -> bool:
    name = unicodedata.name(letter, "")
    return "LATIN" in name or name.startswith("MODIFIER LETTER")
