"""A person says that a ledger is the right one, after it was restored, copied, brought here or made anew.

What was sent since cannot be read in it. So its letters that wait are either held, each as an unknown outcome of an
attempt that nobody saw, or left waiting on the person's word that none of them left. Raises LedgerUnavailable, and
RunActive while the same ledger is sent from in another place.
"""

import sqlite3
from typing import Final

from dispatcher.ledgers.file import stamp
from dispatcher.ledgers.held import SqliteLedger
from dispatcher.ledgers.mark import Facts, Marks, facts
from dispatcher.ledgers.statements import SQL

_ACCOUNT: Final = "(adopted)"
_PRINTED: Final = "may be printed and posted already: the ledger was adopted, and does not know"
_REASON: Final = "may have left already: the ledger was adopted, and does not know"


def adopt(ledger: SqliteLedger, marks: Marks, *, hold: bool, doubt: str, who: str, why: str) -> tuple[int, int]:
    """Make it the right ledger from now on; with `hold` its waiting letters become unknown, on paper printed.

    Returns how many of each.

    The decision is in the ledger before the mark is: a crash between leaves the doubt, never a ledger without it.
    """

    def job(connection: sqlite3.Connection) -> tuple[tuple[int, int], Facts]:
        ledger.recover_in(connection)
        held = (0, 0)
        if hold:
            by_mail = _hold_waiting(connection, stamp(ledger.now()))
            given = {"reason": _PRINTED, "who": who, "now": stamp(ledger.now())}
            connection.execute(SQL["note_held_to_print"], given)
            held = by_mail, connection.execute(SQL["hold_to_print"], given).rowcount
        subject = f"{'unknown' if hold else 'waiting'}: {doubt}"
        ledger.event(connection, "adopted", subject=subject, who=who, why=why)
        return held, facts(connection)

    with marks.alone(), marks.other_at_rest(ledger.path, ledger.do(facts)):
        held, found = ledger.do(job)
        marks.settle(ledger.path, found)
    return held


def _hold_waiting(connection: sqlite3.Connection, now: str) -> int:
    """Every letter that waits goes the way of one that was in flight: taken up, at risk, unknown."""
    held = 0
    for (campaign,) in connection.execute(SQL["campaigns_waiting"]).fetchall():
        head = {"campaign": campaign, "account": _ACCOUNT, "smime": "", "reason": _REASON, "now": now}
        given = {**head, "run": connection.execute(SQL["insert_run"], head).lastrowid, "ending": "adopted"}
        for name in ("lease_waiting", "put_waiting_at_risk", "attempt_waiting", "hold_waiting"):
            changed = connection.execute(SQL[name], given).rowcount
        held += changed
        connection.execute(SQL["end_run"], given)
    return held
