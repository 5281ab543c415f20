"""Upkeep: the tasks of a runtime. They drive its sessions, keep their leases, and look for what is left for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from holdfast.errors import RuntimeClosed, StoreError
from holdfast.runner import Runner
from holdfast.store import Store
from holdfast.stragglers import Stragglers
from holdfast.writer import Writer

LETTERS = 0.2
"""Seconds between looks for what other processes leave for the sessions at work here."""


class Upkeep:
    """What goes on behind the sessions of one runtime, from `open` to `rest` and `end`.

    `freshen` is awaited before letters are looked for.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        runners: Mapping[str, Runner],
        freshen: Callable[[], Awaitable[object]],
    ) -> None:
        self.stragglers = Stragglers()
        self.may_hold = False
        """Whether any session here may have claimed a lease."""
        self.open = False
        self._store = store
        self._writer = writer
        self._runners = runners
        self._freshen = freshen
        self._tasks: set[asyncio.Future[None]] = set()
        self._heart: asyncio.Task[None] | None = None
        self._post: asyncio.TimerHandle | asyncio.Task[None] | None = None
        """When letters are looked for next."""

    def check_open(self) -> None:
        """Raise `RuntimeClosed` unless the runtime is open."""
        if not self.open:
            raise RuntimeClosed

    def spawn(self, job: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Drive a session. Raises `RuntimeClosed`."""
        if not self.open:
            job.close()
        self.check_open()
        task = self.stragglers.unit(job)
        if self._heart is None:
            self._heart = asyncio.get_running_loop().create_task(self._beat())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def rest(self, drain: float) -> None:
        """Let running turns rest for `drain` seconds, and stop what then still runs."""
        self.open = False
        for runner in list(self._runners.values()):
            runner.retire()
        if self._tasks and drain > 0:
            await asyncio.wait(self._tasks, timeout=drain)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for runner in list(self._runners.values()):
            runner.stop()

    async def end(self) -> None:
        """End what was left behind, the heartbeat and the leases, so that others need not wait for them to run out."""
        await self.stragglers.end()
        if self._post is not None:
            self._post.cancel()
            self._post = None
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait([self._heart])
            self._heart = None
        if self.may_hold:
            self.may_hold = False
            with suppress(StoreError):  # then they run out by themselves
                await self._store.renew(self._writer.name, 0.0)

    def listen(self) -> None:
        """Look for letters a little later, once for however many sessions ask."""
        if self._post is None and self.open:
            loop = asyncio.get_running_loop()
            self._post = loop.call_later(
                LETTERS, lambda: setattr(self, "_post", loop.create_task(self._deliver()))
            )

    async def _deliver(self) -> None:
        """Have the sessions at work here take in what others left for them; again later, as long as any is."""
        try:
            await self._freshen()
            for session_id in await self._store.posted(self._writer.name):
                if runner := self._runners.get(session_id):
                    await runner.collect()
        except StoreError:
            pass  # the letters stay, and the next look finds them
        finally:
            self._post = None
        if any(runner.busy for runner in self._runners.values()):
            self.listen()

    async def _beat(self) -> None:
        """Keep the leases of sessions at work, also while a model streams or a tool sleeps."""
        while True:
            await asyncio.sleep(self._writer.lease / 3)
            if self._tasks:
                # when it fails the next beat tries again, and the epoch guards the log meanwhile
                with suppress(StoreError):
                    await self._store.renew(self._writer.name, self._writer.lease)
