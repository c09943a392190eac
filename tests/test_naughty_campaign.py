"""Header injection: every naughty string in every field of a row and of [sender] is refused by name, or is harmless.

Harmless means: the message has exactly the planned headers, each once; exactly the planned mailboxes; and two parsers
see no defect. Whole campaign folders are read, from octets on disk to octets to send.
"""

import email
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email import policy
from pathlib import Path

import pytest

from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.merge import Merged
from dispatcher.desk import Desk
from dispatcher.desk.draft import Draft
from tests.command import dispatcher, edit, new_campaign, write_list
from tests.naughty import CONTROLS, ENCODED_WORD_TRICKS, HEADER_TRICKS, NAUGHTY, QUOTES_AND_SPECIALS, UNICODE

WHEN = datetime(2009, 10, 1, tzinfo=UTC)
COLUMNS = ("key", "email", "cc", "name", "kind", "post", "language", "group", "salutation", "call", "close", "rank",
           "gender", "status", "note")  # fmt: skip
PLAIN = {"name": "Example Organisation", "kind": "ngo", "language": "en", "note": "x", "rank": "organisation"}
WRITABLE = [text for text in NAUGHTY if text.isascii() or not re.search("[\ud800-\udfff]", text)]
"""All but lone surrogates, which no UTF-8 file can hold."""
PLANNED = [
    "date",
    "from",
    "to",
    "reply-to",
    "subject",
    "message-id",
    "organization",
    "content-language",
    "auto-submitted",
    "list-unsubscribe",
    "x-auto-response-suppress",
    "mime-version",
    "content-type",
]
FIELDS = ("key", "email", "cc", "name", "language", "group", "salutation", "call", "close", "rank", "gender", "note")
CHUNK = 60  # a list is read no further than its hundredth complaint


def header_names(octets: bytes) -> list[str]:
    """Names of the header fields, by hand: neither parser's opinion."""
    head = octets.partition(b"\r\n\r\n")[0]
    lines = (line for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t")))
    return [line.partition(b":")[0].decode().lower() for line in lines]


def harmless(octets: bytes, mailboxes: list[str], *, cc: bool = False, sender: str = "upr@kms.example.org") -> None:
    """Exactly what was planned, and nothing that another reader may take for more."""
    planned = [*PLANNED, "cc"] if cc else PLANNED
    assert sorted(header_names(octets)) == sorted(planned)
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", octets)
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    for rules in (policy.default, policy.compat32):
        message = email.message_from_bytes(octets, policy=rules)
        assert sorted(name.lower() for name in message) == sorted(planned)
        assert not [defect for part in message.walk() for defect in part.defects]
    modern = email.message_from_bytes(octets, policy=policy.default)
    found = [a.addr_spec for name in ("To", "Cc") if modern[name] for a in modern[name].addresses]
    assert sorted(found) == sorted(mailboxes)
    assert [a.addr_spec for a in modern["From"].addresses] == [sender]


def lists_of(folder: Path, field: str) -> dict[str, dict[int, str]]:
    """Lists with each naughty string in one field; by file, which string stands in which line."""
    written = {}
    for start in range(0, len(WRITABLE), CHUNK):
        name = f"naughty-{start}.csv"
        rows, line, where = [], 2, {}
        for number, text in enumerate(WRITABLE[start : start + CHUNK], start):
            row = {**PLAIN, "key": f"k{number}", "email": f"k{number}@list.example.org", field: text}
            rows.append(row)
            where[line] = text
            line += 1 + len(re.findall(r"\r\n|\r|\n", text))
        write_list(folder, name, COLUMNS, rows)
        written[f"recipients/{name}"] = where
    return written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The founding campaign with lists of naughty rows alone."""
    made = new_campaign(tmp_path / "campaign", [])
    toml = made / "campaign.toml"
    text = toml.read_text(encoding="utf-8")
    tables = "".join(f'[[recipients]]\nsource = "recipients/naughty-{n}.csv"\n' for n in range(0, len(WRITABLE), CHUNK))
    text = re.sub(r"(?ms)^\[\[recipients\]\].*?(?=^\[relay\])", lambda _: tables + "\n", text)
    toml.write_text(text, encoding="utf-8")
    return made


def merged_and_problems(folder: Path) -> tuple[list[tuple[Merged, bytes]], list[Problem]]:
    draft = Draft(folder)
    letters, problems = [], []
    for item in draft.items():
        if isinstance(item, Merged):
            letters.append((item, draft.merge.with_date(item, WHEN).octets))
        elif isinstance(item, Problem):
            problems.append(item)
    return letters, problems


@pytest.mark.parametrize("field", FIELDS)
def test_a_row(field: str, folder: Path) -> None:
    """Each row becomes a harmless letter, or a problem at its line; none is lost on the way."""
    written = lists_of(folder, field)
    letters, problems = merged_and_problems(folder)
    accounted = set()
    for merged, octets in letters:
        recipient = merged.letter.recipient
        harmless(octets, [m.address for m in recipient.mailboxes], cc=bool(recipient.cc))
        assert merged.envelope.forward_paths == tuple(m.address for m in recipient.mailboxes)
        accounted.add((recipient.place.file, recipient.place.line))
    for problem in problems:
        assert problem.what
        assert problem.todo
        assert problem.where.file
        assert problem.where.line or problem.where.recipient, problem
        assert "\r" not in str(problem.where)
        accounted.add((problem.where.file, problem.where.line))
    assert {(file, line) for file, where in written.items() for line in where} - accounted == set()


def test_both_kinds_are_met(folder: Path) -> None:
    """The strings are neither all refused nor all taken."""
    lists_of(folder, "name")
    letters, problems = merged_and_problems(folder)
    assert len(letters) > 100
    assert len(problems) > 50


def test_the_command_line_refuses_them_by_place(folder: Path) -> None:
    """check: exit 2, valid JSON, nothing unprintable; send: nothing leaves."""
    written = lists_of(folder, "name")
    done = dispatcher("check", "--json", folder=folder)
    assert done.code == 2
    places = [problem["where"] for problem in done.json["problems"]]
    assert all(any(place.startswith(file) for file in written) for place in places)
    assert all("name" in place or "recipient" in place for place in places)
    shown = dispatcher("check", folder=folder).all + dispatcher("send", "--sandbox", folder=folder).all
    assert sorted({c for c in shown if not c.isprintable() and c not in "\n\u00a0\u202f"}) == []
    assert not (folder / ".dispatcher").exists()


# [sender] and the rest of campaign.toml.

TEXTS = ("organisation", "name", "signatory", "postal_address")
ADDRESSES = ("address", "reply_to", "return_path")
TRICKS = ["", *CONTROLS[:40], *HEADER_TRICKS, *ENCODED_WORD_TRICKS, *QUOTES_AND_SPECIALS, *UNICODE]
SENDABLE = [text for text in TRICKS if not re.search("[\ud800-\udfff]", text)]


def variants(toml: str, field: str) -> Iterator[tuple[str, str]]:
    pattern = re.compile(rf"(?m)^{field} = .*$")
    assert pattern.search(toml)
    for text in SENDABLE:
        line = f"{field} = {json.dumps(text)}".replace("\x7f", "\\u007F")
        line = re.sub(r"\\ud[89ab]..\\ud[c-f]..", lambda m: json.loads(f'"{m[0]}"'), line)
        yield text, pattern.sub(lambda _, new=line: new, toml, count=1)  # type: ignore[misc]


@pytest.mark.parametrize("field", [*TEXTS, *ADDRESSES])
def test_a_field_of_the_sender(field: str, tmp_path: Path) -> None:
    """Refused with the key's name, or the message has exactly the planned headers and this sender."""
    folder = new_campaign(tmp_path / "campaign", ["fidh"])
    edit(folder / "recipients" / "ngos.csv", ", fidh.geneva@ngos.example.org", "")
    for other in ("fr", "es"):  # compiled anew for every text, and not looked at
        (folder / f"templates/upr_submission/letter.{other}.md").unlink()
    # Nor is the report, which would be opened anew in a process of its own.
    edit(folder / "campaign.toml", 'attachments = ["templates/upr_submission/report.pdf"]', "")
    edit(folder / "templates/upr_submission/letter.en.md", '"report.pdf" =', '# "report.pdf" =')
    original = (folder / "campaign.toml").read_text(encoding="utf-8")
    taken = refused = 0
    for text, toml in variants(original, field):
        (folder / "campaign.toml").write_text(toml, encoding="utf-8")
        try:
            letters, problems = merged_and_problems(folder)
        except UsageError as error:
            letters, problems = [], list(error.problems)
        if problems:
            assert all(field in str(p.where) + p.what for p in problems), (text, problems)
            refused += 1
            continue
        merged, octets = letters[0]
        sender = Desk(folder).campaign().sender
        harmless(octets, ["fidh@ngos.example.org"], sender=sender.mailbox("address").address)
        assert merged.envelope.return_path == sender.mailbox("return_path").address
        taken += 1
    assert refused > 40
    assert taken > 0
