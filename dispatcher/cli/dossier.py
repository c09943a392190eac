"""The evidence of a dispatch: dossier, and what a check of one came to."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder, OnSandbox
from dispatcher.cli.output import many, moment, note, say, say_json

if TYPE_CHECKING:
    from dispatcher.desk import Desk
    from dispatcher.desk.dossier import Wish, Written
    from dispatcher.desk.proving import Verified


def dossier(
    out: Annotated[Path, typer.Argument(help="A new folder for it.", show_default=False)],
    campaign: CampaignFolder = HERE,
    *,
    messages: Annotated[
        bool,
        typer.Option(
            "--messages",
            help="Also every message that left, octet for octet, as .eml; without signatures by DKIM or S/MIME.",
        ),
    ] = False,
    redact: Annotated[
        bool, typer.Option("--redact", help="Hide addresses, names and keys; `verify` can still check it.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option(help="Sign it with this Ed25519 key of OpenSSH's or minisign's.", show_default=False)
    ] = None,
    by: Annotated[str, typer.Option(help="Who makes it.", show_default="your user name")] = "",
    language: Annotated[
        str, typer.Option(help="What its pages are written in: en, fr or es.", show_default="the campaign's")
    ] = "",
    sandbox: OnSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Write the evidence of a dispatch into a folder. Pages to print, tables, what was sealed, the hash chain.

    Whoever has it can check it without this campaign: dispatcher verify.

    Example: dispatcher dossier evidence --messages --key ~/.ssh/id_ed25519

    Example: dispatcher dossier for-the-press --redact
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.dossier import Wish

    desk = Desk(campaign, sandbox=sandbox)
    found = _write(desk, out, Wish(messages, redact, key, by, language), quiet=as_json)
    if as_json:
        say_json(found.as_data())
    else:
        _say_written(found, redact=redact)


def _write(desk: "Desk", out: Path, wish: "Wish", *, quiet: bool) -> "Written":
    from dispatcher.desk.dossier import write_dossier

    if quiet or sys.stderr is None or not sys.stderr.isatty():
        return write_dossier(desk, out, wish)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def observe(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        return write_dossier(desk, out, wish, observe)


def _say_written(found: "Written", *, redact: bool) -> None:
    size = f"{found.octets / 1_000_000:,.1f} MB"
    say(f"{many(found.rows, 'recipient')}, {many(found.files, 'file')}, {size}: {found.folder}", name="green")
    say(f"manifest.json has the SHA-256 {found.manifest}")
    if found.key:
        say(f"It is signed with {found.key}")
    else:
        say("It is not signed: whoever has it could write it anew. Sign it with --key, or note that SHA-256 elsewhere.")
    if found.earlier:
        note(f"{many(found.earlier, 'attempt')} had a text that was amended since, and is not in the ledger any more")
    if redact:
        say("Persons are hidden. Who has the lists may still see who is who, by the order of the rows.")
    else:
        say("It holds everybody's address: give it to those alone who may see the lists.")
    say(f"To check it: dispatcher verify {found.folder}")


def say_verified(found: "Verified") -> None:
    """What a check of a dossier came to."""
    facts = found.facts
    if fault := found.fault:
        where = ", ".join(each for each in (fault.row, f"recipient {fault.key}" if fault.key else "") if each)
        note(f"NOT as it was written: {fault.file}" + (f", {where}" if where else ""), name="red")
        note(f"  {fault.what}")
        return
    rehearsal = ", a rehearsal" if facts["rehearsal"] else ""
    say(f"{facts['campaign']}, revision {facts['plan']['revision']}{rehearsal}: as it was written", name="green")
    counts = ", ".join(f"{count:,} {state}" for state, count in facts["counts"].items() if count)
    say(f"  {facts['rows']:,} rows: {counts}")
    say(f"  chain: {facts['chain']['length']:,} links, the last {facts['chain']['head']}")
    if found.messages:
        say(f"  {found.messages:,} messages made again, octet for octet")
    say(f"  made {moment(facts['created_at'])} UTC by {facts['created_by']}")
    if not found.signer:
        say("  Not signed: whoever had it could have written all of it anew.", name="yellow")
    elif found.known:
        say(f"  Signed with {found.signer}, one of the keys that you named")
    else:
        say(f"  Signed with {found.signer}. Whose key is that? Ask them; or name it: --signer FILE", name="yellow")
