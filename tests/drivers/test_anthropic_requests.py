"""What the Anthropic driver sends: the official types, settings, and the rules of history."""

import base64
import json
import re
from typing import Any

import pytest
from anthropic.types import message_create_params
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from holdfast.driver import OutputSpec, Request, Settings, ToolSpec, Transcript
from holdfast.drivers.anthropic import Anthropic, Options
from holdfast.drivers.anthropic_settings import MAX_TOKENS
from holdfast.errors import ConfigError, DriverError
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
from tests.drivers.asked import CLOCK, WEATHER, call, result, said, walked
from tests.drivers.grammar_anthropic import check

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.4 a page"
BLOBS = {"sha256:png": PNG, "sha256:pdf": PDF, "sha256:txt": b"some notes", "sha256:odd": b"\x00\x01"}
PNG_REF = BlobRef(digest="sha256:png", size=len(PNG), media_type="image/jpeg")  # what it says is wrong
PDF_REF = BlobRef(digest="sha256:pdf", size=len(PDF), media_type="application/pdf")
TXT_REF = BlobRef(digest="sha256:txt", size=10, media_type="text/markdown")
ODD_REF = BlobRef(digest="sha256:odd", size=2, media_type="image/png")
GONE_REF = BlobRef(digest="sha256:gone", size=2048, media_type="image/png")

OLD, NEW = "claude-sonnet-4-5", "claude-opus-5"


def official(body: dict[str, Any]) -> Any:
    """The body as the official client's types understand it, without what they do not know. Raises for wrong ones."""
    kind = "Streaming" if body.get("stream") else "NonStreaming"
    adapter = TypeAdapter(
        getattr(message_create_params, f"MessageCreateParams{kind}")
    )  # must outlive the walk
    return walked(adapter.validate_python(body))


def thought(text: str = "hm", signature: str = "sig", provider: str = "anthropic") -> Thinking:
    return Thinking(text=text, signature=signature, provider=provider)


def native(**block: Any) -> Native:
    told = "[web_search]" if block["type"].endswith("tool_use") else ""
    return Native(provider="anthropic", data=json.dumps(block), text=told)


SEARCH = native(type="server_tool_use", id="srv_1", name="web_search", input={"query": "x"})
CITED = native(type="text", text="some words", citations=[{"type": "char_location"}])
FOUND = native(type="web_search_tool_result", tool_use_id="srv_1", content=[])

RICH = [
    user_message((Text(text="What is this?"), Image(url="https://example.com/cat.png"), Image(blob=PNG_REF))),
    user_message((Document(blob=PDF_REF, name="a.pdf"), Document(blob=TXT_REF))),
    said(thought(), Text(text="Let me look."), call(0), call(1, "not json")),
    result(call(0), Text(text="see"), Image(blob=PNG_REF), Document(blob=PDF_REF)),
    result(call(1), Text(text="broken "), Image(url="https://example.com/x.png"), status="error"),
    said(Thinking(encrypted="AAAA", provider="anthropic"), SEARCH, FOUND, Text(text="Sunny.")),
    user_message("thanks"),
]


def encoded(*messages: Message, driver: Anthropic | None = None, **fields: Any) -> dict[str, Any]:
    transcript = Transcript(messages or [user_message("hi")])
    request = Request(**({"model": NEW, "messages": transcript, "blobs": BLOBS} | fields))
    body: dict[str, Any] = json.loads((driver or Anthropic()).encode(request))
    return body


def blocks(*messages: Message, **fields: Any) -> list[Any]:
    """The blocks of each turn."""
    return [turn["content"] for turn in encoded(*messages, **fields)["messages"]]


# -- the official types


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("choice", [None, "auto", "none", "required", "clock"])
@pytest.mark.parametrize("model", [OLD, NEW])
def test_the_official_types_and_the_grammar_accept_a_rich_request(
    stream: bool, choice: str | None, model: str
) -> None:
    body = encoded(
        *RICH,
        model=model,
        instructions="Be brief.",
        tools=(WEATHER, CLOCK),
        settings=Settings(
            max_tokens=9000,
            reasoning_effort="low",
            tool_choice=choice,
            parallel_calls=False,
            stop=("END",),
            cache=True,
        ),
        stream=stream,
        metadata={"user_id": "u-1", "session_id": "not sent"},
        output=OutputSpec(name="answer", schema={"type": "object", "properties": {"a": {"type": "string"}}}),
    )
    check(body)
    assert official(body) == body
    assert body["metadata"] == {"user_id": "u-1"}
    assert body["stop_sequences"] == ["END"]


def test_the_official_types_refuse_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="role"):
        official(
            {"model": "m", "max_tokens": 1, "stream": True, "messages": [{"role": "no", "content": "x"}]}
        )


# -- settings


def test_what_is_not_set_is_not_sent_but_for_the_limit_that_the_protocol_demands() -> None:
    assert encoded(stream=False) == {
        "model": NEW,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "max_tokens": MAX_TOKENS,
        "stream": False,
    }


@pytest.mark.parametrize(
    ("settings", "choice"),
    [
        (Settings(), None),
        (Settings(parallel_calls=True), None),
        (Settings(parallel_calls=False), {"type": "auto", "disable_parallel_tool_use": True}),
        (Settings(tool_choice="auto"), {"type": "auto"}),
        (Settings(tool_choice="required"), {"type": "any"}),
        (
            Settings(tool_choice="required", parallel_calls=False),
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        (Settings(tool_choice="clock"), {"type": "tool", "name": "clock"}),
        (Settings(tool_choice="none", parallel_calls=False), {"type": "none"}),
    ],
)
def test_the_choice_of_tools_is_sent_in_its_words_and_only_with_tools(
    settings: Settings, choice: Any
) -> None:
    assert encoded(settings=settings, tools=(CLOCK,)).get("tool_choice") == choice
    assert "tool_choice" not in encoded(settings=settings)


@pytest.mark.parametrize(
    "model",
    [
        "claude-3-7-sonnet-20250219",
        "claude-sonnet-4-0",
        "claude-opus-4-20250514",
        "claude-opus-4-1-20250805",
        "claude-sonnet-4-5",
        "claude-haiku-4-5@20251001",
        "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ],
)
def test_an_effort_is_a_budget_for_models_that_think_by_one(model: str) -> None:
    body = encoded(model=model, settings=Settings(reasoning_effort="medium"))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 6144}
    assert body["max_tokens"] == MAX_TOKENS + 6144
    assert "output_config" not in body
    assert "thinking" not in encoded(model=model, settings=Settings(reasoning_effort="none"))


@pytest.mark.parametrize(
    "model", ["claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-4-8", "claude-sonnet-5", "claude-fable-5"]
)
def test_an_effort_is_said_to_models_that_decide_themselves(model: str) -> None:
    body = encoded(model=model, settings=Settings(reasoning_effort="xhigh"))
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "xhigh"}
    assert body["max_tokens"] == MAX_TOKENS
    off = encoded(model=model, settings=Settings(reasoning_effort="none"))
    assert (off["thinking"], "output_config" in off) == ({"type": "disabled"}, False)
    least = encoded(model=model, settings=Settings(reasoning_effort="minimal"))
    assert least["output_config"] == {"effort": "low"}


def test_a_budget_stays_below_the_limit_that_was_set_or_there_is_none() -> None:
    def thinking(limit: int) -> Any:
        settings = Settings(reasoning_effort="max", max_tokens=limit)
        return encoded(model=OLD, settings=settings).get("thinking", {}).get("budget_tokens")

    assert [thinking(limit) for limit in (100_000, 4096, 2048, 2047)] == [15360, 2048, 1024, None]


def test_an_effort_that_a_model_cannot_be_told_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(
        DriverError, match="'huge' says nothing to claude-sonnet-4-5; use one of minimal"
    ) as caught:
        encoded(model=OLD, settings=Settings(reasoning_effort="huge"))
    assert caught.value.kind == "invalid_request"


def test_a_budget_is_left_out_where_the_protocol_refuses_it() -> None:
    settings = Settings(reasoning_effort="low")
    foreign = [user_message("hi"), said(call(0)), result(call(0))]
    own = [user_message("hi"), said(thought(), call(0)), result(call(0))]
    again = [*own, said(call(1)), result(call(1))]
    assert "thinking" not in encoded(*foreign, model=OLD, settings=settings)
    assert "thinking" in encoded(*own, model=OLD, settings=settings)
    assert "thinking" in encoded(*again, model=OLD, settings=settings)
    assert "thinking" not in encoded(*foreign, user_message("next"), model=OLD, settings=settings)
    done = [*foreign, said(Text(text="done")), user_message("next")]
    assert "thinking" in encoded(*done, model=OLD, settings=settings)
    forced = Settings(reasoning_effort="low", tool_choice="required")
    assert "thinking" not in encoded(model=OLD, settings=forced, tools=(CLOCK,))


def test_caching_marks_the_tools_the_instructions_and_the_users_last_two_turns() -> None:
    body = encoded(
        *RICH, settings=Settings(cache=True), tools=(WEATHER, CLOCK), instructions="Be brief.", model=NEW
    )
    mark = {"type": "ephemeral"}
    assert [tool.get("cache_control") for tool in body["tools"]] == [None, mark]
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    marked = [[block.get("cache_control") for block in turn["content"]] for turn in body["messages"]]
    assert marked == [[None] * 5, [None] * 4, [None, mark], [None] * 4, [mark]]
    assert str(body).count("cache_control") == 4


def test_the_marks_leave_what_was_encoded_as_it_was() -> None:
    transcript = Transcript([user_message("one")])
    driver = Anthropic()
    request = Request(model=NEW, messages=transcript, tools=(WEATHER,), instructions="x")
    first = driver.encode(request)
    assert b"cache_control" in driver.encode(
        Request(
            model=NEW,
            messages=transcript,
            tools=request.tools,
            instructions="x",
            settings=Settings(cache=True),
        )
    )
    assert driver.encode(request) == first


def test_a_transcript_with_calls_has_tools_though_none_can_be_called_any_more() -> None:
    body = encoded(user_message("hi"), said(call(0, name="functions.look up")), result(call(0)))
    assert [tool["name"] for tool in body["tools"]] == ["functions_look_up"]
    assert body["tool_choice"] == {"type": "none"}
    check(body)


# -- what a program adds


def test_extra_fields_are_sent_and_extra_tools_come_before_the_requests() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    extra = {"service_tier": "standard_only", "output_config": {"task_budget": {"total": 1}}}
    driver = Anthropic(options=Options(tools=(search,), extra=extra))
    body = encoded(driver=driver, tools=(CLOCK,), settings=Settings(reasoning_effort="low"))
    assert [tool["name"] for tool in body["tools"]] == ["web_search", "clock"]
    assert body["service_tier"] == "standard_only"
    assert body["output_config"] == {"task_budget": {"total": 1}, "effort": "low"}
    assert encoded(driver=driver)["tools"] == [search]
    assert "tool_choice" not in encoded(driver=driver)
    assert encoded(driver=driver)["output_config"] == extra["output_config"]


@pytest.mark.parametrize("name", ["model", "messages", "system", "stream", "max_tokens", "tools"])
def test_extra_fields_cannot_say_what_the_request_says(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Anthropic(options=Options(extra={name: 1}))


# -- structured output


def output(schema: dict[str, Any], strict: bool = True) -> Any:
    body = encoded(output=OutputSpec(name="answer", schema=schema, strict=strict))
    return body.get("output_config", {}).get("format")


def test_a_schema_is_closed_and_what_cannot_be_held_to_is_said_in_words() -> None:
    age = {"type": "integer", "minimum": 0, "maximum": 150, "description": "Years."}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/$defs/Person",
        "title": "dropped beside a reference",
        "$defs": {
            "Person": {
                "type": "object",
                "additionalProperties": True,
                "properties": {
                    "age": age,
                    "mail": {"type": "string", "format": "email", "pattern": "@"},
                    "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
                    "kind": {"oneOf": [{"const": 1}, {"type": "null"}]},
                },
                "required": ["age"],
            }
        },
    }
    assert output(schema) == {
        "type": "json_schema",
        "schema": {
            "$ref": "#/$defs/Person",
            "$defs": {
                "Person": {
                    "type": "object",
                    "properties": {
                        "age": {"type": "integer", "description": 'Years.\n\n{"minimum":0,"maximum":150}'},
                        "mail": {"type": "string", "format": "email", "description": '{"pattern":"@"}'},
                        "tags": {
                            "type": "array",
                            "items": {"enum": ["a", "b"]},
                            "minItems": 1,
                            "description": '{"maxItems":3}',
                        },
                        "kind": {"anyOf": [{"const": 1}, {"type": "null"}]},
                    },
                    "required": ["age"],
                    "additionalProperties": False,
                }
            },
        },
    }


@pytest.mark.parametrize(
    ("inner", "named"),
    [
        ({"type": "object", "additionalProperties": {"type": "string"}}, "additionalProperties"),
        ({"type": "object", "additionalProperties": True}, "additionalProperties"),
        ({"$ref": "#"}, r"\$ref"),
        ({"$ref": "https://example.com/schema"}, r"\$ref"),
        ({"$ref": "#/$defs/Nowhere"}, r"\$ref"),
        ({}, "without a type"),
        (True, "true or false"),
    ],
)
def test_a_schema_that_would_mean_something_else_is_refused_by_its_keyword(inner: Any, named: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": inner}}}
    if inner == {"$ref": "#"}:
        schema = {
            "$ref": "#/$defs/A",
            "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}},
        }
    with pytest.raises(DriverError, match=named) as caught:
        output(schema)
    assert caught.value.kind == "unsupported"
    assert output(schema, strict=False) is None


# -- history


def test_turns_alternate_and_results_are_together_and_come_first() -> None:
    body = encoded(
        said(Text(text="I was first")),
        user_message("one"),
        user_message("two"),
        said(call(0), call(1)),
        result(call(0)),
        result(call(1)),
        user_message("three"),
    )
    check(body)
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][4]["content"]] == [
        "tool_result",
        "tool_result",
        "text",
    ]


def test_calls_and_results_are_paired_by_the_providers_id_or_else_by_ours_in_the_letters_allowed() -> None:
    theirs, ours, odd = call(0, provider_id="toolu_1"), call(1), call(2, provider_id="fc_1|call:9")
    body = encoded(user_message("x"), said(theirs, ours, odd), result(theirs), result(ours), result(odd))
    ids = [block["id"] for block in body["messages"][1]["content"]]
    assert ids[:2] == ["toolu_1", ours.id]
    assert re.fullmatch("call_[0-9a-f]{24}", ids[2])
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == ids


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"a": 1, "big": 123456789012345678901234567890}', {"a": 1, "big": 123456789012345678901234567890}),
        ("", {}),
        ("  ", {}),
        ('{"a": ', {"invalid_arguments": '{"a": '}),
        ("[1]", {"invalid_arguments": "[1]"}),
        ('{"a": NaN}', {"invalid_arguments": '{"a": NaN}'}),
        ("[" * 5000, {"invalid_arguments": "[" * 5000}),
    ],
)
def test_arguments_that_are_no_object_do_not_break_the_request(written: str, sent: dict[str, Any]) -> None:
    assert blocks(user_message("x"), said(call(0, written)), result(call(0)))[1][0]["input"] == sent


def test_thoughts_go_back_as_they_came_signed_and_to_who_signed_them() -> None:
    redacted = Thinking(encrypted="AAAA", provider="anthropic")
    turn = blocks(
        user_message("x"),
        said(
            thought("first"),
            thought("", signature="only a proof"),
            thought("unsigned", signature=""),
            thought("foreign", provider="openai"),
            redacted,
            Text(text="so"),
            thought("second", signature="s2"),
            call(0),
        ),
        result(call(0)),
    )[1]
    assert turn[:-1] == [
        {"type": "thinking", "thinking": "first", "signature": "sig"},
        {"type": "thinking", "thinking": "", "signature": "only a proof"},
        {"type": "redacted_thinking", "data": "AAAA"},
        {"type": "text", "text": "so"},
        {"type": "thinking", "thinking": "second", "signature": "s2"},
    ]


def test_a_message_never_ends_with_a_thought_and_one_of_nothing_else_is_left_out() -> None:
    body = blocks(user_message("x"), said(Text(text="so"), thought()), user_message("y"), said(thought()))
    assert body == [
        [{"type": "text", "text": "x"}],
        [{"type": "text", "text": "so"}],
        [{"type": "text", "text": "y"}],
    ]


def test_what_ran_at_the_provider_goes_back_untouched_and_foreign_things_as_words() -> None:
    odd = '{"type":"web_search_tool_result", "tool_use_id":"srv_1","content":[{"n":1.50}]}'
    message = said(
        SEARCH,
        Native(provider="anthropic", data=odd),
        Native(provider="openai", data="{}", text="[searched]"),
        Native(provider="openai", data="{}"),
        Native(provider="anthropic", data="{oops"),
        Text(text="so"),
    )
    body = Anthropic().encode(Request(model=NEW, messages=Transcript([user_message("x"), message])))
    assert odd.encode() in body
    turn = json.loads(body)["messages"][1]["content"]
    assert [block["type"] for block in turn] == ["server_tool_use", "web_search_tool_result", "text", "text"]
    assert turn[2]["text"] == "[searched]"


def test_text_with_citations_goes_back_with_them_as_long_as_its_words_are_the_same() -> None:
    cited = {"type": "text", "text": "so", "citations": [{"type": "char_location", "cited_text": "x"}]}
    plain = {"type": "text", "text": "so"}
    block = native(**cited)
    assert blocks(user_message("x"), said(Text(text="so"), block))[1] == [cited]
    edited = said(Text(text="not so"), block, Text(text="so"))
    assert blocks(user_message("x"), edited)[1] == [plain | {"text": "not so"}, plain]
    assert blocks(user_message("x"), said(Text(text="so"), block), driver=Anthropic(vendor="other"))[1] == [
        plain
    ]
    check(encoded(user_message("x"), said(Text(text="so"), block)))


def test_a_tool_of_the_providers_that_never_answered_is_left_out_unless_calls_are_still_open() -> None:
    left = blocks(user_message("x"), said(Text(text="so"), thought(), SEARCH), user_message("y"))[1]
    assert [block["type"] for block in left] == ["text"]
    open_ = blocks(user_message("x"), said(SEARCH, call(0)), result(call(0)))[1]
    assert [block["type"] for block in open_] == ["server_tool_use", "tool_use"]


def test_blank_words_are_not_sent_but_the_users_turn_remains() -> None:
    assert blocks(
        user_message((Text(text=" "), Text(text="x"))), said(Text(text="\n")), user_message(" ")
    ) == [[{"type": "text", "text": "x"}, {"type": "text", "text": "(blank)"}]]


def test_an_empty_transcript_and_one_without_a_beginning_say_so() -> None:
    (only,) = encoded(user_message("x"), messages=Transcript())["messages"]
    assert only["content"][0]["text"] == "(what was said before is left out)"


def test_instructions_of_nothing_but_blanks_are_not_sent() -> None:
    assert "system" not in encoded(instructions=" \n")
    assert encoded(instructions=" x ")["system"] == " x "


def test_a_lone_surrogate_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(DriverError, match="lone surrogate") as caught:
        encoded(user_message("\ud800"))
    assert caught.value.kind == "invalid_request"


# -- images and documents


def test_images_and_documents_are_sent_by_their_bytes_and_the_type_of_these() -> None:
    assert blocks(RICH[0], RICH[1])[0][1:] == [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": "image/png",
                "data": base64.b64encode(PNG).decode(),
            },
        },
        {
            "type": "document",
            "source": {
                "type": "base64",
                "media_type": "application/pdf",
                "data": base64.b64encode(PDF).decode(),
            },
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "some notes"}},
    ]


def test_a_data_url_is_the_same_as_its_bytes() -> None:
    url = f"data:image/gif;base64,{base64.b64encode(PNG).decode()}"
    assert blocks(user_message((Image(url=url),))) == blocks(user_message((Image(blob=PNG_REF),)))
    text = Document(url="data:text/csv,a%2Cb")
    assert blocks(user_message((text,)))[0][0]["source"]["data"] == "a,b"


def test_a_result_shows_its_images_unless_it_is_an_error_which_may_hold_only_text() -> None:
    message = [user_message("x"), said(call(0))]
    shown = blocks(*message, result(call(0), Text(text=" "), Image(blob=PNG_REF)))[2][0]
    assert [block["type"] for block in shown["content"]] == ["image"]
    assert "is_error" not in shown
    failed = blocks(*message, result(call(0), Text(text="no "), Image(blob=PNG_REF), status="denied"))[2][0]
    assert failed["is_error"] is True
    assert failed["content"] == f"no [image, image/jpeg, {len(PNG)} bytes: its content cannot be shown here]"
    assert blocks(*message, result(call(0), Text(text=" ")))[2][0]["content"] == "(no output)"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Image(blob=GONE_REF), "[image, image/png, 2048 bytes: its content cannot be shown here]"),
        (Image(blob=ODD_REF), "[image, image/png, 2 bytes: its content cannot be shown here]"),
        (Document(blob=GONE_REF, name="plan.pdf"), "[document plan.pdf, image/png, 2048 bytes: its content"),
        (Image(url="data:image/png;base64,not base64!"), "[image: its content cannot be shown here]"),
        (Image(url="data:image/png"), "[image: its content cannot be shown here]"),
        (
            Document(blob=BlobRef(digest="sha256:odd", size=2, media_type="application/zip")),
            "[document, application/zip, 2 bytes: its content",
        ),
    ],
)
def test_what_cannot_be_shown_is_named_so_that_the_model_knows_of_it(part: Part, words: str) -> None:
    (block,) = blocks(user_message((part,)))[0]
    assert block["text"].startswith(words)


def test_an_image_that_is_too_large_is_named() -> None:
    large = {"sha256:png": PNG + b"\0" * 4_000_000}
    assert blocks(user_message((Image(blob=PNG_REF),)), blobs=large)[0][0]["type"] == "text"


def test_a_blob_that_comes_later_is_shown_from_then_on() -> None:
    transcript = Transcript([user_message((Image(blob=PNG_REF),))])
    driver = Anthropic()

    def kinds(blobs: dict[str, bytes]) -> str:
        body = json.loads(driver.encode(Request(model=NEW, messages=transcript, blobs=blobs)))
        return str(body["messages"][0]["content"][0]["type"])

    assert [kinds({}), kinds(BLOBS), kinds({})] == ["text", "image", "text"]


def test_equal_requests_have_equal_bytes_and_only_new_messages_are_encoded() -> None:
    driver = Anthropic()
    transcript = Transcript([user_message("one")])
    request = Request(model="m", messages=transcript, tools=(WEATHER,), instructions="Be brief.")
    first = driver.encode(request)
    assert driver.encode(request) == first
    transcript.extend([said(Text(text="two")), user_message("three")])
    assert [turn["content"][0]["text"] for turn in json.loads(driver.encode(request))["messages"]] == [
        "one",
        "two",
        "three",
    ]


# -- whatever the loop can produce

texts = st.sampled_from(["", " ", "some words"])
media = st.sampled_from(
    [
        *[Image(blob=ref) for ref in (PNG_REF, ODD_REF, GONE_REF)],
        *[Document(blob=ref, name="d") for ref in (PDF_REF, TXT_REF, ODD_REF, GONE_REF)],
        Image(url="https://example.com/a.png"),
        Image(url="data:image/png;base64,AA"),
        Image(),
    ]
)
ids = st.sampled_from(["call_a", "call_b", "call_c", ""])
provider_ids = st.sampled_from(["", "p1", "p2", "odd|id", "x" * 80])
results = st.builds(
    lambda call_id, content, provider_id, status: ToolResult(
        call_id=call_id, name="look", content=tuple(content), provider_id=provider_id, status=status
    ),
    ids,
    st.lists(st.one_of(st.builds(Text, text=texts), media), max_size=3),
    provider_ids,
    st.sampled_from(["ok", "error", "in_doubt"]),
)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, text=texts),
    st.builds(
        Thinking,
        text=texts,
        signature=st.sampled_from(["", "signed"]),
        provider=st.sampled_from(["anthropic", "openai"]),
        encrypted=st.sampled_from(["", "AAAA"]),
    ),
    st.builds(
        ToolCall,
        id=ids,
        name=st.sampled_from(["look", "odd name", ""]),
        arguments=st.sampled_from(["{}", "no", '{"a":[1]}']),
        provider_id=provider_ids,
    ),
    st.sampled_from([SEARCH, FOUND, CITED, Native(provider="openai", data="{}", text="[ran]")]),
    results,
    media,
)
messages = st.one_of(
    st.builds(
        Message,
        id=st.just("message_m"),
        role=st.sampled_from(["user", "assistant", "tool"]),
        content=st.lists(parts, max_size=5).map(tuple),
    ),
    results.map(tool_message),
)
settings_ = st.builds(
    Settings,
    reasoning_effort=st.sampled_from([None, "none", "low", "max"]),
    max_tokens=st.sampled_from([None, 100, 5000]),
    tool_choice=st.sampled_from([None, "auto", "none", "required", "clock"]),
    parallel_calls=st.sampled_from([None, True, False]),
    cache=st.sampled_from([None, True]),
)


@given(
    st.lists(messages, max_size=8), settings_, st.sampled_from([(), (CLOCK,)]), st.sampled_from([OLD, NEW])
)
def test_any_history_of_the_loop_satisfies_the_grammar(
    history: list[Message], settings: Settings, tools: tuple[ToolSpec, ...], model: str
) -> None:
    mended = repair([*history, user_message("go on")])
    body = encoded(*mended, settings=settings, tools=tools, model=model, instructions="Be brief.")
    check(body)


def test_the_grammar_notices_what_is_wrong() -> None:
    good = encoded(user_message("x"), said(thought(), call(0)), result(call(0)), tools=(WEATHER,))
    check(good)
    turns = good["messages"]
    use, answer = turns[1]["content"][1], turns[2]["content"][0]
    for wrong in (
        [turns[1]],
        [turns[0], turns[0]],
        [turns[0], turns[1]],
        [turns[0], {"role": "assistant", "content": [{"type": "text", "text": " "}]}],
        [turns[0], {"role": "assistant", "content": turns[1]["content"][:1]}],
        [turns[0], {"role": "assistant", "content": [use, use]}, turns[2]],
        [turns[0], turns[1], {"role": "user", "content": [{"type": "text", "text": "x"}, answer]}],
        [turns[0], turns[1], {"role": "user", "content": [answer | {"content": ""}]}],
        [turns[2]],
        [],
    ):
        with pytest.raises(AssertionError):
            check(good | {"messages": wrong})
    with pytest.raises(AssertionError):
        check({name: value for name, value in good.items() if name != "tools"})


# -- the address


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("https://api.anthropic.com", "/v1/messages"),
        ("https://api.anthropic.com/v1/", "/v1/messages"),
        ("https://api.deepseek.com/anthropic", "/anthropic/v1/messages"),
        ("https://example.com/v1?key=1", "/v1/messages?key=1"),
    ],
)
def test_the_address_may_name_the_version_or_not(base_url: str, path: str) -> None:
    assert Anthropic(base_url=base_url)._url.raw_path == path.encode()


@pytest.mark.parametrize("base_url", ["https://user:secret@example.com/v1", "ftp://example.com", "x", ""])
def test_a_base_url_that_is_no_plain_web_address_is_refused_without_repeating_its_secret(
    base_url: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        Anthropic(base_url=base_url)
    assert "secret" not in str(caught.value)
