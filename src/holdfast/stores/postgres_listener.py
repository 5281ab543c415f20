"""The connection on which a Postgres store hears that somebody wrote.

A notification is a hint, never the news itself: it may come late, twice or not at all. It is lost while the connection
is down, so whoever waits is woken when it goes and when it is back, and does not wait for long in between.
"""

from __future__ import annotations

import asyncio
from asyncio import Event, Task
from contextlib import suppress
from typing import Any

from holdfast.stores.bell import Bell
from holdfast.stores.postgres_server import PAUSES, PostgresServer

DEAF = 1.0
"""The most seconds that anybody waits while nothing can be heard."""

STILL_THERE = 30.0
"""Seconds after which a quiet connection is tried out: one that was cut without a word stays quiet for ever."""


class PostgresListener:
    """Listens from the first `wait` on. Behind a pooler, which hands connections around, it cannot."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._task: Task[None] | None = None
        self._bell = Bell()
        self._hears = False
        self._heard = 0

    async def wait(self, seconds: float, since: int | None) -> int:
        """Until more was heard than `since` (or than now), or for so many seconds, less when deaf; how much was."""
        if self._task is None and not self._server.behind_pooler:
            self._task = asyncio.create_task(self._listen(), name="holdfast-postgres-listener")
        if since is None or since == self._heard:
            await self._bell.heard(seconds if self._hears else min(seconds, DEAF))
        return self._heard

    async def stop(self) -> None:
        """Close the connection and let everybody go."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._bell.ring()

    async def _listen(self) -> None:
        """Stay connected for ever."""
        pause = PAUSES[0]
        while True:
            with suppress(Exception):  # whatever it is, the poll beside it goes on, and so do the tries
                connection = await self._server.connect()
                try:
                    await self._stay(connection)
                finally:
                    pause = PAUSES[0] if self._hears else pause
                    self._hears = False
                    self._hear()
                    connection.terminate()
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSES[1])

    async def _stay(self, connection: Any) -> None:
        """Listen until the connection is lost."""
        lost = Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(self._server.schema, self._hear)
        self._hears = True
        self._hear()
        while not lost.is_set():
            try:
                async with asyncio.timeout(STILL_THERE):
                    await lost.wait()
            except TimeoutError:
                await connection.fetchval("SELECT 1")

    def _hear(self, *_notification: object) -> None:
        self._heard += 1
        self._bell.ring()
