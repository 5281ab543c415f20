"""A tool's transaction on a SQLite store: it has the writing thread to itself, from its first statement to its end.

SQLite has one writer at a time, so a transaction takes its turn in the writer's queue, and what others submit meanwhile
waits behind it, in order. That is why it may not last: other sessions wait, and other processes on the same file give
up after their `busy_timeout` of five seconds. When it is committed, everything that was submitted before its append is
carried out in the same transaction, so that a session's appends keep their order.

A blob that is put while the same call has a transaction open joins it: behind it, it would wait for ever. It is kept
even if the rest is rolled back, for whoever put it was told that it is there.
"""

from __future__ import annotations

import asyncio
import math
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import Lock
from time import monotonic
from typing import Any, Generic, TypeVar

import apsw

from holdfast.errors import HoldfastError, StoreError, TransactionLost, UsageError
from holdfast.events import Event
from holdfast.store import FREE, Terms
from holdfast.stores.sqlite_file import queries
from holdfast.stores.sqlite_log import Append
from holdfast.stores.sqlite_writer import SQLiteWriter

T = TypeVar("T")

LONGEST = 4.0
"""Seconds from the first statement to the outcome: less than others wait for a lock."""

IDLE = 2.0
"""Seconds without a statement after which it is rolled back."""

SEALED = 60.0
"""Seconds in which a sealed transaction must be appended to. Only an event loop that stands still takes that long."""

STEPS = 20_000
"""Instructions of SQLite between two looks at the clock, below a millisecond."""

Appending = Callable[[str, Sequence[Event], int, int, Terms], Append]
"""Makes an append of its arguments; raises when they cannot be appended."""

_NOT_FOR_TOOLS = (
    "a transaction is begun and ended for the tool: it has no BEGIN, COMMIT, ROLLBACK, ATTACH or PRAGMA"
)
_STOPPED = (
    "a statement was stopped: the transaction was rolled back or open for too long; nothing of it was kept"
)
_UNDONE = "SQLite rolled the transaction back after a statement failed; nothing of it was kept"
_OTHERS_RULE = (apsw.SQLITE_TRANSACTION, apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH, apsw.SQLITE_PRAGMA)


class SQLiteTransaction:
    """`Transaction` of a SQLite store. Made for one event loop, like the store."""

    def __init__(self, writer: SQLiteWriter, appending: Appending) -> None:
        self._writer = writer
        self._appending = appending
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._requests: SimpleQueue[_Request[Any] | Future[None] | None] = SimpleQueue()
        self._lock = Lock()
        self._begun = False
        self._over: HoldfastError | None = None
        """Why nothing more can be done with it, once that is so."""
        self._ends = 0.0
        self._sealed = False
        self._ending = False
        self._blobs: dict[str, bytes] = {}
        _HERE.set(self)

    async def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """See `Database.execute`."""
        return await self._ask(lambda connection: list(connection.execute(sql, values)))

    async def seal(self) -> bool:
        """See `Transaction.seal`."""
        if not self._begun:
            return False
        with self._lock:
            self._sealed = True
        await self._ask(self._seal)
        return True

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """See `Transaction.append`."""
        append = self._appending(session_id, events, expected, epoch, terms)

        def together(cursor: apsw.Cursor) -> None:
            if not self._ending:  # never without what it belongs to
                raise TransactionLost("the transaction ended before its outcome came; nothing of it was kept")
            append(cursor)

        with self._lock:
            if self._over is not None:
                raise self._refused()
            self._over = UsageError("nothing more can be done in this transaction: its outcome is recorded")
            answer = self._writer.submit(together)
            self._requests.put(answer)
        return answer

    async def roll_back(self) -> None:
        """See `Transaction.roll_back`."""
        with self._lock:
            if self._over is None:
                self._over = TransactionLost("the transaction was rolled back; nothing of it was kept")
                self._requests.put(None)

    def keep(self, digest: str, content: bytes) -> bool:
        """Keep a blob, whatever becomes of the rest. False when it is too late for that."""
        with self._lock:
            if self._over is None and not self._sealed:
                self._blobs[digest] = content
                return True
            return False

    def kept(self, digest: str) -> bytes | None:
        """A blob that is kept here, and that nobody else can see yet."""
        return self._blobs.get(digest)

    def holds(self, writer: SQLiteWriter) -> bool:
        """Whether it is under way, so that nothing else gets to this writer."""
        return self._writer is writer and self._begun and self._over is None

    async def _ask(self, work: Callable[[apsw.Connection], T]) -> T:
        """Do it in the writing thread, which is called in for the first such request."""
        request: _Request[T] = _Request(work, self._loop.create_future())
        with self._lock:
            if self._over is not None:
                raise self._refused()
            self._requests.put(request)
            if not self._begun:
                self._begun = True
                self._writer.host(self)
        try:
            return await request.answer
        except asyncio.CancelledError:  # nobody knows whether it was carried out, so nothing may be
            await self.roll_back()
            raise

    def _refused(self) -> HoldfastError:
        over = self._over or TransactionLost()
        return type(over)(str(over))

    def stay(self, host: SQLiteWriter) -> None:
        """Carry out what is asked for, up to the end. Called in the writing thread, when it is its turn."""
        over: HoldfastError | Future[None] | None = self._over
        if over is None:
            try:
                over = self._serve(host, host.begin())
            except StoreError as error:
                over = error
        committed = False
        if isinstance(over, Future):
            self._ending = True
            committed = host.conclude(over)
            self._ending = False
        self._finish(over if isinstance(over, HoldfastError) else TransactionLost())
        if not committed:
            host.undo(self._keep_blobs if self._blobs else None)

    def _serve(self, host: SQLiteWriter, connection: apsw.Connection) -> HoldfastError | Future[None]:
        """Until there is the append that ends it, or the reason why there will be none."""
        self._ends = monotonic() + LONGEST
        connection.authorizer = _allowed
        connection.set_progress_handler(self._must_stop, STEPS, id=self)
        try:
            while True:
                request = self._next()
                if request is None or isinstance(request, HoldfastError | Future):
                    return request or self._refused()
                if (error := request.carry_out(connection, self._loop)) is not None:
                    host.heed(error)
                if not connection.in_transaction:
                    return self._too_long() if self._must_stop() else TransactionLost(_UNDONE)
        finally:
            connection.set_progress_handler(None, id=self)
            connection.authorizer = None

    def _next(self) -> _Request[Any] | Future[None] | HoldfastError | None:
        left = SEALED if self._ends == math.inf else min(IDLE, self._ends - monotonic())
        try:
            return self._requests.get(timeout=left) if left > 0 else self._too_long()
        except Empty:
            return self._too_long()

    def _too_long(self) -> TransactionLost:
        idle = monotonic() < self._ends
        waited = f"no statement came for {IDLE:g} s" if idle else f"it was open for {LONGEST:g} s"
        return TransactionLost(
            f"the transaction was rolled back: {waited}, and nobody else can write to the database meanwhile; do what "
            "takes time before the first statement, and return right after the last"
        )

    def _must_stop(self) -> bool:
        return isinstance(self._over, TransactionLost) or monotonic() > self._ends

    def _seal(self, connection: apsw.Connection) -> None:
        self._ends = math.inf
        self._keep_blobs(connection)

    def _keep_blobs(self, database: apsw.Connection | apsw.Cursor) -> None:
        for blob in self._blobs.items():
            database.execute(queries().keep, blob)

    def _finish(self, over: HoldfastError) -> None:
        """Nobody is left without an answer."""
        with self._lock:
            self._over = self._over or over
        while not self._requests.empty():
            request = self._requests.get()
            if isinstance(request, _Request):
                request.tell(self._loop, None, self._refused())


class _Request(Generic[T]):
    """Something to do in the transaction, and who waits for it."""

    __slots__ = ("answer", "work")

    def __init__(self, work: Callable[[apsw.Connection], T], answer: Future[T]) -> None:
        self.work = work
        self.answer = answer

    def carry_out(self, connection: apsw.Connection, loop: AbstractEventLoop) -> Exception | None:
        """Do it, and tell. What went wrong is returned as it came from the database."""
        try:
            value = self.work(connection)
        except Exception as error:
            self.tell(loop, None, _meaning(error))
            return error
        self.tell(loop, value, None)
        return None

    def tell(self, loop: AbstractEventLoop, value: Any, error: Exception | None) -> None:
        """Answer whoever waits, on the loop."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._settle, value, error)

    def _settle(self, value: Any, error: Exception | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(value)
        else:
            self.answer.set_exception(error)


def _meaning(error: Exception) -> Exception:
    """What a statement that failed is told to the tool as: itself, except where we are what stood in its way."""
    if isinstance(error, apsw.AuthError):
        return UsageError(_NOT_FOR_TOOLS)
    return TransactionLost(_STOPPED) if isinstance(error, apsw.InterruptError) else error


def _allowed(action: int, *_details: str | None) -> int:
    return apsw.SQLITE_DENY if action in _OTHERS_RULE else apsw.SQLITE_OK


def open_here(writer: SQLiteWriter) -> SQLiteTransaction | None:
    """The transaction that the call being carried out has open with this writer, if any."""
    here = _HERE.get()
    return here if here is not None and here.holds(writer) else None


_HERE: ContextVar[SQLiteTransaction | None] = ContextVar("transaction", default=None)
"""The transaction of the call that is being carried out."""
