"""A dossier, checked: by whoever has it, without the campaign and its ledger. Nothing is written, nothing is asked for.

The manifest and its signature, and every file (`files`); what the ledger recorded, along the hash chain (`record`); the
tables against that (`table`); what was sealed and what left, made again (`letters`). The first thing that is wrong ends
it, and is named with file, row and recipient. What is read may be anybody's work: it is looked at, never trusted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatcher.core import dossier as form
from dispatcher.core.approval import PublicKey
from dispatcher.core.compose import ContentError
from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.headers import HeaderError
from dispatcher.desk.proving.files import Files
from dispatcher.desk.proving.held import Held, Observe, Tampered
from dispatcher.desk.proving.letters import Letters
from dispatcher.desk.proving.record import Record
from dispatcher.desk.proving.table import Table
from dispatcher.ledgers.rows import DAMAGED
from dispatcher.ledgers.scratch import Scratch


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check came to: the manifest's facts, by whom it is signed ('' if it is not), and the first fault."""

    folder: Path
    facts: Mapping[str, Any]
    signer: str
    known: bool
    fault: Tampered | None
    messages: int

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        fault = self.fault
        wrong = fault and {"file": fault.file, "row": fault.row, "recipient": fault.key, "what": fault.what}
        names = ("campaign", "rehearsal", "plan", "created_at", "created_by", "redacted", "counts", "chain")
        facts = {name: self.facts.get(name) for name in names}
        signed = {"signed_with": self.signer or None, "signer_known": self.known}
        return {"dossier": str(self.folder), "ok": fault is None, "fault": wrong, **signed, **facts}


def is_dossier(path: Path) -> bool:
    """Whether this is a folder that may be a dossier."""
    return path.is_dir() and (path / form.MANIFEST).exists()


def verify_dossier(
    folder: Path, signers: Path | None = None, observe: Observe | None = None, *, head: str = ""
) -> Verified:
    """Check a dossier. `signers` is a file with public keys: one of them must have signed it. `head`: a hash of the
    ledger's chain that was kept elsewhere (hex), which must be in it.

    Raises UsageError if there is no dossier, or the keys cannot be read, or it takes a key to check its signature.
    """
    if not is_dossier(folder):
        what = f"{folder} is no dossier: there is no {form.MANIFEST} in it"
        raise UsageError(Problem(what, todo="name the folder that `dispatcher dossier` wrote"))
    keys = _keys_of(signers) if signers else ()
    held = Held(folder, Scratch(), observe or (lambda *_: None))
    files, letters = Files(held, keys), Letters(held)
    fault = None
    try:
        files.check()
        Record(held, head.strip().lower()).check()
        Table(held).check()
        _letters(held, letters)
    except Tampered as found:
        fault = found
    except (*DAMAGED, RecursionError, OverflowError, ContentError, HeaderError) as error:  # no dossier of ours
        fault = Tampered(form.MANIFEST, f"it cannot be read as a dossier: {type(error).__name__}: {error}")
    except OSError as error:
        fault = Tampered(Path(str(error.filename or folder)).name, f"it cannot be read: {error.strerror}")
    finally:
        held.scratch.close()
    return Verified(folder, held.facts, files.signer, bool(keys), fault, letters.messages)


def _letters(held: Held, letters: Letters) -> None:
    if not held.facts["redacted"]:
        letters.check()
    elif left := [name for name in held.files if "/" in name and not name.startswith("record/")]:
        raise Tampered(left[0], "nothing personal may be in a dossier with hidden persons")


def _keys_of(file: Path) -> Sequence[PublicKey]:
    """The keys in a file of public keys, or of allowed signers (ssh-keygen(1)). Raises UsageError."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        raise UsageError(Problem(what, Place("--signer"), "name a public key, or a file of allowed signers")) from None
    found = []
    for line in lines:
        if begins := re.search(r"(?:^|\s)(ssh-ed25519\s|RW)", line.partition("#")[0]):
            try:
                found.append(PublicKey.parse(line[begins.start(1) :].partition("#")[0]))
            except ValueError as error:
                raise UsageError(Problem(f"{file}: {error}", Place("--signer"))) from None
    if not found:
        what = f"there is no Ed25519 key in {file}"
        raise UsageError(Problem(what, Place("--signer"), "name id_ed25519.pub, minisign.pub or allowed_signers"))
    return found


__all__ = ["Tampered", "Verified", "is_dossier", "verify_dossier"]
