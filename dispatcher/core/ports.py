"""The few things the engine needs from outside, each with its contract. One contract suite runs over every body."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from dispatcher.core.model import (
    Ending,
    Envelope,
    HandOver,
    Lease,
    Leased,
    Message,
    Phase,
    Reply,
    SessionInfo,
    State,
)

T_co = TypeVar("T_co", covariant=True)

Intend = Callable[[Callable[[bool], None]], None]
"""Makes the intent durable, and then calls what it was given: True, the terminator may leave; False, it must not.

Called at most once a transaction. The answer comes once, on the same thread.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Transaction:
    """One message to be handed over in one mail transaction.

    `ended` is called once with the facts, when nothing more will be known; it may offer the next one. `settle`: content
    goes to those forward paths that were taken, even if others were refused for now.
    """

    envelope: Envelope
    message: Message
    intend: Intend
    ended: Callable[[HandOver], None]
    settle: bool = False


class RelayTrouble(Exception):
    """A session could not be set up. Facts only; `core.policy.classify_trouble` says what they mean.

    `phase` is how far it came; `reply` is the relay's own answer if it gave one; `fault` says in words what happened
    otherwise. Neither ever holds a secret.
    """

    def __init__(self, phase: Phase, reply: Reply | None = None, fault: str = "") -> None:
        self.phase = phase
        self.reply = reply
        self.fault = fault
        super().__init__(f"{phase}: {reply or fault}")


class Session(Protocol):
    """One connection to a relay, ready for transactions."""

    @property
    def info(self) -> SessionInfo:
        """Peer, TLS version, what was offered."""
        ...

    @property
    def usable(self) -> bool:
        """False after anything that leaves the conversation in doubt; then only `close` may be called."""
        ...

    @property
    def room(self) -> int:
        """How many transactions may be offered now; 0 for good once the session is not usable."""
        ...

    def offer(self, transaction: Transaction) -> None:
        """Hand over one message after those offered before; never raises for what the relay or the network does.

        No byte of the terminator is given to the transport before the intent is granted, nor while an unread octet
        waits. All forward paths are tried; content follows if at least one was taken, unless one of the others was
        refused for now (4yz): then the transaction is dropped before the content, so that the letter can go to all of
        them later, except when it is to `settle`. After a refusal the session is reset (RSET) or made unusable.
        """
        ...

    async def over(self) -> None:
        """Wait until the session is not usable any more."""
        ...

    def abort(self, why: str) -> None:
        """Drop the connection at once; every transaction under way ends with what is known of it."""
        ...

    async def close(self) -> None:
        """QUIT if the conversation is in order, then drop the connection. Never raises; its outcome never matters."""
        ...


class Relay(Protocol):
    """Whoever we hand over to."""

    @property
    def account(self) -> str:
        """Whose pace and quota a hand-over counts against, as user@host:port. Never a secret."""
        ...

    async def connect(self) -> Session:
        """A new session: connected, greeted, secured and logged in as configured. Raises RelayTrouble."""
        ...


class Pending(Protocol[T_co]):
    """A result that comes later, when it is durable; as `asyncio.Future` is one."""

    def add_done_callback(self, call: Callable[[Any], object], /) -> None:
        """Call it with this, once, on the same thread, when the result is there."""
        ...

    def result(self) -> T_co:
        """The result, or raise what went wrong."""
        ...

    def __await__(self) -> Generator[Any, None, T_co]: ...


class Ledger(Protocol):
    """What the dispatch loop needs of a ledger, within one run that holds it. Letters are fenced by that run.

    Every call that changes something returns when the change is durable. Calls take effect in the order in which they
    were made, so an awaited one says that all earlier ones are durable too. All raise LedgerUnavailable when the
    ledger cannot be written; from then on nothing may be sent.
    """

    async def lease(self, limit: int) -> Lease:
        """Take up to `limit` letters that are due, within pace and quota (T2)."""
        ...

    async def open_session(self, info: SessionInfo) -> int:
        """Note a connection; returns its number."""
        ...

    def intend(self, letter: Leased, session: int, date: datetime, message_digest: str) -> "Pending[int | None]":
        """Make the intent durable (T3): leased → at_risk, with the suppression check in the same transaction.

        Returns the attempt's number, or None if the letter was suppressed meanwhile; then it must not leave.
        """
        ...

    def conclude(self, letter: Leased, session: int | None, attempt: int | None, ending: Ending) -> "Pending[None]":
        """Record how an attempt ended (T3r, T4, T5). `attempt` is None if there was no intent yet."""
        ...

    async def judge(self, letters: tuple[Leased, ...], state: State, reason: str) -> None:
        """Settle letters that were held after policy refusals: leased → failed, or leased → ready."""
        ...


class Clock(Protocol):
    """Time, from outside."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""
        ...

    def boot(self) -> float:
        """Seconds on a clock that goes on while the machine sleeps and is never set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
