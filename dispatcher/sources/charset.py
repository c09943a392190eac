"""Which character encoding a text file is in: what it declares, what it proves, and only then a guess.

Order: what the user said; a byte order mark; valid UTF-8; UTF-16 whose NUL octets leave no doubt; and last a guess,
which is marked as one so that people can look before anything is sent. A western code page that makes plain words of
all accents wins over whatever charset-normalizer proposes, because a list of names is too short for statistics.

Files are read in chunks, so their size does not matter. Never repairs and never replaces a character. Raises
TableError when octets do not fit the encoding (with the line), or when no encoding fits.
"""

import codecs
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dispatcher.core.errors import Place, Problem, TableError

CHUNK = 1 << 20
SAMPLE_SIZE = 64 * 1024

_MARKS = (  # longest first: the mark of UTF-16 is the start of that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WESTERN = ("cp1252", "mac-roman", "cp850", "iso8859-15")
_COMMON = frozenset("éèêàâôîçñóáíúüöäãß")
_RARE = frozenset("ëïùûœæìòåøõÿ")
_TYPOGRAPHY = frozenset("’‘“”«»–—…€°·ªº¿¡§£©®\N{NO-BREAK SPACE}")
_ENOUGH = 0.8  # share of plausible accents below which a western reading is not believed
_NON_ASCII_LINE = re.compile(rb"[^\r\n]*[\x80-\xff][^\r\n]*")
_TODO = 'Save the file as UTF-8, or set encoding, for example encoding = "cp1252".'


@dataclass(frozen=True, slots=True)
class Charset:
    """An encoding by its codec name, and whether it is only a guess."""

    name: str
    guessed: bool = False


def digest_of(path: Path) -> str:
    """SHA-256 of the file's octets, hex."""
    sha = hashlib.sha256()
    for chunk in _chunks(path):
        sha.update(chunk)
    return sha.hexdigest()


def charset_of(path: Path, shown: str, told: str | None) -> Charset:
    """The encoding of a whole file, each octet of it checked. Raises TableError."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    mark = next((name for start, name in _MARKS if head.startswith(start)), "")
    if told:
        return _checked(path, shown, _told(told, mark, shown))
    if mark:
        return _checked(path, shown, mark)
    silent = _utf16_without_mark(head)
    if silent and _misfit(path, silent) is None:
        return Charset(silent)
    if _misfit(path, "utf-8") is None:
        return Charset("utf-8")
    return _guess(path, shown)


def _told(told: str, mark: str, shown: str) -> str:
    """The codec the user means; the byte order mark, if there is one, must say the same."""
    try:
        b" ".decode(told)  # an empty text would not even be handed to the codec
        codecs.getincrementaldecoder(told)
        name = codecs.lookup(told).name
    except (LookupError, ValueError):
        what = f'there is no character encoding called "{told}"'
        raise TableError(
            Problem(what, Place(shown), "Use a name such as utf-8, utf-16, cp1252 or mac-roman.")
        ) from None
    family = mark.removesuffix("-sig")
    if mark and not name.startswith(family):
        what = f"the file begins with the mark of {family.upper()}, but its encoding is set to {told}"
        raise TableError(Problem(what, Place(shown), "Leave encoding out: the mark says it already."))
    return mark or name


def _checked(path: Path, shown: str, name: str) -> Charset:
    """The codec, if every octet of the file fits it."""
    offset = _misfit(path, name)
    if offset is None:
        return Charset(name)
    line = _line_at(path, name, offset)
    raise TableError(Problem(f"the octets here are not {name.removesuffix('-sig')}", Place(shown, line), _TODO))


def _misfit(path: Path, name: str) -> int | None:
    """The offset of the first octet that does not fit the encoding, or None."""
    decoder = codecs.getincrementaldecoder(name)("strict")
    done = 0
    try:
        for chunk in _chunks(path):
            done += len(chunk)
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        # The decoder may have kept back the octets of an unfinished character: count from the end.
        return done - len(error.object) + error.start
    except UnicodeError:  # UTF-16 or UTF-32 whose mark is missing
        return 0
    return None


def _line_at(path: Path, name: str, offset: int) -> int:
    """The line, from 1, in which an octet stands."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(name)("replace"), translate=True)
    line, left = 1, offset
    for chunk in _chunks(path):
        line += decoder.decode(chunk[:left]).count("\n")
        left -= min(left, len(chunk))
        if not left:
            break
    return line


def _utf16_without_mark(head: bytes) -> str:
    """UTF-16 without a mark, if at least half the code units are ASCII and every NUL is on one side; or ''."""
    high, low = head[0::2].count(0), head[1::2].count(0)
    units = len(head) // 2
    if low and not high and low * 2 >= units:
        return "utf-16-le"
    if high and not low and high * 2 >= units:
        return "utf-16-be"
    return ""


def _guess(path: Path, shown: str) -> Charset:
    sample = _sample(path)
    for name in _by_plausibility(sample):
        if _misfit(path, name) is None:
            return Charset(name, guessed=True)
    from charset_normalizer import from_bytes  # noqa: PLC0415  slow to import, and seldom needed

    names = [codecs.lookup(match.encoding).name for match in from_bytes(sample)]
    for name in sorted(names, key=_WESTERN.__contains__):  # those have been found implausible already
        if _misfit(path, name) is None:
            return Charset(name, guessed=True)
    raise TableError(Problem("its character encoding cannot be told", Place(shown), _TODO))


def _sample(path: Path) -> bytes:
    """The first lines that hold octets beyond ASCII, wherever in the file they are."""
    lines: list[bytes] = []
    size = 0
    for chunk in _chunks(path):
        for match in _NON_ASCII_LINE.finditer(chunk):
            lines.append(match[0])
            size += len(match[0])
            if size >= SAMPLE_SIZE:
                return b"\n".join(lines)[:SAMPLE_SIZE]
    return b"\n".join(lines)


def _by_plausibility(sample: bytes) -> list[str]:
    """The western code pages that make sense of the sample, best first, the more usual one on a draw."""
    scores: dict[str, float] = {}
    for name in _WESTERN:
        try:
            scores[name] = plausibility(sample.decode(name))
        except UnicodeDecodeError:
            continue
    return sorted((n for n in scores if scores[n] >= _ENOUGH), key=lambda n: -scores[n])


def plausibility(text: str) -> float:
    """How far characters beyond ASCII look like western European writing, from 0 to 1.

    An accented letter inside a word should agree with its neighbours in case and rarely stands beside another one;
    typographic signs stand between words. Misread text breaks these rules at once: RÇpublique, C™te, Ðîññèÿ.
    """
    padded = f" {text} "
    marks = [_worth(*padded[i - 1 : i + 2]) for i, sign in enumerate(padded) if not sign.isascii()]
    return sum(marks) / len(marks) if marks else 1.0


def _worth(before: str, sign: str, after: str) -> float:
    if sign in _TYPOGRAPHY:
        return 1.0 if sign in "’·" or not (before.isalpha() and after.isalpha()) else 0.0
    small = sign.lower()
    worth = 1.0 if small in _COMMON else 0.9 if small in _RARE else 0.0
    capital_fits = not before.isalpha() or (before.isupper() and not after.islower())
    fits = not after.isupper() if sign.islower() else capital_fits
    crowded = any(c.isalpha() and not c.isascii() for c in (before, after))
    return worth * fits * (0.5 if crowded else 1.0)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
