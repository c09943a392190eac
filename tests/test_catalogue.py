"""The catalogue of letters, tried against lists that are looked through one by one."""

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.text import searchable
from dispatcher.desk.catalogue import FIELD, OUTLIERS, PLAN, STATE, Catalogue, Query, Reason

WORDS = st.sampled_from(["", "Genève", "GENEVA", "new york", "Côte d’Ivoire", "10", "9", "\u202e", "a b"])
STATES = ("accepted", "failed", "waiting")


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[Catalogue, dict[str, frozenset[int]]]:
    """Some letters, their numbers with gaps, and where they stand."""
    ids = sorted(draw(st.sets(st.integers(1, 60), max_size=25)))
    columns = {name: [draw(WORDS) for _ in ids] for name in ("key", "language", "channel", FIELD + "city")}
    found_by = [searchable("\n".join(column[at] for column in columns.values())) for at in range(len(ids))]
    reasons: dict[int, tuple[Reason, ...]] = {at: (Reason("script"),) for at in range(len(ids)) if draw(st.booleans())}
    stand = [draw(st.sampled_from(STATES)) for _ in ids]
    states = {state: frozenset(n for n, s in zip(ids, stand, strict=True) if s == state) for state in STATES}
    return Catalogue("", ids, [1] * len(ids), columns, reasons, found_by), states


QUERIES = st.builds(
    Query, WORDS, st.sampled_from(["", *STATES]), st.sampled_from(["key", FIELD + "city"]), WORDS,
    st.sampled_from([PLAN, OUTLIERS, STATE, "key", FIELD + "city", "no such column"]), st.booleans(),
)  # fmt: skip


def expected(catalogue: Catalogue, states: dict[str, frozenset[int]], query: Query) -> set[int]:
    """The numbers that a query finds."""
    found = set()
    for at, number in enumerate(catalogue.ids):
        row = [column[at] for column in catalogue.columns.values()]
        by_words = all(word in searchable("\n".join(row)) for word in searchable(query.words).split())
        by_value = searchable(query.value) in searchable(catalogue.columns[query.column][at])
        if by_words and by_value and (not query.state or number in states[query.state]):
            found.add(number)
    return found


@given(catalogues(), QUERIES, st.integers(1, 7))
def test_pages_there_and_back_hold_every_letter_that_is_found_once(
    made: tuple[Catalogue, dict[str, frozenset[int]]], query: Query, size: int
) -> None:
    catalogue, states = made
    matches = catalogue.matching(query, states)
    forward: list[int] = []
    while page := matches.after(forward[-1] if forward else None, size).numbers:
        forward += page
    assert set(forward) == expected(catalogue, states, query)
    assert len(set(forward)) == len(forward) == len(matches)
    assert [matches.position(number) for number in forward] == list(range(1, len(forward) + 1))
    backward: list[int] = []
    while forward and (page := matches.before(backward[0] if backward else forward[-1], size).numbers):
        backward = page + backward
    assert backward == forward[:-1]
    for number, before, behind in zip(forward, [None, *forward], [*forward[1:], None], strict=False):
        assert matches.neighbours(number) == (before, behind)


@given(catalogues(), QUERIES)
def test_a_letter_that_is_not_among_the_found_has_its_place_there(
    made: tuple[Catalogue, dict[str, frozenset[int]]], query: Query
) -> None:
    """One that was accepted meanwhile is no longer among the waiting: next to it go on those that are."""
    catalogue, states = made
    matches, every = (
        catalogue.matching(query, states),
        catalogue.matching(Query(order=query.order, down=query.down), states),
    )
    whole = every.after(None, 99).numbers
    found = set(matches.after(None, 99).numbers)
    for at, number in enumerate(whole):
        before, behind = matches.neighbours(number)
        assert before == next((n for n in reversed(whole[:at]) if n in found), None)
        assert behind == next((n for n in whole[at + 1 :] if n in found), None)


def test_numbers_are_in_the_order_of_numbers_and_words_in_that_of_words() -> None:
    columns = {"a": ["10", "9", "", "100"], "b": ["Ö", "o", "Z", "p"]}
    catalogue = Catalogue("", [1, 2, 3, 4], [1] * 4, columns, {}, [""] * 4)
    assert catalogue.matching(Query(order="a"), {}).after(None, 9).numbers == [3, 2, 1, 4]
    assert catalogue.matching(Query(order="b"), {}).after(None, 9).numbers == [1, 2, 4, 3]
