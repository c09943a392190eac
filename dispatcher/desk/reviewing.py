"""What the page of `dispatcher review` shows: plain values, read in the ledger."""

import json
from dataclasses import dataclass

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.desk import Desk
from dispatcher.ledgers.rows import DAMAGED, unreadable


@dataclass(frozen=True, slots=True)
class Heading:
    """What every page says of the campaign. So many letters as `to_settle` says wait for somebody's word.

    Those are the unknown ones, and the printed ones of which nobody has said what became of them.
    """

    campaign: str
    title: str
    sandbox: bool
    revision: int = 0
    sealed_at: str = ""
    to_settle: int = 0


def heading(desk: Desk) -> Heading:
    """The heading of every page. Raises LedgerUnavailable if there is no ledger, or none that can be read."""
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=campaign)
        if plan is None:
            raise LedgerUnavailable(f"nothing is sealed yet. Seal it: dispatcher seal{desk.flag}")
        waiting = reader.one("count_to_settle", campaign=campaign) or {"letters": 0}
    try:
        title = str(json.loads(plan["frozen"])["template"]["title"])
    except DAMAGED as error:
        raise unreadable(f"revision {plan['revision']} of {campaign}", error) from None
    return Heading(campaign, title, desk.sandbox, plan["revision"], plan["sealed_at"], waiting["letters"])
