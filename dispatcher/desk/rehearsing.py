"""A rehearsal: the whole run as `send` does it, against a relay that plays faults, on virtual time; and staff's part.

    with Rehearsal(root, Wish("flaky")) as rehearsal:
        while turn := rehearsal.next_turn():
            ... rehearsal.send(turn) ...
        ... rehearsal.timeline(), rehearsal.agreement() ...

Everything is what a real `send` uses: checks, sealing, the run, the conversation with the relay, the ledger; pace,
quota, connections and `not_after` are the campaign's. In its own place are the ledger and the mail (in a folder that is
thrown away, or kept by name), the relay, and the clock. The campaign's folder and this machine's marks are not touched,
no secret is asked for, nothing leaves the machine. It begins as if nothing had been sent.

Staff type `send` again a quarter of an hour after the moment that the last one named, or at which it ended; after twice
as long each time that no letter came to its end. Nobody resolves what is unknown: it stays so, as it would until
somebody has asked.
"""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import LedgerUnavailable, Problem, UsageError
from dispatcher.core.model import Outcome, State
from dispatcher.core.policy import Meaning, ReplyRule
from dispatcher.core.reading import tally
from dispatcher.desk import HIDDEN, Desk, quoted
from dispatcher.desk.agreement import Agreement, agreement
from dispatcher.desk.attached import Watch
from dispatcher.desk.clock import SystemClock
from dispatcher.desk.outlook import Outlook, outlook
from dispatcher.desk.pacing import Expected, expected, of_plan, profile_of
from dispatcher.desk.sending import Result, send
from dispatcher.desk.stage import Stage
from dispatcher.desk.virtual import VirtualTime
from dispatcher.dispatch import Close, Dispatch
from dispatcher.ledgers.reader import Reader
from dispatcher.sandbox.faults import REGIMES, Fates, Fault, Quota, Regime, Step
from dispatcher.sandbox.relay import FaultyRelay

SEED: Final = 1
_TRIES: Final = 10
_SETTLE: Final = 0.02
"""Real seconds for octets on their way, where it cannot be known that there are none."""
_LATER: Final = timedelta(minutes=15)
"""After so long staff look again, and after twice as long each time that it was in vain; up to `_LATEST`."""
_LATEST: Final = timedelta(hours=4)
_IN_VAIN: Final = 30
"""After so many sends in a row that brought no letter to its end they give up: more than a letter's life."""
_LEFT: Final = (State.AT_RISK, State.ACCEPTED, State.UNKNOWN, State.CLOSED_UNKNOWN)
_SPENT: Final = ReplyRule(550, Meaning.QUOTA, "5.4.5")
"""What a quota is used up with, where the profile has no reply of its own."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be rehearsed: under which faults, by which seed, whether staff `--wait`, and where it is kept."""

    faults: str = "none"
    seed: int = SEED
    wait: bool = False
    keep: Path | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A `send` that staff type: when, what, and what it would do."""

    at: datetime
    command: str
    plan: Outlook
    forecast: Expected | None


@dataclass(frozen=True, slots=True)
class Sent:
    """What it came to."""

    turn: Turn
    ended: datetime
    result: Result


@dataclass(frozen=True, slots=True)
class Moment:
    """A line of the timeline: from when until when, what, and how many letters (0: it is about none)."""

    at: datetime
    until: datetime
    what: str
    letters: int = 0

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "at": self.at.isoformat(), "until": self.until.isoformat()}


class Rehearsal:
    """See the module. Raises UsageError for what the folder, or the wish, has wrong."""

    def __init__(self, root: Path, wish: Wish, *, watch: Watch | None = None, regime: Regime | None = None) -> None:
        self._root = root
        self.wish = wish
        self._watch = watch
        self._regime = regime or REGIMES[wish.faults]
        self._stack = ExitStack()
        self._sent: list[Sent] = []
        self._in_vain = 0  # sends in a row that brought no letter to its end
        self.refused: UsageError | None = None

    def __enter__(self) -> Self:
        _require_free(self.wish.keep)
        with ExitStack() as stack:
            self._set_up(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dispatcher-"))))
            self._stack = stack.pop_all()
        return self

    def _set_up(self, scratch: Path) -> None:
        keep = self.wish.keep
        folder = keep or scratch / "rehearsal"
        sockets = scratch / "s"
        sockets.mkdir()
        self.fates = Fates(self._regime, self.wish.seed)
        time = VirtualTime(SystemClock().now().replace(microsecond=0))
        self.relay = FaultyRelay(self.fates, time.now, sockets, folder / "mail" if keep else None)
        time.settle = 0.0 if self.relay.exact else _SETTLE
        ledger = folder / HIDDEN / "sandbox" / "ledger.sqlite"
        real = _copied(self._root / HIDDEN / "ledger.sqlite", scratch)
        stage = Stage(ledger, folder / "mail", real, time, self.relay, self.wish.seed)
        self.desk = Desk(self._root, watch=self._watch, stage=stage)
        self.time = time
        self._folder = folder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # The run, and staff's part.

    def next_turn(self) -> Turn | None:
        """The next `send` that staff would type; None if there is nothing more to be had by sending."""
        if not self._sent:
            return self._first()
        result = self._sent[-1].result
        over = result.report.close in (Close.INTERRUPTED, Close.DEADLINE) or not self._open(result)
        if over or self._in_vain >= _IN_VAIN:
            return None
        pause = min(_LATEST, _LATER * 2**self._in_vain)
        self.time.put_forward(max(self.time.now(), result.report.until or self.time.now()) + pause)
        try:
            return self._turn(outlook(self.desk))
        except UsageError as error:  # as staff would be told: `not_after` cannot be met any more
            self.refused = error
            return None

    def _first(self) -> Turn:
        plan = outlook(self.desk)
        turn, self._campaign = self._turn(plan), plan.draft.campaign
        if self._regime.quota:
            self.fates.quota = _quota(self._campaign, plan.count)
        if self.wish.keep:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(self._root / "campaign.toml", self._folder / "campaign.toml")
        return turn

    def _turn(self, plan: Outlook) -> Turn:
        if not plan.count:
            todo = f"see why: dispatcher check{self.desk.flag}"
            raise UsageError(Problem("there is no letter to send", todo=todo))
        command = f"dispatcher send{self.desk.flag} --confirm {plan.count}" + (" --wait" if self.wish.wait else "")
        return Turn(self.time.now(), command, plan, expected(self.desk, of_plan(plan)))

    def send(self, turn: Turn, observe: Callable[[Dispatch], None] | None = None) -> Sent:
        """Play it. Raises what `send` raises."""
        before = self._open(self._sent[-1].result) if self._sent else -1
        result = send(self.desk, turn.plan, wait=self.wish.wait, observe=observe)
        self._in_vain = self._in_vain + 1 if self._open(result) == before else 0
        self._sent.append(Sent(turn, self.time.now(), result))
        return self._sent[-1]

    def _open(self, result: Result) -> int:
        """Letters that another `send` would take up."""
        again = self._campaign.on_unknown == "resend"
        return result.counts["waiting"] + (result.counts["unknown"] if again else 0)

    # What is to be told of it.

    @property
    def exit_code(self) -> int:
        """0 if every letter was accepted (as `send` counts), 130 if a person stopped it, else 3."""
        last = self._sent[-1].result.exit_code if self._sent else 0
        return last if last in (0, 130) else 3

    def counts(self) -> Mapping[str, int]:
        """Letters by where they stand; the values add up to `letters`."""
        with self.desk.reader() as reader:
            return tally(reader.counts(self.desk.campaign_id()))

    @property
    def look_at(self) -> str:
        """The options that bring commands that read to what is kept."""
        return f" -C {quoted(str(self._folder))} --sandbox"

    def left_already(self) -> int:
        """How many letters have left in truth, or may have; the rehearsal begins as if none had."""
        if not self.desk.real_ledger_path.exists():
            return 0
        with Reader(self.desk.real_ledger_path) as reader:
            counts = reader.counts(self.desk.campaign_id())
        return sum(counts.get(state, 0) for state in _LEFT)

    def beforehand(self) -> Iterator[str]:
        """What staff would type before they can send at all."""
        if wanted := self._campaign.approvals:
            yield f"dispatcher seal{self.desk.flag}"
            yield from [f"dispatcher approve{self.desk.flag} --by NAME"] * wanted

    def left_to_do(self) -> Iterator[str]:
        """What staff would type that sending does not do."""
        counts, flag = self.counts(), self.desk.flag
        if counts["unknown"]:
            yield f"dispatcher log --state unknown{flag}"
            yield f"dispatcher resolve KEY{flag} --as … --why …"
        if counts["failed"]:
            yield f"dispatcher log --state failed{flag}"
        if counts["to_print"]:
            yield f"dispatcher paper{flag}"

    @property
    def unforeseen_quota(self) -> bool:
        """Whether the relay's quota was met, and its words for that are not known without a profile."""
        said = self.fates.quota.refusal.words if self.fates.quota else ""
        return self.relay.played[said] > 0 and not _quota_rules(self._campaign)

    def timeline(self) -> Iterator[Moment]:
        """What happened, in order: each send, what its letters came to, and why it ended."""
        with self.desk.reader() as reader:
            by_run = defaultdict(list)
            for row in reader.rows("timeline"):
                by_run[row["run"]].append(row)
        for run, sent in enumerate(self._sent, 1):
            report = sent.result.report
            yield Moment(sent.turn.at, sent.ended, f"{sent.turn.command}: {report.why.strip() or report.close}")
            yield from map(_moment, by_run[run])

    def agreement(self) -> Agreement:
        """What the relay kept, held against the ledger."""
        with self.desk.reader() as reader:
            return agreement(reader, self.desk.campaign_id(), self.relay.kept)


def _moment(row: Mapping[str, Any]) -> Moment:
    """What some attempts of one run came to."""
    said = f"{row['code'] or ''} {row['said']}".strip()
    what = "refused" if row["outcome"] == Outcome.FAILED else str(row["outcome"])  # a letter may go on after that
    if what != Outcome.ACCEPTED:
        what = f"{what} at {row['phase'].upper()}: {said}"
    first, last = (datetime.fromisoformat(row[name]) for name in ("first", "last"))
    return Moment(first, last, what, row["letters"])


def _quota(campaign: Campaign, letters: int) -> Quota:
    """The relay's limit is met in the midst of a day's letters, and said as this mail service says it."""
    day = min(letters, campaign.pace.quota or letters)
    rule = next(iter(_quota_rules(campaign)), _SPENT)
    refusal = " ".join(filter(None, (str(rule.code), rule.enhanced, rule.words or "daily sending limit reached")))
    return Quota(max(1, day // 2), Fault(Step.RCPT, 1, f"{refusal}\r\n".encode()))


def _quota_rules(campaign: Campaign) -> list[ReplyRule]:
    """What this mail service says when its quota is used up, as far as that is known."""
    profile = profile_of(campaign)
    return [rule for rule in (profile.rules if profile else ()) if rule.meaning is Meaning.QUOTA]


def _copied(ledger: Path, scratch: Path) -> Path:
    """A copy of the campaign's ledger as it was at one moment; if there is none, where it would be.

    Raises LedgerUnavailable if somebody writes into it all the time.
    """
    files = [ledger, ledger.with_name(f"{ledger.name}-wal")]
    for _ in range(_TRIES):
        before = [_stamp(file) for file in files]
        for file in files:
            (scratch / file.name).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(file, scratch / file.name)
        if [_stamp(file) for file in files] == before:
            return scratch / ledger.name
    raise LedgerUnavailable(f"{ledger} changes all the time: wait until the run that is at work is over")


def _stamp(file: Path) -> tuple[int, int] | None:
    """Whether a file was written to shows in this."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _require_free(keep: Path | None) -> None:
    """Raise UsageError if there is something already where a rehearsal is to be kept."""
    if keep and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError(Problem(f"{keep} is there already and not empty", todo="name a new folder"))
