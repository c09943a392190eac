"""init, check and preview as a newcomer meets them: a real folder, the usual mistakes, and what is said about them."""

import csv
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.command import (
    FEW,
    REPOSITORY,
    dispatcher,
    edit,
    new_campaign,
    read_list,
    set_relay,
    tree,
    write_list,
)
from tests.pdfs import pdf
from tests.smtp_server import SmtpServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


# init


def test_init_makes_the_founding_campaign(tmp_path: Path) -> None:
    done = dispatcher("init", "spring appeal", folder=tmp_path)
    assert done.code == 0
    for path in ("campaign.toml", "recipients/un_missions.csv", "templates/upr_submission/report.pdf"):
        assert (tmp_path / "spring appeal" / path).read_bytes() == (REPOSITORY / path).read_bytes()
        assert path.split("/")[0] in done.out
    assert "cd 'spring appeal' && dispatcher check" in done.out
    assert (tmp_path / "spring appeal" / ".gitignore").read_text() == ".dispatcher/\nsecret*\n"
    assert dispatcher("check", folder=tmp_path / "spring appeal").code == 0


def test_init_touches_nothing_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    for name in ("full", "file", "file/below"):
        done = dispatcher("init", name, folder=tmp_path)
        assert done.code == 2, done
        assert "Traceback" not in done.err
    assert tree(tmp_path) == before
    (tmp_path / "empty").mkdir()
    assert dispatcher("init", "empty", folder=tmp_path).code == 0


# check


def test_check_counts(folder: Path) -> None:
    done = dispatcher("check", folder=folder)
    assert done.code == 0
    assert done.err == ""
    assert "6 letters" in done.out
    assert "by language: " in done.out
    assert "WEOG 3" not in done.out.split("by group")[0]
    found = dispatcher("check", "--json", folder=folder).json
    assert found["letters"] == 6
    assert found["languages"] == {"en": 3, "fr": 2, "es": 1}
    assert found["groups"] == {"Asia-Pacific Group": 2, "WEOG": 3, "(no group)": 1}
    assert found["lists"] == {"recipients/un_missions.csv": 5, "recipients/ngos.csv": 1}
    assert found["problems"] == []
    assert sum(a["letters"] for a in found["attachments"]) == 6


def test_check_of_the_whole_founding_campaign() -> None:
    found = dispatcher("check", "--json", folder=REPOSITORY).json
    assert found["letters"] == 204
    assert found["lists"] == {"recipients/un_missions.csv": 192, "recipients/ngos.csv": 12}
    assert {row["key"] for row in found["skips"]["filtered"]} == {"SSD", "VAT", "PSE"}


def test_check_names_every_kind_of_skip(tmp_path: Path) -> None:
    """Filtered, duplicate, invalid, suppressed: each with the place and the reason."""
    folder = new_campaign(tmp_path, ["FRA", "VAT", "GBR", "ESP", "KHM"])
    toml = folder / "campaign.toml"
    edit(toml, 'on_duplicate = "refuse"', 'on_duplicate = "first"')
    edit(toml, 'on_invalid = "refuse"', 'on_invalid = "skip"')
    columns, rows = read_list(folder, "un_missions.csv")
    by_key = {row["key"]: row for row in rows}
    by_key["GBR"]["email"] = "FRA@missions.example.org"
    by_key["KHM"]["email"] = "nobody"
    write_list(folder, "un_missions.csv", columns, rows)
    done = dispatcher("suppress", "add", "esp@missions.example.org", "--why", "asked by letter", folder=folder)
    assert done.code == 0
    skips = dispatcher("check", "--json", folder=folder).json["skips"]
    assert [row["key"] for row in skips["filtered"]] == ["VAT"]
    assert [row["key"] for row in skips["duplicate"]] == ["GBR"]
    assert [row["key"] for row in skips["invalid"]] == ["KHM"]
    assert [row["key"] for row in skips["suppressed"]] == ["ESP"]
    out = dispatcher("check", folder=folder).out
    assert re.search(r"1 skipped, suppressed:\n  ESP at recipients/un_missions.csv:\d+: .*asked by letter", out)
    assert re.search(r"1 skipped, duplicate:\n  GBR at recipients/un_missions.csv:\d+: .*also recipient FRA's", out)


def test_check_writes_nothing(folder: Path) -> None:
    """Neither in a new folder nor beside a ledger: the tree is the same, times and all."""
    before = tree(folder)
    assert dispatcher("check", folder=folder).code == 0
    assert tree(folder) == before
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    before = tree(folder)
    assert dispatcher("check", "--sandbox", folder=folder).code == 0
    assert dispatcher("check", folder=folder).code == 0
    after = tree(folder)
    for name in ("", "/ledger.sqlite-shm", "/ledger.sqlite-wal"):  # SQLite's own, while somebody reads
        before.pop(f".dispatcher/sandbox{name}", None)
        octets = after.pop(f".dispatcher/sandbox{name}", (0, 0, b""))[2]
        assert octets == b"" or name.endswith("-shm")
    assert after == before


def test_problems_are_grouped_with_the_first_three_places(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path, ["FRA", "MCO", "AND", "BEL", "DZA", "GBR"])
    letter = folder / "templates" / "upr_submission" / "letter.fr.md"
    edit(letter, "{{ salutation }}", "{{ salutatoin }}")
    done = dispatcher("check", folder=folder)
    assert done.code == 2
    assert "problem: field 'salutatoin' is missing (5 times)" in done.err
    assert len(re.findall(r"  at templates/upr_submission/letter.fr.md:\d+, recipient [A-Z]{3}\n", done.err)) == 3
    assert "  and 2 more" in done.err
    assert "did you mean 'salutation'?" in done.err
    assert "5 problems: nothing can be sent before that is mended." in done.err
    assert "1 letter," in done.out
    found = dispatcher("check", "--json", folder=folder)
    assert found.code == 2
    assert len(found.json["problems"]) == 5


def test_check_says_what_send_would_refuse(folder: Path) -> None:
    """A relay elsewhere and addresses that are examples; a deadline that has passed: both end in exit 2."""
    set_relay(folder, 'host = "mail.relay.invalid"\nport = 587\nsecurity = "starttls"')
    done = dispatcher("check", folder=folder)
    assert done.code == 2
    assert "problem: 6 letters go to addresses in reserved domains" in done.err
    assert "at campaign.toml" in done.err
    assert dispatcher("check", "--sandbox", folder=folder).code == 0
    edit(folder / "campaign.toml", "# not_after = 2009", "not_after = 2009")
    assert "not_after" in dispatcher("check", "--sandbox", folder=folder).err


def test_check_says_that_the_sender_alone_is_an_example(folder: Path) -> None:
    set_relay(folder, 'host = "mail.relay.invalid"\nport = 587\nsecurity = "starttls"')
    for name in ("un_missions.csv", "ngos.csv"):
        write_list(folder, name, read_list(folder, name)[0], [])
    done = dispatcher("check", folder=folder)
    assert "problem: the sender's address upr@kms.example.org is in a reserved domain\n" in done.err


def test_check_says_that_the_folder_changed_since_it_was_sealed(folder: Path) -> None:
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    assert "amend" not in dispatcher("check", "--sandbox", folder=folder).out
    edit(folder / "templates" / "upr_submission" / "letter.en.md", "We thank you", "We are grateful to you")
    done = dispatcher("check", "--sandbox", folder=folder)
    assert done.code == 2  # send would refuse
    assert "the folder is not what was sealed" in done.err
    assert "dispatcher amend --sandbox" in done.err


def test_check_says_whose_letter_mail_programs_would_cut_off(folder: Path) -> None:
    """Octets count, not characters: here 80,000 of these are 120 kB."""
    letter = folder / "templates" / "upr_submission" / "letter.en.md"
    assert "Gmail" not in dispatcher("check", folder=folder).out
    edit(letter, "{{ close }}", '{% if key in ["GBR", "BHR"] %}\n\n' + "é " * 40_000 + "\n\n{% endif %}\n\n{{ close }}")
    done = dispatcher("check", folder=folder)
    assert done.code == 0
    found = re.search(r"note: letters with more than 100 kB of HTML: 2, the longest (BHR|GBR), 12\d kB", done.out)
    assert found, done.out
    assert "Gmail cuts them off at 102 kB and hides the rest, footer included" in done.out
    assert "shorten templates/upr_submission/letter.en.md" in done.out


def test_check_shows_a_guessed_encoding_with_names(folder: Path) -> None:
    columns, rows = read_list(folder, "un_missions.csv")
    write_list(folder, "un_missions.csv", columns, rows)
    path = folder / "recipients" / "un_missions.csv"
    path.write_bytes(path.read_text(encoding="utf-8").replace("’", "'").encode("cp1252"))
    done = dispatcher("check", folder=folder)
    assert "encoding guessed as" in done.out
    assert "look at: " in done.out
    assert re.search(r"look at: .*(Bahreïn|République|Bahréin|España)", done.out)
    edit(folder / "campaign.toml", 'where = "member', 'encoding = "cp1252"\nwhere = "member')
    assert "guessed" not in dispatcher("check", folder=folder).out


# The usual mistakes of a newcomer. Each message says what, where, and what to do.


def mistaken(folder: Path, old: str, new: str, file: str = "campaign.toml") -> str:
    """What `check` and `send` say after one edit; both must refuse, and with the same words."""
    edit(folder / file, old, new)
    return refused(folder)


def refused(folder: Path) -> str:
    check = dispatcher("check", folder=folder)
    assert check.code == 2
    assert "Traceback" not in check.err
    send = dispatcher("send", "--confirm", "6", folder=folder)
    assert send.code == 2
    assert send.err.strip() in check.err
    assert not (folder / ".dispatcher").exists()
    return check.err


def test_wrong_column_name(folder: Path) -> None:
    said = mistaken(folder, '"key","email",', '"key","E-mail",', "recipients/ngos.csv")
    assert "problem: there is no column 'email'" in said
    assert "at recipients/ngos.csv:1" in said
    assert "rename column 'E-mail' to 'email'. Columns are: key, E-mail, name," in said


def test_wrong_column_in_the_letter(folder: Path) -> None:
    said = mistaken(folder, "{{ name }}", "{{ nmae }}", "templates/upr_submission/letter.fr.md")
    assert "problem: field 'nmae' is missing" in said
    assert re.search(r"at templates/upr_submission/letter\.fr\.md:\d+, recipient fidh", said)
    assert "did you mean 'name'?" in said


def test_wrong_column_in_where(folder: Path) -> None:
    said = mistaken(folder, 'where = "member_on', 'where = "membr_on')
    assert "field 'membr_on_2009_10_01' is missing" in said
    assert "at campaign.toml" in said
    assert "did you mean 'member_on_2009_10_01'?" in said


def test_missing_attachment(folder: Path) -> None:
    said = mistaken(folder, 'report.pdf"]', 'reprot.pdf"]')
    assert "problem: templates/upr_submission/reprot.pdf does not exist\n" in said
    assert len(re.findall(r"at campaign\.toml:\d+, key letter\.attachments", said)) == 1
    assert "there is: report.pdf" in said


def test_missing_logo(folder: Path) -> None:
    said = mistaken(folder, '# logo = "', 'logo = "')
    assert "problem: templates/house/logo.png does not exist\n" in said
    assert len(re.findall(r"at campaign\.toml:\d+, key letter\.logo", said)) == 1


def test_a_list_of_which_nobody_gets_a_letter(folder: Path) -> None:
    for source in ("un_missions.csv", "ngos.csv"):
        columns, _ = read_list(folder, source)
        write_list(folder, source, columns, [])
    done = dispatcher("check", folder=folder)
    assert "There is no letter: no row of the lists" in done.out
    assert "Nothing is wrong" not in done.out


def test_missing_attachment_of_one_recipient(folder: Path) -> None:
    (folder / "annexes").mkdir()
    for key in FEW[:-1]:
        (folder / "annexes" / f"{key}.pdf").write_bytes(pdf(f"Annex for {key}"))
    edit(folder / "campaign.toml", '"templates/upr_submission/report.pdf"', '"annexes/{key}.pdf"')
    said = refused(folder)
    assert "annexes/fidh.pdf does not exist\n" in said
    assert "recipient fidh" in said
    (folder / "annexes" / "fidh.pdf").write_bytes(pdf("Annex for fidh"))
    assert dispatcher("check", folder=folder).code == 0


def test_a_name_for_what_is_not_attached(folder: Path) -> None:
    """A slip there would leave recipients with the name that the file has here."""
    letter = folder / "templates" / "upr_submission" / "letter.fr.md"
    assert "under [attachments]" not in dispatcher("check", folder=folder).out
    edit(letter, '"report.pdf" = ', '"reprot.pdf" = ')
    done = dispatcher("check", folder=folder)
    where = "templates/upr_submission/letter.fr.md"
    assert f"note: {where} names reprot.pdf under [attachments]; attached is report.pdf\n" in done.out


def test_wrong_language(folder: Path) -> None:
    said = mistaken(folder, 'language = "en"', 'language = "de"')
    assert "there is no letter in 'de'" in said
    assert "write templates/upr_submission/letter.de.md, or set language to one of: en, es, fr" in said


def test_a_language_without_a_letter_is_shown(folder: Path) -> None:
    edit(folder / "recipients" / "ngos.csv", '"fr"', '"de"')
    done = dispatcher("check", folder=folder)
    assert done.code == 0
    assert "1 in another language than asked for: de → en" in done.out


def test_duplicate_row(folder: Path) -> None:
    path = folder / "recipients" / "ngos.csv"
    columns, rows = read_list(folder, "ngos.csv")
    write_list(folder, "ngos.csv", columns, [*rows, {**rows[0], "key": "again"}])
    said = refused(folder)
    assert "fidh@ngos.example.org is also recipient fidh's, at recipients/ngos.csv:2" in said
    assert "at recipients/ngos.csv:3, recipient again" in said
    assert 'on_duplicate = "first"' in said
    assert path.exists()


def test_our_own_address_on_the_list(folder: Path) -> None:
    columns, rows = read_list(folder, "ngos.csv")
    write_list(folder, "ngos.csv", columns, [*rows, {**rows[0], "key": "us", "email": "Bounces@KMS.example.org"}])
    assert "is our own sender or bounce address" in refused(folder)


def test_unknown_key_in_campaign_toml(folder: Path) -> None:
    said = mistaken(folder, "quota = 300", "qouta = 300")
    assert "unknown key 'qouta'" in said
    assert re.search(r"at campaign\.toml:\d+, key pace\.qouta", said)
    assert "did you mean 'quota'?" in said


def test_broken_toml(folder: Path) -> None:
    said = mistaken(folder, "[pace]", "[pace")
    assert "not valid TOML" in said
    assert re.search(r"at campaign\.toml:\d+", said)


def test_password_in_the_file(folder: Path) -> None:
    set_relay(folder, 'host = "127.0.0.1"\nport = 587\nuser = "me"\npassword = "sesame-in-clear"')
    said = refused(folder)
    assert 'write { env = "DISPATCHER_PASSWORD" } instead' in said
    assert "sesame" not in said


def test_excel_list_instead_of_csv_by_name(folder: Path) -> None:
    """A web page saved under the name of a list is named for what it is."""
    (folder / "recipients" / "ngos.csv").write_text("<!DOCTYPE html><html></html>")
    assert "not a list" in refused(folder)


# preview


def test_preview_writes_only_where_it_says(folder: Path) -> None:
    done = dispatcher("preview", folder=folder)
    assert done.code == 0
    assert "6 letters in .dispatcher/preview/eml" in done.out
    assert done.out.endswith("Nothing was sent.\n")
    assert len(list((folder / ".dispatcher" / "preview" / "eml").glob("*.eml"))) == 6
    assert {p.name for p in (folder / ".dispatcher").iterdir()} == {"preview"}
    found = dispatcher("preview", "--json", "--out", "look", "--recipient", "FRA", folder=folder).json
    assert (found["sent"], found["letters"]) == (0, 1)
    assert Path(folder / found["page"]).is_file()
    assert dispatcher("preview", "--recipient", "XXX", "--out", "other", folder=folder).code == 2


def test_preview_writes_a_bundle(folder: Path) -> None:
    done = dispatcher("preview", "--bundle", "for-review.html", folder=folder)
    assert re.search(r"6 letters in one file of [\d.]+ kB, which opens without a network: for-review\.html", done.out)
    assert "Nothing was sent.\nIt holds everybody's address" in done.out
    done = dispatcher("preview", "--bundle", "for-review/", folder=folder)
    assert "6 letters on 1 page in for-review, " in done.out
    assert "; begin with for-review/index.html" in done.out.replace("\\", "/")
    found = dispatcher("preview", "--bundle", "for-review.html", "--json", folder=folder).json
    assert (found["sent"], found["letters"], found["pages"], found["eml"]) == (0, 6, 1, None)
    assert found["octets"] == (folder / "for-review.html").stat().st_size
    done = dispatcher("preview", "--bundle", "b.html", "--out", "x", folder=folder)
    assert (done.code, (folder / "b.html").exists()) == (2, False)
    assert "--out and --bundle are both there" in done.err


def test_a_bundle_names_the_plan_that_is_sealed(folder: Path) -> None:
    """The revision is the ledger's, and only as long as the folder is what was sealed."""
    digest = dispatcher("check", "--json", folder=folder).json["digest"]
    assert dispatcher("seal", folder=folder).code == 0
    dispatcher("preview", "--bundle", "b.html", folder=folder)
    page = (folder / "b.html").read_text(encoding="utf-8")
    assert f"/1/{digest} --by" in page


def test_from_another_folder(folder: Path, tmp_path: Path) -> None:
    """With -C every command works from anywhere, and what it says to type next does, too."""
    name = str(folder)
    done = dispatcher("send", "-C", name, folder=tmp_path)
    assert f"Nothing was sent. To send: dispatcher send -C {name} --confirm 6" in done.out
    done = dispatcher("send", "-C", name, "--sandbox", folder=tmp_path)
    assert f"dispatcher status -C {name} --sandbox" in done.out
    assert dispatcher("status", "--campaign", name, "--sandbox", folder=tmp_path).code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["campaign"]


def test_xlsx_list(folder: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    with (folder / "recipients" / "ngos.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            book.active.append(row)
    book.save(folder / "recipients" / "ngos.xlsx")
    edit(folder / "campaign.toml", "recipients/ngos.csv", "recipients/ngos.xlsx")
    assert dispatcher("check", "--json", folder=folder).json["letters"] == 6


def test_ledger_of_the_wrong_version_is_said(folder: Path) -> None:
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    path = folder / ".dispatcher" / "sandbox" / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    for words in (["status"], ["send"], ["log"], ["resolve", "FRA", "--as", "failed", "--why", "x"]):
        done = dispatcher(*words, "--sandbox", folder=folder)
        assert done.code == 4
        assert "version 99" in done.err
    assert dispatcher("send", "--sandbox", "--fresh", folder=folder).code == 0


def test_nothing_needs_the_network_before_send(folder: Path) -> None:
    """check, preview and a dry run do not connect to the relay."""
    with SmtpServer() as server:
        set_relay(folder, f'host = "127.0.0.1"\nport = {server.port}\nsecurity = "none"')
        for words in (["check"], ["preview"], ["send"], ["send", "--json"]):
            assert dispatcher(*words, folder=folder).code == 0
        assert server.seen == []
    shutil.rmtree(folder)
