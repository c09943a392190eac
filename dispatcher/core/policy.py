"""All failure policy, and the letter's state table: the one place for both.

A relay reports bare facts (`HandOver`, or the phase and reply of a session that could not be set up). This module
says what they mean: an outcome, and whose trouble it is (`Scope`). The scope alone decides what the run does next:

    RECIPIENT   this recipient: the letter fails or waits; the session goes on
    MESSAGE     this message, for whichever recipient: the letter fails or waits; the session goes on
    POLICY      the relay's rules: as RECIPIENT, but several in a row stop the run and fail no letter
    CONNECTION  this connection: the letter is ready again at once, on a new connection
    RATE        too much at once: as CONNECTION, and one connection fewer
    QUOTA       the account's quota at the relay is used up: the run stops until its reset, the letter stays ready
    SENDER      our sender address is refused: the run stops, the letter stays ready
    RELAY       the relay as a whole (down, or it refuses our login): the run waits or stops, letters stay ready

The first digit of the basic code decides, the enhanced code refines (RFC 5321 §4.2.1, RFC 3463).
A 550 without an enhanced code says "mailbox unavailable" to RCPT (RFC 5321 §4.2.3), so there it is RECIPIENT: were it
POLICY, a few dead addresses in a row would stop the campaign. After the dot it is about what was sent: POLICY.
Never does it look into the words of a reply for the class, except "too many" and "rate" beside a 4yz (RFC 5321 has
no code for them). An enhanced code whose class contradicts the basic code (some relays send `550 4.x.x`) is not used;
the reply stays in the ledger as it came, so that the clash can be seen.

What one service says in its own way is not guessed here: it comes as data, `ReplyRule`s from the profile of that
service, which go first. A rule speaks of 4yz and 5yz alone; no rule ever makes a letter accepted, or known.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from dispatcher.core.model import HandOver, Outcome, Phase, Reply, State

S = State
TRANSITIONS: Final[frozenset[tuple[State, State]]] = frozenset(
    {
        (S.READY, S.LEASED),  # a run takes it up
        (S.LEASED, S.READY),  # given back: not tried, refused for now, or the run ended
        (S.LEASED, S.AT_RISK),  # the intent is durable; the terminator may leave
        (S.LEASED, S.FAILED),  # refused for good before the terminator, or by us
        (S.LEASED, S.SUPPRESSED),  # the address was suppressed meanwhile
        (S.AT_RISK, S.READY),  # retracted, or refused for now after the dot
        (S.AT_RISK, S.LEASED),  # refused by policy after the dot: held until the breaker has judged
        (S.AT_RISK, S.ACCEPTED),
        (S.AT_RISK, S.FAILED),
        (S.AT_RISK, S.UNKNOWN),
        (S.UNKNOWN, S.ACCEPTED),  # evidence, or a person's word
        (S.UNKNOWN, S.FAILED),
        (S.UNKNOWN, S.READY),  # resend: a person, or the campaign's on_unknown
        (S.UNKNOWN, S.CLOSED_UNKNOWN),  # assume_sent: no longer held, still not known
        (S.FAILED, S.READY),  # a person says resend, or the row was amended
        (S.READY, S.SUPPRESSED),
        (S.READY, S.CANCELLED),  # the row was removed
        (S.SUPPRESSED, S.READY),  # the suppression was removed by a person
        (S.SUPPRESSED, S.CANCELLED),
        (S.FAILED, S.CANCELLED),
        (S.CANCELLED, S.READY),  # the row came back
        (S.CANCELLED, S.SUPPRESSED),
        # On paper. No run takes up what waits to be printed.
        (S.TO_PRINT, S.PRINTED),  # the file is written
        (S.FAILED, S.PRINTED),  # issued again on paper
        (S.PRINTED, S.POSTED),  # a person's word, with the date
        (S.PRINTED, S.TO_PRINT),  # a person threw the sheets away
        (S.PRINTED, S.FAILED),  # the same, of one that failed by mail
        (S.TO_PRINT, S.SUPPRESSED),
        (S.TO_PRINT, S.CANCELLED),
        (S.SUPPRESSED, S.TO_PRINT),
        (S.CANCELLED, S.TO_PRINT),
        (S.TO_PRINT, S.READY),  # amended: its row is for mail now
        (S.READY, S.TO_PRINT),  # amended: its row is for paper now
        (S.FAILED, S.TO_PRINT),
    }
)
"""Every arrow there is; the ledger refuses all others. `accepted`, `closed_unknown` and `posted` are terminal."""

BREAKER: Final = 5
"""So many policy refusals in a row stop the run, and so many unknown outcomes; or so many refusals among 50 letters."""
BREAKER_WINDOW: Final = 50

LIFE: Final = timedelta(hours=72)
"""How long a letter is tried, from its first attempt. The relay queues by itself, so RFC 5321's 4-5 days are its."""

SETTLE_AFTER: Final = 3
"""After so many attempts a letter goes to those of its mailboxes that accept, even if others are refused for now."""

LONGEST_PAUSE: Final = timedelta(minutes=240 * 1.2)
"""No letter ever waits longer for its next attempt; a later date was written by a clock that was wrong."""

_SCHEDULE: Final = (5, 15, 30, 60, 120, 240)
_RECIPIENT_GONE: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_SUPPRESS: Final = _RECIPIENT_GONE - {"5.2.1"}  # disabled is not gone
_SENDER: Final = frozenset({"5.1.7", "5.1.8"})
_AUTH: Final = frozenset({"5.7.8", "5.7.9", "5.7.11"})
_RATE_WORDS: Final = re.compile(r"\btoo (many|much)\b|\brate\b|\bthrottl|\bslow down\b", re.IGNORECASE)
_SPENT: Final = re.compile(
    r"\btoo many (?:messages|mails?|e-?mails?|transactions|letters)\b.*\b(?:connection|session)",
    re.IGNORECASE | re.DOTALL,
)
_CONNECTIONS: Final = re.compile(r"\btoo many (?:\w+ ){0,3}(?:connections|sessions)\b", re.IGNORECASE)
_PAUSE: Final = re.compile(r"\b(\d{1,5}) ?(s|m)(?:ec|in)?(?:ond|ute)?s?\b", re.IGNORECASE)
_QUEUE_IDS: Final = (
    re.compile(r"\b(?:queued|captured) as <?([\w.@=+-]+)", re.IGNORECASE),  # Postfix, our sandbox, many services
    re.compile(r"\bid[= ]<?([\w.@-]+)", re.IGNORECASE),  # Exim
    re.compile(r"\bqueued \(([\w.@-]+)\)", re.IGNORECASE),  # Haraka
    re.compile(r"([\w.@-]+) message accepted for delivery", re.IGNORECASE),  # Sendmail, OpenSMTPD
    re.compile(r"\bok:? +([a-z.-]*\d[\w.@-]{7,})", re.IGNORECASE),  # qmail, some services: a bare number after "ok"
)


class Scope(StrEnum):
    """Whose trouble it is; see the module's table."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    POLICY = "policy"
    CONNECTION = "connection"
    RATE = "rate"
    QUOTA = "quota"
    SENDER = "sender"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the facts mean. `why` is for people."""

    outcome: Outcome
    scope: Scope
    why: str


class Meaning(StrEnum):
    """What a service means by a reply of its own."""

    QUOTA = "quota"
    FEWER_CONNECTIONS = "fewer_connections"
    SLOWER = "slower"
    SLOWER_LOGIN = "slower_login"
    SENDER = "sender"


@dataclass(frozen=True, slots=True)
class ReplyRule:
    """A reply of one service and what it means there. What is left empty matches any.

    `words` is a piece of the text, whatever its case: for services that have no code of their own for it.
    """

    code: int
    meaning: Meaning
    enhanced: str = ""
    phase: Phase | None = None
    words: str = ""

    def matches(self, phase: Phase, reply: Reply) -> bool:
        return (
            self.code == reply.code
            and self.enhanced in ("", reply.enhanced)
            and self.phase in (None, phase)
            and self.words.casefold() in reply.text.casefold()
        )


_MEANT: Final = {
    Meaning.QUOTA: (Outcome.DEFERRED, Scope.QUOTA, "the account's quota there is used up"),
    Meaning.FEWER_CONNECTIONS: (Outcome.DEFERRED, Scope.RATE, "it wants fewer connections"),
    Meaning.SLOWER: (Outcome.DEFERRED, Scope.RATE, "it wants letters more slowly"),
    Meaning.SLOWER_LOGIN: (Outcome.DEFERRED, Scope.RATE, "it wants fewer logins"),
    Meaning.SENDER: (Outcome.FAILED, Scope.SENDER, "it is about the sender's own mailbox"),
}


def _by_rule(phase: Phase, reply: Reply | None, rules: Iterable[ReplyRule]) -> Verdict | None:
    """What the first rule that matches says, or None."""
    if reply is None or reply.code // 100 not in (4, 5):
        return None
    for rule in rules:
        if rule.matches(phase, reply):
            outcome, scope, words = _MEANT[rule.meaning]
            return Verdict(outcome, scope, f"{reply} ({words})")
    return None


def classify(facts: HandOver, rules: Iterable[ReplyRule] = ()) -> Verdict:
    """Say what one transaction came to; `rules` are those of the service that was spoken to.

    Once the terminator has left, only a whole 2yz, 4yz or 5yz reply is an outcome (RFC 5321 §4.2.5, 421 included);
    everything else is UNKNOWN. Before it, nothing was sent, whatever happened.
    """
    if verdict := _by_rule(facts.phase, facts.reply, rules):
        return verdict
    if facts.terminator:
        return _after_the_dot(facts)
    if facts.reply is None:
        return Verdict(Outcome.DEFERRED, Scope.CONNECTION, facts.fault or "given back before anything was sent")
    return _before_the_dot(facts.phase, facts.reply)


def _after_the_dot(facts: HandOver) -> Verdict:
    reply = facts.reply
    if reply is None or reply.code // 100 not in (2, 4, 5):
        return Verdict(Outcome.UNKNOWN, Scope.CONNECTION, facts.fault or f"not a reply to a message: {reply}")
    if reply.code // 100 == 2:
        return Verdict(Outcome.ACCEPTED, Scope.RECIPIENT, str(reply))
    if reply.code // 100 == 4:
        return Verdict(Outcome.DEFERRED, _temporary_scope(Phase.FINAL, reply, Scope.MESSAGE), str(reply))
    return _permanent(reply, Scope.MESSAGE)


def _before_the_dot(phase: Phase, reply: Reply) -> Verdict:
    kind = reply.code // 100
    default = Scope.RECIPIENT if phase is Phase.RCPT else Scope.MESSAGE
    if kind == 4:
        return Verdict(Outcome.DEFERRED, _temporary_scope(phase, reply, default), str(reply))
    if kind != 5:
        return Verdict(Outcome.DEFERRED, Scope.CONNECTION, f"not a reply to {phase.upper()}: {reply}")
    if phase is Phase.RCPT and reply.code == 552 and _status(reply) in ("", "5.5.3"):
        return Verdict(Outcome.DEFERRED, Scope.CONNECTION, str(reply))  # RFC 5321 §4.5.3.1.10: means 452
    if phase is Phase.MAIL and not (_login_refused(reply) or _about_the_message(reply)):
        return Verdict(Outcome.FAILED, Scope.SENDER, str(reply))
    return _permanent(reply, default)


def _permanent(reply: Reply, default: Scope) -> Verdict:
    """A 5yz that counts. A full mailbox (5.2.2) may be emptied, so that one waits."""
    outcome = Outcome.DEFERRED if _status(reply) == "5.2.2" else Outcome.FAILED
    return Verdict(outcome, _permanent_scope(reply, default), str(reply))


def _permanent_scope(reply: Reply, default: Scope) -> Scope:
    """In any phase: many relays put off what they hold against the sender until RCPT, or until after the dot."""
    status = _status(reply)
    unavailable = (550, 551, 553) if default is Scope.RECIPIENT else (551, 553)
    if _login_refused(reply):
        return Scope.RELAY
    if status in _SENDER:
        return Scope.SENDER
    if status in _RECIPIENT_GONE or status == "5.2.2" or (not status and reply.code in unavailable):
        return Scope.RECIPIENT
    if _about_the_message(reply):
        return Scope.MESSAGE
    if status.startswith("5.7.") or reply.code in (550, 554):
        return Scope.POLICY
    return default


def _status(reply: Reply) -> str:
    """The enhanced code, unless it contradicts the basic one; then the basic one stands alone."""
    return reply.enhanced if reply.enhanced[:1] == str(reply.code)[:1] else ""


def _login_refused(reply: Reply) -> bool:
    """RFC 4954 §6."""
    return reply.code in (530, 534, 535) or _status(reply) in _AUTH


def _about_the_message(reply: Reply) -> bool:
    """Too large, or of a kind the relay cannot take (RFC 3463 §3.4 and §3.7, RFC 6531 §3.5)."""
    status = _status(reply)
    return status in ("5.3.4", "5.2.3") or status.startswith("5.6.") or (reply.code == 552 and not status)


def _temporary_scope(phase: Phase, reply: Reply, default: Scope) -> Scope:
    status = _status(reply)
    if reply.code == 421 or status in ("4.7.0", "4.4.5"):
        return Scope.RATE
    if status == "4.5.3" or (phase is Phase.RCPT and reply.code == 452 and not status):
        return Scope.CONNECTION  # too many recipients here: RFC 5321 §4.5.3.1.10
    if status.startswith(("4.1.", "4.2.")):
        return default  # about that mailbox, whatever the words
    return Scope.RATE if _RATE_WORDS.search(reply.text) else default


def rcpt_outcome(reply: Reply, letter: Outcome) -> Outcome:
    """What one mailbox came to: refused there and then, or as the letter itself."""
    return {2: letter, 4: Outcome.DEFERRED}.get(reply.code // 100, Outcome.FAILED)


def address_is_gone(reply: Reply) -> bool:
    """Whether a reply to RCPT says that the address itself is no good, so that it must not be written to again."""
    return reply.code // 100 == 5 and reply.enhanced in _SUPPRESS


def queue_id(reply: Reply | None) -> str:
    """The relay's own number for a message, from the words it accepted it with; '' if it gave none we know."""
    if reply is None or reply.code // 100 != 2:
        return ""
    found = (pattern.search(reply.text) for pattern in _QUEUE_IDS)
    return next((match[1].rstrip(".") for match in found if match), "")


def classify_trouble(phase: Phase, reply: Reply | None, fault: str, rules: Iterable[ReplyRule] = ()) -> Verdict:
    """Say what a session that could not be set up means. No letter is harmed by any of it.

    FAILED: trying again will not help until a person has changed something; TLS that is missing or bad is of that
    kind, for it may be an attack. DEFERRED: it may pass by itself.
    """
    if verdict := _by_rule(phase, reply, rules):
        return replace(verdict, why=f"{phase.upper()}: {verdict.why}")
    why = f"{phase.upper()}: {reply or fault}"
    if reply is None:
        stands = phase is Phase.STARTTLS
    else:
        stands = _login_refused(reply) or (phase in (Phase.AUTH, Phase.STARTTLS) and reply.code // 100 == 5)
    if stands:
        return Verdict(Outcome.FAILED, Scope.RELAY, why)
    busy = reply is not None and reply.code // 100 == 4 and _temporary_scope(phase, reply, Scope.RELAY) is Scope.RATE
    return Verdict(Outcome.DEFERRED, Scope.RATE if busy else Scope.RELAY, why)


def connection_is_spent(words: str) -> bool:
    """Whether a refusal says that one connection has carried all the letters it may."""
    return bool(_SPENT.search(words))


def too_many_connections(words: str) -> bool:
    """Whether a refusal says that there are too many connections at once."""
    return bool(_CONNECTIONS.search(words))


def asked_pause(words: str) -> float:
    """Seconds that a relay asks us to stay away for, in the words of a refusal; 0 if it does not, at most an hour."""
    found = _PAUSE.search(words)
    return min(3600.0, float(found[1]) * (60 if found[2] in "mM" else 1)) if found else 0.0


def retry_at(attempts: int, first: datetime, now: datetime, spread: float) -> datetime | None:
    """When a letter that was refused for now is due again; None when its life is over.

    `attempts` counts this one, from 1; `spread` in [-1, 1] moves the pause by up to 20 %, so that letters refused
    together do not come back together. The first pause is never cut short: a grey list counts whole minutes
    (RFC 6647). A letter is given up only when its age AND the whole schedule are used up, so that a clock that jumps
    ahead takes no try away from it.
    """
    if now - first >= LIFE and attempts > len(_SCHEDULE):
        return None
    if attempts == 1:
        spread = (spread + 1) / 2
    minutes = _SCHEDULE[min(attempts, len(_SCHEDULE)) - 1]
    return now + timedelta(minutes=minutes * (1 + 0.2 * spread))
