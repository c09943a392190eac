"""Signatures by people: Ed25519 (RFC 8032), with keys as OpenSSH or minisign keep them, and in the form these write.

Anybody can check them without this program: with `ssh-keygen -Y verify`, or `minisign -V`. A private key is read when
it is needed and never kept, printed or logged; neither is what unlocks it.
"""

import base64
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatcher.core.approval import KIND, PublicKey
from dispatcher.core.errors import Problem, SignatureError
from dispatcher.signing import minisign, openssh
from dispatcher.signing.openssh import NAMESPACE

_LARGEST: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature as the key's own program writes it, and the public key that it is by."""

    key: PublicKey
    signature: str


def sign(path: Path, octets: bytes) -> Signed:
    """Sign with a private key of OpenSSH's or minisign's. Raises SignatureError, which holds no part of the key.

    A key that is locked is asked for, at the terminal.
    """
    held = _octets(path)
    if held.startswith(minisign.HEAD):
        key, signature = minisign.sign(path, held, octets)
        return Signed(verify(octets, signature, key), signature)
    signature = openssh.sign(path, held, octets)
    return Signed(verify(octets, signature), signature)


def verify(octets: bytes, signature: str, key: PublicKey | None = None) -> PublicKey:
    """By whose key these octets are signed; it is `key` if that is given. One of minisign's does not say itself.

    Raises SignatureError if they are not, or not in the one form.
    """
    if signature.startswith(openssh.BEGIN):
        found = openssh.verify(octets, signature)
        if key and key.key != found.key:
            raise SignatureError(Problem("the signature is by another key than the one that is named"))
        return found
    if not signature.startswith(minisign.HEAD.decode()):
        raise SignatureError(Problem("the signature is not whole: it is none by OpenSSH or minisign"))
    if key is None:
        todo = "name it: a file with the line of minisign.pub that begins with RW"
        raise SignatureError(Problem("a signature of minisign's does not say by which key it is", todo=todo))
    return minisign.verify(octets, signature, key)


def fingerprint(key: PublicKey) -> str:
    """A key in short, as `ssh-keygen -l` shows it; one of minisign's is short as it is."""
    if key.minisign:
        return key.key
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.blob).digest()).decode().rstrip("=")


def _octets(path: Path) -> bytes:
    try:
        if not path.is_file():  # before it is opened: a pipe would wait for ever
            what = f"{path} is not a file" if path.exists() else f"{path} does not exist"
            todo = f"name your private key, such as ~/.ssh/id_ed25519; or {openssh.MAKE}"
            raise SignatureError(Problem(what, todo=todo))
        with path.open("rb") as file:
            octets = file.read(_LARGEST)
            readable = os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077
    except OSError as error:
        raise SignatureError(Problem(f"{path} cannot be read: {error.strerror}", todo="check its rights")) from None
    if readable and not octets.startswith(KIND.encode()):
        raise SignatureError(Problem(f"{path} can be read by others", todo=f"run: chmod 600 {path}"))
    return octets


__all__ = ["NAMESPACE", "Signed", "fingerprint", "sign", "verify"]
