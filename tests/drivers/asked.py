"""What tests of requests share: tools, what was said, called and given, and a body as an official client sees it."""

from __future__ import annotations

from typing import Any

from holdfast.driver import ToolSpec
from holdfast.messages import Document, Image, Message, Part, Text, ToolCall, ToolResult, tool_message

WEATHER = ToolSpec(
    name="get_weather",
    description="The weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = ToolSpec(name="clock", description="", parameters={"type": "object", "properties": {}})


def call(
    number: int, arguments: str = '{"city":"Paris"}', provider_id: str = "", name: str = "get_weather"
) -> ToolCall:
    return ToolCall(id=f"call_{'0' * 32}_1_{number}", name=name, arguments=arguments, provider_id=provider_id)


def result(of: ToolCall, *content: Text | Image | Document, **more: Any) -> Message:
    """What this call gave; "fine" without content."""
    content = content or (Text(text="fine"),)
    given = ToolResult(call_id=of.id, name=of.name, content=content, provider_id=of.provider_id, **more)
    return tool_message(given)


def said(*parts: Part, phase: Any = "") -> Message:
    return Message(id="message_1", role="assistant", content=parts, phase=phase)


def walked(value: Any) -> Any:
    """The value with its iterables walked through, which is when pydantic checks what is in them."""
    if isinstance(value, dict):
        return {name: walked(inner) for name, inner in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    return [walked(inner) for inner in value]
