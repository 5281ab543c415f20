"""How much of a text tells that an expression matches: never less than it takes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.matching.widths import widest


@pytest.mark.parametrize(
    ("expression", "width"),
    [
        (r"\d{3}-\d{2}-\d{4}", 11),
        (r"sk-[A-Za-z0-9]{20,}", 23),
        (r"\bfoo\b", 3),
        (r"(?i)(?:a|bcd)+", 3),
        (r"(?P<name>x|yy){2,3}z?", 6),
        (r"\Qa.b\E", 3),
        (r"[[:alpha:]\]]x", 2),
        (r"\p{Greek}\x{10FFFF}", 2),
        (r"a{,3}", 5),
        (r"\bsk-\w{20,}\b", None),
        (r"\w+@example", None),
        (r"a.*b", None),
    ],
)
def test_an_expression_has_a_longest_match_or_none(expression: str, width: int | None) -> None:
    assert widest(expression) == width


ATOMS = st.sampled_from(["a", "[bc]", ".", r"\d", "(?:ab|c)", r"\."])
PARTS = st.tuples(ATOMS, st.sampled_from(["", "?", "{2}", "{1,3}"])).map("".join)
EXPRESSIONS = st.lists(PARTS, min_size=1, max_size=4).map("".join)


@given(EXPRESSIONS, EXPRESSIONS, st.text("abcd.1", max_size=40))
def test_so_many_characters_tell_that_there_is_a_match(one: str, other: str, text: str) -> None:
    expression = re.compile(f"{one}|{other}")
    width = widest(expression.pattern)
    assert width is not None
    for found in expression.finditer(text):
        assert expression.match(text, found.start(), found.start() + width)
