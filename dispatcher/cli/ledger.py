"""Commands on the ledger: status, log, resolve, adopt, suppress."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import Annotated, Any, Final

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder, OnSandbox
from dispatcher.cli.output import counts_line, many, moment, say, say_json, say_json_rows, say_of_unknown, say_table
from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.text import printable

Why = Annotated[str, typer.Option("--why", help="The reason, for the record.")]


class Format(StrEnum):
    """How `log` prints."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"
    XLSX = "xlsx"


class Standing(StrEnum):
    """What `log --state` looks for."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNKNOWN = "unknown"
    WAITING = "waiting"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    CLOSED_UNKNOWN = "closed_unknown"
    TO_PRINT = "to_print"
    PRINTED = "printed"
    POSTED = "posted"


class AttemptOutcome(StrEnum):
    """What `log --attempts --outcome` looks for."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNKNOWN = "unknown"
    AT_RISK = "at_risk"


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


def log(
    key: Annotated[str | None, typer.Argument(help="One letter's whole story, by key.", show_default=False)] = None,
    campaign: CampaignFolder = HERE,
    *,
    state: Annotated[Standing | None, typer.Option(help="Only letters in this state.")] = None,
    recipient: Annotated[str, typer.Option(help="Only letters with this text in key, name or address.")] = "",
    since: Annotated[str, typer.Option(help="Only attempts since then (UTC): 2009-10-01 or 2009-10-01T12:00.")] = "",
    attempts: Annotated[bool, typer.Option("--attempts", help="A row for each attempt, the newest first.")] = False,
    until: Annotated[str, typer.Option(help="Of attempts: only those until then; a day is all of it.")] = "",
    outcome: Annotated[AttemptOutcome | None, typer.Option(help="Of attempts: only those with this outcome.")] = None,
    phase: Annotated[str, typer.Option(help="Of attempts: only those that came so far, as rcpt or final.")] = "",
    code: Annotated[str, typer.Option(help="Of attempts: only this reply code or beginning: 550, 5, 5.1.1, 5.1.")] = "",
    relay: Annotated[str, typer.Option(help="Of attempts: only through this relay, as host:port.")] = "",
    run: Annotated[str, typer.Option(help="Of attempts: only those of this run.")] = "",
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Attempts in the order they were made.")] = False,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="Into this file.", show_default=False)] = None,
    sandbox: OnSandbox = False,
    as_json: AsJson = False,
) -> None:
    """A row for each letter or attempt, or one letter's whole story.

    Example: dispatcher log --state failed --format csv > failed.csv

    Example: dispatcher log --attempts --code 4 --format xlsx --out put-off.xlsx

    Example: dispatcher log FRA
    """
    from dispatcher.core.reading import ATTEMPT_COLUMNS, LOG_COLUMNS
    from dispatcher.desk import Desk
    from dispatcher.desk.attempts import Sought
    from dispatcher.desk.attempts import attempts as read_attempts
    from dispatcher.desk.reading import log as read_log
    from dispatcher.desk.reading import story

    desk = Desk(campaign, sandbox=sandbox)
    if key is not None:
        found = story(desk, key)
        if as_json:
            say_json(found)
        else:
            _say_story(found)
        return
    if attempts:
        if state:
            todo = "an attempt has an outcome: --outcome"
            raise UsageError(Problem("--state is about letters, and a row here is an attempt", todo=todo))
        sought = Sought(outcome or "", phase, code, relay, run, since, until, recipient, oldest_first=oldest_first)
        _give(read_attempts(desk, sought), "attempts", ATTEMPT_COLUMNS, _ATTEMPT_SHOWN, output, out, as_json=as_json)
        return
    of_attempts = {"until": until, "outcome": outcome, "phase": phase, "code": code, "relay": relay, "run": run}
    for name, given in of_attempts.items():
        if given:
            todo = "add --attempts" + ("; where a letter stands is its --state" if name == "outcome" else "")
            raise UsageError(Problem(f"--{name} is about attempts, and a row here is a letter", todo=todo))
    rows = read_log(desk, state=state or "", recipient=recipient, since=since)
    _give(rows, "letters", LOG_COLUMNS, _LETTER_SHOWN, output, out, as_json=as_json)


_LETTER_SHOWN: Final = ("key", "state", "at", "attempts", "addresses", "reply")
_ATTEMPT_SHOWN: Final = ("at", "key", "outcome", "phase", "code", "reply", "queue_id", "run")


def _give(
    rows: Iterable[Mapping[str, Any]],
    counted: str,
    columns: Sequence[str],
    shown: Sequence[str],
    output: Format,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Rows in the form that was asked for; a table shows some columns, everything else has all."""
    if out is not None:
        _write(out, output, columns, rows, counted)
    elif as_json:
        say_json_rows(rows, counted)
    elif output is Format.CSV:
        _say_csv(columns, rows)
    elif output is Format.JSONL:
        for row in rows:
            say_json(row)
    elif output is Format.XLSX:
        _say_xlsx(columns, rows, counted)
    else:
        cells = ([moment(row[name]) if name == "at" else row[name] for name in shown] for row in rows)
        say_table(["at (UTC)" if name == "at" else name for name in shown], cells)


def _write(out: Path, output: Format, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], title: str) -> None:
    """Into a file, for its owner alone: it holds addresses."""
    from dispatcher.desk.exporting import csv_pieces, json_pieces, write_xlsx

    if output is Format.TABLE:
        raise UsageError(Problem("a table is for the eye, not for a file", todo="add --format csv, jsonl or xlsx"))
    try:
        out.touch(mode=0o600)
        if output is Format.XLSX:
            with out.open("wb") as file:
                write_xlsx(file, columns, rows, title=title)
            return
        with out.open("w", encoding="utf-8", newline="") as text:
            text.writelines(csv_pieces(columns, rows) if output is Format.CSV else json_pieces(rows))
    except OSError as error:
        what = f"cannot write {out}: {error.strerror or error}"
        raise UsageError(Problem(what, todo="name another file with --out")) from None


def _say_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """For spreadsheets: no cell is a formula. UTF-8 whatever the terminal speaks, unless it goes to one."""
    from dispatcher.desk.exporting import csv_pieces

    at_terminal = sys.stdout.isatty()
    if not at_terminal and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    for piece in csv_pieces(columns, rows):
        sys.stdout.write(printable(piece) if at_terminal else piece)


def _say_xlsx(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], title: str) -> None:
    from dispatcher.desk.exporting import write_xlsx

    if sys.stdout.isatty():
        raise UsageError(Problem("a workbook is nothing to read on a terminal", todo="name a file with --out"))
    with TemporaryFile() as file:
        write_xlsx(file, columns, rows, title=title)
        file.seek(0)
        copyfileobj(file, sys.stdout.buffer)


def _say_story(found: dict[str, Any]) -> None:
    say(f"{found['key']}: {found['state']}", name="bold")
    for name in ("reason", "channel", "to", "cc", "language", "message_id", "date", "due_at", "revision", "digest"):
        value = ", ".join(found[name]) if isinstance(found[name], list) else found[name]
        if value:
            say(f"  {name.replace('_', '-')}: {value}")
    for attachment in found["attachments"]:
        say(f"  attachment: {attachment['name']} ({attachment['size']:,} octets, {attachment['digest']})")
    for number, attempt in enumerate(found["attempts"], 1):
        _say_attempt(number, attempt)
    for event in found["events"]:
        by = f"by {event['who']}" if event["who"] else ""
        what = " ".join(filter(None, (event["kind"], event["subject"], by)))
        say(f"{moment(event['at'])} UTC: {what}" + (f": {event['why']}" if event["why"] else ""))


def _say_attempt(number: int, attempt: dict[str, Any]) -> None:
    from dispatcher.core.statuses import in_words

    say(f"attempt {number}, {moment(attempt['at'])} UTC: {attempt['outcome']} at {attempt['phase'].upper()}")
    say(f"  reply: {attempt['code'] or ''} {attempt['reply']}".rstrip())
    if meaning := in_words(attempt["code"], attempt["enhanced"]):
        say(f"  meaning: {meaning}")
    if attempt["host"]:
        tls = ", no TLS"
        if attempt["tls_version"]:
            tls = f", {attempt['tls_version']} {attempt['cipher']}, certificate of {attempt['certificate']}"
        how = f"{attempt['peer']}{tls}"
        say(f"  relay: {attempt['host']}:{attempt['port']} ({how}), {attempt['mode']}, run {attempt['run']}")
    for name in ("queue_id", "smime", "message_digest", "override"):
        if attempt[name]:
            say(f"  {name.replace('_', '-')}: {attempt[name]}")
    for rcpt in attempt["rcpts"]:
        say(f"  {rcpt['mailbox']}: {rcpt['outcome']} ({rcpt['code']} {rcpt['reply']})")


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
    from dispatcher.desk.deciding import suppress as suppress_now

    added, letters, printed = suppress_now(Desk(campaign, sandbox=sandbox), addresses, reason=why, source="by hand")
    _say_suppressed(added, letters, printed, as_json=as_json)


def _say_suppressed(added: int, letters: int, printed: list[str], *, as_json: bool) -> None:
    if as_json:
        say_json({"added": added, "letters": letters, "printed": printed})
        return
    say(f"{added:,} added; held back: {many(letters, 'waiting letter')}.")
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
