"""The page with the worst that lists, templates and relays can bring: nothing runs, nothing is fetched, all is legible.

And every address of it for eyes of all kinds: light and dark, on a telephone and on a wide screen, by the keyboard
alone, without scripts, in three languages; axe-core finds nothing.
"""

import csv
import re
import socketserver
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route

from tests import review_page
from tests.browser import AXE, MISSING, USABLE
from tests.command import dispatcher, edit
from tests.review_page import NARROW, NO_AXE, WIDE, Review, opened
from tests.smtp_server import RESET, STORE, Action, Script, SmtpServer
from tests.test_preview import COLUMNS, HOSTILE, PLAIN, campaign
from tests.test_review_guard import routes

pytestmark = pytest.mark.skipif(not USABLE, reason=MISSING)
LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 12
ROWS = [
    *PLAIN,
    *(row for row in HOSTILE if row[0] != "../../k7"),
    ("../../k7", "g@bad.example", "]]>--><!--<svg onload=alert(1)>", "plain", "en", "\u2066a\u2069", "g", ""),
    ("k8?q=1&x=%2e#y", "h@bad.example", LONG, "plain", "en", LONG, "g", ""),
    ("k9", "i@bad.example", "اتحاد \u202e(حقوق) 12", "plain", "en", "{{ heading }}", "g", ""),
]
REPLY = 'nobody <script>alert(2)</script> \u202e"><img src=https://evil.example/x onerror=alert(3)> {{ 7*7 }} '
TAKEN: Action = (STORE, f"250 2.0.0 queued as <b>{REPLY}\r\n".encode())
WORST = """<meta http-equiv="refresh" content="0; url=https://evil.example/at-once">
<script>alert(4)</script><img src="https://evil.example/seen.png" alt="">
<link rel="stylesheet" href="https://evil.example/x.css"><form action="https://evil.example"><input name="a"></form>
<iframe src="https://evil.example/frame"></iframe><a id="out" href="https://evil.example/link" target="_top">out</a>
<p style="background: url(https://evil.example/back.png)" onclick="alert(5)">styled</p>"""
REFUSED = ("Content Security Policy", "sandboxed", "ERR_BLOCKED_BY_CSP", "Unsafe attempt to initiate navigation")
"""What a browser says of what it refuses to a letter in its frame."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A campaign of the worst, after a run against a relay that says the worst: every outcome there is."""
    root = tmp_path_factory.mktemp("hostile") / "c"
    campaign(root, ROWS)
    with (root / "list.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *ROWS])
    edit(root / "campaign.toml", "[letter]\n", '[letter]\noverlook = ["placeholder"]\n')
    rcpt: list[Action] = [
        b"250 ok\r\n",
        f"550 5.1.1 {REPLY}\r\n".encode(),
        f"450 4.2.1 {REPLY}\r\n".encode(),
        b"250 ok\r\n",
    ]
    with SmtpServer(Script(on={"RCPT": rcpt, "DOT": [TAKEN, (STORE, RESET), TAKEN]})) as server:
        there = f'port = {server.port}\nsecurity = "none"\n[pace]\nconnections = 1'
        edit(root / "campaign.toml", 'security = "none"', there)
        done = dispatcher("send", "--json", folder=root)
        count = str(done.json["letters"]) if done.code == 0 else ""
        assert count, done.all
        assert dispatcher("send", "--confirm", count, folder=root).code == 3
        yield root


@pytest.fixture(scope="module")
def review(folder: Path) -> Iterator[Review]:
    with review_page.review(folder) as found:
        yield found


@pytest.fixture(scope="module")
def addresses(folder: Path) -> list[str]:
    """Every page, and every view of every letter."""
    ledger = sqlite3.connect(folder / ".dispatcher" / "ledger.sqlite")
    numbers = [row[0] for row in ledger.execute("SELECT id FROM letter ORDER BY id")]
    ledger.close()
    views = ("", "?view=compared", "?view=paper", "?view=source")
    letters = [f"/letters/{number}{view}" for number in numbers for view in views]
    found = ["/", "/letters", "/letters?q=%3Cscript%3Ealert(1)%3C/script%3E", "/letters?order=field:post&down=1"]
    parts = [path for path in dict.fromkeys(routes(folder)) if re.fullmatch(r"/(log|settle)[a-z/]*", path)]
    return [*found, "/letters?q=nothing-like-it", *parts, "/nothing", *letters]


def test_nothing_runs_and_nothing_is_fetched(browser: Browser, review: Review, addresses: list[str]) -> None:
    with opened(browser, review) as window:
        for address in addresses:
            page = window.open(address)
            page.wait_for_load_state("networkidle")
            assert page.locator("main script, main base, main [onclick], main [onload]").count() == 0
            if address == "/nothing":
                window.faults[:] = [fault for fault in window.faults if "404" not in fault]
            assert window.faults == [], address
        assert not [request.url for request in window.requests if "evil.example" in request.url]
        referers = [request.headers.get("referer", "") for request in window.requests]
        assert not [referer for referer in referers if "token" in referer]
        assert len([request for request in window.requests if "token=" in request.url]) == 1


@contextmanager
def somewhere_else() -> Iterator[tuple[str, list[str]]]:
    """A server that must not be asked for anything: its address, and whoever came all the same."""
    came: list[str] = []

    class Asked(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            came.append(self.request.recv(1000).decode(errors="replace"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Asked) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", came
        finally:
            server.shutdown()
            thread.join()


def test_a_letter_that_would_do_the_worst_can_do_nothing(
    browser: Browser, review: Review, addresses: list[str]
) -> None:
    """No such letter is ever sealed; if one were, the frame and the policy that comes with it would hold it."""
    with somewhere_else() as (elsewhere, came), opened(browser, review) as window:

        def worst(route: Route) -> None:
            answer = route.fetch()
            there = WORST.replace("https://evil.example", elsewhere)
            route.fulfill(response=answer, body=answer.text().replace("</body>", f"{there}</body>"))

        window.context.route("**/html", worst)
        page = window.open(next(address for address in addresses if address.startswith("/letters/")))
        page.wait_for_load_state("networkidle")
        page.frame_locator("iframe").locator("#out").click()
        page.wait_for_load_state("networkidle")
        assert came == []
        assert page.url.startswith(review.origin)
        assert len(window.faults) > 3  # the browser says what it refuses
        window.faults[:] = [
            fault for fault in window.faults if not any(word in fault for word in (*REFUSED, elsewhere))
        ]


def test_hostile_texts_are_legible(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        shown = window.open("/letters?order=plan").locator("main").inner_text()
        for row in ROWS[4:]:
            if row[3] != "none":
                assert row[0].replace("\u202e", "\\u202e") in shown
        assert "\u202e" not in shown
        window.open("/letter?key=k8%3Fq%3D1%26x%3D%252e%23y")
        assert window.page.locator("h1 bdi").inner_text() == "k8?q=1&x=%2e#y"
        told = window.open("/log").locator("main").inner_text()
        assert "<script>alert(2)</script>" in told
        assert "\u202e" not in told
        assert "{{ 7*7 }}" in told


@pytest.mark.skipif(not AXE.exists(), reason=NO_AXE)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(
    browser: Browser, review: Review, addresses: list[str], size: tuple[int, int], dark: bool
) -> None:
    with opened(browser, review, size=size, dark=dark) as window:
        for address in [a for a in addresses if "/letters/" not in a] + addresses[-4:]:
            window.open(address)
            assert window.too_wide() == [], address
            assert window.violations() == [], address
        window.faults.clear()


@pytest.mark.parametrize("language", ["en", "fr", "es"])
def test_all_can_be_read_without_scripts(browser: Browser, review: Review, addresses: list[str], language: str) -> None:
    with opened(browser, review, scripts=False, language=language) as window:
        for address in [a for a in addresses if "/letters/" not in a] + addresses[-4:]:
            page = window.open(address)
            assert page.locator("html").get_attribute("lang") == language
            assert page.locator("main h1").inner_text()
        window.faults.clear()


def test_all_is_reached_by_the_keyboard(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        page = window.open("/letters")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()"))
        assert reached[:7] == ["q", "state", "column", "value", "order", "down", "Show"]
        assert page.evaluate("document.activeElement.closest('#found') !== null")
        page.keyboard.press("Enter")
        page.wait_for_url("**/letters/*")
        box = page.locator("nav a").first.evaluate("e => { e.focus(); return getComputedStyle(e).outlineStyle }")
        assert box == "solid"
