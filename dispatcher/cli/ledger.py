"""Commands on the ledger: status, resolve, adopt, suppress."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder, OnSandbox
from dispatcher.cli.output import counts_line, many, moment, say, say_json, say_of_unknown, say_table

Why = Annotated[str, typer.Option("--why", help="The reason, for the record.")]


class Adoption(StrEnum):
    """What becomes of the letters that wait in a ledger that is adopted."""

    UNKNOWN = "unknown"
    WAITING = "waiting"


class Decision(StrEnum):
    """What a person can say of a letter."""

    ACCEPTED = "accepted"
    FAILED = "failed"
    RESEND = "resend"


def status(campaign: CampaignFolder = HERE, *, sandbox: OnSandbox = False, as_json: AsJson = False) -> None:
    """Where every letter stands; the counts add up to the plan.

    Example: dispatcher status --sandbox
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.reading import status as read_status

    desk = Desk(campaign, sandbox=sandbox)
    found = read_status(desk, listed=as_json)
    if as_json:
        say_json(found)
        return
    sealed = f"sealed {moment(found['sealed_at'])} UTC" if found["sealed_at"] else "not sealed yet"
    sealed += f", purged {moment(found['purged_at'])} UTC" if found["purged_at"] else ""
    say(f"{found['campaign']}, revision {found['revision']}, {sealed}", name="bold")
    if found["in_doubt"]:
        say(f"In doubt, so nothing is sent: {found['in_doubt']}", name="red")
    say(counts_line(found["counts"]))
    if found["approvals"]:
        say(found["approvals"]["in_words"])
    _say_what_waits(desk.flag, found)
    if found["accepted_with_a_refused_mailbox"]:
        say(f"{found['accepted_with_a_refused_mailbox']:,} of the accepted had a mailbox that was refused")
    if found["skipped"]:
        say(f"{many(found['skipped'], 'row')} got no letter (each, with the reason: dispatcher status --json)")
    if found["tests"]:
        taken = sum(test["outcome"] == "accepted" for test in found["tests"])
        say(f"{many(len(found['tests']), 'test')} besides, {taken:,} accepted (each: dispatcher status --json)")
    for run in found["runs"][-5:]:
        ending = f"{run['ending']} {moment(run['ended_at'])} UTC" if run["ended_at"] else "did not end"
        say(f"run {run['id']}, {moment(run['started_at'])} UTC, {run['account'] or 'purged'}: {ending}")
    for printing in found["printings"][-5:]:
        files = ", ".join(f"{file['name'] or 'a file'} ({file['size']:,} octets)" for file in printing["files"][:3])
        more = f" and {len(printing['files']) - 3:,} more" if len(printing["files"]) > 3 else ""
        say(f"printing {printing['id']}, {moment(printing['at'])} UTC, {printing['who'] or 'purged'}: {files}{more}")


def _say_what_waits(flag: str, found: Mapping[str, Any]) -> None:
    """What is to be done next, and by whom."""
    if found["broke_off"]:
        say(f"The last run broke off with {found['counts']['in_flight']:,} in flight; whether accepted is unknown.")
        say(f"To go on: dispatcher send{flag}")
    if found["counts"]["unknown"]:
        say_of_unknown(flag)
    if found["counts"]["to_print"]:
        say(f"{found['counts']['to_print']:,} to print: dispatcher paper{flag}")
    if found["counts"]["printed"]:
        word = f'dispatcher paper{flag} --posted DATE --why "…"'
        say(f"{found['counts']['printed']:,} printed, and nobody has said yet that they are in the post: {word}")
    if found["deferred"]:
        due = f"the next is due {moment(found['next_due_at'])} UTC"
        say(f"{found['deferred']:,} of the waiting deferred, that is refused for now; {due}")


def resolve(
    key: Annotated[str, typer.Argument(help="The letter's key.", show_default=False)],
    as_: Annotated[Decision, typer.Option("--as", help="What you know, or want.")],
    why: Why,
    campaign: CampaignFolder = HERE,
    *,
    sandbox: OnSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Say what became of an unknown letter. Or have it, or a failed one, sent again. Recorded with your name.

    Example: dispatcher resolve FRA --as accepted --why "the mission confirmed it by telephone"
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.deciding import resolve as resolve_now

    before = resolve_now(Desk(campaign, sandbox=sandbox), key, as_, why=why)
    if as_json:
        say_json({"key": key, "before": before, "decision": as_, "why": why})
    else:
        now = "to be sent again" if as_ == "resend" else as_
        say(f"{key} was {before}; now {now}. Recorded: {why}")


def adopt(
    as_: Annotated[Adoption, typer.Option("--as", help="What becomes of the letters that wait.")],
    why: Why,
    campaign: CampaignFolder = HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Say that this ledger is the right one. For one that was restored, copied, moved to another machine, or lost.

    As `unknown`, every letter that waits is held, for it may have left; as `waiting`, you know that none has.

    Example: dispatcher adopt --as waiting --why "the folder moved to the new laptop; the old one is empty"
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.deciding import adopt as adopt_now

    desk = Desk(campaign)
    doubt, letters, on_paper = adopt_now(desk, as_, why=why)
    if as_json:
        say_json({"doubt": doubt, "decision": as_, "held": letters, "held_on_paper": on_paper, "why": why})
        return
    say(f"Adopted, though {doubt}. Recorded: {why}")
    if letters:
        say(f"Held as unknown: {many(letters, 'letter')}. See: dispatcher log --state unknown{desk.flag}")
    if on_paper:
        say(f"Held as printed, for they may be in the post: {many(on_paper, 'letter')}.")
        say(f"Say which: dispatcher paper --posted …, or --thrown-away{desk.flag}")
    say("Suppressions and decisions that were made since are not in it: make them again before you send.")
    say(f"Nothing was sent. Next: dispatcher send{desk.flag}")


suppress = typer.Typer(help="Addresses that must not be written to.", no_args_is_help=True, rich_markup_mode=None)


@suppress.command("add")
def suppress_add(
    addresses: Annotated[list[str], typer.Argument(help="Addresses, or @domain for all of a domain.")],
    why: Why,
    campaign: CampaignFolder = HERE,
    *,
    sandbox: OnSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Never write to these again. Letters to them that wait are held back.

    Example: dispatcher suppress add desk@ngo.example --why "asked to be taken off"
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.deciding import strangers
    from dispatcher.desk.deciding import suppress as suppress_now

    desk = Desk(campaign, sandbox=sandbox)
    added, letters, printed = suppress_now(desk, addresses, reason=why, source="by hand")
    _say_suppressed(added, letters, printed, as_json=as_json, strangers=strangers(desk, addresses))


def _say_suppressed(
    added: int, letters: int, printed: list[str], *, as_json: bool, strangers: Sequence[str] = ()
) -> None:
    if as_json:
        say_json({"added": added, "letters": letters, "printed": printed, "no_letter_goes_to": list(strangers)})
        return
    say(f"{added:,} added; held back: {many(letters, 'waiting letter')}.")
    if strangers:
        names = ", ".join(strangers)
        say(f"No letter of this campaign goes to {names}: see that it is spelt as in the list.", name="yellow")
    if printed:
        say(f"Printed already, and to be taken out of the pile: {', '.join(printed)}.", name="yellow")
        say('Then say so: dispatcher paper --thrown-away --why "…" --only …')


@suppress.command("remove")
def suppress_remove(
    address: Annotated[str, typer.Argument(help="The address, or @domain.")],
    why: Why,
    campaign: CampaignFolder = HERE,
    *,
    sandbox: OnSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Lift a suppression; letters that only it held back wait again.

    Example: dispatcher suppress remove desk@ngo.example --why "added by mistake"
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.deciding import unsuppress

    letters = unsuppress(Desk(campaign, sandbox=sandbox), address, why=why)
    if as_json:
        say_json({"removed": address, "letters": letters})
    else:
        say(f"{address} may be written to; waiting again: {many(letters, 'letter')}.")


@suppress.command("list")
def suppress_list(campaign: CampaignFolder = HERE, *, sandbox: OnSandbox = False, as_json: AsJson = False) -> None:
    """Every suppressed address, with reason, since when and from where.

    Example: dispatcher suppress list --json
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.reading import suppressions

    rows = suppressions(Desk(campaign, sandbox=sandbox))
    if as_json:
        say_json({"addresses": len(rows), "rows": rows})
    else:
        shown = ((row["address"], row["reason"], moment(row["since"]), row["source"]) for row in rows)
        say_table(("address", "reason", "since (UTC)", "source"), shown)


@suppress.command("import")
def suppress_import(
    file: Annotated[Path, typer.Argument(help="A list with a column 'email' (or 'address').")],
    why: Why,
    campaign: CampaignFolder = HERE,
    *,
    sandbox: OnSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Suppress every address of a list, in any format that recipients lists have.

    Example: dispatcher suppress import stop-list.csv --why "our stop list of 2009"
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.deciding import import_suppressions

    added, letters, printed = import_suppressions(Desk(campaign, sandbox=sandbox), file, reason=why)
    _say_suppressed(added, letters, printed, as_json=as_json)
