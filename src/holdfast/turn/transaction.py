"""The transaction that a call may have: what the tool does in it is committed with the outcome, or not at all."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

from holdfast.errors import UsageError
from holdfast.messages import ToolCall, ToolResult
from holdfast.store import Database, Store, Transaction, transaction_of
from holdfast.turn.call import result_of, said


class CallTransaction:
    """At most one transaction for one call: lent to the tool, then sealed and recorded with the outcome, or undone."""

    __slots__ = ("_lent", "_store", "sealed")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lent: Lent | None = None
        self.sealed: Transaction | None = None
        """What the outcome must be appended through, when there is something to commit with it."""

    def lend(self) -> AbstractAsyncContextManager[Database]:
        """What `ctx.transaction()` returns."""
        if self._lent is not None:
            raise UsageError(
                "a call has one transaction, and this one had it; do everything inside one block"
            )
        self._lent = Lent(transaction_of(self._store))
        return self._lent

    @property
    def lent(self) -> bool:
        """Whether the tool asked for it."""
        return self._lent is not None

    async def settle(self, result: ToolResult, call: ToolCall) -> ToolResult:
        """The result, and the transaction ready to be committed with it; undone when it did not go well after all."""
        if self._lent is None or self._lent.undone:
            return result
        if result.status == "ok":
            try:
                self.sealed = self._lent.transaction if await self._lent.transaction.seal() else None
                return result
            except (
                Exception
            ) as error:  # a constraint that was deferred, a server that went away, too long a wait
                text = (
                    f"Error: {call.name} failed: {said(error)}. Nothing it did in its transaction was kept."
                )
                result = result_of(call, text, "error")
        await self.roll_back()
        return result

    async def roll_back(self) -> None:
        """Undo what the tool did, unless its outcome is being recorded with it."""
        if self._lent is not None:
            await self._lent.transaction.roll_back()


class Lent:
    """The database as the tool sees it, inside its `async with` block."""

    __slots__ = ("_open", "transaction", "undone")

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.undone = False
        """Whether an exception left the block: what the tool makes of that is up to the tool."""
        self._open = False

    async def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """See `Database.execute`."""
        if not self._open:
            raise UsageError("statements belong inside the block: async with ctx.transaction() as db")
        return await self.transaction.execute(sql, *values)

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if error is not None:
            self.undone = True
            await self.transaction.roll_back()
