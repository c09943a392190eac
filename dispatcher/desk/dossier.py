"""The dossier of a dispatch: everything that the ledger knows of it, as a folder of files that can be checked.

It is made beside the place it is to have, and put there whole, or not at all. Nothing that is there is written over.
The ledger is read as of one moment, also while a run is at work; memory does not grow with the letters. Every attempt's
octets are made again, and are what the ledger says has left; if they are not there is no dossier. What it must never
hold, it does not read: no password, no relay's settings, no environment.
"""

import email
import email.header
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from dispatcher import __version__
from dispatcher.core import dossier as form
from dispatcher.core.approval import PlanName, PublicKey, approver_name
from dispatcher.core.chain import KINDS, NAME
from dispatcher.core.compose import date_line, envelope_of, letter_digest, message_digest
from dispatcher.core.dossier import Row
from dispatcher.core.errors import LedgerUnavailable, Place, PlanConflict, Problem, SignatureError, UsageError
from dispatcher.core.merge import Frozen
from dispatcher.core.model import Channel, Mailbox, Message
from dispatcher.core.reading import WORDS
from dispatcher.desk import Desk, person
from dispatcher.desk.exporting import write_xlsx
from dispatcher.desk.wholefolder import Folder, new_folder, put_in_place
from dispatcher.ledgers.approvals import approvals_of
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.recorded import RecordReader
from dispatcher.ledgers.rows import DAMAGED, attachments_of, inflate, unreadable
from dispatcher.paper.dossier import LANGUAGES, ROWS, Sheet, pages
from dispatcher.signing import fingerprint, sign, verify

Observe = Callable[[str, int, int], None]
"""Told what is being written, how far it is, and of how many."""
_EVERY: Final = 100
_NONE: Final = "There is no dossier of it: put back a sound copy"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a dossier is to be: with messages, with persons hidden, signed with a key, by whom, in which language."""

    messages: bool = False
    redact: bool = False
    key: Path | None = None
    by: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: where, how many recipients and files, octets, the manifest's SHA-256, and the key (or '')."""

    folder: Path
    rows: int
    files: int
    octets: int
    manifest: str
    key: str
    earlier: int

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        counted = {"recipients": self.rows, "files": self.files, "octets": self.octets, "earlier_texts": self.earlier}
        return {"folder": str(self.folder), **counted, "manifest_sha256": self.manifest, "key": self.key or None}


def write_dossier(desk: Desk, out: Path, wish: Wish, observe: Observe | None = None) -> Written:
    """Write the dossier of what was sealed and sent here into the new folder `out`.

    Raises UsageError, SignatureError, LedgerUnavailable; PlanConflict if what left cannot be made again.
    """
    if wish.redact and wish.messages:
        what = "--redact and --messages do not go together: messages hold addresses"
        raise UsageError(Problem(what, todo="make two dossiers, one to be kept and one to be given away"))
    if wish.language and wish.language not in LANGUAGES:
        todo = f"choose one of: {', '.join(LANGUAGES)}"
        raise UsageError(Problem(f"the dossier's pages are not known in '{wish.language}'", Place("--language"), todo))
    try:
        by = approver_name(wish.by or person())
    except ValueError as error:
        raise UsageError(Problem(str(error), Place("--by"), "write your name as people know you")) from None
    with new_folder(out) as unfinished, _evidence(desk) as ledger:
        work = _Work(desk, ledger, Folder(unfinished), wish, by, observe or (lambda *_: None))
        found = work.write()
        put_in_place(unfinished, out)
    return found(out)


@contextmanager
def _evidence(desk: Desk) -> Iterator[RecordReader]:
    with desk.reader():  # says what to do if there is none
        pass
    with RecordReader(desk.ledger_path) as ledger:
        yield ledger


class _Work:
    """One dossier while it is made."""

    def __init__(self, desk: Desk, ledger: RecordReader, folder: Folder, wish: Wish, by: str, observe: Observe) -> None:
        self._ledger = ledger
        self._folder = folder
        self._wish = wish
        self._observe = observe
        self._campaign = desk.campaign_id()
        self._desk = desk
        self._by = by
        self._now = desk.clock.now().replace(microsecond=0)
        self._plans = {row["revision"]: row for row in ledger.rows("plans_sealed", campaign=self._campaign)}
        if not self._plans:
            raise LedgerUnavailable(f"nothing is sealed yet, so nothing was sent. Seal it: dispatcher seal{desk.flag}")
        self._counts: Counter[str] = Counter()
        self._earlier = 0
        self._attempts_before: dict[int, int] = {}  # by revision: by the chain, for clocks may be set back

    def write(self) -> Callable[[Path], Written]:
        chain = self._chain()
        if not self._wish.redact:
            self._write_plans()
            self._write_skips()
        facts = {**self._facts(), "chain": chain}
        rows = self._write_rows(facts)
        self._write_letters()
        kept = {name: value for name, value in facts.items() if name not in _OF_PAGES}
        manifest = self._folder.finish({**kept, "counts": dict(self._counts), "rows": rows})
        key = self._sign()
        folder = self._folder
        return lambda out: Written(out, rows, folder.files, folder.octets, manifest, key, self._earlier)

    # What the ledger recorded.

    def _chain(self) -> dict[str, Any]:
        last = self._ledger.one("last_link") or {"number": 0, "link": self._ledger.start()}
        with ExitStack() as stack:
            links = stack.enter_context(self._folder.open(form.LINKS))
            files = {kind: stack.enter_context(self._folder.open(form.record_file(kind))) for kind in KINDS}
            elsewhere = last_attempt = 0
            for link, rows in self._ledger.links(self._campaign):
                elsewhere += len(link["names"]) // NAME - len(rows)
                links(form.link_line(*(link[name] for name in ("number", "names", "digests", "link"))))
                for row in rows:
                    if row.kind == "attempt":
                        last_attempt = max(last_attempt, row.id)
                    elif row.kind == "plan":
                        self._attempts_before[row.above["revision"]] = last_attempt
                    files[row.kind]((row.hidden() if self._wish.redact else row).line())
                if not link["number"] % _EVERY:
                    self._observe("record", link["number"], last["number"])
        head = {"start": self._ledger.start().hex(), "length": last["number"], "head": last["link"].hex()}
        return {**head, "rows_of_other_campaigns": elsewhere}

    def _write_plans(self) -> None:
        for revision, plan in self._plans.items():
            if plan["dictionary"]:  # else it was purged
                for name, octets in zip(
                    form.plan_files(revision), (plan["frozen"].encode(), plan["dictionary"]), strict=True
                ):
                    self._folder.add(name, octets)

    def _write_skips(self) -> None:
        with self._folder.open(form.SKIPS) as write:
            for skip in self._ledger.rows("skips", campaign=self._campaign, revision=max(self._plans)):
                write(form.skip_line(skip))

    # What stands on the first page, and in the manifest.

    def _facts(self) -> dict[str, Any]:
        plan = self._plans[max(self._plans)]
        frozen = self._frozen(plan["revision"])
        counts = self._ledger.counts(self._campaign)
        states = Counter({WORDS.get(state, str(state)): 0 for state in counts})
        for state, count in counts.items():
            states[WORDS.get(state, str(state))] += count
        skips = self._ledger.one("count_skips", campaign=self._campaign, revision=plan["revision"]) or {}
        hide = form.HIDDEN if self._wish.redact else ""
        sender = f"{frozen.from_.name} <{frozen.from_.address}>" if frozen and frozen.from_.address else ""
        return {
            "campaign": self._campaign,
            "title": frozen.template.title if frozen else self._campaign,
            "rehearsal": self._desk.sandbox,
            "plan": {name: plan[name] for name in ("revision", "digest", "sealed_at")},
            "created_at": stamp(self._now),
            "created_by": self._by,
            "version": __version__,
            "redacted": self._wish.redact,
            "messages": self._wish.messages,
            "signed": self._wish.key is not None,
            "sender": sender,
            "subjects": [hide] if hide else list(self._subjects()),
            "approvals": list(self._approvals(plan)),
            "span": self._ledger.one("dossier_span", campaign=self._campaign),
            "relays": list(self._ledger.rows("dossier_relays", campaign=self._campaign)),
            "certificates": [
                hide or row["smime"] for row in self._ledger.rows("dossier_certificates", campaign=self._campaign)
            ],
            "counts": {**states, form.SKIPPED: skips.get("rows", 0)},
        }

    @lru_cache(maxsize=8)  # noqa: B019 (as long as the dossier is made)
    def _frozen(self, revision: int) -> Frozen | None:
        """None if it was purged."""
        text = self._plans[revision]["frozen"]
        try:
            return Frozen.from_data(json.loads(text)) if text else None
        except DAMAGED as error:
            raise unreadable(f"revision {revision} of {self._campaign}", error) from None

    def _subjects(self) -> Iterator[str]:
        """Of one letter in each language."""
        for row in self._ledger.rows("first_in_each_language", campaign=self._campaign):
            own = self._own(row)
            if own and row["channel"] == Channel.MAIL:
                header = email.message_from_bytes(own.partition(b"\r\n\r\n")[0]).get("Subject", "")
                yield str(email.header.make_header(email.header.decode_header(header)))

    def _approvals(self, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for each in approvals_of(self._ledger, PlanName(self._campaign, plan["revision"], plan["digest"])):
            key = PublicKey.parse(each.key) if each.key else None
            try:
                good = bool(key) and bool(verify(each.text(), each.signature, key))
            except SignatureError:
                good = False
            said = {"name": each.name, "at": each.when, "key": fingerprint(key) if key else "", "good": good}
            hidden = {"name": form.HIDDEN, "key": form.HIDDEN if key else ""}  # a public key leads to its owner
            yield {**said, **hidden} if self._wish.redact else said

    # The table.

    def _write_rows(self, facts: Mapping[str, Any]) -> int:
        total, written, some = sum(facts["counts"].values()), 0, list[Row]()
        with self._folder.open(form.CSV) as csv, self._folder.open(form.JSON) as json_file:
            csv(form.csv_head())
            json_file(form.JSON_HEAD)
            for row in self._rows():
                json_file((form.JSON_BETWEEN if written else b"") + form.json_row(row))
                csv(form.csv_row(row))
                written += 1
                self._counts[row["state"]] += 1
                some.append(row)
                if len(some) == ROWS:
                    self._write_pages(facts, some, written, total)
                    some = []
                if not written % _EVERY:
                    self._observe("table", written, total)
            json_file(form.JSON_TAIL)
        if some or not written:
            self._write_pages(facts, some, written, total)
        with self._folder.path(form.XLSX).open("xb") as file:
            write_xlsx(file, form.COLUMNS, self._rows_again(), title="recipients", created=self._now)
        self._folder.take_in(form.XLSX)
        return written

    def _rows_again(self) -> Iterator[Row]:
        """As they were just written."""
        with self._folder.path(form.JSON).open("rb") as file:
            for line in file:
                if line.startswith(form.ROW_BEGINS):
                    yield form.row_of_json(line)

    def _rows(self) -> Iterator[Row]:
        shown = form.hidden if self._wish.redact else lambda row: row
        for found in self._ledger.rows("dossier_rows", campaign=self._campaign):
            try:
                row = form.row_of(found)
            except DAMAGED as error:
                raise unreadable(f"letter {found['id']}", error) from None
            yield shown(row)
        revision = max(self._plans)
        for skip in self._ledger.rows("skips", campaign=self._campaign, revision=revision):
            yield shown(form.row_of_skip(skip, revision))

    def _write_pages(self, facts: Mapping[str, Any], rows: list[Row], written: int, total: int) -> None:
        part, parts = (written - 1) // ROWS + 1 if written else 1, max(1, -(-total // ROWS))
        sheet = Sheet(part, parts, written - len(rows) + 1, total)
        language = self._wish.language or self._usual_language()
        pdf = pages(facts, rows, sheet, language=language, timestamp=self._now, fonts=self._fonts())
        self._folder.add("dossier.pdf" if part == 1 else f"dossier-{part}.pdf", pdf)

    def _usual_language(self) -> str:
        frozen = self._frozen(max(self._plans))
        found = frozen.template.language.partition("-")[0] if frozen else ""
        return found if found in LANGUAGES else LANGUAGES[0]

    def _fonts(self) -> Path | None:
        """The house's own fonts, if it has some and campaign.toml can be read."""
        try:
            named = self._desk.campaign().letter.fonts
        except UsageError:
            return None
        folder = self._desk.root / named if named else None
        return folder if folder and folder.is_dir() else None

    # What was sealed, and what left.

    def _write_letters(self) -> None:
        total = sum(self._counts.values()) - self._counts[form.SKIPPED]
        with ExitStack() as stack:
            index = None if self._wish.redact else stack.enter_context(self._folder.open(form.LETTERS))
            for number, row in enumerate(self._ledger.rows("dossier_letters", campaign=self._campaign), 1):
                if own := self._own(row):
                    if index:
                        index(form.letter_line(row))
                    try:
                        self._write_letter(row, own)
                    except DAMAGED as error:
                        raise unreadable(f"letter {row['key']}", error) from None
                if not number % _EVERY:
                    self._observe("letters", number, total)

    def _own(self, row: Mapping[str, Any]) -> bytes:
        """A letter's own octets; b'' if it was purged."""
        return inflate(row["own"], self._plans[row["revision"]]["dictionary"]) if row["own"] else b""

    def _write_letter(self, row: Mapping[str, Any], own: bytes) -> None:
        frozen = self._frozen(row["revision"])
        if frozen is None:
            return
        attachments = attachments_of(row["attachments"])
        if not self._wish.redact:
            for attachment in (*attachments, *((frozen.logo,) if frozen.logo else ())):
                self._write_attachment(attachment.digest, attachment.path or attachment.name)
        if row["channel"] == Channel.PAPER:
            if not self._wish.redact:
                self._folder.add(form.paper_file(row["id"], row["key"]), own)
            return
        shared = self._composer(row["revision"]).shared(attachments, self._ledger.octets)
        self._require_sealed(row, frozen, Message(b"", own, shared))
        if not self._wish.redact:
            texts = (own, *form.texts_of(own))
            for name, octets in zip(form.letter_files(row["id"], row["key"]), texts, strict=True):
                self._folder.add(name, octets)
        message = Message(date_line(datetime.fromisoformat(row["date"])), own, shared) if row["date"] else None
        self._require_left(row, message)
        if message and self._wish.messages:
            self._folder.add(form.message_file(row["id"], row["key"]), message.octets)

    @lru_cache(maxsize=8)  # noqa: B019
    def _composer(self, revision: int) -> Any:
        frozen = self._frozen(revision)
        return frozen.composer() if frozen else None

    def _write_attachment(self, digest: str, name: str) -> None:
        path = self._folder.root / form.attachment_file(digest, name)
        if not path.exists():
            self._folder.add(form.attachment_file(digest, name), self._ledger.octets(digest))

    def _require_sealed(self, row: Mapping[str, Any], frozen: Frozen, message: Message) -> None:
        paths = map(Mailbox, row["addresses"].split(), ("",) * len(row["addresses"]), row["mailboxes"].split())
        if letter_digest(envelope_of(frozen.return_path, tuple(paths)), message) != row["digest"]:
            what = f"letter {row['key']} is not what was sealed"
            raise PlanConflict(f"{what}: the ledger was changed or is damaged. {_NONE}")

    def _require_left(self, row: Mapping[str, Any], message: Message | None) -> None:
        """What was handed over in each attempt is what is made again here; if it was amended since, that is counted."""
        here = message_digest(message) if message else ""
        for attempt in self._ledger.rows("digests_of_attempts", letter=row["id"]):
            if attempt["message_digest"] == here:
                continue
            if attempt["id"] > self._attempts_before.get(row["revision"], 0):
                what = f"what left in attempt {attempt['id']} of letter {row['key']} cannot be made again"
                raise PlanConflict(f"{what}: its digest is another. The ledger was changed or is damaged. {_NONE}")
            self._earlier += 1

    def _sign(self) -> str:
        if self._wish.key is None:
            return ""
        manifest = self._folder.root / form.MANIFEST
        signed = sign(self._wish.key.expanduser(), manifest.read_bytes())
        path = self._folder.root / form.SIGNATURES[signed.key.minisign]
        with path.open("xb") as file:
            file.write(signed.signature.encode())
        path.chmod(0o600)
        return fingerprint(signed.key)


_OF_PAGES: Final = frozenset(("sender", "subjects", "approvals", "span", "relays", "certificates"))
"""Facts that stand on the first page alone: the manifest holds no names but that of who made it."""


__all__ = ["Wish", "Written", "write_dossier"]
