"""The runner: drives one session's turns, one after another, in a task that the runtime owns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from itertools import chain
from typing import Any

from holdfast.errors import RuntimeClosed, UnknownTurn
from holdfast.events import TURN_ENDS, EventContext, TurnCancelled
from holdfast.handle import TurnResult, ended, waiting
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.state import Outcome, State
from holdfast.turn.finish import finish
from holdfast.turn.loop import Waiting, run_turn

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Runner:
    """Brings a session's accepted inputs to rest, and tells those who wait for them."""

    def __init__(self, journal: Journal, spawn: Spawn, manifest: Callable[[], Awaitable[Manifest]]) -> None:
        self.journal = journal
        self._spawn = spawn
        self.manifest = manifest
        """What the next turn would run under."""
        self._task: asyncio.Task[None] | None = None
        self._waiters: dict[str, list[asyncio.Future[TurnResult]]] = {}
        self._last: TurnResult | None = None
        self._failure: BaseException | None = None
        self._cancelling: tuple[str, str] | None = None
        self._starts = 0
        self._nudge: asyncio.Event | None = None

    def start(self) -> None:
        """See to it that whatever is owed gets done."""
        self._starts += 1
        if self._nudge is not None:
            self._nudge.set()
        if self._task is None or self._task.done():
            self._failure = None
            self._task = self._spawn(self._work())

    @property
    def busy(self) -> bool:
        """Whether a task is at work."""
        return self._task is not None and not self._task.done()

    async def result(self, turn_id: str) -> TurnResult:
        """The turn at rest. Raises what broke it when the log or configuration did, `UnknownTurn` for a stranger."""
        if self._last is not None and self._last.turn_id == turn_id and self._last.status != "waiting":
            return self._last
        status = self.journal.state.status_of(turn_id)
        if self.busy and status in ("running", "queued"):
            return await self._wait(turn_id)
        if self._failure is not None:
            raise self._failure
        if status == "running":
            return waiting(self.journal.state)
        return await self._from_log(turn_id)

    async def _wait(self, turn_id: str) -> TurnResult:
        waiter: asyncio.Future[TurnResult] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(turn_id, []).append(waiter)
        return await waiter

    async def _from_log(self, turn_id: str) -> TurnResult:
        """For a turn that ended some time ago: fold the log up to its end."""
        state = State(session_id=self.journal.state.session_id)
        while page := await self.journal.store.read(state.session_id, after=state.sequence):
            for event in page:
                state.apply(event)
                if event.type in TURN_ENDS and event.context.turn_id == turn_id and state.outcome is not None:
                    return ended(state.outcome)
        raise UnknownTurn(
            f"session {state.session_id} has no turn {turn_id} that ended; its log has {state.sequence} events"
        )

    async def cancel(self, turn_id: str, reason: str) -> TurnResult:
        """End the turn as cancelled, wherever it stands. One that has ended stays as it ended."""
        status = self.journal.state.status_of(turn_id)
        if status == "queued":
            context = EventContext(turn_id=turn_id)
            await self.journal.record(TurnCancelled(iterations=0, reason=reason), context=context)
            self._announce(await self._from_log(turn_id))
        elif status == "running" and self._cancelling is None:
            self._cancelling = (turn_id, reason)
            if self._task is not None and self.busy:
                self._task.cancel()
            else:
                self.start()
        return await self.result(turn_id)

    def _cancel_reason(self) -> str | None:
        turn = self.journal.state.turn
        if self._cancelling is None or turn is None or turn.id != self._cancelling[0]:
            self._cancelling = None
            return None
        return self._cancelling[1]

    async def _work(self) -> None:
        try:
            while await self._next():
                pass
        except asyncio.CancelledError:
            self._fail(
                RuntimeClosed(
                    f"the runtime was closed while session {self.journal.state.session_id} was at work"
                )
            )
            raise
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self.journal.fail(error)
        waiters, self._waiters = self._waiters, {}
        for waiter in chain.from_iterable(waiters.values()):
            if not waiter.done():
                waiter.set_exception(error)

    async def _next(self) -> bool:
        """Drive until the session rests; whether something is owed then."""
        try:
            return await self._rest(await self.manifest())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._cancel_reason() is None or task is None:
                raise
            task.uncancel()
            return True

    async def _rest(self, manifest: Manifest) -> bool:
        starts = self._starts
        reason = self._cancel_reason()
        if reason is not None:
            rest: Waiting | Outcome = await finish("cancelled", self.journal, manifest, reason)
        else:
            rest = await run_turn(self.journal, manifest)
        if not isinstance(rest, Waiting):
            self._announce(ended(rest))
            return bool(self.journal.state.queue)
        if rest.wait.asks:
            self._announce(waiting(self.journal.state))
        if rest.wait.until is not None and self._starts == starts:
            await self._pause(rest.wait.until)
            return True
        return self._starts != starts

    async def _pause(self, until: datetime) -> None:
        """Sleep until this instant, or until somebody starts the runner again."""
        self._nudge = asyncio.Event()
        try:
            async with asyncio.timeout(max(0.0, (until - self.journal.now()).total_seconds())):
                await self._nudge.wait()
        except TimeoutError:
            return
        finally:
            self._nudge = None

    def _announce(self, result: TurnResult) -> None:
        self._last = result
        for waiter in self._waiters.pop(result.turn_id, ()):
            if not waiter.done():
                waiter.set_result(result)
