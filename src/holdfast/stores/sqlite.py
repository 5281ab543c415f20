"""The store that keeps everything in one SQLite file, durable before it is acknowledged.

WAL with `synchronous=FULL`. Several processes may open the file at once: SQLite's locks keep their transactions apart,
leases keep them from working on the same session, and epochs keep a writer out that was taken for dead.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import Future
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from threading import Event as Flag
from typing import TypeVar

import apsw

from holdfast.errors import StoreCorrupt, UnknownBlob
from holdfast.events import Event, decode_event, encode_event
from holdfast.store import (
    FREE,
    Account,
    Entry,
    Head,
    Letter,
    Listing,
    Problem,
    Snapshot,
    Terms,
    Transaction,
    digest_of,
)
from holdfast.stores import sqlite_accounts as books
from holdfast.stores import sqlite_log as logs
from holdfast.stores.accept import (
    check_account,
    check_alone,
    check_instant,
    check_lease,
    check_letter,
    check_raise,
    closed,
    held,
    stale,
    unknown,
)
from holdfast.stores.boot_clock import NANOSECONDS, BootClock
from holdfast.stores.sqlite_check import problems
from holdfast.stores.sqlite_file import SQLiteFile, queries
from holdfast.stores.sqlite_roster import enlist, roster
from holdfast.stores.sqlite_rows import bounded, checked, findable, head_row, microseconds, taking
from holdfast.stores.sqlite_threads import SQLiteThreads

T = TypeVar("T")

SQL = queries()

HASH_HERE = 1 << 16
"""Bytes that may be hashed on the event loop (50 µs); more go to the reading thread."""


class SQLiteStore:
    """Logs, letters, blobs, leases and snapshots in one file, made on `open()` with mode 0600.

    The directory of `path` must exist. `read_only` opens a file to look at it: nothing is created, and every write
    raises `StoreReadOnly`. `busy_timeout` (seconds) is how long another process's lock is waited out before
    `StoreLocked`. `vfs` names the apsw VFS to go through, for tests of failing disks.

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
        self._clock = BootClock()
        self._threads: SQLiteThreads | None = None

    @property
    def path(self) -> str:
        """The file, as an absolute path without links."""
        return self._file.path

    async def open(self) -> None:
        """Open the file; create or migrate it as needed. Opening an open store is fine.

        Raises `ForeignFile`, `StoreTooNew`, `StoreReadOnly`, `StoreLocked`, `StoreFull`, `StoreCorrupt`, or a plain
        `StoreError` when the directory does not exist.
        """
        if self._threads is None:
            self._threads = await SQLiteThreads.start(self._file, read_only=self._read_only)

    async def close(self) -> None:
        """Finish what was accepted, end both threads, and leave one file with everything in it."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await threads.end()

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """See `Store.append`. Events are encoded here, in the caller's thread."""
        writer = self._ready().writer()
        return writer.submit(logs.appending(self._clock, session_id, events, expected, epoch, terms))

    def transaction(self) -> Transaction:
        """See `Transactional.transaction`. It has four seconds, and two between statements; all other writes wait."""
        return self._ready().lend(partial(logs.appending, self._clock))

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        """See `Store.read`."""
        return await self._ready().ask(
            lambda reading: logs.events(reading, self.path, session_id, after, limit)
        )

    async def head(self, session_id: str) -> Head | None:
        """See `Store.head`."""

        def head(reading: apsw.Connection) -> Head | None:
            row = reading.execute(SQL.head, (findable(session_id),)).get
            return head_row(row) if row else None

        return await self._ready().ask(head)

    async def claim(self, session_id: str, *, owner: str = "", hold: float = 0.0) -> int:
        """See `Store.claim`."""
        writer = self._ready().writer()
        check_lease(owner, hold)

        def claim(cursor: apsw.Cursor) -> int:
            name, now = findable(session_id), self._clock.now()
            lease = self._clock.lease(owner, hold)
            epoch = cursor.execute(SQL.claim, (name, *lease, owner, now, self._clock.boot)).get
            if epoch is None:
                holder, until = cursor.execute(SQL.holder, (name,)).get or (None, 0)
                if holder is None:
                    raise unknown(session_id, self.path)
                raise held(session_id, holder, (until - now) / NANOSECONDS)
            return int(epoch)

        return await writer.submit(claim)

    async def renew(self, owner: str, hold: float) -> None:
        """See `Store.renew`."""
        writer = self._ready().writer()
        check_lease(owner, hold)

        def renew(cursor: apsw.Cursor) -> None:
            clock = self._clock
            cursor.execute(SQL.renew, (owner, clock.now(), clock.boot, clock.after(hold)))

        await writer.submit(renew)

    async def due(self, now: datetime, *, limit: int = 100) -> list[str]:
        """See `Store.due`."""
        check_instant(now)

        def due(reading: apsw.Connection) -> list[str]:
            clock = self._clock
            rows = reading.execute(SQL.due, (microseconds(now), clock.now(), clock.boot, bounded(limit)))
            return [session_id for (session_id,) in rows]

        return await self._ready().ask(due)

    async def post(self, session_id: str, event: Event) -> None:
        """See `Store.post`."""
        writer = self._ready().writer()
        check_letter(session_id, event)
        body = checked(encode_event(event))

        def post(cursor: apsw.Cursor) -> None:
            if cursor.execute(SQL.post, (findable(session_id), body)).get is None:
                raise unknown(session_id, self.path)

        await writer.submit(post)

    async def letters(self, session_id: str) -> list[Letter]:
        """See `Store.letters`. Raises `StoreCorrupt` when one cannot be read."""

        def letters(reading: apsw.Connection) -> list[Letter]:
            rows = reading.execute(SQL.letters, (findable(session_id),))
            return [Letter(number=number, event=decode_event(body or b"")) for number, body in rows]

        return await self._ready().ask(letters)

    async def posted(self, owner: str) -> list[str]:
        """See `Store.posted`."""

        def posted(reading: apsw.Connection) -> list[str]:
            clock = self._clock
            rows = reading.execute(SQL.posted, (findable(owner), clock.now(), clock.boot))
            return [session_id for (session_id,) in rows]

        return await self._ready().ask(posted)

    async def discard(self, session_id: str, numbers: Sequence[int], *, epoch: int) -> None:
        """See `Store.discard`."""
        writer, taken = self._ready().writer(), taking(session_id, numbers)

        def discard(cursor: apsw.Cursor) -> None:
            _, current = cursor.execute(SQL.standing, (findable(session_id),)).get or (0, None)
            if current is None:
                raise unknown(session_id, self.path)
            if current != epoch:
                raise stale(session_id, current=current, epoch=epoch)
            cursor.executemany(SQL.take, taken)

        await writer.submit(discard)

    async def woken(self, seconds: float, since: int | None = None) -> int:
        """See `Store.woken`. A write of this store is noticed at once, one of another within a quarter of a second."""
        return await self._ready().woken(seconds, since)

    async def owners(self) -> list[str]:
        """See `Store.owners`."""

        def owners(reading: apsw.Connection) -> list[str]:
            return [owner for (owner,) in reading.execute(SQL.owners, (self._clock.now(), self._clock.boot))]

        return await self._ready().ask(owners)

    async def save_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """See `Store.save_snapshot`."""
        writer = self._ready().writer()
        row = (findable(session_id), snapshot.sequence, snapshot.version, checked(bytes(snapshot.body)))

        def save(cursor: apsw.Cursor) -> None:
            cursor.execute(SQL.save, row)

        await writer.submit(save)

    async def load_snapshot(self, session_id: str) -> Snapshot | None:
        """See `Store.load_snapshot`."""

        def load(reading: apsw.Connection) -> Snapshot | None:
            row = reading.execute(SQL.load, (findable(session_id),)).get
            return Snapshot(sequence=row[0], version=row[1], body=row[2]) if row else None

        return await self._ready().ask(load)

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """See `Store.sessions`. Of two written at the same instant, the one created later comes first."""

        def sessions(reading: apsw.Connection) -> list[Head]:
            return [head_row(row) for row in reading.execute(SQL.heads, (bounded(limit), bounded(offset)))]

        return await self._ready().ask(sessions)

    async def put_blob(self, data: bytes) -> str:
        """See `Store.put_blob`."""
        threads, content = self._ready(), checked(bytes(data))
        threads.writer()  # refuses before anything is hashed
        if len(content) > HASH_HERE:
            digest = await threads.ask(lambda _: digest_of(content))
        else:
            digest = digest_of(content)
        if (transaction := threads.lent()) is not None and transaction.keep(digest, content):
            return digest

        def keep(cursor: apsw.Cursor) -> str:
            cursor.execute(SQL.keep, (digest, content))
            return digest

        return await self._ready().writer().submit(keep)

    async def get_blob(self, digest: str) -> bytes:
        """See `Store.get_blob`."""
        transaction = self._ready().lent()
        if transaction is not None and (kept := transaction.kept(digest)) is not None:
            return kept

        def blob(reading: apsw.Connection) -> bytes:
            data = reading.execute(SQL.blob, (findable(digest),)).get
            if data is None:
                raise UnknownBlob(f"no blob {digest!r} in {self.path}")
            if digest_of(data) != digest:
                raise StoreCorrupt(
                    f"the bytes of blob {digest} in {self.path} have changed; restore a backup"
                )
            return bytes(data)

        return await self._ready().ask(blob)

    async def account(self, name: str) -> Account:
        """See `Accounting.account`."""
        check_account(name)
        return await self._ready().ask(lambda reading: books.account(reading, name))

    async def accounts(self, prefix: str = "", *, limit: int = 1_000) -> list[Account]:
        """See `Accounting.accounts`."""
        return await self._ready().ask(
            lambda reading: books.accounts(reading, findable(prefix), bounded(limit))
        )

    async def holding(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[Account]:
        """See `Accounting.holding`."""
        names = findable(prefix), findable(after)
        return await self._ready().ask(lambda reading: books.holding(reading, *names, bounded(limit)))

    async def enter(self, entries: Sequence[Entry]) -> None:
        """See `Accounting.enter`."""
        check_alone(entries)
        await self._ready().writer().submit(lambda cursor: books.enter_alone(cursor, entries))

    async def raise_account(self, name: str, amount: Decimal) -> Account:
        """See `Accounting.raise_account`."""
        check_raise(name, amount)
        return await self._ready().writer().submit(lambda cursor: books.raise_account(cursor, name, amount))

    async def enlist(self, listing: Listing) -> bool:
        """See `Rostering.enlist`."""
        return await self._ready().writer().submit(lambda cursor: enlist(cursor, listing))

    async def roster(self) -> list[Listing]:
        """See `Rostering.roster`."""
        return await self._ready().ask(roster)

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy everything, as it is at one moment, into a new database at `path`, while others go on writing.

        The copy is on the disk, under its name and with mode 0600, when this returns; before that there is nothing at
        `path`. Raises `UsageError` when there is something already, `StoreFull`, or another `StoreError`.
        """
        await self._aside(lambda stop: self._file.copy_to(path, stop))

    async def check(self) -> list[Problem]:
        """Read everything, and tell what is wrong with it: the first 1,000 problems. Changes nothing.

        Others may go on writing; what is checked is one moment. Takes about a second for 100,000 events.
        """
        return await self._aside(lambda stop: problems(self._file, self._clock.boot, stop))

    async def _aside(self, work: Callable[[Flag], T]) -> T:
        """In a thread and with a connection of its own; it is told to stop when whoever waits is cancelled."""
        self._ready()
        stop = Flag()
        try:
            return await asyncio.to_thread(work, stop)
        finally:
            stop.set()

    def _ready(self) -> SQLiteThreads:
        threads = self._threads
        if threads is None:
            raise closed()
        threads.check_process()
        return threads
