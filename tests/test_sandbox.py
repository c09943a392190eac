"""The sandbox captures exactly what came, says so only when it is on file, and delivers nothing."""

import asyncio
import json
import logging
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.core.model import Envelope, HandOver, Message
from dispatcher.relays.smtp import Account, SmtpRelay
from dispatcher.sandbox import ENVELOPES, Sandbox
from tests.test_session import ENVELOPE, MESSAGE, PATIENT, FakeClock, granted

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


async def send(sandbox: Sandbox, *letters: tuple[Envelope, Message]) -> list[HandOver]:
    """Hand the letters over in one session."""
    session = await SmtpRelay(Account(sandbox.host, sandbox.port, "none"), FakeClock(), PATIENT).connect()
    try:
        return [await session.hand_over(envelope, message, granted) for envelope, message in letters]
    finally:
        await session.close()


def inside(folder: Path, then: Callable[[Sandbox], Awaitable[Any]], run: Callable[..., Any] = asyncio.run) -> Any:
    """Run something with a sandbox on this folder."""

    async def go() -> Any:
        async with Sandbox(folder) as sandbox:
            return await then(sandbox)

    return run(go())


def captured(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.eml"))}


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_letter_is_captured(tmp_path: Path, run: Callable[..., Any]) -> None:
    folder = tmp_path / "deep" / "sandbox"
    before = datetime.now(UTC)

    async def go(sandbox: Sandbox) -> tuple[list[HandOver], int]:
        return await send(sandbox, (ENVELOPE, MESSAGE)), sandbox.count

    ((facts,), count) = inside(folder, go, run)
    assert str(facts.reply) == "250 2.0.0 captured as 00001"
    assert count == 1
    assert captured(folder) == {"00001-mission@one.example.eml": MESSAGE.octets}
    (line,) = (folder / ENVELOPES).read_text("ascii").splitlines()
    entry = json.loads(line)
    assert before - timedelta(seconds=1) <= datetime.fromisoformat(entry.pop("time")) <= datetime.now(UTC)
    assert entry.pop("peer").startswith("127.0.0.1:")
    assert entry == {
        "file": "00001-mission@one.example.eml",
        "mail_from": "sender@example.org",
        "rcpt_tos": ["mission@one.example"],
    }


@posix_only
def test_nobody_else_may_read(tmp_path: Path) -> None:
    """S27. Nor come to it by the folders above that were made with it."""
    folder = tmp_path / "campaign" / "sandbox"
    inside(folder, lambda sandbox: send(sandbox, (ENVELOPE, MESSAGE)))
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_numbers_go_on_from_what_is_in_the_folder(tmp_path: Path) -> None:
    for name in ("00007-x.eml", "00100-y.eml", "99999999.eml", "notes.txt", ".zz.part", "00200-z.eml.part"):
        (tmp_path / name).touch()
    inside(tmp_path, lambda sandbox: send(sandbox, (ENVELOPE, MESSAGE), (ENVELOPE, MESSAGE)))
    inside(tmp_path, lambda sandbox: send(sandbox, (ENVELOPE, MESSAGE)))
    new = [name for name in captured(tmp_path) if "mission" in name]
    assert new == [f"{number:05}-mission@one.example.eml" for number in (101, 102, 103)]
    assert len((tmp_path / ENVELOPES).read_text().splitlines()) == 3


text = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\r\n.\r\n", b"a", b"\r", b"\n", b"\n.\n", b"\x00", b"\xff"]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text.map(b"".join))
def test_octets_are_captured_as_they_are(tmp_path: Path, body: bytes) -> None:
    message = Message(b"Date: x\r\n", b"\r\n" + body)
    (facts,) = inside(tmp_path, lambda sandbox: send(sandbox, (ENVELOPE, message)))
    assert facts.reply.code == 250
    last = max(tmp_path.glob("*.eml"))
    whole = message.octets
    assert last.read_bytes() == (whole if whole.endswith(b"\r\n") else whole + b"\r\n")


def test_file_names_are_safe_and_envelopes_are_kept_whole(tmp_path: Path) -> None:
    """An address may hold what a file name must not."""
    paths = ("a/../b@one.example", "d\u00e9@one.example", "*|?@one.example", "x" * 200 + "@one.example")
    letters = [(Envelope("s@example.org", (path, "copy@two.example")), MESSAGE) for path in paths]
    inside(tmp_path, lambda sandbox: send(sandbox, *letters))
    assert list(captured(tmp_path)) == [
        "00001-a_.._b@one.example.eml",
        "00002-d_@one.example.eml",
        "00003-_@one.example.eml",
        f"00004-{'x' * 80}.eml",
    ]
    entries = [json.loads(line) for line in (tmp_path / ENVELOPES).read_text("ascii").splitlines()]
    assert [entry["rcpt_tos"] for entry in entries] == [[path, "copy@two.example"] for path in paths]


def test_what_cannot_be_written_is_refused_for_now(tmp_path: Path) -> None:
    """451, nothing half done left behind, and the next letter is captured under the same number."""
    folder = tmp_path / "sandbox"

    async def go(sandbox: Sandbox) -> list[HandOver]:
        folder.rmdir()
        (first,) = await send(sandbox, (ENVELOPE, MESSAGE))
        folder.mkdir()
        (folder / ENVELOPES).mkdir()
        (second,) = await send(sandbox, (ENVELOPE, MESSAGE))
        assert (captured(folder), sandbox.count) == ({}, 0)
        (folder / ENVELOPES).rmdir()
        return [first, second, *await send(sandbox, (ENVELOPE, MESSAGE))]

    replies = [str(facts.reply) for facts in inside(folder, go)]
    assert [reply[:9] for reply in replies] == ["451 4.3.0", "451 4.3.0", "250 2.0.0"]
    assert sorted(path.name for path in folder.iterdir()) == ["00001-mission@one.example.eml", ENVELOPES]


def test_a_letter_broken_off_is_not_captured(tmp_path: Path) -> None:
    async def refused() -> bool:
        return False

    async def go(sandbox: Sandbox) -> None:
        session = await SmtpRelay(Account(sandbox.host, sandbox.port, "none"), FakeClock(), PATIENT).connect()
        assert (await session.hand_over(ENVELOPE, MESSAGE, refused)).retracted
        await session.close()

    inside(tmp_path, go)
    assert list(tmp_path.iterdir()) == []


def test_it_listens_on_the_loopback_interface_alone(tmp_path: Path) -> None:
    async def go(sandbox: Sandbox) -> None:
        assert sandbox._server is not None
        assert [sock.getsockname()[0] for sock in sandbox._server.sockets] == ["127.0.0.1"]
        assert sandbox.port > 0

    inside(tmp_path, go)


def test_a_port_of_ones_own_choice_and_a_port_that_is_taken(tmp_path: Path) -> None:
    async def go(sandbox: Sandbox) -> int:
        with pytest.raises(OSError, match=r"in use|attempting to bind"):
            await Sandbox(tmp_path, port=sandbox.port).__aenter__()
        return sandbox.port

    port = inside(tmp_path, go)

    async def again() -> int:
        async with Sandbox(tmp_path, port=port) as sandbox:
            await send(sandbox, (ENVELOPE, MESSAGE))
            return sandbox.port

    assert asyncio.run(again()) == port


def test_the_announced_size_is_kept_to(tmp_path: Path) -> None:
    async def go(sandbox: Sandbox) -> None:
        session = await SmtpRelay(Account(sandbox.host, sandbox.port, "none"), FakeClock(), PATIENT).connect()
        assert session.info.features == {"SIZE": "52428800", "8BITMIME": "", "SMTPUTF8": "", "HELP": ""}
        await session.close()

    inside(tmp_path, go)


def test_leaving_ends_every_connection_and_the_serving(tmp_path: Path) -> None:
    """Nothing is left that a later loop could stumble over."""

    async def go() -> None:
        async with Sandbox(tmp_path) as sandbox:
            serving = asyncio.create_task(sandbox.serve_forever())
            reader, writer = await asyncio.open_connection(sandbox.host, sandbox.port)
            assert (await reader.readline()).startswith(b"220")
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with socket.socket() as probe:
            assert probe.connect_ex((sandbox.host, sandbox.port)) != 0

    asyncio.run(go())


def test_letters_do_not_get_into_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """S26."""
    caplog.set_level(logging.DEBUG)

    async def go(sandbox: Sandbox) -> None:
        await send(sandbox, (ENVELOPE, MESSAGE))
        logging.getLogger("mail.log").setLevel(logging.DEBUG)
        await send(sandbox, (ENVELOPE, MESSAGE))

    inside(tmp_path, go)
    assert [record for record in caplog.records if record.name == "mail.log"] == []
    assert "mission" not in caplog.text


def test_many_letters_by_many_sessions(tmp_path: Path) -> None:
    """Ten sessions at once: every letter is captured once, under a number of its own."""
    letters = [
        [
            (Envelope("s@example.org", (f"m{a}-{b}@one.example",)), Message(b"", b"\r\n%d-%d\r\n" % (a, b)))
            for b in range(20)
        ]
        for a in range(10)
    ]

    async def go(sandbox: Sandbox) -> int:
        await asyncio.gather(*(send(sandbox, *some) for some in letters))
        return sandbox.count

    assert inside(tmp_path, go) == 200
    files = captured(tmp_path)
    assert sorted(int(name[:5]) for name in files) == list(range(1, 201))
    assert {name.split("-", 1)[1]: octets for name, octets in files.items()} == {
        f"{envelope.forward_paths[0]}.eml": message.octets for some in letters for envelope, message in some
    }
