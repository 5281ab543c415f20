"""The store that keeps everything in one SQLite file, durable before it is acknowledged.

WAL with `synchronous=FULL`. One thread writes, another reads, each with its own connection, so that reading never
waits for a write and neither holds up the event loop. Several processes may open the file at once: SQLite's locks
keep their transactions apart, and epochs keep their sessions apart.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import apsw
from msgspec import Struct

from holdfast.errors import NotEncodable, StoreCorrupt, StoreError, StoreReadOnly, UnknownBlob, UnknownSession
from holdfast.events import Event, decode_event, encode_event
from holdfast.store import Head, digest_of
from holdfast.stores.accept import FIRST_EPOCH, check_events, closed, refusal
from holdfast.stores.sqlite_file import SQLiteFile, queries
from holdfast.stores.sqlite_writer import SQLiteWriter

T = TypeVar("T")

SQL = queries()

LARGEST = 1_000_000_000
"""Bytes in one event or blob."""

HASH_HERE = 1 << 16
"""Bytes that may be hashed on the event loop (50 µs); more go to the reading thread."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FAR = 0xFFFF_FFFF
"""The lower half of a key: no session gets this far."""


class SQLiteStore:
    """Logs and blobs in the file at `path`, made on `open()` with mode 0600; its directory must exist.

    `read_only` opens a file to look at it: nothing is created, and every write raises `StoreReadOnly`.
    `busy_timeout` (seconds) is how long another process's lock is waited out before `StoreLocked`. `vfs` names the
    apsw VFS to go through, for tests of failing disks.

    After a `StoreFull` or `StoreLocked` the store works on, and takes writes again as soon as it can. After the disk
    failed, reads are still served, but every write raises `StoreCorrupt` until the store is closed and opened again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        busy_timeout: float = 5.0,
        vfs: str | None = None,
    ) -> None:
        self._file = SQLiteFile(path, busy_timeout, vfs)
        self._read_only = read_only
        self._live: _Live | None = None

    @property
    def path(self) -> str:
        """The file, as an absolute path without links."""
        return self._file.path

    async def open(self) -> None:
        """Open the file; create or migrate it as needed. Opening an open store is fine.

        Raises `ForeignFile`, `StoreTooNew`, `StoreReadOnly`, `StoreLocked`, `StoreFull`, `StoreCorrupt`, or a plain
        `StoreError` when the directory does not exist.
        """
        if self._live is not None:
            return
        loop = asyncio.get_running_loop()
        threads = ThreadPoolExecutor(1, thread_name_prefix="holdfast-sqlite-reader")
        try:
            writing, reading = await loop.run_in_executor(threads, self._connect)
        except BaseException as error:
            under_way = not isinstance(error, StoreError)  # cancelled: the thread ends by itself
            threads.shutdown(wait=not under_way)
            raise
        self._live = _Live(
            process=os.getpid(),
            loop=loop,
            threads=threads,
            reading=reading,
            writer=SQLiteWriter(self._file, writing, loop) if writing else None,
        )

    def _connect(self) -> tuple[apsw.Connection | None, apsw.Connection]:
        writing = None if self._read_only else self._file.open_for_writing()
        return writing, self._file.open_for_reading()

    async def close(self) -> None:
        """Finish what was accepted, end both threads, and leave one file with everything in it."""
        live, self._live = self._live, None
        if live is None or live.process != os.getpid():
            return
        ending = live.loop.run_in_executor(live.threads, live.let_go)
        ending.add_done_callback(lambda _: live.threads.shutdown())
        await asyncio.shield(ending)

    def append(self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int) -> Future[None]:
        """See `Store.append`. Events are encoded here, in the caller's thread."""
        writer = self._writer()
        check_events(session_id, events, expected)
        bodies = [_checked(encode_event(event)) for event in events]
        created, updated = _microseconds(events[0].ts), _microseconds(events[-1].ts)

        def append(cursor: apsw.Cursor) -> None:
            last = expected + len(bodies)
            if expected == 0 and epoch == FIRST_EPOCH:
                number = cursor.execute(SQL.create, (session_id, last, epoch, created, updated)).get
            else:
                number = cursor.execute(SQL.advance, (session_id, expected, epoch, last, updated)).get
            if number is None:
                sequence, current = cursor.execute(SQL.standing, (session_id,)).get or (0, FIRST_EPOCH)
                raise refusal(session_id, sequence=sequence, current=current, expected=expected, epoch=epoch)
            cursor.executemany(SQL.add, enumerate(bodies, (number << 32) + expected + 1))

        return writer.submit(append)

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        """See `Store.read`. Raises `StoreCorrupt` when an event is missing or cannot be read."""
        start = _bounded(after)

        def read(reading: apsw.Connection) -> list[Event]:
            rows = reading.execute(SQL.read, (_findable(session_id), start, _bounded(limit)))
            events = [decode_event(body) for (body,) in rows]
            if events and events[-1].sequence != start + len(events):
                raise StoreCorrupt(
                    f"events of {session_id} after {start} are missing in {self.path}; restore a backup"
                )
            return events

        return await self._read(read)

    async def head(self, session_id: str) -> Head | None:
        """See `Store.head`."""

        def head(reading: apsw.Connection) -> Head | None:
            row = reading.execute(SQL.head, (_findable(session_id),)).get
            return _head(row) if row else None

        return await self._read(head)

    async def claim(self, session_id: str) -> int:
        """See `Store.claim`."""

        def claim(cursor: apsw.Cursor) -> int:
            epoch = cursor.execute(SQL.claim, (_findable(session_id),)).get
            if epoch is None:
                raise UnknownSession(f"no session {session_id} in {self.path}")
            return int(epoch)

        return await self._writer().submit(claim)

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """See `Store.sessions`. Of two written at the same instant, the one created later comes first."""

        def sessions(reading: apsw.Connection) -> list[Head]:
            return [_head(row) for row in reading.execute(SQL.heads, (_bounded(limit), _bounded(offset)))]

        return await self._read(sessions)

    async def put_blob(self, data: bytes) -> str:
        """See `Store.put_blob`."""
        writer = self._writer()
        content = _checked(bytes(data))
        digest = (
            await self._read(lambda _: digest_of(content)) if len(content) > HASH_HERE else digest_of(content)
        )

        def keep(cursor: apsw.Cursor) -> str:
            cursor.execute(SQL.keep, (digest, content))
            return digest

        return await writer.submit(keep)

    async def get_blob(self, digest: str) -> bytes:
        """See `Store.get_blob`."""

        def blob(reading: apsw.Connection) -> bytes:
            data = reading.execute(SQL.blob, (_findable(digest),)).get
            if data is None:
                raise UnknownBlob(f"no blob {digest!r} in {self.path}")
            if digest_of(data) != digest:
                raise StoreCorrupt(
                    f"the bytes of blob {digest} in {self.path} have changed; restore a backup"
                )
            return bytes(data)

        return await self._read(blob)

    async def _read(self, question: Callable[[apsw.Connection], T]) -> T:
        """Ask in the reading thread."""
        live = self._ready()

        def ask() -> T:
            try:
                return question(live.reading)
            except apsw.Error as error:
                raise self._file.explain(error) from error

        return await live.loop.run_in_executor(live.threads, ask)

    def _writer(self) -> SQLiteWriter:
        writer = self._ready().writer
        if writer is None:
            raise StoreReadOnly(f"{self.path} is open to be looked at; open it without read_only to write")
        return writer

    def _ready(self) -> _Live:
        live = self._live
        if live is None:
            raise closed()
        if live.process != os.getpid():
            raise StoreError(
                f"{self.path} was opened by process {live.process} and this is its fork {os.getpid()}; a store does "
                "not survive fork(): open one here"
            )
        return live


class _Live(Struct, frozen=True, kw_only=True):
    """What an open store holds."""

    process: int
    loop: AbstractEventLoop
    threads: ThreadPoolExecutor
    reading: apsw.Connection
    writer: SQLiteWriter | None

    def let_go(self) -> None:
        """Close for good, the writer last: the last connection moves the WAL into the database."""
        self.reading.close(force=True)
        if self.writer is not None:
            self.writer.finish()


def _head(row: tuple[str, int, int, int, int]) -> Head:
    session_id, sequence, epoch, created, updated = row
    return Head(
        session_id=session_id,
        sequence=sequence,
        epoch=epoch,
        created_at=_BEGINNING + created * _MICROSECOND,
        updated_at=_BEGINNING + updated * _MICROSECOND,
    )


def _microseconds(moment: datetime) -> int:
    return (moment - _BEGINNING) // _MICROSECOND


def _bounded(number: int) -> int:
    return min(max(number, 0), _FAR)


def _findable(name: str) -> str | None:
    """The name, or None (which SQL finds nowhere) when it is text that no row can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return name


def _checked(body: bytes) -> bytes:
    if len(body) > LARGEST:
        raise NotEncodable(
            f"{len(body):,} bytes are too many for one event or blob, {LARGEST:,} fit; split them"
        )
    return body
