"""Taking personal data out of the ledger, of campaigns that are long over: what would go, and doing it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dispatcher.core.age import Age
from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.model import State
from dispatcher.core.reading import tally
from dispatcher.desk import Desk, person
from dispatcher.ledgers import purging
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.reader import Reader


@dataclass(frozen=True, slots=True)
class Stale:
    """A campaign in which nothing has happened for long: when last, how many letters, and how many of each outcome."""

    campaign: str
    last_at: str
    letters: int
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Purgeable:
    """What a purge would take the personal data of: all that is older than `before` (a moment, in UTC).

    `decisions` are about no letter, or about letters that were purged before; `unclean`: what an earlier purge deleted
    is still somewhere in the ledger's files.
    """

    before: str
    campaigns: Sequence[Stale]
    decisions: int
    unclean: bool

    @property
    def letters(self) -> int:
        """The number that is typed to say that one means it."""
        return sum(stale.letters for stale in self.campaigns)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        campaigns = [asdict(each) for each in self.campaigns]
        return {"before": self.before, "letters": self.letters, "decisions": self.decisions, "campaigns": campaigns}


def purgeable(desk: Desk, older_than: str) -> Purgeable:
    """What is older than a length of time such as `2y`. Nothing is changed. Raises UsageError, LedgerUnavailable."""
    before = stamp(Age.parse(older_than).before(desk.clock.now()))
    with desk.reader() as reader:
        unclean = bool((reader.one("unclean") or {}).get("unclean"))
        campaigns = [_stale(reader, row) for row in reader.rows("stale", before=before)]
        others = json.dumps([stale.campaign for stale in campaigns])
        first = (reader.one("first_seal_of_others", campaigns=others) or {})["at"]
        given = {"before": before, "alone": min(before, first or before)}
        decisions = (reader.one("count_decisions", **given) or {})["decisions"]
        return Purgeable(before, campaigns, decisions, unclean)


def _stale(reader: Reader, row: dict[str, Any]) -> Stale:
    states = {State(s["state"]): s["letters"] for s in reader.rows("states_of", campaign=row["campaign"])}
    counts = tally(states)
    return Stale(row["campaign"], row["last_at"], counts.pop("letters"), counts)


def purge(desk: Desk, older_than: str, confirmed: int, *, who: str = "") -> Purgeable:
    """Purge what is older, if that is as many letters as were confirmed; returns what it was.

    Raises UsageError if it is not, RunActive, LedgerUnavailable.
    """
    with desk.ledger() as ledger:
        ledger.recover()
        found = purgeable(desk, older_than)
        if found.letters != confirmed:
            what = f"--confirm {confirmed}, but it would be {found.letters}"
            raise UsageError(Problem(what, todo=f"look again: dispatcher purge --older-than {older_than}{desk.flag}"))
        if found.campaigns or found.decisions:
            campaigns = [stale.campaign for stale in found.campaigns]
            purging.purge(ledger, campaigns, found.before, who or person())
        if found.campaigns or found.decisions or found.unclean:
            purging.clean(desk.ledger_path)
    return found
