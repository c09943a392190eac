"""The relay's side of `send`: who may be written to at all, login and TLS, the mistakes with them, and the password."""

import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
import trustme

from tests import canary
from tests.command import (
    Done,
    argv,
    dispatcher,
    edit,
    environment,
    new_campaign,
    read_list,
    set_relay,
    write_list,
)
from tests.smtp_server import STORE, Action, Script, SmtpServer

CANARY = canary.PASSWORD
LOGIN = (canary.USER, CANARY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


def secured(
    folder: Path, script_on: Mapping[str, Action] | None = None, mechanisms: str = "PLAIN LOGIN CRAM-MD5"
) -> SmtpServer:
    """A relay with STARTTLS and AUTH, whose authority the campaign trusts by `ca_file`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    server = SmtpServer(Script(tls=context, login=LOGIN, on=script_on or {}, mechanisms=mechanisms))
    set_relay(
        folder,
        f'host = "127.0.0.1"\nport = {server.port}\nsecurity = "starttls"\nuser = "{LOGIN[0]}"\n'
        'password = { env = "DISPATCHER_PASSWORD" }\nca_file = "authority.pem"',
    )
    return server


# Who may be written to.


def test_examples_go_to_no_real_relay(folder: Path) -> None:
    """Addresses, tester or sender in a reserved domain: refused by any relay that is not this machine."""
    set_relay(folder, 'host = "relay.invalid"\nport = 587')
    for words in (["send"], ["send", "--confirm", "6"], ["send", "--test-to", "me@example.org"],
                  ["send", "--test-to", "me@somewhere.museum"]):  # fmt: skip
        done = dispatcher(*words, folder=folder)
        assert done.code == 2
        assert "reserved domain" in done.err
    assert not (folder / ".dispatcher").exists()
    assert dispatcher("send", "--sandbox", folder=folder).code == 0


def test_no_letter_in_clear_to_another_machine(folder: Path) -> None:
    set_relay(folder, 'host = "relay.invalid"\nport = 25\nsecurity = "none"')
    assert 'security = "none" is only for this machine' in dispatcher("send", folder=folder).err
    set_relay(folder, 'host = "127.0.0.1"\nsecurity = "none"\nuser = "me"\npassword = { env = "X" }')
    assert "would send the password in clear" in dispatcher("send", folder=folder).err


# The relay's login, and the mistakes with it.


def test_over_starttls_with_login(folder: Path) -> None:
    """The whole story of one letter: TLS version, verbatim reply, queue id, digests."""
    with secured(folder, {"DOT": (STORE, b"250 2.0.0 Ok: queued as 4F2A7C91\r\n")}) as server:
        done = dispatcher("send", "--confirm", "6", folder=folder, env={"DISPATCHER_PASSWORD": CANARY})
        assert done.code == 0, done
        assert len(server.stored) == 6
    story = dispatcher("log", "FRA", "--json", folder=folder).json
    attempt = story["attempts"][0]
    assert attempt["tls_version"] in ("TLSv1.2", "TLSv1.3")
    assert attempt["certificate"] == "127.0.0.1"
    assert attempt["cipher"]
    assert attempt["reply"] == "2.0.0 Ok: queued as 4F2A7C91"
    assert attempt["code"] == 250
    assert attempt["queue_id"] == "4F2A7C91"
    assert attempt["rcpts"][0]["mailbox"] == "fra@missions.example.org"
    sent = next(s for s in server.stored if s.rcpt_tos == ("fra@missions.example.org",))
    assert f"Message-ID: {story['message_id']}\r\n".encode() in sent.octets
    assert re.fullmatch(r"[0-9a-f]{64}", story["digest"])
    assert re.fullmatch(r"[0-9a-f]{64}", attempt["message_digest"])
    told = dispatcher("log", "FRA", folder=folder).out
    assert "certificate of 127.0.0.1" in told
    for words in (attempt["tls_version"], "250 2.0.0 Ok: queued as 4F2A7C91", "queue-id: 4F2A7C91", story["message_id"],
                  story["digest"], attempt["message_digest"], "fra@missions.example.org: accepted"):  # fmt: skip
        assert words in told


def found_nowhere(folder: Path, *outputs: Done) -> None:
    """The password, in any form that travels, is in no file and in no output."""
    assert not list(canary.found_in(folder, CANARY))
    for done in outputs:
        assert not [form for form in canary.forms(CANARY) if form in done.all.encode()], done


class Descendants:
    """Everything that the processes below one of ours are told by whoever starts them: words and environment."""

    def __init__(self, ours: int) -> None:
        self.told: dict[str, bytes] = {}
        self._ours, self._words, self._over = ours, b"", threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        family = {self._ours}
        with suppress(OSError):
            self._words = Path(f"/proc/{self._ours}/cmdline").read_bytes()
        while not self._over.wait(0.002):
            for entry in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
                    if parent in family:
                        family.add(int(entry.name))
                        words = (entry / "cmdline").read_bytes()
                        if words != self._words:  # a copy of ours, which is not yet what it is started as
                            self.told[entry.name] = words + (entry / "environ").read_bytes()


CRASH = """
from dispatcher.relays.smtp import SmtpRelay
async def crash(*_):
    raise RuntimeError("broken on purpose")
SmtpRelay._take_over = crash
from dispatcher.cli import main
main()
"""
"""The command line, with a fault of ours behind the login: ends with a traceback."""


def test_the_password_is_nowhere(folder: Path, tmp_path: Path) -> None:
    """S25. A canary through everything that reads, shows, sends, fails and reports: in no file, no output, no
    traceback, no process that we start; and no image of a process that holds it is written.
    """
    states = tmp_path / "state"
    env = {
        "DISPATCHER_PASSWORD": CANARY, "PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "PYTHONFAULTHANDLER": "1",
        "DISPATCHER_STATE": str(states),
    }  # fmt: skip
    outputs = []

    def run(*words: str, command: Sequence[str] = (sys.executable, "-m", "dispatcher")) -> Done:
        process = subprocess.Popen(
            [*command, *words], cwd=folder, env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with Descendants(process.pid) as below:
            out, err = process.communicate(timeout=120)
        for told in below.told.values():
            assert CANARY.encode() not in told, told
        seen.update(below.told)
        outputs.append(Done(process.returncode, out.decode(), err.decode()))
        return outputs[-1]

    seen: dict[str, bytes] = {}
    with secured(folder, {"AUTH": (b"535 5.7.8 no, not with " + CANARY.encode() + b"\r\n")}):
        for words in ("check", "preview --out seen", "preview --bundle seen.html", "send", "account test",
                      "send --confirm 6", "send --test-to me@tester.example"):  # fmt: skip
            run(*words.split())
        assert outputs[-1].code == outputs[-2].code == outputs[-3].code == 4
    with secured(folder) as server:
        crashed = run("send", "--confirm", "6", command=(sys.executable, "-c", CRASH))
        assert "RuntimeError: broken on purpose" in crashed.err
        process = subprocess.Popen(argv("send", "--confirm", "6"), cwd=folder, env=environment(**env))
        server.wait(lambda s: len(s.stored) > 3, 60)
        if Path("/proc").exists():
            limits = Path(f"/proc/{process.pid}/limits")
            assert not limits.exists() or re.search(r"Max core file size +[01] ", limits.read_text())
        assert process.wait(60) == 0
    for words in ("status", "log", "log FRA", "log --json", "log --format csv", "send", "check --json", "account test",
                  "account remove", "preflight", "verify", "dossier evidence --messages"):  # fmt: skip
        run(*words.split())
    assert not Path("/proc").exists() or any(b"pdf_child" in told for told in seen.values())
    assert list(states.iterdir())
    assert (folder / "evidence").is_dir()
    found_nowhere(tmp_path, *outputs)


def test_wrong_password(folder: Path) -> None:
    """535: no letter fails, the run pauses, and the words say what to mend. A relay that repeats it is not repeated."""
    repeat = b"535 5.7.8 no such user with " + CANARY.encode() + b"\r\n"
    for on in ({}, {"AUTH": repeat}):
        with secured(folder, on):
            env = {"DISPATCHER_PASSWORD": CANARY if on else "wrong-" + CANARY}
            done = dispatcher("send", "--confirm", "6", "--skip-preflight", folder=folder, env=env)
            also = dispatcher("send", "--confirm", "6", "--json", "--skip-preflight", folder=folder, env=env)
            test = dispatcher("send", "--test-to", "me@tester.example", folder=folder, env=env)
        assert (done.code, also.code, test.code) == (4, 4, 4)
        for said in (done.err, test.err):
            assert "AUTH: 535 5.7.8" in said
            assert "Check user (upr@kms.example.org) under [relay] in campaign.toml" in said
            assert "the password in the environment variable DISPATCHER_PASSWORD" in said
        assert "6 letters: 6 waiting" in done.out
        assert "To go on: dispatcher send --confirm 6" in done.out
        assert also.json["waiting"] == 6
        assert also.json["ended"] == "paused"
        found_nowhere(folder, done, also, test)


def test_a_token_in_place_of_a_password(folder: Path) -> None:
    """A refused one pauses the run, with the relay's reason in words; a good one, from a command, sends."""
    (folder / "vault").write_text(f"{CANARY}-expired\n", encoding="utf-8")
    with secured(folder, mechanisms="PLAIN XOAUTH2") as server:
        code = "print(open('vault').read())"
        command = f'{{ command = ["{sys.executable}", "-c", "{code}"] }}\nauth = "xoauth2"'
        edit(folder / "campaign.toml", '{ env = "DISPATCHER_PASSWORD" }', command)
        refused = dispatcher("send", "--confirm", "6", "--skip-preflight", folder=folder)
        assert refused.code == 4
        assert "AUTH: 535 5.7.8" in refused.err
        assert "the relay's reason: status: 401, schemes: bearer" in refused.err
        assert f"the token in what '{sys.executable}' prints" in refused.err
        assert "6 letters: 6 waiting" in refused.out
        (folder / "vault").write_text(CANARY, encoding="utf-8")
        done = dispatcher("send", "--confirm", "6", folder=folder)
        assert done.code == 0, done
        assert len(server.stored) == 6
    (folder / "vault").unlink()
    found_nowhere(folder, refused, done)


def test_forgotten_password(folder: Path) -> None:
    """Found before anything is sealed or anybody is connected to."""
    with secured(folder) as server:
        done = dispatcher("send", "--confirm", "6", folder=folder)
        assert done.code == 2
        assert "problem: the environment variable DISPATCHER_PASSWORD is not set" in done.err
        assert "at campaign.toml, key relay.password" in done.err
        assert "export DISPATCHER_PASSWORD" in done.err
        assert server.seen == []
    assert not (folder / ".dispatcher").exists()


def test_wrong_host_name(folder: Path) -> None:
    columns, rows = read_list(folder, "ngos.csv")
    write_list(folder, "ngos.csv", columns, [{**rows[0], "email": "desk@somewhere.museum"}])
    write_list(folder, "un_missions.csv", read_list(folder, "un_missions.csv")[0], [])
    edit(folder / "campaign.toml", "kms.example.org", "kms.museum")
    set_relay(folder, 'host = "relay.invalid"\nport = 587')
    done = dispatcher("send", "--confirm", "1", "--skip-preflight", folder=folder)
    assert done.code == 4
    assert "Check host (relay.invalid) and port (587) under [relay] in campaign.toml" in done.err
    assert "1 letter: 1 waiting" in done.out


def test_untrusted_certificate(folder: Path) -> None:
    with secured(folder) as server:
        edit(folder / "campaign.toml", 'ca_file = "authority.pem"', "")
        done = dispatcher("send", "--confirm", "6", folder=folder, env={"DISPATCHER_PASSWORD": CANARY})
        assert done.code == 4
        assert "the relay's certificate is not good" in done.err
        assert "Check host, port and security under [relay] in campaign.toml" in done.err
        assert not any(command.startswith((b"AUTH", b"MAIL")) for command in server.commands)


def test_tls_that_was_there_before_and_is_gone_is_an_alarm(folder: Path) -> None:
    """Both for letters and for tests; and only then: a relay never met under TLS is merely not set up."""
    with secured(folder) as server:
        env = {"DISPATCHER_PASSWORD": CANARY}
        assert dispatcher("send", "--confirm", "3", "--limit", "3", folder=folder, env=env).code == 0
        server.script = replace(server.script, tls=None)
        for words in (["send", "--confirm", "3"], ["send", "--test-to", "me@tester.example"]):
            done = dispatcher(*words, folder=folder, env=env)
            assert done.code == 4
            assert "the relay does not offer STARTTLS; nothing was sent" in done.err
            assert re.search(
                r"ALARM: 127\.0\.0\.1 had good TLS on \d{4}-\d\d-\d\d \(TLSv1\.\d, certificate of", done.err
            )
        assert len(server.stored) == 3


def test_no_starttls_on_offer(folder: Path) -> None:
    with SmtpServer() as server:
        set_relay(folder, f'host = "127.0.0.1"\nport = {server.port}')
        done = dispatcher("send", "--confirm", "6", folder=folder)
        assert done.code == 4
        assert "the relay does not offer STARTTLS; nothing was sent" in done.err
        assert "ALARM" not in done.err
        assert server.stored == []
