"""Recorded conversations with Claude, held again by the whole loop: it asks what was asked then."""

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.agent import Agent
from holdfast.config import Config
from holdfast.registry import Registry
from holdfast.runtime import Runtime
from holdfast.schema import Parameters
from holdfast.session import Session
from holdfast.tool import Context, Tool
from tests.drivers.recorded_anthropic import FILES, driver_for, meaning, rebuilt, text_of
from tests.drivers.wire_server import WireServer, says

Blocks = list[dict[str, Any]]


def conversations() -> Iterator[Any]:
    """The recordings in which each request says all of the one before, the answer, and one thing more."""
    for path in FILES:
        interactions = json.loads(path.read_bytes())["interactions"]
        said = [len(it["request"]["body"].get("messages", ())) for it in interactions]
        if len(said) > 1 and said == list(range(1, 2 * len(said), 2)):
            yield pytest.param(path, id=path.stem)


CONVERSATIONS = list(conversations())


def test_there_are_conversations_with_tools_thoughts_and_more_than_one_turn() -> None:
    assert len(CONVERSATIONS) >= 9


@pytest.mark.parametrize("path", CONVERSATIONS)
async def test_a_recorded_conversation_is_held_again_with_the_same_requests(path: Path) -> None:
    interactions = json.loads(path.read_bytes())["interactions"]
    recorded = [it["request"]["body"] for it in interactions]
    answers = [says(json.dumps(it["response"]["body"]).encode()) for it in interactions]
    async with WireServer(answers) as server:
        driver = driver_for(recorded[0], base_url=server.url, api_key="sk-ant-test")
        async with Runtime(registry=Registry(drivers={"claude": lambda: driver})) as runtime:
            session = await runtime.session(agent(recorded))
            await hold(session, recorded[-1])
        sent = [json.loads(exchange.body) for exchange in server.exchanges]
    assert [compared(body) for body in sent] == [compared(body) for body in recorded]


def agent(recorded: list[dict[str, Any]]) -> Agent:
    first = rebuilt(recorded[0])
    results = iter([block for block in blocks(recorded[-1]) if block["type"] == "tool_result"])
    tools = [
        Tool(
            name=spec.name,
            description=spec.description,
            parameters=Parameters(spec.parameters),
            run=answering(results),
            lane="one after the other",  # so that results are taken in the order of the calls
        )
        for spec in first.tools
    ]
    config = Config(settings=first.settings)
    return Agent(first.instructions, model=f"claude/{first.model}", tools=tools, config=config)


def answering(results: Iterator[dict[str, Any]]) -> Callable[[Context, Any], Awaitable[str]]:
    async def run(ctx: Context, arguments: Any) -> str:
        content = next(results)["content"]
        return content if isinstance(content, str) else "".join(text_of(it) for it in content)

    return run


async def hold(session: Session, last: dict[str, Any]) -> None:
    """Say what the user said in the recording, and wait for each turn to end."""
    for message in rebuilt(last).messages:
        if message.role == "user":
            assert (await session.run(message.content)).status == "completed"


def blocks(body: dict[str, Any]) -> Blocks:
    return [block for it in body["messages"] if isinstance(it["content"], list) for block in it["content"]]


def compared(body: dict[str, Any]) -> Any:
    """The meaning of a request; the loop always streams and trims instructions, and a null in what a provider said is
    nothing said."""
    told = meaning(body | {"stream": True})
    return without_nulls(told | {"system": told["system"].strip()})


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(inner) for inner in value]
    return value
