"""The driver on a real connection that misbehaves in every way connections do."""

import asyncio
import gzip
import itertools
import json
import os
import socket
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.driver import Reply, Request, Transcript
from holdfast.drivers import transport
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.errors import DriverError, MissingCredential
from holdfast.messages import user_message
from tests.drivers.wire_server import SSE, Exchange, WireServer, breaks_off, head, in_chunks, says, streams

HELLO = b'data: {"id":"c1","model":"m1","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
WORLD = b'data: {"choices":[{"index":0,"delta":{"content":"lo"}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
ALL = (HELLO, WORLD, FINISH, USAGE, DONE)
WHOLE = json.dumps(
    {
        "id": "c1",
        "model": "m1",
        "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
).encode()


def request(*, stream: bool = True) -> Request:
    return Request(model="m", messages=Transcript([user_message("hi")]), stream=stream)


async def ask(server: WireServer, *, stream: bool = True, **options: Any) -> Reply:
    driver = server.driver(**options)
    try:
        return await driver.reply(request(stream=stream), lambda kind, piece, index: None)
    finally:
        await driver.close()


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
    assert streamed.message.text == "Hello"


async def test_the_request_carries_the_key_the_headers_and_the_encoded_body() -> None:
    async with WireServer([streams(*ALL)]) as server:
        driver = server.driver(headers={"x-title": "holdfast"})
        await driver.reply(request(), lambda *_: None)
        sent = server.exchanges[0]
        assert sent.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert sent.headers["authorization"] == "Bearer sk-test-0123456789"
        assert sent.headers["x-title"] == "holdfast"
        assert sent.headers["content-type"] == "application/json"
        assert sent.body == driver.encode(request())
        await driver.close()


async def test_a_query_in_the_base_url_stays() -> None:
    async with WireServer([streams(*ALL)]) as server:
        await ask(server, base_url=server.url + "/?api-version=1")
        assert server.exchanges[0].head.startswith(b"POST /v1/chat/completions?api-version=1 HTTP/1.1\r\n")


async def test_one_connection_serves_one_call_after_the_other() -> None:
    async with WireServer([streams(*ALL)]) as server:
        driver = server.driver()
        for _ in range(3):
            await driver.reply(request(), lambda *_: None)
        assert len({exchange.writer for exchange in server.exchanges}) == 1
        await driver.close()


async def test_one_driver_serves_many_turns_at_once() -> None:
    async with WireServer([streams(*ALL)]) as server:
        driver = server.driver()
        replies = await asyncio.gather(*[driver.reply(request(), lambda *_: None) for _ in range(150)])
        assert {reply.message.text for reply in replies} == {"Hello"}
        await driver.close()


async def test_pieces_are_told_while_the_stream_is_still_open() -> None:
    heard = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"), *in_chunks([HELLO]))
        await heard.wait()
        await exchange.send(*in_chunks(ALL[1:]), b"0\r\n\r\n")

    async with WireServer([script]) as server:
        driver = server.driver()
        reply = await driver.reply(request(), lambda kind, piece, index: heard.set())
        assert reply.message.text == "Hello"
        await driver.close()


async def test_a_server_that_answers_whole_though_asked_to_stream_is_understood_and_the_other_way_round() -> (
    None
):
    async with WireServer([says(WHOLE), streams(*ALL)]) as server:
        assert (await ask(server, stream=True)).message.text == "Hello"
        assert (await ask(server, stream=False)).message.text == "Hello"


async def test_compressed_answers_are_read() -> None:
    packed = gzip.compress(b"".join(ALL))
    compressed = says(packed, content_type="text/event-stream", extra="content-encoding: gzip")
    async with WireServer([compressed]) as server:
        assert (await ask(server)).message.text == "Hello"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, len(b"".join(ALL))), max_size=30))
async def test_any_split_on_a_real_connection_gives_the_same_reply(places: list[int]) -> None:
    body = b"".join(ALL)
    edges = [0, *sorted(places), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
    async with WireServer([streams(*pieces)]) as server:
        reply = await ask(server)
    assert (reply.message.text, reply.usage.output_tokens) == ("Hello", 2)


# -- the end that is missing


@pytest.mark.parametrize("events", [ALL[:0], ALL[:1], ALL[:2]])
async def test_a_stream_that_ends_before_its_terminal_event_is_broken(events: tuple[bytes, ...]) -> None:
    error = await failure(streams(*events))
    assert (error.kind, error.retryable) == ("broken_stream", True)


@pytest.mark.parametrize("abort", [False, True])
async def test_a_connection_that_breaks_off_in_the_middle_is_an_error_and_no_answer(abort: bool) -> None:
    error = await failure(breaks_off(HELLO, WORLD, abort=abort))
    assert (error.kind, error.retryable) == ("connection", True)


@pytest.mark.parametrize("events", [ALL[:3], ALL[:4], ALL])
@pytest.mark.parametrize("abort", [False, True])
async def test_what_breaks_after_the_models_last_word_costs_no_second_call(
    events: tuple[bytes, ...], abort: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WireServer([breaks_off(*events, abort=abort)]) as server:
        assert (await ask(server)).message.text == "Hello"
    monkeypatch.setattr(transport, "TAIL", 0.05)
    async with WireServer([streams(*events, end=False)]) as server:
        assert (await ask(server)).message.text == "Hello"


async def test_an_event_cut_in_half_after_the_models_last_word_is_forgiven() -> None:
    async with WireServer([streams(*ALL[:3], USAGE[:30])]) as server:
        assert (await ask(server)).message.text == "Hello"


async def test_what_comes_after_the_end_is_neither_heard_nor_waited_for() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"), *in_chunks(ALL))
        while True:
            await exchange.send(*in_chunks([HELLO, b"data: {oops\n\n"]))
            await asyncio.sleep(0.01)

    async with WireServer([script]) as server:
        assert (await ask(server)).message.text == "Hello"


async def test_the_last_event_may_lack_its_blank_line() -> None:
    async with WireServer([streams(HELLO, WORLD, FINISH.strip())]) as server:
        assert (await ask(server)).message.text == "Hello"


# -- silence


async def test_a_half_open_stream_is_stalled() -> None:
    error = await failure(streams(HELLO, end=False), stall_timeout=0.5)
    assert (error.kind, error.retryable) == ("stalled", True)


async def test_a_server_that_never_begins_to_answer_times_out() -> None:
    error = await failure(Exchange.gone, stall_timeout=0.1)
    assert error.kind == "timeout"


@pytest.mark.parametrize(
    "noise", [b": keep-alive\n\n", b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n']
)
async def test_noise_without_progress_does_not_keep_a_stream_alive(noise: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"), *in_chunks([HELLO]))
        while True:
            await exchange.send(*in_chunks([noise]))
            await asyncio.sleep(0.01)

    assert (await failure(script, stall_timeout=0.5)).kind == "stalled"


async def test_blank_lines_do_not_keep_a_whole_answer_alive() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", "content-type: application/json", "transfer-encoding: chunked"))
        while True:
            await exchange.send(*in_chunks([b"\n"]))
            await asyncio.sleep(0.01)

    assert (await failure(script, stream=False, stall_timeout=0.5)).kind == "stalled"


async def test_progress_keeps_a_slow_stream_alive() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"))
        for _ in range(20):
            await exchange.send(*in_chunks([HELLO]))
            await asyncio.sleep(0.05)
        await exchange.send(*in_chunks([FINISH, DONE]), b"0\r\n\r\n")

    async with WireServer([script]) as server:
        assert (await ask(server, stall_timeout=0.6)).message.text == "Hel" * 20


# -- refusals


async def test_a_429_says_how_long_to_wait() -> None:
    body = b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}'
    error = await failure(says(body, status="429 Too Many", extra="retry-after: 12"))
    assert (error.kind, error.status, error.retry_after) == ("rate_limit", 429, 12.0)


async def test_the_key_is_in_no_error_though_the_server_repeats_the_whole_request() -> None:
    async def echo(exchange: Exchange) -> None:
        await says(json.dumps({"error": {"message": exchange.head.decode()}}).encode(), status="401 No")(
            exchange
        )

    error = await failure(echo, headers={"x": "y"})
    assert error.kind == "authentication"
    assert "sk-test" not in str(error)
    assert "0123456789" not in repr(error)


async def test_an_error_page_is_named_by_its_title() -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body>" + b"x" * 200_000 + b"</body></html>"
    error = await failure(says(page, status="502 Bad Gateway", content_type="text/html"))
    assert error.kind == "server_error"
    assert "502 Bad Gateway" in str(error)
    assert len(str(error)) < 500


async def test_a_web_page_with_status_200_is_no_answer() -> None:
    page = b"<html><head><title>Please log in</title></head></html>"
    for stream in (True, False):
        error = await failure(says(page, content_type="text/html"), stream=stream)
        assert error.kind == "server_error"
        assert "text/html" in str(error)
        assert "Please log in" in str(error)


async def test_a_redirect_is_not_followed_and_says_where_it_leads() -> None:
    async with WireServer(
        [says(b"", status="308 Moved", extra="location: https://other.example.com/v1")]
    ) as server:
        with pytest.raises(DriverError, match=r"other\.example\.com") as caught:
            await ask(server)
        assert caught.value.kind == "invalid_request"
        assert len(server.exchanges) == 1


async def test_an_error_whose_explanation_never_ends_is_still_that_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "TAIL", 0.05)

    async def script(exchange: Exchange) -> None:
        await exchange.send(head("429 Too Many", "content-length: 1000", "retry-after: 3") + b'{"error"')
        await exchange.gone()

    error = await failure(script)
    assert (error.kind, error.retry_after) == ("rate_limit", 3.0)


async def test_an_error_in_a_stream_that_began_well_is_an_error() -> None:
    inside = b'event: error\ndata: {"error":{"message":"busy","type":"overloaded_error"}}\n\n'
    assert (await failure(streams(HELLO, inside))).kind == "overloaded"


async def test_bytes_that_are_not_what_they_are_said_to_be_are_a_broken_stream() -> None:
    assert (await failure(says(b"\x1f\x8bnot gzip", extra="content-encoding: gzip"))).kind == "broken_stream"
    assert (await failure(streams(HELLO, b"data: {oops\n\n", DONE))).kind == "broken_stream"


async def test_a_server_that_does_not_speak_http_is_a_connection_error() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        exchange.writer.close()

    assert (await failure(script)).kind == "connection"


# -- too much


async def test_a_body_that_is_too_large_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BODY", 1000)
    error = await failure(says(b" " * 1001))
    assert error.kind == "broken_stream"
    assert "larger than" in str(error)


async def test_a_small_body_that_unpacks_to_a_huge_one_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BODY", 2**20)
    bomb = gzip.compress(b"0" * 2**24)
    error = await failure(says(bomb, extra="content-encoding: gzip"))
    assert (error.kind, "larger than" in str(error)) == ("broken_stream", True)


async def test_a_stream_that_is_too_large_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_STREAM", 1000)
    error = await failure(streams(*[HELLO] * 100))
    assert "stream of more than" in str(error)


# -- no connection at all


async def test_a_closed_port_is_a_connection_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = OpenAIChat(base_url=f"http://127.0.0.1:{port}/v1", api_key="x")
    with pytest.raises(DriverError, match=r"no connection to 127\.0\.0\.1") as caught:
        await driver.reply(request(), lambda *_: None)
    assert (caught.value.kind, caught.value.retryable) == ("connection", True)
    await driver.close()


async def test_connecting_is_bounded_in_time() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):  # fill the backlog, so that the next handshake gets no answer
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(listener.getsockname())
    driver = OpenAIChat(
        base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
        api_key="x",
        connect_timeout=0.1,
        stall_timeout=5,
    )
    try:
        with pytest.raises(DriverError, match=r"no connection to 127\.0\.0\.1 within 0\.1 s") as caught:
            await driver.reply(request(), lambda *_: None)
        assert caught.value.kind == "timeout"
    finally:
        await driver.close()
        for each in (listener, *waiting):
            each.close()


# -- cancelling


@pytest.mark.parametrize("begun", [True, False], ids=["while streaming", "while waiting"])
async def test_cancelling_closes_the_connection_at_once_and_leaves_nothing_in_the_pool(begun: bool) -> None:
    heard = asyncio.Event()
    script = streams(HELLO, end=False) if begun else Exchange.gone
    async with WireServer([script]) as server, httpx2.AsyncClient() as client:
        task = asyncio.create_task(server.driver(http=client).reply(request(), lambda *_: heard.set()))
        async with asyncio.timeout(5):
            await (heard.wait() if begun else server.asked.acquire())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._transport._pool.connections == []  # type: ignore[attr-defined]
            await server.hang_ups.acquire()


@pytest.mark.parametrize(
    "script",
    [streams(HELLO, end=False), breaks_off(HELLO), streams(HELLO, b"data: oops\n\n", end=False)],
    ids=["stalled", "broken off", "malformed"],
)
async def test_no_failure_leaves_a_connection_in_the_pool(script: Any) -> None:
    async with WireServer([script]) as server, httpx2.AsyncClient() as client:
        driver = server.driver(http=client, stall_timeout=0.1)
        with pytest.raises(DriverError):
            await driver.reply(request(), lambda *_: None)
        assert client._transport._pool.connections == []  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            await server.hang_ups.acquire()


async def test_an_outer_deadline_is_the_callers_and_not_a_stall() -> None:
    async with WireServer([streams(HELLO, end=False)]) as server:
        driver = server.driver()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await driver.reply(request(), lambda *_: None)
        await driver.close()


async def test_an_error_of_the_listener_goes_through_and_closes_the_connection() -> None:
    def fail(kind: str, piece: str, index: int) -> None:
        raise TimeoutError("mine")

    async with WireServer([streams(HELLO, end=False)]) as server:
        driver = server.driver()
        with pytest.raises(TimeoutError, match="mine"):
            await driver.reply(request(), fail)
        async with asyncio.timeout(5):
            await server.hang_ups.acquire()
        await driver.close()


# -- keys and clients


@pytest.mark.parametrize("value", [None, "", "  "])
async def test_without_a_key_nothing_is_sent_and_the_variable_is_named(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("OPENAI_API_KEY", value)
    async with WireServer([streams(*ALL)]) as server:
        driver = server.driver(api_key=None)
        assert driver.encode(request())
        with pytest.raises(MissingCredential, match="OPENAI_API_KEY"):
            await driver.reply(request(), lambda *_: None)
        assert server.exchanges == []


async def test_the_key_is_read_at_each_call_from_the_environment_or_a_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with WireServer([streams(*ALL)]) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "first")
        driver = server.driver(api_key=None)
        await driver.reply(request(), lambda *_: None)
        os.environ["OPENAI_API_KEY"] = "second\n"
        await driver.reply(request(), lambda *_: None)
        await driver.close()
        await ask(server, api_key=lambda: "third")
        await ask(server, api_key="")
        keys = [exchange.headers.get("authorization") for exchange in server.exchanges]
    assert keys == ["Bearer first", "Bearer second", "Bearer third", None]


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "tab\tbed"])
async def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    driver = OpenAIChat(api_key=key)
    with pytest.raises(MissingCredential) as caught:
        await driver.reply(request(), lambda *_: None)
    assert key not in str(caught.value)


async def test_a_key_function_that_fails_or_finds_nothing_is_a_missing_credential() -> None:
    def fail() -> str:
        raise OSError("vault token abc")

    for source in (fail, lambda: "", lambda: None):
        driver = OpenAIChat(api_key=source)  # type: ignore[arg-type]
        with pytest.raises(MissingCredential, match="the function given as api_key") as caught:
            await driver.reply(request(), lambda *_: None)
        assert "abc" not in str(caught.value)


def test_the_key_and_the_headers_are_in_no_repr() -> None:
    driver = OpenAIChat(
        base_url="https://example.com/v1?key=secret-1", api_key="secret-2", headers={"x-key": "secret-3"}
    )
    assert "secret" not in repr(driver) + repr(driver._credential) + repr(driver._transport)
    assert repr(driver) == "OpenAIChat(https://example.com, vendor='openai-chat')"


async def test_closing_closes_our_client_and_leaves_the_callers_open() -> None:
    async with WireServer([streams(*ALL)]) as server, httpx2.AsyncClient() as client:
        lent = server.driver(http=client)
        await lent.reply(request(), lambda *_: None)
        await lent.close()
        assert not client.is_closed
        own = server.driver()
        await own.reply(request(), lambda *_: None)
        await own.close()
        await own.close()
        async with asyncio.timeout(5):
            await server.hang_ups.acquire()
