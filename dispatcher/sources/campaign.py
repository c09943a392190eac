"""campaign.toml and the files it names → values, every error with file, line and key.

Paths are relative to the file and cannot leave its folder, symbolic links included. Never reads a password (see
`accounts.secret`). Raises CampaignError and TemplateError.
"""

import difflib
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from dispatcher.core.campaign import Campaign, LetterFiles
from dispatcher.core.errors import CampaignError, Place, Problem, TemplateError
from dispatcher.core.profile import Profile, with_profile
from dispatcher.core.render import SourceFile, TemplateSource
from dispatcher.core.toml import Path as Keys
from dispatcher.core.toml import did_you_mean, error_line, key_lines, line_of
from dispatcher.sources.charset import digest_of

FILE: Final = "campaign.toml"
_QUOTED: Final = re.compile(r'"/?([^"\\\n]+)"')
"""A text in Typst's source that may be the path of a file; paths begin at the campaign's folder."""
_PACKAGE: Final = re.compile(r"@[\w-]+/[\w-]+:[\d.]+")
_FONTS: Final = frozenset((".ttf", ".ttc", ".otf", ".otc"))
_SHOWS_LOGO: Final = re.compile(r"\bsrc=\"\{\{[-+]?\s*logo\s*[-+]?\}\}\"")
_PLAIN: Final[Mapping[str, str]] = {
    "string_type": "write it as text, in quotes",
    "int_type": "write a whole number, without quotes",
    "tuple_type": 'write a list, such as ["…", "…"]',
    "model_type": "write a table here",
    "dict_type": "write a table here",
    "date_type": "write a date without quotes, such as 2026-10-01",
    "datetime_type": "write a date and time without quotes, such as 2026-10-01T18:00:00+02:00",
    "timezone_aware": "add the offset from UTC, as in 2026-10-01T18:00:00+02:00",
    "string_too_short": "there is nothing in it",
    "too_short": "there is nothing in it",
}
"""What is wrong, by pydantic's type of error, where its own words are a programmer's."""
_PATTERNS: Final[Mapping[str, str]] = {
    "id": "an id is up to 48 letters, digits, dots, hyphens and underscores, and begins with a letter or digit",
    "language": "a language is a code such as en, fr or pt-BR",
}


def read_campaign(folder: Path, profiles: Mapping[str, Profile] = MappingProxyType({})) -> Campaign:
    """Read and check campaign.toml in `folder`. `profiles` are the mail services it may name, by name."""
    text = _text(folder)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = Place(FILE, error_line(str(error)) or text.count("\n") + 1)
        raise CampaignError(Problem(f"not valid TOML: {error}", where, "mend that line")) from None
    except RecursionError:
        raise CampaignError(Problem("not usable: nested too deeply", Place(FILE), "write it more simply")) from None
    lines = key_lines(text)
    try:
        return Campaign.model_validate(_filled(data, profiles, lines))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise CampaignError(*(_problem(dict(e), lines) for e in found)) from None


def _filled(data: dict[str, Any], profiles: Mapping[str, Profile], lines: dict[Keys, int]) -> dict[str, Any]:
    """The data with the values of the profile they name. Raises CampaignError if there is no such profile."""
    relay, pace = data.get("relay"), data.get("pace", {})
    name = relay.get("profile") if isinstance(relay, dict) else None
    if not isinstance(relay, dict) or not isinstance(name, str) or not isinstance(pace, dict):
        return data  # whatever is wrong with it is said by the check that follows
    profile = profiles.get(name)
    if profile is None:
        todo = f"{did_you_mean(name, profiles)}Known here: {', '.join(profiles)}"
        raise CampaignError(Problem(f"there is no profile '{name}'", _place(("relay", "profile"), lines), todo))
    if profile.host is None and "host" not in relay:
        what = f"'host' is missing: the profile {name} has none of its own"
        raise CampaignError(Problem(what, _place(("relay",), lines), f"add {profile.host_hint}"))
    return with_profile(data, profile)


def _text(folder: Path) -> str:
    try:
        return (folder / FILE).read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        todo = "go to the campaign's folder, name it with --campaign DIR, or make one: dispatcher init DIR"
        raise CampaignError(Problem(f"there is no {FILE} in {folder}", todo=todo)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CampaignError(Problem(f"cannot read: {error}", Place(FILE), "save it as UTF-8 text")) from None


def _problem(error: Mapping[str, Any], lines: dict[Keys, int]) -> Problem:
    loc = tuple(part for part in error["loc"] if part not in ("[key]", ""))
    place = _place(loc, lines)
    name = str(loc[-1]) if loc else ""
    if error["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        return Problem(f"unknown key '{name}'", place, f"{did_you_mean(name, known)}Known here: {', '.join(known)}")
    if error["type"] == "missing":
        return Problem(f"'{name}' is missing", place, f"add {name} = … there")
    message = _PLAIN.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        message = _PATTERNS["id" if name == "id" else "language"]
    return Problem(message[0].lower() + message[1:], place, "mend that line")


def _place(loc: Keys, lines: dict[Keys, int]) -> Place:
    key = ".".join(str(part) for part in loc)
    return Place(FILE, line_of(lines, loc), f"key {key}" if key else "")


def _known_keys(loc: Iterable[str | int]) -> list[str]:
    model: type[BaseModel] = Campaign
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            kinds = _models_in(model.model_fields[part].annotation)
            model = kinds[0] if kinds else model
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


class Folder:
    """Reads files of a campaign folder, and nothing outside it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def place(self, *keys: str | int) -> Place:
        """Where a key stands in campaign.toml."""
        return _place(keys, self._lines)

    @cached_property
    def _lines(self) -> dict[Keys, int]:
        return key_lines(_text(self.root))

    def find(self, path: str, *keys: str | int) -> Path:
        """The file at a path, which stands at `keys` in campaign.toml. Raises CampaignError if missing or outside."""
        full = self.root / path
        try:
            if not full.resolve().is_relative_to(self.root):
                todo = "copy the file into the campaign's folder"
                raise CampaignError(Problem(f"{path} leads outside the campaign's folder", self.place(*keys), todo))
            if full.is_file():
                return full
            if full.exists():
                raise CampaignError(Problem(f"{path} is not a file", self.place(*keys), "put a file in its place"))
            what = f"{path} does not exist"
        except (OSError, ValueError, RuntimeError) as error:  # a circle of links, a name that cannot be
            what = f"{path} cannot be found: {error}"
        raise CampaignError(Problem(what, self.place(*keys), self._nearest(full)))

    def _nearest(self, full: Path) -> str:
        there = sorted(p.name for p in full.parent.iterdir()) if full.parent.is_dir() else []
        near = difflib.get_close_matches(full.name, there, n=3, cutoff=0.4)
        if near:
            return f"there is: {', '.join(near)}"
        return f"put the file there, or mend its name in {FILE}"

    def text(self, path: str, *keys: str | int) -> SourceFile:
        """A template file as text, NFC, line ends as LF."""
        try:
            text = self.find(path, *keys).read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise TemplateError(Problem("not UTF-8 text", Place(path, line), "save it as UTF-8")) from None
        except OSError as error:
            raise TemplateError(Problem(f"cannot read: {error.strerror}", Place(path))) from None
        return SourceFile(path, unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")))

    def text_if_there(self, path: str) -> SourceFile:
        """The same of a file that need not be there: then it has no text."""
        return self.text(path) if (self.root / path).exists() else SourceFile(path, "")

    def languages(self, pattern: str) -> tuple[str, ...]:
        """The languages for which a file exists at a path with `{language}`; () if the path has none."""
        head, *rest = pattern.split("{language}")
        if not rest:
            return ()
        tail = r"(?P=code)".join(re.escape(part) for part in rest)
        shown = re.compile(rf"{re.escape(head)}(?P<code>[a-z]{{2,3}}(?:-[A-Za-z0-9]{{2,8}})*){tail}")
        wild = "*".join(re.sub(r"[*?[]", "[\\g<0>]", part) for part in (head, *rest))
        files = (p.relative_to(self.root).as_posix() for p in self.root.glob(wild) if p.is_file())
        return tuple(sorted(found["code"] for file in files if (found := shown.fullmatch(file))))


def read_templates(campaign: Campaign, folder: Folder) -> TemplateSource:
    """All template files a campaign uses. Raises CampaignError and TemplateError naming the missing one."""
    letter = campaign.letter
    languages = folder.languages(letter.template) or (campaign.language,)
    if campaign.language not in languages:
        wanted = letter.template.replace("{language}", campaign.language)
        todo = f"write {wanted}, or set language to one of: {', '.join(languages)}"
        raise CampaignError(Problem(f"there is no letter in '{campaign.language}'", folder.place("language"), todo))

    def in_all(path: str, key: str) -> dict[str, SourceFile]:
        return {code: folder.text(path.replace("{language}", code), "letter", key) for code in languages}

    layout = folder.text(letter.layout, "letter", "layout")
    if letter.logo and not _SHOWS_LOGO.search(layout.text):
        todo = (
            f'put <img src="{{{{ logo }}}}" alt="{{{{ letter.organisation }}}}"> into it, or leave logo out of {FILE}'
        )
        raise CampaignError(Problem(f"{letter.layout} shows no logo", folder.place("letter", "logo"), todo))
    page = folder.text_if_there(letter.paper)
    return TemplateSource(
        letters=in_all(letter.template, "template"),
        forms=in_all(letter.forms, "forms"),
        layout=layout,
        language=campaign.language,
        date=campaign.date.isoformat(),
        title=campaign.title,
        senders={code: campaign.printed_sender(code) for code in languages},
        page=page,
        page_files=dict(_page_files(page, letter, folder)) if page.text else {},
    )


def _page_files(page: SourceFile, letter: LetterFiles, folder: Folder) -> Iterator[tuple[str, str]]:
    """What letters on paper are set with besides the page, path and SHA-256: the logo, files that the page's source
    names, and what these name in Typst; the fonts. Another picture or font is another letter.
    """
    named, sources = dict.fromkeys([letter.logo] if letter.logo else ()), [page.text]
    while sources:
        for path in _QUOTED.findall(sources.pop()):
            if _PACKAGE.fullmatch(path):
                what = f"{page.file} asks for the package {path}, which would be fetched, or found outside the folder"
                todo = "copy what you need of it into the campaign's folder, and import it by its path"
                raise CampaignError(Problem(what, folder.place("letter", "paper"), todo))
            if path not in named and _is_file(folder.root / path):
                named[path] = None
                sources += [folder.text(path, "letter", "paper").text] if path.endswith(".typ") else []
    for path in named:
        yield path, _digest(folder.find(path, "letter", "logo" if path == letter.logo else "paper"), path)
    if letter.fonts:
        for font in sorted((folder.root / letter.fonts).rglob("*")):
            if font.suffix.lower() in _FONTS and font.is_file():  # not what the system leaves in every folder
                path = font.relative_to(folder.root).as_posix()
                yield path, _digest(font, path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text that is no path
        return False


def _digest(file: Path, shown: str) -> str:
    try:
        return digest_of(file)
    except OSError as error:
        raise TemplateError(Problem(f"cannot read: {error.strerror}", Place(shown), "check its rights")) from None
