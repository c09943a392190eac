"""Who has looked at a sealed plan and says that it may leave: what is signed, the file it travels in, and who counts.

An approval is about one revision of one campaign, with the digest it was sealed with, so any change leaves it behind.
What is signed is a short text, a line each, the same octets for the same approval (`Approval.text`). The file is JSON,
written in one way only: whatever was changed in it on its way is noticed. Keys are Ed25519, in OpenSSH's form (RFC 8709
§4: `ssh-ed25519` and base64) or minisign's (base64, which begins with RW).
"""

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dispatcher.core.errors import Place, Problem, UsageError

KIND: Final = "ssh-ed25519"
LONGEST_NAME: Final = 100
SKEW: Final = timedelta(days=1)
"""How far the clocks of two people may be apart; a time zone that is set wrongly makes half of it."""
_HEAD: Final = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
_MINISIGN_HEAD: Final = b"Ed"
_MINISIGN_BEGINS: Final = "RW"
_MINISIGN_SIZE: Final = 42
_PLAN: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,47})/([1-9][0-9]{0,8})/([0-9a-f]{64})")
_JOINERS: Final = "\u200c\u200d"
_TITLE: Final = "dispatcher approval 1"


@dataclass(frozen=True, slots=True)
class PlanName:
    """A sealed plan, named so that no other is meant: campaign, revision, and the digest over its letters (hex)."""

    campaign: str
    revision: int
    digest: str

    def __str__(self) -> str:
        return f"{self.campaign}/{self.revision}/{self.digest}"

    @classmethod
    def parse(cls, text: str) -> "PlanName":
        """The inverse of `str`. Raises UsageError."""
        found = _PLAN.fullmatch(text.strip())
        if not found:
            what = f"'{text}' names no plan: it is CAMPAIGN/REVISION/DIGEST, with all 64 digits"
            raise UsageError(Problem(what, Place("--plan"), "copy it whole, as `dispatcher seal` shows it"))
        return cls(found[1], int(found[2]), found[3])


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 key in OpenSSH's or minisign's form, without its comment, and whose it is: the comment, or ''."""

    key: str
    owner: str = ""

    @classmethod
    def parse(cls, line: str) -> "PublicKey":
        """A line of `id_ed25519.pub`, or the second one of `minisign.pub`. Raises ValueError with what is wrong."""
        kind, _, rest = line.strip().partition(" ")
        if kind.startswith(_MINISIGN_BEGINS):
            if len(octets := _decoded(kind)) != _MINISIGN_SIZE or not octets.startswith(_MINISIGN_HEAD):
                raise ValueError("the key is not whole; copy the line of minisign.pub that begins with RW")
            return cls(kind, _owner(rest))
        blob, _, owner = rest.strip().partition(" ")
        if kind != KIND:
            raise ValueError(f"write a line of id_ed25519.pub, which begins with {KIND}, or of minisign.pub, with RW")
        octets = _decoded(blob)
        if not octets.startswith(_HEAD) or len(octets) != len(_HEAD) + 32:
            raise ValueError(f"the key behind {KIND} is not whole; copy the line of id_ed25519.pub")
        return cls(f"{KIND} {blob}", _owner(owner))

    @classmethod
    def of(cls, octets: bytes) -> "PublicKey":
        """The key with these 32 octets, in OpenSSH's form."""
        return cls(f"{KIND} {base64.b64encode(_HEAD + octets).decode()}")

    @classmethod
    def of_minisign(cls, number: bytes, octets: bytes) -> "PublicKey":
        """The key with these 32 octets, in minisign's form, where it has a number of 8 octets too."""
        return cls(base64.b64encode(_MINISIGN_HEAD + number + octets).decode())

    @property
    def minisign(self) -> bool:
        """Whether it is in minisign's form."""
        return not self.key.startswith(KIND)

    @property
    def number(self) -> bytes:
        """What minisign tells keys apart by, 8 octets; b'' in OpenSSH's form."""
        return base64.b64decode(self.key)[2:10] if self.minisign else b""

    @property
    def blob(self) -> bytes:
        """The key as it goes over the wire (RFC 8709 §4)."""
        return _HEAD + self.octets

    @property
    def octets(self) -> bytes:
        """The 32 octets of the key itself (RFC 8032)."""
        return base64.b64decode(self.key.rpartition(" ")[2])[-32:]


def _decoded(text: str) -> bytes:
    """What base64 stands for, written in its one form; b'' if it is none."""
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return octets if base64.b64encode(octets) == text.encode() else b""


def _owner(text: str) -> str:
    return approver_name(text) if text.strip() else ""


def approver_name(text: str) -> str:
    """A person's name as it is signed: one line, NFC, no octet that does not show. Raises ValueError."""
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if not name:
        raise ValueError("the name is empty")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"the name is longer than {LONGEST_NAME} letters")
    if any(not c.isprintable() and c not in _JOINERS for c in name):
        raise ValueError("the name holds what does not show")
    return name


def person_of(name: str) -> str:
    """A name with what does not tell two people apart taken out: capitals, accents, wide forms, blanks, marks between.

    Only accents (U+0300 to U+036F) go: in scripts such as Khmer and Arabic a mark is part of the name.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    kept = "".join(c for c in folded if unicodedata.category(c)[0] in "LNM" and not "\u0300" <= c <= "\u036f")
    return unicodedata.normalize("NFC", kept or folded)


@dataclass(frozen=True, slots=True)
class Approval:
    """That a person says a plan may leave. `at` is by that person's clock; `key` and `signature` are '' if unsigned.

    Raises ValueError for what cannot be said in one canonical text.
    """

    plan: PlanName
    name: str
    at: datetime
    key: str = ""
    signature: str = ""

    def __post_init__(self) -> None:
        if approver_name(self.name) != self.name:
            raise ValueError("the name is not written in its one form")
        if self.at.utcoffset() != timedelta():
            raise ValueError("the time is not in UTC")
        if not _PLAN.fullmatch(str(self.plan)):
            raise ValueError("the plan's name is none")
        if bool(self.key) != bool(self.signature):
            raise ValueError("key and signature go together")
        if self.key and PublicKey.parse(self.key).key != self.key:
            raise ValueError("the key is not written in its one form")

    @property
    def when(self) -> str:
        """The time as it is signed."""
        return self.at.astimezone(UTC).isoformat(timespec="microseconds")

    def text(self) -> bytes:
        """What is signed."""
        plan = self.plan
        lines = (
            _TITLE,
            f"campaign: {plan.campaign}",
            f"revision: {plan.revision}",
            f"digest: {plan.digest}",
            f"name: {self.name}",
            f"time: {self.when}",
        )
        return "".join(f"{line}\n" for line in lines).encode()

    def to_file(self) -> bytes:
        """The approval as a small file."""
        given = {"dispatcher": "approval 1", **asdict(self.plan), "name": self.name, "time": self.when}
        whole = {**given, "key": self.key, "signature": self.signature}
        return (json.dumps(whole, ensure_ascii=False, indent=1) + "\n").encode()

    @classmethod
    def from_file(cls, octets: bytes) -> "Approval":
        """The inverse of `to_file`; line ends may have become CRLF. Raises ValueError if a single octet is another."""
        octets = octets.replace(b"\r\n", b"\n")
        try:
            data = json.loads(octets.decode())
            plan = PlanName(data["campaign"], int(data["revision"]), data["digest"])
            at = datetime.fromisoformat(data["time"])
            found = cls(plan, data["name"], at, data["key"], data["signature"])
        except (KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError, json.JSONDecodeError):
            raise ValueError("this is no file that `dispatcher approve --export` wrote") from None
        if found.to_file() != octets:
            raise ValueError("it is not as `dispatcher approve --export` wrote it: something was changed in it")
        return found


@dataclass(frozen=True, slots=True)
class Judged:
    """An approval that is recorded, and why it does not count, or ''."""

    approval: Approval
    why_not: str

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        found = self.approval
        named = {"name": found.name, "time": found.when, "key": found.key, "signature": found.signature}
        return {**named, "counts": not self.why_not, "why_not": self.why_not}


Check = Callable[[Approval], str]
"""What is wrong with an approval's signature, or ''."""


def judge(approvals: Iterable[Approval], approvers: Sequence[PublicKey], check: Check) -> Iterator[Judged]:
    """Each approval of one plan, and whether it counts: once for each person, and once for each key."""
    people, keys = set[str](), set[bytes]()
    for approval in approvals:
        why_not = check(approval) or not_among(approval, approvers)
        key = PublicKey.parse(approval.key).octets if approval.key else b""
        if not why_not and (person_of(approval.name) in people or key in keys):
            why_not = "this person has approved already"
        if not why_not:
            people.add(person_of(approval.name))
            keys |= {key} - {b""}
        yield Judged(approval, why_not)


def not_among(approval: Approval, approvers: Sequence[PublicKey]) -> str:
    """Why it is not the word of one of these, if there are any; or ''."""
    if not approvers:
        return ""
    if not approval.key:
        return "it is not signed, and campaign.toml names the keys of those who may approve"
    owner = next((known.owner for known in approvers if known.key == approval.key), None)
    if owner is None:
        return "its key is not among the approvers in campaign.toml"
    if owner and person_of(owner) != person_of(approval.name):
        return f"its key is that of {owner} in campaign.toml, not of {approval.name}"
    return ""


def out_of_time(approval: Approval, *, sealed: datetime, now: datetime) -> str:
    """Why it cannot be from between the sealing and now, however the two clocks are set; or ''."""
    if approval.at < sealed - SKEW:
        return f"it is of {approval.when}, and the plan was sealed later, {sealed.isoformat(timespec='seconds')}"
    if approval.at > now + SKEW:
        return f"it is of {approval.when}, which has not come yet: here it is {now.isoformat(timespec='seconds')}"
    return ""
