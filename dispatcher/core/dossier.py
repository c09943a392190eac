"""The dossier: the evidence of a dispatch as a folder of files. What stands in them, and in which form.

    dossier.pdf, dossier-2.pdf …   one page of summary, and a table of every recipient
    recipients.csv, .json, .xlsx   the same table, for programs
    record/KIND.jsonl              what the ledger recorded, a row a line, in the order of the chain (`core.chain`)
    links.jsonl                    the chain over it
    plans/N.json, N.dictionary     what all letters of a revision share, as it was sealed; what they are deflated with
    letters.jsonl, letters/        what was sealed of each letter; its octets, text and HTML
    skips.jsonl                    rows of the lists without a letter
    attachments/                   each once, by its SHA-256
    messages/                      what left, octet for octet; without signatures (DKIM, S/MIME)
    manifest.json                  facts, and every other file with its size and SHA-256
    manifest.json.sig, .minisig    a signature over the manifest, by OpenSSH's or minisign's key

Each file has one form alone, so that whoever has the rows can say of every octet whether it is right; nothing in it
comes from a clock but the moment at which it was made. With hidden persons (`--redact`) there are no plans, letters,
attachments and messages, and in rows and tables what is personal is taken away.

Pure: the desk reads and writes. Raises ValueError for what is not in that form.
"""

import base64
import binascii
import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from dispatcher.core.chain import KINDS, Link, canonical, personal_digest, row_digest
from dispatcher.core.model import Channel
from dispatcher.core.reading import WORDS, safe_cell, went_by
from dispatcher.core.text import file_stem

MANIFEST: Final = "manifest.json"
SIGNATURES: Final = (f"{MANIFEST}.sig", f"{MANIFEST}.minisig")
LINKS: Final = "links.jsonl"
LETTERS: Final = "letters.jsonl"
SKIPS: Final = "skips.jsonl"
CSV, JSON, XLSX = "recipients.csv", "recipients.json", "recipients.xlsx"
HIDDEN: Final = "[hidden]"
"""Stands in a table where something personal was taken away."""
SKIPPED: Final = "skipped"
"""The state in the table of a row of a list that got no letter."""
_TITLE: Final = "dossier 1"

COLUMNS: Final = (
    "letter", "key", "name", "addresses", "language", "channel", "state", "outcome", "at", "ended_at", "attempts",
    "phase", "code", "enhanced", "reply", "queue_id", "host", "port", "tls_version", "message_id", "date", "revision",
    "digest", "message_digest", "reason",
)  # fmt: skip
"""Of a recipient's row: where its letter stands, and its last attempt. Times are ISO 8601 in UTC."""
PERSONAL: Final = frozenset(("key", "name", "addresses", "reply", "queue_id", "message_id", "reason"))
"""As `core.chain` has it; and the Message-ID, which is made of the key, so that it can be guessed."""
OF_ATTEMPT: Final = ("outcome", "at", "ended_at", "phase", "code", "enhanced", "reply", "queue_id", "message_digest")
"""Columns of a recipient's row that are those of the letter's last attempt."""
OF_SESSION: Final = ("host", "port", "tls_version")
"""Those that are of the connection it was made over."""
FACTS: Final[Mapping[str, type]] = {
    "campaign": str, "title": str, "rehearsal": bool, "plan": dict, "created_at": str, "created_by": str,
    "version": str, "redacted": bool, "messages": bool, "signed": bool, "chain": dict, "counts": dict, "rows": int,
}  # fmt: skip
"""What a manifest must say, and as what."""
_CRLF: Final = "\r\n"

Row = Mapping[str, Any]


def row_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """A recipient's row (COLUMNS), of a row of the ledger; of one that was purged what is left."""
    recipient = json.loads(found["recipient"] or "{}")
    channel = went_by(found["channel"], found["state"])
    given = {
        **found,
        "letter": found["id"],
        **named(recipient),
        "channel": str(channel),
        "state": WORDS.get(found["state"], found["state"]),
        "message_id": "" if found["channel"] == Channel.PAPER else found["message_id"],
        "at": found["on_paper_at"] or found["at"] if channel is Channel.PAPER else found["at"],
    }
    return {name: "" if given[name] is None else given[name] for name in COLUMNS}


def named(recipient: Mapping[str, Any]) -> dict[str, str]:
    """What a row says of who it is: the recipient as it was sealed, or {} if it was purged."""
    to, cc = recipient.get("to", ()), recipient.get("cc", ())
    return {
        "name": to[0]["name"] if to else recipient.get("fields", {}).get("name", ""),
        "addresses": ", ".join(mailbox["address"] for mailbox in (*to, *cc)),
    }


def row_of_skip(skip: Mapping[str, Any], revision: int) -> dict[str, Any]:
    """The row of somebody who stands in a list and got no letter."""
    given = {
        "key": skip["key"],
        "state": SKIPPED,
        "revision": revision,
        "reason": f"{skip['reason']}: {skip['detail']}",
    }
    return {name: given.get(name, "") for name in COLUMNS}


def hidden(row: Row) -> dict[str, Any]:
    """The row without what is personal in it."""
    return {name: HIDDEN if value != "" and name in PERSONAL else value for name, value in row.items()}


# The table for programs, in three forms.


def csv_head() -> bytes:
    return _csv_line(COLUMNS)


def csv_row(row: Row) -> bytes:
    """For spreadsheets: no cell is a formula."""
    return _csv_line([safe_cell(row[name]) for name in COLUMNS])


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator=_CRLF).writerow(cells)  # with LF it would put no quotes round a lone CR
    return (text.getvalue().removesuffix(_CRLF) + "\n").encode()


JSON_HEAD: Final = b'{"rows": [\n'
JSON_TAIL: Final = b"\n]}\n"
JSON_BETWEEN: Final = b",\n"
ROW_BEGINS: Final = b'{"letter": '


def json_row(row: Row) -> bytes:
    return json.dumps({name: row[name] for name in COLUMNS}, ensure_ascii=False).encode()


def row_of_json(line: bytes) -> dict[str, Any]:
    """The inverse of `json_row`, with what may stand behind it. Raises ValueError if it is not in that form."""
    text = line.removesuffix(b"\n").removesuffix(b",")
    try:
        row: dict[str, Any] = json.loads(text)
        whole = json_row(row) == text and len(row) == len(COLUMNS)
    except (KeyError, TypeError, RecursionError, ValueError):
        whole = False
    if not whole:
        raise ValueError("it is not as it was written")
    return row


# What the ledger recorded.


def record_file(kind: str) -> str:
    """The file that holds the rows of a kind."""
    return f"record/{KINDS[kind].many.replace(chr(39), '').replace(' ', '-')}.jsonl"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A row as the chain knows it: the values of either storey by column, of which the second may be gone.

    `personal` is the digest of what is personal, hex; `salt` is hex, and '' where that is gone.
    """

    kind: str
    id: int
    above: Mapping[str, Any]
    below: Mapping[str, Any] | None
    salt: str
    personal: str

    @classmethod
    def of(cls, kind: str, number: int, above: Sequence[Any], below: Sequence[Any], salt: bytes) -> "Recorded":
        """A row that is whole, of the two lists that the chain's digests are made of."""
        personal = personal_digest(salt, canonical(below)).hex()
        named = dict(zip(KINDS[kind].public, above[1:], strict=True))
        return cls(kind, number, named, dict(zip(KINDS[kind].personal, below, strict=True)), salt.hex(), personal)

    @classmethod
    def purged(cls, kind: str, number: int, above: Sequence[Any], personal: bytes) -> "Recorded":
        """A row of which what was personal is gone."""
        return cls(kind, number, dict(zip(KINDS[kind].public, above[1:], strict=True)), None, "", personal.hex())

    def hidden(self) -> "Recorded":
        """The same without what is personal, of which only the digest is left."""
        return replace(self, below=None, salt="")

    @property
    def digest(self) -> bytes:
        """As it stands in the chain."""
        return row_digest(canonical([self.kind, *self.above.values()]), bytes.fromhex(self.personal))

    def line(self) -> bytes:
        """As it stands in a file."""
        kept = {"personal_digest": self.personal} if self.below is None else {"salt": self.salt, "personal": self.below}
        return _json({"id": self.id, "public": self.above, **kept}) + b"\n"

    @classmethod
    def parse(cls, kind: str, line: bytes) -> "Recorded":
        """The inverse. Raises ValueError if it is not in that form."""
        try:
            data = json.loads(line)
            above, number = [kind, *data["public"].values()], data["id"]
            if "personal" in data:
                found = cls.of(kind, number, above, list(data["personal"].values()), bytes.fromhex(data["salt"]))
            else:
                found = cls.purged(kind, number, above, bytes.fromhex(data["personal_digest"]))
            whole = found.line() == line and isinstance(number, int) and number == found.above["id"]
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError):
            whole = False
        if not whole:
            raise ValueError("it is not as it was written")
        return found


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def link_line(number: int, names: bytes, digests: bytes, link: bytes) -> bytes:
    """A link as it stands in a file."""
    return _json({"number": number, "names": names.hex(), "digests": digests.hex(), "link": link.hex()}) + b"\n"


def link_of(line: bytes) -> Link:
    """The inverse. Raises ValueError if it is not in that form."""
    try:
        data = json.loads(line)
        names, digests, link = (bytes.fromhex(data[name]) for name in ("names", "digests", "link"))
        whole = link_line(data["number"], names, digests, link) == line and isinstance(data["number"], int)
    except (KeyError, TypeError, RecursionError, ValueError):
        whole = False
    if not whole:
        raise ValueError("it is not as it was written")
    return Link(data["number"], names, digests, link)


# What was sealed.

LETTER: Final = (
    "id", "key", "revision", "channel", "language", "message_id", "digest", "mailboxes", "addresses", "recipient",
    "attachments",
)  # fmt: skip
"""What `letters.jsonl` holds of each letter, in the order of the keys, as the ledger has it: all that was sealed, with
its `own` octets deflated, in base64; and `date`, which was fixed when it first left."""


def letter_line(letter: Mapping[str, Any]) -> bytes:
    own = letter["own"] if isinstance(letter["own"], str) else base64.b64encode(letter["own"]).decode()
    return _json({**{name: letter[name] for name in LETTER}, "date": letter["date"], "own": own}) + b"\n"


def letter_of_line(line: bytes) -> dict[str, Any]:
    """The inverse. Raises ValueError if it is not in that form."""
    try:
        found: dict[str, Any] = json.loads(line)
        whole = letter_line(found) == line
        own = base64.b64decode(found["own"], validate=True)
    except (KeyError, TypeError, RecursionError, ValueError):
        whole = False
    if not whole:
        raise ValueError("it is not as it was written")
    return {**found, "own": own}


def sealed_text(letter: Mapping[str, Any]) -> bytes:
    """What the chain's digest over all letters of a plan is made of, of one letter, before its own octets."""
    return canonical([letter[name] for name in LETTER])


SKIP: Final = ("key", "reason", "detail", "place")


def skip_line(skip: Mapping[str, Any]) -> bytes:
    """A row of a list without a letter, as it stands in a file; and, without the line's end, in that digest."""
    return canonical([skip[name] for name in SKIP]) + b"\n"


def skip_of_line(line: bytes) -> dict[str, Any]:
    """The inverse. Raises ValueError if it is not in that form."""
    try:
        found = dict(zip(SKIP, json.loads(line), strict=True))
        whole = skip_line(found) == line
    except (TypeError, RecursionError, ValueError):
        whole = False
    if not whole:
        raise ValueError("it is not as it was written")
    return found


def plan_files(revision: int) -> tuple[str, str]:
    """The names of a revision's files: what its letters share, and what they are deflated with."""
    return f"plans/{revision}.json", f"plans/{revision}.dictionary"


def letter_files(number: int, key: str) -> tuple[str, str, str]:
    """The names of a letter's files: its octets, its text, its HTML."""
    stem = f"letters/{file_stem(number, key)}"
    return f"{stem}.eml", f"{stem}.txt", f"{stem}.html"


def paper_file(number: int, key: str) -> str:
    """The name of the file of a letter on paper: its parts, as JSON."""
    return f"letters/{file_stem(number, key)}.json"


def message_file(number: int, key: str) -> str:
    return f"messages/{file_stem(number, key)}.eml"


def attachment_file(digest: str, name: str) -> str:
    """The name of an attachment's file: its SHA-256, and the ending that it has."""
    found = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
    return f"attachments/{digest}{found[0].lower() if found else ''}"


def texts_of(own: bytes) -> tuple[bytes, bytes]:
    """Plain text and HTML of a letter, read out of its own octets as `core.compose` wrote them; lines end in LF.

    Not by a reader of any mail: what is no letter of ours must not take its time. Raises ValueError for that.
    """
    found = _ALTERNATIVE.search(own)
    parts = own.split(b"--" + found[1] + b"\r\n") if found else []
    if len(parts) != 3:
        raise ValueError("it is no letter in two forms")
    return _text_in(parts[1]), _text_in(parts[2].partition(b"\r\n--" + (found[1] if found else b"") + b"--\r\n")[0])


_ALTERNATIVE: Final = re.compile(rb'\r\nContent-Type: multipart/alternative;\s+boundary="(=_[0-9A-Za-z._]+)"\r\n')
_TEXT: Final = re.compile(
    rb'Content-Type: text/(?:plain|html); charset="utf-8"\r\n'
    rb"Content-Transfer-Encoding: (7bit|base64|quoted-printable)\r\n\r\n"
)


def _text_in(part: bytes) -> bytes:
    found = _TEXT.search(part)
    if not found:
        raise ValueError("there is no text in a part of it")
    body = part[found.end() :].removesuffix(b"\r\n")
    if found[1] == b"base64":
        body = binascii.a2b_base64(body)
    elif found[1] == b"quoted-printable":
        body = binascii.a2b_qp(body)
    return body.replace(b"\r\n", b"\n")


# The manifest.


@dataclass(frozen=True, slots=True)
class File:
    """A file of a dossier: its name there, octets, SHA-256 in hex."""

    name: str
    size: int
    digest: str

    def line(self) -> bytes:
        return json.dumps({"name": self.name, "size": self.size, "sha256": self.digest}, ensure_ascii=False).encode()


def manifest_head(facts: Mapping[str, Any]) -> bytes:
    """The manifest up to its files. `facts` are plain data."""
    text = json.dumps({"dispatcher": _TITLE, **facts}, ensure_ascii=False, indent=1)
    return text.removesuffix("\n}").encode() + b',\n "files": [\n'


def manifest_tail(digest: str) -> bytes:
    """Its end: the SHA-256 over all that stands before, in hex. So a slip shows also where nobody signed."""
    return b'\n ],\n "sha256_of_the_above": "' + digest.encode() + b'"\n}\n'


def manifest_of(facts: Mapping[str, Any], files: Iterable[File]) -> bytes:
    """The whole manifest."""
    before = manifest_head(facts) + b",\n".join(b"  " + file.line() for file in files)
    return before + manifest_tail(hashlib.sha256(before).hexdigest())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says."""

    facts: Mapping[str, Any]
    files: Mapping[str, File]

    @classmethod
    def parse(cls, octets: bytes) -> "Manifest":
        """The inverse of `manifest_of`. Raises ValueError if a single octet is another."""
        try:
            data = json.loads(octets)
            if data["dispatcher"] != _TITLE:
                raise ValueError(f"it is of another kind, {data['dispatcher']}")
            facts = {k: v for k, v in data.items() if k not in ("dispatcher", "files", "sha256_of_the_above")}
            rows = data["files"]
            files = [File(row["name"], row["size"], row["sha256"]) for row in rows]
        except (KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError, json.JSONDecodeError):
            raise ValueError("it is no manifest of a dossier, or it was changed") from None
        if manifest_of(facts, files) != octets:
            raise ValueError("it is not as it was written: something was changed in it")
        if [name for name, kind in FACTS.items() if type(facts.get(name)) is not kind] or len(facts) != len(FACTS):
            raise ValueError("it does not say what a manifest says")
        named = {file.name: file for file in files}
        if len(named) < len(files) or not all(map(_is_name, named)):
            raise ValueError("it names files that no dossier has")
        return cls(facts, named)


_NAME: Final = re.compile(r"(?:[a-z-]+/)?[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def _is_name(name: str) -> bool:
    """Whether it may be the name of a file there: nothing that leads outside."""
    return bool(_NAME.fullmatch(name))


def always(redacted: bool) -> Iterator[str]:  # noqa: FBT001
    """The files that every dossier has."""
    yield from ("dossier.pdf", CSV, JSON, XLSX, LINKS)
    yield from map(record_file, KINDS)
    if not redacted:
        yield from (LETTERS, SKIPS)
