"""How facts about guards change the state of their session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.events import Event, Fact
from holdfast.facts.guards import GuardDecided, Withheld
from holdfast.state import State, TurnState


def _decided(state: State, event: Event, fact: GuardDecided) -> None:
    if (turn := state.turn) is None or fact.action != "block":
        return
    if fact.where == "tool_input":
        if call := turn.calls.get(fact.call_id):
            call.verdict, call.verdict_reason = "denied", fact.in_words
    elif fact.where != "tool_output":
        _withheld(state, turn, event, fact)


def _withheld(state: State, turn: TurnState, event: Event, fact: GuardDecided) -> None:
    turn.withheld = Withheld(
        times=turn.withheld.times + 1, why="" if fact.note is not None else fact.in_words
    )
    if fact.note is not None:
        state.messages.append(fact.note)
        state.places.append(event.sequence)
        turn.stop = None


RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {GuardDecided: _decided}
