"""Fields as Word and Thunderbird write them are met with a hint, and quotations are left alone."""

from pathlib import Path

import pytest

from dispatcher.core.errors import Place, TemplateError
from dispatcher.core.placeholders import foreign_fields
from dispatcher.core.render import SourceFile
from dispatcher.desk.draft import Draft
from tests.campaigns import ENGLISH, FRENCH, LETTER, PEOPLE, write_campaign

COLUMNS = ("key", "email", "name", "Family Name", "post_code")


def hints(text: str) -> list[tuple[int | None, str]]:
    return [(p.where.line, p.todo) for p in foreign_fields([SourceFile("letter.en.md", text)], COLUMNS)]


@pytest.mark.parametrize("text", ["Dear «name»,", "Dear «Name»,", "Dear «NAME»,", "Dear <<Name>>,"])
def test_a_field_of_word_is_told_by_the_columns(text: str) -> None:
    ((line, todo),) = hints(f"+++\n\n{text}")
    assert (line, todo.startswith("write {{ name }};")) == (3, True)


@pytest.mark.parametrize("name", ["Post_Code", "post code", "Post-Code"])
def test_blanks_and_underscores_are_one(name: str) -> None:
    ((_, todo),) = hints(f"«{name}»")
    assert todo.startswith("write {{ post_code }};")


def test_a_column_of_two_words_must_be_renamed() -> None:
    ((_, todo),) = hints("«Family_Name»")
    assert "write {{ Family_Name }}, and rename column 'Family Name' to 'Family_Name' in the list" in todo


def test_a_field_without_a_column() -> None:
    ((_, todo),) = hints("«First_Name»")
    assert "write {{ First_Name }}, and add that column to the list: it has key, email, name" in todo
    ((_, todo),) = hints("«GreetingLine»")
    assert "{{ salutation }}" in todo


@pytest.mark.parametrize(
    "text",
    [
        "le rapport « name » de la session",
        "le rapport «\u00a0name\u00a0» de la session",
        "le rapport «\u202fname\u202f» de la session",
        "el informe «Los derechos» de la sesión",
        "доклад «Права человека»",
        "name",
        "«»",
        "a << name",
    ],
)
def test_quotations_are_left_alone(text: str) -> None:
    assert hints(text) == []


def test_check_names_each_once_with_its_place(tmp_path: Path) -> None:
    """In the subject too, and in every language; two lists do not say it twice."""
    files: dict[str, str | bytes | None] = {
        "letters/letter.en.md": ENGLISH.replace("{{ name }}", "«Name»"),
        "letters/letter.fr.md": FRENCH.replace("{{ city }}", "«City»"),
        "more.csv": PEOPLE.splitlines()[0] + "\n",
    }
    more = 'source = "people.csv"\n[[recipients]]\nsource = "more.csv"'
    found = Draft(write_campaign(tmp_path, files=files, recipients=more)).summary()
    assert list(dict.fromkeys(str(p.where) for p in found.problems)) == [
        "letters/letter.en.md:2",
        f"letters/letter.fr.md:{FRENCH.split(chr(10)).index('nous envoyons **le rapport** à {{ city }}.') + 1}",
    ]
    assert len(set(found.problems)) == 2
    assert found.letters == 4, "the rest is looked at all the same"


def test_what_is_meant_may_be_overlooked(tmp_path: Path) -> None:
    """By the same word as any other placeholder."""
    files = {"letters/letter.en.md": ENGLISH.replace("{{ name }}", "«Name»")}
    letter = f'{LETTER}overlook = ["placeholder"]\n'
    assert Draft(write_campaign(tmp_path, files=files, letter=letter)).summary().problems == []


@pytest.mark.parametrize("field", ["Name", "NAME", "City"])
def test_a_field_in_other_capitals_names_the_column(tmp_path: Path, field: str) -> None:
    files = {"letters/letter.en.md": ENGLISH.replace("{{ city }}", f"{{{{{field}}}}}")}
    problems = Draft(write_campaign(tmp_path, files=files)).summary().problems
    assert {(p.what, p.todo) for p in problems} == {
        (f"field '{field}' is missing", f"the column is called '{field.lower()}': write {{{{ {field.lower()} }}}}")
    }


def test_a_field_whose_column_has_a_blank(tmp_path: Path) -> None:
    files = {
        "letters/letter.en.md": ENGLISH.replace("{{ city }}", "{{ home_town }}"),
        "people.csv": PEOPLE.replace("city", "Home town"),
    }
    (*_, problem) = Draft(write_campaign(tmp_path, files=files)).summary().problems
    assert problem.todo == "the list has a column 'Home town': rename it to 'home_town', for a field is one word"


@pytest.mark.parametrize("place", ["{{ name }}", "{{ city }}"])
def test_a_field_of_two_words(tmp_path: Path, place: str) -> None:
    """Thunderbird's {{First name}}: in the subject and in the text."""
    text = ENGLISH.replace(place, "{{First  name}}")
    with pytest.raises(TemplateError) as caught:
        Draft(write_campaign(tmp_path, files={"letters/letter.en.md": text}))
    (problem,) = caught.value.problems
    line = next(n for n, found in enumerate(text.split("\n"), 1) if "First" in found)
    assert problem.where == Place("letters/letter.en.md", line)
    assert (
        problem.todo
        == "a field is one word: write {{ First_name }} for {{First  name}}, and call the column 'First_name'"
    )


@pytest.mark.parametrize(
    ("tag", "written"),
    [
        ("{{gender|f|Ms|Mr}}", '{% if gender == "f" %}Ms{% else %}Mr{% endif %}'),
        ("{{gender|f|Dear Madam}}", '{% if gender == "f" %}Dear Madam{% endif %}'),
        ("{{Home town|Bern|here|there}}", '{% if Home_town == "Bern" %}here{% else %}there{% endif %}'),
    ],
)
def test_a_choice_of_thunderbirds(tmp_path: Path, tag: str, written: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Draft(write_campaign(tmp_path, files={"letters/letter.en.md": ENGLISH.replace("{{ city }}", tag)}))
    (problem,) = caught.value.problems
    assert (problem.where.line, problem.todo) == (9, f"write {written} for {tag}")


def test_filters_are_no_choice(tmp_path: Path) -> None:
    text = ENGLISH.replace("{{ city }}", "{{ city|default('x')|upper|trim }} {{city|replace('a', '|')|lower}}")
    assert Draft(write_campaign(tmp_path, files={"letters/letter.en.md": text})).summary().problems == []


@pytest.mark.parametrize("tag", ["{{ 'a' if name else }}", "{{ name not in }}", "{% if name %}"])
def test_other_slips_are_not_taken_for_it(tmp_path: Path, tag: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Draft(write_campaign(tmp_path, files={"letters/letter.en.md": ENGLISH.replace("{{ city }}", tag)}))
    assert "one word" not in str(caught.value)
