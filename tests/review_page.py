"""The page of `dispatcher review` in a real browser: a real campaign, a real run, a real process, Debian's Chromium.

A page that is opened here fails its test on a dialog, an error on the console or in a script, and any request to
another place than the page's own.
"""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request

from tests.browser import AXE
from tests.command import argv, environment

NO_AXE = "needs axe-core: make npm"
WIDE, NARROW = (1600, 1000), (320, 640)
SECONDS = 120


class Review:
    """A `dispatcher review` at work, and its link."""

    def __init__(self, process: "subprocess.Popen[bytes]", link: str) -> None:
        self.process = process
        self.link = link
        self.origin = re.sub(r"/\?.*", "", link)
        self.host = self.origin.removeprefix("http://")
        self.port = int(self.host.rpartition(":")[2])
        self.token = link.rpartition("token=")[2]
        self.said = b""

    def end(self) -> int:
        """Ctrl-C; its exit code, and what it said meanwhile in `said`."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=SECONDS)
        self.said += out + err
        return self.process.returncode


@contextmanager
def review(folder: Path, *words: str, env: dict[str, str] | None = None) -> Iterator[Review]:
    """`dispatcher review` on a folder, until the block ends. It opens no browser but one that `env` names."""
    process = subprocess.Popen(
        argv("review", "--json", *(() if env and "BROWSER" in env else ("--no-open",)), *words),
        cwd=folder,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    try:
        assert process.stdout
        assert process.stderr
        first = process.stdout.readline()
        watchdog.cancel()
        assert first, process.stderr.read().decode()
        yield Review(process, json.loads(first)["url"])
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
            process.communicate()


class Watched:
    """A page of a context, and what it did that it must not: see `faults`."""

    def __init__(self, context: BrowserContext, page: Page, review: Review) -> None:
        self.context = context
        self.page = page
        self.review = review
        self.faults: list[str] = []
        self.requests: list[Request] = []
        page.on("dialog", self._interrupted)
        page.on("console", lambda told: self._told(told.type, told.text))
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        context.on("request", self._asked)

    def _interrupted(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _told(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(f"console: {text}")

    def _asked(self, request: Request) -> None:
        self.requests.append(request)
        if not request.url.startswith((self.review.origin + "/", "data:", "about:")):
            self.faults.append(f"request: {request.url}")

    def open(self, address: str = "/") -> Page:
        """One of the page's addresses, the link's session being open."""
        self.page.goto(self.review.origin + address)
        return self.page

    def violations(self) -> list[str]:
        """What axe-core finds (WCAG 2.2 A and AA, and good practice)."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: Any = self.page.evaluate("axe.run()")
        return [
            f"{one['id']}: {node['html']} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    def too_wide(self) -> list[str]:
        """What reaches beyond the window's side, outside of regions that scroll by themselves."""
        found: list[str] = self.page.evaluate(
            """() => document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] :
            [...document.querySelectorAll("body *")]
            .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
            .map(e => e.outerHTML.slice(0, 120))"""
        )
        return found


@contextmanager
def opened(
    browser: Browser,
    review: Review,
    *,
    size: tuple[int, int] = WIDE,
    dark: bool = False,
    scripts: bool = True,
    language: str = "en",
) -> Iterator[Watched]:
    """A window of this size in which the link was opened. What it must not do fails the test at the block's end."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
        locale=language,
        accept_downloads=True,
    )
    context.set_default_timeout(SECONDS * 1000)
    try:
        watched = Watched(context, context.new_page(), review)
        watched.page.goto(review.link)
        yield watched
        assert watched.faults == []
    finally:
        context.close()


def screenshot(watched: Watched, path: Path) -> None:
    """The whole page as PNG, for somebody to look at."""
    watched.page.screenshot(path=os.fspath(path), full_page=True)
