"""Letters and recipients as the ledger keeps them, there and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from dispatcher.core.errors import Place
from dispatcher.core.model import Attachment, Leased, Letter, Mailbox, Recipient


def document(value: object) -> str:
    """One JSON document, always the same text for the same value."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def recipient_text(recipient: Recipient) -> str:
    return document(asdict(recipient))


def recipient_of(text: str) -> Recipient:
    data: Mapping[str, Any] = json.loads(text)
    return Recipient(
        key=data["key"],
        to=tuple(Mailbox(**m) for m in data["to"]),
        cc=tuple(Mailbox(**m) for m in data["cc"]),
        language=data["language"],
        fields=data["fields"],
        place=Place(**data["place"]),
    )


def attachments_text(attachments: Sequence[Attachment]) -> str:
    return document([asdict(a) for a in attachments])


def letter_row(letter: Letter) -> dict[str, Any]:
    """The columns that hold a sealed letter."""
    return {
        "key": letter.key,
        "language": letter.language,
        "message_id": letter.message_id,
        "digest": letter.digest,
        "mailboxes": " ".join(m.identity for m in letter.recipient.mailboxes),
        "recipient": recipient_text(letter.recipient),
        "attachments": attachments_text(letter.attachments),
    }


def letter_of(language: str, message_id: str, digest: str, recipient: str, attachments: str) -> Letter:
    files = tuple(Attachment(**a) for a in json.loads(attachments))
    return Letter(recipient_of(recipient), language, message_id, files, digest)


def leased(row: Sequence[Any], slot: datetime) -> Leased:
    """A row of the statement `due`."""
    number, _key, revision, language, message_id, digest, recipient, attachments, date, attempts, first = row
    return Leased(
        number,
        letter_of(language, message_id, digest, recipient, attachments),
        revision,
        datetime.fromisoformat(date) if date else None,
        attempts,
        datetime.fromisoformat(first) if first else None,
        slot,
    )
