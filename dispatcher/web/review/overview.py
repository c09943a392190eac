"""Overview: what the campaign is, where its letters stand, and a run while it happens."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dispatcher.core.errors import DispatcherError
from dispatcher.core.reading import STANDINGS
from dispatcher.desk.overview import Numbers, Overview, Run
from dispatcher.web.review.charts import Part, bar, time_chart
from dispatcher.web.review.site import Site
from dispatcher.web.review.words import Words, mark
from dispatcher.web.review.worldmap import NO_LETTER, URGENT, world_map

LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "accepted": (mark("Accepted"), mark("by the relay")),
    "in_flight": (mark("In flight"), mark("being handed over")),
    "waiting": (mark("Waiting"), mark("not tried yet")),
    "deferred": (mark("Deferred"), mark("refused for now, tried again")),
    "failed": (mark("Failed"), mark("refused for good")),
    "unknown": (mark("Unknown"), mark("may have arrived")),
    "closed_unknown": (mark("Unknown, closed"), mark("never to be known")),
    "suppressed": (mark("Suppressed"), mark("not to be written to")),
    "cancelled": (mark("Cancelled"), mark("taken off the list")),
    "to_print": (mark("To print"), mark("go on paper")),
    "printed": (mark("Printed"), mark("not posted yet")),
    "posted": (mark("Posted"), mark("in the post")),
    NO_LETTER: (mark("No letter"), ""),
}
"""What stands over a number, and below it."""
ALWAYS: Final = ("accepted", "waiting", "deferred", "failed", "unknown")
"""These numbers are shown even if they are 0."""
ENDINGS: Final[Mapping[str, str]] = {
    "finished": mark("The last run did all there was to do."),
    "waiting": mark("The last run did all that was due; some letters are due later."),
    "quota": mark("The last run ended: the quota is used up."),
    "deadline": mark("The last run ended: no letter may leave later."),
    "paused": mark("The last run paused: the relay refuses us, and somebody must look."),
    "unavailable": mark("The last run stopped: the relay could not be used."),
    "interrupted": mark("The last run was interrupted."),
}
SKIPS: Final[Mapping[str, str]] = {
    "filtered": mark("left out on purpose"),
    "duplicate": mark("twice on the list"),
    "invalid": mark("not fit for a letter"),
}
LANGUAGE_NAMES: Final = {
    "ar": "العربية", "en": "English", "es": "Español", "fr": "Français", "km": "ខ្មែរ", "ru": "Русский", "zh": "中文",
}  # fmt: skip
_ROWS: Final = 12


@dataclass(frozen=True, slots=True)
class Row:
    """A bar with its name; `merged` says of how many it is the sum, if it has none of its own."""

    name: str
    counts: Mapping[str, int]
    parts: Sequence[Part]
    merged: int = 0

    @property
    def total(self) -> int:
        """All its parts."""
        return sum(self.counts.values())


def bars(counts: Mapping[str, Mapping[str, int]]) -> Sequence[Row]:
    """The longest first, the shortest together in one; none if there is nothing to tell apart."""
    if not any(counts):
        return ()
    order = sorted(counts, key=lambda name: (not name, -sum(counts[name].values()), name))
    shown = order if len(order) <= _ROWS else order[: _ROWS - 1]
    rest: Counter[str] = Counter()
    for name in order[len(shown) :]:
        rest.update(counts[name])
    found = {name: counts[name] for name in shown}
    most = max(sum(c.values()) for c in (*found.values(), rest))
    rows = [Row(name, outcomes, bar(outcomes, most)) for name, outcomes in found.items()]
    if rest:
        rows.append(Row("", rest, bar(rest, most), merged=len(order) - len(shown)))
    return rows


def time_left(words: Words, seconds: float | None) -> str:
    """How long a run still takes, for people: rounded up, and not too exactly."""
    if seconds is None:
        return words("It cannot be told yet how long it takes.")
    minutes = -int(-seconds // 60)
    if minutes <= 1:
        return words("Less than a minute left.")
    if minutes < 60:
        return words.many("About {n} minute left.", "About {n} minutes left.", minutes)
    hours = -(-minutes // 60)
    if hours < 48:
        return words.many("About {n} hour left.", "About {n} hours left.", hours)
    return words.many("About {n} day left.", "About {n} days left.", -(-hours // 24))


def told(words: Words, numbers: Numbers) -> str:
    """What is read out: it changes at each quarter of the way and at the end, not with every letter."""
    run = numbers.run
    if run is None:
        return ""
    if not run.at_work:
        return words(ENDINGS.get(run.ending, mark("The last run did not end in order.")))
    accepted, letters = numbers.standings["accepted"], max(1, numbers.letters)
    return words("A run is at work: {n} % accepted.", n=accepted * 4 // letters * 25)


def routes(site: Site) -> list[Route]:
    """The addresses of this part."""
    counted = Overview(site.desk)
    threading.Thread(target=_warm, args=(counted,), name="first count", daemon=True).start()

    def values(request: Request, numbers: Numbers) -> dict[str, Any]:
        words = site.words(request)
        at_work = {"in_flight"} if numbers.run and numbers.run.at_work else set[str]()
        shown = [o for o in STANDINGS if o in ALWAYS or o in at_work or numbers.standings[o]]
        chart, world = time_chart(numbers.seconds), world_map(numbers.countries, words.language)
        on_map = {country.outcome for country in world.countries} if world else set()
        return {
            "numbers": numbers,
            "whole": bar(numbers.standings, numbers.letters),
            "tiles": [(outcome, *LABELS[outcome], numbers.standings[outcome]) for outcome in shown],
            "told": told(words, numbers),
            "left": _left(words, site, numbers.run),
            "done_at": counted.done_at(numbers),
            "chart": chart,
            "chart_outcomes": [o for o in STANDINGS if chart and any(column.of(o) for column in chart.columns)],
            "world": world,
            "world_outcomes": [o for o in (*reversed(URGENT), NO_LETTER) if o in on_map],
            "languages": bars(numbers.languages),
            "groups": bars(numbers.groups),
            "relays": bars(numbers.relays),
            "LABELS": LABELS,
            "LANGUAGE_NAMES": LANGUAGE_NAMES,
            "SKIPS": SKIPS,
        }

    def overview(request: Request) -> Response:
        return site.page(request, "overview.html", facts=counted.facts(), **values(request, counted.numbers()))

    def live(request: Request) -> Response:
        numbers = counted.numbers()
        at_work = numbers.run and numbers.run.at_work
        if not at_work and request.query_params.get("seen") == str(numbers.count):
            return Response(status_code=204)  # nobody has written anything since
        return site.page(request, "overview_live.html", **values(request, numbers))

    return [Route("/", overview), Route("/overview/live", live)]


def _warm(counted: Overview) -> None:
    """Count before somebody asks; whoever asks meanwhile waits for it, and is told of errors."""
    with suppress(DispatcherError):
        counted.numbers()


def _left(words: Words, site: Site, run: Run | None) -> tuple[str, datetime | None]:
    """How long the run at work still takes, in words, and until when."""
    if run is None or not run.at_work:
        return "", None
    until = None
    if run.seconds_left is not None:
        until = site.desk.clock.now() + timedelta(seconds=min(run.seconds_left, 3e9))
    return time_left(words, run.seconds_left), until
