"""The text of campaign.toml for what came from mailmerge. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from dispatcher.core.model import Mailbox
from dispatcher.sources.mailmerge.letter import quoted
from dispatcher.sources.mailmerge.server import Server

_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9_-]+")
_TAG: Final = re.compile(r"\{[{%#].*?[}%#]\}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What campaign.toml says. `own` are the cells of `email` that hold the sender's own address."""

    name: str
    day: date
    language: str
    subject: str
    sender: Mailbox
    reply_to: Mailbox | None
    attachments: Sequence[str]
    source: str
    own: Sequence[str]
    on_duplicate: str
    server: Server

    def text(self) -> str:
        """The whole file; each line that is to be looked at says what it is."""
        who = self.sender.name or self.sender.address
        title = " ".join(_TAG.sub("", self.subject).split()) or self.name
        lines = [
            "# Made from a folder of mailmerge. Paths are relative to this file and stay inside its folder.",
            "",
            f"id = {quoted(self._id())}",
            f"title = {quoted(title)}",
            f"language = {quoted(self.language)}",
            f"date = {self.day.isoformat()} # printed on the letter",
            f"on_duplicate = {quoted(self.on_duplicate)} # refuse | first | each: one mailbox or key in two rows",
            "",
            "[sender]",
            f"organisation = {quoted(who)} # the letterhead",
            f"name = {quoted(who)}",
            f"address = {quoted(self.sender.address)}",
            *([f"reply_to = {quoted(self.reply_to.address)}"] if self.reply_to else ()),
            f"signatory = {quoted(who)} # printed below the letter",
            "",
            "[letter]",
            'template = "templates/letter.{language}.md"',
            f"attachments = [{', '.join(map(quoted, self.attachments))}]",
            "",
            "[[recipients]]",
            f"source = {quoted(self.source)}",
            *([f"where = {quoted(self._others())} # all but the sender"] if self.own else ()),
            "",
            "[relay]",
            *(f"{key} = {_value(value)}" for key, value in self.server.relay.items()),
        ]
        pace = ["", "[pace]", f"rate = {quoted(self.server.rate)}"] if self.server.rate else []
        return "\n".join([*lines, *pace]) + "\n"

    def _id(self) -> str:
        return _NOT_IN_ID.sub("-", self.name).strip("-_")[:48].strip("-_") or "campaign"

    def _others(self) -> str:
        return f"email not in {json.dumps(list(self.own), ensure_ascii=False)}"


def _value(value: str | int | Mapping[str, str]) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {quoted(text)}" for key, text in value.items()) + " }"
    return str(value) if isinstance(value, int) else quoted(value)
