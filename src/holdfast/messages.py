"""What is said: messages and their parts, the usage they cost, and why a reply stopped.

A `Message` is what the transcript holds and what a driver encodes. Parts are a closed union told apart by
`type`. Large bytes are never inside a message: a part refers to a blob by digest.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from holdfast.ids import new_id

Role = Literal["user", "assistant", "tool"]
"""Who speaks: a person, the model, or a tool answering the model."""

StopReason = Literal["end_turn", "tool_calls", "max_tokens", "refusal", "cut_off"]
"""Why a model stopped: it was done, it wants tools, it ran out of output tokens, or it (or a filter) declined.
`cut_off`: it did not; its turn ended first, and these are the words that were shown by then."""

CallStatus = Literal["ok", "error", "denied", "cancelled", "in_doubt"]
"""How a call ended. `in_doubt`: it was cut off after dispatch, and whether it had its effect is not known."""


class BlobRef(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A value kept outside the log, by content."""

    digest: str
    """`sha256:` and the hex digest of the bytes."""
    size: int
    """Bytes."""
    media_type: str = "application/octet-stream"
    preview: str = ""
    """The beginning, where the value is text."""


class Text(Struct, frozen=True, kw_only=True, tag="text", gc=False):
    """Words."""

    text: str


class Thinking(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="thinking", gc=False):
    """A model's reasoning, with what its provider needs to accept it back."""

    text: str = ""
    signature: str = ""
    """The provider's proof; empty when it gave none (such a part is never sent back)."""
    provider: str = ""
    """The wire protocol that produced it; others do not get to see it."""
    encrypted: str = ""
    """An opaque reasoning item, returned as it came."""


class Image(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="image", gc=False):
    """A picture: a blob, or a URL that the provider fetches."""

    blob: BlobRef | None = None
    url: str = ""


class Document(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="document", gc=False):
    """A file for the model to read: a blob, or a URL that the provider fetches."""

    blob: BlobRef | None = None
    url: str = ""
    name: str = ""


class Native(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="native", gc=False):
    """Something that only its provider understands: a tool that ran there, and what it found. Passed through untouched.

    It goes back to the provider it came from, at its place among the parts; others are told `text`, if anything.
    """

    provider: str
    """The wire protocol that produced it."""
    data: str
    """The JSON value as it came."""
    text: str = ""
    """What people and other models may read of it."""


class ToolCall(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tool_call", gc=False):
    """A model's request to run a tool."""

    id: str
    """Ours: turn, iteration and index. Never repeats."""
    name: str
    arguments: str
    """JSON text exactly as the model wrote it; it may be invalid, and is checked before anything happens."""
    provider_id: str = ""
    """Theirs: kept beside ours, sent back to them, never trusted to be unique."""


class ToolResult(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tool_result", gc=False):
    """What a call came to, as the model reads it."""

    call_id: str
    name: str
    content: tuple[Text | Image | Document, ...]
    status: CallStatus = "ok"
    provider_id: str = ""

    @property
    def text(self) -> str:
        """The words of the result."""
        return "".join([part.text for part in self.content if isinstance(part, Text)])


Part = Text | Thinking | Image | Document | Native | ToolCall | ToolResult


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One entry of a transcript.

    A `user` message holds text, images and documents; an `assistant` message text, thinking, calls, what ran at its
    provider, and images it made; a `tool` message exactly one result.
    """

    id: str
    role: Role
    content: tuple[Part, ...]
    phase: Literal["", "commentary", "final_answer"] = ""
    """Whether the model said this text was on the way or the answer, where it says so."""

    @property
    def text(self) -> str:
        """The words of the message; calls, thinking and images are left out."""
        return "".join([part.text for part in self.content if isinstance(part, _SPOKEN)])

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls in this message, in the model's order."""
        return tuple([part for part in self.content if isinstance(part, ToolCall)])


_SPOKEN = (Text, ToolResult)


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Tokens, as the provider reported them. `input_tokens` includes the cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of `output_tokens`."""

    def __add__(self, other: Usage) -> Usage:
        if self == NO_USAGE:
            return other
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


NO_USAGE = Usage()

Content = str | tuple[Part, ...]
"""What a user says: words, or text, images and documents."""


def user_message(content: Content) -> Message:
    """A user's message from words or parts."""
    parts = (Text(text=content),) if isinstance(content, str) else content
    return Message(id=new_id("message"), role="user", content=parts)


def tool_message(result: ToolResult) -> Message:
    """The transcript entry of a result. Its id follows from the call, so that every fold makes the same one."""
    return Message(id=f"message_{result.call_id.removeprefix('call_')}", role="tool", content=(result,))
