"""The client's side of mail transactions as pure state (RFC 5321 §3.3): octets in, octets and events out, no socket.

Letters are offered, one `Transaction` each; what the relay sends goes into `receive`; what is to be sent comes out of
`octets`, piece by piece, and what somebody else must do out of `events`: make an intent, or take a letter's facts.
How commands travel is the `Mode`:

    LOCK_STEP    one command, one reply
    PIPELINING   MAIL, RCPT … and DATA in one flight; the next letter's envelope rides behind the dot (RFC 2920)
    CHUNKING     content by BDAT (RFC 3030), no 354 to wait for: whole letters in one flight, up to `DEPTH`

The order that keeps the promise, in every mode:

  - a flight leaves only at a quiet moment: every reply so far has come, and no octet waits that nobody asked for;
  - a terminator (the final dot, or the BDAT with LAST) leaves only with its letter's intent granted, no more than 30 s
    ago by the clock that runs through sleep;
  - each reply is taken for the one command whose turn it is. What a letter came to is told at the next quiet moment:
    were there a reply too many, nobody could say which of them was the letter's, so all letters in that flight whose
    terminator left are unknown. Only a 421 may come unasked: the relay closes (RFC 5321 §3.8).

It never retries and never says what a reply means (`core.policy` does). `offer` raises ValueError for an address that
could break out of its command.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from dispatcher.core.model import Envelope, HandOver, Message, Phase, RcptReply, Reply
from dispatcher.core.ports import Transaction
from dispatcher.relays.commands import envelope_lines, unsuitable
from dispatcher.relays.content import BLOCK, LAST, blocks, chunk, terminator
from dispatcher.relays.replies import ProtocolError, ReplyReader
from dispatcher.relays.turn import (
    PHASES,
    Ask,
    Contradiction,
    Ended,
    Mode,
    Step,
    Turn,
    mode_for,
    out_of_place,
    positive,
    require_refused,
    stopped_by,
)

DEPTH: Final = 2
"""Letters of one connection that may be at risk at once."""

INTENT_LIFE: Final = 30.0
"""Seconds between the intent and the terminator; later, somebody else may have taken the letter over."""

_BRISK: Final = 5.0
"""Seconds within which a relay answers a message if the next intent may be made before its turn has come."""


class Conversation:
    """All transactions of one session, from its first MAIL on.

    `features` is what EHLO offered; `boot` the clock that runs through sleep, in seconds; `unheard` says whether octets
    wait in the system's buffer that have not been given to `receive`. `depth` letters may be at risk at once where the
    mode allows it.
    """

    def __init__(
        self,
        features: Mapping[str, str],
        boot: Callable[[], float],
        unheard: Callable[[], bool] = lambda: False,
        *,
        mode: Mode | None = None,
        depth: int = DEPTH,
    ) -> None:
        self.mode = mode or mode_for(features)
        self.over = False
        self.stumbled = ""
        self.replies = 0
        self._features = features
        self._boot = boot
        self._unheard = unheard
        self.waits_to_hear = False  # the message may be ended, once what waits in the system's buffer is here
        self._depth = depth
        self._reader = ReplyReader()
        self._turns: deque[Turn] = deque()
        self._awaited: deque[tuple[Step, Turn | None]] = deque()
        self._told: list[Turn] = []  # their replies are in; told at the next quiet moment
        self._events: deque[Ask | Ended] = deque()
        self._last: tuple[Step, Reply] | None = None
        self._reset_due = False
        self._brisk = False
        self._flown = 0  # flights of several commands that were answered as they should be

    # What the session asks.

    @property
    def room(self) -> int:
        """How many transactions may be offered now."""
        return 0 if self.over else self._window - len(self._turns) - len(self._told)

    @property
    def _window(self) -> int:
        return 1 if self.mode is Mode.LOCK_STEP else self._depth

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing is left to say."""
        return not (self._turns or self._told or self._awaited or self._reset_due)

    @property
    def awaited(self) -> Phase | None:
        """What the relay is to answer next; None while it is our turn. RSET counts as what it was before."""
        if not self._awaited:
            return None
        return PHASES[self._awaited[0][0]]

    @property
    def resetting(self) -> bool:
        """Whether the answer to RSET is what is awaited."""
        return bool(self._awaited) and self._awaited[0][0] is Step.RSET

    @property
    def _may_speak(self) -> bool:
        """A quiet moment; or the whole of a large chunk has left, and only its own reply is still to come."""
        if self._reader.pending:
            return False
        return not self._awaited or (len(self._awaited) == 1 and self._awaited[0][0] is Step.BDAT)

    @property
    def upload_ends(self) -> bool:
        """Whether the last octets were the last of a large message, but for what ends it."""
        turn = self._turns[0] if self._turns else None
        return turn is not None and turn.large and turn.content is not None and not turn.content

    def events(self) -> deque[Ask | Ended]:
        """What somebody else must do; the caller takes them out from the left."""
        return self._events

    # What the session says.

    def offer(self, transaction: Transaction) -> None:
        """Take on one transaction. Raises ValueError for an address that must never get here.

        What the relay is known not to take (too large, SMTPUTF8, 8-bit content) is refused without an octet sent,
        with a reply of our own whose text says `(dispatcher)`.
        """
        envelope, message = transaction.envelope, transaction.message
        turn = Turn(transaction, self._commands(envelope, message))
        if self.over:
            self._end(turn, turn.facts(fault="the session is over", retracted=True))
        elif (refusal := unsuitable(self._features, envelope, message)) is not None:
            self._end(turn, turn.facts(refusal))
        else:
            self._turns.append(turn)

    def answer(self, transaction: Transaction, granted: bool) -> None:  # noqa: FBT001 (a callback's one value)
        """Say whether a transaction's intent is durable. Without it nothing of it may end the message."""
        for turn in self._turns:
            if turn.transaction is transaction:
                turn.granted = granted

    def receive(self, octets: bytes) -> None:
        """Take what the relay sent."""
        self._reader.feed(octets)
        if self.over:
            return
        try:
            while self._awaited and (reply := self._reader.next()) is not None:
                self._take(reply)
                if self.over:
                    return
            if not self._awaited:
                self._hear_nothing_more()
        except (ProtocolError, Contradiction) as error:
            self._contradicted(str(error))

    def lost(self, words: str) -> None:
        """The connection is gone, or is given up; `words` say why. All that is under way ends here."""
        if self.over:
            return
        if self._reader.pending:
            words = f"{words} in the middle of a reply"
        self._note_a_loss(words)
        self._doubt_without_witness(*(turn for step, turn in self._awaited if step is Step.RSET and turn))
        self._tell()
        self._close(words)

    def octets(self) -> bytes | memoryview | None:
        """What to give to the transport next, in one piece; None while there is nothing to say yet.

        To be asked for only while the transport takes octets: being asked again means that the last ones are drained.
        """
        self.waits_to_hear = False
        if self.over or not self._may_speak:
            return None
        if self.mode is Mode.CHUNKING and not self._all_answered():
            return None
        flight: list[bytes | memoryview] = []
        turn = self._turns[0] if self._turns else None
        if turn and turn.content is not None:
            if turn.content and turn.large:
                return self._block(turn, turn.content)
            if not self._ready(turn):
                return None
            self._finish(turn, flight)
        self._depart(flight)
        return b"".join(flight) or None

    # What may leave.

    def _commands(self, envelope: Envelope, message: Message) -> deque[tuple[Step, bytes]]:
        mail, *rcpts = envelope_lines(self._features, envelope, message)
        commands = deque([(Step.MAIL, mail), *[(Step.RCPT, rcpt) for rcpt in rcpts]])
        if self.mode is not Mode.CHUNKING:
            commands.append((Step.DATA, b"DATA\r\n"))
        return commands

    def _depart(self, flight: list[bytes | memoryview]) -> None:
        """Add what may leave now: RSET after a refusal, and the first letters that have not begun."""
        if self._reset_due:
            self._reset_due = False
            self._awaited.append((Step.RSET, None))
            flight.append(b"RSET\r\n")
        if self.mode is Mode.CHUNKING:
            self._depart_whole(flight)
        elif not (self.mode is Mode.LOCK_STEP and flight):
            turn = next((turn for turn in self._turns if turn.commands), None)
            if turn:
                self._send_commands(turn, flight)
                if self._brisk and not turn.commands and turn.transaction.message.size <= BLOCK:
                    self._ready(turn)

    def _all_answered(self) -> bool:
        """Ask for the intents of whole letters; those that go together are waited for together."""
        if self._turns and self._turns[0].large and self._turns[0].content:
            return True  # others are asked for when their turn has come: a large upload takes its time
        for turn in tuple(self._turns):
            if self._goes_whole(turn):
                self._ready(turn)
        pending = any(turn.asked_at is not None and turn.granted is None for turn in self._turns)
        return not (pending or self.waits_to_hear)

    def _goes_whole(self, turn: Turn) -> bool:
        """Whether envelope and content leave in one flight: not before it is seen that commands may come together."""
        small = turn.transaction.message.size <= BLOCK and not self._undecided(turn)
        return small and turn.unbegun and self._flown > 0

    def _depart_whole(self, flight: list[bytes | memoryview]) -> None:
        """Whole letters, as many as may be at risk; of one that does not go whole, the envelope."""
        at_risk = sum(turn.terminated_at is not None for turn in self._turns)
        for turn in [turn for turn in self._turns if turn.unbegun][: self._depth - at_risk]:
            whole = self._goes_whole(turn)
            self._send_commands(turn, flight)
            if not whole:
                return
            self._open(turn)
            self._finish(turn, flight)

    def _send_commands(self, turn: Turn, flight: list[bytes | memoryview]) -> None:
        """Lock-step: one command. Else all, but no DATA before it is known whether content is to follow."""
        one = self.mode is Mode.LOCK_STEP
        turn.follows = turn.unbegun and bool(flight or turn is not self._turns[0])
        while turn.commands:
            step, line = turn.commands[0]
            if step is Step.DATA and self._undecided(turn):
                return
            turn.commands.popleft()
            self._awaited.append((step, turn))
            flight.append(line)
            if one:
                return

    @staticmethod
    def _undecided(turn: Turn) -> bool:
        """Whether the replies to RCPT can make us drop the transaction though some paths are taken."""
        paths = turn.transaction.envelope.forward_paths
        return len(paths) > 1 and not turn.transaction.settle and len(turn.rcpts) < len(paths)

    # The content.

    def _ready(self, turn: Turn) -> bool:
        """Whether the message may be ended: its intent is granted, and not long ago. Asks for it if need be."""
        if turn.asked_at is None:
            turn.asked_at = self._boot()
            self._events.append(Ask(turn.transaction))
        if turn.granted is False:
            self._retract(turn, "the intent was refused")
        elif turn.granted:
            # It was made no earlier than it was asked for; a sleep while it was written counts too.
            if self._boot() - turn.asked_at <= INTENT_LIFE:
                self.waits_to_hear = self._unheard()
                return not self.waits_to_hear
            self._retract(turn, f"more than {INTENT_LIFE:g} s went by after the intent")
        return False

    def _retract(self, turn: Turn, words: str) -> None:
        """Break off on our side, before the end of a message; the connection with it, unless nothing has left yet."""
        self._turns.remove(turn)
        self._end(turn, turn.facts(fault=words, retracted=True))
        if not turn.unbegun:
            self._close(words)

    def _open(self, turn: Turn) -> None:
        """The content may go."""
        message = turn.transaction.message
        turn.phase = Phase.BODY
        turn.content = deque(chunk(message) if self.mode is Mode.CHUNKING else blocks(message))
        turn.large = len(turn.content) > 1 or len(turn.content[0]) > BLOCK

    def _block(self, turn: Turn, content: deque[bytes | memoryview]) -> bytes | memoryview:
        """The next piece of a large message.

        The intent is made while the last one goes out, not earlier: on a slow line the rest would outlast it.
        """
        block = content.popleft()
        if not content:
            self._ready(turn)
            if self.mode is Mode.CHUNKING:
                self._awaited.append((Step.BDAT, turn))
        return block

    def _finish(self, turn: Turn, flight: list[bytes | memoryview]) -> None:
        """Add what ends the message, and what of it has not left."""
        flight.extend(turn.content or ())
        if self.mode is not Mode.CHUNKING:
            flight.append(terminator(turn.transaction.message))
        else:
            if turn.content:
                self._awaited.append((Step.BDAT, turn))
            flight.append(LAST)
        turn.content = None
        turn.terminated_at = self._boot()
        turn.phase = Phase.FINAL
        self._awaited.append((Step.FINAL, turn))
        if self.mode is Mode.CHUNKING:
            self._awaited.append((Step.RSET, turn))
            flight.append(b"RSET\r\n")

    # The replies.

    def _take(self, reply: Reply) -> None:
        """One reply, for the command whose turn it is."""
        step, turn = self._awaited.popleft()
        self._last = step, reply
        self.replies += 1
        if turn is None:
            if reply.code != 250:
                self._close(f"the session could not be reset: {reply}")
            return
        turn.follows = False
        if turn.refusal is None and turn.reply is None:
            turn.phase = PHASES[step]
        if reply.code == 421:
            self._closing(step, turn, reply)
            return
        _TAKERS[step](self, turn, reply)
        if turn.refusal and turn in self._turns and not any(other is turn for _, other in self._awaited):
            self._turns.remove(turn)
            self._told.append(turn)
            self._reset_due = self._reset_due or step is not Step.RSET

    def _take_mail(self, turn: Turn, reply: Reply) -> None:
        if not positive(reply):
            self._refuse(turn, reply)

    def _take_rcpt(self, turn: Turn, reply: Reply) -> None:
        if turn.refusal:
            require_refused(turn.refusal, reply)
            return
        self._stumble_if(reply)
        positive(reply)
        paths = turn.transaction.envelope.forward_paths
        turn.rcpts.append(RcptReply(paths[len(turn.rcpts)], reply))
        if len(turn.rcpts) == len(paths):
            refusal = stopped_by([rcpt.reply for rcpt in turn.rcpts], settle=turn.transaction.settle)
            self._flown += 1
            if refusal:
                self._refuse(turn, refusal)
            elif self.mode is Mode.CHUNKING and turn.terminated_at is None:
                self._open(turn)

    def _take_data(self, turn: Turn, reply: Reply) -> None:
        if turn.refusal:
            if reply.code == 354:
                self.stumbled = f"content was asked for though the relay had refused: {turn.refusal}"
                self._turns.remove(turn)
                self._told.append(turn)
                self._tell()
                self._close(self.stumbled)
            return
        if reply.code == 354:
            self._open(turn)
            return
        self._stumble_if(reply)
        if positive(reply):
            raise out_of_place(reply)
        self._refuse(turn, reply)

    def _take_bdat(self, turn: Turn, reply: Reply) -> None:
        if not turn.refusal and not positive(reply):
            self._refuse(turn, reply)

    def _take_final(self, turn: Turn, reply: Reply) -> None:
        if turn.refusal:
            require_refused(turn.refusal, reply)
            turn.terminated_at = None  # there was no message to end
            return
        positive(reply)
        if turn.terminated_at is not None:
            self._brisk = self._boot() - turn.terminated_at <= _BRISK
        turn.reply = reply
        self._turns.remove(turn)
        self._told.append(turn)

    def _take_reset(self, _turn: Turn, reply: Reply) -> None:
        """The witness behind a whole letter: with a reply too many before it, a refusal would stand here."""
        if reply.code != 250:
            raise Contradiction(f"RSET behind a letter was answered: {reply}")

    def _refuse(self, turn: Turn, reply: Reply) -> None:
        turn.refusal = reply
        turn.commands.clear()

    def _stumble_if(self, reply: Reply) -> None:
        """A "bad sequence" where the sequence was good: it lost commands that came together."""
        if reply.code == 503 and self.mode is not Mode.LOCK_STEP and not self._flown:
            self.stumbled = f"commands that came together were lost: {reply}"
            raise Contradiction(self.stumbled)

    def _closing(self, step: Step, turn: Turn, reply: Reply) -> None:
        """421: the relay is leaving, whatever it was asked. If it speaks on, that was no answer."""
        if self._reader.pending:
            raise Contradiction(f"the relay spoke on after {reply}")
        if step is Step.FINAL:
            turn.reply = reply
        elif step is not Step.RSET and turn.refusal is None:
            if step is Step.RCPT:
                turn.rcpts.append(RcptReply(turn.transaction.envelope.forward_paths[len(turn.rcpts)], reply))
            if turn.terminated_at is None or not any(positive(rcpt.reply) for rcpt in turn.rcpts):
                turn.refusal, turn.terminated_at = reply, None
        if turn in self._turns and (turn.refusal or turn.reply):
            self._turns.remove(turn)
            self._told.append(turn)
        if step is Step.RSET:
            self._doubt_without_witness(turn)
        self._tell()
        self._close(f"the relay is closing: {reply}")

    def _doubt_without_witness(self, *turns: Turn) -> None:
        """The witness behind these letters has not answered: what was taken for their reply may have been another."""
        for turn in turns:
            if turn in self._told and turn.reply is not None:
                self._told.remove(turn)
                self._turns.appendleft(turn)

    def _hear_nothing_more(self) -> None:
        """A quiet moment: tell what the letters came to. If an octet waits it is none."""
        if not self._reader.pending:
            self._tell()
            return
        step, last = self._last or (None, None)
        when = f"after its reply to {step} ({last})" if last else "before it was spoken to"
        second = None
        try:
            second = self._reader.next()
            if self._reader.pending or second is None:
                said = str(self._reader.next() or "half a reply")
                second = None
            else:
                said = str(second)
        except ProtocolError as error:
            second, said = None, str(error)
        if second is None or second.code != 421:
            raise Contradiction(f"the relay spoke out of turn {when}: {said}")
        self._tell()
        self._close(f"the relay is closing: {second}")

    # The ends.

    def _end(self, turn: Turn, facts: HandOver) -> None:
        self._events.append(Ended(turn.transaction, facts))

    def _tell(self) -> None:
        """Every reply was the one due: what the letters came to is known."""
        for turn in self._told:
            self._end(turn, turn.facts(turn.reply or turn.refusal))
        self._told.clear()

    def _contradicted(self, words: str) -> None:
        """A reply too many, or one that is none: what the letters in flight came to cannot be said."""
        if self.mode is not Mode.LOCK_STEP:
            self.stumbled = self.stumbled or words
        self._turns.extendleft(reversed(self._told))
        self._told.clear()
        self._close(words)

    def _close(self, words: str) -> None:
        """Nothing more is said; all that is under way ends with this fault."""
        self.over = True
        for turn in self._turns:
            at = next((step for step, other in self._awaited if other is turn), None)
            if turn.terminated_at is not None:
                turn.phase = Phase.FINAL
            elif turn.refusal is None and at is not None:
                turn.phase = PHASES[at]
            self._end(turn, turn.facts(fault=words, retracted=turn.follows or turn.unbegun))
        self._turns.clear()
        self._awaited.clear()
        self._reset_due = False

    def _note_a_loss(self, words: str) -> None:
        """Whether the connection was lost when commands went together for the first time."""
        together = self.mode is not Mode.LOCK_STEP and not self._flown
        if together and any(step in (Step.MAIL, Step.RCPT, Step.DATA, Step.BDAT) for step, _ in self._awaited):
            self.stumbled = self.stumbled or words


_TAKERS: Final[Mapping[Step, Callable[[Conversation, Turn, Reply], None]]] = {
    Step.MAIL: Conversation._take_mail,  # noqa: SLF001 (its own table)
    Step.RCPT: Conversation._take_rcpt,  # noqa: SLF001
    Step.DATA: Conversation._take_data,  # noqa: SLF001
    Step.BDAT: Conversation._take_bdat,  # noqa: SLF001
    Step.FINAL: Conversation._take_final,  # noqa: SLF001
    Step.RSET: Conversation._take_reset,  # noqa: SLF001
}


__all__ = ["DEPTH", "INTENT_LIFE", "Ask", "Conversation", "Ended", "Mode", "mode_for"]
