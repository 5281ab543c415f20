"""The Responses driver on a real connection that misbehaves. What drivers share is tested with Chat Completions."""

import asyncio
import itertools
import json
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.agent import Agent
from holdfast.driver import Reply, Request, Transcript
from holdfast.drivers import transport
from holdfast.drivers.openai import OpenAI
from holdfast.errors import DriverError, MissingCredential
from holdfast.messages import Image, user_message
from holdfast.registry import Registry
from holdfast.runtime import Runtime
from holdfast.tool import tool
from tests.drivers.grammar_openai import problems
from tests.drivers.wire_server import SSE, Exchange, WireServer, breaks_off, head, in_chunks, says, streams

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
WHOLE = json.dumps(response(message(SAID))).encode()


def request(*, stream: bool = True) -> Request:
    return Request(model="m", messages=Transcript([user_message("hi")]), stream=stream)


def driver_for(server: WireServer, **options: Any) -> OpenAI:
    return OpenAI(**({"base_url": server.url, "api_key": "sk-test-0123456789"} | options))


async def ask(server: WireServer, *, stream: bool = True, **options: Any) -> Reply:
    driver = driver_for(server, **options)
    try:
        return await driver.reply(request(stream=stream), lambda kind, piece, index: None)
    finally:
        await driver.close()


async def failure(*scripts: Any, stream: bool = True, **options: Any) -> DriverError:
    async with WireServer(list(scripts)) as server:
        with pytest.raises(DriverError) as caught:
            await ask(server, stream=stream, **options)
    return caught.value


async def test_streamed_and_whole_answers_give_the_same_reply() -> None:
    async with WireServer([streams(*ALL), says(WHOLE), says(WHOLE), streams(*ALL)]) as server:
        streamed = await ask(server, stream=True)
        assert streamed == await ask(server, stream=False)
        assert streamed == await ask(server, stream=True)  # a server may not do as it is asked
        assert streamed == await ask(server, stream=False)
    assert (streamed.message.text, streamed.response_id, streamed.usage.output_tokens) == (SAID, "resp_1", 2)


async def test_the_request_carries_the_key_the_headers_and_the_encoded_body() -> None:
    async with WireServer([streams(*ALL)]) as server:
        driver = driver_for(server, headers={"x-title": "holdfast"})
        await driver.reply(request(), lambda *_: None)
        sent = server.exchanges[0]
        assert sent.head.startswith(b"POST /v1/responses HTTP/1.1\r\n")
        assert sent.headers["authorization"] == "Bearer sk-test-0123456789"
        assert (sent.headers["x-title"], sent.headers["content-type"]) == ("holdfast", "application/json")
        assert sent.body == driver.encode(request())
        await driver.close()


async def test_one_connection_serves_one_call_after_the_other() -> None:
    async with WireServer([streams(*ALL)]) as server:
        driver = driver_for(server)
        for _ in range(3):
            await driver.reply(request(), lambda *_: None)
        assert len({exchange.writer for exchange in server.exchanges}) == 1
        await driver.close()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, len(b"".join(ALL))), max_size=30))
async def test_any_split_on_a_real_connection_gives_the_same_reply(places: list[int]) -> None:
    body = b"".join(ALL)
    edges = [0, *sorted(places), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
    async with WireServer([streams(*pieces)]) as server:
        found = await ask(server)
    assert (found.message.text, found.usage.output_tokens) == (SAID, 2)


async def test_large_pictures_that_were_made_come_through_whole() -> None:
    item = {"type": "image_generation_call", "id": "ig", "result": "A" * (6 * 2**20)}
    events = (
        event("response.output_item.done", output_index=0, item=item),
        event("response.output_item.done", output_index=1, item=item),
        event("response.completed", response=response(item, item)),
    )
    async with WireServer([streams(*events)]) as server:
        found = await ask(server)
    images = [part.url for part in found.message.content if isinstance(part, Image)]
    assert [len(url) for url in images] == [len("data:image/png;base64,") + 6 * 2**20] * 2


# -- the end that is missing


@pytest.mark.parametrize("count", range(len(ALL)))
async def test_a_stream_that_ends_before_its_terminal_event_is_broken(count: int) -> None:
    error = await failure(streams(*ALL[:count]))
    assert (error.kind, error.retryable) == ("broken_stream", True)


@pytest.mark.parametrize("cut", [10, len(COMPLETED) // 2, len(COMPLETED) - 3])
async def test_a_terminal_event_that_is_cut_off_is_no_end(cut: int) -> None:
    assert (await failure(streams(*ALL[:-1], COMPLETED[:cut]))).kind == "broken_stream"


@pytest.mark.parametrize("abort", [False, True])
async def test_a_connection_that_breaks_off_in_the_middle_is_an_error_and_no_answer(abort: bool) -> None:
    error = await failure(breaks_off(*ALL[:-1], abort=abort))
    assert (error.kind, error.retryable) == ("connection", True)


@pytest.mark.parametrize("abort", [False, True])
async def test_what_breaks_after_the_terminal_event_costs_no_second_call(abort: bool) -> None:
    async with WireServer([breaks_off(*ALL, abort=abort)]) as server:
        assert (await ask(server)).message.text == SAID


async def test_a_connection_that_stays_open_after_the_terminal_event_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "DRAIN", 0.05)
    async with WireServer([streams(*ALL, end=False)]) as server:
        assert (await ask(server)).message.text == SAID


async def test_the_end_of_another_protocol_is_no_end_of_this_one() -> None:
    assert (await failure(streams(*ALL[:-1], b"data: [DONE]\n\n", end=False))).kind == "broken_stream"


# -- silence


async def test_a_half_open_stream_is_stalled() -> None:
    error = await failure(streams(*ALL[:3], end=False), stall_timeout=0.3)
    assert (error.kind, error.retryable) == ("stalled", True)


async def test_a_server_that_never_begins_to_answer_times_out() -> None:
    assert (await failure(Exchange.gone, stall_timeout=0.1)).kind == "timeout"


@pytest.mark.parametrize(
    "noise", [b": keep-alive\n\n", event("keepalive"), event("response.in_progress", response=response())]
)
async def test_noise_without_progress_does_not_keep_a_stream_alive(noise: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"), *in_chunks(ALL[:2]))
        while True:
            await exchange.send(*in_chunks([noise]))
            await asyncio.sleep(0.01)

    assert (await failure(script, stall_timeout=0.3)).kind == "stalled"


# -- refusals


async def test_a_429_says_how_long_to_wait() -> None:
    body = b'{"error":{"message":"slow down","type":"tokens","code":"rate_limit_exceeded"}}'
    error = await failure(says(body, status="429 Too Many", extra="retry-after: 12"))
    assert (error.kind, error.status, error.retry_after) == ("rate_limit", 429, 12.0)


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
    error = await failure(says(body, status=f"{status} No"))
    assert (error.kind, error.status) == (kind, status)


async def test_an_error_in_a_stream_that_began_well_is_an_error() -> None:
    failed = response(status="failed") | {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}
    assert (await failure(streams(*ALL[:3], event("response.failed", response=failed)))).kind == "rate_limit"
    inside = event("error", code="server_error", message="oops", param=None)
    assert (await failure(streams(*ALL[:3], inside))).kind == "server_error"


async def test_the_key_is_in_no_error_though_the_server_repeats_the_whole_request() -> None:
    async def echo(exchange: Exchange) -> None:
        await says(json.dumps({"error": {"message": exchange.head.decode()}}).encode(), status="401 No")(
            exchange
        )

    error = await failure(echo)
    assert error.kind == "authentication"
    assert "0123456789" not in str(error) + repr(error)


async def test_a_page_that_is_no_answer_is_named() -> None:
    page = b"<html><head><title>Please log in</title></head></html>"
    for stream in (True, False):
        error = await failure(says(page, content_type="text/html"), stream=stream)
        assert (error.kind, "Please log in" in str(error)) == ("server_error", True)


# -- cancelling, keys


async def test_cancelling_closes_the_connection_at_once_and_leaves_nothing_in_the_pool() -> None:
    heard = asyncio.Event()
    async with WireServer([streams(*ALL[:2], end=False)]) as server, httpx2.AsyncClient() as client:
        task = asyncio.create_task(driver_for(server, http=client).reply(request(), lambda *_: heard.set()))
        async with asyncio.timeout(5):
            await heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._transport._pool.connections == []  # type: ignore[attr-defined]
            await server.hang_ups.acquire()


async def test_without_a_key_nothing_is_sent_and_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with WireServer([streams(*ALL)]) as server:
        driver = driver_for(server, api_key=None)
        assert driver.encode(request())
        with pytest.raises(MissingCredential, match="OPENAI_API_KEY"):
            await driver.reply(request(), lambda *_: None)
        assert server.exchanges == []


def test_the_key_and_the_headers_are_in_no_repr() -> None:
    driver = OpenAI(
        base_url="https://example.com/v1?key=secret-1", api_key="secret-2", headers={"x-key": "secret-3"}
    )
    assert "secret" not in repr(driver) + repr(driver._credential) + repr(driver._transport)
    assert repr(driver) == "OpenAI(https://example.com, vendor='openai')"


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
        registry = Registry(drivers={"openai": lambda: driver_for(server)})
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
