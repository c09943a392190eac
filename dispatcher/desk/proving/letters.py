"""What was sealed of each letter, and what left: made again, and held against the chain and every file."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from dispatcher.core import dossier as form
from dispatcher.core.compose import (
    Composer,
    ContentError,
    date_line,
    envelope_of,
    framed,
    letter_digest,
    message_digest,
)
from dispatcher.core.dossier import Recorded
from dispatcher.core.errors import UsageError
from dispatcher.core.merge import Frozen
from dispatcher.core.model import Channel, Mailbox, Message
from dispatcher.core.reading import went_by
from dispatcher.desk.proving.held import NOT_LISTED, Held, Tampered
from dispatcher.ledgers.rows import DAMAGED, attachments_of, inflate_strangers

_LARGEST: Final = 1 << 27
"""Octets of a letter without its attachments."""


class Letters:
    """The letters of a dossier. `messages` is how many that left were made again and lie there."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._made: dict[int, tuple[Frozen, Composer]] = {}
        self.messages = 0

    def check(self) -> None:
        """All of it. Raises Tampered."""
        sealed, listed = hashlib.sha256(), {form.LETTERS, form.SKIPS}
        number, rows = 0, self._held.scratch.count("row")
        self._held.observe("letters", 0, rows)
        for place, line in self._held.lines(form.LETTERS):
            try:
                letter = form.letter_of_line(line)
            except ValueError as error:
                raise Tampered(form.LETTERS, str(error), row=place) from None
            try:
                sealed.update(framed(form.sealed_text(letter), letter["own"]))
                listed |= set(self._letter(letter, place))
            except (*DAMAGED, ContentError, UsageError, OverflowError) as error:
                what = f"it is not as it was sealed: {error}"
                raise Tampered(form.LETTERS, what, row=place, key=str(letter["key"])) from None
            number += 1
            self._held.observe("letters", number, rows)
        skipped = hashlib.sha256()
        for _, line in self._held.lines(form.SKIPS):
            skipped.update(framed(line.removesuffix(b"\n")))
        if not self._held.purged:
            if number != rows:
                raise Tampered(form.LETTERS, f"it has {number:,} letters, and the table {rows:,}")
            plan = self._held.plans[max(self._held.plans)]
            if sealed.hexdigest() != plan["letters"]:
                raise Tampered(form.LETTERS, "its letters are not all that was sealed, and nothing else")
            if skipped.hexdigest() != plan["skips"]:
                raise Tampered(form.SKIPS, "its rows are not all that were sealed, and nothing else")
        for folder in ("letters/", "messages/", "attachments/"):
            if more := [name for name in self._held.files if name.startswith(folder) and name not in listed]:
                raise Tampered(more[0], "it belongs to no letter")

    def _letter(self, letter: Mapping[str, Any], place: str) -> Iterator[str]:
        """Check one letter; the names of its files."""
        id_, key, revision = letter["id"], letter["key"], letter["revision"]

        def wrong(name: str, what: str, row: str = "") -> Tampered:
            return Tampered(name, what, row=row, key=str(key))

        rows = [form.row_of_json(text) for text in self._held.scratch.kept("row", id_)]
        if not rows:
            raise wrong(form.LETTERS, "the table has no such letter", place)
        self._require_as_sealed(rows[0], letter)
        frozen = self._frozen(revision)
        own = inflate_strangers(letter["own"], self._held.read(form.plan_files(revision)[1]), _LARGEST)
        attachments = attachments_of(letter["attachments"])
        attached = {}
        for each in (*attachments, *((frozen.logo,) if frozen.logo else ())):
            name = attached[each.digest] = form.attachment_file(each.digest, each.path or each.name)
            if name not in self._held.files or self._held.files[name].digest != each.digest:
                raise wrong(name, "it is not what was attached")
            yield name
        if letter["channel"] == Channel.PAPER:
            files: dict[str, bytes] = {form.paper_file(id_, key): own}
        else:
            files = dict(zip(form.letter_files(id_, key), (own, *form.texts_of(own)), strict=True))
        for name, octets in files.items():
            self._require_same(name, octets, key)
            yield name
        if letter["channel"] == Channel.PAPER:
            return
        shared = self._made[revision][1].shared(attachments, lambda digest: self._held.read(attached[digest]))
        addresses, identities = letter["addresses"].split(), letter["mailboxes"].split()
        paths = [Mailbox(a, "", i) for a, i in zip(addresses, identities, strict=True)]
        if letter_digest(envelope_of(frozen.return_path, paths), Message(b"", own, shared)) != letter["digest"]:
            raise wrong(form.LETTERS, "what was sealed of it does not have its digest", place)
        self._require_date(letter)
        if letter["date"]:
            message = Message(date_line(datetime.fromisoformat(letter["date"])), own, shared)
            self._left(letter, message)
            if self._held.facts["messages"]:
                name = form.message_file(id_, key)
                self._require_same(name, message.octets, key)
                self.messages += 1
                yield name

    def _require_as_sealed(self, row: Mapping[str, Any], letter: Mapping[str, Any]) -> None:
        recipient = json.loads(letter["recipient"])
        given = {
            **{name: letter[name] for name in ("key", "revision", "language", "digest", "message_id", "date")},
            **form.named(recipient),
            "channel": went_by(letter["channel"], row["state"]),
        }
        if letter["channel"] == Channel.PAPER:
            given["message_id"] = ""
        for column, value in given.items():
            if row[column] != ("" if value is None else value):
                what = f"its {column} is not what {form.LETTERS} says"
                raise Tampered(form.JSON, what, key=str(letter["key"]))

    def _left(self, letter: Mapping[str, Any], message: Message) -> None:
        """What was handed over in each attempt is what is made again; unless it had a text that was amended since."""
        here, before = message_digest(message), self._held.attempts_before[letter["revision"]]
        for line in self._held.scratch.kept("attempt", letter["id"]):
            attempt = Recorded.parse("attempt", line)
            there = attempt.above["message_digest"]
            if there and there != here and attempt.id > before:
                what = f"what left in attempt {attempt.id} cannot be made again of it"
                raise Tampered(form.LETTERS, what, row=f"attempt {attempt.id}", key=str(letter["key"]))

    def _require_date(self, letter: Mapping[str, Any]) -> None:
        """What left had a date; attempts from before it was sealed are of what it was, amended since."""
        before = self._held.attempts_before[letter["revision"]]
        for line in () if letter["date"] else self._held.scratch.kept("attempt", letter["id"]):
            attempt = Recorded.parse("attempt", line)
            if attempt.above["message_digest"] and attempt.id > before:
                what = "the date with which it left is gone"
                raise Tampered(form.LETTERS, what, row=f"attempt {attempt.id}", key=str(letter["key"]))

    def _require_same(self, name: str, octets: bytes, key: object) -> None:
        file = self._held.files.get(name)
        if file is None:
            raise Tampered(name, NOT_LISTED, key=str(key))
        if (file.size, file.digest) != (len(octets), hashlib.sha256(octets).hexdigest()):
            raise Tampered(name, "it is not what is made of what was sealed", key=str(key))

    def _frozen(self, revision: int) -> Frozen:
        if revision not in self._made:
            frozen = Frozen.from_data(json.loads(self._held.read(form.plan_files(revision)[0])))
            self._made[revision] = frozen, frozen.composer()
        return self._made[revision][0]
