"""Bounds for templates: what they may call, how long a text may grow, how often a loop may turn.

A template is somebody's own, but a slip in it must not take the machine with it: it is either done in a moment or
refused with a line. Text can only grow and grow through names (`set`), loops, operators, calls and filters; each of
these is bounded here. Raises SecurityError when filled, TemplateSyntaxError when read.
"""

from collections.abc import Callable, Iterable, Mapping, Sized
from functools import wraps
from itertools import islice
from typing import Any, Final

from jinja2 import Environment, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS

LARGEST_TEXT: Final = 100_000
LONGEST_LIST: Final = 1_000
LARGEST_NUMBER: Final = 10_000
LARGEST_RESULT: Final = 10**15
DEEPEST_LOOP: Final = 2
"""Far beyond what a letter needs: characters of a value, items, numbers given and made, loops in one another."""


def words(text: str) -> frozenset[str]:
    """Names, as a set."""
    return frozenset(text.split())


_FILTERS: Final = words("""
    abs capitalize count d default dictsort e escape first float groupby int items join last length list lower map max
    min reject rejectattr replace reverse round select selectattr sort string striptags sum title trim truncate unique
    upper urlencode wordcount
""")
_OVER_ITEMS: Final = words("groupby join list map max min reject rejectattr select selectattr sort sum unique")
_REFUSED: Final[Mapping[type[nodes.Node], str]] = {
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from … import",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.ScopedEvalContextModifier: "autoescape",
}
_NAMED: Final = "given a name"  # filters that no template can name, for they hold a blank
_FEW: Final = "few items"


def bounded(result: Any) -> Any:
    """The result itself, unless there is too much of it."""
    if isinstance(result, str):
        if len(result) > LARGEST_TEXT:
            raise SecurityError("that yields more text than a letter can hold")
    elif isinstance(result, int | float):
        if abs(result) > LARGEST_RESULT:
            raise SecurityError("that yields too large a number")
    elif isinstance(result, Sized) and not isinstance(result, Undefined) and len(result) > LONGEST_LIST:
        raise SecurityError(f"that yields more than {LONGEST_LIST:,} items")
    return result


def _named(result: Any) -> Any:
    """What is given a name: there, and within bounds."""
    if isinstance(result, Undefined):
        str(result)  # raises here, where the field is asked for, and not later, where the name is used
    return bounded(result)


def few_items(items: Iterable[Any]) -> list[Any]:
    """What a loop runs over."""
    few: list[Any] = bounded(list(islice(items, LONGEST_LIST + 1)))
    return few


def _bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes no huge number and no endless list, and gives no huge result."""
    at = 1 if hasattr(function, "jinja_pass_arg") else 0  # where the value is: some filters get the context first

    @wraps(function)  # keeps what Jinja notes on a function, such as that very wish
    def filtered(*args: Any, **options: Any) -> Any:
        if any(isinstance(a, int | float) and abs(a) > LARGEST_NUMBER for a in (*args[at + 1 :], *options.values())):
            raise SecurityError(f"a number above {LARGEST_NUMBER:,} is not allowed in |{name}")
        if name in _OVER_ITEMS and isinstance(args[at], str):
            few_items(args[at])
        return bounded(function(*args, **options))

    return filtered


def _replace(text: object, old: object, new: object, count: int = -1) -> str:
    """Jinja's `replace`, within bounds; Markup escapes by itself what is put in."""
    whole, new = text if isinstance(text, str) else str(text), str(new)
    if (len(whole) + 1) * (len(new) + 1) > 10 * LARGEST_TEXT:
        raise SecurityError("that replaces too much")
    return whole.replace(str(old), new, count)


def joined(pieces: Iterable[str]) -> str:
    """All that a template gives out, unless there is too much of it."""
    source, out, size = iter(pieces), [], 0
    while some := list(islice(source, 100)):
        out.append("".join(some))
        size += len(out[-1])
        if size > 2 * LARGEST_TEXT:
            raise SecurityError("the letter is longer than a letter can be")
    return "".join(out)


def bounded_filters() -> dict[str, Callable[..., Any]]:
    """The filters there are."""
    found = {name: _bounded_filter(name, FILTERS[name]) for name in _FILTERS}
    return {**found, "replace": _bounded_filter("replace", _replace), _NAMED: _named, _FEW: few_items}


def tame(tree: nodes.Template, environment: Environment) -> nodes.Template:
    """Refuse in a parsed template what could run away, and bound what could grow. Raises TemplateSyntaxError."""
    for kind, word in _REFUSED.items():
        if found := tree.find(kind):
            raise TemplateSyntaxError(f"'{word}' is not used here", found.lineno)
    _tame(tree, environment, 0)
    return tree


def _tame(node: nodes.Node, environment: Environment, depth: int) -> None:
    """Bound every loop, and everything that is given a name: only through names can text grow and grow."""
    for child in node.iter_child_nodes():
        inside = depth
        if isinstance(child, nodes.For):
            inside += 1
            if child.recursive or inside > DEEPEST_LOOP:
                what = "a recursive loop" if child.recursive else f"more than {DEEPEST_LOOP} loops in one another"
                raise TemplateSyntaxError(f"{what} cannot be used here", child.lineno)
            child.iter = _filtered(child.iter, _FEW, environment)
        elif isinstance(child, nodes.Assign):
            child.node = _filtered(child.node, _NAMED, environment)
        elif isinstance(child, nodes.With):
            child.values = [_filtered(given, _NAMED, environment) for given in child.values]
        _tame(child, environment, inside)


def _filtered(node: Any, name: str, environment: Environment) -> nodes.Filter:
    found = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    found.set_environment(environment)
    return found
