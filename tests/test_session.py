"""Hand-over: which byte leaves when, and what each answer of an honest or a lying relay comes to."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dispatcher.core.model import Envelope, HandOver, Message, Phase, Reply
from dispatcher.relays.commands import check_path
from dispatcher.relays.content import BLOCK
from dispatcher.relays.smtp import Account, SmtpRelay, Timeouts
from tests.smtp_server import CLOSE, HANG, RESET, STORE, Action, Actions, Cut, Script, Single, SmtpServer

ENVELOPE = Envelope("sender@example.org", ("mission@one.example",))
MESSAGE = Message(b"Date: Thu, 1 Oct 2009 12:00:00 +0000\r\n", b"Subject: UPR\r\n\r\nYour Excellency,\r\n")
LARGE = Message(b"Date: x\r\n", b"\r\n", (b"a line of the report, without a dot at its beginning\r\n" * 20_000,))
HUGE = Message(b"", b"\r\n", (b"more than all the buffers on the way hold\r\n" * 600_000,))
PATIENT = Timeouts().scaled(1 / 10)
HASTY = Timeouts().scaled(1 / 3000)


Intent = Callable[[], Awaitable[bool]]


class FakeClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2009, 10, 1, tzinfo=UTC)

    def boot(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


async def granted() -> bool:
    return True


@dataclass
class Result:
    """What one hand-over came to, and whether the session could be used afterwards."""

    facts: HandOver
    usable: bool

    @property
    def code(self) -> int | None:
        return self.facts.reply.code if self.facts.reply else None


def hand_over(
    server: SmtpServer,
    *,
    envelope: Envelope = ENVELOPE,
    message: Message = MESSAGE,
    intent: Intent = granted,
    settle: bool = False,
    timeouts: Timeouts = PATIENT,
    clock: FakeClock | None = None,
    run: Callable[..., Result] = asyncio.run,
) -> Result:
    """One session with one hand-over."""

    async def go() -> Result:
        relay = SmtpRelay(Account(server.host, server.port, "none"), clock or FakeClock(), timeouts)
        session = await relay.connect()
        try:
            facts = await session.hand_over(envelope, message, intent, settle=settle)
            return Result(facts, session.usable)
        finally:
            await session.close()

    return run(go())


def against(on: dict[str, Actions], **settings_: object) -> tuple[Result, SmtpServer]:
    """One hand-over to a server with this script; the server's records are complete when this returns."""
    with SmtpServer(Script(on=on)) as server:
        result = hand_over(server, **settings_)  # type: ignore[arg-type]
        server.release()
    return result, server


def verbs(server: SmtpServer) -> list[bytes]:
    return [line.split()[0] for line in server.commands]


# What goes well.


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_one_letter_goes_in_lock_step(run: Callable[..., Result]) -> None:
    with SmtpServer() as server:
        result = hand_over(server, run=run)
    assert result == Result(HandOver(Phase.FINAL, Reply(250, "2.0.0 taken"), result.facts.rcpts, terminator=True), True)
    assert [(rcpt.mailbox, rcpt.reply.code) for rcpt in result.facts.rcpts] == [("mission@one.example", 250)]
    assert server.commands == [
        b"EHLO [127.0.0.1]",
        b"MAIL FROM:<sender@example.org> SIZE=%d" % MESSAGE.size,
        b"RCPT TO:<mission@one.example>",
        b"DATA",
        b"QUIT",
    ]
    assert [(stored.mail_from, stored.rcpt_tos, stored.octets) for stored in server.stored] == [
        ("sender@example.org", ("mission@one.example",), MESSAGE.octets)
    ]


def test_many_letters_go_through_one_session() -> None:
    async def go() -> None:
        session = await SmtpRelay(Account(server.host, server.port, "none"), FakeClock(), PATIENT).connect()
        for number in range(20):
            message = Message(MESSAGE.date, b"\r\nletter %d\r\n" % number)
            assert (await session.hand_over(ENVELOPE, message, granted)).terminator
        await session.close()

    with SmtpServer() as server:
        asyncio.run(go())
    assert [stored.octets[-4:] for stored in server.stored] == [b"%2d\r\n" % number for number in range(20)]
    assert {stored.connection for stored in server.stored} == {1}


text = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\r\n.\r\n", b"a", b"\r", b"\n", b"\n.\n"])).map(b"".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(text, min_size=2, max_size=5))
@example([b"\r", b"\n"])
@example([b"a\r\n", b"", b".\r\n", b".\r", b"\n."])
def test_octets_arrive_as_they_are(shared_server: SmtpServer, parts: list[bytes]) -> None:
    """However dots and line ends fall, also across the seams of the parts: what is received is what was handed over.

    Only a CRLF is added where the last line has none, because content cannot end otherwise (RFC 5321 §4.1.1.4).
    """
    message = Message(parts[0], parts[1], tuple(parts[2:]))
    whole = message.octets
    assert hand_over(shared_server, message=message).code == 250
    assert shared_server.stored[-1].octets == (whole if not whole or whole.endswith(b"\r\n") else whole + b"\r\n")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


def test_a_large_message_arrives_whole_from_a_slow_reader() -> None:
    """The relay reads nothing until the sender had to wait; the intent is asked for when the last block goes out."""
    dotted = Message(b".\r\n", b".own\r\n", (b".shared\r\n" * 1_500_000, b"..\r\n.", b"x\r\n"))

    async def intent() -> bool:
        server.note("intent")
        return True

    with SmtpServer(Script(on={"BODY": HANG})) as server:
        threading.Timer(0.2, server.release).start()
        assert hand_over(server, message=dotted, intent=intent).code == 250
        assert server.stored[0].octets == dotted.octets
    first = next(seen for seen in server.seen if seen.what in ("intent", "content"))
    assert first.what == "content"


# The intent and the terminator.


def test_no_terminator_before_the_intent_is_granted() -> None:
    """The intent takes its time: no dot has been seen until it has returned, though all of a large message has come."""

    async def intent() -> bool:
        large = message is LARGE
        await asyncio.to_thread(server.wait, lambda s: len(s.content) == len(LARGE.octets) * large)
        server.note("granted")
        return True

    for message in (MESSAGE, LARGE):
        with SmtpServer() as server:
            assert hand_over(server, message=message, intent=intent).code == 250
        order = [seen.what for seen in server.seen if seen.what in ("content", "granted", "dot")]
        assert [what for what in order if what != "content"] == ["granted", "dot"]
        assert (order.index("content") < order.index("granted")) == (message is LARGE)


@pytest.mark.parametrize("message", [MESSAGE, LARGE])
def test_a_refused_intent_drops_the_connection_without_the_terminator(message: Message) -> None:
    async def intent() -> bool:
        return False

    with SmtpServer() as server:
        result = hand_over(server, message=message, intent=intent)
    assert result.facts.phase is Phase.BODY
    assert result.facts.retracted
    assert not result.facts.terminator
    assert result.facts.reply is None
    assert not result.usable
    assert (server.stored, server.times("dot")) == ([], 0)


def test_what_the_intent_raises_comes_through_after_the_connection_was_dropped() -> None:
    """An OSError from the ledger (disk full) is the ledger's, not the relay's."""

    async def intent() -> bool:
        raise OSError(28, "no space left")

    async def go() -> None:
        session = await SmtpRelay(Account(server.host, server.port, "none"), FakeClock(), PATIENT).connect()
        with pytest.raises(OSError, match="no space left"):
            await session.hand_over(ENVELOPE, MESSAGE, intent)
        assert not session.usable
        await asyncio.to_thread(server.wait, lambda s: s.times("closed") == 1)
        await session.close()

    with SmtpServer() as server:
        asyncio.run(go())
    assert (server.stored, server.times("dot")) == ([], 0)


@pytest.mark.parametrize(("gap", "sent"), [(29.0, True), (31.0, False)])
def test_a_machine_that_slept_after_the_intent_does_not_send(gap: float, *, sent: bool) -> None:
    """F07: stopped for 31 s between the intent and the terminator, as the clock that runs through sleep tells it."""

    class Sleeper(FakeClock):
        readings = 0

        def boot(self) -> float:
            self.readings += 1
            return 1000.0 if self.readings == 1 else 1000.0 + gap

    with SmtpServer() as server:
        result = hand_over(server, clock=Sleeper())
    assert (result.facts.retracted, result.facts.terminator, len(server.stored)) == (not sent, sent, int(sent))


@pytest.mark.parametrize("at", ["intent", "final"])
def test_cancellation_drops_the_connection(at: str) -> None:
    """Nothing of the session goes on after a cancellation: not the intent, not the upload."""
    cancelled: list[str] = []

    async def intent() -> bool:
        if at == "intent":
            server.note("asked")
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(at)
        return True

    async def go() -> None:
        session = await SmtpRelay(Account(server.host, server.port, "none"), FakeClock(), PATIENT).connect()
        task = asyncio.create_task(session.hand_over(ENVELOPE, MESSAGE, intent))
        await asyncio.to_thread(server.wait, lambda s: s.times("asked") + s.times("dot") == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not session.usable
        await session.close()

    with SmtpServer(Script(on={"DOT": (HANG, b"")})) as server:
        asyncio.run(go())
    assert server.times("dot") == (at == "final")
    assert cancelled == ([at] if at == "intent" else [])


def test_an_intent_under_way_is_waited_for_when_the_relay_is_lost() -> None:
    """The ledger is never left with an intent of which nobody knows whether it was made."""
    events = []

    async def intent() -> bool:
        server.release()
        await asyncio.to_thread(server.wait, lambda s: s.times("closed") == 1)
        events.append("made")
        return True

    with SmtpServer(Script(on={"BODY": (HANG, RESET)})) as server:
        result = hand_over(server, intent=intent)
        events.append("returned")
    assert events == ["made", "returned"]
    assert (result.facts.phase, result.facts.terminator, result.facts.reply) == (Phase.BODY, False, None)
    assert result.facts.fault


# Before the dot: nothing was sent.


@pytest.mark.parametrize("drop", [CLOSE, RESET])
@pytest.mark.parametrize(
    ("step", "phase"),
    [("MAIL", Phase.MAIL), ("RCPT", Phase.RCPT), ("DATA", Phase.DATA), ("BODY", Phase.BODY)],
)
def test_a_drop_before_the_dot_is_known_not_sent(step: str, phase: Phase, drop: Actions) -> None:
    """F28, F29."""

    async def intent() -> bool:
        await asyncio.to_thread(server_.wait, lambda s: s.times("closed") == 1)
        return True

    with SmtpServer(Script(on={step: drop})) as server_:
        result = hand_over(server_, message=MESSAGE, intent=intent)
    assert (result.facts.phase, result.facts.reply, result.facts.terminator) == (phase, None, False)
    assert result.facts.fault
    assert not result.usable
    assert server_.stored == []


@pytest.mark.parametrize("after", [1, BLOCK, 300_000, 1_000_000])
def test_a_drop_in_the_middle_of_the_content_is_known_not_sent(after: int) -> None:
    """F29."""

    async def intent() -> bool:
        await asyncio.to_thread(server.wait, lambda s: s.times("closed") == 1)
        return True

    with SmtpServer(Script(on={"BODY": Cut(after)})) as server:
        result = hand_over(server, message=LARGE, intent=intent)
    assert (result.facts.phase, result.facts.reply, result.facts.terminator) == (Phase.BODY, None, False)
    assert (server.stored, server.times("dot")) == ([], 0)


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "BODY"])
def test_a_relay_that_says_nothing_runs_into_the_time_limit(step: str) -> None:
    """Each step has its own; for the content it is a relay that reads none."""
    limit = Timeouts(**{"block" if step == "BODY" else step.lower(): 0.1})
    result, server = against({step: (HANG, b"")}, timeouts=limit, message=HUGE)
    assert (result.facts.phase.upper(), result.facts.reply, result.facts.terminator) == (step, None, False)
    assert "within 0.1 s" in result.facts.fault
    assert server.stored == []


def test_a_relay_that_speaks_during_the_content_is_heard_at_once() -> None:
    """Though it reads no more: the sender does not wait for it, and asks for no intent."""
    asked = []

    async def intent() -> bool:
        asked.append(1)
        return True

    result, server = against({"BODY": (b"552 5.3.4 enough\r\n", HANG)}, message=HUGE, intent=intent)
    assert (result.facts.phase, result.facts.reply, result.facts.terminator) == (Phase.BODY, None, False)
    assert "552 5.3.4 enough" in result.facts.fault
    assert (asked, server.stored) == ([], [])


def test_a_stray_250_with_the_354_is_a_fault_before_the_dot() -> None:
    """F36: the answer to the message would be 451, and the stray one must never be taken for it."""
    result, server = against({"DATA": b"354 go\r\n250 taken\r\n", "DOT": b"451 4.3.0 no\r\n"})
    assert (result.facts.reply, result.facts.terminator) == (None, False)
    assert "out of turn" in result.facts.fault
    assert not result.usable
    assert server.times("dot") == 0


@pytest.mark.parametrize("pieces", [(b"354 go\r\n250 ta", b"ken\r\n"), (b"354 go\r\n", b"250 taken\r\n")])
def test_a_stray_reply_during_the_content_is_a_fault_before_the_dot(pieces: tuple[bytes, bytes]) -> None:
    """The same in two segments: the second is there before the intent is granted."""

    async def intent() -> bool:
        server.release()
        await asyncio.to_thread(server.wait, lambda s: len(s.stored) == 1)
        return True

    script = Script(on={"DATA": pieces[0], "BODY": (HANG, pieces[1], STORE), "DOT": b"451 no\r\n"})
    with SmtpServer(script) as server:
        result = hand_over(server, intent=intent)
    assert (result.facts.reply, result.facts.terminator) == (None, False)
    assert server.times("dot") == 0


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_stray_reply_that_came_while_nobody_looked_is_seen(run: Callable[..., Result]) -> None:
    """The octets are with our kernel, but the loop was busy until the intent was granted."""

    async def intent() -> bool:
        server.release()
        server.wait(lambda s: len(s.stored) == 1)
        return True

    with SmtpServer(Script(on={"BODY": (HANG, b"250 taken\r\n", STORE), "DOT": b"451 no\r\n"})) as server:
        result = hand_over(server, intent=intent, run=run)
    assert (result.facts.reply, result.facts.terminator) == (None, False)
    assert server.times("dot") == 0


@pytest.mark.parametrize("step", ["MAIL", "RCPT"])
@pytest.mark.parametrize("extra", [b"250 again\r\n", b"2", b"garbage\r\n"])
def test_more_than_one_reply_to_a_command_is_a_fault(step: str, extra: bytes) -> None:
    """F37."""
    result, server = against({step: b"250 ok\r\n" + extra})
    assert (result.facts.phase.upper(), result.facts.reply, result.facts.terminator) == (step, None, False)
    assert not result.usable
    assert server.stored == []


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("said", [b"hello\r\n", b"25\r\n", b"334 go on\r\n", b"250-a\r\n550 b\r\n", b"2" * 70_000])
def test_what_is_no_reply_before_the_dot_is_a_fault(step: str, said: bytes) -> None:
    result, server = against({step: said})
    assert (result.facts.phase.upper(), result.facts.reply, result.facts.terminator) == (step, None, False)
    assert result.facts.fault
    assert server.stored == []


def test_only_354_lets_the_content_go() -> None:
    for said in (b"250 ok\r\n", b"355 ok\r\n"):
        result, server = against({"DATA": said})
        assert (result.facts.phase, result.facts.reply, result.facts.terminator) == (Phase.DATA, None, False)
        assert server.content == b""


# Refusals.


@pytest.mark.parametrize(
    ("step", "said", "phase"),
    [
        ("MAIL", b"550 5.1.8 not you\r\n", Phase.MAIL),
        ("MAIL", b"452 4.3.1 full\r\n", Phase.MAIL),
        ("RCPT", b"550-5.1.1 who\r\n550 5.1.1 is that\r\n", Phase.RCPT),
        ("RCPT", b"450 4.2.0 later\r\n", Phase.RCPT),
        ("DATA", b"554 5.5.1 no\r\n", Phase.DATA),
        ("DOT", b"451 4.3.0 later\r\n", Phase.FINAL),
        ("DOT", b"554 5.7.1 spam\r\n", Phase.FINAL),
    ],
)
def test_a_refusal_is_kept_and_the_session_begins_afresh(step: str, said: bytes, phase: Phase) -> None:
    """F33: the reply verbatim, RSET after it, and the next letter goes through the same connection."""

    async def go() -> tuple[HandOver, HandOver]:
        session = await SmtpRelay(Account(server.host, server.port, "none"), FakeClock(), PATIENT).connect()
        try:
            return (
                await session.hand_over(ENVELOPE, MESSAGE, granted),
                await session.hand_over(ENVELOPE, MESSAGE, granted),
            )
        finally:
            await session.close()

    honest: dict[str, Action] = {"DATA": b"354 go\r\n", "DOT": (STORE, b"250 ok\r\n")}
    with SmtpServer(Script(on={step: [said, honest.get(step, b"250 ok\r\n")]})) as server:
        first, second = asyncio.run(go())
    text = said.decode().replace("550-", "").replace("\r\n550 ", "\n").strip().removeprefix(f"{said[:3].decode()} ")
    assert (first.phase, first.reply, first.terminator) == (phase, Reply(int(said[:3]), text), step == "DOT")
    assert second.reply
    assert second.reply.code == 250
    assert verbs(server).count(b"RSET") == (step != "DOT"), "behind the dot there is nothing to reset"
    assert (len(server.stored), server.times("connected")) == (1, 1)


@pytest.mark.parametrize(
    "answer", [b"500 what\r\n", b"251 ok\r\n", b"garbage\r\n", b"250 ok\r\n250 ok\r\n", CLOSE, HANG]
)
def test_a_session_that_cannot_be_reset_is_not_used_again(answer: Actions) -> None:
    result, _ = against({"MAIL": b"550 5.1.8 no\r\n", "RSET": answer}, timeouts=Timeouts(rset=0.3))
    assert result.code == 550
    assert not result.usable


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "DOT"])
def test_421_ends_the_session(step: str) -> None:
    """F32: a definite refusal for now, after the dot too; no RSET to a relay that is leaving."""
    result, server = against({step: (b"421 4.3.2 leaving\r\n", CLOSE)})
    assert result.code == 421
    assert result.facts.terminator == (step == "DOT")
    assert not result.usable
    assert b"RSET" not in verbs(server)


def test_421_to_one_path_asks_for_no_other() -> None:
    envelope = Envelope("sender@example.org", ("mission@one.example", "mission@two.example"))
    result, server = against({"RCPT": b"421 4.3.2 leaving\r\n"}, envelope=envelope)
    assert (result.code, len(result.facts.rcpts), verbs(server).count(b"RCPT")) == (421, 1, 1)


def test_a_session_that_is_over_sends_nothing_more() -> None:
    async def go() -> None:
        session = await SmtpRelay(Account(server.host, server.port, "none"), FakeClock(), PATIENT).connect()
        await session.hand_over(ENVELOPE, MESSAGE, granted)
        facts = await session.hand_over(ENVELOPE, MESSAGE, granted)
        assert (facts.phase, facts.reply, facts.terminator) == (Phase.MAIL, None, False)
        assert facts.fault
        await session.close()

    with SmtpServer(Script(on={"MAIL": b"421 bye\r\n"})) as server:
        asyncio.run(go())
    assert verbs(server) == [b"EHLO", b"MAIL"]


@pytest.mark.parametrize("said", [(b"421 4.4.2 idle\r\n", CLOSE), (CLOSE,), (RESET,), (b"250 hello\r\n",)])
def test_a_relay_that_leaves_between_two_letters_harms_neither(said: tuple[Single, ...]) -> None:
    """F41: as soon as it is seen the session is not usable, and who uses it all the same learns it before MAIL."""

    async def go() -> HandOver:
        session = await SmtpRelay(Account(server.host, server.port, "none"), FakeClock(), PATIENT).connect()
        assert (await session.hand_over(ENVELOPE, MESSAGE, granted)).reply == Reply(250, "ok")
        server.release()
        async with asyncio.timeout(10):
            while session.usable:  # noqa: ASYNC110 - the only thing to wait for is the session itself
                await asyncio.sleep(0.001)
        facts = await session.hand_over(ENVELOPE, MESSAGE, granted)
        await session.close()
        return facts

    with SmtpServer(Script(on={"DOT": (STORE, b"250 ok\r\n", HANG, *said)})) as server:
        facts = asyncio.run(go())
    assert (facts.phase, facts.reply, facts.terminator) == (Phase.MAIL, None, False)
    assert verbs(server).count(b"MAIL") == 1


# Several forward paths.


@pytest.mark.parametrize(
    ("replies", "settle", "expected"),
    [
        ((250, 250, 250), False, 250),
        ((250, 251, 252), False, 250),
        ((250, 550, 250), False, 250),
        ((550, 550, 250), False, 250),
        ((250, 450, 250), False, 450),
        ((250, 450, 550), False, 450),
        ((450, 250, 452), False, 450),
        ((250, 450, 250), True, 250),
        ((450, 250, 550), True, 250),
        ((550, 551, 553), False, 553),
        ((550, 450, 550), False, 450),
        ((550, 450, 550), True, 450),
    ],
)
def test_content_follows_when_every_refusal_is_for_good(
    replies: tuple[int, ...], *, settle: bool, expected: int
) -> None:
    """F44: all are asked; one refusal for now holds the letter back for all, until it is time to settle."""
    paths = tuple(f"mission@{word}.example" for word in ("one", "two", "three"))
    with SmtpServer(Script(on={"RCPT": [b"%d so\r\n" % code for code in replies]})) as server:
        result = hand_over(server, envelope=Envelope("sender@example.org", paths), settle=settle)
    assert result.code == expected
    assert result.facts.terminator == (expected == 250)
    assert result.facts.phase is (Phase.FINAL if expected == 250 else Phase.RCPT)
    assert [(rcpt.mailbox, rcpt.reply.code) for rcpt in result.facts.rcpts] == list(zip(paths, replies, strict=True))
    taken = tuple(path for path, code in zip(paths, replies, strict=True) if code < 300)
    assert [stored.rcpt_tos for stored in server.stored] == ([taken] if expected == 250 else [])
    assert result.usable


# After the dot: only a whole, valid reply is one.


@pytest.mark.parametrize("said", [b"251 ok\r\n", b"200 ok\r\n", b"299 ok\r\n", b"250-a\r\n250 b\r\n", b"250 ok\n"])
def test_every_2yz_after_the_dot_is_the_reply(said: bytes) -> None:
    """F34."""
    result, _ = against({"DOT": (STORE, said)})
    assert result.code == int(said[:3])
    assert result.usable
    assert result.facts.terminator


@pytest.mark.parametrize("store", [(STORE,), ()])
@pytest.mark.parametrize(
    "said",
    [
        (CLOSE,),
        (RESET,),
        (b"250-", RESET),
        (b"250-taken\r\n", CLOSE),
        (b"25", RESET),
        (b"250 ok", CLOSE),
        (b"garbage\r\n",),
        (b"354 go on\r\n",),
        (b"334 go on\r\n",),
        (b"150 well\r\n",),
        (b"650 well\r\n",),
        (b"\x00\r\n",),
        (b"250-a\r\n451 b\r\n",),
        (b"2" * 10_000_000,),
        (b"250-endless\r\n" * 10_000,),
    ],
)
def test_anything_else_after_the_dot_is_unknown(store: tuple[Single, ...], said: tuple[Single, ...]) -> None:
    """F30, F31, F35, F40: the same facts whether or not the relay kept the message, because we cannot tell."""
    result, _ = against({"DOT": (*store, *said)})
    assert (result.facts.phase, result.facts.reply, result.facts.terminator) == (Phase.FINAL, None, True)
    assert result.facts.fault
    assert not result.facts.retracted
    assert not result.usable


def test_no_answer_after_the_dot_is_unknown_when_the_time_is_up() -> None:
    """F39."""
    result, _ = against({"DOT": (STORE, HANG)}, timeouts=Timeouts(final=0.2))
    assert (result.facts.reply, result.facts.terminator) == (None, True)
    assert "within 0.2 s" in result.facts.fault


def test_a_late_answer_after_the_dot_is_the_answer() -> None:
    """F38: later than every other limit, within the last one."""
    timeouts = Timeouts(**dict.fromkeys(("mail", "rcpt", "data", "block", "rset"), 5.0), final=600, quit=5)
    with SmtpServer(Script(on={"DOT": (STORE, HANG, b"250 ok\r\n")})) as server:
        threading.Timer(0.3, server.release).start()
        result = hand_over(server, timeouts=timeouts)
    assert result.code == 250


@pytest.mark.parametrize("first", [b"250 ok\r\n", b"451 4.3.0 no\r\n", b"554 no\r\n"])
@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (b"250 again\r\n", "250 again"),
        (b"451 no\r\n", "451 no"),
        (b"x", "half a reply"),
        (b"42", "half a reply"),
        (b"421-4.3.2 bye\r\n", "half a reply"),
        (b"banana\r\n", "not a reply"),
        (b"421 bye\r\n421 bye\r\n", "421 bye"),
        (b"421 bye\r\n2", "half a reply"),
    ],
)
def test_more_than_one_reply_after_the_dot_is_unknown(first: bytes, extra: bytes, words: str) -> None:
    """One of them answers the message, and nobody can say which."""
    result, server = against({"DOT": (STORE, first + extra)})
    assert (result.facts.phase, result.facts.reply, result.facts.terminator) == (Phase.FINAL, None, True)
    assert f"({first.decode().strip()})" in result.facts.fault
    assert words in result.facts.fault.rpartition("): ")[2]
    assert not result.usable
    assert verbs(server)[-1] == b"DATA"


@pytest.mark.parametrize("first", [b"250 ok\r\n", b"451 4.3.0 no\r\n"])
@pytest.mark.parametrize("bye", [b"421 4.3.2 bye\r\n", b"421-4.3.2 good\r\n421 4.3.2 bye\r\n"])
def test_a_relay_that_closes_right_after_its_reply_has_replied(first: bytes, bye: bytes) -> None:
    result, server = against({"DOT": (STORE, first + bye)})
    assert (result.code, result.facts.terminator, result.usable) == (int(first[:3]), True, False)
    assert verbs(server)[-1] == b"DATA", "nothing more is said to a relay that is leaving"


def test_a_relay_that_is_gone_at_quit_changes_nothing() -> None:
    """F50."""
    for said in (CLOSE, RESET, b"garbage\r\n", b"500 no\r\n"):
        assert against({"QUIT": said})[0].code == 250


# What the relay offers.


@pytest.mark.parametrize(
    ("ehlo", "envelope", "message", "parameters"),
    [
        ((), ENVELOPE, MESSAGE, b""),
        (("SIZE",), ENVELOPE, MESSAGE, b" SIZE=%d" % MESSAGE.size),
        (("SIZE 0",), ENVELOPE, MESSAGE, b" SIZE=%d" % MESSAGE.size),
        (("8BITMIME", "SMTPUTF8"), ENVELOPE, MESSAGE, b""),
        (("8BITMIME",), ENVELOPE, Message(b"", b"\r\n\xc3\xa9\r\n"), b" BODY=8BITMIME"),
        (("8BITMIME",), ENVELOPE, Message(b"", b"\r\n", (b"\xc3\xa9\r\n",)), b" BODY=8BITMIME"),
        (("smtputf8",), Envelope("s@example.org", ("d\u00e9@one.example",)), MESSAGE, b" SMTPUTF8"),
        ((f"SIZE {MESSAGE.size}",), ENVELOPE, MESSAGE, b" SIZE=%d" % MESSAGE.size),
    ],
)
def test_parameters_go_only_where_offered_and_needed(
    ehlo: tuple[str, ...], envelope: Envelope, message: Message, parameters: bytes
) -> None:
    """F52, RFC 1870, RFC 6152, RFC 6531."""
    with SmtpServer(Script(ehlo=ehlo)) as server:
        assert hand_over(server, envelope=envelope, message=message).code == 250
    assert server.commands[1] == f"MAIL FROM:<{envelope.return_path}>".encode() + parameters
    assert server.stored[0].rcpt_tos == envelope.forward_paths


@pytest.mark.parametrize(
    ("ehlo", "envelope", "message", "code", "status"),
    [
        (("SIZE 20",), ENVELOPE, MESSAGE, 552, "5.3.4"),
        (("8BITMIME",), Envelope("s@example.org", ("d\u00e9@one.example",)), MESSAGE, 553, "5.6.7"),
        (("SIZE",), ENVELOPE, Message(b"", b"\r\n\xc3\xa9\r\n"), 554, "5.6.3"),
    ],
)
def test_what_the_relay_does_not_take_is_refused_by_us(
    ehlo: tuple[str, ...], envelope: Envelope, message: Message, code: int, status: str
) -> None:
    """F51, F52: no byte is sent, and the next letter goes through the same session."""
    with SmtpServer(Script(ehlo=ehlo)) as server:
        result = hand_over(server, envelope=envelope, message=message)
    assert (result.facts.phase, result.code, result.facts.fault) == (Phase.MAIL, code, "")
    assert result.facts.reply
    assert result.facts.reply.enhanced == status
    assert "(dispatcher)" in result.facts.reply.text
    assert not result.facts.terminator
    assert result.usable
    assert verbs(server) == [b"EHLO", b"QUIT"]


@pytest.mark.parametrize(
    "path",
    [
        "a@one.example\r\nRCPT TO:<b@two.example>",
        "a@one.example>",
        "<a@one.example",
        "a b@one.example",
        "a@one.example\n",
        "a\x00@one.example",
        "a\x7f@one.example",
        "a\u0085@one.example",
        "a\u2028@one.example",
        "a\u00a0@one.example",
        "a\ud800@one.example",
        "x" * 243 + "@one.example",
        "\u00e9" * 122 + "@one.example",
    ],
)
def test_a_path_that_could_break_out_is_refused_before_any_byte(path: str) -> None:
    """S02; a bug of ours if it ever gets here, so it raises."""
    with SmtpServer() as server:
        with pytest.raises(ValueError, match=r"address|surrogates"):
            hand_over(server, envelope=Envelope(path, ("b@two.example",)))
        with pytest.raises(ValueError, match=r"address|surrogates"):
            hand_over(server, envelope=Envelope("b@two.example", ("b@two.example", path)))
    assert verbs(server) == [b"EHLO", b"QUIT"] * 2


def test_an_envelope_needs_somebody_to_go_to() -> None:
    with SmtpServer() as server:
        for paths in ((), ("",)):
            with pytest.raises(ValueError, match="forward path"):
                hand_over(server, envelope=Envelope("a@one.example", paths))


@given(st.text(st.characters(codec="utf-8")))
def test_no_path_that_passes_can_end_its_command(path: str) -> None:
    try:
        check_path(path)
    except ValueError:
        return
    line = f"RCPT TO:<{path}>"
    assert line.split() == ["RCPT", f"TO:<{path}>"]
    assert line.splitlines() == [line]


def test_close_may_be_called_at_any_time() -> None:
    async def go() -> None:
        session = await SmtpRelay(Account(server.host, server.port, "none"), FakeClock(), PATIENT).connect()
        await session.close()
        await session.close()
        assert not session.usable

    with SmtpServer() as server:
        asyncio.run(go())
    assert verbs(server) == [b"EHLO", b"QUIT"]
