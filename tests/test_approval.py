"""Approvals as values: what is signed says one thing only, the file shows every change, and one person counts once."""

import base64
import json
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.approval import (
    LONGEST_NAME,
    SKEW,
    Approval,
    PlanName,
    PublicKey,
    approver_name,
    judge,
    not_among,
    out_of_time,
    person_of,
)
from dispatcher.core.errors import UsageError

PLAN = PlanName("harvest-2026", 1, "ab" * 32)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def key(number: int, owner: str = "") -> PublicKey:
    return PublicKey(PublicKey.of(bytes([number]) * 32).key, owner)


def is_name(text: str) -> bool:
    try:
        return approver_name(text) == text
    except ValueError:
        return False


NAMES = (
    st.text(min_size=1, max_size=20).map(lambda t: unicodedata.normalize("NFC", " ".join(t.split()))).filter(is_name)
)
PLANS = st.builds(
    PlanName,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}", fullmatch=True),
    st.integers(1, 999_999_999),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)
APPROVALS = st.builds(Approval, PLANS, NAMES, st.datetimes(timezones=st.just(UTC)))


@given(APPROVALS, APPROVALS)
def test_two_approvals_never_have_one_text(one: Approval, other: Approval) -> None:
    assert (one.text() == other.text()) == (one == other)


@given(APPROVALS)
def test_the_text_is_six_lines_that_say_each_thing_once(approval: Approval) -> None:
    """No name can pass for another line: it is one line itself, also for readers with other line breaks."""
    text = approval.text().decode()
    assert text.splitlines() == text.split("\n")[:-1]
    said = dict(line.split(": ", 1) for line in text.splitlines()[1:])
    assert said == {
        "campaign": approval.plan.campaign, "revision": str(approval.plan.revision), "digest": approval.plan.digest,
        "name": approval.name, "time": approval.when,
    }  # fmt: skip


@given(APPROVALS, st.booleans())
def test_a_file_holds_what_was_put_in(approval: Approval, crlf: bool) -> None:
    octets = approval.to_file()
    assert Approval.from_file(octets.replace(b"\n", b"\r\n") if crlf else octets) == approval
    assert json.loads(octets)["campaign"] == approval.plan.campaign


@given(PLANS)
def test_a_plan_has_one_name(plan: PlanName) -> None:
    assert PlanName.parse(str(plan)) == plan


@pytest.mark.parametrize(
    "text", ["", "x", "a/1/ab", f"a/0/{'a' * 64}", f"a/1/{'A' * 64}", f"a/1/{'a' * 65}", f"/1/{'a' * 64}"]
)
def test_what_names_no_plan_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no plan"):
        PlanName.parse(text)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("x" * (LONGEST_NAME + 1), "longer"),
        ("Ada\u202e", "not show"),
        ("A\x00da", "not show"),
        ("Ada\u200b", "not show"),
        ("\ud800", "not show"),
    ],
)
def test_a_name_that_hides_something_is_refused(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        approver_name(name)


def test_a_name_is_written_in_one_way() -> None:
    assert approver_name("  Rene\u0301  d'Anjou\n") == "Ren\u00e9 d'Anjou"
    assert approver_name("می\u200cرا") == "می\u200cرا"
    with pytest.raises(ValueError, match="one form"):
        Approval(PLAN, "Rene\u0301", NOW)


def test_who_is_one_person() -> None:
    for other in (
        "ada pomme",
        "ADA POMME",
        "Ａｄａ Pomme",
        "Ada \u200dPomme",
        "Áda Pomme",
        "AdaPomme",
        "Ada-Pomme",
        "Ada Pomme.",
    ):
        assert person_of(other) == person_of("Ada Pomme")
    for one, other in (("Ada Pomme", "Ida Pomme"), ("សុខ", "សុខា"), ("*", "+"), ("Ada Pomme", "Ada Pomme 2")):
        assert person_of(one) != person_of(other)


@given(APPROVALS, st.data())
def test_no_octet_of_a_file_can_be_changed_unseen(approval: Approval, data: st.DataObject) -> None:
    """What is read is what is there, or nothing; so a change can only make another approval, whose text is another."""
    octets = bytearray(approval.to_file())
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = Approval.from_file(bytes(octets))
    except ValueError:
        return
    assert found.text() != approval.text() or found.key != approval.key or found.signature != approval.signature


@pytest.mark.parametrize("octets", [b"", b"[]", b"{}", b"\xff", b"null", b"[" * 100_000, b'{"campaign": 1}'])
def test_another_file_is_no_approval(octets: bytes) -> None:
    with pytest.raises(ValueError, match="no file that"):
        Approval.from_file(octets)


def test_what_is_written_otherwise_is_no_approval() -> None:
    octets = Approval(PLAN, "Ada", NOW).to_file()
    for changed in (octets + b"\n", octets.replace(b'"revision": 1', b'"revision": "1"'), octets[:-2] + b',"x": 1}\n'):
        with pytest.raises(ValueError, match="something was changed"):
            Approval.from_file(changed)


# Keys.


def test_a_line_of_a_public_key() -> None:
    line = f"{key(1).key} Ada  Pomme\n"
    assert PublicKey.parse(line) == PublicKey(key(1).key, "Ada Pomme")
    assert PublicKey.parse(key(1).key).owner == ""
    assert key(7).octets == b"\7" * 32


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-rsa AAAA",
        "ssh-ed25519",
        "ssh-ed25519 AAAA Ada",
        key(1).key[:-1],
        key(1).key + "=",
        "ssh-ed25519 " + base64.b64encode(key(1).blob + b"x").decode(),
        "ssh-ed25519 " + base64.b64encode(b"\0" * 51).decode(),
    ],
)
def test_what_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"id_ed25519\.pub"):
        PublicKey.parse(line)


# Who counts.


def counting(*approvals: Approval, approvers: tuple[PublicKey, ...] = (), bad: str = "") -> list[str]:
    def check(approval: Approval) -> str:
        return "the signature is not good" if approval.name == bad else ""

    return [judged.why_not for judged in judge(approvals, approvers, check)]


def test_two_people_are_two() -> None:
    assert counting(Approval(PLAN, "Ada", NOW), Approval(PLAN, "Bob", NOW)) == ["", ""]


def test_one_person_is_one_whatever_the_name_or_key() -> None:
    signed = Approval(PLAN, "Ada", NOW, key(1).key, "s")
    assert counting(signed, Approval(PLAN, "ADA", NOW))[1] == "this person has approved already"
    assert counting(signed, Approval(PLAN, "Bob", NOW, key(1).key, "s"))[1] == "this person has approved already"
    assert counting(signed, Approval(PLAN, "Bob", NOW, key(2).key, "s")) == ["", ""]


def test_a_bad_approval_takes_nobodys_place() -> None:
    bad, good = Approval(PLAN, "Eve", NOW, key(1).key, "s"), Approval(PLAN, "Ada", NOW, key(1).key, "s")
    assert counting(bad, good, bad="Eve") == ["the signature is not good", ""]


def test_only_approvers_count_where_they_are_named() -> None:
    known = (key(1, "Ada"), key(2))
    for approval, words in (
        (Approval(PLAN, "Ada", NOW), "not signed"),
        (Approval(PLAN, "Ada", NOW, key(3).key, "s"), "not among the approvers"),
        (Approval(PLAN, "Bob", NOW, key(1).key, "s"), "that of Ada"),
        (Approval(PLAN, "ada", NOW, key(1).key, "s"), ""),
        (Approval(PLAN, "Anybody", NOW, key(2).key, "s"), ""),
    ):
        found = not_among(approval, known)
        assert words in found
        assert bool(found) == bool(words)


def test_clocks_may_differ_by_a_day() -> None:
    late = Approval(PLAN, "Ada", NOW)
    assert not out_of_time(late, sealed=NOW + SKEW, now=NOW - SKEW)
    second = timedelta(seconds=1)
    assert "sealed later" in out_of_time(late, sealed=NOW + SKEW + second, now=NOW + SKEW + second)
    assert "not come yet" in out_of_time(late, sealed=NOW - 3 * SKEW, now=NOW - SKEW - second)
