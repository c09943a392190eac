"""The house's layout in a real browser, and under two judges of HTML: what a letter looks like wherever it is read."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.core.merge import Merged
from dispatcher.core.render import Renderer
from dispatcher.core.text import finish
from dispatcher.desk.draft import Draft
from tests.browser import AXE, Screens, judged
from tests.command import REPOSITORY
from tests.pictures import png
from tests.rendered import recipient, source
from tests.test_languages import LANGUAGES, merged

NPM = Path(__file__).parent / "npm"
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
def test_accessibility(screens: Screens, letters: dict[str, Path], name: str, *, dark: bool) -> None:
    """No violation in the eyes of axe-core, best practices included; contrast was looked at, and nothing left open."""
    for width in FULL:
        window = screens.show(letters[name], width, dark=dark)
        found = judged(window.page)
        assert found["violations"] == []
        assert found["incomplete"] == []
        assert {"color-contrast", "html-has-lang", "document-title"} <= {rule for rule, _ in found["passes"]}


@pytest.mark.parametrize("name", NAMES)
def test_one_table_is_for_layout_and_says_so(screens: Screens, letters: dict[str, Path], name: str) -> None:
    """A screen reader takes it for none; those that Markdown makes have heads."""
    window = screens.show(letters[name], 1280)
    tables = window.page.locator("table")
    assert tables.count() == 2 - (name in (*LETTERS, *LANGUAGES))
    assert tables.first.get_attribute("role") == "presentation"
    assert window.page.evaluate("[...document.querySelectorAll('table table')].every(t => t.querySelector('th'))")


def test_dark_is_dark(screens: Screens, letters: dict[str, Path]) -> None:
    for dark, ground in ((False, "rgb(255, 255, 255)"), (True, "rgb(22, 22, 22)")):
        window = screens.show(letters["en"], 375, dark=dark)
        assert window.page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        assert window.page.evaluate("getComputedStyle(document.querySelector('.sheet')).color") != ground


EDGES = """selector => {
    const edges = [...document.querySelectorAll(selector)].map(one => one.getBoundingClientRect());
    return [Math.min(...edges.map(one => one.left)), Math.max(...edges.map(one => one.right))];
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_or_fetched(screens: Screens, letters: dict[str, Path], name: str, *, dark: bool) -> None:
    """No scrolling to the side, nothing outside the screen; and the page asks for itself alone."""
    for width in (*FULL, 375, 1200):
        window = screens.show(letters[name], width, dark=dark)
        assert window.page.evaluate("document.documentElement.scrollWidth") == width
        margin = 20 if width < 480 else 0
        assert window.page.evaluate(EDGES, ".logo, .text *, .foot *")[1] <= width - margin
        left, right = window.page.evaluate(EDGES, "body *")
        assert left >= 0
        assert right <= width
        assert [url for url in window.asked if url != LOGO] == [letters[name].as_uri()]


def test_a_logo_keeps_its_shape_and_without_pictures_its_name_is_there(
    screens: Screens, letters: dict[str, Path]
) -> None:
    for width in FULL:
        window = screens.show(letters["logo"], width)
        box = window.page.locator(".logo").bounding_box()
        assert box
        assert box["width"] / box["height"] == pytest.approx(10, rel=0.02)
        assert box["height"] <= 56
    window = screens.show(letters["no picture"], 320)
    logo = window.page.locator(".logo")
    assert logo.get_attribute("alt") == "Orchard Society"
    box = logo.bounding_box()
    assert box
    assert box["width"] > 100  # the name takes its room


def test_right_to_left_is_mirrored(screens: Screens, letters: dict[str, Path]) -> None:
    window = screens.show(letters["rtl"], 375)
    assert window.page.evaluate("getComputedStyle(document.body).direction") == "rtl"
    assert window.page.evaluate(EDGES, ".signature")[1] > 300
    assert window.page.evaluate("getComputedStyle(document.querySelector('.date-rtl')).textAlign") == "left"


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


ORDER = """words => {
    const text = document.querySelector("pre").firstChild;
    const place = word => {
        const range = document.createRange(), at = text.data.indexOf(word);
        range.setStart(text, at);
        range.setEnd(text, at + word.length);
        const box = range.getBoundingClientRect();
        return [box.top, box.left];
    };
    return words.map(place);
}"""


@pytest.mark.parametrize("direction", ["ltr", "rtl", "auto"])
def test_plain_text_from_right_to_left_reads_in_order(screens: Screens, tmp_path: Path, direction: str) -> None:
    """Whatever a mail program takes the whole for: Arabic from right to left, a date and a name in it from left."""
    words = ["office@example.org", "المراجعة", "KMS-2009", "10-01", "الدورية", "Khmer", "Srok", "الشاملة"]
    line = "office@example.org المراجعة KMS-2009-10-01 الدورية (Khmer Srok) الشاملة."
    for style in ("plaintext", "normal") if direction == "auto" else ("normal",):
        page = tmp_path / f"{style}.html"
        start = f"<!doctype html><meta charset=utf-8><pre dir={direction} style='unicode-bidi: {style}'>"
        page.write_text(start + finish([line], "rtl"), encoding="utf-8")
        window = screens.show(page, 1280)
        places = dict(zip(words, window.page.evaluate(ORDER, words), strict=True))
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
