"""Templates are tame: data are only ever values, nothing gets out of the sandbox, and nothing runs away."""

import re
import tracemalloc
from html.parser import HTMLParser

import pytest

from dispatcher.core.text import finish
from tests.campaigns import LAYOUT
from tests.rendered import BODY_LINE, body_of, html, own_text, problem, render, text

# -- data are values --------------------------------------------------------------------------------------------------

MARKDOWN_AND_JINJA = ("{{7*7}}", "{% if x %}", "{# c #}", "*a*", "_b_", "**c**", "`d`", "# e", "- f", "> g", "[h](i)")


@pytest.mark.parametrize("cell", [*MARKDOWN_AND_JINJA, "1. j", "a\\b", "https://example.org", "zqTAG0zq", "{", "}}"])
def test_cells_stay_as_they_are(cell: str) -> None:
    """Nothing in a cell is Markdown, Jinja or a mark of ours, in text and HTML alike."""
    rendering = render("{{ cell }}\n\n- x {{ cell }}\n", subject="s {{ cell }}", layout="<body>{{ body }}", cell=cell)
    shown = cell.replace(">", "&gt;")
    assert own_text(rendering) == f"{cell}\n\n- x {cell}\n"
    assert body_of(rendering) == f"<p>{shown}</p>\n<ul>\n<li>x {shown}</li>\n</ul>"
    assert rendering.subject == f"s {cell}"


def test_html_is_escaped_and_text_is_not() -> None:
    rendering = render("{{ cell }}", subject="{{ cell }}", cell="""<b>&"'""")
    assert own_text(rendering) == """<b>&"'\n"""
    assert '<p style="margin: 0 0 1em;">&lt;b&gt;&amp;&#34;&#39;</p>' in rendering.html
    assert "<title>&lt;b&gt;&amp;&#34;&#39;</title>" in rendering.html


def test_line_breaks_in_a_cell_are_kept() -> None:
    assert text("{{ cell }}", cell="one <\ntwo") == "one <\ntwo\n"
    assert html("{{ cell }}", cell="one <\ntwo") == "<p>one &lt;<br>\ntwo</p>"


class _Spy(HTMLParser):
    """Notes everything in a page that could act."""

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "iframe", "svg", "object", "embed", "form", "style", "link", "base"):
            self.acts.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (name == "href" and not re.match("https?:|mailto:", value or "")):
                self.acts.append(name)


XSS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
    "]](javascript:alert(1))",
    "<!--><script>alert(1)</script>-->",
    "<a href=javascript:alert(1)>x</a>",
)


@pytest.mark.parametrize("cell", XSS)
def test_no_cell_can_act(cell: str) -> None:
    body = "{{ cell }} **{{ cell }}** [{{ cell }}](https://example.org/{{ cell|urlencode }})\n\n- {{ cell|upper }}\n"
    spy = _Spy()
    spy.feed(
        render(body, subject="{{ cell }}", layout=LAYOUT.replace("<body>", '<body title="{{ cell }}">'), cell=cell).html
    )
    assert spy.acts == []


@pytest.mark.parametrize(
    "cell",
    [
        "javascript:alert(1)",
        " javascript:alert(1)",
        "JaVaScRiPt:x",
        "data:text/html,x",
        "vbscript:x",
        "//x.example",
        "x",
        "",
    ],
)
def test_link_values_are_links(cell: str) -> None:
    found = problem("one\n\n[here]({{ cell }})", cell=cell)
    assert (found.where.line, found.where.recipient) == (BODY_LINE + 2, "NAM")
    assert "link" in found.what


@pytest.mark.parametrize("cell", ["https://example.org/?a=1&b=2", "HTTP://example.org", "mailto:ada@example.org"])
def test_good_link_values(cell: str) -> None:
    assert html("[here]({{ cell }})", cell=cell) == f'<p><a href="{cell.replace("&", "&amp;")}">here</a></p>'


@pytest.mark.parametrize(
    "target",
    [
        "java{{ cell }}",
        "{% if 1 %}{{ cell }}{% endif %}",
        "page.html",
        "/page",
        "#x",
        "ftp://example.org",
        "{{ cell }}x",
    ],
)
def test_link_targets_begin_with_a_scheme_or_a_field(target: str) -> None:
    """No way to put a scheme together from pieces."""
    assert problem(f"one\n[here]({target})", cell="script:alert(1)").where.line == BODY_LINE + 1


def test_values_inside_a_link_have_no_blanks() -> None:
    assert "urlencode" in problem("[x](https://example.org/{{ cell }})", cell="a b").what
    assert 'href="https://example.org/a%20b"' in html("[x](https://example.org/{{ cell|urlencode }})", cell="a b")


# -- a template is tame -----------------------------------------------------------------------------------------------

BREAK_OUTS = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ name.__init__.__globals__ }}",
    "{{ sender.__class__ }}",
    "{{ sender['__class__'] }}",
    "{{ long_date.func.__globals__['date'] }}",
    "{{ long_date.__self__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ self.__init__.__globals__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ [name]|map(attribute='__class__')|list }}",
    "{{ [name]|map('attr', '__class__')|list }}",
    "{{ '{0.__class__}'.format(name) }}",
    "{{ '{x.__class__}'.format_map({'x': name}) }}",
    "{% set f = 'a{0.__class__}'.format %}{{ f(name) }}",
    "{{ [name]|sort(attribute='__class__.__name__') }}",
    "{{ [name]|groupby('__class__') }}",
    "{{ lipsum.__globals__ }}",
    "{{ cycler.__init__ }}",
    "{{ config }}",
    "{{ loop.__class__ }}",
    "{% for x in [1] %}{{ loop._iterable.__class__ }}{% endfor %}",
    "{{ sender.pop('name') }}",
    "{{ sender.update({}) }}",
    "{{ attachments.append('x') }}",
    "{{ attachments.clear() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
)


@pytest.mark.parametrize("template", BREAK_OUTS)
def test_ways_out_of_the_sandbox(template: str) -> None:
    problem(template, name="Namibia")


@pytest.mark.parametrize("payload", BREAK_OUTS)
def test_the_same_in_a_cell_is_text(payload: str) -> None:
    assert finish(payload.splitlines()) == text("{{ cell }}", cell=payload)


BOMBS = (
    "{{ 'x' * 10**8 }}",
    "{{ 'x' * 100000000 }}",
    "{{ [1] * 100000000 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ 'x'.center(1000000000) }}",
    "{{ 'x'.ljust(1000000000) }}",
    "{{ 'x'.zfill(1000000000) }}",
    "{{ 'a\tb'.expandtabs(1000000000) }}",
    "{{ 'x'.join(cell) }}",
    "{{ cell.replace('x', cell) }}",
    "{{ cell.encode() }}",
    "{{ (7).to_bytes(1000000000, 'big') }}",
    "{{ 'x'|center(1000000000) }}",
    "{{ 'x'|indent(1000000000) }}",
    "{{ 'x y'|wordwrap(1, wrapstring=cell) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ cell|replace('x', cell) }}",
    "{{ cell|list|join(cell) }}",
    "{{ cell|map('replace', 'x', cell)|join }}",
    "{{ cell|batch(1000000000, 'x')|list }}",
    "{{ 1.5|round(1000000000, 'ceil') }}",
    "{{ range(1000000000)|list }}",
    "{% for x in range(1000000000) %}{% endfor %}",
    "{% for x in cell %}{% endfor %}",
    "{% for a in 'x'.split() %}{% for b in a %}{% for c in b %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% set a = cell ~ cell ~ cell ~ cell %}",
    "{% set a %}" + "{{ cell }}" * 8 + "{% endset %}",
    "{% with a = cell ~ cell ~ cell ~ cell %}{{ a }}{% endwith %}",
    "{% set a = cell + cell + cell + cell %}",
    "{% set a = 1000000 * 1000000 * 1000000 %}",
    "{{ cell }}" * 8,
    "{% for a in cell[:900] %}{% for b in cell[:900] %}{{ cell }}{% endfor %}{% endfor %}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
)


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_blocked(bomb: str) -> None:
    """Each is refused with a line, and none takes memory worth speaking of on the way."""
    tracemalloc.start()
    try:
        found = problem("a\n\n" + bomb, cell="x" * 30_000)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
    lines = {None, BODY_LINE + 2} if "letter is longer" in found.what else {BODY_LINE + 2 * ("((((" not in bomb)}
    assert found.where.file == "letter.md"
    assert found.where.line in lines


@pytest.mark.parametrize(
    "template",
    [
        "{{ cell|safe }}",
        "{{ cell|forceescape|safe }}",
        "{{ Markup(cell) }}",
        "{{ cell|tojson }}",
        "{{ {'a': cell}|xmlattr }}",
        "{{ cell|urlize }}",
        "{% autoescape false %}{{ cell }}{% endautoescape %}",
        "{% filter safe %}{{ cell }}{% endfilter %}",
        "{{ cell.__html__() }}",
        "{{ (cell|e).unescape() }}",
        "{{ (cell|e).format() }}",
        "{{ [cell]|map('safe')|join }}",
    ],
)
def test_nothing_marks_a_cell_as_safe(template: str) -> None:
    problem(template, cell="<b>")


@pytest.mark.parametrize(
    "template",
    [
        "{{ cell|e|replace('&lt;', '<') }}",
        "{% set x %}{{ cell }}{% endset %}{{ x|replace('&lt;', '<')|replace('&gt;', '>') }}",
        "{% filter replace('&lt;', '<') %}{{ cell }}{% endfilter %}",
        "{{ (cell|e)|striptags }}",
        "{{ [cell, cell|e]|join('<i>') }}",
        "{{ cell|e + cell }}",
        "{{ (cell|e)|reverse }}",
    ],
)
def test_no_detour_brings_markup_back(template: str) -> None:
    page = html(template, cell="<b>")
    assert "<b>" not in page
    assert "<i>" not in page


@pytest.mark.parametrize(
    "template",
    ["{{ attachments }}", "{{ sender }}", "{{ long_date }}", "{{ name == 'x' }}", "{{ none }}", "{{ self }}"],
)
def test_only_text_and_numbers_are_printed(template: str) -> None:
    """A letter never shows Python's view of a value, some of which differ from run to run."""
    assert "printed" in problem(template, name="").what


def test_what_letters_do_need_works() -> None:
    body = (
        '{{ long_date("2026-03-09") }} {{ attachments|join(", ") }} {{ name|upper }} {{ name.split()[0] }} {{ 2+3*4 }} '
        '{% set hi = "Hi " ~ name %}{{ hi }} {{ name|replace("i", "y") }} {{ name|truncate(3, true, "…", 0) }}'
        "{% for a in [1, 2] %}{% for b in [3, 4] %} {{ a }}{{ b }}{% endfor %}{% endfor %} {{ name|length }}"
        '{% if name.startswith("Fi") %} yes{% endif %} {{ (name if name else "x")|title }} {{ "%"|urlencode }}'
    )
    assert text(body, name="Fiji").replace("\n", " ").strip() == (
        "9 M3 2026 report.pdf FIJI Fiji 14 Hi Fiji Fyjy Fi… 13 14 23 24 4 yes Fiji %25"
    )


def test_flags() -> None:
    """`true` and `false` are truth values in conditions, whatever their case, and print as they stand."""
    body = "{% if a %}a{% endif %}{% if b %}b{% endif %}{% if not b %}c{% endif %} {{ a }} {{ b }} {{ a == 'TRUE' }}"
    assert text(body.replace(" {{ a == 'TRUE' }}", ""), a="TRUE", b="false") == "ac TRUE false\n"


NOES = ("no", "NO", "n", "N", "non", "Non", "nein", "0", "faux", "FAUX", "falso", "FALSCH", "Off")


@pytest.mark.parametrize("cell", NOES)
@pytest.mark.parametrize(
    "place",
    [
        "{% if cell %}x{% endif %}",
        "{% if not cell %}x{% endif %}",
        "{% if name and cell %}x{% endif %}",
        "{{ cell or name }}",
        "{{ 'x' if cell else 'y' }}",
        "{{ cell|default('x', true) }}",
    ],
)
def test_a_no_is_no_answer(place: str, cell: str) -> None:
    """Neither is it true, as other text is, nor do we say it is false: template, line, value and recipient."""
    found = problem(f"a\n\n{place}", name="Fiji", cell=cell)
    assert found.what == f"'{cell}' is text, neither true nor false"
    assert (found.where.file, found.where.line, found.where.recipient) == ("letter.md", BODY_LINE + 2, "NAM")
    assert 'member == "yes"' in found.todo


def test_a_no_in_subject_and_layout_names_its_place() -> None:
    assert problem("x", subject="a{% if cell %}b{% endif %}", cell="no").where.line == 2
    found = problem("x", layout="<body>\n{{ body }}\n{% if cell %}b{% endif %}", cell="no")
    assert (found.where.file, found.where.line) == ("layout.html", 3)


@pytest.mark.parametrize("cell", NOES)
def test_a_no_is_text_otherwise(cell: str) -> None:
    """Norway's code is printed, compared and worked on as ever."""
    body = (
        "{{ cell }} {{ cell|default('x') }} {{ cell ~ '!' }} {{ cell|title }} {{ cell.upper() }} {{ [cell]|join }}"
        f"{{% if cell == '{cell}' and cell in ['{cell}'] and cell != 'yes' and cell is defined %}} same{{% endif %}}"
    )
    expected = f"{cell} {cell} {cell}! {cell.title()} {cell.upper()} {cell} same"
    assert text(body, cell=cell) == expected + "\n"
    assert html(body, cell=cell) == f"<p>{expected}</p>"


@pytest.mark.parametrize(("cell", "shown"), [("", "b"), ("yes", "a"), ("nothing", "a"), ("None", "a"), ("00", "a")])
def test_other_text_is_true_unless_empty(cell: str, shown: str) -> None:
    assert text("{% if cell %}a{% else %}b{% endif %}", cell=cell) == shown + "\n"


def test_words_of_ours_cannot_be_taken_by_a_mark() -> None:
    found = problem("a\n\nthe text zqTAG7zq")
    assert found.where.line == BODY_LINE + 2
