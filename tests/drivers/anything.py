"""Whatever a server may send: how it is made, and what holds of whoever reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from hypothesis import strategies as st

from holdfast.driver import DeltaKind, Reply
from holdfast.errors import DriverError

Told = list[tuple[DeltaKind, str, int]]
"""What a reader was told while the reply came in."""

TEXTS = st.none() | st.text(max_size=5)


class Reader(Protocol):
    """Puts a reply together."""

    def feed(self, data: bytes) -> None: ...

    def whole(self, body: bytes, media_type: str) -> None: ...

    def reply(self) -> Reply: ...


def json_of(words: Sequence[str]) -> st.SearchStrategy[Any]:
    """Any JSON, which mostly has these words where words stand."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.sampled_from(words),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(words), inner, max_size=5)
        ),
        max_leaves=12,
    )


def typed(**fields: Any) -> Any:
    """An object with some of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def check_stream(reader: Reader, told: Told, chunks: Sequence[Any]) -> None:
    """These chunks are a reply that can be stored, of which everything was told; or they are refused."""
    try:
        for event in chunks:
            reader.feed(json.dumps(event).encode())
        reply = reader.reply()
    except DriverError:
        return
    assert msgspec.json.decode(msgspec.json.encode(reply), type=Reply) == reply
    assert "".join(piece for kind, piece, _ in told if kind == "text") == reply.message.text
    assert all(piece for _, piece, _ in told)


def check_body(reader: Reader, body: bytes) -> None:
    """This body is a reply, or it is refused."""
    with suppress(DriverError):
        reader.whole(body, "application/json")
        reader.reply()
