"""The same run without a ledger, to see what the ledger costs: nothing is written and nothing is synced on the way.

All letters are leased from the real ledger before the clock begins; then they come from a list, an intent is granted at
once, and outcomes are forgotten. In the end the real ledger takes the letters back. Never for letters that anybody is
to get: after a crash nobody would know who did.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar

from dispatcher.core.model import Ending, Lease, Leased, SessionInfo, State
from dispatcher.desk import sending
from dispatcher.ledgers.sqlite import Run

T = TypeVar("T")
_ALL: Final = 1_000_000_000


class Forgetful:
    """The dispatch loop's port (`core.ports.Ledger`) on a list of letters. `ready` is called when the list is there."""

    def __init__(self, run: Run, ready: Callable[[], None]) -> None:
        self._run = run
        self._ready = ready
        self._letters: deque[Leased] | None = None
        self._numbers = itertools.count(1)

    async def lease(self, limit: int) -> Lease:
        if self._letters is None:
            self._letters = deque((await self._run.lease(_ALL)).letters)
            self._ready()
        return Lease(tuple(self._letters.popleft() for _ in range(min(limit, len(self._letters)))))

    async def open_session(self, info: SessionInfo) -> int:  # noqa: ARG002 (the port's signature, here and below)
        return next(self._numbers)

    def intend(
        self,
        letter: Leased,  # noqa: ARG002
        session: int,  # noqa: ARG002
        date: datetime,  # noqa: ARG002
        message_digest: str,  # noqa: ARG002
    ) -> "asyncio.Future[int | None]":
        return _at_once(next(self._numbers))

    def conclude(
        self,
        letter: Leased,  # noqa: ARG002
        session: int | None,  # noqa: ARG002
        attempt: int | None,  # noqa: ARG002
        ending: Ending,  # noqa: ARG002
    ) -> "asyncio.Future[None]":
        return _at_once(None)

    async def judge(self, letters: tuple[Leased, ...], state: State, reason: str) -> None:
        """Nothing was kept, so there is nothing to settle."""

    def end(self, ending: str, on_unknown: str) -> None:
        self._run.end(ending, on_unknown)


def _at_once(found: T) -> "asyncio.Future[T]":
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(found)
    return future


def forget(ready: Callable[[], None]) -> None:
    """From now on every `send` of this process forgets. The desk offers no such choice, and never should."""

    def forgetful(*given: Any, **named: Any) -> Forgetful:
        return Forgetful(Run(*given, **named), ready)

    vars(sending)["Run"] = forgetful
