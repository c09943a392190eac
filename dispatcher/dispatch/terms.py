"""What a run is told, and what it says of itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from dispatcher.core.model import Envelope, Leased, Message
from dispatcher.core.policy import ReplyRule

BACK_OFF: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between the first tries at a relay that was there before in this run, and of a connection it refuses."""
GRACE: Final = 10.0
"""Seconds that letters in flight get to finish after the first stop."""


class Close(StrEnum):
    """Why a run came to its end."""

    FINISHED = "finished"
    WAITING = "waiting"  # letters are due later
    QUOTA = "quota"
    DEADLINE = "deadline"
    PAUSED = "paused"  # the relay refuses us; a person must look
    UNAVAILABLE = "unavailable"
    INTERRUPTED = "interrupted"


WORKED_THROUGH: Final = (Close.FINISHED, Close.WAITING, Close.QUOTA, Close.DEADLINE)
"""Ends at which the run had done all it could, so that what it held back can be judged."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A letter ready to leave: `message_digest` is over its octets, Date included."""

    envelope: Envelope
    message: Message
    message_digest: str


@dataclass(slots=True)
class Tally:
    """What this run has come to so far. Counts are letters, but `deferred` counts refusals for now."""

    accepted: int = 0
    deferred: int = 0
    failed: int = 0
    unknown: int = 0
    suppressed: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class Report:
    """How a run ended: why, in words, and until when it makes no sense to go on."""

    close: Close = Close.FINISHED
    why: str = ""
    until: datetime | None = None
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run behaves. `wait`: stay until every letter has its end, whatever the relay does meanwhile.

    `rules` say what the relay means by replies of its own, `quota_reset` how long its quota is used up once it says so.
    A connection is left after `letters_per_connection` letters or `connection_age` seconds.
    """

    connections: int
    not_after: datetime | None = None
    wait: bool = False
    back_off: tuple[float, ...] = BACK_OFF
    grace: float = GRACE
    rules: tuple[ReplyRule, ...] = ()
    quota_reset: timedelta = timedelta(hours=24)
    letters_per_connection: int = 100
    connection_age: float = 300.0


Prepare = Callable[[Leased, datetime], Prepared]
Sign = Callable[[Message, datetime], Message]
"""Puts signatures of that moment on a message. It may take long, and is called in threads."""
