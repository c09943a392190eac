"""A plan against what is sealed: which letters are new, changed or gone, and what lies behind it, in plain lines."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.core.model import State

REWRITABLE: Final = (State.READY, State.FAILED, State.SUPPRESSED, State.CANCELLED)
_KEPT: Final = (State.ACCEPTED, State.CLOSED_UNKNOWN)
_IN_DOUBT: Final = (State.UNKNOWN, State.AT_RISK)
_LEFT_OUT: Final = (*_KEPT, *_IN_DOUBT, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Standing:
    """A letter as the ledger has it."""

    id: int
    digest: str
    state: State


@dataclass(slots=True)
class Changes:
    """What an amended plan does to the sealed one: keys by kind."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    same: int = 0

    def counts(self) -> dict[str, int]:
        return {
            "new": len(self.new),
            "changed": len(self.changed),
            "removed": len(self.removed),
            "accepted": len(self.accepted),
            "unknown": len(self.unknown),
            "same": self.same,
        }


def compare(standing: Mapping[str, Standing], digests: Mapping[str, str]) -> Changes:
    """The ledger's letters against a plan's (key → digest). Accepted and unknown letters are never touched."""
    changes = Changes()
    for key, digest in digests.items():
        there = standing.get(key)
        if there is None:
            changes.new.append(key)
        elif there.state in _KEPT:
            changes.accepted.append(key)
        elif there.state in _IN_DOUBT:
            changes.unknown.append(key)
        elif there.digest != digest or there.state is State.CANCELLED:
            changes.changed.append(key)
        else:
            changes.same += 1
    for key, there in standing.items():
        if key not in digests and there.state not in _LEFT_OUT:
            changes.removed.append(key)
    return changes


_SHOWN: Final = 5
_LINES: Final = 12


def differences(sealed: Mapping[str, Any], now: Mapping[str, Any], changes: Changes) -> list[str]:
    """Lines that say what changed: letters by kind, then the files and values behind it."""
    lines = [*_letters(changes), *_values("", sealed, now)]
    return lines or ["the letters are the same, but their list is not"]


def _letters(changes: Changes) -> Iterator[str]:
    kinds: Sequence[tuple[str, Sequence[str]]] = (
        ("new letters", changes.new),
        ("changed letters", changes.changed),
        ("removed letters", changes.removed),
    )
    for words, keys in kinds:
        if keys:
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            yield f"{len(keys)} {words}: {', '.join(keys[:_SHOWN])}{more}"
    if changes.accepted:
        yield f"{len(changes.accepted)} already accepted: these are never sent again"
    if changes.unknown:
        yield f"{len(changes.unknown)} unknown: held as they are until resolved"


def _values(name: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _values(f"{name}.{key}" if name else str(key), old.get(key), new.get(key))
    elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        found = list(difflib.unified_diff(old.splitlines(), new.splitlines(), "sealed", "now", n=0, lineterm=""))
        yield f"{name} differs:"
        yield from (f"    {line}" for line in found[2 : 2 + _LINES])
        if len(found) - 2 > _LINES:
            yield f"    … {len(found) - 2 - _LINES} lines more"
    elif isinstance(old or new, Mapping):
        yield f"{name} is {'gone' if new is None else 'new'}"
    else:
        yield f"{name}: {old!r} → {new!r}"
