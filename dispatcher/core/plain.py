"""Markdown's tokens → a template of plain text, as a person would type it: the text twin of the HTML.

One line a paragraph: wrapping is done when the letter is filled (`core.text`). Tags add no lines of their own, so
that a list with an `if` between its items has no holes. Nothing is raised.
"""

from collections.abc import Sequence

from markdown_it.token import Token

from dispatcher.core.model import LetterParts
from dispatcher.core.tags import Tag, Tags
from dispatcher.core.text import finish

COUNTER = "item_number"
"""The function that numbers the items of an ordered list that has tags among its items (see `ItemNumbers`)."""
INDENT = "    "


class ItemNumbers:
    """Numbers items as they are filled in: `item_number(list, start)` begins a list, `item_number(list)` counts on."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def __call__(self, number: int, start: int | None = None) -> str:
        if start is not None:
            self._next[number] = start
            return ""
        self._next[number] += 1
        return str(self._next[number] - 1)


class _List:
    """An open list: how its next item is marked, and whether blank lines stand between its items."""

    def __init__(self, number: int | None, *, counted: int | None = None) -> None:
        self.loose = False
        self._number = number  # None for bullets
        self._counted = counted  # its number among the lists that are counted when filled

    def marker(self, tags: Tags) -> tuple[str, str]:
        """What the next item begins with, and its later lines."""
        if self._number is None:
            return "- ", "  "
        if self._counted is not None:
            return tags.add(Tag(f"{{{{ {COUNTER}({self._counted}) }}}}", "", 0)) + ". ", "   "
        marker = f"{self._number}. "
        self._number += 1
        return marker, " " * len(marker)


class PlainText:
    """Writes one letter's tokens out."""

    def __init__(self, tags: Tags) -> None:
        self._tags = tags
        self._out: list[str] = []
        self._prefix: list[tuple[str, str]] = []  # of each open block: what its next line begins with, and later ones
        self._lists: list[_List] = []
        self._counted = 0
        self._cells: list[str] | None = None
        self._fresh = True  # no line yet in the innermost block

    def write(self, tokens: Sequence[Token]) -> str:
        """The template, still protected; lines end in LF."""
        for token in tokens:
            if step := getattr(self, f"_{token.type}", None):
                step(token)
        return "".join(self._out)

    def _line(self, text: str) -> None:
        self._out.append("".join(first for first, _ in self._prefix) + text + "\n")
        self._prefix = [(rest, rest) for _, rest in self._prefix]
        self._fresh = False

    def _begin(self, token: Token | None = None) -> None:  # noqa: ARG002 (called by token type, like all below)
        """A blank line before a block, inside a quotation too, unless it is the first there."""
        if not self._fresh:
            self._out.append("".join(rest for _, rest in self._prefix).rstrip() + "\n")
        self._fresh = True

    _heading_open = _begin
    _table_open = _begin

    def _paragraph_open(self, token: Token) -> None:
        if self._lists:
            self._lists[-1].loose = not token.hidden
        if not token.hidden:
            self._begin()

    def _inline(self, token: Token) -> None:
        text = inline_text(token.children or [])
        if self._cells is not None:
            self._cells.append(text)
            return
        for line in text.split("\n"):
            self._line(line)

    def _tag_line(self, token: Token) -> None:
        self._out.append(token.content)
        self._fresh = False  # what follows may come again, in a loop

    def _hr(self, token: Token) -> None:  # noqa: ARG002
        self._begin()
        self._line("---")

    def _fence(self, token: Token) -> None:
        self._begin()
        for line in token.content.rstrip("\n").split("\n"):
            self._line(INDENT + line)

    _code_block = _fence

    def _bullet_list_open(self, token: Token) -> None:  # noqa: ARG002
        self._open(_List(None))

    def _ordered_list_open(self, token: Token) -> None:
        start = int(token.attrs.get("start", 1))
        if not token.meta.get("tags"):
            self._open(_List(start))
            return
        self._counted += 1
        self._open(_List(start, counted=self._counted))
        self._out.append(self._tags.add(Tag(f"{{{{ {COUNTER}({self._counted}, {start}) }}}}", "", 0)))

    def _open(self, new: _List) -> None:
        if not self._lists or self._lists[-1].loose:
            self._begin()
        self._lists.append(new)

    def _bullet_list_close(self, token: Token) -> None:  # noqa: ARG002
        self._lists.pop()

    _ordered_list_close = _bullet_list_close

    def _list_item_open(self, token: Token) -> None:  # noqa: ARG002
        self._prefix.append(self._lists[-1].marker(self._tags))

    def _list_item_close(self, token: Token) -> None:  # noqa: ARG002
        first, rest = self._prefix[-1]
        if first != rest:  # an item without text
            self._line("")
        self._prefix.pop()

    def _blockquote_open(self, token: Token) -> None:  # noqa: ARG002
        self._begin()
        self._prefix.append(("> ", "> "))

    def _blockquote_close(self, token: Token) -> None:  # noqa: ARG002
        self._prefix.pop()

    def _tr_open(self, token: Token) -> None:  # noqa: ARG002
        self._cells = []

    def _tr_close(self, token: Token) -> None:  # noqa: ARG002
        cells, self._cells = self._cells or [], None
        self._line(" | ".join(cells))


class LetterText:
    """Whole letters of one language as plain text. What is the same in all of them is set once."""

    def __init__(self, house: LetterParts) -> None:
        self._direction = house.direction
        self._head = finish((house.organisation, "", house.date_line), house.direction)
        self._signature = finish(house.signature, house.direction)
        # Below the mark that mail programs know a signature block by (RFC 3676 §4.3).
        footer = (house.organisation, *house.sender_address, house.footer)
        self._footer = "\n-- \n" + finish(footer, house.direction)

    def write(self, address: Sequence[str], subject: str, body: Sequence[str], enclosures: str) -> str:
        """A letter, from its parts and the lines of its filled body; lines end in LF."""
        own = finish((*address, "", subject, "", *body), self._direction)
        below = "\n" + finish((enclosures,), self._direction) if enclosures else ""
        return f"{self._head}\n{own}\n{self._signature}{below}{self._footer}"


def inline_text(tokens: Sequence[Token]) -> str:
    """Inline tokens as text: links are written out, emphasis is dropped, hard breaks are kept."""
    out: list[str] = []
    links: list[tuple[Token, int]] = []
    for token in tokens:
        if token.type in ("text", "code_inline", "text_special"):
            out.append(token.content)
        elif token.type == "softbreak":
            out.append(" ")
        elif token.type == "hardbreak":
            out.append("\n")
        elif token.type == "link_open":
            links.append((token, len(out)))
        elif token.type == "link_close":
            opening, start = links.pop()
            target = str(opening.attrs.get("href", "")).removeprefix("mailto:")
            if opening.info != "auto" and target != "".join(out[start:]).removeprefix("mailto:"):
                out.append(f" <{target}>")
    return "".join(out)
