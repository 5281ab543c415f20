"""Recorded conversations with Gemini, held again by the whole loop: it asks what was asked then."""

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
from tests.drivers.grammar_gemini import check
from tests.drivers.recorded_gemini import FILES, driver_for, meaning, model_of, rebuilt
from tests.drivers.wire_server import Script, WireServer, says, streams

LAST = {"candidates": [{"content": {"parts": [{"text": "Done."}]}, "finishReason": "STOP"}]}
"""What the model says when the recording is over: there, a tool's result was the end."""


def conversations() -> Iterator[Any]:
    """The recordings in which each request says all of the one before, the answer, and one thing more."""
    for path in FILES:
        interactions = json.loads(path.read_bytes())["interactions"]
        said = [len(it["request"]["body"]["contents"]) for it in interactions]
        if len(said) > 1 and said == list(range(1, 2 * len(said), 2)):
            yield pytest.param(path, id=path.stem)


CONVERSATIONS = list(conversations())


def test_there_are_conversations_with_tools_thoughts_searches_and_more_than_one_turn() -> None:
    assert len(CONVERSATIONS) >= 6


@pytest.mark.parametrize("path", CONVERSATIONS)
async def test_a_recorded_conversation_is_held_again_with_the_same_requests(path: Path) -> None:
    interactions = json.loads(path.read_bytes())["interactions"]
    recorded = [it["request"]["body"] for it in interactions]
    model, _ = model_of(interactions[0]["request"]["uri"])
    answers = [answer(it["response"]) for it in interactions]
    async with WireServer([*answers, says(json.dumps(LAST).encode())]) as server:
        driver = driver_for(recorded[0], base_url=server.url, api_key="AIza-test")
        async with Runtime(registry=Registry(drivers={"google": lambda: driver})) as runtime:
            session = await runtime.session(agent(recorded, model))
            await hold(session, recorded[-1])
        sent = [json.loads(exchange.body) for exchange in server.exchanges]
    for body in sent:
        check(body, signed=model.startswith("gemini-3"))
    assert [compared(body) for body in sent[: len(recorded)]] == [compared(body) for body in recorded]


def answer(response: dict[str, Any]) -> Script:
    if isinstance(response["body"], str):
        return streams(response["body"].encode())
    return says(json.dumps(response["body"]).encode())


def agent(recorded: list[dict[str, Any]], model: str) -> Agent:
    first = rebuilt(recorded[0], model, stream=True)
    results = iter([it["response"]["return_value"] for it in answered(recorded[-1])])
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
    return Agent(first.instructions, model=f"google/{model}", tools=tools, config=config)


def answered(body: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [part for content in body["contents"] for part in content["parts"]]
    return [part["functionResponse"] for part in parts if "functionResponse" in part]


def answering(results: Iterator[str]) -> Callable[[Context, Any], Awaitable[str]]:
    async def run(ctx: Context, arguments: Any) -> str:
        return next(results, "noted")

    return run


async def hold(session: Session, last: dict[str, Any]) -> None:
    """Say what the user said in the recording, and wait for each turn to end."""
    for content in last["contents"]:
        words = [part["text"] for part in content["parts"] if content["role"] == "user" and "text" in part]
        if words:
            assert (await session.run("".join(words) or "(no words)")).status == "completed"


def compared(body: dict[str, Any]) -> Any:
    """The meaning of a request, with ids by their order: those that Gemini does not give are everybody's own."""
    told = meaning(body)
    ids: dict[str, int] = {}
    for content in told["contents"]:
        for part in content["parts"]:
            for kind in ("functionCall", "functionResponse"):
                if kind in part:
                    part[kind] = part[kind] | {"id": ids.setdefault(part[kind]["id"], len(ids))}
    return told
