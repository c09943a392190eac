"""The campaign folder as it is now: campaign, lists, letter and attachments, read and merged into a plan.

A `Draft` is what `check` counts, `preview` shows and `send` seals. It may be read several times; that the folder did
not change between two readings is said by the plan's digest, never assumed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dispatcher.core.campaign import Campaign, RecipientsList
from dispatcher.core.errors import CampaignError, Place, Problem
from dispatcher.core.merge import Frozen, Merge, Merged
from dispatcher.core.model import Attachment, Letter
from dispatcher.core.plan import Item, Planner, Row, Summary
from dispatcher.relays.profiles import profiles
from dispatcher.sources.campaign import Folder, read_campaign, read_templates
from dispatcher.sources.table import Table, open_table


@dataclass(slots=True)
class Draft:
    """A campaign folder, read. Raises CampaignError, TemplateError and TableError."""

    root: Path
    campaign: Campaign = field(init=False)
    merge: Merge = field(init=False)
    frozen: Frozen = field(init=False)
    tables: list[Table] = field(init=False, default_factory=list)
    paths: dict[str, str] = field(init=False, default_factory=dict)
    _folder: Folder = field(init=False)
    _found: dict[tuple[str, str], Attachment] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.campaign = read_campaign(self.root, profiles())
        self._folder = Folder(self.root)
        self.frozen = Frozen.of(self.campaign, read_templates(self.campaign, self._folder))
        self.merge = Merge(self.frozen, self.content)

    def content(self, digest: str) -> bytes:
        """An attachment's octets, read anew and by what they were when they were planned."""
        path = self.paths[digest]
        attachment, octets = self._folder.attachment(path, path)
        if attachment.digest != digest:
            todo = "leave the folder alone while it is read, then try again"
            raise CampaignError(Problem(f"{path} changed while it was read", Place("campaign.toml"), todo))
        return octets

    def items(self) -> Iterator[Item]:
        """Letters, skips and problems, in the order of the rows."""
        self.tables.clear()
        planner = Planner(self.campaign, self.merge, self._find, self._folder.place)
        yield from planner.items(self._list(number) for number in range(len(self.campaign.recipients)))

    def summary(self) -> Summary:
        """The whole plan, added up."""
        summary = Summary()
        for item in self.items():
            summary.add(item)
        return summary

    def letters(self) -> Iterator[Letter]:
        """The letters alone, for sealing."""
        return (item.letter for item in self.items() if isinstance(item, Merged))

    def _find(self, path: str, name: str, number: int) -> Attachment:
        if (path, name) not in self._found:
            attachment, _ = self._folder.attachment(path, name, "letter", "attachments", number)
            self._found[path, name] = attachment
            self.paths[attachment.digest] = path
        return self._found[path, name]

    def _list(self, number: int) -> tuple[RecipientsList, Sequence[str], Iterator[Row]]:
        spec = self.campaign.recipients[number]
        path = self._folder.find(spec.source, "recipients", number, "source")
        table, rows = open_table(path, spec.source, encoding=spec.encoding, delimiter=spec.delimiter, sheet=spec.sheet)
        self.tables.append(table)
        return spec, table.columns, ((Place(spec.source, row.line), row.values) for row in rows)
