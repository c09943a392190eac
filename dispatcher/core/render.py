"""A frozen template and one recipient → a Rendering: subject, text and HTML from one source, strict about every field.

A letter file is TOML front matter between two lines `+++` (subject, names of the attachments), then Markdown with
Jinja. Everything a rendering depends on, besides the recipient, is in `TemplateSource`, which is what the ledger seals:
the same source and the same recipient give the same bytes for ever. Raises TemplateError naming file, line, field and
recipient.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from types import CodeType
from typing import Any, Final

from jinja2 import Template

from dispatcher.core.errors import Place, Problem, TemplateError
from dispatcher.core.forms import Forms, parse_forms
from dispatcher.core.jinja import HTML, TEXT, Environment, Failure, in_words, value
from dispatcher.core.markdown import Restored, Tags, to_html, to_text
from dispatcher.core.model import Recipient, Rendering
from dispatcher.core.text import finish

RESERVED: Final = frozenset(
    {"campaign", "sender", "attachments", "today", "long_date", "call", "close", "direction", "subject", "body"}
)
"""Words a template has from us. `salutation`, `call` and `close` may also be columns, which then win."""
OVERRIDES: Final = ("salutation", "call", "close")
_RIGHT_TO_LEFT: Final = frozenset({"ar", "fa", "he", "ur"})


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A template file: where it was, and its text."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """Everything that all letters of a campaign are made from. Letters, forms and sender by language code."""

    letters: Mapping[str, SourceFile]
    forms: Mapping[str, SourceFile]
    layout: SourceFile
    language: str
    date: str
    title: str
    senders: Mapping[str, Mapping[str, str]]

    def as_data(self) -> dict[str, Any]:
        """Plain data for the ledger."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "TemplateSource":
        """The inverse of `as_data`."""
        files = {name: {k: SourceFile(**v) for k, v in data[name].items()} for name in ("letters", "forms")}
        return cls(**{**data, **files, "layout": SourceFile(**data["layout"])})


@dataclass(frozen=True, slots=True)
class Front:
    """A letter's front matter: the subject's template, and the attachments' names as recipients see them."""

    subject: str
    subject_line: int
    names: Mapping[str, str]
    body: str
    body_line: int


def parse_front(source: SourceFile) -> Front:
    """Split a letter file. Raises TemplateError with file and line."""
    lines = source.text.split("\n")
    ends = [n for n, line in enumerate(lines) if line.rstrip() == "+++"]
    if len(ends) < 2 or ends[0] != 0:
        todo = 'begin the file with a line +++, then subject = "…", then a line +++, then the letter'
        raise TemplateError(Problem("the letter has no front matter", Place(source.file, 1), todo))
    try:
        front = tomllib.loads("\n".join(["", *lines[1 : ends[1]]]))
    except tomllib.TOMLDecodeError as error:
        raise TemplateError(Problem(f"front matter: {error}", Place(source.file, 1), "mend the TOML")) from None
    unknown = sorted(set(front) - {"subject", "attachments"})
    subject, names = front.get("subject"), front.get("attachments", {})
    if unknown or not isinstance(subject, str) or not subject.strip() or not isinstance(names, dict):
        what = f"unknown key '{unknown[0]}' in the front matter" if unknown else "the front matter has no subject"
        raise TemplateError(Problem(what, Place(source.file, 1), 'it takes subject = "…" and a table [attachments]'))
    line = next(n for n, text in enumerate(lines, 1) if text.lstrip().startswith("subject"))
    texts = {str(k): str(v) for k, v in names.items()}
    return Front(subject, line, texts, "\n".join(lines[ends[1] + 1 :]), ends[1] + 2)


class _Part:
    """One compiled template: the subject, the text or the HTML of a letter."""

    def __init__(self, environment: Environment, restored: Restored, name: str) -> None:
        self.restored = restored
        self.name = f"{restored.file}#{name}"
        try:
            code: CodeType = environment.compile(restored.text, self.name, self.name)
        except Failure as error:
            line = getattr(error, "lineno", None)
            raise TemplateError(Problem(str(error), restored.place(line), "mend the template at that line")) from None
        self._template = Template.from_code(environment, code, environment.globals)

    def fill(self, context: Mapping[str, Any], recipient: str) -> str:
        try:
            return self._template.render(context)
        except Failure as error:
            what, todo = in_words(error, context)
            where = self.restored.place(self._line(error), recipient)
            raise TemplateError(Problem(what, where, todo)) from None

    def _line(self, error: BaseException) -> int | None:
        line, trace = None, error.__traceback__
        while trace:
            if trace.tb_frame.f_code.co_filename == self.name:
                line = trace.tb_lineno
            trace = trace.tb_next
        return line


class LetterTemplate:
    """A letter in one language, compiled: Markdown and CSS are done, only values are missing."""

    def __init__(self, source: SourceFile, layout: SourceFile) -> None:
        front = parse_front(source)
        self.names = front.names
        tags = Tags()
        body = tags.protect(front.body, source.file, front.body_line)
        text = to_text(body, tags)
        subject = tags.protect(front.subject, source.file, front.subject_line)
        page = to_html(body, tags, tags.protect(layout.text, layout.file, 1))
        self.subject = _Part(TEXT, tags.restore(subject, source.file), "subject")
        self.text = _Part(TEXT, tags.restore(text, source.file), "text")
        self.html = _Part(HTML, tags.restore(page, source.file), "html")

    def fill(self, context: Mapping[str, Any], language: str, recipient: str) -> Rendering:
        subject = " ".join(self.subject.fill(context, recipient).split(" ")).strip()
        text = finish(self.text.fill(context, recipient))
        html = self.html.fill({**context, "subject": subject}, recipient)
        return Rendering(subject, text, html, language)


class Renderer:
    """All of a campaign's letters, compiled. `render` is a pure function of the recipient."""

    def __init__(self, source: TemplateSource) -> None:
        self.source = source
        self._date = date.fromisoformat(source.date)
        self._letters = {code: LetterTemplate(file, source.layout) for code, file in source.letters.items()}
        self._forms = {code: parse_forms(file.text, file.file) for code, file in source.forms.items()}
        self._common = {code: self._shared_context(code) for code in self._letters}

    def language(self, recipient: Recipient) -> str:
        """The language of the recipient's letter: the one asked for if it is there, else the campaign's own."""
        return recipient.language if recipient.language in self._letters else self.source.language

    def shown_name(self, language: str, file_name: str) -> str:
        """What the recipient sees as the name of an attachment."""
        return self._letters[language].names.get(file_name, file_name)

    def render(self, recipient: Recipient, attachments: tuple[str, ...]) -> Rendering:
        """One letter. `attachments` are the names the recipient sees. Raises TemplateError."""
        language = self.language(recipient)
        fields = {name: value(text) for name, text in recipient.fields.items()}
        forms = self._forms[language]
        kind = fields.get("kind", "")
        rank = fields.get("rank") or (kind if kind in forms.ranks else "")
        try:
            address = forms.address(rank, fields.get("gender", ""), fields)
        except TemplateError as error:
            places = [
                Problem(p.what, Place(p.where.file, p.where.line, p.where.column, recipient.key), p.todo)
                for p in error.problems
            ]
            raise TemplateError(*places) from None
        context = {
            **fields,
            **self._common[language],
            "key": recipient.key,
            "salutation": address.salutation,
            "call": address.call,
            "close": address.close,
            "attachments": list(attachments),
        }
        return self._letters[language].fill(context, language, recipient.key)

    def _shared_context(self, language: str) -> dict[str, Any]:
        forms = self._forms[language]
        return {
            "campaign": {"title": self.source.title, "date": self.source.date},
            "sender": dict(self.source.senders[language]),
            "language": language,
            "direction": "rtl" if language in _RIGHT_TO_LEFT else "ltr",
            "today": forms.long_date(self._date),
            "long_date": partial(_long_date, forms),
        }


def _long_date(forms: Forms, iso: str) -> str:
    return forms.long_date(date.fromisoformat(str(iso)))
