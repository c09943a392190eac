"""What mailmerge filled in, row by row: the database, its columns under names that mean here what they meant there.

mailmerge knows columns only as fields of the template. Here some names mean more (`language`, `cc`, `key`), and some
are taken (`subject`): these get another name, in the list and in every tag that reads them. Raises UsageError.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from jinja2 import TemplateSyntaxError

from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.jinja import TEXT, Failure, in_words
from dispatcher.core.plan import KNOWN_COLUMNS
from dispatcher.core.render import RESERVED

_FIELD: Final = re.compile(r"\{\{-?\s*([^\W\d]\w*)\s*-?\}\}")
_TAKEN: Final = KNOWN_COLUMNS | RESERVED | {"copy"}


def is_template(source: str) -> bool:
    """Whether a header line has anything to be filled in."""
    return "{{" in source or "{%" in source


def lone_field(source: str) -> str:
    """The field that a text is nothing but, or ''."""
    found = _FIELD.fullmatch(source.strip())
    return found[1] if found else ""


def fields_alone(source: str) -> Sequence[str] | None:
    """The fields in a text that holds no other tags; None if there are others."""
    left = _FIELD.sub("", source)
    return None if "{{" in left or "{%" in left or "{#" in left else _FIELD.findall(source)


def as_pattern(source: str) -> str:
    """A text of lone fields as a pattern of campaign.toml: {{ name }} becomes {name}."""
    return _FIELD.sub(r"{\1}", source)


@dataclass(slots=True)
class Listing:
    """The database while it becomes a list. `rows` are cells by column; `lines` where each row stood."""

    file: str
    columns: list[str]
    rows: list[dict[str, str]]
    lines: list[int]
    renamed: dict[str, str] = field(default_factory=dict)
    changed: bool = False

    def filled(self, source: str, place: Place) -> list[str]:
        """A header line as mailmerge would fill it, for each row. Raises UsageError naming line and row."""
        try:
            template = TEXT.from_string(TEXT.tame(source, place.file))
        except Failure as error:
            raise UsageError(Problem(in_words(error, {})[0], place, "mend the tag in that line")) from None
        found = []
        for row, line in zip(self.rows, self.lines, strict=True):
            try:
                found.append(template.render(row).strip())
            except Failure as error:
                what, todo = in_words(error, row)
                raise UsageError(Problem(f"{what} (for {self.file}:{line})", place, todo)) from None
        return found

    def rename(self, old: str, new: str) -> None:
        """Give a column another name."""
        if old == new:
            return
        self.columns[self.columns.index(old)] = new
        self.rows = [{(new if name == old else name): cell for name, cell in row.items()} for row in self.rows]
        self.renamed[old] = new
        self.changed = True

    def add(self, name: str, cells: Iterable[str]) -> None:
        """Add a column; one of that name, in any case, gets another name before."""
        self.make_way(name)
        self.columns.append(name)
        for row, cell in zip(self.rows, cells, strict=True):
            row[name] = cell
        self.changed = True

    def make_way(self, name: str) -> None:
        """Rename whatever column would be taken for `name`."""
        for column in list(self.columns):
            if column.lower() == name.lower():
                self.rename(column, self._free(f"old_{column}"))

    def _free(self, name: str) -> str:
        known = {column.lower() for column in self.columns}
        while name.lower() in known:
            name += "_"
        return name

    def settle(self, kept: Iterable[str]) -> None:
        """Rename the columns whose names mean something here that they did not mean there, but for `kept`."""
        names = {column.lower() for column in self.columns if column in kept}
        for column in list(self.columns):
            if column in kept or column.lower() not in _TAKEN:
                continue
            if column.lower() == "name" and "name" not in names:
                self.rename(column, "name")  # it is printed beside the address, and that is what it is
                names.add("name")
            elif not (column == "key" and self._keys()):
                self.rename(column, self._free(f"old_{column}"))

    def _keys(self) -> bool:
        """Whether the column `key` can be one."""
        keys = {row["key"].casefold() for row in self.rows}
        return "" not in keys and len(keys) == len(self.rows)

    def retold(self, source: str) -> str:
        """A template with the columns' new names in its tags; as it is, if it cannot be read."""
        if not self.renamed:
            return source
        try:
            tokens = list(TEXT.lex(source))
        except TemplateSyntaxError:
            return source
        out, before = [], ""
        for _, kind, text in tokens:
            known = kind == "name" and before != "."
            out.append(self.renamed.get(text, text) if known else text)
            before = text if kind != "whitespace" else before
        return "".join(out)

    def notes(self) -> Iterator[Problem]:
        """What was renamed."""
        for old, new in self.renamed.items():
            what = f"column '{old}' is '{new}' now, in the list and in the letter"
            todo = f"'{old}' means something else here; the README says what (Make it your own)"
            if new in ("name", "email"):
                todo = "nothing: that is how such a column is called here"
            yield Problem(what, Place(self.file, 1), todo)
