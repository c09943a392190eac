"""Real servers on the loopback interface: what each of them kept is what was sealed, to the octet.

One contract for all: Postfix and its smtp-sink, the npm package smtp-server, aiosmtpd (see `tests.servers`).
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tests.servers import Login, RealServer
from tests.servers.aiosmtpd import Aiosmtpd
from tests.servers.node import Node
from tests.servers.postfix import Postfix
from tests.servers.sink import Sink
from tests.torture import Leap, judge, query, run, write_campaign

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
    "y" * 900,
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


def test_a_relay_that_restarts(tmp_path: Path) -> None:
    """F56: killed in the middle and started again, over and over: what it had answered is known.

    It keeps a message before it answers, so that each one it has is accepted or unknown, and no other is either.
    """
    letters, connections, restarts, clock = 300, 3, 4, Leap()
    with Node() as server, ThreadPoolExecutor(1) as aside:
        campaign(tmp_path, server, letters, connections=connections)
        times = aside.submit(restarting, server, [letters * n // (restarts + 1) for n in range(1, restarts + 1)])
        while (found := run(tmp_path, clock=clock).counts)["waiting"]:
            clock.moment += timedelta(hours=1)
        times.result()
        judge(tmp_path, server, letters)
        assert found["accepted"] + found["unknown"] == letters
        assert found["unknown"] <= restarts * connections * 2


def restarting(server: RealServer, moments: list[int]) -> None:
    """Kill the server whenever it has kept so many messages."""
    for many in moments:
        while len(server.stored) < many:
            time.sleep(0.005)
        server.restart(hard=True)
