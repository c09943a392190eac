"""Labels and envelopes for the letters on paper, as PDF/A-2b.

pdf = labels(letters, "avery-l7160", house, timestamp=sealed_at)
pdf = envelopes(letters, "dl", house, timestamp=sealed_at)
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Final, TypeVar

from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.toml import did_you_mean
from dispatcher.paper.printing import House, PaperLetter, printed
from dispatcher.paper.typesetting import FOLDER, ours

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A4 sheet of labels: the size of one and the gap between two columns, in millimetres."""

    title: str
    columns: int
    rows: int
    width: float
    height: float
    gap: float


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope's size in millimetres (ISO 269)."""

    width: float
    height: float


ENVELOPES: Final[Mapping[str, Envelope]] = MappingProxyType({"dl": Envelope(220, 110), "c5": Envelope(229, 162)})


@cache
def sheets() -> Mapping[str, Sheet]:
    """The sheets there are, by the name that `labels` takes."""
    data = tomllib.loads((FOLDER / "sheets.toml").read_text(encoding="utf-8"))
    return MappingProxyType({name: Sheet(**entry) for name, entry in data.items()})


def labels(letters: Iterable[PaperLetter], sheet: str, house: House, *, timestamp: datetime) -> bytes:
    """A label for each letter, in rows from the top left. Raises TemplateError as `typeset`; UsageError: what sheet?"""
    found = _found(sheets(), sheet, "sheet of labels")
    return printed(
        tuple(letters),
        house,
        [ours("labels.typ")],
        timestamp=timestamp,
        room=f"a label of {found.title}",
        settings={"sheet": asdict(found)},
    )


def envelopes(letters: Iterable[PaperLetter], kind: str, house: House, *, timestamp: datetime) -> bytes:
    """A page of an envelope's size for each letter. Raises TemplateError as `typeset`; UsageError: what envelope?"""
    found = _found(ENVELOPES, kind, "envelope")
    return printed(
        tuple(letters),
        house,
        [ours("envelopes.typ")],
        timestamp=timestamp,
        room=f"an envelope {kind.upper()}",
        settings={"envelope": asdict(found)},
    )


def _found(known: Mapping[str, _Kind], name: str, what: str) -> _Kind:
    found = known.get(name.lower())
    if found is None:
        todo = f"{did_you_mean(name, known)}Known here: {', '.join(known)}"
        raise UsageError(Problem(f"there is no {what} '{name}'", todo=todo))
    return found
