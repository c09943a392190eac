"""Small pictures made in a line."""

import struct
import zlib


def png(width: int = 40, height: int = 20, *, noise: bytes = b"") -> bytes:
    """A PNG of one colour; `noise` makes it larger, and another one."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes((26, 75, 122)) * width) * height
    chunks = ((b"IHDR", header), (b"tEXt", b"Comment\0" + noise), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
