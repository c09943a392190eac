"""What SpamAssassin and rspamd make of a letter: whichever is installed, by no network; and nothing is left behind."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command import REPOSITORY, dispatcher, environment
from tests.servers import require
from tests.test_look import with_text

SHOUT = "# BUY VIAGRA NOW\n\nMAKE MONEY FAST!!! 100% FREE, [https://www.bank.example](http://198.51.100.7/)\n"
RSPAMD = "apt-get install rspamd"


def programs(folder: Path, *names: str) -> str:
    """A folder that holds these programs alone, for PATH."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(require(name, RSPAMD))
    return str(folder)


def judged(folder: Path, text: str = SHOUT, **env: str) -> list[dict[str, Any]]:
    done = dispatcher("preflight", "--sandbox", "--spam", "--json", folder=with_text(folder, text), env=env)
    return [row for row in done.json["lines"] if row["subject"] in ("SpamAssassin", "rspamd", "spam")]


def fake(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o700)


def test_spamassassin_judges_a_letter_of_each_language(tmp_path: Path) -> None:
    require("spamassassin", "apt-get install spamassassin")
    found = [row for row in judged(tmp_path / "campaign") if row["subject"] == "SpamAssassin"]
    assert [row["what"].partition(" points for the letter in ")[2][:2] for row in found] == ["fr", "en"]
    assert found[1]["status"] == "warning"
    assert found[1]["todo"] == "mend what these rules are about"


posix = pytest.mark.skipif(os.name != "posix", reason="there is no rspamd")


@posix
def test_rspamd_judges_a_letter_of_each_language(tmp_path: Path) -> None:
    """Alone if it is the only one there; its server is one of our own, and gone afterwards with its folder."""
    path = programs(tmp_path / "bin", "rspamd", "rspamc")
    (tmp_path / "t").mkdir()
    found = judged(tmp_path / "campaign", PATH=path, TMPDIR=str(tmp_path / "t"))
    assert [(row["subject"], row["status"]) for row in found] == [("rspamd", "ok"), ("rspamd", "ok")]
    said = [re.fullmatch(r"(\d+\.\d) points for the letter in (..); 6\.0 is spam", row["what"]) for row in found]
    assert [match and match[2] for match in said] == ["fr", "en"]
    assert list((tmp_path / "t").iterdir()) == []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path / "t").encode() not in process.read_bytes()
        except OSError:
            continue


SPAM = b"""\
From: x@orchard.example.org\r
To: a@example.org\r
Subject: Re: MAKE MONEY FAST!!!\r
Date: Thu, 26 Nov 2026 01:00:00 +0000\r
Message-ID: <x@orchard.example.org>\r
MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
\r
<p><a href="http://evil.example.com/">https://www.bank.com</a><img src="http://x.example.com/a.png" width=600></p>\r
"""
JUDGE = """
import sys
from dispatcher.desk.spam import spam_lines
for line in spam_lines({"en": sys.stdin.buffer.read()}):
    print(line.status, line.subject, line.what)
"""


@posix
def test_rspamd_names_its_rules_and_asks_nobody(tmp_path: Path) -> None:
    """Seen by strace: no socket is bound or connected but those in its folder, and to the name server that is none."""
    strace = require("strace", "apt-get install strace")
    path = programs(tmp_path / "bin", "rspamd", "rspamc", "timeout")
    calls = tmp_path / "calls"
    argv = [strace, "-f", "--seccomp-bpf", "-e", "trace=connect,bind,sendto,sendmsg,sendmmsg", "-o", str(calls)]
    env = {**environment(), "PATH": path, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*argv, sys.executable, "-c", JUDGE], input=SPAM, env=env, capture_output=True, timeout=120, check=True
    )
    said = done.stdout.decode()
    assert re.match(r"warning rspamd [3-9]\.\d points for the letter in en; 6\.0 is spam: ", said), said
    assert {"FAKE_REPLY", "R_EMPTY_IMAGE", "SUBJ_ALL_CAPS"} <= set(re.findall(r"[A-Z_]{5,}", said))
    seen = calls.read_text(encoding="utf-8")
    met = re.findall(r"AF_INET6?, sin6?_port=htons\((\d+)\), ([^}]*)", seen)
    assert set(met) <= {("1", 'sin_addr=inet_addr("127.0.0.1")')}, met
    assert "AF_UNIX" in seen


@posix
@pytest.mark.parametrize(
    ("rspamd", "rspamc", "words"),
    [
        ("exit 1", "exit 1", "unknown: it failed: it does not come up"),
        (None, "echo '{}'", "unknown: it says no score"),
        (None, "echo no", "unknown: it says no score"),
        (None, "exit 3", "unknown: it failed: Command "),
    ],
)
def test_an_rspamd_that_fails_is_unknown(tmp_path: Path, rspamd: str | None, rspamc: str, words: str) -> None:
    bin_ = Path(programs(tmp_path / "bin", *([] if rspamd else ["rspamd"])))
    if rspamd:
        fake(bin_, "rspamd", rspamd)
    fake(bin_, "rspamc", rspamc)
    found = judged(tmp_path / "campaign", PATH=str(bin_))
    assert {row["subject"] for row in found} == {"rspamd"}
    assert all(row["status"] == "warning" and row["what"].startswith(words) for row in found), found


STUBBORN = """\
trap '' TERM
for word; do case $word in --config=*) folder=${word#--config=};; esac; done
(trap '' TERM; sleep 300) &
echo $$ $! > "$PIDS"
touch "${folder%/*}/socket"
wait; sleep 300"""


@posix
@pytest.mark.parametrize("names", [("timeout",), ()])
def test_an_rspamd_that_does_not_end_is_ended_with_its_workers(tmp_path: Path, names: tuple[str, ...]) -> None:
    bin_ = Path(programs(tmp_path / "bin", "sleep", "touch", *names))
    fake(bin_, "rspamd", STUBBORN)
    fake(bin_, "rspamc", 'echo \'{"score": 7.5, "symbols": {"SOME_RULE": {"score": 7.5}}}\'')
    found = judged(tmp_path / "campaign", PATH=str(bin_), PIDS=str(tmp_path / "pids"))
    assert [row["what"].partition(" points")[0] for row in found] == ["7.5", "7.5"]
    for number in (tmp_path / "pids").read_text(encoding="utf-8").split():
        assert not is_alive(int(number))


def is_alive(number: int) -> bool:
    """Whether a process does anything yet; one that nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text(encoding="utf-8")
    except OSError:
        return False


def test_with_neither_it_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (found,) = judged(tmp_path / "campaign", "x", PATH=str(tmp_path / "bin"))
    assert (found["status"], found["what"]) == ("warning", "unknown: neither SpamAssassin nor rspamd is installed")
    assert "apt-get install spamassassin" in found["todo"]


@posix
def test_nobody_is_asked_for_points_unless_somebody_wants_them(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("rspamd", "spamassassin"):
        fake(tmp_path / "bin", name, f"touch {tmp_path}/asked")
    folder = with_text(tmp_path / "campaign", "x")
    path = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{Path(shutil.which('touch') or '/bin/touch').parent}"}
    assert dispatcher("preflight", "--sandbox", folder=folder, env=path).code == 0
    assert not (tmp_path / "asked").exists()
