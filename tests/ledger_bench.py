"""A ledger on the bench: letters to seal, runs to begin, and what a second connection sees of it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from dispatcher.core.model import (
    Attachment,
    Channel,
    Ending,
    Leased,
    Letter,
    Mailbox,
    Outcome,
    Phase,
    Recipient,
    Reply,
    SessionInfo,
    Skip,
    State,
)
from dispatcher.ledgers import sealing
from dispatcher.ledgers.printing import Printed, PrintedFile, record
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import deflater, letter_row, new_dictionary
from dispatcher.ledgers.sealing import Sealable
from dispatcher.ledgers.sqlite import Run, SqliteLedger

T = TypeVar("T")
CAMPAIGN: Final = "harvest"
ACCOUNT: Final = "me@relay.example:587"
INFO: Final = SessionInfo("relay.example", 587, "192.0.2.1:587", "TLSv1.3", "TLS_AES_256_GCM_SHA384")
PDF: Final = Attachment("report.pdf", "application/pdf", "ab" * 32, 5, "report.pdf")
TABLES: Final = (
    "plan",
    "letter",
    "skip",
    "run",
    "session",
    "attempt",
    "rcpt",
    "suppression",
    "event",
    "pace",
    "test",
    "printing",
)


class Time:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Bench(Protocol):
    """A ledger to try: one place, opened as often as wanted."""

    time: Time

    def open(self, *, hold: bool = True) -> SqliteLedger:
        """The ledger for writing; whoever opens it closes it."""
        ...

    def reader(self) -> Reader:
        """The ledger for reading."""
        ...

    def sql(self, *statements: str, keep: bool = True) -> list[tuple[Any, ...]]:
        """Run statements in one transaction on a connection of its own; the rows of the last. Raises `refused`."""
        ...

    refused: type[Exception]


def letter(key: str, *addresses: str, text: str = "one", number: str = "", channel: Channel = Channel.MAIL) -> Letter:
    boxes = tuple(Mailbox(a, f"Mission {key}", a.lower()) for a in addresses or (f"{key.lower()}@missions.example",))
    recipient = Recipient(key, boxes[:1], boxes[1:], "fr", {"city": "Genève", "text": text}, channel=channel)
    own = f"To: {key}\r\n\r\nOf the {text} harvest\r\n".encode()
    digest = f"digest of {key} {text}" + ("" if channel is Channel.MAIL else " on paper")
    return Letter(recipient, "fr", number or f"<{key}.harvest@kms.example>", (PDF,), digest, own)


def on_paper(key: str, *addresses: str, text: str = "one") -> Letter:
    """A letter to be printed; without an address of its own it has no mailbox."""
    made = letter(key, *addresses, text=text, channel=Channel.PAPER)
    return made if addresses else replace(made, recipient=replace(made.recipient, to=()))


def same(leased: Leased, letter: Letter) -> bool:
    """Whether a leased letter is the one that was sealed."""
    boxes = tuple(replace(mailbox, name="") for mailbox in letter.recipient.mailboxes)
    sealed = (letter.key, letter.message_id, letter.digest, boxes, letter.attachments, letter.own)
    return sealed == (
        leased.key, leased.message_id, leased.digest, leased.mailboxes, leased.attachments, leased.own
    )  # fmt: skip


def letters(count: int) -> list[Letter]:
    return [letter(f"K{n:03}") for n in range(count)]


def sealable(letters: Iterable[Letter], *, revision: int = 1, campaign: str = CAMPAIGN, **what: Any) -> Sealable:
    """A plan of these letters, in that order, as it comes from a folder."""
    dictionary = new_dictionary(b"letter")
    deflate = deflater(dictionary)
    rows = ({**letter_row(each), "own": deflate(each.own)} for each in letters)
    given = {"skips": (), "contents": [(PDF.digest, b"%PDF-")], **what}
    return Sealable(campaign, f"plan {revision}", f'{{"revision":{revision}}}', dictionary, rows, **given)


def seal(bench: Bench, sealed: Sequence[Letter], *, campaign: str = CAMPAIGN, skips: Sequence[Skip] = ()) -> None:
    """Seal, or amend to, exactly these letters."""
    with bench.open() as ledger:
        with bench.reader() as reader:
            plan = reader.one("latest_plan", campaign=campaign)
        revision = (plan["revision"] if plan else 0) + 1
        sealing.seal(ledger, sealable(sealed, revision=revision, campaign=campaign, skips=skips), revision)


def begin(ledger: SqliteLedger, on_unknown: str = "hold", account: str = ACCOUNT, **pace: Any) -> Run:
    found = ledger.begin_run(CAMPAIGN, account, on_unknown)
    return Run(ledger, found.run, CAMPAIGN, account, **pace)


def wait(job: Coroutine[Any, Any, T] | Callable[[], Awaitable[T]]) -> T:
    """Do it in a loop of its own; what wants one to begin with comes as a function."""

    async def go() -> T:
        return await (job() if callable(job) else job)

    return asyncio.run(go())


def lease(run: Run, limit: int = 100) -> tuple[Leased, ...]:
    return wait(run.lease(limit)).letters


async def _send(run: Run, leased: Leased, ending: Ending) -> int | None:
    session = await run.open_session(INFO)
    attempt = await run.intend(leased, session, leased.not_before, "octets")
    if attempt is not None:
        await run.conclude(leased, session, attempt, ending)
    return attempt


def send(run: Run, leased: Leased, ending: Ending) -> int | None:
    """A whole attempt; its number, or None if the letter was suppressed."""
    return wait(_send(run, leased, ending))


def intend(run: Run, leased: Leased) -> int | None:
    session = wait(run.open_session(INFO))
    return wait(lambda: run.intend(leased, session, leased.not_before, "octets"))


def ending(state: State, **changed: Any) -> Ending:
    """How an attempt ends that brings a letter there."""
    outcome = {State.READY: Outcome.DEFERRED, State.LEASED: Outcome.FAILED}.get(state) or Outcome(state.value)
    code = {Outcome.ACCEPTED: 250, Outcome.DEFERRED: 450, Outcome.FAILED: 550}.get(outcome)
    reply = Reply(code, f"{code // 100}.0.0 said the relay") if code else None
    scope = "policy" if state is State.LEASED else "recipient"  # only what may be about all letters is held
    return replace(Ending(state, outcome, Phase.FINAL, scope, "why", reply), **changed)


ACCEPTED: Final = ending(State.ACCEPTED)
UNKNOWN: Final = ending(State.UNKNOWN)
FAILED: Final = ending(State.FAILED)


def put_off(run: Run, letter: Leased) -> None:
    """Nothing of it was sent, and it is due again at once."""
    wait(lambda: run.conclude(letter, None, None, ending(State.READY, phase=Phase.MAIL, counted=False)))


def printed(bench: Bench, ledger: SqliteLedger, *keys: str, at: State | None = None) -> list[str]:
    """Print these letters from where they stand; the keys of those that were not recorded."""
    with bench.reader() as reader:
        number = reader.one("next_printing", campaign=CAMPAIGN)
        rows = [reader.one("to_be_printed", campaign=CAMPAIGN, key=key) for key in keys]
    made = [
        Printed(row["id"], row["key"], at or State(row["state"]), row["digest"], "letters.pdf") for row in rows if row
    ]
    assert number
    return record(ledger, number["number"], CAMPAIGN, made, [PrintedFile("letters.pdf", "letters", 5, "ab")], "Ada")


def numbers(bench: Bench, *keys: str) -> list[int]:
    """The numbers that letters have in the ledger."""
    with bench.reader() as reader:
        rows = [reader.one("standing", campaign=CAMPAIGN, key=key) for key in keys]
        return [row["id"] for row in rows if row]


def states(bench: Bench, campaign: str = CAMPAIGN) -> dict[str, str]:
    with bench.reader() as reader:
        return {row["key"]: row["state"] for row in reader.rows("log", campaign=campaign, state="", key="", since="")}


def dump(bench: Bench) -> dict[str, list[tuple[Any, ...]]]:
    """Everything there is."""
    return {table: bench.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


def at_work(ledger: SqliteLedger) -> "threading.Event":
    """Keep the ledger busy, so that what is submitted meanwhile waits together; set the event to go on."""
    busy, go_on = threading.Event(), threading.Event()

    def job(_: Any) -> None:
        busy.set()
        go_on.wait(30)

    ledger.submit(job)
    busy.wait(30)
    return go_on


WHY: Final[dict[str, Any]] = {"reason": "asked us to stop", "source": "by hand", "who": "Ada"}
TEST: Final[dict[str, Any]] = {"campaign": CAMPAIGN, "key": "K000", "address": "me@example.org", "message_id": "<t>"}
