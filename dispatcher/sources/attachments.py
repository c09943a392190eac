"""Files that go with letters: found under one name on every system, read, and of the type that their names say.

A folder's names are read once and compared as Windows and macOS do, so that a campaign that works here works there: a
name may not differ from the one on the disk in capital letters, and there may not be two that are one file elsewhere.
Accents composed or apart (NFC, NFD) are the same name, since macOS stores what others send it. Raises CampaignError.
"""

import hashlib
import unicodedata
from pathlib import Path, PurePath
from typing import Final

from dispatcher.core.errors import CampaignError, Problem
from dispatcher.core.filetype import JPEG, PNG, TypeMismatch, in_words, media_type
from dispatcher.core.model import Attachment
from dispatcher.sources.campaign import Folder

LARGEST: Final = 50 * 1024 * 1024
LARGEST_LOGO: Final = 100_000


class Attachments:
    """Finds and reads the attachments of a campaign folder. Holds the names in the folders they are in."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._names: dict[Path, dict[str, list[str]]] = {}

    def read(self, path: str, name: str, *keys: str | int) -> tuple[Attachment, bytes]:
        """An attachment and its octets. `name` is what the recipient sees, `keys` where campaign.toml says the path."""
        place = self._folder.place(*keys)
        there = self._on_disk(path, *keys)
        full = self._folder.find(there, *keys)
        try:
            size = full.stat().st_size
            octets = full.read_bytes() if size <= LARGEST else b""
        except OSError as error:
            raise CampaignError(Problem(f"cannot read {path}: {error.strerror}", place)) from None
        if size > LARGEST:
            raise CampaignError(Problem(f"{path} is larger than 50 MB", place, "no relay takes that; link to it"))
        if not octets:
            raise CampaignError(Problem(f"{path} is empty", place, "attach the finished file"))
        try:
            kind = media_type(there, octets)
        except TypeMismatch as error:
            todo = "save it as what its name says, or give it the right name"
            raise CampaignError(Problem(f"{path} is not what it is called: {error}", place, todo)) from None
        self._require_same_ending(path, name, *keys)
        return Attachment(name, kind, hashlib.sha256(octets).hexdigest(), len(octets), there), octets

    def logo(self, path: str, *keys: str | int) -> Attachment:
        """The picture in the letterhead: PNG or JPEG, for every mail program shows these, and small."""
        picture, _ = self.read(path, PurePath(path).name, *keys)
        place = self._folder.place(*keys)
        if picture.media_type not in (PNG, JPEG):
            todo = "save it as PNG or JPEG: these are shown everywhere"
            raise CampaignError(Problem(f"{path} is {in_words(picture.media_type)}", place, todo))
        if picture.size > LARGEST_LOGO:
            what = f"{path} has {picture.size / 1000:,.0f} kB; it goes with every letter"
            raise CampaignError(Problem(what, place, f"make it smaller: at most {LARGEST_LOGO // 1000} kB"))
        return picture

    def _require_same_ending(self, path: str, name: str, *keys: str | int) -> None:
        """Whoever gets it opens it by the ending of the name that is shown."""
        wanted, shown = PurePath(path).suffix.lower(), PurePath(name).suffix.lower()
        if wanted != shown:
            what = f"{path} is shown as {name}, which does not end in '{wanted}'"
            todo = "mend the name under [attachments] in the letter's front matter"
            raise CampaignError(Problem(what, self._folder.place(*keys), todo))

    def _on_disk(self, path: str, *keys: str | int) -> str:
        """The path as the disk writes it; as it is given where nothing is there."""
        here, found = self._folder.root, PurePath()
        for part in PurePath(path).parts:
            same = self._listed(here).get(_folded(part), [])
            if len(same) > 1:
                names = " and ".join(f"'{name}'" for name in same)
                what = f"{path} is there twice: {names} are one file on Windows or macOS"
                raise CampaignError(Problem(what, self._folder.place(*keys), "delete or rename one of them"))
            if not same:
                return path
            if _composed(same[0]) != _composed(part):
                what = f"{path} is there as '{same[0]}': other systems tell capital and small letters apart"
                raise CampaignError(Problem(what, self._folder.place(*keys), "write both alike"))
            here, found = here / same[0], found / same[0]
        return found.as_posix()

    def _listed(self, folder: Path) -> dict[str, list[str]]:
        """The names in a folder, by what they are where capitals and the way of writing accents do not count."""
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            try:
                for entry in sorted(folder.iterdir()):
                    names.setdefault(_folded(entry.name), []).append(entry.name)
            except OSError:  # no folder, or not ours to look into: said when the file is looked for
                pass
            self._names[folder] = names
        return self._names[folder]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(_composed(name).lower())
