"""Addresses that must not be written to, as jobs of a ledger see them: a mailbox itself, or its whole domain."""

import json
import sqlite3
from collections.abc import Iterable

from dispatcher.ledgers.statements import SQL


def with_domains(identities: Iterable[str]) -> list[str]:
    """Mailboxes, and the domain of each as `@domain`: what a suppression may name."""
    return [name for identity in identities for name in (identity, "@" + identity.rpartition("@")[2])]


def suppressed_among(connection: sqlite3.Connection, identities: Iterable[str]) -> dict[str, str]:
    """Those mailboxes that must not be written to, and why in words."""
    asked = list(identities)
    names = json.dumps(list(dict.fromkeys(with_domains(asked))))
    found = dict(connection.execute(SQL["suppressed_among"], {"identities": names}).fetchall())
    return {
        identity: f"{name} is suppressed: {found[name]}"
        for identity in (asked if found else ())
        for name in reversed(with_domains([identity]))
        if name in found
    }


def suppress_mailbox(
    connection: sqlite3.Connection, identity: str, address: str, reason: str, source: str, now: str
) -> bool:
    """Add a suppression; False if it was there already. Letters that wait are held back when their turn comes (T3)."""
    given = {"identity": identity, "address": address, "reason": reason, "source": source, "now": now}
    return connection.execute(SQL["insert_suppression"], given).rowcount == 1
