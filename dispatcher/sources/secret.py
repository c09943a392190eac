"""The relay's password, from where campaign.toml says it is. It is returned, never kept, printed or put into an error.

Raises SecretError with what to do.
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


def read_password(where: Password, folder: Path) -> str:
    """The password as text, without a line end."""
    if where.env is not None:
        secret = os.environ.get(where.env, "")
        empty = f"the environment variable {where.env} is not set"
        todo = f"set it for this terminal: read -rs {where.env} && export {where.env}"
        if os.name == "nt":
            todo = f"set it for this terminal, in PowerShell: $env:{where.env} = Read-Host -MaskInput"
    elif where.file is not None:
        secret, empty = _from_file(folder / where.file), f"{where.file} is empty"
        todo = "put the password on its first line"
    else:
        command = list(where.command or ())
        secret, empty, todo = _from_command(command, folder), "the password command printed nothing", "try it by hand"
    if not secret:
        raise SecretError(Problem(empty, _PLACE, todo))
    return secret


def _from_file(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise SecretError(Problem(f"{path.name} can be read by others", _PLACE, f"run: chmod 600 {path.name}"))
        return path.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
    except FileNotFoundError:
        raise SecretError(Problem(f"{path.name} does not exist", _PLACE, "write the password into it")) from None
    except (OSError, UnicodeDecodeError):
        raise SecretError(Problem(f"{path.name} cannot be read as text", _PLACE, "check the file")) from None


def _from_command(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise SecretError(Problem(f"there is no program '{command[0]}'", _PLACE, "check the command")) from None
    except (OSError, subprocess.TimeoutExpired):
        what = f"'{command[0]}' did not run to its end in {_SECONDS} s"
        raise SecretError(Problem(what, _PLACE, "try the command by hand")) from None
    if done.returncode:
        raise SecretError(Problem(f"'{command[0]}' ended with {done.returncode}", _PLACE, "try it by hand"))
    return done.stdout.decode("utf-8", "replace").split("\n", 1)[0].rstrip("\r")
