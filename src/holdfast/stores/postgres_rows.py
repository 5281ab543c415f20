"""Rows of a Postgres store: what they can hold, and how it is written in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.errors import NotEncodable
from holdfast.store import Head

LARGEST = 250_000_000
"""Bytes in one event or blob."""

LONGEST = 2_000
"""Bytes in the id of a session, which an index must hold."""

LONGEST_HOLD = 366 * 86_400.0
"""Seconds; whoever asks for more gets this."""

_ESCAPED = {"\\": "\\", "0": "\0"}
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
FARTHEST = (1 << 62) - 1


def head_row(row: Sequence[Any]) -> Head:
    key, sequence, epoch, created, updated = row
    return Head(
        session_id=plain_text(key),
        sequence=sequence,
        epoch=epoch,
        created_at=_BEGINNING + created * _MICROSECOND,
        updated_at=_BEGINNING + updated * _MICROSECOND,
    )


def microseconds(moment: datetime) -> int:
    return (moment - _BEGINNING) // _MICROSECOND


def seconds_held(hold: float) -> float | None:
    """As a row has them: None when nobody holds the session."""
    return min(hold, LONGEST_HOLD) or None


def bounded(number: int) -> int:
    return min(max(number, 0), FARTHEST)


def taking(numbers: Sequence[int]) -> list[int]:
    """Letters to take; a number beyond what a row can have is the number of none."""
    return [number for number in numbers if 0 < number <= FARTHEST]


def row_text(text: str) -> str:
    """As a row has it: Postgres has no NUL."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise NotEncodable(
                f"{text!r} is not valid text ({error.reason}); remove lone surrogates"
            ) from error
    return text if "\\" not in text and "\0" not in text else text.replace("\\", "\\\\").replace("\0", "\\0")


def plain_text(text: str) -> str:
    """What `row_text` was given."""
    return text if "\\" not in text else re.sub(r"\\(.)", lambda found: _ESCAPED[found[1]], text)


def key_of(session_id: str) -> str:
    key = row_text(session_id)
    if len(key.encode()) > LONGEST:
        raise NotEncodable(
            f"a session id of {len(key):,} characters is too long, {LONGEST:,} bytes fit; choose another"
        )
    return key


def findable(name: str) -> str | None:
    """The name as a row has it, or None (which SQL finds nowhere) when it is text that no row can hold."""
    try:
        return row_text(name)
    except NotEncodable:
        return None


def as_it_is(text: str) -> str | None:
    """The text, or None when no row can hold it: the names of accounts, and their keys, are not written otherwise."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return None if "\0" in text else text


def checked(body: bytes) -> bytes:
    if len(body) > LARGEST:
        raise NotEncodable(
            f"{len(body):,} bytes are too many for one event or blob, {LARGEST:,} fit; split them"
        )
    return body
