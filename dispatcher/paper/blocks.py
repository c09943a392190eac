"""A letter's body (`LetterParts.body`, HTML) → a tree of plain data for Typst: one source for mail and paper.

A node is a text, or `[tag, extra, children]`. What paper cannot show as mail does becomes text here: a link gets its
address in brackets behind it, unless that is what it says already, and a word too long for a line may break.
"""

import re
import unicodedata
from html.parser import HTMLParser
from typing import Final, TypeAlias
from urllib.parse import unquote

Node: TypeAlias = "str | list[str | list[Node]]"

BREAK: Final = "\u200b"
"""A zero width space: here a word may go on in the next line."""
_LONGEST: Final = 36
"""Characters of a word that surely stand in one line of a letter."""
_STEP: Final = 12
_WORD: Final = re.compile(rf"[^\s{BREAK}]{{{_LONGEST + 1},}}")
_BREAKS_ITSELF: Final = re.compile("[\u0e00-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ufaff\uff00-\uffef]")
"""Scripts without spaces, in which Typst knows where a line may end: Thai to Burmese, Khmer, those of East Asia."""
_SPACES: Final = re.compile(r"[ \t\r\n\f]+")
_INLINE: Final = {"strong": "strong", "b": "strong", "em": "em", "i": "em", "code": "code", "s": "s", "del": "s"}
_BLOCKS: Final = frozenset(
    ("p", "ul", "ol", "li", "blockquote", "table", "tr", "th", "td", "h1", "h2", "h3", "h4", "h5", "h6", "pre")
)
_LEAVES: Final = frozenset(("p", "li", "th", "td", "h1", "h2", "h3", "h4", "h5", "h6"))
_VOID: Final = frozenset(("br", "hr"))
_ALIGN: Final = re.compile(r"text-align:\s*(left|right|center)")


def blocks(fragment: str) -> list[Node]:
    """The blocks of an HTML fragment, in order."""
    reader = _Reader()
    reader.feed(fragment)
    reader.close()
    return reader.finish()


def breakable(text: str) -> str:
    """The text with places to break in words that no line could hold, such as long addresses of the web."""
    return _WORD.sub(lambda found: _broken(found.group()), text)


def _broken(word: str) -> str:
    if _BREAKS_ITSELF.search(word):
        return word
    pieces: list[str] = []
    run = 0
    for n, char in enumerate(word):
        joined = unicodedata.category(char)[0] == "M" or char == "\u200d" or (n and word[n - 1] == "\u200d")
        if run and not joined and (run >= _STEP or word[n - 1] in "/?&=#_.@-"):
            pieces.append(BREAK)
            run = 0
        pieces.append(char)
        run += 1
    return "".join(pieces)


class _Reader(HTMLParser):
    """Builds the tree. Tags it does not know are seen through: their text is kept."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, str, list[Node]]] = [("", "", [])]

    def finish(self) -> list[Node]:
        while len(self._open) > 1:
            self._close()
        return self._open[0][2]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in _VOID:
            self._add([tag, "", []])
        elif tag in _BLOCKS or tag in _INLINE or tag == "a":
            self._open.append((tag, _extra(tag, given), []))
        elif tag == "img":
            self._text(given.get("alt", ""))

    def handle_endtag(self, tag: str) -> None:
        if any(tag == name for name, _, _ in self._open[1:]):
            while self._close() != tag:
                pass

    def handle_data(self, data: str) -> None:
        inside = [name for name, _, _ in self._open]
        if "pre" in inside:
            self._add(data)
        elif any(name in _LEAVES for name in inside) or data.strip():
            self._text(_SPACES.sub(" ", data))

    def _text(self, text: str) -> None:
        children = self._open[-1][2]
        if not children or is_element(children[-1], "br"):
            text = text.removeprefix(" ") if self._open[-1][0] in _LEAVES or children else text
        if text:
            self._add(breakable(text))

    def _add(self, node: Node) -> None:
        self._open[-1][2].append(node)

    def _close(self) -> str:
        tag, extra, children = self._open.pop()
        if tag == "a":
            self._open[-1][2].extend(_with_address(children, extra))
        else:
            if tag in _LEAVES and children and isinstance(children[-1], str):
                children[-1] = children[-1].rstrip(" ")
            self._add([_INLINE.get(tag, tag), extra, children])
        return tag


def _extra(tag: str, given: dict[str, str]) -> str:
    if tag == "a":
        return given.get("href", "")
    if tag == "ol":
        start = given.get("start", "")
        return start if start.isascii() and start.isdigit() else ""
    if tag in ("td", "th"):
        found = _ALIGN.search(given.get("style", ""))
        return found.group(1) if found else ""
    return ""


def is_element(node: Node, tag: str) -> bool:
    """Whether a node is an element of this tag."""
    return not isinstance(node, str) and node[0] == tag


def _with_address(children: list[Node], target: str) -> list[Node]:
    address = target.removeprefix("mailto:").partition("?")[0] if target.startswith("mailto:") else target
    if not address or _same(plain(children), address):
        return [["address", "", children]]
    return [*children, " (", ["address", "", [breakable(unquote(address))]], ")"]


def _same(shown: str, address: str) -> bool:
    def bare(text: str) -> str:
        return re.sub(r"^(?:https?://)?(?:www\.)?|/$", "", unquote(text.replace(BREAK, "").strip().lower()))

    return bare(shown) == bare(address)


def plain(nodes: list[Node]) -> str:
    """The text of a tree alone, to look for something in it."""
    return "".join(node if isinstance(node, str) else plain(node[2]) for node in nodes)  # type: ignore[arg-type]
