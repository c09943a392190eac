"""DMARC's walk up the tree of names, by the examples of RFC 9989 and against checkdmarc; without a list of suffixes."""

import pytest
from checkdmarc.dmarc import DMARCRecordNotFound, query_dmarc_record
from checkdmarc.utils import DNS_CACHE
from dns.resolver import Resolver
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.dmarc import Policy, Walk, aligned, steps, walk
from tests.servers.names import NameServer
from tests.test_spf import Zone, settle


def walked(domain: str, records: dict[str, str]) -> Walk:
    """A walk where these domains publish these records."""
    zone: Zone = {(f"_dmarc.{at}", "TXT"): (record,) for at, record in records.items()}
    return settle(walk(domain), zone)


REST = "v=DMARC1; p=none"
REGISTRY = "v=DMARC1; p=reject; psd=y"
HERE = "v=DMARC1; p=none; psd=n"


def test_a_long_name_takes_eight_questions() -> None:
    """§4.10: the first name whole, then the last seven labels."""
    assert steps("a.b.c.d.e.f.g.h.i.j.mail.example.com") == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com", "h.i.j.mail.example.com",
        "i.j.mail.example.com", "j.mail.example.com", "mail.example.com", "example.com", "com",
    ]  # fmt: skip
    assert steps("mail.example.com") == ["mail.example.com", "example.com", "com"]
    for labels in range(1, 20):
        asked = steps(".".join("x" * labels))
        assert len(asked) == min(labels, 8)
        assert len(set(asked)) == len(asked)


@pytest.mark.parametrize(
    ("domain", "records", "organisation"),
    [
        ("a.mail.example.com", {"mail.example.com": REST, "example.com": REST}, "example.com"),
        ("a.mail.example.com", {"mail.example.com": HERE, "example.com": REST}, "mail.example.com"),
        ("a.mail.example.com", {"com": REGISTRY}, "example.com"),
        ("a.mail.example.com", {}, "a.mail.example.com"),
        ("orchard.co.uk", {"co.uk": REGISTRY}, "orchard.co.uk"),
        ("news.orchard.co.uk", {"co.uk": REGISTRY, "orchard.co.uk": REST}, "orchard.co.uk"),
        ("news.orchard.co.uk", {"co.uk": REGISTRY, "news.orchard.co.uk": REST}, "orchard.co.uk"),
        ("co.uk", {"co.uk": REGISTRY}, "co.uk"),
        ("com", {"com": REGISTRY}, "com"),
    ],
)
def test_the_organisational_domain(domain: str, records: dict[str, str], organisation: str) -> None:
    """§4.10.2; the first three are the RFC's own."""
    assert walked(domain, records).organisation == organisation


@pytest.mark.parametrize(
    ("domain", "records", "exists", "found"),
    [
        ("example.com", {"example.com": "v=DMARC1; p=reject; sp=none"}, True, ("example.com", "p", "reject")),
        ("a.example.com", {"example.com": "v=DMARC1; p=reject; sp=none"}, True, ("example.com", "sp", "none")),
        ("a.example.com", {"example.com": "v=DMARC1; p=reject; np=none"}, True, ("example.com", "p", "reject")),
        ("a.example.com", {"example.com": "v=DMARC1; p=none; np=reject"}, False, ("example.com", "np", "reject")),
        ("a.example.com", {"example.com": "v=DMARC1; p=none; sp=reject"}, False, ("example.com", "sp", "reject")),
        ("a.b.example.com", {"b.example.com": REST, "example.com": "v=DMARC1; p=reject"}, True,
         ("example.com", "p", "reject")),
        ("a.example.com", {"com": "v=DMARC1; p=none; sp=quarantine; psd=y"}, True, ("com", "sp", "quarantine")),
        ("a.example.com", {"com": REGISTRY, "example.com": REST}, True, ("example.com", "p", "none")),
        ("a.co.uk", {"co.uk": REGISTRY, "uk": REST}, True, ("co.uk", "p", "reject")),
    ],
)  # fmt: skip
def test_the_policy(domain: str, records: dict[str, str], exists: bool, found: tuple[str, str, str]) -> None:
    """§4.10.1: the domain's own, the organisation's, the public suffix's; p, sp or np."""
    policy = walked(domain, records).policy(exists=exists)
    assert policy
    assert (policy.at, policy.tag, policy.value) == found


@pytest.mark.parametrize(
    ("record", "action"),
    [
        ("v=DMARC1; p=reject", "reject"),
        ("v=DMARC1; p=Reject; t=y", "quarantine"),
        ("v=DMARC1; p=quarantine; t=y", "none"),
        ("v=DMARC1; p=none; t=y", "none"),
        ("v=DMARC1; p=reject; sp=always", "none"),
        ("v=DMARC1; rua=mailto:x@example.com", "none"),
    ],
)
def test_what_receivers_do(record: str, action: str) -> None:
    policy = walked("example.com", {"example.com": record}).policy()
    assert isinstance(policy, Policy)
    assert policy.action == action


@pytest.mark.parametrize("record", ["v=dmarc1; p=none", "v=DMARC10; p=none", "p=none; v=DMARC1", "v=spf1 -all", ""])
def test_what_is_no_record(record: str) -> None:
    assert walked("example.com", {"example.com": record}).policy() is None


def test_of_two_records_none_counts() -> None:
    zone: Zone = {("_dmarc.a.example", "TXT"): (REST, "v=DMARC1; p=reject"), ("_dmarc.example", "TXT"): (REST,)}
    found = settle(walk("a.example"), zone)
    assert (found.several, found.organisation) == ({"a.example": 2}, "example")


def test_behind_a_name_without_an_answer_all_is_unknown() -> None:
    zone: Zone = {("_dmarc.a.b.example", "TXT"): (REST,), ("_dmarc.b.example", "TXT"): "SERVFAIL"}
    found = settle(walk("a.b.example"), zone)
    assert found.unknown == "_dmarc.b.example: SERVFAIL"
    assert found.policy(), "its own is known"
    assert settle(walk("c.b.example"), zone).policy() is None
    other = walked("b.example", {"b.example": REST})
    assert aligned(found, other, strict=False) is None
    assert aligned(found, other, strict=True) is False
    assert aligned(found, found, strict=True) is True


@pytest.mark.parametrize(
    ("author", "other", "records", "same"),
    [
        ("a.example", "a.example", {}, True),
        ("a.example", "b.a.example", {"a.example": REST}, True),
        ("b.a.example", "a.example", {"a.example": REST}, True),
        ("b.a.example", "c.a.example", {"a.example": REST}, True),
        ("b.a.example", "c.a.example", {"b.a.example": REST}, False),
        ("b.a.example", "c.a.example", {"a.example": REST, "b.a.example": HERE}, False),
        ("xa.example", "a.example", {"a.example": REST, "xa.example": REST}, False),
        ("a.co.uk", "b.co.uk", {"a.co.uk": REST}, False),
        ("a.co.uk", "b.co.uk", {"co.uk": REGISTRY}, False),
        ("a.co.uk", "b.co.uk", {"a.co.uk": REST, "b.co.uk": REST, "co.uk": REGISTRY}, False),
        ("a.co.uk", "x.a.co.uk", {"co.uk": REGISTRY}, True),
        ("a.example", "b.a.example", {}, True),
        ("b.a.example", "a.example", {}, False),
    ],
)
def test_when_two_domains_count_as_one(author: str, other: str, records: dict[str, str], same: bool) -> None:
    assert aligned(walked(author, records), walked(other, records), strict=False) is same


NAMES = ["a.b.orchard.example", "b.orchard.example", "orchard.example", "example"]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from([REST, "v=DMARC1; p=reject; sp=none", REGISTRY, HERE])))
def test_checkdmarc_finds_the_same_policy(records: dict[str, str]) -> None:
    """An independent judge, which asks a real name server."""
    DNS_CACHE.clear()
    rows = [f'_dmarc.{at}. TXT "{record}"' for at, record in records.items()]
    zone = "\n".join([f"{NAMES[0]}. A 192.0.2.1", *rows])
    with NameServer({"example": zone}) as server:
        resolver = Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], server.port
        try:
            theirs = query_dmarc_record(NAMES[0], resolver=resolver)["location"]
        except DMARCRecordNotFound:
            theirs = ""
    policy = walked(NAMES[0], records).policy()
    assert (policy.at if policy else "") == theirs
