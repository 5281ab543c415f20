"""What only Anthropic's protocol has on a real connection; what all have is in `test_network`."""

import json
from typing import Any

import pytest

from holdfast.drivers.anthropic import MAX_PAUSES
from holdfast.messages import Usage
from tests.drivers.tongues import ANTHROPIC, KEY, request
from tests.drivers.wire_server import WireServer, says, streams


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


# -- good answers


async def test_the_request_carries_the_key_the_version_the_headers_and_the_encoded_body() -> None:
    async with WireServer([streams(*ALL)]) as server:
        ours = ANTHROPIC.made(server, headers={"Anthropic-Beta": "a,b"})
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
        reply = await ANTHROPIC.ask(server)
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
        reply = await ANTHROPIC.ask(server)
        assert len(server.exchanges) == 1 + MAX_PAUSES
    assert reply.stop == "max_tokens"
    assert reply.message.text == "a" * (1 + MAX_PAUSES)


async def test_a_failure_after_a_pause_is_a_failure() -> None:
    error = await ANTHROPIC.failure(says(paused("a")), says(b"", status="529 Busy"))
    assert error.kind == "overloaded"


# -- the end that is missing


@pytest.mark.parametrize("events", [ALL[:end] for end in range(len(ALL))])
async def test_a_stream_that_ends_without_its_terminal_event_is_broken(events: tuple[bytes, ...]) -> None:
    error = await ANTHROPIC.failure(streams(*events))
    assert (error.kind, error.retryable) == ("broken_stream", True)


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
    error = await ANTHROPIC.failure(
        says(refusal(kind), status=status, extra="retry-after: 12"), stream=stream
    )
    assert (error.kind, error.status, error.retry_after) == (ours, int(status[:3]), 12.0)


async def test_a_prompt_that_does_not_fit_is_too_large_though_it_is_called_invalid() -> None:
    body = refusal("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
    assert (await ANTHROPIC.failure(says(body, status="400 Bad"))).kind == "too_large"


async def test_an_error_in_a_stream_that_began_well_is_an_error() -> None:
    inside = sse("error", error={"type": "overloaded_error", "message": "Overloaded"})
    error = await ANTHROPIC.failure(streams(*ALL[:4], inside, *ALL[4:]))
    assert (error.kind, error.retryable) == ("overloaded", True)
