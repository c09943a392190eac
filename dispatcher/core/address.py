"""Addresses: the text of a cell → mailboxes, as they go on the wire and as they are compared.

A cell holds one mailbox or several with commas between. Each is an address (`jane@example.org`) or a name and an
address in angle brackets (`Jane Doe <jane@example.org>`); a name that holds a comma stands in double quotes.

Two forms are made of each address. The *address* goes on the wire: local part NFC and in the case it was written
in (only its own server may say that case does not matter, RFC 5321 §2.4), domain as lower-case A-labels (IDNA 2008,
RFC 5891). The *identity* answers "is this the same mailbox?": the local part case-folded besides. Plus-tags and dots
are left alone in both: that two such addresses are one mailbox would be a guess.

Nothing is looked up, mended or guessed. What cannot be used raises `AddressError`, in words for the list's owner.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import email_validator
from email_validator import EmailNotValidError, validate_email

from dispatcher.core.headers import ATEXT, FORBIDDEN, character
from dispatcher.core.model import Mailbox

LONGEST_LOCAL_PART = 64  # octets, RFC 5321 §4.5.3.1.1
LONGEST_ADDRESS = 254  # octets, RFC 5321 §4.5.3.1.3 less the angle brackets

RESERVED_NAMES = ("example.com", "example.net", "example.org", "example", "invalid", "test", "localhost")

# Reserved names are how a campaign is tried out, and `.local` is many an office's own. The library offers no argument
# for this; its documentation says to take names off its list.
email_validator.SPECIAL_USE_DOMAIN_NAMES[:] = [
    name for name in email_validator.SPECIAL_USE_DOMAIN_NAMES if name not in (*RESERVED_NAMES, "local")
]

_DOT_ATOM = re.compile(rf"[{ATEXT}]+(?:\.[{ATEXT}]+)*")
_QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ITEM = re.compile(r'(?:[^",;]|"(?:[^"\\]|\\.)*")*')


class AddressError(ValueError):
    """A cell is not one or several mailboxes. The text says why, in plain words, and is safe to print."""


def parse_mailboxes(text: str) -> tuple[Mailbox, ...]:
    """The mailboxes in a cell, at least one, in order. Raises AddressError, also if one stands there twice."""
    if found := FORBIDDEN.search(text):
        raise AddressError(f"{character(found[0])} at character {found.start() + 1} cannot stand in an address")
    if not text.strip():
        raise AddressError("there is no address")
    mailboxes = tuple(_mailbox(item.strip()) for item in _items(text))
    if len(mailboxes) > 1:
        _require_distinct(mailboxes)
    return mailboxes


def is_reserved(address_or_domain: str) -> bool:
    """Whether the domain is one that can never belong to anybody (RFC 2606, RFC 6761), so that no mail can arrive."""
    domain = address_or_domain.rpartition("@")[2].lower().removesuffix(".")
    return any(domain == name or domain.endswith("." + name) for name in RESERVED_NAMES)


def _items(text: str) -> Sequence[str]:
    """The cell cut at its commas, except for those in quotes."""
    items, start = [], 0
    while found := _ITEM.match(text, start):
        items.append(found[0])
        if found.end() == len(text):
            return items
        start = found.end() + 1
        if text[found.end()] == ";":
            raise AddressError("separate addresses by a comma, not by a semicolon")
        if text[found.end()] == '"':
            raise AddressError("a double quote is opened and not closed")
    raise AssertionError("the pattern matches the empty text")


def _mailbox(item: str) -> Mailbox:
    """One mailbox: an address, or a name and an address in angle brackets."""
    if not item:
        raise AddressError("there is a comma with no address beside it")
    name, bracket, address = item.rpartition("<")
    if not bracket:
        return _addressed(item, "")
    if not address.endswith(">"):
        raise AddressError(f"{_shown(item)}: an address that begins with < must end with >, and nothing may follow")
    return _addressed(address[:-1].strip(), _name(name.strip()))


def _name(text: str) -> str:
    """A display name without its quotes, NFC."""
    if quoted := _QUOTED_NAME.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", quoted[1]).strip()
    elif '"' in text or "<" in text or ">" in text:
        raise AddressError(f"{_shown(text)}: put the whole of a name that holds quotes or angle brackets in quotes")
    return unicodedata.normalize("NFC", text)


def _addressed(spec: str, name: str) -> Mailbox:
    """The mailbox at an addr-spec (RFC 5322 §3.4.1), dot-atom on both sides of the @."""
    _require_shape(spec)
    local, _, domain = spec.partition("@")
    try:
        ascii_domain = _a_labels(domain) if _is_plain(spec, local) else _checked(spec)
    except EmailNotValidError as error:
        raise AddressError(f"{_shown(spec)}: {error}") from None
    local = unicodedata.normalize("NFC", local)
    address = f"{local}@{ascii_domain}"
    if len(local.encode()) > LONGEST_LOCAL_PART:
        raise AddressError(f"{_shown(spec)}: more than {LONGEST_LOCAL_PART} octets before the @")
    if len(address.encode()) > LONGEST_ADDRESS:
        raise AddressError(f"{_shown(spec)}: more than {LONGEST_ADDRESS} octets")
    identity = unicodedata.normalize("NFC", local.casefold())
    return Mailbox(address, name, f"{identity}@{ascii_domain}")


def _is_plain(spec: str, local: str) -> bool:
    """Whether the library can only object to the domain: an ASCII dot-atom before it, and not too long altogether."""
    short = len(spec) <= LONGEST_ADDRESS
    return short and spec.isascii() and "xn--" not in spec.lower() and bool(_DOT_ATOM.fullmatch(local))


@lru_cache(maxsize=10_000)  # many recipients are at the same few domains, and the library takes its time
def _a_labels(domain: str) -> str:
    return _checked(f"x@{domain}")


def _checked(spec: str) -> str:
    """The domain of an address that the library lets through, as A-labels. Raises EmailNotValidError."""
    checked = validate_email(
        spec,
        check_deliverability=False,
        allow_smtputf8=True,
        globally_deliverable=spec.partition("@")[2].lower() != "localhost",  # it asks for a dot
    )
    return checked.ascii_domain


def _require_shape(spec: str) -> None:
    """The mistakes people make, each in words of its own; the fine print is left to the library."""
    if not spec:
        raise AddressError("there is no address between < and >")
    if len(spec) > 4 * LONGEST_ADDRESS:  # far too long in any form; the library takes time over such
        raise AddressError(f"{_shown(spec)}: more than {LONGEST_ADDRESS} octets")
    if spec.lower().startswith("mailto:"):
        raise AddressError(f"{_shown(spec)}: leave out mailto:")
    if spec.split() != [spec]:
        raise AddressError(f"{_shown(spec)}: there is a space inside; separate addresses by a comma")
    if '"' in spec:
        raise AddressError(f"{_shown(spec)}: an address in quotes cannot be used")
    if "=?" in spec:  # legal, but readers decode it, line breaks and all
        raise AddressError(f"{_shown(spec)}: an address that looks like an encoded word cannot be used")
    if spec.count("@") > 1:
        raise AddressError(f"{_shown(spec)}: there is more than one @; separate addresses by a comma")
    if "@" not in spec and not {"＠", "﹫"} & set(spec):
        raise AddressError(f"{_shown(spec)}: there is no @; a name that holds a comma must stand in double quotes")
    if spec.endswith("]"):
        raise AddressError(f"{_shown(spec)}: an address at an IP number cannot be used")


def _require_distinct(mailboxes: Sequence[Mailbox]) -> None:
    seen: set[str] = set()
    for mailbox in mailboxes:
        if mailbox.identity in seen:
            raise AddressError(f"{_shown(mailbox.address)} stands there twice")
        seen.add(mailbox.identity)


def _shown(text: str) -> str:
    """Text in quotation marks for a message: nothing invisible, nothing that turns the line round, not too long."""
    text = "".join(char if char.isprintable() else f"[U+{ord(char):04X}]" for char in text)
    return f"“{text if len(text) <= 80 else text[:79] + '…'}”"
