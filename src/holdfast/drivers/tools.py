"""Tools and typed answers, as far as they are the same in every protocol.

The parameters of tools are looked at before they are sent: what a provider would refuse is said with the tool's name.
The arguments of calls go back as objects, whatever a model wrote.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.driver import OutputSpec, ToolSpec
from holdfast.errors import DriverError

ANY: frozenset[str] = frozenset()
"""Nothing is refused at the root but what is no object."""
PLAIN = frozenset({"oneOf", "anyOf", "allOf"})
"""What Anthropic refuses at the root of a tool's parameters."""
OPENAI = PLAIN | {"enum", "not"}
"""What OpenAI refuses there."""


def checked(tool: ToolSpec, who: str, refused: frozenset[str]) -> dict[str, Any]:
    """The tool's parameters, when `who` takes them. Raises `DriverError` (`unsupported`) naming tool and keyword."""
    schema = tool.parameters
    if schema.get("type") != "object":
        raise _refusal(tool, who, "type", f"it must be 'object', and is {schema.get('type')!r}")
    for keyword in schema:
        if keyword in refused:
            raise _refusal(tool, who, keyword, "it cannot stand at the root; move it into a property")
    for ref in _references(schema):
        if not ref.startswith("#"):
            raise _refusal(
                tool, who, "$ref", f"{ref[:60]!r} leads outside the schema; write out what it names"
            )
    return schema


def as_object(text: str) -> str:
    """The arguments as they were written; wrapped when they are no JSON object, `{}` when there are none."""
    try:
        if isinstance(msgspec.json.decode(text), dict):
            return text
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return msgspec.json.encode({"invalid_arguments": text}).decode() if text.strip() else "{}"


def in_words(output: OutputSpec) -> str:
    """The shape of the answer, told to a model that cannot be held to it."""
    schema = msgspec.json.encode(output.schema).decode()
    return (
        f"Your final answer must be JSON, and nothing else, that is valid under this JSON Schema:\n{schema}"
    )


def _references(value: Any) -> list[str]:
    """Every `$ref` in a schema, wherever it stands as a keyword."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            if isinstance(ref := inner.get("$ref"), str):
                found.append(ref)
            waiting += [it for name, it in inner.items() if name not in _VALUES]
        elif isinstance(inner, list | tuple):
            waiting += inner
    return found


_VALUES = frozenset({"enum", "const", "default", "examples"})
"""Keywords that hold values, not schemas."""


def _refusal(tool: ToolSpec, who: str, keyword: str, why: str) -> DriverError:
    return DriverError(
        "unsupported",
        f"{who} cannot take the keyword {keyword!r} in the parameters of the tool {tool.name!r}: {why}",
    )
