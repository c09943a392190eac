"""Who may speak with the page, and what every answer carries: asked over real sockets, as no browser would ask."""

import http.client
import json
import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount, Route

from dispatcher.desk import Desk
from dispatcher.desk.catalogue import Catalogues
from dispatcher.web.review.app import build
from dispatcher.web.review.guard import HEADERS, POLICY, Session
from dispatcher.web.review.site import Site
from tests import review_page
from tests.command import dispatcher, new_campaign
from tests.review_page import Review

FILLED = {"number": "1", "page": "1", "digest": "0" * 64, "to": "fr", "form": "csv", "name": "x", "path": "review.css"}
"""What stands for the parameters of addresses."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_campaign(tmp_path_factory.mktemp("guard"))
    done = dispatcher("send", "--sandbox", folder=root)
    assert done.code == 0, done.all
    return root


@pytest.fixture(scope="module")
def review(folder: Path) -> Iterator[Review]:
    with review_page.review(folder, "--sandbox") as found:
        yield found


class Answer:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()


def ask(review: Review, method: str, path: str, body: str = "", **headers: str) -> Answer:
    """One request; headers with an underscore for the hyphen, and the Host of the link unless there is another."""
    connection = http.client.HTTPConnection("127.0.0.1", review.port, timeout=review_page.SECONDS)
    try:
        connection.putrequest(method, path, skip_host=True)
        given = {"Host": review.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body:
            given |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        for name, value in given.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders(body.encode() or None)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def cookie(review: Review) -> str:
    return ask(review, "GET", f"/?token={review.token}").headers["set-cookie"].partition(";")[0]


def form_token(review: Review) -> str:
    """As it stands in the forms of pages; made of the cookie alone."""
    name, _, value = cookie(review).partition("=")
    assert name == f"dispatcher-{review.port}"
    return Session(review.port, cookie=value).form


def routes(folder: Path) -> list[str]:
    """Every address of the page, its parameters filled in."""
    desk = Desk(folder, sandbox=True)
    app: Any = build(Site(desk, "", "", Catalogues(desk)), Session(1))
    found = []
    for route in app._app.routes:
        assert isinstance(route, Route | Mount)
        path = route.path if isinstance(route, Route) else f"{route.path}/{{path}}"
        found.append(re.sub(r"\{(\w+)(?::\w+)?\}", lambda m: FILLED[m[1]], path))
    return found


def test_the_link_is_exchanged_for_a_cookie_and_an_address_without_it(review: Review) -> None:
    answer = ask(review, "GET", f"/?token={review.token}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert "path=/" in said
    assert review.token.lower() not in said


@pytest.mark.parametrize("token", ["", "x", "0" * 43, "%00", "%C3%A9", "%FF", "{token}x", "{token}&token={token}"])
def test_another_token_opens_nothing(review: Review, token: str) -> None:
    given = token.replace("{token}", review.token)
    answer = ask(review, "GET", f"/?token={given}")
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("sent", ["", "{name}=", "{name}=x", "other={value}", "{name}x={value}", "\x01;;=", "{name}=é"])
def test_without_the_cookie_nothing_is_shown(review: Review, folder: Path, sent: str) -> None:
    name, _, value = cookie(review).partition("=")
    given = sent.replace("{name}", name).replace("{value}", value)
    for path in routes(folder):
        answer = ask(review, "GET", path, Cookie=given)
        if not path.startswith("/static/"):
            assert answer.status == 403, path
            assert b"FRA" not in answer.body
            assert b"upr-cambodia" not in answer.body


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost", "127.0.0.1.evil.example:{port}",
     "127.0.0.1:{port}@evil.example", "0.0.0.0:{port}", "[::1]:{port}", "LOCALHOST.:{port}"],
)  # fmt: skip
def test_under_another_name_nothing_is_said(review: Review, folder: Path, host: str) -> None:
    for path in (*routes(folder), f"/?token={review.token}"):
        answer = ask(review, "GET", path, Host=host.replace("{port}", str(review.port)), Cookie=cookie(review))
        assert answer.status == 421
        assert "set-cookie" not in answer.headers


def test_with_two_names_or_none_nothing_is_said(review: Review) -> None:
    for lines in (b"", f"Host: {review.host}\r\nHost: evil.example\r\n".encode()):
        with socket.create_connection(("127.0.0.1", review.port), review_page.SECONDS) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n" + lines + f"Cookie: {cookie(review)}\r\n\r\n".encode())
            assert raw.recv(100).split()[1] in (b"400", b"421")


def test_localhost_is_this_machine_too(review: Review) -> None:
    host = f"localhost:{review.port}"
    assert ask(review, "GET", "/letters", Host=host, Cookie=cookie(review)).status == 200


def test_every_answer_carries_the_rules(review: Review, folder: Path) -> None:
    kept = cookie(review)
    for path in (*routes(folder), "/nothing", f"/?token={review.token}"):
        for sent in (kept, ""):
            for answer in (ask(review, "GET", path, Cookie=sent), ask(review, "PUT", path, Cookie=sent)):
                assert set(HEADERS) <= set(answer.headers), path
                policy = answer.headers["content-security-policy"]
                assert policy == POLICY or ("sandbox" in policy and "default-src 'none'" in policy), path
                assert "unsafe-eval" not in policy
                assert "script-src 'unsafe" not in policy
                assert answer.headers["cache-control"] == "no-store"
                assert "server" not in answer.headers
                assert "*" not in answer.headers.get("access-control-allow-origin", "")


def test_every_address_answers_in_every_language(review: Review, folder: Path) -> None:
    for path in routes(folder):
        for language in ("en", "fr", "es"):
            answer = ask(review, "GET", path, Cookie=cookie(review), Accept_Language=language)
            assert answer.status in (200, 303, 404, 405, 409), (path, answer.body)
            if answer.body.startswith(b"<!doctype html>") and not path.endswith("/html"):
                assert b'<html lang="%s">' % language.encode() in answer.body, path


@pytest.mark.parametrize("number", [f"{2**63}", "9" * 5000])
def test_a_number_beyond_the_ledgers_leads_nowhere(review: Review, number: str) -> None:
    for path in (f"/letters/{number}", f"/letters/{number}/html", f"/letters/1/page/{number}"):
        answer = ask(review, "GET", path, Cookie=cookie(review))
        assert answer.status == 404, path
        assert b"There is no such page" in answer.body


def state(folder: Path) -> str:
    """Everything in the ledger, as text."""
    ledger = sqlite3.connect(f"{(folder / '.dispatcher/sandbox/ledger.sqlite').as_uri()}?mode=ro", uri=True)
    try:
        return "\n".join(ledger.iterdump())
    finally:
        ledger.close()


def test_looking_changes_nothing(review: Review, folder: Path) -> None:
    before, kept = state(folder), cookie(review)
    for path in routes(folder):
        for method in ("GET", "HEAD"):
            ask(review, method, f"{path}?as=accepted&why=x&key=FRA&token={form_token(review)}", Cookie=kept)
    assert state(folder) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "X"])
def test_no_other_method(review: Review, folder: Path, method: str) -> None:
    for path in routes(folder):
        assert ask(review, method, path, Cookie=cookie(review)).status in (400, 405)


def test_only_a_form_of_our_page_is_taken(review: Review, folder: Path) -> None:
    """The last one is, and then it is for the address to say that it takes none."""
    kept, token, ours = cookie(review), form_token(review), review.origin
    good = {"Cookie": kept, "Origin": ours}
    for path in routes(folder):
        tried = {
            "no origin": (f"token={token}", {"Cookie": kept}),
            "null": (f"token={token}", {**good, "Origin": "null"}),
            "another": (f"token={token}", {**good, "Origin": "http://evil.example"}),
            "another port": (f"token={token}", {**good, "Origin": "http://127.0.0.1:1"}),
            "https": (f"token={token}", {**good, "Origin": ours.replace("http", "https")}),
            "the other name": (f"token={token}", {**good, "Origin": ours.replace("127.0.0.1", "localhost")}),
            "cross-site": (f"token={token}", {**good, "Sec_Fetch_Site": "cross-site"}),
            "same-site": (f"token={token}", {**good, "Sec_Fetch_Site": "same-site"}),
            "no cookie": (f"token={token}", {"Origin": ours}),
            "no token": ("why=x", good),
            "no body": ("", good),
            "the link's token": (f"token={review.token}", good),
            "the cookie": (f"token={kept.partition('=')[2]}", good),
            "another token": (f"token=x{token[1:]}&token={token}", good),
        }
        for what, (body, headers) in tried.items():
            assert ask(review, "POST", path, body, **headers).status in (403, 421), (path, what)
    taken = ask(review, "POST", "/letters", f"token={token}", **good, Sec_Fetch_Site="same-origin")
    assert taken.status == 405
    assert ask(review, "POST", "/letters", f"token={token}&why={'x' * 70_000}", **good).status == 413


def test_a_language_leads_to_no_other_place(review: Review) -> None:
    for back in ("//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "/a%0d%0aX:%20y"):
        answer = ask(review, "GET", f"/language/fr?back={back}", Cookie=cookie(review))
        assert answer.status == 303
        assert answer.headers["location"].startswith("/")
        assert not answer.headers["location"].startswith(("//", "/\\"))
        assert "x" not in answer.headers


def test_the_token_is_in_no_log(folder: Path) -> None:
    with review_page.review(folder, "--sandbox") as found:
        kept = cookie(found)
        for path in (
            f"/?token={found.token}",
            "/letters?q=secret-word",
            f"/nothing?token={found.token}",
            "/?token=wrong",
        ):
            ask(found, "GET", path, Cookie=kept)
            ask(found, "GET", path)
        assert found.end() == 0
        assert found.said == b""


def test_the_browser_is_started_with_a_link_that_works_once(folder: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > "{told}"\n', encoding="utf-8")
    program.chmod(0o700)
    with review_page.review(folder, "--sandbox", env={"BROWSER": f"{program} %s"}) as found:
        link = told.read_text(encoding="utf-8")
        assert link.startswith(found.origin)
        assert found.token not in link
        address = link.removeprefix(found.origin)
        assert [ask(found, "GET", address).status for _ in range(3)] == [303, 403, 403]
        assert ask(found, "GET", f"/?token={found.token}").status == 303


def test_the_port_can_be_chosen_and_is_said_if_it_is_taken(folder: Path, review: Review) -> None:
    done = dispatcher("review", "--no-open", "--sandbox", "--port", str(review.port), folder=folder)
    assert done.code == 2
    assert f"cannot listen on port {review.port}" in done.err


def test_before_anything_is_sealed_the_page_says_what_to_do(tmp_path: Path) -> None:
    root = new_campaign(tmp_path / "c")
    with review_page.review(root) as found:
        answer = ask(found, "GET", "/", Cookie=cookie(found))
        assert answer.status == 503
        assert b"dispatcher send" in answer.body
        assert json.dumps(str(root)) not in answer.body.decode()


def test_where_only_a_rehearsal_is_there_it_is_said(folder: Path) -> None:
    with review_page.review(folder) as found:
        answer = ask(found, "GET", "/", Cookie=cookie(found))
    assert answer.status == 503
    assert b"or look at the rehearsal: the same with --sandbox" in answer.body
