"""The preview's pages in a real browser, from a file: what people see, and that no list can do harm with them."""

import base64
import json
import re
import shutil
import socket
import subprocess
import threading
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dispatcher.desk.draft import Draft
from dispatcher.web.preview import write_bundle
from tests.browser import AXE, Screens, judged
from tests.command import REPOSITORY
from tests.test_layout import VALIDATE
from tests.test_preview import HOSTILE, PLAIN, campaign, many_rows

WHEN = datetime(2009, 10, 1, tzinfo=UTC)
WIDTHS = (320, 768, 1600)
# The letter in the frame comes after some promises.
FRAMES = "count => [...document.querySelectorAll('iframe')].filter(one => one.srcdoc).length === count"
OPEN = "[...document.querySelectorAll('details.letter')].filter(one => one.open).map(one => one.id)"


def await_frames(page: Page, count: int) -> None:
    """Wait until so many letters are shown."""
    page.wait_for_function(FRAMES, arg=count)


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    await_frames(page, page.locator("details.letter").count())


@pytest.fixture(scope="module")
def founding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The founding campaign in one file."""
    bundle = tmp_path_factory.mktemp("founding") / "bundle.html"
    write_bundle(bundle, Draft(REPOSITORY), when=WHEN)
    return bundle


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small campaign in one file, with what a page can hold: skips, two lists, a list that means harm."""
    folder = tmp_path_factory.mktemp("trial")
    write_bundle(folder / "bundle.html", campaign(folder / "campaign", (*PLAIN, *HOSTILE)), when=WHEN)
    return folder / "bundle.html"


def test_a_letter_shows_as_mail_programs_show_it(screens: Screens, founding: Path) -> None:
    """From a link, and by n and p; each is the letter that the row names, in a frame where nothing runs."""
    window = screens.show(founding, 1280)
    page = window.page
    expect(page.locator("details.letter")).to_have_count(204)
    expect(page.locator("#as-text")).to_be_hidden()
    page.evaluate("location.hash = 'letter-52'")
    for key, number in (("", 52), ("n", 53), ("p", 52)):
        if key:
            page.keyboard.press(key)
        page.wait_for_function(f"{OPEN}.join() === 'letter-{number}'")
        await_frames(page, 1)
        frame = page.locator(f"#letter-{number} iframe")
        assert frame.get_attribute("sandbox") == ""
        name = page.locator(f"#letter-{number} .who bdi").first.text_content() or "none"
        assert name in (frame.get_attribute("srcdoc") or "").replace("&#39;", "'")
    assert window.complaints == []
    assert window.asked == [founding.as_uri()]


def tab(page: Page) -> str:
    """Go on by a tab stop, perhaps into or out of a frame, which takes a moment; the name of what is reached."""
    page.evaluate("window.before = document.activeElement")
    page.keyboard.press("Tab")
    page.wait_for_function("![window.before, document.body].includes(document.activeElement)")
    name: str = page.evaluate("document.activeElement.localName")
    return name


def test_everything_is_reached_by_keyboard(screens: Screens, founding: Path) -> None:
    """From the first key on: to the letters, into a letter, its headers, frame and text, and on to the next one."""
    page = screens.show(founding, 1280).page
    assert tab(page) == "a"
    expect(page.locator(":focus")).to_have_text("To the letters")
    page.keyboard.press("Enter")
    reached = [tab(page) for _ in range(2)]
    page.keyboard.press("Enter")
    await_frames(page, 1)
    expect(page.frame_locator("#letter-1 iframe").locator("body")).to_be_visible()  # and can be reached
    reached += [tab(page) for _ in range(3)]
    assert reached == ["input", "summary", "summary", "iframe", "pre"]
    page.keyboard.press("n")
    assert page.evaluate(OPEN) == ["letter-2"]
    assert page.evaluate("document.activeElement.parentElement.id") == "letter-2"


def test_finding_a_letter(screens: Screens, founding: Path) -> None:
    page = screens.show(founding, 1280).page
    page.locator("#find input").fill("cote d ivoire")
    expect(page.locator("output")).to_have_text("1 of 204")
    expect(page.locator("details.letter:not([hidden]) .key")).to_have_text(["CIV"])


@pytest.mark.skipif(not AXE.exists(), reason="needs npm: make npm")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_accessibility(screens: Screens, trial: Path, width: int, *, dark: bool) -> None:
    """No violation in the eyes of axe-core, with a letter open and all headers shown, and nothing beside the screen."""
    page = screens.show(trial, width, dark=dark).page
    open_all(page)
    found = judged(page, iframes=False)
    assert found["violations"] == []
    assert [one for one in found["incomplete"] if one[0] != "frame-tested"] == []
    assert {"color-contrast", "html-has-lang", "document-title", "label"} <= {rule for rule, _ in found["passes"]}
    assert page.evaluate("document.documentElement.scrollWidth") == width


class Listener:
    """A server that notes whether anybody asked it for anything."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(1000))
                connection.sendall(b"HTTP/1.0 204 No Content\r\n\r\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    opened = Listener()
    yield opened
    opened.close()


def hostile_rows(url: str) -> list[tuple[str, ...]]:
    """Names, addresses, keys, fields and groups that would like to run, to ask, to close what they stand in."""
    attempts = (
        "</script><script>alert(1)</script>",
        f"<img src={url}/i onerror=alert(1)>",
        f"</iframe><iframe src={url}/f>",
        f'"><link rel=stylesheet href={url}/l>',
        f"</pre></details></main><base href={url}/><form action={url}>",
        f"<meta http-equiv=refresh content='0;url={url}/m'>",
        "javascript:alert(1)",
        f"![x]({url}/markdown) [y](javascript:alert(1))",
        "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
        "<!--<script>alert(1)",
        "]]>&lt;script&gt;alert(1)",
        "<svg onload=alert(1)><style>@import '/s'",
    )
    rows = [(text[:60], f"a{n}@bad.example", text, "plain", "en", text, text, "") for n, text in enumerate(attempts)]
    return [*HOSTILE, *rows, ("q", '"<script>alert(1)</script>"@bad.example', "Quoted", "plain", "en", "x", "g", "")]


def rest(page: Page) -> None:
    """Wait until the page has nothing more to do."""
    page.evaluate("new Promise(done => requestIdleCallback(done))")


def test_nothing_from_a_list_runs_asks_or_complains(screens: Screens, listener: Listener, tmp_path: Path) -> None:
    draft = campaign(tmp_path / "campaign", hostile_rows(listener.url))
    written = write_bundle(tmp_path / "bundle.html", draft, when=WHEN)
    assert written.letters > 15
    window = screens.show(written.index, 1280)
    open_all(window.page)
    rest(window.page)
    assert window.complaints == []
    assert window.asked == [written.index.as_uri()]
    assert listener.asked == []
    assert window.page.title() == "Preview: Trial <b>of</b> the preview"
    assert window.page.locator("details.letter").count() == written.letters


def test_a_letter_that_means_harm_stays_in_its_frame(
    screens: Screens, listener: Listener, trial: Path, tmp_path: Path
) -> None:
    """Layouts with such HTML are refused; were one not, nothing of it would run, ask, or leave the frame."""
    url = listener.url
    harm = (
        f"<script>alert(1); top.location='{url}/t'</script><img src='{url}/i' onerror='alert(1)'>"
        f"<link rel=stylesheet href='{url}/l'><iframe src='{url}/f'></iframe><a href='{url}/a' target=_top>x</a>"
        f"<meta http-equiv=refresh content='0;url={url}/m'><form action='{url}/p'><button>p</button></form>"
        f"<style>body {{ background: url({url}/b) }}</style><audio src='{url}/s' autoplay></audio>"
        "</iframe></script></details><script>alert(1)</script>"
    )
    page = trial.read_text(encoding="utf-8")
    block = base64.b64encode(zlib.compress(json.dumps([harm]).encode())).decode()
    bundle = tmp_path / "bundle.html"
    bundle.write_text(re.sub("(<script type=.text/plain.>)[^<]*", rf"\g<1>{block}", page), encoding="utf-8")
    window = screens.show(bundle, 1280)
    window.page.evaluate("document.getElementById('letter-1').open = true")
    await_frames(window.page, 1)
    rest(window.page)
    assert window.page.locator("iframe").get_attribute("srcdoc") == harm
    assert not [said for said in window.complaints if said.startswith("dialog")]
    assert window.page.url == bundle.as_uri()
    assert listener.asked == []


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More letters than a page holds, in a folder: its first page."""
    folder = tmp_path_factory.mktemp("many")
    rows = [*many_rows(260), *hostile_rows("http://host.invalid")]
    return write_bundle(folder / "out", campaign(folder / "campaign", rows), when=WHEN).index


@pytest.mark.skipif(not AXE.exists(), reason="needs npm: make npm")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "letters-0001.html", "letters-0002.html"])
def test_pages_of_many_letters_are_accessible(screens: Screens, many: Path, name: str, *, dark: bool) -> None:
    """The 250 letters of the first page differ by a name alone, and are judged on the narrowest screen."""
    for width in WIDTHS:
        window = screens.show(many.with_name(name), width, dark=dark)
        if name != "letters-0001.html" or width == min(WIDTHS):
            found = judged(window.page)
            assert found["violations"] == []
            assert found["incomplete"] == []
        assert window.page.evaluate("document.documentElement.scrollWidth") == width
        assert window.complaints == []


def test_a_letter_is_found_from_the_first_page(screens: Screens, many: Path) -> None:
    """By words in any order, on whatever page it is; what a list says is shown as text, and at most 50 at a time."""
    window = screens.show(many, 1280)
    search, hits = window.page.locator("#find input"), window.page.locator("#hits a")
    for words, count, links in (
        ("name k26", "2 of 274", 2),
        ("img onerror", "1 of 274", 1),
        ("first", "260 of 274", 50),
    ):
        search.fill(words)
        expect(hits).to_have_count(links)
        expect(window.page.locator("output")).to_contain_text(re.compile(f"^{count}"))
    search.fill("k259 name")
    expect(hits).to_have_count(1)
    hits.click()
    await_frames(window.page, 1)
    expect(window.page.locator("#letter-259 iframe")).to_have_count(1)
    assert window.complaints == []


def test_what_stands_out_leads_to_its_letter_on_another_page(screens: Screens, many: Path) -> None:
    page = screens.show(many, 1280).page
    link = page.locator(".pointers a[href^='letters-0002']").first
    number = (link.get_attribute("href") or "").partition("#letter-")[2]
    link.click()
    await_frames(page, 1)
    expect(page.locator(f"#letter-{number} iframe")).to_have_count(1)
    page.locator("[rel=prev]").first.click()
    expect(page.locator("h2").first).to_have_text("Letters 1 to 250")


@pytest.mark.skipif(not (VALIDATE.exists() and shutil.which("node")), reason="needs node and npm: make npm")
def test_pages_are_valid_html(trial: Path, many: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    off = dict.fromkeys(("long-title", "doctype-style", "no-trailing-whitespace"), "off")  # matters of style
    rules.write_text(json.dumps({"root": True, "extends": ["html-validate:recommended"], "rules": off}))
    files = (trial, many, many.with_name("letters-0002.html"))
    command = ["node", *map(str, (VALIDATE, "--config", rules, "--formatter", "text", *files))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_without_scripts_summary_list_and_texts_are_there(browser: Browser, founding: Path) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(founding.as_uri())
    expect(page.locator(".letter")).to_have_count(204)
    expect(page.locator(".letter .html *")).to_have_count(0)
    expect(page.locator("#as-text")).to_be_visible()
