"""A letter beside the typical one: what is told apart, and that nothing of it is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.comparison import Change, Piece, compare, most_typical

TYPICAL = "Dear friends,\n\nwe send the report to Geneva.\n\nYour vote counts.\n\nAccept our regards.\n"


def test_a_value_and_a_paragraph_that_are_others() -> None:
    text = "Dear friends,\n\nwe send the report\nto Windhoek, Namibia.\n\nAccept our regards.\n"
    assert compare(TYPICAL, text) == [
        Piece(Change.SAME, "Dear friends,\n\nwe send the report\nto "),
        Piece(Change.MISSING, "Geneva. Your vote counts."),
        Piece(Change.ADDED, "Windhoek, Namibia."),
        Piece(Change.SAME, "\n\nAccept our regards.\n"),
    ]


def test_how_lines_are_wrapped_is_no_difference() -> None:
    text = TYPICAL.replace(" the ", "\nthe ")
    assert compare(TYPICAL, text) == [Piece(Change.SAME, text)]


def test_a_long_passage_is_not_matched_word_by_word() -> None:
    text = " ".join(f"word{n}" for n in range(5000))
    assert compare("other", text) == [Piece(Change.MISSING, "other"), Piece(Change.ADDED, text)]


WORDS = st.lists(st.sampled_from(["a", "b", "c ", "\n\n", "\n", " ", "Ünïcode", "\u202e"])).map(" ".join)


@given(WORDS, WORDS)
def test_no_word_of_either_text_is_lost(typical: str, text: str) -> None:
    pieces = compare(typical, text)
    assert "".join(p.text for p in pieces if p.change is not Change.MISSING) == text
    old = " ".join(p.text for p in pieces if p.change is not Change.ADDED).split()
    assert old == typical.split()


def test_the_typical_letter_says_what_most_say() -> None:
    texts = ["Dear A,\n\nwe write.", "Dear A,\n\nwe write.\n\nIn haste.", "Dear A,\n\nwe write.", "Hello"]
    assert most_typical(texts) == 0
    assert most_typical(["Hello", *texts[1:2]]) in (0, 1)
    with pytest.raises(ValueError, match="nothing"):
        most_typical([])
