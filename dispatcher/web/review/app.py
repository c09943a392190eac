"""Puts the page together. No rules here: what is shown comes from the desk, who may see it is the guard's."""

from collections.abc import Awaitable, Callable
from importlib.resources import as_file, files
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from dispatcher.core.errors import DispatcherError, LedgerUnavailable
from dispatcher.desk.letters import NoLetter
from dispatcher.web.review import letters, log, overview, settle
from dispatcher.web.review.guard import STATIC, Guard, Session
from dispatcher.web.review.site import LANGUAGE_COOKIE, Site
from dispatcher.web.review.words import LANGUAGES, mark

NOT_HERE = mark("There is no such page")
STRANGER = mark("Open the link once more")
BROKEN = mark("This cannot be shown")


def build(site: Site, session: Session) -> ASGIApp:
    """The page of one campaign, guarded."""
    pages = (overview, letters, log, settle)
    with as_file(files(__package__).joinpath("static")) as folder:
        static = StaticFiles(directory=folder)
    app = Starlette(
        routes=[
            *(route for page in pages for route in page.routes(site)),
            Route("/language/{to}", _language),
            Mount(STATIC.rstrip("/"), static),
        ],
        exception_handlers={HTTPException: _http_error(site), DispatcherError: _known_error(site)},
    )
    return Guard(app, session, _stranger(site))


def _language(request: Request) -> Response:
    """Another language for the page, kept by the browser; back to where one was."""
    to, back = request.path_params["to"], request.query_params.get("back", "/")
    local = back.startswith("/") and not back.startswith(("//", "/\\"))
    answer = RedirectResponse(quote(back, safe="/?&=%+,:;@~") if local else "/", 303)
    if to in LANGUAGES:
        answer.set_cookie(LANGUAGE_COOKIE, to, max_age=365 * 86400, httponly=True, samesite="strict", path="/")
    return answer


def _stranger(site: Site) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        text = site.words(request)(
            "This page is for the person who started it. Open the whole link that dispatcher review printed; "
            "if it was closed since, start it again."
        )
        await site.plain_page(request, 403, STRANGER, text)(scope, receive, send)

    return answer


_Handler = Callable[[Request, Exception], Awaitable[Response]]


def _http_error(site: Site) -> _Handler:
    async def handle(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = str(getattr(error, "detail", "")) if status != 404 else ""
        return site.plain_page(request, status, NOT_HERE, detail, lang="en")

    return handle


def _known_error(site: Site) -> _Handler:
    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, NoLetter):
            return site.plain_page(request, 404, NOT_HERE, str(error), lang="en")
        status = 503 if isinstance(error, LedgerUnavailable) else 409
        return site.plain_page(request, status, BROKEN, str(error), lang="en")

    return handle
