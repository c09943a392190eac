"""The preview: every letter of a draft as it would leave, to look at before anything is sent.

    index.html              what the plan comes to, the letters to look at first, how to approve, all letters
    letters-NNNN.html       where these are more than one page holds: the letters, a few hundred a page
    eml/NNN-<key>.eml       one file a letter by mail: the octets themselves, with the moment of the preview as Date
    .dispatcher-preview     says that the folder is ours to write anew

A bundle is the same pages for somebody else, without the mail files: one file, or a folder of pages.

The pages load nothing from anywhere. Without scripts they show every letter as text; their one script shows letters as
mail programs do, finds and turns them. What comes from lists and templates is escaped; a letter's HTML stands in a
sandboxed frame, where nothing runs and nothing is fetched. Everything is readable by its owner alone, for it holds
everybody's address.

A preview appears whole or not at all: it is made in a folder of its own and put in place last. Letters are written a
page at a time, so memory does not grow with them. Problems do not stop it: the letters that could be merged are shown,
and the problems beside them.

Raises UsageError: the folder or file is something else or cannot be written, no letter has the key that was asked for,
there are too many letters for one file, or whatever reading the draft raises.
"""

import base64
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.merge import Merged, OnPaper
from dispatcher.core.model import Recipient, Rendering, Skip, SkipReason
from dispatcher.core.plan import Summary
from dispatcher.core.text import file_stem, printable
from dispatcher.desk.draft import Draft
from dispatcher.web.outliers import Outliers
from dispatcher.web.pages import PAGES, Pages, parts, private

MARKER: Final = ".dispatcher-preview"
MOST_IN_ONE_FILE: Final = 1000
"""Letters. Of more, one file would be too large to send, and slow to open."""
_UNFINISHED: Final = ".unfinished"
_GENERATOR: Final = b'<meta name="generator" content="dispatcher preview">'
_SKIPS_LISTED: Final = 200
_PLACES: Final = 3


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the page to open, how many letters are shown, the problems, how many pages, octets in all.

    `eml` is the folder of the mail files; None in a bundle.
    """

    index: Path
    letters: int
    problems: int
    pages: int
    octets: int
    eml: Path | None = None


RevisionOf = Callable[[str], int]
"""The digest of a plan → the revision it was sealed as, if that is the latest one; else 0."""


def not_sealed(_digest: str) -> int:
    """The revision of any plan where there is no ledger."""
    return 0


def safe_name(number: int, key: str) -> str:
    """The file name of a letter, by its number in the plan."""
    return f"{file_stem(number, key)}.eml"


def write_preview(
    out: Path, draft: Draft, *, when: datetime, only_key: str | None = None, revision_of: RevisionOf = not_sealed
) -> Written:
    """Write the preview of a draft into the folder `out`, dated `when` (aware). `only_key` shows one letter alone.

    A folder that an earlier preview wrote is written anew; files in it that are not of a preview stay. Any other folder
    must be empty or not there yet.
    """
    with _in_words(out, "--out"):
        return _write_folder(out, _Sight(draft, when, only_key, revision_of), mail_files=True)


def write_bundle(
    out: Path, draft: Draft, *, when: datetime, only_key: str | None = None, revision_of: RevisionOf = not_sealed
) -> Written:
    """Write the pages alone: into one file if `out` ends in .html, else into a folder, as `write_preview` does.

    A file that is there already must be a preview's page.
    """
    sight = _Sight(draft, when, only_key, revision_of)
    with _in_words(out, "--bundle"):
        return _write_file(out, sight) if is_one_file(out) else _write_folder(out, sight, mail_files=False)


def is_one_file(bundle: Path) -> bool:
    """Whether a bundle with this name is one file."""
    return bundle.suffix.lower() in (".html", ".htm")


@contextmanager
def _in_words(out: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot write the preview: {error.strerror or error}"
        raise UsageError(
            Problem(what, Place(str(error.filename or out)), f"give another place with {option}")
        ) from None


def _write_folder(out: Path, sight: "_Sight", *, mail_files: bool) -> Written:
    _claim(out)
    unfinished = out / _UNFINISHED
    with _fresh(unfinished):
        if mail_files:
            (unfinished / "eml").mkdir(mode=0o700)
        written = sight.write(unfinished, mail_files=mail_files)
        _put_in_place(unfinished, out)
    eml = out / "eml" if mail_files else None
    return replace(written, index=out / "index.html", eml=eml)


def _write_file(out: Path, sight: "_Sight") -> Written:
    if out.exists() and not _is_page(out):
        todo = "name a file that is not there yet; nothing in this one was changed"
        raise UsageError(Problem("is something else than a preview", Place(str(out)), todo))
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}{_UNFINISHED}")
    with _fresh(unfinished):
        written = sight.write(unfinished, most=MOST_IN_ONE_FILE)
        written.index.replace(out)
    return replace(written, index=out)


@contextmanager
def _fresh(folder: Path) -> Iterator[None]:
    """An empty folder, for as long as something is made in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _GENERATOR in file.read(4096)


def _claim(out: Path) -> None:
    """Make the folder, or see that it is ours. Touches nothing of anybody else's."""
    marker = out / MARKER
    if out.exists() and not out.is_dir():
        raise UsageError(Problem("is a file, not a folder", Place(str(out)), "give a folder that is not there yet"))
    if out.is_dir() and any(out.iterdir()) and not marker.is_file():
        todo = "give a folder that is empty or not there yet; nothing in this one was changed"
        raise UsageError(Problem("the folder holds something else than a preview", Place(str(out)), todo))
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = "The next preview writes index.html, letters-*.html and eml/ in this folder anew.\n"
    marker.write_text(text, encoding="utf-8")


def _put_in_place(unfinished: Path, out: Path) -> None:
    """Take the old preview away and put the new one there; the first page goes first and comes last."""
    (out / "index.html").unlink(missing_ok=True)
    for page in out.glob(PAGES):
        page.unlink()
    if (out / "eml").exists():
        shutil.rmtree(out / "eml")
    for made in unfinished.iterdir():
        if made.name != "index.html":
            made.rename(out / made.name)
    (unfinished / "index.html").replace(out / "index.html")


class _Sight:
    """A draft as it is seen at a moment; of all its letters, or of one."""

    def __init__(self, draft: Draft, when: datetime, only_key: str | None, revision_of: RevisionOf) -> None:
        self._draft = draft
        self._when = when
        self._revision_of = revision_of
        self._wanted = None if only_key is None else unicodedata.normalize("NFC", only_key)
        template = draft.frozen.template
        texts = [file.text for file in (*template.letters.values(), *template.forms.values())]
        self._outliers = Outliers(frozenset(word for text in texts for word in re.findall(r"\w+", text)))
        self._logo = _logo(draft)

    def write(self, folder: Path, *, mail_files: bool = False, most: int | None = None) -> Written:
        """Write the pages into an empty folder, mail files beside them; a single page if it may hold `most` letters."""
        eml = folder / "eml" if mail_files else None
        common = {"campaign": self._draft.campaign, "when": _in_full(self._when), "logo": self._logo}
        pages = Pages(folder, common, single=most is not None)
        summary, count = self._draft.blank_summary(), 0
        for item in self._draft.items():
            summary.add(item)
            if isinstance(item, Merged | OnPaper):
                rendering = self._rendering(item)
                octets = item.message.size if isinstance(item, Merged) else 0
                self._outliers.see(summary.letters, item.letter, rendering, octets)
                if self._wanted in (None, item.letter.key):
                    self._add(pages, summary.letters, item, rendering, eml)
                    count += 1
                    if most is not None and count > most:
                        raise _too_many(most)
        if self._wanted is not None and not count:
            raise _no_such_letter(self._wanted, self._draft, summary)
        index = pages.finish(self._first(summary, count))
        octets = sum(path.stat().st_size for path in (index, *folder.glob(PAGES)))
        return Written(index, count, len(summary.problems), len(pages.extents) or 1, octets)

    def _rendering(self, item: Merged | OnPaper) -> Rendering:
        """A letter as people read it: on paper it says the same as by mail."""
        if isinstance(item, Merged):
            return item.rendering
        names = tuple(a.name for a in item.letter.attachments)
        return self._draft.merge.renderer.render(item.letter.recipient, names)

    def _add(self, pages: Pages, number: int, item: Merged | OnPaper, rendering: Rendering, eml: Path | None) -> None:
        """Put a letter on its page, and write its octets."""
        recipient, place = item.letter.recipient, pages.place()
        key = recipient.key
        found_by = " ".join([*_names(recipient), *(m.address for m in recipient.mailboxes)])
        if isinstance(item, OnPaper):
            pages.add(number, key, str(parts().on_paper(number, item, rendering)), found_by=found_by)
            return
        message = self._draft.merge.with_date(item, self._when)
        name = safe_name(number, key) if eml else ""
        if eml:
            with private(eml / name) as file:
                file.write(message.octets)
        header = (message.date + message.own.partition(b"\r\n\r\n")[0]).decode().replace("\r\n", "\n")
        entry = str(parts().letter(number, item, self._draft.frozen, name, message.size, header, place))
        html = rendering.html
        if self._draft.frozen.logo:  # which stands once on each page
            html = html.replace(self._draft.frozen.template.logo, "data:,logo")
        pages.add(number, key, entry, html, found_by=found_by)

    def _first(self, summary: Summary, count: int) -> dict[str, Any]:
        """What the first page says. A page with one letter has nothing to compare it with, and no other to point at."""
        digest = self._draft.unsealed.digest()
        return {
            "summary": summary,
            "findings": list(self._outliers.findings()) if self._wanted is None else [],
            "problems": _grouped(summary.problems),
            "digest": digest,
            "revision": self._revision_of(digest),
            "skips": _by_reason(self._draft.unsealed.skips()),
            "only": self._wanted,
            "count": count,
        }


def _names(recipient: Recipient) -> Iterator[str]:
    """What a recipient is called, each name once."""
    names = [recipient.fields.get("name", ""), *(mailbox.name for mailbox in recipient.mailboxes)]
    return (printable(name) for name in dict.fromkeys(names) if name)


def _in_full(when: datetime) -> str:
    return f"{when.day} {when:%B %Y, %H:%M %Z}"


def _logo(draft: Draft) -> str:
    """The letters' logo as a URL that holds it, '' without one."""
    logo = draft.frozen.logo
    if logo is None:
        return ""
    return f"data:{logo.media_type};base64,{base64.b64encode(draft.content(logo.digest)).decode()}"


def _too_many(most: int) -> UsageError:
    what = f"there are more letters than {most:,}, too many for one file"
    return UsageError(Problem(what, todo="name a folder instead: dispatcher preview --bundle bundle/"))


def _grouped(problems: Sequence[Problem]) -> list[tuple[str, str, int, list[str]]]:
    """Problems by what is wrong: what, what to do, how many, and the first three places. Commonest first."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.what, []).append(problem)
    rows = [(what, p[0].todo, len(p), [str(one.where) for one in p[:_PLACES]]) for what, p in groups.items()]
    return sorted(rows, key=lambda row: -row[2])


def _by_reason(skips: Iterable[Skip]) -> dict[SkipReason, list[Skip]]:
    """Skips by reason, the first 200 of each."""
    reasons: dict[SkipReason, list[Skip]] = {}
    for skip in skips:
        listed = reasons.setdefault(skip.reason, [])
        if len(listed) < _SKIPS_LISTED:
            listed.append(skip)
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
