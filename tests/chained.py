"""Whether a ledger's chain holds: what must be true after every test, kill and loss of power."""

from pathlib import Path

from dispatcher.core import chain
from dispatcher.core.chain import Chained
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
