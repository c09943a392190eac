"""Plain text is wrapped as people would wrap it; conditions over a row mean what they say."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.core.errors import Place, TemplateError
from dispatcher.core.jinja import Expression
from dispatcher.core.text import WIDTH, curly, display_width, finish, printable, wrap
from tests.rendered import text

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
        ("កម្ពុជា", 5),
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
    assert wrap("日本語 " * 20) == ["日本語 " * 9 + "日本語", "日本語 " * 9 + "日本語 "]


def test_finish_never_leaves_holes() -> None:
    assert finish("\n\na  \n\n\n \nb\n\n") == "a\n\nb\n"
    assert finish("    code first") == "    code first\n"


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
