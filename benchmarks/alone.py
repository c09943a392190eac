"""Ours alone: lists that grow, how fast a command begins, the first letter after a crash, signatures, and paper."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.measured import Measured, measure
from benchmarks.race import Race, Spread
from benchmarks.receiver import sink
from benchmarks.workload import Job, write_campaign

_LARGE: Final = 30_000
"""From here on a list is measured once: the run is long enough to be its own average."""
_STARTS: Final = 11
_BEFORE_THE_CRASH: Final = 50
_SIGNED: Final = 300
_PRINTED: Final = (
    ("193 letters, one file", "193"),
    ("193 letters, a file each", "193", "--each"),
    ("193 letters, the report behind each", "193", "--behind"),
    ("1,000 letters, one file", "1000"),
)


@dataclass(frozen=True)
class Growth:
    """One length of list: letters/s planned and sealed, seconds to the first letter, letters/s sent, CPU, memory.

    `planned` is reading, merging and proving; `sealed` merging again and writing the plan; `ready` both together.
    `first_letter` is since the process began, `first_of_run` since the plan was sealed. Memory is the peak in octets
    of the whole process, `peak_of_planning` that before it sent.
    """

    letters: int
    rounds: int
    planned: float
    sealed: float
    ready: float
    first_letter: float
    first_of_run: float
    sent: float
    cpu: float
    peak_of_planning: int
    peak: int


def grow(race: Race, sizes: Sequence[int]) -> list[Growth]:
    """Whole runs on longer and longer lists of small letters; the middle one of each round's figures."""
    found = []
    for letters in sizes:
        rounds = 1 if letters >= _LARGE else race.rounds
        told = [_sent(race.place(), letters) for _ in range(rounds)]
        found.append(_growth(letters, told))
        race.say(f"{letters:,} recipients: {found[-1].ready:,.0f} letters/s planned, {found[-1].sent:,.0f} sent")
    return found


def _sent(place: Path, letters: int, *options: str, good: tuple[int, ...] = (0,)) -> dict[str, Any]:
    with sink() as receiver:
        folder = write_campaign(place, Job(letters, receiver.port))
        told = dict(_ours(folder, *options, good=good).told)
    shutil.rmtree(place)
    return told


def _ours(folder: Path, *options: str, good: tuple[int, ...] = (0,)) -> Measured:
    return measure((sys.executable, "-m", "benchmarks.ours", *options, str(folder)), folder, good=good)


def _growth(letters: int, told: Sequence[dict[str, Any]]) -> Growth:
    def middle(figure: Callable[[dict[str, Any]], float]) -> float:
        return Spread.of([figure(one) for one in told]).median

    def seconds(*phases: str) -> float:
        return middle(lambda one: sum(one["phases"][phase]["seconds"] for phase in phases))

    return Growth(
        letters,
        len(told),
        planned=letters / seconds("plan"),
        sealed=letters / seconds("seal"),
        ready=letters / seconds("plan", "seal"),
        first_letter=middle(lambda one: one["first_letter"]["of the process"]),
        first_of_run=middle(lambda one: one["first_letter"]["of the run"]),
        sent=letters / middle(lambda one: one["seconds"]),
        cpu=middle(lambda one: one["cpu"]) / letters,
        peak_of_planning=int(middle(lambda one: one["phases"]["seal"]["peak"])),
        peak=int(middle(lambda one: one["phases"]["close"]["peak"])),
    )


@dataclass(frozen=True)
class Starts:
    """Seconds of a command from its start to its end, warm; the interpreter alone beside them."""

    interpreter: Spread
    help: Spread
    status: Spread
    letters: int


def starts(race: Race, letters: int = 1000) -> Starts:
    """`dispatcher --help`, and `dispatcher status` where so many letters were sent."""
    with sink() as receiver:
        folder = write_campaign(race.place(), Job(letters, receiver.port))
        _ours(folder)
    command = (sys.executable, "-m", "dispatcher")
    argvs = ((sys.executable, "-c", ""), (*command, "--help"), (*command, "status"))
    walls: list[list[float]] = [[], [], []]
    for number in range(_STARTS + 1):
        for here, argv in zip(walls, argvs, strict=True):
            wall = measure(argv, folder).wall
            if number:  # the first time is not warm
                here.append(wall)
    interpreter, shown, counted = map(Spread.of, walls)
    found = Starts(interpreter, shown, counted, letters)
    race.say(f"dispatcher --help {found.help.median * 1e3:.0f} ms, status {found.status.median * 1e3:.0f} ms")
    return found


@dataclass(frozen=True)
class Recovery:
    """After a kill -9 in the middle of a run of so many letters: seconds until the first letter of the next run has
    its outcome, since its process began, and since it opened the ledger (which is where it recovers).
    """

    letters: int
    since_start: float
    since_ledger: float
    peak: int


def recover(race: Race, sizes: Sequence[int]) -> list[Recovery]:
    """One crash and one restart for each length of list."""
    found = []
    for letters in sizes:
        with sink() as receiver:
            folder = write_campaign(race.place(), Job(letters, receiver.port))
            _ours(folder, "--crash-after", str(_BEFORE_THE_CRASH), good=(-9,))
            told = _ours(folder, "--stop-after", "1").told
        shutil.rmtree(folder)
        first, peak = told["first_letter"], told["phases"]["close"]["peak"]
        found.append(Recovery(letters, first["of the process"], first["of the ledger"], peak))
        race.say(f"{letters:,} letters, after a crash: {found[-1].since_ledger:.2f} s to the first letter")
    return found


@dataclass(frozen=True)
class Signing:
    """One way to sign a letter with a 200 KB report: seconds, CPU seconds, and octets that it has more for it."""

    way: str
    seconds: Spread
    cpu: float
    octets: float


def signs(race: Race) -> list[Signing]:
    """Each way to sign, one after the other in a process, as often as there are rounds."""
    rounds = []
    for _ in range(race.rounds):
        folder = write_campaign(race.place(), Job(_SIGNED, 9, report=True))
        argv = (sys.executable, "-m", "benchmarks.signing", str(folder), str(_SIGNED))
        rounds.append(measure(argv, folder).told["ways"])
        shutil.rmtree(folder)
    found = []
    for told in zip(*rounds, strict=True):
        seconds, cpu = ([one[name] / one["letters"] for one in told] for name in ("seconds", "cpu"))
        found.append(Signing(told[0]["way"], Spread.of(seconds), Spread.of(cpu).median, told[0]["octets"]))
        race.say(f"{found[-1].way}: {found[-1].seconds.median * 1e3:.2f} ms a letter")
    return found


@dataclass(frozen=True)
class Paper:
    """One way to print: seconds from merged letters to PDF, CPU seconds of all threads, peak memory, size; octets."""

    title: str
    seconds: Spread
    cpu: float
    peak: int
    octets: int


def prints(race: Race) -> list[Paper]:
    """The founding campaign's letters, each way in a process of its own, as often as there are rounds."""
    found = []
    for title, *words in _PRINTED:
        place = race.place()
        place.mkdir(parents=True)
        argv = (sys.executable, "-m", "benchmarks.printing", *words)
        told = [measure(argv, place).told for _ in range(race.rounds)]
        middle = {name: Spread.of([float(one[name]) for one in told]) for name in ("seconds", "cpu", "peak", "octets")}
        figures = (int(middle[name].median) for name in ("peak", "octets"))
        found.append(Paper(title, middle["seconds"], middle["cpu"].median, *figures))
        race.say(f"{title}: {found[-1].seconds.median:.2f} s")
    return found
