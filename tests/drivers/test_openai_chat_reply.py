"""How chunks and bodies become a `Reply`, with every oddity of servers that speak Chat Completions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.driver import Reply
from holdfast.drivers.failures import Peer
from holdfast.drivers.openai_chat_reply import ReplyAssembler
from holdfast.errors import DriverError
from holdfast.messages import Thinking, ToolCall, Usage
from tests.drivers.anything import TEXTS, Told, check_body, check_stream, json_of, typed


def assembler(told: Told | None = None) -> ReplyAssembler:
    log: Told = [] if told is None else told
    return ReplyAssembler(
        "acme", Peer("example.com"), lambda kind, piece, index: log.append((kind, piece, index))
    )


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return json.dumps({"choices": choices} | more).encode()


def streamed(*events: bytes, told: Told | None = None) -> Reply:
    parts = assembler(told)
    for event in events:
        parts.feed(event)
    return parts.reply()


def whole(
    message: dict[str, Any], finish: str | None = "stop", told: Told | None = None, **more: Any
) -> Reply:
    parts = assembler(told)
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish}]} | more
    parts.whole(json.dumps(body).encode(), "application/json")
    return parts.reply()


def calls(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": list(entries)}


def entry(
    index: int | None = None, id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    fields = {
        "index": index,
        "id": id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return {name: value for name, value in fields.items() if value is not None}


END = chunk({}, "tool_calls")
STOP = chunk({}, "stop")


def written(reply: Reply) -> list[tuple[str, str, str]]:
    return [(call.name, call.arguments, call.provider_id) for call in reply.message.calls]


# -- calls


BOTH = [("f", '{"a":1}', "x"), ("g", "{}", "y")]


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(
            [calls(entry(0, "x", "f", '{"a":1}'), entry(1, "y", "g", "{}"))],
            id="both at once",
        ),
        pytest.param(
            [
                calls(entry(0, "x", "f", "")),
                calls(entry(0, None, None, '{"a"')),
                calls(entry(1, "y", "g")),
                calls(entry(0, None, None, ":1}")),
                calls(entry(1, None, None, "{}")),
            ],
            id="interleaved by index",
        ),
        pytest.param(
            [
                calls(entry(0, "x", "f", '{"a"')),
                calls(entry(0, "x", "f", ":1}")),
                calls(entry(1, "y", "g", "{}")),
            ],
            id="id and name repeated in every chunk",
        ),
        pytest.param(
            [calls(entry(0, "x", "f", '{"a":1}')), calls(entry(0, "y", "g", "{}"))],
            id="every call has the index 0",
        ),
        pytest.param(
            [
                calls(entry(None, "x", "f", '{"a"')),
                calls(entry(None, None, None, ":1}")),
                calls(entry(None, "y", "g", "{}")),
            ],
            id="no index",
        ),
        pytest.param(
            [
                calls(entry(None, "x", "f", '{"a"')),
                calls(entry(None, "y", "g", "{}")),
                calls(entry(None, "x", None, ":1}")),
            ],
            id="no index, told by id",
        ),
        pytest.param(
            [
                calls(entry(0, "x", None, None)),
                calls(entry(0, None, "f", '{"a":1}')),
                calls(entry(1, "y", "g")),
            ],
            id="id before name, and no arguments at all",
        ),
        pytest.param(
            [calls(entry(3, "x", "f", '{"a":1}')), calls(entry(7, "y", "g", "{}"))],
            id="indexes with gaps",
        ),
        pytest.param(
            [calls(entry(0, "x", "f", {"a": 1})), calls(entry(1, "y", "g", {}))],
            id="arguments as an object",
        ),
        pytest.param(
            [
                calls(entry(0, "x", "", '{"a"')),
                calls(entry(0, "", "f", ":1}")),
                calls(entry(1, "y", "g", "")),
            ],
            id="empty names and ids before the real ones",
        ),
    ],
)
def test_parallel_calls_are_put_together_however_a_server_splits_them(chunks: list[dict[str, Any]]) -> None:
    told: Told = []
    reply = streamed(*[chunk(delta) for delta in chunks], END, told=told)
    assert written(reply) == BOTH
    assert reply.stop == "tool_calls"
    for position, call in enumerate(reply.message.calls):
        pieces = "".join(piece for kind, piece, index in told if (kind, index) == ("arguments", position))
        assert (pieces or "{}") == call.arguments


def test_calls_without_ids_stay_apart() -> None:
    reply = streamed(
        chunk(calls(entry(None, None, "f", '{"a":1}'))), chunk(calls(entry(None, None, "f", '{"a":2}'))), END
    )
    assert written(reply) == [("f", '{"a":1}', ""), ("f", '{"a":2}', "")]


def test_in_a_whole_body_every_entry_is_a_call_of_its_own() -> None:
    same = entry(0, None, "f", "{}")
    assert written(whole(calls(same, same, entry(0, "i", "g")), "tool_calls")) == [("f", "{}", "")] * 2 + [
        ("g", "{}", "i")
    ]


def test_arguments_are_kept_as_the_model_wrote_them_even_when_they_are_no_json() -> None:
    assert written(streamed(chunk(calls(entry(0, "x", "f", '{"a": oops'))), END)) == [
        ("f", '{"a": oops', "x")
    ]


def test_a_call_that_never_gets_a_name_is_a_broken_stream() -> None:
    with pytest.raises(DriverError, match="without a name") as caught:
        streamed(chunk(calls(entry(0, "x", None, "{}"))), END)
    assert caught.value.kind == "broken_stream"


def test_ids_are_left_to_the_loop() -> None:
    reply = streamed(chunk(calls(entry(0, "x", "f", "{}"))), END)
    assert reply.message.id == ""
    assert reply.message.content == (ToolCall(id="", name="f", arguments="{}", provider_id="x"),)


# -- reasons to stop


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", "end_turn"),
        ("eos", "end_turn"),
        ("length", "max_tokens"),
        ("model_length", "max_tokens"),
        ("content_filter", "refusal"),
        ("tool_calls", "end_turn"),
    ],
)
def test_a_reason_to_stop_is_told_in_our_words(finish: str, stop: str) -> None:
    assert streamed(chunk({"content": "x"}), chunk({}, finish)).stop == stop
    assert whole({"content": "x"}, finish).stop == stop


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", "tool_calls"),
        ("function_call", "tool_calls"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
    ],
)
def test_calls_decide_unless_the_answer_was_cut_short(finish: str, stop: str) -> None:
    assert streamed(chunk(calls(entry(0, "x", "f", "{}"))), chunk({}, finish)).stop == stop


def test_a_refusal_is_text_that_ends_the_turn_as_one() -> None:
    told: Told = []
    reply = streamed(chunk({"refusal": "I can"}), chunk({"refusal": "not."}), STOP, told=told)
    assert (reply.message.text, reply.stop) == ("I cannot.", "refusal")
    assert told == [("text", "I can", 0), ("text", "not.", 0)]
    assert whole({"content": None, "refusal": "No."}).stop == "refusal"


@pytest.mark.parametrize("finish", ["error", "insufficient_system_resource"])
def test_a_reason_that_means_failure_is_an_error(finish: str) -> None:
    with pytest.raises(DriverError) as caught:
        streamed(chunk({"content": "x"}), chunk({}, finish))
    assert caught.value.kind == ("server_error" if finish == "error" else "overloaded")


# -- the end of a stream


def test_done_alone_ends_a_stream_that_had_begun() -> None:
    assert streamed(chunk({"content": "x"}), b"[DONE]").stop == "end_turn"


@pytest.mark.parametrize(
    "events", [[], [b"[DONE]"], [chunk({"content": "x"})], [chunk(None, usage={"prompt_tokens": 1})]]
)
def test_a_stream_without_its_end_or_without_an_answer_is_broken(events: list[bytes]) -> None:
    with pytest.raises(DriverError) as caught:
        streamed(*events)
    assert caught.value.kind == "broken_stream"


def test_usage_may_come_with_the_end_after_it_or_in_every_chunk_and_the_last_one_counts() -> None:
    first, last = {"prompt_tokens": 5, "completion_tokens": 1}, {"prompt_tokens": 5, "completion_tokens": 2}
    counted = Usage(input_tokens=5, output_tokens=2)
    assert streamed(chunk({"content": "x"}), chunk({}, "stop", usage=last)).usage == counted
    assert streamed(chunk({"content": "x"}), STOP, chunk(None, usage=last), b"[DONE]").usage == counted
    assert (
        streamed(
            chunk({"content": "x"}, usage=first), chunk({}, "stop", usage=last), chunk({}, usage=None)
        ).usage
        == counted
    )


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({}, Usage()),
        ({"prompt_tokens": None, "completion_tokens": 3.0}, Usage(output_tokens=3)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 2, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(
                input_tokens=9, output_tokens=4, cache_read_tokens=7, cache_write_tokens=2, reasoning_tokens=3
            ),
        ),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": None, "prompt_cache_hit_tokens": 8},
            Usage(input_tokens=9, cache_read_tokens=8),
        ),
        ({"prompt_tokens": 9, "num_cached_tokens": 8}, Usage(input_tokens=9, cache_read_tokens=8)),
    ],
)
def test_token_counts_are_read_under_all_their_names(usage: dict[str, Any], counted: Usage) -> None:
    assert whole({"content": "x"}, usage=usage).usage == counted
    assert streamed(chunk({"content": "x"}), chunk({}, "stop", usage=usage)).usage == counted


def test_model_and_response_id_are_the_first_that_are_told() -> None:
    reply = streamed(
        chunk(None, id="", model="", prompt_filter_results=[]),
        chunk({"content": "x"}, id="c1", model="m-2026"),
        chunk({}, "stop", id="c2", model="m"),
    )
    assert (reply.response_id, reply.model) == ("c1", "m-2026")


# -- reasoning


def thoughts(reply: Reply) -> list[Thinking]:
    return [part for part in reply.message.content if isinstance(part, Thinking)]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_under_the_name_it_came_by(name: str) -> None:
    told: Told = []
    reply = streamed(chunk({name: "h"}), chunk({name: "m"}), chunk({"content": "x"}), STOP, told=told)
    assert thoughts(reply) == [Thinking(text="hm", provider=f"acme/{name}")]
    assert reply.message.text == "x"
    assert told == [("thinking", "h", 0), ("thinking", "m", 0), ("text", "x", 0)]
    assert whole({name: "hm", "content": "x"}).message == reply.message


def test_reasoning_that_comes_under_two_names_at_once_is_told_once() -> None:
    told: Told = []
    streamed(chunk({"reasoning_content": "hm", "reasoning": "hm"}), STOP, told=told)
    assert told == [("thinking", "hm", 0)]
    told.clear()
    detail = {"type": "reasoning.text", "text": "hm", "index": 0}
    streamed(chunk({"reasoning": "hm", "reasoning_details": [detail]}), STOP, told=told)
    assert told == [("thinking", "hm", 0)]


def test_reasoning_details_grow_by_kind_and_index_and_keep_what_is_needed_to_send_them_back() -> None:
    def detail(**fields: Any) -> bytes:
        return chunk({"reasoning_details": [fields]})

    reply = streamed(
        detail(type="reasoning.text", text="", signature="", format="anthropic-claude-v1", index=0),
        detail(type="reasoning.text", text="one ", format="anthropic-claude-v1", index=0),
        detail(type="reasoning.text", text="two", index=0),
        detail(type="reasoning.text", signature="sig", index=0),
        detail(type="reasoning.encrypted", data="AA", id="r1", format="openai-responses-v1", index=0),
        detail(type="reasoning.encrypted", data="BB", id="r2", format="openai-responses-v1", index=0),
        detail(type="reasoning.text", text="", index=1),
        chunk({"content": "x"}, "stop"),
    )
    first, second, third = thoughts(reply)
    assert (first.text, first.signature) == ("one two", "sig")
    assert json.loads(first.encrypted) == {
        "type": "reasoning.text",
        "format": "anthropic-claude-v1",
        "index": 0,
    }
    assert [json.loads(item.encrypted)["data"] for item in (second, third)] == ["AA", "BB"]
    assert {item.provider for item in (first, second, third)} == {"acme/reasoning_details"}


def test_encrypted_details_beside_plain_reasoning_keep_both() -> None:
    detail = {"type": "reasoning.encrypted", "data": "AA"}
    reply = whole({"reasoning": "hm", "reasoning_details": [detail], "content": "x"})
    assert [(part.text, part.provider) for part in thoughts(reply)] == [
        ("", "acme/reasoning_details"),
        ("hm", "acme/reasoning"),
    ]


def test_content_may_be_a_list_of_texts_and_thoughts() -> None:
    told: Told = []
    thinking = {
        "type": "thinking",
        "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}],
    }
    reply = streamed(
        chunk(
            {
                "content": [
                    thinking,
                    {"type": "text", "text": "x"},
                    {"type": "reference", "reference_ids": [1]},
                ]
            }
        ),
        chunk({"content": [{"type": "thinking", "thinking": "!"}]}),
        chunk({"content": "y"}, "stop"),
        told=told,
    )
    assert thoughts(reply) == [Thinking(text="hm!", provider="acme/thinking")]
    assert reply.message.text == "xy"
    assert told == [("thinking", "hm", 0), ("text", "x", 0), ("thinking", "!", 0), ("text", "y", 0)]


def test_empty_pieces_are_not_told_and_leave_no_parts() -> None:
    told: Told = []
    empty = {
        "content": "",
        "reasoning_content": "",
        "reasoning": None,
        "reasoning_details": [],
        "refusal": "",
        "tool_calls": [],
    }
    reply = streamed(chunk(empty), chunk({"content": []}), chunk(empty, "stop"), told=told)
    assert told == []
    assert reply.message.content == ()


def test_only_real_progress_counts_as_progress() -> None:
    parts = assembler()
    idle = [chunk({"role": "assistant", "content": ""}), chunk({}), chunk(None), chunk({"reasoning": None})]
    assert [parts.feed(event) for event in idle] == [False] * 4
    moving = [
        chunk({"content": "x"}),
        chunk({"reasoning": "x"}),
        chunk(calls(entry(0, "x", "f"))),
        chunk(calls(entry(0, arguments="{"))),
        chunk(None, usage={}),
        chunk({}, "stop"),
        b"[DONE]",
    ]
    assert [parts.feed(event) for event in moving] == [True] * 7


# -- errors inside a good response


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}, "rate_limit"),
        ({"message": "slow down", "code": 429}, "rate_limit"),
        ({"message": "too long", "code": "context_length_exceeded"}, "too_large"),
        ({"message": "failed", "type": "invalid_request_error", "status_code": 400}, "invalid_request"),
        ({"message": "busy", "code": 502}, "server_error"),
        ({"message": "busy", "type": "overloaded_error"}, "overloaded"),
        ("something went wrong", "server_error"),
        ({"message": "filtered", "code": "content_filter"}, "content_policy"),
    ],
)
def test_an_error_inside_the_answer_is_the_error_it_says(error: Any, kind: str) -> None:
    with pytest.raises(DriverError, match="inside its answer") as in_stream:
        streamed(chunk({"content": "x"}), chunk(None, error=error))
    with pytest.raises(DriverError) as in_body:
        assembler().whole(json.dumps({"error": error}).encode(), "application/json")
    in_choice = json.dumps({"choices": [{"delta": {}, "finish_reason": "error", "error": error}]}).encode()
    with pytest.raises(DriverError) as in_one_choice:
        streamed(in_choice)
    assert [in_stream.value.kind, in_body.value.kind, in_one_choice.value.kind] == [kind] * 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'"x"',
        b"{}",
        b'{"choices": []}',
        b'{"choices": 3}',
        b"<html>",
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_body_that_is_no_answer_is_a_server_error_that_shows_a_little_of_it(body: bytes) -> None:
    with pytest.raises(DriverError, match=r"example\.com sent application/json") as caught:
        assembler().whole(body, "application/json")
    assert caught.value.kind == "server_error"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "data", [b"not json", b"[]", b'{"choices": 3}', b'{"choices": [{"delta": ', b"[" * 100_000]
)
def test_an_event_that_cannot_be_read_is_a_broken_stream(data: bytes) -> None:
    with pytest.raises(DriverError, match="cannot be read") as caught:
        streamed(chunk({"content": "x"}), data, STOP)
    assert caught.value.kind == "broken_stream"
    assert len(str(caught.value)) < 500


def test_half_a_character_or_a_nan_spoils_nothing_but_itself() -> None:
    half = b'{"choices": [{"delta": {"content": "ok \\ud83d"}}], "score": NaN}'
    assert streamed(half, STOP).message.text == "ok ?"
    assert streamed(b'{"choices": [{"delta": {"content": "ok \xff"}}]}', STOP).message.text == "ok \ufffd"


def test_a_second_choice_is_ignored() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}
    assert streamed(chunk({"content": "yes"}), json.dumps(other).encode(), STOP).message.text == "yes"


# -- anything at all

WORDS = (
    "type",
    "text",
    "summary",
    "signature",
    "index",
    "data",
    "message",
    "code",
    "reasoning.text",
    "choices",
    "error",
)
JSON = json_of(WORDS)
FUNCTION = typed(name=TEXTS, arguments=TEXTS | st.dictionaries(st.text(max_size=2), JSON, max_size=2))
DELTA = typed(
    content=TEXTS | st.lists(typed(type=st.text(), text=TEXTS, thinking=TEXTS)),
    reasoning=TEXTS,
    reasoning_content=TEXTS,
    reasoning_details=st.lists(st.dictionaries(st.sampled_from(WORDS), JSON, max_size=5), max_size=3),
    refusal=TEXTS,
    tool_calls=st.none()
    | st.lists(typed(index=st.none() | st.integers(0, 3), id=TEXTS, function=st.none() | FUNCTION)),
)
CHUNK = typed(
    choices=st.lists(
        typed(index=st.integers(0, 1), delta=DELTA, finish_reason=TEXTS | st.just("stop"), error=JSON),
        max_size=2,
    ),
    usage=st.none()
    | typed(prompt_tokens=st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    error=st.none() | JSON,
    id=TEXTS,
    model=TEXTS,
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
