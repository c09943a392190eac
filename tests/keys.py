"""Keys of people, made for one test; and OpenSSH's and minisign's own programs for them."""

import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dispatcher.core.approval import PublicKey
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


def minisign() -> str:
    """The path of minisign, or a skip that says how to install it."""
    return require("minisign", "apt-get install minisign")


def minisign_key(folder: Path, password: str = "") -> Path:
    """A new key pair of minisign's: the secret key, for its owner alone; `minisign.pub` lies beside it."""
    secret, public = folder / "minisign.key", folder / "minisign.pub"
    lock = [] if password else ["-W"]
    command = [minisign(), "-G", *lock, "-s", str(secret), "-p", str(public)]
    subprocess.run(command, input=f"{password}\n{password}\n".encode(), capture_output=True, check=True)
    secret.chmod(0o600)
    return secret


def minisign_public(folder: Path) -> PublicKey:
    return PublicKey.parse((folder / "minisign.pub").read_text(encoding="utf-8").splitlines()[1])
