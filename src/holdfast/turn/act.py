"""Act: bring every owed call to an outcome.

The order for one call: known? arguments valid? hooks, policy, ask, claim (durable), dispatch, outcome (durable, on its
own), hooks, output limit. Here is decided which calls run; `lanes` runs them.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.events import AskExpired, Effect, Fact, ToolCompleted
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.state import CallState
from holdfast.turn.call import CUT_OFF, Ready, prepare, result_of
from holdfast.turn.decide import Owed
from holdfast.turn.gate import before_tool
from holdfast.turn.lanes import run_all


async def act(owed: Iterable[Owed], journal: Journal, manifest: Manifest) -> None:
    """Carry out the calls. Returns when each has an outcome or waits for an answer. Raises `StoreError`."""
    turn = journal.running
    ready: list[Ready] = []
    for need in owed:
        call = turn.calls[need.call_id]
        match need.how:
            case "run" | "reconcile":
                checked = await _check(call, journal, manifest)
                if isinstance(checked, Ready):
                    ready.append(checked)
                else:
                    journal.stage(checked)
                if turn.failure is not None:
                    break  # somebody interrupted: nothing more is asked or run, and `finish` settles what is owed
            case "doubt":
                journal.stage(
                    ToolCompleted(result=result_of(call.call, CUT_OFF, "in_doubt"), attempt=call.attempt)
                )
            case "deny":
                journal.stage(_denied(call, call.verdict_reason or "a person denied it"))
            case "expire":
                journal.stage(AskExpired(ask_id=call.ask_id), _denied(call, "nobody answered in time"))
    if turn.failure is None:
        await run_all(ready, journal, manifest)
    await journal.flush()


def _changed(call: CallState, effect: Effect) -> bool:
    """Whether the call may have had an effect that what its tool promises now says nothing about."""
    return call.dispatched and call.effect not in ("pure", effect) and effect != "reconcile"


def _denied(call: CallState, reason: str) -> ToolCompleted:
    denied = result_of(call.call, f"Denied: {reason}. Nothing was run.", "denied")
    return _settled(call, ToolCompleted(result=denied))


def _settled(call: CallState, outcome: ToolCompleted) -> ToolCompleted:
    """The outcome of a call that does not run now. One that ran before and was cut off is in doubt all the same."""
    if not call.doubtful and (not call.dispatched or call.effect == "pure"):
        return outcome
    text = f"{CUT_OFF} It cannot be run again: {outcome.result.text}"
    return ToolCompleted(result=result_of(call.call, text, "in_doubt"), attempt=call.attempt)


async def _check(call: CallState, journal: Journal, manifest: Manifest) -> Ready | Fact:
    """The call made ready, or the fact that stands in its way: an outcome, an ask, or the end of the turn."""
    checked: Ready | Fact = prepare(
        call.call, call.asked or call.call.arguments, manifest.tools, call.attempt + 1
    )
    if isinstance(checked, Ready) and _changed(call, checked.tool.effect):
        now = (
            f"its tool says it is {checked.tool.effect} now, and said {call.effect} when the call was started"
        )
        return _settled(call, ToolCompleted(result=result_of(call.call, now, "error")))
    if isinstance(checked, Ready) and not call.verdict:
        checked = await before_tool(checked, journal, manifest)
    return _settled(call, checked) if isinstance(checked, ToolCompleted) else checked
