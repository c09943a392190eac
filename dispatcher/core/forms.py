"""Forms of address and dates of one language: the salutation, the call and the close of a letter.

What it does: reads a `templates/forms/<language>.toml` as text, and answers how to address somebody by rank and
gender and how to write a date out. The words are data; this file knows no language.

What it never does: guess. No gender gives the neutral form, no rank the default one, and a rank or gender it does not
know is an error, for a wrong form of address is worse than none.

Raises `TemplateError`: a forms file that cannot be used (file and key), a rank or gender that is not known.
"""

import datetime as dt
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from dispatcher.core.errors import Place, Problem, TemplateError

GENDERS = ("", "f", "m")
"""What a gender may be; empty is "not known"."""

OVERRIDES: Final = frozenset({"salutation", "call", "close", "style", "office"})
"""What the forms of address give, and a column of that name overrides."""

_CALL = "{call}"
_FINAL = re.compile(r"\s*[,:;!]?\s*$")


@dataclass(frozen=True, slots=True)
class Address:
    """How one letter speaks to its reader: how it opens, names the reader in mid-sentence, and ends.

    `style` and `office` stand before and below the reader's name in the addressee's block; '' if there is none.
    `repeats` says that a close of this form has the call in it.
    """

    salutation: str
    call: str
    close: str
    style: str = ""
    office: str = ""
    repeats: bool = False


def _placeholders(*names: str) -> AfterValidator:
    """A check that text holds each of these names in braces at most once, and nothing else in braces."""

    def check(text: str) -> str:
        rest = text
        for name in names:
            rest = rest.replace(f"{{{name}}}", "", 1)
        if "{" in rest or "}" in rest:
            allowed = ", ".join(f"{{{name}}}" for name in names) or "nothing"
            raise ValueError(f"only {allowed} may stand in braces, once")
        return text

    return AfterValidator(check)


_Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^\S(?:[^\n\r]*\S)?$")]
_Plain = Annotated[_Line, _placeholders()]
_Close = Annotated[_Line, _placeholders("call")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Variant(_Part):
    """What differs once the gender is known."""

    salutation: _Plain | None = None
    call: _Plain | None = None
    close: _Close | None = None
    style: _Plain | None = None
    office: _Plain | None = None


_NEUTRAL = _Variant()


class _Rank(_Part):
    """The neutral form of one rank, and its variants."""

    salutation: _Plain
    call: _Plain
    close: _Close
    style: _Plain | None = None
    office: _Plain | None = None
    f: _Variant = _Variant()
    m: _Variant = _Variant()

    def form(self, gender: str) -> Address:
        """The form for a gender in GENDERS; `close` still holds {call}."""
        variant = {"f": self.f, "m": self.m}.get(gender, _NEUTRAL)
        return Address(
            variant.salutation or self.salutation,
            variant.call or self.call,
            variant.close or self.close,
            variant.style or self.style or "",
            variant.office or self.office or "",
        )


class _Date(_Part):
    """How a date is written out."""

    pattern: Annotated[_Line, _placeholders("day", "month", "year")]
    first: _Plain
    months: Annotated[list[_Plain], Field(min_length=12, max_length=12)]


class Labels(_Part):
    """What a letter's parts are called, or how they read, in one language. What is filled in stands in braces."""

    date_line: Annotated[_Line, _placeholders("place", "date")]
    date_line_without_place: Annotated[_Line, _placeholders("date")]
    subject: Annotated[_Line, _placeholders("subject")]
    enclosure: Annotated[_Line, _placeholders("names")]
    enclosures: Annotated[_Line, _placeholders("count", "names")]
    page: Annotated[_Line, _placeholders("page", "pages")]
    unsubscribe: Annotated[_Line, _placeholders("address")]


class Forms(_Part):
    """The forms of address, the dates and the labels of one language, as its TOML file holds them.

    `reviewed` is false as long as no native reader has looked at them. With `apostrophe` = "’" those inside a field's
    words are printed so, whatever the list has.
    """

    default: str
    reviewed: bool = True
    apostrophe: Literal["'", "’"] = "'"
    date: _Date
    labels: Labels
    ranks: dict[str, _Rank]

    @model_validator(mode="after")
    def _default_is_known(self) -> "Forms":
        if self.default not in self.ranks:
            raise ValueError(f'default = "{self.default}" has no [ranks.{self.default}]')
        return self

    def address(self, rank: str, gender: str, overrides: Mapping[str, str]) -> Address:
        """How to address somebody of this rank and gender; '' is "not known", for either.

        `overrides` are the recipient's own words for any part of it; what is not empty wins. A salutation of one's own
        without a call of one's own is also the call, less its final punctuation (a full stop stays, for it ends an
        abbreviation), so that a close that repeats the call repeats the right one.
        Raises TemplateError for a rank or gender that is not known.
        """
        if rank and rank not in self.ranks:
            raise _unknown("rank", rank, self.ranks)
        if gender not in GENDERS:
            raise _unknown("gender", gender, GENDERS[1:])
        form = self.ranks[rank or self.default].form(gender)
        own = {name: overrides.get(name, "").strip() for name in OVERRIDES}
        salutation = own["salutation"] or form.salutation
        call = own["call"] or (_FINAL.sub("", own["salutation"]) if own["salutation"] else form.call)
        close = (own["close"] or form.close).replace(_CALL, call)
        repeats = _CALL in form.close
        return Address(salutation, call, close, own["style"] or form.style, own["office"] or form.office, repeats)

    @property
    def salutations(self) -> Iterator[str]:
        """Every salutation of the language."""
        return (form.salutation for form in self._forms())

    @property
    def closes(self) -> Iterator[str]:
        """Every close of the language; {call} stands for the call."""
        return (form.close for form in self._forms())

    def _forms(self) -> Iterator[Address]:
        return (rank.form(gender) for rank in self.ranks.values() for gender in GENDERS)

    def long_date(self, day: dt.date) -> str:
        """The date written out, such as "1 October 2009"."""
        number = self.date.first if day.day == 1 else str(day.day)
        return self.date.pattern.format(day=number, month=self.date.months[day.month - 1], year=day.year)

    def date_line(self, day: dt.date, place: str) -> str:
        """Place and date as a letter begins, such as "Geneva, 1 October 2009"; the date alone if `place` is ''."""
        pattern = self.labels.date_line if place else self.labels.date_line_without_place
        return pattern.format(place=place, date=self.long_date(day))

    def enclosures(self, names: Sequence[str]) -> str:
        """What goes with the letter, named; '' if nothing does."""
        if not names:
            return ""
        pattern = self.labels.enclosure if len(names) == 1 else self.labels.enclosures
        return pattern.format(count=len(names), names=", ".join(names))


def parse_forms(text: str, file: str) -> Forms:
    """The forms in a TOML text; `file` is only its name, for the errors. Raises TemplateError with file and key."""
    try:
        return Forms.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        place = Place(file, line=int(line[1]) if line else None)
        raise TemplateError(Problem(f"this is not TOML: {error}", place, "Correct the line.")) from error
    except ValidationError as error:
        raise TemplateError(*(_problem(dict(fault), file) for fault in error.errors())) from error


_PLAIN_ENGLISH = {
    "missing": ("this key is missing", "Add it."),
    "extra_forbidden": ("this key is not known", "Remove or rename it."),
}


def _problem(fault: dict[str, Any], file: str) -> Problem:
    said = str(fault["msg"]).removeprefix("Value error, ")
    what, todo = _PLAIN_ENGLISH.get(fault["type"], (said, "Correct the forms of address."))
    return Problem(what, Place(file, column=".".join(map(str, fault["loc"]))), todo)


def _unknown(column: str, value: str, known: Mapping[str, object] | tuple[str, ...]) -> TemplateError:
    return TemplateError(
        Problem(
            f'the {column} "{value}" is not known',
            Place(column=column),
            f"Known: {', '.join(sorted(known))}; leave it empty if it is not known.",
        )
    )
