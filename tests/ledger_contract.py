"""What every ledger must do, whatever it is made of. `tests/test_ledger.py` runs this over each.

A new kind of ledger brings a `Bench` and a test class of a few lines. Nothing here looks at anything but the ledger's
own doors and, through `Bench.sql`, what a second connection sees or tries.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.core.errors import DispatcherError, LedgerUnavailable, PlanConflict, RunActive, UsageError
from dispatcher.core.model import (
    Ending,
    Lease,
    Leased,
    Letter,
    Mailbox,
    Outcome,
    Phase,
    RcptReply,
    Reply,
    Skip,
    SkipReason,
    State,
)
from dispatcher.core.policy import LONGEST_PAUSE, TRANSITIONS
from dispatcher.ledgers import sealing
from dispatcher.ledgers.printing import Printed, post, record, throw_away
from dispatcher.ledgers.sqlite import Run, SqliteLedger
from tests.ledger_bench import (
    ACCEPTED,
    ACCOUNT,
    CAMPAIGN,
    FAILED,
    INFO,
    PDF,
    TEST,
    UNKNOWN,
    WHY,
    Bench,
    at_work,
    begin,
    dump,
    ending,
    intend,
    lease,
    letter,
    letters,
    numbers,
    on_paper,
    printed,
    put_off,
    same,
    seal,
    sealable,
    send,
    states,
    wait,
)

BORN: Final = """
INSERT INTO letter (campaign, key, revision, state, due_at)
SELECT campaign, '{key}', revision, '{state}', due_at FROM letter LIMIT 1
"""
SEALED_FOR: Final = """
INSERT INTO sealed (letter, channel, language, message_id, digest, mailboxes, addresses, recipient, attachments, own)
SELECT (SELECT id FROM letter WHERE key = '{key}'), '{channel}', language, 'n', digest, mailboxes, addresses, recipient,
    attachments, own FROM sealed LIMIT 1
"""
BORN_ACCEPTED: Final = """
INSERT INTO letter (campaign, key, revision, state, due_at)
SELECT campaign, 'NEW', revision, 'accepted', due_at FROM letter LIMIT 1
"""


WHATEVER_ITS_CHANNEL: Final = (
    "DROP TRIGGER letter_waits_in_its_channel",
    "DROP TRIGGER letter_is_printed",
)

STEPS: Final = (
    "lease",
    "intend",
    "intend",
    "conclude",
    "conclude",
    "put_off",
    "crash",
    "resend",
    "amend",
    "suppress",
    "reissue",
    "throw_away",
)


class Story:
    """Four letters, and what a relay has, or may have, taken. `number` chooses among what can be done."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        seal(bench, letters(4))
        self.work: list[tuple[Leased, int | None]] = []
        self.taken: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()  # how often somebody said: again
        self._begin()

    def _begin(self, on_unknown: str = "hold") -> None:
        self.ledger = self.bench.open()
        self.run = begin(self.ledger, on_unknown)

    def _pick(self, number: int, *, at_risk: bool) -> tuple[Leased, int | None] | None:
        able = [each for each in self.work if (each[1] is not None) is at_risk]
        if not able:
            return None
        self.work.remove(each := able[number % len(able)])
        return each

    def lease(self, number: int) -> None:
        self.work += [(each, None) for each in lease(self.run, 1 + number % 3)]

    def intend(self, number: int) -> None:
        if (each := self._pick(number, at_risk=False)) and (attempt := intend(self.run, each[0])) is not None:
            self.work.append((each[0], attempt))

    def conclude(self, number: int) -> None:
        if each := self._pick(number, at_risk=True):
            fate = (ACCEPTED, UNKNOWN, FAILED, ending(State.READY))[number % 4]
            self.taken[each[0].key] += fate in (ACCEPTED, UNKNOWN)
            run, (letter, attempt) = self.run, each
            wait(lambda: run.conclude(letter, None, attempt, fate))

    def put_off(self, number: int) -> None:
        if each := self._pick(number, at_risk=False):
            put_off(self.run, each[0])

    def crash(self, _: int, on_unknown: str = "hold") -> None:
        """The process is gone; whatever was at risk may have been taken."""
        self.taken.update(each.key for each, attempt in self.work if attempt is not None)
        self.work.clear()
        self.ledger.close()
        if on_unknown == "resend":
            with self.bench.open() as ledger:
                ledger.recover()
            self.excused.update(key for key, state in states(self.bench).items() if state == "unknown")
        self._begin(on_unknown)

    def resend(self, number: int) -> None:
        self.crash(number, "resend")

    def amend(self, number: int) -> None:
        self.crash(number)
        self.ledger.recover()
        self.ledger.close()
        seal(self.bench, [letter(f"K{n:03}", text="two" if number % 2 else "one") for n in range(2 + number % 3)])
        self._begin()

    def suppress(self, number: int) -> None:
        with self.bench.open(hold=False) as guest:
            sealing.add_suppressions(guest, letter(f"K{number % 4:03}").recipient.to, **WHY)

    def _standing_at(self, state: str, number: int) -> str | None:
        found = sorted(key for key, stands in states(self.bench).items() if stands == state)
        return found[number % len(found)] if found else None

    def reissue(self, number: int) -> None:
        """One that failed goes on paper, and from there into a post-box."""
        if key := self._standing_at("failed", number):
            assert printed(self.bench, self.ledger, key) == []
            self.taken[key] += 1

    def throw_away(self, number: int) -> None:
        if key := self._standing_at("printed", number):
            throw_away(self.ledger, numbers(self.bench, key), who="Ada", why="a jam")
            self.excused[key] += 1

    def check(self) -> None:
        """No letter was taken twice unless somebody said so, none is lost, none has two live attempts."""
        now = states(self.bench)
        assert len(now) == 4
        assert all(times <= 1 + self.excused[key] for key, times in self.taken.items())
        live = "SELECT count(*) FROM attempt WHERE outcome IN ('at_risk', 'accepted', 'unknown') AND override IS NULL"
        assert all(row == (1,) for row in self.bench.sql(f"{live} GROUP BY letter"))
        risky = {each.key for each, attempt in self.work if attempt is not None}
        assert {key for key, state in now.items() if state == "at_risk"} == risky


class LedgerContract:
    """The promises. A subclass brings the fixture `bench`."""

    @pytest.fixture
    def bench(self) -> Bench:
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, bench: Bench) -> Iterator[SqliteLedger]:
        """A held ledger with five sealed letters, K000 to K004."""
        seal(bench, letters(5))
        with bench.open() as ledger:
            yield ledger

    # Sealing and amending.

    def test_what_is_sealed_comes_back_as_it_was(self, bench: Bench) -> None:
        sealed = [
            letter("FRA", "Fra@missions.example", "desk@missions.example"),
            letter("TUR", text="Türkiye\n\u202e'"),
        ]
        skip = Skip("ATL", SkipReason.FILTERED, "not a member", sealed[0].recipient.place)
        seal(bench, sealed, skips=[skip])
        with bench.open() as ledger:
            found = lease(begin(ledger))
        assert all(map(same, found, sealed))
        assert len(found) == len(sealed)
        assert {(each.revision, each.date, each.attempts, each.first_attempt_at) for each in found} == {
            (1, None, 0, None)
        }
        with bench.reader() as reader:
            assert reader.frozen(CAMPAIGN, 1) == {"revision": 1}
            assert reader.octets(PDF.digest) == b"%PDF-"
            row = reader.one("letter_by_key", campaign=CAMPAIGN, key="TUR")
            assert row
            assert reader.letter(row) == sealed[1]
            assert [(s["key"], s["reason"]) for s in reader.rows("skips", campaign=CAMPAIGN, revision=1)] == [
                ("ATL", "filtered")
            ]

    @pytest.mark.parametrize("after", [0, 1, 3])
    @pytest.mark.parametrize("revision", [1, 2])
    def test_sealing_is_all_or_nothing(self, bench: Bench, after: int, revision: int) -> None:
        """A failure in the middle of the letters, or after the last, leaves no plan, no letter, no skip, no event."""
        if revision == 2:
            seal(bench, [letter("OLD"), letter("K000", text="before")])
        else:
            bench.open().close()
        before = dump(bench)

        def broken() -> Iterator[Letter]:
            yield from letters(after)
            raise UsageError("a letter cannot be made")

        with bench.open() as ledger:
            plan = sealable(broken(), contents=[("00", b"x")])
            with pytest.raises(UsageError, match="a letter cannot be made"):
                sealing.seal(ledger, plan, revision)
        assert dump(bench) == before
        assert bench.sql("SELECT count(*) FROM content WHERE digest = '00'") == [(0,)]

    def test_a_revision_is_sealed_once(self, bench: Bench, ledger: SqliteLedger) -> None:
        before = dump(bench)
        with pytest.raises(PlanConflict, match="revision 1 is sealed already"):
            sealing.seal(ledger, sealable([letter("NEW")]), 1)
        assert dump(bench) == before

    @pytest.mark.parametrize("twin", [letter("K001"), letter("NEW", number=letter("K001").message_id)])
    def test_no_two_letters_to_one_key_or_with_one_message_id(self, bench: Bench, twin: Letter) -> None:
        with pytest.raises(PlanConflict, match=f"{twin.key} cannot be sealed"):
            seal(bench, [*letters(3), twin])
        assert states(bench) == {}

    def test_two_campaigns_in_one_ledger_do_not_mix(self, bench: Bench, ledger: SqliteLedger) -> None:
        ledger.close()
        seal(bench, [letter("K000", number="<other@kms.example>")], campaign="other")
        with bench.open() as anew:
            run = begin(anew)
            assert {each.message_id for each in lease(run)} == {each.message_id for each in letters(5)}
        assert states(bench, "other") == {"K000": "ready"}

    def test_amending(self, bench: Bench) -> None:
        """New, changed, removed and returning letters; accepted ones never touched, unknown ones held."""
        keys = (
            "SAME",
            "CHANGED",
            "REMOVED",
            "ACCEPTED",
            "ACCEPTED-GONE",
            "UNKNOWN",
            "UNKNOWN-GONE",
            "FAILED",
            "FAILED-SAME",
        )
        seal(bench, [letter(key) for key in keys])
        with bench.open() as ledger:
            run = begin(ledger)
            for each in lease(run):
                fate = {"ACCEPTED": ACCEPTED, "UNKNOWN": UNKNOWN, "FAILED": FAILED}.get(each.key.split("-")[0])
                if fate:
                    send(run, each, fate)
            run.end("finished", "hold")
        changed = ("CHANGED", "ACCEPTED", "UNKNOWN", "FAILED", "NEW")
        seal(bench, [letter("SAME"), letter("FAILED-SAME"), *(letter(key, text="two") for key in changed)])
        assert states(bench) == {
            "SAME": "ready",
            "CHANGED": "ready",
            "REMOVED": "cancelled",
            "ACCEPTED": "accepted",
            "ACCEPTED-GONE": "accepted",
            "UNKNOWN": "unknown",
            "UNKNOWN-GONE": "unknown",
            "FAILED": "ready",
            "FAILED-SAME": "failed",
            "NEW": "ready",
        }
        with bench.open() as ledger:
            found = {each.key: each for each in lease(begin(ledger))}
        assert {key: each.revision for key, each in found.items()} == {"SAME": 1, "CHANGED": 2, "FAILED": 2, "NEW": 2}
        assert same(found["CHANGED"], letter("CHANGED", text="two"))
        assert (found["FAILED"].attempts, found["FAILED"].date, found["FAILED"].first_attempt_at) == (0, None, None)
        assert bench.sql(
            f"SELECT digest FROM letter JOIN sealed ON letter = id WHERE key = 'ACCEPTED' AND campaign = '{CAMPAIGN}'"
        ) == [(letter("ACCEPTED").digest,)]

    def test_a_removed_letter_can_come_back(self, bench: Bench) -> None:
        seal(bench, letters(2))
        seal(bench, letters(1))
        assert states(bench) == {"K000": "ready", "K001": "cancelled"}
        seal(bench, letters(2))
        assert states(bench) == {"K000": "ready", "K001": "ready"}

    def test_a_letter_written_anew_takes_everything_over(self, bench: Bench) -> None:
        """Message-ID, mailboxes and language too: else it would not come out as it was sealed."""
        seal(bench, [letter("FRA")])
        anew = replace(letter("FRA", "other@missions.example", text="two", number="<new@kms.example>"), language="en")
        seal(bench, [anew])
        with bench.open() as ledger:
            sealing.add_suppressions(ledger, [Mailbox("fra@missions.example", "", "fra@missions.example")], **WHY)
            (found,) = lease(begin(ledger))
            assert same(found, anew)

    @pytest.mark.parametrize("before", ["new", "ready", "failed", "cancelled", "suppressed"])
    def test_a_suppressed_address_is_held_back_at_sealing(self, bench: Bench, before: str) -> None:
        """Also if the letter failed before, which is what brings most addresses onto the list."""
        seal(bench, [letter("OTHER")] if before == "new" else [letter("FRA"), letter("OTHER")])
        if before == "cancelled":
            seal(bench, [letter("OTHER")])
        with bench.open() as ledger:
            if before == "failed":
                run = begin(ledger)
                send(run, lease(run)[0], FAILED)
                run.end("finished", "hold")
            sealing.add_suppressions(ledger, [Mailbox("fra@missions.example", "", "fra@missions.example")], **WHY)
        seal(bench, [letter("FRA", text="two"), letter("OTHER")])
        assert states(bench) == {"FRA": "suppressed", "OTHER": "ready"}

    def test_a_letter_that_was_accepted_is_not_written_anew(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        send(run, lease(run)[0], ACCEPTED)
        before = bench.sql("SELECT * FROM sealed WHERE letter = 1")
        sealing.seal(ledger, sealable([letter("K000", text="two"), *letters(5)[1:]], revision=2), 2)
        assert bench.sql("SELECT * FROM sealed WHERE letter = 1") == before
        assert states(bench)["K000"] == "accepted"

    # Leasing, pace and quota.

    def test_a_letter_is_leased_once_in_order_and_no_more_than_asked_for(self, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        found = [[each.key for each in lease(run, 2)] for _ in range(4)]
        assert found == [["K000", "K001"], ["K002", "K003"], ["K004"], []]

    def test_a_run_leases_the_chosen_alone(self, ledger: SqliteLedger) -> None:
        ids = {each.key: each.id for each in lease(begin(ledger))}
        run = begin(ledger, chosen=[ids["K003"], ids["K001"], 999])
        assert [each.key for each in lease(run)] == ["K001", "K003"]
        assert wait(run.lease(9)) == Lease()
        assert lease(begin(ledger, chosen=[])) == ()
        assert len(lease(begin(ledger))) == 5

    def test_a_letter_is_not_leased_before_it_is_due(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        due = bench.time.at + timedelta(minutes=5)
        for each in lease(run):
            send(run, each, ending(State.READY, due_at=due))
        assert wait(run.lease(9)) == Lease(next_due_at=due)
        bench.time.forward(299)
        assert wait(run.lease(9)) == Lease(next_due_at=due)
        bench.time.forward(1)
        (first, *others) = lease(run)
        assert len(others) == 4
        assert (first.attempts, first.first_attempt_at) == (1, due - timedelta(minutes=5))

    def test_a_clock_set_back_does_not_hold_letters_for_ever(self, bench: Bench) -> None:
        """Untried letters are due at once, deferred ones after no more than the longest pause there is."""
        right = bench.time.at
        bench.time.at += timedelta(days=4000)
        seal(bench, letters(3))
        with bench.open() as ledger:
            run = begin(ledger)
            send(run, lease(run, 1)[0], ending(State.READY, due_at=bench.time.at + timedelta(hours=1)))
            run.end("finished", "hold")
            bench.time.at = right
            run = begin(ledger)
            assert [each.key for each in lease(run)] == ["K001", "K002"]
            assert wait(run.lease(9)).next_due_at == right + LONGEST_PAUSE

    def test_slots_keep_the_pace_within_a_run_and_across_runs(self, bench: Bench) -> None:
        """Each letter has its own slot, never closer than the interval, whoever leases and however often."""
        seal(bench, letters(40))
        slots: list[datetime] = []
        for _ in range(4):
            with bench.open() as ledger:
                run = begin(ledger, interval=2.0)
                for limit in (1, 5, 100):
                    found = lease(run, limit)
                    assert 1 <= len(found) <= limit
                    slots += [each.not_before for each in found]
                    bench.time.at = max(bench.time.at, slots[-1])
                bench.time.forward(0.3)
        assert all(later - earlier >= timedelta(seconds=2) for earlier, later in pairwise(slots))
        assert slots[-1] - slots[0] < timedelta(seconds=2 * len(slots) + 2)

    def test_an_interrupted_run_does_not_quicken_the_next(self, bench: Bench) -> None:
        seal(bench, letters(40))
        slots: list[datetime] = []
        for _ in range(2):
            with bench.open() as ledger:
                slots += [each.not_before for each in lease(begin(ledger, interval=1.0))]
        assert all(later - earlier >= timedelta(seconds=1) for earlier, later in pairwise(slots))

    def test_other_accounts_have_their_own_pace(self, bench: Bench, ledger: SqliteLedger) -> None:
        lease(begin(ledger, interval=60.0))
        assert lease(begin(ledger, account="other@relay.example:587", interval=60.0))[0].not_before == bench.time.at
        assert lease(begin(ledger, interval=60.0))[0].not_before == bench.time.at + timedelta(seconds=60)

    def test_the_pace_survives_a_clock_set_back(self, bench: Bench, ledger: SqliteLedger) -> None:
        bench.time.forward(86400)
        lease(begin(ledger, interval=10.0), 1)
        bench.time.forward(-86400)
        assert lease(begin(ledger, interval=10.0), 1)[0].not_before <= bench.time.at + timedelta(seconds=15)

    def test_the_quota_holds_in_any_24_hours_across_runs(self, bench: Bench) -> None:
        seal(bench, letters(12))
        sent: list[datetime] = []
        for _ in range(30):
            with bench.open() as ledger:
                run = begin(ledger, quota=3)
                leased = wait(run.lease(9))
                assert len(leased.letters) <= 3
                for each in leased.letters:
                    send(run, each, UNKNOWN if len(sent) % 2 else ACCEPTED)
                    sent.append(bench.time.at)
                    bench.time.forward(1800)
                if not leased.letters and len(sent) < 12:
                    assert leased.quota_free_at == sent[-3] + timedelta(days=1)
                bench.time.forward(4 * 3600)
        assert len(sent) == 12
        assert all(later - earlier >= timedelta(days=1) for earlier, later in zip(sent, sent[3:], strict=False))

    @pytest.mark.parametrize("limit", [1, 2, 9])
    def test_the_quota_holds_within_one_run_however_few_are_asked_for(self, bench: Bench, limit: int) -> None:
        """It is not counted anew for every letter; and a clock set back frees nothing."""
        seal(bench, letters(14))
        sent: list[datetime] = []
        with bench.open() as ledger:
            run = begin(ledger, quota=4)
            for number in range(200):
                for each in lease(run, limit):
                    if number % 5 == 4:
                        put_off(run, each)
                    else:
                        send(run, each, ACCEPTED)
                        sent.append(bench.time.at)
                bench.time.forward(-7200 if number % 11 == 10 else 3600)
        assert len(sent) == 14
        moments = sorted(sent)
        assert all(later - earlier >= timedelta(days=1) for earlier, later in zip(moments, moments[4:], strict=False))

    def test_the_quota_counts_leased_letters_and_tests_but_no_other_account(self, ledger: SqliteLedger) -> None:
        sealing.begin_test(ledger, {**TEST, "account": ACCOUNT})  # it never ended: it may have been sent
        sealing.end_test(ledger, sealing.begin_test(ledger, {**TEST, "account": ACCOUNT}), "failed", "550 no")
        sealing.end_test(ledger, sealing.begin_test(ledger, {**TEST, "account": "other"}), "accepted", "250 ok")
        run = begin(ledger, quota=3)
        first = lease(run, 1)
        assert len(lease(run)) == 1
        assert lease(run) == ()
        send(run, first[0], ending(State.READY, due_at=None))
        assert len(lease(run)) == 1

    def test_a_used_up_quota_keeps_nobody_waiting_when_nothing_is_left(self, ledger: SqliteLedger) -> None:
        run = begin(ledger, quota=5)
        for each in lease(run):
            send(run, each, ACCEPTED)
        assert wait(run.lease(9)) == Lease()

    def test_attempts_of_a_clock_that_was_years_ahead_do_not_use_up_the_quota(
        self, bench: Bench, ledger: SqliteLedger
    ) -> None:
        bench.time.forward(86400 * 1000)
        run = begin(ledger, quota=2)
        for each in lease(run):
            send(run, each, ACCEPTED)
        bench.time.forward(-86400 * 3)
        assert lease(begin(ledger, quota=2)) == ()  # three days may be a clock that is right now
        bench.time.forward(-86400 * 997)
        assert len(lease(begin(ledger, quota=2))) == 2

    # Intent and outcome.

    def test_an_intent_is_there_for_others_when_it_returns(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        first, second, *_ = lease(run)
        attempt = intend(run, first)
        assert bench.sql(f"SELECT state, date IS NOT NULL FROM letter WHERE id = {first.id}") == [("at_risk", 1)]
        found = bench.sql(f"SELECT id, outcome, message_digest, account FROM attempt WHERE letter = {first.id}")
        assert found == [(attempt, "at_risk", "octets", ACCOUNT)]
        assert states(bench)[second.key] == "leased"

    @pytest.mark.parametrize("state", [State.ACCEPTED, State.READY, State.FAILED, State.UNKNOWN, State.LEASED])
    def test_an_outcome_is_kept_with_the_relays_own_words(
        self, bench: Bench, ledger: SqliteLedger, state: State
    ) -> None:
        run = begin(ledger)
        said = Reply(250, "2.1.5 fine\nsecond line \x1b[0m d\u00e9j\u00e0")
        fate = ending(state, queue_id="9F2D", rcpts=((RcptReply("k000@missions.example", said), Outcome.DEFERRED),))
        attempt = send(run, lease(run)[0], fate)
        assert states(bench)["K000"] == state
        with bench.reader() as reader:
            row = reader.one("letter_by_key", campaign=CAMPAIGN, key="K000")
            assert row
            (found,) = reader.rows("letter_attempts", letter=row["id"])
            assert (found["id"], found["outcome"], found["queue_id"]) == (attempt, fate.outcome, "9F2D")
            assert (found["code"], found["reply"]) == (
                (fate.reply.code, fate.reply.text) if fate.reply else (None, "why")
            )
            assert (found["host"], found["tls_version"]) == ("relay.example", "TLSv1.3")
            (rcpt,) = reader.rows("attempt_rcpts", attempt=attempt)
            assert (rcpt["code"], rcpt["enhanced"], rcpt["reply"]) == (250, "2.1.5", said.text)
            (log, *_) = reader.rows("log", campaign=CAMPAIGN, state="", key="K000", since="")
            assert (log["state"], log["outcome"], log["attempts"]) == (state, fate.outcome, 1)

    def test_a_refusal_before_the_intent_is_an_attempt_too(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        first = lease(run)[0]
        wait(lambda: run.conclude(first, None, None, replace(FAILED, phase=Phase.RCPT)))
        assert states(bench)["K000"] == "failed"
        assert bench.sql(f"SELECT phase, outcome FROM attempt WHERE letter = {first.id}") == [("rcpt", "failed")]

    def test_an_uncounted_attempt_does_not_age_the_letter(self, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        first = lease(run, 1)[0]
        wait(lambda: run.conclude(first, None, None, ending(State.READY, counted=False)))
        again = lease(run, 1)[0]
        assert (again.key, again.attempts, again.first_attempt_at) == ("K000", 0, None)

    def test_the_date_of_the_first_attempt_stays(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        first = bench.time.at
        send(run, lease(run, 1)[0], ending(State.READY))
        bench.time.forward(3600)
        again = lease(run, 1)[0]
        assert again.date == first
        send(run, again, ending(State.READY))
        assert lease(run, 1)[0].date == first

    def test_nothing_is_accepted_without_an_intent(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        first = lease(run)[0]
        before = dump(bench)
        with pytest.raises(DispatcherError, match="no such transition"):
            wait(lambda: run.conclude(first, None, None, ACCEPTED))
        assert dump(bench) == before

    @pytest.mark.parametrize(("state", "reason"), [(State.FAILED, ""), (State.READY, "the run paused")])
    def test_held_letters_are_judged_together(
        self, bench: Bench, ledger: SqliteLedger, state: State, reason: str
    ) -> None:
        run = begin(ledger)
        held = lease(run, 3)
        for each in held:
            send(run, each, ending(State.LEASED))
        wait(run.judge(held, state, reason))
        assert list(states(bench).values()) == [state] * 3 + ["ready"] * 2
        assert bench.sql(f"SELECT reason FROM letter WHERE id = {held[0].id}") == [(reason or "why",)]

    # Fencing.

    @pytest.mark.parametrize("loss", ["recovered", "taken over"])
    @pytest.mark.parametrize("deed", ["intend", "conclude", "conclude risk", "judge"])
    def test_a_run_that_lost_its_letter_changes_nothing(
        self, bench: Bench, ledger: SqliteLedger, deed: str, loss: str
    ) -> None:
        run = begin(ledger)
        session = wait(run.open_session(INFO))
        mine = lease(run, 1)[0]
        attempt = wait(lambda: run.intend(mine, session, bench.time.at, "octets")) if deed == "conclude risk" else None
        if loss == "taken over":
            theirs = begin(ledger, "resend")
            lease(theirs, 1)
        else:
            ledger.recover()
        before = dump(bench)
        deeds: dict[str, Callable[[], Awaitable[Any]]] = {
            "intend": lambda: run.intend(mine, session, bench.time.at, "octets"),
            "conclude": lambda: run.conclude(mine, session, None, FAILED),
            "conclude risk": lambda: run.conclude(mine, session, attempt, ACCEPTED),
            "judge": lambda: run.judge((mine,), State.FAILED, "no"),
        }
        with pytest.raises(LedgerUnavailable, match="no longer this run's"):
            wait(deeds[deed])
        assert dump(bench) == before

    def test_judging_is_all_or_nothing(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        first, second, *_ = lease(run)
        put_off(run, second)
        before = dump(bench)
        with pytest.raises(LedgerUnavailable):
            wait(run.judge((first, second), State.FAILED, "no"))
        assert dump(bench) == before

    # On paper.

    def test_no_run_takes_up_what_is_for_paper(self, bench: Bench) -> None:
        seal(bench, [letter("A"), on_paper("B"), on_paper("C", "c@missions.example")])
        with bench.open() as ledger:
            run = begin(ledger)
            assert [each.key for each in lease(run)] == ["A"]
            assert wait(run.lease(9)) == Lease()
            assert lease(begin(ledger, chosen=numbers(bench, "B", "C"))) == ()
        assert states(bench) == {"A": "ready", "B": "to_print", "C": "to_print"}

    def test_printed_and_posted(self, bench: Bench) -> None:
        seal(bench, [on_paper("A"), on_paper("B")])
        with bench.open() as ledger:
            assert printed(bench, ledger, "A") == []
            assert states(bench) == {"A": "printed", "B": "to_print"}
            post(ledger, numbers(bench, "A"), date(2009, 10, 2), who="Ada", why="at the counter")
        assert states(bench) == {"A": "posted", "B": "to_print"}
        with bench.reader() as reader:
            events = [
                (row["kind"], row["subject"], row["who"], row["why"]) for row in reader.rows("letter_events", letter=1)
            ]
            (printing,) = reader.rows("printings", campaign=CAMPAIGN)
            row = reader.one("letter_by_key", campaign=CAMPAIGN, key="A")
        assert events == [
            ("printed", "letters.pdf", "Ada", "printing 1"),
            ("posted", "on 2009-10-02", "Ada", "at the counter"),
        ]
        assert row
        assert row["reason"] == "posted on 2009-10-02, says Ada: at the counter"
        assert json.loads(printing["files"]) == [{"name": "letters.pdf", "holds": "letters", "size": 5, "digest": "ab"}]

    def test_what_was_typeset_must_be_what_is_sealed(self, bench: Bench) -> None:
        seal(bench, [on_paper("A")])
        with bench.open() as ledger:
            other = Printed(numbers(bench, "A")[0], "A", State.TO_PRINT, "another digest", "letters.pdf")
            assert record(ledger, 1, CAMPAIGN, [other], [], "Ada") == ["A"]
        assert states(bench) == {"A": "to_print"}

    def test_a_reprint_is_an_event_and_changes_nothing(self, bench: Bench) -> None:
        seal(bench, [on_paper("A")])
        with bench.open() as ledger:
            printed(bench, ledger, "A")
            printed(bench, ledger, "A")
        assert states(bench) == {"A": "printed"}
        assert [row["kind"] for row in bench.reader().rows("letter_events", letter=1)] == ["printed", "reprinted"]

    def test_posting_is_said_once_and_of_printed_letters_alone(self, bench: Bench) -> None:
        """All of it, or nothing: the first letter of the three could be posted."""
        seal(bench, [on_paper("A"), on_paper("B"), on_paper("C")])
        with bench.open() as ledger:
            printed(bench, ledger, "A", "C")
            post(ledger, numbers(bench, "C"), date(2009, 10, 2), who="Ada", why="at the counter")
            before = dump(bench)
            for second in ("B", "C"):
                with pytest.raises(DispatcherError, match="not printed, or posted already"):
                    post(ledger, numbers(bench, "A", second), date(2009, 10, 3), who="Ada", why="again")
            with pytest.raises(DispatcherError, match="not printed, or posted already"):
                throw_away(ledger, numbers(bench, "A", "C"), who="Ada", why="a typing error")
        assert dump(bench) == before

    def test_sheets_that_are_thrown_away_wait_again(self, bench: Bench) -> None:
        """Each where it stood before: to be printed, or failed by mail."""
        seal(bench, [on_paper("A"), letter("B")])
        with bench.open() as ledger:
            run = begin(ledger)
            send(run, lease(run)[0], FAILED)
            run.end("finished", "hold")
            printed(bench, ledger, "A", "B")
            assert states(bench) == {"A": "printed", "B": "printed"}
            throw_away(ledger, numbers(bench, "A", "B"), who="Ada", why="a typing error")
        assert states(bench) == {"A": "to_print", "B": "failed"}

    @pytest.mark.parametrize("fate", ["accepted", "unknown", "deferred", "at_risk"])
    def test_what_may_have_left_by_mail_is_not_printed(self, bench: Bench, ledger: SqliteLedger, fate: str) -> None:
        run = begin(ledger)
        first = lease(run, 1)[0]
        ends = {"accepted": ACCEPTED, "unknown": UNKNOWN, "deferred": ending(State.READY)}
        intend(run, first) if fate == "at_risk" else send(run, first, ends[fate])
        assert printed(bench, ledger, "K000", at=State.FAILED) == ["K000"]
        assert states(bench)["K000"] == {"deferred": "ready"}.get(fate, fate)
        assert bench.sql("SELECT count(*) FROM event WHERE letter IS NOT NULL") == [(0,)]

    def test_a_live_attempt_keeps_a_letter_from_paper_whatever_its_state(
        self, bench: Bench, ledger: SqliteLedger
    ) -> None:
        """Against a bug: the state says failed, the attempt says unknown."""
        run = begin(ledger)
        send(run, lease(run, 1)[0], UNKNOWN)
        bench.sql("UPDATE letter SET state = 'failed' WHERE state = 'unknown'")
        with pytest.raises(DispatcherError, match="may have left by mail is not printed"):
            printed(bench, ledger, "K000")

    def test_a_letter_on_paper_waits_for_no_run(self, bench: Bench) -> None:
        """Against a bug: what is sealed for paper cannot be made ready, nor what is for mail be printed first."""
        seal(bench, [on_paper("A"), letter("B")])
        for state, key in (("ready", "A"), ("to_print", "B")):
            with pytest.raises(bench.refused, match="waits in the channel"):
                bench.sql(f"UPDATE letter SET state = '{state}' WHERE key = '{key}'")
        bench.sql(BORN.format(key="N", state="ready"), BORN.format(key="P", state="to_print"))
        for key, channel in (("N", "paper"), ("P", "mail")):
            with pytest.raises(bench.refused, match="begins waiting"):
                bench.sql(SEALED_FOR.format(key=key, channel=channel))

    def test_amending_moves_a_letter_into_the_other_channel(self, bench: Bench) -> None:
        """Unless it may have reached its recipient in the one it was in."""
        mail, paper = ("READY", "ACCEPTED", "UNKNOWN", "FAILED", "CANCELLED"), ("WAITS", "PRINTED", "POSTED")
        seal(bench, [*map(letter, mail), *map(on_paper, paper)])
        with bench.open() as ledger:
            run = begin(ledger)
            for each in lease(run):
                if fate := {"ACCEPTED": ACCEPTED, "UNKNOWN": UNKNOWN, "FAILED": FAILED}.get(each.key):
                    send(run, each, fate)
            run.end("finished", "hold")
            printed(bench, ledger, "PRINTED", "POSTED")
            post(ledger, numbers(bench, "POSTED"), date(2009, 10, 2), who="Ada", why="at the counter")
        seal(bench, [*map(letter, set(mail) - {"CANCELLED"}), *map(on_paper, paper)])
        seal(bench, [*map(on_paper, mail), *map(letter, paper)])
        assert states(bench) == {
            "READY": "to_print",
            "ACCEPTED": "accepted",
            "UNKNOWN": "unknown",
            "FAILED": "to_print",
            "CANCELLED": "to_print",
            "WAITS": "ready",
            "PRINTED": "printed",
            "POSTED": "posted",
        }
        with bench.open() as ledger:
            assert [each.key for each in lease(begin(ledger))] == ["WAITS"]

    def test_a_row_that_is_gone_cancels_what_waits_and_nothing_else(self, bench: Bench) -> None:
        seal(bench, [on_paper("WAITS"), on_paper("PRINTED"), on_paper("STAYS")])
        with bench.open() as ledger:
            printed(bench, ledger, "PRINTED")
        seal(bench, [on_paper("STAYS")])
        assert states(bench) == {"WAITS": "cancelled", "PRINTED": "printed", "STAYS": "to_print"}

    def test_a_mailbox_that_paper_may_have_reached_gets_no_letter_under_another_key(self, bench: Bench) -> None:
        seal(bench, [on_paper("A", "a@missions.example"), on_paper("B")])
        with bench.open() as ledger:
            printed(bench, ledger, "A", "B")
        with pytest.raises(PlanConflict, match=r"letter NEW would go to a@missions\.example, which letter A"):
            seal(bench, [letter("NEW", "a@missions.example"), on_paper("B")])

    def test_a_persons_suppression_holds_back_paper_and_a_relays_does_not(self, bench: Bench) -> None:
        """At sealing, while it waits, and when it is lifted."""
        box = [Mailbox("a@missions.example", "", "a@missions.example")]
        by_relay = {**WHY, "source": "refused by the relay"}
        seal(bench, [on_paper("A", "a@missions.example")])
        with bench.open() as ledger:
            sealing.add_suppressions(ledger, box, **by_relay)
            assert states(bench) == {"A": "to_print"}
        seal(bench, [on_paper("A", "a@missions.example", text="two")])
        assert states(bench) == {"A": "to_print"}
        with bench.open(hold=False) as guest:
            sealing.remove_suppression(guest, "a@missions.example", who="Ada", why="moved")
            assert sealing.add_suppressions(guest, box, **WHY) == (1, 1)
        assert states(bench) == {"A": "suppressed"}
        seal(bench, [on_paper("A", "a@missions.example", text="three")])
        assert states(bench) == {"A": "suppressed"}
        with bench.open() as ledger:
            assert printed(bench, ledger, "A", at=State.TO_PRINT) == ["A"], "suppressed while it was printed"
            sealing.remove_suppression(ledger, "a@missions.example", who="Ada", why="by mistake")
        assert states(bench) == {"A": "to_print"}

    # Rules that hold against the program itself.

    def test_the_table_in_a_new_ledger_is_the_one_in_the_policy(self, bench: Bench, ledger: SqliteLedger) -> None:
        assert set(bench.sql("SELECT old, new FROM transition")) == set(TRANSITIONS)

    def test_every_transition_that_is_not_in_the_table_is_refused(self, bench: Bench, ledger: SqliteLedger) -> None:
        """All pairs of states, tried on a letter that has every right to be accepted."""
        run = begin(ledger)
        first = lease(run, 1)[0]
        send(run, first, UNKNOWN)
        paths = {State.UNKNOWN: [State.UNKNOWN]}
        for _ in State:
            for old, new in sorted(TRANSITIONS):
                if old in paths:
                    paths.setdefault(new, [*paths[old], new])
        assert set(paths) == set(State)
        allowed = set()
        for old in State:
            for new in State:
                moves = [_move(first.id, state) for state in [*paths[old][1:], new]]
                with suppress(bench.refused):
                    bench.sql(*WHATEVER_ITS_CHANNEL, *moves, keep=False)
                    allowed.add((old, new))
        assert allowed == TRANSITIONS | {(state, state) for state in State}

    @pytest.mark.parametrize("live", ["at_risk", "accepted", "unknown"])
    @pytest.mark.parametrize("second", ["at_risk", "accepted", "unknown"])
    def test_a_second_live_attempt_is_refused(self, bench: Bench, ledger: SqliteLedger, live: str, second: str) -> None:
        run = begin(ledger)
        first = lease(run, 1)[0]
        intend(run, first) if live == "at_risk" else send(run, first, ending(State(live)))
        copy = (
            "INSERT INTO attempt (letter, run, account, at, phase, outcome)"
            f" SELECT letter, run, account, at, phase, '{second}' FROM attempt"
        )
        with pytest.raises(bench.refused):
            bench.sql(copy)
        if live == "unknown":
            bench.sql("UPDATE attempt SET override = 'a person said so'", copy, keep=False)

    def test_the_port_itself_cannot_make_a_second_live_attempt(self, bench: Bench, ledger: SqliteLedger) -> None:
        """A bug that makes a letter ready again although its outcome is unknown meets the index, not the relay."""
        run = begin(ledger)
        send(run, lease(run, 1)[0], UNKNOWN)
        bench.sql("UPDATE letter SET state = 'ready' WHERE state = 'unknown'")
        again = lease(run, 1)[0]
        before = dump(bench)
        with pytest.raises(DispatcherError, match="refused a change"):
            intend(run, again)
        before["session"] = bench.sql("SELECT * FROM session ORDER BY 1")
        assert dump(bench) == before

    @pytest.mark.parametrize("table", ["letter", "attempt", "rcpt", "plan", "content", "event", "printing"])
    def test_history_is_never_deleted(self, bench: Bench, ledger: SqliteLedger, table: str) -> None:
        run = begin(ledger)
        said = RcptReply("k000@missions.example", Reply(250, "ok"))
        send(run, lease(run, 1)[0], replace(FAILED, rcpts=((said, Outcome.FAILED),)))
        printed(bench, ledger, "K000")
        with pytest.raises(bench.refused, match="never deleted"):
            bench.sql(f"DELETE FROM {table}")

    @pytest.mark.parametrize(
        "change",
        [f"UPDATE attempt SET {c} = {c} || 'x' WHERE outcome = 'at_risk'" for c in ("account", "at", "message_digest")]
        + ["UPDATE attempt SET letter = letter + 1 WHERE outcome = 'at_risk'"]
        + [
            f"UPDATE attempt SET {column} = 'x' WHERE outcome = '{outcome}'"
            for column in ("phase", "reply", "queue_id", "enhanced", "scope", "ended_at", "message_digest")
            for outcome in ("accepted", "failed", "unknown")
        ]
        + [
            "UPDATE attempt SET outcome = 'accepted' WHERE outcome = 'unknown'",
            "UPDATE attempt SET outcome = 'deferred' WHERE outcome = 'accepted'",
            "UPDATE attempt SET outcome = 'deferred' WHERE outcome = 'unknown'",
            "UPDATE attempt SET override = 'x' WHERE outcome = 'accepted'",
            "UPDATE attempt SET override = 'x' WHERE outcome = 'at_risk'",
            "UPDATE rcpt SET reply = 'x'",
            "UPDATE event SET why = 'x'",
            "UPDATE plan SET frozen = '{}'",
            "UPDATE content SET octets = x'00'",
            "UPDATE letter SET key = 'x' WHERE key = 'K004'",
        ],
    )
    def test_history_is_never_rewritten(self, bench: Bench, ledger: SqliteLedger, change: str) -> None:
        run = begin(ledger)
        said = RcptReply("k000@missions.example", Reply(250, "ok"))
        for each, fate in zip(lease(run, 3), (ACCEPTED, FAILED, UNKNOWN), strict=True):
            send(run, each, replace(fate, rcpts=((said, fate.outcome),)))
        intend(run, lease(run, 1)[0])
        with pytest.raises(bench.refused, match=r"append-only|ends once|overridden|stays the same"):
            bench.sql(change)

    def test_an_override_is_said_once(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        send(run, lease(run, 1)[0], UNKNOWN)
        bench.sql("UPDATE attempt SET override = 'x'")
        with pytest.raises(bench.refused, match="once"):
            bench.sql("UPDATE attempt SET override = NULL")

    @pytest.mark.parametrize(
        "column",
        [
            "letter.revision",
            "letter.date",
            "sealed.digest",
            "sealed.recipient",
            "sealed.attachments",
            "sealed.message_id",
            "sealed.language",
            "sealed.mailboxes",
            "sealed.addresses",
            "sealed.own",
        ],
    )
    @pytest.mark.parametrize("state", ["leased", "at_risk", "accepted", "unknown", "closed_unknown"])
    def test_a_letter_that_may_have_left_is_not_rewritten(
        self, bench: Bench, ledger: SqliteLedger, column: str, state: str
    ) -> None:
        run = begin(ledger)
        send(run, lease(run, 1)[0], ending(State.READY))  # so that it has a date
        first = lease(run, 1)[0]
        if state == "at_risk":
            intend(run, first)
        elif state != "leased":
            send(run, first, ACCEPTED if state == "accepted" else UNKNOWN)
            if state == "closed_unknown":
                run.end("finished", "assume_sent")
        assert states(bench)["K000"] == state
        table, name = column.split(".")
        value = {"revision": "2", "own": "x'00'"}.get(name, "'x'")
        which = "key = 'K000'" if table == "letter" else "letter = (SELECT id FROM letter WHERE key = 'K000')"
        with pytest.raises(bench.refused, match=r"not rewritten|fixed at its first"):
            bench.sql(f"UPDATE {table} SET {name} = {value} WHERE {which}")

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE letter SET state = 'leased'",
            "UPDATE letter SET lease = 1",
            "UPDATE letter SET state = 'sent'",
            "UPDATE letter SET state = 'accepted', lease = NULL WHERE state = 'at_risk'",
            BORN_ACCEPTED,
        ],
    )
    def test_no_letter_is_anywhere_without_a_cause(self, bench: Bench, ledger: SqliteLedger, change: str) -> None:
        run = begin(ledger)
        intend(run, lease(run, 1)[0])
        with pytest.raises(bench.refused):
            bench.sql(change)

    # Recovery and decisions.

    def test_recovery_settles_what_a_dead_run_left_and_may_be_repeated(
        self, bench: Bench, ledger: SqliteLedger
    ) -> None:
        run = begin(ledger)
        leased = lease(run, 3)
        intend(run, leased[0])
        send(run, leased[1], ACCEPTED)
        found = ledger.begin_run(CAMPAIGN, ACCOUNT, "hold")
        assert (found.unknown, found.given_back) == (1, 1)
        after = ["unknown", "accepted", "ready", "ready", "ready"]
        assert list(states(bench).values()) == after
        assert bench.sql("SELECT outcome FROM attempt ORDER BY id") == [("unknown",), ("accepted",)]
        again = ledger.begin_run(CAMPAIGN, ACCOUNT, "hold")
        assert (again.unknown, again.given_back) == (0, 0)
        assert again.run > found.run
        assert list(states(bench).values()) == after
        assert [each.key for each in lease(Run(ledger, again.run, CAMPAIGN, ACCOUNT))] == [
            "K002",
            "K003",
            "K004",
        ]

    def test_recovery_is_for_every_campaign_in_the_ledger(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        intend(run, lease(run, 2)[0])
        assert ledger.begin_run("other", ACCOUNT, "resend").unknown == 1
        assert states(bench)["K000"] == "unknown"  # `resend` is the other campaign's word
        assert states(bench)["K001"] == "ready"

    @pytest.mark.parametrize(
        ("on_unknown", "state", "at_end"),
        [
            ("hold", "unknown", "unknown"),
            ("resend", "ready", "unknown"),
            ("assume_sent", "closed_unknown", "closed_unknown"),
        ],
    )
    def test_what_the_campaign_wants_of_unknown_letters(
        self, bench: Bench, ledger: SqliteLedger, on_unknown: str, state: str, at_end: str
    ) -> None:
        run = begin(ledger, on_unknown)
        first, second = lease(run, 2)
        intend(run, first)
        send(run, second, UNKNOWN)
        run.end("finished", on_unknown)
        assert list(states(bench).values())[:2] == [at_end] * 2
        run = begin(ledger, on_unknown)
        assert list(states(bench).values())[:2] == [state] * 2
        if state == "ready":
            again = lease(run, 1)[0]
            assert (again.own, again.digest, again.date) == (first.own, first.digest, first.not_before)
            assert send(run, again, ACCEPTED)
            assert bench.sql("SELECT override FROM attempt ORDER BY id LIMIT 1") == [("on_unknown = resend",)]

    def test_a_run_that_ends_in_order_holds_nothing(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        intend(run, lease(run, 3)[0])
        run.end("interrupted", "hold")
        assert list(states(bench).values()) == ["unknown", "ready", "ready", "ready", "ready"]
        assert bench.sql("SELECT ending, ended_at IS NOT NULL FROM run") == [("interrupted", 1)]

    @pytest.mark.parametrize("new", [State.ACCEPTED, State.FAILED, State.READY])
    def test_a_persons_word_on_an_unknown_letter(self, bench: Bench, ledger: SqliteLedger, new: State) -> None:
        run = begin(ledger)
        first = lease(run, 1)[0]
        send(run, first, UNKNOWN)
        sealing.resolve(ledger, first.id, State.UNKNOWN, new, who="Ada", why="they telephoned")
        assert states(bench)["K000"] == new
        said = bench.sql("SELECT kind, letter, subject, who, why FROM event WHERE kind = 'resolved'")
        assert said == [("resolved", first.id, str(new), "Ada", "they telephoned")]
        assert bench.sql("SELECT outcome, override IS NULL FROM attempt") == [("unknown", new is State.ACCEPTED)]
        if new is State.READY:
            assert send(run, lease(run, 1)[0], ACCEPTED)

    def test_a_failed_letter_resent_begins_a_new_life_with_its_old_date(
        self, bench: Bench, ledger: SqliteLedger
    ) -> None:
        run = begin(ledger)
        first = lease(run, 1)[0]
        send(run, first, FAILED)
        bench.time.forward(86400 * 4)
        sealing.resolve(ledger, first.id, State.FAILED, State.READY, who="Ada", why="mended")
        ledger.recover()
        again = {each.id: each for each in lease(run)}[first.id]
        assert (again.attempts, again.first_attempt_at, again.date) == (0, None, first.not_before)

    @pytest.mark.parametrize(
        ("fate", "said", "new"),
        [
            (None, State.READY, State.ACCEPTED),
            (None, State.UNKNOWN, State.READY),
            (ACCEPTED, State.ACCEPTED, State.READY),
            (ACCEPTED, State.UNKNOWN, State.FAILED),
            (FAILED, State.UNKNOWN, State.READY),
        ],
    )
    def test_only_unknown_and_failed_letters_are_resolved(
        self, bench: Bench, ledger: SqliteLedger, fate: Ending | None, said: State, new: State
    ) -> None:
        run = begin(ledger)
        first = lease(run, 1)[0]
        if fate:
            send(run, first, fate)
        ledger.recover()
        before = dump(bench)
        with pytest.raises(UsageError, match="only unknown and failed"):
            sealing.resolve(ledger, first.id, said, new, who="Ada", why="because")
        assert dump(bench) == before

    # Suppression.

    @pytest.mark.parametrize(
        ("suppressed", "held"),
        [
            ("k000@missions.example", True),
            ("copy@ngo.example", True),
            ("@ngo.example", True),
            ("@missions.example", True),
            ("@example", False),
            ("@go.example", False),
            ("0@missions.example", False),
            ("k%@missions.example", False),
            ("k_00@missions.example", False),
        ],
    )
    @pytest.mark.parametrize("when", ["before sealing", "ready", "leased"])
    def test_nothing_leaves_for_a_suppressed_mailbox_or_domain(
        self, bench: Bench, suppressed: str, when: str, *, held: bool
    ) -> None:
        """Any mailbox of the letter, whole or by its domain; never by likeness."""
        bench.open().close()
        mailbox = Mailbox(suppressed, "", suppressed)
        if when == "before sealing":
            with bench.open() as ledger:
                assert sealing.add_suppressions(ledger, [mailbox], **WHY) == (1, 0)
        seal(bench, [letter("K000", "K000@missions.example", "copy@ngo.example")])
        with bench.open() as ledger:
            run = begin(ledger)
            if when == "ready":
                assert sealing.add_suppressions(ledger, [mailbox], **WHY) == (1, int(held))
            found = lease(run)
            if when == "leased":
                assert sealing.add_suppressions(ledger, [mailbox], **WHY) == (1, 0)
                assert (intend(run, found[0]) is None) is held
            else:
                assert (found == ()) is held
        assert states(bench)["K000"] == ("suppressed" if held else "at_risk" if when == "leased" else "leased")
        assert bench.sql("SELECT count(*) FROM attempt") == [(int(when == "leased" and not held),)]
        if held:
            assert bench.sql("SELECT reason FROM letter") == [(f"{suppressed} is suppressed: asked us to stop",)]

    def test_a_suppression_from_outside_stops_a_letter_in_work(self, bench: Bench, ledger: SqliteLedger) -> None:
        """It arrives between lease and intent, from somebody who does not hold the ledger."""
        run = begin(ledger)
        first, second, *_ = lease(run)
        with bench.open(hold=False) as guest:
            mailbox = first.mailboxes[0]
            assert sealing.add_suppressions(guest, [mailbox], **WHY) == (1, 0)
        assert intend(run, first) is None
        assert intend(run, second) is not None
        assert list(states(bench).values())[:2] == ["suppressed", "at_risk"]

    def test_a_suppression_after_the_intent_comes_too_late(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        first = lease(run, 1)[0]
        attempt = intend(run, first)
        with bench.open(hold=False) as guest:
            sealing.add_suppressions(guest, first.mailboxes[:1], **WHY)
        wait(lambda: run.conclude(first, None, attempt, ACCEPTED))
        assert states(bench)["K000"] == "accepted"

    def test_lifting_a_suppression_frees_what_only_it_held_back(self, bench: Bench) -> None:
        seal(bench, [letter("A", "a@one.example"), letter("B", "b@one.example"), letter("C", "c@two.example")])
        names = ("@one.example", "b@one.example", "c@two.example")
        with bench.open() as ledger:
            assert sealing.add_suppressions(ledger, [Mailbox(n, "", n) for n in names], **WHY) == (3, 3)
            assert sealing.add_suppressions(ledger, [Mailbox(n, "", n) for n in names], **WHY) == (0, 0)
            assert sealing.remove_suppression(ledger, "@one.example", who="Ada", why="x") == (True, 1)
            assert sealing.remove_suppression(ledger, "@one.example", who="Ada", why="x") == (False, 0)
        assert states(bench) == {"A": "ready", "B": "suppressed", "C": "suppressed"}
        kinds = [row[0] for row in bench.sql("SELECT kind FROM event ORDER BY id")]
        held = ["suppressed"] * 3 + ["held back"] * 3
        assert kinds == ["sealed", *held, "unsuppressed", "released"]

    def test_an_address_the_relay_says_is_gone_is_suppressed_with_its_words(self, bench: Bench) -> None:
        """Of a letter with two mailboxes, the refused one alone, with what was said of it."""
        seal(
            bench, [letter("FRA", "Fra@missions.example", "desk@missions.example"), letter("B", "fra@missions.example")]
        )
        gone, fine = RcptReply("Fra@missions.example", Reply(550, "5.1.1 no such user")), Reply(250, "2.1.5 ok")
        rcpts = ((gone, Outcome.FAILED), (RcptReply("desk@missions.example", fine), Outcome.ACCEPTED))
        with bench.open() as ledger:
            run = begin(ledger)
            first, second = lease(run)
            send(run, first, replace(ACCEPTED, rcpts=rcpts, suppress=("Fra@missions.example",)))
            assert intend(run, second) is None
        assert bench.sql("SELECT identity, address, reason, source FROM suppression") == [
            ("fra@missions.example", "Fra@missions.example", "550 5.1.1 no such user", "refused by the relay")
        ]

    # One writer, many callers.

    def test_what_waits_together_is_made_durable_together(self, bench: Bench) -> None:
        """Intents of all connections share one commit; so do outcomes and the next intents."""
        seal(bench, letters(60))
        with bench.open() as ledger:
            run = begin(ledger)
            leased = lease(run, 60)
            session = wait(run.open_session(INFO))
            commits: list[str] = []

            async def go() -> list[int | None]:
                gate = at_work(ledger)
                ledger.submit(lambda c: c.set_trace_callback(commits.append))
                tasks = [run.intend(each, session, bench.time.at, "x") for each in leased]
                for _ in range(3):  # turns of the loop: they are queued when one has brought no more
                    await asyncio.sleep(0)
                gate.set()
                return await asyncio.gather(*tasks)

            assert len(set(wait(go()))) == 60
            ledger.do(lambda c: c.set_trace_callback(None))
        assert commits.count("COMMIT") == 1

    def test_a_job_that_fails_is_undone_alone(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        leased = lease(run)
        for number, each in enumerate(leased):
            send(run, each, ending(State.READY if number == 2 else State.LEASED))

        async def go() -> list[Any]:
            gate = at_work(ledger)
            session = 0
            tasks = [asyncio.create_task(run.judge((each,), State.FAILED, f"{session}")) for each in leased]
            await asyncio.sleep(0)
            gate.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        results = wait(go())
        assert [type(r) for r in results] == [type(None), type(None), LedgerUnavailable, type(None), type(None)]
        assert list(states(bench).values()) == ["failed", "failed", "ready", "failed", "failed"]

    def test_calls_take_effect_in_the_order_in_which_they_were_made(self, bench: Bench, ledger: SqliteLedger) -> None:
        seen: list[int] = []
        gate = at_work(ledger)

        def note(number: int) -> Callable[[Any], int]:
            def job(_: Any) -> int:
                seen.append(number)
                return number

            return job

        futures: list[Future[int]] = [ledger.submit(note(number)) for number in range(1000)]
        gate.set()
        assert [future.result() for future in futures] == seen == list(range(1000))

    def test_when_a_call_returns_all_earlier_ones_are_durable_too(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        leased = lease(run)

        async def go() -> None:
            for each in leased[:-1]:
                run.conclude(each, None, None, ending(State.READY))  # nobody waits for these
            await run.conclude(leased[-1], None, None, ending(State.READY))

        wait(go())
        assert set(states(bench).values()) == {"ready"}

    def test_a_cancelled_worker_does_not_undo_a_commit_under_way(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        first = lease(run)[0]
        session = wait(run.open_session(INFO))

        async def go() -> None:
            gate = at_work(ledger)
            task = run.intend(first, session, bench.time.at, "x")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.set()
            await run.open_session(INFO)

        wait(go())
        assert states(bench)["K000"] == "at_risk"

    def test_one_holder_at_a_time(self, bench: Bench, ledger: SqliteLedger) -> None:
        with pytest.raises(RunActive, match="another dispatcher is at work") as caught:
            bench.open()
        assert caught.value.exit_code == 5
        ledger.close()
        bench.open().close()

    def test_a_guest_never_settles_what_a_run_has_in_work(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        intend(run, lease(run)[0])
        before = dump(bench)
        with bench.open(hold=False) as guest:
            with pytest.raises(RunActive):
                guest.recover()
            with pytest.raises(RunActive):
                guest.begin_run(CAMPAIGN, ACCOUNT, "resend")
        assert dump(bench) == before

    def test_reading_goes_on_while_a_run_writes(self, bench: Bench, ledger: SqliteLedger) -> None:
        run = begin(ledger)
        leased = lease(run)
        with bench.reader() as reader:
            rows = reader.rows("log", campaign=CAMPAIGN, state="", key="", since="")
            first = next(rows)
            for each in leased:
                send(run, each, ACCEPTED)
            assert [row["state"] for row in (first, *rows)] == ["leased"] * 5  # as it was when the reading began
            assert reader.counts(CAMPAIGN) == {State.ACCEPTED: 5}

    # Everything together.

    @settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), max_size=30))
    def test_whatever_happens_no_letter_is_taken_twice_and_none_is_lost(
        self, steps: list[tuple[str, int]], fresh: Callable[[], Bench]
    ) -> None:
        """Random work, crashes, suppressions and decisions."""
        story = Story(fresh())
        try:
            for step, number in steps:
                getattr(story, step)(number)
                story.check()
        finally:
            story.ledger.close()


def _move(number: int, state: State) -> str:
    run = "(SELECT max(id) FROM run)" if state in (State.LEASED, State.AT_RISK) else "NULL"
    return f"UPDATE letter SET state = '{state}', lease = {run} WHERE id = {number}"
