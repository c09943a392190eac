"""Wrong programs on purpose: each is ours with one rule taken out, and the suite must notice.

A mutant is a piece of source that is replaced, in a copy of the repository. The piece must be there exactly once, so
that no mutant goes stale in silence; the tests that are named to catch it must fail, for the reason that is named, and
pass in a copy that was left as it is. The same table stands in docs/design.md.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.command import REPOSITORY

SECONDS = 120
_NEEDED = ("dispatcher", "tests", "templates", "recipients", "campaign.toml", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """What is wrong, in which file below `dispatcher/`, and who catches it, with a word of what is said then."""

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]
    saying: str


MUTANTS = (
    Mutant(
        "`synchronous=NORMAL`",
        "ledgers/file.py",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=NORMAL",
        ("test_power_loss.py::test_the_intent_is_on_the_disk_at_every_terminator",),
        "a terminator left before its intent was safe",
    ),
    Mutant(
        "the name of the ledger's folder not synced",
        "ledgers/file.py",
        "            sync_names(each.parent)\n",
        "",
        ("test_power_loss.py::test_the_intent_is_on_the_disk_at_every_terminator",),
        "unable to open database file",
    ),
    Mutant(
        "no unique index",
        "ledgers/schema.sql",
        "CREATE UNIQUE INDEX one_live",
        "CREATE INDEX one_live",
        ("test_ledger.py::TestSqlite::test_a_second_live_attempt_is_refused",),
        "DID NOT RAISE",
    ),
    Mutant(
        "retry after a drop past the dot",
        "core/policy.py",
        "        return Verdict(Outcome.UNKNOWN, Scope.CONNECTION, facts.fault or",
        "        return Verdict(Outcome.DEFERRED, Scope.RATE, facts.fault or",
        ("test_lies.py::test_what_the_ledger_says_is_borne_out[a close after the dot, stored]",),
        "was stored",
    ),
    Mutant(
        "two letters swapped",
        "core/merge.py",
        "        return envelope, message\n",
        "        before, self._before = getattr(self, '_before', envelope), envelope\n        return before, message\n",
        ("test_dispatch.py::test_a_second_run_sends_nothing_more",),
        "there.rcpt_tos",
    ),
    Mutant(
        "lease never expires",
        "ledgers/statements.sql",
        "WHERE lease IS NOT NULL AND state = 'leased';",
        "WHERE FALSE;",
        ("test_ledger.py::TestSqlite::test_recovery_settles_what_a_dead_run_left_and_may_be_repeated",),
        "found.given_back",
    ),
)


def copy(folder: Path) -> Path:
    """The repository as far as tests need it, to be changed at will."""
    for name in _NEEDED:
        there = REPOSITORY / name
        if there.is_dir():
            shutil.copytree(there, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(there, folder / name)
    return folder


def mutate(folder: Path, mutant: Mutant) -> None:
    """Make a copy wrong. Fails if the piece to replace is not there exactly once."""
    path = folder / "dispatcher" / mutant.file
    text = path.read_text(encoding="utf-8")
    found = text.count(mutant.old)
    assert found == 1, f"{mutant.name}: {mutant.old!r} is {found} times in {mutant.file}: bring the mutant up to date"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def run_tests(folder: Path, *tests: str) -> "subprocess.CompletedProcess[str]":
    """Run some tests of a copy, against the package in that copy."""
    there = f"dispatcher.__file__.startswith({str(folder)!r})"
    code = f"import dispatcher, pytest, sys; assert {there}; sys.exit(pytest.main())"
    return subprocess.run(
        [sys.executable, "-c", code, "-x", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def table() -> str:
    """The rows for docs/design.md."""
    rows = (
        (mutant.name, ", ".join(f"`{test.rpartition('::')[2]}`" for test in mutant.caught_by)) for mutant in MUTANTS
    )
    return "".join(f"| {name} | {tests} |\n" for name, tests in rows)
