"""ATTACHMENT lines → patterns of campaign.toml, and the files to copy into the new folder. Raises UsageError."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.sources.mailmerge.fields import Listing, as_pattern, fields_alone, is_template
from dispatcher.sources.mailmerge.message import Header, Template

_UNSAFE: Final = re.compile(r'[\\:*?"<>|{}\x00-\x1f\x7f]|\.\.|[. ]\Z')
_ASKED: Final = (
    'check asks about files that do not name their recipient: look, and decide for all by on_mismatch = "send" in '
    "campaign.toml"
)


def safe_name(name: str) -> str:
    """A file's name without what could not stand in a path of campaign.toml."""
    return _UNSAFE.sub("_", name)


class Attachments:
    """The attachments of a template, each line with its files: one, or one for each row.

    Found at once, under the columns' old names; `patterns` is to be asked when these have been renamed. `copies` holds
    the files by where they go, `notes` what is to be looked at.
    """

    def __init__(self, template: Template, listing: Listing, folder: Path) -> None:
        self._listing = listing
        self._file = template.file
        self._lines = [(header, self._found(header, folder)) for header in template.all("attachment")]
        self.copies: dict[str, Path] = {}
        self._taken: dict[str, Path] = {}
        self.notes: list[Problem] = []

    def _found(self, header: Header, folder: Path) -> Sequence[Path]:
        """The files of one line. Raises UsageError for those that are not there."""
        place, listing = Place(self._file, header.line), self._listing
        if not header.value:
            raise UsageError(Problem(f"{header.name} names no file", place, "name one, or take the line out"))
        personal = is_template(header.value)
        paths = listing.filled(header.value, place) if personal else [header.value]
        files = [_file(folder, path) for path in paths]
        missing = [number for number, file in enumerate(files) if file is None]
        if missing:
            for_row = f" (for {listing.file}:{listing.lines[missing[0]]})" if personal else ""
            more = f", and {len(missing) - 1} more" if missing[1:] else ""
            what = f"{paths[missing[0]]} is no file{for_row}{more}"
            raise UsageError(Problem(what, place, "put it there, or take the line out"))
        return [file for file in files if file]

    def patterns(self) -> list[str]:
        """Where each attachment is in the new folder. Columns may be added for it, once."""
        return [self._pattern(number, *line) for number, line in enumerate(self._lines, 1)]

    def _pattern(self, number: int, header: Header, files: Sequence[Path]) -> str:
        folder, _, last = header.value.replace("\\", "/").rpartition("/")
        if not is_template(header.value):
            return self._copied(files[0])
        targets = {f"attachments/{file.name}": file for file in files}
        if (
            not is_template(folder)
            and self._plain(fields_alone(last))
            and all(map(self._free, targets, targets.values()))
        ):
            for target, file in targets.items():
                self._put(target, file)
            return f"attachments/{as_pattern(self._listing.retold(last))}"
        column = f"attachment_{number}"
        self._listing.add(column, [self._copied(file).rpartition("/")[2] for file in files])
        what = f"which file goes to whom stands in the list, in the column '{column}'"
        self.notes.append(Problem(what, Place(self._file, header.line), _ASKED))
        return f"attachments/{{{column}}}"

    def _plain(self, names: Sequence[str] | None) -> bool:
        """Whether all cells of these columns can be part of a file's name as they stand."""
        if names is None:
            return False
        columns = [self._listing.renamed.get(name, name) for name in names]
        cells = (row.get(column, "") for row in self._listing.rows for column in columns)
        return all(cell and "/" not in cell and not _UNSAFE.search(cell) for cell in cells)

    def _copied(self, file: Path) -> str:
        """Where a file is copied to, under a name that no other one has."""
        stem = safe_name(file.stem)
        number, target = 1, f"attachments/{stem}{file.suffix}"
        while not self._free(target, file):
            number += 1
            target = f"attachments/{stem}-{number}{file.suffix}"
        self._put(target, file)
        return target

    def _free(self, target: str, file: Path) -> bool:
        """Whether no other file goes there, on any system."""
        return self._taken.get(_folded(target), file) == file

    def _put(self, target: str, file: Path) -> None:
        self._taken[_folded(target)] = file
        self.copies[target] = file


def _file(folder: Path, path: str) -> Path | None:
    """The file at a path, if there is one."""
    try:
        file = folder / Path(path).expanduser()
        return file if file.is_file() else None
    except (OSError, RuntimeError):  # a name that cannot be; the home of nobody
        return None


def _folded(path: str) -> str:
    """A path as systems compare it that tell neither capital letters nor the way of writing accents apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).lower())
