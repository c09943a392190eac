"""Real servers on the loopback interface: what each of them kept is what was sealed, to the octet.

One contract for all: Postfix and its smtp-sink, the npm package smtp-server, aiosmtpd (see `tests.servers`).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import Login, RealServer
from tests.servers.aiosmtpd import Aiosmtpd
from tests.servers.node import Node
from tests.servers.postfix import Postfix
from tests.servers.sink import Sink
from tests.torture import judge, query, run, write_campaign

LETTERS = 1000
LETTER = """+++
subject = "To {{ key }}: {{ token }}"
+++
.This is for {{ key }} alone.

..

From here on there is nothing but {{ token }}.

{{ token }}
"""
HARD = (
    ".",
    "..",
    "QUIT",
    "From me",
    "x" * 900,
    "a=2E=0D=0A.",
    "trailing \u00a0",
    "\u1797\u17b6\u179f\u17b6",
    "a =?utf-8?q?=0D=0A?=",
)
"""What stands in the letters, in turns: all of it must come out as it went in."""
SERVERS: dict[str, Callable[[], RealServer]] = {
    "Postfix": Postfix,
    "smtp-sink": Sink,
    "npm smtp-server": lambda: Node(Login("XOAUTH2")),
    "aiosmtpd": Aiosmtpd,
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    with SERVERS[request.param]() as server:
        yield server


def campaign(folder: Path, server: RealServer, letters: int, *, connections: int = 4) -> None:
    write_campaign(folder, server.port, letters, relay=server.relay(folder), pace=f"connections = {connections}")


def test_a_thousand_letters(server: RealServer, tmp_path: Path) -> None:
    """Each is kept once, octet for octet what was sealed, for whom it was sealed; the ledger has each one's number."""
    campaign(tmp_path, server, LETTERS)
    (tmp_path / "templates/letter.md").write_text(LETTER, encoding="utf-8")
    lines = [f"K{n:05},k{n:05}@missions.example.org,{HARD[n % len(HARD)]}\n" for n in range(LETTERS)]
    (tmp_path / "list.csv").write_text("key,email,token\n" + "".join(lines), encoding="utf-8")
    assert run(tmp_path).exit_code == 0
    kept = server.settled(LETTERS)
    assert len(kept) == LETTERS
    judge(tmp_path, server, LETTERS, complete=True)
    assert {(k.mail_from, k.rcpt_tos) for k in kept} == {
        ("bounces@kms.example.org", (f"k{number:05}@missions.example.org",)) for number in range(LETTERS)
    }
    rows = query(tmp_path, "SELECT outcome, code, queue_id FROM attempt")
    assert {(outcome, code) for outcome, code, _ in rows} == {("accepted", 250)}
    assert sorted(queue_id for _, _, queue_id in rows) == sorted(k.queue_id for k in kept)
