"""Virtual time: nobody waits for a timer, and a test of an hour takes a moment.

    def test_a_retry_waits() -> None:
        async def main() -> None:
            async with Runtime(clock=VirtualClock()) as runtime: ...

        run_virtual(main())

On a `VirtualLoop` time stands still while anything can run, and jumps to the next timer when nothing can. Threads,
sockets and child processes work as ever, in real time.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakSet

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SURE = 10.0
"""Real seconds that are waited for what is sure to be reported."""

START = datetime(2026, 1, 1, tzinfo=UTC)
"""What a `VirtualClock` shows when its loop begins."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` begins at 0 and jumps to the next timer as soon as nothing else is left to do.

    As long as something outside may still report (a job in the loop's own executor, a thread started since, a socket or
    pipe), it gets `patience` real seconds to do so, or what is left to the timer if that is less, before time jumps.
    What is sure to be reported gets `SURE` seconds, so that no timer comes before it on a slow machine: a job in an
    executor that was given, and what a thread with a number `owed` says it has still to report. Whoever has such a
    thread counts on the loop's thread: up when it is given something to do, down when it has reported; nothing is
    expected of it while that is 0.
    """

    def __init__(self, *, patience: float = 0.1) -> None:
        self._virtual = 0.0
        self._patience = patience
        self._jobs = set[asyncio.Future[Any]]()
        self._sure = set[asyncio.Future[Any]]()
        # Nothing is expected from threads that were there before, nor from an executor's, whose jobs are counted.
        self._quiet = WeakSet(threading.enumerate())
        self._files = _JumpingSelector(self)
        super().__init__(self._files)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Let so much time have passed. Timers that are due by then run next."""
        self._virtual += seconds

    def patience_for(self, seconds: float) -> float:
        """Real seconds to wait for the world outside before a jump of this length."""
        # A thread that does not count may report something as long as it lives.
        owed = [
            getattr(thread, "owed", None) for thread in threading.enumerate() if thread not in self._quiet
        ]
        if self._sure or any(owed):
            return min(seconds, max(self._patience, SURE))
        sockets = len(self._files.get_map()) > 1  # the first is how a thread wakes the loop
        return min(seconds, self._patience) if self._jobs or sockets or None in owed else 0.0

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """See `asyncio.AbstractEventLoop.run_in_executor`."""
        before = set(threading.enumerate())
        job: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._quiet.update(set(threading.enumerate()) - before)
        jobs = self._jobs if executor is None else self._sure
        jobs.add(job)
        job.add_done_callback(jobs.discard)
        return job


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for files as ever, but not for timers."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        happened = super().select(self._loop.patience_for(timeout))
        if not happened:
            self._loop.jump(timeout)
        return happened


class VirtualClock:
    """A `Clock` that follows the running event loop: `start` plus its `time()`."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start

    def now(self) -> datetime:
        """The loop's time as an instant, in UTC. Ask on the loop's own thread."""
        return self._start + timedelta(seconds=asyncio.get_running_loop().time())


def run_virtual(main: Coroutine[Any, Any, T], *, patience: float = 0.1) -> T:
    """Run `main` on a `VirtualLoop` of its own and return its result, as `asyncio.run` does on a real one."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(patience=patience)) as runner:
        return runner.run(main)
