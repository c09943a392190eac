"""What a rehearsal has in place of the campaign's own ledger, clock and relay."""

from dataclasses import dataclass
from pathlib import Path

from dispatcher.desk.virtual import VirtualTime
from dispatcher.sandbox.relay import FaultyRelay


@dataclass(frozen=True, slots=True)
class Stage:
    """Where ledger and captured mail are, virtual time, and a relay with faults; `seed` is that of all chance.

    `real_ledger_path` is a copy of the campaign's ledger, whose suppressions hold in a rehearsal too: the ledger itself
    is not opened, since whoever reads in it leaves traces beside it.
    """

    ledger_path: Path
    mail_path: Path
    real_ledger_path: Path
    time: VirtualTime
    relay: FaultyRelay
    seed: int
