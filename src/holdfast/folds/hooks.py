"""How facts about hooks change the state of their session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.events import Event, Fact, Failure, HookDecided
from holdfast.facts.hooks import Aftermath, HooksOwed, HooksRun, Retold
from holdfast.state import State


def _decided(state: State, event: Event, fact: HookDecided) -> None:
    if fact.view is not None:
        before = state.views.get(fact.message_id)
        state.views[fact.message_id] = Retold(text=fact.view, by=(*(before.by if before else ()), fact.hook))
    if fact.decision == "interrupt" and state.turn is not None:
        state.turn.failure = Failure(code="interrupted", message=fact.reason)
        state.turn.failure_stop = "interrupted"


def _owed(state: State, event: Event, fact: HooksOwed) -> None:
    state.aftermath[event.context.turn_id] = Aftermath(since=event.ts, attempt=fact.attempt)


def _ran(state: State, event: Event, fact: HooksRun) -> None:
    state.aftermath.pop(event.context.turn_id, None)


RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {
    HookDecided: _decided,
    HooksOwed: _owed,
    HooksRun: _ran,
}
