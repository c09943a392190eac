"""A new campaign folder from the founding campaign."""

import shutil
from pathlib import Path
from typing import Final

from dispatcher.core.errors import Problem, UsageError

_PARTS: Final = ("campaign.toml", "recipients", "templates")


def starter() -> Path:
    """Where the founding campaign is: inside the installed package, or the repository the package runs from."""
    package = Path(__file__).parent.parent
    installed = package / "starter"
    return installed if installed.is_dir() else package.parent


def copy_starter(directory: Path) -> None:
    """Copy campaign.toml, recipients/ and templates/ into a new or empty folder. Raises UsageError."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(Problem(f"{directory} is there already and not empty", todo="name a new folder"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for part in _PARTS:
            source = starter() / part
            if source.is_dir():
                shutil.copytree(source, directory / part)
            else:
                shutil.copyfile(source, directory / part)
        (directory / ".gitignore").write_text(".dispatcher/\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            Problem(f"cannot write into {directory}: {error.strerror}", todo="choose another folder")
        ) from None
