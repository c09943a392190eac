"""Secrets, from where campaign.toml says they are. They are returned, never printed or put into an error.

    environment   taken out of it when it is first read, so that no program we start inherits it
    file          in the campaign's folder, a plain file, closed to others
    command       an argument list, run in that folder without a shell, with a time-out
    keyring       the system's (`keychain`)

A file and the keyring can be written, too. Raises SecretError with what to do.
"""

import math
import os
import re
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
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
_HALF: Final = re.compile(r"\.[0-9a-f]{8}")
"""How a file ends that was being written when the power failed."""
_TAKEN: Final[dict[str, str]] = {}
"""What was taken out of the environment."""


def take_out(where: "Password | None") -> None:
    """Take a secret out of the environment before any other program is started: each of them would inherit it."""
    if where is not None and where.env is not None and where.env in os.environ:
        _TAKEN[where.env] = os.environ.pop(where.env)


def read_secret(where: "Password", folder: Path, user: str, *, seconds: float = _SECONDS) -> str:
    """The secret as text: the first line of what is there for this user. A command gets so many seconds."""
    leave_no_core()
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
    if "\0" in secret:  # RFC 4616 §2: what follows it would be taken for something else
        raise SecretError(Problem(f"there is a NUL in {in_words(where, user)}", PLACE, "store the password anew"))
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
    path = _within(where.file or "", folder)
    try:
        for half in path.parent.glob("*"):
            if half.name.startswith(f"{path.name}.") and _HALF.fullmatch(half.suffix):
                half.unlink()
        path.unlink()
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


def leave_no_core() -> None:
    """From now on this process holds a secret: should it crash, no image of its memory is written.

    One octet, not none: a core that is piped into a program knows no limit, but one of 1 forbids it (Linux,
    fs/coredump.c); and no image is as small as that.
    """
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 (not on Windows)

        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))


def _first_line(octets: bytes, what: str) -> str:
    if len(octets) > _LARGEST:
        raise SecretError(Problem(f"{what} is larger than any password", PLACE, "check it by hand"))
    try:
        return octets.decode("utf-8-sig").split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        pass  # raised below, for this error holds what was read
    raise SecretError(Problem(f"{what} is not UTF-8 text", PLACE, "check it by hand"))


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
            return file.read(_LARGEST + 1)
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
    """What it prints. It has no terminal to ask at, and what it says on stderr, which may be anything, is not shown."""
    _require_own_words(folder / "campaign.toml")
    name = command[0]
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise SecretError(Problem(f"there is no program '{name}'", PLACE, "check the command")) from None
    except OSError as error:
        what = f"'{name}' cannot be run: {error.strerror}"
        raise SecretError(Problem(what, PLACE, "check the command")) from None
    octets = _printed(process, seconds)
    if octets is None:
        what = f"'{name}' did not end within {seconds:g} s"
        raise SecretError(Problem(what, PLACE, "try the command by hand: it may ask for something"))
    if process.returncode and len(octets) <= _LARGEST:
        todo = "try it by hand; here it has no terminal to ask at"
        raise SecretError(Problem(f"'{name}' ended with {process.returncode}", PLACE, todo))
    return octets


def _printed(process: "subprocess.Popen[bytes]", seconds: float) -> bytes | None:
    """All that it prints until it ends; None if it does not end in time. One that prints too much is ended, too."""
    until = time.monotonic() + seconds
    found: list[bytes] = []
    with suppress(subprocess.TimeoutExpired):
        reader = threading.Thread(target=_read, args=(process, found), daemon=True)
        reader.start()
        reader.join(seconds)
        if found and len(found[0]) <= _LARGEST:
            process.wait(until - time.monotonic())
            return found[0]
    _end(process)
    return found[0] if found and len(found[0]) > _LARGEST else None


def _read(process: "subprocess.Popen[bytes]", found: list[bytes]) -> None:
    """In a thread of its own, which nobody waits for if something that escaped us keeps the pipe open."""
    if process.stdout is not None:
        with process.stdout as pipe:
            found.append(pipe.read(_LARGEST + 1))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program and whatever it has begun."""
    if sys.platform == "win32":
        words = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    else:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
