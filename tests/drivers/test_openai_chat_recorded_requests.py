"""Recorded Chat Completions requests, taken apart into our messages and built again by our driver."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.driver import Request, Settings, ToolSpec, Transcript
from holdfast.drivers.openai_chat import OpenAIChat
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
from tests.conftest import shared_fixtures

FILES = sorted((shared_fixtures() / "cassettes" / "openai-chat").glob("*.json"))
REQUESTS = [
    pytest.param(path, place, id=f"{path.stem}-{place}")
    for path in FILES
    for place in range(len(json.loads(path.read_bytes())["interactions"]))
]
NOT_OURS = {
    "n": "always one answer, the default",
    "frequency_penalty": "not a setting we have",
    "presence_penalty": "not a setting we have",
    "reasoning": "OpenRouter's own switch",
    "reasoning_format": "groq's own switch",
    "response_format": "structured output comes with the output contract",
    "search_settings": "groq's own search",
    "web_search_options": "OpenAI's own search",
    "moderation": "OpenAI's own moderation",
    "usage": "OpenRouter's old way to ask for usage",
    "user": "not a setting we have",
    "stream_options": "we always ask for usage where the server allows it; tested on its own",
}
"""Fields of recorded requests that our requests do not have, and why that changes nothing."""


@pytest.mark.parametrize(("path", "place"), REQUESTS)
def test_a_recorded_request_is_rebuilt_with_the_same_meaning(path: Path, place: int) -> None:
    cassette = json.loads(path.read_bytes())["interactions"][place]["request"]
    server = path.stem.removeprefix("test_").partition("__")[0]
    driver = OpenAIChat(base_url=cassette["uri"].partition("/chat/completions")[0], vendor=server)
    ours = json.loads(driver.encode(rebuilt(cassette["body"], server)))
    assert meaning(ours) == meaning(cassette["body"])


def rebuilt(body: dict[str, Any], vendor: str) -> Request:
    """The request of ours that a recorded body stands for."""
    entries = list(body["messages"])
    instructions = []
    while entries and entries[0]["role"] in {"system", "developer"}:
        instructions.append(entries.pop(0)["content"])
    names: dict[str, str] = {}
    choice = body.get("tool_choice")
    return Request(
        model=body["model"],
        instructions="\n\n".join(instructions),
        messages=Transcript([message(entry, names, vendor) for entry in entries]),
        tools=tuple(tool(entry) for entry in body.get("tools", ()) if "function" in entry),
        settings=Settings(
            top_p=body.get("top_p"),
            max_tokens=body.get("max_completion_tokens"),
            tool_choice=choice["function"]["name"] if isinstance(choice, dict) else choice,
        ),
        stream=body.get("stream", False),
    )


def tool(entry: dict[str, Any]) -> ToolSpec:
    function = entry["function"]
    return ToolSpec(
        name=function["name"], description=function["description"], parameters=function["parameters"]
    )


def message(entry: dict[str, Any], names: dict[str, str], vendor: str) -> Message:
    parts: list[Part] = []
    if entry["role"] == "tool":
        call_id = entry["tool_call_id"]
        result = ToolResult(
            call_id=f"call_{len(names)}",
            name=names[call_id],
            content=(Text(text=entry["content"]),),
            provider_id=call_id,
        )
        return tool_message(result)
    if entry.get("reasoning_content"):
        parts.append(Thinking(text=entry["reasoning_content"], provider=f"{vendor}/reasoning_content"))
    if entry.get("reasoning"):
        parts.append(Thinking(text=entry["reasoning"], provider=f"{vendor}/reasoning"))
    content = entry.get("content") or []
    parts += [Text(text=content)] if isinstance(content, str) else [part(piece) for piece in content]
    for call in entry.get("tool_calls", ()):
        names[call["id"]] = call["function"]["name"]
        parts.append(
            ToolCall(
                id=f"call_{len(names)}",
                name=call["function"]["name"],
                arguments=call["function"]["arguments"],
                provider_id=call["id"],
            )
        )
    return Message(id=f"message_{len(names)}", role=entry["role"], content=tuple(parts))


def part(piece: dict[str, Any]) -> Part:
    if piece["type"] == "image_url":
        return Image(url=piece["image_url"]["url"])
    if piece["type"] == "file":
        return Document(url=piece["file"]["file_data"], name=piece["file"]["filename"])
    return Text(text=piece["text"])


def meaning(body: dict[str, Any]) -> dict[str, Any]:
    """A request without the differences that no server sees a difference in."""
    kept = {name: value for name, value in body.items() if name not in NOT_OURS}
    kept["messages"] = merged([entry_meaning(entry) for entry in body["messages"]])
    # A provider's own tools (no function in them) are passed through by a later release.
    kept["tools"] = [tool_meaning(entry) for entry in body.get("tools", ()) if "function" in entry]
    choice = kept.pop("tool_choice", None)
    if kept["tools"]:
        # Mistral says "any"; Hugging Face leaves the type out.
        kept["tool_choice"] = choice["function"]["name"] if isinstance(choice, dict) else choice
        kept["tool_choice"] = {"any": "required"}.get(kept["tool_choice"], kept["tool_choice"])
    return kept


def tool_meaning(entry: dict[str, Any]) -> dict[str, Any]:
    # `strict` is not forced by us, Mistral's client leaves the type out, OpenRouter has an eager switch.
    return {name: value for name, value in entry["function"].items() if name != "strict"}


def entry_meaning(entry: dict[str, Any]) -> dict[str, Any]:
    role = "system" if entry["role"] == "developer" else entry["role"]
    content = entry.get("content") or ""
    if isinstance(content, list) and [piece["type"] for piece in content] == ["text"]:
        content = content[0]["text"]
    calls = [(call["id"], call["function"]) for call in entry.get("tool_calls", ())]
    kept = {"role": role, "content": content, "calls": calls, "answers": entry.get("tool_call_id")}
    # `reasoning` (without _content) is returned only beside calls, where a server may need it.
    for name in ("reasoning_content", "reasoning") if calls else ("reasoning_content",):
        if entry.get(name):
            kept[name] = entry[name]
    return kept


def merged(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Instructions are one system message of ours, however many there were."""
    system = [entry["content"] for entry in entries if entry["role"] == "system"]
    rest = [entry for entry in entries if entry["role"] != "system"]
    return [{"role": "system", "content": "\n\n".join(system)}, *rest] if system else rest
