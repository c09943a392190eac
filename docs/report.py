"""Makes templates/upr_submission/report.pdf from the report.typ beside it, the same bytes every time.

    python docs/report.py            write report.pdf
    python docs/report.py --check    write nothing; exit with 1 if report.pdf is not what report.typ gives

What makes it the same: a fixed time, only the fonts inside the `typst` package, no file from outside the folder.
PDF/A-2b makes a glyph that no font has an error instead of an empty box. Another version of `typst` may give other
bytes; lock.txt holds the one used.
"""  # noqa: INP001 (a script, not a module of a package)

import sys
from datetime import UTC, datetime
from pathlib import Path

import typst

FOLDER = Path(__file__).resolve().parent.parent / "templates" / "upr_submission"
DATED = datetime(2009, 10, 1, tzinfo=UTC)


def report(folder: Path = FOLDER) -> bytes:
    """The octets of the PDF. Raises typst.TypstError if report.typ cannot be compiled."""
    pdf = typst.compile(
        folder / "report.typ",
        root=folder,
        font_paths=[],
        ignore_system_fonts=True,
        format="pdf",
        pdf_standards=["a-2b"],
        timestamp=int(DATED.timestamp()),
    )
    if not isinstance(pdf, bytes):
        raise TypeError("typst gave more than one file for a PDF")
    return pdf


def main(arguments: list[str]) -> int:
    """Write or check; the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python docs/report.py [--check]\n")
        return 2
    target = FOLDER / "report.pdf"
    pdf = report()
    if not arguments:
        target.write_bytes(pdf)
        return 0
    if target.exists() and target.read_bytes() == pdf:
        return 0
    sys.stderr.write("report.pdf is not what report.typ gives; run: python docs/report.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
