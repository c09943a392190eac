"""What a `send` would do, told in two ways that must agree: by merging the folder, and from the ledger alone."""

import gc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.core.errors import PlanConflict, UsageError
from dispatcher.desk import Desk
from dispatcher.desk.deciding import amend, changes, suppress
from dispatcher.desk.outlook import Outlook, outlook
from dispatcher.desk.sending import send
from tests.campaigns import ENGLISH, LETTER, PEOPLE, RECIPIENTS, SENDER, settings, write_campaign
from tests.command import dispatcher
from tests.disks import SmallDisk, needs_mount
from tests.pdfs import pdf
from tests.smtp_server import CLOSE, STORE, Action, Script, SmtpServer


def relay(server: SmtpServer) -> str:
    return f'host = "{server.host}"\nport = {server.port}\nsecurity = "none"\n'


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    """Takes the first letter, refuses the second for good and the third for now, and is lost over the fourth."""
    answers: list[Action] = [(STORE, b"250 2.0.0 ok\r\n"), b"554 5.6.0 no\r\n", b"451 4.3.0 later\r\n", (STORE, CLOSE)]
    with SmtpServer(Script(on={"DOT": answers})) as found:
        yield found


def merged(plan: Outlook) -> bool:
    """Whether the folder had to be merged."""
    return bool(list(plan.draft.unsealed.all_keys()))


def told(plan: Outlook) -> tuple[object, ...]:
    """All that a face shows of it, and whom it goes to."""
    keys = list(plan.picked()) if plan.chosen else []
    summary = plan.summary
    return plan.count, plan.revision, keys, summary.letters, summary.reserved, dict(summary.languages)


HEAD = PEOPLE.splitlines()[0]
ROWS = [
    f"K{n},k{n}@{'a' if n % 3 else 'b'}.example.org,Mission {n},{'en' if n % 2 else 'fr'},C,g,{'true' if n % 4 else ''}"
    for n in range(12)
]


def people(*rows: str) -> str:
    return "\n".join([HEAD, *rows]) + "\n"


@pytest.mark.parametrize("on_unknown", ["hold", "resend", "assume_sent"])
def test_the_ledger_alone_says_what_merging_says(tmp_path: Path, server: SmtpServer, on_unknown: str) -> None:
    """Letters stand everywhere; the list in another order is the same plan, but cannot be known to be so."""
    files = {"people.csv": people(*ROWS)}
    top = f'on_unknown = "{on_unknown}"\n'
    desk = Desk(write_campaign(tmp_path, files=files, top=top, relay=relay(server), pace="connections = 1"))
    assert merged(outlook(desk))
    assert send(desk, outlook(desk, limit=4)).exit_code == 3
    suppress(desk, ["@b.example.org"], reason="closed", source="by hand")
    choices: list[tuple[str | None, int | None]] = [(None, None), (None, 3), ("member", None), ('language == "en"', 2)]
    for only, limit in choices:
        from_ledger = outlook(desk, only=only, limit=limit)
        (tmp_path / "people.csv").write_text(people(*reversed(ROWS)), encoding="utf-8")
        from_folder = outlook(desk, only=only, limit=limit)
        (tmp_path / "people.csv").write_text(people(*ROWS), encoding="utf-8")
        assert (merged(from_ledger), merged(from_folder)) == (False, True)
        assert told(from_ledger) == told(from_folder)


CHANGES: Mapping[str, Mapping[str, str | bytes | None]] = {
    "row": {"people.csv": PEOPLE.replace("nam@", "na@")},
    "letter": {"letters/letter.en.md": ENGLISH.replace("counts", "matters")},
    "attachment": {"letters/report.pdf": pdf("Another harvest.")},
    "filter": {"campaign.toml": settings(recipients=RECIPIENTS + 'where = "member"')},
    "sender": {"campaign.toml": settings(sender=SENDER.replace("Ada Pomme", "Eve Pomme"))},
    "attached files": {"campaign.toml": settings(letter=LETTER.replace('["letters/report.pdf"]', "[]"))},
    "lists": {
        "more.csv": people(*ROWS),
        "campaign.toml": settings(recipients=RECIPIENTS + '[[recipients]]\nsource = "more.csv"\n'),
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_the_folder_is_noticed(tmp_path: Path, name: str) -> None:
    desk = Desk(write_campaign(tmp_path), sandbox=True)
    assert send(desk, outlook(desk)).exit_code == 0
    assert not merged(outlook(desk))
    write_campaign(tmp_path, files=CHANGES[name])
    with pytest.raises(PlanConflict, match="not what was sealed"):
        outlook(desk)


def test_attachments_of_their_own_are_merged_each_time(tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {f"letters/{key}.pdf": pdf(key) for key in ("FRA", "NAM", "TUR", "KHM")}
    letter = LETTER.replace("report.pdf", "{key}.pdf")
    desk = Desk(write_campaign(tmp_path, files=files, letter=letter), sandbox=True)
    assert send(desk, outlook(desk, limit=1)).exit_code == 0
    assert merged(outlook(desk))
    (tmp_path / "letters/NAM.pdf").write_bytes(pdf("Another for NAM."))
    with pytest.raises(PlanConflict, match="1 changed letter: NAM"):
        outlook(desk)


@pytest.mark.parametrize("name", ["row", "letter", "attachment"])
def test_what_changes_between_the_count_and_the_seal_is_not_sealed(tmp_path: Path, name: str) -> None:
    desk = Desk(write_campaign(tmp_path), sandbox=True)
    plan = outlook(desk)
    write_campaign(tmp_path, files=CHANGES[name])
    with pytest.raises(PlanConflict, match="changed while it was sealed; nothing was written"):
        send(desk, plan)
    with desk.reader() as reader:
        assert reader.one("latest_plan", campaign="harvest-2026") is None
    assert send(desk, outlook(desk)).exit_code == 0


def test_a_plan_that_was_only_counted_is_never_sealed(tmp_path: Path) -> None:
    desk = Desk(write_campaign(tmp_path), sandbox=True)
    plan = outlook(desk)
    plan.draft.summary()
    with pytest.raises(ValueError, match="only counted"):
        send(desk, replace(plan))


def test_a_rehearsal_counts_whom_only_the_real_ledger_holds_back(tmp_path: Path) -> None:
    """Before it is sealed, and when the suppression came after that."""
    real = Desk(write_campaign(tmp_path))
    suppress(real, ["fra@missions.example.org"], reason="asked", source="by hand")
    desk = Desk(tmp_path, sandbox=True)
    assert (outlook(desk).count, outlook(desk).held_back) == (3, 1)
    assert send(desk, outlook(desk, limit=1)).exit_code == 0
    assert (outlook(desk).count, outlook(desk).held_back) == (2, 1)
    suppress(real, ["khm@missions.example.org"], reason="asked", source="by hand")
    found = outlook(desk)
    assert not merged(found)
    assert (found.count, found.held_back) == (1, 2)
    assert list(outlook(desk, only="True").picked()) == ["TUR"]


def test_a_letter_in_doubt_at_an_amendment_is_looked_at_each_time(tmp_path: Path) -> None:
    """It stays as it was sealed; what the folder shows of it is another letter."""
    with SmtpServer(Script(on={"DOT": [(STORE, CLOSE)]})) as lost:
        desk = Desk(write_campaign(tmp_path, relay=relay(lost), pace="connections = 1"))
        send(desk, outlook(desk, limit=1))
    assert not merged(outlook(desk))
    (tmp_path / "people.csv").write_text(PEOPLE.replace("nam@", "na@").replace("fra@", "france@"), encoding="utf-8")
    draft, summary, found, _ = changes(desk)
    assert (str(found.changed), str(found.unknown)) == ("NAM", "FRA")
    amend(desk, draft, summary)
    assert merged(outlook(desk))


def test_problems_without_end_are_listed_to_the_thousandth(tmp_path: Path) -> None:
    rows = "\n".join(f"K{n},nobody,N,en,C,g,true" for n in range(1500))
    desk = Desk(write_campaign(tmp_path, files={"people.csv": f"{PEOPLE.splitlines()[0]}\n{rows}\n"}), sandbox=True)
    with pytest.raises(UsageError) as caught:
        outlook(desk)
    assert len(caught.value.problems) == 1001
    assert caught.value.problems[-1].what == "and 500 more"


@needs_mount()
def test_a_plan_for_which_there_is_no_room(tmp_path: Path) -> None:
    """More than is kept in memory, and no room on the disk for temporary files: nothing is sealed, and it says why."""
    rows = (f"K{n},k{n}@a.example.org,Mission {n},en,{'no room ' * 4_000},g,true" for n in range(800))
    folder = write_campaign(tmp_path / "campaign", files={"people.csv": people(*rows)})
    with SmallDisk(tmp_path / "small", 1_000_000) as disk:
        env = {"SQLITE_TMPDIR": str(disk.folder)}  # SQLite reads it when it is loaded
        found = dispatcher("send", "--sandbox", folder=folder, env=env, anew=True)
    assert found.code == 4
    assert "cannot be kept on the disk" in found.err
    assert "SQLITE_TMPDIR" in found.err
    assert not (folder / ".dispatcher/sandbox/ledger.sqlite").exists()


def test_rows_that_nobody_reads_to_the_end_are_let_go_in_peace(tmp_path: Path) -> None:
    """Also after what they come from was closed; what goes wrong then is seen by the test run."""
    draft = Desk(write_campaign(tmp_path)).draft()
    draft.summary()
    keys = draft.unsealed.all_keys()
    assert next(keys) == "FRA"
    draft.unsealed.close()
    del keys
    gc.collect()
