"""Stores that fail. Each stands before any other store, and is one.

    CrashingStore(store, append=3, side="after")     the simulated process dies there
    FailingStore(store, StoreFull(), at=2)           the second append is refused
    SlowStore(store, 0.5)                            every append is answered half a second late

What a dead process leaves is what the store behind it holds: a `MemoryStore` survives its runtime as a disk does.
"""

from __future__ import annotations

import asyncio
import math
from asyncio import Future
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Literal, TypeVar

from holdfast.errors import StoreError
from holdfast.events import Event
from holdfast.store import FREE, Head, Letter, Snapshot, Store, Terms, Transaction, transaction_of
from holdfast.testing.simulation import Standstill, crash, is_dead

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


class CrashingStore(WrappedStore):
    """The simulated process that uses it dies at its n-th `append`.

    `before`: that append is never handed over. `after`: it is durable, and nobody is told. Run it in a `Simulation`.
    """

    def __init__(self, store: Store, *, append: int, side: Literal["before", "after"] = "before") -> None:
        super().__init__(store)
        self._at = append
        self._side = side
        self.appends = 0
        """Appends so far."""

    def hand_over(self, events: Sequence[Event], write: Callable[[], Future[None]]) -> Future[None]:
        """Die here, or append."""
        self.appends += 1
        if self.appends != self._at:
            return write()
        return die_at(self._side, f"append {self.appends} ({kinds_of(events)})", write)


def die_at(side: str, what: str, write: Callable[[], Future[None]]) -> Future[None]:
    """Die before this append is handed over, or once it is durable."""
    if side == "before":
        return crash(f"before {what}")
    written = write()
    if written.done():
        return crash(f"after {what}")
    written.add_done_callback(lambda _: crash(f"after {what}"))
    return written.get_loop().create_future()


def kinds_of(events: Sequence[Event]) -> str:
    """What kinds of events these are, in words."""
    return ", ".join(event.type for event in events)


class Boundaries:
    """The places at which a process can be killed, counted as it comes by; it dies at the one it is told to.

    Two places between which nothing was written and nothing was done leave the same behind: they count as one.
    """

    def __init__(self, at: int = 0, *, first: bool = True) -> None:
        self._at = at
        self._changed = first
        """Whether it would make a difference to die here and not at the last one. It does for the `first` process,
        which has nothing to go on with yet."""
        self.crossed = 0

    def change(self) -> None:
        """Something is written, or a tool begins to run, or has run."""
        self._changed = True

    def here(self) -> bool:
        """Whether this is where the process dies."""
        if not self._changed:
            return False
        self._changed = False
        self.crossed += 1
        return self.crossed == self._at

    async def cross(self, where: str) -> None:
        """Go on, or die."""
        if self.here():
            await crash(where)


class BoundedStore(WrappedStore):
    """A store whose process can be killed before and after everything it writes."""

    def __init__(self, store: Store, boundaries: Boundaries) -> None:
        super().__init__(store)
        self._boundaries = boundaries
        self._writes: Counter[str] = Counter()

    def hand_over(self, events: Sequence[Event], write: Callable[[], Future[None]]) -> Future[None]:
        """Append; there is a boundary before and one after it."""
        self._writes["append"] += 1
        if self._writes["append"] > APPENDS:
            raise Standstill(f"{APPENDS:,} appends in one process; the last was of {kinds_of(events)}")
        for side in ("before", "after"):
            if self._boundaries.here():
                return die_at(side, f"append {self._writes['append']} ({kinds_of(events)})", write)
            if side == "before":
                self._boundaries.change()
        return write()

    async def carry_out(self, operation: Operation, work: Callable[[], Awaitable[T]]) -> T:
        """Do it; there is a boundary before and one after what writes."""
        if operation not in _WRITES:
            return await work()
        self._writes[operation] += 1
        what = f"{operation} {self._writes[operation]}"
        await self._boundaries.cross(f"before {what}")
        done = await work()
        self._boundaries.change()
        await self._boundaries.cross(f"after {what}")
        return done


APPENDS = 10_000
"""Appends after which a process in a crash test is taken to go round in circles."""

_WRITES = ("claim", "post", "discard", "save_snapshot", "put_blob")


class FailingStore(WrappedStore):
    """The `at`-th operation of this kind raises `error`, and so do those after it, `times` in all.

    None as `times` means from then on for ever. With `done` it is carried out and only its answer is lost, which is
    what `OutcomeUnknown` is for; else nothing happens.
    """

    def __init__(
        self,
        store: Store,
        error: StoreError,
        *,
        at: int = 1,
        times: int | None = 1,
        operation: Operation = "append",
        done: bool = False,
    ) -> None:
        super().__init__(store)
        self._error = error
        self._first = at
        self._times = times
        self._operation = operation
        self._done = done
        self._asked = 0
        self.failed = 0
        """How often it failed so far. 0 at the end of a test says that it never got that far."""

    def hand_over(self, events: Sequence[Event], write: Callable[[], Future[None]]) -> Future[None]:
        """Append, or fail."""
        if not self._fails("append"):
            return write()
        answer: Future[None] = asyncio.get_running_loop().create_future()
        if self._done:
            write().add_done_callback(lambda written: self._lose(answer, written))
        else:
            answer.set_exception(self._error)
        return answer

    async def carry_out(self, operation: Operation, work: Callable[[], Awaitable[T]]) -> T:
        """Do it, or fail."""
        if not self._fails(operation):
            return await work()
        if self._done:
            await work()
        raise self._error

    def _fails(self, operation: Operation) -> bool:
        if operation != self._operation:
            return False
        self._asked += 1
        since = self._asked - self._first
        failing = since >= 0 and (self._times is None or since < self._times)
        self.failed += failing
        return failing

    def _lose(self, answer: Future[None], written: Future[None]) -> None:
        if not answer.done():
            answer.set_exception(written.exception() or self._error)


class SlowStore(WrappedStore):
    """Every append is answered `seconds` late, though done at once. Answers keep their order."""

    def __init__(self, store: Store, seconds: float) -> None:
        super().__init__(store)
        self._seconds = seconds
        self._last: Future[None] | None = None
        self._at = 0.0

    def hand_over(self, events: Sequence[Event], write: Callable[[], Future[None]]) -> Future[None]:
        """Append, and say so later."""
        written = write()
        loop = asyncio.get_running_loop()
        answer: Future[None] = loop.create_future()
        self._at = max(loop.time() + self._seconds, math.nextafter(self._at, math.inf))
        loop.call_at(self._at, written.add_done_callback, partial(_pass_on, answer))
        self._last = answer
        return answer

    async def open(self) -> None:
        """Open the store behind. Answers that were due to a process before are due no more."""
        if self._last is not None and self._last.get_loop() is not asyncio.get_running_loop():
            self._last, self._at = None, 0.0
        await super().open()

    async def close(self) -> None:
        """Give the answers that are due, then close."""
        if self._last is not None:
            await asyncio.wait((self._last,))
        await super().close()


def _pass_on(answer: Future[None], written: Future[None]) -> None:
    if answer.done():
        return
    error = written.exception()
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)
