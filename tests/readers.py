"""Three independent readers of a message, each giving the same kind of `Reading`: the standard library's parser, the
PyPI package mail-parser, and the npm package mailparser (tests/npm/read.js).
"""

import base64
import email
import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage, Message
from email.policy import default
from pathlib import Path
from typing import Any, TypeAlias

import mailparser  # type: ignore[import-untyped]
import pytest

from tests.servers import require

NPM = Path(__file__).parent / "npm"
SECONDS = 120
Tree: TypeAlias = tuple[Any, ...]
"""A part's type, and the trees of what is in it if that is something."""


@dataclass(frozen=True)
class File:
    """What is attached or embedded: its name, type, Content-ID without brackets, octets."""

    name: str
    kind: str
    cid: str
    octets: bytes


@dataclass(frozen=True)
class Reading:
    """A message as somebody sees it. People are (name, address); texts have LF, and none at the end."""

    subject: str
    sender: tuple[tuple[str, str], ...]
    to: tuple[tuple[str, str], ...]
    text: str
    html: str
    tree: Tree
    files: tuple[File, ...]


def by_standard_library(octets: bytes) -> Reading:
    message = email.message_from_bytes(octets, policy=default)
    plain, html = (part for part in message.walk() if part.get_content_maintype() == "text" and not _is_file(part))
    files = tuple(
        File(
            part.get_filename() or "",
            part.get_content_type(),
            str(part.get("Content-ID", "")).strip("<>"),
            _octets(part),
        )
        for part in message.walk()
        if _is_file(part)
    )
    assert isinstance(plain, EmailMessage)
    assert isinstance(html, EmailMessage)
    return Reading(
        message["Subject"],
        tuple((a.display_name, a.addr_spec) for a in message["From"].addresses),
        tuple((a.display_name, a.addr_spec) for a in message["To"].addresses),
        _lines(plain.get_content()),
        _lines(html.get_content()),
        _tree(message),
        files,
    )


def by_mail_parser(octets: bytes) -> Reading:
    found = mailparser.parse_from_bytes(octets)
    assert not found.defects
    return Reading(
        found.subject,
        tuple(map(tuple, found.from_)),
        tuple(map(tuple, found.to)),
        _lines("".join(found.text_plain)),
        _lines("".join(found.text_html)),
        _tree(found.message),
        tuple(
            File(
                one["filename"],
                one["mail_content_type"],
                one["content-id"].strip("<>"),
                base64.b64decode(one["payload"]) if one["binary"] else one["payload"].encode(),
            )
            for one in found.attachments
        ),
    )


def by_node(messages: Iterable[bytes]) -> Sequence[Reading]:
    """All of them in one process. Skips the test if there is no node, or no such package."""
    node = require("node", "apt-get install nodejs npm")
    if not (NPM / "node_modules/mailparser").is_dir():
        pytest.skip("the npm package mailparser is missing; install it: make npm")
    given = b"".join(base64.b64encode(octets) + b"\n" for octets in messages)
    argv = [node, str(NPM / "read.js")]
    done = subprocess.run(argv, input=given, capture_output=True, timeout=SECONDS, check=True)
    return [_of_node(json.loads(line)) for line in done.stdout.split(b"\n")[:-1]]


def _of_node(found: dict[str, Any]) -> Reading:
    return Reading(
        found["subject"],
        tuple(map(tuple, found["from"])),
        tuple(map(tuple, found["to"])),
        _lines(found["text"]),
        _lines(found["html"]),
        _tuples(found["tree"]),
        tuple(File(name, kind, cid, base64.b64decode(octets)) for name, kind, cid, octets in found["files"]),
    )


def _is_file(part: Message) -> bool:
    return part.get_content_disposition() in ("attachment", "inline")


def _octets(part: Message) -> bytes:
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    return octets


def _tree(part: Message) -> Tree:
    kind = part.get_content_type()
    return (kind, tuple(_tree(one) for one in part.get_payload())) if part.is_multipart() else (kind,)  # type: ignore[arg-type]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").rstrip("\n")
