"""Every wrong program in the table is noticed by the tests that are said to notice it; the right one passes them."""

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.command import REPOSITORY
from tests.figures import COUNTS
from tests.mutants import MUTANTS, Mutant, copy, mutate, run_tests, table
from tests.tracing import needs_strace

Run = subprocess.CompletedProcess[str] | AssertionError
Runs = Mapping[str, Run]
RIGHT = "the right program"

pytestmark = [
    pytest.mark.torture,
    needs_strace(),
    pytest.mark.skipif(sys.platform == "win32", reason="the tests that catch them run on POSIX"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """By mutant: what its tests came to, or that it could not be made. Two at a time."""

    def run(mutant: Mutant | None) -> Run:
        folder = copy(tmp_path_factory.mktemp("mutant"))
        if mutant is None:
            return run_tests(folder, *sorted({test for mutant in MUTANTS for test in mutant.caught_by}))
        try:
            mutate(folder, mutant)
        except AssertionError as stale:
            return stale
        return run_tests(folder, *mutant.caught_by)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, (None, *MUTANTS)))
    return dict(zip([RIGHT, *(mutant.name for mutant in MUTANTS)], done, strict=True))


def came_to(run: Run) -> "subprocess.CompletedProcess[str]":
    if isinstance(run, AssertionError):
        raise run
    return run


def test_the_right_program_passes(runs: Runs) -> None:
    done = came_to(runs[RIGHT])
    assert done.returncode == pytest.ExitCode.OK, done.stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_is_caught(mutant: Mutant, runs: Runs) -> None:
    done = came_to(runs[mutant.name])
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, f"nobody noticed:\n{done.stdout}{done.stderr}"
    assert mutant.saying in done.stdout, "it failed for another reason"
    COUNTS["mutants caught"] += 1


def test_the_design_lists_them_all() -> None:
    """The table in docs/design.md has a row for each mutant: what is wrong, and what catches it."""
    text = (REPOSITORY / "docs/design.md").read_text(encoding="utf-8")
    assert text.partition("<!-- mutants -->")[2].partition("|---|---|\n")[2].startswith(f"{table()}<!-- /mutants -->")
