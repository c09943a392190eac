"""Log: every attempt, filtered by the address alone, so that a link finds the same again; and the same as a file."""

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO, Final, cast
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from dispatcher.core.errors import UsageError
from dispatcher.core.reading import ATTEMPT_COLUMNS
from dispatcher.desk.attempts import OUTCOMES, Addressees, AttemptPage, Sought, attempt_page, attempts, relays_used
from dispatcher.desk.exporting import csv_pieces, json_pieces, write_xlsx
from dispatcher.web.review.site import Site
from dispatcher.web.review.words import mark

PHASES: Final[Mapping[str, str]] = {
    "connect": mark("connecting"),
    "greeting": mark("the relay's greeting"),
    "ehlo": mark("introducing ourselves (EHLO)"),
    "starttls": mark("encryption (STARTTLS)"),
    "auth": mark("logging in (AUTH)"),
    "mail": mark("our sender address (MAIL)"),
    "rcpt": mark("the recipient's address (RCPT)"),
    "data": mark("before the letter (DATA)"),
    "body": mark("within the letter"),
    "final": mark("after the whole letter"),
}
"""How far an attempt came, for people."""
FORMATS: Final[Mapping[str, tuple[str, str]]] = {
    "csv": ("CSV", "text/csv; charset=utf-8"),
    "jsonl": ("JSON lines", "application/jsonl; charset=utf-8"),
    "xlsx": ("XLSX", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
}
_SIZE: Final = 50
_NAMES: Final = ("outcome", "phase", "code", "relay", "run", "since", "until", "text")
_BLOCK: Final = 64 * 1024


def routes(site: Site) -> list[Route]:
    """The addresses of this part."""
    addressees = Addressees()

    def log(request: Request) -> Response:
        sought = _sought(request)
        after = request.query_params.get("after", "")
        language, problems = site.words(request).language, []
        try:
            start = int(after) if after.isascii() and after.isdecimal() and len(after) < 16 else 0
            found = attempt_page(site.desk, sought, after=start, size=_SIZE, language=language, addressees=addressees)
        except UsageError as error:
            found, start, problems = AttemptPage((), more=False, count=0), 0, list(error.problems)
        values: dict[str, Any] = {
            "sought": sought,
            "found": found,
            "first": not start,
            "problems": problems,
            "outcomes": OUTCOMES,
            "phases": PHASES,
            "relays": relays_used(site.desk),
            "formats": FORMATS,
            "filtered": any(getattr(sought, name) for name in _NAMES),
            "link": partial(_link, sought),
        }
        return site.page(request, "log.html", 400 if problems else 200, **values)

    def export(request: Request) -> Response:
        form = request.path_params["form"]
        if form not in FORMATS:
            raise HTTPException(404)
        rows = attempts(site.desk, _sought(request), language=site.words(request).language)
        name = f"{site.desk.campaign_id()}-log.{form}"
        headers = {"content-disposition": f'attachment; filename="{_ascii(name)}"'}
        pieces: Iterator[str] | Iterator[bytes]
        if form == "xlsx":
            pieces = _workbook(rows)
        else:
            pieces = csv_pieces(ATTEMPT_COLUMNS, rows) if form == "csv" else json_pieces(rows)
        return StreamingResponse(pieces, media_type=FORMATS[form][1], headers=headers)

    return [Route("/log", log), Route("/log/export.{form}", export)]


def _workbook(rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """A workbook is made whole, in a file without a name, before the first of it leaves."""
    with tempfile.TemporaryFile() as file:
        write_xlsx(cast("BinaryIO", file), ATTEMPT_COLUMNS, rows, title="attempts")
        file.seek(0)
        while block := file.read(_BLOCK):
            yield block


def _sought(request: Request) -> Sought:
    given = request.query_params
    asked = {name: given.get(name, "").strip() for name in _NAMES}
    return Sought(**asked, oldest_first=given.get("order") == "oldest")


def _link(sought: Sought, *, path: str = "/log", after: int = 0, oldest_first: bool | None = None) -> str:
    """The address of the same, or of what comes behind an attempt, or in the other order."""
    oldest = sought.oldest_first if oldest_first is None else oldest_first
    given = {name: getattr(sought, name) for name in _NAMES if getattr(sought, name)}
    given |= {"order": "oldest"} if oldest else {}
    given |= {"after": str(after)} if after else {}
    return path + (f"?{urlencode(given)}" if given else "")


def _ascii(name: str) -> str:
    return "".join(c if (c.isalnum() and c.isascii()) or c in "-_." else "_" for c in name)
