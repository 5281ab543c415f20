"""What each kind of fact adds to its run. Other kinds add nothing: the other system has no word for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.compat.agent_sdk import calls, replies
from holdfast.compat.agent_sdk.run import Run
from holdfast.events import TurnSteered


def _steered(run: Run, fact: TurnSteered) -> None:
    run.messages += len(fact.inputs)
    run.assemble()


STEPS: dict[str, Callable[[Run, Any], None]] = {
    "turn.steered": _steered,
    "turn.recovered": calls.recovered,
    "context.compacted": lambda run, fact: run.assemble(),
    "output.message.completed": replies.replied,
    "reason.failed": replies.failed,
    "output.checked": replies.checked,
    "tool.started": calls.started,
    "tool.completed": calls.completed,
    "call.resolved": calls.resolved,
    "ask.opened": calls.asked,
    "ask.answered": calls.answered,
    "ask.expired": calls.answered,
    "ask.voided": calls.answered,
    "hook.decided": calls.decided,
    "turn.completed": lambda run, fact: run.end("completed"),
    "turn.failed": lambda run, fact: run.end("failed"),
    "turn.cancelled": lambda run, fact: run.end("cancelled"),
}
"""By the type of the event."""
