"""Signing in at an identity provider, and the tokens that come of it, told to a relay that knows which are good."""

import asyncio
import base64
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

import pytest
import trustme

from dispatcher.accounts import exchange
from dispatcher.accounts.exchange import require_secure
from dispatcher.accounts.grant import Client, Grant
from dispatcher.accounts.providers import GOOGLE, command_for, discovered, microsoft
from dispatcher.accounts.providers import Provider as Known
from dispatcher.accounts.refusals import advice
from dispatcher.accounts.signin import sign_in
from dispatcher.accounts.tokens import LoginSecret
from dispatcher.core.errors import ProviderUnavailable, SecretError, SignInEnded
from dispatcher.desk import Desk
from dispatcher.desk.accounts import SignIn, add_sign_in, place_of_secret
from dispatcher.dispatch import Close
from tests import canary
from tests.command import Done, argv, dispatcher, edit, environment, new_campaign, set_relay
from tests.keychains import on_desktop
from tests.servers import Login
from tests.servers.node import Node
from tests.servers.provider import CLIENT, SCOPE, Provider
from tests.servers.raw import saying
from tests.smtp_server import CLOSE, STORE, Actions, Script, SmtpServer
from tests.test_relay import server_tls
from tests.test_session import FakeClock
from tests.torture import Leap, Rules, judge, query, run, states, write_campaign

BROWSER = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as page:
    print(page.read().decode())
"""
"""A browser whose user says yes to everything."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    with Provider(file=tmp_path / "good-tokens") as provider:
        yield provider


@pytest.fixture
def relay(folder: Path, provider: Provider) -> Iterator[Node]:
    """The npm package smtp-server: it takes XOAUTH2 alone, with a token that the provider says is good now."""
    provider.expire()
    with Node(Login("XOAUTH2", tokens=provider.file)) as server:
        lines = f'host = "127.0.0.1"\nport = {server.port}\nuser = "{canary.USER}"\nauth = "xoauth2"\n'
        set_relay(folder, f'{lines}password = {{ file = "secret.txt" }}\n{server._trusted(folder)}')
        yield server


def add(folder: Path, provider: Provider, *words: str, text: str = "") -> Done:
    """`account add` at a keyboard with a browser."""
    agent = folder.parent / "browser.py"
    agent.write_text(BROWSER, encoding="utf-8")
    given = ("account", "add", "--oauth", provider.issuer, "--client-id", CLIENT, "--scope", SCOPE, *words)
    return dispatcher(*given, folder=folder, text=text, env={"BROWSER": f"{sys.executable} {agent} %s"})


def nowhere(folder: Path, *outputs: Done) -> None:
    assert not list(canary.found_in(folder, *canary.ALL))
    for done in outputs:
        for secret in (canary.ACCESS, canary.REFRESH, canary.CLIENT_SECRET):
            assert secret not in done.all


def grant_in(folder: Path) -> Grant:
    grant = Grant.parse((folder / "secret.txt").read_text(encoding="utf-8"))
    assert grant
    return grant


# Signing in, and sending.


def test_in_a_browser(folder: Path, provider: Provider, relay: Node) -> None:
    """From nothing to letters that have left; the sign-in is for its owner alone, and in no other file or output."""
    added = add(folder, provider)
    assert added.code == 0, added
    assert "Stored in secret.txt." in added.out
    if os.name == "posix":
        assert stat.S_IMODE((folder / "secret.txt").stat().st_mode) == 0o600
    tried = dispatcher("account", "test", folder=folder)
    assert tried.code == 0, tried
    assert f"Logged in as {canary.USER} by an access token from secret.txt." in tried.out
    sent = dispatcher("send", "--confirm", "6", folder=folder)
    assert sent.code == 0, sent
    assert len(relay.stored) == 6
    assert provider.asked == ["authorization_code", "refresh_token", "refresh_token"], "one for each command"
    assert canary.ACCESS not in (folder / "secret.txt").read_text(encoding="utf-8")
    removed = dispatcher("account", "remove", folder=folder)
    assert "The provider has ended the sign-in." in removed.out
    assert provider.refresh_token == ""
    nowhere(folder.parent, added, tried, sent, removed)


def test_by_a_code(folder: Path, provider: Provider, relay: Node) -> None:
    """On a server without a browser: page and code are shown, and it waits as it is told to."""
    provider.moods = [(400, {"error": "authorization_pending"})] * 2
    added = add(folder, provider, "--flow", "device", "--json")
    assert added.json == {"stored": "secret.txt"}
    assert f"{provider.issuer}/device\n  WDJB-MJHT" in added.err
    assert len(provider.asked) == 3
    assert dispatcher("account", "test", folder=folder).code == 0
    nowhere(folder.parent, added)


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
def test_the_application_by_itself(folder: Path, provider: Provider, relay: Node, method: str) -> None:
    """Nobody signs in; its secret is asked for, and told to the provider as that wants to be told."""
    provider.secret, provider.method = canary.CLIENT_SECRET, method
    wrong = add(folder, provider, "--flow", "app", text="not-this-one\n")
    assert wrong.code == 2
    assert f"{provider.issuer} refuses: invalid_client: no such application, or another secret" in wrong.err
    assert not (folder / "secret.txt").exists()
    added = add(folder, provider, "--flow", "app", text=f"{canary.CLIENT_SECRET}\n")
    assert added.code == 0, added
    sent = dispatcher("send", "--confirm", "6", folder=folder)
    assert sent.code == 0, sent
    assert set(provider.asked) == {"client_credentials"}
    nowhere(folder.parent, wrong, added, sent)


def test_a_sign_in_in_the_keyring(folder: Path, provider: Provider, relay: Node) -> None:
    """Renewed there, too: the refresh token that the provider puts in place of the old one is in it, and in no file."""
    home = folder.parent / "home"
    home.mkdir()
    edit(folder / "campaign.toml", '{ file = "secret.txt" }', '{ keyring = "dispatcher" }')
    words = ("--oauth", provider.issuer, "--client-id", CLIENT, "--scope", SCOPE, "--flow", "device")
    added = on_desktop("account", "add", *words, folder=folder, home=home)
    assert added.code == 0, added
    for _ in range(2):
        sent = on_desktop("account", "test", folder=folder, home=home)
        assert sent.code == 0, sent
    assert provider.asked[1:] == ["refresh_token"] * 2
    assert "ended the sign-in" in on_desktop("account", "remove", folder=folder, home=home).out
    nowhere(folder.parent, added, sent)


def test_an_installed_application_with_a_secret(folder: Path, provider: Provider, relay: Node) -> None:
    """As Google's are."""
    provider.secret = canary.CLIENT_SECRET
    added = add(folder, provider, "--client-secret", "--json", text=f" {canary.CLIENT_SECRET}\t\n")
    assert added.json == {"stored": "secret.txt"}  # and not what the browser prints
    assert dispatcher("account", "test", folder=folder).code == 0
    nowhere(folder.parent, added)


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ({"consent": "no"}, "did not let you in: access_denied: The person said no"),
        ({"consent": "unticked"}, f"the sign-in does not allow to send: {SCOPE} is missing"),
        ({"offline": False}, "gave a token for an hour, and none to renew it by"),
        ({"moods": [(400, {"error": "invalid_grant"})]}, "refuses: invalid_grant"),
        ({"secret": "wanted"}, "refuses: invalid_client"),
        ({"secret": "wanted"}, "an application with a secret needs it"),
        ({"moods": [(503, b"away")]}, "gives no token now: HTTP 503"),
    ],
)
def test_a_sign_in_that_comes_to_nothing(
    folder: Path, provider: Provider, relay: Node, mood: dict[str, Any], words: str
) -> None:
    vars(provider).update(mood)
    done = add(folder, provider)
    assert done.code == (4 if "HTTP" in words else 2)
    assert words in done.err
    assert "  → " in done.err
    assert not (folder / "secret.txt").exists()
    nowhere(folder.parent, done)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--oauth", "google"], "there is no --client-id"),
        (["--client-id", "x"], "these options are for a sign-in"),
        (["--oauth", "google", "--client-id", "x", "--flow", "device"], "google has no sign-in by a code"),
        (["--oauth", "google", "--client-id", "x", "--tenant", "y"], "only Microsoft has tenants"),
        (["--oauth", "google", "--client-id", "x", "--scope", "y"], "what is asked of google is known"),
        (["--oauth", "microsoft", "--client-id", "x", "--flow", "app"], "an application signs in to one tenant"),
        (["--oauth", "microsoft", "--client-id", "x", "--tenant", "a/b"], "'a/b' is no tenant"),
        (["--oauth", "http://idp.example", "--client-id", "x", "--scope", "y"], "http://idp.example is not https"),
        (["--oauth", "https://me@idp.example", "--client-id", "x", "--scope", "y"], "is not https"),
        (["--oauth", "yahoo", "--client-id", "x", "--scope", "y"], "yahoo is not https"),
        (["--oauth", "https://idp.example", "--client-id", "x"], "what to ask this provider for is not known"),
        (["--oauth", "microsoft", "--client-id", "x", "--port", "70000"], "less than or equal to 65535"),
    ],
)
def test_what_cannot_be_signed_in_to(folder: Path, relay: Node, words: list[str], said: str) -> None:
    """Said before anybody is asked for anything, and before anything leaves this machine."""
    done = dispatcher("account", "add", *words, folder=folder, text="secret\n")
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("text", ["", "\n", " \t\n", "a\x1bb\n"])
def test_an_application_s_secret_that_is_none(folder: Path, provider: Provider, relay: Node, text: str) -> None:
    """Said before anybody signs in: Google says it only afterwards."""
    done = add(folder, provider, "--client-secret", text=text)
    assert done.code == 2
    assert "the application's secret is one line of text, and not empty" in done.err
    assert provider.asked == []


def test_a_port_that_somebody_else_has(folder: Path, provider: Provider, relay: Node) -> None:
    done = add(folder, provider, "--port", str(relay.port))
    assert done.code == 2
    assert f"port {relay.port} cannot be used" in done.err


def test_a_provider_that_is_away(folder: Path, relay: Node) -> None:
    """In words, in place of numbers of the system."""
    for host, words in (("127.0.0.1:1", "the connection was refused"), ("idp.invalid", "its name could not be looked")):
        done = dispatcher(
            "account", "add", "--oauth", f"https://{host}", "--client-id", "x", "--scope", "y", folder=folder
        )
        assert done.code == 4
        assert words in done.err
        assert "  → Check that this machine is online, and try again" in done.err


@pytest.mark.parametrize(
    ("said", "todo"),
    [
        ("invalid_grant: AADSTS65001: The user or administrator has not consented", "an administrator has to agree"),
        (
            "invalid_client: AADSTS7000222: The provided client secret keys are expired",
            "the application's secret has ended: make a new one",
        ),
        ("invalid_client: AADSTS7000218: The request body must contain", "set Allow public client flows to Yes"),
        ("consent_required", "an administrator has to agree"),
        ("invalid_grant: AADSTS1: nobody knows", ""),
        ("something_else", ""),
    ],
)
def test_what_to_do_about_a_refusal(said: str, todo: str) -> None:
    """By its most particular code."""
    assert advice(said).startswith(todo)
    assert bool(advice(said)) == bool(todo)


def test_consent_that_is_missing(folder: Path, provider: Provider, relay: Node) -> None:
    """As Microsoft says it, with what is for its own people left out."""
    said = "AADSTS65001: The user or administrator has not consented. Trace ID: 1 Correlation ID: 2 Timestamp: 3"
    provider.moods = [(400, {"error": "invalid_grant", "error_description": said})]
    done = add(folder, provider)
    assert "refuses: invalid_grant: AADSTS65001: The user or administrator has not consented.\n" in done.err
    assert "→ an administrator has to agree once" in done.err


def test_a_sign_in_for_a_relay_that_wants_a_password(folder: Path, provider: Provider) -> None:
    set_relay(folder, f'host = "127.0.0.1"\nuser = "{canary.USER}"\npassword = {{ file = "secret.txt" }}')
    assert 'write auth = "xoauth2" there' in add(folder, provider).err
    set_relay(folder, f'host = "127.0.0.1"\nuser = "{canary.USER}"\npassword = {{ env = "X" }}\nauth = "xoauth2"')
    assert "where nothing can be stored" in add(folder, provider).err
    assert provider.asked == []


def test_without_the_extra(folder: Path, provider: Provider, relay: Node) -> None:
    code = "import sys; sys.modules['httpx'] = None; from dispatcher.cli import main; main()"
    words = [sys.executable, "-c", code, "account", "add", "--oauth", "google", "--client-id", "x"]
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, input=b"s\n", check=False)
    assert done.returncode == 2
    assert b"pip install 'dispatcher[oauth]'" in done.stderr


def test_what_is_asked_of_google_and_microsoft() -> None:
    """The smallest scopes with which SMTP takes letters; https; the redirect as each console registers it."""
    assert (GOOGLE.scope, GOOGLE.device_endpoint, GOOGLE.host) == ("https://mail.google.com/", "", "127.0.0.1")
    assert GOOGLE.more == {"access_type": "offline", "prompt": "consent"}
    one = microsoft("example.org")
    assert one.scope.split() == ["https://outlook.office.com/SMTP.Send", "offline_access"]
    assert one.app_scope == "https://outlook.office365.com/.default"
    assert (one.host, microsoft().token_endpoint.split("/")[3]) == ("localhost", "organizations")
    for found in (GOOGLE, one):
        for url in (found.authorization_endpoint, found.token_endpoint, found.device_endpoint or found.token_endpoint):
            assert require_secure(url).startswith("https://")


LOUD = """
import logging
logging.basicConfig(level=logging.DEBUG)
from dispatcher.relays.smtp import SmtpRelay
async def crash(*_):
    raise RuntimeError("broken on purpose")
SmtpRelay._take_over = crash
from dispatcher.cli import main
main()
"""
"""The command line with every log there is, and a fault of ours behind the login."""


def test_no_token_is_in_a_log_or_a_traceback(folder: Path, provider: Provider, relay: Node) -> None:
    """S25, for all that a sign-in has: every library at its loudest, and a crash with a token in hand."""
    provider.secret, provider.method = canary.CLIENT_SECRET, "client_secret_basic"
    env = environment(PYTHONASYNCIODEBUG="1", PYTHONDEVMODE="1", PYTHONFAULTHANDLER="1")
    given = ("--oauth", provider.issuer, "--client-id", CLIENT, "--scope", SCOPE, "--flow", "device", "--client-secret")
    said = ""
    for line in (("account", "add", *given), ("account", "test"), ("send", "--confirm", "6"), ("account", "remove")):
        done = subprocess.run(
            [sys.executable, "-c", LOUD, *line], cwd=folder, env=env, input=canary.CLIENT_SECRET.encode(),
            capture_output=True, check=False,
        )  # fmt: skip
        said += (done.stdout + done.stderr).decode()
    for words in (
        "DEBUG:httpcore",
        "INFO:httpx:HTTP Request: POST",
        "DEBUG:asyncio",
        "RuntimeError: broken on purpose",
    ):
        assert words in said
    assert provider.asked[-1] == "/revoke"
    assert base64.b64encode(f"{CLIENT}:{quote_plus(canary.CLIENT_SECRET)}".encode()).decode() not in said
    for secret in (canary.ACCESS, canary.REFRESH, canary.CLIENT_SECRET, "device-"):
        assert not [form for form in canary.forms(secret) if form.decode() in said]
    assert not list(canary.found_in(folder.parent, *canary.ALL))


@pytest.mark.parametrize(
    "url",
    ["http://localhost.example/", "http://127.0.0.1.example/", "http://example.org/", "ftp://127.0.0.1/", "https:x"],
)
def test_what_is_not_secure(url: str) -> None:
    with pytest.raises(SecretError, match="is not https"):
        require_secure(url)


def test_an_issuer_that_is_another_one(provider: Provider) -> None:
    """RFC 8414 §3.3: who answers under one name, and calls itself by another, is not asked for anything."""
    with pytest.raises(SecretError, match="says that it is another one"):
        asyncio.run(discovered(provider.issuer.replace("127.0.0.1", "localhost"), SCOPE))


def test_a_page_that_is_not_secure_is_not_shown(provider: Provider) -> None:
    """Somebody would type their password there."""
    answer, found = provider.answer, known(provider)

    def hostile(path: str, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        status, said = answer(path, form, authorization)
        return status, {**said, "verification_uri": "http://login.example/device"}

    provider.answer = hostile  # type: ignore[method-assign]
    with pytest.raises(SecretError, match="is not https"):
        asyncio.run(sign_in(found, Client(CLIENT), "device", "", unreached, FakeClock()))


@pytest.mark.skipif(os.name != "posix", reason="there are no such limits")
def test_a_secret_that_is_asked_for_is_in_no_core(folder: Path, provider: Provider, relay: Node) -> None:
    """From before it is typed."""
    import resource  # noqa: PLC0415 (not on Windows)

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard == 0:
        pytest.skip("this machine writes no cores at all")
    how = SignIn(provider.issuer, CLIENT, "device", scope=SCOPE, with_secret=True)

    def ask(_: str) -> str:
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 1
        return canary.CLIENT_SECRET

    provider.secret = canary.CLIENT_SECRET
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    assert asyncio.run(add_sign_in(Desk(folder), how, ask, lambda *_: None)) == "secret.txt"
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    assert place_of_secret(Desk(folder)) == "secret.txt"
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 1


# The browser that comes back.


def test_only_the_providers_answer_is_taken(provider: Provider) -> None:
    """Whoever else calls at our port learns nothing and ends nothing: no state or another, another method, no HTTP."""
    seen: list[bytes] = []

    found = known(provider)

    async def go() -> Grant:
        loop = asyncio.get_running_loop()
        jobs: list[Future[None]] = []

        def invite(url: str, _: str) -> None:
            jobs.append(asyncio.run_coroutine_threadsafe(call(url), loop))

        async def call(url: str) -> None:
            answer = await loop.run_in_executor(None, provider.authorize, query_of(url))
            target = answer.split("/", 3)[2]
            port = int(target.split("?")[0].partition(":")[2])
            query = answer.partition("?")[2]
            with suppress(OSError):  # by another address of this machine
                _, writer = await asyncio.open_connection("127.0.0.2", port)
                writer.close()
                seen.append(b"x 127.0.0.2")
            for line in ("GET /?code=x HTTP/1.1\r\n\r\n", f"GET /?x{query} HTTP/1.1\r\n\r\n", "hello\r\n\r\n",
                         f"POST /?{query} HTTP/1.1\r\n\r\n", f"GET /?{query}&state=y HTTP/1.1\r\n\r\n",
                         f"GET /?{query} HTTP/1.1\r\n\r\n"):  # fmt: skip
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(line.encode())
                seen.append(await reader.read())
                writer.close()
                await writer.wait_closed()

        grant = await sign_in(found, Client(CLIENT), "browser", canary.USER, invite, FakeClock())
        await asyncio.gather(*map(asyncio.wrap_future, jobs))
        return grant

    assert asyncio.run(go()).refresh_token == provider.refresh_token
    assert [page.split()[1] for page in seen] == [b"400"] * 5 + [b"200"]
    assert b"Content-Security-Policy: default-src 'none'" in seen[-1]


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def known(provider: Provider) -> Known:
    return asyncio.run(discovered(provider.issuer, SCOPE))


def test_nobody_else_listens_where_the_browser_comes_back_to(provider: Provider) -> None:
    """Microsoft's console takes "localhost" alone, which is ::1, too: both are ours, or it is not begun."""
    if not has_ipv6():
        pytest.skip("there is no IPv6 here")
    found = replace(known(provider), host="localhost", more={"prompt": "consent"})
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with pytest.raises(SecretError, match=f"port {port} cannot be used"):
            asyncio.run(sign_in(found, Client(CLIENT), "browser", "", unreached, FakeClock(), port=port))

    def invite(url: str, _: str) -> None:
        assert query_of(url)["prompt"] == "consent"
        answer = provider.authorize(query_of(url))
        with socket.create_connection(("::1", urlsplit(answer).port or 0)) as browser:
            browser.sendall(f"GET /?{urlsplit(answer).query} HTTP/1.1\r\n\r\n".encode())
            assert browser.recv(12) == b"HTTP/1.1 200"

    grant = asyncio.run(sign_in(found, Client(CLIENT), "browser", canary.USER, invite, FakeClock()))
    assert grant.refresh_token == provider.refresh_token


def unreached(*_: str) -> None:
    raise AssertionError("nobody is to be asked")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


# Waiting for a code to be typed.


@pytest.mark.parametrize(
    ("interval", "moods", "seconds"),
    [
        (None, [], 5),  # RFC 8628 §3.2: if nothing is said
        ("7", ["authorization_pending"], 14),
        (5, ["slow_down", "authorization_pending"], 5 + 10 + 10),
        (5, [503, "authorization_pending"], 5 + 10 + 10),
        (0, ["authorization_pending"], 1),  # never without a pause
        (1e9, [], 60),  # nor for ever
        ("inf", [], 5),
        (10**400, [], 5),
    ],
)
def test_how_often_the_provider_is_asked(provider: Provider, interval: Any, moods: list[Any], seconds: int) -> None:
    provider.interval = interval
    provider.moods = [(mood, b"away") if isinstance(mood, int) else (400, {"error": mood}) for mood in moods]
    clock = FakeClock()
    before = clock.boot()
    shown: list[tuple[str, str]] = []
    asyncio.run(sign_in(known(provider), Client(CLIENT), "device", canary.USER, lambda *w: shown.append(w), clock))
    assert clock.boot() - before == seconds
    assert shown == [(f"{provider.issuer}/device", "WDJB-MJHT")]


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("access_denied", "did not let you in: access_denied"),
        ("expired_token", "nobody typed the code before it expired"),
        ("authorization_pending", "nobody typed the code before it expired"),
    ],
)
def test_a_code_that_nobody_types(provider: Provider, mood: str, words: str) -> None:
    """Also if the provider never says that it is over."""
    provider.interval, provider.patience = 5, 60
    provider.moods = [(400, {"error": mood})] * 20
    with pytest.raises(SecretError, match=words):
        asyncio.run(sign_in(known(provider), Client(CLIENT), "device", "", lambda *_: None, FakeClock()))


# Tokens.


class Store:
    """Where a sign-in is kept, with what was written in order."""

    def __init__(self, provider: Provider, folder: Path) -> None:
        provider._new_refresh()
        self.provider = provider
        grant = Grant(
            provider.issuer, "browser", Client(CLIENT), f"{provider.issuer}/token", "", SCOPE, provider.refresh_token
        )
        self.text = grant.to_text()
        self.written: list[str] = []
        self.lock = folder / "locks" / "one.lock"

    def write(self, text: str) -> None:
        self.text = text
        self.written.append(text)

    def secret(self, clock: FakeClock | None = None) -> LoginSecret:
        return LoginSecret(lambda _: self.text, lambda: self.text, self.write, (clock or FakeClock()).boot, self.lock)


@pytest.fixture
def store(provider: Provider, tmp_path: Path) -> Store:
    return Store(provider, tmp_path)


def test_ten_logins_at_once_ask_once(store: Store) -> None:
    async def go() -> list[str]:
        secret = store.secret()
        return await asyncio.gather(*(secret() for _ in range(10)))

    assert len(set(asyncio.run(go()))) == 1
    assert store.provider.asked == ["refresh_token"]


def test_runs_beside_each_other_do_not_use_up_one_refresh_token(store: Store) -> None:
    """Four runs with a loop each, one store: a refresh token that is used twice would end the sign-in for all."""
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(store.secret()("")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4
    assert store.provider.refresh_token
    assert len(store.written) == 4


def test_two_processes_on_one_sign_in(folder: Path, provider: Provider, relay: Node) -> None:
    assert add(folder, provider).code == 0
    both = [
        subprocess.Popen(argv("account", "test"), cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert [one.wait(60) for one in both] == [0] * 4
    assert grant_in(folder).refresh_token == provider.refresh_token


def test_the_new_refresh_token_is_stored_before_the_access_token_is_used(store: Store) -> None:
    """And one that stays the same is not written again."""
    old = store.provider.refresh_token
    asyncio.run(store.secret()(""))
    (written,) = store.written
    assert store.provider.refresh_token in written
    assert old not in written
    store.provider.rotates = False
    asyncio.run(store.secret()(""))
    assert len(store.written) == 1


def test_a_store_that_cannot_be_written_gives_no_token(store: Store) -> None:
    """And loses none: what the provider put in place of the old one is written when there is room again."""
    full = [True]

    def write(text: str) -> None:
        if full:
            full.clear()
            raise SecretError("the disk is full")
        store.write(text)

    secret = LoginSecret(lambda _: store.text, lambda: store.text, write, FakeClock().boot, store.lock)
    with pytest.raises(SecretError, match="the disk is full"):
        asyncio.run(secret(""))
    assert asyncio.run(secret(""))
    assert (grant := Grant.parse(store.text))
    assert grant.refresh_token == store.provider.refresh_token


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(3600, 3540), ("3600", 3540), (60, 30), (None, 240), ("soon", 240), (0, 0), (-5, 0), (1e999, 240)],
)
def test_how_long_a_token_is_used(store: Store, said: Any, seconds: int) -> None:
    """By a clock that nobody sets, so a wrong one does no harm; a minute or half its life before it ends."""
    store.provider.expires_in = said
    clock = FakeClock()

    async def go() -> None:
        secret = store.secret(clock)
        first = await secret("")
        clock.seconds += max(0, seconds - 1)
        assert (await secret("") == first) == (seconds > 0)
        clock.seconds += 2
        assert await secret("") != first

    asyncio.run(go())


def test_a_refused_token_is_renewed_once_for_all(store: Store) -> None:
    """It may have ended there before its time: by a clock that is wrong, or because somebody revoked it."""

    async def go() -> None:
        secret = store.secret()
        first = await secret("")
        second = set(await asyncio.gather(*(secret(first) for _ in range(5))))
        assert len(second) == 1
        assert first not in second

    asyncio.run(go())
    assert len(store.provider.asked) == 2


@pytest.mark.parametrize(
    ("mood", "kind", "words"),
    [
        ((400, {"error": "invalid_grant", "error_description": "Token has been revoked.\r\nTrace ID: 7"}), SignInEnded,
         "gives no token any more: invalid_grant: Token has been revoked."),
        ((400, {"error": "interaction_required"}), SignInEnded, "any more: interaction_required"),
        ((401, {"error": "invalid_client"}), SignInEnded, "any more: invalid_client"),
        ((503, b"<html>away</html>"), ProviderUnavailable, "127.0.0.1 gives no token now: HTTP 503"),
        ((500, {"error": "server_error"}), ProviderUnavailable, "HTTP 500, server_error"),
        ((429, {"error": "too_many"}), ProviderUnavailable, "HTTP 429"),
        ((400, {"error": "temporarily_unavailable"}), ProviderUnavailable, "temporarily_unavailable"),
        ((400, b"what?"), ProviderUnavailable, "HTTP 400"),
        ((302, b""), ProviderUnavailable, "HTTP 302"),
        ((307, b""), ProviderUnavailable, "HTTP 307"),
        ((200, b"[1]"), ProviderUnavailable, "HTTP 200"),
        ((200, b"{" * 100_000), ProviderUnavailable, "HTTP 200"),
        ((200, b" " * 300_000 + b'{"access_token": "x"}'), ProviderUnavailable, "HTTP 200"),  # more than is read
        ((200, {"access_token": ""}), ProviderUnavailable, "gave no bearer token"),
        ((200, {"access_token": "x", "token_type": "mac"}), ProviderUnavailable, "gave no bearer token"),
    ],
)  # fmt: skip
def test_what_the_provider_says_instead(store: Store, mood: Any, kind: type[Exception], words: str) -> None:
    """What stands ends the run in words, with what to type; what may pass is a matter of waiting."""
    store.provider.moods = [mood]
    with pytest.raises(kind) as caught:
        asyncio.run(store.secret()(""))
    assert words in str(caught.value)
    assert "Trace ID" not in str(caught.value)
    assert ("sign in again: dispatcher account add --oauth" in str(caught.value)) == (kind is SignInEnded)
    assert asyncio.run(store.secret()(""))


def test_a_provider_whose_certificate_is_not_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told to it; with its authority among the system's it is asked."""
    authority = trustme.CA()
    with Provider(tls=server_tls(authority.issue_cert("127.0.0.1"))) as provider:
        there = Store(provider, tmp_path)
        with pytest.raises(ProviderUnavailable, match="certificate verify failed"):
            asyncio.run(there.secret()(""))
        assert provider.asked == []
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert asyncio.run(there.secret()("")).startswith(canary.ACCESS)


def test_a_provider_whose_answer_has_no_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An octet now and then: it is left after some time, though a token would come in the end."""
    monkeypatch.setattr(exchange, "SECONDS", 0.3)
    head, token = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b'{"access_token": "late"}'
    with saying([head, *[b" "] * 200, token], pause=0.02) as url:
        store.text = json.dumps({**json.loads(store.text), "token_endpoint": f"{url}/token"})
        with pytest.raises(ProviderUnavailable, match="no answer in time"):
            asyncio.run(store.secret()(""))


def test_a_provider_that_is_not_there(store: Store) -> None:
    data = json.loads(store.text)
    store.text = json.dumps({**data, "token_endpoint": "http://127.0.0.1:1/token"})
    with pytest.raises(ProviderUnavailable, match=r"127\.0\.0\.1 cannot be asked for a token: "):
        asyncio.run(store.secret()(""))
    store.text = json.dumps({**data, "token_endpoint": "http://idp.example/token"})
    with pytest.raises(SecretError, match="is not https"):
        asyncio.run(store.secret()(""))


def test_what_is_on_this_machine_is_asked_by_no_proxy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert asyncio.run(store.secret()(""))


@pytest.mark.parametrize("change", [{"client": 1}, {"dispatcher_grant": 2}, {"more": 1}, {"refresh_token": None}])
def test_a_damaged_sign_in(store: Store, change: dict[str, Any]) -> None:
    store.text = json.dumps({**json.loads(store.text), **change})
    for text in (store.text, "{", "{}"):
        store.text = text
        with pytest.raises(SecretError, match="what is stored is no sign-in"):
            asyncio.run(store.secret()(""))


def test_whoever_is_interrupted_stores_the_new_refresh_token(store: Store) -> None:
    """By Ctrl-C while the provider answers: the old one is used up by then, and without the new one all is over."""
    asked, goes_on = threading.Event(), threading.Event()
    answer = store.provider.answer

    def slow(*words: Any) -> tuple[int, Any]:
        asked.set()
        goes_on.wait(60)
        return answer(*words)

    store.provider.answer = slow  # type: ignore[method-assign,assignment]

    async def go() -> None:
        login = asyncio.create_task(store.secret()(""))
        await asyncio.to_thread(asked.wait, 60)
        login.cancel()
        with pytest.raises(asyncio.CancelledError):
            await login
        goes_on.set()

    asyncio.run(go())
    assert (grant := Grant.parse(store.text))
    assert grant.refresh_token == store.provider.refresh_token
    assert asyncio.run(store.secret()(""))


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        (Grant("google", "browser", Client("x", "y"), "https://a/b", "", "s"), "--oauth google --client-id x"),
        (
            Grant("microsoft", "app", Client("x", "y"), microsoft("example.org").token_endpoint, "", "s"),
            "--oauth microsoft --client-id x --tenant example.org --flow app",
        ),
        (
            Grant("https://i.example", "device", Client("x", "y"), "https://i.example/t", "", "s offline_access"),
            '--oauth https://i.example --client-id x --scope "s offline_access" --client-secret --flow device',
        ),
    ],
)
def test_how_to_sign_in_again(grant: Grant, words: str) -> None:
    """As it was done: without its tenant, its scope or its way it would come to nothing."""
    assert command_for(grant) == f"dispatcher account add {words}"


# In the middle of a run.


def campaign(folder: Path, provider: Provider, server: Rules, letters: int) -> Store:
    """A campaign whose relay wants tokens of this provider, each for one login."""
    provider.expires_in = 0
    store = Store(provider, folder)
    lines = (
        f'user = "{canary.USER}"\npassword = {{ file = "secret.txt" }}\nauth = "xoauth2"\nsecurity = "starttls"\n'
        'ca_file = "authority.pem"'
    )
    write_campaign(folder, server.port, letters, pace="connections = 1", relay=lines)
    (folder / "secret.txt").write_text(store.text, encoding="utf-8")
    (folder / "secret.txt").chmod(0o600)
    return store


def closing_after(letters: int, then: Callable[[], None]) -> Callable[..., Actions | None]:
    """A rule: once so many letters are in, something happens, and the connection is closed."""
    dots: list[bytes] = []

    def rule(step: str, _: int, line: bytes) -> Actions | None:
        if step == "DOT":
            dots.append(line)
            if len(dots) == letters:
                then()
                return (STORE, b"250 2.0.0 kept\r\n", CLOSE)
        return None

    return rule


@pytest.mark.parametrize(
    ("mood", "close", "words"),
    [
        (
            "gone",
            Close.PAUSED,
            "AUTH: 535 5.7.8 (dispatcher) secret.txt does not exist; write the password into secret.txt",
        ),
        (None, Close.PAUSED, "AUTH: 535 5.7.8 (dispatcher) http://127.0.0.1:"),
        (503, Close.UNAVAILABLE, "AUTH: 454 4.4.3 (dispatcher) 127.0.0.1 gives no token now: HTTP 503"),
    ],
)
def test_the_sign_in_ends_in_mid_run(
    tmp_path: Path, provider: Provider, mood: int | str | None, close: Close, words: str
) -> None:
    """Letters that were accepted stay so, the others wait; none is unknown. Once it is mended, they go."""

    def ends() -> None:
        if isinstance(mood, str):
            (tmp_path / "secret.txt").unlink()
        elif mood:
            provider.moods = [(mood, b"away")] * 50
        else:
            provider.revoke()

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    tls = server_tls(authority.issue_cert("127.0.0.1"))
    welcome = b"235 2.7.0 welcome\r\n"  # to any token: the provider is what is tried here
    script = Script(tls=tls, login=("", ""), mechanisms="XOAUTH2", on={"AUTH": [welcome] * 50})
    with Rules(closing_after(3, ends), script) as server:
        campaign(tmp_path, provider, server, 8)
        result = run(tmp_path, clock=Leap())
        assert (result.report.close, result.exit_code) == (close, 4)
        assert words in result.report.why
        if not mood:
            said = "gives no token any more: invalid_grant: Token [hidden] has been expired or revoked."
            assert f"{said} (the sign-in has ended: by age, by a new password" in result.report.why
            assert "sign in again: dispatcher account add --oauth http" in result.report.why
        assert states(tmp_path) == {"accepted": 3, "ready": 5}
        assert query(tmp_path, "SELECT count(*) FROM attempt WHERE outcome = 'unknown'") == [(0,)]
        provider.moods.clear()
        (tmp_path / "secret.txt").write_text(Store(provider, tmp_path).text, encoding="utf-8")
        (tmp_path / "secret.txt").chmod(0o600)
        assert run(tmp_path, clock=Leap()).exit_code == 0
        judge(tmp_path, server, 8, complete=True)
    assert not list(canary.found_in(tmp_path, *canary.ALL))


@pytest.mark.skipif(os.name != "posix", reason="signals are others there")
def test_a_run_that_stays_says_what_it_waits_for(tmp_path: Path, provider: Provider) -> None:
    """Else nobody would know that somebody has to sign in again; whoever does, from another terminal, sees it go on."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    tls = server_tls(authority.issue_cert("127.0.0.1"))
    script = Script(tls=tls, login=("", ""), mechanisms="XOAUTH2", on={"AUTH": [b"235 2.7.0 welcome\r\n"] * 50})
    with Rules(closing_after(3, provider.revoke), script) as server:
        campaign(tmp_path, provider, server, 8)
        words = argv("send", "--confirm", "8", "--skip-preflight", "--wait")
        process = subprocess.Popen(
            words, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert process.stderr
        with process.stderr as shown:
            said = next((line for line in shown if line.startswith(b"Waiting, and trying again")), b"")
            process.send_signal(signal.SIGINT)
            rest = shown.read()
        assert process.wait() == 130
        watchdog.cancel()
    assert b"gives no token any more: invalid_grant" in said
    assert b"sign in again: dispatcher account add --oauth" in said
    assert b"Waiting" not in rest
    assert states(tmp_path) == {"accepted": 3, "ready": 5}


def test_tokens_that_end_under_twenty_connections(tmp_path: Path, provider: Provider) -> None:
    """Each login needs another one, many at once and all through the run: no refresh token is used twice."""
    letters: Counter[int] = Counter()

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "AUTH":
            told = base64.b64decode(line.split()[2]).decode()
            with provider._lock:
                good = any(f"auth=Bearer {token}\x01" in told for token in provider.tokens)
            return b"235 2.7.0 welcome\r\n" if good else None
        if step == "DOT":
            letters[connection] += 1
            if letters[connection] == 3:
                return (STORE, b"250 2.0.0 kept\r\n", CLOSE)
        return None

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    tls = server_tls(authority.issue_cert("127.0.0.1"))
    script = Script(tls=tls, login=("", ""), mechanisms="XOAUTH2", on={"AUTH": b"535 5.7.8 no\r\n"})
    with Rules(rule, script) as server:
        campaign(tmp_path, provider, server, 120)
        edit(tmp_path / "campaign.toml", "connections = 1", "connections = 20")
        clock = Leap()
        while (code := run(tmp_path, clock=clock).exit_code) == 3:  # some were in hand when it closed, and wait
            clock.moment += timedelta(days=1)
        assert code == 0
        judge(tmp_path, server, 120, complete=True)
    assert grant_in(tmp_path).refresh_token == provider.refresh_token
    assert set(provider.asked) == {"refresh_token"}
    assert len(provider.asked) >= len(letters) > 20


def test_a_sign_in_is_told_to_no_relay(folder: Path, provider: Provider, relay: Node) -> None:
    """Whoever goes back to passwords in campaign.toml, and forgets what is stored: it would be sent as the password."""
    assert add(folder, provider).code == 0
    edit(folder / "campaign.toml", 'auth = "xoauth2"', 'auth = "password"')
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    script = Script(tls=server_tls(authority.issue_cert("127.0.0.1")), login=(canary.USER, "x"), mechanisms="PLAIN")
    with SmtpServer(script) as server:
        edit(folder / "campaign.toml", f"port = {relay.port}", f"port = {server.port}")
        for words in (["send", "--confirm", "6"], ["account", "test"]):
            done = dispatcher(*words, folder=folder)
            assert done.code == 2
            assert "a sign-in is stored, and the relay is to get a password" in done.err
            assert 'write auth = "xoauth2" under [relay]' in done.err
        assert not any(line.startswith(b"AUTH") for line in server.commands)
    assert not (folder / ".dispatcher").exists()


def test_a_damaged_sign_in_is_found_before_anything_is_sealed(folder: Path, relay: Node) -> None:
    (folder / "secret.txt").write_text('{"dispatcher_grant": 1, "provi', encoding="utf-8")
    (folder / "secret.txt").chmod(0o600)
    done = dispatcher("send", "--confirm", "6", "--skip-preflight", folder=folder)
    assert done.code == 2
    assert "what is stored is no sign-in" in done.err
    assert not (folder / ".dispatcher").exists()
    removed = dispatcher("account", "remove", folder=folder)
    assert removed.out == "Removed from secret.txt.\n"


def test_a_sign_in_that_the_provider_does_not_end(folder: Path, provider: Provider, relay: Node) -> None:
    """Microsoft has no way to be told: whoever takes it away knows that it goes on there."""
    assert add(folder, provider).code == 0
    edit(folder / "secret.txt", f"{provider.issuer}/revoke", "")
    removed = dispatcher("account", "remove", folder=folder)
    assert removed.out == "Removed from secret.txt.\n"
    assert "was not told, or has no way to be told: there the sign-in goes on" in removed.err
    assert "End it there, too" in removed.err


def test_a_relay_that_takes_a_token_no_more(folder: Path, provider: Provider, relay: Node) -> None:
    """The provider says an hour, the relay forgets it at once: the login is tried once more with a new one."""
    assert add(folder, provider).code == 0
    provider.moods = [(200, {"access_token": "stale", "token_type": "Bearer", "expires_in": 3600})]
    done = dispatcher("send", "--confirm", "6", folder=folder)
    assert done.code == 0, done
    assert len(relay.stored) == 6
