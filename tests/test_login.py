"""Logging in to real servers, by every mechanism there is; a refusal pauses the run and harms no letter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.dispatch import Close
from tests.command import edit
from tests.servers import Login, RealServer
from tests.servers.aiosmtpd import Aiosmtpd
from tests.servers.node import Node
from tests.torture import judge, query, run, states, write_campaign

LETTERS = 5
every = pytest.mark.parametrize(
    ("server", "mechanism"),
    [
        (Node, "PLAIN"),
        (Node, "LOGIN"),
        (Node, "CRAM-MD5"),
        (Node, "XOAUTH2"),
        (Aiosmtpd, "PLAIN"),
        (Aiosmtpd, "LOGIN"),
    ],
)
Kind = Callable[[Login], RealServer]


@every
def test_login(server: Kind, mechanism: str, tmp_path: Path) -> None:
    with server(Login(mechanism)) as here:
        write_campaign(tmp_path, here.port, LETTERS, relay=here.relay(tmp_path))
        assert run(tmp_path).exit_code == 0
        judge(tmp_path, here, LETTERS, complete=True)
    facts = query(tmp_path, "SELECT DISTINCT host, tls_version, cipher <> '', certificate FROM session")
    assert facts == [("127.0.0.1", "TLSv1.3", 1, "127.0.0.1")]


@every
def test_a_refused_login_pauses_the_run(server: Kind, mechanism: str, tmp_path: Path) -> None:
    """The reason is the server's own, in words; with the secret put right, the same letters go."""
    login = Login(mechanism)
    with server(login) as here:
        write_campaign(tmp_path, here.port, LETTERS, relay=here.relay(tmp_path))
        replace(login, secret="a-wrong-one").lines(tmp_path)
        result = run(tmp_path)
        assert (result.report.close, result.exit_code) == (Close.PAUSED, 4)
        assert result.report.why.startswith("AUTH: 535 ")
        assert ("status: 401, schemes: bearer mac, scope: https" in result.report.why) == (mechanism == "XOAUTH2")
        assert "a-wrong-one" not in result.report.why
        assert (states(tmp_path), here.stored) == ({"ready": LETTERS}, [])
        assert query(tmp_path, "SELECT count(*) FROM attempt") == [(0,)]
        login.lines(tmp_path)
        assert run(tmp_path).exit_code == 0
        judge(tmp_path, here, LETTERS, complete=True)


@pytest.mark.parametrize(
    ("offered", "old", "new"), [("PLAIN", "password", "xoauth2"), ("XOAUTH2", "xoauth2", "password")]
)
def test_a_mechanism_that_is_not_there(tmp_path: Path, offered: str, old: str, new: str) -> None:
    """A token for a server that wants passwords, and the other way round: refused before anything is told."""
    with Node(Login(offered)) as here:
        write_campaign(tmp_path, here.port, LETTERS, relay=here.relay(tmp_path))
        edit(tmp_path / "campaign.toml", f'auth = "{old}"', f'auth = "{new}"')
        result = run(tmp_path)
    assert result.report.close is Close.PAUSED
    assert f"offered: {offered}" in result.report.why
    assert ('auth = "xoauth2"' in result.report.why) == (offered == "XOAUTH2")
