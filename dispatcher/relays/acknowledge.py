"""When the system tells the relay that its octets have come."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress


def acknowledging(transport: asyncio.BaseTransport) -> Callable[[], None]:
    """Acknowledges at once what has come, where the system can (Linux).

    It would wait 40 ms for something to say along with it, and a server that writes reply by reply holds the next one
    back until then (Nagle's algorithm): Postfix around a chunk, every server under Node.
    """
    option = getattr(socket, "TCP_QUICKACK", None)  # the system takes it back by itself, so it is set at each read
    if option is None:
        return lambda: None
    sock = transport.get_extra_info("socket")

    def acknowledge() -> None:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, 1)

    return acknowledge
