"""What follows from a log: `fold(events)`.

Messages, turn status, claims, asks, files: each is computed here and nowhere else. `State.apply` is the only code that
changes a state; whoever reads one treats it as read-only. A state can be written as JSON and read back at any point,
and the planner then decides the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from holdfast import events as facts
from holdfast.events import Effect, Event, Fact, Failure, TurnStop
from holdfast.messages import Message, StopReason, ToolCall, ToolResult, Usage, tool_message

TurnStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]


MAX_RECOVERIES = 3
"""How often a turn that makes no progress is gone on with before it parks."""


class Queued(Struct, frozen=True, kw_only=True):
    """An accepted input whose turn has not begun."""

    turn_id: str
    message: Message


class CallState(Struct, kw_only=True, omit_defaults=True):
    """One call of the batch that is being carried out."""

    call: ToolCall
    attempt: int = 0
    """How often it was claimed."""
    effect: Effect | None = None
    """As claimed; None before the first claim."""
    arguments_digest: str = ""
    dispatched: bool = False
    ask_id: str = ""
    """The ask that stands before it, open or answered."""
    verdict: Literal["", "approved", "denied"] = ""
    verdict_reason: str = ""
    asked: str = ""
    """The arguments that were asked about: what an approval is for."""
    result: ToolResult | None = None


class TurnState(Struct, kw_only=True, omit_defaults=True):
    """The turn under way."""

    id: str
    manifest: str
    started_at: datetime
    inputs: tuple[str, ...] = ()
    deadline: datetime | None = None
    iteration: int = 0
    """Model replies so far."""
    attempt: int = 0
    """Failed attempts at the reply that is owed now."""
    retry_at: datetime | None = None
    failure: Failure | None = None
    """Set when the model call failed for good, or somebody interrupted the turn."""
    failure_stop: TurnStop = "error"
    stop: StopReason | None = None
    """Of the last reply; None while a reply is owed."""
    calls: dict[str, CallState] = field(default_factory=dict)
    """The last reply's calls by id, in the model's order."""
    output_id: str = ""
    usage: Usage = Usage()
    in_doubt: list[ToolResult] = field(default_factory=list)
    steering: list[Message] = field(default_factory=list)
    """Inputs that wait to enter before the next model call."""
    recoveries: int = 0
    """How often it was cut off since its last progress."""

    @property
    def parked(self) -> bool:
        """Whether it was cut off so often without progress that only a person may let it go on."""
        return self.recoveries > MAX_RECOVERIES

    @property
    def acting(self) -> bool:
        """Whether any call has no outcome yet."""
        return any(call.result is None for call in self.calls.values())

    @property
    def owed(self) -> list[CallState]:
        """Calls without an outcome."""
        return [call for call in self.calls.values() if call.result is None]


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a turn ended."""

    turn_id: str
    status: TurnStatus
    stop: TurnStop
    iterations: int
    usage: Usage
    text: str = ""
    error: Failure | None = None
    in_doubt: tuple[ToolResult, ...] = ()


class State(Struct, kw_only=True, omit_defaults=True):
    """A session as its log tells it, up to `sequence`."""

    session_id: str
    sequence: int = 0
    agent: str = ""
    harness: str = ""
    layers: str = ""
    title: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    accepted_at: datetime | None = None
    """When the last input was accepted."""
    messages: list[Message] = field(default_factory=list)
    """The transcript: inputs when their turn began, replies, and results in the model's order."""
    queue: list[Queued] = field(default_factory=list)
    turn: TurnState | None = None
    outcome: Outcome | None = None
    """Of the last turn that ended."""
    keys: dict[str, str] = field(default_factory=dict)
    """Turn ids by the idempotency keys of accepted inputs."""
    asks: dict[str, facts.AskOpened] = field(default_factory=dict)
    """Open asks by id."""
    files: dict[str, facts.FileWritten] = field(default_factory=dict)
    """Session files by path."""
    usage: Usage = Usage()

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        self.sequence = event.sequence
        if rule := _RULES.get(type(event.data)):
            rule(self, event, event.data)

    def due(self) -> datetime | None:
        """From when on something is owed that any worker may take up; None when it takes an input or an answer."""
        turn = self.turn
        if turn is None:
            return self.accepted_at if self.queue else None
        if turn.parked:
            return turn.deadline
        if turn.retry_at is not None:
            return turn.retry_at if turn.deadline is None else min(turn.retry_at, turn.deadline)
        owed = turn.owed if self.asks else ()
        if owed and all(call.ask_id in self.asks for call in owed):
            ends = [turn.deadline, *(self.asks[call.ask_id].expires_at for call in owed)]
            return min((end for end in ends if end is not None), default=None)
        return turn.started_at

    def status_of(self, turn_id: str) -> TurnStatus | None:
        """Where a turn stands; None for one that this state no longer (or never) knew."""
        if self.turn is not None and self.turn.id == turn_id:
            return "running"
        if self.outcome is not None and self.outcome.turn_id == turn_id:
            return self.outcome.status
        return "queued" if any(entry.turn_id == turn_id for entry in self.queue) else None


def fold(session_id: str, events: Iterable[Event]) -> State:
    """The state after these events, from the first on."""
    state = State(session_id=session_id)
    for event in events:
        state.apply(event)
    return state


def encode_state(state: State) -> bytes:
    """The state as JSON."""
    return msgspec.json.encode(state)


def decode_state(body: bytes) -> State:
    """The state in this JSON."""
    return _state_decoder.decode(body)


def _created(state: State, event: Event, fact: facts.SessionCreated) -> None:
    state.created_at = event.ts
    state.agent, state.harness, state.layers = fact.agent, fact.harness, fact.layers
    state.title = fact.title
    state.metadata = dict(fact.metadata)


def _updated(state: State, event: Event, fact: facts.SessionUpdated) -> None:
    if fact.title is not None:
        state.title = fact.title
    if fact.metadata is not None:
        state.metadata = dict(fact.metadata)


def _accepted(state: State, event: Event, fact: facts.InputMessage) -> None:
    state.accepted_at = event.ts
    if fact.steer and state.turn is not None and state.turn.id == fact.turn_id:
        state.turn.steering.append(fact.message)
    else:
        state.queue.append(Queued(turn_id=fact.turn_id, message=fact.message))
    if fact.key:
        state.keys[fact.key] = fact.turn_id


def _began(state: State, event: Event, fact: facts.TurnStarted) -> None:
    begun = set(fact.inputs)
    state.messages.extend([entry.message for entry in state.queue if entry.message.id in begun])
    state.queue = [entry for entry in state.queue if entry.message.id not in begun]
    state.turn = TurnState(
        id=event.context.turn_id,
        manifest=fact.manifest,
        started_at=event.ts,
        inputs=fact.inputs,
        deadline=fact.deadline,
    )


def _steered(state: State, event: Event, fact: facts.TurnSteered) -> None:
    if (turn := state.turn) is not None:
        entered = [message for message in turn.steering if message.id in fact.inputs]
        turn.steering = [message for message in turn.steering if message.id not in fact.inputs]
        turn.inputs += tuple(message.id for message in entered)
        turn.stop = None
        state.messages.extend(entered)


def _recovered(state: State, event: Event, fact: facts.TurnRecovered) -> None:
    if state.turn is not None:
        state.turn.recoveries = fact.attempt


def _replied(state: State, event: Event, fact: facts.OutputMessageCompleted) -> None:
    state.messages.append(fact.message)
    state.usage += fact.usage
    if (turn := state.turn) is not None:
        turn.iteration = fact.iteration
        turn.recoveries = 0
        turn.attempt, turn.retry_at = 0, None
        turn.stop = fact.stop
        turn.output_id = fact.message.id
        turn.usage += fact.usage
        turn.calls = {call.id: CallState(call=call) for call in fact.message.calls}


def _reason_failed(state: State, event: Event, fact: facts.ReasonFailed) -> None:
    if (turn := state.turn) is not None:
        turn.attempt = fact.attempt
        turn.retry_at = fact.retry_at
        turn.failure = fact.error if fact.retry_at is None else None


def _claimed(state: State, event: Event, fact: facts.ToolStarted) -> None:
    if call := _call(state, fact.call_id):
        call.attempt = fact.attempt
        call.effect = fact.effect
        call.arguments_digest = fact.arguments_digest
        call.dispatched = fact.dispatched


def _settled(state: State, event: Event, fact: facts.ToolCompleted) -> None:
    call = _call(state, fact.result.call_id)
    if call is None or call.result is not None or state.turn is None:
        return
    call.result = fact.result
    state.turn.recoveries = 0
    if fact.result.status == "in_doubt":
        state.turn.in_doubt.append(fact.result)
    if not state.turn.acting:
        results = [settled.result for settled in state.turn.calls.values() if settled.result]
        state.messages.extend([tool_message(result) for result in results])
        state.turn.stop = None


def _ask_opened(state: State, event: Event, fact: facts.AskOpened) -> None:
    state.asks[fact.ask_id] = fact
    if call := _call(state, fact.call_id):
        call.ask_id, call.asked = fact.ask_id, fact.arguments


def _ask_answered(state: State, event: Event, fact: facts.AskAnswered) -> None:
    _close_ask(state, fact.ask_id, fact.verdict, fact.reason)


def _ask_expired(state: State, event: Event, fact: facts.AskExpired) -> None:
    _close_ask(state, fact.ask_id, "denied", "nobody answered in time")


def _close_ask(state: State, ask_id: str, verdict: Literal["approved", "denied"], reason: str) -> None:
    ask = state.asks.pop(ask_id, None)
    if ask is not None and (call := _call(state, ask.call_id)):
        call.verdict, call.verdict_reason = verdict, reason


def _decided(state: State, event: Event, fact: facts.HookDecided) -> None:
    if fact.decision == "interrupt" and state.turn is not None:
        state.turn.failure = Failure(code="interrupted", message=fact.reason)
        state.turn.failure_stop = "interrupted"


def _completed(state: State, event: Event, fact: facts.TurnCompleted) -> None:
    _end(state, "completed", fact.stop)


def _failed(state: State, event: Event, fact: facts.TurnFailed) -> None:
    _end(state, "failed", fact.stop, fact.error)


def _cancelled(state: State, event: Event, fact: facts.TurnCancelled) -> None:
    turn_id = event.context.turn_id
    if state.turn is not None and state.turn.id == turn_id:
        _end(state, "cancelled", "cancelled")
        return
    state.queue = [entry for entry in state.queue if entry.turn_id != turn_id]
    state.outcome = Outcome(
        turn_id=turn_id, status="cancelled", stop="cancelled", iterations=0, usage=Usage()
    )


def _end(state: State, status: TurnStatus, stop: TurnStop, error: Failure | None = None) -> None:
    if (turn := state.turn) is None:
        return
    last = state.messages[-1]
    state.outcome = Outcome(
        turn_id=turn.id,
        status=status,
        stop=stop,
        iterations=turn.iteration,
        usage=turn.usage,
        text=last.text if last.id == turn.output_id else "",
        error=error,
        in_doubt=tuple(turn.in_doubt),
    )
    for message in turn.steering:  # came too late to be heard: it becomes an input of its own
        own = f"turn_{message.id.removeprefix('message_')}"
        state.queue.append(Queued(turn_id=own, message=message))
    state.asks = {ask_id: ask for ask_id, ask in state.asks.items() if ask.call_id not in turn.calls}
    state.turn = None


def _written(state: State, event: Event, fact: facts.FileWritten) -> None:
    state.files[fact.path] = fact


def _deleted(state: State, event: Event, fact: facts.FileDeleted) -> None:
    state.files.pop(fact.path, None)


def _call(state: State, call_id: str) -> CallState | None:
    return state.turn.calls.get(call_id) if state.turn is not None else None


_RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {
    facts.SessionCreated: _created,
    facts.SessionUpdated: _updated,
    facts.InputMessage: _accepted,
    facts.TurnStarted: _began,
    facts.TurnSteered: _steered,
    facts.TurnRecovered: _recovered,
    facts.OutputMessageCompleted: _replied,
    facts.ReasonFailed: _reason_failed,
    facts.ToolStarted: _claimed,
    facts.ToolCompleted: _settled,
    facts.AskOpened: _ask_opened,
    facts.AskAnswered: _ask_answered,
    facts.AskExpired: _ask_expired,
    facts.HookDecided: _decided,
    facts.TurnCompleted: _completed,
    facts.TurnFailed: _failed,
    facts.TurnCancelled: _cancelled,
    facts.FileWritten: _written,
    facts.FileDeleted: _deleted,
}

_state_decoder = msgspec.json.Decoder(State)
