"""The table of recipients, in its three forms, which must say the same; and what the ledger recorded of each."""

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET
from zipfile import BadZipFile, ZipFile

from dispatcher.core import dossier as form
from dispatcher.core.dossier import Recorded
from dispatcher.core.model import Channel, State
from dispatcher.core.reading import WORDS
from dispatcher.core.replay import Said, Tried, replay
from dispatcher.desk.exporting import cell_text
from dispatcher.desk.proving.held import Held, Tampered

_LARGEST_LINE: Final = 1 << 26
_TAIL: Final = 1 << 10
_PIECE: Final = 1 << 20
_SWOLLEN: Final = 16
"""So many times larger than the same table as JSON a workbook's sheet may be, when it is unpacked."""


class Table:
    """The table of a dossier."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._skips = iter(()) if held.facts["redacted"] else held.lines(form.SKIPS)
        self._attempts = 0

    def check(self) -> None:
        """All of it. Raises Tampered."""
        plan = self._held.plans.get(max(self._held.plans, default=0))
        said = self._held.facts["plan"]
        if plan is None or any(said.get(name) != plan[name] for name in ("revision", "digest", "sealed_at")):
            raise Tampered(form.MANIFEST, "the plan that it names is not the last one in the chain")
        counts, number = Counter[str](), 0
        self._held.observe("rows", 0, self._held.facts["rows"])
        sheet = self._sheet_rows()
        self._same_cells(next(sheet, None), [cell_text(name) for name in form.COLUMNS], "the heading", "")
        with self._whole(form.CSV) as csv:
            csv(form.csv_head(), "the heading", "")
            for place, row in rows_of(self._held.folder):
                number += 1
                counts[row["state"]] += 1
                key = str(row["key"])
                csv(form.csv_row(row), place, key)
                self._same_cells(next(sheet, None), [cell_text(row[name]) for name in form.COLUMNS], place, key)
                self._row(row, place)
                self._held.observe("rows", number, self._held.facts["rows"])
        if next(sheet, None) is not None:
            raise Tampered(form.XLSX, "it has a row more than the other tables")
        if dict(counts) != self._held.facts["counts"] or number != self._held.facts["rows"]:
            raise Tampered(form.JSON, "its rows do not add up to what the manifest says")
        if self._attempts != self._held.scratch.count("attempt"):
            raise Tampered(form.JSON, "a row is missing: there are attempts for a letter that it does not have")
        if next(self._skips, None) is not None:
            raise Tampered(form.JSON, f"a row is missing that stands in {form.SKIPS}")

    @contextmanager
    def _whole(self, name: str) -> Iterator[Callable[[bytes, str, str], None]]:
        """A file that must hold just these pieces, each about one row."""
        with (self._held.folder / name).open("rb") as file:

            def same(octets: bytes, place: str, key: str) -> None:
                if file.read(len(octets)) != octets:
                    raise Tampered(name, f"it does not say what {form.JSON} says", row=place, key=key)

            yield same
            if file.read(1):
                raise Tampered(name, f"it goes on behind the rows of {form.JSON}")

    def _same_cells(self, there: Sequence[str] | None, wanted: Sequence[str], place: str, key: str) -> None:
        if there is None or list(there) + [""] * (len(wanted) - len(there)) != list(wanted):
            raise Tampered(form.XLSX, f"it does not say what {form.JSON} says", row=place, key=key)

    def _sheet_rows(self) -> Iterator[Sequence[str]]:
        """The rows of the workbook, the heading of a further sheet left out."""
        try:
            with ZipFile(self._held.folder / form.XLSX) as book:
                names = [name for name in book.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name)]
                for number, name in enumerate(sorted(names, key=lambda n: int(re.sub(r"\D", "", n)))):
                    if book.getinfo(name).file_size > _SWOLLEN * self._held.files[form.JSON].size + _PIECE:
                        raise Tampered(form.XLSX, "it is too large for what it should hold")
                    with book.open(name) as sheet:
                        for at, row in enumerate(_sheet(sheet)):
                            if at or not number:
                                yield row
        except (BadZipFile, zlib.error, ET.ParseError, KeyError, ValueError, NotImplementedError, EOFError) as error:
            raise Tampered(form.XLSX, f"it cannot be read: {error}") from None

    def _row(self, row: Mapping[str, Any], place: str) -> None:
        """A row of the table against what the ledger recorded."""

        def wrong(what: str) -> Tampered:
            return Tampered(form.JSON, what, row=place, key=str(row["key"]))

        if row["state"] == form.SKIPPED:
            self._skipped(row, place)
            return
        if not isinstance(row["letter"], int) or not self._held.scratch.keep("row", row["letter"], form.json_row(row)):
            raise wrong("there are two rows of one letter")
        attempts = [Recorded.parse("attempt", line) for line in self._held.scratch.kept("attempt", row["letter"])]
        if len(attempts) != row["attempts"]:
            raise wrong(f"it says {row['attempts']} attempts, and {len(attempts)} are recorded")
        last = attempts[-1] if attempts else None
        for column, value in self._last_attempt(last).items():
            if column == "at" and row["channel"] == Channel.PAPER and self._on_paper(row["letter"]):
                value = self._on_paper(row["letter"])  # noqa: PLW2901
            if not self._agrees(row[column], value, last):
                raise wrong(f"its {column} is not what attempt {last.id if last else 0} says")
        self._attempts += len(attempts)
        if row["state"] not in self._can_be(row, attempts):
            raise wrong(f"nothing that was recorded bears out that it is {row['state']}")

    def _can_be(self, row: Mapping[str, Any], attempts: Sequence[Recorded]) -> set[str]:
        """Where its letter can stand, in the words of the table."""
        kept = self._held.scratch.kept
        tried = (
            Tried(a.id, a.above["outcome"], a.above["scope"], not any(True for _ in kept("override", a.id)))
            for a in attempts
        )
        said = (Said(*json.loads(text)) for text in kept("event", row["letter"]))
        states = replay(row["channel"], tried, said, purged=self._held.purged)
        flying = {State.AT_RISK} if State.READY in states else set()  # an attempt at risk is not recorded yet
        return {WORDS.get(state, str(state)) for state in states | flying}

    def _skipped(self, row: Mapping[str, Any], place: str) -> None:
        """A row of somebody who got no letter against what was sealed; where that is hidden, that it says no more."""
        revision = max(self._held.plans)
        if self._held.facts["redacted"]:
            blank = form.row_of_skip(dict.fromkeys(form.SKIP, ""), revision)
            same = all(row[name] == value for name, value in blank.items() if name not in form.PERSONAL)
        else:
            line = next(self._skips, None)
            same = line is not None and row == form.row_of_skip(form.skip_of_line(line[1]), revision)
        if not same:
            raise Tampered(form.JSON, f"it is not what {form.SKIPS} says", row=place, key=str(row["key"]))

    def _on_paper(self, letter: int) -> str:
        return max((text.decode() for text in self._held.scratch.kept("on paper", letter)), default="")

    def _last_attempt(self, last: Recorded | None) -> dict[str, Any]:
        """What the row of a letter must say of its last attempt; None where that is hidden or gone."""
        if last is None:
            return dict.fromkeys((*form.OF_ATTEMPT, *form.OF_SESSION), "")
        below: Mapping[str, Any] = last.below or {}
        found = {name: below.get(name) if name in form.PERSONAL else last.above[name] for name in form.OF_ATTEMPT}
        session: Mapping[str, Any] = {}
        for line in self._held.scratch.kept("session", last.above["session"] or 0):
            session = Recorded.parse("session", line).above
        return {
            **{name: "" if value is None and name not in form.PERSONAL else value for name, value in found.items()},
            **{name: session.get(name, "") for name in form.OF_SESSION},
        }

    @staticmethod
    def _agrees(shown: object, recorded: object, last: Recorded | None) -> bool:
        if recorded is None and last is not None and last.below is None:
            return shown in ("", form.HIDDEN)
        return bool(shown == recorded)


def rows_of(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of the table, each with its place."""
    number, ended = 0, False
    with (folder / form.JSON).open("rb") as file:
        if file.readline() != form.JSON_HEAD:
            raise Tampered(form.JSON, "it is not as it was written", row="line 1")
        while line := file.readline(_LARGEST_LINE):
            if not line.startswith(form.ROW_BEGINS):
                ended = line + file.read(_TAIL) == (form.JSON_TAIL.lstrip(b"\n") if number else form.JSON_TAIL)
                break
            number += 1
            try:
                yield f"row {number}", form.row_of_json(line)
            except ValueError as error:
                raise Tampered(form.JSON, str(error), row=f"row {number}") from None
    if not ended:
        raise Tampered(form.JSON, "it is cut off, or not as it was written", row=f"row {number}")


def _sheet(file: Any) -> Iterator[Sequence[str]]:
    """The cells of each row of a sheet, as texts, read piece by piece."""
    row: list[str] = []
    for event, element in ET.iterparse(file, ("start", "end")):  # noqa: S314 (expat bounds what entities make)
        tag = element.tag.rpartition("}")[2]
        if event == "start":
            if tag == "row":
                row = []
            continue
        if tag == "c":
            column = _column(element.get("r", ""))
            row += [""] * (column - len(row))
            row.append(_unescaped("".join(element.itertext())))
        elif tag == "row":
            yield row
            element.clear()


def _column(reference: str) -> int:
    number = 0
    for char in reference.rstrip("0123456789"):
        number = number * 26 + ord(char) - 64
    if not 0 < number <= 1000:
        raise ValueError(f"there is no cell {reference}")
    return number - 1


def _unescaped(text: str) -> str:
    """What a workbook writes as its code (ECMA-376 §22.9.2.19)."""
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text)
