"""The log of attempts: found is what a filter in Python finds, pages make the whole, and exports are the same."""

import csv
import gc
import io
import json
import sqlite3
import unicodedata
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from dispatcher.core.errors import UsageError
from dispatcher.core.reading import ATTEMPT_COLUMNS, safe_cell
from dispatcher.core.statuses import LANGUAGES, clauses, in_words
from dispatcher.desk import Desk, exporting
from dispatcher.desk.attempts import OUTCOMES, PHASES, Addressees, Sought, attempt_page, attempts, relays_used
from dispatcher.ledgers import sealing
from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.sqlite import SqliteLedger
from tests.command import dispatcher
from tests.ledger_bench import CAMPAIGN, Time, letter, sealable

HOSTILE: Final = (
    '=HYPERLINK("http://example.invalid")',
    "<script>alert(1)</script>",
    "<r><t>not <b>marked</b> up & so</t></r>",
    "a\r\nb\tc\x00\x07 _x0041_ \ufffe end",
    "+1 \u202ereversed",
    " leading and trailing ",
    "2.0.0 Ok: queued as 9F2D",
    "",
)
REPLIES: Final = (
    (250, "2.0.0"), (250, ""), (421, "4.7.0"), (451, ""), (452, "4.2.2"), (550, "5.1.1"), (550, "5.1.10"),
    (550, "5.7.1"), (554, ""), (None, ""), (550, "4.1.1"),
)  # fmt: skip
START: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS: Final = ("FRA", "FRB", "Côte d’Ivoire", "k_100%", "=1+1")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A ledger of two campaigns, with attempts of every kind."""
    root = tmp_path_factory.mktemp("campaign")
    (root / "campaign.toml").write_text(f'id = "{CAMPAIGN}"\n', encoding="utf-8")
    desk = Desk(root, sandbox=True)
    desk.ledger_path.parent.mkdir(parents=True)
    with SqliteLedger(desk.ledger_path, Time()) as ledger:
        mine = [letter(key, f"Ambassade{n}@Missions.example", "cc@missions.example") for n, key in enumerate(KEYS[:2])]
        mine += [letter(key, f"{n}@missions.example") for n, key in enumerate(KEYS[2:])]
        sealing.seal(ledger, sealable(mine), 1)
        theirs = [letter("FRA", "other@missions.example", number="<other@kms.example>")]
        sealing.seal(ledger, sealable(theirs, campaign="other", contents=()), 1)
    _fill(desk.ledger_path)
    return desk


def _fill(path: Path) -> None:
    random = Random(20091001)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP INDEX one_live")
    for run in range(1, 7):
        campaign = "other" if run == 6 else CAMPAIGN
        given = (run, campaign, f"CN=number {run}" if run % 2 else "", stamp(START))
        connection.execute("INSERT INTO run VALUES (?, ?, 'me', ?, ?, NULL, '')", given)
        for port in (25, 587):
            session_row = (
                run,
                stamp(START),
                "relay.example",
                port,
                "192.0.2.1:25",
                "TLSv1.3",
                "C",
                "relay.example",
                0,
                "m",
            )
            connection.execute(
                "INSERT INTO session (run, opened_at, host, port, peer, tls_version, cipher, certificate, size, mode)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                session_row,
            )
    at = START
    for number in range(1, 241):
        at += timedelta(minutes=random.choice((-1, 7, 60, 300)))  # clocks are put back, too
        run = random.randint(1, 6)
        letters = 6 if run == 6 else random.randint(1, 5)
        code, enhanced = random.choice(REPLIES)
        outcome = random.choice(OUTCOMES)
        session = random.choice((None, 2 * run - 1, 2 * run))
        ended = None if outcome == "at_risk" else stamp(at + timedelta(seconds=3))
        row: tuple[Any, ...] = (
            number, letters, run, session, "me", stamp(at), ended, random.choice(PHASES), outcome, "", code, enhanced,
            random.choice(HOSTILE), random.choice(("", "9F2D")), "ab" * 32, None,
        )  # fmt: skip
        connection.execute(f"INSERT INTO attempt VALUES ({', '.join('?' * len(row))})", row)
        for mailbox in ("ambassade0@missions.example", "cc@missions.example"):
            said = random.choice(("accepted", "failed"))
            reply = random.choice(HOSTILE)
            connection.execute("INSERT INTO rcpt VALUES (?, ?, ?, 550, '', ?)", (number, mailbox, said, reply))
    connection.close()


@pytest.fixture(scope="module")
def every(desk: Desk) -> list[dict[str, Any]]:
    """All attempts of the campaign, put together without the statements that are tried here."""
    connection = sqlite3.connect(desk.ledger_path)
    connection.row_factory = sqlite3.Row
    found = []
    for row in connection.execute("SELECT * FROM attempt ORDER BY id"):
        there = connection.execute("SELECT * FROM letter WHERE id = ?", (row["letter"],)).fetchone()
        if there["campaign"] != CAMPAIGN:
            continue
        sealed = connection.execute("SELECT * FROM sealed WHERE letter = ?", (row["letter"],)).fetchone()
        session = connection.execute("SELECT * FROM session WHERE id = ?", (row["session"],)).fetchone()
        run = connection.execute("SELECT * FROM run WHERE id = ?", (row["run"],)).fetchone()
        said = connection.execute("SELECT * FROM rcpt WHERE attempt = ? ORDER BY mailbox", (row["id"],)).fetchall()
        refused = [f"{r['mailbox']}: {r['code']} {r['reply']}" for r in said if r["outcome"] != "accepted"]
        ways = ("peer", "tls_version", "cipher", "certificate", "mode")
        found.append(
            {
                **{name: row[name] for name in ATTEMPT_COLUMNS if name in row.keys()},  # noqa: SIM118 (no mapping)
                **{name: session[name] if session else None for name in ways},
                "attempt": row["id"],
                "smime": run["smime"],
                "key": there["key"],
                "name": json.loads(sealed["recipient"])["to"][0]["name"],
                "addresses": sealed["addresses"].replace(" ", ", "),
                "outcome": row["outcome"].replace("at_risk", "in flight"),
                "meaning": in_words(row["code"], row["enhanced"]),
                "refused": "\n".join(refused) if " " in sealed["addresses"] else None,
                "relay": f"{session['host']}:{session['port']}" if session else "",
            }
        )
    connection.close()
    return [{name: "" if row[name] is None else row[name] for name in ATTEMPT_COLUMNS} for row in found]


def folded(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text.replace("\u2019", "'").casefold())
    return "".join(char for char in apart if not unicodedata.combining(char))


def wanted(row: Mapping[str, Any], sought: Sought) -> bool:
    code = sought.code
    at = datetime.fromisoformat(row["at"])

    def moment(text: str) -> datetime:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    until = moment(sought.until) if sought.until else None
    if until and len(sought.until) == 10:
        until += timedelta(days=1)
    parts = code.rstrip(".").split(".") if "." in code else []
    return all(
        (
            sought.outcome in ("", row["outcome"].replace("in flight", "at_risk")),
            sought.phase in ("", row["phase"]),
            sought.run in ("", str(row["run"])),
            sought.relay in ("", row["relay"]),
            not sought.since or at >= moment(sought.since),
            until is None or at < until,
            parts or str(row["code"]).startswith(code),
            not parts or row["enhanced"].split(".")[: len(parts)] == parts,
            any(folded(sought.text.strip()) in folded(row[name]) for name in ("key", "addresses")),
        )
    )


MOMENTS: Final = ("", "2026-03-01", "2026-03-05", "2026-03-11", "2026-03-05T12:00", "2026-03-09T02:30:00+02:00")
SOUGHT: Final = st.builds(
    Sought,
    outcome=st.sampled_from(("", "", *OUTCOMES)),
    phase=st.sampled_from(("", "", "", "rcpt", "final")),
    code=st.sampled_from(("", "", "", "5", "55", "550", "4", "25", "5.", "5.1", "5.1.1", "4.2.2", "2.0", "5.9")),
    relay=st.sampled_from(("", "", "relay.example:25", "relay.example:587", "relay.example")),
    run=st.sampled_from(("", "", "", "1", "5", "6", "77")),
    since=st.sampled_from(MOMENTS),
    until=st.sampled_from(MOMENTS),
    text=st.sampled_from(
        ("", "", "fr", "FRA", "cote d'iv", "CÔTE D’I", "%", "_", "ambassade", "AMBASSADE0@", "=1", "zz", " ")
    ),
    oldest_first=st.booleans(),
)


@settings(max_examples=300)
@given(sought=SOUGHT, size=st.integers(1, 30), few=st.sampled_from((0, 2, 100)), counted=st.sampled_from((1, 20, 1000)))
def test_what_is_looked_for_is_found(
    desk: Desk, every: list[dict[str, Any]], sought: Sought, size: int, few: int, counted: int
) -> None:
    """By brute force; the pages one after the other are the whole, and each says how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_FEW", few), ("_COUNTED", counted), ("_TOGETHER", 7)):
            patch.setattr(f"dispatcher.desk.attempts.{name}", value)
        _find(desk, every, sought, size)


def _find(desk: Desk, every: list[dict[str, Any]], sought: Sought, size: int) -> None:
    expected = [row for row in every if wanted(row, sought)]
    if not sought.oldest_first:
        expected.reverse()
    assert list(attempts(desk, sought)) == expected
    pages: list[Mapping[str, Any]] = []
    after = 0
    while True:
        page = attempt_page(desk, sought, after=after, size=size)
        assert page.count == len(expected)
        assert len(page.rows) <= size
        pages += page.rows
        if not page.more:
            break
        after = page.rows[-1]["attempt"]
    assert pages == expected


def test_something_is_found_by_each(desk: Desk, every: list[dict[str, Any]]) -> None:
    """Else the test above would compare nothing with nothing."""
    assert len(every) > 150
    for sought in (
        Sought(outcome="unknown"), Sought(phase="rcpt"), Sought(code="5.1"), Sought(code="25"), Sought(run="3"),
        Sought(relay="relay.example:25"), Sought(since="2026-03-05", until="2026-03-05"), Sought(text="cote d'iv"),
    ):  # fmt: skip
        assert 0 < attempt_page(desk, sought, size=5).count < len(every), sought


def test_a_moment_is_where_it_begins_and_ends(desk: Desk, every: list[dict[str, Any]]) -> None:
    """What was made at that very moment is since then, and not until then."""
    at = every[len(every) // 2]["at"]
    assert at in {row["at"] for row in attempts(desk, Sought(since=at))}
    assert at not in {row["at"] for row in attempts(desk, Sought(until=at))}


def test_who_wants_no_more_leaves_nothing_open(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that is broken off: no complaint of what was cut short, which pytest would make an error."""
    monkeypatch.setattr("dispatcher.desk.attempts._TOGETHER", 7)
    found = attempts(desk, Sought())
    assert isinstance(found, Generator)
    next(found)
    found.close()
    gc.collect()


def test_an_enhanced_code_is_no_other_that_begins_so(desk: Desk) -> None:
    assert {row["enhanced"] for row in attempts(desk, Sought(code="5.1.1"))} == {"5.1.1"}


@pytest.mark.parametrize(
    ("sought", "said"),
    [
        (Sought(outcome="waiting"), "outcome waiting is none of an attempt's"),
        (Sought(phase="lunch"), "phase lunch is none"),
        (Sought(code="9"), "code 9 is no reply code"),
        (Sought(code="5.1.1.1"), "code 5.1.1.1"),
        (Sought(code="5' OR 1"), "is no reply code"),
        (Sought(run="x"), "run x is not the number"),
        (Sought(run="0"), "run 0"),
        (Sought(since="yesterday"), "since yesterday is not a date"),
        (Sought(until="9999-12-31"), "until 9999-12-31"),
    ],
)
def test_what_cannot_be_looked_for_is_named(desk: Desk, sought: Sought, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        attempts(desk, sought)


def test_the_relays_that_were_used(desk: Desk) -> None:
    assert relays_used(desk) == ["relay.example:25", "relay.example:587"]


def test_what_letters_are_found_by_is_read_anew_when_another_plan_is_sealed(tmp_path: Path) -> None:
    path, kept = tmp_path / "ledger.sqlite", Addressees()

    def found(text: str) -> tuple[int, int]:
        with Reader(path) as reader:
            numbers, letters = kept.find(reader, CAMPAIGN, text)
            return len(numbers), letters

    with SqliteLedger(path, Time()) as ledger:
        sealing.seal(ledger, sealable([letter("FRA", "Été@missions.example")]), 1)
        assert found("ETE@") == (1, 1)
        more = [letter("FRA", "Été@missions.example"), letter("ESP", "ete@missions.example")]
        sealing.seal(ledger, sealable(more, revision=2), 2)
        assert found("ETE@") == (2, 2)
        assert found("nobody") == (0, 2)


# Exports.


def rows_of_csv(text: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(text, newline=""))


def rows_of_xlsx(octets: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for sheet in openpyxl.load_workbook(io.BytesIO(octets), read_only=True):
        heading, *rows = sheet.iter_rows()
        names = [str(cell.value) for cell in heading]
        for row in rows:
            assert all(cell.data_type in ("n", "s", "inlineStr") for cell in row), "no cell is a formula"
            # A text of type ST_Xstring (ECMA-376) has _xHHHH_ for what XML cannot hold; the reader leaves it.
            values = [*(unescape(v) if isinstance(v := cell.value, str) else v for cell in row), *[None] * len(names)]
            found.append({name: "" if v is None else v for name, v in zip(names, values, strict=False)})
    return found


def xlsx(rows: list[dict[str, Any]], columns: tuple[str, ...] = ATTEMPT_COLUMNS) -> bytes:
    file = io.BytesIO()
    exporting.write_xlsx(file, columns, rows, title="attempts")
    return file.getvalue()


def of_a_sheet(value: Any) -> Any:
    """A text as a sheet can hold it."""
    return value.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd") if isinstance(value, str) else value


def test_exports_are_what_is_shown(desk: Desk) -> None:
    sought = Sought(code="5")
    shown = list(attempt_page(desk, sought, size=1000).rows)
    read = "".join(exporting.csv_pieces(ATTEMPT_COLUMNS, attempts(desk, sought)))
    assert list(rows_of_csv(read)) == [{name: safe_cell(value) for name, value in row.items()} for row in shown]
    lines = "".join(exporting.json_pieces(attempts(desk, sought))).splitlines()
    assert [json.loads(line) for line in lines] == shown
    sheet = rows_of_xlsx(xlsx(list(attempts(desk, sought))))
    assert sheet == [{name: of_a_sheet(value) for name, value in row.items()} for row in shown]


CELLS: Final = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(HOSTILE) | st.integers(0, 10**9)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"n": st.integers(0, 10**9), "a": CELLS, "b": CELLS}), max_size=5))
def test_an_export_says_what_it_was_given(rows: list[dict[str, Any]]) -> None:
    """Read back by others, whatever the texts are."""
    read = "".join(exporting.csv_pieces(("n", "a", "b"), rows))
    assert list(rows_of_csv(read)) == [{n: safe_cell(v) for n, v in row.items()} for row in rows]
    assert [json.loads(line) for line in "".join(exporting.json_pieces(rows)).split("\n") if line] == rows
    sheet = rows_of_xlsx(xlsx(rows, ("n", "a", "b")))
    assert sheet == [{n: of_a_sheet(v) for n, v in row.items()} for row in rows]


def test_a_cell_that_is_too_long_is_cut_where_it_must_be() -> None:
    reply = "é🕊" * 20_000
    (row,) = rows_of_xlsx(xlsx([{"reply": reply}], ("reply",)))
    assert row["reply"].endswith("…")
    assert reply.startswith(row["reply"][:-1])
    assert 32_760 < len(row["reply"].encode("utf-16-le")) // 2 <= 32_767
    assert reply in "".join(exporting.csv_pieces(("reply",), [{"reply": reply}]))


def test_a_full_sheet_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_SHEET_ROWS", 2)
    rows = [{"a": n} for n in range(5)]
    octets = xlsx(rows, ("a",))
    assert rows_of_xlsx(octets) == rows
    assert openpyxl.load_workbook(io.BytesIO(octets)).sheetnames == ["attempts", "attempts 2", "attempts 3"]


# On the command line.


def test_the_command_line_gives_the_same(desk: Desk, tmp_path: Path) -> None:
    shown = list(attempts(desk, Sought(code="5.1", oldest_first=True)))
    asked = ("log", "--attempts", "--code", "5.1", "--oldest-first", "--sandbox")
    done = dispatcher(*asked, "--json", folder=desk.root)
    assert done.json == {"rows": shown, "attempts": len(shown)}
    lines = dispatcher(*asked, "--format", "jsonl", folder=desk.root).out.splitlines()
    assert [json.loads(line) for line in lines] == shown
    file = tmp_path / "log.csv"
    assert dispatcher(*asked, "--format", "csv", "--out", str(file), folder=desk.root).code == 0
    said = file.read_bytes().decode()
    assert list(rows_of_csv(said)) == [{name: safe_cell(value) for name, value in row.items()} for row in shown]
    book = tmp_path / "log.xlsx"
    assert dispatcher(*asked, "--format", "xlsx", "--out", str(book), folder=desk.root).code == 0
    sheet = [{name: of_a_sheet(value) for name, value in row.items()} for row in shown]
    assert rows_of_xlsx(book.read_bytes()) == sheet
    table = dispatcher(*asked, folder=desk.root).out.splitlines()
    assert len(table) == len(shown) + 1


def test_what_fits_no_letter_or_no_file_is_said(desk: Desk, tmp_path: Path) -> None:
    done = dispatcher("log", "--phase", "rcpt", "--sandbox", folder=desk.root)
    assert (done.code, "--phase is about attempts" in done.err) == (2, True)
    done = dispatcher("log", "--outcome", "failed", "--sandbox", folder=desk.root)
    assert (done.code, "where a letter stands is its --state" in done.err) == (2, True)
    done = dispatcher("log", "--attempts", "--state", "failed", "--sandbox", folder=desk.root)
    assert (done.code, "an attempt has an outcome: --outcome" in done.err) == (2, True)
    done = dispatcher("log", "--sandbox", "--out", str(tmp_path / "x"), folder=desk.root)
    assert (done.code, "a table is for the eye" in done.err) == (2, True)
    done = dispatcher("log", "--sandbox", "--format", "csv", "--out", str(tmp_path / "no/x"), folder=desk.root)
    assert (done.code, "name another file with --out" in done.err) == (2, True)


# In words.


def test_each_language_has_each_clause() -> None:
    assert all(clauses(language).keys() == clauses("en").keys() for language in LANGUAGES)
    assert all(said and "|" not in said for language in LANGUAGES for said in clauses(language).values())
    texts = [set(clauses(language).values()) for language in LANGUAGES]
    assert not texts[0] & texts[1]
    assert not texts[1] & texts[2]


@pytest.mark.parametrize(
    ("code", "enhanced", "said"),
    [
        (550, "5.1.1", "Refused for good: the mailbox does not exist there"),
        (452, "4.2.2", "Refused for now: the mailbox is full"),
        (250, "2.0.0", "Accepted: taken over"),
        (250, "2.1.5", "Accepted: the address is good"),
        (250, "", "Accepted: taken over"),
        (550, "4.1.1", "Refused for good: the mailbox is not to be had, or the relay's rules refuse it"),
        (550, "5.1.99", "Refused for good: something about the address"),
        (550, "5.77.1", "Refused for good: the relay gives no more precise reason"),
        (599, "", "Refused for good: the relay gives no more precise reason"),
        (550, "5.001.01", "Refused for good: the mailbox does not exist there"),
        (354, "", ""),
        (None, "", ""),
    ],
)
def test_a_reply_in_words(code: int | None, enhanced: str, said: str) -> None:
    assert in_words(code, enhanced) == said


def test_a_reply_in_french_and_spanish() -> None:
    assert in_words(550, "5.1.1", "fr") == "Refusé définitivement\u00a0: cette boîte aux lettres n’existe pas"
    assert in_words(550, "5.1.1", "es") == "Rechazado definitivamente: ese buzón no existe"
