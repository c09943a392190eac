"""The benchmarks run, all senders write the same letter, and a figure that would be a lie is none.

Figures themselves are not tested: they are for `make bench`.
"""

import email
import email.policy
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.__main__ import PARTS
from benchmarks.chart import chart
from benchmarks.measured import BenchmarkFailed, measure
from benchmarks.page import PAGE, write_page
from benchmarks.race import SMALL, Lane, Race, Result
from benchmarks.receiver import HOST, far_away, sink
from benchmarks.senders import OURS, SENDERS, Run, Sender
from benchmarks.signing import WAYS
from benchmarks.workload import REPORT, Content, Job, report, write_campaign
from tests.command import REPOSITORY

INSTALLED = (REPOSITORY / "benchmarks/.installed").exists() and shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
peers = pytest.mark.skipif(not INSTALLED, reason="the peers are not installed: make bench-peers")
NAMES = [sender.name for sender in SENDERS]
BY_NAME = {sender.name: sender for sender in SENDERS}


@pytest.fixture
def race(tmp_path: Path) -> Race:
    return Race(tmp_path, 1, 0.02, lambda _: None)


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)


@peers
def test_quick_ends_with_its_line() -> None:
    done = run("quick", "--rounds", "1", "--seconds", "0.02")
    assert done.returncode == 0, done.stderr
    ratios = json.loads(done.stdout)["ratios"]
    assert done.stdout.count("\n") == 1
    assert {name: set(found) for name, found in ratios.items()} == {
        "small": {"smtp-source", "nodemailer"},
        "report": {"smtp-source", "nodemailer"},
    }
    assert all(ratio > 0 for found in ratios.values() for ratio in found.values())


@peers
def test_ours_alone_end_with_json() -> None:
    parts = ("ledger", "growth", "recovery")
    done = run("all", "--only", *parts, "--recipients", "120", "--rounds", "1", "--seconds", "0.02")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert [lane["name"] for lane in figures["ledger"][0]["senders"]] == ["dispatcher", "no ledger"]
    assert figures["growth"][0]["letters"] == 120
    assert figures["recovery"][0]["since_ledger"] < figures["recovery"][0]["since_start"]
    assert "### Longer lists" in done.stdout


def test_paper_is_measured_in_a_process_of_its_own() -> None:
    argv = [sys.executable, "-m", "benchmarks.printing", "--behind", "3"]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["letters"], told["files"]) == (3, 1)
    assert told["cpu"] > 0
    assert told["octets"] > 40_000, "the report is behind"


def test_every_way_to_sign_is_measured(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "campaign", Job(3, 9, report=True))
    argv = [sys.executable, "-m", "benchmarks.signing", str(folder), "3"]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["ways"]
    assert [one["way"] for one in told] == list(WAYS)
    assert all(one["letters"] == 3 and one["seconds"] > 0 and one["octets"] > 400 for one in told)


@peers
def test_a_breakdown_names_threads_and_functions() -> None:
    done = run("profile", "--seconds", "0.02")
    assert done.returncode == 0, done.stderr
    assert "thread ledger: " in done.stdout
    assert re.search(r"dispatcher/\w+/\w+\.py:\d+ \w+", done.stdout)


@peers
@pytest.mark.parametrize("with_report", [False, True])
def test_all_senders_write_the_same_letter(race: Race, *, with_report: bool) -> None:
    content = race.content(report=with_report)
    ours = parts(content.whole)
    assert (ours["report"] == report()) == with_report
    for sender in SENDERS[1:]:
        assert parts(race.sample(sender, content, report=with_report)) == ours, sender.name


def parts(octets: bytes) -> dict[str, object]:
    """What a reader gets, without what a sender may write in its own way."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text
    assert html
    found = {part.get_filename(): part.get_content() for part in message.walk() if part.get_filename()}
    return {
        **{name: message[name].addresses for name in ("From", "To", "Reply-To")},
        **{name: str(message[name]).strip() for name in ("Subject", "List-Unsubscribe", "Content-Language")},
        "text": text.get_content().replace("\r\n", "\n").rstrip(),
        "html": html.get_content().replace("\r\n", "\n").rstrip(),
        "report": found.get(REPORT),
    }


@peers
@pytest.mark.parametrize("name", NAMES)
def test_every_sender_goes_the_long_way(race: Race, name: str) -> None:
    """Twenty letters over the proxy, all of which arrive."""
    far = SMALL.__class__("far", "far", milliseconds=2)
    told = race.once(far, BY_NAME[name], race.content(report=False), 20)
    assert told.letters == 20
    assert 0 < told.seconds <= told.wall
    assert told.peak > 1_000_000


@peers
def test_letters_that_do_not_arrive_are_no_figure(race: Race) -> None:
    """A sender that says it sent them and did not."""

    def prepare(folder: Path, job: Job, content: Content) -> list[str]:
        folder.mkdir()
        return [sys.executable, "-c", f'print(\'{{"letters": {job.letters}, "seconds": 0.1, "cpu": 0.1}}\')']

    with pytest.raises(BenchmarkFailed, match="20 letters were to arrive, and 0 did"):
        race.once(SMALL, Sender("liar", "everything", prepare, 1), race.content(report=False), 20)


def test_a_child_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFailed, match=r"ended with 3:\s+so far\s+no further"):
        measure([sys.executable, "-c", "import sys; print('so far'); print('no further', file=sys.stderr); exit(3)"],
                tmp_path)  # fmt: skip


def test_memory_is_the_childs_own(tmp_path: Path) -> None:
    """Whoever starts it may be large; it is not counted."""
    ballast = bytearray(200_000_000)
    found = measure([sys.executable, "-c", "import time; time.sleep(0.2)"], tmp_path)
    assert 1_000_000 < found.peak < len(ballast) / 2


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that says everything back."""
    code = (
        "import asyncio\n"
        "async def back(reader, writer):\n"
        "    while data := await reader.read(65536):\n"
        "        writer.write(data)\n"
        "    writer.close()\n"
        "async def main():\n"
        "    server = await asyncio.start_server(back, '127.0.0.1', 0)\n"
        "    print(server.sockets[0].getsockname()[1], flush=True)\n"
        "    await server.serve_forever()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield int(process.stdout.readline())
        process.terminate()


def test_the_long_way_loses_nothing(echo: int) -> None:
    """A megabyte there and back, its end as well; both directions at once."""
    octets = report() * 5
    with far_away(echo, 6) as port, socket.create_connection((HOST, port), timeout=20) as client:
        writer = threading.Thread(target=client.sendall, args=(octets,))
        writer.start()
        found = bytearray()
        while len(found) < len(octets) - 1 and (piece := client.recv(1000)):
            found += piece
        writer.join()
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(65536):
            found += piece
    assert bytes(found) == octets


def results(rates: Callable[[str], float]) -> Result:
    lanes = []
    for sender in SENDERS:
        runs = [Run(100, 100 / (rates(sender.name) * factor), 0.1, 2.0, 0.3, 50_000_000, {}) for factor in (1, 2, 4)]
        lanes.append(Lane(sender, 4011, runs))
    return Result(SMALL, tuple(lanes))


def test_ratios_are_taken_round_by_round() -> None:
    """Both get four times as fast from round to round: the ratio stays."""
    found = results(lambda name: 300.0 if name == OURS else 100.0)
    ratio = found.ratio(found.lanes[1])
    assert [ratio.low, ratio.median, ratio.high] == pytest.approx([3, 3, 3])
    assert [found.lanes[1].rate.low, found.lanes[1].rate.median] == pytest.approx([100, 200])
    assert "| smtp-source |" in tables.race_table(found)
    assert "3.00×" in tables.race_table(found)


def test_the_chart_says_its_figures_in_words() -> None:
    picture = ET.fromstring(chart([results(lambda _: 100.0)]))
    space = "{http://www.w3.org/2000/svg}"
    title, description = picture.find(f"{space}title"), picture.find(f"{space}desc")
    assert title is not None
    assert title.text
    assert description is not None
    assert all(f"{name} 200" in str(description.text) for name in NAMES)
    assert picture.get("role") == "img"


def test_the_page_takes_figures_in(tmp_path: Path) -> None:
    page = tmp_path / PAGE.name
    shutil.copy(PAGE, page)
    parts = dict.fromkeys(("machine", *PARTS), "OLD")
    write_page(parts, "<svg/>", page)
    write_page({"growth": "NEW"}, "", page)
    text = page.read_text(encoding="utf-8")
    assert text.count("OLD") == len(parts) - 1
    assert text.count("NEW") == 1
    assert (tmp_path / "benchmarks.svg").read_text(encoding="utf-8") == "<svg/>"
    with pytest.raises(BenchmarkFailed, match="lost its marks"):
        write_page({"nothing": ""}, "", page)


@peers
def test_a_sink_keeps_letters_as_they_were_sent() -> None:
    with sink(keep=True) as receiver, socket.create_connection((HOST, receiver.port), timeout=20) as client:
        said = client.makefile("rb")
        for line in (b"EHLO x", b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.org>", b"DATA",
                     b"Subject: x\r\n\r\n..dot\r\n\r\n.", b"QUIT"):  # fmt: skip
            while said.readline()[3:4] == b"-":
                pass
            client.sendall(line + b"\r\n")
        assert said.read().startswith(b"2")
    assert receiver.count == 1
    assert receiver.kept == (b"Subject: x\n\n.dot\n\n",)
