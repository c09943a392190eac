"""The keys that a campaign signs its letters with (DKIM): read from the files that campaign.toml names."""

from dataclasses import replace
from datetime import datetime

from dispatcher.accounts.secret import closed_file
from dispatcher.core.campaign import Campaign
from dispatcher.core.dkim import Signer, signed
from dispatcher.core.errors import Place, Problem, SignatureError
from dispatcher.core.model import Message
from dispatcher.desk import Desk
from dispatcher.dispatch import Sign
from dispatcher.signing.dkim import Key, key_of


def signing_of(desk: Desk, campaign: Campaign) -> Sign | None:
    """What signs the campaign's letters; None without [dkim], and in the sandbox, which needs no secret.

    Raises SecretError or SignatureError if a key cannot be had.
    """
    dkim = campaign.dkim
    if dkim is None or desk.sandbox:
        return None
    signers = [
        Signer(domain_of(campaign), selector, key.algorithm, key.sign)
        for selector, key in keys_of(desk, campaign).items()
    ]

    def sign(message: Message, when: datetime) -> Message:
        return signed(message, signers, dkim.canonicalisation, when)

    return sign


def domain_of(campaign: Campaign) -> str:
    """Whom the letters are signed for: the domain that people see, so that DMARC is content however strict it is."""
    return campaign.sender.mailbox("address").address.rpartition("@")[2]


def keys_of(desk: Desk, campaign: Campaign) -> dict[str, Key]:
    """The campaign's keys, by selector. Raises SecretError (who may read the file) or SignatureError."""
    return {
        selector: _key(desk, selector, name) for selector, name in (campaign.dkim.keys.items() if campaign.dkim else ())
    }


def _key(desk: Desk, selector: str, name: str) -> Key:
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
