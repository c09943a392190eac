"""What SpamAssassin makes of a letter, if it is installed: its content rules alone, no network, nothing learned."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from dispatcher.core.preflight import Line, Part, ok, warning

SPAM: Final = 5.0
"""Points at which a server usually takes a letter for spam."""
NEAR: Final = 2.0
_SECONDS: Final = 120
_PREFERENCES: Final = "use_bayes 0\nuse_auto_welcomelist 0\nreport_safe 0\nskip_rbl_checks 1\n"
_SCORE: Final = re.compile(r"Content analysis details:\s*\((-?\d+\.\d) points")
_RULE: Final = re.compile(r"(?m)^ *(-?\d+\.\d) (\w+) ")


def spam_lines(letters: Mapping[str, bytes]) -> Iterator[Line]:
    """A line for each letter, which are given by language."""
    program = shutil.which("spamassassin")
    if program is None:
        todo = "install it, on Debian: apt-get install spamassassin"
        yield warning(Part.LETTERS, "SpamAssassin", "unknown: it is not installed", todo)
        return
    for language, octets in letters.items():
        yield _judged(program, language, octets)


def _judged(program: str, language: str, octets: bytes) -> Line:
    with tempfile.TemporaryDirectory(prefix="dispatcher-") as home:
        (Path(home) / "preferences").write_text(_PREFERENCES, encoding="utf-8")
        argv = [program, "--local", "--test-mode", f"--prefspath={home}/preferences"]
        environment = {"HOME": home, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                argv, input=octets, env=environment, capture_output=True, timeout=_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            return warning(Part.LETTERS, "SpamAssassin", f"unknown: {program} failed: {error}", "try it by hand")
    report = done.stdout.decode("utf-8", "replace")
    score = _SCORE.search(report)
    if score is None:
        return warning(Part.LETTERS, "SpamAssassin", f"unknown: {program} says no score", "try it by hand")
    points = float(score[1])
    rules = [name for value, name in _RULE.findall(report[score.end() :]) if float(value) > 0]
    what = f"{points:.1f} points for the letter in {language}; {SPAM:.1f} is spam"
    if points < NEAR:
        return ok(Part.LETTERS, "SpamAssassin", what)
    return warning(Part.LETTERS, "SpamAssassin", f"{what}: {', '.join(rules)}", "mend what these rules are about")
