"""Letters on paper: what stands on the pages, and where."""

import html
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.errors import Place, TemplateError
from dispatcher.core.model import LetterParts
from dispatcher.core.render import SourceFile
from dispatcher.paper.letters import House, PaperLetter, typeset
from tests import pages
from tests.pages import Box

ROOT = Path(__file__).parent.parent
HOUSE = House(
    SourceFile("templates/house/letter.typ", (ROOT / "templates/house/letter.typ").read_text(encoding="utf-8")),
    title="The harvest report",
)
DATED = datetime(2009, 10, 1, tzinfo=UTC)
FIELD = Box(20, 45, 105, 90)
"""For the address, DIN 5008 form B."""
SHEET = Box(0, 0, 210, 297)
LONGEST = "Permanent Mission of the United Kingdom of Great Britain and Northern Ireland"
PARTS = LetterParts(
    language="en",
    direction="ltr",
    organisation="Orchard Society",
    sender_address=("1 Example Street", "1200 Geneva"),
    date_line="Geneva, 1 October 2009",
    address=("The Permanent Representative", LONGEST, "to the United Nations Office at Geneva"),
    subject="The harvest in the valley",
    body="<p>Your Excellency,</p><p>We send <strong>the report</strong>.</p><p>Accept our highest consideration.</p>",
    signature=("Ada Pomme", "Secretary"),
    enclosures="Enclosure: report.pdf",
    footer="Write to answers@orchard.example.org to be taken off our list.",
    page="Page {page} of {pages}",
)
ARABIC = replace(
    PARTS,
    language="ar",
    direction="rtl",
    date_line="جنيف، 1 تشرين الأول/أكتوبر 2009",
    address=("الممثل الدائم", "البعثة الدائمة لجمهورية مصر العربية"),
    subject="الحصاد في الوادي",
    body="<p>صاحب السعادة،</p><p>أرسلنا 25 نسخة من KMS أمس.</p>",
    enclosures="",
    footer="للمراسلة answers@orchard.example.org",
    page="صفحة {page} من {pages}",
)
KHMER = replace(
    PARTS,
    language="km",
    address=("លោកតំណាងអចិន្ត្រៃយ៍",),
    subject="កម្មវត្ថុ៖ របាយការណ៍",
    body="<p>" + "មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងសមភាពក្នុងផ្នែកសេចក្តីថ្លៃថ្នូរនិងសិទ្ធិ" * 4 + "</p>",
    enclosures="",
    page="ទំព័រ {page} នៃ {pages}",
)


def printed(*parts: LetterParts, house: House = HOUSE) -> bytes:
    letters = [PaperLetter(f"K{number}", one) for number, one in enumerate(parts)]
    return typeset(letters, house, timestamp=DATED)


def test_all_parts_are_on_the_page_once() -> None:
    (text,) = pages.texts(printed(PARTS))
    for part in (PARTS.subject, PARTS.date_line, "We send the report.", "Ada Pomme Secretary", PARTS.enclosures):
        assert text.count(part) == 1, part
    assert "Page 1 of 1" in text
    assert PARTS.footer in text


def test_address_stands_in_the_window() -> None:
    pdf = printed(PARTS)
    for line in (
        "The Permanent Representative",
        "Permanent Mission",
        "Northern Ireland",
        "to the United Nations Office",
    ):
        assert FIELD.holds(pages.place(pdf, line)), line
    beside = pages.place(pdf, PARTS.date_line)
    assert beside.left > 110, "the date is not seen through the window"
    assert pages.place(pdf, PARTS.subject).top > 95


def test_each_letter_counts_its_own_pages() -> None:
    long = replace(PARTS, body=PARTS.body.replace("<p>We", "<p>Word " + "and word " * 600 + "</p><p>We"))
    numbers = [text[text.index("Page") :] for text in pages.texts(printed(long, PARTS, long))]
    assert numbers == ["Page 1 of 2", "Page 2 of 2", "Page 1 of 1", "Page 1 of 2", "Page 2 of 2"]


def test_file_is_pdf_a_with_its_fonts_and_the_same_every_time() -> None:
    pdf = printed(PARTS, ARABIC, KHMER)
    assert pdf == printed(PARTS, ARABIC, KHMER)
    reader = pages.reader(pdf)
    marker = reader.root_object["/Metadata"].get_data().decode()  # type: ignore[attr-defined]
    assert "<pdfaid:part>2</pdfaid:part>" in marker
    assert "<pdfaid:conformance>B</pdfaid:conformance>" in marker
    fonts = pages.fonts(reader)
    assert {str(font["/BaseFont"]).partition("+")[2].partition("-")[0] for font in fonts} == {
        "NotoSerif",
        "NotoNaskhArabic",
        "NotoSerifKhmer",
    }
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"]
        assert any(name in descriptor for name in ("/FontFile2", "/FontFile3"))
    assert [mark["/Title"] for mark in reader.outline] == [  # type: ignore[call-overload]
        "K0: The Permanent Representative",
        "K1: الممثل الدائم",
        "K2: លោកតំណាងអចិន្ត្រៃយ៍",
    ]


def test_missing_glyph_names_recipient_and_text() -> None:
    chinese = replace(PARTS, address=("常驻代表", "Geneva"))
    with pytest.raises(TemplateError) as caught:
        printed(PARTS, chinese)
    (problem,) = caught.value.problems
    assert problem.where.recipient == "K1"
    assert "常" in problem.what
    assert "CJK UNIFIED IDEOGRAPH" in problem.what
    assert "in the address" in problem.what
    assert 'fonts = "fonts"' in problem.todo


def test_address_of_fifty_lines_names_recipient() -> None:
    tall = replace(PARTS, address=tuple(f"Line {n}" for n in range(50)))
    with pytest.raises(TemplateError) as caught:
        printed(tall, PARTS, tall)
    assert [problem.where.recipient for problem in caught.value.problems] == ["K0", "K2"]
    assert "50 lines" in caught.value.problems[0].what


def test_mistake_in_the_house_has_file_and_line() -> None:
    lines = HOUSE.source.text.split("\n")
    lines[11] = "#let oops = nonsense"
    broken = replace(HOUSE, source=replace(HOUSE.source, text="\n".join(lines)))
    with pytest.raises(TemplateError) as caught:
        printed(PARTS, house=broken)
    (problem,) = caught.value.problems
    assert problem.where == Place("templates/house/letter.typ", 12)
    assert "nonsense" in problem.what


HOSTILE = st.text(st.sampled_from("#$@\\*_`<>[]{}\"'~=-+/&;:.,()%^|!? aZé0"), min_size=1, max_size=60)


@settings(max_examples=60)
@given(text=HOSTILE)
def test_whatever_is_written_is_printed_as_it_stands(text: str) -> None:
    shown = " ".join(text.split())
    body = f"<p>A {html.escape(text)} Z</p><p>Accept.</p>"
    pdf = printed(replace(PARTS, address=(f"A{shown}Z",), subject=f"A{shown}Z", body=body))
    found = "".join("".join(pages.texts(pdf)).split())
    assert found.count(f"A{shown}Z".replace(" ", "")) >= 3
