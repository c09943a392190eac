"""Letters → pages: one PDF/A-2b, print-ready, the same octets for the same letters.

    pdf = typeset([PaperLetter(key, parts)], House(source), timestamp=sealed_at)

One call for many letters, or one for each: the first is quicker. Every letter begins on a page that is its page 1, has
its addressee in a bookmark of the PDF ("FRA: The Permanent Representative"), and its address in the window of a DL or
C5/6 envelope (DIN 5008 form B, DIN 680, ISO 11180). What the page looks like is the house's:
`templates/house/letter.typ`.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from dispatcher.paper.behind import with_reports
from dispatcher.paper.printing import House, PaperLetter, pictures, printed
from dispatcher.paper.typesetting import Piece, ours

LETTERS_IN_A_FILE: Final = 500
"""More are better printed as several files: one takes 500 MB of memory while it is made."""
_ROOM: Final = "the window of an envelope"
_PIXELS_AN_INCH: Final = 110


def typeset(letters: Iterable[PaperLetter], house: House, *, timestamp: datetime, two_sided: bool = False) -> bytes:
    """All these letters as one PDF/A-2b. `timestamp` (aware) is the file's date: the campaign's, never the clock's.

    With `two_sided`, blank pages see to it that each letter, and each file behind one, begins on a sheet of its own.
    With files behind a letter it is a PDF that does not claim to be PDF/A: nobody has checked what others made.

    Raises TemplateError: a glyph that no font has, with recipient and text; an address that the window cannot hold,
    with recipient; a file behind a letter that is no PDF to print, with recipient; what Typst finds wrong with the
    house's source, with file and line. ValueError without letters.
    """
    several = tuple(letters)
    pieces = _pieces(house)
    settings = {"sides": 2 if two_sided else 1}
    pdf = printed(several, house, pieces, timestamp=timestamp, room=_ROOM, settings=settings)
    return with_reports(pdf, several, two_sided=two_sided) if any(letter.behind for letter in several) else pdf


def looked_at(letter: PaperLetter, house: House) -> list[bytes]:
    """The pages of one letter as pictures (PNG), to be looked at on a screen. Raises what `typeset` does."""
    settings = {"sides": 1}
    return pictures([letter], house, _pieces(house), pixels_an_inch=_PIXELS_AN_INCH, room=_ROOM, settings=settings)


def _pieces(house: House) -> tuple[Piece, ...]:
    return ours("page.typ"), Piece(house.source.file, house.source.text), ours("letters.typ")
