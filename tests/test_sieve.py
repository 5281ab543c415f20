"""What is looked for is found in disguise, and what only looks like it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.matching.sieve import Sieve, _folded, fold

WORDS = Sieve(words=["bad", "kill all", "坏蛋", "Ätz", "ass"])


@pytest.mark.parametrize(
    "text",
    [
        "bad",
        "so BAD!",
        "b a d",
        "b.a-d",
        "b  \n  a\t\td",
        "\uff42\uff41\uff44",
        "b\u200ba\u00add",
        "ba\u0301d",
        "b\u0430d",
        "\U0001d41b\U0001d41a\U0001d41d",
        "ⓑⓐⓓ",
        "_bad_",
        "KILL   ALL",
        "killall",
        "kill\nall",
        "他是坏蛋吗",
        "坏 蛋",
        "atz",
    ],
)
def test_trivial_tricks_do_not_hide_a_word(text: str) -> None:
    assert WORDS.find(text)


@pytest.mark.parametrize(
    "text", ["badge", "grab ad", "abad", "skill all", "killed all", "pass", "class a", "b-adder", ""]
)
def test_parts_of_other_words_are_not_found(text: str) -> None:
    assert WORDS.find(text) is None


def test_redaction_takes_out_each_match_and_nothing_else() -> None:
    sieve = Sieve([r"\d{3}-\d{2}"], ["bad"])
    assert sieve.redact("x 123-45, b a d bad BADGE 67-123-45.", "#") == (
        "x #, # # BADGE 67-#.",
        "expression 1",
    )
    assert sieve.redact("fine", "#") == ("fine", "")


def test_redaction_leaves_nothing_to_be_found() -> None:
    text, _ = WORDS.redact("Bad bad b.a.d 坏蛋坏蛋 kill all bad", "#")
    assert WORDS.find(text) is None
    assert text == "# # # ## # #"


def test_a_nested_quantifier_takes_linear_time() -> None:
    assert Sieve([r"(a+)+\d"]).find("a" * 1_000_000) is None


@pytest.mark.parametrize(
    "made",
    [
        {"expressions": ["a*"]},
        {"expressions": ["("]},
        {"expressions": [""]},
        {"expressions": ["(?=x)"]},
        {"expressions": ["a" * 2_000]},
        {"words": ["!!!"]},
        {"words": [""]},
        {"words": ["w"] * 10_001},
    ],
)
def test_what_can_find_nothing_or_everything_is_refused(made: dict[str, list[str]]) -> None:
    with pytest.raises(ConfigError):
        Sieve(**made)


@given(st.text())
def test_both_ways_of_folding_agree_and_know_where_each_character_comes_from(text: str) -> None:
    folded, places = _folded(text)
    assert folded == fold(text)
    assert len(places) >= len(folded)
    assert places == sorted(places)


@given(st.text(), st.lists(st.sampled_from(["bad", "b a\u0301 d", "KILL ALL", "12-3"]), max_size=4))
def test_whatever_is_redacted_is_not_found_again(text: str, put_in: list[str]) -> None:
    sieve = Sieve([r"\d\d-\d"], ["bad", "kill all"])
    clean, rule = sieve.redact(f" {text} ".join(put_in), "#")
    assert sieve.find(clean) is None
    assert bool(rule) == (sieve.find(f" {text} ".join(put_in)) is not None)
