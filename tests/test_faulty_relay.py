"""The relay of a rehearsal: what it plays at each step, as a sender meets it; what it keeps; and when, by the seed."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.core.model import Envelope, HandOver, Message, Outcome, Phase
from dispatcher.core.policy import classify
from dispatcher.core.ports import RelayTrouble
from dispatcher.desk.virtual import VirtualTime
from dispatcher.relays.smtp import Account, SmtpRelay
from dispatcher.sandbox.faults import REGIMES, Fates, Fault, Quota, Regime, Step
from dispatcher.sandbox.relay import FaultyRelay
from dispatcher.sandbox.store import ENVELOPES
from tests.test_session import ENVELOPE, LARGE, MESSAGE, granted

START = datetime(2026, 5, 4, 9, tzinfo=UTC)
ALL = 1.0


def whole(message: Message) -> bytes:
    octets = message.octets
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


def talk(relay: FaultyRelay, clock: VirtualTime, letters: Iterable[tuple[Envelope, Message]]) -> list[HandOver]:
    """Hand letters over, one after the other; a new connection for each. Raises RelayTrouble."""

    async def go() -> list[HandOver]:
        facts = []
        async with relay:
            for envelope, message in letters:
                session = await SmtpRelay(Account(relay.host, relay.port, "none"), clock).connect()
                facts.append(await session.hand_over(envelope, message, granted))
                await session.close()
        return facts

    with asyncio.Runner(loop_factory=clock.loop) as runner:
        return runner.run(go())


def play(
    scratch: Path, *faults: Fault, message: Message = MESSAGE, times: int = 1, regime: Regime | None = None
) -> tuple[FaultyRelay, VirtualTime, list[HandOver]]:
    clock = VirtualTime(START)
    relay = FaultyRelay(Fates(regime or Regime(faults), 1), clock.now, scratch)
    return relay, clock, talk(relay, clock, [(ENVELOPE, message)] * times)


# What a sender meets.


def test_an_honest_relay_keeps_what_it_takes(tmp_path: Path) -> None:
    relay, clock, (facts,) = play(tmp_path)
    assert str(facts.reply) == "250 2.0.0 captured as 00001"
    (kept,) = relay.kept
    assert (kept.mail_from, kept.rcpt_tos) == ("sender@example.org", ("mission@one.example",))
    assert kept.digest == hashlib.sha256(MESSAGE.octets).hexdigest()
    assert (relay.played, clock.boot()) == (Counter(), 0)


@pytest.mark.parametrize("step", [Step.RCPT, Step.DATA, Step.DOT])
@pytest.mark.parametrize(
    ("reply", "outcome"), [(b"451 4.3.0 later\r\n", Outcome.DEFERRED), (b"550 5.1.1 no\r\n", Outcome.FAILED)]
)
def test_a_refusal(tmp_path: Path, step: Step, reply: bytes, outcome: Outcome) -> None:
    relay, _, (facts,) = play(tmp_path, Fault(step, ALL, reply))
    assert f"{facts.reply}\r\n".encode() == reply
    assert (classify(facts).outcome, relay.kept) == (outcome, [])
    assert sum(relay.played.values()) == 1


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("reply", [b"", b"250 2.0.0 tak", b"421 x"])
def test_a_drop_behind_the_dot_leaves_it_unknown(tmp_path: Path, reply: bytes, *, taken: bool) -> None:
    relay, clock, (facts,) = play(tmp_path, Fault(Step.DOT, ALL, reply, drop=True, taken=taken))
    assert (facts.terminator, facts.reply, classify(facts).outcome) == (True, None, Outcome.UNKNOWN)
    assert (len(relay.kept), clock.boot()) == (int(taken), 0)


@pytest.mark.parametrize("step", [Step.RCPT, Step.DATA])
def test_a_drop_before_the_dot_leaves_it_unsent(tmp_path: Path, step: Step) -> None:
    relay, _, (facts,) = play(tmp_path, Fault(step, ALL, drop=True))
    assert (facts.terminator, classify(facts).outcome, relay.kept) == (False, Outcome.DEFERRED, [])


def test_a_drop_in_the_midst_of_the_content(tmp_path: Path) -> None:
    """Of a large letter the end has not left yet; of a small one it has, with all the rest, so nobody knows."""
    relay, _, (facts,) = play(tmp_path, Fault(Step.CONTENT, ALL, drop=True), message=LARGE)
    assert (facts.terminator, relay.kept) == (False, [])
    small = tmp_path / "small"
    small.mkdir()
    relay, _, (facts,) = play(small, Fault(Step.CONTENT, ALL, drop=True))
    assert (facts.terminator, relay.kept) == (True, [])


@pytest.mark.parametrize(("step", "limit"), [(Step.RCPT, 300), (Step.DATA, 120), (Step.DOT, 600)])
def test_silence_lasts_as_long_as_a_sender_waits(tmp_path: Path, step: Step, limit: float) -> None:
    relay, clock, (facts,) = play(tmp_path, Fault(step, ALL, taken=True))
    assert facts.fault == f"no reply within {limit} s"
    assert facts.terminator is (step is Step.DOT)
    assert clock.boot() == pytest.approx(limit, abs=1)
    assert len(relay.kept) == (step is Step.DOT)


@pytest.mark.parametrize(("step", "after"), [(Step.RCPT, 299), (Step.DATA, 119), (Step.DOT, 599)])
def test_a_reply_that_is_slow_and_in_time(tmp_path: Path, step: Step, after: float) -> None:
    relay, clock, (facts,) = play(tmp_path, Fault(step, ALL, None, after=after))
    assert (classify(facts).outcome, len(relay.kept)) == (Outcome.ACCEPTED, 1)
    assert clock.boot() == pytest.approx(after, abs=1)


def test_garbage_is_no_reply(tmp_path: Path) -> None:
    relay, _, (facts,) = play(tmp_path, Fault(Step.DOT, ALL, b"\xff\x00 no reply\r\n", taken=True))
    assert (classify(facts).outcome, len(relay.kept)) == (Outcome.UNKNOWN, 1)


@pytest.mark.parametrize(
    ("fault", "phase", "seconds"),
    [
        (Fault(Step.CONNECT, ALL, b"421 4.3.2 closing\r\n", drop=True), Phase.GREETING, 0),
        (Fault(Step.CONNECT, ALL, drop=True), Phase.GREETING, 0),
        (Fault(Step.CONNECT, ALL, b"hello\r\n"), Phase.GREETING, 0),
        (Fault(Step.CONNECT, ALL), Phase.GREETING, 300),
    ],
    ids=["421", "dropped", "garbage", "silence"],
)
def test_no_greeting(tmp_path: Path, fault: Fault, phase: Phase, seconds: float) -> None:
    clock = VirtualTime(START)
    relay = FaultyRelay(Fates(Regime((fault,)), 1), clock.now, tmp_path)
    with pytest.raises(RelayTrouble) as told:
        talk(relay, clock, [(ENVELOPE, MESSAGE)])
    assert told.value.phase is phase
    assert clock.boot() == pytest.approx(seconds, abs=1)


def test_a_grey_list_puts_each_mailbox_off_once(tmp_path: Path) -> None:
    clock = VirtualTime(START)
    relay = FaultyRelay(Fates(REGIMES["greylist"], 1), clock.now, tmp_path)
    both = Envelope("sender@example.org", ("a@one.example", "b@one.example"))
    (first,) = talk(relay, clock, [(both, MESSAGE)])
    assert [r.reply.code for r in first.rcpts] == [450, 450]
    clock.put_forward(START + timedelta(minutes=4, seconds=59))
    (second,) = talk(relay, clock, [(both, MESSAGE)])
    assert second.reply is not None
    assert second.reply.code == 450
    clock.put_forward(START + timedelta(minutes=5))
    (third,) = talk(relay, clock, [(both, MESSAGE)])
    assert third.reply is not None
    assert third.reply.code == 250
    (other,) = talk(relay, clock, [(replace(both, return_path="another@example.org"), MESSAGE)])
    assert other.reply is not None
    assert other.reply.code == 450


def test_a_quota_is_there_again_after_a_day(tmp_path: Path) -> None:
    clock = VirtualTime(START)
    spent = Fault(Step.RCPT, ALL, b"550 5.4.5 daily limit\r\n")
    relay = FaultyRelay(Fates(REGIMES["quota"], 1, Quota(2, spent)), clock.now, tmp_path)

    def codes(times: int) -> list[int]:
        return [f.reply.code if f.reply else 0 for f in talk(relay, clock, [(ENVELOPE, MESSAGE)] * times)]

    assert codes(4) == [250, 250, 550, 550]
    clock.put_forward(START + timedelta(hours=23, minutes=59))
    assert codes(1) == [550]
    clock.put_forward(START + timedelta(hours=24))
    assert codes(3) == [250, 250, 550]


def test_a_path_too_long_for_a_socket_is_met_by_tcp(tmp_path: Path) -> None:
    """As on Windows: there real time is waited before virtual time goes on."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    clock = VirtualTime(START, settle=0.02)
    relay = FaultyRelay(Fates(Regime((Fault(Step.DOT, ALL, None, after=500),)), 1), clock.now, deep)
    assert (relay.exact, relay.host) == (False, "127.0.0.1")
    (facts,) = talk(relay, clock, [(ENVELOPE, LARGE)])
    assert (classify(facts).outcome, len(relay.kept)) == (Outcome.ACCEPTED, 1)
    assert 500 <= clock.boot() < 520


# What it keeps.

text = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\r\n.\r\n", b"a", b"\r", b"\n", b"\n.\n", b"\x00", b"\xff"]))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text.map(b"".join))
def test_octets_are_kept_as_they_are(tmp_path: Path, body: bytes) -> None:
    message = Message(b"", body) if body else Message(b"Date: x\r\n", b"\r\n")
    relay, _, (facts,) = play(tmp_path, message=message)
    assert facts.reply is not None
    assert facts.reply.code == 250
    assert relay.kept[0].digest == hashlib.sha256(whole(message)).hexdigest()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text.map(b"".join), st.lists(st.integers(1, 30)))
def test_it_does_not_matter_in_what_pieces_it_comes(tmp_path: Path, body: bytes, sizes: Sequence[int]) -> None:
    stuffed = (b"\r\n" + whole(Message(b"", body))).replace(b"\r\n.", b"\r\n..")[2:]
    said = b"EHLO a\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<r@one.example>\r\nDATA\r\n" + stuffed + b".\r\nQUIT\r\n"
    clock = VirtualTime(START)
    relay = FaultyRelay(Fates(Regime(), 1), clock.now, tmp_path)

    async def go() -> bytes:
        async with relay:
            reader, writer = await asyncio.open_unix_connection(relay.host.removeprefix("unix:"))
            left = said
            for size in sizes:
                writer.write(left[:size])
                left = left[size:]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            writer.write(left)
            replies = await reader.read()
            writer.close()
        return replies

    with asyncio.Runner(loop_factory=clock.loop) as runner:
        replies = runner.run(go())
    codes = [line[:3] for line in replies.splitlines() if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert [kept.digest for kept in relay.kept] == [hashlib.sha256(whole(Message(b"", body))).hexdigest()]


def test_what_is_stored_is_on_file(tmp_path: Path) -> None:
    clock = VirtualTime(START)
    relay = FaultyRelay(Fates(Regime(), 1), clock.now, tmp_path, tmp_path / "mail")
    talk(relay, clock, [(ENVELOPE, MESSAGE)] * 2)
    names = sorted(path.name for path in (tmp_path / "mail").iterdir())
    assert names == ["00001-mission@one.example.eml", "00002-mission@one.example.eml", ENVELOPES]
    assert (tmp_path / "mail" / names[0]).read_bytes() == MESSAGE.octets
    (tmp_path / "mail" / names[0]).unlink()
    (tmp_path / "mail" / names[1]).unlink()
    (tmp_path / "mail" / ENVELOPES).unlink()
    (tmp_path / "mail").rmdir()
    (facts,) = talk(relay, clock, [(ENVELOPE, MESSAGE)])
    assert str(facts.reply).startswith("451 4.3.0 not captured")
    assert len(relay.kept) == 2


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"DATA", 554), (b"RCPT TO:<a@one.example>", 503), (b"NOOP", 250), (b"RSET", 250), (b"HELO a", 250),
        (b"VRFY a", 500), (b"QUIT", 221),
    ],
)  # fmt: skip
def test_what_is_said_out_of_turn(tmp_path: Path, said: bytes, code: int) -> None:
    relay = FaultyRelay(Fates(Regime(), 1), VirtualTime(START).now, tmp_path)

    async def go() -> bytes:
        async with relay:
            reader, writer = await asyncio.open_unix_connection(relay.host.removeprefix("unix:"))
            await reader.readline()
            writer.write(said + b"\r\n")
            line = await reader.readline()
            writer.close()
        return line

    assert int(asyncio.run(go())[:3]) == code


# When.


def fates(regime: str, seed: int, tries: Iterable[str]) -> list[str]:
    drawn = Fates(REGIMES[regime], seed)
    return [fault.words if fault else "" for fault in (drawn.of_transaction(path, START) for path in tries)]


PATHS = [f"m{number}@one.example" for number in range(400)]


def test_the_same_seed_draws_the_same_and_another_one_does_not() -> None:
    assert fates("hostile", 1, PATHS) == fates("hostile", 1, PATHS)
    assert fates("hostile", 1, PATHS) != fates("hostile", 2, PATHS)


def test_a_letters_fate_does_not_hang_on_when_it_comes() -> None:
    in_order = dict(zip(PATHS, fates("hostile", 1, PATHS), strict=True))
    back = list(reversed(PATHS))
    assert dict(zip(back, fates("hostile", 1, back), strict=True)) == in_order


@pytest.mark.parametrize("name", ["flaky", "hostile"])
def test_what_is_drawn_is_as_often_as_it_says(name: str) -> None:
    regime = REGIMES[name]
    for steps in ({Step.CONNECT}, set(Step) - {Step.CONNECT}):
        assert 0 < sum(fault.share for fault in regime.faults if fault.step in steps) < 1
    found = Counter(fates(name, 1, [f"{number}@x.example" for number in range(20_000)]))
    for fault in regime.faults:
        if fault.step is not Step.CONNECT:
            assert found[fault.words] / 20_000 == pytest.approx(fault.share, rel=0.5)
    assert len({fault.words for fault in regime.faults}) == len(regime.faults)


def test_no_regime_lies() -> None:
    """A 250 is kept, and what is answered with a whole 4yz or 5yz is not."""
    for regime in REGIMES.values():
        for fault in regime.faults:
            if fault.step is Step.DOT and fault.reply is not None and fault.reply.endswith(b"\r\n"):
                assert not fault.reply.startswith(b"2")
                assert not (fault.taken and fault.reply[:1] in (b"4", b"5"))
            assert fault.step is Step.DOT or not fault.taken


def test_it_may_be_entered_again_and_remembers(tmp_path: Path) -> None:
    clock = VirtualTime(START)
    relay = FaultyRelay(Fates(Regime(), 1), clock.now, tmp_path)
    for _ in range(3):
        talk(relay, clock, [(ENVELOPE, MESSAGE)])
    assert len(relay.kept) == 3
    assert list(tmp_path.iterdir()) == []


def test_leaving_ends_every_connection(tmp_path: Path) -> None:
    async def go() -> Any:
        async with FaultyRelay(Fates(Regime(), 1), VirtualTime(START).now, tmp_path) as relay:
            reader, writer = await asyncio.open_unix_connection(relay.host.removeprefix("unix:"))
            assert (await reader.readline()).startswith(b"220")
        assert await reader.read() == b""
        writer.close()

    asyncio.run(go())
