"""SIGKILL at every so manieth system call by which a run speaks with the relay or writes its ledger.

What the run uses on its sockets is looked up in a trace of it, not assumed: uvloop reads and writes, the standard loop
receives and sends. A call that is killed never happens; all before it did. The small round takes a few places of each
call, spread over the run; the full one takes every one, and of the waits between them a hundred.
"""

import os
import shutil
import signal
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dispatcher.ledgers.state import VARIABLE
from tests.aftermath import SEND, finish, look, unknown, waiting
from tests.figures import COUNTS, FULL
from tests.nursery import Nursery
from tests.smtp_server import HANG, STORE, Script, SmtpServer
from tests.torture import OFFERS, command, start, write_campaign
from tests.tracing import Call, kill_at, needs_strace, trace

LETTERS = 50
CONNECTIONS = 4
PLACES = 100_000 if FULL else 3
"""How many places of each call, at most."""
PACE = f"connections = {CONNECTIONS}"
WAITS = ("epoll_wait", "epoll_pwait")
SPEECH = ("read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg")
WRITES = ("pwrite64", "fdatasync")

pytestmark = [pytest.mark.torture, needs_strace()]


def spread(places: Iterable[int], most: int) -> list[int]:
    """So many of the places, evenly, the first and the last among them."""
    there = sorted(set(places))
    if len(there) <= most:
        return there
    return sorted({there[n * (len(there) - 1) // (most - 1)] for n in range(most)})


def places(calls: list[Call]) -> dict[str, list[int]]:
    """By name of a call: at which of its numbers to kill. On sockets and in waiting only once there is a socket."""
    spoken = [call for call in calls if call.where.startswith("TCP:") and call.name in SPEECH]
    first, last = spoken[0].began, spoken[-1].began
    names = {call.name for call in spoken}
    found = {}
    for name in (*SPEECH, *WAITS, *WRITES):
        here = [call for call in calls if call.name == name]
        if name not in WRITES:
            here = [call for call in here if first <= call.began <= last and (name in names or name in WAITS)]
        found[name] = spread((call.number for call in here), min(PLACES, 100) if name in WAITS else PLACES)
    return {name: numbers for name, numbers in found.items() if numbers}


def test_each_call_of_a_run(tmp_path: Path) -> None:
    standard = tmp_path / "standard" / "uvloop.py"
    standard.parent.mkdir()
    standard.write_text("raise ImportError('the standard loop is wanted')\n")
    loops: list[Mapping[str, str]] = [dict(os.environ), {**os.environ, "PYTHONPATH": str(standard.parent)}]
    todo: list[tuple[str, int, Mapping[str, str], str]] = []
    spoken = set[str]()
    for way, env in zip(("pipelining", "chunking"), loops, strict=True):
        folder = tmp_path / f"traced-{way}"
        folder.mkdir()
        with SmtpServer(Script(ehlo=OFFERS[way])) as server:
            write_campaign(folder, server.port, LETTERS, pace=PACE)
            names = [*SPEECH, *WAITS, *WRITES]
            found = places(trace(folder, names, command(folder, *SEND, str(LETTERS)), octets=0, env=env))
        mine = {name: numbers for name, numbers in found.items() if name not in spoken}
        spoken |= mine.keys()
        todo += [(name, place, env, way) for name, numbers in mine.items() for place in numbers]
    assert spoken >= {"read", "write", "recvfrom", "sendto", *WRITES}, "the loops do not speak as they used to"

    def some(which: int) -> int:
        with Nursery() as nursery:
            return sum(kill_and_finish(tmp_path, nursery, *one) for one in todo[which::2])

    with ThreadPoolExecutor(2) as pool:
        kills = sum(pool.map(some, (0, 1)))
    COUNTS["kills at a system call"] += kills
    assert kills > 0.8 * len(todo), "too many runs ended before their time to be killed"


def kill_and_finish(root: Path, nursery: Nursery, name: str, number: int, env: Mapping[str, str], way: str) -> bool:
    """One campaign: killed at one call, judged, and brought to its end. Whether the kill came in time, which it may not
    where a busy machine reads in larger pieces than in the trace; the small round then kills earlier.
    """
    places = [number] if FULL else [number, number * 3 // 4, number // 2]
    return any(place and killed(root, nursery, name, place, env, way) for place in places)


def killed(root: Path, nursery: Nursery, name: str, number: int, env: Mapping[str, str], way: str) -> bool:
    folder = root / f"{name}-{number}-{way}"
    folder.mkdir()
    with SmtpServer(Script(ehlo=OFFERS[way])) as server:
        write_campaign(folder, server.port, LETTERS, pace=PACE)
        code = kill_at(name, number, command(folder, *SEND, str(LETTERS)), env=env)
        assert code in (0, -signal.SIGKILL), f"{name} {number}: exit code {code}"
        look(folder, server, LETTERS, connections=CONNECTIONS)
        if code:
            finish(folder, server, nursery, LETTERS)
    shutil.rmtree(folder)
    return code != 0


def test_each_write_of_a_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is killed while the next puts in order what it left, twice at the same write; the third goes through."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "state"))
    with SmtpServer() as server, Nursery() as nursery:
        left = leave_letters_at_risk(tmp_path / "left", server)
        stored, before = server.stored[:], unknown(left)
        assert before
        left.rename(tmp_path / "kept")  # where it was, what is put back would be a copy
        shutil.copytree(tmp_path / "state", tmp_path / "kept state")
        for name, number in writes_of_a_recovery(tmp_path):
            folder = put_back(tmp_path, f"{name}-{number}")
            server.stored[:] = stored
            argv = command(folder, *SEND, str(waiting(folder, LETTERS)))
            for _ in range(2):
                assert kill_at(name, number, argv) == -signal.SIGKILL
                look(folder, server, LETTERS, before=before, connections=CONNECTIONS)
                assert (unknown(folder), len(server.stored)) == (before, len(stored)), (
                    "a recovery did more than recover"
                )
            finish(folder, server, nursery, LETTERS)
            assert unknown(folder) == before
            COUNTS["kills at a write of a recovery"] += 2
            shutil.rmtree(folder)


def leave_letters_at_risk(folder: Path, server: SmtpServer) -> Path:
    """A campaign whose run was killed when the server had two letters, and had stored one of them."""
    folder.mkdir()
    write_campaign(folder, server.port, LETTERS, pace=PACE)
    server.script = Script(on={"DOT": [(STORE, HANG), HANG]})
    child = start(folder, *SEND, str(LETTERS))
    server.wait(lambda s: s.counts.get("DOT", 0) >= 2 and bool(s.stored))
    child.kill()
    child.communicate()
    server.script = Script()
    server.release()
    server.wait(lambda s: s.times("connected") == s.times("closed"))
    return folder


def put_back(root: Path, name: str) -> Path:
    """The campaign as the killed run left it, and what this machine remembers of its ledger."""
    shutil.rmtree(root / "state")
    shutil.copytree(root / "kept state", root / "state")
    return shutil.copytree(root / "kept", root / name)


def writes_of_a_recovery(root: Path) -> list[tuple[str, int]]:
    """What a run writes before it first speaks, by name and number; some of it in the small round."""
    folder = put_back(root, "traced")
    with SmtpServer() as server:
        text = (folder / "campaign.toml").read_text()
        (folder / "campaign.toml").write_text(text.replace("port = ", f"port = {server.port} # "))
        names = [*SPEECH, *WRITES]
        argv = command(folder, *SEND, str(waiting(folder, LETTERS)))
        calls = trace(root, names, argv, octets=0, code=3)
    first = next(call.began for call in calls if call.where.startswith("TCP:"))
    found = []
    for name in WRITES:
        numbers = [call.number for call in calls if call.name == name and call.began < first]
        found += [(name, number) for number in spread(numbers, PLACES)]
    assert {name for name, _ in found} == set(WRITES)
    return found
