"""What our drivers send is what the official clients would: their types hold it, and they send it on as it is."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import anthropic
import openai
import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from google.genai import types
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import BaseModel, TypeAdapter

from holdfast.agent import Agent
from holdfast.config import Config
from holdfast.driver import Settings
from holdfast.errors import ToolError
from holdfast.registry import Registry
from holdfast.runtime import Runtime
from holdfast.testing.providers import FakeProvider, Protocol, call, calls, fail, say, trouble
from holdfast.tool import tool
from holdfast.turn import retry
from tests.testing.test_providers import DRIVERS, every_protocol

PARAMS: dict[Protocol, Any] = {
    "anthropic": MessageCreateParamsStreaming,
    "openai": ResponseCreateParamsStreaming,
    "openai-chat": CompletionCreateParamsStreaming,
}
FIELDS: dict[str, Any] = {
    "contents": list[types.Content],
    "systemInstruction": types.Content,
    "tools": list[types.Tool],
    "toolConfig": types.ToolConfig,
    "generationConfig": types.GenerationConfig,
}
"""What a Gemini request is made of: its client has no type for the whole."""

NO_LONGER: dict[Protocol, set[str]] = {"anthropic": {"temperature", "top_p"}}
"""Fields that only earlier models know, and earlier versions of the client had."""


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@tool(effect="pure")
async def doubt() -> str:
    """Fail."""
    raise ToolError("I do not know")


SCRIPT = (
    calls(("add", {"a": 1, "b": 2}), ("doubt", {}), text="I shall add.", thinking="Add, and doubt."),
    fail("overloaded"),
    trouble(calls(("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})), call_ids=("same",)),
    trouble(call("add", a=5, b=6), call_ids=()),
    call("add", a="x"),
    call("no_such_tool"),
    say("It is 3.", thinking="Done."),
    say("You are welcome."),
)


async def conversation(protocol: Protocol, settings: Settings) -> list[dict[str, Any]]:
    """The bodies of the requests of two turns in which much happens."""
    async with FakeProvider(protocol, SCRIPT) as fake:
        driver = DRIVERS[protocol](base_url=fake.base_url, api_key="sk-test")
        async with Runtime(registry=Registry(drivers={protocol: lambda: driver})) as runtime:
            agent = Agent("You add.", model=f"{protocol}/m", tools=[add, doubt])
            session = await runtime.session(agent, config=Config(settings=settings))
            assert (await session.run("1 + 2?")).text == "It is 3."
            assert (await session.run("Thank you, \u2028\U0001f600.")).text == "You are welcome."
        assert fake.answered == len(fake.requests) == len(SCRIPT)
        return [received.json for received in fake.requests]


MANY = Settings(temperature=0.5, max_tokens=4_000, tool_choice="add", parallel_calls=False, cache=True)
EFFORT = Settings(reasoning_effort="high")


@every_protocol
@pytest.mark.parametrize("settings", [Settings(), MANY, EFFORT], ids=["plain", "many settings", "effort"])
async def test_every_request_of_a_conversation_is_one_by_the_official_types(
    protocol: Protocol, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    for body in await conversation(protocol, settings):
        if protocol == "gemini":
            for name, value in body.items():
                TypeAdapter(FIELDS[name]).validate_python(value)
        else:
            assert body.keys() <= fields_of(PARAMS[protocol]) | NO_LONGER.get(protocol, set())
            exhaust(adapter(protocol).validate_python(body))


@pytest.mark.parametrize("protocol", PARAMS)
async def test_the_official_client_sends_our_requests_as_they_are(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    bodies = await conversation(protocol, EFFORT)
    async with FakeProvider(protocol, ["Hello."]) as fake:
        client: Any = (anthropic.AsyncAnthropic if protocol == "anthropic" else openai.AsyncOpenAI)(
            base_url=fake.base_url, api_key="sk-test", max_retries=0
        )
        create = {
            "anthropic": lambda: client.messages,
            "openai": lambda: client.responses,
            "openai-chat": lambda: client.chat.completions,
        }[protocol]().create
        async with client:
            for body in bodies:
                async for _ in await create(**body):
                    pass
        assert [received.json for received in fake.requests] == bodies
        assert fake.answered == len(bodies)


@cache
def adapter(protocol: Protocol) -> TypeAdapter[Any]:
    return TypeAdapter(PARAMS[protocol])


def fields_of(params: Any) -> set[str]:
    return set(params.__required_keys__ | params.__optional_keys__)


def exhaust(value: Any) -> None:
    """Look at everything in it: lists are only checked while they are read."""
    if isinstance(value, dict):
        for inner in value.values():
            exhaust(inner)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes | BaseModel):
        for inner in value:
            exhaust(inner)
