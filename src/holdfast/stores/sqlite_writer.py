"""The one thread that writes to a SQLite store.

Work queues up while a transaction is on its way to the disk; the next transaction takes all of it (at most 512
pieces), so that however many sessions are active, they share commits. Work that is refused fails alone: a refusal
comes before anything was written. Any other failure undoes the whole transaction and fails everybody in it.

A disk that failed once is not believed again: SQLite itself would go on acknowledging commits after a sync that
failed, so from then on every write is refused until the file is opened anew.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

import apsw

from holdfast.errors import HoldfastError, OutcomeUnknown, StoreCorrupt, StoreError
from holdfast.stores.sqlite_file import SQLiteFile

T = TypeVar("T")

SHARED = 512
"""Pieces of work that may share a commit."""

CHECKPOINT_PAGES = 1_000
"""Pages in the WAL that are worth moving into the database. Done between commits, so that no commit waits for it."""


class SQLiteWriter:
    """Owns the writing connection: carries out work in the order it was submitted, from any number of sessions.

    `after` is called on the loop after every transaction, once those who waited for it have their answers.
    """

    def __init__(
        self,
        file: SQLiteFile,
        connection: apsw.Connection,
        loop: AbstractEventLoop,
        after: Callable[[], None],
    ) -> None:
        self._file = file
        self._connection = connection
        self._cursor = connection.cursor()
        self._loop = loop
        self._after = after
        self._queue: SimpleQueue[_Work[object] | None] = SimpleQueue()
        self._wal_pages = 0
        self._failure = ""
        connection.set_wal_hook(self._note_wal_pages)
        self._thread = Thread(target=self._run, name="holdfast-sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[apsw.Cursor], T]) -> Future[T]:
        """Carry out `work` in a transaction. The future ends when that is durable, or with the reason it is not.

        `work` may refuse with a `HoldfastError`, as long as it has not written.
        """
        future: Future[T] = self._loop.create_future()
        self._queue.put(_Work(work, future))  # type: ignore[arg-type]
        return future

    def finish(self) -> None:
        """Wait until everything submitted is done, the WAL is in the database and the thread has ended."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            self._commit(batch)
            self._answer(batch)
            self._checkpoint()
        self._let_go()

    def _next(self) -> list[_Work[object]]:
        """What shares the next commit; nothing when it is time to end."""
        batch: list[_Work[object]] = []
        while not batch or (len(batch) < SHARED and not self._queue.empty()):
            work = self._queue.get()
            if work is None:
                if batch:
                    self._queue.put(None)
                break
            batch.append(work)
        return batch

    def _commit(self, batch: list[_Work[object]]) -> None:
        """Carry the batch out and leave each piece with its value or its error."""
        execute, committing = self._cursor.execute, False
        try:
            self._refuse_if_failed()
            execute("BEGIN IMMEDIATE")
            for work in batch:
                work.carry_out(self._cursor)
            committing = True
            execute("COMMIT")
        except Exception as error:
            for work in batch:
                work.error = self._explain(error, committing=committing)
            self._roll_back()

    def _refuse_if_failed(self) -> None:
        if self._failure:
            raise StoreCorrupt(
                f"{self._file.path} failed before ({self._failure}) and takes no more writes; close the store and "
                "open it again"
            )

    def _explain(self, error: Exception, *, committing: bool) -> StoreError:
        if isinstance(error, StoreError):
            return type(error)(str(error))
        meaning = self._file.explain(error, self._connection)
        if not isinstance(meaning, StoreCorrupt):
            return meaning
        self._failure = repr(error)
        if not committing:
            return meaning
        return OutcomeUnknown(
            f"the disk under {self._file.path} failed during a commit ({error!r}); whether it happened shows when the "
            "store is opened again"
        )

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except apsw.Error as error:
            self._failure = repr(error)

    def _answer(self, batch: list[_Work[object]]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, batch)

    def _settle(self, batch: list[_Work[object]]) -> None:
        for work in batch:
            work.settle()
        self._after()

    def _note_wal_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        if self._wal_pages < CHECKPOINT_PAGES:
            return
        self._wal_pages = 0
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            # Busy or full: the WAL keeps what is in it, and the next commit tries again.
            if isinstance(self._file.explain(error, self._connection), StoreCorrupt):
                self._failure = repr(error)

    def _let_go(self) -> None:
        with suppress(apsw.Error):  # the WAL keeps it; whoever opens the file next moves it
            if not self._failure:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._connection.close(force=True)


class _Work(Generic[T]):
    """A piece of work, who waits for it, and what came of it."""

    __slots__ = ("error", "future", "value", "work")

    value: T

    def __init__(self, work: Callable[[apsw.Cursor], T], future: Future[T]) -> None:
        self.work = work
        self.future = future
        self.error: HoldfastError | None = None

    def carry_out(self, cursor: apsw.Cursor) -> None:
        try:
            self.value = self.work(cursor)
        except HoldfastError as refused:
            self.error = refused

    def settle(self) -> None:
        if self.future.done():
            return  # whoever waited was cancelled; what happened, happened
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)
