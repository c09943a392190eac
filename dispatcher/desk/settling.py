"""What waits for somebody's word: unknown letters with their evidence, rows without a letter, suppressions, sheets.

Read for the page; what is decided there goes through `deciding` and `posting`, as on the command line.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dispatcher.core.model import State
from dispatcher.core.statuses import in_words
from dispatcher.core.text import searchable
from dispatcher.desk import Desk
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.suppressions import REFUSED, with_domains

_LATELY: Final = 20
_ANY: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Some:
    """Some rows of many, `count` in all; `more` says that there are others after the last one here."""

    rows: Sequence[Mapping[str, Any]]
    more: bool
    count: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much there is of each kind."""

    unknown: int
    printed: int
    skipped: int
    suppressed: int


def waiting(desk: Desk) -> Waiting:
    """How much there is to settle."""
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        counts = reader.counts(campaign)
        skipped = reader.one("count_skips", campaign=campaign, revision=_revision(reader, campaign)) or {"rows": 0}
        suppressed = reader.one("count_suppressions") or {"addresses": 0}
    return Waiting(counts.get(State.UNKNOWN, 0), counts.get(State.PRINTED, 0), skipped["rows"], suppressed["addresses"])


def unknown_letters(desk: Desk, *, after: int, size: int, language: str = "en") -> Some:
    """Letters whose outcome is not known, behind the one with the number `after`: each with what is known of it."""
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        found = list(reader.rows("unknown_letters", campaign=campaign, after=after, limit=size + 1))
        count = reader.counts(campaign).get(State.UNKNOWN, 0)
    for row in found:
        row["addresses"] = ", ".join(row["addresses"].split())
        row["relay"] = f"{row['host']}:{row['port']}" if row["host"] else ""
        row["meaning"] = in_words(row["code"], row["enhanced"] or "", language)
    return _some(found, size, count)


def printed_letters(desk: Desk, *, after: int, size: int) -> Some:
    """Letters that are printed, and nobody has said yet what became of the sheets.

    `suppressed` names what must not be written to any more, '' if nothing: that sheet is to be taken out of the pile.
    """
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        found = list(reader.rows("printed_letters", campaign=campaign, after=after, limit=size + 1))
        count = reader.counts(campaign).get(State.PRINTED, 0)
        for row in found:
            row["addresses"] = ", ".join(row["addresses"].split())
            identities = json.dumps(with_domains(row["mailboxes"].split()))
            held = reader.rows("suppressed_by_people_among", identities=identities, refused=REFUSED)
            row["suppressed"] = ", ".join(sorted(name["identity"] for name in held))
    return _some(found, size, count)


def printed_numbers(desk: Desk) -> set[int]:
    """The numbers of all letters that are printed, and of which nobody has said what became of the sheets."""
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        rows = reader.rows("ids_by_state", campaign=campaign)
        return {int(number) for row in rows if row["state"] == State.PRINTED for number in (row["ids"] or "").split()}


def skips(desk: Desk, *, reason: str, after: int, size: int) -> tuple[Some, Mapping[str, int]]:
    """Rows that got no letter in what is sealed, all or those for one reason; and how many there are for each."""
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        head = {"campaign": campaign, "revision": _revision(reader, campaign)}
        found = list(reader.rows("skips_shown", **head, reason=reason, after=after, limit=size + 1))
        reasons = {row["reason"]: row["rows"] for row in reader.rows("skips_by_reason", **head)}
    return _some(found, size, reasons.get(reason, 0) if reason else sum(reasons.values())), reasons


def suppressions(desk: Desk, *, text: str, after: str, size: int) -> Some:
    """Addresses that must not be written to, with this text in address or reason, behind the one called `after`."""
    desk.campaign_id()
    given = {"after": after, "text": searchable(text.strip()), "limit": size + 1}
    with desk.reader() as reader:
        found = list(reader.rows("suppressions_shown", **given))
        count = (reader.one("count_suppressions") or {"addresses": 0})["addresses"]
    return _some(found, size, count)


def decided_lately(desk: Desk, *, until: int = _ANY, most: int = _LATELY) -> Sequence[Mapping[str, Any]]:
    """What people decided, the last first: when, who, about what, and why."""
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        return list(reader.rows("decided_lately", campaign=campaign, until=until, limit=most))


def _revision(reader: Reader, campaign: str) -> int:
    plan = reader.one("latest_plan", campaign=campaign)
    return plan["revision"] if plan else 0


def _some(found: Sequence[Mapping[str, Any]], size: int, count: int) -> Some:
    return Some(found[:size], len(found) > size, count)
