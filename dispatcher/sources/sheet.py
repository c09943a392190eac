"""Rows of a spreadsheet (XLSX, ODS, XLS) as text, with the row each stands in.

The file is read once, as a whole: spreadsheets have a million rows at most. Before it is opened it must be harmless:
no more than 200 MB unpacked, no more than 100 times its size, no declarations in its XML, no more than ten million
cells between the first and the last that hold something.

A number becomes its shortest text (4, not 4.0), a date 2009-10-01, a truth value true or false; a formula counts with
the value last saved. calamine gives an empty cell where an error such as #N/A stands; the error is put back here, so
that it is noticed. Without `sheet` the first visible one is read. Rows hidden by a filter are rows like any others.
Raises TableError.
"""

import datetime as dt
import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from dispatcher.core.errors import Place, Problem, TableError

EXPANDED_LIMIT = 200 * 1000 * 1000
RATIO_LIMIT = 100
CELLS_LIMIT = 10_000_000
COLUMNS_KNOWN = 16_384  # no spreadsheet program repeats an empty cell more often
EXACT = 2**53  # whole numbers below it are exact as floating point

ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

Errors = dict[tuple[int, int], str]
"""Spreadsheet errors by row and column, both from 0."""

_XLSX_CELL = re.compile(
    rb"<(?:\w+:)?c\s([^>]*[^/])>"  # a cell that is not empty
    rb"(?:<(?:\w+:)?f\b[^>]*?(?:/>|>[^<]*</(?:\w+:)?f>))?"
    rb"(?:<(?:\w+:)?v>([^<]*))?"
)
_XLSX_PLACE = re.compile(rb"""\br\s*=\s*["']([A-Za-z]{1,3})(\d{1,7})["']""")
_XLSX_ERROR = re.compile(rb"""\bt\s*=\s*["']e["']""")
_ODS_ROW = re.compile(rb"<table:table-row\b([^>]*?)(?:/>|>(.*?)</table:table-row>)", re.DOTALL)
_ODS_CELL = re.compile(rb"<table:(?:covered-)?table-cell\b([^>]*?)(/?)>")
_ODS_REPEATED = re.compile(rb"""table:number-(?:rows|columns)-repeated\s*=\s*["'](\d+)["']""")
# [MS-XLS] 2.4.24 BoolErr, and 2.4.127 Formula with an error for a value: row, column, cell format, code.
_XLS_ERROR = re.compile(
    rb"(?:\x05\x02\x08\x00(....)..([\x00\x07\x0f\x17\x1d\x24\x2a])\x01"
    rb"|\x06\x00..(....)..\x02.([\x00\x07\x0f\x17\x1d\x24\x2a])...\xff\xff)",
    re.DOTALL,
)
_XLS_CODES = {0: "#NULL!", 7: "#DIV/0!", 15: "#VALUE!", 23: "#REF!", 29: "#NAME?", 36: "#NUM!", 42: "#N/A"}

_LOCKED = "the file is protected by a password", "Save it without a password, or export the sheet as CSV in UTF-8."
_BROKEN_TODO = "Open it in a spreadsheet program and save it again as XLSX, or as CSV in UTF-8."


def sheet_records(data: bytes, shown: str, sheet: str | None) -> tuple[str, Iterator[tuple[int, list[str]]]]:
    """("xlsx", "ods" or "xls", rows as line and cells). A cell's line is its row, from 1; blank rows are left out."""
    archive = _unpacked(data, shown) if data.startswith(ZIP) else None
    kind = _kind(data, archive, shown)
    try:
        if archive and kind == "ods":  # calamine reads all its sheets at once
            _refuse_wide(*_ods_extent(archive), shown)
        with CalamineWorkbook.from_filelike(io.BytesIO(data)) as book:
            name = _sheet_name(book, shown, sheet)
            errors = _errors(data, archive, kind, name, shown)
            page = book.get_sheet_by_name(name)
    except PasswordError:
        raise _fault(shown, *_LOCKED) from None
    except BaseException as error:
        # A parser's panic is not an Exception; all others of that kind (Ctrl-C) are none of ours.
        panic = type(error).__name__ == "PanicException"
        if not panic and not isinstance(error, (CalamineError, OSError, ValueError, KeyError, ET.ParseError)):
            raise
        raise _fault(shown, f"the spreadsheet cannot be read ({error})", _BROKEN_TODO) from None
    return kind, _rows(page, errors, shown)


def _rows(page: CalamineSheet, errors: Errors, shown: str) -> Iterator[tuple[int, list[str]]]:
    left = page.start[1] if page.start else 0
    merged = sorted(((top, bottom) for (top, _), (bottom, _) in page.merged_cell_ranges or ()), reverse=True)
    marks: dict[int, list[tuple[int, str]]] = {}
    for (row, column), text in errors.items():
        marks.setdefault(row, []).append((column - left, text))
    header = -1
    for row, values in enumerate(page.iter_rows()):
        cells = [text_of(v) for v in values]
        for column, text in marks.get(row, ()):
            if 0 <= column < len(cells) and not cells[column]:
                cells[column] = text
        if any(c and not c.isspace() for c in cells):
            header = row if header < 0 else header
            _refuse_merged(merged, row, header, shown)
            yield row + 1, cells


def _refuse_merged(merged: list[tuple[int, int]], row: int, header: int, shown: str) -> None:
    """Of merged cells only the first has a value; the others would be empty without anybody's saying so."""
    while merged and merged[-1][0] <= row:
        _, bottom = merged.pop()
        if bottom > header:
            raise _fault(shown, "cells are merged here", "Split them, and write the value into each.", row + 1)


def text_of(value: object) -> str:
    """A cell's value as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    return str(value)


def _unpacked(data: bytes, shown: str) -> zipfile.ZipFile:
    """The archive, once its parts are known to be of the size they claim, and harmless."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        parts = archive.infolist()
        if any(p.flag_bits & 1 for p in parts):
            raise _fault(shown, *_LOCKED)
        expanded = sum(p.file_size for p in parts)
        if expanded > EXPANDED_LIMIT or expanded > RATIO_LIMIT * len(data):
            what = f"it would unpack to {expanded:,} octets from {len(data):,}, which no honest list does"
            raise _fault(shown, what, "Export the sheet as CSV in UTF-8.")
        if len({p.filename for p in parts}) < len(parts) or archive.testzip():
            raise _fault(shown, "the file is damaged", _BROKEN_TODO)
        if any(b"<!DOCTYPE" in archive.read(p) for p in parts if p.filename.endswith((".xml", ".rels"))):
            raise _fault(shown, "its XML holds declarations, which no spreadsheet program writes", _BROKEN_TODO)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise _fault(shown, f"the file is damaged ({error})", _BROKEN_TODO) from None
    return archive


def _kind(data: bytes, archive: zipfile.ZipFile | None, shown: str) -> str:
    if archive is None:
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise _fault(shown, *_LOCKED)
        if any(name.encode("utf-16-le") in data for name in ("Workbook", "Book")):
            return "xls"
    else:
        names = archive.namelist()
        if "xl/workbook.xml" in names:
            return "xlsx"
        if "mimetype" in names and b"opendocument.spreadsheet" in archive.read("mimetype"):
            return "ods"
    raise _fault(shown, "the file is neither text nor a spreadsheet (XLSX, ODS, XLS)", _BROKEN_TODO)


def _sheet_name(book: CalamineWorkbook, shown: str, sheet: str | None) -> str:
    """The sheet asked for, or the first one that people see."""
    pages = [m for m in book.sheets_metadata if m.typ == SheetTypeEnum.WorkSheet]
    names = [m.name for m in pages]
    if sheet is None:
        visible = [m.name for m in pages if m.visible == SheetVisibleEnum.Visible]
        if not visible:
            raise _fault(shown, "the spreadsheet has no visible sheet", "Set sheet to the name of the one to read.")
        return visible[0]
    if sheet not in names:
        there = ", ".join(f'"{n}"' for n in names)
        raise _fault(shown, f'there is no sheet called "{sheet}"', f"Set sheet to one of {there}.")
    return sheet


def _errors(data: bytes, archive: zipfile.ZipFile | None, kind: str, name: str, shown: str) -> Errors:
    """Where the sheet holds errors, which calamine takes for empty cells; in ODS they are text to it."""
    if archive is None:
        return _xls_errors(data)
    if kind == "ods":
        return {}
    rows, columns, errors = _xlsx_extent(archive, name)
    _refuse_wide(rows, columns, shown)
    return errors


def _refuse_wide(rows: int, columns: int, shown: str) -> None:
    """Calamine makes room for every cell up to the last one, and ends the process if there is not enough."""
    if rows * columns > CELLS_LIMIT:
        what = f"the sheet reaches over {rows:,} rows and {columns:,} columns"
        raise _fault(shown, what, "Remove stray cells far from the list, or export it as CSV in UTF-8.")


def _xlsx_extent(archive: zipfile.ZipFile, name: str) -> tuple[int, int, Errors]:
    """(rows, columns, errors) of one sheet. ECMA-376 part 1, 18.3.1.4: r is the place, t="e" an error, v its text."""
    rows = columns = 0
    errors: Errors = {}
    for cell in _XLSX_CELL.finditer(archive.read(_xlsx_part(archive, name))):
        if place := _XLSX_PLACE.search(cell[1]):
            row, column = int(place[2]), _column_number(place[1])
            rows, columns = max(rows, row), max(columns, column)
            if _XLSX_ERROR.search(cell[1]):
                errors[row - 1, column - 1] = (cell[2] or b"#ERROR!").decode("ascii", "replace")
    return rows, columns, errors


def _xlsx_part(archive: zipfile.ZipFile, name: str) -> str:
    """The part of the package that holds a sheet. KeyError if there is none."""
    book = ET.fromstring(archive.read("xl/workbook.xml"))  # noqa: S314
    links = ET.fromstring(archive.read("xl/_rels/workbook.xml.rels"))  # noqa: S314
    targets = {link.get("Id"): link.get("Target", "") for link in links.iter()}
    for page in book.iter():
        if page.tag.endswith("}sheet") and page.get("name") == name:
            link = next(value for key, value in page.attrib.items() if key.endswith("}id"))
            return posixpath.normpath(posixpath.join("/xl", targets[link])).lstrip("/")
    raise KeyError(name)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def _ods_extent(archive: zipfile.ZipFile) -> tuple[int, int]:
    """(rows, columns) over all sheets together. OpenDocument 1.2 part 1, 9.1.3 and 9.1.4: both may be repeated."""
    row = rows = columns = 0
    for found in _ODS_ROW.finditer(archive.read("content.xml")):
        row += _repeated(found[1])
        column = width = 0
        for cell in _ODS_CELL.finditer(found[2] or b""):
            count = _repeated(cell[1])
            column += count
            width = column if not cell[2] or count > COLUMNS_KNOWN else width
        rows, columns = row if width else rows, max(columns, width)
    return rows, columns


def _repeated(attributes: bytes) -> int:
    found = _ODS_REPEATED.search(attributes)
    return int(found[1]) if found else 1


def _xls_errors(data: bytes) -> Errors:
    """Errors in any sheet of an XLS file; one counts only where the sheet that is read has an empty cell."""
    errors: Errors = {}
    for found in _XLS_ERROR.finditer(data):
        place, code = (found[1], found[2]) if found[1] else (found[3], found[4])
        errors[int.from_bytes(place[:2], "little"), int.from_bytes(place[2:], "little")] = _XLS_CODES[code[0]]
    return errors


def _fault(shown: str, what: str, todo: str, line: int | None = None) -> TableError:
    return TableError(Problem(what, Place(shown, line), todo))
