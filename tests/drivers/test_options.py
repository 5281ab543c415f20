"""What a driver is given, and what of it is told: all that changes behaviour, and no credential."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from holdfast.agent import Agent
from holdfast.config import Config, Layer
from holdfast.driver import OutputSpec, Request, ToolSpec, Transcript
from holdfast.drivers.gemini import Options as GeminiOptions
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.openai import Options as OpenAIOptions
from holdfast.drivers.openai_chat import Dialect, OpenAIChat
from holdfast.drivers.openai_chat import Options as ChatOptions
from holdfast.drivers.remote import KEPT
from holdfast.errors import ConfigError, DriverError
from holdfast.events import TurnStarted, encode_event
from holdfast.manifest import Manifest
from holdfast.messages import (
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
from holdfast.registry import Registry
from holdfast.resolve import resolve
from holdfast.runtime import Runtime
from tests.drivers.tongues import TONGUES, Tongue, request
from tests.drivers.wire_server import Exchange, WireServer

each_protocol = pytest.mark.parametrize("tongue", TONGUES, ids=[tongue.name for tongue in TONGUES])

SERVER_TOOL = {"type": "web_search", "name": "web_search"}
OWN_OPTIONS: dict[str, tuple[Any, ...]] = {
    "anthropic": (),
    "gemini": (
        GeminiOptions(safety=({"category": "C", "threshold": "OFF"},)),
        GeminiOptions(generation={"seed": 7}),
    ),
    "openai": (
        OpenAIOptions(store=True),
        OpenAIOptions(summary="auto"),
        OpenAIOptions(reasons=True),
        OpenAIOptions(include=("web_search_call.action.sources",)),
    ),
    "openai-chat": (
        ChatOptions(dialect=Dialect()),
        ChatOptions(dialect=Dialect(stream_usage=False)),
    ),
}


def manifest(driver: Any) -> Manifest:
    registry = Registry(drivers={"llm": driver})
    return resolve([Layer(name="agent", config=Config(model="llm/m"))], names=registry)


@each_protocol
def test_whatever_changes_behaviour_makes_another_digest(tongue: Tongue) -> None:
    options = tongue.driver._options_type
    drivers = [
        tongue.driver(),
        tongue.driver(base_url="https://example.com/v1"),
        tongue.driver(base_url="https://example.com/v2"),
        tongue.driver(base_url="https://example.com:8443/v1"),
        tongue.driver(base_url="https://example.com/v1?api-version=1"),
        tongue.driver(base_url="https://example.com/v1?api-version=2"),
        tongue.driver(vendor="mine"),
        tongue.driver(connect_timeout=1),
        tongue.driver(stall_timeout=1),
        tongue.driver(headers={"Anthropic-Beta": "a"}),
        tongue.driver(headers={"anthropic-beta": "b"}),
        tongue.driver(headers={"x-title": "a"}),
        tongue.driver(options=options(private=False)),
        tongue.driver(options=options(tools=(SERVER_TOOL,))),
        tongue.driver(options=options(extra={"service_tier": "flex"})),
        tongue.driver(options=options(extra={"service_tier": "default"})),
        *[tongue.driver(options=own) for own in OWN_OPTIONS[tongue.name]],
    ]
    digests = {manifest(driver).digest for driver in drivers}
    assert len(digests) == len(drivers)
    assert manifest(tongue.driver()).digest == manifest(tongue.driver()).digest


@each_protocol
def test_a_credential_makes_no_other_digest_and_is_in_no_document(tongue: Tongue) -> None:
    def made(secret: str) -> Any:
        return tongue.driver(
            base_url=f"https://example.com/v1?key={secret}-1&api-version=3",
            api_key=f"{secret}-2",
            headers={"X-Token": f"{secret}-3"},
            options=tongue.driver._options_type(
                tools=({"type": "mcp", "server_url": f"https://u:{secret}-4@mcp.test/x?k={secret}-5#f"},),
                extra={
                    "mcp_servers": [{"name": "m", "authorization_token": f"{secret}-6"}],
                    "headers": {"a": f"{secret}-7"},
                    "api_key": [f"{secret}-8"],
                    "note": f"sk-{secret}-123456",
                },
            ),
        )

    one, two = manifest(made("hunterone")), manifest(made("huntertwo"))
    assert one.digest == two.digest
    for shown in (one.document.decode(), repr(one), repr(one.describe()), repr(one.explain())):
        assert "hunter" not in shown
    told = json.loads(one.document)["drivers"][0]
    assert told["url"].startswith("https://example.com/v1")
    assert told["query"] == {"api-version": "3", "key": "(secret)"}
    assert told["headers"] == {"x-token": "(secret)"}
    assert told["options"]["tools"][0]["server_url"] == "https://mcp.test/x"
    assert told["options"]["extra"]["mcp_servers"][0]["name"] == "m"


@each_protocol
async def test_no_credential_is_in_what_a_failed_turn_leaves_behind(tongue: Tongue) -> None:
    async def echo(exchange: Exchange) -> None:
        await tongue.refuses("401 No", exchange.head.decode())(exchange)

    async with WireServer([echo]) as server:
        driver = tongue.made(
            server,
            base_url=f"{server.url}?key=hunter-1",
            api_key="sk-hunter-2",
            options=tongue.driver._options_type(extra={"api_key": "hunter-3"}),
        )
        async with Runtime(registry=Registry(drivers={"llm": driver})) as runtime:
            session = await runtime.session(Agent(model="llm/m"))
            result = await session.run("Hello?")
            told = b"".join([encode_event(event) for event in await session.events()]).decode()
            told += repr(result) + repr(driver) + repr(await session.inspect())
            for event in await session.events():
                if isinstance(event.data, TurnStarted):
                    told += (await runtime.store.get_blob(event.data.manifest)).decode()
        await driver.close()
    assert (result.status, "hunter-2" in told) == ("failed", False)
    assert "hunter-1" not in repr(driver)
    assert driver.host == "127.0.0.1"


@each_protocol
def test_fields_that_a_request_says_itself_are_no_extra(tongue: Tongue) -> None:
    for name in sorted(tongue.driver._ours):
        with pytest.raises(ConfigError, match=f"extra holds {name}, which the request itself says"):
            tongue.driver(options=tongue.driver._options_type(extra={name: 1}))


@each_protocol
def test_tools_of_the_provider_and_extra_fields_are_in_every_body(tongue: Tongue) -> None:
    own = ToolSpec(name="clock", description="", parameters={"type": "object", "properties": {}})
    options = tongue.driver._options_type(tools=(SERVER_TOOL,), extra={"service_tier": "flex"})
    driver = tongue.driver(options=options)
    for tools in ((), (own,)):
        body = json.loads(driver.encode(msgspec.structs.replace(request(), tools=tools)))
        assert SERVER_TOOL in body["tools"]
        assert len(body["tools"]) == 1 + len(tools)
        assert body["service_tier"] == "flex"


@each_protocol
def test_many_tool_lists_do_not_pile_up_and_are_never_mixed_up(tongue: Tongue) -> None:
    driver = tongue.driver(api_key="k")
    for number in range(200):
        tool = ToolSpec(name=f"tool_{number}", description="", parameters={"type": "object"})
        body = driver.encode(msgspec.structs.replace(request(), tools=(tool,)))
        assert re.findall(rb"tool_\d+", body) == [b"tool_%d" % number]
    assert len(driver._encoded._kept) <= KEPT


def test_what_a_driver_says_of_itself() -> None:
    driver = OpenAI(api_key="k", stall_timeout=300, options=OpenAIOptions(summary="auto"))
    assert driver.describe() == {
        "wire": "openai",
        "vendor": "openai",
        "url": "https://api.openai.com/v1/responses",
        "timeouts": {"connect": 10.0, "stall": 300},
        "options": {"summary": "auto"},
    }
    assert json.loads(manifest(driver).document)["drivers"] == [driver.describe()]


# -- schemas of tools


def asked(tongue: Tongue, schema: dict[str, Any], **options: Any) -> bytes:
    tool = ToolSpec(name="pay", description="Pay.", parameters=schema)
    driver = tongue.driver(api_key="k", **options)
    body: bytes = driver.encode(
        Request(model="m", messages=Transcript([user_message("hi")]), tools=(tool,), stream=True)
    )
    return body


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}
REFUSED: list[tuple[str, dict[str, Any], frozenset[str]]] = [
    ("type", {"type": "array", "items": {}}, frozenset()),
    ("type", {"properties": {"a": {}}}, frozenset()),
    ("$ref", {"type": "object", "properties": {"a": {"$ref": "https://x.test/a.json"}}}, frozenset()),
    ("anyOf", OBJECT | {"anyOf": [{"required": ["a"]}]}, frozenset({"gemini"})),
    ("oneOf", OBJECT | {"oneOf": [{"required": ["a"]}]}, frozenset({"gemini"})),
    ("allOf", OBJECT | {"allOf": [{"required": ["a"]}]}, frozenset({"gemini"})),
    ("enum", OBJECT | {"enum": [{"a": 1}]}, frozenset({"gemini", "anthropic"})),
    ("not", OBJECT | {"not": {"required": ["a"]}}, frozenset({"gemini", "anthropic"})),
]


@each_protocol
@pytest.mark.parametrize(("keyword", "schema", "taken_by"), REFUSED)
def test_a_tools_schema_that_a_provider_cannot_take_names_the_tool_and_the_keyword(
    tongue: Tongue, keyword: str, schema: dict[str, Any], taken_by: frozenset[str]
) -> None:
    if tongue.name in taken_by:
        assert b"pay" in asked(tongue, schema)
        return
    with pytest.raises(DriverError) as caught:
        asked(tongue, schema)
    assert caught.value.kind == "unsupported"
    assert f"the keyword {keyword!r} in the parameters of the tool 'pay'" in str(caught.value)


@each_protocol
async def test_a_schema_that_cannot_be_taken_is_said_before_anything_is_sent(tongue: Tongue) -> None:
    tool = ToolSpec(name="pay", description="Pay.", parameters={"type": "string"})
    async with WireServer([tongue.refuses("500 Oops", "reached")]) as server:
        driver = tongue.made(server, api_key=None)  # not even the key is looked for
        with pytest.raises(DriverError, match="'type' in the parameters of the tool 'pay'"):
            await driver.reply(
                Request(model="m", messages=Transcript([user_message("hi")]), tools=(tool,)), lambda *_: None
            )
        assert server.exchanges == []
        await driver.close()


def test_a_compatible_server_may_take_more_than_openai_does() -> None:
    chat = next(tongue for tongue in TONGUES if tongue.name == "openai-chat")
    schema = OBJECT | {"anyOf": [{"required": ["a"]}]}
    assert b"anyOf" in asked(chat, schema, base_url="http://localhost:11434/v1")


@each_protocol
@pytest.mark.parametrize("inner", [{"$ref": "#/$defs/A"}, {"enum": ["https://x.test"]}])
def test_what_stands_inside_a_property_is_the_tools_own(tongue: Tongue, inner: dict[str, Any]) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"anyOf": [inner, {"type": "null"}]}},
        "$defs": {"A": {"type": "string", "default": {"$ref": "https://no.reference.test"}}},
    }
    assert b'"pay"' in asked(tongue, schema)


# -- schemas of answers

SHAPE = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
NOWHERE: dict[str, tuple[str, dict[str, Any]]] = {
    "anthropic": ("additionalProperties", {"type": "object", "additionalProperties": {"type": "integer"}}),
    "gemini": ("patternProperties", {"type": "object", "patternProperties": {"^a": {"type": "integer"}}}),
    "openai": ("patternProperties", {"type": "object", "patternProperties": {"^a": {"type": "integer"}}}),
    "openai-chat": ("not", SHAPE | {"not": {"required": ["b"]}}),
}


@each_protocol
async def test_an_answers_schema_that_a_provider_cannot_take_names_the_keyword_before_anything_is_sent(
    tongue: Tongue,
) -> None:
    keyword, schema = NOWHERE[tongue.name]
    asked = msgspec.structs.replace(request(), output=OutputSpec(name="answer", schema=schema))
    async with WireServer([tongue.refuses("500 Oops", "reached")]) as server:
        held = {"options": ChatOptions(dialect=Dialect(holds_schemas=True))}
        driver = tongue.made(server, **(held if tongue.name == "openai-chat" else {}))
        with pytest.raises(DriverError, match=keyword) as caught:
            await driver.reply(asked, lambda *_: None)
        assert (caught.value.kind, server.exchanges) == ("unsupported", [])
        await driver.close()


def test_chat_completions_holds_the_answer_to_a_schema_where_the_server_does_that() -> None:
    asked = msgspec.structs.replace(request(), output=OutputSpec(name="an answer", schema=SHAPE))
    openai = OpenAIChat(api_key="k")
    held = json.loads(openai.encode(asked))["response_format"]
    assert held["json_schema"]["name"] == "an_answer"
    assert held["json_schema"]["strict"] is True
    assert held["json_schema"]["schema"]["additionalProperties"] is False
    assert openai.answers_by == "schema"
    local = OpenAIChat(base_url="http://localhost:11434/v1", api_key="")
    body = json.loads(local.encode(asked))
    assert "response_format" not in body
    assert json.dumps(SHAPE, separators=(",", ":")) in body["messages"][0]["content"]
    assert local.answers_by == "tool"


# -- what one model signed, and another is asked to go on from


def gone_on_with(model: str, *, native: bool = False) -> str:
    """The body of a request after a call that a Gemini model signed."""
    call = ToolCall(id="c1", name="clock", arguments="{}")
    parts: list[Part] = [
        Thinking(text="hm", signature="THOUGHT", provider="gemini/thought"),
        Thinking(signature="CALL", provider="gemini/next"),
        call,
    ]
    if native:
        data = '{"executableCode":{"code":"1"},"thoughtSignature":"RAN"}'
        parts.insert(0, Native(provider="gemini/part", data=data, text="ran 1"))
    messages = (
        user_message("When?"),
        Message(id="m1", role="assistant", content=tuple(parts)),
        tool_message(ToolResult(call_id="c1", name="clock", content=(Text(text="noon"),))),
    )
    vendor, _, name = model.partition("/")
    tongue = next(it for it in TONGUES if it.name == vendor)
    body: bytes = tongue.driver(api_key="k").encode(Request(model=name, messages=Transcript(messages)))
    return body.decode()


@pytest.mark.parametrize("model", ["gemini-3-pro-preview", "gemini-3.5-flash", "gemini-2.5-pro"])
def test_signatures_go_along_to_another_gemini_model_that_takes_them(model: str) -> None:
    body = gone_on_with(f"gemini/{model}", native=True)
    assert all(f'"thoughtSignature":"{it}"' in body for it in ("THOUGHT", "CALL", "RAN"))


@pytest.mark.parametrize("model", ["gemma-4-31b-it", "gemini-2.0-flash", "gemini-1.5-pro", "learnlm-2.0"])
def test_signatures_do_not_go_to_googles_models_that_refuse_them(model: str) -> None:
    body = gone_on_with(f"gemini/{model}", native=True)
    assert "ignature" not in body
    assert "executableCode" not in body
    assert "ran 1" in body
    assert '"functionCall"' in body


@pytest.mark.parametrize("model", ["anthropic/claude-opus-5", "openai/gpt-5.4", "openai-chat/gpt-5-mini"])
def test_what_gemini_signed_goes_to_nobody_else(model: str) -> None:
    body = gone_on_with(model, native=True)
    for signed in ("THOUGHT", "CALL", "RAN", "hm"):
        assert signed not in body
    assert "clock" in body
