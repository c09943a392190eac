"""What SpamAssassin makes of the founding letters, by its content rules alone: no network, nothing learned, no history.

What it found stands in docs/spamassassin.md; after a change that is meant, write that page anew:
python -m tests.test_spamassassin --write
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from dispatcher.core.merge import Merged
from dispatcher.desk.draft import Draft
from tests.command import REPOSITORY
from tests.pictures import png
from tests.servers import require

pytestmark = pytest.mark.torture

PAGE = REPOSITORY / "docs" / "spamassassin.md"
MOST = 1.0
WHEN = datetime(2009, 10, 1, 9, 30, tzinfo=UTC)
LETTERS = {"GBR": "English", "FRA": "French", "ESP": "Spanish"}
SECONDS = 120
INSTALL = "apt-get install spamassassin"
_PREFERENCES = "use_bayes 0\nuse_auto_welcomelist 0\nreport_safe 0\nskip_rbl_checks 1\n"
_RULE = re.compile(r"^ *(-?\d+\.\d) (\w+) +(.*)$")


@dataclass(frozen=True)
class Verdict:
    """A score, and each rule that was hit: what it adds to the score, and what it says."""

    score: float
    rules: Mapping[str, tuple[float, str]]


def verdict(octets: bytes, home: Path) -> Verdict:
    """Of one message, by a SpamAssassin that knows nothing but its rules."""
    (home / "preferences").write_text(_PREFERENCES, encoding="utf-8")
    argv = [require("spamassassin", INSTALL), "--local", "--test-mode", f"--prefspath={home / 'preferences'}"]
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, input=octets, env=environment, capture_output=True, timeout=SECONDS, check=True)
    report = done.stdout.decode("utf-8", "replace").rpartition("Content analysis details:")[2]
    score = re.match(r"\s*\((-?\d+\.\d) points", report)
    assert score, done.stderr.decode()
    rules: dict[str, tuple[float, str]] = {}
    for text in report.splitlines():
        if found := _RULE.match(text):
            rules[found[2]] = float(found[1]), found[3]
        elif rules and text.startswith("         ") and text.strip():
            name, (points, said) = next(reversed(rules)), next(reversed(rules.values()))
            rules[name] = points, f"{said} {text.strip()}"
    return Verdict(float(score[1]), rules)


@cache
def version() -> str:
    """SpamAssassin's own, and the state of its rules: others judge otherwise."""
    done = subprocess.run([require("spamassassin", INSTALL), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].removeprefix("SpamAssassin version ").strip()


def letters(folder: Path) -> dict[str, bytes]:
    """The founding letter in each language, and the English one with a logo in the letterhead."""
    plain = _letters(REPOSITORY)
    for part in ("recipients", "templates"):
        shutil.copytree(REPOSITORY / part, folder / part)
    text = (REPOSITORY / "campaign.toml").read_text(encoding="utf-8")
    text = text.replace("[letter]\n", '[letter]\nlogo = "logo.png"\n')
    (folder / "campaign.toml").write_text(text, encoding="utf-8")
    (folder / "logo.png").write_bytes(png(360, 90))
    with_logo = _letters(folder)["GBR"]
    return {**{LETTERS[key]: plain[key] for key in LETTERS}, "English, with a logo": with_logo}


def _letters(folder: Path) -> dict[str, bytes]:
    draft = Draft(folder)
    items = (item for item in draft.items(look=False) if isinstance(item, Merged) and item.letter.key in LETTERS)
    return {item.letter.key: draft.merge.with_date(item, WHEN).octets for item in items}


PREFACE = """\
# SpamAssassin

What SpamAssassin makes of the founding letters as they leave, by its content rules alone: no network tests, nothing
learned, no Received fields of the way. They must stay below {most:.1f}; a server usually takes 5.0 for spam.

Written by `python -m tests.test_spamassassin --write` with version {version}; `make torture` judges the letters anew,
and holds this page against what that version says.
"""


def page(found: Mapping[str, Verdict]) -> str:
    said = {rule: text for one in found.values() for rule, (_, text) in one.rules.items()}
    rows = [f"| {name} | {_plain(one.score):.1f} | {_shown(one.rules)} |" for name, one in found.items()]
    return "\n".join(
        [
            PREFACE.format(most=MOST, version=version()),
            "| Letter | Score | Rules hit |",
            "|---|---|---|",
            *rows,
            "",
            "| Rule | In its own words |",
            "|---|---|",
            *(f"| `{rule}` | {text} |" for rule, text in sorted(said.items())),
            "",
        ]
    )


def _shown(rules: Mapping[str, tuple[float, str]]) -> str:
    return ", ".join(f"`{rule}` {_plain(points):+.1f}" for rule, (points, _) in sorted(rules.items()))


def _plain(points: float) -> float:
    """Without a minus before nothing."""
    return points or 0.0


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Verdict]:
    require("spamassassin", INSTALL)
    home = tmp_path_factory.mktemp("home")
    return {name: verdict(octets, home) for name, octets in letters(tmp_path_factory.mktemp("campaign")).items()}


def test_the_founding_letters_are_no_spam(verdicts: Mapping[str, Verdict]) -> None:
    assert len(verdicts) == len(LETTERS) + 1
    assert all(one.score < MOST for one in verdicts.values()), verdicts
    assert all(rules[0] < MOST for one in verdicts.values() for rules in one.rules.values())


def test_a_letter_that_shouts_would_be_noticed(tmp_path: Path) -> None:
    letter = _letters(REPOSITORY)["GBR"]
    head = re.sub(rb"\r\n(Content-Type|Subject): .*(\r\n .*)*", b"", letter.partition(b"\r\n\r\n")[0])
    shouting = b"\r\nSubject: MAKE MONEY FAST!!! 100% FREE $$$\r\n\r\nBUY VIAGRA NOW: http://198.51.100.7/\r\n"
    assert verdict(head + shouting, tmp_path).score > 5


def test_the_page_says_what_is_found(verdicts: Mapping[str, Verdict]) -> None:
    """Another version has other rules: then each letter must be on the page, with a score that is low enough."""
    written = PAGE.read_text(encoding="utf-8")
    if f"version {version()};" in written:
        assert written == page(verdicts), "write it anew: python -m tests.test_spamassassin --write"
    scores = dict(re.findall(r"(?m)^\| ([A-Z][^|]*) \| (\d+\.\d) \|", written))
    assert scores.keys() == verdicts.keys()
    assert all(float(score) < MOST for score in scores.values())


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("to write docs/spamassassin.md anew: python -m tests.test_spamassassin --write")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        PAGE.write_text(
            page({name: verdict(octets, Path(home)) for name, octets in letters(Path(folder)).items()}),
            encoding="utf-8",
        )
