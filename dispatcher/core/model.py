"""The nouns: frozen values, one word and one meaning each. `docs/design.md` holds the glossary."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

from dispatcher.core.errors import Place


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox (RFC 5321 §2.3.11), and the name to show beside it.

    `address` goes into envelope and header as it stands; `identity` says whether two are the same mailbox.
    """

    address: str
    name: str = ""
    identity: str = ""


class Channel(StrEnum):
    """What carries a recipient's letter. Each recipient is in one channel."""

    MAIL = "mail"
    PAPER = "paper"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One row of a recipients list, or the `rows` of one household. `fields` holds every column as text.

    Whose letter goes on paper may have no mailbox.
    """

    key: str
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...] = ()
    language: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    place: Place = Place()
    rows: int = field(default=1, compare=False)
    channel: Channel = Channel.MAIL

    @property
    def mailboxes(self) -> tuple[Mailbox, ...]:
        """Everyone who gets this letter: To, then Cc."""
        return self.to + self.cc


@dataclass(frozen=True, slots=True)
class LetterParts:
    """A letter in its parts, whatever carries it: mail or paper. All but `body` is plain text, without line breaks.

    `organisation` and `sender_address` are the letterhead; `address` is the addressee's block, a line each; `subject`
    is printed as it stands, its label included; `body` is an HTML fragment, salutation to close, without any layout,
    its values escaped; `enclosures` names what goes with the letter ('' if nothing does); `footer` says how to be
    taken off the list; `page` is the pattern of a page's number, with `{page}` and `{pages}`. `direction` is `ltr` or
    `rtl`.
    """

    language: str
    direction: str
    organisation: str
    sender_address: tuple[str, ...]
    date_line: str
    address: tuple[str, ...]
    subject: str
    body: str
    signature: tuple[str, ...]
    enclosures: str
    footer: str
    page: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """A letter as people read it, before it is mail: subject, plain text (lines end in LF), HTML, language."""

    subject: str
    text: str
    html: str
    language: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a letter. `name` is what the recipient sees; `digest` is SHA-256 of the octets, hex."""

    name: str
    media_type: str
    digest: str
    size: int
    path: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Return path and forward paths, apart from the headers (RFC 5321 §2.3.1).

    `notify` says of what the relay is asked to send word (RFC 3461 §4.1: SUCCESS, FAILURE, DELAY), `envid` which letter
    that word will be about.
    """

    return_path: str
    forward_paths: tuple[str, ...]
    notify: tuple[str, ...] = ()
    envid: str = ""

    @property
    def smtputf8(self) -> bool:
        """Whether an address needs SMTPUTF8 (RFC 6531)."""
        return not (self.return_path.isascii() and all(p.isascii() for p in self.forward_paths))


@dataclass(frozen=True, slots=True)
class Message:
    """RFC 5322 octets in three pieces: the Date line, the letter's own part, and parts shared between letters.

    The sealed digest covers `own` and `shared`: Date is fixed at the first attempt, everything else at planning. As the
    message leaves it may be signed: then `own` has another Content-Type before its own and `smime` stands behind all
    (`core.smime`), and a `signature` is on top (`core.dkim`). Nothing of that is in any digest.
    """

    date: bytes
    own: bytes
    shared: tuple[bytes, ...] = ()
    signature: bytes = b""
    smime: bytes = b""

    @property
    def octets(self) -> bytes:
        """The whole message, lines ending in CRLF."""
        return b"".join((self.signature, self.date, self.own, *self.shared, self.smime))

    @property
    def size(self) -> int:
        """Octets on the wire before dot-stuffing (RFC 1870 §5)."""
        return sum(map(len, (self.signature, self.date, self.own, *self.shared, self.smime)))

    @property
    def isascii(self) -> bool:
        """Whether every octet is below 128, so that no 8BITMIME is needed. Those of a signature are."""
        return self.date.isascii() and self.own.isascii() and all(map(_isascii, self.shared))


SHARED_PARTS: Final = 64
"""So many parts that letters share are remembered: what is made of each is made once a campaign."""

_isascii = lru_cache(maxsize=SHARED_PARTS)(bytes.isascii)


@dataclass(frozen=True, slots=True)
class Letter:
    """One campaign for one recipient: the unit of uniqueness, history and promise.

    `language` is the one it is written in (the recipient may have asked for another); `digest` covers its content
    and envelope (see `core.compose.letter_digest`); `own` is its part of the message (see `Message`). On paper, `own`
    is what will be printed, and the digest covers that.
    """

    recipient: Recipient
    language: str
    message_id: str
    attachments: tuple[Attachment, ...]
    digest: str = ""
    own: bytes = field(default=b"", repr=False, compare=False)

    @property
    def key(self) -> str:
        return self.recipient.key


class SkipReason(StrEnum):
    """Why a row gets no letter."""

    FILTERED = "filtered"
    DUPLICATE = "duplicate"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Skip:
    """A row left out at planning, with the reason."""

    key: str
    reason: SkipReason
    detail: str
    place: Place


class Outcome(StrEnum):
    """What one attempt came to (RFC 5321 §4.2.1). UNKNOWN: the terminator left and no valid reply came."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNKNOWN = "unknown"


class State(StrEnum):
    """Where a letter stands. `core.policy.TRANSITIONS` holds the arrows between these."""

    READY = "ready"
    LEASED = "leased"
    AT_RISK = "at_risk"
    ACCEPTED = "accepted"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CLOSED_UNKNOWN = "closed_unknown"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    TO_PRINT = "to_print"
    PRINTED = "printed"
    POSTED = "posted"


class Phase(StrEnum):
    """How far a conversation with the relay had come."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    FINAL = "final"


_ENHANCED: Final = re.compile(r"\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})(?!\S)")


@dataclass(frozen=True, slots=True)
class Reply:
    """A relay's reply (RFC 5321 §4.2): basic code, and the text verbatim, lines joined by LF."""

    code: int
    text: str = ""

    @property
    def enhanced(self) -> str:
        """The enhanced status code at the start of the text (RFC 3463, RFC 2034), or ''."""
        found = _ENHANCED.match(self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class RcptReply:
    """What the relay said to one RCPT."""

    mailbox: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class HandOver:
    """The bare facts of one transaction; `core.policy.classify` says what they mean.

    `terminator` is True from the moment a byte of the terminator was given to the transport. `fault` says in words
    why there is no `reply` to the last command (connection lost, time-out, a reply that was none); '' if there is one.
    `retracted` says that the intent was refused, so that the transaction was dropped on our side.
    """

    phase: Phase
    reply: Reply | None = None
    rcpts: tuple[RcptReply, ...] = ()
    terminator: bool = False
    fault: str = ""
    retracted: bool = False


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What is known of one SMTP connection: for the log, never a secret.

    `peer` is where it led, `certificate` whom the relay's certificate names (checked against `host`), `mode` how
    commands travel on it.
    """

    host: str
    port: int
    peer: str = ""
    tls_version: str = ""
    cipher: str = ""
    certificate: str = ""
    features: Mapping[str, str] = field(default_factory=dict)
    mode: str = ""

    @property
    def size(self) -> int:
        """Octets of a message that the relay says it takes (RFC 1870 §4), 0 if it says none."""
        said = self.features.get("SIZE", "")
        return min(int(said), 2**62) if said.isdecimal() and said.isascii() and len(said) < 30 else 0


@dataclass(frozen=True, slots=True)
class Leased:
    """A sealed letter that a run has taken up, with what its next attempt needs to know.

    `digest`, `mailboxes`, `attachments` and `own` are as they were sealed; `revision` is that of the plan they belong
    to; `date` is set if an earlier attempt fixed it; `not_before` is its slot in the account's pace.
    """

    id: int
    key: str
    revision: int
    message_id: str
    digest: str
    mailboxes: tuple[Mailbox, ...]
    attachments: tuple[Attachment, ...]
    own: bytes = field(repr=False)
    date: datetime | None
    attempts: int
    first_attempt_at: datetime | None
    not_before: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """What a run may work on now; and if that is nothing: when the quota allows more, and when a letter is due.

    `pace_free_at`: letters are due that wait for their recipients' domains, the first of them until then.
    """

    letters: tuple[Leased, ...] = ()
    quota_free_at: datetime | None = None
    next_due_at: datetime | None = None
    pace_free_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, for the ledger: where the letter goes, and the evidence.

    `due_at` is for letters that wait; `counted` says whether the attempt counts for the retry schedule; `rcpts` holds
    an outcome for each mailbox; `suppress` the mailboxes whose address is no good.
    """

    state: State
    outcome: Outcome
    phase: Phase
    scope: str
    reason: str
    reply: Reply | None = None
    rcpts: tuple[tuple[RcptReply, Outcome], ...] = ()
    queue_id: str = ""
    due_at: datetime | None = None
    counted: bool = True
    suppress: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a new run found of an earlier one that did not end in order; `taken_in` are outcomes from the reserve."""

    run: int
    unknown: int = 0
    given_back: int = 0
    taken_in: int = 0
