"""What signs a campaign's letters as they leave: S/MIME round their content, then DKIM over the whole.

The sandbox signs nothing, for it needs no secret.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from dispatcher.accounts.secret import Kept, closed_file, read_secret
from dispatcher.core.campaign import Campaign, Dkim, Smime
from dispatcher.core.compose import boundary, date_line
from dispatcher.core.dkim import FIELDS, Signer, signed
from dispatcher.core.errors import Place, Problem, SecretError, SignatureError, UsageError
from dispatcher.core.model import Message
from dispatcher.core.preflight import Line, Part, ok, problem
from dispatcher.core.smime import Certificate, certificate_lines, enclosed, flaws
from dispatcher.desk import Desk
from dispatcher.desk.dkim import domain_of, keys_of, read_key
from dispatcher.dispatch import Sign
from dispatcher.signing.smime import Pair, PrivateKey, key_of, pair_of


@dataclass(frozen=True, slots=True)
class Signing:
    """How letters leave. `sign` is None if nothing signs them; `smime` the certificate in words, '' without [smime]."""

    sign: Sign | None = None
    smime: str = ""

    def adds(self, now: datetime) -> int:
        """So many octets a letter has more on the wire, at most: a DKIM signature names the fields that are there.

        By ECDSA it is a few octets more or less each time.
        """
        if self.sign is None:
            return 0
        letter = Message(date_line(now), _ANY_HEADER + b"\r\n")
        return self.sign(letter, now).size - letter.size


_ANY_HEADER: Final = b"".join(f"{name}: x\r\n".encode() for name in sorted(FIELDS, key="Content-Type".__eq__))


def signing_of(desk: Desk, campaign: Campaign) -> Signing:
    """What signs the campaign's letters.

    Raises SecretError or SignatureError if a key cannot be had, or readers would not find its signatures good.
    """
    if desk.sandbox:
        return Signing()
    steps: list[Sign] = []
    certificate = ""
    if campaign.smime:
        pair = smime_pair(desk, campaign.smime, _sender(campaign))
        facts = _good(campaign, pair, desk.clock.now())
        steps.append(partial(_enclosed, campaign, pair, facts))
        certificate = str(facts)
    if campaign.dkim:
        how, domain = campaign.dkim.canonicalisation, domain_of(campaign)
        keys = keys_of(desk, campaign)
        signers = [Signer(domain, selector, key.algorithm, key.sign) for selector, key in keys.items()]
        steps.append(lambda message, when: signed(message, signers, how, when))
    return Signing(partial(_in_turn, steps) if steps else None, certificate)


def _in_turn(steps: list[Sign], message: Message, when: datetime) -> Message:
    for step in steps:
        message = step(message, when)
    return message


def _enclosed(campaign: Campaign, pair: Pair, facts: Certificate, message: Message, when: datetime) -> Message:
    """Raises SignatureError if the certificate has ended while the run went on."""
    if when >= facts.ends:
        _good(campaign, pair, when)
    return enclosed(message, f"=_signed_{boundary(campaign.id).removeprefix('=_')}", pair.sign)


# The certificate.


def _good(campaign: Campaign, pair: Pair, now: datetime) -> Certificate:
    place = Place("campaign.toml", None, "key smime.certificate")
    try:
        facts = pair.facts()
    except SignatureError as error:
        raise SignatureError(*(replace(each, where=place, todo=_ANOTHER) for each in error.problems)) from None
    if found := list(flaws(facts, _sender(campaign), now)):
        raise SignatureError(*(Problem(what, place, todo) for what, todo in found))
    return facts


def smime_pair(desk: Desk, smime: Smime, user: str) -> Pair:
    """The certificate with its key. Raises SecretError (a file that is missing or open to others) or SignatureError."""
    key = _key(desk, smime, user)
    place = Place("campaign.toml", None, "key smime.certificate")
    path = desk.root / smime.certificate
    try:
        if not path.is_file():
            raise SecretError(Problem(f"{smime.certificate} does not exist", place, "put it there"))
        return pair_of(path.read_bytes(), key)
    except OSError:
        raise SecretError(Problem(f"{smime.certificate} cannot be read", place, "check the file")) from None
    except SignatureError as error:
        raise _of_file(error, smime.certificate, place, _ANOTHER) from None


def _key(desk: Desk, smime: Smime, user: str) -> PrivateKey:
    place = Place("campaign.toml", None, "key smime.key")
    path = closed_file(smime.key, desk.root, place)
    try:
        pem = path.read_bytes()
    except OSError:
        raise SecretError(Problem(f"{smime.key} cannot be read", place, "check the file")) from None
    try:
        return key_of(pem, lambda: _passphrase(desk, smime, user))
    except SignatureError as error:
        raise _of_file(error, smime.key, place, _ANOTHER_KEY) from None


def _passphrase(desk: Desk, smime: Smime, user: str) -> str:
    place = Place("campaign.toml", None, "key smime.passphrase")
    where = smime.passphrase
    if where is None:
        todo = 'say where it is: passphrase = { keyring = "smime" }, { file = "secret.smime.txt" } or { env = "NAME" }'
        raise SecretError(Problem(f"{smime.key} is locked with a passphrase", place, todo))
    kept = desk.passphrases.setdefault(
        (where, user), Kept(lambda: read_secret(where, desk.root, user), desk.clock.boot)
    )
    try:
        return kept()
    except SecretError as error:
        raise SecretError(*(replace(each, where=place, todo=_UNLOCK) for each in error.problems)) from None


def _of_file(error: SignatureError, name: str, place: Place, todo: str) -> SignatureError:
    return SignatureError(
        *(replace(each, what=f"{name}: {each.what}", where=place, todo=each.todo or todo) for each in error.problems)
    )


def _sender(campaign: Campaign) -> str:
    return campaign.sender.mailbox("address").address


_ANOTHER: Final = "name the certificate that belongs to the key, in PEM form, with those of its issuers behind it"
_ANOTHER_KEY: Final = "name the certificate's private key, RSA or ECDSA, in PEM form and closed to others (chmod 600)"
_UNLOCK: Final = "put the passphrase where campaign.toml says it is"


# Before letters leave.


def signatures_size(desk: Desk, campaign: Campaign) -> int:
    """So many octets a letter has more on the wire for its signatures; 0 if they cannot be made, which others say."""
    try:
        return signing_of(desk, campaign).adds(desk.clock.now())
    except UsageError:
        return 0


def signing_lines(desk: Desk, campaign: Campaign, done_at: datetime | None = None) -> Iterator[Line]:
    """How it stands with keys and certificate; `done_at` is when the last letter is expected to leave."""
    if campaign.dkim:
        yield from _dkim(desk, campaign, campaign.dkim)
    if campaign.smime:
        yield from _smime(desk, campaign, campaign.smime, done_at)


def _dkim(desk: Desk, campaign: Campaign, dkim: Dkim) -> Iterator[Line]:
    for selector, name in dkim.keys.items():
        try:
            key = read_key(desk, selector, name)
        except UsageError as error:
            yield from _not_to_be_had("DKIM", error)
        else:
            what = f"{name} signs letters for {domain_of(campaign)} as {selector}, with {key.algorithm}"
            yield ok(Part.SENDER, "DKIM", what)


def _smime(desk: Desk, campaign: Campaign, smime: Smime, done_at: datetime | None) -> Iterator[Line]:
    try:
        facts = smime_pair(desk, smime, _sender(campaign)).facts()
    except UsageError as error:
        yield from _not_to_be_had("S/MIME", error)
    else:
        yield from certificate_lines(facts, _sender(campaign), desk.clock.now(), done_at)


def _not_to_be_had(subject: str, error: UsageError) -> Iterator[Line]:
    return (problem(Part.SENDER, subject, f"{each.where}: {each.what}", each.todo) for each in error.problems)


__all__ = ["Signing", "signatures_size", "signing_lines", "signing_of", "smime_pair"]
