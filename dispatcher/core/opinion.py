"""A second opinion on the sender's domain, beside our own: what both say alike is one line, all else is said by name.

It stops nothing. Where the two differ, receivers may judge as either does, so both are shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dispatcher.core.preflight import Line, Part, ok, warning

_MOST: Final = 10
"""Remarks that are shown of one record."""
_LONGEST: Final = 400
_ASK: Final = "ask whoever keeps the domain's records, unless it is meant to be so"
_WORDS: Final[Mapping[bool | None, str]] = {True: "good", False: "missing or wrong", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Opinion:
    """What somebody else makes of one record: `error` says what is wrong or missing, '' if it is good."""

    subject: str
    error: str = ""
    remarks: tuple[str, ...] = ()
    unknown: str = ""


def opinion_lines(who: str, found: Iterable[Opinion], ours: Mapping[str, bool | None]) -> Iterator[Line]:
    """How it stands; `ours` says of each subject whether we found it good, None if that is unknown to us."""
    alike: dict[bool, list[str]] = {}
    for opinion in found:
        good = ours.get(opinion.subject)
        if opinion.unknown:
            yield _line(who, f"unknown: {opinion.subject}: {opinion.unknown}", "try again")
        elif good is None or good is not (not opinion.error):
            yield _line(who, *_differing(opinion, good=good))
        else:
            alike.setdefault(good, []).append(opinion.subject)
        for remark in opinion.remarks[:_MOST]:
            yield _line(who, f"{opinion.subject}: {remark}", _ASK)
        if opinion.remarks[_MOST:]:
            yield _line(who, f"{opinion.subject}: {len(opinion.remarks) - _MOST} more remarks", _ASK)
    if alike:
        words = [f"{', '.join(subjects)} {_WORDS[good]}" for good, subjects in sorted(alike.items(), reverse=True)]
        yield ok(Part.SENDER, who, f"finds as above: {'; '.join(words)}")


def _differing(opinion: Opinion, *, good: bool | None) -> tuple[str, str]:
    theirs = f"wrong: {opinion.error}" if opinion.error else "good"
    todo = "look at the record with both lines beside it: receivers may judge as either does"
    return f"finds {opinion.subject} {theirs}; above it is {_WORDS[good]}", "try again" if good is None else todo


def _line(who: str, what: str, todo: str) -> Line:
    return warning(Part.SENDER, who, what if len(what) <= _LONGEST else f"{what[:_LONGEST]}…", todo)
