"""docs/benchmarks.md: its text stands there; the figures of each part, between its two marks, are put in by a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.measured import ROOT, BenchmarkFailed

PAGE: Final = ROOT / "docs" / "benchmarks.md"
PICTURE: Final = "benchmarks.svg"


def write_page(parts: Mapping[str, str], picture: str, page: Path = PAGE) -> None:
    """Put the figures of a run in place of those that are there; parts that were not measured stay. The picture, if
    there is one, goes beside the page. Raises BenchmarkFailed if the page has lost its marks.
    """
    text = page.read_text(encoding="utf-8")
    for name, figures in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise BenchmarkFailed(f"{page.name} has lost its marks {begin.strip()} and {end.strip()}; put them back")
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = f"{before}{begin}{figures}\n{end}{after}"
    page.write_text(text, encoding="utf-8")
    if picture:
        (page.parent / PICTURE).write_text(picture, encoding="utf-8")


def facts(machine: Mapping[str, Any]) -> str:
    """What the figures were taken on, in a few sentences."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"{machine['date']}: {machine['rounds']} rounds of {machine['seconds']} s a sender; {machine['cores']} cores "
        f"({machine['processor']}), {machine['system']}; the ledger on {machine['file_system']}, where one page is "
        f"synced in {machine['fdatasync_ms']} ms. {versions}."
    )
