"""Finish: give every owed call an outcome and record the one terminal event, in one append."""

from __future__ import annotations

from holdfast.events import (
    Failure,
    OutputMessageCompleted,
    ToolCompleted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStop,
)
from holdfast.hook import HookEvent
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import Message, Text, ToolResult
from holdfast.state import CallState, Outcome, TurnState
from holdfast.turn.call import CUT_OFF, NOT_RUN, STOPPED, result_of
from holdfast.turn.gate import ask_hooks, has_gates


async def finish(stop: TurnStop, journal: Journal, manifest: Manifest, reason: str = "") -> Outcome:
    """End the turn for this reason. Hooks after the turn are advisory. Raises `StoreError`."""
    turn = journal.running
    if turn.shown_id:
        journal.stage(_so_far(turn, manifest))
    for call in turn.owed:
        journal.stage(ToolCompleted(result=_settled(call, stop), attempt=call.attempt))
    journal.stage(_terminal(stop, turn, reason))
    outcome, last = journal.state.outcome, journal.state.last_message
    assert outcome is not None
    await journal.flush()
    if has_gates(manifest, "after_turn"):
        event = HookEvent(
            point="after_turn", session_id=journal.state.session_id, turn_id=turn.id, message=last
        )
        await ask_hooks(event, journal, manifest)
        await journal.flush()
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


def _settled(call: CallState, stop: TurnStop) -> ToolResult:
    """A call that the end of the turn overtook: in doubt when it may have had its effect, else cancelled."""
    if call.doubtful or (call.dispatched and call.effect != "pure"):
        return result_of(call.call, CUT_OFF, "in_doubt")
    text = STOPPED if call.dispatched else NOT_RUN
    return result_of(call.call, text.format(reason=stop), "cancelled")


def _terminal(stop: TurnStop, turn: TurnState, reason: str) -> TurnCompleted | TurnFailed | TurnCancelled:
    match stop:
        case "cancelled":
            return TurnCancelled(iterations=turn.iteration, reason=reason, usage=turn.usage)
        case "error" | "interrupted":
            error = turn.failure or Failure(code=stop, message=reason)
            return TurnFailed(stop=stop, iterations=turn.iteration, error=error, usage=turn.usage)
        case _:
            return TurnCompleted(stop=stop, iterations=turn.iteration, usage=turn.usage)
