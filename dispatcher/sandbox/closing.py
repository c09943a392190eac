"""The end of a server: no connection outlives it."""

import asyncio
from collections.abc import Collection
from typing import Protocol


class Connection(Protocol):
    """One of its connections; `gone` is done when it is over."""

    gone: asyncio.Future[None]

    def drop(self) -> None:
        """Break it off."""
        ...


async def closed(server: asyncio.Server, connections: Collection[Connection]) -> None:
    """Let nobody in any more, break off who is there, and wait until all are gone."""
    server.close()
    there = tuple(connections)
    for connection in there:
        connection.drop()
    await asyncio.gather(*(connection.gone for connection in there))
    await server.wait_closed()
