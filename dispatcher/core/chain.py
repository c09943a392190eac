"""The hash chain over what a ledger has recorded: what a row's digest is made of, links, and who finds what is wrong.

Each row that is evidence is written once, and has a digest with two storeys, so that what is personal can be taken away
(a dossier with hidden addresses, a ledger after `purge`) and the row still be checked:

    personal digest   SHA-256(salt ‖ canonical JSON of the values that are personal)
    row's digest      SHA-256(canonical JSON of its kind and the other values ‖ personal digest)
    link              SHA-256(previous link ‖ names ‖ digests of the rows that one commit recorded)

Values are lists, in the order of the columns in `KINDS`. A salt is 16 random octets, one a row: whoever has a row
without its salt cannot find out by guessing what was personal in it; where the salt is gone too, nobody can. Canonical
JSON is RFC 8785's, of which only lists, strings, integers and null are needed here: no blanks, the shortest escapes,
UTF-8.

What is personal: whatever names a person or a mailbox, or may. So mailboxes and keys; all that a relay said, for its
replies repeat addresses, queue ids (some are addresses, all lead to one in the relay's log); accounts, which are
people's logins; who, why and about whom in events; names in approvals; names of printed files. What is left says what
became of letter 17 and when, and not who that is. Nothing of a recipient is in `plan.letters`, `plan.skips` and
`message_digest` but a SHA-256 over all of it.

Pure: the ledger reads its own rows, a dossier its files, and both are judged here.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

SALT: Final = 16
"""Octets of a row's salt."""
DIGEST: Final = 32
"""Octets of a digest."""
NAME: Final = 8
"""Octets of a row's name in a link: one for its kind, two for its campaign's number, five for its own (big-endian)."""
NUMBER: Final = 40
CAMPAIGN: Final = 16
"""Bits of either number there."""
_START: Final = b"dispatcher chain 1\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of row: its number in a link, and its columns, those that are personal apart, each in order.

    Of a column among `hashed` the hex SHA-256 stands for the value, which is long or no text. `many` says how many
    are in words.
    """

    name: str
    number: int
    public: tuple[str, ...]
    personal: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    many: str = ""


RCPT_PUBLIC: Final = ("code", "enhanced", "outcome")
RCPT_PERSONAL: Final = ("mailbox", "reply")
"""An attempt's `rcpts` are a list in the order of their mailboxes, one half of each on either storey."""

_KINDS: Final = (
    # An attempt when it has ended, however it did; one that is at risk is not evidence yet, and not in the chain.
    Kind(
        "attempt", 1,
        ("at", "code", "ended_at", "enhanced", "id", "letter", "message_digest", "outcome", "phase", "rcpts", "run",
         "scope", "session"),
        ("account", "queue_id", "rcpts", "reply"), many="attempts",
    ),
    # That a person, or on_unknown, said of an unknown attempt: it does not count. A row of its own, for it comes later.
    Kind("override", 2, ("id",), ("override",), many="overrides"),
    Kind("event", 3, ("at", "id", "kind", "letter"), ("subject", "who", "why"), many="events"),
    Kind(
        "approval", 4, ("at", "campaign", "digest", "id", "recorded_at", "revision"),
        ("key", "name", "person", "recorded_by", "signature"), many="approvals",
    ),
    Kind("printing", 5, ("at", "campaign", "id"), ("files", "who"), many="printings"),
    # A plan as it was sealed: `digest` is what is approved, `letters` is over all that stands in the ledger of it, and
    # `skips` over the rows without a letter.
    Kind(
        "plan", 6, ("campaign", "digest", "id", "letters", "revision", "sealed_at", "skips"),
        ("dictionary", "frozen", "origin"), ("dictionary", "frozen", "origin"), many="plans",
    ),
    Kind(
        "session", 7,
        ("certificate", "cipher", "host", "id", "mode", "opened_at", "peer", "port", "run", "size", "tls_version"),
        many="sessions",
    ),
    Kind("run", 8, ("campaign", "id", "started_at"), ("account", "smime"), many="runs"),
    Kind("run's end", 9, ("ended_at", "ending", "id"), many="runs' ends"),
    Kind(
        "test", 10, ("at", "campaign", "id", "outcome"), ("account", "address", "key", "message_id", "reply"),
        many="tests",
    ),
    # That a campaign's personal data were removed: `rows` and `removed` are over what is left of them.
    Kind("purge", 11, ("at", "before", "campaign", "id", "letters", "removed", "rows"), ("who",), many="purges"),
)  # fmt: skip
KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _KINDS}
_BY_NUMBER: Final = {kind.number: kind for kind in _KINDS}


def canonical(value: object) -> bytes:
    """A value as canonical JSON (RFC 8785). Raises TypeError for what is no list, string, integer or null."""
    _require_plain(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _require_plain(value: object) -> None:
    if isinstance(value, (list, tuple)):
        for each in value:
            _require_plain(each)
    elif isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
        raise TypeError(f"{value!r} has no canonical form here")


def public(kind: str, row: Mapping[str, Any]) -> bytes:
    """The upper storey of a row, as canonical JSON: its kind, and what is not personal.

    `row` has its columns; an attempt's has `rcpts`, a list of mappings in the order of their mailboxes.
    """
    return canonical([kind, *_values(kind, KINDS[kind].public, RCPT_PUBLIC, row)])


def personal(kind: str, row: Mapping[str, Any]) -> bytes:
    """The lower storey of a row, as canonical JSON: what is personal."""
    return canonical(_values(kind, KINDS[kind].personal, RCPT_PERSONAL, row))


def _values(kind: str, names: Sequence[str], of_rcpt: Sequence[str], row: Mapping[str, Any]) -> list[Any]:
    hashed = KINDS[kind].hashed
    return [
        [[rcpt[each] for each in of_rcpt] for rcpt in row["rcpts"]]
        if name == "rcpts"
        else _hashed(row[name])
        if name in hashed
        else row[name]
        for name in names
    ]


def _hashed(value: str | bytes) -> str:
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


def personal_digest(salt: bytes, text: bytes) -> bytes:
    """The digest of what is personal in a row."""
    return hashlib.sha256(salt + text).digest()


def row_digest(text: bytes, personal: bytes) -> bytes:
    """A row's digest: of what is not personal, and of the digest of what is."""
    return hashlib.sha256(text + personal).digest()


@dataclass(frozen=True, slots=True)
class Name:
    """Which row: its kind and its number.

    `campaign` is the number of the plan that was sealed first of its campaign; 0 if it is of none, or was there before.
    It is in the link, so that no row can be said to be another campaign's where that one's rows are not shown.
    """

    kind: str
    id: int
    campaign: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def octets(self) -> bytes:
        return bytes((KINDS[self.kind].number,)) + (self.campaign << NUMBER | self.id).to_bytes(NAME - 1, "big")


def names_of(octets: bytes) -> list[Name]:
    """The names in a link. Raises ValueError if they are none."""
    if len(octets) % NAME:
        raise ValueError("the names are cut off")
    found = []
    for place in range(0, len(octets), NAME):
        kind = _BY_NUMBER.get(octets[place])
        if kind is None:
            raise ValueError(f"there is no kind {octets[place]}")
        campaign, number = divmod(int.from_bytes(octets[place + 1 : place + NAME], "big"), 1 << NUMBER)
        found.append(Name(kind.name, number, campaign))
    return found


@dataclass(frozen=True, slots=True)
class Link:
    """One link: its number (from 1), names and digests of the rows that one commit recorded, and the hash.

    `salts` are theirs, in the same order, where they are known; they are no part of the hash.
    """

    number: int
    names: bytes
    digests: bytes
    link: bytes
    salts: bytes = b""


def start(uuid: str, created_at: str) -> bytes:
    """What the first link of a ledger follows."""
    return hashlib.sha256(_START + canonical([uuid, created_at])).digest()


def next_link(previous: bytes, names: bytes, digests: bytes) -> bytes:
    """The hash of the link behind another."""
    return hashlib.sha256(previous + names + digests).digest()


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong: which row (None: the chain itself), at which link (0: none), and what, in words.

    `what` is "changed", "removed", "inserted" or "broken".
    """

    what: str
    row: Name | None
    link: int
    why: str


class Seen:
    """Which rows the chain names; small, however many they are."""

    _SPAN: Final = 1 << 15

    def __init__(self) -> None:
        self._bits: dict[tuple[str, int], bytearray] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: Name) -> bool:
        """Note a row; False if it was noted before."""
        some = self._bits.setdefault((name.kind, name.id // self._SPAN), bytearray(self._SPAN // 8))
        place, bit = divmod(name.id % self._SPAN, 8)
        if some[place] >> bit & 1:
            return False
        some[place] |= 1 << bit
        self.counts[name.kind] = self.counts.get(name.kind, 0) + 1
        return True

    def __contains__(self, name: Name) -> bool:
        some = self._bits.get((name.kind, name.id // self._SPAN))
        place, bit = divmod(name.id % self._SPAN, 8)
        return some is not None and bool(some[place] >> bit & 1)


@dataclass(slots=True)
class Chained:
    """What a look along the chain found: how many links and rows, the last hash, the first fault (None: none)."""

    head: bytes
    links: int = 0
    rows: int = 0
    elsewhere: int = 0
    fault: Fault | None = None
    seen: Seen = field(default_factory=Seen)


Look = Callable[[Link, Sequence[Name]], Sequence[bytes | None]]
"""The digest of each row that a link names, made anew from what is there; None for a row that is not there."""


def verify(start: bytes, links: Iterable[Link], look: Look, *, partial: bool = False) -> Chained:
    """Go along the chain to its end, or to the first fault; every row is looked at where it is named.

    With `partial`, rows that are not there are `elsewhere`, as those of other campaigns are for a dossier. Whether
    there are rows that the chain does not name is for whoever has the rows to ask: `Chained.seen`.
    """
    found = Chained(start)
    for link in links:
        found.fault = _fault_in(found, link, look, partial=partial)
        if found.fault:
            return found
        found.head, found.links = link.link, link.number
    return found


def _fault_in(found: Chained, link: Link, look: Look, *, partial: bool) -> Fault | None:
    number = found.links + 1
    if link.number != number:
        return Fault("removed", None, number, f"link {number} of the chain is missing; the next one is {link.number}")
    try:
        names = names_of(link.names)
        if len(link.digests) != len(names) * DIGEST or not names:
            raise ValueError("its digests are cut off")
    except ValueError as error:
        return Fault("changed", None, number, f"link {number} of the chain was changed: {error}")
    if fault := _fault_among(found, link, names, look(link, names), partial=partial):
        return fault
    if next_link(found.head, link.names, link.digests) != link.link:
        why = f"link {number} of the chain, over {_some(names)}, does not follow the one before it"
        return Fault("broken", names[0], number, f"{why}: links were removed, inserted, reordered or changed")
    return None


def _fault_among(
    found: Chained, link: Link, names: Sequence[Name], now: Sequence[bytes | None], *, partial: bool
) -> Fault | None:
    """The first row of a link that is not as the link says."""
    for name, recorded, made in zip(names, _pieces(link.digests), now, strict=True):
        if made is None and not partial:
            return Fault("removed", name, link.number, f"{name} was removed: link {link.number} of the chain names it")
        if made is not None and made != recorded:
            return Fault("changed", name, link.number, f"{name} was changed after it was recorded (link {link.number})")
        if not found.seen.add(name):
            return Fault("inserted", name, link.number, f"{name} is named again, by link {link.number} of the chain")
        found.rows += 1
        found.elsewhere += made is None
    return None


def _pieces(digests: bytes) -> Iterator[bytes]:
    return (digests[place : place + DIGEST] for place in range(0, len(digests), DIGEST))


def _some(names: Sequence[Name]) -> str:
    return str(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


__all__ = [
    "CAMPAIGN",
    "DIGEST",
    "KINDS",
    "NAME",
    "NUMBER",
    "RCPT_PERSONAL",
    "RCPT_PUBLIC",
    "SALT",
    "Chained",
    "Fault",
    "Kind",
    "Link",
    "Name",
    "Seen",
    "canonical",
    "names_of",
    "next_link",
    "personal",
    "personal_digest",
    "public",
    "row_digest",
    "start",
    "verify",
]
