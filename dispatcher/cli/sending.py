"""Commands that send: send, amend, sandbox."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder, OnSandbox
from dispatcher.cli.output import ask, at_terminal, counts_line, many, note, say, say_json, say_of_unknown
from dispatcher.core.errors import Problem, UsageError

if TYPE_CHECKING:
    from dispatcher.desk import Desk
    from dispatcher.desk.approvals import Standing
    from dispatcher.desk.draft import Draft
    from dispatcher.desk.outlook import Outlook
    from dispatcher.desk.pacing import Expected
    from dispatcher.desk.sending import Result

ToSandbox = Annotated[bool, typer.Option("--sandbox", help="Into the embedded sandbox, which captures every letter.")]
Confirm = Annotated[int | None, typer.Option("--confirm", help="The number of letters, to say that you mean it.")]
Only = Annotated[str | None, typer.Option("--only", help="Only rows for which this expression holds.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many letters.")]


def send(
    campaign: CampaignFolder = HERE,
    *,
    sandbox: ToSandbox = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="With --sandbox: forget the last rehearsal.")] = False,
    confirm: Confirm = None,
    only: Only = None,
    limit: Limit = None,
    test_to: Annotated[str | None, typer.Option(help="Send real letters to this address instead, as tests.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until every letter has its end.")] = False,
    skip_preflight: Annotated[
        bool, typer.Option("--skip-preflight", help="Do not look beforehand; the ledger records who said so.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send the letters. Without the right count it is a dry run; what was accepted is never sent again.

    The first send seals the plan: what is in the folder then is what leaves. Before anything leaves, machine, relay and
    domain are looked at as by preflight, and a problem stops it.

    Example: dispatcher send --confirm 204

    Example: dispatcher send --only 'language == "fr"' --limit 3 --test-to me@example.org
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk import Desk
    from dispatcher.desk.outlook import outlook

    _refuse_contradictions(sandbox=sandbox, fresh=fresh, confirm=confirm, test_to=test_to, wait=wait)
    if skip_preflight and (sandbox or test_to is not None):
        todo = "leave it out: rehearsals and tests have no preflight"
        raise UsageError(Problem("--skip-preflight is for real letters alone", todo=todo))
    desk = Desk(campaign, sandbox=sandbox, watch=Looking())
    if fresh:
        desk.forget_sandbox()
    if test_to is not None:
        _send_tests(desk, test_to, only=only, limit=limit, as_json=as_json)
        return
    plan = outlook(desk, only=only, limit=limit)
    forecast = _forecast(desk, plan)
    command = _command(desk, plan.count, only=only, limit=limit)
    if not plan.count and not (plan.sealed and not plan.chosen):
        _say_nothing_to_send(desk, plan, as_json=as_json)
        return
    if not _confirmed(desk, plan, forecast, confirm, command, as_json=as_json):
        return
    if confirm is not None and not as_json:
        for line in forecast.words if forecast else ():
            note(line)
    if plan.count and not sandbox and not skip_preflight:
        _make_ready(desk, plan, wait=wait, as_json=as_json)
    result = _send(desk, plan, wait=wait, unseen=skip_preflight, as_json=as_json)
    if as_json:
        say_json(result_data(result, forecast))
    else:
        say_result(desk, result)
    _say_paper(desk, plan, as_json=as_json)
    raise typer.Exit(result.exit_code)


def _forecast(desk: "Desk", plan: "Outlook") -> "Expected | None":
    """When it will be done, if anything but the relay holds it back."""
    from dispatcher.desk.pacing import expected, of_plan

    return expected(desk, of_plan(plan))


def _refuse_contradictions(*, sandbox: bool, fresh: bool, confirm: int | None, test_to: str | None, wait: bool) -> None:
    """Options that would be passed over in silence."""
    if fresh and not sandbox:
        raise UsageError(Problem("--fresh is for --sandbox alone", todo="a real ledger is never thrown away"))
    if test_to is not None and (confirm is not None or wait):
        todo = "leave them out: a test needs no count, and is tried once"
        raise UsageError(Problem("--confirm and --wait do not go with --test-to", todo=todo))


def _command(desk: "Desk", count: int, *, only: str | None, limit: int | None) -> str:
    """What to type to send these letters."""
    from dispatcher.desk import quoted

    choice = (f" --only {quoted(only)}" if only else "") + (f" --limit {limit}" if limit else "")
    return f"dispatcher send{desk.flag}{choice} --confirm {count}"


def _confirmed(
    desk: "Desk", plan: "Outlook", forecast: "Expected | None", confirm: int | None, command: str, *, as_json: bool
) -> bool:
    """Whether this very number is meant; if not, this was a dry run, and says so."""
    if confirm is not None and confirm != plan.count:
        what = f"--confirm {confirm}, but {many(plan.count, 'letter')} would be sent"
        todo = f"look again, then: {command}" if plan.count else f"see where they stand: dispatcher status{desk.flag}"
        raise UsageError(Problem(what, todo=todo))
    from dispatcher.desk.reading import broken_off

    if desk.sandbox or not plan.count or confirm is not None:
        return True
    if as_json:
        held = {"letters": plan.summary.letters, "held_back": plan.held_back, "sealed": plan.sealed}
        held["to_print"] = plan.to_print
        when = {
            "forecast": forecast.as_data() if forecast else None,
            "approvals": _standing(desk, plan.draft).as_data(),
        }
        say_json({"sent": 0, "to_send": plan.count, **held, **when, "command": command})
        return False
    say(f"{many(plan.count, 'letter')} would be sent{_by_language(plan)}.")
    _say_paper(desk, plan, as_json=as_json)
    if plan.held_back:
        say(f"{plan.held_back:,} suppressed, and held back.")
    if lost := broken_off(desk):
        say(f"{lost:,} more in flight when the last run broke off: unknown, and not sent again.", name="yellow")
    for line in forecast.words if forecast else ():
        say(line)
    if (approved := _standing(desk, plan.draft)).missing:
        say(f"{approved.in_words}; nothing can be sent before.", name="yellow")
        say(f"Next: dispatcher {'approve --by NAME' if approved.plan else 'seal'}{desk.flag}")
        return False
    if at_terminal() and ask("Type the number of letters to send them, or nothing to stop: ") == str(plan.count):
        return True
    say(f"Nothing was sent. To send: {command}")
    return False


def _standing(desk: "Desk", draft: "Draft") -> "Standing":
    from dispatcher.desk.approvals import standing

    return standing(desk, draft.campaign)


def _by_language(plan: "Outlook") -> str:
    if plan.count != plan.summary.letters:
        return ""
    return ": " + ", ".join(f"{n:,} {code}" for code, n in plan.summary.languages.most_common())


def _say_nothing_to_send(desk: "Desk", plan: "Outlook", *, as_json: bool) -> None:
    if as_json:
        counts = {"letters": plan.summary.letters, "held_back": plan.held_back, "to_print": plan.to_print}
        say_json({"sent": 0, "to_send": 0, **counts})
    elif plan.sealed:
        say(f"Nothing was sent: no letter that waits is among the chosen. See: dispatcher status{desk.flag}")
    else:
        say(f"Nothing was sent: there is no letter to send. See: dispatcher check{desk.flag}")
    _say_paper(desk, plan, as_json=as_json)


def _say_paper(desk: "Desk", plan: "Outlook", *, as_json: bool) -> None:
    """What no mail run sends."""
    if plan.to_print and not as_json:
        say(f"{plan.to_print:,} more {'is' if plan.to_print == 1 else 'are'} for paper: dispatcher paper{desk.flag}")


def _make_ready(desk: "Desk", plan: "Outlook", *, wait: bool, as_json: bool) -> None:
    """Look at what preflight looks at; its warnings are a line, its problems stop everything."""
    from dispatcher.desk.preflight import make_ready

    found = make_ready(desk, plan, patient=wait)
    if found.warnings and not as_json:
        note(
            f"Looked at before: {many(found.warnings, 'warning')}; see: dispatcher preflight{desk.flag}", name="yellow"
        )


def _send(desk: "Desk", plan: "Outlook", *, wait: bool, unseen: bool, as_json: bool) -> "Result":
    from dispatcher.cli.progress import Watch
    from dispatcher.desk.sending import send as send_now

    with Watch(plan.count, quiet=as_json or not plan.count) as watch:
        return send_now(desk, plan, wait=wait, unseen=unseen, observe=watch.observe)


def result_data(result: "Result", forecast: "Expected | None") -> dict[str, Any]:
    """What a run came to, for JSON."""
    report = result.report
    until = report.until.isoformat() if report.until else None
    why = {"ended": report.close, "why": report.why, "until": until, "recovered_unknown": result.recovered.unknown}
    why["recovered_outcomes"] = result.recovered.taken_in
    refused = {"accepted_with_a_refused_mailbox": result.refused_mailboxes}
    when = {"forecast": forecast.as_data() if forecast else None}
    return {**result.counts, **refused, **why, **when, "exit_code": result.exit_code}


def say_result(desk: "Desk", result: "Result") -> None:
    """What a run came to, and what to type next."""
    report = result.report
    if result.recovered.taken_in:
        kept = many(result.recovered.taken_in, "outcome")
        say(f"Recovered: {kept} of the last run, kept in reserve when the ledger could not be written")
    if result.recovered.unknown:
        lost = many(result.recovered.unknown, "letter")
        say(f"Recovered: {lost} in flight when the last run broke off; whether accepted is unknown", name="yellow")
    say(counts_line(result.counts), name="green" if result.exit_code == 0 else "yellow")
    if result.refused_mailboxes:
        refusals = f"{result.refused_mailboxes:,} of the accepted had a mailbox that was refused"
        say(f"{refusals}; see: dispatcher log --state accepted{desk.flag}")
    if report.why:
        until = f", until {report.until.astimezone():%Y-%m-%d %H:%M}" if report.until else ""
        note(f"The run ended: {report.why}{until}.", name="yellow")
    if result.exit_code == 4:
        note(f"  → {desk.relay_advice(report.why)}")
    if result.exit_code == 0 and not desk.paced:
        say(f"Captured mail: {desk.mail_path}")
        say(f"Look at it:  dispatcher status{desk.flag}")
        say(f"             dispatcher log{desk.flag}")
        say(f"             dispatcher review{desk.flag}")
        say(f"             dispatcher preview{desk.folder_flag} --open")
    elif result.exit_code:
        _say_next(desk, result)


def _say_next(desk: "Desk", result: "Result") -> None:
    if result.counts.get("unknown"):
        say_of_unknown(desk.flag)
    if result.counts.get("failed"):
        say(f"See the failed: dispatcher log --state failed{desk.flag}")
    if left := result.counts.get("waiting"):
        go_on = f"dispatcher send{desk.flag}" + (f" --confirm {left}" if desk.paced else "")
        say(f"To go on: {go_on}" + ("" if result.exit_code == 4 else "   (or with --wait, to stay)"))


def _send_tests(desk: "Desk", address: str, *, only: str | None, limit: int | None, as_json: bool) -> None:
    from dispatcher.desk.testing import send_tests

    rows = send_tests(desk, address, only=only, limit=limit)
    accepted = sum(row["outcome"] == "accepted" for row in rows)
    code = 0 if accepted == len(rows) else 3
    if as_json:
        say_json({"tests": len(rows), "accepted": accepted, "rows": rows, "exit_code": code})
    else:
        for row in rows:
            say(f"test of {row['key']} to {row['address']}: {row['outcome']} ({row['reply']})")
        say(f"{many(len(rows), 'test')}, {accepted:,} accepted. Nobody else was written to; tests are not letters.")
    raise typer.Exit(code)


def amend(
    campaign: CampaignFolder = HERE,
    *,
    sandbox: OnSandbox = False,
    confirm: Annotated[int | None, typer.Option(help="The number of changes, to say that you mean it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take a changed folder over into the sealed plan. An accepted letter is never sent again.

    Example: dispatcher amend --confirm 3
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk import Desk
    from dispatcher.desk.deciding import amend as amend_now
    from dispatcher.desk.deciding import changes

    desk = Desk(campaign, sandbox=sandbox, watch=Looking())
    draft, summary, found, lines = changes(desk)
    if (approved := _standing(desk, draft)).counted:
        lines = [*lines, f"{approved.in_words}, which will be void"]
    count = found.count
    command = f"dispatcher amend{desk.flag} --confirm {count}"
    if confirm is not None and confirm != count:
        raise UsageError(Problem(f"--confirm {confirm}, but it is {many(count, 'change')}", todo=f"then: {command}"))
    meant = sandbox or confirm is not None
    if not as_json:
        for line in lines:
            say(line)
        if not meant and at_terminal():
            typed = ask(f"{many(count, 'change')}. Type the number to take them over, or nothing to stop: ")
            meant = typed == str(count)
    if meant:
        amend_now(desk, draft, summary)
    if as_json:
        say_json({**found.counts(), "changes": count, "amended": meant, "lines": lines, "command": command})
    elif meant:
        then = "approve --by NAME" if _standing(desk, draft).missing else "send"
        say(f"Taken over: {many(count, 'change')}. Nothing was sent. Next: dispatcher {then}{desk.flag}")
    else:
        say(f"Nothing was taken over. To do it: {command}")


def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0 takes a free one.")] = 2525,
    out: Annotated[Path, typer.Option(help="Where captured mail goes.")] = Path(".dispatcher/sandbox/mail"),
) -> None:
    """Run the capture server alone, for other programs to send to. Ctrl-C ends it.

    Example: dispatcher sandbox --port 2525
    """
    from dispatcher.desk.capturing import capture

    def ready(host: str, number: int) -> None:
        note(f"Capturing on {host}:{number} into {out}; nothing is delivered. Ctrl-C ends it.")
        there = f'host = "{host}", port = {number}, security = "none"'
        note(f"It speaks no TLS and lets everybody in; for a campaign, under [relay]: {there}, no user, no password.")

    try:
        capture(out, port, ready)
    except KeyboardInterrupt:
        note("Stopped.")
