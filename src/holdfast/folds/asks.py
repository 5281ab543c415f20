"""Answers: how the facts about asks and grants change a state.

A part of the fold: nothing else changes what is in a state.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from holdfast.events import Event
from holdfast.facts.asks import (
    AskAnswered,
    AskExpired,
    AskOpened,
    AskVoided,
    Closed,
    GrantRevoked,
    GrantUsed,
)
from holdfast.facts.fact import Fact, Failure
from holdfast.state import CallState, State, TurnState
from holdfast.store import digest_of

REMEMBERED = 64
"""Closed asks of which a state knows how they ended."""

TOO_LATE = "nobody answered in time"


def _opened(state: State, event: Event, fact: AskOpened) -> None:
    state.asks[fact.ask_id] = fact
    if fact.wants != "result":
        state.asking = minute_of(event.ts), asked_within(state, event.ts) + 1
    if call := _call(state, fact.call_id):
        call.ask_id, call.asked, call.bound = fact.ask_id, fact.arguments, fact.bound
        call.verdict, call.verdict_reason, call.answer, call.edited = "", "", None, False


def minute_of(at: datetime) -> int:
    """The minute since 1970 that this instant is in."""
    return int(at.timestamp() // 60)


def asked_within(state: State, at: datetime) -> int:
    """How often people were asked something in the minute of this instant."""
    minute, times = state.asking
    return times if minute == minute_of(at) else 0


def _answered(state: State, event: Event, fact: AskAnswered) -> None:
    ask = _close(state, fact.ask_id, _as_closed(fact))
    if fact.grant is not None:
        held = [it for it in state.grants.values() if it.until is None or event.ts < it.until]
        state.grants = {it.id: it for it in (*held, fact.grant)}
    if ask is None or (call := _call(state, ask.call_id)) is None:
        return
    call.verdict, call.verdict_reason, call.answer = fact.verdict, fact.reason, fact.result
    if fact.arguments is not None:
        call.asked, call.edited = fact.arguments, True


def _as_closed(fact: AskAnswered) -> Closed:
    return Closed(how=fact.verdict, by=fact.by, key=fact.key, said=said_in(fact))


def said_in(fact: AskAnswered) -> str:
    """What was answered besides the verdict, to tell the same answer from another; empty where guards changed it."""
    if any(it.action != "log" for it in fact.guarded):
        return ""
    if fact.result is not None:
        return digest_of(f"{fact.result.status} {fact.result.text}".encode())
    return digest_of(fact.arguments.encode()) if fact.arguments is not None else ""


def _expired(state: State, event: Event, fact: AskExpired) -> None:
    ask = _close(state, fact.ask_id, Closed(how="expired"))
    if ask is None or (call := _call(state, ask.call_id)) is None:
        return
    if ask.on_expiry == "fail" and state.turn is not None:
        message = f"Nobody answered in time whether {ask.tool} may run: {ask.reason}"
        state.turn.failure = Failure(code="ask_expired", message=message)
    elif fact.result is not None:
        call.verdict, call.answer = "answered", fact.result
    else:
        call.verdict, call.verdict_reason = "denied", TOO_LATE


def _voided(state: State, event: Event, fact: AskVoided) -> None:
    if fact.ask_id:  # else a grant let the call through
        _close(state, fact.ask_id, Closed(how="voided"))
    if call := _call(state, fact.call_id):
        call.ask_id = call.verdict = call.verdict_reason = call.asked = call.bound = ""
        call.answer, call.edited = None, False


def _used(state: State, event: Event, fact: GrantUsed) -> None:
    if call := _call(state, fact.call_id):
        call.verdict, call.verdict_reason = fact.verdict, fact.reason if fact.verdict == "denied" else ""
        call.asked, call.bound = fact.arguments, fact.bound


def _revoked(state: State, event: Event, fact: GrantRevoked) -> None:
    state.grants.pop(fact.grant_id, None)


def turn_over(state: State, turn: TurnState) -> None:
    """The asks of a turn that ended are closed with it."""
    for ask in [ask for ask in state.asks.values() if ask.call_id in turn.calls]:
        _close(state, ask.ask_id, Closed(how="ended"))


def _close(state: State, ask_id: str, how: Closed) -> AskOpened | None:
    ask = state.asks.pop(ask_id, None)
    if ask is not None or how.how == "voided":
        state.closed.pop(ask_id, None)
        state.closed[ask_id] = how
        if len(state.closed) > REMEMBERED:
            del state.closed[next(iter(state.closed))]
    return ask


def _call(state: State, call_id: str) -> CallState | None:
    return state.turn.calls.get(call_id) if state.turn is not None else None


RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {
    AskOpened: _opened,
    AskAnswered: _answered,
    AskExpired: _expired,
    AskVoided: _voided,
    GrantUsed: _used,
    GrantRevoked: _revoked,
}
