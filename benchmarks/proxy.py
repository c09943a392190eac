"""A long way to a near server: what goes in comes out so many milliseconds later, each direction on its own.

    python -m benchmarks.proxy FRONT BACK MILLISECONDS

Bandwidth is not limited, and there is no back-pressure: whatever was read is written when its time has come.
Connections themselves are set up at once; everything said on them, the greeting first, takes its time.
"""

import asyncio
import sys
from collections import deque
from contextlib import suppress
from typing import Final, cast

HOST: Final = "127.0.0.1"


class _Pipe(asyncio.Protocol):
    """One end of a connection: what arrives here leaves at `other`, later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._way: deque[tuple[float, bytes | None]] = deque()  # when due, and what: b'' is EOF, None a connection lost
        self.transport: asyncio.Transport | None = None
        self.other: _Pipe | None = None
        self.over = False  # its EOF has left on the other side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.other:
            self.other.send_on()

    def data_received(self, data: bytes) -> None:
        self._put(data)

    def eof_received(self) -> bool:
        self._put(b"")
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._put(None)

    def _put(self, data: bytes | None) -> None:
        self._way.append((self._loop.time() + self._delay, data))
        if len(self._way) == 1:
            self._loop.call_later(self._delay, self.send_on)

    def send_on(self) -> None:
        """Write all that is due; the rest waits for its time. Until the other end is connected, all waits."""
        there = self.other.transport if self.other else None
        if there is None:
            return
        now = self._loop.time() + 0.0005  # timers have a resolution of a millisecond
        due = []
        while self._way and self._way[0][0] <= now:
            due.append(self._way.popleft()[1])
        if due and not there.is_closing():
            self._pass_on(there, due)
        if self._way:
            self._loop.call_later(max(0.0, self._way[0][0] - self._loop.time()), self.send_on)

    def _pass_on(self, there: asyncio.Transport, due: list[bytes | None]) -> None:
        there.write(b"".join(data for data in due if data))
        if due[-1] is None:
            there.close()
        elif not due[-1]:
            there.write_eof()
            self.over = True
            if self.other and self.other.over:
                there.close()


async def _serve(front: int, back: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    connecting = set[asyncio.Task[object]]()

    def accept() -> _Pipe:
        near, far = _Pipe(delay), _Pipe(delay)
        near.other, far.other = far, near
        task: asyncio.Task[object] = loop.create_task(_connect(near, far, back))
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return near

    server = await loop.create_server(accept, HOST, front, backlog=1024)
    await server.serve_forever()


async def _connect(near: _Pipe, far: _Pipe, back: int) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: far, HOST, back)
    except OSError:
        if near.transport:
            near.transport.abort()


def main() -> None:
    front, back, milliseconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with suppress(KeyboardInterrupt):
        run = _serve(front, back, milliseconds / 1000)
        try:
            import uvloop  # noqa: PLC0415 (not on Windows)
        except ImportError:
            asyncio.run(run)
        else:
            uvloop.run(run)


if __name__ == "__main__":
    main()
