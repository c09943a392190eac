"""Jinja2 as this house uses it: sandboxed, strict, and bounded; nothing in it that is not a function of its input.

Templates and expressions come from the campaign folder; data from the lists are values and never compiled. Nothing
that marks text as safe HTML, loads other files, or yields another result the next time is there to be called. Text
may only be made longer within bounds: a template is either done in a moment or refused.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from jinja2 import StrictUndefined, Undefined, UndefinedError, nodes
from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from dispatcher.core.bounds import bounded, bounded_filters, joined, tame, words
from dispatcher.core.errors import Place, Problem, TemplateError
from dispatcher.core.text import curly

_METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: words("""
        capitalize casefold count endswith find index isalnum isalpha isascii isdigit islower isspace istitle isupper
        lower lstrip partition removeprefix removesuffix rfind rpartition rsplit rstrip split splitlines startswith
        strip swapcase title upper
    """),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
    int: frozenset(),
    float: frozenset(),
}
"""What may be called on a value; on anything else, what the sandbox allows."""
_LINK: Final = re.compile(r"(?:https?://|mailto:)[^\s]+\Z", re.IGNORECASE)
_MISSING: Final = re.compile(r"'([^']*)'(?= is undefined)")
_NOT_IN: Final = re.compile(r"has no attribute '([^']*)'")
_BLANKS: Final = re.compile(r"[\s_-]+")
_MANY_WORDS: Final = re.compile(r"\{\{[ \t]*([^\W\d]\w*(?:[ \t]+(?!(?:if|in|is|not|and|or|else)\b)\w+)+)[ \t]*\}\}")
_CHOICE: Final = re.compile(r"\{\{\s*([^\W\d][\w -]*?)\s*\|([^{}|]*)\|([^{}|]*)(?:\|([^{}|]*))?\}\}")
_WORD: Final = re.compile(r"\s*\w+")
_NOES: Final = words("0 n no non nein faux falso falsch off")
LONGEST_WORD: Final = 6
"""A longer cell is text as any other."""
_OF_A_DICT: Final = frozenset(dir(dict))


class Flag(str):
    """A cell that is exactly `true` or `false`: text as it stands, and a truth value in conditions."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return self.lower() == "true"


class NoTruthValueError(ValueError):
    """Something was asked whether it is true, and cannot tell."""


class No(str):
    """A cell such as `no` or `FAUX`: text in every way (NO is Norway), except that it is no answer to an if.

    As any other text it would be true, which is hardly what is meant.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        raise NoTruthValueError(f"{str(self)!r} is text, neither true nor false")


def value(text: str) -> str:
    """A cell as templates and expressions see it: text, a Flag if it is `true` or `false`, a No if it is like `no`."""
    if not 1 <= len(text) <= LONGEST_WORD:
        return text
    word = text.lower()
    if word in ("true", "false"):
        return Flag(text)
    return No(text) if word in _NOES else text


def _truth(result: object) -> bool:
    """What a condition comes to: other text than a Flag or '' (and what is no text) is no answer."""
    if isinstance(result, bool | Flag | Undefined) or result == "":
        return bool(result)  # a missing field speaks for itself
    given = f"the text {result[:40]!r}" if isinstance(result, str) else f"a value of type '{type(result).__name__}'"
    raise NoTruthValueError(f"the condition gives {given}, which is neither true nor false")


class Link(str):
    """Text in the target of a link: printed octet by octet as it stands."""

    __slots__ = ()


def link(text: object) -> Link:
    """An address for href: http, https or mailto, or ValueError (a `javascript:` in a cell stays harmless)."""
    plain = str(text)
    if not _LINK.match(plain):
        raise ValueError(f"{plain!r} is not an http, https or mailto link")
    return Link(plain)


def link_part(text: object) -> Link:
    """A value in the middle of a link: without blanks and line ends, or ValueError."""
    plain = str(text)
    if plain.split() not in ([plain], []):
        raise ValueError(f"{plain!r} cannot stand in a link: it has blanks; write |urlencode behind it")
    return Link(plain)


def _printed(result: object) -> object:
    """What `{{ }}` may print: text and numbers; a missing field speaks for itself."""
    if isinstance(result, (str, Undefined)) or (isinstance(result, int | float) and not isinstance(result, bool)):
        return result
    kinds = {list: "a list: use |join(', ')", type(None): "nothing at all", bool: "a truth value: use if"}
    kind = kinds.get(type(result), f"a {type(result).__name__}")
    raise ValueError(f"only text and numbers can be printed, and this is {kind}")


def _printed_in_html(result: object) -> object:
    """As `_printed`; line breaks inside a value are kept in HTML."""
    if type(result) is str and "\n" not in result:
        return result
    if isinstance(result, str) and "\n" in result:
        return Markup("<br>\n").join(escape(line) for line in result.splitlines())
    return _printed(result)


def as_lines(lines: Sequence[str]) -> Markup:
    """Plain lines as HTML, one below the other, each with a direction of its own."""
    inside = "</bdi><br><bdi>".join(map(escape, lines))
    return Markup(f"<bdi>{inside}</bdi>" if lines else "")  # noqa: S704 (every line is escaped)


def _with_apostrophes(printed: Callable[[object], object]) -> Callable[[object], object]:
    """The same, and apostrophes inside words as a printer sets them (`core.text.curly`)."""

    def finalize(result: object) -> object:
        return printed(curly(result) if type(result) is str and "'" in result else result)

    return finalize


class Environment(ImmutableSandboxedEnvironment):
    """The sandbox: strict about missing fields, deaf to attempts to fill the memory or to take for ever."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(joined)

    def __init__(self, *, html: bool, typographic: bool = False) -> None:
        printed = _printed_in_html if html else _printed
        super().__init__(
            autoescape=html,
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            finalize=_with_apostrophes(printed) if typographic else printed,
        )
        self.globals.clear()
        self.filters = {**bounded_filters(), "link": link, "link_part": link_part}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or (operator != "+" and not numbers):
            raise SecurityError(
                "** is not allowed here" if operator == "**" else f"{operator} is for numbers only here"
            )
        return bounded(super().call_binop(context, operator, left, right))

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute in obj and attribute not in _OF_A_DICT:
            return obj[attribute]  # where the sandbox would come to by way of an exception
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, names in _METHODS.items():
            if isinstance(obj, kind):
                return attr in names
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Not needed: `format` is not among the methods of text."""

    def call(self, context: Any, obj: Any, *args: Any, **options: Any) -> Any:
        return bounded(super().call(context, obj, *args, **options))

    def tame(self, source: str, name: str) -> nodes.Template:
        """Parse a template, within bounds (see `core.bounds`). Raises Jinja's errors."""
        return tame(self.parse(source, name, name), self)


TEXT: Final = Environment(html=False)
HTML: Final = Environment(html=True)
TYPOGRAPHIC_TEXT: Final = Environment(html=False, typographic=True)
TYPOGRAPHIC_HTML: Final = Environment(html=True, typographic=True)

Failure = (JinjaError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError, MemoryError)
"""What a template of somebody's writing can raise while it is compiled and filled."""


def in_words(error: BaseException, known: Mapping[str, Any]) -> tuple[str, str]:
    """What a template's failure means and what to do, for people; with the nearest known field."""
    if isinstance(error, RecursionError):
        return "nested too deeply", "write it more simply"
    if isinstance(error, NoTruthValueError):
        return str(error), 'write what it should be equal to, as in: member == "yes"'
    if not isinstance(error, UndefinedError):
        return str(error) or type(error).__name__, "mend the template at that place"
    message = error.message or ""
    if found := _MISSING.search(message):
        name = found.group(1)
        return f"field '{name}' is missing", _what_to_write(name, known)
    if found := _NOT_IN.search(message):
        name = found.group(1)
        inner = [key for value in known.values() if isinstance(value, Mapping) for key in value]
        return f"there is no '{name}' in it", f"{_hint(name, inner)}Mend the name behind the dot"
    return f"a field is missing ({message})", "add the column, or guard the place with an if"


def folded(name: str) -> str:
    """A column's name as people mean it: capital or small letters, blanks, hyphens or underscores are one."""
    return _BLANKS.sub("_", name.strip()).casefold()


def _what_to_write(name: str, known: Iterable[str]) -> str:
    """What to do about a field that is missing: the column may be there, spelt otherwise."""
    column = next((key for key in known if folded(key) == folded(name)), "")
    if column.isidentifier():
        return f"the column is called '{column}': write {{{{ {column} }}}}"
    if column:
        return f"the list has a column '{column}': rename it to '{name}', for a field is one word"
    return f"{_hint(name, known)}Add a column '{name}' to the list, or guard the place with an if"


def thunderbird(line: str) -> str:
    """What to write for a field as Thunderbird's Mail Merge has it: {{First name}}, {{gender|f|Ms|Mr}}; or ''."""
    if found := _MANY_WORDS.search(line):
        name = _BLANKS.sub("_", found[1])
        return f"a field is one word: write {{{{ {name} }}}} for {found[0]}, and call the column '{name}'"
    found = _CHOICE.search(line)
    if not found or ((word := _WORD.match(found[2])) and word[0] in TEXT.filters):
        return ""
    name, value, then, otherwise = _BLANKS.sub("_", found[1]), found[2], found[3], found[4]
    middle = f"{{% else %}}{otherwise}" if otherwise else ""
    return f'write {{% if {name} == "{value}" %}}{then}{middle}{{% endif %}} for {found[0]}'


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{near[0]}'? " if near else ""


class Expression:
    """A condition over a row, as in `where` and `--only`: a Jinja expression over its columns.

    Raises TemplateError when it cannot be understood.
    """

    def __init__(self, source: str, place: Place) -> None:
        self.source = source
        self.place = place
        try:
            self._test = TEXT.compile_expression(source, undefined_to_none=False)
        except Failure as error:
            what = in_words(error, {})[0]
            todo = 'write a condition over columns, such as: language == "fr" and not observer'
            raise TemplateError(Problem(f"cannot understand {source[:80]!r}: {what}", place, todo)) from None

    def holds(self, fields: Mapping[str, str]) -> bool:
        """Whether it holds for a row. Raises TemplateError naming the missing column or what else went wrong.

        A result that is neither true nor false, such as the text `no`, is refused: it is not for us to read it.
        """
        try:
            return _truth(self._test({name: value(text) for name, text in fields.items()}))
        except Failure as error:
            what, todo = in_words(error, fields)
            columns = ", ".join(fields)
            raise TemplateError(
                Problem(f"in {self.source!r}: {what}", self.place, f"{todo}. Columns are: {columns}")
            ) from None
