"""What was sealed and one recipient → a letter with its message and envelope, or on paper with its parts, in one value.

Planning and preview come through `Merge`. Dispatch comes through `Press`, which takes the octets that were sealed, so
that what was looked at is what leaves. Pure functions: the same input gives the same octets. Raises UsageError naming
recipient and place, and PlanConflict when the ledger's octets are not those that were sealed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from dispatcher import __version__
from dispatcher.core.campaign import Campaign
from dispatcher.core.compose import (
    Composer,
    ContentError,
    Headers,
    boundary,
    content_id,
    date_line,
    dated,
    envelope_of,
    letter_digest,
    message_digest,
    message_id,
)
from dispatcher.core.errors import CampaignError, PlanConflict, Problem, UsageError
from dispatcher.core.gate import gate, gate_date
from dispatcher.core.headers import HeaderError, clean_file_name
from dispatcher.core.lint import Lint
from dispatcher.core.model import (
    Attachment,
    Envelope,
    Leased,
    Letter,
    LetterParts,
    Mailbox,
    Message,
    Recipient,
    Rendering,
)
from dispatcher.core.onpaper import octets_of, page_digest, paper_digest
from dispatcher.core.render import Renderer, TemplateSource

Content = Callable[[str], bytes]
"""The octets of an attachment, by digest."""
_ANY_DATE = date_line(datetime.fromisoformat("2000-01-01T00:00:00+00:00"))


@dataclass(frozen=True, slots=True)
class Frozen:
    """Everything all letters of a plan share, as the ledger seals it. `version` is the program that made it."""

    campaign: str
    template: TemplateSource
    from_: Mailbox
    reply_to: Mailbox
    unsubscribe: Mailbox
    return_path: str
    organisation: str
    logo: Attachment | None = None
    version: str = __version__

    @classmethod
    def of(cls, campaign: Campaign, template: TemplateSource, logo: Attachment | None = None) -> "Frozen":
        """Freeze what a campaign's letters share."""
        sender = campaign.sender
        return cls(
            campaign.id,
            replace(template, logo=f"cid:{content_id(logo)}") if logo else template,
            replace(sender.mailbox("address"), name=sender.name),
            sender.mailbox("reply_to"),
            sender.mailbox("unsubscribe"),
            sender.mailbox("return_path").address,
            sender.organisation,
            logo,
        )

    def composer(self) -> Composer:
        """Composes the messages of the campaign's letters."""
        headers = (self.organisation, self.from_, self.reply_to, self.unsubscribe, self.return_path)
        return Composer(Headers(*headers, boundary(self.campaign)), logo=self.logo)

    def as_data(self) -> dict[str, Any]:
        """Plain data for the ledger."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Frozen":
        """The inverse of `as_data`."""
        mailboxes = {name: Mailbox(**data[name]) for name in ("from_", "reply_to", "unsubscribe")}
        logo = data["logo"] and Attachment(**data["logo"])
        return cls(**{**data, **mailboxes, "logo": logo, "template": TemplateSource.from_data(data["template"])})


@dataclass(frozen=True, slots=True)
class Merged:
    """A letter with all that it became: what people read, the octets (without Date), and whom it goes to."""

    letter: Letter
    rendering: Rendering
    message: Message
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class OnPaper:
    """A letter that is to be printed, in its parts."""

    letter: Letter
    parts: LetterParts


class Merge:
    """Merges letters of one frozen campaign. Holds compiled templates and a few encoded attachments, nothing else."""

    def __init__(self, frozen: Frozen, content: Content) -> None:
        self.frozen = frozen
        self.renderer = Renderer(frozen.template)
        self._content = content
        self._composer = frozen.composer()

    def merge(self, recipient: Recipient, attachments: Sequence[Attachment], lint: Lint | None = None) -> Merged:
        """One letter, through the gate, and read by `lint`.

        Raises UsageError naming the recipient, and field and place if known.
        """
        shown = tuple(a.name for a in attachments)
        rendering, proof = self.renderer.proofed(recipient, shown)
        merged = self._bind(recipient, rendering, tuple(attachments), self._number(recipient))
        if lint:
            lint.read(recipient, proof)
        return merged

    def on_paper(self, recipient: Recipient, attachments: Sequence[Attachment], lint: Lint | None = None) -> OnPaper:
        """One letter to be printed, read by `lint`.

        Raises UsageError as `merge` does; CampaignError if the house has no page.
        """
        page = self.frozen.template.page
        if not page.text:
            todo = "put the page there in Typst (dispatcher init DIR makes one), or name it: paper under [letter]"
            raise CampaignError(Problem(f"{page.file} does not exist, and letters on paper are set in it", todo=todo))
        shown = tuple(a.name for a in attachments)
        parts = self.renderer.parts(recipient, shown)
        if not parts.address:
            place = replace(recipient.place, recipient=recipient.key)
            todo = "fill the columns that the letter's `address` reads, or give it lines, between the two +++"
            raise UsageError(Problem("nobody is addressed: the letter on paper has no address", place, todo))
        own = octets_of(parts)
        digest = paper_digest(own, self._page, attachments)
        number = self._number(recipient)
        if lint:
            lint.read(recipient, self.renderer.proof(recipient, shown))
        return OnPaper(Letter(recipient, parts.language, number, tuple(attachments), digest, own), parts)

    @cached_property
    def _page(self) -> bytes:
        return page_digest(self.frozen.template.page.text, self.frozen.template.page_files)

    def _number(self, recipient: Recipient) -> str:
        return message_id(self.frozen.campaign, recipient.key, self.frozen.from_.address.rpartition("@")[2])

    def _bind(
        self, recipient: Recipient, rendering: Rendering, attachments: tuple[Attachment, ...], number: str
    ) -> Merged:
        try:
            message = self._composer.compose(recipient, rendering, number, attachments, self._content)
        except (HeaderError, ContentError) as error:
            place = replace(recipient.place, recipient=recipient.key)
            raise UsageError(Problem(str(error), place, "mend the row or the letter")) from None
        path = envelope_of(self.frozen.return_path, recipient.mailboxes)
        gate(
            Message(_ANY_DATE, message.own, message.shared), self._composer.planned(recipient), eight_bit=path.smtputf8
        )
        digest = letter_digest(path, message)
        letter = Letter(recipient, rendering.language, number, attachments, digest, message.own)
        return Merged(letter, rendering, message, path)

    def test(self, letter: Letter, tester: Mailbox, number: str) -> Merged:
        """A sealed letter as a test: to the tester alone, the subject marked, with a Message-ID of its own.

        Its List-Unsubscribe names no recipient: a tester who tries it must unsubscribe nobody.
        """
        first = letter.recipient.to[0]
        alone = replace(letter.recipient, key="test", to=(replace(tester, name=first.name),), cc=())
        rendering = self.renderer.render(letter.recipient, tuple(a.name for a in letter.attachments))
        marked = replace(rendering, subject=f"[TEST for {letter.key}] {rendering.subject}")
        return self._bind(alone, marked, letter.attachments, number)

    def with_date(self, merged: Merged, when: datetime) -> Message:
        """The octets that leave, with their Date, through the final gate."""
        message = dated(merged.message, when)
        gate(message, self._composer.planned(merged.letter.recipient), eight_bit=merged.envelope.smtputf8)
        return message


class Press:
    """Makes sealed letters ready to leave, from the ledger alone: nothing is merged any more."""

    def __init__(self, frozen: Frozen, content: Content) -> None:
        self._return_path = frozen.return_path
        self._composer = frozen.composer()
        self._content = content
        self._date_line = lru_cache(maxsize=16)(_gated_date_line)

    def print(self, leased: Leased, date: datetime) -> tuple[Envelope, Message]:
        """The envelope and the octets that leave, with their Date.

        Everything but Date passed the gate when it was sealed; here the digest says that it is the same. Raises
        PlanConflict if it is not.
        """
        envelope = envelope_of(self._return_path, leased.mailboxes)
        shared = self._composer.shared(leased.attachments, self._content)
        message = Message(self._date_line(date), leased.own, shared)
        if letter_digest(envelope, message) != leased.digest:
            raise PlanConflict(
                f"letter {leased.key} is not what was sealed: the ledger was changed or is damaged. Nothing of it was "
                "sent. Put back a sound copy, and compare it with the relay's log first"
            )
        return envelope, message


def _gated_date_line(when: datetime) -> bytes:
    line = date_line(when)
    gate_date(line)
    return line


def attachment_name(name: str) -> str:
    """A file name as the recipient sees it."""
    return clean_file_name(name)


__all__ = ["Content", "Frozen", "Merge", "Merged", "OnPaper", "Press", "attachment_name", "message_digest"]
