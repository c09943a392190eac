"""The world map of the overview: who is on it, and how letters to each country stand.

A letter belongs to a country if its row has a column `m49` (the United Nations' code of areas) or `iso3` (ISO 3166-1)
with one of the codes in world.json, which docs/world.py makes. Nothing is guessed from names or keys.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

URGENT: Final = (
    "unknown", "failed", "in_flight", "deferred", "waiting", "to_print", "printed", "closed_unknown", "suppressed",
    "cancelled", "posted", "accepted",
)  # fmt: skip
"""Of several letters to one country, the first of these that is among them gives it its colour."""
NO_LETTER: Final = "none"


@dataclass(frozen=True, slots=True)
class Country:
    """A country as it is drawn: an outline, a circle if it is small, and the outcomes of the letters to it.

    `listed` is its code as the list of recipients has it; '' if that is in several ways, or in none.
    """

    code: str
    name: str
    path: str
    circle: tuple[float, float] | None
    counts: Mapping[str, int]
    listed: str = ""

    @property
    def outcome(self) -> str:
        """The one of URGENT that it is coloured by, or NO_LETTER."""
        return next((outcome for outcome in URGENT if self.counts.get(outcome)), NO_LETTER)

    @property
    def letters(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class WorldMap:
    """All countries by name; `land` is the outline of what is none of them."""

    width: int
    height: int
    radius: float
    land: str
    countries: tuple[Country, ...]

    @property
    def written_to(self) -> tuple[Country, ...]:
        """The countries that a letter goes to, what is most urgent first."""
        there = (country for country in self.countries if country.letters)
        return tuple(sorted(there, key=lambda country: URGENT.index(country.outcome)))


@cache
def _world() -> Any:
    return json.loads(files(__package__).joinpath("world.json").read_text(encoding="utf-8"))


def world_map(counts: Mapping[str, Mapping[str, int]], language: str) -> WorldMap | None:
    """The map, by outcomes of each code; None if no letter goes to a country."""
    world = _world()
    found: dict[str, Counter[str]] = {}
    listed: dict[str, list[str]] = {}
    for code, outcomes in counts.items():
        found.setdefault(_folded(code), Counter()).update(outcomes)
        listed.setdefault(_folded(code), []).append(code)
    countries = []
    for country in world["countries"]:
        codes = country["m49"], country["iso3"]
        ways = [way for code in codes for way in listed.get(code, ())]
        countries.append(
            Country(
                country["iso3"],
                country["names"][language],
                country["path"],
                tuple(country["circle"]) if "circle" in country else None,
                sum((found.get(code, Counter()) for code in codes), Counter()),
                ways[0] if len(ways) == 1 else "",
            )
        )
    if not any(country.letters for country in countries):
        return None
    countries.sort(key=lambda country: country.name)
    return WorldMap(world["width"], world["height"], world["radius"], world["land"], tuple(countries))


def _folded(code: str) -> str:
    """A code as world.json has it: spreadsheets take the zeros in front of a number away."""
    code = code.strip()
    return code.zfill(3) if code.isascii() and code.isdecimal() else code.upper()
