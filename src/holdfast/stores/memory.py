"""The store that keeps everything in this process, for as long as it lives."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Sequence
from datetime import datetime

import msgspec

from holdfast.errors import UnknownBlob, UnknownSession
from holdfast.events import Event, encode_event
from holdfast.store import Head, digest_of
from holdfast.stores.accept import FIRST_EPOCH, check_events, closed, refusal


class MemoryStore:
    """Logs and blobs in memory: `Store` for tests and for sessions nobody needs tomorrow.

    It keeps the very `Event` objects it is given, and an append is over when the call returns. It still encodes
    every event once, into a scratch buffer (0.35 µs an event), so that what another store could not write is
    refused here too. Closing keeps the content; opening the same object again finds it.
    """

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._blobs: dict[str, bytes] = {}
        self._done: Future[None] | None = None
        self._encoder = msgspec.json.Encoder()
        self._scratch = bytearray()

    async def open(self) -> None:
        """Make ready. Opening an open store is fine."""
        self._done = asyncio.get_running_loop().create_future()
        self._done.set_result(None)

    async def close(self) -> None:
        """Take no more. The content stays with this object."""
        self._done = None

    def append(self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int) -> Future[None]:
        """See `Store.append`. The future has already ended; appends that went well all share one."""
        done = self._ready()
        check_events(session_id, events, expected)
        self._check_encodable(events)
        log = self._logs.get(session_id)
        if log is None:
            if expected or epoch != FIRST_EPOCH:
                return _refused(done, session_id, _Log(), expected, epoch)
            log = self._logs[session_id] = _Log()
        elif log.epoch != epoch or len(log.events) != expected:
            return _refused(done, session_id, log, expected, epoch)
        log.events.extend(events)
        return done

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        """See `Store.read`."""
        self._ready()
        log = self._logs.get(session_id)
        start = max(after, 0)
        return log.events[start : start + max(limit, 0)] if log else []

    async def head(self, session_id: str) -> Head | None:
        """See `Store.head`."""
        self._ready()
        log = self._logs.get(session_id)
        return log.head() if log else None

    async def claim(self, session_id: str) -> int:
        """See `Store.claim`."""
        self._ready()
        log = self._logs.get(session_id)
        if log is None:
            raise UnknownSession(f"no session {session_id} in this store")
        log.epoch += 1
        return log.epoch

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """See `Store.sessions`. Of two written at the same instant, the one created later comes first."""
        self._ready()
        start = max(offset, 0)
        logs = list(self._logs.values())[::-1]
        logs.sort(key=_Log.updated_at, reverse=True)
        return [log.head() for log in logs[start : start + max(limit, 0)]]

    async def put_blob(self, data: bytes) -> str:
        """See `Store.put_blob`."""
        self._ready()
        digest = digest_of(data)
        self._blobs.setdefault(digest, bytes(data))
        return digest

    async def get_blob(self, digest: str) -> bytes:
        """See `Store.get_blob`."""
        self._ready()
        try:
            return self._blobs[digest]
        except KeyError:
            raise UnknownBlob(f"no blob {digest!r} in this store") from None

    def _ready(self) -> Future[None]:
        if self._done is None:
            raise closed()
        return self._done

    def _check_encodable(self, events: Sequence[Event]) -> None:
        encode_into, scratch = self._encoder.encode_into, self._scratch
        for event in events:
            try:
                encode_into(event, scratch)
            except (ValueError, TypeError, RecursionError):
                encode_event(event)  # says it the way every store does
                raise


class _Log:
    """One session: its events, and the epoch of its writer."""

    __slots__ = ("epoch", "events")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.epoch = FIRST_EPOCH

    def updated_at(self) -> datetime:
        return self.events[-1].ts

    def head(self) -> Head:
        first, last = self.events[0], self.events[-1]
        return Head(
            session_id=first.session_id,
            sequence=last.sequence,
            epoch=self.epoch,
            created_at=first.ts,
            updated_at=last.ts,
        )


def _refused(done: Future[None], session_id: str, log: _Log, expected: int, epoch: int) -> Future[None]:
    future: Future[None] = done.get_loop().create_future()
    future.set_exception(
        refusal(session_id, sequence=len(log.events), current=log.epoch, expected=expected, epoch=epoch)
    )
    return future
