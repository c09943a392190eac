"""The report behind each letter: pages of other PDF files put between those of the letters."""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dispatcher.core.errors import Place, Problem, TemplateError
from dispatcher.paper.printing import PaperLetter

if TYPE_CHECKING:
    from pypdf import PdfReader, PdfWriter

_CLAIM: Final = re.compile(rb"<pdfaid:(part|conformance)>[^<]*</pdfaid:\1>\s*")


def with_reports(pdf: bytes, letters: Sequence[PaperLetter], *, two_sided: bool = False) -> bytes:
    """The pages of `pdf` (see `letters.typeset`), each letter's followed by those of its files.

    With `two_sided` each file begins on an odd page, and what follows it too.
    A file that is behind many letters is held once. The claim to be PDF/A is taken out. Raises TemplateError.
    """
    from pypdf import PdfReader, PdfWriter  # noqa: PLC0415 (only who prints reports waits for it)

    base = PdfReader(io.BytesIO(pdf))
    starts = [base.get_destination_page_number(mark) for mark in base.outline if not isinstance(mark, list)]
    if len(starts) != len(letters):
        what = "the page has headings of level 1, which are taken for letters: no report can be put behind one"
        raise TemplateError(Problem(what, todo="write them in the house's letter.typ with level: 2, or as text"))
    ends = [*(start or 0 for start in starts[1:]), len(base.pages)]
    writer = PdfWriter(clone_from=base)
    readers: dict[bytes, PdfReader] = {}
    for letter, end in reversed(list(zip(letters, ends, strict=True))):
        for octets in letter.behind:
            if octets not in readers:
                readers[octets] = _opened(octets, letter.key)
        try:
            for octets in reversed(letter.behind):
                _insert(writer, readers[octets], end, two_sided=two_sided)
            if two_sided and letter.behind and end % 2:  # the last letter: all others end on an even page
                writer.insert_blank_page(index=end)
        except Exception as error:  # noqa: BLE001 (a damaged file makes pypdf raise nearly anything)
            raise _unusable(f"cannot be read: {error}", letter.key) from None
    _claim_nothing(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def _opened(octets: bytes, key: str) -> "PdfReader":
    from pypdf import PdfReader  # noqa: PLC0415
    from pypdf.errors import PyPdfError  # noqa: PLC0415

    try:
        reader = PdfReader(io.BytesIO(octets))
        wrong = "is encrypted" if reader.is_encrypted else "has no page" if not reader.pages else ""
    except (PyPdfError, ValueError, KeyError, TypeError, RecursionError) as error:
        wrong = f"cannot be read: {error}"
    if wrong:
        raise _unusable(wrong, key)
    return reader


def _unusable(wrong: str, key: str) -> TemplateError:
    todo = "attach a PDF that opens without a password, or print the letters alone"
    return TemplateError(Problem(f"a file to be put behind the letter {wrong}", Place(recipient=key), todo))


def _insert(writer: "PdfWriter", reader: "PdfReader", at: int, *, two_sided: bool) -> None:
    if two_sided and len(reader.pages) % 2:
        width, height = reader.pages[-1].mediabox.upper_right
        writer.insert_blank_page(width, height, at)
    for number, page in enumerate(reader.pages):
        added = writer.insert_page(page, at + number)
        for name in ("/StructParents", "/Tabs"):  # they lead into a tree that stays behind
            added.pop(name, None)


def _claim_nothing(writer: "PdfWriter") -> None:
    catalogue: Any = writer.root_object
    metadata = catalogue["/Metadata"].get_object()
    metadata.set_data(_CLAIM.sub(b"", metadata.get_data()))
