"""What README and guide say of the command line, and what the command line is, are the same."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dispatcher.cli.app import app
from dispatcher.core.campaign import Pace
from dispatcher.core.errors import DispatcherError
from dispatcher.relays.profiles import profiles
from tests.command import REPOSITORY, dispatcher, new_campaign, read_list, write_list

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
GUIDE = (REPOSITORY / "docs" / "guide.md").read_text(encoding="utf-8")
BOTH = f"{README}\n{GUIDE}"
GROUP: Any = typer.main.get_group(app)
COMMANDS = {name: command for name, command in GROUP.commands.items() if not hasattr(command, "commands")}
VERBS = {
    f"{name} {verb}": command
    for name, group in GROUP.commands.items()
    for verb, command in getattr(group, "commands", {}).items()
}
GROUPS = sorted({name.partition(" ")[0] for name in VERBS})


def row_of(name: str) -> str:
    """A command's row in the README's table."""
    found = re.search(rf"(?m)^\| `{name}\b.*$", README)
    assert found, f"README has no row for `{name}`"
    return found[0]


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_every_command_has_its_row(name: str) -> None:
    assert row_of(name).count("|") == 4


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_of_a_group_is_named(name: str) -> None:
    group, _, verb = name.partition(" ")
    assert f"`{name}`" in row_of(group) or f"`{verb}`" in row_of(group)


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


@pytest.mark.parametrize("name", [*COMMANDS, *VERBS])
def test_every_option_is_named(name: str) -> None:
    """Each option in its command's row, or in the text for what all commands share."""
    command = {**COMMANDS, **VERBS}[name]
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
    known = set().union(*map(options, [*COMMANDS.values(), *VERBS.values()]), {"--version", "--help"})
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", BOTH))
    assert named - known == set()


def test_commands_in_the_text_exist() -> None:
    for first, second in re.findall(r"(?m)(?:^\s+(?:\$ )?|`)dispatcher ([a-z]+)(?: ([a-z]+))?", BOTH):
        assert first in GROUP.commands, first
        if first in GROUPS:
            assert f"{first} {second}" in VERBS


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
    assert "](docs/errors.md)" in README.partition("## When something is wrong")[2].partition("\n## ")[0]
    table = (REPOSITORY / "docs/errors.md").read_text(encoding="utf-8")
    for words in ("there is no column 'email'", "does not exist", "AUTH: 535", "DISPATCHER_PASSWORD is not set",
                  "the folder is not what was sealed"):  # fmt: skip
        assert words in table, words


def test_every_mail_service_has_its_row_with_its_limits() -> None:
    table = GUIDE.partition("## Mail services")[2].partition("\n## ")[0]
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
    text = re.search(r"(?m)^    \[pace\]\n(?:(?:    .*)?\n)+", GUIDE)
    assert text
    data = tomllib.loads(re.sub(r"(?m)^    ", "", text[0]))
    pace = Pace.model_validate(data["pace"])
    assert (pace.connections, pace.quota, len(pace.domains)) == (2, 300, 2)


def test_pictures_are_there() -> None:
    """Each as wide as its name says, light, dark and on paper, and small enough for a page."""
    pattern = r'(?:src|srcset|href)="([^"]+\.png)"'
    pictures = {*re.findall(pattern, README), *(f"docs/{name}" for name in re.findall(pattern, GUIDE))}
    assert len(pictures) == 21
    for name in pictures:
        octets = (REPOSITORY / name).read_bytes()
        assert octets.startswith(b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(octets[16:20], "big") == int(name.split("-")[-2])
        assert len(octets) < (150_000 if "review" in name else 100_000)


# What stands there as printed. Only these differ from run to run: moments, ports, the order in which a letter
# was captured, sizes and digests of files that depend on which rows are printed.
VARIES = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "MOMENT"),
    (r"done \w+.* \d\d:\d\d\.", "done THEN."),
    (r"127\.0\.0\.1:\d+", "RELAY"),
    (r"(captured as|queue-id:) \d{5}", r"\1 NUMBER"),
    (r"[\d,]+ octets, SHA-256 [0-9a-f]+…?", "SIZE AND DIGEST"),
    (r"\d+/s", "SPEED"),
    (r"\d+ s left", "LEFT"),
)


def same_every_time(text: str) -> list[str]:
    for pattern, word in VARIES:
        text = re.sub(pattern, word, text)
    return text.splitlines()


def shown(command: str) -> list[str]:
    """What stands below a command, without its indent."""
    found = re.search(rf"(?m)^    \$ {re.escape(command)}\n((?:    .+\n)+)", BOTH)
    assert found, command
    return same_every_time(re.sub(r"(?m)^    ", "", found[1]))


def assert_printed(lines: list[str], printed: str) -> None:
    """All that was printed stands there, line by line; where "…" stands, some lines are left out."""
    rest = same_every_time(printed)
    for number, line in enumerate(lines):
        if line.strip() == "…":
            continue
        if number and lines[number - 1].strip() == "…":
            assert line in rest, line
            del rest[: rest.index(line)]
        assert rest[:1] == [line]
        del rest[0]
    assert not rest or lines[-1].strip() == "…"


@pytest.fixture(scope="module")
def founding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The founding campaign in a folder of its own, as `make demo` leaves the repository's."""
    folder = tmp_path_factory.mktemp("readme") / "campaign"
    assert dispatcher("init", str(folder), folder=folder.parent).code == 0
    demo = dispatcher("send", "--sandbox", "--fresh", folder=folder)
    block = re.search(r"ends like this:\n\n((?:    .+\n)+)", README)
    assert block
    progress, *lines, _ = same_every_time(re.sub(r"(?m)^    ", "", block[1]))  # the last line is make's
    assert same_every_time(demo.err)[-1] == progress
    assert_printed(lines, demo.out)
    return folder


@pytest.mark.parametrize("command", ["dispatcher check", "dispatcher log FRA --sandbox", "dispatcher send"])
def test_commands_print_what_is_shown(command: str, founding: Path) -> None:
    done = dispatcher(*command.split()[1:], folder=founding)
    assert done.code == 0, done
    assert_printed(shown(command), done.out)


def test_a_rehearsal_prints_what_is_shown(founding: Path) -> None:
    done = dispatcher("rehearse", "--faults", "flaky", folder=founding)
    assert done.code == 3, done
    assert_printed(shown("dispatcher rehearse --faults flaky"), done.out)


def test_paper_prints_what_is_shown(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path / "campaign")
    columns, rows = read_list(folder, "un_missions.csv")
    for row in rows:
        row["channel"] = "paper" if row["key"] in ("GBR", "FRA") else ""
    write_list(folder, "un_missions.csv", [*columns, "channel"], rows)
    done = dispatcher("paper", "--envelopes", "dl", folder=folder)
    assert done.code == 0, done
    assert_printed(shown("dispatcher paper --envelopes dl"), done.out)


def test_what_another_mailer_left_is_said_as_the_guide_shows(tmp_path: Path) -> None:
    """The line that moves a folder of mailmerge's works as it stands."""
    (line,) = re.findall(r"(?m)^    dispatcher (init \S+ --from-mailmerge .*)$", GUIDE)
    template = "TO: {{email}}\nSUBJECT: Hello\nFROM: Ada <ada@orchard.example>\n\nHi, {{name}},\n\nsee you.\n"
    (tmp_path / "mailmerge_template.txt").write_text(template, encoding="utf-8")
    (tmp_path / "mailmerge_database.csv").write_text("email,name\nbob@press.example,Bob\n", encoding="utf-8")
    (tmp_path / "mailmerge_server.conf").write_text("[smtp_server]\nhost = 127.0.0.1\nport = 2525\n", encoding="utf-8")
    done = dispatcher(*line.split(), folder=tmp_path)
    assert done.code == 0, done
    assert dispatcher("check", folder=tmp_path / line.split()[1]).code == 0


def test_accounts_are_added_as_the_page_says() -> None:
    """Commands, options, profiles and anchors of docs/accounts.md are there; it says when it was written."""
    text = (REPOSITORY / "docs/accounts.md").read_text(encoding="utf-8")
    assert re.search(r"Written on \d+ \w+ 20\d\d", text)
    known = set().union(*map(options, [*COMMANDS.values(), *VERBS.values()]))
    for line in re.findall(r"(?m)(?:^ {4,}|`)(dispatcher [a-z][^`\n]*)", text):
        words = line.split()
        assert words[1] in {*COMMANDS, *GROUPS}
        assert words[1] not in GROUPS or " ".join(words[1:3]).strip("`,.)") in VERBS, line
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)) <= known, line
    assert set(re.findall(r'profile = "([^"]+)"', text)) <= set(profiles())
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"(?m)^##+ (.*)$", text)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
    said = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "dispatcher").rglob("*.py"))
    assert {"app-passwords"} < set(re.findall(r"docs/accounts\.md#([a-z0-9-]+)", said)) <= anchors  # in what we say


def test_links_from_page_to_page_lead_somewhere() -> None:
    """Files that are there, and headings in them."""
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            name, _, heading = link.partition("#")
            if ":" in name:
                continue
            file = (page.parent / name).resolve() if name else page
            assert file.exists(), f"{page.name}: {link}"
            if heading:
                titles = re.findall(r"(?m)^#+ (.+)$", file.read_text(encoding="utf-8"))
                anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
                assert heading in anchors, f"{page.name}: {link}"
