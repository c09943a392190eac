"""Three independent readers of mail agree on what a letter is: structure, names, subject, people, text and files.

What they are held against is what was given to the composer, so that they cannot agree on something else.
"""

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.compose import Composer, dated
from dispatcher.core.headers import FORBIDDEN, clean_file_name
from dispatcher.core.model import Attachment, Mailbox, Recipient, Rendering
from tests.command import FEW
from tests.naughty import NAUGHTY
from tests.readers import File, Reading, by_mail_parser, by_node, by_standard_library
from tests.test_compose import BODY_TEXT, HEADER_TEXT, HEADERS, WHEN
from tests.test_golden import GOLDEN, LANGUAGES, REPORTS

PDF = b"%PDF-1.7 a short one\n"
NAMES = (
    "report.pdf",
    "Résumé été – l’annexe.pdf",
    "របាយការណ៍ស្តីពីស្ថានភាពសិទ្ធិមនុស្សនៅកម្ពុជា ២០០៩.pdf",
    "تقرير عن كمبوديا 2009.pdf",
    "柬埔寨人权报告.pdf",
    "Доклад о положении в Камбодже, шестая сессия рабочей группы.pdf",
    'semi;colon, comma (and) "quotes".pdf',
    "=?utf-8?q?x?=.pdf",
    "percent%41 apostrophe's.pdf",
    "😀 " * 20 + ".pdf",
    "ÆØÅ æøå ß ł.pdf",
)
SIMPLE_TEXT = BODY_TEXT.map(lambda text: text.rstrip("\n"))
TEXTS = ("Dear Excellency,\n\nhello.", "Excellence,\n\nl’été à Genève.\n.\n..\n-- \nFrom here", "ឯកឧត្តម៖\n" * 9 + "x")


def letter(subject: str, name: str, text: str = "hello", *names: str) -> tuple[bytes, Reading]:
    """A message of these, and what every reader must make of it."""
    attachments = tuple(
        Attachment(clean_file_name(one), "application/pdf", hashlib.sha256(PDF).hexdigest(), len(PDF)) for one in names
    )
    recipient = Recipient("FRA", (Mailbox("fra@missions.example.org", name),))
    rendering = Rendering(subject, text, f"<p>{text}</p>", "en")
    message = Composer(HEADERS).compose(recipient, rendering, "<a@example.org>", attachments, lambda _: PDF)
    return dated(message, WHEN).octets, expected(subject, name, text, attachments)


def expected(subject: str, name: str, text: str, attachments: Sequence[Attachment]) -> Reading:
    alternative = ("multipart/alternative", (("text/plain",), ("text/html",)))
    files = tuple(File(a.name, a.media_type, "", PDF) for a in attachments)
    mixed = ("multipart/mixed", (alternative, *((file.kind,) for file in files)))
    return Reading(
        subject,
        (("Khmer M’Chas Srok", "kms@example.org"),),
        ((name, "fra@missions.example.org"),),
        text.rstrip("\n"),
        f"<p>{text}</p>",
        mixed if files else alternative,
        files,
    )


def letters() -> Iterator[tuple[bytes, Reading]]:
    for name in NAMES:
        yield letter("A word", "Mission de France", TEXTS[1], name, "report.pdf")
    for text in TEXTS:
        yield letter("A word", "Mission", text)
    for subject in NAUGHTY:
        if subject and not FORBIDDEN.search(subject):
            yield letter(subject, "Mission", "hello", "report.pdf")


def differences(found: Reading, right: Reading) -> dict[str, tuple[object, object]]:
    names = [one.name for one in fields(Reading)]
    return {n: (getattr(found, n), getattr(right, n)) for n in names if getattr(found, n) != getattr(right, n)}


def in_one_line(reading: Reading) -> Reading:
    """As mail-parser gives it, which composes letters and accents, trims, and leaves folds in."""

    def line(text: str) -> str:
        return " ".join(unicodedata.normalize("NFC", text).split())

    people = (tuple((line(name), address) for name, address in who) for who in (reading.sender, reading.to))
    sender, to = people
    text, html = (unicodedata.normalize("NFC", text) for text in (reading.text, reading.html))
    return replace(reading, subject=line(reading.subject), sender=sender, to=to, text=text, html=html)


def check_in_python(octets: bytes, right: Reading) -> None:
    assert differences(by_standard_library(octets), right) == {}
    assert differences(in_one_line(by_mail_parser(octets)), in_one_line(right)) == {}


def test_two_readers_in_python_agree() -> None:
    for octets, right in letters():
        check_in_python(octets, right)


@settings(max_examples=60)
@given(HEADER_TEXT.filter(str.strip), st.text(st.characters(codec="utf-8"), max_size=60), SIMPLE_TEXT)
def test_two_readers_in_python_agree_on_any_letter(subject: str, name: str, text: str) -> None:
    check_in_python(*letter(subject, "Mission", text, name))


def test_the_reader_from_npm_agrees() -> None:
    wanted = list(letters())
    found = by_node(octets for octets, _ in wanted)
    for reading, (_, right) in zip(found, wanted, strict=True):
        assert differences(reading, right) == {}


def test_three_readers_agree_on_the_founding_letters() -> None:
    octets = {key: (GOLDEN / f"{key}.eml").read_bytes() for key in FEW}
    of_node = by_node(octets.values())
    for (key, one), node in zip(octets.items(), of_node, strict=True):
        found = by_standard_library(one)
        assert [file.name for file in found.files] == [REPORTS[LANGUAGES[key]]]
        assert differences(node, found) == {}
        assert differences(in_one_line(by_mail_parser(one)), in_one_line(found)) == {}
