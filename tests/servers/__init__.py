"""Real servers, as other people wrote them, on the loopback interface: each started by a test and stopped after it.

    with Postfix() as server:
        ... hand over to server.host, server.port, with the lines of server.relay(folder) under [relay] ...
    server.stored     what it kept: envelope, and octets as they were handed over

What a server puts on top of a message (Received, Delivered-To) is taken off by its starter. A program that is missing
skips the test and says how to install it; in CI a skip is a failure.
"""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import trustme

from tests import canary
from tests.smtp_server import Stored

SECONDS = 30
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Kept(Stored):
    """A stored message, with the server's own number for it if it has one."""

    queue_id: str = ""


@dataclass(frozen=True)
class Login:
    """Who may log in, with what, by which mechanism; a provider of tokens may say itself which are good."""

    mechanism: str
    user: str = canary.USER
    secret: str = canary.TOKEN
    tokens: Path | None = None  # a file with those that are good

    def lines(self, folder: Path) -> str:
        """Further lines under [relay]; the secret is put into the campaign's folder."""
        (folder / "secret.txt").write_text(self.secret, encoding="utf-8")
        (folder / "secret.txt").chmod(0o600)
        auth = "xoauth2" if self.mechanism == "XOAUTH2" else "password"
        return f'\nuser = "{self.user}"\npassword = {{ file = "secret.txt" }}\nauth = "{auth}"'


class RealServer:
    """One server process with a folder of its own, while it is entered. A body gives `_begin` and `stored`."""

    def __init__(self) -> None:
        self.host = HOST
        self.name = HOST  # that of its certificate
        self.port = free_port()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="server-")))
            self._stack = stack
            self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _begin(self) -> None:
        raise NotImplementedError

    @property
    def stored(self) -> Sequence[Kept]:
        """What the server has kept so far."""
        raise NotImplementedError

    def relay(self, folder: Path) -> str:
        """The lines under [relay] beside host and port; what they point to is written into the campaign's folder."""
        return 'security = "none"'

    def settled(self, letters: int) -> Sequence[Kept]:
        """What was kept, once so many are; fails if they do not come."""
        deadline = time.monotonic() + SECONDS
        while len(found := self.stored) < letters:
            assert time.monotonic() < deadline, f"{len(found)} of {letters} were stored"
            time.sleep(0.05)
        return found

    def restart(self, *, hard: bool = False) -> None:
        """Stop the process, or kill it, and start it again: the same port, the same folder."""
        if hard:
            self._process.kill()
        _stop(self._process)
        self._launch()

    def _run(self, *argv: str | Path) -> None:
        """Start the server's process; it is stopped, and waited for, at the exit."""
        self._argv = argv
        self._launch()
        self._stack.callback(lambda: _stop(self._process))

    def _launch(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + SECONDS
        while not listens(self.port):
            told = (self.folder / "output").read_text(encoding="utf-8", errors="replace")
            if self._process.poll() is not None or time.monotonic() > deadline:
                _stop(self._process)
                raise AssertionError(f"{self._argv[0]} does not listen: {told}")
            time.sleep(0.02)

    def _certificate(self) -> Path:
        """A certificate with its key, and beside it `authority.pem` for `trusted`."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "authority.pem"))
        path = self.folder / "certificate.pem"
        authority.issue_cert(self.name).private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def _trusted(self, folder: Path) -> str:
        """Lines for STARTTLS with the server's certificate."""
        shutil.copy(self.folder / "authority.pem", folder)
        return 'security = "starttls"\nca_file = "authority.pem"'


def require(program: str, install: str) -> str:
    """The path of a program, or a skip that says how to install it."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if path is None:
        pytest.skip(f"{program} is missing; install it: {install}")
    return path


def free_port() -> int:
    """A port nobody listens on, and that the system gives to nobody by itself, as it does those from 32768 on; nor does
    another process of these tests, each of which has a thousand of its own.
    """
    lane = 20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 12 * 1000
    while True:
        port = lane + random.randrange(1000)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port


def listens(port: int) -> bool:
    """Whether anybody takes connections there."""
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
