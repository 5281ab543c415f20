"""Chat Completions as it comes over the wire: only what is read, everything optional, the rest ignored."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from holdfast.drivers.tokens import Count, InputDetails, OutputDetails, tokens
from holdfast.messages import Usage


class WireUsage(Struct, gc=False):
    """Token counts; a server leaves out what it does not know, or sends null."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    prompt_cache_hit_tokens: Count = None
    """DeepSeek's word for cached tokens."""
    num_cached_tokens: Count = None
    """Mistral's."""

    def counted(self) -> Usage:
        """The same in our words."""
        given = self.prompt_tokens_details or InputDetails()
        made = self.completion_tokens_details or OutputDetails()
        cached = given.cached_tokens or self.prompt_cache_hit_tokens or self.num_cached_tokens
        return Usage(
            input_tokens=tokens(self.prompt_tokens),
            output_tokens=tokens(self.completion_tokens),
            cache_read_tokens=tokens(cached),
            cache_write_tokens=tokens(given.cache_write_tokens),
            reasoning_tokens=tokens(made.reasoning_tokens),
        )


class ContentPart(Struct, gc=False):
    """A piece of content where content is a list: text, or Mistral's thinking, which is again a list."""

    type: str = ""
    text: str | None = None
    thinking: str | list[ContentPart] | None = None


class WireFunction(Struct, gc=False):
    """The function of a call, or more of it."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class WireCall(Struct, gc=False):
    """A tool call, or more of one."""

    index: int | None = None
    id: str | None = None
    function: WireFunction | None = None


class WireMessage(Struct, gc=False):
    """A message, or more of one."""

    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[WireCall] | None = None


class Choice(Struct, gc=False):
    """The one answer that was asked for: whole in `message`, or piece by piece in `delta`."""

    index: int | None = 0
    delta: WireMessage | None = None
    message: WireMessage | None = None
    finish_reason: str | None = None
    error: Any = None


class Completion(Struct, gc=False):
    """A chunk of a stream, or a whole body."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None
