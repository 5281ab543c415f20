"""Summary: how facts change what the model is told in place of the beginning of a transcript."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from holdfast.catalogue import total
from holdfast.events import Event, Fact
from holdfast.facts.compaction import CompactionAsked, CompactionFailed, ContextCompacted
from holdfast.messages import Text, ToolResult
from holdfast.state import CallState, State

LATER = "\n\nSince then it became known what the call of {name} that was in doubt came to: "


def compacted(state: State, event: Event, fact: ContextCompacted) -> None:
    """The messages that the summary stands for are on the log only from here on."""
    covers = min(fact.covers, len(state.places))
    if covers > state.unread:
        del state.messages[: covers - state.unread]
        state.unread = covers
    state.compacted, state.summary = covers, fact.summary
    state.compaction_by, state.continuation, state.context = "", None, 0
    state.usage += fact.usage
    state.cost = total(state.cost, fact.cost)
    if (turn := state.turn) is not None:
        turn.recoveries = 0
        turn.compaction_tried = True
        turn.failure = None
        turn.compaction_attempt = turn.attempt = 0
        turn.failing_since = turn.retry_at = None
        turn.usage += fact.usage
        turn.cost = total(turn.cost, fact.cost)


def failed(state: State, event: Event, fact: CompactionFailed) -> None:
    """Another attempt is due, or the turn does without."""
    if (turn := state.turn) is None:
        return
    turn.recoveries = 0
    turn.retry_at = fact.retry_at
    if fact.retry_at is not None:
        turn.compaction_attempt, turn.failing_since = fact.attempt, turn.failing_since or event.ts
        return
    state.compaction_by = ""
    turn.compaction_attempt = turn.attempt = 0
    turn.failing_since = None
    turn.compaction_tried = turn.compaction_off = True
    if fact.next_model:
        turn.route += 1
        turn.failure = None


def asked(state: State, event: Event, fact: CompactionAsked) -> None:
    """Before the next model call."""
    state.compaction_by = fact.by


def learned(state: State, call: CallState, result: ToolResult) -> None:
    """The summary says that a call is in doubt; the model is told behind it what became of the call."""
    if state.summary is not None:
        told = (*state.summary.content, Text(text=LATER.format(name=call.call.name)), *result.content)
        state.summary = structs.replace(state.summary, content=told)


RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {
    ContextCompacted: compacted,
    CompactionFailed: failed,
    CompactionAsked: asked,
}
