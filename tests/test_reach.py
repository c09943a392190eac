"""The recipients' domains: a real name server for what they take, and plain counts for the rest."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.campaign import Pace
from dispatcher.core.preflight import Line, Status
from dispatcher.core.reach import COMMON, Reach, neighbour, reach_lines
from tests.command import dispatcher, new_campaign, read_list, set_relay, write_list
from tests.servers.names import NameServer, Odd
from tests.smtp_server import Script, SmtpServer

ZONES = {
    "kms.example.org": "@ MX 10 mail\nmail A 192.0.2.25",
    "missions.example.org": "@ MX 10 mail.missions.example.org.",
    "ngos.example.org": "@ MX 0 .",
    "bare.example": "@ TXT x",
    "plain.example": "@ A 192.0.2.80",
    "dark.example": "@ MX 10 mail",
    "xn--bcher-kva.example": "@ MX 10 mail",
    "gone.example": "other A 192.0.2.1",
}
ADDRESSES = {
    "GBR": "gbr@missions.example.org",
    "FRA": "fra@missions.example.org, office@plain.example",
    "ESP": "esp@nobody.gone.example",
    "BHR": "bhr@bare.example",
    "KHM": "khm@dark.example, x@Bücher.example",
    "fidh": "fidh@ngos.example.org",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = new_campaign(tmp_path / "campaign")
    for name in ("un_missions.csv", "ngos.csv"):
        columns, rows = read_list(folder, name)
        write_list(folder, name, columns, [{**row, "email": ADDRESSES[row["key"]]} for row in rows])
    return folder


def recipients(folder: Path, names: NameServer, relay: SmtpServer, *more: str) -> list[tuple[str, str, str]]:
    set_relay(
        folder,
        f'host = "127.0.0.1"\nport = {relay.port}\nsecurity = "none"\n\n[preflight]\nresolver = "{names.address}"',
    )
    done = dispatcher("preflight", "--json", *more, folder=folder)
    assert done.json["problem"] == (done.code == 2)
    return [(row["status"], row["subject"], row["what"]) for row in done.json["lines"] if row["part"] == "recipients"]


def test_each_domain_is_asked_about_once_and_said(folder: Path) -> None:
    """No such name, null MX, neither MX nor address, no answer: each with whom it concerns; none stops anything."""
    with SmtpServer() as relay, NameServer(ZONES, {"dark.example": Odd.SERVFAIL}) as names:
        found = recipients(folder, names, relay)
        asked = [name for name, kind in names.asked if kind == "MX"]
    assert len(asked) == len(set(asked))
    assert found == [
        ("ok", "domains", "3 of 7 domains take mail"),
        ("warning", "domains", "no such domain: nobody.gone.example (ESP)"),
        ("warning", "domains", "takes no mail (null MX): ngos.example.org (fidh)"),
        ("warning", "domains", "has neither MX nor address: bare.example (BHR)"),
        ("warning", "domains", "unknown: no answer about: dark.example (KHM)"),
        ("ok", "pace", "at most 2 letters to one domain, missions.example.org"),
    ]


def test_a_suppressed_recipient_is_not_looked_up(folder: Path) -> None:
    assert dispatcher("suppress", "add", "fidh@ngos.example.org", "--why", "asked", folder=folder).code == 0
    with SmtpServer() as relay, NameServer(ZONES) as names:
        recipients(folder, names, relay)
        assert "ngos.example.org" not in {name for name, _ in names.asked}


@pytest.mark.parametrize("offers", [("SMTPUTF8", "8BITMIME"), ("8BITMIME",)])
def test_a_name_beyond_ascii_against_the_relay(tmp_path: Path, offers: tuple[str, ...]) -> None:
    folder = new_campaign(tmp_path / "campaign", ["FRA"])
    columns, rows = read_list(folder, "un_missions.csv")
    write_list(folder, "un_missions.csv", columns, [{**rows[0], "email": "jürgen@missions.example.org"}])
    with SmtpServer(Script(ehlo=offers)) as relay, NameServer(ZONES) as names:
        found = [row for row in recipients(folder, names, relay) if row[1] == "SMTPUTF8"]
    said = "names beyond ASCII need SMTPUTF8: FRA"
    if "SMTPUTF8" in offers:
        assert found == [("ok", "SMTPUTF8", f"{said}, which the relay offers")]
    else:
        assert found == [("warning", "SMTPUTF8", f"{said}, and the relay does not offer it")]


# Counts alone.


def lines(
    letters: Mapping[str, str], features: Mapping[str, str] | None = None, pace: Pace | None = None
) -> list[Line]:
    reach = Reach()
    for key, mailboxes in letters.items():
        reach.add(key, mailboxes.split())
    return [line for line in reach_lines(reach, {}, features, pace or Pace()) if line.subject != "domains"]


def test_examples_are_not_looked_up() -> None:
    (line,) = reach_lines(Reach(), {}, None, Pace())
    assert (line.status, "not looked up" in line.what) == (Status.OK, True)


@pytest.mark.parametrize(
    ("domain", "meant"),
    [
        ("gmial.com", "gmail.com"),
        ("gmai.com", "gmail.com"),
        ("gmail.co", "gmail.com"),
        ("gmail.con", "gmail.com"),
        ("gmaill.com", "gmail.com"),
        ("hotmial.com", "hotmail.com"),
        ("yahooo.com", "yahoo.com"),
        ("outlok.com", "outlook.com"),
        ("protonmal.com", "protonmail.com"),
        ("gmail.com", ""),
        ("ymail.com", ""),
        ("gmx.at", ""),
        ("mecom", ""),
        ("missions.example.org", ""),
        ("example.org", ""),
    ],
)
def test_typing_mistakes_are_noticed(domain: str, meant: str) -> None:
    assert neighbour(domain, COMMON) == meant


@given(st.sampled_from(sorted(name for name in COMMON if len(name.partition(".")[0]) >= 5)), st.data())
def test_any_one_slip_is_noticed(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 2))
    slip = data.draw(st.sampled_from(["drop", "double", "swap", "other"]))
    mistyped = {
        "drop": name[:at] + name[at + 1 :],
        "double": name[:at] + name[at] + name[at:],
        "swap": name[:at] + name[at + 1] + name[at] + name[at + 2 :],
        "other": name[:at] + "q" + name[at + 1 :],
    }[slip]
    assert mistyped in COMMON or neighbour(mistyped, COMMON)


def test_a_domain_that_is_often_in_the_list_is_known() -> None:
    letters = {f"K{n}": f"k{n}@missions.example.org" for n in range(20)} | {"ODD": "odd@mission.example.org"}
    (typing, pace) = lines(letters)
    assert typing.what == "mission.example.org looks like missions.example.org mistyped: ODD"
    assert typing.status is Status.WARNING
    assert pace.what == "at most 20 letters to one domain, missions.example.org"


@pytest.mark.parametrize(
    ("mailbox", "words"),
    [
        ("noreply@a.example", "nobody reads there: K"),
        ("no-reply+list@a.example", "nobody reads there: K"),
        ("postmaster@a.example", "for a server's own affairs: K"),
        ("abuse@a.example", "for a server's own affairs: K"),
        ("info@a.example", ""),
        ("office@a.example", ""),
    ],
)
def test_mailboxes_that_are_nobodys(mailbox: str, words: str) -> None:
    found = [line.what for line in lines({"K": mailbox}) if line.subject == "mailboxes"]
    assert found == ([words] if words else [])


def test_smtputf8_is_unknown_without_the_relay() -> None:
    found = [line for line in lines({"K": "jürgen@a.example"}) if line.subject == "SMTPUTF8"]
    assert [line.status for line in found] == [Status.WARNING]
    assert found[0].what.startswith("unknown: ")


@pytest.mark.parametrize(
    ("count", "pace", "status"),
    [
        (99, {}, Status.OK),
        (100, {}, Status.WARNING),
        (100, {"rate": "60/min"}, Status.OK),
        (100, {"rate": "61/min"}, Status.WARNING),
        (100, {"rate": "10/s", "domains": {"big.example": "5/min"}}, Status.OK),
        (100, {"rate": "10/s", "domains": {"*": "5/min"}}, Status.OK),
    ],
)
def test_many_letters_to_one_domain_against_the_pace(count: int, pace: dict[str, object], status: Status) -> None:
    letters = {f"K{n}": f"k{n}@big.example" for n in range(count)}
    (line,) = lines(letters, pace=Pace.model_validate(pace))
    assert line.status is status
    assert ("letters go to big.example" in line.what) is (status is Status.WARNING)
    assert ('domains = { "big.example" = "20/min" }' in line.todo) is (status is Status.WARNING)


def test_two_mailboxes_of_a_letter_at_one_domain_count_once() -> None:
    assert lines({"K": "a@x.example b@x.example"})[0].what == "at most 1 letter to one domain, x.example"
