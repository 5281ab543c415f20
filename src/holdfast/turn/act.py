"""Act: bring every owed call to an outcome.

The order for one call: known? arguments valid? hooks, policy, ask, claim (durable), dispatch, outcome (durable, on its
own), hooks, output limit. Here is decided which calls run; `lanes` runs them.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.events import AskExpired, Fact, ToolCompleted
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
            case "doubt":
                journal.stage(
                    ToolCompleted(result=result_of(call.call, CUT_OFF, "in_doubt"), attempt=call.attempt)
                )
            case "deny":
                journal.stage(_denied(call, call.verdict_reason or "a person denied it"))
            case "expire":
                journal.stage(AskExpired(ask_id=call.ask_id), _denied(call, "nobody answered in time"))
    await run_all(ready, journal, manifest)
    await journal.flush()


def _denied(call: CallState, reason: str) -> ToolCompleted:
    return ToolCompleted(result=result_of(call.call, f"Denied: {reason}. Nothing was run.", "denied"))


async def _check(call: CallState, journal: Journal, manifest: Manifest) -> Ready | Fact:
    """The call made ready, or the fact that stands in its way: an outcome, an ask, or the end of the turn."""
    ready = prepare(call.call, call.asked or call.call.arguments, manifest.tools, call.attempt + 1)
    if isinstance(ready, Ready) and not call.verdict:
        return await before_tool(ready, journal, manifest)
    return ready
