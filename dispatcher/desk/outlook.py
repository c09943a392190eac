"""What a `send` would do now: read the folder, hold it against what is sealed, count.

A folder that is, file for file, what the sealed plan was made from need not be merged to know that: then everything is
read in the ledger. Nothing here grows with the number of letters.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dispatcher.core.address import is_reserved
from dispatcher.core.campaign import Campaign
from dispatcher.core.changes import differences
from dispatcher.core.compose import DATE_SIZE
from dispatcher.core.errors import Place, PlanConflict, Problem, UsageError
from dispatcher.core.jinja import Expression
from dispatcher.core.merge import Merged
from dispatcher.core.model import Channel, State
from dispatcher.core.plan import Summary
from dispatcher.desk import Desk, quoted
from dispatcher.desk.draft import Draft
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, document, unreadable
from dispatcher.relays.profiles import profiles


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a `send` would do now: `count` letters, of a plan that is sealed already (`revision`) or not yet (0).

    `chosen` says that there was a choice, and `picked` then gives its keys; `held_back` is how many are suppressed;
    `to_print` how many are for paper and wait, chosen or not.
    """

    draft: Draft
    summary: Summary
    revision: int
    count: int
    chosen: bool
    held_back: int
    to_print: int

    @property
    def sealed(self) -> bool:
        return self.revision > 0

    def picked(self) -> Iterator[str]:
        """Whom it goes to, in order, if there was a choice."""
        return self.draft.unsealed.picked()


@dataclass(frozen=True, slots=True)
class _Choice:
    """Among which letters, and how many at most."""

    condition: Expression | None
    limit: int | None

    @property
    def made(self) -> bool:
        return self.condition is not None or self.limit is not None


def outlook(desk: Desk, *, only: str | None = None, limit: int | None = None) -> Outlook:
    """Read the folder, and say what a `send` would do. Raises UsageError, PlanConflict, LedgerUnavailable."""
    draft = desk.draft()
    choice = _Choice(Expression(only, Place("--only")) if only is not None else None, limit)
    return _of_sealed(desk, draft, choice) or _of_folder(desk, draft, choice)


def _of_folder(desk: Desk, draft: Draft, choice: _Choice) -> Outlook:
    """By merging every letter."""
    summary, condition = draft.blank_summary(), choice.condition
    for item in draft.items(whole=True, look=not _is_sealed(desk, draft)):
        summary.add(item)
        if condition and isinstance(item, Merged) and condition.holds(item.letter.recipient.fields):
            draft.unsealed.choose()
    if summary.problems:
        raise UsageError(*summary.problems)
    guard(desk, draft.campaign, summary)
    revision = sealed_revision(desk, draft)
    hold_back(desk, draft)
    among = condition is not None
    if revision:
        states = _sendable(draft.campaign)
        draft.unsealed.pick_sealed(desk.ledger_path, draft.campaign.id, states, chosen=among, limit=choice.limit)
    else:
        draft.unsealed.pick(Channel.MAIL, chosen=among, limit=choice.limit)
    count, held = draft.unsealed.count_picked(), draft.unsealed.count_held_back()
    paper = _to_print(desk, draft) if revision else draft.unsealed.count_in(Channel.PAPER)
    return Outlook(draft, summary, revision, count, choice.made, held, paper)


def _to_print(desk: Desk, draft: Draft) -> int:
    with desk.reader() as reader:
        return reader.counts(draft.campaign.id).get(State.TO_PRINT, 0)


def _is_sealed(desk: Desk, draft: Draft) -> bool:
    """Whether a plan is sealed: it was looked into then, and another one is refused anyway."""
    if not desk.ledger_path.exists():
        return False
    with desk.reader() as reader:
        return reader.one("latest_plan", campaign=draft.campaign.id) is not None


def _sendable(campaign: Campaign) -> set[State]:
    """Where a letter stands that a run would send."""
    again = {State.AT_RISK, State.UNKNOWN} if campaign.on_unknown == "resend" else set()
    return {State.READY, State.LEASED} | again


def hold_back(desk: Desk, draft: Draft, *, on_paper: bool = False) -> None:
    """Note who of a draft is suppressed; `on_paper`: if every letter were to be printed.

    A rehearsal holds back whom the real run would, too.
    """
    for path in dict.fromkeys((desk.ledger_path, desk.real_ledger_path)):
        if path.exists():
            draft.unsealed.hold_back(path, on_paper=on_paper)


def suppression_of(identities: Collection[str], suppressions: Mapping[str, str]) -> str:
    """Why a letter to these mailboxes is held back, or ''."""
    for mailbox in identities:
        for identity in (mailbox, "@" + mailbox.rpartition("@")[2]):
            if identity in suppressions:
                return f"{identity} is suppressed: {suppressions[identity]}"
    return ""


def guard(desk: Desk, campaign: Campaign, summary: Summary) -> None:
    """What would go nowhere: letters to example addresses, and too large ones. Raises UsageError."""
    _guard_addresses(desk, campaign, summary)
    if desk.paced:
        _guard_size(desk, campaign, summary)


_MOST_SIGNED: Final = 32 * 1024
"""Octets that signatures have at most: only where they may matter are they made to know."""


def _guard_size(desk: Desk, campaign: Campaign, summary: Summary) -> None:
    """No letter is larger than the relay takes, by its profile and by what it said when it was last met."""
    relay, size = campaign.relay, summary.largest + DATE_SIZE
    profile = profiles().get(relay.profile or "")
    limits = [(profile.size, profile.title, f"relay.profile = {relay.profile}")] if profile and profile.size else []
    if desk.ledger_path.exists():
        with desk.reader() as reader:
            last = reader.one("last_session", host=relay.host, port=relay.port)
        if last and last["size"]:
            limits.append((last["size"], relay.host, f"relay.host = {relay.host}"))
    for most, who, key in limits:
        whole = size + (_signatures(desk, campaign) if most - _MOST_SIGNED < size <= most else 0)
        if whole > most:
            what = f"the largest letter has {whole / 1e6:,.2f} MB on the wire; {who} takes at most {most / 1e6:g} MB"
            todo = "make its attachments smaller: on the wire they are a third larger than on the disk; or link to them"
            raise UsageError(Problem(what, Place("campaign.toml", None, key, summary.largest_of), todo))


def _signatures(desk: Desk, campaign: Campaign) -> int:
    from dispatcher.desk.signing import signatures_size  # noqa: PLC0415 (slow to load)

    return signatures_size(desk, campaign)


def _guard_addresses(desk: Desk, campaign: Campaign, summary: Summary) -> None:
    """Example addresses go nowhere but to this machine."""
    ours = is_reserved(campaign.sender.address)
    if desk.sandbox or campaign.relay.loopback or not (summary.reserved or ours):
        return
    found = []
    if summary.reserved:
        letters = "1 letter goes" if summary.reserved == 1 else f"{summary.reserved:,} letters go"
        found.append(f"{letters} to addresses in reserved domains (example.org and the like)")
    if ours:
        found.append(f"the sender's address {campaign.sender.address} is in a reserved domain")
    what = ", and ".join(found)
    todo = "put in the real addresses, or rehearse: dispatcher send --sandbox"
    raise UsageError(Problem(what, Place("campaign.toml", None, f"relay.host = {campaign.relay.host}"), todo))


def sealed_revision(desk: Desk, draft: Draft) -> int:
    """The revision in which the plan that was read is sealed, or 0. Raises PlanConflict if another plan is."""
    desk.require_right_ledger()
    desk.require_unpurged(draft.campaign.id)
    if not desk.ledger_path.exists():
        return 0
    with desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=draft.campaign.id)
        if plan is None:
            return 0
        frozen = reader.frozen(draft.campaign.id, plan["revision"])
    changes = draft.unsealed.changes(desk.ledger_path, draft.campaign.id)
    if plan["digest"] == draft.unsealed.digest() and not changes.count:
        _refuse_to_resend_another(desk, draft)
        return int(plan["revision"])
    lines = differences(frozen, draft.frozen.as_data(), changes)
    fresh = ", or begin the rehearsal anew: dispatcher send --sandbox --fresh" if desk.sandbox else ""
    raise PlanConflict(
        "the folder is not what was sealed:\n"
        + "\n".join(f"  {line}" for line in lines)
        + f"\nNothing was sent. Take the change over: dispatcher amend{desk.flag}{fresh}; or undo it in the folder"
    )


def _refuse_to_resend_another(desk: Desk, draft: Draft) -> None:
    """An unknown letter whose row was amended since is not sent again by rule: a person must say which one."""
    if draft.campaign.on_unknown != "resend":
        return
    if key := draft.unsealed.changed_in_doubt(desk.ledger_path, draft.campaign.id):
        raise PlanConflict(
            f"letter {key} is unknown, and its row was changed since it left: on_unknown cannot send it again. "
            f"Say what became of it: dispatcher resolve {quoted(key)} --as … --why …{desk.flag}"
        )


# Of a plan that is sealed, by a folder that has not changed.


def origin_text(draft: Draft, summary: Summary) -> str:
    """What a plan was made from and what it came to, for the ledger; '' if that cannot be told in short."""
    origin = draft.origin()
    if origin is None:
        return ""
    came_to = {
        "letters": summary.letters,
        "languages": dict(summary.languages),
        "channels": dict(summary.channels),
        "reserved": summary.reserved,
        "largest": summary.largest,
        "largest_of": summary.largest_of,
    }
    return document({**origin, "summary": came_to})


def sealed_plan(desk: Desk, draft: Draft) -> tuple[int, Summary] | None:
    """The sealed plan and what it came to, if the folder is what it was made from; None if that is not certain."""
    desk.require_right_ledger()
    desk.require_unpurged(draft.campaign.id)
    if not desk.ledger_path.exists():
        return None
    with desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=draft.campaign.id)
        if not plan or not plan["origin"] or plan["frozen"] != document(draft.frozen.as_data()):
            return None
    try:
        origin = json.loads(plan["origin"])
        came_to = origin["summary"]
        languages, channels = Counter(came_to["languages"]), Counter(came_to["channels"])
        summary = Summary(came_to["letters"], languages, channels)
        summary.reserved = came_to["reserved"]
        summary.largest, summary.largest_of = came_to["largest"], came_to["largest_of"]
        return (plan["revision"], summary) if draft.unchanged(origin) else None
    except DAMAGED:
        return None


def _of_sealed(desk: Desk, draft: Draft, choice: _Choice) -> Outlook | None:
    """From the ledger alone, if the folder is what its plan was made from."""
    found = sealed_plan(desk, draft)
    if found is None:
        return None
    revision, summary = found
    guard(desk, draft.campaign, summary)
    with desk.reader() as reader:
        stopped = dict(_stopped(desk, reader, draft.campaign.id))
        counts = reader.counts(draft.campaign.id)
        held = counts.get(State.SUPPRESSED, 0) + len(stopped)
        to_print = counts.get(State.TO_PRINT, 0)
        if choice.made:
            for key in _picked(reader, draft.campaign, choice, stopped):
                draft.unsealed.pick_key(key)
            count = draft.unsealed.count_picked()
            return Outlook(draft, summary, revision, count, chosen=True, held_back=held, to_print=to_print)
        states = _sendable(draft.campaign)
        left = sum(1 for state in stopped.values() if state in states)
        count = sum(counts.get(state, 0) for state in states) - left
    return Outlook(draft, summary, revision, count, chosen=False, held_back=held, to_print=to_print)


def _stopped(desk: Desk, reader: Reader, campaign: str) -> Iterator[tuple[str, State]]:
    """Letters that wait, or would again, and will be held back when their turn comes: key and state.

    Those that wait were held back when the suppression came; but not those that were in hand then, nor in a rehearsal
    those that only the real ledger holds back.
    """
    suppressions = desk.suppressions()
    if not suppressions:
        return
    known = {row["identity"] for row in reader.rows("suppressions")}
    names = ("letters_in_doubt", "letters_at_rest") if suppressions.keys() - known else ("letters_in_doubt",)
    for name in names:
        for row in reader.rows(name, campaign=campaign):
            if suppression_of(row["mailboxes"].split(), suppressions):
                yield row["key"], State(row["state"])


def _picked(reader: Reader, campaign: Campaign, choice: _Choice, stopped: Collection[str]) -> Iterator[str]:
    """The keys of a choice among the letters that a run would send, in its order."""
    left = choice.limit
    states = _sendable(campaign)
    for name in ("choice_in_doubt", "choice_at_rest"):
        for row in reader.rows(name, campaign=campaign.id):
            if left == 0:
                return
            if State(row["state"]) in states and row["key"] not in stopped and _holds(choice.condition, row):
                left = left and left - 1
                yield row["key"]


def _holds(condition: Expression | None, row: Mapping[str, Any]) -> bool:
    if condition is None:
        return True
    try:
        fields = json.loads(row["recipient"])["fields"]
    except DAMAGED as error:
        raise unreadable(f"letter {row['key']}", error) from None
    return condition.holds(fields)
