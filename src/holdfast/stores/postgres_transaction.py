"""A tool's transaction on a Postgres store: on a connection of its own, so that others work on beside it.

Only its end takes a turn in the writer's queue, so that a session's appends keep their order: the append runs on this
connection, through the same function as every other, and then comes the COMMIT. When its answer is lost, the log is
looked at: the event is there or it is not, and what the tool did with it.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import Future, Lock
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from holdfast.errors import HoldfastError, OutcomeUnknown, StoreError, TransactionLost, UsageError
from holdfast.events import Event
from holdfast.store import FREE, Terms
from holdfast.stores.accept import closed
from holdfast.stores.postgres_server import PAUSES, PostgresServer, is_away, queries
from holdfast.stores.postgres_writer import Appending, PostgresWriter

Making = Callable[[str, Sequence[Event], int, int, Terms], Appending]
"""Makes an append of its arguments; raises when they cannot be appended."""

BEGIN = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '60s'"
"""A process that stands still does not keep the rows it locked for ever."""

ENDING = 2.0
"""Seconds that a server has to undo a transaction before the connection is cut, which undoes it, too."""

_NOT_FOR_TOOLS = re.compile(
    r"(?>\s|;|--[^\n]*\n|/\*.*?\*/)*+"
    r"(begin|start|commit|end|abort|prepare\s+transaction|rollback(?!\s+(work\s+|transaction\s+)?to\b))\b",
    re.IGNORECASE | re.DOTALL,
)


class PostgresTransaction:
    """`Transaction` of a Postgres store."""

    def __init__(
        self, server: PostgresServer, pools: tuple[Any, Any], writer: PostgresWriter, making: Making
    ) -> None:
        self._server = server
        self._sql = queries(server.schema)
        self._pool, self._questions = pools
        self._writer = writer
        self._making = making
        self._turn = Lock()
        self._connection: Any = None
        self._over: HoldfastError | None = None
        """Why nothing more can be done with it, once that is so."""
        self._append: Appending | None = None

    async def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """See `Database.execute`."""
        if _NOT_FOR_TOOLS.match(sql):
            raise UsageError(
                "a transaction is begun and ended for the tool: it has no BEGIN, COMMIT or ROLLBACK"
            )
        async with self._turn:
            return [tuple(row) for row in await self._fetch(sql, *values)]

    async def seal(self) -> bool:
        """See `Transaction.seal`. Constraints that were deferred are checked now."""
        async with self._turn:
            if self._connection is None and self._over is None:
                return False
            await self._fetch("SET CONSTRAINTS ALL IMMEDIATE")
        return True

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """See `Transaction.append`."""
        append = self._making(session_id, events, expected, epoch, terms)
        self._check()
        self._over = UsageError("nothing more can be done in this transaction: its outcome is recorded")
        self._append = append
        return self._writer.submit(append, self)

    async def roll_back(self) -> None:
        """See `Transaction.roll_back`."""
        if self._over is not None:
            return
        self._over = TransactionLost("the transaction was rolled back; nothing of it was kept")
        await self._undo()

    async def commit(self, statement: str, arguments: tuple[Any, ...]) -> list[Any]:
        """For the writer: append and commit. The rows say why it was refused; nothing was done then."""
        connection, committing = self._connection, False
        patience = self._server.patience / 2
        try:
            refused: list[Any] = await connection.fetch(statement, *arguments, timeout=patience)
            if refused:
                return refused
            committing = True
            if await connection.execute("COMMIT", timeout=patience) != "COMMIT":
                raise TransactionLost(f"{self._server} rolled the transaction back; nothing of it was kept")
        except Exception as error:
            if committing and is_away(error):
                await self._undo()
                await self._look_back(error)
                return []
            raise
        finally:
            await self._undo()
        return []

    async def _fetch(self, sql: str, *values: object) -> list[Any]:
        self._check()
        if self._connection is None:
            self._connection = await self._begin()
            try:
                self._check()
            except HoldfastError:  # it was rolled back meanwhile
                await self._undo()
                raise
        connection = self._connection
        try:
            rows: list[Any] = await connection.fetch(sql, *values)
        except asyncio.CancelledError:  # nobody knows whether it was carried out, so nothing may be
            await self.roll_back()
            raise
        except Exception as error:
            if not _is_gone(connection) or self._over is not None:
                raise
            await self.roll_back()
            raise TransactionLost(
                f"the transaction was rolled back ({self._server.explain(error)}); nothing of it was kept"
            ) from error
        return rows

    async def _begin(self) -> Any:
        """A connection in a transaction, as soon as one is free and the server is there."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._server.patience, PAUSES[0]
        while True:
            connection = None
            try:
                connection = await self._pool.acquire()
                await connection.execute(BEGIN)
                return connection
            except BaseException as error:
                if connection is not None:
                    with suppress(Exception):
                        connection.terminate()
                        await self._pool.release(connection)
                if not isinstance(error, Exception):
                    raise
                if self._pool.is_closing():
                    raise closed() from None
                if not is_away(error) or loop.time() + pause > deadline:
                    raise self._server.explain(error) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSES[1])

    async def _undo(self) -> None:
        """Give the connection back, and undo what was not committed."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK", timeout=ENDING)
            await self._pool.release(connection, timeout=ENDING)
        except BaseException as error:
            with suppress(Exception):  # it may be gone, and back in the pool, already
                connection.terminate()
                await self._pool.release(connection)
            if not isinstance(error, Exception):
                raise

    async def _look_back(self, error: Exception) -> None:
        """Whether the commit whose answer was lost took place; raises when it did not. Waits for one under way."""
        append = self._append
        assert append is not None

        async def look(connection: Any) -> Any:
            async with connection.transaction():
                await connection.fetchrow(self._sql.stand_still, append.key)
                return await connection.fetchrow(self._sql.event, append.key, append.expected + 1)

        try:
            row = await self._server.ask(self._questions, look)
        except StoreError as away:
            raise OutcomeUnknown(
                f"{self._server} did not answer the commit of a transaction that ends with events of "
                f"{append.session_id} after {append.expected}, and then failed ({away}); whether it happened shows "
                "when the log can be read again"
            ) from error
        if row is None or row[0] != append.bodies[0]:
            raise TransactionLost(
                f"{self._server} went away before the transaction was committed; nothing of it was kept"
            ) from error

    def _check(self) -> None:
        """Raise why nothing more can be done, if that is so."""
        if self._over is not None:
            raise type(self._over)(str(self._over))


def _is_gone(connection: Any) -> bool:
    """Whether a pooled connection broke: the pool takes it back at once, and then it says nothing any more."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True
