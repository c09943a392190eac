"""Links of letters tried against a real web server on the loopback interface, and only when somebody asks."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dispatcher.links import reached
from tests.command import dispatcher
from tests.servers import free_port
from tests.servers.raw import saying
from tests.test_look import with_text


class Pages(BaseHTTPRequestHandler):
    """The path says what is answered; `/get` knows no HEAD, `/moved` leads to `/200`."""

    def do_HEAD(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/200")
        elif self.path == "/get":
            self.send_response(200 if self.command == "GET" else 405)
        else:
            self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 (the library's name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on the terminal."""


@pytest.fixture(autouse=True)
def _by_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as running:
        running.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("200", ""),
        ("get", ""),
        ("moved", ""),
        ("404", "the server says 404"),
        ("410", "the server says 410"),
        ("403", "unknown: the server says 403"),
        ("503", "unknown: the server says 503"),
    ],
)
def test_what_a_server_says(server: ThreadingHTTPServer, path: str, said: str) -> None:
    link = f"http://127.0.0.1:{server.server_port}/{path}"
    assert reached([link, link, "mailto:a@b.example"]) == {link: said}


def test_a_server_that_is_not_there_is_unknown() -> None:
    link = f"http://127.0.0.1:{free_port()}/"
    assert reached([link])[link].startswith("unknown: ")


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\x00 no answer at all\r\n\r\n",
        OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        OK + b"X: x\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:port/\r\n\r\n",
    ],
    ids=["none at all", "an endless line", "no end of fields", "elsewhere, to no port"],
)
def test_an_answer_that_cannot_be_read_is_unknown(answer: bytes) -> None:
    with saying([answer]) as link:
        assert reached([link]) == {link: "unknown: the server's answer cannot be read"}


def test_a_server_that_feeds_an_octet_now_and_then_is_given_up() -> None:
    """It would answer with 200, after twenty times as long."""
    with saying([OK, b"X: ", *[b"x"] * 600, b"\r\n\r\n"], pause=0.02) as link:
        assert reached([link], seconds=0.2) == {link: "unknown: no answer within 0.6 s"}


def test_a_server_that_leads_in_a_circle_is_left() -> None:
    with saying([b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"]) as link:
        assert reached([link])[link] == "unknown: the server says 302"


@pytest.mark.parametrize("link", ["http://127.0.0.1:port/", "http://[::1/", "http:///x"])
def test_a_link_that_is_none_is_unknown(link: str) -> None:
    assert reached([link])[link].startswith("unknown: ")


def test_a_link_is_asked_for_as_browsers_do(server: ThreadingHTTPServer) -> None:
    link = f"http://127.0.0.1:{server.server_port}/Über uns?ä=%20#Straße"
    assert reached([link])[link] != ""  # the path is none of those that it knows
    assert server.asked == ["HEAD /%C3%9Cber%20uns?%C3%A4=%20"]  # type: ignore[attr-defined]


def test_links_are_tried_only_when_asked_for(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    base = f"http://127.0.0.1:{server.server_port}"
    folder = with_text(tmp_path, f"[one]({base}/200) and [two]({base}/404)")
    assert dispatcher("preflight", "--sandbox", folder=folder).code == 0
    assert server.asked == []  # type: ignore[attr-defined]
    rows = dispatcher("preflight", "--sandbox", "--links", "--json", folder=folder).json["lines"]
    said = [(row["status"], row["what"]) for row in rows if row["subject"] == "links"]
    assert ("warning", f"{base}/404: the server says 404") in said
    assert ("ok", "1 of 2 can be reached") in said
