"""Fold: how each event changes the state of its session. What is known of it is computed here and in `folds`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from msgspec import structs

from holdfast import events as facts
from holdfast.catalogue import ZERO, total
from holdfast.events import Event, EventContext, Fact, Failure, TurnStop
from holdfast.folds.answers import RULES as OF_ANSWERS
from holdfast.folds.asks import RULES as OF_ASKS
from holdfast.folds.asks import turn_over
from holdfast.folds.budgets import RULES as OF_BUDGETS
from holdfast.folds.budgets import count, first_try, turn_ended
from holdfast.folds.compaction import RULES as OF_SUMMARIES
from holdfast.folds.compaction import learned
from holdfast.folds.deliveries import RULES as OF_DELIVERIES
from holdfast.folds.files import RULES as OF_FILES
from holdfast.folds.guards import RULES as OF_GUARDS
from holdfast.folds.hooks import RULES as OF_HOOKS
from holdfast.ids import new_id
from holdfast.messages import Message, ToolResult, Usage, tool_message
from holdfast.outcome import Outcome, TurnStatus
from holdfast.state import CallState, Continuation, Queued, Rerun, State, TurnState

OPENING = 200
"""Characters of the first input that a state remembers apart."""


def apply(state: State, event: Event) -> None:
    """Take in the next event."""
    state.sequence = event.sequence
    if rule := _RULES.get(type(event.data)):
        rule(state, event, event.data)


def fold(session_id: str, events: Iterable[Event]) -> State:
    """The state after these events, from the first on."""
    state = State(session_id=session_id)
    for event in events:
        apply(state, event)
    return state


def extend(state: State, fact: Fact, context: EventContext, now: datetime) -> Event:
    """The fact as this session's next event, taken in."""
    event = Event(
        id=new_id("event"),
        type=fact.kind,
        ts=now,
        session_id=state.session_id,
        sequence=state.sequence + 1,
        context=context,
        data=fact,
    )
    apply(state, event)
    return event


def unplaced(fact: Fact, context: EventContext, now: datetime, session_id: str) -> Event:
    """The fact as an event of this session that has no place in the log yet."""
    return Event(
        id=new_id("event"),
        type=fact.kind,
        ts=now,
        session_id=session_id,
        sequence=0,
        context=context,
        data=fact,
    )


def _created(state: State, event: Event, fact: facts.SessionCreated) -> None:
    state.created_at = event.ts
    state.agent, state.harness, state.layers = fact.agent, fact.harness, fact.layers
    state.title = fact.title
    state.metadata = dict(fact.metadata)
    state.principal, state.organisation = fact.principal, fact.organisation


def _updated(state: State, event: Event, fact: facts.SessionUpdated) -> None:
    if fact.title is not None:
        state.title = fact.title
    if fact.metadata is not None:
        state.metadata = dict(fact.metadata)


def _accepted(state: State, event: Event, fact: facts.InputMessage) -> None:
    state.accepted_at = event.ts
    state.opening = state.opening or fact.message.text[:OPENING]
    if fact.steer and state.turn is not None and state.turn.id == fact.turn_id:
        state.turn.steering.append(Queued(turn_id=fact.turn_id, message=fact.message, place=event.sequence))
    else:  # words that came too late for their turn have one of their own
        turn_id = own_turn(fact.message) if fact.steer else fact.turn_id
        state.queue.append(
            Queued(turn_id=turn_id, message=fact.message, place=event.sequence, contract=fact.output)
        )
    if fact.key:
        state.keys[fact.key] = fact.turn_id


def _began(state: State, event: Event, fact: facts.TurnStarted) -> None:
    begun, began = set(fact.inputs), len(state.places)
    for entry in state.queue:
        if entry.message.id in begun:
            _say(state, entry.message, entry.place)
    contract = next((entry.contract for entry in state.queue if entry.message.id in begun), None)
    state.queue = [entry for entry in state.queue if entry.message.id not in begun]
    state.turn = TurnState(
        id=event.context.turn_id,
        manifest=fact.manifest,
        started_at=event.ts,
        inputs=fact.inputs,
        deadline=fact.deadline,
        contract=contract,
        began=began,
    )
    _labelled(state, fact.labels)
    if fact.rerun:
        _run_again(state, state.turn, fact.rerun)


def _run_again(state: State, turn: TurnState, call_id: str) -> None:
    """Put the call in doubt back among those that are owed, with a person's leave to run it."""
    before = next(rerun.call for rerun in state.reruns if rerun.call.call.id == call_id)
    state.reruns = [rerun for rerun in state.reruns if rerun.turn_id != turn.id]
    turn.stop = "end_turn"
    turn.calls[call_id] = CallState(
        call=before.call,
        attempt=before.attempt,
        effect=before.effect,
        arguments_digest=before.arguments_digest,
        verdict="approved",
        asked=before.asked,
        place=before.place,
        doubtful=True,
    )


def _steered(state: State, event: Event, fact: facts.TurnSteered) -> None:
    _labelled(state, fact.labels)
    if (turn := state.turn) is not None:
        entered = [entry for entry in turn.steering if entry.message.id in fact.inputs]
        turn.steering = [entry for entry in turn.steering if entry.message.id not in fact.inputs]
        turn.inputs += tuple(entry.message.id for entry in entered)
        turn.stop, turn.fits = None, False
        for entry in entered:
            _say(state, entry.message, entry.place)


def _drifted(state: State, event: Event, fact: facts.Drifted) -> None:
    if (turn := state.turn) is not None:
        turn.manifest, turn.drifted = (
            (turn.manifest, fact.after) if fact.choice == "pin" else (fact.after, "")
        )


def _recovered(state: State, event: Event, fact: facts.TurnRecovered) -> None:
    if (turn := state.turn) is not None:
        turn.lost = turn.lost or first_try(turn)
        turn.recoveries = fact.attempt


def _replied(state: State, event: Event, fact: facts.OutputMessageCompleted) -> None:
    _say(state, fact.message, event.sequence)
    state.usage += fact.usage
    state.cost = total(state.cost, fact.cost)
    state.context = fact.usage.input_tokens + fact.usage.output_tokens
    state.continuation = None
    if (turn := state.turn) is not None:
        if fact.response_id:
            state.continuation = Continuation(
                response_id=fact.response_id,
                message_id=fact.message.id,
                manifest=turn.manifest,
                route=turn.route,
            )
        turn.iteration = fact.iteration
        turn.recoveries = 0
        turn.attempt, turn.failing_since, turn.retry_at = 0, None, None
        turn.stop = fact.stop
        turn.output_id = fact.message.id
        turn.fits = False
        turn.heard = len(turn.inputs)
        turn.shown_id = turn.shown = ""
        turn.deferred_until, turn.deferrals = None, 0
        turn.usage += fact.usage
        turn.cost = total(turn.cost, fact.cost)
        turn.compaction_tried = turn.counted = turn.lost = False
        if fact.counted is not None:
            count(state, fact.counted)
        turn.calls = {call.id: CallState(call=call) for call in fact.message.calls}


def _shown(state: State, event: Event, fact: facts.OutputMessageShown) -> None:
    if (turn := state.turn) is not None:
        turn.shown = turn.shown + fact.text if turn.shown_id == fact.message_id else fact.text
        turn.shown_id = fact.message_id


def _replaced(state: State, event: Event, fact: facts.OutputMessageReplaced) -> None:
    state.continuation = None
    if (turn := state.turn) is not None and turn.shown_id == fact.message_id:
        turn.shown_id = turn.shown = ""


def _reason_failed(state: State, event: Event, fact: facts.ReasonFailed) -> None:
    if (turn := state.turn) is not None:
        turn.recoveries = 0
        turn.retry_at = fact.retry_at
        if fact.next_model:
            turn.route += 1
            turn.attempt, turn.failing_since = 0, None
        else:
            turn.attempt, turn.failing_since = fact.attempt, turn.failing_since or event.ts
            turn.failure = fact.error if fact.retry_at is None else None


def _labelled(state: State, labels: Sequence[str]) -> None:
    """These have entered the session, and stay."""
    if labels:
        state.labels += [label for label in labels if label not in state.labels]


def _claimed(state: State, event: Event, fact: facts.ToolStarted) -> None:
    _labelled(state, fact.labels)
    if call := _call(state, fact.call_id):
        call.attempt = fact.attempt
        call.effect = fact.effect
        call.arguments_digest = fact.arguments_digest
        call.dispatched = fact.dispatched
        if state.turn is not None:
            state.turn.tool_calls += 1
            state.turn.exceeded = None


def _settled(state: State, event: Event, fact: facts.ToolCompleted) -> None:
    _labelled(state, fact.labels)
    call = _call(state, fact.result.call_id)
    if call is None or call.result is not None or state.turn is None:
        return
    call.result, call.settled_at = fact.result, event.sequence
    state.turn.recoveries = 0
    if fact.result.status == "in_doubt":
        state.turn.in_doubt.append(fact.result)
        state.doubts[call.call.id] = call
    if call.doubtful:
        _retell(state, call, fact.result, event.sequence)
    elif not state.turn.acting:
        _tell_results(state, state.turn)


def _tell_results(state: State, turn: TurnState) -> None:
    """The whole batch is settled: the model reads the results in the order of its calls."""
    for call in turn.calls.values():
        if call.result is not None:
            if doubt := state.doubts.get(call.call.id):
                doubt.place = call.place = len(state.places)  # one and the same, unless it was read back
            _say(state, tool_message(call.result), call.settled_at)
    turn.stop = None


def _retell(state: State, call: CallState, result: ToolResult, sequence: int) -> None:
    """From here on the model reads this result where it read that the call is in doubt."""
    if call.place is None:
        return
    state.continuation = None
    state.places[call.place] = sequence
    state.retold += 1
    if call.place < state.compacted:
        learned(state, call, result)
    elif call.place >= state.unread:
        state.messages[call.place - state.unread] = tool_message(result)


def _say(state: State, message: Message, sequence: int) -> None:
    """The transcript goes on with this message, which that event holds."""
    state.messages.append(message)
    state.places.append(sequence)


def _resolved(state: State, event: Event, fact: facts.CallResolved) -> None:
    doubt = state.doubts.pop(fact.call_id, None)
    if doubt is None:
        return
    if fact.result is None:
        state.accepted_at = event.ts
        state.reruns.append(Rerun(turn_id=fact.turn_id, call=doubt))
        return
    _retell(state, doubt, fact.result, event.sequence)
    if state.turn is not None and (call := state.turn.calls.get(fact.call_id)):
        call.result, call.settled_at = fact.result, event.sequence
        state.turn.in_doubt = [it for it in state.turn.in_doubt if it.call_id != fact.call_id]


def _ruled(state: State, event: Event, fact: facts.PolicyDecided) -> None:
    if (turn := state.turn) is None:
        return
    if fact.decision == "defer":
        turn.recoveries = 0
        later: CallState | TurnState = turn.calls.get(fact.call_id) or turn
        later.deferred_until, later.deferrals = fact.until, later.deferrals + 1
    elif fact.ends_turn:
        turn.failure, turn.failure_stop = Failure(code=fact.code, message=fact.reason), "interrupted"


def _completed(state: State, event: Event, fact: facts.TurnCompleted) -> None:
    turn_ended(state, event.ts)
    _end(state, "completed", fact.stop, reason=fact.reason)


def _failed(state: State, event: Event, fact: facts.TurnFailed) -> None:
    turn_ended(state, event.ts)
    _end(state, "failed", fact.stop, fact.error)


def _cancelled(state: State, event: Event, fact: facts.TurnCancelled) -> None:
    turn_id = event.context.turn_id
    if state.turn is not None and state.turn.id == turn_id:
        turn_ended(state, event.ts)
        _end(state, "cancelled", "cancelled")
        return
    state.queue = [entry for entry in state.queue if entry.turn_id != turn_id]
    for rerun in [rerun for rerun in state.reruns if rerun.turn_id == turn_id]:
        state.reruns.remove(rerun)
        state.doubts[rerun.call.call.id] = rerun.call
    state.outcome = Outcome(
        turn_id=turn_id, status="cancelled", stop="cancelled", iterations=0, usage=Usage(), cost=ZERO
    )


def _end(
    state: State, status: TurnStatus, stop: TurnStop, error: Failure | None = None, reason: str = ""
) -> None:
    if (turn := state.turn) is None:
        return
    last = state.last_message
    state.outcome = Outcome(
        turn_id=turn.id,
        status=status,
        stop=stop,
        iterations=turn.iteration,
        usage=turn.usage,
        cost=turn.cost,
        text=last.text if last is not None and last.id == turn.output_id else "",
        error=error,
        in_doubt=tuple(turn.in_doubt),
        answer=turn.answer,
        reason=reason,
        exceeded=turn.exceeded if stop == "budget" else None,
    )
    for entry in turn.steering:  # came too late to be heard: it becomes an input of its own
        state.queue.append(structs.replace(entry, turn_id=own_turn(entry.message)))
    turn_over(state, turn)
    state.turn = None


def own_turn(message: Message) -> str:
    """The turn of an input that was meant for another turn and came too late."""
    return f"turn_{message.id.removeprefix('message_')}"


def _call(state: State, call_id: str) -> CallState | None:
    return state.turn.calls.get(call_id) if state.turn is not None else None


_RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {
    facts.SessionCreated: _created,
    facts.SessionUpdated: _updated,
    facts.InputMessage: _accepted,
    facts.TurnStarted: _began,
    facts.TurnSteered: _steered,
    facts.TurnRecovered: _recovered,
    facts.Drifted: _drifted,
    facts.OutputMessageCompleted: _replied,
    facts.OutputMessageShown: _shown,
    facts.OutputMessageReplaced: _replaced,
    facts.ReasonFailed: _reason_failed,
    facts.ToolStarted: _claimed,
    facts.ToolCompleted: _settled,
    facts.CallResolved: _resolved,
    facts.PolicyDecided: _ruled,
    facts.TurnCompleted: _completed,
    facts.TurnFailed: _failed,
    facts.TurnCancelled: _cancelled,
    **OF_FILES,
    **OF_SUMMARIES,
    **OF_BUDGETS,
    **OF_ASKS,
    **OF_ANSWERS,
    **OF_DELIVERIES,
    **OF_GUARDS,
    **OF_HOOKS,
}
