"""The contract of a store: where logs and blobs sleep.

Nine methods. Every store passes the suite in `holdfast.testing.store_contract`.
"""

from __future__ import annotations

import hashlib
from asyncio import Future
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from holdfast.events import Event


class Head(Struct, frozen=True, kw_only=True):
    """Where a session's log stands."""

    session_id: str
    sequence: int
    """The last event's number."""
    epoch: int
    """Of the writer that may append. An older writer is refused."""
    created_at: datetime
    updated_at: datetime


class Store(Protocol):
    """Logs and blobs. Methods raise `StoreError`."""

    async def open(self) -> None:
        """Make ready; create or migrate what is needed."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go. Closing twice is fine."""
        ...

    def append(self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int) -> Future[None]:
        """Append events in one transaction; the future ends when they are durable, or with the reason they are not.

        `expected` is the sequence before the first event (0 creates the session, with epoch 1). Appends of one
        caller are carried out in the order of the calls, so several may be under way. A refused append
        (`SequenceConflict`, `StaleEpoch`) writes nothing. Raises `NotEncodable` before anything is accepted. Cancelling
        whoever awaits the future does not undo the append.
        """
        ...

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        """Events with a sequence above `after`, in order, at most `limit`. An unknown session has none."""
        ...

    async def head(self, session_id: str) -> Head | None:
        """Where this session stands; None when it does not exist."""
        ...

    async def claim(self, session_id: str) -> int:
        """Become the writer: a new epoch, above all before it. Raises `UnknownSession`."""
        ...

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """Sessions, the most recently written first."""
        ...

    async def put_blob(self, data: bytes) -> str:
        """Keep these bytes and return their digest once they are durable. The same bytes are kept once."""
        ...

    async def get_blob(self, digest: str) -> bytes:
        """The bytes with this digest. Raises `UnknownBlob`, or `StoreCorrupt` when they do not match it."""
        ...


def digest_of(data: bytes) -> str:
    """The name of a blob: `sha256:` and the hex digest of its bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
