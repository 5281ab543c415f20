"""The bell of a session: rung when an ask was answered, heard by whoever waits for that while calls run."""

from __future__ import annotations

import asyncio


class Bell:
    """One a journal; see `Journal.derived`."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: asyncio.Event | None = None

    def ring(self) -> None:
        """Wake those who wait."""
        if self._next is not None:
            self._next.set()
            self._next = None

    async def rung(self) -> None:
        """Wait until it is rung."""
        self._next = self._next or asyncio.Event()
        await self._next.wait()
