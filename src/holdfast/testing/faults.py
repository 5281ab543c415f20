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
from functools import partial
from typing import Literal, TypeVar

from holdfast.errors import StoreError
from holdfast.events import Event
from holdfast.store import Store
from holdfast.testing.simulation import Standstill, crash
from holdfast.testing.wrapped import Operation, WrappedStore

T = TypeVar("T")


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
