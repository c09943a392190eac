"""What people say became of printed sheets: that they were posted, and when; or that they were thrown away."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.jinja import Expression
from dispatcher.core.model import State
from dispatcher.desk import Desk, person, require_why
from dispatcher.ledgers import printing
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import DAMAGED, unreadable
from dispatcher.ledgers.sqlite import SqliteLedger


def post(
    desk: Desk, on: str, *, only: str | None = None, letters: Collection[int] | None = None, why: str, who: str = ""
) -> list[str]:
    """A person's word that printed letters were posted, and on which day. Returns their keys. Raises UsageError.

    Without a choice (an expression, or the letters' numbers) all that are printed and not posted; a choice may hold no
    other on paper, and nothing is recorded if it does.
    """
    day = _day(desk, on)
    name, chosen = who or person(), _choice(only, letters)
    return _say(desk, chosen, why, "posted", lambda ledger, ids: printing.post(ledger, ids, day, who=name, why=why))


def throw_away(
    desk: Desk, *, only: str | None = None, letters: Collection[int] | None = None, why: str, who: str = ""
) -> list[str]:
    """A person's word that printed letters will not be posted: they wait again, or stay failed. As `post`."""
    name, chosen = who or person(), _choice(only, letters)
    return _say(
        desk, chosen, why, "thrown away", lambda ledger, ids: printing.throw_away(ledger, ids, who=name, why=why)
    )


_Choice = Callable[[Mapping[str, Any], Mapping[str, str]], bool]


def _choice(only: str | None, letters: Collection[int] | None) -> _Choice | None:
    """Says of a letter's row and fields whether it is among the chosen; None without a choice."""
    if letters is not None:
        return lambda row, _: row["id"] in letters
    if only is None:
        return None
    condition = Expression(only, Place("--only"))
    return lambda _, fields: condition.holds(fields)


def _say(
    desk: Desk,
    condition: _Choice | None,
    why: str,
    what: str,
    record: Callable[[SqliteLedger, Sequence[int]], None],
) -> list[str]:
    require_why(why)
    with desk.reader() as reader:
        rows = list(_on_paper(reader, desk.campaign_id(), condition))
    others = [row for row in rows if row["state"] != State.PRINTED]
    if condition and others:
        raise UsageError(*(_not_printed(row, what, desk.flag) for row in others))
    rows = [row for row in rows if row["state"] == State.PRINTED]
    if not rows:
        among = "among the chosen " if condition else ""
        todo = f"see where they stand: dispatcher status{desk.flag}"
        raise UsageError(Problem(f"there is no letter {among}that is printed and not posted yet", todo=todo))
    with desk.ledger(hold=False) as ledger:
        record(ledger, [row["id"] for row in rows])
    return [row["key"] for row in rows]


def _on_paper(reader: Reader, campaign: str, condition: _Choice | None) -> Iterator[dict[str, Any]]:
    """The letters that are on paper, or wait for it, and that a choice holds."""
    for row in reader.rows("on_paper", campaign=campaign):
        try:
            fields = json.loads(row["recipient"])["fields"]
        except DAMAGED as error:
            raise unreadable(f"letter {row['key']}", error) from None
        if condition is None or condition(row, fields):
            yield row


def _not_printed(row: Mapping[str, Any], what: str, flag: str) -> Problem:
    if row["state"] == State.POSTED:
        todo = "leave it out of --only: a letter is posted once"
        return Problem(f"letter {row['key']} is posted already: {row['reason']}", todo=todo)
    return Problem(
        f"letter {row['key']} is not printed, so it cannot be {what}", todo=f"print it: dispatcher paper{flag}"
    )


def _day(desk: Desk, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(Problem(f"--posted {text} is not a date", todo="write it as 2009-10-02")) from None
    if day > (desk.clock.now() + timedelta(days=1)).date():
        raise UsageError(Problem(f"--posted {text} has not come yet", todo="say it when they are in the post"))
    return day
