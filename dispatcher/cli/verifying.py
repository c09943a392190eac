"""Evidence, checked: verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.options import AsJson
from dispatcher.cli.output import moment, note, say, say_json

if TYPE_CHECKING:
    from dispatcher.desk.proving import Verified


def verify(
    path: Annotated[Path, typer.Argument(help="A dossier's folder.", show_default=False)],
    *,
    signer: Annotated[
        Path | None,
        typer.Option(
            help="Who must have signed it: a public key of OpenSSH's or minisign's, or a file of allowed signers.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a dossier: signature, files, hash chain, tables, and that what left can be made again; exit 2 if not.

    The first thing that is wrong is named, with file, row and recipient. No campaign's folder is needed.

    Example: dispatcher verify evidence --signer ~/.ssh/id_ed25519.pub
    """
    from dispatcher.desk.proving import verify_dossier

    found = verify_dossier(path, signer)
    if as_json:
        say_json(found.as_data())
    else:
        _say_dossier(found)
    raise typer.Exit(2 if found.fault else 0)


def _say_dossier(found: "Verified") -> None:
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
