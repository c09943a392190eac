"""What the relay or the network did while a session was set up, as a RelayTrouble: bare facts, never a secret.

The names of aiosmtplib's exceptions end here; what the facts mean is said by `core.policy`.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiosmtplib

from dispatcher.core.model import Phase, Reply
from dispatcher.core.ports import RelayTrouble

MAPPED: Final = (aiosmtplib.SMTPException, OSError, ValueError)
"""Everything aiosmtplib, asyncio and ssl raise for what a relay or network does (time-outs are OSErrors)."""

_OURS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the relay wants a certificate of ours: client_cert",
    "TLSV1_ALERT_UNKNOWN_CA": "the relay does not know who made our client_cert",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our client_cert has expired",
}
"""What a relay says of the certificate that we show, by OpenSSL's name of its alert (RFC 8446 §6.2)."""
_WORDS: Final = {
    **_OURS,
    "WRONG_VERSION_NUMBER": 'no TLS from the start is spoken there: such a port wants security = "starttls"',
    "UNSUPPORTED_PROTOCOL": "the relay speaks no TLS that is good enough: 1.2 is the least",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the relay speaks no TLS that is good enough: 1.2 is the least",
}
"""The same, and what else goes wrong with TLS, by OpenSSL's name of it."""


_UNKNOWN: Final = (18, 19, 20)
"""X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, …SELF_SIGNED_CERT_IN_CHAIN, …UNABLE_TO_GET_ISSUER_CERT_LOCALLY (OpenSSL)."""


@contextmanager
def mapped(phase: Phase) -> Iterator[None]:
    """Whatever is raised within becomes RelayTrouble of that phase."""
    try:
        yield
    except MAPPED as error:
        raise trouble_of(phase, error) from None


def trouble_of(phase: Phase, error: BaseException) -> RelayTrouble:
    """The facts in an exception: the relay's refusal if there is one, or else words."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = error.message.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if error.code // 100 in (4, 5):
            return RelayTrouble(phase, reply=Reply(error.code, text))
        return RelayTrouble(phase, fault=f"not the reply due: {error.code} {text}")
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    if isinstance(root, ssl.SSLError) and root.reason in _OURS:  # by TLS 1.3 it comes after the handshake
        phase = Phase.STARTTLS
    return RelayTrouble(phase, fault=_words(root) or str(error) or type(error).__name__)


def _words(root: BaseException) -> str:
    """What went wrong, for people."""
    match root:
        case ssl.SSLCertVerificationError():
            hint = "; if the relay has an authority of its own: ca_file" if root.verify_code in _UNKNOWN else ""
            return f"the relay's certificate is not good: {root.verify_message}{hint}"
        case ssl.SSLError():
            return f"TLS failed: {_WORDS.get(root.reason, root.reason) or root}"
        case ConnectionRefusedError():
            return "the connection was refused: no mail server listens there"
        case socket.gaierror():
            return f"its name could not be looked up: {root.strerror or root}"
    return str(root)


def nothing_unasked(client: aiosmtplib.SMTP, phase: Phase) -> None:
    """Raise RelayTrouble if more came than the one reply due: the library would take it for the next one.

    It keeps such octets in `_buffer`, and has no public way to say so; a test watches that the name stands.
    """
    if getattr(client.protocol, "_buffer", b""):
        raise RelayTrouble(phase, fault="the relay sent more than the one reply due")
