"""Planning: each row becomes a letter, a skip with its reason or a problem with its place; twins never by accident."""

import json
import random
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dispatcher.core.changes import Changes, Kind, Standing, differences
from dispatcher.core.errors import CampaignError, Place, PlanConflict, Problem, TemplateError
from dispatcher.core.merge import Frozen, Merged, Press
from dispatcher.core.model import Leased, Letter, Mailbox, Recipient, Skip, SkipReason, State
from dispatcher.core.plan import Item, Summary, named_in_vain, plan_digest
from dispatcher.desk import Desk
from dispatcher.desk.draft import Draft
from dispatcher.desk.sending import outlook
from dispatcher.ledgers.unsealed import Unsealed
from tests.campaigns import ENGLISH, LETTER, PEOPLE, RECIPIENTS, settings, write_campaign
from tests.pdfs import pdf

HEAD = "key,email,name,language,city,group,member\n"


def people(*rows: str, head: str = "key,email,name") -> dict[str, str | bytes | None]:
    """A list with the columns that the letter wants besides those in `head`."""
    missing = [c for c in ("name", "language", "city", "group", "member") if c not in head.split(",")]
    lines = [",".join([head, *missing]), *(row + "," * len(missing) for row in rows)]
    return {"people.csv": "\n".join(lines) + "\n"}


@dataclass(frozen=True)
class Found:
    """A plan: what it comes to, the keys of its letters, its skips, its digest."""

    summary: Summary
    letters: list[str]
    skips: list[Skip]
    digest: str

    @property
    def problems(self) -> list[Problem]:
        return self.summary.problems


def plan(folder: Path) -> Found:
    draft = Draft(folder)
    summary = draft.summary()
    assert summary.letters == len(list(draft.unsealed.all_keys()))
    assert summary.skips.total() == len(list(draft.unsealed.skips()))
    return Found(summary, list(draft.unsealed.all_keys()), list(draft.unsealed.skips()), draft.unsealed.digest())


def letters(folder: Path) -> dict[str, Merged]:
    return {item.letter.key: item for item in Draft(folder).items() if isinstance(item, Merged)}


def problems(folder: Path) -> list[Problem]:
    found = plan(folder).problems
    assert all(p.where.file and p.todo for p in found), "each says where and what to do"
    return found


def problem(folder: Path) -> Problem:
    (only,) = problems(folder)
    return only


def test_a_whole_plan(tmp_path: Path) -> None:
    found = plan(write_campaign(tmp_path))
    counted = found.summary
    assert found.letters == ["FRA", "NAM", "TUR", "KHM"]
    assert (found.problems, found.skips, dict(counted.languages)) == ([], [], {"fr": 1, "en": 3})
    assert dict(counted.groups) == {"Europe": 2, "Africa": 1, "Asia": 1}
    assert [name for _, name, _ in counted.attachments] == ["Rapport sur la récolte.pdf", "Harvest report.pdf"]
    assert (counted.reserved, counted.fallbacks.total()) == (4, 0)


def test_cells_stay_text(tmp_path: Path) -> None:
    """`NA` stays Namibia's code and `004` keeps its noughts."""
    found = letters(write_campaign(tmp_path))
    assert "to NA." in found["NAM"].rendering.text
    assert "to 004." in found["TUR"].rendering.text


def test_only_this_recipient_is_visible(tmp_path: Path) -> None:
    for merged in letters(write_campaign(tmp_path)).values():
        octets = merged.message.octets
        assert merged.envelope.forward_paths == (f"{merged.letter.key.lower()}@missions.example.org",)
        assert octets.count(b"@missions.example.org") == 1
        assert b"To: Mission " in octets or b"To: =?utf-8?" in octets


# -- keys and columns -------------------------------------------------------------------------------------------------


def test_without_a_key_the_normalised_address_is_the_key(tmp_path: Path) -> None:
    files = people("Ada@Orchard-Press.EXAMPLE,a", "Bob <bob@bücher.example>,b", ",c", head="email,name")
    found = plan(write_campaign(tmp_path, files=files))
    assert found.letters == ["ada@orchard-press.example", "bob@xn--bcher-kva.example"]
    assert [str(p.where) for p in found.problems] == ["people.csv:4, column email"]


def test_an_empty_key_falls_back_too(tmp_path: Path) -> None:
    assert list(plan(write_campaign(tmp_path, files=people(",x@a.example,X"))).letters) == ["x@a.example"]


@pytest.mark.parametrize("key", ['"a\nb"', "x" * 255, '"' + "ü" * 128 + '"', '"a\tb"'])
def test_keys_that_cannot_be(tmp_path: Path, key: str) -> None:
    found = problem(write_campaign(tmp_path, files=people(f"{key},x@a.example,X")))
    assert (found.where.file, found.where.line, found.where.column) == ("people.csv", 2, "column key")


def test_names_and_several_mailboxes(tmp_path: Path) -> None:
    """One letter for all mailboxes of a row; `name` is for a single one that has none of its own."""
    rows = (
        'A,"x@a.example, Y <y@a.example>",Both,"z@a.example,y@a.example"',
        "B,Own <b@a.example>,Column,",
        "C,c@a.example,Column,",
    )
    found = letters(
        write_campaign(tmp_path, files=people(*rows, head="key,email,name,cc"), top='on_duplicate = "each"')
    )
    assert [(m.name, m.address) for m in found["A"].letter.recipient.to] == [("", "x@a.example"), ("Y", "y@a.example")]
    assert [m.address for m in found["A"].letter.recipient.cc] == ["z@a.example"]
    assert found["A"].envelope.forward_paths == ("x@a.example", "y@a.example", "z@a.example")
    assert found["B"].letter.recipient.to[0].name == "Own"
    assert found["C"].letter.recipient.to[0].name == "Column"


@pytest.mark.parametrize(
    "name", ["subject", "body", "sender", "campaign", "attachments", "today", "direction", "loop", "self"]
)
def test_reserved_columns(tmp_path: Path, name: str) -> None:
    found = problem(write_campaign(tmp_path, files=people(head=f"key,email,{name}")))
    assert (name in found.what, found.where) == (True, Place("people.csv", 1))


@pytest.mark.parametrize("name", ["Key", "LANGUAGE", "Cc", "Salutation", "Gender"])
def test_columns_nearly_known_are_not_overlooked(tmp_path: Path, name: str) -> None:
    """A `Language` that is not read as `language` would send letters in the wrong one."""
    (found, *_) = problems(write_campaign(tmp_path, files={"people.csv": f"email,{name}\na@a.example,x\n"}))
    assert (found.where, name.lower() in found.todo) == (Place("people.csv", 1), True)


@pytest.mark.parametrize("name", ["E-Mail", "Email", "mailbox"])
def test_no_column_for_the_address(tmp_path: Path, name: str) -> None:
    found = problem(write_campaign(tmp_path, files={"people.csv": f"key,{name}\nA,a@a.example\n"}))
    assert "no column 'email'" in found.what
    assert f"rename column '{name}' to 'email'" in found.todo


def test_overrides_by_column(tmp_path: Path) -> None:
    rows = people('A,a@a.example,A,"Dear Ada,",,"Yours,"', head="key,email,name,salutation,call,close")
    text = letters(write_campaign(tmp_path, files=rows))["A"].rendering.text
    assert "Dear Ada,\n" in text
    assert "Yours,\n" in text


# -- what is left out, and what is refused ----------------------------------------------------------------------------


def test_where_leaves_out_with_the_reason(tmp_path: Path) -> None:
    found = plan(write_campaign(tmp_path, recipients=RECIPIENTS + 'where = "member and group != \\"Asia\\""'))
    assert found.letters == ["FRA", "NAM"]
    assert [(s.key, s.reason, s.place.line) for s in found.skips] == [
        ("TUR", SkipReason.FILTERED, 4),
        ("KHM", SkipReason.FILTERED, 5),
    ]


@pytest.mark.parametrize(
    ("where", "words"), [("membr", "field 'membr' is missing"), ("member and", "cannot understand")]
)
def test_where_that_is_wrong(tmp_path: Path, where: str, words: str) -> None:
    """Said once, with the line in campaign.toml and the nearest column."""
    sections = {"recipients": RECIPIENTS + f'where = "{where}"'}
    found = problem(write_campaign(tmp_path, toml=settings(**sections)))
    line = settings(**sections).split("\n").index(f'where = "{where}"') + 1
    assert found.where == Place("campaign.toml", line, "key recipients.0.where")
    assert words in found.what
    assert where != "membr" or "did you mean 'member'" in found.todo


@pytest.mark.parametrize("cell", ["no", "No", "non", "NEIN", "0", "FAUX", "falsch", "off", "yes", "1", "x"])
@pytest.mark.parametrize("where", ["member", 'group == "Europe" and member'])
def test_where_takes_no_text_for_an_answer(tmp_path: Path, where: str, cell: str) -> None:
    """A list that says `no` where we say `false` would be written to as a whole."""
    rows = people(f"A,a@a.example,A,Europe,{cell}", head="key,email,name,group,member")
    line = "where = '" + where + "'"
    found = plan(write_campaign(tmp_path, files=rows, recipients=RECIPIENTS + line))
    (refused,) = found.problems
    assert f"the condition gives the text '{cell}', which is neither true nor false" in refused.what
    assert (refused.where.file, refused.where.column) == ("campaign.toml", "key recipients.0.where")
    assert 'as in: member == "yes"' in refused.todo
    assert found.letters == []


@pytest.mark.parametrize(
    "where",
    ["not member", 'member and group == "Asia"', "member or observer", "name|length", "name.startswith", "none"],
)
def test_where_comes_to_true_or_false(tmp_path: Path, where: str) -> None:
    """Whatever is made of a `no`; and a number or a method that was not called is no condition."""
    rows = people("A,a@a.example,A,no,false", head="key,email,name,member,observer")
    found = plan(write_campaign(tmp_path, files=rows, recipients=RECIPIENTS + f"where = '{where}'"))
    (refused,) = found.problems
    assert "neither true nor false" in refused.what
    assert found.letters == []


@pytest.mark.parametrize(("cell", "keys"), [("true", ["A"]), ("FALSE", []), ("", [])])
def test_where_over_truth_values_and_nothing(tmp_path: Path, cell: str, keys: list[str]) -> None:
    rows = people(f"A,a@a.example,A,{cell}", head="key,email,name,member")
    found = plan(write_campaign(tmp_path, files=rows, recipients=RECIPIENTS + 'where = "member"'))
    assert (found.letters, found.problems) == (keys, [])


def test_where_compares_a_no(tmp_path: Path) -> None:
    """`no` and Norway's NO are text to compare with; NO names a file."""
    files = people("A,a@a.example,A,no", "NO,b@b.example,B,yes", head="key,email,name,member")
    files["letters/letter.en.md"] = ENGLISH.replace("{% if member %}", '{% if member == "yes" %}')
    files["letters/NO.pdf"] = pdf("for Norway")
    where = """where = 'member != "no" and key in ["NO", "SE"]'"""
    letter = LETTER.replace("report.pdf", "{key}.pdf")
    found = letters(write_campaign(tmp_path, files=files, recipients=RECIPIENTS + where, letter=letter))
    assert list(found) == ["NO"]
    assert "Your vote counts." in found["NO"].rendering.text


@pytest.mark.parametrize(
    ("only", "keys"),
    [("member", ("FRA", "NAM", "KHM")), ('city == "004"', ("TUR",)), (None, None)],
)
def test_only(tmp_path: Path, only: str | None, keys: tuple[str, ...] | None) -> None:
    """The keys of a choice; without one, None for all."""
    found = outlook(Desk(write_campaign(tmp_path), sandbox=True), only=only)
    assert (tuple(found.picked()) if found.chosen else None) == keys


@pytest.mark.parametrize("only", ["", "membr", "member and"])
def test_only_that_is_wrong(tmp_path: Path, only: str) -> None:
    """An empty choice, as from a variable that is not set, is not everybody."""
    with pytest.raises(TemplateError) as caught:
        outlook(Desk(write_campaign(tmp_path), sandbox=True), only=only)
    assert caught.value.problems[0].where == Place("--only")


TWINS: Mapping[str, tuple[str, str]] = {
    "key": ("A,a@a.example,A", "A,b@b.example,B"),
    "key in another form": ("Café,a@a.example,A", "Cafe\u0301,b@b.example,B"),
    "key in another case": ("FRA,a@a.example,A", "fra,b@b.example,B"),
    "key in capitals that are two letters": ("Straße,a@a.example,A", "STRASSE,b@b.example,B"),
    "address": ("A,a@a.example,A", "B,a@a.example,B"),
    "case": ("A,Ada@A.Example,A", "B,aDA@a.eXAMPLE,B"),
    "composed and decomposed": ("A,andr\u00e9@a.example,A", "B,andre\u0301@a.example,B"),
    "IDN and A-label": ("A,a@bücher.example,A", "B,a@XN--BCHER-KVA.example,B"),
    "one of several": ('A,"a@a.example,b@a.example",A', 'B,"c@a.example,b@a.example",B'),
    "named": ("A,a@a.example,A", "B,Ada <a@a.example>,B"),
}


@pytest.mark.parametrize("name", TWINS)
def test_twins_are_refused(tmp_path: Path, name: str) -> None:
    files = people(*TWINS[name], "C,c@c.example,C")
    found = plan(write_campaign(tmp_path, files=files))
    (twin,) = found.problems
    assert (twin.where.file, twin.where.line) == ("people.csv", 3)
    assert "people.csv:2" in twin.what
    assert "on_duplicate" in twin.todo
    assert found.letters[1:] == ["C"]


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("decision", ["first", "each"])
def test_twins_by_decision(tmp_path: Path, name: str, decision: str) -> None:
    """`first`: one letter a mailbox; `each`: one letter a key, and never two for one key."""
    folder = write_campaign(tmp_path, files=people(*TWINS[name]), top=f'on_duplicate = "{decision}"')
    found = plan(folder)
    assert found.problems == []
    if decision == "first" or name.startswith("key"):
        (skip,) = found.skips
        assert (skip.reason, skip.place.line, len(found.letters)) == (SkipReason.DUPLICATE, 3, 1)
    else:
        assert (found.skips, len(found.letters)) == ([], 2)


def test_keys_alike_say_how(tmp_path: Path) -> None:
    """On many disks FRA.pdf and fra.pdf are one file. Who reads `stands twice` would look for the same key."""
    found = problem(write_campaign(tmp_path, files=people("FRA,a@a.example,A", "fra,b@b.example,B")))
    assert found.what == "key fra is key FRA at people.csv:2 but for capital and small letters"
    assert found.where == Place("people.csv", 3, recipient="fra")
    same = problem(write_campaign(tmp_path, files=people("FRA,a@a.example,A", "FRA,b@b.example,B")))
    assert same.what == "key FRA stands twice, first at people.csv:2"


def test_a_twin_of_a_mailbox_names_the_key_as_it_stands(tmp_path: Path) -> None:
    found = problem(write_campaign(tmp_path, files=people("FRA,a@a.example,A", "B,a@a.example,B")))
    assert found.what == "a@a.example is also recipient FRA's, at people.csv:2"


def test_twins_in_cc_and_across_lists(tmp_path: Path) -> None:
    files = people("A,a@a.example,A,b@a.example", head="key,email,name,cc")
    files["more.csv"] = people("B,B@A.example,B,", head="key,email,name,cc")["people.csv"]
    recipients = RECIPIENTS + '[[recipients]]\nsource = "more.csv"\n'
    found = problem(write_campaign(tmp_path, files=files, recipients=recipients))
    assert (found.where.file, found.where.line, found.where.recipient) == ("more.csv", 2, "B")


def test_filtered_rows_are_no_twins(tmp_path: Path) -> None:
    rows = (PEOPLE + "FRA,fra@missions.example.org,x,en,x,x,false\n").replace("KHM,khm", "KHM,tur")
    folder = write_campaign(tmp_path, files={"people.csv": rows}, recipients=RECIPIENTS + 'where = "member"')
    assert plan(folder).problems == []


@pytest.mark.parametrize("own", ["OFFICE@orchard.example.org", "x@a.example, Bounces <bounces@ORCHARD.example.org>"])
@pytest.mark.parametrize("column", ["email", "cc"])
def test_our_own_addresses_are_refused(tmp_path: Path, own: str, column: str) -> None:
    row = f'A,"{own}",' if column == "email" else f'A,y@a.example,"{own}"'
    found = problem(write_campaign(tmp_path, files=people(row, head="key,email,cc")))
    assert ("our own" in found.what, found.where.line, found.where.recipient) == (True, 2, "A")


BAD_ROWS = ("A,nobody,A", "B,b@@b.example,B", 'C,c@c.example,"two\nlines"', "D,d@d.example,D")


def test_bad_rows_are_named(tmp_path: Path) -> None:
    found = plan(write_campaign(tmp_path, files=people(*BAD_ROWS)))
    assert [(p.where.line, p.where.recipient) for p in found.problems] == [(2, "A"), (3, "B"), (2, "C")]
    assert [p.where.file for p in found.problems] == ["people.csv", "people.csv", "letters/letter.en.md"]
    assert found.letters == ["D"]


def test_bad_rows_by_decision(tmp_path: Path) -> None:
    found = plan(write_campaign(tmp_path, files=people(*BAD_ROWS), top='on_invalid = "skip"'))
    assert found.problems == []
    assert [(s.key, s.reason, s.place.line) for s in found.skips] == [
        ("A", SkipReason.INVALID, 2),
        ("B", SkipReason.INVALID, 3),
        ("C", SkipReason.INVALID, 4),
    ]


def test_cc_errors_name_their_column(tmp_path: Path) -> None:
    found = problem(write_campaign(tmp_path, files=people("A,a@a.example,nobody", head="key,email,cc")))
    assert found.where == Place("people.csv", 2, "column cc", "A")


def test_a_rank_nobody_has(tmp_path: Path) -> None:
    found = problem(write_campaign(tmp_path, files=people("A,a@a.example,emperor", head="key,email,rank")))
    assert found.where == Place("people.csv", 2, "rank", "A")


def test_language_fallback_is_counted(tmp_path: Path) -> None:
    rows = ("A,a@a.example,A,de", "B,b@a.example,B,FR", "C,c@a.example,C,", "D,d@a.example,D,de")
    found = plan(write_campaign(tmp_path, files=people(*rows, head="key,email,name,language")))
    assert dict(found.summary.languages) == {"en": 3, "fr": 1}
    assert dict(found.summary.fallbacks) == {"de → en": 2}


@pytest.mark.parametrize("asked", ["fr-CH", "fr_CH", "FR_ch", "fr-Latn-CH-1996"])
def test_language_with_a_country(tmp_path: Path, asked: str) -> None:
    """With either stroke: who asks for `fr_CH` reads French."""
    found = letters(write_campaign(tmp_path, files=people(f"A,a@a.example,A,{asked}", head="key,email,name,language")))
    assert (found["A"].rendering.language, found["A"].letter.recipient.language) == ("fr", asked.replace("_", "-"))


@pytest.mark.parametrize("asked", ["French", "english", "Français", "fr/en", "fr en", "f", "fr-", "fr_FR.UTF-8", "1"])
def test_a_language_that_is_no_code(tmp_path: Path, asked: str) -> None:
    """It is not written to in another language in silence, for it can be mended."""
    rows = people(f"A,a@a.example,A,{asked}", head="key,email,name,language")
    found = problem(write_campaign(tmp_path, files=rows))
    assert (found.what, found.todo) == (f"language '{asked}' is not a code", "write a code such as fr")
    assert found.where == Place("people.csv", 2, "column language", "A")


# -- attachments ------------------------------------------------------------------------------------------------------

PERSONAL = LETTER.replace('"letters/report.pdf"', '"letters/report.pdf", "annexes/{group}/{key}.pdf"')


def test_attachments_by_row(tmp_path: Path) -> None:
    keys = {"FRA": "Europe", "NAM": "Africa", "TUR": "Europe", "KHM": "Asia"}
    files: dict[str, str | bytes | None] = {f"annexes/{g}/{k}.pdf": pdf(f"for {k}") for k, g in keys.items()}
    found = letters(write_campaign(tmp_path, files=files, letter=PERSONAL))
    assert {key: m.letter.attachments[1].path for key, m in found.items()} == {
        k: f"annexes/{g}/{k}.pdf" for k, g in keys.items()
    }
    assert len({m.letter.attachments[1].digest for m in found.values()}) == 4
    assert b"for FRA" not in found["FRA"].message.octets, "it is encoded"


def test_attachments_by_language(tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {"en.pdf": pdf("en"), "fr.pdf": pdf("fr")}
    folder = write_campaign(tmp_path, files=files, letter=LETTER.replace("letters/report", "{language}"))
    found = letters(folder)
    assert (found["FRA"].letter.attachments[0].path, found["NAM"].letter.attachments[0].path) == ("fr.pdf", "en.pdf")


def test_a_missing_attachment_of_one(tmp_path: Path) -> None:
    """It is that row's matter: named with its recipient, and skipped where bad rows may be."""
    files: dict[str, str | bytes | None] = {f"annexes/{k}.pdf": pdf(k) for k in ("FRA", "NAM", "KHM")}
    letter = LETTER.replace("letters/report", "annexes/{key}")
    found = problem(write_campaign(tmp_path, files=files, letter=letter))
    line = settings(letter=letter).split("\n").index('attachments = ["annexes/{key}.pdf"]') + 1
    assert found.where == Place("campaign.toml", line, "key letter.attachments.0", "TUR")
    assert "annexes/TUR.pdf does not exist" in found.what
    skipped = plan(write_campaign(tmp_path, letter=letter, top='on_invalid = "skip"')).skips
    assert [(s.key, s.place.line) for s in skipped] == [("TUR", 4)]


@pytest.mark.parametrize(
    ("content", "pattern"), [(None, "letters/report.pdf"), (b"", "letters/report.pdf"), (b"x", "{kye}.pdf")]
)
def test_a_missing_attachment_of_all(tmp_path: Path, content: bytes | None, pattern: str) -> None:
    """It is everybody's matter: said once, and never skipped."""
    letter = LETTER.replace("letters/report.pdf", pattern)
    files = {"letters/report.pdf": content}
    found = plan(write_campaign(tmp_path, files=files, letter=letter, top='on_invalid = "skip"'))
    (only,) = found.problems
    assert (only.where.file, only.where.column) == ("campaign.toml", "key letter.attachments.0")
    assert (found.letters, found.skips) == ([], [])


@pytest.mark.parametrize("path", ["other/report.pdf", "other/b.pdf"])
def test_two_attachments_of_one_name(path: str, tmp_path: Path) -> None:
    """Whoever saves both would be left with one; capital letters are alike on some systems."""
    letter = LETTER.replace('"letters/report.pdf"', f'"letters/report.pdf", "{path}"')
    shown = '"report.pdf" = "Harvest report.pdf"'
    assert shown in ENGLISH
    files: dict[str, str | bytes | None] = {
        path: pdf("another"),
        "letters/letter.en.md": ENGLISH.replace(shown, f'{shown}\n"b.pdf" = "HARVEST report.pdf"'),
    }
    found = problem(write_campaign(tmp_path, files=files, letter=letter))
    assert (found.where.file, found.where.column) == ("campaign.toml", "key letter.attachments.1")
    assert f"letters/report.pdf and {path} are both shown as" in found.what


def test_a_name_is_for_a_file_that_is_attached() -> None:
    names = ["report.pdf", "reprot.pdf", "to-{key}.pdf", "to-FRA.pdf", "to-.pdf", "to-FRAxpdf", "FRA.pdf"]
    found = named_in_vain(names, ["letters/report.pdf", "annexes/{group}/to-{key}.pdf"])
    assert found == ["reprot.pdf", "to-.pdf", "to-FRAxpdf", "FRA.pdf"]


@pytest.mark.parametrize(
    "value", ["", "..", "../x", "a/b", "a\\b", "C:x", "a*", "a.", '"x\ny"', '"x\ty"', "a?b", "a|b"]
)
def test_values_that_cannot_name_a_file(tmp_path: Path, value: str) -> None:
    files = people(f"A,a@a.example,A,{value}", head="key,email,name,code")
    letter = LETTER.replace("report.pdf", "{code}.pdf")
    found = problem(write_campaign(tmp_path, files=files, letter=letter))
    line = settings(letter=letter).split("\n").index('attachments = ["letters/{code}.pdf"]') + 1
    assert ("code" in found.what, found.where.recipient, found.where.line) == (True, "A", line)


def test_an_attachment_that_changes_is_noticed(tmp_path: Path) -> None:
    draft = Draft(write_campaign(tmp_path))
    digest = next(iter(draft.letters())).attachments[0].digest
    (tmp_path / "letters" / "report.pdf").write_bytes(pdf("Another harvest."))
    with pytest.raises(CampaignError, match="changed while it was read"):
        draft.content(digest)


# -- the digest -------------------------------------------------------------------------------------------------------


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


def digest_of(rows: Iterable[tuple[str, str]]) -> str:
    unsealed = Unsealed()
    for key, digest in rows:
        unsealed.add(Letter(Recipient(key, ()), "en", "<number@example.org>", (), digest))
    return unsealed.digest()


@hypothesis_settings(max_examples=100)
@given(st.lists(st.tuples(KEYS, DIGESTS), unique_by=lambda row: row[0].casefold(), max_size=6), st.randoms())
def test_digest_is_of_the_set(rows: list[tuple[str, str]], chance: random.Random) -> None:
    """Whatever the order, the same; another key or another letter, another digest."""
    digest = digest_of(rows)
    assert digest == plan_digest(sorted(rows))
    chance.shuffle(rows)
    assert digest_of(rows) == digest
    if rows:
        (key, own), *others = rows
        assert digest_of([*others, (key, own[::-1] + "0")]) != digest
        assert digest_of(others) != digest


def test_sorting_the_list_changes_nothing(tmp_path: Path) -> None:
    head, *rows = PEOPLE.splitlines()
    first = plan(write_campaign(tmp_path / "a"))
    again = plan(write_campaign(tmp_path / "b", files={"people.csv": "\n".join([head, *reversed(rows)]) + "\n"}))
    assert first.letters != again.letters
    assert first.digest == again.digest


CHANGED: Mapping[str, Mapping[str, str | bytes | None]] = {
    "address": {"people.csv": PEOPLE.replace("nam@", "na@")},
    "name": {"people.csv": PEOPLE.replace("of Namibia", "of the Republic of Namibia")},
    "field": {"people.csv": PEOPLE.replace(",NA,", ",NB,")},
    "language": {"people.csv": PEOPLE.replace("Namibia,en", "Namibia,fr")},
    "key": {"people.csv": PEOPLE.replace("NAM,", "NAB,")},
    "row gone": {
        "people.csv": PEOPLE.replace("NAM,nam@missions.example.org,Mission of Namibia,en,NA,Africa,true\n", "")
    },
    "letter": {"letters/letter.en.md": ENGLISH.replace("counts", "matters")},
    "subject": {"letters/letter.en.md": ENGLISH.replace("The harvest,", "A harvest,")},
    "attachment": {"letters/report.pdf": pdf("Another harvest.")},
    "attachment's name": {"letters/letter.en.md": ENGLISH.replace("Harvest report", "Report")},
    "sender": {"campaign.toml": settings().replace("Ada Pomme", "Eve Pomme")},
    "bounces": {"campaign.toml": settings().replace("bounces@", "returns@")},
    "date": {"campaign.toml": settings().replace("2026-03-01", "2026-03-02")},
}


@pytest.mark.parametrize("name", CHANGED)
def test_every_change_of_a_letter_changes_the_plan(tmp_path: Path, name: str) -> None:
    first = plan(write_campaign(tmp_path / "a"))
    again = plan(write_campaign(tmp_path / "b", files=CHANGED[name]))
    assert again.problems == []
    assert first.digest != again.digest


@pytest.mark.parametrize(
    "sections",
    [{"relay": 'host = "::1"\nsecurity = "none"'}, {"pace": "quota = 5"}, {"top": "not_after = 2099-01-01T00:00:00Z"}],
)
def test_what_is_not_in_letters_is_not_in_the_plan(tmp_path: Path, sections: dict[str, str]) -> None:
    first = plan(write_campaign(tmp_path / "a"))
    assert plan(write_campaign(tmp_path / "b", toml=settings(**sections))).digest == first.digest


def test_not_after_is_a_moment(tmp_path: Path) -> None:
    campaign = Draft(write_campaign(tmp_path, top="not_after = 2026-11-17T18:00:00+01:00")).campaign
    assert campaign.not_after == datetime(2026, 11, 17, 17, tzinfo=UTC)


# -- merging once more ------------------------------------------------------------------------------------------------


def test_a_sealed_letter_is_printed_as_it_was_merged(tmp_path: Path) -> None:
    """From what the ledger keeps, as JSON: octet for octet the same, or PlanConflict."""
    draft = Draft(write_campaign(tmp_path))
    merged = next(item for item in draft.items() if isinstance(item, Merged))
    frozen = Frozen.from_data(json.loads(json.dumps(draft.frozen.as_data())))
    assert frozen == draft.frozen
    letter, when = merged.letter, datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    leased = Leased(
        1, letter.key, 1, letter.message_id, letter.digest, letter.recipient.mailboxes, letter.attachments, letter.own,
        None, 0, None, when,
    )  # fmt: skip
    assert Press(frozen, draft.content).print(leased, when) == (merged.envelope, draft.merge.with_date(merged, when))
    for other, changed in (
        (replace(frozen, return_path="other@orchard.example.org"), leased),
        (frozen, replace(leased, own=leased.own + b".\r\n")),
        (frozen, replace(leased, attachments=())),
        (frozen, replace(leased, mailboxes=(*leased.mailboxes[1:], Mailbox("x@y.example")))),
    ):
        with pytest.raises(PlanConflict, match="not what was sealed"):
            Press(other, draft.content).print(changed, when)


def test_with_date_adds_nothing_but_the_date(tmp_path: Path) -> None:
    draft = Draft(write_campaign(tmp_path))
    merged = next(item for item in draft.items() if isinstance(item, Merged))
    message = draft.merge.with_date(merged, datetime(2026, 3, 2, 9, 30, tzinfo=UTC))
    assert message.octets == b"Date: Mon, 2 Mar 2026 09:30:00 +0000\r\n" + merged.message.octets


def test_a_test_goes_to_the_tester_alone(tmp_path: Path) -> None:
    files = people('A,"a@a.example,b@a.example",A,c@a.example', head="key,email,name,cc")
    draft = Draft(write_campaign(tmp_path, files=files))
    merged = next(item for item in draft.items() if isinstance(item, Merged))
    tested = draft.merge.test(merged.letter, Mailbox("me@orchard.example.org"), "<test.1@orchard.example.org>")
    assert tested.envelope.forward_paths == ("me@orchard.example.org",)
    assert tested.rendering.subject == "[TEST for A] The harvest, A"
    assert b"a.example" not in tested.message.octets.replace(b"orchard.example", b"")
    assert tested.letter.message_id != merged.letter.message_id
    assert b"?subject=unsubscribe%20A>" in merged.message.octets
    assert b"?subject=unsubscribe%20test>" in tested.message.octets, "a tester's click unsubscribes nobody"


# -- size -------------------------------------------------------------------------------------------------------------


def test_a_plan_does_not_grow_with_its_letters(tmp_path: Path) -> None:
    """Of 1,000 letters with their report hardly anything is kept in memory: what there is, is on the disk."""
    rows = (f"K{n},p{n}@a{n % 97}.example,Bureau nº {n},en,{'x' * 200},g,true" for n in range(3000))
    files: dict[str, str | bytes | None] = {
        "people.csv": HEAD + "\n".join(rows) + "\n",
        "letters/report.pdf": pdf("x" * 50_000),
    }
    draft = Draft(write_campaign(tmp_path, files=files))
    found = Summary()
    items = draft.items()
    tracemalloc.start()
    try:
        _take(items, found, 2000)  # what is remembered to save time has a limit; by now it is reached
        before, _ = tracemalloc.get_traced_memory()
        _take(items, found, 1000)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.letters == 3000
    assert after - before < 1000 * 200  # keys, digests and mailboxes alone would be more
    assert peak < 4_000_000


def _take(items: Iterator[Item], found: Summary, count: int) -> None:
    for _, item in zip(range(count), items, strict=False):
        found.add(item)


# -- what changed since it was sealed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "same", "other", "gone"),
    [
        (State.READY, "same", "changed", "removed"),
        (State.LEASED, "same", "changed", "removed"),
        (State.FAILED, "same", "changed", "removed"),
        (State.SUPPRESSED, "same", "changed", "removed"),
        (State.ACCEPTED, "accepted", "accepted", "gone"),
        (State.CLOSED_UNKNOWN, "accepted", "accepted", "gone"),
        (State.UNKNOWN, "unknown", "unknown", "unknown"),
        (State.AT_RISK, "unknown", "unknown", "unknown"),
        (State.CANCELLED, "changed", "changed", ""),
        (State.TO_PRINT, "same", "changed", "removed"),
        (State.PRINTED, "same", "printed", "printed"),
        (State.POSTED, "accepted", "accepted", "gone"),
    ],
)
def test_compare(state: State, same: str, other: str, gone: str) -> None:
    """What may have been sent is never among what would be sent again."""

    def kind(changes: Changes) -> str:
        return ", ".join(name for name, count in changes.counts().items() if count)

    for digest, there, wanted in (
        ("old", Standing(1, "old", state), same),
        ("new", Standing(1, "old", state), other),
        ("new", None, "new"),
    ):
        changes = Changes()
        changes.add("A", digest, (), there)
        assert kind(changes) == wanted
    changes = Changes()
    changes.miss("A", state)
    assert kind(changes) == gone


def kind(*keys: str) -> Kind:
    found = Kind()
    for key in keys:
        found.add(key)
    return found


def test_differences_name_what_lies_behind(tmp_path: Path) -> None:
    before = Draft(write_campaign(tmp_path / "a")).frozen.as_data()
    files: dict[str, str | bytes | None] = {
        "letters/letter.en.md": ENGLISH.replace("Your vote", "Your voice"),
        "letters/letter.es.md": ENGLISH,
        "letters/forms.es.toml": (tmp_path / "a" / "letters" / "forms.en.toml").read_bytes(),
        "campaign.toml": settings().replace("bounces@", "returns@"),
    }
    now = Draft(write_campaign(tmp_path / "b", files=files)).frozen.as_data()
    changes = Changes(kind("A"), kind(*"012345678"), kind("R"), accepted=kind("X"), unknown=kind("U"))
    lines = differences(before, now, changes)
    assert lines[:5] == [
        "1 new letter: A",
        "9 changed letters: 0, 1, 2, 3, 4 and 4 more",
        "1 removed letter: R",
        "1 already accepted or posted: these are never sent again",
        "1 unknown, held as they are until resolved: U",
    ]
    assert "return_path: 'bounces@orchard.example.org' → 'returns@orchard.example.org'" in lines
    assert "template.letters.en.text differs:" in lines
    assert "    -Your vote counts." in lines
    assert "    +Your voice counts." in lines
    assert "template.letters.es is new" in lines
    assert max(map(len, lines)) < 200
    assert differences(before, before, Changes(same=4)) == ["the letters are the same, but their list is not"]
