"""Commands that send: send, amend, sandbox."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder
from dispatcher.cli.output import counts_line, note, say, say_json
from dispatcher.core.errors import Problem, UsageError

if TYPE_CHECKING:
    from dispatcher.desk import Desk
    from dispatcher.desk.sending import Outlook, Result

ToSandbox = Annotated[bool, typer.Option("--sandbox", help="Into the embedded sandbox, which captures every letter.")]
Confirm = Annotated[int | None, typer.Option("--confirm", help="The number of letters, to say that you mean it.")]
Only = Annotated[str | None, typer.Option("--only", help="Only rows for which this expression holds.")]


def send(
    campaign: CampaignFolder = HERE,
    *,
    sandbox: ToSandbox = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="With --sandbox: forget the last rehearsal.")] = False,
    confirm: Confirm = None,
    only: Only = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many letters.")] = None,
    test_to: Annotated[str | None, typer.Option(help="Send real letters to this address instead, as tests.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until every letter has its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send the letters. Without the right count it is a dry run; what was accepted is never sent again.

    The first send seals the plan: what is in the folder then is what leaves.

    Example: dispatcher send --confirm 204
    Example: dispatcher send --only 'language == "fr"' --limit 3 --test-to me@example.org
    """
    from dispatcher.desk import Desk  # noqa: PLC0415 (loaded when it runs)
    from dispatcher.desk.sending import outlook  # noqa: PLC0415

    desk = Desk(campaign, sandbox=sandbox)
    if fresh:
        if not sandbox:
            raise UsageError(Problem("--fresh is for --sandbox alone", todo="a real ledger is never thrown away"))
        desk.forget_sandbox()
    if test_to:
        _send_tests(desk, test_to, only=only, limit=limit, as_json=as_json)
        return
    plan = outlook(desk, only=only, limit=limit)
    if not sandbox and plan.count and not _confirmed(plan.count, confirm, as_json=as_json):
        _say_dry_run(plan, only=only, limit=limit, as_json=as_json)
        return
    result = _send(desk, plan, wait=wait, as_json=as_json)
    _say_result(desk, result, as_json=as_json)
    raise typer.Exit(result.exit_code)


def _confirmed(count: int, confirm: int | None, *, as_json: bool) -> bool:
    if confirm is not None:
        if confirm != count:
            what = f"--confirm {confirm}, but {count} letters would be sent"
            raise UsageError(Problem(what, todo=f"look again, then: dispatcher send --confirm {count}"))
        return True
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    typed = input(f"{count} letters will be sent. Type the number to send them, or nothing to stop: ").strip()
    return typed == str(count)


def _say_dry_run(plan: "Outlook", *, only: str | None, limit: int | None, as_json: bool) -> None:
    choice = f" --only '{only}'" if only else ""
    choice += f" --limit {limit}" if limit else ""
    command = f"dispatcher send{choice} --confirm {plan.count}"
    if as_json:
        say_json({"sent": 0, "to_send": plan.count, "sealed": plan.sealed, "command": command})
        return
    say(f"{plan.count:,} letters would be sent: {_by_language(plan)}.")
    if plan.held_back:
        say(f"{len(plan.held_back):,} are suppressed and stay behind.")
    say(f"Nothing was sent. To send: {command}")


def _by_language(plan: "Outlook") -> str:
    return ", ".join(f"{n:,} {code}" for code, n in plan.summary.languages.most_common())


def _send(desk: "Desk", plan: "Outlook", *, wait: bool, as_json: bool) -> "Result":
    from dispatcher.cli.progress import Watch  # noqa: PLC0415
    from dispatcher.desk.sending import send as send_now  # noqa: PLC0415

    with Watch(plan.count, quiet=as_json) as watch:
        return send_now(desk, plan, wait=wait, observe=watch.observe)


def _say_result(desk: "Desk", result: "Result", *, as_json: bool) -> None:
    report = result.report
    if as_json:
        until = report.until.isoformat() if report.until else None
        why = {"ended": report.close, "why": report.why, "until": until, "recovered_unknown": result.recovered.unknown}
        refused = {"accepted_with_a_refused_mailbox": result.refused_mailboxes}
        say_json({**result.counts, **refused, **why, "exit_code": result.exit_code})
        return
    if result.recovered.unknown:
        say(f"recovered: {result.recovered.unknown:,} letters were in flight when the last run broke off: unknown now")
    say(counts_line(result.counts), name="green" if result.exit_code == 0 else "yellow")
    if result.refused_mailboxes:
        say(
            f"{result.refused_mailboxes:,} of the accepted had a mailbox that was refused; see: dispatcher log{desk.flag}"
        )
    if report.why:
        until = f", until {report.until.astimezone():%Y-%m-%d %H:%M}" if report.until else ""
        note(f"The run ended: {report.why}{until}.", name="yellow")
    if result.exit_code == 0 and desk.sandbox:
        say(f"Captured mail: {desk.mail_path}")
        say("Look at it:  dispatcher status --sandbox")
        say("             dispatcher log --sandbox")
        say("             dispatcher preview --open")
    elif result.exit_code:
        _say_next(desk, result)


def _say_next(desk: "Desk", result: "Result") -> None:
    if result.counts.get("unknown"):
        say(f"Unknown letters wait for your word: dispatcher log --outcome unknown{desk.flag}, then dispatcher resolve")
    if result.counts.get("failed"):
        say(f"See the failed: dispatcher log --outcome failed{desk.flag}")
    if left := result.counts.get("waiting"):
        go_on = f"dispatcher send{desk.flag}" + ("" if desk.sandbox else f" --confirm {left}")
        say(f"To go on: {go_on}" + ("" if result.report.close == "paused" else "   (or with --wait, to stay)"))


def _send_tests(desk: "Desk", address: str, *, only: str | None, limit: int | None, as_json: bool) -> None:
    from dispatcher.desk.testing import send_tests  # noqa: PLC0415

    rows = send_tests(desk, address, only=only, limit=limit)
    for row in rows:
        if as_json:
            say_json(row)
        else:
            say(f"test of {row['key']} to {row['address']}: {row['outcome']} ({row['reply']})")
    if not as_json:
        say("Tests are not letters: nobody else was written to, and the ledger counts none of them.")
    raise typer.Exit(0 if rows and all(row["outcome"] == "accepted" for row in rows) else 3)


def amend(
    campaign: CampaignFolder = HERE,
    *,
    sandbox: ToSandbox = False,
    confirm: Annotated[int | None, typer.Option(help="The number of changes, to say that you mean it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take a changed folder over into the sealed plan. An accepted letter is never sent again.

    Example: dispatcher amend --confirm 3
    """
    from dispatcher.desk import Desk  # noqa: PLC0415
    from dispatcher.desk.deciding import amend as amend_now  # noqa: PLC0415
    from dispatcher.desk.deciding import changes

    desk = Desk(campaign, sandbox=sandbox)
    draft, summary, found, lines = changes(desk)
    count = len(found.new) + len(found.changed) + len(found.removed)
    meant = confirm == count or (sandbox and confirm is None)
    if confirm is not None and confirm != count:
        raise UsageError(Problem(f"--confirm {confirm}, but there are {count} changes", todo="look at them again"))
    if not meant and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        for line in lines:
            say(line)
        meant = input(f"{count} changes. Type the number to take them over, or nothing to stop: ").strip() == str(count)
    if meant:
        amend_now(desk, draft, summary)
    if as_json:
        say_json({**found.counts(), "changes": count, "amended": meant})
        return
    for line in lines:
        say(line)
    if meant:
        say(f"Taken over: {count} changes. Nothing was sent. Next: dispatcher send{desk.flag}")
    else:
        say(f"Nothing was changed. To take it over: dispatcher amend{desk.flag} --confirm {count}")


def sandbox(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1; 0 takes a free one.")] = 2525,
    out: Annotated[Path, typer.Option(help="Where captured mail goes.")] = Path(".dispatcher/sandbox/mail"),
) -> None:
    """Run the capture server alone, for other programs to send to. Ctrl-C ends it.

    Example: dispatcher sandbox --port 2525
    """
    from dispatcher.sandbox import Sandbox  # noqa: PLC0415

    async def serve() -> None:
        async with Sandbox(out, port=port) as server:
            note(f"Capturing on {server.host}:{server.port} into {out}; nothing is delivered. Ctrl-C ends it.")
            await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        note("Stopped.")
