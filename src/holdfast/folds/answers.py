"""Fitting: how answers that were held against an output contract change the state of their session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.events import Event
from holdfast.facts.answers import OutputChecked
from holdfast.facts.fact import Fact
from holdfast.state import State


def _checked(state: State, event: Event, fact: OutputChecked) -> None:
    turn = state.turn
    if turn is None:
        return
    turn.candidate, turn.fits, turn.problems = _answer(state, fact), fact.fits, fact.problems
    turn.rejections += not fact.fits
    if fact.repair is not None:
        state.messages.append(fact.repair)
        state.places.append(event.sequence)
        turn.stop = None


def _answer(state: State, fact: OutputChecked) -> str:
    """The text that was held against the contract."""
    if fact.text is not None:
        return fact.text
    if fact.call_id and state.turn is not None:
        return state.turn.calls[fact.call_id].call.arguments
    return state.messages[-1].text if state.messages else ""


RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {OutputChecked: _checked}
