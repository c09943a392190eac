"""Attachments: found under one name everywhere, of the type they say, PDFs that open, the right file for the right
person; stored and encoded once.
"""

import gc
import io
import json
import os
import random
import sqlite3
import tracemalloc
import zipfile
from collections.abc import Mapping
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from dispatcher.cli.looking import Looking
from dispatcher.core.belonging import Owner, Roll
from dispatcher.core.errors import CampaignError, Problem
from dispatcher.core.filetype import BINARY, JPEG, PDF, PNG, TEXT, ZIP, TypeMismatch, content_of, media_type
from dispatcher.core.merge import Merged
from dispatcher.desk import Desk
from dispatcher.desk.checking import Check, check_folder
from dispatcher.desk.draft import Draft
from dispatcher.desk.outlook import outlook
from dispatcher.desk.sending import send
from dispatcher.sources.attachments import Attachments
from dispatcher.sources.campaign import Folder
from dispatcher.sources.pdf import Pdf, PdfOpener
from tests.campaigns import LETTER, write_campaign
from tests.pdfs import locked, pdf
from tests.smtp_server import Script, SmtpServer

Files = Mapping[str, str | bytes | None]
OWN = LETTER.replace("letters/report.pdf", "annexes/{key}.pdf")
KEYS = ("FRA", "NAM", "TUR", "KHM")
NAMES = {"FRA": "Mission de France", "NAM": "Mission of Namibia", "TUR": "Mission of Türkiye"}
ANNEXES = {f"annexes/{key}.pdf": pdf(f"Annex for {key}") for key in KEYS}
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT = "application/vnd.oasis.opendocument.text"


def archive(**files: str) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as zipped:
        for name, text in files.items():
            zipped.writestr(name.replace("__", "/").replace("TYPES", "[Content_Types].xml"), text)
    return whole.getvalue()


def checked(folder: Path) -> Check:
    return check_folder(Desk(folder, sandbox=True))


def with_annexes(folder: Path, letter: str = OWN, *, top: str = "", **annexes: bytes | None) -> Path:
    files = {**ANNEXES, **{f"annexes/{key}.pdf": octets for key, octets in annexes.items()}}
    return write_campaign(folder, files=files, letter=letter, top=top)


def problem(folder: Path) -> Problem:
    (only,) = checked(folder).problems
    assert only.todo
    return only


# -- type -------------------------------------------------------------------------------------------------------------

CONTENTS: Mapping[str, tuple[bytes, str]] = {
    "a PDF": (pdf("x"), PDF),
    "a PDF behind a few octets": (b"\n\n" + pdf("x"), PDF),
    "PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", PNG),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF", JPEG),
    "a Word document": (archive(TYPES="<x/>", word__document="<x/>"), DOCX),
    "an Excel workbook": (archive(TYPES="<x/>", xl__workbook="<x/>"), XLSX),
    "an OpenDocument text": (archive(mimetype=ODT, content="<x/>"), ODT),
    "another archive": (archive(word__document="<x/>"), ZIP),
    "an archive that says it is no document": (archive(mimetype="text/html"), ZIP),
    "an archive that was cut off": (archive(TYPES="<x/>", word__document="<x/>")[:-30], BINARY),
    "text": ("Été à Genève\r\n\tខ្មែរ\n".encode(), TEXT),
    "text of Windows": ("Été".encode("cp1252"), TEXT),
    "text in UTF-16": ("Été".encode("utf-16"), TEXT),
    "octets": (bytes(range(256)), BINARY),
    "a program": (b"MZ\x90\0", "application/vnd.microsoft.portable-executable"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_content_is_known_by_itself(name: str) -> None:
    octets, kind = CONTENTS[name]
    assert content_of(octets) == kind


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.pdf", "a PDF", PDF),
        ("A.PDF", "a PDF", PDF),
        ("a.jpg", "JPEG", JPEG),
        ("a.docx", "a Word document", DOCX),
        ("a.odt", "an OpenDocument text", ODT),
        ("a.csv", "text", "text/csv"),
        ("a.txt", "text of Windows", TEXT),
        ("read me", "text", TEXT),
        ("report", "a PDF", PDF),
        ("a.data", "text", BINARY),
        ("a.data", "octets", BINARY),
        ("a.data", "PNG", PNG),
    ],
)
def test_media_type_is_the_content_s(name: str, content: str, kind: str) -> None:
    assert media_type(name, CONTENTS[content][0]) == kind


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pdf", "text", "its name says a PDF, but it is plain text"),
        ("a.pdf", "a Word document", r"its name says a PDF, but it is a Word document \(.docx\)"),
        ("a.docx", "an OpenDocument text", r"says a Word document \(.docx\), but it is an OpenDocument text"),
        ("a.docx", "another archive", "but it is a ZIP archive"),
        ("a.docx", "an archive that was cut off", "but it is of no type that is known here"),
        ("a.png", "JPEG", "its name says a PNG picture, but it is a JPEG picture"),
        ("a.txt", "a program", "its name says plain text, but it is a Windows program"),
    ],
)
def test_a_name_that_says_another_type_is_refused(name: str, content: str, said: str) -> None:
    with pytest.raises(TypeMismatch, match=said):
        media_type(name, CONTENTS[content][0])


@pytest.mark.parametrize("packed", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_with_a_flipped_bit_is_of_some_type(packed: int) -> None:
    """Whichever bit it is, also one of what the archive is said to be."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", packed) as zipped:
        zipped.writestr("mimetype", ODT * 5)
    octets = whole.getvalue()
    for at in range(len(octets)):
        damaged = octets[:at] + bytes([octets[at] ^ 0xFF]) + octets[at + 1 :]
        assert isinstance(content_of(damaged), str)


def test_a_wrong_type_is_a_problem_with_its_place(tmp_path: Path) -> None:
    found = problem(write_campaign(tmp_path, files={"letters/report.pdf": "Only text.\n"}))
    assert found.what == ("letters/report.pdf is not what it is called: its name says a PDF, but it is plain text")
    assert (found.where.file, found.where.column) == ("campaign.toml", "key letter.attachments.0")


def test_the_name_that_is_shown_ends_like_the_file(tmp_path: Path) -> None:
    """Whoever gets it could not open it otherwise."""
    folder = write_campaign(tmp_path)
    path = folder / "letters/letter.en.md"
    path.write_text(path.read_text(encoding="utf-8").replace("Harvest report.pdf", "Harvest report"), encoding="utf-8")
    assert "is shown as Harvest report, which does not end in '.pdf'" in problem(folder).what


def named(folder: Path, line: str) -> Path:
    """The same names of attachments in both letters."""
    for code in ("en", "fr"):
        path = folder / f"letters/letter.{code}.md"
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace("[attachments]\n", f"[attachments]\n{line}\n".replace("CODE", code)), encoding="utf-8"
        )
    return folder


def test_own_files_have_a_name_in_each_language(tmp_path: Path) -> None:
    """By the pattern, with the fields that it has; a name for one file alone goes before it."""
    folder = named(with_annexes(tmp_path), '"{key}.pdf" = "Annex é CODE {key}.pdf"\n"TUR.pdf" = "Ek.pdf"')
    found = {i.letter.key: i.letter.attachments[0].name for i in Draft(folder).items() if isinstance(i, Merged)}
    assert found == {
        "FRA": "Annex é fr FRA.pdf",
        "NAM": "Annex é en NAM.pdf",
        "TUR": "Ek.pdf",
        "KHM": "Annex é en KHM.pdf",
    }


def test_a_name_that_is_shown_has_only_fields_of_the_path(tmp_path: Path) -> None:
    (found,) = checked(named(with_annexes(tmp_path), '"{key}.pdf" = "Annex {city}.pdf"')).problems
    assert found.what == "the name shown for {key}.pdf has {city} in it, which its path has not"
    assert found.where.column == "key letter.attachments.0"


def test_a_text_says_its_charset(tmp_path: Path) -> None:
    letter = LETTER.replace('"letters/report.pdf"', '"a.txt", "b.csv"')
    files: Files = {"a.txt": "Été\n", "b.csv": "Été;1\n".encode("cp1252")}
    for item in Draft(write_campaign(tmp_path, files=files, letter=letter)).items():
        assert isinstance(item, Merged)
        first, second = message_from_bytes(item.message.octets, policy=default).iter_attachments()
        assert (first.get_content_type(), first.get_param("charset")) == ("text/plain", "utf-8")
        assert (second.get_content_type(), second.get_param("charset")) == ("text/csv", None)


# -- one name everywhere ----------------------------------------------------------------------------------------------


def reading(folder: Path, path: str) -> str:
    """The path on the disk."""
    return Attachments(Folder(folder)).read(path, Path(path).name)[0].path


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (("é.pdf",), "é.pdf"),
        (("e\u0301.pdf",), "é.pdf"),
        (("é.pdf",), "e\u0301.pdf"),
        (("e\u0301/a.pdf",), "é/a.pdf"),
    ],
)
def test_accents_composed_or_apart_are_one_name(tmp_path: Path, there: tuple[str, ...], asked: str) -> None:
    folder = write_campaign(tmp_path, files={name: pdf("x") for name in there})
    assert reading(folder, asked) in there


@pytest.mark.parametrize(
    ("there", "asked", "said"),
    [
        (("fra.pdf",), "FRA.pdf", "FRA.pdf is there as 'fra.pdf'"),
        (("Annexes/a.pdf",), "annexes/a.pdf", "annexes/a.pdf is there as 'Annexes'"),
        (("FRA.pdf", "fra.pdf"), "FRA.pdf", "is there twice: 'FRA.pdf' and 'fra.pdf' are one file on Windows"),
        (("é.pdf", "e\u0301.pdf"), "é.pdf", "is there twice"),
        (("É.pdf", "e\u0301.pdf"), "É.pdf", "is there twice"),
        (("a/x.pdf", "A/x.pdf"), "a/x.pdf", "is there twice: 'A' and 'a'"),
    ],
)
def test_names_that_are_not_one_everywhere(tmp_path: Path, there: tuple[str, ...], asked: str, said: str) -> None:
    folder = write_campaign(tmp_path, files={name: pdf("x") for name in there})
    if len(list(folder.rglob("*.pdf"))) < len(there) + 1:
        pytest.skip("this file system takes them for one")
    with pytest.raises(CampaignError, match=said):
        reading(folder, asked)


def test_a_twin_of_one_recipient_is_a_problem_of_that_recipient(tmp_path: Path) -> None:
    folder = with_annexes(tmp_path)
    (folder / "annexes/fra.pdf").write_bytes(pdf("Another for FRA"))
    if len(list((folder / "annexes").iterdir())) == len(KEYS):
        pytest.skip("this file system takes them for one")
    found = problem(folder)
    assert "annexes/FRA.pdf is there twice: 'FRA.pdf' and 'fra.pdf'" in found.what
    assert found.where.recipient == "FRA"


@pytest.mark.skipif(os.name != "posix", reason="links want rights on Windows")
def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    secret = tmp_path / "secret.pdf"
    secret.write_bytes(pdf("secret FRA"))
    folder = with_annexes(tmp_path / "campaign", FRA=None)
    (folder / "annexes/FRA.pdf").symlink_to(secret)
    found = problem(folder)
    assert (found.where.recipient, "leads outside the campaign's folder" in found.what) == ("FRA", True)


# -- PDFs that open ---------------------------------------------------------------------------------------------------

LOOP = pdf("x").replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]")
BOMB = pdf("x" * 50)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (locked(pdf("x")), "letters/report.pdf is encrypted"),
        (locked(pdf("x"), ""), "letters/report.pdf is encrypted"),
        (pdf("x")[:200], "letters/report.pdf does not open: "),
        (b"%PDF-1.7\n", "letters/report.pdf does not open: "),
        (pdf(), "letters/report.pdf does not open: it has no page"),
        (b"%PDF-1.7\n" + bytes(range(256)) * 100, "letters/report.pdf does not open: "),
    ],
)
def test_a_pdf_that_nobody_could_read_is_a_problem(tmp_path: Path, octets: bytes, said: str) -> None:
    found = problem(write_campaign(tmp_path, files={"letters/report.pdf": octets}))
    assert found.what.startswith(said)
    assert (found.where.column, found.where.recipient) == ("key letter.attachments.0", "")


def test_one_recipient_s_pdf_is_that_recipient_s_problem(tmp_path: Path) -> None:
    found = problem(with_annexes(tmp_path, NAM=locked(pdf("Annex for NAM"))))
    assert (found.what, found.where.recipient) == ("annexes/NAM.pdf is encrypted", "NAM")


def test_a_circle_of_pages_is_no_circle_for_us(tmp_path: Path) -> None:
    assert problem(write_campaign(tmp_path, files={"letters/report.pdf": LOOP})).what.startswith(
        "letters/report.pdf does not open: "
    )


@pytest.mark.skipif(os.name != "posix", reason="there are no such files")
def test_a_file_that_takes_for_ever_is_left(tmp_path: Path) -> None:
    """A pipe that nobody writes to stands for it; the next file is opened again."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "good.pdf").write_bytes(pdf("FRA", "x"))
    with PdfOpener(seconds=1) as opener:
        assert opener.open(tmp_path / "pipe", text_of=20).fault == "it takes longer than 1 s to open"
    with PdfOpener() as opener:
        found = opener.open(tmp_path / "good.pdf", text_of=20)
    assert (found.pages, found.text.split(), found.fault) == (2, ["FRA", "x"], "")


def test_damaged_files_are_told_one_after_the_other(tmp_path: Path) -> None:
    """Octets changed and cut at random: each gives pages or a reason, and the one after it opens as before."""
    chance, good, told = random.Random(7), pdf("FRA", "two"), set[bool]()
    (tmp_path / "good.pdf").write_bytes(good)
    with PdfOpener() as opener:
        for _ in range(60):
            octets = bytearray(good)
            for _ in range(chance.randrange(1, 30)):
                octets[chance.randrange(len(octets))] = chance.randrange(256)
            (tmp_path / "bad.pdf").write_bytes(
                octets[: chance.choice((len(octets), chance.randrange(10, len(octets))))]
            )
            found = opener.open(tmp_path / "bad.pdf", text_of=20)
            assert bool(found.pages) != bool(found.fault)
            told.add(bool(found.fault))
        assert opener.open(tmp_path / "good.pdf").pages == 2
    assert told == {True, False}


def test_further_pages_are_read_where_the_first_names_nobody(tmp_path: Path) -> None:
    late = pdf("Annex", *["-"] * 8, "Annex for NAM")
    assert doubts(with_annexes(tmp_path, FRA=late)) == [("FRA", "its text names recipient NAM")]


def test_a_pdf_is_opened_without_loading_anything_of_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_campaign(tmp_path, files={"pypdf.py": "raise SystemExit(1)\n", "json.py": "raise SystemExit(1)\n"})
    monkeypatch.chdir(folder)
    assert checked(Path()).problems == []


def test_each_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = PdfOpener.open

    def open_(self: PdfOpener, path: Path, *, text_of: int = 0) -> Pdf:
        opened.append(path.name)
        return real(self, path, text_of=text_of)

    monkeypatch.setattr(PdfOpener, "open", open_)
    letter = LETTER.replace('"letters/report.pdf"', '"letters/report.pdf", "copy.pdf", "annexes/{key}.pdf"')
    report = pdf("The report")
    folder = with_annexes(tmp_path, letter)
    (folder / "letters/report.pdf").write_bytes(report)
    (folder / "copy.pdf").write_bytes(report)
    assert checked(folder).problems == []
    assert sorted(opened) == sorted([*(f"{key}.pdf" for key in KEYS), "report.pdf"])


def test_pages_and_sizes_are_shown(tmp_path: Path) -> None:
    letter = LETTER.replace('"letters/report.pdf"', '"letters/report.pdf", "annexes/{key}.pdf"')
    long = pdf("Annex for TUR", "on two pages", "on three")
    folder = with_annexes(tmp_path, letter, TUR=long)
    size = (folder / "letters/report.pdf").stat().st_size
    rows = checked(folder).attachments
    assert [(r["name"], r["letters"], r["files"], r["size"], r["pages"]) for r in rows] == [
        ("Rapport sur la récolte.pdf", 1, 1, size, 2),
        ("Harvest report.pdf", 3, 1, size, 2),
        ("", 4, 4, len(long), 3),
    ]
    assert rows[2]["path"] == "annexes/{key}.pdf"
    assert rows[2]["total"] == sum(path.stat().st_size for path in (folder / "annexes").iterdir())
    json.dumps(rows)


def test_a_letter_larger_than_the_relay_said_it_takes(tmp_path: Path) -> None:
    """What it said when it was last met is remembered: the next `check` and the next plan are told before anything."""
    with SmtpServer(Script(ehlo=("SIZE 2500", "8BITMIME"))) as server:
        relay = f'host = "127.0.0.1"\nport = {server.port}\nsecurity = "none"'
        desk = Desk(write_campaign(tmp_path, relay=relay))
        assert check_folder(desk).problems == []
        assert send(desk, outlook(desk, limit=1)).exit_code == 3
    (found,) = check_folder(desk).problems
    assert found.what.endswith(" MB on the wire; 127.0.0.1 takes at most 0.0025 MB")
    assert (found.where.column, found.where.recipient) == ("relay.host = 127.0.0.1", "FRA")
    assert not server.stored


# -- the right file for the right person ------------------------------------------------------------------------------


def doubts(folder: Path) -> list[tuple[str, str]]:
    """Whose files are in doubt, and why."""
    found = checked(folder).problems
    assert all('on_mismatch = "send"' in one.todo for one in found)
    return [(one.where.recipient, one.what.partition(": ")[2]) for one in found]


def test_two_files_that_were_swapped(tmp_path: Path) -> None:
    folder = with_annexes(tmp_path, FRA=ANNEXES["annexes/NAM.pdf"], NAM=ANNEXES["annexes/FRA.pdf"])
    assert doubts(folder) == [("FRA", "its text names recipient NAM"), ("NAM", "its text names recipient FRA")]
    with pytest.raises(Exception, match=r"annexes/FRA\.pdf may not be for FRA: its text names recipient NAM"):
        outlook(Desk(folder, sandbox=True))


def test_one_file_for_two_people(tmp_path: Path) -> None:
    folder = with_annexes(tmp_path, NAM=ANNEXES["annexes/FRA.pdf"])
    assert doubts(folder) == [("NAM", "it is the same file as annexes/FRA.pdf, which is recipient FRA's")]


def test_a_person_can_decide_that_it_is_right(tmp_path: Path) -> None:
    top = 'on_mismatch = "send"'
    folder = with_annexes(tmp_path, top=top, NAM=ANNEXES["annexes/FRA.pdf"])
    found = checked(folder)
    assert found.problems == []
    assert "annexes/NAM.pdf may not be for NAM: it is the same file as annexes/FRA.pdf" in "\n".join(found.notes)


def test_a_file_that_a_column_gives_to_several_is_theirs(tmp_path: Path) -> None:
    """Two rows with the same path: the list says so itself."""
    text = "For all of them, as FRA and NAM know"
    files = {f"groups/{group}.pdf": pdf(f"{text}: {group}") for group in ("Europe", "Africa", "Asia")}
    letter = LETTER.replace("letters/report.pdf", "groups/{group}.pdf")
    found = doubts(write_campaign(tmp_path, files=files, letter=letter))
    assert found == [(key, "its text names recipient FRA") for key in ("NAM", "KHM")], "each is alone in its group"


ROLL = (
    Owner("FRA", "Permanent Mission of the French Republic", ("France", "Francia")),
    Owner("COG", "Permanent Mission of the Republic of the Congo", ("Congo",)),
    Owner("COD", "Permanent Mission of the Democratic Republic of the Congo", ("Democratic Republic of the Congo",)),
    Owner("GIN", "Permanent Mission of Guinea", ("Guinea",)),
    Owner("GNB", "Permanent Mission of Guinea-Bissau", ("Guinea-Bissau",)),
    Owner("GNQ", "Permanent Mission of Equatorial Guinea", ("Equatorial Guinea",)),
    Owner("AND", "Permanent Mission of Andorra", ("Andorra",)),
    Owner("TUR", "Mission permanente de Türkiye", ()),
    Owner("KHM", "បេសកកម្មអចិន្ត្រៃយ៍កម្ពុជា", ()),
    Owner("17", "Office 17", ()),
    Owner("office@a.example", "", ()),
)


@pytest.mark.parametrize(
    ("key", "path", "text", "doubt"),
    [
        ("FRA", "a/FRA.pdf", "", ""),
        ("FRA", "a/fra.pdf", "", ""),
        ("FRA", "a/FRA/annex.pdf", "A certificate that names nobody.", ""),
        ("FRA", "a/1.pdf", "Annex FRA", ""),
        ("FRA", "a/1.pdf", "For the permanent\nmission of the FRENCH   Republic.", ""),
        ("FRA", "a/1.pdf", "à la France", ""),
        ("FRA", "a/1.pdf", "", "neither its text nor its path has their key or name"),
        ("FRA", "a/1.pdf", "An annex of the infrastructure", "neither its text nor its path has their key or name"),
        ("FRA", "a/TUR.pdf", "", "its path names recipient TUR"),
        ("FRA", "a/TUR.pdf", "For FRA", ""),
        ("FRA", "a/FRA.pdf", "For TUR", "its text names recipient TUR"),
        ("FRA", "a/FRA.pdf", "For TUR, and a word on FRA", "its text names recipient TUR"),
        ("FRA", "a/FRA.pdf", "For FRA, and a word on TUR", ""),
        ("FRA", "a/FRA.pdf", "Mission permanente de Tu\u0308rkiye", "its text names recipient TUR"),
        ("FRA", "a/FRA.pdf", "TERMS AND CONDITIONS", ""),
        ("FRA", "a/FRA.pdf", "page 17", ""),
        ("FRA", "a/FRA.pdf", "tur", ""),
        ("AND", "a/1.pdf", "TERMS AND CONDITIONS", ""),
        ("COG", "a/COG.pdf", ROLL[2].name, "its text names recipient COD"),
        ("COD", "a/COD.pdf", ROLL[1].name, "its text names recipient COG"),
        ("GIN", "a/GIN.pdf", ROLL[5].name, "its text names recipient GNQ"),
        ("GIN", "a/GIN.pdf", "Permanent Mission of Guinea", ""),
        ("GIN", "a/GIN.pdf", "Permanent Mission of Guinea-Bissau", "its text names recipient GNB"),
        ("GNB", "a/GNB.pdf", "Permanent Mission of Guinea", "its text names recipient GIN"),
        ("TUR", "a/1.pdf", "MISSION PERMANENTE DE TURKIYE", ""),
        ("KHM", "a/1.pdf", "ជូនចំពោះ បេសកកម្មអចិន្ត្រៃយ៍កម្ពុជា", ""),
        ("17", "a/17.pdf", "", ""),
        ("office@a.example", "a/office@a.example.pdf", "", ""),
        ("office@a.example", "a/1.pdf", "sent to office@a.example", ""),
    ],
)  # fmt: skip
def test_whose_a_file_is(key: str, path: str, text: str, doubt: str) -> None:
    roll = Roll()
    for owner in ROLL:
        roll.add(owner)
    owner = next(one for one in ROLL if one.key == key)
    assert roll.doubt(owner, path, text) == doubt


def test_two_recipients_of_one_name_are_both_named_by_it() -> None:
    roll, one, two = Roll(), Owner("A1", "Anna Meier"), Owner("B2", "Anna Meier")
    roll.add(one)
    roll.add(two)
    assert roll.doubt(one, "x.pdf", "For Anna Meier") == roll.doubt(two, "x.pdf", "For Anna Meier") == ""


def test_what_is_sealed_was_looked_into_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on with a sealed plan opens nothing again: another file would be another plan."""
    desk = Desk(with_annexes(tmp_path), sandbox=True)
    assert send(desk, outlook(desk, limit=1)).exit_code == 0
    monkeypatch.setattr(PdfOpener, "open", None)
    assert outlook(desk).count == 3


# -- stored and encoded once ------------------------------------------------------------------------------------------


def test_identical_files_are_stored_and_encoded_once(tmp_path: Path) -> None:
    """Four recipients' own files, three of them the same octets: two stored, two encoded, whatever their names."""
    same = pdf("The same for FRA, NAM and TUR")
    folder = with_annexes(tmp_path, top='on_mismatch = "send"', FRA=same, NAM=same, TUR=same)
    desk = Desk(folder, sandbox=True)
    items = [item for item in desk.draft().items() if isinstance(item, Merged)]
    assert [item.letter.attachments[0].name for item in items] == [f"{key}.pdf" for key in KEYS]
    assert len({id(item.message.shared[0]) for item in items}) == 4
    assert len({id(item.message.shared[1]) for item in items}) == 2
    assert send(desk, outlook(desk)).exit_code == 0
    with sqlite3.connect(desk.ledger_path) as connection:
        assert connection.execute("SELECT count(*) FROM content").fetchone() == (2,)
    connection.close()
    found = [message_from_bytes(path.read_bytes(), policy=default) for path in desk.mail_path.rglob("*.eml")]
    names = sorted((str(next(one.iter_attachments()).get_filename()), _content(one) == same) for one in found)
    assert names == [("FRA.pdf", True), ("KHM.pdf", False), ("NAM.pdf", True), ("TUR.pdf", True)]


def _content(message: EmailMessage) -> object:
    return next(message.iter_attachments()).get_content()


# -- many -------------------------------------------------------------------------------------------------------------


def test_thousands_of_files_take_little_memory_and_are_told_about(tmp_path: Path) -> None:
    """What is kept of each is its path, digest and owner; the PDF is opened elsewhere, one at a time."""
    count, told = 300, list[tuple[int, int]]()
    rows = "".join(f"K{n:05},k{n}@a.example,Bureau {n:05},en,g,Europe,true\n" for n in range(count))
    people = "key,email,name,language,city,group,member\n" + rows
    annexes = {f"annexes/K{n:05}.pdf": pdf(f"For K{n:05}\n" + "x" * 20_000) for n in range(count)}
    folder = write_campaign(tmp_path, files={"people.csv": people, **annexes}, letter=OWN)
    desk = Desk(folder, sandbox=True, watch=lambda done, total: told.append((done, total)))
    draft = desk.draft()
    summary = draft.blank_summary()
    tracemalloc.start()
    try:
        for item in draft.items():
            summary.add(item)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (summary.letters, summary.problems) == (count, [])
    assert after < 5_000_000  # encoded, the files have eight; the last 64 of them are kept
    assert peak < 7_000_000
    assert told == [(n, count) for n in range(count + 1)]


def test_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(float(second) for second in range(100))  # it is looked at twice a line, so a line takes nine or ten
    monkeypatch.setattr("dispatcher.cli.looking.time.monotonic", lambda: next(now))
    looking = Looking()
    for done in range(26):
        looking(done, 25)
    assert capsys.readouterr().err.splitlines() == [
        "looked into 9 of 25 attachments",
        "looked into 19 of 25 attachments",
        "looked into 25 of 25 attachments",
    ]
