"""Plain text is wrapped as people would wrap it; conditions over a row mean what they say."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.core.errors import Place, TemplateError
from dispatcher.core.jinja import Expression
from dispatcher.core.render import Renderer
from dispatcher.core.text import WIDTH, curly, display_width, finish, printable, typeset, wrap
from tests.rendered import recipient, source, text

# -- plain text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "columns"),
    [
        ("abc", 3),
        ("é", 1),
        ("e\u0301", 1),
        ("日本", 4),
        ("ｆ", 2),
        ("“’–…", 4),
        ("កម្ពុជា", 4),
        ("ព្រះរាជាណាចក្រ", 10),
        ("a\u00adb\u200d", 2),
        ("עִבְ", 2),
        ("", 0),
    ],
)
def test_display_width(shown: str, columns: int) -> None:
    assert display_width(shown) == columns


def test_wrap_keeps_lists_and_quotes() -> None:
    words = "word " * 30
    assert [line[:8] for line in wrap(f"- {words.strip()}")] == ["- word w", "  word w", "  word w"]
    assert [line[:8] for line in wrap(f"> 12. {words.strip()}")] == ["> 12. wo", ">     wo", ">     wo"]


def test_wrap_leaves_long_words_and_no_break_spaces() -> None:
    url = "https://example.org/" + "x" * 100
    assert wrap(f"see {url} there") == ["see", url, "there"]
    glued = "a\u00a0" * 50 + "b"
    assert wrap(f"{'c ' * 30}{glued}") == [("c " * 30).strip(), glued]


def test_wrap_fills_a_line_to_its_end() -> None:
    assert wrap("aaaa bbbbb c", 10) == ["aaaa bbbbb", "c"]
    assert wrap("aaaa bbbbbb c", 10) == ["aaaa", "bbbbbb c"]


def test_wrap_counts_wide_characters_twice() -> None:
    assert wrap("한국어 " * 20) == ["한국어 " * 9 + "한국어", "한국어 " * 9 + "한국어 "]


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("敬启者谨随函附上报告", ["敬启者谨随", "函附上报告"]),
        ("敬启者谨随，函附上。", ["敬启者谨", "随，函附", "上。"]),
        ("敬启者谨（随）函", ["敬启者谨", "（随）函"]),
        ("敬启者 report.pdf 函", ["敬启者", "report.pdf", "函"]),
        ("report敬启者", ["report敬启", "者"]),
        ("カードがー", ["カードがー"]),
        ("カードがカー", ["カードが", "カー"]),
        ("か\u3099か\u3099か\u3099か\u3099か\u3099か\u3099", ["か\u3099" * 5, "か\u3099"]),
        ("សូម\u200bគោរព\u200bជូន\u200bលោក\u200bជំទាវ", ["សូម\u200bគោរព\u200bជូន\u200b", "លោក\u200bជំទាវ"]),
        ("សូមគោរពជូនលោកជំទាវ", ["សូមគោរពជូនលោកជំទាវ"]),
        ("日" * 4 + "\u00a0" + "日", ["日日日", "日\u00a0日"]),
        ("-  wwwwwwwwwwww x", ["-  wwwwwwwwwwww", "  x"]),
    ],
)
def test_wrap_within_words_where_a_script_allows(line: str, lines: list[str]) -> None:
    """Ten columns: Chinese and Japanese between characters, but for closing and opening marks; Khmer at its marks."""
    assert wrap(line, 10) == lines


def test_finish_never_leaves_holes() -> None:
    assert finish("\n\na  \n\n\n \nb\n\n".splitlines()) == "a\n\nb\n"
    assert finish("    code first".splitlines()) == "    code first\n"


LINES = st.text(st.sampled_from("ab日é\u0301’ \u00a0-.1>"), max_size=300)


@settings(max_examples=150)
@given(LINES, st.integers(10, 80))
@example("- " + "a " * 60, 72)
@example("日" * 90, 72)
def test_wrap_property(line: str, width: int) -> None:
    """No line is too wide but for a single word; no word is cut or lost; wrapping twice is wrapping once."""
    lines = wrap(line, width)
    assert "".join(lines).replace(" ", "").lstrip(">").replace(">", "") == line.replace(" ", "").replace(">", "")
    for wrapped in lines:
        bare = wrapped.lstrip(" >-.1")
        assert display_width(wrapped) <= width or " " not in bare.strip(" ")
    assert [again for one in lines for again in wrap(one, width)] == lines or line.startswith((" ", ">", "-", "1"))


def test_lines_of_a_letter_fit() -> None:
    rendered = text("- " + "des mots “très” importants " * 20 + "\n\n" + "of words " * 40)
    assert max(display_width(line) for line in rendered.split("\n")) <= WIDTH


def test_printable() -> None:
    assert printable("a\x1b]0;b\u202ec\u00a0é\n") == "a\\x1b]0;b\\u202ec\u00a0é\n"


# -- typography and direction -----------------------------------------------------------------------------------------

FRENCH = "« Excellence » : venez ; voici ! Oui ?"


def test_french_blanks_do_not_break() -> None:
    """Where one was typed, in the author's text alone; none is added."""
    found = typeset(FRENCH, "fr-CH")
    assert found == "«\u202fExcellence\u202f»\u202f: venez\u202f; voici\u202f! Oui\u202f?"
    assert typeset(FRENCH, "en") == FRENCH
    assert typeset("à 14:30 (https://example.org/?a:b)", "fr") == "à 14:30 (https://example.org/?a:b)"


def test_french_letters_have_french_blanks() -> None:
    """In text, emphasis and subject, in plain text and HTML; not in code, links and cells."""
    body = "Voici **tout** : « {{ name }} » ; `a : b` [là !](https://example.org/a:b)"
    rendering = Renderer(source(body, subject="Objet : {{ name }} !", language="fr")).render(
        recipient(name="A : b"), ()
    )
    shown = "Voici tout\u202f: «\u202fA : b\u202f»\u202f; a : b là\u202f! <https://example.org/a:b>"
    assert shown in rendering.text.replace("\n", " ")
    assert "</strong>\u202f: «\u202fA : b\u202f»\u202f; <code>a : b</code>" in rendering.html
    assert rendering.subject == "Objet\u202f: A : b\u202f!"


ARABIC = "المراجعة الدورية"


@pytest.mark.parametrize(
    ("line", "direction", "shown"),
    [
        (f"See {ARABIC}.", "ltr", f"See [{ARABIC}]."),
        (f"{ARABIC} now", "ltr", f"<[{ARABIC} now]"),
        (f"{ARABIC} KMS", "rtl", f"<[{ARABIC} KMS]"),
        (f"{ARABIC} (KMS)", "rtl", f"<[{ARABIC} (KMS)]"),
        (f"{ARABIC} Khmer M'Chas Srok (KMS).", "rtl", f"<[{ARABIC} [Khmer M'Chas Srok (KMS)].]"),
        (f"{ARABIC} 2009-10-01", "rtl", f"<[{ARABIC} [2009-10-01]]"),
        (f"{ARABIC} a@example.org, https://example.org/", "rtl", f"<[{ARABIC} [a@example.org, https://example.org]/]"),
        (f"{ARABIC} a@example.org", "rtl", f"<[{ARABIC} a@example.org]"),
        ("Khmer M'Chas Srok", "rtl", "Khmer M'Chas Srok"),
        (f"> KMS {ARABIC}", "rtl", f"> <[<KMS {ARABIC}]"),
        ("> إيران (جمهورية - الإسلامية) said", "ltr", "> <[إيران (جمهورية - الإسلامية) said]"),
        ("To إيران (جمهورية - الإسلامية).", "ltr", "To [إيران (جمهورية - الإسلامية)]."),
    ],
)
def test_directions_are_isolated(line: str, direction: str, shown: str) -> None:
    """[ ] are isolates, < says that the line runs from right to left."""
    marks = str.maketrans({"\u2068": "[", "\u2069": "]", "\u200f": "<"})
    assert finish([line], direction).translate(marks) == shown + "\n"


MIXED = st.text(st.sampled_from("ابج abc12()- .\n>"), max_size=200)


@given(MIXED, st.sampled_from(["ltr", "rtl"]))
def test_isolates_change_nothing_but_order(text: str, direction: str) -> None:
    """They are balanced in each line, take no column, and without them the text is what it was."""
    found = finish(text.splitlines(), direction)
    for line in found.split("\n"):
        depth = [line[: at + 1].count("\u2068") - line[: at + 1].count("\u2069") for at in range(len(line))]
        assert min(depth, default=0) >= 0
        assert (depth or [0])[-1] == 0
        assert display_width(line) <= WIDTH
    bare = re.sub("[\u2068\u2069\u200f]", "", found)
    assert re.sub("[ابج]", "a", bare) == finish(re.sub("[ابج]", "a", text).splitlines())


# -- conditions -------------------------------------------------------------------------------------------------------

HERE = Place("campaign.toml", 9, "key where")
ROW = {"language": "fr", "member": "true", "observer": "false", "m49": "004", "context": "y", "key": "NA"}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("member", True),
        ("observer", False),
        ("not observer", True),
        ('language == "fr" and member', True),
        ('language in ["en", "es"]', False),
        ('m49 == "004"', True),
        ('key == "NA"', True),
        ('member == "true"', True),
        ('key.startswith("N") or observer', True),
        ("m49|int > 3", True),
        ("missing is defined", False),
        ('context == "y"', True),
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    assert Expression(condition, HERE).holds(ROW) is holds


@pytest.mark.parametrize(
    "condition", ["", "langauge ==", "a b", "{{ member }}", "member)", "{% if x %}", "(" * 5000, "x = 1"]
)
def test_conditions_that_are_none(condition: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Expression(condition, HERE)
    assert caught.value.problems[0].where == HERE
    assert caught.value.problems[0].todo


@pytest.mark.parametrize(
    "condition",
    [
        "langauge == 'fr'",
        "key.__class__",
        "key * 1000000000 == ''",
        "m49 > 3",
        "key.nothing",
        "1 / 0",
        "key.center(10**9)",
    ],
)
def test_conditions_that_fail(condition: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Expression(condition, HERE).holds(ROW)
    (found,) = caught.value.problems
    assert found.where == HERE
    assert "Columns are: language, member" in found.todo
    assert condition != "langauge == 'fr'" or "did you mean 'language'" in found.todo


@pytest.mark.parametrize(
    ("given_", "printed"),
    [
        ("Côte d'Ivoire", "Côte d’Ivoire"),
        ("M'Chas’s l'Œuvre", "M’Chas’s l’Œuvre"),
        ("5' 6\" 'quoted' the States'", "5' 6\" 'quoted' the States'"),
        ("o'neil@example.org", "o'neil@example.org"),
        ("https://example.org/d'Ivoire", "https://example.org/d'Ivoire"),
        ("", ""),
    ],
)
def test_curly_is_for_apostrophes_inside_words(given_: str, printed: str) -> None:
    assert curly(given_) == printed


@given(st.text())
def test_curly_changes_nothing_else(anything: str) -> None:
    assert curly(anything).replace("’", "'") == anything.replace("’", "'")
    assert curly(curly(anything)) == curly(anything)
