"""Whether a ledger is as it was written: each check names the first thing that is wrong. Nothing is ever changed.

    the file       SQLite's own look at it; rows that belong to none
    the chain      every link and every row it names; no row that it does not name (`core.chain`)
    purges         what was taken away, and no more than that
    plans          all that stands of the letters of the latest revision, the skips of each, and what was approved
    letters        each one's octets made anew, against the digest it was sealed with and those of its attempts; and
                   where it stands, against its attempts and what was decided about it
    suppressions   those in force, against what was decided and what relays refused
    attachments    their octets, against their digests
    approvals      their signatures
    the mark       what this machine remembers of the chain

Who can write into the ledger can also write a whole chain anew. That shows only against what is kept elsewhere: the
mark, a dossier, a head that somebody noted, a signed approval.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dispatcher.core import chain
from dispatcher.core.approval import Approval, PlanName, PublicKey
from dispatcher.core.compose import ContentError
from dispatcher.core.errors import DispatcherError, LedgerUnavailable, Problem, SignatureError, UsageError
from dispatcher.core.headers import HeaderError
from dispatcher.core.merge import Frozen, Press, message_digest
from dispatcher.core.model import Channel, Leased
from dispatcher.core.reading import WORDS
from dispatcher.core.replay import Order, Said, replay
from dispatcher.desk import Desk
from dispatcher.ledgers.evidence import Evidence, SealedLetter
from dispatcher.ledgers.purging import removed_digest
from dispatcher.ledgers.rows import DAMAGED, recipient_of, recipient_text
from dispatcher.ledgers.suppressions import KEPT
from dispatcher.signing import verify as verify_signature

Observe = Callable[[str, int, int], None]
"""Told what is looked at, how far it is, and of how many."""
_ANY_DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that is not as it was written: by which check, in which row ('' and 0: none), about whom, and what."""

    check: str
    why: str
    kind: str = ""
    id: int = 0
    key: str = ""

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "check": self.check, "kind": self.kind, "id": self.id, "recipient": self.key, "what": self.why
        }  # fmt: skip


@dataclass(slots=True)
class Verified:
    """What a look through a ledger found: the faults, the first of each check, and what was looked at."""

    path: Path
    faults: list[Wrong] = field(default_factory=list)
    head: str = ""
    links: int = 0
    rows: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    letters: int = 0
    messages: int = 0
    on_paper: int = 0
    signed: int = 0
    unsigned: int = 0
    under_way: int = 0
    purges: list[dict[str, Any]] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        counts = ("links", "rows", "letters", "messages", "on_paper", "signed", "unsigned", "under_way")
        return {
            "ledger": str(self.path),
            "sound": not self.faults,
            "faults": [fault.as_data() for fault in self.faults],
            "head": self.head,
            **{name: getattr(self, name) for name in counts},
            "rows_by_kind": self.by_kind,
            "purges": self.purges,
        }


def verify_ledger(path: Path, observe: Observe, *, head: str = "", desk: Desk | None = None) -> Verified:
    """Look through a ledger. `head` is a hash that the chain must hold; `desk` has the mark of its ledger.

    Raises LedgerUnavailable if it cannot be read as a ledger at all, UsageError if `head` is no hash.
    """
    with Evidence(path) as evidence:
        looking = _Looking(evidence, observe, Verified(path))
        looking.look(head, desk)
        return looking.found


class _Looking:
    """One look through a ledger. Each check ends at the first thing that is wrong."""

    def __init__(self, evidence: Evidence, observe: Observe, found: Verified) -> None:
        self._evidence = evidence
        self._observe = observe
        self.found = found
        self._order = Order()

    def look(self, head: str, desk: Desk | None) -> None:
        wanted = _hash(head) if head else b""
        if damage := self._evidence.damage():
            self._wrong("the file", f"it is damaged: {damage}")
        self._chain(wanted)
        plans = list(self._evidence.plans())
        self._purges()
        self._plans(plans)
        self._letters(plans)
        self._suppressions()
        self._attachments()
        self._approvals(plans)
        if desk and not any(fault.check == "the chain" for fault in self.found.faults):
            self._mark(desk)

    def _wrong(self, check: str, why: str, kind: str = "", id_: int = 0, key: str = "") -> None:
        self.found.faults.append(Wrong(check, why, kind, id_, key))

    def _chain(self, wanted: bytes) -> None:
        evidence, total = self._evidence, self._evidence.count_links()

        def links() -> Iterator[chain.Link]:
            for done, link in enumerate(evidence.links()):
                self._observe("links of the chain", done, total)
                yield link
                for name in chain.names_of(link.names):
                    self._order.note(name)
            self._observe("links of the chain", total, total)

        chained = chain.verify(evidence.start(), links(), evidence.digests)
        found = self.found
        found.head, found.links, found.rows = chained.head.hex(), chained.links, chained.rows
        found.by_kind = {chain.KINDS[kind].many: n for kind, n in sorted(chained.seen.counts.items())}
        found.under_way = evidence.under_way()
        if fault := chained.fault or evidence.unlinked(chained.seen):
            self._wrong("the chain", fault.why, *self._about(fault))
        elif wanted and evidence.link_of(wanted) is None:
            self._wrong("the chain", "the hash that you kept is not in it: it was cut off, or written anew since")

    def _about(self, fault: chain.Fault) -> tuple[str, int, str]:
        if fault.row is None or fault.what == "broken":
            return "link", fault.link, ""
        return fault.row.kind, fault.row.id, self._evidence.key_of(fault.row)

    def _purges(self) -> None:
        """What was taken away, and that nothing more was, and nothing came back."""
        evidence = self._evidence
        for purge in evidence.purges():
            rows = list(evidence.removed_by(purge["id"]))
            why = ""
            if (len(rows), removed_digest(rows)) != (purge["rows"], purge["removed"]):
                why = "what was taken away is not what it says"
            elif evidence.left_digest(purge["campaign"]) != purge["letters"]:
                why = "what was left of it was changed since"
            if why:
                self._wrong("the purges", f"purge {purge['id']} of {purge['campaign']}: {why}", "purge", purge["id"])
                return
            self.found.purges.append({name: purge[name] for name in ("campaign", "at", "before", "rows")})
        if name := evidence.not_blank():
            self._wrong("the purges", f"{name} was purged, and something stands in it again", name.kind, name.id)

    def _plans(self, plans: list[dict[str, Any]]) -> None:
        """What stands of each plan; of its letters, what stands of the latest revision of each campaign."""
        latest = {plan["campaign"]: plan["revision"] for plan in plans}
        for plan in plans:
            if plan["purged"]:
                continue
            why = self._skips(plan) or (latest[plan["campaign"]] == plan["revision"] and self._whole(plan))
            if why:
                self._wrong("the plan", f"{plan['campaign']}, revision {plan['revision']}: {why}", "plan", plan["id"])
                return

    def _skips(self, plan: dict[str, Any]) -> str:
        if self._evidence.skips_digest(plan["campaign"], plan["revision"]) == plan["skips"]:
            return ""
        return "a row without a letter was changed, removed or inserted after it was sealed"

    def _whole(self, plan: dict[str, Any]) -> str:
        if self._evidence.letters_digest(plan["campaign"]) != plan["letters"]:
            return "a letter of it was changed, removed or inserted after it was sealed"
        if plan["revision"] == 1 and self._evidence.plan_digest(plan["campaign"]) != plan["digest"]:
            return f"its letters do not make the digest {plan['digest']}"
        return ""

    def _letters(self, plans: list[dict[str, Any]]) -> None:
        sealed = {(plan["campaign"], plan["revision"]): plan for plan in plans}
        presses: dict[tuple[str, int], Press | None] = {}
        total = self._evidence.count_letters()
        letters = self._evidence.letters({key: plan["dictionary"] for key, plan in sealed.items()})
        for done, letter in enumerate(letters):
            self._observe("letters", done, total)
            plan = sealed.get((letter.campaign, letter.revision))
            why = "it belongs to no plan"
            if plan and letter.purged and plan["purged"]:
                why = self._stands(letter)
            elif plan:
                key = (letter.campaign, letter.revision)
                if key not in presses:
                    presses[key] = self._press(plan)
                why = self._letter(letter, presses[key], plan["id"]) or self._stands(letter)
            if why:
                self._wrong("the letters", f"letter {letter.key}: {why}", "letter", letter.id, letter.key)
                return
            self.found.letters += 1
        self._observe("letters", total, total)
        if more := self._evidence.unsealed():
            number, whose = more
            self._wrong("the letters", f"letter {whose}: it was never sealed", "letter", number, whose)

    def _press(self, plan: dict[str, Any]) -> Press | None:
        try:
            return Press(Frozen.from_data(json.loads(plan["frozen"])), self._evidence.content)
        except (*DAMAGED, UsageError):
            return None

    def _letter(self, letter: SealedLetter, press: Press | None, plan: int) -> str:
        """Why it is not what was sealed, or not what left; '' if it is."""
        if letter.leased is None:
            return "it cannot be read as it was sealed"
        if (why := _disagrees(letter, letter.leased)) or letter.channel == Channel.PAPER:
            self.found.on_paper += not why  # what it is set in is in the folder; its digest is in the plan's
            return why
        if press is None:
            return "what it shares with others cannot be read as it was sealed"
        try:
            _, message = press.print(letter.leased, letter.leased.date or _ANY_DATE)
        except (DispatcherError, ContentError, HeaderError, ValueError):
            return "its octets are not those that were sealed"
        return self._left(letter, message_digest(message) if letter.leased.date else "", plan)

    def _left(self, letter: SealedLetter, made: str, plan: int) -> str:
        """Why what left is not this letter. Attempts from before it was sealed are of what it was, amended since."""
        before = self._order.before(chain.Name("plan", plan))
        for number, digest in letter.left:
            if digest and number > before:
                if not made:
                    return f"the date with which it left in attempt {number} is gone"
                if digest != made:
                    return f"what left in attempt {number} was not it"
                self.found.messages += 1
        return ""

    def _stands(self, letter: SealedLetter) -> str:
        """Why it cannot stand where it does, by its attempts and what was decided; '' if it can."""
        said = (
            Said(id_, kind, about, self._order.before(chain.Name("event", id_))) for id_, kind, about in letter.said
        )
        can = replay(letter.channel, letter.tried, said, purged=letter.purged)
        if letter.state in can:
            return ""
        be = " or ".join(sorted({WORDS.get(state, state) for state in can}))
        return f"it is {WORDS.get(letter.state, letter.state)}, and by what is recorded of it it would be {be}"

    def _suppressions(self) -> None:
        """None was put in or taken out behind the program's back. Of what a purge kept nobody can say it any more."""
        last = {identity: (n, there, why) for n, there, identity, why in self._evidence.said_of_addresses()}
        in_force = set()
        for identity, reason, source in self._evidence.suppressed():
            in_force.add(identity)
            number, there, why = last.get(identity, (0, False, ""))
            if source and not (there and why == reason) and not (source == KEPT and self.found.purges):
                what = f"{identity} is suppressed, and nobody is recorded to have said so: {reason}"
                self._wrong("the suppressions", what, "event" if number else "", number)
                return
        for identity, (number, there, _) in last.items():
            if there and identity not in in_force:
                what = f"{identity} was suppressed, and is not any more, though nobody is recorded to have lifted it"
                self._wrong("the suppressions", what, "event", number)
                return

    def _attachments(self) -> None:
        for digest, octets in self._evidence.contents():
            if hashlib.sha256(octets).hexdigest() != digest:
                self._wrong("the attachments", f"the attachment {digest} was changed")
                return

    def _approvals(self, plans: list[dict[str, Any]]) -> None:
        sealed = {(plan["campaign"], plan["revision"]): plan for plan in plans}
        for row in self._evidence.approvals():
            plan = sealed.get((row["campaign"], row["revision"]))
            if plan is None or plan["digest"] != row["digest"]:
                why = "it is of no plan that was sealed"
            elif plan["purged"]:
                continue
            else:
                why = _signature(row) if row["signature"] else ""
            if why:
                self._wrong("the approvals", f"approval {row['id']}: {why}", "approval", row["id"])
                return
            self.found.signed += bool(row["signature"])
            self.found.unsigned += not row["signature"]

    def _mark(self, desk: Desk) -> None:
        number, head = desk.remembered_chain()
        there = self._evidence.link_at(number) if number else None
        if number > self.found.links:
            self._wrong("the mark", f"this machine remembers {number} links, and the chain has {self.found.links}")
        elif number and (there is None or there.hex() != head):
            what = f"this machine remembers another chain: link {number} is not the one that it saw"
            self._wrong("the mark", f"{what}. The ledger was written anew since")


def _disagrees(letter: SealedLetter, leased: Leased) -> str:
    """Which of its columns does not say what another does; '' if none."""
    try:
        recipient = recipient_of(letter.recipient)
    except (*DAMAGED, LedgerUnavailable):
        return "its recipient cannot be read as it was sealed"
    boxes = recipient.mailboxes
    said = {
        "its recipient": recipient_text(recipient) == letter.recipient and recipient.key == letter.key,
        "its channel": recipient.channel == letter.channel,
        "its mailboxes": tuple(m.identity for m in boxes) == tuple(m.identity for m in leased.mailboxes),
        "its addresses": tuple(m.address for m in boxes) == tuple(m.address for m in leased.mailboxes),
    }
    if letter.channel == Channel.MAIL:
        header = leased.own.partition(b"\r\n\r\n")[0] + b"\r\n"
        said["its Message-ID"] = f"\r\nMessage-ID: {leased.message_id}\r\n".encode() in header
        said["its language"] = f"\r\nContent-Language: {letter.language}\r\n".encode() in header
    wrong = next((what for what, right in said.items() if not right), "")
    return wrong and f"{wrong} is not as it was sealed"


def _signature(row: dict[str, Any]) -> str:
    """What is wrong with the signature of an approval, or ''."""
    try:
        plan = PlanName(row["campaign"], row["revision"], row["digest"])
        approval = Approval(plan, row["name"], datetime.fromisoformat(row["at"]), row["key"], row["signature"])
        verify_signature(approval.text(), approval.signature, PublicKey.parse(approval.key))
    except (SignatureError, ValueError) as error:
        return str(error)
    return ""


def _hash(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != chain.DIGEST:
        todo = "copy all 64 digits, as `dispatcher verify` showed them"
        raise UsageError(Problem(f"--head {text} is no hash of the chain", todo=todo))
    return found


__all__ = ["Observe", "Verified", "Wrong", "verify_ledger"]
