"""A message as content on the wire: dot-stuffed behind DATA (RFC 5321 §4.5.2), as it is behind BDAT (RFC 3030).

What all letters share is stuffed once a campaign: a shared part is the same object for every letter, and `bytes`
remember their hash. Pure.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from dispatcher.core.model import SHARED_PARTS, Message

BLOCK: Final = 64 * 1024
"""Octets of content that still go in one piece with what ends it."""

STREAM: Final = 256 * 1024
"""Octets of larger content given to the transport at a time."""

LAST: Final = b"BDAT 0 LAST\r\n"
_CRLF: Final = b"\r\n"


def blocks(message: Message) -> Iterator[bytes | memoryview]:
    """The content, dot-stuffed, without the terminator; at least one block. What is small goes in one."""
    head, shared, smime = _head(message), message.shared, message.smime
    parts = [part for part in (head, *shared, smime) if part]
    if all(part.endswith(_CRLF) for part in parts[:-1]):
        stuffed = [_stuffed(head), *map(_stuffed_shared, shared), _stuffed(smime)]
    else:
        stuffed = [_stuffed(message.octets)]  # a line goes across a seam
    yield from _cut(stuffed)


def chunk(message: Message) -> Iterator[bytes | memoryview]:
    """The content as one chunk, with its command before it."""
    yield from _cut([b"BDAT %d\r\n" % message.size + _head(message), *message.shared, message.smime])


def _head(message: Message) -> bytes:
    """What no other letter has."""
    return message.signature + message.date + message.own


def terminator(message: Message) -> bytes:
    """What ends the content behind DATA: the final dot, on a line of its own."""
    parts = (message.date, message.own, *message.shared, message.smime)
    tail = b"".join(part[-2:] for part in parts)[-2:]
    return b".\r\n" if tail in (b"", _CRLF) else b"\r\n.\r\n"


def _cut(parts: Sequence[bytes]) -> Iterator[bytes | memoryview]:
    if sum(map(len, parts)) <= BLOCK:
        yield b"".join(parts)
        return
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(part), STREAM):
            yield view[start : start + STREAM]


def _stuffed(part: bytes) -> bytes:
    """Dot-stuff what begins at the beginning of a line. Dots after a bare CR or LF are left."""
    stuffed = part.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if part.startswith(b".") else stuffed


_stuffed_shared: Callable[[bytes], bytes] = lru_cache(maxsize=SHARED_PARTS)(_stuffed)
