"""What all pages share: the desk, the templates with their words, the heading, and how an error is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dispatcher.core.text import printable
from dispatcher.desk import Desk
from dispatcher.desk.catalogue import Catalogues
from dispatcher.desk.reviewing import heading
from dispatcher.web.outliers import size
from dispatcher.web.review.words import LANGUAGES, Words, mark, negotiated

LANGUAGE_COOKIE: Final = "dispatcher-language"
NAVIGATION: Final = (
    ("/", mark("Overview")),
    ("/letters", mark("Letters")),
    ("/log", mark("Log")),
    ("/settle", mark("To settle")),
)
STATES: Final[Mapping[str, tuple[str, str]]] = {
    "accepted": (mark("accepted"), "accepted"),
    "waiting": (mark("waiting"), "waiting"),
    "ready": (mark("waiting"), "waiting"),
    "leased": (mark("waiting"), "waiting"),
    "at_risk": (mark("in flight"), "waiting"),
    "in_flight": (mark("in flight"), "waiting"),
    "deferred": (mark("deferred"), "deferred"),
    "failed": (mark("failed"), "failed"),
    "unknown": (mark("unknown"), "unknown"),
    "closed_unknown": (mark("unknown, closed"), "unknown"),
    "suppressed": (mark("suppressed"), "skipped"),
    "cancelled": (mark("cancelled"), "skipped"),
    "skipped": (mark("skipped"), "skipped"),
    "to_print": (mark("to print"), "waiting"),
    "printed": (mark("printed"), "paper"),
    "posted": (mark("posted"), "paper"),
    "bounced": (mark("bounced"), "failed"),
    "replied": (mark("replied"), "replied"),
}
"""Where letters stand, as people read it, and the colour it is shown in (a property of review.css)."""


@cache
def _templates() -> Environment:
    """All of them: what comes from lists, relays and templates of letters is escaped."""
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=_shown, lines=_lines, size=size, moment=moment, colour=colour)
    environment.globals.update(link_to_letter=letter_address)
    environment.globals.update(STATES=STATES, LANGUAGES=LANGUAGES, NAVIGATION=NAVIGATION)
    return environment


def _shown(text: object) -> str:
    """A text from outside in one line: controls and direction marks are made visible."""
    return printable(str(text))


def _lines(text: str) -> str:
    """The same in several lines."""
    return "\n".join(map(printable, text.splitlines()))


def colour(state: str) -> str:
    """The colour that a state is shown in."""
    return STATES[state][1] if state in STATES else state


def moment(stamp: str | None) -> str:
    """A moment of the ledger for people: to the second, in UTC."""
    return f"{stamp[:10]} {stamp[11:19]}" if stamp else ""


def letter_address(key: str) -> str:
    """Where a letter is shown, by its recipient's key."""
    return "/letter?" + urlencode({"key": key})


@dataclass(frozen=True, slots=True)
class Site:
    """One campaign's pages. `language` is the one that was asked for on the command line, '' if none was."""

    desk: Desk
    form_token: str
    language: str
    catalogues: Catalogues

    def words(self, request: Request) -> Words:
        """In the language of this request: chosen on the page, on the command line, or in the browser."""
        chosen = request.cookies.get(LANGUAGE_COOKIE, "")
        if chosen in LANGUAGES:
            return Words(chosen)
        return Words(self.language or negotiated(request.headers.get("accept-language", "")))

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """One of the templates. Each finds `_`, `many` and `number` there, and the address it was asked for by."""
        words = self.words(request)
        query = request.url.query
        given = {
            "_": words,
            "many": words.many,
            "number": words.number,
            "language": words.language,
            "heading": heading(self.desk),
            "path": request.url.path,
            "address": request.url.path + (f"?{query}" if query else ""),
            "form_token": self.form_token,
            **values,
        }
        return HTMLResponse(_templates().get_template(template).render(given), status)

    def plain_page(self, request: Request, status: int, title: str, text: str, *, lang: str = "") -> Response:
        """A page that says one thing, and needs neither session nor ledger. `lang` is the text's, if not the page's."""
        words = self.words(request)
        given = {"_": words, "language": words.language, "title": title, "text": text, "lang": lang or words.language}
        return HTMLResponse(_templates().get_template("plain.html").render(given), status)
