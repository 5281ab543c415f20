"""Admit: whether what somebody outside the turn says (still) makes sense, and the fact of it on the log."""

from __future__ import annotations

from datetime import datetime

from holdfast.asking import check_principal
from holdfast.errors import AskClosed, UnknownAsk, UnknownCall, UnknownGrant, UsageError
from holdfast.events import CallResolved, CompactionAsked, EventContext, Fact, InputMessage, SessionUpdated
from holdfast.facts.asks import AskAnswered, AskOpened, GrantRevoked
from holdfast.facts.budgets import BudgetRaised
from holdfast.fold import own_turn
from holdfast.folds.asks import said_in
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.state import CallState, State
from holdfast.turn.bell import Bell
from holdfast.turn.decide import Begin, decide
from holdfast.turn.document import is_kept
from holdfast.turn.input import begin


def admit(fact: Fact, journal: Journal, manifest: Manifest | None, said_at: datetime | None = None) -> bool:
    """Stage the fact, and (under this manifest) the turn that begins with it; False when it has been said before.

    `said_at` is when it was said, where that is not now: an answer that was left in time counts. Raises `UnknownAsk`,
    `UnknownCall`, `UnknownGrant` when there is nothing (any more) that it could be about, `AnswerForbidden`.
    """
    state = journal.state
    if not is_new(fact, state):
        return False
    if isinstance(fact, AskAnswered):
        may_answer(state.asks[fact.ask_id], fact.by, journal, manifest, said_at)
    journal.stage(fact, context=context_of(fact, state))
    if isinstance(fact, AskAnswered):
        journal.stage(*fact.guarded)
        journal.derived(Bell).ring()
    if state.turn is None and manifest is not None:
        match decide(state, manifest, journal.now()):
            case Begin() as first if is_kept(first, journal, manifest):  # else whoever drives it begins it
                begin(first, journal, manifest)
    return True


def is_new(fact: Fact, state: State) -> bool:
    """Whether nobody has said it before. Raises as `admit` does."""
    match fact:
        case InputMessage():
            return not fact.key or fact.key not in state.keys
        case AskAnswered():
            return fact.ask_id in state.asks or not _repeats(fact, state)
        case GrantRevoked():
            check_grant(fact.grant_id, state)
        case CallResolved():
            in_doubt(fact.call_id, state)
        case SessionUpdated() | CompactionAsked() | BudgetRaised():
            return True
        case _:
            raise UsageError(f"nobody outside a turn can say {fact.kind}")
    return True


def _repeats(fact: AskAnswered, state: State) -> bool:
    """Whether this answer was given before, under the same key. Raises `UnknownAsk` when it was not."""
    closed = state.closed.get(fact.ask_id)
    if closed is None or not fact.key or closed.key != fact.key:
        raise not_open(fact.ask_id, state)
    if (closed.how, closed.by, closed.said) != (fact.verdict, fact.by, said_in(fact)):
        raise not_open(fact.ask_id, state)
    return True


def not_open(ask_id: str, state: State) -> UnknownAsk:
    """That this ask is not open (any more), how it ended, and which ones are open."""
    listed = ", ".join(state.asks) or "none"
    if closed := state.closed.get(ask_id):
        how = f"{closed.how} by {closed.by}" if closed.by else _ENDS.get(closed.how, closed.how)
        return AskClosed(
            f"session {state.session_id} has no open ask {ask_id} any more: {how}; open: {listed}"
        )
    return UnknownAsk(f"session {state.session_id} has no open ask {ask_id}; open: {listed}")


_ENDS = {
    "expired": "nobody answered in time",
    "voided": "what it was about has changed",
    "ended": "its turn ended",
}


def may_answer(
    ask: AskOpened, by: str, journal: Journal, manifest: Manifest | None, said_at: datetime | None = None
) -> None:
    """Raise `AnswerForbidden` unless this principal may answer, and `AskClosed` when it is too late for that."""
    check_principal(ask, by, names_of(journal.state, manifest))
    if ask.expires_at is not None and (said_at or journal.present()) >= ask.expires_at:
        raise AskClosed(
            f"ask {ask.ask_id} expired at {ask.expires_at.isoformat()}; open: {', '.join(journal.state.asks)}"
        )


def names_of(state: State, manifest: Manifest | None) -> set[str]:
    """What the agent's side of the session is called: itself, its tools and its models."""
    names = {state.session_id, state.agent, state.harness} - {""}
    if manifest is not None:
        names |= manifest.tools.keys()
        names |= {name for route in manifest.routes for name in (route.model, route.name) if name}
    return names


def check_grant(grant_id: str, state: State) -> None:
    """Raise `UnknownGrant` unless the session has this grant."""
    if grant_id not in state.grants:
        known = ", ".join(state.grants) or "none"
        raise UnknownGrant(f"session {state.session_id} has no grant {grant_id}; it has: {known}")


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
