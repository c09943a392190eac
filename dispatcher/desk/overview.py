"""What the overview of the review page shows: what the campaign is, and where all its letters stand at one moment.

What is slow to count is kept for as long as it cannot have changed: by what letters are counted, while the same
revision is sealed; attempts that have ended, for ever, so that only those are counted that ended since; all counts,
while nobody has written into the ledger (`PRAGMA data_version`).
"""

import json
import threading
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.parser import BytesHeaderParser
from email.policy import default as modern
from typing import Any, Final

from dispatcher.core.errors import LedgerUnavailable, UsageError
from dispatcher.core.model import State
from dispatcher.core.reading import by_standing, standing_of
from dispatcher.desk import Desk
from dispatcher.ledgers.held import is_held
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, inflate, unreadable

_MOST_GROUPS: Final = 40
_MOST_COUNTRIES: Final = 400
_ENDLESS: Final = 2**63 - 1
_ENOUGH: Final = 5
"""So many attempts, over as many seconds, say how fast a run is."""

Counts = Mapping[str, int]
"""How many there are, by `core.reading.STANDINGS`."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a campaign is, as it is sealed. `subjects` are those of one letter in each language."""

    title: str
    revision: int
    digest: str
    sealed_at: str
    sealed_by: str
    date: str
    sender: str
    reply_to: str
    subjects: Mapping[str, str]
    skipped: Counts
    tests: Sequence[Mapping[str, Any]]
    approvals: Mapping[str, Any] | None
    in_doubt: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run. While it is at work: so many of its attempts have ended, and all are done at `done_at` if that is known.

    `at_work` is false of one that was stopped without an end, too: `ended_at` is '' then.
    """

    number: int
    account: str
    started_at: str
    ended_at: str
    ending: str
    at_work: bool
    attempts: int = 0
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Numbers:
    """Where the letters stand. `standings` adds up to `letters`, and so do `languages`, `groups` and `countries`, where
    '' is no group, or no country. `relays` and `seconds` (since 1970) count the attempts that have ended. `count` is
    another number for what was counted anew.
    """

    count: int
    letters: int
    standings: Counts
    skipped: int
    refused: int
    next_due_at: str
    runs: int
    run: Run | None
    languages: Mapping[str, Counts]
    groups: Mapping[str, Counts]
    countries: Mapping[str, Counts]
    relays: Mapping[str, Counts]
    seconds: Mapping[int, Counts]

    @property
    def attempts(self) -> int:
        """How many have ended."""
        return sum(sum(found.values()) for found in self.relays.values())


def _plan(desk: Desk, reader: Reader, campaign: str) -> Mapping[str, Any]:
    plan = reader.one("latest_plan", campaign=campaign)
    if plan is None:
        raise LedgerUnavailable(f"nothing is sealed yet. Seal it: dispatcher seal{desk.flag}")
    return plan


def _facts(desk: Desk, reader: Reader, campaign: str, subjects: Mapping[str, str]) -> Facts:
    plan = _plan(desk, reader, campaign)
    revision, digest = plan["revision"], plan["digest"]
    by = reader.one("sealed_by", revision=revision, digest=digest)
    skips = reader.rows("skips_by_reason", campaign=campaign, revision=revision)
    try:
        frozen = json.loads(plan["frozen"])
        return Facts(
            title=frozen["template"]["title"],
            revision=revision,
            digest=digest,
            sealed_at=plan["sealed_at"],
            sealed_by=by["who"] if by else "",
            date=frozen["template"]["date"],
            sender=f"{frozen['from_']['name']} <{frozen['from_']['address']}>",
            reply_to=frozen["reply_to"]["address"],
            subjects=subjects,
            skipped={row["reason"]: row["rows"] for row in skips},
            tests=list(reader.rows("tests", campaign=campaign)),
            approvals=_approvals(desk),
            in_doubt=desk.doubt(),
        )
    except DAMAGED as error:
        raise unreadable(f"revision {revision} of {campaign}", error) from None


def _subjects(reader: Reader, campaign: str, letters: Sequence[int]) -> Iterator[tuple[str, str]]:
    for row in reader.rows("first_letters", letters=json.dumps(letters)):
        dictionary = reader.one("dictionary", campaign=campaign, revision=row["revision"]) or {"dictionary": b""}
        message = BytesHeaderParser(policy=modern).parsebytes(inflate(row["own"], dictionary["dictionary"]))
        if message["subject"]:  # of a purged letter nothing is left
            yield row["language"], str(message["subject"])


def _approvals(desk: Desk) -> Mapping[str, Any] | None:
    """How far it is approved; None if nobody asks for approvals, or campaign.toml is in no state to say."""
    from dispatcher.desk.approvals import standing  # noqa: PLC0415 (slow to load, and most campaigns want none)

    try:
        found = standing(desk, desk.campaign())
    except UsageError:
        return None
    return found.as_data() if found.wanted or found.approvals else None


class Overview:
    """Counts one campaign's letters, anew when something has changed. Many threads may ask; each waits its turn."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turn = threading.Lock()
        self._reader: Reader | None = None
        self._inode = (0, 0)
        self._seen: tuple[object, ...] = ()
        self._sealed: tuple[object, ...] = ()
        self._places = _Places()
        self._ended = _Ended()
        self._numbers: Numbers | None = None
        self._counts = 0
        self._subjects: Mapping[str, str] = {}

    def numbers(self) -> Numbers:
        """Where all letters stand now. Raises LedgerUnavailable."""
        with self._turn:
            try:
                return self._timed(self._counted())
            except LedgerUnavailable:
                self._forget()
                raise

    def facts(self) -> Facts:
        """What the campaign is. Raises LedgerUnavailable if nothing is sealed yet."""
        with self._turn:
            self._counted()
            reader, campaign = self._open(), self._desk.campaign_id()
            with reader.one_moment():
                return _facts(self._desk, reader, campaign, self._subjects)

    def _forget(self) -> None:
        if self._reader:
            self._reader.close()
        self._reader, self._sealed, self._ended, self._numbers = None, (), _Ended(), None

    def _open(self) -> Reader:
        """The ledger, opened once; anew if another stands in its place (`send --sandbox --fresh`)."""
        with suppress(OSError):
            there = self._desk.ledger_path.stat()
            if self._reader and (there.st_dev, there.st_ino) == self._inode:
                return self._reader
        self._forget()
        self._reader = self._desk.reader()
        there = self._desk.ledger_path.stat()
        self._inode = there.st_dev, there.st_ino
        return self._reader

    def _counted(self) -> Numbers:
        reader, campaign = self._open(), self._desk.campaign_id()
        seen = (campaign, (reader.one("version") or {})["data_version"])
        if self._numbers is None or seen != self._seen:
            with reader.one_moment():
                self._numbers = self._count(reader, campaign)
            self._seen = seen
        return self._numbers

    def _count(self, reader: Reader, campaign: str) -> Numbers:
        plan = _plan(self._desk, reader, campaign)
        letters = (reader.one("count_letters", campaign=campaign) or {})["letters"]
        deferred = reader.one("waiting", campaign=campaign) or {}
        refused = reader.one("refused_mailboxes", campaign=campaign) or {}
        runs = list(reader.rows("runs", campaign=campaign))
        skips = reader.one("count_skips", campaign=campaign, revision=plan["revision"]) or {}
        purged = (reader.one("purge_of", campaign=campaign) or {}).get("at", "")
        if self._sealed != (plan["revision"], letters, purged):
            self._places = _Places(reader, campaign)
            self._subjects = dict(_subjects(reader, campaign, self._places.first_letters()))
            self._sealed = plan["revision"], letters, purged
        languages, groups, countries = self._places.counted(reader, campaign)
        seconds, relays = self._ended.counted(reader, campaign)
        self._counts += 1
        return Numbers(
            count=self._counts,
            letters=letters,
            standings=by_standing(reader.counts(campaign), deferred.get("letters", 0)),
            skipped=skips.get("rows", 0),
            refused=refused.get("letters", 0),
            next_due_at=deferred.get("next_due_at") or "",
            runs=len(runs),
            run=_run(runs[-1]) if runs else None,
            languages=languages,
            groups=groups,
            countries=countries,
            relays=relays,
            seconds=seconds,
        )

    def _timed(self, numbers: Numbers) -> Numbers:
        """With what passes also when nobody writes: whether the run is still there, and how long it will take."""
        run = numbers.run
        if run is None or run.ended_at or not is_held(self._desk.ledger_path):
            return numbers
        since = int(datetime.fromisoformat(run.started_at).timestamp())
        ended = {second: sum(found.values()) for second, found in numbers.seconds.items() if second >= since}
        seconds = self._seconds_left(_left(numbers), ended)
        return replace(numbers, run=replace(run, at_work=True, attempts=sum(ended.values()), seconds_left=seconds))

    def _seconds_left(self, left: int, ended: Mapping[int, int]) -> float | None:
        """How long a run takes for what is left: as fast as it has been, and no faster than the pace allows."""
        known: list[float] = []
        attempts, span = sum(ended.values()), max(ended, default=0) - min(ended, default=0)
        if attempts >= _ENOUGH and span >= _ENOUGH:
            known.append(left * span / attempts)
        if done_at := self._done_at(left):
            known.append((done_at - self._desk.clock.now()) / timedelta(seconds=1))
        return max(known, default=None)

    def done_at(self, numbers: Numbers) -> datetime | None:
        """When a run that began now would be done with what waits; None if one is at work, or nothing holds it back."""
        return None if numbers.run and numbers.run.at_work else self._done_at(_left(numbers))

    def _done_at(self, letters: int) -> datetime | None:
        from dispatcher.desk.pacing import foreseen  # noqa: PLC0415 (slow to load)

        with suppress(UsageError):
            forecast = foreseen(self._desk, self._desk.campaign(), letters)
            return forecast.done_at if forecast else None
        return None


def _left(numbers: Numbers) -> int:
    """Letters that a run still has to do with."""
    return sum(numbers.standings[name] for name in ("waiting", "deferred", "in_flight"))


class _Places:
    """By what each letter is counted: its language, and two columns of its row, in which many letters are alike."""

    def __init__(self, reader: Reader | None = None, campaign: str = "") -> None:
        rows = list(reader.rows("ids_by_place", campaign=campaign)) if reader else []
        tags = [_tags(row["tags"]) for row in rows]
        # A column that is another in each row groups nothing.
        grouped = len({group for group, _ in tags}) <= _MOST_GROUPS
        placed = len({country for _, country in tags}) <= _MOST_COUNTRIES
        found = [
            (str(row["language"]), group if grouped else "", country if placed else "")
            for row, (group, country) in zip(rows, tags, strict=True)
        ]
        self._places = list(dict.fromkeys(found))
        number = {place: n for n, place in enumerate(self._places)}
        self._first: dict[str, int] = {}
        ids = [(number[place], list(map(int, row["ids"].split()))) for place, row in zip(found, rows, strict=True)]
        self._of = array("L", bytes(8 * (1 + max((max(some) for _, some in ids), default=0))))
        for place, some in ids:
            language, first = self._places[place][0], min(some)
            self._first[language] = min(self._first.get(language, first), first)
            for letter in some:
                self._of[letter] = place

    def first_letters(self) -> Sequence[int]:
        """The first of each language."""
        return list(self._first.values())

    def counted(self, reader: Reader, campaign: str) -> tuple[Mapping[str, Counts], ...]:
        """Where the letters stand now, by language, group and country."""
        by: tuple[dict[str, Counter[str]], ...] = ({}, {}, {})
        for row in reader.rows("ids_by_state", campaign=campaign):
            tried = row["state"] == "deferred"
            outcome = standing_of(State.READY if tried else State(row["state"]), tried=tried)
            there = Counter(map(self._of.__getitem__, map(int, (row["ids"] or "").split())))
            for place, letters in there.items():
                for found, name in zip(by, self._places[place], strict=True):
                    counts = found.setdefault(name, Counter())
                    counts[outcome] += letters
                    if tried:  # they are among those that are ready, too
                        counts["waiting"] -= letters
        return tuple({name: +counts for name, counts in found.items()} for found in by)


def _tags(text: str) -> tuple[str, str]:
    """Group and country."""
    group, m49, iso3 = json.loads(text)
    return str(group or ""), str(m49 or iso3 or "")


def _run(row: Mapping[str, Any]) -> Run:
    ended_at = row["ended_at"] or ""
    return Run(row["id"], row["account"], row["started_at"], ended_at, row["ending"], at_work=False)


_Tallies = tuple[dict[int, Counter[str]], dict[str, Counter[str]]]


class _Ended:
    """Attempts that have ended, by the second and by the relay. An attempt ends once, and is never changed."""

    def __init__(self) -> None:
        self._kept: _Tallies = {}, {}
        self._after = 0

    def counted(self, reader: Reader, campaign: str) -> _Tallies:
        """All of them; those before the first that is still at risk need never be counted again."""
        risk = (reader.one("first_at_risk") or {})["id"]
        self._kept = self._added(reader, campaign, self._after, risk)
        self._after = max(self._after, min(risk, (reader.one("last_attempt") or {})["id"] + 1) - 1)
        return self._added(reader, campaign, self._after, _ENDLESS)

    def _added(self, reader: Reader, campaign: str, after: int, before: int) -> _Tallies:
        seconds, relays = dict(self._kept[0]), dict(self._kept[1])
        for row in reader.rows("ended_attempts", campaign=campaign, after=after, before=before):
            second = int(datetime.fromisoformat(row["second"]).replace(tzinfo=UTC).timestamp())
            found = Counter({row["outcome"]: row["attempts"]})
            seconds[second] = seconds.get(second, Counter()) + found
            relays[row["relay"]] = relays.get(row["relay"], Counter()) + found
        return seconds, relays
