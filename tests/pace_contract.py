"""What a ledger promises of pace and quota: slots of the account and of recipient domains, across runs.

`drain` works a plan off as the dispatch loop does, on a clock that leaps: whatever is leased leaves in its slot, and
when nothing is to be had the clock goes to the moment that the ledger names.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.core.model import Lease, Letter, State
from tests.ledger_bench import ACCEPTED, Bench, begin, ending, lease, letter, put_off, seal, send, states, wait


@dataclass(frozen=True)
class Left:
    """A letter that left, when, and to which domains."""

    key: str
    at: datetime
    domains: frozenset[str]


def to(*domains: str) -> list[Letter]:
    """Letters, one to each of these; `a+b` is one letter to two."""
    return [letter(f"K{n:03}", *(f"k{n}@{d}" for d in spec.split("+"))) for n, spec in enumerate(domains)]


def drain(bench: Bench, *, limit: int = 8, letters_a_run: int = 10**9, **pace: Any) -> list[Left]:
    """Send until nothing waits; a run ends after so many letters, or at the quota, and the next goes on."""
    left: list[Left] = []
    for _run in range(1000):
        with bench.open() as ledger:
            run, sent = begin(ledger, **pace), 0
            while sent < letters_a_run:
                found = wait(run.lease(limit))
                for each in found.letters:
                    bench.time.at = max(bench.time.at, each.not_before)
                    send(run, each, ACCEPTED)
                    domains = frozenset(m.identity.rpartition("@")[2] for m in each.mailboxes)
                    left.append(Left(each.key, bench.time.at, domains))
                    sent += 1
                if not found.letters and found.pace_free_at is None:
                    break
                if not found.letters and found.pace_free_at:
                    assert found.pace_free_at > bench.time.at
                    bench.time.at = found.pace_free_at
            run.end("finished", "hold")
            if found == Lease():
                return left
            if found.quota_free_at:
                bench.time.at = max(bench.time.at, found.quota_free_at)
    raise AssertionError("it never came to an end")


def keeps(moments: Iterable[datetime], seconds: float) -> bool:
    """Whether no two are closer than so many seconds."""
    return all(later - earlier >= timedelta(seconds=seconds) for earlier, later in pairwise(sorted(moments)))


class PaceContract:
    """The promises. A subclass brings the fixtures `bench` and `fresh`."""

    def test_a_domain_that_is_not_free_holds_up_nobody_else(self, bench: Bench) -> None:
        seal(bench, to("slow.example", "slow.example", "slow.example", "b.example", "c.example"))
        began = bench.time.at
        left = drain(bench, domains={"slow.example": 60.0})
        assert [(each.key, (each.at - began).total_seconds()) for each in left] == [
            ("K000", 0), ("K003", 0), ("K004", 0), ("K001", 60), ("K002", 120),
        ]  # fmt: skip

    def test_a_domain_keeps_its_pace_across_runs(self, bench: Bench) -> None:
        seal(bench, to(*["slow.example", "quick.example"] * 10))
        left = drain(bench, letters_a_run=3, domains={"slow.example": 7.0, "quick.example": 2.0})
        for domain, seconds in (("slow.example", 7.0), ("quick.example", 2.0)):
            assert keeps((each.at for each in left if domain in each.domains), seconds)
        assert len({each.key for each in left}) == 20

    def test_any_one_domain_has_the_rate_of_the_star_each_for_itself(self, bench: Bench) -> None:
        seal(bench, to(*["a.example", "b.example", "named.example"] * 3))
        began = bench.time.at
        left = drain(bench, domains={"*": 30.0, "named.example": 4.0})
        for domain, seconds in (("a.example", 30), ("b.example", 30), ("named.example", 4)):
            own = [(each.at - began).total_seconds() for each in left if domain in each.domains]
            assert own == [0, seconds, 2 * seconds]

    def test_a_letter_to_two_domains_waits_for_both_and_counts_for_both(self, bench: Bench) -> None:
        seal(bench, to("a.example", "a.example+b.example", "b.example", "a.example+b.example"))
        left = drain(bench, domains={"a.example": 10.0, "b.example": 25.0})
        for domain, seconds in (("a.example", 10.0), ("b.example", 25.0)):
            assert keeps((each.at for each in left if domain in each.domains), seconds)
        assert len(left) == 4

    def test_the_accounts_rate_holds_beside_those_of_domains(self, bench: Bench) -> None:
        seal(bench, to(*["a.example", "a.example", "b.example", "free.example"] * 6))
        began = bench.time.at
        left = drain(bench, letters_a_run=5, interval=3.0, domains={"a.example": 8.0, "b.example": 4.0})
        assert keeps((each.at for each in left), 3.0)
        assert keeps((each.at for each in left if "a.example" in each.domains), 8.0)
        assert left[-1].at - began <= timedelta(
            seconds=12 * (8.0 + 3.0)
        )  # the slowest domain is never left for the end

    def test_other_accounts_have_their_own_pace_for_a_domain(self, bench: Bench) -> None:
        seal(bench, to(*["a.example"] * 4))
        rates = {"a.example": 100.0}
        with bench.open() as ledger:
            assert len(lease(begin(ledger, domains=rates))) == 1
            assert len(lease(begin(ledger, account="other@relay.example:587", domains=rates))) == 1
            held = wait(begin(ledger, domains=rates).lease(5))
        assert (held.letters, held.pace_free_at) == ((), bench.time.at + timedelta(seconds=100))

    def test_a_deferred_letter_comes_when_it_is_due(self, bench: Bench) -> None:
        """Not behind all that wait for their domains since the beginning."""
        seal(bench, to("free.example", *["slow.example"] * 5))
        with bench.open() as ledger:
            run = begin(ledger, domains={"slow.example": 3600.0})
            first, second = sorted(lease(run), key=lambda each: each.key)
            due = bench.time.at + timedelta(minutes=5)
            send(run, first, ending(State.READY, due_at=due))
            send(run, second, ACCEPTED)
            found = wait(run.lease(9))
            assert (found.letters, found.next_due_at) == ((), found.next_due_at)
            assert found.pace_free_at == bench.time.at + timedelta(seconds=3600)
            bench.time.at = due
            assert [each.key for each in lease(run)] == ["K000"]
            bench.time.forward(3600)
            assert [each.key for each in lease(run)] == ["K002"]

    def test_a_letter_that_was_put_off_is_not_lost(self, bench: Bench) -> None:
        seal(bench, to("free.example", "slow.example", "slow.example"))
        with bench.open() as ledger:
            run = begin(ledger, domains={"slow.example": 10.0})
            for each in lease(run):
                put_off(run, each)
            seen = set()
            for _ in range(10):
                for each in lease(run):
                    seen.add(each.key)
                    send(run, each, ACCEPTED)
                bench.time.forward(10)
            assert wait(run.lease(9)) == Lease()
        assert seen == {"K000", "K001", "K002"}

    def test_a_letter_that_was_put_off_does_not_wait_for_the_slow_ones(self, bench: Bench) -> None:
        seal(bench, to("free.example", "slow.example", "slow.example"))
        with bench.open() as ledger:
            run = begin(ledger, domains={"slow.example": 86400.0})
            slow, free = lease(run)
            send(run, slow, ACCEPTED)
            put_off(run, free)
            bench.time.forward(120)
            assert [each.key for each in lease(run)] == ["K000"]

    def test_a_letter_suppressed_while_it_waits_is_passed_over(self, bench: Bench) -> None:
        seal(bench, to(*["slow.example"] * 4))
        with bench.open() as ledger:
            run = begin(ledger, domains={"slow.example": 10.0})
            assert [each.key for each in lease(run)] == ["K000"]
            bench.sql("UPDATE letter SET state = 'suppressed' WHERE key IN ('K001', 'K002')")
            bench.time.forward(10)
            assert [each.key for each in lease(run)] == ["K003"]

    def test_a_run_of_the_chosen_alone_has_lanes_of_the_chosen_alone(self, bench: Bench) -> None:
        seal(bench, to(*["slow.example", "free.example"] * 3))
        ids = {key: number for number, key in bench.sql("SELECT id, key FROM letter")}
        left = drain(bench, domains={"slow.example": 10.0}, chosen=[ids["K001"], ids["K002"], ids["K004"]])
        assert [each.key for each in left] == ["K002", "K001", "K004"]

    def test_the_quota_holds_beside_lanes(self, bench: Bench) -> None:
        seal(bench, to(*["slow.example", "free.example"] * 5))
        left = drain(bench, quota=3, domains={"slow.example": 10.0})
        moments = [each.at for each in left]
        assert len(left) == 10
        assert all(later - earlier >= timedelta(days=1) for earlier, later in zip(moments, moments[3:], strict=False))

    @pytest.mark.parametrize("back", [30.0, 86400.0 * 900])
    def test_a_clock_set_back_holds_no_domain_for_ever(self, bench: Bench, back: float) -> None:
        seal(bench, to(*["slow.example"] * 4))
        with bench.open() as ledger:
            run = begin(ledger, domains={"slow.example": 10.0})
            assert len(lease(run)) == 1
            bench.time.forward(-back)
            found = wait(run.lease(9))
            assert found.letters == ()  # they are not due before they were sealed
            assert found.pace_free_at is None or found.pace_free_at <= bench.time.at + timedelta(seconds=15)
            again = begin(ledger, domains={"slow.example": 10.0})
            free = wait(again.lease(9)).pace_free_at
            assert free
            assert free <= bench.time.at + timedelta(seconds=15)
            bench.time.at = free
            assert len(lease(again)) == 1

    def test_slots_that_lie_behind_are_forgotten(self, bench: Bench) -> None:
        seal(bench, to(*(f"d{n}.example" for n in range(20))))
        drain(bench, domains={"*": 60.0})
        assert bench.sql("SELECT count(*) FROM pace") == [(20,)]
        bench.time.forward(3600)
        seal(bench, [*to(*(f"d{n}.example" for n in range(20))), letter("NEW", "x@d1.example")])
        drain(bench, domains={"*": 60.0})
        assert bench.sql("SELECT count(*) FROM pace") == [(1,)]

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        domains=st.lists(st.sampled_from(["a", "b", "c", "free", "a+b", "b+c+free"]), max_size=25),
        rates=st.dictionaries(st.sampled_from(["a", "b", "c", "*"]), st.sampled_from([1.0, 4.0, 30.0]), min_size=1),
        interval=st.sampled_from([0.0, 0.5, 5.0, 60.0]),
        limit=st.integers(1, 10),
        letters_a_run=st.integers(1, 30),
    )
    def test_whatever_the_rates_each_is_kept_and_nothing_is_lost(
        self, domains: list[str], rates: dict[str, float], interval: float, limit: int, letters_a_run: int,
        fresh: Callable[[], Bench],
    ) -> None:  # fmt: skip
        bench = fresh()
        seal(bench, to(*domains))
        left = drain(bench, limit=limit, letters_a_run=letters_a_run, interval=interval, domains=rates)
        assert sorted(each.key for each in left) == sorted(states(bench))
        assert keeps((each.at for each in left), interval)
        for domain in {d for each in left for d in each.domains}:
            if rate := rates.get(domain, rates.get("*")):
                assert keeps((each.at for each in left if domain in each.domains), rate)
