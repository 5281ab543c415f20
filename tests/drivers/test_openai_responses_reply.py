"""How events and bodies become a `Reply`, and the oddities of servers that speak Responses."""

import itertools
import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.driver import DeltaKind, Reply
from holdfast.drivers.failures import Peer
from holdfast.drivers.openai_reply import ReplyAssembler
from holdfast.errors import DriverError
from holdfast.messages import Image, Native, Text, Thinking, ToolCall, Usage

Told = list[tuple[DeltaKind, str, int]]
Item = dict[str, Any]


def assembler(told: Told | None = None) -> ReplyAssembler:
    log: Told = [] if told is None else told
    return ReplyAssembler(
        "openai", Peer("example.com"), lambda kind, piece, index: log.append((kind, piece, index))
    )


def event(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind} | fields).encode()


def response(*output: Item, status: str = "completed", **more: Any) -> Item:
    return {
        "object": "response",
        "id": "resp_1",
        "model": "m-1",
        "status": status,
        "output": list(output),
    } | more


def ended(*output: Item, status: str = "completed", **more: Any) -> bytes:
    return event(f"response.{status}", response=response(*output, status=status, **more))


def streamed(*events: bytes, told: Told | None = None) -> Reply:
    parts = assembler(told)
    for each in events:
        parts.feed(each)
    return parts.reply()


def whole(*output: Item, told: Told | None = None, **more: Any) -> Reply:
    parts = assembler(told)
    parts.whole(json.dumps(response(*output, **more)).encode(), "application/json")
    return parts.reply()


def message(text: str = "Hello", **more: Any) -> Item:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]} | more


def refusal(text: str = "No.") -> Item:
    return message(content=[{"type": "refusal", "refusal": text}])


def call(call_id: str = "call_1", name: str = "f", arguments: str = "{}") -> Item:
    return {"type": "function_call", "id": "fc", "call_id": call_id, "name": name, "arguments": arguments}


def thought(*summary: str, **more: Any) -> Item:
    told = [{"type": "summary_text", "text": text} for text in summary]
    return {"type": "reasoning", "id": "rs_1", "summary": told, "encrypted_content": "secret"} | more


def added(at: int, item: Item) -> bytes:
    return event("response.output_item.added", output_index=at, item=item)


def done(at: int, item: Item) -> bytes:
    return event("response.output_item.done", output_index=at, item=item)


def delta(kind: str, piece: str, at: int = 0, **more: Any) -> bytes:
    return event(f"response.{kind}.delta", output_index=at, delta=piece, **more)


# -- words


def test_a_streamed_and_a_whole_answer_give_the_same_reply() -> None:
    told: Told = []
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 5},
    }
    items = (thought("First.", "Second."), message(phase="final_answer"), call(arguments='{"a":1}'))
    events = (
        event("response.created", response=response(status="in_progress")),
        added(0, thought()),
        delta("reasoning_summary_text", "First.", summary_index=0),
        delta("reasoning_summary_text", "Sec", summary_index=1),
        delta("reasoning_summary_text", "ond.", summary_index=1),
        done(0, items[0]),
        added(1, message("")),
        delta("output_text", "Hel", 1),
        delta("output_text", "lo", 1),
        done(1, items[1]),
        added(2, call(arguments="")),
        delta("function_call_arguments", '{"a"', 2),
        delta("function_call_arguments", ":1}", 2),
        done(2, items[2]),
        ended(*items, usage=usage),
    )
    found = streamed(*events, told=told)
    assert found == whole(*items, usage=usage)
    assert told == [
        ("thinking", "First.", 0),
        ("thinking", "\n\n", 0),
        ("thinking", "Sec", 0),
        ("thinking", "ond.", 0),
        ("text", "Hel", 0),
        ("text", "lo", 0),
        ("arguments", '{"a"', 0),
        ("arguments", ":1}", 0),
    ]
    assert found.usage == Usage(
        input_tokens=10, output_tokens=7, cache_read_tokens=4, cache_write_tokens=3, reasoning_tokens=5
    )
    assert (found.model, found.response_id, found.stop) == ("m-1", "resp_1", "tool_calls")
    assert found.message.phase == "final_answer"
    assert [type(part) for part in found.message.content] == [Thinking, Text, ToolCall]


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([ended(message())], id="only the end"),
        pytest.param([done(0, message()), ended()], id="an end without the items"),
        pytest.param([delta("output_text", "Hel"), done(0, message()), ended()], id="a piece is missing"),
        pytest.param(
            [added(0, message("")), delta("output_text", "Hel"), delta("output_text", "lo"), ended()],
            id="an item that is never done",
        ),
        pytest.param([delta("output_text", "Hello"), ended(message())], id="an item that never begins"),
        pytest.param([delta("output_text", "Hello"), ended()], id="nothing but pieces"),
    ],
)
def test_what_a_server_leaves_out_is_told_and_kept_all_the_same(events: list[bytes]) -> None:
    told: Told = []
    found = streamed(*events, told=told)
    assert found.message.text == "Hello"
    assert "".join(piece for _, piece, _ in told) == "Hello"


def test_each_message_item_is_a_text_of_its_own_and_the_last_phase_is_the_messages() -> None:
    found = whole(message("Wait.", phase="commentary"), message("Done.", phase="final_answer"))
    assert found.message.content == (Text(text="Wait."), Text(text="Done."))
    assert found.message.phase == "final_answer"
    assert whole(message("x", phase="something new")).message.phase == ""
    assert whole(message("x", phase=None)).message.phase == ""


def test_the_pieces_of_one_message_item_are_one_text() -> None:
    parts = [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]
    assert whole(message(content=parts)).message.content == (Text(text="ab"),)


def test_a_refusal_is_read_and_is_the_reason_to_stop() -> None:
    told: Told = []
    found = streamed(delta("refusal", "N"), delta("refusal", "o."), done(0, refusal()), ended(), told=told)
    assert (found.message.text, found.stop) == ("No.", "refusal")
    assert told == [("text", "N", 0), ("text", "o.", 0)]
    assert whole(refusal()) == found


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("max_output_tokens", "max_tokens"), ("content_filter", "refusal"), ("max_turns", "max_tokens")],
)
def test_an_answer_that_ended_early_says_why(reason: str, stop: str) -> None:
    details = {"incomplete_details": {"reason": reason}}
    assert streamed(ended(message(), status="incomplete", **details)).stop == stop
    assert whole(message(), status="incomplete", **details).stop == stop
    assert whole(message(), call(), status="incomplete", **details).stop == stop
    assert whole(message(), status="incomplete").stop == "max_tokens"


def test_line_separators_and_astral_characters_are_ordinary_text() -> None:
    text = "a\u2028b\u2029c\x85d\U0001f600"
    raw = json.dumps({"type": "response.output_text.delta", "delta": text}, ensure_ascii=False).encode()
    assert streamed(raw, ended(message(text))).message.text == text


def test_a_surrogate_pair_cut_in_two_is_made_whole_by_the_finished_item() -> None:
    halves = [b'{"type":"response.output_text.delta","delta":"\\ud83d"}', delta("output_text", "x")]
    assert streamed(*halves, done(0, message("\U0001f600x")), ended()).message.text == "\U0001f600x"


def test_usage_that_is_missing_is_zero() -> None:
    assert whole(message()).usage == Usage()
    assert whole(message(), usage={"input_tokens": 3.0, "output_tokens_details": None}).usage == Usage(
        input_tokens=3
    )


# -- calls


@given(arguments=st.text(), cuts=st.lists(st.integers(0, 40), max_size=10))
def test_arguments_are_put_together_from_any_split(arguments: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(arguments)) for cut in cuts), len(arguments)]
    pieces = [arguments[start:end] for start, end in itertools.pairwise(edges)]
    told: Told = []
    events = [added(0, call(arguments=""))]
    events += [delta("function_call_arguments", piece) for piece in pieces]
    found = streamed(*events, ended(), told=told)
    expected = json.loads(json.dumps(arguments).encode().decode()) or "{}"
    assert found.message.calls[0].arguments == expected
    assert "".join(piece for _, piece, _ in told) == arguments


def test_parallel_calls_that_come_interleaved_are_kept_apart_and_in_order() -> None:
    told: Told = []
    found = streamed(
        added(0, thought()),
        added(1, call("a", "f", "")),
        added(2, call("b", "g", "")),
        delta("function_call_arguments", '{"x"', 1),
        delta("function_call_arguments", "{", 2),
        delta("function_call_arguments", ":1}", 1),
        delta("function_call_arguments", "}", 2),
        done(2, call("b", "g", "{}")),
        done(1, call("a", "f", '{"x":1}')),
        done(0, thought()),
        ended(),
        told=told,
    )
    assert [(each.name, each.arguments, each.provider_id) for each in found.message.calls] == [
        ("f", '{"x":1}', "a"),
        ("g", "{}", "b"),
    ]
    assert [(piece, index) for _, piece, index in told] == [('{"x"', 0), ("{", 1), (":1}", 0), ("}", 1)]


def test_a_call_of_a_custom_tool_is_a_call_with_its_input_as_the_argument() -> None:
    item = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": 'say "hi"'}
    told: Told = []
    found = streamed(added(0, item | {"input": ""}), done(0, item), ended(), told=told)
    assert json.loads(found.message.calls[0].arguments) == {"input": 'say "hi"'}
    assert (found.stop, found.message.calls[0].name) == ("tool_calls", "patch")
    assert told == [("arguments", found.message.calls[0].arguments, 0)]
    assert found.message.calls[0].provider_id == "ctc_c"
    assert whole(item) == found


def test_a_call_without_a_name_is_a_broken_stream() -> None:
    with pytest.raises(DriverError, match="without a name") as caught:
        whole(call(name=""))
    assert caught.value.kind == "broken_stream"


# -- reasoning and what runs at the provider


def test_a_reasoning_item_is_kept_exactly_as_it_came_with_its_summary_to_read() -> None:
    raw = '{"id":"1", "type":"reasoning","summary":[{"type":"summary_text","text":"\\u00e9"}],"encrypted_content":"A"}'
    body = '{"status":"completed","output":[' + raw + "]}"
    parts = assembler()
    parts.whole(body.encode(), "application/json")
    assert parts.reply().message.content == (Thinking(text="é", provider="openai", encrypted=raw),)


def test_reasoning_that_is_not_summed_up_is_read_whole() -> None:
    item = thought(content=[{"type": "reasoning_text", "text": "because"}])
    told: Told = []
    found = streamed(
        delta("reasoning_text", "be", content_index=0),
        delta("reasoning_text", "cause", content_index=0),
        done(0, item),
        ended(),
        told=told,
    )
    assert [part.text for part in found.message.content if isinstance(part, Thinking)] == ["because"]
    assert told == [("thinking", "be", 0), ("thinking", "cause", 0)]
    assert whole(item) == found


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (
            {"type": "web_search_call", "id": "ws", "action": {"type": "search", "query": "snow"}},
            "[web search: snow]",
        ),
        (
            {"type": "web_search_call", "id": "ws", "action": {"url": "https://e.com"}},
            "[web search: https://e.com]",
        ),
        (
            {"type": "code_interpreter_call", "id": "ci", "code": "1+1", "outputs": None},
            "[code interpreter: 1+1]",
        ),
        ({"type": "file_search_call", "queries": ["a", "b"], "results": None}, "[file search: a, b]"),
        ({"type": "mcp_call", "name": "ask", "arguments": "{}", "output": "42"}, "[mcp: ask {}: 42]"),
        ({"type": "mcp_list_tools", "tools": []}, ""),
        ({"type": "something_new", "field": [1, {"x": None}]}, ""),
        ({"type": "compaction", "encrypted_content": "AA"}, ""),
    ],
)
def test_what_ran_at_the_provider_is_kept_untouched_at_its_place(item: Item, told: str) -> None:
    found = streamed(added(0, item), done(0, item), done(1, message()), ended())
    first, second = found.message.content
    assert isinstance(first, Native)
    assert (json.loads(first.data), first.provider, first.text) == (item, "openai", told)
    assert second == Text(text="Hello")
    assert found.stop == "end_turn"
    assert whole(item, message()) == found


def test_the_words_about_a_native_item_are_short_however_much_it_holds() -> None:
    item = {"type": "mcp_call", "name": "ask", "arguments": "{}", "output": "x" * 100_000}
    (native,) = whole(item).message.content
    assert isinstance(native, Native)
    assert len(native.text) <= 2002
    assert json.loads(native.data) == item


def test_a_picture_that_was_made_is_an_image_after_its_item_and_is_not_kept_twice() -> None:
    item = {
        "type": "image_generation_call",
        "id": "ig",
        "status": "completed",
        "result": "AAAA",
        "output_format": "webp",
    }
    native, image = whole(item).message.content
    assert image == Image(url="data:image/webp;base64,AAAA")
    assert isinstance(native, Native)
    assert json.loads(native.data) == {name: value for name, value in item.items() if name != "result"}


def test_a_tool_at_work_over_there_is_progress_and_a_sign_of_life_is_not() -> None:
    parts = assembler()
    assert parts.feed(event("response.web_search_call.searching"))
    assert parts.feed(event("response.image_generation_call.partial_image", partial_image_b64="AA"))
    assert parts.feed(delta("output_text", "x"))
    for idle in ("response.in_progress", "response.queued", "keepalive", "response.output_text.done", "ping"):
        assert not parts.feed(event(idle))
    assert not parts.feed(delta("output_text", ""))
    assert not parts.feed(event("response.created", response=response()))


# -- failures


@pytest.mark.parametrize(
    ("code", "words", "kind"),
    [
        ("server_error", "oops", "server_error"),
        ("rate_limit_exceeded", "slow down", "rate_limit"),
        ("invalid_prompt", "bad", "invalid_request"),
        ("invalid_prompt", "Your prompt was flagged as violating", "content_policy"),
        ("image_content_policy_violation", "no", "content_policy"),
        ("bio_policy", "no", "content_policy"),
        ("invalid_image", "no image", "invalid_request"),
        ("vector_store_timeout", "slow", "timeout"),
        ("context_length_exceeded", "too long", "too_large"),
        ("insufficient_quota", "pay", "quota"),
        ("server_is_overloaded", "no room", "overloaded"),
        ("something_new", "what", "server_error"),
    ],
)
def test_a_failure_has_its_kind_wherever_it_is_told(code: str, words: str, kind: str) -> None:
    error = {"code": code, "message": words}
    ways = (
        lambda: streamed(ended(status="failed", error=error)),
        lambda: streamed(event("error", **error, param=None, sequence_number=3)),
        lambda: streamed(event("error", error={"type": "x"} | error)),
        lambda: streamed(json.dumps({"error": error}).encode()),
        lambda: whole(status="failed", error=error),
    )
    for way in ways:
        with pytest.raises(DriverError, match=words) as caught:
            way()
        assert caught.value.kind == kind


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_response_that_failed_without_a_reason_is_a_failure(status: str) -> None:
    for way in (lambda: streamed(ended(status=status)), lambda: whole(status=status)):
        with pytest.raises(DriverError, match=status) as caught:
            way()
        assert caught.value.kind == "server_error"


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_that_is_not_finished_is_no_answer(status: str) -> None:
    with pytest.raises(DriverError, match="not finished"):
        whole(message(), status=status)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [delta("output_text", "Hel")],
        [done(0, message())],
        [done(0, message()), b"[DONE]"],
        [event("response.in_progress", response=response(status="in_progress"))],
    ],
)
def test_a_stream_without_its_terminal_event_is_broken(events: list[bytes]) -> None:
    with pytest.raises(DriverError, match="before the model had finished") as caught:
        streamed(*events)
    assert caught.value.kind == "broken_stream"


@pytest.mark.parametrize(
    "data",
    [
        b"{oops",
        b"[]",
        b'{"type":"response.output_item.done","item":{"type":3}}',
        b'{"type":"response.output_item.done","item":null}',
        b'{"type":"response.output_item.done","item":{"type":"message","content":3}}',
        b'{"type":"response.completed","response":{"output":{}}}',
        b'{"type":"response.completed","response":null}',
        b'{"type":"response.output_text.delta","delta":' + b"[" * 100_000,
    ],
)
def test_an_event_that_cannot_be_read_is_a_broken_stream(data: bytes) -> None:
    with pytest.raises(DriverError) as caught:
        streamed(data, ended())
    assert caught.value.kind == "broken_stream"


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"null", b'{"object":"list","data":[]}'])
def test_a_body_that_is_not_this_protocol_is_no_answer(body: bytes) -> None:
    with pytest.raises(DriverError, match="not an answer") as caught:
        assembler().whole(body, "application/json")
    assert caught.value.kind == "server_error"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from([*sorted(assembler()._takes), "response.web_search_call.searching", "ping"])
fields = st.sampled_from(["delta", "item", "response", "output_index", "summary_index", "error", "code"])
kinds = st.sampled_from(
    ["message", "reasoning", "function_call", "custom_tool_call", "image_generation_call"]
)
keys = st.sampled_from(
    [
        "content",
        "summary",
        "name",
        "arguments",
        "call_id",
        "result",
        "phase",
        "input",
        "output",
        "status",
        "error",
    ]
)
things = st.builds(lambda kind, more: {"type": kind} | more, kinds, st.dictionaries(keys, values, max_size=4))


@given(
    st.lists(
        st.builds(
            lambda kind, more: json.dumps({"type": kind} | more).encode(),
            names,
            st.dictionaries(fields, values | things, max_size=4),
        ),
        max_size=8,
    )
)
def test_whatever_a_server_sends_there_is_a_reply_or_a_driver_error(events: list[bytes]) -> None:
    with suppress(DriverError):
        msgspec.json.encode(streamed(*events, ended()))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_event_are_refused(data: bytes) -> None:
    with suppress(DriverError):
        streamed(data, ended(message()))
