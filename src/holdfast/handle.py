"""The handle of a turn: await it, iterate it, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from decimal import Decimal
from typing import Any, Protocol

from msgspec import Struct

from holdfast.errors import RuntimeClosed, UnknownTurn
from holdfast.events import TURN_ENDS, AskOpened, Event, Failure, TurnStop
from holdfast.follow import Signal
from holdfast.history import outcome_of
from holdfast.journal import Journal
from holdfast.messages import ToolResult, Usage
from holdfast.state import Outcome, State, TurnStatus


class TurnResult(Struct, frozen=True, kw_only=True):
    """Where a turn came to rest: at its end, or waiting for somebody."""

    turn_id: str
    status: TurnStatus
    """`completed`, `failed`, `cancelled`, `waiting` for an answer to `asks`, or `queued` behind a turn that waits
    for them. `running` only where the session was opened read-only and somebody else drives it."""
    stop: TurnStop | None
    """Why it ended; None while it waits."""
    text: str
    """The model's last words; empty when the turn did not end on a reply."""
    usage: Usage
    iterations: int
    """Model replies."""
    error: Failure | None = None
    asks: tuple[AskOpened, ...] = ()
    in_doubt: tuple[ToolResult, ...] = ()
    """Calls that were cut off and of which nobody knows whether they had their effect."""
    cost: Decimal | None = None
    """Of its replies, in US dollars, exact; None where that of any is not known."""

    @property
    def output(self) -> str:
        """What the turn was for: its text."""
        return self.text


def ended(outcome: Outcome) -> TurnResult:
    """The result of a turn that ended."""
    return TurnResult(
        turn_id=outcome.turn_id,
        status=outcome.status,
        stop=outcome.stop,
        text=outcome.text,
        usage=outcome.usage,
        cost=outcome.cost,
        iterations=outcome.iterations,
        error=outcome.error,
        in_doubt=outcome.in_doubt,
    )


async def from_log(turn_id: str, journal: Journal) -> TurnResult:
    """The result of a turn that ended some time ago. Raises `UnknownTurn` when none with this id did."""
    state = journal.state
    outcome = await outcome_of(turn_id, state.session_id, journal.store)
    if outcome is None:
        raise UnknownTurn(
            f"session {state.session_id} has no turn {turn_id} that ended; its log has {state.sequence} events"
        )
    return ended(outcome)


PARKED = (
    "This turn was cut off {} times in a row without getting any further, so it waits for a person. Find out what ends "
    "the process, then go on with session.resume(by=...), or stop it with turn.cancel()."
)


def resting(state: State, turn_id: str) -> TurnResult:
    """Where a turn stands that has not ended: waiting for answers, or in the queue behind one that does."""
    asks, turn = tuple(state.asks.values()), state.turn
    if turn is None or turn.id != turn_id:
        return TurnResult(
            turn_id=turn_id, status="queued", stop=None, text="", usage=Usage(), iterations=0, asks=asks
        )
    return TurnResult(
        turn_id=turn_id,
        status="waiting" if asks or turn.parked or turn.retry_at else "running",
        error=Failure(code="parked", message=PARKED.format(turn.recoveries)) if turn.parked else None,
        stop=None,
        text="",
        usage=turn.usage,
        cost=turn.cost,
        iterations=turn.iteration,
        asks=asks,
        in_doubt=tuple(turn.in_doubt),
    )


Item = Event | Signal
"""What iterating a turn gives."""


LOOK = 0.1
"""Seconds between looks at the log of a turn that another process drives."""


class Driving(Protocol):
    """What a handle needs of the one who drives the turn."""

    journal: Journal
    drives: bool
    """Whether turns are driven here, and not by whoever else has the session open."""

    async def result(self, turn_id: str) -> TurnResult: ...

    async def cancel(self, turn_id: str, reason: str) -> TurnResult: ...


class Turn:
    """One input brought to rest.

    `await turn` gives its `TurnResult` when it ends or waits for an answer; awaiting again after the answer goes on.
    `async for item in turn` gives its events from the first on, and signals as they happen, to its end. A reader that
    falls more than 1,024 items behind gets `Lagged` and can read what it missed with `session.events(after=...)`.
    Letting go of the handle does not stop the turn.
    """

    __slots__ = ("_driving", "_since", "id")

    def __init__(self, turn_id: str, driving: Driving, since: int = 0) -> None:
        self.id = turn_id
        self._driving = driving
        self._since = since

    def __repr__(self) -> str:
        return f"Turn({self.id!r}, {self.status})"

    @property
    def status(self) -> TurnStatus:
        """Where the turn stands now. Of a turn before the session's last one only awaiting tells how it ended."""
        state = self._driving.journal.state
        status = state.status_of(self.id)
        if status == "running" and (state.asks or (state.turn is not None and state.turn.parked)):
            return "waiting"
        if status is None and self.id in self._driving.journal.posted:
            return "queued"
        return status or "completed"

    @property
    def asks(self) -> tuple[AskOpened, ...]:
        """Questions that somebody must answer before the turn can go on."""
        state = self._driving.journal.state
        return tuple(state.asks.values()) if state.turn is not None and state.turn.id == self.id else ()

    def __await__(self) -> Generator[Any, None, TurnResult]:
        return self._driving.result(self.id).__await__()

    async def __aiter__(self) -> AsyncIterator[Item]:
        if not (self._driving.journal.ours and self._driving.drives):
            async for event in self._from_elsewhere():
                yield event
            return
        with self._driving.journal.follow(self.id) as follower:
            after = self._since
            while after < follower.after:
                page = await self._driving.journal.store.read(
                    self._driving.journal.state.session_id, after=after
                )
                for event in page:
                    if event.context.turn_id == self.id and event.sequence <= follower.after:
                        yield event
                        if event.type in TURN_ENDS:
                            return
                after = page[-1].sequence if page else follower.after
            async for item in follower:
                yield item

    async def _from_elsewhere(self) -> AsyncIterator[Event]:
        """The events of a turn that another process drives, as they come onto the log. Taken over when it is gone."""
        journal, after = self._driving.journal, 0
        resting = asyncio.ensure_future(self._driving.result(self.id))
        try:
            while True:
                if isinstance(journal.broken, RuntimeClosed):
                    raise journal.broken
                page = await journal.store.read(journal.state.session_id, after=after)
                for event in page:
                    if event.context.turn_id == self.id:
                        yield event
                    if event.context.turn_id == self.id and event.type in TURN_ENDS:
                        return
                if page:
                    after = page[-1].sequence
                elif resting.done() and resting.exception():
                    await resting
                else:
                    await asyncio.sleep(LOOK)
        finally:
            resting.cancel()
            await asyncio.wait([resting])

    async def cancel(self, reason: str = "") -> TurnResult:
        """Stop the turn: it ends in one `turn.cancelled`, and every call it started has an outcome.

        A turn that has already ended stays as it ended.
        """
        return await self._driving.cancel(self.id, reason.encode(errors="replace").decode())
