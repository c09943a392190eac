"""Chromium, driven by Playwright: the machine's, for Playwright's own would be a download; axe-core is the judge."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
MISSING = "needs a browser: apt-get install chromium"
USABLE = bool(CHROMIUM)
AXE = Path(__file__).parent / "npm" / "node_modules" / "axe-core" / "axe.min.js"
JUDGE = """async options => {
    const found = await axe.run(options), short = rule => [rule.id, rule.nodes.map(node => node.html)];
    return Object.fromEntries(["violations", "incomplete", "passes"].map(kind => [kind, found[kind].map(short)]));
}"""


@contextmanager
def launched() -> Iterator[Browser]:
    """One browser without a window. While it is there, this thread can run no event loop of asyncio's."""
    with sync_playwright() as playwright:
        # Letters are measured, so no hinting of the machine's may move them; root, as in a container, has no sandbox.
        quiet = ["--no-sandbox", "--disable-quic", "--font-render-hinting=none"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """One page, and what was heard of it: `asked` has the addresses it asked for, its own first; `complaints` what was
    said on its console, errors that nobody caught, and dialogs, which are closed or everything would wait for them.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._request)
        page.on("console", self._console)
        page.on("pageerror", self._error)
        page.on("dialog", self._dialog)

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        self.complaints.append(f"console: {message.type}: {message.text}")

    def _error(self, error: Error) -> None:
        self.complaints.append(f"error: {error}")

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        with suppress(Error):  # it has gone by itself
            dialog.dismiss()


class Screens:
    """A telephone and a desk, each with one window that pages are shown in, one after the other."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._windows: dict[bool, Window] = {}

    def show(self, file: Path, width: int, *, dark: bool = False) -> Window:
        """A file in a window of this width, a telephone's below 600 px."""
        telephone = width < 600
        if telephone not in self._windows:
            context = self._browser.new_context(is_mobile=telephone)
            self._windows[telephone] = Window(context.new_page())
        window = self._windows[telephone]
        window.page.goto("about:blank")  # the page before it has no more to say
        window.page.set_viewport_size({"width": width, "height": 800})
        window.page.emulate_media(color_scheme="dark" if dark else "light")
        window.asked.clear()
        window.complaints.clear()
        window.page.goto(file.as_uri())
        return window


def judged(page: Page, **options: Any) -> dict[str, list[tuple[str, list[str]]]]:
    """What axe-core says of a page: `violations`, `incomplete` (not sure) and `passes`, each a rule and what it met, of
    which one piece is enough where it passes.
    """
    page.evaluate(AXE.read_text(encoding="utf-8") + "; 0")
    options["resultTypes"] = ["violations", "incomplete"]
    found = page.evaluate(JUDGE, options)
    return {kind: [(rule, pieces) for rule, pieces in rules] for kind, rules in found.items()}
