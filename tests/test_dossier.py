"""The dossier: the evidence of a dispatch, and who finds what was changed in it. Everything as people type it."""

import csv
import gc
import hashlib
import io
import json
import re
import shutil
import sqlite3
import subprocess
import tomllib
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from openpyxl import load_workbook
from pypdf import PdfReader

from dispatcher.core import dossier as form
from dispatcher.core.chain import KINDS
from dispatcher.core.dossier import COLUMNS, File, Manifest, manifest_of, record_file
from dispatcher.core.model import State
from dispatcher.core.reading import WORDS
from dispatcher.desk import Desk
from dispatcher.desk import dossier as writing
from dispatcher.desk.exporting import write_xlsx
from dispatcher.desk.proving import verify_dossier
from dispatcher.desk.purging import purge
from dispatcher.paper.typesetting import FOLDER
from tests.command import Done, dispatcher, edit, new_campaign, read_list, tree, use_server, write_list
from tests.figures import SEED
from tests.keys import minisign, minisign_key, private_key, ssh_keygen
from tests.smtp_server import RESET, STORE, Action, Script, SmtpServer
from tests.test_cli_paper import put_on_paper
from tests.test_purge import Later

KEYS = ("GBR", "FRA", "ESP", "BHR", "KHM", "fidh")
CANARY = "canary-7b1f-do-not-tell"
WHY = "asked by telephone, said Ms Ng"


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with every outcome, two approvals, a letter on paper that was posted, and a person's decision."""
    root = tmp_path_factory.mktemp("sent")
    folder = new_campaign(root / "campaign", (*KEYS, "SSD"))
    put_on_paper(folder, "KHM")
    edit(folder / "campaign.toml", "connections = 4", "connections = 1")
    edit(folder / "campaign.toml", "# approvals = 2", "approvals = 1")
    taken = (STORE, b"250 2.0.0 Ok: queued as ABCD1234\r\n")
    refused = b'550 5.1.1 =HYPERLINK(1) #set page(paper: "a0") <nobody>\r\n'
    rcpt: list[Action] = [b"250 ok\r\n", refused, b"250 ok\r\n"]
    with SmtpServer(Script(on={"RCPT": list(rcpt), "DOT": [taken, (STORE, RESET), taken]})) as server:
        use_server(folder, server)
        assert dispatcher("seal", folder=folder).code == 0
        key = private_key(root / "ada")
        assert dispatcher("approve", "--by", "Ada Pomme", "--key", str(key), folder=folder).code == 0
        done = dispatcher("send", "--confirm", "5", folder=folder, env={"DISPATCHER_PASSWORD": CANARY})
        assert done.code == 3, done
        (root / "stored.eml").write_bytes(server.stored[0].octets)
    assert dispatcher("paper", folder=folder).code == 0
    assert dispatcher("paper", "--posted", "2009-10-02", "--why", WHY, folder=folder).code == 0
    return folder


def made(folder: Path, out: Path, *words: str, env: dict[str, str] | None = None) -> Path:
    done = dispatcher("dossier", str(out), *words, folder=folder, env=env)
    assert done.code == 0, done
    return out


@pytest.fixture(scope="module")
def whole(sent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dossier with everything in it, signed with a key of OpenSSH's (`ada` beside the campaign)."""
    out = tmp_path_factory.mktemp("whole") / "evidence"
    return made(sent, out, "--messages", "--key", str(sent.parent / "ada"), "--by", "Bo Reed")


@pytest.fixture(scope="module")
def unsigned(sent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(sent, tmp_path_factory.mktemp("unsigned") / "evidence", "--messages")


@pytest.fixture(scope="module")
def redacted(sent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(sent, tmp_path_factory.mktemp("redacted") / "evidence", "--redact")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


@pytest.fixture
def loose(unsigned: Path, tmp_path: Path) -> Path:
    """A copy that nobody signed, so that whoever has it can write the manifest anew."""
    return Path(shutil.copytree(unsigned, tmp_path / "loose"))


def verify(folder: Path, *words: str) -> Done:
    return dispatcher("verify", str(folder), *words, folder=folder.parent)


def fault(folder: Path, signer: Path | None = None) -> dict[str, str]:
    """The first thing that is wrong; something must be. Without the command, for there are many of these."""
    found = verify_dossier(folder, signer).as_data()
    assert found["ok"] is False
    wrong: dict[str, str] = found["fault"]
    return wrong


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def flip(path: Path, at: int | None = None) -> None:
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2 if at is None else at] ^= 1
    path.write_bytes(bytes(octets))


def forge_manifest(folder: Path, **facts: Any) -> None:
    """The manifest as somebody would write it anew who has changed something, and knows how dossiers are made."""
    path = folder / "manifest.json"
    told = json.loads(path.read_bytes())
    kept = {name: told[name] for name in told if name not in ("dispatcher", "files", "sha256_of_the_above")}
    names = [name for name in files_of(folder) if not name.startswith("manifest.json")]
    listed = [(name, (folder / name).read_bytes()) for name in names]
    files = [File(name, len(octets), hashlib.sha256(octets).hexdigest()) for name, octets in listed]
    path.write_bytes(manifest_of({**kept, **facts}, files))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "recipients.json").read_bytes())["rows"]
    return found


def pdf_text(path: Path) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(path).pages).replace("\u200b", "")


# What is in it.


def test_it_verifies(whole: Path, unsigned: Path, redacted: Path, sent: Path) -> None:
    done = verify(whole)
    assert done.code == 0, done
    assert "as it was written" in done.out
    assert "4 messages made again, octet for octet" in done.out
    assert "Whose key is that?" in done.out
    assert "one of the keys that you named" in verify(whole, "--signer", str(sent.parent / "ada.pub")).out
    for folder in (unsigned, redacted):
        done = verify(folder)
        assert done.code == 0, done
        assert "Not signed" in done.out


def test_the_counts_add_up_and_every_recipient_is_there(whole: Path, sent: Path) -> None:
    rows = rows_of(whole)
    counts = Counter(row["state"] for row in rows)
    assert counts == {"accepted": 3, "failed": 1, "unknown": 1, "posted": 1, "skipped": 1}
    assert {row["key"] for row in rows if row["state"] != "skipped"} == set(KEYS)
    told = json.loads((whole / "manifest.json").read_bytes())
    assert told["counts"] == counts
    assert (told["created_by"], told["redacted"], told["rehearsal"], told["signed"]) == ("Bo Reed", False, False, True)
    log = {row["key"]: row for row in dispatcher("log", "--json", folder=sent).json["rows"]}
    for row in rows:
        if row["state"] != "skipped":
            same = ("addresses", "outcome", "at", "reply", "queue_id", "message_id", "digest", "message_digest")
            assert {name: row[name] for name in same} == {name: log[row["key"]][name] for name in same}


def test_the_three_tables_say_the_same(whole: Path) -> None:
    """To a reader of CSV, to openpyxl, and as JSON; no cell is a formula."""
    rows = [{name: str(row[name]) for name in COLUMNS} for row in rows_of(whole)]
    table = list(csv.DictReader(io.StringIO((whole / "recipients.csv").read_text(encoding="utf-8"))))
    failed = next(number for number, row in enumerate(rows) if row["state"] == "failed")
    assert table[failed]["reply"] == rows[failed]["reply"]  # it begins with 5.1.1, which is no formula
    assert [row["key"] for row in table] == [row["key"] for row in rows]
    sheet = load_workbook(whole / "recipients.xlsx").active
    assert sheet is not None
    head, *cells = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert tuple(head) == COLUMNS
    assert [["" if cell is None else str(cell) for cell in row] for row in cells] == [
        list(row.values()) for row in rows
    ]
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n", "inlineStr"}


def test_messages_are_what_left(whole: Path, sent: Path) -> None:
    """The server's own copy of the first, octet for octet."""
    messages = sorted((whole / "messages").iterdir())
    assert len(messages) == 4
    assert (sent.parent / "stored.eml").read_bytes() in [path.read_bytes() for path in messages]


def test_letters_are_what_was_sealed(whole: Path) -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in (whole / "letters").iterdir()}
    assert Counter(name.rpartition(".")[2] for name in texts) == {"eml": 5, "txt": 5, "html": 5, "json": 1}
    french = next(text for name, text in texts.items() if "FRA.txt" in name)
    assert "Examen périodique" in french
    assert (
        next(text for name, text in texts.items() if "FRA.html" in name).lstrip().lower().startswith("<!doctype html")
    )
    assert [path.read_bytes()[:5] for path in (whole / "attachments").iterdir()] == [b"%PDF-"]


def test_the_pages(whole: Path) -> None:
    """Summary and table; what a relay says is text there, whatever it looks like."""
    text = pdf_text(whole / "dossier.pdf")
    told = json.loads((whole / "manifest.json").read_bytes())
    flat = re.sub(r"\s+", "", text)
    assert told["plan"]["digest"] in flat
    assert told["chain"]["head"] in flat
    assert "AdaPomme," in flat
    assert "signedwithSHA256:" in flat
    assert "Accepted:thesender'srelaytooktheletterover" in flat
    assert "Unknown:thewholeletterleft" in flat
    for row in rows_of(whole):
        assert row["key"] in text
        assert re.sub(r"\s+", "", row["message_id"]) in flat
        assert row["message_digest"] in flat
    assert '=HYPERLINK(1)#setpage(paper:"a0")<nobody>' in flat
    pages = PdfReader(whole / "dossier.pdf").pages
    assert {tuple(map(round, page.mediabox[2:])) for page in pages} == {(595, 842), (842, 595)}
    assert f"{len(pages)} of {len(pages)}" in text


@pytest.mark.parametrize(("language", "word"), [("fr", "Constat d’envoi"), ("es", "Constancia de envío")])
def test_the_pages_in_another_language(sent: Path, tmp_path: Path, language: str, word: str) -> None:
    out = made(sent, tmp_path / "out", "--language", language)
    assert word in pdf_text(out / "dossier.pdf")
    refused = dispatcher("dossier", str(tmp_path / "de"), "--language", "de", folder=sent)
    assert (refused.code, "choose one of: en, fr, es" in refused.err) == (2, True)


def test_the_words_are_the_same_in_every_language() -> None:
    words = tomllib.loads((FOLDER / "dossier.toml").read_text(encoding="utf-8"))
    placeholders = {
        language: {name: set(re.findall(r"\{\w+\}", text)) for name, text in each.items() if isinstance(text, str)}
        for language, each in words.items()
    }
    assert placeholders["fr"] == placeholders["es"] == placeholders["en"]
    shown = {WORDS.get(state, str(state)) for state in State} | {"skipped"}
    assert all(set(each["states"]) == shown for each in words.values())


def test_the_same_ledger_gives_the_same_octets(sent: Path, tmp_path: Path) -> None:
    """But for the moment of its making, which stands in the manifest, the pages and the workbook's properties."""
    first, second = made(sent, tmp_path / "first", "--messages"), made(sent, tmp_path / "second", "--messages")
    assert files_of(first) == files_of(second)
    differ = {name for name in files_of(first) if (first / name).read_bytes() != (second / name).read_bytes()}
    assert differ <= {"manifest.json", "dossier.pdf", "recipients.xlsx"}
    told = [json.loads((each / "manifest.json").read_bytes()) for each in (first, second)]
    if told[0]["created_at"] == told[1]["created_at"]:
        assert differ == set()


def test_it_is_for_its_owner_alone(whole: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in (whole, *whole.rglob("*")) if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in whole.rglob("*") if path.is_file()} == {0o600}


def test_nothing_is_written_over(sent: Path, whole: Path, tmp_path: Path) -> None:
    before = tree(whole.parent)
    refused = dispatcher("dossier", str(whole), folder=sent)
    assert (refused.code, f"{whole} is there already" in refused.err) == (2, True)
    assert tree(whole.parent) == before
    file = tmp_path / "file"
    file.write_text("mine")
    assert dispatcher("dossier", str(file), folder=sent).code == 2
    assert file.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    made(sent, tmp_path / "empty")


def test_it_appears_whole_or_not_at_all(sent: Path, tmp_path: Path) -> None:
    """The key is looked for last: then everything else is written already, and taken away."""
    refused = dispatcher("dossier", str(tmp_path / "out"), "--key", str(tmp_path / "no"), folder=sent)
    assert refused.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_from_which_nothing_was_sent(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path / "campaign", KEYS)
    refused = dispatcher("dossier", str(tmp_path / "out"), folder=folder)
    assert refused.code == 4
    assert "nothing was sent from here" in refused.err
    assert not (tmp_path / "out").exists()


def test_no_secret_is_in_it(sent: Path, tmp_path: Path) -> None:
    """Neither the password, nor where it is kept, nor a private key, in any file, also not inside the workbook."""
    out = made(
        sent, tmp_path / "out", "--messages", "--key", str(sent.parent / "ada"), env={"DISPATCHER_PASSWORD": CANARY}
    )
    secrets = [CANARY.encode(), (sent.parent / "ada").read_bytes().split(b"\n")[2], str(sent).encode()]
    for name in files_of(out):
        octets = (out / name).read_bytes()
        pieces = [octets]
        if name.endswith(".xlsx"):
            with zipfile.ZipFile(io.BytesIO(octets)) as book:
                pieces += [book.read(each) for each in book.namelist()]
        for secret in secrets:
            assert not any(secret in piece for piece in pieces), (name, secret)
    done = dispatcher("dossier", str(tmp_path / "again"), folder=sent, env={"DISPATCHER_PASSWORD": CANARY})
    assert CANARY not in done.all


# Persons hidden.


def test_hidden_persons_are_nowhere(redacted: Path, whole: Path) -> None:
    """No key, name, address, Message-ID, reply, queue id or reason; and no salt to guess them with."""
    personal = set[str]()
    for row in rows_of(whole):
        names = ("key", "name", "addresses", "message_id", "queue_id", "reply", "reason")
        personal |= {str(row[name]) for name in names if len(str(row[name])) > 2}
    personal |= {"Ada Pomme", WHY, "missions.example.org"}
    salts = set[str]()
    for kind in KINDS:
        lines = (whole / record_file(kind)).read_text(encoding="utf-8").splitlines()
        salts |= {json.loads(line)["salt"] for line in lines}
    assert salts
    for name in files_of(redacted):
        octets = (redacted / name).read_bytes()
        if name.endswith(".pdf"):
            octets = pdf_text(redacted / name).encode()
        if name.endswith(".xlsx"):
            with zipfile.ZipFile(redacted / name) as book:
                octets = b"".join(book.read(each) for each in book.namelist())
        for text in personal | salts:
            word = rf"(?<![A-Za-z0-9]){re.escape(text)}(?![A-Za-z0-9])".encode()
            assert not re.search(word, octets), (name, text)
    assert not [name for name in files_of(redacted) if name.startswith(("letters", "messages", "attachments", "plans"))]


def test_hidden_persons_keep_their_digests(redacted: Path, whole: Path) -> None:
    """So whoever has a letter, or the whole dossier, finds it again: chain and digests are the same."""
    assert (redacted / "links.jsonl").read_bytes() == (whole / "links.jsonl").read_bytes()
    kept = ("state", "outcome", "at", "code", "digest", "message_digest")
    assert [[row[name] for name in kept] for row in rows_of(redacted)] == [
        [row[name] for name in kept] for row in rows_of(whole)
    ]


def test_messages_cannot_be_hidden(sent: Path, tmp_path: Path) -> None:
    refused = dispatcher("dossier", str(tmp_path / "out"), "--redact", "--messages", folder=sent)
    assert (refused.code, "do not go together" in refused.err) == (2, True)


def test_somebody_who_is_not_hidden_is_noticed(redacted: Path, whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(redacted, tmp_path / "copy"))
    shutil.copy(whole / "record/attempts.jsonl", folder / "record/attempts.jsonl")
    forge_manifest(folder)
    assert fault(folder)["what"] == "it shows what is to be hidden"
    folder = Path(shutil.copytree(redacted, tmp_path / "another"))
    shutil.copytree(whole / "letters", folder / "letters")
    forge_manifest(folder)
    assert "nothing personal may be" in fault(folder)["what"]


def test_a_hidden_row_that_is_missing_is_noticed(redacted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(redacted, tmp_path / "copy"))
    failed = next(number for number, row in enumerate(rows_of(folder)) if row["state"] == "failed")
    each_row(folder, lambda rows: rows.pop(failed))
    assert "a row is missing" in fault(folder)["what"]


def test_who_approved_is_hidden_with_the_key(redacted: Path, whole: Path) -> None:
    """A public key is as good as a name for whoever looks where people publish theirs."""
    shown = re.search(r"SHA256:[A-Za-z0-9+/]{43}", pdf_text(whole / "dossier.pdf"))
    assert shown
    assert shown[0] not in pdf_text(redacted / "dossier.pdf")


def test_a_ledger_that_was_adopted_has_a_dossier_that_verifies(sent: Path, tmp_path: Path) -> None:
    """Letters that wait to be printed are held as printed then, and no event says so of each."""
    folder = new_campaign(tmp_path / "campaign", KEYS)
    put_on_paper(folder, "KHM")
    assert dispatcher("seal", folder=folder).code == 0
    with SmtpServer(Script()) as server:
        use_server(folder, server)
        assert dispatcher("send", "--confirm", "5", folder=folder).code == 0
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    assert dispatcher("adopt", "--as", "unknown", "--why", "a copy", folder=copied).code == 0
    out = made(copied, tmp_path / "out", "--messages")
    assert [row["state"] for row in rows_of(out) if row["channel"] == "paper"] == ["printed"]
    assert verify(out).code == 0, verify(out)


def test_a_head_that_was_kept_is_in_the_chain(whole: Path) -> None:
    head = json.loads((whole / "links.jsonl").read_text(encoding="utf-8").splitlines()[1])["link"]
    assert verify(whole, "--head", head).code == 0
    done = verify(whole, "--head", "0" * 64)
    assert (done.code, "the hash that you kept is not in the chain" in done.err) == (3, True)


# What was changed in it, signed.


def test_what_is_wrong_is_said_in_words_and_as_json(copy: Path) -> None:
    flip(copy / "recipients.csv")
    done = verify(copy)
    assert done.code == 3
    assert done.err == (
        "NOT as it was written: recipients.csv\n  it was changed: its SHA-256 is not the one in the manifest\n"
    )
    told = verify(copy, "--json")
    assert (told.code, told.json["ok"], told.json["fault"]["file"]) == (3, False, "recipients.csv")
    assert verify(copy / "letters").code == 2


def test_a_flipped_bit_in_every_file_is_noticed(copy: Path) -> None:
    """At the first octet, in the middle, at the last: and the file is named."""
    for name in files_of(copy):
        path = copy / name
        octets = path.read_bytes()
        for at in {0, len(octets) // 2, len(octets) - 1} if octets else ():
            flip(path, at)
            found = fault(copy)
            signed = {"manifest.json": {"manifest.json", "manifest.json.sig"}}
            assert found["file"] in signed.get(name, {name}), (name, at, found)
            path.write_bytes(octets)
    assert verify_dossier(copy).fault is None


@pytest.mark.parametrize("unsigned_too", [False, True])
def test_a_flipped_bit_anywhere_in_the_manifest_is_noticed(
    whole: Path, unsigned: Path, tmp_path: Path, unsigned_too: bool
) -> None:
    """Also where nobody signed it: it ends with a digest of itself."""
    octets = ((unsigned if unsigned_too else whole) / "manifest.json").read_bytes()
    Manifest.parse(octets)
    for at in range(0, len(octets), 7):
        changed = bytearray(octets)
        changed[at] ^= 1 << at % 8
        with pytest.raises(ValueError, match=r"manifest|as it was written|of another kind|no dossier has"):
            Manifest.parse(bytes(changed))


def test_a_file_that_was_removed_or_added(copy: Path) -> None:
    for name in ("dossier.pdf", "recipients.csv", "links.jsonl", files_of(copy / "messages")[0]):
        path = copy / name if (copy / name).exists() else copy / "messages" / name
        octets = path.read_bytes()
        path.unlink()
        found = fault(copy)
        assert (found["file"], "is missing" in found["what"]) == (path.relative_to(copy).as_posix(), True)
        path.write_bytes(octets)
    (copy / "letters" / "more.txt").write_text("more")
    assert fault(copy) == {
        "file": "letters/more.txt", "row": "", "recipient": "", "what": "it was added: the manifest does not list it",
    }  # fmt: skip
    (copy / "letters" / "more.txt").unlink()
    (copy / "linked").symlink_to(copy / "dossier.pdf")
    assert fault(copy)["file"] == "linked"


def test_a_manifest_that_was_written_anew_without_the_key(copy: Path, tmp_path: Path, sent: Path) -> None:
    edit(copy / "recipients.csv", "failed", "accepted")
    forge_manifest(copy)
    assert fault(copy)["file"] == "manifest.json.sig"
    (copy / "manifest.json.sig").unlink()
    assert "is missing: the manifest says that it is signed" in fault(copy)["what"]
    forge_manifest(copy, signed=False)
    assert "by none of the keys" in fault(copy, sent.parent / "ada.pub")["what"]


def test_a_signature_by_another_key(sent: Path, tmp_path: Path) -> None:
    """It is good, and whose it is not is for the reader to say."""
    out = made(sent, tmp_path / "out", "--key", str(private_key(tmp_path / "mallory")))
    assert verify(out).code == 0
    found = fault(out, sent.parent / "ada.pub")
    assert (found["file"], "none of the keys that you named" in found["what"]) == ("manifest.json.sig", True)


def test_openssh_checks_the_manifest(whole: Path, sent: Path, tmp_path: Path) -> None:
    """Without a line of ours; and its file of allowed signers is read here, too."""
    public = (sent.parent / "ada.pub").read_text(encoding="utf-8").rpartition(" ")[0]
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f'# who may\nada@example.org namespaces="dispatcher" {public} Ada\n', encoding="utf-8")
    who = ("-f", str(allowed), "-I", "ada@example.org", "-n", "dispatcher", "-s", str(whole / "manifest.json.sig"))
    octets = (whole / "manifest.json").read_bytes()
    command = [ssh_keygen(), "-Y", "verify", *who]
    assert subprocess.run(command, input=octets, capture_output=True, check=False).returncode == 0
    assert subprocess.run(command, input=octets + b"\n", capture_output=True, check=False).returncode != 0
    assert "one of the keys that you named" in verify(whole, "--signer", str(allowed)).out


def test_minisign_checks_the_manifest(sent: Path, tmp_path: Path) -> None:
    key = minisign_key(tmp_path)
    out = made(sent, tmp_path / "out", "--key", str(key))
    command = [minisign(), "-V", "-p", str(tmp_path / "minisign.pub"), "-m", str(out / "manifest.json")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    asked = verify(out)
    assert (asked.code, "--signer minisign.pub" in asked.err) == (2, True)
    assert verify(out, "--signer", str(tmp_path / "minisign.pub")).code == 0
    flip(out / "manifest.json.minisig", 40)
    assert fault(out, tmp_path / "minisign.pub")["file"] == "manifest.json.minisig"


# What was changed in it where nobody signed, by somebody who knows how dossiers are made.


def each_row(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the table, in all its forms but the pages, and write the manifest anew."""
    rows = rows_of(folder)
    change(rows)
    (folder / "recipients.json").write_bytes(
        form.JSON_HEAD + form.JSON_BETWEEN.join(map(form.json_row, rows)) + form.JSON_TAIL
    )
    (folder / "recipients.csv").write_bytes(form.csv_head() + b"".join(map(form.csv_row, rows)))
    with (folder / "recipients.xlsx").open("wb") as file:
        write_xlsx(file, COLUMNS, rows, title="recipients")
    forge_manifest(folder, rows=len(rows), counts=dict(Counter(row["state"] for row in rows)))


def at_key(rows: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return next(row for row in rows if row["key"] == key)


def test_a_forged_table(loose: Path) -> None:
    """The rows of the record bear out every row of the table; the recipient is named."""
    failed = next(row["key"] for row in rows_of(loose) if row["state"] == "failed")
    before = {name: (loose / name).read_bytes() for name in files_of(loose)}

    def restored() -> None:
        for name, octets in before.items():
            (loose / name).write_bytes(octets)

    for column, value in {
        "outcome": "accepted", "state": "accepted", "reply": "250 ok", "queue_id": "X", "at": "2009-10-01T00:00:00+00",
        "message_digest": "0" * 64, "code": 250, "attempts": 2, "host": "relay.example",
        "addresses": "somebody@else.example", "digest": "0" * 64, "message_id": "<x@y.example>", "key": "XXX",
    }.items():  # fmt: skip
        each_row(loose, lambda rows: at_key(rows, failed).__setitem__(column, value))  # noqa: B023
        found = fault(loose)
        assert found["file"] in ("recipients.json", "letters.jsonl"), (column, found)
        assert found["recipient"] == failed, (column, found)
        restored()
    for state, column, values in (
        ("accepted", "state", ("failed", "waiting", "cancelled", "sent", "skipped", "posted")),
        ("failed", "state", ("accepted", "unknown", "printed")),
        ("unknown", "state", ("failed", "waiting", "posted")),
        ("posted", "state", ("failed", "accepted", "sent")),
        ("accepted", "name", ("Eve",)),
        ("posted", "name", ("Eve",)),
        ("accepted", "channel", ("paper",)),
        ("skipped", "key", ("GBR",)),
        ("skipped", "reason", ("filtered: she asked for it",)),
        ("skipped", "letter", (99,)),
    ):
        key = next(row["key"] for row in rows_of(loose) if row["state"] == state)
        for value in values:
            each_row(loose, lambda rows: at_key(rows, key).__setitem__(column, value))  # noqa: B023
            assert fault(loose)["file"] in ("recipients.json", "letters.jsonl"), (state, column, value)
            restored()
    each_row(loose, lambda rows: rows.pop())
    assert fault(loose)["what"] == "a row is missing that stands in skips.jsonl"
    restored()
    each_row(loose, lambda rows: rows.append({**rows[-1], "key": "GBR"}))
    assert fault(loose)["what"] == "it is not what skips.jsonl says"
    restored()
    each_row(loose, lambda rows: rows.pop(0))
    assert "a row is missing" in fault(loose)["what"]
    restored()
    each_row(loose, lambda rows: rows.append(rows[0]))
    assert "two rows of one letter" in fault(loose)["what"]
    restored()
    posted = next(row["key"] for row in rows_of(loose) if row["state"] == "posted")
    each_row(loose, lambda rows: at_key(rows, posted).__setitem__("at", "2009-10-01T00:00:00+00:00"))
    assert fault(loose)["recipient"] == posted
    restored()
    assert verify_dossier(loose).fault is None


@pytest.mark.parametrize("name", ["recipients.csv", "recipients.json", "recipients.xlsx"])
def test_a_table_that_was_cut_off(loose: Path, name: str) -> None:
    octets = (loose / name).read_bytes()
    (loose / name).write_bytes(octets[: len(octets) * 2 // 3])
    assert fault(loose)["file"] == name
    forge_manifest(loose)
    assert fault(loose)["file"] == name


def test_tables_that_disagree(loose: Path) -> None:
    """Each is held against the others, row for row."""
    csv_file = loose / "recipients.csv"
    edit(csv_file, "KHM", "KHN")
    forge_manifest(loose)
    found = fault(loose)
    assert (found["file"], found["recipient"]) == ("recipients.csv", "KHM")
    edit(csv_file, "KHN", "KHM")
    rows = rows_of(loose)
    at_key(rows, "FRA")["name"] = "Somebody else"
    with (loose / "recipients.xlsx").open("wb") as file:
        write_xlsx(file, COLUMNS, rows, title="recipients")
    forge_manifest(loose)
    found = fault(loose)
    assert (found["file"], found["recipient"]) == ("recipients.xlsx", "FRA")


def edit_line(path: Path, number: int, old: str, new: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new, 1)
    path.write_text("".join(lines), encoding="utf-8")


def test_a_forged_record(loose: Path) -> None:
    """The chain names the row, and the table says whose it is."""
    attempts = loose / "record/attempts.jsonl"
    before = attempts.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in before.splitlines()]
    failed = next(number for number, row in enumerate(rows) if row["public"]["outcome"] == "failed")
    edit_line(attempts, failed, '"outcome":"failed"', '"outcome":"accepted"')
    forge_manifest(loose)
    found = fault(loose)
    assert found["file"] == "record/attempts.jsonl"
    assert found["row"] == f"attempt {rows[failed]['id']}"
    assert found["recipient"] == next(row["key"] for row in rows_of(loose) if row["state"] == "failed")

    attempts.write_text("".join(before.splitlines(keepends=True)[:-1]), encoding="utf-8")
    forge_manifest(loose)
    assert "was removed" in fault(loose)["what"]
    attempts.write_text(before + before.splitlines(keepends=True)[-1], encoding="utf-8")
    forge_manifest(loose)
    assert fault(loose)["what"] == "it was inserted: the chain does not name it there"
    attempts.write_text(before, encoding="utf-8")
    forge_manifest(loose)
    assert verify_dossier(loose).fault is None

    events = loose / "record/events.jsonl"
    edit(events, WHY, "nobody asked")
    forge_manifest(loose)
    assert (fault(loose)["file"], fault(loose)["row"].split()[0]) == ("record/events.jsonl", "event")


def test_an_attempt_is_not_said_to_be_of_another_campaign(loose: Path) -> None:
    """The chain's name of it says whose it is."""
    failed = next(row for row in rows_of(loose) if row["state"] == "failed")
    path = loose / "record/attempts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if json.loads(line)["public"]["letter"] != failed["letter"]))
    gone = dict.fromkeys((*form.OF_ATTEMPT, *form.OF_SESSION, "reason"), "")
    each_row(loose, lambda rows: at_key(rows, failed["key"]).update(gone, attempts=0, state="waiting"))
    told = json.loads((loose / "manifest.json").read_bytes())
    forge_manifest(loose, chain={**told["chain"], "rows_of_other_campaigns": 1})
    found = fault(loose)
    assert found["file"] == "record/attempts.jsonl"
    assert "was removed: by the chain it is of this campaign" in found["what"]


def test_a_chain_that_was_cut_off(loose: Path) -> None:
    links = loose / "links.jsonl"
    lines = links.read_text(encoding="utf-8").splitlines(keepends=True)
    links.write_text("".join(lines[:-1]), encoding="utf-8")
    forge_manifest(loose)
    assert fault(loose)["row"]
    links.write_text("".join([*lines[:2], *lines[3:]]), encoding="utf-8")
    forge_manifest(loose)
    assert fault(loose)["file"] in (
        "links.jsonl",
        "record/events.jsonl",
        "record/attempts.jsonl",
        "record/sessions.jsonl",
    )


def test_a_forged_letter(loose: Path) -> None:
    """Its text, its octets, what was attached, what left: each is made again of what was sealed."""
    letters = sorted(path.name for path in (loose / "letters").iterdir())
    message = min(path.name for path in (loose / "messages").iterdir())
    attached = next((loose / "attachments").iterdir()).name
    names = [f"letters/{name}" for name in letters if "FRA" in name or name.endswith(".json")]
    for name in (*names, f"messages/{message}", f"attachments/{attached}", "plans/1.json", "plans/1.dictionary"):
        octets = (loose / name).read_bytes()
        flip(loose / name)
        forge_manifest(loose)
        assert fault(loose)["file"] == name
        (loose / name).write_bytes(octets)
    for name in ("letters.jsonl", "skips.jsonl"):
        octets = (loose / name).read_bytes()
        lines = octets.splitlines(keepends=True)
        (loose / name).write_bytes(b"".join(lines[:-1]))
        forge_manifest(loose)
        assert fault(loose)["file"] == ("letters.jsonl" if name == "letters.jsonl" else "recipients.json")
        (loose / name).write_bytes(octets)
    (loose / "letters/999-more.txt").write_text("more")
    forge_manifest(loose)
    assert fault(loose)["what"] == "it belongs to no letter"


def test_a_forged_plan(loose: Path) -> None:
    told = json.loads((loose / "manifest.json").read_bytes())
    forge_manifest(loose, plan={**told["plan"], "digest": "0" * 64})
    assert "not the last one in the chain" in fault(loose)["what"]
    forge_manifest(loose, plan=told["plan"], chain={**told["chain"], "start": "0" * 64})
    assert fault(loose)["file"] == "links.jsonl"
    forge_manifest(loose, chain=told["chain"], counts={})
    assert "do not add up" in fault(loose)["what"]


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "record/../../x", "a\\b", ".hidden", "letters/a/b"])
def test_a_name_that_leads_outside(loose: Path, name: str) -> None:
    path = loose / "manifest.json"
    told = json.loads(path.read_bytes())
    kept = {key: value for key, value in told.items() if key not in ("dispatcher", "files", "sha256_of_the_above")}
    path.write_bytes(manifest_of(kept, [File(name, 1, "0" * 64)]))
    assert "names files that no dossier has" in fault(loose)["what"]


@pytest.mark.parametrize("name", ["manifest.json", "recipients.json", "recipients.xlsx", "links.jsonl", "letters.jsonl",
    "record/attempts.jsonl", "record/plans.jsonl", "record/approvals.jsonl", "plans/1.json"])  # fmt: skip
def test_whatever_stands_there_is_a_fault_and_no_traceback(loose: Path, name: str) -> None:
    """Somebody's own idea of a dossier: octets changed, cut, doubled, nested; with a manifest that fits."""
    gc.collect()  # else what earlier tests left may be finalized a thousand calls deep, where no finalizer can run
    chance = Random(f"{SEED} {name}")
    octets = (loose / name).read_bytes()
    deep = b"[" * 100_000 + b"]" * 100_000
    pieces = [b"null", b'"x"', b"-1", b"1e400", b"[]", b"{}", deep, b"\xff", b"\0", b"9" * 5000, b"\n", b""]
    for _ in range(40):
        at, length = chance.randrange(len(octets)), chance.choice((0, 1, 5, 50))
        if chance.random() < 0.5:  # a value in place of another
            values = [m.span() for m in re.finditer(rb'(?<=:)("[^"]*"|\d+|null|true|false)', octets)] or [
                (at, at + length)
            ]
            begin, end = chance.choice(values)
        else:
            begin, end = at, at + length
        changed = octets[:begin] + chance.choice(pieces) + octets[end:]
        if changed == octets:
            continue
        (loose / name).write_bytes(changed)
        if name != "manifest.json":
            forge_manifest(loose)
        found = verify_dossier(loose)
        assert found.fault or name.endswith(".xlsx"), changed  # of which only the cells are looked at
        found.as_data()
        (loose / name).write_bytes(octets)


def test_facts_that_are_none(loose: Path) -> None:
    told = json.loads((loose / "manifest.json").read_bytes())
    values: list[Any] = [None, [], -1, {"length": "x"}, True]
    for fact in ("campaign", "plan", "chain", "counts", "rows", "redacted", "messages", "signed"):
        for value in values:
            if value != told[fact]:
                forge_manifest(loose, **{fact: value})
                assert fault(loose)["file"], (fact, value)
                forge_manifest(loose, **{fact: told[fact]})


# The ledger's side.


def tampered(sent: Path, tmp_path: Path, statement: str) -> Path:
    """A copy of the campaign whose ledger somebody wrote into, with the rules taken out."""
    folder = Path(shutil.copytree(sent, tmp_path / "campaign"))
    with closing(sqlite3.connect(folder / ".dispatcher/ledger.sqlite")) as ledger:
        names = [name for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in names:
            ledger.execute(f'DROP TRIGGER "{name}"')
        ledger.execute(statement)
        ledger.commit()
    return folder


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE attempt SET message_digest = 'ab' WHERE outcome = 'accepted'", "cannot be made again"),
        ("UPDATE sealed SET addresses = 'x@y.example' WHERE letter = 1", "is not what was sealed"),
        ("UPDATE letter SET date = '2009-10-01T00:00:00+00:00' WHERE state = 'accepted'", "cannot be made again"),
    ],
)
def test_a_ledger_that_cannot_make_it_again_has_no_dossier(
    sent: Path, tmp_path: Path, statement: str, words: str
) -> None:
    folder = tampered(sent, tmp_path, statement)
    done = dispatcher("dossier", str(tmp_path / "out"), folder=folder)
    assert (done.code, words in done.err) == (5, True), done
    assert [path.name for path in tmp_path.iterdir()] == ["campaign"]


def test_a_ledger_whose_outcome_was_changed_is_seen_in_its_dossier(sent: Path, tmp_path: Path) -> None:
    """Writing it does not look along the chain; whoever gets it does."""
    folder = tampered(sent, tmp_path, "UPDATE attempt SET reply = 'never mind' WHERE outcome = 'failed'")
    out = made(folder, tmp_path / "out")
    found = fault(out)
    assert (found["file"], found["row"].split()[0]) == ("record/attempts.jsonl", "attempt")


def test_a_dossier_of_an_amended_plan(sent: Path, tmp_path: Path) -> None:
    """What failed was amended, and has another text now: what left then is not made again, and that is said."""
    folder = Path(shutil.copytree(sent, tmp_path / "campaign"))
    edit(folder / "templates/upr_submission/letter.fr.md", "\n\n{{ close }}", "\n\nEncore un mot.\n\n{{ close }}")
    edit(folder / "templates/upr_submission/letter.en.md", "\n\n{{ close }}", "\n\nOne more word.\n\n{{ close }}")
    edit(folder / "templates/upr_submission/letter.es.md", "\n\n{{ close }}", "\n\nUna palabra más.\n\n{{ close }}")
    assert dispatcher("adopt", "--as", "waiting", "--why", "a copy", folder=folder).code == 0
    shown = dispatcher("amend", "--json", folder=folder)
    count = re.search(r"--confirm (\d+)", dispatcher("amend", folder=folder).out)
    assert count, shown
    done = dispatcher("amend", "--confirm", count[1], folder=folder)
    assert done.code == 0, done
    out = made(folder, tmp_path / "out", "--messages")
    assert verify(out).code == 0, verify(out)
    told = json.loads((out / "manifest.json").read_bytes())
    assert told["plan"]["revision"] == 2
    assert files_of(out / "plans") == ["1.dictionary", "1.json", "2.dictionary", "2.json"]


def test_hostile_names(tmp_path: Path) -> None:
    """Markup of Typst, bidi overrides, scripts that no font here has: evidence does not fail because of a name."""
    names = {
        "FRA": '#panic("x") $x$ *a* _b_ `c` \\ "] #eval("1+1") // <l> @x',
        "ESP": "Ministerio 外交部 \U0001f600 日本",
        "GBR": "وزارة الخارجية العراقية",
        "BHR": "គណៈប្រតិភូអចិន្ត្រៃយ៍ " + "x" * 300,
    }
    folder = new_campaign(tmp_path / "campaign", tuple(names))
    columns, rows = read_list(folder, "un_missions.csv")
    write_list(folder, "un_missions.csv", columns, [{**row, "name": names.get(row["key"], "")} for row in rows])
    sent = dispatcher("send", "--sandbox", folder=folder)
    assert sent.code == 0, sent
    out = made(folder, tmp_path / "out", "--sandbox")
    assert verify(out).code == 0
    text = pdf_text(out / "dossier.pdf")
    flat = re.sub(r"\s+", "", text)
    assert re.sub(r"\s+", "", names["FRA"]) in flat
    assert "U+5916U+4EA4U+90E8U+1F600U+65E5U+672C" in flat.replace(" ", "")
    assert "A character that no font here has" in text
    assert "x" * 300 in flat
    assert {row["key"]: row["name"] for row in rows_of(out)} == names
    assert "A rehearsal" in text


def test_more_rows_than_a_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other parts lie beside it; each says which part it is, and the rows are numbered through."""
    folder = new_campaign(tmp_path / "campaign", KEYS)
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    monkeypatch.setattr(writing, "ROWS", 4)
    writing.write_dossier(Desk(folder, sandbox=True), tmp_path / "out", writing.Wish())
    parts = sorted(path.name for path in (tmp_path / "out").glob("*.pdf"))
    assert parts[:2] == ["dossier-2.pdf", "dossier.pdf"]
    assert "part 1 of" in pdf_text(tmp_path / "out/dossier.pdf")
    second = pdf_text(tmp_path / "out/dossier-2.pdf")
    assert "part 2 of" in second
    assert "rows 5 to" in second
    assert "Record of a dispatch" not in second
    assert verify(tmp_path / "out").code == 0


def test_a_dossier_of_a_purged_ledger(tmp_path: Path) -> None:
    """What is left of it: counts, states, times, codes and hashes; and they verify."""
    folder = new_campaign(tmp_path / "campaign", (*KEYS, "SSD"))
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    before = made(folder, tmp_path / "before", "--sandbox")
    assert purge(Desk(folder, sandbox=True, clock=Later(3 * 366)), "2y", len(KEYS)).letters == len(KEYS)
    out = made(folder, tmp_path / "out", "--sandbox", "--messages", "--by", "Bo Reed")
    done = verify(out)
    assert done.code == 0, done
    assert verify(out, "--head", json.loads((before / "manifest.json").read_bytes())["chain"]["head"]).code == 0
    kept = ("letter", "state", "outcome", "at", "code", "digest", "message_digest")
    assert [[row[name] for name in kept] for row in rows_of(out)] == [
        [row[name] for name in kept] for row in rows_of(before)
    ]
    assert not [name for name in files_of(out) if name.startswith(("letters/", "messages/", "attachments/", "plans/"))]
    assert {(row["reply"], row["queue_id"], row["reason"]) for row in rows_of(out) if row["letter"]} == {("", "", "")}
    everything = b"".join((out / name).read_bytes() for name in files_of(out)) + pdf_text(out / "dossier.pdf").encode()
    for row in rows_of(before):
        for text in (row["addresses"], row["name"], row["message_id"]):
            assert not text or text.encode() not in everything
    flip(out / "record/attempts.jsonl")
    forge_manifest(out)
    assert fault(out)["file"] == "record/attempts.jsonl"


def test_a_ledger_of_two_campaigns(tmp_path: Path) -> None:
    """A dossier is of one of them; of the other only digests are in it, and the chain holds both."""
    folder = new_campaign(tmp_path / "campaign", KEYS[:3])
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    edit(folder / "campaign.toml", 'id = "upr-cambodia-2009"', 'id = "upr-cambodia-2014"')
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    out = made(folder, tmp_path / "out", "--sandbox", "--messages")
    assert verify(out).code == 0, verify(out)
    rows = rows_of(out)
    assert len(rows) == 3
    assert all("2014" in row["message_id"] for row in rows)
    assert len((out / "record/attempts.jsonl").read_bytes().splitlines()) == 3
    told = json.loads((out / "manifest.json").read_bytes())
    assert told["chain"]["rows_of_other_campaigns"] > 3
    attempts = out / "record/attempts.jsonl"
    attempts.write_bytes(b"".join(attempts.read_bytes().splitlines(keepends=True)[:-1]))
    forge_manifest(out)
    assert fault(out)["file"] in ("links.jsonl", "recipients.json")


def test_an_attempt_is_not_said_to_be_of_the_other_campaign(tmp_path: Path) -> None:
    """Nobody signed it, and the other's rows are not shown: but the chain says of each row whose it is."""
    folder = new_campaign(tmp_path / "campaign", KEYS[:3])
    edit(folder / "campaign.toml", "connections = 4", "connections = 1")
    rcpts: list[Action] = [
        b"250 ok\r\n",
        b"554 5.6.0 no\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n",
    ]  # the first is asked beforehand
    with SmtpServer(Script(on={"RCPT": [*rcpts, *rcpts]})) as server:
        use_server(folder, server)
        assert dispatcher("send", "--confirm", "3", folder=folder).code == 3
        edit(folder / "campaign.toml", 'id = "upr-cambodia-2009"', 'id = "upr-cambodia-2014"')
        assert dispatcher("send", "--confirm", "3", folder=folder).code == 3
    out = made(folder, tmp_path / "out")
    assert verify(out).code == 0, verify(out)
    failed = next(row for row in rows_of(out) if row["state"] == "failed")
    path = out / "record/attempts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if json.loads(line)["public"]["letter"] != failed["letter"]))
    gone = dict.fromkeys((*form.OF_ATTEMPT, *form.OF_SESSION, "reason"), "")
    each_row(out, lambda rows: at_key(rows, failed["key"]).update(gone, attempts=0, state="waiting"))
    told = json.loads((out / "manifest.json").read_bytes())
    elsewhere = told["chain"]["rows_of_other_campaigns"]
    forge_manifest(out, chain={**told["chain"], "rows_of_other_campaigns": elsewhere + 1})
    found = fault(out)
    assert found["file"] == "record/attempts.jsonl"
    assert "was removed: by the chain it is of this campaign" in found["what"]
