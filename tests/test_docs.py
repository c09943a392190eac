"""What the README says of the command line, and what the command line is, are the same."""

import re
import tomllib
from typing import Any

import pytest
import typer.main

from dispatcher.cli.app import app
from dispatcher.core.campaign import Pace
from dispatcher.core.errors import DispatcherError
from dispatcher.relays.profiles import profiles
from tests.command import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
GROUP: Any = typer.main.get_group(app)
COMMANDS = {name: command for name, command in GROUP.commands.items() if not hasattr(command, "commands")}
SUPPRESS = dict(GROUP.commands["suppress"].commands)


def row_of(name: str) -> str:
    """A command's row in the README's table."""
    found = re.search(rf"(?m)^\| `{name}\b.*$", README)
    assert found, f"README has no row for `{name}`"
    return found[0]


@pytest.mark.parametrize("name", [*COMMANDS, "suppress"])
def test_every_command_has_its_row(name: str) -> None:
    assert row_of(name).count("|") == 4


@pytest.mark.parametrize("name", SUPPRESS)
def test_every_verb_of_suppress_is_named(name: str) -> None:
    assert f"`suppress {name}`" in row_of("suppress") or f"`{name}`" in row_of("suppress")


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


@pytest.mark.parametrize("name", [*COMMANDS, *(f"suppress {verb}" for verb in SUPPRESS)])
def test_every_option_is_named(name: str) -> None:
    """Each option in its command's row, or in the text for what all commands share."""
    command = SUPPRESS[name.rpartition(" ")[2]] if " " in name else COMMANDS[name]
    missing = sorted(
        option
        for option in options(command) - {"--help"}
        if f"`{option}`" not in row_of(name.partition(" ")[0]) and option not in shared()
    )
    assert not missing, f"README's row for {name} lacks {missing}"


def shared() -> set[str]:
    """Options that the text beside the table explains for all commands."""
    text = re.split(r"## The commands|\| Command", README)[1]
    return set(re.findall(r"--[a-z-]+", text))


def test_no_option_is_named_that_does_not_exist() -> None:
    known = set().union(*map(options, [*COMMANDS.values(), *SUPPRESS.values()]), {"--version", "--help"})
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README))
    assert named - known == set()


def test_commands_in_the_text_exist() -> None:
    for first, second in re.findall(r"(?m)(?:^\s+(?:\$ )?|`)dispatcher ([a-z]+)(?: ([a-z]+))?", README):
        assert first in GROUP.commands, first
        if first == "suppress":
            assert second in SUPPRESS


def test_every_exit_code_is_explained() -> None:
    codes = {DispatcherError.exit_code, 0, 3, 130}
    todo = [DispatcherError]
    while todo:
        kind = todo.pop()
        codes.add(kind.exit_code)
        todo += kind.__subclasses__()
    line = README.partition("Exit codes")[2].partition("\n\n")[0]
    assert {int(code) for code in re.findall(r"\b(\d+) [a-z]", line)} == codes


def test_the_usual_mistakes_are_in_the_troubleshooting_table() -> None:
    """Wrong column name, missing attachment, wrong password: each with the words the program uses."""
    table = README.partition("## When something is wrong")[2].partition("\n## ")[0]
    for words in ("there is no column 'email'", "does not exist", "AUTH: 535", "DISPATCHER_PASSWORD is not set",
                  "the folder is not what was sealed"):  # fmt: skip
        assert words in table, words


def test_every_mail_service_has_its_row_with_its_limits() -> None:
    table = README.partition("## Mail services")[2].partition("\n## ")[0]
    rows = {found[1]: found[0] for found in re.finditer(r"(?m)^\| `([a-z0-9-]+)` \| (?!Service).*$", table)}
    assert list(rows) == list(profiles())
    for name, profile in profiles().items():
        said = [cell.strip() for cell in rows[name].strip("|").split("|")]
        limits = [
            f"{profile.connections:,} connections" if profile.connections else "",
            str(profile.rate or ""),
            f"{profile.quota:,} a day" if profile.quota else "",
            f"{profile.size / 1e6:g} MB a letter" if profile.size else "",
            f"{profile.letters_per_connection:,} letters a connection" if profile.letters_per_connection else "",
        ]
        assert said == [f"`{name}`", profile.title, ", ".join(filter(None, limits)), profile.note]


def test_the_example_of_a_pace_is_one() -> None:
    text = re.search(r"(?m)^    \[pace\]\n(?:(?:    .*)?\n)+", README)
    assert text
    data = tomllib.loads(re.sub(r"(?m)^    ", "", text[0]))
    pace = Pace.model_validate(data["pace"])
    assert (pace.connections, pace.quota, len(pace.domains)) == (2, 300, 2)


def test_pictures_in_the_readme_are_there() -> None:
    """Each as wide as its name says, light, dark and on paper, and small enough for a page."""
    pictures = set(re.findall(r'(?:src|srcset|href)="([^"]+\.png)"', README))
    assert len(pictures) == 11
    for name in pictures:
        octets = (REPOSITORY / name).read_bytes()
        assert octets.startswith(b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(octets[16:20], "big") == int(name.split("-")[-2])
        assert len(octets) < 100_000
