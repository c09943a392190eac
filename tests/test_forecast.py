"""The forecast: never too early, exact about the quota, and what the ledger's own lease then does."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.forecast import DAY, Forecast, Terms, clock_time, departures, forecast, in_time
from tests.ledger_bench import seal
from tests.pace_contract import drain, to
from tests.test_ledger import SqliteBench

NOW = datetime(2026, 3, 4, 13, 50, tzinfo=UTC)  # a Wednesday
MOMENTS = st.lists(st.timedeltas(timedelta(0), DAY), max_size=12).map(lambda ages: tuple(NOW - age for age in ages))
TERMS = st.builds(
    Terms,
    interval=st.sampled_from([0.0, 0.5, 2.0, 60 / 7, 3600.0]),
    quota=st.none() | st.integers(1, 9),
    used=MOMENTS,
    free=st.just({}) | st.timedeltas(-DAY, DAY).map(lambda ahead: {"": NOW + ahead}),
)
RATED = st.builds(
    Terms,
    interval=st.sampled_from([0.0, 2.0, 60.0]),
    quota=st.none() | st.integers(1, 9),
    used=MOMENTS,
    rates=st.just({"a.example": 3.0, "b.example": 600.0}),
    free=st.just({}) | st.just({"a.example": NOW + timedelta(hours=1)}),
)
LANES = st.dictionaries(
    st.sampled_from([(), ("a.example",), ("b.example",), ("a.example", "b.example")]), st.integers(0, 20)
)


@given(TERMS, st.integers(0, 60))
def test_no_letter_leaves_sooner_than_the_terms_allow_nor_later_than_they_demand(terms: Terms, letters: int) -> None:
    """Each moment is the first that rate, quota and what left before leave free: that makes the forecast exact."""
    moments = list(departures(letters, NOW, terms))
    assert len(moments) == letters
    step, before = timedelta(seconds=terms.interval), sorted(terms.used)
    earlier: datetime | None = None
    for at in moments:
        bounds = [NOW, terms.free.get("", NOW)]
        if earlier is not None:
            bounds.append(earlier + step)
        if terms.quota and len(before) >= terms.quota:
            bounds.append(before[-terms.quota] + DAY)
        assert at == max(bounds)
        before.append(at)
        earlier = at


@given(TERMS, st.integers(0, 60))
def test_no_24_hours_hold_more_than_the_quota(terms: Terms, letters: int) -> None:
    moments = list(departures(letters, NOW, terms))
    if terms.quota:
        for start in moments:
            held = [at for at in (*terms.used, *moments) if start - DAY < at <= start]
            assert len(held) <= max(terms.quota, sum(at > start - DAY for at in terms.used))


@given(RATED, LANES, st.sampled_from([(), ("a.example",), ("b.example",)]))
def test_more_letters_are_never_done_sooner(
    terms: Terms, lanes: dict[tuple[str, ...], int], lane: tuple[str, ...]
) -> None:
    fewer, more = forecast(lanes, NOW, terms), forecast({**lanes, lane: lanes.get(lane, 0) + 1}, NOW, terms)
    if fewer:
        assert more
        assert more.done_at >= fewer.done_at
        assert fewer.first <= fewer.letters
        assert (fewer.resumes_at is None) == (fewer.first == fewer.letters)


@given(RATED, LANES, st.timedeltas(-DAY, 3 * DAY))
def test_in_time_agrees_with_the_forecast(terms: Terms, lanes: dict[tuple[str, ...], int], ahead: timedelta) -> None:
    found = forecast(lanes, NOW, terms)
    count = in_time(lanes, NOW, terms, NOW + ahead)
    assert 0 <= count <= sum(lanes.values())
    if found and found.done_at >= NOW + ahead:
        assert count < found.letters
    if found and count < found.letters:
        assert found.done_at >= NOW + ahead
    assert in_time(lanes, NOW, terms, NOW + ahead + timedelta(hours=1)) >= count


def test_nothing_to_say_without_rate_and_quota() -> None:
    assert forecast({(): 412}, NOW, Terms()) is None
    assert forecast({(): 0}, NOW, Terms(interval=2.0)) is None
    assert forecast({}, NOW, Terms(quota=5)) is None
    assert forecast({(): 412}, NOW, Terms(rates={"a.example": 3.0})) is None


def test_412_letters_at_30_a_minute_and_300_a_day() -> None:
    found = forecast({(): 412}, NOW, Terms(interval=2.0, quota=300))
    last = NOW + DAY + timedelta(seconds=111 * 2)
    assert found == Forecast(412, 300, NOW + DAY, last)
    assert clock_time(last, NOW) == "Thursday 13:54"


def test_what_is_used_already_is_not_there_today() -> None:
    used = tuple(NOW - timedelta(hours=h) for h in range(3))
    found = forecast({(): 10}, NOW, Terms(quota=5, used=used))
    assert found == Forecast(10, 2, NOW - timedelta(hours=2) + DAY, NOW + 2 * DAY)


def test_a_quota_that_is_used_up_lets_nothing_leave_now() -> None:
    used = (NOW - timedelta(hours=1),) * 7  # a quota that was larger then
    found = forecast({(): 1}, NOW, Terms(quota=5, used=used))
    assert found == Forecast(1, 0, NOW + timedelta(hours=23), NOW + timedelta(hours=23))


def test_the_slowest_domain_decides() -> None:
    terms = Terms(interval=1.0, rates={"slow.example": 60.0, "quick.example": 2.0})
    lanes = {(): 100, ("slow.example",): 9, ("quick.example",): 30, ("quick.example", "slow.example"): 2}
    found = forecast(lanes, NOW, terms)
    assert found == Forecast(141, 141, None, NOW + timedelta(seconds=600), "slow.example")
    assert in_time(lanes, NOW, terms, NOW + timedelta(seconds=600)) == 140


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (NOW, "today 13:50"),
        (NOW + timedelta(microseconds=1), "today 13:51"),
        (NOW + timedelta(minutes=20), "today 14:10"),
        (NOW + timedelta(hours=11), "Thursday 00:50"),
        (NOW + timedelta(hours=10, minutes=9, seconds=30), "Thursday 00:00"),
        (NOW + timedelta(days=6), "Tuesday 13:50"),
        (NOW + timedelta(days=7), "2026-03-11 13:50"),
        (NOW + timedelta(days=400), "2027-04-08 13:50"),
    ],
)
def test_moments_in_words(moment: datetime, words: str) -> None:
    assert clock_time(moment, NOW) == words


@settings(max_examples=25)
@given(
    letters=st.integers(1, 25),
    interval=st.sampled_from([0.0, 0.7, 2.0, 90.0]),
    quota=st.none() | st.integers(1, 8),
    letters_a_run=st.sampled_from([3, 10**9]),
    earlier=st.integers(0, 6),
)
def test_the_ledger_leases_as_foreseen(
    tmp_path_factory: pytest.TempPathFactory, letters: int, interval: float, quota: int | None, letters_a_run: int,
    earlier: int,
) -> None:  # fmt: skip
    """The same moments, letter by letter, on a clock that leaps; what an earlier campaign used up included."""
    bench = SqliteBench(tmp_path_factory.mktemp("bench"))
    seal(bench, to(*["x.example"] * earlier))
    used = [left.at for left in drain(bench, interval=interval, quota=quota)]
    bench.time.forward(3600)
    free = {"": used[-1] + timedelta(seconds=interval)} if used else {}
    foreseen = departures(letters, bench.time.at, Terms(interval, quota, tuple(used), free=free))
    seal(bench, [*to(*["x.example"] * earlier), *to(*["x.example"] * (earlier + letters))[earlier:]])
    left = [left.at for left in drain(bench, letters_a_run=letters_a_run, interval=interval, quota=quota)]
    assert left == list(foreseen)


@settings(max_examples=25)
@given(domains=st.lists(st.sampled_from(["a", "b", "free"]), min_size=1, max_size=40))
def test_domains_are_done_no_sooner_than_foreseen_and_little_later(
    tmp_path_factory: pytest.TempPathFactory, domains: list[str]
) -> None:
    bench = SqliteBench(tmp_path_factory.mktemp("bench"))
    rates = {"a": 8.0, "b": 30.0}
    seal(bench, to(*domains))
    lanes: Counter[tuple[str, ...]] = Counter((name,) if name in rates else () for name in domains)
    found = forecast(lanes, bench.time.at, Terms(2.0, rates=rates))
    last = drain(bench, interval=2.0, domains=rates)[-1].at
    assert found
    assert found.done_at <= last <= found.done_at + timedelta(seconds=2 * len(domains) / 8 + 4)


def test_a_run_beyond_the_calendar_is_foreseen_for_its_end() -> None:
    lanes = {(): 4_000_000, ("a.example",): 4_000_000}
    found = forecast(lanes, NOW, Terms(86400.0, rates={"a.example": 86400.0}))
    assert found
    assert found.done_at.year > 7000


def test_moments_in_order() -> None:
    moments = list(departures(1000, NOW, Terms(2.0, 300)))
    assert all(earlier < later for earlier, later in pairwise(moments))
