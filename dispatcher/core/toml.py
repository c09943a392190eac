"""Where the keys of a TOML text stand, for errors with a line: `tomllib` gives values without their places.

Takes a text that `tomllib` has accepted (TOML 1.0); of any other it makes what it can, and never raises.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Final

Path = tuple[str | int, ...]
"""The way to a value: names of tables and keys, and positions in arrays from 0."""

_TOKEN: Final = re.compile(
    r'(?P<string>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r"|(?P<skip>#[^\n]*|[ \t\r]+)|(?P<sign>[\[\]{}=,.\n])|(?P<bare>[^\s\[\]{}=,.\"'#]+|.)",
    re.DOTALL,
)
_ERROR_LINE: Final = re.compile(r"at line (\d+)")


def key_lines(text: str) -> dict[Path, int]:
    """The line of every table, key and array element: ("recipients", 1, "source") → line from 1."""
    scan = _Scan(text)
    scan.document()
    return scan.lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of a value, or of the nearest thing that encloses it."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)


def error_line(message: str) -> int | None:
    """The line that tomllib names in an error."""
    found = _ERROR_LINE.search(message)
    return int(found.group(1)) if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest known name, with a blank behind it, or ''."""
    folded = {key.casefold(): key for key in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"did you mean '{folded[near[0]]}'? " if near else ""


class _Scan:
    """One pass over the tokens."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._tokens = list(self._split(text))
        self._at = 0
        self._arrays: dict[Path, int] = {}  # arrays of tables, with the position of their last one

    def _split(self, text: str) -> Iterator[tuple[str, int]]:
        line = 1
        for found in _TOKEN.finditer(text):
            if found.lastgroup != "skip":
                yield found.group(), line
            line += found.group().count("\n")

    def _next(self) -> tuple[str, int]:
        token = self._tokens[self._at] if self._at < len(self._tokens) else ("", 0)
        self._at += 1
        return token

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def document(self) -> None:
        table: Path = ()
        while self._at < len(self._tokens):
            if self._peek() == "\n":
                self._next()
            elif self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        _, line = self._next()
        many = self._peek() == "["
        if many:
            self._next()
        path: Path = ()
        keys = self._keys("]")
        for number, key in enumerate(keys):
            path = (*path, key)
            if many and number == len(keys) - 1:
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                self.lines.setdefault(path, line)
                path = (*path, self._arrays[path])
        if many:
            self._next()
        self.lines[path] = line
        return path

    def _keys(self, end: str) -> list[str]:
        """A dotted key up to and with its end."""
        keys = []
        while (sign := self._next()[0]) not in (end, "", "\n"):
            if sign != ".":
                keys.append(sign[1:-1] if sign[0] in "\"'" else sign)
        return keys

    def _pair(self, table: Path) -> None:
        line = self._tokens[self._at][1]
        path = (*table, *self._keys("="))
        for n in range(len(table) + 1, len(path) + 1):
            self.lines.setdefault(path[:n], line)
        self._value(path)

    def _value(self, path: Path) -> None:
        sign, _ = self._next()
        if sign == "[":
            self._array(path)
        elif sign == "{":
            while self._peek() not in ("}", ""):
                if self._peek() in (",", "\n"):
                    self._next()
                else:
                    self._pair(path)
            self._next()
        else:
            while self._peek() not in (",", "]", "}", "\n", ""):
                self._next()

    def _array(self, path: Path) -> None:
        number = 0
        while self._peek() not in ("]", ""):
            if self._peek() in (",", "\n"):
                self._next()
            else:
                self.lines[(*path, number)] = self._tokens[self._at][1]
                self._value((*path, number))
                number += 1
        self._next()
