"""Every recorded Anthropic exchange, read by our driver and by the official client from the same bytes."""

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types.beta import BetaMessage

from holdfast.driver import Reply, Request, Transcript
from holdfast.drivers.anthropic import Anthropic
from holdfast.errors import DriverError
from holdfast.messages import Native, Text, Thinking, ToolCall, Usage, user_message
from tests.drivers.cassettes import exchanges_of, files_of, in_pieces
from tests.drivers.wire_server import WireServer, says

FILES = files_of("anthropic")
EXCHANGES = exchanges_of(FILES)

STOPS = {"end_turn": "end_turn", "tool_use": "tool_calls", "max_tokens": "max_tokens", "refusal": "refusal"}
"""The protocol's documented words in ours."""


def test_there_are_recordings_of_every_kind() -> None:
    assert len(FILES) >= 47
    assert len(EXCHANGES) >= 73
    assert sum(response(path, place)["streaming"] for path, place in plain()) >= 10


def plain() -> list[tuple[Path, int]]:
    return [(param.values[0], param.values[1]) for param in EXCHANGES]  # type: ignore[misc]


def response(path: Path, place: int) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(path.read_bytes())["interactions"][place]["response"]
    return recorded | {"streaming": recorded["content_type"].startswith("text/event-stream")}


@pytest.mark.parametrize(("path", "place"), EXCHANGES)
async def test_a_recorded_answer_means_to_us_what_it_means_to_the_official_client(
    path: Path, place: int
) -> None:
    recorded = response(path, place)
    async with served(recorded) as server:
        theirs = await official(server.url, recorded["streaming"])
        ours = await our_own(server, recorded["streaming"])
    assert ours == theirs


@pytest.mark.parametrize(("path", "place"), [it for it in EXCHANGES if response(*it.values)["streaming"]])  # type: ignore[arg-type]
async def test_a_recorded_stream_and_the_message_it_amounts_to_are_one_reply(path: Path, place: int) -> None:
    recorded = response(path, place)
    async with served(recorded) as server:
        async with client(server.url) as theirs:
            message = await official_stream(theirs)
        streamed = meaning(await replied(server, streaming=True))
    whole = says(message.to_json(exclude_unset=True).encode())
    async with WireServer([whole]) as server:
        assert meaning(await replied(server, streaming=False)) == streamed


def served(recorded: dict[str, Any]) -> WireServer:
    if recorded["streaming"]:
        body = recorded["body"].encode()
        return WireServer([in_pieces(body)])
    body = json.dumps(recorded["body"]).encode()
    return WireServer(
        [says(body, status=f"{recorded['status']} Recorded", content_type=recorded["content_type"])]
    )


async def replied(server: WireServer, *, streaming: bool) -> Reply:
    """Our reply, after a look at whether what was told on the way is what it holds."""
    driver = Anthropic(base_url=server.url, api_key="sk-ant-test")
    told: dict[str, list[str]] = {"text": [], "thinking": [], "arguments": []}
    request = Request(model="recorded", messages=Transcript([user_message("hi")]), stream=streaming)
    try:
        reply = await driver.reply(request, lambda kind, piece, index: told[kind].append(piece))
    finally:
        await driver.close()
    assert "".join(told["text"]) == reply.message.text
    parts = reply.message.content
    assert "".join(told["thinking"]) == "".join(part.text for part in parts if isinstance(part, Thinking))
    arguments = [call.arguments for call in reply.message.calls if call.arguments != "{}"]
    assert "".join(told["arguments"]).replace("{}", "") == "".join(arguments)
    return reply


async def our_own(server: WireServer, streaming: bool) -> dict[str, Any]:
    try:
        return meaning(await replied(server, streaming=streaming))
    except DriverError as error:
        return {"error": error.kind}


def meaning(reply: Reply) -> dict[str, Any]:
    return {
        "content": [part(each) for each in reply.message.content],
        "usage": reply.usage,
        "stop": reply.stop,
        "model": reply.model,
        "id": reply.response_id,
    }


def part(each: object) -> tuple[Any, ...]:
    match each:
        case Text(text=text):
            return ("text", text)
        case Thinking(text=text, signature=signature, encrypted=encrypted, provider="anthropic"):
            return ("redacted", encrypted) if encrypted else ("thinking", text, signature)
        case ToolCall(name=name, arguments=arguments, provider_id=provider_id):
            return ("call", name, json.loads(arguments), provider_id)
        case Native(data=data, provider="anthropic"):
            return ("native", json.loads(data))
    raise AssertionError(each)


def client(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url.removesuffix("/v1"), api_key="sk-ant-test", max_retries=0)


async def official(url: str, streaming: bool) -> dict[str, Any]:
    """What the official client makes of it, in the same shape."""
    theirs = client(url)
    try:
        if streaming:
            message = await official_stream(theirs)
        else:
            message = await theirs.beta.messages.create(
                model="recorded", max_tokens=1, messages=[{"role": "user", "content": "hi"}]
            )
    except anthropic.BadRequestError:
        return {"error": "invalid_request"}
    finally:
        await theirs.close()
    if getattr(message, "content", None) is None:
        # It does not check: a count of tokens, or another vendor's answer, is no message. To us that is no answer.
        return {"error": "server_error"}
    return {
        "content": [
            part
            for block in message.content
            if worth_a_part(block)
            for part in official_parts(block.to_dict())
        ],
        "usage": official_usage(message),
        "stop": STOPS[str(message.stop_reason)],
        "model": message.model,
        "id": message.id,
    }


async def official_stream(theirs: anthropic.AsyncAnthropic) -> BetaMessage:
    stream = theirs.beta.messages.stream(
        model="recorded", max_tokens=1, messages=[{"role": "user", "content": "hi"}]
    )
    async with stream as events:
        return await events.get_final_message()


def worth_a_part(block: Any) -> bool:
    """A text block without text is none."""
    return block.type != "text" or bool(block.text)


def official_parts(block: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The parts of a block: one, but text with citations is kept a second time, with them."""
    if block["type"] == "text":
        return [("text", block["text"]), *([("native", block)] if block.get("citations") else [])]
    return [official_part(block)]


def official_part(block: dict[str, Any]) -> tuple[Any, ...]:
    match block:
        case {"type": "thinking"}:
            return ("thinking", block["thinking"], block["signature"])
        case {"type": "redacted_thinking"}:
            return ("redacted", block["data"])
        case {"type": "tool_use"}:
            return ("call", block["name"], block["input"], block["id"])
    return ("native", block)


def official_usage(message: BetaMessage) -> Usage:
    usage = message.usage
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    details = usage.output_tokens_details
    return Usage(
        input_tokens=usage.input_tokens + read + written,
        output_tokens=usage.output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=details.thinking_tokens if details else 0,
    )
