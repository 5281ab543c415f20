"""Tally: how the facts about budgets change a state, and what was used by now.

A part of the fold: nothing else changes what is in a state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import structs

from holdfast.events import Event
from holdfast.facts.budgets import (
    EXACT,
    NOTHING,
    BudgetExceeded,
    BudgetRaised,
    BudgetReserved,
    BudgetSettled,
    BudgetWarned,
    Quantity,
    Spent,
    exact_sum,
)
from holdfast.facts.fact import Fact
from holdfast.state import State, TurnState


def _reserved(state: State, event: Event, fact: BudgetReserved) -> None:
    if not fact.call_id:
        state.reserved[fact.key] = fact
    elif state.turn is not None and fact.call_id in state.turn.calls:
        state.turn.calls[fact.call_id].paid = True


def take_back(state: State, events: Sequence[Event]) -> bool:
    """Undo the reservation that was the newest event: the store refused it, and so it never happened. False when there
    was more, or something was built on it."""
    fact = events[0].data
    if len(events) != 1 or state.sequence != events[0].sequence or not isinstance(fact, BudgetReserved):
        return False
    state.sequence -= 1
    state.reserved.pop(fact.key, None)
    if state.turn is not None and fact.call_id in state.turn.calls:
        state.turn.calls[fact.call_id].paid = False
    return True


def _settled(state: State, event: Event, fact: BudgetSettled) -> None:
    if fact.key and state.reserved.pop(fact.key, None) is None:
        return
    count(state, fact.amount)
    if (turn := state.turn) is not None:
        turn.exceeded = None
        if not fact.key:
            turn.counted, turn.lost = True, False


def count(state: State, amount: Spent) -> None:
    """This was used, in the turn under way."""
    state.spent += amount
    if state.turn is not None:
        state.turn.spent += amount


def _exceeded(state: State, event: Event, fact: BudgetExceeded) -> None:
    if state.turn is not None:
        state.turn.exceeded = fact


def _warned(state: State, event: Event, fact: BudgetWarned) -> None:
    if fact.scope != "turn":
        state.warned += (fact.budget,)
    elif state.turn is not None:
        state.turn.warned += (fact.budget,)


def _raised(state: State, event: Event, fact: BudgetRaised) -> None:
    if not fact.account:
        state.raised[fact.budget] = EXACT.add(state.raised.get(fact.budget, NOTHING), fact.amount)
    turn = state.turn
    if turn is not None and turn.exceeded is not None and turn.exceeded.waits:
        same = turn.exceeded.account == fact.account if fact.account else turn.exceeded.budget == fact.budget
        if same:
            turn.exceeded = structs.replace(turn.exceeded, until=event.ts)


def first_try(turn: TurnState) -> bool:
    """Whether a reply is owed and nothing has come in between: a turn that is cut off here is cut off while its model
    is asked."""
    tried = turn.counted or turn.attempt or turn.recoveries or turn.deferrals or turn.exceeded is not None
    return not (tried or turn.stop is not None or turn.fits)


def turn_ended(state: State, at: datetime) -> None:
    """What the turn under way used, now that it ends, counts for the session alone."""
    if (turn := state.turn) is not None:
        state.tool_calls += turn.tool_calls
        state.seconds += max(0.0, (at - turn.started_at).total_seconds())


Amount = Decimal | int
"""Of a quantity: what is counted is whole."""


def plus(one: Amount, other: Amount) -> Amount:
    """Both together, exactly."""
    return one + other if type(one) is int and type(other) is int else EXACT.add(one, other)


def used_in_turn(state: State, quantity: Quantity, now: datetime) -> Amount:
    """What the turn under way used by now."""
    if (turn := state.turn) is None:
        return 0
    if quantity == "tool_calls":
        return turn.tool_calls
    if quantity == "seconds":
        return _seconds((now - turn.started_at).total_seconds())
    return amount_of(turn.spent, quantity)


def used_in_session(state: State, quantity: Quantity, now: datetime) -> Amount:
    """What the session used by now."""
    if quantity == "tool_calls":
        return plus(state.tool_calls, used_in_turn(state, quantity, now))
    if quantity == "seconds":
        return plus(_seconds(state.seconds), used_in_turn(state, quantity, now))
    return amount_of(state.spent, quantity)


def set_aside(state: State, quantity: Quantity) -> Decimal:
    """What is reserved for what is under way."""
    return exact_sum(Decimal(amount_of(it.amount, quantity)) for it in state.reserved.values())


def amount_of(spent: Spent, quantity: Quantity) -> Amount:
    """One quantity of it."""
    match quantity:
        case "model_calls":
            return spent.model_calls
        case "tokens":
            return spent.tokens
        case "usd":
            return spent.usd
    return 0


def _seconds(amount: float) -> Decimal:
    return Decimal(f"{max(0.0, amount):.3f}")


RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {
    BudgetReserved: _reserved,
    BudgetSettled: _settled,
    BudgetExceeded: _exceeded,
    BudgetWarned: _warned,
    BudgetRaised: _raised,
}
"""For `fold`."""
