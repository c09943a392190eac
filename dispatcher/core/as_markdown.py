"""Texts that were written for another mailer → Markdown as a letter here has it: typed text, Markdown, or HTML.

Jinja tags stay as they are, and everything keeps its lines: what a recipient read there in two lines is two lines here.
Each function takes the text with its tags taken out (`Tags.protect`), and gives it back so. Pure functions.
"""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import zip_longest
from typing import Final

from dispatcher.core.bounds import words
from dispatcher.core.markdown import soft_breaks
from dispatcher.core.tags import MARK, Tags

_LINK: Final = re.compile(
    r"<(?:https?://|mailto:)[^\s<>]+>"
    r"|(?P<bare>https?://[^\s<>]*[\w/=#&%~-])(?<![_~])"
    r"|[A-Za-z0-9][\w.+-]*@[A-Za-z0-9][\w.-]*[A-Za-z0-9]"
)
_INLINE: Final = re.compile(r"[\\*`\[\]|]|(?<![^\W_])_|_(?![^\W_])|<(?=[\w/!?])|&(?=#?\w+;)")
_RULE: Final = re.compile(r"[-=_~*+]+\s*\Z|~~~")
_NUMBER: Final = re.compile(r"(\d+)([.)])\s*")
_NUMBERED: Final = re.compile(r"(\d{1,3})[.)] (?=\S)")
_BULLET: Final = re.compile(r"[-*•+] (?=\S)")
_HEADING: Final = re.compile(r"#{1,6}(?=\s|\Z)")
_PICTURE: Final = re.compile(r"!\[([^\]\n]*)\]\([^)\n]*\)")
_LINK_ENDS: Final = re.compile(r"""[.,;:!?)"']*(?:\s|\Z)""")
_ENDS_IN_LINK: Final = re.compile(r"(?:://|@|www\.|mailto:)\S*\Z")
_ITEM: Final = re.compile(r" *(?:-|\d{1,3}[.)]) ")
_BLANKS: Final = re.compile(r"\s+")


def of_typed(text: str, tags: Tags) -> str:
    """Plain text: its lines stay lines, its signs mean nothing but themselves, except that lists are lists."""
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        typed = _typed_line(line.strip(" \t"), before)
        if _ITEM.match(before) and typed and not (_ITEM.match(typed) or line[0] in " \t"):
            lines.append("")  # what follows a list without a blank line is not its last item's
        lines.append(typed)
    return with_breaks("\n".join(lines), tags)


def _typed_line(line: str, before: str = "") -> str:
    if _RULE.match(line) or _HEADING.match(line):
        return f"\\{line[0]}{_escaped(line[1:])}"
    if found := _NUMBER.fullmatch(line):
        return f"{found[1]}\\{found[2]}"  # else an item without words
    if line.startswith(">"):
        return f"> {_typed_line(line[1:].lstrip())}"
    if found := _BULLET.match(line):
        return f"- {_typed_line(line[found.end() :])}"
    if found := _NUMBERED.match(line):
        sign = line[len(found[1])]
        listed = found[1] == "1" or _NUMBERED.match(before)
        return f"{found[1]}{'' if listed else chr(92)}{sign} {_typed_line(line[found.end() :])}"
    return _escaped(line)


def _escaped(text: str) -> str:
    """Text in which Markdown would find no sign of its own; links stay what they are."""
    out, at = [], 0
    for link in _LINK.finditer(text):
        plain = _LINK_ENDS.match(text, link.end()) and not _INLINE.search(text[link.start() : link.end() + 1])
        shown = f"<{link[0]}>" if link["bare"] and not plain else link[0]
        out += [_INLINE.sub(r"\\\g<0>", text[at : link.start()]), shown]
        at = link.end()
    return "".join([*out, _INLINE.sub(r"\\\g<0>", text[at:])])


def with_breaks(text: str, tags: Tags) -> str:
    """Markdown in which every line break inside a paragraph is kept, as mailers with `nl2br` do."""
    lines = text.split("\n")
    for number in soft_breaks(text, tags):
        line = lines[number].rstrip()
        lines[number] = f"{line} \\" if _ENDS_IN_LINK.search(line) else f"{line}\\"  # it would be the link's
    return "\n".join(lines)


def without_pictures(text: str) -> tuple[str, Sequence[str]]:
    """Markdown with the words of its pictures in their place; and the pictures as they stood."""
    return _PICTURE.sub(r"\1", text), [found[0] for found in _PICTURE.finditer(text)]


def of_html(text: str) -> tuple[str, Sequence[str]]:
    """The words of a web page as Markdown: paragraphs, headings, lists, links, emphasis; and its pictures.

    Tables become lines of words; colours, sizes and styles go.
    """
    writer = _Writer()
    writer.feed(text)
    writer.close()
    return writer.markdown(), writer.pictures


_SILENT: Final = words("head style script title")
_BLOCKS: Final = words("p div section article header footer table tr ul ol li blockquote h1 h2 h3 h4 h5 h6")
_TARGET: Final = re.compile(rf"(?:https?://|mailto:)[^\s<>]+\Z|{MARK.pattern}[^\s<>]*\Z", re.IGNORECASE)
_EMPHASIS: Final = {"b": "**", "strong": "**", "i": "*", "em": "*"}


class _Writer(HTMLParser):
    """Collects blocks of Markdown. What opens inside a block (`_open`: tag, where, link) ends with it at the latest."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self._blocks: list[str] = []
        self._line: list[str] = []
        self._open: list[tuple[str, int, str]] = []
        self._start = ""
        self._silent = 0
        self._lists: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in _SILENT:
            self._silent += 1
        elif tag in _BLOCKS:
            self._end_block()
            self._begin(tag)
        elif tag == "br":
            self._line.append("\\\n")
        elif tag in _EMPHASIS or tag == "a":
            self._open.append((tag, len(self._line), given.get("href", "").strip()))
        elif tag == "img":
            self.pictures.append(given.get("src", ""))
            self._line.append(_escaped(given.get("alt", "")))
        elif tag in ("td", "th"):
            self._line.append(" ")

    def _begin(self, tag: str) -> None:
        if tag in ("ul", "ol"):
            self._lists.append("- " if tag == "ul" else "1. ")
        elif tag == "li":
            depth = max(0, len(self._lists) - 1)
            self._start = "   " * depth + (self._lists[-1] if self._lists else "- ")
        elif tag[0] == "h" and tag[1:].isdigit():
            self._start = "#" * int(tag[1:]) + " "
        elif tag == "blockquote":
            self._start = "> "

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _BLOCKS:
            self._end_block()
            if tag in ("ul", "ol") and self._lists:
                self._lists.pop()
        elif self._open and self._open[-1][0] == tag:
            self._mark(*self._open.pop())

    def _mark(self, tag: str, start: int, target: str) -> None:
        """Put what stands since `start` into its marks, blanks outside; a link that leads nowhere is only words."""
        inside = "".join(self._line[start:])
        words = inside.strip()
        if words and "\n" not in words and (tag != "a" or _TARGET.match(target)):
            mark = _EMPHASIS.get(tag, "")
            marked = f"[{words}](<{target}>)" if tag == "a" else f"{mark}{words}{mark}"
            before, _, after = inside.partition(words)
            self._line[start:] = [before, marked, after]

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._line.append(_escaped(_BLANKS.sub(" ", data)))

    def _end_block(self) -> None:
        lines = "".join(self._line).split("\n")
        text = "\n".join(line.strip() for line in lines).strip("\\\n ")
        if text:
            self._blocks.append(self._start + text)
            self._start = ""
        self._line, self._open = [], []

    def markdown(self) -> str:
        self._end_block()
        text = ""
        for block, following in zip_longest(self._blocks, self._blocks[1:], fillvalue=""):
            listed = _ITEM.match(block) and _ITEM.match(following)
            text += block + ("\n" if listed or not following else "\n\n")
        return text
