"""Machines with a keyring and without one: a command runs under a session bus of its own, with GNOME's keyring or not.

    on_desktop("account", "add", folder=campaign, home=home, text=secret)

What is kept in one run is there in the next: the keyring is a file in `home`, locked with a password.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import SECONDS, Done, argv, environment
from tests.servers import require

_UNLOCK = "printf 'the keyring own password\n' | gnome-keyring-daemon --unlock --components=secrets >&2\n"
_LOCKED = "gnome-keyring-daemon --start --components=secrets >&2\n"
_RUN = 'exec "$@" <&3\n'


def on_desktop(*words: str, folder: Path, home: Path, text: str = "", locked: bool = False) -> Done:
    """Run one command as on a desktop of GNOME's, where `home` is the user's; `text` stands on its stdin."""
    if sys.platform != "linux":
        pytest.skip("GNOME's keyring is for Linux")
    bus = require("dbus-run-session", "apt-get install dbus")
    require("gnome-keyring-daemon", "apt-get install gnome-keyring")
    script = (_LOCKED if locked else _UNLOCK) + _RUN
    done = subprocess.run(
        [bus, "--", "sh", "-c", f"exec 3<&0\n{script}", "sh", *argv(*words)],
        cwd=folder,
        env=environment(HOME=str(home), XDG_RUNTIME_DIR=str(home)),
        input=text.encode(),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
