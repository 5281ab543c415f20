"""The store that keeps everything in a schema of a Postgres database, for any number of processes on any machine.

Needs the extra `postgres`. One connection appends, with the appends of all sessions sharing commits; a pool answers
questions; one more, made when somebody first waits to be woken, listens. All of them outlive a restart of the server:
what was under way is carried on, and only a server that stays away for longer than `patience` is an error.

Durable means what the server says it means: a commit on the primary's disk, and, so that a fail-over loses nothing
that was acknowledged, on a synchronous replica. After a fail-over that did lose something the first append is refused:
its expected sequence is not there.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import Future
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from msgspec import Struct

from holdfast.errors import StoreClosed, StoreCorrupt, UnknownBlob, UsageError
from holdfast.events import Event, decode_event, encode_event
from holdfast.store import FREE, Account, Entry, Head, Letter, Listing, Snapshot, Terms, digest_of
from holdfast.stores.accept import (
    check_account,
    check_alone,
    check_events,
    check_instant,
    check_lease,
    check_letter,
    check_raise,
    check_terms,
    closed,
    held,
    stale,
    unknown,
)
from holdfast.stores.chain import verified
from holdfast.stores.postgres_accounts import enter
from holdfast.stores.postgres_listener import PostgresListener
from holdfast.stores.postgres_rows import (
    as_it_is,
    bounded,
    checked,
    findable,
    head_row,
    key_of,
    microseconds,
    plain_text,
    row_text,
    seconds_held,
    taking,
)
from holdfast.stores.postgres_server import PostgresServer, Queries, queries
from holdfast.stores.postgres_transaction import PostgresTransaction
from holdfast.stores.postgres_writer import Appending, PostgresWriter
from holdfast.stores.roster import read_rows, row_of

A = TypeVar("A")
T = TypeVar("T")

HERE = 1 << 16
"""Bytes that may be hashed, or decoded, on the event loop; more go to a thread."""

LEAVING = 2.0
"""Seconds that questions under way have to end when the store closes."""


class PostgresStore:
    """Logs, letters, blobs, leases and snapshots in the database at `dsn` (`postgresql://user:password@host:port/database`).

    `schema` is where its tables are, made on `open()`; several stores may share a database, each in its own. Asks are
    answered on up to `pool_size` connections, appends and notifications have one each beside them. `behind_pooler`
    says that connections go through a pooler that hands them around between transactions: nothing is prepared there,
    and nothing can be heard, so `woken` returns every second. `patience` is how long, in seconds, a server that went
    away is waited for.

    Leases run by the server's clock, whatever the clocks of its clients say. Postgres has no clock that nobody sets:
    a server whose clock is set forward or back ends them sooner or later by as much.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "holdfast",
        pool_size: int = 4,
        behind_pooler: bool = False,
        patience: float = 30.0,
    ) -> None:
        if pool_size < 1 or not patience > 0:
            raise UsageError(
                f"a store needs a pool of 1 or more (not {pool_size}) and patience above 0 (not {patience})"
            )
        self._server = PostgresServer(dsn, schema, patience, behind_pooler=behind_pooler)
        self._sql: Queries = queries(schema)
        self._pool_size = pool_size
        self._opening = asyncio.Lock()
        self._live: _Live | None = None

    def __repr__(self) -> str:
        return f"PostgresStore({self._server.name!r}, schema={self._server.schema!r})"

    async def open(self) -> None:
        """Connect; create or migrate the tables as needed. Opening an open store is fine.

        A server that is away is waited for, for `patience` seconds. Raises `ForeignFile`, `StoreTooNew`,
        `StoreReadOnly`, `UsageError` for a URL that is not understood, or a plain `StoreError` when the server could
        not be reached in that time or does not let this role in.
        """
        async with self._opening:
            if self._live is not None:
                return
            await self._server.prepare()
            self._live = _Live(
                process=os.getpid(),
                server=self._server,
                pool=await self._server.pool(self._pool_size),
                lent=await self._server.pool(self._pool_size, lent=True),
                writer=PostgresWriter(self._server),
                listener=PostgresListener(self._server),
            )

    async def close(self) -> None:
        """Finish what was accepted (for at most `patience` seconds), and close every connection."""
        live, self._live = self._live, None
        if live is not None and live.process == os.getpid():
            await asyncio.shield(asyncio.ensure_future(live.let_go()))

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """See `Store.append`. Raises through the future `OutcomeUnknown` when the server stays away in the middle."""
        live = self._ready()
        return live.writer.submit(self._appending(session_id, events, expected, epoch, terms))

    def transaction(self) -> PostgresTransaction:
        """See `Transactional.transaction`. On up to `pool_size` connections of their own."""
        live = self._ready()
        return PostgresTransaction(self._server, (live.lent, live.pool), live.writer, self._appending)

    def _appending(
        self, session_id: str, events: Sequence[Event], expected: int, epoch: int, terms: Terms
    ) -> Appending:
        check_events(session_id, events, expected)
        if terms is not FREE:
            check_terms(terms)
        hold = seconds_held(terms.hold)
        return Appending(
            key=key_of(session_id),
            session_id=session_id,
            expected=expected,
            epoch=epoch,
            bodies=[checked(encode_event(event)) for event in events],
            created=microseconds(events[0].ts),
            updated=microseconds(events[-1].ts),
            owner=row_text(terms.owner) if hold else "",
            hold=hold,
            due=None if terms.due is None else microseconds(terms.due),
            taken=taking(terms.taken),
            entries=terms.entries,
        )

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        """See `Store.read`."""
        start, name = bounded(after), findable(session_id)
        rows = await self._rows(self._sql.read, name, start, bounded(limit) + (start > 0))
        check = partial(verified, name or "", start, place=str(self._server))
        return await _off_the_loop(check, rows, sum(len(row["body"] or b"") for row in rows))

    async def head(self, session_id: str) -> Head | None:
        """See `Store.head`."""
        row = await self._row(self._sql.head, findable(session_id))
        return head_row(row) if row else None

    async def claim(self, session_id: str, *, owner: str = "", hold: float = 0.0) -> int:
        """See `Store.claim`."""
        self._ready()
        check_lease(owner, hold)
        key, name = findable(session_id), row_text(owner)
        while True:
            row = await self._row(self._sql.claim, key, name, seconds_held(hold))
            if row:
                return int(row[0])
            row = await self._row(self._sql.holder, key)
            if row is None:
                raise unknown(session_id, str(self._server))
            holder, left = row
            if left is not None and left > 0 and holder != name:
                raise held(session_id, plain_text(holder), left)

    async def renew(self, owner: str, hold: float) -> None:
        """See `Store.renew`."""
        self._ready()
        check_lease(owner, hold)
        await self._row(self._sql.renew, row_text(owner), seconds_held(hold))

    async def due(self, now: datetime, *, limit: int = 100) -> list[str]:
        """See `Store.due`."""
        self._ready()
        check_instant(now)
        rows = await self._rows(self._sql.due, microseconds(now), bounded(limit))
        return [plain_text(row[0]) for row in rows]

    async def post(self, session_id: str, event: Event) -> None:
        """See `Store.post`. When the server stays away in the middle, it may have been left all the same."""
        self._ready()
        check_letter(session_id, event)
        body = checked(encode_event(event))
        row = await self._row(self._sql.post, findable(session_id), uuid4(), body)
        if not row["known"]:
            raise unknown(session_id, str(self._server))

    async def letters(self, session_id: str) -> list[Letter]:
        """See `Store.letters`. Raises `StoreCorrupt` when one cannot be read."""
        rows = await self._rows(self._sql.letters, findable(session_id))
        events = await _off_the_loop(_decoded, [row[1] for row in rows], sum(len(row[1]) for row in rows))
        return [Letter(number=row[0], event=event) for row, event in zip(rows, events, strict=True)]

    async def posted(self, owner: str) -> list[str]:
        """See `Store.posted`."""
        return [plain_text(row[0]) for row in await self._rows(self._sql.posted, findable(owner))]

    async def discard(self, session_id: str, numbers: Sequence[int], *, epoch: int) -> None:
        """See `Store.discard`."""
        arguments = findable(session_id), bounded(epoch), taking(numbers)
        row = await self._row(self._sql.discard, *arguments)
        if row is None:
            raise unknown(session_id, str(self._server))
        if row[0] != epoch:
            raise stale(session_id, current=row[0], epoch=epoch)

    async def woken(self, seconds: float, since: int | None = None) -> int:
        """See `Store.woken`."""
        return await self._ready().listener.wait(seconds, since)

    async def owners(self) -> list[str]:
        """See `Store.owners`."""
        return [plain_text(row[0]) for row in await self._rows(self._sql.owners)]

    async def save_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """See `Store.save_snapshot`."""
        body = checked(snapshot.body)
        await self._row(self._sql.save, findable(session_id), snapshot.sequence, snapshot.version, body)

    async def load_snapshot(self, session_id: str) -> Snapshot | None:
        """See `Store.load_snapshot`."""
        row = await self._row(self._sql.load, findable(session_id))
        return Snapshot(sequence=row[0], version=row[1], body=row[2]) if row else None

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """See `Store.sessions`. Of two written at the same instant, the one created later comes first."""
        return [head_row(row) for row in await self._rows(self._sql.heads, bounded(limit), bounded(offset))]

    async def put_blob(self, data: bytes) -> str:
        """See `Store.put_blob`."""
        self._ready()
        content = checked(bytes(data))
        digest: str = await _off_the_loop(digest_of, content, len(content))
        await self._row(self._sql.keep, digest, content)
        return digest

    async def get_blob(self, digest: str) -> bytes:
        """See `Store.get_blob`."""
        row = await self._row(self._sql.blob, findable(digest))
        if row is None:
            raise UnknownBlob(f"no blob {digest!r} in {self._server}")
        content: bytes = row[0]
        if await _off_the_loop(digest_of, content, len(content)) != digest:
            raise StoreCorrupt(f"the bytes of blob {digest} in {self._server} have changed; restore a backup")
        return content

    async def account(self, name: str) -> Account:
        """See `Accounting.account`."""
        check_account(name)
        row = await self._row(self._sql.account, name)
        used, raised, reserved, keys = row
        return Account(name=name, used=used, reserved=reserved, raised=raised, keys=tuple(keys))

    async def accounts(self, prefix: str = "", *, limit: int = 1_000) -> list[Account]:
        """See `Accounting.accounts`."""
        rows = await self._rows(self._sql.accounts, as_it_is(prefix), bounded(limit))
        return [Account(name=row[0], used=row[1], raised=row[2], reserved=row[3]) for row in rows]

    async def holding(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[Account]:
        """See `Accounting.holding`."""
        rows = await self._rows(self._sql.holding, as_it_is(prefix), as_it_is(after), bounded(limit))
        return [
            Account(name=name, used=used, raised=raised, reserved=reserved, keys=tuple(keys))
            for name, used, raised, keys, reserved in rows
        ]

    async def enter(self, entries: Sequence[Entry]) -> None:
        """See `Accounting.enter`."""
        check_alone(entries)
        if entries:
            await self._server.ask(self._ready().pool, partial(enter, self._sql.enter, entries))

    async def raise_account(self, name: str, amount: Decimal) -> Account:
        """See `Accounting.raise_account`. When the server stays away in the middle, it may have been done."""
        check_raise(name, amount)
        await self._row(self._sql.raise_account, name, amount, uuid4())
        return await self.account(name)

    async def enlist(self, listing: Listing) -> bool:
        """See `Rostering.enlist`."""
        return await self._row(self._sql.enlist, *row_of(listing)) is not None

    async def roster(self) -> list[Listing]:
        """See `Rostering.roster`."""
        return read_rows(row[0] for row in await self._rows(self._sql.roster))

    async def _row(self, statement: str, *arguments: object) -> Any:
        return await self._server.ask(
            self._ready().pool, lambda connection: connection.fetchrow(statement, *arguments)
        )

    async def _rows(self, statement: str, *arguments: object) -> list[Any]:
        rows: list[Any] = await self._server.ask(
            self._ready().pool, lambda connection: connection.fetch(statement, *arguments)
        )
        return rows

    def _ready(self) -> _Live:
        live = self._live
        if live is None:
            raise closed()
        if live.process != os.getpid():
            raise StoreClosed(
                f"{self._server} was opened by process {live.process} and this is its fork {os.getpid()}; a store "
                "does not survive fork(): open one here"
            )
        return live


class _Live(Struct, frozen=True, kw_only=True):
    """What an open store holds."""

    process: int
    server: PostgresServer
    pool: Any
    lent: Any
    writer: PostgresWriter
    listener: PostgresListener

    async def let_go(self) -> None:
        """Close for good, the writer first: it has promises to keep."""
        await self.listener.stop()
        await self.writer.finish()
        try:
            async with asyncio.timeout(LEAVING):
                await asyncio.gather(self.pool.close(), self.lent.close(), self.server.settle())
        except TimeoutError:
            self.pool.terminate()
            self.lent.terminate()


def _decoded(bodies: list[bytes]) -> list[Event]:
    return [decode_event(body) for body in bodies]


async def _off_the_loop(work: Callable[[A], T], argument: A, size: int) -> T:
    """Work on so many bytes, in a thread when they are many."""
    return work(argument) if size <= HERE else await asyncio.to_thread(work, argument)
