"""DKIM signatures before four judges of other makers, from the keys in campaign.toml to what a relay stores."""

import errno
import hashlib
import os
import random
import re
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from dispatcher.core.compose import Composer, dated, message_digest, message_id
from dispatcher.core.dkim import Canonicalisation, Signer, signed
from dispatcher.core.errors import UsageError
from dispatcher.core.model import Attachment, Mailbox, Message, Recipient, Rendering
from dispatcher.desk import Desk
from dispatcher.desk.dkim import make_key
from dispatcher.dispatch import Dispatch
from dispatcher.relays.content import blocks
from dispatcher.relays.profiles import profiles
from dispatcher.signing.dkim import Key, key_of, new_key
from dispatcher.sources.campaign import read_campaign
from tests.command import dispatcher, new_campaign, use_server
from tests.judges import Verdicts, by_dkimpy, by_mailauth, by_opendkim, by_perl, strings
from tests.servers.names import NameServer, Odd
from tests.smtp_server import RESET, Actions, Script, SmtpServer
from tests.test_compose import HEADERS, attached
from tests.torture import Leap, judge, run, write_campaign

NOW = datetime.now(UTC)
DOMAIN = "example.org"
BOTH = {"r1", "e1"}  # keys of RSA and of Ed25519
HOW: tuple[Canonicalisation, ...] = ("relaxed/relaxed", "relaxed/simple")
BLANKS = (" ", "  ", "\t", " \t ", "\n", " \n", "\n\n", "\n \n", "\n.", "\n..\n", "\u00a0", "=20", "é", "ក", " ")
FILES = [b"", b"\n\n\n", b"x \t \r\n" * 30, bytes(range(256)) * 700]
PREPENDED = (
    b"Subject: another\r\n", b"From: other@example.org\r\n", b"To: x@example.org\r\n", b"Cc: x@example.org\r\n",
    b"Reply-To: x@example.org\r\n", b"Date: Thu, 1 Oct 2009 09:30:00 +0200\r\n", b"Message-ID: <x@example.org>\r\n",
    b"Content-Type: text/html\r\n", b"Content-Transfer-Encoding: base64\r\n", b"MIME-Version: 1.0\r\n",
    b"List-Unsubscribe: <https://example.org/>\r\n", b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
)  # fmt: skip
Judge = Callable[[Sequence[bytes], Mapping[str, str]], Verdicts]


@cache
def keys() -> dict[str, Key]:
    return {"r1": key_of(new_key("rsa")), "e1": key_of(new_key("ed25519"))}


def signers() -> list[Signer]:
    return [Signer(DOMAIN, selector, key.algorithm, key.sign) for selector, key in keys().items()]


def records() -> dict[str, str]:
    return {f"{selector}._domainkey.{DOMAIN}": key.record for selector, key in keys().items()}


@cache
def letters(count: int, seed: int = 6376) -> tuple[Message, ...]:
    """Random ones: texts that are nasty to whoever tidies blanks and line ends, with attachments, or Cc, or a logo."""
    draw = random.Random(seed)
    octets = {hashlib.sha256(each).hexdigest(): each for each in FILES}
    logo = Attachment("logo.png", "image/png", hashlib.sha256(FILES[2]).hexdigest(), len(FILES[2]))
    composers = [Composer(HEADERS), Composer(HEADERS, logo=logo)]

    def text(most: int) -> str:
        pieces = (
            draw.choice(BLANKS) if draw.random() < 0.4 else "".join(draw.choices("abcXYZ.;:", k=5)) for _ in range(most)
        )
        return "".join(pieces)

    found = []
    for number in range(count):  # one in two has relaxed/simple
        cc = (Mailbox(f"c{number}@example.org"),) if draw.random() < 0.3 else ()
        to = (Mailbox(f"k{number}@example.org", f"Côte {number}", f"k{number}@example.org"),)
        recipient = Recipient(f"K{number}", to, cc=cc, language="en")
        subject = " ".join(text(draw.randrange(1, 40)).replace(".", " ").split()) or "x"
        rendering = Rendering(subject, text(draw.randrange(1, 400)), text(draw.randrange(1, 400)), "en")
        files = [attached(each, f"report {at}.pdf") for at, each in enumerate(draw.sample(FILES, draw.randrange(4)))]
        made = draw.choice(composers).compose(
            recipient, rendering, message_id("upr-2009", recipient.key, DOMAIN), files, octets.__getitem__
        )
        found.append(signed(dated(made, NOW.replace(microsecond=0)), signers(), HOW[number % 2], NOW))
    return tuple(found)


@pytest.mark.parametrize(("judge", "able"), [(by_dkimpy, BOTH), (by_mailauth, BOTH), (by_perl, {"r1"})])
def test_judges_of_a_thousand_letters(judge: Judge, able: set[str]) -> None:
    messages = [message.octets for message in letters(1000)]
    assert [verdict & able for verdict in judge(messages, records())] == [able] * 1000


@pytest.mark.parametrize("judge", [by_dkimpy, by_mailauth, by_perl])
def test_one_added_field_breaks_it(judge: Judge) -> None:
    """Or a word changed in what all letters share."""
    message = letters(1000)[0].octets
    broken = [added + message for added in PREPENDED]
    broken.append(message.replace(b"Auto-Submitted: auto-generated", b"Auto-Submitted: no"))
    broken.append(message.removesuffix(b"--\r\n") + b"--\r\n.\r\n")
    assert judge(broken, records()) == [set()] * len(broken)


def test_octets_of_a_signed_letter() -> None:
    """The signature is on top, in short lines; what is digested is the letter, signed or not."""
    for message in letters(1000)[:50]:
        assert message.octets == message.signature + replace(message, signature=b"").octets
        assert message.size == len(message.octets)
        assert message_digest(message) == message_digest(replace(message, signature=b""))
        lines = message.signature.split(b"\r\n")
        assert max(map(len, lines)) <= 76
        assert [line.partition(b":")[0] for line in lines if line[:1] not in (b" ", b"")] == [b"DKIM-Signature"] * 2
        assert b"".join(blocks(message)).replace(b"\r\n..", b"\r\n.") == message.octets


def test_without_a_body() -> None:
    """Nothing, an empty line, or empty lines at the end; and a last line that has no end."""
    header = letters(1000)[0].own.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    bodies = [b"", b"\r\n", b"\r\n\r\n", b" \r\n", b"\t \r\n\r\n", b"x \r\n \r\n\r\n", b"x", b"x\r\ny z"]
    date = letters(1000)[0].date
    for how in HOW:
        made = [signed(Message(date, header + body), signers(), how, NOW).octets for body in bodies]
        made += [signed(Message(date, header, (body, b"")), signers(), how, NOW).octets for body in bodies]
        made += [
            signed(Message(date, header + b"a\r\n", (body, b"\r\n")), signers(), how, NOW).octets for body in bodies
        ]
        assert by_mailauth(made, records()) == [BOTH] * len(made), how
        assert by_dkimpy(made, records()) == [BOTH] * len(made), how


def test_opendkim(tmp_path: Path) -> None:
    messages = [message.octets for message in letters(1000)]
    assert by_opendkim(messages, records(), tmp_path) == [True] * 1000
    for each in signers():  # alone: by RSA, and by Ed25519
        alone = [signed(message, [each], HOW[at % 2], NOW).octets for at, message in enumerate(letters(1000)[:20])]
        assert by_opendkim(alone, records(), tmp_path) == [True] * 20, each.algorithm
    broken = [added + messages[0] for added in PREPENDED]
    assert by_opendkim(broken, records(), tmp_path) == [False] * len(broken)


# From campaign.toml to the relay.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign that signs with both keys."""
    folder = new_campaign(tmp_path / "campaign")
    for selector, key in keys().items():
        path = folder / f"{selector}.pem"
        path.write_bytes(pem_of(key))
        path.chmod(0o600)
    with (folder / "campaign.toml").open("a") as file:
        file.write('\n[dkim]\nkeys = { r1 = "r1.pem", e1 = "e1.pem" }\n')
    return folder


def pem_of(key: Key) -> bytes:
    return key.held.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def records_of(folder: Path) -> dict[str, str]:
    domain = read_campaign(folder, profiles()).sender.address.rpartition("@")[2]
    return {f"{selector}._domainkey.{domain}": key.record for selector, key in keys().items()}


def test_letters_and_tests_leave_signed(folder: Path, tmp_path: Path) -> None:
    """Ledger and dossier hold without the keys: what they have is the letter, not its signatures."""
    with SmtpServer() as server:
        use_server(folder, server)
        assert dispatcher("send", "--test-to", "me@example.org", folder=folder).code == 0
        tests = len(server.stored)
        assert tests
        done = dispatcher("send", "--confirm", "6", folder=folder)
        assert done.code == 0, done
        stored = [each.octets for each in server.stored]
        assert len(stored) == tests + 6
    assert by_mailauth(stored, records_of(folder)) == [BOTH] * len(stored)
    assert by_dkimpy(stored, records_of(folder)) == [BOTH] * len(stored)
    assert by_perl(stored, records_of(folder)) == [{"r1"}] * len(stored)
    for selector in keys():
        (folder / f"{selector}.pem").unlink()
    assert dispatcher("verify", folder=folder).code == 0
    assert dispatcher("dossier", str(tmp_path / "d"), "--messages", folder=folder).code == 0
    assert dispatcher("verify", str(tmp_path / "d"), folder=folder).code == 0
    left = {octets.partition(b"\r\nDate: ")[2] for octets in stored[tests:]}
    kept = {path.read_bytes().removeprefix(b"Date: ") for path in (tmp_path / "d/messages").iterdir()}
    assert kept == left


def test_a_key_that_cannot_be_had(folder: Path) -> None:
    """Said before anything is sealed, without a word of the key."""
    with SmtpServer() as server:
        use_server(folder, server)
        path = folder / "e1.pem"

        def refused(what: str) -> None:
            done = dispatcher("send", "--confirm", "6", folder=folder)
            assert done.code == 2, done
            assert what in done.err
            assert "dkim.keys.e1" in done.err
            assert b"PRIVATE" not in done.all.encode()
            assert not (folder / ".dispatcher/ledger.sqlite").exists() or not server.stored

        path.chmod(0o640)
        refused("can be read by others")
        path.chmod(0o600)
        path.write_bytes(b"no key")
        refused("e1.pem: it holds no private key")
        weak = generate_private_key(65537, 1024)
        path.write_bytes(weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        refused("1,024 bits")
        path.write_bytes(weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
        refused("locked")
        path.unlink()
        refused("does not exist")
    assert dispatcher("send", "--sandbox", folder=folder).code == 0, "a rehearsal needs no secret"


def test_preflight_says_how_it_stands_with_the_keys(folder: Path) -> None:
    """The files, and whether what is published is theirs; if it is not, with the record that would be."""
    domain = read_campaign(folder, profiles()).sender.address.rpartition("@")[2]
    good = {selector: f"{selector}._domainkey TXT {strings(key.record)}" for selector, key in keys().items()}
    other = f"r1._domainkey TXT {strings(key_of(new_key('rsa')).record)}"

    def said(*zone: str) -> list[tuple[str, str, list[str]]]:
        with SmtpServer() as server, NameServer({domain: "\n".join(zone)}) as names:
            use_server(folder, server)
            plain = (folder / "campaign.toml").read_text()
            (folder / "campaign.toml").write_text(f'{plain}\n[preflight]\nresolver = "{names.address}"\n')
            found = dispatcher("preflight", "--json", folder=folder).json["lines"]
            (folder / "campaign.toml").write_text(plain)
        return [(line["status"], line["what"], line["records"]) for line in found if line["subject"] == "DKIM"]

    assert [status for status, _, _ in said(*good.values())] == ["ok"] * 4
    *_, first, second = said(other)
    assert first[:2] == ("problem", f"r1._domainkey.{domain} publishes another key than the one that signs")
    assert second[:2] == ("problem", f"e1._domainkey.{domain} is not published")
    records = [record["record"] for record in dispatcher("dkim", "record", "--json", folder=folder).json["records"]]
    assert [first[2], second[2]] == [[each] for each in records]

    (folder / "r1.pem").chmod(0o640)
    (folder / "e1.pem").unlink()
    words = [what for status, what, _ in said(*good.values()) if status == "problem"]
    assert words == [
        "campaign.toml, key dkim.keys.r1: r1.pem can be read by others",
        "campaign.toml, key dkim.keys.e1: e1.pem does not exist",
    ]


def test_connections_that_break_while_letters_are_signed(tmp_path: Path) -> None:
    """Each letter once, and signed, though sessions end under letters that a thread still signs."""
    for selector, key in keys().items():
        (tmp_path / f"{selector}.pem").write_bytes(pem_of(key))
        (tmp_path / f"{selector}.pem").chmod(0o600)
    on: dict[str, Actions] = {
        "MAIL": [RESET if number % 7 == 3 else b"250 ok\r\n" for number in range(61)],
        "DATA": [b"421 4.3.2 closing\r\n" if number % 9 == 4 else b"354 go on\r\n" for number in range(61)],
    }
    with SmtpServer(Script(on=on)) as server:
        write_campaign(tmp_path, server.port, 150)
        with (tmp_path / "campaign.toml").open("a") as file:
            file.write('\n[dkim]\nkeys = { r1 = "r1.pem", e1 = "e1.pem" }\ncanonicalisation = "relaxed/simple"\n')
        assert run(tmp_path, clock=Leap(NOW - timedelta(hours=6)), wait=True).exit_code == 0
    stored = [each.octets for each in server.stored]
    assert by_mailauth(stored, records_of(tmp_path)) == [BOTH] * 150
    bare = [octets[octets.index(b"\r\nDate: ") + 2 :] for octets in stored]
    server.stored[:] = [replace(each, octets=octets) for each, octets in zip(server.stored, bare, strict=True)]
    judge(tmp_path, server, 150, complete=True)


def test_signing_that_fails_sends_nothing(tmp_path: Path) -> None:
    """It is done in other threads than the run's; its error ends the run, and all letters wait."""
    threads = set[int]()

    def watch(dispatch: Dispatch) -> None:
        def sign(message: Message, when: datetime) -> Message:
            threads.add(threading.get_ident())
            raise ValueError("no signature")

        dispatch._shop = replace(dispatch._shop, sign=sign)

    with SmtpServer() as server:
        write_campaign(tmp_path, server.port, 20)
        with pytest.raises(ValueError, match="no signature"):
            run(tmp_path, observe=watch)
        assert not server.stored
        assert threads
        assert threading.get_ident() not in threads
        assert run(tmp_path).exit_code == 0
    judge(tmp_path, server, 20, complete=True)


# The commands.


def test_a_key_on_a_full_disk_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next try would find a key there, and not write over it."""
    folder = new_campaign(tmp_path / "campaign")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(UsageError, match=r"keys/s1\.pem cannot be written: No space left"):
            make_key(Desk(folder), "s1", "rsa")
    name, _, _ = make_key(Desk(folder), "s1", "rsa")
    assert b"PRIVATE KEY" in (folder / name).read_bytes()


def test_from_keygen_to_check(tmp_path: Path) -> None:
    """A key for its owner alone, over nothing; the record as a zone has it; what is published against the key."""
    folder = new_campaign(tmp_path / "campaign")
    without = dispatcher("dkim", "record", folder=folder).err
    assert "there is no [dkim] in campaign.toml" in without
    assert 'if there is one, write under [dkim]: keys = { s1 = "keys/s1.pem" }' in without
    assert "is no selector" in dispatcher("dkim", "keygen", "a b", folder=folder).err
    said = [
        dispatcher("dkim", "keygen", "s1", folder=folder),
        dispatcher("dkim", "keygen", "s2", "--kind", "ed25519", folder=folder),
    ]
    assert [done.code for done in said] == [0, 0]
    pems = [(folder / f"keys/{selector}.pem").read_text() for selector in ("s1", "s2")]
    if os.name == "posix":
        assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "keys").iterdir()} == {0o600}
    again = dispatcher("dkim", "keygen", "s1", folder=folder)
    assert again.code == 2
    assert "exists, and is not written over" in again.err
    assert "or use this one: name it under [dkim]" in again.err
    assert pems[0] == (folder / "keys/s1.pem").read_text()

    with (folder / "campaign.toml").open("a") as file:
        file.write('\n[dkim]\nkeys = { s1 = "keys/s1.pem", s2 = "keys/s2.pem" }\n')
    printed = dispatcher("dkim", "record", folder=folder)
    lines = printed.out.splitlines()
    assert [line in done.out for line, done in zip(lines, said, strict=True)] == [True, True]
    assert [len(text) for text in re.findall(r'"([^"]*)"', lines[0])] == [
        255,
        len(key_of(pems[0].encode()).record) - 255,
    ]
    for line in "".join(pems).splitlines():
        assert line.startswith("-----") or line not in printed.all + said[0].all + said[1].all
    found = dispatcher("dkim", "record", "--json", folder=folder).json["records"]
    assert [each["text"] for each in found] == [key_of(pem.encode()).record for pem in pems]

    domain = read_campaign(folder, profiles()).sender.address.rpartition("@")[2]
    other = key_of(new_key("rsa")).record

    def checked(zone: str, odd: Mapping[str, Odd] | None = None) -> tuple[int, list[str]]:
        with NameServer({domain: zone}, odd) as names:
            text = (folder / "campaign.toml").read_text()
            (folder / "campaign.toml").write_text(f'{text}\n[preflight]\nresolver = "{names.address}"\n')
            done = dispatcher("dkim", "check", "--json", folder=folder)
            shown = dispatcher("dkim", "check", folder=folder)
            (folder / "campaign.toml").write_text(text)
        assert done.code == shown.code == done.json["exit_code"]
        assert all(line["what"] in shown.out for line in done.json["lines"])
        return done.code, [line["what"].partition(" ")[2] for line in done.json["lines"]]

    good = "finds the signature of a letter good"
    assert checked("\n".join(lines)) == (0, [good, good])
    assert checked(lines[0]) == (2, [good, "is not published"])
    assert checked(f"s1._domainkey TXT {strings(other)}\n{lines[1]}") == (2, ["publishes another key", good])
    assert checked(f"s1._domainkey TXT {strings(found[1]['text'])}\n{lines[1]}") == (2, ["publishes another key", good])
    assert checked(f'{lines[0]}\ns2._domainkey TXT "k=ed25519; p=AAAA"') == (2, [good, "publishes another key"])
    assert checked(f'{lines[0]}\ns2._domainkey TXT "p="') == (2, [good, "publishes another key"])
    assert checked(f"{lines[0]}\n{lines[1]}\ns1._domainkey TXT {strings(other)}") == (2, ["has 2 records", good])
    code, what = checked("\n".join(lines), {f"s2._domainkey.{domain}": Odd.SERVFAIL})
    assert (code, what[0]) == (4, good)
    assert "SERVFAIL" in what[1]
