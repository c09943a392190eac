"""What is attached, looked into when the plan is made: PDFs open, and a recipient's own file is that recipient's.

A file is a recipient's own if its path in campaign.toml names a column, and no other recipient gets it. Each is opened
once, by digest. What is kept of each is a path, a digest, and what its recipient is called: some hundred octets.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from dispatcher.core.belonging import Owner, Roll
from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import Place, Problem
from dispatcher.core.filetype import PDF
from dispatcher.core.model import Attachment, Recipient
from dispatcher.core.plan import Summary
from dispatcher.sources.pdf import Pdf, PdfOpener

Watch = Callable[[int, int], None]
"""Is told how many files have been looked into, and of how many."""
_TOLD: Final = 3
_READ: Final = 20
"""So many pages of a recipient's own file are read, if the first one names nobody."""


def nobody(done: int, total: int) -> None:
    """Watch without looking."""


@dataclass(frozen=True, slots=True)
class _File:
    number: int
    path: str
    digest: str
    size: int
    kind: str
    owner: Owner | None

    @property
    def key(self) -> str:
        return self.owner.key if self.owner else ""


@dataclass(slots=True)
class Attached:
    """The files of one plan. `doubts` are those that the campaign sends all the same, in words."""

    campaign: Campaign
    root: Path
    place: Callable[..., Place]
    doubts: list[str] = field(default_factory=list)
    _files: list[_File] = field(default_factory=list)
    _pages: dict[str, int] = field(default_factory=dict)

    def note(self, number: int, attachment: Attachment, recipient: Recipient) -> None:
        """A file of the plan, and whom it was first found for; common ones come once."""
        owner = _owner(recipient) if number in self.campaign.letter.personal else None
        one = attachment
        self._files.append(_File(number, one.path, one.digest, one.size, one.media_type, owner))

    def problems(self, watch: Watch) -> Iterator[Problem]:
        """Look into all of them, once the plan is made."""
        uses = Counter((file.number, file.path) for file in self._files)
        roll, first = Roll(), dict[tuple[int, str], _File]()
        for file in self._files:
            if file.owner:
                roll.add(file.owner)
        with PdfOpener() as opener:
            for done, file in enumerate(self._files):
                watch(done, len(self._files))
                own = file.owner if uses[file.number, file.path] == 1 else None
                fault, doubt = "", ""
                if own:
                    fault, doubt = self._own(opener, file, own, roll)
                    earlier = first.setdefault((file.number, file.digest), file)
                    if earlier is not file:
                        doubt = f"it is the same file as {earlier.path}, which is recipient {earlier.key}'s"
                elif file.digest not in self._pages:
                    fault = self._opened(opener, file).fault
                if fault:
                    yield self._closed(file, fault)
                elif doubt:
                    yield from self._doubt(file, doubt)
        watch(len(self._files), len(self._files))

    def _opened(self, opener: PdfOpener, file: _File, text_of: int = 0) -> Pdf:
        """A file as it opens, if it is a PDF."""
        if file.kind != PDF:
            return Pdf()
        pdf = opener.open(self.root / file.path, text_of=text_of)
        self._pages[file.digest] = pdf.pages
        return pdf

    def _own(self, opener: PdfOpener, file: _File, owner: Owner, roll: Roll) -> tuple[str, str]:
        """Why a recipient's own file does not open, and why it may be another's. Further pages only if need be."""
        pdf = self._opened(opener, file, 1)
        if pdf.pages > 1 and not roll.names_somebody(owner, pdf.text):
            pdf = self._opened(opener, file, _READ)
        return pdf.fault, roll.doubt(owner, file.path, pdf.text)

    def _closed(self, file: _File, fault: str) -> Problem:
        what, todo = f"{file.path} does not open: {fault}", "make the PDF anew, and open it once yourself"
        if fault == "encrypted":
            what, todo = f"{file.path} is encrypted", "save it without a password: nobody could open it"
        return Problem(what, self._where(file), todo)

    def _doubt(self, file: _File, doubt: str) -> Iterator[Problem]:
        if self.campaign.on_mismatch == "send":
            self.doubts.append(f"{file.path} may not be for {file.key}: {doubt}")
            return
        todo = 'put the right file there; if it is right, decide for all in campaign.toml: on_mismatch = "send"'
        yield Problem(f"{file.path} may not be for {file.key}: {doubt}", self._where(file), todo)

    def _where(self, file: _File) -> Place:
        place = self.place("letter", "attachments", file.number)
        return Place(place.file, place.line, place.column, file.key)

    def rows(self, summary: Summary) -> Iterator[dict[str, Any]]:
        """What goes with the letters: each common file, and for the recipients' own one row a path of campaign.toml.

        `size` and `pages` are the largest one's; `pages` is None where there is no PDF.
        """
        pages = {(file.path): self._pages[file.digest] for file in self._files if file.digest in self._pages}
        for (path, name, size), letters in summary.attachments.items():
            row = {"files": 1, "size": size, "total": size, "pages": pages.get(path)}
            yield {"name": name, "path": path, "letters": letters, **row}
        for number, letters in sorted(summary.own.items()):
            files = {file.path: file for file in self._files if file.number == number}.values()
            sizes = [file.size for file in files]
            known = [self._pages[file.digest] for file in files if file.digest in self._pages]
            row = {"files": len(files), "size": max(sizes), "total": sum(sizes), "pages": max(known, default=None)}
            yield {"name": "", "path": self.campaign.letter.attachments[number], "letters": letters, **row}

    def notes(self) -> Iterator[str]:
        """The first doubts, for people."""
        yield from islice(self.doubts, _TOLD)
        if len(self.doubts) > _TOLD:
            yield f"{len(self.doubts) - _TOLD:,} more recipients' own files are in doubt"


def _owner(recipient: Recipient) -> Owner:
    fields = recipient.fields
    others = (text for column, text in fields.items() if column.startswith("name_") and text)
    return Owner(recipient.key, fields.get("name", ""), tuple(dict.fromkeys(others)))
