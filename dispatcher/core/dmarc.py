"""DMARC (RFC 9989, in place of RFC 7489): what policy a domain is under, and which domains are one organisation's.

Both are found by a walk up the tree of names (§4.10), so no list of public suffixes is needed: two names below co.uk
meet in no record, or in one by which co.uk itself says that it is a registry's (psd=y). A name on the way that gives no
answer leaves unknown whatever depends on it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dispatcher.core.dns import Inquiry, ask, tags

POLICIES: Final = ("none", "quarantine", "reject")
_RECORD: Final = re.compile(r"[vV][ \t]*=[ \t]*DMARC1[ \t]*(;|\Z)")
_DEEPEST: Final = 8
"""Names that are asked about at most; of a longer one the walk skips to its last seven labels."""
_TESTED: Final[Mapping[str, str]] = {"reject": "quarantine", "quarantine": "none"}
"""What receivers take a policy for while it is tested (t=y, §4.7)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of receivers: which tag of the record at which domain says so."""

    at: str
    record: str
    tag: str
    value: str
    tested: bool = False

    @property
    def action(self) -> str:
        """What receivers do to a letter that does not pass; "none" if the record does not say it well (§4.7)."""
        if any(value not in POLICIES for value in asked(self.record).values()):
            return "none"
        return _TESTED.get(self.value, "none") if self.tested else self.value


def asked(record: str) -> Mapping[str, str]:
    """What a record asks, by the tags that are there; p is there in any case."""
    said = tags(record)
    return {tag: said.get(tag, "").lower() for tag in ("p", "sp", "np") if tag == "p" or tag in said}


@dataclass(frozen=True, slots=True)
class Walk:
    """The records on the way up from a domain, the nearest first.

    `several` says where more than one stand, and how many: none of those counts (§4.10). `unknown` says which name gave
    no answer.
    """

    domain: str
    records: Mapping[str, str] = field(default_factory=dict)
    several: Mapping[str, int] = field(default_factory=dict)
    unknown: str = ""

    @property
    def organisation(self) -> str:
        """The organisational domain (§4.10.2)."""
        for at, record in self.records.items():
            public = tags(record).get("psd", "").lower()
            if public == "n":
                return at
            if public == "y" and at != self.domain:
                return ".".join(self.domain.split(".")[-at.count(".") - 2 :])
        return [self.domain, *self.records][-1]

    def from_above(self, domain: str) -> "Walk":
        """The same from a domain further up, which is on the way; '' is this one itself."""
        if not domain:
            return self
        on = {at: record for at, record in self.records.items() if f".{domain}".endswith(f".{at}")}
        return Walk(domain, on, unknown=self.unknown)

    def policy(self, *, exists: bool = True) -> Policy | None:
        """The domain's own, else the organisation's, else that of the public suffix (§4.10.1); None: none, or unknown.

        Below its own domain a record asks what sp= says or, if the domain does not exist, np=; else p=.
        """
        near = (self.domain,) if self.unknown else (self.domain, self.organisation, *list(self.records)[-1:])
        at = next((domain for domain in near if domain in self.records), "")
        if not at:
            return None
        said = asked(self.records[at])
        wanted = ("p",) if at == self.domain else ("sp", "p") if exists else ("np", "sp", "p")
        tag = next(tag for tag in wanted if tag in said)
        tested = tags(self.records[at]).get("t", "").lower() == "y"
        return Policy(at, self.records[at], tag, said[tag], tested)


def walk(domain: str) -> Inquiry[Walk]:
    """Ask for the records of a domain and of those above it."""
    records: dict[str, str] = {}
    several: dict[str, int] = {}
    for at in steps(domain):
        answer = yield from ask(f"_dmarc.{at}", "TXT")
        if answer.unknown:
            return Walk(domain, records, several, f"_dmarc.{at}: {answer.unknown}")
        found = [record for record in answer.records if _RECORD.match(record)]
        if len(found) > 1:
            several[at] = len(found)
        elif found:
            records[at] = found[0]
            if tags(found[0]).get("psd", "").lower() in ("y", "n"):
                break
    return Walk(domain, records, several)


def steps(domain: str) -> list[str]:
    """The domain, and those above it that are asked (§4.10)."""
    labels = domain.split(".")
    first = 1 if len(labels) <= _DEEPEST else len(labels) - _DEEPEST + 1
    return [domain, *(".".join(labels[n:]) for n in range(first, len(labels)))]


def aligned(author: Walk, other: Walk, *, strict: bool) -> bool | None:
    """Whether another domain counts for that of the From address (§4.4); None: unknown.

    While nobody publishes a policy, one below the other counts, as it will once the author's domain has one.
    """
    if author.domain == other.domain:
        return True
    if strict:
        return False
    if author.unknown or other.unknown:
        return None
    if not author.records:
        return other.domain.endswith(f".{author.domain}")
    return author.organisation == other.organisation
