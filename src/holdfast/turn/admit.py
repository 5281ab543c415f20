"""Admit: whether what somebody outside the turn says (still) makes sense, and the fact of it on the log."""

from __future__ import annotations

from holdfast.errors import UnknownAsk, UnknownCall, UsageError
from holdfast.events import AskAnswered, CallResolved, EventContext, Fact, InputMessage, SessionUpdated
from holdfast.fold import own_turn
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.state import CallState, State
from holdfast.turn.decide import Begin, decide
from holdfast.turn.input import begin


def admit(fact: Fact, journal: Journal, manifest: Manifest | None) -> bool:
    """Stage the fact, and (under this manifest) the turn that begins with it; False when it has been said before.

    Raises `UnknownAsk`, `UnknownCall` when there is nothing (any more) that it could be about.
    """
    state = journal.state
    if not is_new(fact, state):
        return False
    journal.stage(fact, context=context_of(fact, state))
    if state.turn is None and manifest is not None:
        match decide(state, manifest, journal.now()):
            case Begin() as first:
                begin(first, journal, manifest)
    return True


def is_new(fact: Fact, state: State) -> bool:
    """Whether nobody has said it before. Raises as `admit` does."""
    match fact:
        case InputMessage():
            return not fact.key or fact.key not in state.keys
        case AskAnswered():
            if fact.ask_id not in state.asks:
                known = ", ".join(state.asks) or "none"
                raise UnknownAsk(f"session {state.session_id} has no open ask {fact.ask_id}; open: {known}")
        case CallResolved():
            in_doubt(fact.call_id, state)
        case SessionUpdated():
            return True
        case _:
            raise UsageError(f"nobody outside a turn can say {fact.kind}")
    return True


def in_doubt(call_id: str, state: State) -> CallState:
    """The call in doubt. Raises `UnknownCall` when there is none with this id."""
    if call_id not in state.doubts:
        known = ", ".join(state.doubts) or "none"
        raise UnknownCall(f"session {state.session_id} has no call {call_id} in doubt; in doubt: {known}")
    return state.doubts[call_id]


def context_of(fact: Fact, state: State) -> EventContext | None:
    """Where the fact belongs; None for the turn under way."""
    match fact:
        case InputMessage():
            late = fact.steer and (state.turn is None or state.turn.id != fact.turn_id)
            turn_id = own_turn(fact.message) if late else fact.turn_id
            return EventContext(turn_id=turn_id, input_message_id=fact.message.id)
        case CallResolved() if fact.turn_id:
            return EventContext(turn_id=fact.turn_id)
    return None
