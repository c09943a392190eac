"""Questions to the DNS and their answers, as values; who asks and how long is waited is the edge's (`lookups`).

An inquiry is a generator: it yields a question and is sent the answer, until it returns what it found. So every rule
about records is pure, and what it asks is seen.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")
Kind = Literal["A", "AAAA", "MX", "PTR", "TXT"]


@dataclass(frozen=True, slots=True)
class Question:
    """The records of one kind under one name."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `exists` is False if there is no such name (RFC 8020); `unknown` says why nobody can tell.

    `records`: an address; "10 mail.example.org" for MX ("0 ." for the null MX); a TXT record with its strings joined.
    """

    records: tuple[str, ...] = ()
    exists: bool = True
    unknown: str = ""


Inquiry = Generator[Question, Answer, T]


def ask(name: str, kind: Kind) -> Inquiry[Answer]:
    """One question."""
    return (yield Question(name.rstrip("."), kind))


def tags(record: str) -> Mapping[str, str]:
    """A tag list, as DKIM and DMARC write it (RFC 6376 §3.2): names in small letters, of two the first counts."""
    found: dict[str, str] = {}
    for part in record.split(";"):
        name, mark, value = part.partition("=")
        if mark:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def host_and_port(address: str) -> tuple[str, int]:
    """A name server's address as campaign.toml has it: "192.0.2.53", "192.0.2.53:5353", "::1", "[::1]:5353"."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, int(rest.removeprefix(":") or 53)
    host, mark, port = address.partition(":")
    return (host, int(port)) if mark and ":" not in port else (address, 53)


def txt_record(name: str, text: str) -> str:
    """A TXT record in a zone file's words, ready to paste; long ones in strings of 255 octets (RFC 1035 §3.3.14)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    strings = " ".join(f'"{escaped[n : n + 255]}"' for n in range(0, max(1, len(escaped)), 255))
    return f"{name}. 3600 IN TXT {strings}"
