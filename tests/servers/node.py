"""The npm package smtp-server (tests/npm/capture.js), with STARTTLS, and XOAUTH2 or the password mechanisms."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers import Kept, Login, RealServer, require

_NPM = Path(__file__).parent.parent / "npm"


class Node(RealServer):
    """With `clients`, whoever connects must show a certificate of that authority."""

    def __init__(self, login: Login | None = None, clients: Path | None = None) -> None:
        super().__init__()
        self._login = login
        self._clients = clients

    def _begin(self) -> None:
        node = require("node", "apt-get install nodejs npm")
        if not (_NPM / "node_modules/smtp-server").is_dir():
            pytest.skip("the npm package smtp-server is missing; install it: make npm")
        login = self._login and {
            "mechanisms": [self._login.mechanism],
            "user": self._login.user,
            "secret": self._login.secret,
            "tokens": str(self._login.tokens) if self._login.tokens else None,
        }
        certificate, mail = str(self._certificate()), str(self._mail)
        settings = {"port": self.port, "certificate": certificate, "mail": mail, "login": login}
        if self._clients:
            settings["clients"] = str(self._clients)
        self._run(node, _NPM / "capture.js", json.dumps(settings))

    def relay(self, folder: Path) -> str:
        return self._trusted(folder) + (self._login.lines(folder) if self._login else "")

    @property
    def stored(self) -> Sequence[Kept]:
        *lines, _ = self._mail.read_bytes().split(b"\n") if self._mail.exists() else [b""]
        found = [json.loads(line) for line in lines]
        assert all(row["user"] == (self._login.user if self._login else "") for row in found)
        return [
            Kept(0, row["mail_from"], tuple(row["rcpt_tos"]), base64.b64decode(row["octets"]), row["queue_id"])
            for row in found
        ]

    @property
    def _mail(self) -> Path:
        return self.folder / "mail.jsonl"
