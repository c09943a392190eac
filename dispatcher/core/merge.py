"""What was sealed and one recipient → the letter, its message and its envelope, bound together in one value.

Planning, preview, dispatch and re-creation all come through here, so that what was looked at is what leaves. A pure
function: the same frozen campaign and recipient give the same octets. Raises UsageError naming recipient and place,
and PlanConflict when a sealed letter no longer comes out as it was sealed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from dispatcher import __version__
from dispatcher.core.campaign import Campaign
from dispatcher.core.compose import (
    Composer,
    ContentError,
    Headers,
    boundary,
    date_line,
    dated,
    envelope,
    letter_digest,
    message_digest,
    message_id,
)
from dispatcher.core.errors import PlanConflict, Problem, UsageError
from dispatcher.core.gate import gate
from dispatcher.core.headers import HeaderError, clean_file_name
from dispatcher.core.model import Attachment, Envelope, Letter, Mailbox, Message, Recipient, Rendering
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
    version: str = __version__

    @classmethod
    def of(cls, campaign: Campaign, template: TemplateSource) -> "Frozen":
        """Freeze what a campaign's letters share."""
        sender = campaign.sender
        return cls(
            campaign.id,
            template,
            replace(sender.mailbox("address"), name=sender.name),
            sender.mailbox("reply_to"),
            sender.mailbox("unsubscribe"),
            sender.mailbox("return_path").address,
            sender.organisation,
        )

    def as_data(self) -> dict[str, Any]:
        """Plain data for the ledger."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Frozen":
        """The inverse of `as_data`."""
        mailboxes = {name: Mailbox(**data[name]) for name in ("from_", "reply_to", "unsubscribe")}
        return cls(**{**data, **mailboxes, "template": TemplateSource.from_data(data["template"])})


@dataclass(frozen=True, slots=True)
class Merged:
    """A letter with all that it became: what people read, the octets (without Date), and whom it goes to."""

    letter: Letter
    rendering: Rendering
    message: Message
    envelope: Envelope


class Merge:
    """Merges letters of one frozen campaign. Holds compiled templates and a few encoded attachments, nothing else."""

    def __init__(self, frozen: Frozen, content: Content) -> None:
        self.frozen = frozen
        self.renderer = Renderer(frozen.template)
        self._content = content
        headers = Headers(
            frozen.organisation,
            frozen.from_,
            frozen.reply_to,
            frozen.unsubscribe,
            frozen.return_path,
            boundary(frozen.campaign),
        )
        self._composer = Composer(headers)

    def merge(self, recipient: Recipient, attachments: Sequence[Attachment]) -> Merged:
        """One letter, through the gate. Raises UsageError naming the recipient, and field and place if known."""
        shown = tuple(a.name for a in attachments)
        rendering = self.renderer.render(recipient, shown)
        domain = self.frozen.from_.address.rpartition("@")[2]
        return self._bind(
            recipient, rendering, tuple(attachments), message_id(self.frozen.campaign, recipient.key, domain)
        )

    def _bind(
        self, recipient: Recipient, rendering: Rendering, attachments: tuple[Attachment, ...], number: str
    ) -> Merged:
        try:
            message = self._composer.compose(recipient, rendering, number, attachments, self._content)
        except (HeaderError, ContentError) as error:
            place = replace(recipient.place, recipient=recipient.key)
            raise UsageError(Problem(str(error), place, "mend the row or the letter")) from None
        path = envelope(self.frozen.return_path, recipient)
        gate(
            Message(_ANY_DATE, message.own, message.shared), self._composer.planned(recipient), eight_bit=path.smtputf8
        )
        letter = Letter(recipient, rendering.language, number, attachments, letter_digest(path, message))
        return Merged(letter, rendering, message, path)

    def again(self, letter: Letter) -> Merged:
        """A sealed letter once more. Raises PlanConflict if it is not, octet for octet, what was sealed."""
        merged = self.merge(letter.recipient, letter.attachments)
        if merged.letter.digest != letter.digest or merged.letter.message_id != letter.message_id:
            raise PlanConflict(
                f"letter {letter.key} comes out differently from what was sealed by dispatcher {self.frozen.version}"
                f" (this is {__version__}). Use that version, or take the change over: dispatcher amend"
            )
        return merged

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


def attachment_name(name: str) -> str:
    """A file name as the recipient sees it."""
    return clean_file_name(name)


__all__ = ["Content", "Frozen", "Merge", "Merged", "attachment_name", "message_digest"]
