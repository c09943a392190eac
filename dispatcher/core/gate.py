"""The final gate: the last look at a message's octets before they leave, taking nothing on trust.

It knows nothing of how they were made. Every letter passes it at planning and again, with its Date, for every attempt.
Raises GateError, which is our own fault and never the list's.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from dispatcher.core.headers import LONGEST_LINE
from dispatcher.core.model import SHARED_PARTS, Message

CRLF = b"\r\n"
ADDRESS_FIELDS = ("From", "To", "Cc", "Reply-To")
"""Where an address with a non-ASCII local part may stand as raw UTF-8 (RFC 6532 §3.2)."""
_ONCE = ("Date", "From", "To", "Subject", "Message-ID")
_NAME = re.compile(rb"[!-9;-~]+")  # RFC 5322 §2.2
_FIELDS = re.compile(rb"\r\n([!-9;-~]+):")
_BLANK_FOLD = re.compile(rb"\r\n[ \t][ \t\v\f]*(?:\r\n|\Z)")


class GateError(ValueError):
    """Octets that must not leave. The text says what is wrong with them, and where."""


def gate(message: Message, planned: Sequence[str], *, eight_bit: bool) -> None:
    """The last look at the octets before they leave. Raises GateError.

    They pass if the header has exactly the planned fields in this order, each once, with From, To, Subject, Date and
    Message-ID among them and no Bcc; if every line ends in CRLF and has at most 998 octets; and if there is no NUL
    and no octet over 127, unless `eight_bit` (SMTPUTF8) allows UTF-8 in the address fields.
    """
    _require_lines("own part", message.own)
    for part in message.shared:
        _require_shared(part)
    gate_date(message.date)
    if message.own[:1] in (b" ", b"\t", b"\r"):
        raise GateError("Date: it is not one field on one line")
    header, empty, body = message.own.partition(CRLF + CRLF)
    if not empty:
        raise GateError("header: there is no empty line after it")
    if not body.isascii():
        raise GateError("body: an octet over 127")
    names = _field_names(message.date + header, eight_bit=eight_bit)
    if names != tuple(planned):
        raise GateError(f"header: the fields are {', '.join(names)}; planned were {', '.join(planned)}")
    _require_complete(names)


@lru_cache(maxsize=8)  # the letters of a campaign have few kinds of headers
def _require_complete(names: tuple[str, ...]) -> None:
    lower = [name.lower() for name in names]
    if len(set(lower)) < len(lower) or "bcc" in lower or not {name.lower() for name in _ONCE} <= set(lower):
        raise GateError(f"header: one of {', '.join(_ONCE)} is missing, a field stands twice, or there is a Bcc")


def gate_date(line: bytes) -> None:
    """The last look at the Date field alone. Raises GateError."""
    _require_lines("Date", line)
    if line.count(CRLF) != 1 or not line.startswith(b"Date: ") or not line.isascii():
        raise GateError("Date: it is not one field on one line")


def _field_names(header: bytes, *, eight_bit: bool) -> tuple[str, ...]:
    """The names of the fields in order; a folded line belongs to the field before it.

    Pure ASCII, a field or a folded line in every line, and no folded one blank: that is seen at one glance. Whatever
    is not is looked at line by line, to be let through or named.
    """
    lines = CRLF + header
    if lines.isascii():
        found = _FIELDS.findall(lines)
        folded = lines.count(CRLF + b" ") + lines.count(CRLF + b"\t")
        if len(found) + folded == lines.count(CRLF) and not (folded and _BLANK_FOLD.search(lines)):
            return tuple(name.decode() for name in found)
    return _names_line_by_line(header, eight_bit=eight_bit)


def _names_line_by_line(header: bytes, *, eight_bit: bool) -> tuple[str, ...]:
    names: list[str] = []
    for text in header.split(CRLF):
        if text[:1] not in (b" ", b"\t"):
            name, colon, _ = text.partition(b":")
            if not colon or not _NAME.fullmatch(name):
                raise GateError(f"header: a line that is no field, after {names[-1] if names else 'nothing'}")
            names.append(name.decode())
        elif not text.strip():
            raise GateError(f"{names[-1]}: a folded line is blank")
        if not text.isascii():
            _require_utf8(names[-1], text, eight_bit=eight_bit)
    return tuple(names)


def _require_utf8(name: str, text: bytes, *, eight_bit: bool) -> None:
    if not eight_bit or name not in ADDRESS_FIELDS:
        raise GateError(f"{name}: an octet over 127")
    try:
        text.decode()
    except UnicodeDecodeError:
        raise GateError(f"{name}: not UTF-8") from None


def _require_lines(where: str, octets: bytes) -> None:
    """Whole lines, CRLF only, none too long, no NUL."""
    breaks = octets.count(CRLF)
    if octets.count(b"\r") != breaks:
        raise GateError(f"{where}: a CR without LF")
    if octets.count(b"\n") != breaks:
        raise GateError(f"{where}: a LF without CR")
    if not octets.endswith(CRLF):
        raise GateError(f"{where}: it does not end in CRLF")
    if b"\0" in octets:
        raise GateError(f"{where}: a NUL")
    if has_longer_line(octets, LONGEST_LINE):
        raise GateError(f"{where}: a line of more than {LONGEST_LINE} octets")


@lru_cache(maxsize=SHARED_PARTS)  # a part is one object for all letters; its hash is kept in the object
def _require_shared(part: bytes) -> None:
    _require_lines("shared part", part)
    if not part.isascii():
        raise GateError("shared part: an octet over 127")


def has_longer_line(octets: bytes, room: int) -> bool:
    """Whether a line has more than `room` octets: from line end to line end, in leaps of as many at most."""
    start, size = 0, len(octets)
    while size - start > room:
        end = octets.rfind(CRLF, start, start + room + len(CRLF))
        if end < 0:
            return True
        start = end + len(CRLF)
    return False
