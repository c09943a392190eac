"""A letter on paper as it is sealed: its parts as octets, there and back, and the digest over what will be printed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from dispatcher.core.compose import framed
from dispatcher.core.model import Attachment, LetterParts


def octets_of(parts: LetterParts) -> bytes:
    """The same octets for the same parts, always."""
    return json.dumps(asdict(parts), ensure_ascii=False, separators=(",", ":")).encode()


def parts_of(octets: bytes) -> LetterParts:
    """The inverse. Raises ValueError, KeyError or TypeError if they are none."""
    data = json.loads(octets)
    lists = {f.name: tuple(data[f.name]) for f in fields(LetterParts) if isinstance(data[f.name], list)}
    return LetterParts(**{**data, **lists})


def page_digest(page: str, files: Mapping[str, str]) -> bytes:
    """SHA-256 over what all letters on paper are set in: the house's page, and the files it is set with."""
    return hashlib.sha256(
        framed(page.encode(), *(each.encode() for pair in sorted(files.items()) for each in pair))
    ).digest()


def paper_digest(own: bytes, page: bytes, attachments: Sequence[Attachment]) -> str:
    """SHA-256, hex, over a letter's parts, the page they are set in (`page_digest`), and what is enclosed."""
    enclosed = framed(*(each.digest.encode() for each in attachments))
    return hashlib.sha256(framed(b"paper", own, page, enclosed)).hexdigest()
