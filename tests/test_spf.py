"""SPF by the rules of RFC 7208: the examples of its appendix A, its limits, and records that mean harm."""

import ipaddress
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core import spf
from dispatcher.core.dns import Answer, Inquiry, Question, T

Zone = Mapping[tuple[str, str], tuple[str, ...] | str]
ORCHARD = "orchard.example"


def settle(inquiry: Inquiry[T], zone: Zone) -> T:
    """Answered from a table; a text in place of records says why nobody can tell."""
    names = {name for name, _ in zone}
    try:
        question: Question = next(inquiry)
        while True:
            said = zone.get((question.name.lower(), question.kind), ())
            if isinstance(said, str):
                answer = Answer(unknown=said)
            else:
                answer = Answer(said, exists=question.name.lower() in names)
            question = inquiry.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def checked(record: str, address: str, more: Zone | None = None) -> spf.Checked:
    zone: Zone = {(ORCHARD, "TXT"): ("other=1", record), **(more or {})}
    return settle(spf.check(ipaddress.ip_address(address), f"strong-bad@{ORCHARD}", "mail.relay.example"), zone)


APPENDIX: Zone = {
    (ORCHARD, "MX"): ("10 mail-a.orchard.example", "20 mail-b.orchard.example"),
    (ORCHARD, "A"): ("192.0.2.10", "192.0.2.11"),
    ("amy.orchard.example", "A"): ("192.0.2.65",),
    ("mail-a.orchard.example", "A"): ("192.0.2.129",),
    ("mail-b.orchard.example", "A"): ("192.0.2.130",),
    ("mail-c.example", "A"): ("192.0.2.140",),
    ("mail-c.example", "MX"): ("10 mail-c.example",),
    ("10.2.0.192.in-addr.arpa", "PTR"): (ORCHARD,),
    ("65.2.0.192.in-addr.arpa", "PTR"): ("amy.orchard.example",),
    ("140.2.0.192.in-addr.arpa", "PTR"): ("mail-c.example",),
}


@pytest.mark.parametrize(
    ("record", "passes", "others"),
    [
        ("v=spf1 +all", ["192.0.2.129", "198.51.100.1"], []),
        ("v=spf1 a -all", ["192.0.2.10", "192.0.2.11"], ["192.0.2.12"]),
        ("v=spf1 a:mail-c.example -all", ["192.0.2.140"], ["192.0.2.10"]),
        ("v=spf1 mx -all", ["192.0.2.129", "192.0.2.130"], ["192.0.2.10"]),
        ("v=spf1 mx:mail-c.example -all", ["192.0.2.140"], ["192.0.2.129"]),
        ("v=spf1 mx mx:mail-c.example -all", ["192.0.2.129", "192.0.2.140"], ["192.0.2.10"]),
        ("v=spf1 mx/30 mx:mail-c.example/30 -all", ["192.0.2.131", "192.0.2.143"], ["192.0.2.132"]),
        ("v=spf1 ptr -all", ["192.0.2.10", "192.0.2.65"], ["192.0.2.140", "198.51.100.4"]),
        ("v=spf1 ip4:192.0.2.128/28 -all", ["192.0.2.129"], ["192.0.2.65"]),
    ],
)
def test_the_examples_of_the_rfc(record: str, passes: list[str], others: list[str]) -> None:
    """Appendix A.1, with names of this campaign's."""
    assert {checked(record, each, APPENDIX).result for each in passes} == {spf.Result.PASS}
    assert all(checked(record, each, APPENDIX).result is spf.Result.FAIL for each in others)


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 -all", "fail"),
        ("v=spf1 ~all", "softfail"),
        ("v=spf1 ?all", "neutral"),
        ("v=spf1", "neutral"),
        ("v=spf1 ip6:2001:db8::/32 ~all", "softfail"),
        ("v=spf10 -all", "none"),
        ("v=spf1 ip4:192.0.2.300 -all", "permerror"),
        ("v=spf1 ip4:192.0.2.0/33 -all", "permerror"),
        ("v=spf1 ip4:2001:db8:: -all", "permerror"),
        ("v=spf1 a/33 -all", "permerror"),
        ("v=spf1 mail.example -all", "permerror"),
        ("v=spf1 include -all", "permerror"),
        ("v=spf1 -all:x", "permerror"),
        ("v=spf1 exists:%(i) -all", "permerror"),
        ("v=spf1 exists:%{i -all", "permerror"),
        ("v=spf1 redirect=a.example redirect=b.example", "permerror"),
        ("v=spf1 x-thing=1 -all", "fail"),
        ("v=spf1 redirect=nobody.example", "permerror"),
        ("v=spf1 include:nobody.example -all", "permerror"),
        ("V=SPF1 IP4:192.0.2.1 -ALL", "pass"),
        ("v=spf1  ip4:192.0.2.1   -all", "pass"),
        ("v=spf1 redirect=ok.example", "pass"),
        ("v=spf1 -all redirect=ok.example", "fail"),
        ("v=spf1 include:ok.example -all", "pass"),
        ("v=spf1 include:bad.example -all", "fail"),
        ("v=spf1 include:broken.example -all", "permerror"),
        ("v=spf1 include:dark.example -all", "temperror"),
        ("v=spf1 a:dark.example -all", "temperror"),
        ("v=spf1 exists:%{ir}.%{v}._spf.%{d2} -all", "pass"),
        ("v=spf1 exists:%{l1r-}.lists.example -all", "pass"),
        ("v=spf1 include:two.example -all", "permerror"),
    ],
)
def test_what_a_record_comes_to(record: str, result: str) -> None:
    more: Zone = {
        ("ok.example", "TXT"): ("v=spf1 ip4:192.0.2.1 -all",),
        ("bad.example", "TXT"): ("v=spf1 -all",),
        ("broken.example", "TXT"): ("v=spf1 nonsense",),
        ("two.example", "TXT"): ("v=spf1 -all", "v=spf1 +all"),
        ("dark.example", "TXT"): "SERVFAIL",
        ("dark.example", "A"): "SERVFAIL",
        ("1.2.0.192.in-addr._spf.orchard.example", "A"): ("127.0.0.2",),
        ("strong.lists.example", "A"): ("127.0.0.2",),
    }
    assert checked(record, "192.0.2.1", more).result == result


def test_at_ten_look_ups_receivers_stop() -> None:
    """§4.6.4: the tenth counts, the eleventh does not any more."""
    more: Zone = {(f"s{n}.example", "TXT"): (f"v=spf1 ip4:198.51.100.{n} -all",) for n in range(1, 13)}
    record = "v=spf1 " + " ".join(f"include:s{n}.example" for n in range(1, 13)) + " -all"
    assert checked(record, "198.51.100.10", more).result is spf.Result.PASS
    found = checked(record, "198.51.100.11", more)
    assert found.result is spf.Result.PERMERROR
    assert "more than 10 look-ups" in found.why
    whole = settle(spf.cost(ORCHARD), {(ORCHARD, "TXT"): (record,), **more})
    assert (whole.lookups, whole.fault) == (12, "")


def test_two_names_without_records_are_forgiven() -> None:
    assert checked("v=spf1 a:x.example a:y.example -all", "192.0.2.1").result is spf.Result.FAIL
    found = checked("v=spf1 a:x.example a:y.example a:z.example -all", "192.0.2.1")
    assert (found.result, "z.example" in found.why) == (spf.Result.PERMERROR, True)


def test_a_record_that_includes_itself_has_an_end() -> None:
    more: Zone = {
        (ORCHARD, "TXT"): ("v=spf1 include:b.example -all",),
        ("b.example", "TXT"): ("v=spf1 include:orchard.example",),
    }
    found = settle(spf.check(ipaddress.ip_address("192.0.2.1"), f"x@{ORCHARD}", "h"), more)
    assert found.result is spf.Result.PERMERROR
    assert "which includes it in turn" in settle(spf.cost(ORCHARD), more).fault


class Endless(dict[tuple[str, str], tuple[str, ...] | str]):
    """A name server that has two includes under every name, and remembers what it was asked."""

    asked = 0

    def get(self, key: tuple[str, str], default: object = None) -> tuple[str, ...]:
        self.asked += 1
        return (f"v=spf1 include:n{self.asked}.example include:m{self.asked}.example",)


def test_a_record_without_an_end_is_given_up() -> None:
    zone = Endless()
    assert settle(spf.cost(ORCHARD), zone).lookups > spf.LOOKUPS
    assert zone.asked <= 50


def test_what_a_record_takes_in_is_named() -> None:
    more: Zone = {
        (ORCHARD, "TXT"): ("v=spf1 include:_SPF.mail.example a mx ~all",),
        ("_spf.mail.example", "TXT"): ("v=spf1 redirect=_nets.mail.example",),
        ("_nets.mail.example", "TXT"): ("v=spf1 ip4:192.0.2.0/24 ~all",),
    }
    found = settle(spf.cost(ORCHARD), more)
    assert found.taken_in == ["_spf.mail.example", "_nets.mail.example"]
    assert (found.lookups, found.ends_in) == (4, "~all")


@pytest.mark.parametrize(
    ("record", "mended"),
    [
        ("v=spf1 mx -all", "v=spf1 mx include:x.example -all"),
        ("v=spf1 redirect=y.example", "v=spf1 include:x.example redirect=y.example"),
        ("v=spf1 mx", "v=spf1 mx include:x.example"),
        ("", "v=spf1 include:x.example ~all"),
    ],
)
def test_one_more_term(record: str, mended: str) -> None:
    assert spf.with_term(record, "include:x.example") == mended


@given(st.text(max_size=80), st.ip_addresses())
def test_no_text_breaks_it(text: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    zone: Zone = {(ORCHARD, "TXT"): (f"v=spf1 {text}",)}
    assert settle(spf.check(address, f"x@{ORCHARD}", "h"), zone).result in spf.Result
    settle(spf.cost(ORCHARD), zone)
