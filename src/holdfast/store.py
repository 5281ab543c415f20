"""The contract of a store: where logs, blobs, leases and snapshots sleep.

Every store passes the suite in `holdfast.testing.store_contract`.

A session has one writer at a time. Whoever claims it gets an *epoch*, above all before it, and appends under it; an
older epoch is refused, so a writer that slept too long can do no harm. A *lease* keeps others from claiming while the
writer is at work. It runs on the store's own clock, never on the wall clock of whoever asks, is renewed by every append
and by `renew`, and let go by an append that says so. A store in a process or a file counts on a clock that nobody sets.
One on a server has the server's clock only: when that is set forward or back, leases end sooner or later by as much. No
log is harmed by it: the lease is a courtesy between writers; the epoch is the lock.

Whoever is not the writer can leave a *letter*: a fact it wants recorded (an input, an answer, the end of a turn). The
writer takes letters in; an append says which, and they are gone in the same transaction.
"""

from __future__ import annotations

import hashlib
from asyncio import Future
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct

from holdfast.errors import AccountsUnsupported, RosterUnsupported, TransactionUnsupported
from holdfast.events import Event
from holdfast.facts.budgets import EXACT


class Head(Struct, frozen=True, kw_only=True):
    """Where a session's log stands."""

    session_id: str
    sequence: int
    """The last event's number."""
    epoch: int
    """Of the writer that may append. An older writer is refused."""
    created_at: datetime
    updated_at: datetime


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """A change of an account, made with an append or not at all.

    `reserve` sets an amount aside under a key; a key that has something set aside already stays as it is. `settle` puts
    what was used in the place of what the key has set aside, and does nothing when that is nothing. `spend` uses it.
    """

    kind: Literal["reserve", "settle", "spend"]
    account: str
    amount: Decimal
    key: str = ""
    ceiling: Decimal | None = None
    """The append is refused (`AccountExceeded`) when the account would have used and set aside more than this, and
    what it was raised by. Where the amount is 0: when that much is used and set aside already."""


class Account(Struct, frozen=True, kw_only=True):
    """Where an account stands."""

    name: str
    used: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)
    """Set aside for what is under way."""
    raised: Decimal = Decimal(0)
    """What was added to every ceiling on it."""
    keys: tuple[str, ...] = ()
    """Those that have something set aside, in order."""

    def has_room(self, amount: Decimal, ceiling: Decimal) -> bool:
        """Whether so much more fits below this ceiling; of nothing more, whether anything would."""
        used, limit = EXACT.add(self.used, self.reserved), EXACT.add(self.raised, ceiling)
        return EXACT.add(used, amount) <= limit and (bool(amount) or used < limit)


class Terms(Struct, frozen=True, kw_only=True, gc=False):
    """What an append says, in the same transaction, about its session's lease and about when something is owed."""

    owner: str = ""
    """Who writes: one name per process. Empty when nobody needs to know."""
    hold: float = 0.0
    """Seconds from now for which nobody else may claim the session; 0 lets go of it."""
    due: datetime | None = None
    """From when on the session has work that any worker may take up; None when only an input or an answer can go on."""
    taken: tuple[int, ...] = ()
    """Numbers of the letters that these events answer; gone with this append."""
    entries: tuple[Entry, ...] = ()
    """What changes on accounts. A store that is no `Accounting` is never given any."""


FREE = Terms()
"""Nobody holds the session, and nothing is owed."""


class Letter(Struct, frozen=True, kw_only=True):
    """A fact that somebody else than the writer wants recorded, until the writer has dealt with it."""

    number: int
    """Its place among the letters of this store, the older the smaller."""
    event: Event
    """With sequence 0: it has no place in the log yet."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """A state kept to save folding: never the truth, and worth nothing once its version is not ours."""

    sequence: int
    version: int
    body: bytes


class Problem(Struct, frozen=True, kw_only=True):
    """Something wrong that looking through a whole store found."""

    kind: Literal["damage", "gap", "event", "chain", "letter", "blob", "lease", "snapshot", "account"]
    """What it is about: the file itself; events that are missing; one that cannot be read or is not where it
    belongs; one that is not what was written there; a letter that cannot be read or is for nobody; a blob whose bytes
    changed; a lease that outlived its clock; a snapshot of what is not there; an amount on an account that is none."""
    where: str
    """A session, a session and the events in it (`session_…:4`, `session_…:4-9`) or a letter to it
    (`session_…:letter 7`), a blob's digest, or the file."""
    message: str


class Store(Protocol):
    """Logs, letters, blobs, leases and snapshots. Methods raise `StoreError`."""

    async def open(self) -> None:
        """Make ready; create or migrate what is needed."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go. Closing twice is fine."""
        ...

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """Append events in one transaction; the future ends when they are durable, or with the reason they are not.

        `expected` is the sequence before the first event (0 creates the session, with epoch 1). Appends of one
        caller are carried out in the order of the calls, so several may be under way. A refused append
        (`SequenceConflict`, `StaleEpoch`) writes nothing. Raises `NotEncodable` before anything is accepted. Cancelling
        whoever awaits the future does not undo the append. `terms` replace the session's lease and due time; an append
        under the current epoch is never refused for a lease that ran out.
        """
        ...

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        """Events with a sequence above `after`, in order, at most `limit`. An unknown session has none.

        A store that others can get at chains the events of a session (each row has a digest of its event and of the
        chain before it), and holds what it returns against that. Raises `StoreCorrupt` when an event cannot be read, is
        missing, also the one before the first, or is not the one that was written there.
        """
        ...

    async def head(self, session_id: str) -> Head | None:
        """Where this session stands; None when it does not exist."""
        ...

    async def claim(self, session_id: str, *, owner: str = "", hold: float = 0.0) -> int:
        """Become the writer: a new epoch, above all before it, held for `hold` seconds in the name of `owner`.

        Raises `UnknownSession`, and `SessionHeld` while another owner's lease runs. An owner may claim anew what it
        holds itself. `hold` must not be negative (`UsageError`).
        """
        ...

    async def renew(self, owner: str, hold: float) -> None:
        """Hold every session whose lease this owner has, and which has not run out, for `hold` seconds from now."""
        ...

    async def due(self, now: datetime, *, limit: int = 100) -> list[str]:
        """Sessions that nobody holds and whose due time has come, the longest due first, and those with letters."""
        ...

    async def post(self, session_id: str, event: Event) -> None:
        """Leave a letter for whoever writes this session now or next; it is durable when this returns.

        Asks for no lease and no epoch. Raises `UnknownSession`, `NotEncodable`.
        """
        ...

    async def letters(self, session_id: str) -> list[Letter]:
        """The letters nobody has taken yet, the oldest first."""
        ...

    async def posted(self, owner: str) -> list[str]:
        """Sessions with letters that nobody but this owner holds. It is asked several times a second."""
        ...

    async def discard(self, session_id: str, numbers: Sequence[int], *, epoch: int) -> None:
        """Throw these letters away unanswered: they came too late. Raises `StaleEpoch`; numbers long gone are fine."""
        ...

    async def woken(self, seconds: float, since: int | None = None) -> int:
        """Return when something may have been written by anybody, or after so many seconds. May return early.

        What it returns says up to where the store was seen. Whoever gives that back as `since` next time misses
        nothing: a write after that call returned ends this one at once, however many wait and whoever was woken by it
        before. Without `since` only writes from now on count. It is good for as long as the store stays open.

            seen = await store.woken(0)
            while not await come_true():
                seen = await store.woken(5.0, seen)
        """
        ...

    async def owners(self) -> list[str]:
        """Names of those who hold a session now, in any order. An empty name is left out. It is asked now and then."""
        ...

    async def save_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """Keep this snapshot in place of an older one; an unknown session or an older sequence is passed over."""
        ...

    async def load_snapshot(self, session_id: str) -> Snapshot | None:
        """The newest snapshot kept, if any."""
        ...

    async def sessions(self, *, limit: int = 100, offset: int = 0) -> list[Head]:
        """Sessions, the most recently written first."""
        ...

    async def put_blob(self, data: bytes) -> str:
        """Keep these bytes and return their digest once they are durable. The same bytes are kept once.

        Where bytes under this digest are no longer what they were, these take their place.
        """
        ...

    async def get_blob(self, digest: str) -> bytes:
        """The bytes with this digest. Raises `UnknownBlob`, or `StoreCorrupt` when they do not match it."""
        ...


@runtime_checkable
class Accounting(Protocol):
    """A store that keeps accounts, which many sessions share and appends change. Optional; ours all do."""

    async def account(self, name: str) -> Account:
        """Where this account stands. One that nothing was ever entered on stands at 0."""
        ...

    async def accounts(self, prefix: str = "", *, limit: int = 1_000) -> list[Account]:
        """Accounts whose names begin with this, by name, without their keys."""
        ...

    async def holding(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[Account]:
        """Accounts whose names come after `after`, by name, on which something is set aside under keys that begin with
        this; of their keys those. It is asked every few seconds."""
        ...

    async def enter(self, entries: Sequence[Entry]) -> None:
        """Make these entries, all or none, in a transaction of their own: only reservations, and what settles them,
        which may be made twice. Raises `AccountExceeded`, `UsageError`."""
        ...

    async def raise_account(self, name: str, amount: Decimal) -> Account:
        """Add this to every ceiling on the account (less than 0 takes it away); where it stands then, durably."""
        ...


class Listing(Struct, frozen=True, kw_only=True):
    """What became of an agent or a harness in this store. One that was never listed is active."""

    kind: Literal["agent", "harness"]
    name: str
    status: Literal["active", "archived", "deleted"]
    at: datetime
    by: str = ""
    reason: str = ""


@runtime_checkable
class Rostering(Protocol):
    """A store that knows which agents and harnesses are out of use. Optional; ours all do."""

    async def enlist(self, listing: Listing) -> bool:
        """Put this listing in place of the one before, durably; False, and nothing, where that says `deleted`, which is
        for good. Raises `UsageError` for text that cannot be kept."""
        ...

    async def roster(self) -> list[Listing]:
        """All listings, by kind and name. It is asked several times a second."""
        ...


class Database(Protocol):
    """What `ctx.transaction()` lends to a tool: the database that the log is in."""

    async def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows. Values are named as the database does it: `?` or `?1` in SQLite, `$1`
        in Postgres. A later statement sees what an earlier one wrote.

        What the database has against a statement is raised as its library says it (`apsw.Error`,
        `asyncpg.PostgresError`). Raises `TransactionLost` when everything was rolled back meanwhile, `StoreLocked` when
        others kept the database for too long, and `UsageError` for `COMMIT` and the like, or after the block's end.
        """
        ...


class Transaction(Database, Protocol):
    """A transaction that the first statement begins, and that one append to a log ends.

    First `execute`, as often as needed; then `seal`; then `append`. At any time `roll_back`.
    """

    async def seal(self) -> bool:
        """Nothing more is executed; what could keep it from being committed is raised now. False when nothing began."""
        ...

    def append(
        self, session_id: str, events: Sequence[Event], *, expected: int, epoch: int, terms: Terms = FREE
    ) -> Future[None]:
        """As `Store.append`, in its order with the store's other appends, and commit: everything, or nothing."""
        ...

    async def roll_back(self) -> None:
        """Undo everything, unless `append` was called. Doing it twice is fine."""
        ...


@runtime_checkable
class Transactional(Protocol):
    """A store that can lend its database to a tool. Optional; `SQLiteStore` and `PostgresStore` can."""

    def transaction(self) -> Transaction:
        """A new one, which has not begun."""
        ...


def transaction_of(store: Store) -> Transaction:
    """A new transaction of this store; raises `TransactionUnsupported` when it has none."""
    if not isinstance(store, Transactional):
        raise TransactionUnsupported(
            f"{type(store).__name__} has no transactions for tools; keep the log in a SQLiteStore or a PostgresStore, "
            "in the database that the tool writes to"
        )
    return store.transaction()


def accounting_of(store: Store) -> Accounting:
    """This store's accounts; raises `AccountsUnsupported` when it keeps none."""
    if not isinstance(store, Accounting):
        raise AccountsUnsupported(
            f"{type(store).__name__} keeps no accounts, which budgets of principals and organisations and rates need; "
            "use a MemoryStore, a SQLiteStore or a PostgresStore"
        )
    return store


def rostering_of(store: Store) -> Rostering:
    """This store's roster; raises `RosterUnsupported` when it keeps none."""
    if not isinstance(store, Rostering):
        raise RosterUnsupported(
            f"{type(store).__name__} keeps no roster of agents, which archiving needs; use MemoryStore, SQLiteStore "
            "or PostgresStore"
        )
    return store


def digest_of(data: bytes) -> str:
    """The name of a blob: `sha256:` and the hex digest of its bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
