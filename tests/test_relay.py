"""Setting up a session: connect, greet, secure, log in. Whatever goes wrong is RelayTrouble, and gives nothing away."""

import asyncio
import base64
import errno
import inspect
import json
import logging
import re
import socket
import ssl
import threading
import traceback
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosmtplib
import aiosmtplib.errors
import pytest
import trustme
import uvloop

from dispatcher.accounts.secret import Kept
from dispatcher.core.errors import Problem, SecretError
from dispatcher.core.model import HandOver, Message, Phase, Reply, SessionInfo
from dispatcher.core.ports import RelayTrouble
from dispatcher.relays.login import Secret
from dispatcher.relays.smtp import Account, SmtpRelay, Timeouts
from dispatcher.relays.trouble import MAPPED, trouble_of
from tests.smtp_server import CLOSE, HANG, RESET, Action, Actions, Script, SmtpServer
from tests.test_session import ENVELOPE, HASTY, PATIENT, FakeClock, granted

PASSWORD = "correct horse \u00e9 staple"
LOGIN = ("kms", PASSWORD)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    return server_tls(authority.issue_cert("127.0.0.1", "relay.example"))


def server_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def relay(server: SmtpServer, timeouts: Timeouts = PATIENT, **account: Any) -> SmtpRelay:
    settings: dict[str, Any] = {"host": server.host, "port": server.port, "security": "none"}
    if "password" in account:
        account["password"] = told(account["password"])
    return SmtpRelay(Account(**settings | account), FakeClock(), timeouts)


def told(password: Callable[[], str]) -> Secret:
    """A secret that is what it is, whatever was refused."""

    async def secret(_: str) -> str:
        return password()

    return secret


def connect(
    server: SmtpServer, timeouts: Timeouts = PATIENT, run: Callable[..., SessionInfo] = asyncio.run, **account: Any
) -> SessionInfo:
    """Connect and close; what is known of the session."""

    async def go() -> SessionInfo:
        session = await relay(server, timeouts, **account).connect()
        assert session.usable
        await session.close()
        return session.info

    return run(go())


def trouble(server: SmtpServer, timeouts: Timeouts = PATIENT, **account: Any) -> RelayTrouble:
    """Connect, which must fail."""
    with pytest.raises(RelayTrouble) as caught:
        connect(server, timeouts, **account)
    return caught.value


def verbs(server: SmtpServer) -> list[bytes]:
    return [line.split()[0] for line in server.commands]


# What goes well.


def test_plain() -> None:
    with SmtpServer() as server:
        info = connect(server)
    assert info == SessionInfo(
        host="127.0.0.1",
        port=server.port,
        peer=f"127.0.0.1:{server.port}",
        mode="lock-step",
        features={"SIZE": "52428800", "8BITMIME": "", "SMTPUTF8": ""},
    )


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_letters_go_under_tls(
    security: str, run: Callable[..., tuple[SessionInfo, HandOver]], tls: ssl.SSLContext, ca_file: Path
) -> None:
    """The connection taken over is the one under TLS, on either event loop, for a message larger than any buffer."""
    large = Message(b"Date: x\r\n\r\n", b".dots\r\n", (b".line of the report\r\n" * 200_000,))

    async def go() -> tuple[SessionInfo, HandOver]:
        session = await relay(server, security=security, ca_file=ca_file).connect()
        try:
            return session.info, await session.hand_over(ENVELOPE, large, granted)
        finally:
            await session.close()

    with SmtpServer(Script(tls=tls, implicit=security == "tls")) as server:
        info, facts = run(go())
    assert (info.tls_version, info.peer) == ("TLSv1.3", f"127.0.0.1:{server.port}")
    assert info.certificate == "127.0.0.1, relay.example"
    assert "AES" in info.cipher or "CHACHA" in info.cipher
    assert facts.reply
    assert facts.reply.code == 250
    assert server.stored[0].octets == large.octets
    assert verbs(server) == [
        *([b"EHLO", b"STARTTLS"] * (security == "starttls")),
        b"EHLO",
        b"MAIL",
        b"RCPT",
        b"DATA",
        b"QUIT",
    ]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "PLAIN LOGIN CRAM-MD5", "GSSAPI LOGIN"])
def test_login(mechanism: str, tls: ssl.SSLContext, ca_file: Path) -> None:
    with SmtpServer(Script(tls=tls, login=LOGIN, mechanisms=mechanism)) as server:
        connect(server, security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD)
    assert verbs(server)[:4] == [b"EHLO", b"STARTTLS", b"EHLO", b"AUTH"]


def test_a_mechanism_that_is_offered_but_not_done_is_passed_over(tls: ssl.SSLContext, ca_file: Path) -> None:
    script = Script(tls=tls, login=LOGIN, on={"AUTH": [b"504 5.5.4 not that one\r\n", b"235 fine\r\n"]})
    with SmtpServer(script) as server:
        connect(server, security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD)
    assert verbs(server).count(b"AUTH") == 2


def test_helo_where_ehlo_is_not_known() -> None:
    """F52: nothing is on offer then."""
    with SmtpServer(Script(on={"EHLO": b"502 5.5.1 what\r\n"})) as server:
        assert connect(server, helo="kms.example").features == {}
    assert server.commands[:2] == [b"EHLO kms.example", b"HELO kms.example"]


def test_the_account_names_whose_pace_it_is_and_no_secret() -> None:
    account = Account("relay.example", 587, "starttls", "kms", told(lambda: PASSWORD))
    assert SmtpRelay(account, FakeClock()).account == "kms@relay.example:587"
    assert SmtpRelay(Account("relay.example", 25, "none"), FakeClock()).account == "relay.example:25"
    assert "lambda" not in repr(account)
    assert "password=" not in repr(account)


def test_the_time_limits_are_those_of_the_rfc() -> None:
    """RFC 5321 §4.5.3.2, and ten minutes after the dot."""
    assert Timeouts() == Timeouts(30, 300, 300, 60, 120, 300, 300, 120, 180, 600, 20, 5)
    assert Timeouts().scaled(0.5) == Timeouts(15, 150, 150, 30, 60, 150, 150, 60, 90, 300, 10, 2.5)


# The network and the relay.


def test_nothing_listens() -> None:
    """F24."""
    with SmtpServer() as server:
        pass
    found = trouble(server)
    assert (found.phase, found.reply) == (Phase.CONNECT, None)
    assert found.fault == "the connection was refused: no mail server listens there"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70 + ".invalid", "a..b", ""])
def test_a_host_that_cannot_be_found(host: str) -> None:
    with SmtpServer() as server:
        server.port = 1
        found = trouble(server, host=host)
    assert (found.phase, found.reply) == (Phase.CONNECT, None)
    assert found.fault
    assert "Errno" not in found.fault


def test_a_relay_that_takes_no_connection_runs_into_the_time_limit() -> None:
    """F25: a listener whose queue is full stands for a host that does not answer."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        crowd = [socket.socket() for _ in range(4)]
        for sock in crowd:
            sock.setblocking(False)
            assert sock.connect_ex(deaf.getsockname()) in (0, errno.EINPROGRESS)
        with pytest.raises(RelayTrouble) as caught:
            asyncio.run(SmtpRelay(Account("127.0.0.1", deaf.getsockname()[1], "none"), FakeClock(), HASTY).connect())
        for sock in crowd:
            sock.close()
    assert caught.value.phase is Phase.CONNECT
    assert "within 0.01 s" in caught.value.fault


def test_the_second_address_is_tried_when_the_first_is_dead() -> None:
    """F58, by a name server of the test's own: the loop's, which gives a dead address first."""

    class Loop(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, host: Any, port: Any, **kwargs: Any) -> list[Any]:
            assert host == "relay.example"
            tcp = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*tcp, ("127.0.0.1", dead)), (*tcp, ("127.0.0.1", port))]

    with SmtpServer() as gone:
        dead = gone.port
    with SmtpServer() as server, asyncio.Runner(loop_factory=Loop) as runner:
        session = runner.run(relay(server, host="relay.example").connect())
        assert session.info.peer == f"127.0.0.1:{server.port}"
        runner.run(session.close())


@pytest.mark.parametrize("drop", [CLOSE, RESET])
@pytest.mark.parametrize(
    ("step", "phase"),
    [
        ("CONNECT", Phase.GREETING),
        ("EHLO", Phase.EHLO),
        ("STARTTLS", Phase.STARTTLS),
        ("AUTH", Phase.AUTH),
    ],
)
def test_a_drop_while_setting_up(step: str, phase: Phase, drop: Action, tls: ssl.SSLContext, ca_file: Path) -> None:
    """F28. A reset in place of the greeting may be there before the connection is known to stand."""
    with SmtpServer(Script(tls=tls, login=LOGIN, on={step: drop})) as server:
        found = trouble(server, security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD)
    assert found.phase is phase or (step, drop, found.phase) == ("CONNECT", RESET, Phase.CONNECT)
    assert found.reply is None
    assert found.fault


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "STARTTLS", "AUTH"])
def test_silence_while_setting_up_runs_into_the_time_limit(step: str, tls: ssl.SSLContext, ca_file: Path) -> None:
    """F26."""
    brief = {{"CONNECT": "greeting"}.get(step, step.lower()): 0.1}
    with SmtpServer(Script(tls=tls, login=LOGIN, on={step: HANG})) as server:
        found = trouble(
            server, Timeouts(**brief), security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD
        )
        server.release()
    assert (found.phase, found.reply) == (Phase.GREETING if step == "CONNECT" else Phase(step.lower()), None)
    assert "imed out" in found.fault


@pytest.mark.parametrize(
    ("step", "phase", "code"),
    [
        ("CONNECT", Phase.GREETING, 421),
        ("CONNECT", Phase.GREETING, 554),
        ("EHLO", Phase.EHLO, 421),
        ("EHLO", Phase.EHLO, 451),
        ("STARTTLS", Phase.STARTTLS, 454),
        ("AUTH", Phase.AUTH, 421),
        ("AUTH", Phase.AUTH, 454),
        ("AUTH", Phase.AUTH, 535),
    ],
)
def test_a_refusal_is_kept_verbatim(step: str, phase: Phase, code: int, tls: ssl.SSLContext, ca_file: Path) -> None:
    """F27, F45; octets that are no UTF-8 become text that can be stored."""
    said = b"%d-4.7.0 not now\r\n%d 4.7.0 \xff d\xc3\xa9j\xc3\xa0\r\n" % (code, code)
    with SmtpServer(Script(tls=tls, login=LOGIN, on={step: said})) as server:
        found = trouble(server, security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD)
    assert (found.phase, found.reply, found.fault) == (
        phase,
        Reply(code, "4.7.0 not now\n4.7.0 \\xff d\u00e9j\u00e0"),
        "",
    )


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "STARTTLS", "AUTH"])
@pytest.mark.parametrize(
    "said", [b"hello\r\n", b"299 odd\r\n", b"354 go\r\n", b"999 odd\r\n", b"-12 odd\r\n", b"2" * 100_000]
)
def test_what_is_no_reply_while_setting_up(step: str, said: bytes, tls: ssl.SSLContext, ca_file: Path) -> None:
    with SmtpServer(Script(tls=tls, login=LOGIN, on={step: said})) as server:
        found = trouble(server, security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD)
    assert (found.phase.upper(), found.reply) == ("GREETING" if step == "CONNECT" else step, None)
    assert found.fault
    assert b"MAIL" not in verbs(server)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("CONNECT", b"220 hello\r\n250 relay.example\r\n"),
        ("EHLO", b"250-relay.example\r\n250 STARTTLS\r\n220 go\r\n"),
        ("EHLO", b"250-relay.example\r\n250 STARTTLS\r\n2"),
        ("AUTH", b"235 in\r\n250 ok\r\n"),
    ],
)
def test_more_than_the_reply_due_while_setting_up(step: str, said: bytes, tls: ssl.SSLContext, ca_file: Path) -> None:
    """S30: a reply too many must not answer the next command."""
    with SmtpServer(Script(tls=tls, login=LOGIN, mechanisms="PLAIN", on={step: said})) as server:
        found = trouble(server, security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD)
    assert (found.phase.upper(), found.reply) == ("GREETING" if step == "CONNECT" else step, None)
    assert "more than the one reply" in found.fault


def test_the_library_still_keeps_unread_octets_where_we_look() -> None:
    async def go() -> bool:
        return hasattr(aiosmtplib.protocol.SMTPProtocol(asyncio.get_running_loop()), "_buffer")

    assert asyncio.run(go())


def test_every_exception_of_the_library_is_mapped() -> None:
    """A new one in a later version fails here, not in a run."""
    for name in aiosmtplib.errors.__all__:
        kind = getattr(aiosmtplib.errors, name)
        assert issubclass(kind, MAPPED)
        assert kind.__init__ in known, f"{name} is made in a way nobody has looked at"
        found = trouble_of(Phase.EHLO, kind(*known[kind.__init__]))
        has_code = "code" in inspect.signature(kind.__init__).parameters
        assert found.reply == (Reply(550, "no") if has_code else None)
        assert found.reply or found.fault


known: dict[Any, tuple[Any, ...]] = {
    aiosmtplib.SMTPException.__init__: ("no",),
    aiosmtplib.SMTPResponseException.__init__: (550, "no"),
    aiosmtplib.SMTPSenderRefused.__init__: (550, "no", "a@one.example"),
    aiosmtplib.SMTPRecipientRefused.__init__: (550, "no", "a@one.example"),
    aiosmtplib.SMTPRecipientsRefused.__init__: ([],),
}


@pytest.mark.parametrize(
    "settings", [{"helo": "a b"}, {"helo": ""}, {"helo": "a\r\nMAIL"}, {"helo": "\u00e9"}, {"host": "a\nb"}]
)
def test_a_setting_nobody_could_use_is_trouble_too(settings: dict[str, Any]) -> None:
    with SmtpServer() as server:
        assert trouble(server, **settings).fault
    assert b"MAIL" not in verbs(server)


def test_a_cancelled_connect_leaves_no_connection() -> None:
    async def go() -> None:
        task = asyncio.create_task(relay(server).connect())
        await asyncio.to_thread(server.wait, lambda s: b"EHLO" in verbs(s))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with SmtpServer(Script(on={"EHLO": (HANG, b"")})) as server:
        asyncio.run(go())
        server.release()
        server.wait(lambda s: s.times("closed") == 1)


# TLS.


@pytest.mark.parametrize("ehlo", [(), ("8BITMIME", "AUTH PLAIN LOGIN"), ("XSTARTTLS", "STARTTLSX")])
def test_starttls_not_on_offer_is_never_done_without(ehlo: tuple[str, ...]) -> None:
    """F46: stripped or never there, nothing follows EHLO, least of all the password."""
    asked = []

    def password() -> str:
        asked.append(PASSWORD)
        return PASSWORD

    with SmtpServer(Script(ehlo=ehlo)) as server:
        found = trouble(server, security="starttls", user="kms", password=password)
    assert (found.phase, found.reply) == (Phase.STARTTLS, None)
    assert "does not offer STARTTLS" in found.fault
    assert (verbs(server), asked) == ([b"EHLO"], [])


def test_octets_injected_before_the_handshake_end_the_connection(tls: ssl.SSLContext, ca_file: Path) -> None:
    """F49: they answer nothing, and no handshake is made with whoever sent them."""
    script = Script(tls=tls, on={"STARTTLS": b"220 go\r\n250-relay.example\r\n250 AUTH PLAIN\r\n"})
    with SmtpServer(script) as server:
        found = trouble(server, security="starttls", ca_file=ca_file)
    assert (found.phase, found.reply) == (Phase.STARTTLS, None)
    assert "more than the one reply" in found.fault
    assert (verbs(server), server.times("secure")) == ([b"EHLO", b"STARTTLS"], 0)


def test_what_was_offered_before_tls_is_forgotten(tls: ssl.SSLContext, ca_file: Path) -> None:
    """RFC 3207 §4.2: also where the relay falls back to HELO under TLS."""
    script = Script(tls=tls, on={"EHLO": [b"250-x\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n", b"502 what\r\n"]})
    with SmtpServer(script) as server:
        assert connect(server, security="starttls", ca_file=ca_file).features == {}
    with SmtpServer(script) as server:
        found = trouble(server, security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD)
    assert found.phase is Phase.AUTH
    assert b"AUTH" not in verbs(server)


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["expired", "wrong host", "unknown authority", "no TLS", "old TLS", "drop"])
def test_a_handshake_that_fails(
    security: str, fault: str, authority: trustme.CA, ca_file: Path, tls: ssl.SSLContext
) -> None:
    """F47, F48: nothing is sent, and the reason is named."""
    past = datetime.now(UTC) - timedelta(days=1)
    good = authority.issue_cert("127.0.0.1")
    context = {
        "expired": lambda: server_tls(authority.issue_cert("127.0.0.1", not_after=past)),
        "wrong host": lambda: server_tls(authority.issue_cert("other.example")),
        "unknown authority": lambda: server_tls(trustme.CA().issue_cert("127.0.0.1")),
        "old TLS": lambda: old_tls(good),
    }.get(fault, lambda: tls)()
    words = {
        "expired": "expired",
        "wrong host": "IP address mismatch",
        "unknown authority": "unable to get local issuer|self.signed",
        "no TLS": "WRONG_VERSION_NUMBER|TLS failed",
        "old TLS": "TLS failed|protocol version",
        "drop": ".",
    }[fault]
    on: dict[str, Action] = {}
    if fault in ("no TLS", "drop"):
        broken = (b"220 go\r\n" if security == "starttls" else b"") + (b"this is no TLS\r\n" * (fault == "no TLS"))
        on = {"STARTTLS" if security == "starttls" else "CONNECT": (broken, CLOSE)}
    # With octets behind the 220 it would be F49: here they come in answer to the handshake.
    if fault == "no TLS" and security == "starttls":
        on = {"STARTTLS": (b"220 go\r\n", HANG, b"this is no TLS\r\n", CLOSE)}
    with SmtpServer(Script(tls=context, implicit=security == "tls" and not on, on=on)) as server:
        threading.Timer(0.1, server.release).start()
        found = trouble(server, security=security, ca_file=ca_file)
    assert (found.phase, found.reply) == (Phase.STARTTLS, None)
    assert re.search(words, found.fault), found.fault
    assert b"MAIL" not in verbs(server)
    assert verbs(server).count(b"EHLO") == (security == "starttls")


def old_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = server_tls(certificate)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def test_a_file_of_authorities_that_cannot_be_read(tls: ssl.SSLContext, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (tmp_path / "none.pem", empty):
        with SmtpServer(Script(tls=tls)) as server:
            found = trouble(server, security="starttls", ca_file=path)
        assert found.phase is Phase.STARTTLS
        assert str(path) in found.fault


# AUTH.


def test_no_login_without_tls() -> None:
    """Not even a connection is made."""
    with SmtpServer(Script(login=LOGIN)) as server:
        found = trouble(server, user="kms", password=lambda: PASSWORD)
    assert found.phase is Phase.AUTH
    assert server.seen == []


@pytest.mark.parametrize(("login", "mechanisms"), [(None, ""), (LOGIN, "GSSAPI XOAUTH2"), (LOGIN, "")])
def test_no_way_to_log_in(login: tuple[str, str] | None, mechanisms: str, tls: ssl.SSLContext, ca_file: Path) -> None:
    """F45: a refusal of our own, which a person must settle; a connection that was merely lost is none."""
    with SmtpServer(Script(tls=tls, login=login, mechanisms=mechanisms)) as server:
        found = trouble(server, security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD)
    assert found.phase is Phase.AUTH
    assert found.reply is not None
    assert found.reply.code == 535
    assert "(dispatcher)" in found.reply.text
    assert "AUTH" in found.reply.text
    assert b"AUTH" not in verbs(server)


TOKEN = "ya29.A0-very_long~token+/=="


def by_token(server: SmtpServer, ca_file: Path, token: str = TOKEN) -> dict[str, Any]:
    return {"security": "starttls", "ca_file": ca_file, "user": "kms", "password": lambda: token, "auth": "xoauth2"}


def test_login_by_a_token_asks_for_a_fresh_one_each_time(tls: ssl.SSLContext, ca_file: Path) -> None:
    """An access token lives an hour, a run may live longer. No password mechanism ever sees it."""
    asked: list[str] = []

    def token() -> str:
        asked.append(TOKEN)
        return TOKEN

    async def go() -> None:
        one = relay(server, security="starttls", ca_file=ca_file, user="kms", password=token, auth="xoauth2")
        for _ in range(2):
            await (await one.connect()).close()

    with SmtpServer(Script(tls=tls, login=("kms", TOKEN), mechanisms="PLAIN LOGIN XOAUTH2")) as server:
        asyncio.run(go())
    assert len(asked) == 2
    assert [line.split()[1] for line in server.commands if line.startswith(b"AUTH")] == [b"XOAUTH2"] * 2


@pytest.mark.parametrize(
    ("challenge", "shown"),
    [
        (base64.b64encode(b'{"status":"401","schemes":"Bearer","scope":"https://mail.example/"}').decode(),
         "status: 401, schemes: Bearer, scope: https://mail.example/"),
        (base64.b64encode(b"[1]").decode(), "[1]"),
        (base64.b64encode(b"no json").decode(), base64.b64encode(b"no json").decode()),
        ("not base64!", "not base64!"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_refused_token_says_why(challenge: str, shown: str, tls: ssl.SSLContext, ca_file: Path) -> None:
    """The reason comes as JSON in base64 before the refusal; both are kept, and the refusal's code decides."""
    refusal = (f"334 {challenge}\r\n".encode(), b"535 5.7.8 not accepted\r\n")
    with SmtpServer(Script(tls=tls, login=LOGIN, mechanisms="XOAUTH2", on={"AUTH": refusal})) as server:
        found = trouble(server, **by_token(server, ca_file))
    assert found.phase is Phase.AUTH
    assert found.reply == Reply(535, f"5.7.8 not accepted\nthe relay's reason: {shown}")
    assert found.reply.enhanced == "5.7.8"


@pytest.mark.parametrize(
    ("token", "mechanisms", "words"),
    [
        (TOKEN, "PLAIN LOGIN", "no AUTH XOAUTH2; offered: PLAIN LOGIN"),
        ("a\x01auth=Bearer b", "XOAUTH2", "characters that no token has"),
        ("two words", "XOAUTH2", "characters that no token has"),
        ("", "XOAUTH2", "characters that no token has"),
    ],
)
def test_a_token_that_is_not_even_sent(
    token: str, mechanisms: str, words: str, tls: ssl.SSLContext, ca_file: Path
) -> None:
    with SmtpServer(Script(tls=tls, login=LOGIN, mechanisms=mechanisms)) as server:
        found = trouble(server, **by_token(server, ca_file, token))
    assert found.reply
    assert found.reply.code == 535
    assert words in found.reply.text
    assert b"AUTH" not in verbs(server)


def test_a_refusal_for_now_is_not_tried_by_another_mechanism(tls: ssl.SSLContext, ca_file: Path) -> None:
    with SmtpServer(Script(tls=tls, login=LOGIN, on={"AUTH": b"454 4.7.0 later\r\n"})) as server:
        trouble(server, security="starttls", ca_file=ca_file, user="kms", password=lambda: PASSWORD)
    assert verbs(server).count(b"AUTH") == 1


def test_a_password_that_was_changed_meanwhile_is_read_anew(tls: ssl.SSLContext, ca_file: Path, tmp_path: Path) -> None:
    """What was kept is refused: then what is there now is tried, once."""
    stored = tmp_path / "stored"
    stored.write_text("the one before", encoding="utf-8")
    kept = Kept(lambda: stored.read_text(encoding="utf-8"), FakeClock().boot)
    assert kept() == "the one before"
    stored.write_text(LOGIN[1], encoding="utf-8")

    async def password(refused: str) -> str:
        return kept(refused)

    async def go(server: SmtpServer) -> None:
        account = Account(server.host, server.port, "starttls", LOGIN[0], password, ca_file=ca_file)
        await (await SmtpRelay(account, FakeClock(), PATIENT).connect()).close()

    with SmtpServer(Script(tls=tls, login=LOGIN, mechanisms="PLAIN")) as server:
        asyncio.run(go(server))
    assert verbs(server).count(b"AUTH") == 2


def test_a_password_that_cannot_be_had_is_a_login_refused(tls: ssl.SSLContext, ca_file: Path) -> None:
    """By ourselves, with what to do: in the middle of a run it pauses that, with its counts and how to go on."""

    def password() -> str:
        raise SecretError(Problem("no password", todo="store it"))

    with SmtpServer(Script(tls=tls, login=LOGIN)) as server:
        found = trouble(server, security="starttls", ca_file=ca_file, user="kms", password=password)
        server.wait(lambda s: s.times("closed") == 1)
    assert found.phase is Phase.AUTH
    assert str(found.reply) == "535 5.7.8 (dispatcher) no password; store it"
    assert b"AUTH" not in verbs(server)


def everything_reachable(error: BaseException) -> str:
    """All that a report of an error could print: text, attributes, and every local of every frame, along the chain."""
    found: list[str] = []
    chain: list[BaseException | None] = [error]
    while chain:
        if (one := chain.pop()) is None:
            continue
        found += [repr(one), str(one), repr(one.args), repr(vars(one)), *traceback.format_exception(one)]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "/dispatcher/" in frame.f_code.co_filename or "aiosmtplib" in frame.f_code.co_filename:
                found.append(repr(frame.f_locals))
        chain += [one.__cause__, one.__context__]
    return "\n".join(found)


@pytest.mark.parametrize("password", [PASSWORD, "hunter2", "\ud83d lone"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "PLAIN LOGIN CRAM-MD5", "XOAUTH2"])
def test_a_failed_login_gives_nothing_away(
    mechanism: str, password: str, tls: ssl.SSLContext, ca_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S25: in no exception, in no frame, in no log; not even where the relay sends back what it was told."""
    caplog.set_level(logging.DEBUG)
    secret = password.encode("utf-8", "surrogatepass")
    lines = (secret, b"\0kms\0" + secret, b"user=kms\x01auth=Bearer " + secret + b"\x01\x01")
    forms = [password, *(base64.b64encode(line).decode() for line in lines)]
    echo = f"535 5.7.8 bad: {' '.join(forms)}\r\n".encode("utf-8", "surrogatepass")
    reason = base64.b64encode(json.dumps({"status": "401", "told": forms}).encode())
    told = (b"334 " + reason + b"\r\n", echo)
    answers: list[dict[str, Actions]] = [{}, {"AUTH": echo}, {"AUTH": (echo, CLOSE)}, {"AUTH": CLOSE}, {"AUTH": told}]
    auth = "xoauth2" if mechanism == "XOAUTH2" else "password"
    for on in answers:
        with SmtpServer(Script(tls=tls, login=("kms", "other"), mechanisms=mechanism, on=on)) as server:
            found = trouble(
                server, security="starttls", ca_file=ca_file, user="kms", password=lambda: password, auth=auth
            )
        assert found.phase is Phase.AUTH
        shown = everything_reachable(found) + caplog.text
        for form in forms:
            assert form not in shown
        assert (found.__cause__, found.__context__) == (None, None)
