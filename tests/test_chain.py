"""The chain itself, without a ledger: canonical JSON, the two storeys of a digest, and what verifying finds."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core import chain
from dispatcher.core.chain import KINDS, Link, Name

START = chain.start("6b1f7a52-0d8e-4d70-9f0e-2f5a5f1f1c11", "2009-10-01T09:30:00.000000+00:00")
EVENT = {"id": 7, "at": "2009-10-01", "kind": "resolved", "letter": 3, "subject": "accepted", "who": "ada", "why": "é"}
SALT = bytes(range(16))


def digest_of(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def linked(*commits: Sequence[int]) -> list[Link]:
    """A chain over events of these numbers."""
    links, head = [], START
    for number, ids in enumerate(commits, 1):
        names = b"".join(Name("event", n).octets for n in ids)
        digests = b"".join(digest_of(n) for n in ids)
        head = chain.next_link(head, names, digests)
        links.append(Link(number, names, digests, head))
    return links


def look(link: Link, names: Sequence[Name]) -> list[bytes | None]:
    return [digest_of(name.id) for name in names]


def test_canonical_json_is_that_of_rfc_8785() -> None:
    value: list[object] = [1, None, [], -5, 'é\n\x1f"\\/\x7f\u2028😀']
    assert chain.canonical(value) == '[1,null,[],-5,"é\\n\\u001f\\"\\\\/\x7f\u2028😀"]'.encode()


@pytest.mark.parametrize("value", [1.5, True, b"x", {"a": 1}, [[float("nan")]]])
def test_what_has_more_than_one_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        chain.canonical(value)


@given(st.lists(st.text() | st.integers(-(2**53), 2**53) | st.none()))
def test_canonical_json_is_read_back_as_it_was(value: list[object]) -> None:
    assert json.loads(chain.canonical(value)) == value


def test_a_rows_two_storeys_hold_each_column_once() -> None:
    for kind in KINDS.values():
        shared = set(kind.public) & set(kind.personal)
        assert shared <= {"rcpts"}, kind.name
        assert list(kind.public) == sorted(kind.public)
        assert list(kind.personal) == sorted(kind.personal)
    assert len({kind.number for kind in KINDS.values()}) == len(KINDS)


def test_a_digest_can_be_checked_without_what_is_personal() -> None:
    below = chain.personal_digest(SALT, chain.personal("event", EVENT))
    assert below == hashlib.sha256(SALT + '["accepted","ada","é"]'.encode()).digest()
    digest = chain.row_digest(chain.public("event", EVENT), below)
    assert digest == hashlib.sha256(b'["event","2009-10-01",7,"resolved",3]' + below).digest()


def test_an_attempts_replies_are_split_too() -> None:
    rcpt = {"mailbox": "a@b.example", "outcome": "accepted", "code": 250, "enhanced": "", "reply": "<a@b.example> ok"}
    names = {*KINDS["attempt"].public, *KINDS["attempt"].personal}
    row = {**dict.fromkeys(names, ""), "rcpts": [rcpt]}
    assert b'[[250,"","accepted"]]' in chain.public("attempt", row)
    assert b"b.example" not in chain.public("attempt", row)
    assert b'[["a@b.example","<a@b.example> ok"]]' in chain.personal("attempt", row)


def test_of_what_is_long_the_digest_stands_in() -> None:
    row = {name: f"a {name}" for name in (*KINDS["plan"].public, *KINDS["plan"].personal)}
    row["dictionary"] = b"\xff"  # type: ignore[assignment]
    assert json.loads(chain.personal("plan", row))[0] == hashlib.sha256(b"\xff").hexdigest()


def test_a_whole_chain_verifies() -> None:
    found = chain.verify(START, linked([1, 2], [3], [4, 5, 6]), look)
    assert found.fault is None
    assert (found.links, found.rows, found.head) == (3, 6, linked([1, 2], [3], [4, 5, 6])[-1].link)
    assert Name("event", 6) in found.seen
    assert Name("event", 7) not in found.seen
    assert Name("attempt", 6) not in found.seen


def test_the_first_row_that_was_changed_is_named() -> None:
    other = {2: digest_of(99), 5: digest_of(99)}
    found = chain.verify(START, linked([1, 2], [5]), lambda _, names: [other.get(n.id, digest_of(n.id)) for n in names])
    assert found.fault
    assert (found.fault.what, found.fault.row, found.fault.link) == ("changed", Name("event", 2), 1)


def test_a_row_that_is_not_there_was_removed_or_is_elsewhere() -> None:
    def without(link: Link, names: Sequence[Name]) -> list[bytes | None]:
        return [None if name.id == 3 else digest_of(name.id) for name in names]

    found = chain.verify(START, linked([1], [2, 3]), without)
    assert found.fault
    assert (found.fault.what, found.fault.row) == ("removed", Name("event", 3))
    found = chain.verify(START, linked([1], [2, 3]), without, partial=True)
    assert (found.fault, found.rows, found.elsewhere) == (None, 3, 1)


def test_links_cannot_be_removed_swapped_inserted_or_changed() -> None:
    links = linked([1], [2], [3], [4])
    removed = [links[0], *links[2:]]
    renumbered = [links[0], replace(links[2], number=2), replace(links[3], number=3)]
    swapped = [links[0], replace(links[2], number=2), replace(links[1], number=3), links[3]]
    inserted = [*links[:2], replace(links[1], number=3), *(replace(x, number=x.number + 1) for x in links[2:])]
    rehashed = [links[0], replace(links[1], digests=digest_of(9)), *links[2:]]
    cut = [links[0], replace(links[1], digests=links[1].digests[:-1]), *links[2:]]
    nobody = [links[0], replace(links[1], names=b"\xff" * 8), *links[2:]]
    for broken in (removed, renumbered, swapped, inserted, rehashed, cut, nobody):
        assert chain.verify(START, broken, look).fault is not None
    assert chain.verify(chain.start("another", ""), links, look).fault is not None


def test_every_bit_of_a_link_counts() -> None:
    links = linked([1, 2], [3])
    for column in ("names", "digests", "link"):
        octets = getattr(links[0], column)
        for bit in range(len(octets) * 8):
            flipped = bytes(o ^ (1 << bit % 8 if n == bit // 8 else 0) for n, o in enumerate(octets))
            wrong = replace(links[0], **{column: flipped})  # type: ignore[arg-type]
            assert chain.verify(START, [wrong, links[1]], look).fault, (column, bit)


@given(st.lists(st.integers(0, 2**56 - 1)))
def test_what_was_seen_is_known_whatever_its_number(ids: list[int]) -> None:
    seen, noted = chain.Seen(), set[int]()
    for number in ids:
        assert seen.add(Name("attempt", number)) == (number not in noted)
        noted.add(number)
    assert all(Name("attempt", number) in seen for number in noted)
    assert seen.counts.get("attempt", 0) == len(noted)


def test_names_are_read_as_they_were_written() -> None:
    names = [Name(kind, number, whose) for kind in KINDS for number in (1, 2**40 - 1) for whose in (0, 1, 2**16 - 1)]
    found = chain.names_of(b"".join(name.octets for name in names))
    assert [(name, name.campaign) for name in found] == [(name, name.campaign) for name in names]
    with pytest.raises(ValueError, match="cut off"):
        chain.names_of(b"\x01" * 9)
