"""Where everything stands: status, log, one letter's story. Plain data; nothing is ever changed."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from dispatcher.core.errors import LedgerUnavailable, Problem, UsageError
from dispatcher.core.model import Channel, State
from dispatcher.core.reading import log_row, tally, went_by
from dispatcher.core.text import searchable
from dispatcher.desk import Desk
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.held import is_held
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, unreadable


def broken_off(desk: Desk) -> int:
    """How many letters are in flight while no run is at work that could say what became of them."""
    if not desk.ledger_path.exists():
        return 0
    with desk.reader() as reader:
        return _broke_off(desk, tally(reader.counts(desk.campaign_id()))["in_flight"])


def _broke_off(desk: Desk, in_flight: int) -> int:
    return in_flight if in_flight and not is_held(desk.ledger_path) else 0


def status(desk: Desk, *, listed: bool = True) -> dict[str, Any]:
    """Where everything stands, as plain data; the rows without a letter are `skipped`, and `skips` if to be listed.

    `broke_off` says that letters are in flight, and no run is at work that could say what became of them.
    """
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=campaign)
        waiting = reader.one("waiting", campaign=campaign) or {}
        refused = reader.one("refused_mailboxes", campaign=campaign) or {}
        revision = plan["revision"] if plan else 0
        rows = {"campaign": campaign, "revision": revision}
        counts = tally(reader.counts(campaign))
        return {
            "campaign": campaign,
            "in_doubt": desk.doubt(),
            "sealed_at": plan and plan["sealed_at"],
            "revision": revision,
            "digest": plan and plan["digest"],
            "purged_at": (reader.one("purge_of", campaign=campaign) or {}).get("at"),
            "counts": counts,
            "deferred": waiting.get("letters", 0),
            "next_due_at": waiting.get("next_due_at"),
            "accepted_with_a_refused_mailbox": refused.get("letters", 0),
            "skipped": (reader.one("count_skips", **rows) or {}).get("rows", 0),
            "skips": list(reader.rows("skips", **rows)) if listed else [],
            "runs": list(reader.rows("runs", campaign=campaign)),
            "broke_off": _broke_off(desk, counts["in_flight"]) > 0,
            "printings": [_printing(row) for row in reader.rows("printings", campaign=campaign)],
            "tests": list(reader.rows("tests", campaign=campaign)),
            "decisions": list(reader.rows("decisions")),
            "approvals": _approvals(desk, reader, campaign, revision),
        }


def _approvals(desk: Desk, reader: Reader, campaign: str, revision: int) -> dict[str, Any] | None:
    """How far what is sealed is approved; None if campaign.toml is in no state to say, or nobody asks for approvals."""
    there = reader.one("approvals", campaign=campaign, revision=revision)
    if there is None and not desk.wants_approvals():
        return None
    from dispatcher.desk.approvals import standing  # noqa: PLC0415 (slow to load, and most campaigns want none)

    try:
        return standing(desk, desk.campaign()).as_data()
    except UsageError:
        return None


def _printing(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {**row, "files": json.loads(row["files"])}
    except DAMAGED as error:
        raise unreadable(f"printing {row['id']}", error) from None


def revision_of(desk: Desk, digest: str) -> int:
    """The revision of the plan that is sealed, if it has this digest; else 0, and where no ledger can be read."""
    with suppress(LedgerUnavailable), desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=desk.campaign_id())
        return plan["revision"] if plan and plan["digest"] == digest else 0
    return 0


def log(desk: Desk, *, state: str = "", recipient: str = "", since: str = "") -> Iterator[dict[str, Any]]:
    """The log, one row a letter, as it is after its last attempt. Raises UsageError before the first row.

    `recipient` is looked for in key, name and addresses, whatever its case and accents; `since` is a date or a moment,
    in UTC unless it says otherwise.
    """
    given = {"campaign": desk.campaign_id(), "state": state, "key": "", "since": moment_of(since, "--since")}
    return _log_rows(desk.reader(), given, searchable(recipient))


def _log_rows(reader: Reader, given: Mapping[str, str], wanted: str) -> Iterator[dict[str, Any]]:
    with reader:
        for found in reader.rows("log", **given):
            row = log_row(found)
            if not wanted or any(wanted in searchable(row[column]) for column in ("key", "name", "addresses")):
                yield row


def moment_of(text: str, name: str, *, end: bool = False) -> str:
    """A day or a moment that a person typed, as the ledger writes it; with `end`, a day is all of it.

    In UTC unless it says otherwise. Raises UsageError, naming it `name`.
    """
    text = text.strip()
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text)
        if end and len(text) <= len("2009-10-01"):
            moment += timedelta(days=1)
        return stamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        todo = "write it as 2009-10-01, or 2009-10-01T12:00"
        raise UsageError(Problem(f"{name} {text} is not a date or a moment", todo=todo)) from None


def story(desk: Desk, key: str) -> dict[str, Any]:
    """One letter's whole story. Raises UsageError if there is no such letter."""
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        row = reader.one("letter_by_key", campaign=campaign, key=key)
        if row is None:
            raise no_such_letter(key, reader, campaign)
        letter = reader.letter(row)
        attempts = list(reader.rows("letter_attempts", letter=row["id"]))
        for attempt in attempts:
            attempt["rcpts"] = list(reader.rows("attempt_rcpts", attempt=attempt["id"]))
        return {
            "key": key,
            "state": row["state"],
            "reason": row["reason"],
            "channel": went_by(row["channel"], row["state"]),
            "language": row["language"],
            "to": [m.address for m in letter.recipient.to],
            "cc": [m.address for m in letter.recipient.cc],
            "message_id": "" if row["channel"] == Channel.PAPER else row["message_id"],
            "date": row["date"],
            "due_at": row["due_at"] if row["state"] == State.READY else None,
            "revision": row["revision"],
            "digest": row["digest"],
            "attachments": [{"name": a.name, "size": a.size, "digest": a.digest} for a in letter.attachments],
            "attempts": attempts,
            "events": list(reader.rows("letter_events", letter=row["id"])),
        }


def no_such_letter(key: str, reader: Reader, campaign: str) -> UsageError:
    """The error for a key that no letter has: why its row was skipped, or the nearest keys."""
    plan = reader.one("latest_plan", campaign=campaign)
    for skip in reader.rows("skips", campaign=campaign, revision=plan["revision"] if plan else 0):
        if skip["key"] == key:
            what = f"{key} got no letter, its row at {skip['place']} was skipped: {skip['detail']}"
            return UsageError(Problem(what, todo="every skip is listed by: dispatcher check"))
    keys = (row["key"] for row in reader.rows("keys", campaign=campaign))
    near = list(islice((k for k in keys if key.casefold() in k.casefold()), 3))
    todo = f"did you mean: {', '.join(near)}?" if near else "see the keys with: dispatcher log"
    return UsageError(Problem(f"there is no letter with key {key}", todo=todo))


def suppressions(desk: Desk) -> list[dict[str, Any]]:
    """Every suppressed address with reason, since and source. Raises CampaignError if this is no campaign folder."""
    desk.campaign_id()
    if not desk.ledger_path.exists():
        return []
    with desk.reader() as reader:
        return list(reader.rows("suppressions"))
