"""What servers say when they refuse, in our words, and never with the key in it."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.drivers.failures import QUOTE, Peer, read_complaint, retry_after

KEY = "sk-live-0123456789abcdef"
PEER = Peer("example.com", KEY)
NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def refused(status: int, body: Any = b"", **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return PEER.refused(status, httpx2.Headers(named), content)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, "invalid_request"),
        (400, "invalid_request"),
        (401, "authentication"),
        (402, "quota"),
        (403, "authentication"),
        (404, "invalid_request"),
        (405, "invalid_request"),
        (408, "timeout"),
        (413, "too_large"),
        (422, "invalid_request"),
        (429, "rate_limit"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "overloaded"),
        (504, "timeout"),
        (524, "timeout"),
        (529, "overloaded"),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html><title>Oops</title></html>", {"error": {"message": "sorry"}}, b"[1"]
)
def test_a_status_has_its_kind_whatever_the_body_is(status: int, kind: str, body: Any) -> None:
    error = refused(status, body)
    assert (error.kind, error.status) == (kind, status)
    assert "example.com" in str(error)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (429, {"code": "insufficient_quota", "type": "insufficient_quota", "message": "no credit"}, "quota"),
        (
            429,
            {"code": "rate_limit_exceeded", "message": "Request too large for m on tokens per min"},
            "too_large",
        ),
        (413, {"code": "rate_limit_exceeded", "message": "Request too large for m"}, "too_large"),
        (400, {"code": "context_length_exceeded", "message": "x"}, "too_large"),
        (400, {"message": "This model's maximum context length is 8192 tokens."}, "too_large"),
        (400, {"message": "prompt is too long: 210000 tokens"}, "too_large"),
        (400, {"code": "content_filter", "message": "x"}, "content_policy"),
        (
            403,
            {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["x"]}},
            "content_policy",
        ),
        (400, {"code": "invalid_api_key", "message": "x"}, "authentication"),
        (500, {"message": "the context length could not be read"}, "server_error"),
        (503, {"type": "invalid_request_error", "message": "x"}, "overloaded"),
        (429, {"status": "RESOURCE_EXHAUSTED", "code": 429, "message": "x"}, "rate_limit"),
    ],
)
def test_a_servers_own_words_say_more_than_the_status(status: int, error: dict[str, Any], kind: str) -> None:
    assert refused(status, {"error": error}).kind == kind


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            {"error": {"message": "no such model", "code": "model_not_found"}},
            "(model_not_found): no such model",
        ),
        ({"error": "no such model"}, ": no such model"),
        (
            {"message": "no such model", "type": "invalid_request_error"},
            "(invalid_request_error): no such model",
        ),
        ({"object": "error", "message": {"detail": [{"loc": ["body", "x"]}]}}, '"loc":["body","x"]'),
        ({"detail": "no such model"}, ": no such model"),
        ({"detail": [{"msg": "field required"}]}, "field required"),
        ([{"error": {"message": "no such model", "status": "NOT_FOUND"}}], "(not_found): no such model"),
        ({"error": {"message": "upstream", "metadata": {"raw": "try later"}}}, "upstream: try later"),
        (b"<html><head><title>502 Bad\nGateway</title></head><body>x</body></html>", ": 502 Bad Gateway"),
        (b"plain words", ": plain words"),
    ],
)
def test_the_message_quotes_what_the_server_said_in_any_shape(body: Any, shown: str) -> None:
    assert shown in str(refused(418, body))


@pytest.mark.parametrize(
    "body", [b"", b"3", b"null", b"[]", b"{}", b'{"error": null}', b'{"a": 1}', b"[" * 100_000]
)
def test_a_body_without_an_error_is_no_complaint(body: bytes) -> None:
    assert read_complaint(body) is None
    assert len(str(refused(500, body))) < 2 * QUOTE


def test_a_key_of_any_shape_is_never_quoted() -> None:
    peer = Peer("example.com", "Plain+Key/42=")
    for said in ("Plain+Key/42= is wrong", "Bearer Plain+Key/42=", "x" * 6000 + "Plain+Key/42="):
        assert "Key/42" not in peer.quote(said)
        assert "Key/42" not in str(peer.refused(401, {}, json.dumps({"error": said}).encode()))


@pytest.mark.parametrize("placeholder", ["any", "none", "k", "ollama"])
def test_a_word_in_place_of_a_key_leaves_messages_readable(placeholder: str) -> None:
    words = "many keys, none known to ollama"
    assert Peer("localhost", placeholder).quote(words) == words


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": f"Incorrect API key provided: {KEY}. Look here."}},
        {"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}},
        {"error": {"message": "Incorrect API key provided: sk-live-0123***********cdef."}},
        {"error": {"message": {"key": KEY}}},
        f"<title>Bearer {KEY}</title>".encode(),
        f"Bearer {KEY}".encode(),
    ],
)
def test_the_key_is_never_quoted_even_when_the_server_repeats_it(body: Any) -> None:
    for error in (refused(401, body), PEER.unreadable(json.dumps(body, default=str).encode(), f"text/{KEY}")):
        assert "0123" not in str(error)
    assert KEY not in str(PEER.broken("is bad", KEY.encode()))
    assert KEY not in str(PEER.complained(body.decode() if isinstance(body, bytes) else body))
    assert KEY not in repr(PEER)


@given(st.text())
def test_a_quote_is_short_and_on_one_line_of_printable_characters(text: str) -> None:
    quoted = PEER.quote(text)
    assert len(quoted) <= QUOTE
    assert quoted.isprintable()


@given(st.binary())
def test_no_body_breaks_the_reader(body: bytes) -> None:
    assert refused(500, body).kind in {
        "server_error",
        "overloaded",
        "timeout",
        "rate_limit",
        "quota",
        "too_large",
    }


def test_what_can_be_done_is_said() -> None:
    assert "check the API key" in str(refused(401))
    assert "billing" in str(refused(402))
    assert "shorten" in str(refused(413))
    assert "check the model's name" in str(refused(404))
    assert "https://other.example.com/v1" in str(refused(308, location="https://other.example.com/v1"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT", "date": "Fri, 20 Nov 2026 12:00:10 GMT"}, 20.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Fri, 99 Nov 2026 12:00:30 GMT"}, None),
    ],
)
def test_the_wait_a_server_asks_for_is_read_in_all_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers, NOW) == seconds


@given(st.text())
def test_no_retry_header_breaks_the_reader(text: str) -> None:
    seconds = retry_after({"retry-after": text, "retry-after-ms": text, "date": text}, NOW)
    assert seconds is None or seconds >= 0
