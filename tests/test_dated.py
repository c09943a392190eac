"""Values that hold for a time: the names of 2009 in a letter of 2009, today's in today's."""

import csv
import datetime as dt
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.dated import Dated
from dispatcher.core.errors import Place, Problem, TableError
from dispatcher.core.merge import Merged
from dispatcher.core.plan import Summary
from dispatcher.desk import Desk
from dispatcher.desk.checking import check_folder
from dispatcher.desk.draft import Draft
from dispatcher.desk.starting import copy_starter
from tests.campaigns import RECIPIENTS, TOP, settings, write_campaign

LISTED = ("key", "name", "city")
DATED = RECIPIENTS + 'dated = "dated.csv"\n'
TABLE = "key,from,until,name,city,note\n"
DAY = dt.date(2009, 10, 1)


def cells(table: str, day: dt.date = DAY, **row: str) -> dict[str, str]:
    """A row of a list with a key, a name and a city, as of a day."""
    rows = list(csv.DictReader(io.StringIO(table)))
    dated = Dated(day, "dated.csv", tuple(rows[0]), LISTED)
    dated.read((Place("dated.csv", number), cells) for number, cells in enumerate(rows, 2))
    listed = {"key": "TUR", "name": "Türkiye", "city": "Geneva", **row}
    [(_, found)] = dated.applied([(Place("people.csv", 2), listed)])
    return dict(found)


def refused(table: str) -> Sequence[Problem]:
    with pytest.raises(TableError) as caught:
        cells(table)
    return caught.value.problems


@pytest.mark.parametrize(
    ("first", "last", "holds"),
    [
        ("", "2009-09-30", False),
        ("", "2009-10-01", True),
        ("2009-10-01", "", True),
        ("2009-10-02", "", False),
        ("2009-10-01", "2009-10-01", True),
        ("2008-01-01", "2009-12-31", True),
        ("2010-01-01", "2010-12-31", False),
    ],
)
def test_both_days_are_included(first: str, last: str, *, holds: bool) -> None:
    assert cells(f"{TABLE}TUR,{first},{last},Turkey,,")["name"] == ("Turkey" if holds else "Türkiye")


def test_an_empty_cell_says_nothing() -> None:
    assert cells(f"{TABLE}TUR,,2022-05-31,Turkey,,why") == {"key": "TUR", "name": "Turkey", "city": "Geneva"}


def test_each_column_may_have_its_own_days() -> None:
    table = f"{TABLE}TUR,,2022-05-31,Turkey,,\nTUR,2009-01-01,2009-12-31,,Bern,"
    assert cells(table) == {"key": "TUR", "name": "Turkey", "city": "Bern"}
    assert cells(table, dt.date(2010, 1, 1)) == {"key": "TUR", "name": "Turkey", "city": "Geneva"}


def test_two_values_for_one_day_are_a_problem_and_two_that_agree_are_not() -> None:
    [problem] = refused(f"{TABLE}TUR,,2022-05-31,Turkey,,\nTUR,,2009-12-31,Turquie,,")
    assert problem.where == Place("dated.csv", 3)
    assert "on 2009-10-01 TUR has two values for 'name', the other one at dated.csv:2" in problem.what
    assert cells(f"{TABLE}TUR,,2022-05-31,Turkey,,\nTUR,,2009-12-31,Turkey,,")["name"] == "Turkey"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("TUR,,,Turkey,,", "neither from when nor until when"),
        ("TUR,,31.05.2022,Turkey,,", "'until' is not a date: '31.05.2022'"),
        ("TUR,,2022,Turkey,,", "'until' is not a date"),
        ("TUR,20220531,,Turkey,,", "'from' is not a date"),
        ("TUR,,2022-02-30,Turkey,,", "'until' is not a date"),
        ("TUR,2010-01-01,2009-12-31,Turkey,,", r"'until' \(2009-12-31\) is before 'from' \(2010-01-01\)"),
    ],
)
def test_a_row_that_would_do_nothing_or_anything_is_named(row: str, says: str) -> None:
    [problem] = refused(f"{TABLE}TUR,,2022-05-31,,,\n{row}")
    assert re.search(says, problem.what)
    assert problem.where == Place("dated.csv", 3)
    assert problem.todo


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("key,until,nmae", "the list has no column 'nmae'"),
        ("key,name", "neither a column 'from' nor 'until'"),
        ("code,until,name", "need a column 'key'"),
    ],
)
def test_columns_that_would_do_nothing_are_named(columns: str, says: str) -> None:
    with pytest.raises(TableError, match=says) as caught:
        Dated(DAY, "dated.csv", columns.split(","), LISTED)
    assert caught.value.problems[0].where == Place("dated.csv", 1)


@given(st.dates(), st.dates(), st.dates())
def test_on_every_day_it_is_one_name_or_the_other(day: dt.date, one: dt.date, two: dt.date) -> None:
    first, last = sorted((one, two))
    name = cells(f"{TABLE}TUR,{first},{last},Turkey,,", day)["name"]
    assert name == ("Turkey" if first <= day <= last else "Türkiye")


# in a campaign


def drafted(folder: Path, dated: str, *, date: str = "2026-03-01") -> Draft:
    toml = settings(recipients=DATED).replace(TOP, TOP.replace("2026-03-01", date))
    return Draft(write_campaign(folder, files={"dated.csv": dated}, toml=toml))


def subjects(draft: Draft) -> dict[str, str]:
    return {item.letter.key: item.rendering.subject for item in draft.items() if isinstance(item, Merged)}


OLD_NAME = "key,until,name\nTUR,2022-05-31,Mission of Turkey\n"


def test_the_letters_date_chooses_the_name(tmp_path: Path) -> None:
    """In the letter, and beside the address in its header."""
    for date, name in (("2022-05-31", "Mission of Turkey"), ("2022-06-01", "Mission of Türkiye")):
        draft = drafted(tmp_path / date, OLD_NAME, date=date)
        assert subjects(draft)["TUR"] == f"The harvest, {name}"
        [letter] = (letter for letter in draft.letters() if letter.key == "TUR")
        assert letter.recipient.to[0].name == name


def test_a_condition_sees_the_values_of_the_day(tmp_path: Path) -> None:
    recipients = DATED + 'where = "member"\n'
    table = "key,from,member\nTUR,2009-01-01,true\n"
    for date, keys in (("2008-12-31", {"FRA", "NAM", "KHM"}), ("2009-01-01", {"FRA", "NAM", "KHM", "TUR"})):
        toml = settings(recipients=recipients).replace("2026-03-01", date)
        draft = Draft(write_campaign(tmp_path / date, files={"dated.csv": table}, toml=toml))
        assert set(subjects(draft)) == keys


def test_what_is_wrong_in_the_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"dated\.csv:3: 'until' is not a date"):
        drafted(tmp_path, OLD_NAME + "TUR,never,x\n").summary()


def test_keys_that_the_list_has_not_are_a_note(tmp_path: Path) -> None:
    """One table may serve many lists, and it may be a slip."""
    drafted(tmp_path, OLD_NAME + "".join(f"K{number},2022-05-31,x\n" for number in range(7)))
    notes = check_folder(Desk(tmp_path)).notes
    said = "dated.csv has rows for K0, K1, K2, K3, K4 and 2 more, and its list has none: are these the right keys?"
    assert said in notes
    drafted(tmp_path, OLD_NAME)
    assert not [note for note in check_folder(Desk(tmp_path)).notes if "dated.csv" in note]


def test_a_table_that_changed_makes_another_plan(tmp_path: Path) -> None:
    draft = drafted(tmp_path, OLD_NAME)
    draft.summary()
    origin = draft.origin()
    assert origin
    assert draft.unchanged(origin)
    (tmp_path / "dated.csv").write_text(OLD_NAME.replace("2022-05-31", "2026-12-31"), encoding="utf-8")
    assert not draft.unchanged(origin)


def test_a_table_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path, recipients=DATED)
    with pytest.raises(Exception, match=r"campaign\.toml:\d+, key recipients\.0\.dated: dated\.csv does not exist"):
        Draft(folder).summary()


# the founding campaign


@pytest.fixture(scope="module")
def of_each_time(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Merged]]:
    """The letters to missions, once dated 2009 and once dated today."""
    found = {}
    for date in ("2009-10-01", "2026-10-01"):
        folder = tmp_path_factory.mktemp(date) / "campaign"
        copy_starter(folder)
        path = folder / "campaign.toml"
        path.write_text(path.read_text(encoding="utf-8").replace("date = 2009-10-01", f"date = {date}"), "utf-8")
        draft = Draft(folder)
        summary, letters = Summary(), {}
        for item in draft.items():
            summary.add(item)
            if isinstance(item, Merged):
                letters[item.letter.key] = item
        assert summary.problems == []
        assert summary.letters == 204
        found[date[:4]] = letters
    return found


CHANGED = """
CPV|du Cap-Vert|de Cabo Verde|République du Cap-Vert|République de Cabo Verde
CZE|of the Czech Republic|of Czechia|of the Czech Republic|of the Czech Republic
SWZ|of Swaziland|of Eswatini|Kingdom of Swaziland|Kingdom of Eswatini
MKD|of the former Yugoslav Republic of Macedonia|of North Macedonia\
|of the former Yugoslav Republic of Macedonia|of the Republic of North Macedonia
TUR|of Turkey|of Türkiye|Republic of Turkey|Republic of Türkiye
LBY|of the Libyan Arab Jamahiriya|of Libya|Socialist People's Libyan Arab Jamahiriya|State of Libya
NLD|of the Netherlands|of the Kingdom of the Netherlands|Kingdom of the Netherlands|Kingdom of the Netherlands
NPL|of Nepal|of Nepal|Federal Democratic Republic of Nepal|Mission of Nepal
GUY|of Guyana|of Guyana|of the Republic of Guyana|of the Co-operative Republic of Guyana
MMR|of Myanmar|of Myanmar|of the Union of Myanmar|of the Republic of the Union of Myanmar
FJI|of Fiji|of Fiji|Republic of the Fiji Islands|Republic of Fiji
HUN|of Hungary|of Hungary|Mission of the Republic of Hungary|Mission of Hungary
SOM|of Somalia|of Somalia|of the Somali Republic|of the Federal Republic of Somalia
"""


@pytest.mark.parametrize("line", CHANGED.strip().splitlines(), ids=lambda line: line[:3])
def test_thirteen_states_have_the_name_of_their_time(line: str, of_each_time: dict[str, dict[str, Merged]]) -> None:
    """In the letter's own words, and as the name beside the address."""
    key, of_2009, of_today, mission_2009, mission_today = line.split("|")
    for year, of, mission in (("2009", of_2009, mission_2009), ("2026", of_today, mission_today)):
        merged = of_each_time[year][key]
        text = " ".join(merged.rendering.text.split()).replace("’", "'")
        assert f"{mission} " in text
        assert mission in merged.letter.recipient.to[0].name
        assert re.search(f"(delegation|délégation) {re.escape(of)} (would|de bien|serves)", text), text


def test_nobody_else_s_name_depends_on_the_date(of_each_time: dict[str, dict[str, Merged]]) -> None:
    changed = {line[:3] for line in CHANGED.strip().splitlines()}
    for key, merged in of_each_time["2009"].items():
        other = of_each_time["2026"][key]
        same = merged.rendering.text.replace("2009", "") == other.rendering.text.replace("2026", "").replace("2009", "")
        assert same == (key not in changed), key
