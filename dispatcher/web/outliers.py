"""The letters to look at first: the longest, the shortest, gaps, other languages and scripts than most."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from dispatcher.core.model import Letter, Rendering
from dispatcher.core.unusual import unusual_in

_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class Pointer:
    """A letter to look at, by its number in the plan, and why."""

    number: int
    key: str
    why: str


@dataclass(slots=True)
class Finding:
    """Letters that stand out for one reason: how many, and the first 20 of them."""

    title: str
    count: int = 0
    letters: list[Pointer] = field(default_factory=list)

    def add(self, letter: Pointer) -> None:
        self.count += 1
        if len(self.letters) < _LISTED:
            self.letters.append(letter)


class Outliers:
    """The letters to look at first. `words` are those the templates hold: a column not among them is in no letter."""

    def __init__(self, words: frozenset[str]) -> None:
        self._words = words
        self._longest = self._shortest = self._largest = (0, Pointer(0, "", ""))
        self._language = Finding("Written in another language than the recipient asked for")
        self._script = Finding("Names in another script than Latin, or with characters that do not show")
        self._filled: Counter[tuple[str, str]] = Counter()
        self._empty: dict[tuple[str, str], Finding] = {}

    def see(self, number: int, letter: Letter, rendering: Rendering, octets: int) -> None:
        """Take one letter into account; on paper it has no octets."""
        recipient = letter.recipient
        length = len(rendering.text)
        in_characters = (length, Pointer(number, letter.key, f"{length:,} characters of text"))
        in_octets = (octets, Pointer(number, letter.key, f"{size(octets)} as mail"))
        first = number == 1
        self._longest = in_characters if first else max(self._longest, in_characters, key=_measure)
        self._shortest = in_characters if first else min(self._shortest, in_characters, key=_measure)
        self._largest = max(self._largest, in_octets, key=_measure)
        if recipient.language and recipient.language != letter.language:
            why = f"asked for {recipient.language}, written in {letter.language}"
            self._language.add(Pointer(number, letter.key, why))
        names = [m.name for m in recipient.mailboxes] + [recipient.fields.get("name", "")]
        if why := ", ".join(unusual_in("".join(names))):
            self._script.add(Pointer(number, letter.key, why))
        for column, text in recipient.fields.items():
            if column in self._words:
                self._cell(number, letter.key, (recipient.place.file, column), text)

    def _cell(self, number: int, key: str, where: tuple[str, str], text: str) -> None:
        if text.strip():
            self._filled[where] += 1
        else:
            self._empty.setdefault(where, Finding("")).add(Pointer(number, key, f"{where[1]} is empty"))

    def findings(self) -> Iterator[Finding]:
        """What stands out, if there are letters."""
        if not self._longest[1].number:
            return
        yield Finding("Longest letter", 1, [self._longest[1]])
        yield Finding("Shortest letter", 1, [self._shortest[1]])
        if self._largest[0]:
            yield Finding("Largest message", 1, [self._largest[1]])
        gaps = [gap for where, gap in self._empty.items() if self._filled[where] > gap.count]
        gaps.sort(key=lambda gap: gap.count)
        pointers = [pointer for gap in gaps for pointer in gap.letters][:_LISTED]
        empty = Finding("A field is empty that most others of the list have", sum(g.count for g in gaps), pointers)
        yield from (f for f in (empty, self._language, self._script) if f.count)


def _measure(entry: tuple[int, Pointer]) -> int:
    return entry[0]


def size(octets: int) -> str:
    """A size for people, in decimal units."""
    if octets < 1000:
        return f"{octets} bytes"
    return f"{octets / 1000:,.1f} kB" if octets < 1_000_000 else f"{octets / 1_000_000:,.1f} MB"
