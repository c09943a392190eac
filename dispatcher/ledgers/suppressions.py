"""Addresses that must not be written to, as jobs of a ledger see them: a mailbox itself, or its whole domain."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dispatcher.ledgers.statements import SQL

REFUSED: Final = "refused by the relay"
"""The source of a suppression that no person asked for: the address is no good, and paper may still reach its owner."""

KEPT: Final = "kept when the ledger was purged"
"""The source of a suppression of which a purge left nothing but the address."""


def with_domains(identities: Iterable[str]) -> list[str]:
    """Mailboxes, and the domain of each as `@domain`: what a suppression may name."""
    return [name for identity in identities for name in (identity, "@" + identity.rpartition("@")[2])]


def suppressed_among(connection: sqlite3.Connection, identities: Iterable[str]) -> dict[str, str]:
    """Those mailboxes that must not be written to, and why in words."""
    return _among(connection, "suppressed_among", identities)


def suppressed_by_people_among(connection: sqlite3.Connection, identities: Iterable[str]) -> dict[str, str]:
    """Those whose owners are not to be written to on paper either."""
    return _among(connection, "suppressed_by_people_among", identities)


def _among(connection: sqlite3.Connection, name: str, identities: Iterable[str]) -> dict[str, str]:
    asked = list(identities)
    names = json.dumps(list(dict.fromkeys(with_domains(asked))))
    given: Mapping[str, Any] = {"identities": names, "refused": REFUSED}
    found = dict(connection.execute(SQL[name], given).fetchall())
    return {
        identity: f"{name} is suppressed: {found[name]}"
        for identity in (asked if found else ())
        for name in reversed(with_domains([identity]))
        if name in found
    }


def suppress_mailbox(
    connection: sqlite3.Connection, identity: str, address: str, reason: str, source: str, now: str
) -> bool:
    """Add a suppression; False if it was there already. Letters that wait are held back when their turn comes (T3).

    What a person says takes the place of what a relay said.
    """
    given = {"identity": identity, "address": address, "reason": reason, "source": source, "now": now}
    return connection.execute(SQL["insert_suppression"], given).rowcount == 1
