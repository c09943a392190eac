"""The failure policy: the whole reply table, when a letter is tried again, and the picture of a letter's states."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.model import HandOver, Outcome, Phase, RcptReply, Reply, State
from dispatcher.core.policy import (
    LIFE,
    LONGEST_PAUSE,
    TRANSITIONS,
    Meaning,
    ReplyRule,
    Scope,
    address_is_gone,
    asked_pause,
    classify,
    classify_trouble,
    queue_id,
    rcpt_outcome,
    retry_at,
)

A, D, F, U = Outcome.ACCEPTED, Outcome.DEFERRED, Outcome.FAILED, Outcome.UNKNOWN
RECIPIENT, MESSAGE, POLICY = Scope.RECIPIENT, Scope.MESSAGE, Scope.POLICY
CONNECTION, RATE, SENDER, RELAY = Scope.CONNECTION, Scope.RATE, Scope.SENDER, Scope.RELAY
QUOTA = Scope.QUOTA
MAIL, RCPT, DATA, BODY, FINAL = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.FINAL

TABLE = [
    # Who we are: the run stops, no letter fails.
    (MAIL, 530, "5.7.0 Authentication required", F, RELAY),
    (MAIL, 530, "Must issue a STARTTLS command first", F, RELAY),
    (MAIL, 534, "5.7.9 mechanism too weak", F, RELAY),
    (MAIL, 535, "5.7.8 authentication failed", F, RELAY),
    (MAIL, 550, "5.7.11 encryption needed", F, RELAY),
    (RCPT, 530, "5.7.0 Authentication required", F, RELAY),
    (RCPT, 550, "5.7.8 not logged in", F, RELAY),
    (DATA, 535, "", F, RELAY),
    (FINAL, 530, "5.7.0 Authentication required", F, RELAY),
    (MAIL, 550, "5.1.8 sender's domain not found", F, SENDER),
    (MAIL, 553, "5.7.1 sender address not owned by user", F, SENDER),
    (MAIL, 550, "5.7.1 no", F, SENDER),
    (MAIL, 501, "5.1.7 bad sender address syntax", F, SENDER),
    (MAIL, 553, "", F, SENDER),
    (MAIL, 550, "", F, SENDER),
    (MAIL, 554, "go away", F, SENDER),
    (MAIL, 555, "5.5.4 parameter not known", F, SENDER),
    (RCPT, 550, "5.1.8 sender's domain not found", F, SENDER),
    (RCPT, 553, "5.1.7 bad sender", F, SENDER),
    (FINAL, 550, "5.1.8 sender's domain not found", F, SENDER),
    # This recipient.
    (RCPT, 550, "5.1.1 no such user", F, RECIPIENT),
    (RCPT, 550, "5.1.2 no such host", F, RECIPIENT),
    (RCPT, 501, "5.1.3 bad syntax", F, RECIPIENT),
    (RCPT, 550, "5.1.6 moved", F, RECIPIENT),
    (RCPT, 556, "5.1.10 null MX", F, RECIPIENT),
    (RCPT, 550, "5.2.1 disabled", F, RECIPIENT),
    (RCPT, 550, "User unknown", F, RECIPIENT),
    (RCPT, 550, "", F, RECIPIENT),
    (RCPT, 551, "not local", F, RECIPIENT),
    (RCPT, 553, "name not allowed", F, RECIPIENT),
    (RCPT, 501, "what?", F, RECIPIENT),
    (RCPT, 553, "5.3.0 no", F, RECIPIENT),
    (FINAL, 550, "5.1.1 no such user after all", F, RECIPIENT),
    (RCPT, 450, "4.2.0 greylisted", D, RECIPIENT),
    (RCPT, 451, "4.7.1 greylisted", D, RECIPIENT),
    (RCPT, 450, "try later", D, RECIPIENT),
    (RCPT, 451, "local error", D, RECIPIENT),
    (RCPT, 450, "4.1.8 sender's domain not found", D, RECIPIENT),
    (RCPT, 452, "4.2.2 mailbox over quota", D, RECIPIENT),
    (RCPT, 552, "5.2.2 mailbox full", D, RECIPIENT),
    (RCPT, 550, "5.2.2 mailbox full", D, RECIPIENT),
    (FINAL, 552, "5.2.2 mailbox full", D, RECIPIENT),
    (RCPT, 450, "4.2.1 this user receives mail at a rate that is too high", D, RECIPIENT),
    # This message.
    (MAIL, 552, "5.3.4 too big", F, MESSAGE),
    (MAIL, 552, "size exceeds limit", F, MESSAGE),
    (RCPT, 552, "5.3.4 too big", F, MESSAGE),
    (RCPT, 552, "5.2.3 too big for this mailbox", F, MESSAGE),
    (DATA, 552, "too much mail data", F, MESSAGE),
    (FINAL, 552, "too much mail data", F, MESSAGE),
    (FINAL, 554, "5.6.0 bad content", F, MESSAGE),
    (MAIL, 553, "5.6.7 (dispatcher) needs SMTPUTF8", F, MESSAGE),
    (RCPT, 553, "5.6.7 needs SMTPUTF8", F, MESSAGE),
    (MAIL, 554, "5.6.3 (dispatcher) needs 8BITMIME", F, MESSAGE),
    (DATA, 503, "5.5.1 valid RCPT first", F, MESSAGE),
    (MAIL, 451, "4.3.0 local problem", D, MESSAGE),
    (MAIL, 452, "4.3.1 disk full", D, MESSAGE),
    (MAIL, 452, "", D, MESSAGE),
    (DATA, 451, "4.3.0 local problem", D, MESSAGE),
    (FINAL, 451, "4.3.0 local problem", D, MESSAGE),
    (FINAL, 452, "4.3.1 disk full", D, MESSAGE),
    # The relay's rules.
    (RCPT, 550, "5.7.1 relaying denied", F, POLICY),
    (RCPT, 554, "no", F, POLICY),
    (RCPT, 554, "5.7.1 on a list", F, POLICY),
    (RCPT, 551, "5.7.1 not here", F, POLICY),
    (DATA, 554, "no valid recipients", F, POLICY),
    (DATA, 550, "no", F, POLICY),
    (FINAL, 554, "spam", F, POLICY),
    (FINAL, 550, "no", F, POLICY),
    (FINAL, 550, "5.7.1 content rejected", F, POLICY),
    (FINAL, 550, "5.7.26 unauthenticated", F, POLICY),
    # This connection: a new transaction.
    (RCPT, 452, "too many recipients", D, CONNECTION),
    (RCPT, 452, "4.5.3 too many recipients", D, CONNECTION),
    (RCPT, 450, "4.5.3 too many recipients", D, CONNECTION),
    (RCPT, 552, "too many recipients", D, CONNECTION),
    (RCPT, 552, "5.5.3 too many recipients", D, CONNECTION),
    (MAIL, 354, "", D, CONNECTION),
    (RCPT, 354, "", D, CONNECTION),
    (DATA, 250, "not the reply due", D, CONNECTION),
    (MAIL, 199, "", D, CONNECTION),
    # Too much at once.
    (MAIL, 421, "closing", D, RATE),
    (RCPT, 421, "4.2.0 closing", D, RATE),
    (FINAL, 421, "closing", D, RATE),
    (MAIL, 450, "4.7.0 slower", D, RATE),
    (MAIL, 451, "4.4.5 busy", D, RATE),
    (MAIL, 451, "too many messages", D, RATE),
    (RCPT, 450, "4.7.1 Rate limit reached", D, RATE),
    (FINAL, 451, "4.3.2 throttled", D, RATE),
    (FINAL, 452, "Too much mail", D, RATE),
    (RCPT, 450, "mail from corporate.example is separate, at any rate", D, RATE),
    (RCPT, 450, "mail to corporate.example is separate", D, RECIPIENT),
    # The classes clash: the basic code stands alone.
    (RCPT, 550, "4.1.1 no such user", F, RECIPIENT),
    (RCPT, 550, "4.7.0 wait", F, RECIPIENT),
    (FINAL, 550, "4.7.0 wait", F, POLICY),
    (RCPT, 553, "4.5.3 no", F, RECIPIENT),
    (RCPT, 450, "5.1.1 no such user", D, RECIPIENT),
    (RCPT, 452, "5.2.2 full", D, CONNECTION),
    (FINAL, 250, "5.7.1 fine", A, RECIPIENT),
    (FINAL, 450, "5.7.8 no", D, MESSAGE),
    (FINAL, 552, "4.2.2 full", F, MESSAGE),
    # After the dot, yes is yes.
    (FINAL, 250, "2.0.0 Ok", A, RECIPIENT),
    (FINAL, 200, "", A, RECIPIENT),
    (FINAL, 251, "will forward", A, RECIPIENT),
    (FINAL, 299, "", A, RECIPIENT),
    # And what is no reply to a message says nothing.
    (FINAL, 354, "again", U, CONNECTION),
    (FINAL, 334, "", U, CONNECTION),
    (FINAL, 150, "", U, CONNECTION),
    (FINAL, 600, "", U, CONNECTION),
    (FINAL, 25, "", U, CONNECTION),
    (FINAL, 0, "", U, CONNECTION),
]


@pytest.mark.parametrize(("phase", "code", "text", "outcome", "scope"), TABLE)
def test_the_reply_table(phase: Phase, code: int, text: str, outcome: Outcome, scope: Scope) -> None:
    verdict = classify(HandOver(phase, Reply(code, text), terminator=phase is FINAL))
    assert (verdict.outcome, verdict.scope) == (outcome, scope)
    assert str(Reply(code, text)) in verdict.why


RULES = (
    ReplyRule(550, Meaning.QUOTA, "5.4.5"),
    ReplyRule(454, Meaning.SLOWER_LOGIN, "4.7.0", Phase.AUTH),
    ReplyRule(432, Meaning.FEWER_CONNECTIONS, "4.3.2"),
    ReplyRule(454, Meaning.QUOTA, words="Daily message quota exceeded"),
    ReplyRule(454, Meaning.SLOWER, words="maximum SENDING rate exceeded"),
    ReplyRule(554, Meaning.SENDER, "5.2.2", words="STOREDRV.Submission"),
)
BY_RULE = [
    (MAIL, 550, "5.4.5 Daily user sending limit exceeded", D, QUOTA),
    (RCPT, 550, "5.4.5 Daily SMTP relay limit exceeded for user", D, QUOTA),
    (FINAL, 550, "5.4.5 Daily user sending limit exceeded.\n5.4.5 More at https://support.example", D, QUOTA),
    (RCPT, 432, "4.3.2 Concurrent connections limit exceeded", D, RATE),
    (FINAL, 432, "4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", D, RATE),
    (MAIL, 454, "Throttling failure: Daily message quota exceeded.", D, QUOTA),
    (FINAL, 454, "Throttling failure: Maximum sending rate exceeded.", D, RATE),
    (FINAL, 554, "5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException", F, SENDER),
    # Not those of the rules: as always.
    (FINAL, 550, "5.4.6 routing loop", F, POLICY),
    (MAIL, 554, "5.4.5 the same, under another code", F, SENDER),
    (FINAL, 554, "5.2.2 mailbox full", D, RECIPIENT),
    (MAIL, 454, "4.7.0 busy", D, RATE),
    (MAIL, 454, "later", D, MESSAGE),
]


@pytest.mark.parametrize(("phase", "code", "text", "outcome", "scope"), BY_RULE)
def test_what_a_service_means_by_replies_of_its_own(
    phase: Phase, code: int, text: str, outcome: Outcome, scope: Scope
) -> None:
    verdict = classify(HandOver(phase, Reply(code, text), terminator=phase is FINAL), RULES)
    assert (verdict.outcome, verdict.scope) == (outcome, scope)
    assert verdict.why.startswith(str(Reply(code, text)))


@pytest.mark.parametrize(
    ("phase", "reply", "outcome", "scope", "why"),
    [
        (Phase.AUTH, Reply(454, "4.7.0 Too many login attempts"), D, RATE, "AUTH: 454 4.7.0 Too many login attempts ("),
        (Phase.AUTH, Reply(454, "Daily message quota exceeded"), D, QUOTA, "AUTH: 454 Daily message quota exceeded ("),
        (Phase.GREETING, Reply(432, "4.3.2 too many"), D, RATE, "GREETING: 432 4.3.2 too many ("),
        (Phase.AUTH, Reply(535, "5.7.8 bad credentials"), F, RELAY, "AUTH: 535 5.7.8 bad credentials"),
        (Phase.AUTH, None, D, RELAY, "AUTH: lost"),
    ],
)
def test_what_a_service_means_before_a_session_is_there(
    phase: Phase, reply: Reply | None, outcome: Outcome, scope: Scope, why: str
) -> None:
    verdict = classify_trouble(phase, reply, "" if reply else "lost", RULES)
    assert (verdict.outcome, verdict.scope) == (outcome, scope)
    assert verdict.why.startswith(why)


PHASES = st.sampled_from(list(Phase))
REPLIES = st.builds(
    Reply,
    st.integers(0, 999),
    st.one_of(
        st.text(max_size=30),
        st.tuples(st.integers(2, 5), st.integers(0, 9), st.integers(0, 30), st.text(max_size=20)).map(
            lambda t: f"{t[0]}.{t[1]}.{t[2]} {t[3]}"
        ),
    ),
)
FACTS = st.builds(
    HandOver,
    PHASES,
    st.none() | REPLIES,
    st.lists(st.builds(RcptReply, st.just("a@example.org"), REPLIES), max_size=3).map(tuple),
    st.booleans(),
    st.text(max_size=20),
    st.booleans(),
)


ANY_RULES = st.lists(
    st.builds(ReplyRule, st.integers(0, 999), st.sampled_from(list(Meaning)), words=st.text(max_size=1)), max_size=5
)


@given(FACTS, ANY_RULES)
def test_accepted_is_a_2yz_after_the_terminator_and_unknown_is_everything_else_there(
    facts: HandOver, rules: list[ReplyRule]
) -> None:
    """Whatever the facts, and whatever a profile says: the terminator alone divides what may be unknown from what is
    known not to have been sent."""
    if facts.reply:
        rules = [*rules, ReplyRule(facts.reply.code, Meaning.QUOTA)]
    outcome = classify(facts, rules).outcome
    kind = facts.reply.code // 100 if facts.reply else None
    assert (outcome is A) == (facts.terminator and kind == 2)
    assert (outcome is U) == (facts.terminator and kind not in (2, 4, 5))
    if outcome is F:
        assert kind == 5 or rules
    if kind == 4 and not rules:
        assert outcome is D


@given(FACTS)
def test_one_mailbox_is_accepted_only_with_its_letter(facts: HandOver) -> None:
    letter = classify(facts).outcome
    for rcpt in facts.rcpts:
        outcome = rcpt_outcome(rcpt.reply, letter)
        assert (outcome is A) == (letter is A and rcpt.reply.code // 100 == 2)
        if rcpt.reply.code // 100 == 4:
            assert outcome is D


@pytest.mark.parametrize("phase", [MAIL, RCPT, DATA, BODY])
def test_a_connection_lost_before_the_terminator_harms_nothing(phase: Phase) -> None:
    verdict = classify(HandOver(phase, fault="the connection was lost"))
    assert (verdict.outcome, verdict.scope, verdict.why) == (D, CONNECTION, "the connection was lost")


def test_a_connection_lost_after_the_terminator_is_unknown() -> None:
    verdict = classify(HandOver(FINAL, terminator=True, fault="no reply within 600 s"))
    assert (verdict.outcome, verdict.why) == (U, "no reply within 600 s")


def test_a_retracted_intent_was_not_sent() -> None:
    assert classify(HandOver(BODY, fault="the intent was refused", retracted=True)).outcome is D


@pytest.mark.parametrize(
    ("code", "text", "gone"),
    [
        (550, "5.1.1 no such user", True),
        (550, "5.1.2 no such host", True),
        (501, "5.1.3 bad syntax", True),
        (551, "5.1.6 moved", True),
        (556, "5.1.10 null MX", True),
        (550, "5.2.1 disabled", False),
        (550, "no such user", False),
        (450, "5.1.1 no such user", False),
        (250, "5.1.1 no such user", False),
        (553, "5.1.8 bad sender", False),
        (550, "5.7.1 no", False),
    ],
)
def test_only_an_address_that_is_no_good_is_never_written_to_again(code: int, text: str, *, gone: bool) -> None:
    assert address_is_gone(Reply(code, text)) is gone


@pytest.mark.parametrize(
    ("phase", "reply", "outcome", "scope"),
    [
        (Phase.CONNECT, None, D, RELAY),
        (Phase.GREETING, None, D, RELAY),
        (Phase.GREETING, Reply(421, "4.3.2 busy"), D, RATE),
        (Phase.GREETING, Reply(450, "too many connections"), D, RATE),
        (Phase.GREETING, Reply(451, "later"), D, RELAY),
        (Phase.GREETING, Reply(554, "no service"), D, RELAY),
        (Phase.EHLO, Reply(550, "5.7.1 no"), D, RELAY),
        (Phase.EHLO, None, D, RELAY),
        (Phase.STARTTLS, None, F, RELAY),
        (Phase.STARTTLS, Reply(502, ""), F, RELAY),
        (Phase.STARTTLS, Reply(454, "TLS not available now"), D, RELAY),
        (Phase.AUTH, None, D, RELAY),
        (Phase.AUTH, Reply(535, "5.7.8 bad credentials"), F, RELAY),
        (Phase.AUTH, Reply(504, "5.5.4 no such mechanism"), F, RELAY),
        (Phase.AUTH, Reply(454, "4.3.0 try later"), D, RELAY),
        (Phase.EHLO, Reply(530, "5.7.0 log in first"), F, RELAY),
    ],
)
def test_a_session_that_could_not_be_set_up(phase: Phase, reply: Reply | None, outcome: Outcome, scope: Scope) -> None:
    """FAILED waits for a person, DEFERRED may pass by itself; neither is about a letter."""
    verdict = classify_trouble(phase, reply, "" if reply else "what happened")
    assert (verdict.outcome, verdict.scope) == (outcome, scope)
    assert verdict.why == f"{phase.upper()}: {reply or 'what happened'}"


@given(PHASES, st.none() | REPLIES)
def test_trouble_is_never_about_a_letter(phase: Phase, reply: Reply | None) -> None:
    verdict = classify_trouble(phase, reply, "fault")
    assert verdict.outcome in (D, F)
    assert verdict.scope in (RELAY, RATE)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2.0.0 Ok: queued as 9F2D31C0A2", "9F2D31C0A2"),
        ("2.0.0 captured as 00017", "00017"),
        ("OK id=1rAbCd-0001-AB", "1rAbCd-0001-AB"),
        ("Message Queued (5C1A1D31-21E5.1)", "5C1A1D31-21E5.1"),
        ("2.0.0 4a1b2c3d Message accepted for delivery", "4a1b2c3d"),
        ("2.0.0 Message queued with id 17f3a.", "17f3a"),
        ("ok 1712345678 qp 12345", "1712345678"),
        ("2.6.0 <x@y.example> [InternalId=123, Hostname=h] Queued mail for delivery", ""),
        ("2.0.0 Ok", ""),
        ("Ok: queued", ""),
        ("Great success", ""),
        ("", ""),
    ],
)
def test_the_relays_own_number(text: str, number: str) -> None:
    assert queue_id(Reply(250, text)) == number
    assert queue_id(Reply(450, text)) == ""


def test_no_reply_has_no_number() -> None:
    assert queue_id(None) == ""


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPREAD = st.floats(-1, 1)


@pytest.mark.parametrize(
    ("attempts", "shortest", "longest"),
    [(1, 5, 6), (2, 12, 18), (3, 24, 36), (4, 48, 72), (5, 96, 144), (6, 192, 288), (7, 192, 288), (40, 192, 288)],
)
def test_the_schedule(attempts: int, shortest: float, longest: float) -> None:
    """5, 15, 30, 60, 120, then 240 minutes, give or take a fifth; the first is not cut short, for grey lists."""
    dues = [retry_at(attempts, NOW, NOW, spread) for spread in (-1.0, 0.0, 1.0)]
    assert [due - NOW for due in dues if due] == [
        timedelta(minutes=m) for m in (shortest, (shortest + longest) / 2, longest)
    ]
    assert timedelta(minutes=longest) <= LONGEST_PAUSE


@given(st.integers(1, 100), SPREAD, st.timedeltas(timedelta(days=-4000), timedelta(days=4000)))
def test_a_letter_is_given_up_only_by_count_and_by_age(attempts: int, spread: float, age: timedelta) -> None:
    due = retry_at(attempts, NOW - age, NOW, spread)
    assert (due is None) == (age >= LIFE and attempts > 6)
    if due:
        assert NOW + timedelta(minutes=5) <= due <= NOW + LONGEST_PAUSE


@given(st.integers(1, 6), st.timedeltas(timedelta(days=-4000), timedelta(days=4000)), st.lists(SPREAD, min_size=30))
def test_a_clock_that_jumps_does_not_burn_the_life(jump_at: int, jump: timedelta, spreads: list[float]) -> None:
    """However far the clock jumps: a letter is tried through the whole schedule, and is given up in the end."""
    first = now = NOW
    for attempts, spread in enumerate(spreads, 1):
        if attempts == jump_at:
            now += jump
        due = retry_at(attempts, first, now, spread)
        if due is None:
            assert attempts > 6
            return
        now = due
    assert jump < timedelta(0)  # only a clock set back makes it longer


def test_a_life_lasts_three_days_when_nothing_jumps() -> None:
    now, attempts = NOW, 0
    while due := retry_at(attempts := attempts + 1, NOW, now, 0.0):
        now = due
    assert LIFE <= now - NOW < LIFE + LONGEST_PAUSE


def test_what_is_accepted_or_closed_stays_so() -> None:
    """Three states are ends; every other leads to one, and every state is led to."""
    begins = {old for old, _ in TRANSITIONS}
    assert set(State) - begins == {State.ACCEPTED, State.CLOSED_UNKNOWN, State.POSTED}
    assert {new for _, new in TRANSITIONS} == set(State)


def test_a_letter_reaches_accepted_only_through_at_risk() -> None:
    assert {old for old, new in TRANSITIONS if new is State.ACCEPTED} == {State.AT_RISK, State.UNKNOWN}
    assert {old for old, new in TRANSITIONS if new is State.UNKNOWN} == {State.AT_RISK}
    assert {old for old, new in TRANSITIONS if new is State.AT_RISK} == {State.LEASED}
    assert {old for old, new in TRANSITIONS if new is State.CANCELLED}.isdisjoint({State.LEASED, State.AT_RISK})


def test_no_letter_goes_two_ways() -> None:
    """What is on paper is not leased, what may have left by mail is not printed, and posted follows printed alone."""
    assert {old for old, new in TRANSITIONS if new is State.LEASED} == {State.READY, State.AT_RISK}
    assert {old for old, new in TRANSITIONS if new is State.PRINTED} == {State.TO_PRINT, State.FAILED}
    assert {old for old, new in TRANSITIONS if new is State.POSTED} == {State.PRINTED}
    assert {new for old, new in TRANSITIONS if old is State.PRINTED} == {State.POSTED, State.TO_PRINT, State.FAILED}


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("450 4.7.1 try again in 300 seconds", 300),
        ("421 come back in 5 minutes", 300),
        ("421 4.7.0 Wait 90s", 90),
        ("421 wait 9000 seconds", 3600),
        ("421 4.7.0 too many connections from 192.0.2.1", 0),
        ("451 4.3.0 later", 0),
    ],
)
def test_a_pause_that_a_relay_asks_for(words: str, seconds: float) -> None:
    """Honoured up to an hour; numbers that are no time are none."""
    assert asked_pause(words) == seconds
