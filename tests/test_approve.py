"""Four eyes: nothing leaves before enough people have approved exactly that; nothing else passes for an approval."""

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from dispatcher.core.approval import SKEW, Approval, PlanName
from dispatcher.core.errors import (
    CampaignError,
    DispatcherError,
    LedgerUnavailable,
    NotApproved,
    PlanConflict,
    SignatureError,
    UsageError,
)
from dispatcher.desk import Desk
from dispatcher.desk.approvals import approve, make, standing, take_in
from dispatcher.desk.clock import SystemClock
from dispatcher.desk.deciding import amend, changes
from dispatcher.desk.reading import status
from dispatcher.desk.sealed import sealed_summary
from dispatcher.desk.sending import outlook, seal_now, send
from dispatcher.desk.testing import send_tests
from tests.campaigns import PEOPLE, RELAY, write_campaign
from tests.keys import private_key
from tests.smtp_server import Script, SmtpServer


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer(Script()) as found:
        yield found


@pytest.fixture
def desk(tmp_path: Path, server: SmtpServer) -> Desk:
    return campaign(tmp_path / "campaign", server)


@pytest.fixture
def sealed(desk: Desk) -> PlanName:
    return seal(desk)


@pytest.fixture
def ada(tmp_path: Path) -> Path:
    return private_key(tmp_path / "ada")


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    return private_key(tmp_path / "bob")


def campaign(folder: Path, server: SmtpServer, top: str = "approvals = 2\n", **more: Any) -> Desk:
    return Desk(write_campaign(folder, relay=RELAY.replace("2525", str(server.port)), top=top, **more))


def seal(desk: Desk) -> PlanName:
    seal_now(desk, outlook(desk))
    plan = standing(desk, desk.campaign()).plan
    assert plan is not None
    return plan


def counted(desk: Desk) -> int:
    return standing(desk, desk.campaign()).counted


def why_not(desk: Desk) -> list[str]:
    return [judged.why_not for judged in standing(desk, desk.campaign()).approvals]


def change_letter(desk: Desk) -> None:
    path = desk.root / "letters" / "letter.en.md"
    path.write_text(path.read_text(encoding="utf-8").replace("we send", "we now send"), encoding="utf-8")


def take_over(desk: Desk) -> None:
    draft, summary, _, _ = changes(desk)
    amend(desk, draft, summary)


# Nothing leaves before.


def test_nothing_leaves_before_two_people_have_approved(desk: Desk, server: SmtpServer, ada: Path) -> None:
    for found in (
        "nothing is sealed yet",
        "0 of 2 approvals; 2 more are wanted",
        "1 of 2 approvals: Ada; 1 more is wanted",
    ):
        with pytest.raises(NotApproved, match=found) as refused:
            send(desk, outlook(desk))
        assert refused.value.exit_code == 5
        if found.startswith("nothing"):
            assert not desk.ledger_path.exists()
            seal(desk)
        elif found.startswith("0"):
            approve(desk, by="Ada", key=ada)
    assert not server.commands
    approve(desk, by="Bob")
    assert send(desk, outlook(desk)).exit_code == 0
    assert len(server.stored) == 4


def test_a_run_is_taken_up_again_without_new_approvals(desk: Desk, sealed: PlanName, server: SmtpServer) -> None:
    for name in ("Ada", "Bob"):
        approve(desk, by=name)
    send(desk, outlook(desk, limit=1))
    assert send(desk, outlook(desk)).exit_code == 0
    assert len(server.stored) == 4


def test_without_approvals_all_is_as_before(tmp_path: Path, server: SmtpServer) -> None:
    """And what `seal` sealed is what `send` would have."""
    desk, other = campaign(tmp_path / "a", server, ""), campaign(tmp_path / "b", server, "")
    plan = seal(desk)
    assert outlook(desk).sealed
    for each in (desk, other):
        assert send(each, outlook(each)).exit_code == 0
    assert standing(other, other.campaign()).plan == plan
    assert len(server.stored) == 8


def test_sealing_again_changes_nothing(desk: Desk, sealed: PlanName) -> None:
    before = desk.ledger_path.read_bytes()
    assert seal(desk) == sealed
    assert desk.ledger_path.read_bytes() == before


def test_nothing_is_sealed_without_a_letter(tmp_path: Path, server: SmtpServer) -> None:
    desk = campaign(tmp_path, server, files={"people.csv": PEOPLE.splitlines()[0] + "\n"})
    with pytest.raises(UsageError, match="there is no letter to seal"):
        seal(desk)
    assert not desk.ledger_path.exists()


def test_a_rehearsal_and_a_test_need_no_approval(desk: Desk, server: SmtpServer) -> None:
    rehearsal = Desk(desk.root, sandbox=True)
    assert send(rehearsal, outlook(rehearsal)).exit_code == 0
    assert [row["outcome"] for row in send_tests(desk, "me@example.org", only=None, limit=None)] == ["accepted"] * 2
    assert len(server.stored) == 2


# Any change voids.


def test_an_amended_plan_is_another(desk: Desk, sealed: PlanName, server: SmtpServer) -> None:
    """Also if it leads back to the same letters."""
    for name in ("Ada", "Bob"):
        approve(desk, by=name)
    letter = desk.root / "letters" / "letter.en.md"
    before = letter.read_text(encoding="utf-8")
    change_letter(desk)
    with pytest.raises(PlanConflict, match="the folder is not what was sealed"):
        approve(desk, by="Cleo")
    take_over(desk)
    with pytest.raises(NotApproved, match="0 of 2 approvals"):
        send(desk, outlook(desk))
    letter.write_text(before, encoding="utf-8")
    take_over(desk)
    now = standing(desk, desk.campaign()).plan
    assert now == PlanName(sealed.campaign, 3, sealed.digest)
    with pytest.raises(NotApproved, match="0 of 2 approvals"):
        send(desk, outlook(desk))
    assert not server.commands


def test_another_plan_than_the_one_that_was_seen_is_not_approved(desk: Desk, sealed: PlanName) -> None:
    for other in (replace(sealed, digest="a" * 64), replace(sealed, revision=2), replace(sealed, campaign="other")):
        with pytest.raises(PlanConflict, match="what would leave is"):
            approve(desk, by="Ada", plan=other)
    assert counted(desk) == 0
    assert approve(desk, by="Ada", plan=sealed).counted == 1


def test_nothing_is_approved_before_it_is_sealed(desk: Desk) -> None:
    with pytest.raises(PlanConflict, match="nothing is sealed yet"):
        approve(desk, by="Ada")
    assert not desk.ledger_path.exists()


# Who counts.


def test_nobody_approves_twice(desk: Desk, sealed: PlanName, ada: Path) -> None:
    approve(desk, by="Ada Pomme", key=ada)
    for name, key in (("Ada Pomme", ada), ("ada  pomme", None), ("Somebody else", ada)):
        with pytest.raises(UsageError, match="this person has approved already"):
            approve(desk, by=name, key=key)
    assert counted(desk) == 1


def test_only_approvers_count(tmp_path: Path, server: SmtpServer, ada: Path, bob: Path) -> None:
    lines = [key.with_suffix(".pub").read_text(encoding="utf-8").split() for key in (ada, bob)]
    keys = [f"{kind} {blob} {name}" for (kind, blob, _), name in zip(lines, ("Ada", "Bob"), strict=True)]
    desk = campaign(tmp_path / "c", server, f"approvals = 2\napprovers = {json.dumps(keys)}\n")
    seal(desk)
    for name, key, words in (
        ("Ada", None, "not signed"),
        ("Eve", private_key(tmp_path / "eve"), "not among the approvers"),
        ("Bob", ada, "that of Ada"),
    ):
        with pytest.raises(UsageError, match=words):
            approve(desk, by=name, key=key)
    for name, key in (("Ada", ada), ("Bob", bob)):
        approve(desk, by=name, key=key)
    assert send(desk, outlook(desk)).exit_code == 0


def test_who_is_named_later_may_approve_again_with_a_key(desk: Desk, sealed: PlanName, ada: Path, bob: Path) -> None:
    """What was only typed counts no more, and takes nobody's place."""
    approve(desk, by="Ada")
    approve(desk, by="Bob", key=bob)
    keys = [key.with_suffix(".pub").read_text(encoding="utf-8").rpartition(" ")[0] for key in (ada, bob)]
    toml = desk.root / "campaign.toml"
    toml.write_text(f"approvers = {json.dumps(keys)}\n" + toml.read_text(encoding="utf-8"), encoding="utf-8")
    assert why_not(desk) == ["it is not signed, and campaign.toml names the keys of those who may approve", ""]
    with pytest.raises(NotApproved, match="Ada's does not count: it is not signed"):
        send(desk, outlook(desk))
    approve(desk, by="Ada", key=ada)
    assert send(desk, outlook(desk)).exit_code == 0


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ("approvals = -1", "greater than or equal to 0"),
        ("approvals = 21", "less than or equal to 20"),
        ('approvals = "2"', "a whole number"),
        ('approvals = 1\napprovers = ["ssh-rsa AAAA Ada"]', "begins with ssh-ed25519"),
        ('approvals = 1\napprovers = ["ssh-ed25519 AAAA Ada"]', "not whole"),
        ("approvals = 1\napprovers = [1]", "as text, in quotes"),
        ('approvals = 1\napprovers = ["KEY Ada", "KEY Bob"]', "twice"),
        ('approvers = ["KEY Ada"]', "how many of them"),
        ('approvals = 2\napprovers = ["KEY Ada", "OTHER Ada"]', "keys of 1"),
    ],
)
def test_what_cannot_be_met_is_said(
    tmp_path: Path, server: SmtpServer, ada: Path, bob: Path, top: str, words: str
) -> None:
    for name, key in (("KEY", ada), ("OTHER", bob)):
        top = top.replace(name, key.with_suffix(".pub").read_text(encoding="utf-8").rpartition(" ")[0])
    with pytest.raises(CampaignError, match=words) as refused:
        campaign(tmp_path / "c", server, f"{top}\n").campaign()
    assert "campaign.toml:" in str(refused.value)


# An approval that travels.


def exported(folder: Path, plan: PlanName, by: str, key: Path | None, at: timedelta = timedelta()) -> Path:
    class Other(SystemClock):
        def now(self) -> datetime:
            return super().now() + at

    file = folder / f"{by}.json"
    file.write_bytes(make(plan, Other(), by=by, key=key).to_file())
    return file


def test_an_approval_from_elsewhere_counts(desk: Desk, sealed: PlanName, ada: Path, bob: Path, tmp_path: Path) -> None:
    approve(desk, by="Ada", key=ada)
    approval, found = take_in(desk, exported(tmp_path, sealed, "Bob", bob))
    assert (approval.name, found.counted, found.missing) == ("Bob", 2, 0)
    assert send(desk, outlook(desk)).exit_code == 0


def test_what_is_not_taken_in(desk: Desk, sealed: PlanName, ada: Path, bob: Path, tmp_path: Path) -> None:
    """Each with its reason, and nothing is recorded."""
    good = exported(tmp_path, sealed, "Ada", ada)
    approve(desk, by="Ada", key=ada)
    forged = Approval.from_file(exported(tmp_path, sealed, "Bob", bob).read_bytes())
    mine = Approval.from_file(good.read_bytes())
    cases: list[tuple[str, bytes, type[DispatcherError], str]] = [
        ("twice", good.read_bytes(), UsageError, "has approved already"),
        ("one key", exported(tmp_path, sealed, "Cleo", ada).read_bytes(), UsageError, "has approved already"),
        ("renamed", replace(forged, name="Eve").to_file(), SignatureError, "not good"),
        ("borrowed", replace(forged, key=mine.key).to_file(), SignatureError, "another key than the one"),
        ("unsigned", make(sealed, desk.clock, by="Bob").to_file(), UsageError, "not signed"),
        ("nothing", b"", UsageError, "is no approval"),
        ("longer", good.read_bytes() + b"\n", UsageError, "something was changed"),
        ("endless", b"[" * 70_000, UsageError, "is no approval"),
    ]
    for other in (replace(sealed, digest="a" * 64), replace(sealed, revision=7), replace(sealed, campaign="spring")):
        octets = exported(tmp_path, other, "Bob", bob).read_bytes()
        cases.append((f"of {other.campaign} {other.revision}", octets, PlanConflict, "what is sealed here is"))
    for name, octets, error, words in cases:
        (tmp_path / name).write_bytes(octets)
        with pytest.raises(error, match=words):
            take_in(desk, tmp_path / name)
    with pytest.raises(UsageError, match="cannot be read"):
        take_in(desk, tmp_path / "nowhere")
    assert counted(desk) == 1


def test_one_flipped_bit_is_refused_wherever_it_is(desk: Desk, sealed: PlanName, bob: Path, tmp_path: Path) -> None:
    whole = exported(tmp_path, sealed, "Bob", bob).read_bytes()
    file, reasons = tmp_path / "flipped", set[str]()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(DispatcherError) as refused:
            take_in(desk, file)
        reasons.add(type(refused.value).__name__)
    assert counted(desk) == 0
    assert reasons == {"UsageError", "SignatureError"}
    assert take_in(desk, exported(tmp_path, sealed, "Bob", bob))[1].counted == 1


def test_clocks(desk: Desk, sealed: PlanName, bob: Path, tmp_path: Path) -> None:
    """A day's difference is a time zone; more is something else."""
    minute = timedelta(minutes=1)
    for at, words in ((-SKEW - minute, "was sealed later"), (SKEW + minute, "not come yet")):
        with pytest.raises(UsageError, match=words):
            take_in(desk, exported(tmp_path, sealed, "Bob", bob, at))
    take_in(desk, exported(tmp_path, sealed, "Bob", bob, SKEW - minute))
    take_in(desk, exported(tmp_path, sealed, "Cleo", private_key(tmp_path / "cleo"), minute - SKEW))
    assert counted(desk) == 2


def test_of_two_imports_at_once_one_is_recorded(desk: Desk, sealed: PlanName, bob: Path, tmp_path: Path) -> None:
    """The same person's; and two people's at once are two."""
    files = [exported(tmp_path, sealed, name, bob) for name in ("Bob", "Bo", "B", "Bobby")]

    def one(file: Path) -> str:
        try:
            take_in(Desk(desk.root), file)
        except UsageError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, [*files, *files]))
    assert found.count("") == 1
    assert all("has approved already" in text for text in found if text)
    others = [exported(tmp_path, sealed, name, private_key(tmp_path / name)) for name in ("Cleo", "Dan", "Eva")]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, others)) == ["", "", ""]
    assert counted(desk) == 4


def test_a_plan_that_is_amended_while_it_is_approved(desk: Desk, sealed: PlanName, bob: Path, tmp_path: Path) -> None:
    """The transaction looks again at what is sealed."""
    from dispatcher.ledgers import approvals  # noqa: PLC0415

    approval = make(sealed, desk.clock, by="Bob", key=bob)
    change_letter(desk)
    take_over(desk)
    with desk.ledger(hold=False) as ledger, pytest.raises(PlanConflict, match="nothing was recorded"):
        approvals.record(ledger, approval, lambda _: "", person="bob", who="x", how="x")
    assert counted(desk) == 0


# In the ledger.


def sql(desk: Desk, *statements: str) -> list[Any]:
    connection = sqlite3.connect(desk.ledger_path, isolation_level=None)
    try:
        return [connection.execute(each).fetchall() for each in statements][-1]
    finally:
        connection.close()


def test_an_approval_is_an_event_with_who_and_how(desk: Desk, sealed: PlanName, ada: Path) -> None:
    approve(desk, by="Ada", key=ada)
    event = status(desk)["decisions"][-1]
    assert (event["kind"], event["who"], event["subject"]) == ("approved", "Ada", "revision 1")
    assert event["why"].startswith(f"{sealed.digest}, signed with SHA256:")


def test_approvals_are_append_only(desk: Desk, sealed: PlanName) -> None:
    approve(desk, by="Ada")
    columns = (
        "campaign",
        "revision",
        "digest",
        "name",
        "person",
        "at",
        "key",
        "signature",
        "recorded_at",
        "recorded_by",
    )

    def copy(**other: str) -> str:
        values = ", ".join(other.get(name, name) for name in columns)
        return f"INSERT INTO approval ({', '.join(columns)}) SELECT {values} FROM approval"

    for statement, words in (
        ("UPDATE approval SET name = 'Eve'", "append-only"),
        ("DELETE FROM approval", "never deleted"),
        (copy(), "UNIQUE"),
        (copy(person="'eve'", digest="'ab'"), "of a sealed plan"),
        (copy(person="'eve'", revision="2"), "of a sealed plan"),
        (copy(person="'eve'", key="'k'"), "CHECK"),
    ):
        with pytest.raises(sqlite3.IntegrityError, match=words):
            sql(desk, statement)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("name", "'Eve'", "not good"),
        ("at", "'2026-01-01T00:00:00.000000+00:00'", "not good"),
        ("signature", "replace(signature, substr(signature, 200, 1), '+')", "the signature"),
        ("digest", f"'{'a' * 64}'", "of another plan"),
    ],
    ids=["the name", "the time", "the signature", "the digest"],
)
def test_a_signature_is_checked_again_before_anything_leaves(
    desk: Desk, sealed: PlanName, server: SmtpServer, ada: Path, bob: Path, column: str, value: str, words: str
) -> None:
    """Somebody wrote into the ledger, past its triggers."""
    approve(desk, by="Ada", key=ada)
    approve(desk, by="Bob", key=bob)
    sql(desk, "DROP TRIGGER approval_stays", f"UPDATE approval SET {column} = {value} WHERE name = 'Ada'")
    with pytest.raises(NotApproved, match=f"does not count: .*{words}"):
        send(desk, outlook(desk))
    assert not server.commands


def test_an_approval_that_cannot_be_read_stops_everything(desk: Desk, sealed: PlanName) -> None:
    approve(desk, by="Ada")
    sql(desk, "DROP TRIGGER approval_stays", "UPDATE approval SET at = 'yesterday'")
    with pytest.raises(LedgerUnavailable, match="the approval by 'Ada'"):
        send(desk, outlook(desk))


def test_no_part_of_a_private_key_is_kept(desk: Desk, sealed: PlanName, ada: Path) -> None:
    approve(desk, by="Ada", key=ada)
    loaded = load_ssh_private_key(ada.read_bytes(), None)
    assert isinstance(loaded, Ed25519PrivateKey)
    secret = loaded.private_bytes_raw()
    written = b"".join(path.read_bytes() for path in desk.ledger_path.parent.rglob("*") if path.is_file())
    shown = repr(status(desk)).encode() + repr(standing(desk, desk.campaign())).encode()
    for form in (secret, secret.hex().encode(), *ada.read_bytes().splitlines()[2:-1]):
        assert form not in written + shown


def test_the_summary_says_what_is_sealed(desk: Desk, sealed: PlanName) -> None:
    found = sealed_summary(desk)
    assert (found["plan"], found["letters"], found["languages"]) == (str(sealed), 4, {"en": 3, "fr": 1})
    assert found["approvals"]["missing"] == 2
    change_letter(desk)
    assert sealed_summary(desk) == found, "it is what is sealed, not what is in the folder"
