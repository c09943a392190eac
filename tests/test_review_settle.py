"""To settle, in a browser: the evidence, the choices, each with a why; nothing is decided twice, or lost."""

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from dispatcher.desk import Desk
from dispatcher.desk.clock import SystemClock
from dispatcher.desk.purging import purge
from dispatcher.ledgers.state import VARIABLE
from tests import review_page
from tests.browser import AXE, MISSING, USABLE
from tests.command import FEW, dispatcher, edit, new_campaign, read_list, use_server, write_list
from tests.review_page import NARROW, NO_AXE, WIDE, Review, Watched, opened
from tests.smtp_server import RESET, STORE, Action, Script, SmtpServer

pytestmark = pytest.mark.skipif(not USABLE, reason=MISSING)
SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(2)>'
PARTS = ("campaign", "state")
PAGES = ("/settle", "/settle/printed", "/settle/skipped", "/settle/suppressed")


class Later(SystemClock):
    """A clock that is a year ahead."""

    def now(self) -> datetime:
        return super().now() + timedelta(days=365)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three letters unknown, two printed, one row left out as a duplicate. Made once, and kept beside itself."""
    there = tmp_path_factory.mktemp("settle")
    (there / "state").mkdir()
    root = new_campaign(there / "campaign", FEW)
    edit(root / "campaign.toml", "connections = 4", "connections = 1")
    edit(root / "campaign.toml", 'on_duplicate = "refuse"', 'on_duplicate = "first"')
    columns, rows = read_list(root, "un_missions.csv")
    printed = {"GBR": "paper", "BHR": "paper"}
    rows = [{**row, "channel": printed.get(row["key"], "mail")} for row in rows]
    rows = [{**row, "name": SCRIPT + IMAGE} if row["key"] in ("FRA", "BHR") else row for row in rows]
    write_list(root, "un_missions.csv", [*columns, "channel"], rows)
    columns, rows = read_list(root, "ngos.csv")
    named = [{**row, "name": SCRIPT + IMAGE} for row in rows]
    write_list(root, "ngos.csv", columns, [*named, {**named[0], "key": "twice"}])
    lost: Action = (STORE, RESET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(there / "state"))
        with SmtpServer(Script(on={"DOT": [lost, lost, lost, (STORE, b"250 2.0.0 ok\r\n")]})) as server:
            use_server(root, server)
            assert dispatcher("send", "--confirm", "4", folder=root).code == 3
        assert dispatcher("paper", folder=root).code == 0
        for part in PARTS:
            shutil.copytree(there / part, there / "kept" / part)
        yield there


@pytest.fixture
def folder(made: Path) -> Path:
    """The campaign as it was made, at the same place, with what the machine remembers of it."""
    for part in PARTS:
        shutil.rmtree(made / part)
        shutil.copytree(made / "kept" / part, made / part)
    return made / "campaign"


@pytest.fixture
def review(folder: Path) -> Iterator[Review]:
    with review_page.review(folder) as found:
        yield found


def states(folder: Path) -> dict[str, str]:
    return dict(query(folder, "SELECT key, state FROM letter"))


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / ".dispatcher/ledger.sqlite")) as connection:
        return connection.execute(sql).fetchall()


def events(folder: Path) -> list[tuple[Any, ...]]:
    kinds = "'resolved', 'suppressed', 'unsuppressed', 'posted', 'thrown away'"
    return query(folder, f"SELECT kind, subject, who, why FROM event WHERE kind IN ({kinds}) ORDER BY id")


def count(page: Page) -> str:
    """What the navigation says is to settle."""
    shown = page.locator("header nav .count")
    return shown.inner_text() if shown.count() else ""


def card(page: Page, key: str) -> Locator:
    return page.locator("article", has=page.get_by_role("heading", name=re.compile(rf"^{key}\b")))


def press(button: Locator) -> None:
    """Post its form, and wait for the page that comes of it."""
    with button.page.expect_navigation(wait_until="load"):
        button.click()


def decide(page: Page, key: str, choice: str, why: str) -> None:
    card(page, key).get_by_label(choice).check()
    card(page, key).get_by_label("How you know").fill(why)
    press(card(page, key).get_by_role("button", name="Record"))


def excused(window: Watched, *codes: str) -> None:
    """A refusal's status, which the browser also tells on its console."""
    window.faults[:] = [fault for fault in window.faults if not any(f"status of {code}" in fault for code in codes)]


@pytest.mark.parametrize("scripts", [True, False])
def test_an_unknown_letter_is_shown_with_its_evidence(browser: Browser, review: Review, scripts: bool) -> None:
    with opened(browser, review, scripts=scripts) as window:
        page = window.page
        assert count(page) == "5", "three unknown, two printed"
        page.get_by_role("link", name="To settle").click()
        page.wait_for_url("**/settle")
        said = page.locator("article").first.inner_text()
        for text in (
            "KHM",
            "the connection was lost",
            "after the whole letter",
            "127.0.0.1:",
            "octets",
            "SHA-256",
            "in order",
        ):
            assert text in said
        assert page.locator("article").count() == 3


def test_an_unknown_letter_leads_to_its_place_here(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        window.open("/letter?key=ESP").get_by_role("link", name="Say what became of it").click()
        window.page.wait_for_url("**/settle?after=*")
        assert "ESP" in window.page.locator("article h2").first.inner_text()


def test_names_of_others_are_shown_as_they_are_and_do_nothing(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        for address in ("/settle", "/settle/printed"):
            page = window.open(address)
            assert SCRIPT + IMAGE in page.locator("main").inner_text()
            assert page.locator("main script, main img").count() == 0


@pytest.mark.parametrize("scripts", [True, False])
def test_each_choice_is_recorded_with_who_and_why(
    browser: Browser, review: Review, folder: Path, scripts: bool
) -> None:
    with opened(browser, review, scripts=scripts) as window:
        page = window.open("/settle")
        decide(page, "ESP", "It arrived", f"they telephoned {IMAGE}")
        assert f"they telephoned {IMAGE}" in page.get_by_role("status").inner_text()
        assert re.search(r"/settle\?recorded=\d+$", page.url)
        decide(page, "FRA", "It did not arrive", "not in the relay's log")
        decide(page, "KHM", "Send it again", "not in the relay's log either")
        assert "No letter is unknown" in page.locator("main").inner_text()
        assert count(page) == "2"
        shown = page.locator(".lately li").all_inner_texts()
        assert len(shown) == 3
        assert "keeper" in shown[0]
    assert {k: s for k, s in states(folder).items() if k in ("ESP", "FRA", "KHM")} == {
        "ESP": "accepted",
        "FRA": "failed",
        "KHM": "ready",
    }
    assert events(folder) == [
        ("resolved", "accepted", "keeper", f"they telephoned {IMAGE}"),
        ("resolved", "failed", "keeper", "not in the relay's log"),
        ("resolved", "ready", "keeper", "not in the relay's log either"),
    ]


def test_loading_the_page_once_more_decides_nothing(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open("/settle")
        decide(page, "ESP", "It arrived", "they telephoned")
        page.reload()
        assert "they telephoned" in page.get_by_role("status").inner_text()
        page.go_back()
        page.reload()
        assert len(events(folder)) == 1


def test_a_page_that_is_out_of_date_decides_nothing(browser: Browser, review: Review, folder: Path) -> None:
    """Somebody was quicker: what they said stands, though a failed letter might be sent again by another page."""
    with opened(browser, review) as window:
        page = window.open("/settle")
        done = dispatcher("resolve", "ESP", "--as", "failed", "--why", "bounced", folder=folder)
        assert done.code == 0, done.all
        decide(page, "ESP", "Send it again", "I want it so")
        alert = page.get_by_role("alert").inner_text()
        assert "letter ESP is no longer as you saw it: it is failed now" in alert
        assert "You wrote: I want it so" in alert
        excused(window, "409")
    assert states(folder)["ESP"] == "failed"
    assert len(events(folder)) == 1


def test_a_page_about_an_earlier_attempt_decides_nothing(browser: Browser, review: Review, folder: Path) -> None:
    """Sent again, and unknown again: that is another outcome than the one that was looked at."""
    with opened(browser, review) as window:
        page = window.open("/settle")
        for key in ("ESP", "FRA", "KHM"):
            assert dispatcher("resolve", key, "--as", "resend", "--why", "lost", folder=folder).code == 0
        with SmtpServer(Script(on={"DOT": (STORE, RESET)})) as server:
            use_server(folder, server)
            assert dispatcher("send", "--confirm", "3", folder=folder).code == 3
        assert states(folder)["ESP"] == "unknown"
        decide(page, "ESP", "It arrived", "they have the first one")
        assert "no longer as you saw it" in page.get_by_role("alert").inner_text()
        excused(window, "409")
        assert states(folder)["ESP"] == "unknown"
        decide(page, "ESP", "It arrived", "they have the second one")
        assert states(folder)["ESP"] == "accepted", "the page that refused shows what is true now"


def test_a_decision_wants_a_choice_and_a_why(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open("/settle")
        page.get_by_role("button", name="Record").first.click()
        assert page.url.endswith("/settle"), "the browser asks for them itself"
        page.locator("form[method=post]").evaluate_all("all => all.forEach(one => { one.noValidate = true; })")
        decide(page, "ESP", "It arrived", "   ")
        assert "there is no why" in page.get_by_role("alert").inner_text()
        assert card(page, "ESP").get_by_label("It arrived").is_checked(), "the choice is still there"
        page.locator("form[method=post]").evaluate_all("all => all.forEach(one => { one.noValidate = true; })")
        card(page, "FRA").get_by_label("How you know").fill("they telephoned")
        press(card(page, "FRA").get_by_role("button", name="Record"))
        assert "nothing was chosen" in page.get_by_role("alert").inner_text()
        expect(card(page, "FRA").get_by_label("How you know")).to_have_value("they telephoned")
        excused(window, "409")
    assert events(folder) == []


def test_while_a_run_holds_the_ledger_nothing_is_lost(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window, Desk(folder).ledger():
        page = window.open("/settle")
        decide(page, "FRA", "It did not arrive", "the registry has nothing")
        assert "A run holds the ledger, so nothing was recorded" in page.get_by_role("alert").inner_text()
        expect(card(page, "FRA").get_by_label("How you know")).to_have_value("the registry has nothing")
        assert card(page, "FRA").get_by_label("It did not arrive").is_checked()
        excused(window, "409")
        assert states(folder)["FRA"] == "unknown"
    with opened(browser, review) as window:
        page = window.open("/settle")
        decide(page, "FRA", "It did not arrive", "the registry has nothing")
    assert states(folder)["FRA"] == "failed"


def test_who_has_no_form_of_this_session_decides_nothing(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        form = {"letter": "ESP", "seen": "1", "decision": "accepted", "why": "so"}
        headers = {"origin": review.origin}
        for token in ("", "x" * 64):
            given: dict[str, str | float | bool] = {**form, "token": token}
            answer = window.page.request.post(f"{review.origin}/settle", form=given, headers=headers)
            assert answer.status == 403
        assert window.page.request.get(f"{review.origin}/settle?{urlencode(form)}").status == 200
    assert events(folder) == []


def test_what_no_form_of_ours_says_decides_nothing(browser: Browser, review: Review, folder: Path) -> None:
    """Another button, or a why that nobody would read; what was typed is still there."""
    ((printed,),) = query(folder, "SELECT min(id) FROM letter WHERE state = 'printed'")
    posts: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("/settle", {"letter": "ESP", "seen": "1"}, {"decision": "failed"}),
        ("/settle/printed", {f"letter-{printed}": "on", "day": "2026-01-02"}, {"act": "posted"}),
        ("/settle/suppressed", {"addresses": "desk@ngo.example"}, {"act": "add"}),
    ]
    with opened(browser, review) as window:
        token = window.open("/settle").locator("input[name=token]").first.get_attribute("value") or ""
        for path, what, said in posts:
            for more in ({"why": "so"}, {**dict.fromkeys(said, "burnt"), "why": "so"}, {**said, "why": "x" * 2001}):
                form: dict[str, str | float | bool] = {**what, **more, "token": token}
                headers = {"origin": review.origin}
                answer = window.page.request.post(f"{review.origin}{path}", form=form, headers=headers)
                assert answer.status == 409, (path, more)
    assert events(folder) == []


# Printed letters


def test_printed_letters_are_posted_or_thrown_away(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open("/settle/printed")
        page.get_by_label(re.compile("GBR")).check()
        page.get_by_label("How you know").fill("handed in at the counter")
        press(page.get_by_role("button", name="They are in the post"))
        assert "handed in at the counter" in page.get_by_role("status").inner_text()
        assert states(folder)["GBR"] == "posted"
        assert states(folder)["BHR"] == "printed"
        page.get_by_label("all that are printed: 1 letter").check()
        page.get_by_label("How you know").fill("the date was wrong")
        press(page.get_by_role("button", name="They were thrown away"))
        assert "No letter is printed and not posted" in page.locator("main").inner_text()
    assert states(folder)["BHR"] == "to_print"


def test_sheets_that_others_spoke_of_meanwhile_are_left_alone(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open("/settle/printed")
        done = dispatcher("paper", "--thrown-away", "--why", "wet", "--only", 'key == "GBR"', folder=folder)
        assert done.code == 0, done.all
        page.get_by_label("all that are printed: 2 letters").check()
        page.get_by_label("How you know").fill("posted")
        press(page.get_by_role("button", name="They are in the post"))
        assert "other letters are printed now than you saw" in page.get_by_role("alert").inner_text()
        expect(page.get_by_label("How you know")).to_have_value("posted")
        page.get_by_label("those marked above").check()
        press(page.get_by_role("button", name="They are in the post"))
        assert "no letter was marked" in page.get_by_role("alert").inner_text()
        excused(window, "409")
    assert states(folder)["BHR"] == "printed"


def test_all_that_are_printed_are_those_that_were_seen_and_not_as_many_others(
    browser: Browser, review: Review, folder: Path
) -> None:
    def paper(*words: str) -> None:
        done = dispatcher("paper", *words, folder=folder)
        assert done.code == 0, done.all

    paper("--thrown-away", "--why", "wet", "--only", 'key == "GBR"')
    with opened(browser, review) as window:
        page = window.open("/settle/printed")
        paper("--thrown-away", "--why", "wet", "--only", 'key == "BHR"')
        paper("--only", 'key == "GBR"')
        page.get_by_label("all that are printed: 1 letter").check()
        page.get_by_label("How you know").fill("posted")
        press(page.get_by_role("button", name="They are in the post"))
        assert "other letters are printed now than you saw" in page.get_by_role("alert").inner_text()
        excused(window, "409")
    assert states(folder)["GBR"] == "printed"


def test_a_marked_sheet_that_is_printed_no_more_stops_all(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open("/settle/printed")
        assert dispatcher("paper", "--thrown-away", "--why", "wet", "--only", 'key == "GBR"', folder=folder).code == 0
        page.get_by_label(re.compile("GBR")).check()
        page.get_by_label(re.compile("BHR")).check()
        page.get_by_label("How you know").fill("posted")
        press(page.get_by_role("button", name="They are in the post"))
        assert "letter GBR is not printed" in page.get_by_role("alert").inner_text()
        expect(page.get_by_label(re.compile("BHR"))).to_be_checked()
        excused(window, "409")
    assert states(folder)["BHR"] == "printed"


# Rows without a letter


def test_a_row_without_a_letter_says_where_that_is_decided(browser: Browser, review: Review) -> None:
    with opened(browser, review, scripts=False) as window:
        page = window.open("/settle/skipped")
        said = page.locator("main").inner_text()
        for text in ('on_duplicate = "each"', "dispatcher check", "dispatcher amend", "twice", "recipients/ngos.csv:3"):
            assert text in said
        assert page.locator("main form").count() == 0
        page.get_by_role("link", name="Only these").click()
        page.wait_for_url("**reason=duplicate")
        assert page.locator("tbody tr").count() == 1


# Suppressed addresses


def test_addresses_are_suppressed_and_lifted(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open("/settle/suppressed")
        page.get_by_label("Addresses, a line each").fill("desk@ngo.example\n@closed.example\n")
        page.get_by_label("Why: for the record").first.fill(f"asked to be taken off {SCRIPT}")
        press(page.get_by_role("button", name="Suppress", exact=True))
        assert f"asked to be taken off {SCRIPT}" in page.get_by_role("status").inner_text()
        rows = page.locator(".suppressed-addresses tbody tr")
        assert rows.count() == 2
        row = rows.filter(has_text="desk@ngo.example")
        row.locator("summary").click()
        row.get_by_label("Why: for the record").fill("added by mistake")
        press(row.get_by_role("button"))
        assert "suppression lifted" in page.get_by_role("status").inner_text()
        assert rows.count() == 1
    assert [(kind, subject, who) for kind, subject, who, _ in events(folder)] == [
        ("suppressed", "desk@ngo.example", "keeper"),
        ("suppressed", "@closed.example", "keeper"),
        ("unsuppressed", "desk@ngo.example", "keeper"),
    ]


def test_suppressing_goes_on_beside_a_run(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window, Desk(folder).ledger():
        page = window.open("/settle/suppressed")
        page.get_by_label("Addresses, a line each").fill("desk@ngo.example")
        page.get_by_label("Why: for the record").first.fill("asked")
        press(page.get_by_role("button", name="Suppress", exact=True))
        assert "asked" in page.get_by_role("status").inner_text()
    assert len(events(folder)) == 1


def test_what_cannot_be_suppressed_or_lifted_stays_in_the_form(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review) as window:
        page = window.open("/settle/suppressed")

        def suppress(addresses: str, why: str) -> None:
            page.get_by_label("Addresses, a line each").fill(addresses)
            page.get_by_label("Why: for the record").first.fill(why)
            press(page.get_by_role("button", name="Suppress", exact=True))

        suppress(f"no address {IMAGE}", "asked")
        assert page.get_by_role("alert").is_visible()
        expect(page.get_by_label("Addresses, a line each")).to_have_value(f"no address {IMAGE}")
        expect(page.get_by_label("Why: for the record").first).to_have_value("asked")
        suppress("desk@ngo.example", "asked")
        suppress("desk@ngo.example", "asked twice")
        assert "is suppressed already" in page.get_by_role("alert").inner_text()
        page = window.open("/settle/suppressed")
        assert dispatcher("suppress", "remove", "desk@ngo.example", "--why", "so", folder=folder).code == 0
        page.locator(".suppressed-addresses summary").click()
        page.locator(".suppressed-addresses").get_by_label("Why: for the record").fill("a mistake")
        press(page.locator(".suppressed-addresses").get_by_role("button"))
        alert = page.get_by_role("alert").inner_text()
        assert "desk@ngo.example is not suppressed" in alert
        assert "You wrote: a mistake" in alert
        excused(window, "409")
    assert [kind for kind, *_ in events(folder)] == ["suppressed", "unsuppressed"]


def test_a_printed_letter_to_a_suppressed_address_is_to_be_taken_out(
    browser: Browser, review: Review, folder: Path
) -> None:
    address = next(row["email"] for row in read_list(folder, "un_missions.csv")[1] if row["key"] == "GBR").split(",")[0]
    with opened(browser, review) as window:
        page = window.open("/settle/suppressed")
        page.get_by_label("Addresses, a line each").fill(address)
        page.get_by_label("Why: for the record").first.fill("asked")
        press(page.get_by_role("button", name="Suppress", exact=True))
        page.get_by_role("link", name="Printed ones are marked").click()
        page.wait_for_url("**/settle/printed")
        assert page.locator(".take-out").count() == 1
        assert "GBR" in page.locator("tbody tr", has=page.locator(".take-out")).inner_text()


def test_what_was_purged_is_still_to_be_looked_at(browser: Browser, review: Review, folder: Path) -> None:
    """Without persons; what was decided is there, and who and why are not."""
    assert dispatcher("resolve", "ESP", "--as", "accepted", "--why", "they telephoned", folder=folder).code == 0
    purge(Desk(folder, clock=Later()), "90d", 6)
    with opened(browser, review) as window:
        for address in (*PAGES, "/log"):
            said = window.open(address).locator("body").inner_text()
            assert "they telephoned" not in said
            assert "missions.example" not in said
            assert "To settle" in said


# For everybody


@pytest.mark.skipif(not AXE.is_file(), reason=NO_AXE)
def test_it_is_for_everybody(browser: Browser, review: Review) -> None:
    """Light and dark, wide and narrow, in three languages; also after a decision and after a refusal."""
    for dark, size, language in ((False, WIDE, "en"), (True, NARROW, "fr"), (True, WIDE, "es"), (False, NARROW, "en")):
        with opened(browser, review, dark=dark, size=size, language=language) as window:
            for address in PAGES:
                window.open(address)
                assert window.violations() == [], address
                assert window.too_wide() == [], address
            page = window.open("/settle/suppressed")
            page.locator("#addresses").fill("no address")
            page.locator("#why").fill("x" * 300)
            press(page.locator("button[value=add]"))
            assert page.get_by_role("alert").is_visible()
            assert window.violations() == []
            assert window.too_wide() == []
            page.locator("#addresses").fill(f"{language}{size[0]}@ngo.example")
            press(page.locator("button[value=add]"))
            assert page.get_by_role("status").is_visible()
            assert window.violations() == []
            assert window.too_wide() == []
            excused(window, "409")


def test_it_is_done_by_keyboard_alone(browser: Browser, review: Review, folder: Path) -> None:
    with opened(browser, review, scripts=False) as window:
        page = window.open("/settle")
        page.locator("article").first.get_by_label("It arrived").focus()
        page.keyboard.press("Space")
        page.keyboard.press("Tab")
        page.keyboard.type("they telephoned")
        page.keyboard.press("Tab")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert "they telephoned" in page.get_by_role("status").inner_text()
    assert len(events(folder)) == 1
