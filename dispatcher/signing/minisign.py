"""Keys as minisign keeps them, and signatures as it writes them.

`minisign -V` checks them too. The formats are those of minisign's public description (jedisct1.github.io/minisign): all
Ed25519 (RFC 8032), prehashed with BLAKE2b-512 (RFC 7693); a key is locked by a password with scrypt (RFC 7914). The
password is asked for at the terminal, or is a line of what comes in; it is forgotten at once.

A signature says by which key it is only with a number of 8 octets, which anybody may choose: so it is checked with a
key that is known. Its two comments are always the same here, so that there is one form alone.
"""

import base64
import binascii
import getpass
import hashlib
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.core.approval import PublicKey
from dispatcher.core.errors import Problem, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HEAD: Final = b"untrusted comment:"
_UNTRUSTED: Final = "untrusted comment: signature by dispatcher"
_TRUSTED: Final = "dispatcher"
_LEGACY, _PREHASHED, _SCRYPT, _NOT_LOCKED, _BLAKE2B = b"Ed", b"ED", b"Sc", b"\0\0", b"B2"
_SECRET: Final = struct.Struct("<2s2s2s32sQQ104s")
_MOST_MEMORY: Final = 1 << 30
"""Octets that minisign's own keys take to be unlocked; no key has a reason to take more."""
_TRY: Final = "try it by hand: minisign -S -s FILE -m anything"


def sign(path: Path, held: bytes, octets: bytes) -> tuple[PublicKey, str]:
    """Sign with the secret key in a file that holds this: the public key, and the signature. Raises SignatureError."""
    number, private = _unlocked(path, held)
    raw = private.sign(_hash(octets))
    public = PublicKey.of_minisign(number, private.public_key().public_bytes_raw())
    return public, _written(number, raw, private.sign(raw + _TRUSTED.encode()))


def verify(octets: bytes, signature: str, key: PublicKey) -> PublicKey:
    """The key, if these octets are signed with it. Raises SignatureError if they are not, or not in the one form."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (slow to load)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    number, raw, whole = _parsed(signature)
    if not key.minisign or number != key.number:
        raise SignatureError(Problem("the signature is by another key than the one that is named"))
    public = Ed25519PublicKey.from_public_bytes(key.octets)
    try:
        public.verify(raw, _hash(octets))
        public.verify(whole, raw + _TRUSTED.encode())
    except InvalidSignature:
        what = "the signature is not good: what it signs, or the signature, was changed"
        raise SignatureError(Problem(what)) from None
    return key


def _hash(octets: bytes) -> bytes:
    return hashlib.blake2b(octets).digest()


def _written(number: bytes, raw: bytes, whole: bytes) -> str:
    def base64_of(octets: bytes) -> str:
        return base64.b64encode(octets).decode()

    signature = base64_of(_PREHASHED + number + raw)
    return f"{_UNTRUSTED}\n{signature}\ntrusted comment: {_TRUSTED}\n{base64_of(whole)}\n"


def _parsed(signature: str) -> tuple[bytes, bytes, bytes]:
    """Number of the key, signature of the octets, signature of that and the comment."""
    broken = SignatureError(
        Problem("the signature is not whole: it is none that was made here with a key of minisign's")
    )
    lines = signature.split("\n")
    try:
        first, whole = (base64.b64decode(lines[at], validate=True) for at in (1, 3))
    except (binascii.Error, ValueError, IndexError):
        raise broken from None
    number, raw = first[2:10], first[10:]
    if len(raw) != 64 or len(whole) != 64 or _written(number, raw, whole) != signature:
        raise broken
    return number, raw, whole


def _unlocked(path: Path, held: bytes) -> "tuple[bytes, Ed25519PrivateKey]":
    """The key's number, and the key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    broken = SignatureError(Problem(f"{path} is not a secret key of minisign's", todo="make one with: minisign -G"))
    try:
        blob = base64.b64decode(held.split(b"\n")[1].strip(), validate=True)
        kind, lock, sum_kind, salt, work, memory, inner = _SECRET.unpack(blob)
    except (binascii.Error, ValueError, IndexError, struct.error):
        raise broken from None
    if (kind, sum_kind) != (_LEGACY, _BLAKE2B) or lock not in (_SCRYPT, _NOT_LOCKED):
        raise broken
    if lock == _SCRYPT:
        inner = _xor(inner, _stream(path, salt, work, memory))
    number, seed, public, checksum = inner[:8], inner[8:40], inner[40:72], inner[72:]
    if lock == _SCRYPT and hashlib.blake2b(kind + inner[:72], digest_size=32).digest() != checksum:
        raise SignatureError(Problem(f"the password of {path} is wrong", todo=_TRY))  # minisign -W writes no checksum
    private = Ed25519PrivateKey.from_private_bytes(seed)
    if private.public_key().public_bytes_raw() != public:
        raise SignatureError(Problem(f"{path} was changed, or cut off", todo=_TRY))
    return number, private


def _stream(path: Path, salt: bytes, work: int, memory: int) -> bytes:
    """What the key is hidden with. Its parameters are libsodium's (`crypto_pwhash_scryptsalsa208sha256`)."""
    n, p = _parameters(work, memory)
    if memory > _MOST_MEMORY or n * p > _MOST_MEMORY // 1024:
        raise SignatureError(Problem(f"{path} would take more than 1 GB of memory to be unlocked", todo=_TRY))
    try:
        return hashlib.scrypt(_asked(path).encode(), salt=salt, n=n, r=8, p=p, maxmem=2**31 - 1, dklen=104)
    except (ValueError, MemoryError):
        what = f"{path} cannot be unlocked here: it takes {memory:,} octets of memory"
        raise SignatureError(Problem(what, todo=_TRY)) from None


def _parameters(work: int, memory: int) -> tuple[int, int]:
    work = max(work, 32768)
    most = work // 32 if work < memory // 32 else memory // 1024
    n = 2
    while n < 2**62 and n <= most // 2:
        n *= 2
    return n, 1 if work < memory // 32 else max(1, min(work // 4 // n, 0x3FFFFFFF) // 8)


def _asked(path: Path) -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        return getpass.getpass(f"Password of {path}: ")
    return sys.stdin.readline().rstrip("\r\n") if sys.stdin is not None else ""


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


__all__ = ["HEAD", "sign", "verify"]
