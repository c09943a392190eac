"""Whose a recipient's own file is, by what it says: is it the one for that recipient, or another's by mistake?

What counts is whom a file names, by key or by name. Of its text the first name counts: an annex begins with whom it is
for, and may speak of others further on. Where the text names nobody, the first in the file's path counts. So a file is
in doubt that

    names another recipient first, in its text, or where that is silent in its path
    names nobody at all, in neither

Names are the column `name`, and of the recipient also every `name_…`, whatever their case, accents and line breaks. A
key counts as it stands in the list, capital and small letters alike (in a path, whatever its case). Another's key says
nothing if it is shorter than three characters, a number of fewer than five digits, or a common word that may stand in
any heading ("AND" is Andorra). Pure.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+")
_COMMON: Final = frozenset(
    _WORD.findall(
        "ALL AND ANY ARE BUT CAN DID FOR GET HAS HIS HOW ITS MAY NEW NON NOR NOT OFF ONE OUR OUT OWN PER SEE SHE THE "
        "TOO TWO USE WAS WHO WHY YES YOU AUX CES DES DOM EST ILS LES LUI MER MES PAR PAS PEU QUE QUI SES SON SUR TON "
        "UNE VOS COM CON DEL DOS ESE FIN HAN HAY LAS LOS MAR MAS MUY NOS POR SEA SIN SUS UNA VER ART BIS COL DOC MAX "
        "MIN PDF REF TEL TER VOL"
    )
)
_SHORTEST: Final = 3
_NUMBER: Final = 5

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Owner:
    """A recipient who gets a file alone: the key, the name, and further names that count for this one alone."""

    key: str
    name: str = ""
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class _Index:
    """Phrases, and whom each names: keys as they stand in the words of a place, names in small letters."""

    keys: dict[Words, set[str]] = field(default_factory=dict)
    names: dict[Words, set[str]] = field(default_factory=dict)
    lengths: dict[str, set[int]] = field(default_factory=dict)
    """By the first word of a phrase: of how many words such phrases are."""

    def add(self, phrases: dict[Words, set[str]], phrase: Words, key: str) -> None:
        if len("".join(phrase)) >= _SHORTEST:
            phrases.setdefault(phrase, set()).add(key)
            self.lengths.setdefault(phrase[0], set()).add(len(phrase))

    def first(self, words: Words, own_key: Words, own_names: set[Words]) -> set[str] | None:
        """Whom the words name first, where two begin together the longer one: an empty set is the owner alone."""
        folded = tuple(word.casefold() for word in words)
        own = {len(own_key), *map(len, own_names)}
        for start, word in enumerate(words):
            lengths = own.union(self.lengths.get(word, ()), self.lengths.get(folded[start], ()))
            for length in sorted(lengths, reverse=True):
                exact, plain = words[start : start + length], folded[start : start + length]
                if exact == own_key or plain in own_names:
                    return set()
                if found := self.keys.get(exact, set()) | self.names.get(plain, set()):
                    return found
        return None


class Roll:
    """Everybody who gets a file of their own, by what a text would call them. Some hundred octets each."""

    def __init__(self) -> None:
        self._text = _Index()
        self._path = _Index()

    def add(self, owner: Owner) -> None:
        """Note one of them."""
        key = _words(owner.key)
        for index in (self._text, self._path):
            index.add(index.names, _folded(owner.name), owner.key)
        if _telling(owner.key):
            self._text.add(self._text.keys, key, owner.key)
            self._path.add(self._path.keys, _folded(owner.key), owner.key)

    def names_somebody(self, owner: Owner, text: str) -> bool:
        """Whether a text names its owner or anybody else."""
        return self._text.first(_words(text), _words(owner.key), _names(owner)) is not None

    def doubt(self, owner: Owner, path: str, text: str) -> str:
        """Why a file may not be for its owner, in words; '' if there is no doubt."""
        in_text = self._text.first(_words(text), _words(owner.key), _names(owner))
        in_path = self._path.first(_folded(path), _folded(owner.key), _names(owner))
        for place, found in (("its text", in_text), ("its path", in_path)):
            if found is not None:
                return f"{place} names recipient {min(found)}" if found and owner.key not in found else ""
        return "neither its text nor its path has their key or name"


def _names(owner: Owner) -> set[Words]:
    return set(map(_folded, (owner.name, *owner.names))) - {()}


def _telling(key: str) -> bool:
    """Whether a key in another's file says something."""
    return key not in _COMMON and (not key.isdigit() or len(key) >= _NUMBER)


def _words(text: str) -> Words:
    """The words of a text, without accents: a PDF may have them apart, and a list not at all."""
    plain = unicodedata.normalize("NFKD", text)
    return tuple(_WORD.findall("".join(c for c in plain if not unicodedata.combining(c))))


def _folded(text: str) -> Words:
    return tuple(word.casefold() for word in _words(text))
