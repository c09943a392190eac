"""Jinja2 as this house uses it: sandboxed, strict, without anything that is not a function of its input.

Templates and expressions come from the campaign folder; data from the lists are values and never compiled. Nothing
that marks text as safe HTML, loads other files, or yields another result the next time is there to be called.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError
from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from dispatcher.core.errors import Place, Problem, TemplateError

_WITHHELD: Final = frozenset({"safe", "forceescape", "xmlattr", "urlize", "tojson", "random", "attr", "pprint"})
_LARGEST: Final = 100_000
_LINK: Final = re.compile(r"(?:https?://|mailto:)[^\s]+\Z", re.IGNORECASE)
_QUOTED: Final = re.compile(r"'([^']*)'(?= is undefined)|attribute '([^']*)'")


class Flag(str):
    """A cell that is exactly `true` or `false`: text as it stands, and a truth value in conditions."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return self.lower() == "true"


def value(text: str) -> str:
    """A cell as templates and expressions see it: text, and a Flag if it is `true` or `false`."""
    return Flag(text) if text.lower() in ("true", "false") else text


def link(text: object) -> str:
    """An address for href: http, https or mailto, or ValueError (a `javascript:` in a cell stays harmless)."""
    plain = str(text)
    if not _LINK.match(plain):
        raise ValueError(f"{plain!r} is not an http, https or mailto link")
    return plain


def _lines_as_breaks(result: object) -> object:
    """Line breaks inside a value are kept in HTML."""
    if isinstance(result, str) and "\n" in result:
        return Markup("<br>\n").join(escape(line) for line in result.splitlines())
    return result


class Environment(ImmutableSandboxedEnvironment):
    """The sandbox: strict about missing fields, deaf to attempts to fill the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self, *, html: bool) -> None:
        super().__init__(
            autoescape=html,
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            finalize=_lines_as_breaks if html else None,
        )
        self.globals.clear()
        for name in _WITHHELD:
            self.filters.pop(name, None)
        self.filters["link"] = link

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or not numbers:
            raise SecurityError(f"{operator} is for numbers only here" if operator == "*" else "** is not allowed here")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().call(context, obj, *args, **kwargs)
        if isinstance(result, str) and len(result) > _LARGEST:
            raise SecurityError("one call yields more text than a letter can hold")
        return result


TEXT: Final = Environment(html=False)
HTML: Final = Environment(html=True)

Failure = (JinjaError, SecurityError, TypeError, ValueError, ArithmeticError, KeyError, IndexError, AttributeError)
"""What a template of somebody's writing can raise while it is filled."""


def in_words(error: BaseException, known: Iterable[str]) -> tuple[str, str]:
    """What a template's failure means and what to do, for people; with the nearest known field."""
    if isinstance(error, UndefinedError):
        found = _QUOTED.search(error.message or "")
        name = (found.group(1) or found.group(2)) if found else ""
        if not name:
            return f"a field is missing ({error.message})", "add the column, or guard the place with {% if … %}"
        near = difflib.get_close_matches(name, list(known), n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"field '{name}' is missing", f"{hint}Add a column '{name}' to the list, or guard the place with an if"
    return str(error) or type(error).__name__, "mend the template at that place"


class Expression:
    """A condition over a row, as in `where` and `--only`: a Jinja expression over its columns.

    Raises TemplateError when it cannot be understood.
    """

    def __init__(self, source: str, place: Place) -> None:
        self.source = source
        self.place = place
        try:
            self._test = TEXT.compile_expression(source, undefined_to_none=False)
        except TemplateSyntaxError as error:
            todo = 'write a condition over columns, such as: language == "fr" and not observer'
            raise TemplateError(Problem(f"cannot understand {source!r}: {error.message}", place, todo)) from None

    def holds(self, fields: Mapping[str, str]) -> bool:
        """Whether it holds for a row. Raises TemplateError naming the missing column or what else went wrong."""
        try:
            return bool(self._test(**{name: value(text) for name, text in fields.items()}))
        except Failure as error:
            what, todo = in_words(error, fields)
            columns = ", ".join(fields)
            raise TemplateError(
                Problem(f"in {self.source!r}: {what}", self.place, f"{todo}. Columns are: {columns}")
            ) from None
