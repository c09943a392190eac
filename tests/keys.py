"""Keys of people, made for one test; and OpenSSH's own program for them."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.servers import require


def private_key(path: Path, owner: str = "somebody") -> Path:
    """A new Ed25519 key in OpenSSH's form, for its owner alone; its public half lies beside it."""
    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(openssh(key))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    path.with_suffix(".pub").write_text(f"{public} {owner}\n", encoding="utf-8")
    return path


def openssh(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def ssh_keygen() -> str:
    """The path of ssh-keygen, or a skip that says how to install it."""
    return require("ssh-keygen", "apt-get install openssh-client")
