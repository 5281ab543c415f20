"""Recorded Gemini requests: which there are, what they are in our words, and when two mean the same."""

import json
from typing import Any

from holdfast.driver import OutputSpec, Request, Settings, ToolSpec, Transcript
from holdfast.drivers.gemini import Gemini, Options
from holdfast.messages import Document, Message, Part, Text, Thinking, ToolCall, ToolResult, tool_message
from tests.conftest import shared_fixtures

FILES = sorted((shared_fixtures() / "cassettes" / "gemini").glob("*.json"))
TOLERATED = {
    "contents: an empty text": "a user who said nothing is told as such: an empty part is against the rules",
    "contents: a thought without a signature": "never sent back: it costs tokens, and Gemini asks only for signatures",
    "contents: the alphabet of a signature": "base64 with - and _ is the same to the server; ours goes back as it came",
    "contents: return_value": "the key that a result stands under is ours to choose; the documented one is `output`",
    "contents: the media type of an address": "left out where the address does not tell it",
    "systemInstruction: role": "it has no meaning there",
    "tools: parameters_json_schema, parameters": "the snake case of the client, or the older OpenAPI form of the same",
    "tools: description": "an empty one says nothing",
    "generationConfig: responseModalities TEXT": "the default",
    "generationConfig: thinking_budget, include_thoughts": "the snake case of the client",
    "toolConfig: allowedFunctionNames": "more than one name is not a setting we have; here they only repeat the tools"
    " or narrow them to what the loop would offer",
}
"""Every difference that `meaning` takes away, and why it changes nothing."""


def driver_for(recorded: dict[str, Any], **options: Any) -> Gemini:
    """A driver that adds to each request what a recorded one has beyond our words."""
    native = tuple(tool for tool in recorded.get("tools", ()) if "functionDeclarations" not in tool)
    return Gemini(options=Options(tools=native, safety=tuple(recorded.get("safetySettings", ()))), **options)


def model_of(uri: str) -> tuple[str, bool]:
    """The model that a recorded address names, and whether it streams."""
    name, _, method = uri.rpartition("/models/")[2].partition(":")
    return name, method.startswith("stream")


def rebuilt(body: dict[str, Any], model: str, *, stream: bool) -> Request:
    """The request of ours that a recorded body stands for."""
    config = body["generationConfig"]
    names: dict[str, str] = {}
    messages = [message for entry in body["contents"] for message in messages_of(entry, names)]
    schema = config.get("responseJsonSchema")
    return Request(
        model=model,
        instructions="".join(part["text"] for part in body.get("systemInstruction", {}).get("parts", ())),
        messages=Transcript(messages),
        tools=tuple(
            ToolSpec(name=it["name"], description=it["description"], parameters=schema_of(it))
            for tool in body.get("tools", ())
            for it in tool.get("functionDeclarations", ())
        ),
        settings=Settings(
            max_tokens=config.get("maxOutputTokens"),
            reasoning_effort=effort(config.get("thinkingConfig")),
            tool_choice="required" if "toolConfig" in body else None,
        ),
        stream=stream,
        output=OutputSpec(name="output", schema=schema) if schema else None,
    )


def effort(config: dict[str, Any] | None) -> str | None:
    if config is None:
        return None
    return "none" if config.get("thinking_budget") == 0 else "high"


def schema_of(declaration: dict[str, Any]) -> dict[str, Any]:
    return declaration.get("parameters_json_schema") or {"type": "object", "properties": {}}


def messages_of(entry: dict[str, Any], names: dict[str, str]) -> list[Message]:
    parts: list[Part] = []
    messages: list[Message] = []
    for piece in entry["parts"]:
        if "functionResponse" in piece:
            messages.append(tool_message(result_of(piece["functionResponse"], names)))
        else:
            parts += parts_of(piece, names)
    role = "assistant" if entry["role"] == "model" else "user"
    spoken = [Message(id=f"message_{len(names)}", role=role, content=tuple(parts))] if parts else []
    return [*messages, *spoken]


def result_of(response: dict[str, Any], names: dict[str, str]) -> ToolResult:
    text = response["response"]["return_value"]
    return ToolResult(
        call_id=names[response["id"]],
        name=response["name"],
        content=(Text(text=text),),
        provider_id=response["id"],
    )


def parts_of(piece: dict[str, Any], names: dict[str, str]) -> list[Part]:
    signature = piece.get("thoughtSignature", "")
    sign = [Thinking(signature=signature, provider="gemini/next")] if signature else []
    if "functionCall" in piece:
        call = piece["functionCall"]
        names[call["id"]] = f"call_{len(names)}"
        arguments = json.dumps(call["args"])
        return [
            *sign,
            ToolCall(id=names[call["id"]], name=call["name"], arguments=arguments, provider_id=call["id"]),
        ]
    if "fileData" in piece:
        return [Document(url=piece["fileData"]["fileUri"])]
    if piece.get("thought"):
        return [Thinking(text=piece["text"], signature=signature, provider="gemini/thought")]
    return [*sign, Text(text=piece["text"])] if piece["text"] else []


def meaning(body: dict[str, Any]) -> dict[str, Any]:
    """A request without the differences that the server sees no difference in."""
    kept = {name: value for name, value in body.items() if name not in {"toolConfig", "tools"}}
    kept["contents"] = [content_meaning(entry) for entry in body["contents"]]
    kept["systemInstruction"] = [part["text"] for part in body.get("systemInstruction", {}).get("parts", ())]
    kept["tools"] = [tool_meaning(tool) for tool in body.get("tools", ())]
    kept["mode"] = body.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode")
    config = dict(body.get("generationConfig", {}))
    if config.get("responseModalities") == ["TEXT"]:
        del config["responseModalities"]
    if "thinkingConfig" in config:
        config["thinkingConfig"] = thinking_meaning(config["thinkingConfig"])
    return kept | {"generationConfig": config}


def content_meaning(entry: dict[str, Any]) -> dict[str, Any]:
    parts = [part_meaning(part) for part in entry["parts"]]
    return {"role": entry["role"], "parts": [part for part in parts if part is not None]}


def part_meaning(part: dict[str, Any]) -> dict[str, Any] | None:
    kept = dict(part)
    if part.get("thought") and "thoughtSignature" not in part:
        return None
    if "thoughtSignature" in part:
        kept["thoughtSignature"] = part["thoughtSignature"].replace("-", "+").replace("_", "/")
    if part.get("text") in {"", "(no words)"}:
        kept["text"] = ""
    if "functionResponse" in part:
        (value,) = part["functionResponse"]["response"].values()
        kept["functionResponse"] = part["functionResponse"] | {"response": value}
    if "fileData" in part:
        kept["fileData"] = part["fileData"]["fileUri"]
    return kept


def tool_meaning(tool: dict[str, Any]) -> dict[str, Any]:
    if "functionDeclarations" not in tool:
        return tool
    return {
        it["name"]: (it.get("description", ""), it.get("parametersJsonSchema") or schema_of(it))
        for it in tool["functionDeclarations"]
    }


def thinking_meaning(config: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the model thinks at all, and tells it: a level is not in these recordings."""
    camel = {name.replace("_b", "B").replace("_t", "T"): value for name, value in config.items()}
    return camel.get("thinkingBudget") == 0, bool(camel.get("includeThoughts"))
