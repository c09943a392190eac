"""Log, in a browser: every attempt as it was, narrowed down by the address alone, and exactly that as a file."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import openpyxl
import pytest
from playwright.sync_api import Browser, Page, expect

from tests import review_page
from tests.browser import AXE, MISSING, USABLE
from tests.command import FEW, dispatcher, edit, new_campaign, read_list, use_server, write_list
from tests.review_page import NARROW, NO_AXE, WIDE, Review, opened
from tests.smtp_server import RESET, STORE, Action, Script, SmtpServer

pytestmark = pytest.mark.skipif(not USABLE, reason=MISSING)
SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(2)>'
REFUSED = f"550 5.1.1 {SCRIPT} \u202eevil =HYPERLINK(1)"
LATER = "450-4.2.2 the mailbox is full\r\n450 4.2.2 {{ 7*7 }} javascript:alert(3)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A campaign after two runs, with every outcome; names and replies as nobody would want them."""
    root = new_campaign(tmp_path_factory.mktemp("log"), FEW)
    edit(root / "campaign.toml", "connections = 4", "connections = 1")
    columns, rows = read_list(root, "ngos.csv")
    write_list(root, "ngos.csv", columns, [{**row, "name": SCRIPT + IMAGE} for row in rows])
    taken = (STORE, f"250 2.0.0 Ok: queued as ABCD1234 {IMAGE}\r\n".encode())
    rcpt: list[Action] = [b"250 ok\r\n", f"{REFUSED}\r\n".encode(), f"{LATER}\r\n".encode(), b"250 ok\r\n"]
    with SmtpServer(Script(on={"RCPT": rcpt, "DOT": [taken, (STORE, RESET), taken]})) as server:
        use_server(root, server)
        assert dispatcher("send", "--confirm", "6", folder=root).code == 3
        yield root


@pytest.fixture(scope="module")
def review(folder: Path) -> Iterator[Review]:
    with review_page.review(folder) as found:
        yield found


def rows_of(page: Page) -> list[str]:
    return page.locator("table.attempts tbody tr").all_inner_texts()


def logged(folder: Path, *words: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = dispatcher("log", "--attempts", *words, "--json", folder=folder).json["rows"]
    return found


@pytest.mark.parametrize("scripts", [True, False])
def test_every_attempt_is_there_the_newest_first(browser: Browser, review: Review, folder: Path, scripts: bool) -> None:
    with opened(browser, review, scripts=scripts) as window:
        window.page.locator("nav").get_by_role("link", name="Log").click()
        window.page.wait_for_url("**/log")
        shown, there = rows_of(window.page), logged(folder)
        assert len(shown) == len(there) == 6
        for text, row in zip(shown, there, strict=True):
            assert row["at"][:10] in text
            assert row["key"] in text
            assert row["outcome"] in text
            assert row["meaning"] in text
            assert row["relay"] in text
        assert "6 attempts" in window.page.locator("main").inner_text()


def test_what_others_wrote_is_shown_as_it_came_and_does_nothing(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        page = window.open("/log")
        replies = page.locator(".verbatim").all_inner_texts()
        assert f"5.1.1 {SCRIPT} \\u202eevil =HYPERLINK(1)" in replies
        assert "4.2.2 the mailbox is full\n4.2.2 {{ 7*7 }} javascript:alert(3)" in replies
        assert any(IMAGE in reply for reply in replies)
        assert SCRIPT + IMAGE in page.locator("table.attempts").inner_text()
        assert page.locator("main script, main img").count() == 0


def test_filters_stand_in_the_address(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review, scripts=False) as window:
        page = window.open("/log")
        page.get_by_label("Outcome").select_option("failed")
        page.get_by_label("Reply code").fill("5.1")
        page.get_by_role("button", name="Narrow down").click()
        page.wait_for_url("**outcome=failed**")
        assert len(rows_of(page)) == 1
        assert "the mailbox does not exist there" in rows_of(page)[0]
        address = page.url
        page.get_by_role("link", name="Show all").click()
        page.wait_for_url("**/log")
        assert len(rows_of(page)) == 6
        page.goto(address)
        assert len(rows_of(page)) == 1
        assert page.get_by_label("Reply code").input_value() == "5.1"
        assert page.get_by_label("Outcome").input_value() == "failed"


def test_what_is_typed_narrows_the_log_down_at_once(browser: Browser, review: Review) -> None:
    """Without a button; the address says the same, and what is half a filter changes nothing."""
    with opened(browser, review) as window:
        page = window.open("/log")
        page.get_by_label("Outcome").select_option("failed")
        expect(page.locator("table.attempts tbody tr")).to_have_count(1)
        page.wait_for_url("**outcome=failed**")
        expect(page.locator("#told")).to_have_text("1 attempt")
        with page.expect_response(lambda answer: "since=2009-1" in answer.url):
            page.get_by_label("Since (UTC)").press_sequentially("2009-1")
        expect(page.locator("table.attempts tbody tr")).to_have_count(1)
        window.faults[:] = [fault for fault in window.faults if "400" not in fault]
        page.get_by_label("Since (UTC)").fill("")
        page.get_by_role("link", name="Show all").click()
        expect(page.locator("table.attempts tbody tr")).to_have_count(6)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"outcome": "unknown"}, ["--outcome", "unknown"]),
        ({"phase": "rcpt"}, ["--phase", "rcpt"]),
        ({"code": "4"}, ["--code", "4"]),
        ({"run": "1", "order": "oldest"}, ["--run", "1", "--oldest-first"]),
        ({"text": "MISSIONS.example"}, ["--recipient", "missions.example"]),
        ({"since": "2001-01-01", "until": "2001-01-02"}, ["--since", "2001-01-01", "--until", "2001-01-02"]),
    ],
)
def test_the_page_and_the_command_line_find_the_same(
    browser: Browser, review: Review, folder: Path, asked: dict[str, str], words: list[str]
) -> None:
    with opened(browser, review, scripts=False) as window:
        page = window.open(f"/log?{urlencode(asked)}")
        keys = page.locator("table.attempts tbody th a").all_inner_texts()
        assert keys == [row["key"] for row in logged(folder, *words)]


def test_what_cannot_be_looked_for_is_said_and_stays_in_its_field(browser: Browser, review: Review) -> None:
    with opened(browser, review, scripts=False) as window:
        page = window.open("/log?code=9%22%3E%3Cimg%20src%3Dx%3E&since=yesterday")
        assert "is no reply code" in page.get_by_role("alert").first.inner_text()
        assert page.get_by_label("Reply code").input_value() == '9"><img src=x>'
        window.faults[:] = [fault for fault in window.faults if "400" not in fault]


@pytest.mark.parametrize("query", ["", "?outcome=failed", "?order=oldest&code=4"])
def test_a_file_holds_exactly_what_is_shown(browser: Browser, review: Review, query: str) -> None:
    """Keys, replies and times in the page's order, in each form."""
    with opened(browser, review) as window:
        page = window.open(f"/log{query}")
        keys = page.locator("table.attempts tbody th a").all_inner_texts()
        times = page.locator("table.attempts time").evaluate_all("all => all.map(one => one.dateTime)")

        def saved(name: str) -> bytes:
            with page.expect_download() as waiting:
                page.locator(".exports").get_by_role("link", name=name).click()
            assert waiting.value.suggested_filename.startswith("upr-cambodia-2009-log.")
            return Path(waiting.value.path()).read_bytes()

        lines = [json.loads(line) for line in saved("JSON lines").decode().splitlines()]
        assert [(row["key"], row["at"]) for row in lines] == list(zip(keys, times, strict=True))
        read = list(csv.DictReader(io.StringIO(saved("CSV").decode(), newline="")))
        assert [(row["key"], row["at"]) for row in read] == list(zip(keys, times, strict=True))
        (sheet,) = openpyxl.load_workbook(io.BytesIO(saved("XLSX")))
        heading, *cells = [[cell.value for cell in row] for row in sheet.iter_rows()]
        rows = [dict(zip(heading, row, strict=True)) for row in cells]
        assert [(row["key"], row["at"]) for row in rows] == list(zip(keys, times, strict=True))
        assert [row["reply"] for row in rows] == [row["reply"] or None for row in lines]


def test_there_is_no_other_form_of_a_file(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        assert window.page.request.get(f"{review.origin}/log/export.exe").status == 404
        assert window.page.request.get(f"{review.origin}/log/export.csv?run=x").status == 409


@pytest.mark.skipif(not AXE.is_file(), reason=NO_AXE)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("language", ["en", "fr", "es"])
def test_the_log_is_for_everybody(
    browser: Browser, review: Review, dark: bool, size: tuple[int, int], language: str
) -> None:
    with opened(browser, review, dark=dark, size=size, language=language) as window:
        page = window.open("/log")
        page.locator("details summary").first.click()
        assert window.violations() == []
        assert window.too_wide() == []
