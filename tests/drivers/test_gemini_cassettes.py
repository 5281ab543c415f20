"""Every recorded Gemini exchange, read by our driver and by the official client from the same bytes."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from holdfast.driver import Reply, Request, Transcript
from holdfast.drivers.gemini import Gemini
from holdfast.errors import DriverError
from holdfast.messages import Message, Native, Thinking, Usage, user_message
from tests.drivers.cassettes import exchanges_of, files_of, in_pieces
from tests.drivers.wire_server import WireServer, says, streams

FILES = files_of("gemini")
EXCHANGES = exchanges_of(FILES)

STOPS = {
    types.FinishReason.STOP: "end_turn",
    types.FinishReason.MAX_TOKENS: "max_tokens",
    types.FinishReason.SAFETY: "refusal",
}
"""The protocol's documented words in ours; calls make `tool_calls` of a plain stop."""


def test_there_are_recordings_of_what_matters() -> None:
    bodies = [json.loads(path.read_bytes()) for path in FILES]
    assert len(FILES) >= 28
    assert len(EXCHANGES) >= 39
    assert sum(body["streaming"] for body in bodies) >= 4
    told = json.dumps(bodies)
    for word in ("thoughtSignature", "groundingMetadata", "SAFETY", "MAX_TOKENS", "cachedContentTokenCount"):
        assert word in told


@pytest.mark.parametrize(("path", "place"), EXCHANGES)
async def test_a_recorded_answer_means_to_us_what_it_means_to_the_official_client(
    path: Path, place: int
) -> None:
    response = json.loads(path.read_bytes())["interactions"][place]["response"]
    streaming = response["content_type"].startswith("text/event-stream")
    async with served(response, streaming) as server:
        theirs = await official(server, streaming)
        ours = await our_own(server, streaming)
    assert ours == theirs


@pytest.mark.parametrize(
    ("path", "place"), [it for it in EXCHANGES if "usage_limit_not_exceeded-0" not in str(it.id)]
)
async def test_a_recorded_answer_gives_the_same_reply_streamed_and_whole(path: Path, place: int) -> None:
    # One exchange is left out: it is a count of tokens, and no answer of a model.
    response = json.loads(path.read_bytes())["interactions"][place]["response"]
    if response["content_type"].startswith("text/event-stream"):
        chunks = [json.loads(line[5:]) for line in response["body"].splitlines() if line.startswith("data:")]
    else:
        chunks = [response["body"]]
    events = [b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks]
    merged = says(json.dumps(one_of(chunks)).encode())
    async with WireServer([streams(*events), says(json.dumps(chunks).encode()), merged]) as server:
        streamed, listed, whole = [(await asked(server, stream))[0] for stream in (True, False, False)]
    assert streamed == listed
    assert streamed == whole


def one_of(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The body that the server would have sent, had it not streamed: the last chunk with what all said."""
    parts = [part for chunk in chunks for part in chunk["candidates"][0].get("content", {}).get("parts", ())]
    merged: dict[str, Any] = {}
    for chunk in chunks:
        merged |= {name: value for name, value in chunk["candidates"][0].items() if value}
    return chunks[-1] | {"candidates": [merged | {"content": {"role": "model", "parts": parts}}]}


def served(response: dict[str, Any], streaming: bool) -> WireServer:
    if streaming:
        body = response["body"].encode()
        return WireServer([in_pieces(body)])
    body = json.dumps(response["body"]).encode()
    return WireServer(
        [says(body, status=f"{response['status']} Recorded", content_type=response["content_type"])]
    )


async def asked(server: WireServer, stream: bool) -> tuple[Reply, dict[str, list[str]]]:
    driver = Gemini(base_url=server.url, api_key="AIza-test")
    told: dict[str, list[str]] = {"text": [], "thinking": [], "arguments": []}
    request = Request(model="recorded", messages=Transcript([user_message("hi")]), stream=stream)
    try:
        return await driver.reply(request, lambda kind, piece, index: told[kind].append(piece)), told
    finally:
        await driver.close()


async def our_own(server: WireServer, streaming: bool) -> dict[str, Any]:
    try:
        reply, told = await asked(server, streaming)
    except DriverError as error:
        return {"error": error.kind}
    assert "".join(told["text"]) == reply.message.text
    assert "".join(told["thinking"]) == thought(reply.message)
    assert told["arguments"] == [call.arguments for call in reply.message.calls]
    return {
        "text": reply.message.text,
        "thinking": thought(reply.message),
        "signatures": [
            base64.b64decode(part.signature)
            for part in reply.message.content
            if isinstance(part, Thinking) and part.signature
        ],
        "calls": [
            (call.name, json.loads(call.arguments), call.provider_id or None) for call in reply.message.calls
        ],
        "native": [json.loads(part.data) for part in reply.message.content if isinstance(part, Native)],
        "usage": reply.usage,
        "stop": reply.stop,
        "model": reply.model,
        "id": reply.response_id,
    }


def thought(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, Thinking))


async def official(server: WireServer, streaming: bool) -> dict[str, Any]:
    """What the official client makes of it, in the same shape."""
    options = types.HttpOptions(
        base_url=server.url.removesuffix("/v1"), retry_options=types.HttpRetryOptions(attempts=1)
    )
    client = genai.Client(api_key="AIza-test", http_options=options).aio
    try:
        if streaming:
            stream = await client.models.generate_content_stream(model="recorded", contents="hi")
            responses = [response async for response in stream]
        else:
            responses = [await client.models.generate_content(model="recorded", contents="hi")]
    except errors.APIError as error:
        return {"error": {400: "invalid_request", 429: "rate_limit", 503: "overloaded"}[error.code]}
    finally:
        await client.aclose()
    if not any(response.candidates for response in responses):
        # It does not check: what it hands out has no candidates. To us that is no answer.
        return {"error": "server_error"}
    return in_our_words(responses)


def in_our_words(responses: list[types.GenerateContentResponse]) -> dict[str, Any]:
    candidates = [response.candidates[0] for response in responses if response.candidates]
    parts = [part for it in candidates if it.content for part in it.content.parts or ()]
    calls = [part.function_call for part in parts if part.function_call]
    reasons = [it.finish_reason for it in candidates if it.finish_reason]
    stop = STOPS[reasons[-1]]
    usage = [response.usage_metadata for response in responses if response.usage_metadata][-1]
    return {
        "text": "".join(part.text or "" for part in parts if not part.thought),
        "thinking": "".join(part.text or "" for part in parts if part.thought),
        "signatures": [part.thought_signature for part in parts if part.thought_signature],
        "calls": [(call.name, call.args or {}, call.id) for call in calls],
        "native": official_natives(candidates),
        "usage": official_usage(usage),
        "stop": "tool_calls" if calls and stop == "end_turn" else stop,
        "model": responses[-1].model_version,
        "id": responses[-1].response_id,
    }


def official_natives(candidates: list[types.Candidate]) -> list[dict[str, Any]]:
    dumped = [it.model_dump(mode="json", by_alias=True, exclude_none=True) for it in candidates]
    names = ("groundingMetadata", "urlContextMetadata")
    told = {name: [it[name] for it in dumped if it.get(name)] for name in names}
    return [{name: values[-1]} for name, values in told.items() if values]


def official_usage(usage: types.GenerateContentResponseUsageMetadata) -> Usage:
    return Usage(
        input_tokens=(usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
        output_tokens=(usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
        cache_read_tokens=usage.cached_content_token_count or 0,
        reasoning_tokens=usage.thoughts_token_count or 0,
    )
