"""What SpamAssassin and rspamd make of a letter, if installed: its content alone, no network, nothing learned.

SpamAssassin is a program that reads a letter. rspamd is a server; one of our own is begun for a moment, listening at
a socket in a folder that is thrown away, with the rules about content alone and nobody to ask.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dispatcher.core.preflight import Line, Part, ok, warning

NEAR: Final = 0.4
"""The part of what makes spam from which it is worth a word."""
_SECONDS: Final = 120
_ENDING: Final = 2.0
"""Seconds for it to end in."""
_PREFERENCES: Final = "use_bayes 0\nuse_auto_welcomelist 0\nreport_safe 0\nskip_rbl_checks 1\n"
_SCORE: Final = re.compile(r"Content analysis details:\s*\((-?\d+\.\d) points")
_RULE: Final = re.compile(r"(?m)^ *(-?\d+\.\d) (\w+) ")
_LAST_LABEL: Final = re.compile(rb"\.([a-z]{2,24})\b")
_RSPAMD: Final = """\
lua = "$RULESDIR/rspamd.lua";
.include "$CONFDIR/metrics.conf"
.include "$CONFDIR/groups.conf"
.include "$CONFDIR/composites.conf"
actions { reject = 15; add_header = 6; greylist = 4; }
modules { path = "${PLUGINSDIR}"; }
regexp { max_size = 10M; }
chartable { }
options {
    filters = "chartable,regexp";
    disable_hyperscan = true;
    dns { nameserver = ["127.0.0.1:1"]; timeout = 0.01s; retransmits = 1; }
    local_addrs = [];
    task_timeout = 60s;
    max_message = 60M;
    tempdir = "${DBDIR}";
    hs_cache_dir = "${DBDIR}/";
    pidfile = "${DBDIR}/pid";
    control_socket = "${DBDIR}/control mode=0600";
    url_tld = "${DBDIR}/names";
}
logging { type = "console"; level = "error"; }
worker "normal" { bind_socket = "${DBDIR}/socket mode=0600"; count = 1; mime = true; }
"""
"""Modules that are not set up here are off; those ask others: block lists, SPF, hashes of letters, maps of names."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Points, and the rules that gave some; or why there are none."""

    points: float = 0.0
    rules: tuple[str, ...] = ()
    trouble: str = ""


Judge = Callable[[Mapping[str, bytes]], Iterator[tuple[str, Scored]]]


def spam_lines(letters: Mapping[str, bytes]) -> Iterator[Line]:
    """A line for each letter, which are given by language, and by each filter that is installed."""
    installed = [filter_ for filter_ in _FILTERS if shutil.which(filter_[1])]
    if not installed:
        todo = "install one, on Debian: apt-get install spamassassin, or apt-get install rspamd"
        yield warning(Part.LETTERS, "spam", "unknown: neither SpamAssassin nor rspamd is installed", todo)
    for name, _, spam, judge in installed:
        for language, scored in judge(letters):
            yield _line(name, spam, language, scored)


def _line(name: str, spam: float, language: str, scored: Scored) -> Line:
    if scored.trouble:
        return warning(Part.LETTERS, name, f"unknown: {scored.trouble}", "try it by hand")
    points = round(scored.points, 1) + 0.0  # never -0.0
    what = f"{points:.1f} points for the letter in {language}; {spam:.1f} is spam"
    if points < NEAR * spam:
        return ok(Part.LETTERS, name, what)
    return warning(Part.LETTERS, name, f"{what}: {', '.join(scored.rules)}", "mend what these rules are about")


def _said(error: Exception) -> str:
    return f"it failed: {error}"


# SpamAssassin.


def _by_spamassassin(letters: Mapping[str, bytes]) -> Iterator[tuple[str, Scored]]:
    for language, octets in letters.items():
        with tempfile.TemporaryDirectory(prefix="dispatcher-") as home:
            yield language, _of_report(Path(home), octets)


def _of_report(home: Path, octets: bytes) -> Scored:
    (home / "preferences").write_text(_PREFERENCES, encoding="utf-8")
    argv = ["spamassassin", "--local", "--test-mode", f"--prefspath={home}/preferences"]
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(argv, input=octets, env=environment, capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Scored(trouble=_said(error))
    report = done.stdout.decode("utf-8", "replace")
    score = _SCORE.search(report)
    if score is None:
        return Scored(trouble="it says no score")
    rules = tuple(name for value, name in _RULE.findall(report[score.end() :]) if float(value) > 0)
    return Scored(float(score[1]), rules)


# rspamd.


def _by_rspamd(letters: Mapping[str, bytes]) -> Iterator[tuple[str, Scored]]:
    try:
        with _rspamd(_names(letters)) as socket:
            for language, octets in letters.items():
                argv = ["rspamc", "--connect", socket, "--json"]
                done = subprocess.run(argv, input=octets, capture_output=True, timeout=_SECONDS, check=True)
                yield language, _of_json(done.stdout)
    except (OSError, subprocess.SubprocessError, TimeoutError) as error:
        yield "", Scored(trouble=_said(error))


def _names(letters: Mapping[str, bytes]) -> str:
    """The last labels of all names: it finds links by them, and would take long for all the suffixes in the world."""
    found = {label.decode() for octets in letters.values() for label in _LAST_LABEL.findall(octets.lower())}
    return "\n".join(sorted(found | {"com", "net", "org"}))


@contextmanager
def _rspamd(names: str) -> Iterator[str]:
    """One of our own while it is entered: its socket. TimeoutError if it does not come up."""
    with tempfile.TemporaryDirectory(prefix="dispatcher-") as home:
        Path(home, "names").write_text(names, encoding="utf-8")
        Path(home, "rspamd.conf").write_text(_RSPAMD, encoding="utf-8")
        argv = ["rspamd", "--no-fork", "--insecure", f"--config={home}/rspamd.conf"]
        argv += [f"--var={name}={home}" for name in ("DBDIR", "RUNDIR", "LOGDIR", "LOCAL_CONFDIR")]
        if shutil.which("timeout"):  # so that it ends, however we do
            argv = ["timeout", "-k", "10", str(_SECONDS), *argv]
        no = subprocess.DEVNULL
        with subprocess.Popen(argv, stdin=no, stdout=no, stderr=no, start_new_session=True) as process:
            try:
                _wait_for(Path(home, "socket"), process)
                yield f"{home}/socket"
            finally:
                _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Its workers, too: what is killed alone leaves them behind."""
    process.terminate()
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _wait_for(socket: Path, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _SECONDS
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise TimeoutError("it does not come up")
        time.sleep(0.05)


def _of_json(octets: bytes) -> Scored:
    try:
        found: dict[str, Any] = json.loads(octets)
        scores = {name: float(symbol["score"]) for name, symbol in found["symbols"].items()}
        rules = sorted((name for name, score in scores.items() if score > 0), key=lambda name: -scores[name])
        return Scored(float(found["score"]), tuple(rules))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Scored(trouble="it says no score")


_FILTERS: Final[tuple[tuple[str, str, float, Judge], ...]] = (
    ("SpamAssassin", "spamassassin", 5.0, _by_spamassassin),
    ("rspamd", "rspamd", 6.0, _by_rspamd),
)
"""Name, program, the points from which a server usually takes a letter for spam, and how it is asked."""
