"""A relay that lies: whatever it says, the ledger claims nothing that its store does not bear out.

Each lie is told twice in the middle of a run. Then the ledger is held against the store; a second run, with the same
relay turned honest, finishes; and once the unknown letters are settled by the store, everybody has one letter.

Two lies nobody can see through are left out, for they are no faults of the sender: to take a letter and say 4yz or
5yz, and to say 250 and take none.
"""

import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from dispatcher.desk import Desk
from dispatcher.desk.deciding import resolve
from tests.command import on_terminal
from tests.figures import COUNTS, FULL
from tests.smtp_server import CLOSE, RESET, STORE, Actions, Cut, Script, SmtpServer
from tests.torture import OFFERS, Leap, by_id, judge, numbered, run, write_campaign

LETTERS = 6
TOLD = (1, 2)
"""At which times a step comes up the lie is told, counted from 0; what comes once a connection, at its first times."""
ONCE = ("CONNECT", "EHLO", "QUIT")
LATE = 0.3
"""Seconds that a late reply keeps the run waiting."""

Words = Actions | Callable[[], Actions]

pytestmark = pytest.mark.torture


@dataclass(frozen=True)
class Lie:
    """What is done at each step, in place of the honest thing. `tls`: behind STARTTLS."""

    on: Mapping[str, Words]
    tls: bool = False


class Liar(SmtpServer):
    """Tells its lie now and then, until it turns `honest`. If each waits for the other, it leaves."""

    patience = 0.7

    def __init__(self, lie: Lie, way: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(Script(tls=tls, ehlo=OFFERS[way]))
        self.lie = lie
        self.honest = False
        self.told = 0

    def action(self, step: str) -> Actions | None:
        number = self.counts.get(step, 0) + (step in ONCE)
        scripted = super().action(step)
        if self.honest or step not in self.lie.on or number not in TOLD:
            return scripted
        self.told += 1
        words = self.lie.on[step]
        return words() if callable(words) else words


def late(words: Actions) -> Callable[[], Actions]:
    """The same words, after a while."""

    def wait() -> Actions:
        time.sleep(LATE)
        return words

    return wait


OK = b"250 2.0.0 taken\r\n"
ANSI = b"\x1b[31;5m\x1b]0;gone\x07\x9b2J\xe2\x80\xae"
ENDLESS = b"250-and so on\r\n" * 100_000
STEPS = {"CONNECT": b"220", "EHLO": b"250", "MAIL": b"250", "RCPT": b"250", "DATA": b"354"}

STRAY = {
    "two greetings": Lie({"CONNECT": b"220 one\r\n220 two\r\n"}),
    "a second reply to EHLO": Lie({"EHLO": b"250 relay.example\r\n250 once more\r\n"}),
    "a second reply to MAIL": Lie({"MAIL": b"250 ok\r\n250 ok\r\n"}),
    "a second reply to RCPT": Lie({"RCPT": b"250 ok\r\n250 ok\r\n"}),
    "a second reply to RCPT, a refusal": Lie({"RCPT": b"250 ok\r\n450 4.2.1 no\r\n"}),
    "a 250 behind the 354, and the truth too": Lie({"DATA": b"354 go\r\n" + OK}),
    "a 250 behind the 354, and 451 in truth": Lie({"DATA": b"354 go\r\n" + OK, "DOT": b"451 4.3.0 not now\r\n"}),
    "two 354": Lie({"DATA": b"354 go\r\n354 go\r\n"}),
    "a 354 before its time": Lie({"RCPT": b"250 ok\r\n354 go\r\n"}),
    "250 in place of 354": Lie({"DATA": b"250 ok\r\n"}),
    "a second 250 after the dot": Lie({"DOT": (STORE, OK + OK)}),
    "a 250 and a 451 after the dot": Lie({"DOT": (STORE, OK + b"451 4.3.0 no\r\n")}),
    "a 451 and a 250 after the dot": Lie({"DOT": (b"451 4.3.0 no\r\n" + OK)}),
    "a 354 after the dot": Lie({"DOT": (STORE, b"354 once more\r\n", CLOSE)}),
    "the dot taken for QUIT": Lie({"DOT": (STORE, b"221 2.0.0 bye\r\n", CLOSE)}),
}
HALF = {
    "a greeting cut in its code": Lie({"CONNECT": (b"22", CLOSE)}),
    "an EHLO reply that never ends": Lie({"EHLO": (b"250-relay.example\r\n250-SIZE 1", CLOSE)}),
    "half a reply to MAIL": Lie({"MAIL": (b"250 2.1.0 o", RESET)}),
    "a reply to RCPT without its LF": Lie({"RCPT": (b"250 2.1.5 ok\r", CLOSE)}),
    "half a code after the dot, stored": Lie({"DOT": (STORE, b"25", CLOSE)}),
    "half a code after the dot, not stored": Lie({"DOT": (b"25", RESET)}),
    "a reply after the dot without CRLF": Lie({"DOT": (STORE, b"250 2.0.0 taken", CLOSE)}),
    "a reply after the dot that goes on": Lie({"DOT": (STORE, b"250-2.0.0 taken\r\n", RESET)}),
    "a reply after the dot in three pieces": Lie({"DOT": (STORE, b"2", b"50 2.0", b".0 taken\r\n")}),
}
NO_REPLIES = (b"999 so\r\n", b"ok\r\n", b"\r\n", b"25O ok\r\n", b"\x00\xff\xfe\r\n", b"+OK 250\r\n", b"1000 ok\r\n")
ODD = {
    **{f"{said!r} at {step}": Lie({step: said}) for step in ("MAIL", "DATA") for said in NO_REPLIES},
    **{f"{said!r} after the dot": Lie({"DOT": (STORE, said, CLOSE)}) for said in NO_REPLIES},
    "251 after the dot": Lie({"DOT": (STORE, b"251 2.0.0 will forward\r\n")}),
    "200 and nothing more": Lie({"DOT": (STORE, b"200\r\n")}),
    "codes that differ in one reply": Lie({"DOT": (STORE, b"250-2.0.0 taken\r\n451 4.3.0 or not\r\n", CLOSE)}),
    "an enhanced code that contradicts": Lie({"DOT": (STORE, b"250 5.7.1 taken\r\n")}),
    "a bare LF": Lie({"DOT": (STORE, b"250 2.0.0 taken\n", CLOSE)}),
}
ENDLESS_LATE = {
    "an endless greeting": Lie({"CONNECT": ENDLESS}),
    "an endless reply to EHLO": Lie({"EHLO": ENDLESS}),
    "an endless reply to RCPT": Lie({"RCPT": ENDLESS}),
    "an endless reply after the dot": Lie({"DOT": (STORE, ENDLESS, CLOSE)}),
    "an endless line after the dot": Lie({"DOT": (STORE, b"250 " + b"x" * 2_000_000, CLOSE)}),
    "a late greeting": Lie({"CONNECT": late(b"220 at last\r\n")}),
    "a late 354": Lie({"DATA": late(b"354 go\r\n")}),
    "a late answer after the dot": Lie({"DOT": late((STORE, OK))}),
    "a late answer after the dot, and a drop": Lie({"DOT": late((STORE, RESET))}),
}
LEAVING = {
    **{f"421 at {step}": Lie({step: (b"421 4.3.2 closing\r\n", CLOSE)}) for step in (*STEPS, "DOT", "QUIT")},
    "421 behind the 250": Lie({"DOT": (STORE, OK + b"421 4.3.2 closing\r\n", CLOSE)}),
    "421 with the 354": Lie({"DATA": (b"354 go\r\n421 4.3.2 closing\r\n", CLOSE)}),
    **{f"a close at {step}": Lie({step: CLOSE}) for step in (*STEPS, "QUIT")},
    **{f"a break at {step}": Lie({step: RESET}) for step in (*STEPS, "QUIT")},
    "a close after the dot, stored": Lie({"DOT": (STORE, CLOSE)}),
    "a close after the dot, not stored": Lie({"DOT": CLOSE}),
    "a break after the dot, stored": Lie({"DOT": (STORE, RESET)}),
    "a break after the dot, not stored": Lie({"DOT": RESET}),
    "a break behind the 250": Lie({"DOT": (STORE, OK, RESET)}),
}
ANSI_LADEN = {
    **{f"escape sequences at {step}": Lie({step: code + b" " + ANSI + b"\r\n"}) for step, code in STEPS.items()},
    "escape sequences after the dot": Lie({"DOT": (STORE, b"250 2.0.0 " + ANSI + b"\r\n")}),
    "escape sequences in a refusal": Lie({"DOT": b"451 4.3.0 " + ANSI + b"\r\n"}),
}
CUT_TLS = {
    **{f"TLS cut at {step}": Lie({step: CLOSE}, tls=True) for step in ("MAIL", "RCPT", "DATA", "QUIT")},
    "TLS cut after the dot, stored": Lie({"DOT": (STORE, CLOSE)}, tls=True),
    "TLS cut in the reply to the dot": Lie({"DOT": (STORE, b"250 2.0", CLOSE)}, tls=True),
    "TLS cut behind the reply to the dot": Lie({"DOT": (STORE, OK, CLOSE)}, tls=True),
    "TLS broken off behind the reply to the dot": Lie({"DOT": (STORE, OK, RESET)}, tls=True),
}
IN_FLIGHT = {  # commands go together: whose reply is whose?
    "replies to MAIL and RCPT in the wrong order": Lie({"MAIL": b"", "RCPT": b"550 5.1.1 no\r\n250 ok\r\n"}),
    "354 before the reply to RCPT": Lie({"RCPT": b"", "DATA": b"354 go\r\n250 ok\r\n"}),
    "no reply to MAIL": Lie({"MAIL": b""}),
    "no reply to RCPT": Lie({"RCPT": b"", "DATA": b"354 go\r\n"}),
    "no reply to the dot, stored": Lie({"DOT": STORE}),
    "no reply to the dot, not stored": Lie({"DOT": b""}),
    "the reply to the dot behind the one to the next MAIL": Lie({"DOT": STORE, "MAIL": b"250 ok\r\n" + OK}),
    "content asked for behind a refusal": Lie({"RCPT": b"450 4.2.1 later\r\n", "DATA": b"354 go\r\n"}),
    "all that came together is cut": Lie({"MAIL": (b"250 ok\r\n25", RESET)}),
    "the reply to the dot octet by octet": Lie({"DOT": (STORE, *(bytes([octet]) for octet in OK))}),
}
IN_CHUNKS = {
    "two replies to a chunk": Lie({"BDAT": b"250 ok\r\n250 ok\r\n"}),
    "two replies to a chunk, and 451 in truth": Lie({"BDAT": b"250 ok\r\n250 ok\r\n", "DOT": b"451 4.3.0 no\r\n"}),
    "no reply to a chunk": Lie({"BDAT": b"", "RSET": CLOSE}),
    "a chunk refused, and the letter taken": Lie({"BDAT": b"451 4.3.0 no\r\n"}),
    "354 to a chunk": Lie({"BDAT": b"354 go\r\n"}),
    "421 to a chunk": Lie({"BDAT": (b"421 4.3.2 closing\r\n", CLOSE)}),
    "a drop behind a chunk": Lie({"BDAT": (b"250 ok\r\n", RESET)}),
    "a drop in the reply to the last chunk": Lie({"DOT": (STORE, b"250", RESET)}),
    "RSET refused behind the letter": Lie({"RSET": b"500 5.5.1 what\r\n"}),
}
EVERYWHERE = STRAY | HALF | ODD | ENDLESS_LATE | LEAVING | ANSI_LADEN | CUT_TLS


def told_in() -> Iterator[tuple[str, Lie, str]]:
    """Each lie and a way of sending it is told in: in turns in the small round, every way in the full one."""
    for number, (name, lie) in enumerate(EVERYWHERE.items()):
        ways = [way for way in OFFERS if way != "chunking" or "DATA" not in lie.on]
        for way in ways if FULL else [ways[number % len(ways)]]:
            yield name, lie, way
    for name, lie in IN_FLIGHT.items():
        yield name, lie, "pipelining"
    for name, lie in IN_CHUNKS.items():
        yield name, lie, "chunking"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def campaign(folder: Path, server: SmtpServer, authority: trustme.CA) -> Path:
    """A folder for a few letters to that server, over one connection."""
    folder.mkdir(exist_ok=True)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    relay = 'security = "starttls"\nca_file = "ca.pem"' if server.script.tls else ""
    return write_campaign(folder, server.port, LETTERS, pace="connections = 1", relay=relay)


def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def settle(folder: Path, server: SmtpServer) -> None:
    """Run once more, against the truth; then settle the unknown by the store, and run again: all are there, once."""
    run(folder, clock=Leap(), wait=True)
    assert judge(folder, server, LETTERS).keys() <= {"accepted", "unknown"}
    taken = by_id(server.stored)
    for number, (key, state) in numbered(folder).items():
        if state == "unknown":
            resolve(Desk(folder), key, "accepted" if number in taken else "resend", why="its store", who="the test")
    run(folder, clock=Leap(), wait=True)
    judge(folder, server, LETTERS, complete=True)
    COUNTS["lies told"] += 1


@pytest.mark.parametrize(("lie", "way"), [pytest.param(lie, way, id=f"{name}, {way}") for name, lie, way in told_in()])
def test_what_the_ledger_says_is_borne_out(lie: Lie, way: str, tmp_path: Path, authority: trustme.CA) -> None:
    with Liar(lie, way, tls(authority) if lie.tls else None) as server:
        folder = campaign(tmp_path, server, authority)
        run(folder, clock=Leap())
        assert server.told
        judge(folder, server, LETTERS)
        server.honest = True
        settle(folder, server)


@pytest.fixture(scope="module")
def size(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> int:
    """Octets of one letter's content on the wire, its last CRLF included."""
    with SmtpServer() as server:
        folder = campaign(tmp_path_factory.mktemp("honest"), server, authority)
        run(folder, clock=Leap())
        return len(server.content) // LETTERS


HEAD, BODY, ANNEX = 0.05, 0.4, 0.9
BREAKS = {
    "before the first octet": lambda size: 0,
    "after the first octet": lambda size: 1,
    "in the header": lambda size: int(HEAD * size),
    "in the text": lambda size: int(BODY * size),
    "in the attachment": lambda size: int(ANNEX * size),
    "between the last CR and LF": lambda size: size - 1,
    "before the dot": lambda size: size,
    "behind the dot": lambda size: size + 1,
    "between the dot's CR and LF": lambda size: size + 2,
    "behind the whole of it": lambda size: size + 3,
}


@pytest.mark.parametrize("way", ["lock-step", "pipelining"])
@pytest.mark.parametrize("after", BREAKS.values(), ids=BREAKS)
def test_a_break_at_each_kind_of_octet(
    after: Callable[[int], int], way: str, size: int, tmp_path: Path, authority: trustme.CA
) -> None:
    """A small letter leaves in one piece with its dot, so wherever it breaks, whether all of it was there is unknown.

    Of a large one, whose end leaves behind all the rest, it is known: see `test_session`.
    """
    with Liar(Lie({"BODY": Cut(after(size))}), way) as server:
        folder = campaign(tmp_path, server, authority)
        run(folder, clock=Leap())
        assert judge(folder, server, LETTERS).get("unknown", 0) <= len(TOLD)
        server.honest = True
        settle(folder, server)


@pytest.mark.skipif(sys.platform == "win32", reason="terminals as POSIX has them")
def test_nothing_a_relay_says_reaches_a_terminal_raw(tmp_path: Path, authority: trustme.CA) -> None:
    """The command line itself, on a terminal of its own: what is shown of a hostile reply is text."""
    said = Script(on={"DOT": [b"554 5.6.0 " + ANSI + b"\r\n", (STORE, b"250 2.0.0 " + ANSI + b"\r\n")]})
    plain = {"TERM": "dumb", "NO_COLOR": "1"}
    with SmtpServer(said) as server:
        folder = campaign(tmp_path, server, authority)
        looks = ("status", "log", "log K00000", "log K00001", "log --format csv", "log --json")
        shown = [
            on_terminal(*words.split(), folder=folder, env=plain)[1] for words in (f"send --confirm {LETTERS}", *looks)
        ]
    assert judge(folder, server, LETTERS) == {"accepted": LETTERS - 1, "failed": 1}
    assert sum("gone" in told for told in shown) >= 5
    assert {letter for told in shown for letter in told if not letter.isprintable()} <= {"\r", "\n"}
