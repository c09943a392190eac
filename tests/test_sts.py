"""MTA-STS: the policy is fetched from a real web server with TLS, if somebody asks, and held against the MX hosts."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.preflight import Line, Status
from dispatcher.core.sts import Fetched, Policy, StsError, parse, sts_line
from dispatcher.desk.posture import sender_lines
from dispatcher.lookups import Lookups
from dispatcher.relays.profiles import profiles
from dispatcher.sources.campaign import read_campaign
from dispatcher.wellknown import fetched
from tests.campaigns import write_campaign
from tests.command import dispatcher, new_campaign, set_relay
from tests.servers import free_port
from tests.servers.https import WebServer
from tests.servers.names import NameServer, Odd
from tests.smtp_server import SmtpServer
from tests.test_posture import GOOD, SIGNED
from tests.test_relay import server_tls

PATH = "/.well-known/mta-sts.txt"
POLICY = "version: STSv1\nmode: enforce\nmx: mail.orchard.example.org\nmx: *.backup.example\nmax_age: 604800\n"
HOST = "mta-sts.orchard.example.org"
RECORD = ("v=STSv1; id=20091204T00;",)
HOSTS = ("mail.orchard.example.org",)


def http(text: str | bytes, *, status: str = "200 OK", kind: str = "Content-Type: text/plain\r\n") -> bytes:
    body = text.encode() if isinstance(text, str) else text
    return f"HTTP/1.1 {status}\r\n{kind}Content-Length: {len(body)}\r\n\r\n".encode() + body


# The policy's text.


def test_a_policy() -> None:
    expected = Policy("enforce", 604800, ("mail.orchard.example.org", "*.backup.example"))
    assert parse(POLICY) == parse(POLICY.replace("\n", "\r\n")) == parse(POLICY.rstrip()) == expected
    assert parse("version:STSv1\nmode: none\nmax_age: 1\nnew-thing: x y\nmode: enforce\n") == Policy("none", 1)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("STSv1", "STSv2", "version: is 'STSv2'"),
        ("version: STSv1\n", "", "version: is ''"),
        ("enforce", "Enforce", "mode: is 'Enforce'"),
        ("604800", "a week", "max_age: is 'a week'"),
        ("604800", "31557601", "max_age: is '31557601'"),
        ("mode:", "mode :", "line 2 is no field: 'mode : enforce'"),
        ("mode:", " mode:", "line 2 is no field"),
        ("*.backup.example", "mail.*.example", "line 4 names no host: 'mail.*.example'"),
        ("mx: mail.orchard.example.org\nmx: *.backup.example\n", "", "it names no mx:"),
        (POLICY, "<!DOCTYPE html>\n<p>x</p>", "line 1 is no field: '<!DOCTYPE html>'"),
        (POLICY, "", "version: is ''"),
    ],
)
def test_what_is_wrong_with_a_policy(old: str, new: str, words: str) -> None:
    with pytest.raises(StsError) as caught:
        parse(POLICY.replace(old, new))
    assert words in str(caught.value)


PIECES = [
    "version",
    "mode",
    "mx",
    "max_age",
    ":",
    " ",
    "STSv1",
    "none",
    "enforce",
    "1",
    "a.example",
    "\n",
    "\r",
    "\0",
    "é",
]


@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_no_text_breaks_it(pieces: list[str]) -> None:
    with suppress(StsError):
        assert parse("".join(pieces)).mode in ("none", "enforce")


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("mail.orchard.example.org", True),
        ("a.backup.example", True),
        ("a.b.backup.example", False),
        ("backup.example", False),
        ("other.example", False),
    ],
)
def test_a_star_is_one_label(host: str, named: bool) -> None:
    """§4.1"""
    assert parse(POLICY).names(host) is named


# What it means.


@pytest.mark.parametrize(
    ("records", "found", "status", "words"),
    [
        ((), None, Status.OK, "none; it is about mail to you"),
        (("v=spf1 -all",), None, Status.OK, "none; it is about mail to you"),
        (RECORD, None, Status.OK, "v=STSv1; id=20091204T00;; it is about"),
        (("v=STSv1;",), None, Status.WARNING, "no record by the rules: v=STSv1;"),
        (("v=STSv1; id=2009-12",), None, Status.WARNING, "no record by the rules"),
        ((*RECORD, "v=STSv1; id=2"), None, Status.WARNING, "2 records"),
        (RECORD, Fetched(POLICY, "text/plain"), Status.OK,
         "policy: enforce, kept for 604,800 s; it names every MX host"),
        (RECORD, Fetched(POLICY, "text/html"), Status.WARNING, "it comes as text/html"),
        (RECORD, Fetched(POLICY.replace("mail.", "post."), "text/plain"), Status.WARNING,
         "it does not name mail.orchard.example.org"),
        (RECORD, Fetched(POLICY.replace("enforce", "none").replace("mail.", "post."), "text/plain"), Status.OK,
         "policy: none, kept for 604,800 s; it is about"),
        (RECORD, Fetched("no policy", "text/plain"), Status.WARNING, "the policy is wrong: line 1 is no field"),
        (RECORD, Fetched(fault="it says 404"), Status.WARNING, "there is no policy: it says 404"),
        (RECORD, Fetched(unknown="no answer"), Status.WARNING, "unknown: no answer"),
    ],
)  # fmt: skip
def test_what_is_said(records: tuple[str, ...], found: Fetched | None, status: Status, words: str) -> None:
    line = sts_line(records, HOSTS, found)
    assert (line.status, words in line.what) == (status, True), line
    assert bool(line.todo) is (status is Status.WARNING)
    assert line.todo.startswith("try again") is ("unknown: " in line.what)


def test_hosts_that_nobody_knows_are_not_called_named() -> None:
    assert "; the MX hosts are unknown" in sts_line(RECORD, (), Fetched(POLICY, "text/plain")).what


# From a web server.

SLOW = Fetched(unknown=f"{HOST} does not answer within 0.5 s")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (http(POLICY), Fetched(POLICY, "text/plain")),
        (http(POLICY, kind="Content-Type: Text/Plain; charset=utf-8\r\n"), Fetched(POLICY, "text/plain")),
        (b"HTTP/1.0 200 OK\r\n\r\n" + POLICY.encode(), Fetched(POLICY, "text/plain")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Fetched("abc", "text/plain")),
        (http("", status="301 Moved", kind=f"Location: https://{HOST}/\r\n"), Fetched(fault="the web server says 301")),
        (http("", status="404 Not Found"), Fetched(fault="the web server says 404")),
        (http("", status="429 Too Many"), Fetched(unknown="the web server says 429")),
        (http("", status="503 Not Now"), Fetched(unknown="the web server says 503")),
        (b"220 ready\r\n", Fetched(unknown="the web server's answer cannot be read")),
        (b"", Fetched(unknown="the web server's answer cannot be read")),
        (http(POLICY)[:-5], Fetched(unknown="the web server's answer cannot be read")),
        (http(b"x" * 64_001), Fetched(fault="the file has more than 64,000 octets")),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, Fetched(fault="the file has more than 64,000 octets")),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"x"), SLOW),
        ((b"HTTP/1.1 200 ",), SLOW),
    ],
)  # fmt: skip
def test_what_a_web_server_answers(
    authority: trustme.CA, trusting: ssl.SSLContext, answer: bytes | tuple[bytes, ...], found: Fetched
) -> None:
    with WebServer(server_tls(authority.issue_cert(HOST)), {PATH: answer}) as server:
        ask = fetched(HOST, PATH, ["127.0.0.1"], seconds=0.5, port=server.port, context=trusting)
        got = asyncio.run(ask)
        assert server.asked == [(f"GET {PATH} HTTP/1.1", HOST)]
    assert (got.fault, got.unknown, got.text) == (found.fault, found.unknown, found.text)
    assert got.kind == found.kind


@pytest.mark.parametrize(
    ("name", "until", "words"),
    [
        ("orchard.example.org", None, "is not good: Hostname mismatch"),
        (HOST, datetime.now(UTC) - timedelta(days=1), "is not good: certificate has expired"),
    ],
)
def test_a_certificate_that_is_not_good(
    authority: trustme.CA, trusting: ssl.SSLContext, name: str, until: datetime | None, words: str
) -> None:
    with WebServer(server_tls(authority.issue_cert(name, not_after=until)), {PATH: http(POLICY)}) as server:
        found = asyncio.run(fetched(HOST, PATH, ["127.0.0.1"], port=server.port, context=trusting))
        assert server.asked == []
    assert words in found.fault


def test_the_first_address_that_answers(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """::1 has no such server; without an address there is none; where nobody listens all is unknown."""
    with WebServer(server_tls(authority.issue_cert(HOST)), {PATH: http(POLICY)}) as server:
        both = fetched(HOST, PATH, ["::1", "127.0.0.1"], port=server.port, context=trusting)
        assert asyncio.run(both).text == POLICY
    assert asyncio.run(fetched(HOST, PATH, [])).fault == f"{HOST} has no address"
    closed = asyncio.run(fetched(HOST, PATH, ["127.0.0.1"], port=free_port(), context=trusting))
    assert closed.unknown.startswith(f"{HOST}: ")


# With the domain's records.


def looked(folder: Path, server: WebServer, zone: str, odd: Mapping[str, Odd], trusting: ssl.SSLContext) -> Line:
    write_campaign(folder, relay=f'{SIGNED}resolver = "127.0.0.1"\n')
    campaign = read_campaign(folder, profiles())
    fetch = partial(fetched, port=server.port, context=trusting)

    async def run(names: NameServer) -> Iterable[Line]:
        return await sender_lines(campaign, Lookups(names.address, seconds=0.8, each=0.2), fetch=fetch)

    with NameServer({"orchard.example.org": zone, "org": ""}, odd) as names:
        (line,) = (line for line in asyncio.run(run(names)) if line.subject == "MTA-STS")
    return line


@pytest.mark.parametrize(
    ("more", "odd", "status", "words", "asked"),
    [
        ("mta-sts A 127.0.0.1", {}, Status.OK, "it names every MX host", 1),
        ("mta-sts CNAME web\nweb A 127.0.0.1", {}, Status.OK, "it names every MX host", 1),
        ("mta-sts A 127.0.0.1\n@ MX 20 other", {}, Status.WARNING, "it does not name other.orchard.example.org", 1),
        ("", {}, Status.WARNING, f"there is no policy: {HOST} has no address", 0),
        ("mta-sts A 127.0.0.1", {HOST: Odd.SERVFAIL}, Status.WARNING, f"unknown: {HOST}: the name server's answer", 0),
        ("mta-sts A 127.0.0.1\n_mta-sts TXT \"v=STSv1; id=2\"", {}, Status.WARNING, "2 records", 0),
        ("mta-sts A 127.0.0.1", {"_mta-sts.orchard.example.org": Odd.SERVFAIL}, Status.OK, "unknown: ", 0),
    ],
)  # fmt: skip
def test_the_policy_of_a_domain(
    tmp_path: Path, authority: trustme.CA, trusting: ssl.SSLContext,
    more: str, odd: dict[str, Odd], status: Status, words: str, asked: int,
) -> None:  # fmt: skip
    with WebServer(server_tls(authority.issue_cert(HOST)), {PATH: http(POLICY)}) as server:
        line = looked(tmp_path, server, f"{GOOD}\n{more}", odd, trusting)
        assert len(server.asked) == asked
    assert (line.status, words in line.what) == (status, True), line


def test_it_is_fetched_only_when_asked_for(tmp_path: Path, authority: trustme.CA) -> None:
    folder = new_campaign(tmp_path / "campaign")
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    trust = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
    zone = '@ MX 10 mail\nmail A 192.0.2.25\n@ TXT "v=spf1 ip4:192.0.2.25 -all"\n_mta-sts TXT "v=STSv1; id=1"\n'
    zone += "mta-sts A 127.0.0.53"
    answer = http(POLICY.replace("orchard", "kms"))
    try:
        server = WebServer(
            server_tls(authority.issue_cert("mta-sts.kms.example.org")), {PATH: answer}, ("127.0.0.53", 443)
        )
    except OSError as error:
        pytest.skip(f"port 443 of 127.0.0.53 cannot be had here: {error}")
    with server, SmtpServer() as relay, NameServer({"kms.example.org": zone, "org": ""}) as names:
        set_relay(
            folder,
            f'host = "127.0.0.1"\nport = {relay.port}\nsecurity = "none"\n\n[preflight]\n'
            f'relay_addresses = ["192.0.2.25"]\nresolver = "{names.address}"',
        )
        assert dispatcher("preflight", folder=folder, env=trust).code == 0
        assert server.asked == []
        done = dispatcher("preflight", "--links", "--json", folder=folder, env=trust)
        assert len(server.asked) == 1
    (row,) = (row for row in done.json["lines"] if row["subject"] == "MTA-STS")
    assert (row["status"], "it names every MX host" in row["what"]) == ("ok", True), row
