"""Evidence, checked: verify."""

from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.dossier import say_verified
from dispatcher.cli.options import AsJson
from dispatcher.cli.output import say_json

FAULT = 3
"""The exit code for evidence that is not as it was written: a result, as letters that were not accepted are."""


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
    head: Annotated[str, typer.Option(help="A hash of the chain that you kept: it must be in it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check a dossier: signature, files, hash chain, tables, and that what left can be made again; exit 3 if not.

    The first thing that is wrong is named, with file, row and recipient. No campaign's folder is needed.

    Example: dispatcher verify evidence --signer ~/.ssh/id_ed25519.pub
    """
    from dispatcher.desk.proving import verify_dossier

    found = verify_dossier(path, signer, head=head)
    if as_json:
        say_json(found.as_data())
    else:
        say_verified(found)
    if found.fault:
        raise typer.Exit(FAULT)
