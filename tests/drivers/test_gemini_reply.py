"""How Gemini's chunks and bodies become a `Reply`: parts, signatures, reasons to stop, and everything odd."""

import json
from typing import Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from holdfast.driver import Reply
from holdfast.drivers.failures import Peer
from holdfast.drivers.gemini_reply import _BROKE_OFF, _STOPS, ReplyAssembler
from holdfast.errors import DriverError
from holdfast.messages import Document, Image, Native, Text, Thinking, ToolCall, Usage
from tests.drivers.anything import TEXTS, Told, check_body, check_stream, json_of, typed


def assembler(told: Told | None = None) -> ReplyAssembler:
    log: Told = [] if told is None else told
    return ReplyAssembler(
        "acme", Peer("example.com"), lambda kind, piece, index: log.append((kind, piece, index))
    )


def chunk(*parts: dict[str, Any], finish: str | None = None, about: Any = None, **more: Any) -> bytes:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0} | (about or {})
    if finish:
        candidate["finishReason"] = finish
    return json.dumps({"candidates": [candidate]} | more).encode()


STOP = chunk(finish="STOP")


def streamed(*events: bytes, told: Told | None = None) -> Reply:
    parts = assembler(told)
    for event in events:
        parts.feed(event)
    return parts.reply()


def whole(body: Any, told: Told | None = None) -> Reply:
    parts = assembler(told)
    parts.whole(body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json")
    return parts.reply()


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"text": words} | more


def call(name: str = "f", args: Any = None, **more: Any) -> dict[str, Any]:
    inner = {"name": name} | ({} if args is None else {"args": args})
    return {"functionCall": inner} | more


# -- text and thoughts


def test_words_and_thoughts_are_told_as_they_come_and_joined() -> None:
    told: Told = []
    reply = streamed(
        chunk(text("h", thought=True)),
        chunk(text("m", thought=True)),
        chunk(text("Hel")),
        chunk(text("lo"), finish="STOP"),
        told=told,
    )
    assert reply.message.content == (Thinking(text="hm", provider="acme/thought"), Text(text="Hello"))
    assert told == [("thinking", "h", 0), ("thinking", "m", 0), ("text", "Hel", 0), ("text", "lo", 0)]
    assert reply.stop == "end_turn"


def test_empty_pieces_are_not_told_and_leave_no_parts() -> None:
    told: Told = []
    assert streamed(chunk(text("")), chunk(text("", thought=True)), STOP, told=told).message.content == ()
    assert told == []


def test_the_ids_of_message_and_calls_are_left_to_the_loop_and_the_servers_own_are_the_first_told() -> None:
    reply = streamed(
        chunk(call(), responseId="r1", modelVersion="m-1"),
        chunk(finish="STOP", responseId="r2", modelVersion="m-2"),
    )
    assert reply.message.id == ""
    assert (reply.response_id, reply.model) == ("r1", "m-1")
    assert reply.message.calls[0].id == ""


# -- signatures


def test_a_signature_stays_with_the_part_it_came_with_and_that_part_is_joined_to_no_other() -> None:
    reply = streamed(
        chunk(text("think", thought=True, thoughtSignature="s0")),
        chunk(text("a")),
        chunk(text("b", thoughtSignature="s1")),
        chunk(text("c")),
        chunk(call("f", {}, thoughtSignature="s2"), call("g", {})),
        chunk(text("", thoughtSignature="s3"), finish="STOP"),
    )
    assert reply.message.content == (
        Thinking(text="think", signature="s0", provider="acme/thought"),
        Text(text="a"),
        Thinking(signature="s1", provider="acme/next"),
        Text(text="b"),
        Text(text="c"),
        Thinking(signature="s2", provider="acme/next"),
        ToolCall(id="", name="f", arguments="{}"),
        ToolCall(id="", name="g", arguments="{}"),
        Thinking(signature="s3", provider="acme/text"),
    )
    assert reply.message.text == "abc"


def test_a_signed_picture_keeps_its_signature_before_it() -> None:
    data = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "thoughtSignature": "s"}
    assert streamed(chunk(data, finish="STOP")).message.content == (
        Thinking(signature="s", provider="acme/next"),
        Image(url="data:image/png;base64,AAAA"),
    )


# -- calls


@pytest.mark.parametrize(
    ("args", "written"),
    [
        (None, "{}"),
        ({}, "{}"),
        ({"a": 1, "b": [1.5, None]}, '{"a":1,"b":[1.5,null]}'),
        ({"city": "São\u2028Paulo"}, None),
    ],
)
def test_arguments_are_json_text_and_told_whole(args: Any, written: str | None) -> None:
    told: Told = []
    reply = streamed(chunk(call("f", args), finish="STOP"), told=told)
    (made,) = reply.message.calls
    assert json.loads(made.arguments) == (args or {})
    assert written is None or made.arguments == written
    assert told == [("arguments", made.arguments, 0)]
    assert reply.stop == "tool_calls"


def test_arguments_keep_their_numbers_and_order_and_lose_only_blanks_between() -> None:
    body = b"""{"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {
        "z": 1.50, "big": 12345678901234567890, "a": "x  y\\u00e9"
    }}}]}, "finishReason": "STOP"}]}"""
    assert whole(body).message.calls[0].arguments == (
        '{"z":1.50,"big":12345678901234567890,"a":"x  y\\u00e9"}'
    )


def test_parallel_calls_stay_apart_though_their_ids_are_missing_or_repeat() -> None:
    told: Told = []
    same = {"functionCall": {"name": "f", "id": "x", "args": {}}}
    reply = streamed(chunk(call(), call(), same), chunk(same), STOP, told=told)
    assert [made.provider_id for made in reply.message.calls] == ["", "", "x", "x"]
    assert [index for _, _, index in told] == [0, 1, 2, 3]


def test_null_arguments_are_none() -> None:
    body = {"functionCall": {"name": "f", "args": None}}
    assert streamed(chunk(body, finish="STOP")).message.calls[0].arguments == "{}"


@pytest.mark.parametrize("name", [None, ""])
def test_a_call_without_a_name_is_a_broken_stream(name: str | None) -> None:
    with pytest.raises(DriverError, match="without a name") as caught:
        streamed(chunk({"functionCall": {"name": name, "args": {}}}))
    assert caught.value.kind == "broken_stream"


# -- what ran at the provider, and what the model made


def test_what_only_gemini_understands_is_kept_as_it_came_and_readable() -> None:
    code = {
        "executableCode": {"language": "PYTHON", "code": "print(1)\n", "id": "c"},
        "thoughtSignature": "s",
    }
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}}
    ahead = {"somethingNew": {"x": 1}}
    reply = streamed(chunk(text("Let me see."), code), chunk(result, ahead), chunk(text("1."), finish="STOP"))
    first, *natives, last = reply.message.content
    assert (first, last) == (Text(text="Let me see."), Text(text="1."))
    assert [json.loads(part.data) for part in natives if isinstance(part, Native)] == [code, result, ahead]
    assert [part.text for part in natives if isinstance(part, Native)] == [
        "```python\nprint(1)\n```",
        "```\n1\n```",
        "",
    ]
    assert {part.provider for part in natives if isinstance(part, Native)} == {"acme/part"}


def test_the_sources_of_an_answer_are_kept_once_at_its_end() -> None:
    sources = {
        "groundingChunks": [
            {"web": {"uri": "https://a.example", "title": "A"}},
            {"retrievedContext": {"uri": "https://b.example"}},
            {"web": {}},
        ]
    }
    reply = streamed(
        chunk(text("x"), about={"groundingMetadata": {}, "urlContextMetadata": {"urlMetadata": []}}),
        chunk(
            text("y"),
            finish="STOP",
            about={
                "groundingMetadata": sources,
                "citationMetadata": {"citationSources": [{"uri": "https://c.example"}]},
            },
        ),
    )
    said, grounding, fetched = reply.message.content
    assert said == Text(text="xy")
    assert isinstance(grounding, Native)
    assert isinstance(fetched, Native)
    assert json.loads(grounding.data) == {"groundingMetadata": sources}
    assert grounding.text == "A <https://a.example>\n<https://b.example>"
    assert (grounding.provider, json.loads(fetched.data)) == (
        "acme/answer",
        {"urlContextMetadata": {"urlMetadata": []}},
    )


def test_sources_of_another_shape_are_kept_all_the_same() -> None:
    odd = {"groundingChunks": 3}
    (kept,) = streamed(chunk(finish="STOP", about={"groundingMetadata": odd})).message.content
    assert isinstance(kept, Native)
    assert (json.loads(kept.data), kept.text) == ({"groundingMetadata": odd}, "")


def test_an_empty_part_is_nothing() -> None:
    assert streamed(chunk({}, finish="STOP")).message.content == ()


@pytest.mark.parametrize(
    ("part", "made"),
    [
        (
            {"inlineData": {"mimeType": "image/webp", "data": "AA=="}},
            Image(url="data:image/webp;base64,AA=="),
        ),
        (
            {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
            Document(url="data:audio/wav;base64,AA=="),
        ),
        (
            {"inlineData": {"data": "AA=="}},
            Document(url="data:application/octet-stream;base64,AA=="),
        ),
        ({"fileData": {"mimeType": "image/png", "fileUri": "https://x/1"}}, Image(url="https://x/1")),
        ({"fileData": {"fileUri": "https://x/1"}}, Document(url="https://x/1")),
    ],
)
def test_what_the_model_made_is_an_image_or_a_document(part: dict[str, Any], made: object) -> None:
    assert streamed(chunk(part, finish="STOP")).message.content == (made,)


def test_a_picture_that_was_only_a_thought_is_kept_aside() -> None:
    draft = {"inlineData": {"mimeType": "image/png", "data": "AA=="}, "thought": True}
    (kept,) = streamed(chunk(draft, finish="STOP")).message.content
    assert isinstance(kept, Native)
    assert json.loads(kept.data) == draft


# -- reasons to stop


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("STOP", "end_turn"),
        ("SOME_NEW_REASON", "end_turn"),
        ("MAX_TOKENS", "max_tokens"),
        ("SAFETY", "refusal"),
        ("RECITATION", "refusal"),
        ("PROHIBITED_CONTENT", "refusal"),
        ("IMAGE_SAFETY", "refusal"),
    ],
)
def test_a_reason_to_stop_is_told_in_our_words(finish: str, stop: str) -> None:
    assert streamed(chunk(text("x")), chunk(finish=finish)).stop == stop
    calls = streamed(chunk(call()), chunk(finish=finish)).stop
    assert calls == ("tool_calls" if stop == "end_turn" else stop)


def test_every_reason_that_the_official_client_knows_is_known_here() -> None:
    assert {reason.value for reason in types.FinishReason} - set(_STOPS) - set(_BROKE_OFF) == set()


@pytest.mark.parametrize(
    ("finish", "kind", "again"),
    [
        ("MALFORMED_FUNCTION_CALL", "server_error", True),
        ("UNEXPECTED_TOOL_CALL", "server_error", True),
        ("OTHER", "server_error", True),
        ("MISSING_THOUGHT_SIGNATURE", "invalid_request", False),
        ("PUP_LIMITED_DISABLED", "authentication", False),
    ],
)
def test_a_reason_that_means_failure_is_an_error_that_names_it(finish: str, kind: str, again: bool) -> None:
    with pytest.raises(DriverError, match=finish.lower()) as caught:
        streamed(chunk(text("x")), chunk(finish=finish))
    assert (caught.value.kind, caught.value.retryable) == (kind, again)
    told = chunk(finish=finish, about={"finishMessage": "Malformed function call: print(f(1))"})
    with pytest.raises(DriverError, match=r"print\(f\(1\)\)"):
        streamed(told)


@pytest.mark.parametrize("reason", [it.value for it in types.BlockedReason])
def test_a_prompt_that_is_blocked_is_refused_content_and_says_why(reason: str) -> None:
    body = {"promptFeedback": {"blockReason": reason, "safetyRatings": []}, "usageMetadata": {}}
    for ask in (lambda: streamed(json.dumps(body).encode()), lambda: whole(body)):
        with pytest.raises(DriverError, match=reason.lower()) as caught:
            ask()
        assert (caught.value.kind, caught.value.retryable) == ("content_policy", False)


def test_ratings_of_a_prompt_that_was_let_through_are_no_block() -> None:
    feedback = {"safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]}
    assert streamed(chunk(text("x"), finish="STOP", promptFeedback=feedback)).message.text == "x"


def test_an_answer_that_a_filter_emptied_is_a_refusal_without_words() -> None:
    reply = whole({"candidates": [{"content": {}, "finishReason": "SAFETY"}]})
    assert (reply.message.content, reply.stop) == ((), "refusal")


# -- the end


@pytest.mark.parametrize("events", [[], [b"[DONE]"], [chunk(text("x"))], [chunk(text("x")), b"[DONE]"]])
def test_a_stream_without_a_reason_to_stop_is_broken(events: list[bytes]) -> None:
    with pytest.raises(DriverError) as caught:
        streamed(*events)
    assert caught.value.kind == "broken_stream"


def test_a_whole_answer_without_a_reason_to_stop_is_broken_too() -> None:
    with pytest.raises(DriverError) as caught:
        whole({"candidates": [{"content": {"parts": [text("x")]}}]})
    assert caught.value.kind == "broken_stream"


def test_a_list_of_chunks_is_read_like_a_stream() -> None:
    chunks = [json.loads(it) for it in (chunk(text("Hel")), chunk(text("lo")), STOP)]
    assert whole(chunks) == streamed(chunk(text("Hel")), chunk(text("lo")), STOP)


def test_only_real_progress_counts_as_progress() -> None:
    parts = assembler()
    idle = [chunk(), chunk(text("")), b"{}", json.dumps({"usageMetadata": {"promptTokenCount": 1}}).encode()]
    assert [parts.feed(event) for event in idle] == [False] * 4
    moving = [chunk(text("x")), chunk(call()), chunk(text("", thoughtSignature="s")), STOP]
    assert [parts.feed(event) for event in moving] == [True] * 4


# -- usage


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({}, Usage()),
        ({"promptTokenCount": None, "candidatesTokenCount": 3.0}, Usage(output_tokens=3)),
        (
            {
                "promptTokenCount": 9,
                "toolUsePromptTokenCount": 2,
                "cachedContentTokenCount": 7,
                "candidatesTokenCount": 4,
                "thoughtsTokenCount": 3,
                "totalTokenCount": 18,
            },
            Usage(input_tokens=11, output_tokens=7, cache_read_tokens=7, reasoning_tokens=3),
        ),
    ],
)
def test_token_counts_add_up_to_the_providers_total(usage: dict[str, Any], counted: Usage) -> None:
    reply = streamed(
        chunk(text("x"), usageMetadata={"promptTokenCount": 1}),
        STOP[:-1] + b',"usageMetadata":' + json.dumps(usage).encode() + b"}",
    )
    assert reply.usage == counted
    if "totalTokenCount" in usage:
        assert counted.input_tokens + counted.output_tokens == usage["totalTokenCount"]


# -- errors inside a good response


@pytest.mark.parametrize(
    ("error", "kind", "wait"),
    [
        ({"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}, "overloaded", None),
        ({"code": 500, "status": "INTERNAL", "message": "oops"}, "server_error", None),
        (
            {
                "code": 429,
                "status": "RESOURCE_EXHAUSTED",
                "message": "slow down",
                "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}],
            },
            "rate_limit",
            34.5,
        ),
        (
            {
                "code": 400,
                "status": "INVALID_ARGUMENT",
                "message": "The input token count (5) exceeds the maximum",
            },
            "too_large",
            None,
        ),
    ],
)
def test_an_error_inside_the_answer_is_the_error_it_says(
    error: dict[str, Any], kind: str, wait: float | None
) -> None:
    body = json.dumps({"error": error}).encode()
    for ask in (
        lambda: streamed(chunk(text("x")), body),
        lambda: whole(body),
        lambda: whole(b"[" + body + b"]"),
    ):
        with pytest.raises(DriverError, match="inside its answer") as caught:
            ask()
        assert (caught.value.kind, caught.value.retry_after) == (kind, wait)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'"x"',
        b"{}",
        b'{"totalTokens": 3}',
        b'{"candidates": []}',
        b'{"candidates": 3}',
        b"<html>",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"candidates":[{"content":{"parts":[3]},"finishReason":"STOP"}]}',
    ],
)
def test_a_body_that_is_no_answer_is_a_server_error_that_shows_a_little_of_it(body: bytes) -> None:
    with pytest.raises(DriverError, match=r"example\.com sent application/json") as caught:
        assembler().whole(body, "application/json")
    assert caught.value.kind == "server_error"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b"[]",
        b'{"candidates": 3}',
        chunk(text("x"))[:-9],
        b"[" * 100_000,
        b'{"candidates":[{"content":{"parts":[{"text":3}]}}]}',
    ],
)
def test_an_event_that_cannot_be_read_is_a_broken_stream(data: bytes) -> None:
    told: Told = []
    with pytest.raises(DriverError, match="cannot be read") as caught:
        streamed(chunk(text("x")), data, STOP, told=told)
    assert caught.value.kind == "broken_stream"
    assert len(str(caught.value)) < 500
    assert told == [("text", "x", 0)]


def test_half_a_character_or_a_nan_spoils_nothing_but_itself() -> None:
    half = b'{"candidates":[{"avgLogprobs": NaN, "content":{"parts":[{"text":"ok \\ud83d"}]},"finishReason":"STOP"}]}'
    assert streamed(half).message.text == "ok ?"
    assert whole(half).message.text == "ok ?"
    told: Told = []
    broken = b'{"candidates":[{"content":{"parts":[{"text":"ok \xff"}]},"finishReason":"STOP"}]}'
    assert streamed(broken, told=told).message.text == "ok \ufffd"
    assert told == [("text", "ok \ufffd", 0)]


def test_bytes_that_are_no_text_spoil_no_part_that_is_kept_as_it_came() -> None:
    native = b'{"candidates":[{"content":{"parts":[{"new":"a\xbc"}]},"finishReason": "STOP" }] }'
    args = native.replace(b'"new":', b'"functionCall":{"name":"f","args":{"x":').replace(b'"}]}', b'"}}}]}')
    for body in (native, args):
        for reply in (streamed(body), whole(body)):
            (part,) = reply.message.content
            kept = part.data if isinstance(part, Native) else part.arguments  # type: ignore[union-attr]
            assert "a\ufffd" in kept


def test_a_second_candidate_is_ignored() -> None:
    other = {"candidates": [{"index": 1, "content": {"parts": [text("no")]}, "finishReason": "STOP"}]}
    assert streamed(chunk(text("yes")), json.dumps(other).encode(), STOP).message.text == "yes"


def test_an_error_of_the_listener_goes_through_untouched() -> None:
    def fail(kind: str, piece: str, index: int) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        ReplyAssembler("acme", Peer("example.com"), fail).feed(chunk(text("x")))


# -- anything at all

WORDS = (
    "text", "thought", "thoughtSignature", "functionCall", "name", "args", "inlineData", "mimeType", "data",
    "candidates", "content", "parts", "finishReason", "groundingMetadata", "error", "code", "message", "STOP",
)  # fmt: skip
JSON = json_of(WORDS)
PART = typed(
    text=TEXTS,
    thought=st.none() | st.booleans(),
    thoughtSignature=TEXTS,
    functionCall=typed(name=TEXTS, id=TEXTS, args=JSON),
    inlineData=typed(mimeType=TEXTS, data=TEXTS),
    executableCode=typed(language=TEXTS, code=TEXTS),
    somethingElse=JSON,
)
CANDIDATE = typed(
    index=st.integers(0, 1),
    content=st.none() | typed(parts=st.none() | st.lists(PART, max_size=3)),
    finishReason=TEXTS | st.sampled_from(["STOP", "MAX_TOKENS", "OTHER"]),
    groundingMetadata=JSON,
)
CHUNK = typed(
    candidates=st.lists(CANDIDATE, max_size=2),
    usageMetadata=st.none()
    | typed(promptTokenCount=st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    promptFeedback=st.none() | typed(blockReason=TEXTS),
    error=st.none() | JSON,
    responseId=TEXTS,
    modelVersion=TEXTS,
)


@given(st.lists(CHUNK | JSON, max_size=6))
def test_whatever_a_server_sends_there_is_a_reply_that_can_be_stored_or_a_driver_error(
    chunks: list[Any],
) -> None:
    told: Told = []
    check_stream(assembler(told), told, chunks)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    check_body(assembler(), body)
