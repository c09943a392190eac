"""docs/design.md and the repository against the code: what is drawn there is what runs."""

import re
import tomllib
from pathlib import Path

from dispatcher.core.model import State
from dispatcher.core.policy import TRANSITIONS

ROOT = Path(__file__).parent.parent


def test_the_states_picture_is_the_table() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = text.split("<!-- transitions -->\n```\n")[1].split("```")[0]
    drawn = {
        (State(old.strip()), State(new.strip()))
        for old, _, news in (line.partition("→") for line in block.splitlines())
        for new in news.split(",")
        if "terminal" not in new
    }
    assert drawn == TRANSITIONS


def test_every_state_is_drawn() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = text.split("<!-- transitions -->\n```\n")[1].split("```")[0]
    assert {line.split()[0] for line in block.splitlines()} == set(State)


def test_the_locks_hold_names_versions_and_hashes_alone() -> None:
    for lock in (ROOT / "lock.txt", ROOT / "tests" / "lock.txt"):
        for line in lock.read_text(encoding="utf-8").splitlines():
            assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


def test_the_test_lock_pins_what_the_lock_pins() -> None:
    """What is tested is what is installed."""
    pins = [
        set(re.findall(r"^\S+==\S+", (ROOT / name).read_text("utf-8"), re.MULTILINE))
        for name in ("lock.txt", "tests/lock.txt")
    ]
    assert pins[0] <= pins[1]


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / "lock.txt").read_text("utf-8"), re.MULTILINE))
    assert {re.split(r"[>=;]", name)[0] for name in project["dependencies"]} <= locked
