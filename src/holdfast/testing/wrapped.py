"""A store in front of another one."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Literal, TypeVar

from holdfast.events import Event
from holdfast.store import (
    FREE,
    Account,
    Entry,
    Head,
    Letter,
    Listing,
    Snapshot,
    Store,
    Terms,
    Transaction,
    accounting_of,
    rostering_of,
    transaction_of,
)
from holdfast.testing.simulation import crash, is_dead

T = TypeVar("T")

Operation = Literal[
    "append",
    "read",
    "head",
    "claim",
    "renew",
    "due",
    "post",
    "letters",
    "posted",
    "discard",
    "woken",
    "owners",
    "save_snapshot",
    "load_snapshot",
    "sessions",
    "put_blob",
    "get_blob",
    "account",
    "accounts",
    "holding",
    "enter",
    "raise_account",
    "enlist",
    "roster",
]
"""What a store can be asked to do, opening and closing aside."""


AFTERWARDS = "long ago"
"""Where a process dies that is dead already."""


class WrappedStore:
    """A store that asks another one to do its work. Override `hand_over` and `carry_out` to come between.

    A process that died in a `Simulation` gets no answer from it any more, and writes nothing.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def hand_over(self, events: Sequence[Event], write: Callable[[], Future[None]]) -> Future[None]:
        """Append these events: `write` hands them to the store behind."""
        return write()

    async def carry_out(self, operation: Operation, work: Callable[[], Awaitable[T]]) -> T:
        """Do anything else: `work` is the store behind doing it."""
        return await work()

    async def _ask(self, operation: Operation, work: Callable[[], Awaitable[T]]) -> T:
        if is_dead():
            await crash(AFTERWARDS)
        return await self.carry_out(operation, work)

    async def open(self) -> None:
        """See `Store.open`."""
        await self.store.open()

    async def close(self) -> None:
        """See `Store.close`."""
        if is_dead():
            await crash(AFTERWARDS)
        await self.store.close()

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """See `Store.append`."""
        if is_dead():
            return crash(AFTERWARDS)
        write = partial(self.store.append, session_id, events, expected=expected, epoch=epoch, terms=terms)
        return self.hand_over(events, write)

    def transaction(self) -> Transaction:
        """See `Transactional.transaction`; raises `TransactionUnsupported` when the store behind has none."""
        return _HandedOver(self, transaction_of(self.store))

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        """See `Store.read`."""
        return await self._ask("read", partial(self.store.read, session_id, after=after, limit=limit))

    async def head(self, session_id: str) -> Head | None:
        """See `Store.head`."""
        return await self._ask("head", partial(self.store.head, session_id))

    async def claim(self, session_id: str, *, owner: str = "", hold: float = 0.0) -> int:
        """See `Store.claim`."""
        return await self._ask("claim", partial(self.store.claim, session_id, owner=owner, hold=hold))

    async def renew(self, owner: str, hold: float) -> None:
        """See `Store.renew`."""
        await self._ask("renew", partial(self.store.renew, owner, hold))

    async def due(self, now: datetime, *, limit: int = 100) -> list[str]:
        """See `Store.due`."""
        return await self._ask("due", partial(self.store.due, now, limit=limit))

    async def post(self, session_id: str, event: Event) -> None:
        """See `Store.post`."""
        await self._ask("post", partial(self.store.post, session_id, event))

    async def letters(self, session_id: str) -> list[Letter]:
        """See `Store.letters`."""
        return await self._ask("letters", partial(self.store.letters, session_id))

    async def posted(self, owner: str) -> list[str]:
        """See `Store.posted`."""
        return await self._ask("posted", partial(self.store.posted, owner))

    async def discard(self, session_id: str, numbers: Sequence[int], *, epoch: int) -> None:
        """See `Store.discard`."""
        await self._ask("discard", partial(self.store.discard, session_id, numbers, epoch=epoch))

    async def woken(self, seconds: float, since: int | None = None) -> int:
        """See `Store.woken`."""
        return await self._ask("woken", partial(self.store.woken, seconds, since))

    async def owners(self) -> list[str]:
        """See `Store.owners`."""
        return await self._ask("owners", self.store.owners)

    async def save_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """See `Store.save_snapshot`."""
        await self._ask("save_snapshot", partial(self.store.save_snapshot, session_id, snapshot))

    async def load_snapshot(self, session_id: str) -> Snapshot | None:
        """See `Store.load_snapshot`."""
        return await self._ask("load_snapshot", partial(self.store.load_snapshot, session_id))

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """See `Store.sessions`."""
        return await self._ask("sessions", partial(self.store.sessions, limit=limit, offset=offset))

    async def put_blob(self, data: bytes) -> str:
        """See `Store.put_blob`."""
        return await self._ask("put_blob", partial(self.store.put_blob, data))

    async def get_blob(self, digest: str) -> bytes:
        """See `Store.get_blob`."""
        return await self._ask("get_blob", partial(self.store.get_blob, digest))

    async def account(self, name: str) -> Account:
        """See `Accounting.account`."""
        return await self._ask("account", partial(accounting_of(self.store).account, name))

    async def accounts(self, prefix: str = "", *, limit: int = 1_000) -> list[Account]:
        """See `Accounting.accounts`."""
        return await self._ask("accounts", partial(accounting_of(self.store).accounts, prefix, limit=limit))

    async def holding(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[Account]:
        """See `Accounting.holding`."""
        work = partial(accounting_of(self.store).holding, prefix, after=after, limit=limit)
        return await self._ask("holding", work)

    async def enter(self, entries: Sequence[Entry]) -> None:
        """See `Accounting.enter`."""
        return await self._ask("enter", partial(accounting_of(self.store).enter, entries))

    async def raise_account(self, name: str, amount: Decimal) -> Account:
        """See `Accounting.raise_account`."""
        work = partial(accounting_of(self.store).raise_account, name, amount)
        return await self._ask("raise_account", work)

    async def enlist(self, listing: Listing) -> bool:
        """See `Rostering.enlist`."""
        return await self._ask("enlist", partial(rostering_of(self.store).enlist, listing))

    async def roster(self) -> list[Listing]:
        """See `Rostering.roster`."""
        return await self._ask("roster", rostering_of(self.store).roster)


class _HandedOver:
    """A transaction of the store behind, whose append is handed over like every other."""

    def __init__(self, store: WrappedStore, behind: Transaction) -> None:
        self._store = store
        self.execute = behind.execute
        self.seal = behind.seal
        self.roll_back = behind.roll_back
        self._append = behind.append

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """See `Transaction.append`."""
        write = partial(self._append, session_id, events, expected=expected, epoch=epoch, terms=terms)
        return self._store.hand_over(events, write)
