"""Rendering: one source becomes subject, text and HTML; what is missing or wrong is named with its place."""

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.core.errors import Place, TemplateError
from dispatcher.core.model import Recipient
from dispatcher.core.render import Renderer, SourceFile, TemplateSource
from tests.naughty import CONTROLS, HEADER_TRICKS
from tests.rendered import BODY_LINE, body_of, own_text, problem, recipient, render, source, text

# -- text and HTML are twins ------------------------------------------------------------------------------------------

TWINS = {
    "heading": ("# On *apples*\n\nText.", "On apples\n\nText.\n", "<h1>On <em>apples</em></h1>\n<p>Text.</p>"),
    "soft and hard breaks": (
        "one\ntwo\\\nthree  \nfour",
        "one two\nthree\nfour\n",
        "<p>one\ntwo<br>\nthree<br>\nfour</p>",
    ),
    "lines of Chinese": (
        "敬启者，\n谨随函附上\nPDF。",
        "敬启者，谨随函附上 PDF。\n",
        "<p>敬启者，谨随函附上\nPDF。</p>",
    ),
    "bullets in bullets": (
        "- a\n  - b\n  - c\n- d",
        "- a\n  - b\n  - c\n- d\n",
        "<ul>\n<li>a\n<ul>\n<li>b</li>\n<li>c</li>\n</ul>\n</li>\n<li>d</li>\n</ul>",
    ),
    "numbers from three": ("3. a\n4. b", "3. a\n4. b\n", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>'),
    "numbers from nought": ("0. a\n1. b", "0. a\n1. b\n", '<ol start="0">\n<li>a</li>\n<li>b</li>\n</ol>'),
    "a list with room": (
        "- a\n\n  more\n\n- b",
        "- a\n\n  more\n\n- b\n",
        "<ul>\n<li>\n<p>a</p>\n<p>more</p>\n</li>\n<li>\n<p>b</p>\n</li>\n</ul>",
    ),
    "quotation": (
        "> a\n> b\n>\n> c\n\nd",
        "> a b\n>\n> c\n\nd\n",
        "<blockquote>\n<p>a\nb</p>\n<p>c</p>\n</blockquote>\n<p>d</p>",
    ),
    "code": ("`a*b`\n\n    x < y", "a*b\n\n    x < y\n", "<p><code>a*b</code></p>\n<pre><code>x &lt; y\n</code></pre>"),
    "fence": ("```\n{ x }\n```", "    { x }\n", "<pre><code>{ x }\n</code></pre>"),
    "rule": ("a\n\n---\n\nb", "a\n\n---\n\nb\n", "<p>a</p>\n<hr>\n<p>b</p>"),
    "link": (
        "[the site](https://example.org/)",
        "the site <https://example.org/>\n",
        '<p><a href="https://example.org/">the site</a></p>',
    ),
    "mail": (
        "[Ada](mailto:ada@example.org)",
        "Ada <ada@example.org>\n",
        '<p><a href="mailto:ada@example.org">Ada</a></p>',
    ),
    "autolinks": (
        "<https://example.org/é> <ada@example.org>",
        "https://example.org/é ada@example.org\n",
        (
            '<p><a href="https://example.org/%C3%A9">https://example.org/é</a>'
            ' <a href="mailto:ada@example.org">ada@example.org</a></p>'
        ),
    ),
    "found links": (
        "see www.example.org/x.",
        "see www.example.org/x.\n",
        '<p>see <a href="http://www.example.org/x">www.example.org/x</a>.</p>',
    ),
    "table": (
        "| a | b |\n|---|--:|\n| 1 | 2 |",
        "a | b\n1 | 2\n",
        (
            '<table>\n<thead>\n<tr>\n<th scope="col">a</th>\n<th style="text-align:right" scope="col">b</th>\n'
            "</tr>\n</thead>\n<tbody>\n<tr>\n"
            '<td>1</td>\n<td style="text-align:right">2</td>\n</tr>\n</tbody>\n</table>'
        ),
    ),
    "no HTML of one's own": ("a <b>c</b>", "a <b>c</b>\n", "<p>a &lt;b&gt;c&lt;/b&gt;</p>"),
    "braces": (r"\{\{ 7*7 }} &#123;% if %}", "{{ 7*7 }} {% if %}\n", "<p>{{ 7*7 }} {% if %}</p>"),
    "raw": ("{% raw %}{{ name }}{% endraw %}", "{{ name }}\n", "<p>{{ name }}</p>"),
    "if between items": (
        "- a\n{% if yes %}\n- b\n{% endif %}\n{% if no %}\n- c\n{% endif %}\n- d",
        "- a\n- b\n- d\n",
        "<ul>\n<li>a</li>\n<li>b</li>\n<li>d</li>\n</ul>",
    ),
    "if and else between numbered items": (
        "1. a\n{% if no %}\n2. b\n{% else %}\n2. c\n{% endif %}\n3. d",
        "1. a\n2. c\n3. d\n",
        "<ol>\n<li>a</li>\n<li>c</li>\n<li>d</li>\n</ol>",
    ),
    "numbered items in a loop": (
        '2. a\n{% for n in "x y".split() %}\n1. {{ n }}\n{% endfor %}\n7. z',
        "2. a\n3. x\n4. y\n5. z\n",
        '<ol start="2">\n<li>a</li>\n<li>x</li>\n<li>y</li>\n<li>z</li>\n</ol>',
    ),
    "if round a list": ("{% if no %}\n- a\n{% endif %}\n\nb", "b\n", "<p>b</p>"),
    "if round paragraphs": (
        "{% if yes %}\n\na\n\nb\n\n{% endif %}\n\nc",
        "a\n\nb\n\nc\n",
        "<p>a</p>\n<p>b</p>\n<p>c</p>",
    ),
    "loop round blocks": (
        '{% for n in "x y".split() %}\n\n## {{ n }}\n\n- {{ loop.index }}\n\n{% endfor %}',
        "x\n\n- 1\n\ny\n\n- 2\n",
        "<h2>x</h2>\n<ul>\n<li>1</li>\n</ul>\n<h2>y</h2>\n<ul>\n<li>2</li>\n</ul>",
    ),
    "rows in a loop": (
        '| n |\n|---|\n{% for n in "x y".split() %}\n| {{ n }} |\n{% endfor %}',
        "n\nx\ny\n",
        (
            '<table>\n<thead>\n<tr>\n<th scope="col">n</th>\n</tr>\n</thead>\n<tbody>\n'
            "<tr>\n<td>x</td>\n</tr>\n<tr>\n<td>y</td>\n</tr>\n</tbody>\n</table>"
        ),
    ),
    "if round a table": ("{% if no %}\n| a |\n|---|\n| 1 |\n{% endif %}\n\nb", "b\n", "<p>b</p>"),
    "tags in a quotation": ("> a\n> {% if no %}\n> b\n> {% endif %}", "> a\n", "<blockquote>\n<p>a</p>\n</blockquote>"),
    "tags beside a found link": (
        "{% if yes %}see https://example.org/x{% endif %}",
        "see https://example.org/x\n",
        '<p>see <a href="https://example.org/x">https://example.org/x</a></p>',
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_twins(name: str) -> None:
    """Whatever Markdown holds, text and HTML both show it, as a person would write it there."""
    markdown, plain, page = TWINS[name]
    rendering = render(markdown, layout="<body>{{ body }}", yes="true", no="false")
    assert own_text(rendering) == plain
    assert body_of(rendering) == page


def test_html_is_complete_and_self_contained() -> None:
    """Language and direction are set, styles stand in the elements, nothing points elsewhere."""
    page = render("Hello").html
    assert '<html lang="en" dir="ltr">' in page
    assert '<p style="margin: 0 0 1em;">Hello</p>' in page
    assert "<style" not in page
    assert not re.search(r"(?:src|href)=|url\(|@import", page)


def test_right_to_left() -> None:
    page = Renderer(source("سلام", language="ar")).render(recipient(), ()).html
    assert '<html lang="ar" dir="rtl">' in page


@pytest.mark.parametrize(
    "picture",
    ["![a](https://example.org/a.png)", "![a](a.png)", "![a]({{ url }})", "[![a](//example.org/a)](https://b.example)"],
)
def test_pictures_are_refused(picture: str) -> None:
    found = problem(f"one\ntwo {picture}\n", url="x")
    assert ("picture" in found.what, found.where.line) == (True, BODY_LINE + 1)


@pytest.mark.parametrize(
    "markup",
    [
        '<script src="https://x.example/a.js"></script>',
        "<SCRIPT>1</SCRIPT>",
        '<link rel="stylesheet" href="https://x.example/a.css">',
        '<img alt="" src="https://x.example/pixel">',
        '<table background="https://x.example/pixel"></table>',
        "<style>p { background: url(https://x.example/a) }</style>",
        "<style>@import 'https://x.example/a.css';</style>",
    ],
)
def test_layout_fetches_nothing(markup: str) -> None:
    found = problem("Hello", layout=f"<body>\n{markup}\n{{{{ body }}}}")
    assert (found.where.file, found.where.line) == ("layout.html", 2)


@pytest.mark.parametrize(
    ("layout", "word"),
    [("<body></body>", "no {{ body }}"), ("<body>{{ body }}{{ body }}", "twice"), ("{{ body }}", "no <body>")],
)
def test_layout_has_one_place_for_the_letter(layout: str, word: str) -> None:
    assert word in problem("Hello", layout=layout).what


def test_layout_may_have_tags_of_its_own() -> None:
    layout = "<body>{{ body }}<table>{% if yes %}<tr><td>{{ sender.name }}</td></tr>{% endif %}</table></body>"
    assert "<tr><td>Orchard Society</td></tr></tbody></table>" in render("x", layout=layout, yes="true").html
    assert "<td>" not in render("x", layout=layout, yes="false").html


# -- the subject ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [*CONTROLS, "\u2028", "\u2029", *(t for t in HEADER_TRICKS if not t.isprintable())])
def test_subject_takes_no_control_characters(cell: str) -> None:
    found = problem("x", subject="To {{ cell }}!", cell=cell)
    assert (found.where.file, found.where.line, found.where.recipient) == ("letter.md", 2, "NAM")
    assert cell not in found.what


def test_subject_blanks_and_emptiness() -> None:
    assert render("x", subject="  {{ a }}   {{ b }} ", a="", b="c").subject == "c"
    assert "empty" in problem("x", subject="{{ a }}", a=" ").what


# -- what is missing, and where ---------------------------------------------------------------------------------------

MISSING = {
    "first line": ("{{ nmae }}", 0),
    "later": ("one\ntwo\n\n{{ name }} and {{ nmae }}", 3),
    "same paragraph": ("one {{ name }}\ntwo {{ name }}\nthree {{ nmae }}\nfour {{ name }}", 2),
    "emphasis": ("one\n\n**{{ name }} {{ nmae }}**", 2),
    "list": ("- a\n- {{ name }}\n- {{ nmae }}", 2),
    "nested list": ("- a\n  - {{ name }}\n  - {{ nmae }}", 2),
    "table": ("| a |\n|---|\n| {{ name }} |\n| {{ nmae }} |", 3),
    "quotation": ("> {{ name }}\n>\n> {{ nmae }}", 2),
    "code": ("```\n{{ name }}\n{{ nmae }}\n```", 2),
    "link text": ("a\n\n[{{ nmae }}](https://example.org)", 2),
    "link": ("a\n\n[x]({{ nmae }})", 2),
    "within a link": ("a\n\n[x](https://example.org/{{ nmae }})", 2),
    "if": ("a\n{% if name and nmae %}\nb\n{% endif %}", 1),
    "elif": ("{% if not name %}\na\n{% elif nmae %}\nb\n{% endif %}", 2),
    "inside an if": ("{% if name %}\n\na\n\n{{ nmae }}\n\n{% endif %}", 4),
    "loop": ("a\n\n{% for x in nmae %}\n{{ x }}\n{% endfor %}", 2),
    "inside a loop": ('a\n\n{% for x in "ab" %}\n- {{ x }} {{ nmae }}\n{% endfor %}', 3),
    "loop over rows": ('| a |\n|---|\n{% for x in "ab" %}\n| {{ nmae }} |\n{% endfor %}', 3),
    "set": ("a\n\n{% set x = nmae %}\n\n\n{{ x }}", 2),
    "filter": ("a\n\n{{ name|replace(nmae, name) }}", 2),
    "argument": ("a\n\n{{ long_date(nmae) }}", 2),
    "after a long tag": ("{{ name\n  |upper\n}}\n{{ nmae }}", 3),
    "after a comment": ("{# one\ntwo #}\n\n{{ nmae }}", 3),
    "after raw": ("{% raw %}{{\n}}{% endraw %}\n{{ nmae }}", 2),
    "trimmed": ("a\n{%- if name -%}\n\nb\n{% endif %}\n{{ nmae }}", 5),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_field_names_its_place(name: str) -> None:
    """Template, line, field and recipient, to the line; and the nearest name there is."""
    body, line = MISSING[name]
    found = problem(body, name="Namibia")
    assert (found.where.file, found.where.line, found.where.recipient) == ("letter.md", BODY_LINE + line, "NAM")
    assert found.what == "field 'nmae' is missing"
    assert "did you mean 'name'?" in found.todo


def test_a_missing_field_in_subject_and_layout() -> None:
    subject = problem("x", subject="To {{ nmae }}", name="")
    assert (subject.where.file, subject.where.line, subject.where.recipient) == ("letter.md", 2, "NAM")
    layout = problem("x\n\ny", layout="<body>\n{{ body }}\n<p>a</p>\n<p>{{ nmae }}</p>", name="")
    assert (layout.where.file, layout.where.line, layout.where.recipient) == ("layout.html", 4, "NAM")


def test_a_missing_part_of_a_value() -> None:
    found = problem("a\n{{ sender.signatry }}")
    assert (found.where.line, "signatory" in found.todo, "'signatry'" in found.what) == (BODY_LINE + 1, True, True)


def test_a_guarded_field_is_not_missing() -> None:
    assert text("{% if nmae is defined %}a{% else %}b{% endif %}{{ nmae|default('c') }}") == "bc\n"


SYNTAX = {
    "end missing": ("a\n\n{% if x %}\nb", 2),
    "end too many": ("a\n{% endif %}", 1),
    "open print": ("a\n\nb {{ x", 2),
    "two words": ("a\n\n{{ First Name }}", 2),
    "unknown tag": ("a\n{% frobnicate %}", 1),
    "unknown filter": ("a\n\nb\n{{ 'x'|frobnicate }}", 3),
    "macro": ("a\n{% macro m() %}{% endmacro %}", 1),
    "include": ("a\n\n{% include 'x' %}", 2),
    "import": ("a\n{% import 'x' as y %}", 1),
    "extends": ("a\n{% extends 'x' %}", 1),
    "block": ("a\n{% block x %}{% endblock %}", 1),
    "a table's half": ("{% if 1 %}\n\n| a |\n|---|\n| 1 |\n{% endif %}\n| 2 |", 5),
}


@pytest.mark.parametrize("name", SYNTAX)
def test_syntax_errors_have_a_line(name: str) -> None:
    body, line = SYNTAX[name]
    found = problem(body)
    assert (found.where.file, found.where.line) == ("letter.md", BODY_LINE + line)


def test_syntax_errors_in_subject_and_layout() -> None:
    assert problem("x", subject="{{ x").where.line == 2
    assert problem("x", layout="a\nb {% if %}\n{{ body }}").where == Place("layout.html", 2)


@pytest.mark.parametrize(
    ("front", "line", "words"),
    [
        ("Dear all", 1, "no front matter"),
        ("+++\nsubject = 'x'\n", 1, "no front matter"),
        ("+++\nsubject = x\n+++\n", 2, "front matter"),
        ("+++\n\n[attachments]\n+++\n", 1, "no subject"),
        ("+++\nsubject = 5\n+++\n", 2, "no subject"),
        ("+++\nsubject = '''a\nb'''\n+++\n", 2, "line break"),
        ("+++\nsubject = 'x'\n\nsubjcet = 'y'\n+++\n", 4, "unknown key 'subjcet'"),
        ("+++\nsubject = 'x'\nattachments = 'y'\n+++\n", 3, "not a table"),
        ("+++\nsubject = 'x'\n[attachments]\n'a.pdf' = 5\n+++\n", 4, "a.pdf"),
    ],
)
def test_front_matter_errors(front: str, line: int, words: str) -> None:
    frozen = source("x")
    letters = {"en": SourceFile("letter.md", front + "subject = not this line\n")}
    with pytest.raises(TemplateError) as caught:
        Renderer(
            TemplateSource(**{**frozen.as_data(), "letters": letters, "forms": frozen.forms, "layout": frozen.layout})
        )
    (found,) = caught.value.problems
    assert (found.where, words in found.what) == (Place("letter.md", line), True)


def test_quoted_subject_key_is_found() -> None:
    letters = {"en": SourceFile("letter.md", '+++\n# a note\n"subject" = "{{ nmae }}"\n+++\nx')}
    frozen = source("x")
    renderer = Renderer(
        TemplateSource(**{**frozen.as_data(), "letters": letters, "forms": frozen.forms, "layout": frozen.layout})
    )
    with pytest.raises(TemplateError, match="nmae") as caught:
        renderer.render(recipient(), ())
    assert caught.value.problems[0].where.line == 3


# -- forms of address and languages -----------------------------------------------------------------------------------


def test_overrides_win_over_forms() -> None:
    assert text("{{ salutation }} {{ close }}", salutation="Dear Ada,") == "Dear Ada, Accept, Dear Ada, our regards.\n"
    assert text("{{ salutation }}", salutation="") == "Dear friends,\n"


@pytest.mark.parametrize("column", ["rank", "kind", "gender"])
def test_a_no_for_a_form_of_address(column: str) -> None:
    """It is looked up as text, as any other: a rank `no` is an unknown one, a kind `no` none of the ranks."""
    body = "{{ salutation }}"
    if column == "kind":
        assert text(body, kind="no") == "Dear friends,\n"
    else:
        assert f'the {column} "no" is not known' in problem(body, **{column: "no"}).what


def test_unknown_rank_names_recipient() -> None:
    found = problem("{{ salutation }}", rank="emperor")
    assert ("emperor" in found.what, found.where.recipient) == (True, "NAM")


@pytest.mark.parametrize(
    ("asked", "given_"),
    [("fr", "fr"), ("FR", "fr"), ("fr-CH", "fr"), ("pt-br", "pt-BR"), ("pt", "en"), ("de", "en"), ("", "en")],
)
def test_language_and_fallback(asked: str, given_: str) -> None:
    frozen = source("x")
    files = dict.fromkeys(("en", "fr", "pt-BR"), frozen.letters["en"])
    forms = dict.fromkeys(files, frozen.forms["en"])
    senders = dict.fromkeys(files, frozen.senders["en"])
    renderer = Renderer(TemplateSource(files, forms, frozen.layout, "en", frozen.date, frozen.title, senders))
    assert renderer.language(Recipient("x", (), (), asked)) == given_


# -- the same for ever ------------------------------------------------------------------------------------------------

CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=60)


@settings(max_examples=60)
@given(CELLS, CELLS, st.booleans())
@example("{{ x }}", "<b>", True)
def test_rendering_is_a_pure_function(name: str, city: str, member: bool) -> None:
    """A sealed source, read back from the ledger's JSON, gives the same bytes for the same recipient."""
    frozen = source("{{ name }}\n\n- {{ city }}\n{% if member %}\n- m\n{% endif %}\n", subject="To: {{ name }}")
    again = TemplateSource.from_data(json.loads(json.dumps(frozen.as_data())))
    assert again == frozen
    row = recipient(name=name, city=city, member=str(member).lower())
    first = Renderer(frozen).render(row, ())
    assert first == _SHARED.render(row, ())
    assert first == Renderer(again).render(row, ())


_SHARED = Renderer(source("{{ name }}\n\n- {{ city }}\n{% if member %}\n- m\n{% endif %}\n", subject="To: {{ name }}"))
