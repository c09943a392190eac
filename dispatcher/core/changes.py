"""A plan against what is sealed: which letters are new, changed or gone, and what lies behind it, in plain lines."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.core.model import State

REWRITABLE: Final = (State.READY, State.FAILED, State.SUPPRESSED, State.CANCELLED)
_KEPT: Final = (State.ACCEPTED, State.CLOSED_UNKNOWN)
_IN_DOUBT: Final = (State.UNKNOWN, State.AT_RISK)


@dataclass(frozen=True, slots=True)
class Standing:
    """A letter as the ledger has it. `mailboxes` holds the identities it is sealed for."""

    id: int
    digest: str
    state: State
    mailboxes: tuple[str, ...] = ()


@dataclass(slots=True)
class Changes:
    """What an amended plan does to the sealed one: keys by kind.

    `moved` are accepted letters whose row names another mailbox now, `gone` those whose row is gone; both stay as they
    are. `twice` are letters that would go to a mailbox that another key's letter may have reached: (mailbox, key, that
    other key).
    """

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    twice: list[tuple[str, str, str]] = field(default_factory=list)
    same: int = 0

    @property
    def count(self) -> int:
        """How many letters the plan would change."""
        return len(self.new) + len(self.changed) + len(self.removed)

    def counts(self) -> dict[str, int]:
        return {
            "new": len(self.new),
            "changed": len(self.changed),
            "removed": len(self.removed),
            "accepted": len(self.accepted) + len(self.moved),
            "moved": len(self.moved),
            "gone": len(self.gone),
            "twice": len(self.twice),
            "unknown": len(self.unknown),
            "same": self.same,
        }


def reached(standing: Mapping[str, Standing]) -> dict[str, str]:
    """Mailboxes that a letter of this campaign has reached, or may have: identity → that letter's key."""
    may_have = (*_KEPT, *_IN_DOUBT)
    return {m: key for key, there in standing.items() if there.state in may_have for m in there.mailboxes}


def compare(
    standing: Mapping[str, Standing], digests: Mapping[str, str], mailboxes: Mapping[str, tuple[str, ...]]
) -> Changes:
    """The ledger's letters against a plan's (key → digest, key → identities).

    Accepted and unknown letters are never touched.
    """
    changes = Changes()
    taken = reached(standing)
    for key, digest in digests.items():
        there = standing.get(key)
        if there is None:
            changes.new.append(key)
        elif there.state in _KEPT:
            kind = changes.accepted if set(mailboxes[key]) == set(there.mailboxes) else changes.moved
            kind.append(key)
        elif there.state in _IN_DOUBT:
            changes.unknown.append(key)
        elif there.digest != digest or there.state is State.CANCELLED:
            changes.changed.append(key)
        else:
            changes.same += 1
        if there is None or there.state in REWRITABLE:
            changes.twice += [(m, key, taken[m]) for m in mailboxes[key] if taken.get(m, key) != key]
    for key, there in standing.items():
        if key not in digests:
            _missing(changes, key, there.state)
    return changes


def _missing(changes: Changes, key: str, state: State) -> None:
    if state in _KEPT:
        changes.gone.append(key)
    elif state in _IN_DOUBT:
        changes.unknown.append(key)
    elif state is not State.CANCELLED:
        changes.removed.append(key)


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
            yield f"{len(keys)} {words}: {_first(keys)}"
    if changes.accepted:
        yield f"{len(changes.accepted)} already accepted: these are never sent again"
    if changes.moved:
        yield f"{len(changes.moved)} already accepted at another address than the list has now: {_first(changes.moved)}"
    if changes.gone:
        yield f"{len(changes.gone)} already accepted, and no longer in the list: {_first(changes.gone)}"
    if changes.unknown:
        yield f"{len(changes.unknown)} unknown, held as they are until resolved: {_first(changes.unknown)}"
    for mailbox, key, other in changes.twice[:_SHOWN]:
        yield f"{key} would go to {mailbox}, which letter {other} has reached or may have"
    if len(changes.twice) > _SHOWN:
        yield f"and {len(changes.twice) - _SHOWN} more such"


def _first(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


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
