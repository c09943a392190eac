"""`rehearse`: the whole run against the embedded sandbox with faults, faster than life."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder
from dispatcher.cli.output import counts_line, many, note, note_problems, say, say_json
from dispatcher.cli.sending import result_data, say_result

if TYPE_CHECKING:
    from dispatcher.desk.agreement import Agreement
    from dispatcher.desk.rehearsing import Rehearsal, Sent

_SHOWN: Final = 5


class Faults(StrEnum):
    """What goes wrong."""

    NONE = "none"
    FLAKY = "flaky"
    HOSTILE = "hostile"
    GREYLIST = "greylist"
    QUOTA = "quota"


def rehearse(
    campaign: CampaignFolder = HERE,
    *,
    faults: Annotated[Faults, typer.Option(help="What goes wrong at the relay.")] = Faults.NONE,
    seed: Annotated[int, typer.Option(help="When it goes wrong; the same number, the same rehearsal.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="As if you typed send --wait.")] = False,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new folder for ledger and captured mail; else they are thrown away."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play the whole run, and your part in it, against a relay inside the program where things go wrong.

    Pace, quota and not_after are the campaign's; the clock is virtual, so days take seconds. Nothing leaves the
    machine, and the campaign's folder and ledger stay as they are. It ends with the timeline, what you would type, and
    what really arrived. Exit 0 if every letter was accepted, else 3.

    Example: dispatcher rehearse --faults flaky
    """
    from dispatcher.cli.looking import Looking
    from dispatcher.desk.rehearsing import Rehearsal, Wish

    with Rehearsal(campaign, Wish(faults, seed, wait, keep), watch=Looking()) as rehearsal:
        sent = _play(rehearsal, as_json=as_json)
        found, counts = rehearsal.agreement(), rehearsal.counts()
        code = rehearsal.exit_code if found.sound else 1
        if as_json:
            _say_all_as_json(rehearsal, sent, found, code)
            say_json(counts)
        else:
            _say_timeline(rehearsal)
            _say_commands(rehearsal, sent, counts)
            _say_agreement(rehearsal, found)
            _say_where(rehearsal, keep)
            say(counts_line(counts), name="green" if code == 0 else "yellow")
    raise typer.Exit(code)


def _play(rehearsal: "Rehearsal", *, as_json: bool) -> "list[Sent]":
    """One `send` after the other, each as its user would see it."""
    from dispatcher.cli.progress import Watch

    wish = rehearsal.wish
    sent: list[Sent] = []
    while turn := rehearsal.next_turn():
        if not sent and not as_json:
            say(
                f"Rehearsal of {many(turn.plan.count, 'letter')}; faults: {wish.faults}, seed {wish.seed}. "
                "Nothing leaves this machine.",
                name="bold",
            )
            if left := rehearsal.left_already():
                say(f"({many(left, 'letter')} may have left already; this begins as if none had.)")
        if not as_json:
            say()
            say(f"{_moment(turn.at)}  $ {turn.command}", name="bold")
            for line in turn.forecast.words if turn.forecast else ():
                say(line)
        with Watch(turn.plan.count, quiet=as_json, clock=rehearsal.time.now) as watch:
            sent.append(rehearsal.send(turn, watch.observe))
        if as_json:
            given = {"event": "send", "at": turn.at.isoformat(), "command": turn.command}
            say_json({**given, **result_data(sent[-1].result, turn.forecast)})
        else:
            say_result(rehearsal.desk, sent[-1].result)
    return sent


def _say_all_as_json(rehearsal: "Rehearsal", sent: "list[Sent]", found: "Agreement", code: int) -> None:
    for moment in rehearsal.timeline():
        say_json({"event": "timeline", **moment.as_data()})
    commands: list[tuple[str | None, str]] = [(None, command) for command in rehearsal.beforehand()]
    commands += [(one.turn.at.isoformat(), one.turn.command) for one in sent]
    commands += [(None, command) for command in rehearsal.left_to_do()]
    say_json({"event": "commands", "rows": [{"at": at, "command": command} for at, command in commands]})
    say_json({"event": "agreement", **found.as_data()})
    refused = [str(problem) for problem in rehearsal.refused.problems] if rehearsal.refused else []
    given = {
        "left_already": rehearsal.left_already(),
        "faults": rehearsal.wish.faults,
        "seed": rehearsal.wish.seed,
        "played": dict(rehearsal.relay.played),
    }
    say_json({"event": "end", **given, "refused": refused, "exit_code": code})


def _say_timeline(rehearsal: "Rehearsal") -> None:
    say()
    say("Timeline", name="bold")
    for moment in rehearsal.timeline():
        when = _span(moment.at.astimezone(), moment.until.astimezone())
        if moment.letters:
            say(f"    {when:<32} {moment.letters:>7,} {moment.what}")
        else:
            say(f"  {when:<32}  {moment.what}")


def _say_commands(rehearsal: "Rehearsal", sent: "Iterable[Sent]", counts: "Mapping[str, int]") -> None:
    say()
    say("What you would type", name="bold")
    for command in rehearsal.beforehand():
        say(f"  {'first':<19}  {command}")
    for one in sent:
        say(f"  {_moment(one.turn.at)}  {one.turn.command}")
    for command in rehearsal.left_to_do():
        say(f"  {'then':<19}  {command}")
    if counts["waiting"]:
        say(f"{many(counts['waiting'], 'letter')} would still wait.", name="yellow")
    if rehearsal.refused:
        note("The next send would be refused:", name="yellow")
        note_problems(rehearsal.refused.problems)
    if rehearsal.unforeseen_quota:
        say("The relay's quota was taken for a refusal by its policy: name your mail service under [relay], profile,")
        say("and its own words for that are known; or set quota under [pace], so that it is never met.")


def _say_agreement(rehearsal: "Rehearsal", found: "Agreement") -> None:
    say()
    say("What really arrived", name="bold")
    say(
        f"  {many(sum(rehearsal.relay.played.values()), 'fault')} played; the relay kept {many(found.kept, 'message')}."
    )
    if found.sound:
        say("  Each is the letter that was sealed, none came twice, and every letter that is accepted is there.")
    for words, keys in (
        ("came twice", found.twice),
        ("are not what was sealed", found.wrong),
        ("are accepted and never arrived", found.lost),
        ("arrived, and the ledger does not know", found.unaccounted),
    ):
        if keys:
            more = f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
            note(f"problem: {len(keys):,} {words}: {', '.join(keys[:_SHOWN])}{more}", name="red")
    if not found.sound:
        note("  → ledger and relay disagree, which is a fault of this program: send nothing, and report it", name="red")
    if found.again:
        say(f'  {many(found.again, "letter")} came more than once: on_unknown = "resend" sends again what is unknown.')
    if found.unknown:
        arrived = f"{found.arrived:,} had arrived and {found.unknown - found.arrived:,} had not"
        say(f"  Of {many(found.unknown, 'unknown letter')} {arrived}: from here nobody could tell which.")


def _say_where(rehearsal: "Rehearsal", keep: Path | None) -> None:
    say()
    if keep is None:
        say("Ledger and mail of this rehearsal are thrown away; to look into them: --keep DIR")
        return
    say(f"Kept: {keep}, the mail in {keep / 'mail'}")
    for command in ("status", "log", "review", "verify"):
        say(f"  dispatcher {command}{rehearsal.look_at}")


def _span(first: datetime, last: datetime) -> str:
    """From when until when, to the second; the second day only if it is another."""
    if first.replace(microsecond=0) == last.replace(microsecond=0):
        return f"{first:%Y-%m-%d %H:%M:%S}"
    until = f"{last:%H:%M:%S}" if first.date() == last.date() else f"{last:%m-%d %H:%M:%S}"
    return f"{first:%Y-%m-%d %H:%M:%S} – {until}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
