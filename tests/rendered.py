"""Letters rendered from a template in a line or two, without a folder: for tests of what templates make of values."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from dispatcher.core.errors import Problem, TemplateError
from dispatcher.core.lint import Remark
from dispatcher.core.model import Recipient, Rendering
from dispatcher.core.render import Renderer, SourceFile, TemplateSource
from tests.campaigns import FORMS, LAYOUT

FRONT = '+++\nsubject = "{subject}"\n+++\n'
SENDER = {
    "organisation": "Orchard Society",
    "name": "Orchard Society",
    "signatory": "Ada Pomme",
    "function": "Secretary",
    "place": "",
    "postal_address": "",
    "unsubscribe": "answers@orchard.example.org",
}
BODY_LINE = 4
"""The line of the file at which a letter's text begins."""


def source(body: str, *, subject: str = "A word", layout: str = LAYOUT, language: str = "en") -> TemplateSource:
    return TemplateSource(
        letters={language: SourceFile("letter.md", FRONT.format(subject=subject) + body)},
        forms={language: SourceFile("forms.toml", FORMS)},
        layout=SourceFile("layout.html", layout),
        language=language,
        date="2026-03-01",
        title="The harvest report",
        senders={language: SENDER},
    )


def recipient(**fields: str) -> Recipient:
    return Recipient("NAM", (), (), "en", fields)


def render(body: str, *, subject: str = "A word", layout: str = LAYOUT, **fields: str) -> Rendering:
    return Renderer(source(body, subject=subject, layout=layout)).render(recipient(**fields), ("report.pdf",))


def text(body: str, **fields: str) -> str:
    return own_text(render(body, **fields))


def own_text(rendering: Rendering) -> str:
    """The letter's own text, without what the house puts round it."""
    _, subject, rest = rendering.text.partition(f"\n\n{rendering.subject}\n")
    own, signature, _ = rest.rpartition("\nAda Pomme\nSecretary\n")
    assert subject
    assert signature
    return own.strip("\n") + "\n"


def body_of(rendering: Rendering) -> str:
    """The letter in its HTML, without blank lines."""
    inside = rendering.html.partition("<body>")[2].partition("</body>")[0]
    return re.sub(r"\n+", "\n", inside).strip()


def html(body: str, **fields: str) -> str:
    """What the default layout's inlined styles make of a letter, without these styles."""
    return body_of(render(body, layout='<html lang="{{ language }}" dir="{{ direction }}"><body>{{ body }}', **fields))


def problem(body: str, *, subject: str = "A word", layout: str = LAYOUT, **fields: str) -> Problem:
    with pytest.raises(TemplateError) as caught:
        render(body, subject=subject, layout=layout, **fields)
    (only,) = caught.value.problems
    assert only.what
    assert only.todo
    return only


def lint_of(text: str, **fields: str) -> Sequence[Remark]:
    """What there is to remark on a letter with this text, whatever template it may come from."""
    renderer = Renderer(source("x"))
    whom = recipient(**fields)
    lint = renderer.lint()
    proof = replace(renderer.proof(whom, ()), lines=text.splitlines())
    lint.read(whom, proof)
    return lint.remarks()
