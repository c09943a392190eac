"""How commands speak: data on stdout, everything else on stderr; every text through one printable filter.

Colours only on a terminal, and not with NO_COLOR. With `--json` stdout holds JSON alone, errors included. What the
terminal's encoding lacks is written as its code, never dropped.
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from io import TextIOWrapper
from itertools import chain, islice
from typing import Any, Final, TextIO

from dispatcher.core.errors import DispatcherError, Problem, UsageError
from dispatcher.core.text import display_width, printable

_PLACES: Final = 3
_WIDEST: Final = 60
_MEASURED: Final = 1000
_COLOURS: Final = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}


def prepare_streams() -> None:
    """Make stdout write anything in any encoding: a name beyond it is no reason to break off."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def at_terminal() -> bool:
    """Whether somebody sits there who can be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def ask(question: str) -> str:
    """What somebody types; '' if nothing."""
    try:
        return input(printable(question)).strip()
    except EOFError:
        print()
        return ""


def _colour(text: str, name: str, stream: TextIO | None) -> str:
    """The text in a colour, if the stream is a terminal that wants it."""
    if not name or stream is None or not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    if os.environ.get("TERM") == "dumb" or (os.name == "nt" and "WT_SESSION" not in os.environ):
        return text
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"


def say(text: str = "", *, name: str = "") -> None:
    """A line on stdout. After a line break comes an indent, so that no value passes for a line of ours."""
    print(_colour(printable(text).replace("\n", "\n  "), name, sys.stdout))


def note(text: str = "", *, name: str = "") -> None:
    """A line on stderr: progress, hints, errors."""
    shown = printable(text).replace("\n", "\n  ")
    print(_colour(shown, name, sys.stderr), file=sys.stderr, flush=True)


def say_json(value: object) -> None:
    """One line of JSON on stdout; what does not show, or what stdout cannot hold, is escaped."""
    print(_json(value))


def say_json_rows(rows: Iterable[object], counted: str) -> None:
    """The same for an object of rows that may be many, and their number under the name `counted`."""
    count = 0
    print('{"rows": [', end="")
    for row in rows:
        print(", " if count else "", _json(row), sep="", end="")
        count += 1
    print(f'], "{counted}": {count}}}')


def _json(value: object) -> str:
    utf8 = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not utf8, default=str)
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def say_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows in columns, wide cells cut for the eye (exports are whole). The first thousand say how wide a column is."""
    cells = ([_cell(value) for value in row] for row in rows)
    first = list(islice(cells, _MEASURED))
    widths = [max([display_width(c), *(display_width(row[n]) for row in first)]) for n, c in enumerate(columns)]
    for number, row in enumerate(chain([list(columns)], first, cells)):
        line = "  ".join(c + " " * (w - display_width(c)) for c, w in zip(row, widths, strict=True)).rstrip()
        print(_colour(line, "bold" if number == 0 else "", sys.stdout))


def _cell(value: object) -> str:
    text = " ".join(printable("" if value is None else str(value)).split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def many(number: int, thing: str) -> str:
    """A number and its noun: `1 letter`, `1,204 letters`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def moment(stamp: str | None) -> str:
    """A moment of the ledger for people: to the second, in UTC."""
    return f"{stamp[:10]} {stamp[11:19]}" if stamp else ""


def grouped(problems: Iterable[Problem]) -> list[tuple[str, str, list[str]]]:
    """Problems by what is wrong: (what, what to do, the places)."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for problem in dict.fromkeys(problems):
        places[(problem.what, problem.todo)].append(str(problem.where))
    return [(what, todo, where) for (what, todo), where in places.items()]


def note_problems(problems: Iterable[Problem]) -> None:
    """Problems grouped, each with its first places."""
    for what, todo, where in grouped(problems):
        note(f"problem: {what}" + (f" ({len(where):,} times)" if len(where) > 1 else ""), name="red")
        for place in where[:_PLACES]:
            if place:
                note(f"  at {place}")
        if len(where) > _PLACES:
            note(f"  and {len(where) - _PLACES:,} more")
        if todo:
            note(f"  → {todo}")


def report_error(error: DispatcherError, *, as_json: bool) -> int:
    """Show an error people can meet; returns the exit code."""
    if as_json:
        what, _, todo = str(error).partition("\n  → ")
        problems = error.problems if isinstance(error, UsageError) else [Problem(what, todo=todo)]
        say_json({"error": type(error).__name__, "problems": as_rows(problems), "exit_code": error.exit_code})
    elif isinstance(error, UsageError):
        note_problems(error.problems)
    else:
        first, *rest = str(error).split("\n")
        note(f"dispatcher: {first}", name="red")
        for line in rest:
            note(line)
    return error.exit_code


def as_rows(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems for JSON, each with its place as text."""
    return [{"what": p.what, "where": str(p.where), "todo": p.todo} for p in problems]


def say_of_unknown(flag: str) -> None:
    """What to do about letters that may have arrived or not."""
    say(f"Unknown letters wait for your word: dispatcher log --state unknown{flag}")
    say(f"then dispatcher resolve KEY{flag} --as … --why …, or in the browser: dispatcher review{flag}")


def counts_line(counts: Mapping[str, int]) -> str:
    """Counts in one line, those that are zero left out."""
    parts = [f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if n and name != "letters"]
    return f"{many(counts.get('letters', 0), 'letter')}: " + (", ".join(parts) or "none")
