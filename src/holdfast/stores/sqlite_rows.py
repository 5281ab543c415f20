"""Rows of a SQLite store: what they can hold, and how it is written in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from holdfast.errors import NotEncodable
from holdfast.store import Head

LARGEST = 1_000_000_000
"""Bytes in one event or blob."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

FAR = 0xFFFF_FFFF
"""The lower half of a key: no session gets this far."""
LAST = (1 << 63) - 1
"""The largest number a row can have."""


def head_row(row: tuple[str, int, int, int, int]) -> Head:
    """Where a session stands, from its row."""
    session_id, sequence, epoch, created, updated = row
    return Head(
        session_id=session_id,
        sequence=sequence,
        epoch=epoch,
        created_at=_BEGINNING + created * _MICROSECOND,
        updated_at=_BEGINNING + updated * _MICROSECOND,
    )


def microseconds(moment: datetime) -> int:
    """As a row has an instant: since 1970."""
    return (moment - _BEGINNING) // _MICROSECOND


def bounded(number: int) -> int:
    """The number, or the nearest that a row can have."""
    return min(max(number, 0), FAR)


def taking(session_id: str, numbers: Sequence[int]) -> list[tuple[str, int]]:
    """Letters to take; a number beyond what a row can have is the number of none."""
    return [(session_id, number) for number in numbers if 0 < number <= LAST]


def findable(name: str) -> str | None:
    """The name, or None (which SQL finds nowhere) when it is text that no row can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return name


def checked(body: bytes) -> bytes:
    """These bytes, if they fit into a row. Raises `NotEncodable`."""
    if len(body) > LARGEST:
        raise NotEncodable(
            f"{len(body):,} bytes are too many for one event or blob, {LARGEST:,} fit; split them"
        )
    return body
