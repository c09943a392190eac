"""Recipients lists: CSV and its kin, XLSX, ODS and XLS, as named columns and rows of text.

The kind is told by content, never by the file's name. Text files of any length are streamed; a spreadsheet is held in
memory. Values are text and nothing else: see `cells` for what is done to them and what they may not hold.

Never guesses in silence: an encoding that had to be guessed says so (`Table.guessed`, with `Table.samples` to look
at), a row with more or fewer cells than the header is an error, and so are two columns of one name.

Raises TableError: at once for what concerns the file or its header; for what concerns rows, at the end (see
`open_table`). Also if the file changed while it was read.
"""

import difflib
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatcher.core.errors import Place, Problem, TableError
from dispatcher.sources.cells import clean
from dispatcher.sources.charset import CHUNK, Charset, charset_of, digest_of
from dispatcher.sources.delimited import RECORDS_LOOKED_AT, chosen, detect, records

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PROBLEM_LIMIT = 100
COLUMN_LIMIT = 1000
SAMPLES = 5
SHEET_LIMIT = 200 * 1000 * 1000
HEAD_LINES = 5000
HEAD_SIZE = 1 << 20
LINE_LIMIT = 1 << 26  # longer than the longest record that can be allowed

ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OTHERS = {
    b"%PDF": "a PDF",
    b"{\\rtf": "an RTF document",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x05\x06": "an empty ZIP archive",
}
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<table", b"<head", b"<meta")
_SAVE_AS = "Save the list as CSV in UTF-8, or as XLSX."

Record = tuple[int, list[str]]


@dataclass(frozen=True, slots=True)
class Row:
    """One record: the line of text or row of the sheet in which it begins (from 1), and its cells by column."""

    line: int
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """What is known of a list before its rows are read.

    `file` is its name as shown to people; `encoding` is "" for spreadsheets; `guessed` says that it is only a guess,
    and then `samples` holds the first five cells beyond ASCII, to be looked at (if not guessed, those among the first
    thousand records); `dialect` is comma, semicolon, tab, pipe, xlsx, ods or xls, and "comma" for a single column;
    `digest` is SHA-256 of the file's octets, hex.
    """

    file: str
    columns: tuple[str, ...]
    encoding: str
    guessed: bool
    samples: tuple[str, ...]
    dialect: str
    digest: str


def open_table(
    path: Path, shown: str, *, encoding: str | None = None, delimiter: str | None = None, sheet: str | None = None
) -> tuple[Table, Iterator[Row]]:
    """A list's head, read at once, and its rows, read as they are asked for.

    `encoding` and `delimiter` (text) and `sheet` (spreadsheets) override what would be found out. Blank records are
    left out. Good rows are given as they come; bad ones are noted, and after the last row one TableError names all of
    them (reading stops at the hundredth). So nothing may be done with rows before the iterator has ended in peace.
    """
    try:
        start = _start(path, shown)
        if start.startswith((ZIP, OLE)):
            _refuse_option(shown, "text files", encoding=encoding, delimiter=delimiter)
            return _open_sheet(path, shown, sheet)
        _refuse_option(shown, "spreadsheets", sheet=sheet)
        _refuse_other_kinds(start, shown)
        return _open_text(path, shown, encoding, delimiter)
    except OSError as error:
        raise TableError(_unreadable(path, shown, error)) from error


def _start(path: Path, shown: str) -> bytes:
    with path.open("rb") as stream:
        start = stream.read(512)
    if not start:
        raise TableError(Problem("the file is empty", Place(shown), "Its first line must name the columns."))
    return start


def _unreadable(path: Path, shown: str, error: OSError) -> Problem:
    if path.is_dir():
        return Problem("this is a folder, not a list", Place(shown), "Name a file in it.")
    if isinstance(error, FileNotFoundError):
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
        todo = f"Did you mean {' or '.join(near)}?" if near else "Check the name and the folder."
        return Problem("there is no such file", Place(shown), todo)
    return Problem(f"the file cannot be read: {error.strerror or error}", Place(shown), "Check its permissions.")


def _refuse_option(shown: str, kind: str, **options: str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise TableError(Problem(f"{name} is set, but it is for {kind} only", Place(shown), f"Leave {name} out."))


def _refuse_other_kinds(start: bytes, shown: str) -> None:
    kind = next((kind for magic, kind in _OTHERS.items() if start.startswith(magic)), "")
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_MARKUP):
        kind = "a web page or XML, whatever its name says"
    if kind:
        raise TableError(Problem(f"this is {kind}, not a list", Place(shown), _SAVE_AS))


def _open_sheet(path: Path, shown: str, sheet: str | None) -> tuple[Table, Iterator[Row]]:
    from dispatcher.sources.sheet import sheet_records  # noqa: PLC0415  only those who need it wait for its import

    if path.stat().st_size > SHEET_LIMIT:
        raise TableError(Problem("the spreadsheet is larger than 200 MB", Place(shown), "Export it as CSV in UTF-8."))
    data = path.read_bytes()
    kind, found = sheet_records(data, shown, sheet)
    header = _header(next(found, None), shown)
    table = Table(
        shown, header.columns, "", guessed=False, samples=(), dialect=kind, digest=hashlib.sha256(data).hexdigest()
    )
    return table, _rows(found, header, shown)


def _open_text(path: Path, shown: str, encoding: str | None, delimiter: str | None) -> tuple[Table, Iterator[Row]]:
    digest = digest_of(path)
    charset = charset_of(path, shown, encoding)
    if delimiter is not None:
        dialect, mark = chosen(delimiter, shown)
    else:
        with _text(path.open("rb"), charset) as stream:
            dialect, mark = detect(list(islice(_lines(stream, HEAD_SIZE), HEAD_LINES)), shown)
    with _text(path.open("rb"), charset) as stream:
        found = records(_lines(stream), mark, shown)
        header = _header(next(found, None), shown)
        samples = _samples(found, charset)
    table = Table(shown, header.columns, charset.name, charset.guessed, samples, dialect, digest)
    return table, _text_rows(path, table, charset, mark, header)


def _text_rows(path: Path, table: Table, charset: Charset, mark: str, header: "_Header") -> Iterator[Row]:
    """The rows, and at the end the proof that they come from the octets that were looked at."""
    todo = "Close it in other programs, wait until it is complete, and try again."
    changed = TableError(Problem("the file changed while it was read", Place(table.file), todo))
    fault: TableError | None = None
    try:
        hashed = _Hashed(path)
        with _text(io.BufferedReader(hashed, CHUNK), charset) as stream:
            found = records(_lines(stream), mark, table.file)
            try:
                next(found, None)
                yield from _rows(found, header, table.file)
            except TableError as error:
                fault = error
            except UnicodeError:
                raise changed from None
            while stream.buffer.read(CHUNK):
                pass
    except OSError as error:
        raise TableError(_unreadable(path, table.file, error)) from error
    if hashed.sha.hexdigest() != table.digest:
        raise changed
    if fault:
        raise fault


def _text(octets: "io.BufferedReader[Any]", charset: Charset) -> io.TextIOWrapper:
    """Text whose lines end in CRLF, LF or CR, and keep these; no other sign of Unicode ends a line of CSV."""
    return io.TextIOWrapper(octets, encoding=charset.name, newline="")


def _lines(stream: io.TextIOWrapper, size: int = 0) -> Iterator[str]:
    """All lines, or those that begin in the first `size` characters (about)."""
    done = 0
    while line := stream.readline(LINE_LIMIT):
        yield line
        done += len(line)
        if size and done >= size:
            return


class _Hashed(io.RawIOBase):
    """A file that digests what is read from it."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("rb", buffering=0)
        self.sha = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        size = self._raw.readinto(view) or 0
        self.sha.update(view[:size])
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


def _samples(found: Iterable[Record], charset: Charset) -> tuple[str, ...]:
    """The first cells beyond ASCII; what a guess rests on is looked for to the end of the file."""
    samples: list[str] = []
    try:
        for _, raw in islice(found, None if charset.guessed else RECORDS_LOOKED_AT):
            samples += [cell for cell in clean(raw)[0] if not cell.isascii()]
            if len(samples) >= SAMPLES:
                break
    except TableError:
        pass  # the rows will name it
    return tuple(samples[:SAMPLES])


@dataclass(frozen=True, slots=True)
class _Header:
    """The names of the columns; `width` counts nameless ones at the end, in which no cell may hold anything."""

    columns: tuple[str, ...]
    width: int


def _header(record: Record | None, shown: str) -> _Header:
    """The header, or TableError with all that is wrong with it."""
    if record is None:
        raise TableError(Problem("the file is empty", Place(shown), "Its first line must name the columns."))
    line, raw = record
    names, complaints = clean(raw)
    width = len(names)
    while not names[-1]:
        names.pop()
    problems = [Problem(what, Place(shown, line, f"column {i + 1}"), todo) for i, (what, todo) in complaints]
    if len(names) > COLUMN_LIMIT:
        raise TableError(Problem(f"{len(names):,} columns, more than {COLUMN_LIMIT:,}", Place(shown, line), _SAVE_AS))
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            todo = "Name it, or remove the column."
            problems.append(Problem("the column has no name", Place(shown, line, f"column {number}"), todo))
        elif (earlier := first.setdefault(name.casefold(), number)) != number:
            what = f"columns {earlier} and {number} have the same name"
            problems.append(Problem(what, Place(shown, line, name), "Rename or remove one of them."))
    if problems:
        raise TableError(*problems)
    return _Header(tuple(names), width)


def _rows(found: Iterable[Record], header: _Header, shown: str) -> Iterator[Row]:
    problems: list[Problem] = []
    try:
        for line, raw in found:
            cells, complaints = clean(raw)
            bad = [
                Problem(what, Place(shown, line, header.columns[i]), todo)
                for i, (what, todo) in complaints
                if i < len(header.columns)
            ]
            bad += _ragged(cells, header, shown, line)
            if not bad:
                yield Row(line, dict(zip(header.columns, cells, strict=False)))
            problems += bad
            if len(problems) >= PROBLEM_LIMIT:
                break
    except TableError as error:
        problems += error.problems
    if problems:
        raise TableError(*problems[:PROBLEM_LIMIT])


def _ragged(cells: list[str], header: _Header, shown: str, line: int) -> list[Problem]:
    """Cells without a column, and columns without a cell: either may mean that all cells have shifted."""
    named, there = len(header.columns), len(cells)
    todo = "Look for a delimiter too many or too few; a cell that holds one needs quotation marks."
    if there < named:
        what = f"{_count(there)} where the header has {named}"
        return [Problem(what, Place(shown, line, header.columns[there]), todo)]
    if there > header.width:
        return [Problem(f"{_count(there)} where the header has {header.width}", Place(shown, line), todo)]
    stray = [i for i in range(named, there) if cells[i]]
    what = "the column has no name in the header, but a cell here"
    return [Problem(what, Place(shown, line, f"column {i + 1}"), "Name the column, or empty the cell.") for i in stray]


def _count(cells: int) -> str:
    return f"{cells} cell" if cells == 1 else f"{cells} cells"
