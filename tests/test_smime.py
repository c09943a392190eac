"""S/MIME signatures before OpenSSL, from certificate and key in campaign.toml to what a relay stores."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from pypdf import PdfReader

from dispatcher.core.campaign import Campaign
from dispatcher.core.dkim import signed
from dispatcher.core.errors import SignatureError
from dispatcher.core.model import Mailbox, Message
from dispatcher.core.preflight import Status
from dispatcher.core.smime import certificate_lines, enclosed
from dispatcher.desk import Desk
from dispatcher.desk.signing import signing_of
from dispatcher.relays.content import blocks, chunk
from dispatcher.relays.profiles import profiles
from dispatcher.signing.smime import Pair, key_of, pair_of
from dispatcher.sources.campaign import read_campaign
from tests import canary, test_dkim
from tests.certificates import NOW, Wish, authority, chain, ec_key, issued, key_pem, rsa_key, sign_with
from tests.command import Done, dispatcher, edit, new_campaign, use_server
from tests.judges import by_dkimpy, by_mailauth
from tests.readers import Reading, by_mail_parser, by_node, by_standard_library
from tests.servers import require
from tests.smtp_server import Script, SmtpServer
from tests.test_compose import HEADERS, MISSION, RENDERING, attached, composed
from tests.torture import Leap

BOUNDARY = f"=_signed_{HEADERS.boundary[2:]}"
UTF8 = replace(MISSION, to=(Mailbox("légation@missions.example.org", "Légation", "légation@missions.example.org"),))


@cache
def pair(kind: str = "rsa", /, *, whole: bool = True) -> Pair:
    """A certificate with its key, and those of its issuers with it if it is whole."""
    key = rsa_key() if kind == "rsa" else ec_key()
    root, below = chain()
    return pair_of(issued(Wish(key=key), below) + (root.pem + below.pem if whole else b""), key)


def letters(count: int) -> list[Message]:
    """Nasty ones, without signatures; and one whose header is not 7-bit."""
    bare = [replace(message, signature=b"") for message in test_dkim.letters(1000)[:count]]
    return [*bare, composed(UTF8, replace(RENDERING, text="From here \n.\n..\n\n\t\n"))[0]]


def by_openssl(octets: bytes, folder: Path) -> bytes | None:
    """What is signed, as OpenSSL reads it; None if it does not find the signature good for mail."""
    openssl = require("openssl", "apt-get install openssl")
    letter, root, content = folder / "letter.eml", folder / "root.pem", folder / "content"
    letter.write_bytes(octets)
    root.write_bytes(chain()[0].pem)
    files = ["-in", str(letter), "-CAfile", str(root), "-out", str(content)]
    argv = [openssl, "cms", "-verify", "-purpose", "smimesign", *files]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    return content.read_bytes() if done.returncode == 0 else None


def entity(message: Message) -> bytes:
    """What of a letter is to be signed."""
    return b"Content-Type: " + message.own.partition(b"\r\nContent-Type: ")[2] + b"".join(message.shared)


# Signatures.


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_openssl_finds_random_letters_good(kind: str, tmp_path: Path) -> None:
    """What it finds signed is what was sealed, octet for octet; the fields outside are those that were there."""
    for message in letters(40):
        made = enclosed(message, BOUNDARY, pair(kind).sign)
        assert by_openssl(made.octets, tmp_path) == entity(message)
        header, planned = (each.own.partition(b"\r\nContent-Type: ")[0] for each in (made, message))
        assert header == planned


def test_one_changed_octet_breaks_it(tmp_path: Path) -> None:
    """Anywhere in the letter, in what it shares with others as well; and so does another's signature."""
    one, other = letters(9)[3:5]
    assert one.shared
    made = enclosed(one, BOUNDARY, pair().sign)
    begin, size = made.octets.index(entity(one)), len(entity(one))
    draw = random.Random(8551)
    for at in [0, size - 3, *(draw.randrange(size) for _ in range(40))]:
        octets = bytearray(made.octets)
        if octets[begin + at] in b"\r\n \t":  # of blanks and line ends some count for nothing
            continue
        octets[begin + at] = ord("x") if octets[begin + at] != ord("x") else ord("y")
        assert by_openssl(bytes(octets), tmp_path) is None, at
    swapped = replace(made, smime=enclosed(other, BOUNDARY, pair().sign).smime)
    assert by_openssl(swapped.octets, tmp_path) is None
    assert by_openssl(made.octets, tmp_path) is not None


def test_without_its_issuers_the_way_to_the_root_is_not_found(tmp_path: Path) -> None:
    """So those that are in the file go along with each letter."""
    message = letters(1)[0]
    assert by_openssl(enclosed(message, BOUNDARY, pair(whole=False).sign).octets, tmp_path) is None
    assert by_openssl(enclosed(message, BOUNDARY, pair().sign).octets, tmp_path)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "line ends of Unix": lambda octets: octets.replace(b"\r\n", b"\n"),
    "a mailbox file": lambda octets: octets.replace(b"\nFrom ", b"\n>From "),
    "blanks at line ends": lambda octets: b"\r\n".join(line.rstrip(b" \t") for line in octets.split(b"\r\n")),
    "a trace field": lambda octets: b"Received: from a by b; Thu, 1 Oct 2009 09:30:00 +0200\r\n" + octets,
    "another subject": lambda octets: octets.replace(b"\r\nSubject: ", b"\r\nSubject: [EXTERNAL] "),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_outlives_what_is_done_on_the_way(change: str, tmp_path: Path) -> None:
    for message in letters(12):
        made = enclosed(message, BOUNDARY, pair("ec").sign).octets
        assert by_openssl(CHANGES[change](made), tmp_path), change


def test_dkim_over_it() -> None:
    """Both body canonicalisations, by keys of both kinds; what is signed first is inside."""
    made = []
    for at, message in enumerate(letters(30)):
        how = test_dkim.HOW[at % 2]
        made.append(signed(enclosed(message, BOUNDARY, pair().sign), test_dkim.signers(), how, NOW).octets)
    assert by_mailauth(made[:-1], test_dkim.records()) == [test_dkim.BOTH] * 30
    assert by_dkimpy(made, test_dkim.records()) == [test_dkim.BOTH] * 31


def test_octets_on_the_wire() -> None:
    """What was signed goes as any letter does: short 7-bit lines, counted, stuffed behind DATA, whole behind BDAT."""
    for message in letters(40):
        made = signed(enclosed(message, BOUNDARY, pair().sign), test_dkim.signers(), test_dkim.HOW[0], NOW)
        assert made.size == len(made.octets)
        assert b"".join(blocks(made)).replace(b"\r\n..", b"\r\n.") == made.octets
        assert b"".join(chunk(made)) == b"BDAT %d\r\n" % made.size + made.octets
        assert made.isascii == message.isascii
        lines = made.octets.split(b"\r\n")
        assert not any(b"\r" in line or b"\n" in line or len(line) > 998 for line in lines)
        assert made.smime.isascii()


@pytest.mark.parametrize("reader", [by_standard_library, by_mail_parser, lambda octets: by_node([octets])[0]])
def test_every_program_shows_the_letter(reader: Callable[[bytes], Reading]) -> None:
    """Texts and files are those that they were; the signature is one file more."""
    for files in ((), (attached(),)):
        message = composed(MISSION, RENDERING, *files)[0]
        before, now = reader(message.octets), reader(enclosed(message, BOUNDARY, pair().sign).octets)
        assert (now.subject, now.to, now.text, now.html) == (before.subject, before.to, before.text, before.html)
        assert [file for file in now.files if file.name != "smime.p7s"] == list(before.files)
        assert len(now.files) == len(before.files) + 1


# From campaign.toml to the relay.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


def campaign_of(folder: Path) -> Campaign:
    return read_campaign(folder, profiles())


def test_letters_and_tests_leave_signed(folder: Path, tmp_path: Path) -> None:
    """By whom is in the ledger; all its evidence holds without key and certificate, for it is of what is inside."""
    sign_with(folder, Wish())
    facts = pair_of((folder / "office.pem").read_bytes(), rsa_key()).facts()
    assert not Path(str(facts)).exists()
    with SmtpServer(Script(ehlo=("CHUNKING", "PIPELINING", "SIZE 1000000"))) as server:
        use_server(folder, server)
        assert dispatcher("send", "--test-to", "me@example.org", folder=folder).code == 0
        done = dispatcher("send", "--limit", "2", "--confirm", "2", folder=folder)
        assert done.code == 0, done
        tests = len(server.stored) - 2
        stored = [each.octets for each in server.stored]
    with SmtpServer() as server:
        use_server(folder, server)
        assert dispatcher("send", "--confirm", "4", folder=folder).code == 0
        stored += [each.octets for each in server.stored]
    contents = [by_openssl(octets, tmp_path) for octets in stored]
    assert len(contents) == tests + 6
    assert None not in contents

    attempts = dispatcher("log", "--attempts", "--json", folder=folder).json["rows"]
    assert [row["smime"] for row in attempts] == [str(facts)] * 6
    assert f"smime: {facts}" in dispatcher("log", "FRA", folder=folder).out
    assert f"serial {facts.serial}, SHA-256 {facts.fingerprint}" in str(facts)

    for name in ("office.pem", "office.key"):
        (folder / name).unlink()
    assert dispatcher("verify", folder=folder).code == 0
    assert dispatcher("dossier", str(tmp_path / "d"), "--messages", folder=folder).code == 0
    assert dispatcher("verify", str(tmp_path / "d"), folder=folder).code == 0
    kept = [path.read_bytes() for path in (tmp_path / "d/messages").iterdir()]
    assert {b"Content-Type: " + each.partition(b"\r\nContent-Type: ")[2] for each in kept} == set(contents[tests:])
    assert facts.fingerprint in (tmp_path / "d/record/runs.jsonl").read_text()
    assert f"SHA-256 {facts.fingerprint}" in PdfReader(tmp_path / "d/dossier.pdf").pages[0].extract_text()
    assert dispatcher("dossier", str(tmp_path / "r"), "--redact", folder=folder).code == 0
    assert facts.fingerprint not in (tmp_path / "r/record/runs.jsonl").read_text()
    assert facts.fingerprint not in PdfReader(tmp_path / "r/dossier.pdf").pages[0].extract_text()


def test_with_dkim_both_are_good_and_preflight_knows_the_size(folder: Path, tmp_path: Path) -> None:
    """S/MIME is inside, or DKIM would be broken by it. Both count when the relay is asked whether it takes so much."""
    sign_with(folder, Wish())
    for selector, key in test_dkim.keys().items():
        (folder / f"{selector}.pem").write_bytes(test_dkim.pem_of(key))
        (folder / f"{selector}.pem").chmod(0o600)
    with (folder / "campaign.toml").open("a") as file:
        file.write('\n[dkim]\nkeys = { r1 = "r1.pem", e1 = "e1.pem" }\n')
    with SmtpServer(Script(ehlo=("SIZE 1000000",))) as server:
        use_server(folder, server)
        found = dispatcher("preflight", "--json", folder=folder).json["lines"]
        assert dispatcher("send", "--confirm", "6", "--skip-preflight", folder=folder).code == 0
        sizes = [int(each.rpartition(b"SIZE=")[2]) for each in server.commands if each.startswith(b"MAIL")]
        assert 0 <= sizes[0] - max(sizes[1:]) < 160  # fields might be there that are not
        stored = [each.octets for each in server.stored]
    assert max(sizes[1:]) == max(map(len, stored))
    assert by_dkimpy(stored, test_dkim.records_of(folder)) == [test_dkim.BOTH] * 6
    assert None not in [by_openssl(octets, tmp_path) for octets in stored]
    said = {line["subject"]: line for line in found if line["part"] == "sender"}
    assert said["S/MIME"]["status"] == "ok"
    assert "letters are signed by CN=KMS Secretariat for 299 more days" in said["S/MIME"]["what"]
    assert said["DKIM"]["what"] == "e1.pem signs letters for kms.example.org as e1, with ed25519-sha256"
    with SmtpServer(Script(ehlo=(f"SIZE {sizes[0] - 1}",))) as server:
        use_server(folder, server)
        assert dispatcher("preflight", folder=folder).code == 2


DAY = timedelta(days=1)
BAD: list[tuple[Wish, str]] = [
    (Wish(addresses=("other@kms.example.org",)), "is for other@kms.example.org, and letters are from"),
    (Wish(addresses=()), "is for no address"),
    (Wish(begins=NOW - 9 * DAY, ends=NOW - DAY), "the certificate has ended"),
    (Wish(begins=NOW + DAY), "is not good before"),
    (Wish(may_sign=False), "keyUsage does not permit signatures"),
    (Wish(purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)), "not for mail"),
    (Wish(key=rsa_key(1024)), "1,024 bits"),
]


@pytest.mark.parametrize(("wish", "words"), BAD)
def test_what_a_certificate_is_refused_for(folder: Path, wish: Wish, words: str) -> None:
    sign_with(folder, wish)
    with pytest.raises(SignatureError, match=words):
        signing_of(Desk(folder), campaign_of(folder))


def test_a_certificate_that_readers_would_not_take(folder: Path) -> None:
    """Said by `check` and `preflight`; nothing is sealed or leaves, whatever is skipped."""
    wish, words = BAD[0]
    sign_with(folder, wish)
    with SmtpServer() as server:
        use_server(folder, server)
        for command in ("check", "preflight"):
            done = dispatcher(command, "--json", folder=folder)
            assert done.code == 2
            assert words in done.out
        done = dispatcher("send", "--confirm", "6", "--skip-preflight", folder=folder)
        assert done.code == 2, done
        assert words in done.err
        assert "key smime.certificate" in done.err
        assert not server.stored
    assert not (folder / ".dispatcher/ledger.sqlite").exists()


def test_a_certificate_in_the_way_of_old_is_taken(folder: Path) -> None:
    """With its address in its subject alone, in capitals; without any word of what it is for."""
    wish = Wish(addresses=(), old_address="UPR@KMS.example.org", purposes=(), may_sign=None)
    sign_with(folder, wish)
    with SmtpServer() as server:
        use_server(folder, server)
        done = dispatcher("preflight", "--json", folder=folder)
    assert done.code == 0
    lines = [(line["status"], line["what"]) for line in done.json["lines"] if line["subject"] == "S/MIME"]
    assert [status for status, _ in lines] == ["ok", "warning"]
    assert "in its subject alone" in lines[1][1]


def test_keys_that_cannot_be_had(folder: Path) -> None:
    """`check` says what `send` will want; `preflight` and `send` refuse, with the place; no word of the key is said."""
    sign_with(folder, Wish())
    key, certificate = folder / "office.key", folder / "office.pem"
    whole = certificate.read_bytes()
    with SmtpServer() as server:
        use_server(folder, server)

        def refused(what: str, place: str, **codes: int) -> None:
            for command, code in {"send": 2, **codes}.items():
                words = ("--confirm", "6") if command == "send" else ()
                done = dispatcher(command, *words, folder=folder)
                assert done.code == code, done
                assert what in done.all.replace("\n", " "), done
                assert command == "check" or f"key smime.{place}" in done.all
                assert "PRIVATE" not in done.all

        key.chmod(0o640)
        refused("office.key can be read by others", "key", preflight=2, check=0)
        key.chmod(0o600)
        key.write_bytes(b"no key")
        refused("office.key: it holds no private key", "key")
        key.write_bytes(key_pem(ec_key()))
        refused("office.pem: the key is not that of the certificate", "certificate", preflight=2, check=2)
        key.write_bytes(key_pem(rsa_key(), "x"))
        refused("office.key is locked with a passphrase", "passphrase", preflight=2)
        key.unlink()
        refused("office.key does not exist", "key")
        key.write_bytes(key_pem(rsa_key()))
        key.chmod(0o600)
        certificate.write_bytes(b"none")
        refused("office.pem: it holds no certificate", "certificate")
        certificate.unlink()
        refused("office.pem does not exist", "certificate", check=0)
        assert not server.stored
    assert dispatcher("send", "--sandbox", folder=folder).code == 0, "a rehearsal needs no secret"
    certificate.write_bytes(whole)
    assert dispatcher("check", folder=folder).code == 0


def test_a_passphrase_from_where_secrets_are(folder: Path) -> None:
    sign_with(folder, Wish(key=ec_key()), canary.PASSWORD, 'passphrase = { env = "PHRASE" }')
    with SmtpServer() as server:
        use_server(folder, server)

        def sent(phrase: str) -> Done:
            return dispatcher("send", "--confirm", "6", folder=folder, env={"PHRASE": phrase} if phrase else {})

        for phrase, words in [("", "the environment variable PHRASE is not set"), ("wrong", "does not unlock it")]:
            done = sent(phrase)
            assert done.code == 2
            assert words in done.err
            assert "key smime." in done.err
            assert "put the right one where passphrase under [smime] says" in done.err or not phrase
        assert not server.stored
        (folder / "secret.txt").write_text(canary.PASSWORD)
        script = "import pathlib; print(open('secret.txt').read()); pathlib.Path('asked').open('a').write('x')"
        command = json.dumps([sys.executable, "-c", script])
        edit(folder / "campaign.toml", '{ env = "PHRASE" }', f"{{ command = {command} }}")
        assert sent("").code == 0
        assert len(server.stored) == 6
        assert (folder / "asked").read_text() == "x", "a command that asks somebody is to be run once"
    edit(folder / "campaign.toml", f"{{ command = {command} }}", '"open sesame"')
    done = dispatcher("check", folder=folder)
    assert done.code == 2
    assert "a password never stands in this file" in done.err
    assert "sesame" not in done.all


def test_a_certificate_that_ends_while_a_run_goes_on(folder: Path) -> None:
    """No letter leaves signed by it any more."""
    sign_with(folder, Wish(ends=NOW + DAY))
    sign = signing_of(Desk(folder, clock=Leap(NOW)), campaign_of(folder)).sign
    assert sign
    message = letters(1)[0]
    assert sign(message, NOW).smime
    with pytest.raises(SignatureError, match="has ended"):
        sign(message, NOW + DAY)


def test_what_is_said_of_a_good_certificate() -> None:
    def said(wish: Wish, *, done_at: datetime | None = None, whole: bool = True) -> Sequence[tuple[str, str]]:
        below = chain()[1]
        found = pair_of(issued(wish, below) + (below.pem if whole else b""), wish.key).facts()
        lines = certificate_lines(found, "upr@kms.example.org", NOW, done_at)
        return [(line.status, line.what) for line in lines]

    assert [status for status, _ in said(Wish())] == [Status.OK]
    soon = Wish(ends=NOW + timedelta(days=13))
    assert said(soon)[0][0] == Status.WARNING
    assert "for 13 more days" in said(soon)[0][1]
    ((status, what),) = said(soon, done_at=NOW + timedelta(days=20))
    assert status == Status.PROBLEM
    assert "the last letters leave on" in what
    assert said(soon, done_at=NOW + timedelta(days=12))[0][0] == Status.WARNING
    assert said(Wish(), whole=False)[1] == (
        Status.WARNING,
        "the certificate of its issuer is missing: CN=Example Mail Authority",
    )
    old = authority("Old Authority", chain()[0], ends=NOW - DAY)
    stale = pair_of(issued(Wish(), old) + old.pem, rsa_key()).facts()
    lines = list(certificate_lines(stale, "upr@kms.example.org", NOW))
    assert [line.status for line in lines] == [Status.OK, Status.WARNING]
    assert "its issuer has ended: CN=Old Authority" in lines[1].what
    own = pair_of(issued(Wish()), rsa_key()).facts()
    lines = list(certificate_lines(own, "upr@kms.example.org", NOW))
    assert [line.status for line in lines] == [Status.OK, Status.WARNING]
    assert "signed by itself" in lines[1].what


def test_mail_programs_know_no_ed25519() -> None:
    held = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(SignatureError, match="neither RSA nor ECDSA"):
        key_of(held, lambda: "")


def test_of_two_certificates_of_one_key_the_later_counts() -> None:
    old, new = issued(Wish(ends=NOW + DAY), chain()[1]), issued(Wish(name="renewed"), chain()[1])
    for pem in (old + new, new + old):
        assert pair_of(pem, rsa_key()).facts().subject == "CN=renewed"
