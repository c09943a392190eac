"""The page of `dispatcher review` as a whole: it opens by its link, on every part, in three languages, and ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests import review_page
from tests.browser import MISSING, USABLE
from tests.command import dispatcher, new_campaign
from tests.review_page import Review, opened

pytestmark = pytest.mark.skipif(not USABLE, reason=MISSING)
PARTS = {"/": "Overview", "/letters": "Letters", "/log": "Log", "/settle": "To settle"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign, rehearsed."""
    root = new_campaign(tmp_path_factory.mktemp("review"))
    done = dispatcher("send", "--sandbox", "--confirm", "6", folder=root)
    assert done.code == 0, done.all
    return root


@pytest.fixture(scope="module")
def review(folder: Path) -> Iterator[Review]:
    with review_page.review(folder, "--sandbox") as found:
        yield found


def test_the_link_opens_the_overview_and_leaves_the_address_line(browser: Browser, review: Review) -> None:
    with opened(browser, review) as window:
        assert window.page.url == f"{review.origin}/"
        assert window.page.locator("h1").inner_text() == "Overview"


@pytest.mark.parametrize("scripts", [True, False])
def test_every_part_is_a_click_away(browser: Browser, review: Review, scripts: bool) -> None:
    with opened(browser, review, scripts=scripts) as window:
        for address, name in PARTS.items():
            window.page.locator(".top nav").get_by_role("link", name=name).click()
            window.page.wait_for_url(review.origin + address)
            assert window.page.locator(".top nav [aria-current=page]").inner_text().startswith(name)


def test_the_language_is_the_browsers_until_another_is_chosen(browser: Browser, review: Review) -> None:
    with opened(browser, review, language="fr-CH") as window:
        assert window.page.locator("html").get_attribute("lang") == "fr"
        window.open("/letters")
        window.page.get_by_role("link", name="Español").click()
        assert window.page.url == f"{review.origin}/letters"
        assert window.page.locator("h1").inner_text() == "Cartas"


def test_ctrl_c_ends_it_in_order(folder: Path) -> None:
    with review_page.review(folder, "--sandbox") as found:
        assert found.end() == 0
        assert found.token.encode() not in found.said
