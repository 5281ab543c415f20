"""Watch a turn until it rests, and let Ctrl-C stop it: once cancels the turn, twice leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Self

import click

from holdfast import Event, Lagged, Session, Turn, TurnResult
from holdfast.cli.view import View
from holdfast.errors import SessionHeld

EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": 1, "waiting": 3}
"""Of a command that ran a turn, by how the turn came to rest."""
KILLED = 130
"""Exit code of a process that Ctrl-C ended."""


class Watcher:
    """Shows a session's turns, each event once. Make it as soon as the session is open."""

    def __init__(self, session: Session, view: View) -> None:
        self.session = session
        self.view = view
        self._seen = 0
        self._opened_at = session.state.sequence

    async def send(self, content: str, key: str = "") -> TurnResult:
        """Send an input and show its turn from the first word on."""
        return await self.rest(await self.session.send(content, key=key))

    async def rest_of_it(self) -> TurnResult | None:
        """Bring to rest what the session owed when it was opened; None when it owed nothing.

        Raises `SessionHeld` when another process is at work on it.
        """
        if (turn := self.session.turn) is None:
            return None
        try:
            await self.session.resume()
        except SessionHeld as held:
            raise SessionHeld(
                f"another process is at work on {self.session.id}; to see what it does: holdfast events -f"
            ) from held
        self.view.note("going on with the turn that had not ended")
        self._seen = self._opened_at
        return await self.rest(turn)

    async def rest(self, turn: Turn) -> TurnResult:
        """Show the turn until it ends or waits for an answer. Ctrl-C cancels it."""
        loop = asyncio.get_running_loop()
        stops: list[asyncio.Task[TurnResult]] = []

        def stop() -> None:
            self.view.note("stopping; Ctrl-C once more leaves at once")
            stops.append(loop.create_task(turn.cancel("stopped from the keyboard")))

        resting = loop.create_task(_result(turn))
        try:
            with CtrlC(lambda: loop.call_soon_threadsafe(stop)):
                await self._show_until(resting, turn)
                result = await resting
        finally:
            resting.cancel()
            await asyncio.gather(resting, *stops, return_exceptions=True)
        await self._repair(turn)
        return result

    async def _show_until(self, resting: asyncio.Task[TurnResult], turn: Turn) -> None:
        """Show the turn to its end, or until it rests otherwise.

        This is the task that began the turn, which has not paused since: not even the first word is missed.
        """
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as showing:

                def rested(_: object) -> None:
                    if not resting.cancelled() and (resting.exception() or resting.result().stop is None):
                        showing.reschedule(loop.time())

                resting.add_done_callback(rested)
                try:
                    await self._show(turn)
                finally:
                    resting.remove_done_callback(rested)

    async def _show(self, turn: Turn) -> None:
        async for item in turn:
            if isinstance(item, Event):
                self._take(item)
                continue
            self.view.take(item)
            if isinstance(item, Lagged):
                await self._repair(turn)

    async def _repair(self, turn: Turn) -> None:
        """Show from the log what was missed live."""
        after = self._seen
        while page := await self.session.events(after):
            for event in page:
                if event.context.turn_id == turn.id:
                    self._take(event)
            after = page[-1].sequence

    def _take(self, event: Event) -> None:
        if event.sequence > self._seen:
            self._seen = event.sequence
            self.view.take(event)
        else:
            self.view.recall(event)


async def _result(turn: Turn) -> TurnResult:
    return await turn


class CtrlC:
    """Inside, the first Ctrl-C calls `stop`; the second ends the process. Nothing that was recorded is lost by that."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop
        self._pressed = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self._pressed:
            click.echo("left; what was recorded is kept, and `holdfast run --session last` goes on", err=True)
            os._exit(KILLED)
        self._pressed = True
        self._stop()
