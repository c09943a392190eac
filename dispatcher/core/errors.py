"""The exceptions, and the exit code of each.

    DispatcherError                     1  our own fault, or one nobody foresaw
    ├── UsageError                      2  what was given cannot be used; holds one Problem or many
    │   ├── CampaignError                  campaign.toml
    │   ├── TableError                     a recipients list
    │   ├── TemplateError                  a letter, a form of address or the layout
    │   ├── SecretError                    the relay's password
    │   │   └── SignInEnded                   a person must sign in at the identity provider again
    │   └── SignatureError                 a signature, or the key to make one with
    ├── Unavailable                     4  cannot go on now; no letter was harmed
    │   ├── RelayUnavailable               the relay is down, or refuses us
    │   ├── ProviderUnavailable            the identity provider gives no token now
    │   └── LedgerUnavailable              the ledger cannot be read or written
    └── Conflict                        5  somebody or something else has a claim
        ├── PlanConflict                   the folder is not what was sealed
        ├── NotApproved                    too few people have approved what would leave
        ├── LedgerInDoubt                  the ledger may not know all that was sent: restored, copied, deleted
        └── RunActive                      another run holds the ledger

Exit codes that are results and not errors: 0 all accepted, 3 finished with letters not accepted or unknown,
130 interrupted. An exception means "cannot go on"; what happens to one letter is a value, `Outcome`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is: a file, a line (from 1), a column or key by name, a recipient by key. All optional."""

    file: str = ""
    line: int | None = None
    column: str = ""
    recipient: str = ""

    def __str__(self) -> str:
        parts = [
            f"{self.file}:{self.line}"
            if self.file and self.line
            else self.file or (f"line {self.line}" if self.line else "")
        ]
        if self.column:
            parts.append(self.column)
        if self.recipient:
            parts.append(f"recipient {self.recipient}")
        return ", ".join(p for p in parts if p)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, where, and what to do next."""

    what: str
    where: Place = Place()
    todo: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if str(self.where) else self.what
        return f"{head}\n  {self.todo}" if self.todo else head


class DispatcherError(Exception):
    """The root. Its text is shown to people as it stands."""

    exit_code: ClassVar[int] = 1


class UsageError(DispatcherError):
    """What was given cannot be used. `problems` holds each with its place and what to do."""

    exit_code = 2

    def __init__(self, *problems: Problem | str) -> None:
        self.problems: Sequence[Problem] = tuple(p if isinstance(p, Problem) else Problem(p) for p in problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class CampaignError(UsageError):
    """campaign.toml cannot be used."""


class TableError(UsageError):
    """A recipients list cannot be used."""


class TemplateError(UsageError):
    """A letter, a form of address or the layout cannot be used."""


class SecretError(UsageError):
    """The relay's password cannot be had. The text never holds any part of it."""


class SignInEnded(SecretError):
    """The identity provider gives no token until a person has signed in again."""


class SignatureError(UsageError):
    """A signature is not good, or cannot be made. The text never holds any part of a private key."""


class Unavailable(DispatcherError):
    """Cannot go on now; no letter was harmed."""

    exit_code = 4


class RelayUnavailable(Unavailable):
    """The relay is down, or refuses us."""


class ProviderUnavailable(Unavailable):
    """The identity provider gives no token now: it is down, slow, or not reached."""


class LedgerUnavailable(Unavailable):
    """The ledger cannot be read or written."""


class Conflict(DispatcherError):
    """Somebody or something else has a claim."""

    exit_code = 5


class PlanConflict(Conflict):
    """The folder is not what was sealed."""


class NotApproved(Conflict):
    """Too few people have approved the plan that would leave."""


class LedgerInDoubt(Conflict):
    """The ledger may not know all that was sent with it; a person must say which one is right."""


class RunActive(Conflict):
    """Another run holds the ledger."""
