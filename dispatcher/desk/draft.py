"""The campaign folder as it is now: campaign, lists, letter and attachments, read and merged into a plan.

A `Draft` is what `check` counts, `preview` shows and `send` seals. It may be read several times; each time its letters
go into an `Unsealed` of their own. Whether a folder is still what a plan was made from is said by the digests of all
that goes into it, never assumed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatcher.accounts.secret import take_out
from dispatcher.core.campaign import Campaign, RecipientsList
from dispatcher.core.dated import Dated
from dispatcher.core.errors import CampaignError, Place, Problem, UsageError
from dispatcher.core.merge import Frozen, Merge, Merged
from dispatcher.core.model import Attachment, Letter, Recipient
from dispatcher.core.plan import Item, Planner, Row, Summary
from dispatcher.desk.attached import Attached, Watch, nobody
from dispatcher.ledgers.unsealed import Unsealed
from dispatcher.relays.profiles import profiles
from dispatcher.sources.attachments import Attachments
from dispatcher.sources.campaign import Folder, read_campaign, read_templates
from dispatcher.sources.charset import digest_of
from dispatcher.sources.table import Table, open_table


@dataclass(slots=True)
class Draft:
    """A campaign folder, read. Raises CampaignError, TemplateError and TableError.

    `watch` is told how far the look into the attachments is.
    """

    root: Path
    watch: Watch = nobody
    campaign: Campaign = field(init=False)
    merge: Merge = field(init=False)
    frozen: Frozen = field(init=False)
    tables: list[Table] = field(init=False, default_factory=list)
    paths: dict[str, str] = field(init=False, default_factory=dict)
    dated: dict[str, Dated] = field(init=False, default_factory=dict)
    unsealed: Unsealed = field(init=False)
    attached: Attached = field(init=False)
    _folder: Folder = field(init=False)
    _files: Attachments = field(init=False)
    _attached: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.unsealed = Unsealed()
        self.campaign = read_campaign(self.root, profiles())
        for password in self.campaign.passwords:
            take_out(password)
        self._folder = Folder(self.root)
        self._begin()
        template, logo = read_templates(self.campaign, self._folder), self.campaign.letter.logo
        self.frozen = Frozen.of(self.campaign, template, self._files.logo(logo, "letter", "logo") if logo else None)
        self._note_logo()
        self.merge = Merge(self.frozen, self.content)

    def content(self, digest: str) -> bytes:
        """An attachment's octets, read anew and by what they were when they were planned."""
        path = self.paths[digest]
        attachment, octets = self._files.read(path, path)
        if attachment.digest != digest:
            todo = "leave the folder alone while it is read, then try again"
            raise CampaignError(Problem(f"{path} changed while it was read", Place("campaign.toml"), todo))
        return octets

    def _begin(self) -> None:
        self._files = Attachments(self._folder)
        self.attached = Attached(self.campaign, self._folder.root, self._folder.place)

    def _note_logo(self) -> None:
        if logo := self.frozen.logo:
            self.paths[logo.digest] = logo.path
            self._attached[logo.path] = logo.digest

    def items(self, *, whole: bool = False, look: bool = True) -> Iterator[Item]:
        """Letters, skips and problems, in the order of the rows; noted in a new `unsealed` as they come.

        With `whole`, what was noted can be sealed. At the end come the problems of attachments, if they are to be
        looked into.
        """
        self.unsealed = Unsealed(whole=whole)
        for known in (self.tables, self.paths, self.dated, self._attached):
            known.clear()
        self._begin()
        self._note_logo()
        planner = Planner(self.campaign, self.merge, self._find, self._folder.place, self.unsealed)
        yield from planner.items(self._list(number) for number in range(len(self.campaign.recipients)))
        if look:
            yield from self.attached.problems(self.watch)

    def blank_summary(self) -> Summary:
        """A summary that has counted nothing yet."""
        return Summary(personal=self.campaign.letter.personal)

    def summary(self, *, whole: bool = False) -> Summary:
        """The whole plan, added up."""
        summary = self.blank_summary()
        for item in self.items(whole=whole):
            summary.add(item)
        return summary

    def letters(self) -> Iterator[Letter]:
        """The letters alone."""
        return (item.letter for item in self.items() if isinstance(item, Merged))

    def made_from(self) -> Mapping[str, Any]:
        """What the plan that was read last was made from, besides `frozen`."""
        lists = [[table.file, table.digest] for table in self.tables]
        return {"settings": self._settings(), "lists": lists, "attachments": sorted(self._attached.items())}

    def origin(self) -> Mapping[str, Any] | None:
        """The same, to be kept; None if it is not to be had in short: recipients have attachments of their own."""
        return None if self.campaign.letter.personal else self.made_from()

    def unchanged(self, origin: Mapping[str, Any]) -> bool:
        """Whether the folder as it is now would, with the same `frozen`, make the plan that was made from this."""
        lists = [path for spec in self.campaign.recipients for path in (spec.source, spec.dated) if path]
        return (
            origin["settings"] == self._settings()
            and [file for file, _ in origin["lists"]] == lists
            and all(self._is(path, digest) for path, digest in (*origin["lists"], *origin["attachments"]))
        )

    def _settings(self) -> Mapping[str, Any]:
        """What decides, besides `frozen`, which row gets which letter; as JSON would give it back."""
        campaign = self.campaign
        return {
            "recipients": [spec.model_dump(mode="json") for spec in campaign.recipients],
            "attachments": list(campaign.letter.attachments),
            "on_duplicate": campaign.on_duplicate,
            "on_invalid": campaign.on_invalid,
            "on_conflict": campaign.on_conflict,
        }

    def _is(self, path: str, digest: str) -> bool:
        try:
            return digest_of(self._folder.find(path)) == digest
        except (OSError, UsageError):
            return False

    def _find(self, path: str, name: str, number: int, recipient: Recipient) -> Attachment:
        attachment, _ = self._files.read(path, name, "letter", "attachments", number)
        self.paths[attachment.digest] = attachment.path
        self._attached[attachment.path] = attachment.digest
        self.attached.note(number, attachment, recipient)
        return attachment

    def _list(self, number: int) -> tuple[RecipientsList, Sequence[str], Iterator[Row]]:
        spec = self.campaign.recipients[number]
        path = self._folder.find(spec.source, "recipients", number, "source")
        table, rows = open_table(path, spec.source, encoding=spec.encoding, delimiter=spec.delimiter, sheet=spec.sheet)
        self.tables.append(table)
        placed = ((Place(spec.source, row.line), row.values) for row in rows)
        return spec, table.columns, self._dated(number, table.columns, placed) if spec.dated else placed

    def _dated(self, number: int, listed: Sequence[str], rows: Iterator[Row]) -> Iterator[Row]:
        """The rows as of the campaign's date."""
        shown = self.campaign.recipients[number].dated or ""
        table, found = open_table(self._folder.find(shown, "recipients", number, "dated"), shown)
        self.tables.append(table)
        dated = Dated(self.campaign.date, shown, table.columns, listed)
        dated.read((Place(shown, row.line), row.values) for row in found)
        self.dated[shown] = dated
        return dated.applied(rows)
