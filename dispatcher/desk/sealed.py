"""What is sealed, on one page: for whoever is to approve it. Everything is read in the ledger, as it will leave."""

import json
from typing import Any, Final

from dispatcher.core.approval import PlanName
from dispatcher.core.errors import LedgerUnavailable
from dispatcher.desk import Desk
from dispatcher.desk.approvals import standing
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, unreadable

_LISTED: Final = 10
"""So many sets of attachments are listed: those that most letters have."""


def sealed_summary(desk: Desk) -> dict[str, Any]:
    """The plan that is sealed now, as plain data. Raises LedgerUnavailable if none is."""
    campaign = desk.campaign()
    approved = standing(desk, campaign)
    if approved.plan is None:
        raise LedgerUnavailable(f"nothing is sealed yet. Seal it: dispatcher seal{desk.flag}")
    with desk.reader() as reader:
        return {**_of_plan(reader, approved.plan), "approvals": approved.as_data()}


def _of_plan(reader: Reader, plan: PlanName) -> dict[str, Any]:
    row = reader.one("latest_plan", campaign=plan.campaign) or {}
    by = reader.one("sealed_by", revision=plan.revision, digest=plan.digest)
    letters = list(reader.rows("sealed_letters", campaign=plan.campaign))
    languages: dict[str, int] = {}
    channels: dict[str, int] = {}
    for group in letters:
        languages[group["language"]] = languages.get(group["language"], 0) + group["letters"]
        channels[group["channel"]] = channels.get(group["channel"], 0) + group["letters"]
    try:
        frozen, origin = json.loads(row["frozen"]), json.loads(row["origin"] or "{}")
        return {
            "plan": str(plan),
            "campaign": plan.campaign,
            "revision": plan.revision,
            "digest": plan.digest,
            "sealed_at": row["sealed_at"],
            "sealed_by": by["who"] if by else "",
            "title": frozen["template"]["title"],
            "date": frozen["template"]["date"],
            "from": f"{frozen['from_']['name']} <{frozen['from_']['address']}>",
            "reply_to": frozen["reply_to"]["address"],
            "letters": sum(languages.values()),
            "languages": languages,
            "channels": channels,
            "lists": [{"file": file, "digest": digest} for file, digest in origin.get("lists", ())],
            "attachments": _attachments(reader, plan.campaign),
            "skipped": {
                skip["reason"]: skip["rows"]
                for skip in reader.rows("skips_by_reason", campaign=plan.campaign, revision=plan.revision)
            },
        }
    except DAMAGED as error:
        raise unreadable(f"revision {plan.revision} of {plan.campaign}", error) from None


def _attachments(reader: Reader, campaign: str) -> list[dict[str, Any]]:
    """The sets of attachments that most letters have: how many letters, and each file with size and SHA-256."""
    return [
        {
            "letters": row["letters"],
            "files": [{name: a[name] for name in ("name", "size", "digest")} for a in json.loads(row["attachments"])],
        }
        for row in reader.rows("sealed_attachments", campaign=campaign, most=_LISTED)
    ]
