"""What goes wrong in a rehearsal: each regime as data, and a seed that says when. Pure.

A relay plays at most one `Fault` in a connection's greeting, and one in each transaction. Which one is drawn from the
seed and from whose letter it is, not from when it comes: the n-th time that a forward path is written to always has the
same fate, whatever else happens. So a rehearsal can be repeated.

No regime lies: nothing is answered with 250 that is not kept, and nothing kept that is answered with 4yz or 5yz. No
sender can see through either, so there is nothing to be rehearsed.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class Step(StrEnum):
    """When a fault is played: in place of the reply to it. CONTENT is once the first octets of a message are here."""

    CONNECT = "the connection"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "the content"
    DOT = "the dot"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong: at which step, and in what `share` of all connections or transactions (of 1).

    `reply` are the octets that are said (None: the honest reply), `after` so many seconds; then the connection may be
    dropped. Nothing said and nothing dropped is silence for good. `taken`: behind the dot the message is kept, though
    the reply does not say so.
    """

    step: Step
    share: float
    reply: bytes | None = b""
    drop: bool = False
    after: float = 0.0
    taken: bool = False

    @property
    def keeps(self) -> bool:
        """Whether a message is kept, if this is what its end is answered with."""
        return self.taken or self.reply is None

    @property
    def words(self) -> str:
        """For people."""
        said = "the reply" if self.reply is None else self.reply.decode("ascii", "replace").strip()
        what = f"{said or ('dropped' if self.drop else 'silence')} at {self.step}"
        if said and self.drop:
            what += ", then dropped"
        if self.after:
            what += f", after {self.after:g} s"
        return what + (", the letter kept" if self.taken else "")


@dataclass(frozen=True, slots=True)
class Regime:
    """All that goes wrong in one kind of rehearsal.

    `greylisted`: so long each mailbox is put off, the first time somebody writes to it (RFC 6647). `quota`: the relay
    takes so many letters and no more in any 24 hours.
    """

    faults: tuple[Fault, ...] = ()
    greylisted: timedelta = timedelta()
    quota: bool = False


C, R, D, B, E = Step.CONNECT, Step.RCPT, Step.DATA, Step.CONTENT, Step.DOT
_CLOSING: Final = b"421 4.3.2 closing for maintenance\r\n"
_BUSY: Final = b"450 4.2.1 the mailbox is busy\r\n"
_SLOWER: Final = b"421 4.7.0 too many letters, come back later\r\n"
_LOCAL: Final = b"451 4.3.0 local error in processing\r\n"
_GONE: Final = b"550 5.1.1 no such mailbox here\r\n"
_POLICY: Final = b"554 5.7.1 refused by policy\r\n"
_LARGE: Final = b"552 5.3.4 too large for this system\r\n"
_GARBAGE: Final = b"\xff\x00 no reply at all\r\n"
_CUT: Final = b"250 2.0.0 tak"
_GREYLISTED: Final = b"450 4.7.1 greylisted, come back in five minutes\r\n"

REGIMES: Final[Mapping[str, Regime]] = {
    "none": Regime(),
    "flaky": Regime(
        (
            Fault(C, 0.05, _CLOSING, drop=True),
            Fault(C, 0.05, drop=True),
            Fault(R, 0.03, _BUSY),
            Fault(R, 0.01, _SLOWER, drop=True),
            Fault(R, 0.02, drop=True),
            Fault(D, 0.02, _LOCAL),
            Fault(D, 0.02, None, after=40),
            Fault(B, 0.02, drop=True),
            Fault(E, 0.03, None, after=90),
            Fault(E, 0.03, _LOCAL),
            Fault(E, 0.01, drop=True),
            Fault(E, 0.01, drop=True, taken=True),
        )
    ),
    "hostile": Regime(
        (
            Fault(C, 0.06, _CLOSING, drop=True),
            Fault(C, 0.06, drop=True),
            Fault(C, 0.03, _GARBAGE),
            Fault(C, 0.03),
            Fault(R, 0.05, _BUSY),
            Fault(R, 0.03, _GONE),
            Fault(R, 0.02, _SLOWER, drop=True),
            Fault(R, 0.03, drop=True),
            Fault(R, 0.01),
            Fault(R, 0.01, _GARBAGE),
            Fault(D, 0.04, _LOCAL),
            Fault(D, 0.02, drop=True),
            Fault(D, 0.01, None, after=110),
            Fault(B, 0.03, drop=True),
            Fault(B, 0.02, _CLOSING, drop=True),
            Fault(E, 0.04, None, after=500),
            Fault(E, 0.05, _LOCAL),
            Fault(E, 0.02, _CLOSING, drop=True),
            Fault(E, 0.02, _POLICY),
            Fault(E, 0.01, _LARGE),
            Fault(E, 0.02, drop=True),
            Fault(E, 0.02, drop=True, taken=True),
            Fault(E, 0.01, _CUT, drop=True, taken=True),
            Fault(E, 0.01),
            Fault(E, 0.01, taken=True),
            Fault(E, 0.01, _GARBAGE),
            Fault(E, 0.01, _GARBAGE, taken=True),
        )
    ),
    "greylist": Regime(greylisted=timedelta(minutes=5)),
    "quota": Regime(quota=True),
}
"""By name. Shares of one step and of all steps behind CONNECT add up to less than 1."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What the relay takes in any 24 hours, and how it refuses what is beyond: a fault at RCPT or behind it."""

    letters: int
    refusal: Fault


_DAY: Final = timedelta(hours=24)


@dataclass(slots=True)
class Fates:
    """What becomes of each connection and each transaction, the same for the same seed."""

    regime: Regime
    seed: int
    quota: Quota | None = None
    _connections: int = 0
    _tries: Counter[str] = field(default_factory=Counter)
    _met: dict[tuple[str, str], datetime] = field(default_factory=dict)
    _taken: deque[datetime] = field(default_factory=deque)

    def of_connection(self) -> Fault | None:
        """What becomes of the next connection's greeting."""
        self._connections += 1
        return self._drawn((f for f in self.regime.faults if f.step is C), "connection", self._connections)

    def of_transaction(self, forward_path: str, now: datetime) -> Fault | None:
        """What becomes of a transaction whose first forward path this is."""
        if self.quota and self._used_up(self.quota, now):
            return self.quota.refusal
        self._tries[forward_path] += 1
        return self._drawn(
            (f for f in self.regime.faults if f.step is not C), "letter", forward_path, self._tries[forward_path]
        )

    def put_off(self, return_path: str, forward_path: str, now: datetime) -> bytes:
        """What a mailbox is put off with that was not written to long enough ago, or b''."""
        if not self.regime.greylisted:
            return b""
        first = self._met.setdefault((return_path, forward_path), now)
        return _GREYLISTED if now - first < self.regime.greylisted else b""

    def taken(self, now: datetime) -> None:
        """A message was kept."""
        if self.quota:
            self._taken.append(now)

    def _used_up(self, quota: Quota, now: datetime) -> bool:
        while self._taken and self._taken[0] <= now - _DAY:
            self._taken.popleft()
        return len(self._taken) >= quota.letters

    def _drawn(self, among: Iterable[Fault], *what: object) -> Fault | None:
        chance = _fraction(self.seed, *what)
        for fault in among:
            chance -= fault.share
            if chance < 0:
                return fault
        return None


def _fraction(*what: object) -> float:
    """A number in [0, 1) that is always the same for the same things."""
    digest = hashlib.sha256("\n".join(map(str, what)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
