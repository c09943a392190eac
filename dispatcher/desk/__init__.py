"""The one door: opens the folder, the ledger and the relay, and offers the use cases to whatever face people use.

    Desk        one campaign folder, with its real ledger, the sandbox's, or a rehearsal's
    checking    the folder as it is now, read and proof-rendered
    accounts    the relay as it is set, its secret, and whether a login is taken
    signing     what signs letters as they leave, and how it stands with that; dkim: its keys
    sending     what a send would do, sealing, the run; testing: letters to ourselves
    approvals   who has approved what would leave, and whether that is enough; sealed: what is sealed, on one page
    deciding    amend, resolve, suppress: what people decide, with who and why
    reading     status, log, one letter's story
    dossier     the evidence of a dispatch, as a folder; proving: whether such a folder is as it was written
    capturing   the sandbox's server alone
    rehearsing  the whole run against a relay with faults, on virtual time

Nothing is printed here and nobody is asked; every use case takes values and returns values, or raises
DispatcherError. The desk owns the clock. What reads the ledger alone loads nothing that reads or merges the folder.
"""

import getpass
import os
import shlex
import shutil
import subprocess
import tomllib
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.core.errors import LedgerUnavailable, PlanConflict, Problem, UsageError
from dispatcher.core.login import login_advice
from dispatcher.core.ports import Clock
from dispatcher.desk.clock import SystemClock
from dispatcher.ledgers.file import PATIENCE
from dispatcher.ledgers.mark import Marks, facts_of
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.rows import purged_campaign
from dispatcher.ledgers.sqlite import SqliteLedger
from dispatcher.ledgers.state import state_folder

if TYPE_CHECKING:
    from dispatcher.accounts.secret import Kept
    from dispatcher.core.campaign import Campaign, RelayAccount
    from dispatcher.desk.accounts import Login
    from dispatcher.desk.attached import Watch
    from dispatcher.desk.draft import Draft
    from dispatcher.desk.stage import Stage

HIDDEN: Final = ".dispatcher"
_WHERE: Final = "under [relay] in campaign.toml"


class Desk:
    """One campaign folder, with its real ledger, the sandbox's, or that of a rehearsal on its `stage`.

    `sandbox` says that nothing leaves the machine: no secret, no approval is wanted, and no ledger has a mark. `paced`
    says that pace, quota and the mail service's limits hold: in a rehearsal they do. `flag` holds the options that
    bring a command of the same kind back here, for texts that say what to type next.
    """

    def __init__(
        self,
        root: Path,
        *,
        sandbox: bool = False,
        clock: Clock | None = None,
        patience: float = PATIENCE,
        watch: "Watch | None" = None,
        stage: "Stage | None" = None,
    ) -> None:
        self.root = root
        self.stage = stage
        self.sandbox = sandbox or stage is not None
        self.paced = not sandbox
        self.clock = clock or (stage.time if stage else SystemClock())
        self._watch = watch  # is told how far a long look into the folder is
        self._patience = patience  # seconds to wait for another program that writes into the ledger
        hidden = root / HIDDEN / "sandbox" if sandbox else root / HIDDEN
        self.ledger_path = stage.ledger_path if stage else hidden / "ledger.sqlite"
        self.real_ledger_path = stage.real_ledger_path if stage else root / HIDDEN / "ledger.sqlite"
        self.mail_path = stage.mail_path if stage else root / HIDDEN / "sandbox" / "mail"
        self.logins: dict[tuple[object, ...], Login] = {}  # what was read for one is not read again for the next
        self.passphrases: dict[tuple[object, ...], Kept] = {}  # the same of what unlocks a key
        self.folder_flag = "" if root == Path() else f" -C {quoted(str(root))}"
        self.flag = self.folder_flag + (" --sandbox" if sandbox else "")

    def campaign(self) -> "Campaign":
        """campaign.toml. Raises CampaignError."""
        from dispatcher.accounts.secret import take_out  # noqa: PLC0415 (slow to load, and `status` needs none)
        from dispatcher.relays.profiles import profiles  # noqa: PLC0415
        from dispatcher.sources.campaign import read_campaign  # noqa: PLC0415

        campaign = read_campaign(self.root, profiles())
        for password in campaign.passwords:
            take_out(password)
        return campaign

    def campaign_id(self) -> str:
        """The id alone, so that a mistake elsewhere in campaign.toml hides nobody's log. Raises CampaignError."""
        found = self._said("id")
        return found if isinstance(found, str) else self.campaign().id

    def wants_approvals(self) -> bool:
        """Whether anything is to be approved here, without a look at the rest of campaign.toml."""
        return bool(self._said("approvals"))

    def _said(self, key: str) -> object:
        """What stands at the top of campaign.toml, unchecked; None if it cannot be read."""
        try:
            return tomllib.loads((self.root / "campaign.toml").read_text(encoding="utf-8-sig")).get(key)
        except (OSError, ValueError):
            return None

    def draft(self) -> "Draft":
        """The folder as it is now. Raises CampaignError, TemplateError."""
        from dispatcher.desk.draft import Draft  # noqa: PLC0415

        return Draft(self.root, *((self._watch,) if self._watch else ()))

    def reader(self) -> Reader:
        """The ledger for reading. Raises LedgerUnavailable with what to do if there is none yet, or no more."""
        if not self.ledger_path.exists():
            self.require_right_ledger()
            what = "there is no ledger yet: nothing was sent from here"
            rehearsed = not self.sandbox and (self.ledger_path.parent / "sandbox" / self.ledger_path.name).exists()
            instead = "; or look at the rehearsal: the same with --sandbox" if rehearsed else ""
            raise LedgerUnavailable(f"{what}. Begin with: dispatcher send{self.flag}{instead}")
        return Reader(self.ledger_path)

    def ledger(self, *, hold: bool = True) -> AbstractContextManager[SqliteLedger]:
        """The ledger for writing, made if need be. Raises RunActive if another process holds it, and LedgerInDoubt.

        Without `hold` it may be written beside a run: for short decisions that the run must see at once.
        """
        return SqliteLedger(
            self.ledger_path,
            self.clock.now,
            hold=hold,
            patience=self._patience,
            marks=self.marks(),
            fleeting=self.stage is not None,
        )

    def marks(self) -> Marks | None:
        """What this machine remembers of ledgers; a rehearsal is not remembered."""
        if self.sandbox:
            return None
        return Marks(state_folder(), self.campaign_id(), f"dispatcher adopt{self.flag}")

    def require_right_ledger(self) -> None:
        """Raise LedgerInDoubt if the ledger here may not know all that was sent. To be asked before anything else."""
        if marks := self.marks():
            marks.require(self.ledger_path, facts_of(self.ledger_path))

    def require_unpurged(self, campaign: str) -> None:
        """Raise PlanConflict if a campaign was purged here: nobody can say any more who has had a letter of it."""
        if self.ledger_path.exists():
            with self.reader() as reader:
                if found := reader.one("purge_of", campaign=campaign):
                    raise PlanConflict(purged_campaign(campaign, found["at"]))

    def require_marks_kept(self) -> None:
        """Raise LedgerUnavailable if this machine has no room for a mark: before anybody is connected to."""
        if marks := self.marks():
            with marks.alone():
                pass

    def doubt(self) -> str:
        """The same in words, '' if there is none: for those who only look."""
        try:
            marks = self.marks()
            return marks.doubt(self.ledger_path, facts_of(self.ledger_path)) if marks else ""
        except LedgerUnavailable as error:
            return str(error)

    def remembered_chain(self) -> tuple[int, str]:
        """How many links the ledger here had when this machine last noted it, and the last hash; (0, '') if never."""
        marks, found = self.marks(), facts_of(self.ledger_path)
        return marks.chain_of(found.ledger) if marks and found else (0, "")

    def suppressions(self) -> dict[str, str]:
        """Suppressed identities (mailboxes, or `@domain`), with the reason. A rehearsal sees the real ones too."""
        found: dict[str, str] = {}
        for path in dict.fromkeys((self.ledger_path, self.real_ledger_path)):
            if path.exists():
                with Reader(path) as reader:
                    found.update((row["identity"], row["reason"]) for row in reader.rows("suppressions"))
        return found

    def forget_sandbox(self) -> None:
        """Throw the rehearsal away: the sandbox's ledger and its captured mail. Raises RunActive while one runs."""
        if self.ledger_path.exists():
            with suppress(LedgerUnavailable), self.ledger():  # an unreadable one may go, one at work may not
                pass
        if self.ledger_path.parent.exists():
            shutil.rmtree(self.ledger_path.parent)

    def relay_advice(self, why: str) -> str:
        """What to do about a relay that could not be used, by how far it came (as `core.policy` begins its words)."""
        relay = self.campaign().relay
        phase = why.partition(":")[0]
        if phase in ("CONNECT", "GREETING", "EHLO"):
            return _connection_advice(relay, phase)
        if phase == "STARTTLS":
            return self._tls_advice(relay, why)
        if phase == "AUTH":
            return login_advice(why) or _secret_advice(relay)
        return f"See the relay's words: dispatcher log{self.flag}; then ask whoever runs it"

    def _tls_advice(self, relay: "RelayAccount", why: str) -> str:
        """An alarm, if this relay had good TLS before, and no file of ours is what is wrong."""
        if " cannot be used: " in why:
            return f"Check that file, and its name {_WHERE}"
        last = None
        if self.ledger_path.exists():
            with self.reader() as reader:
                last = reader.one("last_secure_session", host=relay.host, port=relay.port)
        if "has expired" in why:
            return "Ask whoever runs the relay to renew it, and check the date here; nothing leaves until then"
        if last is None:
            return f"Check host, port and security {_WHERE}; nothing leaves without a good certificate"
        return (
            f"ALARM: {relay.host} had good TLS on {last['opened_at'][:10]} ({last['tls_version']}, certificate of "
            f"{last['certificate']}). Somebody may stand between. Try from another network; ask whoever runs the relay"
        )


def _connection_advice(relay: "RelayAccount", phase: str) -> str:
    if relay.host.startswith("unix:"):
        return f"Check host ({relay.host}) {_WHERE}, and that the relay is up and lets you use its socket"
    if phase == "GREETING" and relay.security == "starttls":
        return f'Check port ({relay.port}) {_WHERE}: one for TLS from the start, as 465 is, wants security = "tls"'
    return f"Check host ({relay.host}) and port ({relay.port}) {_WHERE}, and that this machine is online"


def _secret_advice(relay: "RelayAccount") -> str:
    from dispatcher.accounts.secret import in_words  # noqa: PLC0415

    secret = "token" if relay.auth == "xoauth2" else "password"
    place = in_words(relay.password, relay.user or "") if relay.password else "its place"
    return f"Check user ({relay.user}) {_WHERE}, and the {secret} in {place}; then: dispatcher account test"


def person() -> str:
    """Who is at the keyboard, as the system knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


LONGEST_WHY: Final = 2000
"""Characters of a reason: it is kept for good, and shown wherever the decision is."""


def require_why(why: str) -> None:
    """Raise UsageError if a decision has no reason, or one that nobody would read."""
    if not why.strip():
        raise UsageError(Problem("--why is empty", todo="say how you know, in words: they are kept for the record"))
    if len(why) > LONGEST_WHY:
        what = f"the reason has {len(why):,} characters, more than {LONGEST_WHY:,}"
        raise UsageError(Problem(what, todo="say it shorter, and where the rest can be read"))


def quoted(text: str) -> str:
    """Text as one word of a command line, in the quotes of this system's shell."""
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


__all__ = ["HIDDEN", "Desk", "person", "quoted"]
