"""What the Chat Completions driver sends: the official types, settings, and the rules of history."""

import json
from typing import Any

import pytest
from openai.types.chat import completion_create_params
from pydantic import TypeAdapter

from holdfast.driver import Request, Settings, Transcript
from holdfast.drivers.openai_chat import Dialect, OpenAIChat, Options
from holdfast.errors import ConfigError, DriverError
from holdfast.messages import (
    BlobRef,
    Document,
    Image,
    Message,
    Text,
    Thinking,
    user_message,
)
from holdfast.turn.repair import repair
from tests.drivers.asked import CLOCK, WEATHER, call, result, said, walked

# -- the official types


def official(body: dict[str, Any]) -> Any:
    """The body as the official client's types understand it, without what they do not know. Raises for wrong ones."""
    kind = "Streaming" if body.get("stream") else "NonStreaming"
    shape = getattr(completion_create_params, f"CompletionCreateParams{kind}")
    adapter = TypeAdapter(shape)  # must outlive the walk
    return walked(adapter.validate_python(body))


RICH = [
    user_message((Text(text="What is this?"), Image(url="https://example.com/cat.png"))),
    user_message((Text(text="And this?"), Document(url="data:application/pdf;base64,AA==", name="a.pdf"))),
    said(
        Thinking(text="hm", provider="openai-chat/reasoning"),
        Text(text="Let me look."),
        call(0),
        call(1, "not json"),
    ),
    result(call(0)),
    result(call(1), Text(text="broken "), Image(url="https://example.com/x.png")),
    said(Text(text="Sunny.")),
    user_message("thanks"),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("choice", [None, "auto", "none", "required", "clock"])
def test_the_official_types_accept_a_rich_request(stream: bool, choice: str | None) -> None:
    settings = Settings(
        temperature=0.2,
        top_p=0.9,
        max_tokens=100,
        reasoning_effort="low",
        tool_choice=choice,
        parallel_calls=False,
        stop=("END",),
    )
    request = Request(
        model="gpt-5",
        messages=Transcript(RICH),
        instructions="Be brief.",
        tools=(WEATHER, CLOCK),
        settings=settings,
        stream=stream,
    )
    body = json.loads(OpenAIChat().encode(request))
    # `reasoning` goes back to servers that gave it; the official types do not know it.
    body["messages"] = [
        {name: value for name, value in entry.items() if name != "reasoning"} for entry in body["messages"]
    ]
    assert official(body) == body
    assert body["max_completion_tokens"] == 100
    assert body["stop"] == ["END"]
    assert body["parallel_tool_calls"] is False
    assert body.get("tool_choice") == (
        {"type": "function", "function": {"name": "clock"}} if choice == "clock" else choice
    )


def test_the_official_types_refuse_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="role"):
        official({"model": "m", "stream": True, "messages": [{"role": "nobody", "content": "x"}]})


# -- settings and dialects


def encoded(*messages: Message, driver: OpenAIChat | None = None, **fields: Any) -> dict[str, Any]:
    request = Request(model="m", messages=Transcript(messages or [user_message("hi")]), **fields)
    body = (driver or OpenAIChat()).encode(request)
    decoded: dict[str, Any] = json.loads(body)
    return decoded


def test_what_is_not_set_is_not_sent() -> None:
    assert encoded(stream=False) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
    }


def test_settings_about_tools_are_sent_only_with_tools() -> None:
    settings = Settings(tool_choice="required", parallel_calls=True)
    assert {"tool_choice", "parallel_tool_calls"}.isdisjoint(encoded(settings=settings))
    with_tools = encoded(settings=settings, tools=(CLOCK,))
    assert with_tools["tool_choice"] == "required"
    assert with_tools["parallel_tool_calls"] is True


@pytest.mark.parametrize(
    ("base_url", "limit", "asks_usage"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens", True),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens", True),
        ("https://api.mistral.ai/v1", "max_tokens", False),
        ("https://api.deepseek.com", "max_tokens", True),
        ("http://localhost:11434/v1", "max_tokens", True),
    ],
)
def test_each_host_gets_the_settings_it_understands(base_url: str, limit: str, asks_usage: bool) -> None:
    body = encoded(driver=OpenAIChat(base_url=base_url), settings=Settings(max_tokens=7))
    assert body[limit] == 7
    assert len({"max_tokens", "max_completion_tokens"} & set(body)) == 1
    assert body.get("stream_options") == ({"include_usage": True} if asks_usage else None)


def test_a_dialect_that_is_given_wins_over_the_host() -> None:
    body = encoded(
        driver=OpenAIChat(options=Options(dialect=Dialect(stream_usage=False))),
        settings=Settings(max_tokens=7),
    )
    assert body["max_tokens"] == 7
    assert "stream_options" not in body


def test_equal_requests_have_equal_bytes_and_the_body_is_what_is_encoded_after_more_history() -> None:
    driver = OpenAIChat()
    transcript = Transcript([user_message("one")])
    request = Request(model="m", messages=transcript, tools=(WEATHER,), instructions="Be brief.")
    first = driver.encode(request)
    assert driver.encode(request) == first
    transcript.extend([said(Text(text="two")), user_message("three")])
    later = json.loads(driver.encode(request))
    assert [entry["content"] for entry in later["messages"]] == ["Be brief.", "one", "two", "three"]
    assert later["tools"] == json.loads(first)["tools"]


def test_a_lone_surrogate_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(DriverError, match="lone surrogate") as caught:
        encoded(user_message("\ud800"))
    assert caught.value.kind == "invalid_request"


# -- history


def test_calls_and_results_are_paired_by_the_providers_id_or_else_by_ours_within_the_length_allowed() -> None:
    theirs, ours = call(0, provider_id="toolu_1"), call(1)
    body = encoded(said(theirs, ours), result(theirs), result(ours))
    ids = [entry["id"] for entry in body["messages"][0]["tool_calls"]]
    assert ids[0] == "toolu_1"
    assert len(ids[1]) <= 40
    assert [entry["tool_call_id"] for entry in body["messages"][1:]] == ids


def test_ids_that_repair_had_to_make_up_are_kept_within_the_length_allowed_and_apart() -> None:
    first, second = call(0, provider_id="same"), call(1, provider_id="same")
    mended = repair([said(first, second, call(2)), result(first), result(second), result(call(2))])
    body = encoded(*mended)
    ids = [entry["id"] for entry in body["messages"][0]["tool_calls"]]
    assert [entry["tool_call_id"] for entry in body["messages"][1:]] == ids
    assert len(set(ids)) == 3
    assert max(map(len, ids)) <= 40


def test_an_id_that_the_provider_gave_goes_back_untouched_however_long() -> None:
    long = call(0, provider_id="call_" + "x" * 300)
    body = encoded(said(long), result(long))
    assert (
        body["messages"][0]["tool_calls"][0]["id"] == long.provider_id == body["messages"][1]["tool_call_id"]
    )


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ("  ", {}),
        ('{"a": ', {"invalid_arguments": '{"a": '}),
        ("[1]", {"invalid_arguments": "[1]"}),
        ('{"a": NaN}', {"invalid_arguments": '{"a": NaN}'}),
        ("[" * 5000, {"invalid_arguments": "[" * 5000}),
    ],
)
def test_arguments_that_are_no_object_do_not_break_the_request(written: str, sent: dict[str, Any]) -> None:
    body = encoded(said(call(0, written)), result(call(0)))
    assert json.loads(body["messages"][0]["tool_calls"][0]["function"]["arguments"]) == sent


def test_valid_arguments_are_sent_as_they_were_written() -> None:
    written = '{"b" : 1,\n "a":"\\u00e9"}'
    body = encoded(said(call(0, written)), result(call(0)))
    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == written


def test_a_message_without_words_has_null_content_beside_calls_and_empty_content_alone() -> None:
    body = encoded(said(call(0)), result(call(0)), said())
    assert body["messages"][0]["content"] is None
    assert body["messages"][2]["content"] == ""


def test_what_cannot_be_shown_is_named_so_that_the_model_knows_of_it() -> None:
    blob = BlobRef(digest="sha256:00", size=2048, media_type="image/png")
    body = encoded(
        user_message((Text(text="Look:"), Image(blob=blob), Document(blob=blob, name="plan.pdf"))),
        user_message((Document(url="https://example.com/a.pdf", name="a.pdf"),)),
        said(call(0)),
        result(call(0), Text(text="see "), Image(url="https://example.com/x.png"), Image(blob=blob)),
    )
    shown = [piece["text"] for piece in body["messages"][0]["content"]]
    assert shown == [
        "Look:",
        "[image, image/png, 2048 bytes: its content cannot be shown here]",
        "[document plan.pdf, image/png, 2048 bytes: its content cannot be shown here]",
    ]
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": "[document a.pdf: https://example.com/a.pdf]"}
    ]
    tool_text = body["messages"][3]["content"]
    assert tool_text.startswith("see [image: https://example.com/x.png][image, image/png")


def test_a_data_url_in_a_result_is_not_poured_into_the_text() -> None:
    body = encoded(said(call(0)), result(call(0), Image(url="data:image/png;base64,AAAA")))
    assert body["messages"][1]["content"] == "[image: its content cannot be shown here]"


def test_only_a_server_that_fetches_files_is_given_a_documents_address() -> None:
    message = user_message((Document(url="https://example.com/a.pdf", name="a.pdf"),))
    body = encoded(message, driver=OpenAIChat(base_url="https://openrouter.ai/api/v1"))
    assert body["messages"][0]["content"] == [
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://example.com/a.pdf"}}
    ]


# -- reasoning that goes back


def thought(name: str, vendor: str = "openai-chat", **fields: str) -> Thinking:
    return Thinking(**({"text": "because", "provider": f"{vendor}/{name}"} | fields))  # type: ignore[arg-type]


def test_reasoning_content_goes_back_on_every_message_and_the_other_kinds_only_beside_calls() -> None:
    plain = encoded(
        said(thought("reasoning_content"), Text(text="so")), said(thought("reasoning"), Text(text="so"))
    )
    assert plain["messages"] == [
        {"role": "assistant", "content": "so", "reasoning_content": "because"},
        {"role": "assistant", "content": "so"},
    ]
    beside = encoded(said(thought("reasoning"), call(0)), result(call(0)))
    assert beside["messages"][0]["reasoning"] == "because"


def test_another_vendors_reasoning_is_never_shown() -> None:
    foreign = [
        thought("reasoning_content", vendor="deepseek"),
        thought("reasoning_details", vendor="anthropic", signature="sig"),
        Thinking(text="because", provider="anthropic", signature="sig"),
        Thinking(text="because"),
    ]
    body = encoded(said(*foreign, Text(text="so"), call(0)), result(call(0)))
    assert set(body["messages"][0]) == {"role", "content", "tool_calls"}
    assert "because" not in json.dumps(body)


def test_reasoning_details_go_back_entry_by_entry_as_they_came() -> None:
    body = encoded(
        said(
            thought("reasoning_details", signature="s1", encrypted='{"type":"reasoning.text","index":0}'),
            thought("reasoning_details", encrypted='{"type":"reasoning.summary","index":1}'),
            Thinking(
                provider="openai-chat/reasoning_details",
                encrypted='{"type":"reasoning.encrypted","data":"AA","id":"r"}',
            ),
            call(0),
        ),
        result(call(0)),
    )
    assert body["messages"][0]["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "text": "because", "signature": "s1"},
        {"type": "reasoning.summary", "index": 1, "summary": "because"},
        {"type": "reasoning.encrypted", "data": "AA", "id": "r"},
    ]


def test_mistrals_thoughts_go_back_as_the_chunks_they_were() -> None:
    body = encoded(said(thought("thinking"), Text(text="so"), call(0)), result(call(0)))
    assert body["messages"][0]["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "because"}]},
        {"type": "text", "text": "so"},
    ]


# -- the address


@pytest.mark.parametrize(
    "base_url",
    [
        "https://user:secret@example.com/v1",
        "https://secret@example.com",
        "ftp://example.com",
        "example.com/v1",
        "",
        "http://",
    ],
)
def test_a_base_url_that_is_no_plain_web_address_is_refused_without_repeating_its_secret(
    base_url: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIChat(base_url=base_url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("headers", [{"x-key": "a\nb"}, {"x key": "a"}, {"x-key": "é"}, {"x-key": ""}])
def test_a_header_that_cannot_be_sent_is_refused_by_name(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(headers))):
        OpenAIChat(headers=headers)
