"""Messages and their parts: what they say, and that they survive being written down."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.messages import (
    BlobRef,
    Document,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    tool_message,
    user_message,
)

WORDS = st.text(max_size=20)
BLOBS = st.builds(BlobRef, digest=WORDS, size=st.integers(0, 2**60), media_type=WORDS, preview=WORDS)
SHOWN = st.one_of(
    st.builds(Text, text=WORDS),
    st.builds(Image, blob=st.none() | BLOBS, url=WORDS),
    st.builds(Document, blob=st.none() | BLOBS, url=WORDS, name=WORDS),
)
RESULTS = st.builds(
    ToolResult,
    call_id=WORDS,
    name=WORDS,
    content=st.lists(SHOWN, max_size=3).map(tuple),
    status=st.sampled_from(["ok", "error", "denied", "cancelled", "in_doubt"]),
    provider_id=WORDS,
)
PARTS = st.one_of(
    SHOWN,
    RESULTS,
    st.builds(Thinking, text=WORDS, signature=WORDS, provider=WORDS, encrypted=WORDS),
    st.builds(ToolCall, id=WORDS, name=WORDS, arguments=WORDS, provider_id=WORDS),
)
MESSAGES = st.builds(
    Message,
    id=WORDS,
    role=st.sampled_from(["user", "assistant", "tool"]),
    content=st.lists(PARTS, max_size=4).map(tuple),
    phase=st.sampled_from(["", "commentary", "final_answer"]),
)
COUNTS = st.integers(0, 10**9)
USAGES = st.builds(
    Usage,
    input_tokens=COUNTS,
    output_tokens=COUNTS,
    cache_read_tokens=COUNTS,
    cache_write_tokens=COUNTS,
    reasoning_tokens=COUNTS,
)

CALL = ToolCall(id="call_a_1_0", name="add", arguments='{"a": 1}')
RESULT = ToolResult(
    call_id="call_a_1_0", name="add", content=(Text(text="4"), Image(url="u"), Text(text="2"))
)


@given(MESSAGES)
def test_a_message_survives_being_written_down(message: Message) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message


@given(USAGES, USAGES, USAGES)
def test_usage_adds_up_in_any_order(a: Usage, b: Usage, c: Usage) -> None:
    assert (a + b) + c == a + (b + c) == (c + b) + a
    assert (a + b).cache_write_tokens == a.cache_write_tokens + b.cache_write_tokens
    assert (a + b).reasoning_tokens == a.reasoning_tokens + b.reasoning_tokens
    assert a + Usage() == a


def test_the_words_of_a_message_leave_out_thinking_calls_and_images() -> None:
    parts = (Thinking(text="hm"), Text(text="It is "), CALL, Image(url="u"), Text(text="5."))
    assert Message(id="m", role="assistant", content=parts).text == "It is 5."


def test_the_words_of_a_tool_message_are_those_of_its_result() -> None:
    assert RESULT.text == "42"
    assert tool_message(RESULT).text == "42"


def test_the_calls_of_a_message_keep_the_models_order() -> None:
    other = ToolCall(id="call_a_1_1", name="sub", arguments="")
    message = Message(id="m", role="assistant", content=(CALL, Text(text="and"), other))
    assert message.calls == (CALL, other)
    assert user_message("hello").calls == ()


def test_every_fold_gives_a_result_the_same_message() -> None:
    assert tool_message(RESULT) == tool_message(RESULT)
    assert tool_message(RESULT).id == "message_a_1_0"
    assert tool_message(RESULT).role == "tool"


def test_words_and_parts_become_a_user_message_with_an_id_of_its_own() -> None:
    one, two = user_message("hi"), user_message((Text(text="hi"),))
    assert one.content == two.content == (Text(text="hi"),)
    assert one.role == "user"
    assert one.id != two.id
    assert one.id.startswith("message_")


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        user_message("hi").role = "tool"  # type: ignore[misc]


def test_what_is_empty_takes_no_room_in_the_log() -> None:
    assert msgspec.json.encode(Message(id="m", role="user", content=())) == (
        b'{"id":"m","role":"user","content":[]}'
    )
    assert msgspec.json.encode(Usage()) == b"{}"
