"""Who is measured. Each writes what it needs into an empty folder and says which program to start there."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.measured import ROOT, BenchmarkFailed, measure
from benchmarks.receiver import HOST, program, sink
from benchmarks.workload import Content, Job, content_of, write_campaign, write_job

OURS: Final = "dispatcher"
PEERS: Final = ROOT / "benchmarks" / "peers"

Prepare = Callable[[Path, Job, Content], Sequence[str]]
"""Writes into the folder, which does not exist yet; returns the argv to start in it."""


@dataclass(frozen=True)
class Sender:
    """A program, what it does not do that we do, a first guess of its letters in a second, and whether it keeps several
    connections.
    """

    name: str
    lacks: str
    prepare: Prepare
    guess: int
    pool: bool = True


def _ours(folder: Path, job: Job, content: Content) -> Sequence[str]:  # noqa: ARG001 (we make the content)
    write_campaign(folder, job)
    return (sys.executable, "-m", "benchmarks.ours", str(folder))


def _without_ledger(folder: Path, job: Job, content: Content) -> Sequence[str]:
    return (*_ours(folder, job, content), "--no-ledger")


def _smtp_source(folder: Path, job: Job, content: Content) -> Sequence[str]:
    folder.mkdir(parents=True)
    (folder / "letter").write_bytes(content.whole)
    to = "mission0000001@missions.example.org"
    options = ("-d", "-s", str(job.connections), "-m", str(job.letters), "-f", content.return_path, "-t", to)
    return (program("smtp-source"), *options, "-F", "letter", f"{HOST}:{job.port}")


def _nodemailer(folder: Path, job: Job, content: Content) -> Sequence[str]:
    write_job(folder, job, content)
    _installed(ROOT / "benchmarks" / "node_modules" / "nodemailer")
    return (program("node"), str(PEERS / "nodemailer.mjs"))


def _python(script: str) -> Prepare:
    def prepare(folder: Path, job: Job, content: Content) -> Sequence[str]:
        write_job(folder, job, content)
        return (str(_installed(ROOT / "benchmarks" / ".venv" / "bin" / "python")), str(PEERS / script))

    return prepare


def _installed(path: Path) -> Path:
    if not path.exists():
        raise BenchmarkFailed(f"{path.relative_to(ROOT)} is missing. All peers at once: make bench-peers")
    return path


SENDERS: Final = (
    Sender(OURS, "", _ours, 1000),
    Sender("smtp-source", "merge (one fixed letter), log, fsync, pipelining", _smtp_source, 4000),
    Sender("nodemailer", "log, fsync, pipelining past DATA; its merge is a replaced word", _nodemailer, 800),
    Sender("aiosmtplib", "log, fsync, pipelining; its merge is a replaced word", _python("pooled_aiosmtplib.py"), 250),
    Sender(
        "mailmerge",
        "log, fsync, pipelining, a second connection, a second letter on one",
        _python("mailmerge_command.py"),
        250,
        pool=False,
    ),
)


WITHOUT_LEDGER: Final = Sender("no ledger", "log, fsync; after a crash it would know nothing", _without_ledger, 1000)


@dataclass(frozen=True)
class Run:
    """One run of one sender.

    `seconds` and `cpu` are of sending: from just before the first connection to the last outcome. `wall` and
    `cpu_whole` are of the whole process, from its start to its end, with all that it does before and after.
    """

    letters: int
    seconds: float
    cpu: float
    wall: float
    cpu_whole: float
    peak: int
    told: dict[str, Any]

    @property
    def rate(self) -> float:
        """Letters a second while sending."""
        return self.letters / self.seconds

    @property
    def whole_rate(self) -> float:
        """Letters a second over the whole life of the process."""
        return self.letters / self.wall


def start(sender: Sender, folder: Path, job: Job, content: Content) -> Run:
    """Run one sender against whoever listens at the job's port. Raises BenchmarkFailed."""
    argv = sender.prepare(folder, job, content)
    found = measure(argv, folder)
    told = dict(found.told)
    if told.get("letters", job.letters) != job.letters:
        raise BenchmarkFailed(f"{sender.name} says it sent {told['letters']} letters of {job.letters}")
    seconds, cpu = told.get("seconds", found.wall), told.get("cpu", found.cpu)  # smtp-source tells neither
    return Run(job.letters, seconds, cpu, found.wall, found.cpu, found.peak, told)


def sample(sender: Sender, folder: Path, content: Content, *, report: bool) -> bytes:
    """The one letter that this sender writes, as it arrives; lines end in LF."""
    with sink(keep=True) as receiver:
        start(sender, folder, Job(1, receiver.port, 1, report), content)
    letters = receiver.kept
    if len(letters) != 1:
        raise BenchmarkFailed(f"{sender.name} was to send one letter and sent {len(letters)}")
    return letters[0]


def first_letter(folder: Path, *, report: bool) -> Content:
    """What all others write is taken from our own first letter."""
    return content_of(sample(SENDERS[0], folder, Content("", "", {}, "", "", "", "", b""), report=report))
