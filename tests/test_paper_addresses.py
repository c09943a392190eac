"""Labels and envelopes: where the addresses stand on the sheet."""

from dataclasses import replace

import pytest

from dispatcher.core.errors import TemplateError, UsageError
from dispatcher.paper.addresses import ENVELOPES, Sheet, envelopes, labels, sheets
from tests import pages
from tests.letters import ARABIC, DATED, HOUSE, KHMER, LONGEST, PARTS, letters
from tests.pages import Box


def label(sheet: Sheet, number: int) -> Box:
    """Where a label lies on its sheet, from the numbers on the box alone."""
    row, column = divmod(number, sheet.columns)
    left = (210 - sheet.columns * sheet.width - (sheet.columns - 1) * sheet.gap) / 2 + column * (
        sheet.width + sheet.gap
    )
    top = (297 - sheet.rows * sheet.height) / 2 + row * sheet.height
    return Box(left, top, left + sheet.width, top + sheet.height)


@pytest.mark.parametrize("name", sheets())
def test_each_address_stands_on_its_label(name: str) -> None:
    sheet = sheets()[name]
    count = sheet.columns * sheet.rows
    several = [replace(PARTS, address=(f"Number {n} of all", LONGEST, "1200 Geneva")) for n in range(count + 1)]
    pdf = labels(letters(*several), name, HOUSE, timestamp=DATED)
    assert len(pages.texts(pdf)) == 2
    for number in range(count):
        first = pages.place(pdf, f"Number {number} of all")
        assert label(sheet, number).holds(first)
        assert first.left - label(sheet, number).left == pytest.approx(4, abs=0.5), "on all labels at the same place"
        printed = pages.ink(pdf, label(sheet, number))
        assert printed
        assert printed.bottom < label(sheet, number).bottom - 1, "nothing stands over the edge"
    assert label(sheet, 0).holds(pages.place(pdf, f"Number {count} of all", page=1))


def test_labels_are_pdf_a_in_any_script_and_the_same_every_time() -> None:
    several = letters(PARTS, ARABIC, KHMER)
    pdf = labels(several, "avery-l7160", HOUSE, timestamp=DATED)
    assert pdf == labels(several, "AVERY-L7160", HOUSE, timestamp=DATED)
    assert pages.claims_pdf_a(pages.reader(pdf))


@pytest.mark.parametrize(("kind", "size"), [("dl", (220, 110)), ("c5", (229, 162))])
def test_envelope_has_its_size_and_keeps_the_zones_of_the_post_free(kind: str, size: tuple[int, int]) -> None:
    width, height = size
    tall = replace(PARTS, address=("The Permanent Representative", LONGEST, LONGEST, "1200 Geneva", "Switzerland"))
    pdf = envelopes(letters(tall, PARTS), kind, HOUSE, timestamp=DATED)
    reader = pages.reader(pdf)
    assert [[round(float(n) / pages.MM) for n in page.mediabox] for page in reader.pages] == [[0, 0, *size]] * 2
    assert pages.claims_pdf_a(reader)
    address = Box(width / 2, 45, width - 15, height - 15)
    assert address.holds(pages.place(pdf, "The Permanent Representative"))
    assert address.holds(pages.place(pdf, "Switzerland"))
    assert pages.ink(pdf, Box(width - 74, 0, width, 40)) is None, "the stamp"
    assert pages.ink(pdf, Box(0, height - 15, width, height)) is None, "the sorting machine"
    assert Box(10, 5, width / 2, 20).holds(pages.place(pdf, "Orchard Society"))


def test_address_that_does_not_fit_names_recipient_and_room() -> None:
    tall = letters(PARTS, replace(PARTS, address=("A line",) * 20))
    with pytest.raises(TemplateError, match="recipient K1: the address does not fit a label of Avery L7160"):
        labels(tall, "avery-l7160", HOUSE, timestamp=DATED)
    with pytest.raises(TemplateError, match="recipient K1: the address does not fit an envelope DL: 20 lines"):
        envelopes(tall, "dl", HOUSE, timestamp=DATED)


def test_unknown_sheet_or_envelope_says_which_there_are() -> None:
    with pytest.raises(UsageError, match=r"no sheet of labels 'avery-l716'\n.*avery-l7160"):
        labels(letters(PARTS), "avery-l716", HOUSE, timestamp=DATED)
    with pytest.raises(UsageError, match=f"no envelope 'c4'\n.*{', '.join(ENVELOPES)}"):
        envelopes(letters(PARTS), "c4", HOUSE, timestamp=DATED)
