"""Virtual time passes in order, and only while nobody has anything to do; the machine's own slowness is none of it."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.desk.virtual import VirtualTime

T = TypeVar("T")
START = datetime(2026, 5, 4, 9, tzinfo=UTC)
posix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Windows has no UNIX sockets")


def run(job: Callable[[], Awaitable[T]], clock: VirtualTime) -> T:
    async def go() -> T:
        return await job()

    with asyncio.Runner(loop_factory=clock.loop) as runner:
        return runner.run(go())


@given(st.lists(st.floats(0, 1e7), max_size=20))
def test_sleeps_end_in_their_order_and_at_their_moment(spans: list[float]) -> None:
    clock = VirtualTime(START)
    ended: list[tuple[float, float]] = []

    async def sleeper(span: float) -> None:
        await clock.sleep(span)
        ended.append((span, clock.boot()))

    async def all_of_them() -> None:
        await asyncio.gather(*map(sleeper, spans))

    run(all_of_them, clock)
    assert [span for span, _ in ended] == sorted(spans)
    assert all(abs(at - span) < 1e-6 for span, at in ended)
    assert clock.boot() == pytest.approx(max(spans, default=0), abs=1e-6)
    assert clock.now() == START + timedelta(seconds=clock.boot())


def test_time_goes_on_from_one_loop_to_the_next() -> None:
    clock = VirtualTime(START)
    run(lambda: clock.sleep(5), clock)
    clock.put_forward(START + timedelta(days=1))
    clock.put_forward(START)  # it never runs back
    run(lambda: clock.sleep(5), clock)
    assert clock.now() == START + timedelta(days=1, seconds=5)


def test_a_time_out_is_met_when_nothing_comes() -> None:
    clock = VirtualTime(START)

    async def in_vain() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(300):
                await asyncio.Event().wait()

    run(in_vain, clock)
    assert clock.boot() == pytest.approx(300)


@posix
def test_no_time_passes_while_somebody_works() -> None:
    """A connection whose other side is slow, as on a busy machine, and work in a thread: no time-out of any length."""
    clock = VirtualTime(START)

    async def exchange() -> None:
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=here)
        other_reader, other_writer = await asyncio.open_connection(sock=there)

        async def answer() -> None:
            while line := await other_reader.readline():
                slowly(line)
                other_writer.write(await asyncio.to_thread(slowly, line))

        answering = asyncio.create_task(answer())
        async with asyncio.timeout(1e-6):
            for number in range(10):
                writer.write(b"%d\n" % number)
                assert await reader.readline() == b"%d\n" % number
        writer.close()
        await answering
        other_writer.close()

    def slowly(line: bytes) -> bytes:
        time.sleep(0.002)
        return line

    run(exchange, clock)
    assert clock.boot() == 0


@posix
def test_more_than_a_buffer_holds_takes_no_time() -> None:
    clock = VirtualTime(START)
    size = 5_000_000

    async def pour() -> None:
        here, there = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=here)
        other_reader, other_writer = await asyncio.open_connection(sock=there)
        async with asyncio.timeout(1e-6):
            writer.write(b"x" * size)
            assert len(await other_reader.readexactly(size)) == size
        writer.close()
        assert await other_reader.read() == b""
        other_writer.close()
        await asyncio.gather(writer.wait_closed(), other_writer.wait_closed())

    run(pour, clock)
    assert clock.boot() == 0


def test_what_fails_in_a_thread_is_told() -> None:
    def fails() -> None:
        raise OSError("no")

    async def go() -> None:
        with pytest.raises(OSError, match="no"):
            await asyncio.to_thread(fails)

    run(go, VirtualTime(START))


def test_where_nothing_is_waited_for_it_waits_for_a_signal() -> None:
    """As a stop from the keyboard comes: time stands still until then."""
    clock = VirtualTime(START)

    async def go() -> None:
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        stopper = threading.Timer(0.02, loop.call_soon_threadsafe, (event.set,))
        stopper.start()
        await event.wait()
        stopper.join()

    run(go, clock)
    assert clock.boot() == 0
