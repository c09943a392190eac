"""The one door: opens the folder, the ledger and the relay, and offers the use cases to whatever face people use.

    Desk        one campaign folder, with its real ledger or the sandbox's
    drafting    check, preview: the folder as it is now
    sending     send, tests
    deciding    amend, resolve, suppress: what people decide, with who and why
    reading     status, log, one letter's story

Nothing is printed here and nobody is asked; every use case takes values and returns values, or raises
DispatcherError. The desk owns the clock.
"""

import getpass
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.ports import Clock
from dispatcher.desk.clock import SystemClock
from dispatcher.desk.draft import Draft
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.sqlite import SqliteLedger
from dispatcher.sources.campaign import read_campaign

HIDDEN: Final = ".dispatcher"


class Desk:
    """One campaign folder, with its real ledger or the sandbox's."""

    def __init__(self, root: Path, *, sandbox: bool = False, clock: Clock | None = None) -> None:
        self.root = root
        self.sandbox = sandbox
        self.clock = clock or SystemClock()
        hidden = root / HIDDEN / "sandbox" if sandbox else root / HIDDEN
        self.ledger_path = hidden / "ledger.sqlite"
        self.mail_path = root / HIDDEN / "sandbox" / "mail"
        self.flag = " --sandbox" if sandbox else ""

    def campaign(self) -> Campaign:
        """campaign.toml. Raises CampaignError."""
        return read_campaign(self.root)

    def draft(self) -> Draft:
        """The folder as it is now. Raises CampaignError, TemplateError."""
        return Draft(self.root)

    def reader(self) -> Reader:
        """The ledger for reading. Raises LedgerUnavailable with what to do if there is none yet."""
        if not self.ledger_path.exists():
            what = "there is no ledger yet: nothing was sent from here"
            raise LedgerUnavailable(f"{what}. Begin with: dispatcher send{self.flag}")
        return Reader(self.ledger_path)

    def ledger(self) -> AbstractContextManager[SqliteLedger]:
        """The ledger for writing, made if need be. Raises RunActive if another process holds it."""
        return SqliteLedger(self.ledger_path, self.clock.now)

    def suppressions(self) -> dict[str, str]:
        """Suppressed identities (mailboxes, or `@domain`), with the reason."""
        if not self.ledger_path.exists():
            return {}
        with self.reader() as reader:
            return {row["identity"]: row["reason"] for row in reader.rows("suppressions")}

    def forget_sandbox(self) -> None:
        """Throw the rehearsal away: the sandbox's ledger and its captured mail."""
        shutil.rmtree(self.root / HIDDEN / "sandbox", ignore_errors=True)


def person() -> str:
    """Who is at the keyboard, as the system knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


__all__ = ["Desk", "Draft", "person"]
