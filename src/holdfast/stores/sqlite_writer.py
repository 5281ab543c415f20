"""The one thread that writes to a SQLite store.

Work queues up while a transaction is on its way to the disk; the next transaction takes all of it (at most 512
pieces), so that however many sessions are active, they share commits. Work that is refused fails alone: a refusal
comes before anything was written. Any other failure undoes the whole transaction and fails everybody in it. A guest
(a tool's transaction) has the thread to itself, in its turn; what it did is committed with what came in meanwhile.

A disk that failed once is not believed again: SQLite itself would go on acknowledging commits after a sync that
failed, so from then on every write is refused until the file is opened anew.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Generic, Protocol, TypeVar

import apsw

from holdfast.errors import HoldfastError, OutcomeUnknown, StoreCorrupt, StoreError
from holdfast.stores.sqlite_file import SQLiteFile, let_go

T = TypeVar("T")

SHARED = 512
"""Pieces of work that may share a commit."""

CHECKPOINT_PAGES = 1_000
"""Pages in the WAL that are worth moving into the database. Done between commits, so that no commit waits for it."""

FRAME_BYTES = 4_096 + 24
"""What a page takes in the WAL."""

PIECE = 1 << 16
"""Bytes that SQLite writes at once: less than 128 KiB."""


class Guest(Protocol):
    """Somebody who wants the writing thread to himself for a while."""

    def stay(self, host: SQLiteWriter) -> None:
        """In the writing thread: first `host.begin()`, last `host.conclude()` or `host.undo()`. Raises nothing."""
        ...


def make_room(connection: apsw.Connection) -> None:
    """Make the WAL file as long as it will be, with zeros, which SQLite takes for its end.

    The sync of a commit that makes a file longer has to record the new length too, which on ext4 waits for whatever
    else the disk is busy with. In a transaction, so that nobody writes to the WAL meanwhile. Raises `apsw.Error`.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        flags = [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0]
        wal = apsw.VFSFile(connection.open_vfs, connection.filename_wal, flags)
        try:
            for place in range(wal.xFileSize(), CHECKPOINT_PAGES * FRAME_BYTES, PIECE):
                wal.xWrite(bytes(PIECE), place)
            wal.xSync(apsw.SQLITE_SYNC_NORMAL)
        finally:
            wal.xClose()
    finally:
        connection.execute("ROLLBACK")


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
        self._queue: SimpleQueue[_Work[object] | Guest | None] = SimpleQueue()
        self._aside: deque[_Work[object] | Guest | None] = deque()  # taken from the queue, and first in line
        self._wal_pages = 0
        self._failure = ""
        connection.set_wal_hook(self._note_wal_pages)
        self._thread = _WritingThread(target=self._run, name="holdfast-sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[apsw.Cursor], T]) -> Future[T]:
        """Carry out `work` in a transaction. The future ends when that is durable, or with the reason it is not.

        `work` may refuse with a `HoldfastError`, as long as it has not written.
        """
        future: Future[T] = self._loop.create_future()
        self._thread.owed += 1
        self._queue.put(_Work(work, future))  # type: ignore[arg-type]  # it settles no future but its own
        return future

    def host(self, guest: Guest) -> None:
        """Give the thread to this guest, once everything submitted before is done. What comes later waits for him."""
        self._thread.owed += 1
        self._queue.put(guest)

    def begin(self) -> apsw.Connection:
        """For a guest: the connection, in a transaction. Raises `StoreError`."""
        try:
            self._refuse_if_failed()
            self._cursor.execute("BEGIN IMMEDIATE")
        except Exception as error:
            raise self._explain(error, committing=False) from error
        return self._connection

    def heed(self, error: Exception) -> None:
        """For a guest: a statement failed like this. When it was the disk that did, nothing more is written."""
        if isinstance(self._file.explain(error, self._connection), StoreCorrupt):
            self._failure = repr(error)

    def conclude(self, last: Future[None]) -> bool:
        """For a guest: commit what he did, with everything submitted up to the work that `last` is the answer to.

        When that one is refused what he did is undone, and it is False.
        """
        batch = self._up_to(last)
        self._commit(batch, begun=True)
        self._answer(batch)
        self._checkpoint()
        return batch[-1].error is None

    def undo(self, then: Callable[[apsw.Cursor], None] | None = None) -> None:
        """For a guest: undo what he did, and do this before anything else is done."""
        self._roll_back()
        if then is not None:
            nobody: Future[None] = Future(loop=self._loop)
            nobody.cancel()
            self._aside.appendleft(_Work(then, nobody, owed=False))  # type: ignore[arg-type]  # see `submit`

    def finish(self) -> None:
        """Wait until everything submitted is done, the WAL is in the database and the thread has ended."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (next_one := self._next()) is not None:
            if isinstance(next_one, list):
                self._commit(next_one)
                self._answer(next_one)
                self._checkpoint()
            else:
                next_one.stay(self)
                self._tell(self._guest_left)
        self._let_go()

    def _next(self) -> list[_Work[object]] | Guest | None:
        """Those who share the next commit, or a guest; None when it is time to end."""
        batch: list[_Work[object]] = []
        while not batch or (len(batch) < SHARED and (self._aside or not self._queue.empty())):
            item = self._take()
            if isinstance(item, _Work):
                batch.append(item)
            elif batch:
                self._aside.appendleft(item)
                break
            else:
                return item
        return batch

    def _take(self) -> _Work[object] | Guest | None:
        return self._aside.popleft() if self._aside else self._queue.get()

    def _up_to(self, last: Future[None]) -> list[_Work[object]]:
        """All work up to this one. Other guests go on waiting."""
        batch: list[_Work[object]] = []
        others: list[Guest | None] = []
        while not batch or batch[-1].future is not last:
            item = self._take()
            if isinstance(item, _Work):
                batch.append(item)
            else:
                others.append(item)
        self._aside.extendleft(reversed(others))
        return batch

    def _commit(self, batch: list[_Work[object]], *, begun: bool = False) -> None:
        """Carry the batch out and leave each piece with its value or its error.

        One that was `begun` is a guest's: the last of the batch is his, and it or nothing of his is committed.
        """
        execute, committing = self._cursor.execute, False
        try:
            self._refuse_if_failed()
            if not begun:
                execute("BEGIN IMMEDIATE")
            for work in batch:
                work.carry_out(self._cursor)
            if begun and batch[-1].error is not None:
                execute("ROLLBACK")
                if len(batch) > 1:
                    self._commit(batch[:-1])
                return
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
        self._tell(self._settle, batch)

    def _tell(self, told: Callable[..., None], *what: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(told, *what)

    def _settle(self, batch: list[_Work[object]]) -> None:
        for work in batch:
            work.settle()
            self._thread.owed -= work.owed
        self._after()

    def _guest_left(self) -> None:
        self._thread.owed -= 1

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
        let_go(self._connection)


class _WritingThread(Thread):
    """A thread that says what it still owes its event loop."""

    owed = 0
    """Pieces of work and guests that the loop has not heard of again. Counted by the loop's own thread alone."""


class _Work(Generic[T]):
    """A piece of work, who waits for it, and what came of it."""

    __slots__ = ("error", "future", "owed", "value", "work")

    value: T

    def __init__(self, work: Callable[[apsw.Cursor], T], future: Future[T], *, owed: bool = True) -> None:
        self.owed = owed
        self.work = work
        self.future = future
        self.error: HoldfastError | None = None

    def carry_out(self, cursor: apsw.Cursor) -> None:
        self.error = None
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
