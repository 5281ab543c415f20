"""Repetition: whether a model asks for the same again and again, and learns nothing from it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from holdfast.messages import Message, ToolCall, ToolResult
from holdfast.state import State

WINDOW = 4
"""Replies that are looked through for each repetition that makes a loop."""

Repeated = tuple[str, str, bytes]
"""A call as it counts: its tool, its arguments, and what came of it."""


def repeated(state: State, times: int) -> str:
    """The tool that was called with the same arguments and the same result in so many of the turn's last replies,
    since somebody last spoke; empty when there is none."""
    turn = state.turn
    if not times or turn is None or turn.iteration < times:
        return ""
    found: Counter[Repeated] = Counter()
    for replies, calls in enumerate(_replies(state), 1):
        found.update(calls)
        if replies == 1 and not found:
            return ""
        if replies >= WINDOW * times:
            break
    last = next(_replies(state), set())
    return next((call[0] for call in last if found[call] >= times), "")


def _replies(state: State) -> Iterator[set[Repeated]]:
    """The calls of each reply with their results, from the last one back, to where somebody spoke."""
    results: dict[str, bytes] = {}
    for message in reversed(state.messages):
        if message.role == "user":
            return
        if message.role == "assistant":
            yield {
                (part.name, part.arguments, results[part.id])
                for part in message.content
                if isinstance(part, ToolCall) and part.id in results
            }
        else:
            results.update(_results(message))


def _results(message: Message) -> Iterator[tuple[str, bytes]]:
    for part in message.content:
        if isinstance(part, ToolResult):
            yield part.call_id, msgspec.json.encode((part.status, part.content))
