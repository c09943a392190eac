"""The overview's drawings: what is counted is what is drawn, whatever the numbers and names are."""

import math
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.core.reading import STANDINGS
from dispatcher.web.review.charts import HAIR, TimeChart, bar, time_chart
from dispatcher.web.review.overview import bars

COUNTS = st.dictionaries(st.sampled_from(STANDINGS), st.integers(0, 10**9))
SECONDS = st.dictionaries(
    st.integers(0, 4_000_000_000),
    st.dictionaries(st.sampled_from(["accepted", "deferred", "failed", "unknown"]), st.integers(1, 10**6), min_size=1),
    min_size=1,
    max_size=30,
)
NEAR = 1e-9
CROWDED = {"accepted": 9934, "failed": 61, "unknown": 1, "deferred": 1, "waiting": 1, "posted": 1, "printed": 1}
"""The second is thick enough for a hair until the others have taken theirs."""


@given(COUNTS, st.integers(0, 10**10))
@example(CROWDED, 10_000)
def test_a_bar_is_as_long_as_its_count_and_its_parts_fill_it(counts: dict[str, int], most: int) -> None:
    parts, total = bar(counts, most), sum(counts.values())
    assert {part.outcome: part.count for part in parts} == {name: n for name, n in counts.items() if n}
    assert [part.outcome for part in parts] == [name for name in STANDINGS if counts.get(name)]
    length = sum(part.size for part in parts)
    assert all(math.isfinite(part.start) and math.isfinite(part.size) for part in parts)
    assert all(part.size > 0 and part.start >= 0 and part.start + part.size <= 1 + NEAR for part in parts)
    for one, next_one in pairwise(parts):
        assert math.isclose(one.start + one.size, next_one.start, abs_tol=NEAR)
    if parts:
        assert math.isclose(length, max(total / max(most, total), HAIR * len(parts)), abs_tol=NEAR)


@given(COUNTS)
@example(CROWDED)
def test_what_is_there_is_seen_and_what_is_more_is_no_shorter(counts: dict[str, int]) -> None:
    parts = bar(counts, sum(counts.values()))
    assert all(part.size >= HAIR - NEAR for part in parts)
    for one in parts:
        for other in parts:
            assert one.count <= other.count or one.size >= other.size - NEAR


def test_parts_that_need_no_help_are_drawn_to_scale() -> None:
    sizes = {part.outcome: round(part.size, 6) for part in bar({"accepted": 70, "failed": 20, "unknown": 10}, 200)}
    assert sizes == {"accepted": 0.35, "failed": 0.1, "unknown": 0.05}


@given(SECONDS)
def test_every_attempt_stands_in_one_column_of_the_time_that_it_ended_in(seconds: dict[int, dict[str, int]]) -> None:
    chart = time_chart(seconds)
    assert isinstance(chart, TimeChart)
    starts = [int(column.since.timestamp()) for column in chart.columns]
    assert starts == sorted(set(starts))
    for start, column in zip(starts, chart.columns, strict=True):
        for outcome in ("accepted", "deferred", "failed", "unknown"):
            inside = (found.get(outcome, 0) for second, found in seconds.items() if 0 <= second - start < chart.step)
            assert column.of(outcome) == sum(inside)
        assert math.isfinite(column.start)
        assert column.size > 0
        assert column.start >= 0
        assert column.start + column.size <= 1 + NEAR
    assert sum(sum(part.count for part in column.parts) for column in chart.columns) == sum(
        sum(found.values()) for found in seconds.values()
    )
    assert len(chart.columns) <= 48


@given(SECONDS)
def test_the_marks_are_on_the_chart_and_say_where_they_are(seconds: dict[int, dict[str, int]]) -> None:
    chart = time_chart(seconds)
    assert chart
    top = int(chart.levels[-1].text)
    assert top >= max(sum(part.count for part in column.parts) for column in chart.columns)
    assert 2 <= len(chart.levels) <= 6
    assert all(math.isclose(level.at, int(level.text) / top) for level in chart.levels)
    assert len(chart.moments) <= 9
    assert all(0 <= moment.at < 1 for moment in chart.moments)


def test_a_column_is_as_high_as_the_number_beside_it() -> None:
    at = int(datetime(2026, 3, 4, 13, 50, tzinfo=UTC).timestamp())
    chart = time_chart({at: {"accepted": 30}, at + 600: {"accepted": 10, "failed": 10}})
    assert chart
    assert chart.step == 15
    assert [level.text for level in chart.levels] == ["0", "10", "20", "30"]
    assert [round(sum(part.size for part in column.parts), 6) for column in chart.columns] == [1.0, round(2 / 3, 6)]
    assert [(mark.text, mark.day) for mark in chart.moments[:2]] == [("13:50", "2026-03-04"), ("13:52", "")]


def test_no_attempt_is_no_chart() -> None:
    assert time_chart({}) is None


@given(
    st.dictionaries(st.text(max_size=3), st.dictionaries(st.sampled_from(STANDINGS), st.integers(1, 99), min_size=1))
)
def test_bars_add_up_however_many_there_are(counts: dict[str, dict[str, int]]) -> None:
    rows = bars(counts)
    if not any(counts):
        assert not rows
        return
    assert sum(row.total for row in rows) == sum(sum(found.values()) for found in counts.values())
    assert len(rows) <= 12
    assert sum(row.merged or 1 for row in rows) == len(counts)
    assert all(sum(part.size for part in row.parts) <= 1 + NEAR for row in rows)
