"""What a careful reader would mend in a letter: each fault is found with its place, and no founding letter has one."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.errors import CampaignError
from dispatcher.core.lint import KINDS, Remark
from dispatcher.desk import Desk
from dispatcher.desk.checking import Check, check_folder
from dispatcher.desk.draft import Draft
from tests.campaigns import FORMS, write_campaign
from tests.command import dispatcher
from tests.rendered import lint_of

HEAD = "key,email,name,language,city,group,member,gender,salutation,call,close\n"
WHOLE = "{{ salutation }}\n\nwe send the report to {{ city }}.\n\n{{ close }}\n"


def campaign(folder: Path, letter: str = WHOLE, *rows: str, language: str = "en", **files: str) -> Path:
    """A campaign with one letter and these rows; a row is what stands behind key and email."""
    front = '+++\nsubject = "The harvest"\n+++\n'
    lines = [f"K{n},k{n}@missions.example.org,{row}" for n, row in enumerate(rows or ["A,,Bern,,,,,,"], 1)]
    named: dict[str, str | bytes | None] = {"letters/letter.fr.md": None, "letters/forms.fr.toml": None}
    named |= {"people.csv": HEAD + "\n".join(lines) + "\n", "letters/forms.en.toml": FORMS}
    named[f"letters/letter.{language}.md"] = front + letter
    named[f"letters/forms.{language}.toml"] = FORMS
    if language != "en":
        named["letters/letter.en.md"] = front + WHOLE
    return write_campaign(folder, files={**named, **files})


def remarks(folder: Path) -> list[Remark]:
    return Draft(folder).summary().remarks


def remark(folder: Path) -> Remark:
    (only,) = remarks(folder)
    assert only.todo
    return only


# A blank greeting


@pytest.mark.parametrize(
    "salutation",
    [
        "Dear {{ name }},",
        "Dear {{ name }}:",
        "Dear Mr. {{ name }},",
        "Dear Mr and Mrs {{ name }}",
        "Cher {{ name }},",
        "Chère Mme {{ name }},",
        "Estimado Sr. {{ name }}:",
        "Sehr geehrter Herr {{ name }},",
        "{{ name }},",
        "Hello {{ name }},",
        "Уважаемый {{ name }}!",
        "Estimada {{ name }}:",
    ],
)
def test_a_blank_greeting(salutation: str, tmp_path: Path) -> None:
    found = remark(campaign(tmp_path, f"{salutation}\n\nwe send it.\n", ",,Bern,,,f,,,"))
    assert found.kind == "greeting"
    assert found.grave
    assert str(found.where) == "letters/letter.en.md:4" or salutation.startswith("{{")
    assert "nobody is named in the salutation" in found.what


@pytest.mark.parametrize("salutation", ["Dear friends,", "Hello,", "Hi all,", "Dear Ms. Smith,", "Dear Dr. O'Neil,"])
def test_a_greeting_that_names_somebody(salutation: str, tmp_path: Path) -> None:
    assert remarks(campaign(tmp_path, f"{salutation}\n\nwe send it.\n", "A,,Bern,,,f,,,")) == []


# Another language


@pytest.mark.parametrize(
    ("language", "salutation", "other"),
    [
        ("fr", "Dear Sir,", "en"),
        ("fr", "Your Excellency,", "en"),
        ("fr", "Señor Embajador:", "es"),
        ("es", "Monsieur l’Ambassadeur,", "fr"),
        ("en", "Madame, Monsieur,", "fr"),
        ("en", "Excelentísimo Señor Embajador:", "es"),
        ("de", "Dear Sir or Madam,", "en"),
        ("ru", "Dear friends,", "en"),
        ("ar", "Excellence,", "fr"),
    ],
)
def test_a_salutation_in_another_language(language: str, salutation: str, other: str, tmp_path: Path) -> None:
    """Typed into the letter, and in the recipient's own cell."""
    row = f"A,{language},Bern,,,,,,"
    foreign = {f"letters/forms.{language}.toml": FORMS.replace("Dear friends", "Xyz friends")}
    for name, letter, own, where in (
        ("letter", f"{salutation}\n\nwe send it.\n", row, f"letters/letter.{language}.md:4"),
        ("cell", WHOLE, row.replace(",,,,,,", f',,,,"{salutation}",,'), "people.csv:2, column salutation"),
    ):
        found = [
            one
            for one in remarks(campaign(tmp_path / name, letter, own, language=language, **foreign))
            if one.kind == "language"
        ]
        assert [str(one.where) for one in found] == [where]
        assert found[0].grave
        assert f"is {other}" in found[0].what


def test_the_campaigns_own_forms_say_what_is_of_a_language(tmp_path: Path) -> None:
    """A word nobody foresaw belongs to the language in whose forms it stands, and one of two languages to both."""
    swedish = FORMS.replace("Dear friends,", "Bästa vänner,").replace('"friends"', '"vänner"')
    files = {"letters/letter.sv.md": '+++\nsubject = "x"\n+++\n' + WHOLE, "letters/forms.sv.toml": swedish}
    found = remark(campaign(tmp_path / "a", "Bästa vänner,\n\nwe send it.\n", **files))
    assert (found.kind, found.what) == ("language", "the salutation “Bästa vänner,” is sv, and the letter is en")
    assert remarks(campaign(tmp_path / "b", WHOLE, "A,sv,Bern,,,,,,", **files)) == []
    assert remarks(campaign(tmp_path / "c", WHOLE, "A,fr,Bern,,,,,,", language="fr")) == []


# A placeholder


@pytest.mark.parametrize(
    "left",
    [
        "[Name]",
        "[your name]",
        "[insert the date here]",
        "XXX",
        "xxxx",
        "TODO",
        "TBD",
        "Lorem ipsum",
        "«First name»",
        "<name>",
        "${name}",
        "[Prénom]",
        "<<First Name>>",
    ],
)
def test_a_placeholder_that_was_left_in(left: str, tmp_path: Path) -> None:
    """Wherever it comes from: the cell, the letter."""
    found = remark(campaign(tmp_path / "cell", WHOLE, f"A,,{left},,,,,,"))
    assert (found.kind, str(found.where), found.grave) == ("placeholder", "people.csv:2, column city", True)
    assert found.what == f"{left!r} was left in" or "Lorem" in left
    if not left.startswith("<"):
        letter = WHOLE.replace("we send", f"we send {left}")
        typed = [one for one in remarks(campaign(tmp_path / "letter", letter)) if one.kind == "placeholder"]
        assert [str(one.where) for one in typed] == ["letters/letter.en.md:6"]


def test_fields_of_other_programs_from_a_cell(tmp_path: Path) -> None:
    """They are not merged, for cells are never templates; and they are not sent."""
    assert [one.what for one in remarks(campaign(tmp_path, WHOLE, "A,,{{ Name }},,,,,,"))] == [
        "'{{ Name }}' was left in"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "[sic]",
        "[…]",
        "«Camboya»",
        "the XX century",
        "a < b",
        "Maxxxi",
        "todo el mundo",
        "Dear [Name",
        "x@y.example",
    ],
)
def test_what_only_looks_like_a_placeholder(text: str, tmp_path: Path) -> None:
    assert remarks(campaign(tmp_path, WHOLE, f"A,,{text},,,,,,")) == []


# Gaps


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("we send {{ group }} it", "we send  it"),
        ("to {{ city }} {{ group }}, and others", " ,"),
        ("to {{ group }}.", " ."),
        ("to {{ city }}, {{ group }}, others", ", ,"),
        ("the report ({{ group }}) is", "()"),
        ("the report “{{ group }}” is", "“”"),
        ("{{ group }}, we send it", ", we"),
    ],
)
def test_gaps_that_an_empty_field_leaves(text: str, shown: str, tmp_path: Path) -> None:
    letter = f"Dear friends,\n\nOne line.\n\n{text}\n"
    found = remark(campaign(tmp_path, letter))
    assert (found.kind, found.grave) == ("gap", False)
    assert shown in found.what
    assert found.where.file == "letters/letter.en.md"
    assert found.where.line in (8, None)
    assert remarks(campaign(tmp_path / "filled", letter, "A,,Bern,Europe,,,,,")) == []


@pytest.mark.parametrize(
    "text",
    [
        "One.  Two.",
        "a … b ... c",
        "| a | b |\n|---|---|\n| {{ group }} | c |",
        "    code  here",
        "see .docx files",
        "f(x)",
        "Qui ? Vous ; moi : oui !",
        "1. one\n2. two",
        "No. 5, etc., and so on",
    ],
)
def test_what_is_no_gap(text: str, tmp_path: Path) -> None:
    assert remarks(campaign(tmp_path, f"Dear friends,\n\n{text}\n")) == []


# The call


FRENCH_FORMS = (
    FORMS.replace("Dear friends,", "Excellence,")
    .replace('call = "friends"', 'call = "Excellence"')
    .replace("Accept, {call}, our regards.", "Veuillez agréer, {call}, nos salutations.")
)


@pytest.mark.parametrize(
    ("letter", "cells"),
    [
        (WHOLE, ",,,"),
        (WHOLE, ',"Monsieur le Ministre,",,'),
        (WHOLE, ',"Monsieur l\'Ambassadeur,",,'),
        (WHOLE, ',,,"Veuillez croire, Excellence, à nos sentiments."'),
        (
            "Madame la Présidente,\n\nNous écrivons.\n\nVeuillez agréer, Madame la Présidente, nos salutations.\n",
            "f,,,",
        ),
        ("Chers amis,\n\nNous écrivons.\n\nBien à vous,\n", ",,,"),
        ("{{ salutation }}\n\nNous écrivons.\n\nBien à vous,\n", ",,,"),
        (WHOLE + "\nP.-S. Une chose encore.\n", ",,,"),
    ],
)
def test_a_close_that_repeats_the_call(letter: str, cells: str, tmp_path: Path) -> None:
    files = {"letters/forms.fr.toml": FRENCH_FORMS}
    assert remarks(campaign(tmp_path, letter, f"A,fr,Bern,,,{cells}", language="fr", **files)) == []


@pytest.mark.parametrize(
    ("letter", "cells", "where"),
    [
        (WHOLE, ",,Altesse,", "letters/letter.fr.md"),
        (WHOLE, ",,,Respectueusement.", "people.csv:2, column close"),
        (WHOLE, ',"Altesse,",Excellence,', "letters/letter.fr.md"),
        (
            "Monsieur l’Ambassadeur,\n\nNous écrivons.\n\nVeuillez agréer, Madame, Monsieur, nos salutations.\n",
            "m,,,",
            "letters/letter.fr.md:8",
        ),
    ],
)
def test_a_close_that_does_not(letter: str, cells: str, where: str, tmp_path: Path) -> None:
    files = {"letters/forms.fr.toml": FRENCH_FORMS}
    found = remark(campaign(tmp_path, letter, f"A,fr,Bern,,,{cells}", language="fr", **files))
    assert (found.kind, str(found.where), found.grave) == ("call", where, False)
    assert "does not repeat the call" in found.what


# Who it is to


@pytest.mark.parametrize(
    "text", ["Dear Mr/Ms Smith,", "Dear Sir/Madam,", "Dear Mr. or Ms. Smith,", "Estimado/a amigo:"]
)
def test_a_form_for_anybody(text: str, tmp_path: Path) -> None:
    for gender in ("", "f"):
        folder = campaign(tmp_path / f"to-{gender}", f"{text}\n\nwe send it.\n", f"A,,Bern,,,{gender},,,")
        found = {one.kind: one for one in remarks(folder)}
        assert "nobody knows whom the letter is to" in found["guess"].what
        assert found["guess"].where.line == 4
        assert not found["guess"].grave
        assert "gender" not in found


def test_sir_or_madam_and_two_of_a_kind_are_neutral(tmp_path: Path) -> None:
    for number, text in enumerate(("Dear Sir or Madam,", "Dear Mr. and Mrs. Smith,", "Madam or Sir,")):
        assert remarks(campaign(tmp_path / str(number), f"{text}\n\nThis and/or that (if any).\n")) == []


def test_a_gender_that_nobody_knows_is_not_guessed(tmp_path: Path) -> None:
    letter = "Dear Mr. {{ name }},\n\nwe send it.\n"
    found = remark(campaign(tmp_path / "guess", letter, "Smith,,Bern,,,,,,"))
    assert (found.kind, str(found.where)) == ("guess", "letters/letter.en.md:4")
    found = remark(campaign(tmp_path / "wrong", letter, "Smith,,Bern,,,f,,,"))
    assert (found.kind, found.grave) == ("gender", True)
    found = remark(campaign(tmp_path / "cell", WHOLE, 'Smith,,Bern,,,f,"Dear Mr. Smith,",Mr. Smith,'))
    assert (found.kind, str(found.where)) == ("gender", "people.csv:2, column salutation")
    assert remarks(campaign(tmp_path / "right", letter, "Smith,,Bern,,,m,,,")) == []
    assert remarks(campaign(tmp_path / "own", WHOLE, 'Smith,,Bern,,,,"Dear Mr. Smith,",Mr. Smith,')) == []


# Apostrophes


def test_two_kinds_of_apostrophe_in_one_letter(tmp_path: Path) -> None:
    letter = WHOLE.replace("we send", "here’s the sender's")
    found = remark(campaign(tmp_path / "mixed", letter))
    assert (found.kind, found.grave, str(found.where)) == ("apostrophe", False, "letters/letter.en.md:6")
    assert "“sender's”" in found.what
    beside = letter.replace("sender's", "o'neil@b.example (https://b.example/it's) sender's")
    assert "“sender's”" in remark(campaign(tmp_path / "beside", beside)).what, "an address hides no word beside it"
    found = remark(campaign(tmp_path / "cell", WHOLE.replace("we", "here’s what we"), "A,,Côte d'Ivoire,,,,,,"))
    assert str(found.where) == "people.csv:2, column city"
    typographic = {"letters/forms.en.toml": 'apostrophe = "’"\n' + FORMS}
    mended = WHOLE.replace("we", "here’s what we")
    assert remarks(campaign(tmp_path / "forms", mended, "A,,Côte d'Ivoire,,,,,,", **typographic)) == []
    assert remarks(campaign(tmp_path / "one", WHOLE.replace("we", "here's what we"), "A,,Côte d'Ivoire,,,,,,")) == []
    assert (
        remarks(campaign(tmp_path / "mail", WHOLE.replace("we", "here’s what we"), "A,,o'neil@b.example,,,,,,")) == []
    )


# All together


def test_the_same_on_many_letters_is_one_line(tmp_path: Path) -> None:
    folder = campaign(
        tmp_path, "Dear {{ name }},\n\nwe send it to {{ city }} ({{ group }}).\n", *[",,Bern,,,,,,"] * 2000
    )
    found = {one.kind: one for one in remarks(folder)}
    assert {kind: one.letters for kind, one in found.items()} == {"greeting": 2000, "gap": 2000}
    assert found["gap"].in_words.endswith("in 2,000 letters (K1, K2, K3, K4, K5 and 1,995 more)")
    [problem] = Draft(folder).summary().problems
    assert str(problem.where) == "letters/letter.en.md:4, recipient K1"
    assert 'overlook = ["greeting"] under [letter]' in problem.todo


def test_different_faults_have_an_end_too(tmp_path: Path) -> None:
    letter = "Dear friends,\n\n" + "\n\n".join(f"line {n} {{{{ group }}}} end" for n in range(300)) + "\n"
    assert len(remarks(campaign(tmp_path, letter))) == 100


def test_two_gaps_in_one_line_are_one_letter(tmp_path: Path) -> None:
    assert remark(campaign(tmp_path, "Dear friends,\n\nto {{ group }} and {{ group }} it\n")).letters == 1


def test_what_is_meant_is_overlooked(tmp_path: Path) -> None:
    letter = "Dear {{ name }},\n\nwe send it to {{ group }} XXX.\n"
    folder = campaign(tmp_path, letter, ",,Bern,,,,,,")
    assert {one.kind for one in remarks(folder)} == {"greeting", "placeholder", "gap"}
    toml = folder / "campaign.toml"
    line = 'overlook = ["greeting", "placeholder", "gap"]\n'
    toml.write_text(toml.read_text(encoding="utf-8").replace("[letter]\n", "[letter]\n" + line), encoding="utf-8")
    assert remarks(folder) == []
    toml.write_text(toml.read_text(encoding="utf-8").replace('"gap"', '"gaps"'), encoding="utf-8")
    with pytest.raises(CampaignError, match=r"campaign\.toml:\d+, key letter\.overlook"):
        Draft(folder)


def test_check_says_all_of_it_and_send_refuses(tmp_path: Path) -> None:
    folder = campaign(tmp_path, "Dear {{ name }},\n\nwe send it to {{ group }} XXX.\n", ",,Bern,,,,,,")
    said = dispatcher("check", folder=folder)
    assert said.code == 2
    assert "letters/letter.en.md:6: doubled blanks or punctuation" in said.out
    assert (
        "nobody is named in the salutation “Dear ,”, in 1 letter (K1)\n  at letters/letter.en.md:4, recip" in said.err
    )
    found = json.loads(dispatcher("check", "--json", folder=folder).out)
    assert [(one["kind"], one["letters"], one["recipients"], one["grave"]) for one in found["remarks"]] == [
        ("greeting", 1, ["K1"], True),
        ("placeholder", 1, ["K1"], True),
        ("gap", 1, ["K1"], False),
    ]
    assert len(found["problems"]) == 2
    refused = dispatcher("send", folder=folder)
    assert refused.code == 2
    assert "nobody is named in the salutation" in refused.err


def checked(folder: Path) -> Check:
    return check_folder(Desk(folder))


def test_who_gets_another_language_is_named(tmp_path: Path) -> None:
    rows = ["A,de,Bern,,,,,,"] * 150 + ["A,pt,Bern,,,,,,"]
    folder = campaign(tmp_path, WHOLE, *rows)
    found = checked(folder)
    assert found.fallbacks == {"de → en": 150, "pt → en": 1}
    assert {pair: len(keys) for pair, keys in found.fallback_recipients.items()} == {"de → en": 100, "pt → en": 1}
    assert found.as_data()["fallback_recipients"]["pt → en"] == ["K151"]
    said = dispatcher("check", folder=folder).out
    assert "150 in another language than asked for: de → en (K1, K2, K3, K4, K5 and 145 more)" in said
    assert "1 in another language than asked for: pt → en (K151)" in said


def test_the_founding_letters_are_clean() -> None:
    assert Draft(Path(__file__).resolve().parent.parent).summary().remarks == []


def test_every_kind_has_a_test_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f'"{kind}"' not in source] == []


# It reads anything.


@given(st.text(), st.text(max_size=99), st.sampled_from(["", "f", "m"]))
def test_anything_can_be_read(text: str, salutation: str, gender: str) -> None:
    for one in lint_of(f"{salutation}\n\n{text}", gender=gender, salutation=salutation):
        assert one.kind in KINDS
        assert one.in_words
        assert one.problem.todo


@pytest.mark.parametrize(
    "piece", [" ", "{", "{{", "[insert ", "«", "<", "{%", ", ", "( ", "Mr / ", "x", "X", "'", "“ ", "<<"]
)
def test_no_text_runs_away_with_a_regular_expression(piece: str) -> None:
    lint_of("Dear friends,\n\n" + piece * (90_000 // len(piece)))
