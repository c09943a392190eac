"""The manifest and its signature, and every file that it lists: none missing, none more, none changed."""

import hashlib
from collections.abc import Sequence
from typing import Final

from dispatcher.core import dossier as form
from dispatcher.core.approval import PublicKey
from dispatcher.core.dossier import Manifest
from dispatcher.core.errors import Problem, SignatureError, UsageError
from dispatcher.desk.proving.held import NOT_LISTED, Held, Tampered
from dispatcher.signing import fingerprint
from dispatcher.signing import verify as verify_signature

_LARGEST_MANIFEST: Final = 1 << 30
_LARGEST_SIGNATURE: Final = 1 << 16


class Files:
    """The files of a dossier. `signer` is by whom it is signed, in short; '' if by nobody."""

    def __init__(self, held: Held, keys: Sequence[PublicKey]) -> None:
        self._held = held
        self._keys = keys
        self.signer = ""

    def check(self) -> None:
        """All of it. Raises Tampered; UsageError if it takes a key to check the signature."""
        self._manifest()
        self._names()
        self._digests()

    def _manifest(self) -> None:
        path = self._held.folder / form.MANIFEST
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise Tampered(form.MANIFEST, "it is too large")
        octets = path.read_bytes()
        try:
            found = Manifest.parse(octets)
        except ValueError as error:
            raise Tampered(form.MANIFEST, str(error)) from None
        self._signature(octets, signed=found.facts["signed"])
        self._held.files, self._held.facts = found.files, found.facts

    def _signature(self, octets: bytes, *, signed: bool) -> None:
        there = [name for name in form.SIGNATURES if (self._held.folder / name).exists()]
        if not there:
            if signed:
                raise Tampered(form.SIGNATURES[0], "it is missing: the manifest says that it is signed")
            if self._keys:
                raise Tampered(form.MANIFEST, "it is not signed, by none of the keys that you named")
            return
        if not signed or len(there) > 1:
            raise Tampered(there[-1], "it was added: the manifest does not speak of it")
        name = there[0]
        with (self._held.folder / name).open("rb") as file:
            text = file.read(_LARGEST_SIGNATURE).decode("latin-1")
        self.signer = fingerprint(self._signed_by(name, octets, text))

    def _signed_by(self, name: str, octets: bytes, text: str) -> PublicKey:
        minisign = name == form.SIGNATURES[1]
        if minisign and not self._keys:
            what = "this dossier is signed with a key of minisign's, and a signature does not say itself by which"
            raise UsageError(Problem(what, todo="say whose it should be: --signer minisign.pub"))
        try:
            if not minisign:
                found = verify_signature(octets, text)
                if self._keys and found.key not in {key.key for key in self._keys}:
                    raise Tampered(name, f"it is by {fingerprint(found)}, which is none of the keys that you named")
                return found
            fault: SignatureError | None = None
            for key in self._keys:
                try:
                    return verify_signature(octets, text, key)
                except SignatureError as error:
                    fault = error if fault is None or key.minisign else fault
            raise fault or SignatureError("there is no key")
        except SignatureError as error:
            raise Tampered(name, error.problems[0].what) from None

    def _names(self) -> None:
        """Every file that is listed, and no other."""
        ours = {form.MANIFEST, *form.SIGNATURES}
        seen = 0
        for path in self._held.folder.rglob("*"):
            name = path.relative_to(self._held.folder).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise Tampered(name, "it is no file of a dossier")
            if path.is_dir() or name in ours:
                continue
            if name not in self._held.files:
                raise Tampered(name, "it was added: the manifest does not list it")
            seen += 1
        if seen < len(self._held.files):
            missing = next(name for name in self._held.files if not (self._held.folder / name).is_file())
            raise Tampered(missing, "it is missing: the manifest lists it")
        for name in form.always(self._held.facts["redacted"]):
            if name not in self._held.files:
                raise Tampered(name, NOT_LISTED)

    def _digests(self) -> None:
        self._held.observe("files", 0, len(self._held.files))
        for number, file in enumerate(self._held.files.values(), 1):
            with (self._held.folder / file.name).open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
                size = opened.tell()
            if digest != file.digest or size != file.size:
                raise Tampered(file.name, "it was changed: its SHA-256 is not the one in the manifest")
            self._held.observe("files", number, len(self._held.files))
