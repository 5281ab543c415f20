"""The chain through a log: each event's row holds a digest of its bytes and of the chain up to the event before it.

Whoever reads events holds them against it, so that one that was changed, moved or brought in from elsewhere is noticed
at once, without reading the log from its beginning. There is no key in it: somebody who rewrites an event and all links
from there on is not noticed, unless one of those links was kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from holdfast.errors import StoreCorrupt
from holdfast.events import Event, decode_event

LENGTH = 16
"""Bytes of a digest that are kept."""


def beginning(name: str) -> bytes:
    """What the first event of a session follows: the session's id, as its row has it."""
    return sha256(name.encode()).digest()[:LENGTH]


def link(before: bytes, body: bytes) -> bytes:
    """The chain up to the event with these bytes; `before` is the chain up to the event that it follows."""
    return sha256(before + body).digest()[:LENGTH]


def links(before: bytes, bodies: Iterable[bytes]) -> list[bytes]:
    """The chain up to each of these events, which follow one another."""
    return [before := link(before, body) for body in bodies]


def verified(name: str, after: int, rows: Iterable[tuple[int, bytes, bytes]], place: str) -> list[Event]:
    """The events above `after` in these rows, which have sequence, chain and bytes, in order.

    Where `after` is not 0, its own row comes first; nobody looks at its bytes. Raises `StoreCorrupt` when an event
    cannot be read, is missing, or is not the one that was written there.
    """
    events: list[Event] = []
    before = b""
    for sequence, chain, body in rows:
        if sequence == after:
            before = chain
            continue
        event = decode_event(body or b"")  # a damaged row may hold none
        if sequence != after + len(events) + 1:
            raise _missing(name, after, place)
        if not before:
            if after:
                raise _missing(name, after - 1, place)
            before = beginning(name)
        if link(before, body) != chain:
            raise StoreCorrupt(f"event {sequence} of {name} in {place}: {MISFIT}")
        before = chain
        events.append(event)
    return events


MISFIT = "it is not what was written there, and does not fit into the chain of its log; restore a backup"


def _missing(name: str, after: int, place: str) -> StoreCorrupt:
    return StoreCorrupt(f"events of {name} after {after} are missing in {place}; restore a backup")
