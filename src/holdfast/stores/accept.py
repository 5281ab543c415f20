"""What every store asks before it takes an append, and how it words a refusal."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.errors import SequenceConflict, StaleEpoch, StoreError, Superseded, UsageError
from holdfast.events import Event

FIRST_EPOCH = 1
"""Of the writer that creates a session."""


def check_events(session_id: str, events: Sequence[Event], expected: int) -> None:
    """Raise `UsageError` unless these are this session's next events, numbered on from `expected`, in UTC."""
    for sequence, event in enumerate(events, expected + 1):
        if event.sequence != sequence or event.session_id != session_id or event.ts.tzinfo is None:
            raise UsageError(_misfit(session_id, event, sequence))
    if not events or expected < 0:
        raise UsageError(
            f"nothing to append to {session_id} after {expected}: give one event or more, after 0 or more"
        )


def refusal(session_id: str, *, sequence: int, current: int, expected: int, epoch: int) -> Superseded:
    """Why an append is refused: the log stands at `sequence` and belongs to the writer of epoch `current`."""
    if epoch < current:
        return StaleEpoch(
            f"epoch {epoch} of {session_id} is over: a writer with epoch {current} took over; stop writing"
        )
    if epoch > current:
        return StaleEpoch(
            f"epoch {epoch} of {session_id} was never claimed, it is at {current}; call claim() first"
        )
    return SequenceConflict(
        f"{session_id} ends at event {sequence}, not {expected}: another append came first; read the log again"
    )


def closed() -> StoreError:
    """The store is not open."""
    return StoreError("this store is closed; await its open() first")


def _misfit(session_id: str, event: Event, sequence: int) -> str:
    if event.ts.tzinfo is None:
        return f"event {event.sequence} of {session_id} has a time without a zone; take it from a Clock, which says UTC"
    return (
        f"event {event.sequence} of {event.session_id} stands where event {sequence} of {session_id} belongs; "
        "number events on from `expected`, without gaps"
    )
