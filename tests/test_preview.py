"""The preview: what the page says, that no list can act on it, the octets beside it, and whose folder it is."""

import base64
import csv
import hashlib
import json
import re
import shutil
import sys
import tracemalloc
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dispatcher.core.errors import TemplateError, UsageError
from dispatcher.core.merge import Merged
from dispatcher.desk.draft import Draft
from dispatcher.web.pages import PAGE_SIZE
from dispatcher.web.preview import MARKER, MOST_IN_ONE_FILE, safe_name, write_bundle, write_preview

ROOT = Path(__file__).parent.parent
WHEN = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
BLOCKS = {"dt", "dd", "p", "li", "h2", "h3", "div"}
VOID = {"meta", "input", "br", "link", "img", "hr", "base"}

CAMPAIGN = """
id = "trial"
title = "Trial <b>of</b> the preview"
date = 2026-11-22
{more}
[sender]
organisation = "Office"
name = "The Office"
address = "office@sender.example"
reply_to = "answers@sender.example"
return_path = "bounces@sender.example"
signatory = "A. Clerk"
[letter]
template = "templates/letter.{{language}}.md"
attachments = ["annex.txt"]
[[recipients]]
source = "list.csv"
where = "kind != 'none'"
[relay]
host = "127.0.0.1"
security = "none"
"""
LETTER = """+++
subject = "About {{ name }}"
+++
{{ call }}

{{ name }}, at {{ post }}: we write to you.

{% if kind == "long" %}There is a second paragraph in this one, and it says nothing at all.{% endif %}
"""
COLUMNS = ("key", "email", "name", "kind", "language", "post", "group", "cc")
PLAIN = (
    ("one", "one@first.example", "First", "plain", "en", "Geneva", "North", ""),
    ("two", "two@first.example", "Second", "long", "en", "Vienna", "North", "cc@first.example"),
    ("drei", "three@first.example", "Dritte", "plain", "de", "Bern", "South", ""),
    ("none", "none@first.example", "Nobody", "none", "en", "Rome", "South", ""),
)
HOSTILE = (
    ("<script>alert(1)</script>", "a@bad.example", "</script><script>alert(1)</script>", "plain", "en", "x", "g", ""),
    ("k2", "b@bad.example", '" onmouseover="alert(1)', "plain", "en", "' onload='alert(1)", '"><img src=x>', ""),
    ("k3", "c@bad.example", "javascript:alert(1)", "plain", "en", "</iframe><script src=https://x.example>", "g", ""),
    ("k4", "d@bad.example", "</pre></details><base href=https://x.example>", "plain", "en", "&lt;b&gt;", "<i>", ""),
    ("k5", "e@bad.example", "evil\u202egnp.exe", "plain", "en", "{{ 7 * 7 }}{% raw %}", "g", ""),
    ("k6", "f@bad.example", "<iframe srcdoc='<script>1</script>'>", "plain", "en", "\u202eback", "g\u202e", ""),
    ("../../k7", "g@bad.example", "]]>--><!--<svg onload=alert(1)>", "plain", "xx", "\u2066a\u2069", "g", ""),
)


def campaign(root: Path, rows: Sequence[Sequence[str]], more: str = "") -> Draft:
    """A campaign folder with these rows, read."""
    root.mkdir(exist_ok=True)
    shutil.copytree(ROOT / "templates" / "forms", root / "templates" / "forms", dirs_exist_ok=True)
    shutil.copytree(ROOT / "templates" / "house", root / "templates" / "house", dirs_exist_ok=True)
    (root / "campaign.toml").write_text(CAMPAIGN.format(more=more), encoding="utf-8")
    (root / "templates" / "letter.en.md").write_text(LETTER, encoding="utf-8")
    (root / "annex.txt").write_text("An annex.\n" * 200, encoding="utf-8")
    with (root / "list.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return Draft(root)


class Page(HTMLParser):
    """A page as a browser's parser would see it: each element with its attributes, and the text in some of them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self._pieces: dict[str, list[list[str]]] = {}
        self.feed(text)
        self.close()
        self.texts = {tag: ["".join(pieces) for pieces in found] for tag, found in self._pieces.items()}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCKS:
            self.handle_data(" ")
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        self._pieces.setdefault(tag, []).append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self._pieces[tag][-1].append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(out: Path) -> Page:
    return Page((out / "index.html").read_text(encoding="utf-8"))


def html_of(page: Page) -> list[str]:
    """The letters' HTML that a page holds, as its script unpacks it."""
    blocks = [text for data, text in zip(page.all("script"), page.texts["script"], strict=True) if data]
    return [html for block in blocks for html in json.loads(zlib.decompress(base64.b64decode(block)))]


def words(out: Path) -> str:
    """The page's text, with runs of white space as one space."""
    return " ".join(page_of(out).texts["body"][0].split())


def problems_of(error: pytest.ExceptionInfo[UsageError]) -> str:
    return str(error.value)


# What is on the page


def test_the_page_says_first_that_nothing_was_sent_and_what_the_plan_comes_to(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", PLAIN)
    written = write_preview(tmp_path / "out", draft, when=WHEN)
    text = words(tmp_path / "out")
    assert (written.index, written.letters, written.eml) == (
        tmp_path / "out" / "index.html",
        3,
        tmp_path / "out" / "eml",
    )
    assert text.index("Nothing was sent.") < text.index("The plan") < text.index("All letters")
    assert "Trial <b>of</b> the preview" in text
    for said in ("22 November 2026, 09:30 UTC", "what 3 letters would", "en 3", "North 2", "South 1", "list.csv 3"):
        assert said in text
    assert "Filtered: 1" in text
    assert "none not kind != 'none' list.csv:5" in text
    draft.summary()
    assert draft.unsealed.digest() in text
    assert "problem" not in text


def test_each_letter_is_there_with_headers_attachments_html_and_text(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", PLAIN)
    write_preview(tmp_path / "out", draft, when=WHEN)
    page = page_of(tmp_path / "out")
    letters = [item for item in draft.items() if isinstance(item, Merged)]
    assert html_of(page) == [m.rendering.html for m in letters]
    shown = [text.removeprefix("\n") for text in page.texts["pre"]]
    heads = [draft.merge.with_date(m, WHEN).octets.partition(b"\r\n\r\n")[0].decode() for m in letters]
    assert shown[0::2] == [head.replace("\r\n", "\n") for head in heads]
    assert shown[1::2] == [m.rendering.text for m in letters]
    summaries = [" ".join(text.split()) for text in page.texts["summary"]]
    assert "2 two Second two@first.example cc@first.example en About Second" in summaries
    text = words(tmp_path / "out")
    assert (
        "From The Office <office@sender.example> To Second <two@first.example> Cc cc@first.example "
        f"Reply-To answers@sender.example Subject About Second Message-ID {letters[1].letter.message_id} "
        "Bounces go to bounces@sender.example Attachments annex.txt 2.0 kB As a mail file 002-two.eml"
    ) in text


def test_letters_to_look_at_first_lead_to_letters_on_the_page(tmp_path: Path) -> None:
    rows = (
        *PLAIN,
        ("four", "four@first.example", "Четыре", "plain", "en", "", "South", ""),
        ("five", "five@first.example", "الخامسة", "plain", "en", "Oslo", "South", ""),
        ("six", "six@first.example", "São João ʻOumuamua", "plain", "en", "Lima", "South", ""),
    )
    write_preview(tmp_path / "out", campaign(tmp_path / "c", rows), when=WHEN)
    text = words(tmp_path / "out")
    assert re.search(r"Longest letter two [\d,]+ characters of text", text)
    assert re.search(r"Shortest letter four [\d,]+ characters of text", text)
    assert re.search(r"Largest message \w+ \d\.\d kB as mail", text)
    assert "most others of the list have four post is empty" in text
    assert "asked for drei asked for de, written in en" in text
    assert "do not show (2) four not Latin five right-to-left To approve" in text
    page = page_of(tmp_path / "out")
    there = {attributes.get("id") for _, attributes in page.elements}
    targets = {link["href"][1:] for link in page.all("a") if link["href"].startswith("#")}
    assert {"letter-2", "letter-3", "letter-4", "letter-5"} <= targets <= there


def test_a_field_that_is_mostly_empty_or_in_no_letter_is_not_pointed_at(tmp_path: Path) -> None:
    rows = [
        (f"k{n}", f"k{n}@first.example", "Name", "plain", "en", "Riga" * (n < 1), "g" * (n > 0), "") for n in range(3)
    ]
    write_preview(tmp_path / "out", campaign(tmp_path / "c", rows), when=WHEN)
    text = words(tmp_path / "out")
    assert "Letters to look at first" in text
    assert "is empty" not in text


def test_no_more_than_20_letters_are_named_for_one_reason(tmp_path: Path) -> None:
    rows = [(f"k{n}", f"k{n}@first.example", f"Имя {n}", "plain", "en", "Riga", "", "") for n in range(25)]
    write_preview(tmp_path / "out", campaign(tmp_path / "c", rows), when=WHEN)
    text = words(tmp_path / "out")
    assert "k19 not Latin" in text
    assert "k20 not Latin" not in text
    assert "and 5 more" in text


def test_problems_are_grouped_and_the_other_letters_are_shown(tmp_path: Path) -> None:
    bad = [(f"bad{n}", "", "Bad", "plain", "en", "Bonn", "", "") for n in range(5)]
    twin = ("twin", "one@first.example", "Twin", "plain", "en", "Bonn", "", "")
    written = write_preview(tmp_path / "out", campaign(tmp_path / "c", (*PLAIN, *bad, twin)), when=WHEN)
    text = words(tmp_path / "out")
    assert written.letters == 3
    assert "6 problems to mend first." in text
    assert "there is no address · 5 times list.csv:6, column email, recipient bad0" in text
    assert "recipient bad2 and 2 more What to do: mend the row" in text
    assert "bad3" not in text
    assert "one@first.example is also recipient one's" in text


def test_a_plan_without_any_letter_still_has_a_page(tmp_path: Path) -> None:
    written = write_preview(tmp_path / "out", campaign(tmp_path / "c", PLAIN[3:]), when=WHEN)
    assert written.letters == 0
    assert "what 0 letters would" in words(tmp_path / "out")


# Nothing from a list can act on the page


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A preview of a list that means harm; what cannot be a letter at all is a problem on the page."""
    write_preview(tmp_path / "out", campaign(tmp_path / "c", HOSTILE), when=WHEN)
    return tmp_path / "out"


def test_the_only_script_is_ours_and_the_policy_knows_its_hash(hostile: Path) -> None:
    page = page_of(hostile)
    assert page.all("script") == [{"type": "text/plain"}, {}]  # the first is data
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.texts["script"][-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "{{" not in page.texts["script"][-1]


def test_elements_are_ours_alone_and_balanced(hostile: Path) -> None:
    """The same elements come from a list that means no harm, and each closes where it should."""
    page = page_of(hostile)
    assert page.open == []
    known = (
        "html head meta title style body a header p h1 span div strong main section h2 dl dt dd ul li b bdi details "
    )
    known += "summary label input output kbd h3 pre footer script"
    assert {tag for tag, _ in page.elements} <= set(known.split())


def test_no_handler_and_no_remote_address(hostile: Path) -> None:
    page = page_of(hostile)
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert not {"src", "style", "action", "formaction", "data", "poster"} & set(attributes)
        if "href" in attributes:
            assert tag == "a"
            assert re.fullmatch(r"#[a-z]+(-\d+)?|eml/\d{3,}-[A-Za-z0-9_-]*\.eml", attributes["href"])


def test_direction_marks_are_made_visible_in_single_lines(tmp_path: Path) -> None:
    rows = [("k\u202e1", "a@bad.example", "Name", "plain", "en", "x", "g\u202eroup", ""), *HOSTILE]
    write_preview(tmp_path / "out", campaign(tmp_path / "c", rows), when=WHEN)
    page = page_of(tmp_path / "out")
    for tag in ("summary", "dd", "dt", "li", "p", "b", "title"):
        assert not [text for text in page.texts[tag] if re.search("[\u202a-\u202e\u2066-\u2069]", text)]
    assert "g\\u202eroup" in page.texts["body"][0]


def test_each_hostile_key_is_on_the_page_as_text(hostile: Path) -> None:
    text = words(hostile)
    assert [row[0] for row in HOSTILE if row[0] not in text] == []


# The octets


def test_mail_files_hold_the_octets_with_the_preview_s_date(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", (*PLAIN, *HOSTILE))
    written = write_preview(tmp_path / "out", draft, when=WHEN)
    letters = [item for item in draft.items() if isinstance(item, Merged)]
    expected = {
        safe_name(number, merged.letter.key): draft.merge.with_date(merged, WHEN).octets
        for number, merged in enumerate(letters, 1)
    }
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "eml").iterdir()} == expected
    assert all(octets.startswith(b"Date: Sun, 22 Nov 2026 09:30:00 +0000\r\n") for octets in expected.values())
    assert len(expected) == written.letters


@pytest.mark.parametrize("key", ["../../etc/passwd", "con.", "a" * 300, "ខ្មែរ", "a:b\\c|d?*", ""])
def test_file_names_are_safe_everywhere(key: str) -> None:
    assert re.fullmatch(r"007-[A-Za-z0-9_-]{0,60}\.eml", safe_name(7, key))


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_only_the_owner_can_read_what_was_written(tmp_path: Path) -> None:
    written = write_preview(tmp_path / "out", campaign(tmp_path / "c", PLAIN), when=WHEN)
    files = [written.index, *(tmp_path / "out" / "eml").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out", tmp_path / "out" / "eml")} == {0o700}


# One letter alone


def test_one_letter_alone_keeps_its_number(tmp_path: Path) -> None:
    written = write_preview(tmp_path / "out", campaign(tmp_path / "c", PLAIN), when=WHEN, only_key="two")
    text = words(tmp_path / "out")
    assert written.letters == 1
    assert [path.name for path in (tmp_path / "out" / "eml").iterdir()] == ["002-two.eml"]
    assert [d["id"] for d in page_of(tmp_path / "out").all("details") if d["class"] == "letter"] == ["letter-2"]
    assert "what the letter two would look like, one of 3 letters" in text
    assert "look at first" not in text


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("tw", "did you mean: two"),
        ("none", "gets no letter (filtered)"),
        ("bad", "there is no address"),
        ("x", "no letter"),
    ],
)
def test_a_key_without_letter_is_refused_with_the_reason_and_the_old_preview_stays(
    tmp_path: Path, key: str, said: str
) -> None:
    draft = campaign(tmp_path / "c", (*PLAIN, ("bad", "", "Bad", "plain", "en", "Bonn", "", "")))
    written = write_preview(tmp_path / "out", draft, when=WHEN)
    before = written.index.read_bytes()
    with pytest.raises(UsageError) as error:
        write_preview(tmp_path / "out", draft, when=WHEN, only_key=key)
    assert said in problems_of(error)
    assert written.index.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MARKER, "eml", "index.html"]


# The folder


def test_a_preview_is_written_anew_and_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    write_preview(tmp_path / "out", campaign(tmp_path / "c", PLAIN), when=WHEN)
    (tmp_path / "out" / "notes.txt").write_text("mine", encoding="utf-8")
    write_preview(tmp_path / "out", campaign(tmp_path / "d", PLAIN[:1]), when=WHEN)
    assert [path.name for path in (tmp_path / "out" / "eml").iterdir()] == ["001-one.eml"]
    assert "Second" not in words(tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_what_a_crash_left_is_cleared_away(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", PLAIN)
    write_preview(tmp_path / "out", draft, when=WHEN)
    left = tmp_path / "out" / ".unfinished" / "eml"
    left.mkdir(parents=True)
    (left / "001-one.eml").write_text("half", encoding="utf-8")
    write_preview(tmp_path / "out", draft, when=WHEN)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MARKER, "eml", "index.html"]


def test_a_failure_halfway_keeps_the_old_preview(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", PLAIN)
    written = write_preview(tmp_path / "out", draft, when=WHEN)
    before = written.index.read_bytes()
    (tmp_path / "c" / "list.csv").unlink()
    with pytest.raises(UsageError, match=r"list\.csv does not exist"):
        write_preview(tmp_path / "out", draft, when=WHEN)
    assert written.index.read_bytes() == before
    assert len(list((tmp_path / "out" / "eml").iterdir())) == 3


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert write_preview(tmp_path / "out", campaign(tmp_path / "c", PLAIN), when=WHEN).letters == 3


def test_a_folder_with_something_else_is_refused_and_not_touched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="something else than a preview") as error:
        write_preview(out, campaign(tmp_path / "c", PLAIN), when=WHEN)
    assert "nothing in this one was changed" in problems_of(error)
    assert [path.name for path in out.iterdir()] == ["index.html"]
    assert (out / "index.html").read_text(encoding="utf-8") == "mine"


def test_a_file_or_a_place_under_one_is_refused(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", PLAIN)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file"):
        write_preview(tmp_path / "file", draft, when=WHEN)
    with pytest.raises(UsageError, match="cannot write the preview") as error:
        write_preview(tmp_path / "file" / "out", draft, when=WHEN)
    assert "--out" in problems_of(error)


def test_what_reading_the_draft_raises_is_passed_on(tmp_path: Path) -> None:
    campaign(tmp_path / "c", PLAIN)
    (tmp_path / "c" / "templates" / "letter.en.md").write_text("no front matter", encoding="utf-8")
    with pytest.raises(TemplateError):
        write_preview(tmp_path / "out", Draft(tmp_path / "c"), when=WHEN)
    assert not (tmp_path / "out").exists()


def test_two_previews_of_the_same_folder_are_the_same(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", (*PLAIN, *HOSTILE))
    first = write_preview(tmp_path / "one", draft, when=WHEN).index.read_bytes()
    assert write_preview(tmp_path / "two", draft, when=WHEN).index.read_bytes() == first


def test_the_founding_campaign_s_page_is_complete_and_small(tmp_path: Path) -> None:
    for name in ("templates", "recipients"):
        shutil.copytree(ROOT / name, tmp_path / "c" / name)
    shutil.copy(ROOT / "campaign.toml", tmp_path / "c")
    draft = Draft(tmp_path / "c")
    written = write_preview(tmp_path / "out", draft, when=WHEN)
    letters = [f"letter-{number}" for number in range(1, 205)]
    assert written.letters == len(list((tmp_path / "out" / "eml").iterdir())) == 204
    assert written.index.stat().st_size < 2_000_000
    assert [d["id"] for d in page_of(tmp_path / "out").all("details") if d["class"] == "letter"] == letters
    assert "en 147 fr 36 es 21" in words(tmp_path / "out")


# The bundle


def test_a_bundle_is_one_file_without_mail_files_or_attachments(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", (*PLAIN, *HOSTILE))
    bundle = tmp_path / "bundle.html"
    written = write_bundle(bundle, draft, when=WHEN)
    assert (written.index, written.eml, written.pages) == (bundle, None, 1)
    assert written.octets == bundle.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.html", "c"]
    text = bundle.read_text(encoding="utf-8")
    page = Page(text)
    assert html_of(page) == [item.rendering.html for item in draft.items() if isinstance(item, Merged)]
    assert "annex.txt" in page.texts["body"][0]
    assert "An annex." not in text
    assert base64.b64encode(b"An annex.\nAn annex.\n").decode() not in text
    assert {link["href"][0] for link in page.all("a")} == {"#"}
    if sys.platform != "win32":
        assert bundle.stat().st_mode & 0o777 == 0o600


def test_the_founding_campaign_s_bundle_goes_with_a_mail(tmp_path: Path) -> None:
    """The issue's line is 5 MB; it comes to a fifth of that, for letters that are alike are kept together."""
    written = write_bundle(tmp_path / "bundle.html", Draft(ROOT), when=WHEN)
    assert written.letters == 204
    assert written.octets < 1_500_000


def test_a_bundle_is_made_anew_and_nothing_else_is_overwritten(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", PLAIN)
    bundle, other = tmp_path / "bundle.html", tmp_path / "other.html"
    write_bundle(bundle, campaign(tmp_path / "d", PLAIN[:1]), when=WHEN)
    assert write_bundle(bundle, draft, when=WHEN).letters == 3
    assert len(html_of(Page(bundle.read_text(encoding="utf-8")))) == 3
    other.write_text("<p>mine", encoding="utf-8")
    with pytest.raises(UsageError, match="something else than a preview"):
        write_bundle(other, draft, when=WHEN)
    assert other.read_text(encoding="utf-8") == "<p>mine"
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError, match="something else than a preview"):
        write_bundle(tmp_path / "folder.html", draft, when=WHEN)


def test_a_bundle_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    draft, bundle = campaign(tmp_path / "c", PLAIN), tmp_path / "bundle.html"
    write_bundle(bundle, draft, when=WHEN)
    before = bundle.read_bytes()
    (tmp_path / "c" / "list.csv").unlink()
    with pytest.raises(UsageError):
        write_bundle(bundle, draft, when=WHEN)
    assert bundle.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.html", "c"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="--bundle"):
        write_bundle(tmp_path / "file" / "bundle.html", campaign(tmp_path / "c", PLAIN), when=WHEN)


def many_rows(count: int) -> list[tuple[str, ...]]:
    return [(f"k{n}", f"k{n}@first.example", f"Name {n}", "plain", "en", "Riga", "g", "") for n in range(1, count + 1)]


def test_too_many_letters_for_one_file_are_refused_with_the_way_out(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", many_rows(MOST_IN_ONE_FILE + 1))
    with pytest.raises(UsageError, match="more letters than 1,000") as error:
        write_bundle(tmp_path / "bundle.html", draft, when=WHEN)
    assert "dispatcher preview --bundle bundle/" in problems_of(error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]


def test_many_letters_are_pages_behind_the_first_one(tmp_path: Path) -> None:
    """Each letter is on one page, each page within bounds and linked with the next; what stands out leads there."""
    rows = [*many_rows(600), ("long", "long@first.example", "Long" * 50, "long", "en", "Riga", "g", "")]
    written = write_bundle(tmp_path / "out", campaign(tmp_path / "c", rows), when=WHEN)
    names = ["letters-0001.html", "letters-0002.html", "letters-0003.html"]
    assert (written.letters, written.pages) == (601, 3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MARKER, "index.html", *names]
    pages = [Page((tmp_path / "out" / name).read_text(encoding="utf-8")) for name in names]
    there = [[d["id"] for d in page.all("details") if d["class"] == "letter"] for page in pages]
    assert [len(ids) for ids in there] == [250, 250, 101]
    assert [one for ids in there for one in ids] == [f"letter-{n}" for n in range(1, 602)]
    assert [len(html_of(page)) for page in pages] == [250, 250, 101]
    index = page_of(tmp_path / "out")
    links = [link["href"] for link in index.all("a")]
    assert names == [link for link in links if link in names]
    assert "letters-0003.html#letter-601" in links  # the longest
    assert "Letters 251 to 500 k251 to k500" in words(tmp_path / "out")
    turns = [[a["href"] for a in page.all("a") if a.get("rel") or a["href"] == "index.html"] for page in pages]
    assert turns == [["index.html", names[1]], ["index.html", names[0], names[2]], ["index.html", names[1]]]
    assert not [d for d in index.all("details") if d["class"] == "letter"]
    assert all((tmp_path / "out" / name).stat().st_size < PAGE_SIZE for name in names)


def test_a_page_is_full_by_its_size_too(tmp_path: Path) -> None:
    rows = [(f"k{n}", f"k{n}@a.example", "A", "plain", "en", "x" * 30_000, "g", "") for n in range(160)]
    written = write_bundle(tmp_path / "out", campaign(tmp_path / "c", rows), when=WHEN)
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("letters-*.html")]
    assert written.pages == len(sizes) == 2
    assert max(sizes) < PAGE_SIZE + 200_000


def test_fewer_letters_leave_no_page_of_an_older_preview(tmp_path: Path) -> None:
    write_preview(tmp_path / "out", campaign(tmp_path / "c", many_rows(300)), when=WHEN)
    assert (tmp_path / "out" / "letters-0002.html").is_file()
    assert (tmp_path / "out" / "eml" / "300-k300.eml").is_file()
    write_bundle(tmp_path / "out", campaign(tmp_path / "d", PLAIN), when=WHEN)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MARKER, "index.html"]


def test_memory_does_not_grow_with_the_letters(tmp_path: Path) -> None:
    """Twice the letters take no more at the most, measured after a first preview filled all caches."""
    small, large = campaign(tmp_path / "s", many_rows(500)), campaign(tmp_path / "l", many_rows(1000))
    write_bundle(tmp_path / "out", large, when=WHEN)
    peaks = []
    for draft in (small, large):
        tracemalloc.start()
        write_bundle(tmp_path / "out", draft, when=WHEN)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.25


def test_how_to_approve_names_the_digest_and_the_plan_once_it_is_sealed(tmp_path: Path) -> None:
    draft = campaign(tmp_path / "c", PLAIN)
    write_preview(tmp_path / "out", draft, when=WHEN)
    digest = draft.unsealed.digest()
    text = words(tmp_path / "out")
    assert text.count(digest) == 2
    assert "dispatcher seal" in text
    assert "--plan" not in text
    write_preview(tmp_path / "out", draft, when=WHEN, revision_of=lambda one: 3 * (one == digest))
    text = words(tmp_path / "out")
    assert (
        f'dispatcher approve --plan trial/3/{digest} --by "Your name" --key ~/.ssh/id_ed25519 --export approval.json'
        in text
    )
    assert "dispatcher seal" not in text
    bad = campaign(tmp_path / "d", (*PLAIN, ("bad", "", "Bad", "plain", "en", "Bonn", "", "")))
    write_preview(tmp_path / "out", bad, when=WHEN)
    assert "dispatcher approve" not in words(tmp_path / "out")


def test_of_many_rows_left_out_the_first_are_named(tmp_path: Path) -> None:
    rows = [(f"n{n}", f"n{n}@a.example", "N", "none", "en", "x", "g", "") for n in range(250)]
    write_preview(tmp_path / "out", campaign(tmp_path / "c", (*PLAIN, *rows)), when=WHEN)
    text = words(tmp_path / "out")
    assert "Filtered: 251" in text
    assert "and 51 more" in text
    assert "n198 not kind" in text
    assert "n199 not kind" not in text
