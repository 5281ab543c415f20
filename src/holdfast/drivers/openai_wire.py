"""OpenAI Responses as it comes over the wire: only what is read, everything optional, the rest ignored."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from holdfast.drivers.tokens import Count, InputDetails, OutputDetails, tokens
from holdfast.messages import Usage


class WireUsage(Struct, gc=False):
    """Token counts."""

    input_tokens: Count = None
    output_tokens: Count = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None

    def counted(self) -> Usage:
        """The same in our words."""
        given = self.input_tokens_details or InputDetails()
        made = self.output_tokens_details or OutputDetails()
        return Usage(
            input_tokens=tokens(self.input_tokens),
            output_tokens=tokens(self.output_tokens),
            cache_read_tokens=tokens(given.cached_tokens),
            cache_write_tokens=tokens(given.cache_write_tokens),
            reasoning_tokens=tokens(made.reasoning_tokens),
        )


CUSTOM = "ctc_"
"""Marks the ids of calls whose tool takes any text, so that they go back as what they were."""


class Kind(Struct, gc=False):
    """What an output item is."""

    type: str = ""


class ContentPart(Struct, gc=False):
    """A piece of a message or of reasoning: words, or a refusal."""

    text: str | None = None
    refusal: str | None = None


class MessageItem(Struct, gc=False):
    """What the model said."""

    content: list[ContentPart] | None = None
    phase: str | None = None


class ReasoningItem(Struct, gc=False):
    """What the model thought: a summary, on some servers all of it, and the whole encrypted."""

    summary: list[ContentPart] | None = None
    content: list[ContentPart] | None = None
    encrypted_content: str | None = None


class CallItem(Struct, gc=False):
    """A call of a function, or of a tool that takes any text (`input`)."""

    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class Incomplete(Struct, gc=False):
    """Why a response ended early."""

    reason: str | None = None


class Response(Struct, gc=False):
    """A whole response, or as much of it as there is."""

    object: str | None = None
    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[Raw] | None = None
    usage: WireUsage | None = None
    incomplete_details: Incomplete | None = None
    error: Any = None


class Event(Struct, gc=False):
    """One event of a stream. An `error` event has its words here, or in an object of its own."""

    type: str = ""
    delta: Any = None
    output_index: int | None = None
    summary_index: int | None = None
    content_index: int | None = None
    item: Raw = Raw()
    response: Raw = Raw()
    code: Any = None
    message: Any = None
    error: Any = None
