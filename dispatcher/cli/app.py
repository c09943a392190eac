"""The commands, in the order in which a campaign meets them."""

from typing import Annotated

import typer

from dispatcher import __version__
from dispatcher.cli import (
    account,
    approving,
    dkim,
    dossier,
    folder,
    ledger,
    log,
    paper,
    preflight,
    purging,
    rehearsing,
    reviewing,
    sending,
    verifying,
)

app = typer.Typer(
    name="dispatcher",
    help="Sends a campaign's letters: every recipient gets the right letter once, and you can prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:  # noqa: FBT001 (typer's callback)
    if value:
        typer.echo(f"dispatcher {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Sends a campaign's letters: every recipient gets the right letter once, and you can prove it."""


app.command()(folder.init)
app.add_typer(account.account, name="account")
app.add_typer(dkim.dkim, name="dkim")
app.command()(folder.check)
app.command()(folder.preview)
app.command()(approving.seal)
app.command()(approving.approve)
app.command()(preflight.preflight)
app.command()(rehearsing.rehearse)
app.command()(sending.send)
app.command()(sending.amend)
app.command()(paper.paper)
app.command()(reviewing.review)
app.command()(ledger.status)
app.command()(log.log)
app.command()(verifying.verify)
app.command()(ledger.resolve)
app.command()(ledger.adopt)
app.command()(dossier.dossier)
app.add_typer(ledger.suppress, name="suppress")
app.command()(purging.purge)
app.command()(sending.sandbox)
