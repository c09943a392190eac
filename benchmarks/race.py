"""All senders on one workload, in turns: round after round, each with a fresh receiver, so that whatever else slows the
machine down meets them all. One run of each comes first and is not counted.

Each sender gets as many letters as keep it busy for the time it is given, by what it managed in its first run: a fast
one is not measured over a blink, nor a slow one for minutes. What counts is letters a second.
"""

import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.measured import BenchmarkFailed
from benchmarks.receiver import far_away, sink
from benchmarks.senders import OURS, Run, Sender, first_letter, sample, start
from benchmarks.workload import Content, Job

_FEWEST: Final = 20
_EACH: Final = 10
"""Letters on each connection at least, so that setting it up is a small part of its work."""
_STEP: Final = 20
_FAR: Final = 2
"""Times as long with a far receiver, so that setting up connections stays a small part of it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Workload:
    """What is sent, how far away the receiver is, and over how many connections."""

    name: str
    title: str
    report: bool = False
    milliseconds: int = 0
    connections: int = 10


SMALL: Final = Workload("small", "small letter")
REPORT: Final = Workload("report", "letter with a 200 KB report", report=True)
SMALL_FAR: Final = Workload("small-40ms", "small letter, 40 ms round trip", milliseconds=40)
REPORT_FAR: Final = Workload("report-40ms", "letter with report, 40 ms round trip", report=True, milliseconds=40)
WORKLOADS: Final = (SMALL, REPORT, SMALL_FAR, REPORT_FAR)


@dataclass(frozen=True)
class Spread:
    """The middle of several figures, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        return cls(statistics.median(figures), min(figures), max(figures))


@dataclass
class Lane:
    """One sender's runs, in the order of rounds; `octets` is the size of its letter on the wire."""

    sender: Sender
    octets: int
    runs: list[Run] = field(default_factory=list)

    @property
    def rate(self) -> Spread:
        """Letters a second while sending."""
        return Spread.of([run.rate for run in self.runs])

    @property
    def whole_rate(self) -> Spread:
        """Letters a second over the life of the process."""
        return Spread.of([run.whole_rate for run in self.runs])

    @property
    def cpu(self) -> Spread:
        """CPU seconds a letter while sending."""
        return Spread.of([run.cpu / run.letters for run in self.runs])

    @property
    def peak(self) -> Spread:
        """Peak memory in octets."""
        return Spread.of([run.peak for run in self.runs])


@dataclass(frozen=True)
class Result:
    """All lanes of one workload; ours comes first."""

    workload: Workload
    lanes: tuple[Lane, ...]

    def round_trips(self, lane: Lane) -> float | None:
        """How many round trips a letter costs, its share of connecting included; None where they take no time."""
        if not self.workload.milliseconds:
            return None
        connections = self.workload.connections if lane.sender.pool else 1
        return connections / lane.rate.median / (self.workload.milliseconds / 1000)

    def ratio(self, lane: Lane, *, whole: bool = False) -> Spread:
        """Ours over theirs, letters/s, round by round: what slowed both down in a round is not in it."""
        ours = self.lanes[0]
        if whole:
            return Spread.of([a.whole_rate / b.whole_rate for a, b in zip(ours.runs, lane.runs, strict=True)])
        return Spread.of([a.rate / b.rate for a, b in zip(ours.runs, lane.runs, strict=True)])


@dataclass
class Race:
    """Where runs take place, how long each is, how many rounds there are, and whom to tell how it goes."""

    folder: Path
    rounds: int
    seconds: float
    say: Say
    contents: dict[bool, Content] = field(default_factory=dict)
    _number: int = 0

    def run(self, workload: Workload, senders: Sequence[Sender]) -> Result:
        """All rounds of one workload. Raises BenchmarkFailed if a letter was not taken."""
        content = self.content(report=workload.report)
        lanes = [Lane(sender, self.octets(sender, content, report=workload.report)) for sender in senders]
        if lanes[0].sender.name != OURS:
            raise ValueError("the ratios are ours over theirs")
        counts = [self._fitting(workload, sender, content) for sender in senders]
        self.say(f"{workload.title}; warm")
        for number in range(self.rounds):
            for turn in range(len(lanes)):  # another one begins each round
                here = (turn + number) % len(lanes)
                lanes[here].runs.append(self.once(workload, lanes[here].sender, content, counts[here]))
            rates = ", ".join(f"{lane.sender.name} {lane.runs[-1].rate:,.0f}" for lane in lanes)
            self.say(f"  round {number + 1}: letters/s {rates}")
        return Result(workload, tuple(lanes))

    def content(self, *, report: bool) -> Content:
        """The letter that all write, taken from our own first one."""
        if report not in self.contents:
            self.contents[report] = first_letter(self.place(), report=report)
        return self.contents[report]

    def octets(self, sender: Sender, content: Content, *, report: bool) -> int:
        """The size of this sender's letter on the wire, where each line ends in CRLF."""
        letter = self.sample(sender, content, report=report)
        return len(letter) + letter.count(b"\n")

    def sample(self, sender: Sender, content: Content, *, report: bool) -> bytes:
        """The one letter that this sender writes, as it arrives; lines end in LF."""
        return sample(sender, self.place(), content, report=report)

    def place(self) -> Path:
        """A folder that is not there yet."""
        self._number += 1
        return self.folder / str(self._number)

    def once(self, workload: Workload, sender: Sender, content: Content, letters: int) -> Run:
        """One run against a fresh receiver, which must have taken every letter once."""
        place = self.place()
        with sink() as receiver, far_away(receiver.port, workload.milliseconds) as port:
            run = start(sender, place, Job(letters, port, workload.connections, workload.report), content)
        if receiver.count != letters:
            raise BenchmarkFailed(f"{sender.name}: {letters} letters were to arrive, and {receiver.count} did")
        shutil.rmtree(place)
        return run

    def _fitting(self, workload: Workload, sender: Sender, content: Content) -> int:
        """How many letters keep this sender busy for the time it is given; found by the run that warms up."""
        guess = sender.guess / (5 if workload.report else 1) / (10 if workload.milliseconds else 1)
        fewest = max(_FEWEST, _EACH * workload.connections) if sender.pool else _FEWEST
        run = self.once(workload, sender, content, max(fewest, int(guess * min(1.0, self.seconds))))
        seconds = self.seconds * (_FAR if workload.milliseconds else 1)
        return max(fewest, round(run.rate * seconds / _STEP) * _STEP)
