"""The planner: `decide(state, manifest, now) -> Step`.

Theory of operation. A turn is a loop around one question: given the facts so far, what is owed next? The answer is a
`Step`. Carrying a step out records facts, the facts change the state, and the question is asked again. Nothing else
decides: a fresh turn, a resumed one, a replay and a worker on another machine all ask here, so resuming is running.

The rules stand in `RULES`, in order; the first that holds gives the step. Whoever changes a rule changes that table,
and the diagram in the documentation is drawn from it (`scripts/draw_planner.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, Protocol

from msgspec import Struct

from holdfast.events import TurnStop
from holdfast.state import CallState, Queued, Rerun, State, TurnState


class Limits(Protocol):
    """What the planner reads of a manifest."""

    @property
    def max_iterations(self) -> int: ...


class Begin(Struct, frozen=True):
    """Start the turn of this accepted input, or of this call in doubt that is to run again."""

    inputs: tuple[Queued, ...]
    rerun: Rerun | None = None


class Compact(Struct, frozen=True):
    """Summarise the transcript up to this message, so that the next request fits."""

    upto: str


class Reason(Struct, frozen=True):
    """Ask the model."""


How = Literal["run", "reconcile", "doubt", "deny", "expire"]
"""What a call without an outcome needs: to run (again); to ask its tool what became of it; to be settled as in doubt;
to be settled as denied; to have its ask closed because nobody answered in time."""


class Owed(Struct, frozen=True):
    """A call without an outcome, and what it needs."""

    call_id: str
    how: How


class Act(Struct, frozen=True):
    """Bring these calls to an outcome."""

    owed: tuple[Owed, ...]


class Wait(Struct, frozen=True):
    """Nothing can be done before somebody answers, this instant comes, or (without either) an input arrives."""

    asks: tuple[str, ...] = ()
    until: datetime | None = None


class Stop(Struct, frozen=True):
    """The turn is over."""

    reason: TurnStop


Step = Begin | Compact | Reason | Act | Wait | Stop


Phase = Literal["any", "acting", "asking"]
"""Where a rule can hold: anywhere, while calls have no outcome, or while the model has the next (or last) word."""


class Rule(Struct, frozen=True):
    """One row of the table."""

    name: str
    phase: Phase
    test: Callable[[State, TurnState, Limits, datetime], bool]
    """Asked in its phase only."""
    step: type[Step]
    make: Callable[[State, TurnState, datetime], Step]

    def when(self, state: State, turn: TurnState, limits: Limits, now: datetime) -> bool:
        """Whether the rule holds."""
        phase = "acting" if turn.acting else "asking"
        return self.phase in ("any", phase) and self.test(state, turn, limits, now)


def decide(state: State, manifest: Limits, now: datetime) -> Step:
    """What is owed next. Pure: the same facts give the same answer."""
    turn = state.turn
    if turn is None:
        if state.reruns:
            return Begin((), state.reruns[0])
        return Begin((state.queue[0],)) if state.queue else Wait()
    for rule in _ACTING if turn.acting else _ASKING:
        if rule.test(state, turn, manifest, now):
            return rule.make(state, turn, now)
    return Reason()


def _stop(reason: TurnStop) -> Callable[[State, TurnState, datetime], Step]:
    stop = Stop(reason)
    return lambda state, turn, now: stop


def how(call: CallState, state: State, now: datetime) -> How | None:
    """What a call without an outcome needs; None while its ask is open."""
    if call.verdict == "denied":
        return "deny"
    if call.ask_id and not call.verdict:
        ask = state.asks[call.ask_id]
        return "expire" if ask.expires_at is not None and now >= ask.expires_at else None
    if not call.dispatched or call.effect in ("pure", "idempotent"):
        return "run"
    return "reconcile" if call.effect == "reconcile" else "doubt"


def _some_ready(state: State, turn: TurnState, now: datetime) -> bool:
    return any(call.result is None and how(call, state, now) is not None for call in turn.calls.values())


def _ready(state: State, turn: TurnState, now: datetime) -> tuple[Owed, ...]:
    needs = [(call.call.id, how(call, state, now)) for call in turn.owed]
    return tuple(Owed(call_id, need) for call_id, need in needs if need is not None)


def _until(state: State, turn: TurnState) -> datetime | None:
    instants = [
        turn.deadline,
        *(state.asks[call.ask_id].expires_at for call in turn.owed if call.ask_id in state.asks),
    ]
    return min((instant for instant in instants if instant is not None), default=None)


def _retry_until(state: State, turn: TurnState, now: datetime) -> Step:
    instants = [instant for instant in (turn.retry_at, turn.deadline) if instant is not None]
    return Wait(until=min(instants))


_SOON = timedelta(seconds=75)
"""No retry is further away; if one seems to be, the clock was set back."""

RULES: tuple[Rule, ...] = (
    Rule(
        "the deadline has passed",
        "any",
        lambda state, turn, limits, now: turn.deadline is not None and now >= turn.deadline,
        Stop,
        _stop("deadline"),
    ),
    Rule(
        "the model call failed for good, or a policy interrupted",
        "any",
        lambda state, turn, limits, now: turn.failure is not None,
        Stop,
        lambda state, turn, now: Stop(turn.failure_stop),
    ),
    Rule(
        "the model declined",
        "any",
        lambda state, turn, limits, now: turn.stop == "refusal",
        Stop,
        _stop("refusal"),
    ),
    Rule(
        "calls are owed, but the iteration limit leaves no reply to read their results",
        "acting",
        lambda state, turn, limits, now: turn.iteration >= limits.max_iterations,
        Stop,
        _stop("max_iterations"),
    ),
    Rule(
        "it was cut off too often without progress, and is parked",
        "any",
        lambda state, turn, limits, now: turn.parked,
        Wait,
        lambda state, turn, now: Wait(until=turn.deadline),
    ),
    Rule(
        "calls are owed and some can go on",
        "acting",
        lambda state, turn, limits, now: _some_ready(state, turn, now),
        Act,
        lambda state, turn, now: Act(_ready(state, turn, now)),
    ),
    Rule(
        "every call that is owed waits for an answer",
        "acting",
        lambda state, turn, limits, now: True,
        Wait,
        lambda state, turn, now: Wait(tuple(call.ask_id for call in turn.owed), _until(state, turn)),
    ),
    Rule(
        "a failed model call may be tried again later",
        "asking",
        lambda state, turn, limits, now: turn.retry_at is not None and now < turn.retry_at <= now + _SOON,
        Wait,
        _retry_until,
    ),
    Rule(
        "somebody steered before the model answered",
        "asking",
        lambda state, turn, limits, now: bool(turn.steering) and turn.iteration < limits.max_iterations,
        Reason,
        lambda state, turn, now: Reason(),
    ),
    Rule(
        "the reply was cut short",
        "asking",
        lambda state, turn, limits, now: turn.stop == "max_tokens",
        Stop,
        _stop("max_tokens"),
    ),
    Rule(
        "the model answered",
        "asking",
        lambda state, turn, limits, now: turn.stop is not None,
        Stop,
        _stop("end_turn"),
    ),
    Rule(
        "the iteration limit is reached",
        "asking",
        lambda state, turn, limits, now: turn.iteration >= limits.max_iterations,
        Stop,
        _stop("max_iterations"),
    ),
    Rule(
        "a reply is owed",
        "asking",
        lambda state, turn, limits, now: True,
        Reason,
        lambda state, turn, now: Reason(),
    ),
)
"""The rules for a turn under way, in order. Without one, an accepted input begins and otherwise nothing is owed."""

_ACTING = tuple(rule for rule in RULES if rule.phase != "asking")
_ASKING = tuple(rule for rule in RULES if rule.phase != "acting")

RECORDS: dict[type[Step], tuple[str, ...]] = {
    Begin: ("turn.started",),
    Compact: ("context.compacted",),
    Reason: (
        "turn.steered",
        "output.message.shown",
        "output.message.replaced",
        "output.message.completed",
        "reason.failed",
        "hook.decided",
    ),
    Act: ("hook.decided", "ask.opened", "ask.expired", "tool.started", "tool.completed"),
    Wait: (),
    Stop: ("output.message.completed", "tool.completed", "turn.completed", "turn.failed", "turn.cancelled"),
}
"""The facts that carrying out a step may record, for the diagram. What a tool's services add is left out."""
