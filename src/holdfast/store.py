"""The contract of a store: where logs, blobs, leases and snapshots sleep.

Every store passes the suite in `holdfast.testing.store_contract`.

A session has one writer at a time. Whoever claims it gets an *epoch*, above all before it, and appends under it; an
older epoch is refused, so a writer that slept too long can do no harm. A *lease* keeps others from claiming while the
writer is at work. It runs on a clock that no wall-clock change moves (the store's own), is renewed by every append and
by `renew`, and let go by an append that says so. The lease is a courtesy between writers; the epoch is the lock.
"""

from __future__ import annotations

import hashlib
from asyncio import Future
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

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


class Terms(Struct, frozen=True, kw_only=True, gc=False):
    """What an append says, in the same transaction, about its session's lease and about when something is owed."""

    owner: str = ""
    """Who writes: one name per process. Empty when nobody needs to know."""
    hold: float = 0.0
    """Seconds from now for which nobody else may claim the session; 0 lets go of it."""
    due: datetime | None = None
    """From when on the session has work that any worker may take up; None when only an input or an answer can go on."""


FREE = Terms()
"""Nobody holds the session, and nothing is owed."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """A state kept to save folding: never the truth, and worth nothing once its version is not ours."""

    sequence: int
    version: int
    body: bytes


class Problem(Struct, frozen=True, kw_only=True):
    """Something wrong that looking through a whole store found."""

    kind: Literal["damage", "gap", "event", "blob", "lease", "snapshot"]
    """What it is about: the file itself; events that are missing; one that cannot be read or is not where it
    belongs; a blob whose bytes changed; a lease that outlived its clock; a snapshot of what is not there."""
    where: str
    """A session, a session and the events in it (`session_…:4`, `session_…:4-9`), a blob's digest, or the file."""
    message: str


class Store(Protocol):
    """Logs, blobs, leases and snapshots. Methods raise `StoreError`."""

    async def open(self) -> None:
        """Make ready; create or migrate what is needed."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go. Closing twice is fine."""
        ...

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """Append events in one transaction; the future ends when they are durable, or with the reason they are not.

        `expected` is the sequence before the first event (0 creates the session, with epoch 1). Appends of one
        caller are carried out in the order of the calls, so several may be under way. A refused append
        (`SequenceConflict`, `StaleEpoch`) writes nothing. Raises `NotEncodable` before anything is accepted. Cancelling
        whoever awaits the future does not undo the append. `terms` replace the session's lease and due time; an append
        under the current epoch is never refused for a lease that ran out.
        """
        ...

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        """Events with a sequence above `after`, in order, at most `limit`. An unknown session has none."""
        ...

    async def head(self, session_id: str) -> Head | None:
        """Where this session stands; None when it does not exist."""
        ...

    async def claim(self, session_id: str, *, owner: str = "", hold: float = 0.0) -> int:
        """Become the writer: a new epoch, above all before it, held for `hold` seconds in the name of `owner`.

        Raises `UnknownSession`, and `SessionHeld` while another owner's lease runs. An owner may claim anew what it
        holds itself. `hold` must not be negative (`UsageError`).
        """
        ...

    async def renew(self, owner: str, hold: float) -> None:
        """Hold every session whose lease this owner has, and which has not run out, for `hold` seconds from now."""
        ...

    async def due(self, now: datetime, *, limit: int = 100) -> list[str]:
        """Sessions whose due time has come and which nobody holds, the longest due first."""
        ...

    async def woken(self, seconds: float) -> None:
        """Return when something may have been written by anybody, or after so many seconds. May return early."""
        ...

    async def save_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """Keep this snapshot in place of an older one; an unknown session or an older sequence is passed over."""
        ...

    async def load_snapshot(self, session_id: str) -> Snapshot | None:
        """The newest snapshot kept, if any."""
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
