"""Where a letter stands, replayed from what is recorded of it: its attempts, and the events about it.

A letter's own row says where it stands, and is rewritten at every step, so it is in no link of the chain. What moved it
is: each attempt, and an event for each step that no attempt made. So what its row says can be told from what cannot be
changed unseen; whoever moves a letter without an attempt writes an event about it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dispatcher.core.chain import Name
from dispatcher.core.model import Channel, State
from dispatcher.core.policy import Scope

_EVENTS: Final[Mapping[str, State]] = {
    "held back": State.SUPPRESSED,
    "cancelled": State.CANCELLED,
    "assumed sent": State.CLOSED_UNKNOWN,
    "adopted": State.PRINTED,
    "printed": State.PRINTED,
    "reprinted": State.PRINTED,
    "posted": State.POSTED,
}
"""Where an event about a letter takes it."""
_ANEW: Final = frozenset(("amended", "released"))
"""Events after which a letter waits in the channel it is sealed for."""
_THROWN_AWAY: Final = "thrown away"
_RESOLVED: Final = "resolved"
_RESOLUTIONS: Final[Mapping[str | None, frozenset[State]]] = {
    str(state): frozenset((state,)) for state in (State.ACCEPTED, State.FAILED, State.READY)
}
_OUTCOMES: Final[Mapping[str, frozenset[State]]] = {
    "at_risk": frozenset((State.AT_RISK,)),
    "accepted": frozenset((State.ACCEPTED,)),
    "deferred": frozenset((State.READY,)),
    "failed": frozenset((State.FAILED,)),
    "unknown": frozenset((State.UNKNOWN,)),
}
_OF_ALL: Final = frozenset((Scope.POLICY, Scope.SENDER, Scope.RELAY, Scope.QUOTA))
"""Refusals that need not be about the letter: whether it failed by them is judged by what became of others."""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt: its number, what it came to, whose trouble that was, and whether nobody overrode it since."""

    id: int
    outcome: str
    scope: str
    counts: bool

    @property
    def place(self) -> tuple[int, int]:
        return self.id, 0


@dataclass(frozen=True, slots=True)
class Said:
    """An event about a letter: its number, its kind, of what (None: that is hidden, or gone), and the highest number of
    an attempt that stands before it in the chain.
    """

    id: int
    kind: str
    subject: str | None
    after: int

    @property
    def place(self) -> tuple[int, int]:
        return self.after, self.id


class Order:
    """Which attempts stand before a row in the chain: by its order, for clocks are set back."""

    def __init__(self) -> None:
        self._last = 0
        self._before: dict[Name, int] = {}

    def note(self, name: Name) -> None:
        """Note a row where the chain names it."""
        if name.kind == "attempt":
            self._last = max(self._last, name.id)
        elif name.kind in ("event", "plan"):
            self._before[name] = self._last

    def before(self, name: Name) -> int:
        """The highest number of an attempt before this event or plan; all, if the chain does not name it."""
        return self._before.get(name, self._last)


def replay(channel: str, tried: Iterable[Tried], said: Iterable[Said], *, purged: bool = False) -> frozenset[State]:
    """The states in which a letter can be that is sealed for `channel`; one, but for what is in no row.

    `purged`: what waited of its campaign was cancelled.
    """
    waits = State.TO_PRINT if channel == Channel.PAPER else State.READY
    steps: list[Tried | Said] = [*tried, *(event for event in said if event.kind in _MOVES)]
    last = max(steps, key=lambda step: step.place, default=None)
    found = frozenset((waits,)) if last is None else _after(last, waits)
    if purged:
        return frozenset(State.CANCELLED if state in (State.READY, State.TO_PRINT) else state for state in found)
    return found | {State.LEASED} if State.READY in found else found


_MOVES: Final = frozenset((*_EVENTS, *_ANEW, _THROWN_AWAY, _RESOLVED))


def _after(step: Tried | Said, waits: State) -> frozenset[State]:
    if isinstance(step, Tried):
        if step.outcome == "failed" and step.scope in _OF_ALL:
            return frozenset((State.FAILED, State.READY))
        return _OUTCOMES.get(step.outcome, frozenset()) if step.counts else frozenset((State.READY,))
    if step.kind == _RESOLVED:
        return _RESOLUTIONS.get(step.subject) or frozenset().union(*_RESOLUTIONS.values())
    if step.kind == _THROWN_AWAY:
        return frozenset((State.TO_PRINT if waits is State.TO_PRINT else State.FAILED,))
    return frozenset((_EVENTS.get(step.kind, waits),))


__all__ = ["Order", "Said", "Tried", "replay"]
