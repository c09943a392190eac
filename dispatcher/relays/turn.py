"""One mail transaction under way, as a conversation keeps it, and what its replies can mean for it. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from dispatcher.core.model import HandOver, Phase, RcptReply, Reply
from dispatcher.core.ports import Transaction


class Mode(StrEnum):
    """How commands travel; see the module."""

    LOCK_STEP = "lock-step"
    PIPELINING = "pipelining"
    CHUNKING = "chunking"


def mode_for(features: Mapping[str, str]) -> Mode:
    """The best mode for what a relay offers."""
    if "PIPELINING" not in features:
        return Mode.LOCK_STEP
    return Mode.CHUNKING if "CHUNKING" in features else Mode.PIPELINING


class Step(StrEnum):
    """A command that has a reply."""

    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    FINAL = "the message"
    RSET = "RSET"


PHASES: Final = {
    Step.MAIL: Phase.MAIL,
    Step.RCPT: Phase.RCPT,
    Step.DATA: Phase.DATA,
    Step.BDAT: Phase.BODY,
    Step.FINAL: Phase.FINAL,
    Step.RSET: Phase.FINAL,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """The transaction's intent is wanted; the answer goes to `Conversation.answer`."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Ended:
    """What is known of a transaction now that it is over. Comes exactly once for each that was offered."""

    transaction: Transaction
    facts: HandOver


@dataclass(slots=True, eq=False)
class Turn:
    """One transaction under way."""

    transaction: Transaction
    commands: deque[tuple[Step, bytes]]  # of its envelope, not yet sent
    phase: Phase = Phase.MAIL
    rcpts: list[RcptReply] = field(default_factory=list)
    refusal: Reply | None = None  # the reply for which no content follows
    reply: Reply | None = None  # to the message
    content: deque[bytes | memoryview] | None = None  # not yet sent, once it may go
    large: bool = False  # the content does not go in one piece
    follows: bool = False  # it left behind another letter, and no reply to it has come yet
    asked_at: float | None = None
    granted: bool | None = None
    terminated_at: float | None = None

    @property
    def unbegun(self) -> bool:
        """Whether nothing of it has left."""
        return bool(self.commands) and self.commands[0][0] is Step.MAIL

    def facts(self, reply: Reply | None = None, fault: str = "", *, retracted: bool = False) -> HandOver:
        sent = self.terminated_at is not None
        return HandOver(self.phase, reply, tuple(self.rcpts), sent, fault, retracted)


class Contradiction(Exception):
    """The relay's replies do not fit what was asked."""


def positive(reply: Reply) -> bool:
    """True for 2yz, False for 4yz and 5yz. Raises for 3yz: only DATA gets one."""
    if reply.code // 100 == 3:
        raise out_of_place(reply)
    return reply.code // 100 == 2


def require_refused(refusal: Reply, reply: Reply) -> None:
    """After one refusal in a transaction there are others; else a reply has come too many. Raises Contradiction."""
    if reply.code // 100 in (2, 3):
        raise Contradiction(f"taken ({reply}) though it was refused: {refusal}")


def out_of_place(reply: Reply) -> Contradiction:
    return Contradiction(f"a reply out of place: {reply}")


def stopped_by(replies: list[Reply], *, settle: bool) -> Reply | None:
    """The reply to RCPT for which no content follows, or None if it shall.

    A refusal for now counts more than one for good: the letter can still go to that mailbox later.
    """
    later = next((reply for reply in replies if reply.code // 100 == 4), None)
    if any(reply.code // 100 == 2 for reply in replies) and (settle or later is None):
        return None
    return later or replies[-1]
