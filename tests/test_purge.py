"""Personal data goes for good, and what is left still verifies: the octets of every file of a purged ledger are looked
through for everything that was personal in it.
"""

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatcher.core import chain
from dispatcher.core.age import Age
from dispatcher.core.errors import LedgerUnavailable, PlanConflict, UsageError
from dispatcher.core.model import State
from dispatcher.desk import Desk
from dispatcher.desk.approvals import approve
from dispatcher.desk.clock import SystemClock
from dispatcher.desk.deciding import changes, resolve, suppress, unsuppress
from dispatcher.desk.purging import purge, purgeable
from dispatcher.desk.reading import log, status, story, suppressions
from dispatcher.desk.sending import outlook, seal_now, send
from dispatcher.desk.testing import send_tests
from dispatcher.desk.verifying import verify_ledger
from dispatcher.ledgers import purging
from dispatcher.ledgers.file import connect
from dispatcher.ledgers.printing import Printed, PrintedFile, post, record
from dispatcher.ledgers.reader import Reader
from dispatcher.ledgers.sqlite import SqliteLedger
from tests.certificates import NOW, Wish, ec_key, sign_with
from tests.command import dispatcher
from tests.figures import COUNTS, FULL
from tests.keys import private_key
from tests.review_page import review
from tests.smtp_server import CLOSE, STORE, Actions
from tests.test_kill_calls import spread
from tests.test_review_guard import ask, cookie, routes
from tests.torture import CAMPAIGN, Rules, write_campaign
from tests.tracing import kill_at, needs_strace, trace

LETTERS = 8
PLACES = 1000 if FULL else 4
"""At how many calls of each kind a purge is killed."""
PERSONAL = (  # each too long to stand in a hash by chance, or no hexadecimal
    *(f"k{n:05}@missions" for n in range(LETTERS) if n != 5),
    *(f"K{n:05}" for n in range(LETTERS)),
    *(f"token-{n * 7919 % 99991:05}" for n in range(LETTERS)),
    "Ottoline", "ottoline", "tester@example.org", "they telephoned", "no trace of it", "letters-Berta.pdf",
    "by telephone", "nobody here", "BEGIN SSH", "annex\r\n.\r\n",
)  # fmt: skip


class Later(SystemClock):
    """A clock that is some days ahead."""

    def __init__(self, days: int) -> None:
        self._ahead = timedelta(days=days)

    def now(self) -> datetime:
        return super().now() + self._ahead


def later(folder: Path, days: int = 3 * 366) -> Desk:
    return Desk(folder, clock=Later(days))


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with all that is personal in every kind of row."""
    folder = tmp_path_factory.mktemp("purge") / "campaign"
    here: dict[int, bytes] = {}

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "RCPT":
            here[connection] = line
            if b"k00001@" in line:
                return b"550 5.1.1 <k00001@missions.example.org> nobody here\r\n"
            if b"k00002@" in line:
                return b"450 4.2.0 later\r\n"
        if step == "DOT" and (b"k00003@" in here[connection] or b"k00004@" in here[connection]):
            return STORE, CLOSE
        return None

    with Rules(rule) as server:
        write_campaign(folder, server.port, LETTERS, pace="connections = 1", top="approvals = 1")
        sign_with(folder, Wish(name="Ottoline", key=ec_key(), ends=NOW + timedelta(days=9999)))
        desk = Desk(folder)
        seal_now(desk, outlook(desk))
        approve(desk, by="Ottoline", key=private_key(folder.parent / "key"))
        send_tests(desk, "tester@example.org", limit=1)
        send(desk, outlook(desk))
        resolve(desk, "K00003", "accepted", why="they telephoned")
        resolve(desk, "K00004", "failed", why="the relay has no trace of it")
        suppress(desk, ["k00005@missions.example.org"], reason="asked by telephone", source="by hand")
        suppress(desk, ["gone@missions.example.org"], reason="moved", source="by hand")
        unsuppress(desk, "gone@missions.example.org", why="Ottoline says so")
    with desk.ledger() as ledger:
        record(ledger, 1, CAMPAIGN, [], [PrintedFile("letters-Berta.pdf", "letters", 5, "ab")], "Ottoline")
    return folder.rename(folder.with_name("kept"))  # so that what is made of it was moved, and is no copy


@pytest.fixture
def folder(sent: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sent, tmp_path / "campaign", ignore=shutil.ignore_patterns("*.lock")))


def found_in(folder: Path) -> set[str]:
    """What is personal in any file of the ledger."""
    octets = b"".join(path.read_bytes() for path in sorted((folder / ".dispatcher").rglob("*")) if path.is_file())
    return {word for word in PERSONAL if word.encode() in octets}


def sql(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / ".dispatcher/ledger.sqlite")) as connection:
        return connection.execute(statement).fetchall()


def verified(folder: Path) -> list[str]:
    return [fault.why for fault in verify_ledger(folder / ".dispatcher/ledger.sqlite", lambda *_: None).faults]


def test_nothing_personal_is_left_and_all_that_stays_verifies(folder: Path) -> None:
    there = found_in(folder)
    assert "k00000@missions" in there
    assert "Ottoline" in there
    facts = "SELECT count(*), group_concat(outcome || coalesce(code, '') || at || message_digest) FROM attempt"
    states = "SELECT state, count(*) FROM letter WHERE state NOT IN ('ready', 'cancelled') GROUP BY state"
    before = sql(folder, facts), sql(folder, states), sql(folder, "SELECT number, link, digests FROM link")
    found = purge(later(folder), "2y", LETTERS)
    assert [stale.campaign for stale in found.campaigns] == [CAMPAIGN]
    assert found_in(folder) == set()
    links = sql(folder, "SELECT number, link, digests FROM link")
    assert (sql(folder, facts), sql(folder, states)) == before[:2]
    assert links[: len(before[2])] == before[2]
    assert sql(folder, "SELECT state, count(*) FROM letter WHERE state IN ('ready', 'cancelled') GROUP BY 1") == [
        ("cancelled", 1)
    ]
    assert verified(folder) == []
    gone = {(kind, number) for kind, number in sql(folder, "SELECT kind, id FROM purged")}
    for names, salts in sql(folder, "SELECT names, salts FROM link"):
        for place, name in enumerate(chain.names_of(names)):
            salt = salts[place * chain.SALT : (place + 1) * chain.SALT]
            purged = (chain.KINDS[name.kind].number, name.id) in gone
            assert purged == (salt == bytes(chain.SALT)), f"what was in {name} can be tried"
    seen = verify_ledger(folder / ".dispatcher/ledger.sqlite", lambda *_: None)
    assert [purge["campaign"] for purge in seen.purges] == [CAMPAIGN, ""]
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]
    assert sql(folder, "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'") > [(30,)]


def test_who_does_not_want_to_be_written_to_is_still_not(folder: Path) -> None:
    purge(later(folder), "2y", LETTERS)
    rows = suppressions(Desk(folder))
    assert [row["address"] for row in rows] == ["k00005@missions.example.org"]  # the relay's refusal is gone
    assert "telephone" not in str(rows)


def test_a_second_purge_finds_nothing(folder: Path) -> None:
    purge(later(folder), "2y", LETTERS)
    octets = (folder / ".dispatcher/ledger.sqlite").read_bytes()
    assert purge(later(folder), "2y", 0).campaigns == []
    with pytest.raises(UsageError, match="it would be 0"):
        purge(later(folder), "2y", LETTERS)
    assert (folder / ".dispatcher/ledger.sqlite").read_bytes() == octets


def test_what_is_said_after_a_purge_is_purged_in_its_time(folder: Path) -> None:
    """About an address, and about a letter: no campaign is left with which that could go."""
    path = folder / ".dispatcher/ledger.sqlite"
    ((number, key, digest),) = sql(
        folder, "SELECT l.id, key, digest FROM letter l JOIN sealed ON letter = l.id WHERE state = 'failed' LIMIT 1"
    )
    with SqliteLedger(path, SystemClock().now) as ledger:  # no mark: this is a copy
        record(ledger, 2, CAMPAIGN, [Printed(number, key, State.FAILED, digest, "letters.pdf")], [], "Ottoline")
    purge(later(folder), "2y", LETTERS)
    after = later(folder, 3 * 366 + 10)
    suppress(after, ["berta@missions.example.org"], reason="Ottoline knows her", source="by hand")
    with SqliteLedger(path, after.clock.now) as ledger:
        post(ledger, [number], date(2012, 11, 1), who="Ottoline", why="Berta saw it")
    assert found_in(folder) == {"Ottoline"}
    assert purgeable(later(folder, 4 * 366), "2y").decisions == 0
    found = purgeable(later(folder, 6 * 366), "2y")
    assert (found.campaigns, found.letters, found.decisions) == ([], 0, 2)
    purge(later(folder, 6 * 366), "2y", 0)
    assert found_in(folder) == set()
    assert verified(folder) == []
    (last,) = sql(folder, f"SELECT kind, subject, who, why FROM event WHERE letter = {number} ORDER BY id DESC LIMIT 1")
    assert last == ("posted", "", "", "")
    assert purgeable(later(folder, 7 * 366), "2y").decisions == 0


def test_what_is_not_old_enough_stays(folder: Path) -> None:
    assert purgeable(later(folder, 700), "2y").campaigns == []
    assert len(purgeable(later(folder, 740), "2y").campaigns) == 1
    with pytest.raises(UsageError, match="--confirm 3, but it would be 8"):
        purge(later(folder), "2y", 3)
    assert "Ottoline" in found_in(folder)


def test_a_purged_campaign_is_never_sent_again(folder: Path) -> None:
    with Rules(lambda *_: None) as server:
        path = folder / "campaign.toml"
        path.write_text(path.read_text().replace("approvals = 1", "").replace("port = ", f"port = {server.port} # "))
        purge(later(folder), "2y", LETTERS)
        desk = Desk(folder)
        for act in (
            lambda: send(desk, outlook(desk)),
            lambda: seal_now(desk, outlook(desk)),
            lambda: changes(desk),
            lambda: resolve(desk, "purged-3", "resend", why="again"),
        ):
            with pytest.raises(PlanConflict, match=r"was purged on .* new id"):
                act()
        assert not server.stored
    for state in ("ready", "to_print"):
        with pytest.raises(sqlite3.IntegrityError), closing(sqlite3.connect(desk.ledger_path)) as connection:
            connection.execute(f"UPDATE letter SET state = '{state}' WHERE state = 'failed'")
    with pytest.raises(sqlite3.IntegrityError, match="not sealed again"):
        sql(folder, "INSERT INTO plan SELECT 99, campaign, 2, digest, sealed_at, '', x'', '', '', '' FROM plan")


def test_a_suppression_that_is_lifted_opens_no_purged_letter(folder: Path) -> None:
    purge(later(folder), "2y", LETTERS)
    assert unsuppress(Desk(folder), "k00005@missions.example.org", why="again") == 0
    assert verified(folder) == []


def test_what_is_left_can_be_looked_at(folder: Path) -> None:
    purge(later(folder), "2y", LETTERS)
    desk = Desk(folder)
    found = status(desk)
    assert found["purged_at"]
    assert found["counts"]["letters"] == LETTERS
    rows = list(log(desk))
    assert {row["key"] for row in rows} == {f"purged-{n}" for n in range(1, LETTERS + 1)}
    assert {row["addresses"] for row in rows} == {""}
    assert story(desk, "purged-2")["attempts"][0]["code"] == 550
    for words in (("status",), ("log",), ("log", "purged-1"), ("log", "--attempts"), ("verify",), ("suppress", "list")):
        done = dispatcher(*words, folder=folder)
        assert done.code == 0, (words, done.err)
    assert "Purged" in dispatcher("verify", folder=folder).out
    checked = dispatcher("check", folder=folder)
    assert checked.code == 2
    assert "new id in campaign.toml" in checked.err
    assert "amend" not in checked.err


def test_another_campaign_keeps_what_it_needs(folder: Path) -> None:
    path = folder / "campaign.toml"
    old = path.read_text()
    with Rules(lambda *_: None) as server:
        new = (
            old.replace(CAMPAIGN, "second-2012")
            .replace("approvals = 1", "")
            .replace("port = ", f"port = {server.port} # ")
        )
        path.write_text(new)
        desk = later(folder, 1000)
        send(desk, outlook(desk))
    found = purge(later(folder, 1100), "2y", LETTERS)
    assert [stale.campaign for stale in found.campaigns] == [CAMPAIGN]
    assert verified(folder) == []
    rows = sql(folder, "SELECT count(*) FROM sealed WHERE mailboxes LIKE 'k0%' AND length(own) > 0")
    assert rows == [(LETTERS,)]
    assert sql(folder, "SELECT count(*) FROM content") == [(1,)]  # the same annex
    assert sql(folder, "SELECT count(*) FROM event WHERE kind = 'sealed' AND why <> ''") == [(1,)]
    assert purge(later(folder, 3 * 1000), "2y", LETTERS).campaigns
    assert verified(folder) == []
    assert found_in(folder) == set()


def test_a_crash_in_the_middle_leaves_either(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> None:
        raise LedgerUnavailable("the power failed")

    with monkeypatch.context() as patch:  # in the transaction
        patch.setattr(purging, "_shared_by_all", crash)
        with pytest.raises(LedgerUnavailable):
            purge(later(folder), "2y", LETTERS)
    assert verified(folder) == []
    assert len(purgeable(later(folder), "2y").campaigns) == 1
    assert sql(folder, "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'") > [(30,)]
    with monkeypatch.context() as patch:  # and behind it
        patch.setattr(purging, "clean", crash)
        with pytest.raises(LedgerUnavailable):
            purge(later(folder), "2y", LETTERS)
    assert verified(folder) == []
    found = purgeable(later(folder), "2y")
    assert (found.campaigns, found.unclean) == ([], True)
    purge(later(folder), "2y", 0)
    assert found_in(folder) == set()
    assert not purgeable(later(folder), "2y").unclean


@pytest.mark.torture
@needs_strace()
def test_a_kill_at_any_write_leaves_either(folder: Path, tmp_path: Path) -> None:
    """Not purged, or purged and perhaps not clean yet: both verify, and the next purge finishes."""
    kept = folder.rename(tmp_path / "kept")
    code = "from pathlib import Path; from tests.test_purge import *; purge(later(Path({!r})), '2y', LETTERS)"
    argv = [sys.executable, "-c", code.format(str(folder))]
    shutil.copytree(kept, folder)
    names = ("pwrite64", "fdatasync", "ftruncate")
    calls = trace(tmp_path, names, argv, octets=0)
    states = []
    for name in names:
        for number in spread((call.number for call in calls if call.name == name), PLACES):
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)
            if kill_at(name, number, argv) == 0:
                continue
            assert sql(folder, "PRAGMA integrity_check") == [("ok",)]
            assert verified(folder) == []
            left = purgeable(later(folder), "2y")
            states.append((len(left.campaigns), left.unclean))
            purge(later(folder), "2y", left.letters)
            assert found_in(folder) == set()
            assert verified(folder) == []
            COUNTS["kills in a purge"] += 1
    assert {(1, False), (0, True)} <= set(states), states


def test_somebody_who_reads_the_ledger_is_in_the_way_of_its_log(folder: Path) -> None:
    with Reader(folder / ".dispatcher/ledger.sqlite") as reader:
        reader._connection.execute("BEGIN")
        next(reader.rows("keys", campaign=CAMPAIGN))
        with pytest.raises(LedgerUnavailable, match=r"Close `dispatcher review`|locked"):
            purge(later(folder), "2y", LETTERS)
    assert purgeable(later(folder), "2y").unclean
    purge(later(folder), "2y", 0)
    assert found_in(folder) == set()


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE attempt SET reply = '250 fine' WHERE id = 2",
        "UPDATE attempt SET outcome = 'failed' WHERE id = 3",
        "UPDATE rcpt SET reply = 'x'",
        "UPDATE event SET who = 'Eve' WHERE id = 2",
        "UPDATE approval SET name = 'Eve'",
        "UPDATE sealed SET digest = 'x' WHERE letter = 3",
        "UPDATE letter SET key = 'K00003' WHERE id = 3",
        "UPDATE letter SET state = 'accepted' WHERE id = 2",
        "UPDATE purge SET rows = rows + 1",
        "UPDATE purge SET before = 'x'",
        "UPDATE purge SET who = 'Eve'",
        "UPDATE purged SET personal = zeroblob(32) WHERE kind = 1 AND id = 2",
        "DELETE FROM purged WHERE kind = 1 AND id = 2",
        "DELETE FROM purge",
        "UPDATE skip SET reason = 'x'",
        "UPDATE plan SET frozen = json_set(frozen, '$.template.title', 'Another')",
        "UPDATE printing SET files = replace(files, 'ab', 'cd')",
        "UPDATE letter SET date = '2001-01-01T00:00:00+00:00' WHERE date IS NOT NULL",
        "UPDATE approval SET signature = 'x'",
    ],
)
def test_a_purged_ledger_is_no_easier_to_forge(folder: Path, forgery: str) -> None:
    purge(later(folder), "2y", LETTERS)
    with closing(sqlite3.connect(folder / ".dispatcher/ledger.sqlite", isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        changed = connection.execute(forgery).rowcount
    assert verified(folder) or not changed


def test_the_command(folder: Path) -> None:
    done = dispatcher("purge", "--older-than", "2y", folder=folder)
    assert (done.code, done.err) == (0, "")
    assert "Nothing is to be purged" in done.out
    done = dispatcher("purge", "--older-than", "2y", "--json", folder=folder)
    assert json.loads(done.out)["campaigns"] == []
    done = dispatcher("purge", "--older-than", "soon", folder=folder)
    assert done.code == 2
    assert "2y, 18m or 90d" in done.err


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("2y", "2007-10-31"), ("18M", "2008-04-30"), ("8 m", "2009-02-28"), ("90d", "2009-08-02"), ("1d", "2009-10-30"),
    ],
)  # fmt: skip
def test_a_length_of_time(text: str, before: str) -> None:
    assert Age.parse(text).before(datetime(2009, 10, 31, 12, tzinfo=UTC)).date().isoformat() == before


@pytest.mark.parametrize("text", ["", "2", "y", "0d", "-1y", "2w", "1.5y", "99999y", "2y1m", "٢y"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(UsageError):
        Age.parse(text).before(datetime(2009, 10, 31, tzinfo=UTC))


def test_the_connection_for_cleaning_is_one_of_ours(folder: Path) -> None:
    with closing(connect(folder / ".dispatcher/ledger.sqlite", read_only=True)) as connection:
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_the_page_shows_what_is_left(folder: Path) -> None:
    purge(later(folder), "2y", LETTERS)
    with review(folder) as page:
        session = cookie(page)
        for address in routes(folder):
            answer = ask(page, "GET", address, Cookie=session)
            assert answer.status in (200, 303, 404, 405, 409), (address, answer.body)
            assert not {word for word in PERSONAL if len(word) > 3 and word.encode() in answer.body}, address
