"""Records of comma-, semicolon-, tab- and pipe-separated text (RFC 4180), with the physical line each begins in.

Lines end in CRLF, LF or CR; cells in quotation marks may hold any of them. Spaces after a delimiter do not count.
A quotation mark that is never closed, or that text follows, is an error and not a reason to shift columns.

The delimiter is the one that cuts the most records into as many cells as the header. If two do so equally well,
nothing is chosen: TableError asks for it. If none occurs in the header, the list has one column.
"""

import csv
from collections.abc import Iterable, Iterator
from itertools import islice

from dispatcher.core.errors import Place, Problem, TableError

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
NO_DELIMITER = "\x1f"  # cuts nothing: no cell may hold it
RECORDS_LOOKED_AT = 1000

_QUOTE_TODO = 'Close it, or double a quotation mark that belongs to the text: "".'


def records(lines: Iterable[str], delimiter: str, shown: str) -> Iterator[tuple[int, list[str]]]:
    """Each record's first line, from 1, and its cells; blank ones are left out. Raises TableError and then stops."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if not is_blank(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(_broken(str(error), shown, line, reader.line_num)) from None


def is_blank(cells: Iterable[str]) -> bool:
    """Whether nothing but white space is in any cell."""
    return not any(c and not c.isspace() for c in cells)


def _broken(error: str, shown: str, start: int, line: int) -> Problem:
    if "field larger" in error:
        what = "a cell of this record is far longer than 32 kB; perhaps a quotation mark is never closed"
        return Problem(what, Place(shown, start), _QUOTE_TODO)
    if "unexpected end" in error:
        return Problem("a quotation mark in this record is never closed", Place(shown, start), _QUOTE_TODO)
    where = f" (the record begins in line {start})" if start != line else ""
    return Problem(f"text follows a closing quotation mark{where}", Place(shown, line), _QUOTE_TODO)


def detect(head: list[str], shown: str) -> tuple[str, str]:
    """(name, delimiter) for a file that begins with these lines; a one-column list is called "comma"."""
    found = {name: widths for name, mark in DELIMITERS.items() if (widths := _widths(head, mark))}
    shares = {name: _share(widths) for name, widths in found.items() if widths[0] > 1}
    if not shares:
        # Every record cut into the same two cells or more: the header lacks names, and that must come to light.
        short = [n for n, w in found.items() if len(set(w[1:])) == 1 and w[1] > 1]
        return (short[0], DELIMITERS[short[0]]) if short else ("comma", NO_DELIMITER)
    best = [name for name in shares if shares[name] == max(shares.values())]
    if len(best) > 1:
        todo = "Set delimiter, for example delimiter = " + " or ".join(f'"{n}"' for n in best) + "."
        raise TableError(Problem(f"cells may be divided by {' or by '.join(best)}", Place(shown), todo))
    return best[0], DELIMITERS[best[0]]


def chosen(delimiter: str, shown: str) -> tuple[str, str]:
    """(name, delimiter) for what the user set: the name or the character itself."""
    for name, mark in DELIMITERS.items():
        if delimiter in (name, mark):
            return name, mark
    todo = "Use one of " + ", ".join(DELIMITERS) + "."
    raise TableError(Problem(f"{delimiter!r} cannot divide cells", Place(shown), todo))


def _widths(head: list[str], mark: str) -> list[int]:
    """How many cells the records have, the header first. Lenient: a wrong delimiter may break the rules of quoting."""
    widths: list[int] = []
    try:
        for cells in islice(csv.reader(head, delimiter=mark, skipinitialspace=True), RECORDS_LOOKED_AT):
            widths += [] if is_blank(cells) else [len(cells)]
    except csv.Error:
        pass  # what came before is enough to choose by; reading will name the fault
    return widths


def _share(widths: list[int]) -> float:
    """The share of records as wide as the header; 1 if there are none."""
    return widths[1:].count(widths[0]) / len(widths[1:]) if widths[1:] else 1.0
