"""Identifiers: their shape, their order, and what is not one."""

import re

import pytest

from holdfast.errors import UsageError
from holdfast.ids import call_id, check_id, new_id

GOOD = "session_" + "0a" * 16


def test_an_id_is_its_prefix_and_32_hex_digits() -> None:
    assert re.fullmatch(r"turn_[0-9a-f]{32}", new_id("turn"))


def test_ids_never_repeat_and_sort_by_creation() -> None:
    made = [new_id("event") for _ in range(10_000)]
    assert made == sorted(set(made))


def test_an_id_carries_the_version_and_the_time_of_a_uuid7() -> None:
    digits = new_id("message").removeprefix("message_")
    assert digits[12] == "7"
    assert int(digits[:12], 16) > 1_700_000_000_000  # milliseconds


def test_a_well_formed_id_comes_back_as_it_was() -> None:
    assert check_id("session", GOOD) == GOOD


HEX = "0a" * 16
ARABIC_DIGITS = "\u0660" * 32


@pytest.mark.parametrize(
    "text",
    [
        *("", "session", "session_", GOOD + "0", GOOD[:-1], GOOD.upper(), GOOD + "\n", " " + GOOD),
        *(f"turn_{HEX}", f"session__{HEX}", f"session_{HEX[:-1]}g", f"session_{ARABIC_DIGITS}"),
    ],
)
def test_anything_else_is_refused_with_the_shape_it_should_have(text: str) -> None:
    with pytest.raises(UsageError, match="is not a session id; one looks like session_ and 32 hex digits"):
        check_id("session", text)


def test_a_call_is_named_by_its_place_and_by_nothing_else() -> None:
    turn = new_id("turn")
    assert call_id(turn, 3, 0) == f"call_{turn.removeprefix('turn_')}_3_0"
    places = {call_id(it, n, i) for it in (turn, new_id("turn")) for n in range(12) for i in range(12)}
    assert len(places) == 2 * 12 * 12


def test_what_is_no_text_is_no_id() -> None:
    with pytest.raises(UsageError, match="None is not a session id"):
        check_id("session", None)
