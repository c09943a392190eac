"""`paper`: what is printed, recorded and posted; never by mail and on paper; and what a crash leaves."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdf
import pytest

from dispatcher.core.model import Channel
from dispatcher.desk import Desk
from dispatcher.desk.papering import Order, Papered, print_letters
from dispatcher.paper.letters import LETTERS_IN_A_FILE
from dispatcher.paper.typesetting import FONTS
from tests.aftermath import sealed
from tests.command import (
    argv,
    captured,
    dispatcher,
    edit,
    environment,
    new_campaign,
    on_terminal,
    read_list,
    use_server,
    write_list,
)
from tests.pictures import png
from tests.smtp_server import RESET, STORE, Action, Script, SmtpServer
from tests.torture import query

MISSIONS = "un_missions.csv"
SHORT = '+++\nsubject = "A word"\naddress = "{{ key }}"\n+++\nA word.\n'
POSTED = ("paper", "--posted", "2009-10-02", "--why", "handed in at the counter")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six recipients, two of them on paper: one of these without an address of e-mail."""
    made = new_campaign(tmp_path / "campaign")
    put_on_paper(made, "FRA", "KHM")
    change(made, "KHM", email="")
    return made


def put_on_paper(folder: Path, *keys: str) -> None:
    columns, rows = read_list(folder, MISSIONS)
    chosen = [{**row, "channel": "paper" if row["key"] in keys else ""} for row in rows]
    write_list(folder, MISSIONS, dict.fromkeys([*columns, "channel"]), chosen)


def change(folder: Path, key: str, **cells: str) -> None:
    columns, rows = read_list(folder, MISSIONS)
    write_list(folder, MISSIONS, columns, [{**row, **(cells if row["key"] == key else {})} for row in rows])


def states(folder: Path, *words: str) -> dict[str, str]:
    return {row["key"]: row["state"] for row in dispatcher("log", "--json", *words, folder=folder).json["rows"]}


def counts(folder: Path) -> dict[str, int]:
    """Where all letters stand; the sum is the plan's."""
    found = dict(dispatcher("status", "--json", folder=folder).json["counts"])
    assert found.pop("letters") == sum(found.values()) == 6
    return {name: n for name, n in found.items() if n}


def pages(path: Path) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(path).pages]


def only_file(folder: Path) -> Path:
    (path,) = (folder / "paper").rglob("*.pdf")
    return path


# Printing.


def test_printing_seals_and_records(folder: Path) -> None:
    """One file in the order of the lists, with size and digest; and the ledger says so."""
    done = dispatcher("paper", folder=folder)
    assert done.code == 0, done
    path = only_file(folder)
    assert path.name == "upr-cambodia-2009-letters-1.pdf"
    octets = path.read_bytes()
    digest = hashlib.sha256(octets).hexdigest()
    assert f"letters, 2 letters, {len(octets):,} octets, SHA-256 {digest}" in done.out
    assert "Printed: 2 letters." in done.out
    assert len(pages(path)) >= 2
    assert counts(folder) == {"waiting": 4, "printed": 2}
    assert states(folder)["FRA"] == "printed"
    (printing,) = dispatcher("status", "--json", folder=folder).json["printings"]
    assert printing["who"] == "keeper"
    assert printing["files"] == [{"name": path.name, "holds": "letters", "size": len(octets), "digest": digest}]
    shown = dispatcher("status", folder=folder).out
    assert "printing 1, " in shown
    assert "2 printed, and nobody has said yet that they are in the post: dispatcher paper --posted DATE" in shown
    assert path.stat().st_mode & 0o077 == 0, "it holds addresses"


@pytest.mark.parametrize("sealed_before", [False, True])
def test_the_order_is_that_of_the_list(folder: Path, *, sealed_before: bool) -> None:
    """As it is now, also if it was another when the plan was sealed."""
    put_on_paper(folder, "BHR", "FRA", "GBR", "ESP", "KHM")
    if sealed_before:
        with SmtpServer() as server:
            use_server(folder, server)
            assert dispatcher("send", "--confirm", "1", folder=folder).code == 0
    columns, rows = read_list(folder, MISSIONS)
    write_list(folder, MISSIONS, columns, reversed(rows))
    assert dispatcher("paper", folder=folder).code == 0
    outline = [str(entry["/Title"]) for entry in pypdf.PdfReader(only_file(folder)).outline if isinstance(entry, dict)]
    assert [title.partition(":")[0] for title in outline] == [row["key"] for row in reversed(rows)]


def test_the_same_letters_are_the_same_octets(folder: Path, tmp_path: Path) -> None:
    """A rehearsal, the printing and a reprint differ in nothing but their names; each reprint is an event."""
    assert dispatcher("paper", "--sandbox", folder=folder).code == 0
    rehearsed = list((folder / ".dispatcher" / "sandbox" / "paper").iterdir())
    assert [path.name for path in rehearsed] == ["rehearsal-upr-cambodia-2009-letters-1.pdf"]
    assert not (folder / ".dispatcher" / "ledger.sqlite").exists()
    assert dispatcher("paper", folder=folder).code == 0
    again = dispatcher("paper", "--again", "--out", str(tmp_path / "out"), "--json", folder=folder).json
    assert (again["printed"], again["reprinted"], again["left"]) == (0, 2, 0)
    second = tmp_path / "out" / "upr-cambodia-2009-letters-2.pdf"
    assert rehearsed[0].read_bytes() == only_file(folder).read_bytes() == second.read_bytes()
    kinds = [event["kind"] for event in dispatcher("log", "FRA", "--json", folder=folder).json["events"]]
    assert kinds == ["printed", "reprinted"]
    assert counts(folder) == {"waiting": 4, "printed": 2}


def test_what_is_printed_is_not_printed_again_by_itself(folder: Path) -> None:
    assert dispatcher("paper", "--only", 'key == "FRA"', folder=folder).code == 0
    assert counts(folder) == {"waiting": 4, "to_print": 1, "printed": 1}
    found = dispatcher("paper", "--json", folder=folder).json
    assert (found["printed"], found["reprinted"], found["left"]) == (1, 0, 0)
    assert [file["name"] for file in found["files"]] == ["upr-cambodia-2009-letters-2.pdf"]
    nothing = dispatcher("paper", folder=folder)
    assert nothing.code == 0
    assert "no letter waits to be printed" in nothing.out
    assert len(list((folder / "paper").iterdir())) == 2


def test_a_file_for_each_letter_with_labels_envelopes_and_report(folder: Path) -> None:
    words = ("--per-letter", "--labels", "avery-l7160", "--envelopes", "c5", "--with-report")
    found = dispatcher("paper", *words, "--json", folder=folder).json
    names = [file["name"] for file in found["files"]]
    stem = "upr-cambodia-2009"
    assert len(names) == 4
    assert {name.partition("/")[0] for name in names[:2]} == {f"{stem}-letters-1"}
    assert sorted(name.rpartition("-")[2] for name in names[:2]) == ["FRA.pdf", "KHM.pdf"]
    assert names[2:] == [f"{stem}-labels-1.pdf", f"{stem}-envelopes-1.pdf"]
    for file in found["files"]:
        octets = (folder / file["path"]).read_bytes()
        assert (file["size"], file["digest"]) == (len(octets), hashlib.sha256(octets).hexdigest())
    assert all(len(pages(folder / file["path"])) >= 6 for file in found["files"][:2]), "the report has five pages"
    story = dispatcher("log", "FRA", "--json", folder=folder).json
    assert story["events"][0]["subject"] in names
    assert (story["channel"], story["message_id"]) == ("paper", "")


def test_on_two_sides_each_letter_begins_on_a_sheet_of_its_own(folder: Path) -> None:
    assert dispatcher("paper", "--two-sided", "--with-report", folder=folder).code == 0
    found = pages(only_file(folder))
    assert [bool(text.strip()) for text in found] == [*[True, False, *[True] * 5, False] * 2]


def test_many_letters_are_several_files(folder: Path) -> None:
    columns, rows = read_list(folder, MISSIONS)
    row = next(row for row in rows if row["key"] == "KHM")
    many = [{**row, "key": f"N{n:03}"} for n in range(LETTERS_IN_A_FILE + 1)]
    write_list(folder, MISSIONS, columns, many)
    (folder / "templates/upr_submission/letter.en.md").write_text(SHORT, encoding="utf-8")
    found = dispatcher("paper", "--json", folder=folder).json
    assert [(file["name"].rpartition("-letters-")[2], file["letters"]) for file in found["files"]] == [
        ("1-1.pdf", LETTERS_IN_A_FILE),
        ("1-2.pdf", 1),
    ]
    assert found["printed"] == LETTERS_IN_A_FILE + 1


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--labels", "avery-l716"), "did you mean 'avery-l716"),
        (("--envelopes", "c6"), "Known here: dl, c5"),
        (("--only", "nmae == 1"), "nmae"),
        (("--why", "because"), "--why is for --posted or --thrown-away"),
        (("--failed", "--again"), "--again does not go with --failed"),
        (("--posted", "2009-10-02"), "--posted needs --why"),
        (("--posted", "2009-10-02", "--why", " "), "--why is empty"),
        (("--posted", "2009-10-02", "--thrown-away", "--why", "x"), "one or the other"),
        (("--posted", "yesterday", "--why", "x"), "--posted yesterday is not a date"),
        (("--posted", "2999-01-01", "--why", "x"), "has not come yet"),
        (("--posted", "2009-10-02", "--per-letter", "--why", "x"), "--per-letter does not go with --posted"),
    ],
)
def test_mistakes_are_said_and_nothing_is_sealed_or_written(folder: Path, words: tuple[str, ...], what: str) -> None:
    (folder / ".dispatcher").mkdir()
    done = dispatcher("paper", *words, folder=folder)
    if done.code == 4:  # before there is a ledger nothing can have been posted
        assert "there is no ledger yet" in done.err
        assert dispatcher("paper", folder=folder).code == 0
        done = dispatcher("paper", *words, folder=folder)
    else:
        assert not (folder / "paper").exists()
        assert not sealed(folder)
    assert done.code == 2, done
    assert what in done.err
    assert "Traceback" not in done.all


def test_a_missing_glyph_stops_everything_before_the_seal(folder: Path) -> None:
    change(folder, "FRA", name="République 法國")
    edit(folder / "templates/upr_submission/letter.fr.md", "{{ salutation }}", "{{ salutation }} {{ name }}")
    for command in ("check", "paper"):
        done = dispatcher(command, folder=folder)
        assert done.code == 2
        assert "FRA" in done.err
        assert "法" in done.err
    assert not (folder / "paper").exists()
    assert not sealed(folder)


def test_a_folder_that_cannot_be_written_is_said(folder: Path) -> None:
    (folder / "paper").write_text("a file", encoding="utf-8")
    done = dispatcher("paper", folder=folder)
    assert done.code == 2
    assert "give another folder with --out" in done.err
    assert counts(folder) == {"waiting": 4, "to_print": 2}


def test_a_folder_that_changed_since_it_was_sealed_prints_nothing(folder: Path) -> None:
    """As for `send`: the page of the house counts, too. What was amended is printed as it is now."""
    assert dispatcher("paper", "--only", 'key == "FRA"', folder=folder).code == 0
    edit(folder / "templates/house/letter.typ", "#let margins", "// changed\n#let margins")
    done = dispatcher("paper", folder=folder)
    assert done.code == 5
    assert "1 changed letter: KHM" in done.err
    assert "1 printed, held as they are until somebody says that they were posted or thrown away" in done.err
    assert dispatcher("amend", "--confirm", "1", folder=folder).code == 0
    assert dispatcher("paper", folder=folder).code == 0
    assert counts(folder) == {"waiting": 4, "printed": 2}
    again = dispatcher("paper", "--again", folder=folder)
    assert again.code == 2
    assert "letter FRA was amended after it was printed" in again.err
    thrown = dispatcher("paper", "--thrown-away", "--why", "the margins", "--only", 'key == "FRA"', folder=folder)
    assert thrown.code == 0, thrown
    assert dispatcher("amend", "--confirm", "1", folder=folder).code == 0
    assert dispatcher("paper", folder=folder).code == 0
    assert counts(folder) == {"waiting": 4, "printed": 2}


@pytest.mark.parametrize("file", ["house/logo.png", "house/seal.png", "house/ink.typ", "fonts/more/Own.ttf"])
def test_a_page_is_sealed_with_what_it_is_set_with(folder: Path, file: str) -> None:
    """Another picture or font is another letter: sheets that are printed later would not be like the first ones."""
    house = folder / "templates" / "house"
    font = (FONTS / "NotoSerif-Regular.ttf").read_bytes()
    (house / "logo.png").write_bytes(png(8, 4))
    (house / "seal.png").write_bytes(png(8, 4))
    (house / "ink.typ").write_text(
        '#let seal = image("/templates/house/seal.png")\n#let blue = blue\n', encoding="utf-8"
    )
    (folder / "templates/fonts/more").mkdir(parents=True)
    (folder / "templates/fonts/more/Own.ttf").write_bytes(font)
    edit(house / "letter.typ", "#let ink", '#import "/templates/house/ink.typ": blue\n#let ink')
    edit(house / "letter.typ", "it.signature.join", 'image("/templates/house/seal.png")\n    it.signature.join')
    edit(
        folder / "campaign.toml",
        "[letter]\n",
        '[letter]\nlogo = "templates/house/logo.png"\nfonts = "templates/fonts"\n',
    )
    assert dispatcher("paper", "--only", 'key == "FRA"', folder=folder).code == 0
    (folder / "templates/fonts/.DS_Store").write_bytes(b"what a system leaves in every folder is no font")
    assert dispatcher("paper", "--only", 'key == "GBR"', folder=folder).code == 0  # by mail: only looked at
    changed = folder / "templates" / file
    changed.write_bytes({".png": png(9, 4), ".ttf": font + b"\0"}.get(changed.suffix, b"#let blue = red\n"))
    for words in (("paper",), ("paper", "--again")):
        done = dispatcher(*words, folder=folder)
        assert done.code == 5, done
        assert f"template.page_files.templates/{file}: " in done.err
        assert "KHM" in done.err
        assert "1 printed, held as they are until somebody says" in done.err
    only_file(folder)


@pytest.mark.parametrize("package", ["@preview/cetz:0.3.1", "@local/house:1.0.0"])
def test_nothing_is_fetched_for_a_page(folder: Path, package: str) -> None:
    """Nor read from where it is not sealed."""
    edit(folder / "templates/house/letter.typ", "#let ink", f'#import "{package}"\n#let ink')
    for command in ("check", "paper"):
        done = dispatcher(command, folder=folder)
        assert done.code == 2
        assert f"letter.typ asks for the package {package}, which would be fetched" in done.err
    assert not sealed(folder)


def test_progress_and_colours_on_a_terminal_alone(folder: Path) -> None:
    code, shown = on_terminal("paper", folder=folder)
    assert code == 0
    assert "\x1b[32mPrinted: 2 letters." in shown


# Mail beside it.


def test_a_send_counts_and_sends_mail_alone(folder: Path) -> None:
    with SmtpServer() as server:
        use_server(folder, server)
        dry = dispatcher("send", folder=folder)
        assert "4 letters would be sent" in dry.out
        assert "2 more are for paper: dispatcher paper" in dry.out
        assert dispatcher("send", "--json", folder=folder).json["to_print"] == 2
        assert dispatcher("send", "--confirm", "6", folder=folder).code == 2
        done = dispatcher("send", "--confirm", "4", folder=folder)
        assert done.code == 0, done
        assert "2 more are for paper: dispatcher paper" in done.out
        assert len(server.stored) == 4
        assert counts(folder) == {"accepted": 4, "to_print": 2}
        assert dispatcher("paper", folder=folder).code == 0
        assert counts(folder) == {"accepted": 4, "printed": 2}
        assert dispatcher("send", folder=folder).code == 0
        assert len(server.stored) == 4
    assert b"fra@missions" not in b"".join(stored.octets for stored in server.stored)


def test_a_rehearsal_of_both(folder: Path) -> None:
    done = dispatcher("send", "--sandbox", folder=folder)
    assert done.code == 0, done
    assert len(captured(folder)) == 4
    assert dispatcher("paper", "--sandbox", folder=folder).code == 0
    assert "6 letters: 4 accepted, 2 printed" in dispatcher("status", "--sandbox", folder=folder).out


def test_check_counts_channels(folder: Path) -> None:
    assert "by channel: mail 4, paper 2" in dispatcher("check", folder=folder).out
    found = dispatcher("check", "--json", folder=folder).json
    assert found["channels"] == {"mail": 4, "paper": 2}
    assert found["forecast"]["letters"] == 4


def test_a_row_that_moves_to_the_other_channel_does_so_once(folder: Path) -> None:
    """Accepted by mail it is never printed; printed it is never mailed; what waits may change."""
    with SmtpServer() as server:
        use_server(folder, server)
        assert dispatcher("send", "--only", 'key == "GBR"', "--confirm", "1", folder=folder).code == 0
        assert dispatcher("paper", "--only", 'key == "FRA"', folder=folder).code == 0
        put_on_paper(folder, "GBR", "ESP")
        change(folder, "KHM", email="khm@missions.example.org")
        done = dispatcher("amend", folder=folder)
        assert "2 changed letters" in done.out
        assert dispatcher("amend", "--confirm", "2", folder=folder).code == 0
        assert states(folder) == {
            "BHR": "waiting",
            "KHM": "waiting",
            "FRA": "printed",
            "ESP": "to print",
            "GBR": "accepted",
            "fidh": "waiting",
        }
        assert dispatcher("paper", folder=folder).code == 0
        assert dispatcher("send", "--confirm", "3", folder=folder).code == 0
        assert counts(folder) == {"accepted": 4, "printed": 2}
        assert len(server.stored) == 4


# Suppressed.


def test_who_asked_to_be_left_alone_gets_nothing_on_paper(folder: Path) -> None:
    assert dispatcher("suppress", "add", "fra@missions.example.org", "--why", "asked", folder=folder).code == 0
    found = dispatcher("paper", "--json", folder=folder).json
    assert found["printed"] == 1
    assert states(folder)["FRA"] == "suppressed"
    assert counts(folder) == {"waiting": 4, "printed": 1, "suppressed": 1}
    words = ("suppress", "remove", "fra@missions.example.org", "--why", "by mistake")
    assert dispatcher(*words, folder=folder).code == 0
    assert states(folder)["FRA"] == "to print"


def test_who_asks_when_the_letter_is_printed_is_taken_out_of_the_pile(folder: Path) -> None:
    """A sheet cannot be held back by a ledger; thrown away, it is not printed again."""
    assert dispatcher("paper", folder=folder).code == 0
    done = dispatcher("suppress", "add", "@missions.example.org", "--why", "asked", folder=folder)
    assert "Printed already, and to be taken out of the pile: FRA." in done.out
    words = ("paper", "--thrown-away", "--why", "asked", "--only", 'key == "FRA"')
    assert dispatcher(*words, folder=folder).code == 0
    assert states(folder)["FRA"] == "suppressed"
    assert "FRA" not in str(dispatcher("paper", "--again", "--json", folder=folder).json["files"])
    events = [event["kind"] for event in dispatcher("log", "FRA", "--json", folder=folder).json["events"]]
    assert events == ["printed", "thrown away", "held back"]


SUPPRESS = ("suppress", "add", "fra@missions.example.org", "--why", "asked")


def meanwhile(folder: Path, words: tuple[str, ...], order: Order) -> Papered:
    """Print, and have somebody say something while the letters are set."""

    def said(_done: int, _of: int) -> None:
        assert dispatcher(*words, folder=folder).code == 0

    return print_letters(Desk(folder), order, folder / "paper", said)


@pytest.mark.parametrize("sealed_before", [False, True])
def test_who_asks_while_letters_are_printed_is_named_and_the_others_are_printed(
    folder: Path, *, sealed_before: bool
) -> None:
    if sealed_before:
        assert dispatcher("paper", folder=folder).code == 0
        assert dispatcher("paper", "--thrown-away", "--why", "a jam", folder=folder).code == 0
    found = meanwhile(folder, SUPPRESS, Order())
    assert (found.printed, found.reprinted, found.withdrawn) == (1, 0, ("FRA",))
    assert counts(folder) == {"waiting": 4, "printed": 1, "suppressed": 1}


@pytest.mark.parametrize("words", [(*POSTED, "--only", 'key == "FRA"'), SUPPRESS])
def test_what_is_said_while_letters_are_printed_again_counts(folder: Path, words: tuple[str, ...]) -> None:
    """A letter that is in the post is not posted a second time from the new sheets."""
    assert dispatcher("paper", folder=folder).code == 0
    found = meanwhile(folder, words, Order(again=True))
    assert (found.printed, found.reprinted, found.withdrawn) == (0, 1, ("FRA",))
    kinds = [event["kind"] for event in dispatcher("log", "FRA", "--json", folder=folder).json["events"]]
    assert "reprinted" not in kinds


def test_a_plan_that_is_sealed_between_two_looks_is_printed_once(folder: Path) -> None:
    """What was picked when nothing was sealed is not picked a second time."""
    draft = Desk(folder).draft()
    draft.summary(whole=True)
    draft.unsealed.pick(Channel.PAPER, chosen=False)
    assert list(draft.unsealed.picked()) == ["KHM", "FRA"]
    assert dispatcher("paper", "--only", 'key == "FRA"', folder=folder).code == 0
    draft.unsealed.pick_to_print(Desk(folder).ledger_path, draft.campaign.id, Order().states, chosen=False)
    assert list(draft.unsealed.picked()) == ["KHM"]


# What people say.


def test_posted_once(folder: Path) -> None:
    assert dispatcher("paper", folder=folder).code == 0
    first = dispatcher(*POSTED, "--only", 'key == "FRA"', folder=folder)
    assert first.code == 0, first
    assert "1 letter posted on 2009-10-02: FRA" in first.out
    again = dispatcher(*POSTED, "--only", 'key in ["FRA", "KHM"]', folder=folder)
    assert again.code == 2
    assert "letter FRA is posted already: posted on 2009-10-02, says keeper: handed in at the counter" in again.err
    assert counts(folder) == {"waiting": 4, "printed": 1, "posted": 1}
    found = dispatcher(*POSTED, "--json", folder=folder).json
    assert (found["posted"], found["keys"], found["date"]) == (1, ["KHM"], "2009-10-02")
    assert counts(folder) == {"waiting": 4, "posted": 2}
    nothing = dispatcher(*POSTED, folder=folder)
    assert nothing.code == 2
    assert "no letter that is printed and not posted yet" in nothing.err
    assert "no letter waits" in dispatcher("paper", "--again", folder=folder).out


def test_what_is_not_printed_is_not_posted(folder: Path) -> None:
    assert dispatcher("paper", "--only", 'key == "FRA"', folder=folder).code == 0
    done = dispatcher(*POSTED, "--only", 'key in ["FRA", "KHM", "GBR"]', folder=folder)
    assert done.code == 2
    assert "letter KHM is not printed" in done.err
    assert "GBR" not in done.err, "one for mail is no matter of the post"
    assert counts(folder) == {"waiting": 4, "to_print": 1, "printed": 1}


def test_the_log_tells_of_paper(folder: Path) -> None:
    assert dispatcher("paper", folder=folder).code == 0
    assert dispatcher(*POSTED, folder=folder).code == 0
    story = dispatcher("log", "KHM", folder=folder).out
    assert "KHM: posted" in story
    assert "channel: paper" in story
    assert "message-id" not in story
    assert "UTC: printed upr-cambodia-2009-letters-1.pdf by keeper: printing 1" in story
    assert "UTC: posted on 2009-10-02 by keeper: handed in at the counter" in story
    rows = dispatcher("log", "--state", "posted", "--since", "2026-01-01", "--json", folder=folder).json["rows"]
    assert {row["key"]: (row["channel"], row["addresses"]) for row in rows} == {
        "FRA": ("paper", "fra@missions.example.org"),
        "KHM": ("paper", ""),
    }
    assert dispatcher("log", "--state", "to_print", "--json", folder=folder).json["letters"] == 0
    csv = dispatcher("log", "--format", "csv", folder=folder).out
    assert ",paper,posted," in csv
    assert ",mail,waiting," in csv


# Failed by mail.


@pytest.fixture
def refused(folder: Path) -> Iterator[Path]:
    """By mail: the first refused for good, the next for now, then unknown; the rest accepted. FRA and KHM on paper."""
    edit(folder / "campaign.toml", "connections = 4", "connections = 1")
    rcpt: list[Action] = [b"550 5.1.1 no such mailbox\r\n", b"450 4.2.0 later\r\n", b"250 ok\r\n"]
    taken = (STORE, b"250 2.0.0 Ok\r\n")
    with SmtpServer(Script(on={"RCPT": rcpt, "DOT": [(STORE, RESET), taken]})) as server:
        use_server(folder, server)
        assert dispatcher("send", "--confirm", "4", "--skip-preflight", folder=folder).code == 3
        assert counts(folder) == {"accepted": 1, "waiting": 1, "failed": 1, "unknown": 1, "to_print": 2}
        yield folder


def key_at(folder: Path, outcome: str) -> str:
    (row,) = dispatcher("log", "--state", outcome, "--json", folder=folder).json["rows"]
    return str(row["key"])


def test_whoever_has_no_mailbox_gets_no_second_sheet_under_another_key(folder: Path) -> None:
    """The row's key was changed after the printing: what it says is the same, and so is whom it is for."""
    assert dispatcher("paper", folder=folder).code == 0
    columns, rows = read_list(folder, MISSIONS)
    write_list(folder, MISSIONS, columns, [{**r, "key": r["key"].replace("KHM", "CAMBODIA")} for r in rows])
    refused = dispatcher("amend", folder=folder)
    assert refused.code == 5
    assert "CAMBODIA is word for word letter KHM, which is printed" in refused.err
    confirmed = dispatcher("amend", "--confirm", "1", folder=folder)
    assert confirmed.code == 5
    edit(folder / "campaign.toml", 'on_duplicate = "refuse"', 'on_duplicate = "each"')
    assert dispatcher("amend", "--confirm", "1", folder=folder).code == 0


def test_what_failed_by_mail_goes_on_paper_and_the_log_shows_both(refused: Path) -> None:
    """Also if the relay's refusal has suppressed the address; nothing else goes with it."""
    key = key_at(refused, "failed")
    assert dispatcher("suppress", "list", "--json", folder=refused).json["addresses"] == 1
    found = dispatcher("paper", "--failed", "--with-report", "--json", folder=refused).json
    assert (found["printed"], found["left"]) == (1, 2)
    assert found["others"]["unknown"] == 1
    assert key_at(refused, "printed") == key
    assert dispatcher(*POSTED, folder=refused).code == 0
    assert counts(refused) == {"accepted": 1, "waiting": 1, "unknown": 1, "to_print": 2, "posted": 1}
    story = dispatcher("log", key, folder=refused).out
    assert f"{key}: posted" in story
    assert "channel: paper" in story
    assert story.index("attempt 1, ") < story.index("UTC: printed ") < story.index("UTC: posted on 2009-10-02")
    assert "reply: 550 5.1.1 no such mailbox" in story
    (row,) = dispatcher("log", "--state", "posted", "--json", folder=refused).json["rows"]
    assert (row["channel"], row["outcome"], row["code"]) == ("paper", "failed", 550)
    assert dispatcher("resolve", key, "--as", "resend", "--why", "x", folder=refused).code == 2


def test_only_what_failed_goes_that_way(refused: Path) -> None:
    """Not what is accepted, unknown or still tried; and it is said what to do first."""
    before = states(refused)
    for outcome, word in (("unknown", "dispatcher resolve"), ("deferred", "still tried by mail"), ("accepted", "")):
        key = key_at(refused, outcome)
        done = dispatcher("paper", "--failed", "--only", f'key == "{key}"', folder=refused)
        assert done.code == 0
        assert "Nothing was printed: no letter that failed by mail is among them." in done.out
        assert f"not printed, though chosen: 1 {outcome}" in done.out
        assert word in done.out
    assert states(refused) == before
    assert not (refused / "paper").exists()


def test_a_person_s_word_on_an_unknown_one_opens_the_way(refused: Path) -> None:
    key = key_at(refused, "unknown")
    assert dispatcher("resolve", key, "--as", "failed", "--why", "not in the relay's log", folder=refused).code == 0
    assert dispatcher("paper", "--failed", "--json", folder=refused).json["printed"] == 2
    assert states(refused)[key] == "printed"


def test_thrown_away_it_is_failed_again_and_may_be_sent(refused: Path) -> None:
    key = key_at(refused, "failed")
    assert dispatcher("paper", "--failed", folder=refused).code == 0
    assert dispatcher("paper", "--thrown-away", "--why", "the mission moved", folder=refused).code == 0
    assert key_at(refused, "failed") == key
    assert dispatcher("resolve", key, "--as", "resend", "--why", "a new mailbox", folder=refused).code == 0


def test_who_asked_to_be_left_alone_gets_no_second_try_on_paper(refused: Path) -> None:
    """Though the relay's refusal suppressed the address before: that alone holds back no paper."""
    key = key_at(refused, "failed")
    address = dispatcher("log", key, "--json", folder=refused).json["to"][0]
    assert dispatcher("suppress", "add", address, "--why", "asked", folder=refused).code == 0
    assert dispatcher("paper", "--failed", "--json", folder=refused).json["printed"] == 0
    (there,) = (
        r for r in dispatcher("suppress", "list", "--json", folder=refused).json["rows"] if r["address"] == address
    )
    assert there["reason"] == "asked"


# Crashes.


def test_a_kill_at_any_moment_loses_nothing(folder: Path) -> None:
    """Killed while it works: each letter waits or is printed and its file is there, whole; the next run finishes."""
    put_on_paper(folder, "BHR", "FRA", "GBR", "ESP", "KHM")
    for files in range(6):
        words = argv("paper", "--per-letter", "--again", "-C", str(folder))
        process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = files_in(folder / "paper")
        while files_in(folder / "paper") - before < files and process.poll() is None:
            pass  # until as much is written
        process.kill()
        process.wait()
        judge_paper(folder)
    done = dispatcher("paper", "--per-letter", "--again", folder=folder)
    assert done.code == 0, done
    assert counts(folder) == {"waiting": 1, "printed": 5}
    judge_paper(folder)


def files_in(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def judge_paper(folder: Path) -> int:
    """What lies there after a kill: whatever the ledger says was printed is on the disk as it was recorded."""
    if not (folder / ".dispatcher" / "ledger.sqlite").exists():
        return 0
    assert query(folder, "PRAGMA integrity_check") == [("ok",)]
    printings: list[Any] = query(folder, "SELECT id, files FROM printing")
    for _, files in printings:
        for file in json.loads(files):
            octets = (folder / "paper" / file["name"]).read_bytes()
            assert (len(octets), hashlib.sha256(octets).hexdigest()) == (file["size"], file["digest"])
    printed = query(folder, "SELECT id FROM letter WHERE state = 'printed'")
    told = query(folder, "SELECT DISTINCT letter FROM event WHERE kind = 'printed'")
    assert sorted(printed) == sorted(told)
    return len(printings)


def test_files_that_were_not_recorded_are_written_anew(folder: Path) -> None:
    """As a crash between file and record leaves them: printing again is harmless, under the same name."""
    stray = folder / "paper" / "upr-cambodia-2009-letters-1"
    stray.mkdir(parents=True)
    (stray / "001-OLD.pdf").write_bytes(b"a letter of a printing that was not recorded")
    (folder / "paper" / "upr-cambodia-2009-letters-1.pdf").write_bytes(b"half")
    (folder / "paper" / "upr-cambodia-2009-letters-1.pdf.unfinished").write_bytes(b"ha")
    assert dispatcher("paper", "--only", 'key == "FRA"', folder=folder).code == 0
    assert (folder / "paper" / "upr-cambodia-2009-letters-1.pdf").read_bytes().startswith(b"%PDF")
    assert not list((folder / "paper").glob("*.unfinished"))
    assert judge_paper(folder) == 1


def test_no_printing_beside_a_run(folder: Path) -> None:
    from filelock import FileLock  # noqa: PLC0415

    (folder / ".dispatcher").mkdir()
    with FileLock(folder / ".dispatcher" / "ledger.lock"):
        done = dispatcher("paper", folder=folder)
    assert done.code == 5
    assert "another dispatcher is at work" in done.err
    assert not (folder / "paper").exists()
