"""Jinja tags, taken out of a template and put back, so that Markdown and CSS can work on what is left.

Each tag becomes a mark of letters and digits. A value is thus never read as Markdown, and merging one letter is no
more than filling templates. Every tag remembers its file and line, so that whatever goes wrong with it can be placed.
Raises TemplateError.
"""

import bisect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from jinja2 import TemplateSyntaxError

from dispatcher.core.errors import Place, Problem, TemplateError
from dispatcher.core.jinja import TEXT, thunderbird

MARK: Final = re.compile(r"zqTAG(\d+)zq")
_BEGINS: Final = {"variable_begin": "variable_end", "block_begin": "block_end", "comment_begin": "comment_end"}
_LOOKS_LIKE_A_TAG: Final = re.compile(r"\{(?=[{%#]|\Z)")
_KEYWORD: Final = re.compile(r"\{%[-+]?\s*(\w+)")
_OPENERS: Final = frozenset({"if", "for", "with", "filter"})


@dataclass(frozen=True, slots=True)
class Tag:
    """One Jinja tag with the place it stands at."""

    source: str
    file: str
    line: int

    @property
    def prints(self) -> bool:
        return self.source.startswith("{{")

    @property
    def expression(self) -> str:
        """What it prints, as it is written there; '' if it prints nothing."""
        return self.source.strip("{}+- \t\n") if self.prints else ""

    @property
    def shows_logo(self) -> bool:
        """Whether it prints where the logo is, and nothing else."""
        return self.expression == "logo"

    @property
    def keyword(self) -> str:
        """`if`, `else`, `endfor` and so on; '' for what prints and for comments."""
        found = _KEYWORD.match(self.source)
        return found.group(1) if found else ""

    @property
    def opens(self) -> bool:
        """Whether an end tag belongs to it."""
        return self.keyword in _OPENERS or (self.keyword == "set" and "=" not in self.source)


@dataclass(slots=True)
class Tags:
    """The tags that were taken out, by the number in their mark."""

    all: list[Tag] = field(default_factory=list)

    def of(self, text: str) -> list[Tag]:
        """The tags whose marks stand in a text, in order."""
        return [self.all[int(number)] for number in MARK.findall(text)]

    def add(self, tag: Tag) -> str:
        """A mark for a tag."""
        self.all.append(tag)
        return f"zqTAG{len(self.all) - 1}zq"

    def protect(self, source: str, file: str, line: int) -> str:
        """Take the tags out of `source`, which begins at `line` of `file`."""
        if found := MARK.search(source):
            at = line + source.count("\n", 0, found.start())
            raise TemplateError(Problem(f"'{found.group()}' is a word used inside", Place(file, at), "write another"))
        _refuse_choices(source, file, line)
        try:
            TEXT.tame(source, file)
            return "".join(self._marks(source, file, line))
        except TemplateSyntaxError as error:
            place = Place(file, line + error.lineno - 1)
            todo = thunderbird(source.split("\n")[error.lineno - 1]) or "mend the Jinja tag at that line"
            raise TemplateError(Problem(str(error.message), place, todo)) from None
        except RecursionError:
            raise TemplateError(Problem("nested too deeply", Place(file, line), "write it more simply")) from None

    def _marks(self, source: str, file: str, line: int) -> Iterator[str]:
        end, tag, tag_line = "", "", 0
        for number, kind, text in TEXT.lex(source):
            if end:
                tag += text
                if kind == end:
                    bare = tag.rstrip()
                    # A tag may swallow the line break behind it; to Markdown that break is there all the same.
                    yield self.add(Tag(bare, file, line + tag_line - 1)) + tag[len(bare) :]
                    end = ""
            elif kind in _BEGINS:
                end, tag, tag_line = _BEGINS[kind], text, number
            elif kind not in ("raw_begin", "raw_end"):  # what is raw is plain text, which `restore` keeps plain
                yield text

    def line_at(self, protected: str, offset: int, first: int) -> int:
        """The line in the source for a place in protected text that begins at line `first`."""
        before = protected[:offset]
        marks = list(MARK.finditer(before))
        if not marks:
            return first + before.count("\n")
        tag = self.all[int(marks[-1].group(1))]
        return tag.line + tag.source.count("\n") + before.count("\n", marks[-1].end())

    def restore(self, text: str, file: str, *, html: bool = False) -> "Restored":
        """Put the tags back. Each expression gets a line of its own inside its tag, so that errors can be placed."""
        out: list[str] = []
        starts: list[int] = []
        tags: list[Tag] = []
        line, at = 1, 0
        for mark in MARK.finditer(text):
            tag = self.all[int(mark.group(1))]
            before = _LOOKS_LIKE_A_TAG.sub("{{ '{' }}", text[at : mark.start()])
            line += before.count("\n")
            starts.append(line + 1)
            tags.append(tag)
            body = _on_its_own_line(tag, _link_filter(text, mark.start(), tag) if html else "")
            line += body.count("\n")
            out += (before, body)
            at = mark.end()
        out.append(_LOOKS_LIKE_A_TAG.sub("{{ '{' }}", text[at:]))
        return Restored("".join(out), file, tuple(starts), tuple(tags))


def _refuse_choices(source: str, file: str, line: int) -> None:
    """{{gender|f|Ms|Mr}} may be read as filters; whoever comes from Thunderbird means something else."""
    for number, text in enumerate(source.split("\n") if "|" in source else (), line):
        if todo := thunderbird(text):
            raise TemplateError(Problem("this is how Thunderbird writes it", Place(file, number), todo))


@dataclass(frozen=True, slots=True)
class Restored:
    """Template text, and which tag stands at which of its lines."""

    text: str
    file: str
    starts: Sequence[int]
    tags: Sequence[Tag]

    def place(self, line: int | None, recipient: str = "") -> Place:
        """The place in the source for a line of this text."""
        if line is None or not self.starts:
            return Place(self.file, recipient=recipient)
        index = max(0, bisect.bisect_right(self.starts, line) - 1)
        return Place(self.tags[index].file, self.tags[index].line, recipient=recipient)


def unmatched(groups: Iterable[Iterable[Tag]]) -> set[int]:
    """Which of these groups of tags hold one whose partner (`if` and `endif`, and any `else`) is in none of them."""
    single: set[int] = set()
    open_: list[list[int]] = []
    for number, group in enumerate(groups):
        for tag in group:
            if tag.opens:
                open_.append([number])
            elif tag.keyword in ("else", "elif"):
                if open_:
                    open_[-1].append(number)
                else:
                    single.add(number)
            elif tag.keyword.startswith("end"):
                if open_:
                    open_.pop()
                else:
                    single.add(number)
    return single.union(*open_)


def _link_filter(text: str, start: int, tag: Tag) -> str:
    """What guards a value in the target of a link: at its beginning it must be a link, later it must fit into one.

    The logo is ours, and is in the message itself.
    """
    quote = text.rfind('"', 0, start)
    if tag.shows_logo and text[max(0, quote - 5) : quote] == " src=":
        return ""
    if text[max(0, quote - 5) : quote] not in ("href=", " src="):
        return ""
    return "link" if quote + 1 == start else "link_part"


def _on_its_own_line(tag: Tag, link: str) -> str:
    source = tag.source
    if source.startswith("{#"):
        return source
    head = 3 if source[2:3] in "+-" else 2
    if tag.prints and link:
        tail = 3 if source[-3] in "+-" else 2
        return f"{source[:head]}\n({source[head:-tail]})|{link}{source[-tail:]}"
    return f"{source[:head]}\n{source[head:]}"
