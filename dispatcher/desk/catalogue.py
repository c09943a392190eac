"""All sealed letters of a campaign, to be found, filtered and put in order: what the page's list is made of.

What was sealed does not change while a plan stays; it is read once, and kept in memory (about a kilobyte a letter).
Where letters stand does change: that is read anew whenever the ledger was written to.
"""

import json
import re
import sys
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.text import searchable
from dispatcher.core.unusual import unusual_in
from dispatcher.desk import Desk
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, unreadable

PLAN: Final = "plan"
OUTLIERS: Final = "outliers"
STATE: Final = "state"
FIXED: Final = ("key", "name", "addresses", "language", "channel")
"""What every letter has; a list's columns are called `field:` and their name."""
FIELD: Final = "field:"
_KEPT: Final = 8
_FOUND_BY: Final = 200
"""Characters of a field by which a letter is found."""
_FAR: Final = 6
"""So many times the usual distance from the middle, a letter is unlike the others in its language."""
_LEAST: Final = 48
_FEW: Final = 8


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a letter stands out: `unlike`, `language`, `script` or `empty`, what about it, and how much."""

    kind: str
    detail: str = ""
    weight: float = 1


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: words, a state, a column that holds a text; and the order.

    `order` is PLAN, OUTLIERS, STATE, one of FIXED, or FIELD and a column's name.
    """

    words: str = ""
    state: str = ""
    column: str = ""
    value: str = ""
    order: str = OUTLIERS
    down: bool = False


@dataclass(slots=True)
class Catalogue:
    """The letters of a plan, by their place in it: `columns` and `found_by` hold a text for each, `reasons` for some.

    `digest` is the plan's.
    """

    digest: str = ""
    ids: list[int] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[int, tuple[Reason, ...]] = field(default_factory=dict)
    found_by: list[str] = field(default_factory=list)
    _orders: dict[str, tuple[Sequence[int], Sequence[int]]] = field(default_factory=dict)

    @property
    def fields(self) -> list[str]:
        """The columns of the lists, by name."""
        return [name.removeprefix(FIELD) for name in self.columns if name.startswith(FIELD)]

    def place(self, number: int) -> int | None:
        """Where a letter is, by its number in the ledger."""
        at = bisect_left(self.ids, number)
        return at if at < len(self.ids) and self.ids[at] == number else None

    def matching(self, query: Query, states: Mapping[str, frozenset[int]]) -> "Matches":
        """The letters that a query finds, in its order."""
        order, rank = self._order(query.order, states)
        places: Sequence[int] = order
        for word in searchable(query.words).split():
            places = [at for at in places if word in self.found_by[at]]
        if query.state:
            wanted = states.get(query.state, frozenset())
            places = [at for at in places if self.ids[at] in wanted]
        if query.value and query.column in self.columns:
            value, column = searchable(query.value), self.columns[query.column]
            places = [at for at in places if value in searchable(column[at])]
        return Matches(self, places[::-1] if query.down else places, rank, down=query.down)

    def _order(self, name: str, states: Mapping[str, frozenset[int]]) -> tuple[Sequence[int], Sequence[int]]:
        """Places in an order, and each place's rank in it."""
        if name == STATE:
            return _ranked(self._by_state(states))
        if name not in self._orders:
            self._orders[name] = _ranked(self._sorted(name))
        return self._orders[name]

    def _sorted(self, name: str) -> Sequence[int]:
        every = range(len(self.ids))
        if name == OUTLIERS:
            first = sorted(self.reasons, key=lambda at: (-sum(reason.weight for reason in self.reasons[at]), at))
            return [*first, *(at for at in every if at not in self.reasons)]
        if name not in self.columns:
            return every
        column = self.columns[name]
        if all(value.isdecimal() and value.isascii() and len(value) < 16 for value in set(column) if value):
            numbers = [int(value or "-1") for value in column]
            return sorted(every, key=numbers.__getitem__)
        folded = {value: searchable(value) for value in set(column)}
        return sorted(every, key=lambda at: folded[column[at]])

    def _by_state(self, states: Mapping[str, frozenset[int]]) -> Sequence[int]:
        name = {number: state for state, numbers in states.items() for number in numbers}
        return sorted(range(len(self.ids)), key=lambda at: name.get(self.ids[at], ""))

    def alike(self, number: int, most: int) -> list[int]:
        """Numbers of letters of the same revision, language and channel, evenly spread, `number` maybe among them."""
        at = self.place(number)
        if at is None:
            return []
        language, channel = self.columns["language"], self.columns["channel"]
        kind = (self.revisions[at], language[at], channel[at])
        found = [self.ids[n] for n in range(len(self.ids)) if (self.revisions[n], language[n], channel[n]) == kind]
        return found[:: max(1, len(found) // most)][:most]


def _ranked(order: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    if isinstance(order, range):
        return order, order
    rank = [0] * len(order)
    for n, at in enumerate(order):
        rank[at] = n
    return order, rank


@dataclass(frozen=True, slots=True)
class Listed:
    """A letter in a list: its columns by name, where it stands (`deferred` too), why it stands out."""

    number: int
    columns: Mapping[str, str]
    state: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the letters found, by number; `first` is the place of the first among all that were found, from 1."""

    numbers: list[int]
    first: int
    total: int


class Matches:
    """Letters that were found, in order. Paged by key: after or before a letter, which need not be among them."""

    def __init__(self, catalogue: Catalogue, places: Sequence[int], rank: Sequence[int], *, down: bool) -> None:
        self._catalogue = catalogue
        self._places = places
        self._rank = rank
        self._sign = -1 if down else 1

    def __len__(self) -> int:
        return len(self._places)

    def after(self, number: int | None, count: int) -> Slice:
        """The next letters; from the beginning without a number."""
        return self._slice(self._behind(number) if number is not None else 0, count)

    def before(self, number: int, count: int) -> Slice:
        """The letters before one."""
        end = self._ahead(number)
        return self._slice(max(0, end - count), min(count, end))

    def neighbours(self, number: int) -> tuple[int | None, int | None]:
        """The letter before one and the letter behind it."""
        ahead, behind = self._ahead(number), self._behind(number)
        before = self._number(ahead - 1) if ahead > 0 else None
        return before, self._number(behind) if behind < len(self) else None

    def position(self, number: int) -> int:
        """Which one a letter is among the found, from 1 on; 0 if it is not."""
        behind = self._behind(number)
        return behind if behind > self._ahead(number) else 0

    def _slice(self, start: int, count: int) -> Slice:
        return Slice([self._number(n) for n in range(start, min(start + count, len(self)))], start + 1, len(self))

    def _number(self, n: int) -> int:
        return self._catalogue.ids[self._places[n]]

    def _ahead(self, number: int) -> int:
        """How many of the found stand before a letter."""
        return bisect_left(self._places, self._own(number), key=self._key)

    def _behind(self, number: int) -> int:
        """How many stand before or at it."""
        return bisect_right(self._places, self._own(number), key=self._key)

    def _own(self, number: int) -> int:
        at = self._catalogue.place(number)
        return -1 if at is None else self._key(at)

    def _key(self, at: int) -> int:
        return self._sign * self._rank[at]


class Catalogues:
    """The catalogue of a desk's campaign, kept for as long as its plan stays. For several threads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lock = threading.Lock()
        self._known: tuple[Any, Catalogue] | None = None
        self._states: tuple[Any, Mapping[str, frozenset[int]]] | None = None
        self._found: dict[Any, Matches] = {}

    def current(self) -> Catalogue:
        """Of what is sealed now. Raises LedgerUnavailable."""
        with self._lock:
            return self._current()

    def find(self, query: Query) -> tuple[Catalogue, Matches]:
        """The letters that a query finds now."""
        with self._lock:
            catalogue = self._current()
            wants_states = query.state or query.order == STATE
            states = self._standing() if wants_states else {}
            key = (query, self._known and self._known[0], wants_states and self._states and self._states[0])
            if key not in self._found:
                if len(self._found) >= _KEPT:
                    del self._found[next(iter(self._found))]
                self._found[key] = catalogue.matching(query, states)
            return catalogue, self._found[key]

    def listed(self, catalogue: Catalogue, numbers: Sequence[int]) -> list[Listed]:
        """Letters as they are shown in a list."""
        with self._desk.reader() as reader:
            rows = {row["id"]: row for row in reader.rows("standing_of", ids=json.dumps(list(numbers)))}
        found = []
        for number in numbers:
            at, row = catalogue.place(number), rows.get(number)
            if at is not None and row is not None:
                columns = {name: column[at] for name, column in catalogue.columns.items()}
                state = "deferred" if row["state"] == "ready" and row["attempts"] else row["state"]
                found.append(Listed(number, columns, state, catalogue.reasons.get(at, ())))
        return found

    def _current(self) -> Catalogue:
        campaign = self._desk.campaign_id()
        with self._desk.reader() as reader:
            plan = reader.one("latest_plan", campaign=campaign)
            if plan is None:
                raise LedgerUnavailable(f"nothing is sealed yet. Seal it: dispatcher seal{self._desk.flag}")
            purged = reader.one("purge_of", campaign=campaign)  # then nothing is kept of it here, either
            key = (self._desk.ledger_path.stat().st_ino, plan["revision"], plan["digest"], purged and purged["at"])
            if self._known is None or self._known[0] != key:
                frozen = reader.frozen(campaign, plan["revision"])
                self._known = key, _read(reader, campaign, _Reading(plan["digest"], _words_of(frozen)))
                self._found.clear()
            return self._known[1]

    def _standing(self) -> Mapping[str, frozenset[int]]:
        stamp = ledger_stamp(self._desk)
        if self._states is None or self._states[0] != stamp:
            with self._desk.reader() as reader:
                rows = reader.rows("ids_by_state", campaign=self._desk.campaign_id())
                self._states = stamp, _states({row["state"]: row["ids"] or "" for row in rows})
        return self._states[1]


def ledger_stamp(desk: Desk) -> tuple[tuple[int, int, int], ...]:
    """Another one whenever the ledger was written to: for what is kept as long as it is not."""
    found = []
    for ending in ("", "-wal"):
        path = desk.ledger_path.with_name(desk.ledger_path.name + ending)
        try:
            stat = path.stat()
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)


def _states(ids: dict[str, str]) -> Mapping[str, frozenset[int]]:
    found = {state: frozenset(map(int, numbers.split())) for state, numbers in ids.items()}
    deferred = found.pop("deferred", frozenset())
    found["waiting"] = (found.pop("ready", frozenset()) | found.pop("leased", frozenset())) - deferred
    return {state: numbers for state, numbers in {**found, "deferred": deferred}.items() if numbers}


def _words_of(frozen: Mapping[str, Any]) -> frozenset[str]:
    """The words that the templates hold: a column not among them is in no letter."""
    try:
        template = frozen["template"]
        texts = [file["text"] for kind in ("letters", "forms") for file in template[kind].values()]
        return frozenset(word for text in texts for word in re.findall(r"\w+", text))
    except DAMAGED as error:
        raise unreadable("the sealed plan", error) from None


class _Reading:
    """A catalogue in the making."""

    def __init__(self, digest: str, words: frozenset[str]) -> None:
        self._words = words
        self._fields: dict[str, list[str]] = {}
        self.catalogue = Catalogue(digest, columns={name: [] for name in FIXED})
        self._unlike: dict[tuple[int, str, str], list[tuple[int, int]]] = {}
        self._filled: dict[tuple[str, str], int] = {}
        self._empty: dict[tuple[str, str], list[int]] = {}
        self._reasons: dict[int, list[Reason]] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        catalogue, at = self.catalogue, len(self.catalogue.ids)
        recipient = json.loads(row["recipient"])
        fields: Mapping[str, str] = recipient["fields"]
        mailboxes = [*recipient["to"], *recipient["cc"]]
        names = list(dict.fromkeys([fields.get("name", ""), *(m["name"] for m in mailboxes)]))
        given = {
            "key": row["key"],
            "name": next(filter(None, names), ""),
            "addresses": ", ".join(m["address"] for m in mailboxes),
            "language": row["language"],
            "channel": row["channel"],
        }
        catalogue.ids.append(row["id"])
        catalogue.revisions.append(row["revision"])
        for name, value in given.items():
            catalogue.columns[name].append(sys.intern(value))
        self._add_fields(at, fields)
        found = [*given.values(), *names, *(value[:_FOUND_BY] for value in fields.values())]
        catalogue.found_by.append(searchable("\n".join(dict.fromkeys(found))))
        self._look(at, row, recipient, names)

    def _add_fields(self, at: int, fields: Mapping[str, str]) -> None:
        for name in fields:
            if name not in self._fields:
                self._fields[name] = self.catalogue.columns[FIELD + name] = [""] * at
        for name, column in self._fields.items():
            column.append(sys.intern(fields.get(name, "")))

    def _look(self, at: int, row: Mapping[str, Any], recipient: Mapping[str, Any], names: Sequence[str]) -> None:
        kind = (row["revision"], row["language"], row["channel"])
        self._unlike.setdefault(kind, []).append((row["unlike"], at))
        if recipient["language"] and recipient["language"] != row["language"]:
            self._reasons.setdefault(at, []).append(Reason("language", recipient["language"]))
        for why in unusual_in("".join(names)):
            self._reasons.setdefault(at, []).append(Reason("script", why))
        for column, value in recipient["fields"].items():
            if column in self._words:
                where = (recipient["place"]["file"], column)
                if value.strip():
                    self._filled[where] = self._filled.get(where, 0) + 1
                else:
                    self._empty.setdefault(where, []).append(at)

    def done(self) -> Catalogue:
        for at, far in self._far():
            self._reasons.setdefault(at, []).append(Reason("unlike", weight=far))
        for (file, column), places in self._empty.items():
            if self._filled.get((file, column), 0) > len(places):
                for at in places:
                    self._reasons.setdefault(at, []).append(Reason("empty", column))
        self.catalogue.reasons = {at: tuple(reasons) for at, reasons in sorted(self._reasons.items())}
        return self.catalogue

    def _far(self) -> Iterator[tuple[int, float]]:
        """Letters that have much more or less of their own than others of their language, and how much so."""
        for sizes in self._unlike.values():
            if len(sizes) < _FEW:
                continue
            middle = median(size for size, _ in sizes)
            usual = median(abs(size - middle) for size, _ in sizes)
            limit = max(_FAR * usual, _LEAST)
            yield from ((at, abs(size - middle) / limit) for size, at in sizes if abs(size - middle) > limit)


def _read(reader: Reader, campaign: str, reading: _Reading) -> Catalogue:
    for row in reader.rows("catalogue", campaign=campaign):
        try:
            reading.add(row)
        except DAMAGED as error:
            raise unreadable(f"letter {row['key']}", error) from None
    return reading.done()
