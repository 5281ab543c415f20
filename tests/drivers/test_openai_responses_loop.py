"""Recorded conversations over Responses, held again by the whole loop: it asks what was asked then."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from holdfast.agent import Agent
from holdfast.config import Config
from holdfast.registry import Registry
from holdfast.runtime import Runtime
from holdfast.schema import Parameters
from holdfast.tool import Context, Tool
from tests.drivers.grammar_openai import problems
from tests.drivers.recorded_openai import FILES, NOTHING, driver_for, item_meaning, meaning, rebuilt
from tests.drivers.wire_server import Script, WireServer, says, streams

Exchanges = list[dict[str, Any]]


def conversations() -> Iterator[Any]:
    """The recordings in which each request says all of the one before, the answer, and something more."""
    for path in FILES:
        held: Exchanges = []
        for exchange in json.loads(path.read_bytes())["interactions"]:
            if not exchange["request"]["uri"].endswith("/responses"):
                continue
            before = held[-1]["request"]["body"]["input"] if held else []
            now = exchange["request"]["body"]["input"]
            if now[: len(before)] == before and len(now) > len(before):
                held.append(exchange)
        if len(held) > 1:
            yield pytest.param(held, id=path.stem)


CONVERSATIONS = list(conversations())


def test_there_are_conversations_with_tools_thoughts_and_more_than_one_turn() -> None:
    assert len(CONVERSATIONS) >= 12


@pytest.mark.parametrize("held", CONVERSATIONS)
async def test_a_recorded_conversation_is_held_again_with_the_same_requests(held: Exchanges) -> None:
    recorded = [exchange["request"]["body"] for exchange in held]
    async with WireServer([answer(exchange["response"]) for exchange in held]) as server:
        driver = driver_for(recorded[0], base_url=server.url, api_key="sk-test")
        async with Runtime(registry=Registry(drivers={"openai": lambda: driver})) as runtime:
            session = await runtime.session(agent(recorded))
            for item in recorded[-1]["input"]:
                if item.get("role") == "user":
                    assert (await session.run(item["content"])).status == "completed"
        sent = [json.loads(exchange.body) for exchange in server.exchanges]
    assert [compared(body) for body in sent] == [compared(body) for body in recorded]
    assert [problems(body) for body in sent] == [[]] * len(sent)


def answer(response: dict[str, Any]) -> Script:
    if isinstance(response["body"], str):
        return streams(response["body"].encode())
    return says(json.dumps(response["body"]).encode())


def agent(recorded: list[dict[str, Any]]) -> Agent:
    first = rebuilt(recorded[0])
    outputs = iter(
        [item["output"] for item in recorded[-1]["input"] if "output" in item and "call_id" in item]
    )
    tools = [
        Tool(
            name=spec.name,
            description=spec.description,
            parameters=Parameters(spec.parameters),
            run=answering(outputs),
            lane="one after the other",  # so that results are taken in the order of the calls
        )
        for spec in first.tools
    ]
    config = Config(settings=first.settings)
    return Agent(first.instructions, model=f"openai/{first.model}", tools=tools, config=config)


def answering(outputs: Iterator[str]) -> Callable[[Context, Any], Awaitable[str]]:
    async def run(ctx: Context, arguments: Any) -> str:
        return next(outputs)

    return run


def compared(body: dict[str, Any]) -> Any:
    """The meaning of a request. The loop always streams, and the shape of the answer is not a matter of the history.

    One recorded client took a call's item id for its call id, there and back; so calls count by their number.
    """
    kept = {name: value for name, value in meaning(body).items() if name not in ("text", "stream")}
    ids: dict[str, str] = {}
    kept["input"] = [
        item_meaning(item)
        | ({"call_id": ids.setdefault(item["call_id"], f"{len(ids)}")} if "call_id" in item else {})
        for item in body["input"]
        if item_meaning(item) != NOTHING
    ]
    return kept
