"""What makes a right letter look like a wrong one: links, subjects, pictures, types of files, two texts that differ."""

import io
import zipfile
from pathlib import Path

import pytest

from dispatcher.core.look import Look, seen
from dispatcher.core.preflight import Line, Status
from dispatcher.desk import Desk
from dispatcher.desk.checking import check_draft
from tests.campaigns import ENGLISH, LAYOUT, LETTER, write_campaign
from tests.command import dispatcher, new_campaign
from tests.pictures import png


def looked(folder: Path) -> list[Line]:
    desk, look = Desk(folder, sandbox=True), Look()
    check_draft(desk, desk.draft(), look=look)
    return list(look.lines())


def warnings(folder: Path, subject: str) -> list[str]:
    return [line.what for line in looked(folder) if (line.subject, line.status) == (subject, Status.WARNING)]


def with_text(folder: Path, text: str) -> Path:
    """The harvest letter with one more paragraph."""
    letter = ENGLISH.replace("{{ close }}", f"{text}\n\n{{{{ close }}}}")
    return write_campaign(folder, files={"letters/letter.en.md": letter})


def with_subject(folder: Path, subject: str) -> Path:
    return write_campaign(folder, files={"letters/letter.en.md": ENGLISH.replace("The harvest, {{ name }}", subject)})


def test_a_plain_letter_is_plain(tmp_path: Path) -> None:
    found = looked(with_text(tmp_path, "See <https://orchard.example.org/report?a=1&b=2>."))
    assert {line.status for line in found} == {Status.OK}
    assert {line.subject: line.what for line in found}["links"] == "1 different, all plain"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[here](http://orchard.example.org/)", "is not https: http://orchard.example.org/ (NAM, TUR, KHM)"),
        ("[here](https://bit.ly/3xyz)", "is shortened: https://bit.ly/3xyz (NAM, TUR, KHM)"),
        ("[here](https://192.0.2.7/x)", "leads to a number, not to a name: https://192.0.2.7/x (NAM, TUR, KHM)"),
        ("[here](https://office/x)", "leads nowhere: https://office/x (NAM, TUR, KHM)"),
        ("[here](https://example.org:port/)", "leads nowhere: https://example.org:port/ (NAM, TUR, KHM)"),
        ("[here](https:///x)", "leads nowhere: https:///x (NAM, TUR, KHM)"),
        ("[here](https://a@orchard.example.org)", "holds a name before its host: https://a@orchard.example.org"),
        ("[www.bank.example](https://orchard.example.org)", "shows www.bank.example and leads to orchard.example.org"),
    ],
)
def test_an_odd_link_is_named_with_whom_it_goes_to(tmp_path: Path, text: str, words: str) -> None:
    (found,) = warnings(with_text(tmp_path, text), "links")
    assert found.startswith(words)


@pytest.mark.parametrize(
    "text",
    [
        "[the report](https://orchard.example.org/r)",
        "[orchard.example.org](https://www.orchard.example.org/r)",
        "[write](mailto:office@orchard.example.org)",
        "https://orchard.example.org/very/long?x=1&y=%20z",
    ],
)
def test_a_good_link_is_not(tmp_path: Path, text: str) -> None:
    assert warnings(with_text(tmp_path, text), "links") == []


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("The harvest " + "and what became of it " * 5, "has 12"),
        ("THE HARVEST IS IN", "is written in capitals: THE HARVEST IS IN"),
        ("The harvest!! For you!", "shouts: The harvest!! For you!"),
        ("Re: the harvest", "looks like an answer: Re: the harvest"),
    ],
)
def test_an_odd_subject_is_named(tmp_path: Path, subject: str, words: str) -> None:
    (found,) = warnings(with_subject(tmp_path, subject), "subject")
    assert found.startswith(words)
    assert found.endswith("(NAM, TUR, KHM)")


@pytest.mark.parametrize(
    "subject", ["UPR of Cambodia, KMS", "Report: the harvest!", "Regarding: harvest", "Récolte 2009"]
)
def test_an_ordinary_subject_is_not(tmp_path: Path, subject: str) -> None:
    assert warnings(with_subject(tmp_path, subject), "subject") == []


def test_a_layout_that_says_something_else_is_noticed(tmp_path: Path) -> None:
    other = "Our shop sells baskets, ladders, gloves, presses, barrels, crates and labels to everybody who wants them."
    layout = LAYOUT.replace("{{ body }}", f"{{{{ body }}}}<p>{other}</p>")
    folder = write_campaign(tmp_path, files={"letters/layout.html": layout})
    found = warnings(folder, "text and HTML")
    assert [words.partition(":")[0] for words in found] == ["differ in fr", "differ in en"]


def test_a_letter_that_is_mostly_a_picture_is_noticed(tmp_path: Path) -> None:
    layout = LAYOUT.replace("{{ body }}", '<img src="{{ logo }}" alt="Orchard">{{ body }}')
    folder = write_campaign(
        tmp_path,
        files={"letters/layout.html": layout, "logo.png": png(100, 50)},
        letter=LETTER + 'logo = "logo.png"\n',
    )
    assert [words.partition(" to ")[0] for words in warnings(folder, "pictures")] == ["1", "1"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("setup.exe", "setup.exe is of a type that large mail services refuse (FRA, NAM, TUR, KHM)"),
        ("data.zip", "data.zip is of a type that many gateways hold back (FRA, NAM, TUR, KHM)"),
        ("list.xlsm", "list.xlsm is of a type that many gateways hold back (FRA, NAM, TUR, KHM)"),
        ("report.txt", ""),
    ],
)
def test_types_that_gateways_refuse(tmp_path: Path, name: str, words: str) -> None:
    letter = LETTER.replace('["letters/report.pdf"]', f'["letters/{name}"]')
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w") as archive:
        archive.writestr("list.txt", "one")
    content = octets.getvalue() if name.endswith("zip") else b"octets of no matter what"
    files = {f"letters/{name}": content, "letters/report.pdf": None}
    assert warnings(write_campaign(tmp_path, files=files, letter=letter), "attachments") == ([words] if words else [])


def test_a_letter_that_many_servers_do_not_take(tmp_path: Path) -> None:
    """By its size on the wire, attachments as they are encoded there."""
    for octets, words in ((7_400_000, ["over 10 MB on the wire, which many servers do not take (FRA, NAM, TUR, KHM)"]),
                          (7_000_000, [])):  # fmt: skip
        files = {"letters/report.pdf": b"%PDF-1.4\n" + b"0" * octets}
        folder = write_campaign(tmp_path / f"{octets}", files=files)
        assert warnings(folder, "attachments") == words


def test_what_is_seen_of_a_page() -> None:
    page = "<title>t</title><style>p{}</style><p>One &amp; <b>two</b></p><script>x</script>three"
    assert " ".join(seen(page).split()) == "One & two three"


def test_the_founding_letters_are_plain(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path / "campaign")
    done = dispatcher("preflight", "--sandbox", folder=folder)
    assert done.code == 0
    letters = done.out.partition("\nletters\n")[2].partition("\nrelay\n")[0]
    assert "warning" not in letters
