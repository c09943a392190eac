"""A page in Chromium, spoken to over its debugging pipe: sizes, dark mode, scripts, pictures, and what it fetched.

The protocol is JSON, each message ended by a NUL (chromedevtools.github.io/devtools-protocol).
No port is opened.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
MISSING = "needs a browser: apt-get install chromium"
USABLE = bool(CHROMIUM) and sys.platform != "win32"
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--font-render-hinting=none",
    "--remote-debugging-pipe",
)


class Browser:
    """One browser with one page. Its profile lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        (read_here, self._to), (self._from, write_here) = os.pipe(), os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4; here they may have any numbers, each other's too.
        command = f'exec 201<&{read_here} 202>&{write_here} 3<&201 4>&202 "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", CHROMIUM, *_QUIET, f"--user-data-dir={folder}"],
            pass_fds=(read_here, write_here),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_here)
        os.close(write_here)
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        for answer in self._answers():
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)
        raise AssertionError("the browser is gone")

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what was said by itself. A dialog is closed, or everything would wait for it."""
        self._events.append(event)
        if event.get("method") == "Page.javascriptDialogOpening":
            close = {"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": False}}
            os.write(self._to, json.dumps({**close, "sessionId": self._session}).encode() + b"\0")

    def _answers(self) -> Iterator[dict[str, Any]]:
        while True:
            whole, nul, rest = self._buffer.partition(b"\0")
            if nul:
                self._buffer = rest
                yield json.loads(whole)
            elif more := os.read(self._from, 1 << 16):
                self._buffer += more
            else:
                return

    def show(self, page: Path, width: int, height: int = 800, *, dark: bool = False) -> None:
        """Open a file in a window of this size."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        self._until_loaded()

    def follow(self, link: str) -> None:
        """Open the page that an element, given as an expression, links to."""
        self._events.clear()
        self.run(f"{link}.click()")
        self._until_loaded()

    def _until_loaded(self) -> None:
        loaded = any(event.get("method") == "Page.loadEventFired" for event in self._events)
        for event in self._answers() if not loaded else ():
            self._note(event)
            if event.get("method") == "Page.loadEventFired":
                return

    def run(self, script: str) -> Any:
        """What an expression, or the promise it gives, comes to."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def fetched(self) -> list[str]:
        """What was asked for since the page was opened, the page too."""
        asked = "Network.requestWillBeSent"
        return [event["params"]["request"]["url"] for event in self._events if event.get("method") == asked]

    def complaints(self) -> list[str]:
        """What was said on the console since the page was opened, errors that nobody caught, and dialogs."""
        told = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
        self.run("0")  # what was said before has come by then
        found = [event for event in self._events if event.get("method") in told]
        return [f"{event['method']} {json.dumps(event['params'])}" for event in found]

    def picture(self) -> bytes:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(taken["data"])
