"""The founding campaign's letters, octet for octet: a mission for each language, one of the troika, the State under
review, an NGO. What they must be is kept under golden/founding, their plain text beside it as people read it, and under
golden/paper: where each line stands on its sheet, in millimetres from the left and the top. After an intended change,
look at each with your own eyes and write them anew: python -m tests.test_golden --write
"""

import email
import html
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from dispatcher.core.merge import Merged
from dispatcher.core.render import Renderer
from dispatcher.desk.draft import Draft
from dispatcher.paper.letters import typeset
from dispatcher.paper.printing import House, PaperLetter
from dispatcher.sources.campaign import Folder
from tests import pages
from tests.command import FEW, REPOSITORY, captured, dispatcher, new_campaign

GOLDEN = Path(__file__).parent / "golden" / "founding"
PAPER = Path(__file__).parent / "golden" / "paper"
WHEN = datetime(2009, 10, 1, 9, 30, tzinfo=UTC)
LANGUAGES = {"GBR": "en", "FRA": "fr", "ESP": "es", "BHR": "en", "KHM": "en", "fidh": "fr"}
REPORTS = {
    "en": "KMS-report-UPR-Cambodia-2009.pdf",
    "fr": "KMS-Rapport-Examen-périodique-universel-Cambodge-2009.pdf",
    "es": "KMS-Informe-Examen-Periódico-Universal-Camboya-2009.pdf",
}


def letters() -> Iterator[tuple[str, bytes]]:
    draft = Draft(REPOSITORY)
    for item in draft.items():
        if isinstance(item, Merged) and item.letter.key in FEW:
            yield item.letter.key, draft.merge.with_date(item, WHEN).octets


def on_paper() -> Iterator[tuple[str, str]]:
    draft = Draft(REPOSITORY)
    folder = Folder(REPOSITORY)
    house = House(folder.text(draft.campaign.letter.paper), folder.root, title=draft.campaign.title)
    renderer = Renderer(draft.frozen.template)
    for letter in draft.letters():
        if letter.key in FEW:
            names = tuple(attachment.name for attachment in letter.attachments)
            paper = PaperLetter(letter.key, renderer.parts(letter.recipient, names))
            pdf = typeset([paper], house, timestamp=WHEN)
            for page in range(len(pages.texts(pdf))):
                lines = (
                    f"{line.left:5.1f} {line.base:5.1f}  {line.text.strip()}\n" for line in pages.placed(pdf, page)
                )
                yield f"{letter.key}-{page + 1}", "".join(lines)


def golden(key: str) -> bytes:
    return (GOLDEN / f"{key}.eml").read_bytes()


def parsed(key: str) -> EmailMessage:
    return email.message_from_bytes(golden(key), policy=policy.default)


def plain(octets: bytes) -> str:
    """The plain text of a message, lines ending in LF."""
    message = email.message_from_bytes(octets, policy=policy.default)
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def text_of(key: str) -> str:
    """The plain text, its lines joined, without the mark above the footer."""
    letter, mark, footer = plain(golden(key)).partition("\n-- \n")
    assert mark
    return " ".join(f"{letter} {footer}".split())


def test_founding_letters_are_the_golden_ones() -> None:
    found = dict(letters())
    assert sorted(found) == sorted(FEW)
    for key, octets in found.items():
        assert octets == golden(key), f"{key} differs from golden/founding/{key}.eml"


def test_founding_letters_on_paper_are_the_golden_ones() -> None:
    found = dict(on_paper())
    assert {path.stem for path in PAPER.iterdir()} == set(found)
    for name, lines in found.items():
        assert lines == (PAPER / f"{name}.txt").read_text(encoding="utf-8"), f"differs from golden/paper/{name}.txt"


@pytest.mark.parametrize("key", FEW)
def test_plain_text_is_the_golden_one(key: str) -> None:
    assert plain(golden(key)) == (GOLDEN / f"{key}.txt").read_text(encoding="utf-8")


def test_sent_letters_are_the_golden_ones(tmp_path: Path) -> None:
    """What a real server gets is what was looked at, but for the Date."""
    folder = new_campaign(tmp_path)
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    sent = [octets.split(b"\r\n", 1) for octets in captured(folder)]
    assert all(date.startswith(b"Date: ") for date, _ in sent)
    assert sorted(rest for _, rest in sent) == sorted(golden(key).split(b"\r\n", 1)[1] for key in FEW)


@pytest.mark.parametrize("key", FEW)
@pytest.mark.parametrize("rules", [policy.default, policy.compat32], ids=["default", "compat32"])
def test_structure(key: str, rules: policy.Policy) -> None:
    """mixed{ alternative{ text, html }, report.pdf }, as two parsers see it; no defect in either's eyes."""
    message = email.message_from_bytes(golden(key), policy=rules)
    parts = list(message.walk())
    kinds = [part.get_content_type() for part in parts]
    assert kinds == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/pdf"]
    assert [part.defects for part in parts] == [[]] * 5
    assert parts[4].get_content_disposition() == "attachment"
    assert parts[4].get_filename() == REPORTS[LANGUAGES[key]]
    report = (REPOSITORY / "templates" / "upr_submission" / "report.pdf").read_bytes()
    assert parts[4].get_payload(decode=True) == report


@pytest.mark.parametrize("key", FEW)
def test_headers(key: str) -> None:
    message = parsed(key)
    names = sorted(name.lower() for name in message)
    assert len(set(names)) == len(names), "a header stands twice"
    assert not {"bcc", "cc"} & set(names)
    own = [f"{key.lower()}@missions.example.org"]
    if key == "fidh":  # two mailboxes: one letter, both in To
        own = ["fidh@ngos.example.org", "fidh.geneva@ngos.example.org"]
    assert [a.addr_spec for a in message["To"].addresses] == own
    assert [str(a) for a in message["From"].addresses] == ['"Khmer M\'Chas Srok (KMS)" <upr@kms.example.org>']
    assert message["Reply-To"].addresses[0].addr_spec == "secretariat@kms.example.org"
    assert message["Date"].datetime == WHEN
    assert message["Auto-Submitted"] == "auto-generated"
    assert "mailto:" in message["List-Unsubscribe"]
    assert message["Message-ID"].endswith(".upr-cambodia-2009@kms.example.org>")
    assert message["Content-Language"] == LANGUAGES[key]


@pytest.mark.parametrize("key", FEW)
def test_html_says_the_same_in_the_same_language(key: str) -> None:
    part = parsed(key).get_body(("html",))
    assert part is not None
    page = part.get_content()
    assert f'<html lang="{LANGUAGES[key]}" dir="ltr">' in page
    body = re.sub(r"(?s)<head\b.*?</head>", "", page)
    shown = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
    assert re.sub(r"\s", "", re.sub(r"\b[123]\. ", "", text_of(key))) == re.sub(r"\s", "", shown)


PHRASES = {
    "GBR": (
        "Geneva, 1 October 2009 The Permanent Representative Permanent Mission of the United Kingdom of Great Britain",
        "Your Excellency, We have the honour",
        "As a member of the Human Rights Council, your country also sits in the Working Group",
        "Accept, Excellency, the assurances",
    ),
    "FRA": (
        "Genève, le 1er octobre 2009",
        "Mission permanente de la République française auprès de l’Office des Nations Unies à Genève",
        "Excellence, Nous avons l’honneur",
        "Membre du Conseil des droits de l’homme",
        "la délégation de la France",
        "Veuillez agréer, Excellence, les assurances",
    ),
    "ESP": (
        "Ginebra, 1 de octubre de 2009",
        "Misión Permanente del Reino de España ante la Oficina de las Naciones Unidas en Ginebra",
        "Excelencia: Tenemos el honor",
        "El diálogo está abierto a todos los Estados",
        "la delegación de España",
    ),
    "BHR": ("the delegation of Bahrain serves on the troika", "We ask nothing of it in that office"),
    "KHM": ("Permanent Mission of the Kingdom of Cambodia", "As a matter of courtesy", "asking the other missions"),
    "fidh": (
        "Fédération internationale des ligues des droits de l’Homme",
        "Madame, Monsieur, Nous vous écrivons",
        "Seuls les États prennent la parole",
        "Veuillez agréer, Madame, Monsieur, l’expression",
    ),
}
ABSENT = {
    "GBR": ("serves on the troika", "As a matter of courtesy"),
    "FRA": ("Madame, Monsieur", "Le dialogue est ouvert à tous"),
    "ESP": ("Consejo de Derechos Humanos, su país",),
    "BHR": ("As a matter of courtesy", "Council, your country also sits"),
    "KHM": ("serves on the troika", "We would be grateful if the delegation"),
    "fidh": ("Excellence", "Mission permanente"),
}


@pytest.mark.parametrize("key", FEW)
def test_the_right_paragraph(key: str) -> None:
    text = text_of(key)
    for phrase in PHRASES[key]:
        assert phrase in text
    for phrase in ABSENT.get(key, ()):
        assert phrase not in text


@pytest.mark.parametrize("key", FEW)
def test_wire_rules(key: str) -> None:
    """RFC 5322 §2.1.1 and §2.3: CRLF alone, lines of at most 998 octets, here all 7-bit and without NUL."""
    octets = golden(key)
    assert octets.isascii()
    assert b"\0" not in octets
    lines = octets.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert max(map(len, lines)) <= 998
    assert octets.endswith(b"\r\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("to write the golden letters anew: python -m tests.test_golden --write")
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, content in letters():
        (GOLDEN / f"{name}.eml").write_bytes(content)
        (GOLDEN / f"{name}.txt").write_text(plain(content), encoding="utf-8", newline="\n")
        print(f"{name}.eml: {len(content):,} octets")
    for old in PAPER.glob("*.txt"):
        old.unlink()
    PAPER.mkdir(parents=True, exist_ok=True)
    for name, lines in on_paper():
        (PAPER / f"{name}.txt").write_text(lines, encoding="utf-8", newline="\n")
        print(f"{name}.txt")
