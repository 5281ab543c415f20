"""Nothing of what is looked for is let through, however it is cut into pieces, and everything else is."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guard import Guard, Guards
from holdfast.turn.screen import Strainer

CASES: list[tuple[dict[str, Any], str]] = [
    ({"expressions": (r"\d{3}-\d{2}-\d{4}",)}, "123-45-6789"),
    ({"expressions": (r"(?i)\bsecret\b",)}, "SeCreT"),
    ({"expressions": (r"sk-[a-z0-9]{12,}",)}, "sk-abcdef012345abcdef"),
    ({"words": ("darn it",)}, "d\u0430rn   I\u200bT"),
    ({"words": ("坏蛋",)}, "坏.蛋"),
    ({"expressions": ("naïve🐟+",)}, "naïve🐟🐟"),
    ({"expressions": (r"key=\w+;",), "window": 64}, "key=abc;"),
]


def strain(guards: Guards, pieces: list[str]) -> tuple[str, bool]:
    """What is shown of these pieces, and whether something was found."""
    strainer = Strainer(guards)
    shown = "".join([strainer.feed(piece) for piece in pieces]) + strainer.end()
    return shown, strainer.found is not None


@pytest.mark.parametrize(("looks", "match"), CASES)
def test_no_split_in_two_or_single_characters_lets_any_of_a_match_through(
    looks: dict[str, Any], match: str
) -> None:
    guards = Guards((Guard(id="g", **looks),))
    before, after = "So the long story short, as I said. " * 3, " And on it goes, for a while. " * 3
    text = before + match + after
    splits = [[text[:place], text[place:]] for place in range(len(text) + 1)]
    for pieces in [*splits, list(text), [text]]:
        shown, found = strain(guards, pieces)
        assert found
        assert before.startswith(shown), "something of the match was shown"


@pytest.mark.parametrize(("looks", "match"), CASES)
@given(
    before=st.text("ab 1\u200bé坏🐟.-", max_size=120),
    after=st.text("ab 1\u200bé坏🐟.-", max_size=60),
    cuts=st.lists(st.integers(0, 300), max_size=20),
)
def test_however_it_is_cut_it_is_found_where_the_whole_text_has_it(
    looks: dict[str, Any], match: str, before: str, after: str, cuts: list[int]
) -> None:
    guard = Guard(id="g", **looks)
    guards = Guards((guard,))
    for text in (before + after, f"{before} {match} {after}", before + match + after, before + match):
        places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
        pieces = [text[a:b] for a, b in pairwise(places)]
        shown, found = strain(guards, pieces)
        hit = guard.sieve.find(text)
        assert found == (hit is not None)
        assert text.startswith(shown)
        if hit is None:
            assert shown == text
        else:
            assert len(shown) <= hit.start


def test_blanks_without_end_are_not_held_back_for_ever() -> None:
    guards = Guards((Guard(id="g", words=("bad",)),))
    strainer = Strainer(guards)
    shown = sum(len(strainer.feed(" " * 50)) for _ in range(2_000))
    assert 100_000 - shown < 20_000


def test_an_expression_without_a_longest_match_holds_everything_back() -> None:
    assert Guards((Guard(id="g", expressions=(r"a.*b",)),)).hold
    assert not Guards((Guard(id="g", expressions=(r"a.*b",), window=100),)).hold
