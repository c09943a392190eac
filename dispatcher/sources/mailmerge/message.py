"""mailmerge's template file: header lines, an empty line, and the text, all with Jinja in it.

The tool fills the file first and reads it as a message then (RFC 5322 §2.1); here it is read as it stands. Raises
UsageError with file and line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.message import Message as Parameters
from pathlib import Path
from typing import Final

from dispatcher.core.errors import Place, Problem, UsageError

_FIELD: Final = re.compile(r"([!-9;-~]+):[ \t]*(.*)")
REQUIRED: Final = ("to", "subject", "from")


@dataclass(frozen=True, slots=True)
class Header:
    """One header line: its name as it was written, what it says (folded lines joined), and its line."""

    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Template:
    """A template file, read. `kind` is the media type of `body`, which begins at `body_line`.

    `dropped` says what stood beside the body in a message of several parts.
    """

    file: str
    headers: Sequence[Header]
    kind: str
    body: str
    body_line: int
    dropped: Sequence[str] = ()

    def all(self, name: str) -> Sequence[Header]:
        """The header lines of a name, in order."""
        return [header for header in self.headers if header.name.lower() == name]

    def one(self, name: str) -> Header | None:
        """The one header line of a name. Raises UsageError if there are several."""
        found = self.all(name)
        if len(found) > 1:
            what = f"{found[1].name} stands twice, first in line {found[0].line}"
            raise UsageError(Problem(what, Place(self.file, found[1].line), "leave one of them"))
        return found[0] if found else None


def read_template(path: Path) -> Template:
    """Read a template file. Raises UsageError: no such file, not UTF-8, no header lines, one of them missing."""
    shown = str(path)
    text = read_text(path)
    headers, body, line = _split(text.split("\n"), shown, 1)
    found = Template(shown, headers, "text/plain", body, line)
    missing = [name.upper() for name in REQUIRED if not found.all(name)]
    if missing:
        todo = "mailmerge's template begins with TO:, SUBJECT: and FROM:, then an empty line"
        raise UsageError(*(Problem(f"there is no line {name}:", Place(shown, 1), todo) for name in missing))
    for name in REQUIRED:
        if (header := found.one(name)) and not header.value:
            todo = "write what it is to be; mailmerge does not send without it"
            raise UsageError(Problem(f"there is nothing behind {header.name}:", Place(shown, header.line), todo))
    given = _content_type(found)
    if given.get_content_maintype() == "multipart":
        return _of_parts(found, str(given.get_param("boundary") or ""))
    return replace(found, kind=given.get_content_type())


def read_text(path: Path) -> str:
    """A text file of mailmerge's, lines ending in LF. Raises UsageError if it cannot be read or is not UTF-8."""
    try:
        octets = path.read_bytes()
        return octets.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise UsageError(Problem("not UTF-8 text", Place(str(path), line), "save it as UTF-8")) from None
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise UsageError(Problem(what, Place(str(path)), "check the name and the folder")) from None


def _split(lines: Sequence[str], file: str, first: int) -> tuple[list[Header], str, int]:
    """Header lines, what stands behind the empty line, and the line where that begins."""
    headers: list[Header] = []
    for number, line in enumerate(lines):
        if not line.strip():
            return headers, "\n".join(lines[number + 1 :]), first + number + 1
        if line[0] in " \t" and headers:
            headers[-1] = replace(headers[-1], value=f"{headers[-1].value} {line.strip()}")
        elif found := _FIELD.fullmatch(line):
            headers.append(Header(found[1], found[2].strip(), first + number))
        else:
            todo = "the lines above the first empty one are NAME: value; put an empty line before the text"
            raise UsageError(Problem("this is no header line", Place(file, first + number), todo))
    return headers, "", first + len(lines)


def _content_type(template: Template) -> Parameters:
    header = template.one("content-type")
    given = Parameters()
    given["Content-Type"] = header.value if header else "text/plain"
    return given


def _of_parts(whole: Template, boundary: str) -> Template:
    """The part that is carried over, the plainest: typed text, then Markdown, then HTML."""
    lines = whole.body.split("\n")
    at = [n for n, line in enumerate(lines) if boundary and line.rstrip() in (f"--{boundary}", f"--{boundary}--")]
    parts = []
    for start, end in zip(at, [*at[1:], len(lines)], strict=False):
        if lines[start].rstrip() == f"--{boundary}":
            headers, body, line = _split(lines[start + 1 : end], whole.file, whole.body_line + start + 1)
            part = Template(whole.file, headers, "", body, line)
            parts.append(replace(part, kind=_content_type(part).get_content_type()))
    order = ("text/plain", "text/markdown", "text/html")
    chosen = min((p for p in parts if p.kind in order), key=lambda p: order.index(p.kind), default=None)
    if chosen is None:
        what = "a message of several parts, and none of them is text"
        raise UsageError(
            Problem(what, Place(whole.file, whole.body_line), "leave one part, of Content-Type: text/plain")
        )
    dropped = [f"the part of type {p.kind}" for p in parts if p is not chosen]
    return replace(whole, kind=chosen.kind, body=chosen.body, body_line=chosen.body_line, dropped=dropped)
