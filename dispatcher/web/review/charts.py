"""Where the parts of the overview's charts lie: counts in, places and sizes out. Templates write the SVG.

What is there is seen: a part is never thinner than a hair, and the parts of a bar still add up to its length. Of a
bar that is thinner than its parts' hairs together, each part gets the same share.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dispatcher.core.reading import STANDINGS

HAIR: Final = 0.006
"""The thinnest that a part of a bar is drawn, of the longest bar."""
_MOST: Final = 48
_LEAST: Final = 12
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_STEPS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * n for n in (1, 2, 3, 6, 12)),
    *(_DAY * n for n in (1, 2, 7, 14, 28, 56, 112, 364, 3_640, 36_400, 364_000)),
)
"""Lengths of time that a column can stand for, in seconds."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar: so many of one outcome, from `start` on, `size` long; the longest bar is 1."""

    outcome: str
    count: int
    start: float
    size: float


def bar(counts: Mapping[str, int], most: int) -> tuple[Part, ...]:
    """Counts side by side, in the order in which outcomes stand everywhere; `most` is what the longest bar counts."""
    there = [(outcome, counts[outcome]) for outcome in STANDINGS if counts.get(outcome)]
    total = sum(count for _, count in there)
    length = max(total / max(most, total, 1), min(1.0, HAIR * len(there)))
    parts, start = [], 0.0
    for (outcome, count), size in zip(there, _shared(length, [count for _, count in there]), strict=True):
        parts.append(Part(outcome, count, start, size))
        start += size
    return tuple(parts)


def _shared(length: float, counts: Sequence[int]) -> list[float]:
    """A length shared out by counts, no share thinner than a hair; what hairs take, the thicker ones give."""
    hair = min(HAIR, length / max(1, len(counts)))
    thin = {n for n, count in enumerate(counts) if count * length < hair * sum(counts)}
    while True:
        left, among = length - hair * len(thin), sum(count for n, count in enumerate(counts) if n not in thin)
        more = {n for n, count in enumerate(counts) if n not in thin and count * left < hair * among}
        if not more:
            return [hair if n in thin else left * count / among for n, count in enumerate(counts)]
        thin |= more


@dataclass(frozen=True, slots=True)
class Column:
    """What happened from `since` on, for one step of the chart; `parts` stand on one another, from the ground up."""

    since: datetime
    start: float
    size: float
    parts: tuple[Part, ...]

    def of(self, outcome: str) -> int:
        """How many of one outcome."""
        return sum(part.count for part in self.parts if part.outcome == outcome)


@dataclass(frozen=True, slots=True)
class Mark:
    """A number or moment beside the chart, and where: both sides are 1 long. `day` is '' where it is the last one's."""

    at: float
    text: str
    day: str = ""


@dataclass(frozen=True, slots=True)
class TimeChart:
    """Columns of `step` seconds; `levels` are marks from the ground up, `moments` from left to right."""

    step: int
    columns: tuple[Column, ...]
    levels: tuple[Mark, ...]
    moments: tuple[Mark, ...]


def time_chart(seconds: Mapping[int, Mapping[str, int]]) -> TimeChart | None:
    """Outcomes by the second (since 1970) in which they were known, in columns; None if there are none."""
    if not seconds:
        return None
    first, last = min(seconds), max(seconds)
    step = next((step for step in _STEPS if last // step - first // step < _MOST), _STEPS[-1])
    counts: dict[int, Counter[str]] = {}
    for second, found in seconds.items():
        counts.setdefault(second // step, Counter()).update(found)
    number = max(_LEAST, last // step - first // step + 1)
    begin = first // step - (number - 1 - (last // step - first // step)) // 2
    top, rise = _level(max(sum(found.values()) for found in counts.values()))
    columns = tuple(
        Column(_moment(n * step), (n - begin) / number, 1 / number, bar(found, top))
        for n, found in sorted(counts.items())
    )
    levels = tuple(Mark(value / top, f"{value}") for value in range(0, top + 1, rise))
    return TimeChart(step, columns, levels, tuple(_moments(begin * step, number, step)))


def _level(most: int) -> tuple[int, int]:
    """A round number that is no less, and round steps up to it: five at most."""
    rise = 1
    while rise * 5 < most:
        rise = rise * 5 // 2 if str(rise)[0] == "2" else rise * 2
    return -(-max(1, most) // rise) * rise, rise


def _moments(begin: int, number: int, step: int) -> Sequence[Mark]:
    """Marks for round moments, at most eight."""
    between = next((s for s in _STEPS if s >= step and number * step / s <= 8), number * step)
    marks: list[Mark] = []
    day = ""
    for second in range(-(-begin // between) * between, begin + number * step, between):
        moment = _moment(second)
        date = f"{moment:%Y-%m-%d}"
        text = f"{moment:%H:%M:%S}" if between < _MINUTE else f"{moment:%H:%M}" if between < _DAY else date
        marks.append(Mark((second - begin) / (number * step), text, date if date not in (day, text) else ""))
        day = date
    return marks


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
