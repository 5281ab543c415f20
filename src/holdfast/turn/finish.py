"""Finish: give every owed call an outcome and record the one terminal event, in one append."""

from __future__ import annotations

from holdfast.events import (
    EventContext,
    Failure,
    OutputMessageCompleted,
    ToolCompleted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStop,
)
from holdfast.facts.budgets import in_words
from holdfast.facts.hooks import HooksOwed
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import Message, Text, ToolResult
from holdfast.outcome import Outcome
from holdfast.roster import blocked, blocker_in
from holdfast.sink import SINKS
from holdfast.state import CallState, TurnState
from holdfast.turn.after import follow_up
from holdfast.turn.booking import settle_turn
from holdfast.turn.call import CUT_OFF, NOT_RUN, STOPPED, is_long, limited, result_of
from holdfast.turn.gate import has_gates
from holdfast.turn.passing import past_guards
from holdfast.turn.repetition import repeated


async def finish(stop: TurnStop, journal: Journal, manifest: Manifest, reason: str = "") -> Outcome:
    """End the turn for this reason. Hooks after the turn are advisory. Raises `StoreError`."""
    turn = journal.running
    if manifest.budgets or manifest.rates or journal.state.reserved:
        await settle_turn(journal, manifest)
    if turn.shown_id:
        journal.stage(_so_far(turn, manifest))
    for call in turn.owed:
        journal.stage(await _outcome(call, stop, journal, manifest))
    journal.stage(_terminal(stop, turn, reason or _why(stop, journal, manifest), _failure(turn, journal)))
    outcome = journal.state.outcome
    assert outcome is not None
    if SINKS in journal.scope:
        context = EventContext(turn_id=turn.id)
        owed = journal.scope[SINKS].owed(journal.state.agent, turn.id, outcome.status)
        journal.stage(*owed, context=context)
    hooks = has_gates(manifest, "after_turn")
    if hooks:
        journal.stage(HooksOwed(), context=EventContext(turn_id=turn.id))
    await journal.flush()
    if hooks:
        await follow_up(turn.id, journal, manifest)
    return outcome


def _so_far(turn: TurnState, manifest: Manifest) -> OutputMessageCompleted:
    """What readers have seen of a message that will not be finished: it stays, and is marked."""
    return OutputMessageCompleted(
        message=Message(id=turn.shown_id, role="assistant", content=(Text(text=turn.shown),)),
        stop="cut_off",
        iteration=turn.iteration + 1,
        attempt=turn.attempt + 1,
        model=manifest.route(turn.route).model,
    )


async def _outcome(call: CallState, stop: TurnStop, journal: Journal, manifest: Manifest) -> ToolCompleted:
    """What somebody handed in counts: that call was carried out, elsewhere."""
    if call.verdict != "answered" or call.answer is None:
        return ToolCompleted(result=_settled(call, stop), attempt=call.attempt)
    result = await past_guards(call.answer, call.call, journal, manifest)
    if is_long(result, manifest.result_bytes):
        result = await limited(result, journal, manifest.result_bytes)
    return ToolCompleted(result=result, labels=manifest.charter.brings.get(call.call.name, ()))


def _settled(call: CallState, stop: TurnStop) -> ToolResult:
    """A call that the end of the turn overtook: in doubt when it may have had its effect, else cancelled."""
    if call.doubtful or (call.dispatched and call.effect != "pure"):
        return result_of(call.call, CUT_OFF, "in_doubt")
    text = STOPPED if call.dispatched else NOT_RUN
    return result_of(call.call, text.format(reason=stop), "cancelled")


def _failure(turn: TurnState, journal: Journal) -> Failure | None:
    """What went wrong, or what the turn may not go on without."""
    listing = blocker_in(journal.scope)
    return turn.failure or (blocked(listing) if listing is not None else None)


def _unfit(turn: TurnState) -> Failure:
    """What is wrong with the last answer of a turn that gave none of the shape that was asked for."""
    wrong = "; ".join(turn.problems)
    text = f"no answer fitted the output contract in {turn.rejections} attempts; what is wrong with the last: {wrong}"
    return Failure(code="invalid_output", message=text)


def _why(stop: TurnStop, journal: Journal, manifest: Manifest) -> str:
    """What the stop alone does not say, for a person."""
    turn = journal.running
    if stop == "budget" and turn.exceeded is not None:
        return in_words(turn.exceeded)
    if stop == "refusal":
        return turn.withheld.why
    if stop == "loop":
        times = manifest.repeated_calls
        return (
            f"The model called {repeated(journal.state, times)} {times} times with the same arguments and got the same "
            "result each time, so it was stopped. Say what it should do differently, or raise "
            "Limits(repeated_calls=...) where that is how the tool is meant to be used."
        )
    return ""


def _terminal(
    stop: TurnStop, turn: TurnState, reason: str, failure: Failure | None
) -> TurnCompleted | TurnFailed | TurnCancelled:
    match stop:
        case "cancelled":
            return TurnCancelled(iterations=turn.iteration, reason=reason, usage=turn.usage)
        case "invalid_output":
            return TurnFailed(stop=stop, iterations=turn.iteration, error=_unfit(turn), usage=turn.usage)
        case "error" | "interrupted":
            error = failure or Failure(code=stop, message=reason)
            return TurnFailed(stop=stop, iterations=turn.iteration, error=error, usage=turn.usage)
        case _:
            return TurnCompleted(stop=stop, iterations=turn.iteration, usage=turn.usage, reason=reason)
