"""Sealing a plan into the ledger, taking over an amended one, and the decisions people make about letters.

Each function is one transaction on a held ledger: all of it, or nothing.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatcher.core.changes import REACHED, REWRITABLE, Standing
from dispatcher.core.compose import framed
from dispatcher.core.errors import PlanConflict, Problem, UsageError
from dispatcher.core.model import Channel, Mailbox, Skip, State
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import purged_campaign
from dispatcher.ledgers.sqlite import SqliteLedger, stamp
from dispatcher.ledgers.statements import SQL
from dispatcher.ledgers.suppressions import (
    suppress_mailbox,
    suppressed_among,
    suppressed_by_people_among,
    with_domains,
)


@dataclass(frozen=True, slots=True)
class Sealable:
    """A plan ready to be sealed. `rows` and `contents` may be iterators; `digest` is what was confirmed.

    `rows` are letters as `rows.letter_row` gives them, with `own` deflated with `dictionary`; `contents` are
    attachments (digest, octets); `origin` says what the plan was made from; `each` says that two keys may share a
    mailbox; `who` seals it.
    """

    campaign: str
    digest: str
    frozen: str
    dictionary: bytes
    rows: Iterable[Mapping[str, Any]]
    skips: Iterable[Skip]
    contents: Iterable[tuple[str, bytes]]
    origin: str = ""
    each: bool = False
    who: str = ""


def seal(ledger: SqliteLedger, plan: Sealable, revision: int) -> None:
    """Write a plan as the next revision (T0): new letters, rewritten ones, removed ones. Raises PlanConflict.

    Letters that were accepted, are unknown, or stand as they were sealed are left alone.
    """

    def job(connection: sqlite3.Connection) -> None:
        head = {"campaign": plan.campaign, "revision": revision, "now": stamp(ledger.now())}
        if purged := connection.execute(SQL["purge_of"], head).fetchone():
            raise PlanConflict(purged_campaign(plan.campaign, purged[0]))
        # A letter in doubt stays as it was sealed, and may be resent: then the folder would make another plan.
        origin = "" if connection.execute(SQL["any_in_doubt"], head).fetchone() else plan.origin
        given = {"digest": plan.digest, "frozen": plan.frozen, "dictionary": plan.dictionary, "origin": origin}
        try:
            connection.execute(SQL["insert_plan"], {**head, **given})
        except sqlite3.IntegrityError:
            raise PlanConflict(f"revision {revision} is sealed already; look at it, then try again") from None
        for digest, octets in plan.contents:
            connection.execute(SQL["insert_content"], {"digest": digest, "octets": octets})
        _Sealing(ledger, connection, plan, head).put_all()
        for skip in plan.skips:
            given = {"key": skip.key, "reason": skip.reason, "detail": skip.detail, "place": str(skip.place)}
            connection.execute(SQL["insert_skip"], {**head, **given})
        whole = {"letters": letters_digest(connection, head), "skips": skips_digest(connection, head)}
        connection.execute(SQL["finish_plan"], {**head, **whole})
        kind = "sealed" if revision == 1 else "amended"
        ledger.event(connection, kind, subject=f"revision {revision}", who=plan.who, why=plan.digest)

    ledger.do(job)


def letters_digest(connection: sqlite3.Connection, of: Mapping[str, Any]) -> str:
    """SHA-256, hex, over all that stands of a campaign's letters."""
    whole = hashlib.sha256()
    for text, own in connection.execute(SQL["sealed_whole"], of):
        whole.update(framed(text, own))
    return whole.hexdigest()


def skips_digest(connection: sqlite3.Connection, of: Mapping[str, Any]) -> str:
    """SHA-256, hex, over the skips of a revision."""
    whole = hashlib.sha256()
    for (text,) in connection.execute(SQL["skipped_whole"], of):
        whole.update(framed(text))
    return whole.hexdigest()


class _Sealing:
    """The letters of one plan, on their way into the ledger, one at a time. Which they are is noted in TEMP tables."""

    def __init__(
        self, ledger: SqliteLedger, connection: sqlite3.Connection, plan: Sealable, head: Mapping[str, Any]
    ) -> None:
        self._ledger = ledger
        self._connection = connection
        self._plan = plan
        self._head = head
        self._anew = connection.execute(SQL["any_letter"], head).fetchone() is None
        self._suppressing = connection.execute(SQL["any_suppression"]).fetchone() is not None
        for name in ("temp_planned", "temp_reached", "forget_planned", "forget_reached"):
            connection.execute(SQL[name])
        if not (self._anew or plan.each):
            connection.execute(SQL["note_reached"], {**head, "reached": json.dumps(REACHED)})

    def put_all(self) -> None:
        """Put every letter of the plan, and cancel those that it no longer has."""
        for row in self._plan.rows:
            there = None if self._anew else self._standing(row["key"])
            if there is None or there.state in REWRITABLE:
                self._refuse_a_second(row)
            self._put(row, there)
            if there:
                self._connection.execute(SQL["note_planned"], {"id": there.id})
        if not self._anew:
            self._connection.execute(SQL["note_absent"], {**self._head, "who": self._plan.who})
            self._connection.execute(SQL["cancel_absent"], self._head)
        for name in ("forget_planned", "forget_reached"):
            self._connection.execute(SQL[name])

    def _standing(self, key: str) -> Standing | None:
        row = self._connection.execute(SQL["standing"], {**self._head, "key": key}).fetchone()
        return Standing(row[0], row[1], State(row[2])) if row else None

    def _refuse_a_second(self, row: Mapping[str, Any]) -> None:
        """One mailbox, one letter: also when the rows got other keys since."""
        if self._anew or self._plan.each:
            return
        for identity, address in zip(row["mailboxes"].split(), row["addresses"].split(), strict=True):
            given = {"identity": identity, "key": row["key"]}
            if other := self._connection.execute(SQL["reached_by_another"], given).fetchone():
                raise PlanConflict(
                    f"letter {row['key']} would go to {address}, which letter {other[0]} has reached or may have. "
                    'A key stays with its recipient: mend the list, or decide in campaign.toml: on_duplicate = "each"'
                )
        if not row["mailboxes"]:  # on paper, to somebody without e-mail: the same sheet under another key
            given = {**self._head, "digest": row["digest"], "key": row["key"]}
            if other := self._connection.execute(SQL["on_paper_by_another"], given).fetchone():
                raise PlanConflict(
                    f"letter {row['key']} is word for word letter {other[0]}, which is printed. A key stays with its "
                    'recipient: mend the list, or decide in campaign.toml: on_duplicate = "each"'
                )

    def _put(self, letter: Mapping[str, Any], there: Standing | None) -> None:
        """A new letter, or one that is written anew, waiting in its channel; held back at once if it must be."""
        on_paper = letter["channel"] == Channel.PAPER
        begins = State.TO_PRINT if on_paper else State.READY
        row, connection = {**letter, **self._head, "begins": begins}, self._connection
        try:
            if there is None:
                number = connection.execute(SQL["insert_letter"], row).lastrowid
                connection.execute(SQL["insert_sealed"], {**row, "id": number})
                if not self._anew:
                    connection.execute(SQL["note_planned"], {"id": number})
            elif there.state in REWRITABLE and (there.digest != row["digest"] or there.state is State.CANCELLED):
                number = there.id
                connection.execute(SQL["rewrite_sealed"], {**row, "id": number})
                if connection.execute(SQL["rewrite_letter"], {**row, "id": number}).rowcount != 1:
                    raise PlanConflict(f"letter {row['key']} cannot be written anew where it stands")
                what = {"letter": number, "subject": f"revision {self._head['revision']}", "who": self._plan.who}
                self._ledger.event(connection, "amended", **what)
            else:
                return
        except sqlite3.IntegrityError as error:
            raise PlanConflict(f"letter {row['key']} cannot be sealed: {error}") from None
        if self._suppressing:
            mailboxes, who = row["mailboxes"].split(), self._plan.who
            hold_back(self._ledger, connection, number, mailboxes, on_paper=on_paper, who=who)


def hold_back(
    ledger: SqliteLedger,
    connection: sqlite3.Connection,
    letter: int | None,
    identities: Iterable[str],
    *,
    on_paper: bool,
    who: str,
) -> int:
    """Suppress a letter that waits, if one of its mailboxes is suppressed; how many that were."""
    if found := _suppressed(connection, identities, on_paper=on_paper):
        reason = next(iter(found.values()))
        if connection.execute(SQL["suppress_ready"], {"id": letter, "reason": reason}).rowcount:
            ledger.event(connection, "held back", letter=letter, who=who, why=reason)
            return 1
    return 0


def _suppressed(connection: sqlite3.Connection, identities: Iterable[str], *, on_paper: bool) -> dict[str, str]:
    """The mailboxes of a letter that hold it back, and why."""
    among = suppressed_by_people_among if on_paper else suppressed_among
    return among(connection, identities)


def resolve(ledger: SqliteLedger, letter: int, old: State, new: State, *, who: str, why: str) -> None:
    """A person's word on a letter that is unknown or failed (T7). Resent, it begins a new life with the same octets."""

    def job(connection: sqlite3.Connection) -> None:
        reason = f"{new if new is not State.READY else 'resend'}, says {who}: {why}"
        if new is not State.ACCEPTED:
            connection.execute(SQL["override_attempts"], {"id": letter, "why": reason})
        given = {"id": letter, "old": old, "new": new, "reason": reason, "now": stamp(ledger.now())}
        if connection.execute(SQL["resolve"], given).rowcount != 1:
            what = f"the letter is {old} no more, or not to be resolved: only unknown and failed ones are"
            raise UsageError(Problem(what, todo="look at its story: dispatcher log KEY"))
        ledger.event(connection, "resolved", letter=letter, subject=str(new), who=who, why=why)

    ledger.do(job)


def add_suppressions(
    ledger: SqliteLedger, mailboxes: Iterable[Mailbox], *, reason: str, source: str, who: str
) -> tuple[int, int]:
    """Suppress mailboxes (or `@domain`s); letters to them that wait go with them. Returns (new ones, letters).

    The ledger need not be held: letters in work are stopped by their run, before their terminator.
    """

    def job(connection: sqlite3.Connection) -> tuple[int, int]:
        now, added, wanted = stamp(ledger.now()), 0, set()
        for mailbox in mailboxes:
            wanted.add(mailbox.identity)
            if suppress_mailbox(connection, mailbox.identity, mailbox.address, reason, source, now):
                added += 1
                ledger.event(connection, "suppressed", subject=mailbox.identity, who=who, why=reason)
        return added, _hold_back_waiting(ledger, connection, wanted, who)

    return ledger.do(job)


def _hold_back_waiting(ledger: SqliteLedger, connection: sqlite3.Connection, wanted: set[str], who: str) -> int:
    """Suppress the letters that wait and go to one of these; how many."""
    found = [
        (number, ids.split(), state is State.TO_PRINT)
        for state in (State.READY, State.TO_PRINT)
        for number, _, ids in connection.execute(SQL["letters_in"], {"state": state})
        if not wanted.isdisjoint(with_domains(ids.split()))
    ]
    return sum(hold_back(ledger, connection, n, ids, on_paper=on_paper, who=who) for n, ids, on_paper in found)


def borrow_suppressions(ledger: SqliteLedger, real: Path) -> None:
    """Copy the real ledger's suppressions, if there is one, into a rehearsal's, so that it holds back the same letters.

    To be called before sealing. The rehearsal keeps them, also those that are lifted in the real ledger later.
    """
    if not real.exists():
        return
    with Reader(real) as reader:
        theirs = list(reader.rows("suppressions"))

    def job(connection: sqlite3.Connection) -> None:
        columns = ("identity", "address", "reason", "source", "since")
        new = set()
        for row in theirs:
            if suppress_mailbox(connection, *(row[name] for name in columns)):
                new.add(row["identity"])
                ledger.event(connection, "borrowed", subject=row["identity"], why=row["reason"])
        _hold_back_waiting(ledger, connection, new, "")

    ledger.do(job)


def remove_suppression(ledger: SqliteLedger, identity: str, *, who: str, why: str) -> tuple[bool, int]:
    """Lift a suppression; letters that only it held back wait again. Returns (was there, letters)."""

    def job(connection: sqlite3.Connection) -> tuple[bool, int]:
        there = connection.execute(SQL["delete_suppression"], {"identity": identity}).rowcount == 1
        reopened = 0
        if there:
            ledger.event(connection, "unsuppressed", subject=identity, who=who, why=why)
            held = connection.execute(SQL["letters_in"], {"state": State.SUPPRESSED}).fetchall()
            for number, channel, mailboxes in held:
                on_paper = channel == Channel.PAPER
                if not _suppressed(connection, mailboxes.split(), on_paper=on_paper):
                    state = State.TO_PRINT if on_paper else State.READY
                    given = {"id": number, "now": stamp(ledger.now()), "state": state}
                    reopened += connection.execute(SQL["reopen_suppressed"], given).rowcount
                    ledger.event(connection, "released", letter=number, who=who, why=why)
        return there, reopened

    return ledger.do(job)


def note_skipped(ledger: SqliteLedger, campaign: str, *, who: str) -> None:
    """Record that a person let letters leave without a look beforehand."""

    def job(connection: sqlite3.Connection) -> None:
        ledger.event(connection, "preflight skipped", subject=campaign, who=who, why="--skip-preflight")

    ledger.do(job)


def begin_test(ledger: SqliteLedger, given: Mapping[str, Any]) -> int:
    """Note a test letter before it leaves; returns its number."""
    row = {**given, "now": stamp(ledger.now())}
    return ledger.do(lambda connection: connection.execute(SQL["insert_test"], row).lastrowid or 0)


def end_test(ledger: SqliteLedger, number: int, outcome: str, reply: str) -> None:
    """Note what a test letter came to."""
    given = {"id": number, "outcome": outcome, "reply": reply}
    ledger.do(lambda connection: connection.execute(SQL["end_test"], given))
