"""What the Gemini driver sends: the official types, settings, schemas, media, and the rules of history."""

import base64
import json
from typing import Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from holdfast.driver import OutputSpec, Previous, Request, Settings, ToolSpec, Transcript
from holdfast.drivers.gemini import Gemini, Options
from holdfast.drivers.gemini_contents import UNSIGNED
from holdfast.errors import ConfigError, DriverError
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
from tests.drivers.asked import CLOCK, WEATHER, call, result, said
from tests.drivers.grammar_gemini import check, problems
from tests.recorded import SCENES, log

MODELS = ["gemini-2.5-flash", "gemini-3-pro-preview"]
PNG = b"\x89PNG\r\n\x1a\n and so on"
SHAPE = OutputSpec(name="answer", schema={"type": "object", "properties": {"a": {"type": "integer"}}})


def blob(media_type: str = "image/png", digest: str = "sha256:1") -> BlobRef:
    return BlobRef(digest=digest, size=9, media_type=media_type)


def signature(of: str, where: str = "next") -> Thinking:
    return Thinking(signature=of, provider=f"gemini/{where}")


def encoded(*messages: Message, driver: Gemini | None = None, **fields: Any) -> dict[str, Any]:
    fields = {"model": "gemini-2.5-flash"} | fields
    request = Request(messages=Transcript(messages or [user_message("hi")]), **fields)
    decoded: dict[str, Any] = json.loads((driver or Gemini()).encode(request))
    return decoded


def parts_of(body: dict[str, Any], place: int = -1) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = body["contents"][place]["parts"]
    return parts


# -- the official types


def accept(body: dict[str, Any]) -> None:
    """Raises unless the official client's types, which refuse unknown fields, take all of the body."""
    known = {
        "contents": list[types.Content],
        "systemInstruction": types.Content,
        "tools": list[types.Tool],
        "toolConfig": types.ToolConfig,
        "safetySettings": list[types.SafetySetting],
        "generationConfig": types.GenerationConfig,
        "labels": dict[str, str],
    }
    for name, value in body.items():
        kind: Any = known[name]
        inner = (
            kind.__args__[0] if kind in (known["contents"], known["tools"], known["safetySettings"]) else None
        )
        for it in value if inner else [value]:
            if hasattr(inner or kind, "model_validate"):
                (inner or kind).model_validate(it)


RICH = [
    user_message((Text(text="What is this?"), Image(url="https://example.com/cat.png"), Image(blob=blob()))),
    said(
        Thinking(text="hm", signature="AAAA", provider="gemini/thought"),
        Text(text="Let me look."),
        Native(provider="gemini/part", data='{"executableCode":{"language":"PYTHON","code":"1"}}', text="1"),
        signature("BBBB"),
        call(0),
        call(1, "not json"),
        Native(provider="gemini/answer", data='{"groundingMetadata":{"x":1}}', text="source"),
    ),
    result(call(0), Text(text="fine "), Image(blob=blob())),
    result(call(1), Text(text="broken"), status="error"),
    user_message((Text(text="And this?"), Document(url="data:application/pdf;base64,AA==", name="a.pdf"))),
    said(Text(text="Sunny."), Image(url="data:image/png;base64," + base64.b64encode(PNG).decode())),
    user_message("thanks"),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("choice", [None, "auto", "none", "required", "clock"])
def test_the_official_types_and_the_grammar_accept_a_rich_request(model: str, choice: str | None) -> None:
    settings = Settings(
        temperature=0.2,
        top_p=0.9,
        max_tokens=100,
        reasoning_effort="low",
        tool_choice=choice,
        parallel_calls=False,
        stop=("END",),
        cache=True,
    )
    options = Options(
        tools=({"googleSearch": {}},),
        safety=({"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"},),
        generation={"responseModalities": ["TEXT"], "seed": 7},
    )
    body = encoded(
        *RICH,
        driver=Gemini(options=options),
        model=model,
        instructions="Be brief.",
        tools=(WEATHER, CLOCK),
        settings=settings,
        output=SHAPE,
        metadata={"session_id": "session_1"},
        previous=Previous(response_id="r", covers=2),
        blobs={"sha256:1": PNG},
    )
    accept(body)
    check(body, signed=model.startswith("gemini-3"))
    config = body["generationConfig"]
    assert (config["temperature"], config["topP"], config["maxOutputTokens"]) == (0.2, 0.9, 100)
    assert (config["stopSequences"], config["seed"]) == (["END"], 7)
    assert len(body["contents"]) == 5, "an answer that the provider might know is told again"
    modes = {None: None, "auto": "AUTO", "none": "NONE", "required": "ANY", "clock": "ANY"}
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    assert calling.get("mode") == modes[choice]
    assert calling.get("allowedFunctionNames") == (["clock"] if choice == "clock" else None)


def test_the_official_types_refuse_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        accept({"contents": [{"role": "user", "parts": [{"text": "x", "nonsense": 1}]}]})


# -- settings


def test_what_is_not_set_is_not_sent() -> None:
    assert encoded() == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    assert (
        encoded(metadata={"session_id": "s"}, settings=Settings(parallel_calls=False, cache=True))
        == encoded()
    )


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("models/gemini-2.5-pro", "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-flash", "4000", {"thinkingBudget": 4000, "includeThoughts": True}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-pro-preview", "Low", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-flash-latest", "medium", {"thinkingLevel": "MEDIUM", "includeThoughts": True}),
        ("gemini-3-pro-preview", "4000", {"thinkingBudget": 4000, "includeThoughts": True}),
    ],
)
def test_effort_is_a_budget_before_gemini_3_and_a_level_since(
    model: str, effort: str, config: dict[str, Any]
) -> None:
    body = encoded(model=model, settings=Settings(reasoning_effort=effort))
    assert body["generationConfig"]["thinkingConfig"] == config
    accept(body)


def test_every_level_is_one_that_the_official_client_knows() -> None:
    for effort in ("none", "minimal", "low", "medium", "high", "xhigh"):
        body = encoded(model="gemini-3-pro", settings=Settings(reasoning_effort=effort))
        level = body["generationConfig"]["thinkingConfig"]["thinkingLevel"]
        assert level in {it.value for it in types.ThinkingLevel}


def test_an_effort_that_is_no_word_of_gemini_is_refused_with_those_that_are() -> None:
    with pytest.raises(DriverError, match="minimal, low, medium, high") as caught:
        encoded(settings=Settings(reasoning_effort="enormous"))
    assert caught.value.kind == "unsupported"


def test_the_choice_of_a_tool_is_sent_only_with_tools() -> None:
    assert "toolConfig" not in encoded(settings=Settings(tool_choice="required"))


def test_metadata_becomes_labels_where_labels_are_taken_and_as_far_as_they_can_hold_it() -> None:
    vertex = Gemini(base_url="https://aiplatform.googleapis.com/v1/publishers/google")
    metadata = {
        "session_id": "session_1",
        "team": "x",
        "Team": "x",
        "note": "Two words",
        "empty": "",
        "1st": "x",
    }
    assert encoded(driver=vertex, metadata=metadata)["labels"] == {"team": "x", "empty": ""}
    assert "labels" not in encoded(driver=vertex, metadata={"Team": "x"})
    assert "labels" not in encoded(metadata=metadata)


@pytest.mark.parametrize(
    ("base_url", "model", "stream", "address"),
    [
        (None, "gemini-2.5-flash", True, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        (None, "models/gemini-2.5-flash", False, "/v1beta/models/gemini-2.5-flash:generateContent"),
        (None, "tunedModels/mine-1", False, "/v1beta/tunedModels/mine-1:generateContent"),
        ("https://x.example/a/v1/?b=1", "m", True, "/a/v1/models/m:streamGenerateContent?b=1&alt=sse"),
        ("https://x.example", "m", False, "/models/m:generateContent"),
    ],
)
def test_model_and_method_are_in_the_address(
    base_url: str | None, model: str, stream: bool, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL", raising=False)
    request = Request(model=model, messages=Transcript([user_message("hi")]), stream=stream)
    assert Gemini(base_url=base_url)._address(request).raw_path.decode() == address


def test_the_vendors_variable_names_a_host_and_the_version_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://localhost:8080/")
    request = Request(model="m", messages=Transcript(), stream=False)
    assert str(Gemini()._address(request)) == "http://localhost:8080/v1beta/models/m:generateContent"


@pytest.mark.parametrize(
    "model", ["a/../b", "../m", "m?x=1", "m#x", "m:countTokens", "ä", "a b", "a//b", "/m"]
)
def test_a_name_that_would_lead_elsewhere_is_refused_before_anything_is_sent(model: str) -> None:
    with pytest.raises(DriverError, match="cannot be the name") as caught:
        encoded(model=model)
    assert caught.value.kind == "invalid_request"


@pytest.mark.parametrize(
    "base_url", ["https://user:secret@example.com/v1", "ftp://example.com", "", "http://"]
)
def test_a_base_url_that_is_no_plain_web_address_is_refused_without_repeating_its_secret(
    base_url: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        Gemini(base_url=base_url)
    assert "secret" not in str(caught.value)


def test_equal_requests_have_equal_bytes_and_more_history_is_only_added() -> None:
    driver = Gemini()
    transcript = Transcript([user_message("one")])
    request = Request(model="gemini-3-pro", messages=transcript, tools=(WEATHER,), instructions="Be brief.")
    first = driver.encode(request)
    assert driver.encode(request) == first
    transcript.extend([said(Text(text="two")), user_message("three")])
    later = json.loads(driver.encode(request))
    assert [parts[0]["text"] for parts in (it["parts"] for it in later["contents"])] == [
        "one",
        "two",
        "three",
    ]
    assert later["tools"] == json.loads(first)["tools"]


def test_addresses_of_many_models_do_not_pile_up() -> None:
    driver = Gemini()
    for number in range(200):
        request = Request(model=f"m-{number}", messages=Transcript(), stream=False)
        assert str(driver._address(request)).endswith(f"/models/m-{number}:generateContent")
        driver.encode(request)
    assert len(driver._addresses) <= 64


def test_a_lone_surrogate_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(DriverError, match="lone surrogate") as caught:
        encoded(user_message("\ud800"))
    assert caught.value.kind == "invalid_request"


# -- schemas


def held(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    output = OutputSpec(name="answer", schema=schema, **more)
    config: dict[str, Any] = encoded(output=output)["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    shape: dict[str, Any] = config["responseJsonSchema"]
    return shape


def test_a_schema_goes_as_it_is_as_far_as_gemini_knows_the_language() -> None:
    schema = {
        "$defs": {"Tree": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Tree"}}}},
        "type": "object",
        "description": "A forest.",
        "properties": {
            "trees": {"type": "array", "items": {"$ref": "#/$defs/Tree"}, "minItems": 1, "maxItems": 9},
            "kind": {"enum": ["a", "b"], "default": "a"},
            "age": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
            "when": {"type": ["string", "null"], "format": "date-time"},
            "more": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["trees"],
        "additionalProperties": False,
    }
    assert held(schema) == schema


def test_what_only_limits_a_value_is_said_in_words_and_remarks_are_left_out() -> None:
    shape = held(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "code": {"type": "string", "description": "A code.", "pattern": "^[A-Z]$", "examples": ["A"]},
                "mail": {"type": "string", "format": "email"},
                "kind": {"const": "x"},
                "yes": {"const": True},
                "odd": {"enum": ["a", None]},
                "pattern": {"type": "string", "x-note": 1},
            },
        }
    )
    assert shape == {
        "type": "object",
        "properties": {
            "code": {"type": "string", "description": 'A code. (pattern: "^[A-Z]$")'},
            "mail": {"type": "string", "description": '(format: "email")'},
            "kind": {"enum": ["x"]},
            "yes": {"type": "boolean", "description": "(one of: true)"},
            "odd": {"description": '(one of: "a", null)'},
            "pattern": {"type": "string"},
        },
    }


def test_older_definitions_an_all_of_one_and_what_stands_beside_a_reference_are_put_right() -> None:
    shape = held(
        {
            "type": "object",
            "definitions": {"A": {"type": "string"}},
            "properties": {
                "a": {"$ref": "#/definitions/A", "description": "dropped"},
                "b": {"allOf": [{"type": "string"}], "description": "kept"},
            },
        }
    )
    assert shape["$defs"] == {"A": {"type": "string"}}
    assert shape["properties"] == {
        "a": {"$ref": "#/$defs/A"},
        "b": {"type": "string", "description": "kept"},
    }


@pytest.mark.parametrize(
    ("keyword", "schema"),
    [
        ("not", {"not": {"type": "string"}}),
        ("if", {"if": {}, "then": {}}),
        ("allOf", {"allOf": [{"type": "object"}, {"type": "object"}]}),
        ("patternProperties", {"patternProperties": {"^a": {"type": "string"}}}),
        ("dependentRequired", {"dependentRequired": {"a": ["b"]}}),
        ("contains", {"contains": {"type": "string"}}),
        ("$ref to https://x.example/s.json", {"$ref": "https://x.example/s.json"}),
        ("false", {"items": False}),
        ("nested", None),
    ],
)
def test_a_keyword_that_gemini_cannot_take_is_named_before_anything_is_sent(
    keyword: str, schema: dict[str, Any] | None
) -> None:
    if schema is None:
        schema = {"type": "string"}
        for _ in range(2_000):
            schema = {"type": "array", "items": schema}
    outer = {"type": "object", "properties": {"deep": schema}}
    with pytest.raises(DriverError) as caught:
        held(outer)
    assert caught.value.kind == "unsupported"
    assert keyword in str(caught.value)
    assert "/properties/deep" in str(caught.value)
    assert held(outer, strict=False)["type"] == "object"
    tool = ToolSpec(name="t", description="", parameters=outer)
    if "$ref" in keyword:  # what it stands for is nowhere: nothing can be left out
        with pytest.raises(DriverError, match="'\\$ref' in the parameters of the tool 't'"):
            encoded(tools=(tool,))
        return
    declared = encoded(tools=(tool,))["tools"][0]["functionDeclarations"][0]
    assert declared["parametersJsonSchema"]["type"] == "object"


def test_models_that_cannot_have_tools_and_be_held_to_a_shape_are_told_the_shape_in_words() -> None:
    old = encoded(output=SHAPE, tools=(CLOCK,), instructions="Be brief.")
    assert "generationConfig" not in old
    words = old["systemInstruction"]["parts"][0]["text"]
    assert words.startswith("Be brief.\n\nYour final answer must be JSON")
    assert json.loads(words.rpartition("\n")[2]) == SHAPE.schema
    new = encoded(output=SHAPE, tools=(CLOCK,), model="gemini-3-pro")
    assert new["generationConfig"]["responseJsonSchema"] == SHAPE.schema
    assert "systemInstruction" not in new


# -- history


def test_the_results_of_a_messages_calls_stand_together_right_after_it_and_what_the_user_adds_behind() -> (
    None
):
    body = encoded(
        user_message("go"), said(call(0), call(1)), result(call(0)), result(call(1)), user_message("and?")
    )
    assert [it["role"] for it in body["contents"]] == ["user", "model", "user"]
    assert [next(iter(part)) for part in parts_of(body)] == ["functionResponse", "functionResponse", "text"]


def test_calls_and_results_are_paired_by_the_providers_id_or_else_by_ours() -> None:
    theirs, ours = call(0, provider_id="x1"), call(1)
    body = encoded(user_message("go"), said(theirs, ours), result(theirs), result(ours))
    assert [part["functionCall"]["id"] for part in parts_of(body, 1)] == ["x1", ours.id]
    assert [part["functionResponse"]["id"] for part in parts_of(body, 2)] == ["x1", ours.id]


@pytest.mark.parametrize("status", ["error", "denied", "cancelled", "in_doubt"])
def test_a_call_that_did_not_end_well_has_an_error_and_no_output(status: str) -> None:
    body = encoded(user_message("go"), said(call(0)), result(call(0), status=status))
    assert parts_of(body)[0]["functionResponse"]["response"] == {"error": "fine"}


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ('{"a": ', {"invalid_arguments": '{"a": '}),
        ("[1]", {"invalid_arguments": "[1]"}),
        ('{"a": NaN}', {"invalid_arguments": '{"a": NaN}'}),
        ("[" * 5000, {"invalid_arguments": "[" * 5000}),
    ],
)
def test_arguments_that_are_no_object_do_not_break_the_request(written: str, sent: dict[str, Any]) -> None:
    body = encoded(user_message("go"), said(call(0, written)), result(call(0)))
    assert parts_of(body, 1)[0]["functionCall"]["args"] == sent


def test_a_name_that_a_model_made_up_is_sent_as_one_that_gemini_takes_for_call_and_result() -> None:
    odd = call(0, name="do it, now!")
    body = encoded(user_message("go"), said(odd), result(odd))
    names = [parts_of(body, 1)[0]["functionCall"]["name"], parts_of(body, 2)[0]["functionResponse"]["name"]]
    assert names == ["_do_it__now_"] * 2


def test_a_conversation_that_the_model_begins_or_nobody_does_still_begins_with_a_user() -> None:
    for messages in ([said(Text(text="Hello"))], []):
        request = Request(model="m", messages=Transcript(messages))
        body = json.loads(Gemini().encode(request))
        assert body["contents"][0] == {"role": "user", "parts": [{"text": "(no words)"}]}
        assert len(body["contents"]) == 1 + len(messages)


def test_signatures_go_back_on_the_parts_they_came_with() -> None:
    body = encoded(
        user_message("go"),
        said(
            Thinking(text="hm", provider="gemini/thought"),
            Thinking(text="aha", signature="S0", provider="gemini/thought"),
            Text(text="a"),
            signature("S1"),
            Text(text="b"),
            signature("S2"),
            call(0),
            call(1),
            signature("S3", "text"),
        ),
        result(call(0)),
        result(call(1)),
        model="gemini-3-pro-preview",
    )
    told = [
        {name: value for name, value in part.items() if name != "functionCall"} for part in parts_of(body, 1)
    ]
    assert told == [
        {"text": "aha", "thought": True, "thoughtSignature": "S0"},
        {"text": "a"},
        {"text": "b", "thoughtSignature": "S1"},
        {"thoughtSignature": "S2"},
        {},
        {"text": "", "thoughtSignature": "S3"},
    ]


def test_a_signature_whose_part_is_gone_goes_back_by_itself() -> None:
    ran = '{"executableCode":{"language":"PYTHON","code":"1"}}'
    body = encoded(
        user_message("go"),
        said(
            signature("S1"),
            signature("S2"),
            Text(text=""),
            Native(provider="gemini/part", data=ran),
            Text(text="x"),
            signature("S3"),
        ),
    )
    assert parts_of(body) == [
        {"text": "", "thoughtSignature": "S1"},
        {"text": "", "thoughtSignature": "S2"},
        json.loads(ran),
        {"text": "x"},
        {"text": "", "thoughtSignature": "S3"},
    ]


def test_a_call_that_gemini_did_not_make_is_marked_as_such_for_models_that_want_signatures() -> None:
    history = [user_message("go"), said(call(0), call(1)), result(call(0)), result(call(1))]
    new = parts_of(encoded(*history, model="gemini-3-flash"), 1)
    assert [part.get("thoughtSignature") for part in new] == [UNSIGNED, None]
    old = parts_of(encoded(*history), 1)
    assert [part.get("thoughtSignature") for part in old] == [None, None]


def test_what_another_vendor_signed_thought_or_ran_is_not_shown_but_for_its_words() -> None:
    foreign: list[Part] = [
        Thinking(text="because", provider="anthropic", signature="sig"),
        Thinking(text="because", provider="other/next", signature="sig"),
        Thinking(text="because", provider="gemini", signature="sig"),
        Thinking(text="because"),
        Native(provider="openai", data='{"secret":1}', text="searched the web"),
        Native(provider="openai", data='{"secret":1}'),
    ]
    body = encoded(user_message("go"), said(*foreign, Text(text="so")))
    assert parts_of(body) == [{"text": "searched the web"}, {"text": "so"}]


def test_what_ran_at_gemini_goes_back_as_it_came_and_what_was_found_about_an_answer_does_not() -> None:
    data = '{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"1\\n"},"thoughtSignature":"S"}'
    body = encoded(
        user_message("go"),
        said(
            Native(provider="gemini/part", data=data, text="1"),
            Text(text="1"),
            Native(provider="gemini/answer", data='{"groundingMetadata":{}}', text="A <https://a>"),
        ),
    )
    assert parts_of(body) == [json.loads(data), {"text": "1"}]


# -- images and documents


def test_bytes_are_sent_with_the_type_they_have_and_missing_ones_are_named() -> None:
    message = user_message(
        (
            Image(blob=blob("image/jpeg")),
            Document(blob=blob("application/json", "sha256:2"), name="a.json"),
            Document(blob=blob("application/zip", "sha256:3"), name="a.zip"),
            Image(blob=blob(digest="sha256:4")),
        )
    )
    blobs = {"sha256:1": PNG, "sha256:2": b"{}", "sha256:3": b"PK"}
    assert parts_of(encoded(message, blobs=blobs)) == [
        {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(PNG).decode()}},
        {"inlineData": {"mimeType": "text/plain", "data": "e30="}},
        {"text": "[document a.zip, application/zip, 9 bytes: its content cannot be shown here]"},
        {"text": "[image, image/png, 9 bytes: its content cannot be shown here]"},
    ]


def test_bytes_that_could_not_be_had_once_are_sent_when_they_can() -> None:
    driver, transcript = Gemini(), Transcript([user_message((Image(blob=blob()),))])
    without = json.loads(driver.encode(Request(model="m", messages=transcript)))
    then = json.loads(driver.encode(Request(model="m", messages=transcript, blobs={"sha256:1": PNG})))
    assert "text" in parts_of(without)[0]
    assert "inlineData" in parts_of(then)[0]


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("https://x.example/a.PNG?b=1", {"mimeType": "image/png", "fileUri": "https://x.example/a.PNG?b=1"}),
        ("https://x.example/a", {"fileUri": "https://x.example/a"}),
    ],
)
def test_an_address_is_fetched_by_the_provider(url: str, part: dict[str, str]) -> None:
    assert parts_of(encoded(user_message((Image(url=url),)))) == [{"fileData": part}]


def test_a_data_url_is_sent_as_bytes_however_it_is_written() -> None:
    urls = ("data:text/plain;base64,YSBi", "data:text/plain;charset=utf-8,a%20b")
    parts = parts_of(encoded(user_message(tuple(Document(url=url) for url in urls))))
    assert parts == [{"inlineData": {"mimeType": "text/plain", "data": "YSBi"}}] * 2


def test_media_in_results_are_inside_them_on_gemini_3_and_behind_all_of_them_before() -> None:
    data = base64.b64encode(PNG).decode()
    history = [
        user_message("go"),
        said(call(0), call(1)),
        result(call(0), Text(text="see "), Image(blob=blob())),
        result(call(1), Image(blob=blob(digest="sha256:9")), Text(text="!")),
    ]
    new = parts_of(encoded(*history, model="gemini-3-pro", blobs={"sha256:1": PNG}))
    media = {"inlineData": {"mimeType": "image/png", "data": data}}
    assert new[0]["functionResponse"]["parts"] == [media]
    assert new[0]["functionResponse"]["response"] == {"output": "see "}
    written = call(2, '{\n"a":\n1}')
    then = encoded(*history, said(written), result(written), blobs={"sha256:1": PNG})
    assert [len(it["parts"]) for it in then["contents"]] == [1, 2, 3, 1, 1]
    assert parts_of(then, 3)[0]["functionCall"]["args"] == {"a": 1}
    old = parts_of(encoded(*history, user_message("and?"), blobs={"sha256:1": PNG}))
    assert [next(iter(part)) for part in old] == [
        "functionResponse",
        "functionResponse",
        "inlineData",
        "text",
    ]
    assert old[0]["functionResponse"]["response"] == {"output": "see [see below]"}
    assert old[1]["functionResponse"]["response"]["output"].startswith(
        "[image, image/png, 9 bytes: its content"
    )


# -- any history


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("model", MODELS)
def test_the_history_of_every_recorded_scene_keeps_the_grammar(scene: str, model: str) -> None:
    body = encoded(*repair(fold(log(scene)[0].session_id, log(scene)).messages), model=model)
    accept(body)
    check(body, signed=model.startswith("gemini-3"))


TEXTS = st.sampled_from(["", " ", "some words", "a\u2028b\n"])
MEDIA = st.sampled_from(
    [
        Image(),
        Image(url="https://a.example/b.png"),
        Image(url="data:image/png;base64,!"),
        Image(blob=blob()),
        Document(blob=blob(digest="sha256:gone")),
        Document(url="data:,x"),
    ]
)
NATIVES = st.sampled_from(
    [
        Native(provider="gemini/part", data='{"executableCode":{"language":"PYTHON","code":"1"}}'),
        Native(provider="gemini/answer", data='{"groundingMetadata":{}}', text="source"),
        Native(provider="anthropic", data="{}", text="ran"),
    ]
)
THOUGHTS = st.builds(
    Thinking,
    text=TEXTS,
    signature=st.sampled_from(["", "AAAA"]),
    provider=st.sampled_from(["gemini/thought", "gemini/next", "gemini/text", "anthropic", ""]),
)
CALLS = st.builds(
    ToolCall,
    id=st.sampled_from(["call_a", "call_b", "call_c"]),
    name=st.just("look it up!"),
    arguments=st.sampled_from(["{}", "", "[1]", '{"a":1}']),
    provider_id=st.sampled_from(["", "p1", "p2"]),
)
RESULTS = st.builds(
    ToolResult,
    call_id=st.sampled_from(["call_a", "call_b", "call_c"]),
    name=st.just("look it up!"),
    content=st.lists(st.builds(Text, text=TEXTS) | MEDIA, max_size=2).map(tuple),
    status=st.sampled_from(["ok", "error", "in_doubt"]),
)
SPOKEN = st.builds(Text, text=TEXTS) | MEDIA | NATIVES | THOUGHTS | CALLS
MESSAGES = st.one_of(
    st.builds(
        Message,
        id=st.just("message_m"),
        role=st.sampled_from(["user", "assistant"]),
        content=st.lists(SPOKEN, max_size=5).map(tuple),
    ),
    RESULTS.map(tool_message),
)


@given(st.lists(MESSAGES, max_size=8), st.sampled_from(MODELS))
def test_any_history_that_the_loop_can_send_keeps_the_grammar(messages: list[Message], model: str) -> None:
    driver, mended = Gemini(), repair(messages)
    body = encoded(*mended, driver=driver, model=model, blobs={"sha256:1": PNG})
    signed = model.startswith("gemini-3")
    check(body, signed=signed)
    accept(body)
    grown = Transcript()
    for message in mended:
        grown.extend([message])
        step = Request(model=model, messages=grown, blobs={"sha256:1": PNG})
        last = json.loads(driver.encode(step))
    assert not mended or last == body


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ([], "no contents"),
        ([{"role": "model", "parts": [{"text": "x"}]}], "the user's turn"),
        ([{"role": "user", "parts": []}], "without parts"),
        ([{"role": "user", "parts": [{"text": ""}]}], "empty"),
        ([{"role": "user", "parts": [{"text": "x", "inlineData": {}}]}], "kinds"),
        (
            [{"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}],
            "0 calls before",
        ),
        (
            [
                {"role": "user", "parts": [{"text": "x"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            ],
            "no results",
        ),
    ],
)
def test_the_checker_finds_what_is_wrong(contents: list[dict[str, Any]], complaint: str) -> None:
    assert any(complaint in it for it in problems({"contents": contents}, signed=True))
