"""A plan that is not sealed yet: on disk instead of in memory, and gone with the process.

While a plan is made, its letters, its skips and who it writes to are put into a SQLite database that stays in
memory while it is small, and has no name on the disk when it is not (in SQLITE_TMPDIR, or where temporary files are).
What is to be sealed is kept there whole, so that no letter is merged twice. A ledger is looked at beside it, in SQL, so
that nothing grows with the number of letters. Nothing is ever changed in a ledger. Raises LedgerUnavailable.
"""

import json
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from dispatcher.core.changes import REACHED, REWRITABLE, Changes, Standing
from dispatcher.core.errors import LedgerUnavailable, Place
from dispatcher.core.model import Attachment, Channel, Letter, Recipient, Skip, SkipReason, State
from dispatcher.core.plan import plan_digest
from dispatcher.ledgers.file import unusable
from dispatcher.ledgers.rows import (
    DAMAGED,
    attachments_of,
    deflater,
    inflate,
    letter_row,
    new_dictionary,
    recipient_of,
)
from dispatcher.ledgers.statements import UNSEALED
from dispatcher.ledgers.suppressions import REFUSED

_CACHE: Final = 16_000  # kB of pages kept in memory
_ROW: Final = (
    "key", "channel", "language", "message_id", "digest", "mailboxes", "addresses", "recipient", "attachments", "own",
)  # fmt: skip
_SEALED: Final = ("language", "message_id", "addresses", "recipient", "attachments")


class Unsealed:
    """A plan while it is made, as `core.plan.Register`, and afterwards. With `whole`, it can be sealed from here."""

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self.dictionary = b""
        self._deflate: Callable[[bytes], bytes] | None = None
        self._last = 0
        self._aside = 0
        self._ledger: Path | None = None
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False, uri=True)
        self.close = weakref.finalize(self, self._connection.close)
        """Gives back what it takes on the disk; nothing can be read from it any more."""
        self._connection.executescript(f"PRAGMA journal_mode=OFF; PRAGMA cache_size=-{_CACHE}; {UNSEALED['schema']}")

    # While it is made.

    def with_key(self, key: str) -> tuple[str, Place] | None:
        return self._met("with_key", key.casefold())

    def with_mailbox(self, identity: str) -> tuple[str, Place] | None:
        return self._met("with_mailbox", identity)

    def _met(self, name: str, what: str) -> tuple[str, Place] | None:
        row = self._run(name, (what,)).fetchone()
        return (row[0], Place(row[1], row[2])) if row else None

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")

    def add(self, letter: Letter) -> None:
        self._begin()
        mailboxes = letter.recipient.mailboxes
        place = letter.recipient.place
        identities = " ".join(m.identity for m in mailboxes)
        row = (letter.key, letter.recipient.channel, letter.digest, identities, place.file, place.line)
        number = self._run("insert_letter", row).lastrowid
        self._run("insert_folded", (letter.key.casefold(), number))
        for mailbox in mailboxes:
            self._run("insert_mailbox", (mailbox.identity, number))
        if self._whole:
            sealed = letter_row(letter)
            self._run("insert_sealed", (number, *(sealed[name] for name in _SEALED), self._deflated(letter.own)))
        self._last = number or 0

    def _deflated(self, own: bytes) -> bytes:
        if self._deflate is None:
            self.dictionary = new_dictionary(own)
            self._deflate = deflater(self.dictionary)
        return self._deflate(own)

    def leave_out(self, skip: Skip) -> None:
        place = skip.place
        self._run("insert_skip", (skip.key, skip.reason, skip.detail, place.file, place.line, place.column))

    def set_aside(self, household: str, place: Place, fields: Mapping[str, str]) -> None:
        self._begin()
        found = self._run("home_of", (household,)).fetchone() if household else None
        self._aside += 1
        home = found[0] if found else self._aside
        if household and not found:
            self._run("insert_home", (household, home))
        cells = json.dumps(dict(fields), ensure_ascii=False)
        self._run("set_aside", (self._aside, home, household, place.file, place.line, cells))

    def households(self, most: int) -> Iterator[tuple[str, Sequence[tuple[Place, Mapping[str, str]]], int]]:
        for _, found in groupby(self._rows("households"), itemgetter(0)):
            some = list(islice(found, most))
            more = sum(1 for _ in found)  # noqa: B031 (what `islice` left of it)
            rows = [(Place(file, line), json.loads(cells)) for _, _, file, line, cells in some]
            yield some[0][1], rows, len(rows) + more

    def forget_aside(self) -> None:
        self._run("forget_aside")
        self._run("forget_homes")

    def choose(self) -> None:
        """The letter that was added last is among the chosen ones."""
        self._run("choose", (self._last,))

    # When it is made.

    def digest(self) -> str:
        """What is confirmed: the digest over all its letters."""
        self._index()
        return plan_digest(self._rows("digests"))

    def all_keys(self) -> Iterator[str]:
        return (key for (key,) in self._rows("keys"))

    def skips(self, reason: str = "") -> Iterator[Skip]:
        """The rows without a letter, all or those for one reason."""
        for key, why, detail, file, line, column in self._rows("skips", (reason,)):
            yield Skip(key, SkipReason(why), detail, Place(file, line, column))

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """What is to be sealed of each letter. Raises ValueError if it was not kept whole."""
        if not self._whole:
            raise ValueError("a plan that was only counted cannot be sealed")
        return (dict(zip(_ROW, row, strict=True)) for row in self._rows("rows"))

    def hold_back(self, ledger: Path, *, on_paper: bool = False) -> None:
        """Note the letters that a suppression in this ledger holds back; `on_paper`: if all of them were printed."""
        with self._beside(ledger):
            self._run("hold_mailboxes", {"refused": REFUSED, "on_paper": on_paper})
            self._run("hold_domains")

    def held_back(self) -> Iterator[tuple[str, Place, str]]:
        """Who is held back: key, place, and why."""
        return ((key, Place(file, line), why) for key, file, line, why in self._rows("held"))

    def mailboxes(self) -> Iterator[tuple[str, str]]:
        """Key and identities of each letter for mail that nobody holds back."""
        return self._rows("mailboxes")

    def count_held_back(self) -> int:
        return int(self._run("count_held").fetchone()[0])

    def count_in(self, channel: Channel) -> int:
        """How many letters go this way that nobody holds back."""
        return int(self._run("count_in", (channel,)).fetchone()[0])

    # Whom a `send` goes to, or a printing.

    def pick(self, channel: Channel, *, chosen: bool, limit: int | None = None) -> None:
        """Pick letters of this plan that nobody holds back: all, or the chosen ones; at most so many."""
        self._run("pick", {"channel": channel, "chosen": chosen, "limit": -1 if limit is None else limit})

    def pick_sealed(self, ledger: Path, campaign: str, states: set[State], *, chosen: bool, limit: int | None) -> None:
        """The same among those letters that stand so in the ledger, in its order."""
        given = {"campaign": campaign, "states": json.dumps(sorted(states)), "chosen": chosen}
        self._index()
        with self._beside(ledger):
            self._run("pick_sealed", {**given, "limit": -1 if limit is None else limit})

    def pick_to_print(self, ledger: Path, campaign: str, states: set[State], *, chosen: bool) -> None:
        """The same, in the order of this plan."""
        self._index()
        self._run("forget_picked")  # what was picked when nothing was sealed yet
        with self._beside(ledger):
            self._run("pick_to_print", {"campaign": campaign, "states": json.dumps(sorted(states)), "chosen": chosen})

    def pick_key(self, key: str) -> None:
        """Pick one letter by its key."""
        self._run("pick_key", (key,))

    def picked(self) -> Iterator[str]:
        """The keys of those that were picked, in order."""
        return (key for (key,) in self._rows("picked"))

    def picked_whole(self) -> Iterator[tuple[str, Recipient, tuple[Attachment, ...], bytes]]:
        """The same with what was kept of each: its digest, recipient, attachments, and its own part."""
        for _, digest, recipient, attachments, own in self._rows("picked_whole"):
            yield digest, recipient_of(recipient), attachments_of(attachments), inflate(own, self.dictionary)

    def chosen_states(self, ledger: Path, campaign: str, *, chosen: bool) -> Iterator[tuple[str, bool, int]]:
        """Where the letters of this plan, or the chosen ones, stand in a ledger: state, whether tried, and how many."""
        self._index()
        with self._beside(ledger):
            yield from self._rows("chosen_states", {"campaign": campaign, "chosen": chosen})

    def count_picked(self) -> int:
        return int(self._run("count_picked").fetchone()[0])

    # Beside a ledger.

    def changes(self, ledger: Path, campaign: str) -> Changes:
        """What sealing this plan would do to the letters of a ledger."""
        changes = Changes()
        self._index()
        states = {"reached": json.dumps(REACHED), "rewritable": json.dumps(REWRITABLE), "campaign": campaign}
        with self._beside(ledger):
            for key, digest, mailboxes, number, sealed, state, there in self._rows("pairs", {"campaign": campaign}):
                standing = Standing(number, sealed, State(state), tuple(there.split())) if number else None
                changes.add(key, digest, tuple(mailboxes.split()), standing)
            for key, state in self._rows("missing", {"campaign": campaign}):
                changes.miss(key, State(state))
            self._run("forget_reached")
            self._run("note_reached", states)
            for mailbox, key, other in self._rows("met_again", states):
                changes.meet(mailbox, key, other)
            for key, other in self._rows("printed_again", states):
                changes.print_again(key, other)
        return changes

    def changed_in_doubt(self, ledger: Path, campaign: str) -> str | None:
        """The key of a letter that is unknown and not in this plan as it was sealed."""
        self._index()
        with self._beside(ledger):
            row = self._run("changed_in_doubt", {"campaign": campaign}).fetchone()
        return row[0] if row else None

    @contextmanager
    def _beside(self, ledger: Path) -> Iterator[None]:
        """With a ledger to look at, named `ledger`; all its statements see it as it is at one moment."""
        self._finish()
        self._ledger = ledger
        try:
            self._connection.execute("ATTACH ? AS ledger", (f"{ledger.resolve().as_uri()}?mode=ro",))
            self._connection.execute("BEGIN")
            yield
        except DAMAGED as error:
            raise unusable(ledger, error) from None
        except sqlite3.Error as error:
            raise self._broken(error) from None
        finally:
            self._finish()
            with suppress(sqlite3.Error):
                self._connection.execute("DETACH ledger")
            self._ledger = None

    def _finish(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def _index(self) -> None:
        self._run("index")

    def _run(self, name: str, given: Any = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(UNSEALED[name], given)
        except sqlite3.Error as error:
            raise self._broken(error) from None

    def _rows(self, name: str, given: Any = ()) -> Iterator[Any]:
        try:
            for row in self._run(name, given):  # noqa: UP028 (that would close the cursor, perhaps too late)
                yield row
        except sqlite3.Error as error:
            raise self._broken(error) from None

    def _broken(self, error: sqlite3.Error) -> LedgerUnavailable:
        """What a failure means: the ledger's, while it is looked at, or the disk's."""
        if self._ledger:
            return unusable(self._ledger, error)
        return LedgerUnavailable(
            f"the plan cannot be kept on the disk while it is made: {error}. Free the disk, or name another "
            "folder in the environment variable SQLITE_TMPDIR"
        )
