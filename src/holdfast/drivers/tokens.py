"""Counts of tokens, as servers write them."""

from __future__ import annotations

from msgspec import Struct

Count = int | float | None
"""A number that some write as a fraction, and some leave out."""


class InputDetails(Struct, gc=False):
    """Where the input's tokens came from, as both of OpenAI's protocols say it."""

    cached_tokens: Count = None
    cache_write_tokens: Count = None


class OutputDetails(Struct, gc=False):
    """What the output's tokens were spent on, as both of OpenAI's protocols say it."""

    reasoning_tokens: Count = None


_MOST = 2**53
"""Anything beyond is no count; it would not fit into JSON, or into a sum."""


def tokens(count: Count) -> int:
    """The count as a number that can be paid for: never negative, however the server counts."""
    return int(min(max(count or 0, 0), _MOST))
