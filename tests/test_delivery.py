"""docs/delivery.md against the code: every line there is one the program can say, and every test exists."""

import ast
import re
from functools import cache

import pytest

from dispatcher.core.toml import did_you_mean
from tests.command import REPOSITORY

PAGE = (REPOSITORY / "docs" / "delivery.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in re.findall(r"(?m)^\| \d+ \|.*\|$", PAGE)]
HOLE = "\0"


@cache
def sayings() -> tuple[str, ...]:
    """Every text in the program, with a hole where a value is put in."""
    found = []
    for path in (REPOSITORY / "dispatcher").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(_piece(value) for value in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def _piece(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else HOLE


def can_be_said(line: str) -> bool:
    """Whether a text of the program holds it, with a hole wherever "…" stands."""
    hole = f"[^{HOLE}]*?{HOLE}.*?"
    pattern = re.compile(hole.join(re.escape(piece) for piece in line.split("…")), re.DOTALL)
    return any(pattern.search(saying) for saying in sayings())


@cache
def functions_of(name: str) -> frozenset[str]:
    tree = ast.parse((REPOSITORY / "tests" / name).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_there_are_thirty_and_more() -> None:
    assert [row[0] for row in ROWS] == [str(n + 1) for n in range(len(ROWS))]
    assert len(ROWS) >= 30
    assert all(len(row) == 5 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[1] for row in ROWS])
def test_the_line_is_one_the_program_says(row: list[str]) -> None:
    line = re.fullmatch(r"`([^`]+)`", row[3])
    assert line, row[3]
    assert can_be_said(line[1]), f"nothing says it; {did_you_mean(line[1], sayings())}"


@pytest.mark.parametrize("row", ROWS, ids=[row[1] for row in ROWS])
def test_the_test_exists(row: list[str]) -> None:
    found = re.fullmatch(r"`(test_\w+\.py)::(test_\w+)`", row[4])
    assert found, row[4]
    assert found[2] in functions_of(found[1])


def texts_of(file: str, test: str) -> set[str]:
    """Every text in a test, and in what the module defines and the test names: the rows of its parameters, say."""
    body = ast.parse((REPOSITORY / "tests" / file).read_text(encoding="utf-8")).body
    defined = {name: node for node in body for name in _names(node)}
    found: set[str] = set()
    for node in ast.walk(defined[test]):
        at = defined.get(node.id) if isinstance(node, ast.Name) else None
        for inner in ast.walk(at) if isinstance(at, ast.Assign | ast.AnnAssign) else [node]:
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                found.add(inner.value.replace("\\", ""))
    return found


def _names(node: ast.stmt) -> list[str]:
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [getattr(node, "name", ""), *(target.id for target in targets if isinstance(target, ast.Name))]


def holds(line: str, texts: set[str]) -> bool:
    """Whether a test names the line: enough of a piece of it, or more than that."""
    pieces = [piece.strip(" :;,.()") for piece in line.split("…")]
    return any(
        (len(piece) >= _ENOUGH and piece in text) or (len(text.strip()) >= _ENOUGH and text.strip() in piece)
        for piece in pieces
        for text in texts
    )


_ENOUGH = 8


@pytest.mark.parametrize("row", ROWS, ids=[row[1] for row in ROWS])
def test_the_test_looks_for_the_line(row: list[str]) -> None:
    """Else it would pass without anybody saying it."""
    assert holds(row[3].strip("`"), texts_of(*row[4].strip("`").split("::")))


@pytest.mark.parametrize("row", ROWS, ids=[row[1] for row in ROWS])
def test_it_is_said_where_people_look(row: list[str]) -> None:
    places = re.findall(r"`([^`]+)`", row[2])
    assert places
    assert {place.split()[0] for place in places} <= {"preflight", "check", "rehearse", "send", "status", "log"}


@pytest.mark.parametrize("line", ["publishes no SPF records", "… shows … SPF record", "certificate … ends on Monday"])
def test_a_line_that_nobody_says_is_noticed(line: str) -> None:
    assert not can_be_said(line)
