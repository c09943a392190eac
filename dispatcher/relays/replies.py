"""Read SMTP replies (RFC 5321 §4.2): octets in, whole replies out.

A reply is one line `ddd text`, or several `ddd-text` closed by one `ddd text`, all with the same code. Nothing is
guessed: half a reply is no reply, and whatever does not fit the grammar raises ProtocolError. Two leniencies, both
harmless: a line may end in a bare LF, and any code from 200 to 599 will do.

Pure: it knows no socket and no clock. It never keeps more than about 64 kB that nobody has read.
"""

import re
from functools import lru_cache
from typing import Final, NoReturn

from dispatcher.core.model import Reply

MAX_REPLY: Final = 64 * 1024
"""Octets one reply may have, line ends included."""

_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)


class ProtocolError(Exception):
    """What came is not a reply. Says in words why; after it the reader is of no more use."""


@lru_cache(maxsize=32)  # most replies are the same ones
def _of_one_line(line: bytes) -> Reply | None:
    """The reply that a line is by itself, or None if it is none."""
    match = _LINE.fullmatch(line.removesuffix(b"\r"))
    if match is None or match[2] == b"-":
        return None
    return Reply(int(match[1]), _text(match[3]))


def _text(octets: bytes | None) -> str:
    return (octets or b"").decode("utf-8", "backslashreplace")


class ReplyReader:
    """Collects octets as they come and hands out one whole reply at a time."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._code = 0
        self._texts: list[str] = []
        self._octets = 0
        self._cut = False
        self._error = ""

    @property
    def pending(self) -> bool:
        """Whether an octet waits that no reply handed out so far has used up."""
        return bool(self._unread or self._octets or self._cut or self._error)

    def feed(self, octets: bytes) -> None:
        """Take what came. Never raises: what is wrong with it is said by `next`."""
        if len(self._unread) > MAX_REPLY:
            self._cut = True
        else:
            self._unread += octets

    def next(self) -> Reply | None:
        """The next whole reply, or None while it is not all there. Raises ProtocolError."""
        if self._error:
            raise ProtocolError(self._error)
        while (end := self._unread.find(b"\n")) >= 0:
            line = bytes(self._unread[:end])
            del self._unread[: end + 1]
            if not self._texts and end < MAX_REPLY and (reply := _of_one_line(line)):
                return reply  # as nearly all are
            self._count(end + 1)
            if self._take(line.removesuffix(b"\r")):
                return self._whole()
        if self._cut or self._octets + len(self._unread) > MAX_REPLY:
            self._fail(f"the relay's reply has more than {MAX_REPLY // 1024} kB")
        return None

    def _count(self, octets: int) -> None:
        self._octets += octets
        if self._octets > MAX_REPLY:
            self._fail(f"the relay's reply has more than {MAX_REPLY // 1024} kB")

    def _take(self, line: bytes) -> bool:
        """Read one line; say whether it was the last of its reply."""
        match = _LINE.fullmatch(line)
        if match is None:
            self._fail(f"what the relay said is not a reply: {line[:100]!r}")
        code, mark = int(match[1]), match[2]
        if self._texts and code != self._code:
            self._fail(f"the lines of one reply have different codes: {self._code} and {code}")
        self._code = code
        self._texts.append(_text(match[3]))
        return mark != b"-"

    def _whole(self) -> Reply:
        reply = Reply(self._code, "\n".join(self._texts))
        self._texts = []
        self._octets = 0
        return reply

    def _fail(self, words: str) -> NoReturn:
        self._error = words
        raise ProtocolError(words)
