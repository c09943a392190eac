"""What a cell may hold, whatever kind of file it comes from.

A cell is text: line ends inside it become LF, composed form (Unicode NFC), white space around it removed, nothing
else changed; `NA`, `NO`, `004` and `true` stay what they are. Refused, because they would break a letter's header,
run as a formula in somebody's spreadsheet, or show that the data is damaged: control characters, formula-looking
cells, spreadsheet errors such as #N/A, cells above 32 kB. Pure functions; nothing is raised.
"""

import re
import unicodedata
from collections.abc import Sequence

CELL_LIMIT = 32 * 1024  # octets of UTF-8

Complaint = tuple[str, str]
"""What is wrong with a cell, and what to do."""

# C0 but tab and LF, DEL, C1, the separators of lines and paragraphs, a stray byte order mark, signs of lost characters.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffd-\uffff]")
_BLANKS = " \u00a0\u1680\u2000-\u200f\u202f\u205f\u2060\u3000\"'’‘“”`"
_LEAD = f"[{_BLANKS}\\t\\n]*"
_SIGNS = "=+\\-@＝＋－＠﹦﹢﹣﹫"
_FORMULA = re.compile(f"{_LEAD}[{_SIGNS}]|[{_BLANKS}]*\t")
_NUMBER = re.compile(r"[+-][\d\s().,/%-]*\d[\d\s().,/%-]*|[+-]\d+(\.\d+)?[eE][+-]?\d+|-+")
_ERROR = re.compile(r"\s*(#(N/A|REF!|DIV/0!|VALUE!|NAME\?|NUM!|NULL!|SPILL!|CALC!|ERROR!|GETTING_DATA)|Err:\d{3})\s*")
# One search over a row's cells joined by LF: no hit means that none of the rules below can object. It never looks
# past an LF, or a cell of nothing but LF would take time in the square of its length.
_SUSPECT = re.compile(f"{_CONTROL.pattern}|^[{_BLANKS}]*[{_SIGNS}#E]|\t", re.MULTILINE)


def clean(cells: Sequence[str]) -> tuple[list[str], list[tuple[int, Complaint]]]:
    """The cells as they are to be used, and the complaints about them by position from 0."""
    joined = "\n".join(cells)
    if "\r" in joined:
        cells = [c.replace("\r\n", "\n").replace("\r", "\n") for c in cells]
        joined = "\n".join(cells)
    if not joined.isascii() and not unicodedata.is_normalized("NFC", joined):
        cells = [unicodedata.normalize("NFC", c) for c in cells]
    complaints = []
    if len(joined) * 4 > CELL_LIMIT or _SUSPECT.search(joined):
        complaints = [(i, fault) for i, cell in enumerate(cells) if (fault := complaint(cell))]
    return [c.strip() for c in cells], complaints


def complaint(cell: str) -> Complaint | None:
    """What is wrong with one cell, or None."""
    if len(cell) * 4 > CELL_LIMIT and len(cell.encode("utf-8", "replace")) > CELL_LIMIT:
        return "the cell is longer than 32 kB", "Shorten it, or look for a quotation mark that is never closed."
    if found := _CONTROL.search(cell):
        return _control(found[0])
    if found := _ERROR.fullmatch(cell):
        return f"the cell holds the spreadsheet error {found[1]}", "Correct the formula, or empty the cell."
    if _FORMULA.match(cell) and not _NUMBER.fullmatch(_bare(cell)):
        return f"the cell looks like a formula: {excerpt(cell)}", "Write it so that it begins with a letter or a digit."
    return None


def excerpt(cell: str) -> str:
    """The start of a cell, fit to be shown in an error."""
    return ascii(cell) if not cell.isprintable() else f'"{cell}"' if len(cell) <= 40 else f'"{cell[:40]}…"'


def _bare(cell: str) -> str:
    """The cell without what may stand before a sign, full-width forms made plain."""
    return re.sub(f"^{_LEAD}", "", unicodedata.normalize("NFKC", cell)).strip().rstrip("\"'")


def _control(sign: str) -> Complaint:
    name = f"U+{ord(sign):04X}"
    if sign == "\0":
        return "the cell holds a NUL character (U+0000)", "Save the list again as CSV in UTF-8."
    if sign in "\ufffd\ufffe\uffff":
        return f"the cell holds {name}, the trace of a lost character", "Go back to the file the list was made from."
    if "\x80" <= sign <= "\x9f":
        return f"the cell holds the control character {name}", "The encoding may be wrong: try cp1252. Or take it out."
    return f"the cell holds the invisible character {name}", "Take it out; a new line or a tab may stay."
