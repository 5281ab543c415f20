"""The Anthropic driver on a real connection, good and bad. What is bad about any connection is in
`test_openai_chat_network`, as the transport is one; here is what this protocol makes of it."""

import asyncio
import gzip
import itertools
import json
import socket
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.driver import Reply, Request, Transcript
from holdfast.drivers import transport
from holdfast.drivers.anthropic import MAX_PAUSES, Anthropic
from holdfast.errors import DriverError, MissingCredential
from holdfast.messages import Text, ToolCall, Usage, user_message
from holdfast.registry import Registry
from tests.drivers.wire_server import SSE, Exchange, WireServer, breaks_off, head, in_chunks, says, streams

KEY = "sk-ant-test-0123456789"


def sse(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind} | fields, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def message(**fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 2}
    return {"type": "message", "id": "msg_1", "model": "m1", "role": "assistant", "usage": usage} | fields


START = sse("message_start", message=message(content=[]))
OPEN = sse("content_block_start", index=0, content_block={"type": "text", "text": ""})
HELLO = sse("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"})
WORLD = sse("content_block_delta", index=0, delta={"type": "text_delta", "text": "lo\u2028"})
CLOSE = sse("content_block_stop", index=0)
CALL = sse(
    "content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "f", "input": {}}
)
ARGUMENTS = sse(
    "content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a":"é"}'}
)
FINISH = sse("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 2})
STOP = sse("message_stop")
ALL = (START, sse("ping"), OPEN, HELLO, WORLD, CLOSE, CALL, ARGUMENTS, FINISH, STOP)
WHOLE = (
    b'{"type":"message","id":"msg_1","model":"m1","stop_reason":"tool_use","content":['
    b'{"type":"text","text":"Hello\\u2028"},{"type":"tool_use","id":"t","name":"f","input":{"a":"\xc3\xa9"}}],'
    b'"usage":{"input_tokens":1,"output_tokens":2}}'
)


def request(*, stream: bool = True) -> Request:
    return Request(model="m", messages=Transcript([user_message("hi")]), stream=stream)


def driver(server: WireServer, **options: Any) -> Anthropic:
    return Anthropic(**({"base_url": server.url, "api_key": KEY} | options))


async def ask(server: WireServer, *, stream: bool = True, **options: Any) -> Reply:
    ours = driver(server, **options)
    try:
        return await ours.reply(request(stream=stream), lambda kind, piece, index: None)
    finally:
        await ours.close()


async def failure(*scripts: Any, stream: bool = True, **options: Any) -> DriverError:
    async with WireServer(list(scripts)) as server:
        with pytest.raises(DriverError) as caught:
            await ask(server, stream=stream, **options)
    return caught.value


# -- good answers


async def test_streamed_and_whole_answers_give_the_same_reply() -> None:
    async with WireServer([streams(*ALL), says(WHOLE)]) as server:
        streamed = await ask(server, stream=True)
        whole = await ask(server, stream=False)
    assert streamed == whole
    assert streamed.message.content == (
        Text(text="Hello\u2028"),
        ToolCall(id="", name="f", arguments='{"a":"é"}', provider_id="t"),
    )
    assert streamed.stop == "tool_calls"


async def test_the_request_carries_the_key_the_version_the_headers_and_the_encoded_body() -> None:
    async with WireServer([streams(*ALL)]) as server:
        ours = driver(server, headers={"Anthropic-Beta": "a,b"})
        await ours.reply(request(), lambda *_: None)
        sent = server.exchanges[0]
        assert sent.head.startswith(b"POST /v1/messages HTTP/1.1\r\n")
        assert sent.headers["x-api-key"] == KEY
        assert sent.headers["anthropic-version"] == "2023-06-01"
        assert sent.headers["anthropic-beta"] == "a,b"
        assert sent.headers["content-type"] == "application/json"
        assert "authorization" not in sent.headers
        assert sent.body == ours.encode(request())
        await ours.close()


async def test_a_server_that_answers_whole_though_asked_to_stream_is_understood_and_the_other_way_round() -> (
    None
):
    async with WireServer([says(WHOLE), streams(*ALL)]) as server:
        assert (await ask(server, stream=True)).message.text == "Hello\u2028"
        assert (await ask(server, stream=False)).message.text == "Hello\u2028"


async def test_one_driver_serves_many_turns_at_once_over_connections_that_are_used_again() -> None:
    async with WireServer([streams(*ALL)]) as server:
        ours = driver(server)
        for _ in range(3):
            await ours.reply(request(), lambda *_: None)
        assert len({exchange.writer for exchange in server.exchanges}) == 1
        replies = await asyncio.gather(*[ours.reply(request(), lambda *_: None) for _ in range(100)])
        assert {reply.message.text for reply in replies} == {"Hello\u2028"}
        await ours.close()


async def test_pieces_are_told_while_the_stream_is_still_open() -> None:
    heard = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"), *in_chunks(ALL[:4]))
        await heard.wait()
        await exchange.send(*in_chunks(ALL[4:]), b"0\r\n\r\n")

    async with WireServer([script]) as server:
        ours = driver(server)
        reply = await ours.reply(request(), lambda kind, piece, index: heard.set())
        assert reply.message.text == "Hello\u2028"
        await ours.close()


async def test_compressed_answers_are_read() -> None:
    packed = gzip.compress(b"".join(ALL))
    compressed = says(packed, content_type="text/event-stream", extra="content-encoding: gzip")
    async with WireServer([compressed]) as server:
        assert (await ask(server)).message.text == "Hello\u2028"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, len(b"".join(ALL))), max_size=30))
async def test_any_split_on_a_real_connection_gives_the_same_reply(places: list[int]) -> None:
    body = b"".join(ALL)
    edges = [0, *sorted(places), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
    async with WireServer([streams(*pieces)]) as server:
        reply = await ask(server)
    assert (reply.message.text, reply.message.calls[0].arguments) == ("Hello\u2028", '{"a":"é"}')


async def test_a_stream_byte_by_byte_gives_the_same_reply() -> None:
    async with WireServer([streams(*[bytes([byte]) for byte in b"".join(ALL)])]) as server:
        assert (await ask(server)).message.text == "Hello\u2028"


# -- pauses


def paused(text: str, container: str = "") -> bytes:
    content = [
        {"type": "text", "text": text},
        {"type": "server_tool_use", "id": f"s_{text}", "name": "web_search", "input": {"query": text}},
    ]
    extra = {"container": {"id": container}} if container else {}
    return json.dumps(message(content=content, stop_reason="pause_turn") | extra).encode()


async def test_a_pause_is_gone_on_with_and_the_whole_is_one_reply_with_the_usage_of_all() -> None:
    answers = [says(paused("a", "c1")), says(paused("b")), streams(*ALL)]
    async with WireServer(answers) as server:
        reply = await ask(server)
        bodies = [json.loads(exchange.body) for exchange in server.exchanges]
    assert reply.message.text == "abHello\u2028"
    assert (reply.stop, reply.usage) == ("tool_calls", Usage(input_tokens=3, output_tokens=6))
    assert [len(body["messages"]) for body in bodies] == [1, 2, 2]
    assert [body.get("container") for body in bodies] == [None, "c1", None]
    said = bodies[2]["messages"][1]
    assert said["role"] == "assistant"
    assert [block["type"] for block in said["content"]] == ["text", "server_tool_use"] * 2


async def test_pauses_without_end_end() -> None:
    async with WireServer([says(paused("a"))]) as server:
        reply = await ask(server)
        assert len(server.exchanges) == 1 + MAX_PAUSES
    assert reply.stop == "max_tokens"
    assert reply.message.text == "a" * (1 + MAX_PAUSES)


async def test_a_failure_after_a_pause_is_a_failure() -> None:
    error = await failure(says(paused("a")), says(b"", status="529 Busy"))
    assert error.kind == "overloaded"


# -- the end that is missing


@pytest.mark.parametrize("events", [ALL[:end] for end in range(len(ALL))])
async def test_a_stream_that_ends_without_its_terminal_event_is_broken(events: tuple[bytes, ...]) -> None:
    error = await failure(streams(*events))
    assert (error.kind, error.retryable) == ("broken_stream", True)


@pytest.mark.parametrize("abort", [False, True])
@pytest.mark.parametrize("events", [ALL[:1], ALL[:4], ALL[:9]])
async def test_a_connection_that_breaks_off_or_is_reset_is_an_error_and_no_answer(
    events: tuple[bytes, ...], abort: bool
) -> None:
    error = await failure(breaks_off(*events, abort=abort))
    assert (error.kind, error.retryable) == ("connection", True)


@pytest.mark.parametrize("abort", [False, True])
async def test_what_breaks_after_the_terminal_event_costs_nothing(
    abort: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WireServer([breaks_off(*ALL, abort=abort)]) as server:
        assert (await ask(server)).message.text == "Hello\u2028"
    monkeypatch.setattr(transport, "DRAIN", 0.05)
    async with WireServer([streams(*ALL, end=False)]) as server:
        assert (await ask(server)).message.text == "Hello\u2028"


async def test_the_last_event_may_lack_its_blank_line() -> None:
    async with WireServer([streams(*ALL[:-1], STOP.strip())]) as server:
        assert (await ask(server)).message.text == "Hello\u2028"


# -- silence


@pytest.mark.parametrize("events", [ALL[:4], ALL[:9]], ids=["in the middle", "before the terminal event"])
async def test_a_half_open_stream_is_stalled(events: tuple[bytes, ...]) -> None:
    error = await failure(streams(*events, end=False), stall_timeout=0.5)
    assert (error.kind, error.retryable) == ("stalled", True)


@pytest.mark.parametrize(
    "noise",
    [
        b": keep-alive\n\n",
        sse("ping"),
        sse("content_block_delta", index=0, delta={"type": "text_delta", "text": ""}),
    ],
)
async def test_noise_without_progress_does_not_keep_a_stream_alive(noise: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"), *in_chunks(ALL[:4]))
        while True:
            await exchange.send(*in_chunks([noise]))
            await asyncio.sleep(0.01)

    assert (await failure(script, stall_timeout=0.5)).kind == "stalled"


async def test_a_server_that_never_begins_to_answer_times_out() -> None:
    assert (await failure(Exchange.gone, stall_timeout=0.1)).kind == "timeout"


# -- refusals


def refusal(kind: str, text: str = "no") -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": text}, "request_id": "r"}).encode()


@pytest.mark.parametrize(
    ("status", "kind", "ours"),
    [
        ("400 Bad", "invalid_request_error", "invalid_request"),
        ("401 No", "authentication_error", "authentication"),
        ("402 Pay", "billing_error", "quota"),
        ("403 No", "permission_error", "authentication"),
        ("404 No", "not_found_error", "invalid_request"),
        ("413 Large", "request_too_large", "too_large"),
        ("429 Slow", "rate_limit_error", "rate_limit"),
        ("500 Oops", "api_error", "server_error"),
        ("504 Slow", "timeout_error", "timeout"),
        ("529 Busy", "overloaded_error", "overloaded"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_every_documented_refusal_has_its_kind(status: str, kind: str, ours: str, stream: bool) -> None:
    error = await failure(says(refusal(kind), status=status, extra="retry-after: 12"), stream=stream)
    assert (error.kind, error.status, error.retry_after) == (ours, int(status[:3]), 12.0)


async def test_a_prompt_that_does_not_fit_is_too_large_though_it_is_called_invalid() -> None:
    body = refusal("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
    assert (await failure(says(body, status="400 Bad"))).kind == "too_large"


async def test_an_error_in_a_stream_that_began_well_is_an_error() -> None:
    inside = sse("error", error={"type": "overloaded_error", "message": "Overloaded"})
    error = await failure(streams(*ALL[:4], inside, *ALL[4:]))
    assert (error.kind, error.retryable) == ("overloaded", True)


async def test_bytes_that_are_not_the_protocol_are_a_broken_stream_or_no_answer() -> None:
    assert (await failure(streams(START, b"data: {oops\n\n", STOP))).kind == "broken_stream"
    page = b"<html><head><title>Please log in</title></head></html>"
    assert (await failure(says(page, content_type="text/html"))).kind == "server_error"


async def test_the_key_is_in_no_error_though_the_server_repeats_the_whole_request() -> None:
    async def echo(exchange: Exchange) -> None:
        await says(refusal("authentication_error", exchange.head.decode()), status="401 No")(exchange)

    error = await failure(echo)
    assert error.kind == "authentication"
    assert "0123456789" not in str(error) + repr(error)


async def test_a_closed_port_is_a_connection_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ours = Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="x")
    with pytest.raises(DriverError, match=r"no connection to 127\.0\.0\.1"):
        await ours.reply(request(), lambda *_: None)
    await ours.close()


# -- cancelling


@pytest.mark.parametrize("begun", [True, False], ids=["while streaming", "while waiting"])
async def test_cancelling_closes_the_connection_at_once_and_leaves_nothing_in_the_pool(begun: bool) -> None:
    heard = asyncio.Event()
    script = streams(*ALL[:4], end=False) if begun else Exchange.gone
    async with WireServer([script]) as server, httpx2.AsyncClient() as client:
        task = asyncio.create_task(driver(server, http=client).reply(request(), lambda *_: heard.set()))
        async with asyncio.timeout(5):
            await (heard.wait() if begun else server.asked.acquire())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._transport._pool.connections == []  # type: ignore[attr-defined]
            await server.hang_ups.acquire()


# -- keys and names


async def test_without_a_key_nothing_is_sent_and_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    async with WireServer([streams(*ALL)]) as server:
        ours = driver(server, api_key=None)
        assert ours.encode(request())
        with pytest.raises(MissingCredential, match="ANTHROPIC_API_KEY"):
            await ours.reply(request(), lambda *_: None)
        assert server.exchanges == []


async def test_the_key_is_read_at_each_call_and_may_be_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async with WireServer([streams(*ALL)]) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "first\n")
        await ask(server, api_key=None)
        await ask(server, api_key=lambda: "second")
        await ask(server, api_key="")
        keys = [exchange.headers.get("x-api-key") for exchange in server.exchanges]
    assert keys == ["first", "second", None]


async def test_the_address_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with WireServer([streams(*ALL)]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url.removesuffix("/v1"))
        ours = Anthropic(api_key=KEY)
        assert (await ours.reply(request(), lambda *_: None)).message.text == "Hello\u2028"
        await ours.close()


def test_the_key_the_headers_and_the_extra_fields_are_in_no_repr() -> None:
    ours = Anthropic(
        base_url="https://example.com/v1?key=secret-1",
        api_key="secret-2",
        headers={"x-key": "secret-3"},
        extra={"mcp_servers": ["secret-4"]},
    )
    assert repr(ours) == "Anthropic(https://example.com, vendor='anthropic')"


async def test_a_model_is_found_by_its_vendors_name() -> None:
    registry = Registry()
    found, name = registry.driver("anthropic/claude-opus-5")
    assert isinstance(found, Anthropic)
    assert name == "claude-opus-5"
    await registry.close()
