"""The page's texts: each that is shown is there in French and Spanish, with its values, and no other one is."""

import ast
import re
import tomllib
from collections import Counter
from html import unescape
from pathlib import Path

import pytest
from jinja2.ext import extract_from_ast

import dispatcher.web.review
from dispatcher.web.review.site import _templates
from dispatcher.web.review.words import LANGUAGES, Words, negotiated, texts

PACKAGE = Path(dispatcher.web.review.__file__).parent
OTHERS = [language for language in LANGUAGES if language != "en"]


def _of_templates() -> set[str]:
    """What stands in `_("…")` and `many("…", "…", n)`."""
    environment, found = _templates(), set()
    for path in sorted((PACKAGE / "templates").glob("*.html")):
        tree = environment.parse(path.read_text(encoding="utf-8"))
        for _, _, said in extract_from_ast(tree, ("_", "many"), babel_style=False):
            found |= {text for text in (said if isinstance(said, tuple) else (said,)) if text is not None}
    return found


def _of_modules() -> set[str]:
    """What stands in `mark("…")` and `words("…")`, `….words(request)("…")` and `….many("…", "…", n)`."""
    found: set[str] = set()
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _says(node.func):
                found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def _says(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in ("mark", "words")
    if isinstance(function, ast.Attribute):
        return function.attr in ("words", "many")
    return isinstance(function, ast.Call) and isinstance(function.func, ast.Attribute) and function.func.attr == "words"


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_there_in_every_language_and_no_other(language: str) -> None:
    shown, there = _of_templates() | _of_modules(), set(texts(language))
    assert shown - there == set()
    assert there - shown == set()


@pytest.mark.parametrize("language", OTHERS)
def test_no_text_stands_twice_or_is_empty_or_loses_a_value(language: str) -> None:
    tables = tomllib.loads((PACKAGE / "words" / f"{language}.toml").read_text(encoding="utf-8"))
    often = Counter(text for table in tables.values() for text in table)
    assert [text for text, times in often.items() if times > 1] == []
    for text, said in texts(language).items():
        assert said.strip()
        assert set(re.findall(r"\{\w+\}", said)) == set(re.findall(r"\{\w+\}", text)), text


def test_no_template_says_anything_in_english_alone() -> None:
    """Text between tags is a value, a sign or a text with a translation."""
    for path in sorted((PACKAGE / "templates").glob("*.html")):
        bare = unescape(
            re.sub(r"(?s)\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<!doctype html>|<[^>]*>", "\n", path.read_text("utf-8"))
        )
        assert [line for line in bare.split("\n") if re.search(r"[A-Za-z]{2,}", line) and "UTC" not in line] == [], path


def test_numbers_and_plurals() -> None:
    assert Words("en").many("{n} letter", "{n} letters", 1) == "1 letter"
    assert Words("en").many("{n} letter", "{n} letters", 1234) == "1,234 letters"
    assert Words("fr").number(1234) == "1\u202f234"


@pytest.mark.parametrize(
    ("asked", "given"),
    [("", "en"), ("fr-CH, fr;q=0.9, en;q=0.8", "fr"), ("de, es;q=0.5", "es"), ("en;q=0.2, es;q=0.9", "es"),
     ("fr;q=0", "en"), ("km", "en"), ("fr;q=x,es", "es")],
)  # fmt: skip
def test_the_browsers_language(asked: str, given: str) -> None:
    assert negotiated(asked) == given
