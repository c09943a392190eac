"""Pictures of the founding letter for the README, as Chromium shows it: `make screenshots`.

In each language at the width of a telephone and of a desk, light and dark. Fonts are the machine's; where it has
neither Georgia nor Cambria, fonts-crosextra-caladea stands in for the latter.
"""

import base64
import json
import struct
import sys
import tempfile
import zlib
from pathlib import Path

from dispatcher.core.merge import Merged
from dispatcher.desk.draft import Draft
from tests.browser import MISSING, USABLE, Browser

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "screenshots"
LETTERS = ("GBR", "FRA", "ESP")
WIDTHS = (375, 1280)
# A picture of text has few colours: in 32 steps of red, green and blue fewer than 256, and a third of the size.
PALETTE = """(async data => {
    const picture = await createImageBitmap(await (await fetch("data:image/png;base64," + data)).blob());
    const canvas = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
    canvas.drawImage(picture, 0, 0);
    const pixels = canvas.getImageData(0, 0, picture.width, picture.height).data, colours = new Map();
    let indices = "";
    for (let at = 0; at < pixels.length; at += 4) {
        const key = [0, 1, 2].map(n => Math.round(Math.round(pixels[at + n] / 255 * 31) / 31 * 255)).join();
        if (!colours.has(key)) colours.set(key, colours.size);
        indices += String.fromCharCode(colours.get(key));
    }
    return [picture.width, picture.height, [...colours.keys()].map(key => key.split(",").map(Number)), btoa(indices)];
})"""


def small(browser: Browser, png: bytes) -> bytes:
    """The same picture with a palette (PNG, third edition, §11.2)."""
    width, height, colours, indices = browser.run(f"{PALETTE}({json.dumps(base64.b64encode(png).decode())})")
    rows = base64.b64decode(indices)
    lines = b"".join(b"\0" + rows[at : at + width] for at in range(0, len(rows), width))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    palette = bytes(value for colour in colours for value in colour)
    chunks = (
        chunk(b"IHDR", head),
        chunk(b"PLTE", palette),
        chunk(b"IDAT", zlib.compress(lines, 9)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def main() -> None:
    """Take all of them anew."""
    if not USABLE:
        sys.exit(f"{MISSING} fonts-crosextra-caladea")
    FOLDER.mkdir(exist_ok=True)
    merged = [item for item in Draft(ROOT).items() if isinstance(item, Merged) and item.letter.key in LETTERS]
    with tempfile.TemporaryDirectory() as folder, Browser(Path(folder) / "browser") as browser:
        for item in merged:
            page = Path(folder) / "letter.html"
            page.write_text(item.rendering.html, encoding="utf-8")
            for width in WIDTHS:
                for mode in ("light", "dark"):
                    browser.show(page, width, dark=mode == "dark")
                    png = small(browser, browser.picture())
                    name = f"{item.letter.language}-{width}-{mode}.png"
                    (FOLDER / name).write_bytes(png)
                    print(f"{name}: {len(png):,} octets")


if __name__ == "__main__":
    main()
