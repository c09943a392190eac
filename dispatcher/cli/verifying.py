"""Evidence, checked: verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.dossier import say_verified
from dispatcher.cli.options import HERE, AsJson, CampaignFolder, OnSandbox
from dispatcher.cli.output import many, moment, say, say_json
from dispatcher.core.errors import Problem, UsageError

if TYPE_CHECKING:
    from dispatcher.desk import Desk
    from dispatcher.desk.verifying import Verified

FAULT = 3
"""The exit code for evidence that is not as it was written: a result, as letters that were not accepted are."""


def verify(
    path: Annotated[
        Path | None, typer.Argument(help="A ledger, or a dossier's folder.", show_default="the campaign's ledger")
    ] = None,
    campaign: CampaignFolder = HERE,
    *,
    signer: Annotated[
        Path | None,
        typer.Option(
            help="Who must have signed the dossier: a public key of OpenSSH's or minisign's, or a file of allowed "
            "signers.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[str, typer.Option(help="A hash of the chain that you kept: it must be in it.")] = "",
    sandbox: OnSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Check that the ledger, or a dossier, is as it was written. Names the first row that is not; exit code 3 then.

    Nothing recorded was changed, removed or added since, and letters are what was sealed. For a dossier no campaign's
    folder is needed.

    Example: dispatcher verify

    Example: dispatcher verify evidence --signer ~/.ssh/id_ed25519.pub
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk import Desk
    from dispatcher.desk.proving import is_dossier, verify_dossier
    from dispatcher.desk.verifying import verify_ledger

    if path and (path.is_dir() or signer):
        if not is_dossier(path) and (path / "campaign.toml").exists():
            todo = f"to check its ledger: dispatcher verify -C {path}"
            raise UsageError(Problem(f"{path} is a campaign's folder, no dossier", todo=todo))
        dossier = verify_dossier(path, signer, Looking().at, head=head)
        say_json(dossier.as_data()) if as_json else say_verified(dossier)
        wrong = dossier.fault is not None
    else:
        desk = None if path else Desk(campaign, sandbox=sandbox)
        found = verify_ledger(_ledger(path, desk), Looking().at, head=head, desk=desk)
        say_json(found.as_data()) if as_json else _say(found)
        wrong = bool(found.faults)
    if wrong:
        raise typer.Exit(FAULT)


def _ledger(path: "Path | None", desk: "Desk | None") -> Path:
    """The ledger that is meant. Raises UsageError, LedgerUnavailable."""
    if desk:
        with desk.reader():  # there must be one
            return desk.ledger_path
    if path is None or not path.is_file():
        todo = "name a ledger, such as .dispatcher/ledger.sqlite, or the folder that `dispatcher dossier` wrote"
        raise UsageError(Problem(f"{path} is neither a ledger nor a dossier", todo=todo))
    return path


def _say(found: "Verified") -> None:
    from dispatcher.core.chain import KINDS

    for fault in found.faults:
        about = f" (recipient {fault.key})" if fault.key and fault.kind != "letter" else ""
        say(f"NOT as it was written, {fault.check}: {fault.why}{about}", name="red")
    one = {kind.many: kind.name for kind in KINDS.values()}
    rows = ", ".join(f"{n:,} {one[kind] if n == 1 else kind}" for kind, n in found.by_kind.items())
    say(f"Looked at: {many(found.links, 'link')} of the chain over {many(found.rows, 'row')} ({rows})")
    paper = f", {found.on_paper:,} of them on paper" if found.on_paper else ""
    say(f"{many(found.letters, 'letter')}{paper}; octets made anew of {many(found.messages, 'message')} that left")
    if found.signed or found.unsigned:
        say(f"Approvals: {found.signed:,} signed, {found.unsigned:,} not")
    if found.under_way:
        say(f"{many(found.under_way, 'attempt')} under way, and not in the chain before they end")
    for purge in found.purges:
        rows = many(purge["rows"], "row")
        of = purge["campaign"] or "decisions about no campaign that is there"
        say(f"Purged {moment(purge['at'])} UTC: what was personal in {rows} of {of}; the rest is there")
    if not found.faults:
        say("As it was written: nothing was changed, removed or added.", name="green")
        say(f"Keep this apart, to show later that the chain was not written anew: --head {found.head}")
