"""One connection at work: letters go into its session as long as that has room, and what each came to is recorded.

Everything happens in callbacks of the session and of the ledger: when a letter has its end, the next one is taken up at
once, so that its envelope can ride behind the terminator before it. The order that keeps the promise:

  - a letter is concluded before the next one of this connection is taken up, and the ledger writes in the order in
    which it was asked; so an intent that is durable says that all outcomes before it are;
  - a letter that is to be signed is in hand while a thread signs it, and is offered when that is done;
  - an end that comes while the intent is still being made waits for it: what was made is always concluded.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from dispatcher.core import policy
from dispatcher.core.model import HandOver, Leased, Message
from dispatcher.core.policy import Scope, Verdict
from dispatcher.core.ports import Clock, Ledger, Pending, Session, Transaction
from dispatcher.dispatch.record import Recorder
from dispatcher.dispatch.stock import Stock
from dispatcher.dispatch.terms import Prepare, Prepared, Sign, Tally


@dataclass(frozen=True, slots=True)
class Shop:
    """What all lines of a run share. `fail` takes an error that ends the run, `heard` the verdict on each letter."""

    ledger: Ledger
    stock: Stock
    recorder: Recorder
    prepare: Prepare
    sign: Sign | None
    clock: Clock
    tally: Tally
    too_late: Callable[[], bool]
    fail: Callable[[Exception], None]
    heard: Callable[[Verdict], None]


@dataclass(slots=True, eq=False)
class _Hand:
    """A letter in this line's hands."""

    letter: Leased
    date: datetime
    message_digest: str
    facts: HandOver | None = None
    intent: Pending[int | None] | None = None
    answered: bool = False
    suppressed: bool = False
    lost: bool = False  # the ledger gave no answer
    attempt: int | None = None


class Line:
    """See the module. `most` letters at most go over this connection, and none once it is `age` seconds old."""

    def __init__(self, shop: Shop, session: Session, number: int, most: int, age: float) -> None:
        self._shop = shop
        self._until = shop.clock.boot() + age
        self.session = session
        self._number = number
        self._most = most
        self._hands: set[_Hand] = set()
        self._free = asyncio.Event()  # nothing in hand
        self._free.set()
        self._filling = False
        self._signing = 0  # letters in hand that are not offered yet
        self._left = asyncio.Event()  # nothing more is to be taken up
        self._taken = 0
        self.through = 0  # letters that the relay has answered for
        self.broken_off = False  # by us, for a letter that was suppressed meanwhile
        self.refused = False  # the relay wants fewer connections, or slower ones
        self.spent = False  # it takes no more letters on one connection than went through on this

    @property
    def busy(self) -> bool:
        """Whether it has letters in hand."""
        return bool(self._hands)

    def leave(self) -> None:
        """Take up nothing more."""
        self._left.set()

    async def left(self) -> None:
        """Wait until nothing more is to be taken up."""
        await self._left.wait()

    async def freed(self) -> None:
        """Wait until nothing is in hand."""
        await self._free.wait()

    def fill(self) -> None:
        """Take up letters while the session has room for them."""
        if self._filling:
            return
        self._filling = True
        try:
            while self.session.room > self._signing and not self._left.is_set():
                letter = self._shop.stock.take()
                if letter is None:
                    break
                self._take_up(letter)
        except Exception as error:  # noqa: BLE001 (told to whoever started the run)
            self._shop.fail(error)
        finally:
            self._filling = False

    def _take_up(self, letter: Leased) -> None:
        shop = self._shop
        date = letter.date or shop.clock.now().replace(microsecond=0)
        prepared = shop.prepare(letter, date)
        hand = _Hand(letter, date, prepared.message_digest)
        self._hands.add(hand)
        self._free.clear()
        shop.tally.in_flight += 1
        self._taken += 1
        if self._taken >= self._most or shop.clock.boot() >= self._until:
            self.leave()
        if shop.sign is None:
            self._offer(hand, prepared)
            return
        self._signing += 1
        loop = asyncio.get_running_loop()
        signing = loop.run_in_executor(None, shop.sign, prepared.message, shop.clock.now())
        signing.add_done_callback(lambda done: self._signed(hand, prepared, done))

    def _signed(self, hand: _Hand, prepared: Prepared, done: "asyncio.Future[Message]") -> None:
        """Offer it; if the session is over meanwhile it says so, and nothing was tried."""
        self._signing -= 1
        try:
            message = done.result()
        except Exception as error:  # noqa: BLE001 (told to whoever started the run)
            self._put_down(hand)
            self._shop.fail(error)
            return
        try:
            self._offer(hand, replace(prepared, message=message))
        except Exception as error:  # noqa: BLE001 (told to whoever started the run)
            self._shop.fail(error)

    def _offer(self, hand: _Hand, prepared: Prepared) -> None:
        letter = hand.letter
        try:
            self.session.offer(
                Transaction(
                    prepared.envelope,
                    prepared.message,
                    lambda answer: self._intend(hand, answer),
                    lambda facts: self._ended(hand, facts),
                    settle=letter.attempts + 1 >= policy.SETTLE_AFTER,
                )
            )
        except ValueError:  # an address that must never have got here: a bug, and the run ends
            self._put_down(hand)
            raise

    def _put_down(self, hand: _Hand) -> None:
        self._hands.discard(hand)
        self._shop.tally.in_flight -= 1
        if not self._hands:
            self._free.set()

    # The intent.

    def _intend(self, hand: _Hand, answer: Callable[[bool], None]) -> None:
        if self._shop.too_late():
            answer(False)  # noqa: FBT003 (a callback's one value)
            return
        hand.intent = self._shop.ledger.intend(hand.letter, self._number, hand.date, hand.message_digest)
        hand.intent.add_done_callback(lambda _: self._intended(hand, answer))

    def _intended(self, hand: _Hand, answer: Callable[[bool], None]) -> None:
        hand.answered = True
        try:
            hand.attempt = hand.intent.result() if hand.intent else None
            hand.suppressed = hand.attempt is None
        except Exception as error:  # noqa: BLE001 (told to whoever started the run)
            hand.lost = True
            self._shop.fail(error)
        answer(hand.attempt is not None)
        if hand.facts is not None:
            self._conclude(hand, hand.facts)

    # The end.

    def _ended(self, hand: _Hand, facts: HandOver) -> None:
        hand.facts = facts
        if hand.intent is None or hand.answered:
            self._conclude(hand, facts)

    def _conclude(self, hand: _Hand, facts: HandOver) -> None:
        try:
            self._record(hand, facts)
        except Exception as error:  # noqa: BLE001 (told to whoever started the run)
            self._shop.fail(error)
        self._put_down(hand)
        self._shop.stock.changed()
        self.fill()

    def _record(self, hand: _Hand, facts: HandOver) -> None:
        shop = self._shop
        if hand.suppressed:
            self.broken_off = True
            shop.tally.suppressed += 1
        elif facts.retracted and hand.attempt is None and not hand.lost:
            shop.stock.put_back(hand.letter)  # nothing was tried
        elif not hand.lost:
            self._heed(shop.recorder.conclude(hand.letter, self._number, hand.attempt, facts))

    def _heed(self, verdict: Verdict) -> None:
        if verdict.scope is Scope.RATE:
            self.refused = True
            self.spent = self.through > 0 and policy.connection_is_spent(verdict.why)
            self.leave()
        elif verdict.scope in (Scope.QUOTA, Scope.SENDER, Scope.RELAY):
            self.leave()
        elif verdict.scope is not Scope.CONNECTION:
            self.through += 1
        self._shop.heard(verdict)
