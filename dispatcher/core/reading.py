"""Ledger facts → what people read: counts that add up, one letter's story, rows for export."""

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from dispatcher.core.model import Channel, State
from dispatcher.core.statuses import in_words

LOG_COLUMNS: Final = (
    "key", "name", "addresses", "language", "channel", "state", "outcome", "at", "attempts", "code", "enhanced",
    "reply", "queue_id", "relay", "tls_version", "message_id", "digest", "message_digest", "due_at", "reason",
)  # fmt: skip
ATTEMPT_COLUMNS: Final = (
    "attempt", "at", "ended_at", "key", "name", "addresses", "outcome", "phase", "code", "enhanced", "meaning", "reply",
    "refused", "queue_id", "relay", "peer", "tls_version", "cipher", "certificate", "mode", "account", "run",
    "smime", "message_digest", "override",
)  # fmt: skip
WORDS: Final[Mapping[str, str]] = {
    "ready": "waiting",
    "leased": "waiting",
    "at_risk": "in flight",
    "closed_unknown": "unknown, closed",
    "to_print": "to print",
}
"""States that people see under another word."""
STANDINGS: Final = (
    "accepted", "in_flight", "waiting", "deferred", "failed", "unknown", "closed_unknown", "suppressed", "cancelled",
    "to_print", "printed", "posted",
)  # fmt: skip
"""Where letters stand, as they are counted and drawn. Each letter is in one, so that they add up to the plan."""
_STANDING_OF: Final = {State.READY: "waiting", State.LEASED: "waiting", State.AT_RISK: "in_flight"}
_CELL_ENDS: Final = re.compile(r"([;\t\r\n])")
_QUOTES: Final = '"`“”„‟'


def tally(counts: Mapping[State, int]) -> dict[str, int]:
    """Letters by where they stand; the values add up to `letters`."""
    waiting = sum(counts.get(s, 0) for s in (State.READY, State.LEASED))
    rows = {
        "accepted": counts.get(State.ACCEPTED, 0),
        "waiting": waiting,
        "in_flight": counts.get(State.AT_RISK, 0),
        "failed": counts.get(State.FAILED, 0),
        "unknown": counts.get(State.UNKNOWN, 0),
        "closed_unknown": counts.get(State.CLOSED_UNKNOWN, 0),
        "suppressed": counts.get(State.SUPPRESSED, 0),
        "cancelled": counts.get(State.CANCELLED, 0),
        "to_print": counts.get(State.TO_PRINT, 0),
        "printed": counts.get(State.PRINTED, 0),
        "posted": counts.get(State.POSTED, 0),
    }
    return {"letters": sum(rows.values()), **rows}


def standing_of(state: State, *, tried: bool) -> str:
    """Where a letter in this state is counted; `tried`: it was refused for now. One of STANDINGS."""
    return "deferred" if state is State.READY and tried else _STANDING_OF.get(state, str(state))


def by_standing(counts: Mapping[State, int], deferred: int) -> dict[str, int]:
    """Letters by STANDINGS, all of which are there; `deferred` of those that are ready were refused for now."""
    found = dict.fromkeys(STANDINGS, 0)
    for state, letters in counts.items():
        found[standing_of(state, tried=False)] += letters
    found["waiting"] -= deferred
    found["deferred"] += deferred
    return found


def went_by(channel: str, state: str) -> Channel:
    """What carries a letter now: one that failed by mail, and was printed, goes on paper."""
    return Channel.PAPER if channel == Channel.PAPER or state in (State.PRINTED, State.POSTED) else Channel.MAIL


def log_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the ledger's log, for a table or an export: LOG_COLUMNS, in that order."""
    recipient = json.loads(row["recipient"])
    mailboxes = [*recipient["to"], *recipient["cc"]]
    fields = recipient["fields"]
    given = {
        **row,
        "name": recipient["to"][0]["name"] if recipient["to"] else fields.get("name", ""),
        "channel": went_by(row["channel"], row["state"]),
        "message_id": "" if row["channel"] == Channel.PAPER else row["message_id"],
        "addresses": ", ".join(m["address"] for m in mailboxes),
        "state": WORDS.get(row["state"], row["state"]),
        "relay": f"{row['host']}:{row['port']}" if row["host"] else "",
        "due_at": row["due_at"] if row["state"] == State.READY else "",
    }
    return {name: "" if given[name] is None else given[name] for name in LOG_COLUMNS}


def attempt_row(row: Mapping[str, Any], language: str = "en") -> dict[str, Any]:
    """A row of the ledger's attempts, for a table or an export: ATTEMPT_COLUMNS, in that order.

    `meaning` is the reply's code in words; `refused` holds what was said to each mailbox that was not taken, a line
    each, where a letter has several.
    """
    given = {
        **row,
        "addresses": ", ".join(row["addresses"].split()),
        "outcome": WORDS.get(row["outcome"], row["outcome"]),
        "meaning": in_words(row["code"], row["enhanced"], language),
        "relay": f"{row['host']}:{row['port']}" if row["host"] else "",
    }
    return {name: "" if given[name] is None else given[name] for name in ATTEMPT_COLUMNS}


def safe_cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe goes in front of what would begin one.

    That is the sign = + - or @, wide and small forms too, behind blanks, quotes and what cannot be seen; at the
    beginning, and after what a spreadsheet of another language takes for the end of a cell. Numbers stay numbers.
    """
    if not isinstance(value, str):
        return str(value)
    safe = "".join(f"'{part}" if _begins_formula(part) else part for part in _CELL_ENDS.split(value))
    return f"'{safe}" if safe[:1] in ("\t", "\r", "\n") else safe


def _begins_formula(text: str) -> bool:
    for char in text:
        if char not in _QUOTES and char != "'" and unicodedata.category(char)[0] not in "ZC":
            return unicodedata.normalize("NFKC", char)[0] in "=+-@\u2212"
    return False
