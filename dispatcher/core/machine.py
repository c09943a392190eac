"""The machine, as preflight sees it: versions with known holes, the clock, room for the ledger, who may read it.

Which holes there are is a short table of those that touch what is done here: TLS, mail, templates and the ledger. A
distribution may have mended an old version without giving it another number; so an old one is a warning, not a problem.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dispatcher.core.preflight import Line, Part, ok, problem, warning

LETTER_OF_LEDGER: Final = 6_000
"""Octets that a letter with its attempts may take in the ledger; attachments are there once besides."""
_SPARE: Final = 50_000_000
"""Octets that are wanted in any case: the ledger's log, the reserve file, what else goes on."""
_SLOW: Final = timedelta(minutes=2)

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hole:
    """A fault in versions from `since` until before `mended`."""

    program: str
    since: Version
    mended: Version
    what: str


_BREAKS: Final = "its mail library lets line breaks into headers"
# By the programs' own advisories; those of Python in the PSF's records, of libraries in the GitHub Advisory Database.
HOLES: Final = (
    Hole("Python", (3, 11), (3, 11, 10), f"{_BREAKS} (CVE-2024-6923)"),
    Hole("Python", (3, 12), (3, 12, 5), f"{_BREAKS} (CVE-2024-6923)"),
    Hole("Python", (3, 11), (3, 11, 15), f"{_BREAKS} that are written as octets (CVE-2026-1299)"),
    Hole("Python", (3, 12), (3, 12, 13), f"{_BREAKS} that are written as octets (CVE-2026-1299)"),
    Hole("Python", (3, 13), (3, 13, 12), f"{_BREAKS} that are written as octets (CVE-2026-1299)"),
    Hole("Python", (3, 14), (3, 14, 3), f"{_BREAKS} that are written as octets (CVE-2026-1299)"),
    Hole("OpenSSL", (3, 0), (3, 0, 7), "certificates can overflow its memory (CVE-2022-3602)"),
    Hole("OpenSSL", (3, 0), (3, 0, 8), "certificates can make it read foreign memory (CVE-2023-0286)"),
    Hole("OpenSSL", (4, 0), (4, 0, 3), "certificates that two connections see at once can crash it (CVE-2026-84783)"),
    Hole("OpenSSL", (1,), (3,), "it gets no public mends any more"),
    Hole("Jinja2", (0,), (3, 1, 5), "templates can run any program (CVE-2024-56326, CVE-2024-56201)"),
    Hole("Jinja2", (0,), (3, 1, 6), "templates can run any program (CVE-2025-27516)"),
    Hole("aiosmtplib", (0,), (5, 1, 1), "an address can give the relay orders (GHSA-v3q9-hj7j-63hq)"),
    Hole("aiosmtplib", (0,), (5, 1, 2), "whoever is in between can answer for the relay (GHSA-vxj7-4xrp-5vr4)"),
    Hole("aiosmtpd", (0,), (1, 4, 5), "it can be made to take one letter for two (CVE-2024-27305)"),
    Hole("aiosmtpd", (0,), (1, 4, 6), "whoever is in between can give it orders (CVE-2024-34083)"),
)
LIBRARIES: Final = tuple(dict.fromkeys(hole.program for hole in HOLES if hole.program not in ("Python", "OpenSSL")))
_NOT_HERE: Final = (
    ((3, 50, 2), "CVE-2025-6965 needs others' SQL, and none is run"),
    ((3, 51, 3), "the WAL-reset bug needs two programs that write, and here one does"),
)
"""Holes of SQLite that cannot be met here: before which version, and why not."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts. `last` is the newest moment in the ledger; `free` octets of disk, None if nobody can tell.

    `libraries` are those of LIBRARIES; one without a version could not be asked.
    `loose` are files that others on this machine may read or write, each with how to close it.
    """

    python: Version
    sqlite: Version
    openssl: Version
    libraries: Mapping[str, Version]
    now: datetime
    last: datetime | None
    free: int | None
    needed: int
    loose: tuple[tuple[str, str], ...] = ()


def needed(letters: int, attached: int) -> int:
    """Octets of disk that a run of so many letters may take."""
    return letters * LETTER_OF_LEDGER + attached + _SPARE


def machine_lines(machine: Machine) -> Iterator[Line]:
    """How it stands with this machine."""
    yield _program("Python", machine.python)
    yield _program("OpenSSL", machine.openssl)
    harmless = "".join(f"; {why}" for before, why in _NOT_HERE if machine.sqlite < before)
    yield ok(Part.MACHINE, "SQLite", f"{_dotted(machine.sqlite)}{harmless}")
    for name, version in machine.libraries.items():
        yield _program(name, version)
    yield _clock(machine.now, machine.last)
    yield _disk(machine.free, machine.needed)
    yield _rights(machine.loose)


def _program(name: str, version: Version) -> Line:
    if not version:
        todo = "install it anew: pip install --force-reinstall " + name
        return warning(Part.MACHINE, name, "unknown: it does not say which version it is", todo)
    holes = [hole for hole in HOLES if hole.program == name and hole.since <= version < hole.mended]
    if not holes:
        return ok(Part.MACHINE, name, _dotted(version))
    mended = _dotted(max(hole.mended for hole in holes))
    what = f"{_dotted(version)}: {'; '.join(hole.what for hole in holes)}"
    todo = f"update to {mended} or later, unless your distribution has mended it under the old number"
    return warning(Part.MACHINE, name, what, todo)


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _clock(now: datetime, last: datetime | None) -> Line:
    shown = f"{now.astimezone():%Y-%m-%d %H:%M %Z}"
    if last is None or now >= last - _SLOW:
        return ok(Part.MACHINE, "clock", shown)
    what = f"{shown}, but the ledger knows of {last.astimezone():%Y-%m-%d %H:%M}: this clock is slow"
    return problem(Part.MACHINE, "clock", what, "set the clock: letters carry its date, and the pace goes by it")


def _disk(free: int | None, wanted: int) -> Line:
    if free is None:
        todo = f"see by hand that there are {wanted / 1e9:,.1f} GB"
        return warning(Part.MACHINE, "disk", "unknown: the system does not say how much room there is", todo)
    what = f"{free / 1e9:,.1f} GB free; the run may take {wanted / 1e9:,.1f} GB"
    if free < wanted:
        return problem(Part.MACHINE, "disk", what, "make room: without a ledger no letter leaves")
    return ok(Part.MACHINE, "disk", what)


def _rights(loose: tuple[tuple[str, str], ...]) -> Line:
    if not loose:
        return ok(Part.MACHINE, "file rights", "the ledger and what is secret are closed to others")
    what = f"others on this machine may get at: {', '.join(name for name, _ in loose)}"
    return warning(Part.MACHINE, "file rights", what, "; ".join(f"run: {how}" for _, how in loose))
