"""Replies: only whole, well-formed ones are replies (RFC 5321 §4.2)."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.core.model import Reply
from dispatcher.relays.replies import MAX_REPLY, ProtocolError, ReplyReader


def read(*chunks: bytes) -> tuple[list[Reply], str, bool]:
    """Every reply in the chunks, the words of the error that ends them ('' if none), and whether octets are left."""
    reader, replies = ReplyReader(), []
    for chunk in chunks:
        reader.feed(chunk)
        try:
            while (reply := reader.next()) is not None:
                replies.append(reply)
        except ProtocolError as error:
            return replies, str(error), reader.pending
    return replies, "", reader.pending


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"250 ok\r\n", [Reply(250, "ok")]),
        (b"250\r\n", [Reply(250, "")]),
        (b"250 \r\n", [Reply(250, "")]),
        (b"250 ok\n", [Reply(250, "ok")]),
        (b"299 odd\r\n", [Reply(299, "odd")]),
        (b"599 odd\r\n", [Reply(599, "odd")]),
        (b"250-a\r\n250-\r\n250 c\r\n", [Reply(250, "a\n\nc")]),
        (b"250-a\n250\r\n", [Reply(250, "a\n")]),
        (b"250  two  spaces \r\n", [Reply(250, " two  spaces ")]),
        (b"250 a\rb\x00c\x1b[0m\r\n", [Reply(250, "a\rb\0c\x1b[0m")]),
        ("250 d\u00e9j\u00e0\r\n".encode(), [Reply(250, "d\u00e9j\u00e0")]),
        (b"250 \xff\r\n", [Reply(250, "\\xff")]),
        (b"354 go\r\n250 stray\r\n", [Reply(354, "go"), Reply(250, "stray")]),
    ],
)
def test_whole_replies(octets: bytes, expected: list[Reply]) -> None:
    assert read(octets) == (expected, "", False)


@pytest.mark.parametrize("octets", [b"2", b"250", b"250 ok", b"250 ok\r", b"250-a\r\n", b"250-a\r\n250"])
def test_half_a_reply_is_none_and_is_pending(octets: bytes) -> None:
    assert read(octets) == ([], "", True)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"\r\n", "not a reply"),
        (b"hello\r\n", "not a reply"),
        (b"25\r\n", "not a reply"),
        (b"2500 ok\r\n", "not a reply"),
        (b"250ok\r\n", "not a reply"),
        (b"250\tok\r\n", "not a reply"),
        (b" 250 ok\r\n", "not a reply"),
        (b"150 ok\r\n", "not a reply"),
        (b"650 ok\r\n", "not a reply"),
        (b"2\xb20 ok\r\n", "not a reply"),
        ("\u0662\u0665\u0660 ok\r\n".encode(), "not a reply"),
        (b"\x16\x03\x01\x00\n", "not a reply"),
        (b"250-a\r\n251 b\r\n", "different codes"),
        (b"250-a\r\nhello\r\n", "not a reply"),
    ],
)
def test_what_does_not_fit_is_an_error_and_stays_one(octets: bytes, words: str) -> None:
    replies, error, pending = read(octets)
    assert (replies, pending) == ([], True)
    assert words in error
    reader = ReplyReader()
    reader.feed(octets)
    for _ in range(2):
        with pytest.raises(ProtocolError):
            reader.next()
        reader.feed(b"250 ok\r\n")


@pytest.mark.parametrize(
    "chunks",
    [
        [b"250 " + b"x" * MAX_REPLY + b"\r\n"],
        [b"250 "] + [b"x" * 1000] * 100,
        [b"250-endless\r\n"] * 10_000,
        [b"250-endless\r\n" * 10_000],
        [b"2" * 10_000_000],
    ],
)
def test_no_reply_has_more_than_64_kb(chunks: list[bytes]) -> None:
    replies, error, _ = read(*chunks)
    assert replies == []
    assert "64 kB" in error


def test_a_reply_of_exactly_64_kb_is_one() -> None:
    reply = b"250 " + b"x" * (MAX_REPLY - 6) + b"\r\n"
    assert read(reply)[0] == [Reply(250, "x" * (MAX_REPLY - 6))]
    assert read(reply.replace(b"x", b"xx", 1))[0] == []


def test_what_nobody_reads_is_not_kept_and_not_forgotten() -> None:
    """Ten megabytes pushed at us cost 64 kB and a chunk; after them, nothing more is read as a reply."""
    reader = ReplyReader()
    for _ in range(10_000):
        reader.feed(b"250 x" + b"y" * 993 + b"\r\n")
    assert len(reader._unread) < MAX_REPLY + 2000
    with pytest.raises(ProtocolError):
        list(iter(reader.next, None))
    assert reader.pending


lines = st.builds(
    lambda code, texts, end: b"".join(
        b"%d%s%s%s" % (code, b" " if last else b"-", text.replace(b"\n", b""), end)
        for text, last in zip(texts, [False] * (len(texts) - 1) + [True], strict=True)
    ),
    st.integers(200, 599),
    st.lists(st.binary(max_size=20), min_size=1, max_size=4),
    st.sampled_from([b"\r\n", b"\n"]),
)
conversations = st.lists(lines | st.binary(max_size=30), max_size=6).map(b"".join)


@given(conversations, st.lists(st.integers(0, 200)))
@example(b"250-a\r\n250 b\r\n2", [1, 2, 3, 4, 5, 6, 7, 8])
def test_chunking_makes_no_difference(octets: bytes, cuts: list[int]) -> None:
    """However the network cuts the octets up, the replies and the error are the same; nothing else is ever raised."""
    edges = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    chunks = [octets[a:b] for a, b in pairwise(edges)]
    assert read(*chunks) == read(octets)


@given(st.lists(lines, max_size=5).map(b"".join))
def test_good_replies_are_all_read(octets: bytes) -> None:
    replies, error, pending = read(octets)
    assert (error, pending) == ("", False)
    assert sum(len(reply.text.split("\n")) for reply in replies) == octets.count(b"\n")
