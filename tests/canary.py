"""The secrets that the suite uses, and where they may be found: nowhere but where a test put them.

Every test that logs in does so with one of these. At the end of the suite all files that it made are looked through,
octet by octet (`conftest`).
"""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final


def _apart(*pieces: str) -> str:
    """A secret that stands whole in no source, for tests copy their own."""
    return "".join(pieces)


USER: Final = "upr@kms.example.org"
PASSWORD: Final = _apart("Wb7-", "canary-of-2009")
TOKEN: Final = _apart("ya29.a0-", "Canary~of+2009/==")
ACCESS: Final = _apart("ya29.", "canary-access-2009")
REFRESH: Final = _apart("1//", "canary-refresh-2009")
CLIENT_SECRET: Final = _apart("GOCSPX-", "canary: client+2009")
ALL: Final = (PASSWORD, TOKEN, ACCESS, REFRESH, CLIENT_SECRET)
STORES: Final = frozenset(("secret.txt", "vault", "good-tokens"))
"""Names of files in which a test itself keeps a secret; what campaign.toml calls a password's file is one of them."""


def forms(secret: str, user: str = USER) -> list[bytes]:
    """A secret as it stands, and as it travels (RFC 4616, RFC 4954, XOAUTH2)."""
    lines = (secret.encode(), f"\0{user}\0{secret}".encode(), f"user={user}\x01auth=Bearer {secret}\x01\x01".encode())
    return [secret.encode(), *(base64.b64encode(line) for line in lines)]


def found_in(folder: Path, *secrets: str) -> Iterator[Path]:
    """The files in a folder that hold one of the secrets in any form, but for those in which it is kept."""
    wanted = [form for secret in secrets for form in forms(secret)]
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name not in STORES and _holds(path, wanted):
            yield path


def _holds(path: Path, wanted: Sequence[bytes]) -> bool:
    try:
        octets = path.read_bytes()
    except OSError:  # a test took its rights away, or a process is at an end
        return False
    return any(form in octets for form in wanted)
