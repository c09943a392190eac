"""Amending a campaign that has begun: no mailbox gets a second letter, and nothing leaves in a form nobody saw."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.core.errors import PlanConflict
from dispatcher.desk import Desk
from dispatcher.desk.deciding import amend, changes, resolve
from dispatcher.desk.sending import outlook, send
from tests.campaigns import PEOPLE, RELAY, write_campaign
from tests.smtp_server import CLOSE, STORE, Script, SmtpServer

NUMBERED = """\
key,email,name,language,city,group,member
1,fra@missions.example.org,Mission de France,fr,Genève,Europe,true
2,nam@missions.example.org,Mission of Namibia,en,NA,Africa,true
3,tur@missions.example.org,Mission of Türkiye,en,004,Europe,false
4,khm@missions.example.org,Mission of Cambodia,en,Geneva,Asia,true
"""


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer(Script()) as found:
        yield found


def campaign(folder: Path, server: SmtpServer, people: str = PEOPLE, top: str = "") -> Desk:
    relay = RELAY.replace("2525", str(server.port))
    return Desk(write_campaign(folder, relay=relay, top=top, pace="connections = 1\n", files={"people.csv": people}))


def written_to(server: SmtpServer) -> list[str]:
    return sorted(path for stored in server.stored for path in stored.rcpt_tos)


def test_keys_that_are_row_numbers_write_to_nobody_twice(tmp_path: Path, server: SmtpServer) -> None:
    """Sorted anew, each number means somebody else: refused, with both sides named."""
    desk = campaign(tmp_path, server, NUMBERED)
    send(desk, outlook(desk, limit=2))
    head, *rows = NUMBERED.splitlines()
    mixed = [f"{n},{row.partition(',')[2]}" for n, row in enumerate(reversed(rows), 1)]
    (tmp_path / "people.csv").write_text("\n".join([head, *mixed]) + "\n", encoding="utf-8")
    with pytest.raises(PlanConflict, match="A key stays with its recipient") as refused:
        changes(desk)
    assert "4 would go to fra@missions.example.org, which letter 1 has reached" in str(refused.value)
    assert "2 already accepted or posted at another address than the list has now: 1, 2" in str(refused.value)
    assert written_to(server) == ["fra@missions.example.org", "nam@missions.example.org"]


def test_a_renamed_key_writes_to_nobody_twice(tmp_path: Path, server: SmtpServer) -> None:
    desk = campaign(tmp_path, server)
    send(desk, outlook(desk))
    (tmp_path / "people.csv").write_text(PEOPLE.replace("KHM,", "CAMBODIA,"), encoding="utf-8")
    with pytest.raises(PlanConflict, match=r"CAMBODIA would go to khm@missions\.example\.org, which letter KHM"):
        changes(desk)


def test_the_ledger_itself_refuses_a_second_letter(tmp_path: Path, server: SmtpServer) -> None:
    """Even if nobody asked `changes` first; and nothing of that plan is written."""
    desk = campaign(tmp_path, server)
    send(desk, outlook(desk))
    (tmp_path / "people.csv").write_text(PEOPLE.replace("KHM,", "CAMBODIA,"), encoding="utf-8")
    draft = desk.draft()
    with pytest.raises(PlanConflict, match=r"letter CAMBODIA would go to khm@missions\.example\.org"):
        amend(desk, draft, draft.summary(whole=True))
    with desk.reader() as reader:
        assert reader.one("latest_plan", campaign="harvest-2026")["revision"] == 1  # type: ignore[index]
        assert reader.one("standing", campaign="harvest-2026", key="CAMBODIA") is None


def test_two_keys_may_share_a_mailbox_by_decision(tmp_path: Path, server: SmtpServer) -> None:
    desk = campaign(tmp_path, server, top='on_duplicate = "each"\n')
    send(desk, outlook(desk))
    more = PEOPLE + "KHM2,khm@missions.example.org,Mission of Cambodia,en,Geneva,Asia,true\n"
    (tmp_path / "people.csv").write_text(more, encoding="utf-8")
    draft, summary, found, _ = changes(desk)
    assert str(found.new) == "KHM2"
    amend(desk, draft, summary)
    send(desk, outlook(desk))
    assert written_to(server).count("khm@missions.example.org") == 2


def test_who_sealed_and_amended_is_recorded(tmp_path: Path, server: SmtpServer) -> None:
    desk = campaign(tmp_path, server)
    send(desk, outlook(desk))
    with desk.reader() as reader:
        rows = list(reader.rows("decisions"))
    assert [(row["kind"], bool(row["who"])) for row in rows] == [("sealed", True)]


@pytest.fixture
def cut_off() -> Iterator[SmtpServer]:
    """Takes the first letter and says nothing; after that it is an honest server."""
    with SmtpServer(Script(on={"DOT": [(STORE, CLOSE), (STORE, b"250 2.0.0 ok\r\n")]})) as found:
        yield found


def unknown_letter(folder: Path, server: SmtpServer, top: str = "") -> Desk:
    desk = campaign(folder, server, PEOPLE.split("NAM")[0], top)
    assert send(desk, outlook(desk)).counts["unknown"] == 1
    return desk


def test_an_unknown_letter_is_not_sent_again_in_its_old_form(tmp_path: Path, cut_off: SmtpServer) -> None:
    """Its address was mended and amended; a person says resend: what leaves is what the folder shows."""
    desk = unknown_letter(tmp_path, cut_off)
    people = PEOPLE.split("NAM")[0].replace("fra@missions", "france@missions")
    (tmp_path / "people.csv").write_text(people, encoding="utf-8")
    draft, summary, found, lines = changes(desk)
    assert (str(found.unknown), found.count) == ("FRA", 0)
    assert any("unknown, held as they are" in line for line in lines)
    amend(desk, draft, summary)
    resolve(desk, "FRA", "resend", why="not in the relay's log")
    with pytest.raises(PlanConflict, match="1 changed letter: FRA"):
        outlook(desk)
    draft, summary, _, _ = changes(desk)
    amend(desk, draft, summary)
    assert send(desk, outlook(desk)).exit_code == 0
    assert written_to(cut_off) == ["fra@missions.example.org", "france@missions.example.org"]


def test_a_rule_does_not_resend_what_was_amended(tmp_path: Path, cut_off: SmtpServer) -> None:
    """on_unknown = "resend" means the same letter again; of another one a person must speak."""
    desk = unknown_letter(tmp_path, cut_off, 'on_unknown = "resend"\n')
    people = PEOPLE.split("NAM")[0].replace("fra@missions", "france@missions")
    (tmp_path / "people.csv").write_text(people, encoding="utf-8")
    draft, summary, _, _ = changes(desk)
    amend(desk, draft, summary)
    with pytest.raises(PlanConflict, match="dispatcher resolve FRA --as"):
        outlook(desk)
    assert written_to(cut_off) == ["fra@missions.example.org"]
