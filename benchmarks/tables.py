"""Figures as Markdown, which reads well on a terminal too, and as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.alone import Growth, Paper, Recovery, Signing, Starts
from benchmarks.race import Lane, Result, Spread

MEGA = 1e6


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns set to the same width; figures to the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    right = [column > 0 and lines[-1][column][:1].isdigit() for column in range(len(head))]

    def row(cells: Sequence[str]) -> str:
        pairs = zip(cells, widths, right, strict=True)
        return "| " + " | ".join(cell.rjust(width) if far else cell.ljust(width) for cell, width, far in pairs) + " |"

    rules = ("-" * (width + 1) + (":" if far else "-") for width, far in zip(widths, right, strict=True))
    return "\n".join([row(lines[0]), f"|{'|'.join(rules)}|", *map(row, lines[1:])])


def figure(number: float) -> str:
    """Three digits that count, thousands set apart."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def spread(found: Spread) -> str:
    return f"{figure(found.low)}–{figure(found.high)}"


def race_table(result: Result) -> str:
    """One workload: who, how fast, how we compare, at what cost."""
    ours = result.lanes[0]
    rows = [_lane(result, lane, ours) for lane in result.lanes]
    far = ("round trips",) if result.workload.milliseconds else ()
    cost = ("CPU ms", "memory MB", "octets", "does not do")
    head = ("", "letters/s", "spread", "ours is", *far, "whole run", "ours is", *cost)
    title = result.workload.title
    return f"### {title[0].upper()}{title[1:]}\n\n{table(head, rows)}"


def _lane(result: Result, lane: Lane, ours: Lane) -> tuple[str, ...]:
    def times(*, whole: bool) -> str:
        return "–" if lane is ours else f"{figure(result.ratio(lane, whole=whole).median)}×"

    trips = result.round_trips(lane)
    return (
        lane.sender.name,
        figure(lane.rate.median),
        spread(lane.rate),
        times(whole=False),
        *(() if trips is None else (figure(trips),)),
        figure(lane.whole_rate.median),
        times(whole=True),
        figure(lane.cpu.median * 1e3),
        figure(lane.peak.median / MEGA),
        f"{lane.octets:,}",
        lane.sender.lacks,
    )


def connections_table(results: Sequence[Result]) -> str:
    """Letters/s of each sender over more and more connections."""
    head = ("connections", *(lane.sender.name for lane in results[0].lanes))
    rows = [(str(r.workload.connections), *(figure(lane.rate.median) for lane in r.lanes)) for r in results]
    return f"### Small letters over more connections, letters/s\n\n{table(head, rows)}"


def ledger_table(results: Sequence[Result]) -> str:
    """With the ledger and without, and what it costs."""
    rows = []
    for result in results:
        ours, without = result.lanes
        what = f"{result.workload.title}, {result.workload.connections} connections"
        slower = Spread.of([1 - 1 / ratio for ratio in _ratios(without, ours)])
        cost = f"{slower.median * 100:.0f} %"
        rows.append((what, figure(ours.rate.median), figure(without.rate.median), cost, figure(ours.cpu.median * 1e3)))
    head = ("", "letters/s", "without ledger", "slower by", "CPU ms")
    return f"### What the ledger costs\n\n{table(head, rows)}"


def _ratios(above: Lane, below: Lane) -> list[float]:
    return [a.rate / b.rate for a, b in zip(above.runs, below.runs, strict=True)]


def growth_table(found: Sequence[Growth]) -> str:
    """Longer and longer lists."""
    head = ("recipients", "read and proved/s", "sealed/s", "planned/s", "sent/s", "CPU ms", "first letter s",
            "after sealing s", "planning MB", "memory MB")  # fmt: skip
    rows = [
        (
            f"{one.letters:,}",
            *(figure(rate) for rate in (one.planned, one.sealed, one.ready, one.sent)),
            figure(one.cpu * 1e3),
            figure(one.first_letter),
            figure(one.first_of_run),
            figure(one.peak_of_planning / MEGA),
            figure(one.peak / MEGA),
        )
        for one in found
    ]
    return f"### Longer lists: small letters, ours alone\n\n{table(head, rows)}"


def starts_table(found: Starts) -> str:
    """How soon a command is done."""
    rows = [
        (name, f"{one.median * 1e3:.0f}", f"{one.low * 1e3:.0f}–{one.high * 1e3:.0f}")
        for name, one in (
            ("python -c ''", found.interpreter),
            ("dispatcher --help", found.help),
            (f"dispatcher status ({found.letters:,} letters)", found.status),
        )
    ]
    return f"### Commands that only show, warm\n\n{table(('', 'ms', 'spread'), rows)}"


def recovery_table(found: Sequence[Recovery]) -> str:
    """How soon the first letter leaves after a crash."""
    head = ("letters", "since the ledger was opened, s", "since the command began, s", "memory MB")
    rows = [
        (f"{one.letters:,}", figure(one.since_ledger), figure(one.since_start), figure(one.peak / MEGA))
        for one in found
    ]
    return f"### The first letter after a kill -9\n\n{table(head, rows)}"


def signing_table(found: Sequence[Signing]) -> str:
    """What signatures cost."""
    head = ("", "ms a letter", "spread", "CPU ms", "octets more")
    rows = [
        (
            one.way,
            figure(one.seconds.median * 1e3),
            f"{figure(one.seconds.low * 1e3)}–{figure(one.seconds.high * 1e3)}",
            figure(one.cpu * 1e3),
            figure(one.octets),
        )
        for one in found
    ]
    return f"### Signing a letter with a 200 KB report\n\n{table(head, rows)}"


def paper_table(found: Sequence[Paper]) -> str:
    """How long printing takes."""
    head = ("", "s", "spread", "CPU s", "memory MB", "PDF MB")
    rows = [
        (
            one.title,
            figure(one.seconds.median),
            f"{figure(one.seconds.low)}–{figure(one.seconds.high)}",
            figure(one.cpu),
            figure(one.peak / MEGA),
            figure(one.octets / MEGA),
        )
        for one in found
    ]
    return f"### The founding campaign on paper\n\n{table(head, rows)}"


def as_data(result: Result) -> dict[str, Any]:
    """One workload's figures, for JSON."""
    lanes = [_lane_data(result, lane) for lane in result.lanes]
    return {**asdict(result.workload), "senders": lanes}


def _lane_data(result: Result, lane: Lane) -> dict[str, Any]:
    return {
        "name": lane.sender.name,
        "does_not_do": lane.sender.lacks,
        "letters": lane.runs[0].letters,
        "octets": lane.octets,
        "letters_per_second": asdict(lane.rate),
        "whole_run_letters_per_second": asdict(lane.whole_rate),
        "ours_over_theirs": asdict(result.ratio(lane)),
        "whole_run_ours_over_theirs": asdict(result.ratio(lane, whole=True)),
        "round_trips_per_letter": result.round_trips(lane),
        "cpu_seconds_per_letter": asdict(lane.cpu),
        "peak_memory": asdict(lane.peak),
    }
