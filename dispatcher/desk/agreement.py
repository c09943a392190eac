"""What a rehearsal's relay kept, held against what the ledger says: the proof that only a rehearsal can give."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from dispatcher.core.compose import Composer, date_line, envelope_of, letter_digest
from dispatcher.core.merge import Frozen
from dispatcher.core.model import Message, State
from dispatcher.ledgers.reader import Reader
from dispatcher.sandbox.relay import Kept

_DOUBTED: Final = (State.UNKNOWN, State.CLOSED_UNKNOWN)


@dataclass(slots=True)
class Agreement:
    """How ledger and relay agree; each list holds letters' keys.

    `kept` is how many messages the relay kept. `twice`: of a letter more than the ledger has attempts that may have
    arrived. `wrong`: other octets than were sealed, or for somebody else. `lost`: accepted and not kept. `unaccounted`:
    kept, and neither accepted nor unknown; of what is no letter of the plan, the Message-ID. Of the `unknown` letters
    so many have `arrived`, which the ledger cannot know. `again` are letters that arrived more than once because the
    campaign has what is unknown sent again (`on_unknown`).
    """

    kept: int = 0
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unaccounted: list[str] = field(default_factory=list)
    unknown: int = 0
    arrived: int = 0
    again: int = 0

    @property
    def sound(self) -> bool:
        """Whether they agree."""
        return not (self.twice or self.wrong or self.lost or self.unaccounted)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "sound": self.sound}


def agreement(reader: Reader, campaign: str, kept: Sequence[Kept]) -> Agreement:
    """Hold what was kept against the ledger, octet for octet. Raises LedgerUnavailable."""
    found, there = Agreement(len(kept)), defaultdict[str, list[Kept]](list)
    for one in kept:
        there[one.message_id].append(one)
    frozen = Frozen.from_data(reader.frozen(campaign, 1))
    composer = frozen.composer()
    for row in reader.rows("handed_over", campaign=campaign):
        copies = there.pop(row["message_id"], [])
        _weigh(found, row, len(copies))
        if copies and not _as_sealed(row, copies, reader, frozen, composer):
            found.wrong.append(row["key"])
    found.unaccounted += there
    return found


def _weigh(found: Agreement, row: Mapping[str, Any], copies: int) -> None:
    state, key = State(row["state"]), row["key"]
    if state in _DOUBTED:
        found.unknown += 1
        found.arrived += copies > 0
    elif state is State.ACCEPTED and not copies:
        found.lost.append(key)
    elif copies and state is not State.ACCEPTED and not row["copies"]:
        found.unaccounted.append(key)
    if copies > row["copies"]:
        found.twice.append(key)
    elif copies > 1:
        found.again += 1


def _as_sealed(
    row: Mapping[str, Any], copies: Sequence[Kept], reader: Reader, frozen: Frozen, composer: Composer
) -> bool:
    """Whether each copy is the sealed letter, with its Date, from whom and to whom it was to go."""
    letter = reader.letter(row)
    envelope = envelope_of(frozen.return_path, letter.recipient.mailboxes)
    shared = composer.shared(letter.attachments, reader.octets)
    message = Message(date_line(datetime.fromisoformat(row["date"])), reader.own(row), shared)
    if letter_digest(envelope, message) != row["digest"]:
        return False
    digest = hashlib.sha256(message.octets).hexdigest()
    return all(
        one.digest == digest
        and one.mail_from == envelope.return_path
        and 0 < len(one.rcpt_tos) == len(set(one.rcpt_tos) & set(envelope.forward_paths))
        for one in copies
    )
