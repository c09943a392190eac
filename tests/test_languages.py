"""A language works as soon as its two files are there; those shipped as examples say that they want a native reader."""

import datetime as dt
import email
import re
import shutil
import unicodedata
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from functools import cache
from pathlib import Path

import pytest

from dispatcher.core.forms import Forms, parse_forms
from dispatcher.core.merge import Merged
from dispatcher.desk import Desk
from dispatcher.desk.checking import check_folder
from dispatcher.desk.draft import Draft
from dispatcher.desk.starting import copy_starter
from tests.campaigns import settings, write_campaign

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "templates" / "examples"
LANGUAGES = ("ar", "km", "ru", "zh")
LETTER = """\
template = "templates/examples/letter.{language}.md"
attachments = ["letters/report.pdf"]
"""
PEOPLE = """\
key,email,name,language,kind,rank,gender
X,x@missions.example.org,{name},{language},mission,{rank},{gender}
"""
NAMES = {
    "ar": "البعثة الدائمة لمملكة كمبوديا",
    "km": "បេសកកម្មអចិន្ត្រៃយ៍នៃព្រះរាជាណាចក្រកម្ពុជា",
    "ru": "Постоянное представительство Российской Федерации",
    "zh": "中华人民共和国常驻代表团",
}


@cache
def forms(language: str) -> Forms:
    path = ROOT / "templates" / "forms" / f"{language}.toml"
    return parse_forms(path.read_text(encoding="utf-8"), path.name)


def folder(where: Path, language: str, *, rank: str = "", gender: str = "") -> Path:
    """A campaign that sends the example in one language to one mission."""
    people = PEOPLE.format(name=NAMES[language], language=language, rank=rank, gender=gender)
    toml = settings(letter=LETTER).replace('language = "en"', f'language = "{language}"').replace("2026-03", "2009-10")
    write_campaign(where, toml=toml, files={"people.csv": people})
    shutil.copytree(ROOT / "templates", where / "templates")
    return where


def merged(where: Path, language: str, *, rank: str = "", gender: str = "") -> Merged:
    draft = Draft(folder(where, language, rank=rank, gender=gender))
    [item] = draft.items()
    assert isinstance(item, Merged), item
    return item


def parsed(item: Merged) -> EmailMessage:
    return email.message_from_bytes(item.message.octets, policy=policy.default)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_example_becomes_a_letter_that_mail_carries_unchanged(language: str, tmp_path: Path) -> None:
    item = merged(tmp_path, language)
    message, form = parsed(item), forms(language).ranks["mission"]
    assert message["Content-Language"] == language
    assert message["Subject"] == item.rendering.subject
    assert str(make_header(decode_header(email.message_from_bytes(item.message.octets)["To"]))).startswith(
        f"{NAMES[language]} <"  # by decode_header, since the policy's parser puts a blank between encoded words
    )
    for kind, text in (("plain", item.rendering.text), ("html", item.rendering.html)):
        part = message.get_body((kind,))
        assert part is not None
        assert part.get_content().replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")
        assert form.salutation in text
        assert NAMES[language] in text
        assert unicodedata.is_normalized("NFC", text)
    [attached] = message.iter_attachments()
    assert attached.get_filename() == item.letter.attachments[0].name
    assert attached.get_filename("").endswith("-2009.pdf")
    assert not attached.get_filename("").isascii()


@pytest.mark.parametrize(("language", "direction"), [("ar", "rtl"), ("km", "ltr"), ("ru", "ltr"), ("zh", "ltr")])
def test_only_arabic_runs_from_right_to_left(language: str, direction: str, tmp_path: Path) -> None:
    assert f'<html lang="{language}" dir="{direction}">' in merged(tmp_path, language).rendering.html


DATES = {
    "ar": ("1 أكتوبر 2009", "22 مارس 2010"),
    "km": ("ថ្ងៃទី1 ខែតុលា ឆ្នាំ2009", "ថ្ងៃទី22 ខែមីនា ឆ្នាំ2010"),
    "ru": ("1 октября 2009\u00a0г.", "22 марта 2010\u00a0г."),
    "zh": ("2009年10月1日", "2010年3月22日"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_dates(language: str) -> None:
    """Months in the form they have in a date (genitive in Russian), as the Unicode CLDR has them."""
    assert forms(language).long_date(dt.date(2009, 10, 1)) == DATES[language][0]
    assert forms(language).long_date(dt.date(2010, 3, 22)) == DATES[language][1]


MONTHS = {
    "ar": "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر",
    "km": "មករា កុម្ភៈ មីនា មេសា ឧសភា មិថុនា កក្កដា សីហា កញ្ញា តុលា វិច្ឆិកា ធ្នូ",
    "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    "zh": "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_months_are_those_of_the_cldr(language: str) -> None:
    assert forms(language).date.months == MONTHS[language].split()


@pytest.mark.parametrize(
    ("language", "gender", "salutation"),
    [
        ("ar", "f", "صاحبة السعادة،"),
        ("ar", "m", "صاحب السعادة،"),
        ("km", "f", "លោកជំទាវ៖"),
        ("km", "m", "ឯកឧត្តម៖"),
        ("ru", "f", "Уважаемая госпожа Посол!"),
        ("ru", "m", "Уважаемый господин Посол!"),
        ("zh", "f", "大使阁下："),
        ("zh", "", "大使阁下："),
    ],
)
def test_an_ambassador_is_greeted_by_gender(language: str, gender: str, salutation: str, tmp_path: Path) -> None:
    text = merged(tmp_path, language, rank="ambassador", gender=gender).rendering.text
    assert f"\n\n{salutation}\n\n" in re.sub("[\u200f\u2068\u2069]", "", text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_has_the_ranks_of_the_founding_languages(language: str) -> None:
    assert forms(language).ranks.keys() == forms("en").ranks.keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_is_marked_at_the_top_and_in_check(language: str, tmp_path: Path) -> None:
    for path in (EXAMPLES / f"letter.{language}.md", ROOT / "templates" / "forms" / f"{language}.toml"):
        assert "NEEDS A NATIVE READER" in "".join(path.read_text(encoding="utf-8").splitlines()[:4])
    where = folder(tmp_path, language)
    said = f"1 in {language} by templates/forms/{language}.toml, which nobody has reviewed yet"
    found = check_folder(Desk(where))
    assert [note for note in found.notes if note.startswith(said)]
    assert [str(p) for p in found.problems if "reserved" not in p.what] == []


def test_the_founding_campaign_sends_none_of_them(tmp_path: Path) -> None:
    copy_starter(tmp_path / "new")
    found = check_folder(Desk(tmp_path / "new"))
    assert set(found.languages) == {"en", "fr", "es"}
    assert not [note for note in found.notes if "reviewed" in note]


def test_one_becomes_a_letter_of_a_campaign_by_being_put_beside_the_others(tmp_path: Path) -> None:
    copy_starter(tmp_path / "new")
    letters = tmp_path / "new" / "templates" / "upr_submission"
    shutil.copy(EXAMPLES / "letter.ru.md", letters)
    path = tmp_path / "new" / "recipients" / "un_missions.csv"
    rows = path.read_text(encoding="utf-8")
    line = next(line for line in rows.splitlines() if line.startswith("RUS,"))
    path.write_text(rows.replace(line, line.replace(",Geneva,en,", ",Geneva,ru,")), encoding="utf-8")
    assert check_folder(Desk(tmp_path / "new")).languages == {"en": 146, "fr": 36, "es": 21, "ru": 1}
