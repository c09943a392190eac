"""The sender's domain in the DNS: whether a letter from it, by this relay, is one that receivers believe.

MX, SPF (RFC 7208), DKIM (RFC 6376, RFC 8301), DMARC (RFC 9989), MTA-STS (RFC 8461), TLS-RPT (RFC 8460), BIMI. Inquiries
ask and return what they found; `posture_lines` says what it means, with the record to publish. What the DNS did not
answer is unknown: it is never taken for missing.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dispatcher.core import spf
from dispatcher.core.dmarc import POLICIES, Policy, Walk, aligned, asked, steps
from dispatcher.core.dns import Answer, Inquiry, ask, tags, txt_record
from dispatcher.core.preflight import Line, Part, ok, problem, warning
from dispatcher.core.sts import Fetched, has_policy, sts_line

WEAK: Final = 1024
"""Bits of an RSA key below which nobody verifies (RFC 8301 §3.2)."""
GOOD: Final = 2048
_PART: Final = Part.SENDER


@dataclass(frozen=True, slots=True)
class Sender:
    """What is looked up. `addresses` are those the relay sends from, if that is known, `include` its SPF name.

    `unsure` says why it is not known. `helo` is the name that the relay is greeted with. `rewriter` is the service that
    puts a return path of its own in place of ours.
    """

    from_domain: str
    path_domain: str
    reply_domain: str
    reports_to: str
    selectors: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    include: str = ""
    unsure: str = ""
    helo: str = "unknown"
    rewriter: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """Whether a domain takes mail: its MX hosts, or an address of its own (RFC 5321 §5.1)."""

    domain: str
    hosts: tuple[str, ...] = ()
    address: bool = False
    exists: bool = True
    unknown: str = ""

    @property
    def null(self) -> bool:
        """The null MX: this domain takes no mail (RFC 7505)."""
        return self.hosts == (".",)

    @property
    def takes(self) -> bool:
        return bool(self.hosts or self.address) and not self.null


@dataclass(frozen=True, slots=True)
class Spf:
    """The whole record, and a check for each address of the relay."""

    cost: spf.Cost
    checks: Mapping[str, spf.Checked]


@dataclass(frozen=True, slots=True)
class Dkim:
    """One selector: its record, or why there is none.

    `wanted` is the record, as a zone has it, that our own key needs there, if it is not that one. `above` is the domain
    above the From address's where it was looked for, '' for that itself.
    """

    selector: str
    record: str = ""
    several: int = 0
    unknown: str = ""
    wanted: str = ""
    above: str = ""


@dataclass(frozen=True, slots=True)
class Posture:
    """All that was found; `dmarc` from the From address's domain upwards, `path_dmarc` from the return path's."""

    mail: Mail
    path: Mail
    reply: Mail
    spf: Spf
    dkim: Sequence[Dkim]
    dmarc: Walk
    path_dmarc: Walk
    others: Mapping[str, Answer] = field(default_factory=dict)
    sts: Fetched | None = None

    @property
    def policy(self) -> Policy | None:
        return self.dmarc.policy(exists=self.mail.exists)

    def verdicts(self) -> Mapping[str, bool | None]:
        """Whether each record is there and written by the rules; None if that is unknown."""
        whole, policy = self.spf.cost, self.policy
        well = policy is not None and set(asked(policy.record).values()) <= set(POLICIES)
        alone = self.dmarc.domain not in self.dmarc.several
        sts, tls = self.others["MTA-STS"], self.others["TLS-RPT"]
        return {
            "SPF": None if whole.unknown else bool(whole.record) and not whole.fault and whole.lookups <= spf.LOOKUPS,
            "DMARC": None if self.dmarc.unknown and policy is None else well and alone,
            "TLS-RPT": None if tls.unknown else any(_RUA.search(record) for record in _of("TLS-RPT", tls)),
            "MTA-STS": None if sts.unknown else has_policy(sts.records),
        }


# Inquiries.


def mail_of(domain: str) -> Inquiry[Mail]:
    """Whether a domain takes mail."""
    answer = yield from ask(domain, "MX")
    if answer.unknown or not answer.exists:
        return Mail(domain, exists=answer.exists, unknown=answer.unknown)
    ranked = sorted((int(rank), host) for rank, _, host in (record.partition(" ") for record in answer.records))
    if ranked:
        return Mail(domain, tuple(host for _, host in ranked))
    for kind in ("A", "AAAA"):
        found = yield from ask(domain, kind)
        if found.unknown:
            return Mail(domain, unknown=found.unknown)
        if found.records:
            return Mail(domain, address=True)
    return Mail(domain)


def spf_of(sender: Sender) -> Inquiry[Spf]:
    """SPF of the return path's domain, whole, and for each address of the relay."""
    whole = yield from spf.cost(sender.path_domain)
    checks = {}
    if whole.record and not whole.unknown:
        for address in sender.addresses:
            path = f"postmaster@{sender.path_domain}"
            checks[address] = yield from spf.check(ipaddress.ip_address(address), path, sender.helo)
    return Spf(whole, checks)


def dkim_of(domain: str, selector: str) -> Inquiry[Dkim]:
    """The key that is published under a selector (RFC 6376 §3.6.2)."""
    answer = yield from ask(f"{selector}._domainkey.{domain}", "TXT")
    found = [record for record in answer.records if "p" in tags(record)]
    return Dkim(selector, found[0] if found else "", len(found), answer.unknown)


def dkim_above(domain: str, selector: str) -> Inquiry[Dkim]:
    """The same; if there is none, the nearest that a domain above publishes: whoever signs may sign for that one."""
    own = yield from dkim_of(domain, selector)
    for at in () if own.record or own.unknown else steps(domain)[1:-1]:
        found = yield from dkim_of(at, selector)
        if found.record or found.unknown:
            return replace(found, above=at)
    return own


STS: Final = "_mta-sts"
OTHERS: Final[Mapping[str, tuple[str, str]]] = {
    "MTA-STS": (STS, "v=STSv1"),
    "TLS-RPT": ("_smtp._tls", "v=TLSRPTv1"),
    "BIMI": ("default._bimi", "v=BIMI1"),
}
"""Records that say something of mail to this domain, or of a logo: where they stand, and how they begin."""


# What it means.


def posture_lines(sender: Sender, found: Posture) -> Iterator[Line]:
    """How it stands with the sender's domain."""
    yield _mail("MX", found.mail, "the domain of your address")
    if sender.path_domain != sender.from_domain:
        yield _mail("return path", found.path, "the domain that bounces go to")
    if sender.reply_domain not in (sender.from_domain, sender.path_domain):
        yield _mail("replies", found.reply, "the domain that answers go to")
    yield from _spf(sender, found.spf)
    yield from _dkim(sender, found)
    yield _dmarc(sender, found)
    yield from _alignment(sender, found)
    for name, answer in found.others.items():
        if name == "MTA-STS" and not answer.unknown:
            yield sts_line(answer.records, found.mail.hosts, found.sts)
        else:
            yield _other(name, answer)


def _mail(subject: str, mail: Mail, which: str) -> Line:
    if mail.unknown:
        return warning(_PART, subject, f"unknown: {mail.domain}: {mail.unknown}", _AGAIN)
    if not mail.exists:
        todo = "mend the address under [sender]: receivers refuse a sender whose domain does not exist"
        return problem(_PART, subject, f"{mail.domain}, {which}, does not exist", todo)
    if mail.null:
        todo = "write from a domain that takes mail: many receivers refuse one that does not"
        return problem(_PART, subject, f"{mail.domain}, {which}, says that it takes no mail (null MX)", todo)
    if mail.hosts:
        return ok(_PART, subject, f"{mail.domain}: {', '.join(mail.hosts[:3])}")
    if mail.address:
        what = f"{mail.domain}, {which}, has no MX; mail goes to its own address"
        return warning(_PART, subject, what, "publish an MX record, if a mail server stands elsewhere")
    todo = "publish an MX record, or write from another domain: answers and bounces reach nobody"
    return problem(_PART, subject, f"{mail.domain}, {which}, takes no mail: it has neither MX nor address", todo)


_AGAIN: Final = "try again; if it stays so, ask whoever runs the domain's name servers"


# SPF.


def _spf(sender: Sender, found: Spf) -> Iterator[Line]:
    whole, domain = found.cost, sender.path_domain
    if sender.rewriter:
        yield ok(_PART, "SPF", f"receivers ask about {sender.rewriter}'s return path, not about {domain}")
        return
    if whole.unknown:
        yield warning(_PART, "SPF", f"unknown: {whole.unknown}", _AGAIN)
        return
    if whole.fault:
        yield problem(_PART, "SPF", whole.fault, "mend the record: receivers take a wrong one for none")
        return
    if not whole.record:
        records = [txt_record(domain, spf.with_term("", term)) for term in _terms(sender)]
        todo = "publish one; large receivers take no mail without SPF or DKIM"
        yield warning(_PART, "SPF", f"{domain} publishes no SPF record", todo, records=records[:1])
        return
    yield _cost(whole, domain)
    yield _passes(sender, found)
    if whole.ends_in == "all":
        todo = "end it in ~all or -all: as it is anybody passes, and receivers know that"
        yield warning(_PART, "SPF", f"the record of {domain} lets everybody send: +all", todo)


def _cost(whole: spf.Cost, domain: str) -> Line:
    what = f"{domain} takes {whole.lookups} of {spf.LOOKUPS} look-ups: {whole.record}"
    if whole.lookups > spf.LOOKUPS:
        todo = "take out what you do not use, or put addresses in place of includes: receivers stop at the limit"
        return problem(_PART, "SPF look-ups", what, todo)
    return ok(_PART, "SPF look-ups", what)


def _terms(sender: Sender) -> list[str]:
    """What lets the relay pass."""
    if sender.include:
        return [f"include:{sender.include}"]
    return [f"ip{ipaddress.ip_address(address).version}:{address}" for address in sender.addresses]


def _passes(sender: Sender, found: Spf) -> Line:
    """Whether this relay may send for the return path's domain."""
    if sender.include:
        if sender.include in found.cost.taken_in:
            return ok(_PART, "SPF", f"lets this relay send: includes {sender.include}")
        what = f"{sender.path_domain} does not include {sender.include}, where this relay's addresses are"
        return problem(_PART, "SPF", what, _REPLACE, records=_mended(sender, found.cost.record))
    if not found.checks:
        return warning(_PART, "SPF", f"unknown: whether this relay may send: {sender.unsure}", _WHICH)
    bad = {address: each for address, each in found.checks.items() if each.result is not spf.Result.PASS}
    if not bad:
        passed = "; ".join(f"{address} by {each.why}" for address, each in found.checks.items())
        return ok(_PART, "SPF", f"lets this relay send: {passed}")
    address, each = next(iter(bad.items()))
    return _not_passed(sender, found.cost.record, address, each)


def _not_passed(sender: Sender, record: str, address: str, found: spf.Checked) -> Line:
    if found.result is spf.Result.TEMPERROR:
        return warning(_PART, "SPF", found.why, _AGAIN)
    what = f"{address} gets {found.result}: {found.why}"
    if found.result in (spf.Result.FAIL, spf.Result.PERMERROR) and not sender.unsure:
        return problem(_PART, "SPF", what, _REPLACE, records=_mended(sender, record))
    todo = f"{_REPLACE}, if the relay sends from that address; else {_WHICH}"
    return warning(_PART, "SPF", what, todo, records=_mended(sender, record))


_REPLACE: Final = "publish it in place of the old record"
_WHICH: Final = (
    'say which, under [preflight] in campaign.toml: relay_addresses = ["…"] or relay_include = "…", as the relay\'s '
    "own pages have it"
)


def _mended(sender: Sender, record: str) -> list[str]:
    for term in _terms(sender):
        record = spf.with_term(record, term)
    return [txt_record(sender.path_domain, record)]


# DKIM.


def _dkim(sender: Sender, found: Posture) -> Iterator[Line]:
    if not found.dkim:
        todo = (
            "look for s= in the DKIM-Signature of a test (dispatcher send --test-to), and say it under [preflight] in "
            'campaign.toml: dkim_selectors = ["…"]'
        )
        yield warning(_PART, "DKIM", "unknown: nobody has said by which selector letters are signed", todo)
        return
    for each in found.dkim:
        if each.wanted and each.several < 2:
            yield _another(sender.from_domain, each)
        else:
            yield _key(each.above or sender.from_domain, each, one_of_many=len(found.dkim) > 1)


def _another(domain: str, found: Dkim) -> Line:
    """What is published is not what our own key needs."""
    what = "publishes another key than the one that signs" if found.record else "is not published"
    todo = "publish this in place of it" if found.record else "publish this; others see it after some time"
    return problem(_PART, "DKIM", f"{found.selector}._domainkey.{domain} {what}", todo, records=[found.wanted])


def _key(domain: str, found: Dkim, *, one_of_many: bool) -> Line:
    name = f"{found.selector}._domainkey.{domain}"
    if found.unknown:
        return warning(_PART, "DKIM", f"unknown: {name}: {found.unknown}", _AGAIN)
    if not found.record:
        todo = "publish the record that whoever signs gives you, and switch signing on there"
        say = warning if one_of_many else problem
        return say(_PART, "DKIM", f"{name} is not published", todo)
    if found.several > 1:
        todo = "leave one: which of them counts is anybody's guess"
        return problem(_PART, "DKIM", f"{name} has {found.several} records", todo)
    said = tags(found.record)
    if not said["p"]:
        todo = "publish the key in use, or sign by another"
        return problem(_PART, "DKIM", f"{name} is revoked: its key is empty", todo)
    if said.get("k", "rsa").lower() == "ed25519":
        what = f"{name}: Ed25519, which not every receiver knows"
        return ok(_PART, "DKIM", what) if one_of_many else warning(_PART, "DKIM", what, "sign with an RSA key as well")
    return _rsa(name, key_bits(said["p"]), test="y" in said.get("t", "").split(":"))


def _rsa(name: str, bits: int | None, *, test: bool) -> Line:
    if bits is None:
        return problem(_PART, "DKIM", f"{name} holds no key that can be read", "publish it anew, in one piece")
    what = f"{name}: RSA, {bits:,} bits"
    if bits < WEAK:
        return problem(_PART, "DKIM", what, f"make a key of {GOOD:,} bits: receivers take none below {WEAK:,}")
    if test:
        return warning(_PART, "DKIM", f"{what}, as a test (t=y)", "publish it without t=y")
    if bits < GOOD:
        return warning(_PART, "DKIM", what, f"make a key of {GOOD:,} bits when you can")
    return ok(_PART, "DKIM", what)


def key_bits(text: str) -> int | None:
    """The length of an RSA key in a record: SubjectPublicKeyInfo, or RSAPublicKey alone (RFC 8017). None: no key."""
    try:
        octets = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return _modulus(octets)


def _modulus(octets: bytes) -> int | None:
    """The first INTEGER, in as many SEQUENCEs and BIT STRINGs as it takes (X.690 §8); an algorithm is passed over."""
    at = 0
    while at + 2 <= len(octets):
        tag, length = octets[at], octets[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(octets[at : at + count], "big")
            at += count
        if tag == 0x02:
            value = octets[at : at + length]
            return int.from_bytes(value, "big").bit_length() if length and len(value) == length else None
        if tag == 0x03:
            at += 1  # bits that are not used
        elif tag == 0x30 and octets[at : at + 1] == b"\x06":
            at += length  # the algorithm's name
        elif tag != 0x30:
            return None
    return None


# DMARC, and whether any of it counts for the address that people see.


def _dmarc(sender: Sender, found: Posture) -> Line:
    up, policy = found.dmarc, found.policy
    spoilt = next(iter(up.several), "")
    if spoilt and (policy is None or spoilt == sender.from_domain):
        what = f"_dmarc.{spoilt} has {up.several[spoilt]} policies"
        return problem(_PART, "DMARC", what, "leave one: receivers use none")
    if policy is None and up.unknown:
        return warning(_PART, "DMARC", f"unknown: {up.unknown}", _AGAIN)
    if policy is None:
        record = txt_record(f"_dmarc.{sender.from_domain}", f"v=DMARC1; p=none; rua=mailto:{sender.reports_to}")
        todo = "publish one; large receivers want it of whoever sends thousands of letters a day"
        return warning(_PART, "DMARC", f"{sender.from_domain} publishes no policy", todo, records=[record])
    bad = [tag for tag, value in asked(policy.record).items() if value not in POLICIES]
    if bad:
        what = f"_dmarc.{policy.at} has no good {bad[0]}=: {policy.record}"
        return warning(_PART, "DMARC", what, f"write {bad[0]}=none, quarantine or reject")
    return ok(_PART, "DMARC", f"_dmarc.{policy.at}: {policy.record}{_of_this(sender, policy)}")


def _of_this(sender: Sender, policy: Policy) -> str:
    """Which part of another domain's record is about this one; and that it is a test."""
    about = f"; for {sender.from_domain} it is {policy.tag}={policy.value}" if policy.at != sender.from_domain else ""
    return about + (f"; a test (t=y), to be taken for {policy.action}" if policy.tested else "")


def _alignment(sender: Sender, found: Posture) -> Iterator[Line]:
    """A letter passes DMARC by SPF or by DKIM, for the domain that people see."""
    policy = found.policy
    strict = policy is not None and tags(policy.record).get("aspf", "r").lower() == "s"
    of_path = aligned(found.dmarc, found.path_dmarc, strict=strict)
    by_spf = bool(of_path) and _spf_passes(sender, found.spf)
    by_dkim = any(_is_good(each) and _counts(each, found) for each in found.dkim)
    shown = f"From {sender.from_domain}, return path {sender.path_domain}"
    if by_spf or by_dkim:
        ways = [way for way, is_so in (("SPF", by_spf), ("DKIM", by_dkim)) if is_so]
        yield ok(_PART, "alignment", f"{shown}: the From address passes by {' and '.join(ways)}")
        return
    because = "; SPF does not count: it is about another domain than the one people see" if of_path is False else ""
    if of_path is None or _unsure(sender, found):
        yield warning(_PART, "alignment", f"unknown: {shown}: nothing shown yet that passes{because}", _SETTLE)
        return
    todo = "let this relay pass SPF with a return path of your own domain, or have letters signed for it by DKIM"
    if policy and policy.action != "none":
        what = f"{shown}: neither SPF nor DKIM passes, and your own policy is {policy.tag}={policy.value}{because}"
        yield problem(_PART, "alignment", what, todo)
    else:
        yield warning(_PART, "alignment", f"{shown}: neither SPF nor DKIM passes{because}", todo)


_SETTLE: Final = "settle what is unknown above"


def _spf_passes(sender: Sender, found: Spf) -> bool:
    if found.cost.fault or found.cost.lookups > spf.LOOKUPS:
        return False
    if sender.include:
        return sender.include in found.cost.taken_in
    results = {each.result for each in found.checks.values()}
    return results == {spf.Result.PASS}


def _counts(key: Dkim, found: Posture) -> bool:
    """Whether a signature by this key is one for the From address's domain, or for its organisation's."""
    policy = found.policy
    strict = policy is not None and tags(policy.record).get("adkim", "r").lower() == "s"
    return aligned(found.dmarc, found.dmarc.from_above(key.above), strict=strict) is True


def _is_good(found: Dkim) -> bool:
    said = tags(found.record)
    if found.several != 1 or found.wanted or not said.get("p"):
        return False
    return said.get("k", "rsa").lower() == "ed25519" or (key_bits(said["p"]) or 0) >= WEAK


def _unsure(sender: Sender, found: Posture) -> bool:
    """Whether what is not known could still make it pass."""
    checks = found.spf.checks.values()
    of_spf = found.spf.cost.unknown or any(each.result is spf.Result.TEMPERROR for each in checks)
    of_relay = bool(found.spf.cost.record) and not sender.include and (not checks or bool(sender.unsure))
    of_relay |= bool(sender.rewriter)  # it may have been given a domain below ours for its return path
    of_dkim = not found.dkim or any(each.unknown for each in found.dkim)
    return bool(of_spf or of_relay or of_dkim or (found.dmarc.unknown and found.policy is None))


def _of(name: str, answer: Answer) -> list[str]:
    """The records that are of this kind."""
    begin = OTHERS[name][1].lower()
    return [record for record in answer.records if record.replace(" ", "").lower().startswith(begin)]


_RUA: Final = re.compile(r";\s*rua=\s*(mailto:|https://)", re.IGNORECASE)


def _other(name: str, answer: Answer) -> Line:
    """Information alone."""
    found = _of(name, answer)
    about = "your logo beside your letters" if name == "BIMI" else "mail to you, not these letters"
    if answer.unknown:
        return ok(_PART, name, f"unknown: {answer.unknown}; it is about {about}")
    if name == "TLS-RPT" and found and not _RUA.search(found[0]):
        todo = "write rua=mailto:… in it (RFC 8460 §3), or take it away"
        return warning(_PART, name, f"names nobody who gets the reports: {found[0]}", todo)
    return ok(_PART, name, f"{found[0] if found else 'none'}; it is about {about}")
