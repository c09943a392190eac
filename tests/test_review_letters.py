"""Letters on the page: found, filtered, put in order and paged; one as mail, text, paper, source, beside the others."""

import email
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from email import policy
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from dispatcher.desk import Desk
from dispatcher.desk.catalogue import FIELD, PLAN, STATE, Catalogues, Query
from dispatcher.desk.clock import SystemClock
from dispatcher.desk.purging import purge, purgeable
from dispatcher.ledgers.statements import SQL
from tests import review_page
from tests.browser import MISSING, USABLE
from tests.command import captured, dispatcher, edit, new_campaign, read_list, write_list
from tests.review_page import Review, opened

pytestmark = pytest.mark.skipif(not USABLE, reason=MISSING)
MISSIONS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seventy letters, one of them on paper, one to a name that runs from right to left; rehearsed."""
    every = [row["key"] for row in read_list(Path(), "un_missions.csv")[1]][:MISSIONS]
    root = new_campaign(tmp_path_factory.mktemp("letters"), [*every, "KHM", "NIC", "FRA", "GBR", "fidh", "hrw"])
    columns, rows = read_list(root, "ngos.csv")
    rows[0] = {**rows[0], "name": "اتحاد حقوق الإنسان"}
    write_list(root, "ngos.csv", [*columns, "channel"], [{**row, "channel": "mail"} for row in rows])
    columns, rows = read_list(root, "un_missions.csv")
    said = [{**row, "channel": "paper" if row["key"] == "GBR" else "mail"} for row in rows]
    write_list(root, "un_missions.csv", [*columns, "channel"], said)
    done = dispatcher("send", "--sandbox", folder=root)
    assert done.code in (0, 3), done.all
    return root


@pytest.fixture(scope="module")
def review(folder: Path) -> Iterator[Review]:
    with review_page.review(folder, "--sandbox") as found:
        yield found


def keys(page: Page) -> list[str]:
    return page.locator("#found th[scope=row]").all_inner_texts()


def number(folder: Path, key: str) -> int:
    with sqlite3.connect(folder / ".dispatcher" / "sandbox" / "ledger.sqlite") as ledger:
        found: int = ledger.execute("SELECT id FROM letter WHERE key = ?", (key,)).fetchone()[0]
    ledger.close()
    return found


def test_what_stands_out_comes_first_with_the_reason(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        page = window.open("/letters")
        rows = page.locator("#found tbody tr")
        first = keys(page)
        assert {"KHM", "hrw"} <= set(first[:9])
        why = [bool(text.strip()) for text in page.locator("#found .why").all_inner_texts()]
        assert why == sorted(why, reverse=True)
        assert "right-to-left" in rows.nth(first.index("fidh")).inner_text()
        assert "unlike most in its language" in rows.nth(first.index("KHM")).inner_text()


@pytest.mark.parametrize("scripts", [True, False])
def test_search_as_you_type_and_by_a_button(browser: Browser, review: Review, scripts: bool) -> None:
    with opened(browser, review, scripts=scripts) as window:
        page = window.open("/letters")
        page.get_by_label("Find").fill("FRANCE mission")
        if not scripts:
            page.get_by_role("button", name="Show").click()
        page.locator("#found tbody tr").nth(1).wait_for(state="detached")
        assert keys(page) == ["FRA"]
        assert page.locator(".sum").inner_text().startswith("1 letter of")
        page.wait_for_url("**q=FRANCE*")
        if scripts:
            assert page.evaluate("document.activeElement.name") == "q"
            assert page.locator("#told").inner_text() == page.locator(".sum").inner_text()


def test_any_column_filters_and_gives_the_order(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        page = window.open("/letters?column=field:group&value=grulac&order=field:m49&down=1")
        rows = page.locator("#found tbody tr").all_inner_texts()
        assert rows
        assert all("GRULAC" in row for row in rows)
        assert page.locator("#found thead").inner_text().count("m49") == 1
        codes = [int(re.findall(r"\n?\b(\d{1,3})\b", row)[0]) for row in rows]
        assert codes == sorted(codes, reverse=True)
        assert page.get_by_label("from the end").is_checked()


def test_pages_by_key_there_and_back(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        page = window.open("/letters?order=plan")
        first = keys(page)
        assert len(first) == 50
        page.get_by_role("link", name="Next").click()
        second = keys(page)
        assert second
        assert not set(first) & set(second)
        page.get_by_role("link", name="Before").click()
        assert keys(page) == first


def test_arrow_keys_turn_letters_in_the_order_of_the_list(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        page = window.open("/letters?order=key&column=language&value=fr")
        listed = keys(page)
        page.locator("#found tbody a").nth(1).click()
        assert page.locator("h1 bdi").inner_text() == listed[1]
        for key, turned_to in (("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0)):
            page.wait_for_load_state()
            page.keyboard.press(key)
            page.get_by_role("heading", name=listed[turned_to], level=1).wait_for()
        page.get_by_role("link", name="All letters").click()
        assert keys(page) == listed


def test_a_letter_is_shown_as_it_left(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open(f"/letters/{number(folder, 'FRA')}")
        frame = page.frame_locator("iframe")
        assert "la délégation de la France" in frame.locator("body").inner_text()
        assert page.locator("iframe").get_attribute("sandbox") == ""
        sent = next(m for m in map(_message, captured(folder)) if "fra@" in str(m["To"]))
        assert page.locator(".both pre").inner_text().split() == _plain(sent).split()
        assert page.locator("dd").first.inner_text() == sent["Subject"]
        with page.expect_download() as kept:
            page.get_by_role("link", name="KMS").click()
        attached = next(iter(sent.iter_attachments()))
        assert kept.value.suggested_filename == attached.get_filename()
        assert kept.value.path().read_bytes() == attached.get_content()


def _message(octets: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(octets, policy=policy.default)


def _plain(message: email.message.EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body
    return str(body.get_content())


def test_the_source_is_what_left_octet_for_octet(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open(f"/letters/{number(folder, 'FRA')}?view=source")
        sent = next(m for m in captured(folder) if b"fra@" in m)
        assert page.locator("main pre").first.inner_text().split() == sent.split(b"\r\n\r\n")[0].decode().split()
        with page.expect_download() as kept:
            page.get_by_role("link", name="Keep as a file").click()
        assert kept.value.path().read_bytes() == sent


def test_what_differs_from_the_typical_letter(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open(f"/letters/{number(folder, 'FRA')}?view=compared")
        assert "la France" in page.locator("pre ins").all_inner_texts()
        page.get_by_role("link", name="Look at it").click()
        page.get_by_role("link", name="Compared").click()
        assert page.locator("pre ins, pre del").count() == 0


@pytest.mark.parametrize("key", ["GBR", "FRA"])
def test_the_page_on_paper_also_of_a_letter_by_mail(browser: Browser, review: Review, folder: Path, key: str) -> None:
    with opened(browser, review) as window:
        page = window.open(f"/letters/{number(folder, key)}?view=paper")
        picture = page.locator(".sheets img").first
        assert picture.evaluate("async e => { await e.decode(); return e.naturalWidth }") > 800
        with page.expect_download() as kept:
            page.get_by_role("link", name="Keep as PDF").click()
        assert kept.value.path().read_bytes().startswith(b"%PDF")


def test_a_letter_for_paper_has_text_and_html_but_no_source(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open(f"/letters/{number(folder, 'GBR')}")
        assert "to print" in page.locator("h1").inner_text()
        assert "United Kingdom" in page.locator(".both pre").inner_text()
        assert "United Kingdom" in page.frame_locator("iframe").locator("body").inner_text()
        page.get_by_role("link", name="Source").click()
        assert "goes on paper" in page.locator("main").inner_text()


def test_a_letters_story(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open("/letter?key=FRA")
        assert page.url.endswith(f"/letters/{number(folder, 'FRA')}")
        told = page.locator(".story").inner_text()
        assert "accepted" in told
        assert re.search(r"250 2\.0\.0 captured as \d{5}", told)


def test_a_key_that_is_not_there_is_said_with_the_nearest_and_in_its_language(browser: Browser, review: Review) -> None:
    """The page is French; what the desk says of it is English, and marked so."""
    context = browser.new_context(locale="fr-FR")
    page = context.new_page()
    page.goto(review.link)
    answer = page.goto(f"{review.origin}/letter?key=FRO")
    assert answer
    assert answer.status == 404
    assert page.locator("html").get_attribute("lang") == "fr"
    assert page.locator("h1").inner_text() == "Cette page n’existe pas"
    said = page.locator("p[lang=en]").all_inner_texts()
    assert said
    assert "FRO" in said[0]
    context.close()


@pytest.mark.parametrize("address", ["/letters/999999", "/letters/1/page/99", "/letters/1/attachment/ffff", "/nothing"])
def test_what_is_not_there_is_said(browser: Browser, review: Review, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(review.link)
    answer = page.goto(review.origin + address)
    assert answer
    assert answer.status == 404
    assert page.locator("h1").inner_text() == "There is no such page"
    context.close()


def test_letters_in_the_order_of_where_they_stand(folder: Path) -> None:
    catalogues = Catalogues(Desk(folder, sandbox=True))
    catalogue, matches = catalogues.find(Query(order=STATE))
    listed = catalogues.listed(catalogue, matches.after(None, 99).numbers)
    assert [one.state for one in listed] == ["accepted"] * (len(listed) - 1) + ["to_print"]
    assert listed[-1].columns["key"] == "GBR"


def test_what_a_search_finds_is_read_anew_when_the_ledger_was_written_to(tmp_path: Path) -> None:
    root = new_campaign(tmp_path / "c")
    done = dispatcher("send", "--sandbox", "--confirm", "6", folder=root)
    assert done.code == 0, done.all
    catalogues = Catalogues(Desk(root, sandbox=True))
    assert len(catalogues.find(Query(state="accepted"))[1]) == 6
    edit(root / "templates" / "upr_submission" / "letter.fr.md", "nous ", "nous tous ")
    write_list(root, "ngos.csv", *_with_another(root))
    done = dispatcher("amend", "--sandbox", folder=root)
    assert done.code == 0, done.all
    assert len(catalogues.find(Query(order=PLAN))[1]) == 7
    assert len(catalogues.find(Query(state="waiting"))[1]) == 1
    assert len(catalogues.find(Query(order=STATE, down=True))[1]) == 7
    catalogue, matches = catalogues.find(Query(words="another@"))
    assert [one.columns["key"] for one in catalogues.listed(catalogue, matches.after(None, 9).numbers)] == ["another"]
    assert FIELD + "group" in catalogue.columns


def _with_another(root: Path) -> tuple[list[str], list[dict[str, str]]]:
    columns, rows = read_list(root, "ngos.csv")
    return columns, [*rows, {**rows[0], "key": "another", "email": "another@ngos.example.org"}]


def test_of_a_purged_letter_the_facts_are_shown(browser: Browser, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "campaign"
    shutil.copytree(folder, root)
    with review_page.review(root, "--sandbox") as found, opened(browser, found) as window:
        page = window.open("/letters?q=France")
        assert keys(page) == ["FRA"]
        later = Desk(root, sandbox=True, clock=Later())
        count = sum(stale.letters for stale in purgeable(later, "2y").campaigns)
        purge(later, "2y", count)
        page = window.open("/letters?q=France")
        assert keys(page) == []
        page = window.open(f"/letters/{number(folder, 'FRA')}?view=source")
        assert "accepted" in page.locator("main").inner_text()
        assert "were removed" in page.locator(".notice").inner_text()
        assert "France" not in page.content()


class Later(SystemClock):
    def now(self) -> datetime:
        return super().now() + timedelta(days=2000)


def test_statements_of_the_page_find_letters_by_an_index(folder: Path) -> None:
    """No page looks through all letters for one: at 100,000 that would be seen. The catalogue reads all, and once."""
    file = folder / ".dispatcher" / "sandbox" / "ledger.sqlite"
    ledger = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    try:
        for name in ("standing_of", "sealed_letter", "id_of", "ids_by_state"):
            given = {**dict.fromkeys(re.findall(r":(\w+)", SQL[name]), 0), "ids": json.dumps([1])}
            plan = [row[3] for row in ledger.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", given)]
            assert not [step for step in plan if re.match(r"SCAN (l|s|letter|sealed)\b(?!.*INDEX)", step)], plan
    finally:
        ledger.close()
