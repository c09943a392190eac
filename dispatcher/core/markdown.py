"""Markdown with Jinja tags → an HTML template and its twin in plain text, once per letter, before any value is known.

Tags may stand round and among the items of a list and the rows of a table. A tag on a line of its own beside a list,
with no blank line between, belongs into the list; with a blank line it stands outside.

Never fetches anything: a picture, or a style sheet or script from elsewhere, is refused, and so is a link that is not
http, https or mailto. Raises TemplateError with file and line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import css_inline
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token

from dispatcher.core.errors import Place, Problem, TemplateError
from dispatcher.core.plain import PlainText
from dispatcher.core.tags import MARK, Tag, Tags, unmatched
from dispatcher.core.text import joins, typeset

_ONLY_MARKS: Final = re.compile(rf"(?:[ \t]*{MARK.pattern})+[ \t]*\Z")
_TARGET: Final = re.compile(rf"(?:https?://|mailto:).|{MARK.pattern}", re.IGNORECASE)
_LISTS: Final = ("bullet_list_open", "ordered_list_open")
_COMMENT: Final = re.compile(rf"<!--({MARK.pattern})-->")
_STYLE_FIRST: Final = re.compile(r"(<head>)(<style>.*?</style>\n*)(.*?)(</head>)", re.DOTALL)
"""What could not be inlined is put before all else; but a page says its charset within the first 1,024 octets."""
_FROM_ELSEWHERE: Final = re.compile(
    r"<(?:script|link|img|iframe|object|embed|video|audio|source|base|form|svg)\b|\b(?:src|background)\s*=|url\(|@import",
    re.IGNORECASE,
)
_PICTURE: Final = re.compile(rf'<img\b[^<>]*? src="(?P<mark>{MARK.pattern})"[^<>]*>')
_NOTHING_FROM_ELSEWHERE: Final = (
    "leave it out: a letter holds all it shows. The only picture is the logo: "
    '<img src="{{ logo }}" alt="{{ letter.organisation }}">'
)


@dataclass(frozen=True, slots=True)
class Source:
    """A protected letter: text, the tags that were taken out, the file and line where it begins, its language."""

    text: str
    tags: Tags
    file: str
    line: int
    language: str = ""

    def place(self, line: int) -> Place:
        """The place of a line of the protected text, counted from 0."""
        offset = sum(len(text) + 1 for text in self.text.split("\n")[:line])
        return Place(self.file, self.tags.line_at(self.text, offset, self.line))


def _is_tag_line(line: str, tags: Tags) -> bool:
    """Whether a line holds tags alone, of which none prints."""
    return bool(_ONLY_MARKS.match(line)) and not any(tag.prints for tag in tags.of(line))


def _tag_line(state: StateBlock, start: int, end: int, silent: bool) -> bool:  # noqa: ARG001, FBT001 (markdown-it's signature)
    """A line of tags alone is a block of its own, outside any paragraph."""
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if not _is_tag_line(line, state.env["tags"]):
        return False
    if silent:
        return str(state.parentType) != "table"  # there it is a row, until `_arranged` sees to it
    token = state.push("tag_line", "", 0)
    token.content = line.strip()
    token.map = [start, start + 1]
    state.line = start + 1
    return True


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": True}).enable(["table", "linkify"])
    parser.block.ruler.before("table", "tag_line", _tag_line, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    parser.add_render_rule("tag_line", lambda self, tokens, index, options, env: tokens[index].content + "\n")  # noqa: ARG005
    return parser


_PARSER: Final = _parser()


@dataclass(frozen=True, slots=True)
class Twins:
    """A letter's text twice, still protected: plain, one line a paragraph, and as HTML; `page` is that in its layout,
    styles inlined.
    """

    text: str
    html: str
    page: str


def twins(source: Source, layout: Source, house: Mapping[str, str]) -> Twins:
    """Both forms of a letter's text. `house` is HTML that the layout prints in every letter, by its expression."""
    tokens = _PARSER.parse(source.text, {"tags": source.tags})
    for token in tokens:
        _inline(token, source)
        if token.type == "th_open":
            token.attrSet("scope", "col")  # so that a screen reader says it with each cell below (WCAG H63)
    tokens = _Arranger(source).arranged(tokens)
    body = str(_PARSER.renderer.render(tokens, _PARSER.options, {}))
    return Twins(PlainText(source.tags).write(tokens), body, _page(body, layout, house))


def _page(body: str, layout: Source, house: Mapping[str, str]) -> str:
    if found := _FROM_ELSEWHERE.search(_without_logo(layout)):
        what = f"'{found.group()}' in the layout would fetch something from elsewhere, or run it"
        line = layout.text.count("\n", 0, found.start())
        raise TemplateError(Problem(what, layout.place(line), _NOTHING_FROM_ELSEWHERE))
    marks = [m.group() for m in MARK.finditer(layout.text) if layout.tags.of(m.group())[0].expression == "body"]
    if len(marks) != 1:
        what = "the layout has no {{ body }}" if not marks else "the layout has {{ body }} twice"
        raise TemplateError(Problem(what, Place(layout.file), "put {{ body }} once, where the letter's text goes"))
    if "<body" not in layout.text.lower():
        raise TemplateError(
            Problem("the layout has no <body>", Place(layout.file), "put {{ body }} between <body> and </body>")
        )
    frame = MARK.sub(lambda mark: house.get(layout.tags.of(mark.group())[0].expression, mark.group()), layout.text)
    page = "".join(_as_comments(frame.replace(marks[0], body), layout.tags))
    inlined = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True).inline(page)
    return _COMMENT.sub(r"\1", _STYLE_FIRST.sub(r"\1\3\2\4", inlined))


def _without_logo(layout: Source) -> str:
    """The layout's text, where the logo's picture is no picture any more."""

    def bare(found: re.Match[str]) -> str:
        (tag,) = layout.tags.of(found["mark"])
        return found.group().replace("<img", "<   ").replace("src=", "    ") if tag.shows_logo else found.group()

    return _PICTURE.sub(bare, layout.text)


def _as_comments(page: str, tags: Tags) -> Iterator[str]:
    """Tags that print nothing as comments, for HTML allows no text between the rows of a table."""
    at = 0
    for mark in MARK.finditer(page):
        inside = page.rfind("<", 0, mark.start()) > page.rfind(">", 0, mark.start())
        if not inside and not tags.of(mark.group())[0].prints:
            yield f"{page[at : mark.start()]}<!--{mark.group()}-->"
            at = mark.end()
    yield page[at:]


def _inline(token: Token, source: Source) -> None:
    """Set text as its language does; refuse pictures, and links that lead nowhere; cut found links at a tag that does
    not print.
    """
    line = token.map[0] if token.map else 0
    children = token.children or []
    for number, child in enumerate(children):
        if child.type == "text":
            child.content = typeset(child.content, source.language)
        if child.type in ("softbreak", "hardbreak"):
            line += 1
            if child.type == "softbreak" and joins(children[number - 1].content, children[number + 1].content):
                child.type = "text"  # with nothing in it
        elif child.type == "image":
            todo = "attach the file, or say it in words: a letter fetches nothing and carries no pictures in its text"
            raise TemplateError(Problem("there is a picture", source.place(line), todo))
        elif child.type == "link_open":
            target = str(child.attrs.get("href", ""))
            if child.markup == "linkify":
                _cut_at_tag(children, number, source.tags)
            elif not (found := _TARGET.match(target)) or not all(t.prints for t in source.tags.of(found.group())):
                todo = "begin it with https://, http:// or mailto:, or with a field that holds such a link"
                raise TemplateError(Problem(f"a link to '{_shown(target, source.tags)}'", source.place(line), todo))


def _shown(text: str, tags: Tags) -> str:
    return MARK.sub(lambda found: tags.of(found.group())[0].source, text)


def _cut_at_tag(children: list[Token], number: int, tags: Tags) -> None:
    """A link found in running text ends where a tag that prints nothing begins."""
    opening, text = children[number], children[number + 1]

    def kept(whole: str) -> str:
        stops = (m.start() for m in MARK.finditer(whole) if not tags.of(m.group())[0].prints)
        return whole[: next(stops, len(whole))]

    href, shown = kept(str(opening.attrs["href"])), kept(text.content)
    if shown != text.content:
        children.insert(number + 3, Token("text", "", 0, content=text.content[len(shown) :]))
        opening.attrs["href"], text.content = href, shown


class _Arranger:
    """Puts tags that stand beside lists and among rows to where they belong in HTML."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lines = source.text.split("\n")

    def arranged(self, tokens: Sequence[Token]) -> list[Token]:
        nodes: list[list[Token]] = []
        for node in _siblings(tokens):
            inner = [node[0], *self.arranged(node[1:-1]), node[-1]] if len(node) > 1 else node
            nodes += self._table(inner) if node[0].type == "table_open" else [inner]
        return [token for node in self._joined(nodes) for token in node]

    def _table(self, table: list[Token]) -> list[list[Token]]:
        """Rows that are tags become tags; those at the end whose partner is elsewhere go behind the table."""
        start = next((n + 1 for n, token in enumerate(table) if token.type == "tbody_open"), None)
        if start is None:
            return [table]
        rows = [self._row(node) for node in _siblings(table[start:-2])]
        single = unmatched(self._tags(row) for row in rows)
        end = len(rows)
        while end - 1 in single:
            end -= 1
        if (lost := min(single, default=end)) < end:
            tag = self._tags(rows[lost])[0]
            todo = "open and close it between the rows of one table, or around the whole of it"
            what = f"{tag.source} stands among the rows of a table, and what belongs to it does not"
            raise TemplateError(Problem(what, Place(tag.file, tag.line), todo))
        return [[*table[:start], *chain.from_iterable(rows[:end]), *table[-2:]], *rows[end:]]

    def _row(self, node: list[Token]) -> list[Token]:
        cells = [token.content for token in node if token.type == "inline"]
        if node[0].type != "tr_open" or any(cells[1:]) or not _is_tag_line(cells[0], self._source.tags):
            return node
        return [Token("tag_line", "", 0, content=cells[0], map=node[0].map)]

    def _joined(self, nodes: list[list[Token]]) -> Iterator[list[Token]]:
        """Lists of one kind with nothing but tags between them, and no blank line, become one list."""
        at = 0
        while at < len(nodes):
            run = self._run(nodes, at)
            at += len(run)
            lists = [node for node in run if node[0].type in _LISTS]
            loops = any(tag.keyword == "for" for node in run for tag in self._tags(node))
            if len(lists) > 1 or (lists and loops):
                lists[0][0].meta["tags"] = True
                items = chain.from_iterable(node[1:-1] if node[0].type in _LISTS else node for node in run)
                yield [lists[0][0], *items, lists[0][-1]]
            else:
                yield from run

    def _run(self, nodes: list[list[Token]], start: int) -> list[list[Token]]:
        """From `start` on: as many nodes as make one list, in which every tag has its partner; at least one."""
        run: list[list[Token]] = []
        kind = ""
        for node in nodes[start:]:
            first = node[0]
            if first.type not in (*_LISTS, "tag_line") or (run and self._after_blank(first)):
                break
            if first.type in _LISTS:
                if kind not in ("", first.type + first.markup):
                    break
                kind = first.type + first.markup
            run.append(node)
        single = unmatched(self._tags(node) for node in run)
        return run[: min(single, default=len(run))] or nodes[start : start + 1]

    def _after_blank(self, token: Token) -> bool:
        return not token.map or not self._lines[token.map[0] - 1].strip()

    def _tags(self, node: Sequence[Token]) -> list[Tag]:
        return self._source.tags.of(node[0].content) if node[0].type == "tag_line" else []


def soft_breaks(text: str, tags: Tags) -> Iterator[int]:
    """The lines of a protected text, from 0, that end inside a paragraph, where Markdown would run them together."""
    for token in _PARSER.parse(text, {"tags": tags}):
        breaks = [child.type for child in token.children or () if child.type in ("softbreak", "hardbreak")]
        if token.map and len(breaks) == token.map[1] - token.map[0] - 1:  # else code in a sentence holds one of them
            yield from (token.map[0] + n for n, kind in enumerate(breaks) if kind == "softbreak")


def _siblings(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Tokens of one level, each with all that it encloses."""
    node: list[Token] = []
    depth = 0
    for token in tokens:
        node.append(token)
        depth += token.nesting
        if depth == 0:
            yield node
            node = []
