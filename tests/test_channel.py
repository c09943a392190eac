"""Each recipient in one channel: the column of the list, what is sealed for paper, and what no run sends."""

from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.core.errors import Problem
from dispatcher.core.merge import Merged, OnPaper
from dispatcher.core.model import Channel
from dispatcher.core.onpaper import octets_of, parts_of
from dispatcher.core.plan import Summary
from dispatcher.desk import Desk
from dispatcher.desk.draft import Draft
from dispatcher.desk.sending import outlook
from dispatcher.web.preview import write_preview
from tests.campaigns import ENGLISH, LETTER, RECIPIENTS, REPORT, write_campaign
from tests.ledger_bench import Time

Files = dict[str, str | bytes | None]
ADDRESSED = ENGLISH.replace('[attachments]\n"', 'address = """\n{{ name }}\n{{ city }}"""\n\n[attachments]\n"')
SETTINGS = LETTER + 'paper = "letters/page.typ"\n'
HEAD = "key,email,name,language,city,group,member,channel\n"


def folder_of(
    folder: Path, *rows: str, head: str = HEAD, recipients: str = RECIPIENTS, **more: str | bytes | None
) -> Path:
    """A campaign of these rows; `more` are files of its letter, a dot written as two underscores."""
    files: Files = {
        "people.csv": head + "\n".join(rows) + "\n",
        "letters/letter.en.md": ADDRESSED,
        "letters/page.typ": "#let margins = (:)\n",
        **{f"letters/{name.replace('__', '.')}": text for name, text in more.items()},
    }
    return write_campaign(folder, files=files, letter=SETTINGS, recipients=recipients)


def read(folder: Path) -> tuple[dict[str, Merged | OnPaper], Summary]:
    draft, summary, letters = Draft(folder), Summary(), {}
    for item in draft.items():
        summary.add(item)
        if isinstance(item, Merged | OnPaper):
            letters[item.letter.key] = item
    return letters, summary


def problem(folder: Path) -> Problem:
    (only,) = read(folder)[1].problems
    return only


MAIL = "NAM,nam@missions.example.org,Namibia,en,Geneva,g,true,"
PAPER = "KHM,,Cambodia,en,Geneva,g,true,paper"


def test_the_column_says_what_carries_the_letter(tmp_path: Path) -> None:
    """Mail unless it says paper; capital letters do not matter."""
    rows = (MAIL, PAPER, "TUR,tur@a.example,Türkiye,en,Bern,g,true,mail", "ESP,esp@a.example,Spain,en,Bern,g,,Paper")
    letters, summary = read(folder_of(tmp_path, *rows))
    assert not summary.problems
    assert {key: item.letter.recipient.channel for key, item in letters.items()} == {
        "NAM": Channel.MAIL,
        "KHM": Channel.PAPER,
        "TUR": Channel.MAIL,
        "ESP": Channel.PAPER,
    }
    assert [key for key, item in letters.items() if isinstance(item, OnPaper)] == ["KHM", "ESP"]
    assert dict(summary.channels) == {"mail": 2, "paper": 2}
    assert summary.letters == 4
    assert summary.reserved == 2, "an example address on paper is nobody's relay's business"


@pytest.mark.parametrize(("word", "nearest"), [("papier", "did you mean 'paper'?"), ("fax", "Write mail or paper")])
def test_an_unknown_channel_is_an_error_with_its_place(tmp_path: Path, word: str, nearest: str) -> None:
    found = problem(folder_of(tmp_path, MAIL, PAPER.replace("paper", word)))
    assert str(found.where) == "people.csv:3, column channel, recipient KHM"
    assert found.what == f"there is no channel '{word}'"
    assert nearest in found.todo


def test_a_column_of_that_name_in_capitals_is_not_taken_for_it_in_silence(tmp_path: Path) -> None:
    found = problem(folder_of(tmp_path, MAIL, head=HEAD.replace("channel", "Channel")))
    assert found.what == "column 'Channel' is not 'channel'"


def test_paper_needs_no_address_but_a_key(tmp_path: Path) -> None:
    letters, summary = read(folder_of(tmp_path, PAPER, ",,Cambodia,en,Geneva,g,true,paper"))
    assert list(letters) == ["KHM"]
    assert letters["KHM"].letter.recipient.mailboxes == ()
    (found,) = summary.problems
    assert (found.what, str(found.where)) == (
        "a letter on paper without an e-mail address needs a key",
        "people.csv:3, column key",
    )


def test_mail_still_needs_an_address(tmp_path: Path) -> None:
    found = problem(folder_of(tmp_path, "KHM,,Cambodia,en,Geneva,g,true,"))
    assert (found.what, str(found.where)) == ("there is no address", "people.csv:2, column email, recipient KHM")


def test_a_list_for_paper_alone_has_no_column_of_addresses(tmp_path: Path) -> None:
    letters, summary = read(folder_of(tmp_path, PAPER.replace(",,", ",", 1), head=HEAD.replace("email,", "")))
    assert (list(letters), summary.problems) == (["KHM"], [])


def test_the_rows_of_a_household_are_in_one_channel(tmp_path: Path) -> None:
    """On paper, too, several rows may be one letter."""

    def grouped(name: str, *rows: str) -> Path:
        return folder_of(tmp_path / name, *rows, recipients=RECIPIENTS + 'group_by = "city"\n')

    two = ("A,,Cambodia,en,Geneva,g,true,paper", "B,b@a.example,Cambodia,en,Geneva,g,true,{}")
    letters, summary = read(grouped("one", *two[:1], two[1].format("paper")))
    assert (list(letters), summary.rows, summary.problems) == (["Geneva"], 2, [])
    assert letters["Geneva"].letter.recipient.channel is Channel.PAPER
    assert "differ in column channel" in problem(grouped("two", *two[:1], two[1].format("mail"))).what


def test_nobody_is_in_two_channels(tmp_path: Path) -> None:
    """A row for mail and one for paper that name one mailbox are two letters to one recipient."""
    found = problem(folder_of(tmp_path, MAIL, PAPER.replace(",,", ",nam@missions.example.org,", 1)))
    assert found.what == "nam@missions.example.org is also recipient NAM's, at people.csv:2"


def test_a_letter_that_addresses_nobody_is_not_printed(tmp_path: Path) -> None:
    found = problem(folder_of(tmp_path, PAPER, letter__en__md=ENGLISH))
    assert found.what == "nobody is addressed: the letter on paper has no address"
    assert str(found.where) == "people.csv:2, recipient KHM"


def test_a_house_without_a_page_prints_nothing_and_still_mails(tmp_path: Path) -> None:
    assert not read(folder_of(tmp_path / "mail", MAIL, page__typ=None))[1].problems
    found = problem(folder_of(tmp_path / "both", MAIL, PAPER, page__typ=None))
    assert "letters/page.typ does not exist" in found.what


def test_the_digest_covers_all_that_will_be_printed(tmp_path: Path) -> None:
    """Its words, its address, the page it is set in, and what is enclosed; not its mailbox."""

    def digest(name: str, row: str = PAPER, **more: str | bytes | None) -> str:
        return read(folder_of(tmp_path / name, row, head=HEAD, recipients=RECIPIENTS, **more))[0]["KHM"].letter.digest

    first = digest("first")
    assert digest("again") == first
    assert digest("mailbox", PAPER.replace(",,", ",khm@a.example,", 1)) == first
    changed = [
        digest("words", letter__en__md=ADDRESSED.replace("Your vote", "Your voice")),
        digest("address", PAPER.replace("Cambodia", "Kampuchea")),
        digest("page", page__typ="#let margins = (left: 1mm)\n"),
        digest("report", report__pdf=REPORT + b"!"),
    ]
    assert len({first, *changed}) == 5


def test_what_is_sealed_of_it_are_its_parts(tmp_path: Path) -> None:
    item = read(folder_of(tmp_path, PAPER))[0]["KHM"]
    assert isinstance(item, OnPaper)
    assert item.parts.address == ("Cambodia", "Geneva")
    assert item.letter.own == octets_of(item.parts)
    assert parts_of(item.letter.own) == item.parts
    odd = replace(item.parts, address=("ភ្នំពេញ", 'a "b" \\ c'), footer="")
    assert parts_of(octets_of(odd)) == odd


def test_a_send_counts_mail_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, MAIL, PAPER, "ESP,esp@a.example,Spain,en,Bern,g,,paper")
    plan = outlook(Desk(folder))
    assert (plan.count, plan.to_print, plan.summary.letters) == (1, 2, 3)
    assert outlook(Desk(folder), only='city == "Bern"').count == 0


def test_the_preview_shows_it_marked_and_writes_no_mail_file(tmp_path: Path) -> None:
    draft = Draft(folder_of(tmp_path / "campaign", MAIL, PAPER))
    written = write_preview(tmp_path / "out", draft, when=Time()())
    assert written.letters == 2
    assert [path.name for path in (tmp_path / "out" / "eml").iterdir()] == ["001-NAM.eml"]
    page = written.index.read_text(encoding="utf-8")
    assert 'id="letter-2"' in page
    assert '<span class="address">On paper</span>' in page
    assert "<bdi>Cambodia</bdi><br><bdi>Geneva</bdi>" in page
    assert "By channel" in page


def test_a_preview_of_paper_alone(tmp_path: Path) -> None:
    written = write_preview(tmp_path / "out", Draft(folder_of(tmp_path / "campaign", PAPER)), when=Time()())
    assert written.letters == 1
    assert "Largest message" not in written.index.read_text(encoding="utf-8")


def test_a_letter_on_paper_is_proof_read_too(tmp_path: Path) -> None:
    rows = (MAIL, PAPER.replace("Geneva", "[City]"))
    summary = read(folder_of(tmp_path, *rows))[1]
    assert [(one.kind, one.recipients, str(one.where)) for one in summary.remarks] == [
        ("placeholder", ("KHM",), "people.csv:3, column city")
    ]
