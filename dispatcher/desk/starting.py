"""A new campaign folder: from the founding campaign, or from a folder of mailmerge."""

import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

from dispatcher.core.errors import Problem, UsageError
from dispatcher.relays.profiles import profiles

_PARTS: Final = ("campaign.toml", "recipients", "templates")
_HOUSE: Final = ("templates/house", "templates/forms")


def starter() -> Path:
    """Where the founding campaign is: inside the installed package, or the repository the package runs from."""
    package = Path(__file__).parent.parent
    installed = package / "starter"
    return installed if installed.is_dir() else package.parent


def copy_starter(directory: Path) -> None:
    """Copy campaign.toml, recipients/ and templates/ into a new or empty folder. Raises UsageError."""
    _require_new(directory)
    try:
        _copy_parts(directory, _PARTS)
    except OSError as error:
        raise _unwritable(directory, error) from None


def convert_mailmerge(
    directory: Path, files: Sequence[Path], today: date, language: str = "en"
) -> tuple[int, Sequence[Problem]]:
    """Make a campaign of mailmerge's template, database and, if given, server file; `language` is the text's.

    How many rows its list has, and what was not carried over. Raises UsageError, and then nothing was written.
    """
    from dispatcher.sources.mailmerge import convert  # noqa: PLC0415 (for those who come from there)

    _require_new(directory)
    template, database, server = [*files, None][:3]
    if template is None or database is None:
        raise UsageError(Problem("mailmerge's template and database are wanted", todo="name both files"))
    _require_forms(language)
    name = directory.resolve().name
    made = convert(template, database, server, name=name, today=today, language=language, profiles=profiles())
    try:
        _copy_parts(directory, _HOUSE)
        for path, octets in made.texts.items():
            _target(directory, path).write_bytes(octets)
        for path, source in made.copies.items():
            shutil.copyfile(source, _target(directory, path))
    except OSError as error:
        raise _unwritable(directory, error) from None
    return made.rows, made.notes


def _require_forms(language: str) -> None:
    """The house must know how people are addressed and dates written in a language."""
    known = sorted(path.stem for path in (starter() / "templates" / "forms").glob("*.toml"))
    if language not in known:
        todo = (
            f"there are: {', '.join(known)}. For another leave it out; then write templates/forms/xx.toml, rename the "
            "letter to letter.xx.md, and set language in campaign.toml"
        )
        raise UsageError(Problem(f"there are no forms of address in {language!r}", todo=todo))


def _require_new(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(Problem(f"{directory} is there already and not empty", todo="name a new folder"))


def _copy_parts(directory: Path, parts: Sequence[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for part in parts:
        source = starter() / part
        if source.is_dir():
            shutil.copytree(source, directory / part)
        else:
            shutil.copyfile(source, directory / part)
    (directory / ".gitignore").write_text(".dispatcher/\nsecret*\n", encoding="utf-8")


def _target(directory: Path, path: str) -> Path:
    """A file of the new folder, in a folder that is there."""
    full = directory / path
    full.parent.mkdir(parents=True, exist_ok=True)
    return full


def _unwritable(directory: Path, error: OSError) -> UsageError:
    return UsageError(Problem(f"cannot write into {directory}: {error.strerror}", todo="choose another folder"))
