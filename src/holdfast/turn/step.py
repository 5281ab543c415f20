"""Steps: what can be owed next. `decide` says which."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from holdfast.events import TurnStop
from holdfast.facts.compaction import CompactReason
from holdfast.outcome import Outcome
from holdfast.state import Queued, Rerun


class Begin(Struct, frozen=True):
    """Start the turn of this accepted input, or of this call in doubt that is to run again."""

    inputs: tuple[Queued, ...]
    rerun: Rerun | None = None


class Compact(Struct, frozen=True):
    """Summarise the beginning of the transcript, so that the next request fits."""

    reason: CompactReason


class Reason(Struct, frozen=True):
    """Ask the model."""


How = Literal["run", "reconcile", "doubt", "deny", "settle", "expire"]
"""What a call without an outcome needs: to run (again); to ask its tool what became of it; to be settled as in doubt;
to be settled as denied; to be settled with the result that somebody gave; to have its ask closed because nobody
answered in time."""


class Owed(Struct, frozen=True):
    """A call without an outcome, and what it needs."""

    call_id: str
    how: How


class Act(Struct, frozen=True):
    """Bring these calls to an outcome."""

    owed: tuple[Owed, ...]


def settling(step: object) -> tuple[Owed, ...]:
    """The calls of this step that come to an outcome without being run."""
    return tuple(it for it in step.owed if it.how != "run") if isinstance(step, Act) else ()


class Wait(Struct, frozen=True):
    """Nothing can be done before somebody answers, this instant comes, or (without either) an input arrives."""

    asks: tuple[str, ...] = ()
    until: datetime | None = None
    deferred: bool = False
    """Whether a policy put something off: that may take long."""


class Stop(Struct, frozen=True):
    """The turn is over."""

    reason: TurnStop


class Waiting(Struct, frozen=True):
    """Nothing in memory is worth keeping: the log says what is waited for."""

    wait: Wait


Rest = Waiting | Outcome
"""How a turn rests: for a while, or for good."""

Step = Begin | Compact | Reason | Act | Wait | Stop


_ASKED = ("budget.reserved", "budget.settled", "budget.exceeded", "budget.warned")
"""What asking a model records where there are budgets."""

RECORDS: dict[type[Step], tuple[str, ...]] = {
    Begin: ("turn.started",),
    Compact: (*_ASKED, "context.compacted", "context.compaction.failed", "policy.decided", "hook.decided"),
    Reason: (
        *_ASKED,
        "turn.steered",
        "output.message.shown",
        "output.message.replaced",
        "output.message.completed",
        "output.checked",
        "reason.failed",
        "policy.decided",
        "hook.decided",
        "guard.decided",
    ),
    Act: (
        "guard.decided",
        "budget.reserved",
        "budget.exceeded",
        "hook.decided",
        "policy.decided",
        "ask.opened",
        "grant.used",
        "ask.answered",
        "ask.expired",
        "ask.voided",
        "tool.started",
        "tool.completed",
        "output.checked",
    ),
    Wait: (),
    Stop: (
        "budget.settled",
        "output.message.completed",
        "tool.completed",
        "turn.completed",
        "turn.failed",
        "turn.cancelled",
        "hooks.owed",
        "hook.decided",
        "hooks.run",
    ),
}
"""The facts that carrying out a step may record, for the diagram. What a tool's services add is left out."""
