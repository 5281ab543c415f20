"""Act: bring every owed call to an outcome.

The order for one call: known? arguments valid? hooks, policy, ask, claim (durable), dispatch, outcome (durable, on its
own), hooks, output limit. Here is decided which calls run; `lanes` runs them.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.events import Effect, Fact, ToolCompleted
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.state import CallState
from holdfast.turn.afford import affordable
from holdfast.turn.call import CUT_OFF, Ready, prepare, result_of
from holdfast.turn.crew import Crew
from holdfast.turn.fit import check_call, is_answer
from holdfast.turn.lanes import run_all
from holdfast.turn.permit import answered, expiry, outcome, pass_gate, void_if_changed
from holdfast.turn.step import Owed

MAX_CALLS = 128
"""Calls of one reply that are carried out; those behind them are results that say so."""


async def act(owed: Iterable[Owed], journal: Journal, manifest: Manifest) -> None:
    """Carry out the calls. Returns when each has an outcome or waits for an answer. Raises `StoreError`."""
    turn = journal.running
    ready: list[Ready] = []
    if len(turn.calls) > MAX_CALLS:
        owed = _first(owed, journal)
    if manifest.bounds.tools:
        owed = await affordable(owed, journal, manifest)
    for need in owed:
        checked = await _bring(need, journal, manifest)
        if checked is not None:
            ready.append(checked)
        if turn.failure is not None:
            break  # somebody interrupted: nothing more is asked or run, and `finish` settles what is owed
    if turn.failure is None and journal.state.asks:
        await Crew(journal, manifest, _bring).run(ready)
    elif turn.failure is None:
        await run_all(ready, journal, manifest)
    await journal.flush()


def _first(owed: Iterable[Owed], journal: Journal) -> list[Owed]:
    """Those of the first calls of the reply; the others are settled."""
    calls = journal.running.calls
    surplus, few = set(list(calls)[MAX_CALLS:]), []
    text = f"Error: a reply may ask for {MAX_CALLS} calls, and had {len(calls):,}. Nothing was run. Ask for this later."
    for need in owed:
        if need.call_id in surplus:
            call = calls[need.call_id]
            journal.stage(_settled(call, ToolCompleted(result=result_of(call.call, text, "error"))))
        else:
            few.append(need)
    return few


async def _bring(need: Owed, journal: Journal, manifest: Manifest) -> Ready | None:
    """Stage what stands in the way of this call; the call made ready when nothing does."""
    turn = journal.running
    call = turn.calls[need.call_id]
    match need.how:
        case "run" if turn.contract is not None and is_answer(call.call, turn, manifest):
            journal.stage(*check_call(call.call, turn, journal))
        case "run" | "reconcile":
            checked = await _check(call, journal, manifest)
            if isinstance(checked, Ready):
                return checked
            journal.stage(checked)
        case "doubt":
            journal.stage(
                ToolCompleted(result=result_of(call.call, CUT_OFF, "in_doubt"), attempt=call.attempt)
            )
        case "deny":
            journal.stage(_denied(call, call.verdict_reason or "a person denied it"))
        case "settle":
            journal.stage(await _given(call, journal, manifest))
        case "expire":
            journal.stage(*expiry(call, journal))
    return None


async def _given(call: CallState, journal: Journal, manifest: Manifest) -> Fact:
    """The outcome of a call whose result somebody gave, or what stands in its way."""
    result = call.answer
    if void_if_changed(call, journal, manifest):
        checked = await _check(call, journal, manifest)
        assert not isinstance(checked, Ready), "a call that is not run here waits for its result"
        return checked
    ready = answered(call, manifest)
    assert result is not None, "an answered call has a result"
    return await outcome(ready, result, journal, manifest) if isinstance(ready, Ready) else ready


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
    if call.verdict:
        void_if_changed(call, journal, manifest)
    checked: Ready | Fact = prepare(
        call.call, call.asked or call.call.arguments, manifest.tools, call.attempt + 1
    )
    if isinstance(checked, Ready) and _changed(call, checked.tool.effect):
        now = (
            f"its tool says it is {checked.tool.effect} now, and said {call.effect} when the call was started"
        )
        return _settled(call, ToolCompleted(result=result_of(call.call, now, "error")))
    if isinstance(checked, Ready):
        checked = await pass_gate(checked, call, journal, manifest)
    return _settled(call, checked) if isinstance(checked, ToolCompleted) else checked
