"""Commands on the campaign folder: init, check, preview. Nothing is sent by any of them."""

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder, OnSandbox
from dispatcher.cli.output import note, note_problems, say, say_json


def init(
    directory: Annotated[Path, typer.Argument(help="A new folder for the campaign.", show_default=False)],
) -> None:
    """Make a new campaign folder from the founding campaign, to be edited.

    Example: dispatcher init spring-appeal
    """
    from dispatcher.desk.starting import copy_starter  # noqa: PLC0415 (loaded when it runs)

    copy_starter(directory)
    say(f"{directory} is a campaign folder now. It sends nothing before its addresses are yours. Edit:")
    say("  campaign.toml                        who writes, which relay, how fast")
    say("  recipients/*.csv                     who gets it: key, email, name, language, and any column of yours")
    say("  templates/upr_submission/letter.*.md the letter, one file a language")
    say("  templates/upr_submission/report.pdf  what is attached")
    say(f"Then: cd {directory} && dispatcher check && dispatcher preview --open && dispatcher send --sandbox")


def check(campaign: CampaignFolder = HERE, *, sandbox: OnSandbox = False, as_json: AsJson = False) -> None:
    """Read everything and proof-render every letter; exit 2 if anything would go wrong. Nothing is written.

    Example: dispatcher check
    """
    from dispatcher.desk import Desk  # noqa: PLC0415
    from dispatcher.desk.checking import check_folder  # noqa: PLC0415

    found = check_folder(Desk(campaign, sandbox=sandbox))
    if as_json:
        say_json(found.as_data())
    else:
        _say_check(found)
    raise typer.Exit(2 if found.problems else 0)


def _say_check(found: Any) -> None:
    say(f"{found.title} ({found.campaign})", name="bold")
    say(f"{found.letters:,} letters, the largest {found.largest / 1024:,.0f} KB; plan {found.digest[:16]}")
    for words, counts in (("by language", found.languages), ("by group", found.groups), ("by list", found.lists)):
        say(f"  {words}: " + ", ".join(f"{name} {n:,}" for name, n in counts.items()))
    for name, n in found.fallbacks.items():
        say(f"  {n:,} in another language than asked for: {name}", name="yellow")
    for attachment in found.attachments:
        say(f"  attached to {attachment['letters']:,}: {attachment['name']} ({attachment['size'] / 1024:,.0f} KB)")
    for table in found.guesses:
        samples = ", ".join(table["samples"])
        say(f"  {table['file']}: encoding guessed as {table['encoding']}; look at: {samples}", name="yellow")
        say('    if that is wrong, add encoding = "…" to its [[recipients]]')
    for reason, rows in found.skips.items():
        say(f"{len(rows):,} skipped, {reason}:")
        for row in rows[:3]:
            say(f"  {row['key']} at {row['place']}: {row['detail']}")
        if len(rows) > 3:
            say(f"  and {len(rows) - 3:,} more")
    note_problems(found.problems)
    for line in found.notes:
        say(line)
    if found.problems:
        note(f"{len(found.problems):,} problems: nothing can be sent before they are mended.", name="red")
    else:
        say("Nothing is wrong. Next: dispatcher preview --open", name="green")


def preview(
    campaign: CampaignFolder = HERE,
    *,
    out: Annotated[Path | None, typer.Option(help="Where to write.", show_default=".dispatcher/preview")] = None,
    recipient: Annotated[str | None, typer.Option(help="Only this recipient, by key.", show_default=False)] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """The dry run: write every letter as .eml and one page to look at. Nothing is sent.

    Example: dispatcher preview --open
    """
    from dispatcher.desk import HIDDEN, Desk  # noqa: PLC0415
    from dispatcher.web.preview import write_preview  # noqa: PLC0415

    desk = Desk(campaign)
    folder = out or campaign / HIDDEN / "preview"
    written = write_preview(folder, desk.draft(), when=desk.clock.now().replace(microsecond=0), only_key=recipient)
    if as_json:
        say_json({"sent": 0, "letters": written.letters, "page": str(written.index), "eml": str(written.eml)})
    else:
        say(f"{written.letters:,} letters are in {written.eml}, and one page to look at: {written.index}")
        say("Nothing was sent.")
    if open_page and not webbrowser.open(written.index.resolve().as_uri()):
        note(f"no browser could be opened; open the page by hand: {written.index}")
