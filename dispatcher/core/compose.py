"""Messages as octets: a rendering, a recipient and attachments → RFC 5322 and MIME, gate and digest.

A `Composer` is made once a campaign. What all its letters share is encoded once and then passed on as the same
`bytes` object: each attachment's header and octets, and the closing boundary. A letter's own part is its header and
its two texts:

    header, multipart/mixed { multipart/alternative { text/plain, text/html } | attachment … | closing boundary }
    └────────────────────────────── own ──────────────────────────────────┘   └────────── shared ───────────┘

A letter without attachments is the multipart/alternative alone. One with a logo has it beside the HTML that shows it:

    header, mixed { alternative { text/plain, related { text/html | image } } | attachment … | closing boundary }
    └────────────────────────── own ──────────────────────────────┘   └────────────── shared ──────────────┘

The picture belongs to the HTML alone (RFC 2387), so whoever reads the plain text sees no stray file, and as the last
part of the alternative it is in the shared tail, encoded and dot-stuffed once a campaign.

The Date field is apart: it is fixed when a letter first goes out, all else when it is planned. The same input gives the
same octets, always.

The octets are made without the standard library's `email` package; `core.gate` then looks at them.

Raises `HeaderError` (a value cannot stand in a field) and `ContentError` (a text or attachment cannot be sent as it
is).
"""

import base64
import binascii
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from dispatcher.core.gate import CRLF, has_longer_line
from dispatcher.core.headers import (
    LONGEST_LINE,
    HeaderError,
    address_list,
    clean_file_name,
    line,
    parameterised,
    require_plain,
    unstructured,
)
from dispatcher.core.model import SHARED_PARTS, Attachment, Envelope, Mailbox, Message, Recipient, Rendering

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DOT_ATOM = r"[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z]+(?:\.[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z]+)*"
_MESSAGE_ID = re.compile(f"<{_DOT_ATOM}@{_DOT_ATOM}>")  # RFC 5322 §3.6.4
_BOUNDARY = re.compile(r"=_[0-9A-Za-z.]{16,48}")
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[0-9A-Za-z]{1,8})*")  # RFC 5646 §2.1
_UNSENDABLE = re.compile("[\0\ud800-\udfff]")
_REMEMBERED = 2000  # octets of a line that is worth remembering
_FROM = b"\r\nFrom "
_7BIT = bytes((*b"\t\n\r", *range(0x20, 0x7F)))


class ContentError(ValueError):
    """A text or an attachment cannot be sent as it is."""


@dataclass(frozen=True, slots=True)
class Headers:
    """What stands at the head of every letter of a campaign. `organisation` may be empty, `reply_to` None.

    `unsubscribe` is the mailbox that takes a recipient's wish to hear no more; `return_path` takes bounces;
    `boundary` comes from the function of that name.
    """

    organisation: str
    from_: Mailbox
    reply_to: Mailbox | None
    unsubscribe: Mailbox
    return_path: str
    boundary: str


class Composer:
    """Composes the letters of one campaign. Holds the last `keep` encoded attachments, and no other state."""

    def __init__(self, headers: Headers, *, logo: Attachment | None = None, keep: int = SHARED_PARTS) -> None:
        if not _BOUNDARY.fullmatch(headers.boundary):
            raise HeaderError("Content-Type", f"{headers.boundary!r} is not a boundary of ours")
        self.headers = headers
        self._keep = keep
        self._encoded: OrderedDict[str, tuple[bytes, bool]] = OrderedDict()
        self._token = headers.boundary[2:]
        self._outer = f"--{headers.boundary}".encode()
        # Does not begin with the outer one, or an outer boundary could be read in it (RFC 2046 §5.1.1).
        inner = f"=_alternative_{self._token}"
        self._inner = f"--{inner}".encode()
        self._logo = logo
        related = f"=_related_{self._token}"
        self._related = f"--{related}".encode()
        self._closing = self._outer + b"--" + CRLF
        self._closing_logo = self._related + b"--" + CRLF + self._inner + b"--" + CRLF
        self._with_logo = parameterised("Content-Type", "multipart/related", type="text/html", boundary=related) + CRLF
        self._mixed = parameterised("Content-Type", "multipart/mixed", boundary=headers.boundary) + CRLF
        self._alternative = parameterised("Content-Type", "multipart/alternative", boundary=inner) + CRLF
        self._from = address_list("From", (headers.from_,))
        self._reply_to = address_list("Reply-To", (headers.reply_to,)) if headers.reply_to else b""
        self._organisation = unstructured("Organization", headers.organisation) if headers.organisation else b""
        self._automatic = line("Auto-Submitted", "auto-generated")  # RFC 3834 §5
        self._rest = line("X-Auto-Response-Suppress", "All") + line("MIME-Version", "1.0")
        mailbox = quote(require_plain("List-Unsubscribe", headers.unsubscribe.address), safe="@")
        self._mailto = f"mailto:{mailbox}?subject=unsubscribe%20"  # RFC 6068
        self._planned, self._planned_with_cc = self._names(), self._names("Cc")

    def planned(self, recipient: Recipient) -> tuple[str, ...]:
        """The names of the fields that a letter to this recipient must have, in order, each once: for the gate."""
        return self._planned_with_cc if recipient.cc else self._planned

    def _names(self, *cc: str) -> tuple[str, ...]:
        names = ["Date", "From", "To", *cc]
        names += ["Reply-To"] if self.headers.reply_to else []
        names += ["Subject", "Message-ID"]
        names += ["Organization"] if self.headers.organisation else []
        names += ["Content-Language", "Auto-Submitted", "List-Unsubscribe", "X-Auto-Response-Suppress"]
        return (*names, "MIME-Version", "Content-Type")

    def compose(
        self,
        recipient: Recipient,
        rendering: Rendering,
        message_id: str,
        attachments: Sequence[Attachment] = (),
        content: Callable[[str], bytes] | None = None,
    ) -> Message:
        """The letter as a message, still without Date. Raises HeaderError, ContentError.

        `content(digest)` gives the octets of an attachment. It is asked only for those not held in encoded form, and
        what it gives must have that digest.
        """
        header = self._header(recipient, rendering, message_id)
        texts = (
            self._inner + CRLF,
            self._text("plain", rendering.text),
            CRLF + self._inner + CRLF,
            self._with_logo + self._related + CRLF if self._logo else b"",
            self._text("html", rendering.html),
            CRLF if self._logo else CRLF + self._inner + b"--" + CRLF,
        )
        outside = (self._mixed, self._outer, CRLF) if attachments else ()
        own = b"".join((*header, *outside, self._alternative, *texts))
        return Message(b"", own, self.shared(attachments, content))

    def shared(
        self, attachments: Sequence[Attachment], content: Callable[[str], bytes] | None = None
    ) -> tuple[bytes, ...]:
        """The parts of a message that letters with these attachments share; see `compose`."""
        if not (attachments or self._logo):
            return ()
        if content is None:
            raise ContentError("there are attachments and no way to read them")
        pieces: list[bytes] = []
        if self._logo:
            encoded, _ = self._octets(self._logo, content)
            pieces += (_logo_header(self._related, self._logo), encoded, self._closing_logo)
        for attachment in attachments:
            pieces += self._attachment(attachment, content)
        return (*pieces, self._closing) if attachments else tuple(pieces)

    def _header(self, recipient: Recipient, rendering: Rendering, message_id: str) -> Sequence[bytes]:
        """The header, from From to MIME-Version."""
        if not _MESSAGE_ID.fullmatch(message_id):
            raise HeaderError("Message-ID", f"{message_id!r} is not one")
        if not _LANGUAGE.fullmatch(rendering.language):
            raise HeaderError("Content-Language", f"{rendering.language!r} is not a language tag")
        key = quote(require_plain("List-Unsubscribe", recipient.key), safe="")
        return (
            self._from,
            address_list("To", recipient.to),
            address_list("Cc", recipient.cc) if recipient.cc else b"",
            self._reply_to,
            unstructured("Subject", rendering.subject),
            line("Message-ID", message_id),
            self._organisation,
            line("Content-Language", rendering.language),
            self._automatic,
            line("List-Unsubscribe", f"<{self._mailto}{key}>"),  # RFC 2369 §3.2
            self._rest,
        )

    def _text(self, subtype: str, text: str) -> bytes:
        """A text part, header and body, without the line break that belongs to the boundary after it.

        As it stands where that is safe on every way; else quoted-printable or base64, whichever is shorter.
        """
        lines = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        try:
            octets = lines.encode().replace(b"\n", CRLF)
        except UnicodeEncodeError:
            raise _unsendable(subtype, text) from None
        if b"\0" in octets:
            raise _unsendable(subtype, text)
        encoding, body = "7bit", octets
        unsafe = octets.translate(None, _7BIT) or has_longer_line(octets, LONGEST_LINE) or _is_fragile(octets)
        if unsafe or self._token in text:
            encoding, body = _encoded_text(octets)
        head = f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
        return head.encode() + body

    def _attachment(self, attachment: Attachment, content: Callable[[str], bytes]) -> tuple[bytes, bytes]:
        """The attachment's part: its header with the boundary line before it, and its octets in base64.

        Apart, for one file may go under several names; the second is the same object for all of them.
        """
        encoded, is_utf8 = self._octets(attachment, content)
        return _attachment_header(self._outer, attachment.name, attachment.media_type, is_utf8), encoded

    def _octets(self, attachment: Attachment, content: Callable[[str], bytes]) -> tuple[bytes, bool]:
        """Octets in base64, encoded now or kept from before, and whether they are UTF-8."""
        if found := self._encoded.get(attachment.digest):
            self._encoded.move_to_end(attachment.digest)
            return found
        octets = content(attachment.digest)
        if hashlib.sha256(octets).hexdigest() != attachment.digest:
            raise ContentError(f"attachment {attachment.name!r} is not the file that was planned: it has changed")
        self._encoded[attachment.digest] = _base64(octets), _is_utf8(octets)
        if len(self._encoded) > self._keep:
            self._encoded.popitem(last=False)
        return self._encoded[attachment.digest]


def message_id(campaign_id: str, key: str, domain: str) -> str:
    """The Message-ID of one campaign's letter to one recipient: always the same, and no other letter's."""
    digest = hashlib.sha256(framed(campaign_id.encode(), require_plain("Message-ID", key).encode())).hexdigest()
    text = f"<{digest[:24]}.{campaign_id}@{domain}>"
    if not _MESSAGE_ID.fullmatch(text):
        raise HeaderError("Message-ID", f"it cannot be made of campaign id {campaign_id!r} and domain {domain!r}")
    return text


def content_id(logo: Attachment) -> str:
    """The Content-ID of a picture (RFC 2045 §7), by its octets, without brackets. Its URL: `cid:` and this (RFC 2392).

    It need not be known anywhere else, so the domain is one that cannot be.
    """
    return f"{logo.digest[:32]}@logo.invalid"


def boundary(campaign_id: str) -> str:
    """The boundary of a campaign's messages. It holds `=_`, which no base64 or quoted-printable text can (RFC 2045)."""
    return f"=_{hashlib.sha256(campaign_id.encode()).hexdigest()[:24]}"


def envelope_of(return_path: str, mailboxes: Sequence[Mailbox]) -> Envelope:
    """The envelope of a letter to these: one forward path a mailbox, even if To and Cc name it twice."""
    paths: dict[str, str] = {}
    for mailbox in mailboxes:
        paths.setdefault(mailbox.identity or mailbox.address, mailbox.address)
    return Envelope(return_path, tuple(paths.values()))


def date_line(when: datetime) -> bytes:
    """The Date field (RFC 5322 §3.3) of an aware moment, in its own offset from UTC. Raises ValueError if naive."""
    offset = when.utcoffset()
    if offset is None:
        raise ValueError("a Date needs an offset from UTC")
    if offset.total_seconds() % 60:  # local mean time, before there were time zones
        return date_line(when.astimezone(UTC))
    day = f"{_DAYS[when.weekday()]}, {when.day} {_MONTHS[when.month - 1]} {when.year:04}"
    return f"Date: {day} {when:%H:%M:%S %z}\r\n".encode()


DATE_SIZE: Final = len(date_line(datetime(2009, 12, 31, tzinfo=UTC)))
"""Octets that the Date field has at most."""


def dated(message: Message, when: datetime) -> Message:
    """The message with its Date."""
    return replace(message, date=date_line(when))


def letter_digest(envelope: Envelope, message: Message) -> str:
    """SHA-256, hex, over a letter's envelope and octets but for Date: what is sealed.

    A shared part goes in by its own digest, made once, so that the work for a letter does not grow with it.
    """
    paths = framed(*[path.encode() for path in envelope.forward_paths])
    shared = framed(*[_digest(part) for part in message.shared])
    return hashlib.sha256(framed(envelope.return_path.encode(), paths, message.own, shared)).hexdigest()


def message_digest(message: Message) -> str:
    """SHA-256, hex, over what left, before it was signed: Date field, own part, and the digest of each shared part."""
    whole = hashlib.sha256(framed(message.date, message.own))
    for part in message.shared:
        whole.update(_digest(part))
    return whole.hexdigest()


@lru_cache(maxsize=SHARED_PARTS)
def _digest(part: bytes) -> bytes:
    return hashlib.sha256(part).digest()


def framed(*values: bytes) -> bytes:
    """Values one after the other, each behind its length, so that no two lists of values give the same octets."""
    return b"".join([piece for value in values for piece in (len(value).to_bytes(8, "big"), value)])


def _unsendable(subtype: str, text: str) -> ContentError:
    """The error for a text with a character in it that is not to be sent, or not UTF-8."""
    found = _UNSENDABLE.search(text)
    where = f"U+{ord(found[0]):04X} at character {found.start() + 1}" if found else "a character"
    return ContentError(f"text/{subtype}: {where} cannot be sent")


def _base64(octets: bytes) -> bytes:
    """Base64 in lines of 76, each ending in CRLF (RFC 2045 §6.8)."""
    return base64.encodebytes(octets).replace(b"\n", CRLF)


def _encoded_text(octets: bytes) -> tuple[str, bytes]:
    """A text in quoted-printable or base64, whichever is shorter."""
    size = (len(octets) + 2) // 3 * 4
    lines = [(_quoted if len(each) <= _REMEMBERED else _quoted_line)(each) for each in octets.split(CRLF)]
    if None not in lines:
        body = CRLF.join(lines)  # type: ignore[arg-type]
        if len(body) <= size + (size - 1) // 76 * 2:
            return "quoted-printable", body
    return "base64", _base64(octets).removesuffix(CRLF)


def _is_fragile(octets: bytes) -> bool:
    """Whether programs on the way may change a line: a blank at its end, or "From " at its beginning.

    A signature would be broken by that (RFC 8551 §3.1.2, §3.1.3).
    """
    within = b" \r\n" in octets or b"\t\r\n" in octets or _FROM in octets
    return within or octets.endswith((b" ", b"\t")) or octets.startswith(b"From ")


def _quoted_line(octets: bytes) -> bytes | None:
    """One line in quoted-printable, for which no other matters; None if it cannot be had."""
    is_from = octets.startswith(b"From ")
    # The line break added and taken away again: without one, binascii would break its lines with LF alone.
    # A NUL stands in for an F that binascii would not encode: it is as long, so lines are broken where they should be.
    body = binascii.b2a_qp((b"\0" + octets[1:] if is_from else octets) + CRLF, istext=True)[:-2]
    if is_from:
        body = b"=46" + body[3:]
    # binascii writes 77 octets where a blank ends a full line; RFC 2045 §6.7 allows 76.
    return body if max(map(len, body.split(CRLF))) <= 76 and _FROM not in body else None


_quoted = lru_cache(maxsize=2000)(_quoted_line)  # most lines are the same in most letters


@lru_cache(maxsize=SHARED_PARTS)
def _logo_header(delimiter: bytes, logo: Attachment) -> bytes:
    name = clean_file_name(logo.name)
    return b"".join(
        (
            delimiter + CRLF,
            parameterised("Content-Type", logo.media_type, old=True, name=name),
            b"Content-Transfer-Encoding: base64\r\n",
            line("Content-ID", f"<{content_id(logo)}>"),
            parameterised("Content-Disposition", "inline", filename=name),
            CRLF,
        )
    )


@lru_cache(maxsize=SHARED_PARTS)
def _attachment_header(delimiter: bytes, name: str, media_type: str, is_utf8: bool) -> bytes:  # noqa: FBT001
    kind, _, subtype = media_type.partition("/")
    if not subtype or kind.lower() in ("multipart", "message"):  # these may not be base64 (RFC 2045 §6.4)
        raise HeaderError("Content-Type", f"{media_type!r} cannot be attached")
    clean = clean_file_name(name)
    charset = {"charset": "utf-8"} if kind.lower() == "text" and is_utf8 else {}
    return b"".join(
        (
            delimiter + CRLF,
            parameterised("Content-Type", media_type, old=True, **charset, name=clean),
            b"Content-Transfer-Encoding: base64\r\n",
            parameterised("Content-Disposition", "attachment", filename=clean),
            CRLF,
        )
    )


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True
