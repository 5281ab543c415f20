"""What the Responses driver sends: accepted by the official client's types, and right for each setting."""

import base64
import json
from typing import Any

import pytest
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from holdfast.driver import OutputSpec, Previous, Request, Settings, Transcript
from holdfast.drivers.openai import OpenAI, Options
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
    user_message,
)
from tests.drivers.asked import CLOCK, WEATHER, call, result, said, walked

# -- the official types


def official(body: dict[str, Any]) -> Any:
    """The body as the official client's types understand it, without what they do not know. Raises for wrong ones."""
    kind = "Streaming" if body.get("stream") else "NonStreaming"
    adapter = TypeAdapter(getattr(response_create_params, f"ResponseCreateParams{kind}"))
    return walked(adapter.validate_python(body))


ANSWER = OutputSpec(name="answer", schema={"type": "object", "properties": {"x": {"type": "integer"}}})
PNG = b"\x89PNG\r\n\x1a\n..."
PDF = b"%PDF-1.7..."
PICTURE = BlobRef(digest="sha256:png", size=len(PNG), media_type="image/png")
PAPER = BlobRef(digest="sha256:pdf", size=len(PDF), media_type="application/pdf")
BLOBS = {PICTURE.digest: PNG, PAPER.digest: PDF}
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
PDF_URL = "data:application/pdf;base64," + base64.b64encode(PDF).decode()
REASONING = '{"id":"rs_1", "type":"reasoning","summary":[],"encrypted_content":"AA=="}'
SEARCH = '{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"x"}}'


def thought(encrypted: str = REASONING, provider: str = "openai") -> Thinking:
    return Thinking(text="hm", provider=provider, encrypted=encrypted)


RICH = [
    user_message((Text(text="What is this?"), Image(url="https://example.com/cat.png"))),
    user_message((Text(text="And this?"), Document(blob=PAPER, name="a.pdf"), Image(blob=PICTURE))),
    user_message((Document(url="https://example.com/a.pdf"),)),
    said(
        thought(),
        Native(provider="openai", data=SEARCH),
        thought(),
        Text(text="Let me look."),
        call(0),
        call(1, "not json"),
        phase="commentary",
    ),
    result(call(0), Text(text="see "), Image(blob=PICTURE), Document(blob=PAPER)),
    result(call(1)),
    said(Text(text="Sunny."), phase="final_answer"),
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
        cache=True,
    )
    request = Request(
        model="gpt-5.4",
        messages=Transcript(RICH),
        instructions="Be brief.",
        tools=(WEATHER, CLOCK),
        settings=settings,
        stream=stream,
        metadata={"session_id": "session_1", "user_id": "u-17"},
        output=ANSWER,
        blobs=BLOBS,
    )
    options = Options(tools=({"type": "web_search"},), summary="auto")
    body = json.loads(OpenAI(options=options).encode(request))
    assert official(body) == body
    assert body["tool_choice" if choice else "model"] == (
        {"type": "function", "name": "clock"} if choice == "clock" else choice or "gpt-5.4"
    )
    assert [tool["type"] for tool in body["tools"]] == ["function", "function", "web_search"]
    assert (body["store"], body["max_output_tokens"], body["parallel_tool_calls"]) == (False, 100, False)
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["metadata"] == {"user_id": "u-17"}


def test_the_official_types_refuse_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="role"):
        official({"model": "m", "stream": True, "input": [{"role": "nobody", "content": "x"}]})


# -- settings


def encoded(*messages: Message, driver: OpenAI | None = None, **fields: Any) -> dict[str, Any]:
    fields = {"model": "gpt-5.4"} | fields
    request = Request(messages=Transcript(messages or [user_message("hi")]), **fields)
    decoded: dict[str, Any] = json.loads((driver or OpenAI()).encode(request))
    return decoded


def test_what_is_not_set_is_not_sent() -> None:
    assert encoded(stream=False, model="gpt-4o") == {
        "model": "gpt-4o",
        "input": [{"role": "user", "content": "hi"}],
        "stream": False,
        "store": False,
    }


def test_settings_about_tools_are_sent_only_with_tools() -> None:
    settings = Settings(tool_choice="required", parallel_calls=True)
    assert {"tool_choice", "parallel_tool_calls"}.isdisjoint(encoded(settings=settings))
    hosted = OpenAI(options=Options(tools=({"type": "web_search"},)))
    for body in (encoded(settings=settings, tools=(CLOCK,)), encoded(settings=settings, driver=hosted)):
        assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", True)


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("o3-mini", True),
        ("o4-mini-2025-04-16", True),
        ("gpt-5", True),
        ("gpt-5.6-sol", True),
        ("gpt-12-mini", True),
        ("codex-mini-latest", True),
        ("openai/gpt-5", True),
        ("gpt-oss-120b", True),
        ("ft:o4-mini:acme::1", True),
        ("gpt-5-chat-latest", False),
        ("gpt-5.1-chat-latest", False),
        ("gpt-4o", False),
        ("gpt-4.1-mini", False),
        ("computer-use-preview", False),
        ("my-deployment", False),
    ],
)
def test_only_models_that_reason_are_asked_for_their_reasoning_and_given_it_back(
    model: str, reasons: bool
) -> None:
    spoken = said(thought(), Text(text="so"), phase="final_answer")
    body = encoded(user_message("hi"), spoken, model=model)
    assert ("include" in body) is reasons
    assert (json.loads(REASONING) in body["input"]) is reasons
    assert ("phase" in body["input"][-1]) is reasons
    for known in (True, False):
        told = OpenAI(options=Options(reasons=known))
        assert ("include" in encoded(model=model, driver=told)) is known


def test_further_fields_are_sent_as_they_are_unless_the_request_says_otherwise() -> None:
    options = Options(
        extra={
            "service_tier": "flex",
            "temperature": 1.0,
            "store": True,
            "text": {"verbosity": "low"},
            "reasoning": {"effort": "high", "summary": "concise"},
        },
        include=("web_search_call.action.sources",),
    )
    settings = Settings(temperature=0.5, reasoning_effort="low")
    body = encoded(driver=OpenAI(options=options), settings=settings, output=ANSWER)
    assert body["reasoning"] == {"effort": "low", "summary": "concise"}
    assert (body["text"]["verbosity"], body["text"]["format"]["name"]) == ("low", "answer")
    assert (body["service_tier"], body["temperature"], body["store"]) == ("flex", 0.5, False)
    assert body["include"] == ["reasoning.encrypted_content", "web_search_call.action.sources"]
    assert official(body) == body
    with pytest.raises(ConfigError, match="input, tools"):
        OpenAI(options=Options(extra={"input": [], "tools": []}))


def test_stop_sequences_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(DriverError, match="stop sequences") as caught:
        encoded(settings=Settings(stop=("END",)))
    assert caught.value.kind == "unsupported"


def test_the_prompt_cache_has_a_key_of_its_session_or_of_its_beginning() -> None:
    cache = Settings(cache=True)
    one = encoded(settings=cache, metadata={"session_id": "a"})["prompt_cache_key"]
    assert one == encoded(user_message("x"), settings=cache, metadata={"session_id": "a"})["prompt_cache_key"]
    assert one != encoded(settings=cache, metadata={"session_id": "b"})["prompt_cache_key"]
    same = encoded(settings=cache, instructions="x")["prompt_cache_key"]
    assert same != encoded(settings=cache, instructions="y")["prompt_cache_key"]
    assert len(same) <= 64
    assert "prompt_cache_key" not in encoded(metadata={"session_id": "a"})


@pytest.mark.parametrize(
    ("model", "can"),
    [("gpt-5.6", True), ("gpt-6", True), ("gpt-5.4", False), ("gpt-5", False), ("o3", False)],
)
def test_a_cache_that_can_be_declined_is_declined(model: str, can: bool) -> None:
    body = encoded(settings=Settings(cache=False), model=model)
    assert body.get("prompt_cache_options") == ({"mode": "explicit"} if can else None)
    assert "prompt_cache_options" not in encoded(model=model)


def test_metadata_is_kept_within_what_a_response_may_have() -> None:
    body = encoded(metadata={f"{number:03d}" + "k" * 100: "v" * 1000 for number in range(20)})
    assert len(body["metadata"]) == 16
    assert {len(name) for name in body["metadata"]} == {64}
    assert {len(value) for value in body["metadata"].values()} == {512}
    assert "metadata" not in encoded()


def test_a_continuation_sends_only_what_the_server_has_not_seen() -> None:
    first, second = call(0, provider_id="call_a"), user_message("and?")
    history = [user_message("hi"), said(thought(), first), result(first), second]
    body = encoded(*history, previous=Previous(response_id="resp_1", covers=2))
    assert body["previous_response_id"] == "resp_1"
    assert body["input"] == [
        {"type": "function_call_output", "call_id": "call_a", "output": "fine"},
        {"role": "user", "content": "and?"},
    ]


def test_a_lone_surrogate_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(DriverError, match="lone surrogate") as caught:
        encoded(user_message("\ud800"))
    assert caught.value.kind == "invalid_request"


def test_equal_requests_have_equal_bytes_and_messages_are_encoded_once() -> None:
    driver = OpenAI()
    transcript = Transcript([user_message("one")])
    request = Request(model="gpt-5", messages=transcript, tools=(WEATHER,), instructions="Be brief.")
    first = driver.encode(request)
    assert driver.encode(request) == first
    transcript.extend([said(Text(text="two")), user_message("three")])
    later = json.loads(driver.encode(request))
    assert [entry["content"] for entry in later["input"]] == ["one", "two", "three"]
    assert later["tools"] == json.loads(first)["tools"]


# -- structured output


def schema_sent(schema: dict[str, Any]) -> dict[str, Any]:
    sent: dict[str, Any] = encoded(output=OutputSpec(name="a", schema=schema))["text"]["format"]["schema"]
    return sent


def test_a_schema_is_closed_for_strict_output() -> None:
    schema = {
        "$ref": "#/$defs/Bill",
        "$defs": {
            "Bill": {
                "type": "object",
                "title": "Bill",
                "properties": {
                    "lines": {"type": "array", "items": {"$ref": "#/$defs/Line", "description": "one"}},
                    "note": {
                        "anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}],
                        "default": None,
                    },
                    "kind": {"oneOf": [{"enum": ["a"]}, {"const": "b"}]},
                },
                "required": ["note"],
            },
            "Line": {"type": "object", "properties": {"cents": {"type": "integer", "minimum": 0}}},
        },
    }
    line = {
        "type": "object",
        "properties": {"cents": {"type": "integer", "minimum": 0}},
        "additionalProperties": False,
        "required": ["cents"],
    }
    bill = {
        "type": "object",
        "title": "Bill",
        "properties": {
            "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "kind": {"anyOf": [{"enum": ["a"]}, {"const": "b"}]},
        },
        "additionalProperties": False,
        "required": ["note", "lines", "kind"],
    }
    assert schema_sent(schema) == bill | {"$defs": {"Bill": bill, "Line": line}}
    assert schema_sent(schema_sent(schema)) == schema_sent(schema)


@pytest.mark.parametrize(
    ("schema", "keyword", "place"),
    [
        ({"type": "object", "properties": {"x": {"not": {}}}}, "not", "/properties/x"),
        ({"type": "object", "properties": {"x": {"prefixItems": []}}}, "prefixItems", "/properties/x"),
        ({"type": "object", "patternProperties": {}}, "patternProperties", "the root"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "additionalProperties", "the root"),
        (
            {"type": "object", "properties": {"x": {"type": "array", "items": {"allOf": []}}}},
            "allOf",
            "/properties/x/items",
        ),
        ({"type": "array", "items": {}}, "type", "the root"),
        ({"anyOf": [{"type": "object"}]}, "type", "the root"),
    ],
)
def test_a_schema_that_cannot_be_strict_is_refused_by_its_keyword(
    schema: dict[str, Any], keyword: str, place: str
) -> None:
    with pytest.raises(DriverError, match=f"'{keyword}' at {place} ") as caught:
        schema_sent(schema)
    assert caught.value.kind == "unsupported"
    loose = encoded(output=OutputSpec(name="a b/c", schema=schema, strict=False))["text"]["format"]
    assert loose == {"type": "json_schema", "name": "a_b_c", "schema": schema, "strict": False}


def test_a_schema_without_end_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["again"] = schema
    with pytest.raises(DriverError, match="nested too deeply"):
        schema_sent(schema)


# -- history


def sent(*messages: Message, **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = encoded(*messages, **fields)["input"]
    return found


def test_reasoning_and_native_items_go_back_as_they_came_at_their_place() -> None:
    spoken = said(thought(), Native(provider="openai", data=SEARCH), thought(), Text(text="so"), call(0))
    body = OpenAI().encode(Request(model="gpt-5", messages=Transcript([spoken, result(call(0))])))
    assert f'"input":[{REASONING},{SEARCH},{REASONING},'.encode() in body
    assert [item.get("type", "message") for item in json.loads(body)["input"]] == [
        "reasoning",
        "web_search_call",
        "reasoning",
        "message",
        "function_call",
        "function_call_output",
    ]


def test_reasoning_that_led_to_nothing_stays_here() -> None:
    assert sent(said(Text(text="so"), thought())) == [{"role": "assistant", "content": "so"}]
    assert sent(user_message("hi"), said(thought())) == [{"role": "user", "content": "hi"}]


def test_reasoning_that_only_the_server_knows_goes_back_only_to_a_server_that_keeps_it() -> None:
    bare = '{"id":"rs_1","type":"reasoning","summary":[]}'
    spoken = said(thought(bare), Text(text="so"))
    assert sent(spoken) == [{"role": "assistant", "content": "so"}]
    kept = OpenAI(options=Options(store=True))
    assert sent(spoken, driver=kept)[0] == json.loads(bare)


def test_another_vendors_reasoning_is_never_shown_and_its_native_items_are_told() -> None:
    foreign = (
        thought(provider="azure"),
        thought(provider="openai-chat/reasoning"),
        Native(provider="anthropic", data='{"type":"server_tool_use"}', text="[search: snow]"),
        Native(provider="gemini", data="{}"),
    )
    assert sent(said(*foreign, Text(text="so"))) == [
        {"role": "assistant", "content": "[search: snow]"},
        {"role": "assistant", "content": "so"},
    ]


def test_of_several_texts_only_the_last_is_the_answer() -> None:
    spoken = said(
        Text(text="a"), Native(provider="openai", data=SEARCH), Text(text="b"), phase="final_answer"
    )
    assert [item["phase"] for item in sent(spoken) if "phase" in item] == ["commentary", "final_answer"]
    both = said(Text(text="a"), Text(text="b"), call(0), phase="commentary")
    assert [item["phase"] for item in sent(both, result(call(0))) if "phase" in item] == ["commentary"] * 2


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"mcp_approval_request","id":"a"}',
        '{"type":"computer_call","call_id":"a"}',
        '{"type":"shell_call","call_id":"a"}',
        "{broken",
        "[]",
    ],
)
def test_an_item_that_waits_for_an_answer_of_ours_stays_here(data: str) -> None:
    assert sent(user_message("hi"), said(thought(), Native(provider="openai", data=data))) == [
        {"role": "user", "content": "hi"}
    ]


def test_a_native_call_that_was_answered_there_goes_back_with_its_answer() -> None:
    asked, answered = {"type": "shell_call", "call_id": "a"}, {"type": "shell_call_output", "call_id": "a"}
    natives = [Native(provider="openai", data=json.dumps(item)) for item in (asked, answered)]
    assert sent(said(*natives)) == [asked, answered]


@pytest.mark.parametrize("image", [Image(url=PNG_URL), Image(blob=PICTURE)])
def test_a_picture_that_was_made_goes_back_in_its_item(image: Image) -> None:
    native = Native(provider="openai", data='{"type":"image_generation_call","id":"ig_1"}')
    made = {"type": "image_generation_call", "id": "ig_1", "result": base64.b64encode(PNG).decode()}
    assert sent(said(native, image), blobs=BLOBS) == [made]
    assert sent(said(thought(), native, image, Text(text="There.")), blobs=BLOBS)[1:] == [
        made,
        {"role": "assistant", "content": "There."},
    ]


def test_a_picture_whose_bytes_are_gone_is_told_in_words() -> None:
    native = Native(provider="openai", data='{"type":"image_generation_call","id":"ig_1"}')
    assert sent(said(native, Image(blob=PICTURE))) == [
        {
            "role": "assistant",
            "content": f"[image, image/png, {len(PNG)} bytes: its content cannot be shown here]",
        }
    ]
    assert sent(user_message("hi"), said(native)) == [{"role": "user", "content": "hi"}]


def test_calls_and_results_are_paired_by_the_providers_id_or_else_by_ours_within_the_length_allowed() -> None:
    calls = call(0, provider_id="call_theirs"), call(1), call(2, provider_id="x" * 300)
    items = sent(said(*calls), *map(result, calls))
    ids = [item["call_id"] for item in items]
    assert ids[:3] == ids[3:]
    assert ids[0] == "call_theirs"
    assert len(set(ids)) == 3
    assert max(map(len, ids)) <= 64


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ("  ", {}),
        ('{"a": ', {"invalid_arguments": '{"a": '}),
        ("[1]", {"invalid_arguments": "[1]"}),
        ("[" * 5000, {"invalid_arguments": "[" * 5000}),
    ],
)
def test_arguments_that_are_no_object_do_not_break_the_request(written: str, expected: Any) -> None:
    assert json.loads(sent(said(call(0, written)), result(call(0)))[0]["arguments"]) == expected


def test_a_call_of_a_custom_tool_goes_back_as_one() -> None:
    made = call(0, '{"input": "a\\nb"}', provider_id="ctc_call_1", name="patch")
    items = sent(said(made), result(made))
    assert items == [
        {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "a\nb"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "fine"},
    ]
    assert official({"model": "m", "stream": True, "input": items})["input"] == items
    assert (
        sent(said(call(0, "{}", provider_id="ctc_x")), result(call(0, provider_id="ctc_x")))[0]["input"]
        == "{}"
    )


def test_a_name_that_a_model_made_up_does_not_break_the_request() -> None:
    items = sent(said(call(0, name="what.is this?")), result(call(0)))
    assert items[0]["name"] == "what_is_this_"


# -- images and documents


def test_images_and_documents_are_sent_by_address_or_with_their_bytes_also_in_results() -> None:
    content = (
        Text(text="look"),
        Image(url="https://example.com/x.png"),
        Image(blob=PICTURE),
        Image(url=PNG_URL),
        Document(url="https://example.com/a.pdf"),
        Document(blob=PAPER, name="plan.pdf"),
        Document(blob=PAPER),
    )
    pieces = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "https://example.com/x.png", "detail": "auto"},
        {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
        {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_file", "filename": "plan.pdf", "file_data": PDF_URL},
        {"type": "input_file", "filename": "document.pdf", "file_data": PDF_URL},
    ]
    items = sent(user_message(content), said(call(0)), result(call(0), *content), blobs=BLOBS)
    assert items[0]["content"] == pieces
    assert items[2]["output"] == pieces


@pytest.mark.parametrize(
    "part",
    [
        Image(blob=PICTURE),
        Image(blob=BlobRef(digest="sha256:text", size=5, media_type="image/png")),
        Image(url="data:image/png;base64,AAAA"),
        Image(url="data:image/png;base64,?"),
        Document(blob=PAPER, name="a.pdf"),
        Document(blob=BlobRef(digest="sha256:text", size=5, media_type="application/pdf")),
    ],
)
def test_what_is_missing_or_not_what_it_says_is_named_so_that_the_model_knows_of_it(part: Part) -> None:
    pieces = sent(user_message((Text(text="look"), part)), blobs={"sha256:text": b"hello"})[0]["content"]
    assert pieces[1]["type"] == "input_text"
    assert pieces[1]["text"].endswith(": its content cannot be shown here]")


def test_bytes_that_are_found_later_are_sent_then() -> None:
    driver = OpenAI()
    transcript = Transcript([user_message("hi"), user_message((Image(blob=PICTURE),)), said(Text(text="so"))])
    for blobs in ({}, BLOBS, {}):
        body = json.loads(driver.encode(Request(model="gpt-5", messages=transcript, blobs=blobs)))
        kinds = [piece["type"] for piece in body["input"][1]["content"]]
        assert kinds == (["input_image"] if blobs else ["input_text"])
        assert [body["input"][0]["content"], body["input"][2]["content"]] == ["hi", "so"]


# -- the address


@pytest.mark.parametrize(
    "base_url",
    [
        "https://user:secret@example.com/v1",
        "https://secret@example.com",
        "ftp://example.com",
        "example.com",
        "",
    ],
)
def test_a_base_url_that_is_no_plain_web_address_is_refused_without_repeating_its_secret(
    base_url: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAI(base_url=base_url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("headers", [{"x-key": "a\nb"}, {"x key": "a"}, {"x-key": "é"}, {"x-key": ""}])
def test_a_header_that_cannot_be_sent_is_refused_by_name(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(headers))):
        OpenAI(headers=headers)
