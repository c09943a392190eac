"""The system's keyring (extra `keyring`): Keychain, Credential Locker, Secret Service, whatever `keyring` finds.

It is looked for when it is needed; a machine without one, or without the extra, is told by name what to use instead.
Raises SecretError, whose text holds no part of a secret.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from dispatcher.core.errors import Place, Problem, SecretError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

PLACE: Final = Place("campaign.toml", None, "key relay.password")
ELSEWHERE: Final = 'use password = { file = "secret.txt" }, { env = "NAME" } or { command = ["program", "…"] }'


def fetch(service: str, user: str) -> str | None:
    """What is kept there under that name, for that user."""
    with _keyring() as keyring:
        return keyring.get_password(service, user)


def keep(service: str, user: str, secret: str) -> None:
    """Put it there, in place of what was there."""
    with _keyring() as keyring:
        keyring.set_password(service, user, secret)


def drop(service: str, user: str) -> bool:
    """Take it out. Whether there was any."""
    with _keyring() as keyring:
        if keyring.get_password(service, user) is None:
            return False
        keyring.delete_password(service, user)
        return True


@contextmanager
def _keyring() -> Iterator["KeyringBackend"]:
    """The one of this machine; what goes wrong with it becomes words, and the chain ends there."""
    try:
        import keyring  # noqa: PLC0415 (an extra, and slow to load)
        from keyring.errors import InitError, KeyringLocked, NoKeyringError  # noqa: PLC0415
    except ImportError:
        todo = f"install it: pip install 'dispatcher[keyring]'; or {ELSEWHERE}"
        raise SecretError(Problem("the keyring is an extra that is not installed", PLACE, todo)) from None
    try:
        backend = keyring.get_keyring()
        if backend.priority <= 0:  # what stands in where there is none, or keeps nothing
            raise NoKeyringError
        yield backend
    except NoKeyringError:
        raise SecretError(Problem("there is no keyring on this machine", PLACE, ELSEWHERE)) from None
    except (InitError, KeyringLocked):
        todo = f"unlock it, and try again; without a desktop {ELSEWHERE}"
        raise SecretError(Problem("the keyring is locked, or cannot be opened", PLACE, todo)) from None
    except Exception as error:  # noqa: BLE001 (the bus is away, or it is too long for it: each system has its own)
        raise SecretError(Problem(f"the keyring does not serve: {type(error).__name__}", PLACE, ELSEWHERE)) from None
