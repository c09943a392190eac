"""Where everything stands: status, log, one letter's story. Plain data; nothing is ever changed."""

from collections.abc import Iterator, Mapping
from typing import Any

from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.model import State
from dispatcher.core.review import log_row, tally
from dispatcher.desk import Desk


def status(desk: Desk) -> dict[str, Any]:
    """Where everything stands, as plain data."""
    campaign = desk.campaign()
    with desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=campaign.id)
        waiting = reader.one("waiting", campaign=campaign.id) or {}
        refused = reader.one("refused_mailboxes", campaign=campaign.id) or {}
        revision = plan["revision"] if plan else 0
        skips = list(reader.rows("skips", campaign=campaign.id, revision=revision))
        return {
            "campaign": campaign.id,
            "sealed_at": plan and plan["sealed_at"],
            "revision": revision,
            "digest": plan and plan["digest"],
            "counts": tally(reader.counts(campaign.id)),
            "deferred": waiting.get("letters", 0),
            "next_due_at": waiting.get("next_due_at"),
            "accepted_with_a_refused_mailbox": refused.get("letters", 0),
            "skips": skips,
            "runs": list(reader.rows("runs", campaign=campaign.id)),
        }


def log(desk: Desk, *, state: str = "", recipient: str = "", since: str = "") -> Iterator[dict[str, Any]]:
    """The log, one row a letter, as it is after its last attempt."""
    campaign = desk.campaign()
    with desk.reader() as reader:
        for row in reader.rows("log", campaign=campaign.id, state=state, key=recipient, since=since):
            yield log_row(row)


def story(desk: Desk, key: str) -> dict[str, Any]:
    """One letter's whole story. Raises UsageError if there is no such letter."""
    campaign = desk.campaign()
    with desk.reader() as reader:
        row = reader.one("letter_by_key", campaign=campaign.id, key=key)
        if row is None:
            raise no_such_letter(key, reader.standing(campaign.id))
        letter = reader.letter(row)
        attempts = list(reader.rows("letter_attempts", letter=row["id"]))
        for attempt in attempts:
            attempt["rcpts"] = list(reader.rows("attempt_rcpts", attempt=attempt["id"]))
        return {
            "key": key,
            "state": row["state"],
            "reason": row["reason"],
            "language": row["language"],
            "to": [m.address for m in letter.recipient.to],
            "cc": [m.address for m in letter.recipient.cc],
            "message_id": row["message_id"],
            "date": row["date"],
            "due_at": row["due_at"] if row["state"] == State.READY else None,
            "revision": row["revision"],
            "digest": row["digest"],
            "attachments": [{"name": a.name, "size": a.size, "digest": a.digest} for a in letter.attachments],
            "attempts": attempts,
            "events": list(reader.rows("letter_events", letter=row["id"])),
        }


def no_such_letter(key: str, there: Mapping[str, Any]) -> UsageError:
    """The error for a key that no letter has, with the nearest ones."""
    near = [k for k in there if key.casefold() in k.casefold()][:3]
    todo = f"did you mean: {', '.join(near)}?" if near else "see the keys with: dispatcher log"
    return UsageError(Problem(f"there is no letter with key {key}", todo=todo))


def suppressions(desk: Desk) -> list[dict[str, Any]]:
    """Every suppressed address with reason, since and source."""
    if not desk.ledger_path.exists():
        return []
    with desk.reader() as reader:
        return list(reader.rows("suppressions"))
