"""Run control: where a turn stands, by its log, whoever drives it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from holdfast.errors import UnknownTurn
from holdfast.events import AskOpened, Event, Failure, TurnStarted, TurnStop
from holdfast.history import end_and_start
from holdfast.journal import Journal
from holdfast.messages import Usage
from holdfast.outcome import TurnStatus
from holdfast.store import Store

ENDS: dict[str, TurnStatus] = {
    "turn.completed": "completed",
    "turn.failed": "failed",
    "turn.cancelled": "cancelled",
}
"""What the event that ends a turn says of its status."""


class TurnSnapshot(Struct, frozen=True, kw_only=True):
    """A turn at one moment: what its log says up to event `sequence`. It does not change any more."""

    turn_id: str
    session_id: str
    agent: str
    sequence: int
    status: TurnStatus
    stop: TurnStop | None = None
    """Why it ended; None while it has not."""
    manifest: str = ""
    """Digest of what it runs under; empty while it waits in line."""
    inputs: tuple[str, ...] = ()
    """Ids of the input messages it answers."""
    started_at: datetime | None = None
    deadline: datetime | None = None
    iterations: int = 0
    usage: Usage = Usage()
    cost: Decimal | None = None
    """Of its replies in US dollars, while it runs or as the session's last turn; None where it is not known."""
    error: Failure | None = None
    asks: tuple[AskOpened, ...] = ()
    terminal: Event | None = None
    """The one event that ended it. It is on the log, always together with the status that it says."""


async def terminal_of(turn_id: str, session_id: str, store: Store) -> Event | None:
    """The event that ended this turn; None while it has not ended. Raises `UnknownTurn`, `StoreError`."""
    found = await _end_and_start(turn_id, session_id, store)
    return found[0]


class Standing(Protocol):
    """A handle of the turn, which tells where it stands as far as its session is known here."""

    @property
    def status(self) -> TurnStatus: ...


async def snapshot(turn_id: str, journal: Journal, handle: Standing) -> TurnSnapshot:
    """The turn as its log has it now. Raises `UnknownTurn`, `StoreError`."""
    await journal.refresh()
    if journal.ours and journal.broken is None:
        await journal.flush()
    state = journal.state
    terminal, started = await _end_and_start(turn_id, state.session_id, journal.store)
    begun = started.data if started is not None and isinstance(started.data, TurnStarted) else None
    turn = state.turn if state.turn is not None and state.turn.id == turn_id and terminal is None else None
    ended = terminal.data if terminal is not None else None
    last = state.outcome if state.outcome is not None and state.outcome.turn_id == turn_id else None
    return TurnSnapshot(
        turn_id=turn_id,
        session_id=state.session_id,
        agent=state.agent,
        sequence=state.sequence,
        status=ENDS[terminal.type] if terminal is not None else handle.status,
        stop=getattr(ended, "stop", "cancelled") if ended is not None else None,
        manifest=begun.manifest if begun is not None else "",
        inputs=begun.inputs if begun is not None else (),
        started_at=started.ts if begun is not None and started is not None else None,
        deadline=begun.deadline if begun is not None else None,
        iterations=turn.iteration if turn is not None else getattr(ended, "iterations", 0),
        usage=turn.usage if turn is not None else getattr(ended, "usage", Usage()),
        cost=turn.cost if turn is not None else last.cost if last is not None else None,
        error=getattr(ended, "error", None),
        asks=tuple(state.asks.values()) if turn is not None else (),
        terminal=terminal,
    )


async def _end_and_start(turn_id: str, session_id: str, store: Store) -> tuple[Event | None, Event | None]:
    """See `end_and_start`. Raises `UnknownTurn`."""
    head = await store.head(session_id)
    found = await end_and_start(turn_id, session_id, store, head.sequence if head is not None else 0)
    if found == (None, None):
        raise UnknownTurn(f"session {session_id} has no turn {turn_id}; its log has no event of it")
    return found
