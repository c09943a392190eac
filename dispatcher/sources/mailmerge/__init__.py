"""A folder of mailmerge (https://github.com/awdeorio/mailmerge) → a campaign, and what could not be carried over.

mailmerge has a template (`message`), a database (`fields`) and a server file (`server`). All three are read and checked
before anything is given back, so that a mistake in them leaves no half campaign. A database is held in memory: the tool
is for short lists. Nothing is written here. Raises UsageError, TableError with file and line.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

from dispatcher.core.address import AddressError, parse_mailboxes
from dispatcher.core.as_markdown import of_html, of_typed, with_breaks, without_pictures
from dispatcher.core.errors import Place, Problem, TemplateError, UsageError
from dispatcher.core.jinja import TEXT, Failure, in_words
from dispatcher.core.model import Mailbox
from dispatcher.core.profile import Profile
from dispatcher.core.tags import MARK, Tags
from dispatcher.sources.mailmerge.fields import Listing, as_pattern, fields_alone, is_template, lone_field
from dispatcher.sources.mailmerge.message import Header, Template, read_template
from dispatcher.sources.mailmerge.server import Server, no_server, read_server
from dispatcher.sources.table import open_table

LETTER: Final = "templates/letter.en.md"
_CARRIED: Final = frozenset({
    "to", "cc", "bcc", "from", "subject", "reply-to", "attachment", "content-type", "mime-version", "date",
    "content-transfer-encoding",
})  # fmt: skip
_ASKED: Final = (
    'check asks about files that do not name their recipient: look, and decide for all by on_mismatch = "send" in '
    "campaign.toml"
)
_UNSAFE: Final = re.compile(r'[\\:*?"<>|{}\x00-\x1f\x7f]|\.\.|[. ]\Z')
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9_-]+")


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
    template: Path, database: Path, server: Path | None, *, name: str, today: date, profiles: Mapping[str, Profile]
) -> Converted:
    """Read mailmerge's files. `name` becomes the campaign's id, `today` its date."""
    return _Conversion(read_template(template), _listing(database), template.parent).run(
        read_server(server, profiles) if server else no_server(), database, name, today
    )


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

    def run(self, server: Server, database: Path, name: str, today: date) -> Converted:
        template, listing, made = self._template, self._listing, self._made
        sender = self._one_mailbox("from")
        reply_to = self._one_mailbox("reply-to")
        to, cc = self._addresses("to"), self._addresses("cc")
        files = [self._attached(number, header) for number, header in enumerate(template.all("attachment"), 1)]
        self._put_addresses(to, cc)
        patterns = [self._pattern(each) for each in files]
        subject = listing.retold(template.all("subject")[0].value)
        made.notes += self._dropped()
        made.texts[LETTER] = self._letter(subject).encode()
        source = self._list(database)
        own, twice = self._own_rows(sender, reply_to), self._on_duplicate()
        text = _campaign(name, today, subject, sender, reply_to, patterns, source, own, twice, server)
        made.texts["campaign.toml"] = text.encode()
        made.notes += [*listing.notes(), *server.notes]
        return made

    def _note(self, what: str, line: int, todo: str) -> None:
        self._made.notes.append(Problem(what, Place(self._template.file, line), todo))

    # Whom it goes to, and from whom.

    def _filled(self, header: Header) -> list[str]:
        return self._listing.filled(header.value, Place(self._template.file, header.line))

    def _one_mailbox(self, name: str) -> Mailbox | None:
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
            elif cells:
                listing.add(name, cells)
        listing.settle({"email", "name", *(["cc"] if cc else [])})

    def _repeated(self, name: str) -> Sequence[str]:
        """The addresses that stand in several rows of a column."""
        found: Counter[str] = Counter()
        for row in self._listing.rows:
            try:
                found.update({mailbox.identity for mailbox in parse_mailboxes(row.get(name, ""))})
            except AddressError:
                continue
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

    def _own_rows(self, *senders: Mailbox | None) -> Sequence[str]:
        """The cells that hold the sender's own address: mailmerge advises to write to oneself first."""
        own = {sender.identity for sender in senders if sender}
        found: dict[str, int] = {}
        for row, line in zip(self._listing.rows, self._listing.lines, strict=True):
            try:
                mailboxes = parse_mailboxes(row["email"])
            except AddressError:
                continue
            if any(mailbox.identity in own for mailbox in mailboxes):
                found.setdefault(row["email"], line)
        for cell, line in found.items():
            todo = "to see a letter in your own mailbox: dispatcher send --test-to; see `where` in campaign.toml"
            what = f"{cell} is the sender's own address, and gets no letter"
            self._made.notes.append(Problem(what, Place(self._listing.file, line), todo))
        return list(found)

    # Attachments.

    def _attached(self, number: int, header: Header) -> "_Attached":
        """The files of one ATTACHMENT line. Raises UsageError for those that are not there."""
        paths = self._filled(header) if is_template(header.value) else [header.value] * bool(header.value)
        place = Place(self._template.file, header.line)
        if not header.value:
            raise UsageError(Problem(f"{header.name} names no file", place, "name one, or take the line out"))
        full = [self._folder / Path(path).expanduser() for path in paths]
        lines = self._listing.lines if is_template(header.value) else []
        missing = [n for n, path in enumerate(full) if not path.is_file()]
        if missing:
            for_row = f" (for {self._listing.file}:{lines[missing[0]]})" if lines else ""
            more = f", and {len(missing) - 1} more" if missing[1:] else ""
            what = f"{paths[missing[0]]} is no file{for_row}{more}"
            raise UsageError(Problem(what, place, "put it there, or take the line out"))
        return _Attached(number, header, full)

    def _pattern(self, attached: "_Attached") -> str:
        """Where an attachment is in the new folder; its files are noted to be copied there."""
        source = attached.header.value
        folder, _, last = source.replace("\\", "/").rpartition("/")
        if not is_template(source):
            return self._copied(attached.files[0])
        if not is_template(folder) and self._plain(fields_alone(last)):
            for file in attached.files:
                self._made.copies[f"attachments/{file.name}"] = file
            return f"attachments/{as_pattern(self._listing.retold(last))}"
        column = f"attachment_{attached.number}"
        self._listing.add(column, [self._copied(file).rpartition("/")[2] for file in attached.files])
        what = f"which file goes to whom stands in the list, in the column '{column}'"
        self._note(what, attached.header.line, _ASKED)
        return f"attachments/{{{column}}}"

    def _plain(self, names: Sequence[str] | None) -> bool:
        """Whether all cells of these columns can be part of a file's name as they stand."""
        if names is None:
            return False
        names = [self._listing.renamed.get(name, name) for name in names]
        cells = (row.get(name, "") for row in self._listing.rows for name in names)
        return all(cell and "/" not in cell and not _UNSAFE.search(cell) for cell in cells)

    def _copied(self, file: Path) -> str:
        """Where a file is copied to, under a name that no other one has."""
        copies, stem = self._made.copies, _UNSAFE.sub("_", file.stem)
        number, target = 1, f"attachments/{stem}{file.suffix}"
        while copies.get(target, file) != file:
            number += 1
            target = f"attachments/{stem}-{number}{file.suffix}"
        copies[target] = file
        return target

    # The letter.

    def _letter(self, subject: str) -> str:
        """The letter file; its body as Markdown."""
        body = self._listing.retold(self._template.body)
        line = self._template.body_line
        for source, at in ((subject, self._template.all("subject")[0].line), (body, line)):
            self._refused(source, at)
        tags = Tags()
        try:
            words = tags.protect(body, self._template.file, line)
        except TemplateError:  # noted above; it is carried over as it stands
            written = body
        else:
            written = MARK.sub(lambda found: tags.all[int(found[1])].source, self._markdown(words, tags))
        return f"+++\nsubject = {_quoted(subject)}\n+++\n{written.strip()}\n"

    def _refused(self, source: str, line: int) -> None:
        """Note a tag that a letter here cannot have."""
        file = self._template.file
        try:
            Tags().protect(source, file, line)
            TEXT.compile(TEXT.tame(source, file))
        except TemplateError as error:
            what, where = error.problems[0].what, error.problems[0].where
        except Failure as error:
            what, where = in_words(error, {})[0], Place(file, line + getattr(error, "lineno", 1) - 1)
        else:
            return
        todo = f"it stands in {LETTER} as it was, and check will refuse it there: write it in another way"
        self._made.notes.append(Problem(f"a tag that is not used here: {what}", where, todo))

    def _markdown(self, text: str, tags: Tags) -> str:
        line = self._template.body_line
        pictures: Sequence[str] = ()
        if self._template.kind == "text/html":
            text, pictures = of_html(text)
            self._note(
                "the HTML was turned into Markdown; its colours, sizes and layout are not carried over",
                line,
                f"look at {LETTER} and at dispatcher preview; how letters look is templates/house/layout.html's",
            )
        elif self._template.kind == "text/markdown":
            text, pictures = without_pictures(text)
            text = with_breaks(text, tags)
        else:
            if self._template.kind != "text/plain":
                self._note(f"{self._template.kind} was read as plain text", line, f"look at {LETTER}")
            text = of_typed(text, tags)
        for picture in pictures:
            shown = MARK.sub(lambda found: tags.all[int(found[1])].source, picture)
            todo = "a letter carries no pictures in its text: attach the file, or say it in words"
            if any(header.value in shown for header in self._template.all("attachment")):
                todo = "nothing: the file is attached, as it was; look whether the words beside it still make sense"
            self._note(f"the picture {shown} is not carried over; its description stands in its place", line, todo)
        return text

    def _dropped(self) -> Iterator[Problem]:
        """What stands in the template and has no place here."""
        file = self._template.file
        for header in self._template.headers:
            where = Place(file, header.line)
            if header.name.lower() == "bcc" and header.value:
                todo = "who is to get a letter stands in the list: a row of their own, or the column cc, which all see"
                yield Problem(
                    f"{header.name}: {header.value} is not carried over: nobody gets a hidden copy", where, todo
                )
            elif header.name.lower() == "date":
                yield Problem("the Date is not carried over", where, "a letter gets the moment it leaves; see `date`")
            elif header.name.lower() not in _CARRIED:
                todo = "nothing, if you can do without: the header of a letter is dispatcher's own"
                yield Problem(f"the header {header.name} is not carried over", where, todo)
        for what in self._template.dropped:
            todo = "a letter here is written once, in Markdown, and is sent as HTML and as plain text"
            yield Problem(f"{what} is not carried over", Place(file, self._template.body_line), todo)

    # The list.

    def _list(self, database: Path) -> str:
        """The list in the new folder: the file as it was, or written anew if columns were renamed or added."""
        listing = self._listing
        name = _UNSAFE.sub("_", database.name)
        if not listing.changed:
            self._made.texts[f"recipients/{name}"] = database.read_bytes()
            return f"recipients/{name}"
        target = f"recipients/{_UNSAFE.sub('_', database.stem)}.csv"
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, listing.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(listing.rows)
        self._made.texts[target] = out.getvalue().encode()
        return target


@dataclass(frozen=True, slots=True)
class _Attached:
    """An ATTACHMENT line and its files: one, or one for each row."""

    number: int
    header: Header
    files: Sequence[Path]


def _first_of(addresses: Sequence[str]) -> str:
    return addresses[0] + (f" (and {len(addresses) - 1} more)" if len(addresses) > 1 else "")


def _quoted(text: str) -> str:
    """A text for TOML, which takes JSON's quoting."""
    return json.dumps(text, ensure_ascii=False)


def _campaign(
    name: str,
    today: date,
    subject: str,
    sender: Mailbox | None,
    reply_to: Mailbox | None,
    attachments: Sequence[str],
    source: str,
    own: Sequence[str],
    on_duplicate: str,
    server: Server,
) -> str:
    """The text of campaign.toml."""
    if sender is None:
        raise AssertionError("a template without FROM is refused")
    who = sender.name or sender.address
    title = " ".join(re.sub(r"\{[{%#].*?[}%#]\}", "", subject).split()) or name
    where = f"where = {_quoted(f'email not in {json.dumps(list(own), ensure_ascii=False)}')}" if own else ""
    lines = [
        "# Made from a folder of mailmerge. Paths are relative to this file and stay inside its folder.",
        "",
        f"id = {_quoted(_identifier(name))}",
        f"title = {_quoted(title)}",
        'language = "en" # the letter is templates/letter.en.md; for another language rename it too',
        f"date = {today.isoformat()} # printed on the letter",
        f"on_duplicate = {_quoted(on_duplicate)} # refuse | first | each: one mailbox or key in two rows",
        "",
        "[sender]",
        f"organisation = {_quoted(who)} # the letterhead",
        f"name = {_quoted(who)}",
        f"address = {_quoted(sender.address)}",
        f"reply_to = {_quoted(reply_to.address)}" if reply_to else "",
        f"signatory = {_quoted(who)} # printed below the letter",
        "",
        "[letter]",
        'template = "templates/letter.{language}.md"',
        f"attachments = [{', '.join(map(_quoted, attachments))}]",
        "",
        "[[recipients]]",
        f"source = {_quoted(source)}",
        f"{where} # the sender's own rows" if where else "",
        "",
        "[relay]",
        *(f"{key} = {_toml(value)}" for key, value in server.relay.items()),
    ]
    if server.rate:
        lines += ["", "[pace]", f"rate = {_quoted(server.rate)}"]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _toml(value: str | int | Mapping[str, str]) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_quoted(text)}" for key, text in value.items()) + " }"
    return str(value) if isinstance(value, int) else _quoted(value)


def _identifier(name: str) -> str:
    """A campaign's id out of any name."""
    return _NOT_IN_ID.sub("-", name).strip("-_")[:48].strip("-_") or "campaign"
