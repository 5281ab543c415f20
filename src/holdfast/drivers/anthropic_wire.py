"""Anthropic Messages as it comes over the wire: only what is read, everything optional, the rest ignored."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from holdfast.drivers.tokens import Count, tokens
from holdfast.messages import Usage

NOTHING = Raw(b"")
"""A JSON value that did not come."""


class OutputDetails(Struct, gc=False):
    """What the output's tokens were spent on."""

    thinking_tokens: Count = None


class WireUsage(Struct, gc=False):
    """Token counts; at the end of a stream they stand for the whole, and what is left out there stays."""

    input_tokens: Count = None
    """Without the cached ones."""
    output_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    output_tokens_details: OutputDetails | None = None

    def then(self, later: WireUsage) -> WireUsage:
        """These counts, with what came later in place of what it says anew."""
        for name in self.__struct_fields__:
            if getattr(later, name) is None:
                setattr(later, name, getattr(self, name))
        return later

    def counted(self) -> Usage:
        """The same in our words."""
        read, written = tokens(self.cache_read_input_tokens), tokens(self.cache_creation_input_tokens)
        made = self.output_tokens_details or OutputDetails()
        return Usage(
            input_tokens=tokens(self.input_tokens) + read + written,
            output_tokens=tokens(self.output_tokens),
            cache_read_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=tokens(made.thinking_tokens),
        )


class Container(Struct, gc=False):
    """Where the provider runs code; a request that goes on with it names it."""

    id: str = ""


class WireMessage(Struct, gc=False):
    """A message: the body of an answer that was not streamed, or the beginning of one that is."""

    id: str | None = None
    model: str | None = None
    content: list[Raw] | None = None
    stop_reason: str | None = None
    usage: WireUsage | None = None
    container: Container | None = None
    error: Any = None


class Delta(Struct, gc=False):
    """More of a block, or, in `message_delta`, of the message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: Raw = NOTHING
    stop_reason: str | None = None
    container: Container | None = None


class Event(Struct, gc=False):
    """One event of a stream."""

    type: str = ""
    index: int = 0
    message: WireMessage | None = None
    content_block: Raw = NOTHING
    delta: Delta | None = None
    usage: WireUsage | None = None
    error: Any = None


class Kind(Struct, gc=False):
    """What a block is."""

    type: str = ""


class Block(Struct, gc=False):
    """A block of a kind that we understand: text, thinking (also redacted) or a call."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NOTHING
    citations: list[Raw] | None = None


class NativeBlock(Struct, gc=False):
    """What pairs a tool that ran at the provider with its result."""

    type: str = ""
    id: str = ""
    name: str = ""
    tool_use_id: str = ""
    input: Raw = NOTHING
