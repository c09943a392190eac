"""Other ways to a relay than host, port and password: a certificate of our own, a UNIX socket, an SSH tunnel."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from dispatcher.core.campaign import Campaign
from dispatcher.core.errors import CampaignError
from dispatcher.dispatch import Close
from dispatcher.sources.campaign import read_campaign
from tests import canary
from tests.command import dispatcher, new_campaign, set_relay
from tests.servers import HOST, SECONDS, Login, free_port, listens, require
from tests.servers.aiosmtpd import Aiosmtpd
from tests.servers.node import Node
from tests.smtp_server import Script, SmtpServer
from tests.torture import judge, query, run, states, write_campaign

LETTERS = 6
NAME = "relay.example.org"
posix = pytest.mark.skipif(sys.platform == "win32", reason="UNIX sockets and modes of files")


@pytest.fixture
def clients(tmp_path: Path) -> trustme.CA:
    """The authority that a relay knows its clients by; its certificate is `clients.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    return authority


def write_key(folder: Path, authority: trustme.CA, ended: datetime | None = None) -> None:
    """A certificate of ours and its key, in two files."""
    begun = ended - timedelta(days=1) if ended else None
    mine = authority.issue_cert("kms.example.org", not_before=begun, not_after=ended)
    mine.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    mine.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "key.pem").chmod(0o600)


OURS = '\nclient_cert = "cert.pem"\nclient_key = "key.pem"'


# A certificate of our own.


@pytest.mark.parametrize("one_file", [True, False])
def test_a_relay_that_knows_us_by_our_certificate(tmp_path: Path, clients: trustme.CA, one_file: bool) -> None:
    write_key(tmp_path, clients)
    lines = OURS
    if one_file:
        (tmp_path / "key.pem").write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "cert.pem").read_bytes())
        lines = '\nclient_cert = "key.pem"'
    with Node(clients=tmp_path / "clients.pem") as server:
        write_campaign(tmp_path, server.port, LETTERS, relay=server.relay(tmp_path) + lines)
        assert run(tmp_path).exit_code == 0
        judge(tmp_path, server, LETTERS, complete=True)


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shown", ["good", "another authority's", "expired", "none"])
def test_a_certificate_is_shown_and_judged(
    tmp_path: Path, clients: trustme.CA, security: str, version: ssl.TLSVersion, shown: str
) -> None:
    """By either version of TLS; one that is not good enough harms no letter."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    context.minimum_version = context.maximum_version = version
    context.load_verify_locations(tmp_path / "clients.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    ended = datetime(2009, 10, 1, tzinfo=UTC) if shown == "expired" else None
    write_key(tmp_path, clients if shown in ("good", "expired") else trustme.CA(), ended)
    with SmtpServer(Script(tls=context, implicit=security == "tls")) as server:
        lines = f'security = "{security}"\nca_file = "authority.pem"{"" if shown == "none" else OURS}'
        write_campaign(tmp_path, server.port, LETTERS, relay=lines)
        result = run(tmp_path)
        if shown == "good":
            assert result.exit_code == 0
            judge(tmp_path, server, LETTERS, complete=True)
            return
        assert (result.report.close, result.exit_code) == (Close.PAUSED, 4)
        assert result.report.why.startswith("STARTTLS: TLS failed: ")
        if shown == "expired":
            assert "our client_cert has expired" in result.report.why
        elif shown != "none":
            assert "the relay does not know who made our client_cert" in result.report.why
        elif version == ssl.TLSVersion.TLSv1_3:
            assert "the relay wants a certificate of ours: client_cert" in result.report.why
        assert (states(tmp_path), server.stored) == ({"ready": LETTERS}, [])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("mode", "key.pem can be read by others"),
        ("missing", "key.pem does not exist"),
        ("outside", "key.pem leads outside the campaign's folder"),
    ],
)
@posix
def test_a_key_that_is_not_kept_well(tmp_path: Path, clients: trustme.CA, spoil: str, words: str) -> None:
    """Found before anything is sealed, with its place in campaign.toml."""
    folder = new_campaign(tmp_path / "campaign")
    write_key(folder, clients)
    if spoil == "mode":
        (folder / "key.pem").chmod(0o640)
    else:
        (folder / "key.pem").rename(tmp_path / "key.pem")
    if spoil == "outside":
        (folder / "key.pem").symlink_to(tmp_path / "key.pem")
    set_relay(folder, f'host = "127.0.0.1"{OURS}')
    for command in (["send", "--confirm", "6"], ["account", "test"]):
        done = dispatcher(*command, folder=folder)
        assert done.code != 0
        assert words in done.err
        assert "Traceback" not in done.err
    assert "key relay.client_key" in done.err
    assert not (folder / ".dispatcher").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("other key", "certificate and key do not belong together"),
        ("locked", "the key is locked with a passphrase"),
        ("no PEM", "it is no PEM"),
        ("no certificate", "No such file"),
    ],
)
def test_a_certificate_that_cannot_be_shown(tmp_path: Path, clients: trustme.CA, spoil: str, words: str) -> None:
    """Nobody is asked for a passphrase in the middle of a run, and nothing is sent."""
    write_key(tmp_path, clients)
    if spoil == "other key":
        clients.issue_cert("x.example.org").private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    elif spoil == "locked":
        openssl = require("openssl", "apt-get install openssl")
        argv = [openssl, "pkey", "-in", "key.pem", "-aes256", "-passout", "pass:x", "-out", "locked.pem"]
        subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
        (tmp_path / "locked.pem").replace(tmp_path / "key.pem")
    elif spoil == "no PEM":
        (tmp_path / "cert.pem").write_text("certificate", encoding="utf-8")
    else:
        (tmp_path / "cert.pem").unlink()
    (tmp_path / "key.pem").chmod(0o600)
    with Node() as server:
        write_campaign(tmp_path, server.port, LETTERS, relay=server.relay(tmp_path) + OURS)
        result = run(tmp_path)
    assert (result.report.close, result.exit_code) == (Close.PAUSED, 4)
    assert words in result.report.why
    assert states(tmp_path) == {"ready": LETTERS}


# A UNIX socket.


def at_socket(folder: Path, lines: str) -> None:
    """The campaign's relay is a socket."""
    path = folder / "campaign.toml"
    text = path.read_text(encoding="utf-8")
    start = text.index("[relay]")
    end = text.index("\n[", start)
    path.write_text(f"{text[:start]}[relay]\n{lines}\n{text[end:]}", encoding="utf-8")


@posix
def test_a_relay_on_a_unix_socket(tmp_path: Path) -> None:
    """With TLS and a login, since who else listens there is not known either; its name is given."""
    with Aiosmtpd(Login("PLAIN"), socket=str(tmp_path / "relay.sock")) as server:
        write_campaign(tmp_path, 1, LETTERS)
        at_socket(tmp_path, f'host = "unix:{tmp_path}/relay.sock"\nserver_name = "{HOST}"\n{server.relay(tmp_path)}')
        assert run(tmp_path).exit_code == 0
        judge(tmp_path, server, LETTERS, complete=True)
        tried = dispatcher("account", "test", folder=tmp_path)
    assert f"Connected to unix:{tmp_path}/relay.sock (TLSv1.3" in tried.out
    peers = query(tmp_path, "SELECT DISTINCT host, peer, tls_version FROM session")
    assert peers == [(f"unix:{tmp_path}/relay.sock", f"unix:{tmp_path}/relay.sock", "TLSv1.3")]


@posix
def test_a_socket_without_tls_is_this_machine(tmp_path: Path) -> None:
    """As 127.0.0.1 is: no name is wanted, and example addresses may go there."""
    with Aiosmtpd(socket=str(tmp_path / "relay.sock"), plain=True) as server:
        write_campaign(tmp_path, 1, LETTERS)
        at_socket(tmp_path, f'host = "unix:{tmp_path}/relay.sock"\nsecurity = "none"')
        assert run(tmp_path).exit_code == 0
        judge(tmp_path, server, LETTERS, complete=True)
    assert read_campaign(tmp_path).relay.loopback


@posix
@pytest.mark.parametrize(
    ("path", "words"), [("gone.sock", "No such file"), ("plain", "refused"), ("x" * 120, "too long")]
)
def test_nobody_at_the_socket(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "plain").write_text("", encoding="utf-8")
    write_campaign(tmp_path, 1, LETTERS)
    at_socket(tmp_path, f'host = "unix:{tmp_path}/{path}"\nsecurity = "none"')
    result = run(tmp_path)
    assert (result.report.close, result.exit_code) == (Close.UNAVAILABLE, 4)
    assert result.report.why.startswith("CONNECT: ")
    assert words.lower() in result.report.why.lower()
    tried = dispatcher("account", "test", folder=tmp_path)
    assert tried.code == 4
    assert "that the relay is up and lets you use its socket" in tried.err


def relay_of(folder: Path, lines: str) -> Campaign:
    new_campaign(folder)
    set_relay(folder, lines)
    return read_campaign(folder)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('host = "unix:relay.sock"', "the path of a socket is a whole one"),
        ('host = "unix:/run/"', "the path of a socket is a whole one"),
        ('host = "unix:/run/relay.sock"', "a socket has no name that a certificate could have"),
        ('host = "127.0.0.1"\nsecurity = "none"\nserver_name = "relay.example.org"', "are for TLS"),
        ('host = "127.0.0.1"\nsecurity = "none"\nclient_cert = "x.pem"', "are for TLS"),
        ('host = "127.0.0.1"\nclient_key = "x.pem"', "client_key is the key of a client_cert"),
        ('host = "127.0.0.1"\nclient_cert = "../x.pem"', "stay inside its folder"),
        ('host = "127.0.0.1"\nserver_name = "relay.example.org:25"', "write a host name or an IP address alone"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, lines: str, words: str) -> None:
    with pytest.raises(CampaignError, match=words.replace(".", r"\.")):
        relay_of(tmp_path / "campaign", lines)


# An SSH tunnel.


@contextmanager
def tunnel(folder: Path, forward: str) -> Iterator[None]:
    """`ssh -L` to an sshd of our own, both real; left when what it makes is there."""
    sshd = require("sshd", "apt-get install openssh-server")
    ssh, keygen = (
        require("ssh", "apt-get install openssh-client"),
        require("ssh-keygen", "apt-get install openssh-client"),
    )
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress {HOST}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n",
        encoding="utf-8",
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd gives up its rights
    key = (folder / "host.pub").read_text(encoding="utf-8")
    (folder / "known").write_text(f"[{HOST}]:{port} {key}", encoding="utf-8")
    options = [
        "-F",
        "none",
        "-i",
        str(folder / "user"),
        "-o",
        f"UserKnownHostsFile={folder}/known",
        "-o",
        "BatchMode=yes",
    ]
    here = [ssh, "-N", *options, "-o", "ExitOnForwardFailure=yes", "-L", forward, "-p", str(port), HOST]
    with (folder / "ssh.log").open("wb") as log:
        processes = [subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=log)]
        try:
            deadline = time.monotonic() + SECONDS
            while not listens(port):
                assert time.monotonic() < deadline, (folder / "ssh.log").read_text(encoding="utf-8")
            processes.append(subprocess.Popen(here, stdin=subprocess.DEVNULL, stderr=log))
            yield
        finally:
            for process in processes:
                process.terminate()
                process.wait(SECONDS)


@posix
@pytest.mark.parametrize("by_socket", [False, True])
def test_a_relay_behind_an_ssh_tunnel(tmp_path: Path, by_socket: bool) -> None:
    """The certificate is checked by the relay's own name, not by the tunnel's end; a wrong name is a wrong relay."""
    server = Aiosmtpd(Login("PLAIN"))
    server.name = NAME
    near = free_port()
    end = f"{tmp_path}/relay.sock" if by_socket else f"{HOST}:{near}"
    (tmp_path / "ssh").mkdir()
    with server, tunnel(tmp_path / "ssh", f"{end}:{HOST}:{server.port}"):
        write_campaign(tmp_path, near, LETTERS)
        where = f'host = "unix:{end}"' if by_socket else f'host = "{HOST}"\nport = {near}'
        lines = f"{where}\n{server.relay(tmp_path)}\nserver_name = "
        at_socket(tmp_path, f'{lines}"other.example.org"')
        deadline = time.monotonic() + SECONDS
        while (wrong := dispatcher("account", "test", folder=tmp_path)).err.startswith("dispatcher: CONNECT"):
            assert time.monotonic() < deadline, wrong
        assert wrong.code == 4
        assert "the relay's certificate is not good" in wrong.err
        at_socket(tmp_path, f'{lines}"{NAME}"')
        assert not read_campaign(tmp_path).relay.loopback
        tried = dispatcher("account", "test", folder=tmp_path)
        assert tried.code == 0, tried
        assert f"certificate of {NAME}" in tried.out
        assert f"Logged in as {canary.USER}" in tried.out
    assert not list(canary.found_in(tmp_path, *canary.ALL))
