"""To settle: what waits for a person's word. Each decision is a POST with a why, and is recorded with who and when.

It goes through the same doors of the desk as on the command line. Done, the page is loaded anew and shows what the
ledger holds of it, so that loading it once more decides nothing. Refused, what was typed is still there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dispatcher.core.errors import DispatcherError, Problem, RunActive, Unavailable, UsageError
from dispatcher.desk import deciding, posting, settling
from dispatcher.desk.letters import SealedLetters
from dispatcher.web.review.log import PHASES
from dispatcher.web.review.site import Site
from dispatcher.web.review.words import mark

DECISIONS: Final[Mapping[str, tuple[str, str]]] = {
    "accepted": (mark("It arrived"), mark("you know that it did, and it counts as accepted")),
    "failed": (mark("It did not arrive"), mark("it counts as failed, and is not sent again")),
    "resend": (mark("Send it again"), mark("the next run does; whoever has it gets it twice")),
}
"""What a person can say of an unknown letter, and what comes of it."""
KINDS: Final[Mapping[str, str]] = {
    "resolved": mark("resolved"),
    "suppressed": mark("suppressed"),
    "unsuppressed": mark("suppression lifted"),
    "posted": mark("posted"),
    "thrown away": mark("thrown away"),
}
"""What people decide, as events of the ledger."""
SKIPPED: Final[Mapping[str, tuple[str, str, Mapping[str, str]]]] = {
    "duplicate": (
        mark("One mailbox or key in two rows"),
        mark("The first row got the letter. Delete the row that is one too many, or decide for all in campaign.toml:"),
        {
            'on_duplicate = "first"': mark("the first row gets a letter, the others none, as here"),
            'on_duplicate = "each"': mark("each row gets a letter, also to the same mailbox"),
            'on_duplicate = "refuse"': mark("nothing is sent until the lists are mended"),
        },
    ),
    "invalid": (
        mark("Rows that cannot become a letter"),
        mark("Mend the row where it stands. What becomes of such rows is decided in campaign.toml:"),
        {
            'on_invalid = "skip"': mark("they get no letter, as here"),
            'on_invalid = "refuse"': mark("nothing is sent until the lists are mended"),
        },
    ),
    "filtered": (
        mark("Rows that were left out on purpose"),
        mark("The list's expression leaves them out. It stands under [[recipients]] in campaign.toml:"),
        {'where = "…"': mark("only rows for which this holds get a letter")},
    ),
}
"""Why a row got no letter, and where that is decided: a sealed plan does not change here."""
_SIZE: Final = 20
_LINES: Final = 100


@dataclass(frozen=True, slots=True)
class Refusal:
    """A decision that was not recorded: why, and what was typed, so that nothing is lost."""

    running: bool
    problems: Sequence[Problem]
    typed: Mapping[str, str] = field(default_factory=dict)
    status: int = 409


def routes(site: Site) -> list[Route]:
    """The addresses of this part."""
    desk, sealed = site.desk, SealedLetters(site.desk)

    def size_of(number: int) -> int | None:
        """Octets of a message; None if it was purged, and cannot be made again."""
        letter = sealed.letter(number)
        return None if letter.purged else sealed.size(letter)

    def page(request: Request, template: str, refusal: Refusal | None, **values: Any) -> Response:
        given = {
            "waiting": settling.waiting(desk),
            "recorded": _recorded(site, request),
            "lately": settling.decided_lately(desk),
            "refusal": refusal,
            "typed": refusal.typed if refusal else {},
            "kinds": KINDS,
            "action": _action(request),
            **values,
        }
        return site.page(request, template, refusal.status if refusal else 200, **given)

    def unknown(request: Request, refusal: Refusal | None = None) -> Response:
        language = site.words(request).language
        found = settling.unknown_letters(desk, after=_after(request), size=_SIZE, language=language)
        values = {
            "decisions": DECISIONS,
            "phases": PHASES,
            "size_of": size_of,
        }
        return page(request, "settle_unknown.html", refusal, found=found, **values)

    def printed(request: Request, refusal: Refusal | None = None) -> Response:
        seen = _all_of(settling.printed_numbers(desk))  # first: what is printed from now on is not in it
        found = settling.printed_letters(desk, after=_after(request), size=_LINES)
        today = desk.clock.now().date().isoformat()
        return page(request, "settle_printed.html", refusal, found=found, seen=seen, today=today)

    def skipped(request: Request) -> Response:
        reason = request.query_params.get("reason", "")
        found, reasons = settling.skips(desk, reason=reason, after=_after(request), size=_LINES)
        values = {"found": found, "reasons": reasons, "reason": reason, "known": SKIPPED, "flag": desk.flag}
        return page(request, "settle_skipped.html", None, **values)

    def suppressed(request: Request, refusal: Refusal | None = None) -> Response:
        text, after = request.query_params.get("text", ""), request.query_params.get("after", "")
        found = settling.suppressions(desk, text=text, after=after, size=_LINES)
        return page(request, "settle_suppressed.html", refusal, found=found, text=text)

    return [
        *_part(site, "/settle", unknown, _resolve),
        *_part(site, "/settle/printed", printed, _say_of_sheets),
        Route("/settle/skipped", skipped),
        *_part(site, "/settle/suppressed", suppressed, _suppress),
    ]


_Show = Callable[..., Response]
_Decide = Callable[[Site, Mapping[str, str]], None]


def _part(site: Site, path: str, show: _Show, decide: _Decide) -> list[Route]:
    """A page, and what is decided there, at one address: a page that refused is at an address that can be opened."""

    def decided(request: Request) -> Response:
        form: Mapping[str, str] = request.state.form
        try:
            decide(site, form)
        except DispatcherError as error:
            problems = error.problems if isinstance(error, UsageError) else (Problem(str(error)),)
            status = 503 if isinstance(error, Unavailable) else 409
            return show(request, Refusal(isinstance(error, RunActive), problems, form, status))
        lately = settling.decided_lately(site.desk)
        ours = next((row["id"] for row in lately if row["why"] == _why(form)), 0)  # others decide meanwhile, too
        return RedirectResponse(f"{path}?{urlencode({'recorded': ours})}", 303)

    return [Route(path, show, methods=["GET"]), Route(path, decided, methods=["POST"])]


def _resolve(site: Site, form: Mapping[str, str]) -> None:
    decision = form.get("decision", "")
    if decision not in DECISIONS:
        raise UsageError(Problem("nothing was chosen", todo="say what you know, or want"))
    seen = _number(form.get("seen", ""))
    deciding.resolve(site.desk, form.get("letter", ""), decision, why=_why(form), seen=seen)


def _say_of_sheets(site: Site, form: Mapping[str, str]) -> None:
    why, letters = _why(form), _chosen(site, form)
    act = _act(form, "posted", "thrown away")
    if act == "thrown away":
        posting.throw_away(site.desk, letters=letters, why=why)
    else:
        posting.post(site.desk, form.get("day", ""), letters=letters, why=why)


def _act(form: Mapping[str, str], *known: str) -> str:
    """Which button was pressed. What is none of ours decides nothing."""
    act = form.get("act", "")
    if act not in known:
        raise UsageError(Problem("nothing was chosen", todo="say what you know, or want"))
    return act


def _all_of(letters: set[int]) -> str:
    """Which letters these are: another text for any others, also if they are as many."""
    return sha256(" ".join(map(str, sorted(letters))).encode()).hexdigest()


def _chosen(site: Site, form: Mapping[str, str]) -> set[int]:
    """The letters that were marked; or all that are printed, if they are those that were seen."""
    if form.get("which") == "all":
        there = settling.printed_numbers(site.desk)
        if form.get("seen") != _all_of(there):
            raise UsageError(Problem("other letters are printed now than you saw", todo="look at them again"))
        return there
    found = {_number(name.removeprefix("letter-")) for name in form if name.startswith("letter-")}
    if not found:
        raise UsageError(Problem("no letter was marked", todo="mark those you know of, or take all of them"))
    return found


def _suppress(site: Site, form: Mapping[str, str]) -> None:
    why, addresses = _why(form), form.get("addresses", "").split("\n")
    if _act(form, "add", "lift") == "lift":
        deciding.unsuppress(site.desk, form.get("address", ""), why=why)
        return
    cells = [cell.strip() for cell in addresses if cell.strip()]
    if not cells:
        raise UsageError(Problem("no address was given", todo="write one, or @domain for all of a domain"))
    added, _, _ = deciding.suppress(site.desk, cells, reason=why, source="by hand")
    if not added:
        raise UsageError(Problem("what you wrote is suppressed already", todo="nothing is to be done"))


def _why(form: Mapping[str, str]) -> str:
    why = " ".join(form.get("why", "").split())
    if not why:
        raise UsageError(Problem("there is no why", todo="say how you know, in words: they are kept for the record"))
    return why


def _recorded(site: Site, request: Request) -> Mapping[str, Any] | None:
    """The decision that the page was loaded anew for, as it stands in the ledger."""
    number = _number(request.query_params.get("recorded", ""))
    found = settling.decided_lately(site.desk, until=number, most=1) if number else ()
    return found[0] if found and found[0]["id"] == number else None


def _action(request: Request) -> str:
    """Where the page's forms go: to itself, without what was recorded before."""
    kept = {name: value for name, value in request.query_params.items() if name in ("after", "text")}
    return request.url.path + (f"?{urlencode(kept)}" if kept else "")


def _after(request: Request) -> int:
    return _number(request.query_params.get("after", ""))


def _number(text: str) -> int:
    """What was given as a number, 0 if it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
