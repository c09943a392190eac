"""Four eyes: seal, approve. Nothing is sent by either."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder
from dispatcher.cli.output import many, moment, note, say, say_json
from dispatcher.core.errors import Problem, UsageError

if TYPE_CHECKING:
    from dispatcher.core.approval import Approval, PlanName
    from dispatcher.desk import Desk
    from dispatcher.desk.approvals import Standing


def seal(
    campaign: CampaignFolder = HERE,
    *,
    out: Annotated[Path | None, typer.Option(help="Write the page into this file, too.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Seal the plan without sending it. What is in the folder now is what leaves; one page shows it.

    What is sealed already stays as it is, and is shown.

    Example: dispatcher seal --out plan.txt
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk import Desk
    from dispatcher.desk.outlook import outlook
    from dispatcher.desk.sealed import sealed_summary
    from dispatcher.desk.sending import seal_now

    desk = Desk(campaign, watch=Looking())
    plan = outlook(desk)
    seal_now(desk, plan)
    found = {**sealed_summary(desk), "sealed_before": plan.sealed}
    page = list(_page(found))
    if out is not None:
        out.write_text("".join(f"{line}\n" for line in page), encoding="utf-8")
    if as_json:
        say_json(found)
        return
    for line in page:
        say(line)
    say()
    approved = found["approvals"]
    say("Sealed already, and unchanged." if plan.sealed else "Sealed. Nothing was sent.", name="green")
    say(f"Next: dispatcher {'approve --by NAME' if approved['missing'] else 'send'}{desk.flag}")


def _page(found: "Mapping[str, Any]") -> "Iterator[str]":
    """The page that is looked at before a plan is approved."""

    def counts(of: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {n:,}" for name, n in of.items())

    yield f"{found['title']} ({found['campaign']}), revision {found['revision']}"
    yield f"Plan: {found['plan']}"
    yield f"Sealed {moment(found['sealed_at'])} UTC by {found['sealed_by']}"
    yield f"From {found['from']}, answers to {found['reply_to']}, dated {found['date']}"
    yield f"{many(found['letters'], 'letter')}: {counts(found['languages'])}; by channel: {counts(found['channels'])}"
    for table in found["lists"]:
        yield f"List {table['file']}, SHA-256 {table['digest']}"
    for group in found["attachments"]:
        yield f"Attached to {group['letters']:,}:"
        for file in group["files"]:
            yield f"  {file['name']}, {file['size']:,} octets, SHA-256 {file['digest']}"
    if found["skipped"]:
        yield f"Rows without a letter: {counts(found['skipped'])}"
    approved = found["approvals"]
    yield approved["in_words"]
    for row in approved["rows"]:
        yield f"  {_row(row)}"
    yield "To approve exactly this on another machine:"
    yield f"  dispatcher approve --plan {found['plan']} --by NAME --key ~/.ssh/id_ed25519 --export approval.json"


def _row(row: "Mapping[str, Any]") -> str:
    how = f"signed, {row['key']}" if row["key"] else "not signed"
    return f"{row['name']}, {moment(row['time'])} UTC, {how}" + (
        "" if row["counts"] else f"; does not count: {row['why_not']}"
    )


def approve(
    campaign: CampaignFolder = HERE,
    *,
    by: Annotated[str, typer.Option(help="Your name.", show_default="your user name")] = "",
    key: Annotated[
        Path | None, typer.Option(help="Sign with this Ed25519 key of OpenSSH's or minisign's.", show_default=False)
    ] = None,
    plan: Annotated[
        str | None, typer.Option(help="Approve this plan and no other, as `seal` names it.", show_default=False)
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the approval into a file, and record nothing.", show_default=False)
    ] = None,
    import_: Annotated[
        Path | None, typer.Option("--import", help="Record an approval from such a file.", show_default=False)
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Who has approved what is sealed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Approve what is sealed, and would leave now. With a key it is signed; a key with a passphrase is asked for it.

    With --plan and --export neither the campaign's folder nor its ledger is needed: so a colleague approves elsewhere.

    Example: dispatcher approve --by "Ada Pomme" --key ~/.ssh/id_ed25519

    Example: dispatcher approve --import approval.json
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk import Desk
    from dispatcher.desk.approvals import approve as approve_now
    from dispatcher.desk.approvals import standing, take_in

    making = bool(by or key or plan or export)
    if making + bool(import_) + listed > 1:
        todo = "type one of them: making an approval, --import, or --list"
        raise UsageError(Problem("these options do not go together", todo=todo))
    desk = Desk(campaign, watch=Looking())
    if listed:
        _say_list(standing(desk, desk.campaign()), as_json=as_json)
        return
    if import_:
        approval, found = take_in(desk, import_)
        _say_recorded(desk, found, f"Recorded: the approval of {approval.name}.", as_json=as_json)
        return
    wanted = _named(plan)
    if export:
        _export(desk, wanted, by, key, export, as_json=as_json)
        return
    found = approve_now(desk, by=by, key=key, plan=wanted)
    _say_recorded(desk, found, f"Approved: {found.plan}", as_json=as_json)


def _named(plan: str | None) -> "PlanName | None":
    from dispatcher.core.approval import PlanName

    return PlanName.parse(plan) if plan is not None else None


def _export(desk: "Desk", plan: "PlanName | None", by: str, key: Path | None, file: Path, *, as_json: bool) -> None:
    from dispatcher.desk.approvals import make, would_leave

    if key is None:
        todo = "name yours: --key ~/.ssh/id_ed25519; or make one: ssh-keygen -t ed25519"
        raise UsageError(Problem("an approval that travels is signed, and there is no --key", todo=todo))
    approval = make(plan or would_leave(desk), desk.clock, by=by, key=key)
    _write(file, approval)
    if as_json:
        say_json({"file": str(file), "plan": str(approval.plan), "name": approval.name, "key": approval.key})
        return
    say(f"{approval.name} approves {approval.plan}: {file}")
    say(f"Nothing was recorded. Where the campaign is, type: dispatcher approve --import {file.name}")


def _write(file: Path, approval: "Approval") -> None:
    """Into a new file: what somebody else approved is not written over."""
    try:
        with file.open("xb") as opened:
            opened.write(approval.to_file())
    except FileExistsError:
        raise UsageError(Problem(f"{file} is there already", todo="delete it, or name another file")) from None


def _say_recorded(desk: "Desk", found: "Standing", what: str, *, as_json: bool) -> None:
    if as_json:
        say_json(found.as_data())
        return
    say(what, name="green")
    say(f"{found.in_words}." if found.wanted else f"{found.in_words}; none is wanted (approvals in campaign.toml).")
    _note_unsigned(found)
    say(f"Next: dispatcher {'approve --by NAME' if found.missing else 'send'}{desk.flag}")


def _note_unsigned(found: "Standing") -> None:
    """That nobody can tell from typed names alone whether they are so many people."""
    if found.wanted > 1 and found.unsigned:
        only = "To have only signatures count: approvers in campaign.toml"
        note(
            f"Not signed: {found.unsigned}. Whether different names are different people, nobody can tell here. {only}"
        )


def _say_list(found: "Standing", *, as_json: bool) -> None:
    if as_json:
        say_json(found.as_data())
        return
    if found.plan is None:
        say("Nothing is sealed yet.")
        return
    say(f"{found.plan}: {found.in_words}", name="bold")
    if not found.approvals:
        note("Nobody has approved it.")
        return
    for judged in found.approvals:
        say(f"  {_row(judged.as_data())}", name="yellow" if judged.why_not else "")
    _note_unsigned(found)
