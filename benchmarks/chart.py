"""Letters a second by workload, as an SVG: a panel a workload, a bar a sender, each panel on its own scale from nought.

A thin line on each bar spans the slowest and the fastest round. The figures are in its text too, for those who do not
see it.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks.race import Lane, Result
from benchmarks.senders import OURS
from benchmarks.tables import figure

_WIDTH: Final = 760
_LEFT: Final = 110
_RIGHT: Final = 90
_BAR: Final = 18
_STEP: Final = 24
_HEAD: Final = 34
_TOP: Final = 44
_OURS: Final = "#0b6e4f"
_THEIRS: Final = "#8a94a6"


def chart(results: Sequence[Result]) -> str:
    """The whole picture."""
    panels, top = [], _TOP
    for result in results:
        panels.append(_panel(result, top))
        top += _HEAD + _STEP * len(result.lanes) + 10
    words = "; ".join(f"{r.workload.title}: {', '.join(map(_words, r.lanes))}" for r in results)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}"',
            ' role="img" aria-labelledby="title desc" font-family="system-ui, sans-serif" font-size="13">',
            '<title id="title">Letters a second by workload: dispatcher and its peers</title>',
            f'<desc id="desc">{escape(words)}.</desc>',
            f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>',
            '<text x="16" y="26" font-size="16" font-weight="600" fill="#1b1f24">Letters a second, by workload</text>',
            *panels,
            "</svg>\n",
        ]
    )


def _words(lane: Lane) -> str:
    return f"{lane.sender.name} {figure(lane.rate.median)}"


def _panel(result: Result, top: int) -> str:
    longest = max(lane.rate.high for lane in result.lanes)
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    title = escape(result.workload.title)
    lines = [f'<text x="16" y="{top + 22}" font-weight="600" fill="#1b1f24">{title}</text>']
    for number, lane in enumerate(result.lanes):
        lines += _bar(lane, top + _HEAD + _STEP * number, scale)
    return "\n".join(lines)


def _bar(lane: Lane, top: int, scale: float) -> list[str]:
    ours = lane.sender.name == OURS
    weight = ' font-weight="600"' if ours else ""
    rate = lane.rate
    low, high = (_LEFT + value * scale for value in (rate.low, rate.high))
    middle = top + _BAR / 2
    length, colour = max(1.0, rate.median * scale), _OURS if ours else _THEIRS
    return [
        f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end" fill="#1b1f24"{weight}>{lane.sender.name}</text>',
        f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="#1b1f24" stroke-width="1.5"/>',
        f'<text x="{high + 8:.1f}" y="{top + 14}" fill="#1b1f24"{weight}>{figure(rate.median)}</text>',
    ]
