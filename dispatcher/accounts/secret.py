"""Secrets, from where campaign.toml says they are. They are returned, never printed or put into an error.

    environment   taken out of it when it is first read, so that no program we start inherits it
    file          in the campaign's folder, a plain file, closed to others
    command       an argument list, run in that folder without a shell, with a time-out
    keyring       the system's (`keychain`)

A file and the keyring can be written, too. Raises SecretError with what to do.
"""

import math
import os
import secrets
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.accounts import keychain
from dispatcher.accounts.keychain import PLACE
from dispatcher.core.errors import Place, Problem, SecretError

if TYPE_CHECKING:
    from dispatcher.core.campaign import Password

_SECONDS: Final = 30
_LARGEST: Final = 64 * 1024
_TAKEN: Final[dict[str, str]] = {}
"""What was taken out of the environment."""


def take_out(where: "Password | None") -> None:
    """Take a secret out of the environment before any other program is started: each of them would inherit it."""
    if where is not None and where.env is not None and where.env in os.environ:
        _TAKEN[where.env] = os.environ.pop(where.env)


def read_secret(where: "Password", folder: Path, user: str, *, seconds: float = _SECONDS) -> str:
    """The secret as text: the first line of what is there for this user. A command gets so many seconds."""
    _leave_no_core()
    if where.env is not None:
        take_out(where)
        secret = _TAKEN.get(where.env, "")
        empty = f"the environment variable {where.env} is not set"
        todo = f"set it for this terminal: read -rs {where.env} && export {where.env}"
        if os.name == "nt":
            todo = f"set it for this terminal, in PowerShell: $env:{where.env} = Read-Host -MaskInput"
    elif where.file is not None:
        secret = _first_line(_from_file(where.file, folder), where.file)
        empty, todo = f"{where.file} is empty", "put the password on its first line, or: dispatcher account add"
    elif where.keyring is not None:
        secret = keychain.fetch(where.keyring, user) or ""
        empty, todo = (
            f"the keyring has nothing for {user} under {where.keyring}",
            "put it there: dispatcher account add",
        )
    else:
        command = list(where.command or ())
        secret = _first_line(_from_command(command, folder, seconds), f"what '{command[0]}' printed")
        empty, todo = "the password command printed nothing", "try it by hand"
    if not secret:
        raise SecretError(Problem(empty, PLACE, todo))
    return secret


class Kept:
    """A secret that is read once for all who need it: a command that prints one may ask a person each time.

    It is kept for so many seconds by a clock that nobody sets. Called from threads; raises what reading it raises.
    """

    def __init__(self, read: Callable[[], str], boot: Callable[[], float], seconds: float = math.inf) -> None:
        self._read = read
        self._boot = boot
        self._seconds = seconds
        self._lock = threading.Lock()
        self._secret, self._until = "", 0.0

    def __call__(self, refused: str = "") -> str:
        """The secret; read anew if it is the one that was `refused`."""
        with self._lock:
            if not self._secret or self._secret == refused or self._boot() >= self._until:
                self._secret, self._until = self._read(), self._boot() + self._seconds
            return self._secret


def require_store(where: "Password") -> None:
    """Raise SecretError unless something can be stored there: not in the environment, nor in what a program prints."""
    if where.keyring is None and where.file is None:
        todo = 'to have it kept, write password = { keyring = "dispatcher" } or { file = "secret.txt" } under [relay]'
        what = f"the password is in {in_words(where, '')}, where nothing can be stored"
        raise SecretError(Problem(what, PLACE, todo))


def store_secret(where: "Password", folder: Path, user: str, secret: str) -> str:
    """Put a secret where campaign.toml says it is, durably and in place of what was there. Returns where, in words."""
    require_store(where)
    if where.keyring is not None:
        keychain.keep(where.keyring, user, secret)
    else:
        _into_file(where.file or "", folder, f"{secret}\n".encode())
    return in_words(where, user)


def forget_secret(where: "Password", folder: Path, user: str) -> bool:
    """Take it away from there. Whether there was any."""
    require_store(where)
    if where.keyring is not None:
        return keychain.drop(where.keyring, user)
    try:
        _within(where.file or "", folder).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        what = f"{where.file} cannot be removed: {error.strerror}"
        raise SecretError(Problem(what, PLACE, "remove it by hand")) from None
    return True


def in_words(where: "Password", user: str) -> str:
    """Where it is, for people."""
    if where.keyring is not None:
        return f"the keyring, for {user} under {where.keyring}"
    return where.file or (f"the environment variable {where.env}" if where.env else f"what '{_program(where)}' prints")


def _program(where: "Password") -> str:
    return (where.command or ("",))[0]


def _leave_no_core() -> None:
    """From now on this process holds a secret: should it crash, no image of its memory is written."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 (not on Windows)

        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _first_line(octets: bytes, what: str) -> str:
    try:
        return octets.decode("utf-8-sig").split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        raise SecretError(Problem(f"{what} is not UTF-8 text", PLACE, "check it by hand")) from None


def closed_file(name: str, folder: Path, place: Place = PLACE) -> Path:
    """The path of a file in the folder that nobody else may read. Raises SecretError with the place of its name."""
    path = _within(name, folder, place)
    try:
        if not path.is_file():  # before it is opened: a pipe would wait for ever
            what = f"{name} is not a file" if path.exists() else f"{name} does not exist"
            raise SecretError(Problem(what, place, "put it there"))
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SecretError(Problem(f"{name} can be read by others", place, f"run: chmod 600 {name}"))
    except OSError:
        raise SecretError(Problem(f"{name} cannot be read", place, "check the file")) from None
    return path


def _within(name: str, folder: Path, place: Place = PLACE) -> Path:
    """The file's path, which does not leave the campaign's folder."""
    path = folder / name
    try:
        if path.resolve().is_relative_to(folder.resolve()):
            return path
    except (OSError, RuntimeError):  # RuntimeError: a circle of symbolic links
        raise SecretError(Problem(f"{name} cannot be read", place, "check the file")) from None
    todo = 'keep it in the campaign\'s folder, or use a command, such as { command = ["cat", "/path"] }'
    raise SecretError(Problem(f"{name} leads outside the campaign's folder", place, todo))


def _from_file(name: str, folder: Path) -> bytes:
    path = _within(name, folder)
    try:
        if not path.is_file():  # before it is opened: a pipe would wait for ever
            what = f"{name} is not a file" if path.exists() else f"{name} does not exist"
            raise SecretError(Problem(what, PLACE, f"write the password into {name}: dispatcher account add"))
        with path.open("rb") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SecretError(Problem(f"{name} can be read by others", PLACE, f"run: chmod 600 {name}"))
            return file.read(_LARGEST)
    except OSError:
        raise SecretError(Problem(f"{name} cannot be read", PLACE, "check the file")) from None


def _into_file(name: str, folder: Path, octets: bytes) -> None:
    """Whole or not at all, durable, and never readable by others, not even for a moment."""
    path = _within(name, folder)
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        if sys.platform != "win32":
            folder_of = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder_of)
            finally:
                os.close(folder_of)
    except OSError as error:
        new.unlink(missing_ok=True)
        what = f"{name} cannot be written: {error.strerror}"
        raise SecretError(Problem(what, PLACE, "check the folder and the disk")) from None


def _require_own_words(file: Path) -> None:
    """What anybody on this machine may write must not say which program is run."""
    try:
        open_to_all = os.name == "posix" and file.stat().st_mode & stat.S_IWOTH
    except OSError:
        return
    if open_to_all:
        what = f"{file.name} can be changed by others, and says which program to run"
        raise SecretError(Problem(what, PLACE, f"run: chmod o-w {file.name}"))


def _from_command(command: list[str], folder: Path, seconds: float) -> bytes:
    _require_own_words(folder / "campaign.toml")
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except FileNotFoundError:
        raise SecretError(Problem(f"there is no program '{command[0]}'", PLACE, "check the command")) from None
    except subprocess.TimeoutExpired:
        what = f"'{command[0]}' did not end within {seconds:g} s"
        raise SecretError(Problem(what, PLACE, "try the command by hand: it may ask for something")) from None
    except OSError as error:
        what = f"'{command[0]}' cannot be run: {error.strerror}"
        raise SecretError(Problem(what, PLACE, "check the command")) from None
    if done.returncode:
        raise SecretError(Problem(f"'{command[0]}' ended with {done.returncode}", PLACE, "try it by hand"))
    return done.stdout
