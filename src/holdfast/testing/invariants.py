"""What holds of every log, whatever happened to those who wrote it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from holdfast.events import (
    TURN_ENDS,
    AskAnswered,
    AskExpired,
    AskOpened,
    AskVoided,
    CallResolved,
    Event,
    GrantUsed,
    InputMessage,
    OutputMessageCompleted,
    ToolCompleted,
    ToolStarted,
    TurnStarted,
)
from holdfast.facts.compaction import ContextCompacted
from holdfast.fold import fold
from holdfast.messages import Message, ToolCall, ToolResult
from holdfast.state import State
from holdfast.turn.repair import repair


def problems_in(events: Sequence[Event], *, at_rest: bool = True, transcript: bool = True) -> list[str]:
    """Everything that is wrong with one session's log, in words; nothing when all is well.

    Its events are numbered 1..n. Every accepted input has one turn with one end, or waits for a person. Every call
    has one outcome, in an order that makes sense. Every ask is closed at most once. Each summary stands for more than
    the one before it, and never for a call without its result. The transcript is valid for a provider as it is. With
    `at_rest=False` turns and calls may be under way; with `transcript=False` the transcript may need repair, as after a
    model's empty reply.
    """
    if not events:
        return []
    state = fold(events[0].session_id, events)
    found = [
        *_gaps(events),
        *_turns(events, state, at_rest),
        *_calls(events, at_rest=at_rest and _rests(state)),
    ]
    found += _asks(events)
    found += _summaries(events)
    if transcript and state.turn is None and not is_valid(state.messages):
        found.append("the transcript is not valid: repair changes it")
    return found


def _summaries(events: Sequence[Event]) -> Iterator[str]:
    covered = 0
    for place, event in enumerate(events):
        if isinstance(event.data, ContextCompacted):
            fact = event.data
            before = fold(event.session_id, events[:place])
            if not covered < fact.covers < len(before.places):
                yield f"a summary covers {fact.covers} of {len(before.places)} messages, after one of {covered}"
            elif before.messages[fact.covers - before.unread].role == "tool":
                yield f"the summary of {fact.covers} messages separates a result from its call"
            covered = fact.covers


def is_valid(messages: Sequence[Message]) -> bool:
    """Whether a transcript needs no repair. The ids that a provider gave, or did not, do not count."""
    return _without_their_ids(messages) == _without_their_ids(repair(messages))


def _without_their_ids(messages: Iterable[Message]) -> list[Message]:
    return [
        structs.replace(
            message,
            content=tuple(
                structs.replace(part, provider_id="") if isinstance(part, ToolCall | ToolResult) else part
                for part in message.content
            ),
        )
        for message in messages
    ]


def _rests(state: State) -> bool:
    """Whether nothing waits for a person: for an answer, or for a word that a parked turn may go on."""
    return not state.asks and not (state.turn is not None and state.turn.parked)


def _gaps(events: Sequence[Event]) -> Iterator[str]:
    for expected, event in enumerate(events, 1):
        if event.sequence != expected:
            yield f"event {event.sequence} stands where event {expected} belongs"
            return


def _turns(events: Sequence[Event], state: State, at_rest: bool) -> Iterator[str]:
    inputs = [event.data for event in events if isinstance(event.data, InputMessage)]
    accepted = {fact.turn_id for fact in inputs}
    reruns = [event.data for event in events if isinstance(event.data, CallResolved)]
    accepted |= {fact.turn_id for fact in reruns if fact.result is None}
    late = {_own_turn(fact.message.id) for fact in inputs if fact.steer}
    keys = Counter(fact.key for fact in inputs if fact.key)
    started = Counter(event.context.turn_id for event in events if isinstance(event.data, TurnStarted))
    ended = Counter(event.context.turn_id for event in events if event.type in TURN_ENDS)
    yield from (f"the input with key {key!r} was accepted {n} times" for key, n in keys.items() if n > 1)
    yield from (f"{turn_id} started {n} times" for turn_id, n in started.items() if n > 1)
    for turn_id, times in ended.items():
        who = turn_id or "a turn without an id"
        if times > 1:
            yield f"{who} ended {times} times"
        if turn_id not in accepted | late:
            yield f"{who} ended, and was never accepted"
    if at_rest and _rests(state):
        owed = accepted | started.keys() | {entry.turn_id for entry in state.queue}
        yield from (f"{turn_id} was accepted and did not end" for turn_id in owed if not ended[turn_id])


def _own_turn(message_id: str) -> str:
    """The turn of an input that was meant for the turn under way, and came too late for it."""
    return f"turn_{message_id.removeprefix('message_')}"


def _calls(events: Sequence[Event], *, at_rest: bool) -> Iterator[str]:
    asked: set[str] = set()
    claims: dict[str, ToolStarted] = {}
    outcomes: Counter[str] = Counter()
    reruns: Counter[str] = Counter()
    for event in events:
        match event.data:
            case CallResolved(call_id=call_id, result=None):
                reruns[call_id] += 1
            case OutputMessageCompleted(message=message):
                yield from (f"{call.id} was asked for twice" for call in message.calls if call.id in asked)
                asked.update(call.id for call in message.calls)
            case ToolStarted(call_id=call_id) as claim:
                yield from _claim(claim, claims.get(call_id), known=call_id in asked)
                claims[call_id] = claim
                if outcomes[call_id] > reruns[call_id]:
                    yield f"{call_id} was claimed again after its outcome"
            case ToolCompleted(result=result):
                outcomes[result.call_id] += 1
                if result.call_id not in asked:
                    yield f"{result.call_id} has an outcome, and nobody asked for it"
    many = {call_id: n for call_id, n in outcomes.items() if n > 1 + reruns[call_id]}
    yield from (f"{call_id} has {n} outcomes" for call_id, n in many.items())
    if at_rest:
        yield from (f"{call_id} has no outcome" for call_id in sorted(asked) if not outcomes[call_id])


def _claim(claim: ToolStarted, before: ToolStarted | None, *, known: bool) -> Iterator[str]:
    if not known:
        yield f"{claim.call_id} was claimed, and nobody asked for it"
    if before is not None and claim.arguments_digest != before.arguments_digest:
        yield f"{claim.call_id} was claimed with other arguments than before"
    expected = 1 if before is None else before.attempt + 1
    if claim.attempt != expected:
        yield f"{claim.call_id} was claimed as attempt {claim.attempt} where attempt {expected} was next"


def _asks(events: Sequence[Event]) -> Iterator[str]:
    opened = {event.data.ask_id for event in events if isinstance(event.data, AskOpened)}
    closed = Counter(
        event.data.ask_id for event in events if isinstance(event.data, AskAnswered | AskExpired)
    )
    yield from (f"{ask_id} was closed {n} times" for ask_id, n in closed.items() if n > 1)
    yield from (f"{ask_id} was closed, and never opened" for ask_id in closed if ask_id not in opened)
    yield from _claims_of_asked(events)


def _claims_of_asked(events: Sequence[Event]) -> Iterator[str]:
    """Calls that were claimed although somebody was asked and had not agreed."""
    asks = {event.data.ask_id: event.data.call_id for event in events if isinstance(event.data, AskOpened)}
    stands: dict[str, str] = {}
    for event in events:
        match event.data:
            case AskOpened(call_id=call_id):
                stands[call_id] = "open"
            case AskAnswered(ask_id=ask_id, verdict=verdict) if ask_id in asks:
                stands[asks[ask_id]] = verdict
            case AskExpired(ask_id=ask_id) if ask_id in asks:
                stands[asks[ask_id]] = "expired"
            case GrantUsed(call_id=call_id, verdict=verdict):
                stands[call_id] = verdict
            case AskVoided(call_id=call_id) | CallResolved(call_id=call_id):
                stands.pop(call_id, None)
            case ToolStarted(call_id=call_id) if stands.get(call_id, "approved") != "approved":
                yield f"{call_id} was claimed, and its ask is {stands[call_id]}"
