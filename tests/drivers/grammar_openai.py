"""The rules that the Responses API has for its input, written from its documentation and its refusals."""

from __future__ import annotations

import re
from typing import Any

MAX_CALL_ID = 64
NATIVE = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_list_tools",
        "mcp_call",
        "compaction",
        "shell_call",
        "shell_call_output",
    }
)
"""Items of tools that ran at the provider, which stand for themselves."""
PIECES = {
    "input_text": ({"text"},),
    "input_image": ({"image_url", "detail"},),
    "input_file": ({"filename", "file_data"}, {"file_url"}),
}
"""Pieces of content and the fields that each may have beside its type."""


def problems(body: dict[str, Any]) -> list[str]:
    """What the server would refuse in this request; empty when it would take it."""
    found: list[str] = []
    items = body["input"]
    known = bool(body.get("previous_response_id"))
    if not items and not known:
        found.append("the input is empty")
    for place, item in enumerate(items):
        found += [f"item {place}: {problem}" for problem in _item(item)]
    found += _pairs(items, known)
    found += _reasoning(items, body.get("store", True))
    return found


def _item(item: dict[str, Any]) -> list[str]:
    kind = item.get("type", "message")
    if kind == "message":
        return _message(item)
    if kind == "function_call":
        wrong = [name for name in ("call_id", "name", "arguments") if not isinstance(item.get(name), str)]
        named = re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", item.get("name") or "")
        bad_name = [] if named else ["a name that is none"]
        return [f"{name} is not a text" for name in wrong] + bad_name + _call_id(item)
    if kind == "custom_tool_call":
        return ([] if isinstance(item.get("input"), str) else ["no input"]) + _call_id(item)
    if kind in ("function_call_output", "custom_tool_call_output"):
        return _call_id(item) + _content(item.get("output"))
    if kind == "reasoning":
        return [] if isinstance(item.get("summary"), list) else ["reasoning without a summary"]
    if kind == "image_generation_call" and not item.get("result"):
        return ["a picture without its bytes"]
    return [] if kind in NATIVE else [f"the type {kind!r} is not known"]


def _message(item: dict[str, Any]) -> list[str]:
    role = item.get("role")
    found = [] if role in ("user", "assistant") else [f"the role {role!r} is not known"]
    if "phase" in item and (role != "assistant" or item["phase"] not in ("commentary", "final_answer")):
        found.append("a phase that is none")
    if role == "assistant" and not isinstance(item.get("content"), str):
        found.append("an answer that is not words")
    return found + _content(item.get("content"))


def _content(content: object) -> list[str]:
    if isinstance(content, str):
        return []
    if not isinstance(content, list):
        return ["content is neither a text nor a list"]
    return [f"a piece that is none: {str(piece)[:80]}" for piece in content if not _is_piece(piece)]


def _is_piece(piece: dict[str, Any]) -> bool:
    shapes = PIECES.get(piece.get("type", ""), ())
    if not any(set(piece) == {"type"} | shape for shape in shapes):
        return False
    return all(isinstance(value, str) for value in piece.values())


def _call_id(item: dict[str, Any]) -> list[str]:
    call_id = item.get("call_id")
    if not isinstance(call_id, str) or not call_id:
        return ["no call id"]
    return [] if len(call_id) <= MAX_CALL_ID else [f"a call id of {len(call_id)} characters"]


def _pairs(items: list[dict[str, Any]], known: bool) -> list[str]:
    """Each call once, with one output after it; each output after its call, unless the server remembers that call."""
    found: list[str] = []
    waiting: dict[str, str] = {}
    seen: set[str] = set()
    for item in items:
        kind, call_id = item.get("type", ""), item.get("call_id", "")
        if kind in ("function_call", "custom_tool_call"):
            if call_id in seen:
                found.append(f"the call {call_id} twice")
            seen.add(call_id)
            waiting[call_id] = f"{kind}_output"
        elif kind in ("function_call_output", "custom_tool_call_output"):
            if waiting.pop(call_id, None) != kind and not (known and call_id not in seen):
                found.append(f"an output without its call {call_id}")
        elif item.get("role") == "user" and waiting:
            found.append(f"a person speaks before the outputs of {sorted(waiting)}")
    return found + [f"the call {call_id} without its output" for call_id in sorted(waiting)]


def _reasoning(items: list[dict[str, Any]], stored: bool) -> list[str]:
    """Reasoning is followed by what it led to, and without a server that keeps it, brings its content along."""
    found: list[str] = []
    for place, item in enumerate(items):
        if item.get("type") != "reasoning":
            continue
        rest = [after for after in items[place + 1 :] if after.get("type") != "reasoning"]
        follower = rest[0] if rest else {}
        if (
            not follower
            or follower.get("role") == "user"
            or str(follower.get("type")).endswith("call_output")
        ):
            found.append(f"reasoning {item.get('id')} without the item that it led to")
        if not stored and not (item.get("encrypted_content") or item.get("content")):
            found.append(f"reasoning {item.get('id')} that the server does not have")
    return found
