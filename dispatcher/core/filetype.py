"""What a file is by its content, and whether its name says the same. Pure: octets in, a media type out.

Content is known by its first octets and, where that is a ZIP archive, by the names in it. Media types are our own
table, never the machine's: the same file is the same letter everywhere.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Final

BINARY: Final = "application/octet-stream"
PDF: Final = "application/pdf"
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
TEXT: Final = "text/plain"
ZIP: Final = "application/zip"
_OLE: Final = "application/x-ole-storage"  # Word, Excel and PowerPoint up to 2003, and Outlook's .msg
_EBML: Final = "video/x-matroska"
_OOXML: Final = "application/vnd.openxmlformats-officedocument."
_ODF: Final = "application/vnd.oasis.opendocument."

_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"{\\rtf", "application/rtf"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"\x7fELF", "application/x-elf"),
    (b"ID3", "audio/mpeg"),
    (b"\x1a\x45\xdf\xa3", _EBML),
)
_EXTENSIONS: Final[Mapping[str, tuple[str, str]]] = {
    "pdf": (PDF, PDF),
    "png": (PNG, PNG),
    "jpg": (JPEG, JPEG),
    "jpeg": (JPEG, JPEG),
    "gif": ("image/gif", "image/gif"),
    "tif": ("image/tiff", "image/tiff"),
    "tiff": ("image/tiff", "image/tiff"),
    "webp": ("image/webp", "image/webp"),
    "rtf": ("application/rtf", "application/rtf"),
    "docx": (f"{_OOXML}wordprocessingml.document",) * 2,
    "xlsx": (f"{_OOXML}spreadsheetml.sheet",) * 2,
    "pptx": (f"{_OOXML}presentationml.presentation",) * 2,
    "odt": (f"{_ODF}text",) * 2,
    "ods": (f"{_ODF}spreadsheet",) * 2,
    "odp": (f"{_ODF}presentation",) * 2,
    "epub": ("application/epub+zip",) * 2,
    "zip": (ZIP, ZIP),
    "gz": ("application/gzip", "application/gzip"),
    "7z": ("application/x-7z-compressed",) * 2,
    "rar": ("application/vnd.rar",) * 2,
    "doc": (_OLE, "application/msword"),
    "xls": (_OLE, "application/vnd.ms-excel"),
    "ppt": (_OLE, "application/vnd.ms-powerpoint"),
    "msg": (_OLE, "application/vnd.ms-outlook"),
    "txt": (TEXT, TEXT),
    "md": (TEXT, "text/markdown"),
    "csv": (TEXT, "text/csv"),
    "tsv": (TEXT, "text/tab-separated-values"),
    "htm": (TEXT, "text/html"),
    "html": (TEXT, "text/html"),
    "ics": (TEXT, "text/calendar"),
    "vcf": (TEXT, "text/vcard"),
    "json": (TEXT, "application/json"),
    "xml": (TEXT, "application/xml"),
    "svg": (TEXT, "image/svg+xml"),
}
"""By extension: what the content must be, and the media type that is then written."""
_NAMES: Final[Mapping[str, str]] = {
    PDF: "a PDF",
    PNG: "a PNG picture",
    JPEG: "a JPEG picture",
    "image/gif": "a GIF picture",
    "image/tiff": "a TIFF picture",
    "image/webp": "a WebP picture",
    "application/rtf": "an RTF document",
    f"{_OOXML}wordprocessingml.document": "a Word document (.docx)",
    f"{_OOXML}spreadsheetml.sheet": "an Excel workbook (.xlsx)",
    f"{_OOXML}presentationml.presentation": "a PowerPoint presentation (.pptx)",
    f"{_ODF}text": "an OpenDocument text (.odt)",
    f"{_ODF}spreadsheet": "an OpenDocument spreadsheet (.ods)",
    f"{_ODF}presentation": "an OpenDocument presentation (.odp)",
    "application/epub+zip": "an e-book (.epub)",
    ZIP: "a ZIP archive",
    "application/gzip": "a gzip archive",
    "application/x-7z-compressed": "a 7z archive",
    "application/vnd.rar": "a RAR archive",
    _OLE: "a document of an old Office program (.doc, .xls, .ppt)",
    "application/vnd.microsoft.portable-executable": "a Windows program",
    "application/x-elf": "a program",
    TEXT: "plain text",
    BINARY: "of no type that is known here",
}


_NOT_IN_TEXT: Final = bytes(code for code in range(0x20) if code not in b"\t\n\v\f\r\x1b") + b"\x7f"
"""NUL and other controls; escape sequences are text of some printers and terminals."""


_FOLDERS: Final = (
    ("word/", f"{_OOXML}wordprocessingml.document"),
    ("xl/", f"{_OOXML}spreadsheetml.sheet"),
    ("ppt/", f"{_OOXML}presentationml.presentation"),
)
"""What is in which archive of Office Open XML."""


class TypeMismatch(ValueError):
    """A file's name says another type than its content. The text says both."""


def in_words(content: str) -> str:
    """What a content is, for people: "a PDF"."""
    return _NAMES.get(content, f"of the type {content}")


def content_of(octets: bytes) -> str:
    """The type of a content, whatever its name; `BINARY` if it is not known."""
    if b"%PDF-" in octets[:1024]:  # ISO 32000-1 annex H.3.4.1: readers look for it in the first 1024 octets
        return PDF
    if octets.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive(octets)
    if octets[:4] == b"RIFF" and octets[8:12] == b"WEBP":
        return "image/webp"
    for signature, kind in _SIGNATURES:
        if octets.startswith(signature):
            return kind
    return TEXT if _is_text(octets) else BINARY


def media_type(name: str, octets: bytes) -> str:
    """The media type of a file, by its content. Raises TypeMismatch if its name says something else.

    A name without an extension, or with one that is not known here, is believed, unless it hides what is known.
    """
    content = content_of(octets)
    _, dot, extension = name.rpartition(".")
    wanted = _EXTENSIONS.get(extension.lower()) if dot else None
    if wanted is None:
        return TEXT if content == TEXT and not dot else _unnamed(content)
    if wanted[0] != content:
        raise TypeMismatch(f"its name says {in_words(wanted[0])}, but it is {in_words(content)}")
    return wanted[1]


def _unnamed(content: str) -> str:
    """The type of a file whose name does not say it."""
    return BINARY if content in (TEXT, _OLE) else content


def _is_text(octets: bytes) -> bool:
    """Whether there is nothing in it that no text holds: NUL and other controls. UTF-16 counts if it says so."""
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return len(octets.translate(None, _NOT_IN_TEXT)) == len(octets)


def _archive(octets: bytes) -> str:
    """What a ZIP archive is: OpenDocument says it in its first entry, Office Open XML by the folder it has."""
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as archive:
            names = set(archive.namelist())
            packed = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if "mimetype" in names and archive.getinfo("mimetype").compress_type in packed:
                with archive.open("mimetype") as entry:
                    said = entry.read(100).decode("ascii", "replace").strip()
                return said if said.startswith((_ODF, "application/epub+zip")) else ZIP
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error):
        return BINARY
    if "[Content_Types].xml" in names:
        return next((kind for folder, kind in _FOLDERS if any(name.startswith(folder) for name in names)), ZIP)
    return ZIP
