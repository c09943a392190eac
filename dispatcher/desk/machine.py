"""What preflight wants to know of this machine (`core.machine` says what it means)."""

import os
import re
import shutil
import sqlite3
import ssl
import stat
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import LedgerUnavailable
from dispatcher.core.machine import LIBRARIES, Machine, Version, needed
from dispatcher.desk import Desk, quoted

_READ: Final = 0o077
_WRITE: Final = 0o022


def machine(desk: Desk, campaign: Campaign, letters: int, attached: int) -> Machine:
    """The facts; `attached` is how many octets all attached files have together."""
    return Machine(
        python=sys.version_info[:3],
        sqlite=sqlite3.sqlite_version_info,
        openssl=_openssl(ssl.OPENSSL_VERSION_INFO),
        libraries={name: _library(name) for name in LIBRARIES},
        now=desk.clock.now(),
        last=_last(desk),
        free=_free(desk.root),
        needed=needed(letters, attached),
        loose=tuple(_loose(desk, campaign)) if os.name == "posix" else (),
    )


def _openssl(info: tuple[int, int, int, int, int]) -> Version:
    """Major, minor and patch: since 3.0 the third of the five numbers is always 0, and the fourth is the patch."""
    return (*info[:2], info[3]) if info[0] >= 3 else info[:3]


def _library(name: str) -> Version:
    """Its version, as far as that is numbers; () if it does not say."""
    try:
        return tuple(int(part) for part in re.findall(r"\d+", version(name))[:3])
    except PackageNotFoundError:
        return ()


def _last(desk: Desk) -> datetime | None:
    """The newest moment that the ledger knows of."""
    if not desk.ledger_path.exists():
        return None
    try:
        with desk.reader() as reader:
            row = reader.one("latest_moment")
    except LedgerUnavailable:
        return None  # which is said by whoever needs the ledger
    return datetime.fromisoformat(row["at"]) if row and row["at"] else None


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _loose(desk: Desk, campaign: Campaign) -> Iterator[tuple[str, str]]:
    """What others may read or write and should not, each with the command that closes it."""
    ledger, password = desk.ledger_path, campaign.relay.password
    for path in (ledger.parent, ledger):
        if _mode(path) & _READ:
            yield _shown(desk, path), f"chmod go-rwx {quoted(_shown(desk, path))}"
    settings = desk.root / "campaign.toml"
    if password and password.command and _mode(settings) & _WRITE:  # whoever writes there says what is run
        yield _shown(desk, settings), f"chmod go-w {quoted(_shown(desk, settings))}"


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def _shown(desk: Desk, path: Path) -> str:
    return path.relative_to(desk.root).as_posix()
