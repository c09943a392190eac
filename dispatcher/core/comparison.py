"""Where a letter differs from the one that says what most of its kind say: word by word, in the letter's own lines."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Final

_MOST: Final = 4000
"""Words of a passage beyond which it is shown as changed whole: to match words takes time with their square."""
_LEAST_IN_COMMON: Final = 0.4
"""Passages that share less are told one after the other, not word by word."""
_WORD: Final = re.compile(r"\S+")


class Change(StrEnum):
    """What is said of a piece of text: it is in both, in this letter alone, or in the other one alone."""

    SAME = "same"
    ADDED = "added"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Piece:
    """Text and what is said of it. The pieces that are not missing are, one behind the other, the letter's text."""

    change: Change
    text: str


def compare(typical: str, text: str) -> list[Piece]:
    """The text in pieces, with what it lacks of the typical one where that would stand.

    First by paragraphs (between blank lines), then by words in those that differ. How lines are wrapped is no
    difference.
    """
    old, new = _paragraphs(typical), _paragraphs(text)
    matcher = SequenceMatcher(None, [_key(p) for p in old], [_key(p) for p in new], autojunk=False)
    pieces: list[Piece] = []
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            pieces.append(Piece(Change.SAME, "".join(new[c:d])))
        else:
            pieces += _words("".join(old[a:b]), "".join(new[c:d]))
    return list(_joined(pieces))


def most_typical(texts: Sequence[str]) -> int:
    """Which of these has most paragraphs that most others have, and fewest that they have not. Raises ValueError."""
    if not texts:
        raise ValueError("there is nothing to compare")
    every = [{_key(p) for p in _paragraphs(text)} for text in texts]
    often = Counter(paragraph for paragraphs in every for paragraph in paragraphs)
    half = len(texts) / 2
    return max(range(len(texts)), key=lambda n: (sum(often[p] - half for p in every[n]), -n))


def _paragraphs(text: str) -> list[str]:
    """Each with the blank lines behind it, so that together they are the text."""
    return re.findall(r"(?s).+?(?:\n[ \t]*\n\s*|\Z)", text)


def _key(paragraph: str) -> tuple[str, ...]:
    return tuple(paragraph.split())


def _words(old: str, new: str) -> Iterator[Piece]:
    before, after = _WORD.findall(old), list(_WORD.finditer(new))
    if len(before) > _MOST or len(after) > _MOST:
        yield Piece(Change.MISSING, " ".join(before))
        yield Piece(Change.ADDED, new)
        return
    matcher = SequenceMatcher(None, before, [w[0] for w in after], autojunk=False)
    if matcher.ratio() < _LEAST_IN_COMMON:
        yield Piece(Change.MISSING, " ".join(before))
        yield Piece(Change.ADDED, new.rstrip())
        yield Piece(Change.SAME, new[len(new.rstrip()) :])
        return
    there = 0  # up to where the new text is told
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag in ("delete", "replace"):
            start = after[c].start() if c < len(after) else len(new)
            yield Piece(Change.SAME, new[there:start])
            there = start
            yield Piece(Change.MISSING, " ".join(before[a:b]))
        if tag != "delete":
            start, end = after[c].start(), after[d - 1].end()
            yield Piece(Change.SAME, new[there:start])
            yield Piece(Change.SAME if tag == "equal" else Change.ADDED, new[start:end])
            there = end
    yield Piece(Change.SAME, new[there:])


def _joined(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Pieces of one kind in one, empty ones left out."""
    last: Piece | None = None
    for piece in pieces:
        if not piece.text:
            continue
        if last and last.change is piece.change:
            last = Piece(last.change, last.text + (" " if last.change is Change.MISSING else "") + piece.text)
        else:
            if last:
                yield last
            last = piece
    if last:
        yield last
