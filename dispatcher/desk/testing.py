"""Letters to ourselves: real rows to a tester's mailbox, recorded as tests, never as letters."""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime

from dispatcher.core.address import AddressError, is_reserved, parse_mailboxes
from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.jinja import Expression
from dispatcher.core.merge import Merged
from dispatcher.core.model import Letter, Mailbox
from dispatcher.core.policy import classify
from dispatcher.desk import Desk
from dispatcher.desk.accounts import connected, open_relay
from dispatcher.desk.draft import Draft
from dispatcher.desk.outlook import suppression_of
from dispatcher.desk.pacing import rules_of
from dispatcher.desk.signing import signing_of
from dispatcher.dispatch import Sign
from dispatcher.ledgers.pace import BELIEVED, QUOTA_SPAN
from dispatcher.ledgers.sealing import begin_test, end_test
from dispatcher.ledgers.sqlite import SqliteLedger, stamp
from dispatcher.relays.smtp import SmtpSession


def one_mailbox(address: str) -> Mailbox:
    """An address that a person typed. Raises UsageError."""
    todo = "write one address, such as me@example.org"
    try:
        found = parse_mailboxes(address)
    except AddressError as error:
        raise UsageError(Problem(str(error), todo=todo)) from None
    if len(found) != 1:
        raise UsageError(Problem("one address is wanted", todo=todo))
    return found[0]


def send_tests(
    desk: Desk, tester_address: str, *, only: str | None = None, limit: int | None = None
) -> list[dict[str, str]]:
    """Send real letters to a tester instead; without a choice, the first of each language.

    Only the tester is in the envelope and in the headers. Raises UsageError, also if the tester is suppressed or the
    account's quota does not leave as many; RelayUnavailable.
    """
    tester = one_mailbox(tester_address)
    if reason := suppression_of((tester.identity,), desk.suppressions()):
        todo = "test with another address; a suppression made by mistake is lifted by: dispatcher suppress remove"
        raise UsageError(Problem(reason, todo=todo))
    draft = desk.draft()
    if not desk.sandbox and not draft.campaign.relay.loopback:
        for who, address in (("the tester", tester.address), ("the sender", draft.campaign.sender.address)):
            if is_reserved(address):
                todo = "put in a real address, or rehearse with --sandbox"
                raise UsageError(Problem(f"{address}, {who}, is in a reserved domain", todo=todo))
    condition = Expression(only, Place("--only")) if only is not None else None
    by_language = only is None and limit is None
    chosen = list(_chosen(draft, condition, None if by_language else limit, by_language=by_language))
    if not chosen:
        raise UsageError(Problem("no letter to test: the choice matches none", todo="mend --only, or leave it out"))
    with desk.ledger() as ledger:
        return asyncio.run(_send_all(desk, ledger, draft, chosen, tester))


def _chosen(draft: Draft, condition: Expression | None, limit: int | None, *, by_language: bool) -> Iterator[Letter]:
    """The letters of a choice, or the first of each language; the whole folder is read. Raises UsageError."""
    problems, languages, count = [], set[str](), 0
    for item in draft.items():
        if isinstance(item, Problem):
            problems.append(item)
        elif isinstance(item, Merged) and (not condition or condition.holds(item.letter.recipient.fields)):
            new = item.letter.language not in languages if by_language else limit is None or count < limit
            if new and not problems:
                languages.add(item.letter.language)
                count += 1
                yield item.letter
    if problems:
        raise UsageError(*problems)


def _require_quota(desk: Desk, draft: Draft, account: str, wanted: int) -> None:
    """The account's quota of any 24 hours holds for tests too. The ledger must be held. Raises UsageError."""
    quota = draft.campaign.pace.quota
    if desk.sandbox or quota is None:
        return
    now = desk.clock.now()
    given = {"account": account, "since": stamp(now - QUOTA_SPAN), "until": stamp(now + BELIEVED)}
    with desk.reader() as reader:
        row = reader.one("handed_over_since", **given) or {"used": 0, "oldest": None}
    left = max(0, quota - row["used"])
    if wanted <= left:
        return
    tests = "1 test" if wanted == 1 else f"{wanted:,} tests"
    what = f"{tests} would be sent, but the quota of {quota:,} in 24 hours leaves {left:,}"
    todo = f"send fewer (--limit {left})" if left else "wait, or raise quota under [pace] in campaign.toml"
    if row["oldest"]:
        todo += f"; it leaves more from {datetime.fromisoformat(row['oldest']) + QUOTA_SPAN:%Y-%m-%d %H:%M:%S} UTC on"
    raise UsageError(Problem(what, todo=todo))


async def _send_all(
    desk: Desk, ledger: SqliteLedger, draft: Draft, letters: Sequence[Letter], tester: Mailbox
) -> list[dict[str, str]]:
    """One after the other over one session, a new one after any that broke."""
    rows: list[dict[str, str]] = []
    sign = signing_of(desk, draft.campaign).sign
    async with open_relay(desk, draft.campaign) as relay:
        _require_quota(desk, draft, relay.account, len(letters))
        session: SmtpSession | None = None
        try:
            for letter in letters:
                if session is None or not session.usable:
                    old, session = session, None
                    if old:
                        await old.close()
                    session = await connected(desk, relay)
                rows.append(await _send_one(desk, ledger, draft, letter, tester, relay.account, session, sign))
        finally:
            if session:
                await session.close()
    return rows


async def _send_one(
    desk: Desk,
    ledger: SqliteLedger,
    draft: Draft,
    letter: Letter,
    tester: Mailbox,
    account: str,
    session: SmtpSession,
    sign: Sign | None,
) -> dict[str, str]:
    """One test, noted before it leaves: it counts for the account's quota, and for nothing else."""
    domain = draft.frozen.from_.address.rpartition("@")[2]
    number = f"<test.{secrets.token_hex(12)}@{domain}>"
    merged = draft.merge.test(letter, tester, number)
    now = desk.clock.now()
    message = draft.merge.with_date(merged, now.replace(microsecond=0))
    if sign:
        message = await asyncio.to_thread(sign, message, now)
    row = {"campaign": draft.campaign.id, "key": letter.key, "address": tester.address, "message_id": number}
    noted = begin_test(ledger, {**row, "account": "sandbox" if desk.sandbox else account})

    async def intent() -> bool:
        return True

    rules = rules_of(desk, draft.campaign)
    verdict = classify(await session.hand_over(merged.envelope, message, intent), rules)
    end_test(ledger, noted, verdict.outcome, verdict.why)
    return {"key": letter.key, "address": tester.address, "outcome": verdict.outcome, "reply": verdict.why}
