"""A simulated process: virtual time, an order of events that a seed decides, and a death that nobody survives.

    def test_no_seat_is_booked_twice() -> None:
        for seed in range(200):
            Simulation(seed).run(main())

The same seed gives the same order of steps, another seed another one: each is something that could have happened.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from hashlib import blake2b
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from holdfast.errors import UsageError
from holdfast.testing.clock import VirtualLoop

T = TypeVar("T")

DELAYED = 0.25
"""How many of the tasks that could take a step wait, by chance, while others take theirs."""

STANDSTILL = 100_000
"""Steps at one instant after which a process is taken to go round in circles."""

_Handle = Any
"""An `asyncio.Handle`, whose callback has no public name."""


class Crash(BaseException):
    """A simulated process died `where` it says: no task of it takes another step, and no handler sees this.

    What its store had made durable is all that is left. Its frames are let go with `GeneratorExit`, so a `finally` in
    them runs as far as its first `await`; a store of `holdfast.testing.faults` takes nothing from it any more.
    """

    def __init__(self, where: str) -> None:
        super().__init__(f"the simulated process died {where}")
        self.where = where


class Standstill(Exception):
    """A simulated process took a hundred thousand steps while no time passed: it goes round in circles."""


def crash(where: str) -> asyncio.Future[Any]:
    """Let the simulated process that calls this die at once. Await (or return) what you get: it never ends.

    Raises `UsageError` outside of `Simulation.run`.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SimulatedLoop):
        raise UsageError("only a simulated process can die here; run it with Simulation(seed).run(...)")
    loop.halt(Crash(where))
    return loop.create_future()


def is_dead() -> bool:
    """Whether the process that asks has died: it is about to come to its next `await`, or is being let go."""
    loop = asyncio.get_running_loop()
    return isinstance(loop, SimulatedLoop) and loop.halted


class Simulation:
    """A world in which processes run one after another, in virtual time and under one source of chance.

    Each `run` is a process with an event loop of its own. Time goes on where the process before it ended.
    """

    def __init__(self, seed: int = 0, *, patience: float = 0.1) -> None:
        self.seed = seed
        self.now = 0.0
        """Virtual seconds since this world began."""
        self._patience = patience
        self._chance = random.Random(seed)
        self._trace = blake2b(digest_size=8)

    def __repr__(self) -> str:
        return f"Simulation({self.seed})"

    @property
    def trace(self) -> str:
        """A digest of every step so far: what ran, when, and in which order. Equal traces took the same way."""
        return self._trace.hexdigest()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a process to its end and return its result. What it raises carries the seed as a note.

        Raises `Crash` when the process died, `Standstill` when it goes round in circles, and `UsageError` inside of a
        coroutine, which has a loop already.
        The `random` module gives the same numbers for the same seed meanwhile.
        """
        if asyncio._get_running_loop() is not None:
            main.close()
            raise UsageError(
                "a simulated process has an event loop of its own; start it in a plain function, not in a coroutine"
            )
        loop = SimulatedLoop(self._chance, self._trace.update, start=self.now, patience=self._patience)
        runner = asyncio.Runner(loop_factory=lambda: loop)
        try:
            with _seeded(self._chance.getrandbits(64)):
                return runner.run(main)
        except BaseException as error:
            if loop.halted:
                loop.bury()
            if not isinstance(error, Crash):
                error.add_note(f"This happened in {self!r}; the same seed takes the same way again.")
            raise
        finally:
            self.now = loop.time()
            runner.close()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


class SimulatedLoop(VirtualLoop):
    """A `VirtualLoop` on which tasks that are ready at the same time take their steps in an order that chance decides.

    Some have to wait while others go on. Every other callback keeps its place: a task may be late for one, never early.
    """

    def __init__(
        self,
        chance: random.Random,
        note: Callable[[bytes], None],
        *,
        start: float = 0.0,
        patience: float = 0.1,
    ) -> None:
        super().__init__(patience=patience)
        self.jump(start)
        self._numbers: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._made = 0
        """Tasks so far."""
        self._chance = chance
        self._note = note
        self._end: Crash | Standstill | None = None
        self._instant = start
        self._steps = 0
        """At this instant."""
        self._ready = _Ready(self)  # what the event loop takes its next callback from

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """See `asyncio.AbstractEventLoop.create_task`. A task without a name is named by its place among all."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        self._made += 1
        self._numbers[task] = self._made
        if options.get("name") is None:
            task.set_name(f"{getattr(coro, '__qualname__', 'task')} {self._made}")
        return task

    def halt(self, end: Crash | Standstill) -> None:
        """Run nothing after the present step; `run_until_complete` raises this."""
        if self._end is None:
            self._end = end
            self.call_soon(int)  # so that there is a next step, which does not take place

    @property
    def halted(self) -> bool:
        """Whether nothing runs here any more."""
        return self._end is not None

    def bury(self) -> None:
        """Let go of all that a dead process had in hand, and be an empty loop again."""
        self.set_exception_handler(lambda *_: None)
        asyncio._set_running_loop(self)  # for what coroutines do on their way out
        try:
            while tasks := asyncio.all_tasks(self):
                for task in tasks:
                    asyncio.tasks._unregister_task(task)
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # nobody will finish it
                    if inspect.iscoroutine(coro := task.get_coro()):
                        Context().run(_close, coro)
        finally:
            asyncio._set_running_loop(None)
        self._ready.clear()
        self._scheduled.clear()  # type: ignore[attr-defined]
        self._end, self._steps = None, 0

    def step(self, handle: _Handle) -> None:
        """Note that this callback runs next. Raises what a dead process died of."""
        if self._end is not None:
            raise self._end
        task = _task_of(handle)
        who = task.get_name() if task is not None else _name_of(handle)
        now = self.time()
        self._note(f"{now:.9f} {who}\n".encode())
        self._steps = self._steps + 1 if now == self._instant else 0
        self._instant = now
        if self._steps > STANDSTILL:
            self.halt(Standstill(f"{STANDSTILL:,} steps at {now:.3f} s; the last was one of {who}"))

    def mixed(self, handles: list[_Handle]) -> tuple[list[_Handle], list[_Handle]]:
        """What is ready at the same time: what runs now, in order, and what has to wait for the next round."""
        order: list[_Handle] = []
        late: list[_Handle] = []
        for handle in handles:
            if _task_of(handle) is not None:
                late.append(handle)
                continue
            order += self._some_of(late)
            order.append(handle)
        self._shuffle(late)
        count = sum(self._chance.random() < DELAYED for _ in late)
        return order + late[count:], late[:count]

    def _some_of(self, late: list[_Handle]) -> list[_Handle]:
        """Take some of these task steps out, by chance."""
        self._shuffle(late)
        count = self._chance.randint(0, len(late)) if late else 0
        taken = late[:count]
        del late[:count]
        return taken

    def _shuffle(self, steps: list[_Handle]) -> None:
        if len(steps) > 1:
            steps.sort(key=self._number)  # they may come out of a set, whose order no seed decides
            self._chance.shuffle(steps)

    def _number(self, handle: _Handle) -> int:
        task = _task_of(handle)
        return self._numbers.get(task, 0) if task is not None else 0


class _Ready(deque[_Handle]):
    """The callbacks that are ready. The loop takes out one round of them at a time, from the left."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop
        self._left = 0
        """Callbacks of the present round that are still here."""
        self._nothing = asyncio.Handle(int, (), loop)

    def popleft(self) -> _Handle:
        if not self._left:
            self._left = len(self)
            if self._left > 1:
                found = [super(_Ready, self).popleft() for _ in range(self._left)]
                now, later = self._loop.mixed(found)
                self.extendleft(self._nothing for _ in later)  # the loop takes out as many as there were
                self.extendleft(reversed(now))
                self.extend(later)
        self._left -= 1
        handle = super().popleft()
        self._loop.step(handle)
        return handle

    def clear(self) -> None:
        super().clear()
        self._left = 0


def _task_of(handle: _Handle) -> asyncio.Task[Any] | None:
    """The task whose step this callback is, if it is one."""
    task = getattr(handle._callback, "__self__", None)
    return task if isinstance(task, asyncio.Task) else None


def _name_of(handle: _Handle) -> str:
    callback = handle._callback
    return getattr(callback, "__qualname__", None) or type(callback).__name__


def _close(coro: Any) -> None:
    """Close a coroutine that nobody will resume, from the innermost that it awaits outwards.

    One that waits for something on its way out is closed there again. What it raises, nobody hears.
    """
    for _ in range(1_000):
        inner = coro
        while inspect.iscoroutine(further := inner.cr_await) and further.cr_frame is not None:
            inner = further
        with suppress(BaseException):
            inner.close()
        if coro.cr_frame is None:
            return
