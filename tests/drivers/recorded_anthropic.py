"""Recorded Anthropic requests: which there are, what they are in our words, and when two mean the same."""

import json
from collections.abc import Iterable
from typing import Any

from holdfast.driver import Request, Settings, ToolSpec, Transcript
from holdfast.drivers.anthropic import Anthropic, Options
from holdfast.messages import (
    Document,
    Image,
    Message,
    Native,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    tool_message,
)
from tests.conftest import shared_fixtures

FILES = sorted((shared_fixtures() / "cassettes" / "anthropic").glob("*.json"))
ONLY_EXTRA = ("mcp_servers",)
"""Fields that our requests have no word of their own for; a program gives them to the driver."""


def driver_for(recorded: dict[str, Any], **options: Any) -> Anthropic:
    """A driver that adds to each request what a recorded one has beyond our words."""
    extra = {name: recorded[name] for name in ONLY_EXTRA if name in recorded}
    budget = recorded.get("output_config", {}).get("task_budget")
    if budget:
        extra["output_config"] = {"task_budget": budget}
    native = [tool for tool in recorded.get("tools", ()) if "input_schema" not in tool]
    return Anthropic(options=Options(tools=tuple(native), extra=extra), **options)


def rebuilt(body: dict[str, Any]) -> Request:
    """The request of ours that a recorded body stands for."""
    system = body.get("system", "")
    choice = body.get("tool_choice", {})
    effort = body.get("output_config", {}).get("effort")
    return Request(
        model=body["model"],
        instructions=system if isinstance(system, str) else "\n\n".join(it["text"] for it in system),
        messages=Transcript(messages(body["messages"])),
        tools=tuple(tool(entry) for entry in body.get("tools", ()) if "input_schema" in entry),
        settings=Settings(
            max_tokens=body["max_tokens"],
            reasoning_effort=effort or ("high" if "thinking" in body else None),
            tool_choice={"any": "required", "tool": choice.get("name")}.get(
                choice.get("type"), choice.get("type")
            ),
            cache="cache_control" in json.dumps(body) or None,
        ),
        stream=body.get("stream", False),
    )


def tool(entry: dict[str, Any]) -> ToolSpec:
    return ToolSpec(name=entry["name"], description=entry["description"], parameters=entry["input_schema"])


def messages(entries: Iterable[dict[str, Any]]) -> Iterable[Message]:
    names: dict[str, str] = {}
    for entry in entries:
        content = entry["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if entry["role"] == "system":
            continue
        said: list[Part] = []
        for block in blocks:
            if block["type"] == "tool_use":
                names[block["id"]] = block["name"]
            if block["type"] == "tool_result":
                yield tool_message(result(block, names))
            else:
                said.append(part(block))
        if said:
            yield Message(id="message_1", role=entry["role"], content=tuple(said))


def result(block: dict[str, Any], names: dict[str, str]) -> ToolResult:
    content = block["content"]
    texts = [content] if isinstance(content, str) else [text_of(it) for it in content]
    return ToolResult(
        call_id=f"call_{block['tool_use_id']}",
        name=names[block["tool_use_id"]],
        content=tuple(Text(text=text) for text in texts),
        status="error" if block["is_error"] else "ok",
        provider_id=block["tool_use_id"],
    )


def text_of(block: dict[str, Any]) -> str:
    """Text as it is, and a reference to a tool as its name: our results hold no references."""
    return str(block["text"] if block["type"] == "text" else block["tool_name"])


def part(block: dict[str, Any]) -> Part:
    match block:
        case {"type": "text", "text": text}:
            return Text(text=text)
        case {"type": "thinking", "thinking": text, "signature": signature}:
            return Thinking(text=text, signature=signature, provider="anthropic")
        case {"type": "redacted_thinking", "data": data}:
            return Thinking(encrypted=data, provider="anthropic")
        case {"type": "tool_use", "id": id, "name": name, "input": arguments}:
            return ToolCall(
                id=f"call_{id}", name=name, arguments=json.dumps(arguments), provider_id=block["id"]
            )
        case {"type": "image", "source": source}:
            return Image(url=url(source))
        case {"type": "document", "source": source}:
            return Document(url=url(source))
    return Native(provider="anthropic", data=json.dumps(block))


def url(source: dict[str, Any]) -> str:
    match source:
        case {"type": "url", "url": address}:
            return str(address)
        case {"type": "text", "data": text}:
            return f"data:text/plain,{text.replace('%', '%25')}"
    return f"data:{source['media_type']};base64,{source['data']}"


def meaning(body: dict[str, Any]) -> dict[str, Any]:
    """A request without the differences that change nothing, or that we chose."""
    kept = dict(body)
    # Breakpoints are ours to place: `cached` looks at whether there are any.
    kept.pop("cache_control", None)
    system = kept.pop("system", "")
    kept["system"] = system if isinstance(system, str) else "\n\n".join(it["text"] for it in system)
    # An instruction in the middle of the history is not in our vocabulary, so it is left out on both sides.
    kept["messages"] = turns([it for it in body["messages"] if it["role"] != "system"])
    # The provider's own tools come first with us; the order means nothing.
    kept["tools"] = sorted([tool_meaning(it) for it in body.get("tools", ())], key=str)
    # "auto" is what is meant when nothing is said; without tools no choice is sent.
    choice = kept.pop("tool_choice", None)
    if choice and choice["type"] != "auto" and kept["tools"]:
        kept["tool_choice"] = choice
    kept.update(thinking_meaning(kept))
    return kept


def thinking_meaning(body: dict[str, Any]) -> dict[str, Any]:
    """How the model thinks. We say it in words: a budget follows from them where a model needs one, the summary is
    always asked for, a model that is told an effort thinks, and "high" is what no word means."""
    thinking, config = body.pop("thinking", {}), body.pop("output_config", {})
    thinks = bool(thinking or "effort" in config)
    return {
        "thinks": thinks,
        "effort": config.get("effort", "high") if thinks else None,
        "task_budget": config.get("task_budget"),
    }


def tool_meaning(entry: dict[str, Any]) -> dict[str, Any]:
    # Hiding a tool until it is searched for is not in our vocabulary.
    names = sorted(entry.keys() - {"cache_control", "defer_loading"})
    return {name: entry[name] for name in names}


def turns(entries: Iterable[dict[str, Any]]) -> list[tuple[str, list[Any]]]:
    """What a speaker says in a row, as one turn: the protocol makes no difference."""
    out: list[tuple[str, list[Any]]] = []
    for entry in entries:
        content = entry["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        told = [block_meaning(block) for block in blocks]
        if out and out[-1][0] == entry["role"]:
            out[-1][1].extend(told)
        else:
            out.append((entry["role"], told))
    return out


def block_meaning(block: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in block.items() if name != "cache_control"}
    if kept["type"] == "tool_result":
        content = kept["content"]
        kept["content"] = content if isinstance(content, str) else "".join(text_of(it) for it in content)
        kept["is_error"] = kept.get("is_error", False)
    return kept
