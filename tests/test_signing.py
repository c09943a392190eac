"""Signatures: OpenSSH's own programs make what we check, and check what we make; nothing that was changed passes."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dispatcher.core.approval import PublicKey
from dispatcher.core.errors import SignatureError
from dispatcher.signing import fingerprint, sign, verify
from tests.keys import openssh, private_key, ssh_keygen

TEXT = b"dispatcher approval 1\nname: Ada\n"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return private_key(tmp_path / "id_ed25519")


def test_what_is_signed_is_verified(key: Path) -> None:
    signed = sign(key, TEXT)
    assert verify(TEXT, signed.signature) == signed.key
    assert signed.key.key == key.with_suffix(".pub").read_text().rsplit(" ", 1)[0]
    assert sign(key, TEXT) == signed  # Ed25519 leaves nothing to chance


def test_openssh_verifies_what_we_sign(key: Path, tmp_path: Path) -> None:
    signed = sign(key, TEXT)
    (tmp_path / "text.sig").write_text(signed.signature)
    (tmp_path / "allowed").write_text(f'ada@example.org namespaces="dispatcher" {signed.key.key}\n')
    who = ("-f", str(tmp_path / "allowed"), "-I", "ada@example.org")
    command = [ssh_keygen(), "-Y", "verify", *who, "-n", "dispatcher", "-s", str(tmp_path / "text.sig")]
    done = subprocess.run(command, input=TEXT, capture_output=True, check=False)
    assert done.returncode == 0, done
    assert b'Good "dispatcher" signature for ada@example.org' in done.stdout
    assert subprocess.run(command, input=TEXT + b"x", capture_output=True, check=False).returncode != 0


def test_openssh_shows_the_same_fingerprint(key: Path) -> None:
    shown = subprocess.run([ssh_keygen(), "-l", "-f", f"{key}.pub"], capture_output=True, check=True).stdout.decode()
    assert fingerprint(sign(key, TEXT).key) in shown


@pytest.mark.parametrize("options", [[], ["-O", "hashalg=sha256"]])
def test_we_verify_what_openssh_signs(key: Path, options: list[str]) -> None:
    command = [ssh_keygen(), "-Y", "sign", *options, "-n", "dispatcher", "-f", str(key)]
    signature = subprocess.run(command, input=TEXT, capture_output=True, check=True).stdout.decode()
    assert verify(TEXT, signature) == sign(key, TEXT).key


def test_a_signature_for_something_else_is_refused(key: Path) -> None:
    command = [ssh_keygen(), "-Y", "sign", "-n", "git", "-f", str(key)]
    signature = subprocess.run(command, input=TEXT, capture_output=True, check=True).stdout.decode()
    with pytest.raises(SignatureError, match="for something else"):
        verify(TEXT, signature)


def test_every_flipped_bit_is_noticed(key: Path) -> None:
    """Of the signature and of what it signs."""
    signature = sign(key, TEXT).signature
    whole = signature.encode()
    for bit in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            verify(TEXT, changed.decode("latin-1"))
    for bit in range(len(TEXT) * 8):
        changed = bytearray(TEXT)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError, match="not good"):
            verify(bytes(changed), signature)


@pytest.mark.parametrize(
    "signature", ["", "x", "\n\n\n", "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"]
)
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(SignatureError, match="not whole"):
        verify(TEXT, signature)


def test_another_key_is_another_name(key: Path, tmp_path: Path) -> None:
    """A signature carries its key; whose it is, is for the caller to say."""
    other = sign(private_key(tmp_path / "other"), TEXT)
    assert other.key != sign(key, TEXT).key
    assert verify(TEXT, other.signature) == other.key


# Files that are no keys.


def test_a_key_that_others_can_read_is_refused(key: Path) -> None:
    key.chmod(0o644)
    with pytest.raises(SignatureError, match=r"can be read by others(.|\n)*chmod 600"):
        sign(key, TEXT)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    for name, octets, words in (
        ("letter", b"Dear colleagues", "not a private key"),
        ("cut", private_key(tmp_path / "k").read_bytes()[:200], "not a private key"),
        ("ecdsa", openssh(ec.generate_private_key(ec.SECP256R1())), "not an Ed25519 key"),
    ):
        (tmp_path / name).write_bytes(octets)
        (tmp_path / name).chmod(0o600)
        with pytest.raises(SignatureError, match=words) as refused:
            sign(tmp_path / name, TEXT)
        assert "ssh-keygen -t ed25519" in str(refused.value)
    with pytest.raises(SignatureError, match="does not exist"):
        sign(tmp_path / "nowhere", TEXT)
    with pytest.raises(SignatureError, match="is not a file"):
        sign(tmp_path, TEXT)


def test_a_locked_key_is_used_by_ssh_keygen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for the passphrase, here a program of ours in place of the keyboard; and says no to a wrong one."""
    key = tmp_path / "locked"
    subprocess.run([ssh_keygen(), "-q", "-t", "ed25519", "-N", "a pass phrase", "-f", key], check=True)
    asked = tmp_path / "asked"
    monkeypatch.setenv("SSH_ASKPASS", str(asked))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    for passphrase, good in (("a pass phrase", True), ("another", False)):
        asked.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
        asked.chmod(0o700)
        if good:
            assert verify(TEXT, sign(key, TEXT).signature).key in key.with_suffix(".pub").read_text()
        else:
            with pytest.raises(SignatureError, match="ssh-keygen did not sign") as refused:
                sign(key, TEXT)
            assert passphrase not in str(refused.value)


def test_a_locked_key_without_ssh_keygen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "locked"
    subprocess.run([ssh_keygen(), "-q", "-t", "ed25519", "-N", "a pass phrase", "-f", key], check=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SignatureError, match=r"locked with a passphrase(.|\n)*install OpenSSH"):
        sign(key, TEXT)


def test_a_public_key_alone_signs_only_with_an_agent(
    key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    public = shutil.copy(key.with_suffix(".pub"), tmp_path / "alone.pub")
    ssh_keygen()
    with pytest.raises(SignatureError, match="ssh-keygen did not sign"):
        sign(Path(public), TEXT)


def test_the_octets_are_those_of_the_key() -> None:
    """Against the library's own writing of a public key."""
    public = Ed25519PrivateKey.generate().public_key()
    line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert PublicKey.of(public.public_bytes_raw()).key == line == PublicKey.parse(line).key
