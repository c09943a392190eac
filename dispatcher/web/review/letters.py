"""Letters: the list, and one letter as mail, on paper, beside the typical one, and as it leaves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dispatcher.core.errors import UsageError
from dispatcher.core.text import file_stem
from dispatcher.desk.catalogue import FIELD, FIXED, OUTLIERS, PLAN, STATE, Catalogue, Catalogues, Matches, Query, Reason
from dispatcher.desk.letters import NoLetter, SealedLetter, SealedLetters
from dispatcher.desk.reading import story
from dispatcher.web.review.log import PHASES
from dispatcher.web.review.settle import KINDS
from dispatcher.web.review.site import Site
from dispatcher.web.review.words import Words, mark

PER_PAGE: Final = 50
VIEWS: Final[Mapping[str, str]] = {
    "mail": mark("As mail"),
    "compared": mark("Compared"),
    "paper": mark("On paper"),
    "source": mark("Source"),
}
EVENTS: Final[Mapping[str, str]] = {
    **KINDS,
    "held back": mark("held back"),
    "released": mark("waits again"),
    "amended": mark("amended"),
    "cancelled": mark("cancelled"),
    "assumed sent": mark("assumed sent"),
    "adopted": mark("taken for printed"),
    "printed": mark("printed"),
    "reprinted": mark("printed again"),
}
"""What happens to a letter that is no attempt, as events of the ledger."""
COLUMNS: Final[Mapping[str, str]] = {
    "key": mark("Key"),
    "name": mark("Name"),
    "addresses": mark("Addresses"),
    "language": mark("Language"),
    "channel": mark("Channel"),
}
ORDERS: Final[Mapping[str, str]] = {
    OUTLIERS: mark("What stands out first"),
    PLAN: mark("As planned"),
    STATE: mark("State"),
}
SOUGHT: Final = (
    "waiting", "at_risk", "deferred", "accepted", "failed", "unknown", "closed_unknown", "suppressed", "cancelled",
    "to_print", "printed", "posted",
)  # fmt: skip
"""States that can be looked for."""
UNUSUAL: Final = (mark("right-to-left"), mark("not Latin"), mark("characters that do not show"))
LETTER_POLICY: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
"""Of a letter's HTML: nothing runs, nothing is fetched."""
FILE_POLICY: Final = "sandbox; default-src 'none'"


class _Number(IntegerConvertor):
    """A number in an address, no larger than the ledger's can be: what is larger leads nowhere."""

    regex = "[0-9]{1,15}"


register_url_convertor("number", _Number())


@dataclass(frozen=True, slots=True)
class Search:
    """What the address asks for."""

    query: Query

    @classmethod
    def of(cls, request: Request) -> "Search":
        given = request.query_params
        return cls(
            Query(
                given.get("q", ""),
                given.get("state", ""),
                given.get("column", ""),
                given.get("value", ""),
                given.get("order", OUTLIERS) or OUTLIERS,
                bool(given.get("down")),
            )
        )

    def address(self, path: str = "/letters", **more: object) -> str:
        """The same search elsewhere, or with more in it."""
        query = self.query
        given = {"q": query.words, "state": query.state, "column": query.column if query.value else "",
                 "value": query.value, "order": query.order if query.order != OUTLIERS else "",
                 "down": "1" if query.down else "", **more}  # fmt: skip
        said = urlencode({name: value for name, value in given.items() if value})
        return f"{path}?{said}" if said else path


def routes(site: Site) -> list[Route]:
    """The addresses of this part."""
    pages = _Pages(site, site.catalogues, SealedLetters(site.desk))
    return [
        Route("/letters", pages.listing),
        Route("/letter", pages.by_key),
        Route("/letters/{number:number}", pages.letter),
        Route("/letters/{number:number}/html", pages.html),
        Route("/letters/{number:number}/page/{page:number}", pages.page),
        Route("/letters/{number:number}/pdf", pages.pdf),
        Route("/letters/{number:number}/eml", pages.eml),
        Route("/letters/{number:number}/attachment/{digest}", pages.attachment),
    ]


class _Pages:
    def __init__(self, site: Site, catalogues: Catalogues, sealed: SealedLetters) -> None:
        self._site = site
        self._catalogues = catalogues
        self._sealed = sealed

    def listing(self, request: Request) -> Response:
        search = Search.of(request)
        catalogue, matches = self._catalogues.find(search.query)
        after, before = _number(request, "after"), _number(request, "before")
        some = matches.before(before, PER_PAGE) if before else matches.after(after, PER_PAGE)
        numbers = some.numbers
        return self._site.page(
            request,
            "letters.html",
            search=search,
            query=search.query,
            letters=self._catalogues.listed(catalogue, numbers),
            total=len(catalogue.ids),
            found=some,
            before=numbers[0] if numbers and some.first > 1 else None,
            after=numbers[-1] if numbers and some.first - 1 + len(numbers) < some.total else None,
            orders=[*ORDERS.items(), *COLUMNS.items()],
            columns=COLUMNS,
            fields=[(FIELD + name, name) for name in catalogue.fields],
            extra=_extra(catalogue, search.query),
            states=SOUGHT,
            why=self._why(request),
        )

    def _why(self, request: Request) -> Any:
        words = self._site.words(request)
        return lambda reasons: "; ".join(_in_words(words, reason) for reason in reasons)

    def by_key(self, request: Request) -> Response:
        try:
            number = self._sealed.number_of(request.query_params.get("key", ""))
        except UsageError as error:
            raise NoLetter(str(error)) from None
        return RedirectResponse(f"/letters/{number}", 303)

    def letter(self, request: Request) -> Response:
        number: int = request.path_params["number"]
        search = Search.of(request)
        view = request.query_params.get("view", "mail")
        view = view if view in VIEWS else "mail"
        sealed = self._sealed.letter(number)
        catalogue, matches = self._catalogues.find(search.query)
        before, behind = matches.neighbours(number)
        listed = self._catalogues.listed(catalogue, [number])
        return self._site.page(
            request,
            "letter.html",
            search=search,
            sealed=sealed,
            letter=sealed.letter,
            rendering=None if sealed.purged else self._sealed.rendering(sealed),
            reasons=listed[0].reasons if listed else (),
            why=self._why(request),
            story=story(self._site.desk, sealed.key),
            phases=PHASES,
            kinds=EVENTS,
            views=VIEWS,
            view=view,
            before=before,
            behind=behind,
            where=_where(matches, number),
            **({} if sealed.purged else self._view(view, catalogue, sealed)),
        )

    def _view(self, view: str, catalogue: Catalogue, sealed: SealedLetter) -> dict[str, Any]:
        if view == "compared":
            return {"comparison": self._sealed.compared(catalogue, sealed)}
        if view == "source":
            return {"source": None if sealed.on_paper else self._sealed.source(sealed)}
        if view == "paper":
            try:
                return {"pages": len(self._sealed.pages(sealed)), "problems": ()}
            except UsageError as error:
                return {"pages": 0, "problems": error.problems}
        return {}

    def html(self, request: Request) -> Response:
        sealed = self._asked(request)
        return Response(
            self._sealed.html(sealed),
            media_type="text/html",
            headers={"content-security-policy": LETTER_POLICY, "referrer-policy": "no-referrer"},
        )

    def page(self, request: Request) -> Response:
        pages = self._sealed.pages(self._asked(request))
        page: int = request.path_params["page"]
        if not 1 <= page <= len(pages):
            raise NoLetter("there is no such page of it")
        return Response(pages[page - 1], media_type="image/png")

    def pdf(self, request: Request) -> Response:
        sealed = self._asked(request)
        return _download(self._sealed.pdf(sealed), f"{_stem(sealed)}.pdf", "application/pdf")

    def eml(self, request: Request) -> Response:
        sealed = self._asked(request)
        if sealed.on_paper:
            raise NoLetter("there is no such file of it")
        return _download(self._sealed.octets(sealed), f"{_stem(sealed)}.eml", "message/rfc822")

    def attachment(self, request: Request) -> Response:
        found = self._asked(request).attachment(request.path_params["digest"])
        return _download(self._sealed.content(found.digest), found.name, found.media_type)

    def _asked(self, request: Request) -> SealedLetter:
        sealed = self._sealed.letter(request.path_params["number"])
        if sealed.purged:
            raise NoLetter("its text was removed")
        return sealed


def _number(request: Request, name: str) -> int | None:
    given = request.query_params.get(name, "")
    return int(given) if given.isdecimal() and given.isascii() and len(given) < 16 else None


def _extra(catalogue: Catalogue, query: Query) -> list[tuple[str, str]]:
    """Columns to show because they are looked for, or give the order: their names, here and there."""
    asked = [query.order, query.column if query.value else ""]
    shown = [name for name in asked if name in catalogue.columns and (name not in FIXED or name == "channel")]
    return [(name, COLUMNS.get(name, name.removeprefix(FIELD))) for name in dict.fromkeys(shown)]


def _where(matches: Matches, number: int) -> tuple[int, int] | None:
    """Which one of how many a letter is, if it is among the found."""
    place = matches.position(number)
    return (place, len(matches)) if place else None


def _in_words(words: Words, reason: Reason) -> str:
    if reason.kind == "language":
        return words("asked for {language}", language=reason.detail)
    if reason.kind == "empty":
        return words("{column} is empty", column=reason.detail)
    if reason.kind == "script":
        return words("its name is unusual: {what}", what=words(reason.detail))
    return words("unlike most in its language")


def _stem(sealed: SealedLetter) -> str:
    return file_stem(sealed.number, sealed.key)


def _download(octets: bytes, name: str, media_type: str) -> Response:
    """A file to keep, under any name (RFC 6266, RFC 8187); never shown here."""
    return Response(
        octets,
        media_type=media_type,
        headers={
            "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "content-security-policy": FILE_POLICY,
        },
    )
