"""Stragglers: work that was told to stop and goes on.

A tool, a model's driver or a hook runs in a task of its own. When it is told to stop (the turn is cancelled, the
runtime closes, its time is over) it has `GRACE` seconds to do so. What goes on after that is a straggler: nobody waits
for it, what comes of it is dropped, and it is counted here until it ends. A plain function runs in a thread, which
nothing can stop: it is one as soon as its grace is over.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future, Task
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

GRACE = 0.25
"""Seconds that work has to end once it was told to."""

log = logging.getLogger(__name__)


class OutOfTime(TimeoutError):
    """Work took longer than it may; `stopped` says whether it ended when it was told to."""

    def __init__(self, *, stopped: bool) -> None:
        super().__init__()
        self.stopped = stopped


class Stragglers:
    """Runs the work of others, and keeps count of what does not stop."""

    def __init__(self) -> None:
        self._left: dict[Future[Any], str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What goes on although it was told to stop, the oldest first."""
        return tuple(self._left.values())

    async def run(
        self, name: str, of: str, work: Callable[[], Awaitable[T]], seconds: float | None = None
    ) -> T:
        """What the work returns or raises. `name` and `of` say in a log what it is.

        Raises `OutOfTime` when it takes longer than `seconds`. Cancelling stops the work; when it ends within its grace
        with a value all the same, that is returned.
        """
        context, threads = copy_context(), list[Future[Any]]()
        context.run(_THREADS.set, threads)
        task = asyncio.get_running_loop().create_task(_carry_out(work), name=name, context=context)
        late = False
        try:
            late = not await _in_time(task, seconds)
            if late:
                await self._part(f"{name} of {of}", task, threads)
        except asyncio.CancelledError:
            if not late:
                task.cancel()
                await self._part(f"{name} of {of}", task, threads)
            if late or not task.done() or task.cancelled():
                raise
        if late and (not task.done() or task.cancelled()):
            raise OutOfTime(stopped=task.done() and all(thread.done() for thread in threads))
        value: T = _result(task, context)
        return value

    async def _part(self, what: str, task: Task[Any], threads: list[Future[Any]]) -> None:
        """Wait for work that was told to stop, for its grace at most."""
        loop = asyncio.get_running_loop()
        end = loop.time() + GRACE
        try:
            await asyncio.wait((task,), timeout=GRACE)
            if threads:
                await asyncio.wait(threads, timeout=max(end - loop.time(), 0.0))
        finally:
            for future in (task, *threads):
                if not future.done():
                    self._keep(what, future)

    def _keep(self, what: str, future: Future[Any]) -> None:
        self._left[future] = what
        future.add_done_callback(self._ended)
        log.warning("%s was told to stop and goes on; what comes of it will be dropped", what)

    def _ended(self, future: Future[Any]) -> None:
        what = self._left.pop(future)
        if not future.cancelled():
            future.exception()  # looked at, so that nobody else reports it
        log.info("%s has ended; what came of it was dropped", what)

    async def end(self) -> None:
        """Tell all that are left to stop once more, and leave them to themselves after their grace."""
        if not self._left:
            return
        for future in self._left:
            if isinstance(future, Task):
                future.cancel()
        await asyncio.wait(list(self._left), timeout=GRACE)
        for what in self.names:
            log.warning("%s still goes on while its runtime closes, and nobody waits for it any more", what)


_THREADS: ContextVar[list[Future[Any]] | None] = ContextVar("threads", default=None)
"""Threads that outlive the work being carried out, by the futures that end with them."""


def outlives(thread: Future[Any]) -> None:
    """Say that a thread goes on, until this future ends, although who waited for it was told to stop."""
    threads = _THREADS.get()
    if threads is not None:
        threads.append(thread)


async def _in_time(task: Task[Any], seconds: float | None) -> bool:
    """Wait for the task; whether it ended within so many seconds, after which it is cancelled."""
    loop = asyncio.get_running_loop()
    over: Future[None] = loop.create_future()
    late = False

    def settle(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    def stop() -> None:
        nonlocal late
        late = task.cancel()
        settle()

    task.add_done_callback(settle)
    timer = None if seconds is None else loop.call_later(seconds, stop)
    try:
        await over
    finally:
        task.remove_done_callback(settle)
        if timer is not None:
            timer.cancel()
    return not late


async def _carry_out(work: Callable[[], Awaitable[T]]) -> tuple[T | None, SystemExit | None]:
    try:
        return await work(), None
    except SystemExit as error:  # out of a task it would end the loop
        return None, error


def _result(task: Task[Any], context: Context) -> Any:
    """What came of it. What it set in its context is seen by what comes after it, as if it had been called."""
    for variable, value in context.items():
        if variable is not _THREADS and variable.get(None) is not value:
            variable.set(value)
    value, error = task.result()
    if error is not None:
        raise error
    return value
