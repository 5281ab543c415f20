"""What only Gemini's protocol has on a real connection; what all have is in `test_network`."""

import json
from typing import Any

import pytest

from holdfast.messages import Image
from tests.drivers.tongues import GEMINI, KEY, request
from tests.drivers.wire_server import WireServer, says, streams


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


def refusal(code: int, status: str, message: str, *details: dict[str, Any]) -> bytes:
    error = {"code": code, "status": status, "message": message, "details": list(details)}
    return json.dumps({"error": error}).encode()


# -- good answers


async def test_the_key_is_in_a_header_and_never_in_the_address() -> None:
    async with WireServer([streams(*ALL), says(WHOLE)]) as server:
        driver = GEMINI.made(server, headers={"x-title": "holdfast"})
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
        replies = [await GEMINI.ask(server), await GEMINI.ask(server), await GEMINI.ask(server, stream=False)]
    assert replies[0] == replies[1] == replies[2]


async def test_a_large_picture_comes_as_one_event() -> None:
    data = "A" * 12 * 2**20
    part = {"inlineData": {"mimeType": "image/png", "data": data}, "thoughtSignature": "S"}
    body = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    async with WireServer([streams(b"data: " + json.dumps(body).encode() + b"\r\n\r\n")]) as server:
        reply = await GEMINI.ask(server)
    assert reply.message.content[-1] == Image(url=f"data:image/png;base64,{data}")


# -- the end that is missing


@pytest.mark.parametrize(
    "event_bytes", [b"data: {oops\r\n\r\n", b"data: [1]\r\n\r\n", b'data: {"candidates":3}\r\n\r\n']
)
async def test_an_event_that_is_not_the_protocol_is_a_broken_stream(event_bytes: bytes) -> None:
    assert (await GEMINI.failure(streams(HELLO, event_bytes, FINISH))).kind == "broken_stream"


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
        error = await GEMINI.failure(says(body, status=f"{status} No"), stream=stream)
        assert (error.kind, error.status, error.retry_after) == (kind, status, wait)


async def test_a_retry_after_header_wins_over_the_body() -> None:
    body = refusal(429, "RESOURCE_EXHAUSTED", "slow down", RETRY)
    error = await GEMINI.failure(says(body, status="429 No", extra="retry-after: 12"))
    assert error.retry_after == 12.0


@pytest.mark.parametrize(
    "details", [3, "x", [3], {"a": 1}, [{"retryDelay": 3}], [{"retryDelay": "soon"}], [{"violations": 3}]]
)
async def test_particulars_that_say_nothing_change_nothing(details: Any) -> None:
    body = json.dumps({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}).encode()
    error = await GEMINI.failure(says(body, status="429 No"))
    assert (error.kind, error.retry_after) == ("rate_limit", None)


async def test_an_error_in_a_stream_that_began_well_is_an_error() -> None:
    inside = b"data: " + refusal(503, "UNAVAILABLE", "busy", RETRY) + b"\r\n\r\n"
    error = await GEMINI.failure(streams(HELLO, inside))
    assert (error.kind, error.status, error.retry_after) == ("overloaded", 503, 34.074824224)


async def test_a_blocked_prompt_is_refused_content() -> None:
    body = json.dumps({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}).encode()
    for script in (says(body), streams(b"data: " + body + b"\r\n\r\n")):
        error = await GEMINI.failure(script)
        assert (error.kind, error.retryable) == ("content_policy", False)
