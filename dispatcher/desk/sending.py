"""Sending: sealing, and the run itself. What it would do is told by `desk.outlook`."""

import asyncio
import random
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import PlanConflict, Problem, UsageError
from dispatcher.core.merge import Frozen, Press, message_digest
from dispatcher.core.model import Leased, Recovered, State
from dispatcher.core.plan import Summary
from dispatcher.core.reading import tally
from dispatcher.desk import Desk, person
from dispatcher.desk.accounts import open_relay, require_secret
from dispatcher.desk.approvals import require_approved
from dispatcher.desk.draft import Draft
from dispatcher.desk.outlook import Outlook, origin_text, outlook, sealed_revision
from dispatcher.desk.pacing import settings_of
from dispatcher.desk.signing import Signing, signing_of
from dispatcher.dispatch import Close, Dispatch, Prepared, Report
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, document, unreadable
from dispatcher.ledgers.sealing import Sealable, borrow_suppressions, note_skipped, seal
from dispatcher.ledgers.sqlite import Run, SqliteLedger

_LOOP: Callable[[], asyncio.AbstractEventLoop] | None = None
if sys.platform != "win32":
    with suppress(ImportError):  # faster where there is one; the standard loop does the same
        import uvloop

        _LOOP = uvloop.new_event_loop


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to: its report, where all letters now stand, what was recovered, and the exit code."""

    report: Report
    counts: Mapping[str, int]
    recovered: Recovered
    exit_code: int
    refused_mailboxes: int


def seal_revision(desk: Desk, ledger: SqliteLedger, draft: Draft, summary: Summary, revision: int) -> None:
    """Write the plan that was counted; if the folder has changed since, nothing. Raises PlanConflict."""
    now = desk.draft()
    if now.frozen != draft.frozen or not now.unchanged(draft.made_from()):
        raise PlanConflict("the folder changed while it was sealed; nothing was written. Try again")
    plan = Sealable(
        campaign=draft.campaign.id,
        digest=draft.unsealed.digest(),
        frozen=document(draft.frozen.as_data()),
        dictionary=draft.unsealed.dictionary,
        rows=draft.unsealed.rows(),
        skips=draft.unsealed.skips(),
        contents=((digest, draft.content(digest)) for digest in draft.paths),
        origin=origin_text(draft, summary),
        each=draft.campaign.on_duplicate == "each",
        who=person(),
    )
    seal(ledger, plan, revision)


def _seal_if_need_be(desk: Desk, ledger: SqliteLedger, plan: Outlook) -> None:
    """Now that nobody else can seal or amend: the plan that was counted must be the sealed one, or becomes it."""
    if not plan.sealed:
        if not sealed_revision(desk, plan.draft):
            seal_revision(desk, ledger, plan.draft, plan.summary, 1)
        if not plan.chosen:
            plan.draft.unsealed.close()
        return
    with desk.reader() as reader:
        there = reader.one("latest_plan", campaign=plan.draft.campaign.id)
    if there is None or there["revision"] != plan.revision:
        raise PlanConflict(
            "what was counted is not what was sealed: the plan was amended meanwhile. Nothing was sent; look again: "
            f"dispatcher send{desk.flag}"
        )


def seal_now(desk: Desk, plan: Outlook) -> None:
    """Seal the plan that was counted, and send nothing; one that is sealed already stays as it is.

    Raises UsageError if there is no letter, PlanConflict if the folder changed since it was counted, RunActive.
    """
    if not plan.summary.letters:
        todo = f"see why each row got no letter: dispatcher check{desk.flag}"
        raise UsageError(Problem("there is no letter to seal", todo=todo))
    if plan.sealed:
        return
    with desk.ledger() as ledger:
        _seal_if_need_be(desk, ledger, plan)


def send(
    desk: Desk,
    plan: Outlook,
    *,
    wait: bool = False,
    unseen: bool = False,
    observe: Callable[[Dispatch], None] | None = None,
) -> Result:
    """Seal if need be, and dispatch. `observe` gets the run as it begins, to watch and to stop it.

    `unseen` says that somebody wanted no preflight (`desk.preflight`), which is recorded.

    Raises UsageError (the password, a key that signs), NotApproved, RunActive, PlanConflict, LedgerUnavailable.
    """
    require_approved(desk, plan.draft.campaign)
    if not desk.sandbox:
        require_secret(desk, plan.draft.campaign.relay)  # a missing one is found before anything is sealed
    signing = signing_of(desk, plan.draft.campaign)  # so is a missing key
    loop = desk.stage.time.loop if desk.stage else _LOOP
    with desk.ledger() as ledger, asyncio.Runner(loop_factory=loop) as runner:
        if desk.sandbox:
            borrow_suppressions(ledger, desk.real_ledger_path)
        _seal_if_need_be(desk, ledger, plan)
        if unseen:
            note_skipped(ledger, plan.draft.campaign.id, who=person())
        return runner.run(_run(desk, ledger, plan, signing, wait=wait, observe=observe))


async def _run(
    desk: Desk,
    ledger: SqliteLedger,
    plan: Outlook,
    signing: Signing,
    *,
    wait: bool,
    observe: Callable[[Dispatch], None] | None,
) -> Result:
    campaign = plan.draft.campaign
    async with open_relay(desk, campaign) as relay:
        account = "sandbox" if desk.sandbox else relay.account
        recovered = ledger.begin_run(campaign.id, account, campaign.on_unknown, signing.smime)
        with desk.reader() as reader:
            run = _ledger_run(desk, ledger, plan, recovered.run, account, reader)
            settings = settings_of(desk, campaign, wait=wait)
            seed = desk.stage.seed if desk.stage else None
            spread = random.Random(seed).uniform  # noqa: S311 (it spreads retries, and keeps no secret)
            prepare = _Prepare(reader, campaign)
            dispatch = Dispatch(run, relay, prepare, desk.clock, settings, lambda: spread(-1, 1), signing.sign)
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
    rows = (reader.one("standing", campaign=campaign.id, key=key) for key in plan.picked())
    chosen = (row["id"] for row in rows if row) if plan.chosen else None
    if not desk.paced:
        return Run(ledger, number, campaign.id, account, chosen=chosen)
    pace = campaign.pace
    interval = pace.rate.interval if pace.rate else 0.0
    domains = {domain: rate.interval for domain, rate in pace.domains.items()}
    return Run(
        ledger, number, campaign.id, account, interval=interval, quota=pace.quota, domains=domains, chosen=chosen
    )


def _result(report: Report, recovered: Recovered, plan: Outlook, reader: Reader) -> Result:
    campaign = plan.draft.campaign
    counts = reader.counts(campaign.id)
    done = (State.ACCEPTED, State.SUPPRESSED, State.CANCELLED, State.TO_PRINT, State.PRINTED, State.POSTED)
    left = any(n for state, n in counts.items() if state not in done)
    if plan.chosen:
        rows = (reader.one("standing", campaign=campaign.id, key=key) for key in plan.picked())
        left = any(row["state"] not in done for row in rows if row)
    row = reader.one("refused_mailboxes", campaign=campaign.id) or {"letters": 0}
    codes = {Close.INTERRUPTED: 130, Close.PAUSED: 4, Close.UNAVAILABLE: 4}
    code = codes.get(report.close, 3 if left or row["letters"] else 0)
    return Result(report, tally(counts), recovered, code, row["letters"])


class _Prepare:
    """Makes a leased letter ready to leave, from what was sealed alone."""

    def __init__(self, reader: Reader, campaign: Campaign) -> None:
        self._reader = reader
        self._campaign = campaign.id
        self._notify = tuple(word.upper() for word in campaign.relay.notify)
        self._press = lru_cache(maxsize=4)(self._of_revision)

    def _of_revision(self, revision: int) -> Press:
        return Press(Frozen.from_data(self._reader.frozen(self._campaign, revision)), self._reader.octets)

    def __call__(self, leased: Leased, date: datetime) -> Prepared:
        try:
            envelope, message = self._press(leased.revision).print(leased, date)
        except DAMAGED as error:
            raise unreadable(f"letter {leased.key}", error) from None
        if self._notify:
            envelope = replace(envelope, notify=self._notify, envid=leased.message_id.strip("<>"))
        return Prepared(envelope, message, message_digest(message))


__all__ = ["Outlook", "Result", "outlook", "seal_now", "seal_revision", "send"]
