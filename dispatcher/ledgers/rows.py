"""Letters and recipients as the ledger keeps them, there and back."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from dispatcher.core.errors import LedgerUnavailable, Place
from dispatcher.core.model import Attachment, Channel, Leased, Letter, Mailbox, Recipient

_WINDOW_BITS: Final = 14
_WINDOW: Final = 2**_WINDOW_BITS - 262  # as far back as DEFLATE can look there


_JSON: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def document(value: object) -> str:
    """One JSON document, always the same text for the same value."""
    return _JSON.encode(value)


def recipient_text(recipient: Recipient) -> str:
    place = recipient.place
    return document(
        {
            "key": recipient.key,
            "to": [_mailbox_data(m) for m in recipient.to],
            "cc": [_mailbox_data(m) for m in recipient.cc],
            "language": recipient.language,
            "channel": recipient.channel,
            "fields": dict(recipient.fields),
            "place": {"file": place.file, "line": place.line, "column": place.column, "recipient": place.recipient},
        }
    )


def _mailbox_data(mailbox: Mailbox) -> dict[str, str]:
    return {"address": mailbox.address, "name": mailbox.name, "identity": mailbox.identity}


def recipient_of(text: str) -> Recipient:
    data: Mapping[str, Any] = json.loads(text)
    return Recipient(
        key=data["key"],
        to=tuple(Mailbox(**m) for m in data["to"]),
        cc=tuple(Mailbox(**m) for m in data["cc"]),
        language=data["language"],
        fields=data["fields"],
        place=Place(**data["place"]),
        channel=Channel(data["channel"]),
    )


@lru_cache(maxsize=64)  # most letters of a campaign have the same
def attachments_text(attachments: tuple[Attachment, ...]) -> str:
    return document([asdict(a) for a in attachments])


def letter_row(letter: Letter) -> dict[str, Any]:
    """The columns that hold a sealed letter."""
    return {
        "key": letter.key,
        "channel": letter.recipient.channel,
        "language": letter.language,
        "message_id": letter.message_id,
        "digest": letter.digest,
        "mailboxes": " ".join(m.identity for m in letter.recipient.mailboxes),
        "addresses": " ".join(m.address for m in letter.recipient.mailboxes),
        "recipient": recipient_text(letter.recipient),
        "attachments": attachments_text(letter.attachments),
    }


@lru_cache(maxsize=64)  # most letters of a campaign have the same
def attachments_of(text: str) -> tuple[Attachment, ...]:
    return tuple(Attachment(**a) for a in json.loads(text))


DAMAGED: Final = (ValueError, TypeError, KeyError, AttributeError)
"""What comes of reading a document that is none any more: damage of a kind that no check of the file shows."""


def unreadable(what: str, error: Exception) -> LedgerUnavailable:
    """The error for such a document."""
    return LedgerUnavailable(f"{what} cannot be read as it was sealed: {error}. Put back a sound copy of the ledger")


def purged_campaign(campaign: str, at: str) -> str:
    """Why a campaign is never sent again, and what to do."""
    what = f"campaign {campaign} was purged on {at[:10]}: nobody can say any more who has had a letter of it"
    return f"{what}, so nothing more is sealed or sent. A new mailing gets a new id in campaign.toml"


def letter_of(language: str, message_id: str, digest: str, recipient: str, attachments: str) -> Letter:
    """A sealed letter. Raises LedgerUnavailable if it cannot be read."""
    try:
        return Letter(recipient_of(recipient), language, message_id, attachments_of(attachments), digest)
    except DAMAGED as error:
        raise unreadable(f"the letter {message_id}", error) from None


def leased(row: Sequence[Any], dictionary: bytes, slot: datetime) -> Leased:
    """A row of the statement `due`. Raises LedgerUnavailable if it cannot be read."""
    number, key, revision, message_id, digest, identities, addresses, attachments, own, date, attempts, first = row
    try:
        return Leased(
            number,
            key,
            revision,
            message_id,
            digest,
            tuple(map(_mailbox, addresses.split(), identities.split())),
            attachments_of(attachments),
            inflate(own, dictionary),
            datetime.fromisoformat(date) if date else None,
            attempts,
            datetime.fromisoformat(first) if first else None,
            slot,
        )
    except DAMAGED as error:
        raise unreadable(f"letter {key}", error) from None


def _mailbox(address: str, identity: str) -> Mailbox:
    return Mailbox(address, "", identity)


def new_dictionary(octets: bytes) -> bytes:
    """What the letters of a revision are deflated with, made of one of them."""
    return octets[-_WINDOW:]


def deflater(dictionary: bytes) -> Callable[[bytes], bytes]:
    """Deflates letters against a dictionary: what they have in common with it takes hardly any room."""
    ready = zlib.compressobj(1, zlib.DEFLATED, -_WINDOW_BITS, 4, zlib.Z_DEFAULT_STRATEGY, dictionary)

    def deflate(octets: bytes) -> bytes:
        one = ready.copy()
        return one.compress(octets) + one.flush()

    return deflate


def inflate(octets: bytes, dictionary: bytes) -> bytes:
    """The inverse. Raises LedgerUnavailable if they are not what was deflated."""
    try:
        return zlib.decompressobj(-_WINDOW_BITS, dictionary).decompress(octets)
    except zlib.error as error:
        raise unreadable("a letter", error) from None


def inflate_strangers(octets: bytes, dictionary: bytes, most: int) -> bytes:
    """The same of what may be anybody's work. Raises ValueError, also if it comes to more than so many octets."""
    try:
        inflater = zlib.decompressobj(-_WINDOW_BITS, dictionary)
        found = inflater.decompress(octets, most)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if inflater.unconsumed_tail or inflater.unused_data or not inflater.eof:
        raise ValueError("it is cut off, or too large")
    return found
