"""Whether a ledger's chain holds, and every letter stands where the chain says: what must be true after every test,
kill and loss of power.
"""

from pathlib import Path

from dispatcher.core import chain
from dispatcher.core.chain import Chained, Name
from dispatcher.core.replay import Order, Said, replay
from dispatcher.ledgers.evidence import Evidence


def look_along(path: Path) -> Chained:
    """What the chain of a ledger says, with the first fault."""
    with Evidence(path) as evidence:
        found = chain.verify(evidence.start(), evidence.links(), evidence.digests)
        found.fault = found.fault or evidence.unlinked(found.seen)
        return found


def require_chained(path: Path) -> Chained:
    """Fail if a row is not as it was linked, or not linked at all."""
    found = look_along(path)
    assert found.fault is None, found.fault.why
    return found


def require_borne_out(path: Path) -> None:
    """Fail if a letter stands where nothing that was recorded took it."""
    order = Order()
    with Evidence(path) as evidence:
        for link in evidence.links():
            for name in chain.names_of(link.names):
                order.note(name)
        for letter in evidence.letters({}):
            said = [
                Said(number, kind, about, order.before(Name("event", number))) for number, kind, about in letter.said
            ]
            can = replay(letter.channel, letter.tried, said, purged=letter.purged)
            assert letter.state in can, f"{letter.key} is {letter.state}, not {can}: {letter.tried} {said}"
