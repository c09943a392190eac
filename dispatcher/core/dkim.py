"""DKIM signatures of messages (RFC 6376; Ed25519: RFC 8463; keys: RFC 8301), and the record that a key is published in.

A signature stands on top of the message, as a trace field does (RFC 6376 §3.5), and is no part of what was sealed. The
header is always canonicalised `relaxed`, for relays fold and unfold it; there is no l=, so the body is signed whole.
Fields that people and programs go by are named once more often than they are there: a signature is broken by one that
is added (§8.15). Pure: whoever holds a private key signs.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

from dispatcher.core.model import SHARED_PARTS, Message

Canonicalisation = Literal["relaxed/relaxed", "relaxed/simple"]
"""Of the header and of the body (RFC 6376 §3.4)."""
LIFE: Final = timedelta(days=14)
"""How long a signature holds (x=): longer than any relay keeps a letter, and not for ever."""
OVERSIGNED: Final = (
    "From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post",
    "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
)  # fmt: skip
"""Fields of which none may be added."""
FIELDS: Final = (*OVERSIGNED, "Organization", "Content-Language", "Auto-Submitted")
"""Fields that are signed."""
_CRLF: Final = b"\r\n"
_WIDTH: Final = 76


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key's signatures, for a domain: `sign` takes the octets that RFC 6376 §3.7 hashes.

    Where the public key stands is `selector`._domainkey.`domain`.
    """

    domain: str
    selector: str
    algorithm: Literal["rsa-sha256", "ed25519-sha256"]
    sign: Callable[[bytes], bytes]


def signed(message: Message, signers: Sequence[Signer], canonicalisation: Canonicalisation, when: datetime) -> Message:
    """The message with one signature of each signer, made at `when` (aware). The body is hashed once for all."""
    header, _, body = message.own.partition(_CRLF + _CRLF)
    fields = _fields(message.date + header)
    names, octets = _covered(fields)
    digest = _body_digest(body, message.shared, message.smime, simple=canonicalisation == "relaxed/simple")
    made = b""
    for signer in signers:
        field = _field(signer, canonicalisation, when, names, digest)
        signature = signer.sign(octets + relaxed_field(field))
        made += field + b"".join(_lines(base64.b64encode(signature).decode(), "")) + _CRLF
    return replace(message, signature=made)


def record_of(algorithm: str, public: bytes) -> str:
    """The TXT record of a public key: SubjectPublicKeyInfo for RSA, 32 octets for Ed25519 (RFC 8463 §4)."""
    return f"v=DKIM1; k={algorithm.partition('-')[0]}; p={base64.b64encode(public).decode()}"


def relaxed_field(field: bytes) -> bytes:
    """A field, folded or not, as `relaxed` has it (RFC 6376 §3.4.2), without the line break at its end."""
    name, _, value = field.partition(b":")
    return name.strip(b" \t").lower() + b":" + _single_blanks(value.replace(_CRLF, b"")).strip(b" ")


def _fields(header: bytes) -> list[tuple[str, bytes]]:
    """The fields, each with its name in small letters."""
    found: list[bytes] = []
    for line in header.split(_CRLF):
        if line[:1] in (b" ", b"\t") and found:
            found[-1] += _CRLF + line
        else:
            found.append(line)
    return [(each.partition(b":")[0].strip(b" \t").decode("latin-1").lower(), each) for each in found]


def _covered(fields: Sequence[tuple[str, bytes]]) -> tuple[list[str], bytes]:
    """The names of h=, and the fields that they cover: of several with one name the last comes first (§5.4.2)."""
    names: list[str] = []
    octets: list[bytes] = []
    for name in map(str.lower, FIELDS):
        there = [relaxed_field(field) + _CRLF for own, field in reversed(fields) if own == name]
        octets += there
        names += [name] * (len(there) + (name in _NOT_TO_BE_ADDED))
    return names, b"".join(octets)


_NOT_TO_BE_ADDED: Final = frozenset(map(str.lower, OVERSIGNED))


def _field(
    signer: Signer, canonicalisation: Canonicalisation, when: datetime, names: Sequence[str], digest: bytes
) -> bytes:
    """The field up to `b=`, folded."""
    start = int(when.timestamp())
    end = start + int(LIFE.total_seconds())
    return b"".join(
        (
            f"DKIM-Signature: v=1; a={signer.algorithm}; c={canonicalisation};\r\n".encode(),
            f" d={signer.domain}; s={signer.selector};\r\n t={start}; x={end};\r\n h=".encode(),
            *_lines(names, ":"),
            b";\r\n bh=" + base64.b64encode(digest) + b";\r\n b=",
        )
    )


def _lines(pieces: Iterable[str], between: str) -> Iterator[bytes]:
    """Pieces in lines of the usual width, folded before a separator or anywhere in base64 (§3.2)."""
    width = _WIDTH - 3
    for number, piece in enumerate(pieces):
        text = (between if number else "") + piece
        if len(text) > width:
            yield b"\r\n "
            width = _WIDTH - 1
        width -= len(text)
        yield text.encode()


def _body_digest(own: bytes, shared: Sequence[bytes], smime: bytes, *, simple: bool) -> bytes:
    """SHA-256 of the body; what is shared is canonicalised once a campaign.

    Its hash cannot be: each letter's own part comes before it.
    """
    parts: list[bytes] = [own, *shared, smime]
    if not all(part.endswith(_CRLF) for part in parts if part):  # a line goes across a seam
        parts = [b"".join(parts)]
        parts[0] += b"" if parts[0].endswith(_CRLF) else _CRLF
    if not simple:
        parts = [(_relaxed_shared if part in shared else _relaxed)(part) for part in parts]
    if _ends_in_empty_lines(parts):
        octets = b"".join(parts).rstrip(_CRLF)
        parts = [octets + _CRLF if octets or simple else b""]
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.digest()


def _ends_in_empty_lines(parts: Sequence[bytes]) -> bool:
    """Whether something is to be taken away at the end, or there is nothing at all (§3.4.3, §3.4.4)."""
    last = next((part for part in reversed(parts) if part), _CRLF)
    return last == _CRLF or last.endswith(_CRLF + _CRLF)


def _relaxed(part: bytes) -> bytes:
    """Whole lines as `relaxed` has them (§3.4.4): runs of blanks are one, and none is at a line's end."""
    return _single_blanks(part).replace(b" \r\n", _CRLF)


def _single_blanks(octets: bytes) -> bytes:
    octets = octets.replace(b"\t", b" ")
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets


_relaxed_shared: Callable[[bytes], bytes] = lru_cache(maxsize=SHARED_PARTS)(_relaxed)


__all__ = ["FIELDS", "LIFE", "OVERSIGNED", "Canonicalisation", "Signer", "record_of", "relaxed_field", "signed"]
