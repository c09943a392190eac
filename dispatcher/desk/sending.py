"""Sending: what a `send` would do now, sealing, and the run itself."""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from dispatcher.core.address import is_reserved
from dispatcher.core.campaign import Campaign, RelayAccount
from dispatcher.core.changes import Standing, compare, differences
from dispatcher.core.errors import Place, PlanConflict, Problem, RelayUnavailable, UsageError
from dispatcher.core.jinja import Expression
from dispatcher.core.merge import Frozen, Merged, Press, message_digest
from dispatcher.core.model import Leased, Letter, Recipient, Recovered, State
from dispatcher.core.plan import Summary
from dispatcher.core.review import tally
from dispatcher.desk import Desk, person, quoted
from dispatcher.desk.draft import Draft
from dispatcher.desk.pacing import settings_of
from dispatcher.dispatch import Close, Dispatch, Prepared, Report
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import document
from dispatcher.ledgers.sealing import Sealable, borrow_suppressions, seal
from dispatcher.ledgers.sqlite import Run, SqliteLedger
from dispatcher.relays.smtp import Account, SmtpRelay
from dispatcher.sandbox import Sandbox
from dispatcher.sources.secret import read_password

_LOOP: Callable[[], asyncio.AbstractEventLoop] | None = None
if sys.platform != "win32":
    with suppress(ImportError):  # faster where there is one; the standard loop does the same
        import uvloop

        _LOOP = uvloop.new_event_loop


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a `send` would do now: `count` letters, of a plan that is sealed already or not yet.

    `keys` are the chosen ones if there was a choice, else None for all; `held_back` the suppressed ones, with the
    reason, of a plan that is not sealed yet.
    """

    draft: Draft
    summary: Summary
    sealed: bool
    count: int
    keys: tuple[str, ...] | None
    held_back: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to: its report, where all letters now stand, what was recovered, and the exit code."""

    report: Report
    counts: Mapping[str, int]
    recovered: Recovered
    exit_code: int
    refused_mailboxes: int


def suppression_of(recipient: Recipient, suppressions: Mapping[str, str]) -> str:
    """Why a letter is held back, or ''."""
    for mailbox in recipient.mailboxes:
        for identity in (mailbox.identity, "@" + mailbox.identity.rpartition("@")[2]):
            if identity in suppressions:
                return f"{identity} is suppressed: {suppressions[identity]}"
    return ""


def outlook(desk: Desk, *, only: str | None = None, limit: int | None = None) -> Outlook:
    """Read the folder, and say what a `send` would do. Raises UsageError, PlanConflict, LedgerUnavailable."""
    draft = desk.draft()
    condition = Expression(only, Place("--only")) if only is not None else None
    suppressions = desk.suppressions()
    summary, chosen, held_back = Summary(), set[str](), dict[str, str]()
    for item in draft.items():
        summary.add(item)
        if isinstance(item, Merged):
            recipient = item.letter.recipient
            if not condition or condition.holds(recipient.fields):
                chosen.add(recipient.key)
            if reason := suppression_of(recipient, suppressions):
                held_back[recipient.key] = reason
    if summary.problems:
        raise UsageError(*summary.problems)
    guard(desk, draft.campaign, summary)
    standing, sealed = sealed_plan(desk, draft, summary)
    if sealed:
        states = {State.READY, State.LEASED}
        if draft.campaign.on_unknown == "resend":
            states |= {State.AT_RISK, State.UNKNOWN}
        sendable = [key for key, there in standing.items() if there.state in states and key not in held_back]
    else:
        sendable = [key for key in summary.letters if key not in held_back]
    if condition is None and limit is None:
        return Outlook(draft, summary, sealed, len(sendable), None, held_back)
    keys = tuple([key for key in sendable if key in chosen][:limit])
    return Outlook(draft, summary, sealed, len(keys), keys, held_back)


def guard(desk: Desk, campaign: Campaign, summary: Summary) -> None:
    """Example addresses go nowhere but to this machine. Raises UsageError."""
    ours = is_reserved(campaign.sender.address)
    if desk.sandbox or campaign.relay.loopback or not (summary.reserved or ours):
        return
    what = f"{summary.reserved} letters go to addresses in reserved domains (example.org and the like)"
    if ours:
        what += f", and the sender's address {campaign.sender.address} is one"
    todo = "put in the real addresses, or rehearse: dispatcher send --sandbox"
    raise UsageError(Problem(what, Place("campaign.toml", None, f"relay.host = {campaign.relay.host}"), todo))


def sealed_plan(desk: Desk, draft: Draft, summary: Summary) -> tuple[dict[str, Standing], bool]:
    """The ledger's letters, and whether this very plan is sealed.

    Raises PlanConflict if another one is, LedgerInDoubt if the ledger is not the one that sent.
    """
    desk.require_right_ledger()
    if not desk.ledger_path.exists():
        return {}, False
    with desk.reader() as reader:
        plan = reader.one("latest_plan", campaign=draft.campaign.id)
        standing = reader.standing(draft.campaign.id)
    if plan is None:
        return standing, False
    changes = compare(standing, summary.letters, summary.mailboxes)
    if plan["digest"] == summary.digest and not changes.count:
        _refuse_to_resend_another(desk, draft, summary, standing)
        return standing, True
    lines = differences(json.loads(plan["frozen"]), draft.frozen.as_data(), changes)
    fresh = ", or begin the rehearsal anew: dispatcher send --sandbox --fresh" if desk.sandbox else ""
    raise PlanConflict(
        "the folder is not what was sealed:\n"
        + "\n".join(f"  {line}" for line in lines)
        + f"\nNothing was sent. Take the change over: dispatcher amend{desk.flag}{fresh}; or undo it in the folder"
    )


def _refuse_to_resend_another(desk: Desk, draft: Draft, summary: Summary, standing: Mapping[str, Standing]) -> None:
    """An unknown letter whose row was amended since is not sent again by rule: a person must say which one."""
    if draft.campaign.on_unknown != "resend":
        return
    for key, there in standing.items():
        if there.state in (State.UNKNOWN, State.AT_RISK) and summary.letters.get(key) != there.digest:
            raise PlanConflict(
                f"letter {key} is unknown, and its row was changed since it left: on_unknown cannot send it again. "
                f"Say what became of it: dispatcher resolve {quoted(key)} --as … --why …{desk.flag}"
            )


def seal_revision(
    ledger: SqliteLedger, draft: Draft, summary: Summary, standing: Mapping[str, Standing], revision: int
) -> None:
    """Write the plan that was counted; if the folder has changed since, nothing. Raises PlanConflict."""
    digests: dict[str, str] = {}

    def letters() -> Iterator[Letter]:
        for letter in draft.letters():
            digests[letter.key] = letter.digest
            yield letter
        if digests != summary.letters:
            raise PlanConflict("the folder changed while it was sealed; nothing was written. Try again")

    plan = Sealable(
        campaign=draft.campaign.id,
        digest=summary.digest,
        frozen=document(draft.frozen.as_data()),
        letters=letters(),
        skips=summary.skips,
        contents=((digest, draft.content(digest)) for digest in draft.paths),
        each=draft.campaign.on_duplicate == "each",
        who=person(),
    )
    seal(ledger, plan, standing, revision)


def send(desk: Desk, plan: Outlook, *, wait: bool = False, observe: Callable[[Dispatch], None] | None = None) -> Result:
    """Seal if need be, and dispatch. `observe` gets the run as it begins, to watch and to stop it.

    Raises UsageError (the password), RunActive, PlanConflict, LedgerUnavailable.
    """
    relay = plan.draft.campaign.relay
    if not desk.sandbox and relay.password:
        read_password(relay.password, desk.root)  # a missing one is found before anything is sealed
    with desk.ledger() as ledger, asyncio.Runner(loop_factory=_LOOP) as runner:
        if desk.sandbox:
            borrow_suppressions(ledger, desk.real_ledger_path)
        standing, sealed = sealed_plan(desk, plan.draft, plan.summary)  # once more, now that nobody else can change it
        if not sealed:
            seal_revision(ledger, plan.draft, plan.summary, standing, 1)
        return runner.run(_run(desk, ledger, plan, wait=wait, observe=observe))


async def _run(
    desk: Desk, ledger: SqliteLedger, plan: Outlook, *, wait: bool, observe: Callable[[Dispatch], None] | None
) -> Result:
    campaign = plan.draft.campaign
    async with open_relay(desk, campaign) as relay:
        account = "sandbox" if desk.sandbox else relay.account
        recovered = ledger.begin_run(campaign.id, account, campaign.on_unknown)
        with desk.reader() as reader:
            run = _ledger_run(desk, ledger, plan, recovered.run, account, reader)
            settings = settings_of(desk, campaign, wait=wait)
            spread = random.Random().uniform  # noqa: S311 (it spreads retries, and keeps no secret)
            dispatch = Dispatch(run, relay, _Prepare(reader, campaign.id), desk.clock, settings, lambda: spread(-1, 1))
            if observe:
                observe(dispatch)
            try:
                report = await dispatch.run()
            except BaseException as error:
                run.end(type(error).__name__, campaign.on_unknown)
                raise
            run.end(report.close, campaign.on_unknown)
            return _result(report, recovered, plan, reader)


def _ledger_run(desk: Desk, ledger: SqliteLedger, plan: Outlook, number: int, account: str, reader: Reader) -> Run:
    campaign = plan.draft.campaign
    chosen: list[int] | None = None
    if plan.keys is not None:
        standing = reader.standing(campaign.id)
        chosen = [standing[key].id for key in plan.keys]
    if desk.sandbox:
        return Run(ledger, number, campaign.id, account, chosen=chosen)
    pace = campaign.pace
    interval = pace.rate.interval if pace.rate else 0.0
    domains = {domain: rate.interval for domain, rate in pace.domains.items()}
    return Run(
        ledger, number, campaign.id, account, interval=interval, quota=pace.quota, domains=domains, chosen=chosen
    )


def _result(report: Report, recovered: Recovered, plan: Outlook, reader: Reader) -> Result:
    campaign = plan.draft.campaign
    standing = reader.standing(campaign.id)
    done = (State.ACCEPTED, State.SUPPRESSED, State.CANCELLED)
    keys = plan.keys if plan.keys is not None else standing
    left = sum(standing[key].state not in done for key in keys)
    row = reader.one("refused_mailboxes", campaign=campaign.id) or {"letters": 0}
    codes = {Close.INTERRUPTED: 130, Close.PAUSED: 4, Close.UNAVAILABLE: 4}
    code = codes.get(report.close, 3 if left or row["letters"] else 0)
    return Result(report, tally(reader.counts(campaign.id)), recovered, code, row["letters"])


@asynccontextmanager
async def open_relay(desk: Desk, campaign: Campaign) -> AsyncIterator[SmtpRelay]:
    """The configured relay, or the embedded sandbox. Raises RelayUnavailable if the sandbox cannot begin."""
    if not desk.sandbox:
        yield SmtpRelay(_account(desk, campaign.relay), desk.clock)
        return
    async with AsyncExitStack() as stack:
        try:
            sandbox = await stack.enter_async_context(Sandbox(desk.mail_path))
        except OSError as error:
            raise RelayUnavailable(f"the sandbox cannot open {desk.mail_path} or a port: {error}") from None
        yield SmtpRelay(Account(sandbox.host, sandbox.port, "none"), desk.clock)


def _account(desk: Desk, relay: RelayAccount) -> Account:
    where = relay.password
    return Account(
        relay.host,
        relay.port,
        relay.security,
        relay.user or "",
        (lambda: read_password(where, desk.root)) if where else None,
        relay.helo,
        desk.root / relay.ca_file if relay.ca_file else None,
        relay.auth,
    )


class _Prepare:
    """Makes a leased letter ready to leave, from what was sealed alone."""

    def __init__(self, reader: Reader, campaign: str) -> None:
        self._reader = reader
        self._campaign = campaign
        self._press = lru_cache(maxsize=4)(self._of_revision)

    def _of_revision(self, revision: int) -> Press:
        return Press(Frozen.from_data(self._reader.frozen(self._campaign, revision)), self._reader.octets)

    def __call__(self, leased: Leased, date: datetime) -> Prepared:
        envelope, message = self._press(leased.revision).print(leased, date)
        return Prepared(envelope, message, message_digest(message))
