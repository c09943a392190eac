"""A wire tap: passes octets on between a client and a server on the loopback interface, and counts whose turn it was.

with Tap(server.port) as tap:
    ... talk to tap.port ...
tap.turns     how often a client spoke after it had been answered: round trips, over all connections
"""

import select
import socket
import threading
from types import TracebackType
from typing import Self

from tests.servers import HOST


class Tap:
    def __init__(self, port: int) -> None:
        self.turns = 0
        self._server = port
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        turns, spoke = 0, None
        with client, socket.create_connection((HOST, self._server)) as server:
            other = {client: server, server: client}
            for sock in other:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while other:
                for speaker in select.select(list(other), [], [])[0]:
                    octets = speaker.recv(1 << 20)
                    if hasattr(
                        socket, "TCP_QUICKACK"
                    ):  # a server may hold a reply back until the one before is acknowledged
                        speaker.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                    if not octets:
                        other.clear()
                        break
                    turns += speaker is client and spoke is server
                    spoke = speaker
                    other[speaker].sendall(octets)
        with self._lock:
            self.turns += turns
