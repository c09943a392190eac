"""The traps of a list of states: `docs/pitfalls.md` says which test covers which. Here are those about names, their
order and their forms that no other file has.
"""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from dispatcher.core.compose import Composer, dated
from dispatcher.core.errors import Place
from dispatcher.core.headers import clean_file_name
from dispatcher.core.jinja import Expression
from dispatcher.core.model import Mailbox, Recipient, Rendering
from dispatcher.core.render import Renderer
from dispatcher.core.text import WIDTH, display_width, printable, searchable
from dispatcher.sources.campaign import Folder, read_campaign, read_templates
from tests.command import dispatcher, new_campaign
from tests.readers import by_mail_parser, by_standard_library
from tests.rendered import text as rendered
from tests.test_compose import HEADERS, WHEN
from tests.test_founding_data import LANGUAGES, Row, missions, missions_as_of

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8")
NAMES = sorted({row[f"{part}_{code}"] for row in missions() for part in ("name", "mission") for code in LANGUAGES})
OLD_NAMES = sorted({row[f"mission_{code}"] for row in missions_as_of(2009) for code in LANGUAGES})


@cache
def renderer() -> Renderer:
    return Renderer(read_templates(read_campaign(ROOT), Folder(ROOT)))


def letter(row: Row) -> str:
    """A mission's letter as one line of text, its apostrophes as the list has them."""
    text = renderer().render(Recipient(row["key"], (), (), row["language"], row), ()).text
    return " ".join(text.replace("’", "'").split())


def one_line(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def short_order(rows: list[Row]) -> list[str]:
    """Keys in the English order of short names, whatever their accents and capitals."""
    return [row["key"] for row in sorted(rows, key=lambda row: searchable(row["name_en"]))]


# The page


def test_the_page_covers_all_forty_and_its_tests_exist() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 41))
    for number, tests in rows:
        named = re.findall(r"`(test_\w+)::(test_\w+)`", tests)
        assert named, f"no test for {number}"
        for file, test in named:
            source = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
            assert f"\ndef {test}(" in source, f"{file} has no {test}"


# Characters


def test_how_many_names_are_not_ascii() -> None:
    """Two in English, so that a mix-up of encodings would hardly be seen there."""
    members = [row for row in missions() if row["status"] == "member"]
    beyond = {code: [r[f"name_{code}"] for r in members if not r[f"name_{code}"].isascii()] for code in LANGUAGES}
    assert beyond["en"] == ["Côte d'Ivoire", "Türkiye"]
    assert {code: len(names) for code, names in beyond.items()} == {"en": 2, "fr": 62, "es": 52}
    assert all(name.encode("latin-1") for names in beyond.values() for name in names)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_every_name_comes_through_header_text_file_name_and_terminal(form: Literal["NFC", "NFD"]) -> None:
    """Of today and of 2009, in three languages; composed, whatever it was."""
    for name in {*NAMES, *OLD_NAMES}:
        given = unicodedata.normalize(form, name)
        recipient = Recipient("X", (Mailbox("x@missions.example.org", given),))
        message = Composer(HEADERS).compose(recipient, Rendering(given, name, f"<p>{name}</p>", "en"), "<a@x.example>")
        octets = dated(message, WHEN).octets
        assert one_line(by_standard_library(octets).subject) == name
        reading = by_mail_parser(octets)  # the standard library puts blanks between encoded words of a name
        assert [one_line(shown) for shown in (reading.subject, reading.to[0][0])] == [name, name]
        assert printable(name) == name
        assert unicodedata.normalize("NFC", clean_file_name(f"{given}.pdf")).endswith(".pdf")


@pytest.mark.parametrize("key", ["BOL", "IRN", "FSM", "NLD", "VEN"])
def test_brackets_in_a_display_name_are_no_comment(key: str) -> None:
    """RFC 5322 §3.2.2: unquoted they would vanish. In the text the name is turned round."""
    row = next(row for row in missions() if row["key"] == key)
    for code in LANGUAGES:
        assert "(" in row[f"name_{code}"]
        assert "(" not in row[f"of_{code}"] + row[f"mission_{code}"]
        recipient = Recipient(key, (Mailbox("x@missions.example.org", row[f"name_{code}"]),))
        message = Composer(HEADERS).compose(recipient, Rendering("s", "t", "<p>t</p>", "en"), "<a@x.example>")
        assert by_standard_library(dated(message, WHEN).octets).to == ((row[f"name_{code}"], "x@missions.example.org"),)


def test_capitals_keep_their_accents_and_turkiye_its_i() -> None:
    """Upper case is Unicode's and no locale's: ÉTATS-UNIS, and TÜRKIYE without the dot of Istanbul."""
    for name in NAMES:
        upper = rendered("{{ cell|upper }}", cell=name).strip().replace("\n", " ")
        assert searchable(upper) == searchable(name)
        accents = [char for char in name if not char.isascii()]
        assert [char.upper() for char in accents] == [char for char in upper if not char.isascii()]
    assert rendered("{{ cell|upper }}", cell="États-Unis") == "ÉTATS-UNIS\n"
    assert rendered("{{ cell|upper }}", cell="Türkiye") == "TÜRKIYE\n"


@pytest.mark.parametrize("typed", ["côte d'ivoire", "Côte d’Ivoire", "COTE D'IVOIRE", "cote d’iv", "CIV"])
def test_a_search_finds_both_apostrophes_and_no_accent(typed: str, tmp_path: Path) -> None:
    folder = new_campaign(tmp_path / "campaign", ["CIV", "FRA"])
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    found = dispatcher("log", "--sandbox", "--recipient", typed, "--format", "csv", folder=folder).out
    assert [line.partition(",")[0] for line in found.splitlines()[1:]] == ["CIV"]


# Names


def test_no_name_has_a_comma_or_an_invisible_blank() -> None:
    for name in {*NAMES, *OLD_NAMES}:
        assert not re.search(r"[,;\t\u00a0\u200b\u202f]|  |\*|\[", name), name
        assert name == name.strip()


def test_names_inside_names_are_met_as_a_whole() -> None:
    """The Republic of Korea is in the name of the other one, Guinea in three more: a condition holds for one state."""
    inside = 0
    for row in missions():
        name = row["name_en"]
        inside += sum(name in other["name_en"] for other in missions()) > 1
        condition = Expression(f"name_en == {name!r}", Place("--only"))
        assert [other["key"] for other in missions() if condition.holds(other)] == [row["key"]]
    assert inside >= 7


def test_each_mission_gets_its_own_title_and_no_other_one() -> None:
    """The longest first, so that Niger is not found in Nigeria; nor the Republic of Korea in the other one."""
    for row in missions_as_of(2009):
        title = f"mission_{row['language']}"
        found, rest = set(), letter(row)
        for other in sorted(missions_as_of(2009), key=lambda one: -len(one[title])):
            if f"{other[title]} " in rest:
                found.add(other["key"])
                rest = rest.replace(f"{other[title]} ", " ")
        assert found == {row["key"]}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("PRK", "Permanent Mission of the Democratic People's Republic of Korea"),
        ("KOR", "Permanent Mission of the Republic of Korea"),
        ("COG", "Mission permanente de la République du Congo"),
        ("COD", "Mission permanente de la République démocratique du Congo"),
        ("NER", "Mission permanente de la République du Niger"),
        ("NGA", "Permanent Mission of the Federal Republic of Nigeria"),
        ("CHE", "Mission permanente de la Confédération suisse"),
        ("CHN", "Permanent Mission of the People's Republic of China"),
        ("AUT", "Permanent Mission of the Republic of Austria"),
        ("AUS", "Permanent Mission of Australia"),
        ("DMA", "Permanent Mission of the Commonwealth of Dominica"),
    ],
)
def test_codes_that_look_alike(key: str, words: str) -> None:
    assert words in letter(next(row for row in missions_as_of(2009) if row["key"] == key))


def test_everyday_names_match_nothing(tmp_path: Path) -> None:
    """Nobody is found by a name that is nearly right: keys are the codes, and conditions compare whole values."""
    names = {row[f"name_{code}"] for row in missions() for code in LANGUAGES}
    everyday = {"Burma", "Holland", "Ivory Coast", "Laos", "North Korea", "Russia", "Syria", "UK", "USA", "Vietnam"}
    assert not everyday & names
    folder = new_campaign(tmp_path / "campaign", ["GBR", "FRA"])
    assert dispatcher("send", "--sandbox", "--only", 'key == "FRA"', folder=folder).code == 0
    assert "Nothing was sent" in dispatcher("send", "--sandbox", "--only", 'name_en == "UK"', folder=folder).out
    assert "there is no letter with key UK" in dispatcher("log", "UK", "--sandbox", folder=folder).err


@pytest.mark.parametrize(
    ("key", "name"), [("CIV", "Côte d'Ivoire"), ("TLS", "Timor-Leste"), ("CPV", "Cabo Verde"), ("TUR", "Türkiye")]
)
def test_names_that_are_not_translated(key: str, name: str) -> None:
    row = next(row for row in missions() if row["key"] == key)
    assert {row[f"name_{code}"] for code in LANGUAGES} == {name}


def test_the_longest_names_are_wrapped_and_not_cut() -> None:
    longest = max(missions(), key=lambda row: len(row["mission_en"]))
    assert (longest["key"], len(longest["mission_en"])) == ("GBR", 77)
    text = renderer().render(Recipient("GBR", (), (), "en", longest), ()).text
    assert max(map(display_width, text.splitlines())) <= WIDTH
    assert longest["mission_en"] in " ".join(text.split())


# Order


def test_the_list_is_in_the_english_order_of_the_united_nations() -> None:
    """Côte d'Ivoire 41st and not 45th, the Koreas apart. Letters go in the order of the list; no name is sorted."""
    members = [row for row in missions() if row["status"] == "member"]
    keys = [row["key"] for row in members]
    assert keys == short_order(members)
    assert keys.index("CIV") + 1 == 41
    assert sorted(members, key=lambda row: row["name_en"]) != members
    assert keys.index("CZE") < keys.index("PRK") < keys.index("COD")
    assert keys.index("QAT") < keys.index("KOR") < keys.index("MDA")
    assert keys.index("KGZ") < keys.index("LAO") < keys.index("LVA")
    assert keys.index("UKR") < keys.index("TZA") < keys.index("URY")


def test_order_in_french_needs_accents_folded() -> None:
    """By octets Équateur and États-Unis would stand behind Zimbabwe."""
    french = [row["name_fr"] for row in sorted(missions(), key=lambda row: searchable(row["name_fr"]))]
    assert (
        french.index("Équateur")
        < french.index("Érythrée")
        < french.index("Espagne")
        < french.index("États-Unis d'Amérique")
    )
    assert french[-1] == "Zimbabwe"


def test_the_order_of_2009() -> None:
    members = [row for row in missions_as_of(2009) if row["member_on_2009_10_01"] == "true"]
    places = {key: place for place, key in enumerate(short_order(members), 1)}
    assert len(places) == 192
    expected = {"CPV": 32, "CZE": 45, "LBY": 97, "SWZ": 164, "MKD": 170, "TUR": 176}
    assert {key: places[key] for key in expected} == expected


# Time


@pytest.mark.parametrize("key", ["BOL", "VEN", "MNE", "SRB", "TLS", "VNM"])
def test_names_that_are_often_thought_to_have_changed(key: str) -> None:
    then, now = (next(row for row in rows if row["key"] == key) for rows in (missions_as_of(2009), missions()))
    assert then == now


def test_no_letter_reads_the_regional_group() -> None:
    """The list has today's; in 2009 some had another one, and two had none."""
    assert "group" not in renderer().words
