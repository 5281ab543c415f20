"""Words for a terminal."""

import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli.text import between, clean, count, dollars, duration, one_line, size_of


@given(st.text(st.characters(categories=["Cc", "Cf", "L", "Zs"])), st.integers(2, 100))
def test_a_line_is_never_too_long_and_never_controls_the_terminal(text: str, width: int) -> None:
    line = one_line(text, width)
    assert len(line) <= width
    assert not any(unicodedata.category(character) == "Cc" for character in line)


@given(st.text())
def test_cleaning_keeps_the_length_and_all_harmless_text(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert clean(cleaned) == cleaned
    assert all(a == b for a, b in zip(text, cleaned, strict=True) if a.isalnum() or a in " \n\t")


def test_control_characters_are_shown_as_what_they_are() -> None:
    assert clean("\x1b[31m\x07\x7f\u202e") == "␛[31m␇\ufffd\ufffd"


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (59_900, "59.9 s"), (125_000, "2 m 05 s")],
)
def test_durations_are_short(milliseconds: int, words: str) -> None:
    assert duration(milliseconds) == words
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert between(start, start + timedelta(milliseconds=milliseconds)) == words


def test_counts_agree_with_their_noun() -> None:
    assert [count(n, "reply", "replies") for n in (0, 1, 1_200)] == ["0 replies", "1 reply", "1,200 replies"]
    assert (size_of("one\n"), size_of("one\ntwo")) == ("", "2 lines")


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (None, ""),
        (Decimal(0), ""),
        (Decimal("0.0000420"), "$0.000042"),
        (Decimal("0.0159"), "$0.016"),
        (Decimal("0.5"), "$0.50"),
        (Decimal("1234.567"), "$1,234.57"),
    ],
)
def test_costs_are_short_and_never_nothing_when_something_was_spent(cost: Decimal | None, words: str) -> None:
    assert dollars(cost) == words
