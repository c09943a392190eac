"""The account at the relay: its secret is stored, tried and taken away; in a keyring, in a file, or nowhere at all."""

import os
import ssl
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from dispatcher.desk import Desk
from tests import canary
from tests.command import Done, argv, dispatcher, edit, environment, new_campaign, on_terminal, set_relay
from tests.keychains import on_desktop
from tests.smtp_server import Script, SmtpServer

SECRET = canary.PASSWORD
KEYRING = '{ keyring = "dispatcher" }'
posix = pytest.mark.skipif(os.name != "posix", reason="files have no mode here, and terminals are others")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def relay(folder: Path, password: str) -> SmtpServer:
    """A relay that knows one user, and the campaign that has its password there."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    server = SmtpServer(Script(tls=context, login=(canary.USER, SECRET)))
    lines = f'host = "127.0.0.1"\nport = {server.port}\nuser = "{canary.USER}"\nca_file = "authority.pem"\n'
    set_relay(folder, f"{lines}password = {password}")
    return server


def nowhere(folder: Path, *outputs: Done) -> None:
    assert not list(canary.found_in(folder, SECRET))
    for done in outputs:
        assert not any(form in done.all.encode() for form in canary.forms(SECRET))


# In a file.


def test_in_a_file(folder: Path) -> None:
    """From what is piped in, for its owner alone; then it logs in, and is taken away again."""
    with relay(folder, '{ file = "secret.txt" }') as server:
        added = dispatcher("account", "add", folder=folder, text=f"{SECRET}\r\nmore\n")
        assert added.code == 0, added
        assert added.out == "Stored in secret.txt.\nNext: dispatcher account test\n"
        if os.name == "posix":
            assert stat.S_IMODE((folder / "secret.txt").stat().st_mode) == 0o600
        tried = dispatcher("account", "test", folder=folder)
        assert tried.code == 0, tried
        assert f"Connected to 127.0.0.1:{server.port} (TLSv1.3, certificate of 127.0.0.1) in" in tried.out
        assert f"Logged in as {canary.USER} by a password from secret.txt.\nNo letter was sent.\n" in tried.out
        as_json = dispatcher("account", "test", "--json", folder=folder)
        assert (as_json.json["user"], as_json.json["secret"]) == (canary.USER, "secret.txt")
        removed = dispatcher("account", "remove", folder=folder)
        assert removed.out == "Removed from secret.txt.\n"
        assert dispatcher("account", "remove", "--json", folder=folder).json == {
            "removed": None,
            "ended_at_provider": False,
        }
        assert not any(line.startswith(b"MAIL") for line in server.commands)
    assert not (folder / "secret.txt").exists()
    assert not (folder / ".dispatcher").exists()
    nowhere(folder, added, tried, as_json, removed)


@posix
def test_what_is_typed_is_not_shown(folder: Path) -> None:
    with relay(folder, '{ file = "secret.txt" }'):
        code, shown = on_terminal("account", "add", folder=folder, typed=f"{SECRET}\n", once="secret.txt: ")
    assert code == 0
    assert "Password, to be stored in secret.txt:" in shown
    assert SECRET not in shown
    assert (folder / "secret.txt").read_text(encoding="utf-8") == f"{SECRET}\n"


@pytest.mark.parametrize("text", ["", "\n", "a\tb\n", "\x1b[2J\n"])
def test_what_is_no_password(folder: Path, text: str) -> None:
    with relay(folder, '{ file = "secret.txt" }'):
        done = dispatcher("account", "add", folder=folder, text=text)
    assert done.code == 2
    assert "a password is one line of text, and not empty" in done.err
    assert not (folder / "secret.txt").exists()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_is_piped_in_is_utf_8(folder: Path, encoding: str) -> None:
    """Whatever the terminal's encoding is; what is not, is said so, and not shown."""
    with relay(folder, '{ file = "secret.txt" }'):
        for octets, code in ((f"{SECRET}\xe9\n".encode(), 0), (f"{SECRET}\xe9\n".encode("latin-1"), 2)):
            words, env = argv("account", "add"), environment(PYTHONIOENCODING=f"{encoding}:strict")
            done = subprocess.run(words, cwd=folder, env=env, input=octets, capture_output=True, check=False)
            assert done.returncode == code, done
            assert (folder / "secret.txt").read_bytes() == f"{SECRET}\xe9\n".encode()
    assert b"problem: what is piped in is not UTF-8 text" in done.stderr
    assert SECRET.encode() not in done.stderr


def test_a_refused_login_is_said_in_words(folder: Path) -> None:
    """With what to do; no letter is tried, and no ledger begun."""
    with relay(folder, '{ file = "secret.txt" }') as server:
        assert dispatcher("account", "add", folder=folder, text=f"not-{SECRET}\n").code == 0
        done = dispatcher("account", "test", folder=folder)
        also = dispatcher("account", "test", "--json", folder=folder)
        assert (done.code, also.code, also.json["error"]) == (4, 4, "RelayUnavailable")
        assert "AUTH: 535 5.7.8" in done.err
        assert f"Check user ({canary.USER}) under [relay] in campaign.toml, and the password in secret.txt" in done.err
        assert not any(line.startswith(b"MAIL") for line in server.commands)
    for words in ("CONNECT:", "Check host (127.0.0.1) and port"):
        assert words in dispatcher("account", "test", folder=folder).err
    assert not (folder / ".dispatcher").exists()
    nowhere(folder, done, also)


def test_tls_is_tried_before_there_is_a_ledger(folder: Path) -> None:
    with relay(folder, '{ file = "secret.txt" }'):
        dispatcher("account", "add", folder=folder, text=f"{SECRET}\n")
        edit(folder / "campaign.toml", 'ca_file = "authority.pem"', "")
        done = dispatcher("account", "test", folder=folder)
    assert done.code == 4
    assert "the relay's certificate is not good" in done.err
    assert "if the relay has an authority of its own: ca_file" in done.err
    assert "Check host, port and security under [relay]" in done.err


@pytest.mark.parametrize(
    ("reply", "todo"),
    [
        ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit",
         "An administrator lets the mailbox send by SMTP: docs/accounts.md#let-the-mailbox-send-by-smtp"),
        ("535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.",
         'sign in by OAuth, with auth = "xoauth2"'),
        ("550 5.7.30 Basic authentication is not supported for Client Submission.", 'auth = "xoauth2"'),
        ("534 5.7.9 Application-specific password required.", "Google takes an app password"),
        ("535 5.7.8 https://support.google.com/mail/?p=BadCredentials x - gsmtp", "Google takes an app password"),
        ("454 4.7.0 Too many login attempts", "It refuses for now: try again in a while"),
        ("535 5.7.3 Authentication unsuccessful", "and the password in secret.txt; then: dispatcher account test"),
    ],
)  # fmt: skip
def test_what_to_do_about_a_refused_login(folder: Path, reply: str, todo: str) -> None:
    """By what well-known services say; and in JSON what to do stands by itself."""
    with relay(folder, '{ file = "secret.txt" }') as server:
        server.script = replace(server.script, on={"AUTH": [f"{reply}\r\n".encode()] * 9})
        dispatcher("account", "add", folder=folder, text=f"{SECRET}\n")
        done = dispatcher("account", "test", "--json", folder=folder)
    (problem,) = done.json["problems"]
    assert todo in problem["todo"]
    assert reply in problem["what"]
    assert "→" not in problem["what"]


def test_preflight_says_so_too(folder: Path) -> None:
    said = b"535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.\r\n"
    with relay(folder, '{ file = "secret.txt" }') as server:
        server.script = replace(server.script, on={"AUTH": [said] * 9})
        dispatcher("account", "add", folder=folder, text=f"{SECRET}\n")
        done = dispatcher("preflight", "--json", folder=folder)
    (line,) = (row for row in done.json["lines"] if row["subject"] == "login")
    assert "docs/accounts.md#let-the-mailbox-send-by-smtp" in line["todo"]


def test_tls_at_the_wrong_port(folder: Path) -> None:
    """Both ways round; the one that says nothing is told by what is said when time is over."""
    with relay(folder, '{ file = "secret.txt" }'):
        dispatcher("account", "add", folder=folder, text=f"{SECRET}\n")
        edit(folder / "campaign.toml", "ca_file", 'security = "tls"\nca_file')
        done = dispatcher("account", "test", folder=folder)
        assert 'no TLS from the start is spoken there: such a port wants security = "starttls"' in done.err
        edit(folder / "campaign.toml", 'security = "tls"', 'security = "starttls"')
        advice = Desk(folder).relay_advice("GREETING: no greeting")
        assert 'one for TLS from the start, as 465 is, wants security = "tls"' in advice


@pytest.mark.parametrize("name", ["nowhere.pem", "secret.txt"])
def test_authorities_that_cannot_be_read(folder: Path, name: str) -> None:
    with relay(folder, '{ file = "secret.txt" }'):
        dispatcher("account", "add", folder=folder, text=f"{SECRET}\n")
        edit(folder / "campaign.toml", "authority.pem", name)
        done = dispatcher("account", "test", folder=folder)
    assert f"{name} cannot be used: " in done.err
    assert "_ssl.c" not in done.err
    assert "  → Check that file, and its name under [relay] in campaign.toml" in done.err


def test_a_relay_without_login(folder: Path) -> None:
    with SmtpServer() as server:
        set_relay(folder, f'host = "127.0.0.1"\nport = {server.port}\nsecurity = "none"')
        done = dispatcher("account", "test", folder=folder)
    assert done.code == 0
    assert "Connected to 127.0.0.1" in done.out
    assert "Not logged in: there is no user under [relay]" in done.err
    added = dispatcher("account", "add", folder=folder, text="x\n")
    assert added.code == 2
    assert "no login is set" in added.err
    assert 'password = { keyring = "dispatcher" }' in added.err


@pytest.mark.parametrize("password", ['{ env = "DISPATCHER_PASSWORD" }', '{ command = ["pass", "show", "relay"] }'])
def test_where_nothing_can_be_stored(folder: Path, password: str) -> None:
    with relay(folder, password):
        for verb in ("add", "remove"):
            done = dispatcher("account", verb, folder=folder, text=f"{SECRET}\n")
            assert done.code == 2
            assert "Password, to be stored" not in done.all
            assert "where nothing can be stored" in done.err
            assert 'write password = { keyring = "dispatcher" } or { file = "secret.txt" } under [relay]' in done.err


# In a keyring.


def test_in_the_keyring(folder: Path, home: Path) -> None:
    """GNOME's, for real: what one command stored another one finds; it is in no file in clear, not even in its own."""
    with relay(folder, KEYRING) as server:

        def run(*words: str, text: str = "") -> Done:
            return on_desktop(*words, folder=folder, home=home, text=text)

        missing = run("account", "test")
        assert missing.code == 2
        assert f"the keyring has nothing for {canary.USER} under dispatcher" in missing.err
        assert "put it there: dispatcher account add" in missing.err
        added = run("account", "add", text=f"{SECRET}\n")
        assert added.code == 0, added
        assert f"Stored in the keyring, for {canary.USER} under dispatcher." in added.out
        tried = run("account", "test")
        assert "Logged in as" in tried.out, tried
        sent = run("send", "--confirm", "6")
        assert sent.code == 0, sent
        assert len(server.stored) == 6
        removed = run("account", "remove")
        assert removed.out.startswith("Removed from the keyring")
        assert run("account", "remove").out.startswith("There was nothing in the keyring")
    nowhere(folder, missing, added, tried, sent, removed)
    nowhere(home)


def test_a_keyring_that_is_locked(folder: Path, home: Path) -> None:
    """Nobody sits there to unlock it: the command ends, and says what else there is."""
    with relay(folder, KEYRING):
        for words in (["add"], ["test"], ["remove"]):
            done = on_desktop("account", *words, folder=folder, home=home, text=f"{SECRET}\n", locked=True)
            assert done.code == 2
            assert "the keyring is locked, or cannot be opened" in done.err
            assert 'use password = { file = "secret.txt" }' in done.err
            assert "Traceback" not in done.err
    nowhere(home, done)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system has one")
def test_a_machine_without_a_keyring(folder: Path, home: Path) -> None:
    """A server: told by name what to use instead, before anything is sealed."""
    with relay(folder, KEYRING):
        for words in (["account", "add"], ["account", "test"], ["account", "remove"], ["send", "--confirm", "6"]):
            done = dispatcher(*words, folder=folder, text=f"{SECRET}\n", env={"HOME": str(home)})
            assert done.code == 2
            assert "there is no keyring on this machine" in done.err
            assert 'use password = { file = "secret.txt" }, { env = "NAME" } or { command =' in done.err
            assert "Traceback" not in done.err
    assert not (folder / ".dispatcher").exists()


def test_without_the_extra(folder: Path) -> None:
    """The extra is named, and the command that installs it."""
    code = "import sys; sys.modules['keyring'] = None; from dispatcher.cli import main; main()"
    with relay(folder, KEYRING):
        done = subprocess.run(
            [sys.executable, "-c", code, "account", "test"],
            cwd=folder,
            env=environment(),
            capture_output=True,
            check=False,
        )
    assert done.returncode == 2
    assert b"the keyring is an extra that is not installed" in done.stderr
    assert b"pip install 'dispatcher[keyring]'" in done.stderr


def test_check_wakes_no_keyring(folder: Path, home: Path) -> None:
    """It would ask for a password of its own; and `check` connects to nobody."""
    with relay(folder, KEYRING):
        done = dispatcher("check", folder=folder, env={"HOME": str(home)})
    assert done.code == 0
    assert "keyring" not in done.all
