"""What Anthropic's documentation and refusals say of a request's body. `check` asserts all of it.

The sources are the Messages reference, the pages on tool use, extended thinking, prompt caching and vision, and the
texts of the 400s that it answers with, quoted in short where a rule is only known from them.
"""

import base64
import re
from typing import Any

USER = frozenset({"text", "image", "document", "tool_result"})
RESULT = frozenset({"text", "image", "document"})
NATIVE = re.compile(r"server_tool_use|mcp_tool_use|[a-z_]+_tool_result")
IMAGES = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8", "image/webp": b"RIFF"}
ID = re.compile(r"[a-zA-Z0-9_-]+")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
BREAKPOINTS = 4
LEAST_BUDGET = 1024

Block = dict[str, Any]


def check(body: dict[str, Any]) -> None:
    """Raises `AssertionError` with the first rule that the body breaks."""
    assert body["model"], "a model is named"
    assert body["max_tokens"] >= 1, "a limit is set"
    turns = body["messages"]
    assert turns, "at least one message is required"
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"] * (
        len(turns) % 2
    ), "roles alternate, and the user begins"
    waiting: list[str] = []
    used: set[str] = set()
    for place, turn in enumerate(turns):
        blocks = turn["content"]
        assert blocks, "content is not empty"
        if turn["role"] == "user":
            _user(blocks, waiting)
            waiting = []
        else:
            waiting = _assistant(blocks, used, last=place == len(turns) - 1)
    assert not waiting, "`tool_use` ids were found without `tool_result` blocks immediately after"
    _system(body.get("system", "x"))
    _tools(body, turns)
    _thinking(body, turns)
    assert str(body).count("'cache_control'") <= BREAKPOINTS, "a maximum of 4 blocks with cache_control"


def _user(blocks: list[Block], waiting: list[str]) -> None:
    results = [block for block in blocks if block["type"] == "tool_result"]
    assert blocks[: len(results)] == results, "results come first in content"
    answered = [block["tool_use_id"] for block in results]
    assert answered == waiting, (
        "each `tool_result` has its `tool_use` in the previous message, and the reverse"
    )
    for block in blocks:
        assert block["type"] in USER
        if block["type"] == "tool_result":
            _result(block)
        else:
            _content(block)


def _result(block: Block) -> None:
    content = block["content"]
    if isinstance(content, str):
        assert content.strip(), "content cannot be empty"
        return
    assert content, "content cannot be empty"
    for inner in content:
        assert inner["type"] in RESULT
        assert inner["type"] == "text" or not block.get("is_error"), "all content must be text in an error"
        _content(inner)


def _content(block: Block) -> None:
    if block["type"] == "text":
        assert block["text"].strip(), "text content blocks must contain non-whitespace text"
        return
    source = block["source"]
    match source["type"]:
        case "url":
            assert source["url"].startswith(("http://", "https://"))
        case "text":
            assert block["type"] == "document"
            assert source["media_type"] == "text/plain"
            assert source["data"].strip()
        case "base64":
            data = base64.b64decode(source["data"], validate=True)
            if block["type"] == "document":
                assert source["media_type"] == "application/pdf"
                assert data.startswith(b"%PDF-")
            else:
                assert data.startswith(IMAGES[source["media_type"]]), "the type is what the bytes say"
        case other:
            raise AssertionError(other)


def _assistant(blocks: list[Block], used: set[str], *, last: bool) -> list[str]:
    """The ids of the calls, which must be answered next."""
    calls = [block for block in blocks if block["type"] == "tool_use"]
    for block in blocks:
        _spoken(block)
    assert blocks[-1]["type"] not in {"thinking", "redacted_thinking"}, "the final block cannot be `thinking`"
    for call in calls:
        assert call["id"] not in used, "`tool_use` ids must be unique"
        used.add(call["id"])
    answered = {block["tool_use_id"] for block in blocks if block["type"].endswith("_tool_result")}
    begun = {block["id"] for block in blocks if block["type"] in {"server_tool_use", "mcp_tool_use"}}
    assert last or calls or begun <= answered, "what ran at the provider has its result"
    return [call["id"] for call in calls]


def _spoken(block: Block) -> None:
    match block["type"]:
        case "text":
            assert block["text"].strip(), "text content blocks must contain non-whitespace text"
        case "thinking":
            assert block["signature"], "thinking is signed"
            assert isinstance(block["thinking"], str)
        case "redacted_thinking":
            assert block["data"]
        case "tool_use":
            assert ID.fullmatch(block["id"]), "String should match pattern '^[a-zA-Z0-9_-]+$'"
            assert NAME.fullmatch(block["name"]), "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
            assert isinstance(block["input"], dict), "Input should be a valid dictionary"
        case kind:
            assert NATIVE.fullmatch(kind), kind
    assert "cache_control" not in block or "thinking" not in block["type"], "thinking takes no cache_control"


def _system(system: str | list[Block]) -> None:
    for text in [system] if isinstance(system, str) else [block["text"] for block in system]:
        assert text.strip()


def _tools(body: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    tools = body.get("tools", [])
    names = [tool["name"] for tool in tools]
    assert len(set(names)) == len(names), "tool names must be unique"
    for tool in tools:
        assert NAME.fullmatch(tool["name"])
        assert tool["input_schema"]["type"] == "object"
    called = any(block["type"] == "tool_use" for turn in turns for block in turn["content"])
    assert tools or not called, "requests with `tool_use` blocks must define tools"
    choice = body.get("tool_choice")
    if choice is None:
        return
    assert tools, "tool_choice may only be specified while providing tools"
    assert choice["type"] in {"auto", "any", "tool", "none"}
    assert choice["type"] != "none" or "disable_parallel_tool_use" not in choice
    assert choice["type"] != "tool" or choice["name"] in names


def _thinking(body: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    thinking = body.get("thinking", {})
    if thinking.get("type") != "enabled":
        return
    assert LEAST_BUDGET <= thinking["budget_tokens"] < body["max_tokens"]
    choice = body.get("tool_choice", {}).get("type")
    assert choice not in {"any", "tool"}, "Thinking may not be enabled when tool_choice forces tool use."
    first = None
    for turn in reversed(turns):
        if turn["role"] == "assistant":
            first = turn["content"][0]["type"]
        elif turn["content"][0]["type"] != "tool_result":
            break
    assert first in {None, "thinking", "redacted_thinking"}, "Expected `thinking`, but found something else"
