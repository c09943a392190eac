"""The preview: every letter of a draft as it would leave, in one folder to look at before anything is sent.

    index.html              one page, whole in itself: what the plan comes to, the letters to look at first, all letters
    eml/NNN-<key>.eml       one file a letter by mail: the octets themselves, with the moment of the preview as Date
    .dispatcher-preview     says that the folder is ours to write anew

The page loads nothing from anywhere and works without scripts; its one script finds and turns letters. What comes from
lists and templates is escaped; a letter's HTML stands in a sandboxed frame, where nothing runs and nothing is fetched.
Everything is readable by its owner alone, for it holds everybody's address.

A preview appears whole or not at all: it is made in a folder of its own inside `out`, and the page is put in place
last. Letters are written one at a time, so memory does not grow with their text. Problems do not stop it: the letters
that could be merged are shown, and the problems beside them.

Raises UsageError: the folder holds something else or cannot be written, no letter has the key that was asked for, or
whatever reading the draft raises.
"""

import base64
import hashlib
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from jinja2 import Environment, StrictUndefined

from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.merge import Merged, OnPaper
from dispatcher.core.model import Letter, Rendering, Skip
from dispatcher.core.plan import Summary
from dispatcher.core.text import file_stem, printable
from dispatcher.desk.draft import Draft

MARKER: Final = ".dispatcher-preview"
_UNFINISHED: Final = ".unfinished"
_LISTED: Final = 20
_PLACES: Final = 3
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "RLE", "RLO", "RLI"})


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the page, how many letters it shows, the folder of their octets; and how many problems."""

    index: Path
    letters: int
    eml: Path
    problems: int


@dataclass(frozen=True, slots=True)
class Pointer:
    """A letter to look at, by its number in the plan, and why."""

    number: int
    key: str
    why: str


@dataclass(slots=True)
class Finding:
    """Letters that stand out for one reason: how many, and the first 20 of them."""

    title: str
    count: int = 0
    letters: list[Pointer] = field(default_factory=list)

    def add(self, letter: Pointer) -> None:
        self.count += 1
        if len(self.letters) < _LISTED:
            self.letters.append(letter)


class Outliers:
    """The letters to look at first. `words` are those the templates hold: a column not among them is in no letter."""

    def __init__(self, words: frozenset[str]) -> None:
        self._words = words
        self._longest = self._shortest = self._largest = (0, Pointer(0, "", ""))
        self._language = Finding("Written in another language than the recipient asked for")
        self._script = Finding("Names in another script than Latin, or with characters that do not show")
        self._filled: Counter[tuple[str, str]] = Counter()
        self._empty: dict[tuple[str, str], Finding] = {}

    def see(self, number: int, letter: Letter, rendering: Rendering, octets: int) -> None:
        """Take one letter into account; on paper it has no octets."""
        recipient = letter.recipient
        length = len(rendering.text)
        in_characters = (length, Pointer(number, letter.key, f"{length:,} characters of text"))
        in_octets = (octets, Pointer(number, letter.key, f"{size(octets)} as mail"))
        first = number == 1
        self._longest = in_characters if first else max(self._longest, in_characters, key=_measure)
        self._shortest = in_characters if first else min(self._shortest, in_characters, key=_measure)
        self._largest = max(self._largest, in_octets, key=_measure)
        if recipient.language and recipient.language != letter.language:
            why = f"asked for {recipient.language}, written in {letter.language}"
            self._language.add(Pointer(number, letter.key, why))
        names = [m.name for m in recipient.mailboxes] + [recipient.fields.get("name", "")]
        if why := ", ".join(_script("".join(names))):
            self._script.add(Pointer(number, letter.key, why))
        for column, text in recipient.fields.items():
            if column in self._words:
                self._cell(number, letter.key, (recipient.place.file, column), text)

    def _cell(self, number: int, key: str, where: tuple[str, str], text: str) -> None:
        if text.strip():
            self._filled[where] += 1
        else:
            self._empty.setdefault(where, Finding("")).add(Pointer(number, key, f"{where[1]} is empty"))

    def findings(self) -> Iterator[Finding]:
        """What stands out, if there are letters."""
        if not self._longest[1].number:
            return
        yield Finding("Longest letter", 1, [self._longest[1]])
        yield Finding("Shortest letter", 1, [self._shortest[1]])
        if self._largest[0]:
            yield Finding("Largest message", 1, [self._largest[1]])
        gaps = [gap for where, gap in self._empty.items() if self._filled[where] > gap.count]
        gaps.sort(key=lambda gap: gap.count)
        pointers = [pointer for gap in gaps for pointer in gap.letters][:_LISTED]
        empty = Finding("A field is empty that most others of the list have", sum(g.count for g in gaps), pointers)
        yield from (f for f in (empty, self._language, self._script) if f.count)


def _measure(entry: tuple[int, Pointer]) -> int:
    return entry[0]


def _script(name: str) -> Iterator[str]:
    """What is unusual in a name, in words."""
    if name.isascii() and name.isprintable():
        return
    if any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in name):
        yield "right-to-left"
    elif any(c > "\u024f" and c.isalpha() and not _latin(c) for c in name):
        yield "not Latin"
    if printable(name) != name:
        yield "characters that do not show"


def _latin(letter: str) -> bool:
    name = unicodedata.name(letter, "")
    return "LATIN" in name or name.startswith("MODIFIER LETTER")


def size(octets: int) -> str:
    """A size for people, in decimal units."""
    if octets < 1000:
        return f"{octets} bytes"
    return f"{octets / 1000:,.1f} kB" if octets < 1_000_000 else f"{octets / 1_000_000:,.1f} MB"


def safe_name(number: int, key: str) -> str:
    """The file name of a letter, by its number in the plan."""
    return f"{file_stem(number, key)}.eml"


@cache
def _parts() -> Any:
    """The page's parts, as functions: `script`, `top`, `letter`, `on_paper`, `bottom`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(shown=printable, size=size)
    text = files("dispatcher.web").joinpath("preview.html").read_text(encoding="utf-8")
    return environment.from_string(text).module


def write_preview(out: Path, draft: Draft, *, when: datetime, only_key: str | None = None) -> Written:
    """Write the preview of a draft into the folder `out`, dated `when` (aware). `only_key` shows one letter alone.

    A folder that an earlier preview wrote is written anew; files in it that are not of a preview stay. Any other folder
    must be empty or not there yet.
    """
    try:
        _claim(out)
        unfinished = out / _UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        (unfinished / "eml").mkdir(mode=0o700)
        try:
            letters, problems = _write(unfinished, draft, when, only_key)
            _put_in_place(unfinished, out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        what = f"cannot write the preview: {error.strerror or error}"
        raise UsageError(Problem(what, Place(str(error.filename or out)), "give another folder with --out")) from None
    return Written(out / "index.html", letters, out / "eml", problems)


def _claim(out: Path) -> None:
    """Make the folder, or see that it is ours. Touches nothing of anybody else's."""
    marker = out / MARKER
    if out.exists() and not out.is_dir():
        raise UsageError(Problem("is a file, not a folder", Place(str(out)), "give a folder that is not there yet"))
    if out.is_dir() and any(out.iterdir()) and not marker.is_file():
        todo = "give a folder that is empty or not there yet; nothing in this one was changed"
        raise UsageError(Problem("the folder holds something else than a preview", Place(str(out)), todo))
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker.write_text("The next preview writes index.html and eml/ in this folder anew.\n", encoding="utf-8")


def _put_in_place(unfinished: Path, out: Path) -> None:
    """Take the old preview away and put the new one there; the page goes first and comes last."""
    (out / "index.html").unlink(missing_ok=True)
    if (out / "eml").exists():
        shutil.rmtree(out / "eml")
    (unfinished / "eml").rename(out / "eml")
    (unfinished / "index.html").replace(out / "index.html")


def _private(path: Path) -> IO[bytes]:
    """A new file, open for writing, readable by its owner alone."""
    path.touch(mode=0o600, exist_ok=False)
    return path.open("wb")


def _write(folder: Path, draft: Draft, when: datetime, only_key: str | None) -> tuple[int, int]:
    """Write page and letters into an empty folder; returns how many letters, and how many problems."""
    wanted = None if only_key is None else unicodedata.normalize("NFC", only_key)
    summary, outliers, count = draft.blank_summary(), Outliers(_words(draft)), 0
    bodies = folder / "letters.html"
    with _private(bodies) as file:
        for item in draft.items():
            summary.add(item)
            if isinstance(item, Merged | OnPaper):
                number, rendering, octets = summary.letters, _shown(item, draft), _octets(item)
                outliers.see(number, item.letter, rendering, octets)
                if wanted in (None, item.letter.key):
                    if isinstance(item, Merged):
                        name = safe_name(number, item.letter.key)
                        file.write(_letter(folder / "eml" / name, number, item, draft, when))
                    else:
                        file.write(str(_parts().on_paper(number, item, rendering)).encode())
                    count += 1
    if wanted is not None and not count:
        raise _no_such_letter(wanted, draft, summary)
    with _private(folder / "index.html") as page, bodies.open("rb") as letters:
        # A page with one letter has nothing to compare it with, and no other to point at.
        page.write(_top(draft, summary, list(outliers.findings()) if wanted is None else [], when, wanted, count))
        shutil.copyfileobj(letters, page)
        page.write(str(_parts().bottom(_parts().script())).encode())
    return count, len(summary.problems)


def _words(draft: Draft) -> frozenset[str]:
    template = draft.frozen.template
    texts = [file.text for file in (*template.letters.values(), *template.forms.values())]
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


def _shown(item: Merged | OnPaper, draft: Draft) -> Rendering:
    """A letter as people read it: on paper it says the same as by mail."""
    if isinstance(item, Merged):
        return item.rendering
    return draft.merge.renderer.render(item.letter.recipient, tuple(a.name for a in item.letter.attachments))


def _octets(item: Merged | OnPaper) -> int:
    return item.message.size if isinstance(item, Merged) else 0


def _letter(path: Path, number: int, merged: Merged, draft: Draft, when: datetime) -> bytes:
    """Write a letter's octets; returns its part of the page."""
    message = draft.merge.with_date(merged, when)
    with _private(path) as file:
        file.write(message.octets)
    return str(_parts().letter(number, merged, draft.frozen, path.name, message.size)).encode()


def _top(
    draft: Draft, summary: Summary, findings: Sequence[Finding], when: datetime, wanted: str | None, count: int
) -> bytes:
    script = str(_parts().script()).encode()
    page = {
        "campaign": draft.campaign,
        "summary": summary,
        "findings": findings,
        "problems": _grouped(summary.problems),
        "digest": draft.unsealed.digest(),
        "skips": _by_reason(draft.unsealed.skips()),
        "when": f"{when.day} {when:%B %Y, %H:%M %Z}",
        "only": wanted,
        "count": count,
        "logo": _logo(draft),
        "script_hash": base64.b64encode(hashlib.sha256(script).digest()).decode(),
    }
    return str(_parts().top(page)).encode()


def _logo(draft: Draft) -> str:
    """The letters' logo as a URL that holds it, '' without one."""
    logo = draft.frozen.logo
    if logo is None:
        return ""
    return f"data:{logo.media_type};base64,{base64.b64encode(draft.content(logo.digest)).decode()}"


def _grouped(problems: Sequence[Problem]) -> list[tuple[str, str, int, list[str]]]:
    """Problems by what is wrong: what, what to do, how many, and the first three places. Commonest first."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.what, []).append(problem)
    rows = [(what, p[0].todo, len(p), [str(one.where) for one in p[:_PLACES]]) for what, p in groups.items()]
    return sorted(rows, key=lambda row: -row[2])


def _by_reason(skips: Iterable[Skip]) -> dict[str, list[Skip]]:
    reasons: dict[str, list[Skip]] = {}
    for skip in skips:
        reasons.setdefault(skip.reason.value, []).append(skip)
    return reasons


def _no_such_letter(key: str, draft: Draft, summary: Summary) -> UsageError:
    """Why there is no letter with a key: its row has a problem, was left out, or is not there at all."""
    if problems := [p for p in summary.problems if p.where.recipient == key]:
        return UsageError(*problems)
    for skip in draft.unsealed.skips():
        if skip.key == key:
            what = f"recipient {key} gets no letter ({skip.reason}): {skip.detail}"
            return UsageError(Problem(what, skip.place, "preview another one, or mend the row"))
    near = list(islice((k for k in draft.unsealed.all_keys() if key.casefold() in k.casefold()), 3))
    todo = f"did you mean: {', '.join(near)}?" if near else "preview all letters, and look its key up there"
    return UsageError(Problem(f"there is no letter with key {key}", todo=todo))
