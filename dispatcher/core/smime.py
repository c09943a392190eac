"""S/MIME signatures round messages (RFC 8551), and what a certificate must be to sign a campaign's letters (RFC 8550).

The letter, from its Content-Type on, becomes the first part of a multipart/signed (RFC 1847): octet for octet what was
sealed, in clear, so that every program shows it. Behind it stands the signature.

    header, multipart/signed { the letter: Content-Type, body | application/pkcs7-signature }

All other fields stay outside: they are for whoever carries the letter, and S/MIME does not cover them; DKIM, which
comes on top, does. What is signed is 7-bit, with no blank at a line's end and no "From " at its beginning
(`core.compose`), so that nothing on the way has cause to change it (RFC 8551 §3.1). Pure: whoever holds a private key
signs.
"""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from dispatcher.core.address import parse_mailboxes
from dispatcher.core.gate import CRLF
from dispatcher.core.headers import parameterised
from dispatcher.core.model import Message
from dispatcher.core.preflight import Line, Part, ok, problem, warning

SOON: Final = 14
"""Days before its end at which a certificate is worth a word."""
LEAST_BITS: Final = 2048
"""Of a key of RSA."""
_TYPE: Final = b"\r\nContent-Type: "
_PROTOCOL: Final = "application/pkcs7-signature"
_PART: Final = Part.SENDER


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. `serial` and `fingerprint` (SHA-256 over its DER) are hexadecimal.

    `addresses` are the rfc822Names of its subjectAltName, `old_addresses` those that its subject names in the way of
    old (RFC 8550 §3). `may_sign` is keyUsage's word, `for_mail` extendedKeyUsage's (§4.4.2, §4.4.4). `issuers` are
    those whose certificates come along, each with the end of its own; `missing` is the one whose certificate should and
    does not, or ''. `bits` are those of an RSA key, else 0.
    """

    subject: str
    serial: str
    fingerprint: str
    addresses: tuple[str, ...]
    old_addresses: tuple[str, ...]
    begins: datetime
    ends: datetime
    may_sign: bool
    for_mail: bool
    self_signed: bool
    issuers: tuple[tuple[str, datetime], ...]
    missing: str
    bits: int

    def __str__(self) -> str:
        return f"{self.subject}, serial {self.serial}, SHA-256 {self.fingerprint}"


def enclosed(message: Message, boundary: str, sign: Callable[[bytes], bytes]) -> Message:
    """The message with its content signed. `boundary` begins like none in the message.

    `sign` takes octets and gives a detached CMS SignedData over them, in DER, with SHA-256 (RFC 5652).
    """
    header, _, own = message.own.partition(_TYPE)
    own = _TYPE.removeprefix(CRLF) + own
    signature = sign(b"".join((own, *message.shared)))
    delimiter = f"--{boundary}".encode()
    outer = parameterised("Content-Type", "multipart/signed", protocol=_PROTOCOL, micalg="sha-256", boundary=boundary)
    end = (
        CRLF + delimiter + CRLF,  # the line break before a delimiter belongs to it (RFC 2046 §5.1.1)
        parameterised("Content-Type", _PROTOCOL, name="smime.p7s"),
        b"Content-Transfer-Encoding: base64\r\n",
        parameterised("Content-Disposition", "attachment", filename="smime.p7s"),
        CRLF + base64.encodebytes(signature).replace(b"\n", CRLF),
        delimiter + b"--" + CRLF,
    )
    return replace(message, own=b"".join((header, CRLF, outer, CRLF, delimiter, CRLF, own)), smime=b"".join(end))


def flaws(certificate: Certificate, sender: str, now: datetime) -> Iterator[tuple[str, str]]:
    """Why mail programs would not find signatures by it good for letters from this address: each with what to do."""
    if now >= certificate.ends:
        yield f"the certificate has ended: it was good until {certificate.ends:%Y-%m-%d}", _RENEW
    if now < certificate.begins:
        yield f"the certificate is not good before {certificate.begins:%Y-%m-%d %H:%M} UTC", "wait, or check the clock"
    there = certificate.addresses or certificate.old_addresses
    if _identity(sender) not in map(_identity, there):
        names = ", ".join(there) or "no address"
        yield f"the certificate is for {names}, and letters are from {sender}", f"get one for {sender}"
    if not certificate.may_sign:
        yield "the certificate's keyUsage does not permit signatures", _RENEW
    if not certificate.for_mail:
        yield "the certificate is not for mail: its extendedKeyUsage has no emailProtection", _RENEW
    if 0 < certificate.bits < LEAST_BITS:
        yield f"its key has {certificate.bits:,} bits, and {LEAST_BITS:,} are wanted", _RENEW


_RENEW: Final = "get a certificate for signing mail (S/MIME), and name it under [smime]"


def certificate_lines(
    certificate: Certificate, sender: str, now: datetime, done_at: datetime | None = None
) -> Iterator[Line]:
    """How it stands with it; `done_at` is when the last letter is expected to leave, if anybody can tell."""
    grave = [problem(_PART, "S/MIME", what, todo) for what, todo in flaws(certificate, sender, now)]
    yield from grave
    if done_at and now < certificate.ends <= done_at:
        what = f"the certificate ends on {certificate.ends:%Y-%m-%d}, and the last letters leave on {done_at:%Y-%m-%d}"
        yield problem(_PART, "S/MIME", what, f"{_RENEW}; or send fewer letters: --limit")
        return
    if grave:
        return
    days = (certificate.ends - now).days
    left = "1 more day" if days == 1 else f"{days:,} more days"
    what = f"letters are signed by {certificate.subject} for {left}, until {certificate.ends:%Y-%m-%d}"
    yield warning(_PART, "S/MIME", what, "renew the certificate") if days < SOON else ok(_PART, "S/MIME", what)
    if not certificate.addresses:
        what = "the certificate has its address in its subject alone, where not every mail program looks"
        yield warning(_PART, "S/MIME", what, "have the next one made with it in subjectAltName")
    for name, ends in certificate.issuers:
        if ends <= now:
            what = f"the certificate of its issuer has ended: {name}, on {ends:%Y-%m-%d}"
            yield warning(
                _PART, "S/MIME", what, "ask the authority for the present one, and put it in place of that one"
            )
    if certificate.self_signed:
        what = "the certificate is signed by itself: a mail program trusts it only if somebody tells it to"
        yield warning(_PART, "S/MIME", what, "get one from an authority that mail programs know")
    elif certificate.missing:
        what = f"the certificate of its issuer is missing: {certificate.missing}"
        todo = "append it to the certificate's file, or mail programs may not find the way to an authority they know"
        yield warning(_PART, "S/MIME", what, todo)


def _identity(address: str) -> str:
    try:
        return parse_mailboxes(address)[0].identity
    except ValueError:
        return ""


__all__ = ["LEAST_BITS", "SOON", "Certificate", "certificate_lines", "enclosed", "flaws"]
