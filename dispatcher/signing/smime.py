"""Certificates, and their private keys, that sign letters (S/MIME): RSA and ECDSA, in PEM files.

What is in a key, and what unlocks it, is never printed or put into an error. Raises SignatureError.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dispatcher.core.errors import Problem, SignatureError
from dispatcher.core.smime import Certificate

T = TypeVar("T", bound=x509.ExtensionType)
PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey
_HOW = (PKCS7Options.Binary, PKCS7Options.DetachedSignature)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, and the certificates above it. `sign` may be called by several threads at once."""

    key: PrivateKey
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...]

    def __repr__(self) -> str:
        return f"<certificate of {self.certificate.subject.rfc4514_string()}>"

    def sign(self, octets: bytes) -> bytes:
        """A detached CMS SignedData over these octets, in DER (RFC 5652), with the certificates.

        It holds the moment at which it was made; by ECDSA it is another one each time.
        """
        builder = PKCS7SignatureBuilder().set_data(octets).add_signer(self.certificate, self.key, SHA256())
        for certificate in self.above:
            builder = builder.add_certificate(certificate)
        return builder.sign(Encoding.DER, _HOW)

    def facts(self) -> Certificate:
        """What the certificate says. Raises SignatureError if that cannot be read."""
        try:
            return _facts(self)
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
            raise SignatureError(Problem("the certificate has fields that cannot be read")) from None


def key_of(pem: bytes, passphrase: Callable[[], str]) -> PrivateKey:
    """The key in a PEM file; `passphrase` is asked for only if it is locked with one. Raises SignatureError."""
    try:
        held = _loaded(pem, passphrase)
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError(Problem("it holds no private key in PEM form")) from None
    if not isinstance(held, RSAPrivateKey | EllipticCurvePrivateKey):
        raise SignatureError(Problem("the key is neither RSA nor ECDSA: mail programs know no other"))
    return held


def _loaded(pem: bytes, passphrase: Callable[[], str]) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:  # says cryptography of a key that is locked
        word = passphrase().encode()
    try:
        return load_pem_private_key(pem, password=word)
    except ValueError:
        todo = "put the right one where passphrase under [smime] says"
        raise SignatureError(Problem("the passphrase does not unlock it", todo=todo)) from None


def pair_of(pem: bytes, key: PrivateKey) -> Pair:
    """The key's certificate in a PEM file, with those above it, in whatever order. Raises SignatureError."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise SignatureError(Problem("it holds no certificate in PEM form")) from None
    ours = [each for each in found if _is_of(each, key)]
    if not ours:
        names = "; ".join(each.subject.rfc4514_string() for each in found)
        raise SignatureError(Problem(f"the key is not that of the certificate: {_printable(names)}"))
    certificate = max(ours, key=lambda each: each.not_valid_after_utc)  # one that was renewed may lie beside the old
    return Pair(key, certificate, tuple(_above(certificate, found)))


def _is_of(certificate: x509.Certificate, key: PrivateKey) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False


def _above(certificate: x509.Certificate, found: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    """Who issued it, who issued that one, and so on, as far as they are there."""
    seen = [certificate]
    while issuer := next((each for each in found if each not in seen and _has_issued(each, seen[-1])), None):
        seen.append(issuer)
        yield issuer


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _facts(pair: Pair) -> Certificate:
    certificate = pair.certificate
    self_signed = _has_issued(certificate, certificate)
    alternative = _extension(certificate, x509.SubjectAlternativeName)
    usage, purposes = _extension(certificate, x509.KeyUsage), _extension(certificate, x509.ExtendedKeyUsage)
    old = certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    good = {ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return Certificate(
        subject=_printable(certificate.subject.rfc4514_string()),
        serial=f"{certificate.serial_number:X}",
        fingerprint=certificate.fingerprint(SHA256()).hex(),
        addresses=tuple(map(_printable, alternative.get_values_for_type(x509.RFC822Name))) if alternative else (),
        old_addresses=tuple(_printable(str(each.value)) for each in old),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        may_sign=usage is None or usage.digital_signature or usage.content_commitment,
        for_mail=purposes is None or not good.isdisjoint(purposes),
        self_signed=self_signed,
        issuers=tuple((_printable(each.subject.rfc4514_string()), each.not_valid_after_utc) for each in pair.above),
        missing="" if self_signed or pair.above else _printable(certificate.issuer.rfc4514_string()),
        bits=pair.key.key_size if isinstance(pair.key, RSAPrivateKey) else 0,
    )


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _printable(text: str) -> str:
    """A name from a certificate, safe to show."""
    return "".join(c if c.isprintable() else "?" for c in text)


__all__ = ["Pair", "PrivateKey", "key_of", "pair_of"]
