"""How facts about deliveries change the state of their session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from holdfast.events import Event, Fact
from holdfast.facts.deliveries import Owed, SinkDelivered, SinkOwed, SinkStarted
from holdfast.state import State


def _owed(state: State, event: Event, fact: SinkOwed) -> None:
    turn_id = event.context.turn_id
    state.deliveries.setdefault(fact.key, Owed(key=fact.key, sink=fact.sink, turn_id=turn_id, since=event.ts))


def _begun(state: State, event: Event, fact: SinkStarted) -> None:
    if (owed := state.deliveries.get(fact.key)) is not None:
        state.deliveries[fact.key] = structs.replace(
            owed, attempt=fact.attempt, under_way=True, retry_at=None
        )


def _settled(state: State, event: Event, fact: SinkDelivered) -> None:
    owed = state.deliveries.get(fact.key)
    if owed is None:
        return
    if fact.status == "delivered":
        del state.deliveries[fact.key]
        return
    again = fact.status == "failed" and fact.retry_at is not None
    state.deliveries[fact.key] = structs.replace(
        owed,
        under_way=False,
        retry_at=fact.retry_at,
        status="owed" if again else fact.status,
        reason=fact.reason,
    )


RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {
    SinkOwed: _owed,
    SinkStarted: _begun,
    SinkDelivered: _settled,
}
