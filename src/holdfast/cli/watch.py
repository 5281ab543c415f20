"""Watch a turn until it rests, and let Ctrl-C stop it: once cancels the turn, twice leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import FrameType
from typing import Self

import click

from holdfast import AskOpened, Event, Lagged, Runtime, Session, Turn, TurnResult
from holdfast.cli.view import View
from holdfast.errors import SessionHeld
from holdfast.events import TURN_ENDS

EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": 1, "waiting": 3, "queued": 3, "running": 3}
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
        self._afar = -1
        """After which event to look for the turn in the log, since another process may be at work on it; else -1."""

    async def send(self, content: str, key: str = "") -> TurnResult:
        """Send an input and show its turn from the first word on; from the log where another process is at it."""
        before = 0 if key else self.session.state.sequence
        turn = await self.session.send(content, key=key)
        return await self.rest_of(turn, before, check=bool(key))

    async def rest_of(self, turn: Turn, before: int, *, check: bool = False) -> TurnResult:
        """Show a turn that was asked for after this event. One that is known to the log was, unless `check`, begun
        here."""
        known = ("running", "queued")
        if check or self.session.state.status_of(turn.id) not in known:
            held = await at_work(self.session)
            if held or self.session.state.status_of(turn.id) not in known:
                self._afar = before
        return await self.rest(turn)

    async def rest_of_it(self, *, follow: bool = False) -> TurnResult | None:
        """Bring to rest what the session owed when it was opened; None when it owed nothing.

        While another process is at work on it: `SessionHeld`, or, with `follow`, shown as its log grows.
        """
        if (turn := self.session.turn) is None:
            return None
        try:
            await self.session.resume()
        except SessionHeld as held:
            if not follow:
                raise SessionHeld(
                    f"another process is at work on {self.session.id}; to see what it does: holdfast events -f"
                ) from held
            self.view.note("another process is at work on this turn; here is what it records")
            self._afar = self._opened_at
        else:
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
        if self._afar >= 0:
            after, self._afar = self._afar, -1
            async for event in turn_in_log(self.session, turn.id, after):
                self._take(event)
            return
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


async def at_work(session: Session) -> bool:
    """Whether another process is at work on the session. If none is, a session that is driven here goes on."""
    try:
        await session.resume()
    except SessionHeld:
        return True
    return False


async def turn_in_log(session: Session, turn_id: str, after: int) -> AsyncIterator[Event]:
    """The events of a turn above this one, as they are recorded by whomever, to its end."""
    async for event in session.follow(after):
        if event.context.turn_id == turn_id:
            yield event
            if event.type in TURN_ENDS:
                return


async def from_afar(runtime: Runtime, session: Session, turn: Turn, after: int, view: View) -> TurnResult:
    """Show a turn that only another process can run, until it ends or the session waits for an answer.

    Ctrl-C asks that process to cancel it.
    """
    loop = asyncio.get_running_loop()
    stops: list[asyncio.Task[TurnResult]] = []

    def stop() -> None:
        view.note("asking the process that is at work on it to stop; Ctrl-C once more leaves at once")
        stops.append(loop.create_task(turn.cancel("stopped from the keyboard")))

    with CtrlC(lambda: loop.call_soon_threadsafe(stop)):
        async for event in session.follow(after):
            if event.context.turn_id == turn.id:
                view.take(event)
                if event.type in TURN_ENDS:
                    break
            if isinstance(event.data, AskOpened):
                break
    await asyncio.gather(*stops)
    return await (await runtime.open(session.id, read_only=True)).handle(turn.id)


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
