"""The page's socket on this machine alone, and its link."""

import socket
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final

import uvicorn

from dispatcher.core.errors import Problem, UsageError
from dispatcher.desk import Desk
from dispatcher.web.review.app import build
from dispatcher.web.review.guard import Session

HOST: Final = "127.0.0.1"
_SECONDS_TO_END: Final = 3


def serve(desk: Desk, *, port: int, language: str, ready: Callable[[str], None]) -> None:
    """Serve until interrupted (Ctrl-C). `port` 0 takes a free one; `ready` is told the link as soon as it works.

    Raises UsageError if the port cannot be had.
    """
    with closing(_bound(port)) as listening:
        session = Session(listening.getsockname()[1])
        # No access log: it would hold the token, and what was looked for.
        config = uvicorn.Config(
            build(desk, session, language),
            access_log=False,
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
        server = uvicorn.Server(config)
        listening.listen()
        with suppress(KeyboardInterrupt):  # which the server passes on when it has ended
            ready(session.link)
            server.run(sockets=[listening])


def _bound(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        what = f"cannot listen on port {port}: {getattr(error, 'strerror', None) or error}"
        raise UsageError(Problem(what, todo="give another one with --port, or none")) from None
    return listening
