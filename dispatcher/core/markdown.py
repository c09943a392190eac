"""Markdown with Jinja tags → an HTML template and a plain-text template, once per letter, before any value is known.

Each tag is replaced by a mark of letters and digits, Markdown and CSS inlining work on what is left, and the tags are
put back. So a value is never read as Markdown, and merging one letter is no more than filling two templates. Raises
TemplateError with file and line.
"""

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import css_inline
from jinja2 import TemplateSyntaxError
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token

from dispatcher.core.errors import Place, Problem, TemplateError
from dispatcher.core.jinja import TEXT

_MARK: Final = re.compile(r"zqTAG(\d+)zq")
_ONLY_MARKS: Final = re.compile(r"(?:[ \t]*zqTAG\d+zq)+[ \t]*\Z")
_BEGINS: Final = {"variable_begin": "variable_end", "block_begin": "block_end", "comment_begin": "comment_end"}


@dataclass(frozen=True, slots=True)
class Tag:
    """One Jinja tag with the place it stands at."""

    source: str
    file: str
    line: int

    @property
    def prints(self) -> bool:
        return self.source.startswith("{{")


@dataclass(slots=True)
class Tags:
    """The tags that were taken out, by the number in their mark."""

    all: list[Tag] = field(default_factory=list)

    def protect(self, source: str, file: str, line: int) -> str:
        """Take the tags out of `source`, which begins at `line` of `file`."""
        if _MARK.search(source):
            raise TemplateError(Problem("the text 'zqTAG…zq' is used inside; choose another", Place(file)))
        try:
            TEXT.parse(source)
            return "".join(self._marks(source, file, line))
        except TemplateSyntaxError as error:
            place = Place(file, line + error.lineno - 1)
            raise TemplateError(Problem(str(error.message), place, "mend the Jinja tag at that line")) from None

    def _marks(self, source: str, file: str, line: int) -> Iterator[str]:
        end, tag, tag_line = "", "", 0
        for number, kind, text in TEXT.lex(source):
            if end:
                tag += text
                if kind == end:
                    yield self._mark(tag, file, line + tag_line - 1)
                    end = ""
            elif kind in _BEGINS:
                end, tag, tag_line = _BEGINS[kind], text, number
            elif kind in ("raw_begin", "raw_end"):
                yield self._mark(text, file, line + number - 1)
            else:
                yield text

    def _mark(self, source: str, file: str, line: int) -> str:
        self.all.append(Tag(source, file, line))
        # A tag swallows the line break behind it as data, never as part of itself.
        tail = source[len(source.rstrip()) :]
        return f"zqTAG{len(self.all) - 1}zq{tail}"

    def restore(self, text: str, file: str) -> "Restored":
        """Put the tags back. Each expression gets a line of its own inside its tag, so that errors can be placed."""
        out: list[str] = []
        starts: list[int] = []
        tags: list[Tag] = []
        line, at = 1, 0
        for mark in _MARK.finditer(text):
            tag = self.all[int(mark.group(1))]
            before = text[at : mark.start()]
            line += before.count("\n")
            starts.append(line + 1)
            tags.append(tag)
            body = _on_its_own_line(tag, in_link=before.endswith(('href="', 'src="')))
            line += body.count("\n")
            out += (before, body)
            at = mark.end()
        out.append(text[at:])
        return Restored("".join(out), file, tuple(starts), tuple(tags))


@dataclass(frozen=True, slots=True)
class Restored:
    """Template text, and which tag stands at which of its lines."""

    text: str
    file: str
    starts: Sequence[int]
    tags: Sequence[Tag]

    def place(self, line: int | None, recipient: str = "") -> Place:
        """The place in the source for a line of this text."""
        index = bisect.bisect_right(self.starts, line or 0) - 1
        if index < 0:
            return Place(self.file, recipient=recipient)
        return Place(self.tags[index].file, self.tags[index].line, recipient=recipient)


def _on_its_own_line(tag: Tag, *, in_link: bool) -> str:
    source = tag.source.rstrip()
    if source.startswith("{#") or "raw" in source[:8]:
        return source
    head = 3 if source[2:3] in "+-" else 2
    if tag.prints and in_link:
        tail = 3 if source[-3] in "+-" else 2
        return f"{source[:head]}\n({source[head:-tail]})|link{source[-tail:]}"
    return f"{source[:head]}\n{source[head:]}"


def _tag_line(state: StateBlock, start: int, end: int, silent: bool) -> bool:  # noqa: ARG001, FBT001 (markdown-it's signature)
    """A line that holds tags alone and prints nothing is a block of its own, outside any paragraph."""
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if not _ONLY_MARKS.match(line):
        return False
    tags: Tags = state.env["tags"]
    if any(tags.all[int(n)].prints for n in _MARK.findall(line)):
        return False
    if not silent:
        token = state.push("tag_line", "", 0)
        token.content = line.strip()
        token.map = [start, start + 1]
        state.line = start + 1
    return True


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": True}).enable(["table", "linkify"])
    parser.block.ruler.before(
        "table", "tag_line", _tag_line, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.add_render_rule("tag_line", lambda self, tokens, index, options, env: tokens[index].content + "\n")  # noqa: ARG005
    return parser


_PARSER: Final = _parser()


def to_html(protected: str, tags: Tags, layout: str) -> str:
    """HTML of a protected letter inside its protected layout, with the styles inlined; still protected."""
    body = str(_PARSER.render(protected, {"tags": tags}))
    slot = next((n for n, tag in enumerate(tags.all) if tag.source.strip("{}+- ") == "body"), None)
    if slot is None:
        raise TemplateError(Problem("the layout has no {{ body }}", todo="put {{ body }} where the letter's text goes"))
    page = layout.replace(f"zqTAG{slot}zq", body)
    return css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True).inline(page)


def to_text(protected: str, tags: Tags) -> str:
    """Plain text of a protected letter: one line a paragraph, to be wrapped when it is filled; still protected."""
    return _Text().blocks(_PARSER.parse(protected, {"tags": tags}))


class _Text:
    """Markdown's tokens as a person would type them."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.prefix: list[str] = []  # what each line of the open blocks begins with
        self.bullets: list[int] = []  # of each open list: 0 for bullets, else the next number
        self.marker = ""  # the bullet or number that the next line carries instead of its indent
        self.cells: list[str] | None = None

    def blocks(self, tokens: Sequence[Token]) -> str:
        for token in tokens:
            step = getattr(self, f"_{token.type}", None)
            if step:
                step(token)
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self.out)).strip("\n") + "\n"

    def _line(self, text: str) -> None:
        prefix = "".join(self.prefix)
        if self.marker:
            prefix = prefix[: len(prefix) - len(self.marker)] + self.marker
            self.marker = ""
        self.out.append((prefix + text).rstrip(" "))

    def _gap(self) -> None:
        if not self.bullets:
            self.out.append("".join(self.prefix).rstrip())

    def _inline(self, token: Token) -> None:
        text = inline_text(token.children or [])
        if self.cells is not None:
            self.cells.append(text)
            return
        for line in text.split("\n"):
            self._line(line)

    def _paragraph_close(self, token: Token) -> None:  # noqa: ARG002 (called by token type)
        self._gap()

    _heading_close = _paragraph_close

    def _tag_line(self, token: Token) -> None:
        self.out.append(token.content)

    def _hr(self, token: Token) -> None:  # noqa: ARG002
        self._line("-" * 3)
        self._gap()

    def _fence(self, token: Token) -> None:
        for line in token.content.rstrip("\n").split("\n"):
            self._line("    " + line)
        self._gap()

    _code_block = _fence

    def _bullet_list_open(self, token: Token) -> None:  # noqa: ARG002
        self.bullets.append(0)

    def _ordered_list_open(self, token: Token) -> None:
        self.bullets.append(int(token.attrs.get("start", 1)))

    def _bullet_list_close(self, token: Token) -> None:  # noqa: ARG002
        self.bullets.pop()
        self._gap()

    _ordered_list_close = _bullet_list_close

    def _list_item_open(self, token: Token) -> None:  # noqa: ARG002
        number = self.bullets[-1]
        self.marker = f"{number}. " if number else "- "
        self.bullets[-1] += 1 if number else 0
        self.prefix.append(" " * len(self.marker))

    def _list_item_close(self, token: Token) -> None:  # noqa: ARG002
        self.prefix.pop()

    def _blockquote_open(self, token: Token) -> None:  # noqa: ARG002
        self.prefix.append("> ")

    def _blockquote_close(self, token: Token) -> None:  # noqa: ARG002
        self.prefix.pop()
        self._gap()

    def _tr_open(self, token: Token) -> None:  # noqa: ARG002
        self.cells = []

    def _tr_close(self, token: Token) -> None:  # noqa: ARG002
        cells, self.cells = self.cells or [], None
        self._line(" | ".join(cells))

    def _table_close(self, token: Token) -> None:  # noqa: ARG002
        self._gap()


def inline_text(tokens: Sequence[Token]) -> str:
    """Inline tokens as text: links are written out, emphasis is dropped, hard breaks are kept."""
    out: list[str] = []
    links: list[tuple[str, int]] = []
    for token in tokens:
        if token.type in ("text", "code_inline", "text_special"):
            out.append(token.content)
        elif token.type == "softbreak":
            out.append(" ")
        elif token.type == "hardbreak":
            out.append("\n")
        elif token.type == "image":
            out.append(token.content)
        elif token.type == "link_open":
            links.append((str(token.attrs.get("href", "")), len(out)))
        elif token.type == "link_close":
            href, start = links.pop()
            shown = "".join(out[start:])
            if href.removeprefix("mailto:") != shown and href != shown:
                out.append(f" <{href}>")
    return "".join(out)
