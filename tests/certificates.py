"""Certificates for mail, made anew: an authority, one below it, and whatever that issues."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dispatcher.signing.smime import PrivateKey

NOW = datetime.now(UTC).replace(microsecond=0)
FOR_MAIL = (ExtendedKeyUsageOID.EMAIL_PROTECTION,)


@cache
def rsa_key(bits: int = 2048) -> PrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey, passphrase: str = "") -> bytes:
    locked = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


@dataclass(frozen=True)
class Authority:
    """One that issues certificates; its own is signed by another's key, or by its own."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True)
class Wish:
    """What is to stand in a certificate for mail."""

    addresses: Sequence[str] = ("upr@kms.example.org",)
    purposes: Sequence[x509.ObjectIdentifier] = FOR_MAIL
    may_sign: bool | None = True
    name: str = "KMS Secretariat"
    old_address: str = ""
    begins: datetime = NOW - timedelta(days=1)
    ends: datetime = NOW + timedelta(days=300)
    key: PrivateKey = field(default_factory=rsa_key)


def _name(text: str, address: str = "") -> x509.Name:
    found = [x509.NameAttribute(NameOID.COMMON_NAME, text)]
    found += [x509.NameAttribute(NameOID.EMAIL_ADDRESS, address)] if address else []
    return x509.Name(found)


def authority(name: str, by: Authority | None = None, *, ends: datetime = NOW + timedelta(days=3000)) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(by.certificate.subject if by else _name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=20))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
    )
    return Authority(builder.sign(by.key if by else key, SHA256()), key)


@cache
def chain() -> tuple[Authority, Authority]:
    """A root, and one below it."""
    root = authority("Example Root")
    return root, authority("Example Mail Authority", root)


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign, content_commitment=False, key_encipherment=sign, data_encipherment=False,
        key_agreement=False, key_cert_sign=not sign, crl_sign=not sign, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def issued(wish: Wish = Wish(), by: Authority | None = None) -> bytes:
    """A certificate in PEM; without an issuer signed by itself."""
    name = _name(wish.name, wish.old_address)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by.certificate.subject if by else name)
        .public_key(wish.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(wish.begins)
        .not_valid_after(wish.ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if wish.addresses:
        names = x509.SubjectAlternativeName([x509.RFC822Name(address) for address in wish.addresses])
        builder = builder.add_extension(names, critical=False)
    if wish.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(wish.purposes), critical=False)
    if wish.may_sign is not None:
        builder = builder.add_extension(_usage(sign=wish.may_sign), critical=True)
    return builder.sign(by.key if by else wish.key, SHA256()).public_bytes(Encoding.PEM)


def sign_with(folder: Path, wish: Wish, passphrase: str = "", more: str = "") -> None:
    """Have a campaign sign with such a certificate."""
    root, below = chain()
    (folder / "office.pem").write_bytes(issued(wish, below) + below.pem + root.pem)
    (folder / "office.key").write_bytes(key_pem(wish.key, passphrase))
    (folder / "office.key").chmod(0o600)
    with (folder / "campaign.toml").open("a") as file:
        file.write(f'\n[smime]\ncertificate = "office.pem"\nkey = "office.key"\n{more}\n')
