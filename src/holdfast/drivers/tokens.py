"""Counts of tokens, as servers write them."""

from __future__ import annotations

Count = int | float | None
"""A number that some write as a fraction, and some leave out."""

_MOST = 2**53
"""Anything beyond is no count; it would not fit into JSON, or into a sum."""


def tokens(count: Count) -> int:
    """The count as a number that can be paid for: never negative, however the server counts."""
    return int(min(max(count or 0, 0), _MOST))
