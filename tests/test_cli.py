"""The command line as such: help, exit codes, streams, errors, colours, what reaches a terminal, how soon it starts."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dispatcher import __version__
from dispatcher.cli.app import app
from dispatcher.desk import Desk
from tests.command import (
    argv,
    dispatcher,
    edit,
    environment,
    new_campaign,
    on_terminal,
    read_list,
    set_relay,
    write_list,
)
from tests.smtp_server import Script, SmtpServer

ESCAPE = "\x1b"


def commands(group: Any = None, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every command of the live program, with the words that call it."""
    found = []
    for name, command in (group or typer.main.get_group(app)).commands.items():
        if hasattr(command, "commands"):
            found += commands(command, (*path, name))
        else:
            found.append(((*path, name), command))
    return found


COMMANDS = commands()
NAMES = [" ".join(words) for words, _ in COMMANDS]


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_every_command_of_the_plan_is_there() -> None:
    asked_for = {"init", "check", "preview", "send", "amend", "status", "log", "resolve", "sandbox", "adopt", "paper"}
    asked_for |= {"seal", "approve", "rehearse"}
    asked_for |= {"review", "preflight", "dossier", "verify", "purge"}
    asked_for |= {f"account {verb}" for verb in ("add", "remove", "test")}
    asked_for |= {f"dkim {verb}" for verb in ("check", "keygen", "record")}
    assert asked_for | {f"suppress {verb}" for verb in ("add", "remove", "list", "import")} == set(NAMES)


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=NAMES)
def test_help_has_an_example(words: tuple[str, ...], command: Any) -> None:
    """Each command says what it does, and shows itself in use with options that exist."""
    text = command.help
    examples = re.findall(r"(?m)^\s*Example: dispatcher (.*)$", text)
    assert examples, f"{words} has no Example line"
    known = options(command)
    for example in examples:
        assert example.startswith(" ".join(words))
        assert set(re.findall(r"(?<!\S)--[\w-]+", example)) <= known
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{words}: {parameter.name} has no help"


def test_every_command_prints_json() -> None:
    """All but the one that runs until somebody ends it."""
    without = {name for (_, command), name in zip(COMMANDS, NAMES, strict=True) if "--json" not in options(command)}
    assert without == {"sandbox"}


def test_help_shows_the_examples_on_lines_of_their_own(tmp_path: Path) -> None:
    done = dispatcher("send", "--help", folder=tmp_path)
    assert done.code == 0
    assert done.out.count("\n  Example: dispatcher send ") == 2


def test_version(tmp_path: Path) -> None:
    assert dispatcher("--version", folder=tmp_path).out == f"dispatcher {__version__}\n"


def test_start_loads_nothing_heavy() -> None:
    """`--help` answers at once: what a command needs is loaded when it runs."""
    heavy = {
        "aiosmtpd", "aiosmtplib", "asyncio", "charset_normalizer", "css_inline", "email_validator", "jinja2",
        "markdown_it", "pydantic", "python_calamine", "sqlite3", "uvloop",
    }  # fmt: skip
    code = "import sys, dispatcher.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()


def test_reading_the_ledger_loads_no_templates() -> None:
    heavy = {"aiosmtpd", "aiosmtplib", "charset_normalizer", "css_inline", "email_validator", "jinja2", "markdown_it",
             "python_calamine"}  # fmt: skip
    code = "import sys, dispatcher.cli.app, dispatcher.desk.reading; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()


# Exit codes, and what an error looks like.


def failures(tmp_path: Path) -> dict[str, tuple[int, list[str]]]:
    """A command line for each way to fail, with its exit code."""
    return {
        "no such command": (2, ["chek"]),
        "no such option": (2, ["check", "--jsn"]),
        "no such folder": (2, ["check", "-C", "nowhere"]),
        "a wrong number": (2, ["send", "--confirm", "many"]),
        "fresh without sandbox": (2, ["send", "--fresh"]),
        "test with a count": (2, ["send", "--test-to", "me@example.org", "--confirm", "6"]),
        "no such column": (2, ["send", "--only", "nothing == 'fr'"]),
        "not an expression": (2, ["send", "--only", "language = 'fr'"]),
        "no ledger yet": (4, ["status"]),
        "no ledger yet, log": (4, ["log"]),
        "no ledger yet, csv": (4, ["log", "--format", "csv"]),
        "no ledger yet, resolve": (4, ["resolve", "FRA", "--as", "failed", "--why", "x"]),
        "no ledger yet, amend": (4, ["amend"]),
        "no reason": (2, ["suppress", "add", "a@b.example", "--why", " "]),
        "not an address": (2, ["suppress", "add", "nobody", "--why", "x"]),
        "two domains": (2, ["suppress", "add", "@a.example, b@c.example", "--why", "x"]),
        "not suppressed": (2, ["suppress", "remove", "a@b.example", "--why", "x"]),
        "no such list": (2, ["suppress", "import", "nothing.csv", "--why", "x"]),
    }


@pytest.mark.parametrize("name", failures(Path()))
def test_failure(name: str, tmp_path: Path) -> None:
    """The documented code, words on stderr with what to do, no traceback; the same as JSON on stdout with --json."""
    code, words = failures(tmp_path)[name]
    folder = new_campaign(tmp_path, ["FRA"])
    done = dispatcher(*words, folder=folder)
    assert done.code == code, done
    assert done.out == ""
    assert done.err.strip()
    assert "Traceback" not in done.err
    also = dispatcher(*words, "--json", folder=folder)
    assert also.code == code, also
    assert also.err == ""
    assert also.json["exit_code"] == code
    assert also.json["problems"][0]["what"]
    assert also.json["error"]


def test_outside_a_campaign_folder_nothing_is_made(tmp_path: Path) -> None:
    """A suppression beside no campaign would hold nobody back: refused, and no ledger appears."""
    for words in (["suppress", "add", "a@b.example", "--why", "x"], ["suppress", "list"], ["status"], ["check"]):
        done = dispatcher(*words, folder=tmp_path)
        assert done.code == 2
        assert "dispatcher init DIR" in done.err
    assert list(tmp_path.iterdir()) == []


def test_relay_unavailable_is_4(tmp_path: Path) -> None:
    done = dispatcher("send", "--confirm", "1", folder=new_campaign(tmp_path, ["FRA"]))
    assert done.code == 4
    assert "Check host (127.0.0.1) and port (1) under [relay] in campaign.toml" in done.err


def test_another_run_is_5(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path, ["FRA"])
    with Desk(folder, sandbox=True).ledger():
        done = dispatcher("send", "--sandbox", folder=folder)
        assert done.code == 5
        assert "another dispatcher is at work" in done.err
        assert dispatcher("send", "--sandbox", "--fresh", folder=folder).code == 5
        assert (folder / ".dispatcher" / "sandbox" / "ledger.sqlite").exists()
        assert dispatcher("status", "--sandbox", folder=folder).code == 0


def test_the_system_refuses_is_no_traceback(tmp_path: Path) -> None:
    """A file where the ledger's folder must be: said with its name."""
    folder = new_campaign(tmp_path, ["FRA"])
    (folder / ".dispatcher").write_text("in the way")
    done = dispatcher("send", "--sandbox", folder=folder)
    assert done.code == 4
    assert ".dispatcher" in done.err
    assert "Traceback" not in done.err


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    folder = new_campaign(tmp_path, ["FRA"])
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            argv("send"), cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 4
    assert done.stderr.decode().startswith("dispatcher: the output could not be written: ")
    assert done.stderr.count(b"\n") == 1


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path)
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    for words in (("log",), ("log", "--format", "csv"), ("log", "--json"), ("status",)):
        process = subprocess.Popen(
            argv(*words, "--sandbox"), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        with process.stderr:
            assert process.stderr.read() == b""
        process.wait()


def test_without_stdin_and_stdout(tmp_path: Path) -> None:
    """A scheduler may close them: the dry run stays one."""
    folder = new_campaign(tmp_path, ["FRA"])
    line = " ".join(["exec", *argv("send"), "<&-", ">&-"])
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment(), stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done
    assert done.stderr == b""
    assert not (folder / ".dispatcher").exists()


# What reaches a terminal.


def test_colours_on_a_terminal_alone(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path, ["FRA"])
    plain = dispatcher("check", folder=folder)
    assert ESCAPE not in plain.all
    _, shown = on_terminal("check", folder=folder)
    assert f"{ESCAPE}[32mNothing is wrong." in shown
    for off in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        _, shown = on_terminal("check", folder=folder, env=off)
        assert ESCAPE not in shown


def printable_only(shown: str) -> None:
    odd = sorted({c for c in shown if not c.isprintable() and c not in "\n\r\u00a0\u202f"})
    assert odd == [], [f"U+{ord(c):04X}" for c in odd]


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u2028end"


def test_a_hostile_reply_reaches_no_terminal(tmp_path: Path) -> None:
    """ANSI escapes and C1 controls in a 550 reply are shown as codes, in every format."""
    folder = new_campaign(tmp_path, ["FRA"])
    reply = b"550 5.1.1 " + "\x1b]0;owned\x07\x1b[2J\u009b31m\u202eevil".encode() + b"\r\n"
    with SmtpServer(Script(on={"RCPT": reply})) as server:
        set_relay(folder, f'host = "127.0.0.1"\nport = {server.port}\nsecurity = "none"')
        code, shown = on_terminal("send", "--confirm", "1", folder=folder, env={"NO_COLOR": "1"})
        assert code == 2, "found beforehand"
        printable_only(shown)
        again = ("send", "--confirm", "1", "--skip-preflight")
        code, shown = on_terminal(*again, folder=folder, env={"NO_COLOR": "1"})
    assert code == 3
    printable_only(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))  # the progress bar moves the cursor
    assert "owned\x07" not in shown
    assert "]0;owned" not in shown.replace("\\x1b]0;owned", "")
    for words in (("log",), ("log", "FRA"), ("log", "--format", "csv"), ("log", "--json"), ("status",),
                  ("log", "--format", "jsonl"), ("suppress", "list"), ("log", "FRA", "--json")):  # fmt: skip
        _, shown = on_terminal(*words, folder=folder, env={"NO_COLOR": "1"})
        printable_only(shown)
    assert "owned" in dispatcher("log", "FRA", folder=folder).out
    story = dispatcher("log", "FRA", "--json", folder=folder)
    assert "\x1b]0;owned\x07" in story.json["attempts"][0]["rcpts"][0]["reply"], "JSON keeps it verbatim, escaped"


def test_a_hostile_cell_reaches_no_terminal(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path, ["FRA", "GBR", "fidh"])
    columns, rows = read_list(folder, "un_missions.csv")
    rows[0]["group"] = "line one\n204 letters: 204 accepted\u202e"
    rows[0]["key"] = "K\u2066\u00ad"
    rows[1]["name"] = HOSTILE
    rows[1]["key"] = HOSTILE
    write_list(folder, "un_missions.csv", columns, rows)
    for words in (("check",), ("check", "--json"), ("send",), ("send", "--sandbox"), ("preview",),
                  ("log", "--sandbox"), ("status", "--sandbox"), ("send", "--only", HOSTILE),
                  ("log", HOSTILE, "--sandbox"), ("suppress", "add", HOSTILE, "--why", HOSTILE),
                  ("suppress", "add", "a@b.example", "--why", HOSTILE), ("suppress", "list")):  # fmt: skip
        _, shown = on_terminal(*words, folder=folder, env={"NO_COLOR": "1"})
        printable_only(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert "\n204 letters: 204 accepted" not in dispatcher("check", folder=folder).out, (
        "a cell passes for a line of ours"
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
def test_any_console_encoding(encoding: str, tmp_path: Path) -> None:
    """A console that lacks a letter gets its code; nothing breaks off, and JSON and CSV keep every letter."""
    folder = new_campaign(tmp_path, ["FRA"])
    columns, rows = read_list(folder, "un_missions.csv")
    rows[0]["name"] = "ខ្មែរ – Ελλάς 😀"
    write_list(folder, "un_missions.csv", columns, rows)
    env = environment(PYTHONUTF8="0", PYTHONIOENCODING=encoding)

    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(argv(*words), cwd=folder, env=env, capture_output=True, check=False)

    for words in (("check",), ("send",), ("send", "--sandbox"), ("log", "--sandbox"), ("status", "--sandbox"),
                  ("log", "FRA", "--sandbox"), ("check", "--help")):  # fmt: skip
        done = run(*words)
        assert done.returncode == 0, done
        assert b"Traceback" not in done.stderr
    edit(folder / "campaign.toml", "member_on_2009_10_01", "nothing")
    assert b"problem:" in run("check").stderr
    assert json.loads(run("log", "--sandbox", "--json").stdout.decode(encoding))["rows"][0]["name"] == rows[0]["name"]
    assert rows[0]["name"] in run("log", "--sandbox", "--format", "csv").stdout.decode("utf-8")
