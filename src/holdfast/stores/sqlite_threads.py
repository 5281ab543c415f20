"""The two threads of an open SQLite store: one reads, one writes, each with its own connection.

Reading never waits for a write, and neither holds up the event loop. What other processes write is noticed by asking
the reading connection now and then whether the file changed; what this one writes, at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

import apsw

from holdfast.errors import StoreClosed, StoreCorrupt, StoreError, StoreReadOnly
from holdfast.stores.bell import Bell
from holdfast.stores.sqlite_file import SQLiteFile, let_go
from holdfast.stores.sqlite_transaction import Appending, SQLiteTransaction, open_here
from holdfast.stores.sqlite_writer import SQLiteWriter, make_room

T = TypeVar("T")

SOONEST = 0.05
"""Seconds after which somebody who waits for a write first asks again whether there was one …"""
LATEST = 0.25
"""… and how rarely, after some times in vain. Asking takes 0.1 ms."""


class SQLiteThreads:
    """An open file in the hands of one event loop of one process."""

    def __init__(
        self,
        file: SQLiteFile,
        threads: ThreadPoolExecutor,
        writing: apsw.Connection | None,
        reading: apsw.Connection,
    ) -> None:
        self._file = file
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._threads = threads
        self._reading = reading
        self._bell = Bell()
        self._writer = SQLiteWriter(file, writing, self._loop, self._bell.ring) if writing else None
        self._ending = False

    @classmethod
    async def start(cls, file: SQLiteFile, *, read_only: bool) -> Self:
        """Open the file and begin. When that fails or is cancelled, nothing is left behind."""
        threads = ThreadPoolExecutor(1, thread_name_prefix="holdfast-sqlite-reader")
        try:
            connections = await asyncio.get_running_loop().run_in_executor(threads, _connect, file, read_only)
        except BaseException as error:
            under_way = not isinstance(error, StoreError)  # cancelled: the thread ends by itself
            threads.shutdown(wait=not under_way)
            raise
        return cls(file, threads, *connections)

    async def end(self) -> None:
        """Finish what was accepted, end both threads, and leave one file with everything in it."""
        if self._process != os.getpid():
            return
        self._ending = True
        self._bell.ring()
        ending = self._loop.run_in_executor(self._threads, self._let_go)
        ending.add_done_callback(lambda _: self._threads.shutdown())
        await asyncio.shield(ending)

    def _let_go(self) -> None:
        """Close for good, the writer last: the last connection moves the WAL into the database."""
        let_go(self._reading)
        if self._writer is not None:
            self._writer.finish()

    def check_process(self) -> None:
        """Raise `StoreClosed` in a fork of the process that opened the file."""
        if self._process != os.getpid():
            raise StoreClosed(
                f"{self._file.path} was opened by process {self._process} and this is its fork {os.getpid()}; a store "
                "does not survive fork(): open one here"
            )

    def writer(self) -> SQLiteWriter:
        """The writing thread. Raises `StoreReadOnly` when there is none."""
        if self._writer is None:
            raise StoreReadOnly(
                f"{self._file.path} is open to be looked at; open it without read_only to write"
            )
        return self._writer

    def lend(self, appending: Appending) -> SQLiteTransaction:
        """A transaction for a tool, which will have the writing thread to itself."""
        return SQLiteTransaction(self.writer(), appending)

    def lent(self) -> SQLiteTransaction | None:
        """The transaction that the call being carried out has open, if any."""
        return None if self._writer is None else open_here(self._writer)

    async def ask(self, question: Callable[[apsw.Connection], T]) -> T:
        """Ask in the reading thread."""

        def ask() -> T:
            try:
                return question(self._reading)
            except apsw.Error as error:
                raise self._file.explain(error) from error

        return await self._loop.run_in_executor(self._threads, ask)

    async def woken(self, seconds: float, since: int | None) -> int:
        """Return when the file is in another state than `since` (or now), or after so many seconds; which it is in."""
        end, pause = self._loop.time() + seconds, SOONEST
        seen = await self.ask(_data_version)
        since = seen if since is None else since
        while seen == since and not self._ending and (left := end - self._loop.time()) > 0:
            await self._bell.heard(min(pause, left))
            pause = min(pause * 1.5, LATEST)
            if not self._ending:
                seen = await self.ask(_data_version)
        return seen


def _connect(file: SQLiteFile, read_only: bool) -> tuple[apsw.Connection | None, apsw.Connection]:
    """The writing and the reading connection."""
    writing = None if read_only else file.open_for_writing()
    reading = None
    try:
        if writing is not None:
            _prepare(writing, file)
        reading = file.open_for_reading()
        _data_version(reading)  # from here on it can tell what changes
        return writing, reading
    except (apsw.Error, StoreError) as error:
        for connection in (reading, writing):
            if connection is not None:
                let_go(connection)
        if isinstance(error, StoreError):
            raise
        raise file.explain(error) from error


def _prepare(writing: apsw.Connection, file: SQLiteFile) -> None:
    """What makes commits faster. While another process is busy with the file, or it is full, it does without."""
    try:
        make_room(writing)
    except apsw.Error as error:
        if isinstance(file.explain(error, writing), StoreCorrupt):
            raise


def _data_version(reading: apsw.Connection) -> int:
    """A number that changes whenever another connection, of this process or another, has written to the file."""
    return int(reading.pragma("data_version"))
