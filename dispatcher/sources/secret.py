"""The relay's password, from where campaign.toml says it is. It is returned, never kept, printed or put into an error.

A file must lie in the campaign's folder, be a plain file, and be closed to others; a command is an argument list, run
in that folder without a shell. Raises SecretError with what to do.
"""

import os
import stat
import subprocess
from pathlib import Path
from typing import Final

from dispatcher.core.campaign import Password
from dispatcher.core.errors import Place, Problem, SecretError

_PLACE: Final = Place("campaign.toml", None, "key relay.password")
_SECONDS: Final = 30
_LARGEST: Final = 64 * 1024


def read_password(where: Password, folder: Path, *, seconds: float = _SECONDS) -> str:
    """The password as text: the first line of what is there. A command gets so many seconds."""
    if where.env is not None:
        secret = os.environ.get(where.env, "")
        empty = f"the environment variable {where.env} is not set"
        todo = f"set it for this terminal: read -rs {where.env} && export {where.env}"
        if os.name == "nt":
            todo = f"set it for this terminal, in PowerShell: $env:{where.env} = Read-Host -MaskInput"
    elif where.file is not None:
        secret = _first_line(_from_file(where.file, folder), where.file)
        empty, todo = f"{where.file} is empty", "put the password on its first line"
    else:
        command = list(where.command or ())
        secret = _first_line(_from_command(command, folder, seconds), f"what '{command[0]}' printed")
        empty, todo = "the password command printed nothing", "try it by hand"
    if not secret:
        raise SecretError(Problem(empty, _PLACE, todo))
    return secret


def _first_line(octets: bytes, what: str) -> str:
    try:
        return octets.decode("utf-8-sig").split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        raise SecretError(Problem(f"{what} is not UTF-8 text", _PLACE, "check it by hand")) from None


def _from_file(name: str, folder: Path) -> bytes:
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            todo = 'keep it in the campaign\'s folder, or use a command, such as { command = ["cat", "/path"] }'
            raise SecretError(Problem(f"{name} leads outside the campaign's folder", _PLACE, todo))
        if not path.is_file():  # before it is opened: a pipe would wait for ever
            what = f"{name} is not a file" if path.exists() else f"{name} does not exist"
            raise SecretError(Problem(what, _PLACE, f"write the password into {name}"))
        with path.open("rb") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SecretError(Problem(f"{name} can be read by others", _PLACE, f"run: chmod 600 {name}"))
            return file.read(_LARGEST)
    except (OSError, RuntimeError):  # RuntimeError: a circle of symbolic links
        raise SecretError(Problem(f"{name} cannot be read", _PLACE, "check the file")) from None


def _from_command(command: list[str], folder: Path, seconds: float) -> bytes:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except FileNotFoundError:
        raise SecretError(Problem(f"there is no program '{command[0]}'", _PLACE, "check the command")) from None
    except subprocess.TimeoutExpired:
        what = f"'{command[0]}' did not end within {seconds:g} s"
        raise SecretError(Problem(what, _PLACE, "try the command by hand: it may ask for something")) from None
    except OSError as error:
        what = f"'{command[0]}' cannot be run: {error.strerror}"
        raise SecretError(Problem(what, _PLACE, "check the command")) from None
    if done.returncode:
        raise SecretError(Problem(f"'{command[0]}' ended with {done.returncode}", _PLACE, "try it by hand"))
    return done.stdout
