"""A folder of mailmerge (https://github.com/awdeorio/mailmerge) → a campaign, and what could not be carried over.

mailmerge has a template (`message`), a database (`fields`) and a server file (`server`). All three are read and checked
before anything is given back, so that a mistake in them leaves no half campaign. A database is held in memory: the tool
is for short lists. Nothing is written here. Raises UsageError, TableError with file and line.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from dispatcher.core.address import AddressError, parse_mailboxes
from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.model import Mailbox
from dispatcher.core.profile import Profile
from dispatcher.sources.mailmerge.attachments import Attachments, safe_name
from dispatcher.sources.mailmerge.fields import Listing, is_template, lone_field
from dispatcher.sources.mailmerge.letter import dropped, letter_of
from dispatcher.sources.mailmerge.message import Header, Template, read_template
from dispatcher.sources.mailmerge.server import Server, no_server, read_server
from dispatcher.sources.mailmerge.settings import Settings
from dispatcher.sources.table import open_table


@dataclass(slots=True)
class Converted:
    """A campaign that is not written yet: octets and files to copy, each by its path in the new folder.

    `notes` say what was not carried over, or is to be looked at; `rows` is how many there are in the list.
    """

    texts: dict[str, bytes] = field(default_factory=dict)
    copies: dict[str, Path] = field(default_factory=dict)
    notes: list[Problem] = field(default_factory=list)
    rows: int = 0


def convert(
    template: Path,
    database: Path,
    server: Path | None,
    *,
    name: str,
    today: date,
    language: str,
    profiles: Mapping[str, Profile],
) -> Converted:
    """Read mailmerge's files. `name` becomes the campaign's id, `today` its date, `language` that of the letter."""
    relay = read_server(server, profiles) if server else no_server()
    conversion = _Conversion(read_template(template), _listing(database), template.parent)
    return conversion.run(relay, database, name, today, language)


def _listing(database: Path) -> Listing:
    table, rows = open_table(database, str(database))
    found = list(rows)
    return Listing(str(database), list(table.columns), [dict(row.values) for row in found], [row.line for row in found])


class _Conversion:
    """One folder on its way. What is filled in row by row is filled under the old names, before columns are renamed."""

    def __init__(self, template: Template, listing: Listing, folder: Path) -> None:
        self._template = template
        self._listing = listing
        self._folder = folder
        self._made = Converted(rows=len(listing.rows))

    def run(self, server: Server, database: Path, name: str, today: date, language: str) -> Converted:
        template, listing, made = self._template, self._listing, self._made
        sender, reply_to = self._mailbox("from"), self._mailbox("reply-to")
        if sender is None:
            raise AssertionError("a template without FROM was read")
        to, cc = self._addresses("to"), self._addresses("cc")
        attached = Attachments(template, listing, self._folder)
        self._put_addresses(to, cc)
        patterns = attached.patterns()
        subject = listing.retold(template.all("subject")[0].value)
        path = f"templates/letter.{language}.md"
        letter, notes = letter_of(template, subject, listing.retold(template.body), path)
        made.texts[path] = letter.encode()
        made.copies.update(attached.copies)
        made.notes += [*attached.notes, *dropped(template), *notes]
        own, twice = self._without_sender(sender.identity), self._on_duplicate()
        source = self._list(database)
        said = Settings(name, today, language, subject, sender, reply_to, patterns, source, own, twice, server)
        made.texts["campaign.toml"] = said.text().encode()
        made.notes += [*listing.notes(), *server.notes]
        return made

    def _note(self, what: str, line: int, todo: str) -> None:
        self._made.notes.append(Problem(what, Place(self._template.file, line), todo))

    # Whom it goes to, and from whom.

    def _filled(self, header: Header) -> list[str]:
        return self._listing.filled(header.value, Place(self._template.file, header.line))

    def _mailbox(self, name: str) -> Mailbox | None:
        """The one mailbox of a campaign's FROM or REPLY-TO."""
        header = self._template.one(name)
        if header is None or not header.value:
            return None
        values = list(dict.fromkeys(self._filled(header))) if is_template(header.value) else [header.value]
        place = Place(self._template.file, header.line)
        try:
            mailboxes = parse_mailboxes(values[0] if values else "")
        except AddressError as error:
            raise UsageError(Problem(f"{header.name}: {error}", place, "write one address there")) from None
        if len(values) > 1 or len(mailboxes) > 1:
            what = f"{header.name} differs by row, and a campaign has one: {mailboxes[0].address} is taken"
            self._note(what, header.line, "make a campaign of its own for each of the others")
        return mailboxes[0]

    def _addresses(self, name: str) -> list[str]:
        """The cells of `email` or `cc`; what is wrong with an address is for `check` to say."""
        header = self._template.one(name)
        return self._filled(header) if header and header.value else []

    def _put_addresses(self, to: Sequence[str], cc: Sequence[str]) -> None:
        listing = self._listing
        for name, cells in (("email", to), ("cc", cc)):
            header = self._template.one(name.replace("email", "to"))
            column = lone_field(header.value) if header else ""
            if column in listing.columns and not any(c.lower() == name for c in listing.columns if c != column):
                listing.rename(column, name)
            elif cells or name == "email":
                listing.add(name, cells)
        listing.settle({"email", "name", *(["cc"] if cc else [])})

    def _repeated(self, name: str) -> Sequence[str]:
        """The addresses that stand in several rows of a column."""
        found: Counter[str] = Counter()
        for row in self._listing.rows:
            found.update({mailbox.identity for mailbox in _parsed(row.get(name, ""))})
        return [address for address, rows in found.items() if rows > 1]

    def _on_duplicate(self) -> str:
        """What the campaign decides about mailboxes in several rows, with a note on each kind."""
        to, copies = self._repeated("email"), self._repeated("cc")
        if to:
            todo = "delete what is one too many, or decide on_duplicate in campaign.toml; check names the rows"
            what = f"{_first_of(to)} is written to in several rows: one letter a row there, one a mailbox here"
            self._made.notes.append(Problem(what, Place(self._listing.file), todo))
            return "refuse"
        if copies:
            todo = 'that is why campaign.toml says on_duplicate = "each"; if it is not meant, empty the column cc'
            what = f"{_first_of(copies)} gets a copy of several letters, as there"
            self._note(what, self._template.all("cc")[0].line, todo)
            return "each"
        return "refuse"

    def _without_sender(self, own: str) -> Sequence[str]:
        """Take the sender's own address out of Cc and of shared rows; the cells of `email` that hold nothing else.

        mailmerge advises to write to oneself first, and many put themselves into Cc; here bounces and answers to
        oneself would go in circles.
        """
        alone: dict[str, int] = {}
        lines: set[int] = set()
        for row, line in zip(self._listing.rows, self._listing.lines, strict=True):
            for column in {"email", "cc"} & row.keys():
                mailboxes = _parsed(row[column])
                others = [mailbox for mailbox in mailboxes if mailbox.identity != own]
                if column == "email" and mailboxes and not others:
                    alone.setdefault(row[column], line)
                elif len(others) < len(mailboxes):
                    row[column] = ", ".join(map(_written, others))
                    lines.add(line)
        todo = "to see a letter in your own mailbox: dispatcher send --test-to"
        for cell, line in alone.items():
            what = f"{cell} is the sender's own address, and gets no letter: see `where` in campaign.toml"
            self._made.notes.append(Problem(what, Place(self._listing.file, line), todo))
        if lines:
            self._listing.changed = True
            what = f"the sender's own address was taken out of To or Cc, in rows: {len(lines):,}"
            self._made.notes.append(Problem(what, Place(self._listing.file, min(lines)), todo))
        return list(alone)

    # The list.

    def _list(self, database: Path) -> str:
        """The list in the new folder: the file as it was, or written anew if columns were renamed or added."""
        listing = self._listing
        name = safe_name(database.name)
        if not listing.changed:
            self._made.texts[f"recipients/{name}"] = database.read_bytes()
            return f"recipients/{name}"
        target = f"recipients/{safe_name(database.stem)}.csv"
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, listing.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(listing.rows)
        self._made.texts[target] = out.getvalue().encode()
        return target


def _parsed(cell: str) -> Sequence[Mailbox]:
    """The mailboxes in a cell; none if it cannot be read, which is for `check` to say."""
    try:
        return parse_mailboxes(cell)
    except AddressError:
        return ()


def _written(mailbox: Mailbox) -> str:
    """A mailbox as it stands in a list."""
    name = mailbox.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{mailbox.address}>' if name else mailbox.address


def _first_of(addresses: Sequence[str]) -> str:
    return addresses[0] + (f" (and {len(addresses) - 1} more)" if len(addresses) > 1 else "")
