"""Stragglers: work that was told to stop and goes on.

A tool, a model's driver or a hook is told to stop when the turn is cancelled, the runtime closes or its time is over.
It has `GRACE` seconds to do so. What goes on after that is a straggler: nobody waits for it, what comes of it is
dropped, and it is counted here until it ends. A plain function runs in a thread, which nothing can stop: it is one as
soon as its grace is over.

Work that stops costs next to nothing: it runs in the task of whoever asks for it, a `Unit`. A unit steps our own code
and the work of others apart from each other, and so it can part them: the task stays with work that does not stop, and
our code goes on in a new one.
"""

from __future__ import annotations

import asyncio
import logging
import types
from asyncio import CancelledError, Future, Task, TimerHandle
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

GRACE = 0.25
"""Seconds that work has to end once it was told to."""

Start = Callable[[], Coroutine[Any, Any, None]]
"""Begins something."""

Joining = Callable[[], Coroutine[Any, Any, Sequence[Start]]]
"""Waits for more to do; none means that nothing will come any more."""

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
        self.units: dict[Task[Any] | None, Unit[Any]] = {}
        """The units at work, by the tasks that carry them."""
        self.stepping: Unit[Any] | None = None
        """The unit whose own code is on right now; its task can be left to work."""

    @property
    def names(self) -> tuple[str, ...]:
        """What goes on although it was told to stop, the oldest first."""
        return tuple(self._left.values())

    def unit(self, code: Coroutine[Any, Any, T], context: Context | None = None) -> Unit[T]:
        """Begin to carry this out, in a task that `run` may leave to its work."""
        return Unit(code, self, context)

    async def run(
        self, name: str, of: str, work: Callable[[], Awaitable[T]], seconds: float | None = None
    ) -> T:
        """What the work returns or raises. `name` and `of` say in a log what it is.

        Raises `OutOfTime` when it takes longer than `seconds`. Cancelling stops the work; when it ends within its grace
        with a value all the same, that is returned. In a unit the work runs in the same task, elsewhere in its own.
        """
        if self.stepping is None:
            return await self._apart(self.run(name, of, work, seconds))
        job = Job(name, of, work, seconds)
        try:
            value = await job
        except CancelledError:
            await self._see_off(job)
            if not job.late or job.told:
                raise
        else:
            await self._see_off(job)
            return value
        raise OutOfTime(stopped=not job.left and all(thread.done() for thread in job.threads))

    async def _apart(self, code: Coroutine[Any, Any, T]) -> T:
        """Carry it out in a unit. What it sets in its context is seen by what comes after it, as if it was called."""
        context = copy_context()
        try:
            value, error = await self.unit(_with_exit(code), context)
        finally:
            for variable, content in context.items():
                if variable is not _THREADS and variable.get(None) is not content:
                    variable.set(content)
        if error is not None:
            raise error
        return cast("T", value)

    async def _see_off(self, job: Job[Any]) -> None:
        """Wait for the threads of work that was told to stop, for what is left of its grace."""
        if job.grace is None or not job.threads:
            return
        try:
            rest = 0.0 if job.left else job.grace.when() - asyncio.get_running_loop().time()
            await asyncio.wait(job.threads, timeout=max(rest, 0.0))
        finally:
            for thread in job.threads:
                if not thread.done():
                    self.keep(job, thread)

    def keep(self, job: Job[Any], future: Future[Any]) -> None:
        """Count this work until the future ends."""
        what = f"{job.name} of {job.of}"
        self._left[future] = what
        future.add_done_callback(self._ended)
        log.warning("%s was told to stop and goes on; what comes of it will be dropped", what)

    def _ended(self, future: Future[Any]) -> None:
        what = self._left.pop(future)
        if not future.cancelled():
            future.exception()  # looked at, so that nobody else reports it
        log.info("%s has ended; what came of it was dropped", what)

    async def side_by_side(
        self, codes: Sequence[Coroutine[Any, Any, None]], joining: Joining | None = None
    ) -> None:
        """Carry them out at the same time, each in a unit. When one fails the others are stopped, and it is raised.

        `joining` is asked, again and again as long as any is at work, for more of them; it waits until there are some.
        """
        pending = {self.unit(code) for code in codes}
        waiting = self.unit(joining()) if joining is not None else None
        when = asyncio.FIRST_EXCEPTION if joining is None else asyncio.FIRST_COMPLETED
        failures, cut = list[BaseException](), False
        while pending:
            stop = False
            watched: set[Unit[Any]] = {*pending, waiting} if waiting is not None else set(pending)
            try:
                done, _ = await asyncio.wait(watched, return_when=when)
            except CancelledError:
                cut = stop = True
                done = {unit for unit in watched if unit.done()}
            pending -= done
            failed = [error for unit in done if not unit.cancelled() and (error := unit.exception())]
            failures += failed
            if failed or stop:
                for unit in pending:
                    unit.cancel()
            if joining is not None and waiting in done:
                more = [] if failures or cut or waiting.cancelled() else waiting.result()
                pending |= {self.unit(start()) for start in more}
                waiting = self.unit(joining()) if more else None
        if waiting is not None:
            await _stopped(waiting)
        if failures:
            raise failures[0]
        if cut:
            raise CancelledError

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


async def _stopped(waiting: Unit[Sequence[Start]]) -> None:
    """End the wait for more to do; what came at the last moment is not begun."""
    waiting.cancel()
    await asyncio.wait({waiting})


_THREADS: ContextVar[list[Future[Any]] | None] = ContextVar("threads", default=None)
"""Threads that outlive the work being carried out, by the futures that end with them."""


def outlives(thread: Future[Any]) -> None:
    """Say that a thread goes on, until this future ends, although who waited for it was told to stop."""
    threads = _THREADS.get()
    if threads is not None:
        threads.append(thread)


class Job(Generic[T]):
    """Work that a unit is asked to do, and how it goes."""

    __slots__ = ("before", "grace", "late", "left", "name", "of", "seconds", "threads", "told", "work")

    def __init__(self, name: str, of: str, work: Callable[[], Awaitable[T]], seconds: float | None) -> None:
        self.name, self.of, self.work, self.seconds = name, of, work, seconds
        self.threads: list[Future[Any]] = []
        self.before = 0
        """How often its task had been told to stop when it began."""
        self.grace: TimerHandle | None = None
        """What ends its grace, once it was told to stop."""
        self.late = False
        """Whether its time was over before it was told to stop by somebody."""
        self.told = 0
        """How often somebody told it to stop."""
        self.left = False
        """Whether it did not, and nobody waits for it any more."""

    def __await__(self) -> Generator[Job[T], T, T]:
        return (yield self)


class Unit(Future[T]):
    """A piece of our own code on its way, and what came of it; like a task, but not bound to one for good."""

    def __init__(self, code: Coroutine[Any, Any, T], stragglers: Stragglers, context: Context | None) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.job: Job[Any] | None = None
        """The work of others that it is at."""
        self._code = code
        self._stragglers = stragglers
        self._context = context or copy_context()
        self.task = self._carried(None, 0)

    def _carried(self, error: BaseException | None, cancelled: int) -> Task[None]:
        """A new task that carries it on, with this error or as one that was cancelled so often."""
        carrier = self._carry(error)
        carrier.send(None)  # begun, it is told also when its task is cancelled before the first step
        task = self.get_loop().create_task(carrier, context=self._context)
        self._stragglers.units[task] = self
        for _ in range(cancelled):
            task.cancel()
        return task

    def cancel(self, msg: Any = None) -> bool:
        """Tell it to stop; False when it has ended. One that is at the work of others leaves that when the grace is
        over, or when it is told once more."""
        if self.done():
            return False
        job = self.job
        if job is None:
            return self.task.cancel()
        job.told += 1
        if job.grace is None:
            self._stop(job)
        else:
            self._leave(job)
        return True

    def _stop(self, job: Job[Any]) -> None:
        job.grace = self.get_loop().call_later(GRACE, self._leave, job)
        self.task.cancel()

    def _run_out(self, job: Job[Any]) -> None:
        if job.grace is None:
            job.late = True
            self._stop(job)

    def _leave(self, job: Job[Any]) -> None:
        """Leave the task to work that does not stop, and go on in another."""
        if self.job is not job:
            return
        self.job, job.left = None, True
        del self._stragglers.units[self.task]
        self._stragglers.keep(job, self.task)
        self._context = self._context.copy()
        self.task = self._carried(CancelledError(), job.before + job.told)

    async def _carry(self, error: BaseException | None) -> None:
        await self._steps(error)

    @types.coroutine
    def _steps(self, error: BaseException | None) -> Generator[Any, Any, None]:
        """Step our own code, and what it asks to be done. What that comes to does not matter once it was left."""
        try:
            yield
        except BaseException as thrown:  # here and below: whoever steps others passes on whatever is thrown
            error = thrown
        value: Any = None
        stragglers = self._stragglers
        while True:
            stragglers.stepping = self
            try:
                asked = self._code.send(value) if error is None else self._code.throw(error)
            except StopIteration as end:
                return self._finish(end.value)
            except BaseException as failure:
                return self._fail(failure)
            finally:
                stragglers.stepping = value = error = None
            try:
                value = (yield from self._do(asked)) if type(asked) is Job else (yield asked)
            except BaseException as thrown:
                error = thrown
            if type(asked) is Job and asked.left:
                if isinstance(error, KeyboardInterrupt | GeneratorExit):
                    raise error
                return None

    def _do(self, job: Job[T]) -> Generator[Any, Any, T]:
        """Pass on what the work waits for. Its time is looked after only once it waits for something."""
        task, loop, timer = self.task, self.get_loop(), None
        job.before, self.job = task.cancelling(), job
        _THREADS.set(job.threads)
        work, begun = _begin(job.work), loop.time()
        answer: Any = None
        error: BaseException | None = None
        try:
            asked = work.send(None)
            if job.seconds is not None:
                timer = loop.call_at(begun + job.seconds, self._run_out, job)
            while True:
                try:
                    answer, error = (yield asked), None
                except BaseException as thrown:
                    error = thrown
                asked = work.send(answer) if error is None else work.throw(error)
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            error = None
            if timer is not None:
                timer.cancel()
            if not job.left:
                self.job = None
                if job.grace is not None:
                    job.grace.cancel()
                if task.cancelling() != job.before + job.told:
                    yield from _even_out(task, job)

    def _finish(self, value: T) -> None:
        del self._stragglers.units[self.task]
        self.set_result(value)

    def _fail(self, failure: BaseException) -> None:
        self._stragglers.units.pop(self.task, None)
        if isinstance(failure, GeneratorExit):
            raise failure
        if isinstance(failure, CancelledError):
            super().cancel()
        else:
            self.set_exception(failure)
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                raise failure


async def _with_exit(code: Coroutine[Any, Any, T]) -> tuple[T | None, SystemExit | None]:
    try:
        return await code, None
    except SystemExit as error:  # out of a task it would end the loop
        return None, error


async def _begin(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _even_out(task: Task[Any], job: Job[Any]) -> Generator[None, None, None]:
    """Count only those who told the task to stop from outside: not the end of its time, nor what work did to it."""
    more = task.cancelling() - job.before - job.told
    for _ in range(more):
        task.uncancel()
    for _ in range(-more):
        task.cancel()
    if more != job.late:
        try:
            yield  # so that what was done without waiting for anything does not hit who comes next
        except CancelledError:
            if more > 0:
                raise
