"""The sender's domain and the relay's place in it, asked of the DNS (`core.posture` says what the answers mean).

Example domains are not looked up, unless a resolver is named that may know them. The policy that stands on a web server
is fetched only by whoever is given the way to do it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from dispatcher.core.address import is_reserved
from dispatcher.core.campaign import Campaign
from dispatcher.core.dmarc import walk
from dispatcher.core.dns import Question
from dispatcher.core.opinion import Opinion, opinion_lines
from dispatcher.core.posture import (
    OTHERS,
    Posture,
    Sender,
    dkim_above,
    dkim_of,
    mail_of,
    posture_lines,
    spf_of,
)
from dispatcher.core.preflight import Line, Part, ok
from dispatcher.core.sts import PATH, Fetched, has_policy
from dispatcher.desk.dkim import against_key
from dispatcher.desk.pacing import profile_of
from dispatcher.doctor import WHO
from dispatcher.lookups import Lookups
from dispatcher.signing.dkim import Key

Fetch = Callable[[str, str, Sequence[str]], Awaitable[Fetched]]
"""Gets a file, by a host's name, a path, and its addresses (`wellknown`)."""


Consult = Callable[[str, str, str], Awaitable[Sequence[Opinion]]]
"""Asks for a second opinion, by the domains of From and return path and the resolver's address (`doctor`)."""


async def sender_lines(
    campaign: Campaign,
    dns: Lookups,
    keys: Mapping[str, Key] | None = None,
    fetch: Fetch | None = None,
    consult: Consult | None = None,
) -> Sequence[Line]:
    """How it stands with the sender's domain. `keys`, by selector, are those at hand that letters are signed by."""
    domains = [campaign.sender.mailbox(each).address.rpartition("@")[2] for each in ("address", "return_path")]
    if not campaign.preflight.resolver and (example := next(filter(is_reserved, domains), "")):
        return [ok(Part.SENDER, "domain", f"{example} is an example, and not looked up")]
    sender = await _sender(campaign, dns)
    mail, path, reply, spf, dmarc, path_dmarc = await asyncio.gather(
        dns.settle(mail_of(sender.from_domain)),
        dns.settle(mail_of(sender.path_domain)),
        dns.settle(mail_of(sender.reply_domain)),
        dns.settle(spf_of(sender)),
        dns.settle(walk(sender.from_domain)),
        dns.settle(walk(sender.path_domain)),
    )
    look = dkim_of if campaign.dkim else dkim_above  # our own keys sign for the From address's domain alone
    dkim = await asyncio.gather(*(dns.settle(look(sender.from_domain, each)) for each in sender.selectors))
    dkim = [against_key(each, sender.from_domain, (keys or {}).get(each.selector)) for each in dkim]
    names = [f"{label}.{sender.from_domain}" for label, _ in OTHERS.values()]
    others = await asyncio.gather(*(dns.answer(Question(name, "TXT")) for name in names))
    said = dict(zip(OTHERS, others, strict=True))
    sts = await _policy(sender.from_domain, dns, fetch) if fetch and has_policy(said["MTA-STS"].records) else None
    posture = Posture(mail, path, reply, spf, dkim, dmarc, path_dmarc, said, sts)
    lines = list(posture_lines(sender, posture))
    if consult:
        opinions = await consult(sender.from_domain, sender.path_domain, campaign.preflight.resolver or "")
        lines += opinion_lines(WHO, opinions, posture.verdicts())
    return lines


async def _policy(domain: str, dns: Lookups, fetch: Fetch) -> Fetched:
    """The policy that the domain's record speaks of."""
    host = f"mta-sts.{domain}"
    found = await asyncio.gather(dns.answer(Question(host, "A")), dns.answer(Question(host, "AAAA")))
    addresses = [record for answer in found for record in answer.records]
    if not addresses and (why := next((answer.unknown for answer in found if answer.unknown), "")):
        return Fetched(unknown=f"{host}: {why}")
    return await fetch(host, PATH, addresses)


async def _sender(campaign: Campaign, dns: Lookups) -> Sender:
    """What campaign.toml says, else what the profile says, else what the relay's own name says."""
    said, profile, sender = campaign.preflight, profile_of(campaign), campaign.sender
    ours = tuple(campaign.dkim.keys) if campaign.dkim else ()
    include = said.relay_include or ("" if said.relay_addresses else profile.spf_include if profile else "")
    known = bool(said.relay_addresses or include)
    rewriter = profile.title if profile and profile.own_return_path and not known else ""
    addresses, unsure = (said.relay_addresses, "") if known or rewriter else await _of_host(campaign, dns)
    return Sender(
        from_domain=sender.mailbox("address").address.rpartition("@")[2],
        path_domain=sender.mailbox("return_path").address.rpartition("@")[2],
        reply_domain=sender.mailbox("reply_to").address.rpartition("@")[2],
        reports_to=sender.mailbox("reply_to").address,
        selectors=ours or said.dkim_selectors or (profile.dkim_selectors if profile else ()),
        addresses=addresses,
        include=(include or "").lower().rstrip("."),
        unsure=unsure,
        helo=campaign.relay.helo,
        rewriter=rewriter,
    )


async def _of_host(campaign: Campaign, dns: Lookups) -> tuple[tuple[str, ...], str]:
    """The relay's own addresses: it may send from others."""
    host = campaign.relay.tls_name
    if campaign.relay.loopback:
        return (), "the relay is this machine, and nobody has said from which address letters go on"
    if campaign.relay.literal:
        return (campaign.relay.literal,), f"{host} may send from another address"
    found = await asyncio.gather(dns.answer(Question(host, "A")), dns.answer(Question(host, "AAAA")))
    addresses = tuple(record for answer in found for record in answer.records)
    return addresses, f"{host} may send from other addresses" if addresses else f"{host} has no address in the DNS"
