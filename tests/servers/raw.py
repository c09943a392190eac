"""A server that says what it is told to, whatever it is asked: answers that no library's server gives."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer


@contextmanager
def saying(pieces: Iterable[bytes], *, pause: float = 0.0) -> Iterator[str]:
    """The URL of one that says these pieces to whoever asks, with so many seconds in between, and then hangs up."""
    over = threading.Event()

    class Handler(StreamRequestHandler):
        timeout = 10

        def handle(self) -> None:
            self.rfile.readline()
            with suppress(OSError):
                for piece in pieces:
                    self.wfile.write(piece)
                    if over.wait(pause):
                        return
                self.request.shutdown(socket.SHUT_WR)
                while self.request.recv(65_536):  # or the system takes back what was not yet read
                    pass

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}"
        finally:
            over.set()
            running.shutdown()
            thread.join()
