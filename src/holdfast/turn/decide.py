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

from holdfast.capability import Compaction
from holdfast.events import TurnStop
from holdfast.facts.answers import ANSWER
from holdfast.state import CallState, State, TurnState
from holdfast.turn.repetition import repeated
from holdfast.turn.step import Act, Compact, How, Owed, Reason, Step, Stop, Wait
from holdfast.turn.step import Begin as Begin


class Limits(Protocol):
    """What the planner reads of a manifest."""

    @property
    def max_iterations(self) -> int: ...

    @property
    def compaction(self) -> Compaction | None: ...

    def compact_above(self, place: int) -> int | None: ...

    @property
    def repeated_calls(self) -> int: ...


Phase = Literal["any", "acting", "asking"]
"""Where a rule can hold: anywhere, while calls have no outcome, or while the model has the next (or last) word."""

Turns = Literal["all", "troubled"]
"""Of which turns a rule can hold: of any, or of those that `_troubled` tells from the ordinary run."""


class Rule(Struct, frozen=True):
    """One row of the table."""

    name: str
    phase: Phase
    test: Callable[[State, TurnState, Limits, datetime], bool]
    """Asked in its phase only."""
    step: type[Step]
    make: Callable[[State, TurnState, datetime], Step]
    turns: Turns = "all"

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
    for rule in _ORDER[turn.acting, _troubled(turn)]:
        if rule.test(state, turn, manifest, now):
            return rule.make(state, turn, now)
    return Reason()


def _troubled(turn: TurnState) -> bool:
    """Whether anything has happened to the turn that most never see, so that all rules are asked. The others are
    decided several times each, and by few rules."""
    return not (
        turn.deadline is None
        and turn.failure is None
        and turn.exceeded is None
        and turn.retry_at is None
        and turn.deferred_until is None
        and turn.contract is None
        and not turn.recoveries
        and not turn.steering
        and turn.stop != "refusal"
    )


def _stop(reason: TurnStop) -> Callable[[State, TurnState, datetime], Step]:
    stop = Stop(reason)
    return lambda state, turn, now: stop


def how(call: CallState, state: State, now: datetime) -> How | None:
    """What a call without an outcome needs; None while its ask is open, or a policy puts it off."""
    if call.verdict == "denied":
        return "deny"
    if call.verdict == "answered":
        return "settle"
    if call.ask_id and not call.verdict:
        ask = state.asks[call.ask_id]
        return "expire" if ask.expires_at is not None and now >= ask.expires_at else None
    if not call.dispatched or call.effect in ("pure", "idempotent"):
        return None if not call.verdict and _later(call.deferred_until, now) else "run"
    return "reconcile" if call.effect == "reconcile" else "doubt"


def _later(until: datetime | None, now: datetime) -> bool:
    return until is not None and now < until <= now + _FARTHEST


def _some_ready(state: State, turn: TurnState, now: datetime) -> bool:
    return any(call.result is None and how(call, state, now) is not None for call in turn.calls.values())


def _ready(state: State, turn: TurnState, now: datetime) -> tuple[Owed, ...]:
    needs = [(call.call.id, how(call, state, now)) for call in turn.owed]
    return tuple(Owed(call_id, need) for call_id, need in needs if need is not None)


def _answering(turn: TurnState) -> bool:
    """Whether one of the calls is the answer itself, after which nothing more is to be read."""
    return turn.contract is not None and any(call.call.name == ANSWER for call in turn.owed)


def _until(state: State, turn: TurnState) -> datetime | None:
    instants = [
        turn.deadline,
        *(state.wakes(call) for call in turn.owed),
    ]
    return min((instant for instant in instants if instant is not None), default=None)


def _open_asks(state: State, turn: TurnState) -> tuple[str, ...]:
    return tuple(call.ask_id for call in turn.owed if call.ask_id in state.asks)


def _retry_until(state: State, turn: TurnState, now: datetime) -> Step:
    instants = [instant for instant in (turn.retry_at, turn.deadline) if instant is not None]
    return Wait(until=min(instants))


def _deferred_until(state: State, turn: TurnState, now: datetime) -> Step:
    instants = [instant for instant in (turn.deferred_until, turn.deadline) if instant is not None]
    return Wait(until=min(instants), deferred=True)


def _can_shrink(turn: TurnState, limits: Limits) -> bool:
    """Whether the request failed for a reason that a summary of the transcript may remove."""
    too_large = turn.failure is not None and turn.failure.code == "too_large"
    return too_large and limits.compaction is not None and not turn.compaction_tried


def _should_shrink(state: State, turn: TurnState, limits: Limits) -> bool:
    """Whether the transcript is summarised before the reply that is owed, although nothing has failed."""
    if (limits.compaction is None and not state.compaction_by) or turn.compaction_tried:
        return False
    answered = (turn.stop is not None or turn.fits) and not turn.steering
    if answered or turn.iteration >= limits.max_iterations:
        return False
    above = limits.compact_above(turn.route)
    grown = above is not None and state.context > above and not turn.compaction_off
    return grown or bool(state.compaction_by)


def _budget_until(state: State, turn: TurnState, now: datetime) -> Step:
    assert turn.exceeded is not None
    instants = [instant for instant in (turn.exceeded.until, turn.deadline) if instant is not None]
    return Wait(until=min(instants, default=None), deferred=True)


def _held_back(turn: TurnState, now: datetime) -> bool:
    """Whether the turn waits at a budget that is not raised, in a window that is not over."""
    over = turn.exceeded
    return over is not None and over.waits and (over.until is None or now < over.until)


_FARTHEST = timedelta(days=31)
"""No policy puts anything off for longer; if one seems to, the clock was set back, and it is asked again."""

_SOON = timedelta(seconds=75)
"""No retry is further away; if one seems to be, the clock was set back."""

RULES: tuple[Rule, ...] = (
    Rule(
        "the deadline has passed",
        "any",
        lambda state, turn, limits, now: turn.deadline is not None and now >= turn.deadline,
        Stop,
        _stop("deadline"),
        turns="troubled",
    ),
    Rule(
        "the model call failed for good, or a policy interrupted",
        "any",
        lambda state, turn, limits, now: turn.failure is not None and not _can_shrink(turn, limits),
        Stop,
        lambda state, turn, now: Stop(turn.failure_stop),
        turns="troubled",
    ),
    Rule(
        "the model declined",
        "any",
        lambda state, turn, limits, now: turn.stop == "refusal",
        Stop,
        _stop("refusal"),
        turns="troubled",
    ),
    Rule(
        "calls are owed, but the iteration limit leaves no reply to read their results",
        "acting",
        lambda state, turn, limits, now: turn.iteration >= limits.max_iterations and not _answering(turn),
        Stop,
        _stop("max_iterations"),
    ),
    Rule(
        "it was cut off too often without progress, and is parked",
        "any",
        lambda state, turn, limits, now: turn.parked,
        Wait,
        lambda state, turn, now: Wait(until=turn.deadline),
        turns="troubled",
    ),
    Rule(
        "a budget is used up",
        "any",
        lambda state, turn, limits, now: turn.exceeded is not None and not turn.exceeded.waits,
        Stop,
        _stop("budget"),
        turns="troubled",
    ),
    Rule(
        "a budget is used up, and its next window or somebody who raises it is waited for",
        "any",
        lambda state, turn, limits, now: _held_back(turn, now),
        Wait,
        _budget_until,
        turns="troubled",
    ),
    Rule(
        "the model makes the same call again and again, and learns nothing from it",
        "asking",
        lambda state, turn, limits, now: (
            turn.stop is None and not turn.steering and bool(repeated(state, limits.repeated_calls))
        ),
        Stop,
        _stop("loop"),
    ),
    Rule(
        "calls are owed and some can go on",
        "acting",
        lambda state, turn, limits, now: _some_ready(state, turn, now),
        Act,
        lambda state, turn, now: Act(_ready(state, turn, now)),
    ),
    Rule(
        "every call that is owed waits for an answer, or was put off by a policy",
        "acting",
        lambda state, turn, limits, now: True,
        Wait,
        lambda state, turn, now: Wait(
            _open_asks(state, turn), _until(state, turn), any(it.deferrals for it in turn.owed)
        ),
    ),
    Rule(
        "a policy put the model call off",
        "asking",
        lambda state, turn, limits, now: _later(turn.deferred_until, now),
        Wait,
        _deferred_until,
        turns="troubled",
    ),
    Rule(
        "a failed model call may be tried again later",
        "asking",
        lambda state, turn, limits, now: turn.retry_at is not None and now < turn.retry_at <= now + _SOON,
        Wait,
        _retry_until,
        turns="troubled",
    ),
    Rule(
        "the request was too large, and its transcript can be summarised",
        "asking",
        lambda state, turn, limits, now: _can_shrink(turn, limits),
        Compact,
        lambda state, turn, now: Compact("too_large"),
        turns="troubled",
    ),
    Rule(
        "no answer had the shape that was asked for, as often as it was repaired",
        "asking",
        lambda state, turn, limits, now: turn.unfit,
        Stop,
        _stop("invalid_output"),
        turns="troubled",
    ),
    Rule(
        "the transcript has grown too long for the next request, or somebody wants it summarised",
        "asking",
        lambda state, turn, limits, now: _should_shrink(state, turn, limits),
        Compact,
        lambda state, turn, now: Compact("asked" if state.compaction_by else "threshold"),
    ),
    Rule(
        "somebody steered before the model answered",
        "asking",
        lambda state, turn, limits, now: bool(turn.steering) and turn.iteration < limits.max_iterations,
        Reason,
        lambda state, turn, now: Reason(),
        turns="troubled",
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
        lambda state, turn, limits, now: turn.stop is not None or turn.fits,
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

_ORDER = {
    (acting, troubled): tuple(
        rule
        for rule in RULES
        if rule.phase in ("any", "acting" if acting else "asking") and (troubled or rule.turns == "all")
    )
    for acting in (False, True)
    for troubled in (False, True)
}
"""The rules that can hold, in order, by whether calls have no outcome and whether the turn is troubled."""
