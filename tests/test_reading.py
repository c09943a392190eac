"""Ledger facts as people read them: counts add up, rows hold every column, exports cannot run."""

import csv
import io
import json
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.core.model import State
from dispatcher.core.reading import LOG_COLUMNS, WORDS, log_row, safe_cell, tally


@given(st.dictionaries(st.sampled_from(list(State)), st.integers(0, 10**6)))
def test_counts_add_up(counts: dict[State, int]) -> None:
    """No state is forgotten and none counted twice, whatever states there come to be."""
    rows = tally(counts)
    total = rows.pop("letters")
    assert total == sum(counts.values()) == sum(rows.values())


def test_every_state_has_its_place() -> None:
    shown = {state: next(name for name, n in list(tally({state: 1}).items())[1:] if n) for state in State}
    assert shown.pop(State.READY) == shown.pop(State.LEASED) == "waiting"
    assert shown.pop(State.AT_RISK) == "in_flight"
    assert all(name == state for state, name in shown.items())


def ledger_row(**changed: Any) -> dict[str, Any]:
    to = [{"name": "Mission of Türkiye", "address": "tur@missions.example", "identity": "tur@missions.example"}]
    cc = [{"name": "", "address": "desk@missions.example", "identity": "desk@missions.example"}]
    row: dict[str, Any] = {name: None for name in LOG_COLUMNS if name not in ("name", "addresses", "relay")}
    row |= {
        "channel": "mail",
        "host": None,
        "port": None,
        "tls_version": None,
        "state": "accepted",
        "key": "TUR",
        "attempts": 1,
    }
    return row | {"recipient": json.dumps({"to": to, "cc": cc, "fields": {}})} | changed


def test_a_row_has_every_column_in_order() -> None:
    row = log_row(ledger_row(host="relay.example", port=587, code=250, due_at="2026-03-01"))
    assert tuple(row) == LOG_COLUMNS
    assert None not in row.values()
    assert row["name"] == "Mission of Türkiye"
    assert row["addresses"] == "tur@missions.example, desk@missions.example"
    assert row["relay"] == "relay.example:587"
    assert row["code"] == 250
    assert row["due_at"] == ""


@pytest.mark.parametrize(
    ("sealed", "state", "channel", "message_id"),
    [
        ("mail", "failed", "mail", "<n>"),
        ("mail", "posted", "paper", "<n>"),
        ("paper", "to_print", "paper", ""),
        ("paper", "cancelled", "paper", ""),
    ],
)
def test_a_row_says_which_way_its_letter_went(sealed: str, state: str, channel: str, message_id: str) -> None:
    """One that failed by mail and was posted went on paper; one without a mailbox is known by its field `name`."""
    recipient = json.dumps({"to": [], "cc": [], "fields": {"name": "Mission of Türkiye"}})
    row = log_row(ledger_row(channel=sealed, state=state, message_id="<n>", recipient=recipient))
    assert (row["channel"], row["message_id"], row["name"], row["addresses"]) == (
        channel,
        message_id,
        "Mission of Türkiye",
        "",
    )


@pytest.mark.parametrize("state", list(State))
def test_a_state_is_shown_in_peoples_words(state: State) -> None:
    row = log_row(ledger_row(state=str(state), due_at="2026-03-01"))
    assert row["state"] == WORDS.get(state, state)
    assert bool(row["due_at"]) == (state is State.READY)


def test_a_letter_that_was_never_tried_has_empty_cells() -> None:
    row = log_row(ledger_row(state="ready"))
    assert row["relay"] == row["outcome"] == row["reply"] == ""


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+41 22 555",
        "-2",
        "@SUM(A1)",
        "  =1+1",
        "\ttext",
        "\rtext",
        "\ntext",
        "\ufeff=1+1",
        '"=1+1"',
        "'=1+1",
        "\u00a0=1+1",
        "\u3000=1+1",
        "\u200b=1+1",
        "\u202e=1+1",
        "\u2060 \"'=1+1",
        "\x00=1+1",
        "\x1b=1+1",
        "\x85=1+1",
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20SUM(A1)",
        "\ufe661+1",
        "\ufe62",
        "\ufe63",
        "\ufe6b",
        "\u22121",
        "\u201c=1+1\u201d",
    ],
)
def test_a_cell_that_would_be_a_formula_is_not(cell: str) -> None:
    assert safe_cell(cell) == "'" + cell


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("a;=1+1", "a;'=1+1"),
        ('a; "=1+1', "a;' \"=1+1"),
        ("a\t@x", "a\t'@x"),
        ("a\n-x", "a\n'-x"),
        ("a\r\n=x", "a\r\n'=x"),
        ("\t=1+1", "'\t'=1+1"),
        ("=a;=b", "'=a;'=b"),
    ],
)
def test_a_cell_that_breaks_up_elsewhere_holds_no_formula_either(cell: str, safe: str) -> None:
    """Where the decimal sign is a comma, spreadsheets take semicolons for the ends of cells."""
    assert safe_cell(cell) == safe


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "FRA",
        "004",
        "2.0.0 Ok: queued as 9F2D31C0A2",
        "Côte d'Ivoire",
        "a=b",
        "1-2",
        "jane@example.org",
        "(+41) 22",
        "a, -b",
        "مملكة كمبوديا",
        "\u200eكمبوديا",
    ],
)
def test_plain_text_stays_as_it_is(cell: str) -> None:
    assert safe_cell(cell) == cell


@pytest.mark.parametrize(("value", "text"), [(-5, "-5"), (250, "250"), (0, "0"), (-1.5, "-1.5"), (None, "None")])
def test_numbers_stay_numbers(value: object, text: str) -> None:
    assert safe_cell(value) == text


NASTY = st.text(
    st.sampled_from("=+-@＝＋－＠﹦−\t\r\n ;\"'“”\ufeff\u200b\u00a0\u3000\x00aé1,") | st.characters(codec="utf-8"),
    max_size=12,
)


def begins_a_formula(cell: str) -> bool:
    """What the most credulous spreadsheet may think: blanks, quotes and the invisible do not count."""
    seen = (c for c in cell if not (c in '"`“”„' or unicodedata.category(c)[0] in "ZC"))
    first = unicodedata.normalize("NFKC", next(seen, ""))
    return first in ("=", "+", "-", "@")


@given(NASTY)
@example("\ufe0f=1")
def test_no_cell_is_taken_for_a_formula(cell: str) -> None:
    safe = safe_cell(cell)
    assert not begins_a_formula(safe)
    assert safe[:1] not in ("\t", "\r", "\n")
    assert safe.replace("'", "") == cell.replace("'", "")


@given(st.lists(NASTY, min_size=1, max_size=4))
def test_no_cell_of_an_export_is_taken_for_a_formula(cells: list[str]) -> None:
    """Through the CSV and back, read as it was written or by semicolons."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([safe_cell(c) for c in cells])
    for row in csv.reader(io.StringIO(out.getvalue(), newline=""), strict=False):
        assert not any(begins_a_formula(cell) for cell in row)
    for part in out.getvalue().replace("\r", ";").replace("\n", ";").replace("\t", ";").split(";"):
        assert not begins_a_formula(part.removeprefix('"'))
