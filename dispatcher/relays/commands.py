"""The commands that carry an envelope, with the parameters that a relay offers (RFC 5321 §4.1.1). Pure."""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

from dispatcher.core.model import Envelope, Message, Reply

_MAX_ADDRESS: Final = 254


def envelope_lines(features: Mapping[str, str], envelope: Envelope, message: Message) -> Iterator[bytes]:
    """MAIL, then RCPT for each forward path. `features` is what EHLO offered.

    Raises ValueError for an address that could break out of its command, or for want of a forward path.
    """
    for path in (envelope.return_path, *envelope.forward_paths):
        check_path(path)
    if not envelope.forward_paths or "" in envelope.forward_paths:
        raise ValueError("an envelope needs at least one forward path, and none may be empty")
    notices = bool(envelope.notify) and "DSN" in features
    line = f"MAIL FROM:<{envelope.return_path}>"
    if "SIZE" in features:  # RFC 1870 §6
        line += f" SIZE={message.size}"
    if not message.isascii:  # RFC 6152 §3
        line += " BODY=8BITMIME"
    if envelope.smtputf8:  # RFC 6531 §3.4
        line += " SMTPUTF8"
    if notices:  # RFC 3461 §4.3, §4.4
        line += f" RET=HDRS ENVID={xtext(envelope.envid)}"
    yield line.encode() + b"\r\n"
    for path in envelope.forward_paths:
        line = f"RCPT TO:<{path}>"
        if notices:  # RFC 3461 §4.1, §4.2; RFC 6533 §3
            original = f"rfc822;{xtext(path)}" if path.isascii() else f"utf-8;{path}"
            line += f" NOTIFY={','.join(envelope.notify)} ORCPT={original}"
        yield line.encode() + b"\r\n"


def unsuitable(features: Mapping[str, str], envelope: Envelope, message: Message) -> Reply | None:
    """Our own refusal of what the relay has said it does not take; its text says `(dispatcher)`."""
    if envelope.smtputf8 and "SMTPUTF8" not in features:
        return Reply(553, "5.6.7 (dispatcher) the relay does not offer SMTPUTF8, which an address needs")
    limit = features.get("SIZE", "")
    if limit.isdecimal() and 0 < int(limit) < message.size:
        return Reply(552, f"5.3.4 (dispatcher) {message.size} octets, and the relay takes {limit}")
    if "8BITMIME" not in features and not message.isascii:
        return Reply(554, "5.6.3 (dispatcher) the relay does not offer 8BITMIME, which the message needs")
    return None


def check_path(path: str) -> None:
    """Raise ValueError for a path that could break out of its command line, or is longer than RFC 5321 allows.

    A guard against our own bugs: addresses have been validated long before.
    """
    if path.isascii() and path.isprintable() and len(path) <= _MAX_ADDRESS and not _BREAKS.intersection(path):
        return  # as nearly all are
    if len(path.encode()) > _MAX_ADDRESS:
        raise ValueError(f"an address of more than {_MAX_ADDRESS} octets")
    if any(c in _BREAKS or c.isspace() or unicodedata.category(c) == "Cc" for c in path):
        raise ValueError(f"an address with a control character, a space or an angle bracket: {path!r}")


_BREAKS: Final = frozenset("<> ")


def xtext(text: str) -> str:
    """Text as the value of a parameter (RFC 3461 §4): printable ASCII, `+` and `=` and all else in hexadecimal."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)
