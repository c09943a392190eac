"""Cells that hold for a time only → a list's rows as they are on one day: the names of 2009 in a letter of 2009.

A list says what is so today. Beside it a table of dated values may say, by the recipient's key, what is or was so on
other days: a row holds from the day `from` to the day `until`, both included (empty: without an end), and each of its
filled cells takes the place of the list's. So a template says `{{ mission_en }}`, whatever the letter's date.

Never chooses between two values for one day: that is a problem, and so is a column that the list has not. A key that
the list has not is none, for one table may serve many lists, but it may be a slip: `unmet` names them. Kept are the
rows that hold on the day and the keys, and nothing else. Raises TableError.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Final

from dispatcher.core.errors import Place, Problem, TableError
from dispatcher.core.plan import Row
from dispatcher.core.toml import did_you_mean

_WHEN: Final = ("from", "until")
_OWN: Final = frozenset({"key", *_WHEN, "note"})
"""Columns of the table itself; `note` is for people."""
_ISO_DATE: Final = len("2009-10-01")


class Dated:
    """The dated values of one list, as of one day. `file` is the table's name, `columns` are its columns."""

    def __init__(self, day: date, file: str, columns: Sequence[str], listed: Sequence[str]) -> None:
        self._day = day
        self._problems = list(_column_problems(file, columns, listed))
        self._cells: dict[str, dict[str, tuple[str, Place]]] = {}
        self._unmet: dict[str, None] = {}  # a set that keeps its order
        if self._problems:
            raise TableError(*self._problems)

    def read(self, rows: Iterable[Row]) -> None:
        """Take the table's rows in. Raises TableError naming every line that cannot be used."""
        for place, cells in rows:
            self._unmet[cells["key"]] = None
            try:
                if self._holds(place, cells):
                    self._add(place, cells)
            except TableError as error:
                self._problems += error.problems
        if self._problems:
            raise TableError(*self._problems)

    def applied(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The list's rows as of the day."""
        for place, fields in rows:
            key = fields["key"]
            self._unmet.pop(key, None)
            cells = self._cells.get(key)
            yield place, {**fields, **{name: text for name, (text, _) in cells.items()}} if cells else fields

    @property
    def unmet(self) -> Sequence[str]:
        """Keys of the table that no row of the list had, once all rows are applied."""
        return tuple(self._unmet)

    def _holds(self, place: Place, cells: Mapping[str, str]) -> bool:
        first, last = (_day(place, name, cells.get(name, "")) for name in _WHEN)
        if not first and not last:
            raise _wrong("the row says neither from when nor until when it holds", place, "fill one of the two columns")
        if first and last and last < first:
            raise _wrong(f"'until' ({last}) is before 'from' ({first})", place, "mend the two days")
        return (first or self._day) <= self._day <= (last or self._day)

    def _add(self, place: Place, cells: Mapping[str, str]) -> None:
        known = self._cells.setdefault(cells["key"], {})
        for name, text in cells.items():
            if name in _OWN or not text:
                continue
            other, there = known.setdefault(name, (text, place))
            if other != text:
                what = f"on {self._day} {cells['key']} has two values for '{name}', the other one at {there}"
                raise _wrong(what, place, "let the one end before the other begins")


def _day(place: Place, name: str, text: str) -> date | None:
    """An ISO 8601 date, or None if the cell is empty."""
    if not text:
        return None
    try:
        if len(text) == _ISO_DATE:
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise _wrong(f"'{name}' is not a date: {text[:40]!r}", place, "write it as 2009-10-01")


def _wrong(what: str, place: Place, todo: str) -> TableError:
    return TableError(Problem(what, place, todo))


def _column_problems(file: str, columns: Sequence[str], listed: Sequence[str]) -> Iterator[Problem]:
    here = Place(file, 1)
    if "key" not in columns or "key" not in listed:
        yield Problem("dated values need a column 'key', here and in the list", here, "add it to both")
    if not any(name in columns for name in _WHEN):
        yield Problem("there is neither a column 'from' nor 'until'", here, "add one, with days such as 2009-10-01")
    for name in columns:
        if name not in _OWN and name not in listed:
            todo = f"{did_you_mean(name, listed)}Name it as the list does"
            yield Problem(f"the list has no column '{name}'", here, todo)
