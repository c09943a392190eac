"""A web server with TLS on the loopback interface: what it answers to which path, whole or in drips.

with WebServer(context, {"/file": b"HTTP/1.1 200 OK\\r\\n\\r\\n…"}) as server:
    ... ask 127.0.0.1 at server.port ...
server.asked      every request's first line and Host, in order
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self


class WebServer:
    """Serves while it is entered, one connection after the other. An answer that is cut into pieces never ends."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        answers: Mapping[str, bytes | tuple[bytes, ...]],
        where: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._tls = tls
        self._answers = answers
        self._socket = socket.create_server(where)
        self._done = threading.Event()
        self.port: int = self._socket.getsockname()[1]
        self.asked: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._socket.accept()
            except OSError:
                return
            raw.settimeout(10)
            with contextlib.suppress(OSError), self._tls.wrap_socket(raw, server_side=True) as connection:
                self._answer(connection)

    def _answer(self, connection: ssl.SSLSocket) -> None:
        octets = b""
        while b"\r\n\r\n" not in octets and (more := connection.recv(4096)):
            octets += more
        first, *fields = octets.decode().split("\r\n")
        host = next((field.partition(": ")[2] for field in fields if field.startswith("Host: ")), "")
        self.asked.append((first, host))
        answer = self._answers.get(first.split(" ")[1], b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        if isinstance(answer, bytes):
            connection.sendall(answer)
            return
        for piece in answer:
            connection.sendall(piece)
        self._done.wait(10)
