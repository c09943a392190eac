"""The overview in a browser: its numbers, drawings and tables, as they stand and while a run is at work."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import review_page
from tests.browser import AXE, MISSING, USABLE
from tests.command import (
    REPOSITORY,
    argv,
    dispatcher,
    edit,
    environment,
    new_campaign,
    read_list,
    use_server,
    write_list,
)
from tests.review_campaign import mixed_campaign
from tests.review_page import NARROW, NO_AXE, WIDE, Review, Watched, opened
from tests.smtp_server import HANG, STORE, Script, SmtpServer

pytestmark = pytest.mark.skipif(not USABLE, reason=MISSING)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}'


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Review]:
    folder = mixed_campaign(tmp_path_factory.mktemp("mixed"))
    with review_page.review(folder) as found:
        yield found


@pytest.fixture(scope="module")
def window(browser: Browser, mixed: Review) -> Iterator[Watched]:
    with opened(browser, mixed) as found:
        yield found


def figures(page: Page) -> dict[str, int]:
    """The big numbers, all at one moment."""
    found: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".tile")]
        .map(tile => [tile.id.slice(5), tile.querySelector(".figure").textContent]))"""
    )
    return {name: int(text.replace(",", "")) for name, text in found.items()}


def test_the_big_numbers_add_up_to_the_letters(window: Watched) -> None:
    page = window.open()
    numbers = figures(page)
    assert numbers.pop("letters") == sum(numbers.values()) == 204
    assert numbers == {
        "accepted": 187, "waiting": 0, "deferred": 3, "failed": 3, "unknown": 2, "suppressed": 3, "to_print": 2,
        "printed": 2, "posted": 2,
    }  # fmt: skip
    assert page.locator("#standing").inner_text() == "187 of 204 letters accepted"
    assert page.locator(".besides").inner_text().split("\n").count("not read") == 2


def test_what_came_back_is_not_said_to_be_none(window: Watched) -> None:
    besides = window.open().locator(".besides")
    for name in ("Bounced later", "Replied"):
        assert besides.locator("div", has_text=name).locator("dd").inner_text() == "not read"


def test_each_country_has_its_outline_or_circle_and_a_word(window: Watched) -> None:
    page = window.open()
    titles: list[str] = page.eval_on_selector_all(".map .country > title", "all => all.map(one => one.textContent)")
    assert len(set(titles)) == 195
    for said in (
        "France: accepted",
        "Georgia: unknown",
        "Indonesia: failed",
        "Tuvalu: posted",
        "South Sudan: no letter",
    ):
        assert said in titles
    fills = "one => one.closest('svg').querySelector(`[data-code='${'GEO'}']`)?.getAttribute('fill')"
    assert page.eval_on_selector(".map .country", fills) == "url(#fill-unknown)"
    assert "Letters go to 192 countries." in (page.locator("#map-text").text_content() or "")


def test_the_tables_say_what_the_drawings_show(window: Watched) -> None:
    page = window.open()
    page.locator("#world-table summary").click()
    rows = [row.inner_text().split("\t") for row in page.locator("#world-table tbody tr").all()]
    assert len(rows) == 192
    assert [row[0] for row in rows[:5]] == ["Georgia", "Rwanda", "Austria", "Indonesia", "Solomon Islands"]
    assert rows[0][1:] == ["GEO", "1", "unknown"]
    page.locator("#time-table summary").click()
    cells = page.locator("#time-table tbody td").all_inner_texts()
    assert sum(map(int, cells)) == 195
    for name, total in (("languages", 204), ("groups", 204), ("relays", 195)):
        assert sum(map(int, page.locator(f".by-{name} .number").all_inner_texts())) == total


def test_every_drawing_has_a_name_and_a_text_or_is_left_out_for_who_cannot_see(window: Watched) -> None:
    for drawing in window.open().locator("main svg").all():
        if drawing.get_attribute("aria-hidden") != "true":
            assert drawing.get_attribute("role") == "img"
            for part in (drawing.get_attribute("aria-labelledby") or "").split():
                assert window.page.locator(f"#{part}").text_content()


def test_what_the_campaign_is_stands_beside_it(window: Watched) -> None:
    said = window.open().locator("aside").inner_text()
    for text in (
        "Submission of the KMS report, UPR 6th session, Cambodia",
        "Universal Periodic Review of Cambodia, sixth session: report by KMS",
        "Khmer M'Chas Srok (KMS) <upr@kms.example.org>",
        "2009-10-01",
        "none asked for",
        "3 left out on purpose",
    ):
        assert text in said
    assert len(window.page.locator("aside code").inner_text()) == 64


def test_while_nothing_is_written_the_page_stays_as_it_is(window: Watched) -> None:
    """It asks now and then, and is answered with nothing."""
    page = window.open()
    (seen,) = re.findall(r"live\?seen=\d+", page.content())
    answer = page.request.get(f"{window.review.origin}/overview/{seen}")
    assert (answer.status, answer.body()) == (204, b"")
    assert page.request.get(f"{window.review.origin}/overview/live?seen=0").status == 200


def test_a_later_run_is_found_out_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    keys = [row["key"] for row in read_list(REPOSITORY, "un_missions.csv")[1]][:4]
    root = new_campaign(tmp_path, keys)
    edit(root / "campaign.toml", "connections = 4", "connections = 1")
    with SmtpServer(Script(on={"DOT": (HANG, STORE, b"250 2.0.0 taken\r\n")})) as server:
        use_server(root, server)
        assert dispatcher("seal", folder=root).code == 0
        with review_page.review(root) as found, opened(browser, found) as window:
            window.page.clock.install()
            window.page.reload()
            expect(window.page.locator("#run")).to_contain_text("No run was made yet.")
            expect(window.page.locator("#run")).to_contain_text("A run that began now would be done about")
            words = argv("send", "--confirm", str(len(keys)))
            run = subprocess.Popen(
                words, cwd=root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                server.wait(lambda found: found.times("dot") == 1)
                window.page.clock.run_for(15_000)
                expect(window.page.locator("#run")).to_contain_text("A run is at work.")
                server.release()
                assert run.wait(timeout=review_page.SECONDS) == 0
                window.page.clock.run_for(2_000)
                expect(window.page.locator("#tile-accepted .figure")).to_have_text(str(len(keys)))
            finally:
                run.kill()
                run.wait()


@pytest.mark.skipif(not AXE.exists(), reason=NO_AXE)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_nobody_is_shut_out(browser: Browser, mixed: Review, size: tuple[int, int], dark: bool) -> None:
    with opened(browser, mixed, size=size, dark=dark) as found:
        for summary in found.page.locator("summary").all():
            summary.click()
        assert found.violations() == []
        assert found.too_wide() == []


@pytest.mark.parametrize("width", [320, 375, 480, 768, 1024, 1280, 1600])
def test_it_fits_every_width(browser: Browser, mixed: Review, width: int) -> None:
    with opened(browser, mixed, size=(width, 800)) as found:
        assert found.too_wide() == []


@pytest.mark.parametrize(
    ("language", "standing", "country"),
    [("fr", "187 lettres acceptées sur 204", "Géorgie"), ("es", "187 de 204 cartas aceptadas", "Georgia")],
)
def test_it_speaks_the_other_languages(
    browser: Browser, mixed: Review, language: str, standing: str, country: str
) -> None:
    with opened(browser, mixed, language=language) as found:
        assert found.page.locator("#standing").inner_text() == standing
        assert found.page.locator("#world-table tbody th").first.text_content() == country


def test_it_can_be_read_without_scripts(browser: Browser, mixed: Review) -> None:
    with opened(browser, mixed, scripts=False) as found:
        assert found.page.locator("#standing").inner_text() == "187 of 204 letters accepted"
        found.page.locator("#world-table summary").click()
        assert found.page.locator("#world-table tbody tr").first.is_visible()


def test_names_that_mean_harm_are_names(browser: Browser, tmp_path: Path) -> None:
    root = new_campaign(tmp_path)
    columns, rows = read_list(root, "un_missions.csv")
    write_list(root, "un_missions.csv", columns, [{**row, "group": HOSTILE} for row in rows])
    edit(
        root / "campaign.toml",
        'title = "Submission of the KMS report, UPR 6th session, Cambodia"',
        f"title = '{HOSTILE}'",
    )
    assert dispatcher("send", "--sandbox", "--confirm", "6", folder=root).code == 0
    with review_page.review(root, "--sandbox") as found, opened(browser, found) as window:
        assert window.page.locator(".by-groups .name").first.inner_text() == HOSTILE
        assert HOSTILE in window.page.locator("aside").inner_text()
        assert window.page.locator("main script, main img").count() == 0


def test_a_list_without_codes_has_no_map_and_one_without_groups_no_groups(browser: Browser, tmp_path: Path) -> None:
    root = new_campaign(tmp_path)
    columns, rows = read_list(root, "un_missions.csv")
    columns = [column for column in columns if column not in ("m49", "group")]
    write_list(root, "un_missions.csv", columns, [{name: row[name] for name in columns} for row in rows])
    assert dispatcher("send", "--sandbox", "--confirm", "6", folder=root).code == 0
    with review_page.review(root, "--sandbox") as found, opened(browser, found) as window:
        assert window.page.locator(".by-languages").count() == 1
        assert window.page.locator(".map, .by-groups").count() == 0


def test_a_run_is_followed_as_it_happens_to_its_end(browser: Browser, tmp_path: Path) -> None:
    """The relay holds the first letter back until the page is open; then they leave at the campaign's pace."""
    keys = [row["key"] for row in read_list(REPOSITORY, "un_missions.csv")[1]][:16]
    root = new_campaign(tmp_path, keys)
    edit(root / "campaign.toml", 'rate = "36,000/min"', 'rate = "240/min"')
    edit(root / "campaign.toml", "connections = 4", "connections = 1")
    held = (HANG, STORE, b"250 2.0.0 taken\r\n")
    with SmtpServer(Script(on={"DOT": held})) as server:
        use_server(root, server)
        words = argv("send", "--confirm", str(len(keys)))
        run = subprocess.Popen(words, cwd=root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            server.wait(lambda found: found.times("dot") == 1)
            with review_page.review(root) as found, opened(browser, found) as window:
                _followed(window.page, server, len(keys))
                assert run.wait(timeout=review_page.SECONDS) == 0
        finally:
            run.kill()
            run.wait()


def _followed(page: Page, server: SmtpServer, letters: int) -> None:
    page.clock.install()
    page.reload()
    expect(page.locator("#run")).to_contain_text("A run is at work.")
    assert {name: n for name, n in figures(page).items() if n} == {
        "in_flight": 1,
        "waiting": letters - 1,
        "letters": letters,
    }
    assert page.locator("#told").inner_text() == "A run is at work: 0 % accepted."
    page.locator("#world-table summary").click()
    page.locator("#world-table .scroll").focus()
    server.release()
    accepted = "+document.querySelector('#tile-accepted .figure').textContent"
    page.wait_for_function(f"() => 0 < {accepted} && {accepted} < {letters}")
    half = figures(page)
    assert half["accepted"] + half["in_flight"] + half["waiting"] == half["letters"] == letters
    expect(page.locator("#run")).to_contain_text("Less than a minute left. Done about")
    assert page.locator("#world-table").get_attribute("open") is not None, "what somebody opened stays open"
    assert page.evaluate("document.activeElement.parentElement.id") == "world-table", "the focus stays where it was"
    expect(page.locator("#tile-accepted .figure")).to_have_text(str(letters))
    expect(page.locator("#run")).to_contain_text("No run is at work.")
    expect(page.locator("#told")).to_have_text("The last run did all there was to do.")
    assert page.locator("#world-table tbody").inner_text().count("accepted") == letters
    asked: list[int] = []
    page.on("response", lambda answer: asked.append(answer.status))
    page.clock.run_for(14_000)
    assert asked == [], "when the run is over, hardly anything is asked any more"
    with page.expect_response("**/overview/live*") as answer:
        page.clock.run_for(2_000)
    assert answer.value.status == 204


def test_a_number_leads_to_its_letters(window: Watched) -> None:
    for name, count in (("unknown", 2), ("accepted", 187)):
        window.open().locator(f"#tile-{name} a").click()
        window.page.wait_for_url(f"**/letters?state={name}")
        assert window.page.locator("tbody tr").count() == min(count, 100) or str(count) in window.page.inner_text(
            "main"
        )
    window.open().locator("#world-table summary").click()
    window.page.locator("#world-table").get_by_role("link", name="Georgia").click()
    assert "GEO" in window.page.inner_text("main")
    window.open().locator(".by-groups").get_by_role("link", name="GRULAC").click()
    assert "CUB" in window.page.inner_text("main")
