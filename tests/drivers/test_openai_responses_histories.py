"""Whatever history there is, what is sent satisfies the rules of the Responses API."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.driver import Previous, Request, Transcript
from holdfast.drivers.openai import OpenAI, Options
from holdfast.fold import fold
from holdfast.messages import (
    BlobRef,
    Document,
    Image,
    Message,
    Native,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    tool_message,
    user_message,
)
from holdfast.turn.repair import repair
from tests.drivers.grammar_openai import problems
from tests.recorded import SCENES, log

PNG = b"\x89PNG\r\n\x1a\n..."
BLOBS = {"sha256:png": PNG, "sha256:text": b"hello"}

ids = st.sampled_from([f"call_{'0' * 32}_1_{number}" for number in range(3)] + [""])
texts = st.sampled_from(["", "some words", "a\u2028b"])
blobs = st.builds(
    BlobRef,
    digest=st.sampled_from([*BLOBS, "sha256:missing"]),
    size=st.just(5),
    media_type=st.sampled_from(["image/png", "text/plain", "application/pdf"]),
)
urls = st.sampled_from(
    ["https://a.example/b.png", "data:image/png;base64,iVBORw0KGgo=", "data:,x", "data:broken"]
)
media: st.SearchStrategy[Image | Document] = st.one_of(
    st.builds(Image, blob=blobs),
    st.builds(Image, url=urls),
    st.builds(Document, blob=blobs, name=texts),
    st.builds(Document, url=urls, name=texts),
)
results = st.builds(
    lambda call, content, provider: ToolResult(
        call_id=call, name="look", content=tuple(content), provider_id=provider
    ),
    ids,
    st.lists(st.builds(Text, text=texts) | media, max_size=2),
    st.sampled_from(["", "p1", "p" * 100]),
)
vendors = st.sampled_from(["openai", "anthropic", "gemini", "openai-chat/reasoning"])
items = st.sampled_from(
    [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "x"}},
        {"type": "image_generation_call", "id": "ig_1", "status": "completed"},
        {"type": "mcp_approval_request", "id": "mcpr_1"},
        {"type": "computer_call", "call_id": "c1"},
        {"type": "shell_call", "call_id": "s1"},
        {"type": "shell_call_output", "call_id": "s1", "output": []},
        {"type": "compaction", "encrypted_content": "A"},
        ["not an item"],
    ]
)
reasoning = st.sampled_from(
    [
        '{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"A"}',
        '{"type":"reasoning","id":"rs_2","summary":[],"encrypted_content":null}',
        '{"type":"reasoning","id":"rs_3","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]}',
        "{broken",
        "",
    ]
)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, text=texts),
    st.builds(Thinking, text=texts, provider=vendors, encrypted=reasoning, signature=st.just("signed")),
    st.builds(Native, provider=vendors, data=items.map(json.dumps), text=texts),
    st.builds(
        ToolCall,
        id=ids,
        name=st.sampled_from(["look", "made up: näme", "", "x" * 100]),
        arguments=st.sampled_from(["{}", "", "{", "[1]", '{"a": NaN}']),
        provider_id=st.sampled_from(["", "p1", "ctc_p2", "ctc_", "p" * 100]),
    ),
    results,
    media,
)
messages = st.one_of(
    st.builds(
        Message,
        id=st.just("message_m"),
        role=st.sampled_from(["user", "assistant", "assistant", "tool"]),
        content=st.lists(parts, max_size=6).map(tuple),
        phase=st.sampled_from(["", "commentary", "final_answer"]),
    ),
    results.map(tool_message),
)
histories = st.lists(messages, max_size=8).map(lambda rest: repair([user_message("hello"), *rest]))


def encoded(history: list[Message], model: str, *, store: bool, **fields: Any) -> dict[str, Any]:
    driver = OpenAI(options=Options(store=store))
    body = driver.encode(Request(model=model, messages=Transcript(history), blobs=BLOBS, **fields))
    decoded: dict[str, Any] = json.loads(body)
    return decoded


@given(histories, st.sampled_from(["gpt-5.4", "gpt-4o"]), st.booleans())
def test_any_history_is_encoded_within_the_grammar(history: list[Message], model: str, store: bool) -> None:
    body = encoded(history, model, store=store)
    assert problems(body) == []
    assert problems(encoded(history, model, store=store)) == []


@given(histories, st.data())
def test_any_continuation_is_encoded_within_the_grammar(history: list[Message], data: st.DataObject) -> None:
    answers = [place for place, message in enumerate(history) if message.role == "assistant"]
    covers = data.draw(st.sampled_from(answers)) + 1 if answers else 0
    previous = Previous(response_id="resp_1", covers=covers)
    body = encoded(history, "gpt-5.4", store=True, previous=previous)
    assert problems(body) == []
    assert body["previous_response_id"] == "resp_1"
    whole = encoded(history, "gpt-5.4", store=True)["input"]
    assert whole[len(whole) - len(body["input"]) :] == body["input"]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("model", ["gpt-5.4", "gpt-4o"])
def test_a_log_of_our_loop_is_encoded_within_the_grammar(scene: str, model: str) -> None:
    events = log(scene)
    history = repair(fold(events[0].session_id, events).messages)
    body = encoded(history, model, store=False)
    assert problems(body) == []
    assert len(body["input"]) >= len(history)


CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "a", "output": "x"}
THOUGHT = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "A"}
ASKED = {"role": "user", "content": "hi"}
SAID = {"role": "assistant", "content": "ho"}


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([], "empty"),
        ([ASKED, CALL], "without its output"),
        ([ASKED, OUTPUT], "without its call"),
        ([ASKED, OUTPUT, CALL], "without its call"),
        ([ASKED, CALL, OUTPUT, OUTPUT], "without its call"),
        ([ASKED, CALL, {**OUTPUT, "type": "custom_tool_call_output"}], "without its call"),
        ([ASKED, CALL, OUTPUT, CALL, OUTPUT], "twice"),
        ([ASKED, CALL, ASKED, OUTPUT], "speaks before"),
        ([ASKED, THOUGHT], "that it led to"),
        ([ASKED, THOUGHT, ASKED], "that it led to"),
        ([ASKED, {**THOUGHT, "encrypted_content": None}, SAID], "does not have"),
        ([ASKED, {"type": "mcp_approval_request"}], "not known"),
        ([ASKED, {"type": "image_generation_call"}], "without its bytes"),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": None, "detail": "auto"}]}],
            "piece",
        ),
        ([{"role": "user", "content": "x", "phase": "commentary"}], "phase"),
        ([{"role": "system", "content": "x"}], "role"),
        ([ASKED, {**CALL, "call_id": "c" * 65}, {**OUTPUT, "call_id": "c" * 65}], "65 characters"),
        ([ASKED, {**CALL, "name": "a b"}, OUTPUT], "a name that is none"),
    ],
)
def test_the_grammar_sees_what_the_server_refuses(items: list[dict[str, Any]], problem: str) -> None:
    assert any(problem in found for found in problems({"input": items, "store": False}))


def test_the_grammar_takes_what_the_server_takes() -> None:
    good = [ASKED, THOUGHT, {**SAID, "phase": "commentary"}, CALL, OUTPUT, THOUGHT, THOUGHT, SAID, ASKED]
    assert problems({"input": good, "store": False}) == []
    assert problems({"input": [OUTPUT], "previous_response_id": "r"}) == []
