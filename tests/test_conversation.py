"""The conversation as pure state: both sides of it in one process, octets in and octets out, no socket.

`Played` is the relay's side, as pure: it reads what was said, stores messages and answers, one reply a command, as a
test wants. What a letter came to is held against what that side has stored.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.core.model import Envelope, HandOver, Message, Outcome, Phase
from dispatcher.core.policy import classify
from dispatcher.core.ports import Transaction
from dispatcher.relays.content import BLOCK
from dispatcher.relays.conversation import DEPTH, INTENT_LIFE, Ask, Conversation, Ended, Mode, mode_for

OFFERS: Final[Mapping[Mode, Mapping[str, str]]] = {
    Mode.LOCK_STEP: {},
    Mode.PIPELINING: {"PIPELINING": ""},
    Mode.CHUNKING: {"PIPELINING": "", "CHUNKING": ""},
}
every_mode = pytest.mark.parametrize("mode", list(Mode))
together = pytest.mark.parametrize("mode", [Mode.PIPELINING, Mode.CHUNKING])
HONEST: Final = {
    "MAIL": b"250 2.1.0 ok",
    "RCPT": b"250 2.1.5 ok",
    "DATA": b"354 go",
    "BDAT": b"250 2.0.0 chunk",
    "FINAL": b"250 2.0.0 queued",
    "RSET": b"250 2.0.0 reset",
}


@dataclass
class Played:
    """The relay's side. `answers` takes (step, how often it came up, its path or '') and gives a line or None."""

    answers: Callable[[str, int, str], bytes | None] = lambda *_: None
    stored: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    unread: bytes = b""
    mail: bool = False
    paths: list[str] = field(default_factory=list)
    body: bytes | None = None
    data: bool = False

    def hear(self, octets: bytes) -> list[bytes]:
        """The replies to what can be read so far, one each."""
        self.unread += octets
        replies = []
        while (reply := self._next()) is not None:
            replies.append(reply + b"\r\n")
        return replies

    def _next(self) -> bytes | None:
        if self.data:
            return self._dot()
        line, end, rest = self.unread.partition(b"\r\n")
        if not end:
            return None
        words = line.decode().split(" ")
        if words[0] == "BDAT":
            if len(rest) < int(words[1]):
                return None
            self.unread = rest[int(words[1]) :]
            return self._chunk(rest[: int(words[1])], last=words[-1] == "LAST")
        self.unread = rest
        path = line.partition(b"<")[2].partition(b">")[0].decode()
        does = {"MAIL": self._mail, "RCPT": lambda: self._rcpt(path), "DATA": self._data, "RSET": self._rset}
        return does[words[0]]()

    def _data(self) -> bytes:
        reply = self._say("DATA") if self.paths else self._note("DATA", b"554 5.5.1 no valid recipients")
        self.data = reply.startswith(b"354")
        return reply

    def _rset(self) -> bytes:
        self._clear()
        return self._say("RSET")

    def _mail(self) -> bytes:
        if self.mail:
            return self._note("MAIL", b"503 5.5.1 nested MAIL")
        reply = self._say("MAIL")
        self.mail = reply.startswith(b"2")
        return reply

    def _rcpt(self, path: str) -> bytes:
        if not self.mail:
            return self._note("RCPT", b"503 5.5.1 MAIL first")
        reply = self._say("RCPT", path)
        self.paths += [path] if reply.startswith(b"2") else []
        return reply

    def _dot(self) -> bytes | None:
        raw = b"\r\n" + self.unread
        content, dot, rest = raw.partition(b"\r\n.\r\n")
        if not dot:
            return None
        self.unread, self.data = rest, False
        return self._end((content + b"\r\n").replace(b"\r\n..", b"\r\n.")[2:])

    def _chunk(self, octets: bytes, *, last: bool) -> bytes:
        self.commands.append("BDAT LAST" if last else "BDAT")
        if not self.paths:
            return b"554 5.5.1 no valid recipients"
        if not last:
            reply = self._answer("BDAT", "")
            if reply.startswith(b"2"):
                self.body = (self.body or b"") + octets
            else:
                self.paths = []
            return reply
        return self._end((self.body or b"") + octets)

    def _end(self, octets: bytes) -> bytes:
        reply = self._say("FINAL", self.paths[0])
        if reply.startswith(b"2"):
            self.stored.append((tuple(self.paths), octets))
        self._clear()
        return reply

    def _clear(self) -> None:
        self.mail, self.paths, self.body = False, [], None

    def _note(self, step: str, reply: bytes) -> bytes:
        self.commands.append(step)
        return reply

    def _say(self, step: str, path: str = "") -> bytes:
        self.commands.append(step)
        return self._answer(step, path)

    def _answer(self, step: str, path: str) -> bytes:
        return self.answers(step, self.commands.count(step), path) or HONEST[step]


@dataclass
class Bench:
    """A conversation with letters to hand over; intents are granted at once unless a test says otherwise."""

    mode: Mode
    letters: deque[Transaction]
    relay: Played = field(default_factory=Played)
    grants: Callable[[Transaction], bool | None] = lambda _: True
    extra: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 1000.0
    trips: int = 0

    def __post_init__(self) -> None:
        self.conversation = Conversation({**OFFERS[self.mode], **self.extra}, lambda: self.seconds)
        self.asked: list[Transaction] = []
        self.ended: dict[Transaction, HandOver] = {}
        self.order: list[Transaction] = list(self.letters)

    def speak(self) -> bytes:
        """All that is to be said now; events are taken first, and letters offered while there is room."""
        flight = b""
        while True:
            while self.conversation.events():
                self._take(self.conversation.events().popleft())
            if self.conversation.room and self.letters:
                self.conversation.offer(self.letters.popleft())
                continue
            octets = self.conversation.octets()
            if octets is None and not self.conversation.events():
                return flight
            flight += octets or b""

    def _take(self, event: Ask | Ended) -> None:
        one = event.transaction
        if isinstance(event, Ended):
            assert one not in self.ended, "ended twice"
            self.ended[one] = event.facts
            return
        assert one not in self.asked, "asked twice"
        self.asked.append(one)
        if (granted := self.grants(one)) is not None:
            self.conversation.answer(one, granted)

    def run(self, change: Callable[[list[bytes]], Sequence[bytes]] = lambda replies: [b"".join(replies)]) -> None:
        """Back and forth until nothing more is said. `change` makes pieces of octets of the replies to one flight."""
        while flight := self.speak():
            at_risk = sum(one in self.asked and one not in self.ended for one in self.order)
            assert at_risk <= DEPTH
            replies = self.relay.hear(flight)
            self.trips += bool(replies)
            for piece in change(replies):
                self.conversation.receive(piece)
        self.speak()

    def outcomes(self) -> list[Outcome | None]:
        """What each letter came to, in order; None for one that was never offered."""
        return [classify(self.ended[one]).outcome if one in self.ended else None for one in self.order]

    def judge(self) -> None:
        """Nothing is accepted that is not stored, nothing stored that is not accepted or unknown; each as it was."""
        stored = {octets: paths for paths, octets in self.relay.stored}
        assert len(stored) == len(self.relay.stored)
        for one in self.order:
            facts = self.ended.get(one)
            outcome = classify(facts).outcome if facts else None
            octets = one.message.octets
            assert (octets in stored) or outcome is not Outcome.ACCEPTED
            assert (octets not in stored) or outcome in (Outcome.ACCEPTED, Outcome.UNKNOWN)
            if octets in stored:
                assert set(stored[octets]) <= set(one.envelope.forward_paths)
                assert one in self.asked, "the terminator left without an intent"


def letter(number: int, *paths: str, large: bool = False, settle: bool = False) -> Transaction:
    shared = (b".a line of the report\r\n..and one with a dot\r\n" * 4000,) if large else ()
    message = Message(b"Date: x\r\n", b"Subject: %d\r\n\r\n.dotted\r\n" % number, shared)
    envelope = Envelope("s@example.org", paths or (f"r{number}@one.example",))
    return Transaction(envelope, message, lambda _: None, lambda _: None, settle)


def bench(mode: Mode, *letters: Transaction, **how: object) -> Bench:
    return Bench(mode, deque(letters), **how)  # type: ignore[arg-type]


# What is said, and when.


def test_the_best_mode_that_is_offered() -> None:
    assert [mode_for(OFFERS[mode]) for mode in Mode] == list(Mode)
    assert mode_for({"CHUNKING": ""}) is Mode.LOCK_STEP


def test_lock_step_octet_by_octet() -> None:
    b = bench(Mode.LOCK_STEP, letter(1))
    said = []
    while flight := b.speak():
        said.append(flight)
        b.conversation.receive(b"".join(b.relay.hear(flight)))
    b.speak()
    assert said == [
        b"MAIL FROM:<s@example.org>\r\n",
        b"RCPT TO:<r1@one.example>\r\n",
        b"DATA\r\n",
        b"Date: x\r\nSubject: 1\r\n\r\n..dotted\r\n.\r\n",
    ]
    assert b.outcomes() == [Outcome.ACCEPTED]


def test_pipelining_octet_by_octet() -> None:
    """The next letter's envelope rides behind the dot: one flight a letter."""
    b = bench(Mode.PIPELINING, letter(1), letter(2))
    said = []
    while flight := b.speak():
        said.append(flight)
        b.conversation.receive(b"".join(b.relay.hear(flight)))
    envelope = b"MAIL FROM:<s@example.org>\r\nRCPT TO:<r%d@one.example>\r\nDATA\r\n"
    content = b"Date: x\r\nSubject: %d\r\n\r\n..dotted\r\n.\r\n"
    assert said == [envelope % 1, content % 1 + envelope % 2, content % 2]
    b.judge()


def test_chunking_octet_by_octet() -> None:
    """Two whole letters in one flight, once it is seen that commands may come together.

    RSET is the witness: with a reply too many before it, a refusal would stand in its place.
    """
    b = bench(Mode.CHUNKING, letter(1), letter(2), letter(3))
    said = []
    while flight := b.speak():
        said.append(flight)
        b.conversation.receive(b"".join(b.relay.hear(flight)))
    envelope = b"MAIL FROM:<s@example.org>\r\nRCPT TO:<r%d@one.example>\r\n"
    content = b"BDAT 32\r\nDate: x\r\nSubject: %d\r\n\r\n.dotted\r\nBDAT 0 LAST\r\nRSET\r\n"
    whole = [envelope % number + content % number for number in range(4)]
    assert said == [envelope % 1, content % 1 + whole[2], whole[3]]
    b.judge()


@pytest.mark.parametrize(("mode", "most"), [(Mode.LOCK_STEP, 400), (Mode.PIPELINING, 101), (Mode.CHUNKING, 52)])
def test_round_trips_of_a_hundred_letters(mode: Mode, most: int) -> None:
    b = bench(mode, *map(letter, range(100)))
    b.run()
    b.judge()
    assert b.outcomes() == [Outcome.ACCEPTED] * 100
    assert b.trips <= most


@together
def test_round_trips_of_large_letters(mode: Mode) -> None:
    """The content streams when the relay has taken the envelope: one round trip each, as for small ones."""
    b = bench(mode, *(letter(number, large=True) for number in range(10)))
    b.run()
    b.judge()
    assert b.outcomes() == [Outcome.ACCEPTED] * 10
    assert b.trips <= 21 if mode is Mode.CHUNKING else 11


@every_mode
def test_no_terminator_without_its_intent(mode: Mode) -> None:
    held: list[Transaction] = []

    def later(one: Transaction) -> None:
        held.append(one)

    b = bench(mode, letter(1), letter(2), grants=later)
    b.run()
    assert held
    assert not b.relay.stored
    assert not b.ended
    while held:
        b.conversation.answer(held.pop(0), granted=True)
        b.run()
    b.judge()
    assert b.outcomes() == [Outcome.ACCEPTED] * 2


@every_mode
@pytest.mark.parametrize("large", [False, True])
def test_a_refused_intent_ends_nothing_and_harms_no_other(mode: Mode, *, large: bool) -> None:
    """The letter before it has its reply; the one behind it was not tried."""
    letters = [letter(number, large=large) for number in range(3)]
    b = bench(mode, *letters, grants=lambda one: one is not letters[1])
    b.run()
    b.judge()
    assert b.outcomes()[0] is Outcome.ACCEPTED
    assert (b.ended[letters[1]].retracted, b.ended[letters[1]].terminator) == (True, False)
    if letters[2] in b.ended:
        assert b.ended[letters[2]].retracted or b.outcomes()[2] is Outcome.ACCEPTED


@every_mode
@pytest.mark.parametrize(("gap", "sent"), [(INTENT_LIFE - 1, True), (INTENT_LIFE + 1, False)])
def test_an_intent_does_not_live_long(mode: Mode, gap: float, *, sent: bool) -> None:
    """Counted from when it was asked for: a sleep while it was written counts too."""
    held: list[Transaction] = []
    b = bench(mode, letter(1), grants=held.append)
    b.run()
    b.seconds += gap
    b.conversation.answer(held[0], granted=True)
    b.run()
    b.judge()
    assert (b.outcomes() == [Outcome.ACCEPTED], b.ended[held[0]].retracted) == (sent, not sent)


def test_a_slow_relay_gets_no_intent_before_its_turn() -> None:
    """Else the intent of the next letter would be old by the time the relay is ready for it."""
    b = bench(Mode.PIPELINING, *map(letter, range(4)))

    def slow(replies: list[bytes]) -> list[bytes]:
        b.seconds += 40
        return [b"".join(replies)]

    b.run(slow)
    b.judge()
    assert b.outcomes() == [Outcome.ACCEPTED] * 4


# Refusals.


@every_mode
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "BDAT", "FINAL"])
@pytest.mark.parametrize("said", [b"450 4.2.0 later", b"550 5.1.1 no"])
def test_a_refusal_is_its_letters_alone(mode: Mode, step: str, said: bytes) -> None:
    """The second of four; the others go through the same session, each to whom it is for."""
    relay = Played(lambda at, times, _: said if (at, times) == (step, 2) else None)
    b = bench(mode, *map(letter, range(4)), relay=relay)
    b.run()
    b.judge()
    refused = step in relay.commands
    expected = Outcome.DEFERRED if said[:1] == b"4" else Outcome.FAILED
    assert b.outcomes() == [Outcome.ACCEPTED, expected if refused else Outcome.ACCEPTED, *[Outcome.ACCEPTED] * 2]
    if refused:
        facts = b.ended[b.order[1]]
        assert facts.reply
        assert facts.reply.code == int(said[:3])
        assert facts.phase is Phase({"BDAT": "body"}.get(step, step.lower()))
        assert facts.terminator == (step == "FINAL")


@every_mode
@pytest.mark.parametrize("codes", [(250, 450, 250), (250, 550, 250), (550, 550, 550), (450, 550, 550)])
@pytest.mark.parametrize("settle", [False, True])
def test_several_paths_are_decided_before_the_content(mode: Mode, codes: tuple[int, ...], *, settle: bool) -> None:
    paths = ("a@one.example", "b@one.example", "c@one.example")
    lines = {path: b"%d x" % code for path, code in zip(paths, codes, strict=True)}
    relay = Played(lambda step, _, path: lines.get(path) if step == "RCPT" else None)
    b = bench(mode, letter(1), letter(2, *paths, settle=settle), letter(3), relay=relay)
    b.run()
    b.judge()
    taken = tuple(path for path, code in zip(paths, codes, strict=True) if code == 250)
    goes = bool(taken) and (settle or 450 not in codes)
    assert b.outcomes()[::2] == [Outcome.ACCEPTED] * 2
    assert (b.outcomes()[1] is Outcome.ACCEPTED) == goes
    assert [rcpt.reply.code for rcpt in b.ended[b.order[1]].rcpts] == list(codes)
    assert [paths for paths, _ in relay.stored if len(paths) > 1 or paths[0] == "a@one.example"] == [taken] * goes


@every_mode
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "FINAL", "RSET"])
def test_421_ends_the_session_and_every_letter(mode: Mode, step: str) -> None:
    """None is offered after it, none is left without an end; one whose end was on its way is unknown."""
    relay = Played(lambda at, times, _: b"421 4.3.2 leaving" if (at, times) == (step, 2) else None)
    b = bench(mode, *map(letter, range(6)), relay=relay)
    b.run()
    b.judge()
    if step in relay.commands and relay.commands.count(step) > 1:
        assert b.conversation.over
        assert b.conversation.room == 0
        assert b.conversation.idle


@together
def test_content_that_is_wanted_after_a_refusal_is_not_sent(mode: Mode) -> None:
    """RFC 2920 §3.1: some say 354 though nobody is to get it. The connection is left, and lock-step is tried next."""

    class Careless(Played):
        def _next(self) -> bytes | None:
            reply = super()._next()
            return b"354 go" if self.commands[-1:] == ["DATA"] and reply and reply.startswith(b"554") else reply

    relay = Careless(lambda at, times, _: b"550 5.1.1 no" if (at, times) == ("RCPT", 2) else None)
    b = bench(mode, *map(letter, range(4)), relay=relay)
    b.run()
    b.judge()
    if mode is Mode.PIPELINING:
        assert b.outcomes()[:2] == [Outcome.ACCEPTED, Outcome.FAILED]
        assert "though the relay had refused" in b.conversation.stumbled


# Lies.


@every_mode
@pytest.mark.parametrize("stray", [b"250 2.0.0 stray\r\n", b"451 4.3.0 stray\r\n", b"banana\r\n", b"25\r\n"])
@pytest.mark.parametrize("real", [b"250 2.0.0 yes", b"451 4.3.0 no", b"550 5.7.1 no"])
@pytest.mark.parametrize("flight", range(5))
@pytest.mark.parametrize("place", range(8))
def test_a_reply_too_many_never_makes_a_letter_accepted(
    mode: Mode, stray: bytes, real: bytes, flight: int, place: int
) -> None:
    """Wherever in the answers to one flight it stands: what the relay did not take is not accepted."""
    relay = Played(lambda step, _, path: real if (step, path) == ("FINAL", "r1@one.example") else None)
    b = bench(mode, *map(letter, range(4)), relay=relay)

    def lie(replies: list[bytes]) -> list[bytes]:
        changed = [*replies[:place], stray, *replies[place:]] if b.trips == flight + 1 else replies
        return [b"".join(changed)]

    b.run(lie)
    b.judge()
    assert all(one in b.ended for one in b.asked)


@pytest.mark.parametrize("end", ["421", "lost"])
def test_a_witness_that_does_not_answer_leaves_its_letter_unknown(end: str) -> None:
    """One reply too many before the end of the message: what looks like its 250 is the chunk's; 421 is the truth."""
    relay = Played(lambda step, times, _: b"421 4.3.2 leaving" if step == "FINAL" else None)
    b = bench(Mode.CHUNKING, letter(1), relay=relay)
    b.conversation.receive(b"".join(relay.hear(b.speak())))
    relay.hear(b.speak())
    b.conversation.receive(b"250 chunk\r\n250 chunk\r\n")
    if end == "421":
        b.conversation.receive(b"421 4.3.2 leaving\r\n")
    else:
        b.conversation.lost("the connection was lost")
    b.speak()
    b.judge()
    assert b.outcomes() == [Outcome.UNKNOWN]


pieces = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def cut(octets: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The octets in pieces, however a network may cut them."""
    found, at = [], 0
    for size in sizes:
        found.append(octets[at : at + size])
        at += size
    return [piece for piece in (*found, octets[at:]) if piece]


@settings(max_examples=150)
@given(mode=st.sampled_from(list(Mode)), sizes=pieces, large=st.booleans(), count=st.integers(1, 6))
@example(mode=Mode.PIPELINING, sizes=[1] * 30, large=False, count=6)
def test_replies_may_come_in_any_pieces(mode: Mode, sizes: list[int], *, large: bool, count: int) -> None:
    b = bench(mode, *(letter(number, large=large) for number in range(count)))
    b.run(lambda replies: cut(b"".join(replies), sizes))
    b.judge()
    assert b.outcomes() == [Outcome.ACCEPTED] * count


codes = st.sampled_from(
    [b"250 ok", b"251 ok", b"354 go", b"421 bye", b"450 4.2.0 x", b"451 x", b"550 5.1.1 x", b"503 x"]
)
odd = st.one_of(codes, st.binary(max_size=12), st.just(b"250-a\r\n250 b"), st.just(b"2" * 70_000))


@settings(max_examples=400)
@given(
    mode=st.sampled_from(list(Mode)),
    answers=st.dictionaries(st.integers(0, 40), codes, max_size=4),
    extra=st.dictionaries(st.integers(0, 12), st.tuples(st.integers(0, 8), odd), max_size=2),
    sizes=pieces,
)
@example(mode=Mode.PIPELINING, answers={}, extra={2: (0, b"421 bye")}, sizes=[1])
def test_whatever_a_relay_says_the_two_sides_agree(
    mode: Mode, answers: dict[int, bytes], extra: dict[int, tuple[int, bytes]], sizes: list[int]
) -> None:
    """Refusals anywhere, replies too many anywhere, all in any pieces; what is said at the end of a flight comes whole.

    Every letter that was offered has one end, no terminator leaves without an intent, at most DEPTH are at risk, and
    what the relay's side stored is accepted or unknown here.
    """
    count = 0

    def some(step: str, times: int, path: str) -> bytes | None:
        nonlocal count
        count += 1
        said = answers.get(count)
        return None if said is None or (said[:3] == b"354") != (step == "DATA") else said

    b = bench(mode, *map(letter, range(5)), relay=Played(some))

    def lie(replies: list[bytes]) -> list[bytes]:
        place, said = extra.get(b.trips, (0, b""))
        changed = [*replies[:place], said + b"\r\n", *replies[place:]] if said else replies
        octets = b"".join(changed)
        return [octets] if said else cut(octets, sizes)

    b.run(lie)
    b.conversation.lost("the test is over")
    b.speak()
    stored = [octets for _, octets in b.relay.stored]
    assert len(set(stored)) == len(stored), "a letter was taken twice"
    for one in b.order:
        if one in b.ended and one.message.octets in stored:
            assert classify(b.ended[one]).outcome in (Outcome.ACCEPTED, Outcome.UNKNOWN)
            assert one in b.asked
    assert all(one in b.ended for one in b.asked)


# The end of the connection.


@every_mode
@pytest.mark.parametrize("after", range(12))
@pytest.mark.parametrize("pending", [b"", b"25"])
def test_a_connection_that_is_lost_leaves_no_letter_without_an_end(mode: Mode, after: int, pending: bytes) -> None:
    """After so many replies: known not sent, or unknown; an answer that came is the answer."""
    b = bench(mode, *map(letter, range(6)))
    heard = 0
    while not b.conversation.over and (flight := b.speak()):
        for reply in b.relay.hear(flight):
            if heard == after:
                b.conversation.receive(pending)
                b.conversation.lost("the connection was lost")
                break
            b.conversation.receive(reply)
            heard += 1
    b.speak()
    b.judge()
    for one, facts in b.ended.items():
        if facts.reply is None:
            assert facts.fault
            assert facts.terminator or one.message.octets not in {octets for _, octets in b.relay.stored}
    assert set(b.asked) <= set(b.ended)


def test_what_rode_behind_another_letter_was_not_tried() -> None:
    b = bench(Mode.PIPELINING, letter(1), letter(2))
    b.conversation.receive(b"".join(b.relay.hear(b.speak())))
    b.relay.hear(b.speak())
    b.conversation.lost("the connection was lost")
    b.speak()
    first, second = (b.ended[one] for one in b.order)
    assert (first.terminator, first.reply, first.retracted) == (True, None, False)
    assert (second.terminator, second.reply, second.retracted) == (False, None, True)


@together
def test_losing_the_first_commands_that_go_together_is_a_stumble(mode: Mode) -> None:
    b = bench(mode, letter(1))
    b.speak()
    b.conversation.receive(HONEST["MAIL"] + b"\r\n")
    b.conversation.lost("no reply within 300 s")
    assert "300 s" in b.conversation.stumbled
    b = bench(mode, letter(1))
    b.speak()
    b.conversation.receive(HONEST["MAIL"] + b"\r\n503 5.5.1 what?\r\n")
    assert "503" in b.conversation.stumbled


@every_mode
def test_a_reply_out_of_place_is_a_stumble_however_long_it_went_well(mode: Mode) -> None:
    letters = [letter(number) for number in range(4)]
    b = bench(mode, *letters)
    b.run()
    assert not b.conversation.stumbled
    b.conversation.receive(b"250 2.0.0 once more\r\n")
    assert bool(b.conversation.stumbled) is (mode is not Mode.LOCK_STEP)


# DSN (RFC 3461).


@every_mode
@pytest.mark.parametrize("offered", [True, False])
def test_word_of_delivery_is_asked_for_where_it_is_offered(mode: Mode, *, offered: bool) -> None:
    envelope = Envelope("s@example.org", ("a+b=c@one.example",), ("SUCCESS", "FAILURE"), "id+1@example.org")
    one = Transaction(envelope, Message(b"", b"\r\nx\r\n"), lambda _: None, lambda _: None)
    b = bench(mode, one, extra={"DSN": ""} if offered else {})
    flight = b.speak()
    if mode is Mode.LOCK_STEP:
        b.conversation.receive(b"250 ok\r\n")
        flight += b.speak()
    assert (b" RET=HDRS ENVID=id+2B1@example.org\r\n" in flight) == offered
    assert (b" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb+3Dc@one.example\r\n" in flight) == offered
    assert b"RCPT TO:<a+b=c@one.example>" in flight


def test_a_message_that_just_fits_goes_in_one_piece() -> None:
    """And of one octet more, the end leaves by itself."""
    for size, pieces_ in ((BLOCK, 1), (BLOCK + 1, 2)):
        own = b"x" * (size - 2) + b"\r\n"
        one = Transaction(
            Envelope("s@example.org", ("r@one.example",)), Message(b"", own), lambda _: None, lambda _: None
        )
        b = bench(Mode.LOCK_STEP, one)
        for _ in range(3):
            b.conversation.receive(b"".join(b.relay.hear(b.speak())))
        b.conversation.events()
        count, whole = 0, b""
        while (octets := b.conversation.octets()) is not None or b.conversation.events():
            while b.conversation.events():
                b._take(b.conversation.events().popleft())
            if octets is not None:
                count, whole = count + 1, whole + octets
        assert whole == own + b".\r\n"
        assert count == pieces_
