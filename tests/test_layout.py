"""The house's layout in a real browser, and under two judges of HTML: what a letter looks like wherever it is read."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.core.merge import Merged
from dispatcher.core.render import Renderer
from dispatcher.core.text import finish
from dispatcher.desk.draft import Draft
from tests.browser import MISSING, USABLE, Browser
from tests.command import REPOSITORY
from tests.pictures import png
from tests.rendered import recipient, source
from tests.test_languages import LANGUAGES, merged

NPM = Path(__file__).parent / "npm"
AXE = NPM / "node_modules" / "axe-core" / "axe.min.js"
VALIDATE = NPM / "node_modules" / "html-validate" / "bin" / "html-validate.mjs"
LETTERS = {"en": "GBR", "fr": "FRA", "es": "ESP"}
RULES = {
    "extends": ["html-validate:recommended"],
    "rules": {
        "no-inline-style": "off",  # mail programs drop style sheets
        "long-title": "off",  # the title is the subject, and no page that a search engine shows
    },
}
# All that Markdown makes, and words that are longer than a narrow screen.
MUCH = """\
{{ salutation }}

# A heading with **strong** and *emphasised* words, and with [a link](https://example.org/a)

1. one
   - inner
2. two, at https://example.org/a-long-path/that-goes-on/and-on/without-any-blank/to-break-the-line-at?and=more

> quoted

| a | b |
|---|--:|
| Donaudampfschifffahrtsgesellschaftskapitaenswitwe | 1,234,567,890 |

    code that is longer than a narrow screen, in a block of its own, so that it could push the letter out of it

---

{{ close }}
"""
FULL = (320, 1280)
LOGO = "cid:logo@kms.example.org"
SHOWN = f"data:image/png;base64,{base64.b64encode(png(900, 90)).decode()}"


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """HTML by name: the founding and example letters; one with all that Markdown makes, and that from right to left;
    one with a logo that is wider than a telephone, and one whose logo is not shown.
    """
    folder = tmp_path_factory.mktemp("letters")
    pages = {}
    for item in Draft(REPOSITORY).items():
        if isinstance(item, Merged) and item.letter.key in LETTERS.values():
            pages[item.letter.language] = item.rendering.html
    layout = (REPOSITORY / "templates" / "house" / "layout.html").read_text(encoding="utf-8")
    for name, language in (("much", "en"), ("rtl", "ar"), ("logo", "en"), ("no picture", "en")):
        frozen = replace(
            source(MUCH, layout=layout, language=language), logo=LOGO if name in ("logo", "no picture") else ""
        )
        pages[name] = Renderer(frozen).render(recipient(), ("report-" + "x" * 90 + ".pdf",)).html
    pages["logo"] = pages["logo"].replace(LOGO, SHOWN)
    for language in LANGUAGES:
        pages[language] = merged(tmp_path_factory.mktemp(language), language).rendering.html
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not USABLE:
        pytest.skip(MISSING)
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


NAMES = (*LETTERS, *LANGUAGES, "much", "rtl", "logo", "no picture")


@pytest.mark.skipif(not (VALIDATE.exists() and shutil.which("node")), reason="needs node and npm: make npm")
def test_html_is_valid(letters: dict[str, Path], tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"root": True, **RULES}))
    command = ["node", *map(str, (VALIDATE, "--config", rules, "--formatter", "text", *letters.values()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.skipif(not AXE.exists(), reason="needs npm: make npm")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_accessibility(browser: Browser, letters: dict[str, Path], name: str, *, dark: bool) -> None:
    """No violation in the eyes of axe-core, best practices included; contrast was looked at, and nothing left open."""
    for width in FULL:
        browser.show(letters[name], width, dark=dark)
        browser.run(AXE.read_text(encoding="utf-8") + "; 0")
        found = browser.run("axe.run().then(r => JSON.stringify([r.violations, r.incomplete, r.passes]))")
        violations, unsure, passes = json.loads(found)
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations] == []
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in unsure] == []
        assert {"color-contrast", "html-has-lang", "document-title"} <= {rule["id"] for rule in passes}


@pytest.mark.parametrize("name", NAMES)
def test_one_table_is_for_layout_and_says_so(browser: Browser, letters: dict[str, Path], name: str) -> None:
    """A screen reader takes it for none; those that Markdown makes have heads."""
    browser.show(letters[name], 1280)
    assert browser.run("document.querySelectorAll('table').length") == 2 - (name in (*LETTERS, *LANGUAGES))
    assert browser.run("document.querySelector('table').getAttribute('role')") == "presentation"
    assert browser.run("[...document.querySelectorAll('table table')].every(t => t.querySelector('th'))")


def test_dark_is_dark(browser: Browser, letters: dict[str, Path]) -> None:
    for dark, ground in ((False, "rgb(255, 255, 255)"), (True, "rgb(22, 22, 22)")):
        browser.show(letters["en"], 375, dark=dark)
        assert browser.run("getComputedStyle(document.body).backgroundColor") == ground
        assert browser.run("getComputedStyle(document.querySelector('.sheet')).color") != ground


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_or_fetched(browser: Browser, letters: dict[str, Path], name: str, *, dark: bool) -> None:
    """No scrolling to the side, nothing outside the screen; and the page asks for itself alone."""
    for width in (*FULL, 375, 1200):
        browser.show(letters[name], width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth") == width
        edges = "[...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect())"
        margin = 20 if width < 480 else 0
        inside = "[...document.querySelectorAll('.logo, .text *, .foot *')].map(e => e.getBoundingClientRect())"
        assert browser.run(f"Math.max(...{inside}.map(r => r.right))") <= width - margin
        assert browser.run(f"Math.max(...{edges}.map(r => r.right))") <= width
        assert browser.run(f"Math.min(...{edges}.map(r => r.left))") >= 0
        assert [url for url in browser.fetched() if url not in (SHOWN, LOGO)] == [letters[name].as_uri()]


def test_a_logo_keeps_its_shape_and_without_pictures_its_name_is_there(
    browser: Browser, letters: dict[str, Path]
) -> None:
    box = "document.querySelector('.logo').getBoundingClientRect()"
    for width in FULL:
        browser.show(letters["logo"], width)
        shape = browser.run(f"[{box}.width, {box}.height]")
        assert shape[0] / shape[1] == pytest.approx(10, rel=0.02)
        assert shape[1] <= 56
    browser.show(letters["no picture"], 320)
    assert browser.run("document.querySelector('.logo').alt") == "Orchard Society"
    assert browser.run(f"{box}.width") > 100  # the name takes its room


def test_right_to_left_is_mirrored(browser: Browser, letters: dict[str, Path]) -> None:
    browser.show(letters["rtl"], 375)
    left, right = "document.querySelector('.signature').getBoundingClientRect()", "getComputedStyle(document.body)"
    assert browser.run(f"{right}.direction") == "rtl"
    assert browser.run(f"{left}.right") > 300
    assert browser.run("getComputedStyle(document.querySelector('.date-rtl')).textAlign") == "left"


def test_the_charset_is_said_in_time(letters: dict[str, Path]) -> None:
    """Within the first 1,024 octets, where a reader without headers looks for it."""
    for page in letters.values():
        assert b'<meta charset="utf-8">' in page.read_bytes()[:1024]


def test_a_letter_looks_the_same_without_its_style_sheet(letters: dict[str, Path]) -> None:
    """What is not in the elements themselves is for narrow screens and dark ones alone."""
    page = letters["much"].read_text(encoding="utf-8")
    (sheet,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert re.sub(r"@media [^{]+\{(?:[^{}]+\{[^{}]*\})*\s*\}", "", sheet).strip() == ""
    bare = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert [tag for tag in re.findall(r"<(?:td|p|h1|ol|li|blockquote|th|a)\b[^>]*>", bare) if "style=" not in tag] == []


ORDER = """(() => {
    const text = document.querySelector("pre").firstChild;
    const place = word => {
        const range = document.createRange(), at = text.data.indexOf(word);
        range.setStart(text, at);
        range.setEnd(text, at + word.length);
        const box = range.getBoundingClientRect();
        return [box.top, box.left];
    };
    return WORDS.map(place);
})()"""


@pytest.mark.parametrize("direction", ["ltr", "rtl", "auto"])
def test_plain_text_from_right_to_left_reads_in_order(browser: Browser, tmp_path: Path, direction: str) -> None:
    """Whatever a mail program takes the whole for: Arabic from right to left, a date and a name in it from left."""
    words = ["office@example.org", "المراجعة", "KMS-2009", "10-01", "الدورية", "Khmer", "Srok", "الشاملة"]
    line = "office@example.org المراجعة KMS-2009-10-01 الدورية (Khmer Srok) الشاملة."
    for style in ("plaintext", "normal") if direction == "auto" else ("normal",):
        page = tmp_path / f"{style}.html"
        start = f"<!doctype html><meta charset=utf-8><pre dir={direction} style='unicode-bidi: {style}'>"
        page.write_text(start + finish([line], "rtl"), encoding="utf-8")
        browser.show(page, 1280)
        places = dict(zip(words, browser.run(ORDER.replace("WORDS", json.dumps(words))), strict=True))
        assert len({top for top, _ in places.values()}) == 1
        from_left = sorted(words, key=lambda word: places[word][1])
        assert from_left == [
            "الشاملة",
            "Khmer",
            "Srok",
            "الدورية",
            "KMS-2009",
            "10-01",
            "المراجعة",
            "office@example.org",
        ]
        right = places["office@example.org"][1] > 640
        assert right == (direction != "ltr")
