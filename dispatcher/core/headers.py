"""Header fields as octets: RFC 5322 lines, RFC 2047 encoded words, RFC 2231 parameters.

Each function returns whole fields: folded at 76 octets where a blank allows it, never a line over 998, ending in
CRLF, pure ASCII. The one exception is an address with a non-ASCII local part: it stands in an address field as raw
UTF-8 (RFC 6532), and the message then needs SMTPUTF8.

A value is written so that a reader gets back exactly the text that was given. Text which only looks like an encoded
word is itself encoded. A value is never cut, cleaned or mended: one that could end its line, or that has no place
in UTF-8, raises `HeaderError` naming the field. Only `clean_file_name` alters what it is given; that is its task.
"""

import base64
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from urllib.parse import quote

from dispatcher.core.model import Mailbox

FOLD = 76  # RFC 2047 §2: a line with an encoded word; RFC 5322 §2.1.1 would allow 78
LONGEST_LINE = 998  # RFC 5322 §2.1.1, without CRLF
LONGEST_FILE_NAME = 100

# C0, DEL, C1 (with U+0085), the two Unicode line separators, and surrogates, which UTF-8 cannot hold.
FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_KNOWN = {"\0": "a NUL", "\t": "a tab", "\n": "a line feed", "\r": "a carriage return"}
_TYPE = re.compile(r"[0-9A-Za-z][!#$&^_.+\-0-9A-Za-z]*(/[0-9A-Za-z][!#$&^_.+\-0-9A-Za-z]*)?")  # RFC 6838 §4.2
ATEXT = r"!#$%&'*+\-/=?^_`{|}~0-9A-Za-z"  # RFC 5322 §3.2.3
_ATOMS = re.compile(f"[{ATEXT}]+(?: [{ATEXT}]+)*")
_ATEXT_UTF8 = ATEXT + "\u00a1-\U0010ffff"  # RFC 6532 §3.2
_ADDRESS = re.compile(rf"[{_ATEXT_UTF8}]+(?:\.[{_ATEXT_UTF8}]+)*@[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*")
_CHUNK = re.compile(r"[^ ]+|(?<= ) +[^ ]+")  # a word, with all blanks before it but the one where lines may fold
_Q_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/")  # RFC 2047 §5 (3)
_Q = tuple(chr(o) if o in _Q_PLAIN else "_" if o == 0x20 else f"={o:02X}" for o in range(256))


class HeaderError(ValueError):
    """A value cannot stand in a header field. The text names the field; `header` is its name."""

    def __init__(self, header: str, what: str) -> None:
        self.header = header
        super().__init__(f"{header}: {what}")


def character(char: str) -> str:
    """A character that must not be printed, in words: "a line feed (U+000A)"."""
    code = f"U+{ord(char):04X}"
    return f"{_KNOWN[char]} ({code})" if char in _KNOWN else f"the control character {code}"


def require_plain(header: str, value: str) -> str:
    """The value itself, if no character in it is forbidden in a header field. Raises HeaderError."""
    if found := FORBIDDEN.search(value):
        raise HeaderError(header, f"{character(found[0])} at character {found.start() + 1} cannot stand in it")
    return value


def line(header: str, value: str) -> bytes:
    """A field whose value already has the form its standard asks for: ASCII, no folding. Raises HeaderError."""
    require_plain(header, value)
    if not value.isascii():
        raise HeaderError(header, "only ASCII can stand in it")
    return _fold(header, (value,))


@lru_cache(maxsize=256)  # a subject is often the same for all letters of a language
def unstructured(header: str, value: str) -> bytes:
    """Free text such as Subject (RFC 5322 §2.2.1), by RFC 2047 where ASCII alone would not bring it across."""
    require_plain(header, value)
    room = FOLD - len(header) - 2
    if value.isascii() and "=?" not in value and value == value.strip(" "):
        chunks = _CHUNK.findall(value)
        if max(map(len, chunks), default=0) <= room:
            return _fold(header, chunks)
    return _fold(header, encoded_words(value, room))


def address_list(header: str, mailboxes: Sequence[Mailbox]) -> bytes:
    """A list of mailboxes (RFC 5322 §3.4), for From, To, Cc and Reply-To. Raises HeaderError, also for an empty one."""
    if not mailboxes:
        raise HeaderError(header, "there is no address")
    words: list[str] = []
    for mailbox in mailboxes:
        words += _mailbox(header, mailbox)
        words[-1] += ","
    words[-1] = words[-1][:-1]
    return _fold(header, words)


def encoded_words(text: str, room: int) -> Sequence[str]:
    """RFC 2047 encoded words of at most `room` characters, which together mean `text`: B or Q, whichever is shorter.

    No character is split between two of them, so that each decodes by itself (§5).
    """
    octets = text.encode()
    q_size = sum(len(_Q[o]) for o in octets)
    if q_size <= (len(octets) + 2) // 3 * 4:
        return [f"=?utf-8?q?{''.join(_Q[o] for o in piece)}?=" for piece in _pieces(text, room - 12, quoted=True)]
    room = (room - 12) // 4 * 3
    return [f"=?utf-8?b?{base64.b64encode(piece).decode()}?=" for piece in _pieces(text, room, quoted=False)]


def parameter(name: str, value: str) -> Sequence[str]:
    """One parameter of a MIME field, as the words between which it may be folded.

    ASCII: `name="value"`. Otherwise RFC 2231, `name*=utf-8''…`, in numbered sections where it is long.
    """
    require_plain(name, value)
    if value.isascii() and "=?" not in value:
        return (f"{name}={_quoted(value)}",)
    room = FOLD - len(name) - len("*00*=; ")
    sections = _sections("utf-8''", value, room)
    if len(sections) == 1:
        return (f"{name}*={sections[0]}",)
    pieces = [f"{name}*{number}*={section}" for number, section in enumerate(sections)]
    return (*(f"{piece};" for piece in pieces[:-1]), pieces[-1])


def old_parameter(name: str, value: str) -> Sequence[str]:
    """The same for readers that know no RFC 2231: encoded words in a quoted string.

    RFC 2047 §5 (3) forbids that, and yet it is what most programs write and all read in the `name` of Content-Type.
    """
    require_plain(name, value)
    if value.isascii() and "=?" not in value:
        return (f"{name}={_quoted(value)}",)
    words = list(encoded_words(value, FOLD - len(name) - len(' ="";')))
    words[0] = f'{name}="{words[0]}'
    words[-1] += '"'
    return words


def parameterised(header: str, value: str, *, old: bool = False, **parameters: str) -> bytes:
    """A MIME field with parameters, such as Content-Type or Content-Disposition (RFC 2045 §5.1, RFC 2183).

    `old` writes them as `old_parameter` does.
    """
    if not _TYPE.fullmatch(value):
        raise HeaderError(header, f"{value!r} is not a type")
    words = [f"{value};"]
    for name, text in parameters.items():
        try:
            words += old_parameter(name, text) if old else parameter(name, text)
        except HeaderError as error:
            raise HeaderError(header, str(error)) from None
        words[-1] += ";"
    words[-1] = words[-1].removesuffix(";")
    return _fold(header, words)


def clean_file_name(name: str) -> str:
    """A file name that is safe to show and to store: the last part of a path, at most 100 characters, never empty.

    Control, bidirectional and other invisible characters are dropped (but not the two joiners, which some scripts
    need to be read), what Windows forbids becomes `_`, blanks in a row become one. The extension is kept.
    """
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rstrip("/ ").rpartition("/")[2])
    name = "".join(c for c in name if c in "\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    name = " ".join(re.sub(r'[<>:"|?*]', "_", name).split()).strip(" .")
    name = unicodedata.normalize("NFC", name)  # again: what was dropped may have stood between a letter and its accent
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > 16:
        stem, dot, extension = name, "", ""
    stem = stem[: LONGEST_FILE_NAME - len(dot + extension) - 1].rstrip(" .") or "attachment"
    # Windows takes these for devices whatever their extension
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", stem):
        stem = "_" + stem
    return stem + dot + extension


def _fold(header: str, words: Sequence[str]) -> bytes:
    """The field with its words one blank apart, broken before a word that would pass the 76th column."""
    lines = [f"{header}: {words[0] if words else ''}"]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > FOLD:
            lines.append(f" {word}")
        else:
            lines[-1] += f" {word}"
    octets = "\r\n".join(lines).encode()
    if len(octets) > LONGEST_LINE and max(map(len, octets.split(b"\r\n"))) > LONGEST_LINE:
        raise HeaderError(header, f"too long: a line may have {LONGEST_LINE} octets")
    return octets + b"\r\n"


def _mailbox(header: str, mailbox: Mailbox) -> Sequence[str]:
    """The words of one mailbox: display name as atoms, quoted string or encoded words, then the address."""
    name, address = require_plain(header, mailbox.name), require_plain(header, mailbox.address)
    if not _ADDRESS.fullmatch(address) or "=?" in address:  # an encoded word here is decoded by readers
        raise HeaderError(header, f"{address!r} is not an address")
    if not name:
        return [address]
    room = FOLD - len(header) - 3  # one more than elsewhere, for a comma
    words: Sequence[str] = _CHUNK.findall(name if _ATOMS.fullmatch(name) else _quoted(name))
    if not name.isascii() or "=?" in name or max(map(len, words)) > room:
        words = encoded_words(name, room)
    return [*words, f"<{address}>"]


def _quoted(text: str) -> str:
    """A quoted string (RFC 5322 §3.2.4)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pieces(text: str, room: int, *, quoted: bool) -> Iterator[bytes]:
    """The text as UTF-8 in runs of whole characters: of at most `room` octets, or Q-encoded characters."""
    piece, size = b"", 0
    for char in text:
        octets = char.encode()
        more = sum(len(_Q[o]) for o in octets) if quoted else len(octets)
        if size + more > room:
            yield piece
            piece, size = b"", 0
        piece, size = piece + octets, size + more
    yield piece


def _sections(start: str, value: str, room: int) -> Sequence[str]:
    """A value percent-encoded (RFC 2231 §4), cut between characters so that no section is longer than `room`."""
    sections = [start]
    for char in value:
        encoded = quote(char, safe="")
        if len(sections[-1]) + len(encoded) > room:
            sections.append("")
        sections[-1] += encoded
    return sections
