"""The command log: a row for each letter or attempt, in whichever form; or one letter's story."""

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
from dispatcher.cli.output import moment, say, say_json, say_json_rows, say_table
from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.text import printable


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
