"""Letters to print, in several scripts, and the founding campaign's house."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dispatcher.core.model import LetterParts
from dispatcher.core.render import SourceFile
from dispatcher.paper.letters import typeset
from dispatcher.paper.printing import House, PaperLetter

ROOT = Path(__file__).parent.parent
HOUSE = House(
    SourceFile("templates/house/letter.typ", (ROOT / "templates/house/letter.typ").read_text(encoding="utf-8")),
    title="The harvest report",
)
DATED = datetime(2009, 10, 1, tzinfo=UTC)
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
    body="<p>صاحب السعادة،</p><p>أرسلنا 25 نسخة من KMS أمس.</p><p>وتفضلوا.</p>",
    enclosures="",
    footer="للمراسلة answers@orchard.example.org",
    page="صفحة {page} من {pages}",
)
KHMER_WORDS = "មនុស្ស ទាំងអស់ កើត មក មាន សេរីភាព និង សមភាព ក្នុង ផ្នែក សេចក្តី ថ្លៃ ថ្នូរ និង សិទ្ធិ"
KHMER = replace(
    PARTS,
    language="km",
    address=("លោកតំណាងអចិន្ត្រៃយ៍",),
    subject="កម្មវត្ថុ៖ របាយការណ៍",
    body=f"<p>{KHMER_WORDS.replace(' ', '') * 5}</p><p>សូមអរគុណ។</p>",
    enclosures="",
    page="ទំព័រ {page} នៃ {pages}",
)


def letters(*parts: LetterParts) -> list[PaperLetter]:
    return [PaperLetter(f"K{number}", one) for number, one in enumerate(parts)]


def printed(*parts: LetterParts, house: House = HOUSE) -> bytes:
    return typeset(letters(*parts), house, timestamp=DATED)
