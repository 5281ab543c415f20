"""Overhear: functions that guard a stream are asked about all that was said so far, before more of it is shown.

While one is asked the model goes on; what it says meanwhile is asked about together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from holdfast.driver import Reply
from holdfast.guard import Guard
from holdfast.journal import Journal
from holdfast.turn.guards import judged
from holdfast.turn.screen import Piece, Screen


class Unasked:
    """Pieces that wait to be asked about."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._over = False
        self._come = asyncio.Event()

    def put(self, piece: Piece) -> None:
        """One more."""
        self._pieces.append(piece)
        self._come.set()

    def end(self) -> None:
        """There will be no more."""
        self._over = True
        self._come.set()

    async def take(self) -> list[Piece]:
        """All that there are, as soon as there are any; none when no more come."""
        while not self._pieces and not self._over:
            self._come.clear()
            await self._come.wait()
        taken, self._pieces = self._pieces, []
        return taken


async def overheard(
    ask: Callable[[], Awaitable[Reply]], screen: Screen, guards: tuple[Guard, ...], journal: Journal
) -> Reply:
    """The reply, while these guards' functions are asked about its pieces. Raises what asking raises."""
    unasked = Unasked()
    screen.divert(unasked.put)
    asking = journal.stragglers.unit(_ask_about(unasked, screen, guards, journal))
    try:
        reply = await ask()
        unasked.end()
        await asyncio.wait({asking})
    finally:
        screen.divert(None)
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking})
    asking.result()
    return reply


async def _ask_about(unasked: Unasked, screen: Screen, guards: tuple[Guard, ...], journal: Journal) -> None:
    said = ""
    while pieces := await unasked.take():
        said += "".join([text for kind, text, _ in pieces if kind != "arguments"])
        for verdict in await judged("stream", said, guards, journal):
            screen.withhold(verdict.guard, verdict.rule, verdict.code)
            return
        screen.show(pieces)
