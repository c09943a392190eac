"""The keys that a campaign signs its letters with (DKIM): read, made, published, tried."""

import asyncio
import base64
import binascii
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dispatcher.accounts.secret import closed_file
from dispatcher.core.campaign import Campaign
from dispatcher.core.campaign import Dkim as Settings
from dispatcher.core.dkim import Signer, signed
from dispatcher.core.dns import tags, txt_record
from dispatcher.core.errors import Place, Problem, SignatureError, UsageError
from dispatcher.core.merge import Merged
from dispatcher.core.model import Message
from dispatcher.core.posture import Dkim, dkim_of
from dispatcher.core.preflight import Line, Part, ok, problem, warning
from dispatcher.desk import Desk
from dispatcher.lookups import Lookups
from dispatcher.signing.dkim import Key, Kind, key_of, new_key, verifies


def domain_of(campaign: Campaign) -> str:
    """Whom the letters are signed for: the domain that people see, so that DMARC is content however strict it is."""
    return campaign.sender.mailbox("address").address.rpartition("@")[2]


def keys_of(desk: Desk, campaign: Campaign) -> dict[str, Key]:
    """The campaign's keys, by selector. Raises SecretError (who may read the file) or SignatureError."""
    return {
        selector: read_key(desk, selector, name)
        for selector, name in (campaign.dkim.keys.items() if campaign.dkim else ())
    }


def keys_at_hand(desk: Desk, campaign: Campaign) -> dict[str, Key]:
    """The same, without those that cannot be had."""
    found = {}
    for selector, name in campaign.dkim.keys.items() if campaign.dkim else ():
        with suppress(UsageError):
            found[selector] = read_key(desk, selector, name)
    return found


@dataclass(frozen=True, slots=True)
class Record:
    """What is to be published for a selector: name and text, and both as a line of a zone file."""

    selector: str
    name: str
    text: str

    @property
    def line(self) -> str:
        return txt_record(self.name, self.text)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {"selector": self.selector, "name": self.name, "text": self.text, "record": self.line}


def make_key(desk: Desk, selector: str, kind: Kind) -> tuple[str, Record, bool]:
    """Write a new private key where campaign.toml says, or else into keys/: for its owner alone, over nothing.

    Returns the file's name, what to publish, and whether campaign.toml names it. Raises UsageError, SignatureError.
    """
    campaign = desk.campaign()
    named = campaign.dkim.keys.get(selector) if campaign.dkim else None
    name = named or f"keys/{selector}.pem"
    try:
        Settings(keys={selector: name})
    except ValueError:
        what, todo = f"'{selector}' is no selector", "write letters, digits, hyphens and underscores, such as s1"
        raise UsageError(Problem(what, todo=todo)) from None
    pem = new_key(kind)
    _write_new(desk.root / name, name, pem)
    return name, _record(campaign, selector, key_of(pem)), named is not None


def _write_new(path: Path, name: str, octets: bytes) -> None:
    """Whole or not at all: half a key would stand in the way of the next."""
    ours = False
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            ours = True
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        todo = "take another selector: a key that is in use must not be lost; or use this one: name it under [dkim]"
        raise UsageError(Problem(f"{name} exists, and is not written over", todo=todo)) from None
    except OSError as error:
        if ours:
            path.unlink(missing_ok=True)
        raise UsageError(Problem(f"{name} cannot be written: {error.strerror}", todo="check the folder")) from None


def records(desk: Desk) -> list[Record]:
    """What is to be published for the campaign's keys.

    Raises UsageError if there are none, SecretError, SignatureError.
    """
    campaign = desk.campaign()
    return [_record(campaign, selector, key) for selector, key in _some_keys(desk, campaign).items()]


def check_keys(desk: Desk) -> Sequence[Line]:
    """Each key against what the DNS publishes: whether that finds its signature of the first letter good.

    Raises UsageError if there are no keys, or no letter; SecretError, SignatureError.
    """
    draft = desk.draft()
    found = _some_keys(desk, draft.campaign)
    merged = next((item for item in draft.items() if isinstance(item, Merged)), None)
    if merged is None:
        raise UsageError(Problem("there is no letter to sign", todo=f"see why: dispatcher check{desk.flag}"))
    message = draft.merge.with_date(merged, desk.clock.now().replace(microsecond=0))
    return list(asyncio.run(_checked(desk, draft.campaign, found, message)))


async def _checked(desk: Desk, campaign: Campaign, found: dict[str, Key], message: Message) -> list[Line]:
    dns = Lookups(campaign.preflight.resolver or "")
    settled = await asyncio.gather(*(dns.settle(dkim_of(domain_of(campaign), selector)) for selector in found))
    return [
        _held_against(_record(campaign, there.selector, key), key, there, _signature(desk, campaign, key, message))
        for key, there in zip(found.values(), settled, strict=True)
    ]


def _signature(desk: Desk, campaign: Campaign, key: Key, message: Message) -> tuple[bytes, bytes]:
    """The octets that a key signs of this letter, and the signature."""
    asked: list[bytes] = []

    def sign(octets: bytes) -> bytes:
        asked.append(octets)
        return key.sign(octets)

    how = campaign.dkim.canonicalisation if campaign.dkim else "relaxed/relaxed"
    signed(message, [Signer(domain_of(campaign), "check", key.algorithm, sign)], how, desk.clock.now())
    return asked[0], key.sign(asked[0])


def _held_against(record: Record, key: Key, there: Dkim, made: tuple[bytes, bytes]) -> Line:
    publish = "publish this in place of it" if there.record else "publish this; others see it after some time"
    if there.unknown:
        return warning(Part.SENDER, "DKIM", f"unknown: {record.name}: {there.unknown}", "try again later")
    if not there.record:
        return problem(Part.SENDER, "DKIM", f"{record.name} is not published", publish, records=[record.line])
    if there.several > 1:
        return problem(
            Part.SENDER, "DKIM", f"{record.name} has {there.several} records", "leave this one", records=[record.line]
        )
    if not _fits(there.record, key, made):
        return problem(Part.SENDER, "DKIM", f"{record.name} publishes another key", publish, records=[record.line])
    return ok(Part.SENDER, "DKIM", f"{record.name} finds the signature of a letter good")


def against_key(there: Dkim, domain: str, key: Key | None) -> Dkim:
    """What is published under a selector; if it does not fit the key, with the record that would."""
    octets = b"dispatcher"
    if key is None or there.unknown or (there.record and _fits(there.record, key, (octets, key.sign(octets)))):
        return there
    return replace(there, wanted=_record_of(domain, there.selector, key).line)


def _fits(record: str, key: Key, made: tuple[bytes, bytes]) -> bool:
    """Whether what is published finds a signature good, of octets and by this key."""
    said = tags(record)
    try:
        public = base64.b64decode("".join(said.get("p", "").split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    same_kind = said.get("k", "rsa").lower() == key.algorithm.partition("-")[0]
    return same_kind and verifies(key.algorithm, public, *made)


def _record(campaign: Campaign, selector: str, key: Key) -> Record:
    return _record_of(domain_of(campaign), selector, key)


def _record_of(domain: str, selector: str, key: Key) -> Record:
    return Record(selector, f"{selector}._domainkey.{domain}", key.record)


def _some_keys(desk: Desk, campaign: Campaign) -> dict[str, Key]:
    if campaign.dkim is None:
        keygen, named = f"dispatcher dkim keygen s1{desk.flag}", 'keys = { s1 = "keys/s1.pem" }'
        todo = f"make a key: {keygen}; if there is one, write under [dkim]: {named}"
        raise UsageError(Problem("there is no [dkim] in campaign.toml, so letters are not signed here", todo=todo))
    return keys_of(desk, campaign)


def read_key(desk: Desk, selector: str, name: str) -> Key:
    """One of them. Raises SecretError (who may read the file) or SignatureError."""
    place = Place("campaign.toml", None, f"key dkim.keys.{selector}")
    path = closed_file(name, desk.root, place)
    try:
        return key_of(path.read_bytes())
    except SignatureError as error:
        problems = [replace(each, what=f"{name}: {each.what}", where=place, todo=_TODO) for each in error.problems]
        raise SignatureError(*problems) from None
    except OSError:
        raise SignatureError(Problem(f"{name} cannot be read", place, "check the file")) from None


_TODO = "name a key of RSA (2,048 bits or more) or Ed25519 without a passphrase, closed to others (chmod 600)"
