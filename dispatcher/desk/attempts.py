"""The log of attempts: what is looked for, a page of it, and all of it, for the page and the command line alike."""

import json
import re
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.model import Outcome, Phase
from dispatcher.core.reading import attempt_row
from dispatcher.core.text import searchable
from dispatcher.desk import Desk
from dispatcher.desk.reading import moment_of
from dispatcher.ledgers.reader import Reader

OUTCOMES: Final = (*(str(outcome) for outcome in Outcome), "at_risk")
"""What an attempt came to; `at_risk` is in flight."""
PHASES: Final = tuple(str(phase) for phase in Phase)

_BASIC: Final = re.compile(r"[2-5][0-9]{0,2}")
_ENHANCED: Final = re.compile(r"[245]\.(?:[0-9]{1,3}(?:\.[0-9]{1,3})?)?")
_LAST: Final = 2**63 - 1
_ALL: Final = -1
_TOGETHER: Final = 500
_COUNTED: Final = 5000
"""So many are counted while a page is looked for. Where there are more, that was found early, and they are counted."""
_FEW: Final = 2000
"""So many letters are each asked for their attempts; with more, all attempts are asked for their letter."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for in the log; what is '' asks for nothing.

    `code` is a basic code or its first digits (550, 55, 5), or an enhanced one or its first parts (5.1.1, 5.1, 5.);
    `since` and `until` are days, both included, or moments, in UTC unless they say otherwise; `text` is looked for in
    keys and addresses, whatever its case and accents.
    """

    outcome: str = ""
    phase: str = ""
    code: str = ""
    relay: str = ""
    run: str = ""
    since: str = ""
    until: str = ""
    text: str = ""
    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class AttemptPage:
    """Some of the attempts that were looked for. `more` says that there are others after the last one here."""

    rows: Sequence[Mapping[str, Any]]
    more: bool
    count: int


class Addressees:
    """A campaign's letters by key and addresses, as people look for them: read once for what is sealed, and kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._as_of: Mapping[str, Any] | None = None
        self._letters: list[tuple[int, str]] = []

    def find(self, reader: Reader, campaign: str, text: str) -> tuple[list[int], int]:
        """The numbers of the letters with this text, whatever its case and accents; and how many letters there are."""
        wanted = searchable(text)
        letters = self._of(reader, campaign)
        return [number for number, said in letters if wanted in said], len(letters)

    def _of(self, reader: Reader, campaign: str) -> list[tuple[int, str]]:
        now = reader.one("found_by_as_of", campaign=campaign)
        with self._lock:
            if self._as_of != now:
                self._letters = [
                    (number, searchable(f"{key}\n{addresses}"))
                    for row in reader.rows("found_by", campaign=campaign)
                    for number, key, addresses in json.loads(row["letters"])
                ]
                self._as_of = now
            return self._letters


def attempt_page(
    desk: Desk,
    sought: Sought,
    *,
    after: int = 0,
    size: int,
    language: str = "en",
    addressees: Addressees | None = None,
) -> AttemptPage:
    """So many attempts, in the order asked for, behind the one with the number `after` (0: from the first on).

    `count` is how many there are in all. Raises UsageError if what is looked for cannot be.
    """
    given = _given(desk, sought)
    with desk.reader() as reader, reader.one_moment():
        statement = _narrow(reader, given, sought, addressees or Addressees())
        ids = list(_ids(reader, statement, given, sought, after, max(_COUNTED, size) + 1))
        whole = not after and len(ids) <= _COUNTED  # then all were met once already
        count = len(ids) if whole else (reader.one(f"count_{statement}", **given) or {})["attempts"]
        rows = list(_shown(reader, ids[:size], language))
    return AttemptPage(rows, len(ids) > size, count)


def attempts(desk: Desk, sought: Sought, *, language: str = "en") -> Iterator[dict[str, Any]]:
    """All attempts that are looked for, a row each, as they are at one moment. Raises UsageError before the first."""
    given = _given(desk, sought)
    return _all(desk.reader(), given, sought, language)


def _all(reader: Reader, given: dict[str, Any], sought: Sought, language: str) -> Iterator[dict[str, Any]]:
    with reader, reader.one_moment():
        statement = _narrow(reader, given, sought, Addressees())
        with closing(_ids(reader, statement, given, sought, 0, _ALL)) as ids:  # also if nobody wants the rest
            while some := list(islice(ids, _TOGETHER)):
                yield from _shown(reader, some, language)


def _narrow(reader: Reader, given: dict[str, Any], sought: Sought, addressees: Addressees) -> str:
    """Find the letters that are looked for, if any are; returns which statements suit them."""
    if not sought.text.strip():
        return "attempts"
    found, letters = addressees.find(reader, given["campaign"], sought.text.strip())
    few = len(found) <= _FEW
    if few or len(found) < letters:  # else it is in all of them
        given["letters"] = json.dumps(found)
    return "attempts_of_few" if few else "attempts"


def _ids(
    reader: Reader, statement: str, given: Mapping[str, Any], sought: Sought, after: int, limit: int
) -> Generator[int, None, None]:
    order, start = ("oldest", 0) if sought.oldest_first else ("newest", _LAST)
    name = statement.replace("attempts", f"attempts_{order}")
    return (row["id"] for row in reader.rows(name, **given, after=after or start, limit=limit))


def _shown(reader: Reader, ids: Sequence[int], language: str) -> Iterator[dict[str, Any]]:
    """The attempts with these numbers, in this order."""
    found = {row["attempt"]: row for row in reader.rows("attempts_shown", ids=json.dumps(ids))}
    return (attempt_row(found[number], language) for number in ids)


def relays_used(desk: Desk) -> Sequence[str]:
    """Every relay that a letter of the campaign was handed to, as host:port."""
    campaign = desk.campaign_id()
    with desk.reader() as reader:
        return [row["relay"] for row in reader.rows("relays_used", campaign=campaign)]


def _given(desk: Desk, sought: Sought) -> dict[str, Any]:
    """What is looked for, as the statements want it."""
    lowest, highest, enhanced = _code(sought.code.strip())
    return {
        "campaign": desk.campaign_id(),
        "outcome": _one_of(sought.outcome, "outcome", OUTCOMES),
        "phase": _one_of(sought.phase.lower(), "phase", PHASES),
        "run": _run(sought.run.strip()),
        "relay": sought.relay.strip(),
        "since": moment_of(sought.since, "since"),
        "until": moment_of(sought.until, "until", end=True),
        "lowest": lowest,
        "highest": highest,
        "enhanced": enhanced,
        "letters": "",
    }


def _one_of(value: str, name: str, known: Sequence[str]) -> str:
    if value and value not in known:
        raise UsageError(Problem(f"{name} {value} is none of an attempt's", todo=f"one of: {', '.join(known)}"))
    return value


def _run(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text)):
        raise UsageError(Problem(f"run {text} is not the number of a run", todo="see: dispatcher status"))
    return int(text)


def _code(text: str) -> tuple[int, int, str]:
    """Lowest and highest basic code, and the beginning of an enhanced one, that a text stands for."""
    if not text:
        return 0, 0, ""
    if _BASIC.fullmatch(text):
        return int(text.ljust(3, "0")), int(text.ljust(3, "9")), ""
    if _ENHANCED.fullmatch(text):
        return 0, 0, text.rstrip(".") + "."
    todo = "write a code or its beginning: 550, 55, 5.1.1 or 5.1"
    raise UsageError(Problem(f"code {text} is no reply code", todo=todo))
