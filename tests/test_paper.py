"""Letters on paper: what stands on the pages, and where."""

import html
import re
import struct
import unicodedata
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.errors import Place, TemplateError
from dispatcher.core.model import LetterParts
from dispatcher.core.render import Renderer
from dispatcher.desk.draft import Draft
from dispatcher.paper.letters import typeset
from dispatcher.paper.printing import PaperLetter
from tests import pages
from tests.letters import ARABIC, DATED, HOUSE, KHMER, KHMER_WORDS, PARTS, ROOT, letters, printed
from tests.pages import Box
from tests.pdfs import pdf as pdf_of
from tests.test_languages import folder

FIELD = Box(20, 45, 105, 90)
"""For the address, DIN 5008 form B."""
SUBJECT = Box(20, 97, 190, 105)
TEXT = Box(25, 95, 188.5, 275)
"""Where the letter's text may stand on its first page."""
SHEET = Box(0, 0, 210, 297)
CHINESE_FONTS = Path("/usr/share/fonts-droid-fallback/truetype")


def body(fragment: str) -> str:
    return f"<p>Your Excellency,</p>{fragment}<p>Accept our highest consideration.</p>"


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


@pytest.mark.parametrize("lines", range(1, 8))
def test_address_of_so_many_lines_stands_in_the_window(lines: int) -> None:
    pdf = printed(replace(PARTS, address=tuple(f"{number}. line of the address" for number in range(lines))))
    whole = pages.ink(pdf, Box(15, 30, 115, 96))
    assert whole
    assert Box(20, 50, 105, 90).holds(whole), "nothing of it is hidden when the sheet slides, nor anything else seen"


def test_address_of_fifty_lines_names_recipient() -> None:
    tall = replace(PARTS, address=tuple(f"Line {n}" for n in range(50)))
    with pytest.raises(TemplateError) as caught:
        printed(tall, PARTS, tall)
    assert [problem.where.recipient for problem in caught.value.problems] == ["K0", "K2"]
    assert "50 lines" in caught.value.problems[0].what


def test_long_line_of_an_address_is_broken_into_even_ones() -> None:
    title = "Permanent Mission of the Islamic Republic of Afghanistan"
    lines = pages.lines(printed(replace(PARTS, address=("The Permanent Representative", title, "1200 Geneva"))))
    first = next(line for line in lines if line.startswith("Permanent Mission"))
    assert lines[lines.index(first) + 1].strip() == "Republic of Afghanistan"


def test_all_that_is_wrong_is_said_at_once() -> None:
    tall = replace(PARTS, address=("A line",) * 20)
    with pytest.raises(TemplateError) as caught:
        printed(tall, PARTS, replace(PARTS, subject="收成"))
    assert [problem.where.recipient for problem in caught.value.problems] == ["K0", "K2"]


def test_each_letter_counts_its_own_pages() -> None:
    long = replace(PARTS, body=body("<p>Word " + "and word " * 600 + "</p>"))
    numbers = [re.findall(r"Page \d of \d", text) for text in pages.texts(printed(long, PARTS, long))]
    assert numbers == [["Page 1 of 2"], ["Page 2 of 2"], ["Page 1 of 1"], ["Page 1 of 2"], ["Page 2 of 2"]]


@pytest.mark.parametrize("words", range(420, 560, 10))
def test_close_and_signature_stand_on_one_page(words: int) -> None:
    long = replace(PARTS, body=body(f"<p>{'word ' * words}</p><p>We thank you.</p>"))
    last = pages.texts(printed(long))[-1]
    assert "We thank you. Accept our highest consideration. Ada Pomme" in last


def test_letter_of_a_few_lines_too_many_is_set_smaller_and_its_neighbours_are_not() -> None:
    def pages_of(pdf: bytes) -> list[int]:
        marks = pages.reader(pdf)
        starts = [marks.get_destination_page_number(mark) or 0 for mark in marks.outline]  # type: ignore[arg-type]
        return [end - start for start, end in zip(starts, [*starts[1:], len(marks.pages)], strict=True)]

    several = [replace(PARTS, body=body(f"<p>{'some words ' * words}</p>")) for words in range(130, 260, 5)]
    never = replace(HOUSE, source=replace(HOUSE.source, text=HOUSE.source.text.replace("0.95 * full", "full")))
    smaller, full = pages_of(printed(*several)), pages_of(printed(*several, house=never))
    assert full == sorted(full)
    assert smaller == sorted(smaller)
    assert 1 <= full.count(2) - smaller.count(2) <= 6


def test_what_a_body_may_hold() -> None:
    fragment = (
        "<h2>What we ask</h2><ol start='4'><li>to speak;</li><li>to ask.</li></ol>"
        "<ul><li><p>One <em>point</em></p></li></ul>"
        "<blockquote><p>A quotation.</p></blockquote><table><thead><tr><th>State</th><th>Number</th></tr></thead>"
        "<tbody><tr><td>France</td><td style='text-align:right'>12</td></tr></tbody></table><hr>"
        "<p>See <a href='https://www.example.org/a%20b'>our page</a>, <a href='https://example.org'>example.org</a>\n"
        "or <a href='mailto:ada@orchard.example.org'>write</a>,<br>please.</p><pre><code>a = 1\n</code></pre>"
    )
    (text,) = pages.texts(printed(replace(PARTS, body=body(fragment))))
    assert "What we ask 4. to speak; 5. to ask. – One point A quotation. State Number France 12" in text
    links = "See our page (https://www.example.org/a b), example.org or write (ada@orchard.example.org), please. a = 1"
    assert links in text


def test_file_is_pdf_a_with_its_fonts_and_the_same_every_time() -> None:
    pdf = printed(PARTS, ARABIC, KHMER)
    assert pdf == printed(PARTS, ARABIC, KHMER)
    reader = pages.reader(pdf)
    assert pages.claims_pdf_a(reader)
    assert reader.metadata
    assert reader.metadata.creation_date == DATED
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


def test_several_may_print_at_once() -> None:
    alone = printed(PARTS, ARABIC)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: printed(PARTS, ARABIC), range(16))) == {alone}


def test_missing_glyph_names_recipient_and_text() -> None:
    chinese = replace(PARTS, address=("常驻代表", "Geneva"))
    with pytest.raises(TemplateError) as caught:
        printed(PARTS, chinese)
    (problem,) = caught.value.problems
    assert problem.where.recipient == "K1"
    assert "常" in problem.what
    assert "CJK UNIFIED IDEOGRAPH" in problem.what
    assert "in the address: “常驻代表”" in problem.what
    assert 'fonts = "fonts"' in problem.todo


def test_missing_glyph_of_the_house_names_its_file() -> None:
    source = replace(HOUSE.source, text=HOUSE.source.text.replace("1.6mm", "1.6mm) + text[鯨] + v(0mm"))
    with pytest.raises(TemplateError) as caught:
        printed(PARTS, house=replace(HOUSE, source=source))
    (problem,) = caught.value.problems
    assert problem.where.file == "templates/house/letter.typ"
    assert "鯨" in problem.what


@pytest.mark.parametrize(
    ("script", "ranges", "least"),
    [
        ("LATIN", [(0x41, 0x250), (0x1E00, 0x1F00)], 700),
        ("GREEK", [(0x370, 0x400), (0x1F00, 0x2000)], 300),
        ("CYRILLIC", [(0x400, 0x530)], 250),
        ("ARABIC", [(0x620, 0x700)], 130),
        ("KHMER", [(0x1780, 0x17B4)], 50),
    ],
)
def test_fonts_that_come_along_have_every_letter(script: str, ranges: list[tuple[int, int]], least: int) -> None:
    """A glyph that is missing would be an error."""
    found = [chr(code) for start, end in ranges for code in range(start, end)]
    found = [c for c in found if unicodedata.name(c, "").startswith(f"{script} ") and unicodedata.category(c)[0] == "L"]
    assert len(found) > least
    lines = [" ".join(found[at : at + 40]) for at in range(0, len(found), 40)]
    pdf = printed(replace(PARTS, body=body("".join(f"<p>{line}</p>" for line in lines))))
    assert pages.ink(pdf, TEXT)


def test_licence_of_the_fonts_stands_beside_them() -> None:
    """And names each of them."""
    folder = ROOT / "dispatcher" / "paper" / "fonts"
    whose, *text = (folder / "OFL.txt").read_text(encoding="utf-8").splitlines()
    assert "SIL OPEN FONT LICENSE" in text
    shipped = {file.stem.partition("-")[0] for file in folder.glob("*.ttf")}
    assert shipped == set(whose.partition("(")[2].rstrip(")").replace(" ", "").split(","))


@pytest.mark.skipif(not CHINESE_FONTS.is_dir(), reason="no Chinese font: apt-get install fonts-droid-fallback")
def test_chinese_by_fonts_of_the_user() -> None:
    sentence = "人人生而自由，在尊严和权利上一律平等。" * 12
    chinese = replace(PARTS, language="zh", subject="普遍定期审议", body=f"<p>阁下：</p><p>{sentence}</p>")
    pdf = printed(chinese, house=replace(HOUSE, fonts=CHINESE_FONTS))
    (text,) = pages.texts(pdf)
    assert sentence in text.replace(" ", "")
    assert not [line for line in pages.lines(pdf) if line[:1] in "，。"], "no line begins with a stop"
    assert pages.ink(pdf, SUBJECT)
    assert pages.ink(pdf, Box(TEXT.right, 95, 210, 290)) is None


def test_khmer_is_shaped() -> None:
    plain, subscript = (pages.ink(printed(replace(KHMER, subject=text)), SUBJECT) for text in ("ក", "ក្ក"))
    assert plain
    assert subscript
    assert subscript.right - subscript.left < 1.2 * (plain.right - plain.left), "a subscript stands below"
    assert subscript.bottom > plain.bottom + 1


def first_cluster(khmer: str) -> str:
    found = re.match("[ក-ឳ](?:្[ក-ឳ]|[\u17b4-\u17d1])*", khmer)
    assert found, khmer
    return found.group()


def test_khmer_lines_begin_with_a_word() -> None:
    pdf = printed(KHMER)
    lines = [line for line in pages.lines(pdf) if "ស្ស" in line or "ផ្នែ" in line]
    assert len(lines) > 2
    begins = {first_cluster(word) for word in KHMER_WORDS.split()}
    assert {first_cluster(line) for line in lines} <= begins
    assert pages.ink(pdf, Box(TEXT.right, 95, 210, 290)) is None


def test_arabic_runs_from_right_to_left_with_latin_and_digits_inside() -> None:
    pdf = printed(replace(ARABIC, subject="بببب"))
    digits, latin = pages.place(pdf, "25"), pages.place(pdf, "KMS")
    assert digits.left > latin.right, "what is read first stands further right"
    first, second = pages.place(pdf, "K"), pages.place(pdf, "S", near="KMS")
    assert first.right < second.left, "inside, Latin runs from left to right"
    line = pages.ink(pdf, Box(20, digits.top - 2, 200, digits.bottom + 2))
    assert line
    assert line.right == pytest.approx(188, abs=1), "the line begins at the right margin"
    assert pages.gaps(pdf, SUBJECT) == 0, "letters are joined"


@pytest.mark.parametrize(("parts", "opens_to_the_left"), [(ARABIC, True), (PARTS, False)])
def test_brackets_are_mirrored_where_lines_run_from_right_to_left(
    parts: LetterParts, *, opens_to_the_left: bool
) -> None:
    pdf = printed(replace(parts, subject="("))
    bracket = pages.ink(pdf, SUBJECT)
    assert bracket
    right = pages.ink(pdf, replace(bracket, left=bracket.right - 0.25))
    assert right
    round_there = right.bottom - right.top < 0.8 * (bracket.bottom - bracket.top)
    assert round_there == opens_to_the_left


@pytest.mark.parametrize("language", ["ar", "km", "ru", "zh"])
def test_worked_examples_are_printed(language: str, tmp_path: Path) -> None:
    if language == "zh" and not CHINESE_FONTS.is_dir():
        pytest.skip("no Chinese font: apt-get install fonts-droid-fallback")
    draft = Draft(folder(tmp_path / "campaign", language))
    letter = next(draft.letters())
    parts = Renderer(draft.frozen.template).parts(letter.recipient, ())
    pdf = printed(parts, house=replace(HOUSE, fonts=CHINESE_FONTS if language == "zh" else None))
    assert len(pages.texts(pdf)) == 1
    address = pages.ink(pdf, FIELD)
    assert address
    assert Box(20, 50, 105, 90).holds(address)
    assert pages.ink(pdf, Box(TEXT.right + 1.5, 0, 210, 297)) is None


def test_lines_of_an_address_in_latin_keep_their_order_in_arabic() -> None:
    pdf = printed(replace(ARABIC, address=("الممثل الدائم", "7 Sample Street")))
    number, street = pages.place(pdf, "7"), pages.place(pdf, "Sample")
    assert number.right < street.left


def test_mistake_in_the_house_has_file_and_line() -> None:
    lines = HOUSE.source.text.split("\n")
    lines[11] = "#let oops = nonsense"
    broken = replace(HOUSE, source=replace(HOUSE.source, text="\n".join(lines)))
    with pytest.raises(TemplateError) as caught:
        printed(PARTS, house=broken)
    (problem,) = caught.value.problems
    assert problem.where == Place("templates/house/letter.typ", 12)
    assert "nonsense" in problem.what


def test_house_shows_pictures_of_its_folder_and_none_from_outside(tmp_path: Path) -> None:
    root = tmp_path / "campaign"
    root.mkdir()
    square = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="40" height="40"/></svg>'
    for place in (root, tmp_path):
        (place / "logo.svg").write_text(square)
    first = "#let first-page(it) = {"

    def with_logo(path: str) -> bytes:
        text = HOUSE.source.text.replace(first, f'{first} place(top + right, image("{path}", width: 10mm))')
        return printed(PARTS, house=replace(HOUSE, root=root, source=replace(HOUSE.source, text=text)))

    seen = pages.ink(with_logo("/logo.svg"), Box(195, 0, 210, 15))
    assert seen
    assert (seen.left, seen.top) == (200, 0)
    with pytest.raises(TemplateError):
        with_logo("/../logo.svg")


def test_logo_stands_in_place_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(png(40, 20))
    pdf = printed(PARTS, house=replace(HOUSE, root=tmp_path, logo="logo.png"))
    logo = pages.ink(pdf, Box(0, 0, 210, 25))
    assert logo
    assert (logo.left, logo.top, logo.right) == pytest.approx((25, 12, 47), abs=0.3)
    (text,) = pages.texts(pdf)
    assert text.count("Orchard Society") == 1, "in the line above the address alone"
    assert pages.claims_pdf_a(pages.reader(pdf))


def png(width: int, height: int) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(width + 1) * height)) + chunk(b"IEND", b"")


def test_report_behind_each_letter() -> None:
    report = (ROOT / "templates/upr_submission/report.pdf").read_bytes()
    long = replace(PARTS, body=body("<p>Word " + "and word " * 600 + "</p>"))
    several = [PaperLetter("K0", long, (report,)), PaperLetter("K1", PARTS), PaperLetter("K2", PARTS, (report, report))]
    pdf = typeset(several, HOUSE, timestamp=DATED)
    assert pdf == typeset(several, HOUSE, timestamp=DATED)
    whose = [kind(text) for text in pages.texts(pdf)]
    assert whose == ["letter"] * 2 + ["report"] * 5 + ["letter"] * 2 + ["report"] * 10
    reader = pages.reader(pdf)
    starts = [reader.get_destination_page_number(mark) for mark in reader.outline]  # type: ignore[arg-type]
    assert starts == [0, 7, 8]
    assert not pages.claims_pdf_a(reader), "nobody has checked what is behind"
    assert len(pdf) < 3 * len(report), "the report is held once"


def test_on_two_sides_each_letter_and_report_begins_on_a_sheet_of_its_own() -> None:
    report = (ROOT / "templates/upr_submission/report.pdf").read_bytes()
    long = replace(PARTS, body=body("<p>Word " + "and word " * 600 + "</p>"))
    alone = typeset(letters(PARTS, long, PARTS), HOUSE, timestamp=DATED, two_sided=True)
    assert [kind(text) for text in pages.texts(alone)] == ["letter", "", "letter", "letter", "letter"]
    assert pages.ink(alone, SHEET, page=1) is None
    assert pages.claims_pdf_a(pages.reader(alone))
    several = [PaperLetter("K0", PARTS, (report,)), PaperLetter("K1", long), PaperLetter("K2", PARTS, (report,))]
    behind = typeset(several, HOUSE, timestamp=DATED, two_sided=True)
    five = ["report"] * 5
    assert [kind(text) for text in pages.texts(behind)] == [
        *("letter", "", *five, "", "letter", "letter", "letter", "", *five, "")
    ]


def kind(text: str) -> str:
    return "report" if "SPECIMEN" in text else "letter" if "Page" in text else text


def test_a_house_with_headings_of_its_own_puts_no_report_behind_the_wrong_letter() -> None:
    text = HOUSE.source.text.replace("  it.body\n", "  heading(level: 1)[Our house]\n  it.body\n")
    house = replace(HOUSE, source=replace(HOUSE.source, text=text))
    with pytest.raises(TemplateError, match="headings of level 1"):
        typeset([PaperLetter("FRA", PARTS, (pdf_of("Annex"),))], house, timestamp=DATED)


@pytest.mark.parametrize("octets", [b"", b"not a PDF", b"%PDF-1.7\n%%EOF"])
def test_file_behind_a_letter_that_is_no_pdf_names_recipient(octets: bytes) -> None:
    with pytest.raises(TemplateError) as caught:
        typeset([PaperLetter("FRA", PARTS, (octets,))], HOUSE, timestamp=DATED)
    assert caught.value.problems[0].where.recipient == "FRA"


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize(
    ("there", "damaged"),
    [(b"[0 0 595 842]", b"[0 0 595    ]"), (b"/Contents", b"/Contentz"), (b"/Type /Page ", b"/Type /Pagf ")],
)
def test_file_that_opens_and_is_damaged_names_recipient(there: bytes, damaged: bytes, *, two_sided: bool) -> None:
    """pypdf reads a page when it is copied, and raises what it likes; some damage it does not mind."""
    report = pdf_of("Annex", "second")
    assert there in report
    letter = PaperLetter("FRA", PARTS, (report.replace(there, damaged),))
    whose = {"FRA"}
    try:
        typeset([letter], HOUSE, timestamp=DATED, two_sided=two_sided)
    except TemplateError as error:
        whose = {problem.where.recipient for problem in error.problems}
    assert whose == {"FRA"}


HOSTILE = st.text(st.sampled_from("#$@\\*_`<>[]{}\"'~=-+/&;:.,()%^|!? aZé0"), min_size=1, max_size=60)


@settings(max_examples=60)
@given(text=HOSTILE)
def test_whatever_is_written_is_printed_as_it_stands(text: str) -> None:
    shown = " ".join(text.split())
    pdf = printed(
        replace(
            PARTS,
            address=(f"A{shown}Z",),
            subject=f"A{shown}Z",
            signature=(f"A{shown}Z",),
            body=body(f"<p>A {html.escape(text)} Z</p>"),
        )
    )
    found = "".join("".join(pages.texts(pdf)).split())
    assert found.count(f"A{shown}Z".replace(" ", "")) == 4


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8))
def test_any_text_is_printed_or_named_with_its_recipient(text: str) -> None:
    body = f"<p>{html.escape(text)}</p><p>Accept.</p>"
    named = []
    try:
        printed(PARTS, replace(PARTS, body=body, signature=(text,)))
    except TemplateError as error:
        named = [problem.where.recipient for problem in error.problems]
    assert named in ([], ["K1"])


@pytest.mark.parametrize(
    "word", ["w" * 400, "W" * 120, "https://example.org/" + "path/" * 60, "ﷺ" * 40, "e\u0301" * 200]
)
def test_long_word_stays_on_the_sheet(word: str) -> None:
    pdf = printed(replace(PARTS, body=body(f"<p>{word}</p><ul><li>{word}</li></ul>"), subject=word, signature=(word,)))
    for page in range(len(pages.texts(pdf))):
        assert pages.ink(pdf, Box(TEXT.right + 1.5, 0, 210, 297), page) is None
