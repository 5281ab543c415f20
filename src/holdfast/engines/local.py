"""A worker: takes up sessions that have something due, so many at a time, until it is told to stop.

Any number of workers may share a store. Leases keep two from working on the same session. A worker that dies is
replaced by the others, at their next poll where they can see that it is dead, else when its leases have run out.
Nothing is kept here that the log does not say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from typing import Any

from holdfast.errors import ManifestDrifted, SessionHeld, StoreError, UsageError

POLL = 5.0
"""Seconds between looks at what is due when nobody wakes the worker: times that come, and leases that run out."""
HELD = 0.2
"""Seconds after which a session that somebody else held may be tried again. While he holds it, nobody calls it due."""
BETWEEN = 0.02
"""Seconds between two looks at least, however often something is written."""
LONGEST = 300.0
"""Seconds after which a session that failed again and again, or was refused, is still tried once more."""

Report = Callable[[str, Exception], None]
"""Told of each session that is left alone, and why: once when its agent cannot be had, else at each failure."""

_log = logging.getLogger("holdfast.worker")


def log(session_id: str, why: Exception) -> None:
    """Report to the logger `holdfast.worker`."""
    _log.warning("left %s: %s", session_id, why)


class Worker:
    """Drives due sessions through four callables.

    `due(n)` names at most n sessions that are due and free. `take(id)` brings one to rest and returns None when there
    was nothing to do; it raises `SessionHeld` when another was faster, `UsageError` when this process cannot run it.
    `woken(seconds, seen)` returns when something may have been written since it last returned what is given back to it
    as `seen`. `tend()` is awaited every few seconds, before a look. At most `sessions` are at work at a time.
    """

    def __init__(
        self,
        due: Callable[[int], Awaitable[list[str]]],
        take: Callable[[str], Awaitable[object | None]],
        woken: Callable[[float, int | None], Awaitable[int]],
        tend: Callable[[], Awaitable[None]],
        *,
        sessions: int = 32,
        report: Report = log,
    ) -> None:
        self._due = due
        self._take = take
        self._woken = woken
        self._tend = tend
        self._tended = float("-inf")
        """When it last did so, on the monotonic clock."""
        self._seen: int | None = None
        self._limit = sessions
        self._report = report
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}
        """When a session that was left may be tried again, on the monotonic clock."""
        self._failures: dict[str, int] = {}

    async def run(self, stop: asyncio.Event, drain: float) -> None:
        """Work until `stop` is set, then wait `drain` seconds at most for what is under way.

        What does not come to rest in that time stays owed in the log. An error of the store while looking for work
        is reported like that of a session, under an empty name, and the worker goes on looking.
        """
        stopping = asyncio.ensure_future(stop.wait())
        try:
            with suppress(StoreError):  # looking will tell
                self._seen = await self._woken(0, None)
            while not stop.is_set():
                pause = BETWEEN if await self._look() else POLL
                await self._until_there_may_be_more(stopping, pause)
            if self._at_work:
                await asyncio.wait(self._at_work.values(), timeout=drain)
        finally:
            await _end(stopping, *self._at_work.values())

    async def _look(self) -> bool:
        """Take up what is due, as far as there is room; whether the store could tell."""
        now = time.monotonic()
        room = self._limit - len(self._at_work)
        if room <= 0:
            return True
        self._not_before = {name: when for name, when in self._not_before.items() if when > now}
        try:
            if now - self._tended >= POLL:
                self._tended = now
                await self._tend()
            found = await self._due(room + len(self._at_work) + len(self._not_before))
        except StoreError as error:
            self._report("", error)
            return False
        free = (name for name in found if name not in self._at_work and name not in self._not_before)
        for session_id in islice(free, room):
            self._at_work[session_id] = asyncio.ensure_future(self._work_on(session_id))
        return True

    async def _work_on(self, session_id: str) -> None:
        try:
            worked = await self._take(session_id)
        except SessionHeld:
            self._leave(session_id, HELD)
        except ManifestDrifted as error:  # a person, or a process of another version, may go on with it
            self._leave(session_id, LONGEST)
            self._report(session_id, error)
        except UsageError as error:
            self._leave(session_id, float("inf"))
            self._report(session_id, error)
        except Exception as error:
            failures = self._failures[session_id] = self._failures.get(session_id, 0) + 1
            self._leave(session_id, min(POLL * 2 ** min(failures - 1, 10), LONGEST))
            self._report(session_id, error)
        else:
            self._failures.pop(session_id, None)
            self._not_before.pop(session_id, None)
            if worked is None:
                self._leave(session_id, POLL)
        finally:
            del self._at_work[session_id]

    def _leave(self, session_id: str, seconds: float) -> None:
        self._not_before[session_id] = time.monotonic() + seconds

    async def _until_there_may_be_more(self, stopping: asyncio.Future[Any], pause: float) -> None:
        """Wait `pause` seconds, then until something is written, the poll is over, room is made, or the end."""
        await asyncio.wait([stopping], timeout=pause)
        if stopping.done():
            return
        waits: list[asyncio.Future[Any]] = [stopping, *self._at_work.values()]
        woken = asyncio.ensure_future(self._wait()) if len(self._at_work) < self._limit else None
        if woken is not None:
            waits.append(woken)
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if woken is not None:
                await _end(woken)

    async def _wait(self) -> None:
        """Until something is written, the poll is over, or one that was left may be tried again."""
        soonest = min(self._not_before.values(), default=float("inf")) - time.monotonic()
        self._seen = await self._woken(max(min(POLL, soonest), 0.0), self._seen)


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, StoreError):
            await task
