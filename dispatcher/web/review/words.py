"""The page's language: English texts are the keys, `words/xx.toml` holds what they are in the others."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "fr": "Français", "es": "Español"}
_THOUSANDS: Final[Mapping[str, str]] = {"en": ",", "fr": "\u202f", "es": "\u202f"}


def mark(text: str) -> str:
    """The text itself; says that it is translated where it is shown."""
    return text


class Words:
    """Says texts in one language. A text that is not there is a fault of ours, and a test finds it."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = texts(language)

    def __call__(self, text: str, **values: object) -> str:
        """The text in this language, with values in place of `{name}`; numbers as this language writes them."""
        said = self._texts.get(text, text)
        for name, value in values.items():
            said = said.replace("{" + name + "}", self.number(value) if isinstance(value, int) else str(value))
        return said

    def many(self, one: str, more: str, n: int, **values: object) -> str:
        """The first text for one, the second for any other number; `{n}` is the number. In French none is one."""
        single = n == 1 or (n == 0 and self.language == "fr")
        return self(one if single else more, n=n, **values)

    def number(self, number: int) -> str:
        """A whole number for people."""
        return f"{number:,}".replace(",", _THOUSANDS[self.language])


@cache
def texts(language: str) -> Mapping[str, str]:
    """What the English texts are in another language. The file's tables are the page's parts, for the reader's eye."""
    if language == "en":
        return {}
    tables = tomllib.loads(files(__package__).joinpath("words", f"{language}.toml").read_text(encoding="utf-8"))
    return {text: said for table in tables.values() for text, said in table.items()}


def negotiated(header: str, default: str = "en") -> str:
    """The first of our languages that a browser asks for (Accept-Language, RFC 9110 §12.5.4)."""
    wanted = []
    for number, part in enumerate(header.split(",")):
        tag, _, weight = part.partition(";")
        quality = weight.strip().removeprefix("q=")
        try:
            wanted.append((-float(quality or 1), number, tag.strip().lower()[:2]))
        except ValueError:
            continue
    return next((tag for weight, _, tag in sorted(wanted) if weight and tag in LANGUAGES), default)
