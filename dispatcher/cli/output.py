"""How commands speak: data on stdout, everything else on stderr; every text through one printable filter.

Colours only on a terminal, and not with NO_COLOR. With `--json` stdout holds JSON alone, errors included.
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dispatcher.core.errors import DispatcherError, Problem, UsageError
from dispatcher.core.text import display_width, printable

_PLACES: Final = 3
_WIDEST: Final = 60
_COLOURS: Final = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
json_wanted = False


def want_json(value: bool) -> bool:  # noqa: FBT001 (typer's callback for --json)
    """Remember that this command speaks JSON, so that its errors do too."""
    global json_wanted  # noqa: PLW0603 (one process is one command)
    json_wanted = value
    return value


def colour(text: str, name: str, stream: Any = None) -> str:
    """The text in a colour, if the stream is a terminal that wants it."""
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"


def say(text: str = "", *, name: str = "") -> None:
    """A line on stdout."""
    shown = printable(text)
    print(colour(shown, name) if name else shown)


def note(text: str = "", *, name: str = "") -> None:
    """A line on stderr: progress, hints, errors."""
    shown = printable(text)
    print(colour(shown, name, sys.stderr) if name else shown, file=sys.stderr, flush=True)


def say_json(value: object) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows in columns, wide cells cut for the eye (exports are whole)."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([display_width(c), *(display_width(row[n]) for row in cells)]) for n, c in enumerate(columns)]
    for number, row in enumerate([list(columns), *cells]):
        line = "  ".join(c + " " * (w - display_width(c)) for c, w in zip(row, widths, strict=True)).rstrip()
        print(colour(line, "bold") if number == 0 else line)


def _cell(value: object) -> str:
    text = printable("" if value is None else str(value)).replace("\n", " ")
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def grouped(problems: Iterable[Problem]) -> list[tuple[str, str, list[str]]]:
    """Problems by what is wrong: (what, what to do, the places)."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for problem in problems:
        places[(problem.what, problem.todo)].append(str(problem.where))
    return [(what, todo, where) for (what, todo), where in places.items()]


def note_problems(problems: Iterable[Problem]) -> None:
    """Problems grouped, each with its first places."""
    for what, todo, where in grouped(problems):
        note(f"problem: {what}" + (f" ({len(where)} times)" if len(where) > 1 else ""), name="red")
        for place in where[:_PLACES]:
            if place:
                note(f"  at {place}")
        if len(where) > _PLACES:
            note(f"  and {len(where) - _PLACES} more")
        if todo:
            note(f"  → {todo}")


def report_error(error: DispatcherError) -> int:
    """Show an error people can meet; returns the exit code."""
    if json_wanted:
        problems = getattr(error, "problems", [Problem(str(error))])
        rows = [{"what": p.what, "where": str(p.where), "todo": p.todo} for p in problems]
        say_json({"error": type(error).__name__, "problems": rows, "exit_code": error.exit_code})
    elif isinstance(error, UsageError):
        note_problems(error.problems)
    else:
        note(f"dispatcher: {error}", name="red")
    return error.exit_code


def counts_line(counts: Mapping[str, int]) -> str:
    """Counts in one line, those that are zero left out."""
    parts = [f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if n and name != "letters"]
    return f"{counts.get('letters', 0):,} letters: " + (", ".join(parts) or "none")
