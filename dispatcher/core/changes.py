"""A plan against what is sealed: which letters are new, changed or gone, and what lies behind it, in plain lines.

Letters come one at a time, as a pair of what the plan and what the ledger has of one key; of each only its place in the
counts is kept, and of each kind the first few keys, to be named.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.core.model import State

_SHOWN: Final = 5
_LINES: Final = 12
REWRITABLE: Final = (State.READY, State.FAILED, State.SUPPRESSED, State.CANCELLED, State.TO_PRINT)
_KEPT: Final = (State.ACCEPTED, State.CLOSED_UNKNOWN, State.POSTED)
_IN_DOUBT: Final = (State.UNKNOWN, State.AT_RISK)
REACHED: Final = (*_KEPT, *_IN_DOUBT, State.PRINTED)
"""Where a letter stands that has reached its mailboxes, or may have."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A letter as the ledger has it. `mailboxes` holds the identities it is sealed for."""

    id: int
    digest: str
    state: State
    mailboxes: tuple[str, ...] = ()


@dataclass(slots=True)
class Kind:
    """Letters that one thing happens to: how many, and the keys of the first few."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, key: str) -> None:
        self.count += 1
        if self.count <= _SHOWN:
            self.first.append(key)

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return ", ".join(self.first) + more


@dataclass(slots=True)
class Changes:
    """What an amended plan does to the sealed one.

    `moved` are accepted letters whose row names another mailbox now, `gone` those whose row is gone; both stay as they
    are. `printed` are letters on paper that nobody said to be posted: they may be on their way, and stay as they are.
    `twice` are letters that would go to a mailbox that another key's letter may have reached: how many, and lines on
    the first few. Accepted, posted and unknown letters are never touched.
    """

    new: Kind = field(default_factory=Kind)
    changed: Kind = field(default_factory=Kind)
    removed: Kind = field(default_factory=Kind)
    accepted: Kind = field(default_factory=Kind)
    moved: Kind = field(default_factory=Kind)
    gone: Kind = field(default_factory=Kind)
    unknown: Kind = field(default_factory=Kind)
    printed: Kind = field(default_factory=Kind)
    twice: Kind = field(default_factory=Kind)
    same: int = 0

    @property
    def count(self) -> int:
        """How many letters the plan would change."""
        return self.new.count + self.changed.count + self.removed.count

    def counts(self) -> dict[str, int]:
        return {
            "new": self.new.count,
            "changed": self.changed.count,
            "removed": self.removed.count,
            "accepted": self.accepted.count + self.moved.count,
            "moved": self.moved.count,
            "gone": self.gone.count,
            "twice": self.twice.count,
            "unknown": self.unknown.count,
            "printed": self.printed.count,
            "same": self.same,
        }

    def add(self, key: str, digest: str, mailboxes: tuple[str, ...], there: Standing | None) -> None:
        """A letter of the plan, beside what the ledger has under its key."""
        if there is None:
            self.new.add(key)
        elif there.state in _KEPT:
            (self.accepted if set(mailboxes) == set(there.mailboxes) else self.moved).add(key)
        elif there.state in _IN_DOUBT:
            self.unknown.add(key)
        elif there.digest != digest or there.state is State.CANCELLED:
            (self.printed if there.state is State.PRINTED else self.changed).add(key)
        else:
            self.same += 1

    def miss(self, key: str, state: State) -> None:
        """A letter of the ledger that the plan has no longer."""
        if state in _KEPT:
            self.gone.add(key)
        elif state in _IN_DOUBT:
            self.unknown.add(key)
        elif state is State.PRINTED:
            self.printed.add(key)
        elif state is not State.CANCELLED:
            self.removed.add(key)

    def meet(self, mailbox: str, key: str, other: str) -> None:
        """A letter of the plan that would go to a mailbox which another key's letter has reached, or may have."""
        self.twice.add(f"{key} would go to {mailbox}, which letter {other} has reached or may have")

    def print_again(self, key: str, other: str) -> None:
        """A letter of the plan to somebody without a mailbox, the same as another key's that is printed."""
        self.twice.add(f"{key} is word for word letter {other}, which is printed")


def differences(sealed: Mapping[str, Any], now: Mapping[str, Any], changes: Changes) -> list[str]:
    """Lines that say what changed: letters by kind, then the files and values behind it."""
    lines = [*_letters(changes), *_values("", sealed, now)]
    return lines or ["the letters are the same, but their list is not"]


def _letters(changes: Changes) -> Iterator[str]:
    kinds = (("new", changes.new), ("changed", changes.changed), ("removed", changes.removed))
    for words, kind in kinds:
        if kind.count:
            yield f"{kind.count} {words} letter{'s'[: kind.count > 1]}: {kind}"
    if changes.accepted.count:
        yield f"{changes.accepted.count} already accepted or posted: these are never sent again"
    if changes.moved.count:
        where = "at another address than the list has now"
        yield f"{changes.moved.count} already accepted or posted {where}: {changes.moved}"
    if changes.gone.count:
        yield f"{changes.gone.count} already accepted or posted, and no longer in the list: {changes.gone}"
    if changes.unknown.count:
        yield f"{changes.unknown.count} unknown, held as they are until resolved: {changes.unknown}"
    if changes.printed.count:
        until = "held as they are until somebody says that they were posted or thrown away"
        yield f"{changes.printed.count} printed, {until}: {changes.printed}"
    yield from changes.twice.first
    if changes.twice.count > _SHOWN:
        yield f"and {changes.twice.count - _SHOWN} more such"


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
