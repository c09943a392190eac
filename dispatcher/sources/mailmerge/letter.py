"""mailmerge's text → the letter file, and what it could not take along. Pure functions."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from dispatcher.core.as_markdown import of_html, of_typed, with_breaks, without_pictures
from dispatcher.core.errors import Place, Problem, TemplateError
from dispatcher.core.jinja import TEXT, Failure, in_words
from dispatcher.core.tags import MARK, Tags
from dispatcher.sources.mailmerge.message import Template

_CARRIED: Final = frozenset({
    "to", "cc", "bcc", "from", "subject", "reply-to", "attachment", "content-type", "mime-version", "date",
    "content-transfer-encoding",
})  # fmt: skip


def quoted(text: str) -> str:
    """A text for TOML, which takes JSON's quoting."""
    return json.dumps(text, ensure_ascii=False)


def letter_of(template: Template, subject: str, body: str, path: str) -> tuple[str, list[Problem]]:
    """The letter file for `path`, and notes. `subject` and `body` are the template's, with the columns' new names."""
    at = template.all("subject")[0].line
    notes = [*_refused(template, subject, at, path), *_refused(template, body, template.body_line, path)]
    tags = Tags()
    try:
        protected = tags.protect(body, template.file, template.body_line)
    except TemplateError:  # noted already; it is carried over as it stands
        written = body
    else:
        text, pictures = _markdown(template.kind, protected, tags)
        written = _restored(text, tags)
        notes += _of_body(template, [_restored(picture, tags) for picture in pictures], path)
    return f"+++\nsubject = {quoted(subject)}\n+++\n{written.strip()}\n", notes


def _restored(text: str, tags: Tags) -> str:
    return MARK.sub(lambda found: tags.all[int(found[1])].source, text)


def _refused(template: Template, source: str, line: int, path: str) -> Iterator[Problem]:
    """A tag that a letter here cannot have."""
    try:
        Tags().protect(source, template.file, line)
        TEXT.compile(TEXT.tame(source, template.file))
    except TemplateError as error:
        what, where = error.problems[0].what, error.problems[0].where
    except Failure as error:
        what, where = in_words(error, {})[0], Place(template.file, line + getattr(error, "lineno", 1) - 1)
    else:
        return
    todo = f"it stands in {path} as it was, and check will refuse it there: write it in another way"
    yield Problem(f"a tag that is not used here: {what}", where, todo)


def _markdown(kind: str, text: str, tags: Tags) -> tuple[str, Sequence[str]]:
    """A protected body as Markdown, and the pictures that were in it."""
    if kind == "text/html":
        return of_html(text)
    if kind == "text/markdown":
        text, pictures = without_pictures(text)
        return with_breaks(text, tags), pictures
    return of_typed(text, tags), ()


def _of_body(template: Template, pictures: Sequence[str], path: str) -> Iterator[Problem]:
    where = Place(template.file, template.body_line)
    if template.kind == "text/html":
        what = "the HTML was turned into Markdown; its colours, sizes and layout are not carried over"
        todo = f"look at {path} and at dispatcher preview; how letters look is templates/house/layout.html's"
        yield Problem(what, where, todo)
    elif template.kind not in ("text/plain", "text/markdown"):
        yield Problem(f"{template.kind} was read as plain text", where, f"look at {path}")
    for picture in pictures:
        todo = "a letter carries no pictures in its text: attach the file, or say it in words"
        if any(header.value and header.value in picture for header in template.all("attachment")):
            todo = "nothing: the file is attached, as it was; look whether the words beside it still make sense"
        yield Problem(f"the picture {picture} is not carried over; its description stands in its place", where, todo)


def dropped(template: Template) -> Iterator[Problem]:
    """What stands in the template and has no place here."""
    for header in template.headers:
        where, name = Place(template.file, header.line), header.name.lower()
        if name == "bcc" and header.value:
            todo = "who is to get a letter stands in the list: a row of their own, or the column cc, which all see"
            yield Problem(f"{header.name}: {header.value} is not carried over: nobody gets a hidden copy", where, todo)
        elif name == "date":
            yield Problem("the Date is not carried over", where, "a letter gets the moment it leaves; see `date`")
        elif name not in _CARRIED:
            todo = "nothing, if you can do without: the header of a letter is dispatcher's own"
            yield Problem(f"the header {header.name} is not carried over", where, todo)
    for what in template.dropped:
        todo = "a letter here is written once, in Markdown, and is sent as HTML and as plain text"
        yield Problem(f"{what} is not carried over", Place(template.file, template.body_line), todo)
