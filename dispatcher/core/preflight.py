"""What was looked at before sending, in lines: each says whether it is well, and what to do if it is not.

Facts go in, lines come out; who finds the facts is the desk. What could not be found out is a warning that says
"unknown", never a guess: a problem is what will certainly go wrong.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How it stands. A problem stops `send`."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Part(StrEnum):
    """What a line is about, in the order in which they are shown."""

    MACHINE = "machine"
    LETTERS = "letters"
    RELAY = "relay"
    SENDER = "sender"
    RECIPIENTS = "recipients"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at. `records` are DNS records in a zone file's words, ready to paste.

    `passing`: a problem that may pass by itself, such as a relay that is busy.
    """

    part: Part
    subject: str
    status: Status
    what: str
    todo: str = ""
    records: tuple[str, ...] = ()
    passing: bool = False

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "part": str(self.part),
            "subject": self.subject,
            "status": str(self.status),
            "what": self.what,
            "todo": self.todo,
            "records": list(self.records),
        }


def ok(part: Part, subject: str, what: str) -> Line:
    """All is well."""
    return Line(part, subject, Status.OK, what)


def warning(part: Part, subject: str, what: str, todo: str, *, records: Iterable[str] = ()) -> Line:
    """It may go wrong, or nobody could tell."""
    return Line(part, subject, Status.WARNING, what, todo, tuple(records))


def problem(
    part: Part, subject: str, what: str, todo: str, *, records: Iterable[str] = (), passing: bool = False
) -> Line:
    """It will go wrong."""
    return Line(part, subject, Status.PROBLEM, what, todo, tuple(records), passing)


def tally(lines: Iterable[Line]) -> Counter[Status]:
    """How many lines there are of each status."""
    return Counter(line.status for line in lines)
