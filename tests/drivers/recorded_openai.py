"""Recorded Responses requests as requests of ours, and what of either a server takes for the same."""

import json
from typing import Any

from holdfast.driver import OutputSpec, Previous, Request, Settings, ToolSpec, Transcript
from holdfast.drivers.openai import OpenAI, Options
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
    user_message,
)
from tests.conftest import shared_fixtures

FILES = sorted((shared_fixtures() / "cassettes" / "openai-responses").glob("*.json"))
NOT_OURS = {
    "background": "we wait for answers",
    "store": "recorded with the server's default, which keeps responses; we say that it should not, or should",
    "strict": "of tools; we never ask the server to hold arguments to the schema, as we check them ourselves",
    "include": "we ask for encrypted reasoning of every model that reasons; tested on its own",
}
"""Fields that our requests do not have, or have otherwise, and why that changes nothing."""


NOTHING = {"role": "assistant", "content": ""}
"""An empty message, which that client sends before some calls. There is nothing in it."""


def driver_for(body: dict[str, Any], **more: Any) -> OpenAI:
    """A driver with what this request asks of the protocol beyond what requests of ours say."""
    tools = tuple(tool for tool in body.get("tools", ()) if tool["type"] != "function")
    summary = (body.get("reasoning") or {}).get("summary") or ""
    include = tuple(name for name in body.get("include", ()) if name != "reasoning.encrypted_content")
    extra = {name: body[name] for name in ("truncation",) if name in body}
    options = Options(tools=tools, summary=summary, include=include, extra=extra)
    return OpenAI(options=options, **more)


def rebuilt(body: dict[str, Any]) -> Request:
    """The request of ours that a recorded body stands for."""
    names: dict[str, str] = {}
    choice = body.get("tool_choice")
    shape = body.get("text", {}).get("format", {})
    previous = body.get("previous_response_id")
    messages = [message(item, names) for item in body["input"]]
    if previous:  # what the server remembers, and we do not send
        messages.insert(0, user_message("remembered"))
    return Request(
        model=body["model"],
        instructions=body.get("instructions", ""),
        messages=Transcript(messages),
        tools=tuple(tool(entry) for entry in body.get("tools", ()) if entry["type"] == "function"),
        settings=Settings(
            temperature=body.get("temperature"),
            reasoning_effort=(body.get("reasoning") or {}).get("effort"),
            tool_choice=choice["name"] if isinstance(choice, dict) else choice,
        ),
        stream=body.get("stream", False),
        output=OutputSpec(name=shape["name"], schema=shape["schema"], strict=shape["strict"])
        if shape.get("type") == "json_schema"
        else None,
        previous=Previous(response_id=previous, covers=1) if previous else None,
    )


def tool(entry: dict[str, Any]) -> ToolSpec:
    return ToolSpec(
        name=entry["name"], description=entry["description"] or "", parameters=entry["parameters"]
    )


def message(item: dict[str, Any], names: dict[str, str]) -> Message:
    kind = item.get("type", "message")
    parts: list[Part] = []
    phase = item.get("phase") or ""
    if kind == "function_call_output":
        call_id = item["call_id"]
        result = ToolResult(
            call_id="call_1",
            name=names[call_id],
            content=(Text(text=item["output"]),),
            provider_id=call_id,
        )
        return tool_message(result)
    if kind == "message":
        content = item["content"]
        parts = [Text(text=content)] if isinstance(content, str) else [part(piece) for piece in content]
    elif kind == "reasoning":
        # Alone in its message it would lead to nothing; the next item is of the same message.
        parts = [Thinking(provider="openai", encrypted=json.dumps(item)), Text(text=FOLLOWER)]
    elif kind == "function_call":
        names[item["call_id"]] = item["name"]
        parts = [ToolCall(id="", name=item["name"], arguments=item["arguments"], provider_id=item["call_id"])]
    else:
        parts = [Native(provider="openai", data=json.dumps(item))]
    return Message(id="message_1", role=item.get("role", "assistant"), content=tuple(parts), phase=phase)


FOLLOWER = "(what the reasoning led to)"


def part(piece: dict[str, Any]) -> Part:
    if piece["type"] == "input_image":
        return Image(url=piece["image_url"])
    if piece["type"] == "input_file":
        return Document(url=piece["file_data"], name=piece["filename"])
    return Text(text=piece["text"])


def meaning(body: dict[str, Any]) -> dict[str, Any]:
    """A request without the differences that no server sees a difference in."""
    kept = {name: value for name, value in body.items() if name not in NOT_OURS and value is not None}
    follower = {"role": "assistant", "content": FOLLOWER}
    items = [item_meaning(item) for item in body["input"] if item != follower]
    kept["input"] = [item for item in items if item != NOTHING]
    kept["tools"] = [tool_meaning(entry) for entry in body.get("tools", ())]
    if not kept.get("instructions"):
        kept.pop("instructions", None)  # empty ones are none
    if kept.get("text") == {"format": {"type": "text"}}:
        del kept["text"]  # the default
    thinking = {"effort", "summary"}  # other switches (mode, context, an old name of summary) are not ours
    reasoning = {
        name: value for name, value in kept.pop("reasoning", {}).items() if name in thinking and value
    }
    return kept | {"reasoning": reasoning, "stream": body.get("stream", False)}


def tool_meaning(entry: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in entry.items() if name not in NOT_OURS}
    return kept | {"description": entry.get("description") or ""}  # null says no more than ""


def item_meaning(item: dict[str, Any]) -> dict[str, Any]:
    """An item without the ids and statuses that only a server that keeps items has a use for."""
    kind = item.get("type", "message")
    if kind == "message":
        content = item["content"]
        if isinstance(content, list) and [piece["type"] for piece in content] == ["output_text"]:
            content = content[0]["text"]  # and no annotations, which mean nothing to the model
        kept = {"role": item["role"], "content": content}
        return kept | ({"phase": item["phase"]} if item.get("phase") else {})
    if kind == "function_call":
        return {name: value for name, value in item.items() if name not in {"id", "status"}}
    if kind in {"web_search_call", "mcp_call", "mcp_list_tools"}:
        # That client rebuilds these from what it kept of them; ours are the items as they came.
        return {name: item.get(name) for name in ("type", "id", "name", "arguments")}
    return item
