"""Looks at printed pages as they are: text with its place on the sheet, and ink. Millimetres from its top left."""

import ctypes
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pypdf
import pypdfium2
from pypdfium2 import raw

from dispatcher.paper.blocks import BREAK

MM = 72 / 25.4


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, other: "Box") -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right
            and other.bottom <= self.bottom
        )


@contextmanager
def opened(pdf: bytes) -> Iterator[pypdfium2.PdfDocument]:
    document = pypdfium2.PdfDocument(pdf)
    try:
        yield document
    finally:
        document.close()


def texts(pdf: bytes) -> list[str]:
    """The text of each page, as one line; what is invisible is left out."""
    with opened(pdf) as document:
        found = [page.get_textpage().get_text_range() for page in document]
    return [" ".join(text.replace(BREAK, "").replace("\ufffe", "").split()) for text in found]


def place(pdf: bytes, text: str, page: int = 0, *, near: str = "") -> Box:
    """Where a text stands first on a page; with `near`, first in that text or behind it."""
    with opened(pdf) as document:
        sheet = document[page]
        words = sheet.get_textpage()
        start = words.search(near, match_case=True).get_next() if near else (0, 0)
        assert start, f"{near!r} is not on page {page + 1}"
        found = words.search(text, index=start[0], match_case=True).get_next()
        assert found, f"{text!r} is not on page {page + 1}"
        boxes = [words.get_charbox(found[0] + n) for n in range(found[1])]
        height = sheet.get_height()
    left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
    bottom, top = min(box[1] for box in boxes), max(box[3] for box in boxes)
    return Box(left / MM, (height - top) / MM, right / MM, (height - bottom) / MM)


def ink(pdf: bytes, area: Box, page: int = 0) -> Box | None:
    """What is printed inside an area, as the box around it; None if it is blank. To a quarter of a millimetre."""
    scale = 4 / MM
    with opened(pdf) as document:
        bitmap = document[page].render(scale=scale, grayscale=True)
        width, height, stride, octets = bitmap.width, bitmap.height, bitmap.stride, bytes(bitmap.buffer)
    rows = range(int(area.top * 4), min(height, int(area.bottom * 4)))
    columns = range(int(area.left * 4), min(width, int(area.right * 4)))
    dark = [(x, y) for y in rows for x in columns if octets[y * stride + x] < 160]
    if not dark:
        return None
    xs, ys = [x for x, _ in dark], [y for _, y in dark]
    return Box(min(xs) / 4, min(ys) / 4, (max(xs) + 1) / 4, (max(ys) + 1) / 4)


def gaps(pdf: bytes, area: Box, page: int = 0) -> int:
    """How many blank upright stripes stand between the first and the last ink of an area."""
    found = ink(pdf, area, page)
    assert found
    width = round((found.right - found.left) * 4)
    columns = [
        ink(pdf, Box(found.left + n / 4, found.top, found.left + (n + 1) / 4, found.bottom), page) for n in range(width)
    ]
    return sum(here is None and before is not None for before, here in pairwise(columns))


@dataclass(frozen=True)
class Line:
    """What stands on one base line, from left to right, and where it begins."""

    left: float
    base: float
    text: str


def placed(pdf: bytes, page: int = 0) -> list[Line]:
    """The lines of a page from top to bottom.

    Where several glyphs make one cluster (Khmer), the cluster stands there as often.
    """
    found: dict[int, list[tuple[float, int]]] = {}
    x, y = ctypes.c_double(), ctypes.c_double()
    with opened(pdf) as document:
        height = document[page].get_height()
        words = document[page].get_textpage()
        for index in range(words.count_chars()):
            raw.FPDFText_GetCharOrigin(words, index, x, y)
            if words.get_text_range(index, 1) not in ("\r", "\n", BREAK, "\ufffe"):
                found.setdefault(round(y.value), []).append((x.value, index))
        return [
            Line(min(row)[0] / MM, (height - base) / MM, "".join(words.get_text_range(n, 1) for _, n in sorted(row)))
            for base, row in sorted(found.items(), reverse=True)
        ]


def lines(pdf: bytes, page: int = 0) -> list[str]:
    """The text of the lines of a page from top to bottom."""
    return [line.text for line in placed(pdf, page)]


def reader(pdf: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(pdf))


def fonts(reader: pypdf.PdfReader) -> list[Any]:
    """The font dictionaries of all pages."""
    resources: list[Any] = [page["/Resources"] for page in reader.pages]
    return [font.get_object() for one in resources for font in one["/Font"].values()]


def claims_pdf_a(reader: pypdf.PdfReader) -> bool:
    """Whether the file says of itself that it is PDF/A-2b."""
    catalogue: Any = reader.root_object
    marker = catalogue["/Metadata"].get_data()
    return b"<pdfaid:part>2</pdfaid:part>" in marker and b"<pdfaid:conformance>B</pdfaid:conformance>" in marker
