"""`generateContent` as it comes over the wire: only what is read, everything optional, the rest ignored.

The parts of an answer are kept as they came until it is known what they are: what only Gemini understands goes back
untouched.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from holdfast.drivers.tokens import Count, tokens
from holdfast.messages import Usage


class WireUsage(Struct, gc=False, rename="camel"):
    """Token counts. The prompt includes what was cached, but not what a provider's own tools fed the model."""

    prompt_token_count: Count = None
    tool_use_prompt_token_count: Count = None
    cached_content_token_count: Count = None
    candidates_token_count: Count = None
    thoughts_token_count: Count = None

    def counted(self) -> Usage:
        """The same in our words."""
        thoughts = tokens(self.thoughts_token_count)
        return Usage(
            input_tokens=tokens(self.prompt_token_count) + tokens(self.tool_use_prompt_token_count),
            output_tokens=tokens(self.candidates_token_count) + thoughts,
            cache_read_tokens=tokens(self.cached_content_token_count),
            reasoning_tokens=thoughts,
        )


class WireCall(Struct, gc=False):
    """A function call, which always comes whole."""

    name: str | None = None
    id: str | None = None
    args: Raw = Raw()


class WireData(Struct, gc=False, rename="camel"):
    """Bytes inside a part."""

    mime_type: str | None = None
    data: str | None = None


class WireFile(Struct, gc=False, rename="camel"):
    """A file that the part only points at."""

    file_uri: str | None = None
    mime_type: str | None = None


class WireCode(Struct, gc=False):
    """What the provider ran, or what came of it."""

    language: str | None = None
    code: str | None = None
    output: str | None = None


class WirePart(Struct, gc=False, rename="camel"):
    """A piece of an answer: of all these one, besides `thought` and the signature."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: WireCall | None = None
    inline_data: WireData | None = None
    file_data: WireFile | None = None
    executable_code: WireCode | None = None
    code_execution_result: WireCode | None = None


class WireContent(Struct, gc=False):
    """What the model said, in parts."""

    parts: list[Raw] | None = None


class Candidate(Struct, gc=False, rename="camel"):
    """The one answer that was asked for, or more of it."""

    index: int | None = 0
    content: WireContent | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    grounding_metadata: Raw = Raw()
    url_context_metadata: Raw = Raw()


class PromptFeedback(Struct, gc=False, rename="camel"):
    """What was found wrong with the prompt."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class WireResponse(Struct, gc=False, rename="camel"):
    """A chunk of a stream, or a whole body."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: WireUsage | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


class GroundingSource(Struct, gc=False):
    """Where something was found."""

    title: str | None = None
    uri: str | None = None


class GroundingChunk(Struct, gc=False, rename="camel"):
    """One source, by the kind of place it is from."""

    web: GroundingSource | None = None
    retrieved_context: GroundingSource | None = None
    maps: GroundingSource | None = None


class Grounding(Struct, gc=False, rename="camel"):
    """What people read of `groundingMetadata`."""

    grounding_chunks: list[GroundingChunk] | None = None
