"""Rows → files that other programs read: CSV, JSON lines and XLSX, row by row, whatever their number.

In CSV no cell is a formula for whatever opens it (`core.reading.safe_cell`); in XLSX text is text, for it says so.
"""

import csv
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from itertools import islice
from typing import Any, BinaryIO, Final

from dispatcher.core.reading import safe_cell

_TOGETHER: Final = 500
_SHEET_ROWS: Final = 1_000_000
_CELL: Final = 32_767  # UTF-16 units in a cell of a sheet
_NO_XML: Final = re.compile("[\ufffe\uffff\ud800-\udfff]")
_WIDTH: Final = 16
_WIDTHS: Final = {"at": 32, "ended_at": 32, "addresses": 32, "name": 32, "reply": 60, "meaning": 48, "reason": 48}


def csv_pieces(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A heading and the rows as CSV, many rows in a piece."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator=_Lines.END)
    writer.writerow(columns)
    for some in _batches(rows):
        writer.writerows([safe_cell(row[name]) for name in columns] for row in some)
        yield lines.taken()
    if rest := lines.taken():
        yield rest


class _Lines:
    """Lines that end in LF, of a writer that is told they end in CRLF: else it would put no quotes round a lone CR."""

    END = "\r\n"

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        self._lines.append(line.removesuffix(self.END) + "\n")

    def taken(self) -> str:
        taken, self._lines = "".join(self._lines), []
        return taken


def json_pieces(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The rows as JSON, a line each, many in a piece."""
    for some in _batches(rows):
        yield "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in some)


def write_xlsx(
    file: BinaryIO,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    title: str,
    created: datetime | None = None,
) -> None:
    """A heading and the rows as a workbook; when a sheet is full, another one begins.

    What is longer than a cell may be is cut there, with an ellipsis; CSV and JSON lines have it whole. `created` is the
    moment in the workbook's properties, by default now.
    """
    from xlsxwriter import Workbook  # noqa: PLC0415 (slow to load)

    with tempfile.TemporaryDirectory() as folder:  # for its owner alone, and gone also if this breaks off
        book = Workbook(file, {"constant_memory": True, "tmpdir": folder})
        if created:
            book.set_properties({"created": created.replace(tzinfo=None)})
        bold = book.add_format({"bold": True})

        def begin(number: int) -> Any:
            sheet = book.add_worksheet(title if number == 1 else f"{title} {number}")
            sheet.freeze_panes(1, 0)
            for column, name in enumerate(columns):
                sheet.set_column(column, column, _WIDTHS.get(name, _WIDTH))
                sheet.write_string(0, column, name, bold)
            return sheet

        sheet, number, line = begin(1), 1, 0
        for row in rows:
            if line == _SHEET_ROWS:
                number, line = number + 1, 0
                sheet = begin(number)
            line += 1
            for column, name in enumerate(columns):
                _write_cell(sheet, line, column, row[name])
        book.close()


def _write_cell(sheet: Any, line: int, column: int, value: object) -> None:
    if isinstance(value, int):
        sheet.write_number(line, column, value)
    elif cut := cell_text(value):
        # The writer takes what looks like this for marked-up text, and would write it as it stands.
        marked_up = cut.startswith("<r>") and cut.endswith("</r>")
        plain = f'<r><t xml:space="preserve">{escape(cut, quote=False)}</t></r>' if marked_up else cut
        sheet.write_string(line, column, plain)


def cell_text(value: object) -> str:
    """A value as a cell of a workbook has it."""
    return _cut(_NO_XML.sub("\ufffd", str(value)))


def _cut(text: str) -> str:
    units = text.encode("utf-16-le")
    if len(units) <= 2 * _CELL:
        return text
    return units[: 2 * (_CELL - 1)].decode("utf-16-le", "ignore") + "…"


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    left = iter(rows)
    while some := list(islice(left, _TOGETHER)):
        yield some
