"""`preflight`: everything that can be known before the first letter, in one table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder
from dispatcher.cli.output import many, note, say, say_json
from dispatcher.core.errors import Problem, UsageError

if TYPE_CHECKING:
    from dispatcher.core.preflight import Line

_COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}
_WIDE: Final = 14


def preflight(
    campaign: CampaignFolder = HERE,
    *,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Without relay and DNS: before a rehearsal.")] = False,
    links: Annotated[
        bool,
        typer.Option("--links", help="Try whether links can be reached: those in the letters, an MTA-STS policy."),
    ] = False,
    spam: Annotated[
        bool, typer.Option("--spam", help="Have SpamAssassin or rspamd judge a letter of each language.")
    ] = False,
    doctor: Annotated[
        bool, typer.Option("--doctor", help="Ask checkdmarc for a second opinion on the sender's domain.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at machine, letters, relay and domains before you send. Exit 2 on a problem.

    The relay is asked for a transaction to yourself, which is taken back: no letter is sent, nothing is written.

    Example: dispatcher preflight
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk import Desk
    from dispatcher.desk.preflight import preflight as look

    if doctor and sandbox:
        todo = "leave one of them out"
        raise UsageError(Problem("--doctor asks the DNS, and --sandbox asks nobody", todo=todo))
    desk = Desk(campaign, sandbox=sandbox, watch=Looking())
    found = look(desk, links=links, spam=spam, doctor=doctor)
    code = 2 if found.problems else 0
    if as_json:
        say_json({**found.as_data(), "exit_code": code})
        raise typer.Exit(code)
    say_lines(found.lines)
    if found.problems:
        count = many(len(found.problems), "problem")
        note(f"{count}, {many(found.warnings, 'warning')}: mend the problems before you send.", name="red")
    else:
        warnings = f", {many(found.warnings, 'warning')}" if found.warnings else ""
        say(f"Ready{warnings}. No letter was sent. Next: dispatcher send{desk.flag}", name="green")
    raise typer.Exit(code)


def say_lines(lines: Sequence["Line"]) -> None:
    """The table: part by part, what was looked at, how it stands, what to do, what to publish."""
    part = ""
    for line in lines:
        if line.part != part:
            part = line.part
            say(str(part), name="bold")
        say(f"  {line.status:<8} {line.subject:<{_WIDE}} {line.what}", name=_COLOURS[line.status])
        if line.todo:
            say(f"           → {line.todo}")
        for record in line.records:
            say(f"           publish: {record}")
