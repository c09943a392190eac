"""The recipients' domains, each asked of the DNS once (`core.reach` says what the answers mean).

Example domains are not looked up, unless a resolver is named that may know them.
"""

import asyncio
from collections.abc import Mapping, Sequence

from dispatcher.core.address import is_reserved
from dispatcher.core.campaign import Campaign
from dispatcher.core.posture import mail_of
from dispatcher.core.preflight import Line
from dispatcher.core.reach import Reach, reach_lines
from dispatcher.desk.draft import Draft
from dispatcher.lookups import Lookups


def reach_of(draft: Draft) -> Reach:
    """Whom the letters of a draft go to, once it has been read; those who are held back are not among them."""
    reach = Reach()
    for key, mailboxes in draft.unsealed.mailboxes():
        reach.add(key, mailboxes.split())
    return reach


async def recipient_lines(
    campaign: Campaign, reach: Reach, features: Mapping[str, str] | None, dns: Lookups
) -> Sequence[Line]:
    """How it stands with the recipients' domains."""
    asked = [domain for domain in sorted(reach.letters) if campaign.preflight.resolver or not is_reserved(domain)]
    answers = await asyncio.gather(*(dns.settle(mail_of(domain)) for domain in asked))
    return list(reach_lines(reach, dict(zip(asked, answers, strict=True)), features, campaign.pace))
