"""The machine's clocks, as `core.ports.Clock`."""

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """Wall clock in UTC; boot time where the system has it, else the monotonic clock, which may stop in sleep."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def boot(self) -> float:
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
