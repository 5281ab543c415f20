"""Repair: make any transcript valid for a provider.

Afterwards every call is followed at once by exactly one result, in the calls' order; no result stands without its call;
no part and no message is empty; and every call has a provider id of its own. Pure and idempotent: a valid transcript
comes back as it was. Our own loop only makes valid ones; imports, edits and old providers do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from holdfast.messages import (
    Document,
    Image,
    Message,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    tool_message,
)

NO_RESULT = "Cancelled: no result of this call was recorded. Do not assume that it had an effect, or that it had none."
NO_OUTPUT = "(no output)"

_NOT_A_USERS = (ToolCall, ToolResult, Thinking)


def repair(messages: Sequence[Message], seen: set[str] | None = None) -> list[Message]:
    """The transcript, mended. `seen` holds the provider ids used before these messages, and takes in theirs."""
    seen = set() if seen is None else seen
    results = _results_by_call(messages) if len(messages) > 1 else {}
    mended: list[Message] = []
    for place, message in enumerate(messages):
        if message.role == "tool":
            continue
        if message.role == "user" and _is_words(message):
            mended.append(message)
            continue
        parts = [part for part in message.content if not _is_empty(part)]
        calls: list[ToolCall] = []
        if message.role == "user":
            parts = [part for part in parts if type(part) not in _NOT_A_USERS]
        else:
            parts, calls = _with_own_ids([part for part in parts if type(part) is not ToolResult], seen)
        if parts:
            mended.append(_with_content(message, parts))
        mended.extend([_answer(call, results.get((place, index))) for index, call in enumerate(calls)])
    return mended


def _results_by_call(messages: Sequence[Message]) -> dict[tuple[int, int], Message]:
    """The first result after each call, by the call's message and place in it. Latest open call of an id first."""
    open_calls: dict[str, list[tuple[int, int]]] = {}
    found: dict[tuple[int, int], Message] = {}
    for place, message in enumerate(messages):
        if message.role == "assistant":
            calls = [part for part in message.content if isinstance(part, ToolCall)]
            for index, call in reversed(list(enumerate(calls))):
                open_calls.setdefault(call.id, []).append((place, index))
        elif message.role == "tool":
            for part in message.content:
                if isinstance(part, ToolResult) and (waiting := open_calls.get(part.call_id)):
                    found[waiting.pop()] = message if len(message.content) == 1 else tool_message(part)
    return found


def _is_words(message: Message) -> bool:
    """Whether it is text and nothing else, as most inputs are."""
    for part in message.content:
        if type(part) is not Text or not part.text:
            return False
    return bool(message.content)


def _is_empty(part: Part) -> bool:
    if type(part) is Text:
        return not part.text
    if type(part) is Thinking:
        return not (part.text or part.signature or part.encrypted)
    return isinstance(part, Image | Document) and part.blob is None and not part.url


def _with_own_ids(parts: Iterable[Part], seen: set[str]) -> tuple[list[Part], list[ToolCall]]:
    """Give each call a provider id that no call before it has."""
    mended: list[Part] = []
    calls: list[ToolCall] = []
    for part in parts:
        if isinstance(part, ToolCall):
            own = part.id or "call"
            provider_id = part.provider_id or own
            number = 1
            while provider_id in seen:
                number += 1
                provider_id = f"{own}_{number}"
            seen.add(provider_id)
            if provider_id != part.provider_id:
                part = structs.replace(part, provider_id=provider_id)
            calls.append(part)
        mended.append(part)
    return mended, calls


def _with_content(message: Message, parts: list[Part]) -> Message:
    content = tuple(parts)
    return message if content == message.content else structs.replace(message, content=content)


def _answer(call: ToolCall, message: Message | None) -> Message:
    """The result of this call, in its own message and under the call's ids."""
    if message is None:
        result = ToolResult(
            call_id=call.id,
            name=call.name,
            content=(Text(text=NO_RESULT),),
            status="cancelled",
            provider_id=call.provider_id,
        )
        return tool_message(result)
    result = message.content[0]  # type: ignore[assignment]  # of a message with one result, see above
    content = tuple(part for part in result.content if not _is_empty(part)) or (Text(text=NO_OUTPUT),)
    if result.provider_id == call.provider_id and content == result.content:
        return message
    return structs.replace(
        message, content=(structs.replace(result, provider_id=call.provider_id, content=content),)
    )
