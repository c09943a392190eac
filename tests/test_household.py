"""Households: several rows of one mission, one letter; every row accounted for, whatever the order of the list."""

import random
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dispatcher.core.errors import Place, Problem
from dispatcher.core.household import LARGEST, conflicts, united
from dispatcher.core.merge import Merged, OnPaper
from dispatcher.core.model import Channel, Mailbox, Recipient, Skip, SkipReason
from dispatcher.core.plan import Planner, Row, Summary
from dispatcher.desk import Desk
from dispatcher.desk.checking import check_folder
from dispatcher.desk.draft import Draft
from dispatcher.ledgers.unsealed import Unsealed
from tests.campaigns import ENGLISH, FRENCH, LETTER, RECIPIENTS, SENDER, settings, write_campaign
from tests.command import REPOSITORY, dispatcher

GROUPED: Final = RECIPIENTS + 'group_by = "mission"'
HEAD: Final = "mission,email,name,copy,language,city,member"
MISSIONS: Final = (
    "FRA,head@fra.example,Head of mission,,fr,Genève,true",
    "NAM,office@nam.example,,,en,Geneva,",
    "FRA,deputy@fra.example,Deputy,cc,,,",
    ",alone@press.example,Press,,en,Bern,",
    "FRA,registry@fra.example,Registry,cc,,,",
    "NAM,Counsellor <c@nam.example>,,,,,true",
)


def households(folder: Path, *rows: str, head: str = HEAD, top: str = "", letter: str = LETTER, **files: str) -> Path:
    lines = {"people.csv": "\n".join([head, *rows]) + "\n", **files}
    return write_campaign(folder, files=lines, recipients=GROUPED, top=top, letter=letter)


def read(folder: Path) -> tuple[dict[str, Merged], list[Skip], list[Problem], str]:
    draft = Draft(folder)
    items = list(draft.items())
    letters = {item.letter.key: item for item in items if isinstance(item, Merged)}
    skips = [item for item in items if isinstance(item, Skip)]
    problems = [item for item in items if isinstance(item, Problem)]
    return letters, skips, problems, draft.unsealed.digest()


def addresses(mailboxes: tuple[Mailbox, ...]) -> list[str]:
    return [m.address for m in mailboxes]


def test_one_letter_for_a_mission(tmp_path: Path) -> None:
    """In the order of their first rows; the rows need not stand together. A row without a mission is alone."""
    letters, skips, problems, _ = read(households(tmp_path, *MISSIONS))
    assert (list(letters), skips, problems) == (["FRA", "NAM", "alone@press.example"], [], [])
    france, namibia = letters["FRA"].letter.recipient, letters["NAM"].letter.recipient
    assert addresses(france.to) == ["head@fra.example"]
    assert addresses(france.cc) == ["deputy@fra.example", "registry@fra.example"]
    assert [m.name for m in france.mailboxes] == ["Head of mission", "Deputy", "Registry"]
    assert addresses(namibia.to) == ["c@nam.example", "office@nam.example"]
    assert (france.rows, namibia.rows, letters["alone@press.example"].letter.recipient.rows) == (3, 2, 1)
    assert (france.place, namibia.place) == (Place("people.csv", 2), Place("people.csv", 3))
    assert letters["FRA"].envelope.forward_paths == ("head@fra.example", "deputy@fra.example", "registry@fra.example")
    assert letters["FRA"].rendering.language == "fr"
    assert "Your vote counts." in letters["NAM"].rendering.text, "an empty cell and a filled one are no conflict"
    fields = namibia.fields
    assert (fields["email"], fields["cc" if "cc" in fields else "copy"]) == ("c@nam.example, office@nam.example", "")


def test_without_group_by_each_row_is_a_letter(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path, files={"people.csv": "\n".join([HEAD, *MISSIONS]) + "\n"})
    assert len(read(folder)[0]) == len(MISSIONS)


def test_the_mission_is_the_key(tmp_path: Path) -> None:
    """Also of one that has one row today: a second one tomorrow must not make it another letter."""
    head = HEAD.replace("mission", "mission,key")
    letters, *_ = read(households(tmp_path, "FRA,17,a@fra.example,A,,fr,Paris,", head=head))
    assert list(letters) == ["FRA"]
    assert letters["FRA"].letter.recipient.fields["key"] == "FRA"


def test_sorting_the_list_anew_changes_no_letter(tmp_path: Path) -> None:
    *_, digest = read(households(tmp_path / "a", *MISSIONS))
    for seed in range(5):
        rows = list(MISSIONS)
        random.Random(seed).shuffle(rows)
        assert read(households(tmp_path / str(seed), *rows))[3] == digest


# -- where rows disagree ----------------------------------------------------------------------------------------------


def test_a_conflict_names_household_column_rows_and_values(tmp_path: Path) -> None:
    rows = ("FRA,a@fra.example,,,fr,Paris,", "NAM,n@nam.example,,,en,Geneva,", "FRA,b@fra.example,,,en,Lyon,")
    letters, _, problems, _ = read(households(tmp_path, *rows))
    assert list(letters) == ["NAM"]
    assert [p.what for p in problems] == [
        "the rows of household FRA differ in column language: 'fr' at people.csv:2, 'en' at people.csv:4",
        "the rows of household FRA differ in column city: 'Paris' at people.csv:2, 'Lyon' at people.csv:4",
    ]
    assert problems[0].where == Place("people.csv", 4, "column language", "FRA")
    assert 'on_conflict = "first"' in problems[0].todo


def test_the_first_row_that_says_something_wins_by_decision(tmp_path: Path) -> None:
    rows = ("FRA,a@fra.example,,,,,", "FRA,b@fra.example,,,fr,Paris,", "FRA,c@fra.example,,,en,Lyon,")
    letters, _, problems, _ = read(households(tmp_path, *rows, top='on_conflict = "first"'))
    assert problems == []
    said = next(note for note in check_folder(Desk(tmp_path)).notes if "household" in note)
    assert said.endswith("the first that says something is taken: FRA (language), FRA (city)"), "it is not silent"
    assert (letters["FRA"].rendering.language, "Paris" in letters["FRA"].rendering.text) == ("fr", True)


@pytest.mark.parametrize(
    ("column", "counts"), [("rank", True), ("gender", True), ("close", True), ("telephone", False), ("city", True)]
)
def test_what_no_letter_reads_may_differ(tmp_path: Path, column: str, counts: bool) -> None:
    """What a letter's tags name, and what decides on its words; a column for the office alone troubles nobody."""
    head = HEAD.replace("city", "city,telephone,rank,gender,close")
    places = {"rank": ("friend", "other"), "gender": ("f", "m")}
    first, second = places.get(column, ("x", "y"))
    at = head.split(",").index(column)

    def row(address: str, value: str) -> str:
        cells = ["FRA", address, *[""] * (head.count(",") - 1)]
        cells[at] = value
        return ",".join(cells)

    _, _, problems, _ = read(households(tmp_path, row("a@f.example", first), row("b@f.example", second), head=head))
    assert [f"column {column}" in p.what for p in problems] == ([True] if counts else [])


def test_a_name_that_the_letter_prints_must_be_one(tmp_path: Path) -> None:
    """Our letter's subject has {{ name }}: of two addressees, whose?"""
    _, _, (problem,), _ = read(households(tmp_path, "FRA,a@fra.example,A,,,,", "FRA,b@fra.example,B,,,,"))
    assert "differ in column name: 'A' at people.csv:2, 'B' at people.csv:3" in problem.what


def test_a_copy_has_a_name_and_rank_of_its_own_but_not_a_language(tmp_path: Path) -> None:
    head = HEAD + ",rank,gender"
    rows = ("FRA,a@fra.example,A,,fr,Paris,,friend,f", "FRA,b@fra.example,B,cc,fr,Lyon,,other,m")
    letters, _, problems, _ = read(households(tmp_path / "a", *rows, head=head))
    assert (list(letters), problems) == (["FRA"], [])
    rows = (rows[0], rows[1].replace(",fr,", ",en,"))
    _, _, (problem,), _ = read(households(tmp_path / "b", *rows, head=head))
    assert "differ in column language" in problem.what


def test_mail_and_paper_in_one_household_is_a_conflict() -> None:
    rows = [recipient(1, channel="mail"), recipient(2, channel="paper", copy="cc"), recipient(3, channel="")]
    ((column, problem),) = conflicts("FRA", rows, frozenset())
    assert column == "channel"
    assert "column channel: 'mail' at people.csv:1, 'paper' at people.csv:2" in problem.what


def recipient(line: int, **fields: str) -> Recipient:
    mailbox = Mailbox(f"p{line}@fra.example", "", f"p{line}@fra.example")
    language, channel = fields.get("language", ""), Channel(fields.get("channel", "").lower() or "mail")
    return Recipient("FRA", (mailbox,), (), language, fields, Place("people.csv", line), channel=channel)


def test_a_household_on_paper(tmp_path: Path) -> None:
    """Nobody of it needs an address; what one row says holds for those that say nothing, in capitals or not."""
    head = HEAD.replace("city", "channel,city")
    rows = ("FRA,,Mission,,fr,Paper,Paris,", "FRA,,,cc,,paper,,", "NAM,n@nam.example,,,en,,Bern,", "NAM,,M,,,PAPER,,")
    page = "templates/house/letter.typ"
    files = {page: (REPOSITORY / page).read_text(encoding="utf-8")}
    for name, letter in (("en", ENGLISH), ("fr", FRENCH)):
        files[f"letters/letter.{name}.md"] = letter.replace("+++\n", '+++\naddress = "The mission"\n', 1)
    items = list(Draft(households(tmp_path, *rows, head=head, **files)).items())
    assert all(isinstance(item, OnPaper) for item in items), items
    recipients = [item.letter.recipient for item in items if isinstance(item, OnPaper)]
    assert [(r.key, r.channel, r.rows) for r in recipients] == [("FRA", Channel.PAPER, 2), ("NAM", Channel.PAPER, 2)]
    assert addresses(recipients[1].mailboxes) == ["n@nam.example"]


def test_the_language_is_compared_as_a_tag() -> None:
    rows = [recipient(1, language="fr-CH"), recipient(2, language="fr-CH")]
    assert list(conflicts("FRA", rows, frozenset())) == []
    assert united("FRA", rows).language == "fr-CH"


# -- rows that do not belong to the letter ----------------------------------------------------------------------------


def test_one_mailbox_twice_in_a_household_is_one(tmp_path: Path) -> None:
    rows = ("FRA,a@fra.example,,,,,", "FRA,A@fra.example,,cc,,,", "FRA,b@fra.example,,cc,,,", "FRA,a@fra.example,,,,,")
    letters, skips, problems, _ = read(households(tmp_path, *rows))
    assert (skips, problems) == ([], [])
    assert addresses(letters["FRA"].letter.recipient.mailboxes)[1:] == ["b@fra.example"]
    assert letters["FRA"].letter.recipient.rows == 4


SHARED: Final = (
    "FRA,a@fra.example,,,,,",
    "FRA,registry@geneva.example,,cc,,,",
    "MCO,m@mco.example,,,,,",
    "MCO,registry@geneva.example,,cc,,,",
)


def test_a_mailbox_of_two_households_is_refused_until_decided(tmp_path: Path) -> None:
    letters, _, (problem,), _ = read(households(tmp_path, *SHARED))
    assert list(letters) == ["FRA"]
    assert "registry@geneva.example is also recipient FRA's, at people.csv:2" in problem.what
    assert problem.where == Place("people.csv", 5, recipient="MCO")


def test_by_decision_the_row_is_left_out_and_not_the_mission(tmp_path: Path) -> None:
    letters, skips, problems, _ = read(households(tmp_path, *SHARED, top='on_duplicate = "first"'))
    assert (list(letters), problems) == (["FRA", "MCO"], [])
    assert [(s.key, s.reason, s.place.line) for s in skips] == [("MCO", SkipReason.DUPLICATE, 5)]
    assert addresses(letters["MCO"].letter.recipient.mailboxes) == ["m@mco.example"]


def test_or_the_mailbox_gets_both_letters(tmp_path: Path) -> None:
    letters, skips, problems, _ = read(households(tmp_path, *SHARED, top='on_duplicate = "each"'))
    assert (list(letters), skips, problems) == (["FRA", "MCO"], [], [])
    assert addresses(letters["MCO"].letter.recipient.cc) == ["registry@geneva.example"]


def test_two_spellings_of_a_mission_are_noticed(tmp_path: Path) -> None:
    _, _, (problem,), _ = read(households(tmp_path, "FRA,a@fra.example,,,,,", "fra,b@fra.example,,,,,"))
    assert "key fra is key FRA at people.csv:2 but for capital and small letters" in problem.what


BAD: Final = ("FRA,a@fra.example,,,fr,Paris,", "FRA,nobody,,,,,", "FRA,c@fra.example,,,,,")


def test_a_bad_address_in_a_household(tmp_path: Path) -> None:
    letters, _, (problem,), _ = read(households(tmp_path / "a", *BAD))
    assert (list(letters), problem.where) == ([], Place("people.csv", 3, "column email", "FRA"))
    letters, skips, problems, _ = read(households(tmp_path / "b", *BAD, top='on_invalid = "skip"'))
    assert [(s.key, s.reason, s.place.line) for s in skips] == [("FRA", SkipReason.INVALID, 3)]
    assert (problems, letters["FRA"].letter.recipient.rows) == ([], 2)


@pytest.mark.parametrize("word", ["x", "yes", "bcc", "true"])
def test_what_copy_may_say(tmp_path: Path, word: str) -> None:
    row = f"FRA,a@fra.example,,{word},,,"
    _, _, (problem,), _ = read(households(tmp_path, row, "FRA,b@fra.example,,CC,,,", "FRA,c@fra.example,,to,,,"))
    assert (problem.where.column, "write cc for a copy" in problem.todo) == ("column copy", True)


def test_somebody_must_be_written_to(tmp_path: Path) -> None:
    rows = ("FRA,a@fra.example,,cc,,,", "FRA,b@fra.example,,cc,,,")
    letters, _, (problem,), _ = read(households(tmp_path / "a", *rows))
    assert "everybody of household FRA gets a copy" in problem.what
    assert (letters, problem.where) == ({}, Place("people.csv", 2, recipient="FRA"))
    letters, skips, problems, _ = read(households(tmp_path / "b", *rows, top='on_invalid = "skip"'))
    assert (letters, problems, [s.place.line for s in skips]) == ({}, [], [2, 3])


def test_what_is_wrong_with_the_letter_is_said_once(tmp_path: Path) -> None:
    letter = LETTER.replace("letters/report", "annexes/{key}")
    letters, _, (problem,), _ = read(households(tmp_path / "a", *MISSIONS[:1], *MISSIONS[2:3], letter=letter))
    assert "annexes/FRA.pdf does not exist" in problem.what
    assert problem.where.recipient == "FRA"
    rows = (*MISSIONS[:1], *MISSIONS[2:3])
    letters, skips, problems, _ = read(households(tmp_path / "b", *rows, letter=letter, top='on_invalid = "skip"'))
    assert (letters, problems, [s.place.line for s in skips]) == ({}, [], [2, 3])


def test_our_own_address_is_in_no_household(tmp_path: Path) -> None:
    own = SENDER.split('address = "')[1].split('"')[0]
    _, _, (problem,), _ = read(households(tmp_path, "FRA,a@fra.example,,,,,", f"FRA,{own},,cc,,,"))
    assert ("our own sender" in problem.what, problem.where.line) == (True, 3)


def test_a_household_is_no_mailing_list(tmp_path: Path) -> None:
    """A column with one value for all would put everybody into one To."""
    rows = (f"en,p{n}@a.example,,,,," for n in range(LARGEST + 1))
    letters, _, (problem,), _ = read(households(tmp_path / "a", *rows))
    assert (letters, "household en has 101 rows" in problem.what) == ({}, True)
    rows = (f"en,p{n}@a.example,,,,," for n in range(LARGEST))
    assert read(households(tmp_path / "b", *rows))[0]["en"].letter.recipient.rows == LARGEST


def test_where_is_asked_of_each_row_first(tmp_path: Path) -> None:
    lines = {"people.csv": "\n".join([HEAD, *MISSIONS]) + "\n"}
    folder = write_campaign(tmp_path, files=lines, recipients=GROUPED + "\nwhere = 'copy != \"cc\"'")
    letters, skips, _, _ = read(folder)
    assert addresses(letters["FRA"].letter.recipient.mailboxes) == ["head@fra.example"]
    assert [(s.reason, s.place.line) for s in skips] == [(SkipReason.FILTERED, 4), (SkipReason.FILTERED, 6)]


@pytest.mark.parametrize(
    ("head", "words"), [(HEAD.replace("mission", "Mission"), "'Mission'"), ("email,name", "email")]
)
def test_a_column_that_is_not_there(tmp_path: Path, head: str, words: str) -> None:
    _, _, (problem,), _ = read(households(tmp_path, head=head))
    line = settings(recipients=GROUPED).split("\n").index('group_by = "mission"') + 1
    assert (problem.what, words in problem.todo) == ("there is no column 'mission'", True)
    assert problem.where == Place("campaign.toml", line, "key recipients.0.group_by")


def test_a_column_nearly_called_copy(tmp_path: Path) -> None:
    """Only where it means something: in a list without households it is a field as any other."""
    head = HEAD.replace("copy", "Copy")
    _, _, (problem,), _ = read(households(tmp_path / "a", MISSIONS[0], head=head))
    assert problem.todo == "rename it to 'copy'"
    files = {"people.csv": f"{head}\n{MISSIONS[0]}\n"}
    assert read(write_campaign(tmp_path / "b", files=files))[2] == []


def test_a_list_that_cannot_be_read_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    """Its rows wait for their households when the error comes."""
    files: dict[str, str | bytes | None] = {
        "people.csv": f"{HEAD}\nFRA,a@fra.example,,,,,\nFRA,too,few\n",
        "more.csv": f"{HEAD}\nNAM,n@nam.example,,,en,,\n",
    }
    second = '\n[[recipients]]\nsource = "more.csv"\ngroup_by = "mission"'
    letters, _, problems, _ = read(write_campaign(tmp_path, files=files, recipients=GROUPED + second))
    assert (list(letters), [p.where.line for p in problems]) == (["NAM"], [3])


# -- all of it, by chance ---------------------------------------------------------------------------------------------

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["", "A", "B", "C", "a"]),
        st.sampled_from([f"{name}@x.example" for name in "abcdef"] + ["bad", ""]),
        st.sampled_from(["", "", "cc", "what"]),
        st.sampled_from(["", "fr", "en"]),
        st.sampled_from(["", "X", "Y"]),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Draft]:
    tops = {"strict": "", "lenient": 'on_duplicate = "first"\non_invalid = "skip"\non_conflict = "first"'}
    root = tmp_path_factory.mktemp("households")
    return {name: Draft(households(root / name, top=top)) for name, top in tops.items()}


Cells = tuple[str, str, str, str, str]


def planned(draft: Draft, rows: list[Cells]) -> tuple[Summary, list[Skip], Unsealed, Counter[str]]:
    columns = ("mission", "email", "copy", "language", "city", "name", "member")
    given_rows: list[Row] = [
        (Place("people.csv", n), dict(zip(columns, (*cells, "", ""), strict=True))) for n, cells in enumerate(rows, 2)
    ]
    register = Unsealed()
    planner = Planner(draft.campaign, draft.merge, draft._find, draft._folder.place, register)
    summary, skips, met = Summary(), [], Counter[str]()
    for item in planner.items([(draft.campaign.recipients[0], columns, iter(given_rows))]):
        summary.add(item)
        if isinstance(item, Skip):
            skips.append(item)
        elif isinstance(item, Merged):
            met.update(m.identity for m in item.letter.recipient.mailboxes)
    return summary, skips, register, met


@hypothesis_settings(max_examples=150, deadline=None)
@given(rows=ROWS)
def test_every_row_is_a_letters_or_a_skip_with_its_reason(drafts: dict[str, Draft], rows: list[Cells]) -> None:
    """And no mailbox is in two letters."""
    summary, skips, _, met = planned(drafts["lenient"], rows)
    assert summary.problems == []
    assert summary.rows + len(skips) == len(rows)
    assert all(skip.detail and skip.place.line for skip in skips)
    assert len({skip.place.line for skip in skips}) == len(skips)
    assert max(met.values(), default=1) == 1


@hypothesis_settings(max_examples=150, deadline=None)
@given(rows=ROWS, chance=st.randoms(use_true_random=False))
def test_a_plan_without_problems_is_the_same_in_any_order(
    drafts: dict[str, Draft], rows: list[Cells], chance: random.Random
) -> None:
    summary, skips, register, _ = planned(drafts["strict"], rows)
    chance.shuffle(rows)
    again, _, other, _ = planned(drafts["strict"], rows)
    assert bool(summary.problems) == bool(again.problems)
    if not summary.problems:
        assert (summary.letters, summary.rows, skips) == (again.letters, again.rows, [])
        assert register.digest() == other.digest()


def test_rows_that_wait_are_not_kept_in_memory(tmp_path: Path) -> None:
    """Though the two rows of each household stand far apart."""
    count = 12_000
    register = Unsealed()
    tracemalloc.start()
    try:
        for n in range(count):
            register.set_aside(f"H{n % (count // 2)}", Place("people.csv", n), {"email": "x" * 400})
        peak = 0
        seen = 0
        for name, rows, number in register.households(LARGEST):
            assert (number, [p.line for p, _ in rows]) == (2, [int(name[1:]), int(name[1:]) + count // 2])
            seen += number
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == count
    assert peak < 500_000, "the cells alone would be 5 MB"


# -- as people meet them ----------------------------------------------------------------------------------------------


def test_a_household_on_the_command_line(tmp_path: Path) -> None:
    folder = households(tmp_path, *MISSIONS)
    done = dispatcher("check", folder=folder)
    assert done.code == 0, done
    assert "3 letters for 6 rows, the largest" in done.out
    assert dispatcher("check", "--json", folder=folder).json["rows"] == 6
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    story = dispatcher("log", "FRA", "--sandbox", folder=folder).out
    assert all(name in story for name in ("head@fra.example", "deputy@fra.example", "registry@fra.example"))
    (octets,) = (
        path.read_bytes()
        for path in (folder / ".dispatcher" / "sandbox" / "mail").glob("*.eml")
        if b"To: Head of mission" in path.read_bytes()
    )
    assert b"\r\nCc: Deputy <deputy@fra.example>" in octets


def test_a_second_row_does_not_make_a_second_letter(tmp_path: Path) -> None:
    """The mission is the key, also after its letter has left: who joins it later gets none in its name."""
    folder = households(tmp_path, *MISSIONS)
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    households(tmp_path, "FRA,aaa@fra.example,New,cc,,,", *MISSIONS, "MCO,m@mco.example,,,en,Monaco,")
    said = dispatcher("amend", "--sandbox", "--confirm", "1", folder=folder).out
    assert "1 new letter: MCO" in said
    assert "at another address than the list has now: FRA" in said
    assert dispatcher("send", "--sandbox", folder=folder).code == 0
    sent = [row["key"] for row in dispatcher("log", "--json", "--sandbox", folder=folder).json["rows"]]
    assert sorted(sent) == ["FRA", "MCO", "NAM", "alone@press.example"]


def test_one_suppressed_mailbox_holds_the_letter_of_its_household_back(tmp_path: Path) -> None:
    """As for any letter to several: the sealed one names them all. Taken out of the list, the others get theirs."""
    folder = households(tmp_path, *MISSIONS)
    assert dispatcher("suppress", "add", "deputy@fra.example", "--why", "asked", folder=folder).code == 0
    done = dispatcher("check", folder=folder)
    assert "1 skipped, suppressed:\n  FRA at people.csv:2: deputy@fra.example is suppressed: asked" in done.out
    households(tmp_path, *(row for row in MISSIONS if "deputy" not in row))
    assert "suppressed" not in dispatcher("check", folder=folder).out
