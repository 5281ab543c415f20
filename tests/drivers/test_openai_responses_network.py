"""What only Responses has on a real connection; what all protocols have is in `test_network`."""

import json
from typing import Any

import pytest

from holdfast.agent import Agent
from holdfast.messages import Image
from holdfast.registry import Registry
from holdfast.runtime import Runtime
from holdfast.tool import tool
from tests.drivers.grammar_openai import problems
from tests.drivers.tongues import OPENAI
from tests.drivers.wire_server import WireServer, says, streams

SAID = "Hel\u2028lo \U0001f600"


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind} | fields, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}


def response(*output: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 2}
    return {
        "object": "response",
        "id": "resp_1",
        "model": "m1",
        "status": status,
        "output": list(output),
        "usage": usage,
    }


CREATED = event("response.created", response=response(status="in_progress"))
PIECES = [event("response.output_text.delta", output_index=0, delta=piece) for piece in (SAID[:4], SAID[4:])]
DONE = event("response.output_item.done", output_index=0, item=message(SAID))
COMPLETED = event("response.completed", response=response(message(SAID)))
ALL = (CREATED, *PIECES, DONE, COMPLETED)


async def test_large_pictures_that_were_made_come_through_whole() -> None:
    item = {"type": "image_generation_call", "id": "ig", "result": "A" * (6 * 2**20)}
    events = (
        event("response.output_item.done", output_index=0, item=item),
        event("response.output_item.done", output_index=1, item=item),
        event("response.completed", response=response(item, item)),
    )
    async with WireServer([streams(*events)]) as server:
        found = await OPENAI.ask(server)
    images = [part.url for part in found.message.content if isinstance(part, Image)]
    assert [len(url) for url in images] == [len("data:image/png;base64,") + 6 * 2**20] * 2


# -- the end that is missing


@pytest.mark.parametrize("cut", [10, len(COMPLETED) // 2, len(COMPLETED) - 3])
async def test_a_terminal_event_that_is_cut_off_is_no_end(cut: int) -> None:
    assert (await OPENAI.failure(streams(*ALL[:-1], COMPLETED[:cut]))).kind == "broken_stream"


async def test_the_end_of_another_protocol_is_no_end_of_this_one() -> None:
    assert (await OPENAI.failure(streams(*ALL[:-1], b"data: [DONE]\n\n", end=False))).kind == "broken_stream"


# -- refusals


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_value", "invalid_request"),
        (400, "previous_response_not_found", "invalid_request"),
        (400, "context_length_exceeded", "too_large"),
        (401, "invalid_api_key", "authentication"),
        (403, "unsupported_country_region_territory", "authentication"),
        (404, "model_not_found", "invalid_request"),
        (429, "insufficient_quota", "quota"),
        (500, "server_error", "server_error"),
        (503, "server_is_overloaded", "overloaded"),
    ],
)
async def test_every_status_has_its_kind(status: int, code: str, kind: str) -> None:
    body = json.dumps({"error": {"message": "no", "type": "invalid_request_error", "code": code}}).encode()
    error = await OPENAI.failure(says(body, status=f"{status} No"))
    assert (error.kind, error.status) == (kind, status)


async def test_an_error_in_a_stream_that_began_well_is_an_error() -> None:
    failed = response(status="failed") | {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}
    assert (
        await OPENAI.failure(streams(*ALL[:3], event("response.failed", response=failed)))
    ).kind == "rate_limit"
    inside = event("error", code="server_error", message="oops", param=None)
    assert (await OPENAI.failure(streams(*ALL[:3], inside))).kind == "server_error"


# -- a whole turn


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


async def test_a_turn_with_a_tool_sends_the_reasoning_back_and_ends_with_the_answer() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AA=="}
    call = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "add",
        "arguments": '{"a":1,"b":2}',
    }
    comment = message("I shall add.") | {"phase": "commentary"}
    first = (
        event("response.output_item.done", output_index=0, item=reasoning),
        event("response.output_item.done", output_index=1, item=comment),
        event("response.output_item.done", output_index=2, item=call),
        event("response.completed", response=response(reasoning, comment, call)),
    )
    async with WireServer([streams(*first), streams(*ALL)]) as server:
        registry = Registry(drivers={"openai": lambda: OPENAI.made(server)})
        async with Runtime(registry=registry) as runtime:
            session = await runtime.session(Agent(model="openai/gpt-5.4", tools=[add]))
            result = await session.run("What is 1 + 2?")
        bodies = [json.loads(exchange.body) for exchange in server.exchanges]
    assert (result.text, result.status) == (SAID, "completed")
    assert bodies[1]["input"] == [
        {"role": "user", "content": "What is 1 + 2?"},
        reasoning,
        {"role": "assistant", "content": "I shall add.", "phase": "commentary"},
        {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a":1,"b":2}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "3"},
    ]
    assert [problems(body) for body in bodies] == [[], []]
