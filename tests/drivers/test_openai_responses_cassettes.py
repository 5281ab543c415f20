"""Every recorded Responses exchange, read by our driver and by the official client from the same bytes."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from holdfast.driver import Reply, Request, Transcript
from holdfast.drivers.openai import OpenAI
from holdfast.errors import DriverError
from holdfast.messages import Native, Text, Thinking, Usage, user_message
from tests.drivers.cassettes import files_of, in_pieces
from tests.drivers.wire_server import WireServer, says

FILES = files_of("openai-responses")


def exchanges(*, ours: bool) -> list[Any]:
    """The exchanges with `/responses`, or the others: recordings also hold what was asked elsewhere meanwhile."""
    found = []
    for path in FILES:
        for place, exchange in enumerate(json.loads(path.read_bytes())["interactions"]):
            if exchange["request"]["uri"].endswith("/responses") is ours:
                found.append(pytest.param(path, place, id=f"{path.stem}-{place}"))
    return found


def test_every_recording_is_read() -> None:
    read = {param.values[0] for param in (*exchanges(ours=True), *exchanges(ours=False))}
    assert read == set(FILES)
    assert len(FILES) >= 39
    assert len(exchanges(ours=True)) >= 50


@pytest.mark.parametrize(("path", "place"), exchanges(ours=True))
async def test_a_recorded_answer_means_to_us_what_it_means_to_the_official_client(
    path: Path, place: int
) -> None:
    response = json.loads(path.read_bytes())["interactions"][place]["response"]
    streaming = response["content_type"].startswith("text/event-stream")
    async with served(response, streaming) as server:
        theirs = await official(server.url, streaming)
        ours = await our_own(server, streaming)
    assert ours == theirs


@pytest.mark.parametrize(("path", "place"), exchanges(ours=True))
async def test_a_recorded_stream_and_its_final_response_as_a_whole_body_give_the_same_reply(
    path: Path, place: int
) -> None:
    response = json.loads(path.read_bytes())["interactions"][place]["response"]
    if not response["content_type"].startswith("text/event-stream"):
        response = as_stream(response)
        if response is None:
            return
    events = [json.loads(line[6:]) for line in response["body"].splitlines() if line.startswith("data: {")]
    # The server encrypts reasoning anew for the final response, so its text there is another each time.
    output = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    final = events[-1]["response"]
    assert [unencrypted(item) for item in output] == [unencrypted(item) for item in final["output"]]
    whole = {"status": 200, "content_type": "application/json", "body": final | {"output": output}}
    async with served(response, streaming=True) as server:
        streamed = await our_own(server, streaming=True)
    async with served(whole, streaming=False) as server:
        assert await our_own(server, streaming=False) == streamed


@pytest.mark.parametrize(("path", "place"), exchanges(ours=False))
async def test_the_answer_of_another_endpoint_is_not_taken_for_an_answer(path: Path, place: int) -> None:
    response = json.loads(path.read_bytes())["interactions"][place]["response"]
    async with served(response, streaming=False) as server:
        with pytest.raises(DriverError, match="not an answer") as caught:
            await reply(server, streaming=False)
    assert caught.value.kind == "server_error"


def unencrypted(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "encrypted_content"}


def as_stream(response: dict[str, Any]) -> dict[str, Any] | None:
    """A whole recorded answer as the shortest stream that means it. None for an error."""
    body = response["body"]
    if "output" not in body:
        return None
    events = [{"type": "response.created", "response": body | {"output": [], "status": "in_progress"}}]
    for at, item in enumerate(body["output"]):
        events.append({"type": "response.output_item.added", "output_index": at, "item": item})
        events.append({"type": "response.output_item.done", "output_index": at, "item": item})
    events.append({"type": "response.completed", "response": body})
    text = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events)
    return {"status": 200, "content_type": "text/event-stream", "body": text}


def served(response: dict[str, Any], streaming: bool) -> WireServer:
    if streaming:
        body = response["body"].encode()
        return WireServer([in_pieces(body)])
    body = json.dumps(response["body"]).encode()
    return WireServer(
        [says(body, status=f"{response['status']} Recorded", content_type=response["content_type"])]
    )


async def reply(server: WireServer, streaming: bool) -> Reply:
    """Our reply; what it told on the way is what it holds in the end."""
    driver = OpenAI(base_url=server.url, api_key="sk-test")
    told: dict[str, list[str]] = {"text": [], "thinking": [], "arguments": []}
    arguments: dict[int, str] = {}

    def hear(kind: str, piece: str, index: int) -> None:
        told[kind].append(piece)
        if kind == "arguments":
            arguments[index] = arguments.get(index, "") + piece

    request = Request(model="recorded", messages=Transcript([user_message("hi")]), stream=streaming)
    try:
        found = await driver.reply(request, hear)
    finally:
        await driver.close()
    assert "".join(told["text"]) == found.message.text
    assert "".join(told["thinking"]) == thought(found)
    assert [arguments.get(at, "{}") for at in range(len(found.message.calls))] == [
        call.arguments for call in found.message.calls
    ]
    return found


async def our_own(server: WireServer, streaming: bool) -> dict[str, Any]:
    try:
        found = await reply(server, streaming)
    except DriverError as error:
        return {"error": error.kind}
    parts = found.message.content
    return {
        "text": [part.text for part in parts if isinstance(part, Text)],
        "thinking": thought(found),
        "reasoning": [json.loads(part.encrypted) for part in parts if isinstance(part, Thinking)],
        "natives": [json.loads(part.data) for part in parts if isinstance(part, Native)],
        "calls": [(call.name, call.arguments, call.provider_id) for call in found.message.calls],
        "order": [type(part).__name__ for part in parts],
        "phase": found.message.phase,
        "usage": found.usage,
        "stop": found.stop,
        "model": found.model,
        "id": found.response_id,
    }


def thought(found: Reply) -> str:
    return "".join(part.text for part in found.message.content if isinstance(part, Thinking))


async def official(url: str, streaming: bool) -> dict[str, Any]:
    """What the official client makes of it, in the same shape."""
    client = openai.AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0)
    try:
        if streaming:
            response = await official_stream(client)
        else:
            response = await client.responses.create(model="recorded", input=[])
    except openai.BadRequestError:
        return {"error": "invalid_request"}
    finally:
        await client.close()
    calls = [item for item in response.output if item.type == "function_call"]
    phases = [item.phase for item in response.output if item.type == "message" and item.phase]
    return {
        "text": [text for item in response.output if (text := said(item))],
        "thinking": "".join(summary(item) for item in response.output if item.type == "reasoning"),
        "reasoning": [raw(item) for item in response.output if item.type == "reasoning"],
        "natives": [raw(item) for item in response.output if kind(item) == "Native"],
        "calls": [(call.name, call.arguments, call.call_id) for call in calls],
        "order": [kind(item) for item in response.output if kind(item) != "Text" or said(item)],
        "phase": phases[-1] if phases else "",
        "usage": official_usage(response),
        "stop": official_stop(response, bool(calls)),
        "model": response.model,
        "id": response.id,
    }


async def official_stream(client: openai.AsyncOpenAI) -> Response:
    """The final response, after its text and arguments have been found to be the sum of the deltas.

    Its items are those of `response.output_item.done`, whose reasoning is the one to send back, by the documentation.
    """
    text, arguments, items, final = [], [], [], None
    stream = await client.responses.create(model="recorded", input=[], stream=True)
    async for event in stream:
        if event.type == "response.output_text.delta":
            text.append(event.delta)
        elif event.type == "response.function_call_arguments.delta":
            arguments.append(event.delta)
        elif event.type == "response.output_item.done":
            items.append(event.item)
        elif event.type in ("response.completed", "response.incomplete", "response.failed"):
            final = event.response
    assert final is not None
    assert "".join(text) == final.output_text
    calls = [item.arguments for item in final.output if item.type == "function_call"]
    assert "".join(arguments) == "".join(calls)
    return final.model_copy(update={"output": items})


def raw(item: Any) -> dict[str, Any]:
    # Sources of a search are not all in the client's types; it warns of them, and hands them out.
    found: dict[str, Any] = item.model_dump(mode="json", exclude_unset=True, warnings=False)
    return found


def kind(item: Any) -> str:
    return {"message": "Text", "reasoning": "Thinking", "function_call": "ToolCall"}.get(item.type, "Native")


def said(item: Any) -> str:
    if item.type != "message":
        return ""
    return "".join(part.text if part.type == "output_text" else part.refusal for part in item.content)


def summary(item: Any) -> str:
    return "\n\n".join(part.text for part in item.summary if part.text)


def official_usage(response: Response) -> Usage:
    usage = response.usage
    assert usage is not None
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.input_tokens_details.cached_tokens,
        cache_write_tokens=getattr(usage.input_tokens_details, "cache_write_tokens", None) or 0,
        reasoning_tokens=usage.output_tokens_details.reasoning_tokens,
    )


def official_stop(response: Response, calls: bool) -> str:
    if response.incomplete_details is not None:
        return {"max_output_tokens": "max_tokens", "content_filter": "refusal"}[
            str(response.incomplete_details.reason)
        ]
    return "tool_calls" if calls else "end_turn"
