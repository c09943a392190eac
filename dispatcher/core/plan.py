"""Campaign and rows → a plan: every letter proof-rendered through the gate, every skip with its reason, every problem
with its place.

Rows are taken one at a time, and of none is anything kept here but a place in a few counts: whom the plan has a letter
for already is known by a `Register`, which need not be in memory. Suppressions are not looked at here: they are the
ledger's, and may change while a plan stands.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from dispatcher.core.address import AddressError, is_reserved, parse_mailboxes
from dispatcher.core.campaign import Campaign, RecipientsList
from dispatcher.core.changes import Kind
from dispatcher.core.errors import CampaignError, Place, Problem, UsageError
from dispatcher.core.forms import OVERRIDES
from dispatcher.core.headers import FORBIDDEN
from dispatcher.core.household import LARGEST, conflicts, require_copy, united
from dispatcher.core.jinja import Expression
from dispatcher.core.lint import Remark
from dispatcher.core.merge import Merge, Merged, OnPaper, attachment_name
from dispatcher.core.model import Attachment, Channel, Letter, Mailbox, Recipient, Skip, SkipReason
from dispatcher.core.placeholders import foreign_fields
from dispatcher.core.render import RESERVED
from dispatcher.core.toml import did_you_mean

KNOWN_COLUMNS: Final = (
    frozenset({"key", "email", "cc", "name", "language", "channel", "kind", "rank", "gender"}) | OVERRIDES
)
"""Columns that are more than a field for the template."""
LONGEST_KEY: Final = 254
"""Octets: as many as an address, which is the key where there is none."""
LONGEST_HTML: Final = 100_000
"""Octets of HTML. Gmail cuts a letter off a little above, at 102 kB, and its footer is then behind a link."""
MOST_PROBLEMS: Final = 1000
"""As many are listed; of further ones it is said how many they are."""
MOST_NAMED: Final = 100
"""So many recipients are named whose letter is in another language than they asked for, of each pair of languages."""
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
_FIELD: Final = re.compile(r"\{(\w+)\}")
# No other folder, device, or name that some system would read as another one.
_UNSAFE_IN_PATH: Final = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]|\.\.|[. ]\Z')

Row = tuple[Place, Mapping[str, str]]
"""Where a row stands, and its cells by column."""
FindAttachment = Callable[[str, str, int, Recipient], Attachment]
"""(path, name the recipient sees, position in letter.attachments, first recipient) → the attachment. Raises UsageError.
"""
PlaceOf = Callable[..., Place]
"""The way to a key of campaign.toml → where it stands."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The rows of a household disagree in a column, and the campaign says that the first one wins."""

    key: str
    column: str


Item = Merged | OnPaper | Skip | Problem | Decided | Remark


class Register(Protocol):
    """Whom a plan has a letter for already, and what it leaves out."""

    def with_key(self, key: str) -> tuple[str, Place] | None:
        """The letter with this key, in capital or small letters: its key, and where its row stands."""
        ...

    def with_mailbox(self, identity: str) -> tuple[str, Place] | None:
        """The first letter that goes to this mailbox: its key, and where its row stands."""
        ...

    def add(self, letter: Letter) -> None:
        """Note a letter of the plan."""
        ...

    def leave_out(self, skip: Skip) -> None:
        """Note a row without a letter."""
        ...

    def set_aside(self, household: str, place: Place, fields: Mapping[str, str]) -> None:
        """Keep a row until all others of its household have been read; one without a household ('') is alone."""
        ...

    def households(self, most: int) -> Iterator[tuple[str, Sequence[Row], int]]:
        """What was set aside, by household, in the order of their first rows: name, rows, and how many they are.

        At most so many of the rows are given.
        """
        ...

    def forget_aside(self) -> None:
        """Nothing is set aside any more."""
        ...


def plan_digest(letters: Iterable[tuple[str, str]]) -> str:
    """The digest over a plan's letters (key and digest of each), which must come in the order of their keys.

    So the order of the rows does not matter.
    """
    whole = hashlib.sha256()
    for key, digest in letters:
        whole.update(f"{len(key.encode())}:{key}{digest}\n".encode())
    return whole.hexdigest()


@dataclass(slots=True)
class Summary:
    """What a plan comes to, counted while it is made. `rows` are those with a letter; `problems` the first thousand.

    Of attachments those at the positions `personal` are counted by position (`own`), all others by file and name.
    `clipped` are letters whose HTML is over LONGEST_HTML; `most_clipped` is the longest: octets, key and language.
    """

    letters: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    channels: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    lists: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    fallback_keys: dict[str, list[str]] = field(default_factory=dict)
    attachments: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    skips: Counter[SkipReason] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    decided: Kind = field(default_factory=Kind)
    remarks: list[Remark] = field(default_factory=list)
    rows: int = 0
    largest: int = 0
    largest_of: str = ""
    clipped: int = 0
    most_clipped: tuple[int, str, str] = (0, "", "")
    reserved: int = 0
    personal: frozenset[int] = frozenset()
    own: Counter[int] = field(default_factory=Counter)
    _untold: int = 0

    def add(self, item: Item) -> None:
        """Count one item of the plan."""
        if isinstance(item, Problem):
            self._problem(item)
        elif isinstance(item, Skip):
            self.skips[item.reason] += 1
        elif isinstance(item, Decided):
            self.decided.add(f"{item.key} ({item.column})")
        elif isinstance(item, Remark):
            self.remarks.append(item)
        else:
            self._letter(item.letter)
            if isinstance(item, Merged):
                self._mail(item)

    def _problem(self, problem: Problem) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)
            return
        self._untold += 1
        self.problems[MOST_PROBLEMS:] = [Problem(f"and {self._untold:,} more", todo="mend the first ones first")]

    def _letter(self, letter: Letter) -> None:
        recipient = letter.recipient
        self.letters += 1
        self.rows += recipient.rows
        self.languages[letter.language] += 1
        self.channels[recipient.channel] += 1
        self.groups[recipient.fields.get("group") or "(no group)"] += 1
        self.lists[recipient.place.file] += 1
        if recipient.language and recipient.language.lower() != letter.language.lower():
            pair = f"{recipient.language} → {letter.language}"
            self.fallbacks[pair] += 1
            if self.fallbacks[pair] <= MOST_NAMED:
                self.fallback_keys.setdefault(pair, []).append(letter.key)
        for number, attachment in enumerate(letter.attachments):
            if number in self.personal:
                self.own[number] += 1
            else:
                self.attachments[(attachment.path, attachment.name, attachment.size)] += 1

    def _mail(self, merged: Merged) -> None:
        letter = merged.letter
        if merged.message.size > self.largest:
            self.largest, self.largest_of = merged.message.size, letter.key
        if len(merged.rendering.html) > LONGEST_HTML // 4:  # octets a character
            self._measure(letter, len(merged.rendering.html.encode()))
        self.reserved += any(is_reserved(m.address) for m in letter.recipient.mailboxes)

    def _measure(self, letter: Letter, octets: int) -> None:
        if octets > LONGEST_HTML:
            self.clipped += 1
            self.most_clipped = max(self.most_clipped, (octets, letter.key, letter.language))


class Planner:
    """Makes the plan of one campaign. `items` may be run once."""

    def __init__(
        self, campaign: Campaign, merge: Merge, find_attachment: FindAttachment, place: PlaceOf, register: Register
    ) -> None:
        self._campaign = campaign
        self._merge = merge
        self._find = find_attachment
        self._place = place
        self._register = register
        self._lint = merge.renderer.lint(campaign.letter.overlook)
        self._shared: dict[tuple[int, str], Attachment] = {}
        self._used = merge.renderer.words.union(*map(_FIELD.findall, campaign.letter.attachments))
        own = (campaign.sender.mailbox("address"), campaign.sender.mailbox("return_path"))
        self._own = {mailbox.identity for mailbox in own}

    def items(self, lists: Iterable[tuple[RecipientsList, Sequence[str], Iterator[Row]]]) -> Iterator[Item]:
        """Letters, skips and problems, in the order of the rows, then what is to be remarked on the letters.

        `lists` gives each list's columns and rows.
        """
        told: set[tuple[str, int | None]] = set()
        for number, (spec, columns, rows) in enumerate(lists):
            problems = [*_column_problems(spec, columns), *self._group_problems(number, spec, columns)]
            if problems:
                yield from problems
                continue
            for problem in self._foreign_fields(columns):
                told.add((problem.where.file, problem.where.line))
                yield problem
            for item in self._list(number, spec, rows):
                if isinstance(item, Skip):
                    self._register.leave_out(item)
                yield item
        for remark in self._lint.remarks():
            if remark.kind == "placeholder" and (remark.where.file, remark.where.line) in told:
                continue  # said already, and what to write there
            yield remark
            if remark.grave:
                yield remark.problem

    def _foreign_fields(self, columns: Sequence[str]) -> Iterator[Problem]:
        if "placeholder" not in self._campaign.letter.overlook:
            yield from foreign_fields(self._merge.renderer.source.letters.values(), columns)

    def _list(self, number: int, spec: RecipientsList, rows: Iterator[Row]) -> Iterator[Item]:
        try:
            condition = Expression(spec.where, self._place("recipients", number, "where")) if spec.where else None
            for place, fields in rows:
                if condition and not condition.holds(fields):
                    yield Skip(_own_key(fields), SkipReason.FILTERED, f"not {spec.where}", place)
                elif spec.group_by:
                    self._register.set_aside(fields[spec.group_by], place, fields)
                else:
                    yield self._row(place, fields)
            if spec.group_by:
                for key, some, count in self._register.households(LARGEST):
                    yield from self._household(key, some, count) if key else (self._row(*row) for row in some)
        except UsageError as error:  # what concerns the whole list: the condition, an attachment of all, the file
            yield from error.problems
        if spec.group_by:
            self._register.forget_aside()

    def _group_problems(self, number: int, spec: RecipientsList, columns: Sequence[str]) -> Iterator[Problem]:
        if spec.group_by and spec.group_by not in columns:
            todo = f"{did_you_mean(spec.group_by, columns)}Columns are: {', '.join(columns)}"
            yield Problem(f"there is no column '{spec.group_by}'", self._place("recipients", number, "group_by"), todo)

    def _row(self, place: Place, fields: Mapping[str, str]) -> Item:
        try:
            recipient = self._recipient(place, fields)
            if twin := self._twin(recipient):
                return twin
            merged = self._merged(recipient)
        except CampaignError:
            raise
        except UsageError as error:
            return self._invalid(_own_key(fields), place, error)
        self._register.add(merged.letter)
        return merged

    def _merged(self, recipient: Recipient) -> Merged | OnPaper:
        merge = self._merge.on_paper if recipient.channel is Channel.PAPER else self._merge.merge
        return merge(recipient, self._attachments(recipient), self._lint)

    def _household(self, key: str, rows: Sequence[Row], count: int) -> Iterator[Item]:
        """One letter for its rows, and an item for each row that does not belong to it."""
        if count > len(rows):
            what = f"household {key} has {count:,} rows; a letter is for {LARGEST} at most"
            yield Problem(what, replace(rows[0][0], recipient=key), "group_by another column, or split it up")
            return
        items = [self._member(key, place, fields) for place, fields in rows]
        members = [item for item in items if isinstance(item, Recipient)]
        yield from (item for item in items if not isinstance(item, Recipient))
        if members and not any(isinstance(item, Problem) for item in items):
            yield from self._letter_of_all(key, members)

    def _member(self, key: str, place: Place, fields: Mapping[str, str]) -> Recipient | Skip | Problem:
        """A row of a household, or what is to be done about it."""
        try:
            require_copy(fields, place)
            recipient = self._recipient(place, fields, key)
        except UsageError as error:
            return self._invalid(key, place, error)
        return self._met_mailbox(recipient) or recipient

    def _letter_of_all(self, key: str, members: Sequence[Recipient]) -> Iterator[Item]:
        if twin := self._met_key(members[0]):
            yield from (replace(twin, place=m.place) for m in members) if isinstance(twin, Skip) else [twin]
            return
        found = dict(conflicts(key, members, self._used))
        if found and self._campaign.on_conflict == "refuse":
            yield from found.values()
            return
        yield from (Decided(key, column) for column in found)
        try:
            recipient = united(key, members)
            merged = self._merged(recipient)
        except CampaignError:
            raise
        except UsageError as error:
            item = self._invalid(key, members[0].place, error)
            yield from (replace(item, place=m.place) for m in members) if isinstance(item, Skip) else [item]
        else:
            self._register.add(merged.letter)
            yield merged

    def _recipient(self, place: Place, fields: Mapping[str, str], household: str = "") -> Recipient:
        channel = _channel(place, fields.get("channel", ""))
        written = channel is Channel.PAPER and not fields.get("email")
        to = () if written else _parsed("email", place, fields.get("email", ""))
        cc = _parsed("cc", place, fields["cc"]) if fields.get("cc") else ()
        if len(to) == 1 and not to[0].name and fields.get("name"):
            to = (Mailbox(to[0].address, fields["name"], to[0].identity),)
        for mailbox in (*to, *cc):
            if mailbox.identity in self._own:
                todo = "take it off the list: bounces and answers to oneself go in circles"
                raise UsageError(Problem(f"{mailbox.address} is our own sender or bounce address", place, todo))
        key = unicodedata.normalize("NFC", household or fields.get("key") or (to[0].identity if to else ""))
        if not key:
            what = "a letter on paper without an e-mail address needs a key"
            raise UsageError(Problem(what, replace(place, column="column key"), "give the row a short code as key"))
        if FORBIDDEN.search(key) or len(key.encode()) > LONGEST_KEY:
            what = f"the key has a line break or control character in it, or more than {LONGEST_KEY} octets"
            where = place if household else replace(place, column="column key")
            raise UsageError(Problem(what, where, "use a short plain code as key"))
        there = {mailbox.identity for mailbox in to}
        cc = tuple(mailbox for mailbox in cc if mailbox.identity not in there)
        language = _language(place, fields.get("language", ""))
        return Recipient(key, to, cc, language, fields, place, channel=channel)

    def _twin(self, recipient: Recipient) -> Skip | Problem | None:
        """What to do with a row whose key or mailbox has been met before."""
        return self._met_key(recipient) or self._met_mailbox(recipient)

    def _met_key(self, recipient: Recipient) -> Skip | Problem | None:
        if not (earlier := self._register.with_key(recipient.key)):
            return None
        key, place = earlier
        what = f"key {recipient.key} stands twice, first at {place}"
        if key != recipient.key:
            what = f"key {recipient.key} is key {key} at {place} but for capital and small letters"
        return self._duplicate(recipient, what, skip=self._campaign.on_duplicate != "refuse")

    def _met_mailbox(self, recipient: Recipient) -> Skip | Problem | None:
        decision = self._campaign.on_duplicate
        for mailbox in recipient.mailboxes if decision != "each" else ():
            if earlier := self._register.with_mailbox(mailbox.identity):
                key, place = earlier
                what = f"{mailbox.address} is also recipient {key}'s, at {place}"
                return self._duplicate(recipient, what, skip=decision == "first")
        return None

    def _duplicate(self, recipient: Recipient, what: str, *, skip: bool) -> Skip | Problem:
        if skip:
            return Skip(recipient.key, SkipReason.DUPLICATE, what, recipient.place)
        todo = (
            'delete one row, or decide for all in campaign.toml: on_duplicate = "first" (one letter a mailbox) '
            'or "each" (one letter a key)'
        )
        return Problem(what, replace(recipient.place, recipient=recipient.key), todo)

    def _invalid(self, key: str, place: Place, error: UsageError) -> Skip | Problem:
        first = error.problems[0]
        if self._campaign.on_invalid == "skip":
            return Skip(key, SkipReason.INVALID, first.what, place)
        where = first.where if first.where.file else replace(place, column=first.where.column)
        return Problem(first.what, replace(where, recipient=key), first.todo or "mend the row")

    def _attachments(self, recipient: Recipient) -> tuple[Attachment, ...]:
        patterns = enumerate(self._campaign.letter.attachments)
        found = tuple(self._attachment(number, pattern, recipient) for number, pattern in patterns)
        shown: dict[str, Attachment] = {}
        for number, one in enumerate(found):
            other = shown.setdefault(one.name.casefold(), one)
            if other is not one:
                what = f"{other.path} and {one.path} are both shown as {one.name}: saved together, one would be lost"
                todo = "give each a name of its own under [attachments] in the letter's front matter"
                place = replace(self._place("letter", "attachments", number), recipient=recipient.key)
                raise CampaignError(Problem(what, place, todo))
        return found

    def _attachment(self, number: int, pattern: str, recipient: Recipient) -> Attachment:
        language = self._merge.renderer.language(recipient)
        if found := self._shared.get((number, language)):
            return found
        place = replace(self._place("letter", "attachments", number), recipient=recipient.key)
        names = {name: _path_part(name, recipient, language, place) for name in _FIELD.findall(pattern)}
        path = _FIELD.sub(lambda found: names[found.group(1)], pattern)
        shown = self._shown_name(language, path, pattern, names, place)
        if names.keys() <= {"language"}:
            self._shared[number, language] = self._find(path, shown, number, recipient)
            return self._shared[number, language]
        try:
            return self._find(path, shown, number, recipient)
        except CampaignError as error:  # the file of this one recipient
            problems = (replace(p, where=replace(p.where, recipient=recipient.key)) for p in error.problems)
            raise UsageError(*problems) from None

    def _shown_name(self, language: str, path: str, pattern: str, values: Mapping[str, str], place: Place) -> str:
        """What the recipient sees as the name of a file: what the letter says of it or of its pattern, or its own."""
        names = self._merge.renderer.shown_names(language)
        file, of_all = path.rpartition("/")[2], pattern.rpartition("/")[2]
        if file in names or of_all not in names:
            return attachment_name(names.get(file, file))
        if unknown := set(_FIELD.findall(names[of_all])) - values.keys():
            what = f"the name shown for {of_all} has {{{min(unknown)}}} in it, which its path has not"
            raise CampaignError(
                Problem(what, place, "take it out of the letter's [attachments], or put it into the path")
            )
        return attachment_name(_FIELD.sub(lambda found: values[found.group(1)], names[of_all]))


def named_in_vain(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Names of files that a letter shows otherwise, though no path in `letter.attachments` can end in them."""
    files = [pattern.rpartition("/")[2] for pattern in patterns]
    ends = [".+".join(map(re.escape, re.split(r"\{\w+\}", file))) for file in files]
    return [name for name in names if name not in files and not any(re.fullmatch(end, name) for end in ends)]


def _own_key(fields: Mapping[str, str]) -> str:
    """What a row is known by that need not be a good one."""
    return fields.get("key") or fields.get("email", "")


def _parsed(column: str, place: Place, text: str) -> tuple[Mailbox, ...]:
    try:
        return parse_mailboxes(text)
    except AddressError as error:
        raise UsageError(Problem(str(error), replace(place, column=f"column {column}"), "mend the row")) from None


def _language(place: Place, text: str) -> str:
    """The language asked for, as a tag (RFC 5646 §2.1; its well-formedness alone), or ''."""
    code = text.replace("_", "-")
    if code and not _LANGUAGE.fullmatch(code):
        where = replace(place, column="column language")
        raise UsageError(Problem(f"language {text!r} is not a code", where, "write a code such as fr"))
    return code


def _channel(place: Place, text: str) -> Channel:
    """What carries the letter; mail unless the row says otherwise."""
    word = text.casefold()
    if word in ("", Channel.MAIL):
        return Channel.MAIL
    if word == Channel.PAPER:
        return Channel.PAPER
    todo = f"{did_you_mean(text, list(Channel))}Write mail or paper, or leave it empty: then it goes by mail"
    raise UsageError(Problem(f"there is no channel {text!r}", replace(place, column="column channel"), todo))


def _path_part(name: str, recipient: Recipient, language: str, place: Place) -> str:
    own = {"key": recipient.key, "language": language}
    text = own.get(name, recipient.fields.get(name))
    if text is None:
        todo = f"{did_you_mean(name, recipient.fields)}Name a column of the list in {{…}}"
        raise CampaignError(Problem(f"there is no column '{name}'", place, todo))
    if not text or _UNSAFE_IN_PATH.search(text):
        what = f"'{name}' is {text!r}, which cannot be part of a file name"
        raise UsageError(Problem(what, place, "use a column with plain short codes, such as key"))
    return text


def _column_problems(spec: RecipientsList, columns: Sequence[str]) -> Iterator[Problem]:
    here = Place(spec.source, 1)
    if "email" not in columns and "channel" not in columns:
        known = ", ".join(columns)
        near = next((c for c in columns if "mail" in c.lower()), None)
        todo = f"rename column '{near}' to 'email'" if near else "add a column 'email'"
        yield Problem("there is no column 'email'", here, f"{todo}. Columns are: {known}")
    meant = KNOWN_COLUMNS | {"copy"} if spec.group_by else KNOWN_COLUMNS
    for name in columns:
        if name in RESERVED:
            yield Problem(f"column '{name}' has a name that templates use for something else", here, "rename it")
        elif name.lower() in meant and name.lower() not in columns and name.lower() != "email":
            # not taken for it in silence: a 'Language' that is not read would send wrong letters
            yield Problem(f"column '{name}' is not '{name.lower()}'", here, f"rename it to '{name.lower()}'")
