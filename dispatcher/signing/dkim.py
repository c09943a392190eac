"""Private keys that sign letters (DKIM): RSA and Ed25519, in PEM files (PKCS#8, or what OpenSSL writes of old).

What is in a key is never printed or put into an error. Raises SignatureError.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from dispatcher.core.dkim import record_of
from dispatcher.core.errors import Problem, SignatureError

Kind = Literal["rsa", "ed25519"]
BITS: Final = 2048
"""Of a key that is made; a shorter one is not taken (RFC 8301 §3.2), and many name servers do not carry a longer."""


@dataclass(frozen=True, slots=True)
class Key:
    """A private key. `sign` may be called by several threads at once."""

    held: RSAPrivateKey | Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"<{self.algorithm} key>"

    @property
    def algorithm(self) -> Literal["rsa-sha256", "ed25519-sha256"]:
        return "rsa-sha256" if isinstance(self.held, RSAPrivateKey) else "ed25519-sha256"

    @property
    def record(self) -> str:
        """The TXT record that publishes it."""
        public = self.held.public_key()
        if isinstance(self.held, RSAPrivateKey):
            octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return record_of(self.algorithm, octets)

    def sign(self, octets: bytes) -> bytes:
        """RFC 6376 §3.3.1: PKCS#1 v1.5; RFC 8463 §3: Ed25519 of the SHA-256. Both give the same for the same."""
        if isinstance(self.held, RSAPrivateKey):
            return self.held.sign(octets, padding.PKCS1v15(), hashes.SHA256())
        return self.held.sign(hashlib.sha256(octets).digest())


def key_of(pem: bytes) -> Key:
    """The key in a PEM file. Raises SignatureError."""
    try:
        held = load_pem_private_key(pem, password=None)
    except TypeError:
        raise SignatureError(Problem("the key is locked with a passphrase")) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError(Problem("it holds no private key in PEM form")) from None
    if isinstance(held, RSAPrivateKey):
        if held.key_size < BITS:
            raise SignatureError(Problem(f"the key has {held.key_size:,} bits, and {BITS:,} are wanted"))
    elif not isinstance(held, Ed25519PrivateKey):
        raise SignatureError(Problem("the key is neither RSA nor Ed25519"))
    return Key(held)


def verifies(algorithm: str, public: bytes, octets: bytes, signature: bytes) -> bool:
    """Whether a public key, as a record publishes it, finds a signature good. One that is no key does not."""
    try:
        if algorithm == "rsa-sha256":
            rsa = load_der_public_key(public)
            if not isinstance(rsa, RSAPublicKey):
                return False
            rsa.verify(signature, octets, padding.PKCS1v15(), hashes.SHA256())
        else:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, hashlib.sha256(octets).digest())
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def new_key(kind: Kind) -> bytes:
    """A new private key, in PEM."""
    held = generate_private_key(65537, BITS) if kind == "rsa" else Ed25519PrivateKey.generate()
    return held.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
