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

from dispatcher.desk.draft import Draft
from dispatcher.web.preview import write_bundle
from tests.browser import MISSING, USABLE, Browser
from tests.command import REPOSITORY
from tests.test_layout import AXE, VALIDATE
from tests.test_preview import HOSTILE, PLAIN, campaign, many_rows

WHEN = datetime(2009, 10, 1, tzinfo=UTC)
WIDTHS = (320, 768, 1600)
LETTERS = "[...document.querySelectorAll('details.letter')]"
# The letter in the frame comes after some promises. Whoever waits for too many is told how many there are.
FRAMES = """new Promise(done => {
    let turns = 0;
    const look = () => {
        const frames = [...document.querySelectorAll("iframe")].filter(one => one.srcdoc);
        if (frames.length === COUNT || ++turns > 1000) { done(frames.length); }
        else { requestAnimationFrame(look); }
    };
    look();
})"""


WAITING = """new Promise(done => {
    let turns = 0;
    const look = () => {
        if (MOVED || ++turns > 1000) { done(document.activeElement.localName); } else { requestAnimationFrame(look); }
    };
    look();
})"""
# A frame says once that it is loaded; a copy in its place says so to whom it may concern, and is painted soon after.
LOADED = """new Promise(done => {
    const frame = document.querySelector("iframe"), copy = frame.cloneNode();
    copy.onload = () => requestAnimationFrame(() => requestAnimationFrame(done));
    frame.replaceWith(copy);
}).then(() => 0)"""
FOUND = FRAMES.replace('"iframe"', '"#hits a"').replace("one.srcdoc", "one.href")


def await_frames(browser: Browser, count: int) -> None:
    """Wait until so many letters are shown."""
    assert browser.run(FRAMES.replace("COUNT", str(count))) == count


def show_letter(browser: Browser, number: int) -> None:
    """Open a letter, and wait until its frame is there."""
    browser.run(f"document.getElementById('letter-{number}').open = true")
    await_frames(browser, browser.run(f"{LETTERS}.filter(one => one.open).length"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not USABLE:
        pytest.skip(MISSING)
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


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


def test_a_letter_shows_as_mail_programs_show_it(browser: Browser, founding: Path) -> None:
    """From a link, and by n and p; each is the letter that the row names, in a frame where nothing runs."""
    browser.show(founding, 1280)
    assert browser.run(f"{LETTERS}.length") == 204
    assert browser.run("document.getElementById('as-text').hidden")
    browser.run("location.hash = 'letter-52'")
    for key, number in (("", 52), ("n", 53), ("p", 52)):
        if key:
            browser.run(
                f"document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"
            )
        await_frames(browser, 1)
        assert browser.run(f"{LETTERS}.filter(one => one.open).map(one => one.id)") == [f"letter-{number}"]
        assert browser.run("document.querySelector('iframe').closest('details').id") == f"letter-{number}"
        assert browser.run("document.querySelector('iframe').getAttribute('sandbox')") == ""
        name = browser.run(f"document.querySelector('#letter-{number} .who bdi').textContent")
        assert name in browser.run("document.querySelector('iframe').srcdoc").replace("&#39;", "'")
    assert browser.complaints() == []
    assert browser.fetched() in ([founding.as_uri()], [founding.as_uri(), "about:srcdoc"])


def press(browser: Browser, key: str, code: int, text: str = "") -> None:
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key=key,
            windowsVirtualKeyCode=code,
            text=text if kind == "keyDown" else "",
        )


def tab(browser: Browser) -> str:
    """Go on by a tab stop, perhaps into or out of a frame, which takes a moment; the name of what is reached."""
    browser.run("window.before = document.activeElement")
    press(browser, "Tab", 9)
    moved = "![window.before, document.body].includes(document.activeElement)"
    name: str = browser.run(WAITING.replace("MOVED", moved))
    return name


def test_everything_is_reached_by_keyboard(browser: Browser, founding: Path) -> None:
    """From the first key on: to the letters, into a letter, its headers, frame and text, and on to the next one."""
    browser.show(founding, 1280)
    assert tab(browser) == "a"
    assert browser.run("document.activeElement.textContent") == "To the letters"
    press(browser, "Enter", 13, "\r")
    reached = [tab(browser) for _ in range(2)]
    press(browser, "Enter", 13, "\r")
    await_frames(browser, 1)
    browser.run(LOADED)
    reached += [tab(browser) for _ in range(3)]
    assert reached == ["input", "summary", "summary", "iframe", "pre"]
    press(browser, "n", 78, "n")
    assert browser.run(f"{LETTERS}.filter(one => one.open).map(one => one.id)") == ["letter-2"]
    assert browser.run("document.activeElement.parentElement.id") == "letter-2"


def test_finding_a_letter(browser: Browser, founding: Path) -> None:
    browser.show(founding, 1280)
    browser.run("document.querySelector('#find input').focus()")
    browser.call("Input.insertText", text="cote d ivoire")
    assert browser.run(f"{LETTERS}.filter(one => !one.hidden).map(one => one.querySelector('.key').textContent)") == [
        "CIV"
    ]
    assert browser.run("document.querySelector('output').textContent") == "1 of 204"


@pytest.mark.skipif(not AXE.exists(), reason="needs npm: make npm")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_accessibility(browser: Browser, trial: Path, width: int, *, dark: bool) -> None:
    """No violation in the eyes of axe-core, with a letter open and all headers shown, and nothing beside the screen."""
    browser.show(trial, width, dark=dark)
    show_letter(browser, 2)
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    await_frames(browser, browser.run(f"{LETTERS}.length"))
    browser.run(AXE.read_text(encoding="utf-8") + "; 0")
    found = browser.run("axe.run({iframes: false}).then(r => JSON.stringify([r.violations, r.incomplete, r.passes]))")
    violations, unsure, passes = json.loads(found)
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations] == []
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in unsure if v["id"] != "frame-tested"] == []
    assert {"color-contrast", "html-has-lang", "document-title", "label"} <= {rule["id"] for rule in passes}
    assert browser.run("document.documentElement.scrollWidth") == width


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


def test_nothing_from_a_list_runs_asks_or_complains(browser: Browser, listener: Listener, tmp_path: Path) -> None:
    draft = campaign(tmp_path / "campaign", hostile_rows(listener.url))
    written = write_bundle(tmp_path / "bundle.html", draft, when=WHEN)
    assert written.letters > 15
    browser.show(written.index, 1280)
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    await_frames(browser, written.letters)
    browser.run("new Promise(done => requestIdleCallback(done))")
    assert browser.complaints() == []
    assert {url for url in browser.fetched() if url != "about:srcdoc"} == {written.index.as_uri()}
    assert listener.asked == []
    assert browser.run("document.title") == "Preview: Trial <b>of</b> the preview"
    assert browser.run("document.querySelectorAll('details.letter').length") == written.letters


def test_a_letter_that_means_harm_stays_in_its_frame(
    browser: Browser, listener: Listener, trial: Path, tmp_path: Path
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
    browser.show(bundle, 1280)
    show_letter(browser, 1)
    browser.run("new Promise(done => requestIdleCallback(done))")
    assert browser.run("document.querySelector('iframe').srcdoc") == harm
    assert not [said for said in browser.complaints() if "Dialog" in said]
    assert browser.run("location.href") == bundle.as_uri()
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
def test_pages_of_many_letters_are_accessible(browser: Browser, many: Path, name: str, *, dark: bool) -> None:
    for width in WIDTHS:
        browser.show(many.with_name(name), width, dark=dark)
        browser.run(AXE.read_text(encoding="utf-8") + "; 0")
        found = browser.run("axe.run().then(r => JSON.stringify([...r.violations, ...r.incomplete]))")
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in json.loads(found)] == []
        assert browser.run("document.documentElement.scrollWidth") == width
        assert browser.complaints() == []


def test_a_letter_is_found_from_the_first_page(browser: Browser, many: Path) -> None:
    """By words in any order, on whatever page it is; what a list says is shown as text, and at most 50 at a time."""
    browser.show(many, 1280)
    browser.run("document.querySelector('#find input').focus()")
    for words, count, links in (
        ("name k26", "2 of 274", 2),
        ("img onerror", "1 of 274", 1),
        ("first", "260 of 274", 50),
    ):
        browser.run("document.querySelector('#find input').value = ''")
        browser.call("Input.insertText", text=words)
        assert browser.run(FOUND.replace("COUNT", str(links))) == links
        assert browser.run("document.querySelector('output').textContent").startswith(count)
    browser.run("document.querySelector('#find input').value = ''")
    browser.call("Input.insertText", text="k259 name")
    assert browser.run(FOUND.replace("COUNT", "1")) == 1
    browser.follow("document.querySelector('#hits a')")
    await_frames(browser, 1)
    assert browser.run("document.querySelector('iframe').closest('details').id") == "letter-259"
    assert browser.complaints() == []


def test_what_stands_out_leads_to_its_letter_on_another_page(browser: Browser, many: Path) -> None:
    browser.show(many, 1280)
    link = "document.querySelector('.pointers a[href^=\"letters-0002\"]')"
    number = browser.run(f"{link}.hash.slice(8)")
    browser.follow(link)
    await_frames(browser, 1)
    assert browser.run("document.querySelector('iframe').closest('details').id") == f"letter-{number}"
    browser.follow("document.querySelector('[rel=prev]')")
    assert browser.run("document.querySelector('h2').textContent") == "Letters 1 to 250"


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
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.show(founding, 1280)
        root = browser.call("DOM.getDocument")["root"]["nodeId"]
        for selector, count in ((".letter", 204), (".letter .html *", 0), ("#as-text:not([hidden])", 1)):
            found = browser.call("DOM.querySelectorAll", nodeId=root, selector=selector)
            assert len(found["nodeIds"]) == count
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
