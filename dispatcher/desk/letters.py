"""One sealed letter as it is looked at: as mail, as text, on paper, its source, beside the typical one, its files.

Everything is made from the ledger alone: what is shown is what leaves, or left.
"""

import base64
import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message as Parsed
from typing import Any, Final

from dispatcher.core.comparison import Piece, compare, most_typical
from dispatcher.core.compose import date_line, envelope_of, letter_digest
from dispatcher.core.errors import DispatcherError, PlanConflict, UsageError
from dispatcher.core.merge import Frozen, Merge
from dispatcher.core.model import Attachment, Channel, Envelope, Letter, Message, Rendering
from dispatcher.core.onpaper import parts_of
from dispatcher.desk import Desk
from dispatcher.desk.catalogue import Catalogue
from dispatcher.desk.reading import no_such_letter
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, unreadable
from dispatcher.paper.letters import looked_at, typeset
from dispatcher.paper.printing import House, PaperLetter

_SAMPLE: Final = 25
"""So many letters of a kind are read to find the typical one."""
_SHOWN: Final = 60_000
"""Octets of a message's body that are shown."""
_KEPT: Final = 4


class NoLetter(DispatcherError):
    """There is no such letter, or no such file of it."""


@dataclass(frozen=True, slots=True)
class SealedLetter:
    """A letter as it is sealed, and where it stands.

    `own` is its part of the message; on paper, what is printed.
    """

    number: int
    key: str
    state: str
    reason: str
    date: datetime | None
    revision: int
    letter: Letter
    own: bytes
    frozen: Frozen

    @property
    def on_paper(self) -> bool:
        return self.letter.recipient.channel is Channel.PAPER

    @property
    def purged(self) -> bool:
        """Whether its text, and whom it went to, were removed for good."""
        return not self.own

    @property
    def envelope(self) -> Envelope:
        return envelope_of(self.frozen.return_path, self.letter.recipient.mailboxes)

    def attachment(self, digest: str) -> Attachment:
        """One of its files. Raises NoLetter if there is none with this digest."""
        for each in self.letter.attachments:
            if each.digest == digest:
                return each
        raise NoLetter("there is no such attachment")


@dataclass(frozen=True, slots=True)
class Source:
    """A message as it leaves: its header, its body as far as it is shown (`cut` if that is not all), octets in all.

    There is no Date before it first leaves. `as_sealed` says whether all of it is what was sealed.
    """

    header: str
    body: str
    cut: bool
    size: int
    as_sealed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """A letter beside the one that says what most of its language and template say: number and key of that one."""

    number: int
    key: str
    pieces: list[Piece]


def _text(message: Parsed, kind: str) -> str:
    """The first part of a kind, as text. Raises ValueError if there is none."""
    part = next((each for each in message.walk() if each.get_content_type() == kind), None)
    octets = part.get_payload(decode=True) if part else None
    if not isinstance(octets, bytes):
        raise ValueError(f"it has no {kind}")
    return octets.decode().replace("\r\n", "\n")


class SealedLetters:
    """The sealed letters of a desk's campaign, one at a time. For several threads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lock = threading.Lock()
        self._frozen: dict[str, Frozen] = {}
        self._merges: dict[int, Merge] = {}
        self._pages: dict[tuple[int, str], list[bytes]] = {}
        self._typical: dict[Any, tuple[int, str, str]] = {}
        self._shared: dict[Any, int] = {}

    def number_of(self, key: str) -> int:
        """The number of a letter in the ledger, by its recipient's key. Raises UsageError if there is none."""
        campaign = self._desk.campaign_id()
        with self._desk.reader() as reader:
            row = reader.one("id_of", campaign=campaign, key=key)
            if row is None:
                raise no_such_letter(key, reader, campaign)
            return int(row["id"])

    def letter(self, number: int) -> SealedLetter:
        """A letter by its number. Raises NoLetter, LedgerUnavailable."""
        with self._desk.reader() as reader:
            return self._letter(reader, number)

    def _letter(self, reader: Reader, number: int) -> SealedLetter:
        row = reader.one("sealed_letter", campaign=self._desk.campaign_id(), id=number)
        if row is None:
            raise NoLetter("there is no such letter")
        plan = reader.one("frozen", campaign=row["campaign"], revision=row["revision"])
        frozen = self._thawed(plan["frozen"] if plan else "")
        return SealedLetter(
            number,
            row["key"],
            "deferred" if row["state"] == "ready" and row["attempts"] else row["state"],
            row["reason"],
            datetime.fromisoformat(row["date"]) if row["date"] else None,
            row["revision"],
            reader.letter(row),
            reader.own(row),
            frozen,
        )

    def _thawed(self, text: str) -> Frozen:
        """What letters of a revision share; kept, and always the same object for the same text."""
        with self._lock:
            if text not in self._frozen:
                try:
                    frozen = Frozen.from_data(json.loads(text))
                except DAMAGED as error:
                    raise unreadable("the sealed plan", error) from None
                self._frozen[text] = frozen
            return self._frozen[text]

    def _merge(self, sealed: SealedLetter) -> Merge:
        """Merges letters of its revision anew. What compiles is made once."""
        with self._lock:
            key = id(sealed.frozen)  # which is kept as long as we are
            if key not in self._merges:
                self._merges[key] = Merge(sealed.frozen, self.content)
            return self._merges[key]

    def content(self, digest: str) -> bytes:
        """The octets of a sealed attachment."""
        with self._desk.reader() as reader:
            return reader.octets(digest)

    # As people read it.

    def rendering(self, sealed: SealedLetter) -> Rendering:
        """Subject, text and HTML: read in the sealed octets; what is for paper says the same as it would by mail."""
        if sealed.on_paper:
            names = tuple(a.name for a in sealed.letter.attachments)
            return self._merge(sealed).renderer.render(sealed.letter.recipient, names)
        message = message_from_bytes(sealed.own)
        try:
            text, html = (_text(message, kind) for kind in ("text/plain", "text/html"))
            subject = str(make_header(decode_header(message["Subject"])))
        except DAMAGED as error:
            raise unreadable(f"letter {sealed.key}", error) from None
        return Rendering(subject, text, html, sealed.letter.language)

    def html(self, sealed: SealedLetter) -> str:
        """The letter's HTML, whole in itself: the logo, which is beside it in a message, is put in."""
        html, logo = self.rendering(sealed).html, sealed.frozen.logo
        if logo is None or not sealed.frozen.template.logo:
            return html
        picture = base64.b64encode(self.content(logo.digest)).decode()
        return html.replace(sealed.frozen.template.logo, f"data:{logo.media_type};base64,{picture}")

    # As it leaves.

    def source(self, sealed: SealedLetter) -> Source:
        """The message of a letter by mail."""
        message = self._message(sealed)
        header, _, body = message.octets.partition(b"\r\n\r\n")
        return Source(
            header.decode("utf-8", "replace").replace("\r\n", "\n"),
            body[:_SHOWN].decode("utf-8", "replace").replace("\r\n", "\n"),
            len(body) > _SHOWN,
            message.size,
            letter_digest(sealed.envelope, message) == sealed.letter.digest,
        )

    def octets(self, sealed: SealedLetter) -> bytes:
        """The whole message, for a mail program. Raises PlanConflict if it is not what was sealed."""
        message = self._message(sealed)
        if letter_digest(sealed.envelope, message) != sealed.letter.digest:
            what = f"letter {sealed.key} is not what was sealed: the ledger was changed, or is damaged"
            raise PlanConflict(what)
        return message.octets

    def size(self, sealed: SealedLetter) -> int:
        """Octets of the whole message, on the wire before dot-stuffing."""
        key = (sealed.revision, sealed.letter.attachments)
        shared = self._shared.get(key)
        if shared is None:
            shared = sum(map(len, self._message(sealed).shared))
            with self._lock:
                if len(self._shared) >= _KEPT:
                    self._shared.clear()
                self._shared[key] = shared
        return len(_date(sealed)) + len(sealed.own) + shared

    def _message(self, sealed: SealedLetter) -> Message:
        shared = sealed.frozen.composer().shared(sealed.letter.attachments, self.content)
        return Message(_date(sealed), sealed.own, shared)

    # On paper.

    def pages(self, sealed: SealedLetter) -> list[bytes]:
        """What is printed, or would be, as pictures (PNG). Raises UsageError in words."""
        key = (sealed.number, sealed.letter.digest)
        if key not in self._pages:
            made = looked_at(self._paper(sealed), self._house(sealed.frozen))
            with self._lock:
                if len(self._pages) >= _KEPT:
                    self._pages.clear()
                self._pages[key] = made
            return made
        return self._pages[key]

    def pdf(self, sealed: SealedLetter) -> bytes:
        """The same as a PDF."""
        when = datetime.combine(date.fromisoformat(sealed.frozen.template.date), time(), UTC)
        return typeset([self._paper(sealed)], self._house(sealed.frozen), timestamp=when)

    def _paper(self, sealed: SealedLetter) -> PaperLetter:
        if not sealed.on_paper:
            page = self._merge(sealed).on_paper(sealed.letter.recipient, sealed.letter.attachments)
            return PaperLetter(sealed.key, page.parts)
        try:
            return PaperLetter(sealed.key, parts_of(sealed.own))
        except DAMAGED as error:
            raise unreadable(f"letter {sealed.key}", error) from None

    def _house(self, frozen: Frozen) -> House:
        """The page is the sealed one; its fonts and pictures are the folder's, which the ledger has not."""
        fonts, logo = None, ""
        with suppress(UsageError):
            campaign = self._desk.campaign()
            fonts = self._desk.root / campaign.letter.fonts if campaign.letter.fonts else None
            logo = campaign.letter.logo or ""
        return House(frozen.template.page, self._desk.root, fonts, frozen.template.title, logo)

    # Beside the typical one.

    def compared(self, catalogue: Catalogue, sealed: SealedLetter) -> Comparison:
        """The letter in pieces, beside the typical one of its revision, language and channel."""
        kind = (catalogue.digest, sealed.revision, sealed.letter.language, sealed.on_paper)
        if kind not in self._typical:
            self._typical[kind] = self._find_typical(catalogue, sealed)
        number, key, text = self._typical[kind]
        return Comparison(number, key, compare(text, self.rendering(sealed).text))

    def _find_typical(self, catalogue: Catalogue, sealed: SealedLetter) -> tuple[int, str, str]:
        with self._desk.reader() as reader:
            alike = [self._letter(reader, number) for number in catalogue.alike(sealed.number, _SAMPLE)] or [sealed]
        texts = [self.rendering(one).text for one in alike]
        chosen = most_typical(texts)
        return alike[chosen].number, alike[chosen].letter.key, texts[chosen]


def _date(sealed: SealedLetter) -> bytes:
    return date_line(sealed.date) if sealed.date else b""
