"""A letter as it will be read → remarks: what a careful reader would mend before it leaves.

An empty field leaves "Dear ," or two blanks behind, a cell holds "[Name]", a French letter begins in English. Each
remark says what is wrong, where (the line of the letter, or the column of the list) and what to do. What no letter
should leave with is grave, and a problem of the plan; the rest are notes. A campaign may overlook a kind.

Cheap: most paragraphs are the same in most letters, and what was found in one is remembered. The same remark on
10,000 letters is one, with how many they are and the first of them. Nothing is raised.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, get_args

from dispatcher.core.bounds import words
from dispatcher.core.errors import Place, Problem
from dispatcher.core.forms import Address, Forms
from dispatcher.core.model import Recipient
from dispatcher.core.text import curly

Kind = Literal["greeting", "language", "gender", "placeholder", "guess", "call", "gap", "apostrophe"]
"""What a remark is about, as `overlook` names it."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_GRAVE: Final[frozenset[Kind]] = frozenset({"greeting", "language", "gender", "placeholder"})
_NAMED: Final = 5
_MOST: Final = 100
"""So many different remarks are told apart."""
_REMEMBERED: Final = 4000
_LONGEST_REMEMBERED: Final = 2000
_LONGEST_OPENING: Final = 100
_ENDING: Final = 6
"""Among so many last lines, blank ones included, the close is looked for: a postscript may stand behind it."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A letter as it is proof-read: how its reader is addressed, the lines above its text, and those of its text."""

    language: str
    address: Address
    above: Sequence[str]
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that should be mended, in so many letters; `recipients` are the keys of the first ones."""

    kind: Kind
    what: str
    where: Place
    todo: str
    letters: int
    recipients: tuple[str, ...]

    @property
    def grave(self) -> bool:
        """Whether no letter should leave with it."""
        return self.kind in _GRAVE

    @property
    def in_words(self) -> str:
        """What is wrong, and in which letters."""
        more = f" and {self.letters - len(self.recipients):,} more" if self.letters > len(self.recipients) else ""
        return f"{self.what}, in {self.letters:,} letter{'s'[: self.letters > 1]} ({', '.join(self.recipients)}{more})"

    @property
    def problem(self) -> Problem:
        """As a problem of the plan."""
        todo = f'{self.todo}; or say that it is meant: overlook = ["{self.kind}"] under [letter]'
        return Problem(self.in_words, replace(self.where, recipient=self.recipients[0]), todo)


class _Found(NamedTuple):
    """A fault in one letter: `shown` stands there, `near` is what stands beside it."""

    kind: Kind
    what: str
    shown: str
    near: tuple[str, ...] = ()


_TODO: Final[Mapping[Kind, str]] = {
    "greeting": "fill the cell, or write {{ salutation }}, which has a form for whom no name is known",
    "language": "write the salutation in the letter's language, or correct the recipient's language",
    "gender": "correct the cell or the salutation",
    "placeholder": "put in what it stands for",
    "guess": "write {{ salutation }}, which is neutral as long as the gender is not known, or fill the column gender",
    "call": "write {{ close }}, which repeats the call, or mend the recipient's own salutation, call or close",
    "gap": "guard what can be empty with {% if … %}",
    "apostrophe": 'write ’ in the letter, and apostrophe = "’" in the language\'s forms',
}

# The salutation.

_OPENERS: Final[Mapping[str, frozenset[str]]] = {
    "en": words("dear sir sirs madam your excellency gentlemen ladies hello"),
    "fr": words("monsieur madame mesdames messieurs cher chère chers chères excellence excellences altesse bonjour"),
    "es": words(
        "estimado estimada estimados estimadas distinguido distinguida excelencia excelentísimo excelentísima querido "
        "querida muy señor señora señores señoras"
    ),
    "de": words("sehr liebe lieber exzellenz guten"),
    "it": words("gentile gentili egregio egregia egregi spettabile eccellenza caro cara"),
    "pt": words("prezado prezada prezados prezadas caro cara exmo exma senhor senhora"),
}
"""First words of salutations, by language; those of the campaign's own forms are added."""
_DEAR: Final = (
    r"dear|cher|chère|estimad[oa]|querid[oa]|distinguid[oa]|sehr geehrte[rs]?|liebe[rs]?|gentile|egregi[oa]"
    r"|prezad[oa]|car[oa]|уважаем(?:ый|ая)"
)
_TITLE: Final = r"(?:mr|mrs|ms|miss|dr|prof|m|mme|mlle|sra?|srta|d|dña|herrn?|frau|sig|and|et|y|und|e)\b\.?"
_BLANK: Final = re.compile(
    rf"(?:(?:{_DEAR})\b(?:\s*{_TITLE})*[\s,:;!.]*|(?:hello|hi|bonjour)\s+[,:;!.]|[\s,:;!.]+)\Z", re.IGNORECASE
)
_MAN: Final = words("mr sir monsieur señor herr senhor signor signore estimado distinguido cher господин уважаемый")
_WOMAN: Final = words("mrs ms miss madam madame mme señora frau senhora signora estimada distinguida chère госпожа")
_WORD: Final = re.compile(r"\w+")
_TYPED: Final = re.compile(r"\w+(?:'\w+)+")
_FINAL: Final = " \u00a0\u202f,:;!.،：，！៖"

# A line.

_PLACEHOLDER_WORD: Final = (
    r"(?:(?:first|last|full|family|given|your|recipient(?:['’]s)?) ?)?name|surname|salutation|address|city|country|"
    r"organi[sz]ation|company|position|title|date|e-?mail|recipient|nom|prénom|adresse|ville|pays|titre|fonction|"
    r"nombre|apellidos?|dirección|ciudad|país|cargo|fecha|name here"
)
_PLACEHOLDER: Final = re.compile(
    r"\{\{[^{}]*\}\}|\{%[^%]*%\}|\$\{\w+\}|<<[^<>]+>>"
    rf"|«(?:{_PLACEHOLDER_WORD})»|<(?:{_PLACEHOLDER_WORD})>"
    rf"|\[(?:{_PLACEHOLDER_WORD}|insert\b[^\]]{{0,60}}|your [^\]]{{0,60}})\]"
    r"|(?-i:\bX{3,}\b|\bx{4,}\b|\bTODO\b|\bTBD\b|\bFIXME\b)|\blorem ipsum\b",
    re.IGNORECASE,
)
_PLACEHOLDER_SIGNS: Final = ("{", "<", "«", "[", "XXX", "xxxx", "TODO", "TBD", "FIXME", "orem ipsum")
_GAP: Final = re.compile(
    r"(?<=\S)(?<![.!?:…”’\"»)])[ ]{2,}(?=\S)"  # not behind a sentence, where some people type two
    r"|(?<=\S)[ ]+[,.](?=\s|\Z)|,\s*,|(?<![.])[.]{2}(?![.])|^[,;]|\(\s*\)|\[\s*\]|“\s*”|«\s*»",
)
_GAP_SIGNS: Final = ("  ", " ,", " .", ",,", "..", "(", "[", "“", "«")
"""A line with none of them has no gap, and that is soon known: this is for every line that no other letter has."""
_GUESS: Final = re.compile(
    r"\b(?:mr|mrs|ms|miss|sir|madam|m|mme|monsieur|madame|sra?|señora?|herrn?|frau)\b\.?"
    r" ?/ ?(?:mr|mrs|ms|miss|sir|madam|m|mme|monsieur|madame|sra?|señora?|herrn?|frau)\b\.?"
    r"|\b(?:mr|mrs|ms)\.? or (?:mr|mrs|ms)\b\.?|\b(?:estimado|señor|querido|distinguido)[(/]a\b\)?|\bch[eè]r[(/]e\b\)?",
    re.IGNORECASE,
)
_GUESS_SIGNS: Final = ("/", "(", " or M", " or m")
_AROUND: Final = 24
_ENOUGH: Final = 4


def _has(text: str, signs: Iterable[str]) -> bool:
    for sign in signs:  # noqa: SIM110 (three times as fast as any())
        if sign in text:
            return True
    return False


def _in_line(text: str) -> Iterator[_Found]:
    if _has(text, _PLACEHOLDER_SIGNS):
        for found in _PLACEHOLDER.finditer(text):
            yield _Found("placeholder", f"{found[0]!r} was left in", found[0])
    if (_has(text, _GAP_SIGNS) or text.startswith((",", ";"))) and "|" not in text and not text.startswith("    "):
        for found in _GAP.finditer(text):
            before, after = text[max(0, found.start() - _AROUND) : found.start()], text[found.end() :][:_AROUND]
            shown = f"{before[-_AROUND // 2 :]}{found[0]}{after[: _AROUND // 2]}".strip()
            yield _Found(
                "gap",
                f"doubled blanks or punctuation, as an empty field leaves them: “{shown}”",
                shown,
                (after.strip(), before.strip()),
            )
    if _has(text, _GUESS_SIGNS) and (guess := _GUESS.search(text)):
        yield _Found("guess", f"“{guess[0]}” shows that nobody knows whom the letter is to", guess[0])


def _typed(line: str) -> str:
    """The first word with a typewriter's apostrophe inside, or ''; addresses and links are what they are."""
    word = next((word for word in line.split() if curly(word) != word), "") if "'" in line else ""
    return found[0] if (found := _TYPED.search(word)) else word


class _Manner(NamedTuple):
    """How a letter speaks to its reader; `given` says that the salutation is the recipient's own."""

    opening: str
    ending: str
    salutation: str
    call: str
    close: str
    repeats: bool
    gender: str
    given: bool
    language: str


class Lint:
    """Reads the letters of one campaign. `letters` are the texts they are made from (file, text), by language."""

    def __init__(
        self,
        letters: Mapping[str, tuple[str, str]],
        forms: Mapping[str, Forms],
        overlook: Iterable[Kind] = (),
    ) -> None:
        self._letters = {code: (file, text.split("\n")) for code, (file, text) in letters.items()}
        self._overlook = frozenset(overlook)
        self._languages = _openers(forms)
        self._repeating = {code: _repeating(one) for code, one in forms.items()}
        self._remarks: dict[tuple[Kind, str, int | None, str], _Tally] = {}
        self._clean: set[str] = set()
        self._known = lru_cache(maxsize=_REMEMBERED)(self._of_manner)

    def read(self, recipient: Recipient, proof: Proof) -> None:
        """Note what is to be remarked on one letter."""
        clean = self._clean
        unknown = [line for line in (*proof.above, *proof.lines) if line not in clean]
        found = [*self._manner(recipient, proof)]
        if found and found[0].kind == "greeting":
            unknown = [line for line in unknown if line != found[0].shown]  # that it has a gap is said already
        if unknown:
            found += self._of_lines(unknown, proof)
        for one in found:
            self._note(one, recipient, proof.language)

    def _manner(self, recipient: Recipient, proof: Proof) -> tuple[_Found, ...]:
        first = next((number for number, line in enumerate(proof.lines) if line), 0)
        opening = proof.lines[first] if proof.lines and len(proof.lines[first]) <= _LONGEST_OPENING else ""
        ending = "\n".join(filter(None, proof.lines[first + 1 :][-_ENDING:]))
        address, fields = proof.address, recipient.fields
        manner = (address.salutation, address.call, address.close, address.repeats)
        rest = (*manner, fields.get("gender", ""), bool(fields.get("salutation")), proof.language)
        known = self._known if len(ending) <= _LONGEST_REMEMBERED else self._of_manner
        return known(opening, ending, *rest)

    def _of_lines(self, lines: Iterable[str], proof: Proof) -> Iterator[_Found]:
        """What is wrong in these lines; those that are clean are remembered."""
        straight = ""
        for line in lines:
            found = tuple(_in_line(line))
            yield from found
            if typed := _typed(line):
                straight = straight or typed
            elif not found and len(line) <= _LONGEST_REMEMBERED:
                self._clean.add(line)
        if len(self._clean) > _REMEMBERED:
            self._clean.clear()
        if straight and any("’" in line for line in (*proof.above, *proof.lines)):
            what = f"typewriter's and printer's apostrophes in one letter: “{straight}”"
            yield _Found("apostrophe", what, straight)

    def remarks(self) -> Sequence[Remark]:
        """All that was noted, in the order in which it was met."""
        return tuple(tally.remark() for tally in self._remarks.values())

    def _note(self, found: _Found, recipient: Recipient, language: str) -> None:
        if found.kind in self._overlook:
            return
        where = self._place(found, recipient, language)
        key = (found.kind, where.file, None if where.column else where.line, where.column)
        if key not in self._remarks and len(self._remarks) >= _MOST:
            return
        self._remarks.setdefault(key, _Tally(found, where)).add(recipient.key)

    def _place(self, found: _Found, recipient: Recipient, language: str) -> Place:
        """The line of the letter where it stands, or the cell it comes from, or the letter."""
        file, lines = self._letters[language]
        for text in (found.shown, *found.near):
            if len(text) >= _ENOUGH or text == found.shown:
                for number, line in enumerate(lines, 1):
                    if text in line:
                        return Place(file, number)
            if text == found.shown:
                for column, cell in recipient.fields.items():
                    if text and (text in cell or text in curly(cell)):
                        return replace(recipient.place, column=f"column {column}")
        return Place(file)

    def _of_manner(self, opening: str, ending: str, *rest: Any) -> tuple[_Found, ...]:
        """What is wrong with how a letter speaks to its reader. Mostly it is known already, by plain arguments."""
        manner = _Manner(opening, ending, *rest)
        if opening and _BLANK.match(opening):
            what = f"nobody is named in the salutation “{opening}”"
            return (_Found("greeting", what, opening, tuple(opening.split()[:1])),)
        repeating = self._repeating[manner.language]
        return (*self._of_language(opening, manner.language), *_of_gender(manner), *_of_call(manner, repeating))

    def _of_language(self, opening: str, language: str) -> Iterator[_Found]:
        first = _WORD.match(opening)
        known = self._languages.get(first[0].casefold(), frozenset()) if first else frozenset()
        if known and language.partition("-")[0] not in known:
            others = " or ".join(sorted(known))
            yield _Found("language", f"the salutation “{opening}” is {others}, and the letter is {language}", opening)


def _openers(forms: Mapping[str, Forms]) -> Mapping[str, frozenset[str]]:
    """The languages in which a salutation begins with a word."""
    found: dict[str, set[str]] = {}
    for language, first in _OPENERS.items():
        for word in first:
            found.setdefault(word, set()).add(language)
    for language, one in forms.items():
        for first_word in filter(None, map(_WORD.match, one.salutations)):
            found.setdefault(first_word[0].casefold(), set()).add(language.partition("-")[0])
    return {word: frozenset(languages) for word, languages in found.items()}


def _repeating(forms: Forms) -> tuple[str, ...]:
    """What stands before the call in the closes of a language that repeat it."""
    return tuple({before for close in forms.closes if (before := close.partition("{call}")[0]) != close and before})


def _of_gender(manner: _Manner) -> Iterator[_Found]:
    opening, gender, given = manner.opening, manner.gender, manner.given
    if _plain(opening) == _plain(manner.salutation) and not given:
        return  # the forms' own, by the gender that the list gives
    said = set(_WORD.findall(opening.casefold()))
    man, woman = bool(said & _MAN), bool(said & _WOMAN)
    if man == woman or _GUESS.search(opening):
        return  # to anybody: that is a remark of its own
    what = f"the salutation “{opening}” is to a {'man' if man else 'woman'}, and the list"
    if gender and gender != ("m" if man else "f"):
        yield _Found("gender", f"{what} has the gender {gender}", opening, tuple(opening.split()[:1]))
    elif not gender and not given:
        yield _Found("guess", f"{what} does not say so", opening, tuple(opening.split()[:1]))


def _of_call(manner: _Manner, repeating: Sequence[str]) -> Iterator[_Found]:
    """A close that should repeat the call, word for word, and does not (French above all)."""
    opening = manner.opening
    above, below, call = _plain(opening.strip(_FINAL)), _plain(manner.ending), _plain(manner.call)
    close = next((line for line in below.split("\n") if line.startswith(tuple(map(_plain, repeating)))), "")
    if not above or not (close or (manner.repeats and _plain(manner.close) in below)):
        return  # another close altogether
    if above in (close or below) or (call in above and call in (close or below)):
        return
    shown = next((line for line in manner.ending.split("\n") if _plain(line) == close), manner.ending.split("\n")[-1])
    what = f"the close “{_short(shown)}” does not repeat the call of the salutation “{opening}”"
    yield _Found("call", what, shown, (shown[:_AROUND],))


def _plain(text: str) -> str:
    return text.replace("’", "'").casefold()


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_OPENING else text[: _LONGEST_OPENING - 1] + "…"


@dataclass(slots=True)
class _Tally:
    found: _Found
    where: Place
    letters: int = 0
    recipients: list[str] = field(default_factory=list)
    last: str = ""

    def add(self, key: str) -> None:
        if key == self.last:
            return  # a second time in one letter
        self.last = key
        self.letters += 1
        if len(self.recipients) < _NAMED:
            self.recipients.append(key)

    def remark(self) -> Remark:
        found = self.found
        return Remark(found.kind, found.what, self.where, _TODO[found.kind], self.letters, tuple(self.recipients))
