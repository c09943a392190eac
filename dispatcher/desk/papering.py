"""Letters on paper: which are printed, and what is written.

The folder is read and merged, and must be what was sealed, as for a `send`; if nothing is sealed yet, this seals it.
The files are made before anything is sealed, so that a glyph that no font has stops everything; they are written whole
and synced, and only then recorded. Letters stand in them in the order of the lists.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any

from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.jinja import Expression
from dispatcher.core.merge import Merged, OnPaper
from dispatcher.core.model import Channel, State
from dispatcher.core.onpaper import parts_of
from dispatcher.core.plan import Summary
from dispatcher.core.text import file_stem
from dispatcher.desk import Desk, person
from dispatcher.desk.approvals import require_approved
from dispatcher.desk.draft import Draft
from dispatcher.desk.outlook import hold_back, sealed_revision
from dispatcher.desk.sending import seal_revision
from dispatcher.ledgers import printing
from dispatcher.ledgers.file import sync_names
from dispatcher.ledgers.printing import Printed, PrintedFile
from dispatcher.ledgers.sealing import borrow_suppressions
from dispatcher.ledgers.sqlite import SqliteLedger
from dispatcher.paper.addresses import envelopes, labels
from dispatcher.paper.letters import LETTERS_IN_A_FILE, typeset
from dispatcher.paper.printing import House, PaperLetter

Observe = Callable[[int, int], None]
"""Told how many letters are set, of how many."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to print: letters that wait, with `again` also those that are printed; or those that `failed` by mail.

    `labels` names a sheet, `envelopes` a kind; '' is none.
    """

    only: str | None = None
    again: bool = False
    failed: bool = False
    per_letter: bool = False
    with_report: bool = False
    two_sided: bool = False
    labels: str = ""
    envelopes: str = ""

    @property
    def states(self) -> set[State]:
        """Where the letters stand that are meant."""
        if self.failed:
            return {State.FAILED}
        return {State.TO_PRINT, State.PRINTED} if self.again else {State.TO_PRINT}


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: where it is, its name there, what it holds, how many letters, octets, their SHA-256."""

    path: str
    name: str
    holds: str
    letters: int
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Papered:
    """What a printing came to.

    `withdrawn` are letters in the files that were suppressed meanwhile, or said to be posted, and must not be posted;
    `left` is how many wait to be printed now; `others` counts the letters of the choice that are not to be printed, by
    where they stand.
    """

    printed: int
    reprinted: int
    files: tuple[Written, ...]
    withdrawn: tuple[str, ...]
    left: int
    others: Mapping[str, int]

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def print_letters(desk: Desk, order: Order, out: Path, observe: Observe | None = None) -> Papered:
    """Print letters into the folder `out`, and record it; if nothing is to be printed nothing is sealed or written.

    Raises UsageError (also for what cannot be typeset), PlanConflict, NotApproved, RunActive, LedgerInDoubt,
    LedgerUnavailable.
    """
    draft, summary = _read(desk, order)
    if not sealed_revision(desk, draft):
        hold_back(desk, draft)
        draft.unsealed.pick(Channel.PAPER, chosen=order.only is not None)
        if order.failed or not draft.unsealed.count_picked():
            left = draft.unsealed.count_in(Channel.PAPER)
            return Papered(0, 0, (), (), left, {})
    require_approved(desk, draft.campaign)
    with desk.ledger() as ledger:
        if desk.sandbox:
            borrow_suppressions(ledger, desk.real_ledger_path)
        ledger.recover()
        sealed = bool(sealed_revision(desk, draft))
        if sealed:
            hold_back(desk, draft, on_paper=order.failed)
            chosen = order.only is not None
            draft.unsealed.pick_to_print(desk.ledger_path, draft.campaign.id, order.states, chosen=chosen)
        elif not draft.unsealed.count_picked():
            return _papered(desk, draft, order)
        return _print(desk, ledger, draft, order, out, observe, None if sealed else summary)


def _read(desk: Desk, order: Order) -> tuple[Draft, Summary]:
    """The whole folder, and whom the order chose."""
    condition = Expression(order.only, Place("--only")) if order.only is not None else None
    draft = desk.draft()
    summary = draft.blank_summary()
    for item in draft.items(whole=True):
        summary.add(item)
        if condition and isinstance(item, Merged | OnPaper) and condition.holds(item.letter.recipient.fields):
            draft.unsealed.choose()
    if summary.problems:
        raise UsageError(*summary.problems)
    return draft, summary


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A letter that is to be printed, and the digest that it must be sealed with."""

    letter: PaperLetter
    digest: str


def _print(
    desk: Desk,
    ledger: SqliteLedger,
    draft: Draft,
    order: Order,
    out: Path,
    observe: Observe | None,
    to_seal: Summary | None,
) -> Papered:
    sheets = list(_sheets(draft, order))
    if not sheets:
        return _papered(desk, draft, order)
    stood = _stood(desk, draft, sheets) if to_seal is None else {}
    ledger.remember()  # if that cannot be done, nothing is printed
    with desk.reader() as reader:
        number = int((reader.one("next_printing") or {"number": 1})["number"])
    made = _typeset(desk, draft, order, [sheet.letter for sheet in sheets], number, observe)
    if to_seal is not None:
        seal_revision(desk, ledger, draft, to_seal, 1)
    files = _write(out, made)
    letters = _to_record(desk, draft, sheets, made, stood)
    kept = [PrintedFile(f.name, f.holds, f.size, f.digest) for f in files]
    withdrawn = printing.record(ledger, number, draft.campaign.id, letters, kept, person())
    again = sum(letter.state is State.PRINTED and letter.key not in withdrawn for letter in letters)
    return _papered(desk, draft, order, len(letters) - again - len(withdrawn), again, files, withdrawn)


def _papered(
    desk: Desk,
    draft: Draft,
    order: Order,
    printed: int = 0,
    reprinted: int = 0,
    files: Sequence[Written] = (),
    withdrawn: Sequence[str] = (),
) -> Papered:
    campaign, chosen = draft.campaign.id, order.only is not None
    with desk.reader() as reader:
        left = reader.counts(campaign).get(State.TO_PRINT, 0)
    others: dict[str, int] = {}
    for state, tried, count in draft.unsealed.chosen_states(desk.ledger_path, campaign, chosen=chosen):
        if state is not None and State(state) not in {*order.states, State.PRINTED}:
            name = "deferred" if state == State.READY and tried else state
            others[name] = others.get(name, 0) + count
    return Papered(printed, reprinted, tuple(files), tuple(withdrawn), left, others)


def _sheets(draft: Draft, order: Order) -> Iterator[_Sheet]:
    """What is to be printed of each letter that was picked."""
    content = lru_cache(maxsize=8)(draft.content)
    for digest, recipient, attachments, own in draft.unsealed.picked_whole():
        if recipient.channel is Channel.PAPER:
            parts = parts_of(own)
        else:  # what failed by mail says the same on paper
            parts = draft.merge.on_paper(recipient, attachments).parts
        behind = tuple(content(each.digest) for each in attachments) if order.with_report else ()
        yield _Sheet(PaperLetter(recipient.key, parts, behind), digest)


def _stood(desk: Desk, draft: Draft, sheets: Sequence[_Sheet]) -> Mapping[str, State]:
    """Where each letter stands before it is printed.

    One that was printed, and amended since, is not printed again beside the sheets that there are of it.
    """
    found = {}
    with desk.reader() as reader:
        for sheet in sheets:
            row = reader.one("standing", campaign=draft.campaign.id, key=sheet.letter.key)
            if row and row["digest"] != sheet.digest:
                what = f"letter {sheet.letter.key} was amended after it was printed"
                todo = f"say what became of the sheets: dispatcher paper --posted … or --thrown-away{desk.flag}"
                raise UsageError(Problem(what, todo=todo))
            if row:
                found[sheet.letter.key] = State(row["state"])
    return found


@dataclass(frozen=True, slots=True)
class _File:
    """A file to write: its name (and that of its folder), what it holds, whose letters, and its octets."""

    name: str
    folder: str
    holds: str
    keys: tuple[str, ...]
    octets: bytes

    @property
    def shown(self) -> str:
        """Its name in the folder of the printing's files."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


def _typeset(
    desk: Desk, draft: Draft, order: Order, letters: Sequence[PaperLetter], number: int, observe: Observe | None
) -> list[_File]:
    """All files of one printing, which has this number in the ledger. Raises TemplateError, UsageError."""
    house, when = house_of(draft)
    stem = f"{'rehearsal-' if desk.sandbox else ''}{draft.campaign.id}"
    keys = tuple(letter.key for letter in letters)
    files = []
    if order.labels:
        pdf = labels(letters, order.labels, house, timestamp=when)
        files.append(_File(f"{stem}-labels-{number}.pdf", "", f"labels {order.labels}", keys, pdf))
    if order.envelopes:
        pdf = envelopes(letters, order.envelopes, house, timestamp=when)
        files.append(_File(f"{stem}-envelopes-{number}.pdf", "", f"envelopes {order.envelopes}", keys, pdf))
    if not order.per_letter:
        return [*_together(order, letters, house, when, f"{stem}-letters-{number}", observe), *files]
    singles = []
    for n, letter in enumerate(letters, 1):
        pdf = typeset([letter], house, timestamp=when, two_sided=order.two_sided)
        folder = f"{stem}-letters-{number}"
        singles.append(_File(f"{file_stem(n, letter.key)}.pdf", folder, "letter", (letter.key,), pdf))
        if observe:
            observe(n, len(letters))
    return [*singles, *files]


def _together(
    order: Order,
    letters: Sequence[PaperLetter],
    house: House,
    when: datetime,
    stem: str,
    observe: Observe | None,
) -> Iterator[_File]:
    """One file, or as many as keep the memory of each within bounds."""
    several = len(letters) > LETTERS_IN_A_FILE
    for part, start in enumerate(range(0, len(letters), LETTERS_IN_A_FILE), 1):
        here = letters[start : start + LETTERS_IN_A_FILE]
        pdf = typeset(here, house, timestamp=when, two_sided=order.two_sided)
        keys = tuple(letter.key for letter in here)
        yield _File(f"{stem}-{part}.pdf" if several else f"{stem}.pdf", "", "letters", keys, pdf)
        if observe:
            observe(start + len(here), len(letters))


def house_of(draft: Draft) -> tuple[House, datetime]:
    """What all letters of a campaign are set in, and the date of their files: the campaign's."""
    campaign = draft.campaign
    fonts = draft.root / campaign.letter.fonts if campaign.letter.fonts else None
    if fonts and not fonts.is_dir():
        where = Place("campaign.toml", None, "key letter.fonts")
        raise UsageError(
            Problem(f"{campaign.letter.fonts} is not a folder", where, "put the fonts there, or leave it out")
        )
    house = House(draft.frozen.template.page, draft.root, fonts, campaign.title, campaign.letter.logo or "")
    return house, datetime.combine(campaign.date, time(), UTC)


def proof(draft: Draft, pages: Sequence[OnPaper]) -> None:
    """Set letters as they would be printed, and keep nothing. Raises TemplateError naming recipients, UsageError."""
    house, when = house_of(draft)
    typeset((PaperLetter(page.letter.key, page.parts) for page in pages), house, timestamp=when)


def _write(out: Path, files: Sequence[_File]) -> list[Written]:
    """Write each file whole, and sync it with its folder. A folder of single letters is written anew."""
    try:
        folders = dict.fromkeys(out / file.folder for file in files)
        for folder in folders:
            if folder != out:  # of a printing that was not recorded
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = [_write_one(out / file.folder / file.name, file) for file in files]
        for folder in (*folders, out, out.parent):
            sync_names(folder)
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise UsageError(Problem(what, Place(str(error.filename or out)), "give another folder with --out")) from None
    return written


def _write_one(path: Path, file: _File) -> Written:
    unfinished = path.with_name(path.name + ".unfinished")
    with suppress(FileNotFoundError):
        unfinished.unlink()
    unfinished.touch(mode=0o600, exist_ok=False)  # it holds addresses
    with unfinished.open("wb") as there:
        there.write(file.octets)
        there.flush()
        os.fsync(there.fileno())
    unfinished.replace(path)
    digest = hashlib.sha256(file.octets).hexdigest()
    return Written(str(path), file.shown, file.holds, len(file.keys), len(file.octets), digest)


def _to_record(
    desk: Desk, draft: Draft, sheets: Sequence[_Sheet], files: Sequence[_File], stood: Mapping[str, State]
) -> list[Printed]:
    """The letters as they stood before they were printed, each with the file that it is in.

    Where one stands now is for the record to see: while it was printed somebody may have suppressed it.
    """
    there = {key: file.shown for file in files if file.holds.startswith("letter") for key in file.keys}
    found = []
    with desk.reader() as reader:
        for sheet in sheets:
            row = reader.one("to_be_printed", campaign=draft.campaign.id, key=sheet.letter.key) or {}
            found.append(
                Printed(row["id"], row["key"], stood.get(row["key"], State.TO_PRINT), sheet.digest, there[row["key"]])
            )
    return found
