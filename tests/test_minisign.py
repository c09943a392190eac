"""Keys and signatures of minisign's: its own program makes what we read, and checks what we make."""

import base64
import io
import re
import subprocess
from pathlib import Path

import pytest

from dispatcher.core.approval import PublicKey
from dispatcher.core.errors import SignatureError
from dispatcher.signing import fingerprint, sign, verify
from tests.keys import minisign, minisign_key, minisign_public, private_key

TEXT = b"dispatcher approval 1\nname: Ada\n"


def judged(folder: Path, signature: str, octets: bytes = TEXT) -> bool:
    """Whether minisign itself takes the signature."""
    (folder / "text").write_bytes(octets)
    (folder / "text.minisig").write_text(signature, encoding="utf-8")
    command = [minisign(), "-V", "-p", str(folder / "minisign.pub"), "-m", str(folder / "text")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_minisign_verifies_what_we_sign(tmp_path: Path) -> None:
    signed = sign(minisign_key(tmp_path), TEXT)
    assert signed.key == minisign_public(tmp_path) == verify(TEXT, signed.signature, signed.key)
    assert judged(tmp_path, signed.signature)
    assert not judged(tmp_path, signed.signature, TEXT + b"x")
    assert sign(tmp_path / "minisign.key", TEXT) == signed  # Ed25519 leaves nothing to chance
    assert fingerprint(signed.key) == signed.key.key


def test_a_locked_key_is_unlocked_by_its_password_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = minisign_key(tmp_path, "a pass phrase é")
    monkeypatch.setattr("sys.stdin", io.StringIO("a pass phrase é\n"))
    assert judged(tmp_path, sign(key, TEXT).signature)
    monkeypatch.setattr("sys.stdin", io.StringIO("another\n"))
    with pytest.raises(SignatureError, match=r"the password of .* is wrong") as refused:
        sign(key, TEXT)
    assert "another" not in str(refused.value)


def test_a_key_that_is_locked_with_less_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where minisign finds little memory it takes less work, and says in the file how much: here it is told so."""
    key = minisign_key(tmp_path, "pw")
    first, line, *_ = key.read_bytes().split(b"\n")
    blob = bytearray(base64.b64decode(line))
    blob[38:54] = (2**40).to_bytes(8, "little") + (2**40).to_bytes(8, "little")
    key.write_bytes(b"\n".join((first, base64.b64encode(bytes(blob)), b"")))
    monkeypatch.setattr("sys.stdin", io.StringIO("pw\n"))
    with pytest.raises(SignatureError, match="more than 1 GB"):
        sign(key, TEXT)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Of the signature and of what it signs."""
    signed = sign(minisign_key(tmp_path), TEXT)
    whole = signed.signature.encode()
    for bit in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            verify(TEXT, changed.decode("latin-1"), signed.key)
    for bit in range(len(TEXT) * 8):
        changed = bytearray(TEXT)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError, match="not good"):
            verify(bytes(changed), signed.signature, signed.key)


def test_every_flipped_bit_of_a_key_is_noticed(tmp_path: Path) -> None:
    """So nobody signs with a key that is not theirs any more. One that is locked has a checksum besides."""
    key = minisign_key(tmp_path)
    first, line, *_ = key.read_bytes().split(b"\n")
    blob = base64.b64decode(line)
    for at in (*range(6), *range(62, 126)):  # what it is; the key and its public half
        changed = bytearray(blob)
        changed[at] ^= 1
        key.write_bytes(b"\n".join((first, base64.b64encode(bytes(changed)), b"")))
        with pytest.raises(SignatureError):
            sign(key, TEXT)


def test_a_signature_of_minisigns_names_no_key(tmp_path: Path) -> None:
    """So it is checked with one that is known, and with no other."""
    signed = sign(minisign_key(tmp_path), TEXT)
    with pytest.raises(SignatureError, match="does not say by which key"):
        verify(TEXT, signed.signature)
    (tmp_path / "other").mkdir()
    minisign_key(tmp_path / "other")
    with pytest.raises(SignatureError, match="another key"):
        verify(TEXT, signed.signature, minisign_public(tmp_path / "other"))
    same_number = PublicKey.of_minisign(signed.key.number, minisign_public(tmp_path / "other").octets)
    with pytest.raises(SignatureError, match="not good"):
        verify(TEXT, signed.signature, same_number)
    with pytest.raises(SignatureError, match="another key"):
        verify(TEXT, signed.signature, PublicKey.of(signed.key.octets))
    openssh = sign(private_key(tmp_path / "id_ed25519"), TEXT)
    with pytest.raises(SignatureError, match="another key"):
        verify(TEXT, openssh.signature, signed.key)


def test_a_signature_that_minisign_made_otherwise_is_refused(tmp_path: Path) -> None:
    """Of a signature there is one form alone: minisign's own comments would hold a time, which could be changed."""
    key = minisign_key(tmp_path)
    (tmp_path / "text").write_bytes(TEXT)
    subprocess.run([minisign(), "-S", "-s", key, "-m", tmp_path / "text"], capture_output=True, check=True)
    with pytest.raises(SignatureError, match="not whole"):
        verify(TEXT, (tmp_path / "text.minisig").read_text(), minisign_public(tmp_path))


@pytest.mark.parametrize("signature", ["untrusted comment:", "untrusted comment: x\nAAAA\ntrusted comment: y\nAAAA\n"])
def test_what_is_no_signature_is_refused(tmp_path: Path, signature: str) -> None:
    minisign_key(tmp_path)
    with pytest.raises(SignatureError, match="not whole"):
        verify(TEXT, signature, minisign_public(tmp_path))


@pytest.mark.parametrize("octets", [b"untrusted comment: x\n", b"untrusted comment: x\nAAAA\n", b"untrusted comment:"])
def test_what_is_no_key_is_refused(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "key").write_bytes(octets)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(SignatureError, match=re.escape("not a secret key of minisign's")):
        sign(tmp_path / "key", TEXT)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key = minisign_key(tmp_path)
    key.chmod(0o644)
    with pytest.raises(SignatureError, match="can be read by others"):
        sign(key, TEXT)


@pytest.mark.parametrize("line", ["RW", "RWQ!", "RW" + "A" * 53 + "==", "RW" + "A" * 60])
def test_what_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"copy the line of minisign\.pub"):
        PublicKey.parse(line)
