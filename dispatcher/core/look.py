"""The letters as a filter or a hurried reader meets them: links, subjects, pictures, types of files, both texts alike.

What is simply wrong with a letter is `core.lint`'s to find. Here is what makes a right letter look like a wrong one; so
all of it is a warning. A letter costs a few regular expressions; the same link in 10,000 letters is looked at once.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlsplit

from dispatcher.core.bounds import words
from dispatcher.core.merge import Merged
from dispatcher.core.preflight import Line, Part, ok, warning

SHORTENERS: Final = words("""
    bit.ly tinyurl.com t.co goo.gl ow.ly is.gd buff.ly rebrand.ly cutt.ly t.ly shorturl.at tiny.cc lnkd.in rb.gy v.gd
    tr.im adf.ly bl.ink soo.gd s.id shorte.st
""")
"""Services that hide where a link leads: spam loves them, so filters do not."""
REFUSED: Final = words("""
    ade adp apk appx appxbundle bat cab chm cmd com cpl diagcab dll dmg exe hta img ins iso isp jar js jse lnk mde msc
    msi msix msp mst nsh pif ps1 psc1 reg scr sct shb sys url vb vbe vbs vhd vhdx vxd wsc wsf wsh xll
""")
"""Types that large mail services refuse, also inside archives."""
DOUBTED: Final = words("7z ace arj docm dotm gz htm html one pptm rar svg tar tgz xlam xlsm xltm zip")
"""Types that many gateways hold back or look into: archives, macros, pages."""
LONGEST_SUBJECT: Final = 90
"""Characters; what stands behind is cut off in most lists of letters."""
LARGE: Final = 10_000_000
"""Octets on the wire that many a server takes at most."""
_LITTLE: Final = 300
"""Characters of text, below which a picture is most of a letter."""
_ALIKE: Final = 0.7
_LEAST: Final = 0.3
_MOST_LINKS: Final = 1000
_NAMED: Final = 5
_HREF: Final = re.compile(r'<a\b[^>]*?\bhref="([^"]*)"[^>]*>(.*?)</a>', re.DOTALL | re.IGNORECASE)
_TAG: Final = re.compile(r"<[^>]+>")
_IMAGE: Final = re.compile(r"<img\b", re.IGNORECASE)
_WORD: Final = re.compile(r"\w{3,}")
_SHOWN_URL: Final = re.compile(r"(?:https?://)?((?:[\w-]+\.)+[a-z]{2,})(?:[/?#]\S*)?\Z", re.IGNORECASE)
_FAKE: Final = re.compile(r"(re|fw|fwd|aw|wg|tr|rv|sv)\s*:", re.IGNORECASE)


class _Text(HTMLParser):
    """What is seen of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self._hidden += tag in ("style", "title", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "title", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


def seen(html: str) -> str:
    """The text of a page as it is read."""
    reader = _Text()
    reader.feed(html)
    reader.close()
    return " ".join(reader.pieces)


@dataclass(slots=True)
class Look:
    """Shown each letter, it remembers whom each finding is about: the first keys, and how many."""

    found: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    count: dict[tuple[str, str, str], int] = field(default_factory=dict)
    links: dict[tuple[str, str], Sequence[tuple[str, str, str]]] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)
    first: dict[str, Merged] = field(default_factory=dict)
    letters: int = 0

    def __call__(self, merged: Merged) -> None:
        key, rendering = merged.letter.key, merged.rendering
        self.letters += 1
        for subject, what, todo in (*_subject(rendering.subject), *self._links(rendering.html), *_files(merged)):
            self._note(key, subject, what, todo)
        if rendering.language not in self.first:
            self.first[rendering.language] = merged
            for subject, what, todo in (*_alike(merged), *_pictures(merged)):
                self._note(key, subject, what, todo)

    def _note(self, key: str, subject: str, what: str, todo: str) -> None:
        finding = (subject, what, todo)
        self.count[finding] = self.count.get(finding, 0) + 1
        if len(keys := self.found.setdefault(finding, [])) < _NAMED:
            keys.append(key)

    def _links(self, html: str) -> Iterator[tuple[str, str, str]]:
        for target, shown in _HREF.findall(html):
            link = (target, shown)
            if link not in self.links and len(self.links) < _MOST_LINKS:
                self.links[link] = list(_link(_unescaped(target), _unescaped(_TAG.sub("", shown)).strip()))
                self.targets.add(_unescaped(target))
            yield from self.links.get(link, ())

    def lines(self) -> Iterator[Line]:
        """What was found, in the order in which it was met."""
        for finding, keys in self.found.items():
            subject, what, todo = finding
            more = self.count[finding] - len(keys)
            whom = ", ".join(keys) + (f" and {more:,} more" if more else "")
            yield warning(Part.LETTERS, subject, f"{what} ({whom})", todo)
        about = {finding[0] for finding in self.found}
        if self.letters and "links" not in about:
            yield ok(Part.LETTERS, "links", f"{len(self.targets):,} different, all plain" if self.targets else "none")
        if self.letters and "subject" not in about:
            yield ok(Part.LETTERS, "subject", f"none is longer than {LONGEST_SUBJECT} characters, or shouts")
        if self.letters and "text and HTML" not in about:
            yield ok(Part.LETTERS, "text and HTML", "say the same, in each language")


def reach_of_links(reached: Mapping[str, str]) -> Iterator[Line]:
    """How it stands with links that were tried: by link, what is wrong with it, or ''."""
    for link, trouble in reached.items():
        if trouble:
            yield warning(
                Part.LETTERS, "links", f"{link}: {trouble}", "open it in a browser; mend it if it fails there too"
            )
    good = sum(not trouble for trouble in reached.values())
    if good or not reached:
        yield ok(Part.LETTERS, "links", f"{good:,} of {len(reached):,} can be reached")


def _unescaped(text: str) -> str:
    for code, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#34;", '"'), ("&#39;", "'"), ("&amp;", "&")):
        text = text.replace(code, char)
    return text


# Links.


def _link(target: str, shown: str) -> Iterator[tuple[str, str, str]]:
    """What is odd about one link."""
    if target.lower().startswith("mailto:"):
        return
    try:
        parts = urlsplit(target)
        host = (parts.hostname or "").removeprefix("www.") if parts.port != 0 else ""
    except ValueError:  # also for a port that is none
        host = ""
    if not host or " " in target or (not _is_ip(host) and "." not in host):
        yield "links", f"leads nowhere: {target}", "mend the link"
        return
    if parts.scheme.lower() != "https":
        yield "links", f"is not https: {target}", "write https://: browsers warn of anything else"
    if _is_ip(host):
        yield "links", f"leads to a number, not to a name: {target}", "link to a name: filters take numbers for fraud"
    if host in SHORTENERS:
        yield (
            "links",
            f"is shortened: {target}",
            "write where it leads: filters and careful readers avoid what hides it",
        )
    if parts.username is not None:
        yield "links", f"holds a name before its host: {target}", "take out what stands before @: it looks like fraud"
    seen_host = _SHOWN_URL.fullmatch(shown)
    if seen_host and seen_host[1].lower().removeprefix("www.") != host:
        yield (
            "links",
            f"shows {seen_host[1]} and leads to {host}",
            "let it show where it leads: otherwise it looks like fraud",
        )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# Subjects.


def _subject(subject: str) -> Iterator[tuple[str, str, str]]:
    letters = [char for char in subject if char.isalpha()]
    if len(subject) > LONGEST_SUBJECT:
        what = f"has {len(subject)} characters: {subject[:40]}…"
        yield "subject", what, f"say it in {LONGEST_SUBJECT}: what stands behind is cut off"
    if len(letters) > 10 and sum(char.isupper() for char in letters) > 0.6 * len(letters):
        yield "subject", f"is written in capitals: {subject}", "write it as a sentence"
    if subject.count("!") > 1 or "$$" in subject:
        yield "subject", f"shouts: {subject}", "say it calmly: filters and readers take it for advertising"
    if _FAKE.match(subject):
        yield "subject", f"looks like an answer: {subject}", "begin it otherwise: nobody has written before"


# Text, pictures, files.


def _alike(merged: Merged) -> Iterator[tuple[str, str, str]]:
    """Filters hold the two texts against each other; who reads one should miss little of the other."""
    text = set(_WORD.findall(merged.rendering.text.lower()))
    page = set(_WORD.findall(seen(merged.rendering.html).lower()))
    both = len(text & page)
    if both < _ALIKE * len(page) or both < _LEAST * len(text):  # a layout may leave out what the house says
        what = f"differ in {merged.rendering.language}: {both:,} of {len(text | page):,} words are in both"
        yield "text and HTML", what, "let layout.html show {{ body }} whole, and say there nothing of its own"


def _pictures(merged: Merged) -> Iterator[tuple[str, str, str]]:
    pictures = len(_IMAGE.findall(merged.rendering.html))
    text = len(" ".join(seen(merged.rendering.html).split()))
    if pictures and text < _LITTLE * pictures:
        what = f"{pictures} to {text:,} characters of text in {merged.rendering.language}"
        yield "pictures", what, "write more, or show fewer: a picture cannot be read by a filter"


def _files(merged: Merged) -> Iterator[tuple[str, str, str]]:
    for attachment in merged.letter.attachments:
        end = attachment.name.rpartition(".")[2].lower()
        if end in REFUSED:
            what = f"{attachment.name} is of a type that large mail services refuse"
            yield "attachments", what, "send a PDF, or a link to a page of yours"
        elif end in DOUBTED:
            what = f"{attachment.name} is of a type that many gateways hold back"
            yield "attachments", what, "send a PDF, if it can be one"
    if merged.message.size > LARGE:
        what = f"over {LARGE / 1e6:g} MB on the wire, which many servers do not take"
        yield "attachments", what, "make them smaller, or link to them"
