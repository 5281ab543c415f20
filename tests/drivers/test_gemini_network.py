"""The Gemini driver on a real connection, with a server that speaks its protocol, well and badly."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.driver import Reply, Request, Transcript
from holdfast.drivers import transport
from holdfast.drivers.gemini import Gemini
from holdfast.errors import DriverError, MissingCredential
from holdfast.messages import Image, user_message
from holdfast.registry import Registry
from tests.drivers.wire_server import Exchange, Script, WireServer, breaks_off, head, says, streams

KEY = "AIzaTest-0123456789"


def event(text: str = "", finish: str = "", **more: Any) -> bytes:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    body = {"candidates": [candidate], "modelVersion": "m1", "responseId": "r1"} | more
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\r\n\r\n"


HELLO = event("Hel\u2028")
WORLD = event("lo", usageMetadata={"promptTokenCount": 1})
FINISH = event("", "STOP", usageMetadata={"promptTokenCount": 1, "candidatesTokenCount": 2})
ALL = (HELLO, WORLD, FINISH)
WHOLE = json.dumps(
    {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Hel\u2028lo"}]}, "finishReason": "STOP"}
        ],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2},
        "modelVersion": "m1",
        "responseId": "r1",
    }
).encode()


def request(*, stream: bool = True) -> Request:
    return Request(model="m", messages=Transcript([user_message("hi")]), stream=stream)


def driver_for(server: WireServer, **options: Any) -> Gemini:
    return Gemini(**({"base_url": server.url, "api_key": KEY} | options))


async def ask(server: WireServer, *, stream: bool = True, **options: Any) -> Reply:
    driver = driver_for(server, **options)
    try:
        return await driver.reply(request(stream=stream), lambda kind, piece, index: None)
    finally:
        await driver.close()


async def failure(*scripts: Script, stream: bool = True, **options: Any) -> DriverError:
    async with WireServer(list(scripts)) as server:
        with pytest.raises(DriverError) as caught:
            await ask(server, stream=stream, **options)
    return caught.value


def refusal(code: int, status: str, message: str, *details: dict[str, Any]) -> bytes:
    error = {"code": code, "status": status, "message": message, "details": list(details)}
    return json.dumps({"error": error}).encode()


# -- good answers


async def test_streamed_and_whole_answers_give_the_same_reply() -> None:
    async with WireServer([streams(*ALL), says(WHOLE)]) as server:
        streamed, whole = await ask(server), await ask(server, stream=False)
    assert streamed == whole
    assert streamed.message.text == "Hel\u2028lo"


async def test_the_key_is_in_a_header_and_never_in_the_address() -> None:
    async with WireServer([streams(*ALL), says(WHOLE)]) as server:
        driver = driver_for(server, headers={"x-title": "holdfast"})
        for stream in (True, False):
            await driver.reply(request(stream=stream), lambda *_: None)
        await driver.close()
    streamed, whole = server.exchanges
    assert streamed.head.startswith(b"POST /v1/models/m:streamGenerateContent?alt=sse HTTP/1.1\r\n")
    assert whole.head.startswith(b"POST /v1/models/m:generateContent HTTP/1.1\r\n")
    for exchange in server.exchanges:
        assert exchange.headers["x-goog-api-key"] == KEY
        assert exchange.headers["x-title"] == "holdfast"
        assert exchange.headers["content-type"] == "application/json"
        assert exchange.body == driver.encode(request())
        assert KEY not in exchange.head.decode().partition("\r\n")[0]


async def test_a_server_that_answers_whole_though_asked_to_stream_is_understood() -> None:
    chunks = b"[" + b",".join(it[len(b"data: ") :].strip() for it in ALL) + b"]"
    async with WireServer([says(WHOLE), says(chunks), streams(*ALL)]) as server:
        replies = [await ask(server), await ask(server), await ask(server, stream=False)]
    assert replies[0] == replies[1] == replies[2]


async def test_one_connection_serves_one_call_after_the_other_and_one_driver_many_at_once() -> None:
    async with WireServer([streams(*ALL)]) as server:
        driver = driver_for(server)
        for _ in range(3):
            await driver.reply(request(), lambda *_: None)
        assert len({exchange.writer for exchange in server.exchanges}) == 1
        replies = await asyncio.gather(*[driver.reply(request(), lambda *_: None) for _ in range(100)])
        assert {reply.message.text for reply in replies} == {"Hel\u2028lo"}
        await driver.close()


@pytest.mark.parametrize("place", range(1, len(HELLO), 7))
async def test_an_event_may_be_cut_anywhere(place: int) -> None:
    async with WireServer([streams(HELLO[:place], HELLO[place:] + WORLD, FINISH)]) as server:
        assert (await ask(server)).message.text == "Hel\u2028lo"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, len(b"".join(ALL))), max_size=30))
async def test_any_split_on_a_real_connection_gives_the_same_reply(places: list[int]) -> None:
    body = b"".join(ALL)
    edges = [0, *sorted(places), len(body)]
    async with WireServer([streams(*(body[a:b] for a, b in itertools.pairwise(edges)))]) as server:
        reply = await ask(server)
    assert (reply.message.text, reply.usage.output_tokens) == ("Hel\u2028lo", 2)


async def test_a_large_picture_comes_as_one_event() -> None:
    data = "A" * 12 * 2**20
    part = {"inlineData": {"mimeType": "image/png", "data": data}, "thoughtSignature": "S"}
    body = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    async with WireServer([streams(b"data: " + json.dumps(body).encode() + b"\r\n\r\n")]) as server:
        reply = await ask(server)
    assert reply.message.content[-1] == Image(url=f"data:image/png;base64,{data}")


# -- the end that is missing


@pytest.mark.parametrize("events", [ALL[:0], ALL[:1], ALL[:2], (HELLO, FINISH[:40])])
async def test_a_stream_that_ends_before_its_reason_to_stop_is_broken(events: tuple[bytes, ...]) -> None:
    error = await failure(streams(*events))
    assert (error.kind, error.retryable) == ("broken_stream", True)


@pytest.mark.parametrize("abort", [False, True])
async def test_a_connection_that_breaks_off_in_the_middle_is_an_error_and_no_answer(abort: bool) -> None:
    error = await failure(breaks_off(HELLO, WORLD, abort=abort))
    assert (error.kind, error.retryable) == ("connection", True)


@pytest.mark.parametrize("abort", [False, True])
async def test_what_breaks_after_the_models_last_word_costs_no_second_call(
    abort: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WireServer([breaks_off(*ALL, abort=abort)]) as server:
        assert (await ask(server)).message.text == "Hel\u2028lo"
    monkeypatch.setattr(transport, "TAIL", 0.05)
    async with WireServer([streams(*ALL, end=False)]) as server:
        assert (await ask(server)).message.text == "Hel\u2028lo"


async def test_a_half_open_stream_is_stalled() -> None:
    error = await failure(streams(HELLO, end=False), stall_timeout=0.3)
    assert (error.kind, error.retryable) == ("stalled", True)


async def test_chunks_that_bring_nothing_do_not_keep_a_stream_alive() -> None:
    noise = event("", usageMetadata={"promptTokenCount": 1})

    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", "content-type: text/event-stream", "connection: close") + HELLO)
        while True:
            await exchange.send(noise)
            await asyncio.sleep(0.01)

    assert (await failure(script, stall_timeout=0.3)).kind == "stalled"


async def test_a_server_that_never_begins_to_answer_times_out() -> None:
    assert (await failure(Exchange.gone, stall_timeout=0.1)).kind == "timeout"


@pytest.mark.parametrize(
    "event_bytes", [b"data: {oops\r\n\r\n", b"data: [1]\r\n\r\n", b'data: {"candidates":3}\r\n\r\n']
)
async def test_an_event_that_is_not_the_protocol_is_a_broken_stream(event_bytes: bytes) -> None:
    assert (await failure(streams(HELLO, event_bytes, FINISH))).kind == "broken_stream"


# -- refusals

RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.074824224s"}
PER_MINUTE = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}],
}
PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}
NO_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("status", "body", "kind", "wait"),
    [
        (429, refusal(429, "RESOURCE_EXHAUSTED", "slow down", PER_MINUTE, RETRY), "rate_limit", 34.074824224),
        (429, refusal(429, "RESOURCE_EXHAUSTED", "slow down"), "rate_limit", None),
        (
            429,
            refusal(429, "RESOURCE_EXHAUSTED", "come back tomorrow", PER_DAY, RETRY),
            "quota",
            34.074824224,
        ),
        (
            429,
            b"[" + refusal(429, "RESOURCE_EXHAUSTED", "slow down", RETRY) + b"]",
            "rate_limit",
            34.074824224,
        ),
        (503, refusal(503, "UNAVAILABLE", "The model is overloaded."), "overloaded", None),
        (500, refusal(500, "INTERNAL", "An internal error has occurred."), "server_error", None),
        (504, refusal(504, "DEADLINE_EXCEEDED", "too late"), "timeout", None),
        (400, refusal(400, "INVALID_ARGUMENT", "API key not valid.", NO_KEY), "authentication", None),
        (403, refusal(403, "PERMISSION_DENIED", "no"), "authentication", None),
        (404, refusal(404, "NOT_FOUND", "models/m is not found"), "invalid_request", None),
        (400, refusal(400, "INVALID_ARGUMENT", "Unknown name"), "invalid_request", None),
        (400, refusal(400, "FAILED_PRECONDITION", "User location is not supported"), "invalid_request", None),
        (
            400,
            refusal(
                400,
                "INVALID_ARGUMENT",
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            ),
            "too_large",
            None,
        ),
        (
            400,
            refusal(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
            "too_large",
            None,
        ),
    ],
)
async def test_a_refusal_is_the_error_that_google_says_and_the_wait_it_asks_for(
    status: int, body: bytes, kind: str, wait: float | None
) -> None:
    for stream in (True, False):
        error = await failure(says(body, status=f"{status} No"), stream=stream)
        assert (error.kind, error.status, error.retry_after) == (kind, status, wait)


async def test_a_retry_after_header_wins_over_the_body() -> None:
    body = refusal(429, "RESOURCE_EXHAUSTED", "slow down", RETRY)
    error = await failure(says(body, status="429 No", extra="retry-after: 12"))
    assert error.retry_after == 12.0


@pytest.mark.parametrize(
    "details", [3, "x", [3], {"a": 1}, [{"retryDelay": 3}], [{"retryDelay": "soon"}], [{"violations": 3}]]
)
async def test_particulars_that_say_nothing_change_nothing(details: Any) -> None:
    body = json.dumps({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}).encode()
    error = await failure(says(body, status="429 No"))
    assert (error.kind, error.retry_after) == ("rate_limit", None)


async def test_an_error_in_a_stream_that_began_well_is_an_error() -> None:
    inside = b"data: " + refusal(503, "UNAVAILABLE", "busy", RETRY) + b"\r\n\r\n"
    error = await failure(streams(HELLO, inside))
    assert (error.kind, error.status, error.retry_after) == ("overloaded", 503, 34.074824224)


async def test_a_blocked_prompt_is_refused_content() -> None:
    body = json.dumps({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}).encode()
    for script in (says(body), streams(b"data: " + body + b"\r\n\r\n")):
        error = await failure(script)
        assert (error.kind, error.retryable) == ("content_policy", False)


async def test_the_key_is_in_no_error_though_the_server_repeats_the_whole_request() -> None:
    async def echo(exchange: Exchange) -> None:
        await says(refusal(403, "PERMISSION_DENIED", exchange.head.decode()), status="403 No")(exchange)

    error = await failure(echo)
    assert error.kind == "authentication"
    assert "0123456789" not in str(error) + repr(error)


async def test_an_error_page_is_named_by_its_title() -> None:
    page = b"<html><head><title>Error 502 (Server Error)!!1</title></head></html>"
    error = await failure(says(page, status="502 Bad Gateway", content_type="text/html; charset=UTF-8"))
    assert error.kind == "server_error"
    assert "Error 502" in str(error)


# -- cancelling


@pytest.mark.parametrize("begun", [True, False], ids=["while streaming", "while waiting"])
async def test_cancelling_closes_the_connection_at_once_and_leaves_nothing_in_the_pool(begun: bool) -> None:
    heard = asyncio.Event()
    script = streams(HELLO, end=False) if begun else Exchange.gone
    async with WireServer([script]) as server, httpx2.AsyncClient() as client:
        task = asyncio.create_task(driver_for(server, http=client).reply(request(), lambda *_: heard.set()))
        async with asyncio.timeout(5):
            await (heard.wait() if begun else server.asked.acquire())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._transport._pool.connections == []  # type: ignore[attr-defined]
            await server.hang_ups.acquire()


# -- keys


@pytest.mark.parametrize("value", [None, "", "  "])
async def test_without_a_key_nothing_is_sent_and_the_variable_is_named(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("GEMINI_API_KEY", value)
    async with WireServer([streams(*ALL)]) as server:
        driver = driver_for(server, api_key=None)
        assert driver.encode(request())
        with pytest.raises(MissingCredential, match="GEMINI_API_KEY"):
            await driver.reply(request(), lambda *_: None)
        assert server.exchanges == []


async def test_the_key_is_read_at_each_call_from_either_variable_or_a_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with WireServer([streams(*ALL)]) as server:
        monkeypatch.delenv("GEMINI_API_KEY", raising=False)
        monkeypatch.setenv("GOOGLE_API_KEY", "second-choice")
        driver = driver_for(server, api_key=None)
        await driver.reply(request(), lambda *_: None)
        os.environ["GEMINI_API_KEY"] = "first-choice\n"
        await driver.reply(request(), lambda *_: None)
        await driver.close()
        await ask(server, api_key=lambda: "fetched")
        await ask(server, api_key="")
        keys = [exchange.headers.get("x-goog-api-key") for exchange in server.exchanges]
    monkeypatch.delenv("GEMINI_API_KEY")
    assert keys == ["second-choice", "first-choice", "fetched", None]


def test_the_key_and_the_headers_are_in_no_repr() -> None:
    driver = Gemini(
        base_url="https://example.com/v1?key=secret-1", api_key="secret-2", headers={"x-key": "secret-3"}
    )
    assert "secret" not in repr(driver) + repr(driver._credential) + repr(driver._transport)
    assert repr(driver) == "Gemini(https://example.com, vendor='gemini')"


# -- the name, and what it costs to load


async def test_a_model_named_gemini_is_served_by_this_driver() -> None:
    registry = Registry()
    driver, name = registry.driver("gemini/gemini-2.5-flash")
    assert (type(driver), name) == (Gemini, "gemini-2.5-flash")
    await registry.close()


def test_importing_the_driver_brings_no_sdk_and_no_other_driver() -> None:
    code = "import sys, holdfast.drivers.gemini; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert {"google", "pydantic", "requests", "holdfast.drivers.openai_chat"}.isdisjoint(loaded)
