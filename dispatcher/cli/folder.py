"""Commands on the campaign folder: init, check, preview. Nothing is sent by any of them."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder, OnSandbox
from dispatcher.cli.output import as_rows, many, note, note_problems, say, say_json
from dispatcher.core.errors import Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.desk.checking import Check
    from dispatcher.web.preview import Written

_SHOWN: Final = 3


def init(
    directory: Annotated[Path, typer.Argument(help="A new folder for the campaign.", show_default=False)],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILES", help="With --from-mailmerge: TEMPLATE DATABASE [SERVER_CONF].", show_default=False
        ),
    ] = None,
    *,
    from_mailmerge: Annotated[
        bool, typer.Option("--from-mailmerge", help="Make it of mailmerge's files instead; these stay as they are.")
    ] = False,
    language: Annotated[
        str | None, typer.Option(help="With --from-mailmerge: what its text is written in.", show_default="en")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new campaign folder, to be edited. From the founding campaign, or from mailmerge's files.

    Example: dispatcher init spring-appeal

    Example: dispatcher init spring-appeal --from-mailmerge mailmerge_template.txt mailmerge_database.csv
    """
    from dispatcher.desk.starting import copy_starter

    if from_mailmerge:
        _from_mailmerge(directory, files or [], language or "en", as_json=as_json)
        return
    if language:
        raise UsageError(Problem("--language goes with --from-mailmerge", todo="the founding campaign has its own"))
    if files:
        todo = f"name the new folder alone, or add --from-mailmerge to make it of {files[0]}"
        raise UsageError(Problem(f"{files[0]} is one file too many", todo=todo))
    copy_starter(directory)
    if as_json:
        say_json({"folder": str(directory)})
        return
    say(f"{directory} is a campaign folder now. It sends nothing before its addresses are yours. Edit:")
    say("  campaign.toml                         who writes, which relay, how fast")
    say("  recipients/*.csv                      who gets it: key, email, name, language, and any column of yours")
    say("  templates/upr_submission/letter.*.md  the letter, one file a language")
    say("  templates/upr_submission/report.pdf   what is attached")
    _say_next(directory)


def _say_next(directory: Path) -> None:
    from dispatcher.desk import quoted

    go = f"cd {quoted(str(directory))}"
    say(f"Then: {go} && dispatcher check && dispatcher preview --open && dispatcher send --sandbox")


def _from_mailmerge(directory: Path, files: list[Path], language: str, *, as_json: bool) -> None:
    from dispatcher.desk.clock import SystemClock
    from dispatcher.desk.starting import convert_mailmerge

    if not 2 <= len(files) <= 3:
        todo = "type: dispatcher init DIR --from-mailmerge TEMPLATE DATABASE [SERVER_CONF]"
        raise UsageError(Problem("--from-mailmerge wants mailmerge's template and its database", todo=todo))
    rows, notes = convert_mailmerge(directory, files, SystemClock().now().date(), language)
    if as_json:
        say_json({"folder": str(directory), "rows": rows, "notes": as_rows(notes)})
        return
    say(f"{directory} is a campaign folder now, made of {files[0]}; its list has {many(rows, 'row')}.")
    say(
        "  campaign.toml           who writes, which relay: put in organisation and signatory as they are to be printed"
    )
    say(f"  templates/letter.{language}.md  the letter; templates/house puts letterhead, date and signature round it")
    say("  recipients              who gets it")
    if notes:
        say("Not carried over, or to be looked at:")
    for note_ in notes:
        say(f"  {note_.where}: {note_.what}" if str(note_.where) else f"  {note_.what}")
        say(f"    → {note_.todo}")
    _say_next(directory)


def check(campaign: CampaignFolder = HERE, *, sandbox: OnSandbox = False, as_json: AsJson = False) -> None:
    """Read everything and proof-render every letter. Nothing is written; exit 2 if anything would go wrong.

    Example: dispatcher check
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk import Desk
    from dispatcher.desk.checking import check_folder

    desk = Desk(campaign, sandbox=sandbox, watch=Looking())
    found = check_folder(desk, listed=None if as_json else _SHOWN)
    if as_json:
        say_json({**found.as_data(), "problems": as_rows(found.problems)})
    else:
        _say_counts(found)
        _say_skips(found)
        _say_pace(found)
        note_problems(found.problems)
        _say_remarks(found)
        for line in (*found.notes, *found.lacking):
            say(f"note: {line}")
        if found.problems:
            note(f"{many(len(found.problems), 'problem')}: nothing can be sent before that is mended.", name="red")
        elif not found.letters:
            say("There is no letter: no row of the lists under [[recipients]] gets one.", name="yellow")
        else:
            well = "The folder is right; send wants what is noted last." if found.lacking else "Nothing is wrong."
            say(f"{well} Next: dispatcher preview{desk.folder_flag} --open", name="green")
    raise typer.Exit(2 if found.problems else 0)


def _say_counts(found: "Check") -> None:
    from dispatcher.desk.checking import named

    say(f"{found.title} ({found.campaign})", name="bold")
    of_rows = f" for {found.rows:,} rows" if found.rows != found.letters else ""
    size = f"the largest {found.largest / 1000:,.0f} kB"
    say(f"{many(found.letters, 'letter')}{of_rows}, {size}; plan {found.digest[:16]}")
    by = [("by language", found.languages), ("by group", found.groups), ("by list", found.lists)]
    if set(found.channels) - {"mail"}:
        by.append(("by channel", found.channels))
    for words, counts in by:
        say(f"  {words}: " + (", ".join(f"{name} {n:,}" for name, n in counts.items()) or "none"))
    for name, n in found.fallbacks.items():
        keys = named(found.fallback_recipients[name], n)
        say(f"  {n:,} in another language than asked for: {name} ({keys})", name="yellow")
    for attachment in found.attachments:
        say(f"  attached to {attachment['letters']:,}: {_attachment_line(attachment)}")
    for table in found.guesses:
        samples = ", ".join(table["samples"])
        say(f"  {table['file']}: encoding guessed as {table['encoding']}; look at: {samples}", name="yellow")
        say('    if that is wrong, add encoding = "…" to its [[recipients]]')


def _attachment_line(row: "Mapping[str, Any]") -> str:
    pages = f", {many(row['pages'], 'page')}" if row["pages"] else ""
    if row["name"]:
        return f"{row['name']} ({row['size'] / 1000:,.0f} kB{pages})"
    pages = f", up to {many(row['pages'], 'page')}" if row["pages"] else ""
    return f"{row['path']} ({many(row['files'], 'file')}, the largest {row['size'] / 1000:,.0f} kB{pages})"


def _say_skips(found: "Check") -> None:
    for reason, rows in found.skips.items():
        say(f"{found.skipped[reason]:,} skipped, {reason}:")
        for row in rows:
            say(f"  {row['key']} at {row['place']}: {row['detail']}")
        if found.skipped[reason] > _SHOWN:
            say(f"  and {found.skipped[reason] - _SHOWN:,} more (all of them with --json)")


def _say_remarks(found: "Check") -> None:
    """Those that are grave stand among the problems."""
    for remark in found.remarks:
        if not remark.grave:
            say(f"{remark.where}: {remark.in_words}", name="yellow")
            say(f"  {remark.todo}")


def _say_pace(found: "Check") -> None:
    for limit in found.limits:
        say(f"  {limit['name']}: {limit['value']} ({limit['source']})")
    for line in found.forecast["words"] if found.forecast else ():
        say(line)


def preview(
    campaign: CampaignFolder = HERE,
    *,
    out: Annotated[Path | None, typer.Option(help="Where to write.", show_default=".dispatcher/preview")] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html|DIR", help="For a colleague: pages alone, in one file or a folder.", show_default=False
        ),
    ] = None,
    recipient: Annotated[str | None, typer.Option(help="Only this recipient, by key.", show_default=False)] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write every letter as .eml, and one page to look at. Nothing is sent.

    Example: dispatcher preview --open

    Example: dispatcher preview --bundle for-review.html
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk import HIDDEN, Desk
    from dispatcher.desk.reading import revision_of
    from dispatcher.web.preview import write_bundle, write_preview

    if out and bundle:
        todo = "give one of them: --bundle writes pages to send to a colleague, --out says where all else goes"
        raise UsageError(Problem("--out and --bundle are both there", todo=todo))
    desk = Desk(campaign, watch=Looking())
    write = write_bundle if bundle else write_preview
    folder = bundle or out or campaign / HIDDEN / "preview"
    written = write(
        folder,
        desk.draft(),
        when=desk.clock.now().replace(microsecond=0),
        only_key=recipient,
        revision_of=partial(revision_of, desk),
    )
    if as_json:
        where = {"page": str(written.index), "eml": written.eml and str(written.eml)}
        size = {"pages": written.pages, "octets": written.octets}
        say_json({"sent": 0, "letters": written.letters, "problems": written.problems, **size, **where})
    else:
        _say_written(written, folder)
    if open_page:
        _open(written.index)


def _say_written(written: "Written", folder: Path) -> None:
    from dispatcher.web.outliers import size

    letters, octets = many(written.letters, "letter"), size(written.octets)
    if written.eml:
        say(f"{letters} in {written.eml}, and one page to look at: {written.index}")
    elif written.index == folder:
        say(f"{letters} in one file of {octets}, which opens without a network: {folder}")
    else:
        say(f"{letters} on {many(written.pages, 'page')} in {folder}, {octets}; begin with {written.index}")
    say("Nothing was sent.")
    if not written.eml:
        say("It holds everybody's address: give it to those alone who may see the lists.")
    if written.problems:
        note(f"{many(written.problems, 'problem')}: look at the page, or type: dispatcher check", name="red")


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        note(f"no browser could be opened; open the page by hand: {page}")
