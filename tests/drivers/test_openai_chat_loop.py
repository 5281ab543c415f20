"""Recorded conversations over Chat Completions, held again by the whole loop: it asks what was asked then."""

import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast.agent import Agent
from holdfast.config import Config
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.registry import Registry
from holdfast.runtime import Runtime
from holdfast.schema import Parameters
from holdfast.tool import Context, Tool
from tests.drivers.test_openai_chat_recorded_requests import FILES, meaning, rebuilt

Exchanges = list[dict[str, Any]]


def conversations() -> Iterator[Any]:
    """The recordings in which each request says all of the one before, the answer, and something more."""
    for path in FILES:
        held = json.loads(path.read_bytes())["interactions"]
        said = [it["request"]["body"]["messages"] for it in held]
        grows = all(
            now[: len(then)] == then and len(now) > len(then) for then, now in itertools.pairwise(said)
        )
        if len(held) > 1 and grows and not any(failed(it["response"]) for it in held) and by_turns(held):
            yield pytest.param(path, held, id=path.stem)


def failed(recorded: dict[str, Any]) -> bool:
    body = recorded["body"]
    return recorded["status"] != 200 or (isinstance(body, str) and '"error":' in body)


def by_turns(held: Exchanges) -> bool:
    """Whether every answer is there, and no user speaks between results and the answer to them: our loop shows a
    result's pictures otherwise."""
    roles = [it["role"] for it in held[-1]["request"]["body"]["messages"]]
    return ("tool", "user") not in itertools.pairwise(roles) and roles.count("assistant") == len(held) - 1


CONVERSATIONS = list(conversations())
THE_END = {
    "content_type": "application/json",
    "body": {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Done."}}]},
}
"""The answer after the last one of a recording, which may be one with calls."""


def test_there_are_conversations_of_several_servers() -> None:
    assert len(CONVERSATIONS) >= 10


@pytest.mark.parametrize(("path", "held"), CONVERSATIONS)
async def test_a_recorded_conversation_is_held_again_with_the_same_requests(
    path: Path, held: Exchanges
) -> None:
    recorded = [exchange["request"]["body"] for exchange in held]
    vendor = path.stem.removeprefix("test_").partition("__")[0]
    address = held[0]["request"]["uri"].partition("/chat/completions")[0]
    sent: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        return response(held[len(sent) - 1]["response"] if len(sent) <= len(held) else THE_END)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        driver = OpenAIChat(base_url=address, vendor=vendor, api_key="sk-test", http=http)
        async with Runtime(registry=Registry(drivers={"chat": lambda: driver})) as runtime:
            session = await runtime.session(agent(recorded, vendor))
            for message in rebuilt(recorded[-1], vendor).messages:
                if message.role == "user":
                    assert (await session.run(message.content)).status == "completed"
    assert [compared(body) for body in sent[: len(held)]] == [compared(body) for body in recorded]


def response(recorded: dict[str, Any]) -> httpx2.Response:
    body = recorded["body"]
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    return httpx2.Response(200, headers={"content-type": recorded["content_type"]}, content=pieces())


def agent(recorded: list[dict[str, Any]], vendor: str) -> Agent:
    first = rebuilt(recorded[0], vendor)
    results = iter([it["content"] for it in recorded[-1]["messages"] if it["role"] == "tool"])
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
    return Agent(first.instructions, model=f"chat/{first.model}", tools=tools, config=config)


def answering(results: Iterator[str]) -> Callable[[Context, Any], Awaitable[str]]:
    async def run(ctx: Context, arguments: Any) -> str:
        return next(results, "")

    return run


def compared(body: dict[str, Any]) -> Any:
    """The meaning of a request. The loop always streams, and thoughts that a server leaves in the text are text to us
    and go back with it; a recorded client cut them out."""
    told = meaning(body | {"stream": True})
    for entry in told["messages"]:
        if entry["role"] == "assistant":
            entry["content"] = re.sub(r"<think>.*?</think>", "", entry["content"], flags=re.DOTALL)
    return told
