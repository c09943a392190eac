"""Fields as other programs write them, left in a letter: Word's «Name», or <<Name>> typed by hand.

They would be printed as they stand. But « » are quotation marks too, in French with a blank inside: what is a field is
told by the columns of the list, read as people mean them (`Family Name` is family_name), and by Word's own names.
Pure functions.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from dispatcher.core.errors import Place, Problem
from dispatcher.core.jinja import folded
from dispatcher.core.render import SourceFile

_MARKED: Final = re.compile(r"«([^«»\n]{1,80})»|<<([^<>\n]{1,80})>>")
_OF_WORD: Final = frozenset({"addressblock", "greetingline", "next_record"})


def foreign_fields(letters: Iterable[SourceFile], columns: Iterable[str]) -> Iterator[Problem]:
    """A problem for each field of another program in a letter file, front matter included, with how to write it."""
    known = {folded(column): column for column in columns}
    for source in letters:
        for line, text in enumerate(source.text.split("\n"), 1):
            for found in _MARKED.finditer(text):
                if problem := _problem(found[1] or found[2], found[0], known):
                    yield Problem(problem[0], Place(source.file, line), problem[1])


def _problem(name: str, shown: str, known: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong and what to do, if this is a field and no quotation."""
    if name != name.strip():
        return None
    what = f"{shown} is how Word writes a field, and would be printed as it stands"
    quoted = "; if it is a quotation, put blanks inside the marks"
    if column := known.get(folded(name)):
        return what, f"write {as_field(column)}{quoted}"
    if "_" in name and " " not in name:
        return what, f"write {as_field(name)}, and add that column to the list: it has {', '.join(known.values())}"
    if folded(name) in _OF_WORD:
        return (
            what,
            "write what it stood for, such as {{ salutation }}: the address block is `address` above the letter",
        )
    return None


def as_field(column: str) -> str:
    """How a letter names a column, and what has to be done first if its name is not one word."""
    if column.isidentifier():
        return f"{{{{ {column} }}}}"
    name = re.sub(r"\W+", "_", column).strip("_")
    return f"{{{{ {name} }}}}, and rename column '{column}' to '{name}' in the list"
