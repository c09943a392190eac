"""What a relay did when it was asked everything but to take a letter, and what that says."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dispatcher.core.campaign import RelayAccount
from dispatcher.core.model import Outcome, Phase, Reply, SessionInfo
from dispatcher.core.policy import ReplyRule, classify_trouble
from dispatcher.core.ports import RelayTrouble
from dispatcher.core.preflight import Line, Part, ok, problem, warning

SOON: Final = 14
"""Days before its end at which a certificate is worth a word."""
_SUBJECTS: Final[Mapping[Phase, str]] = {
    Phase.CONNECT: "connection",
    Phase.GREETING: "connection",
    Phase.EHLO: "connection",
    Phase.STARTTLS: "TLS",
    Phase.AUTH: "login",
}
_USEFUL: Final = ("PIPELINING", "CHUNKING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN")


@dataclass(frozen=True, slots=True)
class Trial:
    """What to ask a relay for: a transaction from the return path to ourselves, of so many octets."""

    return_path: str
    oneself: str
    size: int


@dataclass(frozen=True, slots=True)
class Probe:
    """The facts of one session that was asked for a transaction, and for taking it back (RSET). No letter was sent.

    `certificate_until` is when the relay's certificate ends; `mail` and `rcpt` are its answers, None if it gave none;
    `round_trip` is the shortest of a few, in seconds; None if the relay answered none.
    """

    info: SessionInfo
    certificate_until: datetime | None
    mail: Reply | None
    rcpt: Reply | None
    round_trip: float | None


def at_least(letters: int, probe: Probe, connections: int) -> float | None:
    """Seconds that so many letters take, however quick the relay is: by the round trip alone, or None.

    One a letter where commands are pipelined (RFC 2920), two letters in one where content comes in chunks (RFC 3030),
    else one for each of MAIL, RCPT, DATA and the dot.
    """
    if probe.round_trip is None:
        return None
    pipelined, chunked = (name in probe.info.features for name in ("PIPELINING", "CHUNKING"))
    trips = 4 if not pipelined else 0.5 if chunked else 1
    return letters * trips * probe.round_trip / connections


def trouble_line(trouble: RelayTrouble, rules: Iterable[ReplyRule], advice: str) -> Line:
    """There was no session."""
    verdict = classify_trouble(trouble.phase, trouble.reply, trouble.fault, rules)
    passing = verdict.outcome is Outcome.DEFERRED
    return problem(Part.RELAY, _SUBJECTS[trouble.phase], verdict.why, advice, passing=passing)


def probe_lines(relay: RelayAccount, probe: Probe, trial: Trial, now: datetime) -> Iterator[Line]:
    """There was one."""
    info = probe.info
    trip = "an unknown time" if probe.round_trip is None else f"{probe.round_trip * 1000:,.1f} ms"
    yield ok(Part.RELAY, "connection", f"{info.peer} answers; a round trip takes {trip}")
    yield _tls(relay, probe, now)
    yield _features(info)
    yield _login(relay, info)
    yield from _envelope(probe, trial)
    yield _size(info, trial.size)


def _tls(relay: RelayAccount, probe: Probe, now: datetime) -> Line:
    info, until = probe.info, probe.certificate_until
    if not info.tls_version:
        return ok(Part.RELAY, "TLS", f"none: {relay.host} is this machine")
    if until is None:
        return ok(Part.RELAY, "TLS", f"{info.tls_version}, certificate of {info.certificate}")
    days = (until - now).days
    left = "1 more day" if days == 1 else f"{days:,} more days"
    what = f"{info.tls_version}, certificate of {info.certificate} for {left}, until {until:%Y-%m-%d}"
    if days < SOON:
        todo = "ask whoever runs the relay to renew it: with one that has ended nothing leaves"
        return warning(Part.RELAY, "TLS", what, todo)
    return ok(Part.RELAY, "TLS", what)


def _features(info: SessionInfo) -> Line:
    there = [name for name in _USEFUL if name in info.features]
    missing = [name for name in _USEFUL if name not in info.features]
    what = f"offers {', '.join(there) or 'nothing that matters here'}"
    return ok(Part.RELAY, "features", what + (f"; not {', '.join(missing)}" if missing else ""))


def _login(relay: RelayAccount, info: SessionInfo) -> Line:
    if relay.user:
        how = "an access token" if relay.auth == "xoauth2" else "the password"
        return ok(Part.RELAY, "login", f"{relay.user} was let in with {how}")
    if "AUTH" in info.features:
        what = f"the relay offers a login ({info.features['AUTH']}), and campaign.toml has none"
        return warning(Part.RELAY, "login", what, "set user and password under [relay], if you have an account there")
    return ok(Part.RELAY, "login", "none is set up, and none is asked for")


def _envelope(probe: Probe, trial: Trial) -> Iterator[Line]:
    """MAIL and RCPT. A refusal for now is what a grey list does to whom it does not know."""
    if probe.mail is None:
        what = "the relay broke off when it was asked for a transaction"
        yield problem(Part.RELAY, "sender", what, _ASK, passing=True)
        return
    yield _answered("sender", probe.mail, f"MAIL FROM:<{trial.return_path}>", _SENDER)
    if probe.mail.code // 100 != 2:
        return
    if probe.rcpt is None:
        what = "the relay broke off when it was asked for a recipient"
        yield problem(Part.RELAY, "recipient", what, _ASK, passing=True)
        return
    yield _answered("recipient", probe.rcpt, f"RCPT TO:<{trial.oneself}>, your own address", _RECIPIENT)


_ASK: Final = "ask whoever runs it"
_SENDER: Final = "use a return path (or address) under [sender] that this relay takes, or ask whoever runs it"
_RECIPIENT: Final = (
    "see that the address under [sender] exists and that this account may send: what refuses you refuses others too"
)
_LATER: Final = "a grey list does so to whom it does not know; try again in some minutes"


def _answered(subject: str, reply: Reply, asked: str, todo: str) -> Line:
    what = f"{reply} to {asked}"
    if reply.code // 100 == 2:
        return ok(Part.RELAY, subject, f"takes {asked}; taken back at once, no letter was sent")
    if reply.code // 100 == 4:
        return warning(Part.RELAY, subject, f"refused for now: {what}", _LATER)
    return problem(Part.RELAY, subject, what, todo)


def _size(info: SessionInfo, size: int) -> Line:
    shown = f"the largest letter has {size / 1e6:,.2f} MB on the wire"
    if not size:
        return ok(Part.RELAY, "size", "unknown: no letter was made")
    if not info.size:
        return ok(Part.RELAY, "size", f"{shown}; the relay names no limit")
    what = f"{shown}; the relay takes {info.size / 1e6:,.2f} MB"
    if size > info.size:
        todo = "make its attachments smaller: on the wire they are a third larger than on the disk; or link to them"
        return problem(Part.RELAY, "size", what, todo)
    return ok(Part.RELAY, "size", what)
