"""Keys as OpenSSH keeps them, signatures as OpenSSH writes them (SSHSIG).

`ssh-keygen -Y verify -n dispatcher` checks them too. The format is OpenSSH's PROTOCOL.sshsig, the key's RFC 8709, the
signature's RFC 8032. A key that is locked with a passphrase, or held by an agent, is used by `ssh-keygen`, which asks
for the passphrase itself: none ever comes here.
"""

import base64
import binascii
import hashlib
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.core.approval import KIND, PublicKey
from dispatcher.core.errors import Problem, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAMESPACE: Final = "dispatcher"
_MAGIC: Final = b"SSHSIG"
BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
_WIDTH: Final = 70
_HASHES: Final = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}
MAKE: Final = "make one with: ssh-keygen -t ed25519"


def sign(path: Path, held: bytes, octets: bytes) -> str:
    """Sign with the key in a file that holds this. Raises SignatureError."""
    private = _read(path, held)
    return _by_ssh_keygen(path, octets) if private is None else _by_key(private, octets)


def verify(octets: bytes, signature: str) -> PublicKey:
    """By whose key these octets are signed. Raises SignatureError if they are not, or not in the one form."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (slow to load)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    key, namespace, algorithm, raw = _parsed(signature)
    if namespace != NAMESPACE.encode():
        raise SignatureError(Problem("the signature was made for something else, not for dispatcher"))
    try:
        Ed25519PublicKey.from_public_bytes(key.octets).verify(raw, _to_sign(algorithm, octets))
    except InvalidSignature:
        raise SignatureError(
            Problem("the signature is not good: what it signs, or the signature, was changed")
        ) from None
    return key


def _read(path: Path, octets: bytes) -> "Ed25519PrivateKey | None":
    """The private key in a file; None if only `ssh-keygen` can use it: it is locked, or an agent's."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key  # noqa: PLC0415

    if octets.startswith(KIND.encode()):  # the public half: an agent may hold the other
        return None
    try:
        key = load_ssh_private_key(octets, None)
    except TypeError:  # says cryptography of a key that is locked
        return None
    except (ValueError, UnsupportedAlgorithm):
        what = f"{path} is not a private key of OpenSSH's, nor of minisign's"
        raise SignatureError(Problem(what, todo=MAKE)) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(Problem(f"{path} is not an Ed25519 key", todo=MAKE))
    return key


def _by_key(key: "Ed25519PrivateKey", octets: bytes) -> str:
    public = PublicKey.of(key.public_key().public_bytes_raw())
    algorithm = b"sha512"
    raw = key.sign(_to_sign(algorithm, octets))
    return _armoured(public, NAMESPACE.encode(), algorithm, raw)


def _by_ssh_keygen(path: Path, octets: bytes) -> str:
    command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(path)]
    todo = f"try it by hand: ssh-keygen -y -f {path}"
    try:
        done = subprocess.run(command, input=octets, capture_output=True, check=False)
    except OSError:
        what = f"{path} is locked with a passphrase, or held by an agent, and there is no ssh-keygen to use it"
        raise SignatureError(Problem(what, todo="install OpenSSH, or use another key")) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SignatureError(Problem(f"ssh-keygen did not sign with {path}: {said[-1] if said else ''}", todo=todo))
    return done.stdout.decode(errors="replace")


def _to_sign(algorithm: bytes, octets: bytes) -> bytes:
    """What the key signs (PROTOCOL.sshsig, "Signed data")."""
    return _MAGIC + _strings(NAMESPACE.encode(), b"", algorithm, _HASHES[algorithm](octets).digest())


def _armoured(key: PublicKey, namespace: bytes, algorithm: bytes, raw: bytes) -> str:
    """A signature in its one form (PROTOCOL.sshsig, "Armored format")."""
    inner = _strings(KIND.encode(), raw)
    blob = _MAGIC + struct.pack(">I", 1) + _strings(key.blob, namespace, b"", algorithm, inner)
    text = base64.b64encode(blob).decode()
    lines = [text[start : start + _WIDTH] for start in range(0, len(text), _WIDTH)]
    return "\n".join([BEGIN, *lines, _END, ""])


def _parsed(signature: str) -> tuple[PublicKey, bytes, bytes, bytes]:
    """Key, namespace, hash algorithm and the 64 octets. Raises SignatureError unless it is written in its one form."""
    broken = SignatureError(Problem("the signature is not whole: it is none of an Ed25519 key by OpenSSH"))
    try:
        blob = base64.b64decode("".join(signature.split("\n")[1:-2]), validate=True)
        public, namespace, _, algorithm, inner = _split(blob[len(_MAGIC) + 4 :], 5)
        kind, raw = _split(inner, 2)
        key = PublicKey.parse(f"{KIND} {base64.b64encode(public).decode()}")
    except (binascii.Error, ValueError, struct.error):
        raise broken from None
    if kind != KIND.encode() or algorithm not in _HASHES or _armoured(key, namespace, algorithm, raw) != signature:
        raise broken
    return key, namespace, algorithm, raw


def _strings(*parts: bytes) -> bytes:
    """Strings as SSH writes them: length in four octets, then the octets (RFC 4251 §5)."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _split(octets: bytes, count: int) -> list[bytes]:
    """The inverse of `_strings`. Raises ValueError if they are not so many."""
    found = []
    for _ in range(count):
        (length,) = struct.unpack_from(">I", octets)
        found.append(octets[4 : 4 + length])
        if len(found[-1]) != length:
            raise ValueError("cut off")
        octets = octets[4 + length :]
    if octets:
        raise ValueError("more than there should be")
    return found


__all__ = ["BEGIN", "MAKE", "NAMESPACE", "sign", "verify"]
