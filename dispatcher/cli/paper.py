"""The command on paper: print letters, and say what became of the sheets."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder
from dispatcher.cli.output import many, note, say, say_json
from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.reading import WORDS

if TYPE_CHECKING:
    from dispatcher.desk import Desk
    from dispatcher.desk.papering import Order, Papered

_WHY_NOT: Final = {
    "unknown": "say first what became of it: dispatcher resolve KEY",
    "deferred": "still tried by mail",
    "ready": "not tried yet by mail",
    "failed": "by mail; on paper: dispatcher paper --failed",
}


def paper(
    campaign: CampaignFolder = HERE,
    *,
    out: Annotated[Path | None, typer.Option(help="Where to write.", show_default="paper")] = None,
    only: Annotated[str | None, typer.Option(help="Only rows for which this expression holds.")] = None,
    per_letter: Annotated[bool, typer.Option("--per-letter/--one-file", help="A file for each letter.")] = False,
    labels: Annotated[str, typer.Option(help="Labels besides, on this sheet, such as avery-l7160.")] = "",
    envelopes: Annotated[str, typer.Option(help="Envelopes besides: dl or c5.")] = "",
    with_report: Annotated[bool, typer.Option("--with-report", help="Its attachments behind each letter.")] = False,
    two_sided: Annotated[
        bool, typer.Option("--two-sided", help="Each letter, and each file behind it, on a sheet of its own.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Letters that failed by mail, on paper instead.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what is printed already and not posted.")] = False,
    posted: Annotated[
        str | None, typer.Option(metavar="DATE", help="Say that printed letters were posted that day.")
    ] = None,
    thrown_away: Annotated[
        bool, typer.Option("--thrown-away", help="Say that printed letters will not be posted.")
    ] = False,
    why: Annotated[str | None, typer.Option(help="With --posted or --thrown-away: how you know.")] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="A rehearsal, in the sandbox's ledger.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the letters that go on paper. Say later that they were posted.

    If nothing is sealed yet, this seals the plan, as the first send does. No letter goes by mail and on paper.

    Example: dispatcher paper --envelopes dl

    Example: dispatcher paper --posted 2009-10-02 --why "handed in at the counter"

    Example: dispatcher paper --failed --with-report
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk import Desk

    desk = Desk(campaign, sandbox=sandbox, watch=Looking())
    printing = {
        "--out": out, "--per-letter": per_letter, "--labels": labels, "--envelopes": envelopes,
        "--with-report": with_report, "--two-sided": two_sided, "--failed": failed, "--again": again,
    }  # fmt: skip
    _refuse_contradictions([name for name, value in printing.items() if value], posted, why, thrown_away=thrown_away)
    if posted is not None or thrown_away:
        _say_what_became(desk, posted, only=only, why=why or "", as_json=as_json)
        return
    from dispatcher.desk.papering import Order

    order = Order(only, again, failed, per_letter, with_report, two_sided, labels, envelopes)
    folder = out or (campaign / ".dispatcher" / "sandbox" if sandbox else campaign) / "paper"
    found = _print(desk, order, folder, quiet=as_json)
    if as_json:
        say_json({**found.as_data(), "exit_code": 3 if found.withdrawn else 0})
    else:
        _say_printed(desk, order, found)
    raise typer.Exit(3 if found.withdrawn else 0)


def _refuse_contradictions(printing: list[str], posted: str | None, why: str | None, *, thrown_away: bool) -> None:
    """Options that would be passed over in silence."""
    word = "--posted" if posted is not None else "--thrown-away"
    if posted is not None and thrown_away:
        raise UsageError(Problem("--posted and --thrown-away: it is one or the other", todo="choose with --only"))
    if {"--failed", "--again"} <= set(printing):
        raise UsageError(Problem("--again does not go with --failed", todo="print one after the other"))
    if posted is None and not thrown_away:
        if why is not None:
            raise UsageError(
                Problem("--why is for --posted or --thrown-away", todo="leave it out: printing needs none")
            )
        return
    if printing:
        what = f"{', '.join(printing)} does not go with {word}, which prints nothing"
        raise UsageError(Problem(what, todo="leave it out; choose letters with --only"))
    if why is None:
        raise UsageError(Problem(f"{word} needs --why", todo='say how you know: --why "handed in at the counter"'))


def _say_what_became(desk: "Desk", posted: str | None, *, only: str | None, why: str, as_json: bool) -> None:
    from dispatcher.desk.posting import post, throw_away

    keys = throw_away(desk, only=only, why=why) if posted is None else post(desk, posted, only=only, why=why)
    if as_json:
        say_json({"posted" if posted else "thrown_away": len(keys), "keys": keys, "date": posted, "why": why})
        return
    what = f"posted on {posted}" if posted else "thrown away"
    say(f"{many(len(keys), 'letter')} {what}: {', '.join(keys[:5])}{' …' if len(keys) > 5 else ''}. Recorded: {why}")


def _print(desk: "Desk", order: "Order", folder: Path, *, quiet: bool) -> "Papered":
    from dispatcher.desk.papering import print_letters

    if quiet or sys.stderr is None or not sys.stderr.isatty():
        return print_letters(desk, order, folder)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Letters", total=None)

        def observe(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return print_letters(desk, order, folder, observe)


def _say_printed(desk: "Desk", order: "Order", found: "Papered") -> None:
    if not found.files:
        _say_nothing(desk, order, found)
        return
    for file in found.files if not order.per_letter else found.files[:3]:
        say(f"{file.path}: {file.holds}, {many(file.letters, 'letter')}, {file.size:,} octets, SHA-256 {file.digest}")
    if order.per_letter and len(found.files) > 3:
        say(f"and {len(found.files) - 3:,} more files (all of them with --json)")
    again = f", {found.reprinted:,} of them again" if found.reprinted else ""
    say(f"Printed: {many(found.printed + found.reprinted, 'letter')}{again}.", name="green")
    for key in found.withdrawn:
        note(f"{key} was suppressed, or said to be posted, while it was printed: take it out of the pile", name="red")
    _say_others(order, found)
    say(f'When they are in the post: dispatcher paper{desk.flag} --posted DATE --why "…"')


def _say_nothing(desk: "Desk", order: "Order", found: "Papered") -> None:
    if order.failed:
        say("Nothing was printed: no letter that failed by mail is among them.")
    elif found.left:
        say(f"Nothing was printed: none of the {found.left:,} that wait is among the chosen.")
    else:
        say("Nothing was printed: no letter waits to be printed.")
    _say_others(order, found)
    say(f"A row whose column channel says paper is printed. Where letters stand: dispatcher status{desk.flag}")


def _say_others(order: "Order", found: "Papered") -> None:
    """Who was chosen, and is not to be printed; of a printing without a choice only what hinders it."""
    for state, count in found.others.items():
        if order.only is None and not (order.failed and state == "unknown"):
            continue
        why = f" ({_WHY_NOT[state]})" if state in _WHY_NOT else ""
        word = state if state == "ready" else WORDS.get(state, state)
        say(f"  not printed, though chosen: {count:,} {'waiting' if word == 'ready' else word}{why}")
