"""campaign.toml and the files it names → values, every error with file, line and key.

Paths are relative to the file and cannot leave its folder, symbolic links included. Never reads a password (see
`sources.secret`). Raises CampaignError and TemplateError.
"""

import difflib
import hashlib
import mimetypes
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import CampaignError, Place, Problem, TemplateError
from dispatcher.core.model import Attachment
from dispatcher.core.render import SourceFile, TemplateSource

FILE: Final = "campaign.toml"
_TABLE: Final = re.compile(r"\s*\[(\[)?\s*([\w.\-]+)\s*\]")
_KEY: Final = re.compile(r"\s*([\w\-]+)\s*=")
_ERROR_LINE: Final = re.compile(r"line (\d+), column (\d+)")
_TYPES: Final = mimetypes.MimeTypes()
"""Python's own table, not the machine's: the same file is the same letter everywhere."""
LARGEST_ATTACHMENT: Final = 50 * 1024 * 1024


def read_campaign(folder: Path) -> Campaign:
    """Read and check campaign.toml in `folder`."""
    path = folder / FILE
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        todo = "go to the campaign's folder, name it with --campaign DIR, or make one: dispatcher init DIR"
        raise CampaignError(Problem(f"there is no {FILE} in {folder}", todo=todo)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CampaignError(Problem(f"cannot read: {error}", Place(FILE), "save it as UTF-8 text")) from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _ERROR_LINE.search(str(error))
        line = int(found.group(1)) if found else None
        raise CampaignError(Problem(f"not valid TOML: {error}", Place(FILE, line), "mend that line")) from None
    try:
        return Campaign.model_validate(data)
    except ValidationError as error:
        lines = dict(key_lines(text))
        raise CampaignError(*(_problem(dict(e), lines) for e in error.errors(include_url=False))) from None


def key_lines(text: str) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Where each key of a TOML text stands: ("recipients", 1, "source") → line. Tables count as keys."""
    table: tuple[str | int, ...] = ()
    counts: dict[str, int] = {}
    quote = ""
    for number, line in enumerate(text.splitlines(), 1):
        inside, quote = quote, _open_quote(line, quote)
        if inside:
            continue
        if head := _TABLE.match(line):
            name = head.group(2)
            table = tuple(name.split("."))
            if head.group(1):
                counts[name] = counts.get(name, -1) + 1
                table = (*table, counts[name])
            yield table, number
        elif key := _KEY.match(line):
            yield (*table, key.group(1)), number


def _open_quote(line: str, quote: str) -> str:
    """Which kind of multi-line string is open after this line."""
    for mark in re.findall(r'"""|\'\'\'', line):
        if not quote:
            quote = mark
        elif quote == mark:
            quote = ""
    return quote


def _problem(error: Mapping[str, Any], lines: Mapping[tuple[str | int, ...], int]) -> Problem:
    loc = tuple(error["loc"])
    line = next((lines[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in lines), None)
    key = ".".join(str(part) for part in loc)
    message = str(error["msg"]).removeprefix("Value error, ")
    place = Place(FILE, line, f"key {key}" if key else "")
    if error["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return Problem(f"unknown key '{loc[-1]}'", place, f"{hint}Known here: {', '.join(known)}")
    if error["type"] == "missing":
        return Problem(f"'{loc[-1]}' is missing", place, f"add {loc[-1]} = … there")
    return Problem(message[0].lower() + message[1:], place, "mend that line")


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

    def find(self, path: str) -> Path:
        """The file at a path of campaign.toml. Raises CampaignError if it is missing or outside."""
        full = self.root / path
        if not full.resolve().is_relative_to(self.root):
            todo = "copy the file into the campaign's folder"
            raise CampaignError(Problem(f"{path} leads outside the campaign's folder", Place(FILE), todo))
        if not full.is_file():
            raise CampaignError(Problem(f"{path} does not exist", Place(FILE), self._nearest(full)))
        return full

    def _nearest(self, full: Path) -> str:
        there = [p.name for p in full.parent.iterdir()] if full.parent.is_dir() else []
        near = difflib.get_close_matches(full.name, there, n=3, cutoff=0.4)
        folder = full.parent.relative_to(self.root).as_posix()
        if near:
            return f"in {folder} there is: {', '.join(near)}"
        return f"put the file into {folder}, or mend its name in {FILE}"

    def text(self, path: str) -> SourceFile:
        """A template file as text, line ends as LF."""
        try:
            return SourceFile(path, self.find(path).read_bytes().decode("utf-8-sig").replace("\r\n", "\n"))
        except UnicodeDecodeError as error:
            raise TemplateError(Problem(f"not UTF-8 text: {error}", Place(path), "save it as UTF-8")) from None
        except OSError as error:
            raise TemplateError(Problem(f"cannot read: {error.strerror}", Place(path))) from None

    def attachment(self, path: str, name: str) -> tuple[Attachment, bytes]:
        """An attachment and its octets. `name` is what the recipient sees."""
        try:
            octets = self.find(path).read_bytes()
        except OSError as error:
            raise CampaignError(Problem(f"cannot read {path}: {error.strerror}", Place(FILE))) from None
        if not octets:
            raise CampaignError(Problem(f"{path} is empty", Place(FILE), "attach the finished file"))
        if len(octets) > LARGEST_ATTACHMENT:
            raise CampaignError(Problem(f"{path} is larger than 50 MB", Place(FILE), "no relay takes that; link to it"))
        kind = _TYPES.guess_type(path)[0] or "application/octet-stream"
        return Attachment(name, kind, hashlib.sha256(octets).hexdigest(), len(octets), path), octets

    def languages(self, pattern: str) -> tuple[str, ...]:
        """The languages for which a file exists at a path with `{language}`; () if the path has none."""
        if "{language}" not in pattern:
            return ()
        head, _, tail = pattern.partition("{language}")
        shown = re.compile(re.escape(head) + r"([a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)" + re.escape(tail) + r"\Z")
        base = self.root / pattern.split("{", maxsplit=1)[0].rpartition("/")[0]
        files = (p.relative_to(self.root).as_posix() for p in base.rglob("*") if p.is_file()) if base.is_dir() else ()
        return tuple(sorted(found.group(1) for f in files if (found := shown.match(f))))


def read_templates(campaign: Campaign, folder: Folder) -> TemplateSource:
    """All template files a campaign uses. Raises CampaignError and TemplateError naming the missing one."""
    pattern = campaign.letter.template
    languages = folder.languages(pattern) or (campaign.language,)
    if campaign.language not in languages:
        todo = f"write {pattern.format(language=campaign.language)}, or set language to one of: {', '.join(languages)}"
        raise CampaignError(
            Problem(f"there is no letter in '{campaign.language}'", Place(FILE, None, "key language"), todo)
        )
    return TemplateSource(
        letters={code: folder.text(pattern.replace("{language}", code)) for code in languages},
        forms={code: folder.text(campaign.letter.forms.replace("{language}", code)) for code in languages},
        layout=folder.text(campaign.letter.layout),
        language=campaign.language,
        date=campaign.date.isoformat(),
        title=campaign.title,
        senders={code: campaign.printed_sender(code) for code in languages},
    )
