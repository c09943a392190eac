"""A frozen template and one recipient → a letter in its parts, and as mail shows it: subject, text and HTML.

A letter file is TOML front matter between two lines `+++` (subject, addressee, names of the attachments), then Markdown
with Jinja: what stands from salutation to close. What stands round it comes from the house: forms, labels, sender and
layout. Everything a rendering depends on, besides the recipient, is in `TemplateSource`, which is what the ledger
seals: the same source and the same recipient give the same bytes for ever. One source, strict about every field: raises
TemplateError naming file, line, field and recipient.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import cached_property, partial
from types import CodeType
from typing import Any, Final

from jinja2 import Template
from markupsafe import escape

from dispatcher.core.bounds import joined, words
from dispatcher.core.direction import direction
from dispatcher.core.errors import Place, Problem, TemplateError
from dispatcher.core.forms import OVERRIDES, Address, Forms, parse_forms
from dispatcher.core.headers import FORBIDDEN, character
from dispatcher.core.jinja import (
    HTML,
    LONGEST_WORD,
    TEXT,
    TYPOGRAPHIC_HTML,
    TYPOGRAPHIC_TEXT,
    Environment,
    Failure,
    as_lines,
    in_words,
    value,
)
from dispatcher.core.lint import Kind, Lint, Proof
from dispatcher.core.markdown import Source, twins
from dispatcher.core.model import LetterParts, Recipient, Rendering
from dispatcher.core.plain import COUNTER, ItemNumbers, LetterText
from dispatcher.core.tags import MARK, Restored, Tags
from dispatcher.core.text import curly, typeset
from dispatcher.core.toml import did_you_mean, error_line, key_lines, line_of

RESERVED: Final = words("campaign sender attachments today long_date direction subject body letter logo self loop") | {
    COUNTER
}
"""Words a template has from us or from Jinja, which no column may be called."""
_FRONT: Final = ("subject", "address", "attachments")
_TAG: Final = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A template file: where it was, and its text."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """Everything that all letters of a campaign are made from. Letters, forms and sender by language code.

    `logo` is where the layout finds the picture, a `cid:` URL, or '' without one; `page` is what letters on paper
    are set in, '' where there is none; `page_files` are the files it is set with, pictures and fonts: SHA-256 by path.
    """

    letters: Mapping[str, SourceFile]
    forms: Mapping[str, SourceFile]
    layout: SourceFile
    language: str
    date: str
    title: str
    senders: Mapping[str, Mapping[str, str]]
    logo: str = ""
    page: SourceFile = SourceFile("", "")
    page_files: Mapping[str, str] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Plain data for the ledger."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "TemplateSource":
        """The inverse of `as_data`."""
        files = {name: {k: SourceFile(**v) for k, v in data[name].items()} for name in ("letters", "forms")}
        return cls(**{**data, **files, "layout": SourceFile(**data["layout"]), "page": SourceFile(**data["page"])})


@dataclass(frozen=True, slots=True)
class Front:
    """A letter's front matter: templates of subject and addressee, and the names of attachments to show."""

    subject: str
    subject_line: int
    address: str
    address_line: int
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
    text = "\n".join(["", *lines[1 : ends[1]]])
    try:
        front = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = Place(source.file, error_line(str(error)) or 1)
        raise TemplateError(Problem(f"front matter: {error}", where, "mend the TOML at that line")) from None
    places = key_lines(text)

    def wrong(what: str, *path: str, hint: str = "") -> TemplateError:
        todo = f'{hint}It takes subject = "…" on one line, address = """…""", and a table [attachments] of names'
        return TemplateError(Problem(what, Place(source.file, line_of(places, path) or 1), todo))

    for what, path in _faults(front):
        raise wrong(what, *path, hint=did_you_mean(path[0], _FRONT) if path[0] not in _FRONT else "")
    address_line = places.get(("address",), 1)
    if lines[address_line - 1].rstrip().endswith(('"""', "'''")):
        address_line += 1  # TOML leaves out the line break behind the quotation marks
    body = "\n".join(lines[ends[1] + 1 :])
    subject, address, names = front["subject"], front.get("address", ""), front.get("attachments", {})
    return Front(subject, places["subject",], address, address_line, names, body, ends[1] + 2)


def _faults(front: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is wrong with a front matter, and at which key."""
    yield from ((f"unknown key '{key}' in the front matter", (key,)) for key in front if key not in _FRONT)
    subject, names = front.get("subject"), front.get("attachments", {})
    if not isinstance(subject, str) or not subject.strip():
        yield "the front matter has no subject", ("subject",)
    elif FORBIDDEN.search(subject):
        yield "the subject holds a line break or control character", ("subject",)
    if not isinstance(front.get("address", ""), str):
        yield "the address is not a text", ("address",)
    if not isinstance(names, dict):
        yield "[attachments] is not a table", ("attachments",)
        return
    for path, name in names.items():
        if not isinstance(name, str) or not name.strip():
            yield f"the name shown for {path} is not a text", ("attachments", path)


class _Part:
    """One compiled template: the subject, the addressee, the text or the HTML of a letter."""

    def __init__(self, environment: Environment, restored: Restored, name: str) -> None:
        self.restored = restored
        self.name = f"{restored.file}#{name}"
        try:
            code: CodeType = environment.compile(environment.tame(restored.text, self.name), self.name, self.name)
        except Failure as error:
            where = restored.place(getattr(error, "lineno", None))
            raise TemplateError(Problem(in_words(error, {})[0], where, "mend the template at that line")) from None
        self._template = Template.from_code(environment, code, environment.globals)

    def fill(self, context: dict[str, Any], recipient: str) -> str:
        template = self._template
        try:
            try:  # as Template.render does it, without its copies of the context
                return joined(template.root_render_func(template.new_context(context, shared=True)))
            except Exception:  # noqa: BLE001 (Jinja mends the traceback and raises it again)
                template.environment.handle_exception()
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

    def __init__(
        self,
        source: SourceFile,
        layout: SourceFile,
        language: str,
        house: Mapping[str, str],
        *,
        typographic: bool = False,
    ) -> None:
        plain, self._html = (TYPOGRAPHIC_TEXT, TYPOGRAPHIC_HTML) if typographic else (TEXT, HTML)
        front = parse_front(source)
        self.names = front.names
        self._subject_place = Place(source.file, front.subject_line)
        tags = Tags()
        subject = typeset(tags.protect(front.subject, source.file, front.subject_line), language)
        address = typeset(tags.protect(front.address, source.file, front.address_line), language)
        body = tags.protect(front.body, source.file, front.body_line)
        frame = tags.protect(layout.text, layout.file, 1)
        own = Source(body, tags, source.file, front.body_line, language)
        both = twins(own, Source(frame, tags, layout.file, 1), house)
        self._subject = _Part(plain, tags.restore(subject, source.file), "subject")
        self._address = _Part(plain, tags.restore(address, source.file), "address")
        self._text = _Part(plain, tags.restore(both.text, source.file), "text")
        self._page = _Part(self._html, tags.restore(both.page, layout.file, html=True), "html")
        self._body = (tags, both.html, source.file)

    def subject(self, context: dict[str, Any], recipient: str) -> str:
        """The subject, on one line. Raises TemplateError, like all below, naming file, line, field and recipient."""
        subject = _single_blanks(self._subject.fill(context, recipient))
        if not subject or (found := FORBIDDEN.search(subject)):
            what = f"{character(found[0])} would stand in the subject" if subject and found else "the subject is empty"
            where = replace(self._subject_place, recipient=recipient)
            raise TemplateError(
                Problem(what, where, "mend that cell of the list, or take the field out of the subject")
            )
        return subject

    def address(self, context: dict[str, Any], recipient: str) -> tuple[str, ...]:
        """The addressee's block; lines with nothing in them are left out."""
        lines = map(_single_blanks, self._address.fill(context, recipient).splitlines())
        return tuple(filter(None, lines))

    def text(self, context: dict[str, Any], recipient: str) -> str:
        """The letter's own text, one line a paragraph."""
        return self._text.fill({**context, COUNTER: ItemNumbers()}, recipient)

    def page(self, context: dict[str, Any], recipient: str) -> str:
        """The whole letter as HTML, in its layout."""
        return self._page.fill(context, recipient)

    def body(self, context: dict[str, Any], recipient: str) -> str:
        """The letter's own text as HTML, without a layout."""
        return self._fragment.fill(context, recipient)

    @cached_property
    def _fragment(self) -> _Part:
        tags, html, file = self._body
        return _Part(self._html, tags.restore(html, file, html=True), "body")


def _single_blanks(line: str) -> str:
    return " ".join(filter(None, line.split(" ")))


class Renderer:
    """All of a campaign's letters, compiled. `parts` and `render` are pure functions of the recipient."""

    def __init__(self, source: TemplateSource) -> None:
        self.source = source
        self._date = date.fromisoformat(source.date)
        self._forms = {code: parse_forms(typeset(file.text, code), file.file) for code, file in source.forms.items()}
        self._house = {code: self._house_parts(code) for code in source.letters}
        self._texts = {code: LetterText(house) for code, house in self._house.items()}
        self._shown = {code: _shown(house) for code, house in self._house.items()}
        self._letters = {code: self._template(code) for code in source.letters}
        self._codes = {code.lower(): code for code in self._letters}
        self._common = {code: self._shared_context(code) for code in self._letters}

    def _template(self, language: str) -> LetterTemplate:
        house: dict[str, str] = {f"letter.{name}": escape(part) for name, part in self._shown[language].items()}
        house |= {"language": escape(language), "direction": direction(language)}
        known = {name: part for name, part in house.items() if not MARK.search(part)}
        typographic = self._forms[language].apostrophe != "'"
        source = self.source
        return LetterTemplate(source.letters[language], source.layout, language, known, typographic=typographic)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words in the tags of all letters and the layout: every column that is read is among them."""
        texts = [file.text for file in (*self.source.letters.values(), self.source.layout)]
        return frozenset(word for text in texts for tag in _TAG.findall(text) for word in _WORD.findall(tag))

    def lint(self, overlook: Iterable[Kind] = ()) -> Lint:
        """A reader of this campaign's letters."""
        letters = {code: (letter.file, letter.text) for code, letter in self.source.letters.items()}
        return Lint(letters, self._forms, overlook)

    def unreviewed(self, language: str) -> str:
        """The file of the language's forms if no native reader has looked at them yet, else ''."""
        return "" if self._forms[language].reviewed else self.source.forms[language].file

    def language(self, recipient: Recipient) -> str:
        """The language of the recipient's letter: the one asked for if it is there, else the campaign's own.

        Case does not matter, and a letter in `fr` serves who asks for `fr-CH` (RFC 4647 §3.4).
        """
        asked = recipient.language.lower()
        while asked and asked not in self._codes:
            asked = asked.rpartition("-")[0]
        return self._codes.get(asked, self.source.language)

    def shown_names(self, language: str) -> Mapping[str, str]:
        """What recipients see as the names of attachments, by the names of the files or of their patterns."""
        return self._letters[language].names

    def parts(self, recipient: Recipient, attachments: tuple[str, ...]) -> LetterParts:
        """One letter in its parts. `attachments` are the names the recipient sees. Raises TemplateError."""
        language = self.language(recipient)
        context = self._context(recipient, language, self._address(recipient, language), attachments)
        letter, forms = self._letters[language], self._forms[language]
        return replace(
            self._house[language],
            address=letter.address(context, recipient.key),
            subject=forms.labels.subject.format(subject=letter.subject(context, recipient.key)),
            body=letter.body(context, recipient.key),
            enclosures=forms.enclosures(attachments),
        )

    def render(self, recipient: Recipient, attachments: tuple[str, ...]) -> Rendering:
        """One letter as mail shows it. `attachments` are the names the recipient sees. Raises TemplateError."""
        return self.proofed(recipient, attachments)[0]

    def proofed(self, recipient: Recipient, attachments: tuple[str, ...]) -> tuple[Rendering, Proof]:
        """One letter as mail shows it, and as it is to be proof-read. Raises TemplateError."""
        language = self.language(recipient)
        forms_of_address = self._address(recipient, language)
        context = self._context(recipient, language, forms_of_address, attachments)
        letter, forms = self._letters[language], self._forms[language]
        subject = letter.subject(context, recipient.key)
        line = forms.labels.subject.format(subject=subject)
        address = letter.address(context, recipient.key)
        enclosures = forms.enclosures(attachments)
        lines = letter.text(context, recipient.key).splitlines()
        text = self._texts[language].write(address, line, lines, enclosures)
        own = {"address": as_lines(address), "subject": line, "enclosures": enclosures}
        html = letter.page({**context, "subject": subject, "letter": {**self._shown[language], **own}}, recipient.key)
        proof = Proof(language, forms_of_address, (*address, subject), lines)
        return Rendering(subject, text, html, language), proof

    def proof(self, recipient: Recipient, attachments: tuple[str, ...]) -> Proof:
        """One letter as it is to be proof-read, whatever will carry it. Raises TemplateError."""
        language = self.language(recipient)
        forms_of_address, letter = self._address(recipient, language), self._letters[language]
        context = self._context(recipient, language, forms_of_address, attachments)
        above = (*letter.address(context, recipient.key), letter.subject(context, recipient.key))
        return Proof(language, forms_of_address, above, letter.text(context, recipient.key).splitlines())

    def _address(self, recipient: Recipient, language: str) -> Address:
        """How the letter addresses its reader."""
        fields, forms = recipient.fields, self._forms[language]
        kind = fields.get("kind", "")
        rank = fields.get("rank") or (kind if kind in forms.ranks else "")
        try:
            return forms.address(rank, fields.get("gender", ""), fields)
        except TemplateError as error:
            places = [
                Problem(p.what, Place(p.where.file, p.where.line, p.where.column, recipient.key), p.todo)
                for p in error.problems
            ]
            raise TemplateError(*places) from None

    def _context(
        self, recipient: Recipient, language: str, address: Address, attachments: tuple[str, ...]
    ) -> dict[str, Any]:
        """What a letter's templates may print."""
        fields = recipient.fields
        return {
            **{name: value(text) if len(text) <= LONGEST_WORD else text for name, text in fields.items()},
            **self._common[language],
            "key": recipient.key,
            **{name: getattr(address, name) for name in OVERRIDES},
            "attachments": list(attachments),
        }

    def _shared_context(self, language: str) -> dict[str, Any]:
        forms = self._forms[language]
        return {
            "campaign": {"title": self.source.title, "date": self.source.date},
            "sender": dict(self.source.senders[language]),
            "logo": self.source.logo,
            "language": language,
            "direction": direction(language),
            "today": forms.long_date(self._date),
            "long_date": partial(_long_date, forms),
        }

    def _house_parts(self, language: str) -> LetterParts:
        """What is the same in all letters of a language."""
        forms, sender = self._forms[language], self.source.senders[language]
        if forms.apostrophe != "'":
            sender = {name: curly(text) for name, text in sender.items()}
        return LetterParts(
            language=language,
            direction=direction(language),
            organisation=sender["organisation"],
            sender_address=tuple(filter(None, sender["postal_address"].splitlines())),
            date_line=forms.date_line(self._date, sender["place"]),
            address=(),
            subject="",
            body="",
            signature=(sender["signatory"], sender["function"] or sender["organisation"]),
            enclosures="",
            footer=forms.labels.unsubscribe.format(address=sender["unsubscribe"]),
            page=forms.labels.page,
        )


def _shown(house: LetterParts) -> dict[str, str]:
    """What the layout may print of the house, as `letter.…`; beside it stand address, subject and enclosures."""
    return {
        "organisation": house.organisation,
        "sender_address": as_lines(house.sender_address),
        "date_line": house.date_line,
        "signature": as_lines(house.signature),
        "footer": house.footer,
    }


def _long_date(forms: Forms, iso: str) -> str:
    return forms.long_date(date.fromisoformat(str(iso)))
