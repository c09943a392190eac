"""What is measured of signing: letters with a 200 KB report, merged beforehand, signed one by one in one thread.

    python -m benchmarks.signing FOLDER LETTERS

Makes keys and a certificate anew in the campaign's folder, and prints one line of JSON: for each way to sign, the
seconds and the CPU seconds of all letters, and how many octets a letter has more for it. In a run the same is done by
threads beside the event loop's.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from dispatcher.core.merge import Merged
from dispatcher.core.model import Message
from dispatcher.desk import Desk
from dispatcher.desk.signing import signing_of
from dispatcher.dispatch import Sign
from dispatcher.signing.dkim import new_key
from dispatcher.signing.smime import PrivateKey

_DKIM_ED25519: Final = '[dkim]\nkeys = { e1 = "ed25519.pem" }\n'
_DKIM_RSA: Final = '[dkim]\nkeys = { r1 = "rsa.pem" }\n'
_DKIM_BOTH: Final = '[dkim]\nkeys = { e1 = "ed25519.pem", r1 = "rsa.pem" }\n'
_SMIME_ECDSA: Final = '[smime]\ncertificate = "ecdsa.crt"\nkey = "ecdsa.key"\n'
_SMIME_RSA: Final = '[smime]\ncertificate = "rsa.crt"\nkey = "rsa.key"\n'
WAYS: Final[Mapping[str, str]] = {
    "DKIM, Ed25519": _DKIM_ED25519,
    "DKIM, RSA-2048": _DKIM_RSA,
    "DKIM, both": _DKIM_BOTH,
    "S/MIME, ECDSA P-256": _SMIME_ECDSA,
    "S/MIME, RSA-2048": _SMIME_RSA,
    "S/MIME, RSA-2048, and DKIM, both": _SMIME_RSA + _DKIM_BOTH,
}
"""What campaign.toml says for each way."""


@dataclass(frozen=True)
class Signed:
    """One way to sign so many letters."""

    way: str
    letters: int
    seconds: float
    cpu: float
    octets: float


def _write_keys(folder: Path, address: str) -> None:
    files = {"ed25519.pem": new_key("ed25519"), "rsa.pem": new_key("rsa")}
    held: dict[str, PrivateKey] = {
        "ecdsa": ec.generate_private_key(ec.SECP256R1()),
        "rsa": rsa.generate_private_key(65537, 2048),
    }
    for name, key in held.items():
        files[f"{name}.key"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files[f"{name}.crt"] = _certificate(key, address)
    for file, octets in files.items():
        (folder / file).write_bytes(octets)
        (folder / file).chmod(0o600)


def _certificate(key: PrivateKey, address: str) -> bytes:
    """One that is signed by itself."""
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Benchmark")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=30))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def _timed(way: str, sign: Sign, letters: Sequence[Message], now: datetime) -> Signed:
    sign(letters[0], now)  # what all letters share is made once
    at, cpu = time.perf_counter(), time.process_time()
    sizes = [sign(letter, now).size - letter.size for letter in letters]
    seconds, spent = time.perf_counter() - at, time.process_time() - cpu
    return Signed(way, len(letters), seconds, spent, sum(sizes) / len(sizes))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signing")
    parser.add_argument("folder", type=Path)
    parser.add_argument("letters", type=int)
    given = parser.parse_args(arguments)
    desk, now = Desk(given.folder), datetime.now(UTC).replace(microsecond=0)
    draft = desk.draft()
    merged = [item for item in draft.items() if isinstance(item, Merged)][: given.letters]
    letters = [draft.merge.with_date(each, now) for each in merged]
    _write_keys(given.folder, draft.campaign.sender.address)
    settings = given.folder / "campaign.toml"
    plain, found = settings.read_text(encoding="utf-8"), []
    for way, lines in WAYS.items():
        settings.write_text(f"{plain}\n{lines}", encoding="utf-8")
        sign = signing_of(desk, desk.campaign()).sign
        if sign is None:
            raise RuntimeError(f"{way}: nothing signs")
        found.append(asdict(_timed(way, sign, letters, now)))
    settings.write_text(plain, encoding="utf-8")
    print(json.dumps({"ways": found}))


if __name__ == "__main__":
    main()
