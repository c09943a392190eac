"""Pictures of the founding letter and of the review page for the README, as Chromium shows them: `make screenshots`.

In each language at the width of a telephone and of a desk, light and dark. Fonts are the machine's; where it has
neither Georgia nor Cambria, fonts-crosextra-caladea stands in for the latter. And sheets of paper: the founding letter
in French, and the worked examples in Arabic and Khmer. The review page is that of the founding campaign in the middle.
"""

import base64
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page

from dispatcher.core.merge import Merged
from dispatcher.desk.draft import Draft
from dispatcher.desk.papering import house_of
from dispatcher.ledgers.state import VARIABLE
from dispatcher.paper.letters import typeset
from dispatcher.paper.printing import PaperLetter
from tests import review_page
from tests.browser import MISSING, USABLE, Screens, launched
from tests.pages import opened
from tests.review_campaign import mixed_campaign
from tests.test_languages import folder as example

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "screenshots"
LETTERS = ("GBR", "FRA", "ESP")
WIDTHS = (375, 1280)
# A picture of text has few colours: in 32 steps of red, green and blue fewer than 256, and a third of the size. Where
# they are more, or steps are finer, the 256 that are met most often stay, and the others become the nearest of these.
PALETTE = """async ([data, steps]) => {
    const picture = await createImageBitmap(await (await fetch("data:image/png;base64," + data)).blob());
    const canvas = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
    canvas.drawImage(picture, 0, 0);
    const pixels = canvas.getImageData(0, 0, picture.width, picture.height).data, often = new Map(), keys = [];
    for (let at = 0; at < pixels.length; at += 4) {
        const key = [0, 1, 2].map(n => Math.round(Math.round(pixels[at + n] / 255 * steps) / steps * 255)).join();
        often.set(key, (often.get(key) ?? 0) + 1);
        keys.push(key);
    }
    const most = new Set([...often.keys()].sort((a, b) => often.get(b) - often.get(a)).slice(0, 256));
    const colours = new Map([...often.keys()].filter(key => most.has(key)).map((key, n) => [key, n]));
    const known = [...colours.keys()].map(key => key.split(",").map(Number)), nearest = new Map(colours);
    for (const key of often.keys()) {
        if (nearest.has(key)) continue;
        const far = key.split(",").map(Number);
        const away = known.map(one => one.reduce((sum, value, n) => sum + (value - far[n]) ** 2, 0));
        nearest.set(key, away.indexOf(Math.min(...away)));
    }
    let indices = "";
    for (const key of keys) indices += String.fromCharCode(nearest.get(key));
    return [picture.width, picture.height, [...colours.keys()].map(key => key.split(",").map(Number)), btoa(indices)];
}"""


SHEETS = ("fr", "ar", "km")
SHEET_WIDTH = 620
PAGES = {"overview": "/", "letter": "/letter?key=AUT", "log": "/log"}
PAGE_SIZE = (1280, 1500)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG (third edition, §5.3)."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sheets(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The first page of a printed letter in each of these languages, as PNG."""
    for language in SHEETS:
        root = ROOT if language == "fr" else example(folder / language, language)
        draft = Draft(root)
        letter = next(one for one in draft.letters() if one.language == language)
        names = tuple(attachment.name for attachment in letter.attachments)
        parts = draft.merge.renderer.parts(letter.recipient, names)
        house, when = house_of(draft)
        pdf = typeset([PaperLetter(letter.key, parts)], house, timestamp=when)
        with opened(pdf) as document:
            bitmap = document[0].render(scale=SHEET_WIDTH / document[0].get_width(), rev_byteorder=True)
            width, height, stride, octets = bitmap.width, bitmap.height, bitmap.stride, bytes(bitmap.buffer)
        rows = b"".join(b"\0" + octets[at : at + 3 * width] for at in range(0, height * stride, stride))
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
        yield language, b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def small(page: Page, png: bytes, steps: int = 31) -> bytes:
    """The same picture with a palette (PNG, third edition, §11.2)."""
    width, height, colours, indices = page.evaluate(PALETTE, [base64.b64encode(png).decode(), steps])
    rows = base64.b64decode(indices)
    lines = b"".join(b"\0" + rows[at : at + width] for at in range(0, len(rows), width))
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    palette = bytes(value for colour in colours for value in colour)
    chunks = (
        chunk(b"IHDR", head),
        chunk(b"PLTE", palette),
        chunk(b"IDAT", zlib.compress(lines, 9)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pages(folder: Path, browser: Browser) -> Iterator[tuple[str, bytes]]:
    """The review page: overview, a letter that failed, the log; light and dark."""
    os.environ[VARIABLE] = str(folder / "state")  # no mark of this ledger stays on the machine
    campaign = mixed_campaign(folder / "campaign", rate="1,200/min")
    with review_page.review(campaign) as review:
        for name, address in PAGES.items():
            for mode in ("light", "dark"):
                with review_page.opened(browser, review, size=PAGE_SIZE, dark=mode == "dark") as window:
                    yield f"review-{name}-{PAGE_SIZE[0]}-{mode}", window.open(address).screenshot()


def main() -> None:
    """Take all of them anew."""
    if not USABLE:
        sys.exit(f"{MISSING} fonts-crosextra-caladea")
    FOLDER.mkdir(exist_ok=True)
    merged = [item for item in Draft(ROOT).items() if isinstance(item, Merged) and item.letter.key in LETTERS]
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        screens = Screens(browser)
        for item in merged:
            letter = Path(folder) / "letter.html"
            letter.write_text(item.rendering.html, encoding="utf-8")
            for width in WIDTHS:
                for mode in ("light", "dark"):
                    page = screens.show(letter, width, dark=mode == "dark").page
                    png = small(page, page.screenshot(full_page=True))
                    name = f"{item.letter.language}-{width}-{mode}.png"
                    (FOLDER / name).write_bytes(png)
                    print(f"{name}: {len(png):,} octets")
        for language, png in sheets(Path(folder)):
            (FOLDER / f"{language}-{SHEET_WIDTH}-paper.png").write_bytes(small(page, png))
            print(f"{language}-{SHEET_WIDTH}-paper.png")
        for name, png in pages(Path(folder), browser):
            (FOLDER / f"{name}.png").write_bytes(small(page, png, 255))
            print(f"{name}.png: {(FOLDER / f'{name}.png').stat().st_size:,} octets")


if __name__ == "__main__":
    main()
