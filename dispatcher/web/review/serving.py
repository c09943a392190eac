"""The page's socket on this machine alone, and its link."""

import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final

import uvicorn

from dispatcher.core.errors import DispatcherError, Problem, UsageError
from dispatcher.desk import Desk
from dispatcher.desk.catalogue import Catalogues
from dispatcher.web.review.app import build
from dispatcher.web.review.guard import Session
from dispatcher.web.review.site import Site

HOST: Final = "127.0.0.1"
_SECONDS_TO_END: Final = 3
_HEAD_START: Final = 3.0
"""Seconds that the link waits for what is read once, so that the first page is there as soon as any other."""


def serve(desk: Desk, *, port: int, language: str, ready: Callable[[str, str], None]) -> None:
    """Serve until interrupted (Ctrl-C). `port` 0 takes a free one; `ready` is told the link, and one that works
    once, as soon as they do.

    Raises UsageError if the port cannot be had.
    """
    with closing(_bound(port)) as listening:
        session = Session(listening.getsockname()[1])
        site = Site(desk, session.form, language, Catalogues(desk))
        # No access log: it would hold the token, and what was looked for.
        config = uvicorn.Config(
            build(site, session),
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
            preparing = threading.Thread(target=_prepare, args=(site,), daemon=True)
            preparing.start()
            preparing.join(_HEAD_START)
            ready(session.link, session.link_for_once)
            server.run(sockets=[listening])


def _prepare(site: Site) -> None:
    """Read what is sealed before anybody asks for it: of 100,000 letters that takes seconds."""
    with suppress(DispatcherError):  # whoever asks is told
        site.catalogues.current()


def _bound(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        what = f"cannot listen on port {port}: {getattr(error, 'strerror', None) or error}"
        raise UsageError(Problem(what, todo="give another one with --port, or none")) from None
    return listening
