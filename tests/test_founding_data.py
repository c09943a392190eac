"""The founding campaign's data: the two lists, the forms of address, the letters, the layout and the report."""

import csv
import datetime as dt
import re
import shutil
import subprocess
import sys
import tomllib
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from dispatcher.core.dated import Dated
from dispatcher.core.errors import Place, TemplateError
from dispatcher.core.forms import GENDERS, Forms, parse_forms
from dispatcher.core.model import Recipient
from dispatcher.core.render import Renderer
from dispatcher.sources.campaign import Folder, read_campaign, read_templates

ROOT = Path(__file__).resolve().parent.parent
LETTERS = ROOT / "templates" / "upr_submission"
GOLD = ROOT.parent / "shared" / "domain" / "un_forms.csv"
LANGUAGES = ("en", "fr", "es")
Row = dict[str, str]


@cache
def rows(name: str) -> list[Row]:
    with (ROOT / "recipients" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def missions() -> list[Row]:
    return rows("un_missions.csv")


@cache
def missions_as_of(year: int) -> list[Row]:
    """The missions as a letter of 1 October of that year has them."""
    table = rows("un_names.csv")
    dated = Dated(dt.date(year, 10, 1), "un_names.csv", tuple(table[0]), tuple(missions()[0]))
    dated.read((Place("un_names.csv", line), row) for line, row in enumerate(table, 2))
    placed = ((Place("un_missions.csv", line), row) for line, row in enumerate(missions(), 2))
    return [dict(row) for _, row in dated.applied(placed)]


def ngos() -> list[Row]:
    return rows("ngos.csv")


def keys(column: str) -> set[str]:
    return {row["key"] for row in missions() if row[column] == "true"}


@cache
def forms(language: str) -> Forms:
    path = ROOT / "templates" / "forms" / f"{language}.toml"
    return parse_forms(path.read_text(encoding="utf-8"), path.name)


# The lists


def test_the_list_holds_193_members_and_2_observers() -> None:
    assert len(missions()) == 195
    assert Counter(row["status"] for row in missions()) == {"member": 193, "observer": 2}
    assert {row["key"] for row in missions() if row["status"] == "observer"} == {"VAT", "PSE"}


def test_the_flag_of_2009_chooses_the_192_members_of_that_day() -> None:
    members = {row["key"] for row in missions() if row["status"] == "member"}
    assert len(keys("member_on_2009_10_01")) == 192
    assert members - keys("member_on_2009_10_01") == {"SSD"}


def test_council_troika_and_the_state_under_review() -> None:
    assert len(keys("hrc_member_2009")) == 47
    assert keys("upr_troika_cambodia_2009") == {"BHR", "CMR", "NIC"}
    assert keys("upr_troika_cambodia_2009") <= keys("hrc_member_2009")
    assert keys("under_review") == {"KHM"}


def test_regional_groups_add_up_to_the_members() -> None:
    groups = Counter(row["group"] for row in missions() if row["status"] == "member")
    african_asian = {"African Group": 54, "Asia-Pacific Group": 54}
    assert groups == {**african_asian, "Eastern European Group": 23, "GRULAC": 33, "WEOG": 29}


def test_codes_keep_their_shape() -> None:
    """ISO alpha-3 keys; M49 as text, leading zeros and all; flags are nothing but true or false."""
    assert all(re.fullmatch("[A-Z]{3}", row["key"]) and re.fullmatch("[0-9]{3}", row["m49"]) for row in missions())
    assert {row["key"]: row["m49"] for row in missions()}["AFG"] == "004"
    flags = ("member_on_2009_10_01", "hrc_member_2009", "upr_troika_cambodia_2009", "under_review")
    assert {row[flag] for row in missions() for flag in flags} == {"true", "false"}
    assert {row["kind"] for row in missions()} == {"mission"}
    assert {row["post"] for row in missions()} == {"Geneva"}


def test_twelve_ngos_in_three_languages() -> None:
    assert len(ngos()) == 12
    assert {row["kind"] for row in ngos()} == {"ngo"}
    assert {row["language"] for row in ngos()} == set(LANGUAGES)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row["key"]) for row in ngos())
    assert all(row["rank"] in forms(row["language"]).ranks for row in ngos())


def test_nobody_has_a_gender_and_no_mission_a_rank() -> None:
    assert {row["gender"] for row in missions() + ngos()} == {""}
    assert {row["rank"] for row in missions()} == {""}


def test_every_address_is_reserved_and_nobody_elses() -> None:
    """RFC 2606: no mail can leave by accident. One NGO has two mailboxes, all others one."""
    mailboxes = [box.strip() for row in missions() + ngos() for box in row["email"].split(",")]
    assert all(re.fullmatch(r"[a-z0-9.-]+@(missions|ngos)\.example\.org", box) for box in mailboxes)
    assert len(mailboxes) == len(set(mailboxes)) == 195 + 12 + 1
    assert all(row["email"] == f"{row['key'].lower()}@missions.example.org" for row in missions())
    everyone = [row["key"] for row in missions() + ngos()]
    assert len(everyone) == len(set(everyone))


@pytest.mark.parametrize("name", ["un_missions.csv", "un_names.csv", "ngos.csv"])
def test_lists_are_plain_utf_8(name: str) -> None:
    """No byte order mark, lines end in LF, composed characters (NFC), no blanks at the edges, every row complete."""
    raw = (ROOT / "recipients" / name).read_bytes()
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    text = raw.decode("utf-8")
    assert unicodedata.is_normalized("NFC", text)
    table = list(csv.reader(text.splitlines(), strict=True))
    assert {len(row) for row in table} == {len(table[0])}
    assert all(cell == cell.strip() and "  " not in cell for row in table for cell in row)


# Names


def gold() -> list[Row]:
    """The gold list of names; [] where it is not."""
    if not GOLD.exists():
        return []
    with GOLD.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


NO_GOLD = pytest.param({}, marks=pytest.mark.skip(reason="the gold list of names is not on this machine"), id="none")


@pytest.mark.parametrize("wanted", gold() or [NO_GOLD], ids=lambda row: row["iso3"])
def test_names_are_those_of_the_gold_list(wanted: Row) -> None:
    """Mission title and "of" form, in three languages, of all 195."""
    row = next(row for row in missions() if row["key"] == wanted["iso3"])
    for language in LANGUAGES:
        assert row[f"of_{language}"] == wanted[f"short_of_{language}"]
        assert row[f"mission_{language}"] == wanted[f"mission_{language}"]


@pytest.mark.parametrize("wanted", [gold() or NO_GOLD], ids=["order"])
def test_the_gold_list_has_nobody_else_and_no_other_order(wanted: list[Row]) -> None:
    assert [row["iso3"] for row in wanted] == [row["key"] for row in missions()]


SAMPLES = """
KHM|of Cambodia|du Cambodge|de Camboya|the Kingdom of Cambodia|du Royaume du Cambodge|del Reino de Camboya
PHL|of the Philippines|des Philippines|de Filipinas\
|the Republic of the Philippines|de la République des Philippines|de la República de Filipinas
GMB|of the Gambia|de la Gambie|de Gambia|the Republic of the Gambia|de la République de Gambie|de la República de Gambia
UKR|of Ukraine|de l'Ukraine|de Ucrania|Ukraine|de l'Ukraine|de Ucrania
IRN|of the Islamic Republic of Iran|de la République islamique d'Iran|de la República Islámica del Irán\
|the Islamic Republic of Iran|de la République islamique d'Iran|de la República Islámica del Irán
HTI|of Haiti|d'Haïti|de Haití|the Republic of Haiti|de la République d'Haïti|de la República de Haití
HND|of Honduras|du Honduras|de Honduras\
|the Republic of Honduras|de la République du Honduras|de la República de Honduras
SLV|of El Salvador|d'El Salvador|de El Salvador\
|the Republic of El Salvador|de la République d'El Salvador|de la República de El Salvador
MAR|of Morocco|du Maroc|de Marruecos|the Kingdom of Morocco|du Royaume du Maroc|del Reino de Marruecos
BEL|of Belgium|de la Belgique|de Bélgica|the Kingdom of Belgium|du Royaume de Belgique|del Reino de Bélgica
ESP|of Spain|de l'Espagne|de España|the Kingdom of Spain|du Royaume d'Espagne|del Reino de España
VCT|of Saint Vincent and the Grenadines|de Saint-Vincent-et-les Grenadines|de San Vicente y las Granadinas\
|Saint Vincent and the Grenadines|de Saint-Vincent-et-les Grenadines|de San Vicente y las Granadinas
STP|of Sao Tome and Principe|de Sao Tomé-et-Principe|de Santo Tomé y Príncipe|the Democratic Republic of Sao Tome\
 and Principe|de la République démocratique de Sao Tomé-et-Principe\
|de la República Democrática de Santo Tomé y Príncipe
PRK|of the Democratic People's Republic of Korea|de la République populaire démocratique de Corée\
|de la República Popular Democrática de Corea|the Democratic People's Republic of Korea\
|de la République populaire démocratique de Corée|de la República Popular Democrática de Corea
KOR|of the Republic of Korea|de la République de Corée|de la República de Corea\
|the Republic of Korea|de la République de Corée|de la República de Corea
"""


@pytest.mark.parametrize("line", SAMPLES.strip().splitlines(), ids=lambda line: line[:3])
def test_traps_of_grammar(line: str) -> None:
    """Contracted, elided, bracketed and doubled names, here where the gold list is not at hand."""
    key, *wanted = line.split("|")
    row = next(row for row in missions() if row["key"] == key)
    titles = ("Permanent Mission of ", "Mission permanente ", "Misión Permanente ")
    found = [row[f"of_{language}"] for language in LANGUAGES]
    found += [row[f"mission_{lang}"].removeprefix(title) for lang, title in zip(LANGUAGES, titles, strict=True)]
    assert found == wanted


NAMES_2009 = """
CPV|en|Cape Verde|of Cape Verde|Permanent Mission of the Republic of Cape Verde
CPV|fr|Cap-Vert|du Cap-Vert|Mission permanente de la République du Cap-Vert
CPV|es|Cabo Verde|de Cabo Verde|Misión Permanente de la República de Cabo Verde
CZE|en|Czech Republic|of the Czech Republic|Permanent Mission of the Czech Republic
CZE|fr|République tchèque|de la République tchèque|Mission permanente de la République tchèque
CZE|es|República Checa|de la República Checa|Misión Permanente de la República Checa
SWZ|en|Swaziland|of Swaziland|Permanent Mission of the Kingdom of Swaziland
SWZ|fr|Swaziland|du Swaziland|Mission permanente du Royaume du Swaziland
SWZ|es|Swazilandia|de Swazilandia|Misión Permanente del Reino de Swazilandia
MKD|en|The former Yugoslav Republic of Macedonia|of the former Yugoslav Republic of Macedonia\
|Permanent Mission of the former Yugoslav Republic of Macedonia
MKD|fr|ex-République yougoslave de Macédoine|de l'ex-République yougoslave de Macédoine\
|Mission permanente de l'ex-République yougoslave de Macédoine
MKD|es|ex República Yugoslava de Macedonia|de la ex República Yugoslava de Macedonia\
|Misión Permanente de la ex República Yugoslava de Macedonia
TUR|en|Turkey|of Turkey|Permanent Mission of the Republic of Turkey
TUR|fr|Turquie|de la Turquie|Mission permanente de la République turque
TUR|es|Turquía|de Turquía|Misión Permanente de la República de Turquía
LBY|en|Libyan Arab Jamahiriya|of the Libyan Arab Jamahiriya\
|Permanent Mission of the Socialist People's Libyan Arab Jamahiriya
LBY|fr|Jamahiriya arabe libyenne|de la Jamahiriya arabe libyenne\
|Mission permanente de la Jamahiriya arabe libyenne populaire et socialiste
LBY|es|Jamahiriya Árabe Libia|de la Jamahiriya Árabe Libia\
|Misión Permanente de la Jamahiriya Árabe Libia Popular y Socialista
NLD|en|Netherlands|of the Netherlands|Permanent Mission of the Kingdom of the Netherlands
NLD|fr|Pays-Bas|des Pays-Bas|Mission permanente du Royaume des Pays-Bas
NLD|es|Países Bajos|de los Países Bajos|Misión Permanente del Reino de los Países Bajos
NPL|en|Nepal|of Nepal|Permanent Mission of the Federal Democratic Republic of Nepal
NPL|fr|Népal|du Népal|Mission permanente de la République fédérale démocratique du Népal
NPL|es|Nepal|de Nepal|Misión Permanente de la República Democrática Federal de Nepal
GUY|en|Guyana|of Guyana|Permanent Mission of the Republic of Guyana
GUY|fr|Guyana|du Guyana|Mission permanente de la République du Guyana
GUY|es|Guyana|de Guyana|Misión Permanente de la República de Guyana
MMR|en|Myanmar|of Myanmar|Permanent Mission of the Union of Myanmar
MMR|fr|Myanmar|du Myanmar|Mission permanente de l'Union du Myanmar
MMR|es|Myanmar|de Myanmar|Misión Permanente de la Unión de Myanmar
FJI|en|Fiji|of Fiji|Permanent Mission of the Republic of the Fiji Islands
FJI|fr|Fidji|des Fidji|Mission permanente de la République des Îles Fidji
FJI|es|Fiji|de Fiji|Misión Permanente de la República de las Islas Fiji
HUN|en|Hungary|of Hungary|Permanent Mission of the Republic of Hungary
HUN|fr|Hongrie|de la Hongrie|Mission permanente de la République de Hongrie
HUN|es|Hungría|de Hungría|Misión Permanente de la República de Hungría
SOM|en|Somalia|of Somalia|Permanent Mission of the Somali Republic
SOM|fr|Somalie|de la Somalie|Mission permanente de la République somalienne
SOM|es|Somalia|de Somalia|Misión Permanente de la República Somalí
"""
CHANGED = [tuple(line.split("|")) for line in NAMES_2009.strip().splitlines()]


@pytest.mark.parametrize(("key", "language", "name", "of", "mission"), CHANGED)
def test_names_of_2009(key: str, language: str, name: str, of: str, mission: str) -> None:
    row = next(row for row in missions_as_of(2009) if row["key"] == key)
    assert [row[f"{part}_{language}"] for part in ("name", "of", "mission")] == [name, of, mission]


PARTS = [f"{part}_{language}" for part in ("name", "of", "mission") for language in LANGUAGES]


def test_thirteen_states_had_another_name_in_2009_and_none_has_today() -> None:
    assert missions_as_of(2026) == missions()
    pairs = list(zip(missions_as_of(2009), missions(), strict=True))
    changed = {row["key"] for then, row in pairs if any(then[part] != row[part] for part in PARTS)}
    assert changed == {key for key, *_ in CHANGED}
    assert len(changed) == 13


def test_an_earlier_name_is_given_only_where_it_differs() -> None:
    today = {row["key"]: row for row in missions()}
    assert all(row[part] != today[row["key"]][part] for row in rows("un_names.csv") for part in ("name", *PARTS))


def test_libya_had_a_third_name_for_six_years() -> None:
    """Its short name is today's since 2011, its formal one since the end of 2017."""
    row = next(row for row in missions_as_of(2014) if row["key"] == "LBY")
    assert (row["of_en"], row["mission_en"]) == ("of Libya", "Permanent Mission of Libya")


@pytest.mark.parametrize("year", [2009, 2014, 2026])
def test_the_name_beside_the_address_is_the_title_in_the_letters_language(year: int) -> None:
    for row in missions_as_of(year):
        assert row["name"] == row[f"mission_{row['language']}"]


@pytest.mark.parametrize("year", [2009, 2014, 2026])
def test_articles_are_contracted(year: int) -> None:
    """French de + le, de + les and Spanish de + el melt together, except before a name such as El Salvador."""
    for row in missions_as_of(year):
        for part in ("of", "mission"):
            french, spanish = row[f"{part}_fr"] + " ", row[f"{part}_es"] + " "
            assert not re.search(r"\bde les? |\bde [AEIOUÉÎ]", french), row["key"]
            assert not re.search(r"\bde el ", spanish), row["key"]


# Forms of address and dates

SALUTATIONS = {
    "en": {
        "mission": ("Your Excellency,", "Your Excellency,", "Your Excellency,"),
        "ambassador": ("Your Excellency,", "Your Excellency,", "Your Excellency,"),
        "charge_daffaires": ("Sir or Madam,", "Madam,", "Sir,"),
        "nuncio": ("Your Excellency,", "Your Excellency,", "Your Excellency,"),
        "organisation": ("Dear Sir or Madam,", "Dear Madam,", "Dear Sir,"),
    },
    "fr": {
        "mission": ("Excellence,", "Excellence,", "Excellence,"),
        "ambassador": ("Excellence,", "Madame l’Ambassadrice,", "Monsieur l’Ambassadeur,"),
        "charge_daffaires": ("Madame, Monsieur,", "Madame la Chargée d’affaires,", "Monsieur le Chargé d’affaires,"),
        "nuncio": ("Excellence,", "Excellence,", "Excellence,"),
        "organisation": ("Madame, Monsieur,", "Madame,", "Monsieur,"),
    },
    "es": {
        "mission": ("Excelencia:", "Excelencia:", "Excelencia:"),
        "ambassador": ("Excelencia:", "Excelentísima Señora Embajadora:", "Excelentísimo Señor Embajador:"),
        "charge_daffaires": (
            "Distinguida Señora, distinguido Señor:",
            "Señora Encargada de Negocios:",
            "Señor Encargado de Negocios:",
        ),
        "nuncio": ("Excelencia Reverendísima:", "Excelencia Reverendísima:", "Excelencia Reverendísima:"),
        "organisation": ("Estimadas señoras, estimados señores:", "Estimada señora:", "Estimado señor:"),
    },
}
EVERY_FORM = [
    (language, rank, gender, salutation)
    for language, ranks in SALUTATIONS.items()
    for rank, salutations in ranks.items()
    for gender, salutation in zip(GENDERS, salutations, strict=True)
]


@pytest.mark.parametrize(("language", "rank", "gender", "salutation"), EVERY_FORM)
def test_every_form_of_address(language: str, rank: str, gender: str, salutation: str) -> None:
    """The salutation is the one in the table; French repeats the call in the close, Spanish ends it in a colon."""
    address = forms(language).address(rank, gender, {})
    assert address.salutation == salutation
    assert salutation.endswith(":" if language == "es" else ",")
    assert "{" not in address.close
    if language == "fr":
        assert address.call == salutation.removesuffix(",")
        assert f", {address.call}, " in address.close
    if rank == "charge_daffaires":
        assert "Excel" not in f"{address}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_table_holds_every_rank(language: str) -> None:
    assert set(forms(language).ranks) == set(SALUTATIONS[language])


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_known_is_the_form_of_an_organisation(language: str) -> None:
    """A list without ranks gets no "Excellency"; missions get theirs by their kind."""
    assert forms(language).address("", "", {}) == forms(language).address("organisation", "", {})


CLOSES = {
    "en": "Accept, Excellency, the assurances of our highest consideration.",
    "fr": "Veuillez agréer, Excellence, les assurances de notre très haute considération.",
    "es": "Aprovechamos esta oportunidad para expresar a Vuestra Excelencia "
    "las seguridades de nuestra más alta consideración.",
}


@pytest.mark.parametrize(("language", "close"), CLOSES.items())
def test_the_close_to_a_mission(language: str, close: str) -> None:
    assert forms(language).address("mission", "", {}).close == close


def test_the_close_to_an_organisation_is_a_plain_one() -> None:
    assert [forms(language).address("organisation", "", {}).close for language in LANGUAGES] == [
        "Yours faithfully,",
        "Veuillez agréer, Madame, Monsieur, l’expression de nos salutations distinguées.",
        "Les saludamos atentamente.",
    ]


def test_a_recipients_own_salutation_is_also_the_call() -> None:
    address = forms("fr").address("mission", "", {"salutation": "Monsieur le Chargé d’affaires a.i.,", "close": " "})
    assert address.call == "Monsieur le Chargé d’affaires a.i."
    assert (
        address.close
        == "Veuillez agréer, Monsieur le Chargé d’affaires a.i., les assurances de notre très haute considération."
    )


def test_a_recipients_own_words_win() -> None:
    own = {"salutation": "Altesse,", "call": "Votre Altesse", "close": "Respectueusement, {call}.", "rank": "x"}
    address = forms("fr").address("ambassador", "f", own)
    assert (address.salutation, address.call, address.close) == (
        "Altesse,",
        "Votre Altesse",
        "Respectueusement, Votre Altesse.",
    )


@given(st.text(max_size=20), st.sampled_from(LANGUAGES))
def test_an_empty_column_changes_nothing(rank: str, language: str) -> None:
    if rank in forms(language).ranks or not rank:
        own = {"salutation": "", "call": "", "close": ""}
        assert forms(language).address(rank, "", own) == forms(language).address(rank, "", {})
    else:
        with pytest.raises(TemplateError, match="ambassador, charge_daffaires, mission, nuncio, organisation"):
            forms(language).address(rank, "", {})


@given(st.text(min_size=1, max_size=6).filter(lambda text: text not in GENDERS))
def test_an_unknown_gender_is_an_error(gender: str) -> None:
    with pytest.raises(TemplateError, match="Known: f, m"):
        forms("en").address("ambassador", gender, {})


@pytest.mark.parametrize(
    ("language", "first", "second"),
    [
        ("en", "1 October 2009", "22 March 2010"),
        ("fr", "1er octobre 2009", "22 mars 2010"),
        ("es", "1 de octubre de 2009", "22 de marzo de 2010"),
    ],
)
def test_long_dates(language: str, first: str, second: str) -> None:
    assert forms(language).long_date(dt.date(2009, 10, 1)) == first
    assert forms(language).long_date(dt.date(2010, 3, 22)) == second


@given(st.dates(), st.sampled_from(LANGUAGES))
def test_every_day_is_written_with_its_day_and_year(day: dt.date, language: str) -> None:
    words = forms(language).long_date(day).split()
    assert words[0] == ("1er" if language == "fr" and day.day == 1 else str(day.day))
    assert words[-1] == str(day.year)
    assert forms(language).date.months[day.month - 1] in words


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[date]", "[date", r"^en\.toml(:\d+)?: this is not TOML"),
        ("[date]", "[date]\nera = 'AD'", r"en\.toml, date\.era: this key is not known"),
        ("call = ", "cal = ", r"en\.toml, ranks\.mission\.call: this key is missing"),
        ("{call}", "{cal}", r"en\.toml, ranks\.mission\.close: only \{call\} may stand in braces"),
        ("{call}", "{call} {call}", r"ranks\.mission\.close: only \{call\} may stand in braces, once"),
        ('"January", ', "", r"en\.toml, date\.months: "),
        ('default = "organisation"', 'default = "king"', r'en\.toml: default = "king" has no \[ranks\.king\]'),
        ('first = "1"', 'first = ""', r"en\.toml, date\.first: "),
    ],
)
def test_a_forms_file_that_cannot_be_used_names_file_and_key(old: str, new: str, says: str) -> None:
    text = (ROOT / "templates" / "forms" / "en.toml").read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(TemplateError, match=says):
        parse_forms(text.replace(old, new), "en.toml")


# Letters

REPLY_TO = "secretariat@kms.example.org"
SIGNATORY = "Dr. Sakhonn CHAK"


def front_matter(language: str) -> tuple[dict[str, str], str, str]:
    """The attachments' names, what else stands at the head, and the body of a letter."""
    empty, head, body = (LETTERS / f"letter.{language}.md").read_text(encoding="utf-8").split("+++\n", 2)
    front = tomllib.loads(head)
    assert empty == ""
    assert set(front) == {"subject", "address", "attachments"}
    return front["attachments"], f"{front['subject']}\n{front['address']}", body


@cache
def letters() -> dict[str, tuple[Row, str]]:
    """Every recipient's letter as plain text, a line a paragraph."""
    filled = {}
    for row in missions_as_of(2009) + ngos():
        recipient = Recipient(row["key"], (), (), row["language"], row)
        text = renderer().render(recipient, tuple(front_matter(row["language"])[0].values())).text
        filled[row["key"]] = (row, re.sub(r"(?<=\S)\n *(?!\d\. )(?=\S)", " ", text))
    return filled


def test_everybody_gets_a_letter_of_one_page() -> None:
    sizes = {key: len(letter.split()) for key, (_, letter) in letters().items()}
    assert len(sizes) == 207
    assert [key for key, words in sizes.items() if not 280 <= words <= 400] == []


def test_every_letter_has_its_parts_in_order() -> None:
    """From the date to the way off the list, with the day of the review and the report between."""
    for row, letter in letters().values():
        language = row["language"]
        address = forms(language).address("mission" if row["kind"] == "mission" else "", "", {})
        review = {"en": "Tuesday, 1 December 2009", "fr": "mardi 1er décembre 2009", "es": "martes 1 de diciembre"}
        parts = [
            forms(language).long_date(dt.date(2009, 10, 1)),
            row["name"].replace("'", "’"),
            f"\n\n{address.salutation}\n\n",
            review[language],
            "The Perpetual Violation Of The Khmer People’s Rights: An Extension Of The Khmer People Genocide?",
            REPLY_TO,
            f"\n\n{address.close}\n\n",
            SIGNATORY,
            *front_matter(language)[0].values(),
            forms(language).labels.unsubscribe.format(address=REPLY_TO),
        ]
        places = [letter.find(part) for part in parts]
        assert -1 not in places, row["key"]
        assert places == sorted(places), row["key"]


@cache
def renderer() -> Renderer:
    return Renderer(read_templates(read_campaign(ROOT), Folder(ROOT)))


def addressed(key: str, **cells: str) -> tuple[str, ...]:
    """The addressee's block of a mission's letter of 2009, with some cells of its row filled."""
    row = {**next(row for row in missions_as_of(2009) if row["key"] == key), **cells}
    return renderer().parts(Recipient(key, (), (), row["language"], row), ()).address


AT = {
    "GBR": "Permanent Mission of the United Kingdom of Great Britain and Northern Ireland",
    "FRA": "Mission permanente de la République française",
    "ESP": "Misión Permanente del Reino de España",
}
ADDRESSES = """
GBR|||The Permanent Representative
GBR|mission|m|H.E. Mr. A. Sample|Permanent Representative of the United Kingdom of Great Britain and Northern Ireland
GBR|ambassador||H.E. A. Sample\
|Ambassador, Permanent Representative of the United Kingdom of Great Britain and Northern Ireland
GBR|ambassador|f|H.E. Ms. A. Sample\
|Ambassador, Permanent Representative of the United Kingdom of Great Britain and Northern Ireland
GBR|charge_daffaires|f|Ms. A. Sample|Chargé d’affaires a.i. of the United Kingdom of Great Britain and Northern Ireland
FRA|||À l’attention du chef de la Mission permanente
FRA|ambassador||Son Excellence A. Sample|Chef de la Mission permanente de la France
FRA|ambassador|m|Son Excellence Monsieur A. Sample|Ambassadeur, Représentant permanent de la France
FRA|ambassador|f|Son Excellence Madame A. Sample|Ambassadrice, Représentante permanente de la France
FRA|charge_daffaires|m|Monsieur A. Sample|Chargé d’affaires a.i. de la France
ESP|||A la atención de la jefatura de la Misión Permanente
ESP|ambassador||S. E. A. Sample|Representante Permanente de España
ESP|ambassador|m|Excelentísimo Señor A. Sample|Embajador, Representante Permanente de España
ESP|ambassador|f|Excelentísima Señora A. Sample|Embajadora, Representante Permanente de España
ESP|charge_daffaires|f|Señora A. Sample|Encargada de Negocios a. i. de España
"""


@pytest.mark.parametrize("line", ADDRESSES.strip().splitlines())
def test_the_addressee_known_or_not_and_of_either_gender(line: str) -> None:
    key, rank, gender, *wanted = line.split("|")
    head = "A. Sample" if len(wanted) > 1 else ""
    assert addressed(key, rank=rank, gender=gender, head=head)[:-2] == tuple(wanted)
    assert addressed(key, rank=rank, gender=gender, head=head)[-2] == AT[key]


def test_an_office_of_one_s_own_and_a_nuncio() -> None:
    own = addressed("GBR", head="A. Sample", style="H.R.H. Prince", office="Special Envoy")
    assert own[0] == "H.R.H. Prince A. Sample"
    assert own[1].startswith("Special Envoy of the United Kingdom")
    assert addressed("VAT", head="A. Sample", rank="nuncio", gender="m")[:2] == (
        "Son Excellence Monseigneur A. Sample",
        "Nonce apostolique, Observateur permanent du Saint-Siège",
    )


@pytest.mark.parametrize(
    ("key", "geneva", "elsewhere"),
    [
        ("GBR", "to the United Nations Office at Geneva", "to the United Nations"),
        (
            "FRA",
            "auprès de l’Office des Nations Unies à Genève",
            "auprès de l’Organisation des Nations Unies",
        ),
        ("ESP", "ante la Oficina de las Naciones Unidas en Ginebra", "ante las Naciones Unidas"),
    ],
)
def test_a_mission_that_is_not_at_geneva_is_reached_in_new_york(key: str, geneva: str, elsewhere: str) -> None:
    assert addressed(key)[-1] == geneva
    assert addressed(key, post="New York")[-1] == elsewhere


def test_an_apostrophe_is_printed_as_a_printer_does_and_addresses_are_left_alone() -> None:
    """U+0027 in the data, U+2019 on paper: in the mission's title, the letterhead, the signature."""
    row = next(row for row in missions() if row["key"] == "CIV")
    parts = renderer().parts(Recipient("CIV", (), (), "fr", {**row, "close": "o'neil@example.org"}), ())
    assert "Mission permanente de la République de Côte d’Ivoire" in parts.address
    assert (parts.organisation, parts.signature[1]) == ("Khmer M’Chas Srok", "Présidence de Khmer M’Chas Srok")
    assert "de la Côte d’Ivoire de bien" in parts.body
    assert "o&#39;neil@example.org" in parts.body
    assert row["mission_fr"] == "Mission permanente de la République de Côte d'Ivoire"


def test_one_person_writes_throughout() -> None:
    """ "We", never "I"; the French close has the call word for word, and no letter mixes two apostrophes."""
    for row, letter in letters().values():
        assert not re.search(r"\b(I|my|me|J’|je|mes?|mon|ma|mis?|yo)\b", letter.replace("a.i.", "")), row["key"]
        assert "'" not in letter, row["key"]


OPENINGS = {
    "council": ("As a member of the Human Rights", "Membre du Conseil", "Como miembro del Consejo"),
    "troika": (
        "We ask nothing of it in that office",
        "Nous ne lui demandons rien à ce titre",
        "Nada le pedimos en esa",
    ),
    "review": ("As a matter of courtesy", "Par courtoisie", "Por cortesía"),
    "others": ("is open to every State", "est ouvert à tous les États", "está abierto a todos los Estados"),
    "ngo": ("States alone take the floor", "Seuls les États prennent la parole", "solo intervienen los Estados"),
}


def test_the_paragraph_that_differs_goes_to_those_it_is_meant_for() -> None:
    found: dict[str, set[str]] = {
        part: {key for key, (_, letter) in letters().items() if any(words in letter for words in phrases)}
        for part, phrases in OPENINGS.items()
    }
    troika = keys("upr_troika_cambodia_2009")
    assert found["troika"] == troika
    assert found["council"] == keys("hrc_member_2009") - troika
    assert found["review"] == {"KHM"}
    assert found["ngo"] == {row["key"] for row in ngos()}
    assert found["others"] == {row["key"] for row in missions()} - troika - found["council"] - {"KHM"}


def test_the_delegation_is_named_as_of_2009() -> None:
    assert "the delegation of Turkey would" in letters()["TUR"][1]
    assert "la délégation du Cap-Vert " in letters()["CPV"][1]
    assert "la delegación de El Salvador considerase" in letters()["SLV"][1]
    assert "la delegación del Ecuador considerase" in letters()["ECU"][1]


def test_observers_have_no_permanent_representative() -> None:
    assert "The Permanent Observer Permanent Observer Mission of the State of Palestine to" in letters()["PSE"][1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_typography(language: str) -> None:
    """Curly apostrophes and quotation marks; in French U+202F before ; : ! ? » and after «."""
    _, subject, body = front_matter(language)
    text = re.sub(r"\{[{%].*?[%}]\}", "", f"{subject}\n{body}")
    assert not re.search(r"['\"]", text)
    assert unicodedata.is_normalized("NFC", text)
    if language == "fr":
        prose = text.replace("Rights: An Extension Of The Khmer People Genocide?", "")
        assert re.findall(r".?(?<!\u202f)[;:!?»]", prose) == []
        assert re.findall(r"«[^\u202f]", prose) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_report_has_a_name_in_the_readers_language(language: str) -> None:
    names = front_matter(language)[0]
    assert set(names) == {"report.pdf"}
    assert len({name for other in LANGUAGES for name in front_matter(other)[0].values()}) == 3
    name = names["report.pdf"]
    assert len(name) <= 100
    assert re.fullmatch(r"[\w-]+\.pdf", name)


SHIPPED = [
    path
    for folder in ("recipients", "templates")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".csv", ".toml", ".md", ".html", ".typ"}
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_procedure_and_nothing_else(path: Path) -> None:
    """No telephone number, no polemics, no status that is not there, no address outside the reserved domains."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\+\d|\(\d{2,4}\) ?\d|\b\d{2,4}[ .]\d{2,4}[ .]\d{2,4}\b|\d{3}-\d{3,}|\d{8,}", text)
    assert not re.search(r"(?i)\br[eé]gim|dictat|dictad|tyran|tiran|puppet|marionn|títere|traitor|traîtr|traidor", text)
    assert not re.search(r"(?i)consultative status|statut consultatif|(estado|carácter) consultivo", text)
    domains = set(re.findall(r"@([\w.-]+\.\w+)", text))
    assert domains <= {"missions.example.org", "ngos.example.org"}


def test_the_layout_refers_to_nothing_outside() -> None:
    layout = (ROOT / "templates" / "house" / "layout.html").read_text(encoding="utf-8")
    bare = layout.replace('<img class="logo" src="{{ logo }}"', "")  # which is in the message itself
    assert not re.search(r"(?i)https?:|//|url\(|src=|@import|<script|<link", bare)
    assert layout.startswith('<!doctype html>\n<html lang="{{ language }}" dir="{{ direction }}">')
    assert layout.count("{{ body }}") == 1
    assert "<title>{{ subject }}</title>" in layout


# The report


def test_the_report_is_a_specimen_of_five_pages() -> None:
    pages = [page.extract_text() for page in PdfReader(LETTERS / "report.pdf").pages]
    assert len(pages) == 5
    for number, page in enumerate(pages, 1):
        assert "SPECIMEN" in page
        assert f"Section {number}" in page
        assert "Suggested questions" in page
        assert "Suggested recommendations" in page


def check_report(root: Path) -> int:
    return subprocess.run([sys.executable, str(root / "docs" / "report.py"), "--check"], check=False).returncode


def test_the_report_is_what_its_source_gives_byte_for_byte() -> None:
    assert check_report(ROOT) == 0


def test_a_report_that_its_source_does_not_give_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(LETTERS, tmp_path / "templates" / "upr_submission")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "report.py", tmp_path / "docs")
    source = tmp_path / "templates" / "upr_submission" / "report.typ"
    source.write_text(source.read_text(encoding="utf-8").replace("Section 5", "Section 6"), encoding="utf-8")
    assert check_report(tmp_path) == 1
