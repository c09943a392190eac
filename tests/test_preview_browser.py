"""The preview page in a real browser: it opens from a file, its own script runs under its policy, letters show."""

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dispatcher.desk.draft import Draft
from dispatcher.web.preview import write_preview
from tests.campaigns import write_campaign

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
)


@pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")
def test_the_page_opens_in_a_browser(tmp_path: Path) -> None:
    """A link to a letter opens that letter, which the page's own script does; nothing is refused or missing."""
    campaign = tmp_path / "campaign"
    write_campaign(campaign)
    page = write_preview(tmp_path / "out", Draft(campaign), when=datetime(2009, 10, 1, tzinfo=UTC)).index
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", f"{page.as_uri()}#letter-2"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    details = re.findall(r'<details[^>]*id="letter-\d+"[^>]*>', done.stdout)
    assert len(details) > 1
    assert [" open" in tag for tag in details] == [number == 1 for number in range(len(details))]
    assert not re.findall(r"CONSOLE.*", done.stderr)
