"""How Anthropic's events and bodies become a `Reply`."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.driver import DeltaKind, Reply
from holdfast.drivers.anthropic_reply import ReplyAssembler
from holdfast.drivers.failures import Peer
from holdfast.errors import DriverError
from holdfast.messages import Native, Text, Thinking, ToolCall, Usage

Told = list[tuple[DeltaKind, str, int]]


def assembler(told: Told | None = None) -> ReplyAssembler:
    log: Told = [] if told is None else told
    return ReplyAssembler(
        "acme", Peer("example.com"), lambda kind, piece, index: log.append((kind, piece, index))
    )


def event(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind} | fields).encode()


def begin(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def more(index: int, kind: str, **delta: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind} | delta)


def use(index: int, id: str = "toolu_1", name: str = "f") -> bytes:
    return begin(index, type="tool_use", id=id, name=name, input={})


def written(index: int, piece: str) -> bytes:
    return more(index, "input_json_delta", partial_json=piece)


START = event(
    "message_start",
    message={
        "type": "message",
        "id": "msg_1",
        "model": "claude-x",
        "content": [],
        "usage": {"input_tokens": 3},
    },
)
STOP = event("message_stop")
PING = event("ping")


def end(reason: str = "end_turn", **usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 5} | usage)


def streamed(*events: bytes, reason: str = "end_turn", told: Told | None = None) -> Reply:
    parts = assembler(told)
    for each in (START, *events, end(reason), STOP):
        parts.feed(each)
    return parts.reply()


def whole(
    content: list[dict[str, Any]], reason: str | None = "end_turn", told: Told | None = None, **fields: Any
) -> Reply:
    parts = assembler(told)
    body = {
        "type": "message",
        "id": "msg_1",
        "model": "claude-x",
        "content": content,
        "stop_reason": reason,
        "usage": {"input_tokens": 3, "output_tokens": 5},
    }
    parts.whole(json.dumps(body | fields).encode(), "application/json")
    return parts.reply()


def calls(reply: Reply) -> list[tuple[str, str, str]]:
    return [(call.name, call.arguments, call.provider_id) for call in reply.message.calls]


# -- calls


def test_parallel_calls_are_put_together_from_pieces_that_interleave() -> None:
    told: Told = []
    reply = streamed(
        use(1, "a", "f"),
        written(1, ""),
        written(1, '{"ci'),
        use(2, "b", "g"),
        written(2, "{}"),
        written(1, 'ty":1}'),
        event("content_block_stop", index=1),
        use(5, "c", "h"),
        reason="tool_use",
        told=told,
    )
    assert calls(reply) == [("f", '{"city":1}', "a"), ("g", "{}", "b"), ("h", "{}", "c")]
    assert reply.stop == "tool_calls"
    assert told == [("arguments", '{"ci', 0), ("arguments", "{}", 1), ("arguments", 'ty":1}', 0)]


@given(st.lists(st.integers(0, 30)))
def test_arguments_are_the_same_however_they_are_split(places: list[int]) -> None:
    text = '{"city": "Zürich\\u2028", "n": 1.50}'
    edges = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    pieces = [text[start:stop] for start, stop in itertools.pairwise(edges)]
    reply = streamed(use(0), *[written(0, piece) for piece in pieces], reason="tool_use")
    assert calls(reply) == [("f", text, "toolu_1")]


def test_arguments_that_come_with_the_beginning_are_kept_as_they_were_written() -> None:
    told: Told = []
    block = b'{"type":"content_block_start","index":0,"content_block":' + (
        b'{"type":"tool_use","id":"a","name":"f","input":{"b" : 1.50}}}'
    )
    assert calls(streamed(block, told=told)) == [("f", '{"b" : 1.50}', "a")]
    assert told == [("arguments", '{"b" : 1.50}', 0)]


def test_arguments_are_kept_as_the_model_wrote_them_even_when_they_are_no_json() -> None:
    assert calls(streamed(use(0), written(0, '{"a": oops'), reason="max_tokens")) == [
        ("f", '{"a": oops', "toolu_1")
    ]


def test_a_call_without_a_name_is_a_broken_stream() -> None:
    with pytest.raises(DriverError, match="without a name") as caught:
        streamed(begin(0, type="tool_use", id="a"))
    assert caught.value.kind == "broken_stream"


# -- reasons to stop


@pytest.mark.parametrize(
    ("reason", "alone", "beside_calls"),
    [
        ("end_turn", "end_turn", "tool_calls"),
        ("stop_sequence", "end_turn", "tool_calls"),
        ("tool_use", "end_turn", "tool_calls"),
        ("max_tokens", "max_tokens", "max_tokens"),
        ("model_context_window_exceeded", "max_tokens", "max_tokens"),
        ("refusal", "refusal", "refusal"),
        ("pause_turn", "max_tokens", "tool_calls"),
        ("something_new", "end_turn", "tool_calls"),
    ],
)
def test_every_reason_to_stop_has_our_word(reason: str, alone: str, beside_calls: str) -> None:
    assert streamed(begin(0, type="text", text="hi"), reason=reason).stop == alone
    assert streamed(use(0), reason=reason).stop == beside_calls
    assert whole([{"type": "text", "text": "hi"}], reason).stop == alone


def test_a_pause_is_one_only_without_calls() -> None:
    for call, paused in ((False, True), (True, False)):
        parts = assembler()
        for each in (START, *([use(0)] if call else []), end("pause_turn"), STOP):
            parts.feed(each)
        assert parts.paused is paused


# -- text, thoughts and what ran at the provider


def test_blocks_become_parts_in_their_order() -> None:
    told: Told = []
    reply = streamed(
        begin(0, type="thinking", thinking="", signature=""),
        more(0, "thinking_delta", thinking="hm"),
        more(0, "thinking_delta", thinking=" ok"),
        more(0, "signature_delta", signature="sig=="),
        begin(1, type="redacted_thinking", data="AAAA"),
        begin(2, type="text", text=""),
        more(2, "text_delta", text="one"),
        begin(3, type="thinking", thinking="", signature="only a proof"),
        begin(4, type="text", text="two"),
        begin(5, type="text", text=""),
        told=told,
    )
    assert reply.message.content == (
        Thinking(text="hm ok", signature="sig==", provider="acme"),
        Thinking(provider="acme", encrypted="AAAA"),
        Text(text="one"),
        Thinking(signature="only a proof", provider="acme"),
        Text(text="two"),
    )
    assert told == [("thinking", "hm", 0), ("thinking", " ok", 0), ("text", "one", 0), ("text", "two", 0)]


def test_text_with_citations_is_kept_as_words_and_behind_them_as_it_came() -> None:
    citations = [{"type": "web_search_result_location", "url": "u", "encrypted_index": "E"}, {"type": "x"}]
    block = {"type": "text", "text": "so it is", "citations": citations}
    reply = streamed(
        begin(0, type="text", text="", citations=[]),
        more(0, "text_delta", text="so it"),
        more(0, "citations_delta", citation=citations[0]),
        more(0, "citations_delta", citation=citations[1]),
        more(0, "text_delta", text=" is"),
    )
    words, cited = reply.message.content
    assert words == Text(text="so it is")
    assert isinstance(cited, Native)
    assert (json.loads(cited.data), cited.text) == (block, "")
    assert whole([block]).message.content == reply.message.content


def test_a_tool_that_ran_at_the_provider_is_kept_as_it_came_with_its_input_in_place() -> None:
    answer = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u", "n": None}]}
    reply = streamed(
        begin(0, type="server_tool_use", id="s", name="web_search", input={}, caller={"type": "direct"}),
        written(0, '{"query": '),
        written(0, '"x"}'),
        begin(1, **answer),
    )
    call, result = reply.message.content
    assert isinstance(call, Native)
    assert isinstance(result, Native)
    assert json.loads(call.data) == {
        "type": "server_tool_use",
        "id": "s",
        "name": "web_search",
        "input": {"query": "x"},
        "caller": {"type": "direct"},
    }
    assert (call.provider, call.text) == ("acme", '[web_search ran at the provider: {"query": "x"}]')
    assert (json.loads(result.data), result.text) == (answer, "")
    assert reply.stop == "end_turn"


def test_half_an_input_of_a_tool_at_the_provider_is_a_broken_stream() -> None:
    with pytest.raises(DriverError, match="cannot be read") as caught:
        streamed(begin(0, type="server_tool_use", id="s", name="web_search", input={}), written(0, '{"q'))
    assert caught.value.kind == "broken_stream"


def test_words_and_thoughts_whose_beginning_is_missing_are_heard_and_anything_else_is_broken() -> None:
    reply = streamed(more(0, "text_delta", text="hi"), more(1, "thinking_delta", thinking="hm"))
    assert reply.message.content == (Text(text="hi"), Thinking(text="hm", provider="acme"))
    with pytest.raises(DriverError, match="never begun"):
        streamed(written(7, "{}"))


def test_line_separators_and_cut_surrogates_do_not_break_the_text() -> None:
    cut = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d"}}'
    reply = streamed(begin(0, type="text", text="a\u2028b"), cut, more(0, "text_delta", text="c"))
    assert reply.message.text == "a\u2028b?c"


def test_an_answer_without_a_word_is_an_answer() -> None:
    assert streamed().message.content == ()
    assert whole([]).message.content == ()


# -- usage and names


def test_the_counts_at_the_end_stand_for_the_whole_and_what_they_leave_out_stays() -> None:
    parts = assembler()
    first = {"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 7}
    parts.feed(
        event("message_start", message={"id": "m", "model": "x", "usage": first | {"output_tokens": 1}})
    )
    parts.feed(
        event(
            "message_delta",
            delta={"stop_reason": "end_turn"},
            usage={
                "output_tokens": 50,
                "input_tokens": 20,
                "cache_read_input_tokens": None,
                "output_tokens_details": {"thinking_tokens": 30},
            },
        )
    )
    parts.feed(STOP)
    assert parts.reply().usage == Usage(
        input_tokens=127,
        output_tokens=50,
        cache_read_tokens=100,
        cache_write_tokens=7,
        reasoning_tokens=30,
    )


def test_a_beginning_that_is_repeated_changes_nothing() -> None:
    again = event("message_start", message={"id": "other", "model": "other", "content": []})
    reply = streamed(begin(0, type="text", text="hi"), again)
    assert (reply.response_id, reply.model, reply.message.text) == ("msg_1", "claude-x", "hi")


def test_where_code_ran_is_remembered() -> None:
    parts = assembler()
    parts.feed(START)
    parts.feed(
        event("message_delta", delta={"stop_reason": "pause_turn", "container": {"id": "c1"}}, usage={})
    )
    assert parts.container == "c1"


# -- progress and the end


def test_only_what_brings_something_is_progress() -> None:
    parts = assembler()
    moved = [
        parts.feed(each)
        for each in (
            START,
            PING,
            use(0),
            written(0, ""),
            written(0, "{"),
            event("content_block_stop", index=0),
            event("something_new", x=1),
            end(),
            STOP,
        )
    ]
    assert moved == [True, False, True, False, True, False, False, True, True]
    assert parts.answered
    assert parts.over


@pytest.mark.parametrize(
    "events", [[], [START], [START, begin(0, type="text", text="hi")], [START, end()], [STOP]]
)
def test_without_a_beginning_and_an_end_there_is_no_reply(events: list[bytes]) -> None:
    parts = assembler()
    for each in events:
        parts.feed(each)
    with pytest.raises(DriverError, match="before the model had finished") as caught:
        parts.reply()
    assert (caught.value.kind, caught.value.retryable) == ("broken_stream", True)


# -- errors


@pytest.mark.parametrize(
    ("kind", "message", "ours"),
    [
        ("overloaded_error", "Overloaded", "overloaded"),
        ("rate_limit_error", "slow down", "rate_limit"),
        ("api_error", "Internal server error", "server_error"),
        ("authentication_error", "invalid x-api-key", "authentication"),
        ("permission_error", "no", "authentication"),
        ("billing_error", "pay", "quota"),
        ("request_too_large", "too large", "too_large"),
        ("timeout_error", "too slow", "timeout"),
        ("not_found_error", "model: x", "invalid_request"),
        ("invalid_request_error", "messages: wrong", "invalid_request"),
        ("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "too_large"),
        (
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 190000 + 21333 > 200000",
            "too_large",
        ),
        (
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API.",
            "quota",
        ),
        ("invalid_request_error", "You have reached your specified API usage limits.", "quota"),
        ("invalid_request_error", "Output blocked by content filtering policy", "content_policy"),
    ],
)
def test_an_error_inside_an_answer_has_its_kind(kind: str, message: str, ours: str) -> None:
    error = {"type": kind, "message": message}
    with pytest.raises(DriverError, match="inside its answer") as caught:
        streamed(begin(0, type="text", text="hi"), event("error", error=error))
    assert caught.value.kind == ours
    with pytest.raises(DriverError) as caught:
        whole([], error=error)
    assert caught.value.kind == ours


def test_an_error_that_says_nothing_is_still_one() -> None:
    with pytest.raises(DriverError) as caught:
        streamed(event("error"))
    assert caught.value.kind == "server_error"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", b'{"content":7}', b'{"input_tokens":19}', b"<html>", b"[" * 100_000]
)
def test_a_body_that_is_no_message_is_no_answer(body: bytes) -> None:
    with pytest.raises(DriverError, match="not an answer") as caught:
        assembler().whole(body, "application/json")
    assert caught.value.kind == "server_error"


@pytest.mark.parametrize("block", [7, {"type": "text", "text": 7}, {"type": 7}, None])
def test_a_block_that_cannot_be_read_is_a_broken_answer(block: Any) -> None:
    with pytest.raises(DriverError, match="cannot be read") as caught:
        whole([block])
    assert caught.value.kind == "broken_stream"


# -- properties

names = st.sampled_from(["f", "g"])
words = st.text(max_size=5)
objects = st.dictionaries(st.sampled_from("ab"), st.integers() | words, max_size=2)
content = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, words),
        st.builds(lambda t, s: {"type": "thinking", "thinking": t, "signature": s}, words, words),
        st.builds(lambda data: {"type": "redacted_thinking", "data": data}, words),
        st.builds(lambda n, i: {"type": "tool_use", "id": "t", "name": n, "input": i}, names, objects),
        st.builds(lambda n, i: {"type": "server_tool_use", "id": "s", "name": n, "input": i}, names, objects),
        st.builds(lambda c: {"type": "web_search_tool_result", "tool_use_id": "s", "content": c}, objects),
    ),
    max_size=5,
)


def as_events(blocks: list[dict[str, Any]], size: int) -> list[bytes]:
    """The events that stream these blocks, `size` characters at a time."""
    events = []
    for index, block in enumerate(blocks):
        kind, grows = {
            "text": ("text_delta", "text"),
            "thinking": ("thinking_delta", "thinking"),
            "tool_use": ("input_json_delta", "partial_json"),
            "server_tool_use": ("input_json_delta", "partial_json"),
        }.get(block["type"], ("", ""))
        # As it stands in a whole body, so that both mean the same to the letter.
        text = json.dumps(block["input"]) if grows == "partial_json" else block.get(grows, "")
        empty: dict[str, Any] = {"input": {}} if grows == "partial_json" else {grows: ""} if grows else {}
        signature = {"signature": ""} if block["type"] == "thinking" else {}
        events.append(begin(index, **(block | empty | signature)))
        if text != "{}":
            events += [more(index, kind, **{grows: text[at : at + size]}) for at in range(0, len(text), size)]
        if signature:
            events.append(more(index, "signature_delta", signature=block["signature"]))
        events.append(event("content_block_stop", index=index))
    return events


@given(content, st.integers(1, 7), st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal"]))
def test_streamed_and_whole_answers_give_the_same_reply(
    blocks: list[dict[str, Any]], size: int, reason: str
) -> None:
    ours, theirs = streamed(*as_events(blocks, size), reason=reason), whole(blocks, reason)
    assert msgspec.structs.replace(ours, message=theirs.message) == theirs
    assert [loose(part) for part in ours.message.content] == [loose(part) for part in theirs.message.content]


def loose(part: object) -> object:
    """A native part without the white space of its JSON."""
    if not isinstance(part, Native):
        return part
    return (json.loads(part.data), part.text)


events_ = st.one_of(
    st.sampled_from([START, STOP, PING, end(), use(0), written(0, '{"a'), begin(1, type="text", text="x")]),
    st.builds(
        lambda kind, fields: json.dumps({"type": kind} | fields).encode(),
        st.sampled_from(
            ["message_start", "content_block_start", "content_block_delta", "message_delta", "x"]
        ),
        st.dictionaries(
            st.sampled_from(["index", "delta", "message", "content_block", "usage", "error"]),
            st.recursive(
                st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "text", "tool_use"]),
                lambda inner: (
                    st.lists(inner, max_size=2)
                    | st.dictionaries(
                        st.sampled_from(
                            ["type", "text", "thinking", "input", "name", "partial_json", "usage"]
                        ),
                        inner,
                        max_size=3,
                    )
                ),
                max_leaves=6,
            ),
            max_size=3,
        ),
    ),
    st.binary(max_size=20),
)


@given(st.lists(events_, max_size=8))
def test_whatever_arrives_ends_in_a_reply_or_a_driver_error(arriving: list[bytes]) -> None:
    parts = assembler()
    try:
        for each in arriving:
            parts.feed(each)
        reply = parts.reply()
    except DriverError:
        return
    assert msgspec.json.decode(msgspec.json.encode(reply), type=Reply) == reply
    assert all(isinstance(part, Text | Thinking | ToolCall | Native) for part in reply.message.content)
