"""For the whole suite: in CI a skipped test is a failed one, so that nothing is missing there in silence; the torture
tests' figures are told in the last line; marks of ledgers go into a folder of the suite's own; no secret that a test
logged in with is in any file that the suite made. No property has a time limit: how fast it is shown to hold says
nothing of it.

All of it holds in one process and in several (`make test`, by pytest-xdist), where each takes whole files.
"""

import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings
from playwright.sync_api import Browser

from dispatcher.ledgers.state import VARIABLE
from tests import canary, figures
from tests.browser import MISSING, USABLE, Screens, launched

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
pytest.register_assert_rewrite("tests.ledger_contract", "tests.pace_contract")  # their assertions explain themselves

# What a shell's background job ignores, or nohup, all that tests begin would ignore too.
for _name in ("SIGINT", "SIGHUP"):
    if hasattr(signal, _name) and signal.getsignal(getattr(signal, _name)) is signal.SIG_IGN:
        signal.signal(getattr(signal, _name), lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with torture first: they are the longest, and one that came last would keep one process busy alone."""
    torture = {item.path for item in items if item.get_closest_marker("torture")}
    items.sort(key=lambda item: item.path not in torture)


@pytest.fixture(scope="module", autouse=True)
def _marks_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also those of the processes that tests begin. A folder a file: whoever sends looks through all that are there."""
    os.environ[VARIABLE] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session", autouse=True)
def _secrets_are_in_no_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """S25: ledgers, exports, previews, marks, logs, whatever the tests left behind."""
    yield
    found = list(canary.found_in(tmp_path_factory.getbasetemp(), *canary.ALL))
    assert not found, f"a secret is in {', '.join(map(str, found))}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of a file; not longer, for no event loop runs beside it."""
    if not USABLE:
        pytest.skip(MISSING)
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def screens(browser: Browser) -> Screens:
    return Screens(browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        _nothing_is_missing(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file may be skipped as a whole."""
    report = yield
    _nothing_is_missing(report)
    return report


def _nothing_is_missing(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


_STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = exitstatus
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = figures.told()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes has ended."""
    if told := getattr(node, "workeroutput", {}).get("figures"):
        figures.add(told)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    told = figures.line(passed=config.stash.get(_STATUS, 1) == 0)
    if told and not hasattr(config, "workeroutput"):
        print(f"\n{told}")
