"""The capture server alone, for other programs to send to."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from dispatcher.sandbox import Sandbox


def capture(folder: Path, port: int, ready: Callable[[str, int], None]) -> None:
    """Capture into `folder` until interrupted; `ready` is called with host and port once it listens.

    Raises OSError if the folder or the port cannot be had, and KeyboardInterrupt.
    """

    async def serve() -> None:
        async with Sandbox(folder, port=port) as sandbox:
            ready(sandbox.host, sandbox.port)
            await sandbox.serve_forever()

    asyncio.run(serve())
